"""What a verification sees in a store: streams that were really sealed, and what may have become of them."""

import asyncio
import io
import secrets
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from temporalio.exceptions import ApplicationError

from activities import _step
from activities.snapshots.facts import observed, observer_of
from activities.snapshots.verify import ClusterVerify
from activities.storage.objects import ObjectStore
from tests.api.support import FakeCluster
from tests.helpers.attempts import handed_out
from tests.helpers.kept import OPENER, SNAPSHOT, Kept, seal_part
from workflows.contracts.snapshot import Loadable
from workflows.contracts.verify import CheckReadable, CheckStored
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import FailureKind
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_manifest import StoredComponent
from workflows.domain.transfer import TransferKind, TransferProgress
from workflows.domain.verification import Check, VerifyLevel


def archive(**files: bytes) -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Files(Kept):
    """A component in a store, of two volumes of files."""

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
        return (await self.attempt().run(self._verify().stored, request)).checks

    async def readable(self) -> tuple[Check, ...]:
        """Look at level 1."""
        request = CheckReadable(
            snapshot_id=SNAPSHOT, stored=Loadable(component=self.component, keys=self.keys)
        )
        return (await self.attempt().run(self._verify().readable, request)).checks

    def _verify(self) -> ClusterVerify:
        return ClusterVerify(FakeCluster(), OPENER, ObjectStore(str(self.directory)), asyncio.Semaphore())


async def keep(directory: Path, **contents: bytes) -> Files:
    """Store volumes with these contents, as a capture does."""
    keys, parts = {}, []
    for name, content in contents.items():
        observer = observer_of(DataStore.FILES, name)

        async def source(content: bytes = content) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 50_000):
                yield content[start : start + 50_000]

        stored, key = await seal_part(directory, "files", name, f"/{name}", observed(source(), observer))
        parts.append(stored.model_copy(update={"facts": observer.facts()}))
        keys[stored.prefix] = key
    component_kept = StoredComponent(
        service="files",
        store=DataStore.FILES,
        engine=Engine.LIVE_COPY,
        consistency=Consistency.LIVE_COPY,
        parts=tuple(parts),
    )
    return Files(directory, component_kept, keys)


@pytest.fixture
async def kept(tmp_path: Path) -> Files:
    """Two volumes with different files."""
    one, two = archive(a=secrets.token_bytes(200_000)), archive(b=b"two" * 1000, c=b"")
    return await keep(tmp_path, one=one, two=two)


def faults(checks: tuple[Check, ...]) -> dict[str, str]:
    """What is not as it should be, by stream."""
    assert [check.subject for check in checks] == ["files/one", "files/two"]
    return {check.subject: check.message for check in checks if not check.ok}


async def test_what_is_whole_passes_both_levels(kept: Files) -> None:
    stored, read = await kept.stored(), await kept.readable()
    assert (faults(stored), faults(read)) == ({}, {})
    assert {check.level for check in stored} == {VerifyLevel.STORED}
    assert {check.level for check in read} == {VerifyLevel.READABLE}


@pytest.mark.slow
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
        assert counts[-1] <= total
        assert any(0 < count < counts[-1] for count in counts)
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
    kept: Files, change: Callable[[Path], None]
) -> None:
    change(kept.objects()[-1])
    for found in (faults(await kept.stored()), faults(await kept.readable())):
        # The other stream is looked at all the same, and is well.
        assert set(found) == {"files/one"}
        assert found["files/one"]


async def test_a_store_that_is_away_says_nothing(kept: Files) -> None:
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


async def test_streams_that_were_exchanged_do_not_pass(kept: Files) -> None:
    for one, two in zip(kept.objects(0), kept.objects(1), strict=True):
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    assert set(faults(await kept.stored())) == {"files/one", "files/two"}
    assert set(faults(await kept.readable())) == {"files/one", "files/two"}


async def test_a_manifest_that_names_another_stream_is_found_by_reading(kept: Files) -> None:
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


async def test_without_anything_recorded_nothing_is_proved(kept: Files) -> None:
    one, two = kept.component.parts
    told = (one, two.model_copy(update={"facts": None}))
    kept.component = kept.component.model_copy(update={"parts": told})
    assert faults(await kept.readable()) == {"files/two": "nothing was recorded of what it holds"}


async def test_a_key_of_another_stream_opens_nothing(kept: Files) -> None:
    one, two = (part.prefix for part in kept.component.parts)
    kept.keys = {one: kept.keys[two], two: kept.keys[two]}
    assert set(faults(await kept.readable())) == {"files/one"}
