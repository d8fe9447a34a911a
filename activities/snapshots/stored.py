"""A stored part: written down, and opened for whoever loads it or looks whether it is what it says."""

import base64
from collections.abc import AsyncGenerator

from activities.secrets import Opener
from activities.snapshots import frames
from activities.snapshots.archive import Archive, opened
from activities.snapshots.frames import FileKey
from activities.snapshots.meter import Meter
from activities.snapshots.sealing import Digests
from activities.storage.objects import ObjectStore
from activities.storage.streams import StoredStream
from workflows.contracts.snapshot import Loadable
from workflows.domain.snapshot_facts import Facts
from workflows.domain.snapshot_manifest import StoredPart, stream_name


def archive_of(part: StoredPart) -> Archive:
    """Return a stored part as the streams know it."""
    return Archive(
        StoredStream(part.prefix, part.stored_bytes, part.part_bytes),
        Digests(
            plain_bytes=part.plain_bytes,
            plain_sha256=part.plain_sha256,
            stored_bytes=part.stored_bytes,
            stored_sha256=part.stored_sha256,
        ),
    )


def part_of(
    archive: Archive, key: FileKey, *, of: str, subject: str, ordinal: int = 0, facts: Facts | None = None
) -> StoredPart:
    """Write down what the streams know of a stored part; `of`: the key of the part, `key`: its stream's."""
    return StoredPart(
        key=of,
        subject=subject,
        ordinal=ordinal,
        prefix=archive.stream.prefix,
        part_bytes=archive.stream.part_bytes,
        header=base64.b64encode(key.header).decode(),
        plain_bytes=archive.digests.plain_bytes,
        plain_sha256=archive.digests.plain_sha256,
        stored_bytes=archive.digests.stored_bytes,
        stored_sha256=archive.digests.stored_sha256,
        facts=facts,
    )


def content_of(
    objects: ObjectStore,
    opener: Opener,
    snapshot_id: str,
    stored: Loadable,
    part: StoredPart,
    *,
    meter: Meter,
) -> AsyncGenerator[bytes]:
    """Yield a part's content as it was captured, counted as the next stream.

    `part` is one of those of `stored`. Raises what `archive.opened` raises, and LeaseLost.
    """
    service = stored.component.service
    name = stream_name(service, part.key, part.ordinal)
    key = FileKey(base64.b64decode(opener.open(stored.keys[part.prefix])), base64.b64decode(part.header))
    return opened(
        objects,
        archive_of(part),
        key=key,
        component=frames.Component(snapshot_id, name),
        progress=meter.stream(service, name),
    )
