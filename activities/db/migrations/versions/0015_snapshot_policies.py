"""Policies by which environments are taken snapshots of, and which snapshots came of one.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015_snapshot_policies"
down_revision = "0014_replays"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "snapshots", sa.Column("scheduled", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "snapshot_policies",
        sa.Column("environment_id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("policy", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_result", sa.String(), nullable=False),
        sa.Column("updated_by", sa.String(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name=op.f("fk_snapshot_policies_environment_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_snapshot_policies_organization_id")
        ),
        sa.PrimaryKeyConstraint("environment_id", name=op.f("pk_snapshot_policies")),
    )
    op.create_index(op.f("ix_snapshot_policies_organization_id"), "snapshot_policies", ["organization_id"])
    op.create_index(op.f("ix_snapshot_policies_next_at"), "snapshot_policies", ["next_at"])


def downgrade() -> None:
    op.drop_table("snapshot_policies")
    op.drop_column("snapshots", "scheduled")
