"""Databases whose dump is cut in its middle: one snapshot loses its worker once for each of them."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.kills import REACHED_SECONDS, kill_worker
from tests.e2e.lifecycle import asked_for
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    MARIA,
    PSQL,
    assert_only_what_is_named,
    new_name,
    objects,
    sh,
    shown,
    stores_of,
    take,
)
from tests.helpers.kube_gate import Hold
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
SETTINGS = {"PERDURE_SWEEP_EVERY_SECONDS": "5"}
"""The stack removes at once what is of no use."""

STREAM_MIB, HELD_MIB = 80, 12
"""How long each database's stream is at least, and how much of it passes: more than an object as it is
stored. The rest is more than what lies in pipes and sockets (28 MiB were not always), so that the tool stands
still, too."""
_FIRST = "/tmp/first"
_PATH = f"{_FIRST}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where tools are looked for: what lies in the first place stands before the real one."""


@dataclass(frozen=True)
class Store:
    """A database: its pod, what dumps it, what fills it.

    `nobody`: a script that says 0 when nobody but itself uses the server.
    """

    pod: str
    request: str
    dumps: str
    fill: str
    nobody: str


STORES = {
    "db": Store(
        pod="db-0",
        request="pods/db-0/exec",
        dumps="pg_dump",
        # Random, so that it stays as large, as text, which is dumped as it is.
        fill=f"""{PSQL} -c "create table blobs as select n, encode(decode((select string_agg(
            md5(n || '-' || m), '') from generate_series(1, 4096) m), 'hex'), 'base64') raw
            from generate_series(1, {STREAM_MIB * 12}) n" """,
        nobody=f"""{PSQL} -d template1 -c "select count(*) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()" """,
    ),
    "maria": Store(
        pod="maria-0",
        request="pods/maria-0/exec",
        dumps="mariadb-dump",
        fill=f"""{MARIA} -e "create table shop.blobs (n int primary key, raw text);
            insert into shop.blobs select seq, to_base64(random_bytes(768))
            from seq_1_to_{STREAM_MIB << 10}" shop""",
        nobody=f"""{MARIA} -e "select count(*) from information_schema.processlist
            where command <> 'Daemon' and id <> connection_id()" """,
    ),
    "cache": Store(
        pod="deploy/cache",
        request="pods/cache-[^/]+/exec",
        dumps="redis-cli",
        fill=f"""for n in $(seq {STREAM_MIB}); do
            head -c 1048576 /dev/urandom | redis-cli -x set blob:$n; redis-cli rpush queue $n; done""",
        # Who fetches a copy is a replica, too. What is left is said in words.
        nobody="""redis-cli info replication | grep -E '^(role:slave|connected_slaves:[^0])' ||
            redis-cli config get masterauth | tail -n +2 | grep . || ls /tmp | grep '^tmp[.]' || echo 0""",
    ),
}
_HELPERS = {"cat", "head", "psql", "sleep", "tee", "wc"}
"""What runs beside a tool."""
SNAPSHOT = {f"snapshot, {store}": store for store in STORES}


def _document(name: str) -> dict[str, Any]:
    services = stores_of(name)["services"]
    del services["files"]
    # Its pod is to come back with its data.
    volume = {"name": "data", "mountPath": "/var/lib/mysql", "type": "pvc", "size": "1Gi"}
    services["maria"] |= {"volumes": [volume]}
    for each in ("maria", "cache"):
        services[each]["env"] = {"PATH": _PATH}
    services["api"]["dependsOn"] = list(STORES)
    return {"name": name, "services": services}


@pytest.fixture(scope="module")
def origin(stack: Stack) -> Handle:
    """An environment of three databases, each with more data than lie in pipes."""
    handle = stack.create(_document(new_name()))
    handle.succeeded(ENDED_SECONDS)
    for store in STORES.values():
        sh(handle, store.pod, store.fill)
    return handle


def commands(handle: Handle, store: Store) -> list[str]:
    """Return the names of the processes in a database's pod."""
    script = "for each in /proc/[0-9]*/comm; do read -r name <$each && echo $name; done 2>/dev/null; :"
    return sh(handle, store.pod, script).split()


def comes_to_rest(handle: Handle, store: Store) -> bool:
    """Whether a database is left alone soon: no command of ours, no connection, no replica, one server."""

    def look() -> bool:
        running = commands(handle, store)
        left = {store.dumps, *_HELPERS} & set(running)
        one = running.count("redis-server") <= 1
        return not left and one and sh(handle, store.pod, store.nobody) == "0"

    try:
        return eventually(look, f"{store.pod} is left alone", within=30)
    except AssertionError:
        return False


@dataclass
class Killed:
    """The operations that lost their worker, and what was seen of it.

    `running`: by case, the commands in the pod as the worker was killed. `stored`: by case, whether the store
    had a part of the data then. `rested`: the cases after which the pod was left alone, before
    there was another worker.
    """

    running: dict[str, list[str]] = field(default_factory=dict)
    stored: dict[str, bool] = field(default_factory=dict)
    rested: set[str] = field(default_factory=set)
    snapshot: str = ""
    operations: dict[str, Handle] = field(default_factory=dict)

    def of(self, case: str) -> Handle:
        """Return the operation of a case."""
        return self.operations[case.partition(",")[0]]


