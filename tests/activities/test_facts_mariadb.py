"""Facts of what mariadb-dump writes."""

import itertools

import pytest

from activities.snapshots.facts import ContentBroken, mariadb
from tests.helpers.fact_streams import MARIADB, facts, names
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_facts import Kind, differences


def test_what_a_mariadb_dump_holds() -> None:
    found = facts(MARIADB, DataStore.MYSQL)
    assert names(found, Kind.TABLES) == {"od`d 'n ame.t": 1, "shop.empty": 0, "shop.parent": 4}
    assert names(found, Kind.SEQUENCES) == {"shop.counter": 1100, "shop.parent (next id)": 777777}
    assert names(found, Kind.DEFINITIONS) == {
        "DATABASE": 1, "EVENT": 1, "ROUTINE": 1, "SEQUENCE": 1, "TABLE": 3, "TRIGGER": 1, "VIEW": 1,
    }  # fmt: skip


def test_how_rows_are_divided_into_statements_and_lines_does_not_matter() -> None:
    rows = b"(1,'it\\'s (a \\\\',NULL,0x00FF,-1.5e10),\n(2,"
    assert rows in MARIADB
    others = (
        MARIADB.replace(b"),\n(", b"),(").replace(b"VALUES\n(", b"VALUES ("),
        MARIADB.replace(b"),\n(3", b");\nINSERT INTO `parent` VALUES\n(3"),
    )
    for other in others:
        assert facts(other, DataStore.MYSQL) == facts(MARIADB, DataStore.MYSQL)


def test_what_stands_in_a_body_breaks_nothing() -> None:
    begin = b"CREATE DEFINER=`root`@`%` FUNCTION"
    lines = (
        b"INSERT INTO `parent` VALUES (NEW.id, NOW());",
        b"INSERT INTO `parent` VALUES\n(NEW.id, f(1));",
        b"INSERT INTO `parent` SELECT 1;",
        b"USE `other`",
    )
    for line in lines:
        other = MARIADB.replace(b"BEGIN RETURN x", b"BEGIN\n" + line + b"\nRETURN x")
        assert begin in other
        for pieces in (None, itertools.repeat(1), itertools.repeat(13)):
            assert facts(other, DataStore.MYSQL, pieces=pieces) == facts(MARIADB, DataStore.MYSQL)
    # What looks like rows is counted as such, as it was in all that has been recorded.
    other = MARIADB.replace(b"BEGIN RETURN x", b"BEGIN\nINSERT INTO `parent` VALUES (9,'f(1)');\nRETURN x")
    assert names(facts(other, DataStore.MYSQL), Kind.TABLES)["shop.parent"] == 5


def test_rows_that_are_not_written_as_they_are_known_are_no_proof() -> None:
    for insert in (b"REPLACE INTO `t` VALUES", b"INSERT DELAYED INTO `t` VALUES", b"INSERT INTO `t` SET"):
        other = MARIADB.replace(b"INSERT INTO `t` VALUES", insert)
        assert facts(other, DataStore.MYSQL).unread
    with pytest.raises(ContentBroken, match="follows"):
        facts(MARIADB.replace(b"(42);", b"(42); DROP TABLE `t`;"), DataStore.MYSQL)
    with pytest.raises(ContentBroken, match="cut"):
        facts(MARIADB.replace(b"DELIMITER ;\n/*!50001", b"/*!50001"), DataStore.MYSQL)


HISTORY = b"""DROP TABLE IF EXISTS `told`;
CREATE TABLE `told` (
  `a` int(11) DEFAULT NULL,
  `b` varchar(9) DEFAULT NULL
) ENGINE=InnoDB WITH SYSTEM VERSIONING;
INSERT INTO `told` (`a`, `b`, row_start, row_end) VALUES \
(1,'it\\'s','2026-11-28 09:50:05.389037','2026-11-28 09:50:05.392276'),
(2,'now','2026-11-28 09:50:05.394058','2038-01-19 03:14:07.999999'),
(3,NULL,'2026-11-28 09:50:05.394058','2106-02-07 06:28:15.999999');
"""


