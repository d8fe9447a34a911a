"""What holds for every test."""

import gc
from collections.abc import Iterator
from typing import Any, Final

import pytest
import structlog
from sqlalchemy import Dialect, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from xdist.scheduler import LoadFileScheduling


@pytest.fixture(autouse=True, scope="session")
def plain_tracebacks() -> None:
    """Log exceptions as Python prints them: half a second for each drawn panel adds up over the suite."""
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[*processors[:-1], renderer])


@pytest.fixture(autouse=True, scope="session")
def statements_compiled_once() -> Iterator[None]:
    """Compile each statement once in this process; every test has engines of its own, which would each do so.

    The statements of an engine are kept by its dialect: engines of one kind get the dialect and the store of
    the first of them that connected, which made the dialect ready.
    """
    ready: dict[type[Dialect], tuple[Dialect, Any]] = {}

    def sharing(*arguments: Any, **options: Any) -> AsyncEngine:
        made = create_async_engine(*arguments, **options)
        plain = made.sync_engine
        kind = type(plain.dialect)
        if kind in ready:
            plain.dialect, plain._compiled_cache = ready[kind]
        else:
            own = (plain.dialect, plain._compiled_cache)
            event.listen(plain, "connect", lambda *_: ready.setdefault(kind, own))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activities.db.engine.create_async_engine", sharing)
        yield


ON_CLUSTER: Final = ("tests/clusters/", "tests/devcluster/", "tests/e2e/")
"""Where `make test` looks for tests on the cluster; in tests/e2e for no others."""
ONE_AFTER_THE_OTHER: Final = ("storage_snapshots", "volume_snapshots", "csi_driver")
"""Files in one process: they use the kinds of volume snapshots, which one process has at a time."""
LONGEST: Final = (
    # Those that count seconds, and one that has to share their process,
    *(*ONE_AFTER_THE_OTHER, "snapshot_hooks", "freezing", "failfast", "snapshot_facts", "replay"),
    *("sweep", "snapshot_masking", "waking", "frozen_worker", "delete", "mirror"),
    # and the patient ones.
    *("kill_snapshots", "verify", "kill_replay_data", "kill_lifecycle", "kill_streams"),
    *("snapshots", "seeds", "transfers", "kill_restore", "snapshot_commands", "restore_drill"),
    *("kill_verify", "kill_provision", "kill_replay"),
)
"""Files on the cluster that take a minute and a half and more, the longest first. One that is begun last has
a process to itself while the others have nothing left to do."""
SERVERS: Final = {"postgres_server": "postgres", "temporal": "slow", "api": "http"}
"""Marks of tests by their fixtures: each starts a server. Those of Postgres and Temporal take ten seconds of
processor time in a test process, and the requests that are made to an API add up."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers that they need: one that is forgotten would start its server in test-fast.

    On the cluster, those that count seconds come first; after them the patient ones, which keep it busier.
    """
    for item in items:
        for fixture, mark in SERVERS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
        on_cluster = item.get_closest_marker("cluster") is not None
        expected = item.nodeid.startswith(ON_CLUSTER) if on_cluster else "tests/e2e/" not in item.nodeid
        if not expected:
            raise pytest.UsageError(f"make test would not find {item.nodeid}: see ON_CLUSTER in the Makefile")
    rank = {f"{folder}test_{name}.py": number for number, name in enumerate(LONGEST) for folder in ON_CLUSTER}

    def place(item: pytest.Item) -> tuple[bool, int]:
        patient = item.get_closest_marker("patient") is not None
        return patient, rank.get(item.nodeid.partition("::")[0], len(rank))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Give each process one file after the other, where that is asked for."""
    return _ByFile(config, log) if config.option.dist == "loadfile" else None


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """One that would only wait for another file's process runs in that one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        name = file.removesuffix(".py").rpartition("/test_")[2]
        return " and ".join(ONE_AFTER_THE_OTHER) if name in ONE_AFTER_THE_OTHER else file


def pytest_collection_finish() -> None:
    """Let garbage collections cost less: a fifth of the processor time of the tests.

    What collecting made is left out of them, since a full one goes through it for 0.3 s; and the tests, which
    make many objects and keep few, have them less often than Python would.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
