"""VerifySnapshot: proves a snapshot, as far as is asked, and keeps what was found."""

import asyncio

from temporalio import workflow
from temporalio.common import VersioningBehavior
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from workflows._cluster import StepFailed, as_failure, on_cluster, on_state
from workflows._options import (
    CAPTURE_ATTEMPT,
    CAPTURE_TOTAL,
    HEARTBEAT_TIMEOUT,
    LEDGER_RETRY,
    LEDGER_TIMEOUT,
    STORE_SWEEP_TOTAL,
    SWEEP_STEP,
    TRIAL_WAIT,
)
from workflows.contracts.verify import (
    VERIFY_SNAPSHOT,
    Checked,
    CheckReadable,
    CheckStored,
    LoadableWanted,
    OperationEnded,
    OperationWanted,
    VerificationInput,
    VerificationPlan,
    VerificationResult,
    VerifyActivities,
    VerifyControlActivities,
)
from workflows.domain.failures import Failure, FailureKind
from workflows.domain.snapshot_manifest import StoredComponent
from workflows.domain.verification import Check, VerificationState, VerifyLevel

_SAYS_SO = frozenset(
    {
        FailureKind.SNAPSHOT_CORRUPT,
        FailureKind.TRANSFER_FAILED,
        # What runs with the first data and not with these.
        FailureKind.CRASH_LOOP,
        FailureKind.HOOK_FAILED,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.PROBE_FAILING,
    }
)
"""A restore that fails so says something about the snapshot."""


def _verdict(reason: Failure) -> VerificationState:
    """Say what a failure says of the snapshot: nothing, unless the cause is its data or what runs on them.

    Of time that is over it depends on whether the pods ran meanwhile, or waited for what is around them.
    """
    says_so = reason.kind in _SAYS_SO or (reason.kind is FailureKind.TIMEOUT and reason.ran)
    return VerificationState.FAILED if says_so else VerificationState.ABORTED


