-- Accounts labelled whale that were liquidated in the window: one row for each rule that says so.
WITH active AS (
    SELECT venue, account, count(*) AS fills, count(DISTINCT episode_key) AS episodes,
           min(block_at) AS first_at, max(block_at) AS last_at,
           sum(notional_usd) AS notional_usd, sum(realised_pnl_usd) AS realised_pnl_usd
    FROM counted
    WHERE line = 'user'
    GROUP BY venue, account
)
SELECT active.*, said.rule, said.rule_version, said.confidence, said.evidence::text AS evidence,
       nullif(said.valid_from, '-infinity') AS valid_from,
       nullif(said.valid_to, 'infinity') AS valid_to
FROM active
JOIN liq.labels said ON said.account = active.account
    AND said.venue IN (active.venue, ledger.chain_of(active.venue), '*')
WHERE said.label = 'whale'
  AND coalesce(said.valid_from, '-infinity') < %(window_to)s
  AND coalesce(said.valid_to, 'infinity') > %(window_from)s
ORDER BY active.notional_usd DESC NULLS LAST, active.venue, active.account, said.rule
