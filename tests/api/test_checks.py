"""The checks of an installation: each one failing, and what it then says."""

import asyncio
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import text

from activities.db.repositories.installation import installation_id, note_store
from activities.db.repositories.secrets import data_key
from activities.db.tables import Role
from activities.secrets import MasterKeys
from activities.version import VERSION, worker_identity
from api.checks import stores
from api.checks.stores import judge_room
from clusters.rights import EVERYWHERE, IN_ENVIRONMENTS, rights
from tests.api.support import SET_UP, Api, create, problem
from tests.helpers.tenants import KEYS, Tenant, environment_of, make_tenant
from workflows.contracts.reconcile import RECONCILE_SCHEDULE

SECRET = "planted-in-an-error"


async def checks_of(api: Api) -> dict[str, dict[str, Any]]:
    """The checks as answered, by name."""
    answer = await api.client.get("/v1/status/checks")
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]["checks"]
    assert len({each["name"] for each in found}) == len(found)
    for each in found:
        assert bool(each.get("remedy")) == (each["status"] != "ok"), each
    return {each["name"]: each for each in found}


async def stand(api: Api, tenant: Tenant) -> None:
    """Let there be an environment and its namespace."""
    created = await create(api)
    api.cluster.stand(await environment_of(api.database, tenant, created["id"]))


async def test_all_well(api: Api, tenant: Tenant) -> None:
    await stand(api, tenant)
    found = await checks_of(api)
    assert {name: each["status"] for name, each in found.items() if each["status"] != "ok"} == {}
    assert list(found) == [
        "database",
        "database/schema",
        "master-keys",
        "temporal",
        "temporal/namespace",
        "temporal/search-attributes",
        "temporal/schedule/reconcile-operations",
        "temporal/schedule/sweep-environments",
        "temporal/schedule/sweep-snapshots",
        "temporal/schedule/free-storage",
        "temporal/queue/perdure",
        "temporal/queue/perdure-cluster-local",
        "cluster/local",
        "cluster/local/clock",
        "cluster/local/rights",
        "cluster/local/rights/environments",
        "cluster/local/fencing",
        "cluster/local/metrics",
        "object-store",
        "object-store/snapshots",
    ]
    data = (await api.client.get("/v1/status/checks")).json()["data"]
    assert data["role"] == "owner"
    assert data["observedAt"].endswith("Z")


async def test_only_administrators_see_them(api: Api, tenant: Tenant) -> None:
    api.use(await make_tenant(api.database, "three", role=Role.DEVELOPER))
    problem(await api.client.get("/v1/status/checks"), 403, "policy_denied")


