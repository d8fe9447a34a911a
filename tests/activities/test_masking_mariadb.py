"""Masking what `mariadb-dump` writes: every way in which it writes rows, and what is not rows."""

import re

import pytest

from activities.snapshots.masking_mariadb import MariadbMasking
from workflows.domain.masking import (
    ColumnRule,
    DumpUnreadable,
    MaskingRefused,
    ServiceMasking,
    Survey,
    check_surveys,
)

KEY = bytes(range(32))
DUMP = r"""/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
USE `sh``op`;
CREATE TABLE `child` (
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `parent` bigint(20) NOT NULL,
  PRIMARY KEY (`id`),
  CONSTRAINT `fk,(x` FOREIGN KEY (`parent`) REFERENCES `parent` (`id`) ON DELETE CASCADE
) ENGINE=InnoDB AUTO_INCREMENT=3 DEFAULT CHARSET=latin1 COLLATE=latin1_swedish_ci;
INSERT INTO `child` VALUES
(1,1),
(2,2);
CREATE TABLE `parent` (
  `id` bigint(20) NOT NULL AUTO_INCREMENT,
  `na,me` varchar(100) DEFAULT NULL COMMENT 'it''s, (odd) `x`\nnew',
  `raw` longblob DEFAULT NULL,
  `doc` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL CHECK (json_valid(`doc`)),
  `exact` varchar(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `up` varchar(100) GENERATED ALWAYS AS (ucase(`na,me`)) STORED,
  `bits` bit(3) DEFAULT NULL,
  PRIMARY KEY (`id`),
  UNIQUE KEY `na,me` (`na,me`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci COMMENT='x'
 PARTITION BY HASH (`id`)
PARTITIONS 3;
INSERT INTO `parent` VALUES
(1,'clear),(\n\\\'\"\0\Z\r;',0x00FF0A,'{\"a\": \"clear\"}','Clear','CLEAR',0x05),
(2,NULL,NULL,NULL,'clear',NULL,NULL);
COMPLETE
CREATE TABLE `other` (
  `name` varchar(100) DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO `other` VALUES
('kept;'),
('kept);');
DELIMITER ;;
/*!50003 CREATE*/ /*!50003 TRIGGER t BEFORE INSERT ON parent FOR EACH ROW BEGIN
INSERT INTO `child` VALUES (1,2);
CREATE TABLE `parent` (
END */;;
DELIMITER ;
-- Dump completed on 2026-01-01""".replace(
    "COMPLETE",
    # As it is written for tables that have invisible columns.
    "INSERT INTO `parent` (`id`, `up`, `na,me`, `raw`, `doc`, `exact`, `bits`) VALUES "
    "(3,'clear','clear2','','[]',_binary 'clear',NULL),(4,NULL,'CLEAR3',0x01,NULL,'',NULL);",
)


def rule(table: str, column: str, how: str, **options: object) -> ColumnRule:
    return ColumnRule.model_validate({"table": table, "column": column, "how": how, **options})


KEYS = (rule("parent", "id", "hash"), rule("child", "parent", "hash"))


def masked(dump: str, *rules: ColumnRule, key: bytes = KEY, piece: int = 1 << 20) -> str:
    data = dump.encode()
    masking = MariadbMasking(ServiceMasking(columns=rules), key)
    out = b"".join(masking.write(data[start : start + piece]) for start in range(0, len(data), piece))
    out += masking.finish()
    check_surveys(ServiceMasking(columns=rules), [Survey(len(out), masking.matched, masking.faults)])
    return out.decode()


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_every_way_of_writing_rows_is_masked(piece: int) -> None:
    rules = (
        *KEYS,
        rule('"sh`op".parent', "na,me", "hash"),
        rule("parent", "raw", "hash"),
        rule("parent", "doc", "redact"),
        rule("parent", "exact", "hash"),
        rule("parent", "bits", "nullify"),
    )
    out = masked(DUMP, *rules, piece=piece)
    assert "clear" not in out.lower()
    assert "UNIQUE_CHECKS=1 */;" in out
    rows = re.findall(r"^(\(.*|INSERT INTO `parent` \(.*)$", out, re.MULTILINE)
    assert len(rows) == 7
    child = [re.fullmatch(r"\(\d,(\d+)\)[,;]", row) for row in rows[:2]]
    ids = [row.split(",")[0].strip("(") for row in rows[2:4]]
    assert [match[1] for match in child if match] == ids
    assert re.fullmatch(r"\(\d+,'[0-9a-f]{32}',0x[0-9a-f]{64},'\{\}','[0-9a-f]{32}',DEFAULT,NULL\),", rows[2])
    assert re.fullmatch(r"\(\d+,NULL,NULL,NULL,'[0-9a-f]{32}',DEFAULT,NULL\);", rows[3])
    # `Clear` and `clear` are two in a column that tells cases apart.
    assert rows[2].split("'")[5] != rows[3].split("'")[1]
    assert rows[5:] == ["('kept;'),", "('kept);');"]
    trigger = DUMP.index("DELIMITER ;;")
    assert DUMP[trigger:] in out
    assert "IF EXISTS (SELECT 1 FROM `sh``op`.`child` c LEFT JOIN `sh``op`.`parent` p" in out


