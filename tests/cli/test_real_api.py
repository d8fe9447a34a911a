"""The command line against the real API: FastAPI, SQLite and the event log; the workflow is played here."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import pytest
import uvicorn
import yaml
from pydantic import JsonValue
from structlog.testing import capture_logs
from typer.testing import Result

from activities.db.engine import Database
from activities.temporal import (
    OperationStart,
    QueueState,
    TemporalSetup,
    TransferReading,
    VerificationStart,
)
from api.app import create_app
from api.settings import ApiSettings
from api.state import Dependencies
from clusters.errors import Unavailable
from tests.cli.conftest import Run, stdout_json
from tests.helpers.databases import sqlite_template, sqlite_url
from tests.helpers.serving import serving
from tests.helpers.snapshots import describe
from tests.helpers.tenants import KEYS, PLANTED, begin, finish, make_tenant, record
from tests.helpers.waiting import eventually
from workflows.contracts.delete import FORCE_SIGNAL
from workflows.contracts.operation import CancelRequest
from workflows.domain.failures import Failure, FailureKind, failure
from workflows.domain.operations import OperationKind, OperationState, StepChange, StepState

pytestmark = pytest.mark.slow

__all__ = ["sqlite_template", "sqlite_url"]

EVIDENCE: JsonValue = {
    "pod": "api-1",
    "container": "api",
    "collectedAt": "2026-11-22T10:00:00Z",
    "events": [],
    "log": "cannot reach db",
    "previousLog": "",
}
BLUEPRINT = f"""
name: shop
services:
  - name: api
    image: registry.test/api:1
    dependsOn: [db]
    secrets: [{{name: token, envKey: TOKEN, value: {PLANTED}}}]
  - {{name: db, image: "registry.test/db:1"}}
