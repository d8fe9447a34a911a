"""All checks at once, each part for a few seconds at most: one that hangs does not hide the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

from activities.db.tables import Role
from activities.temporal import TemporalError
from activities.version import VERSION
from api.checks import clusters, stores, temporal
from api.checks.schemas import CheckOut, ChecksOut, fail
from api.state import AppState
from clusters.errors import ClusterError

PART_SECONDS: Final = 10.0

Part = Callable[[], Awaitable[list[CheckOut]]]

_DATABASE: Final = "See that the database of PERDURE_DATABASE_URL runs and can be reached from the API."
_KEYS: Final = "Mend the database first; then look at PERDURE_MASTER_KEYS."
_TEMPORAL: Final = "See that the server of PERDURE_TEMPORAL_ADDRESS runs and can be reached from the API."
_CLUSTER: Final = "See that its API server runs, and at the kubeconfig that the API has for it."
_OBJECTS: Final = "Look at PERDURE_OBJECT_STORE and the credentials for it."


async def check_all(state: AppState, role: Role) -> ChecksOut:
    """Check every part; what a check raises is its finding."""
    parts: list[tuple[str, str, Part]] = [
        ("database", _DATABASE, partial(stores.database, state)),
        ("master-keys", _KEYS, partial(stores.master_keys, state)),
        ("temporal", _TEMPORAL, partial(temporal.temporal, state)),
        *(
            (f"cluster/{name}", _CLUSTER, partial(clusters.cluster, state, name))
            for name in sorted(state.settings.all_clusters)
        ),
        ("object-store", _OBJECTS, partial(stores.objects, state)),
        ("object-store/snapshots", _DATABASE, partial(stores.snapshots, state)),
    ]
    found = await asyncio.gather(*(_part(*part) for part in parts))
    return ChecksOut(
        version=VERSION,
        role=role.value,
        observed_at=datetime.now(UTC),
        checks=[each for checks in found for each in checks],
    )


async def _part(name: str, remedy: str, check: Part) -> list[CheckOut]:
    try:
        async with asyncio.timeout(PART_SECONDS):
            return await check()
    except TimeoutError:
        return [fail(name, f"no answer within {PART_SECONDS:g} s", remedy)]
    except (TemporalError, ClusterError) as error:
        return [fail(name, str(error)[:200], remedy)]
    except Exception as error:  # noqa: BLE001 - each driver has its own; their texts may hold addresses
        return [fail(name, f"no answer ({type(error).__name__})", remedy)]
