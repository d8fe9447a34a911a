"""Accepting that an earlier operation's recorded graph is run again, in place or as a new environment."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.acceptance._loading import (
    Loading,
    create_loaded,
    init_faults,
    load_in_place,
    loaded_of,
    misfits,
    rule_faults,
)
from activities.db.acceptance._shared import (
    Accepted,
    accept,
    change_from,
    changeable,
    last_standing,
    left_to_remove,
    provision_of,
    refuse_phases,
)
from activities.db.acceptance.clone import blueprint_for_clone
from activities.db.acceptance.create import Site, create_environment
from activities.db.acceptance.snapshot import kept_values
from activities.db.errors import AlreadyDeleted, NotFound, NotReplayable, Protected, ReplayInvalid
from activities.db.inserts import Asked
from activities.db.records import (
    Actor,
    EnvironmentRecord,
    OperationRecord,
    environment_record,
    operation_record,
)
from activities.db.replays import replay_basis
from activities.db.repositories import environments, secrets, snapshots
from activities.db.repositories._rows import locked_environment, locked_organization
from activities.db.repositories.revisions import current_blueprint
from activities.db.restored import lacks_data
from activities.db.tables import Environment, Operation, Revision
from activities.db.transitions import step_rows
from activities.secrets import MasterKeys
from workflows.domain.blueprint import Blueprint
from workflows.domain.errors import FieldError
from workflows.domain.masking import MaskingRules
from workflows.domain.operations import Earlier, EnvironmentPhase, OperationKind, PlannedStep, StepKind
from workflows.domain.plan import plan_removals, plan_restore, plan_services, with_dependants
from workflows.domain.replay import Replay
from workflows.domain.snapshot import in_pods_alone
from workflows.domain.snapshot_manifest import SnapshotRun

REPLAYABLE: Final = frozenset(
    {
        OperationKind.PROVISION,
        OperationKind.UPDATE,
        OperationKind.RESUME,
        OperationKind.RESTORE,
        OperationKind.REPLAY,
    }
)
"""Operations that make an environment what it is."""

_INSTEAD: Final[Mapping[OperationKind, str]] = {
    OperationKind.STOP: "it took all pods away: resume the environment, or stop it again",
    OperationKind.SCALE: "it concerned one service: replay what made the environment, from that service",
    OperationKind.RESTART: "it concerned one service: restart that again, or replay from it",
    OperationKind.SEED: "it put data in once: run the seed again with force",
    OperationKind.SNAPSHOT: "it changed nothing in the environment: take another snapshot",
    OperationKind.DELETE: "it left nothing that could be run again",
}

_RESUME_FIRST: Final = "resume it first"
_OTHERS_FIRST: Final = (
    "its last operation did not end well, and the steps of this one do not mend that: retry or update it"
)


@dataclass(frozen=True, slots=True)
class ReplayWish:
    """What is to be run again. `operation_id` None: what made the environment what it is.

    `from_step`: it and all that depends on it, whatever else is known; in place only. `snapshot_id`: its data
    are loaded, with what `masking` names hidden, and all that depends on them is run. `init`: that of the
    services whose data are loaded is run over these.
    """

    operation_id: str | None = None
    from_step: str | None = None
    snapshot_id: str | None = None
    masking: MaskingRules | None = None
    init: bool = False

    def run(self) -> SnapshotRun | None:
        """Return what is done with the snapshot, if there is one."""
        if self.snapshot_id is None:
            return None
        return SnapshotRun(snapshot_id=self.snapshot_id, masking=self.masking, init=self.init)


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """What a replay in place would go by, save what is in the cluster."""

    environment: EnvironmentRecord
    operation: OperationRecord
    """The one that is replayed."""
    steps: tuple[PlannedStep, ...]
    earlier: Mapping[str, Earlier]
    replay: Replay
    in_pods_alone: tuple[str, ...]
    """The services whose data are loaded and no volume keeps."""


@dataclass(frozen=True, slots=True)
class _Graph:
    replayed: OperationRecord
    steps: tuple[PlannedStep, ...]
    loads: frozenset[str]
    """The services whose data a snapshot replaces."""


async def preview_replay(
    session: AsyncSession, actor: Actor, environment_id: str, wish: ReplayWish, *, keys: MasterKeys
) -> ReplayPreview:
    """Work out a replay in place, and write nothing. Raises what `replay_environment` raises."""
    environment = await changeable(session, actor, environment_id)
    graph = await _graph(session, environment, wish, keys)
    services = [step.name for step in graph.steps if step.kind is StepKind.SERVICE]
    earlier, replay = await replay_basis(
        session,
        environment.id,
        graph.replayed.id,
        from_step=wish.from_step,
        beyond=services if graph.loads else (),
    )
    alone = in_pods_alone(await current_blueprint(session, environment), graph.loads)
    return ReplayPreview(
        environment_record(environment), graph.replayed, graph.steps, earlier, replay, tuple(alone)
    )


async def replay_environment(
    session: AsyncSession, actor: Actor, environment_id: str, wish: ReplayWish, *, keys: MasterKeys
) -> Accepted:
    """Accept that an operation's steps are run again where they were, over the present revision.

    Which of them are skipped is decided as it begins, by what is in the cluster then. Raises NotFound,
    AlreadyDeleted, Deleting, Busy, NotApplicable while it is stopped, NotReplayable for an operation that has
    no such graph or data that came in part, Protected, SnapshotNotReady, or ReplayInvalid for a step that is
    not in it and data that do not fit.
    """
    environment = await changeable(session, actor, environment_id)
    graph = await _graph(session, environment, wish, keys)
    overrides = await environments.overrides(session, environment.organization_id, environment.id)
    left = await left_to_remove(session, environment)
    accepted = await accept(
        session,
        actor,
        environment,
        Asked(
            OperationKind.REPLAY,
            replay_of=graph.replayed.id,
            from_step=wish.from_step,
            change=change_from(environment, overrides).model_copy(update={"obsolete": left}),
        ),
        graph.steps,
        audit=(
            "environment.replay",
            {
                "replayOf": graph.replayed.id,
                "fromStep": wish.from_step,
                "snapshot": wish.snapshot_id,
                "init": wish.init,
            },
        ),
    )
    run = wish.run()
    if run is None:
        return accepted
    return await load_in_place(session, environment, accepted, overrides, graph.loads, run)


async def replay_into(
    session: AsyncSession,
    actor: Actor,
    environment_id: str,
    wish: ReplayWish,
    name: str,
    site: Site,
    *,
    keys: MasterKeys,
) -> Accepted:
    """Accept a new environment whose first operation replays one of this environment's.

    As with a clone, its Blueprint is the present one with its scaling, and generated secrets are made anew,
    save those that a snapshot's data have in them. Raises NotFound, AlreadyDeleted, NotReplayable,
    SnapshotNotReady, ReplayInvalid for a step to begin with, which would have nothing to begin from, and for
    data that do not fit, and what a new environment is refused with.
    """
    # Locks in their order: organisation, environment.
    await locked_organization(session, actor.organization_id)
    environment = await locked_environment(session, environment_id, actor.organization_id)
    if environment.deleted_at is not None:
        raise AlreadyDeleted(environment.id)
    replayed = await _replayed(session, environment, wish.operation_id)
    faults: list[FieldError] = []
    if wish.from_step is not None:
        message = "in a new environment all steps are run: nothing is there to begin from"
        faults.append(FieldError(path=("fromStep",), message=message, suggestion="leave it out"))
    source = await blueprint_for_clone(session, actor, environment_id, name, keys=keys)
    asked = Asked(OperationKind.REPLAY, on_failure=source.blueprint.on_failure, replay_of=replayed.id)
    run = wish.run()
    if run is None:
        _refuse(faults)
        return await create_environment(
            session, actor, source.blueprint, site, plan=source.plan, keys=keys, asked=asked
        )
    snapshot, manifest = await snapshots.usable_snapshot(session, actor.organization_id, run.snapshot_id)
    components = loaded_of(manifest)
    own = snapshot.environment_id == environment.id
    faults += misfits(source.blueprint, {}, components.values(), standing=False, own=own)
    faults += rule_faults(manifest, run.masking)
    faults += init_faults(source.blueprint, components, init=run.init)
    _refuse(faults)
    values = await kept_values(session, snapshot, keys)
    return await create_loaded(
        session,
        actor,
        source,
        site,
        Loading(components, values, run),
        keys=keys,
        asked=asked,
        action="environment.create",
    )


async def _graph(
    session: AsyncSession, environment: Environment, wish: ReplayWish, keys: MasterKeys
) -> _Graph:
    """The steps of a replay in place of a locked environment. Raises what speaks against it."""
    refuse_phases(environment, _RESUME_FIRST, EnvironmentPhase.STOPPED)
    replayed = await _replayed(session, environment, wish.operation_id)
    blueprint = await current_blueprint(session, environment)
    faults: list[FieldError] = []
    loads: frozenset[str] = frozenset()
    run = wish.run()
    if run is not None and environment.protected:
        raise Protected(environment.id, environment.name)
    if run is None and lacks_data(environment):
        raise NotReplayable(
            "its data were loaded in part: retry what loads them, or replay it with a snapshot (`snapshotId`)"
        )
    if run is not None:
        snapshot, manifest = await snapshots.usable_snapshot(
            session, environment.organization_id, run.snapshot_id
        )
        overrides = await environments.overrides(session, environment.organization_id, environment.id)
        components = loaded_of(manifest)
        loads = frozenset(components)
        own = snapshot.environment_id == environment.id
        faults += misfits(blueprint, overrides.replicas, components.values(), standing=True, own=own)
        faults += rule_faults(manifest, run.masking)
        faults += init_faults(blueprint, loads, init=run.init)
    steps = await _steps(session, environment, replayed, with_dependants(blueprint, loads), keys)
    if wish.from_step is not None:
        faults += _step_faults(wish.from_step, replayed, steps)
    _refuse(faults)
    if run is not None:
        steps = plan_restore(steps, blueprint, loads, standing=True, masked=run.masked)
    left = await left_to_remove(session, environment)
    graph = (*steps, *plan_removals(list(left), after=[step.name for step in steps]))
    return _Graph(replayed, graph, loads)


async def _steps(
    session: AsyncSession,
    environment: Environment,
    replayed: OperationRecord,
    fed: Collection[str],
    keys: MasterKeys,
) -> tuple[PlannedStep, ...]:
    """What of the recorded graph there is still: over the present Blueprint, with what it is made from now.

    An operation that made all services of its time stands for all of the present ones, also those added
    since. One that made some (an update) stands for these. `fed`: the services whose data are loaded, and
    what depends on them, which are run whatever it made.
    """
    blueprint = await current_blueprint(session, environment)
    key = await secrets.data_key(session, environment.organization_id, keys)
    whole = await provision_of(session, environment, keys, key.hash_key())
    recorded = {
        step.service for step in await step_rows(session, replayed.id) if step.kind is StepKind.SERVICE
    }
    if await _was_whole(session, replayed, recorded):
        return whole
    wanted = [
        service.name for service in blueprint.services if service.name in recorded or service.name in fed
    ]
    if not wanted:
        raise NotReplayable("none of the services that it made are part of the environment any more")
    missing = len(wanted) < len(blueprint.services)
    if missing and environment.phase is EnvironmentPhase.ERROR:
        last = await last_standing(session, environment)
        if last is None or last.id != replayed.id:
            refuse_phases(environment, _OTHERS_FIRST, EnvironmentPhase.ERROR)
    return plan_services(blueprint, {step.name: step.input_hash for step in whole}, wanted)


async def _was_whole(session: AsyncSession, replayed: OperationRecord, recorded: set[str | None]) -> bool:
    row = await session.get(Revision, (replayed.environment_id, replayed.revision))
    if row is None:
        # Pruned: of those that go by a revision of their own, an update alone may have made some.
        return replayed.kind is not OperationKind.UPDATE
    return all(each.name in recorded for each in Blueprint.model_validate(row.blueprint).services)


async def _replayed(
    session: AsyncSession, environment: Environment, operation_id: str | None
) -> OperationRecord:
    """The operation that is replayed. Raises NotFound for one of another environment, or NotReplayable."""
    if operation_id is None:
        row = await last_standing(session, environment, among=REPLAYABLE)
        if row is None:
            raise NotReplayable("no operation that made the environment what it is is kept")
        return operation_record(row)
    row = await session.get(Operation, operation_id)
    if row is None or row.environment_id != environment.id:
        raise NotFound("operation", operation_id)
    if row.kind not in REPLAYABLE:
        raise NotReplayable(f"a {row.kind} cannot be replayed: {_INSTEAD[row.kind]}")
    return operation_record(row)


def _step_faults(wanted: str, replayed: OperationRecord, steps: Sequence[PlannedStep]) -> list[FieldError]:
    names = [step.name for step in steps]
    if wanted in names:
        return []
    message = f"is no step of this {replayed.kind} ({replayed.id})"
    return [FieldError(path=("fromStep",), message=message, suggestion=f"one of: {', '.join(names)}")]


def _refuse(faults: Sequence[FieldError]) -> None:
    if faults:
        raise ReplayInvalid(tuple(faults))
