"""The connection to Temporal, shared by API and worker: to start, to signal, to see how things stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from temporalio.api.enums.v1 import PendingActivityState, TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
)
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.common import SearchAttributePair, TypedSearchAttributes, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.payload_codec import PayloadKeys, PayloadUndecodable, data_converter
from workflows.contracts.delete import DELETE_ENVIRONMENT
from workflows.contracts.operation import CancelRequest, OperationInput
from workflows.contracts.provision import PROVISION_ENVIRONMENT
from workflows.contracts.queues import CONTROL_QUEUE
from workflows.contracts.reconcile import RECONCILE_SCHEDULE
from workflows.contracts.replay import REPLAY_ENVIRONMENT
from workflows.contracts.restart import RESTART_SERVICE
from workflows.contracts.restore import RESTORE_ENVIRONMENT
from workflows.contracts.resume import RESUME_ENVIRONMENT
from workflows.contracts.scale import SCALE_SERVICE
from workflows.contracts.search_attributes import ALL as SEARCH_ATTRIBUTES
from workflows.contracts.search_attributes import ENVIRONMENT_ID, OPERATION_KIND, ORGANIZATION_ID
from workflows.contracts.seed import SEED_ENVIRONMENT
from workflows.contracts.snapshot import SNAPSHOT_ENVIRONMENT
from workflows.contracts.stop import STOP_ENVIRONMENT
from workflows.contracts.sweep import SWEEP_SCHEDULE
from workflows.contracts.sweep_snapshots import FREE_STORAGE_SCHEDULE, SNAPSHOT_SWEEP_SCHEDULE
from workflows.contracts.update import UPDATE_ENVIRONMENT
from workflows.contracts.verify import VERIFY_SNAPSHOT, VerificationInput
from workflows.domain.operations import OperationKind
from workflows.domain.transfer import TransferProgress
from workflows.domain.verification import verification_workflow_id

_CALL_TIMEOUT: Final = timedelta(seconds=5)

WORKFLOWS: Final[Mapping[OperationKind, str]] = {
    OperationKind.PROVISION: PROVISION_ENVIRONMENT,
    OperationKind.UPDATE: UPDATE_ENVIRONMENT,
    OperationKind.STOP: STOP_ENVIRONMENT,
    OperationKind.RESUME: RESUME_ENVIRONMENT,
    OperationKind.SCALE: SCALE_SERVICE,
    OperationKind.RESTART: RESTART_SERVICE,
    OperationKind.SEED: SEED_ENVIRONMENT,
    OperationKind.SNAPSHOT: SNAPSHOT_ENVIRONMENT,
    OperationKind.RESTORE: RESTORE_ENVIRONMENT,
    OperationKind.REPLAY: REPLAY_ENVIRONMENT,
    OperationKind.DELETE: DELETE_ENVIRONMENT,
}
"""Which workflow runs an operation of each kind."""

SCHEDULES: Final = (RECONCILE_SCHEDULE, SWEEP_SCHEDULE, SNAPSHOT_SWEEP_SCHEDULE, FREE_STORAGE_SCHEDULE)
"""Those that an installation has."""

_UNAVAILABLE: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.ABORTED,
    }
)


class TemporalError(Exception):
    """A call to Temporal failed."""


class TemporalUnavailable(TemporalError):
    """The Temporal server does not answer; what was asked for may be tried again."""


class TemporalRefused(TemporalError):
    """The Temporal server answers and refuses: namespace, rights or search attributes are not set up."""


async def connect(
    address: str,
    namespace: str,
    *,
    codec: PayloadKeys | None = None,
    lazy: bool = True,
    identity: str | None = None,
    tls: bool = False,
    api_key: str | None = None,
) -> Client:
    """Connect to Temporal at `host:port`. `lazy`: only at the first call, so that it never fails here.

    Raises RuntimeError when not lazy and the server does not answer.
    """
    return await Client.connect(
        address,
        namespace=namespace,
        data_converter=data_converter(codec),
        lazy=lazy,
        identity=identity,
        tls=tls,
        api_key=api_key,
    )


@dataclass(frozen=True, slots=True)
class OperationStart:
    """What starting an operation's workflow takes; ids and the environment's name only."""

    kind: OperationKind
    workflow_id: str
    operation_id: str
    organization_id: str
    environment_id: str
    environment_name: str


@dataclass(frozen=True, slots=True)
class VerificationStart:
    """What starting a verification's workflow takes."""

    verification_id: str
    snapshot_id: str
    organization_id: str
    environment_id: str

    @property
    def workflow_id(self) -> str:
        """Return the id that its workflow has."""
        return verification_workflow_id(self.snapshot_id, self.verification_id)


