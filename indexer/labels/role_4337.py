"""Smart accounts, whose operations an EntryPoint runs."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_4337",
    version=1,
    makes="labels",
    reads=("account_codes",),
    sentence="Is a smart account of ERC-4337: an EntryPoint has counted its operations, or,"
    " {stated} sure, it names an EntryPoint and its code has the function that this would call.",
    parameters={"confidence": Decimal("0.95"), "stated": Decimal("0.8")},
    # a Safe may be one by its module, a key by what it delegates to
    query="""
        SELECT chain AS venue, account, 'erc4337' AS label,
               CASE evidence #>> '{erc4337,by}' WHEN 'nonce' THEN %(confidence)s
                    ELSE %(stated)s END AS confidence,
               (evidence -> 'erc4337')
                   || jsonb_build_object('code_hash', code_hash, 'block_number', first_block)
                   AS evidence,
               tstzrange(valid_from, valid_to) AS valid_during
        FROM liq.account_codes
        WHERE evidence -> 'erc4337' IS NOT NULL AND (valid_to IS NULL OR valid_from < valid_to)
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
    """,
)
