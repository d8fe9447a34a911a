"""Masking a component as a restore does: surveyed first, then fed."""

from collections.abc import AsyncIterator

import pytest

from activities.snapshots.masking import masked, survey
from tests.activities.test_masking_mariadb import DUMP, KEYS, rule
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import ColumnRule, DumpUnreadable, MaskingRefused, ServiceMasking, check_surveys
from workflows.domain.snapshot_dump import mariadb_parts, postgres_parts

KEY = bytes(range(32))
DATA, USERS = mariadb_parts()


async def pieces(text: str, size: int = 100) -> AsyncIterator[bytes]:
    data = text.encode()
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_what_is_fed_is_as_long_as_was_found() -> None:
    rules = ServiceMasking(columns=(*KEYS, rule("parent", "exact", "hash")))
    found = await survey(DataStore.MYSQL, DATA, rules, KEY, pieces(DUMP))
    users = await survey(DataStore.MYSQL, USERS, rules, KEY, pieces("CREATE USER x;"))
    assert (found.matched, users.matched) == (frozenset({0, 1, 2}), frozenset())
    assert not found.faults
    check_surveys(rules, [found, users])
    fed = [piece async for piece in masked(DataStore.MYSQL, DATA, rules, KEY, pieces(DUMP, 333))]
    assert sum(map(len, fed)) == found.size != len(DUMP)
    untouched = [
        piece async for piece in masked(DataStore.MYSQL, USERS, rules, KEY, pieces("CREATE USER x;"))
    ]
    assert b"".join(untouched) == b"CREATE USER x;"
    assert users.size == 14


async def test_without_a_rule_a_dump_is_not_even_read() -> None:
    rules = ServiceMasking()
    part = postgres_parts(["shop"])[1]
    assert (await survey(DataStore.POSTGRES, part, rules, KEY, pieces("anything"))).size == 8
    assert [each async for each in masked(DataStore.POSTGRES, part, rules, KEY, pieces("any"))] == [b"any"]


@pytest.mark.parametrize("bad", [rule("child", "id", "fake", kind="name"), rule("child", "parent", "hash")])
async def test_rules_that_do_not_fit_give_nothing_out_of_what_they_name(bad: ColumnRule) -> None:
    rules = ServiceMasking(columns=(bad,))
    found = await survey(DataStore.MYSQL, DATA, rules, KEY, pieces(DUMP))
    assert found.size == 0
    with pytest.raises(MaskingRefused):
        check_surveys(rules, [found])
    with pytest.raises(MaskingRefused):
        async for _ in masked(DataStore.MYSQL, DATA, rules, KEY, pieces(DUMP)):
            pass


async def test_an_error_does_not_quote_a_value() -> None:
    dump = DUMP.replace("(2,2);", "(2,'my-secret');")
    with pytest.raises(DumpUnreadable) as caught:
        await survey(DataStore.MYSQL, DATA, ServiceMasking(columns=KEYS), KEY, pieces(dump))
    assert "my-secret" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("store", [DataStore.FILES, DataStore.MONGODB])
async def test_files_are_refused(store: DataStore) -> None:
    with pytest.raises(MaskingRefused, match="cannot be masked"):
        await survey(store, DATA, ServiceMasking(columns=KEYS), KEY, pieces(""))