def test_rows_of_the_past_are_masked_too() -> None:
    past = "'2026-01-01 00:00:00.000000','2026-01-02 00:00:00.000000'"
    rows = f"INSERT INTO `other` (`name`, row_start, row_end) VALUES ('clear',{past}),\n('clear too',{past});"
    dump = DUMP.replace("INSERT INTO `other` VALUES\n('kept;'),\n('kept);');", rows)
    out = masked(dump, rule("other", "name", "hash"))
    assert "clear'," not in out[out.index("INTO `other`") :]
    assert re.search(rf"VALUES \('[0-9a-f]+',{past}\),\n\('[0-9a-f]+',{past}\);\n", out)


def test_without_rules_nothing_changes() -> None:
    assert masked(DUMP) == DUMP


@pytest.mark.parametrize("end", [");\nDELIMITER ;;", "/*!50003 TRIGGER", "-- Dump completed"])
def test_a_dump_that_is_cut_between_statements_is_not_taken_for_one(end: str) -> None:
    with pytest.raises(DumpUnreadable, match="cut"):
        masked(DUMP[: DUMP.index(end) + 3], *KEYS)


def test_the_end_of_the_last_line_may_be_missing() -> None:
    assert masked(DUMP, *KEYS) == masked(DUMP + "\n", *KEYS)


def test_another_key_gives_others() -> None:
    assert masked(DUMP, *KEYS) == masked(DUMP, *KEYS, piece=3)
    assert masked(DUMP, *KEYS) != masked(DUMP, *KEYS, key=bytes(32))


def test_long_rows_of_tables_that_no_rule_names_are_not_kept() -> None:
    long = DUMP.replace("'kept;'", "'" + "k" * 4_000_000 + "'")
    masking = MariadbMasking(ServiceMasking(columns=KEYS), KEY)
    data, out = long.encode(), bytearray()
    for start in range(0, len(data), 100_000):
        out += masking.write(data[start : start + 100_000])
        assert len(out) + 1_200_000 > min(start + 100_000, len(data))
    out += masking.finish()
    assert b"k" * 4_000_000 + b"'),\n('kept);');\nDELIMITER ;;" in out


def test_what_does_not_fit_is_named() -> None:
    rules = (
        rule("parent", "id", "hash"),
        rule("parent", "na,me", "redact"),
        rule("parent", "up", "hash"),
        rule("parent", "exact", "nullify"),
        rule("parent", "bits", "redact"),
        rule("other", "nome", "hash"),
        rule("shop.other", "name", "hash"),
    )
    with pytest.raises(MaskingRefused) as caught:
        masked(DUMP, *rules)
    said = {fault.path[1]: fault.message for fault in caught.value.faults}
    assert sorted(said) == list(range(7))
    assert (
        said[0] == "sh`op.child.parent refers to sh`op.parent.id, and has no rule" or "refers to" in said[0]
    )
    assert "is unique" in said[1]
    assert "is generated" in said[2]
    assert "NOT NULL" in said[3]
    assert "bit(3)" in said[4]
    assert "no column nome" in said[5]
    assert "no table shop.other" in said[6]


@pytest.mark.parametrize("how", ["redact", "mask"])
def test_a_column_that_is_unique_with_another_stays_so(how: str) -> None:
    dump = DUMP.replace("KEY `na,me` (`na,me`)", "KEY `na,me` (`exact`,`na,me`(20))")
    with pytest.raises(MaskingRefused, match="is unique, alone or with others"):
        masked(dump, rule("parent", "na,me", how))
    masked(dump, rule("parent", "na,me", "hash"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(2,2);", "(2,2,3);"),
        ("(2,2);", "(2,two words);"),
        ("(2,2);", "(2,2); DROP TABLE x;"),
        ("(2,2);", "(2,2)"),
        ("(2,2);", "(2,'2);"),
        ("(2,2);\n", "(2,2);\nINSERT IGNORE INTO `child` VALUES (3,3);\n"),
        ("(2,2);\n", "(2,2);\nINSERT INTO `unknown` VALUES (3);\n"),
        ("(2,2);\n", "(2,2);\nINSERT INTO `child` (`id`) VALUES (3);\n"),
        ("DELIMITER ;\n", ""),
    ],
)
def test_what_is_not_written_as_it_is_known_is_not_guessed_at(old: str, new: str) -> None:
    assert DUMP.count(old)
    with pytest.raises(DumpUnreadable):
        masked(DUMP.replace(old, new), *KEYS)
