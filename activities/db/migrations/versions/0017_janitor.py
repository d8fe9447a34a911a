"""What the janitor may take for its own and left alone; when a policy's result came about, and of what snapshot.

Written out in plain column types, so that later changes of our own types do not change it. A database that was
restored before does not know what was made since that backup.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017_janitor"
down_revision = "0016_at_storage"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("unknown_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("installation", sa.Column("store_note", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE installation SET unknown_since = restored_to")
    op.add_column("snapshots", sa.Column("standing_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("snapshot_policies", sa.Column("result_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("snapshot_policies", sa.Column("last_snapshot_id", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("snapshot_policies", "last_snapshot_id")
    op.drop_column("snapshot_policies", "result_at")
    op.drop_column("snapshots", "standing_at")
    op.drop_column("installation", "store_note")
    op.drop_column("installation", "unknown_since")
