"""Snapshots, what operations do with them, and which operation replays which.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011_snapshots"
down_revision = "0010_seeds"
branch_labels = None
depends_on = None

_KINDS = ("provision", "update", "stop", "resume", "scale", "restart", "seed", "delete")
_NEW_KINDS = ("snapshot", "restore", "replay")
_STEPS = (
    *("namespace", "secrets", "service", "endpoints", "stop_service", "remove_service", "seed"),
    *("cancel_running", "delete_namespace"),
)
_NEW_STEPS = ("survey", "capture", "publish", "load")


def upgrade() -> None:
    _kinds("operations", "operation_kind", (*_KINDS, *_NEW_KINDS))
    _kinds("steps", "step_kind", (*_STEPS, *_NEW_STEPS))
    with op.batch_alter_table("operations") as changed:
        changed.add_column(sa.Column("replay_of", sa.String(), nullable=True))
        changed.create_foreign_key(
            op.f("fk_operations_replay_of"), "operations", ["replay_of"], ["id"]
        )
    op.add_column("overrides", sa.Column("loaded", sa.String(), nullable=True))
    op.create_table(
        "snapshots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("environment_id", sa.String(), nullable=False),
        sa.Column("environment_name", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("consistency", sa.String(length=32), nullable=True),
        sa.Column("scope", sa.String(length=32), nullable=True),
        sa.Column("manifest", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("secrets", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("plain_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('creating', 'available', 'failed', 'deleting', 'deleted')",
            name=op.f("ck_snapshots_snapshot_state"),
        ),
        sa.CheckConstraint(
            "consistency IN ('application', 'crash-group', 'crash-volume', 'live-copy', 'config-only')",
            name=op.f("ck_snapshots_consistency"),
        ),
        sa.CheckConstraint("scope IN ('one-point', 'independent')", name=op.f("ck_snapshots_scope")),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name=op.f("fk_snapshots_environment_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_snapshots_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
    )
    op.create_index(op.f("ix_snapshots_page"), "snapshots", ["organization_id", "created_at", "id"])
    op.create_index(op.f("ix_snapshots_environment"), "snapshots", ["environment_id", "created_at", "id"])
    # What the sweep of snapshots looks for: those to be removed from the store, those that end by themselves.
    left = sa.text("removed_at IS NULL AND state IN ('failed', 'deleting')")
    op.create_index("ix_snapshots_left", "snapshots", ["id"], sqlite_where=left, postgresql_where=left)
    op.create_index("ix_snapshots_expires_at", "snapshots", ["expires_at"])
    op.create_index(op.f("ix_snapshots_operation_id"), "snapshots", ["operation_id"])
    op.create_table(
        "snapshot_runs",
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("run", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_snapshot_runs_operation_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_snapshot_runs_organization_id")
        ),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshots.id"], name=op.f("fk_snapshot_runs_snapshot_id")
        ),
        sa.PrimaryKeyConstraint("operation_id", name=op.f("pk_snapshot_runs")),
    )
    op.create_index(op.f("ix_snapshot_runs_organization_id"), "snapshot_runs", ["organization_id"])
    op.create_index(op.f("ix_snapshot_runs_snapshot_id"), "snapshot_runs", ["snapshot_id"])


def downgrade() -> None:
    op.drop_table("snapshot_runs")
    op.drop_table("snapshots")
    op.drop_column("overrides", "loaded")
    # An older schema has no such operations: they go, with all that refers to them.
    listed = ", ".join(f"'{kind}'" for kind in _NEW_KINDS)
    gone = f"(SELECT id FROM operations WHERE kind IN ({listed}))"  # noqa: S608
    op.execute(f"UPDATE operations SET retry_of = NULL WHERE retry_of IN {gone}")  # noqa: S608
    op.execute("UPDATE operations SET replay_of = NULL")
    op.execute(f"DELETE FROM events WHERE operation_id IN {gone}")  # noqa: S608
    op.execute(f"DELETE FROM steps WHERE operation_id IN {gone}")  # noqa: S608
    op.execute(f"DELETE FROM operations WHERE kind IN ({listed})")  # noqa: S608
    with op.batch_alter_table("operations") as changed:
        changed.drop_constraint(op.f("fk_operations_replay_of"), type_="foreignkey")
        changed.drop_column("replay_of")
    _kinds("operations", "operation_kind", _KINDS)
    _kinds("steps", "step_kind", _STEPS)


def _kinds(table: str, name: str, words: tuple[str, ...]) -> None:
    """Let the kinds be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table(table) as changed:
        changed.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
        changed.create_check_constraint(op.f(f"ck_{table}_{name}"), sa.text(f"kind IN ({listed})"))
