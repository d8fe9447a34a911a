"""Masking: which rules are refused, and what values become."""

import re
import uuid
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workflows.domain.blueprint_models import DataStore
from workflows.domain.errors import FieldError
from workflows.domain.masking import (
    ColumnRule,
    FakeKind,
    MaskingRefused,
    MaskingRules,
    ServiceMasking,
    Survey,
    Table,
    Unmaskable,
    check_surveys,
    key_pattern,
    masking_faults,
    misfits_told,
    table_name,
)
from workflows.domain.masking_ddl import definition, first_name, names, qualified
from workflows.domain.masking_fakes import DISTINCT, FAKES, LONGEST
from workflows.domain.masking_values import (
    ColumnKind,
    ColumnType,
    Compared,
    digest,
    permuted,
    value_masker,
)
from workflows.domain.snapshot import Component, Engine

KEY = bytes(range(32))
TEXT = ColumnType(ColumnKind.TEXT, "text")
INTEGER = ColumnType(ColumnKind.INTEGER, "integer")
COMPONENTS = (
    Component(service="db", store=DataStore.POSTGRES, engine=Engine.EXEC_DUMP),
    Component(service="maria", store=DataStore.MYSQL, engine=Engine.EXEC_DUMP),
    Component(service="cache", store=DataStore.REDIS, engine=Engine.EXEC_DUMP),
    Component(service="files", store=DataStore.FILES, engine=Engine.LIVE_COPY),
    Component(service="disk", store=DataStore.POSTGRES, engine=Engine.CSI),
    Component(service="api", store=None, engine=Engine.MANIFEST_ONLY),
)


def rule(how: str, **options: object) -> ColumnRule:
    return ColumnRule.model_validate({"table": "users", "column": "email", "how": how, **options})


def rules(**services: object) -> MaskingRules:
    return MaskingRules.model_validate({"services": services})


def faults(**services: object) -> list[str]:
    return [str(fault) for fault in masking_faults(rules(**services), COMPONENTS, ("masking",))]


def test_good_rules_have_no_fault() -> None:
    found = faults(
        db={
            "columns": [
                {"table": "users", "column": "email", "how": "fake", "kind": "email"},
                {"table": "public.users", "column": "name", "how": "mask", "keepLast": 2},
                {"table": 'shop."pub.lic"."us""ers"', "column": "x y", "how": "hash", "length": 12},
                {"table": "users", "column": "note", "how": "nullify"},
            ]
        },
        maria={"columns": [{"table": "shop.users", "column": "email", "how": "redact"}]},
    )
    assert found == []


def test_all_faults_come_at_once_with_their_places() -> None:
    found = faults(
        nobody={"columns": [{"table": "t", "column": "c", "how": "hash"}]},
        db={
            "columns": [
                {"table": "a.b.c.d", "column": "c", "how": "hash"},
                {"table": "a..b", "column": "", "how": "fake"},
                {"table": "t", "column": "c", "how": "hash", "length": 3, "keepLast": 2},
                {"table": "t", "column": "c", "how": "mask", "keepLast": -1},
                {"table": "u", "column": "c", "how": "delete"},
            ],
        },
        maria={"columns": [{"table": "a.b.c", "column": "c", "how": "hash"}]},
        cache={
            "columns": [{"table": "t", "column": "c", "how": "hash"}],
            "keys": [
                {"keys": "", "how": "redact"},
                {"keys": "a", "how": "fake"},
                {"keys": "[z-a]", "how": "delete"},
                {"keys": "a", "how": "hash"},
            ],
        },
        files={"columns": [{"table": "t", "column": "c", "how": "hash"}]},
        disk={"columns": [{"table": "t", "column": "c", "how": "hash"}]},
        api={"columns": [{"table": "t", "column": "c", "how": "hash"}]},
    )
    places = [line.split(": ")[0].removeprefix("masking.services.") for line in found]
    assert places == [
        "nobody",
        "db.columns[0].table",
        "db.columns[1].table",
        "db.columns[1].column",
        "db.columns[1].kind",
        "db.columns[2].keepLast",
        "db.columns[2].length",
        "db.columns[3]",
        "db.columns[3].keepLast",
        "db.columns[4].how",
        "maria.columns[0].table",
        "cache.columns",
        "cache.keys[0].keys",
        "cache.keys[1].how",
        "cache.keys[2].keys",
        "cache.keys[3]",
        "files",
        "disk",
        "api",
    ]
    assert faults(db={}) == [
        "masking.services.db: has no rule (name columns or keys, or leave the service out)"
    ]


