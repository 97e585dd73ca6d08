"""What the label sets that stand say of accounts: an opinion for each label, all sets behind it."""

from indexer.model import Rule

RULE = Rule(
    id="IMPORTED",
    version=1,
    makes="labels",
    reads=("label_sets", "protocol_vaults"),
    sentence="Is called so by an imported label set, until {days} days after the set was retrieved"
    " or the next import of its source.",
    parameters={"days": 365},
    # A set speaks of an address, not of one protocol: venue is a chain, hyperliquid, or * for all.
    query="""
        SELECT chain AS venue, account, label, max(confidence) AS confidence,
               jsonb_build_object('sets', jsonb_agg(jsonb_build_object(
                   'set', source, 'version', version, 'confidence', trim_scale(confidence)::text,
                   'names', names, 'raw', raw
               ) ORDER BY source)) AS evidence,
               tstzrange(valid_from, max(until)) AS valid_during
        FROM (
            SELECT s.*, least(valid_to, coalesce(retrieved_at, imported_at)
                                        + make_interval(days => %(days)s)) AS until
            FROM liq.set_labels s
            WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
        ) said
        WHERE (valid_from < until OR valid_from IS NULL)
          AND ledger.never_because(chain, account) IS NULL
          AND NOT EXISTS (  -- wherever the set says that it is
              SELECT FROM liq.protocol_vaults vault WHERE vault.account = said.account
          )
        GROUP BY chain, account, label, valid_from
    """,
)
