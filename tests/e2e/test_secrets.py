"""Secret values stand in clear nowhere but in the cluster's own Secrets, whatever happens to an environment.

Each value holds a core that every form of it keeps (escaped, quoted, in JSON); it is looked for as it is and
in base64. A marker that is no secret travels the same roads: where it is not found, nothing was searched.
"""

import asyncio
import base64
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from tests.e2e.support import PRIVATE_IMAGE, SHOP_API, idle
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

MARKER = f"marker-{uuid.uuid4().hex}"
LITERAL = uuid.uuid4().hex
MANY_LINES = [uuid.uuid4().hex for _ in range(3)]
WRONG_PASSWORD = uuid.uuid4().hex
REFUSED = [uuid.uuid4().hex for _ in range(3)]
"""Cores of values in requests that are refused."""

# Says its secrets in all the forms that programs put them into, then ends badly.
_BLAB = """
import base64, json, os, sys, urllib.parse
print(os.environ["MARKER"], flush=True)
for key in ("TOKEN", "CERTIFICATE", "MADE"):
    value = os.environ[key]
    print("plain", value)
    print("json", json.dumps({"value": value}), json.dumps(value, ensure_ascii=False))
    print("url", urllib.parse.quote(value), urllib.parse.quote_plus(value))
    print("url", urllib.parse.quote(value, safe=""))
    for user in ("", "u", "us"):
        print("basic", base64.b64encode(f"{user}:{value}".encode()).decode())
    print("urlsafe", base64.urlsafe_b64encode(value.encode()).decode())
sys.stdout.flush()
sys.exit(os.environ["TOKEN"] if os.environ["HOW"] == "message" else 3)
"""


def _awkward(core: str) -> str:
    """A value with all that quoting changes around its core."""
    return f'p"ä/+ &{core}\\=?'


def _services(how: str) -> dict[str, Any]:
    return {
        "blab": {
            "image": SHOP_API,
            "command": ["python3", "-c", _BLAB],
            "env": {"MARKER": MARKER, "HOW": how},
            "dependsOn": ["web"],
            "probes": {"readiness": {"exec": {"command": ["false"]}}},
            "secrets": [
                {"name": "token", "envKey": "TOKEN", "value": _awkward(LITERAL)},
                {"name": "certificate", "envKey": "CERTIFICATE", "value": "\n".join(MANY_LINES)},
                {"name": "made", "envKey": "MADE", "value": "auto-generated"},
            ],
        },
        "web": idle(),
    }


@dataclass
class Traces:
    """All that a stack has left behind, by place, and what must be in none of it."""

    places: dict[str, bytes] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def add(self, place: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        self.places[place] = self.places.get(place, b"") + data + b"\n"


def _forms(core: str) -> list[bytes]:
    """The core as it is, and the parts of its base64 that are certain, at each of the three positions."""
    data = core.encode()
    found = [data]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + data)
        found.append(encoded[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6])
    return found


def _holds(content: bytes, core: str) -> bool:
    return any(form in content for form in _forms(core))


@pytest.fixture(scope="module")
def traces(stack: Stack, registry: dict[str, Any]) -> Traces:
    """One environment that runs, two that fail and tell their secrets, all deleted; then every trace."""
    found = Traces(secrets=[LITERAL, *MANY_LINES, WRONG_PASSWORD, registry["password"], *REFUSED])
    answers: list[str] = []

    def keep(response: Any) -> None:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            response.read()
            answers.append(f"{response.headers}\n{response.text}")

    stack.client.event_hooks = {"request": [], "response": [keep]}
    _store_logins(stack, registry)
    _send_what_is_refused(stack)
    good = stack.create(
        {
            "name": "private",
            "services": {
                "web": {"image": PRIVATE_IMAGE, "imagePullSecrets": ["right"], "env": {"MARKER": MARKER}},
                "none": idle(secrets=[{"name": "token", "envKey": "TOKEN", "value": _awkward(LITERAL)}]),
            },
        }
    )
    refused = stack.create(
        {
            "name": "refused",
            "services": {"web": {"image": f"{PRIVATE_IMAGE}0", "imagePullSecrets": ["wrong"]}},
        }
    )
    failing = [
        stack.create({"name": f"blab-{how}", "services": _services(how)}) for how in ("code", "message")
    ]
    good.succeeded()
    for handle in (*failing, refused):
        assert handle.ended()["state"] == "failed"
    found.secrets += [_generated(stack, handle) for handle in failing]
    everything = (good, refused, *failing)
    for handle in everything:
        _ask_everything(stack, handle, found)
    for handle in everything:
        deletion = handle.delete()
        deletion.succeeded()
        _ask_everything(stack, deletion, found, alive=False)
    stack.client.event_hooks = {"request": [], "response": []}
    found.add("API answers", "\n".join(answers))
    found.add("Temporal history", asyncio.run(_histories(stack)))
    _read_files(stack.directory, found)
    return found


def _store_logins(stack: Stack, registry: dict[str, Any]) -> None:
    for login, password in (("right", registry["password"]), ("wrong", WRONG_PASSWORD)):
        body = {"name": login, "registry": registry["private"], "username": "perdure", "password": password}
        headers = {"Idempotency-Key": f"login-{login}"}
        for _ in range(2):
            answer = stack.client.post("/v1/registry-credentials", json=body, headers=headers)
            assert answer.status_code == 201, answer.text
    assert stack.client.get("/v1/registry-credentials").status_code == 200


