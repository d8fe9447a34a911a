"""Evidence without secrets, also when nobody can say what the secrets are."""

import base64
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pydantic import JsonValue

from activities._evidence import EvidenceCollector
from activities.storage.objects import ObjectStore
from clusters.errors import Forbidden
from clusters.gateway import Cluster
from clusters.objects import Manifest
from clusters.values import Listing
from tests.helpers.attempts import handed_out
from tests.helpers.contexts import CONTEXT
from workflows.domain.redaction import REPLACEMENT, WITHHELD

PLANTED = "planted-5c1e-value"


@dataclass
class FakeCluster:
    """A pod that logs a secret; whether the Secrets may be read is up to the test."""

    secrets_readable: bool = True
    log: str = f"connecting with {PLANTED}\n"

    async def list(self, kind: str, _namespace: str, **_: object) -> Listing:
        items: tuple[Manifest, ...] = ()
        if kind == "Secret":
            if not self.secrets_readable:
                raise Forbidden("secrets is forbidden")
            items = ({"data": {"password": base64.b64encode(PLANTED.encode()).decode()}},)
        return Listing(items=items, resource_version="1")

    async def logs(self, _namespace: str, _pod: str, **_: object) -> str:
        return self.log


@dataclass
class FakeObjects:
    """Keeps what it is given."""

    documents: dict[str, JsonValue] = field(default_factory=dict)

    async def put_json(self, key: str, document: JsonValue) -> None:
        self.documents[key] = document


async def collected(cluster: FakeCluster) -> dict[str, Any]:
    objects = FakeObjects()
    collector = EvidenceCollector(cast(Cluster, cluster), cast(ObjectStore, objects))

    async def collect() -> None:
        await collector.of_pod(CONTEXT, "api", pod="api-0", uid="u", container="api")

    await handed_out().run(collect)
    [document] = objects.documents.values()
    return cast(dict[str, Any], document)


async def test_known_values_are_taken_out() -> None:
    assert (await collected(FakeCluster()))["log"].strip() == f"connecting with {REPLACEMENT}"


async def test_without_the_values_nothing_is_shown() -> None:
    found = await collected(FakeCluster(secrets_readable=False))
    assert found["log"] == WITHHELD
    assert PLANTED not in str(found)


async def test_output_of_a_script_is_withheld_alike() -> None:
    collector = EvidenceCollector(
        cast(Cluster, FakeCluster(secrets_readable=False)), cast(ObjectStore, FakeObjects())
    )

    async def said() -> str:
        text, _ = await collector.of_output(CONTEXT, "db", pod="db-0", container="db", output=PLANTED)
        return text

    assert await handed_out().run(said) == WITHHELD


@pytest.mark.parametrize("previous", ["unable to retrieve container logs for containerd://1f2e"])
async def test_what_the_node_says_in_place_of_a_log_is_no_log(previous: str) -> None:
    assert (await collected(FakeCluster(log=previous)))["log"] == ""
