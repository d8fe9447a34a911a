"""Why an operation or a step failed: the one list of kinds, and what each means to a caller.

A kind decides three things everywhere: whether trying again by itself can help (`retryable`), which HTTP
status an answer about it carries, and the help text shown to people. Code branches on kinds, never on text.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

MESSAGE_LIMIT: Final = 1_000
"""Longest failure message in characters: failures travel through workflow history and events."""


class FailureKind(StrEnum):
    """What went wrong, as far as a caller has to act differently."""

    BLUEPRINT_INVALID = "blueprint_invalid"
    IMAGE_UNAVAILABLE = "image_unavailable"
    CRASH_LOOP = "crash_loop"
    OUT_OF_MEMORY = "out_of_memory"
    CONFIG_MISSING = "config_missing"
    UNSCHEDULABLE = "unschedulable"
    QUOTA_EXCEEDED = "quota_exceeded"
    PROBE_FAILING = "probe_failing"
    VOLUME_UNAVAILABLE = "volume_unavailable"
    HOOK_FAILED = "hook_failed"
    TIMEOUT = "timeout"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    CLUSTER_UNAVAILABLE = "cluster_unavailable"
    TRANSFER_FAILED = "transfer_failed"
    STORE_UNAVAILABLE = "store_unavailable"
    SNAPSHOT_BELOW_FLOOR = "snapshot_below_floor"
    SNAPSHOT_CORRUPT = "snapshot_corrupt"
    KEY_UNAVAILABLE = "key_unavailable"
    MASKING_INVALID = "masking_invalid"
    POLICY_DENIED = "policy_denied"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class FailureTraits:
    """What a kind means: `retryable` by the engine, `http_status` of an answer, `help` for people."""

    retryable: bool
    http_status: int
    help: str


FAILURES: Final[dict[FailureKind, FailureTraits]] = {
    FailureKind.BLUEPRINT_INVALID: FailureTraits(
        False, 422, "Correct the fields named in `errors` and send the Blueprint again."
    ),
    FailureKind.IMAGE_UNAVAILABLE: FailureTraits(
        False, 409, "Check the image name, its tag, and the pull secret; then retry the operation."
    ),
    FailureKind.CRASH_LOOP: FailureTraits(
        False, 409, "The container keeps exiting. Its last log lines are in the evidence."
    ),
    FailureKind.OUT_OF_MEMORY: FailureTraits(
        False, 409, "The container was killed at its memory limit. Raise `resources.limits.memory`."
    ),
    FailureKind.CONFIG_MISSING: FailureTraits(
        False, 409, "The container refers to a Secret or ConfigMap, or a key of one, that does not exist."
    ),
    FailureKind.UNSCHEDULABLE: FailureTraits(
        False, 409, "No node can take the pod. Lower `resources`, or add capacity to the cluster."
    ),
    FailureKind.QUOTA_EXCEEDED: FailureTraits(
        False,
        409,
        "The environment's quota is used up. Lower what the Blueprint asks for, or raise the quota.",
    ),
    FailureKind.PROBE_FAILING: FailureTraits(
        False, 409, "The container runs but its readiness probe does not pass. Check path, port and logs."
    ),
    FailureKind.VOLUME_UNAVAILABLE: FailureTraits(
        False, 409, "A volume cannot be bound or mounted. Check its storage class and size."
    ),
    FailureKind.HOOK_FAILED: FailureTraits(
        False,
        409,
        "A service's script or hook failed; the evidence has its output. PostgreSQL rolled its SQL back; "
        "in MySQL and MariaDB, definitions and rows of tables without transactions stay.",
    ),
    FailureKind.TIMEOUT: FailureTraits(
        False,
        504,
        "The deadline passed that the message names. Raise `readyTimeoutSeconds` if the service only needs "
        "longer to get ready, `quiesceSeconds` if it was held still for a snapshot and needs longer there.",
    ),
    FailureKind.CONFLICT: FailureTraits(
        False, 409, "Somebody else owns or changed what was to be written; the message names them."
    ),
    FailureKind.FORBIDDEN: FailureTraits(
        False,
        403,
        "The cluster or a role refused this; `deploy/cluster/20-rights.yaml` has the rights needed.",
    ),
    FailureKind.CLUSTER_UNAVAILABLE: FailureTraits(
        True,
        503,
        "The cluster does not answer, or no worker serves it. It is tried again for a while.",
    ),
    FailureKind.TRANSFER_FAILED: FailureTraits(
        False, 409, "The tool that dumps or loads a store's data failed; what it said is in the evidence."
    ),
    FailureKind.STORE_UNAVAILABLE: FailureTraits(
        True, 503, "The object store is away, full, or refuses us; the message says which."
    ),
    FailureKind.SNAPSHOT_BELOW_FLOOR: FailureTraits(
        False, 409, "The consistency that can be reached is below the floor that was asked for."
    ),
    FailureKind.SNAPSHOT_CORRUPT: FailureTraits(
        False, 409, "What is stored differs from what was written. Use another snapshot."
    ),
    FailureKind.KEY_UNAVAILABLE: FailureTraits(
        False,
        503,
        "What sealed this is not among the keys configured. Give API and workers those they had, then retry.",
    ),
    FailureKind.MASKING_INVALID: FailureTraits(
        False,
        422,
        "Correct the rules that the message names and ask for it again with those: "
        "a retry has the same rules and ends the same.",
    ),
    FailureKind.POLICY_DENIED: FailureTraits(False, 403, "A policy of the organisation refuses this."),
    FailureKind.CANCELLED: FailureTraits(
        False,
        409,
        "The operation was cancelled. Retry it to go on from there; if it was taken back, ask again.",
    ),
    FailureKind.INTERNAL: FailureTraits(
        True, 500, "A fault of Perdure itself. Quote the request id or operation id when reporting it."
    ),
}


class WireModel(BaseModel):
    """Base of everything that is written as JSON: frozen, camelCase outside, unknown fields ignored.

    Unknown fields are ignored so that an older worker can read what a newer one wrote.
    """

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Blocker(WireModel):
    """An object that holds something up, and the finalizers that keep it (empty: the object itself)."""

    object: str
    """`Kind/name`, for example `PersistentVolumeClaim/data-db-0`."""
    finalizers: tuple[str, ...] = ()


class Failure(WireModel):
    """One failure, small enough for history: the evidence itself stays in the object store."""

    kind: FailureKind
    message: str = Field(max_length=MESSAGE_LIMIT)
    step: str | None = None
    retryable: bool = False
    evidence: tuple[str, ...] = ()
    """Keys of evidence documents in the object store (see `workflows.domain.evidence`)."""
    blocked_by: tuple[Blocker, ...] = ()
    ran: bool = False
    """Its pods ran while its time passed: the cause is in the service or its data, not around them."""


def failure(
    kind: FailureKind,
    message: str,
    *,
    step: str | None = None,
    evidence: tuple[str, ...] = (),
    blocked_by: tuple[Blocker, ...] = (),
    ran: bool = False,
) -> Failure:
    """Build a `Failure`: `retryable` follows from the kind, an over-long message is cut with an ellipsis."""
    if len(message) > MESSAGE_LIMIT:
        message = message[: MESSAGE_LIMIT - 1] + "…"
    return Failure(
        kind=kind,
        message=message,
        step=step,
        retryable=FAILURES[kind].retryable,
        evidence=evidence,
        blocked_by=blocked_by,
        ran=ran,
    )
