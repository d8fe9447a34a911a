"""Events of an environment's settings, which no operation belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0003_settings_events"
down_revision = "0002"
branch_labels = None
depends_on = None

_TYPES = ("operation", "step")


def upgrade() -> None:
    with op.batch_alter_table("events") as events:
        events.alter_column("operation_id", existing_type=sa.String(), nullable=True)
        _types(events, (*_TYPES, "settings"))


def downgrade() -> None:
    # What remains has gaps in its numbers, which readers do not mind.
    op.execute("DELETE FROM events WHERE operation_id IS NULL OR type = 'settings'")
    with op.batch_alter_table("events") as events:
        events.alter_column("operation_id", existing_type=sa.String(), nullable=False)
        _types(events, _TYPES)


def _types(events, words: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{word}'" for word in words)
    events.drop_constraint(op.f("ck_events_event_type"), type_="check")
    events.create_check_constraint(op.f("ck_events_event_type"), sa.text(f"type IN ({listed})"))
