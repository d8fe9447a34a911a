"""Every route against `openapi.json`: whatever is sent, no 5xx and no answer that the document does not have.

The requests are Schemathesis's: the examples, the boundary values of each parameter and field, and values by
property, valid and not. They are the same in each run; `PERDURE_FUZZ_EXAMPLES` (`make fuzz`) asks for more.
"""

import itertools
import json
import os
import shutil
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import CheckContext
from schemathesis.core.failures import ServerError
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from structlog.testing import capture_logs

from activities.db.engine import Database
from activities.db.repositories import verifications
from activities.db.types import utc_now
from activities.temporal import OperationStart, VerificationStart
from api.app import create_app
from api.openapi import FILE
from api.settings import ApiSettings
from api.state import Dependencies
from tests.api.support import FakeCluster, FakeObjects, Recorder, shop_document
from tests.helpers.serving import serving
from tests.helpers.snapshots import publish, stored
from tests.helpers.tenants import KEYS, begin, finish, make_tenant
from tests.helpers.waiting import eventually
from workflows.contracts.verify import VerificationResult
from workflows.domain.blueprint_models import DataStore
from workflows.domain.operations import OperationKind, OperationState
from workflows.domain.verification import VerificationState

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("PERDURE_FUZZ_EXAMPLES", "10"))
KEPT = 8
"""One of so many requests keeps the ids that were made up: 404 is an answer too."""
NUMBERS = itertools.count(1)

DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
schema = schemathesis.openapi.from_path(FILE)
schema.config.generation.update(
    deterministic=True, database="none", max_examples=EXAMPLES, with_security_parameters=False
)


def no_fault(_: CheckContext, response: Response, case: schemathesis.Case[Any]) -> None:
    """No 5xx, save what the service proxy says of an application: here none of its pods is ready."""
    proxied = response.status_code == 503 and "x-perdure-answered-by" in response.headers
    unready = proxied and (not response.content or response.json()["code"] == "service_not_ready")
    if response.status_code >= 500 and not unready:
        raise ServerError(operation=case.operation.label, status_code=response.status_code)


