"""Safes: accounts that several keys may share."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="ROLE_SAFE",
    version=1,
    makes="labels",
    reads=("account_codes",),
    sentence="Is a Safe: its singleton is one that Safe has published, and it states that version;"
    " {unknown_proxy} sure where the proxy's own code is not known.",
    parameters={"confidence": Decimal("0.95"), "unknown_proxy": Decimal("0.8")},
    query="""
        SELECT chain AS venue, account, 'safe' AS label,
               CASE WHEN (evidence #>> '{safe,proxy_is_known}')::boolean THEN %(confidence)s
                    ELSE %(unknown_proxy)s END AS confidence,
               (evidence -> 'safe')
                   || jsonb_build_object('code_hash', code_hash, 'block_number', first_block)
                   AS evidence,
               tstzrange(valid_from, valid_to) AS valid_during
        FROM liq.account_codes
        WHERE kind = 'safe' AND (valid_to IS NULL OR valid_from < valid_to)
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
    """,
)
