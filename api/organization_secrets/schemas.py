"""Secrets of the organisation as the API takes and answers them: never with their values."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, SecretStr

from api.envelope import ApiInput, ApiModel


class SecretOut(ApiModel):
    """A stored secret without its value."""

    name: str
    created_at: datetime
    updated_at: datetime


class PutSecret(ApiInput):
    """What `PUT /secrets/{name}` is sent."""

    value: SecretStr = Field(min_length=1, max_length=65_536, description="Never answered again")
