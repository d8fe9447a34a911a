"""Objects in a directory, which may be away for a while: a mount that is not there, a directory renamed.

A store bears a mark, so that one that is away can be told from one that is empty: where a mount is not there
its mount point is, as an empty directory. Each piece of work opens the directory, looks at the mark, and does
all else below what it has opened: what comes into its place meanwhile gets nothing, and nothing but
`Directory.make` ever makes a store.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Final, TypeVar

MARK: Final = ".perdure-store"
"""A file in the store, with a name that no key can have. Its content is the store's own and never changes."""
_MARK_BYTES: Final = 64
_MAKINGS: Final = 3
"""How often the directories of a new object are made: a removal may take them away meanwhile."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_GONE: Final = frozenset(
    {errno.EIO, errno.ENODEV, errno.ENOTCONN, errno.ENXIO, errno.EHOSTDOWN, errno.ESTALE, errno.ETIMEDOUT}
)
"""What is said of files whose device or server is away; all else says something about the file."""
_NO_FLUSH: Final = frozenset({errno.EINVAL, errno.ENOTSUP})
"""What is said where directories cannot be flushed: names are kept there by other means, or by none."""
_MOST_LASTING: Final = 10_000
_UNFINISHED: Final = "#"
"""What names of files have that are not whole yet, and no key can have."""

Answer = TypeVar("Answer")


class StoreAway(Exception):
    """The store is not in its place; the text says what is there instead, and no path."""


class Directory:
    """Objects below a directory; keys are relative paths that lead nowhere else.

    Every call waits up to `patience` seconds for a store that is away, and raises StoreAway then;
    FileNotFoundError where there is no such object; OSError.
    """

    def __init__(self, path: Path, *, patience: float) -> None:
        self._path = path
        self._patience = patience
        self._mark: bytes | None = None
        self._lasting: set[str] = set()
        """Directories that this process has seen to: their own names are on the disk."""

    def make(self) -> None:
        """Make the store where there is none: for a process that begins, not for one that has used it."""
        new = [each for each in (self._path, *self._path.parents) if not each.exists()]
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in new:
            _flush_directory(str(each.parent))
        mark = self._path / MARK
        if not mark.exists():
            draft = self._path / f"{MARK}{_UNFINISHED}{secrets.token_hex(4)}"
            with draft.open("w") as file:
                file.write(secrets.token_hex(16))
                file.flush()
                os.fsync(file.fileno())
            try:
                # Whole, or not at all; of several processes that begin at once one makes it.
                mark.hardlink_to(draft)
            except FileExistsError:
                pass
            except OSError:  # a file system without such links
                draft.replace(mark)
            draft.unlink(missing_ok=True)
            _flush_directory(str(self._path))
        with self._root():
            pass

    async def put(self, key: str, content: bytes | bytearray) -> None:
        """Store an object as a whole. Once this has returned, a power cut does not take it back."""
        await self._done(lambda root: _put(root, key, content, self._lasting))

    async def get(self, key: str) -> bytes:
        """Return an object."""
        return await self._done(lambda root: _get(root, key))

    async def size(self, key: str) -> int:
        """Return an object's size in bytes."""
        return await self._done(lambda root: _size(root, key))

    async def read(self, key: str, start: int, end: int | None, chunk: int) -> AsyncGenerator[bytes]:
        """Yield an object from `start` to before `end`, or its own end, in pieces of `chunk` bytes.

        A store that goes away in the middle is waited for, and read on from there.
        """
        at = start
        while end is None or at < end:
            opened_at = at
            with await self._done(lambda root: _opened(root, key)) as file:
                while end is None or at < end:
                    wanted = chunk if end is None else min(chunk, end - at)
                    try:
                        data = await _to_its_end(partial(os.pread, file.fileno(), wanted, at))
                    except OSError as fault:
                        if fault.errno not in _GONE:
                            raise
                        if at == opened_at:  # it is there, and still this cannot be read
                            raise StoreAway(f"it went away: {fault.strerror}") from fault
                        break
                    if not data:
                        return
                    at += len(data)
                    yield data

    async def below(self, prefix: str) -> AsyncGenerator[list[tuple[str, int]]]:
        """Yield keys and sizes of all objects below a prefix, in one go: half a list would be a wrong one."""
        yield await self._done(lambda root: _below(root, prefix))

    async def names_below(self, prefix: str) -> list[str]:
        """Return the names of directories below a prefix, those without a whole object too."""
        return await self._done(lambda root: _names(root, prefix))

    async def delete(self, key: str) -> None:
        """Remove an object that may be gone already."""
        await self._done(lambda root: _delete(root, key))

    async def delete_below(self, prefix: str) -> int:
        """Remove all below a prefix, what is not whole too; return how many objects there were."""
        return await self._done(lambda root: _delete_below(root, prefix))

    async def delete_unfinished(self, prefix: str) -> None:
        """Remove what is not whole directly below a prefix, and not further below."""
        await self._done(lambda root: _delete_unfinished(root, prefix))

    async def _done(self, work: Callable[[int], Answer]) -> Answer:
        """Do a piece of work, which can be repeated, below the store as it is opened."""
        given_up = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await _to_its_end(lambda: self._once(work))
            except StoreAway:
                remaining = given_up - time.monotonic()
                if remaining <= 0:
                    raise
            await asyncio.sleep(min(pause, remaining))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(self, work: Callable[[int], Answer]) -> Answer:
        with self._root() as root:
            try:
                return work(root)
            except OSError as fault:
                if fault.errno in _GONE:
                    raise StoreAway(f"it went away: {fault.strerror}") from fault
                raise

    @contextmanager
    def _root(self) -> Iterator[int]:
        """Open the store's directory, if that is what is in its place."""
        try:
            root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as fault:
            raise StoreAway(f"its directory is not there: {fault.strerror}") from fault
        try:
            mark = _mark(root)
            if self._mark is None:
                self._mark = mark
            elif mark != self._mark:
                raise StoreAway("another store is in its place; if that is meant, start this process anew")
            yield root
        finally:
            os.close(root)


