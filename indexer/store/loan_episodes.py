"""What befell one account on one lending venue within one episode, read as one story."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec

from indexer.store.database import Connection
from indexer.store.episodes import LABELS, Asker, Label, Lack, Place

Role = Literal["repaid", "seized", "bad_debt"]


class Amount(msgspec.Struct, frozen=True):
    """One asset in one role. `raw` is in base units or shares; `amount` in whole ones, None where
    the decimals are unknown. `usd` is the sum of the records that have a value, None of none."""

    role: Role
    asset: str | None
    symbol: str | None
    is_shares: bool
    records: int
    raw: Decimal
    amount: Decimal | None
    usd: Decimal | None
    unvalued: int


class Liquidator(msgspec.Struct, frozen=True):
    """Who liquidated, None where the chain does not tell; dollars of what has a value."""

    account: str | None
    records: int
    repaid_usd: Decimal | None
    seized_usd: Decimal | None
    bonus_usd: Decimal | None


class LoanStep(msgspec.Struct, frozen=True):
    """One record: a liquidation, or a further asset in one."""

    at: datetime
    block_number: int
    tx_hash: str
    method: str
    market: str
    liquidator: str | None
    repaid_asset: str | None
    repaid_symbol: str | None
    repaid_raw: Decimal | None
    repaid: Decimal | None
    repaid_usd: Decimal | None
    seized_asset: str | None
    seized_symbol: str | None
    seized_is_shares: bool
    seized_raw: Decimal | None
    seized: Decimal | None
    seized_usd: Decimal | None
    bonus_usd: Decimal | None
    bad_debt_asset: str | None
    bad_debt_symbol: str | None
    bad_debt_raw: Decimal | None
    bad_debt: Decimal | None
    bad_debt_usd: Decimal | None


class LoanStory(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="lending"):
    """The episode of an account on one lending venue.

    Dollars are of each basis from its best price source, as in `liq.lending_values`: a sum is of
    the records that have a value, None of none, and `without_…` counts those that have an amount
    and no value. Repaid and seized are two sides of the same thing: never add them.
    """

    key: str
    venue: str
    account: str
    owner: str | None
    first_at: datetime
    last_at: datetime
    first_block: int
    last_block: int
    records: int
    liquidations: int
    actions: int
    markets: tuple[str, ...]
    methods: tuple[str, ...]
    is_final: bool
    was_read_whole: bool
    repaid_usd: Decimal | None
    seized_usd: Decimal | None
    bonus_usd: Decimal | None
    bad_debt_usd: Decimal | None
    without_repaid: int
    without_seized: int
    without_bonus: int
    without_bad_debt: int
    bad_debts: int
    price_sources: tuple[str, ...]
    labels: tuple[Label, ...] = ()
    amounts: tuple[Amount, ...] = ()
    liquidators: tuple[Liquidator, ...] = ()
    lacks: tuple[Lack, ...] = ()
    steps: tuple[LoanStep, ...] = ()

    @property
    def lasted(self) -> timedelta:
        """From the first to the last liquidation."""
        return self.last_at - self.first_at


def read(connection: Connection, places: Sequence[Place], gap: timedelta) -> list[LoanStory]:
    """The stories of loans at these places, in their order; a place without one is left out.

    To be called once within a transaction, which drops the temporary table at its end."""
    ask = Asker(connection, places, gap)
    ask.run(TOLD)
    ask.run("ANALYZE told_loan")
    parts: dict[str, dict[int, list[Any]]] = {
        "labels": ask.grouped(LABELS.replace("{told}", "told_loan"), Label),
        "amounts": ask.grouped(_AMOUNTS, Amount),
        "liquidators": ask.grouped(_LIQUIDATORS, Liquidator),
        "lacks": ask.grouped(LACKS, Lack),
        "steps": ask.grouped(_STEPS, LoanStep),
    }
    return [
        msgspec.convert(
            row | {name: tuple(found[row["place"]]) for name, found in parts.items()}, LoanStory
        )
        for row in ask.rows(_HEADER)
    ]


# As of perpetuals: windows keep the planner from joining whole tables.
TOLD = """
    CREATE TEMP TABLE told_loan ON COMMIT DROP AS
    SELECT asked.place, mine.*, worth.repaid_usd, worth.seized_usd, worth.bonus_usd,
           worth.bad_debt_usd, worth.repaid_source, worth.seized_source, worth.bonus_source,
           worth.bad_debt_source, bad.symbol AS bad_debt_symbol
    FROM unnest(%(venues)s::text[], %(accounts)s::text[], %(moments)s::timestamptz[])
        WITH ORDINALITY AS asked (venue, account, at, place)
    CROSS JOIN LATERAL (
        SELECT numbered.*, bool_or(block_at = asked.at) OVER (PARTITION BY episode) AS is_asked
        FROM (
            SELECT spaced.*, count(*) FILTER (WHERE is_late) OVER (ORDER BY block_at) AS episode
            FROM (
                SELECT l.*, l.block_at - lag(l.block_at) OVER (ORDER BY l.block_at) > %(gap)s
                           AS is_late
                FROM liq.lending_liquidations l
                WHERE l.account = asked.account AND l.venue = asked.venue
            ) spaced
        ) numbered
    ) mine
    LEFT JOIN LATERAL (
        SELECT * FROM liq.lending_values v
        WHERE v.venue = mine.venue AND v.block_at = mine.block_at
          AND v.event_key = mine.event_key AND v.account = mine.account
        LIMIT 1
    ) worth ON true
    LEFT JOIN ledger.asset bad ON bad.chain = mine.chain AND bad.address = mine.bad_debt_asset
    WHERE mine.is_asked
