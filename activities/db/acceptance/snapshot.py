"""Accepting a snapshot: what an environment is now, kept."""

import base64
from dataclasses import dataclass
from datetime import timedelta

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._shared import Accepted, accept, changeable, refuse_phases
from activities.db.inserts import Asked
from activities.db.records import Actor, JsonObject
from activities.db.repositories import secrets, snapshots
from activities.db.repositories.revisions import current_blueprint
from activities.db.repositories.snapshots import NewSnapshot, SnapshotRecord
from activities.secrets import DataKey, MasterKeys
from workflows.domain.operations import EnvironmentPhase, OperationKind
from workflows.domain.plan import plan_snapshot
from workflows.domain.snapshot import Consistency
from workflows.domain.snapshot_manifest import SnapshotRun

_TAKEABLE = frozenset({EnvironmentPhase.RUNNING, EnvironmentPhase.DEGRADED})


@dataclass(frozen=True, slots=True)
class SnapshotWish:
    """What is asked for. `floor`: below it there is to be none; `lifetime` None: until it is deleted."""

    name: str = ""
    floor: Consistency | None = None
    lifetime: timedelta | None = None
    scheduled: bool = False
    """By the environment's policy, not by somebody."""


@dataclass(frozen=True, slots=True)
class SnapshotAccepted:
    """A snapshot that is being taken, and the operation that does."""

    accepted: Accepted
    snapshot: SnapshotRecord


async def snapshot_environment(
    session: AsyncSession, actor: Actor, environment_id: str, wish: SnapshotWish, *, keys: MasterKeys
) -> SnapshotAccepted:
    """Accept that a snapshot is taken. The environment's own secrets are kept with it, encrypted.

    Raises NotFound, AlreadyDeleted, Deleting, Busy, or NotApplicable unless it runs.
    """
    environment = await changeable(session, actor, environment_id)
    refuse_phases(
        environment,
        "a snapshot is taken of an environment that runs",
        *(frozenset(EnvironmentPhase) - _TAKEABLE),
    )
    blueprint = await current_blueprint(session, environment)
    key = await secrets.data_key(session, environment.organization_id, keys)
    own = await secrets.secret_values(
        session, environment.organization_id, environment.id, keys, revision=environment.revision
    )
    identifier = snapshots.new_snapshot_id()
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(OperationKind.SNAPSHOT),
        plan_snapshot(blueprint),
        audit=("environment.snapshot", {"snapshot": identifier, "floor": wish.floor}),
    )
    wanted = NewSnapshot(
        id=identifier,
        name=wish.name,
        lifetime=wish.lifetime,
        scheduled=wish.scheduled,
        secrets={name: kept_secret(key, identifier, name, value) for name, value in own.items()},
    )
    record = await snapshots.create_snapshot(
        session, actor, environment, accepted.operation.id, wanted, now=accepted.operation.created_at
    )
    run = SnapshotRun(snapshot_id=identifier, floor=wish.floor)
    await snapshots.add_run(session, environment.organization_id, accepted.operation.id, run)
    return SnapshotAccepted(accepted, record)


def kept_secret(key: DataKey, snapshot_id: str, name: str, value: str) -> JsonObject:
    """Return a value as a snapshot keeps it."""
    sealed = key.encrypt(value, subject=_subject(snapshot_id, name))
    return {"dataKeyId": key.id, "ciphertext": base64.b64encode(sealed).decode()}


async def kept_values(session: AsyncSession, snapshot: SnapshotRecord, keys: MasterKeys) -> dict[str, str]:
    """Return the values that a snapshot keeps, by name. Raises SecretsError when one does not open."""
    opened: dict[str, DataKey] = {}
    values: dict[str, str] = {}
    for name, kept in snapshot.secrets.items():
        key_id = str(kept["dataKeyId"])
        if key_id not in opened:
            opened[key_id] = await secrets.open_data_key(session, snapshot.organization_id, key_id, keys)
        sealed = base64.b64decode(str(kept["ciphertext"]))
        values[name] = opened[key_id].decrypt(sealed, subject=_subject(snapshot.id, name))
    return values


def _subject(snapshot_id: str, name: str) -> str:
    return f"snapshot {snapshot_id} secret {name}"
