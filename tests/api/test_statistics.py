"""An organisation's figures."""

from datetime import timedelta

from sqlmodel import col, update

from activities.db.tables import Operation
from activities.db.types import utc_now
from api.statistics.service import durations
from tests.api.support import Api, create
from tests.helpers.tenants import Tenant, begin, finish
from workflows.domain.failures import FailureKind, failure
from workflows.domain.operations import OperationState


async def test_counts_states_and_durations_of_a_day(api: Api, tenant: Tenant, stranger: Tenant) -> None:
    made = [(await create(api, name))["operation"]["id"] for name in ("one", "two", "three", "old", "waits")]
    for operation in made[:2]:
        await begin(api.database, operation)
        await finish(api.database, operation, OperationState.SUCCEEDED)
    await begin(api.database, made[2])
    broken = failure(FailureKind.CRASH_LOOP, "It exits with 1.", step="service/web")
    await finish(api.database, made[2], OperationState.FAILED, failure=broken)
    now = utc_now()
    async with api.database.transaction() as session:
        for operation, seconds in ((made[0], 10), (made[1], 30)):
            times = {"started_at": now - timedelta(seconds=seconds), "finished_at": now}
            await session.exec(update(Operation).where(col(Operation.id) == operation).values(**times))
        yesterday = update(Operation).where(col(Operation.id) == made[3])
        await session.exec(yesterday.values(created_at=now - timedelta(hours=25)))
    answer = await api.client.get("/v1/status/stats")
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert found["environments"] == {
        "total": 5,
        "byStatus": {"error": 1, "provisioning": 2, "running": 2},
    }
    operations = found["operations"]
    assert operations["total"] == 4
    assert operations["byState"] == {"accepted": 1, "failed": 1, "succeeded": 2}
    assert operations["byKind"] == {"provision": operations["byState"]}
    assert operations["failureRate"] == 0.3333
    assert operations["durations"] == {"provision": {"count": 2, "medianSeconds": 20.0, "p95Seconds": 30.0}}
    queue = {"workers": 2, "backlog": 3}
    assert found["workers"] == {
        "known": True,
        "queues": [{"name": "perdure", **queue}, {"name": "perdure-cluster-local", **queue}],
    }
    api.use(stranger)
    others = (await api.client.get("/v1/status/stats")).json()["data"]
    assert others["environments"] == {"total": 0, "byStatus": {}}
    assert others["operations"] == {"total": 0, "byState": {}, "byKind": {}, "durations": {}}


async def test_without_temporal_the_rest_is_answered(api: Api, tenant: Tenant) -> None:
    api.recorder.away = True
    found = (await api.client.get("/v1/status/stats")).json()["data"]
    assert found["workers"] == {"known": False, "queues": []}


def test_percentiles_by_nearest_rank() -> None:
    one_to_hundred = [timedelta(seconds=seconds) for seconds in range(1, 101)]
    assert durations(one_to_hundred).p95_seconds == 95
    assert durations(one_to_hundred).median_seconds == 50.5
    assert durations(one_to_hundred[:1]).p95_seconds == 1
