"""How far data are, as it is told: in lines, as bars on a terminal, and in tables."""

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from cli.follow import fold
from cli.models import Operation, Transfer
from cli.progress import LiveView
from cli.transfers import LINE_SECONDS, Lines, TransferView, told
from tests.cli.conftest import Run, stdout_json
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    LiveOperation,
    Request,
    ScriptedApi,
    Stream,
    data,
    operation,
    problem,
    running,
)
from tests.cli.test_snapshots import SNAPSHOT_ID, VERIFICATION, VERIFYING, over

MIB = 1024 * 1024
TRANSFER = {
    "kind": "load",
    "service": "db",
    "stream": "db/database-shop",
    "doneBytes": 128 * MIB,
    "totalBytes": 512 * MIB,
    "bytesPerSecond": 32 * MIB,
    "countedAt": "2026-11-22T10:00:05Z",
}
UNKNOWN = {"kind": "capture", "service": "db", "stream": "db/database-shop", "doneBytes": 7 * MIB}


def transfer(**fields: Any) -> Transfer:
    """What the API says of data that are moved."""
    return Transfer.model_validate({**TRANSFER, **fields})


def moving(name: str, moved: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """A step that runs and streams data."""
    step, fields = running(name)
    return step, {**fields, **({} if moved is None else {"transfer": moved})}


def test_no_more_is_told_than_is_known() -> None:
    assert told(transfer()) == "db/database-shop: 128 MiB of 512 MiB loaded, 32 MiB/s"
    assert told(Transfer.model_validate(UNKNOWN)) == "db/database-shop: 7 MiB captured"
    assert told(transfer(bytesPerSecond=0)).endswith("loaded, 0 B/s")
    assert told(transfer(kind="of a newer API", totalBytes=None, stream="a\x1b[2Jb")) == (
        "ab: 128 MiB of a newer API, 32 MiB/s"
    )


def test_lines_do_not_come_with_every_reading() -> None:
    now = 100.0
    lines = Lines(lambda: now)
    assert lines.due("load/db", transfer(doneBytes=0)) is None  # it may be over in a moment
    now += LINE_SECONDS
    assert lines.due("load/db", transfer(doneBytes=1)) is not None
    assert lines.due("load/files", transfer(doneBytes=1)) is None
    now += LINE_SECONDS - 0.1
    assert lines.due("load/db", transfer(doneBytes=2)) is None
    now += 0.1
    assert lines.due("load/db", transfer(doneBytes=2)) is not None
    assert lines.due("load/files", transfer(doneBytes=2)) is not None
    now += LINE_SECONDS
    assert lines.due("load/db", transfer(doneBytes=2)) is None  # it has not moved: nothing is new


def drawn(view: LiveView | TransferView) -> str:
    """What a terminal shows."""
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system=None)
    console.print(view.render())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("moved", "bar"), [(TRANSFER, True), (UNKNOWN, False)])
def test_a_bar_is_drawn_only_where_the_whole_is_known(moved: dict[str, Any], bar: bool) -> None:
    view = LiveView()
    step = {"name": "load/db", "kind": "load", "state": "running", "attempt": 2, "transfer": moved}
    view.updated(Operation.model_validate({"id": OPERATION_ID, "state": "running", "steps": [step]}))
    now = drawn(view)
    assert told(Transfer.model_validate(moved)) in now
    assert "attempt 2" in now
    assert now.count("━") == (6 if bar else 0)  # a quarter of 24
    over_now = {**step, "state": "succeeded"}
    view.updated(Operation.model_validate({"id": OPERATION_ID, "state": "running", "steps": [over_now]}))
    assert "database-shop" not in drawn(view)


