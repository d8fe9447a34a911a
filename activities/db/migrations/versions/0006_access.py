"""How full the volumes of environments were."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "volume_samples",
        sa.Column("environment_id", sa.String(), nullable=False),
        sa.Column("claim", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("used_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name=op.f("fk_volume_samples_environment_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_volume_samples_organization_id")
        ),
        sa.PrimaryKeyConstraint("environment_id", "claim", "at", name=op.f("pk_volume_samples")),
    )
    op.create_index(
        op.f("ix_volume_samples_organization_id"), "volume_samples", ["organization_id"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_volume_samples_organization_id"), table_name="volume_samples")
    op.drop_table("volume_samples")
