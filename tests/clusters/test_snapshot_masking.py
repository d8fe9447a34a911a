"""Restore masked: real servers, a real store, and no clear value anywhere in the new server's files."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from activities.secrets import DataKey
from activities.snapshots.archive import Archive, opened
from activities.snapshots.frames import Component, FileKey
from activities.snapshots.masking import masked, survey
from activities.snapshots.masking_mariadb import MariadbMasking
from activities.storage.objects import ObjectStore
from clusters.errors import CommandFailed
from clusters.gateway import Cluster
from tests.clusters.conftest import Environment
from tests.clusters.test_snapshot_dump import DATA_KEY, Ground, Server, mariadb, postgres, server, stored
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import (
    ColumnRule,
    KeyRule,
    MaskHow,
    MaskingRefused,
    ServiceMasking,
    check_surveys,
)
from workflows.domain.snapshot_dump import Part, mariadb_parts, postgres_parts, redis_parts

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

Kept = tuple[Archive, FileKey, Component]
OTHER_KEY = DataKey(id="key_2", organization_id="org_2", key=bytes(32))


@pytest.fixture
def ground(environment: Environment, admin: Cluster) -> Ground:
    """Where the servers of a test run."""
    return Ground(environment, admin)


def rule(table: str, column: str, how: str, **options: object) -> ColumnRule:
    return ColumnRule.model_validate({"table": table, "column": column, "how": how, **options})


async def restored(
    objects: ObjectStore,
    target: Server,
    kind: DataStore,
    parts: Sequence[tuple[Part, Kept]],
    rules: ServiceMasking,
    *,
    key: DataKey = DATA_KEY,
) -> None:
    """Restore all parts of a component as a restore does."""
    secret = key.masking_key()

    def content(kept: Kept) -> AsyncIterator[bytes]:
        archive, file_key, component = kept
        return opened(objects, archive, key=file_key, component=component)

    surveys = [await survey(kind, part, rules, secret, content(kept)) for part, kept in parts]
    check_surveys(rules, surveys)
    for (part, kept), found in zip(parts, surveys, strict=True):
        size = found.size
        async with contextlib.aclosing(masked(kind, part, rules, secret, content(kept))) as stream:
            try:
                where = target.environment.name
                await target.cluster.feed(where, target.pod, part.restore, stream, size=size, timeout=200)
            except CommandFailed as fault:
                raise AssertionError(f"{part.key}: {fault.stderr.decode()}") from fault


SHOP = r"""
CREATE TABLE people (id serial PRIMARY KEY, email text NOT NULL UNIQUE, name text, raw bytea, note text);
INSERT INTO people (email, name, raw, note)
  SELECT 'qclearq' || n || '@secret.test', CASE n % 3 WHEN 0 THEN NULL ELSE E'ünclear\u4e2d\t\n\\' || n END,
    sha256('qclearq'::bytea) || n::text::bytea, 'kept' || n FROM generate_series(1, 20000) n;
