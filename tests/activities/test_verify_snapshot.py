"""What a verification sees in a store: streams that were really sealed, and what may have become of them."""

import asyncio
import base64
import io
import secrets
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import _step
from activities.secrets import DataKey, Opener, Sealer, new_private_key
from activities.snapshots import frames
from activities.snapshots.archive import seal_into
from activities.snapshots.facts import observed, observer_of
from activities.snapshots.frames import ComponentKey
from activities.snapshots.verify import ClusterVerify
from activities.storage.objects import ObjectStore
from tests.api.support import FakeCluster
from tests.helpers.attempts import handed_out
from workflows.contracts.snapshot import Loadable
from workflows.contracts.verify import CheckReadable, CheckStored
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_manifest import StoredComponent, StoredPart, stream_name
from workflows.domain.transfer import TransferKind, TransferProgress
from workflows.domain.verification import Check, VerifyLevel

SNAPSHOT = "snap_1"
DATA_KEY = DataKey(id="key_1", organization_id="org_1", key=bytes(range(32)))
OPENER = Opener(new_private_key())


def archive(**files: bytes) -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Kept:
    """A component in a store, of two volumes of files."""

    directory: Path
    component: StoredComponent
    keys: dict[str, str]
    beats: list[object] = field(default_factory=list)
    """What was told with heartbeats."""

    def objects(self, number: int = 0) -> list[Path]:
        """The objects of one of its streams, in their order."""
        return sorted(
            each
            for each in (self.directory / self.component.parts[number].prefix).rglob("*")
            if each.is_file()
        )

    async def stored(self) -> tuple[Check, ...]:
        """Look at level 0."""
        request = CheckStored(snapshot_id=SNAPSHOT, component=self.component)
        return (await self._environment().run(self._verify().stored, request)).checks

    async def readable(self) -> tuple[Check, ...]:
        """Look at level 1."""
        request = CheckReadable(
            snapshot_id=SNAPSHOT, stored=Loadable(component=self.component, keys=self.keys)
        )
        return (await self._environment().run(self._verify().readable, request)).checks

    def _environment(self) -> ActivityEnvironment:
        environment = handed_out()
        environment.on_heartbeat = lambda *details: self.beats.extend(details)
        return environment

    def _verify(self) -> ClusterVerify:
        return ClusterVerify(FakeCluster(), OPENER, ObjectStore(str(self.directory)), asyncio.Semaphore())


async def keep(directory: Path, **contents: bytes) -> Kept:
    """Store volumes with these contents, as a capture does."""
    store, keys, parts = ObjectStore(str(directory)), {}, []
    for name, content in contents.items():
        stream = stream_name("files", name, 0)
        component = frames.Component(SNAPSHOT, stream)
        # As in a capture, all streams of a service have their keys from one.
        key = ComponentKey.new(DATA_KEY, component).stream_key()
        observer = observer_of(DataStore.FILES, name)

        async def source(content: bytes = content) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 50_000):
                yield content[start : start + 50_000]

        stored = await seal_into(
            store,
            f"snapshots/org_1/{SNAPSHOT}/{stream}/{secrets.token_hex(4)}",
            observed(source(), observer),
            key=key,
            component=component,
        )
        digests = stored.digests
        parts.append(
            StoredPart(
                key=name,
                subject=f"/{name}",
                prefix=stored.stream.prefix,
                part_bytes=stored.stream.part_bytes,
                header=base64.b64encode(key.header).decode(),
                plain_bytes=digests.plain_bytes,
                plain_sha256=digests.plain_sha256,
                stored_bytes=digests.stored_bytes,
                stored_sha256=digests.stored_sha256,
                facts=observer.facts(),
            )
        )
        keys[stored.stream.prefix] = Sealer(OPENER.public_key).seal(base64.b64encode(key.key).decode())
    component_kept = StoredComponent(
        service="files",
        store=DataStore.FILES,
        engine=Engine.LIVE_COPY,
        consistency=Consistency.LIVE_COPY,
        parts=tuple(parts),
    )
    return Kept(directory, component_kept, keys)


@pytest.fixture
async def kept(tmp_path: Path) -> Kept:
    """Two volumes with different files."""
    one, two = archive(a=secrets.token_bytes(200_000)), archive(b=b"two" * 1000, c=b"")
    return await keep(tmp_path, one=one, two=two)


def faults(checks: tuple[Check, ...]) -> dict[str, str]:
    """What is not as it should be, by stream."""
    assert [check.subject for check in checks] == ["files/one", "files/two"]
    return {check.subject: check.message for check in checks if not check.ok}


