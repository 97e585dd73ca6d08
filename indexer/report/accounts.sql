-- The accounts with the largest sums, each with the transaction that took most.
WITH top AS MATERIALIZED (
    SELECT venue, unit, min(chain) AS chain, sum(usd) AS usd,
           sum(usd) FILTER (WHERE side = 'long') AS long_usd,
           sum(usd) FILTER (WHERE side = 'short') AS short_usd,
           count(*) AS records, count(*) - count(usd) AS unvalued,
           sum(realised_usd) AS realised_usd,
           min(block_at) AS first_at, max(block_at) AS last_at
    FROM counted
    WHERE line = 'counted'
    GROUP BY unit, venue
    HAVING sum(usd) IS NOT NULL
    ORDER BY sum(usd) DESC, venue COLLATE "C", unit COLLATE "C"
    LIMIT %(top)s
), theirs AS MATERIALIZED (
    SELECT c.venue, c.unit, c.action, c.usd,
           c.block_at - lag(c.block_at) OVER (
               PARTITION BY c.unit, c.venue, c.dex ORDER BY c.block_at) AS pause
    FROM counted c JOIN top USING (venue, unit)
    WHERE c.line = 'counted'
), heaviest AS (
    SELECT DISTINCT ON (venue, unit) venue, unit, action
    FROM (SELECT venue, unit, action, sum(usd) AS usd FROM theirs GROUP BY 1, 2, 3) actions
    ORDER BY venue, unit, usd DESC NULLS LAST, action
), counts AS (
    SELECT venue, unit, count(*) FILTER (WHERE pause IS NULL OR pause > %(gap)s) AS episodes
    FROM theirs GROUP BY 1, 2
)
SELECT top.venue, top.unit AS account, chain, usd, long_usd, short_usd, records, unvalued, episodes,
       realised_usd, first_at, last_at, action
FROM top JOIN heaviest USING (venue, unit) JOIN counts USING (venue, unit)
ORDER BY usd DESC, venue COLLATE "C", unit COLLATE "C"
