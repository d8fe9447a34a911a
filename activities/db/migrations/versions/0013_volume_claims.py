"""A kind of step: claims that are made from what the cluster's storage keeps.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013_volume_claims"
down_revision = "0012_verifications"
branch_labels = None
depends_on = None

_STEPS = (
    *("namespace", "secrets", "service", "endpoints", "stop_service", "remove_service"),
    *("cancel_running", "delete_namespace", "seed", "survey", "capture", "publish", "load"),
)


def upgrade() -> None:
    _kinds((*_STEPS, "claim"))


def downgrade() -> None:
    # What an operation did long ago is told by its other steps as well.
    op.execute("DELETE FROM steps WHERE kind = 'claim'")
    _kinds(_STEPS)


def _kinds(words: tuple[str, ...]) -> None:
    """Let the kinds of steps be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table("steps") as changed:
        changed.drop_constraint(op.f("ck_steps_step_kind"), type_="check")
        changed.create_check_constraint(op.f("ck_steps_step_kind"), sa.text(f"kind IN ({listed})"))
