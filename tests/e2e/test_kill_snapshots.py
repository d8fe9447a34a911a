"""A worker that is killed while a snapshot is taken or restored, a pod that goes, a store that is away."""

import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import own_stack
from tests.e2e.kills import commands
from tests.e2e.lifecycle import VOLUME
from tests.e2e.replays import assert_told_once
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    ask_to_verify,
    assert_named,
    assert_only_what_is_named,
    checksums,
    new_name,
    objects,
    restore,
    shown,
    take,
    taken,
    verification_ended,
)
from tests.e2e.support import POSTGRES, idle
from tests.helpers.kube_gate import Hold, Side
from tests.helpers.s3 import BUCKET, S3Server, running_s3
from tests.helpers.small_disk import small_disk
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]
GATED = True
SETTINGS = {"PERDURE_SWEEP_EVERY_SECONDS": "5"}
"""What looks for what is of no use looks while snapshots are taken, and killed."""

BLOB_MIB, HELD_MIB = 96, 18
"""How large a file is, random so that it stays as large, and how much of it passes before it is held: more
than two objects as they are stored. The rest is more than what lies in the sockets of the gate and of two
servers behind it (up to 56 MiB were seen), so that tar stands still, too."""
AWAY_SECONDS = 30
"""As long as a store may be away."""
_DIGEST = checksums("/data")


def _files(name: str) -> dict[str, Any]:
    """Files on a volume, and an application that depends on them."""
    keeper = idle(image=POSTGRES, snapshot={"store": "files"}, volumes=[VOLUME])
    return {"name": name, "services": {"files": keeper, "app": idle(dependsOn=["files"])}}


def _filled(stack: Stack) -> Handle:
    handle = stack.create(_files(new_name()))
    handle.succeeded(ENDED_SECONDS)
    handle.sh("files-0", f"head -c {BLOB_MIB << 20} /dev/urandom > /data/blob; echo a > /data/a; sync")
    return handle


@pytest.fixture(scope="module")
def files(stack: Stack) -> Handle:
    """An environment with a large file."""
    return _filled(stack)


def _held(stack: Stack, namespace: str) -> AbstractContextManager[Hold]:
    """Hold the streams of an environment's files in their middle while the body runs."""
    return stack.gate.hold_streams(rf"/namespaces/{namespace}/pods/files-0/exec\?", HELD_MIB << 20)


def _parts(stack: Stack, snapshot: str) -> set[Path]:
    """What a store that is a directory has of a snapshot's files."""
    return {path for path in objects(stack, snapshot) if "/files/" in str(path) and path.stat().st_size}


@contextmanager
def _midway(handle: Handle, parts: Callable[[str], Set[Any]] | None = None) -> Iterator[tuple[Handle, str]]:
    """Take a snapshot; while the body runs a part of the large file is in the store, and no more comes.

    `parts`: what the store has of the files of a snapshot, unless it is a directory.
    """
    with _held(handle.stack, handle.namespace):
        taking, snapshot = take(handle)
        look = parts or partial(_parts, handle.stack)
        eventually(lambda: len(look(snapshot)) >= 2, "the first objects are stored", within=90)
        assert taking.step("capture/files")["state"] == "running"
        yield taking, snapshot


def _tar_runs(handle: Handle) -> bool:
    """Whether a tar runs in the pod."""
    return "tar" in commands(handle, "files-0")


def _no_command_is_left(handle: Handle) -> bool:
    """Whether no tar runs in the pod any more, within seconds."""
    return eventually(lambda: not _tar_runs(handle), "no tar is left in the pod", within=30)


def test_killed_in_the_middle_of_a_stream_it_is_taken_anew_and_nothing_is_left(
    stack: Stack, files: Handle
) -> None:
    with _midway(files) as (taking, snapshot):
        stack.worker.kill()
    left = {path for path in objects(stack, snapshot) if path.name != "installation.json"}
    assert left
    assert shown(stack, snapshot)["state"] == "creating"
    stack.worker.start()
    assert_told_once(stack, taking.succeeded(ENDED_SECONDS))
    assert_only_what_is_named(stack, snapshot)
    assert not left & set(objects(stack, snapshot))
    assert shown(stack, snapshot)["state"] == "available"
    assert _no_command_is_left(files)


