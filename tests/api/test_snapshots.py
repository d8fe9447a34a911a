"""Snapshots over HTTP: taken, found, restored and deleted, or refused as a whole."""

from datetime import UTC, datetime
from typing import Any

import pytest

from activities.db.records import Caps
from activities.db.repositories import snapshots, verifications
from activities.db.repositories.snapshots import run_of
from activities.temporal import VerificationStart
from tests.api.support import Api, create, problem, shop_document
from tests.api.test_lifecycle import end, running, seen
from tests.helpers.snapshots import publish, stored
from tests.helpers.tenants import Tenant, begin, finish, make_tenant
from workflows.contracts.verify import VerificationResult
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationState
from workflows.domain.snapshot import Engine
from workflows.domain.verification import Check, VerificationState, VerifyLevel

DB = stored("db", DataStore.POSTGRES, "shop")
PLANTED = "planted-7d1f-value"
NOBODY = "snap_01J9Z7Q0000000000000000000"


def at(body: dict[str, Any]) -> dict[str, str]:
    """The faults of a problem by their places."""
    return {error["path"]: error["message"] for error in body["errors"]}


async def take(api: Api, environment_id: str, **body: Any) -> dict[str, Any]:
    """Ask for a snapshot; return the operation."""
    answer = await api.client.post(f"/v1/environments/{environment_id}/snapshots", json=body)
    assert answer.status_code == 202, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def taken(api: Api, environment_id: str, *components: Any, **body: Any) -> str:
    """Take a snapshot; return its id."""
    operation = await take(api, environment_id, **body)
    await publish(api.database, operation["id"], *(components or (DB,)))
    return str(operation["snapshotId"])


async def restore(api: Api, snapshot_id: str, **body: Any) -> Any:
    """Ask for a restore; return the answer."""
    return await api.client.post(f"/v1/snapshots/{snapshot_id}/restore", json=body)


