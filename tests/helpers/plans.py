"""Plans of operations as workflow tests and recorded histories run them, without a ledger."""

from collections.abc import Iterable, Mapping

from clusters.objects import ref_of
from tests.helpers.contexts import CONTEXT
from workflows.contracts.operation import (
    OperationPlan,
)
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import (
    GuardRails,
    ObjectIdentity,
    ObjectName,
    Overrides,
)
from workflows.domain.masking import ColumnRule, MaskHow, MaskingRules, ServiceMasking
from workflows.domain.operations import (
    Change,
    Earlier,
    EnvironmentPhase,
    OnFailure,
    StepKind,
)
from workflows.domain.plan import (
    plan_delete,
    plan_provision,
    plan_restore,
    plan_seed,
    plan_snapshot,
    plan_stop,
    provision_inputs,
)
from workflows.domain.replay import Replay
from workflows.domain.seeds import SeedContent, SeedRun
from workflows.domain.snapshot import (
    Consistency,
)
from workflows.domain.snapshot_manifest import (
    SnapshotRun,
)
from workflows.domain.update import Desired, Effect, obsolete_objects, plan_update, service_changes

SNAPSHOT_ID = "snap_01J9Z7Q0000000000000000000"
_WORKLOADS = ("Deployment", "StatefulSet", "Job")
VERIFICATION_ID = "ver_01J9Z7Q0000000000000000000"


def provision_plan(
    services: Mapping[str, Mapping[str, object]], *, on_failure: OnFailure = OnFailure.KEEP, **changes: object
) -> OperationPlan:
    """Return the plan of a provision of these services (name -> their fields, image filled in)."""
    blueprint = blueprint_of(services)
    return OperationPlan(
        proceed=True,
        context=CONTEXT,
        blueprint=blueprint.model_dump(mode="json", by_alias=True),
        steps=plan_provision(blueprint),
        on_failure=on_failure,
    ).model_copy(update=changes)


def update_plan(
    before: Mapping[str, Mapping[str, object]],
    after: Mapping[str, Mapping[str, object]],
    *,
    phase: EnvironmentPhase = EnvironmentPhase.RUNNING,
    on_failure: OnFailure = OnFailure.ROLLBACK,
    overrides: Overrides | None = None,
    **changes: object,
) -> OperationPlan:
    """Return the plan of an update of these services to those; the revision before is one less."""
    old, new = blueprint_of(before), blueprint_of(after)
    rails = GuardRails()
    was, becomes = (
        Desired(blueprint=each, inputs=provision_inputs(each, CONTEXT, rails, Overrides(), {}))
        for each in (old, new)
    )
    found = service_changes(was, becomes)
    obsolete = obsolete_objects(CONTEXT, rails, was, becomes)
    change = Change(
        revision=CONTEXT.revision - 1,
        phase=phase,
        overrides=overrides or Overrides(stopped=phase is EnvironmentPhase.STOPPED),
        replaced={each.service: each.lost_volumes for each in found if each.effect is Effect.REPLACE},
        obsolete=obsolete,
    )
    return OperationPlan(
        proceed=True,
        context=CONTEXT,
        blueprint=new.model_dump(mode="json", by_alias=True),
        steps=plan_update(old, new, found, obsolete, {}),
        on_failure=on_failure,
        guard_rails=rails,
        change=change,
    ).model_copy(update=changes)


def change_plan(
    services: Mapping[str, Mapping[str, object]],
    *,
    phase: EnvironmentPhase = EnvironmentPhase.RUNNING,
    before: Overrides | None = None,
    only: str | None = None,
    on_failure: OnFailure = OnFailure.KEEP,
    **changes: object,
) -> OperationPlan:
    """Return the plan of an operation over the same Blueprint: of a resume, or of `only` one service."""
    plan = provision_plan(services, on_failure=on_failure)
    overrides = before or Overrides(stopped=phase is EnvironmentPhase.STOPPED)
    change = Change(revision=CONTEXT.revision, phase=phase, overrides=overrides)
    steps = plan.steps
    if only is not None:
        steps = tuple(
            step.model_copy(update={"depends_on": ("namespace",)} if step.service else {})
            for step in steps
            if step.name in ("namespace", f"service/{only}")
        )
    return plan.model_copy(update={"change": change, "steps": steps, **changes})


def seed_plan(
    services: Mapping[str, Mapping[str, object]], seed: SeedContent, service: str, **changes: object
) -> OperationPlan:
    """Return the plan of a seed; `changes` of the run."""
    run = SeedRun(content=seed, service=service, digest=seed.digest, key="seed/env_1/abc")
    return provision_plan(services).model_copy(
        update={"steps": plan_seed(service, ""), "seed": run.model_copy(update=changes)}
    )


