SELECT sum(notional_usd)
FROM liq.liquidations
WHERE venue = 'hyperliquid'
  AND block_at >= %(window_from)s AND block_at < %(window_to)s
  AND method IN ('market', 'backstop', 'adl_of_user') AND NOT account_is_protocol_vault
