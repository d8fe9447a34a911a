"""Reading one service of a Blueprint. What is broken is noted and takes its default."""

from __future__ import annotations

from typing import Final

from workflows.domain import blueprint_rules as rules
from workflows.domain.blueprint_models import (
    DEFAULT_READY_TIMEOUT_SECONDS,
    SECRET_AUTO,
    Condition,
    DataStore,
    Dependency,
    ExecProbe,
    Expose,
    HttpProbe,
    Init,
    InitType,
    Mock,
    MockMode,
    Port,
    Probe,
    Probes,
    Protocol,
    ResourceLimits,
    Resources,
    Scheme,
    SecretRef,
    SecretValueFrom,
    Service,
    ServiceKind,
    Snapshot,
    SnapshotEngine,
    Startup,
    TcpProbe,
    Volume,
    VolumeType,
)
from workflows.domain.blueprint_read import Fields, text_of
from workflows.domain.blueprint_tree import Faults, Node, kind_of, show

SERVICE_KEYS: Final = (
    "name", "kind", "image", "imagePullSecrets", "command", "args", "replicas", "ports", "expose", "env",
    "dependsOn", "resources", "probes", "readyTimeoutSeconds", "startup", "secrets", "volumes", "init",
    "snapshot", "mock", "replicable", "allowReplace",
)  # fmt: skip
_PROBE_KEYS: Final = (
    "http", "tcp", "exec",
    "periodSeconds", "timeoutSeconds", "initialDelaySeconds", "failureThreshold", "successThreshold",
)  # fmt: skip
_LONGEST_VALUE: Final = 128 * 1024
_LONGEST_SCRIPT: Final = 512 * 1024
# A ConfigMap holds 1 MiB, names and encoding included.
_MOST_FILE_BYTES: Final = 900 * 1024
_SIX_HOURS: Final = 6 * 3600


def read_service(node: Node, key: str | None, faults: Faults) -> Service:
    """The service at `node`; `key` is its name when services are written as a map.

    A missing or broken name or image is left empty: its place is noted as broken, and other checks avoid it.
    """
    fields = Fields.of(node, faults, SERVICE_KEYS, "a service")
    if fields is None:
        return Service(name=key or "", image="")
    image = fields.text("image", rules.image, 1024)
    if image is None:
        fields.missing("image", "for example postgres:16")
    return Service(
        name=_name(fields, key),
        kind=fields.choice("kind", ServiceKind) or ServiceKind.SERVICE,
        image=image or "",
        image_pull_secrets=_pull_secrets(fields),
        command=fields.words("command"),
        args=fields.words("args"),
        replicas=fields.integer("replicas", 0, 100, 1),
        ports=_ports(fields),
        expose=_expose(fields),
        env=_env(fields),
        depends_on=_depends_on(fields),
        resources=_resources(fields),
        probes=_probes(fields),
        ready_timeout_seconds=fields.integer(
            "readyTimeoutSeconds", 1, _SIX_HOURS, DEFAULT_READY_TIMEOUT_SECONDS
        ),
        startup=_startup(fields),
        secrets=_secrets(fields),
        volumes=_volumes(fields),
        init=_init(fields),
        snapshot=_snapshot(fields),
        mock=_mock(fields),
        replicable=fields.boolean("replicable", default=False),
        allow_replace=fields.boolean("allowReplace", default=False),
    )


def _name(fields: Fields, key: str | None) -> str:
    if key is None:
        name = fields.text("name", rules.service_name)
        if name is None:
            fields.missing("name", "for example api")
        return name or ""
    written = fields.text("name")
    if written is not None and written != key:
        place = fields.node.at("name")
        fields.faults.add(
            place, f"says {show(written)}, its key says {show(key)}", "leave the name out: the key names it"
        )
    problem = rules.service_name(key)
    if problem is not None:
        fields.faults.add(fields.node, f"the service name {problem[0]}", problem[1])
    return key


def _pull_secrets(fields: Fields) -> tuple[str, ...]:
    names = (text_of(item, fields.faults, rules.object_name) for item in fields.items("imagePullSecrets"))
    return tuple(name for name in names if name is not None)


def _ports(fields: Fields) -> tuple[Port, ...]:
    ports: list[Port] = []
    seen: set[tuple[int, Protocol]] = set()
    names: set[str] = set()
    for item in fields.items("ports"):
        port = _port(item, fields.faults)
        if port is None:
            continue
        if (port.container_port, port.protocol) in seen:
            fields.faults.add(
                item.at("containerPort"), f"port {port.container_port} is already declared by this service"
            )
            continue
        if port.name is not None and port.name in names:
            fields.faults.add(
                item.at("name"), f'the name "{port.name}" is already used by another port of this service'
            )
            continue
        seen.add((port.container_port, port.protocol))
        names.update([port.name] if port.name else [])
        ports.append(port)
    return tuple(ports)


