"""What an update changes, what it refuses, and in which order it does it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from tests.helpers.contexts import CONTEXT
from tests.helpers.examples import examples
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.environment import GuardRails, ObjectName, Overrides
from workflows.domain.operations import PlannedStep, StepKind
from workflows.domain.plan import input_hashes, plan_provision, plan_stop, provision_inputs
from workflows.domain.update import (
    Desired,
    Effect,
    ServiceChange,
    obsolete_objects,
    plan_update,
    service_changes,
)

few = examples(40)
RAILS = GuardRails(ingress_class="nginx")
DATA: dict[str, JsonValue] = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}
MORE: dict[str, JsonValue] = {"name": "more", "mountPath": "/more", "type": "pvc", "size": "1Gi"}
FILES: dict[str, JsonValue] = {
    "name": "conf",
    "mountPath": "/etc/x",
    "type": "files",
    "files": {"a.ini": "1"},
}
TOKEN: dict[str, JsonValue] = {"name": "token", "envKey": "TOKEN", "value": "auto-generated"}

VOLUMES: list[list[JsonValue]] = [[], [DATA], [FILES], [DATA, FILES]]
SECRETS: list[list[JsonValue]] = [[], [TOKEN]]


def blueprint(**services: dict[str, JsonValue]) -> Blueprint:
    return parse_blueprint(
        {
            "name": "shop",
            "services": {
                name: {"image": "registry.test/x:1", "ports": [{"containerPort": 80}], **fields}
                for name, fields in services.items()
            },
        }
    )


def desired(
    of: Blueprint, digests: dict[str, str] | None = None, overrides: Overrides | None = None
) -> Desired:
    overrides = overrides or Overrides()
    inputs = provision_inputs(of, CONTEXT, RAILS, overrides, digests or {})
    return Desired(blueprint=of, overrides=overrides, inputs=inputs)


def changes_of(before: Blueprint, after: Blueprint) -> dict[str, ServiceChange]:
    return {each.service: each for each in service_changes(desired(before), desired(after))}


def effects(before: Blueprint, after: Blueprint) -> dict[str, Effect]:
    return {name: each.effect for name, each in changes_of(before, after).items()}


def planned(before: Blueprint, after: Blueprint, *, everything: bool = False) -> tuple[PlannedStep, ...]:
    was, becomes = desired(before), desired(after)
    return plan_update(
        before,
        after,
        service_changes(was, becomes),
        obsolete_objects(CONTEXT, RAILS, was, becomes),
        input_hashes(b"key", becomes.inputs),
        everything=everything,
    )


def order_of(steps: tuple[PlannedStep, ...]) -> dict[str, tuple[str, ...]]:
    return {step.name: step.depends_on for step in steps}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, dict[str, JsonValue]]:
    """Services by name, without cycles: each may need those before it."""
    found: dict[str, dict[str, JsonValue]] = {}
    for index in range(draw(st.integers(1, 7))):
        needs: list[JsonValue] = (
            [f"s{need}" for need in draw(st.sets(st.integers(0, index - 1)))] if index else []
        )
        found[f"s{index}"] = {
            "image": f"registry.test/x:{draw(st.integers(1, 2))}",
            "dependsOn": needs,
            "volumes": draw(st.sampled_from(VOLUMES)),
            "secrets": draw(st.sampled_from(SECRETS)),
            "expose": draw(st.booleans()),
        }
    return found


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Blueprint, Blueprint]:
    """A Blueprint and a later one: images change, services go and come."""
    before = draw(documents())
    gone = draw(st.sets(st.sampled_from(sorted(before)), max_size=len(before) - 1))
    after: dict[str, dict[str, JsonValue]] = {}
    for name, fields in before.items():
        if name not in gone:
            needs = fields["dependsOn"]
            assert isinstance(needs, list)
            changed: dict[str, JsonValue] = {"dependsOn": [need for need in needs if need not in gone]}
            if draw(st.booleans()):
                changed["image"] = "registry.test/x:9"
            after[name] = {**fields, **changed}
    if draw(st.booleans()):
        needs_of_added: list[list[JsonValue]] = [[], [next(iter(after))]]
        after["added"] = {"dependsOn": draw(st.sampled_from(needs_of_added))}
    return blueprint(**before), blueprint(**after)


@few
@given(documents())
def test_the_same_blueprint_changes_nothing(services: dict[str, dict[str, JsonValue]]) -> None:
    same = blueprint(**services)
    assert set(effects(same, same).values()) == {Effect.UNCHANGED}
    assert obsolete_objects(CONTEXT, RAILS, desired(same), desired(same)) == {}
    assert not [step for step in planned(same, same) if step.service is not None]


@few
@given(pairs())
def test_exactly_what_changed_is_deployed_and_exactly_what_is_gone_is_removed(
    pair: tuple[Blueprint, Blueprint],
) -> None:
    before, after = pair
    steps, found = planned(before, after), effects(before, after)
    deployed = {step.service for step in steps if step.kind is StepKind.SERVICE}
    assert deployed == {name for name, effect in found.items() if effect in (Effect.ADD, Effect.IN_PLACE)}
    was = {service.name: service for service in before.services}
    for service in after.services:
        if service.name in was:
            same = service.image == was[service.name].image
            assert found[service.name] is (Effect.UNCHANGED if same else Effect.IN_PLACE)
    obsolete = obsolete_objects(CONTEXT, RAILS, desired(before), desired(after))
    assert {step.service for step in steps if step.kind is StepKind.REMOVE_SERVICE} == set(obsolete)
    assert set(obsolete) == set(was) - {service.name for service in after.services}
    left = _rendered(before) - {name for names in obsolete.values() for name in names}
    assert left <= _rendered(after)


@few
@given(pairs())
def test_steps_wait_only_for_steps_of_the_plan_and_for_all_that_change_behind_them(
    pair: tuple[Blueprint, Blueprint],
) -> None:
    before, after = pair
    steps = planned(before, after)
    waits = order_of(steps)
    seen: set[str] = set()
    for step in steps:
        assert set(step.depends_on) <= seen, "topological, and no edge leaves the plan"
        seen.add(step.name)
    whole = order_of(plan_provision(after))
    for step in steps:
        if step.kind is StepKind.SERVICE:
            assert _ancestors(whole, step.name) & seen == _ancestors(waits, step.name)
        if step.kind is StepKind.REMOVE_SERVICE:
            others = {each.name for each in steps if each.kind is not StepKind.REMOVE_SERVICE}
            assert others <= _ancestors(waits, step.name), "what goes, goes last"


@few
@given(pairs())
def test_data_is_never_obsolete(pair: tuple[Blueprint, Blueprint]) -> None:
    before, after = pair
    obsolete = obsolete_objects(CONTEXT, RAILS, desired(before), desired(after))
    assert all(each.kind != "PersistentVolumeClaim" for names in obsolete.values() for each in names)


@few
@given(pairs())
def test_everything_is_the_whole_provision_and_what_goes(pair: tuple[Blueprint, Blueprint]) -> None:
    before, after = pair
    steps = planned(before, after, everything=True)
    whole = plan_provision(after, input_hashes(b"key", desired(after).inputs))
    assert steps[: len(whole)] == whole


def test_the_edge_passes_over_a_service_that_does_not_change() -> None:
    chain: dict[str, dict[str, JsonValue]] = {
        "db": {},
        "api": {"dependsOn": ["db"]},
        "web": {"dependsOn": ["api"]},
    }
    changed: dict[str, JsonValue] = {"env": {"A": "1"}}
    after = {**chain, "db": changed, "web": {**chain["web"], **changed}}
    waits = order_of(planned(blueprint(**chain), blueprint(**after)))
    assert waits["service/web"] == ("namespace", "service/db")
    assert "service/api" not in waits


def test_dependants_go_before_what_they_depend_on() -> None:
    before = blueprint(keep={}, db={}, api={"dependsOn": ["db"]}, web={"dependsOn": ["api"]})
    names = [step.name for step in planned(before, blueprint(keep={}))]
    assert names == ["namespace", "remove/web", "remove/api", "remove/db"]


def test_the_workload_goes_before_what_its_pods_use() -> None:
    before = blueprint(keep={}, api={"volumes": [FILES], "expose": True})
    obsolete = obsolete_objects(CONTEXT, RAILS, desired(before), desired(blueprint(keep={})))
    assert [each.kind for each in obsolete["api"]] == ["Deployment", "Service", "ConfigMap", "Ingress"]


def test_what_a_service_needs_no_more_is_obsolete_though_it_stays() -> None:
    before, after = blueprint(api={"volumes": [FILES], "expose": True}), blueprint(api={})
    obsolete = obsolete_objects(CONTEXT, RAILS, desired(before), desired(after))
    assert obsolete == {
        "api": (ObjectName(kind="ConfigMap", name="api"), ObjectName(kind="Ingress", name="api"))
    }


def test_what_an_earlier_update_left_goes_unless_it_is_wanted_again() -> None:
    left = {
        "old": (ObjectName(kind="Deployment", name="old"), ObjectName(kind="Service", name="old")),
        "db": (ObjectName(kind="Deployment", name="db"),),
    }
    before, after = blueprint(api={}, web={}), blueprint(api={}, db={})
    obsolete = obsolete_objects(CONTEXT, RAILS, desired(before), desired(after), left)
    assert set(obsolete) == {"old", "web"}
    steps = plan_update(before, after, (), obsolete, {})
    assert [step.name for step in steps if step.kind is StepKind.REMOVE_SERVICE] == [
        "remove/old",
        "remove/web",
    ]


def test_a_changed_secret_names_the_secret_and_no_value() -> None:
    shop = blueprint(api={"secrets": [TOKEN]}, web={})
    found = service_changes(desired(shop, {"token": "digest-1"}), desired(shop, {"token": "digest-2"}))
    assert [each.effect for each in found] == [Effect.IN_PLACE, Effect.UNCHANGED]
    assert [field.field for field in found[0].fields] == ["secrets[token].value"]
    assert "digest" not in str(found[0].model_dump())


def test_fields_are_told_by_name() -> None:
    before = blueprint(api={"env": {"A": "1", "B": "2"}})
    after = blueprint(api={"env": {"A": "3"}, "ports": [{"containerPort": 80}, {"containerPort": 81}]})
    fields = {each.field: (each.before, each.after) for each in changes_of(before, after)["api"].fields}
    assert fields["env.A"] == ("1", "3")
    assert fields["env.B"] == ("2", None)


def test_what_takes_effect_without_its_objects_is_said() -> None:
    found = changes_of(blueprint(db={}, api={}), blueprint(db={}, api={"dependsOn": ["db"]}))["api"]
    assert found.effect is Effect.UNCHANGED
    assert found.fields
    assert "without a change" in found.reason


def test_hooks_of_a_snapshot_restart_nothing() -> None:
    hooks: dict[str, JsonValue] = {"snapshot": {"quiesce": "pause", "thaw": "resume", "quiesceSeconds": 5}}
    found = changes_of(blueprint(db={}), blueprint(db=hooks))["db"]
    assert found.effect is Effect.UNCHANGED
    assert {each.field for each in found.fields} == {
        "snapshot.quiesce",
        "snapshot.thaw",
        "snapshot.quiesceSeconds",
    }


STATEFUL: dict[str, JsonValue] = {"volumes": [DATA]}
BIGGER: dict[str, JsonValue] = {"volumes": [{**DATA, "size": "2Gi"}]}
OTHER_CLASS: dict[str, JsonValue] = {"volumes": [{**DATA, "storageClass": "fast"}]}
TWO: dict[str, JsonValue] = {"volumes": [DATA, MORE]}
JOB: dict[str, JsonValue] = {"kind": "job", "ports": []}


@pytest.mark.parametrize(
    ("old", "new", "effect", "lost"),
    [
        pytest.param(STATEFUL, {**STATEFUL, "env": {"A": "1"}}, Effect.IN_PLACE, (), id="template"),
        pytest.param({}, STATEFUL, Effect.REPLACE, (), id="data from now on"),
        pytest.param(STATEFUL, TWO, Effect.REPLACE, (), id="another volume"),
        pytest.param(STATEFUL, {}, Effect.REFUSED, (), id="no volume any more"),
        pytest.param(TWO, STATEFUL, Effect.REFUSED, (), id="one volume less"),
        pytest.param(STATEFUL, BIGGER, Effect.REFUSED, ("data",), id="size"),
        pytest.param(STATEFUL, OTHER_CLASS, Effect.REFUSED, ("data",), id="class"),
        pytest.param(JOB, {**JOB, "env": {"A": "1"}}, Effect.REPLACE, (), id="job"),
        pytest.param({}, JOB, Effect.REPLACE, (), id="deployment to job"),
    ],
)
def test_what_kubernetes_cannot_change_is_replaced_or_refused_when_data_would_be_lost(
    old: dict[str, JsonValue], new: dict[str, JsonValue], effect: Effect, lost: tuple[str, ...]
) -> None:
    found = changes_of(blueprint(db=old), blueprint(db=new))["db"]
    assert found.effect is effect
    if effect is Effect.REFUSED:
        assert "allowReplace" in found.reason
        allowed = changes_of(blueprint(db=old), blueprint(db={**new, "allowReplace": True}))["db"]
        assert (allowed.effect, allowed.lost_volumes) == (Effect.REPLACE, lost)


def test_a_service_that_goes_says_that_its_volumes_stay() -> None:
    found = changes_of(blueprint(keep={}, db=STATEFUL), blueprint(keep={}))["db"]
    assert found.effect is Effect.REMOVE
    assert "data" in found.reason


def test_a_stop_takes_dependants_first_and_what_was_left_behind_before_all() -> None:
    shop = blueprint(db={}, api={"dependsOn": ["db"]}, web={"dependsOn": ["api"]})
    assert order_of(plan_stop(shop)) == {
        "namespace": (),
        "stop/web": ("namespace",),
        "stop/api": ("namespace", "stop/web"),
        "stop/db": ("namespace", "stop/api"),
    }
    waits = order_of(plan_stop(shop, ["old", "older"]))
    assert waits["remove/old"] == ("namespace",)
    assert waits["remove/older"] == ("remove/old",)
    assert waits["stop/web"] == ("remove/older",)


@pytest.mark.parametrize(
    ("overrides", "replicas"),
    [
        (Overrides(), 2),
        (Overrides(replicas={"api": 5, "other": 7}), 5),
        (Overrides(replicas={"api": 0}), 0),
        (Overrides(replicas={"api": 5}, stopped=True), 0),
    ],
)
def test_replicas_are_the_blueprints_unless_scaled_and_none_when_stopped(
    overrides: Overrides, replicas: int
) -> None:
    shop = blueprint(api={"replicas": 2})
    assert manifests.desired_replicas(shop.service("api"), overrides) == replicas
    workload = manifests.service(CONTEXT, shop, "api", overrides)[-1]
    assert isinstance(workload["spec"], dict)
    assert workload["spec"]["replicas"] == replicas


def test_a_restart_marks_the_pods_of_its_service_alone() -> None:
    shop = blueprint(api={}, web={})

    def rendered(service: str, **restarts: str) -> str:
        return str(manifests.service(CONTEXT, shop, service, Overrides(restarts=restarts))[-1])

    assert "mark-1" in rendered("api", api="mark-1")
    assert rendered("web", api="mark-1") == rendered("web")
    assert rendered("api", api="mark-1") != rendered("api", api="mark-2")


def test_overrides_of_services_that_go_are_dropped() -> None:
    known = Overrides(replicas={"api": 2, "gone": 3}, restarts={"gone": "m", "api": "n"}, stopped=True)
    assert known.of(["api"]) == Overrides(replicas={"api": 2}, restarts={"api": "n"}, stopped=True)


def _rendered(of: Blueprint) -> set[ObjectName]:
    """The names of all objects of the services."""
    found = [
        each for service in of.services for each in manifests.service(CONTEXT, of, service.name, Overrides())
    ]
    names = set()
    for each in (*found, *manifests.routing(CONTEXT, of, RAILS)):
        metadata = each["metadata"]
        assert isinstance(metadata, dict)
        names.add(ObjectName(kind=str(each["kind"]), name=str(metadata["name"])))
    return names


def _ancestors(waits: dict[str, tuple[str, ...]], name: str) -> set[str]:
    found: set[str] = set()
    open_names = [name]
    while open_names:
        for needed in waits[open_names.pop()]:
            if needed not in found:
                found.add(needed)
                open_names.append(needed)
    return found
