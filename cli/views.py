"""Tables: what the answers look like to people."""

from collections.abc import Sequence

from cli.client import fault_lines
from cli.models import (
    Condition,
    Environment,
    EnvironmentStatus,
    FieldFault,
    Import,
    Logs,
    Operation,
    RegistryCredential,
    Service,
    Topology,
    Unsupported,
    ValidationReport,
)
from cli.text import age, columns, elapsed, pairs, plain


def environment_list(environments: Sequence[Environment]) -> list[str]:
    """Return environments as a table."""
    if not environments:
        return ["No environments. `perdure env create -f blueprint.yaml` makes one."]
    rows = [
        [
            item.name,
            item.status,
            _ready(item.services),
            str(item.revision or ""),
            age(item.created_at),
            item.id,
        ]
        for item in environments
    ]
    return columns(["NAME", "STATUS", "READY", "REVISION", "AGE", "ID"], rows)


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
            f"{item.progress.done}/{item.progress.total}",
            item.environment_name or item.environment_id,
            elapsed(item.started_at, item.finished_at),
            age(item.created_at),
        ]
        for item in operations
    ]
    return columns(["ID", "KIND", "STATE", "STEPS", "ENVIRONMENT", "TOOK", "AGE"], rows)


def operation(item: Operation) -> list[str]:
    """Return one operation with its steps."""
    lines = pairs(
        [
            ("Operation", item.id),
            ("Kind", item.kind),
            ("State", item.state),
            ("Environment", item.environment_name or item.environment_id),
            ("Retry of", item.retry_of),
            ("Requested by", item.requested_by),
            ("Progress", f"{item.progress.done}/{item.progress.total} steps"),
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
            f"{step.failure.kind}: {step.failure.message}" if step.failure else "",
        ]
        for step in item.steps
    ]
    if rows:
        lines += ["", *columns(["STEP", "STATE", "ATTEMPT", "TOOK", "AFTER", "FAILURE"], rows)]
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
    lines = [
        f"not carried over  {f'{item.path}: {item.reason}' if isinstance(item, Unsupported) else item}"
        for item in found.unsupported
    ]
    return [*lines, *_faults("warning", found.warnings)]


def _faults(word: str, faults: Sequence[FieldFault]) -> list[str]:
    lines = []
    for fault in faults:
        first, *rest = fault_lines(fault)
        lines += [f"{word:<8} {plain(first)}", *(f"{'':<8} {plain(line)}" for line in rest)]
    return lines


def log_lines(logs: Logs, *, prefix: bool) -> list[str]:
    """Return log lines as they were written; `prefix` puts the service before each."""
    width = max((len(entry.service) for entry in logs.lines), default=0)
    before = [f"{entry.service.ljust(width)}  " if prefix else "" for entry in logs.lines]
    return [f"{start}{plain(entry.message)}" for start, entry in zip(before, logs.lines, strict=True)]


def topology(graph: Topology) -> list[str]:
    """Return the services and the edges between them as tables."""
    nodes = [
        [node.title, node.kind, node.state or "", ", ".join(str(e) for e in node.endpoints)]
        for node in graph.nodes
    ]
    edges = [[edge.source, edge.target, edge.condition or edge.kind or ""] for edge in graph.edges]
    lines = columns(["SERVICE", "KIND", "STATE", "ENDPOINTS"], nodes)
    return [*lines, "", *columns(["FROM", "TO", "HOW"], edges)] if edges else lines


def registry_list(credentials: Sequence[RegistryCredential]) -> list[str]:
    """Return registry credentials as a table."""
    if not credentials:
        return ["No registry credentials."]
    rows = [[item.name, item.registry, item.username, age(item.created_at)] for item in credentials]
    return columns(["NAME", "REGISTRY", "USERNAME", "AGE"], rows)


def _ready(services: Sequence[Service]) -> str:
    if not services:
        return ""
    ready = sum((item.ready or 0) >= (1 if item.replicas is None else item.replicas) for item in services)
    return f"{ready}/{len(services)}"


def _services(services: Sequence[Service]) -> list[str]:
    if not services:
        return []
    rows = [
        [
            item.name,
            item.kind,
            item.state or "",
            f"{item.ready or 0}/{item.replicas if item.replicas is not None else '?'}",
            str(item.restarts or 0),
            item.image,
            ", ".join(str(endpoint) for endpoint in item.endpoints),
        ]
        for item in services
    ]
    header = ["SERVICE", "KIND", "STATE", "READY", "RESTARTS", "IMAGE", "ENDPOINTS"]
    used = [index for index in range(len(header)) if index in {0, 3} or any(row[index] for row in rows)]
    return ["", *columns([header[index] for index in used], [[row[index] for index in used] for row in rows])]


def _conditions(conditions: Sequence[Condition]) -> list[str]:
    if not conditions:
        return []
    rows = [
        [item.type, str(item.status), item.reason or "", item.message or "", age(item.since)]
        for item in conditions
    ]
    return ["", *columns(["CONDITION", "STATUS", "REASON", "MESSAGE", "SINCE"], rows)]
