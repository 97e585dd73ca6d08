-- What users lost their positions in.
SELECT market,
       coalesce(sum(notional_usd), 0) AS notional_usd,
       coalesce(sum(notional_usd) FILTER (WHERE side = 'long'), 0) AS long_usd,
       coalesce(sum(notional_usd) FILTER (WHERE side = 'short'), 0) AS short_usd,
       count(*) AS fills, count(DISTINCT (venue, account)) AS accounts
FROM counted
WHERE line = 'user'
GROUP BY market
ORDER BY notional_usd DESC, market
