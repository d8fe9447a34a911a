"""Reading the probes of a Blueprint's service."""

from __future__ import annotations

from typing import Final

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import (
    ExecProbe,
    HttpProbe,
    Probe,
    Probes,
    Scheme,
    TcpProbe,
)
from workflows.domain.blueprint_read import Fields, text_of
from workflows.domain.blueprint_tree import Node, show

_PROBE_KEYS: Final = (
    "http", "tcp", "exec",
    "periodSeconds", "timeoutSeconds", "initialDelaySeconds", "failureThreshold", "successThreshold",
)  # fmt: skip
_NULL: Final = Node(None, (), ())
_SIX_HOURS: Final = 6 * 3600


def read_probes(fields: Fields) -> Probes:
    """The probes of a service."""
    child = fields.child("probes")
    kinds = ("readiness", "liveness", "startup")
    part = None if child is None else Fields.of(child, fields.faults, kinds, "probes")
    if part is None:
        return Probes()
    return Probes(
        readiness=_probe(part, "readiness"),
        liveness=_probe(part, "liveness"),
        startup=_probe(part, "startup"),
    )


def _probe(fields: Fields, key: str) -> Probe | None:
    child = fields.child(key)
    part = None if child is None else Fields.of(child, fields.faults, _PROBE_KEYS, "a probe")
    if part is None or child is None:
        return None
    given = [way for way in ("http", "tcp", "exec") if not part.node.mapping.get(way, _NULL).absent]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none of http, tcp and exec"
        fields.faults.add(child, f"a probe has exactly one of http, tcp and exec; this one {found}")
    probe = Probe(
        http=_http(part),
        tcp=_tcp(part),
        exec=_exec(part),
        period_seconds=part.integer("periodSeconds", 1, 3600, 10),
        timeout_seconds=part.integer("timeoutSeconds", 1, 3600, 1),
        initial_delay_seconds=part.integer("initialDelaySeconds", 0, _SIX_HOURS, 0),
        failure_threshold=part.integer("failureThreshold", 1, 10_000, 3),
        success_threshold=part.integer("successThreshold", 1, 100, 1),
    )
    if key != "readiness" and probe.success_threshold != 1:
        fields.faults.add(
            child.at("successThreshold"), f"must be 1 for a {key} probe: Kubernetes allows no other"
        )
    return probe


def _http(part: Fields) -> HttpProbe | None:
    child = part.child("http")
    http = (
        None if child is None else Fields.of(child, part.faults, ("path", "port", "scheme"), "an http probe")
    )
    if http is None:
        return None
    port = read_port_reference(http, required=True)
    path = http.text("path", rules.url_path, 1024)
    scheme = http.choice("scheme", Scheme, fold=True)
    return HttpProbe(path=path or "/", port=port, scheme=scheme or Scheme.HTTP) if port is not None else None


def _tcp(part: Fields) -> TcpProbe | None:
    child = part.child("tcp")
    tcp = None if child is None else Fields.of(child, part.faults, ("port",), "a tcp probe")
    port = None if tcp is None else read_port_reference(tcp, required=True)
    return TcpProbe(port=port) if port is not None else None


def _exec(part: Fields) -> ExecProbe | None:
    child = part.child("exec")
    command = None if child is None else Fields.of(child, part.faults, ("command",), "an exec probe")
    if command is None:
        return None
    words = command.words("command")
    if not words and not part.faults.broken_at(command.node, "command"):
        part.faults.add(
            command.node, "is required and must not be empty", '["sh", "-c", "..."]', key="command"
        )
    return ExecProbe(command=words) if words else None


def read_port_reference(fields: Fields, *, required: bool) -> int | str | None:
    """The `port` of a probe or an exposure: the number or name of a declared port."""
    child = fields.child("port")
    if child is None:
        if required:
            fields.missing("port", "the number or name of a declared port")
        return None
    if isinstance(child.value, str):
        hint = f"write it without quotes: {child.value[:5]}" if child.value.isdigit() else None
        if hint is None:
            return text_of(child, fields.faults, rules.port_name)
        fields.faults.add(child, f"must be a port number or a port name, got {show(child.value)}", hint)
        return None
    return fields.integer("port", 1, 65535, 0) or None
