"""Tables of snapshots."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cli.models_snapshots import Snapshot
from cli.text import age, binary, columns, duration, pairs


def snapshot_list(snapshots: Sequence[Snapshot]) -> list[str]:
    """Return snapshots as a table, the newest first."""
    if not snapshots:
        return ["No snapshots."]
    rows = [
        [
            each.id,
            each.name,
            each.environment_name,
            each.state,
            each.consistency or "",
            binary(each.stored_bytes) if each.state == "available" else "",
            age(each.created_at),
            _left(each.expires_at),
        ]
        for each in snapshots
    ]
    return columns(["ID", "NAME", "ENVIRONMENT", "STATE", "CONSISTENCY", "STORED", "AGE", "EXPIRES"], rows)


def snapshot(found: Snapshot) -> list[str]:
    """Return one snapshot with what was reached for each of its services."""
    available = found.state == "available"
    lines = pairs(
        [
            ("Snapshot", found.id),
            ("Name", found.name),
            ("State", found.state),
            ("Environment", f"{found.environment_name} ({found.environment_id})"),
            ("Revision", None if found.revision is None else str(found.revision)),
            ("Consistency", found.consistency),
            ("Scope", found.scope),
            ("Data", binary(found.plain_bytes) if available else None),
            ("Stored", binary(found.stored_bytes) if available else None),
            ("Taken by", found.created_by),
            ("Age", age(found.created_at)),
            ("Expires", _left(found.expires_at)),
            ("Verified", f"{age(found.last_verified_at)} ago" if found.last_verified_at else None),
            ("Operation", found.operation_id),
        ]
    )
    rows = [
        [
            each.service,
            each.store or "",
            each.engine,
            each.consistency,
            binary(each.plain_bytes) if each.store else "",
            binary(each.stored_bytes) if each.store else "",
        ]
        for each in found.components
    ]
    if rows:
        header = ["SERVICE", "STORE", "ENGINE", "CONSISTENCY", "DATA", "STORED"]
        lines += ["", *columns(header, rows)]
    return lines


def _left(moment: datetime | None) -> str:
    """Return in how long a snapshot goes; one without an end is kept."""
    if moment is None:
        return "never"
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else "now"