def test_a_verification_on_a_terminal_has_the_bar_too() -> None:
    view = TransferView(f"verifying {SNAPSHOT_ID}", None)
    assert SNAPSHOT_ID in drawn(view)
    view.updated(transfer(kind="read"))
    assert "128 MiB of 512 MiB read, 32 MiB/s" in drawn(view)
    assert "━" in drawn(view)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let readings and lines come one after the other."""
    monkeypatch.setattr("cli.follow.REREAD_SECONDS", 3600.0)
    monkeypatch.setattr("cli.follow.MOVING_SECONDS", 0.01)
    monkeypatch.setattr("cli.follow._TICK_SECONDS", 0.02)
    monkeypatch.setattr("cli.transfers.LINE_SECONDS", 0.0)
    monkeypatch.setattr("cli.verifying.PERIOD_SECONDS", 0.01)


def lines_of(text: str, word: str) -> list[str]:
    """The lines with this word, without the time of day."""
    return [" ".join(line.split()[1:]) for line in text.splitlines() if word in line]


@pytest.mark.usefixtures("quick")
def test_bytes_are_read_anew_while_data_are_moved(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]
) -> None:
    changes = [operation("running"), moving("capture/db", None)]
    watched = live(*changes, steps=("capture/db",), kind="snapshot")
    counts = iter((1 * MIB, 2 * MIB))

    def read(request: Request) -> Any:
        if watched.streamed == len(changes):
            done = next(counts, None)
            if done is None:
                fields = {"state": "succeeded", "finishedAt": "2026-11-22T10:00:03Z", "transfer": None}
                watched.changes += [("capture/db", fields), operation("succeeded")]
                watched.streamed = len(watched.changes)
            else:
                watched.changes[1] = moving("capture/db", {**UNKNOWN, "doneBytes": done})
        return watched.read(request)

    api.on("GET", f"/v1/operations/{OPERATION_ID}", read)
    result = run("op", "watch", OPERATION_ID, "--timeout", "30s")
    assert result.exit_code == 0, result.output
    assert lines_of(result.stderr, "captured") == [
        f"running capture/db db/database-shop: {each} MiB captured" for each in (1, 2)
    ]


@pytest.mark.usefixtures("quick")
def test_a_watched_environment_shows_them_too(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.watching._TICK_SECONDS", 0.02)
    watched = live(operation("running"), moving("load/db", None), steps=("load/db",), kind="restore")
    seen = threading.Event()
    counts = iter((1, 2, 3))

    def read(request: Request) -> Any:
        if watched.streamed == 2:
            done = next(counts, None)
            if done is None:
                seen.set()
            else:
                watched.changes[1] = moving("load/db", {**TRANSFER, "doneBytes": done * MIB})
        return watched.read(request)

    def frames() -> Iterator[str]:
        for frame in watched._frames(0):
            if "ping" in frame:
                break
            yield frame
        yield ": ping\n\n"
        seen.wait(10)

    api.on("GET", "/v1/operations", data([watched.document()]))
    api.on("GET", f"/v1/operations/{OPERATION_ID}", read)
    gone = problem(404, "not_found", "The environment is gone.")
    api.on("GET", f"/v1/environments/{ENVIRONMENT_ID}/events", lambda _: Stream(frames()), gone)
    result = run("env", "watch", ENVIRONMENT_ID)
    assert [line.split()[3] for line in lines_of(result.stderr, "loaded")] == ["1", "2", "3"]


@pytest.mark.usefixtures("quick")
def test_a_verification_tells_how_far_it_is(api: ScriptedApi, run: Run) -> None:
    api.on("POST", VERIFYING, data(VERIFICATION, 202))
    api.on(
        "GET",
        f"/v1/snapshots/{SNAPSHOT_ID}/verifications/ver_1",
        data(VERIFICATION),
        data({**VERIFICATION, "transfer": {**TRANSFER, "kind": "check"}}),
        data({**VERIFICATION, "transfer": {**TRANSFER, "kind": "read", "doneBytes": 1}}),
        data(over("passed")),
    )
    result = run("snapshot", "verify", SNAPSHOT_ID, "-o", "json")
    assert stdout_json(result)["state"] == "passed"
    assert lines_of(result.stderr, "database-shop") == [
        "db/database-shop: 128 MiB of 512 MiB checked, 32 MiB/s",
        "db/database-shop: 1 B of 512 MiB read, 32 MiB/s",
    ]


def test_one_look_at_an_operation_shows_it(
    api: ScriptedApi, run: Run, live: Callable[..., LiveOperation]
) -> None:
    watched = live(operation("running"), moving("load/db", TRANSFER), steps=("load/db",), kind="restore")
    watched.streamed = 2
    shown = run("op", "get", OPERATION_ID)
    assert [line.split(maxsplit=1)[1] for line in shown.stdout.splitlines() if line.startswith("Data:")] == [
        told(transfer())
    ]


def test_another_attempt_begins_without_the_bytes_of_the_one_before() -> None:
    step = {"name": "load/db", "kind": "load", "state": "running", "attempt": 1, "transfer": TRANSFER}
    now = Operation.model_validate({"id": OPERATION_ID, "state": "running", "steps": [step]})
    again = '{"data": {"step": "load/db", "state": "running", "attempt": 2}}'
    folded = fold(now, again)
    assert folded is not None
    assert folded.steps[0].transfer is None
    held = fold(now, '{"data": {"step": "load/db", "state": "running", "attempt": 1}}')
    assert held is not None
    assert held.steps[0].transfer is not None
