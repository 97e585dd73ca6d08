"""Accounts that belong to another one, by proof."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SUB_ACCOUNT",
    version=1,
    makes="labels",
    reads=("account_owners", "liquidations"),
    needs="liq.account_owners",
    sentence="Belongs to another account, as a contract that a source names says at a block, or the"
    " liquidation itself; {sole_signer} sure where the owner only is the one who signs for it.",
    parameters={"confidence": Decimal(1), "sole_signer": Decimal("0.6")},
    query="""
        SELECT venue, account, 'sub_account' AS label,
               CASE WHEN bool_or(method <> 'safe') THEN %(confidence)s
                    ELSE %(sole_signer)s END AS confidence,
               jsonb_build_object('owners', jsonb_agg(jsonb_build_object(
                   'owner', owner, 'method', method, 'proof', proof, 'block_number', first_block
               ) ORDER BY method, owner)) AS evidence,
               tstzrange(valid_from, nullif(max(coalesce(valid_to, 'infinity')), 'infinity'))
                   AS valid_during
        FROM liq.account_owners
        WHERE owner <> account AND (valid_to IS NULL OR valid_from < valid_to)
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
        GROUP BY venue, account, valid_from
    """,
)