MOMENTS: dict[str, tuple[str, Side]] = {
    "before the survey": (r"GET /api/v1/namespaces/[^/]+/pods\?", "before"),
    "before the stream": (r"GET /api/v1/namespaces/[^/]+/pods/files-0/exec", "before"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_step_it_goes_on(stack: Stack, files: Handle, moment: str) -> None:
    pattern, side = MOMENTS[moment]
    with stack.gate.hold(pattern, side) as hold:
        taking, snapshot = take(files)
        hold.wait_seen()
        stack.worker.kill()
        hold.drop()
    stack.worker.start()
    assert_told_once(stack, taking.succeeded(ENDED_SECONDS))
    assert_only_what_is_named(stack, snapshot)


def test_killed_before_its_end_is_written_it_is_published_once(stack: Stack, files: Handle) -> None:
    name = stack.client.get(f"/v1/environments/{files.environment_id}").json()["data"]["name"]
    with stack.state_refused(name, "succeeded") as refused:
        taking, snapshot = take(files)
        eventually(refused, "the end is to be written", within=120)
        # All is stored, and yet it is of no use: its operation has not succeeded.
        assert shown(stack, snapshot)["state"] == "creating"
        stack.worker.kill()
    stack.worker.start()
    assert_told_once(stack, taking.succeeded(ENDED_SECONDS))
    assert_only_what_is_named(stack, snapshot)
    assert [row[0] for row in stack.rows("select state from snapshots where id = ?", snapshot)] == [
        "available"
    ]


def test_killed_before_its_manifest_is_in_the_ledger_it_is_published_once(
    stack: Stack, files: Handle
) -> None:
    ours = f"NEW.environment_id = '{files.environment_id}' AND NEW.manifest IS NOT NULL"
    with stack.write_refused("manifest", "UPDATE OF manifest ON snapshots", ours) as refused:
        taking, snapshot = take(files)
        eventually(refused, "its manifest is to be written", within=120)
        # It is in the store already, and that does not count.
        assert any(path.name == "manifest.json" for path in objects(stack, snapshot))
        assert shown(stack, snapshot)["state"] == "creating"
        stack.worker.kill()
    stack.worker.start()
    assert_told_once(stack, taking.succeeded(ENDED_SECONDS))
    assert_only_what_is_named(stack, snapshot)
    assert shown(stack, snapshot)["state"] == "available"


def test_killed_as_it_is_given_up_nothing_is_left(stack: Stack, files: Handle) -> None:
    name = stack.client.get(f"/v1/environments/{files.environment_id}").json()["data"]["name"]
    with stack.state_refused(name, "cancelled") as refused, _midway(files) as (taking, snapshot):
        taking.cancel(cleanup=False)
        eventually(refused, "its end is to be written", within=60)
        stack.worker.kill()
    stack.worker.start()
    assert taking.ended(60)["state"] == "cancelled"
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert _no_command_is_left(files)


def test_killed_while_it_is_restored_it_is_loaded_anew(stack: Stack, files: Handle) -> None:
    before, name = files.sh("files-0", _DIGEST), new_name()
    with _held(stack, f"{name}-[0-9a-f]+") as hold:
        restored = restore(stack, taken(files), name=name)
        hold.wait_seen(120)

        def half_there() -> bool:
            size = restored.sh("files-0", "stat -c %s /data/blob 2>/dev/null || echo 0")
            return 0 < int(size) < BLOB_MIB << 20

        eventually(half_there, "a part of the file is there", within=60)
        stack.worker.kill()
    assert _no_command_is_left(restored)
    stack.worker.start()
    operation = restored.succeeded(ENDED_SECONDS)
    assert restored.sh("files-0", _DIGEST) == before
    steps = {step["name"]: step for step in operation["steps"]}
    assert steps["service/app"]["startedAt"] >= steps["load/files"]["finishedAt"]


def test_a_pod_that_goes_in_the_middle_is_waited_for(stack: Stack, files: Handle) -> None:
    with _midway(files) as (taking, snapshot):
        assert _tar_runs(files)
        stack.kubectl("-n", files.namespace, "delete", "pod", "files-0", "--grace-period=1", "--timeout=50s")
    taking.succeeded(ENDED_SECONDS)
    assert_only_what_is_named(stack, snapshot)


def test_a_pod_that_does_not_come_back_is_told_and_nothing_is_published(stack: Stack, files: Handle) -> None:
    scale = ("-n", files.namespace, "scale", "statefulset/files")
    with _midway(files) as (taking, snapshot):
        assert _tar_runs(files)
        stack.kubectl(*scale, "--replicas=0")
        stack.kubectl("-n", files.namespace, "wait", "--for=delete", "pod/files-0", "--timeout=50s")
    try:
        operation = taking.ended(ENDED_SECONDS)
    finally:
        stack.kubectl(*scale, "--replicas=1")
    failed = operation["failure"]
    assert "scaled to no pods" in failed["message"]
    assert (operation["state"], failed["kind"], failed["step"]) == ("failed", "conflict", "capture/files")
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    stack.kubectl("-n", files.namespace, "wait", "--for=condition=Ready", "pod/files-0", "--timeout=50s")


def test_cancelled_in_the_middle_nothing_is_left(stack: Stack, files: Handle) -> None:
    with _midway(files) as (taking, snapshot):
        taking.cancel(cleanup=False)
        assert taking.ended(60)["state"] == "cancelled"
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert _no_command_is_left(files)
    assert files.status()["phase"] == "running"


def test_a_full_store_is_told_and_nothing_is_published(stack: Stack, files: Handle) -> None:
    """The disk is truly full: there is room for one object and not for two. The next test has room again."""
    [(organization,)] = stack.rows(
        "select organization_id from environments where id = ?", files.environment_id
    )
    with small_disk(stack.directory / "objects" / "snapshots" / organization, "12m"):
        taking, snapshot = take(files)
        operation = taking.ended(ENDED_SECONDS)
        failed = operation["failure"]
        assert (operation["state"], failed["kind"]) == ("failed", "store_unavailable")
        assert os.strerror(errno.ENOSPC) in failed["message"], failed["message"]
        assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])


