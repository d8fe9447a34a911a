"""Reading SQL scripts, and what the commands that run them look like. No server."""

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.helpers.examples import examples
from workflows.domain.blueprint import BlueprintInvalid, parse_blueprint
from workflows.domain.blueprint_models import DataStore
from workflows.domain.init_sql import InitOutcome, InitScriptInvalid, Mark, check_sql, outcome, sql_init
from workflows.domain.init_sql_scan import statements

ALLOWED = {
    "plain": "create table t(id int); insert into t values (1)",
    "words in text": "insert into t values ('commit; rollback; -- no'), ('it''s; begin;')",
    "words in names": 'create table "commit;" ("begin" int); insert into "commit;" values (1);',
    "words in comments": "-- commit;\n/* begin; /* nested */ rollback; */ select 1;",
    "comments after operators": "select 1 */* 2\" wide; commit; */ 2 +-- it's\n 3 / -1;",
    "escaped text": r"select E'a\'; commit; \\'; select 2;",
    "backslash in plain text": r"select '\'; select '\\';",
    "dollar quotes": "do $$ begin perform 1; commit; end $$; select $a$ $$ ; commit; $a$;",
    "dollar in a name": "create table a$b$c (x int); select $1;",
    "savepoints": "savepoint a; select 1; rollback to savepoint a; rollback work to a; release a;",
    "routine body": (
        "create or replace function f() returns int language sql "
        "begin atomic select case when true then 1 end; select 2; end; select f();"
    ),
    "rule with two commands": "create rule r as on insert to t do also (insert into u values (1); select 1);",
    "copy with data": "copy t (a, b) from stdin;\n1\t'it\n2\tcommit;\n\\.\nselect 1;",
    "copy at the end": 'COPY t FROM STDIN WITH (FORMAT csv); -- rows\n1,"x\n\\.',
    "case outside a routine": "select case when true then 1 else 2 end; select 1",
    "umlauts": "create table straße (größe int); insert into straße values (1);",
    "nothing": "  -- nothing to do\n",
    "concurrently, but in a transaction": "refresh materialized view concurrently v",
    "a table to reindex": 'reindex (verbose) table database; reindex index "system";',
    "quoting rules as they are": "set standard_conforming_strings = on; select 1",
    "part of a table": "alter table t detach partition p",
    "names that begin like commands": "select commit_id, end_time from begin_log; update t set commit = 1;",
}

REFUSED = {
    "commit": ("insert into t values (1);\ncommit;", "line 2: COMMIT"),
    "begin": ("BEGIN; select 1;", "line 1: BEGIN"),
    "end": ("select 1; end;", "END"),
    "rollback": ("select 1;\n\n/* x */ rollback ;", "line 3: ROLLBACK"),
    "abort": ("abort", "ABORT"),
    "start": ("start transaction;", "START TRANSACTION"),
    "prepare": ("prepare transaction 'x'", "PREPARE TRANSACTION"),
    "commit after a routine": (
        "create function f() returns int language sql begin atomic select 1; end; commit;",
        "COMMIT",
    ),
    "commit after text": (r"select '\'; commit;", "COMMIT"),
    "commit after a dollar quote": ("do $x$ begin null; end $x$; commit;", "COMMIT"),
    "commit after a comment after an operator": ("select 1 +-- '\n 1; commit; -- '", "line 2: COMMIT"),
    "commit after data": ("copy t from stdin;\n1\n\\.\ncommit;", "line 4: COMMIT"),
    "commit on the line of a copy": ("copy t from stdin; commit;\n1\n\\.\n", "next line"),
    "copy of many columns": (
        f"copy t ({', '.join(f'c{n}' for n in range(90))}) from stdin;\n1",
        "up to a line",
    ),
    "copy without data": ("copy t from stdin", "without its data"),
    "connect": ("\\c other\nselect 1;", "\\c"),
    "shell": ("select 1; \\! rm -rf /", "\\!"),
    "gexec": ("select 'commit' \\gexec", "\\gexec"),
    "open text": ("select 'it", "does not end"),
    "open escaped text": ("select E'it\\'", "does not end"),
    "open name": ('select "it', "does not end"),
    "open dollar quote": ("do $x$ begin $y$", "does not end"),
    "open comment": ("/* /* */ select 1", "does not end"),
    "open parenthesis": ("insert into t values (1", "parenthesis"),
    "open body": ("create procedure p() begin atomic select 1;", "END"),
    "quoting rules changed": ("set standard_conforming_strings = off; select 1", "standard_conforming"),
    "quoting rules changed by text": ("set standard_conforming_strings to 'off'", "standard_conforming"),
    "nul": ("select '\0'", "NUL"),
}


