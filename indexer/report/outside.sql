-- Rows that no covered block holds: read from single records, not from whole blocks. And
-- when the first and the last row happened.
SELECT count(*) FILTER (WHERE NOT EXISTS (
           SELECT FROM liq.coverage r
           WHERE r.facts = 'liquidations' AND r.venue = c.venue
             AND c.block_number >= r.block_from AND c.block_number < r.block_to
       )) AS outside_coverage,
       min(block_at) AS first_at, max(block_at) AS last_at
FROM counted c
