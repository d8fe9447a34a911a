"""What a running API holds: built once at start, handed to every request as `request.state.app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Protocol, cast

from fastapi import Depends, Request
from pydantic import JsonValue

from activities.db.engine import Database
from activities.db.repositories.installation import installation_id
from activities.payload_codec import PayloadKeys
from activities.secrets import MasterKeys
from activities.share_links import ShareKeys
from activities.temporal import TemporalServer, TemporalStarter, connect
from api.access.admission import Admission
from api.activity import ActivityLog
from api.auth import KeyCache
from api.clusters import Clusters, OpenedClusters
from api.discover.admission import Fetches
from api.events import DatabaseLog, EventTail
from api.limits import Limits
from api.metrics import Metrics
from api.open_streams import DatabaseKeys, OpenStreams
from api.settings import ApiSettings
from api.shares.guests import Guests
from api.shares.limits import GuestLimits
from api.starts import WorkflowStarts
from api.transfers import Transfers

if TYPE_CHECKING:
    from api.access.metrics import UseReadings
    from api.access.stores import StoreReadings
    from api.access.target import Targets
    from api.access.waking import Wakes
    from api.environments.listed import Listed
    from api.environments.live import LiveStatus
    from api.environments.log_hub import LogHub


STORE_SECONDS: Final = 1.0
"""How long a request waits for an object store that is away."""


class Objects(Protocol):
    """Documents outside the database."""

    async def get_json(self, key: str) -> JsonValue:
        """Return a stored document."""
        ...


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the API stands on. Tests hand in their own; `open_dependencies` makes the real ones."""

    database: Database
    starter: TemporalServer
    clusters: Clusters
    objects: Objects
    master_keys: MasterKeys
    codec: PayloadKeys | None = None


class Installation:
    """Which installation the database belongs to: read once, as it never changes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._id: str | None = None

    async def id(self) -> str:
        """Return its UUID. The first call has a transaction of its own: never call it inside another."""
        if self._id is None:
            async with self._database.transaction() as session:
                found = await installation_id(session)
            self._id = found
        return self._id


@dataclass(frozen=True, slots=True)
class AppState:
    """Dependencies, and what this process keeps beside them."""

    settings: ApiSettings
    database: Database
    starter: TemporalServer
    starts: WorkflowStarts
    transfers: Transfers
    clusters: Clusters
    objects: Objects
    master_keys: MasterKeys
    codec: PayloadKeys | None
    keys: KeyCache
    limits: Limits
    tail: EventTail
    streams: OpenStreams
    log_hub: LogHub
    metrics: Metrics
    listed: Listed
    live: LiveStatus
    installation: Installation
    guests: Guests
    activity: ActivityLog
    access: Admission
    targets: Targets
    wakes: Wakes
    stores: StoreReadings
    uses: UseReadings
    fetches: Fetches


@asynccontextmanager
async def open_dependencies(settings: ApiSettings) -> AsyncIterator[Dependencies]:
    """Open what the settings name. Nothing is connected yet: each part is asked at its first use."""
    # Late: only a process that serves needs the object store.
    from activities.storage.objects import ObjectStore  # noqa: PLC0415

    codec = settings.payload_codec
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.dispose)
        clusters = OpenedClusters(settings.all_clusters)
        stack.push_async_callback(clusters.close)
        client = await connect(
            settings.temporal_address,
            settings.temporal_namespace,
            codec=codec,
            lazy=True,
            identity="perdure-api",
            tls=settings.temporal_tls,
            api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        )
        yield Dependencies(
            database=database,
            starter=TemporalStarter(client),
            clusters=clusters,
            # Workers make it; and who asks the API is not kept waiting while it is away.
            objects=ObjectStore(settings.object_store, make=False, patience=STORE_SECONDS),
            master_keys=settings.open_master_keys(),
            codec=codec,
        )


@asynccontextmanager
async def running(
    settings: ApiSettings, dependencies: Dependencies, metrics: Metrics
) -> AsyncIterator[AppState]:
    """Build the state on its dependencies; streams end when the context does."""
    # They stand on this module's types.
    from api.access.metrics import UseReadings  # noqa: PLC0415
    from api.access.stores import StoreReadings  # noqa: PLC0415
    from api.access.target import Targets  # noqa: PLC0415
    from api.access.waking import Wakes  # noqa: PLC0415
    from api.environments.listed import Listed  # noqa: PLC0415
    from api.environments.live import LiveStatus  # noqa: PLC0415
    from api.environments.log_hub import LogHub  # noqa: PLC0415

    activity = ActivityLog(dependencies.database)
    tail = EventTail(DatabaseLog(dependencies.database))
    streams = OpenStreams(DatabaseKeys(dependencies.database), limit=settings.streams_per_key)
    log_hub = LogHub(dependencies.database, dependencies.clusters, dependencies.master_keys)
    wakes = Wakes()
    starts = WorkflowStarts(dependencies.starter, metrics, lambda: dependencies.database.writers)
    transfers = Transfers(dependencies.starter)
    async with starts.running(), activity.running():
        try:
            yield AppState(
                settings=settings,
                database=dependencies.database,
                starter=dependencies.starter,
                starts=starts,
                transfers=transfers,
                clusters=dependencies.clusters,
                objects=dependencies.objects,
                master_keys=dependencies.master_keys,
                codec=dependencies.codec,
                keys=KeyCache(dependencies.database, settings.auth_cache_seconds),
                limits=Limits(settings.requests_per_minute, settings.wrong_keys_per_minute),
                tail=tail,
                streams=streams,
                log_hub=log_hub,
                metrics=metrics,
                installation=Installation(dependencies.database),
                guests=Guests(
                    dependencies.database,
                    ShareKeys(dependencies.master_keys),
                    GuestLimits(settings.share_requests_per_minute),
                ),
                listed=Listed(),
                live=LiveStatus(settings, dependencies.database, dependencies.clusters),
                activity=activity,
                access=Admission(settings.access_at_once),
                targets=Targets(),
                wakes=wakes,
                stores=StoreReadings(),
                uses=UseReadings(),
                fetches=Fetches(settings.discover_at_once),
            )
        finally:
            await streams.close()
            await wakes.close()
            await tail.close()
            await log_hub.close()
            await transfers.close()


async def app_state(request: Request) -> AppState:
    """Return the state of the application that serves this request.

    A coroutine: FastAPI calls plain functions in a thread, on each request.
    """
    return cast(AppState, request.state.app)


State = Annotated[AppState, Depends(app_state)]