def snapshot_plan(
    services: Mapping[str, Mapping[str, object]], floor: Consistency | None = None
) -> OperationPlan:
    """Return the plan of a snapshot of these services."""
    blueprint = blueprint_of(services)
    run = SnapshotRun(snapshot_id=SNAPSHOT_ID, floor=floor)
    return provision_plan(services).model_copy(update={"steps": plan_snapshot(blueprint), "snapshot": run})


def restore_plan(
    services: Mapping[str, Mapping[str, object]],
    loaded: Iterable[str],
    *,
    standing: bool,
    prove: bool = False,
    claimed: Iterable[str] = (),
    init: bool = False,
    masked: Iterable[str] = (),
    **changes: object,
) -> OperationPlan:
    """Return the plan of a restore of the data of these services among others."""
    of = set(loaded)
    plan = change_plan(services) if standing else provision_plan(services)
    run = SnapshotRun(snapshot_id=SNAPSHOT_ID, prove=prove, init=init, masking=_rules_for(masked))
    steps = plan_restore(
        plan.steps,
        blueprint_of(services),
        of,
        standing=standing,
        claimed=frozenset(claimed),
        masked=run.masked,
    )
    return plan.model_copy(
        update={
            "steps": steps,
            "snapshot": run,
            "overrides": Overrides(loaded=dict.fromkeys(of, SNAPSHOT_ID)),
            **changes,
        }
    )


def _rules_for(services: Iterable[str]) -> MaskingRules | None:
    """Return a rule for each of these services; None for none."""
    rule = ColumnRule(table="people", column="email", how=MaskHow.HASH)
    made = {name: ServiceMasking(columns=(rule,)) for name in services}
    return MaskingRules(services=made) if made else None


def loading_replay_plan(
    services: Mapping[str, Mapping[str, object]],
    loaded: Iterable[str],
    *done: str,
    attempted: Iterable[str] = (),
    claimed: Iterable[str] = (),
    new: bool = False,
    init: bool = False,
    masked: Iterable[str] = (),
) -> OperationPlan:
    """Return the plan of a replay in place of a provision, since when nothing changed, from a snapshot.

    With `attempted` it is another attempt: these loads were begun before, and the steps `done` are over.
    `new`: into a new environment.
    """
    plan = restore_plan(services, loaded, standing=not new, claimed=claimed, init=init, masked=masked)
    again = tuple(attempted)
    uids = {each.name: each.uid for each in objects_of(services) if each.kind in _WORKLOADS}
    earlier = {
        step.name: Earlier(input_hash=step.input_hash, uid=uids[step.service])
        for step in plan.steps
        if step.kind is StepKind.SERVICE and step.service and (not again or step.name in done)
    }
    recorded = tuple(step.name for step in plan.steps if step.service is None or step.name in earlier)
    replay = None if new and not again else Replay(recorded=recorded, done=done)
    return plan.model_copy(update={"earlier": earlier, "replay": replay, "touched": again})


def stop_plan(
    services: Mapping[str, Mapping[str, object]],
    obsolete: Mapping[str, tuple[ObjectName, ...]] | None = None,
) -> OperationPlan:
    """Return the plan of a stop."""
    plan = change_plan(services, overrides=Overrides(stopped=True))
    assert plan.change is not None
    blueprint = Blueprint.model_validate(plan.blueprint)
    left = dict(obsolete or {})
    return plan.model_copy(
        update={
            "steps": plan_stop(blueprint, list(left)),
            "change": plan.change.model_copy(update={"obsolete": left}),
        }
    )


def objects_of(services: Mapping[str, Mapping[str, object]]) -> tuple[ObjectIdentity, ...]:
    """Return the objects of these services as they are in the cluster, each with `<kind>-<name>` as UID."""
    blueprint = blueprint_of(services)
    found = [
        each
        for service in blueprint.services
        for each in manifests.service(CONTEXT, blueprint, service.name, Overrides())
    ]
    named = [ref_of(each) for each in found]
    return tuple(
        ObjectIdentity(kind=ref.kind, name=ref.name, uid=f"{ref.kind}-{ref.name}".lower()) for ref in named
    )


def blueprint_of(services: Mapping[str, Mapping[str, object]]) -> Blueprint:
    """Return the Blueprint of these services."""
    return parse_blueprint(
        {
            "name": "shop",
            "services": {
                name: {"image": f"registry.test/{name}:1", **fields} for name, fields in services.items()
            },
        }
    )


def delete_plan(**changes: object) -> OperationPlan:
    """Return the plan of a delete."""
    return OperationPlan(proceed=True, context=CONTEXT, steps=plan_delete()).model_copy(update=changes)
