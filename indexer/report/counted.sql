-- The liquidations of the window, each with the one line of the report that it counts in and the
-- keys of its order, action and episode. All other questions are put to this table.
--
-- An episode may reach over the edge of the window: its key is that of the whole, its money here
-- only that of the rows inside. Episodes are looked for among the accounts of the window alone.
CREATE TEMP TABLE counted ON COMMIT DROP AS
WITH in_window AS MATERIALIZED (
    SELECT *
    FROM liq.liquidations
    WHERE venue = 'hyperliquid'  -- as whale_report/v1 says
      AND block_at >= %(window_from)s AND block_at < %(window_to)s
)
SELECT CASE
           WHEN l.method IN ('market', 'backstop', 'adl_of_user')
                AND NOT l.account_is_protocol_vault THEN 'user'
           WHEN l.method IN ('borrow_partial', 'borrow_backstop') THEN 'borrow'
           ELSE 'protocol_vault'
       END AS line,
       l.key COLLATE "C" AS key,
       concat_ws('/', l.venue, l.account, l.market, coalesce(l.order_id, l.tx_hash)) COLLATE "C"
           AS order_key,
       concat_ws('/', l.venue, l.account, l.tx_hash) COLLATE "C" AS action_key,
       e.key COLLATE "C" AS episode_key,
       l.venue, l.account, l.dex, l.market, l.side, l.method, l.block_number, l.block_at,
       l.tx_hash, l.quote, l.notional, l.notional_usd, l.notional_mark_usd, l.realised_pnl_usd,
       l.decoder_version
FROM in_window l
JOIN liq.episodes(%(gap)s) e
  ON e.venue = l.venue AND e.account = l.account AND e.dex = l.dex
 AND l.block_at BETWEEN e.first_at AND e.last_at
WHERE e.account = ANY (ARRAY(SELECT DISTINCT account FROM in_window))