"""

_HEADER = """
    SELECT place,
           min(venue) || '/' || min(account) || '/@'
               || to_char(min(block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US') AS key,
           min(venue) AS venue, min(account) AS account, min(owner) AS owner,
           min(block_at) AS first_at, max(block_at) AS last_at,
           min(block_number) AS first_block, max(block_number) AS last_block,
           count(*) AS records, count(*) FILTER (WHERE part = 0) AS liquidations,
           count(DISTINCT tx_hash) AS actions,
           array_agg(DISTINCT market ORDER BY market) AS markets,
           array_agg(DISTINCT method ORDER BY method) AS methods,
           bool_and(is_final) AS is_final,
           ledger.has_read(min(venue), min(block_at), max(block_at)) AS was_read_whole,
           sum(repaid_usd) AS repaid_usd, sum(seized_usd) AS seized_usd,
           sum(bonus_usd) AS bonus_usd, sum(bad_debt_usd) AS bad_debt_usd,
           count(repaid_raw) FILTER (WHERE repaid_usd IS NULL) AS without_repaid,
           count(seized_raw) FILTER (WHERE seized_usd IS NULL) AS without_seized,
           count(*) FILTER (WHERE part = 0 AND bonus_usd IS NULL
                            AND repaid_raw > 0 AND seized_raw > 0) AS without_bonus,
           count(bad_debt_raw) FILTER (WHERE bad_debt_usd IS NULL) AS without_bad_debt,
           count(bad_debt_raw) AS bad_debts,
           (SELECT coalesce(array_agg(DISTINCT source ORDER BY source), '{}')
            FROM told_loan one CROSS JOIN LATERAL (VALUES
                (repaid_source), (seized_source), (bonus_source), (bad_debt_source)
            ) of (source) WHERE one.place = told_loan.place AND source IS NOT NULL)
               AS price_sources
    FROM told_loan
    GROUP BY place
    ORDER BY place
"""

_AMOUNTS = """
    SELECT place, role, asset, min(symbol) AS symbol, is_shares, count(*) AS records,
           sum(raw) AS raw, CASE WHEN count(amount) = count(*) THEN sum(amount) END AS amount,
           sum(usd) AS usd, count(*) - count(usd) AS unvalued
    FROM told_loan
    CROSS JOIN LATERAL (VALUES
        (1, 'repaid', repaid_asset, repaid_symbol, false, repaid_raw, repaid, repaid_usd),
        (2, 'seized', seized_asset, seized_symbol, seized_is_shares, seized_raw, seized,
         seized_usd),
        (3, 'bad_debt', bad_debt_asset, bad_debt_symbol, false, bad_debt_raw, bad_debt,
         bad_debt_usd)
    ) of (rank, role, asset, symbol, is_shares, raw, amount, usd)
    WHERE raw IS NOT NULL
    GROUP BY place, rank, role, asset, is_shares
    ORDER BY place, rank, sum(usd) DESC NULLS LAST, asset
"""

_LIQUIDATORS = """
    SELECT place, liquidator AS account, count(*) AS records, sum(repaid_usd) AS repaid_usd,
           sum(seized_usd) AS seized_usd, sum(bonus_usd) AS bonus_usd
    FROM told_loan
    GROUP BY place, liquidator
    ORDER BY place, sum(repaid_usd) DESC NULLS LAST, count(*) DESC, liquidator
"""

# A basis that some source gives is not lacking, whatever the others could not say.
LACKS = """
    SELECT t.place, of.basis, why.reason, count(*) AS records
    FROM told_loan t
    CROSS JOIN LATERAL (VALUES
        (1, 'repaid', t.repaid_raw IS NOT NULL AND t.repaid_usd IS NULL),
        (2, 'seized', t.seized_raw IS NOT NULL AND t.seized_usd IS NULL),
        (3, 'bad_debt', t.bad_debt_raw IS NOT NULL AND t.bad_debt_usd IS NULL)
    ) of (rank, basis, is_lacking)
    LEFT JOIN LATERAL (
        SELECT u.reason FROM ledger.unvalued u
        WHERE u.venue = t.venue AND u.block_at = t.block_at AND u.event_key = t.event_key
          AND u.account = t.account AND of.basis = ANY (u.bases)
        ORDER BY liq.source_rank(u.price_source), u.price_source, u.reason
        LIMIT 1
    ) why ON true
    WHERE of.is_lacking
    GROUP BY t.place, of.rank, of.basis, why.reason
    ORDER BY t.place, of.rank, why.reason
"""

_STEPS = """
    SELECT t.*, block_at AS at FROM told_loan t
    ORDER BY place, block_number, log_index, part, event_key
"""