"""


@dataclass
class PlayedWorkflows:
    """Plays each operation that is started: all steps succeed, save `failing`; `held` waits for force."""

    database: Database
    failing: str | None = None
    hold: bool = False
    held: bool = False
    _forced: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self, operation: OperationStart) -> None:
        if not self.hold:
            task = asyncio.create_task(self._play(operation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        assert name == FORCE_SIGNAL
        self._forced.set()
        return True

    async def check(self) -> None:
        return

    async def queue(self, name: str) -> QueueState:
        return QueueState(name, ("worker",), 0)

    async def verify(self, verification: VerificationStart) -> None:
        return

    async def ended_at(self, workflow_id: str) -> datetime | None:
        return None

    async def transfers(self, workflow_id: str) -> tuple[TransferReading, ...]:
        return ()

    async def setup(self) -> TemporalSetup:
        return TemporalSetup("1.30.0", namespace_found=True)

    async def _play(self, operation: OperationStart) -> None:
        begun = await begin(self.database, operation.operation_id)
        if begun.operation.kind is OperationKind.SNAPSHOT:
            await describe(self.database, operation.operation_id)
        if self.held:
            await self._forced.wait()
        for step in begun.steps:
            await record(
                self.database,
                operation.operation_id,
                StepChange(step=step.name, state=StepState.RUNNING, attempt=1),
            )
            if step.name == self.failing:
                reason = failure(
                    FailureKind.CRASH_LOOP, "It exits with 1.", step=step.name, evidence=("e/1.json",)
                )
                await self._change(operation, step.name, StepState.FAILED, reason)
                await finish(self.database, operation.operation_id, OperationState.FAILED, failure=reason)
                return
            await self._change(operation, step.name, StepState.SUCCEEDED)
        await finish(self.database, operation.operation_id, OperationState.SUCCEEDED)

    async def _change(
        self, operation: OperationStart, step: str, state: StepState, reason: Failure | None = None
    ) -> None:
        change = StepChange(step=step, state=state, attempt=1, failure=reason)
        await record(self.database, operation.operation_id, change)


class NoCluster:
    """Every cluster is away."""

    async def get(self, name: str) -> NoReturn:
        raise Unavailable(f"cluster {name} is away")


class OneDocument:
    """An object store that holds the evidence."""

    async def get_json(self, key: str) -> JsonValue:
        return EVIDENCE


@dataclass(frozen=True)
class Served:
    """A running API with somebody who may use it."""

    url: str
    token: str
    workflows: PlayedWorkflows


@pytest.fixture
def served(sqlite_url: str) -> Iterator[Served]:
    database = Database(sqlite_url)
    workflows = PlayedWorkflows(database)
    tokens: list[str] = []

    @asynccontextmanager
    async def dependencies(_: ApiSettings) -> AsyncIterator[Dependencies]:
        tokens.append((await make_tenant(database)).token)
        yield Dependencies(database, workflows, NoCluster(), OneDocument(), KEYS)
        await database.dispose()

    app = create_app(ApiSettings(database_url=sqlite_url), dependencies=dependencies)
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=2)
    # The API's log lines would stand in the standard output that the tests look at.
    with capture_logs(), serving(uvicorn.Server(config)) as url:
        yield Served(url, tokens[0], workflows)


@pytest.fixture
def perdure(run: Run, served: Served) -> Run:
    """Run `perdure` against the real API; no secret is ever in what it prints."""

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        result = run(*arguments, stdin=stdin, PERDURE_URL=served.url, PERDURE_API_KEY=served.token)
        assert PLANTED not in result.output
        assert served.token not in result.output
        return result

    return invoke


def test_from_blueprint_to_deleted(perdure: Run, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(BLUEPRINT, encoding="utf-8")
    assert perdure("blueprint", "validate", "-f", str(path)).exit_code == 0
    created = perdure("env", "create", "-f", str(path), "--timeout", "30s", "-o", "json")
    assert created.exit_code == 0, created.stderr
    environment = stdout_json(created)
    assert environment["name"] == "shop"
    assert "succeeded  service/api" in created.stderr
    assert [each["id"] for each in stdout_json(perdure("env", "list", "-o", "json"))] == [environment["id"]]
    (operation,) = stdout_json(perdure("op", "list", "-e", "shop", "-o", "json"))
    assert perdure("op", "watch", operation["id"]).exit_code == 0
    assert "service/db" in perdure("op", "get", operation["id"]).stdout
    assert "api" in perdure("env", "topology", "shop").stdout
    status = perdure("env", "status", "shop")
    assert (status.exit_code, "last known" in status.stdout) == (0, True)
    assert perdure("env", "logs", "shop").exit_code == 1
    deleted = perdure("env", "delete", "shop", "--yes", "--timeout", "30s")
    assert deleted.exit_code == 0, deleted.stderr
    assert perdure("env", "get", "shop").exit_code == 6


def test_environments_are_filtered_sorted_and_cut(perdure: Run) -> None:
    for name, label in (("pr-1", "team=a"), ("pr-2", "team=b"), ("main", "team=a")):
        made = perdure("env", "create", "-f", "-", "--name", name, "--timeout", "30s", stdin=BLUEPRINT)
        assert made.exit_code == 0, made.stderr
        assert perdure("env", "set", name, "--label", label).exit_code == 0

    def names(*options: str) -> list[object]:
        return [each["name"] for each in stdout_json(perdure("env", "list", "-o", "json", *options))]

    assert names("--sort", "name") == ["main", "pr-1", "pr-2"]
    assert names("--sort", "-name", "--limit", "1") == ["pr-2"]
    assert names("--search", "pr-", "--label", "team=a") == ["pr-1"]
    assert names("--status", "running", "--status", "error", "--search", "2") == ["pr-2"]
    none = perdure("env", "list", "--status", "deleted")
    assert none.stdout == "No such environments.\n"
    wrong = perdure("env", "list", "--sort", "age", "--status", "sleeping")
    assert wrong.exit_code == 2
    assert "-createdAt" in wrong.stderr
    assert "degraded" in wrong.stderr


def test_what_is_measured_and_kept_of_an_environment(perdure: Run, tmp_path: Path) -> None:
    assert perdure("env", "create", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT).exit_code == 0
    assert "the cluster does not answer" in perdure("env", "metrics", "shop").stdout
    assert perdure("env", "stores", "shop").exit_code == 1  # only the cluster knows
    assert "all " in perdure("env", "cost", "shop").stdout
    figures = perdure("stats")
    assert (figures.exit_code, "1 succeeded" in figures.stdout) == (0, True)
    shown = perdure("env", "revision", "shop", "1").stdout
    assert [each["name"] for each in yaml.safe_load(shown)["services"]] == ["api", "db"]
    assert perdure("env", "checkpoint", "shop", "good").exit_code == 0
    assert "good" in perdure("env", "checkpoints", "shop").stdout
    assert perdure("principal", "create", "robot").exit_code == 0
    assert "robot" in perdure("principal", "list").stdout
    examples = tmp_path / "examples.yaml"
    examples.write_text("- {method: GET, path: /prices/1, body: {cents: 890}}\n")
    words = ("stub", "generate", "prices", "--examples", str(examples), "--dir", str(tmp_path / "made"))
    assert perdure(*words, "--mode", "mirror").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["prices.yaml", "stub.json"]
    service = yaml.safe_load((tmp_path / "made" / "prices.yaml").read_text())
    document = yaml.safe_dump({"name": "x", "services": service})
    assert perdure("blueprint", "validate", "-f", "-", stdin=document).exit_code == 0


def test_snapshots_of_a_deleted_environment_are_found_by_its_name(perdure: Run) -> None:
    """Deleted by mistake, and made anew: that is what one has snapshots for."""
    wait = ("--timeout", "30s", "-o", "json")

    def newest() -> object:
        return stdout_json(perdure("snapshot", "get", "latest:shop", "-o", "json"))["id"]

    def listed() -> list[object]:
        return [each["id"] for each in stdout_json(perdure("snapshot", "list", "shop", "-o", "json"))]

    assert perdure("env", "create", "-f", "-", *wait, stdin=BLUEPRINT).exit_code == 0
    first = stdout_json(perdure("snapshot", "create", "shop", *wait))["snapshotId"]
    assert perdure("env", "delete", "shop", "--yes", *wait).exit_code == 0
    assert (newest(), listed()) == (first, [first])
    restored = perdure("snapshot", "restore", "latest:shop", "--into", "shop", *wait)
    assert restored.exit_code == 0, restored.stderr
    assert (newest(), listed()) == (first, [first])
    second = stdout_json(perdure("snapshot", "create", "shop", *wait))["snapshotId"]
    assert (newest(), listed()) == (second, [second, first])
    assert perdure("snapshot", "list", "shup").exit_code == 6


def test_a_share_link_is_made_listed_and_revoked(perdure: Run, served: Served) -> None:
    assert perdure("env", "create", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT).exit_code == 0
    made = perdure(
        "env", "share", "shop", "--pin", "--expires", "2h", "--label", "review", stdin="4711-blue\n"
    )
    assert made.exit_code == 0, made.stderr
    link = made.stdout.splitlines()[0]
    assert link.startswith(f"{served.url}/v1/portal/env_")
    assert "#pds_shr_" in link
    (listed,) = stdout_json(perdure("env", "shares", "shop", "-o", "json"))
    assert (listed["label"], listed["pin"], listed["state"]) == ("review", True, "open")
    assert perdure("env", "unshare", "shop", listed["id"]).exit_code == 0
    assert "revoked" in perdure("env", "shares", "shop").stdout
    assert perdure("env", "unshare", "shop", "shr_nothing").exit_code == 6
    too_long = perdure("env", "share", "shop", "--expires", "400d")
    assert (too_long.exit_code, "expiresInSeconds" in too_long.stderr) == (2, True)


def test_a_delete_that_is_held_up_is_forced(perdure: Run, served: Served) -> None:
    assert perdure("env", "create", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT).exit_code == 0
    served.workflows.held = True
    held = stdout_json(perdure("env", "delete", "shop", "--yes", "--no-wait", "-o", "json"))

    def state() -> object:
        return stdout_json(perdure("op", "get", held["id"], "-o", "json"))["state"]

    eventually(lambda: state() == "running", "the delete runs")
    forced = perdure("env", "delete", "shop", "--force", "--timeout", "30s", "-o", "json")
    assert forced.exit_code == 0, forced.stderr
    ended = stdout_json(forced)
    assert (ended["id"], ended["state"]) == (held["id"], "succeeded")


def test_a_failure_and_its_retry(perdure: Run, served: Served) -> None:
    served.workflows.failing = "service/api"
    failed = perdure("env", "create", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT)
    assert failed.exit_code == 1
    for expected in (
        "crash_loop in step service/api",
        "keeps exiting",
        "cannot reach db",
        "perdure env retry shop",
    ):
        assert expected in failed.stderr
    served.workflows.failing = None
    assert perdure("env", "retry", "shop", "--timeout", "30s").exit_code == 0


def test_one_that_has_not_begun_is_cancelled_at_once(perdure: Run, served: Served) -> None:
    served.workflows.hold = True
    accepted = perdure("env", "create", "-f", "-", "--no-wait", "-o", "json", stdin=BLUEPRINT)
    operation = json.loads(accepted.stdout)["operation"]["id"]
    assert perdure("op", "watch", operation, "--timeout", "0.2s").exit_code == 5
    assert perdure("op", "cancel", operation).exit_code == 0
    assert perdure("op", "watch", operation).exit_code == 1


def test_a_bad_blueprint_lists_all_faults(perdure: Run) -> None:
    result = perdure("env", "create", "-f", "-", stdin="name: Shop!\nservices: [{name: a, imgae: x}]\n")
    assert result.exit_code == 2
    assert "imgae" in result.stderr
    assert "Shop!" in result.stderr or "name" in result.stderr
    malformed = perdure("env", "create", "-f", "-", stdin="a: [")
    assert (malformed.exit_code, "line" in malformed.stderr) == (2, True)
    assert perdure("env", "list", "-o", "json").stdout == "[]\n"


def test_registry_credentials(perdure: Run) -> None:
    arguments = ("registry", "add", "corp", "--registry", "registry.test:5000", "-u", "bot")
    assert perdure(*arguments, "--password-stdin", stdin=PLANTED).exit_code == 0
    assert "registry.test:5000" in perdure("registry", "list").stdout
    assert perdure("registry", "replace", "corp", "-u", "other", stdin="another").exit_code == 0
    shown = perdure("registry", "get", "corp").stdout
    assert "registry.test:5000" in shown
    assert "other" in shown
    assert perdure("registry", "remove", "corp").exit_code == 0
    assert perdure("registry", "get", "corp").exit_code == 6
    assert perdure("registry", "remove", "corp").exit_code == 6


def test_compose_becomes_a_blueprint(perdure: Run) -> None:
    compose = "services:\n  web:\n    image: example/web:1\n    volumes: ['./src:/src']\n"
    result = perdure("blueprint", "import", "-f", "-", "--name", "shop", stdin=compose)
    assert result.exit_code == 0, result.stderr
    assert "name: shop" in result.stdout
    assert "not carried over" in result.stderr


def test_another_key_is_refused(run: Run, served: Served) -> None:
    result = run("env", "list", PERDURE_URL=served.url, PERDURE_API_KEY="pdr_wrong")
    assert (result.exit_code, "PERDURE_API_KEY" in result.stderr) == (1, True)


def test_a_branch_comes_up_changes_and_goes_down(perdure: Run, tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(BLUEPRINT, encoding="utf-8")
    file, wait = ("-f", str(path)), ("--timeout", "30s")
    assert perdure("env", "up", *file, *wait).exit_code == 0
    same = perdure("env", "up", *file, *wait)
    assert (same.exit_code, "nothing to do" in same.stderr) == (0, True)
    path.write_text(BLUEPRINT.replace("api:1", "api:2"), encoding="utf-8")
    preview = perdure("env", "update", "shop", *file, "--dry-run")
    assert preview.stdout.splitlines()[:2] == [
        "~ api: in_place",
        "      image: registry.test/api:1 -> registry.test/api:2",
    ]
    updated = perdure("env", "up", *file, "-m", "newer", *wait)
    assert updated.exit_code == 0, updated.stderr
    assert "Update of shop succeeded" in updated.stderr
    assert "newer" in perdure("env", "revisions", "shop").stdout
    assert perdure("env", "checkpoint", "shop", "good").exit_code == 0
    assert "image: registry.test/api:1 -> registry.test/api:2" in perdure("env", "diff", "shop").stdout
    assert perdure("env", "rollback", "shop", "1", *wait).exit_code == 0
    assert perdure("env", "rollback", "shop", "good", *wait).exit_code == 0
    for action in (
        ("scale", "shop", "api", "2"),
        ("restart", "shop", "api"),
        ("stop", "shop"),
        ("resume", "shop"),
    ):
        done = perdure("env", *action, *wait)
        assert done.exit_code == 0, done.stderr
    same = perdure("env", "scale", "shop", "api", "2", "-o", "json")
    assert (same.exit_code, stdout_json(same)["noop"]) == (0, True)
    assert "shop is so already: nothing to do." in same.stderr
    assert perdure("env", "clone", "shop", "copy", *wait).exit_code == 0
    assert perdure("env", "down", *file, *wait).exit_code == 0
    again = perdure("env", "down", *file)
    assert (again.exit_code, "nothing to do" in again.stderr) == (0, True)
    assert perdure("env", "get", "copy").exit_code == 0


def test_an_update_that_fails_says_so(perdure: Run, served: Served) -> None:
    assert perdure("env", "up", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT).exit_code == 0
    served.workflows.failing = "service/api"
    changed = BLUEPRINT.replace("api:1", "api:2")
    failed = perdure("env", "up", "-f", "-", "--timeout", "30s", stdin=changed)
    assert failed.exit_code == 1
    assert "crash_loop" in failed.stderr


def test_a_seed_is_published_found_and_run(perdure: Run, tmp_path: Path) -> None:
    path = tmp_path / "seed.yaml"
    path.write_text(
        "name: visitor\nversion: 1.0.0\ntype: shell\nservice: api\nscript: load $WHO $TOKEN\n"
        "parameters: [{name: WHO, required: true}, {name: TOKEN, secret: true}]\n",
        encoding="utf-8",
    )
    assert perdure("env", "up", "-f", "-", "--timeout", "30s", stdin=BLUEPRINT).exit_code == 0
    published = perdure("seed", "publish", "-f", str(path))
    assert published.exit_code == 0, published.stderr
    assert "visitor" in perdure("seed", "search", "visit").stdout
    assert "load $WHO $TOKEN" in perdure("seed", "show", "visitor").stdout
    run = ("seed", "run", "visitor", "shop", "--timeout", "30s", "--set", "WHO=ada")
    refused = perdure(*run, "--secret", "TOKEN=nobodys")
    assert (refused.exit_code, "parameters.TOKEN" in refused.stderr) == (2, True)
    done = perdure(*run, "--secret", "TOKEN=token")
    assert done.exit_code == 0, done.stderr
    assert "Seed of shop succeeded" in done.stderr
    own = perdure("seed", "once", "shop", "api", "--shell", "-", "--timeout", "30s", stdin="exit 0")
    assert own.exit_code == 0, own.stderr
