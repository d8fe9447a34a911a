"""The health check of a Compose service as a readiness probe."""

from __future__ import annotations

from pydantic import JsonValue

from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_values import ComposeValueError, seconds
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import Document, escaped, scalar, whole


def add_healthcheck(node: Node, service: Document, context: Context, *, job: bool) -> None:
    """`healthcheck` as an exec probe of readiness; NONE and `disable` are no probe."""
    place = node.mapping.get("healthcheck")
    if place is None:
        return
    if job:
        context.refuse(place, "a job is judged by its exit code")
        return
    test, disable = place.mapping.get("test"), place.mapping.get("disable")
    if disable is not None and disable.value is True:
        context.use(place)
        return
    command = _probe_command(test, context)
    if test is None or not command:
        return
    context.use(test)
    if disable is not None:
        context.use(disable)
    if command == ["NONE"]:
        return
    probe: Document = {"exec": {"command": command}}
    _timing(place, probe, str(service["name"]), context)
    service["probes"] = {"readiness": probe}


def _timing(place: Node, probe: Document, service: str, context: Context) -> None:
    for written, key, highest in (("interval", "periodSeconds", 3600), ("timeout", "timeoutSeconds", 3600)):
        part = place.mapping.get(written)
        if part is None or not isinstance(part.value, str):
            continue
        try:
            probe[key] = min(max(seconds(part.value), 1), highest)
        except ComposeValueError as error:
            context.refuse(part, str(error))
            continue
        context.use(part)
        if str(probe[key]) + "s" != part.value:
            context.notes.append(
                f"{service}: a health check's {written} of {part.value} became {probe[key]}s"
            )
    retries = whole(place.mapping.get("retries"), 1, 10_000)
    if retries is not None:
        probe["failureThreshold"] = retries
        context.use(place.mapping["retries"])
    for written in ("start_period", "start_interval"):
        if (part := place.mapping.get(written)) is not None:
            context.refuse(
                part, "a readiness probe needs no grace: a service that is not ready yet is waited for"
            )


def _probe_command(test: Node | None, context: Context) -> list[JsonValue]:
    if test is None:
        return []
    if isinstance(test.value, str):
        return ["sh", "-c", escaped(test.value)] if test.value.strip() else []
    words = [scalar(item) for item in test.items if isinstance(item.value, str | int | float)]
    match words[:1]:
        case ["NONE"]:
            return ["NONE"]
        case ["CMD"]:
            return [escaped(word) for word in words[1:]]
        case ["CMD-SHELL"]:
            return ["sh", "-c", escaped(" ".join(words[1:]))] if words[1:] else []
        case _:
            context.refuse(test, "does not begin with CMD, CMD-SHELL or NONE")
            return []
