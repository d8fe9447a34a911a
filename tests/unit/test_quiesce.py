"""The order in which services are held still."""

from typing import Any

from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.quiesce import quiesce_order

HOOKS = {"quiesce": "pause", "thaw": "resume"}


def environment(**services: dict[str, Any]) -> Blueprint:
    named = {name: {"image": "x:1", **fields} for name, fields in services.items()}
    return parse_blueprint({"name": "env", "services": named})


def names(blueprint: Blueprint) -> list[str]:
    return [service.name for service in quiesce_order(blueprint)]


def test_dependants_are_held_first_however_they_are_written() -> None:
    assert names(
        environment(
            db={"snapshot": HOOKS},
            web={"snapshot": HOOKS, "dependsOn": ["api"]},
            # Without hooks itself, it still stands between the two.
            api={"dependsOn": ["queue"]},
            queue={"snapshot": HOOKS, "dependsOn": ["db"]},
        )
    ) == ["web", "queue", "db"]


def test_whoever_cannot_be_held_is_left_out() -> None:
    mock = {"mode": "replace", "image": "mock:1"}
    beside = {"mode": "sidecar", "image": "mock:1"}
    assert names(
        environment(
            none={},
            asleep={"snapshot": HOOKS, "replicas": 0},
            mocked={"snapshot": HOOKS, "mock": mock},
            accompanied={"snapshot": HOOKS, "mock": beside},
        )
    ) == ["accompanied"]
