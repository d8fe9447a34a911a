"""Showing how far data are that are being moved: in words, and as a bar where the whole is known."""

# ruff: noqa: PLC0415 - rich is loaded only for a terminal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cli.models import Transfer
from cli.output import live_terminal, tell
from cli.text import binary, elapsed, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_SECONDS: Final = 10.0
"""Where lines are printed, bytes of one step get one this often, the first after as long."""
_BAR_WIDTH: Final = 24
_WORDS: Final = {
    "capture": "captured",
    "measure": "measured for masking",
    "load": "loaded",
    "prove": "dumped again",
    "check": "checked",
    "read": "read",
}


def told(transfer: Transfer) -> str:
    """Return `db/shop: 128 MiB of 1.5 GiB loaded, 34 MiB/s`, with as much of it as is known."""
    total = "" if transfer.total_bytes is None else f" of {binary(transfer.total_bytes)}"
    rate = transfer.bytes_per_second
    speed = "" if rate is None else f", {binary(rate)}/s"
    words = _WORDS.get(transfer.kind, transfer.kind)
    return f"{plain(transfer.stream)}: {binary(transfer.done_bytes)}{total} {words}{speed}"


def shown(transfer: Transfer) -> "RenderableType":
    """Return the same for a terminal, with a bar before it where the whole is known."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1))
    words = Text(told(transfer), style="dim")
    if transfer.total_bytes:
        row.add_row(ProgressBar(transfer.total_bytes, transfer.done_bytes, width=_BAR_WIDTH), words)
    else:
        row.add_row(words)
    return row


class Lines:
    """Says which readings get a line: those that differ from the last one, and not one after the other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, str]] = {}

    def due(self, name: str, transfer: Transfer) -> str | None:
        """Return the line for what `name` moves, None when there is none due."""
        text, now = told(transfer), self._clock()
        # What is over sooner than that gets none: it would say nothing but the end of its step.
        at, before = self._said.setdefault(name, (now, ""))
        if text == before or now - at < LINE_SECONDS:
            return None
        self._said[name] = (now, text)
        return text


class TransferView(AbstractContextManager["TransferView"]):
    """Shows what moves data and has no steps: drawn anew on a terminal, else as lines. To stderr."""

    def __init__(self, title: str, started: datetime | None) -> None:
        self._title = title
        self._started = started or datetime.now(UTC)
        self._transfer: Transfer | None = None
        self._lines: Lines | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "TransferView":
        if not live_terminal():
            self._lines = Lines()
            return self
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)
        self._stack.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def updated(self, transfer: Transfer | None) -> None:
        """Take how far it is now; None: nothing is known to move."""
        self._transfer = transfer
        if self._lines is not None and transfer is not None:
            line = self._lines.due("", transfer)
            if line is not None:
                tell(f"{datetime.now().astimezone():%H:%M:%S}  {line}")

    def render(self) -> "RenderableType":
        """Return what is shown now."""
        from rich.console import Group
        from rich.text import Text

        head = Text(f"{plain(self._title)}  {elapsed(self._started, None)}")
        return head if self._transfer is None else Group(head, shown(self._transfer))
