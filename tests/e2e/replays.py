"""What the tests of replays share: what a dry run says, and what was then done."""

import json
from typing import Any

from tests.e2e.lifecycle import change
from tests.helpers.stack import Handle, Stack

ENDED_SECONDS = 240.0


def preview(handle: Handle, **body: Any) -> list[dict[str, Any]]:
    """What a replay would do, step by step."""
    answer = handle.stack.client.post(
        f"/v1/environments/{handle.environment_id}/replay", json=body, params={"dry_run": "true"}
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["steps"]
    return found


def told(steps: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Of a dry run, by service: run or skip, and why."""
    return {each["service"]: (each["action"], each["message"]) for each in steps if each["kind"] == "service"}


def done(operation: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Of an operation that succeeded, by service: run or skip, and why, as its ledger has it."""
    actions = {"succeeded": "run", "skipped": "skip"}
    return {
        step["service"]: (actions[step["state"]], step["output"]["reason"])
        for step in operation["steps"]
        if step["kind"] == "service"
    }


def ran(operation: dict[str, Any]) -> set[str]:
    """The services that were run again."""
    return {service for service, (action, _) in done(operation).items() if action == "run"}


def replay(handle: Handle, **body: Any) -> tuple[Handle, dict[str, Any]]:
    """Replay in place, see that it does what the dry run before it says; its handle and its end."""
    said = told(preview(handle, **body))
    started = change(handle, "replay", **body)
    operation = started.succeeded(ENDED_SECONDS)
    assert done(operation) == said
    return started, operation


def elsewhere(origin: Handle, name: str, **body: Any) -> Handle:
    """Ask for a replay into a new environment of this name, and return a handle on that."""
    path = f"/v1/environments/{origin.environment_id}/replay"
    answer = origin.stack.client.post(path, json={"target": "new", "name": name, **body})
    assert answer.status_code == 202, answer.text
    asked = answer.json()["data"]
    there = origin.stack.client.get(f"/v1/environments/{asked['environmentId']}").json()["data"]
    return Handle(origin.stack, there["id"], there["namespace"], asked["id"])


def templates_of(handle: Handle, deployment: str) -> int:
    """How many pod templates a Deployment has had: one ReplicaSet each."""
    sets = handle.stack.objects(handle.namespace, "replicasets", f"app.kubernetes.io/name={deployment}")
    return len(sets)


def assert_told_once(stack: Stack, operation: dict[str, Any]) -> None:
    """The operation and each of its steps went through their states once."""
    told: dict[str, list[str]] = {}
    for kind, data in stack.rows(
        "select type, data from events where operation_id = ? order by number", operation["id"]
    ):
        event = json.loads(data)
        told.setdefault(event["step"] if kind == "step" else "operation", []).append(event["state"])
    assert told.pop("operation") == ["accepted", "running", "succeeded"]
    assert told == {
        step["name"]: ["skipped"] if step["state"] == "skipped" else ["running", "succeeded"]
        for step in operation["steps"]
    }