@dataclass(frozen=True, slots=True)
class QueueState:
    """A task queue as Temporal sees it: who asked for work lately, and how many tasks wait.

    `workers`: their identities, in order; Temporal forgets one five minutes after it asked last. `backlog` is
    an estimate; None: not told.
    """

    name: str
    workers: tuple[str, ...]
    backlog: int | None


@dataclass(frozen=True, slots=True)
class TemporalSetup:
    """What a Temporal server has of what we need.

    `schedules`: by id whether it is paused, None when it is not there. Without the namespace the rest is
    empty.
    """

    version: str
    namespace_found: bool
    missing_attributes: tuple[str, ...] = ()
    schedules: Mapping[str, bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TransferReading:
    """How far an attempt that runs had moved data, and when it last said so, by the server's clock."""

    progress: TransferProgress
    counted_at: datetime


class WorkflowStarter(Protocol):
    """Starts the workflows of operations, and tells them what was asked since."""

    async def start(self, operation: OperationStart) -> None:
        """Start the operation's workflow; one that was started already is success. Raises TemporalError."""
        ...

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        """Signal a workflow; False when none of that id is running. Raises TemporalError."""
        ...

    async def check(self) -> None:
        """Return when the server answers. Raises TemporalError."""
        ...


class TemporalServer(WorkflowStarter, Protocol):
    """What the API asks Temporal: all that a starter does, how the queues stand, what is set up."""

    async def setup(self) -> TemporalSetup:
        """Return what the server has of what we need. Raises TemporalError."""
        ...

    async def queue(self, name: str) -> QueueState:
        """Return how a task queue stands. Raises TemporalError."""
        ...

    async def verify(self, verification: VerificationStart) -> None:
        """Start a verification's workflow; one that was started already is success. Raises TemporalError."""
        ...

    async def ended_at(self, workflow_id: str) -> datetime | None:
        """Return when a workflow ended; None: it runs, or is not known (any more). Raises TemporalError."""
        ...

    async def transfers(self, workflow_id: str) -> Sequence[TransferReading]:
        """Return how far the attempts are that move a workflow's data right now. Raises TemporalError."""
        ...


@dataclass(frozen=True, slots=True)
class TemporalStarter:
    """The real `TemporalServer`, over one client. A call takes at most five seconds."""

    client: Client

    async def start(self, operation: OperationStart) -> None:
        """Start the operation's workflow under its own id, never twice. Raises TemporalError."""
        await self._start(
            WORKFLOWS[operation.kind],
            OperationInput(operation_id=operation.operation_id),
            workflow_id=operation.workflow_id,
            attributes=[
                SearchAttributePair(ORGANIZATION_ID, operation.organization_id),
                SearchAttributePair(ENVIRONMENT_ID, operation.environment_id),
                SearchAttributePair(OPERATION_KIND, operation.kind.value),
            ],
            title=f"{operation.kind.capitalize()} {operation.environment_name}",
            details=(f"- environment `{operation.environment_id}`\n- operation `{operation.operation_id}`"),
        )

    async def verify(self, verification: VerificationStart) -> None:
        """Start a verification's workflow under its own id, never twice. Raises TemporalError."""
        await self._start(
            VERIFY_SNAPSHOT,
            VerificationInput(verification_id=verification.verification_id),
            workflow_id=verification.workflow_id,
            attributes=[
                SearchAttributePair(ORGANIZATION_ID, verification.organization_id),
                SearchAttributePair(ENVIRONMENT_ID, verification.environment_id),
            ],
            title=f"Verify {verification.snapshot_id}",
            details=f"- verification `{verification.verification_id}`",
        )

    async def _start(
        self,
        workflow: str,
        argument: OperationInput | VerificationInput,
        *,
        workflow_id: str,
        attributes: list[SearchAttributePair[Any]],
        title: str,
        details: str,
    ) -> None:
        with _told(), suppress(WorkflowAlreadyStartedError):
            await self.client.start_workflow(
                workflow,
                argument,
                id=workflow_id,
                task_queue=CONTROL_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes(attributes),
                static_summary=title,
                static_details=f"**{title}**\n\n{details}",
                rpc_timeout=_CALL_TIMEOUT,
            )

    async def signal(self, workflow_id: str, name: str, argument: CancelRequest | None) -> bool:
        """Signal a running workflow; False when none of that id is running. Raises TemporalError."""
        arguments = [] if argument is None else [argument]
        with _told(), unless_unknown():
            await self.client.get_workflow_handle(workflow_id).signal(
                name, args=arguments, rpc_timeout=_CALL_TIMEOUT
            )
            return True
        return False

    async def check(self) -> None:
        """Ask the server for its health. Raises TemporalError."""
        with _told():
            serving = await self.client.service_client.check_health(timeout=_CALL_TIMEOUT)
        if not serving:
            raise TemporalUnavailable("Temporal answers that it is not serving")

    async def queue(self, name: str) -> QueueState:
        """Return how a task queue stands, workflows and activities together. Raises TemporalError."""
        identities: set[str] = set()
        waiting: list[int] = []
        with _told():
            for kind in (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY):
                answer = await self.client.workflow_service.describe_task_queue(
                    DescribeTaskQueueRequest(
                        namespace=self.client.namespace,
                        task_queue=TaskQueue(name=name),
                        task_queue_type=kind,
                        report_stats=True,
                    ),
                    timeout=_CALL_TIMEOUT,
                )
                identities.update(poller.identity for poller in answer.pollers)
                if answer.HasField("stats"):
                    waiting.append(answer.stats.approximate_backlog_count)
        return QueueState(name, tuple(sorted(identities)), sum(waiting) if waiting else None)

    async def ended_at(self, workflow_id: str) -> datetime | None:
        """Return when a workflow ended; None: it runs, or is not known (any more). Raises TemporalError."""
        described = await self._described(workflow_id)
        return None if described is None else described.close_time

    async def transfers(self, workflow_id: str) -> Sequence[TransferReading]:
        """Read the last heartbeats of a workflow's activities; none when there is no such workflow.

        Raises TemporalError.
        """
        described = await self._described(workflow_id)
        if described is None:
            return ()
        found: list[TransferReading] = []
        for pending in described.raw_description.pending_activities:
            progress = await self._progress(pending)
            if progress is not None:
                found.append(TransferReading(progress, pending.last_heartbeat_time.ToDatetime(UTC)))
        return found

    async def _described(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        with _told(), unless_unknown():
            return await self.client.get_workflow_handle(workflow_id).describe(rpc_timeout=_CALL_TIMEOUT)
        return None

    async def _progress(self, pending: PendingActivityInfo) -> TransferProgress | None:
        """Return what the attempt that runs has said of the data it moves; None: nothing (yet).

        The server keeps the words of an attempt that is gone until the next one says something.
        """
        running = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        if not running or not pending.heartbeat_details.payloads:
            return None
        try:
            [found] = await self.client.data_converter.decode(
                pending.heartbeat_details.payloads[:1], [TransferProgress]
            )
        except (PayloadUndecodable, ValueError, LookupError):
            # It moves nothing, or its worker is of another version or has another key.
            return None
        current = isinstance(found, TransferProgress) and found.attempt == pending.attempt
        return found if current else None

    async def setup(self) -> TemporalSetup:
        """Return what the server has of what we need. Raises TemporalError."""
        namespace = self.client.namespace
        with _told():
            system = await self.client.workflow_service.get_system_info(
                GetSystemInfoRequest(), timeout=_CALL_TIMEOUT
            )
            if not await self._has_namespace():
                return TemporalSetup(system.server_version, namespace_found=False)
            known = await self.client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=namespace), timeout=_CALL_TIMEOUT
            )
            schedules = {each: await self._paused(each) for each in SCHEDULES}
        missing = tuple(key.name for key in SEARCH_ATTRIBUTES if key.name not in known.custom_attributes)
        return TemporalSetup(
            system.server_version, namespace_found=True, missing_attributes=missing, schedules=schedules
        )

    async def _has_namespace(self) -> bool:
        with unless_unknown():
            await self.client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self.client.namespace), timeout=_CALL_TIMEOUT
            )
            return True
        return False

    async def _paused(self, schedule_id: str) -> bool | None:
        """Return whether a schedule is paused, None when there is none of that id."""
        with unless_unknown():
            found = await self.client.get_schedule_handle(schedule_id).describe(rpc_timeout=_CALL_TIMEOUT)
            return found.schedule.state.paused
        return None


@contextmanager
def _told() -> Iterator[None]:
    """Raise TemporalError for a call that failed: an outage, which passes, or what somebody has to mend."""
    try:
        yield
    except RPCError as error:
        status = error.status.name.lower()
        if error.status in _UNAVAILABLE:
            raise TemporalUnavailable(f"Temporal does not answer ({status})") from error
        raise TemporalRefused(f"Temporal refuses ({status}): {error.message[:256]}") from error
    except RuntimeError as error:  # a lazy client that cannot connect
        raise TemporalUnavailable("Temporal cannot be reached") from error


@contextmanager
def unless_unknown() -> Iterator[None]:
    """Leave the body when the server does not know what it asks about. Other RPCErrors pass."""
    try:
        yield
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
