"""What API and worker are told alike, each by its own settings. Nothing here reads the environment."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from activities.keyring import KeyringInvalidError, load_keyring, parse_keyring
from activities.payload_codec import PayloadKeys
from activities.secrets import MasterKeys
from workflows.domain.environment import MIRROR_IMAGE, GuardRails

DEV_STATE: Final = Path(".dev")
"""Where `make dev` keeps its database, objects and keys."""


class Environment(StrEnum):
    """Where a process runs: decides which conveniences are allowed."""

    DEV = "dev"
    PRODUCTION = "production"


class ClusterSettings(BaseModel):
    """How one cluster is reached; without a kubeconfig, by the service account of the pod."""

    model_config = ConfigDict(frozen=True)

    kubeconfig: Path | None = None
    context: str | None = None


class SharedSettings(BaseModel):
    """Fields and checks that `ApiSettings` and `WorkerSettings` have in common: one name, one meaning."""

    environment: Environment = Environment.DEV
    log_level: str = "INFO"

    # State
    database_url: str = f"sqlite+aiosqlite:///{DEV_STATE}/perdure.db"
    object_store: str = str(DEV_STATE / "objects")
    """A directory, or `s3://bucket/prefix`."""
    master_keys: SecretStr | None = None
    """`id:base64,...` of 32 bytes each, the first one current: they wrap the organisations' data keys."""
    master_keys_file: Path | None = None
    """The same in a file; in development the API makes it when it is missing."""

    # Temporal
    temporal_address: str = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    temporal_tls: bool = False
    temporal_api_key: SecretStr | None = None
    payload_keys: SecretStr | None = None
    """`id:base64,...` of 32 bytes each, the first one current: they open encrypted payloads."""
    payload_encryption: bool = False
    """Whether new payloads are encrypted; decoding is on whenever there are keys."""

    # The cluster that is served, or that new environments go to
    cluster: str = "local"
    cluster_kubeconfig: Path | None = None
    cluster_context: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = self.faults()
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def faults(self) -> list[str]:
        """Everything that does not go together, by the names of the settings; subclasses add theirs."""
        if self.payload_encryption and self.payload_keys is None:
            return ["PERDURE_PAYLOAD_ENCRYPTION needs PERDURE_PAYLOAD_KEYS"]
        return []

    @property
    def has_master_keys(self) -> bool:
        """Whether it was said where the master keys are."""
        return self.master_keys is not None or self.master_keys_file is not None

    @property
    def payload_codec(self) -> PayloadKeys | None:
        """The payload keys; None without any. Raises KeyringInvalidError."""
        if self.payload_keys is None:
            return None
        return PayloadKeys.parse(self.payload_keys.get_secret_value(), encode=self.payload_encryption)

    def read_master_keys(self, file: Path | None, *, create: bool) -> MasterKeys:
        """The master keys as they were given, else those in `file`, which `create` makes when it is missing.

        Raises KeyringInvalidError, without either too.
        """
        if self.master_keys is not None:
            ring = parse_keyring(self.master_keys.get_secret_value())
        elif file is not None:
            ring = load_keyring(file, create=create)
        else:
            raise KeyringInvalidError("there are no master keys")
        return MasterKeys(current_id=ring.current, keys=ring.keys)


class AcceptingSettings(SharedSettings):
    """Of processes that accept environments, and reach every cluster themselves."""

    clusters: dict[str, ClusterSettings] = {}
    """More than one: JSON of name to `{"kubeconfig": ..., "context": ...}`; has to hold `cluster`."""

    # Guard rails of new environments
    ingress_class: str | None = None
    ingress_namespace: str | None = None
    base_domain: str = "perdure.localhost"
    mirror_image: str = MIRROR_IMAGE
    """nginx 1.22 or newer with a shell: copies requests to the mocks that want it (`mock.mode: mirror`)."""

    def faults(self) -> list[str]:
        """Everything that does not go together."""
        faults = super().faults()
        if self.clusters and self.cluster not in self.clusters:
            faults.append(f"PERDURE_CLUSTERS does not hold PERDURE_CLUSTER ({self.cluster})")
        return faults

    @property
    def all_clusters(self) -> dict[str, ClusterSettings]:
        """Every cluster by name; the simple settings make one."""
        if self.clusters:
            return dict(self.clusters)
        return {
            self.cluster: ClusterSettings(kubeconfig=self.cluster_kubeconfig, context=self.cluster_context)
        }

    def guard_rails(self) -> GuardRails:
        """The guard rails of the cluster; an organisation's own go on top."""
        return GuardRails(
            ingress_class=self.ingress_class,
            ingress_namespace=self.ingress_namespace,
            base_domain=self.base_domain,
            mirror_image=self.mirror_image,
        )
