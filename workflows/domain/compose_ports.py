"""Ports of a Compose service, and which of them is exposed."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import Service, data_store
from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_values import ComposeValueError, port_mapping
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import Document


@dataclass(slots=True)
class _PortList:
    """Collects the ports of one service: names by number and protocol, and the published TCP ones."""

    ports: dict[tuple[int, str], str | None]
    published: list[int]

    def document(self) -> list[JsonValue]:
        found: list[JsonValue] = []
        for (number, protocol), name in self.ports.items():
            port: Document = {"containerPort": number, "protocol": protocol}
            found.append({**port, "name": name} if name else port)
        return found


def add_ports(node: Node, service: Document, context: Context, *, job: bool) -> None:
    """All of `ports` and `expose`; the first published one is exposed, unless the service keeps data."""
    found = _PortList({}, [])
    for key in ("ports", "expose"):
        place = node.mapping.get(key)
        if place is None:
            continue
        if job:
            context.refuse(place, "a job serves nothing")
            continue
        for item in place.items:
            if isinstance(item.value, dict) and key == "ports":
                _long_port(item, found, context)
            elif isinstance(item.value, str | int) and not isinstance(item.value, bool):
                _short_port(item, found, context, published=key == "ports")
    if not found.ports:
        return
    service["ports"] = found.document()
    if not found.published:
        return
    image = str(service.get("image", ""))
    store = data_store(Service(name="", image=image))
    if store is not None:
        context.notes.append(f"{service['name']} keeps {store} and is not exposed; reach it from within")
        return
    service["expose"] = {"port": found.published[0]}
    for other in found.published[1:]:
        context.notes.append(f"{service['name']}: port {other} is not exposed, one port of a service is")


def _short_port(item: Node, found: _PortList, context: Context, *, published: bool) -> None:
    try:
        mapping = port_mapping(str(item.value))
    except ComposeValueError as error:
        context.refuse(item, str(error))
        return
    for number in mapping.ports:
        found.ports.setdefault((number, mapping.protocol), None)
    if published and mapping.protocol == "TCP":
        found.published.extend(mapping.ports)
    if mapping.host is not None:
        context.notes.append(
            f"{item.value}: the host's {mapping.host} has no counterpart, an exposed service has an address"
        )
    context.use(item)


def _long_port(item: Node, found: _PortList, context: Context) -> None:
    target, protocol, name = (item.mapping.get(key) for key in ("target", "protocol", "name"))
    if target is None:
        return
    try:
        mapping = port_mapping(f"{target.value}/{protocol.value if protocol else 'tcp'}")
    except ComposeValueError as error:
        context.refuse(item, str(error))
        return
    wanted = name.value if name is not None else None
    good_name = wanted if isinstance(wanted, str) and rules.port_name(wanted) is None else None
    if good_name in found.ports.values():
        good_name = None
    for number in mapping.ports:
        found.ports.setdefault((number, mapping.protocol), good_name if number == mapping.ports[0] else None)
    if mapping.protocol == "TCP":
        found.published.extend(mapping.ports)
    for used in (target, protocol, name if good_name else None):
        if used is not None:
            context.use(used)
    for key in ("published", "host_ip", "mode"):
        if (part := item.mapping.get(key)) is not None:
            context.refuse(part, "the host has no ports of this service, an exposed service has an address")
