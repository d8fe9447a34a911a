"""Volumes of a pod, as its one container mounts them, as those of a Blueprint service."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_tree import Node
from workflows.domain.discover_report import NoteKind
from workflows.domain.import_nodes import Document, child, text_at
from workflows.domain.import_volumes import DEFAULT_VOLUME_SIZE, Volumes
from workflows.domain.kubernetes_environment import use_entry
from workflows.domain.kubernetes_objects import Thing, World, use_defaults, use_metadata


@dataclass(slots=True)
class Claims:
    """Which service claimed which volume first: they are not shared here."""

    users: dict[tuple[str, str], str] = field(default_factory=dict)
    job: bool = False
    """Whether the workload at hand is a job, which may claim none."""


def add_volumes(
    pod: Node, container: Node, service: Document, workload: Thing, world: World, claims: Claims
) -> None:
    """Claims become pvc volumes, emptyDir stays, ConfigMaps become files. Everything else is refused."""
    context = workload.context
    defined = {
        name: item for item in child(pod, "volumes").items if (name := text_at(item, "name")) is not None
    }
    templates = {
        name: item
        for item in child(workload.node, "spec", "volumeClaimTemplates").items
        if (name := text_at(item, "metadata", "name")) is not None
    }
    found = Volumes()
    claims.job = service.get("kind") == "job"
    for mount in child(container, "volumeMounts").items:
        name, path = text_at(mount, "name"), text_at(mount, "mountPath")
        if name is None or path is None:
            context.refuse(mount, "mounts nothing: it has no name or no mountPath")
            continue
        template = templates.get(name)
        if template is not None:
            problem = _template(template, name, path, found, workload)
        elif name in defined:
            problem = _defined(defined[name], mount, name, path, found, workload, world, claims)
        else:
            problem = "there is no volume of this name"
        if problem is not None:
            context.refuse(mount, problem)
            continue
        for key in ("name", "mountPath"):
            context.use(child(mount, key))
        if child(mount, "readOnly").value is False:
            context.use(child(mount, "readOnly"))
    if found.entries:
        service["volumes"] = found.entries


def _template(template: Node, name: str, path: str, found: Volumes, workload: Thing) -> str | None:
    context = workload.context
    size = _size(template, workload)
    problem = found.add(name, path, type="pvc", size=size or DEFAULT_VOLUME_SIZE)
    if problem is None:
        if size is None:
            context.notes.append(f"{workload.title}: the volume {name} has {DEFAULT_VOLUME_SIZE}")
        use_metadata(context, child(template, "metadata"))
        for key in ("apiVersion", "kind"):
            context.use(child(template, key))
    return problem


def _size(claim: Node, holder: Thing) -> str | None:
    """The size that a claim asks for; its account is the holder's."""
    context = holder.context
    spec = child(claim, "spec")
    use_defaults(context, spec)
    modes = child(spec, "accessModes")
    if all(mode.value in ("ReadWriteOnce", "ReadWriteOncePod") for mode in modes.items):
        context.use(modes)
    else:
        context.refuse(modes, "one pod at a time has the volume")
    written = child(spec, "resources", "requests", "storage")
    if isinstance(written.value, bool) or not isinstance(written.value, str | int):
        return None
    problem = rules.storage(str(written.value))
    if problem is not None:
        context.refuse(written, problem[0])
        return None
    context.use(written)
    return str(written.value)


def _defined(
    volume: Node,
    mount: Node,
    name: str,
    path: str,
    found: Volumes,
    workload: Thing,
    world: World,
    claims: Claims,
) -> str | None:
    context = workload.context
    claim = text_at(volume, "persistentVolumeClaim", "claimName")
    if claim is not None:
        problem = _claim(claim, name, path, found, workload, world, claims)
    elif isinstance(child(volume, "emptyDir").value, dict):
        problem = _empty_dir(child(volume, "emptyDir"), name, path, found, workload)
    elif child(volume, "configMap").mapping:
        problem = _config_map(child(volume, "configMap"), mount, name, path, found, workload, world)
    elif child(volume, "secret").mapping:
        return "secrets are handed over as variables, not as files: write it to secrets of the service"
    else:
        return "only claims, emptyDir and ConfigMaps have a counterpart"
    if problem is None:
        context.use(child(volume, "name"))
        context.enter(volume)
    return problem


