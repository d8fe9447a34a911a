"""A template becomes a running environment, and a generated stub answers in a service's place."""

import json

import pytest

from tests.e2e.support import idle
from tests.helpers.stack import Handle, Stack

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
    command = ("-n", made.namespace, "exec", "deploy/prices", "--", "python3", "-c", ASK)
    assert json.loads(stack.kubectl(*command, "http://prices:9000/prices/1")) == {"cents": 890}
    made.delete().succeeded()
