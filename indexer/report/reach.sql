-- How far each venue was read in all.
SELECT DISTINCT ON (venue) venue, last_at, block_to - 1 AS last_block
FROM liq.coverage
WHERE facts = 'liquidations'
ORDER BY venue, last_at DESC, block_to DESC
