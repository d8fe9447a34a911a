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
from activities.storage.objects import ObjectStore
from clusters.errors import CommandFailed
from clusters.gateway import Cluster
from tests.clusters.conftest import Environment
from tests.clusters.test_snapshot_dump import DATA_KEY, Ground, Server, mariadb, postgres, stored
from workflows.domain.blueprint_models import DataStore
from workflows.domain.masking import ColumnRule, MaskingRefused, ServiceMasking, check_surveys
from workflows.domain.snapshot_dump import Part, mariadb_parts, postgres_parts

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
    # New rows find room.
    more = b"INSERT INTO people (email) SELECT CONCAT('x', seq) FROM seq_1_to_500;"
    await target.run("sh", "-c", client, stdin=more)
