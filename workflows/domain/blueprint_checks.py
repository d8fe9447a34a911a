"""Rules that need more than one field or service. They run on whatever parts of a document are good."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from workflows.domain.blueprint_models import (
    MOCK_VOLUME,
    Condition,
    DataStore,
    Dependency,
    InitType,
    MockMode,
    Port,
    Protocol,
    Routing,
    RoutingMode,
    SecretRef,
    Service,
    ServiceKind,
)
from workflows.domain.blueprint_read import nearest
from workflows.domain.blueprint_tree import Faults, Node, show
from workflows.domain.init_sql_scan import InitScriptInvalid
from workflows.domain.mirror import (
    MIRROR_VOLUME,
    NO_HTTP_HINT,
    NO_HTTP_PORT,
    SCRATCH_VOLUME,
    mirror_of,
    mirrored_ports,
    proxy_port,
)
from workflows.domain.quantity import parse_quantity

MAX_SERVICES: Final = 200
ScriptFault = Callable[[DataStore | None, str], InitScriptInvalid | None]
"""What is wrong with an SQL init script for this store."""
L006: Final = "L006"
SHARED_VOLUME_MESSAGE: Final = (
    "more than one replica with a pvc volume: each replica gets an empty volume of its own, "
    "nothing copies data between them"
)
SHARED_VOLUME_HINT: Final = "replicas: 1, or replicable: true when the program replicates its data itself"


@dataclass(frozen=True, slots=True)
class Draft:
    """A service as far as it could be read, and its place."""

    service: Service
    node: Node


def check_services(
    services: Node, drafts: Sequence[Draft], faults: Faults, script_fault: ScriptFault
) -> tuple[Service, ...]:
    """Note every fault within and between services; return them with all conditions filled in.

    `script_fault` is `sql_fault`, or a form of it that remembers what it has read.
    """
    if len(drafts) > MAX_SERVICES:
        faults.add(
            services, f"{len(drafts)} services, at most {MAX_SERVICES} are allowed", "split the environment"
        )
    _check_names(drafts, faults)
    _check_hosts(drafts, faults)
    _check_secrets(drafts, faults)
    for draft in drafts:
        _check_job(draft, faults)
        _check_ports(draft, faults)
        _check_mock(draft, faults)
        _check_mirror(draft, faults)
        _check_resources(draft, faults)
        _check_data(draft, faults, script_fault)
    by_name = {draft.service.name: draft.service for draft in drafts}
    written = frozenset(
        place.value
        for draft in drafts
        if (place := draft.node.mapping.get("name")) and isinstance(place.value, str)
    )
    resolved = tuple(_resolve_dependencies(draft, written, by_name, faults) for draft in drafts)
    if len(drafts) > MAX_SERVICES:
        # Looking for cycles takes long in a large graph, and this one has to become a smaller one first.
        return resolved
    for cycle in find_cycles({service.name: tuple(service.depends_on) for service in resolved}):
        first = next(draft for draft in drafts if draft.service.name == cycle[0])
        message = f"the services wait for each other: {' -> '.join(cycle)}"
        faults.add(first.node.at("dependsOn"), message, "take one of these dependencies away")
    return resolved


def check_routing(routing: Routing, node: Node, faults: Faults) -> None:
    """An overlay and a shadow stand beside a baseline; only isolated environments can be made so far."""
    if routing.mode is not RoutingMode.ISOLATED:
        message = f"{routing.mode} is not available in this version: requests would not be routed"
        faults.add(node.at("mode"), message, "mode: isolated")
    needs_baseline = routing.mode in (RoutingMode.OVERLAY, RoutingMode.SHADOW)
    if needs_baseline and routing.baseline_id is None and not faults.broken_at(node, "baselineId"):
        message = f"is required: an environment in mode {routing.mode} stands beside a baseline"
        faults.add(node, message, "baselineId: env_..., or mode: isolated", key="baselineId")


def find_cycles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """One shortest cycle, closed (`a, b, a`), for each knot of the graph, begun at its first node."""
    done: set[str] = set()
    reverse: dict[str, list[str]] = {}
    for node, following in edges.items():
        for other in following:
            reverse.setdefault(other, []).append(node)
    for start in edges:
        if start in done:
            continue
        reached = _reachable(start, edges)
        if start in reached:
            cycle = _shortest_way_back(start, edges)
            # Everything that reaches start and is reached by it belongs to the same knot.
            done.update(reached & _reachable(start, reverse))
            yield cycle
        done.add(start)


def _reachable(start: str, edges: Mapping[str, Sequence[str]]) -> set[str]:
    seen: set[str] = set()
    stack = list(edges.get(start, ()))
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(edges.get(node, ()))
    return seen


def _shortest_way_back(start: str, edges: Mapping[str, Sequence[str]]) -> list[str]:
    came_from: dict[str, str] = {}
    queue = [start]
    for node in queue:
        for following in edges.get(node, ()):
            if following == start:
                way = [node]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return [*reversed(way), start]
            if following not in came_from:
                came_from[following] = node
                queue.append(following)
    raise ValueError("start is on no cycle")


def _check_names(drafts: Sequence[Draft], faults: Faults) -> None:
    seen: set[str] = set()
    for draft in drafts:
        name = draft.service.name
        if name and name in seen:
            faults.add(
                draft.node.at("name"), f'another service is called "{name}"', "service names are unique"
            )
        seen.add(name)


def _check_hosts(drafts: Sequence[Draft], faults: Faults) -> None:
    taken: dict[tuple[str, str], str] = {}
    for draft in drafts:
        exposure = draft.service.exposure
        if exposure is None or exposure.host is None:
            continue
        owner = taken.setdefault((exposure.host, exposure.path), draft.service.name)
        if owner != draft.service.name:
            message = f'the service "{owner}" is already exposed at {exposure.host}{exposure.path}'
            faults.add(draft.node.at("expose", "host"), message, "give it another host or path")


def _resolve_dependencies(
    draft: Draft, written: Collection[str], by_name: Mapping[str, Service], faults: Faults
) -> Service:
    """The service with its conditions filled in; `written` are all names, good ones and others."""
    node = draft.node.at("dependsOn")
    entries = node.mapping or {str(item.value): item for item in reversed(node.items)}
    resolved: dict[str, Dependency] = {}
    for name, dependency in draft.service.depends_on.items():
        entry = entries.get(name, node)
        target = by_name.get(name)
        if target is None:
            if name not in written:
                others = [known for known in by_name if known != draft.service.name]
                meant = nearest(name, others) if faults.suggesting else None
                hint = f'did you mean "{meant}"?' if meant else "name a service of this Blueprint"
                faults.add(entry, f"there is no service {show(name)}", hint)
            continue
        explicit = not entry.at("condition").absent and "condition" in entry.mapping
        is_job = target.kind is ServiceKind.JOB
        resolved[name] = dependency
        if is_job and not explicit:
            resolved[name] = Dependency(condition=Condition.COMPLETED)
        elif is_job and dependency.condition is Condition.READY and not faults.broken(entry):
            faults.add(
                entry.at("condition"), f'"{name}" is a job, which is never ready', "completed, or started"
            )
        elif not is_job and dependency.condition is Condition.COMPLETED:
            faults.add(
                entry.at("condition"),
                f'"{name}" is not a job and never completes',
                "ready, or kind: job there",
            )
    return draft.service.model_copy(update={"depends_on": resolved})


def _check_job(draft: Draft, faults: Faults) -> None:
    service, node = draft.service, draft.node
    if service.kind is not ServiceKind.JOB:
        return
    nonsense = {
        "replicas": (service.replicas != 1, "a job runs once"),
        "ports": (bool(service.ports), "a job serves nothing"),
        "expose": (service.expose is not False, "a job serves nothing"),
        "probes": (
            any((service.probes.readiness, service.probes.liveness, service.probes.startup)),
            "a job is judged by its exit code",
        ),
        "init": (service.init is not None, "a job is never ready, and init runs when its service is"),
        "mock": (service.mock is not None, "a job answers no requests"),
        "volumes": (service.stateful, "a job keeps nothing after its end, so it can have no pvc volume"),
    }
    for key, (given, reason) in nonsense.items():
        if given:
            faults.add(node.at(key), f"has no place in a job: {reason}", f"take {key} away, or kind: service")
    for key, hook in (("quiesce", service.snapshot.quiesce), ("thaw", service.snapshot.thaw)):
        if hook:
            message = "has no place in a job: a job may be over when it is to be held still"
            faults.add(node.at("snapshot", key), message, f"take {key} away, or kind: service")


def _check_ports(draft: Draft, faults: Faults) -> None:
    service, node = draft.service, draft.node
    if faults.broken_at(node, "ports"):
        return
    exposure = service.exposure
    if exposure is not None and service.kind is ServiceKind.SERVICE and not faults.broken_at(node, "expose"):
        _check_exposed(service, node.at("expose"), faults)
    for kind in ("readiness", "liveness", "startup"):
        probe = getattr(service.probes, kind)
        for way in ("http", "tcp"):
            check = getattr(probe, way, None)
            if check is not None and service.find_port(check.port) is None:
                place = node.at("probes", kind, way, "port")
                faults.add(place, *_undeclared(check.port, service.ports))


def _check_exposed(service: Service, node: Node, faults: Faults) -> None:
    exposure = service.exposure
    if exposure is None:
        return
    if not service.ports:
        faults.add(node, "an exposed service needs a port", "ports: [{containerPort: 8080}]")
        return
    port = service.exposed_port
    if port is None and exposure.port is not None:
        faults.add(node.at("port"), *_undeclared(exposure.port, service.ports))
    elif port is not None and port.protocol is not Protocol.TCP:
        message = f"port {port.container_port} is {port.protocol}; only TCP ports can be exposed"
        faults.add(node.at("port"), message, "name a TCP port")


def _check_mock(draft: Draft, faults: Faults) -> None:
    """A mock beside its service has the pod's address and the Kubernetes Service in common with it."""
    service, node = draft.service, draft.node
    mock = service.mock
    if mock is None or mock.mode is not MockMode.SIDECAR or faults.broken_at(node, "ports"):
        return
    if mock.files:
        for index, volume in enumerate(service.volumes):
            if volume.name == MOCK_VOLUME:
                message = f'the name "{MOCK_VOLUME}" is that of the volume with the files of the mock'
                faults.add(node.at("volumes", index, "name"), message, "give it another name")
    taken = {(port.container_port, port.protocol) for port in service.ports}
    labels = {port.label for port in service.ports}
    for index, port in enumerate(mock.ports):
        place = node.at("mock", "ports", index)
        if (port.container_port, port.protocol) in taken:
            message = f"port {port.container_port} is the service's own, and this mock shares its address"
            faults.add(place.at("containerPort"), message, "give the mock another port, or mode: replace")
        elif port.label in labels:
            message = f'the name "{port.label}" is already used by a port of the service'
            faults.add(place.at("name"), message, "give it another name")