CHECKS = [
    no_fault,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class EmptyCluster(FakeCluster):
    """A cluster without pods that measures nothing."""

    async def served(self, kind: str) -> bool:
        """No kind is."""
        return False


class Worker(Recorder):
    """Does every operation at once, so that the next request finds the environment ready for more."""

    database: Database

    async def start(self, operation: OperationStart) -> None:
        """Begin and end it; a snapshot has a database in it."""
        if operation.kind is OperationKind.SNAPSHOT:
            await publish(self.database, operation.operation_id, stored("db", DataStore.POSTGRES, "globals"))
            return
        await begin(self.database, operation.operation_id)
        await finish(self.database, operation.operation_id, OperationState.SUCCEEDED)

    async def verify(self, verification: VerificationStart) -> None:
        """Let it pass, so that the snapshot is free again."""
        passed = VerificationResult(
            verification_id=verification.verification_id, state=VerificationState.PASSED
        )
        async with self.database.transaction() as session:
            await verifications.finish(session, passed, utc_now())


@dataclass(frozen=True)
class Served:
    """A running API, and a client with an owner's key."""

    url: str
    headers: dict[str, str]
    client: httpx2.Client

    def made(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Make something; return it."""
        answer = self.client.request(method, path, json=body)
        assert answer.is_success, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def done(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Make something that takes an operation; return it once that has ended."""
        made = self.made(method, path, body)
        operation = made.get("operation", made)["id"]
        self.reaches(f"/v1/operations/{operation}", OperationState.SUCCEEDED)
        return made

    def reaches(self, path: str, state: str) -> None:
        """Wait for a state."""
        eventually(lambda: self.client.get(path).json()["data"]["state"] == state, f"{path} is {state}")


@pytest.fixture(scope="module")
def served(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running API on SQLite, for all routes: starting one for each would take longer than the requests."""
    directory = tmp_path_factory.mktemp("schema")
    shutil.copy(sqlite_template, directory / "perdure.db")
    url = f"sqlite:///{directory}/perdure.db"
    worker, tokens = Worker(), []
    settings = ApiSettings(
        database_url=url,
        object_store=str(directory / "objects"),
        status_cache_seconds=0,
        wrong_keys_per_minute=0,
        share_requests_per_minute=1_000_000,
    )

    @asynccontextmanager
    async def dependencies(_: ApiSettings) -> AsyncIterator[Dependencies]:
        worker.database = Database(url)
        tokens.append((await make_tenant(worker.database, unlimited=True)).token)
        yield Dependencies(worker.database, worker, EmptyCluster(), FakeObjects(), KEYS)
        await worker.database.dispose()

    app = create_app(settings, dependencies=dependencies)
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with capture_logs(), serving(server) as address:
        # As in a server that stops: streams, some of which have no end of their own, end as they begin.
        server.lifespan.state["app"].streams._closed = True
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        with httpx2.Client(base_url=address, headers=headers, trust_env=False) as client:
            yield Served(address, headers, client)


@pytest.fixture
def known(served: Served) -> dict[str, dict[str, str]]:
    """Values of path parameters that name something, new for each route, by what its path begins with."""
    number = next(NUMBERS)
    environment = served.done("POST", "/v1/environments", {"blueprint": shop_document(f"shop-{number}")})
    path = f"/v1/environments/{environment['id']}"
    share = served.made("POST", f"{path}/share", {})
    served.made("POST", f"{path}/checkpoints", {"name": "before"})
    served.made("PUT", f"{path}/snapshot-policy", {"everyMinutes": 60})
    snapshot = served.done("POST", f"{path}/snapshots", {})["snapshotId"]
    verification = served.made("POST", f"/v1/snapshots/{snapshot}/verify", {})
    served.reaches(f"/v1/snapshots/{snapshot}/verifications/{verification['id']}", VerificationState.PASSED)
    blueprint = {"name": "ours", "services": {"web": {"image": "registry.test/web:1"}}}
    template = served.made("POST", "/v1/templates", {"name": f"ours-{number}", "blueprint": blueprint})
    login = {"name": f"corp-{number}", "registry": "ghcr.io", "username": "robot", "password": "planted"}
    credential = served.made("POST", "/v1/registry-credentials", login)
    package = {"name": f"seed-{number}", "version": "1.0.0", "type": "shell", "script": "exit 0"}
    served.made("POST", "/v1/seeds/publish", package)
    served.made("PUT", "/v1/secrets/shared", {"value": "planted-value"})
    key = served.made("POST", "/v1/api-keys", {"name": "other"})
    return {
        "/v1/environments": {
            "id": environment["id"],
            "service": "web",
            "number": "1",
            "name": "before",
            "shareId": share["id"],
        },
        "/v1/snapshots": {"id": snapshot, "verificationId": verification["id"]},
        "/v1/operations": {"id": environment["operation"]["id"]},
        "/v1/templates": {"id": template["id"]},
        "/v1/registry-credentials": {"id": credential["id"]},
        "/v1/secrets": {"name": "shared"},
        "/v1/seeds": {"name": package["name"], "environmentId": environment["id"]},
        "/v1/api-keys": {"id": key["id"]},
        "/v1/share": {"token": share["token"]},
        "/v1/portal": {"envId": environment["id"]},
    }


def named(known: dict[str, dict[str, str]], path: str) -> dict[str, str]:
    """What names something in a path."""
    return next((found for start, found in known.items() if path.startswith(start)), {})


def aim(case: schemathesis.Case[Any], known: dict[str, dict[str, str]]) -> None:
    """Let most requests whose path is meant to be good name what is there."""
    given, meta = case.path_parameters, case.meta
    part = meta.components.get(ParameterLocation.PATH) if meta else None
    if not given or (part is not None and part.mode is GenerationMode.NEGATIVE):
        return
    sent = repr((given, case.query, case.body)).encode(errors="backslashreplace")
    if zlib.crc32(sent) % KEPT:
        names = named(known, case.operation.path)
        given.update({name: value for name, value in names.items() if name in given})


def test_what_the_paths_name_is_there(served: Served, known: dict[str, dict[str, str]]) -> None:
    """Else 404 would be all that a route is seen to answer."""
    paths = [path for path, operations in DOCUMENT["paths"].items() if "{" in path and "get" in operations]
    for path in paths:
        answer = served.client.get(path.format_map(named(known, path) | {"path": ""}))
        # These take a ready pod, and a link's token.
        more = path.endswith(("/proxy/{path}", "/portal/{envId}"))
        assert answer.is_success != more, (path, answer.text)


@schema.parametrize()
@hypothesis_settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_in_the_document(
    case: schemathesis.Case[Any], served: Served, known: dict[str, dict[str, str]]
) -> None:
    aim(case, known)
    # A stream is declared as the text that it is; the check would look at its events one by one.
    stream = case.operation.path.endswith(("/events", "/logs/stream"))
    # What is wrong with a Blueprint, or with what it is sent in, is just what a validation answers.
    validates = case.operation.path == "/v1/environments/validate"
    checks = [
        check
        for check in CHECKS
        if not (stream and check is response_schema_conformance)
        and not (validates and check is negative_data_rejection)
    ]
    case.call_and_validate(base_url=served.url, headers=served.headers, checks=checks, timeout=10)
