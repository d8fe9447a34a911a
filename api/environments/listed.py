"""What lists show of services, kept so that not each of them is read again: a revision never changes."""

from collections.abc import Iterable, Mapping
from typing import Final

from cachetools import LRUCache
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import EnvironmentRecord
from activities.db.repositories.bulk import current_blueprints, scaled
from api.environments.schemas import ServiceOut
from api.environments.shapes import WITHOUT_PODS, read_blueprint, services_out
from workflows.domain.environment import Overrides

SERVICES_KEPT: Final = 5000
"""A service takes a kilobyte or two: the cache stays at some megabytes."""

_Shown = tuple[str, int, str | None, str, bool, frozenset[tuple[str, int]]]
"""What of an environment its services are shown by."""


class Listed:
    """The services of environments as lists show them: without what the cluster says."""

    def __init__(self) -> None:
        self._known: LRUCache[_Shown, list[ServiceOut]] = LRUCache(SERVICES_KEPT, getsizeof=len)

    async def services(
        self, session: AsyncSession, organization_id: str, records: Iterable[EnvironmentRecord]
    ) -> dict[str, list[ServiceOut]]:
        """Return the services of environments of the organisation, by environment id; not to be changed.

        `records` are of the same reading transaction.
        """
        there = list(records)
        replicas = await scaled(session, organization_id, [record.id for record in there])
        shown = {record.id: _shown(record, replicas.get(record.id, {})) for record in there}
        found: dict[str, list[ServiceOut]] = {}
        missing: list[EnvironmentRecord] = []
        for record in there:
            known = self._known.get(shown[record.id])
            if known is None:
                missing.append(record)
            else:
                found[record.id] = known
        if missing:
            documents = await current_blueprints(session, organization_id, [record.id for record in missing])
            for record in missing:
                overrides = Overrides(replicas=replicas.get(record.id, {}))
                shaped = services_out(record, read_blueprint(documents[record.id]), overrides=overrides)
                found[record.id] = self._known[shown[record.id]] = shaped
        return found


def _shown(record: EnvironmentRecord, replicas: Mapping[str, int]) -> _Shown:
    rails, stopped = record.guard_rails, record.phase in WITHOUT_PODS
    scales = frozenset(replicas.items())
    return record.id, record.revision, rails.ingress_class, rails.base_domain, stopped, scales
