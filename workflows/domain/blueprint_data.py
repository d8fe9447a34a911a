"""Reading what a service of a Blueprint holds: secrets, volumes, init script, way of capture, quantities."""

from __future__ import annotations

from typing import Final

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import (
    DEFAULT_QUIESCE_SECONDS,
    SECRET_AUTO,
    DataStore,
    Init,
    InitType,
    SecretRef,
    SecretValueFrom,
    Snapshot,
    SnapshotEngine,
    Volume,
    VolumeType,
)
from workflows.domain.blueprint_read import Fields, text_of
from workflows.domain.blueprint_tree import Faults, Node, kind_of, show

LONGEST_VALUE: Final = 128 * 1024
SHORTEST_QUIESCE_SECONDS: Final = 2
"""Less leaves no time between the two."""
# It travels in the address of a request.
_LONGEST_HOOK: Final = 8 * 1024
_HOOK_EXAMPLES: Final = {
    "quiesce": "for example [/app/pause-writes]",
    "thaw": "for example [/app/resume-writes]",
}
_LONGEST_SCRIPT: Final = 512 * 1024
# A ConfigMap holds 1 MiB, names and encoding included.
_MOST_FILE_BYTES: Final = 900 * 1024


def read_secrets(fields: Fields) -> tuple[SecretRef, ...]:
    """The secrets of a service; no message shows a value."""
    secrets: list[SecretRef] = []
    keys: set[str] = set()
    env = fields.entries("env", "names to text")
    for item in fields.items("secrets"):
        part = Fields.of(item, fields.faults, ("name", "envKey", "value", "valueFrom"), "a secret")
        if part is None:
            continue
        name = part.text("name", rules.secret_name)
        env_key = part.text("envKey", rules.env_key)
        part.missing("name", "for example db-password")
        part.missing("envKey", "the environment variable that holds it, for example DB_PASSWORD")
        value = _secret_value(part)
        value_from = _value_from(part)
        if value is not None and value_from is not None:
            fields.faults.add(item, "has both value and valueFrom; a secret has one source")
            value_from = None
        if env_key is not None and env_key in keys:
            fields.faults.add(item.at("envKey"), f"another secret of this service already sets {env_key}")
        elif env_key is not None and env_key in env:
            fields.faults.add(
                item.at("envKey"), f"env of this service already sets {env_key}", "leave it to one of them"
            )
        if name is not None and env_key is not None:
            keys.add(env_key)
            secrets.append(SecretRef(name=name, env_key=env_key, value=value, value_from=value_from))
    return tuple(secrets)


def _secret_value(part: Fields) -> str | None:
    child = part.child("value")
    if child is None:
        return None
    # A message about a secret never shows the value.
    if not isinstance(child.value, str):
        part.faults.add(child, f"must be text, got {kind_of(child.value)}", "quote it")
        return None
    if not child.value:
        part.faults.add(child, "must not be empty", f"{SECRET_AUTO} makes a random one")
        return None
    value = text_of(child, part.faults, None, LONGEST_VALUE)
    if value is not None and value != SECRET_AUTO and child.path[:1] == ("plans",):
        part.faults.add(
            child,
            "a plan is kept as written and must not hold a secret in clear",
            f"{SECRET_AUTO}, or valueFrom: {{secret: name}}",
        )
        return None
    return value


def _value_from(part: Fields) -> SecretValueFrom | None:
    child = part.child("valueFrom")
    source = None if child is None else Fields.of(child, part.faults, ("secret",), "valueFrom")
    if source is None:
        return None
    name = source.text("secret", rules.object_name)
    if name is None:
        source.missing("secret", "the name of a stored secret")
    return SecretValueFrom(secret=name) if name is not None else None


def read_volumes(fields: Fields) -> tuple[Volume, ...]:
    """The volumes of a service, without duplicates."""
    volumes: list[Volume] = []
    names: set[str] = set()
    mounts: set[str] = set()
    for item in fields.items("volumes"):
        volume = _volume(item, fields.faults)
        if volume is None:
            continue
        mount = volume.mount_path.rstrip("/")
        if volume.name in names:
            fields.faults.add(item.at("name"), f'another volume of this service is called "{volume.name}"')
        if mount in mounts:
            fields.faults.add(
                item.at("mountPath"), f"another volume of this service is mounted at {show(mount)}"
            )
        names.add(volume.name)
        mounts.add(mount)
        volumes.append(volume)
    return tuple(volumes)


