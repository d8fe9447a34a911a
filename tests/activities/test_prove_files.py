"""Files that differ after a restore: who wrote to them since is no damage, and what came wrong is."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from activities.db.engine import Database
from activities.snapshots import load as load_module
from activities.snapshots.facts import observed, observer_of
from activities.snapshots.facts.tar import MembersObserver
from activities.snapshots.load import ClusterRestore
from activities.snapshots.verification import ControlVerification
from activities.storage.objects import ObjectStore
from activities.temporal import WorkflowStarter
from tests.api.support import FakeCluster
from tests.helpers.attempts import handed_out
from tests.helpers.changes import running
from tests.helpers.contexts import CONTEXT
from tests.helpers.kept import OPENER, SNAPSHOT, seal_part
from tests.helpers.snapshots import restore_new
from tests.helpers.snapshots import stored as component
from tests.helpers.snapshots import taken as snapshot_taken
from tests.helpers.tenants import KEYS, begin, finish, make_tenant, record
from workflows.contracts.restore import WRITTEN_SINCE, Load, Proof
from workflows.contracts.snapshot import Loadable
from workflows.contracts.verify import OperationEnded, OperationWanted
from workflows.domain.blueprint_models import DataStore, Service, Volume, VolumeType
from workflows.domain.operations import OperationState, Output, StepChange, StepState
from workflows.domain.snapshot import Consistency, Engine
from workflows.domain.snapshot_manifest import StoredComponent, StoredPart

TAKEN = 1_800_000_000
BEFORE = TAKEN - 86_400
SINCE = TAKEN + 3_600.25
SERVICE = Service(
    name="files",
    image="x",
    volumes=(Volume(name="docs", mount_path="/docs", type=VolumeType.PVC, size="1Gi"),),
)
Tree = dict[str, tuple[bytes | None, float]]
"""By path, directories with None: content and time."""
Change = Callable[[Tree], object]

TREE: Tree = {
    ".": (None, BEFORE),
    "./a": (b"first", BEFORE),
    "./log": (None, BEFORE - 10),
    "./log/app.log": (b"line\n", BEFORE - 20.5),
    "./log/app.log.1": (b"older\n", BEFORE - 90.75),
    "./quiet": (None, BEFORE - 30),
    "./quiet/b": (b"second", BEFORE - 40),
}


def archive(tree: Tree) -> bytes:
    """A tar archive of a volume; times with parts of a second, as some tars write them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, (content, time) in tree.items():
            member = tarfile.TarInfo(path)
            member.mtime = time
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def restored(tree: Tree) -> Tree:
    """The volume as tar makes it, on storage that keeps whole seconds."""
    return {path: (content, int(time)) for path, (content, time) in tree.items()}


def filled_late(tree: Tree) -> Tree:
    """As busybox makes it: a directory that is filled has the time of that."""
    full = {path.rpartition("/")[0] for path in tree}
    return {
        path: (each[0], SINCE - 600 if path in full else each[1]) for path, each in restored(tree).items()
    }