async def shown(api: Api, snapshot_id: str) -> dict[str, Any]:
    """Read a snapshot."""
    answer = await api.client.get(f"/v1/snapshots/{snapshot_id}")
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def test_a_snapshot_is_available_when_its_operation_has_succeeded(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    operation = await take(api, environment["id"], name="nightly", consistencyFloor="application")
    identifier = operation["snapshotId"]
    assert (await api.started())[-1].workflow_id == f"snapshot/shop/{operation['id']}"
    found = (await api.client.get(f"/v1/operations/{operation['id']}")).json()["data"]
    assert found["snapshotId"] == identifier
    steps = {step["name"]: (step["kind"], step["dependsOn"]) for step in found["steps"]}
    assert steps == {
        "namespace": ("namespace", []),
        "survey": ("survey", ["namespace"]),
        "capture/db": ("capture", ["survey"]),
        "publish": ("publish", ["survey", "capture/db"]),
    }
    during = await shown(api, identifier)
    assert (during["state"], during["storedBytes"]) == ("creating", 0)
    assert "components" not in during
    refused = problem(await api.client.get(f"/v1/snapshots/{identifier}/manifest"), 409, "conflict")
    assert "creating" in refused["detail"]
    problem(await restore(api, identifier, name="copy"), 409, "conflict")

    await publish(api.database, operation["id"], DB)
    after = await shown(api, identifier)
    assert (after["state"], after["name"], after["revision"]) == ("available", "nightly", 1)
    assert (after["consistency"], after["scope"]) == ("application", "independent")
    assert (after["plainBytes"], after["storedBytes"]) == (4096, 1024)
    [component] = after["components"]
    assert component == {
        "service": "db",
        "store": "postgres",
        "engine": "exec-dump",
        "consistency": "application",
        "quiesced": False,
        "parts": 1,
        "volumes": 0,
        "plainBytes": 4096,
        "storedBytes": 1024,
    }
    manifest = await api.client.get(f"/v1/snapshots/{identifier}/manifest")
    assert manifest.json()["data"]["environmentName"] == "shop"
    # What the environment is does not change by it.
    assert (await seen(api, environment["id"]))["status"] == "running"
    assert PLANTED not in manifest.text


@pytest.mark.parametrize(
    ("body", "days"), [({}, 30), ({"expiresInDays": 1}, 1), ({"expiresInDays": None}, None)]
)
async def test_a_snapshot_lives_as_long_as_was_asked_for(
    api: Api, tenant: Tenant, body: dict[str, Any], days: int | None
) -> None:
    environment = await running(api)
    found = await shown(api, (await take(api, environment["id"], **body))["snapshotId"])
    if days is None:
        assert "expiresAt" not in found
    else:
        lifetime = datetime.fromisoformat(found["expiresAt"]) - datetime.fromisoformat(found["createdAt"])
        assert (lifetime.days, lifetime.seconds) == (days, 0)


async def test_a_wish_is_refused_with_all_its_faults(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    before = await api.row_counts()
    path = f"/v1/environments/{environment['id']}/snapshots"
    wrong = {"name": "x" * 64, "consistencyFloor": "best", "expiresInDays": 0, "keep": True}
    body = problem(await api.client.post(path, json=wrong), 422, "validation_failed")
    assert set(at(body)) == set(wrong)
    for days in (3651, "7", True, 1.5):
        problem(await api.client.post(path, json={"expiresInDays": days}), 422, "validation_failed")
    for wish in ({}, {"name": "copy", "environmentId": environment["id"]}):
        body = problem(await restore(api, snapshot, **wish), 422, "validation_failed")
        assert "one of environmentId and name" in body["errors"][0]["message"]
    both = {"environmentId": environment["id"], "storageClasses": {"": "fast"}}
    problem(await restore(api, snapshot, **both), 422, "validation_failed")
    both = {"environmentId": environment["id"], "currentImages": True}
    problem(await restore(api, snapshot, **both), 422, "validation_failed")
    body = problem(
        await restore(api, snapshot, name=7, storageClasses={"a": 1}, later=True), 422, "validation_failed"
    )
    assert set(at(body)) == {"name", "storageClasses.a", "later"}
    assert await api.row_counts() == before


async def test_lists_are_pages_the_newest_first(api: Api, tenant: Tenant, stranger: Tenant) -> None:
    one, two = await running(api, "one"), await running(api, "two")
    made = [await taken(api, one["id"]), await taken(api, two["id"])]
    failing = await take(api, one["id"])
    await end(api, failing["id"], OperationState.FAILED)
    made = [failing["snapshotId"], *reversed(made)]

    async def listed(path: str) -> tuple[list[str], Any]:
        answer = await api.client.get(path)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert all("components" not in each for each in body["data"])
        return [each["id"] for each in body["data"]], body["meta"].get("nextCursor")

    everything = "/v1/environments/snapshots"
    assert await listed(everything) == (made, None)
    first, cursor = await listed(f"{everything}?limit=2")
    rest, no_more = await listed(f"{everything}?limit=2&cursor={cursor}")
    assert (first + rest, no_more) == (made, None)
    own = f"/v1/environments/{one['id']}/snapshots"
    assert (await listed(own))[0] == [made[0], made[2]]
    assert (await listed(f"{own}?state=available"))[0] == [made[2]]
    assert (await listed(f"{everything}?state=failed"))[0] == [made[0]]
    problem(await api.client.get(f"{own}?cursor={cursor}"), 422, "validation_failed")
    problem(await api.client.get(f"{own}?state=gone"), 422, "validation_failed")
    # They are found when their environment is gone, too.
    deleted = await api.client.delete(f"/v1/environments/{one['id']}")
    await end(api, deleted.json()["data"]["id"])
    assert (await listed(own))[0] == [made[0], made[2]]
    api.use(stranger)
    assert await listed(everything) == ([], None)


async def test_what_belongs_to_others_is_not_found(api: Api, tenant: Tenant, stranger: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    api.use(stranger)
    before = await api.row_counts()
    answers = []
    for identifier, target in ((snapshot, environment["id"]), (NOBODY, "env_01J9Z7Q0000000000000000000")):
        calls: list[tuple[str, str, Any]] = [
            ("GET", f"/v1/snapshots/{identifier}", None),
            ("GET", f"/v1/snapshots/{identifier}/manifest", None),
            ("POST", f"/v1/snapshots/{identifier}/restore", {"name": "copy"}),
            ("POST", f"/v1/snapshots/{identifier}/verify", {"level": 2}),
            ("GET", f"/v1/snapshots/{identifier}/verifications", None),
            ("DELETE", f"/v1/snapshots/{identifier}", None),
            ("GET", f"/v1/environments/{target}/snapshots", None),
            ("POST", f"/v1/environments/{target}/snapshots", None),
        ]
        told = []
        for method, path, body in calls:
            found = problem(await api.client.request(method, path, json=body), 404, "not_found")
            told.append(found["detail"].replace(identifier, "ID").replace(target, "ID"))
        answers.append(told)
    assert answers[0] == answers[1]
    assert await api.row_counts() == before
    # One's own snapshot into another's environment, and another's into one's own.
    mine = await running(api)
    own = await taken(api, mine["id"])
    problem(await restore(api, own, environmentId=environment["id"]), 404, "not_found")
    problem(await restore(api, snapshot, environmentId=mine["id"]), 404, "not_found")


async def test_a_viewer_reads_and_changes_nothing(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    made = await api.client.post("/v1/api-keys", json={"name": "watcher", "role": "viewer"})
    api.client.headers["Authorization"] = f"Bearer {made.json()['data']['token']}"
    for path in (
        "/v1/environments/snapshots",
        f"/v1/environments/{environment['id']}/snapshots",
        f"/v1/snapshots/{snapshot}",
        f"/v1/snapshots/{snapshot}/manifest",
        f"/v1/snapshots/{snapshot}/verifications",
    ):
        assert (await api.client.get(path)).status_code == 200
    taking = await api.client.post(f"/v1/environments/{environment['id']}/snapshots")
    for refused in (
        taking,
        await restore(api, snapshot, name="copy"),
        await restore(api, snapshot, environmentId=environment["id"]),
        await api.client.post(f"/v1/snapshots/{snapshot}/verify"),
        await api.client.delete(f"/v1/snapshots/{snapshot}"),
    ):
        problem(refused, 403, "policy_denied")


async def test_a_restore_makes_an_environment_of_its_own(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    answer = await restore(api, snapshot, name="copy")
    assert answer.status_code == 202, answer.text
    operation = answer.json()["data"]
    assert answer.headers["location"] == f"/v1/operations/{operation['id']}"
    assert (operation["kind"], operation["snapshotId"]) == ("restore", snapshot)
    assert operation["environmentId"] != environment["id"]
    assert (await api.started())[-1].workflow_id == f"restore/copy/{operation['id']}"
    found = (await api.client.get(f"/v1/operations/{operation['id']}")).json()["data"]
    steps = {step["name"]: step["dependsOn"] for step in found["steps"]}
    assert steps["load/db"] == ["service/db"]
    # What depends on the data waits for it, not only for the database.
    assert set(steps["service/web"]) >= {"service/db", "load/db"}
    assert not any(name.startswith(("check/", "stop/")) for name in steps)
    await end(api, operation["id"])
    copy = await seen(api, operation["environmentId"])
    assert (copy["name"], copy["status"], copy["revision"]) == ("copy", "running", 1)
    assert PLANTED not in (await api.client.get("/v1/audit")).text


async def test_an_environment_of_another_blueprint_begins_with_the_data(api: Api, tenant: Tenant) -> None:
    snapshot = await taken(api, (await running(api))["id"])
    document = shop_document()
    document["name"], document["services"]["more"] = "other", {"image": "registry.test/more:1"}
    body = {"blueprint": document, "snapshotId": snapshot}
    answer = await api.client.post("/v1/environments", json=body)
    assert answer.status_code == 202, answer.text
    made = answer.json()["data"]
    assert (made["name"], made["operation"]["kind"]) == ("other", "restore")
    found = (await api.client.get(answer.headers["location"])).json()["data"]
    steps = {step["name"]: step["dependsOn"] for step in found["steps"]}
    assert {"service/more", "load/db"} <= steps.keys()
    assert set(steps["service/web"]) >= {"service/db", "load/db"}
    await end(api, found["id"])
    assert (await seen(api, made["id"]))["status"] == "running"


async def test_data_that_a_blueprint_has_no_place_for_are_all_named(api: Api, tenant: Tenant) -> None:
    snapshot = await taken(api, (await running(api))["id"])
    document = {"name": "other", "services": {"web": {"image": "registry.test/web:1"}}}
    body = {"blueprint": document, "snapshotId": snapshot}
    refused = problem(await api.client.post("/v1/environments", json=body), 422, "validation_failed")
    assert "services.db" in {error["path"] for error in refused["errors"]}
    body["snapshotId"] = "snap_00000000000000000000000000"
    problem(await api.client.post("/v1/environments", json=body), 404, "not_found")
    numbered = {**body, "snapshotId": 7}
    refused = problem(await api.client.post("/v1/environments", json=numbered), 422, "blueprint_invalid")
    assert [error["path"] for error in refused["errors"]] == ["snapshotId"]
    assert [each["name"] for each in (await api.client.get("/v1/environments")).json()["data"]] == ["shop"]


async def test_a_restore_as_new_is_refused_with_all_its_faults(api: Api, tenant: Tenant) -> None:
    document = shop_document()
    volumes = [
        {"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"},
        {"name": "wal", "mountPath": "/wal", "type": "pvc", "size": "1Gi", "storageClass": "slow"},
        {"name": "tmp", "mountPath": "/scratch", "type": "emptyDir"},
    ]
    document["services"]["db"]["volumes"] = volumes
    made = await api.client.post("/v1/environments", json={"blueprint": document})
    await end(api, made.json()["data"]["operation"]["id"])
    snapshot = await taken(api, made.json()["data"]["id"])
    before = await api.row_counts()
    classes = {"slow": "Not A Class", "quick": "fast", "other": "no way"}
    body = problem(
        await restore(api, snapshot, name="Not A Name", storageClasses=classes), 422, "validation_failed"
    )
    places = [error["path"] for error in body["errors"]]
    assert places == [
        "name",
        *("storageClasses.other", "storageClasses.other", "storageClasses.quick", "storageClasses.slow"),
    ]
    taken_name = problem(await restore(api, snapshot, name="shop"), 409, "conflict")
    assert taken_name["existingId"] == made.json()["data"]["id"]
    assert await api.row_counts() == before
    fine = await restore(api, snapshot, name="copy", storageClasses={"": "quick", "slow": "fast"})
    assert fine.status_code == 202, fine.text
    path = f"/v1/environments/{fine.json()['data']['environmentId']}/revisions/1"
    revision = (await api.client.get(path)).json()["data"]["blueprint"]
    [database] = [each for each in revision["services"] if each["name"] == "db"]
    found = {each["name"]: each.get("storageClass") for each in database["volumes"]}
    assert found == {"data": "quick", "wal": "fast", "tmp": None}


async def test_a_restore_runs_the_images_that_the_snapshot_saw(api: Api, tenant: Tenant) -> None:
    """And says so; those of another repository are of no use, nor is what nobody saw."""
    environment = await running(api)
    operation = await take(api, environment["id"])
    digest = f"sha256:{'a' * 64}"
    [first, second, *_] = document = shop_document("shop")["services"]
    of = {name: shop_document("shop")["services"][name]["image"] for name in document}
    images = {first: f"{of[first].rpartition(':')[0]}@{digest}", second: f"other.test/image@{digest}"}
    await publish(api.database, operation["id"], DB, images=images)

    async def restored(**wish: Any) -> tuple[dict[str, str], list[str]]:
        answer = await restore(api, operation["snapshotId"], **wish)
        assert answer.status_code == 202, answer.text
        accepted = answer.json()["data"]
        path = f"/v1/environments/{accepted['environmentId']}/revisions/1"
        blueprint = (await api.client.get(path)).json()["data"]["blueprint"]
        told = [each["path"] for each in accepted.get("warnings", []) if each["path"].endswith(".image")]
        return {each["name"]: each["image"] for each in blueprint["services"]}, told

    assert await restored(name="then") == (
        {**of, first: f"{of[first]}@{digest}"},
        [f"services.{first}.image"],
    )
    assert await restored(name="now", currentImages=True) == (of, [])


async def test_the_caps_hold_for_a_restore(api: Api, tenant: Tenant) -> None:
    small = await make_tenant(api.database, "small", caps=Caps(environments=1))
    api.use(small)
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    body = problem(await restore(api, snapshot, name="copy"), 409, "quota_exceeded")
    assert (body["cap"], body["limit"]) == ("environments", "1")


async def test_a_restore_in_place_is_refused_where_the_data_do_not_fit(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(
        api,
        environment["id"],
        stored("db", DataStore.MYSQL),
        stored("gone", DataStore.REDIS),
        stored("web", DataStore.FILES, "/docs"),
    )
    before = await api.row_counts()
    body = problem(await restore(api, snapshot, environmentId=environment["id"]), 422, "validation_failed")
    faults = at(body)
    assert set(faults) == {"services.db", "services.gone", "services.web"}
    assert "keeps postgres" in faults["services.db"]
    assert "no such service" in faults["services.gone"]
    assert "keeps no data" in faults["services.web"]
    [gone] = [each for each in body["errors"] if each["path"] == "services.gone"]
    assert gone["suggestion"] == "roll back to the snapshot's revision first"
    more = await taken(api, environment["id"], stored("db", DataStore.POSTGRES, pods=2))
    body = problem(await restore(api, more, environmentId=environment["id"]), 422, "validation_failed")
    assert at(body) == {"services.db": "has 1 replicas, and the snapshot has data of 2"}
    after = await api.row_counts()
    grown = {table for table, number in after.items() if number != before[table]}
    assert grown <= {"Snapshot", "SnapshotRun", "Operation", "Step", "Event", "AuditEntry"}
    # The other's revisions never had that service.
    other = (await running(api, name="other"))["id"]
    body = problem(await restore(api, snapshot, environmentId=other), 422, "validation_failed")
    [gone] = [each for each in body["errors"] if each["path"] == "services.gone"]
    assert gone["suggestion"] == "add it, or restore the snapshot as a new environment"


async def test_a_restore_in_place_stops_what_depends_on_the_data(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    answer = await restore(api, snapshot, environmentId=environment["id"])
    assert answer.status_code == 202, answer.text
    operation = answer.json()["data"]
    found = (await api.client.get(f"/v1/operations/{operation['id']}")).json()["data"]
    steps = {step["name"]: step["dependsOn"] for step in found["steps"]}
    assert steps["stop/web"] == ["namespace", "check/db"]
    assert "stop/web" in steps["service/db"]
    assert steps["load/db"] == ["service/db"]
    assert "load/db" in steps["service/web"]
    # Nothing else is done to it meanwhile.
    taking = await api.client.post(f"/v1/environments/{environment['id']}/snapshots")
    busy = problem(taking, 409, "conflict")
    assert (busy["operationId"], busy["operationKind"]) == (operation["id"], "restore")


async def test_init_over_what_is_loaded_is_kept_with_the_operation(api: Api, tenant: Tenant) -> None:
    document = shop_document("ready")
    document["services"]["db"]["init"] = {"type": "sql", "script": "create table t (id int);"}
    made = await api.client.post("/v1/environments", json={"blueprint": document})
    assert made.status_code == 202, made.text
    environment = made.json()["data"]
    await end(api, environment["operation"]["id"])
    snapshot = await taken(api, environment["id"])
    for target in ({"environmentId": environment["id"]}, {"name": "copy"}):
        for wanted in (True, False):
            named = {**target, **({"name": f"copy-{wanted}".lower()} if "name" in target else {})}
            answer = await restore(api, snapshot, **named, runInit=wanted)
            assert answer.status_code == 202, answer.text
            operation = answer.json()["data"]["id"]
            async with api.database.reading() as session:
                run = await run_of(session, operation)
            assert run is not None
            assert run.init is wanted
            await end(api, operation)
    bare = await running(api, "bare")
    lean = await taken(api, bare["id"])
    for target in ({"environmentId": bare["id"]}, {"name": "lean"}):
        body = problem(await restore(api, lean, **target, runInit=True), 422, "validation_failed")
        assert at(body) == {"runInit": "no service whose data are loaded (db) has an init"}


async def test_one_thing_at_a_time(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    taking = await take(api, environment["id"])
    for refused in (
        await api.client.post(f"/v1/environments/{environment['id']}/snapshots"),
        await restore(api, snapshot, environmentId=environment["id"]),
        await api.client.post(f"/v1/environments/{environment['id']}/stop"),
    ):
        assert problem(refused, 409, "conflict")["operationId"] == taking["id"]
    # As a new environment it may be restored meanwhile, and twice at once.
    for name in ("copy", "other"):
        assert (await restore(api, snapshot, name=name)).status_code == 202


async def test_only_what_runs_is_taken(api: Api, tenant: Tenant) -> None:
    made = await create(api)
    path = f"/v1/environments/{made['id']}"
    problem(await api.client.post(f"{path}/snapshots"), 409, "conflict")
    await end(api, made["operation"]["id"])
    snapshot = await taken(api, made["id"])
    stopping = (await api.client.post(f"{path}/stop")).json()["data"]
    await end(api, stopping["id"])
    for refused in (
        await api.client.post(f"{path}/snapshots"),
        await restore(api, snapshot, environmentId=made["id"]),
    ):
        assert "stopped" in problem(refused, 409, "conflict")["detail"]
    deleting = (await api.client.delete(path)).json()["data"]
    await end(api, deleting["id"])
    problem(await api.client.post(f"{path}/snapshots"), 410, "conflict")
    problem(await restore(api, snapshot, environmentId=made["id"]), 410, "conflict")
    assert (await restore(api, snapshot, name="shop")).status_code == 202


async def test_the_same_key_takes_one_snapshot(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    path = f"/v1/environments/{environment['id']}/snapshots"
    key = {"Idempotency-Key": "one"}
    first = await api.client.post(path, json={"name": "a"}, headers=key)
    again = await api.client.post(path, json={"name": "a"}, headers=key)
    assert first.json()["data"] == again.json()["data"]
    problem(await api.client.post(path, json={"name": "b"}, headers=key), 422, "idempotency_mismatch")
    await publish(api.database, first.json()["data"]["id"], DB)
    snapshot = first.json()["data"]["snapshotId"]
    answers = [
        await api.client.post(
            f"/v1/snapshots/{snapshot}/restore", json={"name": "copy"}, headers={"Idempotency-Key": "two"}
        )
        for _ in range(2)
    ]
    assert [each.status_code for each in answers] == [202, 202]
    assert answers[0].json()["data"] == answers[1].json()["data"]


async def test_a_snapshot_is_deleted_when_nothing_uses_it(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    taking = await take(api, environment["id"])
    path = f"/v1/snapshots/{taking['snapshotId']}"
    assert problem(await api.client.delete(path), 409, "conflict")["operationId"] == taking["id"]
    await publish(api.database, taking["id"], DB)
    restoring = (await restore(api, taking["snapshotId"], name="copy")).json()["data"]
    await begin(api.database, restoring["id"])
    used = problem(await api.client.delete(path), 409, "conflict")
    assert used["operationId"] == restoring["id"]
    assert "restore" in used["detail"]
    assert (await shown(api, taking["snapshotId"]))["state"] == "available"
    await finish(api.database, restoring["id"], OperationState.FAILED)

    for _ in range(2):
        deleted = await api.client.delete(path)
        assert (deleted.status_code, deleted.json()["data"]["state"]) == (202, "deleting")
    entries = (await api.client.get("/v1/audit")).json()["data"]
    assert [each["action"] for each in entries].count("snapshot.delete") == 1
    problem(await restore(api, taking["snapshotId"], name="other"), 409, "conflict")
    # What failed cannot be tried again without it.
    retried = await api.client.post(f"/v1/environments/{restoring['environmentId']}/retry")
    assert "deleting" in problem(retried, 409, "conflict")["detail"]


async def test_a_snapshot_that_failed_is_told_apart_and_can_be_deleted(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    taking = await take(api, environment["id"])
    await end(api, taking["id"], OperationState.FAILED)
    assert (await shown(api, taking["snapshotId"]))["state"] == "failed"
    refused = problem(await restore(api, taking["snapshotId"], name="copy"), 409, "conflict")
    assert "failed" in refused["detail"]
    assert (await api.client.delete(f"/v1/snapshots/{taking['snapshotId']}")).status_code == 202


async def verify(api: Api, snapshot_id: str, **body: Any) -> dict[str, Any]:
    """Ask for a verification; return it."""
    answer = await api.client.post(f"/v1/snapshots/{snapshot_id}/verify", json=body)
    assert answer.status_code == 202, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


async def verified(api: Api, verification_id: str, state: VerificationState, *checks: Check) -> None:
    """Let a verification end, as its workflow does."""
    result = VerificationResult(verification_id=verification_id, state=state, checks=checks)
    async with api.database.transaction() as session:
        await verifications.finish(session, result, datetime.now(UTC))


async def test_a_verification_is_started_and_shows_what_was_found(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    answer = await api.client.post(f"/v1/snapshots/{snapshot}/verify", json={"level": 2})
    assert answer.status_code == 202, answer.text
    asked = answer.json()["data"]
    path = f"/v1/snapshots/{snapshot}/verifications/{asked['id']}"
    assert answer.headers["location"] == path
    assert (asked["state"], asked["level"], asked["checks"]) == ("running", 2, [])
    assert api.recorder.verified == [VerificationStart(asked["id"], snapshot, tenant.id, environment["id"])]
    assert (await api.client.get(path)).json()["data"] == asked
    # Until it has ended it says nothing about the snapshot.
    assert "lastVerifiedAt" not in await shown(api, snapshot)
    good = Check(level=VerifyLevel.STORED, subject="db/shop-0", ok=True)
    await verified(api, asked["id"], VerificationState.PASSED, good)
    ended = (await api.client.get(path)).json()["data"]
    assert ended["checks"] == [{"level": 0, "subject": "db/shop-0", "ok": True, "message": ""}]
    now = await shown(api, snapshot)
    assert (now["verifiedLevel"], now["lastVerifiedAt"]) == (2, ended["finishedAt"])


async def test_one_that_failed_proves_nothing_and_takes_nothing_away(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    first = await verify(api, snapshot)
    await verified(api, first["id"], VerificationState.PASSED)
    before = await shown(api, snapshot)
    bad = Check(level=VerifyLevel.STORED, subject="db/shop-0", ok=False, message="part 0 is not there")
    ended = []
    for state in (VerificationState.FAILED, VerificationState.ABORTED):
        later = await verify(api, snapshot, level=2)
        await verified(api, later["id"], state, bad)
        ended.append((later["id"], state))
    now = await shown(api, snapshot)
    assert (now["lastVerifiedAt"], now["verifiedLevel"]) == (before["lastVerifiedAt"], 1)
    listed = (await api.client.get(f"/v1/snapshots/{snapshot}/verifications")).json()["data"]
    assert [(each["id"], each["state"]) for each in listed] == [*reversed(ended), (first["id"], "passed")]
    assert listed[0]["checks"][0]["message"] == "part 0 is not there"


async def test_a_verification_is_of_its_level_or_refused(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    before = await api.row_counts()
    path = f"/v1/snapshots/{snapshot}/verify"
    for level in (3, -1, "high", 1.5, True, "1"):
        body = problem(await api.client.post(path, json={"level": level}), 422, "validation_failed")
        assert set(at(body)) == {"level"}
    body = problem(await api.client.post(path, json={"deep": True}), 422, "validation_failed")
    assert set(at(body)) == {"deep"}
    assert await api.row_counts() == before
    answer = await api.client.post(path)
    assert (answer.status_code, answer.json()["data"]["level"]) == (202, 1)


async def test_a_snapshot_is_verified_once_at_a_time_and_not_deleted_meanwhile(
    api: Api, tenant: Tenant
) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    running_now = await verify(api, snapshot, level=0)
    again = problem(await api.client.post(f"/v1/snapshots/{snapshot}/verify"), 409, "conflict")
    assert running_now["id"] in again["detail"]
    deleting = problem(await api.client.delete(f"/v1/snapshots/{snapshot}"), 409, "conflict")
    assert running_now["id"] in deleting["detail"]
    assert (await shown(api, snapshot))["state"] == "available"
    await verified(api, running_now["id"], VerificationState.ABORTED)
    assert (await verify(api, snapshot))["id"] != running_now["id"]
    other = await taken(api, environment["id"])
    assert (await api.client.delete(f"/v1/snapshots/{other}")).status_code == 202
    refused = problem(await api.client.post(f"/v1/snapshots/{other}/verify"), 409, "conflict")
    assert "deleting" in refused["detail"]


async def test_a_snapshot_that_is_being_taken_cannot_be_verified(api: Api, tenant: Tenant) -> None:
    environment = await running(api)
    taking = await take(api, environment["id"])
    path = f"/v1/snapshots/{taking['snapshotId']}/verify"
    assert "creating" in problem(await api.client.post(path), 409, "conflict")["detail"]


async def test_a_verification_is_found_below_its_own_snapshot_only(
    api: Api, tenant: Tenant, stranger: Tenant
) -> None:
    environment = await running(api)
    one, two = await taken(api, environment["id"]), await taken(api, environment["id"])
    of_one = await verify(api, one)
    path = f"/v1/snapshots/{{}}/verifications/{of_one['id']}"
    assert (await api.client.get(path.format(one))).status_code == 200
    problem(await api.client.get(path.format(two)), 404, "not_found")
    listed = await api.client.get(f"/v1/snapshots/{two}/verifications")
    assert listed.json()["data"] == []
    api.use(stranger)
    problem(await api.client.get(path.format(one)), 404, "not_found")


async def test_the_same_key_verifies_once_and_a_lost_start_is_left_to_the_sweep(
    api: Api, tenant: Tenant
) -> None:
    environment = await running(api)
    snapshot = await taken(api, environment["id"])
    api.recorder.away = True
    path, key = f"/v1/snapshots/{snapshot}/verify", {"Idempotency-Key": "one"}
    answers = [await api.client.post(path, json={"level": 0}, headers=key) for _ in range(2)]
    assert [each.status_code for each in answers] == [202, 202]
    assert answers[0].json()["data"] == answers[1].json()["data"]
    assert api.recorder.verified == []
    async with api.database.reading() as session:
        [left] = await verifications.unfinished(session, datetime.now(UTC), limit=9)
    assert left.id == answers[0].json()["data"]["id"]
    entries = (await api.client.get("/v1/audit")).json()["data"]
    assert [each["action"] for each in entries].count("snapshot.verify") == 1


async def test_a_snapshot_says_what_was_taken_otherwise_and_what_still_stands(
    api: Api, tenant: Tenant
) -> None:
    environment = await running(api)
    fallen = DB.model_copy(update={"instead_of": Engine.CSI, "because": "The pool is full."})
    identifier = await taken(api, environment["id"], fallen)
    found = await shown(api, identifier)
    assert "standing" not in found
    [component] = found["components"]
    assert (component["insteadOf"], component["because"]) == ("csi", "The pool is full.")
    manifest = (await api.client.get(f"/v1/snapshots/{identifier}/manifest")).json()["data"]
    assert manifest["components"][0]["insteadOf"] == "csi"
    async with api.database.transaction() as session:
        await snapshots.note_standing(
            session, identifier, "VolumeSnapshotContent/a stands.", datetime.now(UTC)
        )
    assert (await shown(api, identifier))["standing"] == "VolumeSnapshotContent/a stands."


async def test_a_policy_says_when_what_it_keeps_is_verified_anew(api: Api, tenant: Tenant) -> None:
    path = f"/v1/environments/{(await running(api))['id']}/snapshot-policy"
    answer = await api.client.put(path, json={"everyMinutes": 60, "verifyLevel": 0, "verifyEveryHours": 168})
    assert answer.status_code == 200, answer.text
    assert (await api.client.get(path)).json()["data"]["verifyEveryHours"] == 168
    # All of it is said each time; and all that is wrong is told at once, each thing as itself.
    assert (await api.client.put(path, json={"everyMinutes": 60, "verifyLevel": 0})).status_code == 200
    assert "verifyEveryHours" not in (await api.client.get(path)).json()["data"]
    several = [
        (
            {"everyMinutes": 1, "keepLast": 0, "verifyEveryHours": 24},
            "everyMinutes keepLast verifyEveryHours",
        ),
        ({"everyMinutes": 60, "verifyLevel": 3, "verifyEveryHours": 24}, "verifyLevel"),
        ({"everyMinutes": 60, "verifyLevel": 3, "verifyEveryHours": 0}, "verifyEveryHours verifyLevel"),
    ]
    for body, faults in several:
        told = problem(await api.client.put(path, json=body), 422, "validation_failed")
        assert sorted(fault["path"] for fault in told["errors"]) == faults.split()
