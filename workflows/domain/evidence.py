"""What is kept about a pod at fault: its last events and log lines, outside workflow history."""

from datetime import datetime
from typing import Final

from workflows.domain.failures import WireModel

LOG_LINES: Final = 200
LOG_BYTES: Final = 32 * 1024
EVENTS: Final = 50
"""Most events that one document keeps."""
EVENT_MESSAGE: Final = 1_000
"""Longest message of an event in characters."""


class EvidenceEvent(WireModel):
    """One event of the cluster about the pod at fault or its workload."""

    at: datetime | None
    type: str
    reason: str
    object: str
    """`Kind/name`."""
    message: str
    count: int = 1


class Evidence(WireModel):
    """One document of evidence; secret values are redacted before it is made. Logs: see `bounded_log`."""

    pod: str
    container: str
    collected_at: datetime
    events: tuple[EvidenceEvent, ...] = ()
    log: str = ""
    previous_log: str = ""
    """Of the container's run before the current one."""


def bounded_log(text: str) -> str:
    """The last 200 lines, at most 32 KiB of UTF-8. Redact first: a cut may go through a secret."""
    lines = text.splitlines(keepends=True)[-LOG_LINES:]
    tail = "".join(lines).encode(errors="replace")
    if len(tail) <= LOG_BYTES:
        return tail.decode()
    tail = tail[-LOG_BYTES:]
    newline = tail.find(b"\n")
    # Begin with a whole line; a single line that is too long is cut, at a whole character.
    if 0 <= newline < len(tail) - 1:
        tail = tail[newline + 1 :]
    return tail.decode(errors="ignore")


def bounded_events(events: tuple[EvidenceEvent, ...]) -> tuple[EvidenceEvent, ...]:
    """The latest 50 events, oldest first, their messages cut; events without a time count as oldest."""
    dated = sorted(events, key=lambda event: event.at.timestamp() if event.at else 0.0)
    return tuple(
        event
        if len(event.message) <= EVENT_MESSAGE
        else event.model_copy(update={"message": event.message[: EVENT_MESSAGE - 1] + "…"})
        for event in dated[-EVENTS:]
    )


def evidence_key(organization_id: str, operation_id: str, step: str, attempt: int) -> str:
    """Key of a document in the object store, the organisation first: access can be cut by prefix."""
    return f"evidence/{organization_id}/{operation_id}/{step.replace('/', '.')}/{attempt}.json"
