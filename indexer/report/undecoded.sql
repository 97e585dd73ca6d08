-- Events with a liquidation mark that are no row, by reason.
SELECT venue, reason, count(*) AS events
FROM liq.undecoded
WHERE venue = ANY (%(venues)s) AND block_at >= %(window_from)s AND block_at < %(window_to)s
GROUP BY venue, reason
ORDER BY events DESC, venue, reason
