"""Masking on the way into a real PostgreSQL: what comes out is masked, whole, and nowhere clear."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.snapshots.masking_postgres import PostgresMasking
from activities.snapshots.postgres_archive import INT_BYTES, number, read_head, written
from tests.unit.test_init_sql_postgres import Server, serve
from workflows.domain.masking import ColumnRule, DumpUnreadable, ServiceMasking, Survey, check_surveys
from workflows.domain.masking import MaskingRefused as Refused
from workflows.domain.snapshot_dump import postgres_parts

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Server, Path]]:
    """A server, and where its files are."""
    with tempfile.TemporaryDirectory(prefix="perdure-masking-") as directory:
        for server in serve(Path(directory)):
            yield server, Path(directory)


@pytest.fixture
def server(place: tuple[Server, Path]) -> Server:
    return place[0]


def psql(server: Server, script: str, database: str = "shop") -> str:
    done = subprocess.run(
        [
            "psql",
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "app",
            "-d",
            database,
        ],
        input=script.encode(),
        env={**server.env, "PGPASSWORD": server.env["POSTGRES_PASSWORD"]},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def dumped(server: Server, database: str = "shop") -> bytes:
    part = postgres_parts([database])[1]
    return subprocess.run(part.dump, env=server.env, capture_output=True, check=True, timeout=60).stdout


def masked(dump: bytes, *rules: ColumnRule, key: bytes = KEY, piece: int = 65536) -> bytes:
    masking = PostgresMasking("shop", ServiceMasking(columns=rules), key)
    out = b"".join(masking.write(dump[start : start + piece]) for start in range(0, len(dump), piece))
    out += masking.finish()
    check_surveys(ServiceMasking(columns=rules), [Survey(len(out), masking.matched, masking.faults)])
    return out


def restored(server: Server, dump: bytes) -> str:
    """Restore over the database; what is said on stderr."""
    part = postgres_parts(["shop"])[1]
    done = subprocess.run(
        part.restore, input=dump, env=server.env, capture_output=True, check=False, timeout=60
    )
    return "" if done.returncode == 0 else done.stderr.decode()


def fresh(server: Server, script: str) -> bytes:
    psql(server, "DROP DATABASE IF EXISTS shop WITH (FORCE)", "postgres")
    psql(server, "CREATE DATABASE shop", "postgres")
    psql(server, script)
    return dumped(server)


def rule(table: str, column: str, how: str, **options: object) -> ColumnRule:
    return ColumnRule.model_validate({"table": table, "column": column, "how": how, **options})


SHOP = r"""
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE TYPE state AS ENUM ('new', 'paid');
CREATE DOMAIN address AS varchar(80) CHECK (VALUE LIKE '%@%');
CREATE TABLE "Us,er(s" (id serial PRIMARY KEY, email address NOT NULL UNIQUE, "na me" text, phone char(20),
  note text DEFAULT 'a, (b) ''c', raw bytea, key uuid, born date, state state, tags text[], doc jsonb,
  amount numeric(10, 2), shout text GENERATED ALWAYS AS (upper(email)) STORED, CHECK (id > 0), rank bigint);
INSERT INTO "Us,er(s" (email, "na me", phone, note, raw, key, born, state, tags, doc, amount, rank)
  SELECT 'clear' || n || '@secret.test', CASE n % 3 WHEN 0 THEN NULL ELSE E'ünï\t\\cle\nar' || n END,
    'clear' || n, CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN '\N' WHEN 2 THEN '\.' ELSE 'kept' END,
    sha256(('clear' || n)::bytea), ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
    date '2000-01-01' + n, 'new', ARRAY['clear', NULL], '{"clear": 1}', n, n::bigint * n * n - 1000
  FROM generate_series(1, 5000) n;
CREATE TABLE orders (id bigint PRIMARY KEY, "user" integer REFERENCES "Us,er(s", email text);
INSERT INTO orders SELECT n, (n % 5000) + 1, 'clear' || (n % 5000) + 1 || '@secret.test'
  FROM generate_series(1, 8000) n;
