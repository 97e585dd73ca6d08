"""Sub-accounts of the exchange, each with the account that it belongs to."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="EXCHANGE_SUB_ACCOUNT",
    version=1,
    makes="labels",
    reads=("exchange_roles",),
    sentence="Is a sub-account, as the exchange says; its evidence names the master.",
    parameters={"confidence": Decimal(1)},
    # The exchange makes the address when the sub-account is opened: where nothing else was said
    # before, it was never anything else.
    query="""
        SELECT venue, account, 'sub_account' AS label, %(confidence)s AS confidence,
               jsonb_build_object(
                   'name', name, 'master', master,
                   'observed_at', to_char(observed_at AT TIME ZONE 'UTC',
                                          'YYYY-MM-DD"T"HH24:MI:SS"Z"')
               ) AS evidence,
               tstzrange(CASE WHEN replaces IS NOT NULL THEN observed_at END,
                         replaced_at) AS valid_during
        FROM liq.exchange_roles
        WHERE role = 'sub_account'
          AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
    """,
)
