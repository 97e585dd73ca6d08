"""Whose debt before a liquidation is to be asked for, and where the answers are kept."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from indexer.evm_model import BlockRef
from indexer.store.database import Connection

ROWS_AT_ONCE = 10_000


class Wanted(NamedTuple):
    """An account that was liquidated in a pool, and the block before: its hash where that of the
    liquidation names it, else empty."""

    venue: str
    account: str
    market: str
    block_number: int
    block_hash: str


class Debt(NamedTuple):
    """What an account owed in a pool and what stood against it, in whole `quote`. `quote_usd` are
    dollars for one of them, `via` the contracts that all of it rests on."""

    debt: Decimal
    collateral: Decimal | None
    health_factor: Decimal | None
    liquidation_threshold: Decimal | None
    quote: str
    quote_usd: Decimal | None
    via: tuple[str, ...]


class Told(NamedTuple):
    """What came of it at the end of a block; `reason` is why the debt, or its dollars, is
    unknown."""

    wanted: Wanted
    block: BlockRef
    debt: Debt | None
    reason: str | None


def wanted(
    connection: Connection,
    chain: str,
    venues: Sequence[str],
    min_usd: Decimal,
    *,
    again: bool = False,
) -> Iterator[Wanted]:
    """Those of whom one block's liquidations in a pool were worth as much and whose debt before it
    is unknown, the newest first; with `again` also those who were asked in vain. Other statements
    may run on the connection meanwhile."""
    with connection.cursor("wanted_debts", withhold=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(
            """
            SELECT l.venue, l.account, l.market, l.block_number - 1, coalesce(b.parent_hash, '')
            FROM (
                SELECT l.venue, l.account, l.market, l.block_number
                FROM ledger.lending_liquidation l
                JOIN liq.lending_values v
                    ON (v.venue, v.block_at, v.event_key, v.account)
                     = (l.venue, l.block_at, l.event_key, l.account)
                WHERE l.venue = ANY (%(venues)s) AND v.venue = ANY (%(venues)s)
                GROUP BY l.venue, l.account, l.market, l.block_number
                HAVING sum(coalesce(v.repaid_usd, v.seized_usd)) >= %(min_usd)s
            ) l
            JOIN ledger.block b ON b.chain = %(chain)s AND b.block_number = l.block_number
            WHERE NOT EXISTS (
                SELECT FROM ledger.debt_before d
                WHERE (d.account, d.venue, d.market, d.block_number)
                        = (l.account, l.venue, l.market, l.block_number - 1)
                  AND d.block_hash = coalesce(b.parent_hash, d.block_hash)
                  AND (d.reason IS NULL OR NOT %(again)s)
            ) AND NOT EXISTS (
                SELECT FROM liq.debts d
                WHERE (d.account, d.venue, d.market, d.block_number)
                        = (l.account, l.venue, l.market, l.block_number - 1)
                  AND d.asked_by = 'watch' AND d.debt_usd IS NOT NULL
            )
            ORDER BY l.block_number DESC, l.venue, l.market, l.account
            """,
            {"chain": chain, "venues": list(venues), "min_usd": min_usd, "again": again},
        )
        rows: Any = cursor
        for row in rows:
            yield Wanted(*row)


def append(connection: Connection, told: Sequence[Told]) -> None:
    """Store what was told, in one transaction, in the place of what was told before."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.debt_before AS known (
                account, venue, market, block_number, block_hash, block_at, reason, debt,
                collateral, health_factor, liquidation_threshold, quote, quote_usd, via
            ) VALUES (%s, %s, %s, %s, %s, to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (account, venue, market, block_number) DO UPDATE
            SET block_hash = excluded.block_hash, block_at = excluded.block_at,
                reason = excluded.reason, debt = excluded.debt, collateral = excluded.collateral,
                health_factor = excluded.health_factor,
                liquidation_threshold = excluded.liquidation_threshold, quote = excluded.quote,
                quote_usd = excluded.quote_usd, via = excluded.via, asked_at = now()
            """,
            [
                (
                    one.wanted.account, one.wanted.venue, one.wanted.market, one.block.number,
                    one.block.hash, one.block.time, one.reason, *_of(one.debt),
                )
                for one in told
            ],
        )  # fmt: skip


def _of(debt: Debt | None) -> tuple[object, ...]:
    return (None,) * len(Debt._fields) if debt is None else (*debt[:-1], list(debt.via))
