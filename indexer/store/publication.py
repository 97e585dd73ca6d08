"""A publication of the tables of facts, for who replicates every row."""

from typing import Any

import psycopg
from psycopg import sql

from indexer.errors import ConfigError, IndexerError
from indexer.store.database import Connection

NAME = "indexer"
# Each has a primary key, by which a subscriber finds the row that changes or goes.
TABLES = (
    *("liquidation", "lending_liquidation", "anonymous_liquidation", "ledger_liquidation"),
    *("valuation", "unvalued", "undecoded", "asset", "share_rate", "account_day", "venue"),
)


def statement() -> str:
    """What a database's owner runs."""
    return f"{_statement().as_string(None)};"


def create(connection: Connection) -> bool:
    """Make the publication, or make it equal to what it should be; gives whether it is new.

    Raises ConfigError on a server that does not write what a subscriber needs."""
    row: Any = connection.execute("SHOW wal_level").fetchone()
    if row[0] != "logical":
        raise ConfigError(
            f"the server has wal_level = {row[0]}, and a subscriber needs logical: ALTER SYSTEM SET"
            " wal_level = logical, and restart it"
        )
    try:
        if connection.execute("SELECT FROM pg_publication WHERE pubname = %s", (NAME,)).rowcount:
            connection.execute(
                sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(sql.Identifier(NAME), _tables())
            )
            return False
        connection.execute(_statement())
    except psycopg.errors.InsufficientPrivilege as error:
        raise IndexerError(
            f"this role may not: {error.diag.message_primary}; the owner of the tables may, with"
            " CREATE on the database"
        ) from None
    return True


def _statement() -> sql.Composed:
    return sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(NAME), _tables())


def _tables() -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier("ledger", one) for one in TABLES)
