"""Services and Ingresses: names and ports of workloads, and which are reached from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import DataStore, Service, data_store
from workflows.domain.blueprint_tree import Node
from workflows.domain.discover_report import NoteKind
from workflows.domain.import_nodes import Document, child, text_at, whole
from workflows.domain.kubernetes_objects import Thing, World, use_defaults
from workflows.domain.kubernetes_probes import Ports, protocol_of
from workflows.domain.kubernetes_volumes import pod_of


@dataclass(slots=True)
class Workload:
    """A workload on its way into the Blueprint; `known_as` are the Services in front of it."""

    thing: Thing
    service: Document
    ports: Ports
    known_as: tuple[Thing, ...]

    @property
    def is_job(self) -> bool:
        """Whether it runs to its end."""
        return self.service.get("kind") == "job"

    @property
    def store(self) -> DataStore | None:
        """What data it keeps by the name of its image."""
        return data_store(Service(name="", image=str(self.service.get("image", ""))))


def services_of(world: World, things: Iterable[Thing]) -> dict[int, list[Thing]]:
    """The Services that select the pods of each workload, by the workload's position; others are refused."""
    labels = [(thing.namespace, _words(child(pod_of(thing), "metadata", "labels"))) for thing in things]
    found: dict[int, list[Thing]] = {}
    for service in world.of("Service"):
        selector = _words(child(service.node, "spec", "selector"))
        selected = [
            position
            for position, (namespace, words) in enumerate(labels)
            if selector and namespace == service.namespace and selector.items() <= words.items()
        ]
        if not selected:
            service.context.refuse(service.node, "selects no workload of these files")
            continue
        if len(selected) > 1:
            world.report.warn(
                service.file,
                NoteKind.CHANGED,
                f"{service.title} selects {len(selected)} workloads; here its name leads to the first",
                place=service.node.path,
            )
        found.setdefault(selected[0], []).append(service)
    return found


def _words(node: Node) -> Mapping[str, object]:
    return {key: value.value for key, value in node.mapping.items()}


def add_service(service: Thing, workload: Workload, world: World) -> None:
    """The ports of a Service, which lead to those of its workload."""
    context, spec = service.context, child(service.node, "spec")
    if workload.is_job:
        context.refuse(service.node, "selects a job, which serves nothing")
        return
    use_defaults(context, spec)
    for key in ("selector", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        context.use(child(spec, key))
    context.use(child(spec, "publishNotReadyAddresses"))
    name = workload.service["name"]
    for item in child(spec, "ports").items:
        number, protocol = whole(child(item, "port"), 1, 65_535), protocol_of(item)
        target = _target(item, number, workload.ports)
        if number is None or protocol is None or target is None:
            context.refuse(item, "leads to no port that the workload declares")
            continue
        workload.ports.add(target, protocol)
        for key in ("port", "targetPort", "protocol", "name"):
            context.use(child(item, key))
        if target != number:
            world.report.warn(
                service.file,
                NoteKind.CHANGED,
                f"{name} is reached at {name}:{target} here, not at {service.name}:{number}; "
                "values that hold the old address need the new one",
                place=item.path,
            )
    kind = child(spec, "type")
    if kind.value in ("ClusterIP", None) or kind.value in ("LoadBalancer", "NodePort"):
        context.use(kind)


def expose_published(workload: Workload, world: World) -> None:
    """Expose what a load balancer or a port of the nodes leads to, unless an Ingress does already."""
    for service in workload.known_as:
        if text_at(service.node, "spec", "type") in ("LoadBalancer", "NodePort") and not workload.is_job:
            _expose(workload, None, None, service, world)


def _target(item: Node, number: int | None, ports: Ports) -> int | None:
    target = child(item, "targetPort")
    if target.value is None:
        return number
    if isinstance(target.value, str) and not target.value.isdigit():
        return ports.number(target.value)
    return whole(target, 1, 65_535)


def _expose(workload: Workload, port: int | None, path: str | None, by: Thing, world: World) -> bool:
    """Expose a service, once; whether that was this one's doing."""
    service, report = workload.service, world.report
    if "expose" in service:
        return False
    if workload.store is not None and path is None:
        report.say(
            by.file,
            NoteKind.CHANGED,
            f"{service['name']} keeps {workload.store} and is not exposed; reach it from within",
        )
        return False
    chosen = port if port is not None else next(workload.ports.tcp(), None)
    if chosen is None or chosen not in tuple(workload.ports.tcp()):
        report.warn(by.file, NoteKind.CHANGED, f"{service['name']} has no TCP port and is not exposed")
        return False
    service["expose"] = {"port": chosen} if path in (None, "/") else {"port": chosen, "path": path}
    return True


def add_ingress(ingress: Thing, workloads: Mapping[tuple[str, str], Workload], world: World) -> None:
    """Expose what an Ingress leads to; `workloads` by namespace and name of the Service in front of them."""
    context, spec = ingress.context, child(ingress.node, "spec")
    default = child(spec, "defaultBackend")
    if default.mapping:
        _backend(default, "/", default, ingress, workloads, world)
    for rule in child(spec, "rules").items:
        context.enter(rule)
        for item in child(rule, "http", "paths").items:
            _backend(child(item, "backend"), text_at(item, "path") or "/", item, ingress, workloads, world)


def _backend(
    backend: Node,
    path: str,
    place: Node,
    ingress: Thing,
    workloads: Mapping[tuple[str, str], Workload],
    world: World,
) -> None:
    context = ingress.context
    name = text_at(backend, "service", "name") or text_at(backend, "serviceName") or ""
    workload = workloads.get((ingress.namespace, name))
    if workload is None or workload.is_job:
        context.refuse(place, f"the Service {name[:100]} leads to no workload of these files")
        return
    if rules.url_path(path) is not None or len(path) > 1_024:
        context.refuse(place, "the path is none that can be exposed")
        return
    written = child(backend, "service", "port")
    wanted = child(written, "number") if "number" in written.mapping else child(written, "name")
    if not written.mapping:
        wanted = child(backend, "servicePort")
    port = _port_behind(wanted, name, workload)
    if not _expose(workload, port, path, ingress, world):
        context.refuse(place, "a service is exposed once, with one path and one port")
        return
    context.use(backend)
    for key in ("path", "pathType"):
        context.use(child(place, key))


def _port_behind(wanted: Node, name: str, workload: Workload) -> int | None:
    """The port of the workload behind a port of its Service, which an Ingress names by number or name."""
    for service in workload.known_as:
        if service.name != name:
            continue
        for item in child(service.node, "spec", "ports").items:
            number = whole(child(item, "port"), 1, 65_535)
            if wanted.value is not None and wanted.value in (number, text_at(item, "name")):
                return _target(item, number, workload.ports)
    return None
