"""What the tests of an environment's life share: asking for each change, a look at pods, cases at once."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import TINY
from tests.e2e.support import POSTGRES, idle, pods, probed
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

ENDED_SECONDS = 240.0
VOLUME = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}
Case = Callable[[Stack, str], None]
"""One case: takes the stack and a name that no other case uses for its environment."""


def serving(**more: Any) -> dict[str, Any]:
    """A service that answers "ok" on port 8080."""
    return {
        "image": TINY,
        "ports": [{"containerPort": 8080}],
        "probes": probed({"http": {"path": "/healthz", "port": 8080}}),
        "resources": {"cpu": "10m", "memory": "16Mi"},
        **more,
    }


def keeping(**more: Any) -> dict[str, Any]:
    """A service with a volume that it may write to, since its image runs as root."""
    return {**idle(), "image": POSTGRES, "volumes": [VOLUME], **more}


def broken(service: dict[str, Any]) -> dict[str, Any]:
    """The service with a command that ends at once, which is told within seconds.

    Never ready: a node that is busy may say seconds later that what it had started has ended.
    """
    never = {"readiness": {"exec": {"command": ["false"]}}}
    command = ["sh", "-c", "echo broken on purpose; exit 3"]
    return {"probes": never, **service, "command": command}


def blueprint(name: str, **services: dict[str, Any]) -> dict[str, Any]:
    """A Blueprint of these services."""
    return {"name": name, "services": services}


def put(handle: Handle, document: dict[str, Any], **query: Any) -> httpx2.Response:
    """Ask for an update and return the answer, whatever it is."""
    path = f"/v1/environments/{handle.environment_id}/blueprint"
    return handle.stack.client.put(path, json={"blueprint": document}, params=query)


def ask(handle: Handle, action: str, **body: Any) -> httpx2.Response:
    """Ask for another change than an update and return the answer, whatever it is."""
    method = "PATCH" if action == "scale" else "POST"
    path = f"/v1/environments/{handle.environment_id}/{action}"
    return handle.stack.client.request(method, path, json=body or None)


def accepted(handle: Handle, answer: httpx2.Response) -> Handle:
    """A handle on the operation that the answer accepts."""
    assert answer.status_code == 202, answer.text
    return replace(handle, operation_id=answer.json()["data"]["id"])


def update(handle: Handle, document: dict[str, Any]) -> Handle:
    """Ask for an update and return a handle on it."""
    return accepted(handle, put(handle, document))


def change(handle: Handle, action: str, **body: Any) -> Handle:
    """Ask for another change and return a handle on it."""
    return accepted(handle, ask(handle, action, **body))


def clone(handle: Handle, name: str) -> Handle:
    """Ask for a clone and return a handle on its provision."""
    answer = ask(handle, "clone", name=name)
    assert answer.status_code == 202, answer.text
    made = answer.json()["data"]
    return Handle(handle.stack, made["id"], made["namespace"], made["operation"]["id"])


def environment(handle: Handle) -> dict[str, Any]:
    """The environment as GET answers it."""
    answer = handle.stack.client.get(f"/v1/environments/{handle.environment_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def written(handle: Handle) -> list[tuple[Any, ...]]:
    """How many rows of each kind the environment has: the same before and after, nothing was written."""
    tables = ("operations", "revisions", "events", "secrets")
    counts = " union all ".join(
        f"select '{table}', count(*) from {table} where environment_id = '{handle.environment_id}'"
        for table in tables
    )
    return handle.stack.rows(counts)


def pods_now(handle: Handle, service: str) -> dict[str, dict[str, Any]]:
    """The pods of a service that are to stay, by UID."""
    return {
        pod["metadata"]["uid"]: pod
        for pod in pods(handle.stack, handle.namespace, service)
        if "deletionTimestamp" not in pod["metadata"]
    }


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod has its `Ready` condition."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def pods_settle(handle: Handle, service: str, count: int = 1) -> set[str]:
    """UIDs of a service's pods once there are exactly so many, all of them ready."""

    def look() -> set[str] | bool:
        found = pods_now(handle, service)
        ready = [pod for pod in found.values() if is_ready(pod)]
        return len(found) == len(ready) == count and set(found)

    if count == 0:
        eventually(lambda: not pods_now(handle, service), f"{service} has no pods", within=60)
        return set()
    return eventually(look, f"{service} has {count} ready pods", within=60)


def answers(handle: Handle, service: str) -> bool:
    """Whether a `serving` service answers through its Service object."""
    status, said = handle.ask(service, "/healthz")
    return status == HTTPStatus.OK and said.strip() == "ok"


def asked_for(request: pytest.FixtureRequest) -> set[str]:
    """The values of the parameter `case` of those tests of the module that are to run."""
    return {
        str(item.callspec.params["case"])
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and "case" in item.callspec.params
    }


@contextmanager
def side_by_side(
    request: pytest.FixtureRequest, stack: Stack, cases: Sequence[Case], *, at_once: int
) -> Iterator[dict[str, Future[None]]]:
    """Run those cases of a module that were asked for, so many at once; the result of each by its name."""
    wanted = asked_for(request)
    with ThreadPoolExecutor(at_once) as pool:
        yield {
            case.__name__: pool.submit(case, stack, f"t-{uuid.uuid4().hex[:8]}")
            for case in cases
            if case.__name__ in wanted
        }
