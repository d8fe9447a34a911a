"""What a replay decides over the steps of a graph."""

import pytest

from workflows.domain.blueprint import parse_blueprint
from workflows.domain.operations import Earlier, PlannedStep, StepKind
from workflows.domain.plan import plan_provision, plan_restore, plan_services
from workflows.domain.replay import Decision, Replay, Why, decide

IMAGE = "registry.test/tiny:1"
CHAIN = parse_blueprint(
    {
        "name": "shop",
        "services": {
            "db": {
                "image": IMAGE,
                "secrets": [{"name": "password", "envKey": "PASSWORD", "value": "auto-generated"}],
            },
            "api": {"image": IMAGE, "dependsOn": ["db"]},
            "web": {
                "image": IMAGE,
                "dependsOn": {"api": {"condition": "started"}},
                "ports": [{"containerPort": 8080}],
                "expose": True,
            },
            "other": {"image": IMAGE},
        },
    }
)
PLUMBING = {"namespace", "secrets", "endpoints"}


def steps(**hashes: str) -> tuple[PlannedStep, ...]:
    """The steps of a provision; every hash is "1" unless given by service."""
    return tuple(
        step.model_copy(update={"input_hash": hashes.get(step.service or "", "1")})
        for step in plan_provision(CHAIN)
    )


PLANNED = steps()
NAMES = tuple(step.name for step in PLANNED)
LEFT = {f"service/{name}": Earlier(input_hash="1", uid=name) for name in ("db", "api", "web", "other")}
THERE = {"db", "api", "web", "other"}


def whys(decisions: tuple[Decision, ...]) -> dict[str, Why]:
    """The reason for each service."""
    return {each.step.removeprefix("service/"): each.why for each in decisions if each.step not in PLUMBING}


def replayed(from_step: str | None = None, *done: str) -> Replay:
    return Replay(from_step=from_step, recorded=NAMES, done=tuple(f"service/{name}" for name in done))


def test_what_is_unchanged_and_there_is_skipped() -> None:
    decisions = decide(PLANNED, replayed(), LEFT, THERE)
    assert set(whys(decisions).values()) == {Why.UNCHANGED}
    assert {each.step for each in decisions if each.run} == PLUMBING


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("db", {"db": Why.CHANGED, "api": Why.DEPENDS, "web": Why.DEPENDS, "other": Why.UNCHANGED}),
        ("api", {"db": Why.UNCHANGED, "api": Why.CHANGED, "web": Why.DEPENDS, "other": Why.UNCHANGED}),
        ("web", {"db": Why.UNCHANGED, "api": Why.UNCHANGED, "web": Why.CHANGED, "other": Why.UNCHANGED}),
    ],
)
def test_what_changed_takes_along_what_depends_on_it(service: str, expected: dict[str, Why]) -> None:
    decisions = decide(steps(**{service: "2"}), replayed(), LEFT, THERE)
    assert whys(decisions) == expected
    by_step = {each.step: each for each in decisions}
    if service == "db":
        assert by_step["service/web"].text == "depends on service/api, which is run again"


def test_what_is_gone_is_made_again_with_what_depends_on_it() -> None:
    decisions = decide(PLANNED, replayed(), LEFT, THERE - {"api"})
    assert whys(decisions) == {
        "db": Why.UNCHANGED,
        "api": Why.GONE,
        "web": Why.DEPENDS,
        "other": Why.UNCHANGED,
    }


def test_what_never_succeeded_and_what_was_added_are_told_apart() -> None:
    left = {name: each for name, each in LEFT.items() if name not in ("service/web", "service/other")}
    recorded = tuple(name for name in NAMES if name != "service/other")
    decisions = decide(PLANNED, Replay(recorded=recorded), left, THERE)
    assert whys(decisions)["web"] is Why.NEVER_SUCCEEDED
    assert whys(decisions)["other"] is Why.ADDED


