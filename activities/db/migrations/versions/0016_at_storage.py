"""Which snapshots a cluster's storage may have something of, and what of it would not go.

Written out in plain column types, so that later changes of our own types do not change it. Of snapshots that
were taken before, the manifest tells it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016_at_storage"
down_revision = "0015_snapshot_policies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "snapshots", sa.Column("at_storage", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("snapshots", sa.Column("standing", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("snapshots", "standing")
    op.drop_column("snapshots", "at_storage")
