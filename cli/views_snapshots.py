"""Tables of snapshots."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cli.models_snapshots import Snapshot, SnapshotPolicy, Verification, VerificationCheck
from cli.text import age, binary, columns, duration, pairs
from cli.transfers import told


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
            ("Verified", _verified(found)),
            ("Operation", found.operation_id),
            ("Stands", found.standing),
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
    fallen = [each for each in found.components if each.instead_of is not None]
    if fallen:
        lines.append("")
    lines += [
        f"{each.service}: {each.engine} instead of {each.instead_of}. {each.because}" for each in fallen
    ]
    return lines


def policy(found: SnapshotPolicy) -> list[str]:
    """Return a policy as lines."""
    expires = "never" if found.expires_in_days is None else f"{found.expires_in_days} days"
    when = "" if found.last_result_at is None else f"{age(found.last_result_at)} ago: "
    hours = found.verify_every_hours
    again = None if hours is None else f"after {duration(hours * 3600)}"
    snapshot = None
    if found.last_snapshot_id is not None:
        planned = "" if found.last_at is None else f", of {age(found.last_at)} ago"
        snapshot = f"{found.last_snapshot_id}: {found.last_snapshot_state or 'unknown'}{planned}"
    return pairs(
        [
            ("Every", duration(found.every_minutes * 60)),
            ("Keeps", None if found.keep_last is None else f"the last {found.keep_last}"),
            ("Expire after", expires),
            ("Floor", found.consistency_floor),
            ("Verified to level", None if found.verify_level is None else str(found.verify_level)),
            ("Verified anew", again),
            ("Next", "paused" if found.next_at is None else _left(found.next_at)),
            ("Last", f"{when}{found.last_result}" if found.last_result else None),
            ("Last snapshot", snapshot),
        ]
    )


def verification_list(found: Sequence[Verification]) -> list[str]:
    """Return verifications as a table, the newest first; of each the first that is not as it should be."""
    if not found:
        return ["No verifications. `perdure snapshot verify` asks for one."]
    rows = [
        [
            each.id,
            str(each.level),
            each.state,
            age(each.created_at),
            f"{each.faults[0].subject}: {each.faults[0].message}" if each.faults else "",
        ]
        for each in found
    ]
    return columns(["ID", "LEVEL", "STATE", "AGE", "FOUND"], rows)


def verification(found: Verification) -> list[str]:
    """Return one verification, all that is not as it should be, and what else it has to say."""
    lines = pairs(
        [
            ("Verification", found.id),
            ("Snapshot", found.snapshot_id),
            ("Level", str(found.level)),
            ("State", found.state),
            ("Looked at", str(len(found.checks)) if found.state != "running" else None),
            ("Data", None if found.transfer is None else told(found.transfer)),
            ("Environment", found.environment_id),
            ("Operation", found.operation_id),
        ]
    )
    if found.faults:
        lines += ["", *_checks("FOUND", found.faults)]
    if found.notes:
        lines += ["", *_checks("NOTED", found.notes)]
    return lines


def _checks(title: str, checks: Sequence[VerificationCheck]) -> list[str]:
    rows = [[str(each.level), each.subject, each.message] for each in checks]
    return columns(["LEVEL", "SUBJECT", title], rows)


def _verified(found: Snapshot) -> str | None:
    if found.last_verified_at is None:
        return None
    level = "" if found.verified_level is None else f", at best to level {found.verified_level}"
    return f"{age(found.last_verified_at)} ago{level}"


def _left(moment: datetime | None) -> str:
    """Return in how long a snapshot goes; one without an end is kept."""
    if moment is None:
        return "never"
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return f"in {duration(seconds)}" if seconds > 0 else "now"
