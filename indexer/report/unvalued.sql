-- Rows that count and have no value, by the reason why; none where nobody tried.
SELECT c.venue, why.reason, count(*) AS records
FROM counted c
LEFT JOIN LATERAL (
    SELECT min(u.reason) AS reason FROM ledger.unvalued u
    WHERE (u.venue, u.block_at, u.event_key, u.account)
        = (c.venue, c.block_at, c.event_key, c.liquidated)
) why ON true
WHERE c.line = 'counted' AND c.usd IS NULL
GROUP BY c.venue, why.reason
ORDER BY records DESC, c.venue, why.reason NULLS FIRST
