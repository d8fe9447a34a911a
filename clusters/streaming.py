"""Commands in containers whose stdout or stdin is a stream of any length: all of it, or an error.

Both directions run in the wrapper of `clusters.execution`, so that no command outlives its caller.

Out: the container itself takes the digest of what it sends and tells it behind the last byte. The status of
the command decides, not that of the pipe that it writes into.

In: the command's stdin is closed only when as many bytes as were announced have come. A connection that is
cut in the middle ends the command without letting it read an end, which it could take for the whole. And the
command begins only when its caller, told that it is about to, says so: a node may start it so late that the
caller is long gone, and another has put there what the command would begin by removing.
"""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from clusters.connection import Connection, HandshakeRefused
from clusters.errors import CommandFailed, TimedOut, Unavailable
from clusters.execution import (
    CHUNK,
    PROTOCOL,
    STATUS,
    STDERR,
    STDIN,
    STDOUT,
    dead_man,
    exit_code,
    handshake_error,
    request,
)

_PIECE: Final = 256 * 1024
"""Bytes that are handed on at once: frames are 32 KiB and smaller."""
_PROOF_BYTES: Final = 128
_LAST_WORDS: Final = 64 * 1024
"""Bytes kept of what a command says on stderr: the last ones."""
_LONGEST_STATUS: Final = 65_536
_FAREWELL: Final = 0.5

_OUT: Final = dead_man(
    attend=f"""
digest() {{
  if command -v openssl >/dev/null; then openssl dgst -sha256 -r; else sha256sum; fi
}}

attend() {{
  exec 4>&1
  proof=$(
    {{
      {{
        {{
          {{ "$@" 3>&- 4>&- 5>&- 7>&-; echo "status $?" >&5; }} | tee /proc/self/fd/3 /proc/self/fd/7 >&4
        }} 3>&1 | digest >&5
      }} 7>&1 | wc -c >&5
    }} 5>&1
  )
  exec 4>&-
  ( printf '%-{_PROOF_BYTES}s' "$proof" )
  status=${{proof#*status }}
  status=${{status%%[!0-9]*}}
}}
"""
)
"""Writes the command's stdout, and behind it in exactly `_PROOF_BYTES` its status, byte count and SHA-256.

`sha256sum` does not use what processors have for it, `openssl` does, where it is there.
The last `printf` is a process of its own: perhaps nobody reads it, and `attend` itself cannot be ended.
"""

_READY: Final = b"ready\n"
_GO: Final = b"\n"

_IN: Final = dead_man(
    begin="""
echo ready
read -r _ || exit 1
""",
    feed="""
feed() {
  exec 8>&1
  came=$({ head -c "$n" | tee /proc/self/fd/9 >&8; } 9>&1 | wc -c)
  [ "$came" -ne "$n" ] || exec >/dev/null 8>&-
}
""",
    attend="""
attend() {
  "$@" >&2
  status=$?
  echo "status $status" >&2
  echo "status $status"
}
""",
)
"""Begins when it is told to. Hands on `n` bytes and then their end, or less and no end. Tells how the command
ended while it may still have input on its way: nobody has to send the rest. On stdout, which is the wrapper's
alone; and on stderr behind the command's last words, since one of two streams may arrive long before the
other."""

_STATUS_LINE: Final = re.compile(rb"^status (\d+)$", re.MULTILINE)
_SHA256_LINE: Final = re.compile(rb"^([0-9a-f]{64}) (?: -|[*]stdin)$", re.MULTILINE)
_COUNT_LINE: Final = re.compile(rb"^ *(\d+)$", re.MULTILINE)


class Exec:
    """An exec under way: frames in, stdout out; stderr and how it ended are kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._status = bytearray()
        self.stderr = bytearray()

    async def stdout(self) -> AsyncGenerator[memoryview]:
        """Yield what comes on stdout until the connection ends."""
        async with contextlib.aclosing(self.frames()) as frames:
            async for channel, data in frames:
                if channel == STDOUT:
                    yield data

    async def frames(self) -> AsyncGenerator[tuple[int, memoryview]]:
        """Yield whatever comes, with its channel, until the connection ends."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or len(message.data) < 2:
                continue
            channel, data = message.data[0], memoryview(message.data)[1:]
            if channel == STDERR:
                self.stderr += data
                del self.stderr[:-_LAST_WORDS]
            elif channel == STATUS:
                self._status += data[: _LONGEST_STATUS - len(self._status)]
            yield channel, data

    async def send(self, data: bytes) -> None:
        """Send to stdin; returns when there is room for more."""
        view = memoryview(data)
        for start in range(0, len(view), CHUNK):
            await self._socket.send_bytes(bytes((STDIN,)) + view[start : start + CHUNK])

    def exit_code(self) -> int:
        """Return how the command ended; raises what `execution.exit_code` raises."""
        return exit_code(bytes(self._status))

    def ended_well(self) -> None:
        """Raise CommandFailed, or what `exit_code` raises, unless the command ended with status 0."""
        code = self.exit_code()
        if code != 0:
            raise CommandFailed(code, bytes(self.stderr))


