"""Market makers, by how much of what they traded they made, on both sides and in many markets."""

from decimal import Decimal

from indexer.model import Rule

# A tag, not an opinion on size: it takes no label away and makes nobody a whale.
RULE = Rule(
    id="ROLE_MM",
    version=1,
    makes="labels",
    reads=("account_days",),
    needs="(SELECT account FROM liq.account_days GROUP BY venue, account"
    " HAVING sum(cardinality(maker_markets)) >= %(markets)s)",
    sentence="Made at least {maker_share} of what it traded in {window_days} days, UTC, in at least"
    " {markets} markets, and of that at least {side_share} on each side; holds for {days} days"
    " after the last of such days.",
    parameters={
        "maker_share": Decimal("0.7"),
        "side_share": Decimal("0.25"),
        "markets": 30,
        "window_days": 30,
        "days": 90,
        "confidence": Decimal("0.6"),
    },
    query="""
        WITH broad AS (
            -- the markets of all its days together are at least those of some of them
            SELECT venue, account FROM liq.account_days
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
            GROUP BY venue, account HAVING sum(cardinality(maker_markets)) >= %(markets)s
        ), active AS (
            -- what is unknown of a day is not known to be made, and still traded
            SELECT venue, account, day, sum(volume) AS volume,
                   coalesce(sum(maker_bought), 0) AS bought, coalesce(sum(maker_sold), 0) AS sold
            FROM liq.account_days JOIN broad USING (venue, account)
            WHERE liq.at_par(quote) AND fills > 0
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
            GROUP BY venue, account, day
        ), past_days AS (
            SELECT venue, account, day, sum(volume) OVER past AS volume,
                   sum(bought) OVER past AS bought, sum(sold) OVER past AS sold
            FROM active
            WINDOW past AS (
                PARTITION BY venue, account ORDER BY day
                RANGE BETWEEN make_interval(days => %(window_days)s - 1) PRECEDING
                          AND CURRENT ROW
            )
        ), made AS (
            SELECT t.venue, t.account, t.day, t.volume, t.bought, t.sold, breadth.markets,
                   t.day::timestamp AT TIME ZONE 'UTC' AS began_at
            FROM past_days t
            CROSS JOIN LATERAL (
                SELECT count(DISTINCT market) AS markets
                FROM liq.account_days d CROSS JOIN LATERAL unnest(d.maker_markets) AS market
                WHERE (d.venue, d.account) = (t.venue, t.account) AND liq.at_par(d.quote)
                  AND d.day > t.day - %(window_days)s::int AND d.day <= t.day
            ) breadth
            WHERE t.volume > 0 AND t.bought + t.sold >= %(maker_share)s * t.volume
              AND least(t.bought, t.sold) >= %(side_share)s * (t.bought + t.sold)
              AND breadth.markets >= %(markets)s
        ), held AS (
            SELECT venue, account, unnest(range_agg(tstzrange(
                       began_at, began_at + make_interval(days => %(days)s + 1)))) AS valid_during
            FROM made GROUP BY venue, account
        )
        SELECT held.venue, held.account, 'market_maker' AS label, %(confidence)s AS confidence,
               best.evidence || jsonb_build_object('days', best.days) AS evidence,
               held.valid_during
        FROM held
        CROSS JOIN LATERAL (
            SELECT (array_agg(jsonb_build_object(
                        'day', m.day,
                        'volume_usd', trim_scale(m.volume)::text,
                        'maker_bought_usd', trim_scale(m.bought)::text,
                        'maker_sold_usd', trim_scale(m.sold)::text,
                        'maker_markets', m.markets
                    ) ORDER BY m.volume DESC, m.day))[1] AS evidence,
                   count(*) AS days
            FROM made m
            WHERE (m.venue, m.account) = (held.venue, held.account)
              AND held.valid_during @> m.began_at
        ) best
    """,
)
