"""The graph of steps and the hashes of what they are made from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from tests.helpers.contexts import CONTEXT
from tests.helpers.examples import examples
from workflows.domain.blueprint_models import Blueprint, Dependency, SecretRef, Service
from workflows.domain.environment import EnvironmentContext, GuardRails, Overrides
from workflows.domain.operations import PlannedStep, StepKind
from workflows.domain.plan import digest, input_hashes, plan_delete, plan_provision, provision_inputs

few = examples(40)
"""Rendering whole environments takes its time; 40 of up to 12 services show what there is to see."""


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    """Blueprints without cycles, their services in any order."""
    count = draw(st.integers(1, 12))
    services = []
    for index in range(count):
        needs = draw(st.sets(st.integers(0, index - 1))) if index else set()
        services.append(
            Service(
                name=f"s{index}",
                image=f"image:{draw(st.integers(1, 3))}",
                depends_on={f"s{need}": Dependency() for need in needs},
                image_pull_secrets=("corp",) if draw(st.booleans()) else (),
                secrets=(SecretRef(name="shared", env_key="KEY"),) if draw(st.booleans()) else (),
                ports=({"container_port": 80},),
                expose=draw(st.booleans()),
            )
        )
    return Blueprint(name="shop", services=tuple(draw(st.permutations(services))))


def hashes(
    blueprint: Blueprint,
    context: EnvironmentContext = CONTEXT,
    digests: dict[str, str] | None = None,
    overrides: Overrides | None = None,
) -> dict[str, str]:
    inputs = provision_inputs(blueprint, context, GuardRails(), overrides or Overrides(), digests or {})
    return input_hashes(b"key", inputs)


def ancestors(steps: tuple[PlannedStep, ...], name: str) -> set[str]:
    """All steps that have to be done before this one."""
    by_name = {step.name: step for step in steps}
    found: set[str] = set()
    open_names = [name]
    while open_names:
        for needed in by_name[open_names.pop()].depends_on:
            if needed not in found:
                found.add(needed)
                open_names.append(needed)
    return found


def needed_services(blueprint: Blueprint, name: str) -> set[str]:
    """The service's dependencies, and theirs."""
    direct = set(blueprint.service(name).depends_on)
    return direct.union(*(needed_services(blueprint, other) for other in direct))


class TestPlanProvision:
    @few
    @given(blueprints())
    def test_every_step_comes_after_its_dependencies(self, blueprint: Blueprint) -> None:
        done: set[str] = set()
        for step in plan_provision(blueprint):
            assert step.name not in done
            assert set(step.depends_on) <= done
            done.add(step.name)
        assert {f"service/{service.name}" for service in blueprint.services} <= done

    @few
    @given(blueprints())
    def test_a_service_waits_for_its_own_dependencies_only(self, blueprint: Blueprint) -> None:
        steps = plan_provision(blueprint)
        for service in blueprint.services:
            before = {
                name for name in ancestors(steps, f"service/{service.name}") if name.startswith("service/")
            }
            assert before == {f"service/{name}" for name in needed_services(blueprint, service.name)}

    @few
    @given(blueprints())
    def test_is_the_same_each_time_and_hashed_where_there_are_inputs(self, blueprint: Blueprint) -> None:
        known = hashes(blueprint)
        steps = plan_provision(blueprint, known)
        assert steps == plan_provision(blueprint, known)
        assert {step.name: step.input_hash for step in steps} == known

    def test_secrets_hold_up_only_those_who_use_them(self) -> None:
        plain = Service(name="plain", image="a:1")
        secret = Service(name="secret", image="a:1", secrets=(SecretRef(name="s", env_key="S"),))
        pulled = Service(name="pulled", image="a:1", image_pull_secrets=("corp",), expose=False)
        steps = {
            step.name: step for step in plan_provision(Blueprint(name="b", services=(plain, secret, pulled)))
        }
        assert steps["service/plain"].depends_on == ("namespace",)
        assert steps["service/secret"].depends_on == ("secrets",)
        assert steps["service/pulled"].depends_on == ("secrets",)
        assert "endpoints" not in steps

    def test_without_secrets_there_is_no_such_step(self) -> None:
        steps = plan_provision(Blueprint(name="b", services=(Service(name="a", image="a:1"),)))
        assert [step.name for step in steps] == ["namespace", "service/a"]

    @pytest.mark.parametrize("needs", ["a", "nobody"])
    def test_cycles_and_strangers_are_refused(self, needs: str) -> None:
        service = Service(name="a", image="a:1", depends_on={needs: Dependency()})
        with pytest.raises(ValueError, match=needs):
            plan_provision(Blueprint(name="b", services=(service,)))


def test_a_delete_is_a_line() -> None:
    assert [(step.name, step.depends_on) for step in plan_delete()] == [
        ("cancel_running", ()),
        ("delete_namespace", ("cancel_running",)),
    ]
    assert plan_delete()[0].kind is StepKind.CANCEL_RUNNING


class TestHashes:
    @few
    @given(blueprints(), st.integers(4, 99))
    def test_do_not_change_with_revision_fence_and_operation(self, blueprint: Blueprint, number: int) -> None:
        later = CONTEXT.model_copy(
            update={"revision": number, "fence": number, "operation_id": f"op_{number}"}
        )
        assert hashes(blueprint) == hashes(blueprint, later)

    @few
    @given(blueprints(), st.data())
    def test_a_new_image_changes_its_own_service_only(
        self, blueprint: Blueprint, data: st.DataObject
    ) -> None:
        chosen = data.draw(st.sampled_from(blueprint.services))
        services = tuple(
            service.model_copy(update={"image": "other:9"}) if service is chosen else service
            for service in blueprint.services
        )
        before, after = hashes(blueprint), hashes(blueprint.model_copy(update={"services": services}))
        assert {name for name in before if before[name] != after[name]} == {f"service/{chosen.name}"}

    def test_a_new_value_changes_the_secrets_and_those_who_use_them(self) -> None:
        user = Service(name="user", image="a:1", secrets=(SecretRef(name="s", env_key="S"),))
        dependant = Service(name="dependant", image="a:1", depends_on={"user": Dependency()})
        blueprint = Blueprint(name="b", services=(user, dependant))
        before, after = hashes(blueprint, digests={"s": "1"}), hashes(blueprint, digests={"s": "2"})
        assert {name for name in before if before[name] != after[name]} == {"secrets", "service/user"}

    def test_a_new_init_script_and_a_new_scale_count(self) -> None:
        blueprint = Blueprint(name="b", services=(Service(name="a", image="postgres:16"),))
        with_init = Service(name="a", image="postgres:16", init={"type": "sql", "script": "select 1"})
        scaled = hashes(blueprint, overrides=Overrides(replicas={"a": 3}))
        assert (
            len(
                {
                    hashes(blueprint)["service/a"],
                    scaled["service/a"],
                    hashes(Blueprint(name="b", services=(with_init,)))["service/a"],
                }
            )
            == 3
        )


class TestDigest:
    def test_does_not_depend_on_the_order_of_keys(self) -> None:
        one: JsonValue = {"a": 1, "b": [1, 2]}
        other: JsonValue = {"b": [1, 2], "a": 1}
        assert digest(b"k", one) == digest(b"k", other)
        assert digest(b"k", {"b": [2, 1], "a": 1}) != digest(b"k", one)

    def test_is_keyed(self) -> None:
        assert digest(b"k", "x") != digest(b"l", "x")
        assert digest(b"k", "x").startswith("hmac-sha256:")
