"""A snapshot as it is written down: what was taken, how far it can be trusted, and where its bytes lie."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from workflows.domain.blueprint_models import DataStore
from workflows.domain.environment import Overrides
from workflows.domain.failures import WireModel
from workflows.domain.masking import MaskingRules
from workflows.domain.snapshot import Consistency, Engine, Scope
from workflows.domain.snapshot_facts import Facts, Format, Kind

MANIFEST_VERSION: Final = 1
SNAPSHOTS: Final = "snapshots"
"""Below which all of them lie."""
_DATA: Final = frozenset({Kind.TABLES, Kind.SEQUENCES, Kind.LARGE_OBJECTS})


class SnapshotState(StrEnum):
    """Where a snapshot stands. Only one that is available has a manifest that may be relied on."""

    CREATING = "creating"
    AVAILABLE = "available"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class StoredPart(WireModel):
    """One sealed stream of a component: where it lies, and what it is before and after sealing."""

    key: str
    """Its name in the component; for an engine's own use, and what it is sealed for."""
    subject: str
    """What it is of: a database, the path of a volume."""
    ordinal: int = 0
    """Which pod of the service it is of: each pod of a StatefulSet has volumes of its own."""
    prefix: str
    """Its objects are `<prefix>/00000000` and so on."""
    part_bytes: int
    """Size of each object but the last."""
    header: str
    """Base64 of the stream's header, which holds its wrapped key."""
    plain_bytes: int
    plain_sha256: str
    stored_bytes: int
    stored_sha256: str
    facts: Facts | None = None
    """What it holds, read as it went by; by these a restore is proved."""

    @property
    def has_data(self) -> bool:
        """Whether it may hold more than a server's accounts and an empty database."""
        facts = self.facts
        if facts is None or facts.unread:
            return True
        match facts.format:
            case Format.POSTGRES_GLOBALS | Format.MARIADB_USERS:
                return False
            case Format.POSTGRES:
                return any(tally.kind in _DATA for tally in facts.tallies)
            case _:
                return True


class StoredVolume(WireModel):
    """A volume that its own storage keeps a snapshot of; no byte of it goes through a worker."""

    volume: str
    """Its name in the Blueprint."""
    ordinal: int = 0
    """Which pod of the service it is of."""
    driver: str
    handle: str
    """What the driver calls the snapshot."""
    content: str
    """Name of the VolumeSnapshotContent: it outlives the environment, and a deletion begins with it."""
    group_content: str | None = None
    """Name of the VolumeGroupSnapshotContent that it was made with."""
    snapshot_class: str | None = None
    volume_mode: str | None = None
    restore_bytes: int | None = None
    """Least size of a volume that is made from it, where the driver says so."""
    captured_at: datetime | None = None
    """When it was cut, by the storage's clock."""


class StoredComponent(WireModel):
    """A service as it was captured."""

    service: str
    store: DataStore | None = None
    engine: Engine
    consistency: Consistency
    window: int | None = None
    """Number of the quiesce window in which its point was fixed."""
    quiesced: bool = False
    captured_at: datetime | None = None
    """When its point was fixed, by the worker's clock."""
    parts: tuple[StoredPart, ...] = ()
    volumes: tuple[StoredVolume, ...] = ()
    """Without parts: what the storage keeps."""
    instead_of: Engine | None = None
    """What had been chosen, and could not be done; `because`: why, in the storage's words."""
    because: str = ""

    @property
    def points(self) -> int:
        """At how many moments its data were taken, where nothing held them still.

        Each volume that the storage cuts by itself has its own, and each stream. Of a server's streams only
        those count that hold rows: roles and users are none, nor is what every PostgreSQL has (`postgres`).
        """
        if self.engine is Engine.CSI_GROUP:
            return 1
        return len(self.volumes) + sum(part.has_data for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """Bytes of it in the store."""
        return sum(part.stored_bytes for part in self.parts)

    @property
    def plain_bytes(self) -> int:
        """Bytes of it before compression and encryption."""
        return sum(part.plain_bytes for part in self.parts)


class SnapshotManifest(WireModel):
    """All of a snapshot but its bytes and secrets; written last, and only when everything else is there."""

    version: int = MANIFEST_VERSION
    snapshot_id: str
    organization_id: str
    environment_id: str
    environment_name: str
    revision: int
    blueprint: dict[str, JsonValue]
    overrides: Overrides = Overrides()
    images: dict[str, str] = {}
    """By service: the image that ran, by digest, where the cluster said so."""
    consistency: Consistency
    scope: Scope
    components: tuple[StoredComponent, ...]

    @property
    def volumes(self) -> tuple[StoredVolume, ...]:
        """All that the cluster's storage keeps of it."""
        return tuple(volume for each in self.components for volume in each.volumes)

    def component(self, service: str) -> StoredComponent:
        """Return what is kept of a service. Raises KeyError."""
        return {each.service: each for each in self.components}[service]

    @property
    def stored_bytes(self) -> int:
        """Bytes of the whole in the store, this document not counted."""
        return sum(each.stored_bytes for each in self.components)

    @property
    def plain_bytes(self) -> int:
        """Bytes of the whole before compression and encryption."""
        return sum(each.plain_bytes for each in self.components)


class SnapshotRun(WireModel):
    """What an operation does with a snapshot: takes it under these conditions, or loads it."""

    snapshot_id: str
    floor: Consistency | None = None
    """Taking only: the least consistency that is of use."""
    masking: MaskingRules | None = None
    """Loading only: what is hidden on the way."""
    prove: bool = False
    """Loading only: what was loaded is dumped again before anything else starts, and has to be the same."""
    init: bool = False
    """Loading only: the init of a service whose data were loaded is run over them, whether it ever ran."""

    @property
    def masked(self) -> Collection[str]:
        """The services of whose data something is hidden."""
        return () if self.masking is None else self.masking.services


def snapshot_prefix(organization_id: str, snapshot_id: str) -> str:
    """Where all objects of a snapshot lie."""
    return f"{SNAPSHOTS}/{organization_id}/{snapshot_id}"


def owner_key(organization_id: str, snapshot_id: str) -> str:
    """Where it is written which installation stores a snapshot, first of all: `owner_document`."""
    return f"{snapshot_prefix(organization_id, snapshot_id)}/installation.json"


def owner_document(installation_id: str) -> dict[str, JsonValue]:
    """What is written there."""
    return {"installation": installation_id}


def manifest_key(organization_id: str, snapshot_id: str) -> str:
    """Where the store's copy of the manifest lies."""
    return f"{snapshot_prefix(organization_id, snapshot_id)}/manifest.json"


def stream_name(service: str, key: str, ordinal: int) -> str:
    """The name of one stream in a snapshot; it is sealed for that, and lies below it."""
    return f"{service}/{ordinal}-{key}" if ordinal else f"{service}/{key}"
