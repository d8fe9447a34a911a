"""Which steps of a recorded graph a replay runs again, which it skips, and why."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final

from workflows.domain.failures import WireModel
from workflows.domain.operations import Earlier, PlannedStep, StepKind
from workflows.domain.plan import load_step, service_step

_FOR_A_LOAD: Final = frozenset({StepKind.CHECK, StepKind.CLAIM, StepKind.STOP_SERVICE})
"""What comes before a load, for its sake."""
_LOADED: Final = "loaded by an attempt before this one"


class Why(StrEnum):
    """Why a step is run again, or (`unchanged` alone) skipped."""

    NEW = "new"
    """The environment is made anew: nothing of it is there."""
    ALWAYS = "always"
    """It makes no workload: it looks at what is there and writes what is missing."""
    FORCED = "forced"
    """It was asked for by name."""
    NEVER_SUCCEEDED = "never_succeeded"
    ADDED = "added"
    """Its service came after the operation that is replayed."""
    CHANGED = "changed"
    """What it is made from is not what it was."""
    GONE = "gone"
    """What it made is not in the cluster any more."""
    DEPENDS = "depends"
    """Something that it depends on is run again."""
    SNAPSHOT = "snapshot"
    """A snapshot's data are loaded, or what is needed for that is done."""
    UNCHANGED = "unchanged"


class Replay(WireModel):
    """What a replay goes by, beside what each step left (`OperationPlan.earlier`)."""

    from_step: str | None = None
    """The step that is run again whatever is known of it, and with it all that depends on it."""
    recorded: tuple[str, ...] = ()
    """Names of the steps of the operation that is replayed."""
    done: tuple[str, ...] = ()
    """Those that an attempt before this one has run again, or skipped: `from_step` asks no more of them, and
    what it loaded is not loaded again."""


class Decision(WireModel):
    """What becomes of one step. `text` is for people."""

    step: str
    run: bool
    why: Why
    text: str


def decide(
    steps: Sequence[PlannedStep],
    replay: Replay,
    earlier: Mapping[str, Earlier],
    existing: Collection[str],
) -> tuple[Decision, ...]:
    """Decide over the steps of a graph, given in topological order.

    `existing`: UIDs of the environment's objects as they are in the cluster. What is run takes along all that
    depends on it: a service that was built upon another one starts after it, as at the first time.
    """
    asked = _following(steps, [] if replay.from_step is None else [replay.from_step]) - set(replay.done)
    again: dict[str, StepKind] = {}
    decided: dict[str, Decision] = {}
    for step in steps:
        if step.kind in _FOR_A_LOAD:
            continue
        why, text = _why(step, replay, earlier.get(step.name), existing, asked, again)
        run = why is not Why.UNCHANGED
        if run and step.kind in (StepKind.SERVICE, StepKind.LOAD):
            again[step.name] = step.kind
        decided[step.name] = Decision(step=step.name, run=run, why=why, text=text)
    loads = {name for name, kind in again.items() if kind is StepKind.LOAD}
    fed = _following(steps, loads)
    for step in steps:
        if step.kind in _FOR_A_LOAD:
            decided[step.name] = _for_a_load(step, loads, fed)
    return tuple(decided[step.name] for step in steps)


def run_all(steps: Sequence[str]) -> tuple[Decision, ...]:
    """Decide over the steps, given by name, of an environment that is made anew."""
    return tuple(Decision(step=name, run=True, why=Why.NEW, text="the environment is new") for name in steps)


def _following(steps: Sequence[PlannedStep], first: Collection[str]) -> set[str]:
    """The steps of these names, and all that depend on them, however far behind."""
    found = set(first)
    for step in steps:
        if not found.isdisjoint(step.depends_on):
            found.add(step.name)
    return found


def _for_a_load(step: PlannedStep, loads: Collection[str], fed: Collection[str]) -> Decision:
    """Decide over what is done only so that data can be loaded. `fed`: the steps behind those loads."""
    service = step.service or ""
    if step.kind is StepKind.CHECK:
        # The one without a service is about the rules for all that is loaded.
        run = load_step(service) in loads if step.service else bool(loads)
        text = "before anything is replaced"
    elif step.kind is StepKind.CLAIM:
        run, text = load_step(service) in loads, "its volumes are made from the snapshot"
    else:
        run, text = service_step(service) in fed, "until the data that it depends on are loaded"
    if run:
        return Decision(step=step.name, run=True, why=Why.SNAPSHOT, text=text)
    return Decision(step=step.name, run=False, why=Why.UNCHANGED, text=_LOADED)


def _why(
    step: PlannedStep,
    replay: Replay,
    earlier: Earlier | None,
    existing: Collection[str],
    asked: Collection[str],
    again: Mapping[str, StepKind],
) -> tuple[Why, str]:
    if step.kind is not StepKind.SERVICE:
        return _why_beside(step, replay, again)
    if step.name in asked and step.name == replay.from_step:
        return Why.FORCED, "asked for"
    own = _of_its_own(step, replay, earlier, existing)
    if own is not None:
        return own
    taken = next((name for name in step.depends_on if name in again), None)
    if taken is not None:
        done = "loads data" if again[taken] is StepKind.LOAD else "is run again"
        return Why.DEPENDS, f"depends on {taken}, which {done}"
    if step.name in asked:
        return Why.DEPENDS, f"depends on {replay.from_step}, which was asked for"
    return Why.UNCHANGED, "unchanged and still there"


def _why_beside(step: PlannedStep, replay: Replay, again: Collection[str]) -> tuple[Why, str]:
    """Why a step that makes no workload is run, or skipped."""
    if step.kind is not StepKind.LOAD:
        return Why.ALWAYS, "looks at what is there, and writes what is missing"
    if step.name in replay.done and service_step(step.service or "") not in again:
        return Why.UNCHANGED, _LOADED
    return Why.SNAPSHOT, "its data are to be those of the snapshot"


def _of_its_own(
    step: PlannedStep, replay: Replay, earlier: Earlier | None, existing: Collection[str]
) -> tuple[Why, str] | None:
    """What a step is run again for whatever becomes of the others."""
    if earlier is None and step.name not in replay.recorded:
        return Why.ADDED, "was added after the operation that is replayed"
    if earlier is None:
        return Why.NEVER_SUCCEEDED, "has not succeeded yet"
    if earlier.input_hash != step.input_hash:
        return Why.CHANGED, "what it is made from has changed"
    if earlier.uid not in existing:
        return Why.GONE, "what it made is not there any more"
    return None
