"""Reading one service of a Blueprint. What is broken is noted and takes its default."""

from __future__ import annotations

from typing import Final

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_data import (
    LONGEST_VALUE,
    read_files,
    read_init,
    read_quantity,
    read_secrets,
    read_snapshot,
    read_volumes,
)
from workflows.domain.blueprint_models import (
    DEFAULT_READY_TIMEOUT_SECONDS,
    Condition,
    Dependency,
    Expose,
    Mock,
    MockMode,
    Port,
    Protocol,
    ResourceLimits,
    Resources,
    Service,
    ServiceKind,
    Startup,
)
from workflows.domain.blueprint_probes import read_port_reference, read_probes
from workflows.domain.blueprint_read import Fields, text_of
from workflows.domain.blueprint_tree import Faults, Node, kind_of, show

SERVICE_KEYS: Final = (
    "name", "kind", "image", "imagePullSecrets", "command", "args", "replicas", "ports", "expose", "env",
    "dependsOn", "resources", "probes", "readyTimeoutSeconds", "startup", "secrets", "volumes", "init",
    "snapshot", "mock", "replicable", "allowReplace",
)  # fmt: skip
_SIX_HOURS: Final = 6 * 3600


def read_service(node: Node, key: str | None, faults: Faults) -> Service:
    """The service at `node`; `key` is its name when services are written as a map.

    A missing or broken name or image is left empty: its place is noted as broken, and other checks avoid it.
    """
    fields = Fields.of(node, faults, SERVICE_KEYS, "a service")
    if fields is None:
        return Service(name=key or "", image="")
    image = fields.text("image", rules.image, 1024)
    if image is None:
        fields.missing("image", "for example postgres:16")
    return Service(
        name=_name(fields, key),
        kind=fields.choice("kind", ServiceKind) or ServiceKind.SERVICE,
        image=image or "",
        image_pull_secrets=_pull_secrets(fields),
        command=fields.words("command"),
        args=fields.words("args"),
        replicas=fields.integer("replicas", 0, rules.MOST_REPLICAS, 1),
        ports=_ports(fields),
        expose=_expose(fields),
        env=_env(fields),
        depends_on=_depends_on(fields),
        resources=_resources(fields),
        probes=read_probes(fields),
        ready_timeout_seconds=fields.integer(
            "readyTimeoutSeconds", 1, _SIX_HOURS, DEFAULT_READY_TIMEOUT_SECONDS
        ),
        startup=_startup(fields),
        secrets=read_secrets(fields),
        volumes=read_volumes(fields),
        init=read_init(fields),
        snapshot=read_snapshot(fields),
        mock=_mock(fields),
        replicable=fields.boolean("replicable", default=False),
        allow_replace=fields.boolean("allowReplace", default=False),
    )


def _name(fields: Fields, key: str | None) -> str:
    if key is None:
        name = fields.text("name", rules.service_name)
        if name is None:
            fields.missing("name", "for example api")
        return name or ""
    written = fields.text("name")
    if written is not None and written != key:
        place = fields.node.at("name")
        fields.faults.add(
            place, f"says {show(written)}, its key says {show(key)}", "leave the name out: the key names it"
        )
    problem = rules.service_name(key)
    if problem is not None:
        fields.faults.add(fields.node, f"the service name {problem[0]}", problem[1])
    return key


def _pull_secrets(fields: Fields) -> tuple[str, ...]:
    names = (text_of(item, fields.faults, rules.credential_name) for item in fields.items("imagePullSecrets"))
    return tuple(name for name in names if name is not None)


def _ports(fields: Fields) -> tuple[Port, ...]:
    ports: list[Port] = []
    seen: set[tuple[int, Protocol]] = set()
    labels: set[str] = set()
    for item in fields.items("ports"):
        port = _port(item, fields.faults)
        if port is None:
            continue
        if (port.container_port, port.protocol) in seen:
            fields.faults.add(
                item.at("containerPort"), f"port {port.container_port} is already declared by this service"
            )
            continue
        if port.label in labels:
            fields.faults.add(
                item.at("name"), f'the name "{port.label}" is already used by another port of this service'
            )
            continue
        seen.add((port.container_port, port.protocol))
        labels.add(port.label)
        ports.append(port)
    return tuple(ports)


def _port(item: Node, faults: Faults) -> Port | None:
    if isinstance(item.value, int) and not isinstance(item.value, bool):
        faults.add(item, "a port is a mapping, got a number", f"{{containerPort: {item.value}}}")
        return None
    port = Fields.of(item, faults, ("containerPort", "name", "protocol"), "a port")
    if port is None:
        return None
    number = port.integer("containerPort", 1, 65535, 0)
    port.missing("containerPort", "for example 8080")
    name = port.text("name", rules.port_name)
    protocol = port.choice("protocol", Protocol, fold=True) or Protocol.TCP
    return Port(container_port=number, name=name, protocol=protocol) if number else None


