"""Connections and migrations. The database is PostgreSQL 14 or newer."""

from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import make_conninfo

from indexer import resources
from indexer.errors import ConfigError

OLDEST_VERSION = 140000
# What a session may hold of temporary tables before it writes them to disk and reads them back,
# which took a tenth of a pass over values. Taken as it is used, and settable only before that.
TEMP_BUFFERS = "64MB"

Connection = psycopg.Connection[tuple[object, ...]]


def connect(conninfo: str) -> Connection:
    """Open a connection in UTC whose transactions see what was committed, whatever the server's
    defaults; raises ConfigError, without the password, when there is no way."""
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
    connection.execute(
        "SET TIME ZONE 'UTC'; SET default_transaction_isolation = 'read committed';"
        f" SET temp_buffers = '{TEMP_BUFFERS}'"
    )
    return connection


def conninfo_of(connection: Connection) -> str:
    """What opens another connection like this one."""
    info = connection.info
    return make_conninfo("", **info.get_parameters(), password=info.password or None)


def connect_briefly(conninfo: str, seconds: int = 5) -> Connection:
    """Open a connection that gives up soon: to connect, on a statement, on a lock. For what must
    not hold up anything. Raises ConfigError."""
    try:
        connection = connect(make_conninfo(conninfo, connect_timeout=max(seconds, 2)))
    except psycopg.ProgrammingError:
        raise ConfigError("DATABASE_URL is not a PostgreSQL URL or conninfo string") from None
    connection.execute(
        "SELECT set_config('statement_timeout', %(ms)s, false),"
        " set_config('lock_timeout', %(ms)s, false)",
        {"ms": f"{seconds * 1000}"},
    )
    return connection


def migrate(conninfo: str) -> None:
    """Bring the schemas up to date; safe when several commands do it at once."""
    with connect(conninfo) as connection:
        if _revision(connection) == newest_revision():
            return
    # Alembic and SQLAlchemy take half a second to import: most commands need neither.
    from indexer.store.migration import upgrade

    upgrade(conninfo)


def newest_revision() -> str:
    """The number that the name of the last migration begins with."""
    names = (path.name for path in resources.folder("migrations").glob("versions/*.py"))
    return max(names).partition("_")[0]


def _revision(connection: Connection) -> str | None:
    known = connection.execute("SELECT to_regclass('ledger.alembic_version')").fetchone()
    if not known or known[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM ledger.alembic_version").fetchone()
    return str(row[0]) if row else None


def _without_secret(conninfo: str) -> str:
    parts = urlsplit(conninfo)
    if parts.hostname is None:
        return "the database"
    return f"{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rpartition("failed: ")[2]