def test_rules_are_read_as_the_api_reads_and_written_as_they_were() -> None:
    text = '{"services":{"db":{"columns":[{"table":"t","column":"c","how":"mask","keepLast":2}]}}}'
    read = MaskingRules.model_validate_json(text, strict=True)
    assert read.services["db"].columns[0].keep_last == 2
    again = MaskingRules.model_validate_json(read.model_dump_json(exclude_defaults=True))
    assert (again, again.model_dump_json(exclude_defaults=True)) == (read, text)


def test_a_field_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValidationError, match="keeplast"):
        rules(db={"columns": [{"table": "t", "column": "c", "how": "mask", "keeplast": 2}]})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("users", ("users",)),
        ("public.Users", ("public", "Users")),
        ('"a.b"."c""d"', ("a.b", 'c"d')),
        ("", None),
        (".", None),
        ("a.", None),
        ('"', None),
        ('"a"b', None),
        ("a b", None),
        ('""', None),
    ],
)
def test_names_of_tables(text: str, parts: tuple[str, ...] | None) -> None:
    assert table_name(text) == parts


@given(st.lists(st.text(min_size=1).filter(lambda each: "\0" not in each), min_size=1, max_size=3))
def test_a_table_reads_its_own_name(path: list[str]) -> None:
    table = Table(tuple(path))
    assert table_name(str(table)) == table.path
    assert all(table.is_meant(table.path[start:]) for start in range(len(path)))


def test_a_rule_that_found_nothing_in_any_part_is_a_fault() -> None:
    given_rules = ServiceMasking(columns=(rule("hash"), rule("redact")))
    check_surveys(given_rules, [Survey(1, frozenset({0})), Survey(1, frozenset({1}))])
    with pytest.raises(MaskingRefused, match=re.escape("columns[1]: the snapshot has no table users")):
        check_surveys(given_rules, [Survey(1, frozenset({0})), Survey(1)])
    with pytest.raises(MaskingRefused):
        check_surveys(given_rules, [])


def unfit(service: str, count: int, words: str = "is not there") -> list[FieldError]:
    """So many faults of a service's rules."""
    path = ("services", service, "columns")
    return [FieldError(path=(*path, n), message=words) for n in range(count)]


def test_all_that_does_not_fit_is_told_when_there_is_room() -> None:
    assert misfits_told([unfit("db", 2), unfit("maria", 1)], more=0, limit=1000) == (
        "The rules do not fit what the snapshot has: services.db.columns[0]: is not there; "
        "services.db.columns[1]: is not there; services.maria.columns[0]: is not there.",
        True,
    )


@pytest.mark.parametrize("words", ["is not there", "x" * 700])
def test_no_service_takes_all_the_room_for_its_faults(words: str) -> None:
    message, whole = misfits_told([unfit("db", 50, words), unfit("maria", 1, words)], more=7, limit=1000)
    assert len(message) <= 1000
    assert not whole
    told = message.count("services.")
    assert message.count("services.maria") == 1
    assert message.endswith(f"; and {58 - told} more.")


def test_a_fault_that_was_cut_is_not_told_in_full() -> None:
    message, whole = misfits_told([unfit("db", 1, "x" * 700)], more=0, limit=1000)
    assert message.endswith("….")
    assert not whole


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-(1 << 63), (1 << 64) - 1))
def test_integers_never_collide_and_stay_of_their_size(one: int, two: int) -> None:
    made = permuted(KEY, one)
    assert (made == permuted(KEY, two)) is (one == two)
    assert (made < 0) is (one < 0)
    for bits in (15, 16, 23, 24, 31, 32, 63, 64):
        if -(1 << bits) <= one < 1 << bits:
            assert -(1 << bits) <= made < 1 << bits
    assert made == permuted(KEY, one)


