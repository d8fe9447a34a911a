"""Settings of the worker process: the only place in `worker` that reads the environment."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from activities.secrets import MasterKeys
from activities.settings import Environment, SharedSettings
from activities.version import VERSION


class Role(StrEnum):
    """What a worker process serves: `control` has the database, `cluster` reaches one cluster."""

    CONTROL = "control"
    CLUSTER = "cluster"


class WorkerSettings(SharedSettings, BaseSettings):
    """All settings; each is `PERDURE_` and its name in capitals. The API's of the same name mean the same."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", frozen=True, extra="ignore")

    roles: Annotated[frozenset[Role], NoDecode] = frozenset(Role)
    """`control,cluster` in development; a cluster's own worker is `cluster` only."""

    # Sealing
    seal_public_keys: dict[str, str] = {}
    """By cluster: the public half (base64) under which secret values are sealed for it, as JSON."""

    # Version
    build_id: str = Field(default=VERSION, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")
    """The version that workflows run as; every roll-out of other code has one of its own."""
    promote: bool = True
    """Whether a control worker that starts makes its version the current one; False: an operator does."""

    # Cluster
    seal_private_key_file: Path | None = None
    """The private half, which only this cluster's workers have."""

    # Running
    graceful_shutdown_seconds: int = Field(default=30, ge=0)
    max_concurrent_activities: int = Field(default=400, ge=1)
    max_cached_workflows: int = Field(default=500, ge=0)
    reconcile_every_seconds: int = Field(default=20, ge=1, le=60)
    sweep_every_seconds: int = Field(default=60, ge=1, le=3600)
    keep_events_days: float = Field(default=30, gt=0)
    keep_operations_days: float = Field(default=90, gt=0)
    """Of operations that have ended; an environment's last one is always kept."""
    metrics_address: str | None = None
    """`host:port` of the Temporal client's Prometheus metrics; None: off."""

    @field_validator("roles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    def faults(self) -> list[str]:
        """Everything that does not go together."""
        faults = super().faults()
        if self.keep_operations_days < self.keep_events_days:
            faults.append("PERDURE_KEEP_OPERATIONS_DAYS has to be at least PERDURE_KEEP_EVENTS_DAYS")
        if not self.roles:
            faults.append("PERDURE_ROLES is empty: give control, cluster or both")
        if Role.CONTROL in self.roles and not self.has_master_keys:
            faults.append("PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE is required by the control role")
        if Role.CONTROL in self.roles and not self.seal_public_keys:
            faults.append("PERDURE_SEAL_PUBLIC_KEYS is required by the control role")
        if Role.CLUSTER in self.roles and self.seal_private_key_file is None:
            faults.append("PERDURE_SEAL_PRIVATE_KEY_FILE is required by the cluster role")
        production = self.environment is not Environment.DEV
        if production and Role.CONTROL in self.roles and self.database_url.startswith("sqlite"):
            faults.append("PERDURE_DATABASE_URL: SQLite is for development; give a Postgres URL")
        return faults

    def open_master_keys(self) -> MasterKeys:
        """The master keys. Raises KeyringInvalidError."""
        return self.read_master_keys(self.master_keys_file, create=False)
