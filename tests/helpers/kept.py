"""Components that were really sealed into a store, as a capture does it, for tests without a cluster."""

import base64
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from temporalio.testing import ActivityEnvironment

from activities.secrets import DataKey, Opener, Sealer, new_private_key
from activities.snapshots import frames
from activities.snapshots.archive import seal_into
from activities.snapshots.frames import ComponentKey
from activities.snapshots.stored import part_of
from activities.storage.objects import ObjectStore
from tests.helpers.attempts import handed_out
from workflows.domain.snapshot_manifest import StoredComponent, StoredPart, stream_name

SNAPSHOT: Final = "snap_1"
DATA_KEY: Final = DataKey(id="key_1", organization_id="org_1", key=bytes(range(32)))
OPENER: Final = Opener(new_private_key())


@dataclass
class Kept:
    """A component in a store, and the keys of its streams by their prefixes."""

    directory: Path
    component: StoredComponent
    keys: dict[str, str]
    beats: list[object] = field(default_factory=list)
    """What was told with heartbeats."""

    def attempt(self) -> ActivityEnvironment:
        """An attempt at an activity, whose heartbeats are kept."""
        environment = handed_out()
        environment.on_heartbeat = lambda *details: self.beats.extend(details)
        return environment


def sealed(key: bytes) -> str:
    """A key as the cluster's worker gets it."""
    return Sealer(OPENER.public_key).seal(base64.b64encode(key).decode())


async def seal_part(
    directory: Path, service: str, key: str, subject: str, source: AsyncIterator[bytes]
) -> tuple[StoredPart, str]:
    """Store a stream of a service; return what is known of it, but for facts, and its key, sealed."""
    stream = stream_name(service, key, 0)
    component = frames.Component(SNAPSHOT, stream)
    # As in a capture, all streams of a service have their keys from one.
    stream_key = ComponentKey.new(DATA_KEY, component).stream_key()
    stored = await seal_into(
        ObjectStore(str(directory)),
        f"snapshots/org_1/{SNAPSHOT}/{stream}/{secrets.token_hex(4)}",
        source,
        key=stream_key,
        component=component,
    )
    return part_of(stored, stream_key, of=key, subject=subject), sealed(stream_key.key)
