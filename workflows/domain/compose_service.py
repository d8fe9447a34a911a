"""One service of a Compose file as a service of a Blueprint document."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import Service, data_store
from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_context import Context
from workflows.domain.compose_storage import add_secrets_and_configs, add_volumes
from workflows.domain.compose_values import ComposeValueError, byte_quantity, env_file, port_mapping, seconds
from workflows.domain.quantity import parse_quantity

Document = dict[str, JsonValue]

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
    _environment(node, service, context)
    _ports(node, service, context, job)
    _depends_on(node, service, shared, context)
    _resources(node, service, context)
    _healthcheck(node, service, context, job)
    add_volumes(name, node, shared.root, service, context, job=job)
    add_secrets_and_configs(node, shared.root, service, context)
    _replicas(node, service, context, job)
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


def _escaped(text: str) -> str:
    # Compose leaves $(NAME) alone, Kubernetes would put a variable there.
    return text.replace("$(", "$$(")


def _words(node: Node | None, context: Context) -> list[JsonValue]:
    if node is None:
        return []
    if isinstance(node.value, str):
        try:
            words: list[JsonValue] = [_escaped(word) for word in shlex.split(node.value)]
        except ValueError:
            context.refuse(node, "the quotes do not match")
            return []
        context.use(node)
        return words
    if node.items and all(isinstance(item.value, str | int | float) for item in node.items):
        context.use(node)
        return [_escaped(_scalar(item)) for item in node.items]
    return []


def _scalar(node: Node) -> str:
    return str(node.value).lower() if isinstance(node.value, bool) else str(node.value)


def _environment(node: Node, service: Document, context: Context) -> None:
    env: dict[str, JsonValue] = {}
    place = node.mapping.get("env_file")
    if place is not None:
        for item in place.items or [place]:
            _env_file(item, env, context)
    place = node.mapping.get("environment")
    if place is not None:
        for item in place.items:
            if isinstance(item.value, str):
                key, equals, value = item.value.partition("=")
                _variable(key, value if equals else None, item, env, context)
        for key, item in place.mapping.items():
            if isinstance(item.value, bool):
                context.notes.append(
                    f"{key} is a boolean in the Compose file and became the text {_scalar(item)}"
                )
            if item.value is None or isinstance(item.value, str | int | float):
                _variable(key, None if item.value is None else _scalar(item), item, env, context)
    if env:
        service["env"] = env


def _variable(key: str, value: str | None, node: Node, env: dict[str, JsonValue], context: Context) -> None:
    if rules.env_key(key) is not None:
        context.refuse(node, "the name is none that Kubernetes takes for an environment variable")
        return
    value = context.variables.get(key) if value is None else value
    if value is None:
        context.refuse(node, f"takes {key} from the shell of whoever starts it: hand its value in")
        return
    env[key] = _escaped(value)
    context.use(node)


def _env_file(node: Node, env: dict[str, JsonValue], context: Context) -> None:
    path = node.mapping.get("path", node)
    required = node.mapping.get("required")
    if not isinstance(path.value, str):
        return
    content = context.files.get(path.value)
    if content is None:
        if required is not None and required.value is False:
            context.refuse(node, "the content of this optional file was not handed in")
        else:
            context.faults.add(
                node, f"the content of {path.value[:200]} is needed", "hand it in with the Compose file"
            )
        return
    try:
        found = env_file(content)
    except ComposeValueError as error:
        context.faults.add(node, f"{path.value[:200]}: {error}")
        return
    for key, value in found.items():
        if rules.env_key(key) is None:
            env[key] = _escaped(value)
        else:
            context.notes.append(f"{path.value[:200]}: a name was left out that Kubernetes does not take")
    context.use(path)
    if required is not None:
        context.use(required)


@dataclass(slots=True)
class _PortList:
    ports: dict[tuple[int, str], str | None]
    published: list[int]

    def document(self) -> list[JsonValue]:
        found: list[JsonValue] = []
        for (number, protocol), name in self.ports.items():
            port: Document = {"containerPort": number, "protocol": protocol}
            found.append({**port, "name": name} if name else port)
        return found


def _ports(node: Node, service: Document, context: Context, job: bool) -> None:
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


def _resources(node: Node, service: Document, context: Context) -> None:
    deploy = node.mapping.get("deploy", _NOTHING).mapping.get("resources", _NOTHING)
    requests = deploy.mapping.get("reservations", _NOTHING).mapping
    bounds = deploy.mapping.get("limits", _NOTHING).mapping
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


_NOTHING: Final = Node(None, (), ())


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


def _healthcheck(node: Node, service: Document, context: Context, job: bool) -> None:
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
    retries = _whole(place.mapping.get("retries"), 1, 10_000)
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
        return ["sh", "-c", _escaped(test.value)] if test.value.strip() else []
    words = [_scalar(item) for item in test.items if isinstance(item.value, str | int | float)]
    match words[:1]:
        case ["NONE"]:
            return ["NONE"]
        case ["CMD"]:
            return [_escaped(word) for word in words[1:]]
        case ["CMD-SHELL"]:
            return ["sh", "-c", _escaped(" ".join(words[1:]))] if words[1:] else []
        case _:
            context.refuse(test, "does not begin with CMD, CMD-SHELL or NONE")
            return []


def _whole(node: Node | None, lowest: int, highest: int) -> int | None:
    if node is None or isinstance(node.value, bool):
        return None
    text = str(node.value)
    if not (text.isascii() and text.isdigit() and len(text) <= 6) or not lowest <= int(text) <= highest:
        return None
    return int(text)


def _replicas(node: Node, service: Document, context: Context, job: bool) -> None:
    deploy = node.mapping.get("deploy", _NOTHING)
    mode = deploy.mapping.get("mode")
    if mode is not None and mode.value == "replicated":
        context.use(mode)
    place = deploy.mapping.get("replicas") or node.mapping.get("scale")
    replicas = _whole(place, 0, rules.MOST_REPLICAS)
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


def _restart(node: Node, context: Context, job: bool) -> None:
    restart = node.mapping.get("restart")
    if restart is None:
        return
    if job or restart.value in _RESTARTED:
        context.use(restart)
    else:
        context.refuse(restart, "a service is always restarted; one that ends is a job (kind: job)")
