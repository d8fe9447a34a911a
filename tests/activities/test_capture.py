"""Capturing and publishing, as far as no pod is needed: what is refused, and a store that is away."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from pydantic import BaseModel, JsonValue
from temporalio.exceptions import ApplicationError

from activities.secrets import Opener, new_private_key
from activities.snapshots import capture as capture_module
from activities.snapshots.capture import ClusterSnapshot
from activities.snapshots.ownership import sign
from activities.storage.objects import ObjectStore
from clusters.gateway import Cluster, ExecResult
from clusters.objects import Manifest, ObjectRef
from clusters.storage import FoundStorage
from clusters.values import Listing
from tests.api.support import FakeCluster
from tests.helpers.attempts import handed_out
from tests.helpers.contexts import CONTEXT
from tests.helpers.snapshots import to_publish
from workflows.contracts.snapshot import (
    Capture,
    CapturedTogether,
    CaptureTogether,
    Discard,
    Publish,
    SealedComponentKey,
    Survey,
    Windows,
)
from workflows.domain.blueprint_models import DataStore, Service, Snapshot, SnapshotEngine
from workflows.domain.failures import FailureKind
from workflows.domain.manifests_workload import COMPONENT
from workflows.domain.names import NAME
from workflows.domain.snapshot import NO_STORAGE, Component, Engine
from workflows.domain.snapshot_dump import postgres_parts
from workflows.domain.snapshot_manifest import manifest_key, snapshot_prefix

SNAPSHOT = "snap_1"
DB = Service(name="db", image="postgres")
BELOW = snapshot_prefix(CONTEXT.organization_id, SNAPSHOT)


def snapshot_of(objects: ObjectStore, cluster: Cluster | None = None) -> ClusterSnapshot:
    return ClusterSnapshot(cluster or FakeCluster(), Opener(new_private_key()), objects, asyncio.Semaphore())


def wanted(*, besides: int = 0) -> Capture:
    return Capture(
        context=CONTEXT,
        snapshot_id=SNAPSHOT,
        service=DB,
        component=Component(service="db", store=DataStore.POSTGRES, engine=Engine.EXEC_DUMP),
        key=SealedComponentKey(body="", key=""),
        besides=besides,
    )


def _pod(service: str, digest: str, **labels: str) -> Manifest:
    """A pod that runs one container of a service, from an image of that digest."""
    status: JsonValue = {"name": service, "imageID": f"registry.test/{service}@sha256:{digest}"}
    return {"metadata": {"labels": {**labels}}, "status": {"containerStatuses": [status]}}


@dataclass
class Surveyable:
    """A cluster whose pods are these, and whose servers answer just so; `asked`: in which pods."""

    pods: list[Manifest]
    version: bytes
    asked: list[str] = field(default_factory=list)

    async def list(self, _kind: str, _namespace: str, **_: object) -> Listing:
        return Listing(items=tuple(self.pods), resource_version="1")

    async def get(self, _ref: ObjectRef) -> Manifest:
        return self.pods[0]

    async def execute(self, _namespace: str, pod: str, _command: object, **_: object) -> ExecResult:
        self.asked.append(pod)
        return ExecResult(exit_code=0, stdout=self.version, stderr=b"", truncated=False)


@pytest.mark.parametrize(("version", "refused"), [(b"11.4.2-MariaDB", False), (b"8.4.3", True)])
async def test_a_survey_refuses_mysql_and_tells_the_images_of_services_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: bytes, *, refused: bool
) -> None:
    async def pods(_cluster: object, _context: object, service: Service, *_: Any, **__: Any) -> Any:
        return (f"{service.name}-0",)

    async def storage(_: object) -> FoundStorage:
        return FoundStorage(NO_STORAGE)

    monkeypatch.setattr(capture_module, "await_pods", pods)
    monkeypatch.setattr(capture_module, "storage_of", storage)
    job = _pod("db", "of-its-init", **{COMPONENT: "init"})
    cluster = Surveyable([_pod("db", "its-own", **{NAME: "db"}), job], version)
    services = (
        Service(name="db", image="mysql:8"),
        Service(name="cache", image="redis"),
        Service(name="left", image="mysql:8", snapshot=Snapshot(engine=SnapshotEngine.MANIFEST_ONLY)),
    )
    survey = snapshot_of(ObjectStore(str(tmp_path)), cast(Cluster, cluster)).survey
    looking = handed_out().run(survey, Survey(context=CONTEXT, services=services))
    if refused:
        with pytest.raises(ApplicationError, match="db is no MariaDB"):
            await looking
    else:
        assert (await looking).images == {"db": "registry.test/db@sha256:its-own"}
    assert cluster.asked == ["db-0"]


@dataclass
class Freezing:
    """A cluster in which whatever is held still is so for as long as told."""

    milliseconds: int

    def fenced(self, _lease: object) -> Self:
        return self

    @asynccontextmanager
    async def all_frozen(self, _holds: object) -> AsyncIterator[list[SimpleNamespace]]:
        hold = SimpleNamespace(pod="db-0", holding_seconds=27)
        yield [SimpleNamespace(hold=hold, frozen_ms=self.milliseconds)]


async def test_an_attempt_that_takes_the_place_of_others_tells_of_their_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was lost after its window, the second in it, so that nobody could measure that."""

    async def nothing(*_: Any, **__: Any) -> tuple[()]:
        return ()

    monkeypatch.setattr(capture_module, "await_pods", nothing)
    beats: list[tuple[Any, ...]] = []
    together = CaptureTogether(captures=(wanted(),), quiesced=())

    async def attempt(number: int, milliseconds: int) -> CapturedTogether:
        given = handed_out(number)
        # As Temporal hands them on: the last ones told, as JSON.
        given.info = replace(given.info, heartbeat_details=[_plain(each) for each in (beats or [()])[-1]])
        given.on_heartbeat = lambda *told: beats.append(told)
        cluster = cast(Cluster, Freezing(milliseconds))
        taking = snapshot_of(ObjectStore(str(tmp_path)), cluster).capture_together
        answer: CapturedTogether = await given.run(taking, together)
        return answer

    await attempt(1, 900)
    taken = await attempt(3, 200)
    assert (taken.frozen_ms, taken.lost.longest_ms, taken.windows) == ({"db-0": 200}, {1: 900}, 3)
    assert Windows.model_validate(beats[-1][1]).longest_ms == {1: 900, 3: 200}


