"""`perdure env watch` on a terminal: what its screen shows, and how it gives the terminal back."""

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cli.text import plain
from tests.cli.conftest import ROOT
from tests.cli.scripted_api import (
    ENVIRONMENT_ID,
    OPERATION_ID,
    LiveOperation,
    ScriptedApi,
    data,
    failed,
    operation,
    problem,
    running,
    succeeded,
)
from tests.helpers.waiting import eventually

Process = tuple[list[str], dict[str, str]]
Watch = Callable[..., Any]

EVENTS = f"/v1/environments/{ENVIRONMENT_ID}/events"
STEPS = ("namespace", "service/db", "service/cache", "service/api")
WAITS = {
    "service/db": ["namespace"],
    "service/cache": ["namespace"],
    "service/api": ["service/db", "service/cache"],
}
SECONDS = 20.0
"""Longest wait for a picture, or for the end."""
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


@dataclass
class Terminal:
    """A terminal and the process that has it as its own."""

    process: subprocess.Popen[bytes]
    ours: int
    rows: int
    written: str = ""
    _decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def resize(self, rows: int, columns: int) -> list[str]:
        """Give the terminal another size, and return the first picture that fills it."""
        termios.tcsetwinsize(self.ours, (rows, columns))
        self.rows = rows

        def fitting() -> list[str]:
            lines = self.screen()
            return lines if {len(line) for line in lines} == {columns} else []

        return [line.rstrip() for line in self._awaited(fitting, f"it fills {rows} lines of {columns}")]

    def type(self, text: str) -> None:
        """Type on its keyboard."""
        os.write(self.ours, text.encode())

    def screen(self) -> list[str]:
        """The lines of the last whole picture: each is drawn from the upper left corner on."""
        self._read()
        pictures = [plain(each).split("\n") for each in self.written.split("\x1b[H")[1:]]
        whole = [each for each in pictures if len(each) == self.rows]
        return whole[-1] if whole else []

    def shows(self, *parts: str) -> list[str]:
        """Wait until the screen has all of these, and return its lines without what is beside them."""

        def look() -> list[str] | None:
            lines = self.screen()
            return lines if all(any(part in line for line in lines) for part in parts) else None

        return [line.rstrip() for line in self._awaited(look, f"the screen shows {parts}")]

    def ended(self) -> int:
        """Wait until the process has ended and return its exit code."""

        def over() -> bool:
            self._read()  # what nobody reads holds it up
            return self.process.poll() is not None

        eventually(over, "it ends", within=SECONDS)
        self._read()
        return self.process.returncode

    def _awaited(self, look: Callable[[], list[str] | None], what: str) -> list[str]:
        """Wait until a look finds what it is for; fail with what is there instead."""
        try:
            return eventually(look, what, within=SECONDS)
        except AssertionError as error:
            error.add_note(
                f"exit code {self.process.poll()}; the last that was written: {self.written[-3000:]!r}"
            )
            raise

    def _read(self) -> None:
        while select.select([self.ours], [], [], 0)[0]:
            try:
                self.written += self._decoder.decode(os.read(self.ours, 65536)).replace("\r\n", "\n")
            except OSError:  # how Linux tells that the other end is closed
                return


@pytest.fixture
def watch(api: ScriptedApi, process: Process) -> Watch:
    """Run `perdure env watch` on a terminal of 24 lines and 80 columns, for an operation as told."""

    @contextmanager
    def begin(live: LiveOperation, *arguments: str) -> Iterator[Terminal]:
        live.install()
        api.on("GET", "/v1/operations", lambda _: data([live.document()]))
        api.on("GET", EVENTS, live.stream)
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(ours, (24, 80))
        command, variables = process

        def own_it() -> None:
            os.login_tty(theirs)
            # A shell's background job, as a test run may be, hands down that SIGINT is ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        with subprocess.Popen(
            [*command, "env", "watch", *arguments, ENVIRONMENT_ID],
            env={**variables, "TERM": "xterm"},
            cwd=ROOT,
            pass_fds=[theirs],
            preexec_fn=own_it,  # noqa: PLW1509 - takes no lock
        ) as watching:
            try:
                as_it_was = termios.tcgetattr(theirs)
                yield Terminal(watching, ours, 24)
                assert termios.tcgetattr(theirs) == as_it_was
            finally:
                watching.kill()
                os.close(theirs)
                os.close(ours)

    return begin