class Pods(FakeCluster):
    """A cluster whose pod hands out one dump after the other, the last one again and again."""

    def __init__(self, dumps: Sequence[bytes]) -> None:
        super().__init__()
        self._dumps = list(dumps)
        self.dumped = 0

    def fenced(self, _lease: object) -> "Pods":
        return self

    @asynccontextmanager
    async def output_of(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        self.dumped += 1
        dump = self._dumps.pop(0) if len(self._dumps) > 1 else self._dumps[0]

        async def pieces() -> AsyncIterator[bytes]:
            yield dump

        yield pieces()


class Proving:
    """A snapshot of one volume, and what is found when its restore is proved."""

    def __init__(self, directory: Path, stored: StoredPart, key: str) -> None:
        self.directory = directory
        self.stored, self._key = stored, key
        self.pods = Pods(())

    async def proof(self, *trees: Tree) -> Proof:
        """Prove a restore whose volume is found like this, one look after the other."""
        component = StoredComponent(
            service="files",
            store=DataStore.FILES,
            engine=Engine.LIVE_COPY,
            consistency=Consistency.LIVE_COPY,
            captured_at=datetime.fromtimestamp(TAKEN, UTC),
            parts=(self.stored,),
        )
        stored = Loadable(component=component, keys={self.stored.prefix: self._key})
        self.pods = Pods([archive(tree) for tree in trees])
        restore = ClusterRestore(self.pods, OPENER, ObjectStore(str(self.directory)), asyncio.Semaphore())
        request = Load(context=CONTEXT, snapshot_id=SNAPSHOT, service=SERVICE, stored=stored, proved=True)
        return await handed_out().run(restore.prove, request)


@pytest.fixture
async def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proving:
    async def pods(*_: Any, **__: Any) -> tuple[str, ...]:
        return ("files-0",)

    monkeypatch.setattr(load_module, "await_pods", pods)
    return await taken(tmp_path, TREE)


async def taken(directory: Path, tree: Tree) -> Proving:
    """Take a snapshot of a volume."""
    observer = observer_of(DataStore.FILES, "volume-docs")

    async def source() -> AsyncIterator[bytes]:
        yield archive(tree)

    stored, key = await seal_part(directory, "files", "volume-docs", "/docs", observed(source(), observer))
    return Proving(directory, stored.model_copy(update={"facts": observer.facts()}), key)


def put(path: str, content: bytes | None, time: float = SINCE) -> Change:
    return lambda tree: tree.update({path: (content, time)})


def touched(path: str) -> Change:
    return lambda tree: tree.update({path: (tree[path][0], SINCE)})


def gone(path: str) -> Change:
    return lambda tree: tree.pop(path)


def changed(tree: Tree, *changes: Change) -> Tree:
    found = dict(tree)
    for change in changes:
        change(found)
    return found


ROTATED = (
    put("./log/app.log.2", b"older\n", int(BEFORE - 90.75)),
    put("./log/app.log.1", b"line\n", int(BEFORE - 20.5)),
    put("./log/app.log", b"new\n"),
    touched("./log"),
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([put("./a", b"another")], "1 written since (a)"),
        ([put("./log/app.log", b"line\nline\n")], "1 written since (log/app.log)"),
        ([gone("./log/app.log.1"), touched("./log")], "1 gone since (log/app.log.1)"),
        ([put("./log/new", b"new"), touched("./log")], "1 new since (log/new)"),
        # While it was loaded: the directory gets its time after that.
        ([put("./log/new", b"new")], "1 new since (log/new)"),
        (
            [gone("./log/app.log"), gone("./log/app.log.1"), gone("./log"), touched(".")],
            "3 gone since (log, log/app.log, log/app.log.1)",
        ),
        ([put("./more", None), put("./more/c", b""), touched(".")], "2 new since (more, more/c)"),
        (ROTATED, "2 written since (log/app.log, log/app.log.1), 1 new since (log/app.log.2)"),
        (
            [put(f"./log/{number}", b"x") for number in range(7)],
            "7 new since (log/0, log/1, log/2, log/3, log/4, and 2 more)",
        ),
    ],
)
async def test_what_was_written_since_is_told_and_is_no_damage(
    snapshot: Proving, changes: Sequence[Change], told: str
) -> None:
    proof = await snapshot.proof(changed(restored(TREE), *changes))
    assert proof == Proof(written=(f"/docs: {told}",), compared=1)
    assert snapshot.pods.dumped == 2


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ([put("./a", b"firsT", BEFORE)], "a"),
        ([put("./a", b"cut", BEFORE + 0.9)], "a"),
        ([gone("./a")], "a"),
        ([gone("./quiet/b")], "quiet/b"),
        ([put("./quiet/c", b"", BEFORE)], "quiet/c"),
    ],
)
async def test_what_has_its_time_and_differs_came_wrong(
    snapshot: Proving, changes: Sequence[Change], wrong: str
) -> None:
    proof = await snapshot.proof(changed(restored(TREE), *changes))
    assert proof == Proof(differences=(f"/docs: {wrong} is not as it was captured",), compared=1)
    # What else is written to, and when, says nothing about it.
    both = changed(restored(TREE), *changes, put("./log/app.log", b"more"))
    assert (await snapshot.proof(both)).differences == proof.differences


async def test_a_file_that_is_written_while_it_is_read_is_no_damage(snapshot: Proving) -> None:
    """Its time is read before its content."""
    torn = changed(restored(TREE), put("./a", b"first and", BEFORE))
    whole = changed(restored(TREE), put("./a", b"first and last"))
    proof = await snapshot.proof(torn, torn, whole)
    assert proof == Proof(written=("/docs: 1 written since (a)",), compared=1)
    assert snapshot.pods.dumped == 3
    assert await snapshot.proof(torn, restored(TREE)) == Proof(compared=1)


