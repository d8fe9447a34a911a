"""Variables of a container: values, those that ConfigMaps hold, and secrets as references to be given."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_tree import Node
from workflows.domain.discover_report import NoteKind
from workflows.domain.import_context import dns_label
from workflows.domain.import_nodes import Document, child, text_at
from workflows.domain.kubernetes_objects import Thing, World, word

_NAME = "the name is none that Kubernetes takes for an environment variable"


@dataclass(slots=True)
class SecretNames:
    """What the secrets of the Blueprint are called: one name for each key of each Secret."""

    _names: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def of(self, namespace: str, secret: str, key: str) -> str:
        """The name of one value: `<secret>-<key>` as a DNS label."""
        known = self._names.get((namespace, secret, key))
        if known is not None:
            return known
        base = dns_label(f"{secret}-{key}", rules.LONGEST_SECRET_NAME - 5) or "secret"
        name, number = base, 2
        while name in self._taken:
            name = f"{base}-{number}"
            number += 1
        self._taken.add(name)
        self._names[namespace, secret, key] = name
        return name


@dataclass(frozen=True, slots=True)
class _Secret:
    name: str


_Variables = dict[str, str | _Secret]


def add_environment(
    container: Node, service: Document, workload: Thing, world: World, names: SecretNames
) -> None:
    """`envFrom` and over it `env`, as Kubernetes lays them."""
    found: _Variables = {}
    for item in child(container, "envFrom").items:
        _all_of(item, found, workload, world, names)
    for item in child(container, "env").items:
        _one(item, found, workload, world, names)
    env: dict[str, JsonValue] = {key: value for key, value in found.items() if isinstance(value, str)}
    secrets: list[JsonValue] = [
        {"name": value.name, "envKey": key, "valueFrom": {"secret": value.name}}
        for key, value in found.items()
        if isinstance(value, _Secret)
    ]
    if env:
        service["env"] = env
    if secrets:
        service["secrets"] = secrets


def _one(item: Node, found: _Variables, workload: Thing, world: World, names: SecretNames) -> None:
    context = workload.context
    name = text_at(item, "name")
    if name is None or rules.env_key(name) is not None:
        context.refuse(item, _NAME)
        return
    source = child(item, "valueFrom")
    reference = child(source, "secretKeyRef")
    if reference.mapping:
        _secret(item, name, reference, found, workload, world, names)
    elif child(source, "configMapKeyRef").mapping:
        _setting(item, name, child(source, "configMapKeyRef"), found, workload, world)
    elif source.mapping:
        context.refuse(item, "takes its value from the pod or its resources, which a Blueprint cannot name")
    elif (value := word(child(item, "value"))) is not None or "value" not in item.mapping:
        found[name] = value or ""
        context.use(child(item, "name"))
        context.use(child(item, "value"))


def _secret(
    item: Node,
    name: str,
    reference: Node,
    found: _Variables,
    workload: Thing,
    world: World,
    names: SecretNames,
) -> None:
    secret, key = text_at(reference, "name"), text_at(reference, "key")
    if secret is None or key is None:
        workload.context.refuse(item, "names no key of a Secret")
        return
    holder = world.find("Secret", workload.namespace, secret)
    if holder is None and child(reference, "optional").value is True:
        workload.context.refuse(item, f"the Secret {secret[:100]} is optional and not there")
        return
    if holder is not None:
        use_entry(holder, key)
    found[name] = _Secret(_reference(workload, world, names, secret, key, name))
    workload.context.use(item)


def _reference(
    workload: Thing, world: World, names: SecretNames, secret: str, key: str, variable: str
) -> str:
    stored = names.of(workload.namespace, secret, key)
    world.report.warn(
        workload.file,
        NoteKind.SECRET,
        f'{variable} of {workload.title} is {key} of the Secret {secret}: give its value once with "perdure '
        f'secret set {stored}"; values of Secrets are not read',
    )
    return stored


def _setting(
    item: Node, name: str, reference: Node, found: _Variables, workload: Thing, world: World
) -> None:
    context = workload.context
    config, key = text_at(reference, "name"), text_at(reference, "key")
    if config is None or key is None:
        context.refuse(item, "names no key of a ConfigMap")
        return
    holder = world.find("ConfigMap", workload.namespace, config)
    value = word(child(holder.node, "data", key)) if holder is not None else None
    if holder is None or value is None:
        context.refuse(item, f"there is no {key[:100]} of a ConfigMap {config[:100]} in these files")
        return
    if not world.copy(value):
        context.refuse(item, "the ConfigMaps are too large together")
        return
    use_entry(holder, key)
    found[name] = value
    context.use(item)


def _all_of(item: Node, found: _Variables, workload: Thing, world: World, names: SecretNames) -> None:
    context = workload.context
    prefix = text_at(item, "prefix") or ""
    for kind, field_name in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
        name = text_at(item, field_name, "name")
        if name is None:
            continue
        holder = world.find(kind, workload.namespace, name)
        if holder is None:
            context.refuse(item, f"the {kind} {name[:100]} is not in these files, so its keys are not known")
            return
        entries = {**child(holder.node, "data").mapping, **child(holder.node, "stringData").mapping}
        for key, value in entries.items():
            variable = prefix + key
            text = word(value)
            if text is not None and not world.copy(text):
                context.refuse(item, "the ConfigMaps and Secrets are too large together")
                return
            if rules.env_key(variable) is not None or text is None:
                context.notes.append(
                    f"{workload.title}: {key[:100]} of the {kind} {name} cannot be a variable"
                )
                continue
            if kind == "Secret":
                found[variable] = _Secret(_reference(workload, world, names, name, key, variable))
            else:
                found[variable] = text
            use_entry(holder, key)
        context.use(item)
        return


def use_entry(holder: Thing, key: str) -> None:
    """Mark one entry of a ConfigMap or Secret, and what says nothing beside its entries."""
    for place in ("data", "stringData"):
        entries = child(holder.node, place)
        holder.context.enter(entries)
        if key in entries.mapping:
            holder.context.use(entries.mapping[key])
    for place in ("type", "immutable"):
        holder.context.use(child(holder.node, place))
