"""Dump, seal, store, open and restore: real servers, a real object store, and equal data in the end."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.secrets import DataKey
from activities.snapshots.archive import Archive, opened, seal_into
from activities.snapshots.frames import Component, ComponentKey, FileKey
from activities.storage.objects import ObjectStore
from clusters.errors import CommandFailed, NotFound, Unavailable
from clusters.gateway import Cluster
from clusters.objects import Manifest
from tests.clusters.conftest import IMAGE, Environment
from tests.helpers.waiting import eventually_async
from workflows.domain.blueprint_models import Service, Volume, VolumeType
from workflows.domain.load_words import without_content
from workflows.domain.snapshot_dump import (
    Part,
    databases_of,
    file_parts,
    mariadb_parts,
    postgres_databases,
    postgres_parts,
    redis_parts,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

REGISTRY = IMAGE.rpartition("/")[0]
PLANTED = "planted-8c1e"
DATA_KEY = DataKey(id="key_1", organization_id="org_1", key=bytes(range(32)))


@dataclass
class Ground:
    """A namespace, and somebody who may make pods in it: the worker may not, it makes what makes them."""

    environment: Environment
    admin: Cluster


@pytest.fixture
def ground(environment: Environment, admin: Cluster) -> Ground:
    """Where the servers of a test run."""
    return Ground(environment, admin)


@dataclass
class Server:
    """A pod of one container, without a volume: what it holds is in its own file system."""

    cluster: Cluster
    environment: Environment
    pod: str

    async def run(self, *command: str, stdin: bytes = b"") -> bytes:
        done = await self.cluster.execute(
            self.environment.name, self.pod, command, stdin=stdin, timeout=100, output_limit=1 << 22
        )
        assert done.exit_code == 0, done.stderr.decode()
        return done.stdout

    async def sql(self, script: str, database: str = "shop") -> str:
        """Run a script as the superuser by the socket, which asks for no password."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "boss", "-d", database]
        return (await self.run(*command, stdin=script.encode())).decode()

    async def answers(self, *command: str) -> bool:
        done = await self.cluster.execute(self.environment.name, self.pod, command, timeout=20)
        return done.exit_code == 0


async def server(
    ground: Ground, image: str, env: dict[str, str], ready: Sequence[str], user: int | None = None
) -> Server:
    """Start a pod and wait until a command in it succeeds."""
    name = f"s-{secrets.token_hex(3)}"
    container: Manifest = {
        "name": "main",
        "image": f"{REGISTRY}/{image}:1",
        "env": [{"name": key, "value": value} for key, value in env.items()],
    }
    if user is not None:
        container["securityContext"] = {"runAsUser": user}
        container["command"] = ["sleep", "1000"]
    await ground.admin.apply(
        ground.environment.manifest(
            "Pod", "v1", name, spec={"terminationGracePeriodSeconds": 1, "containers": [container]}
        )
    )
    started = Server(ground.environment.cluster, ground.environment, name)

    async def is_ready() -> bool:
        with contextlib.suppress(Unavailable, NotFound):  # the kubelet has not heard of it yet
            return await started.answers(*ready)
        return False

    await eventually_async(is_ready, f"{image} is ready", within=90)
    return started


async def stored(store: ObjectStore, source: Server, part: Part) -> tuple[Archive, FileKey, Component]:
    """Dump a part into the store."""
    component = Component("snap_1", part.key)
    key = ComponentKey.new(DATA_KEY, component).stream_key()
    async with source.cluster.output_of(
        source.environment.name, source.pod, part.dump, timeout=200
    ) as output:
        prefix = f"snapshots/org_1/snap_1/{part.key}"
        return await seal_into(store, prefix, output, key=key, component=component), key, component


async def restored(
    store: ObjectStore, target: Server, part: Part, kept: tuple[Archive, FileKey, Component]
) -> bytes:
    """Restore a part from the store."""
    archive, key, component = kept
    async with contextlib.aclosing(opened(store, archive, key=key, component=component)) as content:
        try:
            return await target.cluster.feed(
                target.environment.name,
                target.pod,
                part.restore,
                content,
                size=archive.digests.plain_bytes,
                timeout=200,
            )
        except CommandFailed as fault:
            raise AssertionError(f"{part.key}: {fault.stderr.decode()}") from fault


