-- Money in buckets of the clock, for the charts. 2001-01-01 was a Monday.
SELECT date_bin(%(bucket)s, block_at, timestamptz '2001-01-01 00:00+00') AS at, market,
       CASE line WHEN 'user' THEN method ELSE line END AS kind,
       sum(notional_usd) AS notional_usd
FROM counted
WHERE line IN ('user', 'protocol_vault') AND notional_usd IS NOT NULL
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
