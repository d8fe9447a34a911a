"""Commands in containers that somebody talks to: stdin, stdout and stderr as streams, and how it ended.

Unlike `execute`, which is for our own commands: nothing is wrapped around the command, so it needs no shell
in the image, and a command that ignores the end of its input outlives a client that hangs up.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Final

import aiohttp

from clusters.connection import Connection, HandshakeRefused
from clusters.errors import ClusterError, Unavailable
from clusters.execution import exit_code, handshake_error
from clusters.objects import KINDS

_PROTOCOL: Final = "v5.channel.k8s.io"
"""The one in which the end of stdin can be said."""
_CLOSE: Final = 255
_CHUNK: Final = 65_536
_FAREWELL: Final = 0.5
_LONGEST_STATUS: Final = 65_536


class Channel(IntEnum):
    """What a frame carries."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4


class Conversation:
    """A running command. `finished` is its exit code, once `output` has ended."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._status = bytearray()

    async def output(self) -> AsyncIterator[tuple[Channel, bytes]]:
        """Yield what it writes, one message held at a time. Raises Unavailable when the connection breaks."""
        while True:
            try:
                message = await self._socket.receive()
            except (aiohttp.ClientError, OSError) as error:
                raise Unavailable("the connection to the command broke") from error
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            frame: bytes = message.data
            if len(frame) < 2:
                continue
            if frame[0] == Channel.STATUS:
                self._status += frame[1 : _LONGEST_STATUS - len(self._status)]
            elif frame[0] in (Channel.STDOUT, Channel.STDERR):
                yield Channel(frame[0]), frame[1:]

    def exit_code(self) -> int:
        """How it ended. `Unavailable` when that did not arrive, `NotStarted` when it never ran."""
        return exit_code(bytes(self._status))

    async def write(self, data: bytes) -> None:
        """Send to its stdin; returns when there is room for more."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            await self._send(bytes((Channel.STDIN,)) + view[start : start + _CHUNK])

    async def end_input(self) -> None:
        """Let it read the end of its stdin."""
        await self._send(bytes((_CLOSE, Channel.STDIN)))

    async def resize(self, width: int, height: int) -> None:
        """Tell its terminal the size."""
        size = json.dumps({"Width": width, "Height": height}).encode()
        await self._send(bytes((Channel.RESIZE,)) + size)

    async def _send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable("the connection to the command broke") from error


@asynccontextmanager
async def converse(
    connection: Connection,
    namespace: str,
    pod: str,
    command: Sequence[str],
    *,
    container: str,
    stdin: bool,
    tty: bool,
) -> AsyncIterator[Conversation]:
    """Start a command and talk to it for as long as the context lasts; never tried twice.

    With a `tty`, stderr comes as stdout. Raises NotFound, Forbidden, NotStarted, Unavailable.
    """
    params = [("command", part) for part in command]
    params += [
        ("container", container),
        ("stdin", str(stdin).lower()),
        ("stdout", "true"),
        ("stderr", str(not tty).lower()),
        ("tty", str(tty).lower()),
    ]
    path = KINDS["Pod"].path(namespace, pod, "exec")
    try:
        async with connection.websocket(
            path, params, protocol=_PROTOCOL, before=None, heartbeat=None, farewell=_FAREWELL
        ) as socket:
            yield Conversation(socket)
    except HandshakeRefused as error:
        refusal: ClusterError = handshake_error(error, namespace, pod)
        raise refusal from error
