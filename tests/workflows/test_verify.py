"""VerifySnapshot on a real Temporal server: how far it looks, what it says, and what it leaves."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from tests.helpers.fake_activities import FakeCluster, FakeLedger, FakeVerification, fails
from tests.helpers.plans import SNAPSHOT_ID, delete_plan
from tests.workflows.conftest import bench
from workflows.contracts.verify import VERIFY_SNAPSHOT, CheckReadable, VerificationResult
from workflows.domain.failures import FailureKind, failure
from workflows.domain.verification import VerificationState, VerifyLevel

# Left out by `make test-fast`, which replays the recorded histories of this workflow instead.
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

STORED = ["stored db", "stored files"]
READ = ["readable db", "readable files"]
TRIAL = ["restore", "await op_restore", "remove", "await op_delete"]


async def run(
    temporal: WorkflowEnvironment,
    verification: FakeVerification,
    cluster: FakeCluster | None = None,
    **bench_options: Any,
) -> VerificationResult:
    """Run a verification to its end, by a worker that keeps nothing in mind; return what was written."""
    ledger = FakeLedger(delete_plan(), verification=verification)
    async with bench(
        temporal, ledger, cluster or FakeCluster(), max_cached_workflows=0, **bench_options
    ) as this:
        ended = await asyncio.gather((await this.start(VERIFY_SNAPSHOT)).result(), return_exceptions=True)
    result = verification.ended
    assert result is not None
    if result.state is VerificationState.FAILED:
        # The workflow of a snapshot that is not what it says fails, so that it is seen in Temporal's UI.
        [error] = ended
        assert isinstance(error, WorkflowFailureError)
        assert isinstance(error.cause, ApplicationError)
        assert error.cause.type == FailureKind.SNAPSHOT_CORRUPT
        assert error.cause.details[0]["verificationId"] == result.verification_id
    else:
        assert VerificationResult.model_validate(ended[0]) == result
    return result


def faults(result: VerificationResult) -> list[tuple[int, str, str]]:
    return [(int(check.level), check.subject, check.message) for check in result.checks if not check.ok]


@pytest.mark.parametrize(
    ("level", "calls", "control"),
    [
        (VerifyLevel.STORED, STORED, []),
        (VerifyLevel.READABLE, STORED + READ, []),
        (VerifyLevel.RESTORED, STORED + READ, TRIAL),
    ],
)
async def test_each_level_looks_at_what_those_below_do_too(
    temporal: WorkflowEnvironment, level: VerifyLevel, calls: list[str], control: list[str]
) -> None:
    verification, cluster = FakeVerification(level=level), FakeCluster()
    result = await run(temporal, verification, cluster)
    assert (result.state, faults(result)) == (VerificationState.PASSED, [])
    assert cluster.calls == calls
    assert verification.calls == ["beside", *control]
    assert max(check.level for check in result.checks) == level


async def test_what_services_wrote_in_the_trial_is_told(temporal: WorkflowEnvironment) -> None:
    told = "files /docs: 1 written since (log)"
    result = await run(temporal, FakeVerification(level=VerifyLevel.RESTORED, told=told))
    assert result.state is VerificationState.PASSED
    assert [check.message for check in result.checks if check.subject == "restore"] == [told]


async def test_the_keys_of_what_is_read_are_sealed_for_the_cluster(temporal: WorkflowEnvironment) -> None:
    cluster = FakeCluster()
    await run(temporal, FakeVerification(level=VerifyLevel.READABLE), cluster)
    asked = cluster.requests["readable db"]
    assert isinstance(asked, CheckReadable)
    assert asked.snapshot_id == SNAPSHOT_ID
    assert set(asked.stored.keys) == {part.prefix for part in asked.stored.component.parts}


@pytest.mark.parametrize(
    ("what", "calls", "level"), [("stored db", STORED, 0), ("readable files", STORED + READ, 1)]
)
async def test_what_fails_at_one_level_is_not_looked_at_on_the_next(
    temporal: WorkflowEnvironment, what: str, calls: list[str], level: int
) -> None:
    verification = FakeVerification(level=VerifyLevel.RESTORED)
    cluster = FakeCluster(damaged={what: "part 0 is not there"})
    result = await run(temporal, verification, cluster)
    assert result.state is VerificationState.FAILED
    # All of a level is looked at: the second service is told of, too.
    assert cluster.calls == calls
    assert faults(result) == [(level, f"{what.split()[1]}/all", "part 0 is not there")]
    assert verification.calls == ["beside"]


async def test_what_is_wrong_beside_the_data_fails_at_level_0(temporal: WorkflowEnvironment) -> None:
    verification = FakeVerification(level=VerifyLevel.RESTORED, beside_fault="it is missing")
    cluster = FakeCluster()
    result = await run(temporal, verification, cluster)
    assert result.state is VerificationState.FAILED
    assert faults(result) == [(0, "manifest.json", "it is missing")]
    assert (cluster.calls, verification.calls) == (STORED, ["beside"])


async def test_a_store_that_is_away_beside_the_data_says_nothing(temporal: WorkflowEnvironment) -> None:
    away = fails(FailureKind.STORE_UNAVAILABLE, "the store is away")
    cluster = FakeCluster()
    result = await run(temporal, FakeVerification(beside_failing=away), cluster)
    assert result.state is VerificationState.ABORTED
    assert faults(result) == [(0, "stored", "the store is away")]
    assert cluster.calls == []


@pytest.mark.parametrize(
    ("what", "kind", "step"),
    [
        ("stored db", FailureKind.FORBIDDEN, "stored/db"),
        ("readable files", FailureKind.FORBIDDEN, "readable/files"),
    ],
)
async def test_what_cannot_be_looked_at_says_nothing(
    temporal: WorkflowEnvironment, what: str, kind: FailureKind, step: str
) -> None:
    cluster = FakeCluster(failing={what: fails(kind, "the store is away")})
    result = await run(temporal, FakeVerification(level=VerifyLevel.RESTORED), cluster)
    assert result.state is VerificationState.ABORTED
    assert [each[1:] for each in faults(result)] == [(step, "the store is away")]


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (FailureKind.SNAPSHOT_CORRUPT, VerificationState.FAILED),
        (FailureKind.INTERNAL, VerificationState.ABORTED),
    ],
)
async def test_keys_that_cannot_be_opened_end_it(
    temporal: WorkflowEnvironment, kind: FailureKind, state: VerificationState
) -> None:
    """A key that does not fit is the snapshot's fault; a master key that is not there is ours."""
    verification = FakeVerification(level=VerifyLevel.READABLE, unopened=fails(kind, "it does not open"))
    cluster = FakeCluster()
    result = await run(temporal, verification, cluster)
    assert result.state is state
    assert faults(result) == [(1, "readable/db", "it does not open")]
    assert cluster.calls == STORED


