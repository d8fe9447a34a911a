"""What lists show of services, kept so that not each of them is read again: a revision never changes."""

from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.records import EnvironmentRecord
from activities.db.repositories.bulk import current_blueprints, scaled
from api.environments.schemas import ServiceOut
from api.environments.shapes import in_its_phase, read_blueprint, services_out
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
        overrides = {record.id: Overrides(replicas=replicas.get(record.id, {})) for record in there}
        found: dict[str, list[ServiceOut]] = {}
        missing: list[EnvironmentRecord] = []
        for record in there:
            known = self._known.get(_shown(record, overrides[record.id]))
            if known is None:
                missing.append(record)
            else:
                found[record.id] = known
        if missing:
            wanted = [record.id for record in missing]
            documents = await current_blueprints(session, organization_id, wanted)
            for record in missing:
                on_top = overrides[record.id]
                shaped = services_out(record, read_blueprint(documents[record.id]), overrides=on_top)
                found[record.id] = self._known[_shown(record, on_top)] = shaped
        return found


def _shown(record: EnvironmentRecord, overrides: Overrides) -> _Shown:
    rails, wanted = record.guard_rails, in_its_phase(record, overrides)
    scales = frozenset(wanted.replicas.items())
    return record.id, record.revision, rails.ingress_class, rails.base_domain, wanted.stopped, scales
