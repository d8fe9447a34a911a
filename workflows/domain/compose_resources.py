"""How much a Compose service gets: CPU, memory, replicas."""

from __future__ import annotations

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_values import ComposeValueError, byte_quantity
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import NOTHING, Document, whole
from workflows.domain.quantity import parse_quantity


def add_resources(node: Node, service: Document, context: Context) -> None:
    """Limits and reservations, from `deploy.resources` or the older keys of the service itself."""
    deploy = node.mapping.get("deploy", NOTHING).mapping.get("resources", NOTHING)
    requests = deploy.mapping.get("reservations", NOTHING).mapping
    bounds = deploy.mapping.get("limits", NOTHING).mapping
    limits: Document = {}
    found: Document = {}
    for key, limit, request in (
        ("cpu", bounds.get("cpus") or node.mapping.get("cpus"), requests.get("cpus")),
        (
            "memory",
            bounds.get("memory") or node.mapping.get("mem_limit"),
            requests.get("memory") or node.mapping.get("mem_reservation"),
        ),
    ):
        upper = _quantity(key, limit, context)
        lower = _quantity(key, request, context)
        if upper is not None:
            limits[key] = upper
        if lower is None or request is None:
            continue
        if upper is not None and parse_quantity(upper) < parse_quantity(lower):
            context.refuse(request, "reserves more than its limit")
        else:
            found[key] = lower
    if limits:
        found["limits"] = limits
    if found:
        service["resources"] = found


def _quantity(kind: str, node: Node | None, context: Context) -> str | None:
    if node is None or isinstance(node.value, bool) or not isinstance(node.value, str | int | float):
        return None
    try:
        text = str(node.value) if kind == "cpu" else byte_quantity(str(node.value))
    except ComposeValueError as error:
        context.refuse(node, str(error))
        return None
    problem = rules.cpu(text) if kind == "cpu" else rules.memory(text)
    if problem is not None:
        context.refuse(node, problem[0])
        return None
    context.use(node)
    return text


def add_replicas(node: Node, service: Document, context: Context, *, job: bool) -> None:
    """`deploy.replicas` or `scale`; comes after the volumes, which more than one replica would not share."""
    deploy = node.mapping.get("deploy", NOTHING)
    mode = deploy.mapping.get("mode")
    if mode is not None and mode.value == "replicated":
        context.use(mode)
    place = deploy.mapping.get("replicas") or node.mapping.get("scale")
    replicas = whole(place, 0, rules.MOST_REPLICAS)
    if place is None or replicas is None:
        return
    volumes = service.get("volumes")
    keeps = isinstance(volumes, list) and any(
        isinstance(item, dict) and item.get("type") == "pvc" for item in volumes
    )
    if job and replicas != 1:
        context.refuse(place, "a job runs once")
        return
    if keeps and replicas > 1:
        context.refuse(
            place, "the replicas would not share the volume: each would have an empty one of its own"
        )
        return
    service["replicas"] = replicas
    context.use(place)