async def words_of_a_failed_load(target: Server, part: Part, dump: bytes) -> str:
    """Return what the tool says of a dump that cannot be loaded, and see that it quotes what was planted."""

    async def content() -> AsyncIterator[bytes]:
        yield dump

    with pytest.raises(CommandFailed) as caught:
        await target.cluster.feed(
            target.environment.name, target.pod, part.restore, content(), size=len(dump), timeout=60
        )
    assert PLANTED in caught.value.stderr.decode()
    return without_content(caught.value.stderr.decode())


async def postgres(ground: Ground, password: str) -> Server:
    env = {"POSTGRES_USER": "boss", "POSTGRES_DB": "shop", "POSTGRES_PASSWORD": password}
    ask = ["psql", "-h", "127.0.0.1", "-U", "boss", "-d", "shop", "-c", "select 1"]
    return await server(ground, "postgres", env, ask)


FILLED = r"""
CREATE ROLE app LOGIN PASSWORD 'apps''own' CONNECTION LIMIT 7;
CREATE ROLE "we ird ""x"" y" NOLOGIN;
GRANT app TO "we ird ""x"" y";
ALTER ROLE app SET search_path = shop, public;
ALTER DATABASE shop SET timezone = 'Pacific/Chatham';
CREATE SCHEMA shop AUTHORIZATION app;
SET ROLE app;
CREATE TYPE shop.state AS ENUM ('new', 'paid');
CREATE TABLE shop.parent (id bigserial PRIMARY KEY, name text, raw bytea, at timestamptz, state shop.state,
  doc jsonb, tags text[], amount numeric(20, 5));
CREATE TABLE shop.child (id int GENERATED ALWAYS AS IDENTITY, parent bigint NOT NULL REFERENCES shop.parent);
INSERT INTO shop.parent (name, raw, at, state, doc, tags, amount)
  SELECT CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'ünï\u4e2d\t\n\\.\r' || n
      ELSE repeat('x', n) END,
    CASE n % 3 WHEN 0 THEN NULL ELSE sha256(n::text::bytea) || '\x00ff0a'::bytea END,
    timestamptz '2026-01-01 00:00:00+00' + n * interval '1.000001 s',
    (ARRAY['new', 'paid', NULL])[n % 3 + 1]::shop.state,
    jsonb_build_object('n', n, 'z', null), ARRAY['a', NULL, n::text], n / 7.0
  FROM generate_series(1, 20000) n;
INSERT INTO shop.child (parent) SELECT id FROM shop.parent WHERE id % 2 = 0;
SELECT setval('shop.parent_id_seq', 777777);
CREATE VIEW shop.paid AS SELECT * FROM shop.parent WHERE state = 'paid';
CREATE FUNCTION shop.twice(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 2';
GRANT SELECT ON shop.parent TO "we ird ""x"" y";
RESET ROLE;
SELECT lo_from_bytea(4711, sha256('large') || '\x0001'::bytea);
SELECT lo_put(4711, 5000000, '\xdeadbeef');
"""

DIGEST = """
SELECT md5(string_agg(p::text, '|' ORDER BY id)), count(*) FROM shop.parent p;
SELECT md5(string_agg(c::text, '|' ORDER BY id)), count(*) FROM shop.child c;
SELECT last_value, is_called FROM shop.parent_id_seq;
SELECT nextval(pg_get_serial_sequence('shop.child', 'id')) - 1 FROM shop.child LIMIT 1;
SELECT md5(lo_get(4711)), length(lo_get(4711));
SELECT rolname, rolcanlogin, rolconnlimit, rolpassword, rolsuper FROM pg_authid
  WHERE rolname !~ '^(pg_|boss$)' ORDER BY 1;
SELECT roleid::regrole, member::regrole FROM pg_auth_members WHERE roleid > 16383 ORDER BY 1, 2;
SELECT r.rolname, d.datname, setconfig FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase ORDER BY 1, 2;
SELECT relname, relkind, relowner::regrole, relacl FROM pg_class
  WHERE relnamespace = 'shop'::regnamespace ORDER BY 1;
SELECT shop.twice(21), count(*) FROM shop.paid;
"""


