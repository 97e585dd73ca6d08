"""Connections and migrations. The database is PostgreSQL 14 or newer."""

from urllib.parse import urlsplit

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from indexer import resources
from indexer.errors import ConfigError

OLDEST_VERSION = 140000
# Any fixed number does; it keeps two commands from migrating at once.
_MIGRATION_LOCK = 7_262_417_001

Connection = psycopg.Connection[tuple[object, ...]]


def connect(conninfo: str) -> Connection:
    """Open a connection in UTC; raises ConfigError, without the password, when there is no way."""
    try:
        connection = psycopg.connect(
            conninfo, autocommit=True, application_name="liquidation-indexer"
        )
    except psycopg.OperationalError as error:
        raise ConfigError(
            f"cannot connect to {_without_secret(conninfo)}: {_first(error)}"
        ) from None
    except psycopg.ProgrammingError:
        raise ConfigError("DATABASE_URL is not a PostgreSQL URL or conninfo string") from None
    if connection.info.server_version < OLDEST_VERSION:
        version = connection.info.parameter_status("server_version")
        connection.close()
        raise ConfigError(f"PostgreSQL {version} is too old: version 14 or newer is needed")
    connection.execute("SET TIME ZONE 'UTC'")
    return connection


def migrate(conninfo: str) -> None:
    """Bring the schemas up to date; safe when several commands do it at once."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        for schema in ("ledger", "liq"):
            connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        config = Config()
        config.set_main_option("script_location", str(resources.folder("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def _without_secret(conninfo: str) -> str:
    parts = urlsplit(conninfo)
    if parts.hostname is None:
        return "the database"
    return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rpartition("failed: ")[2]
