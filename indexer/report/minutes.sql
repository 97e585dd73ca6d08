-- The heaviest minutes, in the order of the clock.
SELECT *
FROM (
    SELECT date_trunc('minute', block_at) AS at, sum(usd) AS usd,
           sum(usd) FILTER (WHERE side = 'long') AS long_usd,
           sum(usd) FILTER (WHERE side = 'short') AS short_usd,
           count(*) AS records, count(DISTINCT unit) AS accounts
    FROM counted
    WHERE line = 'counted'
    GROUP BY 1
    HAVING sum(usd) > 0
    ORDER BY 2 DESC, 1
    LIMIT %(minutes)s
) heaviest
ORDER BY at
