"""Settings of the worker process: the only place in `worker` that reads the environment."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from activities.keyring import KeyringInvalidError, load_keyring, parse_keyring
from activities.secrets import MasterKeys
from activities.temporal import PayloadKeys
from activities.version import VERSION

DEV_STATE: Final = Path(".dev")


class Role(StrEnum):
    """What a worker process serves: `control` has the database, `cluster` reaches one cluster."""

    CONTROL = "control"
    CLUSTER = "cluster"


class WorkerSettings(BaseSettings):
    """All settings; each is `PERDURE_` and its name in capitals. The API's of the same name mean the same."""

    model_config = SettingsConfigDict(env_prefix="PERDURE_", frozen=True, extra="ignore")

    environment: str = "dev"
    roles: Annotated[frozenset[Role], NoDecode] = frozenset(Role)
    """`control,cluster` in development; a cluster's own worker is `cluster` only."""
    log_level: str = "INFO"

    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_tls: bool = False
    temporal_api_key: SecretStr | None = None
    payload_keys: SecretStr | None = None
    payload_encryption: bool = False

    # Control
    database_url: str = f"sqlite+aiosqlite:///{DEV_STATE}/perdure.db"
    master_keys: SecretStr | None = None
    master_keys_file: Path | None = None
    seal_public_keys: dict[str, str] = {}
    """By cluster: the public half (base64) under which secret values are sealed for it, as JSON."""
    build_id: str = Field(default=VERSION, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")
    """The version that workflows run as; every roll-out of other code has one of its own."""
    promote: bool = True
    """Whether a control worker that starts makes its version the current one; False: an operator does."""

    # Cluster
    cluster: str = "local"
    cluster_kubeconfig: Path | None = None
    cluster_context: str | None = None
    seal_private_key_file: Path | None = None
    """The private half, which only this cluster's workers have."""
    object_store: str = str(DEV_STATE / "objects")

    # Running
    graceful_shutdown_seconds: int = Field(default=30, ge=0)
    max_concurrent_activities: int = Field(default=400, ge=1)
    max_cached_workflows: int = Field(default=500, ge=0)
    reconcile_every_seconds: int = Field(default=20, ge=1, le=60)
    metrics_address: str | None = None
    """`host:port` of the Temporal client's Prometheus metrics; None: off."""

    @field_validator("roles", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return frozenset(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = []
        if not self.roles:
            faults.append("PERDURE_ROLES is empty: give control, cluster or both")
        if self.payload_encryption and self.payload_keys is None:
            faults.append("PERDURE_PAYLOAD_ENCRYPTION needs PERDURE_PAYLOAD_KEYS")
        production = self.environment != "dev"
        if Role.CONTROL in self.roles and self.master_keys is None and self.master_keys_file is None:
            faults.append("PERDURE_MASTER_KEYS or PERDURE_MASTER_KEYS_FILE is required by the control role")
        if Role.CONTROL in self.roles and not self.seal_public_keys:
            faults.append("PERDURE_SEAL_PUBLIC_KEYS is required by the control role")
        if Role.CLUSTER in self.roles and self.seal_private_key_file is None:
            faults.append("PERDURE_SEAL_PRIVATE_KEY_FILE is required by the cluster role")
        if production and Role.CONTROL in self.roles and self.database_url.startswith("sqlite"):
            faults.append("PERDURE_DATABASE_URL: SQLite is for development; give a Postgres URL")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def open_master_keys(self) -> MasterKeys:
        """The master keys. Raises KeyringInvalidError."""
        if self.master_keys is not None:
            ring = parse_keyring(self.master_keys.get_secret_value())
        elif self.master_keys_file is not None:
            ring = load_keyring(self.master_keys_file, create=False)
        else:
            raise KeyringInvalidError("the control role has no master keys")
        return MasterKeys(current_id=ring.current, keys=ring.keys)

    @property
    def payload_codec(self) -> PayloadKeys | None:
        """The payload keys; None without any. Raises PayloadKeyInvalid."""
        if self.payload_keys is None:
            return None
        return PayloadKeys.parse(self.payload_keys.get_secret_value(), encode=self.payload_encryption)
