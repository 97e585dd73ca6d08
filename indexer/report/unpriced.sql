-- Rows without a dollar value, in the token they are quoted in.
SELECT line, quote, count(*) AS fills, sum(notional) AS notional
FROM counted
WHERE notional_usd IS NULL
GROUP BY line, quote
ORDER BY line, quote