ALONE = {
    "create database other": "CREATE DATABASE",
    "drop database if exists other": "DROP DATABASE",
    "create tablespace t location '/nowhere'": "CREATE TABLESPACE",
    "drop tablespace if exists t": "DROP TABLESPACE",
    "alter database shop set tablespace pg_default": "ALTER DATABASE SET TABLESPACE",
    "alter system set work_mem = '8MB'": "ALTER SYSTEM",
    "vacuum full": "VACUUM",
    "discard all": "DISCARD ALL",
    "create index concurrently on alone (id)": "CREATE INDEX CONCURRENTLY",
    "create unique index concurrently i on alone (id)": "CREATE UNIQUE INDEX CONCURRENTLY",
    "drop index concurrently alone_id": "DROP INDEX CONCURRENTLY",
    "reindex schema public": "REINDEX SCHEMA",
    "reindex (verbose) database shop": "REINDEX DATABASE",
    "reindex system shop": "REINDEX SYSTEM",
    "reindex table concurrently alone": "REINDEX CONCURRENTLY",
    "alter table parted detach partition part concurrently": "DETACH PARTITION CONCURRENTLY",
}
"""Statements that the server runs outside transactions only; `test_init_sql_postgres` asks one."""


MYSQL_ALLOWED = {
    "other statements about transactions": "start transaction; insert into t values (1); commit; begin; end;",
    "savepoints": "rollback to a; rollback work to savepoint a;",
    "words in text": r"insert into t values ('it\'s; rollback;', \"x\"\"; rollback;\", 'a''; rollback;');",
    "words in names": "create table `a; rollback;` (`rollback` int);",
    "words in comments": "-- it's; rollback;\n# it's; rollback;\n/* it's; rollback; */ select 1;",
    "a routine": (
        "DELIMITER $$\ncreate procedure p() begin\n declare exit handler for sqlexception begin\n"
        "  rollback; end;\n select 1; end$$\ndelimiter ;\ncall p();"
    ),
    "what does not end": "select 'it; rollback;",
    "nothing": " ;; -- nothing",
}
MYSQL_REFUSED = {
    "plain": ("insert into t values (1);\nrollback;", "line 2: ROLLBACK"),
    "after a minus that is no comment": ("select 1--1;\nROLLBACK", "line 2: ROLLBACK"),
    "after comments": ("-- one\n/* two\n*/ # three\n rollback work;", "line 4: ROLLBACK"),
    "in a comment that is read": ("/*!50100 rollback */;", "line 1: ROLLBACK"),
    "under another delimiter": ("delimiter //\nselect 1//\nrollback//", "line 3: ROLLBACK"),
    "after a routine": (
        "delimiter $$\ncreate procedure p() begin rollback; end$$\ndelimiter ;\nrollback;",
        "line 4: ROLLBACK",
    ),
    "after escaped text": (r"select 'a\\'; rollback;", "ROLLBACK"),
}


class TestCheckSql:
    @pytest.mark.parametrize("script", ALLOWED.values(), ids=ALLOWED.keys())
    def test_lets_through_what_stays_in_the_transaction(self, script: str) -> None:
        check_sql(DataStore.POSTGRES, script)

    @pytest.mark.parametrize(("script", "told"), REFUSED.values(), ids=REFUSED.keys())
    def test_refuses_what_would_break_exactly_once(self, script: str, told: str) -> None:
        with pytest.raises(InitScriptInvalid) as refused:
            check_sql(DataStore.POSTGRES, script)
        assert told in str(refused.value)

    @pytest.mark.parametrize(("statement", "told"), ALONE.items(), ids=ALONE.values())
    def test_refuses_what_cannot_run_in_a_transaction(self, statement: str, told: str) -> None:
        with pytest.raises(InitScriptInvalid) as refused:
            check_sql(DataStore.POSTGRES, f"select 1;\n{statement};")
        assert refused.value.reason.startswith(f"line 2: {told} is not possible")
        assert "type: shell" in (refused.value.way_out or "")

    @pytest.mark.parametrize(
        ("store", "script"),
        [
            (DataStore.POSTGRES, "begin"),
            (DataStore.POSTGRES, "vacuum"),
            (DataStore.POSTGRES, "set standard_conforming_strings = off"),
            (DataStore.POSTGRES, "\\c other"),
            (DataStore.POSTGRES, "select 1\0"),
            (DataStore.MYSQL, "rollback"),
            (DataStore.REDIS, "select 1"),
        ],
    )
    def test_does_not_say_init_of_what_may_be_a_seed(self, store: DataStore, script: str) -> None:
        with pytest.raises(InitScriptInvalid) as refused:
            check_sql(store, script)
        assert "init" not in str(refused.value)

    @pytest.mark.parametrize("store", [None, DataStore.REDIS, DataStore.FILES])
    def test_refuses_a_store_without_sql(self, store: DataStore | None) -> None:
        with pytest.raises(InitScriptInvalid, match="postgres or mysql"):
            sql_init(store, "select 1", Mark("key", "digest"))

    @pytest.mark.parametrize("script", MYSQL_ALLOWED.values(), ids=MYSQL_ALLOWED.keys())
    def test_lets_through_what_leaves_the_mark_in_mysql(self, script: str) -> None:
        check_sql(DataStore.MYSQL, script)

    @pytest.mark.parametrize(("script", "told"), MYSQL_REFUSED.values(), ids=MYSQL_REFUSED.keys())
    def test_refuses_what_takes_the_mark_back_in_mysql(self, script: str, told: str) -> None:
        with pytest.raises(InitScriptInvalid) as refused:
            check_sql(DataStore.MYSQL, script)
        assert told in str(refused.value)
        assert "type: shell" in (refused.value.way_out or "")

    @pytest.mark.slow
    def test_reads_a_large_script_in_one_pass(self) -> None:
        script = "insert into t values (1, 'some text; more', $$x$$);\n" * 20_000
        assert len(statements(script)) == 20_000
        assert statements(script)[-1].line == 20_000


