"""What an accepted operation is made of: records, then their rows. For `acceptance`, under its locks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.core import Values, insert_rows, values_of
from activities.db.errors import Busy
from activities.db.ids import IdPrefix, new_id
from activities.db.records import Actor, EnvironmentRecord, OperationRecord, RevisionRecord, StepRecord
from activities.db.repositories.operations import live_rows
from activities.db.repositories.secrets import NewSecret
from activities.db.tables import Environment, Operation, Revision, Step
from activities.db.timers import expiry
from activities.db.transitions import ready
from activities.db.usage import Usage
from activities.secrets import generate_secret
from workflows.contracts.operation import PreImage
from workflows.domain.blueprint import Blueprint, SecretSourceKind, literal_secrets, secret_sources
from workflows.domain.environment import GuardRails
from workflows.domain.names import namespace_name
from workflows.domain.operations import (
    FENCES_PER_OPERATION,
    Change,
    EnvironmentPhase,
    OnFailure,
    OperationKind,
    OperationState,
    PlannedStep,
    StepState,
    workflow_id,
)


def new_environment(
    actor: Actor,
    blueprint: Blueprint,
    *,
    cluster: str,
    plan: str | None,
    installation_id: str,
    guard_rails: GuardRails,
    now: datetime,
) -> EnvironmentRecord:
    """Return an environment that is about to be provisioned; its first event is counted already."""
    identifier = new_id(IdPrefix.ENVIRONMENT)
    return EnvironmentRecord(
        id=identifier,
        organization_id=actor.organization_id,
        name=blueprint.name,
        instance=blueprint.name,
        description=blueprint.description,
        cluster=cluster,
        namespace=namespace_name(blueprint.name, identifier),
        phase=EnvironmentPhase.PROVISIONING,
        conditions=(ready("False", "Provisioning", "", now),),
        revision=1,
        plan=plan,
        labels=dict(blueprint.labels),
        protected=blueprint.protected,
        auto_shutdown_enabled=blueprint.auto_shutdown_enabled,
        auto_shutdown_delay_minutes=blueprint.auto_shutdown_delay_minutes,
        auto_shutdown_unmeasured=False,
        ttl_minutes=blueprint.ttl_minutes,
        last_active_at=now,
        expires_at=expiry(now, blueprint.ttl_minutes),
        guard_rails=guard_rails,
        installation_id=installation_id,
        last_event=1,
        version=1,
        created_by=actor.principal_id,
        created_at=now,
        updated_at=now,
        delete_requested_at=None,
        deleted_at=None,
    )


def new_secrets(blueprint: Blueprint) -> dict[str, NewSecret]:
    """Return the values that belong to a new environment alone: written out in its Blueprint or generated."""
    literals = literal_secrets(blueprint)
    values: dict[str, NewSecret] = {}
    for name, source in secret_sources(blueprint).items():
        if source.kind is SecretSourceKind.GENERATED:
            values[name] = NewSecret(generate_secret(), generated=True)
        elif source.kind is SecretSourceKind.LITERAL:
            values[name] = NewSecret(literals[name], generated=False)
    return values


CREATED: Final = "created"
"""The message of a first revision to which nobody gave another."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation is to do. `change`: what it changes of a desired state that was there before."""

    kind: OperationKind
    on_failure: OnFailure = OnFailure.KEEP
    retry_of: str | None = None
    replay_of: str | None = None
    from_step: str | None = None
    force: bool = False
    change: Change | None = None
    pre_image: PreImage | None = None
    """What was there before the operation that this one retries; None: it is looked at as this one begins."""


def new_operation(
    actor: Actor, environment: EnvironmentRecord, asked: Asked, *, fence: int, now: datetime
) -> OperationRecord:
    """Return an accepted operation under the environment's next fence."""
    identifier = new_id(IdPrefix.OPERATION)
    return OperationRecord(
        id=identifier,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        kind=asked.kind,
        state=OperationState.ACCEPTED,
        revision=environment.revision,
        fence=fence,
        retry_of=asked.retry_of,
        replay_of=asked.replay_of,
        from_step=asked.from_step,
        requested_by=actor.principal_id,
        workflow_id=workflow_id(asked.kind, environment.name, identifier),
        on_failure=asked.on_failure,
        force=asked.force,
        failure=None,
        cleanup=None,
        pre_image=asked.pre_image,
        change=asked.change,
        cancel=None,
        asked=0,
        told=0,
        created_at=now,
        started_at=None,
        finished_at=None,
    )


