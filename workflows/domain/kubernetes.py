"""From Kubernetes manifests to the services of a Blueprint, with an account of everything else in them.

As with a Compose file, what each step understood is marked as used; at the end whatever was neither used nor
listed is listed, so that nothing of the manifests can be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_checks import MAX_SERVICES
from workflows.domain.blueprint_tree import Node
from workflows.domain.discover_report import NoteKind, Report
from workflows.domain.import_context import Context, dns_label
from workflows.domain.import_nodes import NOTHING, Document, child, scalar, text_at, whole
from workflows.domain.kubernetes_environment import SecretNames, add_environment
from workflows.domain.kubernetes_exposure import (
    Workload,
    add_ingress,
    add_service,
    expose_published,
    services_of,
)
from workflows.domain.kubernetes_objects import (
    WORKLOADS,
    ManifestFile,
    Thing,
    World,
    read_world,
    settle,
    use_defaults,
    use_metadata,
)
from workflows.domain.kubernetes_probes import Ports, add_probes, add_resources, read_ports
from workflows.domain.kubernetes_volumes import Claims, add_volumes, pod_of

_DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
_SIX_HOURS: Final = 6 * 3_600


def import_manifests(
    files: Sequence[ManifestFile], *, images: Mapping[str, str], report: Report
) -> list[JsonValue]:
    """The services of these manifests, for a Blueprint document; the account goes into the report.

    `images` has an image by the name of a service, in place of the one in its manifest. No document makes
    it raise, and no value of a Secret is in what it returns or reports.
    """
    world = read_world(files, report, images)
    things = [thing for kind in WORKLOADS for thing in world.of(kind)]
    if len(things) > MAX_SERVICES:
        report.fault(
            "", f"there are {len(things)} workloads, a Blueprint has at most {MAX_SERVICES} services"
        )
        things = things[:MAX_SERVICES]
    known_as = services_of(world, things)
    names, secrets, claims = _Names(), SecretNames(), Claims()
    workloads: list[Workload] = []
    for position, thing in enumerate(things):
        services = tuple(known_as.get(position, ()))
        name = names.give(thing, services, report)
        workloads.append(_workload(thing, name, services, world, secrets, claims))
    in_front: dict[tuple[str, str], Workload] = {}
    for workload in workloads:
        for service in workload.known_as:
            in_front[service.namespace, service.name] = workload
            add_service(service, workload, world)
    for ingress in world.of("Ingress"):
        add_ingress(ingress, in_front, world)
    for workload in workloads:
        expose_published(workload, world)
        _finish(workload)
    settle(world)
    if len(workloads) > 1:
        report.say(
            "",
            NoteKind.ASSUMED,
            "manifests say no order: all services start at once; write dependsOn where one needs another",
        )
    return [workload.service for workload in workloads]


class _Names:
    """Gives each workload a name of its own: a Service's in front of it, since others reach it by that."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, thing: Thing, services: Sequence[Thing], report: Report) -> str:
        written = services[0].name if services else thing.name
        base = dns_label(written, rules.LONGEST_SERVICE_NAME - 4) or "service"
        name, number = base, 2
        while name in self._taken:
            name = f"{base}-{number}"
            number += 1
        self._taken.add(name)
        if name != thing.name:
            report.say(
                thing.file,
                NoteKind.CHANGED,
                f"{thing.title} is called {name} here"
                + (f", as {services[0].title} in front of it" if services and name == written else ""),
                place=thing.node.path,
            )
        for other in services:
            if other.name != name:
                report.warn(
                    other.file,
                    NoteKind.CHANGED,
                    f"the name {other.name} leads nowhere here: the service is called {name}",
                    place=other.node.path,
                )
        return name


def _workload(
    thing: Thing, name: str, services: tuple[Thing, ...], world: World, secrets: SecretNames, claims: Claims
) -> Workload:
    context, template = thing.context, pod_of(thing)
    spec = child(template, "spec")
    service: Document = {"name": name}
    if _is_job(thing, spec):
        service["kind"] = "job"
    ports = Ports()
    container = _container(thing, template, name, world)
    _image(container, service, thing, world)
    for written, key in (("command", "command"), ("args", "args")):
        words = _words(child(container, written), context)
        if words:
            service[key] = words
    job = "kind" in service
    if not job:
        read_ports(container, ports, context)
        add_probes(container, service, ports, context)
    add_environment(container, service, thing, world, secrets)
    add_resources(container, service, context)
    add_volumes(spec, container, service, thing, world, claims)
    context.use(child(container, "name"))
    use_defaults(context, container)
    use_defaults(context, spec)
    use_metadata(context, child(template, "metadata"))
    _pull_secrets(spec, service, thing, world)
    _of_the_workload(thing, spec, service, world)
    return Workload(thing, service, ports, services)


