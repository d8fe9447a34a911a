"""Variables of a Compose service: those that it lists, and those of its env_files."""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_tree import Node
from workflows.domain.compose_values import ComposeValueError, env_file
from workflows.domain.import_context import Context
from workflows.domain.import_nodes import Document, escaped, scalar

# Many services may read the same large file.
_MOST_READ: Final = 8 * 1024 * 1024


def add_environment(node: Node, service: Document, context: Context) -> None:
    """Both forms of `environment` over the contents of `env_file`, as Compose lays them."""
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
                    f"{key} is a boolean in the Compose file and became the text {scalar(item)}"
                )
            if item.value is None or isinstance(item.value, str | int | float):
                _variable(key, None if item.value is None else scalar(item), item, env, context)
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
    env[key] = escaped(value)
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
    context.read += len(content)
    if context.read > _MOST_READ:
        context.faults.add(node, "all services together read too much from env_files")
        return
    try:
        found = env_file(content)
    except ComposeValueError as error:
        context.faults.add(node, f"{path.value[:200]}: {error}")
        return
    for key, value in found.items():
        if rules.env_key(key) is None:
            env[key] = escaped(value)
        else:
            context.notes.append(f"{path.value[:200]}: a name was left out that Kubernetes does not take")
    context.use(path)
    if required is not None:
        context.use(required)
