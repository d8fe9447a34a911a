"""The files of a fetched commit that a discovery looks at, read from the object store."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from api.discover.addresses import RepositoryRefused
from api.discover.git import Repository
from workflows.domain.discover_files import LARGEST_ALL, LARGEST_FILE, MOST_FILES, wanted
from workflows.domain.discover_found import SourceFile

MOST_LISTED: Final = 50_000
"""Files of a repository, or of the directory of it that was named."""
_LISTING_BYTES: Final = 16 * 1024 * 1024
_ENTRY: Final = re.compile(rb"([0-7]{6}) (blob|commit|tree) ([0-9a-f]{40,64})\t(.*)", re.DOTALL)
_LINK: Final = b"120000"
_LFS: Final = "version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: bytes
    blob: str
    path: str


async def read_files(repository: Repository, path: str) -> tuple[list[SourceFile], str | None]:
    """The files below a directory of the commit, by their paths in it, and the one file if `path` is one.

    Raises RepositoryRefused when there is no such path, or too much below it.
    """
    entries = await _entries(repository, path)
    only = path if any(entry.path == path for entry in entries) else None
    directory = path
    if only is not None:
        # What a Compose file names stands beside it.
        directory = posixpath.dirname(path)
        entries = await _entries(repository, directory, deep=False)
    start = len(directory) + 1 if directory else 0
    chosen = [entry for entry in entries if wanted(entry.path[start:]) or entry.path == only]
    if len(chosen) > MOST_FILES:
        raise RepositoryRefused(
            f"{len(chosen)} files might describe services, at most {MOST_FILES} are read",
            "name the directory that matters",
            place="path",
        )
    regular = [entry for entry in chosen if entry.mode.startswith(b"100")]
    texts = await _contents(repository, regular)
    files = [SourceFile(entry.path, None, _strange(entry)) for entry in chosen if entry not in regular]
    return [*files, *texts], only


def _strange(entry: _Entry) -> str:
    return (
        "is a symbolic link, and those are not followed"
        if entry.mode == _LINK
        else "is a submodule, and those are not fetched"
    )


async def _entries(repository: Repository, path: str, *, deep: bool = True) -> list[_Entry]:
    # --full-tree and literal pathspecs: the path is a place in the commit, whatever it looks like.
    arguments = (
        "--literal-pathspecs",
        "ls-tree",
        *(("-r",) if deep else ()),
        "-z",
        "--full-tree",
        "FETCH_HEAD",
    )
    given = (path if deep else f"{path}/",) if path else ()
    ended = await repository.run(*arguments, *given, most=_LISTING_BYTES)
    raw = ended.stdout.split(b"\0")
    if ended.cut or len(raw) > MOST_LISTED:
        raise RepositoryRefused(
            f"it has more than {MOST_LISTED:,} files", "name the directory that matters", place="path"
        )
    if ended.code != 0:
        raise RepositoryRefused("what was fetched is no commit with files", place="ref")
    entries = []
    for line in raw:
        match = _ENTRY.fullmatch(line)
        if match is not None and match[2] != b"tree":
            entries.append(_Entry(match[1], match[3].decode(), match[4].decode("utf-8", "backslashreplace")))
    if not entries and path:
        raise RepositoryRefused(f"has no files at {path}", place="path")
    return entries


async def _contents(repository: Repository, entries: Sequence[_Entry]) -> list[SourceFile]:
    """The texts of files, in their order; what is too large is said to be, without being read."""
    asked = "".join(f"{entry.blob}\n" for entry in entries).encode()
    sized = await repository.run("cat-file", "--batch-check=%(objectsize)", given=asked, most=1024 * 1024)
    sizes = [int(line) if line.isdigit() else None for line in sized.stdout.splitlines()]
    if len(sizes) != len(entries):
        raise RepositoryRefused("what was fetched cannot be read")
    files: list[SourceFile] = []
    total = 0
    chosen: list[_Entry] = []
    for entry, size in zip(entries, sizes, strict=True):
        if size is None or size > LARGEST_FILE:
            files.append(SourceFile(entry.path, None, f"is larger than {LARGEST_FILE >> 10} KiB"))
        elif total + size > LARGEST_ALL:
            files.append(
                SourceFile(entry.path, None, f"was not read: together they exceed {LARGEST_ALL >> 20} MiB")
            )
        else:
            total += size
            chosen.append(entry)
    asked = "".join(f"{entry.blob}\n" for entry in chosen).encode()
    read = await repository.run("cat-file", "--batch", given=asked, most=total + 256 * (len(chosen) + 1))
    place = 0
    for entry in chosen:
        head, _, _ = read.stdout[place : place + 256].partition(b"\n")
        number = head.rsplit(b" ", 1)[-1]
        if not number.isdigit():
            raise RepositoryRefused("what was fetched cannot be read")
        size = int(number)
        start = place + len(head) + 1
        files.append(_text(entry.path, read.stdout[start : start + size]))
        place = start + size + 1
    return files


def _text(path: str, content: bytes) -> SourceFile:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return SourceFile(path, None, "is not UTF-8 text")
    if text.startswith(_LFS):
        return SourceFile(path, None, "is kept in Git LFS, and its content is not fetched")
    return SourceFile(path, text)
