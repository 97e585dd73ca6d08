-- Money in buckets of the clock, for the charts: of all assets together, where asset is NULL, and
-- of the first ones by themselves. 2001-01-01 was a Monday.
SELECT at, asset, kind, sum(usd) AS usd
FROM (
    SELECT date_bin(%(bucket)s, block_at, timestamptz '2001-01-01 00:00+00') AS at, usd,
           CASE WHEN asset = ANY (%(assets)s) AND line = 'counted' THEN asset END AS asset,
           CASE WHEN line <> 'counted' THEN line
                WHEN instrument = 'lending' THEN 'lending'
                WHEN method IN ('market', 'backstop') THEN method
                WHEN method LIKE 'adl%%' THEN 'adl'
                ELSE 'other' END AS kind
    FROM counted
    WHERE line IN ('counted', 'protocol_vault') AND usd IS NOT NULL
) placed
GROUP BY GROUPING SETS ((at, kind), (at, kind, asset))
HAVING grouping(asset) = 1 OR asset IS NOT NULL
ORDER BY 1, 2 NULLS FIRST, 3
