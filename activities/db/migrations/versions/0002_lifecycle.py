"""The whole life of an environment: kinds of operations and steps, what they go back to, checkpoints.

Written out in plain column types, so that later changes of our own types do not change it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KINDS = ("provision", "delete")
_MORE_KINDS = ("provision", "update", "stop", "resume", "scale", "restart", "delete")
_STEPS = ("namespace", "secrets", "service", "endpoints", "cancel_running", "delete_namespace")
_MORE_STEPS = (*_STEPS[:4], "stop_service", "remove_service", *_STEPS[4:])


def upgrade() -> None:
    _kinds("operations", "operation_kind", _MORE_KINDS)
    _kinds("steps", "step_kind", _MORE_STEPS)
    op.add_column("operations", sa.Column("change", sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("overrides") as overrides:
        overrides.alter_column("replicas", existing_type=sa.Integer(), nullable=True)
        overrides.add_column(sa.Column("restart", sa.String(), nullable=True))
    op.add_column("environments", sa.Column("instance", sa.String(), nullable=True))
    op.execute("UPDATE environments SET instance = name")
    with op.batch_alter_table("environments") as environments:
        environments.alter_column("instance", existing_type=sa.String(), nullable=False)
    op.add_column(
        "secrets", sa.Column("since_revision", sa.Integer(), nullable=False, server_default="1")
    )
    with op.batch_alter_table("secrets") as secrets:
        secrets.alter_column("since_revision", existing_type=sa.Integer(), server_default=None)
    op.drop_index("uq_secrets_environment", table_name="secrets")
    _unique_secrets(["environment_id", "name", "since_revision"])
    op.create_table(
        "checkpoints",
        sa.Column("environment_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("organization_id", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["environment_id"], ["environments.id"], name=op.f("fk_checkpoints_environment_id")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_checkpoints_organization_id")
        ),
        sa.PrimaryKeyConstraint("environment_id", "name", name=op.f("pk_checkpoints")),
    )
    op.create_index(op.f("ix_checkpoints_organization_id"), "checkpoints", ["organization_id"])


def downgrade() -> None:
    op.drop_table("checkpoints")
    op.execute("DELETE FROM secrets WHERE environment_id IS NOT NULL AND since_revision > 1")
    op.drop_index("uq_secrets_environment", table_name="secrets")
    with op.batch_alter_table("secrets") as secrets:
        secrets.drop_column("since_revision")
    _unique_secrets(["environment_id", "name"])
    with op.batch_alter_table("environments") as environments:
        environments.drop_column("instance")
    op.execute("DELETE FROM overrides WHERE replicas IS NULL")
    with op.batch_alter_table("overrides") as overrides:
        overrides.drop_column("restart")
        overrides.alter_column("replicas", existing_type=sa.Integer(), nullable=False)
    op.drop_column("operations", "change")
    _kinds("operations", "operation_kind", _KINDS)
    _kinds("steps", "step_kind", _STEPS)


def _kinds(table: str, name: str, words: tuple[str, ...]) -> None:
    """Let the kinds be these words: the column's CHECK lists them."""
    listed = ", ".join(f"'{word}'" for word in words)
    with op.batch_alter_table(table) as changed:
        changed.drop_constraint(op.f(f"ck_{table}_{name}"), type_="check")
        changed.create_check_constraint(op.f(f"ck_{table}_{name}"), sa.text(f"kind IN ({listed})"))


def _unique_secrets(columns: list[str]) -> None:
    op.create_index(
        "uq_secrets_environment",
        "secrets",
        columns,
        unique=True,
        sqlite_where=sa.text("environment_id IS NOT NULL"),
        postgresql_where=sa.text("environment_id IS NOT NULL"),
    )
