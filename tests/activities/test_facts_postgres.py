"""Facts of an archive of pg_dump, of real databases."""

import itertools
import subprocess
from collections.abc import Callable

import pytest

from activities.snapshots.facts import ContentBroken
from tests.helpers.databases import PostgresServer, postgres_server
from tests.helpers.fact_streams import facts, names
from workflows.domain.blueprint_models import DataStore
from workflows.domain.snapshot_facts import Kind, differences

__all__ = ["postgres_server"]


@pytest.fixture(scope="module")
def dumped(postgres_server: PostgresServer) -> Callable[[str], bytes]:
    """Fill a database by a script and return its archive, as this machine's PostgreSQL writes it."""

    def dump(url: str) -> bytes:
        # A newer psql and pg_dump than the images of the cluster have.
        command = [
            *postgres_server.as_user,
            str(postgres_server.binaries / "pg_dump"),
            "-Fc",
            "-Z0",
            "-d",
            url,
        ]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    return dump


FILLED = """
CREATE TABLE t (id bigserial PRIMARY KEY, name text, raw bytea);
INSERT INTO t (name, raw) SELECT CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE E'ü\\.\n' || n END,
  decode(md5(n::text), 'hex') FROM generate_series(1, 500) n;
CREATE TABLE lines (line text); INSERT INTO lines VALUES (''), ('\\.'), (repeat('x', 3000000));
CREATE TABLE "em ""pty" (a int); CREATE INDEX ON t (name); CREATE VIEW v AS SELECT 1 AS x;
SELECT lo_from_bytea(4711, '\\x0001'), lo_from_bytea(4712, '\\x02');
"""


