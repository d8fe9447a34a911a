"""Facts of an RDB file of Redis."""

import random
import struct

import pytest

from activities.snapshots.facts import ContentBroken
from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.packed import integers, listpack, uncompressed, ziplist
from tests.helpers.fact_streams import RDB, facts, flipped, names
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_facts import Kind, differences


def test_what_an_rdb_file_holds() -> None:
    found = facts(RDB, DataStore.REDIS)
    assert names(found, Kind.KEYS) == {"0": 12, "3": 1}
    assert names(found, Kind.EXPIRING_KEYS) == {"0": 1}
    assert next(each.count for each in found.tallies if each.kind is Kind.LIBRARIES) == 1
    assert found.at_ms is not None
    assert found.expires_ms is not None
    assert 0 < found.expires_ms - found.at_ms <= 100_000_000
    # Without the mark that the tool leaves behind it.
    assert facts(RDB[:-40], DataStore.REDIS) == found


def test_an_rdb_file_is_checked_against_its_checksum() -> None:
    with pytest.raises(ContentBroken, match="checksum"):
        facts(RDB.replace(b"database", b"datebase"), DataStore.REDIS)
    with pytest.raises(ContentBroken, match="behind its end"):
        facts(RDB + b"x", DataStore.REDIS)
    for at in range(9, len(RDB) - 41, 13):
        assert broken_or_unread(flipped(RDB, at)), at


def broken_or_unread(stream: bytes) -> bool:
    """Whether an RDB file has no facts: some changes make something of it that is not known."""
    try:
        return bool(facts(stream, DataStore.REDIS).unread)
    except ContentBroken:
        return True


def rdb(*keys: bytes, version: bytes = b"0010") -> bytes:
    """An RDB file without a checksum."""
    return b"REDIS" + version + b"\xfe\0" + b"".join(keys) + b"\xff" + bytes(8)


def text(content: bytes) -> bytes:
    return bytes((len(content),)) + content


def packed(*elements: bytes) -> bytes:
    """A listpack of short strings."""
    body = b"".join(bytes((0x80 | len(each),)) + each + bytes((len(each) + 1,)) for each in elements)
    return text(struct.pack("<IH", len(body) + 7, len(elements)) + body + b"\xff")


def zipped(*elements: bytes) -> bytes:
    """A ziplist of short strings."""
    body, before = b"", 0
    for each in elements:
        body += bytes((before, len(each))) + each
        before = len(each) + 2
    return text(struct.pack("<IIH", len(body) + 11, 0, len(elements)) + body + b"\xff")


@pytest.mark.parametrize(
    "forms",
    [
        (
            b"\2\1s\2" + text(b"a") + text(b"b"),
            b"\2\1s\2" + text(b"b") + text(b"a"),
            b"\x14\1s" + packed(b"b", b"a"),
        ),
        (b"\2\1s\2\xc0\5\xc1\x39\x30", b"\x0b\1s" + text(struct.pack("<IIhh", 2, 2, 12345, 5))),
        (
            b"\4\1h\2" + text(b"f") + text(b"1") + text(b"g") + text(b"2"),
            b"\x10\1h" + packed(b"g", b"2", b"f", b"1"),
            b"\x0d\1h" + zipped(b"g", b"2", b"f", b"1"),
        ),
        (
            b"\5\1z\2" + text(b"m") + struct.pack("<d", 1.5) + text(b"n") + struct.pack("<d", float("-inf")),
            b"\3\1z\2" + text(b"n") + b"\xff" + text(b"m") + text(b"1.5"),
            b"\x11\1z" + packed(b"n", b"-inf", b"m", b"1.5"),
            b"\x0c\1z" + zipped(b"n", b"-inf", b"m", b"1.5"),
        ),
        (
            b"\1\1l\3" + text(b"x") + text(b"y") + text(b"z"),
            b"\x0a\1l" + zipped(b"x", b"y", b"z"),
            b"\x0e\1l\2" + zipped(b"x") + zipped(b"y", b"z"),
            b"\x12\1l\2\2" + packed(b"x", b"y") + b"\1" + text(b"z"),
        ),
    ],
    ids=["set", "integers", "hash", "zset", "list"],
)
def test_the_form_of_a_collection_does_not_matter(forms: tuple[bytes, ...]) -> None:
    found = [facts(rdb(form), DataStore.REDIS) for form in forms]
    assert found == found[:1] * len(forms)
    other = forms[0][:-1] + bytes((forms[0][-1] ^ 1,))
    assert facts(rdb(other), DataStore.REDIS) != found[0]


