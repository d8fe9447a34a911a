"""Timers of environments: when they were last used, when they end, when to look at them next."""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIMES = ("last_active_at", "expires_at", "expiry_warned_for", "idle_warned_for", "next_look_at")


def upgrade() -> None:
    for name in _TIMES:
        op.add_column("environments", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "environments",
        sa.Column("auto_shutdown_unmeasured", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    with op.batch_alter_table("environments") as environments:
        environments.alter_column("auto_shutdown_unmeasured", existing_type=sa.Boolean(), server_default=None)
    _set_expiries()
    # Those that were there before are looked at once; the look works out the rest.
    op.execute("UPDATE environments SET next_look_at = created_at WHERE deleted_at IS NULL")
    op.create_index("ix_environments_next_look_at", "environments", ["next_look_at", "id"])


def _set_expiries() -> None:
    """Time to live counts from the creation; arithmetic with times is not alike in all databases."""
    environments = sa.table(
        "environments",
        sa.column("id", sa.String()),
        sa.column("created_at", sa.DateTime(timezone=True)),
        sa.column("ttl_minutes", sa.Integer()),
        sa.column("expires_at", sa.DateTime(timezone=True)),
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(environments.c.id, environments.c.created_at, environments.c.ttl_minutes).where(
            environments.c.ttl_minutes.is_not(None)
        )
    ).all()
    for identifier, created_at, minutes in rows:
        end = created_at + timedelta(minutes=minutes)
        connection.execute(
            environments.update().where(environments.c.id == identifier).values(expires_at=end)
        )


def downgrade() -> None:
    op.drop_index("ix_environments_next_look_at", table_name="environments")
    with op.batch_alter_table("environments") as environments:
        for name in (*_TIMES, "auto_shutdown_unmeasured"):
            environments.drop_column(name)
