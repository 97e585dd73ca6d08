"""Which prices are wanted, and where those that were told are kept."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from indexer.evm_model import BlockRef
from indexer.pricing import NoPrice, Price, Wanted, rate
from indexer.store.database import Connection

ROWS_AT_ONCE = 10_000


def wanted(
    connection: Connection,
    chain: str,
    venues: Sequence[str],
    *,
    again: bool = False,
    since: datetime | None = None,
) -> Iterator[Wanted]:
    """The assets in liquidations of some venues of a chain that have no price, the newest first;
    what was asked before in vain is among them only with `again`. Other statements may run on the
    connection meanwhile: what is wanted was decided at the start."""
    with connection.cursor("wanted_prices", withhold=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(
            """
            SELECT l.venue, l.market, leg.asset,
                   coalesce(min('0x' || encode(raw.emitter, 'hex')), l.market),
                   l.block_number, block.hash, coalesce(block.parent_hash, ''),
                   extract(epoch FROM block.block_at)::bigint,
                   array_agg(DISTINCT place.log_index ORDER BY place.log_index),
                   min(coalesce(rate.underlying, fact.value)), min(rate.assets_raw),
                   min(rate.shares_raw)
            FROM ledger.lending_liquidation l
            CROSS JOIN LATERAL (
                VALUES (l.repaid_asset), (l.seized_asset), (l.bad_debt_asset)
            ) leg (asset)
            CROSS JOIN LATERAL (SELECT split_part(l.event_key, '/', 2)::int AS log_index) place
            JOIN ledger.block ON block.chain = %(chain)s AND block.block_number = l.block_number
            LEFT JOIN ledger.raw_log raw ON raw.chain = %(chain)s
                AND raw.block_number = l.block_number AND raw.log_index = place.log_index
            LEFT JOIN ledger.share_rate rate ON l.seized_is_shares AND rate.chain = %(chain)s
                AND rate.asset = leg.asset AND rate.block_number = l.block_number
            LEFT JOIN ledger.fact ON fact.chain = %(chain)s AND fact.fact = 'underlying'
                AND fact.subject = leg.asset
            WHERE l.venue = ANY(%(venues)s) AND leg.asset IS NOT NULL
              AND (%(since)s::timestamptz IS NULL OR l.block_at >= %(since)s)
              AND NOT EXISTS (
                  SELECT FROM ledger.price p
                  WHERE (p.venue, p.asset, p.market, p.block_number)
                      = (l.venue, leg.asset, l.market, l.block_number)
                    AND p.log_index IN (-1, place.log_index))
              AND (%(again)s OR NOT EXISTS (
                  SELECT FROM ledger.no_price n
                  WHERE (n.venue, n.asset, n.market, n.block_number)
                      = (l.venue, leg.asset, l.market, l.block_number)
                    AND n.log_index IN (-1, place.log_index)))
            GROUP BY l.venue, l.market, leg.asset, l.block_number, block.hash, block.parent_hash,
                     block.block_at
            ORDER BY l.block_number DESC, l.venue, l.market, leg.asset
            """,
            {"chain": chain, "venues": list(venues), "since": since, "again": again},
        )
        rows: Any = cursor
        for venue, market, asset, emitter, number, *block, places, token, assets, shares in rows:
            yield Wanted(
                venue, market, asset, emitter, BlockRef(chain, number, *block), tuple(places),
                _share(token, assets, shares),
            )  # fmt: skip


def _share(
    token: str | None, assets_raw: Decimal | None, shares_raw: Decimal | None
) -> tuple[str, Decimal] | None:
    if token is None or assets_raw is None or shares_raw is None:
        return None
    found = rate(assets_raw, shares_raw)
    return None if found is None else (token, found)


def append(
    connection: Connection,
    chain: str,
    asked: Sequence[Wanted],
    told: Sequence[Price | NoPrice],
) -> None:
    """Store what became of some questions, in the caller's transaction, as far as their blocks
    are still ours: a block that is locked here is taken back after us, with what we store. A price
    that is there already stands."""
    _forget(connection, asked)
    prices = [one for one in told if isinstance(one, Price)]
    missing = [one for one in told if isinstance(one, NoPrice)]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.price (
                venue, market, asset, block_number, log_index, source, usd, quality, trust, via,
                as_of_block, as_of_at
            )
            SELECT %s, %s, %s, block_number, %s, %s, %s, %s, %s, %s, %s, to_timestamp(%s)
            FROM ledger.block WHERE (chain, block_number, hash) = (%s, %s, %s) FOR KEY SHARE
            ON CONFLICT DO NOTHING
            """,
            [
                (p.venue, p.market, p.asset, p.log_index, p.source, p.usd, p.quality, p.trust,
                 list(p.via), p.as_of_block, p.as_of_time, chain, p.block_number, p.block_hash)
                for p in prices
            ],
        )  # fmt: skip
        cursor.executemany(
            """
            INSERT INTO ledger.no_price (venue, market, asset, block_number, log_index, reason)
            SELECT %s, %s, %s, block_number, %s, %s
            FROM ledger.block WHERE (chain, block_number, hash) = (%s, %s, %s) FOR KEY SHARE
            ON CONFLICT DO NOTHING
            """,
            [
                (n.venue, n.market, n.asset, n.log_index, n.reason, chain, n.block_number,
                 n.block_hash)
                for n in missing
            ],
        )  # fmt: skip


