-- The largest episodes that count, with what the ledger told of the account.
--
-- They are of the likely accounts: an episode is worth no more than all that its account has there,
-- and the last one shown at least what so many accounts have in one episode for sure: all of it
-- where it lasted no longer than the gap, or their largest row.
WITH stays AS MATERIALIZED (
    SELECT venue, dex, unit, sum(greatest(usd, 0)) AS at_most,
           CASE WHEN max(block_at) - min(block_at) <= %(gap)s THEN sum(usd) ELSE max(usd) END
               AS at_least
    FROM counted
    WHERE line = 'counted'
    GROUP BY unit, venue, dex
), likely AS MATERIALIZED (
    SELECT venue, dex, unit
    FROM stays
    WHERE (at_most >= (SELECT at_least FROM stays ORDER BY at_least DESC NULLS LAST
                       OFFSET %(top)s - 1 LIMIT 1)) IS NOT FALSE
), spaced AS (
    SELECT venue, dex, unit, block_at, usd, mark_usd, realised_usd,
           block_at - lag(block_at) OVER (
               PARTITION BY unit, venue, dex ORDER BY block_at) > %(gap)s AS is_late
    FROM counted JOIN likely USING (venue, dex, unit)
    WHERE line = 'counted'
), placed AS (
    SELECT spaced.*, count(*) FILTER (WHERE is_late) OVER (
               PARTITION BY unit, venue, dex ORDER BY block_at ROWS UNBOUNDED PRECEDING) AS episode
    FROM spaced
), sums AS MATERIALIZED (
    SELECT venue, dex, unit, episode, sum(usd) AS usd, sum(mark_usd) AS mark_usd,
           sum(realised_usd) AS realised_usd, count(*) AS records,
           count(*) - count(usd) AS unvalued, min(block_at) AS first_at, max(block_at) AS last_at
    FROM placed
    GROUP BY venue, dex, unit, episode
    ORDER BY sum(usd) DESC NULLS LAST, venue COLLATE "C", unit COLLATE "C", dex, episode
    LIMIT %(top)s
), theirs AS MATERIALIZED (
    SELECT venue, dex, unit, s.episode, c.instrument, c.chain, c.account, c.market, c.asset,
           c.side, c.method, c.action, c.block_at, c.usd
    FROM counted c JOIN sums s USING (venue, dex, unit)
    WHERE c.line = 'counted' AND c.block_at BETWEEN s.first_at AND s.last_at
), told AS (
    SELECT venue, dex, unit, episode, min(instrument) AS instrument, min(chain) AS chain,
           (array_agg(account ORDER BY block_at, account))[1] AS account,
           coalesce(array_agg(DISTINCT coalesce(nullif(market, ''), asset))
                        FILTER (WHERE instrument = 'perp'),
                    array_agg(DISTINCT asset) FILTER (WHERE asset IS NOT NULL), '{}') AS markets,
           coalesce(array_agg(DISTINCT side) FILTER (WHERE side IS NOT NULL), '{}') AS sides,
           array_agg(DISTINCT action) AS actions
    FROM theirs GROUP BY venue, dex, unit, episode
), in_order AS (
    SELECT venue, dex, unit, episode, array_agg(method ORDER BY began_at, method) AS methods
    FROM (SELECT venue, dex, unit, episode, method, min(block_at) AS began_at
          FROM theirs GROUP BY 1, 2, 3, 4, 5) began
    GROUP BY 1, 2, 3, 4
), heaviest AS (
    SELECT DISTINCT ON (venue, dex, unit, episode) venue, dex, unit, episode, action
    FROM (SELECT venue, dex, unit, episode, action, sum(usd) AS usd
          FROM theirs GROUP BY 1, 2, 3, 4, 5) taken
    ORDER BY venue, dex, unit, episode, usd DESC NULLS LAST, action
), largest AS MATERIALIZED (
    SELECT * FROM sums JOIN told USING (venue, dex, unit, episode)
    JOIN in_order USING (venue, dex, unit, episode) JOIN heaviest USING (venue, dex, unit, episode)
)
SELECT venue || '/' || unit || '/' || dex || '@'
           || to_char(first_at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US') AS key,
       venue, chain, instrument, account, dex, first_at, last_at, records, markets, sides, usd,
       mark_usd, realised_usd, unvalued, methods, action, said.equity_usd,
       coalesce(labelled.labels, '{}') AS labels,
       peak.largest_position_usd AS peak_position_usd,
       peak.largest_position_market AS peak_position_market, peak.day AS peak_position_day
FROM largest
LEFT JOIN LATERAL (
    -- the account value that the exchange's ledger states at the first action it tells of
    SELECT sum(l.account_value) AS equity_usd
    FROM ledger.ledger_liquidation l
    WHERE l.venue = largest.venue AND l.account = largest.account
      AND l.tx_hash = ANY (largest.actions) AND l.account_value IS NOT NULL
    GROUP BY l.tx_hash
    ORDER BY min(l.block_at), l.tx_hash
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