@pytest.mark.slow
def test_small_integers_are_permuted_as_a_whole() -> None:
    made = {permuted(KEY, value) for value in range(1 << 15)}
    assert made == set(range(1 << 15))
    assert permuted(KEY, 0) == 0
    moved = sum(permuted(KEY, value) != value for value in range(1, 1000))
    assert moved > 990
    assert [permuted(bytes(32), value) for value in range(1, 20)] != [
        permuted(KEY, value) for value in range(1, 20)
    ]


def test_values_are_pinned() -> None:
    """Data that were masked by an earlier version have to join with those that are masked by this one."""
    hashed = value_masker(rule("hash"), TEXT, KEY)
    fake = value_masker(rule("fake", kind="email"), TEXT, KEY)
    assert hashed("anna@example.org") == "2e8233ce79e59dbafde788f4a37fb126"
    assert fake("anna@example.org") == "nora.bach.fde788f4a37fb126@example.com"
    assert [permuted(KEY, value) for value in (1, 5, 70_000, -9, 1 << 40)] == [
        18489,
        21171,
        102769,
        -18920,
        1148957257710,
    ]
    assert digest(KEY, "text", b"x") != digest(KEY, "uuid", b"x")


def test_a_hash_depends_on_value_and_key_alone() -> None:
    one, two = (value_masker(rule("hash"), TEXT, KEY) for _ in range(2))
    assert one("a") == two("a") != one("b")
    assert value_masker(rule("hash"), TEXT, bytes(32))("a") != one("a")
    assert value_masker(rule("hash", length=8), TEXT, KEY)("a") == str(one("a"))[:8]
    narrow = ColumnType(ColumnKind.TEXT, "varchar(10)", limit=10)
    with pytest.raises(Unmaskable, match="too short"):
        value_masker(rule("hash"), narrow, KEY)
    assert len(str(value_masker(rule("hash", length=10), narrow, KEY)("a"))) == 10


def test_texts_that_the_database_takes_for_equal_stay_equal() -> None:
    def made(compared: Compared, text: str, *, padded: bool = False) -> object:
        column = ColumnType(ColumnKind.TEXT, "text", compared=compared, padded=padded)
        return value_masker(rule("hash"), column, KEY)(text)

    assert made(Compared.WITHOUT_CASE, "ÄNNA") == made(Compared.WITHOUT_CASE, "änna")
    assert made(Compared.WITHOUT_CASE, "Änna") != made(Compared.WITHOUT_CASE, "Anna")
    assert made(Compared.BY_LETTERS, "Änna") == made(Compared.BY_LETTERS, "anna")
    assert made(Compared.EXACTLY, "Anna") != made(Compared.EXACTLY, "anna")
    assert made(Compared.EXACTLY, "a  ", padded=True) == made(Compared.EXACTLY, "a", padded=True)
    assert made(Compared.EXACTLY, "a ") != made(Compared.EXACTLY, "a")


@pytest.mark.parametrize(
    ("keep", "text", "made"),
    [
        (None, "4111-1111", "*********"),
        (4, "4111-1111", "*****1111"),
        (4, "12345", "***45"),
        (4, "1", "*"),
        (2, "", ""),
        (1, "üñ中", "**中"),
    ],
)
def test_a_mask_shows_at_most_half(keep: int | None, text: str, made: str) -> None:
    assert value_masker(rule("mask", keepLast=keep), TEXT, KEY)(text) == made


@pytest.mark.parametrize("kind", FakeKind)
@given(value=st.binary(min_size=32, max_size=32))
def test_fakes_fit_where_they_say_that_they_fit(kind: FakeKind, value: bytes) -> None:
    made = FAKES[kind](value)
    assert 0 < len(made) <= LONGEST[kind]
    assert made.isascii()


