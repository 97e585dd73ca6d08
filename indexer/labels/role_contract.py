"""Accounts at which a contract stands."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_CONTRACT",
    version=1,
    makes="labels",
    reads=("account_codes",),
    sentence="A contract stands at the address, as observed; holds until an observation differs.",
    parameters={"confidence": Decimal("0.95")},
    # a key that delegates (EIP-7702) still is a key
    query="""
        SELECT chain AS venue, account, 'contract' AS label, %(confidence)s AS confidence,
               evidence || jsonb_build_object('code_hash', code_hash, 'block_number', first_block)
                   AS evidence,
               tstzrange(valid_from, valid_to) AS valid_during
        FROM liq.account_codes
        WHERE kind IN ('contract', 'safe', 'erc4337')
          AND (valid_to IS NULL OR valid_from < valid_to)
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
    """,
)
