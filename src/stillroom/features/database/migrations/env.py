"""Alembic environment, which uses the connection and the transaction of `migrate`."""

from alembic import context

from stillroom.features.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
