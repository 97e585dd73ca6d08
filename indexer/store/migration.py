"""Runs the migrations with Alembic, one command at a time."""

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from indexer import resources
from indexer.errors import ConfigError

# Any fixed number does; it keeps two commands from migrating at once.
_LOCK = 7_262_417_001
# A change of a table waits for its readers, and whoever comes then waits for the change: it gives
# up soon, lets the others pass and tries again.
_LOCK_SECONDS = 2
_ATTEMPTS = 60


def upgrade(conninfo: str, revision: str = "head") -> None:
    """Apply all migrations that are not applied, in one transaction; raises ConfigError when
    somebody keeps the tables locked, and what the server itself says of a role without rights."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    try:
        for _ in range(_ATTEMPTS):
            try:
                _upgrade(engine, revision)
                return
            except sqlalchemy.exc.OperationalError as error:
                if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                    raise
            except sqlalchemy.exc.ProgrammingError as error:
                if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
                    raise error.orig from None
                raise
    finally:
        engine.dispose()
    raise ConfigError("the tables stay locked by another transaction: end it and try again")


def _upgrade(engine: sqlalchemy.Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        for schema in ("ledger", "liq"):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        config = Config()
        config.set_main_option("script_location", str(resources.folder("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
