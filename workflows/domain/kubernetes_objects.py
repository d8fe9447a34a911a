"""Kubernetes manifests as objects that know their file and place, and keep the account of what was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from workflows.domain.blueprint_tree import Faults, Node, Unusable, build_tree
from workflows.domain.discover_report import NoteKind, Report
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import NOTHING, child, scalar, text_at

MOST_OBJECTS: Final = 2_000
MOST_COPIED: Final = 4 * 1024 * 1024
"""Characters of ConfigMaps and Secrets in all services: many may take in the same large one."""
_ENTRY: Final = 100
WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod")
_DEEPEST_LIST: Final = 3
_PLACEMENT: Final = "where pods run is the cluster's choice"
_IDENTITY: Final = "services get no rights in the cluster"
_HOST: Final = "a service has nothing of the node that it runs on"
_ROLLING: Final = "an update rolls services in the order of their dependencies"
_REASONS: Final[Mapping[str, str]] = {
    "annotations": "annotations have no counterpart: what a controller does because of them is not done here",
    "initContainers": "a service has no init containers: make a job of them that it depends on",
    "securityContext": "a Blueprint has no security settings, those of the image and of the cluster hold",
    "lifecycle": "a Blueprint has no lifecycle hooks",
    "serviceAccountName": _IDENTITY,
    "serviceAccount": _IDENTITY,
    "affinity": _PLACEMENT,
    "nodeSelector": _PLACEMENT,
    "tolerations": _PLACEMENT,
    "topologySpreadConstraints": _PLACEMENT,
    "priorityClassName": _PLACEMENT,
    "nodeName": _PLACEMENT,
    "hostNetwork": _HOST,
    "hostPID": _HOST,
    "hostIPC": _HOST,
    "hostPort": _HOST,
    "strategy": _ROLLING,
    "updateStrategy": _ROLLING,
    "minReadySeconds": _ROLLING,
    "tls": "certificates are the business of the cluster's ingress",
    "ingressClassName": "the class is the one of the installation",
    "nodePort": "an exposed service has an address, not a port of the nodes",
    "workingDir": "the image's working directory holds",
    "imagePullPolicy": "the cluster pulls an image when its node does not have it",
    "storageClassName": "classes differ between clusters: the cluster's default is taken",
    "host": "each environment gets an address of its own; write it as expose.host to have this one",
}
_OTHER_KINDS: Final[Mapping[str, str]] = {
    "Namespace": "an environment has a namespace of its own",
    "CronJob": "nothing in a Blueprint runs at certain times",
    "HorizontalPodAutoscaler": "the number of replicas is fixed",
    "PodDisruptionBudget": "an environment has no disruption budgets",
    "NetworkPolicy": "an environment has network policies of its own",
    "ServiceAccount": _IDENTITY,
    "Role": _IDENTITY,
    "RoleBinding": _IDENTITY,
    "ClusterRole": _IDENTITY,
    "ClusterRoleBinding": _IDENTITY,
    "CustomResourceDefinition": "an environment changes nothing of the cluster itself",
    "StorageClass": "an environment changes nothing of the cluster itself",
    "PersistentVolume": "volumes are made by the cluster when they are claimed",
}
# What `kubectl get -o yaml` writes though nobody chose it, or what means nothing outside its cluster.
_DEFAULTS: Final[Mapping[str, tuple[object, ...]]] = {
    "dnsPolicy": ("ClusterFirst",),
    "schedulerName": ("default-scheduler",),
    "terminationMessagePath": ("/dev/termination-log",),
    "terminationMessagePolicy": ("File",),
    "imagePullPolicy": ("IfNotPresent",),
    "terminationGracePeriodSeconds": (30,),
    "automountServiceAccountToken": (False,),
    "sessionAffinity": ("None",),
    "internalTrafficPolicy": ("Cluster",),
    "externalTrafficPolicy": ("Cluster",),
    "volumeMode": ("Filesystem",),
    "hostNetwork": (False,),
    "enableServiceLinks": (False,),
    "serviceAccountName": ("default",),
    "serviceAccount": ("default",),
    "parallelism": (1,),
    "completions": (1,),
    "completionMode": ("NonIndexed",),
    "suspend": (False,),
}
_BOOKKEEPING: Final = frozenset(
    {"apiVersion", "kind", "status", "revisionHistoryLimit", "ttlSecondsAfterFinished", "podManagementPolicy"}
)
_METADATA: Final = frozenset(
    {"name", "generateName", "namespace", "labels", "creationTimestamp", "generation", "resourceVersion"}
    | {"uid", "selfLink", "managedFields", "ownerReferences"}
)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """The documents of one YAML file."""

    path: str
    documents: Sequence[object]


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its place in a file, whose account is kept in `context`."""

    kind: str
    name: str
    namespace: str
    node: Node
    file: str
    context: Context

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.kind} {self.name[:100]}"


