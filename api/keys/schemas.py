"""Principals and API keys as the API takes and answers them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, field_validator

from activities.db.tables import PrincipalKind, Role
from activities.db.types import utc_now
from api.envelope import ApiInput, ApiModel
from api.filters import Moment


class PrincipalOut(ApiModel):
    """A person or a service that acts for the organisation."""

    id: str
    kind: PrincipalKind
    name: str
    created_at: datetime


class CreatePrincipal(ApiInput):
    """What `POST /principals` is sent."""

    kind: PrincipalKind = PrincipalKind.SERVICE
    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")


class ApiKeyOut(ApiModel):
    """A key without its token; `last8` tells people which one it is."""

    id: str
    name: str
    principal_id: str
    role: Role
    unlimited: bool
    last8: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class NewApiKeyOut(ApiKeyOut):
    """A key that was just made; the token is told this once."""

    token: str


class CreateApiKey(ApiInput):
    """What `POST /api-keys` is sent."""

    principal_id: str | None = Field(
        default=None, max_length=64, description="Whose it is; the asking key's own principal when absent"
    )
    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
    role: Role = Field(default=Role.DEVELOPER, description="At most that of the asking key")
    unlimited: bool = Field(default=False, description="Exempt from the rate limit; by owners only")
    expires_at: Moment | None = Field(default=None, description="Absent: until it is revoked")

    @field_validator("expires_at")
    @classmethod
    def _in_the_future(cls, value: datetime | None) -> datetime | None:
        if value is not None and value <= utc_now():
            raise ValueError("is past")
        return value
