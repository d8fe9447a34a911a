"""Ports, probes and resources of a container as those of a Blueprint service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import Protocol
from workflows.domain.blueprint_tree import Node
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import Document, child, text_at, whole
from workflows.domain.kubernetes_objects import use_defaults
from workflows.domain.quantity import parse_quantity

_TIMING: Final = (
    ("periodSeconds", 1, 3_600),
    ("timeoutSeconds", 1, 3_600),
    ("initialDelaySeconds", 0, 21_600),
    ("failureThreshold", 1, 10_000),
    ("successThreshold", 1, 100),
)


@dataclass(slots=True)
class Ports:
    """The declared ports of one service by number and protocol, with their names."""

    names: dict[tuple[int, str], str | None] = field(default_factory=dict)

    def add(self, number: int, protocol: str, name: str | None = None) -> None:
        """Declare a port; a name that cannot stay, or is taken, is left out."""
        if name is not None and (rules.port_name(name) is not None or name in self.names.values()):
            name = None
        if self.names.get((number, protocol)) is None:
            self.names[number, protocol] = name

    def number(self, wanted: int | str) -> int | None:
        """The number of the port with this number or name; None when none is declared."""
        for (number, _), name in self.names.items():
            if wanted in (number, name):
                return number
        return None

    def tcp(self) -> Iterator[int]:
        """The numbers of all TCP ports."""
        return (number for number, protocol in self.names if protocol == Protocol.TCP)

    def document(self) -> list[JsonValue]:
        """The ports as a Blueprint has them."""
        found: list[JsonValue] = []
        for (number, protocol), name in self.names.items():
            port: Document = {"containerPort": number, "protocol": protocol}
            found.append({**port, "name": name} if name else port)
        return found


def protocol_of(node: Node) -> str | None:
    """The protocol of a port, TCP when it says none; None for an unknown one."""
    written = child(node, "protocol").value
    if written is None:
        return Protocol.TCP.value
    return written if written in tuple(Protocol) else None


def read_ports(container: Node, ports: Ports, context: Context) -> None:
    """The ports that the container declares."""
    for item in child(container, "ports").items:
        number = whole(child(item, "containerPort"), 1, 65_535)
        protocol = protocol_of(item)
        if number is None or protocol is None:
            context.refuse(item, "is no port from 1 to 65535 with a known protocol")
            continue
        ports.add(number, protocol, text_at(item, "name"))
        for key in ("containerPort", "protocol", "name"):
            context.use(child(item, key))


def add_probes(container: Node, service: Document, ports: Ports, context: Context) -> None:
    """The three probes. What they ask over the network has to be a declared port: it is declared then."""
    probes: Document = {}
    for written, key in (
        ("readinessProbe", "readiness"),
        ("livenessProbe", "liveness"),
        ("startupProbe", "startup"),
    ):
        place = child(container, written)
        if place.mapping:
            probe = _probe(place, ports, context)
            if probe is not None:
                _timing(place, probe, key, context)
                probes[key] = probe
    if probes:
        service["probes"] = probes


def _probe(place: Node, ports: Ports, context: Context) -> Document | None:
    http, tcp, command = (child(place, key) for key in ("httpGet", "tcpSocket", "exec"))
    if http.mapping:
        port = _port(child(http, "port"), ports)
        path = text_at(http, "path") or "/"
        if port is None or rules.url_path(path) is not None:
            context.refuse(place, "asks for no port or path that the service could have")
            return None
        for key in ("port", "path", "scheme"):
            context.use(child(http, key))
        scheme: Document = {"scheme": "HTTPS"} if text_at(http, "scheme") == "HTTPS" else {}
        return {"http": {"path": path, "port": port, **scheme}}
    if tcp.mapping:
        port = _port(child(tcp, "port"), ports)
        if port is None:
            context.refuse(place, "asks for no port that the service could have")
            return None
        context.use(child(tcp, "port"))
        return {"tcp": {"port": port}}
    words = child(command, "command").items
    if words and all(isinstance(item.value, str) for item in words):
        context.use(command)
        return {"exec": {"command": [str(item.value) for item in words]}}
    context.refuse(place, "a probe asks over HTTP or TCP, or runs a command")
    return None


def _port(node: Node, ports: Ports) -> int | None:
    """The number of the port that a probe names; declared if it is a number that nobody declared."""
    if isinstance(node.value, str) and not node.value.isdigit():
        return ports.number(node.value)
    number = whole(node, 1, 65_535)
    if number is not None and ports.number(number) is None:
        ports.add(number, Protocol.TCP.value)
    return number


def _timing(place: Node, probe: Document, kind: str, context: Context) -> None:
    use_defaults(context, place)
    for key, lowest, highest in _TIMING:
        part = child(place, key)
        if part.value is None:
            continue
        number = whole(part, lowest, highest)
        if number is None or (key == "successThreshold" and kind != "readiness" and number != 1):
            context.refuse(part, f"is no number from {lowest} to {highest} that a {kind} probe may have")
            continue
        probe[key] = number
        context.use(part)


def add_resources(container: Node, service: Document, context: Context) -> None:
    """Requests and limits of CPU and memory."""
    requests, limits = (child(container, "resources", key) for key in ("requests", "limits"))
    bounds: Document = {}
    found: Document = {}
    for key, rule in (("cpu", rules.cpu), ("memory", rules.memory)):
        upper = _quantity(child(limits, key), rule, context)
        lower = _quantity(child(requests, key), rule, context)
        if upper is not None:
            bounds[key] = upper
        if lower is None:
            continue
        if upper is not None and parse_quantity(upper) < parse_quantity(lower):
            context.refuse(child(requests, key), "requests more than its limit")
        else:
            found[key] = lower
    if bounds:
        found["limits"] = bounds
    if found:
        service["resources"] = found


def _quantity(node: Node, rule: rules.Rule, context: Context) -> str | None:
    if isinstance(node.value, bool) or not isinstance(node.value, str | int | float):
        return None
    text = str(node.value)
    problem = rule(text)
    if problem is not None:
        context.refuse(node, problem[0])
        return None
    context.use(node)
    return text