def _plain(told: object) -> Any:
    return told.model_dump(mode="json", by_alias=True) if isinstance(told, BaseModel) else told


@pytest.mark.parametrize(("databases", "besides"), [(1000, 0), (10, 990)])
async def test_more_databases_than_a_snapshot_has_are_refused_before_the_first_is_dumped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, databases: int, besides: int
) -> None:
    async def pods(*_: Any, **__: Any) -> tuple[str, ...]:
        return ("db-0",)

    async def parts(*_: Any) -> Any:
        return postgres_parts(f"customer{number}" for number in range(databases))

    monkeypatch.setattr(capture_module, "await_pods", pods)
    monkeypatch.setattr(capture_module, "parts_in", parts)
    snapshot = snapshot_of(ObjectStore(str(tmp_path)))
    several = CaptureTogether(captures=(wanted(),) * 101, quiesced=())
    for refused in (
        handed_out().run(snapshot.capture, wanted(besides=besides)),
        handed_out().run(snapshot.capture_together, several),
    ):
        # No pod of this cluster answers: whatever reached for one would fail otherwise.
        with pytest.raises(ApplicationError, match=r"db has \d+ streams .* at most 1000") as told:
            await refused
        assert (told.value.type, told.value.non_retryable) == (FailureKind.CONFLICT, True)


