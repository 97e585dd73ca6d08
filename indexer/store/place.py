"""Which database a command works on: the configured one, or else the embedded server's."""

import shlex
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from indexer.errors import ConfigError
from indexer.store import database, server
from indexer.store.server import Say


class Place(NamedTuple):
    """A migrated database, and the command line with which a person opens it."""

    conninfo: str
    psql: str

    @property
    def password(self) -> str | None:
        """The password in `conninfo`, which `psql` leaves out."""
        password = conninfo_to_dict(self.conninfo).get("password")
        return None if password is None else str(password)


def prepare(
    database_url: str | None, data_dir: Path, pg_bin: Path | None, *, name: str | None, say: Say
) -> Place:
    """Make a database ready to use: start the embedded server unless a URL is configured, create
    the database `name` beside the usual one if asked to, and migrate it."""
    if database_url is not None:
        place = _configured(database_url, name)
    else:
        running = server.ensure_running(data_dir, bin_dir=pg_bin, say=say)
        conninfo = running.conninfo_of(name) if name else running.conninfo
        if name:
            _create(running.conninfo, name)
        place = Place(conninfo, shlex.join([str(running.bin_dir / "psql"), conninfo]))
    database.connect(place.conninfo).close()  # a clear error before the migration's own
    database.migrate(place.conninfo)
    return place


def running(database_url: str | None, data_dir: Path) -> str | None:
    """The conninfo of the database as it is, without starting or migrating anything; None where no
    server runs."""
    if database_url is not None:
        return _configured(database_url, None).conninfo
    found = server.status(data_dir)
    return None if found is None else found.conninfo


def _configured(url: str, name: str | None) -> Place:
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(url).items()}
    except (psycopg.ProgrammingError, UnicodeDecodeError):
        raise ConfigError("DATABASE_URL is not a PostgreSQL URL or conninfo string") from None
    if "@" in parts.get("host", ""):  # the rest of a password; libpq's message would print it
        raise ConfigError("DATABASE_URL: write an @ in the password as %40")
    if name:
        database.connect(url).close()
        _create(url, name)
        parts["dbname"] = name
    shown = {key: value for key, value in parts.items() if key not in ("password", "passfile")}
    return Place(make_conninfo(**parts), shlex.join(["psql", make_conninfo(**shown)]))


def _create(conninfo: str, name: str) -> None:
    connection = database.connect(conninfo)
    with connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).rowcount
        if found:
            return
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"may not create the database {name}: ask for CREATEDB, or unset DATABASE_URL"
            ) from error
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return  # another command made it meanwhile
