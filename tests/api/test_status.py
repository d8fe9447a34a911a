"""The status of an environment whose namespace is gone, or may not be read."""

from collections.abc import Callable
from typing import Any

import pytest

from activities.db.repositories import environments, events
from activities.db.tables import EventType
from clusters.errors import ClusterError, Forbidden, NotFound
from clusters.objects import Manifest
from tests.api.support import Api, create, pod, problem
from tests.helpers.snapshots import restore_in, stored, taken
from tests.helpers.tenants import Tenant, begin, environment_of, finish, record
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import Blocker, FailureKind, failure
from workflows.domain.operations import Cleanup, OperationState, StepChange, StepState

GONE = [NotFound("namespace not found"), Forbidden("pods is forbidden")]
"""What the API server may say of pods in a namespace that is not there: our rights went with it."""


async def ended(api: Api, state: OperationState = OperationState.SUCCEEDED, **how: Any) -> str:
    """An environment whose provision ended so; its id."""
    created = await create(api)
    await begin(api.database, created["operation"]["id"])
    await finish(api.database, created["operation"]["id"], state, **how)
    identifier: str = created["id"]
    return identifier


async def status_of(api: Api, identifier: str) -> dict[str, Any]:
    """The environment's status as answered."""
    data: dict[str, Any] = (await api.client.get(f"/v1/environments/{identifier}/status")).json()["data"]
    return data


def ready_condition(status: dict[str, Any]) -> tuple[str, str]:
    """Status and reason of the condition `Ready`."""
    [condition] = [each for each in status["conditions"] if each["type"] == "Ready"]
    return condition["status"], condition["reason"]


@pytest.mark.parametrize("refused", [*GONE, None], ids=["not-found", "forbidden", "empty"])
async def test_without_its_namespace_it_is_degraded_and_heals(
    api: Api, tenant: Tenant, refused: ClusterError | None
) -> None:
    identifier = await ended(api)
    record = await environment_of(api.database, tenant, identifier)
    api.cluster.refused = refused
    status = await status_of(api, identifier)
    assert (status["status"], status["reason"], status["terminal"]) == ("degraded", "NamespaceMissing", True)
    assert record.namespace in status["message"]
    assert "`perdure env retry shop`" in status["message"]
    assert status["clusterReachable"] is True
    assert ready_condition(status) == ("False", "NamespaceMissing")
    assert [(each["ready"], each["state"]) for each in status["services"]] == [(0, "absent")] * 2
    listed = (await api.client.get("/v1/environments?status=degraded")).json()["data"]
    assert [item["id"] for item in listed] == [identifier], "written back"

    api.cluster.refused = None
    api.cluster.stand(record)
    status = await status_of(api, identifier)
    assert (status["status"], status["reason"]) == ("degraded", "NoPods")
    assert ready_condition(status) == ("False", "ServicesNotReady")

    api.cluster.pods = [pod(identifier, "web"), pod(identifier, "db")]
    status = await status_of(api, identifier)
    assert (status["status"], ready_condition(status)) == ("running", ("True", "ServicesReady"))


async def test_what_was_degraded_before_learns_that_the_namespace_went(api: Api, tenant: Tenant) -> None:
    identifier = await ended(api)
    api.cluster.stand(await environment_of(api.database, tenant, identifier))
    assert ready_condition(await status_of(api, identifier)) == ("False", "ServicesNotReady")
    api.cluster.namespaces.clear()
    assert ready_condition(await status_of(api, identifier)) == ("False", "NamespaceMissing")
    kept = await environment_of(api.database, tenant, identifier)
    await status_of(api, identifier)
    assert await environment_of(api.database, tenant, identifier) == kept, "seen again, nothing is written"


