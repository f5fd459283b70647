"""What Alembic runs for every command: the migrations, on the connection and in the transaction that `database.upgrade` hands over."""

from alembic import context

from sftp_ingest.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
