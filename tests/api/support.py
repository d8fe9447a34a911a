"""What the API tests stand on."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from fastapi import FastAPI
from pydantic import JsonValue
from sqlmodel import SQLModel, func, select
from starlette.types import Message

from activities.db import tables
from activities.db.engine import Database
from activities.db.records import EnvironmentRecord
from activities.payload_codec import PayloadKeys
from activities.temporal import (
    SCHEDULES,
    OperationStart,
    QueueState,
    TemporalSetup,
    TemporalUnavailable,
    TransferReading,
    VerificationStart,
)
from activities.version import worker_identity
from api.app import create_app
from api.settings import ApiSettings
from api.state import AppState, Dependencies
from clusters.errors import ClusterError, Invalid, Unavailable
from clusters.gateway import Cluster
from clusters.objects import Manifest, ObjectRef
from clusters.rights import Right, Rights, rights
from clusters.values import Listing
from tests.helpers.tenants import KEYS, Tenant
from workflows.contracts.operation import CancelRequest
from workflows.domain.failures import Blocker
from workflows.domain.names import ENVIRONMENT, FENCE_POLICIES, INSTALLATION, NAME

SET_UP = TemporalSetup("1.30.0", namespace_found=True, schedules=dict.fromkeys(SCHEDULES, False))


@dataclass
class Recorder:
    """Stands in for Temporal: notes what it was asked; `away` makes it refuse."""

    started: list[OperationStart] = field(default_factory=list)
    verified: list[VerificationStart] = field(default_factory=list)
    signalled: list[tuple[str, str, CancelRequest | None]] = field(default_factory=list)
    """By workflow id: the signal's name and what came with it."""
    moving: dict[str, Sequence[TransferReading]] = field(default_factory=dict)
    """By workflow id: how far its data are."""
    asked: list[str] = field(default_factory=list)
    """Workflows that this was asked of."""
    away: bool = False
    workers: tuple[str, ...] = (worker_identity("host-a", 7), worker_identity("host-b", 9))
    set_up: TemporalSetup = SET_UP

    async def start(self, operation: OperationStart) -> None:
        """Note a start."""
        self._refuse()
        self.started.append(operation)

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        """Note a signal."""
        self._refuse()
        self.signalled.append((workflow_id, name, argument))
        return True

    async def check(self) -> None:
        """Answer, or not."""
        self._refuse()

    async def queue(self, name: str) -> QueueState:
        """Return two workers and what waits for them."""
        self._refuse()
        return QueueState(name, self.workers, 3)

    async def verify(self, verification: VerificationStart) -> None:
        """Note the start of a verification."""
        self._refuse()
        self.verified.append(verification)

    async def ended_at(self, workflow_id: str) -> datetime | None:
        """Everything runs."""
        return None

    async def transfers(self, workflow_id: str) -> Sequence[TransferReading]:
        """Return what was laid ready for a workflow, and note that it was asked."""
        self.asked.append(workflow_id)
        self._refuse()
        return self.moving.get(workflow_id, ())

    async def setup(self) -> TemporalSetup:
        """Return how it is set up."""
        self._refuse()
        return self.set_up

    def _refuse(self) -> None:
        if self.away:
            raise TemporalUnavailable("Temporal does not answer (unavailable)")


