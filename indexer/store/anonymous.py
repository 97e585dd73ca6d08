"""Writes liquidations of nobody known. Everything here runs inside the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from psycopg import sql

from indexer.model import AnonymousLiquidation
from indexer.store.database import Connection

_COLUMNS = AnonymousLiquidation.__struct_fields__
_APPEND = sql.SQL(
    """
    INSERT INTO ledger.anonymous_liquidation AS stored ({columns}) VALUES ({values})
    ON CONFLICT (venue, event_key) DO UPDATE SET {news}
    WHERE excluded.decoder_version > stored.decoder_version
    """
).format(
    columns=sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)),
    values=sql.SQL(", ").join(map(sql.Placeholder, _COLUMNS)),
    news=sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _COLUMNS
    ),
)


def append(connection: Connection, rows: Sequence[AnonymousLiquidation]) -> None:
    """Store those that are new, or made by newer rules. An event has one row, in one table."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            _APPEND, [{**msgspec.structs.asdict(row), "lacks": list(row.lacks)} for row in rows]
        )
    for table in ("liquidation", "undecoded"):
        _drop(connection, table, rows[0].venue, [row.event_key for row in rows])


def withdraw(connection: Connection, venue: str, event_keys: Sequence[str]) -> None:
    """Take back what newer rules make something else of."""
    _drop(connection, "anonymous_liquidation", venue, event_keys)


def _drop(connection: Connection, table: str, venue: str, event_keys: Sequence[str]) -> None:
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE venue = %s AND event_key = ANY(%s)").format(
            sql.Identifier("ledger", table)
        ),
        (venue, list(event_keys)),
    )


def sampled_until(connection: Connection, venue: str, source: str) -> datetime | None:
    """Up to when a sample of all accounts was taken from a source."""
    row: Any = connection.execute(
        "SELECT max(upper(times)) FROM ledger.sample"
        " WHERE (venue, source) = (%s, %s) AND account IS NULL",
        (venue, source),
    ).fetchone()
    return row[0] if row else None
