-- The heaviest minutes, in the order of the clock.
WITH heaviest AS MATERIALIZED (
    SELECT date_trunc('minute', block_at) AS at
    FROM counted
    WHERE line = 'counted'
    GROUP BY 1
    HAVING sum(usd) > 0
    ORDER BY sum(usd) DESC, 1
    LIMIT %(minutes)s
)
SELECT at, sum(usd) AS usd, sum(usd) FILTER (WHERE side = 'long') AS long_usd,
       sum(usd) FILTER (WHERE side = 'short') AS short_usd,
       count(*) AS records, count(DISTINCT unit) AS accounts
FROM counted JOIN heaviest ON block_at >= at AND block_at < at + interval '1 minute'
WHERE line = 'counted'
GROUP BY at
ORDER BY at
