"""Alembic's entry: migrations run on the one connection that `store.database` hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="ledger")
with context.begin_transaction():
    context.run_migrations()
