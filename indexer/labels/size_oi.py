"""Liquidations that are large for their market, where its open interest is known."""

from decimal import Decimal

from indexer.model import Rule

RULE = Rule(
    id="SIZE_OI",
    version=1,
    makes="flags",
    reads=("liquidations", "open_interest"),
    sentence="Within an episode at least {share:%} of a market's open interest was liquidated, as"
    " it was last known at most {minutes} minutes before; in dollars at the average price of these"
    " fills, dollar tokens at par.",
    parameters={"share": Decimal("0.005"), "minutes": 5},
    # Of 0 there is no share: a market with a position in it has more, so that is not known.
    # Whom it may be said of is asked of the large ones alone, not of each liquidation.
    query="""
        WITH large AS MATERIALIZED (
            SELECT venue, account, key, notional_usd, last_at,
                   %(share)s * open_interest * notional_usd / size AS threshold_usd
            FROM liq.liquidated_positions(
                make_interval(mins => %(minutes)s), %(accounts)s::text[])
            WHERE open_interest > 0 AND size > 0 AND size >= %(share)s * open_interest
              AND notional_usd IS NOT NULL AND NOT account_is_protocol_vault
        )
        SELECT venue, account, 'position' AS level, key AS subject_key,
               notional_usd AS value_usd, trim_scale(trunc(threshold_usd, 6)) AS threshold_usd,
               last_at AS occurred_at
        FROM large WHERE ledger.never_because(venue, account) IS NULL
    """,
)
