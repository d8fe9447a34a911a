"""Settings of the API process: the only place in `api` that reads the environment."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from activities.keyring import load_keyring, parse_keyring
from activities.secrets import MasterKeys
from activities.temporal import PayloadKeys

DEV_STATE: Final = Path(".dev")
"""Where `make dev` keeps its database, objects and keys."""


class Environment(StrEnum):
    """Where the process runs: decides which conveniences are allowed."""

    DEV = "dev"
    PRODUCTION = "production"


class ClusterSettings(BaseModel):
    """How one cluster is reached; without a kubeconfig, by the service account of the pod."""

    model_config = ConfigDict(frozen=True)

    kubeconfig: Path | None = None
    context: str | None = None


class ApiSettings(BaseSettings):
    """All settings; each is `PERDURE_` and its name in capitals: `PERDURE_DATABASE_URL`."""

    model_config = SettingsConfigDict(
        env_prefix="PERDURE_", frozen=True, extra="ignore", validate_default=False
    )

    environment: Environment = Environment.DEV
    log_level: str = "INFO"

    # Serving
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64, description="Processes behind the port")
    body_limit_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    shutdown_seconds: int = Field(default=30, ge=1, description="For requests in flight when told to stop")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of browsers that may call the API, comma-separated; the Temporal UI's is added."""

    # State
    database_url: str = f"sqlite+aiosqlite:///{DEV_STATE}/perdure.db"
    object_store: str = str(DEV_STATE / "objects")
    """A directory, or `s3://bucket/prefix`."""
    master_keys: SecretStr | None = None
    """`id:base64,...` of 32 bytes each, the first one current: they wrap the organisations' data keys."""
    master_keys_file: Path | None = None
    """The same in a file; in development it is made when it is missing."""

    # Temporal
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_tls: bool = False
    temporal_api_key: SecretStr | None = None
    temporal_ui_url: str = "http://127.0.0.1:8233"
    payload_keys: SecretStr | None = None
    """`id:base64,...` of 32 bytes each, the first one current: they open encrypted payloads."""
    payload_encryption: bool = False
    """Whether new payloads are encrypted; decoding is on whenever there are keys."""

    # Clusters
    cluster: str = "local"
    """The cluster that new environments go to."""
    cluster_kubeconfig: Path | None = None
    cluster_context: str | None = None
    clusters: dict[str, ClusterSettings] = {}
    """More than one: JSON of name to `{"kubeconfig": ..., "context": ...}`; has to hold `cluster`."""

    # Guard rails of new environments
    ingress_class: str | None = None
    ingress_namespace: str | None = None
    base_domain: str = "perdure.localhost"

    # Caches, in seconds
    auth_cache_seconds: float = Field(default=3.0, ge=0, le=30)
    status_cache_seconds: float = Field(default=2.0, ge=0, le=30)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.clusters and self.cluster not in self.clusters:
            raise ValueError(f"PERDURE_CLUSTERS does not hold PERDURE_CLUSTER ({self.cluster})")
        if self.payload_encryption and self.payload_keys is None:
            raise ValueError("PERDURE_PAYLOAD_ENCRYPTION needs PERDURE_PAYLOAD_KEYS")
        if (
            self.environment is not Environment.DEV
            and self.master_keys is None
            and self.master_keys_file is None
        ):
            raise ValueError(
                "outside development PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE is required"
            )
        if self.workers > 1 and self.database_url.startswith("sqlite"):
            raise ValueError("SQLite serves one process: PERDURE_WORKERS above 1 needs Postgres")
        return self

    @property
    def all_clusters(self) -> dict[str, ClusterSettings]:
        """Every cluster by name; the simple settings make one."""
        if self.clusters:
            return dict(self.clusters)
        return {
            self.cluster: ClusterSettings(kubeconfig=self.cluster_kubeconfig, context=self.cluster_context)
        }

    @property
    def payload_codec(self) -> PayloadKeys | None:
        """The payload keys; None without any. Raises KeyringInvalidError."""
        if self.payload_keys is None:
            return None
        return PayloadKeys.parse(self.payload_keys.get_secret_value(), encode=self.payload_encryption)

    def open_master_keys(self) -> MasterKeys:
        """The master keys; in development a key file is made if need be. Raises KeyringInvalidError."""
        if self.master_keys is not None:
            ring = parse_keyring(self.master_keys.get_secret_value())
        else:
            path = self.master_keys_file or DEV_STATE / "master-keys"
            ring = load_keyring(path, create=self.environment is Environment.DEV)
        return MasterKeys(current_id=ring.current, keys=ring.keys)
