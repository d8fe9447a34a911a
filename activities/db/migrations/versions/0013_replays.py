"""The step that a replay was asked to begin with, and a way to find the replays of an operation.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013_replays"
down_revision = "0012_verifications"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operations", sa.Column("from_step", sa.String(), nullable=True))
    op.create_index(op.f("ix_operations_replay_of"), "operations", ["replay_of"])


def downgrade() -> None:
    op.drop_index(op.f("ix_operations_replay_of"), table_name="operations")
    op.drop_column("operations", "from_step")
