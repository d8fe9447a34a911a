"""Facts of a volume's files, from the tar archive of it."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.tallies import Counting, digest_of
from activities.snapshots.reading import LONGEST, ContentBroken, Steps, Unknown
from workflows.domain.snapshot_facts import Facts, Format, Kind

_BLOCK: Final = 512
_ZEROS: Final = bytes(_BLOCK)
_PAX_RECORD: Final = re.compile(rb"(\d+) ([^=]+)=")
_FILES: Final = b"0\x007"
_LINK: Final = b"1"
_TYPES: Final = {
    b"2": "symlink",
    b"3": "character device",
    b"4": "block device",
    b"5": "directory",
    b"6": "fifo",
}


MOST_MEMBERS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A member as it was seen. `time`: when it was written; `digest`: of all else but its name and owner."""

    kind: str
    time: int
    digest: int


@dataclass(frozen=True, slots=True)
class _Member:
    """A member's header. `numbers`: those of a device."""

    path: bytes
    type: bytes
    mode: int
    size: int
    target: bytes
    numbers: bytes
    header_time: bytes
    pax_time: bytes

    @property
    def time(self) -> int:
        """When it was written, in whole seconds: some tars and file systems keep no parts of them."""
        if not self.pax_time:
            return _number(self.header_time)
        whole, _, part = self.pax_time.partition(b".")
        return int(whole) - (self.pax_time.startswith(b"-") and bool(part.strip(b"0")))

    @property
    def top(self) -> str:
        """The directory at the top of the volume that it lies in, or is."""
        first, separator, _ = self.path.partition(b"/")
        inside = separator or self.type == b"5"
        return (
            first.decode(errors="backslashreplace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            if inside
            else "."
        )


class TarObserver(Observer):
    """Counts and digests of paths, types, modes and contents.

    Owners and times are not in it: a container that does not run as root gets files of its own. Nor is the
    volume's own directory, which the cluster makes, nor `lost+found`.
    """

    format = Format.TAR

    def __init__(self) -> None:
        self._whole = Counting(Kind.FILES)
        # A file with two names comes once as a file and once as a link to it, and which is which is chance:
        # then names and contents are told apart.
        self._names = Counting(Kind.FILES)
        self._contents = Counting(Kind.CONTENTS)
        self._linked = False
        super().__init__()

    def _read(self) -> Steps[None]:
        given: dict[bytes, bytes] = {}
        while (block := (yield from self._take(_BLOCK))) != _ZEROS:
            member = _member(block, given)
            match member.type:
                case b"L" | b"K" | b"x":
                    if member.size > LONGEST:
                        raise Unknown("a header of the tar archive is larger than any name")
                    content = yield from self._take(member.size)
                    if member.type == b"x":
                        given.update(_pax(content))
                    else:
                        name = b"path" if member.type == b"L" else b"linkpath"
                        given[name] = content.rstrip(b"\0")
                case b"g":
                    yield from self._hand(member.size, lambda _piece: None)
                case _:
                    given = {}
                    yield from self._count(member)
            yield from self._take(-member.size % _BLOCK)
        if (yield from self._take(_BLOCK)) != _ZEROS:
            raise ContentBroken("the tar archive has no end")
        while not (yield from self._at_end()):
            self._at = len(self._data)

    def _count(self, member: _Member) -> Steps[None]:
        content = hashlib.sha256()
        yield from self._hand(member.size, content.update)
        if not member.path and member.type == b"5":
            self._note(member, "directory", 0)
        if not member.path or member.path.partition(b"/")[0] == b"lost+found":
            return
        if member.type not in _TYPES and member.type not in (_LINK, *(bytes((each,)) for each in _FILES)):
            raise Unknown(f"the tar archive has a member of type {member.type!r}")
        kind = _TYPES.get(member.type, "file")
        described = (
            member.path,
            kind,
            member.mode,
            member.target if kind == "symlink" else b"",
            member.numbers,
        )
        self._names.add(member.top, 1, 0, digest_of(*described))
        held = digest_of(member.size, content.digest())
        self._note(member, kind, digest_of(*described[1:], held))
        if member.type == _LINK:
            self._linked = True
        elif kind == "file":
            self._contents.add("", 1, member.size, held)
            self._whole.add(member.top, 1, member.size, digest_of(*described, held))
        else:
            self._whole.add(member.top, 1, 0, digest_of(*described))

    def _note(self, member: _Member, kind: str, digest: int) -> None:
        """Take note of a member, the volume's own directory too: for who wants more than facts."""

    def _found(self) -> Facts:
        return self._facts(*((self._names, self._contents) if self._linked else (self._whole,)))


class MembersObserver(TarObserver):
    """Remembers each member besides, by its path: memory for so many is needed, so there is a limit."""

    def __init__(self, most: int = MOST_MEMBERS) -> None:
        self.members: dict[bytes, Seen] = {}
        self.complete = True
        self._most = most
        super().__init__()

    def _note(self, member: _Member, kind: str, digest: int) -> None:
        if len(self.members) >= self._most:
            self.complete = False
        elif member.type == _LINK and (first := self.members.get(_below(member.target))) is not None:
            self.members[member.path] = first
        else:
            self.members[member.path] = Seen(kind, member.time, digest)


def _member(block: bytes, given: dict[bytes, bytes]) -> _Member:
    """Read a header; `given` is what those before it say of this member. Raises ContentBroken."""
    blank = block[:148] + b" " * 8 + block[156:]
    if sum(blank) != _number(block[148:156]):
        raise ContentBroken("a header of the tar archive is damaged")
    type_ = block[156:157]
    path = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345] and type_ not in (b"x", b"g"):
        path = _text(block[345:500]) + b"/" + path
    path = given.get(b"path", path)
    if type_ in (b"0", b"\0") and path.endswith(b"/"):
        type_ = b"5"
    holds = type_ in (b"L", b"K", b"x", b"g") or type_ in (b"0", b"\0", b"7")
    # A link's size is that of what it points to, in some archives; nothing follows it all the same.
    size = int(given[b"size"]) if b"size" in given and holds else _number(block[124:136])
    return _Member(
        path=_below(path),
        type=type_,
        mode=_number(block[100:108]) & 0o7777,
        size=size if type_ not in (_LINK, *_TYPES) else 0,
        target=given.get(b"linkpath", _text(block[157:257])),
        numbers=block[329:345] if type_ in (b"3", b"4") else b"",
        header_time=block[136:148],
        pax_time=given.get(b"mtime", b""),
    )


def _below(path: bytes) -> bytes:
    """Return a path as seen from the top of the volume; empty for the top itself."""
    path = path.strip(b"/")
    return b"" if path == b"." else path.removeprefix(b"./")


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Read the records `<length> <name>=<value>\\n`. Raises ContentBroken."""
    records, at = {}, 0
    while at < len(content):
        start = _PAX_RECORD.match(content, at)
        if start is None or int(start[1]) <= start.end() - at:
            raise ContentBroken("an extended header of the tar archive is damaged")
        end = at + int(start[1])
        records[start[2]] = content[start.end() : end - 1]
        at = end
    return records


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Read a number in octal digits, or, where it is too large for them, in base 256."""
    if field[0] in (0o200, 0o377):
        return int.from_bytes(field[1:])
    return int(_text(field).strip() or b"0", 8)
