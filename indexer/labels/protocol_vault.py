"""Accounts of an exchange itself."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_PROTOCOL_VAULT",
    version=1,
    makes="labels",
    reads=("protocol_vaults",),
    sentence="Is an account of the exchange itself, as its registry names it.",
    parameters={"confidence": Decimal("0.99")},
    query="""
        SELECT venue, account, 'protocol_vault' AS label, %(confidence)s AS confidence,
               jsonb_build_object('name', name, 'source', source) AS evidence,
               tstzrange(valid_from::timestamp AT TIME ZONE 'UTC',
                         valid_to::timestamp AT TIME ZONE 'UTC') AS valid_during
        FROM liq.protocol_vaults
        WHERE %(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[])
    """,
)
