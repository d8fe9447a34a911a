"""What a verification needs of Perdure's own state: its row, keys, and an environment to restore into."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from temporalio import activity

from activities._state import sealer_of, start_accepted, told_as_failures
from activities._step import alive
from activities.db import acceptance
from activities.db.acceptance import AsNew, Site
from activities.db.engine import Database
from activities.db.errors import AlreadyDeleted, DomainError, NotFound, SnapshotNotReady
from activities.db.records import Actor, StepRecord
from activities.db.repositories import operations, snapshots, verifications
from activities.db.repositories.environments import get_environment
from activities.db.repositories.verifications import VerificationRecord
from activities.db.tables import Role
from activities.secrets import MasterKeys, Sealer
from activities.snapshots import beside
from activities.snapshots._transfer import store_failures
from activities.snapshots.ledger import loadable
from activities.storage.objects import ObjectStore
from activities.temporal import WorkflowStarter
from workflows.contracts.restore import WRITTEN_SINCE
from workflows.contracts.snapshot import Loadable
from workflows.contracts.verify import (
    Checked,
    LoadableWanted,
    OperationEnded,
    OperationWanted,
    Trial,
    VerificationInput,
    VerificationPlan,
    VerificationResult,
    VerifyControlActivities,
)
from workflows.domain.failures import MESSAGE_LIMIT
from workflows.domain.verification import VerificationState

_LOOK_SECONDS: Final = 1.0
_HOURS: Final = 24
"""After so long the environment goes by itself, whatever has become of the verification."""


@dataclass(frozen=True, slots=True)
class ControlVerification(VerifyControlActivities):
    """Verifications over the database."""

    database: Database
    objects: ObjectStore
    keys: MasterKeys
    sealers: Mapping[str, Sealer]
    starter: WorkflowStarter

    @activity.defn(name="verify.begin")
    async def begin(self, request: VerificationInput) -> VerificationPlan:
        """See `VerifyControlActivities`."""
        async with told_as_failures(), self.database.reading() as session:
            found = await verifications.by_id(session, request.verification_id)
            snapshot = await snapshots.get_snapshot(session, found.organization_id, found.snapshot_id)
            environment = await get_environment(session, found.organization_id, snapshot.environment_id)
        if found.state is not VerificationState.RUNNING or snapshot.manifest is None:
            return VerificationPlan(proceed=False)
        return VerificationPlan(
            proceed=True,
            snapshot_id=snapshot.id,
            organization_id=snapshot.organization_id,
            cluster=environment.cluster,
            level=found.level,
            components=tuple(each for each in snapshot.manifest.components if each.parts or each.volumes),
            beside=True,
        )

    @activity.defn(name="verify.beside")
    async def beside(self, request: VerificationInput) -> Checked:
        """See `VerifyControlActivities`. Here, for both copies are read by one version of the code."""
        async with told_as_failures(), self.database.reading() as session:
            found = await verifications.by_id(session, request.verification_id)
            snapshot = await snapshots.get_snapshot(session, found.organization_id, found.snapshot_id)
            if snapshot.manifest is None:
                raise SnapshotNotReady(snapshot.id, snapshot.state)
        async with alive(), store_failures():
            return Checked(checks=await beside.checks(self.objects, snapshot.manifest))

    @activity.defn(name="verify.loadable")
    async def loadable(self, request: LoadableWanted) -> Loadable:
        """See `VerifyControlActivities`."""
        async with told_as_failures(), self.database.reading() as session:
            found = await verifications.by_id(session, request.verification_id)
            snapshot = await snapshots.get_snapshot(session, found.organization_id, found.snapshot_id)
            environment = await get_environment(session, found.organization_id, snapshot.environment_id)
            sealer = sealer_of(self.sealers, environment.cluster)
            return await loadable(session, snapshot, request.service, self.keys, sealer)

    @activity.defn(name="verify.restore")
    async def restore(self, request: VerificationInput) -> Trial:
        """See `VerifyControlActivities`. Row and environment are written together: a repeat finds both."""
        try:
            async with self.database.transaction() as session:
                found = await verifications.locked(session, request.verification_id)
                if found.operation_id is not None:
                    return Trial(operation_id=found.operation_id)
                snapshot = await snapshots.get_snapshot(session, found.organization_id, found.snapshot_id)
                source = await get_environment(session, found.organization_id, snapshot.environment_id)
                accepted = await acceptance.restore_as_new(
                    session,
                    _actor(found),
                    snapshot.id,
                    AsNew(_trial_name(found), prove=True, ttl_minutes=_HOURS * 60),
                    Site(source.cluster, source.installation_id, source.guard_rails),
                    keys=self.keys,
                )
                await verifications.note_trial(
                    session, found.id, accepted.environment.id, accepted.operation.id
                )
        except DomainError as refused:
            return Trial(refused=f"It cannot be restored into an environment of its own: {refused}.")
        await start_accepted(self.starter, accepted)
        return Trial(operation_id=accepted.operation.id)

    @activity.defn(name="verify.await_operation")
    async def await_operation(self, request: OperationWanted) -> OperationEnded:
        """See `VerifyControlActivities`."""
        async with alive():
            while True:
                async with self.database.reading() as session:
                    ref = await operations.operation_ref(session, request.operation_id)
                    record = await operations.get_operation(
                        session, ref.organization_id, request.operation_id
                    )
                    if record.ended:
                        steps = await operations.steps(session, ref.organization_id, request.operation_id)
                        return OperationEnded(failure=record.failure, told=_written(steps))
                await asyncio.sleep(_LOOK_SECONDS)

    @activity.defn(name="verify.remove")
    async def remove(self, request: VerificationInput) -> Trial:
        """See `VerifyControlActivities`. A deletion that runs already is answered again."""
        async with self.database.reading() as session:
            found = await verifications.by_id(session, request.verification_id)
        if found.environment_id is None:
            return Trial()
        try:
            async with self.database.transaction() as session:
                accepted = await acceptance.delete_environment(
                    session, _actor(found), found.environment_id, force=False
                )
        except (AlreadyDeleted, NotFound):
            return Trial()
        await start_accepted(self.starter, accepted)
        return Trial(operation_id=accepted.operation.id)

    @activity.defn(name="verify.finish")
    async def finish(self, result: VerificationResult) -> VerificationResult:
        """See `VerifyControlActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            return await verifications.finish(session, result, datetime.now(UTC))


def _written(steps: Iterable[StepRecord]) -> str:
    """Say what services wrote to files since they were restored: no damage, and not compared."""
    outputs = ((step.service, step.output or {}) for step in steps)
    told = [f"{service} {output[WRITTEN_SINCE]}" for service, output in outputs if WRITTEN_SINCE in output]
    return "; ".join(told)[:MESSAGE_LIMIT]


def _actor(found: VerificationRecord) -> Actor:
    return Actor(found.organization_id, found.requested_by, None, Role.DEVELOPER)


def _trial_name(found: VerificationRecord) -> str:
    return f"verify-{found.id[-12:].lower()}"
