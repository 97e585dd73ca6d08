-- Money and counts of each line, and of each method in it. Every row is in one line only.
SELECT line, method,
       count(*) AS fills,
       count(DISTINCT order_key) AS orders,
       count(DISTINCT action_key) AS actions,
       count(DISTINCT episode_key) AS episodes,
       count(DISTINCT (venue, account)) AS accounts,
       coalesce(sum(notional_usd), 0) AS notional_usd,
       coalesce(sum(notional_mark_usd), 0) AS notional_mark_usd,
       coalesce(sum(notional_usd) FILTER (WHERE side = 'long'), 0) AS long_usd,
       coalesce(sum(notional_usd) FILTER (WHERE side = 'short'), 0) AS short_usd,
       coalesce(sum(realised_pnl_usd), 0) AS realised_pnl_usd,
       count(*) FILTER (WHERE notional_usd IS NULL) AS unpriced,
       count(*) FILTER (WHERE notional_usd IS NOT NULL AND notional_mark_usd IS NULL)
           AS without_mark,
       count(*) FILTER (WHERE notional_usd IS NOT NULL AND realised_pnl_usd IS NULL)
           AS without_pnl
FROM counted
GROUP BY GROUPING SETS ((line), (line, method))
ORDER BY line, notional_usd DESC, method
