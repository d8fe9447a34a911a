"""Real pods on the development cluster: names, services, volumes, registries and our images."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.layout import default_layout
from tests.devcluster.kube import FENCE, Kube, eventually, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

REGISTRY = "10.111.0.1:5000"
PRIVATE = "10.111.0.1:5001"


@pytest.fixture
def namespace(perdure: Kube) -> Iterator[str]:
    with namespace_of(perdure) as name:
        yield name


def meta(name: str) -> dict[str, Any]:
    return {"name": name, "labels": {"app": name}, "annotations": {FENCE: "5"}}


def run_pod(admin: Kube, namespace: str, name: str, container: dict[str, Any], **spec: Any) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name),
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "containers": [{"name": name, "imagePullPolicy": "IfNotPresent", **container}],
            **spec,
        },
    }
    answer = admin.call("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert answer.code == 201, answer


def pod(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    status: dict[str, Any] = kube.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}").body["status"]
    return status


def is_ready(kube: Kube, namespace: str, name: str) -> bool:
    conditions = pod(kube, namespace, name).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def waiting_reason(kube: Kube, namespace: str, name: str) -> str:
    statuses = pod(kube, namespace, name).get("containerStatuses", [{}])
    reason: str = statuses[0].get("state", {}).get("waiting", {}).get("reason", "")
    return reason


def events(kube: Kube, namespace: str) -> str:
    found = kube.call("GET", f"/api/v1/namespaces/{namespace}/events").body["items"]
    return "\n".join(str(event.get("message")) for event in found)


def logs(kube: Kube, namespace: str, name: str) -> str:
    return kube.text(f"/api/v1/namespaces/{namespace}/pods/{name}/log")


def service(kube: Kube, namespace: str, name: str, port: int) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name),
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }
    assert kube.apply(f"/api/v1/namespaces/{namespace}/services", body).code == 201


def http_ready(port: int) -> dict[str, Any]:
    return {"httpGet": {"path": "/healthz", "port": port}, "periodSeconds": 1}


def finish(admin: Kube, namespace: str, name: str, script: str) -> str:
    """Run a shell script in a pod of its own; its output once it has ended well."""
    run_pod(admin, namespace, name, {"image": f"{REGISTRY}/perdure/tiny:1", "command": ["sh", "-ec", script]})
    eventually(
        lambda: pod(admin, namespace, name)["phase"] in ("Succeeded", "Failed"), 60, f"end of pod {name}"
    )
    output = logs(admin, namespace, name)
    assert pod(admin, namespace, name)["phase"] == "Succeeded", output
    return output


def test_a_pod_finds_a_service_by_name(admin: Kube, namespace: str) -> None:
    container = {"image": f"{REGISTRY}/perdure/tiny:1", "readinessProbe": http_ready(8080)}
    run_pod(admin, namespace, "web", container)
    service(admin, namespace, "web", 8080)
    eventually(lambda: is_ready(admin, namespace, "web"), 30, "pod web")
    script = f"wget -qO- http://web:8080; wget -qO- http://web.{namespace}.svc.cluster.local:8080/healthz"
    assert finish(admin, namespace, "client", script) == "ok\nok\n"


def test_the_shop_takes_an_order_to_its_end(admin: Kube, namespace: str) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta("data"),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    assert admin.apply(path, claim).code == 201
    database = {
        "image": f"{REGISTRY}/perdure/postgres:1",
        "env": [
            {"name": "POSTGRES_USER", "value": "shop"},
            {"name": "POSTGRES_PASSWORD", "value": 'it\'s "quoted"'},
            {"name": "POSTGRES_DB", "value": "orders"},
            {"name": "PGDATA", "value": "/data/pgdata"},
        ],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1},
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    run_pod(admin, namespace, "db", database, volumes=[volume])
    run_pod(admin, namespace, "queue", {"image": f"{REGISTRY}/perdure/redis:1"})
    service(admin, namespace, "db", 5432)
    service(admin, namespace, "queue", 6379)
    shop = {
        "image": f"{REGISTRY}/perdure/shop-api:1",
        "env": [
            {"name": "DATABASE_URL", "value": "host=db user=shop dbname=orders password='it\\'s \"quoted\"'"},
            {"name": "REDIS_URL", "value": "redis://queue:6379"},
        ],
    }
    run_pod(admin, namespace, "shop", {**shop, "readinessProbe": http_ready(8080)})
    run_pod(admin, namespace, "worker", {**shop, "args": ["worker"]})
    service(admin, namespace, "shop", 8080)
    eventually(lambda: is_ready(admin, namespace, "shop"), 60, "pod shop")

    base = f"/api/v1/namespaces/{namespace}/services/shop:8080/proxy"
    products = admin.call("GET", f"{base}/products").body["products"]
    assert [product["name"] for product in products] == ["lamp", "chair", "table"]
    order = admin.call("POST", f"{base}/orders", {"product_id": products[0]["id"], "quantity": 2})
    assert (order.code, order.body["state"]) == (201, "new")
    number = order.body["id"]
    eventually(
        lambda: admin.call("GET", f"{base}/orders/{number}").body["state"] == "done", 20, "the order done"
    )
    assert admin.call("POST", f"{base}/orders", {"product_id": 999}).code == 422
    wrong = admin.call("GET", f"{base}/products?wrong=1").body["products"]
    assert wrong != products


def test_a_database_asks_everybody_from_outside_for_the_password(admin: Kube, namespace: str) -> None:
    ready = {"exec": {"command": ["pg_isready", "-h", "127.0.0.1"]}, "periodSeconds": 1}
    image = f"{REGISTRY}/perdure/postgres:1"
    env = [{"name": "POSTGRES_PASSWORD", "value": "right"}]
    run_pod(admin, namespace, "db", {"image": image, "env": env, "readinessProbe": ready})
    service(admin, namespace, "db", 5432)
    eventually(lambda: is_ready(admin, namespace, "db"), 30, "pod db")
    query = "psql -h db -U postgres -Atc 'select 42'"
    script = f"! PGPASSWORD=wrong {query} && PGPASSWORD=right {query}"
    run_pod(admin, namespace, "client", {"image": image, "command": ["sh", "-c", script]})
    eventually(lambda: pod(admin, namespace, "client")["phase"] == "Succeeded", 30, "end of client")
    output = logs(admin, namespace, "client")
    assert "password authentication failed" in output
    assert output.endswith("42\n")


def test_an_image_that_does_not_exist_is_refused_by_the_registry(admin: Kube, namespace: str) -> None:
    run_pod(admin, namespace, "absent", {"image": f"{REGISTRY}/perdure/absent:1"})
    eventually(
        lambda: waiting_reason(admin, namespace, "absent") in ("ErrImagePull", "ImagePullBackOff"),
        20,
        "refusal",
    )
    eventually(lambda: "not found" in events(admin, namespace), 30, "the event")


def test_the_private_registry_wants_the_login_and_takes_it(admin: Kube, namespace: str) -> None:
    image = f"{PRIVATE}/private/shop-api:1"
    container = {"image": image, "imagePullPolicy": "Always", "args": ["api"]}
    run_pod(admin, namespace, "stranger", container)
    eventually(
        lambda: waiting_reason(admin, namespace, "stranger") in ("ErrImagePull", "ImagePullBackOff"),
        20,
        "refusal",
    )
    # The capital is there or not, as the registry's words or its status line are quoted.
    eventually(lambda: "unauthorized" in events(admin, namespace).lower(), 30, "the event")

    login = json.loads(default_layout().registry_file.read_text())
    entry = {"username": login["username"], "password": login["password"]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta("login"),
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps({"auths": {PRIVATE: entry}})},
    }
    assert admin.apply(f"/api/v1/namespaces/{namespace}/secrets", secret).code == 201
    run_pod(admin, namespace, "friend", container, imagePullSecrets=[{"name": "login"}])
    eventually(lambda: is_ready(admin, namespace, "friend"), 60, "pod friend")


def test_a_leak_ends_in_a_real_out_of_memory_kill(admin: Kube, namespace: str) -> None:
    container = {
        "image": f"{REGISTRY}/perdure/shop-api:1",
        "env": [{"name": "LEAK_MB_PER_SECOND", "value": "200"}],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    run_pod(admin, namespace, "leak", container)
    eventually(lambda: pod(admin, namespace, "leak")["phase"] == "Failed", 30, "the kill")
    state = pod(admin, namespace, "leak")["containerStatuses"][0]["state"]["terminated"]
    assert state["reason"] == "OOMKilled"


def test_a_container_that_exits_once_then_runs(admin: Kube, namespace: str) -> None:
    container = {
        "image": f"{REGISTRY}/perdure/shop-api:1",
        "env": [{"name": "EXIT_TIMES", "value": "1"}, {"name": "EXIT_CODE", "value": "7"}],
        "volumeMounts": [{"name": "state", "mountPath": "/state"}],
    }
    volumes = [{"name": "state", "emptyDir": {}}]
    run_pod(admin, namespace, "shaky", container, volumes=volumes, restartPolicy="Always")

    def has_recovered() -> bool:
        status = pod(admin, namespace, "shaky").get("containerStatuses", [{}])[0]
        return status.get("restartCount") == 1 and status.get("ready") is True

    eventually(has_recovered, 40, "the recovery")
    last = pod(admin, namespace, "shaky")["containerStatuses"][0]["lastState"]["terminated"]
    assert last["exitCode"] == 7
