"""A thousand environments in the control plane: pages of them over real sockets, and a sweep over them.

Nothing of them is in the cluster: the worker is away while they are made, and the database is told that their
operations have ended.
"""

import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, Final

from bench.load import IMAGE, apart
from tests.helpers.stack import Stack

ENVIRONMENTS: Final = 1000
BAR_MILLISECONDS: Final = 100.0
"""What a page may take at the 99th percentile for one client, in every kind of list."""
_PHASES: Final = ("running", "running", "running", "stopped", "error")
_TEAMS: Final = ("payments", "search", "billing", "web")


def thousand(stack: Stack, *, rounds: int) -> dict[str, Any]:
    """Make the environments, then walk through all kinds of lists, one client alone and ten at once."""
    stack.worker.stop()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(_make, stack), range(ENVIRONMENTS)))
    _end_operations(stack)
    one = apart(stack, "pages", "1", str(rounds))
    return {
        "environments": ENVIRONMENTS,
        "bar": verdict(one),
        "oneClient": one,
        "tenClients": apart(stack, "pages", "10", str(rounds)),
    }


def verdict(one: Mapping[str, Any]) -> dict[str, Any]:
    """Say whether one client's pages stay under the bar, all together and each kind of list by itself.

    `worst` is the slowest of these and `p99Milliseconds` its; a tie with the bar is a fail.
    """
    measured = {"all": one["p99Milliseconds"]} | {
        kind: each["p99Milliseconds"] for kind, each in one["lists"].items()
    }
    worst = max(measured, key=lambda kind: measured[kind])
    return {
        "verdict": "pass" if measured[worst] < BAR_MILLISECONDS else "fail",
        "barMilliseconds": BAR_MILLISECONDS,
        "worst": worst,
        "p99Milliseconds": measured[worst],
    }


def _make(stack: Stack, number: int) -> None:
    """Create the environment of that number, with three services, and give it a label."""
    service = {"image": IMAGE, "replicas": 0, "ports": [{"containerPort": 8080}]}
    document = {"name": f"list-{number:04}", "services": dict.fromkeys(("web", "api", "db"), service)}
    made = stack.create(document)
    labels = {"labels": {"team": _TEAMS[number % len(_TEAMS)]}}
    stack.client.patch(f"/v1/environments/{made.environment_id}", json=labels).raise_for_status()


def _end_operations(stack: Stack) -> None:
    """Tell the database that every operation succeeded, and spread the environments over phases."""
    with closing(sqlite3.connect(stack.database, timeout=60, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE operations SET state = 'succeeded', finished_at = created_at WHERE finished_at IS NULL"
        )
        for number, phase in enumerate(_PHASES):
            connection.execute(
                "UPDATE environments SET phase = ? "
                "WHERE name LIKE 'list-%' AND CAST(substr(name, 6) AS INT) % ? = ?",
                (phase, len(_PHASES), number),
            )