def _expose(fields: Fields) -> bool | Expose:
    child = fields.child("expose")
    if child is None:
        return False
    if isinstance(child.value, bool):
        return child.value
    if not isinstance(child.value, dict):
        fields.faults.add(
            child,
            f"must be true, false or a mapping of host, path and port, got {kind_of(child.value)}",
            "expose: true",
        )
        return False
    expose = Fields.of(child, fields.faults, ("host", "path", "port"), "expose")
    if expose is None:
        return False
    return Expose(
        host=expose.text("host", rules.host),
        path=expose.text("path", rules.url_path, 1024) or "/",
        port=read_port_reference(expose, required=False),
    )


def _env(fields: Fields) -> dict[str, str]:
    env: dict[str, str] = {}
    for key, item in fields.entries("env", "names to text").items():
        problem = rules.env_key(key)
        if problem is not None:
            fields.faults.add(item, *problem)
        value = _env_value(item, fields.faults)
        if problem is None and value is not None:
            env[key] = value
    return env


def _env_value(item: Node, faults: Faults) -> str | None:
    value = item.value
    if isinstance(value, bool):
        faults.add(
            item,
            f"must be text, got the boolean {show(value)}: YAML reads yes, no, on, off, true and false as "
            "booleans, and which of them you wrote is lost",
            f'quote what the program expects, for example "{show(value)}"',
        )
        return None
    if value is None:
        faults.add(item, "must be text, got null", 'write "" for an empty value, or leave the key out')
        return None
    if isinstance(value, int | float):
        return str(value)
    return text_of(item, faults, None, LONGEST_VALUE)


def _depends_on(fields: Fields) -> dict[str, Dependency]:
    child = fields.child("dependsOn")
    found: dict[str, Dependency] = {}
    if child is None:
        return found
    if isinstance(child.value, list):
        for item in child.value:
            name = text_of(item, fields.faults)
            if name is None:
                continue
            if name in found:
                fields.faults.add(item, f'"{name[:63]}" is listed twice')
            found[name] = Dependency()
        return found
    if not isinstance(child.value, dict):
        hint = f"dependsOn: [{child.value[:63]}]" if isinstance(child.value, str) else None
        fields.faults.add(
            child, f"must be a list of services or a mapping of conditions, got {kind_of(child.value)}", hint
        )
        return found
    for name, item in child.value.items():
        found[name] = Dependency()
        if item.absent:
            continue
        entry = Fields.of(item, fields.faults, ("condition",), "a dependency")
        if entry is not None:
            found[name] = Dependency(condition=entry.choice("condition", Condition) or Condition.READY)
    return found


def _resources(fields: Fields) -> Resources:
    child = fields.child("resources")
    part = (
        None if child is None else Fields.of(child, fields.faults, ("cpu", "memory", "limits"), "resources")
    )
    if part is None:
        return Resources()
    limits = ResourceLimits()
    bounds = part.child("limits")
    if bounds is not None:
        upper = Fields.of(bounds, fields.faults, ("cpu", "memory"), "limits")
        if upper is not None:
            limits = ResourceLimits(
                cpu=read_quantity(upper, "cpu", rules.cpu),
                memory=read_quantity(upper, "memory", rules.memory),
            )
    return Resources(
        cpu=read_quantity(part, "cpu", rules.cpu),
        memory=read_quantity(part, "memory", rules.memory),
        limits=limits,
    )


def _startup(fields: Fields) -> Startup:
    child = fields.child("startup")
    part = None if child is None else Fields.of(child, fields.faults, ("tolerateRestarts",), "startup")
    return (
        Startup() if part is None else Startup(tolerate_restarts=part.integer("tolerateRestarts", 0, 100, 0))
    )


def _mock(fields: Fields) -> Mock | None:
    child = fields.child("mock")
    part = (
        None
        if child is None
        else Fields.of(child, fields.faults, ("mode", "image", "ports", "files"), "mock")
    )
    if part is None:
        return None
    mode = part.choice("mode", MockMode)
    image = part.text("image", rules.image, 1024)
    part.missing("mode", "replace, sidecar, or mirror")
    part.missing("image")
    ports, files = _ports(part), read_files(part)
    if mode is None or image is None:
        return None
    return Mock(mode=mode, image=image, ports=ports, files=files)
