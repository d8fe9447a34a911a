"""Facts of real dumps: equal after a restore, and not once one row, key or file is another."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.snapshots.archive import Archive, opened, seal_into
from activities.snapshots.facts import facts_of, observed, observer_of, readable
from activities.snapshots.facts.tar import MembersObserver, Seen
from activities.snapshots.facts.written import Differing, differing
from activities.snapshots.frames import Component, ComponentKey, FileKey
from activities.storage.objects import ObjectStore
from clusters.gateway import Cluster
from tests.clusters.conftest import Environment
from tests.clusters.test_snapshot_dump import (
    DATA_KEY,
    FILLED,
    MARIA_FILLED,
    Ground,
    Server,
    mariadb,
    postgres,
    restored,
    server,
)
from tests.helpers.waiting import eventually_async
from workflows.domain.blueprint_models import DataStore, Service, Volume, VolumeType
from workflows.domain.snapshot_dump import Part, file_parts, mariadb_parts, postgres_parts, redis_parts
from workflows.domain.snapshot_facts import Facts, Kind, differences

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture
def place(environment: Environment, admin: Cluster) -> Ground:
    """Where the servers of a test run."""
    return Ground(environment, admin)


@dataclass
class Snapshot:
    """Parts that were taken, with the facts of each."""

    store: ObjectStore
    kind: DataStore
    parts: Sequence[Part]
    kept: list[tuple[Archive, FileKey, Component]]
    facts: list[Facts]

    async def restore(self, target: Server) -> None:
        for part, archive in zip(self.parts, self.kept, strict=True):
            await restored(self.store, target, part, archive)

    async def differences(self, target: Server) -> list[str]:
        """Dump a server into nothing and say what is not as it was."""
        lines: list[str] = []
        for part, recorded in zip(self.parts, self.facts, strict=True):
            async with target.cluster.output_of(
                target.environment.name, target.pod, part.dump, timeout=200
            ) as output:
                lines += differences(recorded, await facts_of(output, observer_of(self.kind, part.key)))
        return lines

    async def check_archives(self) -> None:
        """Every archive reads to its end, and has the facts that were recorded."""
        for part, recorded, (archive, key, component) in zip(self.parts, self.facts, self.kept, strict=True):
            async with contextlib.aclosing(
                opened(self.store, archive, key=key, component=component)
            ) as content:
                assert await readable(content, observer_of(self.kind, part.key), recorded) == ()
            assert not recorded.unread
            assert len(recorded.model_dump_json()) < 4096

    def tally(self, kind: Kind, name: str) -> int:
        """Return what was counted under a name."""
        entries = [
            entry
            for facts in self.facts
            for tally in facts.tallies
            if tally.kind is kind
            for entry in tally.entries
        ]
        return next(each.count for each in entries if each.name == name)


async def taken(store: ObjectStore, kind: DataStore, source: Server, parts: Sequence[Part]) -> Snapshot:
    """Dump parts into the store and record their facts on the way."""
    snapshot = Snapshot(store, kind, parts, [], [])
    for part in parts:
        component = Component("snap_1", part.key)
        key = ComponentKey.new(DATA_KEY, component).stream_key()
        observer = observer_of(kind, part.key)
        async with source.cluster.output_of(
            source.environment.name, source.pod, part.dump, timeout=200
        ) as output:
            archive = await seal_into(
                store,
                f"snapshots/{part.key}",
                observed(output, observer),
                key=key,
                component=component,
            )
        snapshot.kept.append((archive, key, component))
        snapshot.facts.append(observer.facts())
    return snapshot


async def test_postgres(place: Ground, tmp_path: Path) -> None:
    source, target = await asyncio.gather(postgres(place, "first"), postgres(place, "second"))
    await source.sql(FILLED)
    # Updates leave the rows in another order than that in which they are restored.
    await source.sql("UPDATE shop.parent SET name = 'changed' WHERE id % 7 = 0;")
    snapshot = await taken(
        ObjectStore(str(tmp_path)), DataStore.POSTGRES, source, postgres_parts(["shop", "postgres"])
    )
    assert snapshot.tally(Kind.TABLES, "shop.parent") == 20000
    await snapshot.check_archives()
    await snapshot.restore(target)
    assert await snapshot.differences(target) == []
    for change, found in (
        (
            "UPDATE shop.parent SET amount = amount + 1 WHERE id = 4711",
            ["table shop.parent: 20000 rows as recorded, but with other content"],
        ),
        ("UPDATE shop.parent SET amount = amount - 1 WHERE id = 4711", []),
        ("DELETE FROM shop.child WHERE id = 17", ["table shop.child: 10000 rows recorded, 9999 found"]),
        (
            "DROP TABLE shop.child; ALTER SEQUENCE shop.parent_id_seq RESTART WITH 5",
            [
                "table shop.child: recorded with 10000 rows, not found",
                "sequence shop.child_id_seq: recorded with 10000, not found",
                "sequence shop.parent_id_seq: 777777 recorded, 5 found",
                "definitions of kind FK CONSTRAINT: recorded with 1, not found",
            ],
        ),
    ):
        await target.sql(change)
        lines = await snapshot.differences(target)
        assert lines[: len(found)] == found
        assert len(lines) == len(found) or "DROP" in change
    await snapshot.restore(target)
    await target.sql("SELECT lo_put(4711, 4000000, '\\x01'); CREATE ROLE more;")
    assert await snapshot.differences(target) == [
        "roles and rights, ALTER ROLE: 4 statements recorded, 5 found",
        "roles and rights, CREATE ROLE: 3 statements recorded, 4 found",
        "large objects: 1 as recorded, but with other content",
    ]


async def test_postgres_under_a_writer(place: Ground, tmp_path: Path) -> None:
    """What is recorded is what the dump holds, not what was there a moment before or after."""
    source, target = await asyncio.gather(postgres(place, "a"), postgres(place, "b"))
    await source.sql("CREATE TABLE t (id int); INSERT INTO t SELECT n FROM generate_series(-300000, -1) n;")
    script = (
        'n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); echo "INSERT INTO t VALUES ($n);"; done '
        "| psql -q -U boss -d shop"
    )
    writing = asyncio.create_task(source.run("sh", "-c", script))

    async def has_begun() -> bool:
        return int(await source.sql("SELECT count(*) FROM t WHERE id > 0")) > 100

    try:
        await eventually_async(has_begun, "the writer writes")
        snapshot = await taken(
            ObjectStore(str(tmp_path)), DataStore.POSTGRES, source, postgres_parts(["shop"])[1:]
        )
        after = int(await source.sql("SELECT count(*) FROM t"))
    finally:
        await source.run("touch", "/tmp/stop")
        await writing
    await snapshot.restore(target)
    assert await snapshot.differences(target) == []
    found = int(await target.sql("SELECT count(*) FROM t"))
    assert 300100 < found == snapshot.tally(Kind.TABLES, "public.t") < after
    assert len(await snapshot.differences(source)) == 1


async def test_mariadb(place: Ground, tmp_path: Path) -> None:
    source, target = await asyncio.gather(mariadb(place, "first"), mariadb(place, "second"))
    client = 'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb -h 127.0.0.1 -u root -N -B shop'
    await source.run("sh", "-c", client, stdin=MARIA_FILLED.encode())
    snapshot = await taken(ObjectStore(str(tmp_path)), DataStore.MYSQL, source, mariadb_parts())
    assert snapshot.tally(Kind.TABLES, "shop.parent") == 20000
    assert snapshot.tally(Kind.TABLES, "od`d 'n ame.t") == 1
    assert (snapshot.tally(Kind.TABLES, "shop.told"), snapshot.tally(Kind.HISTORY, "shop.told")) == (1, 4)
    await snapshot.check_archives()
    for _ in range(2):
        await snapshot.restore(target)
        assert await snapshot.differences(target) == []
    for change, found in (
        (
            b"UPDATE parent SET flag = flag ^ 1 WHERE id = 4711;",
            ["table shop.parent: 20000 rows as recorded, but with other content"],
        ),
        (b"UPDATE parent SET flag = flag ^ 1 WHERE id = 4711;", []),
        (
            b"DELETE FROM child WHERE id = 17; DELETE HISTORY FROM told;",
            [
                "table shop.child: 10000 rows recorded, 9999 found",
                "table with its history shop.told: 4 rows recorded, 1 found",
            ],
        ),
        (
            b"DROP TRIGGER no_name; ALTER TABLE parent AUTO_INCREMENT = 777778; DROP USER other@'%';"
            # A history of transactions is one that the tool refuses: then there is none of any table.
            b"CREATE TABLE ids (a int, s bigint unsigned GENERATED ALWAYS AS ROW START,"
            b" e bigint unsigned GENERATED ALWAYS AS ROW END,"
            b" PERIOD FOR SYSTEM_TIME (s, e)) ENGINE=InnoDB WITH SYSTEM VERSIONING;",
            [
                "table shop.child: 10000 rows recorded, 9999 found",
                "table shop.ids: not recorded, found with 0 rows",
                "table with its history shop.told: recorded with 4 rows, not found",
                "sequence shop.parent (next id): 777777 recorded, 777778 found",
                "definitions of kind TRIGGER: recorded with 1, not found",
                "roles and rights, CREATE USER: 5 statements recorded, 4 found",
            ],
        ),
    ):
        await target.run("sh", "-c", client, stdin=change)
        lines = await snapshot.differences(target)
        assert lines[:3] == found[:3]
        assert set(found) <= set(lines)


async def test_redis(place: Ground, tmp_path: Path) -> None:
    # The second server of a restore has not these limits, and keeps the collections in another form.
    limits = (
        "hash-max-listpack-entries 2000",
        "zset-max-listpack-entries 2000",
        "set-max-intset-entries 2000",
    )
    source, target = await asyncio.gather(
        *(server(place, "redis", {}, ["redis-cli", "ping"]) for _ in range(2))
    )
    for each in (source, target):
        for limit in limits:
            await each.run("redis-cli", "config", "set", *limit.split())
    fill = (
        "for i = 0, 5000 do redis.call('set', 'k' .. i, string.rep(i, 20)) end "
        "redis.call('set', 'bin', '\\0\\255\\n') redis.call('rpush', 'list', 'a', '', 'b', '-70000') "
        "for i = 0, 900 do redis.call('hset', 'h', 'f' .. i, string.rep('v', i)) "
        "redis.call('zadd', 'z', i / 7, 'm' .. i) redis.call('sadd', 's', 'e' .. i) "
        "redis.call('sadd', 'ints', i * i) redis.call('rpush', 'long', string.rep(i, i)) end "
        "redis.call('zadd', 'z', '-inf', 'least') redis.call('zadd', 'few', 1.5, 'x', 2, 'y') "
        "redis.call('set', 'ttl', 'x', 'EX', 100000) redis.call('set', 'soon', 'x', 'PX', 1) "
        "redis.call('xadd', 'stream', '1-1', 'f', 'v') redis.call('xgroup', 'create', 'stream', 'g', '0') "
        "redis.call('xreadgroup', 'group', 'g', 'me', 'count', 1, 'streams', 'stream', '>') "
        "redis.call('select', 3) redis.call('set', 'other', 'database')"
    )
    await source.run("redis-cli", "-e", "eval", fill, "0")
    library = "#!lua name=own\nredis.register_function('f', function() return 1 end)"
    await source.run("redis-cli", "-x", "function", "load", stdin=library.encode())
    snapshot = await taken(ObjectStore(str(tmp_path)), DataStore.REDIS, source, redis_parts())
    assert snapshot.tally(Kind.KEYS, "0") == 5010
    assert snapshot.tally(Kind.EXPIRING_KEYS, "0") == 1
    await snapshot.check_archives()
    for _ in range(2):
        await snapshot.restore(target)
        assert await snapshot.differences(target) == []
    for change, found in (
        (["hset", "h", "f17", "w"], ["database 0: 5010 keys as recorded, but with other content"]),
        (["hset", "h", "f17", "v" * 17], []),
        (["zadd", "z", "1.25", "m17"], ["database 0: 5010 keys as recorded, but with other content"]),
        (["del", "bin"], ["database 0: 5010 keys recorded, 5009 found"]),
        (
            ["persist", "ttl"],
            [
                "database 0: 5010 keys as recorded, but with other content",
                "database 0: recorded with 1 keys that expire, not found",
            ],
        ),
    ):
        await target.run("redis-cli", *change)
        assert await snapshot.differences(target) == found


async def members(server: Server, part: Part) -> dict[bytes, Seen]:
    """Dump a volume into nothing and return what is in it."""
    observer = MembersObserver()
    async with server.cluster.output_of(
        server.environment.name, server.pod, part.dump, timeout=200
    ) as output:
        await facts_of(output, observer)
    return observer.members


@pytest.mark.parametrize("image", ["tiny", "postgres"], ids=["busybox", "gnu"])
async def test_files(place: Ground, tmp_path: Path, image: str) -> None:
    source, target = await asyncio.gather(*(server(place, image, {}, ["true"], user=65534) for _ in range(2)))
    volumes = (Volume(name="data", mount_path="/tmp/da ta", type=VolumeType.PVC, size="1Gi"),)
    parts = file_parts(Service(name="files", image="x", volumes=volumes))
    long = "long" * 40
    await source.run(
        "sh",
        "-c",
        'mkdir -p "$0/deep/er" && cd "$0" && printf "ü\\n" >"ünï cødé" && : >empty && ln -s deep link && '
        "head -c 3000000 /dev/urandom >deep/er/big && chmod 640 deep/er/big && touch -- '-rf' && "
        "mkdir hollow && chmod 700 hollow && echo hidden >.hidden && "
        f"mkdir {long} && echo x >{long}/{long} && "
        "for n in 9 4 1 7 3 8 2; do echo $n >deep/$n; done && "
        "find . ! -type l -exec touch -d '2026-01-02 03:04:05' {} +",
        "/tmp/da ta",
    )
    await target.run("mkdir", "-m", "700", "-p", "/tmp/da ta")
    snapshot = await taken(ObjectStore(str(tmp_path)), DataStore.FILES, source, parts)
    assert snapshot.tally(Kind.FILES, "deep") == 10
    await snapshot.check_archives()
    captured = await members(source, parts[0])
    await snapshot.restore(target)
    assert await snapshot.differences(target) == []
    restored_as = await members(target, parts[0])
    assert differing(captured, restored_as, 0) == Differing()
    # What a restore of this tar keeps of times is what a verdict on them stands on.
    files = [path for path, seen in captured.items() if seen.kind == "file"]
    assert [path for path in files if captured[path].time != restored_as[path].time] == []
    directories = {path for path, seen in captured.items() if seen.kind == "directory"}
    kept = {path for path in directories if captured[path].time == restored_as[path].time}
    assert kept == ({b"hollow"} if image == "tiny" else directories)

    async def changed(script: str) -> list[str]:
        await target.run("sh", "-c", f'cd "$0" && {script}', "/tmp/da ta")
        return await snapshot.differences(target)

    other = "files as recorded, but with other content"
    assert await changed("echo 5 >deep/3") == [f"directory deep: 10 {other}"]
    found = await members(target, parts[0])
    assert differing(captured, found, 0) == Differing(written=frozenset({b"deep/3"}))
    await target.run("touch", "-d", "2026-01-02 03:04:05", "/tmp/da ta/deep/3")
    found = await members(target, parts[0])
    assert differing(captured, found, 0) == Differing(came_wrong=frozenset({b"deep/3"}))
    assert await changed("echo 3 >deep/3") == []
    assert await changed("rm deep/7") == ["directory deep: 10 files recorded, 9 found"]
    seven = frozenset({b"deep/7"})
    gone = Differing(open=seven) if image == "tiny" else Differing(gone=seven)
    assert differing(captured, await members(target, parts[0]), 0) == gone
    assert await changed("echo 7 >deep/7; chmod 600 empty") == [f"directory .: 5 {other}"]
    assert await changed("chmod 644 empty; mv deep/9 deep/10") == [f"directory deep: 10 {other}"]
    assert await changed("mv deep/10 deep/9; rmdir hollow") == [
        "directory hollow: recorded with 1 files, not found"
    ]


async def test_files_with_two_names(place: Ground, tmp_path: Path) -> None:
    """Which of two names is the link is chance: it says nothing about what was restored."""
    source, target = await asyncio.gather(
        *(server(place, "postgres", {}, ["true"], user=65534) for _ in range(2))
    )
    volumes = (Volume(name="data", mount_path="/tmp/data", type=VolumeType.PVC, size="1Gi"),)
    parts = file_parts(Service(name="files", image="x", volumes=volumes))
    await source.run("sh", "-c", "mkdir /tmp/data && cd /tmp/data && echo x >a && ln a b && echo y >c")
    await target.run("mkdir", "/tmp/data")
    snapshot = await taken(ObjectStore(str(tmp_path)), DataStore.FILES, source, parts)
    await snapshot.restore(target)
    assert await snapshot.differences(target) == []
    await target.run("sh", "-c", "cd /tmp/data && rm a && ln b a && echo n >n && mv n c")
    assert await snapshot.differences(target) == ["contents of files: 2 as recorded, but with other content"]
    await target.run("sh", "-c", "cd /tmp/data && echo y >c && cp b n && mv n b")
    (line,) = await snapshot.differences(target)
    assert line.startswith("files with more than one name (hard links) recorded, none found")