@dataclass
class FakeCluster(Cluster):
    """A cluster that has the pods it is given."""

    pods: list[Manifest] = field(default_factory=list)
    log_text: dict[tuple[str, str], str] = field(default_factory=dict)
    """By pod and container."""
    held_by: tuple[Blocker, ...] = ()
    away: bool = False
    lists: int = 0
    refused: ClusterError | None = None
    """What a list of pods is answered instead."""
    namespaces: dict[str, Manifest] = field(default_factory=dict)
    """By name; put there with `stand`."""
    lacking: frozenset[str] = frozenset()
    """Rights that we do not have, as `get pods/log`."""
    policies: frozenset[str] = frozenset(FENCE_POLICIES)
    fence_holds: bool = True
    kinds: frozenset[str] = frozenset({"PodMetrics"})
    kubernetes: str = "v1.35.4"
    late: timedelta = timedelta()
    """How far its clock is behind ours."""

    async def get(self, name: str | ObjectRef) -> Any:
        """Return a namespace or a policy; and be the pool of clusters too: there is one."""
        if isinstance(name, ObjectRef):
            self._refuse()
            if name.kind.startswith("ValidatingAdmissionPolicy"):
                return {} if name.name in self.policies else None
            return self.namespaces.get(name.name)
        if name != "local":
            raise Unavailable(f"no settings for {name}")
        return self

    def stand(self, record: EnvironmentRecord, **metadata: JsonValue) -> None:
        """Let the environment's namespace be there, with more or other `metadata`."""
        labels: JsonValue = {ENVIRONMENT: record.id, INSTALLATION: record.installation_id}
        self.namespaces[record.namespace] = {"metadata": {"labels": labels, **metadata}}

    async def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> Listing:
        """Return the pods with these labels."""
        self._refuse()
        self.lists += 1
        if kind == "Namespace":
            named: list[Manifest] = [{"metadata": {"name": each}} for each in self.namespaces]
            return Listing(items=tuple(named), resource_version="1")
        if self.refused is not None:
            raise self.refused
        found = [
            pod
            for pod in self.pods
            if all(pod["metadata"]["labels"].get(key) == value for key, value in (labels or {}).items())  # type: ignore[index,call-overload,union-attr]
        ]
        return Listing(items=tuple(found), resource_version="1")

    async def logs(self, namespace: str, pod: str, *, container: str | None = None, **_: object) -> str:
        """Return a container's log."""
        self._refuse()
        text = self.log_text.get((pod, container or ""))
        if text is None:
            raise Invalid("the container has no log yet")
        return text

    async def blockers(self, namespace: str) -> tuple[Blocker, ...]:
        """Return what was planted."""
        return self.held_by

    async def ping(self) -> None:
        """Answer, or not."""
        self._refuse()

    async def version(self) -> str:
        """Return what it is."""
        return self.kubernetes

    async def clock(self) -> datetime | None:
        """Return its time."""
        return datetime.now(UTC) - self.late

    async def missing_rights(self, table: Rights, namespace: str | None = None) -> tuple[Right, ...]:
        """Return what was taken away."""
        return tuple(right for right in rights(table) if str(right) in self.lacking)

    async def fence_enforced(self, namespace: str) -> bool:
        """Whether late writes are refused."""
        return self.fence_holds

    async def served(self, kind: str) -> bool:
        """Whether a kind is served."""
        return kind in self.kinds

    def _refuse(self) -> None:
        if self.away:
            raise Unavailable("connection refused")


