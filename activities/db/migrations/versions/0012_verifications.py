"""Verifications of snapshots, and how far one was proved.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012_verifications"
down_revision = "0011_snapshots"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("snapshots", sa.Column("verified_level", sa.Integer(), nullable=True))
    op.create_table(
        "snapshot_verifications",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("checks", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("environment_id", sa.String(), nullable=True),
        sa.Column("operation_id", sa.String(), nullable=True),
        sa.Column("requested_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'passed', 'failed', 'aborted')",
            name=op.f("ck_snapshot_verifications_verification_state"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_snapshot_verifications_organization_id"),
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_verifications_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_verifications")),
    )
    op.create_index(
        op.f("ix_snapshot_verifications_organization_id"), "snapshot_verifications", ["organization_id"]
    )
    op.create_index(
        "ix_snapshot_verifications_page", "snapshot_verifications", ["snapshot_id", "created_at", "id"]
    )
    running = sa.text("state = 'running'")
    op.create_index(
        "uq_snapshot_verifications_running",
        "snapshot_verifications",
        ["snapshot_id"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )


def downgrade() -> None:
    op.drop_table("snapshot_verifications")
    op.drop_column("snapshots", "verified_level")
