"""The audit trail as the API answers it."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from api.envelope import ApiModel


class AuditEntryOut(ApiModel):
    """Who did what to which thing. `data` holds ids and choices, never secret values."""

    id: str
    action: str
    subject_id: str
    principal_id: str
    key_id: str | None = None
    data: dict[str, JsonValue]
    at: datetime