def _check_mirror(draft: Draft, faults: Faults) -> None:
    """Only HTTP is copied, and the proxy that does it needs ports and volumes of its own."""
    service, node = draft.service, draft.node
    mock = mirror_of(service)
    if mock is None or service.kind is ServiceKind.JOB or faults.broken_at(node, "ports"):
        return
    mirrored = mirrored_ports(service)
    if not mirrored:
        faults.add(node.at("mock", "mode"), NO_HTTP_PORT, NO_HTTP_HINT)
    elif mock.ports and not any(port.protocol is Protocol.TCP for port in mock.ports):
        faults.add(node.at("mock", "ports"), "the copies of HTTP requests need a TCP port", "name one")
    taken = {port.container_port for port in service.ports}
    numbers = [port.container_port for port in service.ports]
    for port in mirrored:
        other = proxy_port(port.container_port)
        if other in taken:
            place = node.at("ports", numbers.index(port.container_port), "containerPort")
            message = f"the proxy that copies its requests would need port {other}, which is taken"
            faults.add(place, message, "give one of the two another port")
        taken.add(other)
    for index, volume in enumerate(service.volumes):
        if volume.name in (MIRROR_VOLUME, SCRATCH_VOLUME):
            message = f'the name "{volume.name}" is that of a volume of the proxy that copies requests'
            faults.add(node.at("volumes", index, "name"), message, "give it another name")


