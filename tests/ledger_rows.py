"""Reads what is in the ledger, in the shapes of the simulator's truth."""

from collections.abc import Iterable
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from indexer.store.database import Connection
from tests.simulator import Truth
from tests.simulator.truth import Group, Liquidation

Rows = list[tuple[Any, ...]]


def rows(connection: Connection, query: str) -> Rows:
    """All rows of a query, in an order of their own."""
    return in_order(connection.execute(query).fetchall())


def in_order(found: Iterable[Iterable[Any]]) -> Rows:
    """Rows without trailing zeros in their numbers, sorted, so that two readings compare."""
    return sorted((tuple(map(_plain, row)) for row in found), key=repr)


def _plain(value: Any) -> Any:
    return value.normalize() + 0 if isinstance(value, Decimal) else value


def everything(connection: Connection) -> dict[str, Rows]:
    """All facts and all coverage; where and when we read them may differ between two runs."""
    return {
        "liquidations": rows(connection, "SELECT * FROM ledger.liquidation"),
        "raw": rows(
            connection,
            "SELECT chain, event_key, block_number, block_at, body FROM ledger.raw_event",
        ),
        "undecoded": rows(connection, "SELECT * FROM ledger.undecoded"),
        "ledger": rows(connection, "SELECT * FROM ledger.ledger_liquidation"),
        "days": rows(connection, "SELECT * FROM ledger.account_day"),
        "minutes": rows(connection, "SELECT * FROM ledger.market_minute"),
        "orders": rows(connection, "SELECT * FROM liq.orders"),
        "actions": rows(connection, "SELECT * FROM liq.actions"),
        "episodes": rows(connection, "SELECT * FROM liq.episodes()"),
        "coverage": rows(
            connection,
            "SELECT venue, facts, range_agg(blocks), min(lower(times)), max(upper(times))"
            " FROM ledger.coverage GROUP BY 1, 2",
        ),
    }


LIQUIDATIONS = """
    SELECT block_number, block_at, market, trade_id, tx_hash, order_id, account, counterparty,
           method, side, size, price, notional, mark_price, notional_mark, position_before,
           position_after, is_full_close, fee, fee_asset, realised_pnl, dir_liquidated,
           dir_counterparty, dex, quote
    FROM ledger.liquidation
"""


def true_liquidations(truth: Truth) -> Rows:
    """What the query LIQUIDATIONS must give."""
    return in_order(map(_liquidation, (*truth.liquidations, *truth.without_object)))


def _liquidation(row: Liquidation) -> tuple[Any, ...]:
    fields = asdict(row)
    fields["tid"], fields["oid"] = str(row.tid), str(row.oid)
    del fields["variant"], fields["counterparty_oid"]
    return tuple(fields.values())


def true_groups(groups: Iterable[Group]) -> Rows:
    """Groups as (key.., first, last, fills, notional, mark notional)."""
    return in_order(
        (*g.key, g.first_at, g.last_at, g.fills, g.notional, g.notional_mark) for g in groups
    )