@workflow.defn(name=VERIFY_SNAPSHOT, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VerifySnapshot:
    """Looks level by level, and stops at the first that fails: what is above could not be better."""

    @workflow.init
    def __init__(self, verification: VerificationInput) -> None:
        self._verification = verification
        self._checks: list[Check] = []
        self._at = VerifyLevel.STORED

    @workflow.run
    async def run(self, verification: VerificationInput) -> VerificationResult:
        """Run once and return what was found; a cancel in the Temporal UI ends it as aborted."""
        plan = await workflow.execute_local_activity_method(
            VerifyControlActivities.begin,
            verification,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary="what is to be verified",
        )
        if not plan.proceed:
            return VerificationResult(
                verification_id=verification.verification_id, state=VerificationState.ABORTED
            )
        looking = asyncio.create_task(self._look(plan))
        try:
            state = await asyncio.shield(looking)
        except asyncio.CancelledError:
            looking.cancel()
            await workflow.wait([looking])
            self._note(Check(level=plan.level, subject="verification", ok=False, message="It was cancelled."))
            state = VerificationState.ABORTED
        result = await workflow.execute_local_activity_method(
            VerifyControlActivities.finish,
            VerificationResult(
                verification_id=verification.verification_id, state=state, checks=tuple(self._checks)
            ),
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=f"end: {state}",
        )
        if result.state is VerificationState.FAILED:
            bad = next(check for check in result.checks if not check.ok)
            raise ApplicationError(
                f"{bad.subject}: {bad.message}",
                result,
                type=FailureKind.SNAPSHOT_CORRUPT,
                non_retryable=True,
            )
        return result

    async def _look(self, plan: VerificationPlan) -> VerificationState:
        try:
            if plan.beside:
                await self._beside()
            for component in plan.components:
                await self._stored(plan, component)
            if self._all_well and plan.level >= VerifyLevel.READABLE:
                self._at = VerifyLevel.READABLE
                for component in plan.components:
                    await self._readable(plan, component)
            if self._all_well and plan.level >= VerifyLevel.RESTORED:
                return await self._restored()
        except StepFailed as failed:
            reason = failed.failure
            self._note(
                Check(level=self._at, subject=reason.step or "verification", ok=False, message=reason.message)
            )
            return _verdict(reason)
        return VerificationState.PASSED if self._all_well else VerificationState.FAILED

    @property
    def _all_well(self) -> bool:
        return all(check.ok for check in self._checks)

    async def _beside(self) -> None:
        try:
            checked = await workflow.execute_activity_method(
                VerifyControlActivities.beside,
                self._verification,
                start_to_close_timeout=SWEEP_STEP,
                schedule_to_close_timeout=STORE_SWEEP_TOTAL,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary="the manifest in the store, and what it does not name",
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from error
            raise StepFailed(as_failure(error, "stored", "")) from error
        self._take(checked)

    async def _stored(self, plan: VerificationPlan, component: StoredComponent) -> None:
        self._take(
            await on_cluster(
                VerifyActivities.stored,
                CheckStored(snapshot_id=plan.snapshot_id, component=component),
                cluster=plan.cluster,
                step=f"stored/{component.service}",
                summary=f"{component.service}: objects, sizes, digests",
                attempt_limit=CAPTURE_ATTEMPT,
                total_limit=CAPTURE_TOTAL,
            )
        )

    async def _readable(self, plan: VerificationPlan, component: StoredComponent) -> None:
        stored = await on_state(
            VerifyControlActivities.loadable,
            LoadableWanted(verification_id=self._verification.verification_id, service=component.service),
            step=f"readable/{component.service}",
            summary=f"keys of what is stored of {component.service}",
        )
        self._take(
            await on_cluster(
                VerifyActivities.readable,
                CheckReadable(snapshot_id=plan.snapshot_id, stored=stored),
                cluster=plan.cluster,
                step=f"readable/{component.service}",
                summary=f"{component.service}: opened and read to its end",
                attempt_limit=CAPTURE_ATTEMPT,
                total_limit=CAPTURE_TOTAL,
            )
        )

    async def _restored(self) -> VerificationState:
        """Restore into an environment of its own, which proves the data and that everything gets ready."""
        try:
            trial = await workflow.execute_activity_method(
                VerifyControlActivities.restore,
                self._verification,
                start_to_close_timeout=LEDGER_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary="restore into an environment of its own",
            )
            if trial.refused:
                self._note(
                    Check(level=VerifyLevel.RESTORED, subject="restore", ok=False, message=trial.refused)
                )
                return VerificationState.ABORTED
            ended = await self._await(trial.operation_id, "the restore")
        finally:
            # Also when a cancel came before the restore was answered: there may be an environment already.
            await self._remove()
        reason = ended.failure
        message = ended.told if reason is None else reason.message
        self._note(Check(level=VerifyLevel.RESTORED, subject="restore", ok=reason is None, message=message))
        if reason is None:
            return VerificationState.PASSED
        return _verdict(reason)

    async def _remove(self) -> None:
        trial = await workflow.execute_activity_method(
            VerifyControlActivities.remove,
            self._verification,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary="delete that environment",
        )
        if trial.operation_id:
            await self._await(trial.operation_id, "the deletion")

    async def _await(self, operation_id: str, what: str) -> OperationEnded:
        return await workflow.execute_activity_method(
            VerifyControlActivities.await_operation,
            OperationWanted(operation_id=operation_id),
            start_to_close_timeout=TRIAL_WAIT,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary=f"wait for the end of {what}: {operation_id}",
        )

    def _take(self, checked: Checked) -> None:
        for check in checked.checks:
            self._note(check)

    def _note(self, check: Check) -> None:
        self._checks.append(check)
        lines = [
            f"- {'✔' if each.ok else '✘'} level {int(each.level)} `{each.subject}` {each.message}".rstrip()
            for each in self._checks
        ]
        workflow.set_current_details("\n".join(lines))