async def insert_environment(
    session: AsyncSession, environment: EnvironmentRecord, kept: Blueprint, usage: Usage, message: str
) -> None:
    """Insert a new environment, whose first fence is given out, and its revision 1, with this message.

    `kept`: its Blueprint with references in the place of literal secret values. The caller holds the
    organisation's lock and has seen that the name is free.
    """
    row: Values = {
        **values_of(environment),
        "conditions": [condition.model_dump(mode="json") for condition in environment.conditions],
        "guard_rails": environment.guard_rails.model_dump(mode="json"),
        "cpu_millis": usage.cpu_millis,
        "memory_bytes": usage.memory_bytes,
        "storage_bytes": usage.storage_bytes,
        # Looked at first when one of its timers may run.
        "next_look_at": environment.created_at if environment.ttl_minutes is not None else None,
        "last_fence": FENCES_PER_OPERATION,
    }
    await insert_rows(session, Environment, row)
    await insert_revision(
        session,
        RevisionRecord(
            environment_id=environment.id,
            number=environment.revision,
            parent=None,
            message=message,
            blueprint=kept.model_dump(mode="json", by_alias=True),
            created_by=environment.created_by,
            created_at=environment.created_at,
        ),
        environment.organization_id,
    )


async def insert_revision(session: AsyncSession, revision: RevisionRecord, organization_id: str) -> None:
    """Insert a revision; its Blueprint has references in the place of literal secret values."""
    await insert_rows(session, Revision, {**values_of(revision), "organization_id": organization_id})


async def insert_operation(
    session: AsyncSession, operation: OperationRecord, steps: Sequence[PlannedStep]
) -> tuple[StepRecord, ...]:
    """Insert an accepted operation and its steps; the environment's counter has to count its fences.

    Raises IntegrityError when a live operation is in the way.
    """
    records = tuple(_step(operation, position, step) for position, step in enumerate(steps))
    await insert_rows(
        session,
        Operation,
        {
            "id": operation.id,
            "organization_id": operation.organization_id,
            "environment_id": operation.environment_id,
            "kind": operation.kind,
            "state": operation.state,
            "revision": operation.revision,
            "fence": operation.fence,
            "retry_of": operation.retry_of,
            "replay_of": operation.replay_of,
            "from_step": operation.from_step,
            "requested_by": operation.requested_by,
            "workflow_id": operation.workflow_id,
            "on_failure": operation.on_failure,
            "force": operation.force,
            "change": None if operation.change is None else operation.change.model_dump(mode="json"),
            "pre_image": None if operation.pre_image is None else operation.pre_image.model_dump(mode="json"),
            "created_at": operation.created_at,
        },
    )
    of_steps = ({**values_of(record), "organization_id": operation.organization_id} for record in records)
    await insert_rows(session, Step, *of_steps)
    return records


async def add_operation(
    session: AsyncSession, environment: Environment, operation: OperationRecord, steps: Sequence[PlannedStep]
) -> tuple[StepRecord, ...]:
    """Insert an operation beside those that a locked environment may have. Raises Busy.

    The fence is counted with the caller's next flush.
    """
    try:
        async with session.begin_nested():
            records = await insert_operation(session, operation, steps)
    except IntegrityError:
        rivals = [
            other
            for other in await live_rows(session, environment.id)
            if (other.kind is OperationKind.DELETE) == (operation.kind is OperationKind.DELETE)
        ]
        if not rivals:
            raise
        raise Busy(rivals[0].id, rivals[0].kind) from None
    environment.last_fence += FENCES_PER_OPERATION
    return records


def _step(operation: OperationRecord, position: int, step: PlannedStep) -> StepRecord:
    return StepRecord(
        operation_id=operation.id,
        name=step.name,
        position=position,
        kind=step.kind,
        service=step.service,
        depends_on=step.depends_on,
        state=StepState.PENDING,
        attempt=0,
        input_hash=step.input_hash,
        output=None,
        failure=None,
        blocked_by=(),
        started_at=None,
        finished_at=None,
    )
