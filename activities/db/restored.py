"""Whether what a snapshot brought is still there: the condition `DataWhole`, and when it ceases to hold."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlmodel.ext.asyncio.session import AsyncSession

from activities.db.attempts import begun_loads
from activities.db.records import Condition, EnvironmentRecord, JsonObject, operation_record
from activities.db.repositories import events
from activities.db.repositories._rows import locked_environment
from activities.db.repositories.environments import apply_phase, overrides, replace_overrides
from activities.db.tables import Environment, EventType, Operation, Revision, Step
from workflows.domain.blueprint import Blueprint
from workflows.domain.environment import Overrides
from workflows.domain.failures import Failure
from workflows.domain.operations import OperationKind, OperationState, StepKind, StepState
from workflows.domain.snapshot import in_pods_alone

DATA_WHOLE: Final = "DataWhole"
"""Condition of an environment into which a snapshot was loaded: whether its data all came, and stayed."""
_FAILED: Final = "RestoreFailed"


async def say_what_became_of_data(
    session: AsyncSession,
    environment: Environment,
    operation: Operation,
    steps: Sequence[Step],
    reason: Failure | None,
    now: datetime,
) -> None:
    """Keep the condition at an operation's end, before anything of the operation is taken back.

    Data that were loaded in part are told of until all of them came: whatever makes the services run
    again says nothing about that. Data that a pod keeps without a volume are told of when they came, and when
    an operation ends that pod. That the cluster itself replaces one is for `say_data_are_gone`.
    """
    known, condition = _known(environment), None
    begun = {each.name: each for each in steps if each.kind is StepKind.LOAD and each.started_at is not None}
    loads = operation.kind is OperationKind.RESTORE or any(step.kind is StepKind.LOAD for step in steps)
    if loads and (begun or operation.state is OperationState.SUCCEEDED):
        # What an attempt before this one left in part is told of until it is loaded again.
        begun = {**await begun_loads(session, operation.retry_of), **begun}
        condition = _after_load(operation, begun, reason, now)
        apply_phase(environment, environment.phase, condition, now)
    if not _whole(environment):
        return
    blueprint = await _blueprint(session, environment, operation)
    present = await overrides(session, environment.organization_id, environment.id)
    kept_in_pods = in_pods_alone(blueprint, present.loaded)
    ended = _pods_ended(operation, steps) & set(kept_in_pods)
    change = operation_record(operation).change
    # Those that were accepted as changes that lose them, and have begun to be made.
    made = {step.service for step in steps if step.kind is StepKind.SERVICE and step.started_at is not None}
    given_up = (set(change.overrides.loaded) - set(present.loaded)) & made if change is not None else set()
    lost = sorted(name for name in {*ended, *given_up} if name is not None)
    if lost:
        told = _gone(lost, f"whose pods were replaced or ended ({operation.kind})", now)
        apply_phase(environment, environment.phase, told, now)
        gone = {step.service for step in steps if step.state is StepState.SUCCEEDED} & ended
        await _forget_loaded(session, environment, present, gone)
    elif condition is not None and kept_in_pods:
        message = (
            f"{', '.join(kept_in_pods)}: no volume keeps them, so they go with the pod, whoever replaces it"
        )
        loaded = {step.service for step in begun.values()}
        stayed = (
            {}
            if known is None
            else {name: each for name, each in known.kept_in.items() if name not in loaded}
        )
        places = {**stayed, **_places(begun.values())}
        whole = condition.model_copy(
            update={
                "message": message,
                "kept_in": {name: places[name] for name in kept_in_pods if name in places},
            }
        )
        apply_phase(environment, environment.phase, whole, now)


def gone_from(
    environment: EnvironmentRecord, loaded: Iterable[str], places: Mapping[str, Collection[str]] | None
) -> tuple[str, ...]:
    """Return the services whose restored data are in nothing that is there now; none once that has been told.

    `loaded`: those whose data were loaded. `places`: by service, what `snapshot.kept_in` says of its pods;
    None: there is no namespace, and no volume either.
    """
    known = next((each for each in environment.conditions if each.type == DATA_WHOLE), None)
    if known is None or known.status != "True":
        return ()
    if places is None:
        return tuple(sorted(loaded))
    return tuple(
        name for name, kept in sorted(known.kept_in.items()) if not set(kept) <= set(places.get(name, ()))
    )


async def say_data_are_gone(
    session: AsyncSession, seen: EnvironmentRecord, services: Collection[str], why: str, now: datetime
) -> None:
    """Tell that the cluster has restored data of these services no more, and let their init run again.

    `seen`: the environment as it was when that was seen; nothing is said when it has changed since, or has
    not been whole. The caller checks that no operation is live. Raises NotFound.
    """
    environment = await locked_environment(session, seen.id, seen.organization_id)
    if environment.version != seen.version or not _whole(environment):
        return
    told = _gone(sorted(services), why, now)
    apply_phase(environment, environment.phase, told, now)
    present = await overrides(session, environment.organization_id, environment.id)
    await _forget_loaded(session, environment, present, services)
    data: JsonObject = {
        "type": told.type,
        "status": told.status,
        "reason": told.reason,
        "message": told.message,
    }
    await events.append(session, environment, None, EventType.CONDITION, data)
    await events.announce(session, environment.id)
    await session.flush()


def _after_load(
    operation: Operation, begun: Mapping[str, Step], reason: Failure | None, now: datetime
) -> Condition:
    """What an operation leaves whose loads were begun, by it or an attempt before it: the newest of each."""
    if operation.state is OperationState.SUCCEEDED:
        return Condition(type=DATA_WHOLE, status="True", reason="Restored", since=now)
    left = [step.service or "" for _, step in sorted(begun.items()) if step.state is not StepState.SUCCEEDED]
    half = ", ".join(left)
    message = f"Not loaded to the end: {half}" if half else "Loaded, and something else failed"
    if reason is not None:
        message += f" ({reason.message})"
    return Condition(type=DATA_WHOLE, status="False", reason=_FAILED, message=message, since=now)


def _gone(services: Sequence[str], why: str, now: datetime) -> Condition:
    message = f"What was restored is no longer in {', '.join(services)}, {why}"
    return Condition(type=DATA_WHOLE, status="False", reason="DataGone", message=message, since=now)


async def _forget_loaded(
    session: AsyncSession, environment: Environment, present: Overrides, services: Collection[str | None]
) -> None:
    """What comes next begins with no data: the init that was left out is to run then."""
    loaded = {name: snapshot for name, snapshot in present.loaded.items() if name not in services}
    if loaded != present.loaded:
        await replace_overrides(session, environment, present.model_copy(update={"loaded": loaded}))


def _places(loads: Iterable[Step]) -> dict[str, tuple[str, ...]]:
    """By service, what keeps what these steps loaded, of those that no volume keeps."""
    found = {step.service or "": (step.output or {}).get("keptIn") for step in loads}
    return {name: tuple(words.split()) for name, words in found.items() if isinstance(words, str)}


def lacks_data(environment: Environment) -> bool:
    """Whether a snapshot's data were loaded in part, and nothing has loaded all of them since."""
    known = _known(environment)
    return known is not None and known.status == "False" and known.reason == _FAILED


def _whole(environment: Environment) -> bool:
    known = _known(environment)
    return known is not None and known.status == "True"


def _known(environment: Environment) -> Condition | None:
    conditions = (Condition.model_validate(each) for each in environment.conditions)
    return next((each for each in conditions if each.type == DATA_WHOLE), None)


def _pods_ended(operation: Operation, steps: Sequence[Step]) -> set[str | None]:
    """The services whose pods this operation has ended, or begun to, and has not begun to fill again."""
    kinds = {StepKind.STOP_SERVICE}
    if operation.kind in (OperationKind.RESTART, OperationKind.REPLAY):
        kinds.add(StepKind.SERVICE)
    ended = {
        step.service
        for step in steps
        if step.kind in kinds and step.started_at is not None and step.state is not StepState.SKIPPED
    }
    loads = {step.service for step in steps if step.kind is StepKind.LOAD and step.started_at is not None}
    return ended - loads


async def _blueprint(session: AsyncSession, environment: Environment, operation: Operation) -> Blueprint:
    revision = await session.get_one(Revision, (environment.id, operation.revision))
    return Blueprint.model_validate(revision.blueprint)
