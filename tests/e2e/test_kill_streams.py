"""Databases whose dump or load is cut in its middle: the worker dies once for each of them, or a pod goes."""

import json
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.e2e.kills import REACHED_SECONDS, commands, kill_worker
from tests.e2e.lifecycle import asked_for, is_ready, pods_now, pods_settle
from tests.e2e.shop import assert_ledger_tells_a_success
from tests.e2e.snapshots import (
    ENDED_SECONDS,
    MARIA,
    PSQL,
    assert_only_what_is_named,
    digests,
    new_name,
    objects,
    restore,
    shown,
    stores_of,
    take,
)
from tests.helpers.kube_gate import Hold
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(900)]
GATED = True

STREAM_MIB, HELD_MIB = 80, 12
"""How long each database's stream is at least, and how much of it passes: more than an object as it is
stored. The rest is more than what lies in sockets on its way (up to 56 MiB were seen), so that the tool
stands still, too."""
_FIRST = "/tmp/first"
_PATH = f"{_FIRST}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where tools are looked for: what lies in the first place stands before the real one."""


@dataclass(frozen=True)
class Store:
    """A database: its pod, what dumps and what loads it; a script that fills it.

    `change`: a script that takes most of that away and adds something else. `digest`: one that says what was
    filled in comes to. `come`: one that says how many bytes of a load under way have come. `nobody`: one that
    says 0 when nobody but itself uses the server.
    """

    pod: str
    request: str
    dumps: str
    loads: str
    fill: str
    change: str
    digest: str
    come: str
    nobody: str


STORES = {
    "db": Store(
        pod="db-0",
        request="pods/db-0/exec",
        dumps="pg_dump",
        loads="pg_restore",
        # Random, so that it stays as large, as text, which is dumped as it is.
        fill=f"""{PSQL} -c "create table blobs as select n, encode(decode((select string_agg(
            md5(n || '-' || m), '') from generate_series(1, 4096) m), 'hex'), 'base64') raw
            from generate_series(1, {STREAM_MIB * 12}) n" """,
        change=f"""{PSQL} -c "create table if not exists late (); delete from blobs where n > 7;
            update parents set note = 'late'" """,
        digest=f"""{PSQL} -c "select count(*) || md5(string_agg(md5(raw), '' order by n)) from blobs
            union all select string_agg(relname, ' ' order by relname) from pg_class
            where relkind = 'r' and relnamespace = 'public'::regnamespace" """,
        come=f"""{PSQL} -d template1 -c "select coalesce(max(bytes_processed), 0)
            from pg_stat_progress_copy" """,
        nobody=f"""{PSQL} -d template1 -c "select count(*) from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid()" """,
    ),
    "maria": Store(
        pod="maria-0",
        request="pods/maria-0/exec",
        dumps="mariadb-dump",
        loads="mariadb",
        fill=f"""{MARIA} -e "create table shop.blobs (n int primary key, raw text);
            insert into shop.blobs select seq, to_base64(random_bytes(768))
            from seq_1_to_{STREAM_MIB << 10}" shop""",
        change=f"""{MARIA} -e "create table if not exists late (n int); delete from blobs where n > 7;
            insert into children (parent) values (3)" shop""",
        digest=f"""{MARIA} -e "select count(*), sum(n * crc32(raw)) from blobs; show tables" shop""",
        # Its tables are locked meanwhile.
        come="stat -c %s /var/lib/mysql/shop/blobs.ibd",
        nobody=f"""{MARIA} -e "select count(*) from information_schema.processlist
            where command <> 'Daemon' and id <> connection_id()" """,
    ),
    "cache": Store(
        pod="deploy/cache",
        request="pods/cache-[^/]+/exec",
        dumps="redis-cli",
        loads="cat",
        fill=f"""for n in $(seq {STREAM_MIB}); do
            head -c 1048576 /dev/urandom | redis-cli -x set blob:$n; redis-cli rpush queue $n; done""",
        change="redis-cli flushall; redis-cli set late 1; redis-cli rpush queue late",
        digest="redis-cli llen queue",
        come="stat -c %s /tmp/tmp.*/dump.rdb",
        # Who fetches a copy is a replica, too. What is left is said in words.
        nobody="""redis-cli info replication | grep -E '^(role:slave|connected_slaves:[^0])' ||
            redis-cli config get masterauth | tail -n +2 | grep . || ls /tmp | grep '^tmp[.]' || echo 0""",
    ),
}
_HELPERS = {"cat", "head", "psql", "sleep", "tee", "wc"}
"""What runs beside a tool."""
SNAPSHOT = {f"snapshot, {store}": store for store in STORES}
RESTORE = {f"restore, {store}": store for store in STORES}
CASES = SNAPSHOT | RESTORE


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
        handle.sh(store.pod, store.fill)
    return handle


def _soon(look: Callable[[], object], what: str, *, within: float = 30.0) -> bool:
    """Whether something comes to be so. A test says so of its own case."""
    try:
        return bool(eventually(look, what, within=within))
    except AssertionError:
        return False