def _volume(item: Node, faults: Faults) -> Volume | None:
    keys = ("name", "mountPath", "type", "size", "storageClass", "files")
    part = Fields.of(item, faults, keys, "a volume")
    if part is None:
        return None
    name = part.text("name", rules.object_name)
    mount_path = part.text("mountPath", rules.mount_path, 1024)
    for key, example in (("name", "for example data"), ("mountPath", "for example /data")):
        part.missing(key, example)
    files = read_files(part)
    kind = part.choice("type", VolumeType)
    if kind is None and files:
        kind = VolumeType.FILES
    elif kind is None and not faults.broken_at(item, "files"):
        part.missing(
            "type",
            "pvc (keeps its data), emptyDir (does not) or files (written here)",
        )
    size = read_quantity(part, "size", rules.storage)
    storage_class = part.text("storageClass", rules.storage_class)
    if kind is VolumeType.PVC and size is None:
        part.missing("size", "for example 1Gi")
    if kind is VolumeType.FILES and not files and not faults.broken_at(item, "files"):
        faults.add(item, "a volume of type files needs files", "{settings.ini: text}", key="files")
    for key, owner in (("files", VolumeType.FILES), ("storageClass", VolumeType.PVC)):
        child = part.child(key)
        if kind not in (owner, None) and child is not None and child.value != {}:
            faults.add(child, f"belongs to a volume of type {owner}, this one is {kind}")
    if kind is VolumeType.FILES and size is not None:
        faults.add(item.at("size"), "a volume of type files is as large as its files")
    if name is None or mount_path is None or kind is None:
        return None
    return Volume(
        name=name, mount_path=mount_path, type=kind, size=size, storage_class=storage_class, files=files
    )


def read_files(part: Fields) -> dict[str, str]:
    """Inline files: relative path to text."""
    files: dict[str, str] = {}
    for path, item in part.entries("files", "relative paths to text").items():
        problem = rules.relative_path(path)
        if problem is not None:
            part.faults.add(item, *problem)
        text = text_of(item, part.faults, None, _MOST_FILE_BYTES)
        if text is not None and problem is None:
            files[path] = text
    if sum(len(path) + len(text.encode()) for path, text in files.items()) > _MOST_FILE_BYTES:
        part.faults.add(
            part.node.at("files"), "the files are larger than 900 KiB together", "put them into the image"
        )
        return {}
    return files


def read_init(fields: Fields) -> Init | None:
    """The init script of a service."""
    child = fields.child("init")
    part = None if child is None else Fields.of(child, fields.faults, ("type", "script"), "init")
    if part is None:
        return None
    kind = part.choice("type", InitType)
    script = part.text("script", None, _LONGEST_SCRIPT)
    part.missing("type", "sql or shell")
    part.missing("script")
    if script is not None and not script.strip():
        part.faults.add(part.node.at("script"), "must not be empty")
    return Init(type=kind, script=script) if kind is not None and script is not None else None


def read_snapshot(fields: Fields) -> Snapshot:
    """How the data of a service is captured."""
    child = fields.child("snapshot")
    keys = ("engine", "store", "quiesce", "thaw", "quiesceSeconds")
    part = None if child is None else Fields.of(child, fields.faults, keys, "snapshot")
    if part is None:
        return Snapshot()
    hooks = {key: _hook(part, key) for key in ("quiesce", "thaw")}
    for key, other in (("quiesce", "thaw"), ("thaw", "quiesce")):
        if hooks[key] and not hooks[other] and not part.faults.broken_at(part.node, other):
            part.faults.add(
                part.node, f"is required: {key} does not go without it", _HOOK_EXAMPLES[other], key=other
            )
    seconds = part.integer(
        "quiesceSeconds", SHORTEST_QUIESCE_SECONDS, DEFAULT_QUIESCE_SECONDS, DEFAULT_QUIESCE_SECONDS
    )
    if seconds != DEFAULT_QUIESCE_SECONDS and not any(hooks.values()):
        part.faults.add(part.node.at("quiesceSeconds"), "belongs to quiesce and thaw, and there are none")
    return Snapshot(
        engine=part.choice("engine", SnapshotEngine) or SnapshotEngine.AUTO,
        store=part.choice("store", DataStore),
        quiesce=hooks["quiesce"],
        thaw=hooks["thaw"],
        quiesce_seconds=seconds,
    )


def _hook(part: Fields, key: str) -> tuple[str, ...]:
    """The command at a key; text is one for the shell."""
    child = part.child(key)
    if child is None:
        return ()
    words = ("sh", "-c", child.value) if isinstance(child.value, str) else part.words(key)
    if isinstance(child.value, str) and not child.value.strip():
        part.faults.add(child, "must not be empty", _HOOK_EXAMPLES[key])
    elif sum(map(len, words)) > _LONGEST_HOOK:
        part.faults.add(
            child, f"is longer than {_LONGEST_HOOK:,} characters", "put it into the image, as a program"
        )
    return words


def read_quantity(fields: Fields, key: str, check: rules.Rule) -> str | None:
    """The quantity at a key; a bare number is one too."""
    child = fields.child(key)
    if child is None:
        return None
    value = child.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        # `cpu: 1` and `cpu: 0.5` are what everybody writes; a bare number is a quantity too.
        text = f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        problem = check(text)
        if problem is not None:
            fields.faults.add(child, *problem)
            return None
        return text
    return text_of(child, fields.faults, check, 64)
