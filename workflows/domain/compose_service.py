"""One service of a Compose file as a service of a Blueprint document."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_environment import add_environment
from workflows.domain.compose_health import add_healthcheck
from workflows.domain.compose_ports import add_ports
from workflows.domain.compose_resources import add_replicas, add_resources
from workflows.domain.compose_storage import add_secrets_and_configs, add_volumes
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import Document, escaped, scalar

_CONDITIONS: Final = {
    "service_started": "started",
    "service_healthy": "ready",
    "service_completed_successfully": "completed",
}


_RESTARTED: Final = ("always", "unless-stopped")


@dataclass(frozen=True, slots=True)
class Shared:
    """What the services of one file share: `names` from Compose to Blueprint, `jobs` by Compose name."""

    root: Node
    names: dict[str, str]
    jobs: frozenset[str]
    services: Node


def read_conditions(node: Node) -> dict[str, str]:
    """What a service waits for: the Compose condition by the name of the service."""
    place = node.mapping.get("depends_on")
    if place is None:
        return {}
    if place.items:
        return {item.value: "service_started" for item in place.items if isinstance(item.value, str)}
    conditions: dict[str, str] = {}
    for name, entry in place.mapping.items():
        condition = entry.mapping.get("condition")
        written = condition.value if condition is not None else "service_started"
        conditions[name] = written if isinstance(written, str) else ""
    return conditions


def import_service(name: str, node: Node, shared: Shared, context: Context) -> Document:
    """The Blueprint form of one active service; what it does not hold is noted in the context."""
    job = name in shared.jobs
    service: Document = {"name": shared.names[name]}
    if job:
        service["kind"] = "job"
    _image(name, node, service, context)
    for written, key in (("entrypoint", "command"), ("command", "args")):
        words = _words(node.mapping.get(written), context)
        if words:
            service[key] = words
    add_environment(node, service, context)
    add_ports(node, service, context, job=job)
    _depends_on(node, service, shared, context)
    add_resources(node, service, context)
    add_healthcheck(node, service, context, job=job)
    add_volumes(name, node, shared.root, service, context, job=job)
    add_secrets_and_configs(node, shared.root, service, context)
    add_replicas(node, service, context, job=job)
    _restart(node, context, job)
    return service


def _image(name: str, node: Node, service: Document, context: Context) -> None:
    image, build = node.mapping.get("image"), node.mapping.get("build")
    given = context.images.get(name)
    if image is not None and isinstance(image.value, str) and image.value:
        service["image"] = image.value if given is None else given
        context.use(image)
        if given is not None:
            context.notes.append(f"{name} runs the image {given} that was handed in")
    elif given is not None:
        service["image"] = given
    else:
        why = "is built, not pulled" if build is not None else "has no image"
        context.faults.add(
            build or node, f'the service "{name}" {why}', f"build and push it, and name the image of {name}"
        )
    if build is not None:
        context.refuse(build, "images are not built here: push the image and name it")


def _words(node: Node | None, context: Context) -> list[JsonValue]:
    if node is None:
        return []
    if isinstance(node.value, str):
        try:
            words: list[JsonValue] = [escaped(word) for word in shlex.split(node.value)]
        except ValueError:
            context.refuse(node, "the quotes do not match")
            return []
        context.use(node)
        return words
    if node.items and all(isinstance(item.value, str | int | float) for item in node.items):
        context.use(node)
        return [escaped(scalar(item)) for item in node.items]
    return []


def _depends_on(node: Node, service: Document, shared: Shared, context: Context) -> None:
    place = node.mapping.get("depends_on")
    conditions = read_conditions(node)
    if place is None or not conditions:
        return
    found: Document = {}
    for written, compose_condition in conditions.items():
        entry = place.mapping.get(written) or next(
            (item for item in place.items if item.value == written), place
        )
        condition = _CONDITIONS.get(compose_condition)
        required = entry.mapping.get("required")
        if written not in shared.names:
            if required is not None and required.value is False:
                context.refuse(entry, f"{written} is optional and not there")
            else:
                hint = (
                    "activate its profile"
                    if written in shared.services.mapping
                    else "name a service of the file"
                )
                context.faults.add(entry, f'waits for "{written}", which is not there', hint)
            continue
        if condition is None:
            context.refuse(entry, f"the condition is none of {', '.join(_CONDITIONS)}")
            continue
        if condition == "ready" and written in shared.jobs:
            condition = "completed"
            context.notes.append(
                f'{service["name"]} waits for the job "{written}" to complete, for a job is never healthy'
            )
        found[shared.names[written]] = {"condition": condition}
        for part in (entry.mapping.get("condition"), required):
            if part is not None:
                context.use(part)
        if not entry.mapping:
            context.use(entry)
    if found:
        service["dependsOn"] = found


def _restart(node: Node, context: Context, job: bool) -> None:
    restart = node.mapping.get("restart")
    if restart is None:
        return
    if job or restart.value in _RESTARTED:
        context.use(restart)
    else:
        context.refuse(restart, "a service is always restarted; one that ends is a job (kind: job)")
