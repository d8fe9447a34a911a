"""Blueprints and looks at the cluster that several of these tests share."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tests.e2e.conftest import TINY
from tests.helpers.stack import Stack
from tests.helpers.waiting import eventually

REGISTRY = "10.111.0.1:5000/perdure"
SHOP_API = f"{REGISTRY}/shop-api:1"
POSTGRES = f"{REGISTRY}/postgres:1"
PRIVATE_IMAGE = "10.111.0.1:5001/private/shop-api:1"
OURS = "deployments,statefulsets,jobs,services,secrets,configmaps,serviceaccounts,persistentvolumeclaims"
"""What to look at when asking whether something is still the same object."""

CLEANED_UP: dict[str, Any] = {"complete": True, "left": [], "notUndone": []}
"""The `cleanup` of an operation that was taken back without a trace."""

# A shell as process 1 is not ended by a signal that it has no handler for.
UNTIL_TOLD = "trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"


def idle(**more: Any) -> dict[str, Any]:
    """A service that is ready as soon as it runs, and ends at once when it is told to."""
    return {"image": TINY, "command": ["sh", "-c", UNTIL_TOLD], **more}


def probed(question: Mapping[str, Any], *, within: int = 120) -> dict[str, Any]:
    """Probes that ask this each second until the service runs, and seldom from then on.

    `within`: seconds after which one that does not run is started anew. A command in a pod costs the node a
    tenth of a second of processor time, and dozens of services are there.
    """
    return {
        "startup": {**question, "periodSeconds": 1, "failureThreshold": within},
        "readiness": {**question, "periodSeconds": 60},
    }


def probed_by(*command: str) -> dict[str, Any]:
    """As `probed`, by a command."""
    return probed({"exec": {"command": list(command)}})


def on_demand(**more: Any) -> dict[str, Any]:
    """A service that becomes ready when a test says so, with `let_become_ready`."""
    told = {"exec": {"command": ["test", "-f", "/tmp/go"]}}
    # It may be held for long, and must not be started anew meanwhile.
    return idle(probes=probed(told, within=600), **more)


def let_become_ready(stack: Stack, namespace: str, workload: str) -> None:
    """Make an `on_demand` service ready; `workload` is `deploy/name` or `sts/name`."""
    touch = ("sh", "-c", "touch /tmp/go && echo done")
    eventually(
        lambda: stack.run_in(namespace, workload, *touch, check=False),
        f"{workload} can be told",
        within=60,
    )


def uids(stack: Stack, namespace: str) -> dict[str, str]:
    """UID of each object that an operation writes, by `Kind/name`."""
    return _uids(stack.objects(namespace, OURS))


def uids_everywhere(stack: Stack) -> dict[str, dict[str, str]]:
    """What `uids` says of each namespace of the cluster, by one look at it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in stack.objects("", OURS):
        found.setdefault(each["metadata"]["namespace"], []).append(each)
    return {namespace: _uids(objects) for namespace, objects in found.items()}


def _uids(objects: Iterable[dict[str, Any]]) -> dict[str, str]:
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["uid"]
        for each in objects
        if each["metadata"]["name"] not in ("default", "kube-root-ca.crt")
    }


def pods(stack: Stack, namespace: str, service: str) -> list[dict[str, Any]]:
    """The pods of one service."""
    return stack.objects(namespace, "pods", f"app.kubernetes.io/name={service}")


def volumes_of(stack: Stack, namespace: str) -> list[str]:
    """Names of the persistent volumes that were made for claims in a namespace."""
    return [
        each["metadata"]["name"]
        for each in stack.administrator.volumes()
        if each["spec"].get("claimRef", {}).get("namespace") == namespace
    ]


def states(operation: dict[str, Any]) -> dict[str, str]:
    """State of each step by name."""
    return {step["name"]: step["state"] for step in operation["steps"]}


def moment(text: str) -> datetime:
    """Read a time as the API and the cluster write it."""
    return datetime.fromisoformat(text)
