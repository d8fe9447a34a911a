"""Events of a verification that failed; the snapshots of policies are found by an index.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020_verified_anew"
down_revision = "0019_condition_events"
branch_labels = None
depends_on = None

_TYPES = ("operation", "step", "settings", "timer", "condition")


def upgrade() -> None:
    _types((*_TYPES, "verification"))
    op.create_index("ix_snapshots_scheduled", "snapshots", ["scheduled", "state", "environment_id"])


def downgrade() -> None:
    op.drop_index("ix_snapshots_scheduled", table_name="snapshots")
    # What remains has gaps in its numbers, which readers do not mind.
    op.execute("DELETE FROM events WHERE type = 'verification'")
    _types(_TYPES)


def _types(words: tuple[str, ...]) -> None:
    """Let the types of events be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table("events") as changed:
        changed.drop_constraint(op.f("ck_events_event_type"), type_="check")
        changed.create_check_constraint(op.f("ck_events_event_type"), sa.text(f"type IN ({listed})"))
