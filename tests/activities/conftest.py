"""Fixtures of the tests of our own state."""

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
    "database",
    "database_url",
    "empty_database_url",
    "postgres_server",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]
