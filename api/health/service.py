"""Whether the parts of Perdure answer: database, Temporal, clusters; each with latency and reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from pydantic import Field

from activities.temporal import TemporalError
from api.envelope import ApiModel
from api.state import AppState
from clusters.errors import ClusterError

CHECK_SECONDS = 3.0


class PartOut(ApiModel):
    """One part."""

    status: str = Field(description="`up` or `down`")
    latency_ms: float | None = None
    reason: str | None = None


class HealthOut(ApiModel):
    """The parts, and what they come to."""

    status: str = Field(description="`up`; `degraded` when only a cluster is down; `down`")
    version: str
    parts: dict[str, PartOut]

    @property
    def ready(self) -> bool:
        """Whether requests that change something can be taken."""
        return self.status != "down"


async def examine(state: AppState, version: str) -> HealthOut:
    """Ask every part, all at once, each for three seconds at most."""

    def of_cluster(name: str) -> Callable[[], Awaitable[None]]:
        async def ping() -> None:
            await (await state.clusters.get(name)).ping()

        return ping

    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "database": state.database.ping,
        "temporal": state.starter.check,
        **{f"cluster/{name}": of_cluster(name) for name in state.settings.all_clusters},
    }
    results = await asyncio.gather(*(_check(check) for check in checks.values()))
    parts = dict(zip(checks, results, strict=True))
    down = {name for name, part in parts.items() if part.status == "down"}
    # Without Temporal, operations are accepted and started later; without a cluster, there are no live reads.
    status = "down" if "database" in down else "degraded" if down else "up"
    return HealthOut(status=status, version=version, parts=parts)


async def _check(check: Callable[[], Awaitable[None]]) -> PartOut:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except TimeoutError:
        return PartOut(status="down", reason=f"no answer within {CHECK_SECONDS:g} s")
    except (TemporalError, ClusterError) as error:
        return PartOut(status="down", reason=str(error)[:200])
    except Exception as error:  # noqa: BLE001 - each driver has its own; their texts may hold addresses
        return PartOut(status="down", reason=type(error).__name__)
    return PartOut(status="up", latency_ms=round((time.perf_counter() - began) * 1000, 1))
