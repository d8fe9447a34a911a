"""Indexes for the pages of principals, API keys and checkpoints.

Revision ID: 0021
Revises: 0020
"""

from alembic import op

revision = "0021_list_pages"
down_revision = "0020_verified_anew"
branch_labels = None
depends_on = None

_BY_ORGANIZATION = ("principals", "api_keys")


def upgrade() -> None:
    for table in _BY_ORGANIZATION:
        op.create_index(f"ix_{table}_page", table, ["organization_id", "created_at", "id"])
        # The new one begins with it.
        op.drop_index(f"ix_{table}_organization_id", table_name=table)
    op.create_index("ix_checkpoints_page", "checkpoints", ["environment_id", "created_at", "name"])


def downgrade() -> None:
    op.drop_index("ix_checkpoints_page", table_name="checkpoints")
    for table in _BY_ORGANIZATION:
        op.create_index(f"ix_{table}_organization_id", table, ["organization_id"])
        op.drop_index(f"ix_{table}_page", table_name=table)
