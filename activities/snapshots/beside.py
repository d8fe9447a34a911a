"""What lies in the store beside a snapshot's data: a copy of its manifest, and nothing else.

The copy is for whoever has the store and no database any more. Objects of an attempt that was given up are no
damage: each attempt writes below a name of its own, drawn by lot, and the manifest names the one that counts.
They were removed before the manifest was written; what lies there later comes from a worker that stood still
meanwhile, and takes it away itself when it finds out, or dies. What lies elsewhere was put there by others.
"""

import json
import re
from typing import Final

from pydantic import JsonValue, ValidationError

from activities.snapshots.stored import archive_of
from activities.storage.objects import ObjectNotFound, ObjectStore
from workflows.domain.snapshot_manifest import (
    SnapshotManifest,
    manifest_key,
    owner_key,
    snapshot_prefix,
)
from workflows.domain.verification import Check, VerifyLevel

MANIFEST: Final = "manifest.json"
OTHERS: Final = "other objects"
"""What the two checks are of."""
_MOST_BYTES: Final = 64 * 1024 * 1024
_NAMED: Final = 5
_OF_AN_ATTEMPT: Final = re.compile(r"[^/]+/[^/]+/[0-9a-f]{16}/[0-9]{8}")
"""Below a snapshot: service, stream, what was drawn for the attempt, and the number of the object."""


async def checks(objects: ObjectStore, manifest: SnapshotManifest) -> tuple[Check, ...]:
    """Look at both, by the manifest that the database has. Raises StoreUnavailable."""
    copy = await _copy_fault(objects, manifest)
    fault, remark = await _others(objects, manifest)
    return (
        Check(level=VerifyLevel.STORED, subject=MANIFEST, ok=not copy, message=copy),
        Check(level=VerifyLevel.STORED, subject=OTHERS, ok=not fault, message=fault or remark),
    )


async def _copy_fault(objects: ObjectStore, manifest: SnapshotManifest) -> str:
    """Say what is wrong with the copy of the manifest; empty: nothing."""
    key = manifest_key(manifest.organization_id, manifest.snapshot_id)
    try:
        if (await objects.head(key)).size > _MOST_BYTES:
            return "it is not what was written: it is far too large"
        content = await objects.get_bytes(key)
    except ObjectNotFound:
        return "it is missing"
    try:
        found = SnapshotManifest.model_validate(json.loads(content))
    except ValidationError:
        return "it is no manifest"
    except (ValueError, RecursionError):
        return "it is no JSON document"
    expected, there = _comparable(manifest), _comparable(found)
    differing = [name for name in sorted({*expected, *there}) if expected.get(name) != there.get(name)]
    return f"it differs from what the database has in {', '.join(differing)}" if differing else ""


def _comparable(manifest: SnapshotManifest) -> dict[str, JsonValue]:
    # An older version may have written it, without fields that have come since.
    document: dict[str, JsonValue] = manifest.model_dump(mode="json", exclude_defaults=True)
    return document


async def _others(objects: ObjectStore, manifest: SnapshotManifest) -> tuple[str, str]:
    """Say which objects are none of the snapshot, and how many of attempts that were given up."""
    whole = snapshot_prefix(manifest.organization_id, manifest.snapshot_id)
    documents = {
        manifest_key(manifest.organization_id, manifest.snapshot_id),
        owner_key(manifest.organization_id, manifest.snapshot_id),
    }
    streams = {
        part.prefix: archive_of(part).stream.parts for each in manifest.components for part in each.parts
    }
    given_up, others, named = 0, 0, list[str]()
    async for found in objects.objects_below(whole):
        prefix, _, number = found.key.rpartition("/")
        if found.key in documents or (prefix in streams and _is_part(number, streams[prefix])):
            continue
        name = found.key.removeprefix(f"{whole}/")
        if prefix not in streams and _OF_AN_ATTEMPT.fullmatch(name):
            given_up += 1
            continue
        others += 1
        if len(named) < _NAMED:
            named.append(name)
    remark = (
        f"{given_up} objects of attempts that were given up; they are none of the snapshot's, and go with it"
        if given_up
        else ""
    )
    more = f" and {others - _NAMED} more" if others > _NAMED else ""
    fault = f"the manifest does not name {', '.join(sorted(named))}{more}" if others else ""
    return fault, remark


def _is_part(number: str, parts: int) -> bool:
    return len(number) == 8 and number.isdecimal() and int(number) < parts
