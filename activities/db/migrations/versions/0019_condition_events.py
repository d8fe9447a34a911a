"""Events of a condition that changed by what was seen in the cluster.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019_condition_events"
down_revision = "0018_check_step"
branch_labels = None
depends_on = None

_TYPES = ("operation", "step", "settings", "timer")


def upgrade() -> None:
    _types((*_TYPES, "condition"))


def downgrade() -> None:
    # What remains has gaps in its numbers, which readers do not mind.
    op.execute("DELETE FROM events WHERE type = 'condition'")
    _types(_TYPES)


def _types(words: tuple[str, ...]) -> None:
    """Let the types of events be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table("events") as changed:
        changed.drop_constraint(op.f("ck_events_event_type"), type_="check")
        changed.create_check_constraint(op.f("ck_events_event_type"), sa.text(f"type IN ({listed})"))