def _forget(connection: Connection, asked: Sequence[Wanted]) -> None:
    """What was asked in vain before and is asked again."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            DELETE FROM ledger.no_price
            WHERE (venue, asset, market, block_number) = (%s, %s, %s, %s)
              AND (log_index = -1 OR log_index = ANY(%s))
            """,
            [
                (one.venue, one.asset, one.market, one.block.number, list(one.log_indexes))
                for one in asked
            ],
        )


# what there is


class Summary(NamedTuple):
    """How many liquidations of a venue have a value, how many lack one by reason, and how many
    look wrong."""

    venue: str
    valued: int
    unvalued: int
    reasons: list[tuple[str, int]]
    suspects: int


def summary(connection: Connection, venues: Sequence[str]) -> list[Summary]:
    """Of those venues that have anything to value; liquidations are counted once each."""
    rows: Any = connection.execute(
        """
        WITH valued AS (
            SELECT DISTINCT venue, block_at, event_key, account FROM ledger.valuation
            WHERE venue = ANY(%(venues)s)
        ), reason AS (
            SELECT venue, reason, count(DISTINCT (event_key, account)) AS rows
            FROM ledger.unvalued WHERE venue = ANY(%(venues)s) GROUP BY venue, reason
        ), unvalued AS (
            SELECT venue, count(DISTINCT (event_key, account)) AS rows
            FROM ledger.unvalued WHERE venue = ANY(%(venues)s) GROUP BY venue
        ), suspect AS (
            SELECT venue, count(DISTINCT (event_key, account)) AS rows
            FROM ledger.suspect WHERE venue = ANY(%(venues)s) GROUP BY venue
        )
        SELECT venue, coalesce(valued.rows, 0), coalesce(unvalued.rows, 0),
               coalesce((
                   SELECT jsonb_agg(jsonb_build_array(reason, rows) ORDER BY rows DESC, reason)
                   FROM reason WHERE reason.venue = found.venue
               ), '[]'),
               coalesce(suspect.rows, 0)
        FROM (SELECT venue FROM valued UNION SELECT venue FROM unvalued) found
        LEFT JOIN (SELECT venue, count(*) AS rows FROM valued GROUP BY venue) valued USING (venue)
        LEFT JOIN unvalued USING (venue)
        LEFT JOIN suspect USING (venue)
        ORDER BY venue
        """,
        {"venues": list(venues)},
    )
    return [
        Summary(venue, valued, unvalued, [(reason, count) for reason, count in reasons], suspects)
        for venue, valued, unvalued, reasons, suspects in rows
    ]


def indexed(connection: Connection) -> list[str]:
    """The venues of which anything is covered."""
    rows = connection.execute("SELECT DISTINCT venue FROM ledger.coverage ORDER BY venue")
    return [str(venue) for (venue,) in rows]


class File(NamedTuple):
    """A price file that was imported."""

    name: str
    uri: str
    points: int
    max_age: timedelta
    imported_at: datetime


def files(connection: Connection) -> list[File]:
    """All of them, by name."""
    rows: Any = connection.execute(
        "SELECT name, uri, points, max_age, imported_at FROM ledger.price_file ORDER BY name"
    )
    return [File(*row) for row in rows]
