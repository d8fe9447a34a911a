"""Tables: what the answers look like to people."""

import json
from collections.abc import Sequence

from pydantic import JsonValue

from cli.models import (
    ApiKey,
    AuditEntry,
    Condition,
    Discovery,
    EndpointList,
    Environment,
    EnvironmentStatus,
    FieldChange,
    FieldFault,
    Import,
    LogEntry,
    NewShare,
    Operation,
    RegistryCredential,
    Revision,
    Service,
    ServiceChange,
    Share,
    StoredSecret,
    Template,
    Topology,
    ValidationReport,
)
from cli.problems import fault_lines
from cli.text import age, columns, elapsed, pairs, plain
from cli.transfers import told


def environment_list(environments: Sequence[Environment]) -> list[str]:
    """Return environments as a table."""
    if not environments:
        return ["No environments. `perdure env create -f blueprint.yaml` makes one."]
    rows = [
        [
            item.name,
            item.status,
            str(len(item.services)),
            str(item.revision or ""),
            age(item.created_at),
            item.id,
        ]
        for item in environments
    ]
    return columns(["NAME", "STATUS", "SERVICES", "REVISION", "AGE", "ID"], rows)


_EFFECTS = {"add": "+", "in_place": "~", "replace": "±", "refused": "!", "remove": "-", "unchanged": " "}


def changes(found: Sequence[ServiceChange]) -> list[str]:
    """Return what an update does, a line for each service and each field that differs."""
    lines: list[str] = []
    for change in found:
        reason = f" ({change.reason})" if change.reason else ""
        lines.append(plain(f"{_EFFECTS.get(change.effect, '?')} {change.service}: {change.effect}{reason}"))
        lines += [plain(f"      {each.field}: {_shown(each)}") for each in change.fields]
        lines += [plain(f"      volume {each} is made anew, empty") for each in change.lost_volumes]
    return lines or ["No service differs."]


def _shown(change: FieldChange) -> str:
    if change.before is None and change.after is None:
        return "another value"
    return f"{_value(change.before)} -> {_value(change.after)}"