def test_the_order_of_a_list_matters() -> None:
    one, other = (b"\1\1l\2" + text(a) + text(b) for a, b in ((b"x", b"y"), (b"y", b"x")))
    assert facts(rdb(one), DataStore.REDIS) != facts(rdb(other), DataStore.REDIS)


def expiring(at_ms: int, made: int, key: bytes = b"k") -> bytes:
    """A file made `made` seconds after 1970, with a key that stays and one that expires."""
    ctime = b"\xfa" + text(b"ctime") + text(b"%d" % made)
    return rdb(
        ctime,
        b"\0" + text(b"stays") + text(b"v"),
        b"\xfc" + struct.pack("<Q", at_ms),
        b"\0" + text(key) + text(b"v"),
    )


def test_keys_that_expire_are_compared_as_long_as_they_are_there() -> None:
    recorded = facts(expiring(9_000_000, 1000), DataStore.REDIS)
    assert names(recorded, Kind.EXPIRING_KEYS) == {"0": 1}
    lost = rdb(b"\xfa" + text(b"ctime") + text(b"2000"), b"\0" + text(b"stays") + text(b"v"))
    assert differences(recorded, facts(lost, DataStore.REDIS)) == (
        "database 0: recorded with 1 keys that expire, not found",
    )
    for late in (
        facts(lost.replace(b"2000", b"9000"), DataStore.REDIS),
        facts(expiring(9_000_000, 9000), DataStore.REDIS),
    ):
        assert differences(recorded, late) == ()
    # Gone by its own clock when the dump was made, though the server had not noticed.
    assert names(facts(expiring(900_000, 1000), DataStore.REDIS), Kind.EXPIRING_KEYS) == {}


def timed(made: int, *fields: tuple[bytes, int]) -> list[bytes]:
    """Both forms of a hash whose fields expire by themselves, some never (0), in a file made then."""
    ctime = b"\xfa" + text(b"ctime") + text(b"%d" % made)
    first = min((expires for _, expires in fields if expires), default=0)
    start = text(b"h") + struct.pack("<Q", first)
    apart = b"".join(
        (b"\x81" + (expires - first + 1).to_bytes(8) if expires else b"\0") + text(name) + text(b"v")
        for name, expires in fields
    )
    together = packed(*(each for name, expires in fields for each in (name, b"v", b"%d" % expires)))
    return [
        rdb(ctime, b"\x18" + start + bytes((len(fields),)) + apart, version=b"0012"),
        rdb(ctime, b"\x19" + start + together, version=b"0012"),
    ]


def test_fields_of_a_hash_that_expire_are_a_key_that_does() -> None:
    one, other = (facts(each, DataStore.REDIS) for each in timed(1000, (b"f", 0), (b"g", 9_000_000)))
    assert one == other
    assert (names(one, Kind.EXPIRING_KEYS), one.expires_ms) == ({"0": 1}, 9_000_000)
    assert names(one, Kind.KEYS) == {"0": 1}
    changed = facts(timed(1000, (b"f", 0), (b"h", 9_000_000))[0], DataStore.REDIS)
    assert len(differences(one, changed)) == 1
    # Gone by its own clock when the dump was made, though the server had not noticed.
    plain = facts(rdb(b"\xfa\5ctime\0049000", b"\4\1h\1\1f\1v"), DataStore.REDIS)
    for late in timed(9000, (b"f", 0), (b"g", 9_000_000)):
        assert facts(late, DataStore.REDIS) == plain
        assert differences(one, facts(late, DataStore.REDIS)) == ()
    for some in timed(5000, (b"f", 0), (b"d", 4_000_000), (b"g", 9_000_000)):
        assert facts(some, DataStore.REDIS).tallies == one.tallies
        # Each key for itself.
        more = some[: -len(b"\xff") - 8] + b"\4\1i\1\1f\1v\xff" + bytes(8)
        assert names(facts(more, DataStore.REDIS), Kind.EXPIRING_KEYS) == {"0": 1}
    for empty in timed(9000, (b"g", 9_000_000)):
        assert not facts(empty, DataStore.REDIS).tallies