def _port(item: Node, faults: Faults) -> Port | None:
    if isinstance(item.value, int) and not isinstance(item.value, bool):
        faults.add(item, "a port is a mapping, got a number", f"{{containerPort: {item.value}}}")
        return None
    port = Fields.of(item, faults, ("containerPort", "name", "protocol"), "a port")
    if port is None:
        return None
    number = port.integer("containerPort", 1, 65535, 0)
    port.missing("containerPort", "for example 8080")
    name = port.text("name", rules.port_name)
    protocol = port.choice("protocol", Protocol, fold=True) or Protocol.TCP
    return Port(container_port=number, name=name, protocol=protocol) if number else None


def _port_reference(fields: Fields, *, required: bool) -> int | str | None:
    child = fields.child("port")
    if child is None:
        if required:
            fields.missing("port", "the number or name of a declared port")
        return None
    if isinstance(child.value, str):
        hint = f"write it without quotes: {child.value[:5]}" if child.value.isdigit() else None
        if hint is None:
            return text_of(child, fields.faults, rules.port_name)
        fields.faults.add(child, f"must be a port number or a port name, got {show(child.value)}", hint)
        return None
    return fields.integer("port", 1, 65535, 0) or None


def _expose(fields: Fields) -> bool | Expose:
    child = fields.child("expose")
    if child is None:
        return False
    if isinstance(child.value, bool):
        return child.value
    if not isinstance(child.value, dict):
        fields.faults.add(
            child,
            f"must be true, false or a mapping of host, path and port, got {kind_of(child.value)}",
            "expose: true",
        )
        return False
    expose = Fields.of(child, fields.faults, ("host", "path", "port"), "expose")
    if expose is None:
        return False
    return Expose(
        host=expose.text("host", rules.host),
        path=expose.text("path", rules.url_path, 1024) or "/",
        port=_port_reference(expose, required=False),
    )


def _env(fields: Fields) -> dict[str, str]:
    env: dict[str, str] = {}
    for key, item in fields.entries("env", "names to text").items():
        problem = rules.env_key(key)
        if problem is not None:
            fields.faults.add(item, *problem)
        value = _env_value(item, fields.faults)
        if problem is None and value is not None:
            env[key] = value
    return env


def _env_value(item: Node, faults: Faults) -> str | None:
    value = item.value
    if isinstance(value, bool):
        faults.add(
            item,
            f"must be text, got the boolean {show(value)}: YAML reads yes, no, on, off, true and false as "
            "booleans, and which of them you wrote is lost",
            f'quote what the program expects, for example "{show(value)}"',
        )
        return None
    if value is None:
        faults.add(item, "must be text, got null", 'write "" for an empty value, or leave the key out')
        return None
    if isinstance(value, int | float):
        return str(value)
    return text_of(item, faults, None, _LONGEST_VALUE)


def _depends_on(fields: Fields) -> dict[str, Dependency]:
    child = fields.child("dependsOn")
    found: dict[str, Dependency] = {}
    if child is None:
        return found
    if isinstance(child.value, list):
        for item in child.value:
            name = text_of(item, fields.faults)
            if name is None:
                continue
            if name in found:
                fields.faults.add(item, f'"{name[:63]}" is listed twice')
            found[name] = Dependency()
        return found
    if not isinstance(child.value, dict):
        hint = f"dependsOn: [{child.value[:63]}]" if isinstance(child.value, str) else None
        fields.faults.add(
            child, f"must be a list of services or a mapping of conditions, got {kind_of(child.value)}", hint
        )
        return found
    for name, item in child.value.items():
        found[name] = Dependency()
        if item.absent:
            continue
        entry = Fields.of(item, fields.faults, ("condition",), "a dependency")
        if entry is not None:
            found[name] = Dependency(condition=entry.choice("condition", Condition) or Condition.READY)
    return found


def _quantity(fields: Fields, key: str, check: rules.Rule) -> str | None:
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


def _resources(fields: Fields) -> Resources:
    child = fields.child("resources")
    part = (
        None if child is None else Fields.of(child, fields.faults, ("cpu", "memory", "limits"), "resources")
    )
    if part is None:
        return Resources()
    limits = ResourceLimits()
    bounds = part.child("limits")
    if bounds is not None:
        upper = Fields.of(bounds, fields.faults, ("cpu", "memory"), "limits")
        if upper is not None:
            limits = ResourceLimits(
                cpu=_quantity(upper, "cpu", rules.cpu), memory=_quantity(upper, "memory", rules.memory)
            )
    return Resources(
        cpu=_quantity(part, "cpu", rules.cpu), memory=_quantity(part, "memory", rules.memory), limits=limits
    )


def _probes(fields: Fields) -> Probes:
    child = fields.child("probes")
    kinds = ("readiness", "liveness", "startup")
    part = None if child is None else Fields.of(child, fields.faults, kinds, "probes")
    if part is None:
        return Probes()
    return Probes(
        readiness=_probe(part, "readiness"),
        liveness=_probe(part, "liveness"),
        startup=_probe(part, "startup"),
    )


