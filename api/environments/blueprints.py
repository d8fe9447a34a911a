"""Blueprints as they were read last, so that a list of environments does not read each of them again."""

from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import EnvironmentRecord
from activities.db.repositories.bulk import current_blueprints
from api.environments.shapes import read_blueprint
from workflows.domain.blueprint import Blueprint

SERVICES_KEPT: Final = 5000
"""A service takes some kilobytes: the cache stays in the tens of megabytes."""


class Blueprints:
    """The Blueprints of revisions that this process showed lately. A revision never changes."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[str, int], Blueprint] = LRUCache(
            SERVICES_KEPT, getsizeof=lambda blueprint: len(blueprint.services)
        )

    async def of(
        self, session: AsyncSession, organization_id: str, records: Iterable[EnvironmentRecord]
    ) -> dict[str, Blueprint]:
        """Return the current Blueprints of environments of the organisation, by environment id.

        `records` are of the same reading transaction.
        """
        found: dict[str, Blueprint] = {}
        missing: dict[str, int] = {}
        for record in records:
            known = self._known.get((record.id, record.revision))
            if known is None:
                missing[record.id] = record.revision
            else:
                found[record.id] = known
        if missing:
            documents = await current_blueprints(session, organization_id, missing)
            for environment_id, document in documents.items():
                blueprint = read_blueprint(document)
                found[environment_id] = blueprint
                self._known[environment_id, missing[environment_id]] = blueprint
        return found