def _kill_at_each(
    stack: Stack, killed: Killed, reached: dict[str, Callable[[], bool]], holds: dict[str, Hold]
) -> None:
    """Kill the worker at each case's moment, in the order in which they come, and start another."""
    while reached:
        try:
            case = eventually(
                lambda: next((case for case, look in reached.items() if look()), None),
                f"one of {list(reached)}",
                within=REACHED_SECONDS,
            )
        except AssertionError:
            return  # the test of each of them says so
        del reached[case]
        handle, service = killed.of(case), SNAPSHOT[case]
        store = STORES[service]
        killed.stored[case] = _is_stored(stack, killed.snapshot, service)
        killed.running[case] = commands(handle, store)
        kill_worker(stack, [hold for held, hold in holds.items() if held == case])
        if comes_to_rest(handle, store):
            killed.rested.add(case)
        stack.worker.start()


def _is_stored(stack: Stack, snapshot: str, service: str) -> bool:
    """Whether a part of what has passed of a service's data is in the store, soon."""
    try:
        return eventually(
            lambda: any(
                f"/{service}/" in str(each) and each.stat().st_size for each in objects(stack, snapshot)
            ),
            "a part is stored",
        )
    except AssertionError:
        return False


def _held(
    stack: Stack, streams: ExitStack, namespace: str, cases: dict[str, str], wanted: set[str]
) -> dict[str, Hold]:
    """Hold the stream of each case's database in its middle, of those cases that are wanted."""
    return {
        case: streams.enter_context(
            stack.gate.hold_streams(f"/namespaces/{namespace}/{STORES[service].request}", HELD_MIB << 20)
        )
        for case, service in cases.items()
        if case in wanted
    }


@pytest.fixture(scope="module")
def killed(stack: Stack, origin: Handle, request: pytest.FixtureRequest) -> Killed:
    """Take a snapshot, with a kill in each database's stream."""
    killed, wanted = Killed(), asked_for(request)
    with ExitStack() as streams:
        holds = _held(stack, streams, origin.namespace, SNAPSHOT, wanted)
        killed.operations["snapshot"], killed.snapshot = take(origin)
        _kill_at_each(stack, killed, {case: each.seen.is_set for case, each in holds.items()}, holds)
    killed.operations["snapshot"].succeeded(ENDED_SECONDS)
    return killed


@pytest.fixture(scope="module")
def at_peace(killed: Killed, origin: Handle) -> Handle:
    """The environment with the data that it had at first, after all that was done to it."""
    for operation in killed.operations.values():
        operation.succeeded(ENDED_SECONDS)
    return origin


def _instead(tool: str, script: str) -> str:
    """Return a script that puts another one before a tool in a pod."""
    path = f"{_FIRST}/{tool}"
    return f"mkdir -p {_FIRST} && cat >{path} <<'END'\n#!/bin/sh\n{script}\nEND\nchmod +x {path}"


def _assert_cut_and_left_alone(killed: Killed, case: str, command: str) -> None:
    assert case in killed.running, f"the worker was never seen: {case}"
    assert command in killed.running[case], "it was not in the middle"
    assert case in killed.rested, "something was left in the pod"


@pytest.mark.parametrize("case", SNAPSHOT)
def test_killed_while_it_dumps(stack: Stack, killed: Killed, case: str) -> None:
    service = SNAPSHOT[case]
    _assert_cut_and_left_alone(killed, case, STORES[service].dumps)
    assert killed.stored[case], "nothing was stored that could be left"
    killed.of(case).succeeded(ENDED_SECONDS)
    found = shown(stack, killed.snapshot)
    assert (found["state"], found["consistency"], found["scope"]) == (
        "available",
        "application",
        "independent",
    )
    assert_only_what_is_named(stack, killed.snapshot)


@pytest.mark.parametrize("service", ["maria", "cache"])
def test_a_tool_that_breaks_after_half_its_output_publishes_nothing(
    stack: Stack, at_peace: Handle, service: str
) -> None:
    store = STORES[service]
    half = (
        f'real=/usr/bin/{store.dumps}; case "$*" in *--rdb*|*--add-drop-database*) '
        f'$real "$@" | head -c {HELD_MIB << 20}; echo half way $MARIADB_ROOT_PASSWORD >&2; exit 3;; esac; '
        'exec $real "$@"'
    )
    sh(at_peace, store.pod, _instead(store.dumps, half))
    try:
        taking, snapshot = take(at_peace)
        operation = taking.ended(ENDED_SECONDS)
    finally:
        sh(at_peace, store.pod, f"rm -r {_FIRST}")
    failed = operation["failure"]
    told = (operation["state"], failed["kind"], failed["step"])
    assert told == ("failed", "transfer_failed", f"capture/{service}")
    assert "status 3" in failed["message"]
    assert "half way" in failed["message"]
    password = sh(at_peace, STORES["maria"].pod, "printf %s $MARIADB_ROOT_PASSWORD")
    assert password not in json.dumps(operation)
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert comes_to_rest(at_peace, store)
    assert at_peace.status()["phase"] == "running"
