"""Commands in running containers: exit status or error, never a guess; and no process outlives its caller."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from clusters.connection import Connection, HandshakeRefused
from clusters.errors import (
    ClusterError,
    Forbidden,
    Invalid,
    NotFound,
    NotStarted,
    Throttled,
    TimedOut,
    Unavailable,
    bounded,
)
from clusters.objects import KINDS, Manifest
from clusters.values import ExecResult
from workflows.domain.json_reading import children, text

# v5 has been seen to report success for a stream that was cut when its pod was deleted; v4 never.
PROTOCOL: Final = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = range(4)
CHUNK: Final = 65_536

_FEED: Final = """
feed() {
  [ "$n" = 0 ] || head -c "$n"
  exec >/dev/null
}
"""
_ATTEND: Final = """
attend() {
  "$@"
  status=$?
}
"""
_WATCH: Final = """
exec 3<&0

members() {
  all=
  for each in /proc/[0-9]*/stat; do
    read -r line <"$each" || continue
    pid=${line%% *}
    set -- ${line##*) }
    if [ "$3" = $$ ] && [ "$1" != Z ]; then all="$all$pid:$2 "; fi
  done
}

{
  {
    feed
    cat >/dev/null
    kill -0 $$ || exit 0
    read -r self _ </proc/self/stat
    round=1
    left=yes
    while [ -n "$left" ]; do
      members
      left=
      case $all in *"$self:"*) ;; *) exec kill -9 $$ ;; esac
      for each in $all; do
        pid=${each%:*}
        case $each in "$$:"* | "$self:"* | *":$self") continue ;; esac
        left=yes
        case $each in *":$$") continue ;; esac
        case $round/$all in
          1/*":$pid "*) ;;
          [12]/*) kill -TERM "$pid" ;;
          *) kill -KILL "$pid" ;;
        esac
      done
      round=$((round + 1))
      [ -z "$left" ] || sleep 1
    done
    exit 0
  } <&3 2>/dev/null &
} | {
  exec 3<&-
  attend "$@"
  cat >/dev/null 2>&1
  exit $status
}
"""
"""Runs a command on as many bytes of stdin as the first argument says, and ends it when stdin ends then.

The connection's end is the end of stdin, also when its other side was killed: a command that nobody hears is
over. What the command leaves unread is read for it: a websocket with unread input does not close. The runtime
makes each exec the leader of a process group, by which the command's children are found.

No process may die by a signal while its parent is not there to take note: it would become a child of the
container's first process, and PostgreSQL up to 17 takes such a death for a crash of its own, throws everybody
out and recovers. So those without children are told to end first, and the shells around them stay; only what
is there after one second is told as a whole, and after two it is killed, until the group is empty.

The watching part runs in the background of the pipeline's first half, it is not the half itself: some shells
wait for all of a pipeline before they are done. It is an orphan, and ends with status 0.

The command gets its stdin by the function `feed` and is run by `attend`.
"""


def dead_man(feed: str = _FEED, attend: str = _ATTEND, begin: str = "") -> str:
    """Return the wrapper with these two functions, doing `begin` first; `clusters.streaming` has others."""
    return "\nn=$1; shift\n" + begin + feed + attend + _WATCH


DEAD_MAN: Final = dead_man()


@dataclass(slots=True)
class _Output:
    """What a command has written so far, up to `limit` bytes of each stream."""

    limit: int
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    status: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def take(self, frame: bytes) -> None:
        if len(frame) < 2:
            return
        channel, data = frame[0], memoryview(frame)[1:]
        if channel == STATUS:
            self.status += data
        elif channel in (STDOUT, STDERR):
            kept = self.stdout if channel == STDOUT else self.stderr
            room = self.limit - len(kept)
            self.truncated = self.truncated or len(data) > room
            kept += data[:room]


async def execute(  # noqa: PLR0913 - those of `Cluster.execute`, and what stands before it
    connection: Connection,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str | None,
    stdin: bytes,
    seconds: float,
    output_limit: int,
    before: Callable[[], None] | None,
) -> ExecResult:
    """Run a command; see `Cluster.execute`."""
    path, params = request(namespace, pod, container, DEAD_MAN, len(stdin), command)
    output = _Output(output_limit)
    try:
        async with asyncio.timeout(seconds):
            async with connection.websocket(path, params, protocol=PROTOCOL, before=before) as socket:
                await _converse(socket, stdin, output)
    except HandshakeRefused as error:
        raise handshake_error(error, namespace, pod) from error
    except TimeoutError as error:
        raise TimedOut(
            f"the command did not end within {seconds:g} s and was killed",
            bytes(output.stdout),
            bytes(output.stderr),
        ) from error
    return ExecResult(
        exit_code(bytes(output.status)), bytes(output.stdout), bytes(output.stderr), output.truncated
    )


def request(
    namespace: str, pod: str, container: str | None, script: str, size: int, command: Sequence[str]
) -> tuple[str, list[tuple[str, str]]]:
    """Return path and parameters of a request that runs `script` with `size` and the command as arguments."""
    params = [("command", part) for part in ("sh", "-c", script, "perdure", str(size), *command)]
    params += [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    if container is not None:
        params.append(("container", container))
    return KINDS["Pod"].path(namespace, pod, "exec"), params


async def _converse(socket: aiohttp.ClientWebSocketResponse, stdin: bytes, output: _Output) -> None:
    sending = asyncio.create_task(_send(socket, stdin))
    try:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                output.take(message.data)
    finally:
        sending.cancel()
        # A send that broke says no more than that the connection is over; the status says how it ended.
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
            await sending


async def _send(socket: aiohttp.ClientWebSocketResponse, stdin: bytes) -> None:
    for start in range(0, len(stdin), CHUNK):
        await socket.send_bytes(bytes((STDIN,)) + stdin[start : start + CHUNK])


def exit_code(status: bytes) -> int:
    """Read how a command ended. `Unavailable` without a status, `NotStarted` when it never ran."""
    if not status:
        raise Unavailable("the connection ended before the command's exit status arrived")
    try:
        parsed = json.loads(status)
    except ValueError as error:
        raise Unavailable("the command's exit status cannot be read") from error
    body: Manifest = parsed if isinstance(parsed, dict) else {}
    if text(body, "status") == "Success":
        return 0
    for cause in children(body, "details", "causes"):
        if text(cause, "reason") == "ExitCode":
            return int(text(cause, "message"))
    # What stands before it in the message has no end, and is the same for every cause.
    said = text(body, "message").rpartition("OCI runtime exec failed: ")[2]
    raise NotStarted(bounded(said or "the command could not be started"))


def handshake_error(error: HandshakeRefused, namespace: str, pod: str) -> ClusterError:
    """Say what a refused handshake means."""
    name = f"pod {namespace}/{pod}"
    match error.status:
        case 404:
            return NotFound(f"{name} does not exist")
        case 401 | 403:
            return Forbidden(f"no right to run commands in {name}")
        case 400:
            return NotStarted(f"{name} has no such container, or needs one to be named")
        case 429:
            return Throttled(f"too many requests for {name}")
        case status if status >= 500:
            return Unavailable(f"{name} cannot be reached: status {status}")
        case _:
            return Invalid(f"running a command in {name} was refused with status {error.status}")
