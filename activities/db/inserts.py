"""The rows that an accepted operation is made of. Called by `acceptance`, under its locks."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.errors import Busy
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor
from activities.db.repositories import secrets
from activities.db.repositories.operations import live_rows
from activities.db.tables import Environment, Operation, Revision, Step
from activities.db.transitions import ready
from activities.db.types import utc_now
from activities.db.usage import usage_of
from activities.secrets import DataKey, generate_secret
from workflows.domain.blueprint import (
    Blueprint,
    SecretSourceKind,
    literal_secrets,
    secret_sources,
    without_literals,
)
from workflows.domain.environment import GuardRails
from workflows.domain.names import namespace_name
from workflows.domain.operations import (
    FENCES_PER_OPERATION,
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    PlannedStep,
    StepState,
    workflow_id,
)


async def insert_environment(
    session: AsyncSession,
    actor: Actor,
    blueprint: Blueprint,
    *,
    cluster: str,
    plan: str | None,
    installation_id: str,
    guard_rails: GuardRails,
    now: datetime,
) -> Environment:
    """Insert an environment that is about to be provisioned.

    The caller holds the organisation's lock and has seen that the name is free.
    """
    usage = usage_of(blueprint, guard_rails)
    identifier = new_id(IdPrefix.ENVIRONMENT)
    row = Environment(
        id=identifier,
        organization_id=actor.organization_id,
        name=blueprint.name,
        description=blueprint.description,
        cluster=cluster,
        namespace=namespace_name(blueprint.name, identifier),
        phase=EnvironmentPhase.PROVISIONING,
        conditions=[ready("False", "Provisioning", "", now).model_dump(mode="json")],
        plan=plan,
        labels=dict(blueprint.labels),
        protected=blueprint.protected,
        auto_shutdown_enabled=blueprint.auto_shutdown_enabled,
        auto_shutdown_delay_minutes=blueprint.auto_shutdown_delay_minutes,
        ttl_minutes=blueprint.ttl_minutes,
        guard_rails=guard_rails.model_dump(mode="json"),
        installation_id=installation_id,
        cpu_millis=usage.cpu_millis,
        memory_bytes=usage.memory_bytes,
        storage_bytes=usage.storage_bytes,
        created_by=actor.principal_id,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await session.flush()
    return row


async def insert_first_revision(
    session: AsyncSession, actor: Actor, environment: Environment, blueprint: Blueprint, now: datetime
) -> None:
    """Insert revision 1: the Blueprint with references in the place of literal secret values."""
    session.add(
        Revision(
            environment_id=environment.id,
            number=environment.revision,
            organization_id=environment.organization_id,
            message="created",
            blueprint=without_literals(blueprint).model_dump(mode="json", by_alias=True),
            created_by=actor.principal_id,
            created_at=now,
        )
    )
    await session.flush()


async def insert_secrets(
    session: AsyncSession, environment: Environment, blueprint: Blueprint, key: DataKey
) -> None:
    """Store literal and generated secret values of an environment, encrypted with the organisation's key."""
    literals = literal_secrets(blueprint)
    for name, source in secret_sources(blueprint).items():
        if source.kind is SecretSourceKind.STORED:
            continue
        generated = source.kind is SecretSourceKind.GENERATED
        await secrets.store_secret(
            session,
            environment.organization_id,
            name,
            generate_secret() if generated else literals[name],
            key=key,
            environment_id=environment.id,
            generated=generated,
            known=False,
        )


async def insert_operation(  # noqa: PLR0913 - one keyword per property of an operation
    session: AsyncSession,
    actor: Actor,
    environment: Environment,
    kind: OperationKind,
    steps: Sequence[PlannedStep],
    *,
    on_failure: OnFailure = OnFailure.KEEP,
    retry_of: str | None = None,
    force: bool = False,
    alone: bool = False,
) -> tuple[Operation, Sequence[Step]]:
    """Insert an accepted operation with its steps, and give it the environment's next fence. Raises Busy.

    Steps and fence are written with the caller's next flush. `alone`: it is a new environment, no operation
    can be in the way.
    """
    identifier = new_id(IdPrefix.OPERATION)
    fence = environment.last_fence + 1
    row = Operation(
        id=identifier,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        kind=kind,
        state=OperationState.ACCEPTED,
        revision=environment.revision,
        fence=fence,
        retry_of=retry_of,
        requested_by=actor.principal_id,
        workflow_id=workflow_id(kind, environment.name, identifier),
        on_failure=on_failure,
        force=force,
        created_at=utc_now(),
    )
    try:
        if alone:
            session.add(row)
            await session.flush()
        else:
            async with session.begin_nested():
                session.add(row)
    except IntegrityError:
        rivals = [
            other
            for other in await live_rows(session, environment.id)
            if (other.kind is OperationKind.DELETE) == (kind is OperationKind.DELETE)
        ]
        if not rivals:
            raise
        raise Busy(rivals[0].id, rivals[0].kind) from None
    environment.last_fence += FENCES_PER_OPERATION
    rows = [_step(row, position, step) for position, step in enumerate(steps)]
    session.add_all(rows)
    return row, rows


def _step(operation: Operation, position: int, step: PlannedStep) -> Step:
    return Step(
        operation_id=operation.id,
        name=step.name,
        organization_id=operation.organization_id,
        position=position,
        kind=step.kind,
        service=step.service,
        depends_on=list(step.depends_on),
        state=StepState.PENDING,
        input_hash=step.input_hash,
        # Said out loud: for each default that is a factory the table's class would inspect its signature.
        blocked_by=[],
    )
