"""A failed operation as people read it: what, why, the evidence, what holds it up, and what to do next."""

from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue, ValidationError

from cli.follow import current_failure
from cli.models import Evidence, Failure, Operation
from cli.text import plain

LOG_LINES: Final = 20
EVENTS: Final = 8
_AGAIN: Final = {
    "delete": ("env delete", ""),
    "snapshot": ("snapshot create", "nothing of this one is kept"),
    "seed": ("env retry", ""),
    "restore": ("env retry", "all data are loaded again"),
}
"""What goes on after an operation of a kind, where that is not a retry which skips what is done."""
_TAKEN_BACK: Final = frozenset({"update", "stop", "resume", "scale", "restart", "restore", "replay"})
"""Kinds whose undo leaves the environment as it was before: there is nothing left to retry."""


def failure_report(operation: Operation, environment: str) -> list[str]:
    """Return lines on how an operation ended and how to go on; `environment`: its name or id."""
    ended = operation.state.replace("_", " ")
    lines = ["", f"{operation.kind.capitalize()} of {environment} {_verb(operation.state, ended)}."]
    failure = current_failure(operation)
    if failure is not None:
        lines += _failure(failure)
    if operation.cleanup is not None:
        lines += _cleanup(operation)
    return [plain(line) for line in [*lines, "", "What next:", *_next(operation, failure, environment)]]


def _verb(state: str, ended: str) -> str:
    return {
        "failed": "failed",
        "cancelled": "was cancelled",
        "rolled_back": "failed and was rolled back",
    }.get(state, f"is {ended}")


def _failure(failure: Failure) -> Iterator[str]:
    place = f" in step {failure.step}" if failure.step else ""
    yield f"  {failure.kind}{place}: {failure.message}"
    if failure.help:
        yield f"  {failure.help}"
    if failure.blocked_by:
        yield "  Held up by:"
        yield from (f"    {blocker}" for blocker in failure.blocked_by)
    for document in failure.evidence:
        yield from _evidence(document)


def _evidence(document: JsonValue) -> Iterator[str]:
    """Show one evidence document; a mere key of one says nothing to people and is left out."""
    if not isinstance(document, dict):
        return
    try:
        evidence = Evidence.model_validate(document)
    except ValidationError:
        return
    where = "/".join(part for part in (evidence.pod, evidence.container) if part)
    if evidence.events:
        yield f"  Events{f' of {evidence.pod}' if evidence.pod else ''}:"
        for event in evidence.events[-EVENTS:]:
            count = f" (x{event.count})" if event.count > 1 else ""
            yield f"    {event.reason}: {event.message.strip()}{count}"
    for title, log in (
        ("Last log lines before the restart", evidence.previous_log),
        # Of no pod: what a message has no room for.
        ("Last log lines" if evidence.pod else "In full", evidence.log),
    ):
        shown = [line for line in log if line.strip()][-LOG_LINES:]
        if shown:
            yield f"  {title}{f' of {where}' if where else ''}:"
            yield from (f"    {line.rstrip()}" for line in shown)


def _cleanup(operation: Operation) -> list[str]:
    cleanup = operation.cleanup
    if cleanup is None:
        return []
    if _refused(operation):
        return ["  It was refused before it touched anything: the environment is as it was."]
    if cleanup.complete and not cleanup.not_undone:
        return ["  What the operation had made was taken back."]
    left = [f"    {each}" for each in (*cleanup.left, *cleanup.not_undone)]
    return ["  Not everything could be taken back; left:", *left]


def _next(operation: Operation, failure: Failure | None, environment: str) -> Iterator[str]:
    service = _service(operation, failure)
    if service and operation.state == "failed" and operation.kind != "delete":
        yield f"  perdure env logs {environment} --service {service}"
    if failure is not None and failure.kind == "masking_invalid" and operation.snapshot_id:
        # A retry has the same rules.
        yield f"  {_anew(operation, environment)} --masking FILE   with rules that fit"
    elif _refused(operation) and operation.snapshot_id:
        yield f"  {_anew(operation, environment)}   with the options that it had, once the cause is gone"
    elif operation.kind in _TAKEN_BACK and _is_undone(operation):
        yield f"  {environment} is as it was: ask for the {operation.kind} again once the cause is gone"
    else:
        command, then = _AGAIN.get(operation.kind, ("env retry", "done steps are not repeated"))
        cause = f"   once the cause is gone{then and f'; {then}'}"
        yield f"  perdure {command} {environment}{'' if operation.state == 'cancelled' else cause}"
    if operation.kind == "provision":
        yield f"  perdure env delete {environment}"
    yield f"  perdure op get {operation.id}"
    if operation.temporal_url:
        yield f"  {operation.temporal_url}"


def _refused(operation: Operation) -> bool:
    """Whether it failed before it touched anything; such a one is asked for again, not retried."""
    return operation.state == "failed" and _is_undone(operation)


def _is_undone(operation: Operation) -> bool:
    return operation.cleanup is not None and operation.cleanup.complete


def _anew(operation: Operation, environment: str) -> str:
    if operation.kind == "replay":
        return f"perdure replay {environment} --snapshot {operation.snapshot_id}"
    return f"perdure snapshot restore {operation.snapshot_id} --in-place {environment}"


def _service(operation: Operation, failure: Failure | None) -> str | None:
    if failure is None or failure.step is None:
        return None
    return next((step.service for step in operation.steps if step.name == failure.step), None)