def _undeclared(port: int | str, ports: Sequence[Port]) -> tuple[str, str]:
    declared = ", ".join(
        f"{known.container_port} ({known.name})" if known.name else str(known.container_port)
        for known in ports
    )
    hint = f"declared: {declared}" if declared else f"declare it: ports: [{{containerPort: {port}}}]"
    return f"port {show(port)} is not declared by this service", hint


def _check_resources(draft: Draft, faults: Faults) -> None:
    resources, node = draft.service.resources, draft.node.at("resources")
    for key, request, limit in (
        ("cpu", resources.cpu, resources.limits.cpu),
        ("memory", resources.memory, resources.limits.memory),
    ):
        if request is not None and limit is not None and parse_quantity(limit) < parse_quantity(request):
            message = f"the limit {limit} is below the request {request}"
            faults.add(node.at("limits", key), message, f"at least {request}")


def _check_data(draft: Draft, faults: Faults, script_fault: ScriptFault) -> None:
    service, node = draft.service, draft.node
    if service.unsafely_replicated and service.kind is ServiceKind.SERVICE:
        faults.add(node.at("replicas"), SHARED_VOLUME_MESSAGE, SHARED_VOLUME_HINT, code=L006)
    if service.init is None or service.init.type is not InitType.SQL or service.kind is ServiceKind.JOB:
        return
    if faults.broken_at(node, "snapshot"):
        return
    if service.store not in (DataStore.POSTGRES, DataStore.MYSQL) and service.image:
        what = (
            f"keeps {service.store}"
            if service.store
            else f"of image {show(service.image)} is not known as a database"
        )
        message = f"sql needs PostgreSQL, MySQL or MariaDB; this service {what}"
        faults.add(
            node.at("init", "type"), message, "snapshot: {store: postgres} says what it is; or type: shell"
        )
    elif (fault := script_fault(service.store, service.init.script)) is not None:
        faults.add(node.at("init", "script"), fault.reason, fault.way_out)


