-- Ranges of blocks that were read and touch the window; a range may reach beyond it.
SELECT venue, block_from, block_to, first_at, last_at, verification, decoder_version
FROM liq.coverage
WHERE facts = %(facts)s AND venue = ANY (%(venues)s)
  AND first_at < %(window_to)s AND last_at >= %(window_from)s
ORDER BY venue, block_from
