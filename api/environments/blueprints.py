"""Blueprints as they were read last, and of them what lists show, so that not each of them is read again."""

from collections.abc import Collection, Iterable
from typing import Final

from cachetools import LRUCache
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import EnvironmentRecord
from activities.db.repositories.bulk import current_blueprints
from api.environments.schemas import ServiceOut
from api.environments.shapes import read_blueprint, services_out
from workflows.domain.blueprint import Blueprint

SERVICES_KEPT: Final = 500
"""A service of a Blueprint takes some ten kilobytes: the cache stays at a few megabytes."""
SERVICES_LISTED: Final = 5000
"""A service as lists show it takes one or two."""


_Shown = tuple[str, int, str | None, str]
"""What of an environment its services are shown by."""


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


class Listed:
    """The services of environments as lists show them: without what the cluster says, or an override."""

    def __init__(self, blueprints: Blueprints) -> None:
        self._blueprints = blueprints
        self._known: LRUCache[_Shown, list[ServiceOut]] = LRUCache(SERVICES_LISTED, getsizeof=len)

    async def services(
        self, session: AsyncSession, organization_id: str, records: Collection[EnvironmentRecord]
    ) -> dict[str, list[ServiceOut]]:
        """Return the services of environments of the organisation, by environment id; not to be changed.

        `records` are of the same reading transaction.
        """
        found: dict[str, list[ServiceOut]] = {}
        missing: list[EnvironmentRecord] = []
        for record in records:
            known = self._known.get(_shown(record))
            if known is None:
                missing.append(record)
            else:
                found[record.id] = known
        if missing:
            blueprints = await self._blueprints.of(session, organization_id, missing)
            for record in missing:
                shaped = services_out(record, blueprints[record.id])
                found[record.id] = self._known[_shown(record)] = shaped
        return found


def _shown(record: EnvironmentRecord) -> _Shown:
    rails = record.guard_rails
    return record.id, record.revision, rails.ingress_class, rails.base_domain
