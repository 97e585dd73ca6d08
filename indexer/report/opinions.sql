-- What is thought of these accounts in the window, and by which rule.
SELECT asked.venue, asked.account, said.label, said.rule, said.rule_version, said.confidence,
       said.evidence::text AS evidence,
       nullif(said.valid_from, '-infinity') AS valid_from,
       nullif(said.valid_to, 'infinity') AS valid_to
FROM unnest(%(of_venues)s::text[], %(of_accounts)s::text[]) AS asked (venue, account)
JOIN liq.labels said ON said.account = asked.account
    AND said.venue IN (asked.venue, ledger.chain_of(asked.venue), '*')
WHERE coalesce(said.valid_from, '-infinity') < %(window_to)s
  AND coalesce(said.valid_to, 'infinity') > %(window_from)s
ORDER BY said.label, said.rule, said.venue