async def test_others_stream_while_a_capture_waits_for_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = asyncio.Semaphore(1)

    async def pods(*_: Any, **__: Any) -> tuple[str, ...]:
        async with asyncio.timeout(1), turn:
            return ("db-0",)

    async def parts(*_: Any) -> Any:
        return postgres_parts(f"customer{number}" for number in range(1001))

    monkeypatch.setattr(capture_module, "await_pods", pods)
    monkeypatch.setattr(capture_module, "parts_in", parts)
    snapshot = ClusterSnapshot(FakeCluster(), Opener(new_private_key()), ObjectStore(str(tmp_path)), turn)
    for refused in (
        handed_out().run(snapshot.capture, wanted()),
        handed_out().run(snapshot.capture_together, CaptureTogether(captures=(wanted(),), quiesced=())),
    ):
        with pytest.raises(ApplicationError, match="at most 1000"):
            await refused


@pytest.fixture
def published() -> Publish:
    """What is to be published of a service with one stream of one object."""
    return to_publish(SNAPSHOT, f"{BELOW}/db/globals/{'a' * 16}", 6)


@contextlib.contextmanager
def away(path: Path) -> Iterator[None]:
    """An empty mount point is in the store's place, and stays empty."""
    elsewhere = path.rename(path.with_name("elsewhere"))
    path.mkdir()
    yield
    path.rmdir()
    elsewhere.rename(path)


async def test_a_store_that_is_away_for_too_long_is_told_and_nothing_is_published(
    tmp_path: Path, published: Publish
) -> None:
    path = tmp_path / "objects"
    objects = ObjectStore(str(path), patience=0)
    [prefix] = [part.prefix for each in published.manifest.components for part in each.parts]
    await objects.put_bytes(f"{prefix}/00000000", b"sealed")
    await objects.put_bytes(f"{BELOW}/db/globals/{'b' * 16}/00000000", b"given up")
    snapshot = snapshot_of(objects)
    with away(path):
        for refused in (
            handed_out().run(snapshot.publish, published),
            handed_out().run(snapshot.discard, Discard(context=CONTEXT, snapshot_id=SNAPSHOT)),
        ):
            with pytest.raises(ApplicationError) as told:
                await refused
            assert (told.value.type, told.value.non_retryable) == (FailureKind.STORE_UNAVAILABLE, True)
            assert str(tmp_path) not in str(told.value)
    key = manifest_key(CONTEXT.organization_id, SNAPSHOT)
    assert key not in {each.key async for each in objects.objects_below(BELOW)}
    # Nothing of it was taken for missing, and nothing is lost.
    await handed_out().run(snapshot.publish, published)
    assert {each.key async for each in objects.objects_below(BELOW)} == {
        key,
        f"{BELOW}/installation.json",
        f"{prefix}/00000000",
    }


async def test_a_disk_that_cannot_keep_the_manifest_is_told_and_nothing_is_published(
    tmp_path: Path, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = ObjectStore(str(tmp_path), patience=0)
    [prefix] = [part.prefix for each in published.manifest.components for part in each.parts]
    await objects.put_bytes(f"{prefix}/00000000", b"sealed")
    await sign(objects, CONTEXT, SNAPSHOT)
    with monkeypatch.context() as full:

        def flush(_file: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(os, "fsync", flush)
        with pytest.raises(ApplicationError, match=os.strerror(errno.ENOSPC)) as told:
            await handed_out().run(snapshot_of(objects).publish, published)
    assert (told.value.type, told.value.non_retryable) == (FailureKind.STORE_UNAVAILABLE, True)
    key = manifest_key(CONTEXT.organization_id, SNAPSHOT)
    assert key not in {each.key async for each in objects.objects_below(BELOW)}


async def test_a_store_that_comes_back_is_published_to(tmp_path: Path, published: Publish) -> None:
    path = tmp_path / "objects"
    objects = ObjectStore(str(path))
    [prefix] = [part.prefix for each in published.manifest.components for part in each.parts]
    await objects.put_bytes(f"{prefix}/00000000", b"sealed")
    with away(path):
        publishing = asyncio.create_task(handed_out().run(snapshot_of(objects).publish, published))
        _, pending = await asyncio.wait([publishing], timeout=0.2)
        assert pending
    await publishing
    assert await objects.get_json(manifest_key(CONTEXT.organization_id, SNAPSHOT))