CREATE TABLE orders (id int PRIMARY KEY, person int NOT NULL REFERENCES people, email text);
INSERT INTO orders SELECT n, n, 'qclearq' || n || '@secret.test' FROM generate_series(1, 20000) n;
CREATE INDEX ON people (name);
"""
POSTGRES_RULES = ServiceMasking(
    columns=(
        rule("people", "id", "hash"),
        rule("public.orders", "person", "hash"),
        rule("people", "email", "fake", kind="email"),
        rule("orders", "email", "fake", kind="email"),
        rule("shop.public.people", "name", "hash"),
        rule("people", "raw", "hash"),
    )
)
JOINED = """SELECT count(*), count(DISTINCT p.id), count(DISTINCT p.name), count(DISTINCT p.raw),
  bool_and(p.email = o.email), min(p.note) FROM people p JOIN orders o ON o.person = p.id"""


async def traces(target: Server, directory: str, word: str) -> bytes:
    """The files of a server in which a word is found."""
    return await target.run("sh", "-c", 'grep -r -l -a -- "$1" "$0" || [ $? = 1 ]', directory, word)


async def test_postgres_is_masked_before_it_is_there(ground: Ground, tmp_path: Path) -> None:
    objects = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(postgres(ground, "first"), postgres(ground, "second"))
    await source.sql(SHOP)
    parts = [(part, await stored(objects, source, part)) for part in postgres_parts(["shop"])]
    at = (await source.sql("SHOW data_directory")).strip()
    assert await traces(source, at, "secret.test")

    wrong = ServiceMasking(columns=(*POSTGRES_RULES.columns, rule("people", "emial", "hash")))
    await target.sql("CREATE TABLE before (a int)")
    with pytest.raises(MaskingRefused, match="people has no column emial"):
        await restored(objects, target, DataStore.POSTGRES, parts, wrong)
    assert await target.sql("SELECT count(*) FROM before") == "0\n"

    for _ in range(2):
        await restored(objects, target, DataStore.POSTGRES, parts, POSTGRES_RULES)
        assert await target.sql(JOINED) == "20000|20000|13334|20000|t|kept1\n"
    first = await target.sql("SELECT email FROM people ORDER BY 1")
    await target.sql("CHECKPOINT")
    for word in ("secret.test", "qclearq", "nclear", DATA_KEY.masking_key().hex()):
        assert await traces(target, at, word) == b""
    assert await traces(target, at, "kept777")
    # A second server that is masked with the same key joins with the first, another organisation's does not.
    await restored(objects, target, DataStore.POSTGRES, parts, POSTGRES_RULES, key=OTHER_KEY)
    assert await target.sql(JOINED) == "20000|20000|13334|20000|t|kept1\n"
    other = await target.sql("SELECT email FROM people ORDER BY 1")
    assert not set(first.split()) & set(other.split())


MARIA = r"""
CREATE TABLE people (id int AUTO_INCREMENT PRIMARY KEY, email varchar(100) NOT NULL UNIQUE, name text,
  raw blob, shout varchar(100) AS (UPPER(email)) STORED,
  quiet varchar(100) AS (LOWER(email)), note text, doc json)
  DEFAULT CHARSET=utf8mb4;
INSERT INTO people (email, name, raw, note, doc)
  SELECT CONCAT('Qclearq', seq, '@secret.test'), IF(seq % 3, CONCAT('ünclear中\t\n\\', '\'', seq), NULL),
    CONCAT(UNHEX('00FF0A1A22275C'), 'qclearq', seq), CONCAT('kept', seq), JSON_OBJECT('who', 'qclearq')
    FROM seq_1_to_20000;
CREATE TABLE orders (id int PRIMARY KEY, person int NOT NULL, email varchar(100),
  FOREIGN KEY (person) REFERENCES people (id))
  DEFAULT CHARSET=utf8mb4;
INSERT INTO orders SELECT id, id, LOWER(email) FROM people;
CREATE TABLE audit (what text);
DELIMITER |
CREATE TRIGGER noting BEFORE INSERT ON people FOR EACH ROW BEGIN
  INSERT INTO audit VALUES (NEW.email);
