-- The largest episodes that count, with what the ledger told of the account.
WITH largest AS (
    SELECT venue, dex, unit, episode, min(instrument) AS instrument, min(chain) AS chain,
           (array_agg(account ORDER BY block_at, account))[1] AS account,
           min(block_at) AS first_at, max(block_at) AS last_at, count(*) AS records,
           coalesce(array_agg(DISTINCT coalesce(nullif(market, ''), asset))
                        FILTER (WHERE instrument = 'perp'),
                    array_agg(DISTINCT asset) FILTER (WHERE asset IS NOT NULL), '{}') AS markets,
           coalesce(array_agg(DISTINCT side) FILTER (WHERE side IS NOT NULL), '{}') AS sides,
           array_agg(DISTINCT action) AS actions,
           sum(usd) AS usd, sum(mark_usd) AS mark_usd, sum(realised_usd) AS realised_usd,
           count(*) - count(usd) AS unvalued
    FROM counted
    WHERE line = 'counted'
    GROUP BY venue, dex, unit, episode
    ORDER BY sum(usd) DESC NULLS LAST, venue COLLATE "C", unit COLLATE "C", dex, episode
    LIMIT %(top)s
)
SELECT venue || '/' || unit || '/' || dex || '@'
           || to_char(first_at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US') AS key,
       venue, chain, instrument, account, dex, first_at, last_at, records, markets, sides, usd,
       mark_usd, realised_usd, unvalued, in_order.methods, heaviest.action, said.equity_usd,
       coalesce(labelled.labels, '{}') AS labels,
       peak.largest_position_usd AS peak_position_usd,
       peak.largest_position_market AS peak_position_market, peak.day AS peak_position_day
FROM largest
CROSS JOIN LATERAL (
    SELECT array_agg(method ORDER BY began_at, method) AS methods
    FROM (
        SELECT method, min(block_at) AS began_at
        FROM counted r
        WHERE (r.line, r.venue, r.dex, r.unit, r.episode)
            = ('counted', largest.venue, largest.dex, largest.unit, largest.episode)
        GROUP BY method
    ) began
) in_order
CROSS JOIN LATERAL (
    SELECT action FROM counted r
    WHERE (r.line, r.venue, r.dex, r.unit, r.episode)
        = ('counted', largest.venue, largest.dex, largest.unit, largest.episode)
    GROUP BY action ORDER BY sum(usd) DESC NULLS LAST, action LIMIT 1
) heaviest
LEFT JOIN LATERAL (
    -- the account value that the exchange's ledger states at the first action it tells of
    SELECT a.equity AS equity_usd
    FROM liq.actions a
    WHERE a.venue = largest.venue AND a.account = largest.account
      AND a.tx_hash = ANY (largest.actions) AND a.equity IS NOT NULL
    ORDER BY a.first_at, a.key
    LIMIT 1
) said ON largest.instrument = 'perp'
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT s.label ORDER BY s.label) AS labels
    FROM liq.labels s
    WHERE s.account = largest.account
      AND s.venue IN (largest.venue, ledger.chain_of(largest.venue), '*')
      AND coalesce(s.valid_from, '-infinity') < %(window_to)s
      AND coalesce(s.valid_to, 'infinity') > %(window_from)s
) labelled ON true
LEFT JOIN LATERAL (
    SELECT d.largest_position_usd, d.largest_position_market, d.day
    FROM liq.account_days d
    WHERE d.venue = largest.venue AND d.account = largest.account
      AND d.day <= ((%(window_to)s - interval '1 microsecond') AT TIME ZONE 'UTC')::date
      AND d.largest_position_usd IS NOT NULL
    ORDER BY d.largest_position_usd DESC, d.day
    LIMIT 1
) peak ON largest.instrument = 'perp'
ORDER BY usd DESC NULLS LAST, venue COLLATE "C", unit COLLATE "C", dex, first_at
