"""Time limits and retry policies, named. A workflow never writes a number of seconds at a call."""

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy

LEDGER_TIMEOUT: Final = timedelta(seconds=10)
"""One short transaction on our own database."""

LEDGER_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=10),
)
"""Without an end: an operation that cannot write its ledger waits, it does not go on unseen."""

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=10)
"""After this long without a sign of life, an activity's worker counts as dead and the activity starts anew.
Activities beat every two seconds, so that a cancel reaches them within about two."""

CLUSTER_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(milliseconds=500),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=200,
)
"""For calls to a cluster: kinds that are not retryable end at once (`workflows.domain.failures`)."""

SCHEDULE_TO_START: Final = timedelta(seconds=60)
"""How long an activity may wait for a worker of its cluster."""

SCHEDULE_TO_START_ATTEMPTS: Final = 2
"""Twice: when the control worker was away too, the first wait has passed unseen."""

SHORT_STEP: Final = timedelta(minutes=1)
"""One attempt at a step that only writes objects."""

SWEEP_STEP: Final = timedelta(minutes=10)
"""One attempt at a page of a sweep: some hundred short transactions."""

STORE_SWEEP_TOTAL: Final = timedelta(minutes=30)
"""All attempts at a look through the object store: when it is away, the next sweep tries again."""

FREE_STORAGE_BUDGET: Final = timedelta(minutes=5)
"""After this long a cluster is asked to remove no further snapshot this time: others wait for the next."""

SHORT_STEP_TOTAL: Final = timedelta(minutes=10)
"""All attempts at such a step: a cluster may be away for that long."""

INIT_BUDGET: Final = timedelta(minutes=15)
"""Longest run of a service's init script, on top of its time to become ready."""

SEED_READY: Final = timedelta(seconds=60)
"""How long a seed waits for a ready pod of its service."""

SEED_TOTAL: Final = timedelta(minutes=45)
"""All attempts at a seed: an outage of the cluster and one whole run more."""

UNDO_TOTAL: Final = timedelta(minutes=15)
"""All attempts at an undo, its wait for a namespace to go included."""

STOP_DEADLINE: Final = timedelta(minutes=5)
"""How long the pods of a service may take to end: their grace period is 30 s, a node may be slow."""

ENDPOINTS_DEADLINE: Final = timedelta(seconds=60)
"""How long an exposed service, ready already, may take to show a ready endpoint."""

CANCEL_RUNNING_TIMEOUT: Final = timedelta(minutes=5)
"""One attempt at ending the operation that a delete replaces; 60 s of it are the grace."""

NAMESPACE_WAIT: Final = timedelta(hours=1)
"""One call that waits for a namespace to go, or for a change in what holds it; the workflow calls again until
it is gone. An hour, so that a namespace held for weeks stays within a small history."""

NAMESPACE_MARGIN: Final = timedelta(minutes=2)
"""What that call gets on top, to delete and to answer."""

TRIAL_WAIT: Final = timedelta(hours=24)
"""One call that waits for the restore, or the deletion, of an environment that a snapshot is verified in."""

CAPTURE_ATTEMPT: Final = timedelta(hours=12)
"""One attempt at the data of one service; its worker's death is noticed by heartbeats, long before."""

CAPTURE_TOTAL: Final = timedelta(hours=24)
"""All attempts at it."""
