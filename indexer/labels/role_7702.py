"""Keys whose account runs the code of another address."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_7702",
    version=1,
    makes="labels",
    reads=("account_codes",),
    sentence="Is a key that has delegated its account to code elsewhere, by EIP-7702; holds until"
    " an observation differs.",
    parameters={"confidence": Decimal("0.95")},
    query="""
        SELECT chain AS venue, account, 'eip7702' AS label, %(confidence)s AS confidence,
               jsonb_build_object('delegate', evidence -> 'delegate', 'code_hash', code_hash,
                                  'block_number', first_block) AS evidence,
               tstzrange(valid_from, valid_to) AS valid_during
        FROM liq.account_codes
        WHERE kind = 'eip7702' AND (valid_to IS NULL OR valid_from < valid_to)
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
    """,
)
