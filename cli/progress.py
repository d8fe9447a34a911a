"""Showing an operation as it goes on: a live graph on a terminal, else one line per change. To stderr."""

# ruff: noqa: PLC0415 - rich is loaded only for a terminal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cli.follow import Observer
from cli.models import Operation, Step
from cli.output import live_terminal, tell
from cli.text import duration, elapsed, plain
from cli.transfers import Lines, shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

QUIET_AWAY_SECONDS: Final = 2.0
"""A connection that is back sooner is not worth a line."""
_MARKS: Final = {
    "pending": ("·", "dim"),
    "running": ("▸", "cyan"),
    "succeeded": ("✔", "green"),
    "failed": ("✘", "red"),
    "skipped": ("↷", "dim"),
    "cancelled": ("■", "yellow"),
}
_INDENT: Final = "  "
_DEEPEST: Final = 8
"""Layers below this one are indented no further: names have to fit beside them."""


class ProgressView(AbstractContextManager["ProgressView"], Observer):
    """An observer that shows something while it is entered."""

    def __exit__(self, *_: object) -> None:
        return None


def progress_view(*, quiet: bool = False, screen: bool = False) -> ProgressView:
    """Return the view that fits stderr: live on a terminal, else plain lines; `quiet` shows nothing.

    `screen`: the live view takes the whole screen, and gives it back at its end with its last picture.
    """
    if quiet:
        return SilentView()
    return LiveView(screen=screen) if live_terminal() else PlainView()


class SilentView(ProgressView):
    """Shows nothing."""

    def updated(self, operation: Operation) -> None:
        """Ignore the change."""

    def lost(self, away: float) -> None:
        """Ignore the loss."""

    def restored(self) -> None:
        """Ignore the return."""

    def missed(self, gone: str) -> None:
        """Ignore the gap."""


class PlainView(ProgressView):
    """One line per change, with the time of day."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int, str]] = {}
        self._state = ""
        self._away = False
        self._bytes = Lines()

    def updated(self, operation: Operation) -> None:
        """Print what differs from what was printed."""
        if operation.state != self._state and not operation.terminal:
            self._line(operation.state, f"{operation.kind} {operation.id}")
        for step in operation.steps:
            now = (step.state, step.attempt, step.trouble)
            if step.state != "pending" and self._seen.get(step.name) != now:
                self._line(step.state, f"{step.name}{_remarks(step)}")
            self._seen[step.name] = now
            moved = self._bytes.due(step.name, step.transfer) if step.moving and step.transfer else None
            if moved is not None:
                self._line(step.state, f"{step.name}  {moved}")
        if operation.state != self._state and operation.terminal:
            took = elapsed(operation.started_at or operation.created_at, operation.finished_at)
            self._line(operation.state, f"{operation.kind} {operation.id}{f' ({took})' if took else ''}")
        self._state = operation.state

    def lost(self, away: float) -> None:
        """Say once that the API is away."""
        if away >= QUIET_AWAY_SECONDS and not self._away:
            self._away = True
            self._line("waiting", "the API does not answer; trying again, the operation goes on")

    def restored(self) -> None:
        """Say that it is back, if its absence was told."""
        if self._away:
            self._away = False
            self._line("waiting", "the API answers again")

    def missed(self, gone: str) -> None:
        """Say what no line will be printed for."""
        self._line("missed", gone)

    def _line(self, state: str, text: str) -> None:
        tell(f"{datetime.now().astimezone():%H:%M:%S}  {state:<10} {plain(text)}")


class LiveView(ProgressView):
    """The graph of steps, drawn anew: what waits for what, elapsed times, attempts, the current failure."""

    def __init__(self, *, screen: bool = False) -> None:
        self._screen = screen
        self._operation: Operation | None = None
        self._away: float | None = None
        self._gone = ""
        self._room: Callable[[], int] = lambda: 20
        self._stack = ExitStack()

    def __enter__(self) -> "LiveView":
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        # Asked anew at each drawing: a terminal changes its size.
        self._room = lambda: max(console.height - 3, 1)
        live = Live(get_renderable=self.render, console=console, refresh_per_second=8, screen=self._screen)
        if self._screen:
            self._stack.callback(lambda: console.print(self.render()))
        self._stack.enter_context(live)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def updated(self, operation: Operation) -> None:
        """Take the new state; the next drawing shows it."""
        self._operation = operation

    def lost(self, away: float) -> None:
        """Take note for the next drawing."""
        self._away = away

    def restored(self) -> None:
        """Take note for the next drawing."""
        self._away = None

    def missed(self, gone: str) -> None:
        """Take note for the next drawing."""
        self._gone = gone

    def render(self) -> "RenderableType":
        """Return the graph as it is now: a layer's steps stand together, below what they wait for."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        operation = self._operation
        if operation is None:
            return Text("connecting …", style="dim")
        now = datetime.now(UTC)
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        depth = layers(operation.steps)
        steps = visible_steps(operation, self._room() - bool(self._gone))
        for step in sorted(steps, key=lambda step: depth[step.name]):
            mark, style = _MARKS.get(step.state, ("?", ""))
            name = Text(_INDENT * min(depth[step.name], _DEEPEST))
            name.append(f"{mark} ", style=style)
            name.append(plain(step.name), style="dim" if step.state == "pending" else "")
            took = elapsed(step.started_at, step.finished_at, now)
            table.add_row(name, Text(took, style="dim"), _beside(step, awaited(step, operation.steps)))
        hidden = len(operation.steps) - len(steps)
        more = [Text(f"  … {hidden} more steps", style="dim")] if hidden else []
        gone = [Text(self._gone, style="yellow", no_wrap=True, overflow="ellipsis")] if self._gone else []
        return Group(self._head(operation, now), *gone, table, *more)

    def _head(self, operation: Operation, now: datetime) -> "Text":
        from rich.text import Text

        _, style = _MARKS.get(operation.state, ("", "cyan"))
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(f"{operation.kind} ", style="bold")
        head.append(operation.state, style=style)
        if operation.progress is not None:
            head.append(f"  {operation.progress.done}/{operation.progress.total} steps")
        took = elapsed(operation.started_at or operation.created_at, operation.finished_at, now)
        if self._away is not None and self._away >= QUIET_AWAY_SECONDS:
            head.append(f"  the API does not answer for {duration(self._away)}", style="yellow")
        head.append(f"  {took}  {operation.id}", style="dim")
        return head


