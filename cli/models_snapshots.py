"""Snapshots as the API answers them, as far as the command line looks at them; see `models`."""

from datetime import datetime

from cli.models import ApiModel, Transfer


class SnapshotComponent(ApiModel):
    """A service in a snapshot; `store` is absent when it keeps no data."""

    service: str
    store: str | None = None
    engine: str = ""
    consistency: str = ""
    quiesced: bool = False
    captured_at: datetime | None = None
    instead_of: str | None = None
    because: str | None = None
    plain_bytes: int = 0
    stored_bytes: int = 0


class SnapshotPolicy(ApiModel):
    """By what an environment is taken a snapshot of."""

    every_minutes: int
    keep_last: int | None = None
    expires_in_days: int | None = None
    consistency_floor: str | None = None
    verify_level: int | None = None
    verify_every_hours: int | None = None
    paused: bool = False
    next_at: datetime | None = None
    last_at: datetime | None = None
    last_result: str = ""
    last_result_at: datetime | None = None
    last_snapshot_id: str | None = None
    last_snapshot_state: str | None = None


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
    verified_level: int | None = None
    standing: str | None = None
    components: tuple[SnapshotComponent, ...] = ()


class VerificationCheck(ApiModel):
    """One thing that was looked at."""

    level: int
    subject: str
    ok: bool
    message: str = ""


class Verification(ApiModel):
    """A look at whether a snapshot is what it says. `checks` are there at its end."""

    id: str
    snapshot_id: str = ""
    level: int = 0
    state: str
    checks: tuple[VerificationCheck, ...] = ()
    environment_id: str | None = None
    operation_id: str | None = None
    transfer: Transfer | None = None
    requested_by: str = ""
    created_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def notes(self) -> tuple[VerificationCheck, ...]:
        """The checks that are as they should be, and have something to say all the same."""
        return tuple(check for check in self.checks if check.ok and check.message)

    @property
    def faults(self) -> tuple[VerificationCheck, ...]:
        """What is not as it should be."""
        return tuple(each for each in self.checks if not each.ok)
