"""What a restore leaves behind, and namespaces that no environment answers for.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009_recovery"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("restored_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("installation", sa.Column("restored_to", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "orphans",
        sa.Column("cluster", sa.String(), nullable=False),
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("namespace", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cluster", "uid", name=op.f("pk_orphans")),
    )


def downgrade() -> None:
    op.drop_table("orphans")
    with op.batch_alter_table("installation") as batch:
        batch.drop_column("restored_to")
        batch.drop_column("restored_at")
