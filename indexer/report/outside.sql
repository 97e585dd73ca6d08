-- Rows of no covered block: they came from single records, not from whole blocks. And when the first
-- and the last row happened.
SELECT count(*) FILTER (WHERE NOT EXISTS (
           SELECT FROM ledger.coverage r
           WHERE r.facts = %(facts)s AND r.venue = c.venue AND r.blocks @> c.block_number
       )) AS outside_coverage,
       min(block_at) AS first_at, max(block_at) AS last_at
FROM counted c
WHERE line = 'counted'
