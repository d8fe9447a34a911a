"""Services held still for a moment: quiesce and thaw hooks, run by a process in the pod that ends by itself.

What happens in the pod is `clusters.freeze_script`. This side says when to thaw, hears whether that was done,
and learns when the freeze is over before it said so: then what was captured meanwhile is of no point in time.
"""

import asyncio
import contextlib
import re
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from clusters.connection import Connection, HandshakeRefused
from clusters.errors import (
    ClusterError,
    FreezeEnded,
    FreezeExpired,
    NotFound,
    NotStarted,
    QuiesceFailed,
    ThawUnconfirmed,
    TimedOut,
    Unavailable,
)
from clusters.execution import PROTOCOL, handshake_error
from clusters.freeze_script import HOLD, MAKE_SURE, SECONDS_PER_TRY, TRIES
from clusters.objects import KINDS
from clusters.streaming import Exec
from clusters.values import ExecResult

BUDGET: Final = 30
"""Seconds that a service may be held still, unless less is asked for; also all of a window together."""
SHORTEST: Final = 2
"""A budget below it leaves no time between quiesce and thaw."""

_WAY_OUT: Final = (
    f"its `quiesceSeconds` can be raised to {BUDGET} at most, which is what all services of one snapshot "
    "have together; beyond that, less has to be copied while they are held"
)
_FAREWELL: Final = 0.5
_LAST_WORDS_SECONDS: Final = 3.0
_VERDICT_SECONDS: Final = TRIES * (SECONDS_PER_TRY + 4) + sum(range(TRIES))
"""Longest time until the pod says how thawing went: its tries, their pauses, and the end of what is left."""
_SURE_SECONDS: Final = 120
"""Longest time that is given to thaw by another exec, when the first was lost sight of."""
_EXTRA_SECONDS: Final = 30
"""Beyond its own time, what an earlier freeze may take to thaw until another exec gives up waiting for it."""
_PAUSE_SECONDS: Final = 0.5
_ENDING: Final = re.compile(r"(thawed|stuck) (\d+) (\d+) (\w+)(?: (\d+))?")


