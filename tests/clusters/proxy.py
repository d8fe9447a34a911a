"""A wire between a test and the API server that can be frozen, cut and pulled out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class Proxy:
    """Passes bytes on, encrypted as they are. `frozen`: connections stay open and nothing comes through."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.refusing = False
        self.accepted = 0

    def freeze(self) -> None:
        """Hold back everything from now on, in both directions."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through again, also what was held back."""
        self._flowing.set()

    def cut(self) -> None:
        """Break all connections that there are."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


def _server(kubeconfig: Path) -> tuple[str, int]:
    server = urlsplit(yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    return server.hostname or "", server.port or 443


def _redirected(kubeconfig: Path, port: int, path: Path) -> Path:
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def proxied(kubeconfig: Path, directory: Path) -> AsyncIterator[tuple[Proxy, Path]]:
    """Put a proxy before the API server of a kubeconfig; yield it and a kubeconfig that leads through it."""
    proxy = Proxy(*_server(kubeconfig))
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, _redirected(kubeconfig, port, directory / "proxied.kubeconfig")
    finally:
        server.close()
        await proxy.close()