def comes_to_rest(handle: Handle, store: Store) -> bool:
    """Whether a database is left alone soon: no command of ours, no connection, no replica, one server."""

    def look() -> bool:
        running = commands(handle, store.pod)
        left = {store.dumps, store.loads, *_HELPERS} & set(running)
        one = running.count("redis-server") <= 1
        return not left and one and handle.sh(store.pod, store.nobody) == "0"

    return _soon(look, f"{store.pod} is left alone")


def data_of(handle: Handle, service: str) -> tuple[str, str]:
    """Return what the data of a database come to, those that init brought and those that were filled in."""
    store = STORES[service]
    return digests(handle, {service: store.pod})[service], handle.sh(store.pod, store.digest)


@dataclass
class Killed:
    """An operation that lost its worker in the stream of each database, and what was seen of it.

    `running`: by case, the commands in the pod as the worker was killed. `half`: the cases in which a part of
    the data had come to where it goes. `rested`: those after which the pod was left alone, before there was
    another worker.
    """

    operation: Handle
    snapshot: str
    running: dict[str, list[str]] = field(default_factory=dict)
    half: set[str] = field(default_factory=set)
    rested: set[str] = field(default_factory=set)


def _is_stored(stack: Stack, snapshot: str, service: str) -> bool:
    """Whether a part of a service's data is in the store."""
    return any(f"/{service}/" in str(each) and each.stat().st_size for each in objects(stack, snapshot))


def _has_come_in_part(handle: Handle, store: Store) -> bool:
    """Whether a load has brought a part of its data, and not all of it."""
    return 1 << 20 < int(handle.sh(store.pod, store.come)) < STREAM_MIB << 20


class Held:
    """The streams of databases that are held in their middle, by case; none any more when it is left."""

    def __init__(self, stack: Stack, namespace: str, cases: Iterable[str]) -> None:
        self._stack = stack
        self._namespace = namespace
        self._streams = ExitStack()
        self.holds = {case: self._hold(case) for case in cases}

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()

    def anew(self, *, without: str) -> None:
        """Forget what was held, and hold what comes next of all cases but one."""
        self._streams.close()
        self.holds = {case: self._hold(case) for case in self.holds if case != without}

    def _hold(self, case: str) -> Hold:
        request = f"/namespaces/{self._namespace}/{STORES[CASES[case]].request}"
        return self._streams.enter_context(self._stack.gate.hold_streams(request, HELD_MIB << 20))


def _kill_at_each(stack: Stack, killed: Killed, held: Held, is_half: Callable[[str], bool]) -> None:
    """Kill the worker in each stream that is held, in the order in which they come, and start another.

    Several may be held at once: all of them die with their worker, and what was held of it says nothing of
    the next one.
    """
    while waiting := held.holds:
        try:
            case = eventually(
                lambda: next((case for case, hold in waiting.items() if hold.seen.is_set()), None),
                f"one of {list(waiting)}",
                within=REACHED_SECONDS,
            )
        except AssertionError:
            return  # the test of each of them says so
        service = CASES[case]
        if _soon(partial(is_half, service), f"{service} has come in part", within=REACHED_SECONDS):
            killed.half.add(case)
        killed.running[case] = commands(killed.operation, STORES[service].pod)
        kill_worker(stack, waiting.values())
        held.anew(without=case)
        if comes_to_rest(killed.operation, STORES[service]):
            killed.rested.add(case)
        stack.worker.start()


def _wanted(cases: dict[str, str], request: pytest.FixtureRequest) -> list[str]:
    asked = asked_for(request)
    return [case for case in cases if case in asked]


@pytest.fixture(scope="module")
def killed(stack: Stack, origin: Handle, request: pytest.FixtureRequest) -> Killed:
    """Take a snapshot, with a kill in each database's stream."""
    with Held(stack, origin.namespace, _wanted(SNAPSHOT, request)) as held:
        killed = Killed(*take(origin))
        _kill_at_each(stack, killed, held, lambda service: _is_stored(stack, killed.snapshot, service))
    killed.operation.succeeded(ENDED_SECONDS)
    return killed


@pytest.fixture(scope="module")
def data(origin: Handle) -> dict[str, tuple[str, str]]:
    """What the data of each database came to at first."""
    return {service: data_of(origin, service) for service in STORES}


@pytest.fixture(scope="module")
def at_peace(killed: Killed, data: dict[str, tuple[str, str]], origin: Handle) -> Handle:
    """The environment with the data that it had at first, after its worker was killed in dumps."""
    return origin


@pytest.fixture(scope="module")
def loaded(stack: Stack, killed: Killed, at_peace: Handle, request: pytest.FixtureRequest) -> Killed:
    """Change the data and restore them in place, with a kill in each database's stream."""
    for store in STORES.values():
        at_peace.sh(store.pod, store.change)
    with Held(stack, at_peace.namespace, _wanted(RESTORE, request)) as held:
        loading = restore(stack, killed.snapshot, environmentId=at_peace.environment_id)
        loaded = Killed(loading, killed.snapshot)
        _kill_at_each(stack, loaded, held, lambda service: _has_come_in_part(loading, STORES[service]))
    loading.succeeded(ENDED_SECONDS)
    return loaded