class TestSqlInit:
    def test_ends_the_stream_with_the_commit(self) -> None:
        command = sql_init(DataStore.POSTGRES, "select 1 -- no semicolon", Mark("env_1/db", "d"))
        assert command.stdin.index(b"BEGIN") < command.stdin.index(b"INSERT INTO perdure.init_marker")
        assert command.stdin.index(b"select 1 -- no semicolon\n;") < command.stdin.index(b"\nCOMMIT;\n")
        assert f"head -c {len(command.stdin)} |" in command.command[2]

    @pytest.mark.parametrize("store", [DataStore.POSTGRES, DataStore.MYSQL])
    def test_keeps_the_script_and_its_quotes_off_the_command_line(self, store: DataStore) -> None:
        command = sql_init(store, "insert into t values ('planted-value')", Mark("it's", "d"))
        assert "planted-value" not in " ".join(command.command)
        assert b"'it''s'" in command.stdin

    @pytest.mark.parametrize(
        ("script", "ending"),
        [
            ("select 1", b"select 1\n;\nDELIMITER ;\n"),
            ("delimiter //\ncall p()//", b"call p()//\n//\nDELIMITER ;\n"),
        ],
    )
    def test_ends_the_last_mysql_statement_as_the_script_does(self, script: str, ending: bytes) -> None:
        assert ending in sql_init(DataStore.MYSQL, script, Mark("k", "d")).stdin

    def test_locks_by_key(self) -> None:
        stdin = {sql_init(DataStore.POSTGRES, "select 1", Mark(key, "d")).stdin for key in ("a", "b")}
        assert len(stdin) == 2


class TestOutcome:
    @pytest.mark.parametrize(
        ("exit_code", "stdout", "expected"),
        [
            (0, b"perdure-init: applied\n", InitOutcome.APPLIED),
            (0, b"perdure-init: already\n", InitOutcome.ALREADY),
            (1, b"perdure-init: already\n", InitOutcome.ALREADY),
            (0, b"perdure-init: half\n", InitOutcome.HALF_DONE),
            (2, b"", InitOutcome.NOT_YET),
            (3, b"", InitOutcome.FAILED),
            (127, b"", InitOutcome.FAILED),
            (0, b"", InitOutcome.FAILED),
            (3, b"perdure-init: applied\n", InitOutcome.FAILED),
        ],
    )
    def test_means(self, exit_code: int, stdout: bytes, expected: InitOutcome) -> None:
        assert outcome(exit_code, stdout) is expected


_PARTS = ("'", '"', "$$", "(", ")", "/*", "*/", "-- ", "\\", ";", ";\n", "\n", "commit", "begin", "vacuum")
_ALL = (*ALLOWED.values(), *MYSQL_ALLOWED.values(), *(script for script, _ in MYSQL_REFUSED.values()))
_PIECES = st.sampled_from(
    [*_ALL, *(script for script, _ in REFUSED.values() if "\0" not in script), *ALONE, *_PARTS]
)


@given(st.lists(_PIECES, min_size=1, max_size=4).map(" ".join), st.sampled_from(["postgres:16", "mysql:8"]))
@examples(300)
def test_what_a_blueprint_may_hold_is_not_refused_when_it_runs(script: str, image: str) -> None:
    service = {"name": "db", "image": image, "init": {"type": "sql", "script": script}}
    store = DataStore.POSTGRES if image.startswith("postgres") else DataStore.MYSQL
    try:
        parse_blueprint({"name": "shop", "services": [service]})
    except BlueprintInvalid as invalid:
        told = [error.field for error in invalid.errors]
        event("refused")
    else:
        told = []
        event("accepted")
        sql_init(store, script, Mark("key", "digest"))
    assert told in ([], ["services[0].init.script"])
