"""WebSockets of the API: a command's streams, and raw TCP behind a local port."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

import httpx2
from pydantic import JsonValue
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from cli.errors import ApiUnreachable, CliError, ExitCode
from cli.problems import ApiError, Problem, error_of
from cli.settings import Connection

_PROTOCOL: Final = Subprotocol("perdure.v1")
_CHUNK: Final = 65_536
_STDIN, _STDOUT = 0, 1
_OPEN_SECONDS: Final = 40.0
"""A tunnel into an environment that sleeps opens once it is awake."""
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def socket_url(connection: Connection, path: str) -> str:
    """Return the WebSocket address of a path of the API."""
    parts = urlsplit(connection.url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}"


def _headers(connection: Connection) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {connection.api_key}"}
    if connection.organization:
        headers["X-Organization-ID"] = connection.organization
    return headers


def _proxy(connection: Connection) -> Literal[True] | None:
    """A proxy of the surroundings, which cannot reach this machine's own API."""
    return None if urlsplit(connection.url).hostname in _LOCAL else True


def run_command(
    connection: Connection, path: str, command: Sequence[str], *, stdin: bool, tty: bool, pod: str | None
) -> int:
    """Run a command over the socket at `path` with this process's streams; return its exit code.

    Raises ApiError for a refusal, ApiUnreachable when the connection breaks: how it ended is not known then.
    """
    start: dict[str, JsonValue] = {"command": list(command), "stdin": stdin, "tty": tty}
    if pod is not None:
        start["pod"] = pod
    if tty:
        size = shutil.get_terminal_size()
        start |= {"width": size.columns, "height": size.lines}
    with (
        _refusals(),
        connect(
            socket_url(connection, path),
            additional_headers=_headers(connection),
            subprotocols=[_PROTOCOL],
            open_timeout=_OPEN_SECONDS,
            max_size=None,
            proxy=_proxy(connection),
        ) as socket,
    ):
        socket.send(json.dumps(start))
        with _raw_terminal(tty and sys.stdin.isatty()):
            if stdin:
                threading.Thread(target=_send_input, args=(socket,), daemon=True).start()
            return _receive(socket)


def _receive(socket: ClientConnection) -> int:
    while True:
        message = socket.recv()
        if isinstance(message, bytes):
            stream = sys.stdout if message[:1] == bytes((_STDOUT,)) else sys.stderr
            stream.buffer.write(message[1:])
            stream.buffer.flush()
            continue
        told = json.loads(message)
        if "exitCode" in told:
            return int(told["exitCode"])
        raise _api_error(told.get("problem", {}))


def _send_input(socket: ClientConnection) -> None:
    """Hand on this process's input until it ends; a daemon, for a read that nobody can break off."""
    with contextlib.suppress(ConnectionClosed, OSError):
        while data := os.read(sys.stdin.fileno(), _CHUNK):
            socket.send(bytes((_STDIN,)) + data)
        socket.send(json.dumps({"endInput": True}))


@contextlib.contextmanager
def _raw_terminal(wanted: bool) -> Iterator[None]:
    """Hand every key on as it is, Ctrl-C too: the terminal that interprets them is the other one."""
    if not wanted:
        yield
        return
    # Absent on Windows, where a terminal stays as it is.
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except InvalidStatus as error:
        answer = error.response
        raise error_of(
            httpx2.Response(answer.status_code, content=bytes(answer.body or b""), request=None)
        ) from error
    except ConnectionClosed as error:
        raise ApiUnreachable(
            f"The connection to the API ended (code {error.rcvd.code if error.rcvd else 'none'}): "
            "how the command ended is not known."
        ) from error
    except (InvalidHandshake, OSError, TimeoutError) as error:
        raise ApiUnreachable(f"The Perdure API gave no WebSocket: {error}.") from error


def _api_error(problem: dict[str, JsonValue]) -> ApiError:
    status = problem.get("status")
    return ApiError(status if isinstance(status, int) else 500, Problem.model_validate(problem))


async def forward(
    connection: Connection,
    path: str,
    local_port: int,
    *,
    ready: Callable[[int], None],
    tell: Callable[[str], None],
) -> None:
    """Listen on this machine only, and carry each connection over a socket at `path`, until cancelled.

    `ready` is called with the port once it is open. A connection that fails is told, and ends nothing else.
    Raises CliError when the local port cannot be had.
    """

    carrying: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrying.add(task := asyncio.create_task(carry(reader, writer)))
        task.add_done_callback(carrying.discard)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _carry(connection, path, reader, writer)
        except InvalidStatus as error:
            answer = error.response
            refusal = error_of(httpx2.Response(answer.status_code, content=bytes(answer.body or b"")))
            tell(f"Connection refused: {refusal.message}")
        except ApiError as error:
            tell(f"Connection ended: {error.message}")
        except (InvalidHandshake, OSError, TimeoutError) as error:
            tell(f"Connection lost: {error}")
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(accept, "127.0.0.1", local_port)
    except OSError as error:
        raise CliError(
            f"Port {local_port} of this machine cannot be used: {error.strerror}.",
            exit_code=ExitCode.USAGE,
            hints=["Choose another as LOCAL:PORT; 0 takes one that is free."],
        ) from error
    try:
        ready(server.sockets[0].getsockname()[1])
        await asyncio.Event().wait()
    finally:
        # Not `async with server`: from Python 3.12 on it waits until whoever is connected has gone.
        server.close()
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)


async def _carry(
    connection: Connection, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async with open_socket(
        socket_url(connection, path),
        additional_headers=_headers(connection),
        subprotocols=[_PROTOCOL],
        open_timeout=_OPEN_SECONDS,
        max_size=None,
        proxy=_proxy(connection),
    ) as socket:

        async def inward() -> None:
            while data := await reader.read(_CHUNK):
                await socket.send(data)
            # There is no half-close: who has said all wants no answer either.
            await socket.close()

        sending = asyncio.create_task(inward())
        try:
            with contextlib.suppress(ConnectionClosed):
                async for message in socket:
                    if isinstance(message, str):
                        raise _api_error(json.loads(message).get("problem", {}))
                    writer.write(message)
                    await writer.drain()
        except asyncio.CancelledError:
            # Whoever interrupts waits for no farewell: from an API that is gone, or busy, for ten seconds.
            socket.transport.abort()
            raise
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