def layers(steps: Sequence[Step]) -> dict[str, int]:
    """Return the layer of each step by its name: 0 waits for none, n for one of layer n - 1."""
    waits = {step.name: step.depends_on for step in steps}
    found: dict[str, int] = {}

    def layer(name: str) -> int:
        if name not in found:
            found[name] = 0  # the API sends no cycles; with one, this ends all the same
            found[name] = 1 + max((layer(each) for each in waits[name] if each in waits), default=-1)
        return found[name]

    return {name: layer(name) for name in waits}


def awaited(step: Step, steps: Sequence[Step]) -> str:
    """Return `after db, cache`: what a step that has not begun still waits for; empty for any other."""
    done = {each.name for each in steps if each.state in {"succeeded", "skipped"}}
    left = [name.removeprefix("service/") for name in step.depends_on if name not in done]
    return f"after {', '.join(left)}" if left and step.state == "pending" else ""


def _beside(step: Step, waits: str) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    notes = Text(plain(_notes(step) or waits), style=_note_style(step))
    if not step.moving or step.transfer is None:
        return notes
    row = Table.grid(padding=(0, 1))
    row.add_row(*([notes] if notes else []), shown(step.transfer))
    return row


def visible_steps(operation: Operation, room: int) -> list[Step]:
    """Return the steps that fit into `room` lines, in their order: what fails and runs before the rest."""
    weight = {"failed": 0, "running": 1, "pending": 2}
    by_need = sorted(operation.steps, key=lambda step: weight.get(step.state, 3))
    shown = {step.name for step in by_need[:room]}
    return [step for step in operation.steps if step.name in shown]


def _notes(step: Step) -> str:
    attempt = f"attempt {step.attempt}" if step.attempt > 1 else ""
    return "  ".join(note for note in (attempt, step.trouble) if note)


def _note_style(step: Step) -> str:
    if step.failure is not None:
        return "red"
    return "yellow" if step.blocked_by else "dim"


def _remarks(step: Step) -> str:
    took = elapsed(step.started_at, step.finished_at) if step.finished_at else ""
    notes = _notes(step)
    return f"{f' ({took})' if took else ''}{f': {notes}' if notes else ''}"
