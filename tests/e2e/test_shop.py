"""The example shop, whole: it is provisioned, sells something, says how it is, and goes without a trace."""

import json
from http import HTTPStatus
from typing import Any

import pytest
import yaml

from tests.e2e.support import states, volumes_of
from tests.helpers.stack import ROOT, Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Handle:
    """The shop of the examples, running."""
    document = yaml.safe_load((ROOT / "examples" / "shop.yaml").read_text())
    made = stack.create(document)
    made.succeeded(180)
    return made


def _get(shop: Handle, path: str) -> Any:
    status, said = shop.ask("api", path)
    assert status == HTTPStatus.OK, said
    return said


def _order(shop: Handle, product: int) -> Any:
    """Order two of a product, from another pod of the environment and through the Service."""
    body = json.dumps({"product_id": product, "quantity": 2})
    program = (
        "import urllib.request as r; "
        f"print(r.urlopen(r.Request('http://api:8080/orders', data={body!r}.encode())).read().decode())"
    )
    return json.loads(shop.stack.run_in(shop.namespace, "deploy/worker", "python3", "-c", program))


def test_every_step_succeeded_in_the_order_of_the_graph(shop: Handle) -> None:
    operation = shop.operation()
    assert set(states(operation).values()) == {"succeeded"}
    steps = {step["name"]: step for step in operation["steps"]}
    assert set(steps) == {
        *("namespace", "secrets", "service/api", "service/worker", "service/db", "service/cache"),
        "endpoints",
    }
    for step in steps.values():
        for dependency in step["dependsOn"]:
            assert steps[dependency]["finishedAt"] <= step["startedAt"]


def test_it_sells_something_and_the_worker_handles_the_order(shop: Handle) -> None:
    products = {each["name"]: each for each in _get(shop, "/products")["products"]}
    assert products["kettle"]["price_cents"] == 3900, "the init script has run"
    order = _order(shop, products["kettle"]["id"])
    eventually(
        lambda: _get(shop, f"/orders/{order['id']}")["state"] == "done", "the order is handled", within=60
    )
    done = f"order {order['id']} is done"
    lines = eventually(
        lambda: [line for line in _logs(shop, service="worker") if line["line"] == done],
        "the worker's log says so",
    )
    assert {line["service"] for line in lines} == {"worker"}


def test_the_status_tells_of_each_service(shop: Handle) -> None:
    status = shop.status()
    assert (status["status"], status["terminal"], status["clusterReachable"]) == ("running", True, True)
    assert {
        each["name"]: (each["state"], each["ready"], each["replicas"]) for each in status["services"]
    } == dict.fromkeys(("api", "worker", "db", "cache"), ("ready", 1, 1))
    [endpoint] = next(each for each in status["services"] if each["name"] == "api")["endpoints"]
    assert endpoint
    assert {condition["type"]: condition["status"] for condition in status["conditions"]}["Ready"] == "True"


def test_the_topology_is_that_of_the_blueprint(shop: Handle) -> None:
    answer = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/topology")
    assert answer.status_code == 200, answer.text
    topology = answer.json()["data"]
    assert {node["name"] for node in topology["nodes"]} == {"api", "worker", "db", "cache"}
    assert {(edge["source"], edge["target"], edge["condition"]) for edge in topology["edges"]} == {
        (source, target, "ready") for source in ("api", "worker") for target in ("db", "cache")
    }
    assert [each["service"] for each in topology["external"]] == ["api"]
    assert {node["name"]: node.get("store") for node in topology["nodes"]}["db"] == "postgres"


def test_logs_are_those_of_the_pods(shop: Handle) -> None:
    lines = _logs(shop)
    assert {line["service"] for line in lines} == {"api", "worker", "db", "cache"}
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
    assert any("listening on port 8080" in line["line"] for line in _logs(shop, service="api"))
    last = _logs(shop, service="db", tail=1)
    assert len(last) == 1
    unknown = shop.stack.client.get(
        f"/v1/environments/{shop.environment_id}/logs", params={"service": "nobody"}
    )
    assert unknown.status_code == 422


def test_a_service_that_goes_away_shows_and_comes_back(shop: Handle) -> None:
    scale = ("-n", shop.namespace, "scale", "deployment/worker")
    shop.stack.kubectl(*scale, "--replicas=0")
    status = eventually(lambda: (now := shop.status())["status"] == "degraded" and now, "the status says so")
    assert status["message"].startswith("worker: ")
    assert {each["name"]: each["state"] for each in status["services"]}["worker"] == "absent"
    shop.stack.kubectl(*scale, "--replicas=1")
    eventually(lambda: shop.status()["status"] == "running", "it is well again", within=60)


def test_a_delete_leaves_nothing(shop: Handle) -> None:
    assert len(volumes_of(shop.stack, shop.namespace)) == 1
    shop.delete().succeeded(180)
    assert not shop.stack.namespace_exists(shop.namespace)
    eventually(lambda: not volumes_of(shop.stack, shop.namespace), "its volume went with it", within=60)
    status = shop.status()
    assert (status["status"], status["terminal"]) == ("deleted", True)
    listed = shop.stack.client.get("/v1/environments").json()["data"]
    assert shop.environment_id not in [each["id"] for each in listed]


def _logs(shop: Handle, **wanted: Any) -> list[dict[str, Any]]:
    answer = shop.stack.client.get(f"/v1/environments/{shop.environment_id}/logs", params=wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found