async def test_what_is_whole_passes_both_levels(kept: Kept) -> None:
    stored, read = await kept.stored(), await kept.readable()
    assert (faults(stored), faults(read)) == ({}, {})
    assert {check.level for check in stored} == {VerifyLevel.STORED}
    assert {check.level for check in read} == {VerifyLevel.READABLE}


async def test_what_is_read_is_counted_against_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_step, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(_step, "BEAT_SECONDS", 0.0)
    content = {name: archive(a=secrets.token_bytes(3_000_000)) for name in ("one", "two")}
    kept = await keep(tmp_path, **content)
    for look, kind, total in (
        (kept.stored, TransferKind.CHECK, kept.component.stored_bytes),
        (kept.readable, TransferKind.READ, sum(map(len, content.values()))),
    ):
        kept.beats.clear()
        await look()
        told = [each for each in kept.beats if isinstance(each, TransferProgress)]
        assert {(each.kind, each.total_bytes) for each in told} == {(kind, total)}
        counts = [each.done_bytes for each in told]
        assert counts == sorted(counts)
        assert 0 < counts[len(counts) // 2] < counts[-1] <= total
        assert [each.stream for each in told][:: len(told) - 1] == ["files/one", "files/two"]


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Take the last byte away."""
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    """Add a byte."""
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize("change", [flip, cut, lengthen, Path.unlink])
async def test_any_change_of_an_object_is_found_at_both_levels(
    kept: Kept, change: Callable[[Path], None]
) -> None:
    change(kept.objects()[-1])
    for found in (faults(await kept.stored()), faults(await kept.readable())):
        # The other stream is looked at all the same, and is well.
        assert set(found) == {"files/one"}
        assert found["files/one"]


async def test_a_store_that_is_away_says_nothing(kept: Kept) -> None:
    objects = ObjectStore(str(kept.directory), patience=0)
    verify = ClusterVerify(FakeCluster(), OPENER, objects, asyncio.Semaphore())
    stored = CheckStored(snapshot_id=SNAPSHOT, component=kept.component)
    loadable = Loadable(component=kept.component, keys=kept.keys)
    read = CheckReadable(snapshot_id=SNAPSHOT, stored=loadable)
    # An empty mount point: all of it seems to be missing.
    kept.directory.rename(kept.directory.with_name("elsewhere"))
    kept.directory.mkdir()
    for looked in (handed_out().run(verify.stored, stored), handed_out().run(verify.readable, read)):
        with pytest.raises(ApplicationError, match="is it not mounted") as told:
            await looked
        assert (told.value.type, told.value.non_retryable) == (FailureKind.STORE_UNAVAILABLE, True)


async def test_streams_that_were_exchanged_do_not_pass(kept: Kept) -> None:
    for one, two in zip(kept.objects(0), kept.objects(1), strict=True):
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    assert set(faults(await kept.stored())) == {"files/one", "files/two"}
    assert set(faults(await kept.readable())) == {"files/one", "files/two"}


async def test_a_manifest_that_names_another_stream_is_found_by_reading(kept: Kept) -> None:
    """Level 0 has only the manifest to go by. Each is sealed for its own name: level 1 sees that."""
    one, two = kept.component.parts
    swapped = (
        two.model_copy(update={"key": one.key, "subject": one.subject}),
        one.model_copy(update={"key": two.key, "subject": two.subject}),
    )
    kept.component = kept.component.model_copy(update={"parts": swapped})
    assert faults(await kept.stored()) == {}
    assert set(faults(await kept.readable())) == {"files/one", "files/two"}


async def test_what_is_held_but_was_not_recorded_is_found_by_reading(tmp_path: Path) -> None:
    kept = await keep(tmp_path / "a", one=archive(a=b"1", b=b"2"), two=archive(c=b"3"))
    other = await keep(tmp_path / "b", one=archive(a=b"1", b=b"x"), two=archive(c=b"3"))
    one, two = kept.component.parts
    told = (one.model_copy(update={"facts": other.component.parts[0].facts}), two)
    kept.component = kept.component.model_copy(update={"parts": told})
    assert faults(await kept.stored()) == {}
    assert set(faults(await kept.readable())) == {"files/one"}


async def test_without_anything_recorded_nothing_is_proved(kept: Kept) -> None:
    one, two = kept.component.parts
    told = (one, two.model_copy(update={"facts": None}))
    kept.component = kept.component.model_copy(update={"parts": told})
    assert faults(await kept.readable()) == {"files/two": "nothing was recorded of what it holds"}


async def test_a_key_of_another_stream_opens_nothing(kept: Kept) -> None:
    one, two = (part.prefix for part in kept.component.parts)
    kept.keys = {one: kept.keys[two], two: kept.keys[two]}
    assert set(faults(await kept.readable())) == {"files/one"}
