"""Verifying a snapshot: what each level looks at, and what comes of it."""

from enum import IntEnum, StrEnum

from workflows.domain.failures import WireModel


class VerifyLevel(IntEnum):
    """How much is looked at; each level includes those below."""

    STORED = 0
    """Every object is there, with its size and digest, the manifest too, and nothing else. Needs no key."""
    READABLE = 1
    """Every stream opens, expands and is a whole dump of its kind that holds what was recorded."""
    RESTORED = 2
    """It is restored into an environment of its own: the data are the same, and everything gets ready."""


class VerificationState(StrEnum):
    """Where a verification stands."""

    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    """The snapshot is not what it says."""
    ABORTED = "aborted"
    """It could not be told: the store or the cluster was away, a cap was reached. Says nothing either way."""


class Check(WireModel):
    """One thing that was looked at. `subject`: a stream, a document, a service, or the whole."""

    level: VerifyLevel
    subject: str
    ok: bool
    message: str = ""


def verification_workflow_id(snapshot_id: str, verification_id: str) -> str:
    """Return the Temporal workflow id of a verification."""
    return f"verify/{snapshot_id}/{verification_id}"
