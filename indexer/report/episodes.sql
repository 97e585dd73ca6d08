-- The largest episodes of users, with what the ledger told of the account.
WITH largest AS (
    SELECT episode_key AS key, venue, account, dex,
           min(block_at) AS first_at, max(block_at) AS last_at, count(*) AS fills,
           array_agg(DISTINCT market ORDER BY market) AS markets,
           array_agg(DISTINCT side ORDER BY side) AS sides,
           array_agg(DISTINCT tx_hash) AS tx_hashes,
           sum(notional_usd) AS notional_usd, sum(notional_mark_usd) AS notional_mark_usd,
           sum(realised_pnl_usd) AS realised_pnl_usd,
           count(*) FILTER (WHERE notional_usd IS NULL) AS unpriced
    FROM counted
    WHERE line = 'user'
    GROUP BY episode_key, venue, account, dex
    ORDER BY sum(notional_usd) DESC NULLS LAST, episode_key
    LIMIT %(top)s
)
SELECT key, venue, account, dex, first_at, last_at, fills, markets, sides,
       notional_usd, notional_mark_usd, realised_pnl_usd, unpriced,
       in_order.methods, said.equity_usd, flagged.threshold_usd,
       coalesce(labelled.labels, '{}') AS labels,
       peak.largest_position_usd AS peak_position_usd,
       peak.largest_position_market AS peak_position_market, peak.day AS peak_position_day
FROM largest
CROSS JOIN LATERAL (
    SELECT array_agg(method ORDER BY began_at, method) AS methods
    FROM (
        SELECT method, min(block_at) AS began_at
        FROM counted r
        WHERE r.episode_key = largest.key AND r.line = 'user'
        GROUP BY method
    ) began
) in_order
LEFT JOIN LATERAL (
    -- the account value that the exchange's ledger states at the first action it tells of
    SELECT a.equity AS equity_usd
    FROM liq.actions a
    WHERE a.venue = largest.venue AND a.account = largest.account
      AND a.tx_hash = ANY (largest.tx_hashes) AND a.equity IS NOT NULL
    ORDER BY a.first_at, a.key
    LIMIT 1
) said ON true
LEFT JOIN LATERAL (
    SELECT max(f.threshold_usd) AS threshold_usd
    FROM liq.flags f
    WHERE f.venue = largest.venue AND f.account = largest.account
      AND f.level = 'episode' AND f.subject_key = largest.key
) flagged ON true
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
) peak ON true
ORDER BY notional_usd DESC NULLS LAST, key