@dataclass(frozen=True, slots=True)
class Hold:
    """A container to be held still. `quiesce` and `thaw`: commands, run in it as its own user.

    `thaw` also runs when `quiesce` failed, and more than once: it has to succeed then too.
    `seconds`: longest time from the beginning of `quiesce` to the end of `thaw`.
    """

    namespace: str
    pod: str
    quiesce: Sequence[str]
    thaw: Sequence[str]
    container: str | None = None
    seconds: int = BUDGET

    @property
    def holding_seconds(self) -> int:
        """When the pod begins to thaw by itself: a tenth of the time is left for that."""
        return self.seconds - -(-self.seconds // 10)

    @property
    def where(self) -> str:
        """What it is called in messages."""
        return f"pod {self.namespace}/{self.pod}"


@dataclass(slots=True)
class Freeze:
    """A container that is held still; the numbers are known when the context has been left.

    `frozen_ms`: from the beginning of quiesce to the end of thaw, measured in the pod to 10 ms. `tries`: how
    often thaw ran.
    """

    hold: Hold
    frozen_ms: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a hold ended, as the pod tells it; `reason` and `status` as in `clusters.freeze_script`."""

    thawed: bool
    milliseconds: int
    tries: int
    reason: str
    status: int | None


class _Holder:
    """The exec that holds a container. `run` is a task of its own: no error of the caller's passes it."""

    def __init__(self, connection: Connection, hold: Hold, before: Callable[[], None] | None) -> None:
        self._connection = connection
        self._before = before
        self.hold = hold
        self.began: float | None = None
        """By the event loop's clock; None: quiesce has certainly not been run."""
        self.holding = asyncio.Event()
        self.release = asyncio.Event()
        self.words = b""

    async def run(self, explained: AbstractAsyncContextManager[None]) -> _Ending:
        """Hold until released; return how it ended, or raise why that is not known or nothing was begun."""
        path, params = _request(self.hold)
        try:
            async with (
                explained,
                self._connection.websocket(
                    path, params, protocol=PROTOCOL, before=self._before, farewell=_FAREWELL
                ) as socket,
            ):
                return await self._converse(Exec(socket))
        except HandshakeRefused as error:
            raise handshake_error(error, self.hold.namespace, self.hold.pod) from error

    async def _converse(self, running: Exec) -> _Ending:
        releasing = asyncio.create_task(self._release(running))
        try:
            async with contextlib.aclosing(running.stdout()) as frames:
                async for line in _lines(frames):
                    ending = self._understand(line)
                    if ending is not None:
                        if ending.reason == "failed" or not ending.thawed or not self.holding.is_set():
                            await _read_out(frames)
                        return ending
        finally:
            self.words = bytes(running.stderr)
            releasing.cancel()
            await asyncio.gather(releasing, return_exceptions=True)
        status = running.exit_code()
        if self.began is None:
            raise NotStarted(f"what holds a service ended with status {status} before it began")
        raise Unavailable(f"what holds the service ended with status {status} and did not say how it thawed")

    def _understand(self, line: str) -> _Ending | None:
        match = _ENDING.fullmatch(line)
        if match is not None:
            word, milliseconds, tries, reason, status = match.groups()
            code = None if status is None else int(status)
            return _Ending(word == "thawed", int(milliseconds), int(tries), reason, code)
        if line == "begun":
            self.began = asyncio.get_running_loop().time()
        elif line == "holding":
            self.holding.set()
        elif line == "busy":
            raise FreezeExpired(f"an earlier freeze of {self.hold.where} does not end", None)
        return None

    async def _release(self, running: Exec) -> None:
        await self.release.wait()
        # A send that breaks says no more than that the connection is over.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await running.send(b"thaw\n")


@asynccontextmanager
async def frozen(
    connection: Connection,
    hold: Hold,
    *,
    explained: AbstractAsyncContextManager[None],
    make_sure: Callable[[Hold], Awaitable[None]],
    before: Callable[[], None] | None,
) -> AsyncIterator[Freeze]:
    """Hold one container still; see `Cluster.frozen`.

    `explained` says why a command was refused; `make_sure` thaws by another exec, or raises.
    """
    if hold.seconds < SHORTEST:
        raise ValueError(f"{hold.seconds} s are too short to quiesce and thaw, {SHORTEST} are needed")
    holder = _Holder(connection, hold, before)
    task = asyncio.create_task(holder.run(explained))
    freeze = Freeze(hold)
    scope = asyncio.timeout(None)
    failed: BaseException | None = None
    try:
        await _held(holder, task)
        if not task.done():
            async with _shorter_than(task, holder, scope):
                yield freeze
    except BaseException as error:
        failed = error
        raise
    finally:
        await _settle(task, _outcome(holder, task, freeze, make_sure, scope), failed)


async def _held(holder: _Holder, task: "asyncio.Task[_Ending]") -> None:
    """Return when it holds, or when it has ended without that."""
    holding = asyncio.create_task(holder.holding.wait())
    try:
        await asyncio.wait((holding, task), return_when=asyncio.FIRST_COMPLETED)
    finally:
        holding.cancel()


@asynccontextmanager
async def _shorter_than(
    task: "asyncio.Task[_Ending]", holder: _Holder, scope: asyncio.Timeout
) -> AsyncIterator[None]:
    """Break the body off when the hold ends before it; `scope` has expired then."""
    loop = asyncio.get_running_loop()

    def over(_: object) -> None:
        if not scope.expired():
            scope.reschedule(loop.time())

    try:
        async with scope:
            # When nothing is heard any more, the pod thaws at this time all the same.
            scope.reschedule((holder.began or loop.time()) + holder.hold.holding_seconds)
            task.add_done_callback(over)
            try:
                yield
            finally:
                task.remove_done_callback(over)
    except TimeoutError:
        if not scope.expired():
            raise


async def _settle(
    task: "asyncio.Task[_Ending]",
    outcome: Awaitable[ClusterError | None],
    failed: BaseException | None,
) -> None:
    """Raise what went wrong with the freeze, unless what the caller met itself goes before it."""
    try:
        error = await outcome
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if error is None:
        return
    if failed is None or (isinstance(error, ThawUnconfirmed) and isinstance(failed, Exception)):
        raise error
    failed.add_note(str(error))


async def _outcome(
    holder: _Holder,
    task: "asyncio.Task[_Ending]",
    freeze: Freeze,
    make_sure: Callable[[Hold], Awaitable[None]],
    scope: asyncio.Timeout,
) -> ClusterError | None:
    """Have it thawed; return None when it was, and not before it was told to."""
    hold = holder.hold
    holder.release.set()
    await asyncio.wait((task,), timeout=_VERDICT_SECONDS)
    try:
        ending = task.result() if task.done() else None
    except Unavailable as error:
        if not error.sent:
            return error
        ending = None
    except ClusterError as error:
        return error
    if ending is None:
        try:
            await make_sure(hold)
        except ClusterError as error:
            return ThawUnconfirmed(f"{hold.where} was lost sight of and may still be held: {error}")
        return FreezeEnded(f"{hold.where} was lost sight of while it was held; it is thawed", None)
    freeze.frozen_ms, freeze.tries = ending.milliseconds, ending.tries
    if not ending.thawed:
        return ThawUnconfirmed(
            f"thaw failed {ending.tries} times, {hold.where} may still be held", holder.words
        )
    return _too_soon(holder, ending, cut_short=scope.expired())


def _too_soon(holder: _Holder, ending: _Ending, *, cut_short: bool) -> ClusterError | None:
    """Return what was wrong with a freeze that was thawed; None: it held until it was told."""
    where, seconds = holder.hold.where, holder.hold.holding_seconds
    if ending.reason == "failed":
        return QuiesceFailed(
            f"quiesce of {where} ended with status {ending.status}", ending.status, holder.words
        )
    if ending.reason == "limit" and not holder.holding.is_set():
        return QuiesceFailed(f"quiesce of {where} did not end within {seconds} s", None, holder.words)
    if ending.reason == "limit" or (ending.reason == "asked" and cut_short):
        limit = f"{where} was held for {seconds} s, which is the limit"
        return FreezeExpired(f"{limit}: {_WAY_OUT}", ending.milliseconds)
    if ending.reason != "asked":
        return FreezeEnded(
            f"the freeze of {where} was ended in the pod ({ending.reason})", ending.milliseconds
        )
    return None


async def make_sure(execute: Callable[[Sequence[str], float], Awaitable[ExecResult]], hold: Hold) -> None:
    """Thaw by an exec of its own when nothing holds any more; see `Cluster.make_sure_thawed`."""
    deadline = asyncio.get_running_loop().time() + _SURE_SECONDS
    command = ("sh", "-c", MAKE_SURE, "perdure", str(hold.seconds + _EXTRA_SECONDS), shlex.join(hold.thaw))
    while True:
        try:
            done = await execute(command, _SURE_SECONDS)
        except NotFound:
            return  # with its pod, all that was held is gone
        except (Unavailable, TimedOut) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise ThawUnconfirmed(f"{hold.where} may still be held: {error}") from error
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        if done.exit_code != 0:
            raise ThawUnconfirmed(
                f"thaw of {hold.where} ended with status {done.exit_code}: it may still be held", done.stderr
            )
        return


async def _lines(frames: AsyncIterator[memoryview]) -> AsyncGenerator[str]:
    said = b""
    async for frame in frames:
        *lines, said = (said + bytes(frame)).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")


async def _read_out(frames: AsyncIterator[memoryview]) -> None:
    """Hear the hook's last words, which may still be on their way."""
    with contextlib.suppress(TimeoutError, ClusterError):
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            async for _ in frames:
                pass


def _request(hold: Hold) -> tuple[str, list[tuple[str, str]]]:
    command = ["sh", "-c", HOLD, "perdure", str(hold.holding_seconds)]
    command += [shlex.join(hold.quiesce), shlex.join(hold.thaw)]
    params = [("command", part) for part in command]
    params += [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    if hold.container is not None:
        params.append(("container", hold.container))
    return KINDS["Pod"].path(hold.namespace, hold.pod, "exec"), params
