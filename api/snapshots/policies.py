"""Use cases on the policies by which environments are taken snapshots of."""

from __future__ import annotations

from activities.db.repositories import snapshot_policies
from activities.db.repositories.snapshot_policies import PolicyRecord
from api.environments.service import Caller
from api.preconditions import check_precondition
from api.snapshots.schemas import PutSnapshotPolicy, SnapshotPolicyOut
from api.state import AppState
from workflows.domain.snapshot_policy import SnapshotPolicy


async def put(caller: Caller, environment_id: str, wish: PutSnapshotPolicy) -> SnapshotPolicyOut:
    """Set an environment's policy. Raises NotFound, AlreadyDeleted, ProblemError for a stale If-Match."""
    policy = SnapshotPolicy(
        every_minutes=wish.every_minutes,
        keep_last=wish.keep_last,
        expires_in_days=wish.expires_in_days,
        floor=wish.consistency_floor,
        verify_level=wish.verify_level,
        verify_every_hours=wish.verify_every_hours,
        paused=wish.paused,
    )
    async with caller.state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        return _shaped(await snapshot_policies.put(session, caller.actor, environment_id, policy))


async def get(state: AppState, organization_id: str, environment_id: str) -> SnapshotPolicyOut:
    """Return an environment's policy. Raises NotFound."""
    async with state.database.reading() as session:
        return _shaped(await snapshot_policies.get(session, organization_id, environment_id))


async def remove(caller: Caller, environment_id: str) -> None:
    """Take an environment's policy away. Raises NotFound, ProblemError for a stale If-Match."""
    async with caller.state.database.transaction() as session:
        await check_precondition(caller.request, session, caller.actor.organization_id)
        await snapshot_policies.remove(session, caller.actor, environment_id)


def _shaped(record: PolicyRecord) -> SnapshotPolicyOut:
    policy = record.policy
    return SnapshotPolicyOut(
        environment_id=record.environment_id,
        every_minutes=policy.every_minutes,
        keep_last=policy.keep_last,
        expires_in_days=policy.expires_in_days,
        consistency_floor=policy.floor,
        verify_level=policy.verify_level,
        verify_every_hours=policy.verify_every_hours,
        paused=policy.paused,
        next_at=record.next_at,
        last_at=record.last_at,
        last_result=record.last_result,
        last_result_at=record.result_at,
        last_snapshot_id=record.last_snapshot_id,
        last_snapshot_state=record.last_snapshot_state,
        updated_by=record.updated_by,
        updated_at=record.updated_at,
    )
