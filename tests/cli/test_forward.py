"""A local port that leads to a service, when it is interrupted."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from cli.settings import Connection
from cli.sockets import forward


class StubbornApi:
    """Opens every tunnel and takes nothing any more, no goodbye either. In a loop of its own thread."""

    def __init__(self) -> None:
        self.port: Future[int] = Future()
        self.connected = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        """Serve until it is over."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        protocols = [Subprotocol("perdure.v1")]
        async with serve(self._opened, "127.0.0.1", 0, subprotocols=protocols, close_timeout=0.1) as server:
            self.port.set_result(next(iter(server.sockets)).getsockname()[1])
            await asyncio.to_thread(self.over.wait)

    async def _opened(self, socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        self.connected.set()
        await asyncio.to_thread(self.over.wait)


@pytest.fixture
def api() -> Iterator[StubbornApi]:
    made = StubbornApi()
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.over.set()
    thread.join()


@pytest.mark.parametrize("said_all", [False, True])
async def test_an_interrupt_waits_for_no_farewell(api: StubbornApi, said_all: bool) -> None:
    """`said_all`: the connection is over, and its own goodbye is waited for."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    connection = Connection(url=f"http://127.0.0.1:{api.port.result(10)}", api_key="key")
    listening = asyncio.create_task(
        forward(connection, "/tunnel", 0, ready=port.set_result, tell=lambda _: None)
    )
    _, writer = await asyncio.open_connection("127.0.0.1", await port)
    assert await asyncio.to_thread(api.connected.wait, 10)
    if said_all:
        writer.write_eof()
        await asyncio.sleep(0.1)
    # As `asyncio.run` does when it is interrupted.
    running = {listening, *asyncio.all_tasks()} - before
    for task in running:
        task.cancel()
    async with asyncio.timeout(3):
        await asyncio.gather(*running, return_exceptions=True)
    writer.close()
