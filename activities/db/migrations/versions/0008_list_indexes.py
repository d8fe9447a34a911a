"""Indexes for lists by change, and for the newest operation of each environment of a page.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_environments_updated", "environments", ["organization_id", "updated_at", "id"])
    op.create_index("ix_operations_fence", "operations", ["environment_id", "fence"])


def downgrade() -> None:
    op.drop_index("ix_operations_fence", table_name="operations")
    op.drop_index("ix_environments_updated", table_name="environments")
