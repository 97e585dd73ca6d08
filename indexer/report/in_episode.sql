-- The same rows, each with its episode. An episode may reach over the edge of the window: its key
-- is that of the whole, its money only that of the rows inside.
SELECT c.*, e.key AS episode_key
FROM ({counted}) c
JOIN liq.episodes(%(gap)s) e
  ON e.venue = c.venue AND e.account = c.account AND e.dex = c.dex
 AND c.block_at BETWEEN e.first_at AND e.last_at
WHERE e.account = ANY (%(accounts)s)
