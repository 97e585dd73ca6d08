-- The largest single one at each of the four levels, of users, with the part inside the window.
WITH keyed AS (
    SELECT level.rank, level.name AS level, level.subject_key, c.*
    FROM counted c
    CROSS JOIN LATERAL (VALUES
        (1, 'fill', c.key), (2, 'order', c.order_key),
        (3, 'action', c.action_key), (4, 'episode', c.episode_key)
    ) level(rank, name, subject_key)
    WHERE c.line = 'user' AND c.notional_usd IS NOT NULL
), largest AS (
    SELECT DISTINCT ON (rank) rank, subject_key, sum(notional_usd) AS notional_usd
    FROM keyed
    GROUP BY rank, subject_key
    ORDER BY rank, sum(notional_usd) DESC, subject_key
)
SELECT level, subject_key AS key, venue, account, min(dex) AS dex,
       array_agg(DISTINCT market ORDER BY market) AS markets,
       array_agg(DISTINCT side ORDER BY side) AS sides,
       min(block_at) AS first_at, max(block_at) AS last_at,
       count(*) AS fills, largest.notional_usd
FROM largest
JOIN keyed USING (rank, subject_key)
GROUP BY rank, level, subject_key, venue, account, largest.notional_usd
ORDER BY rank
