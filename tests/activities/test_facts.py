"""Facts of any stream: the same in whatever pieces it comes, none of one that is cut, in little memory."""

import itertools
import random
import tarfile
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.snapshots.facts import ContentBroken, facts_of, observed, observer_of, readable
from activities.snapshots.facts.crc64 import Crc64
from activities.snapshots.facts.tallies import MOST_NAMES, Counting, Lines, sum_of
from tests.helpers.fact_streams import MARIADB, STREAMS, facts, names
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_facts import Facts, Kind, differences


async def pieces_of(stream: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(stream), 1000):
        yield stream[at : at + 1000]


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_handed_on_as_it_was(name: str) -> None:
    stream, store, part = STREAMS[name]
    observer = observer_of(store, part)
    assert b"".join([piece async for piece in observed(pieces_of(stream), observer)]) == stream
    recorded = observer.facts()
    assert recorded == await facts_of(pieces_of(stream), observer_of(store, part))
    assert await readable(pieces_of(stream), observer_of(store, part), recorded) == ()
    with pytest.raises(ContentBroken):
        await readable(pieces_of(stream[: len(stream) // 2]), observer_of(store, part), recorded)


async def test_an_archive_that_is_whole_and_another() -> None:
    recorded = facts(MARIADB, DataStore.MYSQL)
    other = MARIADB.replace(b"(42)", b"(43)")
    assert len(await readable(pieces_of(other), observer_of(DataStore.MYSQL, ""), recorded)) == 1
    # What was not known when it was recorded, or was recorded in another way, is whole all the same.
    for unknown in ({"unread": "a version"}, {"version": 0}):
        before = recorded.model_copy(update=unknown)
        assert await readable(pieces_of(other), observer_of(DataStore.MYSQL, ""), before) == ()
        assert len(differences(before, recorded)) == 1


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_do_not_matter(name: str) -> None:
    stream, store, part = STREAMS[name]
    whole = facts(stream, store, part)
    assert whole.tallies
    for size in (1, 2, 3, 511, 512, 513):
        assert facts(stream, store, part, itertools.repeat(size)) == whole


@settings(max_examples=15, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", STREAMS)
def test_no_pieces_matter(name: str, data: st.DataObject) -> None:
    stream, store, part = STREAMS[name]
    sizes = data.draw(st.lists(st.integers(1, 5000), min_size=1, max_size=9))
    random_sizes = random.Random(str(sizes))
    pieces = iter(lambda: random_sizes.choice(sizes), 0)
    assert facts(stream, store, part, pieces) == facts(stream, store, part)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_is_cut_has_no_facts(name: str) -> None:
    stream, store, part = STREAMS[name]
    # Nothing counts behind the two blocks of zeros of a tar archive, and the last word of a dump.
    needed = {"tar": 1024 + len(stream.rstrip(b"\0")) // 512 * 512 + 512, "rdb": len(stream) - 40}
    end = needed.get(
        name.partition("-")[0], len(stream.rstrip()) - len(b"complete\n-- on 2026-11-27 11:54:58")
    )
    for length in (*range(0, end, max(1, end // 150)), end - 1):
        with pytest.raises(ContentBroken):
            facts(stream[:length], store, part)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_in_whatever_pieces(size: int) -> None:
    content = b"one\n\ntwo two\n\\.\n\n\n"
    lines = Lines()
    for at in range(0, len(content), size):
        lines.take(content[at : at + size])
    assert lines.drop(b"\\.\n\n\n")
    assert (lines.count, lines.size) == (3, 13)
    assert lines.value == sum_of((b"two two", b"", b"one"))
    assert not lines.drop(b"more\n")


@pytest.mark.parametrize("name", ["mariadb-users", "postgres-roles"])
def test_passwords_and_keys_of_one_dump_are_left_out(name: str) -> None:
    stream, store, part = STREAMS[name]
    other = stream.replace(b"B69027D44F", b"AAAAAAAAAA").replace(b"SCRAM-SHA-256$4096", b"SCRAM-SHA-256$9999")
    other = other.replace(b"uLowV9nWQg", b"AAAAAAAAAA").replace(b"11:54:58", b"12:00:00")
    assert other != stream
    assert facts(other, store, part) == facts(stream, store, part)
    for before, after in ((b"app;", b"other;"), (b"WITH GRANT OPTION", b""), (b"infinity", b"2027-01-01")):
        if before in stream:
            assert facts(stream.replace(before, after), store, part) != facts(stream, store, part)


def tables(rows: dict[str, int]) -> Facts:
    counting = Counting(Kind.TABLES)
    for name, count in rows.items():
        counting.add(name, count, count, count)
    return Facts(format="postgres", tallies=(counting.tally(),))


def test_thousands_of_tables_take_little_room_and_none_is_lost() -> None:
    rows = {f"public.table_{number:05}": number for number in range(5000)}
    recorded = tables(rows)
    assert len(recorded.model_dump_json()) < 8192
    assert len(names(recorded, Kind.TABLES)) > 20
    assert differences(recorded, tables(rows)) == ()
    assert differences(recorded, tables({**rows, "public.table_00003": 9})) == (
        "table public.table_00003: 3 rows recorded, 9 found",
    )
    rest = sum(rows.values()) - sum(names(recorded, Kind.TABLES).values())
    assert differences(recorded, tables({**rows, "public.table_04000": 9})) == (
        f"tables that are not listed by name: {rest} rows recorded, {rest - 3991} found",
    )
    lost = dict(rows)
    del lost["public.table_00003"]
    assert differences(recorded, tables(lost)) == (
        "table public.table_00003: recorded with 3 rows, not found",
    )
    # Two that would make up for each other in a sum.
    changed = {**rows, "public.table_04000": 4001, "public.table_04001": 4000}
    (line,) = differences(recorded, tables(changed))
    assert line.endswith("but with other content")
    assert Facts.model_validate_json(recorded.model_dump_json()) == recorded


def test_more_names_than_are_kept() -> None:
    rows = {f"t{number}": 1 for number in range(MOST_NAMES + 5)}
    recorded = tables(rows)
    assert names(recorded, Kind.TABLES) == {}
    assert differences(recorded, tables(rows)) == ()
    (line,) = differences(recorded, tables({**rows, "t7": 2}))
    assert (
        line == f"tables that are not listed by name: {MOST_NAMES + 5} rows recorded, {MOST_NAMES + 6} found"
    )


HUGE = 24 << 20


def huge_streams() -> dict[str, tuple[DataStore, bytes, bytes]]:
    """Of each kind what stands before and after one value that does not fit into memory."""
    member = tarfile.TarInfo("huge")
    member.size = HUGE
    split = MARIADB.index(b"it\\'s")
    return {
        "tar": (DataStore.FILES, member.tobuf(), bytes(1024)),
        "rdb": (DataStore.REDIS, b"REDIS0010\xfe\0\0\1k\x80" + HUGE.to_bytes(4), b"\xff" + bytes(8)),
        "mariadb": (DataStore.MYSQL, MARIADB[:split], MARIADB[split:]),
    }


@pytest.mark.parametrize("name", ["tar", "rdb", "mariadb"])
def test_memory_is_bounded_whatever_there_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A checksum is millions of small allocations, and tracing them takes a minute.
    monkeypatch.setattr(Crc64, "update", lambda _self, _data: None)
    store, before, after = huge_streams()[name]
    observer = observer_of(store, "")
    piece = b"x" * (256 << 10)
    tracemalloc.start()
    try:
        observer.write(before)
        for _ in range(HUGE // len(piece)):
            observer.write(piece)
        observer.write(after)
        assert sum(each.count for each in observer.facts().tallies) > 0
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