@pytest.mark.parametrize(
    ("first", "run"),
    [
        ("service/db", {"db", "api", "web"}),
        ("service/api", {"api", "web"}),
        ("service/other", {"other"}),
        ("endpoints", set()),
        # Through the secrets, which only `db` uses.
        ("secrets", {"db", "api", "web"}),
        ("namespace", {"db", "api", "web", "other"}),
    ],
)
def test_from_a_step_on(first: str, run: set[str]) -> None:
    decisions = whys(decide(PLANNED, replayed(first), LEFT, THERE))
    assert {name for name, why in decisions.items() if why is not Why.UNCHANGED} == run
    assert {name for name, why in decisions.items() if why is Why.FORCED} == {
        name for name in run if f"service/{name}" == first
    }


def test_an_attempt_before_is_gone_on_with() -> None:
    """`db` was run again, `api` failed, `web` was not reached, `other` was skipped."""
    left = {f"service/{name}": LEFT[f"service/{name}"] for name in ("db", "other")}
    for first in ("service/db", "secrets", "namespace"):
        decisions = whys(decide(PLANNED, replayed(first, "db", "other"), left, THERE))
        assert decisions == {
            "db": Why.UNCHANGED,
            "api": Why.NEVER_SUCCEEDED,
            "web": Why.NEVER_SUCCEEDED,
            "other": Why.UNCHANGED,
        }


def test_what_an_attempt_before_ran_is_run_again_when_it_is_gone() -> None:
    decisions = whys(decide(PLANNED, replayed("service/db", *THERE), LEFT, THERE - {"db"}))
    assert decisions == {"db": Why.GONE, "api": Why.DEPENDS, "web": Why.DEPENDS, "other": Why.UNCHANGED}


def test_a_graph_of_some_services_waits_past_the_others() -> None:
    some = plan_services(CHAIN, {}, {"db", "web"})
    assert [step.name for step in some] == ["namespace", "secrets", "service/db", "service/web", "endpoints"]
    [web] = [step for step in some if step.service == "web"]
    assert web.depends_on == ("namespace", "service/db")
    decisions = decide(
        [step.model_copy(update={"input_hash": "1"}) for step in some],
        Replay(from_step="service/db", recorded=NAMES),
        LEFT,
        THERE,
    )
    assert whys(decisions) == {"db": Why.FORCED, "web": Why.DEPENDS}


def loading(
    *, standing: bool = True, claimed: bool = False, masked: tuple[str, ...] = ()
) -> tuple[PlannedStep, ...]:
    """The steps of a replay that loads the data of `db` and of `other`."""
    loads = ("db", "other")
    claims = frozenset({"db"}) if claimed else frozenset[str]()
    return plan_restore(PLANNED, CHAIN, loads, standing=standing, claimed=claims, masked=masked)


def told(decisions: tuple[Decision, ...]) -> dict[str, tuple[bool, Why]]:
    """What becomes of each step, and why."""
    return {each.step: (each.run, each.why) for each in decisions if each.step not in PLUMBING}


RUN, SKIP = (True, Why.SNAPSHOT), (False, Why.UNCHANGED)


def test_a_snapshot_runs_what_depends_on_its_data_and_leaves_what_it_fills() -> None:
    decisions = decide(loading(), replayed(), LEFT, THERE)
    assert told(decisions) == {
        "check/db": RUN,
        "check/other": RUN,
        "stop/web": RUN,
        "stop/api": RUN,
        "service/db": SKIP,
        "load/db": RUN,
        "service/api": (True, Why.DEPENDS),
        "service/web": (True, Why.DEPENDS),
        "service/other": SKIP,
        "load/other": RUN,
    }
    texts = {each.step: each.text for each in decisions}
    assert texts["service/api"] == "depends on load/db, which loads data"
    assert texts["service/web"] == "depends on service/api, which is run again"
    assert [each.step for each in decisions] == [step.name for step in loading()]


