"""Registry credentials as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, SecretStr

from api.envelope import ApiInput, ApiModel
from workflows.domain.blueprint_rules import LONGEST_CREDENTIAL_NAME

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_HOST = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?$"


class ReplaceRegistryCredential(ApiInput):
    """What `PUT /registry-credentials/{id}` is sent: the whole login, but for its name."""

    registry: str = Field(pattern=_HOST, max_length=253, description="Host of the registry, with its port")
    username: str = Field(min_length=1, max_length=256)
    password: SecretStr = Field(min_length=1, max_length=16_384, description="Never answered again")


class CreateRegistryCredential(ReplaceRegistryCredential):
    """What `POST /registry-credentials` is sent."""

    name: str = Field(
        pattern=_NAME, max_length=LONGEST_CREDENTIAL_NAME, description="What `imagePullSecrets` calls it"
    )


class RegistryCredentialOut(ApiModel):
    """A login for a container registry, without its password."""

    id: str
    name: str
    registry: str
    username: str
    created_by: str
    created_at: datetime
    updated_at: datetime = Field(description="When it was last replaced")