def _send_what_is_refused(stack: Stack) -> None:
    """Faults around a secret: none of the answers may quote it."""
    first, second, third = REFUSED
    token = {"name": "token", "envKey": "TOKEN"}
    documents: list[Any] = [
        {"name": "a", "services": {"a": idle(secrets=[{**token, "value": [first]}])}},
        {
            "name": "a",
            "services": {"a": idle(secrets=[{**token, "value": first, "valueFrom": {"secret": "x"}}])},
        },
        {
            "name": "a",
            "services": {
                "a": idle(secrets=[{**token, "value": first}]),
                "b": idle(secrets=[{**token, "value": second}]),
            },
        },
        {"name": "a", "services": {"a": idle(secrets=[{**token, "value": third * 9000}])}},
    ]
    for document in documents:
        answer = stack.client.post("/v1/environments", json={"blueprint": document})
        assert answer.status_code == 422, answer.text
        assert stack.client.post("/v1/environments/validate", json={"blueprint": document}).status_code == 200
    login = {"name": "NOT A NAME", "registry": "x", "username": "", "password": {"clear": third}}
    assert stack.client.post("/v1/registry-credentials", json=login).status_code == 422


def _generated(stack: Stack, handle: Handle) -> str:
    """The value that was made for an environment, read from the cluster as its administrator."""
    path = "jsonpath={.data.value}"
    encoded = stack.kubectl("-n", handle.namespace, "get", "secret", "secret-made", "-o", path)
    value = base64.b64decode(encoded).decode()
    assert len(value) == 32
    return value


def _ask_everything(stack: Stack, handle: Handle, found: Traces, *, alive: bool = True) -> None:
    environment, operation = (
        f"/v1/environments/{handle.environment_id}",
        f"/v1/operations/{handle.operation_id}",
    )
    paths = ["/v1/environments", "/v1/operations", environment, f"{environment}/status", operation]
    paths += [f"{environment}/topology"] if alive else []
    for path in paths:
        answer = stack.client.get(path)
        assert answer.status_code == 200, answer.text
    if alive:
        for previous in ("false", "true"):
            answer = stack.client.get(f"{environment}/logs", params={"tail": 5000, "previous": previous})
            assert answer.status_code == 200, answer.text
            found.add("API logs", answer.text)
    found.add("API operations", stack.client.get(operation).text)
    with stack.client.stream("GET", f"{operation}/events") as stream:
        found.add("API events", "".join(stream.iter_text()))


async def _histories(stack: Stack) -> bytes:
    """All histories as JSON, and every payload in them opened."""
    client = await Client.connect(stack.temporal_address)
    parts: list[bytes] = []
    async for execution in client.list_workflows():
        history = await client.get_workflow_handle(execution.id, run_id=execution.run_id).fetch_history()
        text = history.to_json()
        parts.append(text.encode())
        parts += _payloads(json.loads(text))
    assert parts
    return b"\n".join(parts)


def _payloads(value: Any) -> list[bytes]:
    if isinstance(value, dict):
        own = [base64.b64decode(value["data"])] if isinstance(value.get("data"), str) else []
        return own + [each for item in value.values() for each in _payloads(item)]
    if isinstance(value, list):
        return [each for item in value for each in _payloads(item)]
    return []


def _read_files(directory: Path, found: Traces) -> None:
    """Every file that the stack wrote, but the keys that open the values."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in ("seal.key", "gate.kubeconfig"):
            top = path.relative_to(directory).parts[0]
            place = "evidence" if top == "objects" else top.removesuffix("-wal").removesuffix("-shm")
            found.add(place, path.read_bytes())


def test_the_values_are_found_nowhere(traces: Traces) -> None:
    assert len(traces.secrets) == 11
    leaks = [
        f"{place}: secret {number}"
        for number, secret in enumerate(traces.secrets)
        for place, content in traces.places.items()
        if _holds(content, secret)
    ]
    assert not leaks


@pytest.mark.parametrize(
    "place",
    [
        "API answers",
        "API logs",
        "API operations",
        "Temporal history",
        "evidence",
        "perdure.db",
        "temporal.db",
    ],
)
def test_what_is_no_secret_is_found_there(traces: Traces, place: str) -> None:
    assert _holds(traces.places[place], MARKER)


@pytest.mark.parametrize("place", ["API events", "api.log", "worker.log"])
def test_places_without_contents_were_read_too(traces: Traces, place: str, stack: Stack) -> None:
    identifiers = [row[0] for row in stack.rows("select id from operations")]
    assert any(_holds(traces.places[place], each) for each in identifiers)


def test_nothing_was_left_out(traces: Traces) -> None:
    logs = {"api.log", "worker.log", "temporal.log"}
    assert logs | {"perdure.db", "temporal.db", "evidence"} <= set(traces.places)


def test_the_evidence_says_that_something_was_taken_out(traces: Traces) -> None:
    lines = traces.places["evidence"].decode()
    assert "plain [redacted]" in lines
    assert MARKER in lines
    assert "[redacted]" in traces.places["API logs"].decode()


def test_values_are_where_they_belong(stack: Stack) -> None:
    """They reach the pods: what is kept from view is not kept from use."""
    made = stack.create(
        {
            "name": "whole",
            "services": {
                "web": idle(
                    secrets=[
                        {"name": "token", "envKey": "TOKEN", "value": _awkward(LITERAL)},
                        {"name": "certificate", "envKey": "CERTIFICATE", "value": "\n".join(MANY_LINES)},
                    ]
                )
            },
        }
    )
    made.succeeded()
    said = eventually(
        lambda: made.sh("deploy/web", 'printf %s "$TOKEN|$CERTIFICATE"'),
        "the container says what it was given",
    )
    assert said == f"{_awkward(LITERAL)}|{chr(10).join(MANY_LINES)}"