def graph(api: ScriptedApi, *changes: Any, **more: Any) -> LiveOperation:
    """An operation of four steps in three layers that waits for a permit before each change."""
    pace = threading.Semaphore(0)
    return LiveOperation(api, [*changes], steps=STEPS, waits=WAITS, paced=pace, **more)


def go(live: LiveOperation, changes: int) -> None:
    """Let so many changes happen."""
    assert live.paced is not None
    live.paced.release(changes)


def after_the_screen(terminal: Terminal) -> str:
    """What is left on the terminal: it was taken once and given back, with its cursor."""
    assert (terminal.written.count(ENTER), terminal.written.count(LEAVE)) == (1, 1)
    assert re.findall(r"\x1b\[\?25[hl]", terminal.written)[-1] == "\x1b[?25h", "the cursor is there again"
    return plain(terminal.written.partition(LEAVE)[2])


def test_the_graph_is_live_over_a_resize_and_ends_with_the_operation(api: ScriptedApi, watch: Watch) -> None:
    live = graph(
        api,
        operation("running"),
        running("namespace"),
        succeeded("namespace"),
        running("service/db"),
        running("service/cache"),
        succeeded("service/cache"),
        succeeded("service/db"),
        running("service/api"),
        succeeded("service/api"),
        operation("succeeded", finishedAt="2026-11-22T10:00:09Z"),
    )
    with watch(live, "--once") as terminal:
        go(live, 2)
        head, first, *waiting = terminal.shows("▸ namespace")[:5]
        assert "provision running  0/4 steps" in head
        assert re.fullmatch(r"▸ namespace +\d\S*", first), "how long it runs"
        assert [re.split(r"  +(?=after)", line) for line in waiting] == [
            ["  · service/db", "after namespace"],
            ["  · service/cache", "after namespace"],
            ["    · service/api", "after db, cache"],
        ]
        go(live, 4)
        lines = terminal.shows("✔ namespace", "▸ service/db", "✔ service/cache", "after db")
        assert "cache" not in lines[4].partition("after")[2], "what it has is not waited for"

        small = terminal.resize(5, 60)
        assert ("▸ service/db" in small[1], small[3]) == (True, "  … 2 more steps"), "what runs has the room"
        assert terminal.resize(30, 100)[:5] == lines[:5]
        go(live, 4)
        assert terminal.ended() == 0
        left = after_the_screen(terminal)
    assert "provision succeeded  4/4 steps" in left
    assert left.count("✔") == 4


def test_a_failure_is_told_where_it_stays(api: ScriptedApi, watch: Watch) -> None:
    reason = {"kind": "crash_loop", "message": "It exits with 1.", "step": "service/db", "blockedBy": []}
    live = graph(
        api,
        operation("running"),
        running("service/db"),
        failed("service/db", reason),
        operation("failed"),
        at_end={"failure": reason},
    )
    go(live, 4)
    with watch(live, "--once") as terminal:
        assert terminal.ended() == 1
        left = after_the_screen(terminal)
    assert "crash_loop in step service/db: It exits with 1." in left


def test_a_refusal_gives_the_terminal_back(api: ScriptedApi, watch: Watch) -> None:
    live = graph(api)
    with watch(live) as terminal:
        api.on("GET", EVENTS, problem(404, "not_found", "The environment is gone."))
        assert terminal.ended() == 6
        assert "The environment is gone." in after_the_screen(terminal)


def test_ctrl_c_leaves_screen_and_operation_alone(api: ScriptedApi, watch: Watch) -> None:
    live = graph(api, operation("running"), running("namespace"))
    with watch(live) as terminal:
        go(live, 2)
        terminal.shows("▸ namespace")
        terminal.type("\x03")
        assert terminal.ended() == 130
        left = after_the_screen(terminal)
    assert "Stopped watching" in left
    assert "Traceback" not in left
    assert OPERATION_ID in left, "the last picture"
    assert {request.method for request in api.requests} == {"GET"}
