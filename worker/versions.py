"""Which version of the code workflows run on: the one that a control worker is, and the current one.

A versioned worker is handed no workflow until its version is the current one of its deployment, and neither
server nor worker says so: everything is accepted, and waits. So a control worker makes its own version
current, and goes on looking who is. docs/adr/0011-worker-versions.md has the reasons.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from activities.temporal import unless_unknown
from workflows.contracts.queues import CONTROL_QUEUE

DEPLOYMENT: Final = "perdure-control"
"""The control workers' deployment at Temporal. A cluster's workers have no workflows and no part in it."""

SERVER_NEEDED: Final = "1.29.1"
"""The first Temporal server whose worker deployments are meant for production."""

LOOK_EVERY: Final = timedelta(minutes=1)
"""How often a control worker looks which version is current."""

_CALL: Final = timedelta(seconds=10)
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 10.0
_WORTH_A_WARNING: Final = 1.0
"""Seconds of pause. Until then it is normal: the server has yet to hear of the worker."""

_log = structlog.get_logger()


class ServerTooOld(Exception):
    """The Temporal server knows no worker deployments, or has them switched off."""


@dataclass(frozen=True, slots=True)
class Routing:
    """What the deployment says: the current build id, and the token that tells whether it changed since."""

    current: str | None
    token: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What the queue says: the build id that workflows go to, and those that workers ask for them with.

    A worker that went is in there for five more minutes.
    """

    current: str | None
    served: frozenset[str]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A worker deployment, as the workers of one version see it."""

    client: Client
    version: WorkerDeploymentVersion
    task_queue: str = CONTROL_QUEUE

    async def check_server(self) -> None:
        """Raise ServerTooOld when the server answers that it has no worker deployments."""
        try:
            await self.routing()
        except RPCError as error:
            # A server that is away now is waited for later.
            if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
                raise ServerTooOld(
                    f"control workers need a Temporal server {SERVER_NEEDED} or newer, with worker "
                    f"deployments switched on (system.enableDeploymentVersions); this one answers: "
                    f"{error.message[:256]}"
                ) from error

    async def watch(self, *, promote: bool) -> None:
        """Make this version current if `promote` says so, then go on looking which one is. Never returns.

        A current version that nobody serves is replaced by this one: while versions are rolled out, a worker
        of the old one that was started again took the place, and went.
        """
        if promote:
            await self.make_current()
            await asyncio.sleep(LOOK_EVERY.total_seconds())
        standing = Standing(current=self.version.build_id, served=frozenset())
        while True:
            try:
                standing = await self._look(standing, promote=promote)
            except RPCError as error:
                _log.warning("the current version cannot be looked up", **_reason(error))
            await asyncio.sleep(LOOK_EVERY.total_seconds())

    async def make_current(self) -> None:
        """Return once this version is current; what stands in the way is logged, and tried again for ever."""
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._set_current()
            except RPCError as error:
                # Too early, outrun by another worker, or an outage: each is looked at anew.
                if pause >= _WORTH_A_WARNING:
                    _log.warning("this version is not current yet", **self._names, **_reason(error))
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def routing(self) -> Routing:
        """Ask the server which version is current; none is in a deployment that it does not know yet."""
        with unless_unknown():
            answer = await self.client.workflow_service.describe_worker_deployment(
                DescribeWorkerDeploymentRequest(
                    namespace=self.client.namespace, deployment_name=self.version.deployment_name
                ),
                timeout=_CALL,
            )
            current = answer.worker_deployment_info.routing_config.current_deployment_version
            return Routing(current=current.build_id or None, token=answer.conflict_token)
        return Routing(current=None, token=b"")

    async def standing(self) -> Standing:
        """Ask the server where the queue's workflows go, and who asks for them."""
        answer = await self.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self.client.namespace,
                task_queue=TaskQueue(name=self.task_queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            ),
            timeout=_CALL,
        )
        deployments = [poller.deployment_options for poller in answer.pollers]
        return Standing(
            current=answer.versioning_info.current_deployment_version.build_id or None,
            served=frozenset(
                each.build_id for each in deployments if each.deployment_name == self.version.deployment_name
            ),
        )

    async def _set_current(self) -> None:
        before = await self.routing()
        if before.current == self.version.build_id:
            return
        await self.client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=self.client.namespace,
                deployment_name=self.version.deployment_name,
                build_id=self.version.build_id,
                conflict_token=before.token,
                identity=self.client.identity,
            ),
            timeout=_CALL,
        )
        _log.info("this version is current", **self._names, before=before.current)

    async def _look(self, before: Standing, *, promote: bool) -> Standing:
        """Look once, say what changed, and see to a current version that nobody serves any more."""
        standing = await self.standing()
        own, current = self.version.build_id, standing.current
        if current != before.current:
            self._tell(current)
        # Found at two looks, since a version can be current a moment before its workers are listed.
        elif promote and current != own and current not in before.served | standing.served:
            _log.warning("nobody serves the current version", **self._names, current=current)
            await self.make_current()
            return replace(standing, current=own)
        return standing

    def _tell(self, current: str | None) -> None:
        if current == self.version.build_id:
            _log.info("this version is current", **self._names)
        elif current is None:
            _log.warning("no version is current: workflows wait", **self._names, command=self._command)
        else:
            _log.warning(
                "another version is current: workflows go there",
                **self._names,
                current=current,
                command=self._command,
            )

    @property
    def _names(self) -> dict[str, str]:
        return {"deployment": self.version.deployment_name, "build_id": self.version.build_id}

    @property
    def _command(self) -> str:
        """What an operator types to make this version current."""
        return (
            "temporal worker deployment set-current-version "
            f"--deployment-name {self.version.deployment_name} --build-id {self.version.build_id}"
        )


def _reason(error: RPCError) -> dict[str, Any]:
    return {"status": error.status.name.lower(), "reason": error.message[:256]}
