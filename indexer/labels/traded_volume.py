"""Whales by what they trade in a month."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="TRADED_VOLUME",
    version=1,
    makes="labels",
    reads=("account_days",),
    needs="(SELECT account FROM liq.account_days GROUP BY venue, account"
    " HAVING sum(volume) >= %(volume_usd)s)",
    sentence="Traded at least {volume_usd:,} USD in a calendar month, UTC; holds to {days} days"
    " after its end.",
    parameters={"volume_usd": Decimal(1_000_000_000), "days": 90, "confidence": Decimal("0.5")},
    query="""
        WITH months AS (
            SELECT venue, account, date_trunc('month', day::timestamp) AS month,
                   sum(volume) AS volume
            FROM liq.account_days
            WHERE liq.at_par(quote)
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
            GROUP BY 1, 2, 3
            HAVING sum(volume) >= %(volume_usd)s
        ), held AS (
            SELECT venue, account, unnest(range_agg(tstzrange(
                       month AT TIME ZONE 'UTC',
                       (month + interval '1 month') AT TIME ZONE 'UTC'
                           + make_interval(days => %(days)s)))) AS valid_during
            FROM months GROUP BY venue, account
        )
        SELECT held.venue, held.account, 'heavy_trader' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'volume_usd', trim_scale(max(m.volume))::text,
                   'month', (array_agg(to_char(m.month, 'YYYY-MM')
                                       ORDER BY m.volume DESC, m.month))[1],
                   'months', count(*)
               ) AS evidence,
               held.valid_during
        FROM held JOIN months m ON (m.venue, m.account) = (held.venue, held.account)
            AND held.valid_during @> m.month AT TIME ZONE 'UTC'
        WHERE ledger.never_because(held.venue, held.account) IS NULL
        GROUP BY held.venue, held.account, held.valid_during
    """,
)
