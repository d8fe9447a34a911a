"""Running git on a repository that nobody vouches for: one fetch, no checkout, bounded in every direction.

Nothing is checked out: files are read from the object store by their names, so that there are no links to
follow, no filters, hooks or submodules to run, and no paths of somebody else's choice on our disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from api.discover.addresses import Address, RepositoryRefused, RepositoryUrl
from workflows.domain.discover_files import LARGEST_FILE

OLDEST_GIT: Final = (2, 37)
"""Before, git knew no `http.curloptResolve`, and would look the host up again."""
_PREFIX: Final = "perdure-discover-"
_STALE_SECONDS: Final = 3_600
_WATCH_SECONDS: Final = 0.1
_MEMORY_KIB: Final = 2 * 1024 * 1024
_STDERR_BYTES: Final = 16 * 1024
_LIMITED: Final = 'ulimit -v "$1" 2>/dev/null; ulimit -c 0 2>/dev/null; shift; exec "$@"'
# A repository without extensions and remotes: what is missing in it is missing, and not fetched on demand.
_BARE_CONFIG: Final = "[core]\n\tbare = true\n"
_OPTIONS: Final = (
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=20",
    "http.proxy=",
    "credential.helper=",
    "core.askPass=",
    "core.hooksPath=/dev/null",
    "core.bigFileThreshold=1m",
    "transfer.unpackLimit=1",
    "transfer.bundleURI=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "pack.threads=1",
)
_VERSION: Final = re.compile(r"git version ([0-9]+)\.([0-9]+)")
_REDIRECTED: Final = re.compile(r"(?:returned error: 30[0-9]|redirect)", re.IGNORECASE)
_NO_SUCH_REF: Final = re.compile("find remote ref")
_SMART: Final = re.compile(r"packet: +\S+< (?:# service=git-upload-pack|version [12])")
_PRIVATE: Final = ("could not read Username", "could not read Password", "Authentication failed", "error: 40")


class GitMissing(Exception):
    """There is no git here that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one fetch may take: seconds of time, bytes on disk."""

    seconds: float
    size: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `cut`: it was stopped because it wrote more than was to be read."""

    code: int
    stdout: bytes
    stderr: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Repository:
    """A fetched commit, in a directory that goes when the context ends."""

    directory: Path

    async def run(self, *arguments: str, given: bytes = b"", most: int = 64 * 1024) -> Ended:
        """Run a command that needs no network on it; `most` bounds the bytes of its output."""
        return await _run(self.directory, "", arguments, given=given, most=most)


@asynccontextmanager
async def fetched(
    url: RepositoryUrl, found: Sequence[Address], ref: str | None, bounds: Bounds
) -> AsyncIterator[Repository]:
    """Fetch one commit from the addresses that were judged. The directory goes whatever happens.

    Raises RepositoryRefused when it cannot be had within the bounds, GitMissing when git cannot do it.
    """
    await _check_version()
    directory = Path(await asyncio.to_thread(_new_directory))
    try:
        repository = Repository(directory)
        await repository.run("init", "--quiet", "--bare", "--template=", ".")
        await _fetch(repository, url, found, ref, bounds)
        await asyncio.to_thread((directory / "config").write_text, _BARE_CONFIG)
        yield repository
    finally:
        # Not awaited in the event loop's good time: a cancelled request cannot be cancelled out of it.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))


async def _check_version() -> None:
    ended = await _run(Path(tempfile.gettempdir()), "", ("version",))
    match = _VERSION.match(ended.stdout.decode("utf-8", "replace"))
    if match is None or (int(match[1]), int(match[2])) < OLDEST_GIT:
        raise GitMissing(f"git is older than {'.'.join(map(str, OLDEST_GIT))} where the API runs")


