"""A kind of step: looks at what is stored before anything is replaced by it.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018_check_step"
down_revision = "0017_janitor"
branch_labels = None
depends_on = None

_STEPS = (
    *("namespace", "secrets", "service", "endpoints", "stop_service", "remove_service"),
    *("cancel_running", "delete_namespace", "seed", "survey", "capture", "publish", "load", "claim"),
)


def upgrade() -> None:
    _kinds((*_STEPS, "check"))


def downgrade() -> None:
    # What an operation did long ago is told by its other steps as well.
    op.execute("DELETE FROM steps WHERE kind = 'check'")
    _kinds(_STEPS)


def _kinds(words: tuple[str, ...]) -> None:
    """Let the kinds of steps be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table("steps") as changed:
        changed.drop_constraint(op.f("ck_steps_step_kind"), type_="check")
        changed.create_check_constraint(op.f("ck_steps_step_kind"), sa.text(f"kind IN ({listed})"))
