"""A whole Perdure of a test's own: Temporal server, API and workers as processes, the worker behind a gate.

Only the Kubernetes cluster is shared. Every process can be killed, frozen and started again; state is kept in
a directory, so that what survives is what would survive outside.
"""

import asyncio
import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.secrets import Opener, new_private_key
from devstack.kube import ServiceProxy
from tests.helpers.administrator import Administrator
from tests.helpers.databases import migrated_sqlite
from tests.helpers.forking import Forked
from tests.helpers.kube_gate import KubeGate
from tests.helpers.ports import free_port
from tests.helpers.waiting import eventually
from worker.bootstrap import Wanted, bootstrap
from workflows.domain.operations import TERMINAL_STATES

ROOT = Path(__file__).parents[2]
CLUSTER = "local"


@dataclass
class Process:
    """One process of the stack, in a process group of its own."""

    name: str
    argv: list[str]
    env: Mapping[str, str]
    log: Path
    forked: bool = False
    """Whether it is `python -m` of a module of ours, to be forked instead of started."""
    handle: subprocess.Popen[bytes] | Forked | None = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.handle is not None and self.handle.poll() is None

    def start(self) -> None:
        """Start it; nothing happens when it runs already."""
        if self.alive:
            return
        if self.forked:
            self.handle = Forked(self.argv[2:], env=self.env, cwd=ROOT, out=self.log)
            return
        with self.log.open("ab") as log:
            self.handle = subprocess.Popen(
                self.argv, env=dict(self.env), cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end in good order, and wait."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: it stands still, its connections stay open."""
        assert self.handle is not None
        os.kill(self.handle.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on where it stood."""
        assert self.handle is not None
        os.kill(self.handle.pid, signal.SIGCONT)

    def text(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.handle is None:
            return
        if self.alive:
            os.kill(self.handle.pid, number)
        self.handle.wait(timeout=60)


@dataclass
class Stack:
    """The running stack."""

    directory: Path
    through: KubeGate | None
    """What the worker speaks to the cluster through, if not to itself."""
    temporal: Process
    api: Process
    worker: Process
    client: httpx2.Client
    environment: Mapping[str, str]
    kubeconfig: Path
    """The administrator's, to look at the cluster with."""
    temporal_address: str
    spare: list[Process] = field(default_factory=list)

    @property
    def gate(self) -> KubeGate:
        """The gate, of a stack that was made with one."""
        assert self.through is not None, "the worker speaks to the cluster itself: see GATED in tests/e2e"
        return self.through

    @cached_property
    def administrator(self) -> Administrator:
        """Who looks at the cluster beside the product."""
        return Administrator(self.kubeconfig)

    def another_worker(self) -> Process:
        """Start a second worker beside the first."""
        number = len(self.spare) + 2
        worker = Process(
            f"worker-{number}",
            [sys.executable, "-m", "worker"],
            self.environment,
            self.directory / f"worker-{number}.log",
            forked=self.worker.forked,
        )
        self.spare.append(worker)
        worker.start()
        return worker

    def start_api(self) -> None:
        """Start the API and wait until it answers."""
        self.api.start()
        eventually(self._api_answers, f"the API answers; its log: {self.api.log}", within=60)

    def start_temporal(self) -> None:
        """Start the Temporal server and wait until it answers."""
        self.temporal.start()
        eventually(self._temporal_answers, "Temporal answers", within=60)

    def create(self, document: dict[str, Any]) -> "Handle":
        """Ask for an environment and return a handle on it."""
        answer = self.client.post("/v1/environments", json={"blueprint": document})
        assert answer.status_code == 202, answer.text
        data = answer.json()["data"]
        return Handle(self, data["id"], data["namespace"], data["operation"]["id"])

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        """Run kubectl as the administrator and return what it prints."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def objects(self, namespace: str, kinds: str, labels: str = "") -> list[dict[str, Any]]:
        """Return live objects as the administrator sees them."""
        return self.administrator.objects(namespace, kinds, labels)

    def run_in(
        self, namespace: str, where: str, *command: str, container: str = "", check: bool = True
    ) -> str:
        """Run a command in a pod, as `Administrator.run_in` does."""
        return self.administrator.run_in(namespace, where, *command, container=container, check=check)

    def namespace_exists(self, namespace: str) -> bool:
        """Whether the namespace is there, Terminating included."""
        return namespace in self.administrator.namespaces()

    def delete_namespaces(self) -> None:
        """Have the cluster delete all namespaces of this installation; waits for nothing."""
        self.kubectl("delete", "namespace", "-l", self._ours(), "--wait=false", "--ignore-not-found")

    def namespaces(self) -> list[str]:
        """The namespaces of this installation, those that are being deleted included."""
        return self.administrator.namespaces(self._ours())

    def _ours(self) -> str:
        [(installation,)] = self.rows("select uuid from installation")
        return f"perdure.dev/installation={installation}"

    def another_organization(self) -> str:
        """Make an organisation of its own; return its owner's token."""
        return bootstrapped(self.environment)

    @property
    def database(self) -> Path:
        """The file of the product's database."""
        return self.directory / "perdure.db"

    def rows(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """Read from the database beside the product; answers while API and worker are away or held."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    @contextmanager
    def database_locked(self) -> Iterator[None]:
        """Keep every writer of the database waiting while the body runs."""
        with closing(sqlite3.connect(self.database, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def write_refused(self, name: str, write: str, condition: str) -> Iterator[Callable[[], bool]]:
        """Refuse a write to the database (`UPDATE OF state ON operations`) while the body runs.

        `condition`: of the row, as SQL. Yields a function that says whether the worker has tried since.
        """
        trigger = f"refuse-{name}"
        seen = len(self.worker.text())
        self.execute(
            f"""CREATE TRIGGER "{trigger}" BEFORE {write} WHEN {condition}
            BEGIN SELECT RAISE(ABORT, '{trigger}'); END"""
        )
        try:
            yield lambda: trigger in self.worker.text()[seen:]
        finally:
            self.execute(f'DROP TRIGGER "{trigger}"')

    @contextmanager
    def write_held(self, name: str, write: str, condition: str) -> Iterator[Callable[[], bool]]:
        """Let a write to the database (as for `write_refused`) never be done: who makes it has to be killed.

        It stands in the middle of its transaction. Yields a function that says whether somebody does.
        """
        trigger, endless = f"hold-{name}", f"endless-{name}"
        self.execute(
            f"""CREATE VIEW "{endless}" AS WITH RECURSIVE n(value) AS
            (SELECT 1 UNION ALL SELECT value + 1 FROM n) SELECT value FROM n"""
        )
        self.execute(
            f"""CREATE TRIGGER "{trigger}" BEFORE {write} WHEN {condition}
            BEGIN SELECT count(*) FROM "{endless}"; END"""
        )
        try:
            yield self._written_to
        finally:
            self.execute(f'DROP TRIGGER "{trigger}"')
            self.execute(f'DROP VIEW "{endless}"')

    def _written_to(self) -> bool:
        """Whether one writer keeps the database for more than a moment: many may follow one another."""
        with closing(sqlite3.connect(self.database, timeout=1, isolation_level=None)) as connection:
            before = connection.execute("PRAGMA data_version").fetchone()
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return bool(connection.execute("PRAGMA data_version").fetchone() == before)
            connection.execute("ROLLBACK")
            return False

    @contextmanager
    def state_refused(self, environment: str, state: str) -> Iterator[Callable[[], bool]]:
        """Refuse that an operation on the environment of that name gets into `state` while the body runs.

        Yields a function that says whether the worker has tried since.
        """
        condition = f"""NEW.state = '{state}'
            AND NEW.environment_id IN (SELECT id FROM environments WHERE name = '{environment}')"""
        with self.write_refused(environment, "UPDATE OF state ON operations", condition) as refused:
            yield refused

    def taken_up(self, operation_id: str, worker: Process) -> bool:
        """Whether this worker process has begun to work on the operation's workflow."""
        assert worker.handle is not None
        mark = f"/{worker.handle.pid}"

        async def look(workflow: WorkflowHandle[Any, Any]) -> bool:
            async for event in workflow.fetch_history_events():
                if event.workflow_task_started_event_attributes.identity.endswith(mark):
                    return True
            return False

        return self._ask_temporal(operation_id, look)

    def workflow_exists(self, operation_id: str) -> bool:
        """Whether Temporal knows the operation's workflow."""

        async def look(workflow: WorkflowHandle[Any, Any]) -> bool:
            await workflow.describe()
            return True

        return self._ask_temporal(operation_id, look)

    def workflow_ended(self, operation_id: str) -> bool:
        """Whether Temporal has the end of the operation's workflow."""

        async def look(workflow: WorkflowHandle[Any, Any]) -> bool:
            return (await workflow.describe()).close_time is not None

        return self._ask_temporal(operation_id, look)

    def _ask_temporal(
        self, operation_id: str, look: Callable[[WorkflowHandle[Any, Any]], Awaitable[bool]]
    ) -> bool:
        """Ask about the operation's workflow; False while there is none."""
        [(workflow_id,)] = self.rows("select workflow_id from operations where id = ?", operation_id)

        async def ask() -> bool:
            client = await Client.connect(self.temporal_address)
            try:
                return await look(client.get_workflow_handle(workflow_id))
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                return False

        return asyncio.run(ask())

    def _temporal_answers(self) -> bool:
        assert self.temporal.alive, f"the Temporal server ended: {self.temporal.text()[-2000:]}"
        try:
            asyncio.run(Client.connect(self.temporal_address))
        except RuntimeError:  # nobody listens yet, or it is still starting
            return False
        return True

    def execute(self, statement: str, *values: str) -> None:
        """Write to the database beside the product."""
        with closing(sqlite3.connect(self.database, timeout=60, isolation_level=None)) as connection:
            connection.execute(statement, values)

    def _api_answers(self) -> bool:
        assert self.api.alive, f"the API ended: {self.api.text()[-2000:]}"
        try:
            return self.client.get("/health/live").status_code == 200
        except httpx2.TransportError:
            return False


@dataclass
class Handle:
    """One environment and the operation that is looked at."""

    stack: Stack
    environment_id: str
    namespace: str
    operation_id: str

    def sh(self, where: str, script: str, *, container: str = "", check: bool = True) -> str:
        """Run a shell script in a pod, as `Administrator.run_in` runs a command."""
        return self.stack.run_in(self.namespace, where, "sh", "-c", script, container=container, check=check)

    def ask(self, service: str, path: str) -> tuple[int, Any]:
        """Return what a service answers to a GET on its port 8080: the status, and JSON, else text."""
        return ServiceProxy(self.stack.kubeconfig, self.namespace, service, 8080).request("GET", path)

    def operation(self) -> dict[str, Any]:
        """Return the operation."""
        answer = self.stack.client.get(f"/v1/operations/{self.operation_id}")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def status(self) -> dict[str, Any]:
        """Return the environment's live status."""
        answer = self.stack.client.get(f"/v1/environments/{self.environment_id}/status")
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def step(self, name: str) -> dict[str, Any]:
        """Return one step of the operation."""
        found: dict[str, Any] = next(each for each in self.operation()["steps"] if each["name"] == name)
        return found

    def ended(self, within: float = 120.0) -> dict[str, Any]:
        """Return the operation once it has ended.

        The ledger is looked at beside the API, which would spend on such looks a tenth of all that the tests
        on the cluster take.
        """

        def has_ended() -> bool:
            [(state,)] = self.stack.rows("select state from operations where id = ?", self.operation_id)
            return state in TERMINAL_STATES

        eventually(has_ended, f"operation {self.operation_id} ends", within=within)
        return self.operation()

    def succeeded(self, within: float = 120.0) -> dict[str, Any]:
        """Return the operation once it has ended, which has to be well."""
        operation = self.ended(within)
        assert operation["state"] == "succeeded", json.dumps(operation["failure"])
        return operation

    def step_reaches(self, name: str, state: str, within: float = 60.0) -> dict[str, Any]:
        """Return a step once it is in `state`."""

        def is_reached() -> bool:
            one = "select state from steps where operation_id = ? and name = ?"
            [(now,)] = self.stack.rows(one, self.operation_id, name)
            return bool(now == state)

        eventually(is_reached, f"step {name} is {state}", within=within)
        return self.step(name)

    def delete(self) -> "Handle":
        """Ask for the environment's deletion and return a handle on that operation."""
        answer = self.stack.client.delete(f"/v1/environments/{self.environment_id}")
        assert answer.status_code == 202, answer.text
        return Handle(self.stack, self.environment_id, self.namespace, answer.json()["data"]["id"])

    def retry(self) -> "Handle":
        """Ask for a retry and return a handle on it."""
        answer = self.stack.client.post(f"/v1/environments/{self.environment_id}/retry")
        assert answer.status_code == 202, answer.text
        return Handle(self.stack, self.environment_id, self.namespace, answer.json()["data"]["id"])

    def cancel(self, *, cleanup: bool) -> None:
        """Ask for the operation to be cancelled."""
        answer = self.stack.client.post(
            f"/v1/operations/{self.operation_id}/cancel", json={"cleanup": cleanup}
        )
        assert answer.status_code == 202, answer.text


@contextmanager
def running_stack(
    directory: Path,
    *,
    kubeconfig: Path,
    admin_kubeconfig: Path,
    extra: Mapping[str, str] | None = None,
    gated: bool = True,
    forked: bool = True,
) -> Iterator[Stack]:
    """Start a stack in `directory`; everything ends with the body. `extra`: more settings of ours.

    `gated`: the worker speaks to the cluster through a gate, which costs as much as the worker does.
    `forked`: API and workers are forked and not started (ADR 0040); not where their memory is measured.
    """
    with ExitStack() as cleanup:
        gate = cleanup.enter_context(KubeGate(kubeconfig)) if gated else None
        ports = {"api": free_port(), "temporal": free_port()}
        environment = _environment(directory, gate, ports, kubeconfig) | dict(extra or {})
        (directory / "perdure.db").write_bytes(migrated_sqlite())
        token = bootstrapped(environment)
        temporal = Process(
            "temporal",
            [
                *(sys.executable, "-m", "worker.devserver", "--state", str(directory)),
                *("--port", str(ports["temporal"]), "--ui-port", str(free_port())),
            ],
            environment,
            directory / "temporal.log",
            forked=forked,
        )
        # The API reads the cluster directly: the gate stands before the worker only.
        api = Process(
            "api",
            [sys.executable, "-m", "api"],
            {**environment, "PERDURE_CLUSTER_KUBECONFIG": str(kubeconfig)},
            directory / "api.log",
            forked=forked,
        )
        worker = Process(
            "worker", [sys.executable, "-m", "worker"], environment, directory / "worker.log", forked=forked
        )
        client = cleanup.enter_context(
            httpx2.Client(
                base_url=f"http://127.0.0.1:{ports['api']}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=90,
            )
        )
        stack = Stack(
            directory,
            gate,
            temporal,
            api,
            worker,
            client,
            environment,
            admin_kubeconfig,
            f"127.0.0.1:{ports['temporal']}",
        )
        cleanup.callback(_end, stack)
        stack.start_temporal()
        stack.start_api()
        worker.start()
        yield stack


def _environment(
    directory: Path, gate: KubeGate | None, ports: Mapping[str, int], kubeconfig: Path
) -> dict[str, str]:
    cluster = kubeconfig if gate is None else gate.kubeconfig(directory / "gate.kubeconfig")
    private = new_private_key()
    seal_key = directory / "seal.key"
    seal_key.write_text(private)
    master = base64.b64encode(os.urandom(32)).decode()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PERDURE_")}
    return inherited | {
        "PERDURE_ENVIRONMENT": "dev",
        "PERDURE_DATABASE_URL": f"sqlite+aiosqlite:///{directory}/perdure.db",
        "PERDURE_OBJECT_STORE": str(directory / "objects"),
        "PERDURE_MASTER_KEYS": f"test:{master}",
        "PERDURE_SEAL_PUBLIC_KEYS": json.dumps({CLUSTER: Opener(private).public_key}),
        "PERDURE_SEAL_PRIVATE_KEY_FILE": str(seal_key),
        "PERDURE_CLUSTER": CLUSTER,
        "PERDURE_CLUSTER_KUBECONFIG": str(cluster),
        "PERDURE_TEMPORAL_ADDRESS": f"127.0.0.1:{ports['temporal']}",
        "PERDURE_HOST": "127.0.0.1",
        "PERDURE_PORT": str(ports["api"]),
        "PERDURE_MIRROR_IMAGE": "10.111.0.1:5000/perdure/nginx:1",
        "PERDURE_GRACEFUL_SHUTDOWN_SECONDS": "5",
    }


def bootstrapped(environment: Mapping[str, str]) -> str:
    """Migrate the database, make an organisation of its own, and return its owner's token.

    In this process: another one takes three seconds to start.
    """
    wanted = Wanted(f"test-{uuid.uuid4().hex[:8]}", "test", unlimited=True)
    token = asyncio.run(bootstrap(environment["PERDURE_DATABASE_URL"], wanted)).token
    assert token is not None
    return token


def _end(stack: Stack) -> None:
    for process in (*stack.spare, stack.worker, stack.api, stack.temporal):
        if process.alive and process.handle is not None:
            os.kill(process.handle.pid, signal.SIGCONT)
        process.kill()
    stack.administrator.close()