def _new_directory() -> str:
    """A new directory; those that a killed process left are taken away."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.stat().st_uid == os.getuid() and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=_PREFIX)


async def _fetch(
    repository: Repository, url: RepositoryUrl, found: Sequence[Address], ref: str | None, bounds: Bounds
) -> None:
    listed = ",".join(f"[{address}]" if address.version == 6 else str(address) for address in found)
    resolved = ("-c", f"http.curloptResolve={url.host}:{url.port}:{listed}")
    arguments = (
        *resolved,
        "fetch",
        "--quiet",
        "--depth=1",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-commit-graph",
        # Servers that know it leave out what would not be read anyway; others send everything.
        f"--filter=blob:limit={LARGEST_FILE + 1}",
        "--",
        str(url),
        ref or "HEAD",
    )
    fetching = asyncio.create_task(_run(repository.directory, url.scheme, arguments))
    watching = asyncio.create_task(_watch(repository.directory, bounds.size))
    talks = True
    try:
        async with asyncio.timeout(bounds.seconds):
            await asyncio.wait({fetching, watching}, return_when=asyncio.FIRST_COMPLETED)
            if fetching.done() and _NO_SUCH_REF.search(fetching.result().stderr):
                talks = await _talks(repository, url, resolved)
    except TimeoutError as error:
        raise RepositoryRefused(
            f"it could not be fetched in {bounds.seconds:g} seconds", "send the files instead"
        ) from error
    finally:
        for task in (fetching, watching):
            task.cancel()
        ended, _ = await asyncio.gather(fetching, watching, return_exceptions=True)
    if isinstance(ended, Ended):
        if ended.code != 0:
            page = not talks or "info/refs not valid" in ended.stderr
            raise _no_repository() if page else _refusal(ended.stderr, url, ref)
        if await asyncio.to_thread(_size, repository.directory) <= bounds.size:
            return
    elif not isinstance(ended, asyncio.CancelledError):
        raise ended
    raise RepositoryRefused(
        f"it is larger than {bounds.size / 1024**2:g} MiB, its newest commit alone", "send the files instead"
    )


async def _watch(directory: Path, largest: int) -> None:
    """Return when the directory is larger than that."""
    while await asyncio.to_thread(_size, directory) <= largest:  # noqa: ASYNC110 - a directory tells nobody
        await asyncio.sleep(_WATCH_SECONDS)


def _size(directory: Path) -> int:
    total = 0
    for root, _, files in os.walk(directory):
        for file in files:
            with contextlib.suppress(OSError):
                total += (Path(root) / file).lstat().st_size
    return total


async def _talks(repository: Repository, url: RepositoryUrl, resolved: Sequence[str]) -> bool:
    """Whether the server speaks git's smart protocol.

    To any other git falls back to reading files, and a page, an empty one above all, then looks to it like a
    repository without branches.
    """
    asked = await _run(
        repository.directory,
        url.scheme,
        (*resolved, "ls-remote", "--", str(url), "HEAD"),
        more={"GIT_TRACE_PACKET": "1"},
    )
    return _SMART.search(asked.stderr) is not None


def _no_repository() -> RepositoryRefused:
    return RepositoryRefused(
        "there is no git repository at this address, or its server does not speak the smart protocol",
        "give the URL to clone from, not that of a page about the project",
    )


def _refusal(stderr: str, url: RepositoryUrl, ref: str | None) -> RepositoryRefused:
    """Why a fetch failed, in words of ours: what the server says is not repeated."""
    if _NO_SUCH_REF.search(stderr) or "not our ref" in stderr:
        return RepositoryRefused(
            "the repository is empty" if ref is None else f"has no branch, tag or commit {ref}",
            place="url" if ref is None else "ref",
        )
    if _REDIRECTED.search(stderr):
        return RepositoryRefused(
            "the server leads to another address, which is not followed", "give the URL that it leads to"
        )
    if any(sign in stderr for sign in _PRIVATE) or "not found" in stderr:
        return RepositoryRefused(
            "there is no such repository, or it is not public", "send the files of a private one instead"
        )
    if "shallow" in stderr:
        return RepositoryRefused("the server cannot give a single commit", "send the files instead")
    if "ertificate" in stderr or "SSL" in stderr:
        return RepositoryRefused(f"the certificate of {url.host} is not trusted")
    return RepositoryRefused(f"it could not be fetched from {url.host}")


async def _run(
    directory: Path,
    protocol: str,
    arguments: Sequence[str],
    *,
    given: bytes = b"",
    most: int = 64 * 1024,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Ended:
    """Run git with nothing of our surroundings but `more` variables; all that it started ends with this."""
    program = shutil.which("git")
    if program is None:
        raise GitMissing("git is not installed where the API runs")
    options = [part for option in _OPTIONS for part in ("-c", option)]
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _LIMITED, "sh", str(_MEMORY_KIB), program, *options, *arguments),
        cwd=directory,
        env={
            "PATH": f"{Path(program).parent}{os.pathsep}{os.defpath}",
            "HOME": str(directory),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": protocol,
            "GIT_CEILING_DIRECTORIES": str(directory.parent),
            "GIT_LFS_SKIP_SMUDGE": "1",
            **more,
        },
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("the process has no pipes")
    feeding = asyncio.create_task(_feed(process.stdin, given))
    hearing = asyncio.create_task(_read(process.stderr, _STDERR_BYTES, to_the_end=True))
    try:
        stdout, cut = await _read(process.stdout, most, to_the_end=False)
        if cut:
            _kill(process)
        stderr, _ = await hearing
        code = await process.wait()
    finally:
        # What git started may outlive it, and then has its end of the pipe still.
        if process.returncode is None or not hearing.done():
            _kill(process)
        for task in (feeding, hearing):
            task.cancel()
        await asyncio.gather(feeding, hearing, return_exceptions=True)
        await asyncio.shield(process.wait())
    return Ended(code, stdout, stderr.decode("utf-8", "replace"), cut)


async def _feed(stdin: asyncio.StreamWriter, given: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        stdin.write(given)
        await stdin.drain()
    stdin.close()


async def _read(stream: asyncio.StreamReader, most: int, *, to_the_end: bool) -> tuple[bytes, bool]:
    """At most so many bytes, and whether there were more; `to_the_end` reads on and drops them."""
    parts: list[bytes] = []
    left = most
    while chunk := await stream.read(64 * 1024):
        if left > 0:
            parts.append(chunk[:left])
        left -= len(chunk)
        if left < 0 and not to_the_end:
            break
    return b"".join(parts), left < 0


def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and what it started, which are a session of their own; one of them has to be there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
