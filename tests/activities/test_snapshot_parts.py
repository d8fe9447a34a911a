"""Which streams a server's data is made of: what it says instead is told with care."""

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self, cast

import pytest
from pydantic import JsonValue
from temporalio.exceptions import ApplicationError

from activities._evidence import EvidenceCollector
from activities.snapshots._transfer import tool_in
from activities.snapshots.parts import await_pods, check_mariadb, parts_in
from activities.storage.objects import ObjectStore
from clusters.errors import CommandFailed
from clusters.gateway import Cluster, ExecResult
from clusters.objects import Manifest, ObjectRef
from clusters.values import Listing
from tests.helpers.attempts import handed_out
from tests.helpers.contexts import CONTEXT
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import Failure, FailureKind

PLANTED = "planted-5c1e-value"
SERVICE = parse_blueprint(
    {"name": "shop", "services": {"db": {"image": "registry.test/postgres:16"}}}
).service("db")

POD: Manifest = {"metadata": {"name": "db-0", "uid": "first"}}


@dataclass
class Server:
    """A pod of a server that answers just so; `later`: what has its name once it has answered."""

    answer: ExecResult
    pod: Manifest | None = field(default_factory=lambda: dict(POD))
    later: Manifest | None = field(default_factory=lambda: dict(POD))

    async def execute(self, *_: object, **__: object) -> ExecResult:
        self.pod = self.later
        return self.answer

    async def get(self, _ref: ObjectRef) -> Manifest | None:
        return self.pod

    async def list(self, _kind: str, _namespace: str, **_: object) -> Listing:
        secret: Manifest = {"data": {"password": base64.b64encode(PLANTED.encode()).decode()}}
        return Listing(items=(secret,), resource_version="1")


async def keys(server: Server, directory: Path, *, all_of_it: bool = True) -> list[str]:
    """The streams of that server, by key."""
    cluster = cast(Cluster, server)
    evidence = EvidenceCollector(cluster, ObjectStore(str(directory)))
    ask = partial(parts_in, all_of_it=all_of_it)
    found = await handed_out().run(ask, cluster, evidence, CONTEXT, "db-0", SERVICE, DataStore.POSTGRES)
    return [part.key for part in found]


async def test_a_server_is_asked_for_its_databases(tmp_path: Path) -> None:
    server = Server(ExecResult(exit_code=0, stdout=b"oshop\0oother\0", stderr=b"", truncated=False))
    assert await keys(server, tmp_path) == ["globals", "database-0", "database-1"]


async def test_a_database_that_cannot_be_dumped_is_told_before_any_is(tmp_path: Path) -> None:
    closed = "".join(f"cold {number}\0" for number in range(7))
    server = Server(ExecResult(exit_code=0, stdout=f"oshop\0{closed}".encode(), stderr=b"", truncated=False))
    with pytest.raises(ApplicationError) as caught:
        await keys(server, tmp_path)
    assert (caught.value.type, caught.value.non_retryable) == (FailureKind.CONFLICT, True)
    assert str(caught.value).endswith(
        "db has databases that allow no connections, and cannot be dumped: old 0, old 1, old 2, old 3, old 4 "
        "and 2 more. Open them (ALTER DATABASE ... ALLOW_CONNECTIONS true), or drop them."
    )
    # What was restored is looked at all the same: it is not among them.
    assert await keys(server, tmp_path, all_of_it=False) == ["globals", "database-0"]


@pytest.mark.parametrize(
    ("code", "said", "fault"),
    [
        (0, b"10.11.14-MariaDB-0+deb12u2\n", None),
        (0, b"8.4.3\n", FailureKind.CONFLICT),
        (127, b"", FailureKind.CONFLICT),
        (1, b"", FailureKind.TRANSFER_FAILED),
    ],
    ids=["mariadb", "mysql", "no-tools", "no-answer"],
)
async def test_a_mysql_is_refused_by_what_it_says_of_itself(
    tmp_path: Path, code: int, said: bytes, fault: FailureKind | None
) -> None:
    cluster = cast(Cluster, Server(ExecResult(exit_code=code, stdout=said, stderr=b"", truncated=False)))
    evidence = EvidenceCollector(cluster, ObjectStore(str(tmp_path)))
    asked = handed_out().run(check_mariadb, cluster, evidence, CONTEXT, "db-0", SERVICE)
    if fault is None:
        await asked
    else:
        with pytest.raises(ApplicationError, match="db") as caught:
            await asked
        assert (caught.value.type, caught.value.non_retryable) == (fault, True)


async def test_what_a_server_says_instead_is_bounded_and_holds_no_secret(tmp_path: Path) -> None:
    said = f"{'x' * 100_000}\nFATAL: password {PLANTED} is wrong\n".encode()
    server = Server(ExecResult(exit_code=2, stdout=b"", stderr=said, truncated=False))
    with pytest.raises(ApplicationError) as caught:
        await keys(server, tmp_path)
    failed = caught.value.details[0]
    assert isinstance(failed, Failure)
    assert failed.kind is FailureKind.TRANSFER_FAILED
    assert failed.message.startswith("Asking db for its databases ended with status 2: ")
    assert failed.message.endswith("is wrong")
    assert len(failed.message) < 400
    [key] = failed.evidence
    kept = str(await ObjectStore(str(tmp_path)).get_json(key))
    assert "FATAL" in kept
    assert PLANTED not in kept + failed.message