def _mark(root: int) -> bytes:
    try:
        mark = os.open(MARK, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
        try:
            found = os.read(mark, _MARK_BYTES)
        finally:
            os.close(mark)
    except OSError as fault:
        raise StoreAway("a directory is in its place that is not a store: is it not mounted?") from fault
    if not found:
        raise StoreAway("its mark is empty")
    return found


async def _to_its_end(work: Callable[[], Answer]) -> Answer:
    """Run in a thread; when cancelled, wait for its end first: nothing of it is under way afterwards."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not running.done():
            await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # looked at: nobody else will
        raise


def _put(root: int, key: str, content: bytes | bytearray, lasting: set[str]) -> None:
    parent = key.rpartition("/")[0]
    draft = f"{key}{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        file = _created(root, parent, draft, lasting)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(draft, key, src_dir_fd=root, dst_dir_fd=root)
        _flush_names(root, parent, lasting)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=root)
        raise


def _created(root: int, parent: str, draft: str, lasting: set[str]) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for _ in range(_MAKINGS):
        try:
            return os.open(draft, flags, 0o666, dir_fd=root)
        except FileNotFoundError:
            _make_directories(root, parent, lasting)
    return os.open(draft, flags, 0o666, dir_fd=root)


def _make_directories(root: int, path: str, lasting: set[str]) -> None:
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        directory = "/".join(parts[:count])
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, dir_fd=root)
            lasting.discard(directory)  # what was there before it has been removed


def _flush_names(root: int, path: str, lasting: set[str]) -> None:
    """Bring to the disk what is in a directory by which name, and the names of all above it.

    Not only of those that were made here: another process may have made one, and not have come to this.
    """
    _flush_directory(path or ".", root)
    while path and path not in lasting:
        above = path.rpartition("/")[0]
        _flush_directory(above or ".", root)
        if len(lasting) >= _MOST_LASTING:
            lasting.clear()
        lasting.add(path)
        path = above


def _flush_directory(path: str, root: int | None = None) -> None:
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, and what was in it
        return
    try:
        os.fsync(directory)
    except OSError as fault:
        if fault.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(directory)


def _opened(root: int, key: str) -> FileIO:
    try:
        return FileIO(key, opener=partial(os.open, dir_fd=root))
    except (IsADirectoryError, NotADirectoryError) as fault:  # it, or what should be its directory
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from fault


def _get(root: int, key: str) -> bytes:
    with _opened(root, key) as file:
        return file.readall()


def _size(root: int, key: str) -> int:
    with _opened(root, key) as file:
        return os.fstat(file.fileno()).st_size


def _below(root: int, prefix: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # of the prefix itself
        for path, _, files, at in os.fwalk(prefix, dir_fd=root, onerror=_unless_gone):
            for name in files:
                if _UNFINISHED not in name:
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found.append((f"{path}/{name}", os.stat(name, dir_fd=at).st_size))
    return found


def _names(root: int, prefix: str) -> list[str]:
    with _entries(root, prefix) as entries:
        return sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))


@contextmanager
def _entries(root: int, prefix: str) -> Iterator[Iterable[os.DirEntry[str]]]:
    """What is directly below a prefix; nothing where there is no such directory."""
    try:
        directory = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        yield ()
        return
    try:
        with os.scandir(directory) as entries:
            yield entries
    finally:
        os.close(directory)


def _delete(root: int, key: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(key, dir_fd=root)


def _delete_below(root: int, prefix: str) -> int:
    count = len(_below(root, prefix))
    shutil.rmtree(prefix, dir_fd=root, onerror=lambda _work, _path, said: _unless_gone(said[1]))
    return count


def _delete_unfinished(root: int, prefix: str) -> None:
    with _entries(root, prefix) as entries:
        drafts = [each.name for each in entries if _UNFINISHED in each.name]
    for name in drafts:
        _delete(root, f"{prefix}/{name}")


def _unless_gone(fault: BaseException) -> None:
    """Go on where something is gone, is no directory, or has just got something new in it."""
    if not isinstance(fault, FileNotFoundError | NotADirectoryError) and (
        not isinstance(fault, OSError) or fault.errno != errno.ENOTEMPTY
    ):
        raise fault
