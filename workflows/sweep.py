"""SweepEnvironments: the scheduled look for timers that have run out, and for history that is too old.

It changes nothing in a cluster: what is due is accepted as an operation, by the same door as a request, and
runs in a workflow of its own.
"""

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows._options import HEARTBEAT_TIMEOUT, LEDGER_RETRY, SWEEP_STEP
from workflows.contracts.sweep import SWEEP_ENVIRONMENTS, SweepActivities, SweepPage, Swept


@workflow.defn(name=SWEEP_ENVIRONMENTS, versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class SweepEnvironments:
    """Goes over what is due once; its schedule starts it again."""

    @workflow.run
    async def run(self) -> Swept:
        """Run once and say what was done."""
        done = Swept()
        for _ in range(_PAGES):
            page = await workflow.execute_activity_method(
                SweepActivities.sweep_page,
                SweepPage(after=done.following),
                start_to_close_timeout=SWEEP_STEP,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=LEDGER_RETRY,
                summary="timers that have run out"
                + (f", after {done.following.environment_id}" if done.following else ""),
            )
            done = done.plus(page)
            self._show(done)
            if done.following is None:
                break
        forgotten = await workflow.execute_activity_method(
            SweepActivities.forget_history,
            start_to_close_timeout=SWEEP_STEP,
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            summary="history that is too old",
        )
        done = done.plus(forgotten)
        self._show(done)
        return done

    def _show(self, done: Swept) -> None:
        workflow.set_current_details(
            f"{done.looked_at} environments were due: {done.warned} warned, {done.stopped} stopped, "
            f"{done.deleted} deleted, {done.busy} skipped as busy, {done.unreadable} unreadable. "
            f"{done.forgotten} old rows forgotten."
        )


_PAGES = 200
"""Most pages of one run; what is left is due for the next one."""
