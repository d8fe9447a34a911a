"""Seeds: packages of an organisation, what an operation runs, and the kind of such operations and steps.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010_seeds"
down_revision = "0009_recovery"
branch_labels = None
depends_on = None

_KINDS = ("provision", "update", "stop", "resume", "scale", "restart", "delete")
_STEPS = (
    *("namespace", "secrets", "service", "endpoints", "stop_service", "remove_service"),
    *("cancel_running", "delete_namespace"),
)


def upgrade() -> None:
    _kinds("operations", "operation_kind", (*_KINDS, "seed"))
    _kinds("steps", "step_kind", (*_STEPS, "seed"))
    op.create_table(
        "seed_packages",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_seed_packages_organization_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seed_packages")),
        sa.UniqueConstraint(
            "organization_id", "name", "version", name=op.f("uq_seed_packages_organization_id_name_version")
        ),
    )
    op.create_index(op.f("ix_seed_packages_organization_id"), "seed_packages", ["organization_id"])
    op.create_table(
        "seed_runs",
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("run", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.id"], name=op.f("fk_seed_runs_operation_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_seed_runs_organization_id")
        ),
        sa.PrimaryKeyConstraint("operation_id", name=op.f("pk_seed_runs")),
    )
    op.create_index(op.f("ix_seed_runs_organization_id"), "seed_runs", ["organization_id"])


def downgrade() -> None:
    op.drop_table("seed_runs")
    op.drop_table("seed_packages")
    # An older schema has no such operations: they go, with all that refers to them.
    seeds = "(SELECT id FROM operations WHERE kind = 'seed')"
    op.execute(f"UPDATE operations SET retry_of = NULL WHERE retry_of IN {seeds}")  # noqa: S608
    op.execute(f"DELETE FROM events WHERE operation_id IN {seeds}")  # noqa: S608
    op.execute(f"DELETE FROM steps WHERE operation_id IN {seeds}")  # noqa: S608
    op.execute("DELETE FROM operations WHERE kind = 'seed'")
    _kinds("operations", "operation_kind", _KINDS)
    _kinds("steps", "step_kind", _STEPS)


def _kinds(table: str, name: str, words: tuple[str, ...]) -> None:
    """Let the kinds be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table(table) as changed:
        changed.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
        changed.create_check_constraint(op.f(f"ck_{table}_{name}"), sa.text(f"kind IN ({listed})"))
