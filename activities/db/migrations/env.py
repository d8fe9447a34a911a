"""Alembic's entry: runs over the connection that `activities.db.migrate` opened, inside its transaction."""

from alembic import context

from activities.db.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    # SQLite changes a table by building a new one.
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
