"""What a pass over values prepares in temporary tables, and how the stored rows are made equal to
it. Everything runs in the transaction of one part: a venue between two times."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from indexer.store.database import Connection

Scope = Mapping[str, Any]  # venue, low and high: half-open times

KEY = sql.SQL("venue, block_at, event_key, account")
IN_SCOPE = sql.SQL(
    "l.venue = %(venue)s"
    " AND l.block_at >= %(low)s::timestamptz AND l.block_at < %(high)s::timestamptz"
)

_OF_ROW = ("venue", "block_at", "event_key", "account")
# What names a row of a table, and what it says.
_COLUMNS = {
    "valuation": (
        (*_OF_ROW, "price_source"),
        (
            *(
                f"{leg}_{name}"
                for leg in ("repaid", "seized", "bad_debt")
                for name in ("usd", "price", "quality", "trust", "as_of_block", "as_of_at")
            ),
            *("seized_net_usd", "bonus_usd", "bonus_quality", "bonus_trust"),
            *("fill_usd", "mark_usd", "bankruptcy_usd", "margin_lost_usd", "realised_usd"),
            *("quote_price", "quote_quality", "quote_trust", "quote_as_of_at"),
        ),
    ),
    "unvalued": ((*_OF_ROW, "price_source", "reason"), ("bases",)),
    "suspect": ((*_OF_ROW, "rule"), ("detail",)),
}
TABLES = tuple(_COLUMNS)

_MAKE = sql.SQL(
    """
    -- beside what is written of lending: what there was to value, and, on the first part of a
    -- liquidation, sums over all of them
    CREATE TEMP TABLE IF NOT EXISTS staged_valuation (
        lacks boolean,  -- first: of most rows nothing behind it is looked at again
        LIKE ledger.valuation,
        part text,
        has_repaid boolean,
        has_seized boolean,
        has_taker boolean,
        has_bad_debt boolean,
        wants_bonus boolean,
        is_covered boolean,
        all_repaid_usd numeric,
        all_seized_usd numeric,
        all_fee_usd numeric,
        token_usd numeric
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS staged_unvalued (LIKE ledger.unvalued) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS staged_suspect (LIKE ledger.suspect) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE IF NOT EXISTS staged_file_price (
        asset text NOT NULL,
        is_shares boolean NOT NULL,
        block_number bigint NOT NULL,
        usd numeric,
        as_of_at timestamptz,
        reason text
    ) ON COMMIT DELETE ROWS;
    """
)
# Of a caller's longer transaction they hold what was before. A part is of a known size, and its
# temporary tables are without statistics: 64 MB holds it, and compiling would cost more than it
# saves.
_CLEAR = sql.SQL(
    """
    TRUNCATE staged_valuation, staged_unvalued, staged_suspect, staged_file_price;
    SET LOCAL work_mem = '64MB';
    SET LOCAL jit = off;
    """
)


def make_room(connection: Connection) -> None:
    """Empty temporary tables for one part."""
    connection.execute(_MAKE)
    connection.execute(_CLEAR)


def settle(connection: Connection, table: str, scope: Scope) -> Counter[str]:
    """Make a table equal to what is staged for it, touching only what differs."""
    names = _names(table)
    connection.execute(_SAY_SCOPE, scope)
    counts = _settle(connection, table, scope, names)
    connection.execute(_UNSAY_SCOPE)
    return counts


def _settle(
    connection: Connection, table: str, scope: Scope, names: dict[str, sql.Composable]
) -> Counter[str]:
    if connection.execute(_ANY.format(**names), scope).fetchone() == (False,):
        written = connection.execute(_INSERT.format(**names)).rowcount
        return Counter({"written": written, table: written})
    connection.execute("SET LOCAL enable_nestloop = off")  # both sides are one part, and no more
    removed = connection.execute(_DELETE_OTHERS.format(**names), scope).rowcount
    written = connection.execute(_INSERT_MISSING.format(**names), scope).rowcount
    connection.execute("SET LOCAL enable_nestloop = on")
    standing = number(connection, sql.SQL("({staged}) l").format(**names))
    return Counter({"written": written, "removed": removed, table: standing})


def number(connection: Connection, rows: sql.Composable, scope: Scope | None = None) -> int:
    """How many rows there are."""
    query = sql.SQL("SELECT count(*) FROM {rows}").format(rows=rows)
    row = connection.execute(query, scope).fetchone()
    return int(str(row[0])) if row else 0


def _names(table: str) -> dict[str, sql.Composable]:
    key, says = _COLUMNS[table]
    staged = sql.SQL("SELECT {columns} FROM {staged}{where}").format(
        columns=_list((*key, *says)),
        staged=sql.Identifier(f"staged_{table}"),
        where=sql.SQL(
            " WHERE num_nonnulls("
            "repaid_usd, seized_usd, seized_net_usd, bad_debt_usd, fill_usd) > 0"
            if table == "valuation"
            else ""
        ),
    )
    return {
        "table": sql.Identifier("ledger", table), "columns": _list((*key, *says)),
        "staged": staged, "scope": IN_SCOPE,
        "stored_key": _list(key, "l"), "staged_key": _list(key, "now"),
        "stored_says": _list(says, "l"), "staged_says": _list(says, "now"),
    }  # fmt: skip


def _list(columns: Sequence[str], *of: str) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*of, column) for column in columns)


# A trigger notes it with what is written: feeds find the rows by it.
_SAY_SCOPE = """
    SELECT set_config('indexer.valued', json_build_object(
        'venue', %(venue)s::text, 'low', %(low)s::timestamptz, 'high', %(high)s::timestamptz
    )::text, true)
"""
_UNSAY_SCOPE = "SELECT set_config('indexer.valued', '', true)"
_ANY = sql.SQL("SELECT EXISTS (SELECT FROM {table} l WHERE {scope})")
_INSERT = sql.SQL("INSERT INTO {table} ({columns}) {staged}")
_DELETE_OTHERS = sql.SQL(
    """
    DELETE FROM {table} l WHERE {scope} AND NOT EXISTS (
        SELECT FROM ({staged}) now
        WHERE ({staged_key}) = ({stored_key})
          AND ROW({staged_says}) IS NOT DISTINCT FROM ROW({stored_says})
    )
    """
)
_INSERT_MISSING = sql.SQL(
    """
    INSERT INTO {table} ({columns})
    SELECT {columns} FROM ({staged}) now WHERE NOT EXISTS (
        SELECT FROM {table} l WHERE {scope} AND ({staged_key}) = ({stored_key})
    )
    """
)
