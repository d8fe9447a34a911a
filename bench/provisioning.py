"""How long a provision takes beside apply-and-wait, what it costs, and what twenty at once do."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.clock import at_rest, percentile, seconds, spread
from bench.load import IMAGE
from bench.plain import Kubectl, fresh_namespace
from tests.helpers.stack import Handle, Stack
from workflows.domain.blueprint import parse_blueprint


def document(services: int, *, chained: bool = False) -> dict[str, Any]:
    """Return a Blueprint of like services, independent or each depending on the one before.

    They have a readiness probe: without one Perdure waits for three seconds on purpose, and kubectl does not.
    """
    return {
        "name": f"b-{uuid.uuid4().hex[:8]}",
        "services": {
            f"s{number}": {
                "image": IMAGE,
                "ports": [{"containerPort": 8080}],
                "probes": {"readiness": {"tcp": {"port": 8080}, "periodSeconds": 1}},
                "dependsOn": [f"s{number - 1}"] if chained and number else [],
            }
            for number in range(services)
        },
    }


def warmed(stack: Stack) -> None:
    """Let one environment come and go: the first of all is not like the others."""
    _provision(stack, document(1))
    _remove_all(stack)


def beside_kubectl(
    stack: Stack, kubectl: Kubectl, services: int, pairs: int, *, chained: bool = False
) -> dict[str, Any]:
    """Time both in turn, `pairs` times, on a cluster that is empty and a machine that is at rest."""
    ours: list[float] = []
    theirs: list[float] = []

    def by_perdure(written: dict[str, Any]) -> None:
        ours.append(seconds(partial(_provision, stack, written)))
        _remove_all(stack)

    def by_kubectl(written: dict[str, Any]) -> None:
        namespace, blueprint = fresh_namespace(), parse_blueprint(written)
        theirs.append(seconds(partial(kubectl.provision, blueprint, namespace, in_order=chained)))
        kubectl.remove(namespace)

    for pair in range(pairs):
        written = document(services, chained=chained)
        for one in (by_perdure, by_kubectl) if pair % 2 == 0 else (by_kubectl, by_perdure):
            at_rest()
            one(written)
    return {
        "services": services,
        "chained": chained,
        "perdureSeconds": spread(ours),
        "kubectlSeconds": spread(theirs),
        "ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        "differenceMilliseconds": spread([(a - b) * 1000 for a, b in zip(ours, theirs, strict=True)], 0),
    }


def many_at_once(stack: Stack, environments: int, services: int) -> dict[str, Any]:
    """Ask for all at once; each time is from its request to the answer that it runs."""
    documents = [document(services) for _ in range(environments)]
    times: list[float] = []

    def all_of_them() -> None:
        with ThreadPoolExecutor(environments) as pool:
            times.extend(pool.map(lambda each: seconds(partial(_provision, stack, each)), documents))

    wall = seconds(all_of_them)
    _remove_all(stack)
    return {
        "environments": environments,
        "servicesEach": services,
        "wallSeconds": round(wall, 2),
        "p95Seconds": round(percentile(times, 0.95), 2),
    }


def cost(stack: Stack, services: int) -> dict[str, Any]:
    """Count what one provision leaves: activities, history events, and rows and bytes in the database."""
    before = _database_bytes(stack)
    made = _provision(stack, document(services))
    counted = asyncio.run(_count(stack.temporal_address, made.operation()["workflowId"]))
    counted |= {
        "steps": _rows(stack, "steps", made),
        "events": _rows(stack, "events", made),
        "databaseBytes": _database_bytes(stack) - before,
    }
    _remove_all(stack)
    return {"services": services, **counted}


def _rows(stack: Stack, table: str, made: Handle) -> int:
    [(count,)] = stack.rows(f"select count(*) from {table} where operation_id = ?", made.operation_id)
    return int(count)


def _database_bytes(stack: Stack) -> int:
    [(pages,)], [(size,)] = stack.rows("pragma page_count"), stack.rows("pragma page_size")
    return int(pages) * int(size)


async def _count(address: str, workflow_id: str) -> dict[str, int]:
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    scheduled = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return {
        "activities": sum(event.event_type == scheduled for event in history.events),
        "historyEvents": len(history.events),
    }


def _provision(stack: Stack, written: dict[str, Any]) -> Handle:
    answer = stack.client.post("/v1/environments", params={"wait": 60}, json={"blueprint": written})
    answer.raise_for_status()
    data = answer.json()["data"]
    handle = Handle(stack, data["id"], data["namespace"], data["operation"]["id"])
    if data["operation"]["state"] != "succeeded":
        handle.succeeded(within=240)
    return handle


def _remove_all(stack: Stack) -> None:
    """Delete every environment and wait until all are gone: the next run starts on a quiet cluster."""
    listed = stack.client.get("/v1/environments", params={"limit": 200}).json()["data"]
    handles = [
        Handle(stack, each["id"], each["namespace"], "").delete()
        for each in listed
        if each["status"] not in ("deleted", "deleting")
    ]
    for handle in handles:
        handle.succeeded(within=timedelta(minutes=5).total_seconds())
