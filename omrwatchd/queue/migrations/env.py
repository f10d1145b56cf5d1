"""Alembic's entry: runs the migrations on the connection that open_database hands in."""

from alembic import context

from omrwatchd.queue.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
