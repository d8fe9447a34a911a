"""A worker that is killed while a replay loads a snapshot's data: they come whole, before anything starts."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.lifecycle import VOLUME, blueprint, change, environment, pods_settle
from tests.e2e.replays import (
    ENDED_SECONDS,
    assert_told_once,
    done,
    elsewhere,
    preview,
    told,
)
from tests.e2e.shop import psql, shop
from tests.e2e.snapshots import checksums, new_name, taken
from tests.e2e.support import POSTGRES, idle
from tests.helpers.kube_gate import Side
from tests.helpers.stack import Handle, Stack
from tests.helpers.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.patient, pytest.mark.timeout(600)]
GATED = True

_FILL = """
create table t (id int primary key, note text);
insert into t select n, md5(n::text) from generate_series(1, 5000) n;
"""
_DIGEST = "select count(*), md5(string_agg(t::text, '|' order by id)) from t"
_FENCE = r"PATCH /api/v1/namespaces/{namespace}\?"
_APP = r"PATCH .*/namespaces/{namespace}/deployments/app\?"
_EXEC = r"GET /api/v1/namespaces/{namespace}/pods/db-0/exec"
_RESTORE = _EXEC + r".*pg_restore"
_STOPPED, _RUNNING = '"replicas": 0', '"replicas": 1'


@dataclass(frozen=True)
class Moment:
    """Where the worker dies: at a request (`METHOD path`), without one when the end is about to be written.

    `body`: a text in the request's body. `new`: the replay goes into a new environment. `loads`: how often
    the database is loaded, with what was given up.
    """

    request: str = ""
    side: Side = "after"
    body: str = ""
    new: bool = False
    loads: int = 1


MOMENTS = {
    "before the fence": Moment(_FENCE, "before"),
    "before what depends on the data is stopped": Moment(_APP, "before", _STOPPED),
    "after what depends on the data is stopped": Moment(_APP, "after", _STOPPED),
    "before the load": Moment(_EXEC, "before"),
    "roles loaded, and nobody told": Moment(_EXEC),
    "before the database": Moment(_RESTORE, "before", loads=2),
    "database loaded, and nobody told": Moment(_RESTORE, loads=2),
    "before what depends on the data starts": Moment(_APP, "before", _RUNNING),
    "after what depends on the data starts": Moment(_APP, "after", _RUNNING),
    "before the end is in the ledger": Moment(),
    "new, before the load": Moment(_EXEC, "before", new=True),
    "new, database loaded, and nobody told": Moment(_RESTORE, new=True, loads=2),
    "new, before what depends on the data starts": Moment(_APP, "before", new=True),
}


@dataclass(frozen=True)
class Origin:
    """An environment with a database, a snapshot of it, and what its data come to."""

    handle: Handle
    snapshot: str
    digest: str
    pods: set[str] = field(default_factory=set)


def _document(name: str) -> dict[str, Any]:
    database = {**shop(name)["services"]["db"], "init": {"type": "sql", "script": _FILL}}
    return blueprint(name, db=database, app=idle(dependsOn=["db"]))


@pytest.fixture(scope="module")
def origin(stack: Stack) -> Origin:
    """Made once: in place, each case damages its data anew."""
    handle = stack.create(_document(new_name()))
    handle.succeeded(ENDED_SECONDS)
    digest = psql(stack, handle.namespace, _DIGEST)
    assert digest.startswith("5000|")
    return Origin(handle, taken(handle), digest, pods_settle(handle, "db"))


@pytest.mark.parametrize("case", MOMENTS)
def test_killed(stack: Stack, origin: Origin, case: str) -> None:
    moment, here = MOMENTS[case], origin.handle
    name = new_name() if moment.new else environment(here)["name"]
    namespace = f"{name}-[0-9a-f]{{8}}" if moment.new else here.namespace
    body = {"snapshotId": origin.snapshot}
    said: dict[str, tuple[str, str]] = {}
    app: set[str] = set()
    templates = 0
    if not moment.new:
        psql(stack, namespace, "truncate t; insert into t values (-1, 'late')")
        assert psql(stack, namespace, _DIGEST) != origin.digest
        app, templates = pods_settle(here, "app"), _templates(here)
        said = told(preview(here, **body))
    restored = len(stack.gate.requests(_RESTORE.replace("{namespace}", namespace)))

    def ask() -> Handle:
        return elsewhere(here, name, **body) if moment.new else change(here, "replay", **body)

    if moment.request:
        pattern = moment.request.replace("{namespace}", namespace)
        with stack.gate.hold(pattern, moment.side, body=moment.body, every=True) as hold:
            handle = ask()
            hold.wait_seen(120)
            stack.worker.kill()
            hold.drop()
    else:
        with stack.state_refused(name, "succeeded") as refused:
            handle = ask()
            eventually(refused, "the end is to be written", within=120)
            stack.worker.kill()
    stack.worker.start()
    operation = handle.ended(ENDED_SECONDS)
    assert operation["state"] == "succeeded", json.dumps(operation["failure"])
    assert_told_once(stack, operation)
    assert psql(stack, handle.namespace, _DIGEST) == origin.digest
    steps = {step["name"]: step for step in operation["steps"]}
    assert steps["load/db"]["finishedAt"] <= steps["service/app"]["startedAt"]
    loads = len(stack.gate.requests(_RESTORE.replace("{namespace}", namespace))) - restored
    assert loads == moment.loads
    now = pods_settle(handle, "app")
    if moment.new:
        assert {step["state"] for step in operation["steps"]} == {"succeeded"}
        assert _templates(handle) == 1
        handle.delete()
        return
    # What the dry run said, once: the database's pod stays, what depends on it has one new template.
    assert done(operation) == said
    assert pods_settle(handle, "db") == origin.pods
    assert now.isdisjoint(app)
    assert _templates(handle) == templates + 1


def _templates(handle: Handle) -> int:
    """How many pod templates `app` has had; of the oldest no ReplicaSet is kept."""
    [deployment] = handle.stack.objects(handle.namespace, "deployments")
    return int(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


BLOB_MIB = 256
"""Random, so that it stays as large: some seconds of streaming, in which something can be killed."""
_FILES = checksums("/data")


def test_killed_in_the_middle_of_a_stream_it_is_loaded_anew(stack: Stack) -> None:
    keeper = idle(image=POSTGRES, snapshot={"store": "files"}, volumes=[VOLUME])
    here = stack.create(blueprint(new_name(), files=keeper, app=idle(dependsOn=["files"])))
    here.succeeded(ENDED_SECONDS)
    here.sh("files-0", f"head -c {BLOB_MIB << 20} /dev/urandom > /data/blob; echo a > /data/a; sync")
    before = here.sh("files-0", _FILES)
    handle = elsewhere(here, new_name(), snapshotId=taken(here))
    handle.step_reaches("load/files", "running", within=120)

    def half_there() -> bool:
        size = handle.sh("files-0", "stat -c %s /data/blob 2>/dev/null || echo 0")
        return 0 < int(size) < BLOB_MIB << 20

    eventually(half_there, "a part of the file is there", within=60)
    stack.worker.kill()
    stack.worker.start()
    operation = handle.succeeded(ENDED_SECONDS)
    assert handle.sh("files-0", _FILES) == before
    steps = {step["name"]: step for step in operation["steps"]}
    assert steps["service/app"]["startedAt"] >= steps["load/files"]["finishedAt"]