END|
"""
MARIA_RULES = ServiceMasking(
    columns=(
        rule("people", "id", "hash"),
        rule("shop.orders", "person", "hash"),
        rule("people", "email", "fake", kind="email"),
        rule("orders", "email", "fake", kind="email"),
        rule("people", "name", "hash"),
        rule("people", "raw", "hash"),
        rule("people", "doc", "redact"),
    )
)
TORN = """
SET FOREIGN_KEY_CHECKS=0;
USE `shop`;
DROP TABLE IF EXISTS c, p;
CREATE TABLE `c` (
  `p` int(11) DEFAULT NULL,
  CONSTRAINT `k` FOREIGN KEY (`p`) REFERENCES `p` (`id`)
);
CREATE TABLE `p` (
  `id` int(11) NOT NULL,
  PRIMARY KEY (`id`)
);
INSERT INTO `c` VALUES
(NULL),
(CHILD);
INSERT INTO `p` VALUES
(1);
-- Dump completed
"""
MARIA_JOINED = b"""SELECT COUNT(*), COUNT(DISTINCT p.id), COUNT(DISTINCT p.name), COUNT(DISTINCT p.raw),
  MIN(p.email = o.email), MIN(p.note), MIN(p.shout = UPPER(p.email)), MIN(p.quiet = LOWER(p.email)),
  (SELECT COUNT(*) FROM audit) FROM people p JOIN orders o ON o.person = p.id;"""


async def test_mariadb_is_masked_before_it_is_there(ground: Ground, tmp_path: Path) -> None:
    objects = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(mariadb(ground, "first"), mariadb(ground, "second"))
    client = (
        'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --default-character-set=utf8mb4 '
        "-h 127.0.0.1 -u root -N -B shop"
    )
    await source.run("sh", "-c", client, stdin=MARIA.encode())
    parts = [(part, await stored(objects, source, part)) for part in mariadb_parts()]
    at = (await source.run("sh", "-c", client, stdin=b"SELECT @@datadir;")).decode().strip()
    assert await traces(source, at, "secret.test")

    wrong = ServiceMasking(columns=(*MARIA_RULES.columns, rule("peeple", "email", "hash")))
    await target.run("sh", "-c", client, stdin=b"CREATE TABLE earlier (a int);")
    with pytest.raises(MaskingRefused, match="no table peeple"):
        await restored(objects, target, DataStore.MYSQL, parts, wrong)
    assert b"earlier" in await target.run("sh", "-c", client, stdin=b"SHOW TABLES;")

    # A log of all statements: what it does not see was not said.
    log = b"SET GLOBAL general_log_file = 'all.log'; SET GLOBAL general_log = ON;"
    await target.run("sh", "-c", client, stdin=log)
    expected = b"20000\t20000\t13334\t20000\t1\tkept1\t1\t1\t0\n"
    for _ in range(2):
        await restored(objects, target, DataStore.MYSQL, parts, MARIA_RULES)
        assert await target.run("sh", "-c", client, stdin=MARIA_JOINED) == expected
    first = await target.run("sh", "-c", client, stdin=b"SELECT email FROM people;")
    for word in ("secret.test", "SECRET.TEST", "qclearq", "Qclearq", "nclear", DATA_KEY.masking_key().hex()):
        assert await traces(target, at, word) == b""
    assert await traces(target, at, "kept777")
    assert b"all.log" in await traces(target, at, "example.com")
    await restored(objects, target, DataStore.MYSQL, parts, MARIA_RULES, key=OTHER_KEY)
    assert await target.run("sh", "-c", client, stdin=MARIA_JOINED) == expected
    other = await target.run("sh", "-c", client, stdin=b"SELECT email FROM people;")
    assert not set(first.split()) & set(other.split())
    # The dump had the server's checks off: what does not hold is found all the same.
    keys = ServiceMasking(columns=(rule("p", "id", "hash"), rule("c", "p", "hash")))
    for child, holds in ((1, True), (2, False)):
        masking = MariadbMasking(keys, DATA_KEY.masking_key())
        torn = masking.write(TORN.replace("CHILD", str(child)).encode()) + masking.finish()
        done = await target.cluster.execute(
            target.environment.name, target.pod, ["sh", "-c", client], stdin=torn, timeout=60
        )
        assert (done.exit_code == 0) is holds
        assert (b"shop.c: a foreign key to shop.p does not hold after masking" in done.stderr) is not holds
    # New rows find room.
    more = b"INSERT INTO people (email) SELECT CONCAT('x', seq) FROM seq_1_to_500;"
    await target.run("sh", "-c", client, stdin=more)


REDIS_FILLED = """
for i = 1, 5000 do redis.call('set', 'session:' .. i, 'qclearq' .. i) end
redis.call('set', 'session:long', string.rep('qclearq', 5000), 'EX', 100000) redis.call('set', 'session:n', 7)
redis.call('set', 'kept', 'kept777') redis.call('set', 'gone', 'qclearq')
redis.call('rpush', 'list', 'a', '', 'b') redis.call('rpush', 'gone:list', 'qclearq')
redis.call('hset', 'h', 'f', 'v') redis.call('zadd', 'z', 1.5, 'm') redis.call('sadd', 's', 'x', 'y')
for i = 1, 500 do
  redis.call('hset', 'bigh', 'f' .. i, string.rep('v', 100))
  redis.call('zadd', 'bigz', i, string.rep('m', 100) .. i)
  redis.call('sadd', 'bigs', string.rep('x', 100) .. i)
  redis.call('rpush', 'bigl', string.rep('x', 1000) .. i)
  redis.call('sadd', 'ints', i)