CREATE TABLE audit (what text);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO audit VALUES (NEW.email); RETURN NEW; END $$;
CREATE TRIGGER noting BEFORE INSERT OR UPDATE ON "Us,er(s" FOR EACH ROW EXECUTE FUNCTION noted();
CREATE VIEW names AS SELECT "na me" FROM "Us,er(s";
CREATE MATERIALIZED VIEW emails AS SELECT email FROM "Us,er(s";
SELECT lo_from_bytea(4711, sha256('large'));
"""
USERS = 'public."Us,er(s"'
FULL = (
    rule(USERS, "id", "hash"),
    rule("orders", "user", "hash"),
    rule(USERS, "email", "fake", kind="email"),
    rule("shop.public.orders", "email", "fake", kind="email"),
    rule(USERS, "na me", "mask", keepLast=2),
    rule(USERS, "phone", "fake", kind="phone"),
    rule(USERS, "raw", "hash"),
    rule(USERS, "key", "hash"),
    rule(USERS, "born", "redact"),
    rule(USERS, "state", "nullify"),
    rule(USERS, "tags", "redact"),
    rule(USERS, "doc", "redact"),
    rule(USERS, "amount", "redact"),
    rule(USERS, "rank", "hash"),
)
JOINED = """
SELECT count(*), count(DISTINCT u.id), bool_and(u.email = o.email)
  FROM orders o JOIN "Us,er(s" u ON u.id = o.user
"""


@pytest.mark.parametrize("piece", [1 << 20, 911])
def test_what_comes_back_is_masked_and_still_joins(server: Server, piece: int) -> None:
    dump = fresh(server, SHOP)
    before = psql(
        server, 'SELECT note, count(*) FROM "Us,er(s" GROUP BY 1 ORDER BY 1; SELECT md5(lo_get(4711))'
    )
    out = masked(dump, *FULL, piece=piece)
    assert b"clear1" in dump
    # But for the name of the trigger's column and the like, nothing of it is left.
    assert b"clear" not in out.replace(b"perdure", b"")
    assert b"secret.test" not in out
    assert restored(server, out) == ""
    assert psql(server, JOINED).split("|") == ["8000", "5000", "t\n"]
    assert (
        psql(server, 'SELECT note, count(*) FROM "Us,er(s" GROUP BY 1 ORDER BY 1; SELECT md5(lo_get(4711))')
        == before
    )
    assert (
        psql(
            server,
            'SELECT count(*), count(state), count("na me"), count(DISTINCT raw), count(DISTINCT key), '
            "count(DISTINCT rank), min(length(raw)), min(born), max(born), min(tags), max(doc::text), "
            "max(amount) "
            'FROM "Us,er(s"',
        )
        == "5000|0|3334|5000|5000|5000|32|1970-01-01|1970-01-01|{}|{}|0.00\n"
    )
    assert (
        psql(server, "SELECT bool_and(shout = upper(email)), bool_and(phone LIKE '+999%') FROM \"Us,er(s\"")
        == "t|t\n"
    )
    assert (
        psql(server, """SELECT bool_and("na me" ~ '^[*]+..$') FROM "Us,er(s" WHERE "na me" IS NOT NULL""")
        == "t\n"
    )
    assert (
        psql(
            server, "SELECT count(*) FROM audit; SELECT count(*) FROM emails WHERE email LIKE '%example.com'"
        )
        == "0\n5000\n"
    )
    # Ids that are given out from now on are new ones.
    for _ in range(3):
        psql(
            server,
            """INSERT INTO "Us,er(s" (email) SELECT 'x' || random() || '@y' FROM generate_series(1, 500)""",
        )


def test_the_same_key_gives_the_same_and_another_gives_others(server: Server) -> None:
    dump = fresh(server, SHOP)
    rules = FULL[:4]
    assert masked(dump, *rules) == masked(dump, *rules, piece=10_000)
    other = masked(dump, *rules, key=bytes(32))
    emails = 'SELECT email FROM "Us,er(s"'
    assert restored(server, masked(dump, *rules)) == ""
    mine = set(psql(server, emails).split())
    assert restored(server, other) == ""
    assert psql(server, JOINED).split("|") == ["8000", "5000", "t\n"]
    assert not mine & set(psql(server, emails).split())


def test_without_rules_nothing_changes(server: Server) -> None:
    dump = fresh(server, SHOP)
    assert masked(dump) == dump
    assert masked(dump, piece=777) == dump


PARTED = """
CREATE TABLE logs (id int NOT NULL, at date NOT NULL, who text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE logs_old PARTITION OF logs FOR VALUES FROM ('2000-01-01') TO ('2020-01-01')
  PARTITION BY HASH (id);
CREATE TABLE logs_old_0 PARTITION OF logs_old FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE logs_old_1 PARTITION OF logs_old FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE logs_new (who text, id int NOT NULL, at date NOT NULL);
ALTER TABLE logs ATTACH PARTITION logs_new FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
INSERT INTO logs SELECT n, date '2010-01-01' + n, 'clear' || n FROM generate_series(1, 6000) n;
CREATE TABLE base (a int, who text);
CREATE TABLE more (b int) INHERITS (base);
INSERT INTO base VALUES (1, 'clear'); INSERT INTO more VALUES (1, 'clearer', 2);
"""


def test_partitions_and_heirs_have_the_rules_of_what_they_belong_to(server: Server) -> None:
    dump = fresh(server, PARTED)
    out = masked(dump, rule("public.logs", "who", "hash"), rule("base", "who", "hash"))
    assert b"clear" not in out
    assert restored(server, out) == ""
    assert psql(server, "SELECT count(DISTINCT who), count(*) FROM logs") == "6000|6000\n"
    assert psql(server, "SELECT count(DISTINCT who) FROM base") == "2\n"


REFUSED = r"""
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TYPE state AS ENUM ('new'); CREATE DOMAIN must AS text NOT NULL;
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL UNIQUE, short varchar(10), code text, state state,
  must must, amount numeric, tags text[], big text GENERATED ALWAYS AS (upper(email)) STORED);