async def test_a_restore_that_is_refused_says_nothing(temporal: WorkflowEnvironment) -> None:
    verification = FakeVerification(level=VerifyLevel.RESTORED, refused="10 environments are allowed")
    result = await run(temporal, verification)
    assert result.state is VerificationState.ABORTED
    assert faults(result) == [(2, "restore", "10 environments are allowed")]
    assert verification.calls == ["beside", "restore", "remove"]


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (FailureKind.SNAPSHOT_CORRUPT, VerificationState.FAILED),
        (FailureKind.TRANSFER_FAILED, VerificationState.FAILED),
        (FailureKind.CRASH_LOOP, VerificationState.FAILED),
        (FailureKind.PROBE_FAILING, VerificationState.FAILED),
        (FailureKind.OUT_OF_MEMORY, VerificationState.FAILED),
        (FailureKind.HOOK_FAILED, VerificationState.FAILED),
        (FailureKind.IMAGE_UNAVAILABLE, VerificationState.ABORTED),
        (FailureKind.UNSCHEDULABLE, VerificationState.ABORTED),
        (FailureKind.CLUSTER_UNAVAILABLE, VerificationState.ABORTED),
    ],
)
async def test_how_a_restore_failed_decides_what_it_says(
    temporal: WorkflowEnvironment, kind: FailureKind, state: VerificationState
) -> None:
    verification = FakeVerification(level=VerifyLevel.RESTORED, restored=fails(kind, "table t: 2, found 1"))
    result = await run(temporal, verification)
    assert result.state is state
    assert faults(result) == [(2, "restore", "table t: 2, found 1")]
    # The environment goes, whatever came of it.
    assert verification.calls == ["beside", *TRIAL]


@pytest.mark.parametrize(("ran", "state"), [(True, "failed"), (False, "aborted")])
async def test_time_that_is_over_says_something_of_a_service_that_ran(
    temporal: WorkflowEnvironment, state: str, *, ran: bool
) -> None:
    late = failure(FailureKind.TIMEOUT, "files was not ready in time", ran=ran)
    verification = FakeVerification(level=VerifyLevel.RESTORED, restored=late)
    result = await run(temporal, verification)
    assert result.state == state
    assert verification.calls == ["beside", *TRIAL]


async def test_a_cancel_takes_the_environment_away_and_says_nothing(temporal: WorkflowEnvironment) -> None:
    verification = FakeVerification(level=VerifyLevel.RESTORED, hanging=True)
    ledger = FakeLedger(delete_plan(), verification=verification)
    async with bench(temporal, ledger, FakeCluster(), max_cached_workflows=0) as this:
        handle = await this.start(VERIFY_SNAPSHOT)
        await asyncio.wait_for(verification.reached.wait(), 20)
        await handle.cancel()
        result = VerificationResult.model_validate(await asyncio.wait_for(handle.result(), 30))
    assert verification.ended == result
    assert result.state is VerificationState.ABORTED
    assert faults(result) == [(2, "verification", "It was cancelled.")]
    assert verification.calls == ["beside", *TRIAL]


async def test_a_cancel_while_the_store_is_read_ends_the_look(temporal: WorkflowEnvironment) -> None:
    cluster, verification = FakeCluster(hanging={"stored db"}), FakeVerification(level=VerifyLevel.RESTORED)
    async with bench(temporal, FakeLedger(delete_plan(), verification=verification), cluster) as this:
        handle = await this.start(VERIFY_SNAPSHOT)
        await asyncio.wait_for(cluster.reached.wait(), 20)
        await handle.cancel()
        result = VerificationResult.model_validate(await asyncio.wait_for(handle.result(), 30))
    assert cluster.stopping.is_set()
    assert (result.state, cluster.calls) == (VerificationState.ABORTED, ["stored db"])
    assert verification.ended == result


async def test_one_that_has_ended_is_not_repeated(temporal: WorkflowEnvironment) -> None:
    cluster, verification = FakeCluster(), FakeVerification(over=True)
    async with bench(temporal, FakeLedger(delete_plan(), verification=verification), cluster) as this:
        await (await this.start(VERIFY_SNAPSHOT)).result()
    assert (cluster.calls, verification.calls, verification.ended) == ([], [], None)