def with_table(table: bytes) -> bytes:
    """The dump with one table more."""
    return MARIADB.replace(b"CREATE TABLE `empty`", table + b"CREATE TABLE `empty`")


def test_a_history_is_counted_beside_what_is_current() -> None:
    plain = b"INSERT INTO `told` VALUES\n(2,'now'),\n(3,NULL);\n"
    before = facts(with_table(HISTORY[: HISTORY.index(b"INSERT")] + plain), DataStore.MYSQL)
    found = facts(with_table(HISTORY), DataStore.MYSQL)
    assert names(found, Kind.TABLES)["shop.told"] == 2
    assert names(found, Kind.HISTORY) == {"shop.told": 3}
    # A snapshot that was taken without is proved by what it has; one that was taken with it, by all.
    assert differences(before, found) == ()
    assert differences(found, before) == (
        "table with its history shop.told: recorded with 3 rows, not found",
    )
    other = facts(with_table(HISTORY.replace(b"it\\'s", b"it\\'d")), DataStore.MYSQL)
    assert differences(found, other) == (
        "table with its history shop.told: 3 rows as recorded, but with other content",
    )
    with pytest.raises(ContentBroken, match="do not end with their times"):
        facts(with_table(HISTORY.replace(b"'2038-01-19 03:14:07.999999'", b"NULL")), DataStore.MYSQL)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_row_with_its_times_that_is_too_long_to_be_kept(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    dump = with_table(HISTORY)
    whole = facts(dump, DataStore.MYSQL)
    monkeypatch.setattr(mariadb, "LONGEST", 1)
    start, end = dump.index(b"(1,'it\\'s','2026"), dump.index(b";", dump.index(b"'2106"))
    observer = mariadb.MariadbObserver()
    for piece in (
        dump[:start],
        *(dump[at : min(at + size, end)] for at in range(start, end, size)),
        dump[end:],
    ):
        observer.write(piece)
    assert observer.facts() == whole


def test_a_row_that_no_server_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mariadb, "LONGEST", 1)
    monkeypatch.setattr(mariadb, "_LARGEST", 30)
    start = MARIADB.index(b"(1,")
    observer = mariadb.MariadbObserver()
    for at in range(start, len(MARIADB)):
        observer.write(MARIADB[at : at + 1] if at > start else MARIADB[: start + 1])
    with pytest.raises(
        ContentBroken, match=r"a row of shop\.parent takes .* bytes, and a server no more than"
    ):
        observer.facts()


@pytest.mark.parametrize("limit", [1, 30, 60])
def test_a_row_that_is_too_long_to_be_kept(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    whole = facts(MARIADB, DataStore.MYSQL)
    monkeypatch.setattr(mariadb, "LONGEST", limit)
    # Statements are then not seen to their ends: only what stands between them is looked at.
    start, end = MARIADB.index(b"(1,"), MARIADB.index(b";\nINSERT INTO `parent` (")
    for size in (1, 2, 7, 1000):
        observer = mariadb.MariadbObserver()
        observer.write(MARIADB[:start])
        for at in range(start, end + 1, size):
            observer.write(MARIADB[at : min(at + size, end + 1)])
        observer.write(MARIADB[end + 1 :])
        assert observer.facts() == whole


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (b"(42)", b"(43)", "table od`d 'n ame.t: 1 rows as recorded, but with other content"),
        (
            b",\n(2,''",
            b",\n(2,'x'",
            "table shop.parent: 4 rows as recorded, but with other content: 100 bytes recorded, 101 found",
        ),
        (b"INSERT INTO `t` VALUES\n(42);\n", b"", "table od`d 'n ame.t: 1 rows recorded, 0 found"),
        (b"1100, 0", b"1101, 0", "sequence shop.counter: 1100 recorded, 1101 found"),
        (
            b"TRIGGER no_name",
            b"TRIGGER some_name",
            "definitions of kind TRIGGER: 1 as recorded, but with other content",
        ),
    ],
)
def test_one_value_that_is_another(before: bytes, after: bytes, line: str) -> None:
    assert before in MARIADB
    recorded = facts(MARIADB, DataStore.MYSQL)
    assert differences(recorded, facts(MARIADB.replace(before, after), DataStore.MYSQL)) == (line,)