@contextmanager
def _away(root: Path) -> Iterator[None]:
    """Have a directory vanish, as a mount does, until half a minute after the body: an empty one is there."""
    elsewhere = root.rename(root.with_name("elsewhere"))
    root.mkdir()
    yield
    time.sleep(AWAY_SECONDS)
    assert list(root.iterdir()) == []
    root.rmdir()
    elsewhere.rename(root)


def test_a_directory_that_is_away_for_half_a_minute_is_waited_for(stack: Stack, files: Handle) -> None:
    """In the middle of a capture, and of a load."""
    before, name = files.sh("files-0", _DIGEST), new_name()
    root = stack.directory / "objects"
    with ExitStack() as comes_back, _midway(files) as (taking, snapshot):
        comes_back.enter_context(_away(root))
    taking.succeeded(ENDED_SECONDS)
    assert_only_what_is_named(stack, snapshot)
    with ExitStack() as comes_back, _held(stack, f"{name}-[0-9a-f]+") as hold:
        restored = restore(stack, snapshot, name=name)
        hold.wait_seen(90)
        comes_back.enter_context(_away(root))
    restored.succeeded(ENDED_SECONDS)
    assert restored.sh("files-0", _DIGEST) == before


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def in_bucket(
    tmp_path_factory: pytest.TempPathFactory, cluster_files: tuple[Path, Path], bucket: S3Server
) -> Iterator[Handle]:
    """An environment with a large file, on a stack of its own whose store is the bucket."""
    extra = {**SETTINGS, **bucket.environment, "PERDURE_OBJECT_STORE": f"s3://{BUCKET}"}
    with own_stack(tmp_path_factory, cluster_files, extra) as stack:
        yield _filled(stack)


