"""What changed since a consumer last asked, whatever transactions were under way then.

A cursor is a snapshot: what it does not see is what its holder lacks, also of a transaction that
began long before it and was committed after. `0025_feeds` says how rows are found.
"""

import base64
import binascii
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from indexer.errors import ConfigError
from indexer.store import exports
from indexer.store.database import Connection
from indexer.store.datasets import Column, Dataset, Scope
from indexer.store.exports import Shape

CHANGE = Column(
    "change", "text",
    "inserted: the row was not there at the cursor. changed: it was, and is another. withdrawn: it"
    " was, and is gone; only the columns of its key are not NULL.",
)  # fmt: skip


class Cursor(msgspec.Struct, frozen=True):
    """As of which snapshot of which database somebody has which rows."""

    dataset: str
    version: int
    columns: tuple[str, ...]
    venues: tuple[str, ...]
    low: datetime | None
    high: datetime | None
    database: str
    snapshot: str
    as_of: datetime

    @property
    def scope(self) -> Scope:
        return Scope(self.venues, self.low, self.high)


def read(token: str) -> Cursor:
    """The cursor of a token; ConfigError for anything else."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token.strip()), type=Cursor)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise ConfigError(
            "this is no cursor: give the .meta.json of an export, or what its cursor says"
        ) from None


def can_follow(of: Dataset, columns: Sequence[str]) -> bool:
    """Whether changes of these columns can be told."""
    return of.name in _FOLLOWED and set(_FOLLOWED[of.name].needed) <= set(columns)


def now(connection: Connection, of: Dataset, columns: Sequence[str], scope: Scope) -> str | None:
    """The token of what the transaction sees; None for a role that may not read what changed."""
    row: Any = connection.execute(
        "SELECT has_schema_privilege('ledger', 'USAGE') AND NOT pg_is_in_recovery()"
    ).fetchone()
    if not row[0]:
        return None
    said: Any = connection.execute("SELECT pg_current_snapshot()::text, now()").fetchone()
    cursor = Cursor(
        of.name, of.version, tuple(columns), scope.venues, scope.low, scope.high,
        _database(connection, of.name), *said,
    )  # fmt: skip
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def check(connection: Connection, cursor: Cursor, of: Dataset) -> None:
    """ConfigError where changes since a cursor cannot be told."""
    if cursor.version != of.version:
        raise ConfigError(
            f"the cursor is of version {cursor.version} of {of.name}, which has other columns than"
            f" version {of.version}: export it anew"
        )
    if cursor.database != _database(connection, of.name):
        raise ConfigError(
            "the cursor is of another database, or of a time before this one was restored or its"
            " tables were rewritten: export anew"
        )


def _database(connection: Connection, dataset: str) -> str:
    """What a cursor holds for: transactions have other numbers in another cluster, after a restore
    or on another timeline, and rows have others in a table that was rewritten or emptied."""
    try:
        row: Any = connection.execute(
            """
            SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                             left(pg_walfile_name(pg_current_wal_lsn()), 8),
                             (SELECT oid FROM pg_database WHERE datname = current_database()),
                             (SELECT string_agg(pg_relation_filenode(name)::text, '/' ORDER BY name)
                              FROM unnest(%s::text[]) name))
            """,
            (["ledger.written", "ledger.replaced", *_FOLLOWED[dataset].tables],),
        ).fetchone()
    except psycopg.errors.ObjectNotInPrerequisiteState:
        raise ConfigError("this server is a replica: ask the primary for changes") from None
    return str(row[0])


def stream(
    connection: Connection, of: Dataset, wanted: Sequence[Column], cursor: Cursor, shape: Shape
) -> Generator[bytes]:
    """Rows that were inserted, changed or withdrawn since the cursor, in the order of their keys:
    each once and as it is now, however often it changed between."""
    yield from exports.copied(connection, _query(of, wanted, cursor, shape), shape)


def set_notifying(connection: Connection, is_on: bool) -> None:
    """Whether writers notify the channel `indexer_rows`, from their next statement on."""
    connection.execute("UPDATE ledger.feed SET notifies = %s", (is_on,))


def _query(of: Dataset, wanted: Sequence[Column], cursor: Cursor, shape: Shape) -> sql.Composed:
    how = _FOLLOWED[of.name]
    scope = exports.conditions(of, cursor.scope)
    named = {name: sql.SQL(text) for name, text in how.keys.items()}
    columns = (
        sql.SQL("{} AS {}").format(
            named.get(one.name, sql.Identifier("s", one.name)), sql.Identifier(one.name)
        )
        for one in wanted
    )
    return sql.SQL(_CHANGED).format(
        snapshot=sql.Literal(cursor.snapshot),
        touched=sql.SQL(how.touched).format(scope=scope),
        cells=exports.cells([CHANGE, *wanted], shape),
        columns=sql.SQL(", ").join(columns),
        stored=sql.SQL(", ").join(sql.Identifier(one.name) for one in wanted),
        rows=exports.rows(of, sql.SQL("{} AND {}").format(sql.SQL(how.found), scope), cursor.scope),
    )


# Of versions that went, those that were written since the cursor were never seen by its holder.
_CHANGED = """
    WITH noted AS MATERIALIZED (
        SELECT facts, change, venue, xmin AS version, min(first_at) AS low, max(last_at) AS high,
               min(first_block) AS first_block, max(last_block) AS last_block
        FROM ledger.written
        WHERE transaction >= pg_snapshot_xmin({snapshot}::pg_snapshot)
          AND NOT pg_visible_in_snapshot(transaction, {snapshot}::pg_snapshot)
        GROUP BY facts, change, venue, xmin
    ), gone AS MATERIALIZED (
        SELECT r.facts, r.venue, r.event_key, r.account, r.block_at,
               NOT EXISTS (SELECT FROM noted n WHERE n.facts = r.facts AND n.version = r.version)
                   AS was_there
        FROM ledger.replaced r
        WHERE transaction >= pg_snapshot_xmin({snapshot}::pg_snapshot)
          AND NOT pg_visible_in_snapshot(transaction, {snapshot}::pg_snapshot)
    ), touched AS MATERIALIZED ({touched})
    SELECT {cells}
    FROM (
        SELECT CASE WHEN s.stands IS NULL THEN 'withdrawn'
                    WHEN t.is_new AND NOT t.was_there THEN 'inserted' ELSE 'changed' END AS change,
               t.venue AS by_venue, t.event_key AS by_key, t.account AS by_account, t.at AS by_at,
               {columns}
        FROM touched t LEFT JOIN LATERAL (SELECT true AS stands, {stored} FROM {rows}) s ON true
        WHERE s.stands OR t.was_there
    ) r
    ORDER BY r.by_venue, r.by_key, r.by_account, r.by_at