def _value(value: JsonValue) -> str:
    return (
        "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def revisions(found: Sequence[Revision]) -> list[str]:
    """Return revisions as a table."""
    rows = [
        [
            f"{item.number}{' *' if item.current else ''}",
            str(item.parent or ""),
            ", ".join(f"{each.service} {each.effect}" for each in item.changes if each.effect != "unchanged"),
            ", ".join(item.checkpoints),
            age(item.created_at),
            item.message,
        ]
        for item in found
    ]
    return columns(["REVISION", "PARENT", "CHANGES", "CHECKPOINTS", "AGE", "MESSAGE"], rows)


def environment(item: Environment) -> list[str]:
    """Return one environment with services and conditions."""
    operation = item.operation
    lines = pairs(
        [
            ("Name", item.name),
            ("Id", item.id),
            ("Description", item.description),
            ("Status", item.status),
            ("Cluster", item.cluster),
            ("Namespace", item.namespace),
            ("Revision", str(item.revision) if item.revision is not None else None),
            ("Plan", item.plan),
            ("Protected", "yes" if item.protected else None),
            ("Operation", f"{operation.id} ({operation.kind}, {operation.state})" if operation else None),
            ("Created", f"{age(item.created_at)} ago" if item.created_at else None),
        ]
    )
    return [*lines, *_services(item.services), *_conditions(item.conditions)]


def environment_status(name: str, item: EnvironmentStatus) -> list[str]:
    """Return the status of an environment: where it stands, why, what holds it up, its services."""
    phase = item.phase if item.phase and item.phase != item.status else None
    lines = pairs(
        [
            ("Environment", name),
            ("Status", f"{item.status or item.phase or ''}{'' if item.terminal else ' (changing)'}"),
            ("Phase", phase),
            ("Reason", item.reason),
            ("Message", item.message),
            ("Cluster", None if item.cluster_reachable else "cannot be read; this is what was last known"),
            ("Blocked by", "; ".join(str(blocker) for blocker in item.blocked_by)),
        ]
    )
    return [*lines, *_services(item.services), *_conditions(item.conditions)]


def operation_list(operations: Sequence[Operation]) -> list[str]:
    """Return operations as a table, newest first."""
    if not operations:
        return ["No operations."]
    rows = [
        [
            item.id,
            item.kind,
            item.state,
            item.environment_name or item.environment_id,
            elapsed(item.started_at, item.finished_at),
            age(item.created_at),
        ]
        for item in operations
    ]
    return columns(["ID", "KIND", "STATE", "ENVIRONMENT", "TOOK", "AGE"], rows)


def operation(item: Operation) -> list[str]:
    """Return one operation with its steps."""
    lines = pairs(
        [
            ("Operation", item.id),
            ("Kind", item.kind),
            ("State", item.state),
            ("Environment", item.environment_name or item.environment_id),
            ("Retry of", item.retry_of),
            ("Replay of", item.replay_of),
            ("Snapshot", item.snapshot_id),
            ("Requested by", item.requested_by),
            ("Progress", f"{item.progress.done}/{item.progress.total} steps" if item.progress else None),
            ("Data", "; ".join(told(step.transfer) for step in item.steps if step.transfer)),
            ("Took", elapsed(item.started_at, item.finished_at)),
            ("Workflow", item.workflow_id),
            ("Temporal UI", item.temporal_url),
        ]
    )
    rows = [
        [
            step.name,
            step.state,
            str(step.attempt),
            elapsed(step.started_at, step.finished_at),
            ", ".join(step.depends_on),
            step.trouble,
        ]
        for step in item.steps
    ]
    if rows:
        lines += ["", *columns(["STEP", "STATE", "ATTEMPT", "TOOK", "AFTER", "TROUBLE"], rows)]
    return lines


def validation(report: ValidationReport) -> list[str]:
    """Return every fault, errors first, and the verdict."""
    verdict = "is not valid" if report.errors else "is valid"
    return [
        *_faults("error", report.errors),
        *_faults("warning", report.warnings),
        f"The Blueprint {verdict}: {len(report.errors)} errors, {len(report.warnings)} warnings.",
    ]


def import_remarks(found: Import) -> list[str]:
    """Return what a Compose file has that the Blueprint has not, and what is doubtful."""
    lines = [f"not carried over  {plain(f'{item.path}: {item.reason}')}" for item in found.unsupported]
    return [*lines, *_faults("warning", found.warnings)]


def discovery_remarks(found: Discovery) -> list[str]:
    """Return what has to be mended, what the Blueprint has not, and what is good to know, file by file."""
    errors = [
        fault.model_copy(update={"path": _place(fault.file, fault.path)}) if fault.file else fault
        for fault in found.errors
    ]
    left = [
        f"not carried over  {plain(f'{_place(item.file, item.path)}: {item.reason}')}"
        for item in found.unsupported
    ]
    notes = [
        f"{'note' if note.severity == 'info' else 'warning':<8} "
        f"{plain(': '.join(part for part in (_place(note.file, note.path), note.message) if part))}"
        for note in found.notes
    ]
    return [*notes, *left, *_faults("warning", found.warnings), *_faults("error", errors)]


def _place(file: str, path: str) -> str:
    return f"{file} {path}".strip()


def _faults(word: str, faults: Sequence[FieldFault]) -> list[str]:
    lines = []
    for fault in faults:
        first, *rest = fault_lines(fault)
        lines += [f"{word:<8} {plain(first)}", *(f"{'':<8} {plain(line)}" for line in rest)]
    return lines


def log_lines(entries: Sequence[LogEntry], *, prefix: bool) -> list[str]:
    """Return log lines as they were written; `prefix` puts the service before each."""
    width = max((len(entry.service) for entry in entries), default=0)
    before = [f"{entry.service.ljust(width)}  " if prefix else "" for entry in entries]
    return [f"{start}{plain(entry.line)}" for start, entry in zip(before, entries, strict=True)]


def topology(graph: Topology) -> list[str]:
    """Return the services, what waits for what, and what is reached from outside, as tables."""
    nodes = [
        [
            node.name,
            node.kind,
            node.state or "",
            "" if node.replicas is None else str(node.replicas),
            ", ".join(str(port) for port in node.ports),
            node.store or "",
            node.image,
        ]
        for node in graph.nodes
    ]
    lines = columns(["SERVICE", "KIND", "STATE", "REPLICAS", "PORTS", "STORE", "IMAGE"], nodes)
    if graph.edges:
        edges = [[edge.source, edge.target, edge.condition] for edge in graph.edges]
        lines += ["", *columns(["SERVICE", "WAITS FOR", "UNTIL"], edges)]
    if graph.external:
        outside = [[item.service, str(item.port or ""), item.endpoint] for item in graph.external]
        lines += ["", *columns(["EXPOSED", "PORT", "ENDPOINT"], outside)]
    return lines


def api_keys(found: Sequence[ApiKey]) -> list[str]:
    """Return keys as a table."""
    rows = [
        [
            item.id,
            item.name,
            item.role,
            f"...{item.last8}",
            "revoked" if item.revoked_at else f"{item.expires_at:%Y-%m-%d}" if item.expires_at else "",
            age(item.created_at),
        ]
        for item in found
    ]
    return columns(["KEY", "NAME", "ROLE", "TOKEN", "UNTIL", "AGE"], rows)


def secret_list(found: Sequence[StoredSecret]) -> list[str]:
    """Return secrets as a table."""
    if not found:
        return ["No secrets. `perdure secret set NAME` stores one."]
    return columns(["NAME", "CHANGED"], [[item.name, age(item.updated_at)] for item in found])


def audit_list(found: Sequence[AuditEntry]) -> list[str]:
    """Return audit entries as a table."""
    rows = [
        [
            f"{item.at:%Y-%m-%d %H:%M:%S}" if item.at else "",
            item.principal_id,
            item.action,
            item.subject_id,
            plain(json.dumps(item.data, ensure_ascii=False)),
        ]
        for item in found
    ]
    return columns(["AT (UTC)", "BY", "ACTION", "SUBJECT", ""], rows)


def registry_list(credentials: Sequence[RegistryCredential]) -> list[str]:
    """Return registry credentials as a table."""
    if not credentials:
        return ["No registry credentials."]
    rows = [[item.name, item.registry, item.username, age(item.created_at)] for item in credentials]
    return columns(["NAME", "REGISTRY", "USERNAME", "AGE"], rows)


def new_share(item: NewShare) -> list[str]:
    """Return a new link, alone on its line, so that it can be copied."""
    until = f"{item.expires_at:%Y-%m-%d %H:%M} UTC" if item.expires_at else None
    lines = pairs([("Share", item.id), ("Until", until), ("PIN", "needed" if item.pin else None)])
    return [plain(item.url), "", *lines]


def share_list(shares: Sequence[Share]) -> list[str]:
    """Return share links as a table, newest first."""
    if not shares:
        return ["No share links. `perdure env share NAME` makes one."]
    rows = [
        [
            item.id,
            item.state,
            f"{item.expires_at:%Y-%m-%d %H:%M}" if item.expires_at else "",
            "yes" if item.pin else "",
            str(item.views),
            age(item.last_viewed_at),
            item.label,
        ]
        for item in shares
    ]
    return columns(["SHARE", "STATE", "UNTIL (UTC)", "PIN", "VIEWS", "LAST", "LABEL"], rows)


def template_list(templates: Sequence[Template]) -> list[str]:
    """Return templates as a table."""
    rows = [[item.name, item.source, item.id, plain(item.description)] for item in templates]
    return columns(["NAME", "SOURCE", "ID", "DESCRIPTION"], rows)


def template(found: Template) -> list[str]:
    """Return one template with its parameters."""
    rows = [
        [
            item.name,
            item.type,
            "required" if item.required else "" if item.default is None else plain(str(item.default)),
            plain(item.description),
        ]
        for item in found.parameters
    ]
    return [
        *template_list([found]),
        *(["", *columns(["PARAMETER", "TYPE", "DEFAULT", ""], rows)] if rows else []),
    ]


def _services(services: Sequence[Service]) -> list[str]:
    if not services:
        return []
    rows = [
        [
            item.name,
            item.kind,
            item.state or "",
            "" if item.ready is None else f"{item.ready}/{item.replicas}",
            "" if item.restarts is None else str(item.restarts),
            item.image,
            ", ".join(item.endpoints),
            ": ".join(text for text in (item.reason, item.message) if text),
        ]
        for item in services
    ]
    header = ["SERVICE", "KIND", "STATE", "READY", "RESTARTS", "IMAGE", "ENDPOINTS", "TROUBLE"]
    used = [index for index in range(len(header)) if index == 0 or any(row[index] for row in rows)]
    return ["", *columns([header[index] for index in used], [[row[index] for index in used] for row in rows])]


def _conditions(conditions: Sequence[Condition]) -> list[str]:
    if not conditions:
        return []
    rows = [
        [item.type, item.status, item.reason or "", item.message or "", age(item.since)]
        for item in conditions
    ]
    return ["", *columns(["CONDITION", "STATUS", "REASON", "MESSAGE", "SINCE"], rows)]


def endpoint_list(found: EndpointList) -> list[str]:
    """Return how each service is reached as a table."""
    rows = [
        [
            each.service,
            str(each.port),
            each.answers,
            each.url or each.proxy or "",
            each.internal,
            each.reason,
        ]
        for each in found.endpoints
    ]
    return columns(["SERVICE", "PORT", "ANSWERS", "FROM OUTSIDE", "INSIDE", "BECAUSE"], rows)