def pod(
    environment_id: str,
    service: str,
    *,
    ready: bool = True,
    restarts: int = 0,
    waiting: str | None = None,
    uid: str = "pod-1",
    container: str = "c-1",
) -> Manifest:
    """A pod of a service."""
    state: dict[str, JsonValue] = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "metadata": {
            "name": f"{service}-0",
            "uid": uid,
            "labels": {ENVIRONMENT: environment_id, NAME: service},
        },
        "spec": {"containers": [{"name": service, "image": f"registry.test/{service}:live"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [
                {"name": service, "restartCount": restarts, "state": state, "containerID": container}
            ],
        },
    }


@dataclass
class FakeObjects:
    """Documents by key; a missing one raises like the real store."""

    documents: dict[str, JsonValue] = field(default_factory=dict)

    async def get_json(self, key: str) -> JsonValue:
        """Return a document."""
        return self.documents[key]


@dataclass
class Api:
    """A running API, and what stands behind it."""

    app: FastAPI
    client: httpx2.AsyncClient
    state: AppState
    recorder: Recorder
    cluster: FakeCluster
    objects: FakeObjects

    @property
    def database(self) -> Database:
        """Its database."""
        return self.state.database

    def use(self, tenant: Tenant) -> None:
        """Send this tenant's key from now on."""
        self.client.headers["Authorization"] = f"Bearer {tenant.token}"

    def forget_targets(self) -> None:
        """As a second later: the next request through the proxy looks for its pods."""
        self.state.targets._readings._known.clear()

    async def started(self) -> list[OperationStart]:
        """Return the workflow starts so far, those of the requests answered until now included."""
        await self.state.starts.idle()
        return self.recorder.started

    async def row_counts(self) -> dict[str, int]:
        """How many rows each table has."""
        counts = {}
        async with self.database.reading() as session:
            for table in _tables():
                counts[table.__name__] = (await session.exec(select(func.count()).select_from(table))).one()
        return counts


def _tables() -> list[type[SQLModel]]:
    return [
        table
        for table in vars(tables).values()
        if isinstance(table, type) and issubclass(table, tables.Table) and hasattr(table, "__table__")
    ]


@asynccontextmanager
async def running_api(settings: ApiSettings, *, codec: PayloadKeys | None = None) -> AsyncIterator[Api]:
    """Run the application in this process, its lifespan included."""
    recorder, cluster, objects = Recorder(), FakeCluster(), FakeObjects()

    @asynccontextmanager
    async def dependencies(chosen: ApiSettings) -> AsyncIterator[Dependencies]:
        database = Database(chosen.database_url)
        yield Dependencies(
            database=database,
            starter=recorder,
            clusters=cluster,
            objects=objects,
            master_keys=KEYS,
            codec=codec,
        )
        await database.dispose()

    app = create_app(settings, dependencies=dependencies)
    async with app.router.lifespan_context(app) as lifespan:
        state: AppState = lifespan["app"]  # type: ignore[index]

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": {"app": state}}, receive, send)

        transport = httpx2.ASGITransport(app=with_state)
        async with httpx2.AsyncClient(transport=transport, base_url="http://api.test") as client:
            yield Api(app, client, state, recorder, cluster, objects)


def shop_document(name: str = "shop") -> dict[str, Any]:
    """A Blueprint as a user sends it."""
    return {
        "name": name,
        "services": {
            "web": {
                "image": "registry.test/web:1",
                "ports": [{"containerPort": 8080}],
                "expose": True,
                "dependsOn": ["db"],
                "secrets": [{"name": "token", "envKey": "TOKEN", "value": "planted-7d1f-value"}],
            },
            "db": {"image": "registry.test/postgres:16", "ports": [{"containerPort": 5432}]},
        },
    }


async def create(api: Api, name: str = "shop", **headers: str) -> dict[str, Any]:
    """Create an environment; return it as answered."""
    response = await api.client.post(
        "/v1/environments", json={"blueprint": shop_document(name)}, headers=headers
    )
    assert response.status_code == 202, response.text
    data: dict[str, Any] = response.json()["data"]
    return data


async def handshake(api: Api, path: str) -> httpx2.Response:
    """Ask for a WebSocket as `api.client` would, and leave; return the answer: 101 when it was opened."""
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.disconnect" if answered else "websocket.connect", "code": 1000}

    async def send(message: Message) -> None:
        answered.append(message)

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in api.client.headers.raw],
        "subprotocols": [],
        "client": ("127.0.0.1", 1),
        "server": ("api.test", 80),
        "scheme": "ws",
        "extensions": {"websocket.http.response": {}},
        "state": {"app": api.state},
    }
    async with asyncio.timeout(20):
        await api.app(scope, receive, send)
    begun, *rest = answered
    if begun["type"] == "websocket.accept":
        return httpx2.Response(101)
    body = b"".join(part.get("body", b"") for part in rest)
    return httpx2.Response(begun["status"], headers=begun["headers"], content=body)


def problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a whole problem of this kind; return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["type"] == f"/problems/{code}"
    assert body["title"]
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["requestId"] == response.headers["x-request-id"]
    return body


def event_data(stream: str) -> list[dict[str, Any]]:
    """The data of all events in the text of a stream."""
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: ")]