"""
_TOUCHED = """
    SELECT t.venue, t.event_key, t.account, l.block_at AS at, t.is_new, t.was_there
    FROM (
        SELECT venue, event_key, account, bool_or(is_new) AS is_new, bool_or(was_there) AS was_there
        FROM (
            SELECT l.venue, l.event_key, l.account, true AS is_new, false AS was_there
            FROM noted n JOIN {table} l
              ON l.venue = n.venue AND l.block_at BETWEEN n.low AND n.high AND l.xmin = n.version
            WHERE n.facts = '{facts}'
            UNION ALL
            SELECT venue, event_key, account, false, was_there
            FROM gone WHERE facts = '{facts}' AND {scope}
            {others}
        ) each
        GROUP BY venue, event_key, account
    ) t
    LEFT JOIN {table} l USING (account, venue, event_key)
"""
# A loan's row is also another when its values are, or what is known of its tokens and shares.
_OF_LOANS = """
            UNION ALL
            SELECT v.venue, v.event_key, v.account, false, false
            FROM noted n JOIN ledger.valuation v
              ON v.venue = n.venue AND v.block_at BETWEEN n.low AND n.high AND v.xmin = n.version
            WHERE n.facts = 'valuation' AND v.fill_usd IS NULL
            UNION ALL
            SELECT v.venue, v.event_key, v.account, false, false
            FROM noted n JOIN ledger.valuation v ON v.xmin = n.version
            WHERE n.facts = 'valuation' AND n.venue IS NULL AND v.fill_usd IS NULL
            UNION ALL
            SELECT venue, event_key, account, false, false FROM gone WHERE facts = 'valuation'
            UNION ALL
            SELECT l.venue, l.event_key, l.account, false, false
            FROM (
                SELECT DISTINCT a.chain, a.address
                FROM noted n JOIN ledger.asset a ON a.chain = n.venue AND a.xmin = n.version
                WHERE n.facts = 'asset'
            ) a
            JOIN ledger.lending_liquidation l ON ledger.chain_of(l.venue) = a.chain
             AND a.address IN (l.repaid_asset, l.seized_asset, l.bad_debt_asset)
            UNION ALL
            SELECT l.venue, l.event_key, l.account, false, false
            FROM noted n JOIN ledger.lending_liquidation l ON ledger.chain_of(l.venue) = n.venue
            WHERE n.facts = 'asset' AND n.change = 'delete'
               OR n.facts = 'share_rate' AND l.seized_is_shares
              AND l.block_number BETWEEN n.first_block AND n.last_block
