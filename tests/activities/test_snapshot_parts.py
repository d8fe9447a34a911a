"""Which streams a server's data is made of: what it says instead is told with care."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from temporalio.exceptions import ApplicationError

from activities._evidence import EvidenceCollector
from activities.snapshots.parts import parts_in
from activities.storage.objects import ObjectStore
from clusters.gateway import Cluster, ExecResult
from clusters.objects import Manifest, ObjectRef
from clusters.values import Listing
from tests.helpers.attempts import handed_out
from tests.helpers.contexts import CONTEXT
from workflows.domain.blueprint import parse_blueprint
from workflows.domain.blueprint_models import DataStore
from workflows.domain.failures import Failure, FailureKind

PLANTED = "planted-5c1e-value"
SERVICE = parse_blueprint(
    {"name": "shop", "services": {"db": {"image": "registry.test/postgres:16"}}}
).service("db")


@dataclass
class Server:
    """A pod of a server that answers just so."""

    answer: ExecResult

    async def execute(self, *_: object, **__: object) -> ExecResult:
        return self.answer

    async def get(self, _ref: ObjectRef) -> Manifest:
        return {"metadata": {"name": "db-0"}}

    async def list(self, _kind: str, _namespace: str, **_: object) -> Listing:
        secret: Manifest = {"data": {"password": base64.b64encode(PLANTED.encode()).decode()}}
        return Listing(items=(secret,), resource_version="1")


async def keys(server: Server, directory: Path) -> list[str]:
    """The streams of that server, by key."""
    cluster = cast(Cluster, server)
    evidence = EvidenceCollector(cluster, ObjectStore(str(directory)))
    found = await handed_out().run(parts_in, cluster, evidence, CONTEXT, "db-0", SERVICE, DataStore.POSTGRES)
    return [part.key for part in found]


async def test_a_server_is_asked_for_its_databases(tmp_path: Path) -> None:
    server = Server(ExecResult(exit_code=0, stdout=b"shop\0other\0", stderr=b"", truncated=False))
    assert await keys(server, tmp_path) == ["globals", "database-0", "database-1"]


async def test_what_a_server_says_instead_is_bounded_and_holds_no_secret(tmp_path: Path) -> None:
    said = f"{'x' * 100_000}\nFATAL: password {PLANTED} is wrong\n".encode()
    server = Server(ExecResult(exit_code=2, stdout=b"", stderr=said, truncated=False))
    with pytest.raises(ApplicationError) as caught:
        await keys(server, tmp_path)
    failed = caught.value.details[0]
    assert isinstance(failed, Failure)
    assert failed.kind is FailureKind.TRANSFER_FAILED
    assert failed.message.startswith("Asking db for its databases ended with status 2: ")
    assert failed.message.endswith("is wrong")
    assert len(failed.message) < 400
    [key] = failed.evidence
    kept = str(await ObjectStore(str(tmp_path)).get_json(key))
    assert "FATAL" in kept
    assert PLANTED not in kept + failed.message
