"""Fixtures of the tests of our own state."""

from tests.helpers.clock import clock
from tests.helpers.databases import (
    database,
    database_url,
    empty_database_url,
    postgres_server,
    postgres_url,
    sqlite_template,
    sqlite_url,
)

__all__ = [
    "clock",
    "database",
    "database_url",
    "empty_database_url",
    "postgres_server",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]