def filled(server: PostgresServer, *statements: str) -> str:
    """Make a database and return its URL."""
    url = server.new_database()
    command = [*server.as_user, str(server.binaries / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]
    script = ";".join((FILLED, *statements))
    subprocess.run(command, input=script.encode(), check=True, capture_output=True, timeout=60)
    return url


def test_a_postgres_database(postgres_server: PostgresServer, dumped: Callable[[str], bytes]) -> None:
    stream = dumped(filled(postgres_server))
    found = facts(stream, DataStore.POSTGRES, "database-0")
    assert names(found, Kind.TABLES) == {'public.em "pty': 0, "public.lines": 3, "public.t": 500}
    assert names(found, Kind.SEQUENCES) == {"public.t_id_seq": 500}
    assert names(found, Kind.LARGE_OBJECTS) == {"": 2}
    assert (
        names(found, Kind.DEFINITIONS).items() >= {"TABLE": 3, "INDEX": 1, "VIEW": 1, "CONSTRAINT": 1}.items()
    )
    for small in (1, 7, 1000):
        pieces = itertools.chain(itertools.repeat(small, 20_000 // small), itertools.repeat(65536))
        assert facts(stream, DataStore.POSTGRES, "database-0", pieces) == found
    for length in (*range(0, len(stream), len(stream) // 50), len(stream) - 1):
        with pytest.raises(ContentBroken):
            facts(stream[:length], DataStore.POSTGRES, "database-0")
    # Where one table's rows end, and nothing says that there are more.
    end = stream.index(b"\\.\n\n\n\0\0\0\0\0") + 10
    with pytest.raises(ContentBroken, match="before the data of"):
        facts(stream[:end], DataStore.POSTGRES, "database-0")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("UPDATE t SET name = name WHERE id % 2 = 0", None),
        (
            "UPDATE t SET raw = '' WHERE id = 7",
            "table public.t: 500 rows as recorded, but with other content",
        ),
        ("DELETE FROM t WHERE id = 7", "table public.t: 500 rows recorded, 499 found"),
        ("DELETE FROM lines WHERE line = ''", "table public.lines: 3 rows recorded, 2 found"),
        ("SELECT lo_put(4712, 0, '\\x03')", "large objects: 2 as recorded, but with other content"),
        (
            "SELECT lo_unlink(n) FROM generate_series(4711, 4712) n; "
            "SELECT lo_from_bytea(4712, '\\x0001'), lo_from_bytea(4711, '\\x02')",
            "large objects: 2 as recorded, but with other content",
        ),
        ("SELECT lo_unlink(4712)", "large objects: 2 recorded, 1 found"),
        ("SELECT nextval('t_id_seq')", "sequence public.t_id_seq: 500 recorded, 501 found"),
        ("DROP VIEW v", "definitions of kind VIEW: recorded with 1, not found"),
        (
            "ALTER INDEX t_name_idx RENAME TO x",
            "definitions of kind INDEX: 1 as recorded, but with other content",
        ),
    ],
)
def test_one_row_of_postgres_that_is_another(
    postgres_server: PostgresServer, dumped: Callable[[str], bytes], change: str, line: str | None
) -> None:
    recorded, found = (
        facts(dumped(filled(postgres_server, *statements)), DataStore.POSTGRES, "database-0")
        for statements in ((), (change,))
    )
    # Databases of this test have different names.
    lines = [each for each in differences(recorded, found) if "of kind DATABASE" not in each]
    assert [each.partition(": 2")[0] if "bytes" in each else each for each in lines] == (
        [line] if line else []
    )


RICH = """
CREATE SCHEMA app; COMMENT ON SCHEMA app IS 'of the app';
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TYPE app.pair AS (a int, b text);
CREATE TABLE app.parted (id int, at date, kind varchar(9) CHECK (kind IN ('a', 'b')), PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE app.parted_1 PARTITION OF app.parted FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE app.parted_2 PARTITION OF app.parted DEFAULT;
INSERT INTO app.parted SELECT n, date '2026-01-01' + n, 'a' FROM generate_series(1, 400) n;
CREATE TABLE app.made (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c app.pair, d app.positive,
  e float8 DEFAULT 0.1, f tsvector, g int4range, h money, i interval, j inet, k bit(3),
  EXCLUDE USING gist (g WITH &&));
INSERT INTO app.made (a, c, d, f, h, i, j, k)
  VALUES (1, ROW(1, 'x,"y'), 3, 'a:1 b', 4.5, '1 mon 2 days', '::1/128', B'101');
CREATE TABLE app.child () INHERITS (app.made); INSERT INTO app.child (a) VALUES (2);
CREATE UNLOGGED TABLE app.unlogged (x "char"); INSERT INTO app.unlogged VALUES ('\\');
CREATE MATERIALIZED VIEW app.summed AS SELECT count(*) FROM app.parted;
CREATE VIEW app.seen WITH (security_barrier) AS SELECT id, kind IN ('a', 'b') AS ok FROM app.parted;
CREATE RULE nothing AS ON DELETE TO app.child DO INSTEAD NOTHING;
CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE UPDATE ON app.made FOR EACH ROW EXECUTE FUNCTION app.f();
CREATE POLICY p ON app.made USING (a > 0); ALTER TABLE app.made ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS app.s ON a, d FROM app.made; CREATE PUBLICATION pub FOR TABLE app.made;
CREATE SEQUENCE app.down INCREMENT -1 CACHE 10; SELECT nextval('app.down'), nextval('app.down');
CREATE COLLATION app.other (provider = libc, locale = 'C'); CREATE CAST (app.pair AS text) WITH INOUT;
CREATE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = 0);
GRANT SELECT (a) ON app.made TO PUBLIC; REVOKE EXECUTE ON FUNCTION app.f FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
COMMENT ON COLUMN app.made.a IS E'two\nlines'; COMMENT ON LARGE OBJECT 4711 IS 'large';
UPDATE app.parted SET at = at - 200 WHERE id % 3 = 0;
CREATE INDEX ON app.parted (kind);
"""


def test_all_kinds_of_definitions_come_back_equal(
    postgres_server: PostgresServer, dumped: Callable[[str], bytes]
) -> None:
    """Nothing that a restore keeps is told as a difference."""
    stream = dumped(filled(postgres_server, RICH))
    url = postgres_server.new_database()
    command = [
        *postgres_server.as_user,
        str(postgres_server.binaries / "pg_restore"),
        "--exit-on-error",
        "-d",
        url,
    ]
    subprocess.run(command, input=stream, check=True, capture_output=True, timeout=60)
    recorded, found = (facts(each, DataStore.POSTGRES, "database-0") for each in (stream, dumped(url)))
    assert len(names(recorded, Kind.DEFINITIONS)) > 25
    assert names(recorded, Kind.SEQUENCES)["app.down"] == -10
    lines = differences(recorded, found)
    assert [each for each in lines if "of kind DATABASE" not in each] == []
