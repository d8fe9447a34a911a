"""What a verification sees beside the data: the store's copy of the manifest, and what it does not name."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError

from activities.db.engine import Database
from activities.db.repositories import verifications
from activities.snapshots.beside import checks
from activities.snapshots.verification import ControlVerification
from activities.storage.objects import ObjectStore
from activities.temporal import WorkflowStarter
from tests.helpers.attempts import handed_out
from tests.helpers.changes import running
from tests.helpers.snapshots import snapshot_of, stored, taken
from tests.helpers.tenants import KEYS, make_tenant
from workflows.contracts.verify import VerificationInput
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind
from workflows.domain.snapshot import Consistency, Scope
from workflows.domain.snapshot_manifest import (
    SnapshotManifest,
    StoredComponent,
    manifest_key,
    owner_document,
    owner_key,
    snapshot_prefix,
)
from workflows.domain.verification import VerifyLevel

SNAPSHOT = "snap_1"
BELOW = snapshot_prefix("org_1", SNAPSHOT)
ATTEMPT, OTHER = "0123456789abcdef", "fedcba9876543210"
ONE, TWO = f"{BELOW}/db/globals/{ATTEMPT}", f"{BELOW}/db/database-0/{ATTEMPT}"


def component() -> StoredComponent:
    """Two streams, of one object and of two."""
    plain = stored("db", DataStore.POSTGRES, "globals", "database-0")
    one, two = plain.parts
    parts = (
        one.model_copy(update={"prefix": ONE}),
        two.model_copy(update={"prefix": TWO, "stored_bytes": two.part_bytes + 1}),
    )
    return plain.model_copy(update={"parts": parts})


MANIFEST = SnapshotManifest(
    snapshot_id=SNAPSHOT,
    organization_id="org_1",
    environment_id="env_1",
    environment_name="shop",
    revision=3,
    blueprint={"name": "shop", "services": {"db": {"image": "postgres"}}},
    consistency=Consistency.APPLICATION,
    scope=Scope.ONE_POINT,
    components=(component(),),
)
COPY = manifest_key("org_1", SNAPSHOT)


@pytest.fixture
async def store(tmp_path: Path) -> ObjectStore:
    """A store in which a snapshot is as it was published, and another one beside it."""
    objects = ObjectStore(str(tmp_path), patience=0)
    await objects.put_json(owner_key("org_1", SNAPSHOT), owner_document("installation"))
    for key in (f"{ONE}/00000000", f"{TWO}/00000000", f"{TWO}/00000001", f"{BELOW}0/x/manifest.json"):
        await objects.put_bytes(key, b"sealed")
    await objects.put_json(COPY, MANIFEST.model_dump(mode="json"))
    return objects


async def found(store: ObjectStore) -> dict[str, tuple[bool, str]]:
    """What was found, by what it is of."""
    there = await checks(store, MANIFEST)
    assert {each.level for each in there} == {VerifyLevel.STORED}
    return {each.subject: (each.ok, each.message) for each in there}


GOOD = (True, "")


async def test_what_was_published_is_well(store: ObjectStore) -> None:
    assert await found(store) == {"manifest.json": GOOD, "other objects": GOOD}


async def test_snapshots_of_before_stay_good(store: ObjectStore) -> None:
    """Nobody signed them, and fields have come since."""
    await store.delete(owner_key("org_1", SNAPSHOT))
    old = MANIFEST.model_dump(mode="json")
    for name in ("overrides", "images"):
        del old[name]
    for each in old["components"]:
        for name in ("insteadOf", "because", "volumes"):
            del each[name]
    await store.put_json(COPY, old)
    assert await found(store) == {"manifest.json": GOOD, "other objects": GOOD}


def _document(**changes: Any) -> bytes:
    return json.dumps({**MANIFEST.model_dump(mode="json"), **changes}).encode()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b'{"broken":', "it is no JSON document"),
        (b"\xff\xfe\xfd", "it is no JSON document"),
        (b"[" * 100_000, "it is no JSON document"),
        (b"", "it is no JSON document"),
        (b"{}", "it is no manifest"),
        (b"[]", "it is no manifest"),
        (_document(revision="x"), "it is no manifest"),
        (_document(revision=4), "it differs from what the database has in revision"),
        (_document(blueprint={}, environmentName="b"), "in blueprint, environmentName"),
        (_document(components=[]), "in components"),
        (_document(images={"db": "other"}), "in images"),
    ],
)
async def test_a_copy_that_is_not_what_was_written_is_told(
    store: ObjectStore, content: bytes, fault: str
) -> None:
    await store.put_bytes(COPY, content)
    told = await found(store)
    assert (told["manifest.json"][0], told["other objects"]) == (False, GOOD)
    assert told["manifest.json"][1].endswith(fault)


async def test_a_copy_that_is_gone_is_told(store: ObjectStore) -> None:
    await store.delete(COPY)
    assert await found(store) == {"manifest.json": (False, "it is missing"), "other objects": GOOD}


@pytest.mark.parametrize(
    "key",
    [
        "db/globals/0123456789abcdef/00000001",  # the stream has one object
        "db/database-0/0123456789abcdef/00000002",
        "db/database-0/0123456789abcdef/0000000",
        "db/database-0/0123456789abcdef/more/00000000",
        "db/database-0/short/00000000",
        "manifest.json.bak",
        "db/notes",
        "other/installation.json",
    ],
)
async def test_what_the_manifest_does_not_name_is_told(store: ObjectStore, key: str) -> None:
    await store.put_bytes(f"{BELOW}/{key}", b"x")
    told = await found(store)
    assert told == {"manifest.json": GOOD, "other objects": (False, f"the manifest does not name {key}")}


async def test_many_are_counted(store: ObjectStore) -> None:
    for number in range(8):
        await store.put_bytes(f"{BELOW}/x{number}", b"x")
    ok, message = (await found(store))["other objects"]
    assert (ok, message.endswith(" and 3 more"), message.count("x")) == (False, True, 5)


async def test_what_an_attempt_left_that_was_given_up_is_no_damage(store: ObjectStore) -> None:
    await store.put_bytes(f"{BELOW}/db/database-0/{OTHER}/00000000", b"late")
    await store.put_bytes(f"{BELOW}/files/volume-data/{OTHER}/00000005", b"late")
    ok, message = (await found(store))["other objects"]
    assert (ok, message[: len("2 objects of attempts")]) == (True, "2 objects of attempts")


async def test_it_is_looked_at_by_what_the_database_has(database: Database, tmp_path: Path) -> None:
    tenant = await make_tenant(database)
    snapshot = await taken(database, tenant, await running(database, tenant), component())
    async with database.transaction() as session:
        asked = await verifications.ask(session, tenant.actor, snapshot, VerifyLevel.STORED)
    manifest = (await snapshot_of(database, tenant, snapshot)).manifest
    assert manifest is not None
    objects = ObjectStore(str(tmp_path / "objects"), patience=0)
    starter = cast(WorkflowStarter, None)
    control = ControlVerification(database, objects, KEYS, {}, starter)
    request = VerificationInput(verification_id=asked.id)

    async def looked() -> dict[str, str]:
        there = await handed_out().run(control.beside, request)
        return {each.subject: each.message for each in there.checks}

    assert (await handed_out().run(control.begin, request)).beside
    assert (await looked())["manifest.json"] == "it is missing"
    await objects.put_json(manifest_key(tenant.id, snapshot), manifest.model_dump(mode="json"))
    assert await looked() == {"manifest.json": "", "other objects": ""}
    # A store that is away says nothing about a snapshot.
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    with pytest.raises(ApplicationError) as told:
        await looked()
    assert (told.value.type, told.value.non_retryable) == (FailureKind.STORE_UNAVAILABLE, True)
    assert str(tmp_path) not in str(told.value)
