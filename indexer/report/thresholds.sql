-- The largest threshold that an episode reached.
SELECT f.subject_key AS key, max(f.threshold_usd) AS threshold_usd
FROM unnest(%(of_venues)s::text[], %(of_accounts)s::text[]) AS asked (venue, account)
JOIN liq.flags f ON (f.venue, f.account) = (asked.venue, asked.account)
WHERE f.level = 'episode' AND f.subject_key = ANY (%(keys)s)
GROUP BY f.subject_key
