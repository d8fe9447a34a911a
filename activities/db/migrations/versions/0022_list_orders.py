"""Indexes for the orders of lists, and for what was done to one thing.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022_list_orders"
down_revision = "0021_list_pages"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_principals_name": ("principals", ["organization_id", "name", "id"]),
    "ix_api_keys_name": ("api_keys", ["organization_id", "name", "id"]),
    "ix_registry_credentials_updated": ("registry_credentials", ["organization_id", "updated_at", "id"]),
    "ix_snapshots_size": ("snapshots", ["organization_id", "stored_bytes", "id"]),
    "ix_snapshots_environment_size": ("snapshots", ["environment_id", "stored_bytes", "id"]),
    "ix_audit_entries_subject": ("audit_entries", ["organization_id", "subject_id", "at", "id"]),
    "ix_shares_expires": ("shares", ["environment_id", "expires_at", "id"]),
}
_OF_ORGANIZATION = sa.text("environment_id IS NULL")


def upgrade() -> None:
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    op.create_index(
        "ix_secrets_updated",
        "secrets",
        ["organization_id", "updated_at", "id"],
        sqlite_where=_OF_ORGANIZATION,
        postgresql_where=_OF_ORGANIZATION,
    )


def downgrade() -> None:
    op.drop_index("ix_secrets_updated", table_name="secrets")
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table_name=table)