@dataclass(slots=True)
class World:
    """All objects of all files, by kind and in the order of the files; `report` has what is said of them."""

    report: Report
    images: Mapping[str, str] = field(default_factory=dict)
    by_kind: dict[str, dict[tuple[str, str], Thing]] = field(default_factory=dict)
    files: list[tuple[str, Context, Node]] = field(default_factory=list)
    consulted: set[tuple[str, str, str]] = field(default_factory=set)
    """Kind, namespace and name of the ConfigMaps, Secrets and claims that a workload asked for."""
    copied: int = 0

    def copy(self, text: str) -> bool:
        """Count what of a ConfigMap or Secret goes into one more service; False when it is too much."""
        if self.copied > MOST_COPIED:
            return False
        self.copied += len(text) + _ENTRY
        if self.copied > MOST_COPIED:
            self.report.fault(
                "",
                f"ConfigMaps and Secrets of all services are larger than {MOST_COPIED >> 20} MiB together",
            )
        return self.copied <= MOST_COPIED

    def of(self, kind: str) -> Iterable[Thing]:
        """All objects of a kind."""
        return self.by_kind.get(kind, {}).values()

    def find(self, kind: str, namespace: str, name: str) -> Thing | None:
        """The object that a workload of this namespace names; it counts as asked for."""
        self.consulted.add((kind, namespace, name))
        return self.by_kind.get(kind, {}).get((namespace, name))


def has_workload(documents: Iterable[object]) -> bool:
    """Whether documents hold something that runs pods."""
    return any(_runs_pods(document, 0) for document in documents)


def is_object(document: object) -> bool:
    """Whether a document looks like a Kubernetes object."""
    return (
        isinstance(document, Mapping)
        and isinstance(document.get("kind"), str)
        and isinstance(document.get("apiVersion"), str)
    )


def _runs_pods(document: object, depth: int) -> bool:
    if not isinstance(document, Mapping) or not is_object(document):
        return False
    kind, items = document["kind"], document.get("items")
    if kind in (*WORKLOADS, "CronJob"):
        return True
    if not kind.endswith("List") or not isinstance(items, list) or depth >= _DEEPEST_LIST:
        return False
    return kind[: -len("List")] in WORKLOADS or any(_runs_pods(item, depth + 1) for item in items)


def read_world(files: Sequence[ManifestFile], report: Report, images: Mapping[str, str]) -> World:
    """The objects of these files. The report has the faults of the documents, none with a Secret's value."""
    world = World(report, images)
    for file in files:
        faults = Faults()
        root = build_tree([_without_values(document, 0) for document in file.documents], faults)
        report.adopt_faults(file.path, faults.ordered())
        context = Context(Faults(), "Kubernetes", _REASONS)
        world.files.append((file.path, context, root))
        for node in root.items:
            _take(node, "", file.path, context, world, 0)
    if (count := sum(len(things) for things in world.by_kind.values())) > MOST_OBJECTS:
        report.fault("", f"there are {count} Kubernetes objects, at most {MOST_OBJECTS} are read")
        world.by_kind.clear()
    return world