@pytest.mark.parametrize(
    "key",
    [b"\0\1k\xc4\1\1v", b"\0\1k\x82\0\0\0\1v", b"\0\1k\xc3\xc0\5", b"\x10\1h" + packed(b"f")],
    ids=["encoding", "length", "compressed", "half a pair"],
)
def test_what_no_server_writes_is_no_rdb_file(key: bytes) -> None:
    with pytest.raises(ContentBroken):
        facts(rdb(key), DataStore.REDIS)


def test_behind_an_rdb_file_is_its_mark_or_nothing() -> None:
    file = rdb(b"\0\1k\1v")
    assert facts(file + b"0a" * 20, DataStore.REDIS) == facts(file, DataStore.REDIS)
    with pytest.raises(ContentBroken, match="behind its end"):
        facts(file + b"REDIS" * 8, DataStore.REDIS)


def test_what_is_not_known_is_said_and_is_no_proof() -> None:
    for stream in (rdb(version=b"0099"), rdb(b"\x63\1k\1v"), rdb(b"\xf7")):
        found = facts(stream, DataStore.REDIS)
        assert found.unread
        assert not found.tallies
        assert len(differences(found, found)) == 2
    assert facts(b"PGDMP\1\x63\0\4\x08\1", DataStore.POSTGRES, "database-0").unread
    with pytest.raises(ContentBroken):
        facts(b"REDIS-7.0", DataStore.REDIS)


def test_packed_values() -> None:
    ints = b"\x11\1" + b"\xdf\xff\2" + b"\xc8\1\2" + b"\xf1\0\x80\3" + b"\xf2\1\0\x80\4"
    ints += b"\xf3\1\0\0\x80\5" + b"\xf4" + b"\xff" * 8 + b"\x09"
    long = (
        b"\xe0\xc8" + b"q" * 200 + b"\1\xca" + b"\xf0" + struct.pack("<I", 5000) + b"r" * 5000 + b"\x27\x8d"
    )
    body = struct.pack("<IH", len(ints + long) + 7, 8) + ints + long + b"\xff"
    assert listpack(body) == [
        b"17", b"-1", b"2049", b"-32768", b"-8388607", b"-2147483647", b"-1", b"q" * 200, b"r" * 5000,
    ]  # fmt: skip
    zips = (
        b"\0\xf1\2\xfe\xff\3\xc0\0\x80\4\xf0\1\0\x80\5\xd0\1\0\0\x80\6\xe0"
        + b"\xff" * 8
        + b"\xfe\0\1\0\0\x40\xc8"
        + b"q" * 200
    )
    zips += b"\xcb\x80\0\0\x13\x88" + b"r" * 5000
    assert ziplist(struct.pack("<IIH", len(zips) + 11, 0, 8) + zips + b"\xff") == [
        b"0", b"-1", b"-32768", b"-8388607", b"-2147483647", b"-1", b"q" * 200, b"r" * 5000,
    ]  # fmt: skip
    assert integers(struct.pack("<IIqq", 8, 2, -1, 1 << 40)) == [b"-1", b"1099511627776"]
    folded = b"\1ab" + b"\xe0\1\1" + b"\0c" + b"\x20\2"
    assert uncompressed(folded, 16) == b"ab" * 6 + b"cbab"[:1] + b"abc"
    for damaged in (b"", b"\0", body[:-2], body + b"x"):
        with pytest.raises((IndexError, ValueError)):
            listpack(damaged)


def test_the_checksum_of_rdb_files() -> None:
    for size in (0, 1, 9, 100_000):
        data, whole, pieces = random.Random(size).randbytes(size), Crc64(), Crc64()
        whole.update(data)
        for start in range(0, size, 1000):
            pieces.update(data[start : start + 1000])
        assert whole.value == pieces.value
    known = Crc64()
    known.update(b"123456789")
    assert known.value == 0xE9C6D914C4B8D9CA
