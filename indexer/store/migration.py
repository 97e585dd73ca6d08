"""Runs the migrations with Alembic, one command at a time."""

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from indexer import resources

# Any fixed number does; it keeps two commands from migrating at once.
_LOCK = 7_262_417_001


def upgrade(conninfo: str) -> None:
    """Apply all migrations that are not applied, in one transaction."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        for schema in ("ledger", "liq"):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        config = Config()
        config.set_main_option("script_location", str(resources.folder("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()
