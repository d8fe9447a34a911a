"""The ledger activities as the worker runs them: names, answers, sealed values, failures with a kind."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import JsonValue
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.db.engine import Database
from activities.db.repositories import registry_credentials, secrets
from activities.operation import Ledger
from activities.secrets import MasterKeys, Opener, Sealer, new_private_key
from tests.helpers.tenants import KEYS, PLANTED, accept, make_tenant, shop
from workflows.contracts.operation import (
    LedgerActivities,
    LedgerEntry,
    OperationInput,
    OperationResult,
    PreImage,
    SealSecrets,
)
from workflows.domain.failures import FailureKind
from workflows.domain.operations import OperationState, StepChange, StepState

OPENER = Opener(new_private_key())
NAMES = ("begin", "record", "pre_image", "seal_secrets", "finish")


@pytest_asyncio.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    yield Ledger(database=database, keys=KEYS, sealers={"local": Sealer(OPENER.public_key)})


@pytest.mark.parametrize("name", NAMES)
def test_activities_bear_the_names_of_the_contract(name: str) -> None:
    ours = activity._Definition.must_from_callable(getattr(Ledger, name))
    assert ours.name == activity._Definition.must_from_callable(getattr(LedgerActivities, name)).name


async def test_an_operation_from_begin_to_end(ledger: Ledger) -> None:
    tenant = await make_tenant(ledger.database)
    accepted = await accept(ledger.database, tenant)
    operation = OperationInput(operation_id=accepted.operation.id)
    plan = await ledger.begin(operation)
    assert plan.proceed
    assert plan.context.fence == 1
    assert plan.context.namespace == accepted.environment.namespace
    assert plan.context.installation_id == accepted.environment.installation_id
    assert plan.secret_digests.keys() == {"db-password", "api-token"}
    assert PLANTED not in plan.model_dump_json()
    pre_image = PreImage(namespace_existed=False)
    change = StepChange(step="namespace", state=StepState.RUNNING)
    await ledger.record(
        LedgerEntry(operation_id=operation.operation_id, changes=(change,), pre_image=pre_image)
    )
    assert (await ledger.pre_image(operation)).pre_image == pre_image
    ended = await ledger.finish(
        OperationResult(operation_id=operation.operation_id, state=OperationState.SUCCEEDED)
    )
    assert ended.finished_at is not None
    assert not (await ledger.begin(operation)).proceed


async def test_values_are_sealed_for_the_cluster(ledger: Ledger) -> None:
    tenant = await make_tenant(ledger.database)
    async with ledger.database.transaction() as session:
        key = await secrets.data_key(session, tenant.id, KEYS)
        await secrets.store_secret(session, tenant.id, "shared", "from the organisation", key=key)
        await registry_credentials.create_registry_credential(
            session, tenant.actor, name="corp", host="r.test", username="u", password="p:w", keys=KEYS
        )
    service: dict[str, JsonValue] = {
        "name": "api",
        "image": "registry.test/api:1",
        "imagePullSecrets": ["corp"],
        "secrets": [
            {"name": "token", "envKey": "TOKEN", "valueFrom": {"secret": "shared"}},
            {"name": "literal", "envKey": "LITERAL", "value": PLANTED},
            {"name": "made", "envKey": "MADE", "value": "auto-generated"},
        ],
    }
    accepted = await accept(ledger.database, tenant, shop(services=[service]))
    sealed = await ledger.seal_secrets(SealSecrets(operation_id=accepted.operation.id))
    values = {name: OPENER.open(value) for name, value in sealed.values.items()}
    assert values == {"token": "from the organisation", "literal": PLANTED, "made": values["made"]}
    assert len(values["made"]) == 32
    document = json.loads(OPENER.open(sealed.registry_credentials["corp"]))
    assert document["auths"]["r.test"]["password"] == "p:w"
    assert base64.b64decode(document["auths"]["r.test"]["auth"]) == b"u:p:w"
    assert PLANTED not in sealed.model_dump_json()
    again = await ledger.seal_secrets(SealSecrets(operation_id=accepted.operation.id))
    assert {name: OPENER.open(value) for name, value in again.values.items()} == values


async def test_what_cannot_get_better_is_not_tried_again(ledger: Ledger) -> None:
    tenant = await make_tenant(ledger.database)
    accepted = await accept(ledger.database, tenant)
    unknown = OperationInput(operation_id="op_none")
    sealing = SealSecrets(operation_id=accepted.operation.id)
    no_keys = replace(ledger, keys=MasterKeys("m2", {"m2": bytes(32)}))
    for attempt, kind in (
        (ledger.begin(unknown), FailureKind.CONFLICT),
        (ledger.seal_secrets(SealSecrets(operation_id=unknown.operation_id)), FailureKind.CONFLICT),
        (replace(ledger, sealers={}).seal_secrets(sealing), FailureKind.KEY_UNAVAILABLE),
        (no_keys.seal_secrets(sealing), FailureKind.KEY_UNAVAILABLE),
    ):
        with pytest.raises(ApplicationError) as error:
            await attempt
        assert error.value.type == kind
        assert error.value.non_retryable