def _claim(
    claim: str, name: str, path: str, found: Volumes, workload: Thing, world: World, claims: Claims
) -> str | None:
    if claims.job:
        return "a job keeps nothing after its end"
    context, report = workload.context, world.report
    holder = world.find("PersistentVolumeClaim", workload.namespace, claim)
    size = _size(holder.node, holder) if holder is not None else None
    problem = found.add(name, path, type="pvc", size=size or DEFAULT_VOLUME_SIZE)
    if problem is not None:
        return problem
    if size is None:
        report.warn(
            workload.file,
            NoteKind.ASSUMED,
            f"{workload.title}: the volume {name} has {DEFAULT_VOLUME_SIZE}, for there is no claim {claim} "
            "with a size in these files",
        )
    first = claims.users.setdefault((workload.namespace, claim), workload.title)
    if first != workload.title:
        report.warn(
            workload.file,
            NoteKind.CHANGED,
            f"the claim {claim} of {first} and {workload.title} is not shared: each has a volume of its own",
        )
    for volume in child(pod_of(workload), "spec", "volumes").items:
        if text_at(volume, "persistentVolumeClaim", "claimName") == claim:
            context.use(child(volume, "persistentVolumeClaim", "claimName"))
            context.use(child(volume, "name"))
    return None


def pod_of(workload: Thing) -> Node:
    """What has the metadata and the spec of a workload's pods."""
    return workload.node if workload.kind == "Pod" else child(workload.node, "spec", "template")


def _empty_dir(source: Node, name: str, path: str, found: Volumes, workload: Thing) -> str | None:
    context = workload.context
    limit = child(source, "sizeLimit")
    size: dict[str, JsonValue] = {}
    if not isinstance(limit.value, bool) and rules.storage(str(limit.value)) is None:
        size = {"size": str(limit.value)}
        context.use(limit)
    problem = found.add(name, path, type="emptyDir", **size)
    if problem is None:
        context.enter(source)
        if not source.mapping:
            context.use(source)
    return problem


def _config_map(
    source: Node, mount: Node, name: str, path: str, found: Volumes, workload: Thing, world: World
) -> str | None:
    context = workload.context
    config = text_at(source, "name")
    holder = world.find("ConfigMap", workload.namespace, config) if config is not None else None
    if holder is None:
        return f"the ConfigMap {(config or '')[:100]} is not in these files"
    if "subPath" in mount.mapping:
        return (
            "a single file cannot be laid over a directory of the image: only whole directories are mounted"
        )
    data = child(holder.node, "data").mapping
    items = child(source, "items")
    places = {
        key: text_at(item, "path") or key for item in items.items if (key := text_at(item, "key")) is not None
    }
    files: dict[str, JsonValue] = {}
    for key in places or data:
        text = child(holder.node, "data", key).value
        place = places.get(key, key)
        if not isinstance(text, str) or rules.relative_path(place) is not None:
            return f"{key[:100]} of the ConfigMap {config} is no text file below a directory"
        if not world.copy(text):
            return "the ConfigMaps are too large together"
        files[place] = text
    if not files:
        return f"the ConfigMap {config} has no text"
    problem = found.add(name, path, type="files", files=files)
    if problem is None:
        for key in places or data:
            use_entry(holder, key)
        for used in (child(source, "name"), child(mount, "readOnly")):
            context.use(used)
        for item in items.items:
            for key in ("key", "path"):
                context.use(child(item, key))
        if child(source, "defaultMode").value in (420, "0644", None):
            context.use(child(source, "defaultMode"))
    return problem
