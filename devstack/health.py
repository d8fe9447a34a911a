"""Whether each program does its work: each look returns None, or what is still missing, in a few words."""

import asyncio
import http.client
import socket
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError

from devstack.settings import Stack
from workflows.contracts.queues import CONTROL_QUEUE, cluster_queue

CLUSTER: Final = "local"
"""The name under which the stack knows its cluster."""
NAMESPACE: Final = "default"
_POLLED: Final = (
    (CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
    (CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
    (cluster_queue(CLUSTER), TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
)
_CALL: Final = timedelta(seconds=5)


def temporal(stack: Stack) -> str | None:
    """Temporal answers for its namespace."""
    if not _listens(stack.temporal_port):
        return f"port {stack.temporal_port} does not listen yet"
    try:
        asyncio.run(_answers(stack))
    except (RPCError, RuntimeError):
        return "does not answer yet"
    return None


def worker(stack: Stack, pid: int) -> str | None:
    """The worker of this process id polls every queue it serves, and new workflows go to its version."""
    try:
        return asyncio.run(_missing(stack, pid))
    except (RPCError, RuntimeError):
        return "Temporal does not answer"


def api(stack: Stack) -> str | None:
    """The API says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.api_port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        text = answer.read(400).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return f"port {stack.api_port} does not answer yet"
    finally:
        connection.close()
    return None if answer.status == http.client.OK else f"is not ready: {answer.status} {text}"


async def _answers(stack: Stack) -> None:
    client = await Client.connect(stack.temporal_address, namespace=NAMESPACE)
    await _describe(client, *_POLLED[0])


async def _missing(stack: Stack, pid: int) -> str | None:
    """Return what this process lacks to do its work. Its identity at Temporal ends with its number."""
    client = await Client.connect(stack.temporal_address, namespace=NAMESPACE)
    absent, passed_by = set(), False
    for queue, kind in _POLLED:
        answer = await _describe(client, queue, kind)
        own = [poller for poller in answer.pollers if poller.identity.endswith(f"/{pid}")]
        if not own:
            absent.add(queue)
        elif kind == TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW:
            current = answer.versioning_info.current_deployment_version
            passed_by = all(poller.deployment_options.build_id != current.build_id for poller in own)
    if absent:
        return f"does not poll {', '.join(sorted(absent))} yet"
    return "is not the current version: workflows pass it by" if passed_by else None


async def _describe(client: Client, queue: str, kind: TaskQueueType.ValueType) -> DescribeTaskQueueResponse:
    return await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=NAMESPACE, task_queue=TaskQueue(name=queue), task_queue_type=kind),
        timeout=_CALL,
    )


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
