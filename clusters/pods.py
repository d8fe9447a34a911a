"""What is inside pods: their logs, and commands in their containers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

from clusters import freezing, streaming
from clusters.core import ClusterCore
from clusters.errors import Forbidden, FreezeExpired, NotStarted, Unavailable
from clusters.execution import execute
from clusters.freezing import BUDGET, SHORTEST, Freeze, Hold
from clusters.interactive import Conversation, converse
from clusters.logs import follow, log_call
from clusters.objects import ObjectRef
from clusters.tunnel import Tunnel, open_tunnel
from clusters.values import ExecResult, LogLine
from workflows.domain.json_reading import children, mapping, text


class PodAccess(ClusterCore):
    """Logs and commands."""

    async def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int | None = 200,
        limit_bytes: int | None = 32_768,
        since_seconds: int | None = None,
        timestamps: bool = False,
    ) -> str:
        """Return a container's log, undecodable bytes replaced.

        `NotFound` when there is no such pod; `Invalid` when the container has no log: not yet, or no
        previous run.
        """
        options: dict[str, str | int | bool | None] = {
            "container": container,
            "previous": previous,
            "tailLines": tail_lines,
            "limitBytes": limit_bytes,
            "sinceSeconds": since_seconds,
            "timestamps": timestamps,
        }
        return (await self._send(log_call(namespace, pod, options), namespace=namespace)).content

    def follow_logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        tail_lines: int | None = None,
        since: str | None = None,
    ) -> AsyncIterator[LogLine]:
        """Yield a container's log lines until it ends.

        `since`: go on after the line with this `at`. `Unavailable` when the stream is cut: call again with
        the last line's `at`.
        """
        options: dict[str, str | int | bool | None] = {
            "container": container,
            "follow": True,
            "timestamps": True,
            "tailLines": tail_lines,
            "sinceTime": since,
        }
        return follow(self._connection, log_call(namespace, pod, options), since)

    async def execute(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes = b"",
        timeout: float,  # noqa: ASYNC109 - running out kills the command, and is an answer
        output_limit: int = 1_048_576,
    ) -> ExecResult:
        """Run a command in a running container and return how it ended.

        The container needs `sh`, `cat`, and with stdin `head`. The command ends with its caller: when this
        process dies or the time (seconds) is over, the command and its children are killed. `output_limit`:
        bytes kept of each stream. Never tried twice. `Unavailable` when no exit status arrived: it may have
        run; `TimedOut` after `timeout`; `NotFound` without the pod; `NotStarted` when it cannot be run there.
        """
        async with self._explained(namespace, pod, container):
            return await execute(
                self._connection,
                namespace,
                pod,
                command,
                container=container,
                stdin=stdin,
                seconds=timeout,
                output_limit=output_limit,
                before=self._guard,
            )

    @asynccontextmanager
    async def output_of(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        *,
        container: str | None = None,
        timeout: float,  # noqa: ASYNC109 - running out kills the command, and is an answer
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run a command and hand out its stdout as it comes, for as long as the context lasts.

        The stream ends without an exception only when the command ended with status 0 and every byte that it
        wrote has arrived. It is read as fast as its reader takes it; memory stays bounded. The container
        needs `sh`, `cat`, `tee`, `wc`, `sha256sum`. Leaving the context early, or the end of this process,
        ends the command. Never tried twice. Raises CommandFailed, TimedOut after `timeout` seconds,
        Unavailable when the stream was cut, and what `execute` raises besides.
        """
        async with (
            self._explained(namespace, pod, container),
            streaming.output_of(
                self._connection,
                namespace,
                pod,
                command,
                container=container,
                seconds=timeout,
                before=self._guard,
            ) as output,
        ):
            yield output

    async def feed(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        source: AsyncIterator[bytes],
        *,
        size: int,
        container: str | None = None,
        timeout: float,  # noqa: ASYNC109 - running out kills the command, and is an answer
    ) -> bytes:
        """Run a command with the `size` bytes of `source` as its stdin; return the end of what it said.

        The command reads the end of its stdin only when the source has ended without an exception and all of
        it has come to the pod; otherwise it is killed before that, so that a restore in one transaction, or
        one that commits at its end, leaves nothing. The container needs `sh`, `cat`, `head`, `tee` and `wc`.
        Never tried twice. Raises what the source raises, ValueError when that has another size, and what
        `output_of` raises.
        """
        async with self._explained(namespace, pod, container):
            return await streaming.feed(
                self._connection,
                namespace,
                pod,
                command,
                source,
                size=size,
                container=container,
                seconds=timeout,
                before=self._guard,
            )

    @asynccontextmanager
    async def frozen(self, hold: Hold) -> AsyncIterator[Freeze]:
        """Hold a container still by its hooks for as long as the context lasts.

        One process in the container runs `quiesce`, holds, and runs `thaw`: when the context is left, when
        this process dies or the connection breaks, and at nine tenths of `hold.seconds`, whatever became of
        `quiesce`. It waits until an earlier freeze of the container is over. `thaw` is tried up to six times.

        When the freeze ends before the body, the body is cancelled where it waits, and the context raises
        FreezeExpired (the limit), or FreezeEnded: what was captured is of no point. Else it raises
        QuiesceFailed, ThawUnconfirmed, and what `execute` raises when nothing was begun. An error of the
        body's goes before all but ThawUnconfirmed. All of them but that one mean that it is thawed.

        The container needs `sh`, `sleep`, `head`, `cat` and `/proc`. Never tried twice.
        """
        async with freezing.frozen(
            self._connection,
            hold,
            explained=self._explained(hold.namespace, hold.pod, hold.container),
            make_sure=self.make_sure_thawed,
            before=self._guard,
        ) as freeze:
            yield freeze

    @asynccontextmanager
    async def all_frozen(
        self, holds: Sequence[Hold], *, seconds: int = BUDGET
    ) -> AsyncIterator[tuple[Freeze, ...]]:
        """Hold several containers still at once: frozen one after the other, thawed in the reverse order.

        `seconds`: for all of it, from the beginning of the first `quiesce`; a hold's own may be shorter. All
        are thawed, whatever fails. Raises what `frozen` raises; FreezeExpired when there is no time for all.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        async with AsyncExitStack() as stack:
            freezes: list[Freeze] = []
            for hold in holds:
                left = min(hold.seconds, int(end - loop.time()))
                if left < SHORTEST:
                    raise FreezeExpired(f"no time is left of {seconds} s to hold {hold.where}", None)
                freezes.append(await stack.enter_async_context(self.frozen(replace(hold, seconds=left))))
            yield tuple(freezes)

    async def make_sure_thawed(self, hold: Hold) -> None:
        """Wait until no freeze holds the container any more, and run `thaw` once more.

        Returns when that succeeded, or when the pod is gone. For after a worker that died. Raises
        ThawUnconfirmed, and what `execute` raises besides.
        """

        async def run(command: Sequence[str], seconds: float) -> ExecResult:
            return await self.execute(
                hold.namespace, hold.pod, command, container=hold.container, timeout=seconds
            )

        await freezing.make_sure(run, hold)

    def tunnel(self, namespace: str, pod: str, port: int) -> AbstractAsyncContextManager[Tunnel]:
        """Open a TCP connection to a port of a running pod; see `clusters.tunnel`."""
        return open_tunnel(self._connection, namespace, pod, port, before=self._guard)

    def converse(
        self,
        namespace: str,
        pod: str,
        command: Sequence[str],
        *,
        container: str,
        stdin: bool,
        tty: bool,
    ) -> AbstractAsyncContextManager[Conversation]:
        """Start a command that somebody talks to; see `clusters.interactive`."""
        return converse(self._connection, namespace, pod, command, container=container, stdin=stdin, tty=tty)

    @asynccontextmanager
    async def _explained(self, namespace: str, pod: str, container: str | None) -> AsyncIterator[None]:
        """Say why a command was refused."""
        try:
            yield
        except Forbidden as error:
            raise await self._fencing.explain(error, namespace, None) from error
        except NotStarted as error:
            # A container on its way down refuses too; that says nothing about the command.
            if not await self._runs(namespace, pod, container):
                raise Unavailable(f"pod {namespace}/{pod} is not running: {error}", sent=False) from error
            raise

    async def _runs(self, namespace: str, pod: str, container: str | None) -> bool:
        live = await self.get(ObjectRef("Pod", pod, namespace)) or {}
        statuses = children(live, "status", "containerStatuses")
        known = [status for status in statuses if container in (None, text(status, "name"))]
        # A container that the pod does not have will not come either: that is for the caller to hear.
        return bool(statuses) and all(mapping(status, "state", "running") for status in known)
