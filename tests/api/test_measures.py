"""Readings of an environment: said as far as they were seen, and absent with a reason otherwise."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import JsonValue

from activities.db.repositories.volume_samples import Sample
from activities.db.tables import Role
from api.access.cgroups import SCRIPT
from api.access.stores import growth_of
from clusters.errors import ClusterError, Forbidden, NotFound, NotStarted, Unavailable
from clusters.objects import Manifest
from clusters.tunnel import Refused
from clusters.values import ExecResult, Listing
from tests.api.support import Api, create, pod, problem
from tests.api.test_access import token_with
from tests.api.test_service_proxy import OK, application, hangs, says
from tests.helpers.tenants import Tenant
from workflows.domain.names import ENVIRONMENT, NAME


@dataclass
class Cluster:
    """Objects by kind, and what a command says; put over the fake cluster of the API tests."""

    objects: dict[str, list[Manifest]] = field(default_factory=dict)
    refused: ClusterError | None = None
    refused_kinds: dict[str, ClusterError] = field(default_factory=dict)
    metrics_served: bool = True
    said: dict[str, str | ClusterError] = field(default_factory=dict)
    """By the last argument of the command."""
    told: dict[str, str | ClusterError | None] = field(default_factory=dict)
    """What the cgroup of a container tells, by pod and container; None: nothing, for ever."""
    ran: list[tuple[str, str | None, list[str]]] = field(default_factory=list)

    async def list(
        self, kind: str, namespace: str | None = None, *, labels: Mapping[str, str] | None = None, **_: object
    ) -> Listing:
        if self.refused is not None:
            raise self.refused
        if kind in self.refused_kinds:
            raise self.refused_kinds[kind]
        return Listing(tuple(self.objects.get(kind, [])), "1")

    async def served(self, kind: str) -> bool:
        return self.metrics_served

    async def execute(
        self, namespace: str, name: str, command: Sequence[str], *, container: str | None = None, **_: object
    ) -> ExecResult:
        self.ran.append((name, container, [*command[-2:]]))
        said = self.told[f"{name}/{container}"] if command[-1] == SCRIPT else self.said[command[-1]]
        while said is None:
            await asyncio.Event().wait()
        if isinstance(said, ClusterError):
            raise said
        return ExecResult(0, said.encode(), b"", False)


def over(api: Api, cluster: Cluster) -> Cluster:
    """Let the API see this cluster."""
    for method in ("list", "served", "execute"):
        setattr(api.cluster, method, getattr(cluster, method))
    return cluster


async def read(api: Api, environment: dict[str, Any], what: str) -> dict[str, Any]:
    answer = await api.client.get(f"/v1/environments/{environment['id']}/{what}")
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_readings_are_for_viewers_and_the_proxy_is_not(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(OK))
    environment_id = made.url.split("/")[3]
    headers = {"Authorization": f"Bearer {await token_with(api, tenant, Role.VIEWER)}"}
    for what in ("endpoints", "cost", "metrics"):
        api.cluster.served = Cluster(metrics_served=False).served  # type: ignore[method-assign]
        answer = await api.client.get(f"/v1/environments/{environment_id}/{what}", headers=headers)
        assert answer.status_code == 200
    problem(await api.client.get(f"{made.url}/", headers=headers), 403, "policy_denied")


async def endpoint(made: Any, service: str = "web", query: str = "") -> dict[str, Any]:
    answer = await made.api.client.get(f"/v1/environments/{made.url.split('/')[3]}/endpoints{query}")
    assert answer.status_code == 200, answer.text
    found = {each["service"]: each for each in answer.json()["data"]["endpoints"]}
    one: dict[str, Any] = found[service]
    return one


async def test_an_endpoint_answers_when_it_was_asked_and_did(api: Api, tenant: Tenant) -> None:
    made = await application(api, says(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"))
    web = await endpoint(made)
    assert (web["answers"], web["httpStatus"], web["exposed"]) == ("true", 500, True)
    assert web["url"].startswith("http://web-shop-")
    assert web["proxy"] == f"{made.url.removesuffix('/proxy')}:8080/proxy/"
    db = await endpoint(made, "db")
    assert (db["answers"], db["exposed"], "url" in db) == ("unknown", False, False)
    asked = len(made.opened)
    assert (await endpoint(made, query="?check=ready"))["answers"] == "unknown"
    assert len(made.opened) == asked, "nothing was sent"


@pytest.mark.parametrize(
    ("refusal", "answers"),
    [(Refused("takes no connection"), "false"), (Unavailable("away"), "unknown"), (None, "false")],
)
async def test_what_was_not_seen_is_not_claimed(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, refusal: ClusterError | None, answers: str
) -> None:
    monkeypatch.setattr("api.access.endpoints.CHECK_SECONDS", 0.2)
    made = await application(api, hangs)
    made.refusal = refusal
    web = await endpoint(made)
    assert web["answers"] == answers
    assert web["reason"]
    assert "latencyMs" not in web
    assert "httpStatus" not in web


async def test_without_ready_pods_it_does_not_answer_and_without_a_cluster_nobody_knows(
    api: Api, tenant: Tenant
) -> None:
    made = await application(api, says(OK))
    api.cluster.pods = []
    assert (await endpoint(made))["answers"] == "false"
    api.cluster.refused = Unavailable("away")
    assert (await endpoint(made))["answers"] == "unknown"


def measured(service: str, cpu: str, memory: str) -> Manifest:
    return {
        "metadata": {"name": f"{service}-0", "labels": {NAME: service}},
        "timestamp": "2026-01-01T12:00:00Z",
        "window": "1m15.5s",
        "containers": [{"name": service, "usage": {"cpu": cpu, "memory": memory}}],
    }


async def test_metrics_are_summed_and_what_was_not_measured_is_absent(api: Api, tenant: Tenant) -> None:
    environment = await create(api)
    cluster = over(
        api, Cluster({"PodMetrics": [measured("web", "250000n", "20Mi"), measured("web", "1m", "1Mi")]})
    )
    found = await read(api, environment, "metrics")
    web, db = found["services"]
    assert (found["available"], found["source"]) == (True, "metrics.k8s.io")
    assert (web["cpuCores"], web["memoryBytes"], web["pods"][0]["windowSeconds"]) == (0.00125, 21 << 20, 75.5)
    assert db["reason"]
    assert "cpuCores" not in db
    cluster.objects["PodMetrics"] = [measured("web", "?", "1Mi")]
    web = (await read(api, environment, "metrics"))["services"][0]
    assert "cpuCores" not in web
    assert web["unmeasured"][0]["container"] == "web"


@pytest.mark.parametrize(
    ("cluster", "why"),
    [
        (Cluster(metrics_served=False), "metrics-server"),
        (Cluster(refused=NotFound("no")), "not there"),
        (Cluster(refused=Forbidden("no")), "no right"),
        (Cluster(refused=Unavailable("no")), "does not answer"),
    ],
)
async def test_no_metrics_say_why(api: Api, tenant: Tenant, cluster: Cluster, why: str) -> None:
    environment = await create(api)
    over(api, cluster)
    found = await read(api, environment, "metrics")
    assert found["available"] is False
    assert why in found["reason"]
    assert all("cpuCores" not in each and "memoryBytes" not in each for each in found["services"])


def running(environment: dict[str, Any], name: str, *containers: str, **metadata: Any) -> Manifest:
    """A pod whose containers run."""
    made = pod(environment["id"], name.partition("-")[0])
    state: JsonValue = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}
    made["metadata"].update({"name": name, **metadata})  # type: ignore[union-attr]
    made["status"]["containerStatuses"] = [{"name": each, "state": state} for each in containers]  # type: ignore[index,call-overload]
    return made


def cgroup(cpu_usec: int, memory: int) -> str:
    """What a container tells that used so much in half a second."""
    times = f"at 7.00\nusage_usec 5000\nat 7.50\nusage_usec {5000 + cpu_usec}\n"
    return f"{times}memory {memory + 100}\ninactive_file 100\n"


async def test_without_metrics_server_containers_are_asked_and_each_says_why_not(
    api: Api, tenant: Tenant
) -> None:
    environment = await create(api)
    proxied = running(environment, "web-0", "web")
    proxied["status"]["initContainerStatuses"] = [  # type: ignore[index,call-overload]
        {"name": "perdure-mirror", "state": {"running": {"startedAt": "2026-01-01T12:00:00Z"}}},
        {"name": "before", "state": {"terminated": {"exitCode": 0}}},
    ]
    ended = running(environment, "web-4", "web")
    ended["status"]["phase"] = "Succeeded"  # type: ignore[index,call-overload]
    waiting = pod(environment["id"], "web", waiting="ImagePullBackOff")
    waiting["metadata"]["name"] = "web-3"  # type: ignore[index,call-overload]
    pods = [
        proxied,
        running(environment, "web-1", "web", "extra"),
        running(environment, "web-2", "web", deletionTimestamp="2026-01-01T12:00:00Z"),
        waiting,
        ended,
        running(environment, "db-0", "db"),
        running(environment, "seed-0", "seed"),
    ]
    cluster = over(api, Cluster({"Pod": pods}, metrics_served=False))
    cluster.told = {
        "web-0/web": cgroup(125_000, 20 << 20),
        "web-0/perdure-mirror": cgroup(5_000, 1 << 20),
        "web-1/web": cgroup(125_000, 20 << 20),
        "web-1/extra": NotStarted('exec: "sh": executable file not found in $PATH'),
        "db-0/db": "garbage\n",
    }
    found = await read(api, environment, "metrics")
    web, db = found["services"]
    assert (found["available"], found["source"]) == (True, "cgroup")
    assert (web["cpuCores"], web["memoryBytes"]) == (0.26, 21 << 20), "of the one pod that told all of it"
    [told] = web["pods"]
    assert (told["pod"], told["windowSeconds"]) == ("web-0", 0.5)
    assert told["measuredAt"]
    assert [each["container"] for each in told["containers"]] == ["web", "perdure-mirror"]
    absent = {each["pod"]: (each.get("container"), each["reason"]) for each in web["unmeasured"]}
    assert sorted(absent) == ["web-1", "web-2", "web-3"]
    assert absent["web-1"] == ("extra", 'it cannot be asked: exec: "sh": executable file not found in $PATH')
    assert absent["web-2"] == (None, "it is being deleted")
    assert absent["web-3"] == (None, "none of its containers is running (ImagePullBackOff)")
    assert "cpuCores" not in db
    assert "memoryBytes" not in db
    assert db["reason"] == "db-0: it cannot read its own cgroup"
    asked = len(cluster.ran)
    assert asked == len(cluster.told), "neither what has ended nor what is no service"
    assert await read(api, environment, "metrics") == found
    assert len(cluster.ran) == asked, "remembered for some seconds"


async def test_containers_that_cannot_tell_have_no_zeros_and_looking_is_no_use(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.access.cgroups.SECONDS", 0.2)
    environment = await create(api)
    pods = [running(environment, f"web-{number}", "web") for number in range(12)]
    cluster = over(api, Cluster({"Pod": pods}, metrics_served=False, told={}))
    cluster.told = {f"web-{number}/web": None for number in range(12)}
    found = await read(api, environment, "metrics")
    web, db = found["services"]
    assert (found["available"], "source" in found) == (False, False)
    assert "metrics-server" in found["reason"]
    assert len(web["unmeasured"]) == 12
    assert {each["reason"] for each in web["unmeasured"]} == {"it did not tell in time (0.2 s for all pods)"}
    assert len(cluster.ran) == 8, "no more at once"
    assert db["reason"] == "it has no pod that could be asked"
    assert all("cpuCores" not in each and "memoryBytes" not in each for each in found["services"])
    assert not api.state.activity._seen


async def test_metrics_that_are_served_and_do_not_answer_are_read_in_the_containers(
    api: Api, tenant: Tenant
) -> None:
    environment = await create(api)
    cluster = over(api, Cluster({"Pod": [running(environment, "web-0", "web")]}))
    cluster.told = {"web-0/web": cgroup(0, 1 << 20)}
    cluster.refused_kinds = {"PodMetrics": Unavailable("no metrics-server behind it")}
    found = await read(api, environment, "metrics")
    assert found["source"] == "cgroup"
    assert found["services"][0]["cpuCores"] == 0, "it was measured, and is none"


DB = {"name": "db", "image": "registry.test/postgres:16", "ports": [{"containerPort": 5432}]}
VOLUME = {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}


async def stored(api: Api) -> tuple[dict[str, Any], Cluster]:
    """An environment with a database on a volume, and its cluster."""
    document = {"name": "shop", "services": [{**DB, "volumes": [VOLUME]}]}
    answer = await api.client.post("/v1/environments", json={"blueprint": document})
    environment = answer.json()["data"]
    running = pod(environment["id"], "db")
    running["spec"]["volumes"] = [{"persistentVolumeClaim": {"claimName": "data-db-0"}}]  # type: ignore[index,call-overload]
    running["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": "2026-01-01T12:00:00Z"}}  # type: ignore[index,call-overload]
    claims: list[Manifest] = [
        {
            "metadata": {"name": name, "labels": {ENVIRONMENT: environment["id"]}},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
        }
        for name in ("data-db-0", "data-db-other-0", "other")
    ]
    return environment, over(api, Cluster({"Pod": [running], "PersistentVolumeClaim": claims}))


@pytest.mark.parametrize(
    ("size_kib", "used", "method"), [(1_000_000, 5_000 * 1024, "df"), (90_000_000, 777 * 1024, "du")]
)
async def test_a_shared_filesystem_is_not_taken_for_the_volume(
    api: Api, tenant: Tenant, size_kib: int, used: int, method: str
) -> None:
    environment, cluster = await stored(api)
    df = f"/dev/x {size_kib} 5000 100 1% /data\n"
    cluster.said = {"df": df, "du": f"{df}777\t/data\n"}
    [store] = (await read(api, environment, "store-stats"))["stores"]
    [volume] = store["volumes"]
    assert (store["store"], volume["claim"], volume["capacityBytes"]) == ("postgres", "data-db-0", 1 << 30)
    assert (volume["usedBytes"], volume["method"]) == (used, method)
    assert volume["growth"] == {"known": False, "samples": 1, "reason": volume["growth"]["reason"]}
    assert cluster.ran[0] == ("db-0", "db", ["/data", "df"])
    await read(api, environment, "store-stats")
    assert len(cluster.ran) == (1 if method == "df" else 2), "remembered for some seconds"


@pytest.mark.parametrize("said", ["", "nonsense\n", Unavailable("cut")])
async def test_used_bytes_that_cannot_be_measured_are_absent(
    api: Api, tenant: Tenant, said: str | ClusterError
) -> None:
    environment, cluster = await stored(api)
    cluster.said = {"df": said}
    [store] = (await read(api, environment, "store-stats"))["stores"]
    assert "usedBytes" not in store["volumes"][0]
    assert store["volumes"][0]["reason"]
    assert store["volumes"][0]["growth"]["samples"] == 0


def test_growth_is_the_line_between_the_ends() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [Sample(begin + timedelta(hours=hour), 1000 - 100 * hour) for hour in range(3)]
    assert growth_of(hours).bytes_per_day == -2400
    assert growth_of(hours).since == begin
    assert not growth_of(hours[:1]).known
    assert not growth_of([hours[0], Sample(begin + timedelta(seconds=59), 5)]).known
    assert not growth_of([]).known
