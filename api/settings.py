"""Settings of the API process: the only place in `api` that reads the environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, IPvAnyNetwork, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from activities.secrets import MasterKeys
from activities.settings import DEV_STATE, AcceptingSettings, Environment
from workflows.domain.cost import RateCard


class ApiSettings(AcceptingSettings, BaseSettings):
    """All settings; each is `PERDURE_` and its name in capitals: `PERDURE_DATABASE_URL`."""

    model_config = SettingsConfigDict(
        env_prefix="PERDURE_", frozen=True, extra="ignore", validate_default=False
    )

    # Serving
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64, description="Processes behind the port")
    body_limit_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    head_seconds: float = Field(default=15.0, gt=0, description="For the head of a request to arrive")
    body_seconds: float = Field(default=60.0, gt=0, description="For the whole body of a request to arrive")
    trusted_proxies: str = ""
    """Addresses or networks whose X-Forwarded-For names the client, comma-separated; empty: nobody's."""
    shutdown_seconds: int = Field(default=30, ge=1, description="For requests in flight when told to stop")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of browsers that may call the API, comma-separated; the Temporal UI's is added."""
    temporal_ui_url: str = "http://127.0.0.1:8233"

    public_url: str | None = None
    """How people reach this API from outside, for share links; absent: as the request that makes one did."""

    # Share links
    share_default_seconds: int = Field(default=7 * 86_400, ge=60)
    share_longest_seconds: int = Field(default=90 * 86_400, ge=60)
    share_requests_per_minute: int = Field(default=120, ge=1, description="Of one address through one link")
    share_refresh_seconds: int = Field(default=10, ge=1, description="How often an open page looks again")

    # Rate limits, in each process; 0: none
    requests_per_minute: int = Field(default=100, ge=0, description="Of a key that is not `unlimited`")
    wrong_keys_per_minute: int = Field(default=60, ge=0, description="From one address")

    # Revisions
    keep_revisions: int = Field(default=50, ge=2, description="Of each environment, beside named ones")
    # Access to services
    access_at_once: int = Field(
        default=256, ge=1, description="Proxied requests, tunnels and commands of one process"
    )
    proxy_answer_seconds: float = Field(
        default=60.0, gt=0, description="Until an application's answer begins"
    )
    proxy_idle_seconds: float = Field(default=300.0, gt=0, description="Between two parts of an answer")
    proxy_total_seconds: float = Field(
        default=3_600.0, gt=0, description="One proxied request, or one tunnel"
    )
    proxy_response_bytes: int = Field(default=1024**3, ge=1, description="Largest proxied answer")
    wake_hold_seconds: float = Field(
        default=25.0,
        ge=0,
        description="A request waits for a service that it woke; 0: it is answered 503 at once",
    )
    rate_card: RateCard = RateCard()
    """What resources cost, for estimates: JSON with `currency`, `cpu_core_hour`, `memory_gib_hour`,
    `storage_gib_month`."""

    # Discovery of repositories by URL
    discover_at_once: int = Field(
        default=2, ge=0, le=64, description="Repositories that one process fetches at once; 0: none ever"
    )
    discover_seconds: float = Field(default=60.0, gt=0, description="For one repository to be fetched")
    discover_bytes: int = Field(default=100 * 1024**2, ge=1024**2, description="Of one commit, packed")
    discover_http: bool = False
    """Whether repositories are read over plain http too."""
    discover_allowed_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    """Networks that are not public and may be fetched from all the same, comma-separated."""
    discover_refused_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    """Public networks that may not be, such as those of a cluster's pods and services."""

    # Streams
    streams_per_key: int = Field(default=256, ge=1, description="Open at once in each API process")

    # Caches, in seconds
    auth_cache_seconds: float = Field(default=3.0, ge=0, le=30)
    status_cache_seconds: float = Field(default=2.0, ge=0, le=30)

    @field_validator("cors_origins", "discover_allowed_networks", "discover_refused_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def faults(self) -> list[str]:
        """Everything that does not go together."""
        faults = super().faults()
        if self.environment is not Environment.DEV and not self.has_master_keys:
            faults.append("outside development PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE is required")
        if self.share_default_seconds > self.share_longest_seconds:
            faults.append("PERDURE_SHARE_DEFAULT_SECONDS is above PERDURE_SHARE_LONGEST_SECONDS")
        if self.workers > 1 and self.database_url.startswith("sqlite"):
            faults.append("SQLite serves one process: PERDURE_WORKERS above 1 needs Postgres")
        return faults

    def open_master_keys(self) -> MasterKeys:
        """The master keys; in development a key file is made if need be. Raises KeyringInvalidError."""
        file = self.master_keys_file or DEV_STATE / "master-keys"
        return self.read_master_keys(file, create=self.environment is Environment.DEV)