@pytest.mark.parametrize(
    "metadata",
    [{"deletionTimestamp": "2026-01-01T00:00:00Z"}, {"labels": {}}],
    ids=["terminating", "foreign"],
)
async def test_a_namespace_that_goes_or_is_not_ours_does_not_count(
    api: Api, tenant: Tenant, metadata: dict[str, Any]
) -> None:
    identifier = await ended(api)
    api.cluster.refused = Forbidden("pods is forbidden")
    api.cluster.stand(await environment_of(api.database, tenant, identifier), **metadata)
    assert (await status_of(api, identifier))["reason"] == "NamespaceMissing"


async def test_pods_that_may_not_be_read_are_not_said_to_be_gone(api: Api, tenant: Tenant) -> None:
    identifier = await ended(api)
    api.cluster.refused = Forbidden("pods is forbidden")
    api.cluster.stand(await environment_of(api.database, tenant, identifier))
    status = await status_of(api, identifier)
    assert (status["status"], status["reason"]) == ("running", "forbidden")
    assert status["clusterReachable"] is False


@pytest.mark.parametrize("refused", GONE, ids=["not-found", "forbidden"])
async def test_a_cancel_with_clean_up_keeps_its_reason(
    api: Api, tenant: Tenant, refused: ClusterError
) -> None:
    cancelled = failure(FailureKind.CANCELLED, "Cancelled on request.")
    identifier = await ended(
        api, OperationState.CANCELLED, failure=cancelled, cleanup=Cleanup(complete=True, left=())
    )
    api.cluster.refused = refused
    status = await status_of(api, identifier)
    assert (status["status"], status["reason"]) == ("error", "cancelled")
    assert status["message"] == "Cancelled on request."
    assert status["clusterReachable"] is True
    assert ready_condition(status) == ("False", "Cancelled")
    kept = await environment_of(api.database, tenant, identifier)
    assert kept.conditions[0].reason == "Cancelled"


@pytest.mark.usefixtures("tenant")
async def test_what_holds_a_deletion_up_is_said_without_rights_inside(api: Api) -> None:
    identifier = await ended(api)
    await api.client.delete(f"/v1/environments/{identifier}")
    api.cluster.refused = Forbidden("pods is forbidden")
    api.cluster.held_by = (Blocker(object="Widget/main", finalizers=("example.test/keep",)),)
    status = await status_of(api, identifier)
    assert (status["status"], status["reason"]) == ("deleting", "blocked")
    assert status["blockedBy"] == [{"object": "Widget/main", "finalizers": ["example.test/keep"]}]
    api.cluster.held_by = ()
    status = await status_of(api, identifier)
    assert (status["reason"], status["clusterReachable"]) == ("deleting", True)


@pytest.mark.usefixtures("tenant")
async def test_what_is_degraded_is_repaired_and_what_runs_is_not(api: Api) -> None:
    identifier = await ended(api)
    path = f"/v1/environments/{identifier}/retry"
    api.cluster.pods = [pod(identifier, name) for name in ("web", "db")]
    refused = problem(await api.client.post(path), 409, "conflict")
    assert "not degraded" in refused["detail"]
    api.cluster.pods = []
    response = await api.client.post(path)
    assert response.status_code == 202, response.text
    operation = response.json()["data"]
    assert (await api.started())[-1].operation_id == operation["id"]
    status = await status_of(api, identifier)
    assert status["status"] == "provisioning"
    assert "reason" not in status, "a namespace that is not made yet is no trouble"


async def restored(api: Api, tenant: Tenant) -> str:
    """An environment whose database, without a volume, has a snapshot's data in its first pod; its id."""
    identifier = await ended(api)
    api.cluster.stand(await environment_of(api.database, tenant, identifier))
    api.cluster.pods = [pod(identifier, "web"), pod(identifier, "db")]
    snapshot = await taken(api.database, tenant, identifier, stored("db", DataStore.POSTGRES))
    accepted = await restore_in(api.database, tenant, snapshot, identifier)
    await begin(api.database, accepted.operation.id)
    for state in (StepState.RUNNING, StepState.SUCCEEDED):
        change = StepChange(step="load/db", state=state, output={"keptIn": "pod-1/c-1"})
        await record(api.database, accepted.operation.id, change)
    await finish(api.database, accepted.operation.id, OperationState.SUCCEEDED)
    assert data_whole(await status_of(api, identifier)) == ("True", "Restored")
    return identifier