def _check_secrets(drafts: Sequence[Draft], faults: Faults) -> None:
    sources: dict[str, tuple[SecretRef, str]] = {}
    sourceless: list[tuple[str, Node]] = []
    broken: set[str] = set()
    for draft in drafts:
        if faults.broken_at(draft.node, "secrets"):
            broken.update(str(item.at("name").value) for item in draft.node.at("secrets").items)
        # Only good references are looked up here, and those have both keys as text.
        places = {_reference(item): item for item in reversed(draft.node.at("secrets").items)}
        for secret in draft.service.secrets:
            item = places[(secret.name, secret.env_key)]
            if secret.value is None and secret.value_from is None:
                sourceless.append((secret.name, item))
                continue
            known, owner = sources.setdefault(secret.name, (secret, draft.service.name))
            if (known.value, known.value_from) != (secret.value, secret.value_from):
                where = (
                    "above in this service" if owner == draft.service.name else f'in the service "{owner}"'
                )
                message = f'"{secret.name}" has {_source(secret)} here and {_source(known, secret)} {where}'
                faults.add(
                    item, message, "one name is one secret: give both the same source, or another name"
                )
    for name, item in sourceless:
        if name not in sources and name not in broken:
            meant = nearest(name, sources) if faults.suggesting else None
            hint = f'did you mean "{meant}"? ' if meant else ""
            message = f'no service of the Blueprint says where the secret "{name}" comes from'
            faults.add(item, message, f"{hint}value: auto-generated, or valueFrom: {{secret: name}}")


def _reference(item: Node) -> tuple[str, str]:
    return str(item.at("name").value), str(item.at("envKey").value)


def _source(secret: SecretRef, beside: SecretRef | None = None) -> str:
    if secret.value_from is not None:
        return f'the stored secret "{secret.value_from.secret}"'
    if secret.literal is None:
        return "a generated value"
    return "another literal value" if beside is not None and beside.literal is not None else "a literal value"
