"""Runs the migrations with Alembic, one command at a time."""

import time

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from sqlalchemy.pool import NullPool

from indexer import resources
from indexer.errors import ConfigError
from indexer.store.dependents import Dependent, dependents, drop

# Any fixed number does; it keeps two commands from migrating at once.
_LOCK = 7_262_417_001
# A change of a table waits for its readers, and whoever comes then waits for the change: it gives
# up soon, lets the others pass and tries again.
_LOCK_SECONDS = 2
_PAUSE_SECONDS = 0.5
_ATTEMPTS = 60


def upgrade(conninfo: str, revision: str = "head", *, drops_dependents: bool = False) -> None:
    """Apply all migrations that are not applied, in one transaction; raises ConfigError when
    somebody keeps the tables locked, when the role may not change them, and when views or functions
    of others would go with what a migration replaces, unless these are to be dropped first."""
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    try:
        for _ in range(_ATTEMPTS):
            try:
                _upgrade(engine, revision, drops_dependents)
                return
            except sqlalchemy.exc.DBAPIError as error:
                match error.orig:
                    case psycopg.errors.LockNotAvailable():
                        time.sleep(_PAUSE_SECONDS)
                    case psycopg.errors.InsufficientPrivilege():
                        raise ConfigError(f"{_NOT_OWNER}: {_first(error.orig)}") from error
                    case psycopg.errors.DependentObjectsStillExist():
                        raise ConfigError(_in_the_way(_standing(engine))) from error
                    case _:
                        raise
    finally:
        engine.dispose()
    raise ConfigError("the tables stay locked by another transaction: end it and try again")


_NOT_OWNER = "the tables are of an older version, and this role may not migrate them"


def _upgrade(engine: sqlalchemy.Engine, revision: str, drops_dependents: bool) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        for schema in ("ledger", "liq"):
            # IF NOT EXISTS asks for the right to create even where it is there
            if not connection.exec_driver_sql(_HAS_SCHEMA, (schema,)).scalar():
                connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
        before = dependents(connection)
        if drops_dependents:
            drop(connection, before)
        config = Config()
        config.set_main_option("script_location", str(resources.folder("migrations")))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        kept = {str(one) for one in dependents(connection)}
        gone = [one for one in before if str(one) not in kept]
        if gone and not drops_dependents:
            raise ConfigError(_in_the_way(gone))
        # once more: what is new may be of another owner than what gave rights in advance
        if connection.exec_driver_sql("SELECT to_regprocedure('ledger.make_roles()')").scalar():
            connection.exec_driver_sql("SELECT ledger.make_roles()")


_HAS_SCHEMA = "SELECT count(*) > 0 FROM pg_namespace WHERE nspname = %s"


def _standing(engine: sqlalchemy.Engine) -> list[Dependent]:
    with engine.connect() as connection:
        return dependents(connection)


def _in_the_way(found: list[Dependent]) -> str:
    names = ", ".join(map(str, found))
    return (
        f"nothing was changed: the new version replaces what others built on: {names};"
        " indexer db dependents shows how they are made, and indexer db migrate --drop-dependents"
        " goes on without them"
    )


def _first(error: psycopg.Error) -> str:
    return error.diag.message_primary or "permission denied"