async def test_a_tool_that_loads_is_told_without_what_it_quotes(tmp_path: Path) -> None:
    server = Server(ExecResult(exit_code=0, stdout=b"", stderr=b"", truncated=False))
    evidence = EvidenceCollector(cast(Cluster, server), ObjectStore(str(tmp_path)))

    async def load() -> None:
        async with tool_in(evidence, CONTEXT, "db", "db-0", "Loading db (data)", loads=True):
            raise CommandFailed(1, b"ERROR 1062: Duplicate entry 'ann@example.test' for key 'email'\n")

    with pytest.raises(ApplicationError) as caught:
        await handed_out().run(load)
    failed = caught.value.details[0]
    assert isinstance(failed, Failure)
    assert failed.message == "Loading db (data) ended with status 1: ERROR 1062: Duplicate entry [...]"
    [key] = failed.evidence
    kept = str(await ObjectStore(str(tmp_path)).get_json(key))
    assert "Duplicate" in kept
    assert "ann@" not in kept


@pytest.mark.parametrize(
    "later",
    [
        None,
        {"metadata": {"name": "db-0", "uid": "first", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"name": "db-0", "uid": "another"}},
    ],
    ids=["gone", "about to go", "another of its name"],
)
async def test_a_tool_that_was_killed_with_its_pod_is_run_again(
    tmp_path: Path, later: Manifest | None
) -> None:
    killed = ExecResult(exit_code=137, stdout=b"", stderr=b"", truncated=False)
    with pytest.raises(ApplicationError, match="was cut off: pod db-0 went away") as caught:
        await keys(Server(killed, later=later), tmp_path)
    assert (caught.value.type, caught.value.non_retryable) == (FailureKind.CLUSTER_UNAVAILABLE, False)


async def test_a_tool_that_was_killed_in_a_pod_that_stays_is_told(tmp_path: Path) -> None:
    killed = ExecResult(exit_code=137, stdout=b"", stderr=b"", truncated=False)
    with pytest.raises(ApplicationError, match="ended with status 137") as caught:
        await keys(Server(killed), tmp_path)
    assert (caught.value.type, caught.value.non_retryable) == (FailureKind.TRANSFER_FAILED, True)


@dataclass
class Pods:
    """A cluster with a StatefulSet of one pod, which is as told."""

    pod: Manifest | None
    version: int = 1

    @asynccontextmanager
    async def view(self, _namespace: str) -> AsyncIterator[Self]:
        yield self

    async def synced(self) -> None:
        return

    def objects(self, _kind: str, **_: object) -> list[Manifest]:
        return [] if self.pod is None else [self.pod]

    async def get(self, _ref: ObjectRef) -> Manifest:
        return {"kind": "StatefulSet", "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "db"}}}}


def _running(state: JsonValue, **last: JsonValue) -> Manifest:
    """A scheduled pod that is not ready, whose one container is in this state."""
    status: JsonValue = {"name": "db", "state": state, "restartCount": len(last), "lastState": last}
    pod = _pod(PodScheduled="", Ready="unready: [db]")
    return {
        **pod,
        "spec": {"containers": [{"name": "db"}]},
        "status": {**cast("Manifest", pod["status"]), "containerStatuses": [status]},
    }


def _pod(**conditions: str) -> Manifest:
    """A pod whose conditions are false for the reasons told, and true where there is none."""
    told: list[JsonValue] = [
        {"type": kind, "status": "False" if why else "True", "message": why}
        for kind, why in conditions.items()
    ]
    return {"metadata": {"name": "db-0", "uid": "first"}, "status": {"conditions": told}}


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (None, "there are fewer than it is to have"),
        (_pod(PodScheduled="no node is free"), "db-0 (no node is free)"),
        (_pod(PodScheduled="", Ready="unready: [db]"), "db-0 (unready: [db])"),
        (_pod(), "db-0 is not ready"),
        ({"metadata": {"name": "db-0", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, "db-0 is going"),
    ],
    ids=["gone", "unschedulable", "unready", "new", "going"],
)
async def test_pods_that_keep_data_out_of_reach_are_told_with_why(pod: Manifest | None, said: str) -> None:
    cluster = cast(Cluster, Pods(pod))
    with pytest.raises(ApplicationError, match=f"ready: {re.escape(said)}[.]$") as caught:
        await handed_out().run(await_pods, cluster, CONTEXT, SERVICE, datetime.now(UTC))
    assert (caught.value.type, caught.value.non_retryable) == (FailureKind.TIMEOUT, True)


@pytest.mark.parametrize(
    ("pod", "ran"),
    [
        (_running({"running": {}}), True),
        (_running({"waiting": {"reason": "CrashLoopBackOff"}}, terminated={"exitCode": 1}), True),
        (_running({"waiting": {"reason": "ImagePullBackOff"}}, terminated={"exitCode": 1}), False),
        (_running({"waiting": {"reason": "ContainerCreating"}}), False),
        (_pod(PodScheduled="no node is free"), False),
        (None, False),
    ],
    ids=["runs", "exits", "no-image", "creating", "unschedulable", "gone"],
)
async def test_pods_that_ran_all_the_time_are_told_from_those_that_waited(
    pod: Manifest | None, *, ran: bool
) -> None:
    """The first says something about the data in them; the others about the cluster and the registry."""
    with pytest.raises(ApplicationError) as caught:
        await handed_out().run(await_pods, cast(Cluster, Pods(pod)), CONTEXT, SERVICE, datetime.now(UTC))
    assert Failure.model_validate(caught.value.details[0]).ran is ran
