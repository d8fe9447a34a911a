"""Archives of pg_dump made by hand: what facts and masking both know of them, and what no server writes."""

from collections.abc import Callable

import pytest

from activities.snapshots.facts import ContentBroken
from activities.snapshots.facts.postgres import PostgresObserver
from activities.snapshots.masking_postgres import PostgresMasking
from activities.snapshots.postgres_archive import read_head, written
from workflows.domain.masking import ColumnRule, DumpUnreadable, MaskHow, ServiceMasking
from workflows.domain.snapshot_facts import Facts, Kind

RULES = ServiceMasking(columns=(ColumnRule(table="people", column="name", how=MaskHow.REDACT),))
NUMBERS = b"\4\x08"
"""Bytes of numbers, and of places in a file."""


def text(content: bytes) -> bytes:
    return written(len(content)) + content


def entry(number: int, sort: bytes, definition: bytes = b"", copy: bytes = b"") -> bytes:
    kind = [text(each) for each in (b"0", b"0", b"people", sort)]
    made = [text(each) for each in (definition, b"", copy, b"public", b"", b"heap")]
    owner = text(b"app") + text(b"false") + b"\1" + written(1)[1:]
    start = written(number) + written(sort == b"TABLE DATA")
    return start + b"".join(kind) + written(0) + b"".join(made) + written(0) + owner + b"\2" + bytes(8)


HEAD = (
    (b"PGDMP\1\x10\0" + NUMBERS + b"\1\0" + written(0) * 7 + text(b"shop") + text(b"18") * 2 + written(2))
    + entry(1, b"TABLE", b"CREATE TABLE public.people (\n    id integer,\n    name text\n);\n")
    + entry(2, b"TABLE DATA", copy=b"COPY public.people (id, name) FROM stdin;\n")
)


def block(number: int, *chunks: bytes) -> bytes:
    return b"\1" + written(number) + b"".join(map(text, chunks)) + written(0)


ROWS = block(2, b"1\tclear\n", b"2\t\\N\n", b"\\.\n\n\n")


def facts(archive: bytes) -> Facts:
    observer = PostgresObserver()
    observer.write(archive)
    return observer.facts()


def masked(archive: bytes) -> bytes:
    masking = PostgresMasking("shop", RULES, bytes(32))
    return masking.write(archive) + masking.finish()


def test_both_read_the_same_archive() -> None:
    assert [each.sort for each in read_head(HEAD + ROWS).entries] == ["TABLE", "TABLE DATA"]
    tallies = {each.kind: each.count for each in facts(HEAD + ROWS).tallies}
    assert tallies == {Kind.TABLES: 2, Kind.DEFINITIONS: 1}
    assert masked(HEAD + ROWS) == HEAD + block(2, b"1\tredacted\n", b"2\t\\N\n", b"\\.\n\n\n")


@pytest.mark.parametrize("read", [facts, masked])
@pytest.mark.parametrize(
    "archive",
    [
        HEAD,
        HEAD + block(3, b"1\tx\n", b"\\.\n\n\n"),
        HEAD + ROWS + ROWS,
        HEAD + ROWS[: -len(written(0))] + b"\1" + written(5)[1:],
        HEAD + block(2, b"1\tx\n"),
    ],
    ids=["no data", "data of nothing", "data twice", "a length below zero", "no end of rows"],
)
def test_an_archive_has_the_data_of_its_contents_once(
    read: Callable[[bytes], object], archive: bytes
) -> None:
    with pytest.raises((ContentBroken, DumpUnreadable)):
        read(archive)


@pytest.mark.parametrize("numbers", [b"\x08\x08", b"\4\4", b"\0\0"])
def test_other_sizes_of_numbers_are_not_known(numbers: bytes) -> None:
    archive = HEAD.replace(NUMBERS, numbers, 1) + ROWS
    assert "sizes of numbers" in str(facts(archive).unread)
    with pytest.raises(DumpUnreadable):
        masked(archive)


def test_contents_without_an_end_are_not_kept_for_masking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresMasking, "_longest", 1 << 20)
    masking = PostgresMasking("shop", RULES, bytes(32))
    masking.write(HEAD[:47] + written(1 << 30))
    pieces = [bytes(1 << 10)] * 1200
    with pytest.raises(DumpUnreadable, match="larger than"):
        list(map(masking.write, pieces))