@asynccontextmanager
async def output_of(
    connection: Connection,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str | None,
    seconds: float,
    before: Callable[[], None] | None,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run a command and hand out what it writes; see `Cluster.output_of`."""
    path, params = request(namespace, pod, container, _OUT, 0, command)
    async with (
        _running(connection, path, params, seconds=seconds, before=before) as running,
        contextlib.aclosing(_proved(running)) as pieces,
    ):
        yield pieces


async def feed(  # noqa: PLR0913 - those of `Cluster.feed`, and what stands before it
    connection: Connection,
    namespace: str,
    pod: str,
    command: Sequence[str],
    source: AsyncIterator[bytes],
    *,
    size: int,
    container: str | None,
    seconds: float,
    before: Callable[[], None] | None,
) -> bytes:
    """Run a command on a stream; see `Cluster.feed`."""
    path, params = request(namespace, pod, container, _IN, size, command)
    async with _running(connection, path, params, seconds=seconds, before=before) as running:
        ready = asyncio.Event()
        listening = asyncio.create_task(_listen(running, ready))
        sending = asyncio.create_task(_begin(running, ready, source, size, before))
        try:
            await asyncio.wait((listening, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                # A socket that broke under it says nothing yet about how the command ended.
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    sending.result()
            early = await listening
        finally:
            for task in (listening, sending):
                task.cancel()
            await asyncio.gather(listening, sending, return_exceptions=True)
        status = early or running.exit_code()
        words = bytes(running.stderr).removesuffix(_status_line(status))
        if status:
            raise CommandFailed(status, words)
        return words


async def _proved(running: Exec) -> AsyncGenerator[bytes]:
    """Yield what the command writes, its proof held back, and compare it at the end."""
    digest, count = hashlib.sha256(), 0
    held: list[bytes | memoryview] = []
    size = 0
    async with contextlib.aclosing(running.stdout()) as frames:
        async for frame in frames:
            held.append(frame)
            size += len(frame)
            if size >= _PIECE + _PROOF_BYTES:
                came = b"".join(held)
                piece = came[:-_PROOF_BYTES]
                held, size = [came[-_PROOF_BYTES:]], _PROOF_BYTES
                digest.update(piece)
                count += len(piece)
                yield piece
    running.ended_well()
    came = b"".join(held)
    piece, proof = came[:-_PROOF_BYTES], came[-_PROOF_BYTES:]
    digest.update(piece)
    count += len(piece)
    _compare(proof, count, digest.hexdigest())
    if piece:
        yield piece


def _compare(proof: bytes, count: int, sha256: str) -> None:
    lines = proof.rstrip(b" ")
    said = [pattern.search(lines) for pattern in (_STATUS_LINE, _COUNT_LINE, _SHA256_LINE)]
    told = [match.group(1).decode() if match else None for match in said]
    if None in told:
        raise Unavailable("the container did not say what it sent: tee, wc or sha256sum is missing or failed")
    if told != ["0", str(count), sha256]:
        raise Unavailable(f"{count} bytes have arrived that are not the {told[1]} that the command wrote")


async def _listen(running: Exec, ready: asyncio.Event) -> int:
    """Wait for the end of the connection, or for a command that failed and what it said: return its status
    then, else 0. Set `ready` when it is about to begin."""
    said, status = bytearray(), 0
    async with contextlib.aclosing(running.frames()) as frames:
        async for channel, data in frames:
            if channel == STDOUT:
                said += data
                if said.startswith(_READY):
                    ready.set()
                del said[:-_PROOF_BYTES]
                line = _STATUS_LINE.search(said) if said.endswith(b"\n") else None
                status = int(line.group(1)) if line else 0
            if status and running.stderr.endswith(_status_line(status)):
                break
    return status


def _status_line(status: int) -> bytes:
    return b"status %d\n" % status


async def _begin(
    running: Exec,
    ready: asyncio.Event,
    source: AsyncIterator[bytes],
    size: int,
    before: Callable[[], None] | None,
) -> None:
    """Tell a command that is about to begin to do so, if the caller still may, and send it the source."""
    await ready.wait()
    if before is not None:
        before()
    await running.send(_GO)
    await _send_all(running, source, size)


async def _send_all(running: Exec, source: AsyncIterator[bytes], size: int) -> None:
    """Send the source, its last piece only when it has ended and was as long as announced."""
    kept, left = b"", size
    async for piece in source:
        left -= len(piece)
        if left < 0:
            break
        await running.send(kept)
        kept = piece
    if left:
        raise ValueError(f"a source of {size} bytes was announced, and {size - left} or more have come")
    await running.send(kept)


@asynccontextmanager
async def _running(
    connection: Connection,
    path: str,
    params: list[tuple[str, str]],
    *,
    seconds: float,
    before: Callable[[], None] | None,
) -> AsyncIterator[Exec]:
    deadline = asyncio.timeout(seconds)
    try:
        # No heartbeat: it counts as unanswered while nobody reads, and a slow reader is no fault. The
        # socket itself notices when the other machine is gone.
        async with (
            deadline,
            connection.websocket(
                path, params, protocol=PROTOCOL, before=before, heartbeat=None, farewell=_FAREWELL
            ) as socket,
        ):
            yield Exec(socket)
    except HandshakeRefused as error:
        namespace, pod = path.split("/")[4:7:2]
        raise handshake_error(error, namespace, pod) from error
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise TimedOut(f"the command did not end within {seconds:g} s and was killed") from error
