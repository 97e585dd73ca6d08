"""Whom to watch, what was observed of them, and what became of it."""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from psycopg.rows import class_row

from indexer.positions import AccountState, Position
from indexer.store.database import Connection


class Watched(NamedTuple):
    """An account on a venue and the largest dollar figure that its labels stand on; None where
    they name none."""

    venue: str
    account: str
    size_usd: Decimal | None


def labelled(connection: Connection, label: str, min_usd: Decimal | None) -> list[Watched]:
    """The accounts with a label that holds now, the largest first. With a minimum those of unknown
    size are left out."""
    with connection.cursor(row_factory=class_row(Watched)) as cursor:
        return cursor.execute(
            r"""
            SELECT venue, account, size_usd
            FROM (
                SELECT venue, account, max(said.value::numeric) AS size_usd
                FROM liq.labels
                LEFT JOIN LATERAL jsonb_each_text(
                    CASE jsonb_typeof(evidence) WHEN 'object' THEN evidence ELSE '{}' END
                ) said ON said.key LIKE '%%\_usd' AND said.value ~ '^[0-9]{1,30}(\.[0-9]+)?$'
                WHERE label = %(label)s
                  AND coalesce(valid_from, '-infinity') <= now()
                  AND coalesce(valid_to, 'infinity') > now()
                GROUP BY venue, account
            ) sized
            WHERE %(min_usd)s::numeric IS NULL OR size_usd >= %(min_usd)s
            ORDER BY size_usd DESC NULLS LAST, venue, account
            """,
            {"label": label, "min_usd": min_usd},
        ).fetchall()


_OF_POSITION = (
    "side", "size", "entry_price", "mark_price", "liquidation_price", "value", "unrealised",
    "leverage", "margin_mode", "margin_used", "debt", "health_factor", "liquidation_threshold",
    "distance",
)  # fmt: skip


def append(connection: Connection, state: AccountState) -> None:
    """Store an observation, in one transaction; one of a moment that is stored already is the
    same."""
    key = (state.account, state.venue, state.dex)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ledger.account_state (
                account, venue, dex, observed_at, block_number, quote, equity, margin_used,
                maintenance_margin, withdrawable, positions
            ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
            """,
            (
                *key, state.observed_at, state.block_number, state.quote, state.equity,
                state.margin_used, state.maintenance_margin, state.withdrawable,
                len(state.positions),
            ),
        )  # fmt: skip
        if cursor.rowcount == 0:
            return
        cursor.executemany(
            f"""
            INSERT INTO ledger.position_state (
                account, venue, dex, observed_at, market, {", ".join(_OF_POSITION)}
            ) VALUES (%s, %s, %s, %s, %s{", %s" * len(_OF_POSITION)})
            """,  # noqa: S608 - names of columns, from above
            [(*key, state.observed_at, one.market, *_of(one)) for one in state.positions],
        )
        cursor.executemany(
            """
            INSERT INTO ledger.watched_position (account, venue, dex, market)
            VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
            """,
            [(*key, one.market) for one in state.positions],
        )


def _of(one: Position) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in _OF_POSITION)


class Summary(NamedTuple):
    """How watched positions stand, the number of each; `observed_at` is the latest look at any."""

    accounts: int
    open: int
    under_water: int
    at_risk: int
    stale: int
    liquidated: int
    closed: int
    gone: int
    observed_at: datetime | None


def summary(connection: Connection) -> Summary:
    """Of all accounts that were ever watched."""
    with connection.cursor(row_factory=class_row(Summary)) as cursor:
        found = cursor.execute(
            """
            SELECT (SELECT count(DISTINCT (venue, account)) FROM ledger.watched_position)
                       AS accounts,
                   count(*) FILTER (WHERE status = 'open') AS open,
                   (SELECT count(*) FROM liq.whales_under_water) AS under_water,
                   count(*) FILTER (WHERE status = 'open' AND is_at_risk) AS at_risk,
                   count(*) FILTER (WHERE status = 'stale') AS stale,
                   count(*) FILTER (WHERE status = 'liquidated') AS liquidated,
                   count(*) FILTER (WHERE status = 'closed') AS closed,
                   count(*) FILTER (WHERE status = 'gone') AS gone,
                   max(coalesce(gone_at, observed_at)) AS observed_at
            FROM liq.positions_now
            """
        ).fetchone()
    assert found is not None
    return found


class Shown(msgspec.Struct, frozen=True):
    """A position as the views tell it."""

    venue: str
    account: str
    market: str
    status: str
    labels: list[str]
    side: str | None
    size: Decimal | None
    entry_price: Decimal | None
    mark_price: Decimal | None
    liquidation_price: Decimal | None
    leverage: Decimal | None
    value_usd: Decimal | None
    debt_usd: Decimal | None
    unrealised_usd: Decimal | None
    health_factor: Decimal | None
    distance: Decimal | None
    is_at_risk: bool | None
    liquidations: int | None
    observed_at: datetime
    gone_at: datetime | None


_SHOWN = ", ".join(f"p.{name}" for name in Shown.__struct_fields__)


def under_water(connection: Connection, top: int) -> list[Shown]:
    """The open positions with the largest losses."""
    return _shown(
        connection,
        "JOIN liq.whales_under_water USING (venue, account, dex, market)"
        " ORDER BY p.unrealised_usd NULLS LAST, p.venue, p.account, p.market LIMIT %s",
        top,
    )


def closest(connection: Connection, top: int) -> list[Shown]:
    """The open positions that are closest to liquidation."""
    return _shown(
        connection,
        "JOIN liq.closest_to_liquidation USING (venue, account, dex, market)"
        " ORDER BY p.distance, p.venue, p.account, p.market LIMIT %s",
        top,
    )


def ended(connection: Connection, top: int) -> list[Shown]:
    """The positions that were there and are not any more, or that nobody looked at lately; those
    that went last come first."""
    return _shown(
        connection,
        "WHERE p.status <> 'open' ORDER BY coalesce(p.gone_at, p.observed_at) DESC, p.venue,"
        " p.account, p.market LIMIT %s",
        top,
    )


def _shown(connection: Connection, which: str, *values: Any) -> list[Shown]:
    with connection.cursor(row_factory=class_row(Shown)) as cursor:
        return cursor.execute(
            f"SELECT {_SHOWN} FROM liq.positions_now p {which}",  # noqa: S608 - constants of this file
            values,
        ).fetchall()