"""
_TOUCHED_LABELS = """
    SELECT venue, event_key, account, at, bool_or(is_new) AS is_new, bool_or(was_there) AS was_there
    FROM (
        SELECT l.venue, l.label || '/' || l.rule AS event_key, l.account,
               lower(l.valid_during) AS at, true AS is_new, false AS was_there
        FROM noted n JOIN ledger.label l ON l.xmin = n.version
        WHERE n.facts = 'label' AND upper_inf(l.recorded_during)
        UNION ALL
        SELECT venue, event_key, account, block_at, false, was_there FROM gone
        WHERE facts = 'label'
    ) each
    WHERE {scope}
    GROUP BY venue, event_key, account, at
"""


class _Followed(NamedTuple):
    """How changes of a dataset are found: `touched` are the keys that may have changed, `found` is
    how a row is found by one, `keys` are the columns that a key says by itself."""

    tables: tuple[str, ...]
    touched: str
    found: str
    keys: dict[str, str]
    needed: tuple[str, ...]  # columns without which a consumer cannot tell which row is meant


def _of_facts(table: str, *further: str, others: str = "") -> _Followed:
    touched = _TOUCHED.replace("{table}", f"ledger.{table}").replace("{facts}", table)
    return _Followed(
        (f"ledger.{table}", *further),
        touched.replace("{others}", others),
        "(venue, event_key, account) = (t.venue, t.event_key, t.account) AND block_at = t.at",
        {
            "key": "t.venue || '/' || t.event_key || '/' || t.account",
            "venue": "t.venue", "event_key": "t.event_key", "account": "t.account",
        },
        ("key",),
    )  # fmt: skip


_FOLLOWED = {
    "liquidations": _of_facts("liquidation"),
    "lending_liquidations": _of_facts(
        "lending_liquidation", "ledger.valuation", "ledger.asset", "ledger.share_rate",
        others=_OF_LOANS,
    ),
    "labels": _Followed(
        ("ledger.label",),
        _TOUCHED_LABELS,
        "(venue, account, label || '/' || rule) = (t.venue, t.account, t.event_key)"
        " AND valid_from IS NOT DISTINCT FROM t.at",
        {
            "venue": "t.venue", "account": "t.account", "valid_from": "t.at",
            "label": "regexp_replace(t.event_key, '/[^/]*$', '')",
            "rule": "regexp_replace(t.event_key, '^.*/', '')",
        },
        ("venue", "account", "label", "rule", "valid_from"),
    ),
}  # fmt: skip
