"""Facts of a Redis, from its RDB file.

    "REDIS" | version, 4 digits | auxiliary fields | database, its keys | ... | 0xFF | CRC-64

A collection has many encodings, and which one it has may change when it is loaded: its elements are compared,
not its bytes, and without their order where that has no meaning.
"""

from struct import Struct
from typing import Final

from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.observer import LONGEST, ContentBroken, Observer, Steps, Unknown
from activities.snapshots.facts.packed import integers, listpack, uncompressed, ziplist
from activities.snapshots.facts.tallies import Counting, Digest, digest_of, new_digest, number, sum_of
from workflows.domain.snapshot_facts import Facts, Format, Kind

_OLDEST, _NEWEST = 6, 12
_EOF_MARK_BYTES: Final = 40
"""What `redis-cli --rdb -` leaves at the end: by it a server that does not know the size says where it is."""
_DOUBLE: Final = Struct("<d")
_STRING: Final = 0
_LZF: Final = 3
_PLAIN: Final = 1
"""A node of a list that is one element."""
_PACKED: Final = {10: ziplist, 11: integers, 12: ziplist, 13: ziplist, 14: ziplist}
"""How the elements of a value are found by its type; a listpack where none is named here."""
_STREAMS: Final = {15: 1, 19: 2, 21: 3}