async def test_postgres_comes_back_equal(ground: Ground, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(postgres(ground, "first"), postgres(ground, "second"))
    # It looks like a connection string, and has all that has a meaning in one or in a shell.
    odd = "dbname='x \\ \"$y`"
    quoted = '"' + odd.replace('"', '""') + '"'
    await source.sql(f"CREATE DATABASE {quoted};")
    asked = "user=boss dbname='" + odd.replace("\\", "\\\\").replace("'", "\\'") + "'"
    in_it = '\\connect "' + asked.replace('"', '""') + '"\n'
    await source.sql(in_it + "CREATE TABLE t (a int); INSERT INTO t VALUES (42);")
    await source.sql(
        "CREATE DATABASE stencil IS_TEMPLATE true; CREATE DATABASE cold ALLOW_CONNECTIONS false;"
    )
    await source.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (17);", database="stencil")
    await source.sql(FILLED)
    databases = databases_of(await source.run(*postgres_databases()))
    assert sorted(databases.open) == sorted(("postgres", "shop", "stencil", odd))
    assert databases.closed == ("cold",)
    parts = postgres_parts(databases.open)
    kept = [await stored(store, source, part) for part in parts]
    digest = await source.sql(DIGEST)
    # In the new environment there is something already, and a restore that was cut has left half of it.
    await target.sql("CREATE TABLE leftover (a int); CREATE ROLE app;")
    for _ in range(2):
        for part, archive in zip(parts, kept, strict=True):
            await restored(store, target, part, archive)
        assert await target.sql(DIGEST) == digest
        await target.sql("DROP TABLE shop.child")
    assert await target.sql("SELECT to_regclass('leftover') IS NULL") == "t\n"
    assert await target.sql(in_it + "SELECT a FROM t") == "42\n"
    assert await target.sql("CREATE DATABASE of_it TEMPLATE stencil") == ""
    assert await target.sql("SELECT a FROM t", database="of_it") == "17\n"
    assert await target.sql("SELECT datname FROM pg_database WHERE datistemplate ORDER BY 1") == (
        "stencil\ntemplate0\ntemplate1\n"
    )
    login = "host=127.0.0.1 user=boss dbname=shop"
    # By the pod's own address, where a password is asked for: the new environment's.
    for password, works in (("second", True), ("first", False)):
        login_as = (
            f'PGPASSWORD={password} psql "{login.replace("127.0.0.1", "$(hostname -i)")}" -c "select 1"'
        )
        assert await target.answers("sh", "-c", login_as) is works
    # A rule that nothing but the source's own setting lets this row pass.
    await source.sql("CREATE DATABASE picky;")
    await source.sql(
        "CREATE TABLE t (a text CONSTRAINT never "
        "  CHECK (coalesce(current_setting('a.pass', true), '') = 'yes')); "
        f"SET a.pass = 'yes'; INSERT INTO t VALUES ('{PLANTED}');",
        database="picky",
    )
    _, picky = postgres_parts(["picky"])
    said = await words_of_a_failed_load(target, picky, await source.run(*picky.dump))
    assert "never" in said
    assert PLANTED not in said


async def test_postgres_under_a_writer_has_no_child_without_parent(ground: Ground, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(postgres(ground, "a"), postgres(ground, "b"))
    # Without a foreign key, so that nothing but the dump's own point keeps them together.
    await source.sql("CREATE TABLE parent (id int); CREATE TABLE child (parent int);")
    for table in ("child", "parent"):
        await source.sql(f"INSERT INTO {table} SELECT n FROM generate_series(-50000, -1) n;")
    script = (
        'n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); echo "BEGIN; INSERT INTO parent VALUES ($n); '
        'INSERT INTO child VALUES ($n); COMMIT;"; done | psql -q -U boss -d shop'
    )
    writing = asyncio.create_task(source.run("sh", "-c", script))

    async def has_begun() -> bool:
        return int(await source.sql("SELECT count(*) FROM parent WHERE id > 0")) > 100

    try:
        await eventually_async(has_begun, "the writer writes")
        part = postgres_parts(["shop"])[1]
        archive = await stored(store, source, part)
        after = int(await source.sql("SELECT max(id) FROM parent"))
    finally:
        await source.run("touch", "/tmp/stop")
        await writing
    await restored(store, target, part, archive)
    found = await target.sql(
        "SELECT count(*) FROM child c LEFT JOIN parent p ON p.id = c.parent WHERE p.id IS NULL; "
        "SELECT count(*) FROM parent p LEFT JOIN child c ON p.id = c.parent WHERE c.parent IS NULL; "
        "SELECT max(id) FROM parent;"
    )
    children, parents, last = (int(line) for line in found.split())
    assert (children, parents) == (0, 0)
    assert 100 <= last <= after


async def test_a_database_that_cannot_be_dumped_leaves_nothing(ground: Ground, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    source = await postgres(ground, "a")
    with pytest.raises(CommandFailed) as caught:
        await stored(store, source, postgres_parts(["no-such-database"])[1])
    assert b"no-such-database" in caught.value.stderr
    assert [each async for each in store.objects_below("snapshots")] == []


MARIA_FILLED = r"""
CREATE DATABASE `od``d 'n ame`;
CREATE TABLE `od``d 'n ame`.t (a int); INSERT INTO `od``d 'n ame`.t VALUES (42);
CREATE DATABASE `--no-data`; CREATE TABLE `--no-data`.t (a int); INSERT INTO `--no-data`.t VALUES (17);
CREATE USER other@'%' IDENTIFIED BY 'others'; CREATE ROLE reader; GRANT reader TO other@'%';
USE shop;
CREATE TABLE parent (id bigint AUTO_INCREMENT PRIMARY KEY, name text CHARACTER SET utf8mb4, raw longblob,
  at timestamp(6) NULL, doc json, amount decimal(20, 5), flag bit(3)) ENGINE=InnoDB;
CREATE TABLE child (id int AUTO_INCREMENT PRIMARY KEY, parent bigint NOT NULL,
  FOREIGN KEY (parent) REFERENCES parent (id)) ENGINE=InnoDB;
INSERT INTO parent (name, raw, at, doc, amount, flag)
  SELECT CASE seq % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN CONCAT('ünï中\t\n\\', '\'', seq)
      ELSE REPEAT('x', seq % 300) END,
    IF(seq % 3, CONCAT(UNHEX('00FF0A1A22275C'), UNHEX(SHA2(seq, 256))), NULL),
    '2026-01-01' + INTERVAL seq SECOND, JSON_OBJECT('n', seq), seq / 7, seq % 8 FROM seq_1_to_20000;
INSERT INTO child (parent) SELECT id FROM parent WHERE id % 2 = 0;
ALTER TABLE parent AUTO_INCREMENT = 777777;
CREATE TABLE told (id int PRIMARY KEY, word text) WITH SYSTEM VERSIONING;
INSERT INTO told VALUES (1, 'one'), (2, 'two'); UPDATE told SET word = 'more'; DELETE FROM told WHERE id = 1;
CREATE SEQUENCE counter START WITH 100; DO NEXTVAL(counter);
CREATE VIEW halves AS SELECT * FROM parent WHERE id % 2 = 0;
GRANT SELECT ON shop.parent TO reader; SET DEFAULT ROLE reader FOR other@'%';
DELIMITER |
CREATE FUNCTION twice(x int) RETURNS int DETERMINISTIC BEGIN RETURN x * 2; END|
CREATE TRIGGER no_name BEFORE INSERT ON parent FOR EACH ROW BEGIN
  IF NEW.name = 'no' THEN SET NEW.name = 'yes'; END IF; END|
CREATE EVENT yearly ON SCHEDULE EVERY 1 YEAR DO BEGIN DELETE FROM child WHERE id < 0; END|
"""

MARIA_DIGEST = """
SET SESSION group_concat_max_len = 4000000000;
SELECT MD5(GROUP_CONCAT(CONCAT_WS('|', id, QUOTE(name), QUOTE(HEX(raw)), QUOTE(at), doc, amount, HEX(flag))
  ORDER BY id)), COUNT(*) FROM parent;
SELECT MD5(GROUP_CONCAT(CONCAT(id, ':', parent) ORDER BY id)), COUNT(*) FROM child;
SELECT next_not_cached_value FROM counter;
SELECT table_name, engine, auto_increment, table_collation FROM information_schema.tables
  WHERE table_schema = 'shop' ORDER BY 1;
SELECT twice(21), COUNT(*) FROM halves;
SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = 'shop';
SELECT event_name, event_definition, interval_value FROM information_schema.events;
SELECT user, host, JSON_VALUE(priv, '$.authentication_string'), JSON_VALUE(priv, '$.default_role')
  FROM mysql.global_priv WHERE user IN ('other', 'reader') ORDER BY 1;
SELECT user, host, role FROM mysql.roles_mapping WHERE user NOT IN ('root', '') ORDER BY 1;
SELECT user, table_name, table_priv FROM mysql.tables_priv WHERE user = 'reader';
SELECT a FROM `od``d 'n ame`.t;
SELECT a FROM `--no-data`.t;
SELECT id, word, row_start, row_end FROM told FOR SYSTEM_TIME ALL ORDER BY 1, 3; SELECT COUNT(*) FROM told;
"""

# Written in hexadecimal it is larger than what the server takes.
LARGE_ROW = "CREATE TABLE large (raw longblob); INSERT INTO large VALUES (REPEAT('x', 10000000));"


async def mariadb(ground: Ground, password: str) -> Server:
    env = {
        "MARIADB_ROOT_PASSWORD": f"{password}'\\",
        "MARIADB_DATABASE": "shop",
        "MARIADB_USER": "app",
        "MARIADB_PASSWORD": f"{password} of 'app\\",
    }
    ask = 'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb -h 127.0.0.1 -u root -e "SELECT 1"'
    return await server(ground, "mariadb", env, ["sh", "-c", ask])


async def test_mariadb_comes_back_equal(ground: Ground, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(mariadb(ground, "first"), mariadb(ground, "second"))
    client = 'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb -h 127.0.0.1 -u root -N -B shop'
    await source.run("sh", "-c", client, stdin=MARIA_FILLED.encode())
    await source.run("sh", "-c", client, stdin=LARGE_ROW.encode())
    await source.run("mkdir", "/var/lib/mysql/lost+found")
    assert b"#mysql50#lost+found" in await source.run("sh", "-c", client, stdin=b"SHOW DATABASES;")
    parts = mariadb_parts()
    kept = [await stored(store, source, part) for part in parts]
    digest = await source.run("sh", "-c", client, stdin=MARIA_DIGEST.encode())
    assert len(digest.splitlines()) == 23
    await target.run("sh", "-c", client, stdin=b"CREATE TABLE leftover (a int); CREATE TABLE child (b int);")
    for _ in range(2):
        for part, archive in zip(parts, kept, strict=True):
            await restored(store, target, part, archive)
        assert await target.run("sh", "-c", client, stdin=MARIA_DIGEST.encode()) == digest
        await target.run("sh", "-c", client, stdin=b"DROP TABLE child;")
    assert b"leftover" not in await target.run("sh", "-c", client, stdin=b"SHOW TABLES;")
    assert b"mysql50" not in await target.run("sh", "-c", client, stdin=b"SHOW DATABASES;")
    left = b"SELECT MD5(raw) = MD5(REPEAT('x', 10000000)), @@GLOBAL.max_allowed_packet FROM large;"
    assert await target.run("sh", "-c", client, stdin=left) == b"1\t16777216\n"
    # The passwords of this environment still hold, and somebody else's came along.
    count = "-h 127.0.0.1 -N -B -e 'SELECT COUNT(*) FROM shop.parent'"
    for who in ('MYSQL_PWD="$MARIADB_PASSWORD" mariadb -u app', "MYSQL_PWD=others mariadb -u other"):
        assert await target.run("sh", "-c", f"{who} {count}") == b"20000\n"
    for broken in (
        f"INSERT INTO parent VALUES ('{PLANTED}');",
        f"INSERT INTO parent SELECT '{PLANTED}' FROM;",
    ):
        said = await words_of_a_failed_load(target, parts[0], f"USE shop;\n{broken}\n".encode())
        assert "line 2" in said
        assert PLANTED not in said


async def test_redis_comes_back_equal(ground: Ground, tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(
        *(
            server(ground, "redis", {"REDIS_PASSWORD": word}, ["redis-cli", "-a", word, "ping"])
            for word in ("first", "second")
        )
    )
    fill = (
        "for i = 0, 5000 do redis.call('set', 'k' .. i, string.rep(i, 20)) end "
        "redis.call('set', 'bin', '\\0\\255\\n') redis.call('rpush', 'list', 'a', '', 'b') "
        "redis.call('hset', 'h', 'f', 'v') redis.call('zadd', 'z', 1.5, 'm') "
        "redis.call('sadd', 's', 'x', 'y') "
        "redis.call('set', 'ttl', 'x', 'EX', 100000) redis.call('xadd', 'stream', '1-1', 'f', 'v') "
        "redis.call('select', 3) redis.call('set', 'other', 'database')"
    )
    await source.run("redis-cli", "-e", "--no-auth-warning", "-a", "first", "eval", fill, "0")
    await target.run("redis-cli", "--no-auth-warning", "-a", "second", "set", "leftover", "x")

    (part,) = redis_parts()
    archive = await stored(store, source, part)
    for _ in range(2):
        # As an attempt leaves it that nothing could end in good order: the replica of a server that is gone.
        await target.run("redis-cli", "--no-auth-warning", "-a", "second", "replicaof", "127.0.0.1", "16379")
        await restored(store, target, part, archive)
    expected = (await source.run("sh", "-c", CHECK.replace("WORD", "first"))).split()
    assert len(expected) > 5
    assert (await target.run("sh", "-c", CHECK.replace("WORD", "second"))).split() == expected
    role = await target.run("redis-cli", "--no-auth-warning", "-a", "second", "role")
    assert role.split()[0] == b"master"
    assert await target.run("redis-cli", "--no-auth-warning", "-a", "second", "config", "get", "masterauth")
    assert await target.run("sh", "-c", "ls -d /tmp/tmp.* 2>/dev/null || true") == b""


CHECK = r"""
ask() { redis-cli --no-auth-warning -a WORD "$@"; }
ask dbsize; ask -n 3 get other; ask get k4711 ; ask get bin; ask lrange list 0 -1; ask hgetall h
ask zrange z 0 -1 withscores; ask smembers s | sort; ask xrange stream - +; ask get leftover
[ "$(ask ttl ttl)" -gt 1000 ] && echo has-ttl
"""


async def test_a_redis_file_that_is_damaged_changes_nothing(
    ground: Ground,
) -> None:
    target = await server(ground, "redis", {}, ["redis-cli", "ping"])
    await target.run("redis-cli", "set", "kept", "x")
    (part,) = redis_parts()

    async def damaged() -> AsyncIterator[bytes]:
        yield b"REDIS0010" + os.urandom(1000)

    with pytest.raises(CommandFailed) as caught:
        await target.cluster.feed(
            target.environment.name, target.pod, part.restore, damaged(), size=1009, timeout=60
        )
    assert caught.value.stderr
    assert await target.run("redis-cli", "get", "kept") == b"x\n"


@pytest.mark.parametrize("image", ["tiny", "postgres"], ids=["busybox", "gnu"])
async def test_files_come_back_equal(ground: Ground, tmp_path: Path, image: str) -> None:
    store = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(
        *(server(ground, image, {}, ["true"], user=65534) for _ in range(2))
    )
    volumes = (Volume(name="data", mount_path="/tmp/da ta", type=VolumeType.PVC, size="1Gi"),)
    (part,) = file_parts(Service(name="files", image="x", volumes=volumes))
    await source.run(
        "sh",
        "-c",
        'mkdir -p "$0/deep/er" && cd "$0" && printf "ü\\n" >"ünï cødé" && : >empty && ln -s deep link && '
        "head -c 30000000 /dev/urandom >deep/er/big && chmod 640 deep/er/big && touch -- '-rf' && "
        "mkdir hollow && chmod 700 hollow && echo hidden >.hidden",
        "/tmp/da ta",
    )
    old = 'mkdir -p "$0" && echo old >"$0/old" && echo old >"$0/.old"'
    await target.run("sh", "-c", old, "/tmp/da ta")
    archive = await stored(store, source, part)
    await restored(store, target, part, archive)
    look = (
        'cd "$0" && find . -type f -exec sha256sum {} + | sort && find . -type l -exec readlink {} \\; && '
        'find . ! -type l -exec stat -c "%n %a %u %s %Y %F" {} + | grep -v directory | sort'
    )
    there = await source.run("sh", "-c", look, "/tmp/da ta")
    assert len(there.splitlines()) > 8
    assert await target.run("sh", "-c", look, "/tmp/da ta") == there
