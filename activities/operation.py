"""The ledger activities of the control worker: one short transaction each, run as local activities."""

from collections.abc import Mapping
from dataclasses import dataclass

from temporalio import activity

from activities._state import sealer_of, told_as_failures
from activities.db import ledger
from activities.db.engine import Database
from activities.db.planning import context_of
from activities.db.repositories import operations, revisions, secrets, snapshots
from activities.db.repositories.environments import get_environment
from activities.db.repositories.seed_runs import get_run
from activities.db.secret_material import digests, secret_material
from activities.secrets import MasterKeys, Sealer
from workflows.contracts.operation import (
    LedgerActivities,
    LedgerEntry,
    OperationInput,
    OperationPlan,
    OperationResult,
    RecordedPreImage,
    SealedSecrets,
    SealSecrets,
)
from workflows.domain.blueprint import Blueprint
from workflows.domain.operations import WITH_SNAPSHOT, OperationKind


@dataclass(frozen=True)
class Ledger(LedgerActivities):
    """The ledger over the database. `sealers`: by cluster, what seals values for it.

    What can only go wrong again (an unknown operation, a missing key) ends as a failure that is not tried
    again; what the database refuses for the moment is left to the retry policy.
    """

    database: Database
    keys: MasterKeys
    sealers: Mapping[str, Sealer]

    @activity.defn(name="operation.begin")
    async def begin(self, operation: OperationInput) -> OperationPlan:
        """See `LedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            begun = await ledger.begin(session, operation.operation_id)
            environment, record = begun.environment, begun.operation
            blueprint = Blueprint.model_validate(begun.revision.blueprint)
            secret_digests: dict[str, str] = {}
            run = await get_run(session, record.id) if record.kind is OperationKind.SEED else None
            snapshot = await snapshots.run_of(session, record.id) if record.kind in WITH_SNAPSHOT else None
            if begun.proceed:
                key = await secrets.data_key(session, environment.organization_id, self.keys)
                material = await secret_material(
                    session,
                    environment.organization_id,
                    environment.id,
                    blueprint,
                    self.keys,
                    revision=record.revision,
                )
                secret_digests = digests(key.hash_key(), material.values)
        return OperationPlan(
            proceed=begun.proceed,
            context=context_of(environment, record.id, revision=record.revision, fence=record.fence),
            blueprint=begun.revision.blueprint,
            steps=begun.steps,
            earlier=begun.earlier,
            replay=begun.replay,
            touched=begun.touched,
            on_failure=record.on_failure,
            guard_rails=environment.guard_rails,
            overrides=begun.overrides,
            secret_digests=secret_digests,
            change=record.change,
            cancel=None if record.cancel is None else record.cancel.request(),
            force=record.force,
            seed=run,
            snapshot=snapshot,
        )

    @activity.defn(name="operation.record")
    async def record(self, entry: LedgerEntry) -> None:
        """See `LedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            await ledger.record(session, entry)

    @activity.defn(name="operation.pre_image")
    async def pre_image(self, operation: OperationInput) -> RecordedPreImage:
        """See `LedgerActivities`."""
        async with told_as_failures(), self.database.reading() as session:
            recorded = await ledger.recorded_pre_image(session, operation.operation_id)
            revision = None if recorded.pre_image is None else recorded.pre_image.revision
            if recorded.blueprint is None or revision is None:
                return recorded
            ref = await operations.operation_ref(session, operation.operation_id)
            key = await secrets.data_key(session, ref.organization_id, self.keys)
            material = await secret_material(
                session,
                ref.organization_id,
                ref.environment_id,
                Blueprint.model_validate(recorded.blueprint),
                self.keys,
                revision=revision,
            )
            found = digests(key.hash_key(), material.values)
            return recorded.model_copy(update={"secret_digests": found})

    @activity.defn(name="operation.seal_secrets")
    async def seal_secrets(self, request: SealSecrets) -> SealedSecrets:
        """See `LedgerActivities`. Values that exist no more are left out; the step that needs one says so."""
        async with told_as_failures(), self.database.reading() as session:
            ref = await operations.operation_ref(session, request.operation_id)
            record = await operations.get_operation(session, ref.organization_id, ref.operation_id)
            environment = await get_environment(session, ref.organization_id, ref.environment_id)
            revision = await revisions.get_revision(
                session, ref.organization_id, ref.environment_id, request.revision or record.revision
            )
            material = await secret_material(
                session,
                ref.organization_id,
                ref.environment_id,
                Blueprint.model_validate(revision.blueprint),
                self.keys,
                revision=revision.number,
            )
        sealer = sealer_of(self.sealers, environment.cluster)
        return SealedSecrets(
            values={name: sealer.seal(value) for name, value in material.values.items()},
            registry_credentials={
                name: sealer.seal(document) for name, document in material.registry_credentials.items()
            },
        )

    @activity.defn(name="operation.finish")
    async def finish(self, result: OperationResult) -> OperationResult:
        """See `LedgerActivities`."""
        async with told_as_failures(), self.database.transaction() as session:
            return await ledger.finish(session, result)
