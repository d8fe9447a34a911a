"""Rotating master keys: every organisation's data keys under the current one, an organisation at a time."""

from collections.abc import Callable
from dataclasses import dataclass

from activities.db.engine import Database
from activities.db.records import OPERATOR, Actor, JsonObject
from activities.db.repositories import shares
from activities.db.repositories._rows import locked_organization
from activities.db.repositories.audit import add_entry
from activities.db.repositories.secrets import behind_in_rotation, rewrap_data_keys, wrapped_keys
from activities.db.repositories.shares import SignedLinks
from activities.db.tables import Role
from activities.secrets import MasterKeys, SecretsError


@dataclass(frozen=True, slots=True)
class Rotated:
    """What was done, and what is left under other master keys than the current one.

    `closed`: organisations whose data keys do not open with the master keys at hand, and why.
    """

    current_id: str
    rewrapped: int
    closed: dict[str, str]
    left: dict[str, int]
    links: tuple[SignedLinks, ...]

    @property
    def complete(self) -> bool:
        """Whether no data key needs another master key any more."""
        return not self.left


async def rotate(database: Database, keys: MasterKeys, done: Callable[[str, int], None]) -> Rotated:
    """Wrap all data keys by the current master key; `done` hears of each organisation after its commit.

    One transaction for each: killed anywhere, each data key is under one master key or the other, and a
    second run goes on. Two at once do no harm.
    """
    rewrapped = 0
    closed: dict[str, str] = {}
    async with database.reading() as session:
        behind = await behind_in_rotation(session, keys.current_id)
    for organization_id in behind:
        try:
            count = await _rotate_one(database, keys, organization_id)
        except SecretsError as error:
            closed[organization_id] = str(error)
            continue
        rewrapped += count
        done(organization_id, count)
    async with database.reading() as session:
        left: dict[str, int] = {}
        for key in await wrapped_keys(session):
            if key.master_key_id != keys.current_id:
                left[key.master_key_id] = left.get(key.master_key_id, 0) + 1
        links = await shares.links_by_key(session)
    return Rotated(
        keys.current_id,
        rewrapped,
        closed,
        left,
        tuple(each for each in links if each.key_id != keys.current_id),
    )


async def _rotate_one(database: Database, keys: MasterKeys, organization_id: str) -> int:
    async with database.transaction() as session:
        # Against the making of its first data key, which takes the same lock.
        await locked_organization(session, organization_id)
        count = await rewrap_data_keys(session, keys, organization_id)
        if count:
            operator = Actor(organization_id, OPERATOR, None, Role.OWNER)
            data: JsonObject = {"dataKeys": count, "masterKey": keys.current_id}
            await add_entry(session, operator, "keys.rotate", organization_id, data)
    return count
