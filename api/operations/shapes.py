"""From records of operations to what the API answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from pydantic import JsonValue

from activities.db.records import OperationRecord, StepRecord
from activities.db.transitions import progress
from api.operations.schemas import BlockerOut, CleanupOut, FailureOut, OperationOut, ProgressOut, StepOut
from api.problems import ProblemField
from api.settings import ApiSettings
from api.transfers import TransferOut
from workflows.domain.failures import FAILURES, Blocker, Failure


def operation_out(
    settings: ApiSettings,
    record: OperationRecord,
    *,
    environment_name: str | None = None,
    steps: Sequence[StepRecord] | None = None,
    evidence: Mapping[str, JsonValue] | None = None,
    snapshot_id: str | None = None,
    transfers: Mapping[str, TransferOut] | None = None,
    warnings: Sequence[ProblemField] = (),
) -> OperationOut:
    """Shape an operation; with `steps` its graph and progress too.

    `evidence`: the documents by key; `transfers`: by step how far its data are.
    """
    documents, moving = evidence or {}, transfers or {}
    return OperationOut(
        id=record.id,
        kind=record.kind,
        state=record.state,
        environment_id=record.environment_id,
        environment_name=environment_name,
        revision=record.revision,
        retry_of=record.retry_of,
        replay_of=record.replay_of,
        snapshot_id=snapshot_id,
        from_step=record.from_step,
        requested_by=record.requested_by,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        progress=None if steps is None else ProgressOut.model_validate(progress(steps)),
        steps=None if steps is None else [_step_out(step, documents, moving) for step in steps],
        failure=failure_out(record.failure, documents),
        cleanup=(
            CleanupOut(
                complete=record.cleanup.complete,
                left=list(record.cleanup.left),
                not_undone=list(record.cleanup.not_undone),
            )
            if record.cleanup
            else None
        ),
        warnings=[*warnings] or None,
        cancel_requested_at=record.cancel.at if record.cancel else None,
        workflow_id=record.workflow_id,
        temporal_url=temporal_url(settings, record.workflow_id),
    )


def passing_data(services: Sequence[str]) -> list[ProblemField]:
    """Warn of services whose data are loaded and no volume keeps."""
    message = (
        "has no volume: what is restored is there only as long as its pod, whoever ends or replaces that; "
        "then the condition DataWhole is False"
    )
    suggestion = "give it a volume of type pvc to keep the data"
    return [
        ProblemField(path=f"services.{name}", message=message, suggestion=suggestion) for name in services
    ]


def pinned_images(services: Sequence[str]) -> list[ProblemField]:
    """Tell of services that get the image which a snapshot saw."""
    message = "runs the image that the snapshot saw, by its digest, wherever its tag points now"
    suggestion = "ask for `currentImages` to have what the tag means now; an update to the tag alone does too"
    return [
        ProblemField(path=f"services.{name}.image", message=message, suggestion=suggestion)
        for name in services
    ]


def temporal_url(settings: ApiSettings, workflow_id: str) -> str:
    """The address of a workflow in the Temporal UI."""
    base = settings.temporal_ui_url.rstrip("/")
    namespace = quote(settings.temporal_namespace, safe="")
    # Quoting where nothing is to be quoted but slashes is three times as fast, which pages of lists feel.
    workflow = quote(workflow_id, safe="/").replace("/", "%2F")
    return f"{base}/namespaces/{namespace}/workflows/{workflow}"


def failure_out(failure: Failure | None, evidence: Mapping[str, JsonValue]) -> FailureOut | None:
    """Shape a failure with its help; evidence that could not be loaded stays as its key."""
    if failure is None:
        return None
    return FailureOut(
        kind=failure.kind,
        message=failure.message,
        help=FAILURES[failure.kind].help,
        step=failure.step,
        retryable=failure.retryable,
        evidence=[evidence.get(key, key) for key in failure.evidence],
        blocked_by=[blocker_out(blocker) for blocker in failure.blocked_by],
    )


def blocker_out(blocker: Blocker) -> BlockerOut:
    """Shape what holds something up."""
    return BlockerOut(object=blocker.object, finalizers=list(blocker.finalizers))


def _step_out(
    step: StepRecord, evidence: Mapping[str, JsonValue], transfers: Mapping[str, TransferOut]
) -> StepOut:
    return StepOut(
        name=step.name,
        kind=step.kind,
        service=step.service,
        depends_on=list(step.depends_on),
        state=step.state,
        attempt=step.attempt,
        started_at=step.started_at,
        finished_at=step.finished_at,
        output=step.output,
        failure=failure_out(step.failure, evidence),
        blocked_by=[blocker_out(blocker) for blocker in step.blocked_by] or None,
        transfer=transfers.get(step.name),
    )
