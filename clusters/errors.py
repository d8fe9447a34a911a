"""What can go wrong at a cluster, as far as a caller has to act differently.

The client's and the transport's exceptions end here: each is translated once and chained with `from`. Every
class says which `FailureKind` it is, so nobody has to read a message to decide what to do.
"""

from typing import ClassVar, Final

from workflows.domain.failures import FailureKind

BODY_LIMIT: Final = 256
"""Longest text in characters that is taken over from an answer of the cluster."""


def bounded(text: str, limit: int = BODY_LIMIT) -> str:
    """Return `text` cut to `limit` characters, an ellipsis in place of what is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


class ClusterError(Exception):
    """Root of all errors of this package."""

    kind: ClassVar[FailureKind] = FailureKind.INTERNAL


class NotFound(ClusterError):
    """The object, or something that the request needs (its namespace, a pod), does not exist."""

    kind = FailureKind.CONFLICT


class AlreadyExists(ClusterError):
    """An object of this kind and name is there already."""

    kind = FailureKind.CONFLICT


class Conflict(ClusterError):
    """Other field managers own fields that were to be written, or the object changed meanwhile.

    `managers` and `fields` are empty in the second case.
    """

    kind = FailureKind.CONFLICT

    def __init__(self, message: str, managers: tuple[str, ...] = (), fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.managers = managers
        self.fields = fields


class PreconditionFailed(ClusterError):
    """The object there is not the one that was meant: UID or resourceVersion differ."""

    kind = FailureKind.CONFLICT


class Forbidden(ClusterError):
    """Rights or an admission policy are against it; subclasses say what else it can be."""

    kind = FailureKind.FORBIDDEN


class Unauthorized(Forbidden):
    """The cluster does not accept our credentials, also after they were read again."""


class Fenced(Forbidden):
    """A newer operation has raised the namespace's fence: this write came too late and was not made."""

    def __init__(self, message: str, ours: int, namespace: int) -> None:
        super().__init__(message)
        self.ours = ours
        self.namespace = namespace


class QuotaExceeded(Forbidden):
    """The namespace's ResourceQuota does not allow another object, or one this large."""

    kind = FailureKind.QUOTA_EXCEEDED

    def __init__(
        self, message: str, quota: str = "", requested: str = "", used: str = "", limited: str = ""
    ) -> None:
        super().__init__(message)
        self.quota = quota
        self.requested = requested
        self.used = used
        self.limited = limited


class NamespaceTerminating(Forbidden):
    """Nothing can be created in a namespace that is being deleted."""

    kind = FailureKind.CONFLICT


class Invalid(ClusterError):
    """The manifest is wrong: `fields` are (path, message) pairs, the path empty when none is known."""

    kind = FailureKind.BLUEPRINT_INVALID

    def __init__(self, message: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class Throttled(ClusterError):
    """The cluster asks to come back after `retry_after` seconds."""

    kind = FailureKind.CLUSTER_UNAVAILABLE

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Gone(ClusterError):
    """The resourceVersion (or the continue token) is too old: list again."""

    kind = FailureKind.CLUSTER_UNAVAILABLE


class Unavailable(ClusterError):
    """Connection refused or cut, no answer in time, a server error, or an exec without an exit status.

    `sent` is False when the request cannot have reached the cluster; otherwise it may have been carried out.
    """

    kind = FailureKind.CLUSTER_UNAVAILABLE

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class NotServed(ClusterError):
    """The cluster does not know this kind (a missing CRD, an older version), or we do not."""

    kind = FailureKind.CONFIG_MISSING


class NotStarted(ClusterError):
    """A command could not be started in its container: no such container, no shell, not running."""

    kind = FailureKind.HOOK_FAILED


class CommandFailed(ClusterError):
    """A command whose bytes are streamed ended with another status than 0; `stderr` are its last words."""

    kind = FailureKind.HOOK_FAILED

    def __init__(self, exit_code: int, stderr: bytes) -> None:
        super().__init__(f"the command ended with status {exit_code}")
        self.exit_code = exit_code
        self.stderr = stderr


class QuiesceFailed(ClusterError):
    """A quiesce hook ended with another status than 0, or not in time; it was thawed.

    `exit_code` is None when it did not end. `stderr`: the first of what quiesce and thaw wrote.
    """

    kind = FailureKind.HOOK_FAILED

    def __init__(self, message: str, exit_code: int | None, stderr: bytes) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stderr = stderr


class FreezeEnded(ClusterError):
    """A freeze was over before it was told to be: what was captured in it is of no point. It was thawed.

    `frozen_ms` as in `clusters.freezing.Freeze`, None when the pod could not tell it.
    """

    kind = FailureKind.CLUSTER_UNAVAILABLE

    def __init__(self, message: str, frozen_ms: int | None) -> None:
        super().__init__(message)
        self.frozen_ms = frozen_ms


class FreezeExpired(FreezeEnded):
    """The time for which something may be held still was over."""

    kind = FailureKind.TIMEOUT


class ThawUnconfirmed(ClusterError):
    """A thaw hook failed each time, or nobody could say how it ended: the service may still be held.

    `stderr`: what it said.
    """

    kind = FailureKind.HOOK_FAILED

    def __init__(self, message: str, stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stderr = stderr


class TimedOut(ClusterError):
    """A command did not end in time and was killed; `stdout` and `stderr` are what it wrote until then."""

    kind = FailureKind.TIMEOUT

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class LeaseLost(ClusterError):
    """This process stood still for too long: another may have taken over, so it must not write."""

    kind = FailureKind.CLUSTER_UNAVAILABLE