@pytest.mark.parametrize(
    "found",
    [
        # A directory's time is nothing to go by here; and a file's is none that a write would give it.
        changed(filled_late(TREE), gone("./a")),
        changed(restored(TREE), put("./a", b"another", BEFORE - 1)),
        # No file has the time that it was given.
        {path: (each[0], SINCE) for path, each in changed(TREE, put("./a", b"another")).items()},
    ],
    ids=["busybox", "a time of its own", "no times are kept"],
)
async def test_where_times_say_nothing_neither_does_the_proof(snapshot: Proving, found: Tree) -> None:
    proof = await snapshot.proof(found)
    assert proof == Proof(
        untold=("/docs: 1 files differ, and their times do not tell since when",), compared=1
    )


async def test_busybox_gives_files_their_times(snapshot: Proving) -> None:
    found = filled_late(TREE)
    written = await snapshot.proof(changed(found, put("./a", b"another"), put("./log/new", b"new")))
    assert written.written == ("/docs: 1 written since (a), 1 new since (log/new)",)
    wrong = await snapshot.proof(changed(found, put("./a", b"wrong", BEFORE)))
    assert wrong.differences == ("/docs: a is not as it was captured",)


async def test_a_volume_that_is_as_it_was_is_read_once(snapshot: Proving) -> None:
    assert await snapshot.proof(restored(TREE)) == Proof(compared=1)
    assert snapshot.pods.dumped == 1


async def test_what_was_recorded_otherwise_than_it_was_captured_is_a_difference(snapshot: Proving) -> None:
    """No file differs from the archive, so no time explains it."""
    other = await taken(snapshot.directory / "other", changed(TREE, put("./a", b"another", BEFORE)))
    snapshot.stored = snapshot.stored.model_copy(update={"facts": other.stored.facts})
    proof = await snapshot.proof(restored(TREE))
    assert proof.differences == (
        "/docs: directory .: 1 files as recorded, but with other content: 7 bytes recorded, 5 found",
    )


async def test_more_files_than_can_be_remembered_are_not_told(
    snapshot: Proving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "MembersObserver", lambda: MembersObserver(most=5))
    found = changed(restored(TREE), put("./a", b"wrong", BEFORE))
    proof = await snapshot.proof(found)
    assert proof.differences == ()
    assert "of which some differ" in proof.untold[0]
    # Unless it is as it was by then.
    assert await snapshot.proof(found, restored(TREE)) == Proof(compared=1)


async def test_it_is_told_by_the_verification(database: Database, tmp_path: Path) -> None:
    tenant = await make_tenant(database)
    source = await running(database, tenant)
    taken_id = await snapshot_taken(database, tenant, source, component("db", DataStore.FILES, "/data"))
    operation = (await restore_new(database, tenant, taken_id)).operation
    await begin(database, operation.id)
    written = "/data: 1 written since (log)"
    output: Output = {"proved": 1, WRITTEN_SINCE: written}
    await record(
        database,
        operation.id,
        StepChange(step="load/db", state=StepState.RUNNING),
        StepChange(step="load/db", state=StepState.SUCCEEDED, output=output),
    )
    await finish(database, operation.id, OperationState.SUCCEEDED)
    starter = cast(WorkflowStarter, None)
    control = ControlVerification(database, ObjectStore(str(tmp_path)), KEYS, {}, starter)
    ended = await handed_out().run(control.await_operation, OperationWanted(operation_id=operation.id))
    assert ended == OperationEnded(told=f"db {written}")


def test_two_names_of_a_file_are_seen_alike_whichever_comes_first() -> None:
    seen = []
    for first, second in ("ab", "ba"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
            member = tarfile.TarInfo(f"./{first}")
            member.size, member.mtime = 3, BEFORE
            tar.addfile(member, io.BytesIO(b"one"))
            member = tarfile.TarInfo(f"./{second}")
            member.type, member.linkname, member.mtime = tarfile.LNKTYPE, f"./{first}", BEFORE
            tar.addfile(member)
        observer = MembersObserver()
        observer.write(buffer.getvalue())
        observer.facts()
        seen.append(observer.members)
    assert seen[0] == seen[1]
    assert seen[0][b"a"] == seen[0][b"b"]
    assert seen[0][b"a"].time == BEFORE
