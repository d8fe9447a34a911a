"""A template becomes a running environment; a generated stub answers instead of a service, or beside it."""

import json
from typing import Any

import pytest

from tests.e2e.lifecycle import ENDED_SECONDS, is_ready, pods_now, pods_settle, serving, update
from tests.e2e.support import idle, uids
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = pytest.mark.cluster

ASK = """
import sys, urllib.request
sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
"""


def test_a_bundled_template_runs(stack: Stack, name: str) -> None:
    wish = {"name": name, "create": True, "parameters": {"replicas": 1}}
    made = stack.client.post("/v1/templates/hello/instantiate", json=wish)
    assert made.status_code == 202, made.text
    found = made.json()["data"]["environment"]
    handle = Handle(stack, found["id"], found["namespace"], found["operation"]["id"])
    handle.succeeded()
    assert handle.status()["phase"] == "running"
    handle.delete().succeeded()


def test_a_generated_stub_answers_in_place_of_its_service(stack: Stack, name: str) -> None:
    examples = [{"path": "/prices/1", "body": {"cents": 890}}]
    wish = {"service": "prices", "examples": examples, "port": 9000}
    generated = stack.client.post("/v1/stubs/generate", json=wish)
    assert generated.status_code == 200, generated.text
    service = generated.json()["data"]["service"]
    # What it stands in for cannot even be pulled.
    service["image"] = "10.111.0.1:5000/perdure/never-built:1"
    services = [service, {"name": "user", **idle(dependsOn=["prices"])}]
    made = stack.create({"name": name, "services": services})
    made.succeeded()
    command = ("python3", "-c", ASK, "http://prices:9000/prices/1")
    assert json.loads(stack.run_in(made.namespace, "deploy/prices", *command)) == {"cents": 890}
    made.delete().succeeded()


class _Sidecar:
    """A service that answers on 8080, and the stub beside it on 9000."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def ask(self, port: int, path: str) -> tuple[int, str]:
        """What the service's name answers at a port, through the service proxy: status and body."""
        where = f"/v1/environments/{self._handle.environment_id}/services/prices:{port}/proxy{path}"
        answer = self._handle.stack.client.get(where)
        return answer.status_code, answer.text

    def answers(self, cents: int) -> bool:
        """Whether the stub answers its example, and nothing else; and the service whatever it is asked."""
        recorded, unknown = self.ask(9000, "/prices/1"), self.ask(9000, "/healthz")
        assert (recorded[0], json.loads(recorded[1])) == (200, {"cents": cents})
        assert (unknown[0], "no route" in unknown[1]) == (404, True)
        real = self._handle.sh("deploy/prices", "wget -q -O - http://127.0.0.1:9000/prices/1")
        assert json.loads(real) == {"cents": cents}, "from the service's own container"
        return self.serves()

    def serves(self) -> bool:
        """Whether the service answers for itself, also what the stub has an answer for."""
        assert self.ask(8080, "/prices/1")[0] == 404
        return self.ask(8080, "/healthz") == (200, "ok\n")


def _stubbed(stack: Stack, name: str, cents: int | None) -> dict[str, Any]:
    """The service's Blueprint; with a stub that answers so many cents, unless that is None."""
    service = {"name": "prices", **serving()}
    if cents is not None:
        examples = [{"path": "/prices/1", "body": {"cents": cents}}]
        wish = {"service": "prices", "examples": examples, "port": 9000, "mode": "sidecar"}
        generated = stack.client.post("/v1/stubs/generate", json=wish)
        assert generated.status_code == 200, generated.text
        service["mock"] = generated.json()["data"]["mock"]
    return {"name": name, "services": [service]}


def _containers(handle: Handle) -> list[str]:
    [pod] = pods_now(handle, "prices").values()
    return [each["name"] for each in pod["spec"]["containers"]]


def test_a_generated_stub_answers_beside_its_service(stack: Stack, name: str) -> None:
    """On its own port, in each pod that comes; the service keeps its own, with the stub and without."""
    made = stack.create(_stubbed(stack, name, 890))
    made.succeeded()
    beside = _Sidecar(made)
    assert beside.answers(890), "as soon as the operation has succeeded"

    [old] = pods_settle(made, "prices")
    stack.kubectl(
        "-n", made.namespace, "delete", "pod", "-l", "app.kubernetes.io/name=prices", "--wait=false"
    )
    eventually(lambda: old not in pods_now(made, "prices"), "its pod goes", within=60)
    pods_settle(made, "prices")
    assert beside.answers(890), "as soon as the new pod is ready"

    kill = ("python3", "-c", "import os; os.kill(1, 15)")
    stack.run_in(made.namespace, "deploy/prices", *kill, container="prices-mock")

    def restarted() -> bool:
        [pod] = pods_now(made, "prices").values()
        counts = {each["name"]: each["restartCount"] for each in pod["status"]["containerStatuses"]}
        return counts == {"prices": 0, "prices-mock": 1} and is_ready(pod)

    eventually(restarted, "the stub alone was started again, and is ready", within=60)
    assert beside.answers(890)

    update(made, _stubbed(stack, name, None)).succeeded(ENDED_SECONDS)
    pods_settle(made, "prices")
    assert _containers(made) == ["prices"]
    assert beside.serves()
    assert beside.ask(9000, "/prices/1")[0] == 404
    [service] = stack.objects(made.namespace, "services", "app.kubernetes.io/name=prices")
    assert [each["port"] for each in service["spec"]["ports"]] == [8080]
    assert not [each for each in uids(stack, made.namespace) if each.startswith("ConfigMap/prices")]
    update(made, _stubbed(stack, name, 900)).succeeded(ENDED_SECONDS)
    assert beside.answers(900)
    made.delete().succeeded()