async def test_on_postgres_the_clock_is_compared(postgres_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres_api.use(await make_tenant(postgres_api.database))
    assert (await checks_of(postgres_api))["database/clock"]["status"] == "ok"
    monkeypatch.setattr(stores, "CLOCKS_APART", timedelta())
    monkeypatch.setattr(stores.clock, "__defaults__", (timedelta(seconds=-1),))
    assert (await checks_of(postgres_api))["database/clock"]["status"] == "fail"


async def test_a_schema_of_another_version(api: Api, tenant: Tenant) -> None:
    async with api.database.transaction() as session:
        await session.exec(text("UPDATE alembic_version SET version_num = 'other'"))  # type: ignore[call-overload]
    found = (await checks_of(api))["database/schema"]
    assert (found["status"], "other" in found["message"]) == ("fail", True)
    assert "activities.db.migrate" in found["remedy"]


async def test_a_database_that_breaks_hides_nothing_else_and_tells_nothing(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: object) -> None:
        raise OSError(SECRET)

    monkeypatch.setattr(stores, "applied_revision", broken)
    found = await checks_of(api)
    assert found["database"]["status"] == "fail"
    assert SECRET not in str(found)
    assert found["cluster/local"]["status"] == "ok"


async def test_a_part_that_hangs_is_given_up(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("api.checks.service.PART_SECONDS", 0.05)
    monkeypatch.setattr(api.cluster, "ping", hang)
    found = await checks_of(api)
    assert found["cluster/local"]["message"] == "no answer within 0.05 s"


async def test_master_keys(api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    other = MasterKeys(current_id="m2", keys={"m2": os.urandom(32)})
    async with api.database.transaction() as session:
        await data_key(session, tenant.id, other)
    found = (await checks_of(api))["master-keys"]
    assert found["status"] == "fail"
    assert found["message"] == "1 of 1 data keys do not open; wrapped by 'm2'"

    both = MasterKeys(current_id="m1", keys={**KEYS.keys, **other.keys})
    object.__setattr__(api.state, "master_keys", both)
    found = (await checks_of(api))["master-keys"]
    assert found["status"] == "warn"
    assert "perdure admin rotate-keys" in found["remedy"]


@pytest.mark.parametrize(
    ("change", "name", "status"),
    [
        ({"namespace_found": False}, "temporal/namespace", "fail"),
        ({"missing_attributes": ("Phase",)}, "temporal/search-attributes", "fail"),
        ({"schedules": {RECONCILE_SCHEDULE: None}}, f"temporal/schedule/{RECONCILE_SCHEDULE}", "fail"),
        ({"schedules": {RECONCILE_SCHEDULE: True}}, f"temporal/schedule/{RECONCILE_SCHEDULE}", "warn"),
    ],
)
async def test_temporal_that_is_not_set_up(
    api: Api, tenant: Tenant, change: dict[str, Any], name: str, status: str
) -> None:
    api.recorder.set_up = replace(SET_UP, **change)
    assert (await checks_of(api))[name]["status"] == status


async def test_temporal_away(api: Api, tenant: Tenant) -> None:
    api.recorder.away = True
    found = await checks_of(api)
    assert found["temporal"]["status"] == "fail"
    assert "does not answer" in found["temporal"]["message"]


async def test_a_queue_without_workers(api: Api, tenant: Tenant) -> None:
    api.recorder.workers = ()
    assert (await checks_of(api))["temporal/queue/perdure"]["status"] == "fail"


async def test_workers_of_another_version(api: Api, tenant: Tenant) -> None:
    queue = "temporal/queue/perdure"
    well = (await checks_of(api))[queue]
    assert well["status"] == "ok"
    assert well["message"] == f"2 workers of version {VERSION}, 3 tasks wait: host-a/7, host-b/9"
    api.recorder.workers = (
        "perdure-worker/0.0.9@host-a/7",
        worker_identity("host-b", 9),
        "perdure-worker@host-c/11",
    )
    found = await checks_of(api)
    assert {found[each]["status"] for each in found if each.startswith("temporal/queue/")} == {"warn"}
    assert found[queue]["message"] == (
        f"3 workers, 3 tasks wait; not of the API's version {VERSION}: "
        "host-a/7 (0.0.9), perdure-worker@host-c/11 (does not say)"
    )
    assert "one version" in found[queue]["remedy"]


def _take(**changes: Any) -> Callable[[Api], None]:
    def change(api: Api) -> None:
        for name, value in changes.items():
            setattr(api.cluster, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "name", "status", "says"),
    [
        (_take(away=True), "cluster/local", "fail", "connection refused"),
        (_take(kubernetes="v1.29.1"), "cluster/local", "fail", "too old"),
        (_take(late=timedelta(minutes=1)), "cluster/local/clock", "fail", "60 s apart"),
        (
            _take(lacking=frozenset({"delete namespaces"})),
            "cluster/local/rights",
            "fail",
            "missing everywhere: delete namespaces",
        ),
        (
            _take(lacking=frozenset({"get pods/log", "create pods/exec"})),
            "cluster/local/rights/environments",
            "fail",
            "get pods/log",
        ),
        (
            _take(policies=frozenset({"perdure-own-namespaces"})),
            "cluster/local/fencing",
            "fail",
            "ValidatingAdmissionPolicy/perdure-fence",
        ),
        (_take(fence_holds=False), "cluster/local/fencing", "fail", "does not refuse"),
        (_take(kinds=frozenset()), "cluster/local/metrics", "warn", "metrics.k8s.io is not served"),
    ],
)
async def test_a_cluster_that_lacks_something(
    api: Api, tenant: Tenant, change: Callable[[Api], None], name: str, status: str, says: str
) -> None:
    await stand(api, tenant)
    change(api)
    found = (await checks_of(api))[name]
    assert (found["status"], says in found["message"]) == (status, True), found


def test_every_right_is_asked_for_as_the_api_server_knows_it() -> None:
    asked = {str(each): each.attributes("shop-1") for each in rights({**EVERYWHERE, **IN_ENVIRONMENTS})}
    assert asked["bind clusterroles/perdure-environment.rbac.authorization.k8s.io"] == {
        "verb": "bind",
        "group": "rbac.authorization.k8s.io",
        "resource": "clusterroles",
        "name": "perdure-environment",
        "namespace": "shop-1",
    }
    assert asked["create pods/exec"] == {
        "verb": "create",
        "group": "",
        "resource": "pods",
        "subresource": "exec",
        "namespace": "shop-1",
    }


async def test_an_object_store_that_cannot_be_written(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (await checks_of(api))["object-store"]["status"] == "fail"


async def test_an_object_store_that_is_away(api: Api, tenant: Tenant) -> None:
    directory = api.state.settings.object_store
    shutil.rmtree(directory)
    for _ in ("gone", "an empty mount point"):
        found = (await checks_of(api))["object-store"]
        assert found["status"] == "fail"
        assert directory not in found["message"] + found["remedy"]
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - not for long


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (9, "warn"), (1, "fail")])
async def test_room_of_the_object_store(
    api: Api, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    assert judge_room("object-store", free, 100).status == status
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(100, 100 - free, free))
    assert (await checks_of(api))["object-store"]["status"] == status


async def test_snapshots_in_the_store_that_the_database_cannot_place(api: Api, tenant: Tenant) -> None:
    async with api.database.transaction() as session:
        await installation_id(session)
        await note_store(session, "3 of 9 snapshots look orphaned")
    found = (await checks_of(api))["object-store/snapshots"]
    assert (found["status"], found["message"]) == ("warn", "3 of 9 snapshots look orphaned")
    assert found["remedy"]


async def test_a_bucket(api: Api, tenant: Tenant) -> None:
    bucket = api.state.settings.model_copy(update={"object_store": "s3://bucket/prefix"})
    object.__setattr__(api.state, "settings", bucket)
    assert (await checks_of(api))["object-store"]["message"] == "the bucket answers"
    object.__setattr__(api.state, "objects", object())
    assert (await checks_of(api))["object-store"]["status"] == "fail"
