"""The estimate of what an environment costs, over the rate card of the settings."""

from __future__ import annotations

from api.access.schemas import CostOut, ServiceCostOut
from api.environments.live import read_known
from api.state import AppState
from workflows.domain.cost import estimate_cost
from workflows.domain.operations import EnvironmentPhase


async def read_cost(state: AppState, organization_id: str, environment_id: str) -> CostOut:
    """Return the estimate. Raises NotFound."""
    known = await read_known(state.database, organization_id, environment_id)
    estimate = estimate_cost(
        known.blueprint,
        known.overrides,
        known.record.guard_rails,
        state.settings.rate_card,
        stopped=known.record.phase is EnvironmentPhase.STOPPED,
    )
    return CostOut(
        currency=estimate.currency,
        per_hour=str(estimate.per_hour),
        per_month=str(estimate.per_month),
        services=[
            ServiceCostOut(
                service=each.service,
                replicas=each.replicas,
                volumes=each.volumes,
                cpu_cores=float(each.cpu_cores),
                memory_bytes=each.memory_bytes,
                storage_bytes=each.storage_bytes,
                per_hour=str(each.per_hour),
                per_month=str(each.per_month),
            )
            for each in estimate.services
        ],
        assumed=list(estimate.assumed),
    )