def _is_job(thing: Thing, spec: Node) -> bool:
    return thing.kind == "Job" or (
        thing.kind == "Pod" and text_at(spec, "restartPolicy") in ("Never", "OnFailure")
    )


def _container(thing: Thing, template: Node, name: str, world: World) -> Node:
    """The one container that the service gets; the others are refused."""
    place = child(template, "spec", "containers")
    wanted = text_at(template, "metadata", "annotations", _DEFAULT_CONTAINER)
    containers = [item for item in place.items if item.mapping]
    if not containers:
        world.report.fault(thing.file, f"the {thing.title} has no container", place=thing.node.path)
        return NOTHING
    chosen = next((item for item in containers if text_at(item, "name") == wanted), containers[0])
    for other in containers:
        if other is not chosen:
            thing.context.refuse(
                other, f"a service has one container, and {name} has {text_at(chosen, 'name') or 'the first'}"
            )
    return chosen


def _image(container: Node, service: Document, thing: Thing, world: World) -> None:
    name = str(service["name"])
    given, image = world.images.get(name), text_at(container, "image")
    if given is not None:
        service["image"] = given
        world.report.say(thing.file, NoteKind.CHANGED, f"{name} runs the image {given} that was handed in")
    elif image is not None:
        service["image"] = image
    elif container is not NOTHING:
        world.report.fault(
            thing.file,
            f'the service "{name}" has no image',
            f"name the image of {name}",
            place=container.path,
        )
    thing.context.use(child(container, "image"))


def _words(node: Node, context: Context) -> list[JsonValue]:
    if node.items and all(isinstance(item.value, str | int | float) for item in node.items):
        context.use(node)
        return [scalar(item) for item in node.items]
    return []


def _pull_secrets(spec: Node, service: Document, thing: Thing, world: World) -> None:
    names: list[JsonValue] = []
    for item in child(spec, "imagePullSecrets").items:
        name = text_at(item, "name") or ""
        if rules.credential_name(name) is not None:
            thing.context.refuse(item, "the name is none that a registry credential can have")
            continue
        world.find("Secret", thing.namespace, name)
        names.append(name)
        thing.context.use(item)
        world.report.warn(
            thing.file,
            NoteKind.SECRET,
            f'{service["name"]} pulls its image with the credential {name}: store it with "perdure registry"',
        )
    if names:
        service["imagePullSecrets"] = names


def _of_the_workload(thing: Thing, pod: Node, service: Document, world: World) -> None:
    """What stands at the workload itself: replicas, deadlines, and what follows from its kind."""
    context, spec = thing.context, child(thing.node, "spec")
    if thing.kind != "Pod":
        use_defaults(context, spec)
        context.use(child(spec, "selector"))
    restart = child(pod, "restartPolicy")
    if restart.value in (None, "Always") or service.get("kind") == "job":
        context.use(restart)
    if thing.kind == "DaemonSet":
        world.report.warn(
            thing.file,
            NoteKind.CHANGED,
            f"{thing.title} runs once on each node in its cluster, and once in an environment",
            place=thing.node.path,
        )
    if thing.kind == "StatefulSet":
        context.use(child(spec, "serviceName"))
    _replicas(thing, child(spec, "replicas"), service, world)
    for key in ("progressDeadlineSeconds", "activeDeadlineSeconds"):
        seconds = whole(child(spec, key), 1, _SIX_HOURS)
        if seconds is not None and (key == "progressDeadlineSeconds") == (thing.kind == "Deployment"):
            service["readyTimeoutSeconds"] = seconds
            context.use(child(spec, key))
    tries = whole(child(spec, "backoffLimit"), 0, 100)
    if thing.kind == "Job" and tries is not None:
        service["startup"] = {"tolerateRestarts": tries}
        context.use(child(spec, "backoffLimit"))


def _replicas(thing: Thing, place: Node, service: Document, world: World) -> None:
    replicas = whole(place, 0, rules.MOST_REPLICAS)
    if replicas is None or service.get("kind") == "job":
        return
    volumes = service.get("volumes")
    keeps = isinstance(volumes, list) and any(
        isinstance(item, dict) and item.get("type") == "pvc" for item in volumes
    )
    if keeps and replicas > 1:
        if thing.kind != "StatefulSet":
            thing.context.refuse(
                place, "the replicas would not share the volume: each would have an empty one"
            )
            return
        service["replicable"] = True
        world.report.warn(
            thing.file,
            NoteKind.ASSUMED,
            f"the {replicas} replicas of {service['name']} have a volume each, and are taken to copy "
            "their data themselves (replicable: true)",
            place=place.path,
        )
    service["replicas"] = replicas
    thing.context.use(place)


def _finish(workload: Workload) -> None:
    """Put the ports in, which Services and probes may have added to."""
    ports = workload.ports.document()
    if ports and workload.service.get("kind") != "job":
        workload.service["ports"] = ports
