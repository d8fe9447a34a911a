"""Snapshots as the API answers them, as far as the command line looks at them; see `models`."""

from datetime import datetime

from cli.models import ApiModel


class SnapshotComponent(ApiModel):
    """A service in a snapshot; `store` is absent when it keeps no data."""

    service: str
    store: str | None = None
    engine: str = ""
    consistency: str = ""
    quiesced: bool = False
    captured_at: datetime | None = None
    plain_bytes: int = 0
    stored_bytes: int = 0


class Snapshot(ApiModel):
    """What an environment was at one time. `components` are absent in lists."""

    id: str
    name: str = ""
    state: str
    environment_id: str = ""
    environment_name: str = ""
    operation_id: str = ""
    revision: int | None = None
    consistency: str | None = None
    scope: str | None = None
    plain_bytes: int = 0
    stored_bytes: int = 0
    created_by: str = ""
    created_at: datetime | None = None
    published_at: datetime | None = None
    expires_at: datetime | None = None
    last_verified_at: datetime | None = None
    components: tuple[SnapshotComponent, ...] = ()
