"""Vaults that anybody can open and lead: they trade with the money of those who deposit."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_USER_VAULT",
    version=1,
    makes="labels",
    reads=("exchange_roles", "protocol_vaults"),
    sentence="Is a vault that a user leads, as the exchange says.",
    parameters={"confidence": Decimal("0.95")},
    # The exchange makes the address of a vault when the vault is opened: where nothing else was
    # said before, it was never anything else. What a vault of the exchange leads is its own too.
    query="""
        SELECT venue, account, 'user_vault' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'name', name, 'leader', leader,
                   'observed_at', to_char(observed_at AT TIME ZONE 'UTC',
                                          'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               ) AS evidence,
               tstzrange(CASE WHEN replaces IS NOT NULL THEN observed_at END,
                         replaced_at) AS valid_during
        FROM liq.exchange_roles said
        WHERE role = 'vault'
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
          AND NOT EXISTS (
              SELECT FROM ledger.protocol_vault own
              WHERE own.venue = said.venue AND own.account IN (said.account, said.leader)
          )
    """,
)
