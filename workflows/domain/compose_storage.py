"""Volumes, secrets and configs of a Compose service as those of a Blueprint service."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_tree import Node
from workflows.domain.import_context import Context, dns_label
from workflows.domain.import_nodes import NOTHING, Document
from workflows.domain.import_volumes import DEFAULT_VOLUME_SIZE, Volumes

_VOLUME_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SECRET_DIRECTORY: Final = "/run/secrets/"  # noqa: S105 - a path
_ALONE: Final = "only names and contents are carried over, not ownership and permissions of files"


def add_volumes(name: str, node: Node, root: Node, service: Document, context: Context, *, job: bool) -> None:
    """Named volumes become pvc volumes, anonymous ones and tmpfs emptyDir; bind mounts are refused."""
    found = Volumes()
    for item in node.mapping.get("volumes", NOTHING).items:
        mount = _short(item) if isinstance(item.value, str) else _long(item, context)
        if mount is None:
            context.refuse(item, "not a volume such as data:/var/lib/data")
        else:
            _add_mount(mount, item, name, root, found, context, job=job)
    tmpfs = node.mapping.get("tmpfs")
    if tmpfs is not None:
        for item in tmpfs.items or [tmpfs]:
            if isinstance(item.value, str):
                path, colon, options = item.value.partition(":")
                problem = found.add("tmpfs", path, type="emptyDir")
                _settle(item, problem, context)
                if problem is None and colon:
                    context.notes.append(
                        f"{name}: the options {options} of the tmpfs {path} have no counterpart"
                    )
    if found.entries:
        service["volumes"] = found.entries


@dataclass(frozen=True, slots=True)
class _Mount:
    kind: str
    source: str
    target: str
    options: str


def _short(item: Node) -> _Mount | None:
    parts = str(item.value).split(":")
    if len(parts) == 1:
        return _Mount("volume", "", parts[0], "")
    if len(parts) > 3 or not parts[0]:
        return None
    is_name = _VOLUME_NAME.fullmatch(parts[0]) is not None
    return _Mount("volume" if is_name else "bind", parts[0], parts[1], parts[2] if len(parts) == 3 else "")


def _long(item: Node, context: Context) -> _Mount | None:
    entries = item.mapping
    kind, source, target = (entries.get(key, NOTHING).value for key in ("type", "source", "target"))
    if not isinstance(kind, str) or not isinstance(target, str) or not isinstance(source, str | None):
        return None
    if kind in ("volume", "tmpfs"):
        for key in ("type", "source", "target"):
            if key in entries:
                context.use(entries[key])
        if entries.get("read_only", NOTHING).value is False:
            context.use(entries["read_only"])
    return _Mount(kind, source or "", target, "")


def _add_mount(
    mount: _Mount, item: Node, service: str, root: Node, found: Volumes, context: Context, *, job: bool
) -> None:
    short = isinstance(item.value, str)
    problem: str | None
    if mount.kind == "bind":
        problem = "a directory of this computer: put the files into the image, or use a volume of type files"
    elif mount.kind not in ("volume", "tmpfs"):
        problem = f"volumes of type {mount.kind[:20]} have no counterpart"
    elif mount.source and job:
        problem = "a job keeps nothing after its end"
    elif mount.source and mount.kind == "volume":
        problem = found.add(mount.source, mount.target, type="pvc", size=DEFAULT_VOLUME_SIZE)
        if problem is None:
            _note_named(mount.source, service, root, context)
    else:
        problem = found.add("scratch", mount.target, type="emptyDir")
        if problem is None and mount.kind == "volume":
            context.notes.append(f"{service}: what is written to {mount.target} lasts as long as its pod")
    if problem is not None:
        context.refuse(item, problem)
    elif short:
        context.use(item)
        if mount.options:
            context.notes.append(
                f"{service}: the options {mount.options} of {mount.target} have no counterpart"
            )


def _note_named(source: str, service: str, root: Node, context: Context) -> None:
    _define("volumes", source, root, context)
    context.notes.append(
        f"{service}: the volume {source} has {DEFAULT_VOLUME_SIZE}, for Compose names no size"
    )
    users = [
        name
        for name, other in root.mapping.get("services", NOTHING).mapping.items()
        if any(_source_of(item) == source for item in other.mapping.get("volumes", NOTHING).items)
    ]
    if len(users) > 1:
        context.notes.append(
            f"the volume {source} of {', '.join(users)} is not shared: each has one of its own"
        )


def _source_of(item: Node) -> object:
    if isinstance(item.value, str):
        mount = _short(item)
        return mount.source if mount is not None else None
    return item.mapping.get("source", NOTHING).value


def _settle(item: Node, problem: str | None, context: Context) -> None:
    if problem is None:
        context.use(item)
    else:
        context.refuse(item, problem)


def add_secrets_and_configs(node: Node, root: Node, service: Document, context: Context) -> None:
    """Secrets become environment variables, configs with known content files below their directory."""
    secrets: list[JsonValue] = []
    taken: set[str] = set()
    for item in node.mapping.get("secrets", NOTHING).items:
        _secret(item, root, service, secrets, taken, context)
    if secrets:
        service["secrets"] = secrets
    files: dict[str, dict[str, JsonValue]] = {}
    for item in node.mapping.get("configs", NOTHING).items:
        _config(item, root, files, context)
    if files:
        _add_files(files, node, service, context)


def _reference(item: Node, context: Context) -> tuple[str, str | None] | None:
    """Source and target of a secret or config in a service, its short or its long form."""
    if isinstance(item.value, str):
        return item.value, None
    source, target = (item.mapping.get(key, NOTHING).value for key in ("source", "target"))
    for key in ("uid", "gid", "mode"):
        if key in item.mapping:
            context.refuse(item.mapping[key], _ALONE)
    return (source, target if isinstance(target, str) else None) if isinstance(source, str) else None


def _use_reference(item: Node, context: Context) -> None:
    if not item.mapping:
        context.use(item)
    for key in ("source", "target"):
        if key in item.mapping:
            context.use(item.mapping[key])


def _secret(
    item: Node, root: Node, service: Document, found: list[JsonValue], taken: set[str], context: Context
) -> None:
    reference = _reference(item, context)
    if reference is None:
        context.refuse(item, "not a secret's name, nor a mapping with source")
        return
    source, target = reference
    name = dns_label(source, rules.LONGEST_SECRET_NAME)
    path = target if target and target.startswith("/") else _SECRET_DIRECTORY + (target or source)
    env = service.get("env")
    variables = env if isinstance(env, dict) else {}
    file_key = next(
        (key for key, value in variables.items() if value == path and key.endswith("_FILE")), None
    )
    key = file_key[: -len("_FILE")] if file_key else re.sub(r"[^A-Z0-9]+", "_", source.upper()).strip("_")
    if not name or rules.env_key(key) is not None or key in taken or key in variables:
        context.refuse(
            item, "there is no free environment variable for it: write it as a secret of the Blueprint"
        )
        return
    taken.add(key)
    if file_key is not None:
        del variables[file_key]
        context.notes.append(
            f"{service['name']}: {file_key} gave way to {key}, which holds the secret {source} itself"
        )
    else:
        context.notes.append(
            f"{service['name']}: the secret {source} is in the variable {key}, not in the file {path}"
        )
    if not variables:
        service.pop("env", None)
    value = _secret_value(source, name, root, context)
    found.append({"name": name, "envKey": key, **value})
    _use_reference(item, context)


def _define(kind: str, source: str, root: Node, context: Context) -> Node:
    """The definition of a volume, secret or config at the top of the file."""
    place = root.mapping.get(kind, NOTHING).mapping.get(source, NOTHING)
    if place.path:
        context.enter(place)
    return place


def _secret_value(source: str, name: str, root: Node, context: Context) -> Document:
    """The value of a secret when what was handed in gives one, else a reference to a stored secret."""
    definition = _define("secrets", source, root, context)
    for key, contents in (("environment", context.variables), ("file", context.files)):
        place = definition.mapping.get(key)
        if place is not None and isinstance(place.value, str):
            context.use(place)
            content = contents.get(place.value)
            if content:
                return {"value": content}
            context.notes.append(f"the {key} {place.value[:200]} of the secret {source} was not handed in")
    if "external" in definition.mapping:
        context.use(definition.mapping["external"])
    context.notes.append(
        f'the value of the secret "{name}" was not handed in: write value: auto-generated, or the value '
        "itself, in place of its valueFrom"
    )
    return {"valueFrom": {"secret": name}}


def _config(item: Node, root: Node, files: dict[str, dict[str, JsonValue]], context: Context) -> None:
    reference = _reference(item, context)
    if reference is None:
        context.refuse(item, "not a config's name, nor a mapping with source")
        return
    source, target = reference
    path = target or f"/{source}"
    definition = _define("configs", source, root, context)
    content = definition.mapping.get("content")
    file = definition.mapping.get("file")
    variable = definition.mapping.get("environment")
    text: object = None
    if content is not None:
        text = content.value
    elif file is not None and isinstance(file.value, str):
        text = context.files.get(file.value)
    elif variable is not None and isinstance(variable.value, str):
        text = context.variables.get(variable.value)
    if not isinstance(text, str):
        context.refuse(item, f"the content of the config {source[:100]} was not handed in")
        return
    directory, file_name = posixpath.split(path)
    if rules.mount_path(directory) is not None or rules.relative_path(file_name) is not None:
        context.refuse(
            item,
            "a file can only be placed below a directory of its own: for example /etc/app/x",
        )
        return
    if file_name in files.setdefault(directory, {}):
        context.refuse(item, "another config of the service is placed there")
        return
    files[directory][file_name] = text
    for used in (content, file, variable):
        if used is not None:
            context.use(used)
    _use_reference(item, context)


def _add_files(
    files: dict[str, dict[str, JsonValue]], node: Node, service: Document, context: Context
) -> None:
    written = service.get("volumes")
    entries: list[JsonValue] = written if isinstance(written, list) else []
    found = Volumes(entries)
    for entry in entries:
        if isinstance(entry, dict):
            found.names.add(str(entry["name"]))
            found.mounts.add(str(entry["mountPath"]).rstrip("/"))
    for directory, contents in files.items():
        problem = found.add("config", directory, type="files", files={**contents})
        if problem is not None:
            context.refuse(node.at("configs"), problem)
        else:
            context.notes.append(f"{service['name']}: the configs hide what the image has in {directory}")
    if entries:
        service["volumes"] = entries