def test_another_attempt_does_not_load_again_under_what_has_started_on_it() -> None:
    """`db` was loaded and `api` started on it; `other` was not loaded to its end, nor `web` started."""
    done = replayed(None, "db", "api", "other")
    done = done.model_copy(update={"done": (*done.done, "load/db")})
    left = {name: LEFT[name] for name in ("service/db", "service/api", "service/other")}
    assert told(decide(loading(), done, left, THERE)) == {
        "check/db": SKIP,
        "check/other": RUN,
        "stop/web": SKIP,
        "stop/api": SKIP,
        "service/db": SKIP,
        "load/db": SKIP,
        "service/api": SKIP,
        "service/web": (True, Why.NEVER_SUCCEEDED),
        "service/other": SKIP,
        "load/other": RUN,
    }


def test_what_was_loaded_is_loaded_again_when_its_service_is_made_again() -> None:
    done = replayed(None, "db", "api", "other")
    done = done.model_copy(update={"done": (*done.done, "load/db", "load/other")})
    decisions = told(decide(loading(), done, LEFT, THERE - {"db"}))
    assert decisions["service/db"] == (True, Why.GONE)
    assert decisions["load/db"] == decisions["stop/api"] == decisions["stop/web"] == RUN
    assert decisions["service/api"] == (True, Why.DEPENDS)
    assert decisions["load/other"] == decisions["service/other"] == SKIP


@pytest.mark.parametrize("loaded", [True, False])
def test_volumes_are_made_from_the_storage_only_for_what_is_loaded(loaded: bool) -> None:
    done = replayed(None, "db")
    done = done.model_copy(update={"done": (*done.done, *(["load/db"] if loaded else []))})
    decisions = told(decide(loading(standing=False, claimed=True), done, LEFT, THERE))
    assert decisions["claim/db"] == decisions["load/db"] == (SKIP if loaded else RUN)


@pytest.mark.parametrize(("loaded", "surveyed"), [(("load/db",), RUN), (("load/db", "load/other"), SKIP)])
def test_rules_are_surveyed_for_whatever_is_still_loaded(
    loaded: tuple[str, ...], surveyed: tuple[bool, Why]
) -> None:
    done = replayed(None, "db", "api", "web", "other")
    done = done.model_copy(update={"done": (*done.done, *loaded)})
    decisions = told(decide(loading(masked=("db", "other")), done, LEFT, THERE))
    assert decisions["masking"] == surveyed
    assert "check/db" not in decisions


@pytest.mark.parametrize("standing", [True, False])
def test_nothing_with_data_is_made_or_replaced_before_all_rules_are_surveyed(standing: bool) -> None:
    steps = {step.name: step for step in loading(standing=standing, claimed=not standing, masked=("db",))}

    def before(name: str) -> set[str]:
        """All that a step waits for."""
        direct = steps[name].depends_on
        return set(direct).union(*(before(each) for each in direct))

    others = ("stop/api", "stop/web", "check/other") if standing else ("claim/db",)
    for name in ("load/db", "load/other", "service/db", "service/other", *others):
        assert ("masking" in before(name)) is (name != "check/other"), name
    assert ("check/other" in steps) is standing
    assert "check/db" not in steps
    assert "masking" not in {step.name for step in loading(standing=standing)}


@pytest.mark.parametrize("masked", [(), ("db",)])
def test_in_an_environment_that_stands_nothing_is_begun_before_all_is_read(masked: tuple[str, ...]) -> None:
    steps = {step.name: step for step in loading(masked=masked)}
    checks = {name for name, step in steps.items() if step.kind is StepKind.CHECK}
    assert checks

    def before(name: str) -> set[str]:
        """All that a step waits for."""
        direct = steps[name].depends_on
        return set(direct).union(*(before(each) for each in direct))

    for name in steps.keys() - checks - {"namespace"}:
        assert checks <= before(name), name
