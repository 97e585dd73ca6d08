"""Whom to ask the exchange about, and what it said of them."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from psycopg.types.json import Jsonb

from indexer.roles import ExchangeRole
from indexer.store.database import Connection


def wanted(
    connection: Connection, venue: str, min_usd: Decimal, asked_before: datetime
) -> list[str]:
    """Accounts that lost at least so much in liquidations or bear the label whale, and were not
    asked about since; those who lost most come first.

    Dollars are of the execution, dollar tokens at par. The exchange's own vaults are known."""
    found = connection.execute(
        """
        WITH fallen AS (
            SELECT account, sum(notional_usd) AS usd
            FROM liq.liquidations
            WHERE venue = %(venue)s AND NOT account_is_protocol_vault
            GROUP BY account
            HAVING sum(notional_usd) >= %(min_usd)s
        ), whales AS (
            SELECT DISTINCT account FROM liq.labels
            WHERE label = 'whale' AND venue IN (%(venue)s, '*')
        )
        SELECT account
        FROM fallen FULL JOIN whales USING (account)
        WHERE NOT EXISTS (
            SELECT FROM ledger.role_asked asked
            WHERE (asked.account, asked.venue) = (coalesce(fallen.account, whales.account),
                                                  %(venue)s)
              AND asked.asked_at >= %(asked_before)s
        )
        ORDER BY usd DESC NULLS LAST, account
        """,
        {"venue": venue, "min_usd": min_usd, "asked_before": asked_before},
    )
    return [str(account) for (account,) in found]


def append(connection: Connection, said: Iterable[ExchangeRole]) -> None:
    """Store answers in one transaction: a row where one differs from that before it, and when it
    was asked in any case. One that is older than what stands says nothing."""
    with connection.transaction():
        for one in said:
            values = {
                "venue": one.venue, "account": one.account, "role": one.role, "master": one.master,
                "leader": one.leader, "name": one.name, "raw": Jsonb(one.said),
                "at": one.observed_at,
            }  # fmt: skip
            connection.execute(_ASKED, values)  # its row also keeps a second program waiting
            connection.execute(_SAID, values)


_ASKED = """
    INSERT INTO ledger.role_asked AS asked (venue, account, asked_at)
    VALUES (%(venue)s, %(account)s, %(at)s)
    ON CONFLICT (account, venue) DO UPDATE
    SET asked_at = greatest(asked.asked_at, excluded.asked_at)
"""
_SAID = """
    INSERT INTO ledger.exchange_role (venue, account, role, master, leader, name, raw, observed_at)
    SELECT %(venue)s, %(account)s, %(role)s, %(master)s, %(leader)s, %(name)s, %(raw)s, %(at)s
    WHERE NOT EXISTS (
        SELECT FROM (
            SELECT * FROM ledger.exchange_role
            WHERE (account, venue) = (%(account)s, %(venue)s)
            ORDER BY observed_at DESC LIMIT 1
        ) before
        WHERE observed_at >= %(at)s
           OR (role, master, leader, name) IS NOT DISTINCT FROM
              (%(role)s::text, %(master)s::text, %(leader)s::text, %(name)s::text)
    )
"""
