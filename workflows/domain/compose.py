"""From a Compose file to a Blueprint document, with a list of everything that could not be carried over.

What each step understood is marked as used; at the end whatever was neither used nor listed is listed, so
that nothing of the Compose file can be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from workflows.domain.blueprint_read import label_problem
from workflows.domain.blueprint_rules import LONGEST_SERVICE_NAME
from workflows.domain.blueprint_tree import Faults, Node, Unusable, build_tree, kind_of
from workflows.domain.compose_service import Shared, import_service, read_conditions
from workflows.domain.compose_values import ComposeValueError, Interpolation
from workflows.domain.errors import FieldError
from workflows.domain.import_context import Context, Unsupported, dns_label

__all__ = ["ComposeImport", "Unsupported", "import_compose"]

_REASONS: Final = {
    "networks": "an environment is one network in which every service reaches every other by name",
    "links": "services reach each other by name",
    "container_name": "a service is known by its name",
    "version": "obsolete, without meaning in Compose too",
    "extends": "other files are not read: write the service out",
    "include": "other files are not read: write the services out",
    "labels": "labels of containers have no counterpart; a Blueprint has labels of its own",
    "hostname": "a service is known by its name",
    "develop": "files are not watched: an environment runs images",
    "logging": "logs are kept by the cluster",
}


class ComposeImport(BaseModel):
    """The outcome of an import.

    `blueprint_document` is for `parse_blueprint`; with `errors` it is not complete. Paths in `unsupported`
    and `errors` are those of the Compose file. `notes` say what was carried over in another form.
    """

    model_config = ConfigDict(frozen=True)

    blueprint_document: dict[str, JsonValue]
    unsupported: tuple[Unsupported, ...] = ()
    notes: tuple[str, ...] = ()
    errors: tuple[FieldError, ...] = ()


def import_compose(
    document: object,
    *,
    name: str,
    env_files: Mapping[str, str] = {},
    images: Mapping[str, str] = {},
    profiles: Collection[str] = (),
    variables: Mapping[str, str] = {},
) -> ComposeImport:
    """Carry a parsed Compose file over into a Blueprint document called `name`. No document makes it raise.

    `env_files` holds the content of files that the document names (env_file, secrets and configs), by their
    path as written there; `images` the image of each service that is only built, by its name; `profiles` the
    active ones (`*`: all); `variables` what `${NAME}` stands for.
    """
    faults = Faults()
    tree = build_tree(document, faults)
    context = Context(faults, "Compose", _REASONS, env_files, images, variables)
    root = _interpolated(tree, context, Interpolation(variables, context.unset))
    result: dict[str, JsonValue] = {"name": name, "services": []}
    if isinstance(root.value, dict):
        result["services"] = _services(root, context, profiles)
        _top_level(root, context)
        context.sweep(root)
    elif not isinstance(root.value, Unusable):
        faults.add(root, f"a Compose file is a mapping, got {kind_of(root.value)}", "begin with services:")
    for variable in dict.fromkeys(context.unset):
        context.notes.append(f"the variable {variable} is not set and was taken as empty")
    return ComposeImport(
        blueprint_document=result,
        unsupported=context.listed(),
        notes=tuple(dict.fromkeys(context.notes)),
        errors=faults.ordered(),
    )


def _interpolated(node: Node, context: Context, interpolation: Interpolation) -> Node:
    if isinstance(node.value, dict):
        entries = {key: _interpolated(child, context, interpolation) for key, child in node.value.items()}
        return Node(entries, node.path, node.order)
    if isinstance(node.value, list):
        items = [_interpolated(item, context, interpolation) for item in node.value]
        return Node(items, node.path, node.order)
    if isinstance(node.value, str) and "$" in node.value:
        try:
            return Node(interpolation.apply(node.value), node.path, node.order)
        except ComposeValueError as error:
            context.faults.add(node, str(error), "hand its value in, or give it a default: ${NAME:-value}")
    return node


def _top_level(root: Node, context: Context) -> None:
    for key, child in root.mapping.items():
        if key.startswith("x-"):
            context.use(child)
            context.notes.append(
                f"{key} is an extension: its anchors are resolved, it means nothing by itself"
            )
    if (written := root.mapping.get("name")) is not None:
        context.use(written)
        context.notes.append("the name of the Compose project gives way to the name of the Blueprint")


def _services(root: Node, context: Context, profiles: Collection[str]) -> list[JsonValue]:
    place = root.mapping.get("services")
    if place is None or not isinstance(place.value, dict) or not place.value:
        context.faults.add(place or root, "a Compose file has services", "services: {web: {image: ...}}")
        return []
    active: dict[str, Node] = {}
    for service_name, node in place.value.items():
        if isinstance(node.value, dict) and _is_active(node, profiles, context):
            active[service_name] = node
    names = _names(active, context)
    conditions = {service: read_conditions(node) for service, node in active.items()}
    jobs = {
        target
        for waiting in conditions.values()
        for target, condition in waiting.items()
        if condition == "service_completed_successfully"
    }
    shared = Shared(root, names, frozenset(jobs), place)
    return [
        import_service(service, node, shared, context) for service, node in active.items() if service in names
    ]


def _is_active(node: Node, profiles: Collection[str], context: Context) -> bool:
    written = node.mapping.get("profiles")
    if written is None or not written.items:
        return True
    wanted = [item.value for item in written.items if isinstance(item.value, str)]
    if "*" in profiles or any(profile in profiles for profile in wanted):
        context.use(written)
        return True
    context.refuse(node, f"none of its profiles is active: {', '.join(wanted)}")
    return False


def _names(active: Mapping[str, Node], context: Context) -> dict[str, str]:
    names: dict[str, str] = {}
    taken: set[str] = set()
    for written, node in active.items():
        name = written
        if label_problem(written, LONGEST_SERVICE_NAME, letter_first=True) is not None:
            name = dns_label(written, LONGEST_SERVICE_NAME)
            context.notes.append(
                f'the service "{written}" is called "{name}" here, for names are DNS labels; '
                "values that hold the old name as a host need the new one"
            )
        if not name or name in taken:
            context.faults.add(node, f'there is no free DNS label for the service "{written}"', "rename it")
            continue
        names[written] = name
        taken.add(name)
    return names