def test_fakes_that_differ_may_be_unique() -> None:
    unique = ColumnType(ColumnKind.TEXT, "text", unique=True)
    for kind in FakeKind:
        if kind in DISTINCT:
            fake = value_masker(rule("fake", kind=kind), unique, KEY)
            assert len({fake(str(number)) for number in range(2000)}) == 2000
        else:
            with pytest.raises(Unmaskable, match="is unique"):
                value_masker(rule("fake", kind=kind), unique, KEY)
    for how in ("redact", "mask"):
        with pytest.raises(Unmaskable, match="is unique"):
            value_masker(rule(how), unique, KEY)


def test_other_types() -> None:
    key = ColumnType(ColumnKind.UUID, "uuid")
    value = str(uuid.uuid4())
    made = value_masker(rule("hash"), key, KEY)(value)
    assert uuid.UUID(str(made)).version == 4
    assert made == value_masker(rule("fake", kind="uuid"), key, KEY)(value.upper()) != value
    raw = value_masker(rule("hash"), ColumnType(ColumnKind.BINARY, "bytea"), KEY)(b"\0")
    assert isinstance(raw, bytes)
    assert len(raw) == 32
    for how, column in (
        ("hash", ColumnType(ColumnKind.OTHER, "public.state")),
        ("redact", ColumnType(ColumnKind.OTHER, "public.state")),
        ("mask", INTEGER),
        ("hash", ColumnType(ColumnKind.ARRAY, "text[]")),
        ("hash", ColumnType(ColumnKind.INTEGER, "tinyint(1)", tiny=True)),
        ("hash", ColumnType(ColumnKind.BINARY, "binary(8)", limit=8)),
    ):
        with pytest.raises(Unmaskable, match=re.escape(column.declared)):
            value_masker(rule(how), column, KEY)
    with pytest.raises(Unmaskable, match="NOT NULL"):
        value_masker(rule("nullify"), ColumnType(ColumnKind.TEXT, "text", nullable=False), KEY)


def test_definitions_are_taken_apart() -> None:
    text = """CREATE TABLE public."t(" (
    id integer DEFAULT nextval('public."x,y"'::regclass) NOT NULL,
    "na,me" numeric(10,2) DEFAULT 'a, (b'::text,
    note text DEFAULT E'it\\'s, ('::text,
    CONSTRAINT c CHECK (((a > 0) AND (b < 1)))
)
INHERITS (public.base);"""
    found = definition(text)
    assert [first_name(item)[0] for item in found.items] == ["id", "na,me", "note", "CONSTRAINT"]
    assert found.after.strip() == "INHERITS (public.base);"
    assert names('a, "b, ""c", d') == ("a", 'b, "c', "d")
    assert qualified('public."x.y"(id)') == (("public", "x.y"), "(id)")
    maria = "CREATE TABLE `t` (\n  `a` enum('it''s','\\'),(') COMMENT 'x, y',\n  KEY `a` (`a`)\n) ENGINE=x"
    assert [first_name(item)[0] for item in definition(maria, backslashes=True).items] == ["a", "KEY"]


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("session:*", "session:1", True),
        ("session:*", "sessions", False),
        ("s?x", "s\nx", True),
        ("s?x", "sx", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("a[b", "a[b", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("a.b", "axb", False),
        ("*", "", True),
        ("a*b*a", "abbba", True),
        ("a*b*a", "aa", False),
        ("a**b", "ab", True),
        ("*ab*ab", "ab-ab", True),
        ("*ab*ab", "ab", False),
        ("*a?*", "xa", False),
        ("a*\\**b", "a--*--b", True),
        ("*a*a*a*a*a*a*a*a*a*a*a*a*b", "a" * 500, False),
    ],
)
def test_patterns_of_keys(glob: str, key: str, matches: bool) -> None:
    assert (key_pattern(glob).fullmatch(key.encode()) is not None) is matches


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
def test_patterns_match_what_shell_patterns_match(glob: str, key: str) -> None:
    assert (key_pattern(glob).fullmatch(key.encode()) is not None) is fnmatchcase(key, glob)