CREATE UNIQUE INDEX ON users (code);
CREATE TABLE orders ("user" int REFERENCES users, label text);
CREATE TABLE seats (room int, "wh,o" text, note text, UNIQUE (room, "wh,o"));
CREATE UNIQUE INDEX ON seats (note COLLATE "C" DESC, room);
CREATE VIEW seen AS SELECT * FROM users;
CREATE TABLE logs (at date, who text) PARTITION BY LIST (who);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES IN ('a');
"""


def test_all_that_does_not_fit_is_named_at_once(server: Server) -> None:
    dump = fresh(server, REFUSED)
    rules = (
        rule("users", "id", "hash"),  # orders.user refers to it
        rule("users", "email", "nullify"),
        rule("users", "short", "hash"),
        rule("users", "code", "redact"),
        rule("users", "state", "hash"),
        rule("users", "must", "nullify"),
        rule("users", "amount", "hash"),
        rule("users", "tags", "fake", kind="name"),
        rule("users", "big", "hash"),
        rule("seen", "code", "hash"),
        rule("logs", "who", "hash"),
        rule("users", "mail", "hash"),
        rule("nowhere", "x", "hash"),
        rule("orders", "label", "redact"),
        rule("public.orders", "label", "hash"),
        rule("seats", "wh,o", "redact"),
        rule("seats", "note", "fake", kind="name"),
    )
    with pytest.raises(Refused) as caught:
        masked(dump, *rules)
    said: dict[object, str] = {}
    for fault in caught.value.faults:
        assert fault.path[0] == "columns"
        said.setdefault(fault.path[1], fault.message)
    assert "orders.user refers to shop.public.users.id, and has no rule" in said[0]
    assert "users.email is NOT NULL" in said[1]
    assert "too short" in said[2]
    assert "code is unique" in said[3]
    assert "state is of type public.state" in said[4]
    assert "users.must is NOT NULL" in said[5]
    assert "amount is of type numeric" in said[6]
    assert "text[]" in said[7]
    assert "big is generated" in said[8]
    assert "no table seen" in said[9]
    assert "which partition" in said[10]
    assert "users has no column mail" in said[11]
    assert "no table nowhere" in said[12]
    assert 13 not in said
    assert "label has a rule already" in said[14]
    # What two columns keep apart together, the one that is made the same does no more.
    assert "is unique, alone or with others" in said[15]
    assert "is unique, alone or with others" in said[16]


def test_both_ends_of_a_key_have_to_be_masked_alike(server: Server) -> None:
    dump = fresh(
        server,
        REFUSED + "INSERT INTO users VALUES (7, 'e', 's', 'c', 'new', 'm'); INSERT INTO orders VALUES (7)",
    )
    for rules in (
        [rule("users", "id", "hash")],
        [rule("orders", "user", "hash")],
        [rule("orders", "user", "redact"), rule("users", "id", "hash")],
    ):
        with pytest.raises(Refused, match="refers to"):
            masked(dump, *rules)
    assert (
        restored(server, masked(dump, rule("orders", "user", "nullify"), rule("users", "id", "hash"))) == ""
    )
    assert psql(server, 'SELECT count(*), count("user") FROM orders') == "1|0\n"


def test_texts_that_are_equal_without_case_stay_equal(server: Server) -> None:
    script = (
        "CREATE EXTENSION citext; CREATE TABLE a (e citext PRIMARY KEY, c char(50)); "
        "CREATE TABLE b (e citext, c text); INSERT INTO a VALUES ('Clear@X', 'pad'); "
        "INSERT INTO b VALUES ('cLEAR@x', 'pad'); ALTER TABLE b ADD FOREIGN KEY (e) REFERENCES a"
    )
    dump = fresh(server, script)
    out = masked(dump, *(rule(table, column, "hash") for table in "ab" for column in "ec"))
    assert b"lear@" not in out.lower()
    assert restored(server, out) == ""
    assert psql(server, "SELECT count(*) FROM a JOIN b ON a.e = b.e AND a.c = b.c") == "1\n"


def cut_up(archive: bytes, size: int) -> tuple[bytes, bytes]:
    """The archive with its data in chunks of another size, and all that is in the chunks."""
    position = read_head(archive).size
    out, content = bytearray(archive[:position]), bytearray()
    while position < len(archive):
        assert archive[position] == 1, "an archive without large objects"
        out += archive[position : position + 1 + INT_BYTES]
        position += 1 + INT_BYTES
        rows = bytearray()
        while chunk := number(archive, position):
            rows += archive[position + INT_BYTES : position + INT_BYTES + chunk]
            position += INT_BYTES + chunk
        position += INT_BYTES
        for start in range(0, len(rows), size):
            piece = rows[start : start + size]
            out += written(len(piece)) + piece
        out += written(0)
        content += rows
    return bytes(out), bytes(content)


@pytest.mark.parametrize("size", [1, 13, 4096])
def test_rows_may_be_cut_anywhere_into_chunks(server: Server, size: int) -> None:
    dump = fresh(server, PARTED)
    rules = (rule("logs", "who", "hash"), rule("base", "who", "hash"))
    expected = cut_up(masked(dump, *rules), 1)[1]
    found = masked(cut_up(dump, size)[0], *rules, piece=1000)
    assert cut_up(found, 1)[1] == expected
    assert b"clear" not in found
    assert restored(server, found) == ""
    assert psql(server, "SELECT count(DISTINCT who), count(*) FROM logs") == "6000|6000\n"


def test_identities_and_names_in_capitals(server: Server) -> None:
    script = """
        CREATE SCHEMA "Od.d"; CREATE DOMAIN "Od.d".inner_d AS varchar(60);
        CREATE DOMAIN outer_d AS "Od.d".inner_d;
        CREATE TABLE "Od.d"."T t" ("I d" int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
          "W" outer_d DEFAULT 'clear');
        INSERT INTO "Od.d"."T t" ("W") SELECT 'clear' || n FROM generate_series(1, 40000) n;
    """
    dump = fresh(server, script)
    out = masked(dump, rule('"Od.d"."T t"', "I d", "hash"), rule('"T t"', "W", "hash"))
    assert b"clear1" not in out
    assert restored(server, out) == ""
    more = 'INSERT INTO "Od.d"."T t" ("W") SELECT n FROM generate_series(1, 1000) n;'
    counted = (
        'SELECT count(*), count(DISTINCT "I d"), min(length("W")) FROM "Od.d"."T t" WHERE length("W") > 5'
    )
    assert psql(server, more + counted) == "40000|40000|32\n"


def test_a_dump_that_is_cut_or_unknown_is_not_taken_for_one(server: Server) -> None:
    dump = fresh(server, PARTED)
    rules = (rule("logs", "who", "hash"),)
    for size in (0, 4, 100, len(dump) // 2, len(dump) - 1):
        with pytest.raises(DumpUnreadable):
            masked(dump[:size], *rules)
    for odd in (b"x" + dump, dump[:6] + b"\x63" + dump[7:], dump + b"\x09\0\0\0\0\0"):
        with pytest.raises(DumpUnreadable):
            masked(odd, *rules)


def test_nothing_clear_is_in_the_servers_files(place: tuple[Server, Path]) -> None:
    server, directory = place
    with tempfile.TemporaryDirectory(prefix="perdure-masking-") as other:
        dump = fresh(server, SHOP)
        for target in serve(Path(other)):
            out = masked(dump, *FULL)
            # Cut once, then done again.
            assert restored(target, out[: len(out) // 2])
            assert restored(target, out) == ""
            psql(target, "CHECKPOINT")
            for word, found in (("secret.test", False), ("example.com", True)):
                looked = subprocess.run(
                    ["grep", "-r", "-l", "-a", word, other], capture_output=True, text=True, check=False
                )
                assert bool(looked.stdout) is found, looked.stdout
        seen = subprocess.run(["grep", "-r", "-q", "-a", "secret.test", str(directory)], check=False)
        assert seen.returncode == 0
