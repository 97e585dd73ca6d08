-- The largest single one at each of the four levels, of users, with the part inside the window.
WITH in_episode AS (
{in_episode}
), of_users AS (
    SELECT u.*,
           venue || '/' || account || '/' || market || '/' || coalesce(order_id, tx_hash)
               AS order_key,
           venue || '/' || account || '/' || tx_hash AS action_key
    FROM in_episode u
    WHERE line = 'user' AND notional_usd IS NOT NULL
), keyed AS (
    SELECT 1 AS rank, 'fill' AS level, of_users.key AS subject_key, of_users.* FROM of_users
    UNION ALL
    SELECT 2, 'order', order_key, of_users.* FROM of_users
    UNION ALL
    SELECT 3, 'action', action_key, of_users.* FROM of_users
    UNION ALL
    SELECT 4, 'episode', episode_key, of_users.* FROM of_users
)
SELECT DISTINCT ON (rank)
       level, subject_key AS key, venue, account, min(dex) AS dex,
       array_agg(DISTINCT market ORDER BY market) AS markets,
       array_agg(DISTINCT side ORDER BY side) AS sides,
       min(block_at) AS first_at, max(block_at) AS last_at,
       count(*) AS fills, sum(notional_usd) AS notional_usd
FROM keyed
WHERE subject_key IS NOT NULL
GROUP BY rank, level, subject_key, venue, account
ORDER BY rank, notional_usd DESC, subject_key