def _without_values(document: object, depth: int) -> object:
    """The document without the values of Secrets, which nothing after this point may show."""
    if not isinstance(document, Mapping):
        return document
    if document.get("kind") in ("Secret", "SecretList") and not isinstance(document.get("items"), list):
        hidden = {
            key: dict.fromkeys(value, "") if isinstance(value, Mapping) else ""
            for key, value in document.items()
            if key in ("data", "stringData")
        }
        return {**document, **hidden}
    items = document.get("items")
    if isinstance(items, list) and depth < _DEEPEST_LIST:
        inherited = {"kind": "Secret"} if document.get("kind") == "SecretList" else {}
        whole = [{**inherited, **item} if isinstance(item, Mapping) else item for item in items]
        return {**document, "items": [_without_values(item, depth + 1) for item in whole]}
    return document


def _take(node: Node, kind: str, file: str, context: Context, world: World, depth: int) -> None:
    if node.absent or isinstance(node.value, Unusable):
        return
    kind = text_at(node, "kind") or kind
    items = child(node, "items")
    if kind.endswith("List") and isinstance(items.value, list) and depth < _DEEPEST_LIST:
        for key in ("apiVersion", "kind", "metadata"):
            context.use(child(node, key))
        context.enter(items)
        for item in items.items:
            _take(item, kind[: -len("List")], file, context, world, depth + 1)
        return
    if not kind or not node.mapping:
        context.refuse(node, "is no Kubernetes object: it has no kind")
        return
    name = text_at(node, "metadata", "name")
    if name is None:
        name = (text_at(node, "metadata", "generateName") or "").rstrip("-")
    namespace = text_at(node, "metadata", "namespace") or ""
    thing = Thing(kind, name, namespace, node, file, context)
    if kind in _OTHER_KINDS or kind not in (*WORKLOADS, *_READ):
        context.refuse(node, _OTHER_KINDS.get(kind) or f"a {kind[:60]} has no counterpart in a Blueprint")
        return
    if not name:
        world.report.fault(file, f"the {kind} has no name", "metadata: {name: web}", place=node.path)
        context.refuse(node, "has no name")
        return
    known = world.by_kind.setdefault(kind, {})
    first = known.get((namespace, name))
    if first is not None:
        context.refuse(node, f"the {thing.title} stands in {first.file} too, which is read first")
        return
    known[namespace, name] = thing
    _use_bookkeeping(thing)


_READ: Final = ("Service", "Ingress", "ConfigMap", "Secret", "PersistentVolumeClaim")


def _use_bookkeeping(thing: Thing) -> None:
    for key, value in thing.node.mapping.items():
        if key in _BOOKKEEPING:
            thing.context.use(value)
    use_metadata(thing.context, child(thing.node, "metadata"))


def use_metadata(context: Context, metadata: Node) -> None:
    """Mark what of an object's metadata names it or is the cluster's own account of it."""
    context.enter(metadata)
    for key, value in metadata.mapping.items():
        if key in _METADATA:
            context.use(value)


def use_defaults(context: Context, node: Node) -> None:
    """Mark the entries of a mapping that say what holds anyway."""
    for key, value in node.mapping.items():
        if key in _BOOKKEEPING or value.value in _DEFAULTS.get(key, ()) or value.value == {}:
            context.use(value)


def settle(world: World) -> None:
    """List what of all files was neither used nor listed yet."""
    for kind in ("ConfigMap", "Secret", "PersistentVolumeClaim"):
        for thing in world.of(kind):
            if (kind, thing.namespace, thing.name) not in world.consulted:
                thing.context.refuse(thing.node, f"no service uses the {kind}")
                continue
            for place in ("data", "stringData"):
                for entry in child(thing.node, place).mapping.values():
                    if not thing.context.used(entry):
                        thing.context.refuse(entry, "no service uses this entry")
    for file, context, root in world.files:
        for node in root.items:
            context.sweep(node)
        for each in context.listed():
            world.report.leave(file, each.path, each.reason)
        for note in dict.fromkeys(context.notes):
            world.report.say(file, NoteKind.CHANGED, note)


def word(node: Node) -> str | None:
    """A scalar as the text that Kubernetes would make a variable's value of; None for anything else."""
    if isinstance(node.value, str | int | float | bool):
        return scalar(node)
    return "" if node.path and node is not NOTHING and node.value is None else None