class RdbObserver(Observer):
    """Counts and digests of keys by database: those that stay, and those that expire after the dump.

    A key that had expired when the dump was made is not counted, whether or not the server had noticed.
    """

    format = Format.RDB

    def __init__(self) -> None:
        self._keys: dict[int, list[int]] = {}
        self._expiring: dict[int, list[int]] = {}
        self._libraries = Counting(Kind.LIBRARIES)
        self._made_ms: int | None = None
        self._expires_ms: int | None = None
        self._crc = Crc64()
        self._summed = 0
        super().__init__()

    def _read(self) -> Steps[None]:
        yield from self._start()
        database, expires = 0, None
        while (code := (yield from self._code(database if expires is None else None))) != 0xFF:
            match code:
                case 0xFE:
                    database = yield from self._length()
                case 0xFD:
                    expires = int.from_bytes((yield from self._take(4)), "little") * 1000
                case 0xFC:
                    expires = int.from_bytes((yield from self._take(8)), "little")
                case 0xFB | 0xF4:  # sizes of the tables that are to come, of the whole and of a slot
                    for _ in range(2 if code == 0xFB else 3):
                        yield from self._length()
                case 0xFA:
                    yield from self._auxiliary()
                case 0xF9:  # how often a key was used
                    yield from self._take(1)
                case 0xF8:  # how long it was not
                    yield from self._length()
                case 0xF5:
                    library = new_digest()
                    yield from self._raw(library)
                    self._libraries.add("", 1, 0, number(library))
                case _:
                    self._count(database, 1, (yield from self._key(code)), expires)
                    expires = None
        yield from self._checksum()

    def _start(self) -> Steps[None]:
        start = yield from self._take(9)
        if start[:5] != b"REDIS" or not start[5:].isdigit():
            raise ContentBroken("it is no RDB file")
        if not _OLDEST <= int(start[5:]) <= _NEWEST:
            raise Unknown(f"an RDB file of version {int(start[5:])}")

    def _auxiliary(self) -> Steps[None]:
        name = yield from self._text()
        value = yield from self._text()
        if name == b"ctime" and value.isdigit():
            self._made_ms = int(value) * 1000

    def _code(self, database: int | None) -> Steps[int]:
        """Return what comes next; simple keys before it are counted, into a database where they may come."""
        if database is not None:
            self._simple_keys(database)
        return (yield from self._take(1))[0]

    def _simple_keys(self, database: int) -> None:
        """Count at once what is there next of strings that do not expire and are not compressed.

        Large stores are full of them.
        """
        data, at, last, keys = self._data, self._at, len(self._data) - 2, []
        while at <= last and data[at] == _STRING:
            end = at + 1
            for _ in range(2):
                if end > last or (first := data[end]) > 0x7F:
                    end = 0
                    break
                end += 1 + first if first < 0x40 else 2 + ((first & 0x3F) << 8 | data[end + 1])
            if not at < end <= last:
                break
            keys.append(data[at + 1 : end])
            at = end
        self._at = at
        if keys:
            self._count(database, len(keys), sum_of(keys), None)

    def _count(self, database: int, keys: int, value: int, expires: int | None) -> None:
        kept = self._keys
        if expires is not None:
            if self._made_ms is not None and expires <= self._made_ms:
                return
            self._expires_ms = min(expires, self._expires_ms or expires)
            kept, value = self._expiring, digest_of(value, expires)
        sums = kept.setdefault(database, [0, 0])
        sums[0] += keys
        sums[1] += value

    def _key(self, code: int) -> Steps[int]:
        """Read a key and its value; return the digest of both."""
        key = new_digest()
        yield from self._raw(key)
        match code:
            case 0:
                yield from self._raw(key)
                return number(key)
            case 1 | 10 | 14 | 18:
                kind, value = "list", (yield from self._list(code))
            case 2 | 11 | 20:
                kind, value = "set", (yield from self._members(code, is_packed=code != 2, fields=1))
            case 4 | 13 | 16:
                kind, value = "hash", (yield from self._members(code, is_packed=code != 4, fields=2))
            case 3 | 5 | 12 | 17:
                kind, value = "zset", (yield from self._scores(code))
            case 15 | 19 | 21:
                kind, value = "stream", (yield from self._stream(_STREAMS[code]))
            case _:
                raise Unknown(f"an RDB file with something of type {code}")
        return digest_of(number(key), kind, value)

    def _list(self, code: int) -> Steps[int]:
        elements, count = new_digest(), 0
        for _ in range(1 if code == 10 else (yield from self._length())):
            plain = code == 1 or (code == 18 and (yield from self._length()) == _PLAIN)
            for element in ((yield from self._text()),) if plain else (yield from self._packed(code)):
                elements.update(b"%d:" % len(element))
                elements.update(element)
                count += 1
        return digest_of(count, number(elements))

    def _members(self, code: int, *, is_packed: bool, fields: int) -> Steps[int]:
        """Read a set, or a hash, whose members have a value: two fields each."""
        count = total = 0
        if is_packed:
            texts = yield from self._packed(code)
            for start in range(0, len(texts), fields):
                total += digest_of(*texts[start : start + fields])
            count = len(texts) // fields
        else:
            count = yield from self._length()
            for _ in range(count):
                member = yield from self._text()
                total += digest_of(member, (yield from self._text())) if fields == 2 else digest_of(member)
        return digest_of(count, total)

    def _scores(self, code: int) -> Steps[int]:
        count = total = 0
        if code in (12, 17):
            texts = yield from self._packed(code)
            for member, score in zip(texts[::2], texts[1::2], strict=True):
                total += digest_of(member, _DOUBLE.pack(float(score)))
            count = len(texts) // 2
        else:
            count = yield from self._length()
            for _ in range(count):
                member = yield from self._text()
                total += digest_of(member, (yield from self._double(code)))
        return digest_of(count, total)

    def _double(self, code: int) -> Steps[bytes]:
        if code == 5:
            return (yield from self._take(8))
        length = (yield from self._take(1))[0]
        special = {253: b"nan", 254: b"inf", 255: b"-inf"}
        text = special[length] if length in special else (yield from self._take(length))
        return _DOUBLE.pack(float(text))

    def _stream(self, version: int) -> Steps[int]:
        """Read a stream: entries, groups and what waits in them. Not when somebody read last."""
        whole = new_digest()
        for _ in range((yield from self._length())):
            for _ in range(2):  # the first id, and entries from there on
                yield from self._raw(whole)
        for _ in range(
            3 if version == 1 else 8
        ):  # length, last and first id, highest one deleted, how many ever
            whole.update(b"%d," % (yield from self._length()))
        for _ in range((yield from self._length())):
            yield from self._raw(whole)
            for _ in range(2 if version == 1 else 3):  # last id handed out, how many were
                whole.update(b"%d," % (yield from self._length()))
            for _ in range((yield from self._length())):
                whole.update((yield from self._take(16)))
                yield from self._take(8)
                whole.update(b"%d," % (yield from self._length()))
            for _ in range((yield from self._length())):
                yield from self._raw(whole)
                yield from self._take(8 if version < 3 else 16)
                for _ in range((yield from self._length())):
                    whole.update((yield from self._take(16)))
        return number(whole)

    def _packed(self, code: int) -> Steps[list[bytes]]:
        data = yield from self._text()
        if len(data) > LONGEST:
            raise Unknown("an RDB file with a very large packed value")
        return _PACKED.get(code, listpack)(data)

    def _checksum(self) -> Steps[None]:
        self._sum_up()
        given = int.from_bytes((yield from self._take(8)), "little")
        if given not in (0, self._crc.value):
            raise ContentBroken("the RDB file has another checksum than its own")
        if not (yield from self._at_end()):
            yield from self._take(_EOF_MARK_BYTES)

    def _length(self) -> Steps[int]:
        length, encoding = yield from self._size()
        if encoding is not None:
            raise ContentBroken("the RDB file has a string where a number belongs")
        return length

    def _size(self) -> Steps[tuple[int, int | None]]:
        """Return a length, and None; or 0, and how the string is encoded."""
        size, encoding, _ = yield from self._head()
        return size, encoding

    def _head(self) -> Steps[tuple[int, int | None, bytes]]:
        """Return what `_size` does, and the bytes that say it."""
        start = yield from self._take(1)
        first, more = start[0], b""
        match first >> 6:
            case 0:
                return first, None, start
            case 1:
                more = yield from self._take(1)
                return (first & 0x3F) << 8 | more[0], None, start + more
            case 2:
                more = yield from self._take(8 if first & 1 else 4)
                return int.from_bytes(more), None, start + more
        return 0, first & 0x3F, start

    def _raw(self, digest: Digest) -> Steps[None]:
        """Digest a string as it is written, which follows from its content; nothing is kept of it."""
        length, encoding, head = yield from self._head()
        digest.update(head)
        if encoding is not None and encoding < _LZF:
            length = 1 << encoding
        elif encoding is not None:
            length, _, head = yield from self._head()
            digest.update(head)
            digest.update((yield from self._head())[2])
        yield from self._hand(length, digest.update)

    def _text(self) -> Steps[bytes]:
        """Return a string's content; of a very long one its beginning, length and digest."""
        length, encoding = yield from self._size()
        full = length
        if encoding is not None and encoding < _LZF:
            data = yield from self._take(1 << encoding)
            return b"%d" % int.from_bytes(data, "little", signed=True)
        if encoding is not None:
            length = yield from self._length()
            full = yield from self._length()
        if max(length, full) > LONGEST:
            digest = new_digest(b"%d:" % full)
            yield from self._hand(length, digest.update)
            return bytes(LONGEST) + digest.digest()
        data = yield from self._take(length)
        return data if encoding is None else uncompressed(data, full)

    def _drop(self) -> None:
        self._sum_up()
        super()._drop()
        self._summed = 0

    def _sum_up(self) -> None:
        self._crc.update(self._data[self._summed : self._at])
        self._summed = self._at

    def _found(self) -> Facts:
        counted = [self._libraries]
        for kind, databases in ((Kind.KEYS, self._keys), (Kind.EXPIRING_KEYS, self._expiring)):
            counting = Counting(kind)
            for database, (count, value) in databases.items():
                counting.add(str(database), count, 0, value)
            counted.append(counting)
        times = {"at_ms": self._made_ms, "expires_ms": self._expires_ms}
        return self._facts(*counted).model_copy(update=times)
