"""How far an attempt is that moves a service's data: what its heartbeats say, and whose step that is."""

from collections.abc import Sequence
from enum import StrEnum

from workflows.domain.failures import WireModel
from workflows.domain.operations import MOVES_DATA, StepKind


class TransferKind(StrEnum):
    """What is done with the data."""

    CAPTURE = "capture"
    """Out of pods, into the store."""
    MEASURE = "measure"
    """Read once, to know how long it is when masked; nothing is changed yet."""
    LOAD = "load"
    """Out of the store, into pods."""
    PROVE = "prove"
    """Dumped once more, into nothing."""
    CHECK = "check"
    """The objects in the store are read; counted as they are stored."""
    READ = "read"
    """Opened and read to its end."""


class TransferProgress(WireModel):
    """Bytes that one attempt has moved, over all its streams. An attempt begins at 0, whatever others did."""

    kind: TransferKind
    service: str
    """Whose data it is just now."""
    stream: str
    """Its name in the snapshot; when something is proved, what is dumped."""
    attempt: int
    done_bytes: int
    total_bytes: int | None = None
    """Of all streams of the attempt; None: nobody knows before the end."""
    bytes_per_second: int | None = None
    """Over the last seconds; None: not measured yet."""


def step_of(progress: TransferProgress, running: Sequence[tuple[str, StepKind, str | None]]) -> str | None:
    """Return which of the running steps (name, kind, service) an attempt is of; None: cannot be told.

    The step of the service. Services that are held still in one window are all captured by the step of one,
    and whether rules for masking fit is seen for all services in a step that is of none.
    """
    for name, kind, service in running:
        if kind in MOVES_DATA and service == progress.service:
            return name
    if progress.kind is TransferKind.MEASURE:
        return next((name for name, kind, service in running if kind is StepKind.CHECK and not service), None)
    captures = [name for name, kind, _ in running if kind is StepKind.CAPTURE]
    return captures[0] if progress.kind is TransferKind.CAPTURE and len(captures) == 1 else None
