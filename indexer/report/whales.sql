-- Accounts labelled whale that were liquidated in the window, the largest first.
WITH whales AS MATERIALIZED (
    SELECT DISTINCT venue, account
    FROM liq.labels
    WHERE label = 'whale'
      AND coalesce(valid_from, '-infinity') < %(window_to)s
      AND coalesce(valid_to, 'infinity') > %(window_from)s
), theirs AS MATERIALIZED (
    SELECT c.*, c.block_at - lag(c.block_at) OVER (
               PARTITION BY c.unit, c.venue, c.dex ORDER BY c.block_at) AS pause
    FROM counted c
    WHERE c.line = 'counted' AND c.unit IN (SELECT account FROM whales)
), active AS (
    SELECT c.venue, c.unit AS account, min(c.chain) AS chain, sum(c.usd) AS usd,
           sum(c.usd) FILTER (WHERE c.side = 'long') AS long_usd,
           sum(c.usd) FILTER (WHERE c.side = 'short') AS short_usd,
           count(*) AS records, count(*) - count(c.usd) AS unvalued,
           count(*) FILTER (WHERE pause IS NULL OR pause > %(gap)s) AS episodes, sum(c.realised_usd) AS realised_usd,
           min(c.block_at) AS first_at, max(c.block_at) AS last_at, min(c.action) AS action
    FROM theirs c
    GROUP BY c.venue, c.unit
)
SELECT active.*
FROM active
WHERE EXISTS (
    SELECT FROM whales
    WHERE whales.account = active.account
      AND whales.venue IN (active.venue, ledger.chain_of(active.venue), '*')
)
ORDER BY active.usd DESC NULLS LAST, active.venue, active.account
