"""What every activity on a cluster shares: signs of life, the lease, and failures that carry their kind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.secrets import SecretsError
from clusters.errors import ClusterError
from clusters.lease import Lease
from workflows.domain.failures import FAILURES, Failure, FailureKind, WireModel, failure

BEAT_SECONDS: Final = 2.0
"""Heartbeats this often: a cancel comes back with the answer to one."""

HANDED_OUT_SECONDS: Final = 8.0
"""An attempt that begins later than this after Temporal handed it out may be somebody else's by now: its
worker stood still with the task in hand. Less than the heartbeat timeout, after which it is given away."""

ANSWER_SECONDS: Final = 5.0
"""Such an attempt waits this long for the answer to its first heartbeat, before it does anything."""

Self_ = TypeVar("Self_")
Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class WorkerStopping(Exception):
    """The worker is shutting down: another attempt, elsewhere, goes on from what the cluster shows."""


@dataclass(slots=True)
class Life:
    """An activity attempt that is under way. `progress` goes out with each heartbeat; a callable is asked.

    `known`: goes out beside it, for an attempt that takes this one's place.
    """

    lease: Lease
    progress: str | Callable[[], WireModel] = ""
    known: WireModel | None = None

    def told(self) -> str | WireModel:
        """Return what this heartbeat says; called once for each."""
        return self.progress if isinstance(self.progress, str) else self.progress()

    def beat(self) -> None:
        """Say all of it now."""
        activity.heartbeat(self.told(), *(() if self.known is None else (self.known,)))


@asynccontextmanager
async def alive() -> AsyncIterator[Life]:
    """Beat for as long as the body runs; the lease in what it yields ends when this process stands still.

    The body is left with `WorkerStopping` when the worker is told to stop, so that a long wait does not hold
    up a shutdown. It is not entered by an attempt that was given away before it began: a new lease would not
    keep that from writing. Asking costs seconds and breaks nothing, should this clock and Temporal's differ.
    """

    async def beat(life: Life) -> None:
        while True:
            life.beat()
            await asyncio.sleep(BEAT_SECONDS)

    body = asyncio.current_task()
    stopping = False

    async def leave_when_stopping() -> None:
        nonlocal stopping
        await activity.wait_for_worker_shutdown()
        stopping = True
        if body is not None:
            body.cancel()

    helpers = [asyncio.create_task(leave_when_stopping())]
    try:
        if datetime.now(UTC) - activity.info().started_time > timedelta(seconds=HANDED_OUT_SECONDS):
            # What was known before goes on to the next: this attempt may be nobody's.
            activity.heartbeat(*activity.info().heartbeat_details)
            await asyncio.sleep(ANSWER_SECONDS)
        async with Lease() as lease:
            life = Life(lease)
            helpers.append(asyncio.create_task(beat(life)))
            yield life
    except asyncio.CancelledError:
        if stopping and body is not None and not activity.is_cancelled():
            body.uncancel()
            raise WorkerStopping from None
        raise
    finally:
        for helper in helpers:
            helper.cancel()
        for helper in helpers:
            with contextlib.suppress(asyncio.CancelledError):
                await helper


def fail(reason: Failure, *, final: bool = False) -> NoReturn:
    """End the activity with `reason`: tried again only where its kind allows it, never if `final`."""
    raise application_error(reason, final=final)


def reports_failures(
    method: Callable[Concatenate[Self_, Parameters], Coroutine[Any, Any, Answer]],
) -> Callable[Concatenate[Self_, Parameters], Coroutine[Any, Any, Answer]]:
    """Translate what a cluster refuses, and what no key of ours opens, into failures with a kind."""

    async def translated(self: Self_, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        try:
            return await method(self, *args, **kwargs)
        except ClusterError as error:
            raise application_error(failure(error.kind, str(error))) from error
        except SecretsError as error:
            # Another attempt has the same keys.
            raise application_error(failure(FailureKind.KEY_UNAVAILABLE, str(error))) from error
        except WorkerStopping as error:
            raise application_error(
                failure(FailureKind.CLUSTER_UNAVAILABLE, "The worker was told to stop.")
            ) from error

    # The engine reads name, types and docstring of what it registers from the method itself.
    update_wrapper(translated, method)
    return translated


def application_error(reason: Failure, *, final: bool = False) -> ApplicationError:
    """Return `reason` as the engine takes it; `final`: not tried again whatever its kind."""
    return ApplicationError(
        reason.message, reason, type=reason.kind, non_retryable=final or not FAILURES[reason.kind].retryable
    )
