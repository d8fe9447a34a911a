"""What failed loads are told as: where and why, without rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.domain.load_words import without_content


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "ERROR 1062 (23000) at line 52: Duplicate entry 'ann@example.com' for key 'email'\n",
            "ERROR 1062 (23000) at line 52: Duplicate entry [...]\n",
        ),
        (
            "ERROR 1064 (42000) at line 9: You have an error in your SQL syntax; check the manual for "
            "the right syntax to use near 'it's 12,\n'so' at line 1\n",
            "ERROR 1064 (42000) at line 9: You have an error in your SQL syntax; check the manual for "
            "the right syntax to use near [...] at line 1\n",
        ),
        (
            "ERROR 1366 (22007) at line 3: Incorrect integer value: 'x' for column `d`.`t`.`c` at row 1",
            "ERROR 1366 (22007) at line 3: Incorrect integer value: [...] for column `d`.`t`.`c` at row 1",
        ),
        (
            "ERROR 1146 (42S02) at line 3: Table 'd.t' doesn't exist",
            "ERROR 1146 (42S02) at line 3: Table 'd.t' doesn't exist",
        ),
        (
            'pg_restore: COPY failed for table "t": ERROR: invalid input syntax for type integer: "ann"\n'
            'CONTEXT:  COPY t, line 1, column n: "ann"\n',
            'pg_restore: COPY failed for table "t": ERROR: invalid input syntax for type integer: [...]\n'
            "[...]\n",
        ),
        (
            'pg_restore: error: could not execute: ERROR:  could not create unique index "t_pkey"\n'
            "DETAIL:  Key (email)=(ann@example.com) is duplicated.\n",
            'pg_restore: error: could not execute: ERROR:  could not create unique index "t_pkey"\n[...]\n',
        ),
        (
            'WARNING:  database "d" has a collation version mismatch\nDETAIL:  It was 2.31.\n'
            'psql:<stdin>:12: ERROR:  role "r" does not exist\nLINE 1: ALTER ROLE r PASSWORD x\n     ^\n',
            'WARNING:  database "d" has a collation version mismatch\n[...]\n'
            'psql:<stdin>:12: ERROR:  role "r" does not exist\n[...]\n',
        ),
        (
            "tar: ./a: Cannot write: No space left on device\n",
            "tar: ./a: Cannot write: No space left on device\n",
        ),
        (
            "--------------\nINSERT INTO t VALUES (12)\n--------------\n\nERROR 1136 at line 2: Count",
            "ERROR 1136 at line 2: Count",
        ),
        ("cut off before), (17)\n--------------\n\nERROR 2006 at line 2: Gone", "ERROR 2006 at line 2: Gone"),
        ("near 'which has no end", "near [...]"),
        ("", ""),
    ],
)
def test_what_is_told(said: str, told: str) -> None:
    assert without_content(said) == told


@given(st.text().filter(lambda text: "ERROR" not in text).map(lambda text: f"PLANTED{text}PLANTED"))
def test_no_content_that_is_quoted_is_told(content: str) -> None:
    for said in (
        f"ERROR 1062 (23000) at line 52: Duplicate entry '{content}' for key 'email'\n",
        f"ERROR 1064 (42000) at line 1: You have an error near '{content}' at line 1\n",
        f'ERROR:  invalid input for type integer: "{content}"\nCONTEXT:  COPY t, line 1: "{content}"\n',
        f"ERROR:  new row violates a check\nDETAIL:  Failing row contains (1, {content}).\n",
    ):
        assert "PLANTED" not in without_content(said)