end
for i = 1, 300 do redis.call('xadd', 'stream', i .. '-1', 'f', 'v') end
redis.call('xgroup', 'create', 'stream', 'g', '0')
redis.call('xreadgroup', 'group', 'g', 'me', 'count', '20', 'streams', 'stream', '>')
redis.call('select', 3) redis.call('set', 'session:other', 'qclearq') redis.call('set', 'kept', 'three')
"""
REDIS_LOOK = r"""
ask() { redis-cli --no-auth-warning -a "$REDIS_PASSWORD" "$@"; }
for key in kept list h z s bigh bigz bigs bigl ints stream; do ask debug digest-value "$key"; done
ask xpending stream g; ask -n 3 get kept
"""


async def test_redis_is_masked_before_it_is_there(ground: Ground, tmp_path: Path) -> None:
    objects = ObjectStore(str(tmp_path))
    source, target = await asyncio.gather(
        *(
            server(ground, "redis", {"REDIS_PASSWORD": word}, ["redis-cli", "-a", word, "ping"])
            for word in ("first", "second")
        )
    )
    ask = 'redis-cli --no-auth-warning -a "$REDIS_PASSWORD" "$@"'
    await source.run("sh", "-c", ask, "sh", "eval", REDIS_FILLED, "0")
    (part,) = redis_parts()
    parts = [(part, await stored(objects, source, part))]
    rules = ServiceMasking(
        keys=(KeyRule(keys="session:*", how=MaskHow.HASH), KeyRule(keys="gone*", how=MaskHow.DELETE))
    )
    wrong = ServiceMasking(keys=(KeyRule(keys="*", how=MaskHow.REDACT),))
    with pytest.raises(MaskingRefused, match="matches a stream"):
        await restored(objects, target, DataStore.REDIS, parts, wrong)
    for _ in range(2):
        await restored(objects, target, DataStore.REDIS, parts, rules)
        expected = await source.run("sh", "-c", REDIS_LOOK)
        assert len(expected.splitlines()) > 12
        assert await target.run("sh", "-c", REDIS_LOOK) == expected
    names = ("session:1", "session:long", "session:n", "gone", "gone:list")
    values = (await target.run("sh", "-c", ask, "sh", "mget", *names)).decode().split("\n")
    assert [len(each) for each in values] == [32, 32, 32, 0, 0, 0]
    assert values[0] != values[1]
    assert await target.run("sh", "-c", ask, "sh", "dbsize") == b"5013\n"
    assert int(await target.run("sh", "-c", ask, "sh", "ttl", "session:long")) > 1000
    other = await target.run("sh", "-c", ask, "sh", "-n", "3", "get", "session:other")
    assert other.decode().strip().isalnum()
    # What it would write down itself.
    await target.run("sh", "-c", 'redis-cli --no-auth-warning -a "$REDIS_PASSWORD" --rdb /tmp/it')
    assert await traces(target, "/tmp/it", "qclearq") == b""
    assert await traces(target, "/tmp/it", "kept777")
