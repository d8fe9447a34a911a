"""How a workflow asks a cluster's workers for something, and what it learns when that fails."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    TimeoutType,
    is_cancelled_exception,
)
from temporalio.exceptions import TimeoutError as ActivityTimeout
from temporalio.workflow import ActivityCancellationType

from workflows._options import (
    CLUSTER_RETRY,
    HEARTBEAT_TIMEOUT,
    LEDGER_RETRY,
    LEDGER_TIMEOUT,
    SCHEDULE_TO_START,
    SCHEDULE_TO_START_ATTEMPTS,
)
from workflows.contracts.queues import cluster_queue
from workflows.domain.failures import Failure, FailureKind, failure

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class StepFailed(Exception):
    """A step ended in `failure`. Never leaves a workflow: it ends in the ledger."""

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason.message)
        self.failure = reason


async def on_cluster(
    activity: Callable[[Any, Request], Coroutine[Any, Any, Answer]],
    request: Request,
    *,
    cluster: str,
    step: str,
    summary: str,
    attempt_limit: timedelta,
    total_limit: timedelta | None = None,
) -> Answer:
    """Run `activity` on a worker of `cluster`.

    `attempt_limit` bounds one attempt, `total_limit` all of them. A cancel waits until the activity has
    confirmed it (or its worker is known to be dead), so that nothing of it is under way afterwards.

    Raises `StepFailed` with the failure's kind; `cluster_unavailable` when no worker serves the cluster.
    """
    for waited in range(1, SCHEDULE_TO_START_ATTEMPTS + 1):
        try:
            return await workflow.execute_activity_method(
                activity,
                request,
                task_queue=cluster_queue(cluster),
                schedule_to_start_timeout=SCHEDULE_TO_START,
                start_to_close_timeout=attempt_limit,
                schedule_to_close_timeout=total_limit,
                heartbeat_timeout=HEARTBEAT_TIMEOUT,
                retry_policy=CLUSTER_RETRY,
                cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=summary,
            )
        except ActivityError as error:
            if _being_cancelled(error):
                raise asyncio.CancelledError from error
            if _nobody_serves(error) and waited < SCHEDULE_TO_START_ATTEMPTS:
                continue
            raise StepFailed(as_failure(error, step, cluster)) from error
    raise AssertionError("unreachable: the last attempt returns or raises")


async def on_state(
    activity: Callable[[Any, Request], Coroutine[Any, Any, Answer]],
    request: Request,
    *,
    step: str | None,
    summary: str,
    local_retry_threshold: timedelta | None = None,
) -> Answer:
    """Run `activity` on Perdure's own state: a local one, repeated until the database answers.

    Raises `StepFailed` when what is asked for cannot be had, however often it is asked for. `step`: None
    before there are any. `local_retry_threshold`: back-off up to here makes no timers in history.
    """
    try:
        return await workflow.execute_local_activity_method(
            activity,
            request,
            start_to_close_timeout=LEDGER_TIMEOUT,
            retry_policy=LEDGER_RETRY,
            local_retry_threshold=local_retry_threshold,
            summary=summary,
        )
    except FailureError as error:
        # A failed local activity that is replayed comes without the ActivityError around it.
        if _being_cancelled(error):
            raise asyncio.CancelledError from error
        raise StepFailed(as_failure(error, step, "")) from error


async def unless(interrupted: Callable[[], bool], work: Coroutine[Any, Any, Answer]) -> Answer | None:
    """Run `work` to its end; when `interrupted` holds before that, cancel it, wait for its end, return None.

    Work that ends well all the same is answered. A cancel of the caller ends the work too, and is raised when
    nothing of it is under way any more. Whatever comes together, the work is cancelled only once: a second
    cancel of one activity has been a command that does not replay (temporalio/sdk-python#1813).

    Raises what `work` raises.
    """
    task = asyncio.create_task(work)
    cancelled = False
    try:
        await workflow.wait_condition(lambda: task.done() or interrupted())
    except asyncio.CancelledError:
        cancelled = True
    stopped = task.cancel()  # False: it is over already
    while not task.done():
        try:
            await workflow.wait_condition(task.done)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return None if stopped and task.cancelled() else task.result()


def as_failure(error: FailureError, step: str | None, cluster: str) -> Failure:
    """Translate what the engine reports of an activity into the failure that people see."""
    if _nobody_serves(error):
        return failure(
            FailureKind.CLUSTER_UNAVAILABLE,
            f"No worker serves cluster {cluster}: nobody took the step within "
            f"{int(SCHEDULE_TO_START.total_seconds())} s, twice.",
            step=step,
        )
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ApplicationError) and cause.details:
            return Failure.model_validate(cause.details[0]).model_copy(update={"step": step})
        cause = cause.__cause__
    if isinstance(error.cause, ActivityTimeout):
        return failure(FailureKind.TIMEOUT, "The step did not end within its time.", step=step)
    return failure(FailureKind.INTERNAL, f"The step ended unexpectedly: {error.cause}", step=step)


def _being_cancelled(error: FailureError) -> bool:
    """Whether the activity ended because this step is being cancelled: confirmed, or its worker was dead."""
    task = asyncio.current_task()
    return is_cancelled_exception(error) or (task is not None and task.cancelling() > 0)


def _nobody_serves(error: FailureError) -> bool:
    return isinstance(error.cause, ActivityTimeout) and error.cause.type is TimeoutType.SCHEDULE_TO_START