def data_whole(status: dict[str, Any]) -> tuple[str, str]:
    """Status and reason of the condition `DataWhole`."""
    [condition] = [each for each in status["conditions"] if each["type"] == "DataWhole"]
    return condition["status"], condition["reason"]


async def loaded_of(api: Api, tenant: Tenant, identifier: str) -> set[str]:
    """The services that are taken to have a snapshot's data."""
    async with api.database.reading() as session:
        return set((await environments.overrides(session, tenant.id, identifier)).loaded)


@pytest.mark.parametrize(
    "seen",
    [
        [{"uid": "pod-2"}],
        [{"container": "c-2"}],
        [],
        [{"phase": "Failed"}, {"uid": "pod-2"}],
        [{"leaving": True}],
    ],
    ids=["replaced", "container", "none", "evicted", "drained"],
)
async def test_restored_data_that_the_cluster_took_away_with_their_pod_are_told_of(
    api: Api, tenant: Tenant, seen: list[dict[str, Any]]
) -> None:
    identifier = await restored(api, tenant)
    kept = await environment_of(api.database, tenant, identifier)
    await status_of(api, identifier)
    assert await environment_of(api.database, tenant, identifier) == kept, "while they are there, nothing is"
    api.cluster.pods = [pod(identifier, "web"), *(changed(pod, identifier, **each) for each in seen)]
    status = await status_of(api, identifier)
    assert data_whole(status) == ("False", "DataGone")
    [message] = [each["message"] for each in status["conditions"] if each["type"] == "DataWhole"]
    assert "no longer in db" in message
    # The next pod has nothing of it: its init is to run.
    assert await loaded_of(api, tenant, identifier) == set()
    async with api.database.reading() as session:
        [event] = [
            each
            for each in await events.after(session, tenant.id, identifier, 0)
            if each.type is EventType.CONDITION
        ]
    told = {"type": "DataWhole", "status": "False", "reason": "DataGone", "message": message}
    assert (event.operation_id, event.data) == (None, told)
    kept = await environment_of(api.database, tenant, identifier)
    await status_of(api, identifier)
    assert await environment_of(api.database, tenant, identifier) == kept, "it is told once"


def changed(
    make: Callable[..., Manifest], identifier: str, *, phase: str = "", leaving: bool = False, **fields: str
) -> Manifest:
    """A pod of the database, as it is now."""
    found: Any = make(identifier, "db", **fields)
    if leaving:
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    found["status"]["phase"] = phase or found["status"]["phase"]
    return found  # type: ignore[no-any-return]


async def test_restored_data_are_gone_with_their_namespace(api: Api, tenant: Tenant) -> None:
    """Also those that volumes kept."""
    identifier = await restored(api, tenant)
    api.cluster.pods = []
    api.cluster.namespaces.clear()
    status = await status_of(api, identifier)
    assert (status["reason"], data_whole(status)) == ("NamespaceMissing", ("False", "DataGone"))
    assert await loaded_of(api, tenant, identifier) == set()


async def test_data_are_not_said_to_be_gone_by_what_is_not_known(api: Api, tenant: Tenant) -> None:
    identifier = await restored(api, tenant)
    pods, api.cluster.pods = api.cluster.pods, []
    api.cluster.away = True
    assert data_whole(await status_of(api, identifier)) == ("True", "Restored")
    api.cluster.away = False
    # What an operation does to pods, its end tells.
    path = f"/v1/environments/{identifier}/restart"
    assert (await api.client.post(path, json={"service": "db"})).status_code == 202
    assert data_whole(await status_of(api, identifier)) == ("True", "Restored")
    api.cluster.pods = pods