def _probe(fields: Fields, key: str) -> Probe | None:
    child = fields.child(key)
    part = None if child is None else Fields.of(child, fields.faults, _PROBE_KEYS, "a probe")
    if part is None or child is None:
        return None
    given = [way for way in ("http", "tcp", "exec") if not part.node.mapping.get(way, _NULL).absent]
    if len(given) != 1:
        found = f"has {' and '.join(given)}" if given else "has none of http, tcp and exec"
        fields.faults.add(child, f"a probe has exactly one of http, tcp and exec; this one {found}")
    probe = Probe(
        http=_http(part),
        tcp=_tcp(part),
        exec=_exec(part),
        period_seconds=part.integer("periodSeconds", 1, 3600, 10),
        timeout_seconds=part.integer("timeoutSeconds", 1, 3600, 1),
        initial_delay_seconds=part.integer("initialDelaySeconds", 0, _SIX_HOURS, 0),
        failure_threshold=part.integer("failureThreshold", 1, 10_000, 3),
        success_threshold=part.integer("successThreshold", 1, 100, 1),
    )
    if key != "readiness" and probe.success_threshold != 1:
        fields.faults.add(
            child.at("successThreshold"), f"must be 1 for a {key} probe: Kubernetes allows no other"
        )
    return probe


_NULL: Final = Node(None, (), ())


def _http(part: Fields) -> HttpProbe | None:
    child = part.child("http")
    http = (
        None if child is None else Fields.of(child, part.faults, ("path", "port", "scheme"), "an http probe")
    )
    if http is None:
        return None
    port = _port_reference(http, required=True)
    path = http.text("path", rules.url_path, 1024)
    scheme = http.choice("scheme", Scheme, fold=True)
    return HttpProbe(path=path or "/", port=port, scheme=scheme or Scheme.HTTP) if port is not None else None


def _tcp(part: Fields) -> TcpProbe | None:
    child = part.child("tcp")
    tcp = None if child is None else Fields.of(child, part.faults, ("port",), "a tcp probe")
    port = None if tcp is None else _port_reference(tcp, required=True)
    return TcpProbe(port=port) if port is not None else None


def _exec(part: Fields) -> ExecProbe | None:
    child = part.child("exec")
    command = None if child is None else Fields.of(child, part.faults, ("command",), "an exec probe")
    if command is None:
        return None
    words = command.words("command")
    if not words and not part.faults.broken_at(command.node, "command"):
        part.faults.add(
            command.node, "is required and must not be empty", '["sh", "-c", "..."]', key="command"
        )
    return ExecProbe(command=words) if words else None


def _startup(fields: Fields) -> Startup:
    child = fields.child("startup")
    part = None if child is None else Fields.of(child, fields.faults, ("tolerateRestarts",), "startup")
    return (
        Startup() if part is None else Startup(tolerate_restarts=part.integer("tolerateRestarts", 0, 100, 0))
    )


def _secrets(fields: Fields) -> tuple[SecretRef, ...]:
    secrets: list[SecretRef] = []
    keys: set[str] = set()
    env = fields.entries("env", "names to text")
    for item in fields.items("secrets"):
        part = Fields.of(item, fields.faults, ("name", "envKey", "value", "valueFrom"), "a secret")
        if part is None:
            continue
        name = part.text("name", rules.object_name)
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
    value = text_of(child, part.faults, None, _LONGEST_VALUE)
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


def _volumes(fields: Fields) -> tuple[Volume, ...]:
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
    files = _files(part)
    kind = part.choice("type", VolumeType)
    if kind is None and files:
        kind = VolumeType.FILES
    elif kind is None and not faults.broken_at(item, "files"):
        part.missing(
            "type",
            "pvc (keeps its data), emptyDir (does not) or files (written here)",
        )
    size = _quantity(part, "size", rules.storage)
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


def _files(part: Fields) -> dict[str, str]:
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


def _init(fields: Fields) -> Init | None:
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


def _snapshot(fields: Fields) -> Snapshot:
    child = fields.child("snapshot")
    part = None if child is None else Fields.of(child, fields.faults, ("engine", "store"), "snapshot")
    if part is None:
        return Snapshot()
    return Snapshot(
        engine=part.choice("engine", SnapshotEngine) or SnapshotEngine.AUTO,
        store=part.choice("store", DataStore),
    )


def _mock(fields: Fields) -> Mock | None:
    child = fields.child("mock")
    part = None if child is None else Fields.of(child, fields.faults, ("mode", "image", "ports"), "mock")
    if part is None:
        return None
    mode = part.choice("mode", MockMode)
    image = part.text("image", rules.image, 1024)
    part.missing("mode", "one of replace, sidecar, mirror")
    part.missing("image")
    ports = _ports(part)
    return Mock(mode=mode, image=image, ports=ports) if mode is not None and image is not None else None
