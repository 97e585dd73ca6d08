-- Blocks that were never read, between blocks that were, and may lie in the window.
SELECT venue, block_from, block_to, after_at, before_at
FROM liq.missing
WHERE facts = 'liquidations' AND after_at < %(window_to)s AND before_at > %(window_from)s
ORDER BY venue, block_from