def _instead(tool: str, script: str) -> str:
    """Return a script that puts another one before a tool in a pod."""
    path = f"{_FIRST}/{tool}"
    return f"mkdir -p {_FIRST} && cat >{path} <<'END'\n#!/bin/sh\n{script}\nEND\nchmod +x {path}"


def _assert_cut_and_left_alone(killed: Killed, case: str, command: str) -> None:
    assert case in killed.running, f"the worker was never seen: {case}"
    assert command in killed.running[case], "it was not in the middle"
    assert case in killed.half, "nothing had come that could be left"
    assert case in killed.rested, "something was left in the pod"


@pytest.mark.parametrize("case", SNAPSHOT)
def test_killed_while_it_dumps(stack: Stack, killed: Killed, case: str) -> None:
    service = SNAPSHOT[case]
    _assert_cut_and_left_alone(killed, case, STORES[service].dumps)
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
    at_peace.sh(store.pod, _instead(store.dumps, half))
    try:
        taking, snapshot = take(at_peace)
        operation = taking.ended(ENDED_SECONDS)
    finally:
        at_peace.sh(store.pod, f"rm -r {_FIRST}")
    failed = operation["failure"]
    told = (operation["state"], failed["kind"], failed["step"])
    assert told == ("failed", "transfer_failed", f"capture/{service}")
    assert "status 3" in failed["message"]
    assert "half way" in failed["message"]
    password = at_peace.sh(STORES["maria"].pod, "printf %s $MARIADB_ROOT_PASSWORD")
    assert password not in json.dumps(operation)
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert comes_to_rest(at_peace, store)
    assert at_peace.status()["phase"] == "running"


def test_a_pod_that_goes_while_it_is_dumped_is_waited_for(
    stack: Stack, at_peace: Handle, data: dict[str, tuple[str, str]]
) -> None:
    """Before it is known how its dump ended, there is another pod of the same name."""
    db, first = STORES["db"], pods_settle(at_peace, "db")
    for other in (STORES["maria"], STORES["cache"]):
        at_peace.sh(other.pod, other.change)  # to have less to dump
    with stack.gate.hold_streams(f"/namespaces/{at_peace.namespace}/{db.request}", HELD_MIB << 20) as hold:
        taking, snapshot = take(at_peace)
        hold.wait_seen(REACHED_SECONDS)
        eventually(lambda: _is_stored(stack, snapshot, "db"), "a part is stored")
        left = {each for each in objects(stack, snapshot) if "/db/" in str(each)}
        stack.kubectl("-n", at_peace.namespace, "delete", "pod", db.pod, "--grace-period=1", "--wait=false")
        assert not first & pods_settle(at_peace, "db")
        assert shown(stack, snapshot)["state"] == "creating"
    taking.succeeded(ENDED_SECONDS)
    assert shown(stack, snapshot)["state"] == "available"
    assert_only_what_is_named(stack, snapshot)
    assert not left & set(objects(stack, snapshot))
    assert data_of(at_peace, "db") == data["db"]
    assert comes_to_rest(at_peace, db)


@pytest.mark.parametrize("case", RESTORE)
def test_killed_while_it_loads(
    stack: Stack, data: dict[str, tuple[str, str]], loaded: Killed, case: str
) -> None:
    handle, service = loaded.operation, RESTORE[case]
    _assert_cut_and_left_alone(loaded, case, STORES[service].loads)
    assert_ledger_tells_a_success(stack, handle)
    steps = {step["name"]: step for step in handle.operation()["steps"]}
    assert steps[f"load/{service}"]["finishedAt"] <= steps["service/api"]["startedAt"]
    assert data_of(handle, service) == data[service]
    assert comes_to_rest(handle, STORES[service])
    assert handle.status()["phase"] == "running"


def test_a_pod_whose_successor_never_comes_is_told_and_nothing_is_published(
    stack: Stack, at_peace: Handle
) -> None:
    """The last test of its database, which no node takes from then on."""
    db = STORES["db"]
    with stack.gate.hold_streams(f"/namespaces/{at_peace.namespace}/{db.request}", HELD_MIB << 20) as hold:
        taking, snapshot = take(at_peace)
        hold.wait_seen(REACHED_SECONDS)
        eventually(lambda: _is_stored(stack, snapshot, "db"), "a part is stored")
        nowhere = {"nodeSelector": {"test.perdure.dev/nowhere": "true"}}
        patch = json.dumps({"spec": {"template": {"spec": nowhere}}})
        stack.kubectl("-n", at_peace.namespace, "patch", "statefulset/db", "--type=merge", "-p", patch)
        eventually(lambda: not any(map(is_ready, pods_now(at_peace, "db").values())), "its pod is gone")
    operation = taking.ended(ENDED_SECONDS)
    failed = operation["failure"]
    assert (operation["state"], failed["kind"], failed["step"]) == ("failed", "timeout", "capture/db")
    assert "db-0 (0/1 nodes are available" in failed["message"]
    assert (shown(stack, snapshot)["state"], objects(stack, snapshot)) == ("failed", [])
    assert comes_to_rest(at_peace, STORES["maria"])
