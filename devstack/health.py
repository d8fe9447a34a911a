"""Whether each program does its work: each look returns None, or what is still missing, in a few words."""

import asyncio
import http.client
import socket
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
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
        asyncio.run(_pollers(stack, CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
    except (RPCError, RuntimeError):
        return "does not answer yet"
    return None


def worker(stack: Stack, pid: int) -> str | None:
    """The worker of this process id polls every queue it serves."""
    try:
        absent = asyncio.run(_unpolled(stack, pid))
    except (RPCError, RuntimeError):
        return "Temporal does not answer"
    return f"does not poll {', '.join(sorted(absent))} yet" if absent else None


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


async def _unpolled(stack: Stack, pid: int) -> set[str]:
    """Return the queues that this process does not poll. Its identity at Temporal ends with its number."""
    absent = set()
    for queue, kind in _POLLED:
        identities = await _pollers(stack, queue, kind)
        if not any(identity.endswith(f"/{pid}") for identity in identities):
            absent.add(queue)
    return absent


async def _pollers(stack: Stack, queue: str, kind: TaskQueueType.ValueType) -> list[str]:
    client = await Client.connect(stack.temporal_address, namespace=NAMESPACE)
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=NAMESPACE, task_queue=TaskQueue(name=queue), task_queue_type=kind),
        timeout=_CALL,
    )
    return [poller.identity for poller in answer.pollers]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
