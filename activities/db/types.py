"""Column types that behave alike on SQLite and Postgres."""

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import JSON, DateTime, Dialect, Enum
from sqlalchemy.types import TypeDecorator

ENUM_LENGTH = 32
"""Width of every enum column: a new member needs a new CHECK, never a wider column."""

Json = JSON(none_as_null=True)
"""A JSON document; Python None is SQL NULL, not the JSON word. Not JSONB: a Blueprint keeps the order of its
keys, for Kubernetes expands `$(NAME)` in the order of the variables."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time: refuses naive values, stores UTC, returns aware values (SQLite has no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn any aware time into UTC. Raises ValueError for a naive one."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give what was stored as an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def text_enum(enum: type[StrEnum]) -> Enum:
    """A StrEnum kept as its text, with a CHECK that lists its members."""
    return Enum(
        enum,
        name=_snake(enum.__name__),
        native_enum=False,
        create_constraint=True,
        length=ENUM_LENGTH,
        values_callable=lambda members: [member.value for member in members],
    )


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)
