-- The accounts with the largest sums, and how many there are.
SELECT counted.*, heaviest.action
FROM (
    SELECT venue, unit AS account, min(chain) AS chain, sum(usd) AS usd,
           sum(usd) FILTER (WHERE side = 'long') AS long_usd,
           sum(usd) FILTER (WHERE side = 'short') AS short_usd,
           count(*) AS records, count(*) - count(usd) AS unvalued,
           count(DISTINCT (dex, episode)) AS episodes, sum(realised_usd) AS realised_usd,
           min(block_at) AS first_at, max(block_at) AS last_at
    FROM counted
    WHERE line = 'counted'
    GROUP BY venue, unit
    HAVING sum(usd) IS NOT NULL
    ORDER BY sum(usd) DESC, venue COLLATE "C", unit COLLATE "C"
    LIMIT %(top)s
) counted
CROSS JOIN LATERAL (
    SELECT action FROM counted c
    WHERE c.line = 'counted' AND c.venue = counted.venue AND c.unit = counted.account
    GROUP BY action ORDER BY sum(usd) DESC NULLS LAST, action LIMIT 1
) heaviest
ORDER BY usd DESC, venue COLLATE "C", account COLLATE "C"
