"""Share links: signatures, PINs, and attempts at PINs that all processes count together."""

import asyncio
import os
from datetime import timedelta

import pytest
from sqlmodel import col, update

from activities.db.engine import Database
from activities.db.errors import NotFound
from activities.db.repositories import shares
from activities.db.repositories.audit import AuditFilter, list_entries
from activities.db.repositories.shares import NewShare, ShareRecord
from activities.db.tables import Environment, Share
from activities.db.types import utc_now
from activities.secrets import MasterKeys
from activities.share_links import ShareKeys, ShareSession
from tests.helpers.tenants import Tenant, accept, make_tenant

OLD, NEW = os.urandom(32), os.urandom(32)
BEFORE = ShareKeys(MasterKeys(current_id="m1", keys={"m1": OLD}))
ROTATED = ShareKeys(MasterKeys(current_id="m,2 ✓", keys={"m,2 ✓": NEW, "m1": OLD}))
AFTER = ShareKeys(MasterKeys(current_id="m,2 ✓", keys={"m,2 ✓": NEW}))


class TestTokens:
    def test_open_over_a_rotation_until_their_key_is_gone(self) -> None:
        token = BEFORE.token("shr_1", "m1")
        assert BEFORE.share_of(token) == ROTATED.share_of(token) == "shr_1"
        assert AFTER.share_of(token) is None
        newer = ROTATED.token("shr_2", ROTATED.current_id)
        assert ROTATED.share_of(newer) == AFTER.share_of(newer) == "shr_2"
        assert BEFORE.share_of(newer) is None

    def test_no_changed_character_opens(self) -> None:
        token = BEFORE.token("shr_1", "m1")
        for index, character in enumerate(token):
            other = "A" if character != "A" else "B"
            assert BEFORE.share_of(token[:index] + other + token[index + 1 :]) is None, index

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "pds_",
            "pds_a",
            "pds_a.b",
            "pds_..",
            "pds_a.b.c.d",
            "pds_é.b.c",
            "x" * 10_000,
            "pds_a.====.=",
            "\0",
        ],
    )
    def test_anything_else_opens_nothing(self, text: str) -> None:
        assert BEFORE.share_of(text) is None
        assert BEFORE.session_of(text) is None

    def test_a_session_is_no_token_and_the_other_way_about(self) -> None:
        session = ShareSession("shr_1", 1_900_000_000)
        cookie = BEFORE.session(session)
        assert BEFORE.session_of(cookie) == session
        assert BEFORE.share_of(f"pds_{cookie}") is None
        assert BEFORE.session_of(BEFORE.token("shr_1", "m1").removeprefix("pds_")) is None
        assert BEFORE.session_of(cookie.replace("1900000000", "1900000001")) is None


class TestPins:
    def test_the_right_one_fits_and_no_other(self) -> None:
        kept = BEFORE.hash_pin("4711", "m1")
        assert BEFORE.pin_fits("4711", "m1", kept)
        assert not BEFORE.pin_fits("4712", "m1", kept)
        assert ROTATED.pin_fits("4711", "m1", kept)
        assert not AFTER.pin_fits("4711", "m1", kept)
        assert "4711" not in kept
        assert BEFORE.hash_pin("4711", "m1") != kept, "salted"

    def test_without_the_key_it_is_not_found_by_trying(self) -> None:
        kept = BEFORE.hash_pin("4711", "m1")
        other = ShareKeys(MasterKeys(current_id="m1", keys={"m1": NEW}))
        assert not other.pin_fits("4711", "m1", kept)


async def made(database: Database, tenant: Tenant, pin_hash: str | None = "x") -> ShareRecord:
    """Make a share of a new environment."""
    environment = (await accept(database, tenant)).environment
    wish = NewShare(key_id="m1", pin_hash=pin_hash, label="", show_images=False, lifetime=timedelta(days=1))
    async with database.transaction() as session:
        return await shares.create_share(session, tenant.actor, environment.id, wish)


async def claim(database: Database, share_id: str) -> ShareRecord | None:
    async with database.transaction() as session:
        return await shares.claim_attempt(session, share_id)


async def change(database: Database, share_id: str, **values: object) -> None:
    async with database.transaction() as session:
        await session.exec(update(Share).where(col(Share.id) == share_id).values(**values))


async def test_attempts_of_many_processes_at_once_are_five(database: Database, database_url: str) -> None:
    share = await made(database, await make_tenant(database))
    others = [Database(database_url) for _ in range(3)]
    claims = await asyncio.gather(*(claim(each, share.id) for each in others * 4))
    assert sum(found is not None for found in claims) == shares.MOST_WRONG_PINS
    assert await claim(database, share.id) is None
    for each in others:
        await each.dispose()


async def test_a_lock_ends_by_itself_and_the_right_pin_settles(database: Database) -> None:
    share = await made(database, await make_tenant(database))
    for _ in range(shares.MOST_WRONG_PINS):
        assert await claim(database, share.id) is not None
    assert await claim(database, share.id) is None
    await change(database, share.id, locked_until=utc_now() - timedelta(seconds=1))
    assert await claim(database, share.id) is not None, "the first of five again"
    async with database.transaction() as session:
        await shares.settle_attempt(session, share.id)
    for _ in range(shares.MOST_WRONG_PINS):
        assert await claim(database, share.id) is not None


async def test_a_refused_attempt_does_not_lengthen_the_lock(database: Database) -> None:
    share = await made(database, await make_tenant(database))
    last = None
    while (claimed := await claim(database, share.id)) is not None:
        last = claimed
    async with database.reading() as session:
        found = await shares.find_share(session, share.id)
    assert last is not None
    assert found is not None
    assert found.locked_until == last.locked_until


async def test_revoking_is_for_the_organisation_and_noted_once(database: Database) -> None:
    tenant, stranger = await make_tenant(database), await make_tenant(database, "two")
    share = await made(database, tenant)
    async with database.transaction() as session:
        with pytest.raises(NotFound):
            await shares.revoke_share(session, stranger.actor, share.environment_id, share.id)
    for _ in range(2):
        async with database.transaction() as session:
            revoked = await shares.revoke_share(session, tenant.actor, share.environment_id, share.id)
        assert not revoked.opens(utc_now())
    async with database.reading() as session:
        entries = await list_entries(session, tenant.id, wanted=AuditFilter(subject_id=share.id))
    assert [entry.action for entry in entries.items] == ["share.revoke", "share.create"]
    assert "x" not in [str(value) for entry in entries.items for value in entry.data.values()]


async def test_those_long_over_are_forgotten(database: Database) -> None:
    tenant = await make_tenant(database)
    share = await made(database, tenant)
    await change(database, share.id, expires_at=utc_now() - timedelta(days=91))
    wish = NewShare(key_id="m1", pin_hash=None, label="", show_images=False, lifetime=timedelta(days=1))
    async with database.transaction() as session:
        newer = await shares.create_share(session, tenant.actor, share.environment_id, wish)
        page = await shares.list_shares(session, tenant.id, share.environment_id)
    assert [each.id for each in page.items] == [newer.id]


async def test_links_of_what_is_deleted_need_no_key(database: Database) -> None:
    tenant = await make_tenant(database)
    share = await made(database, tenant)
    async with database.reading() as session:
        assert [(links.key_id, links.count) for links in await shares.links_by_key(session)] == [("m1", 1)]
    async with database.transaction() as session:
        gone = update(Environment).where(col(Environment.id) == share.environment_id)
        await session.exec(gone.values(deleted_at=utc_now()))
    async with database.reading() as session:
        assert await shares.links_by_key(session) == ()