def _below(bucket: S3Server, snapshot: str) -> dict[str, int]:
    """What a bucket has of a snapshot: size by key."""
    return {key: size for key, size in bucket.sizes().items() if f"/{snapshot}/" in key}


def _parts_in(bucket: S3Server, snapshot: str) -> set[str]:
    """What a bucket has of a snapshot's files, by key."""
    return {key for key in _below(bucket, snapshot) if "/files/" in key}


def test_a_bucket_that_is_away_for_half_a_minute_is_waited_for(bucket: S3Server, in_bucket: Handle) -> None:
    stack, before = in_bucket.stack, in_bucket.sh("files-0", _DIGEST)
    with _midway(in_bucket, partial(_parts_in, bucket)) as (taking, snapshot):
        bucket.stop()
    time.sleep(AWAY_SECONDS)
    assert taking.step("capture/files")["state"] == "running"
    bucket.start()
    taking.succeeded(ENDED_SECONDS)
    assert_named(stack, snapshot, _below(bucket, snapshot))
    restored = restore(stack, snapshot, name=new_name())
    restored.succeeded(ENDED_SECONDS)
    assert restored.sh("files-0", _DIGEST) == before


def test_killed_in_the_middle_of_a_stream_into_a_bucket_it_is_published_once_and_goes_as_a_whole(
    bucket: S3Server, in_bucket: Handle
) -> None:
    stack = in_bucket.stack
    with _midway(in_bucket, partial(_parts_in, bucket)) as (taking, snapshot):
        stack.worker.kill()
    left = _parts_in(bucket, snapshot)
    stack.worker.start()
    assert_told_once(stack, taking.succeeded(ENDED_SECONDS))
    there = _below(bucket, snapshot)
    assert_named(stack, snapshot, there)
    assert left.isdisjoint(there)
    verification = verification_ended(stack, ask_to_verify(stack, snapshot, 1))
    assert verification["state"] == "passed", verification
    assert {check["level"] for check in verification["checks"]} == {0, 1}
    assert stack.client.delete(f"/v1/snapshots/{snapshot}").status_code == 202
    eventually(lambda: not _below(bucket, snapshot), "its objects are gone", within=60)


def test_cancelled_in_the_middle_of_a_stream_into_a_bucket_nothing_is_left(
    bucket: S3Server, in_bucket: Handle
) -> None:
    with _midway(in_bucket, partial(_parts_in, bucket)) as (taking, snapshot):
        taking.cancel(cleanup=False)
        assert taking.ended(60)["state"] == "cancelled"
    assert (shown(in_bucket.stack, snapshot)["state"], _below(bucket, snapshot)) == ("failed", {})


def test_what_the_database_does_not_know_is_told_before_it_is_removed(stack: Stack, files: Handle) -> None:
    """Among so few, one that is unknown looks like a database that is the wrong one."""
    snapshot = taken(files)
    [(organization,)] = stack.rows("select organization_id from snapshots where id = ?", snapshot)
    [(installation,)] = stack.rows("select uuid from installation")
    below = stack.directory / "objects" / "snapshots" / organization
    ours, others = below / "snap_01J9Z7Q0000000000000000000", below / "snap_01J9Z7Q0000000000000000001"
    for each, owner in ((ours, installation), (others, str(uuid.uuid4()))):
        (each / "files" / "x").mkdir(parents=True)
        (each / "files" / "x" / "00000000").write_bytes(b"left")
        (each / "installation.json").write_text(json.dumps({"installation": owner}))
    # A worker looks through the store as it starts, and then once an hour.
    stack.worker.stop()
    stack.worker.start()
    eventually(lambda: ours.name in stack.worker.text(), "it is told", within=90)
    assert others.name not in stack.worker.text()
    assert all((each / "files" / "x" / "00000000").exists() for each in (ours, others))
    assert objects(stack, snapshot)
