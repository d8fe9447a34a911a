"""Prefixed, sortable identifiers: `env_01J...`; the prefix says what kind of thing an id names."""

from datetime import datetime
from enum import StrEnum

from ulid import ULID


class IdPrefix(StrEnum):
    """First part of an id."""

    ORGANIZATION = "org"
    PRINCIPAL = "prn"
    API_KEY = "key"
    ENVIRONMENT = "env"
    OPERATION = "op"
    DATA_KEY = "dk"
    SECRET = "sec"  # noqa: S105 - a prefix of ids
    REGISTRY_CREDENTIAL = "reg"
    TEMPLATE = "tpl"
    SEED_PACKAGE = "spk"
    SNAPSHOT = "snap"
    VERIFICATION = "ver"
    AUDIT_ENTRY = "aud"
    SHARE = "shr"


def made_at(identifier: str) -> datetime | None:
    """Return when an id was made; None for what is no id."""
    try:
        return ULID.from_str(identifier.partition("_")[2]).datetime
    except ValueError:
        return None


def new_id(prefix: IdPrefix) -> str:
    """Return a fresh id, for example `env_01M80JNKEFGCFMHJD0C2DW2S51`: sorts by the time it was made."""
    return f"{prefix}_{ULID()}"
