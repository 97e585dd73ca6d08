"""What there is to count, as SQL: a row for each leg of a forced trade and for each row of a loan's
liquidation, with what it was worth under one or several ways to value.

`$1` and `$2` are times, half-open, and `$3` the venues to look at. All three bound every table that
is read, so that each is read by its index. Of accounts, those in `$4`, values are looked up one by
one: their rows lie far apart in time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from psycopg import sql

from indexer.methodology.definition import LENDING_METHODS, Definition

Sql = sql.Composed | sql.SQL

_IN_WINDOW = sql.SQL("{of}.venue = ANY ($3) AND {of}.block_at >= $1 AND {of}.block_at < $2")
_OF_ACCOUNTS = sql.SQL(" AND {of}.account = ANY ($4)")


def legs(
    definitions: Sequence[Definition], values: Sequence[Definition], *, of_accounts: bool = False
) -> Sql:
    """The legs that any of `definitions` may count; `usd_0`, `source_0`, `trust_0` and so on say
    what each is worth as each of `values` values it, NULL where that is unknown.

    Of accounts there are only the legs that were liquidated: who else was part of a trade is in
    no index."""
    methods = {method for definition in definitions for method in definition.methods}
    is_owned = any(definition.account_unit == "owner" for definition in definitions)
    branches = []
    if methods - {"ledger_update", *LENDING_METHODS}:
        is_one_sided = all(definition.leg == "liquidated" for definition in definitions)
        # of an account with a number, the address, as venues with such accounts write it
        owners = _owners("split_part(leg.account, ':', 1)", is_owned)
        branches.append(_perp_legs(values, owners, is_one_sided or of_accounts, of_accounts))
    if methods & set(LENDING_METHODS):
        owners = _owners("coalesce(l.owner, l.account)", is_owned)
        branches.append(_lending_legs(values, owners, of_accounts))
    if "ledger_update" in methods:
        owners = _owners("split_part(l.account, ':', 1)", is_owned)
        branches.append(_ledger_updates(values, owners, of_accounts))
    columns = [*COLUMNS, *(f"{name}_{n}" for n in range(len(values)) for name in _OF_VALUE)]
    return sql.SQL("SELECT * FROM ({}) leg ({})").format(
        sql.SQL(" UNION ALL ").join(branches), sql.SQL(", ").join(map(sql.Identifier, columns))
    )


COLUMNS = (
    "instrument", "venue", "chain", "account", "owner", "market", "dex", "asset", "relation",
    "side", "method", "leg", "dir", "is_seen", "margin_mode", "party", "is_self", "is_final",
    "block_number", "block_at", "event_key", "liquidated", "action", "order_id", "fill", "is_flat",
)  # fmt: skip
_OF_VALUE = ("usd", "source", "trust")


# -- perpetuals ----------------------------------------------------------------------------------

# A leg that nobody published is no record; the liquidated account's stands for the trade even so.
# `fill` is NULL where each row is a fill of its own: there is nothing to tell apart.
_PERP = sql.SQL(
    """
    SELECT 'perp' AS instrument, l.venue,
           coalesce(nullif(ledger.chain_of(l.venue), ''), l.venue) AS chain, leg.account,
           {owner} AS owner, l.market, l.dex, split_part(l.market, ':', -1) AS asset,
           'self' AS relation, leg.side, l.method, leg.leg, leg.dir, leg.is_seen,
           coalesce(l.margin_mode, 'unknown') AS margin_mode,
           CASE WHEN l.account_is_protocol_vault THEN 'protocol_vault' ELSE 'user' END AS party,
           (l.account = l.counterparty
            OR l.account = l.liquidator AND ledger.chain_of(l.venue) <> '') IS TRUE AS is_self,
           l.block_number <= stream.finalized_block IS NOT FALSE AS is_final,
           l.block_number, l.block_at, l.event_key, l.account AS liquidated,
           coalesce(l.tx_hash, l.event_key) AS action,
           coalesce(l.order_id, l.tx_hash, l.event_key) AS order_id,
           {fill} AS fill, leg.leg = 'liquidated' AND l.is_full_close IS TRUE AS is_flat
           {worth}
    FROM ledger.liquidation l {prices}
    LEFT JOIN ledger.stream ON stream.chain = ledger.chain_of(l.venue)
    {sides} {owners}
    WHERE {in_window}
    """
)
_ONE_SIDE = sql.SQL(
    """
    CROSS JOIN LATERAL (VALUES
        ('liquidated', l.account, l.dir_liquidated, l.side, l.legs_seen <> 'counterparty')
    ) leg (leg, account, dir, side, is_seen)
    """
)
# The winner's position was the other way round; a maker or a vault had none that was closed.
_BOTH_SIDES = sql.SQL(
    """
    CROSS JOIN LATERAL (
        SELECT 'liquidated', l.account, l.dir_liquidated, l.side, l.legs_seen <> 'counterparty'
        UNION ALL
        SELECT 'counterparty', l.counterparty, l.dir_counterparty,
               CASE WHEN l.counterparty_kind IS DISTINCT FROM 'adl_winner' THEN l.side
                    WHEN l.side = 'long' THEN 'short' ELSE 'long' END,
               true
        WHERE l.legs_seen <> 'liquidated'
    ) leg (leg, account, dir, side, is_seen)
    """
)


def _perp_legs(
    values: Sequence[Definition], owners: "_Owners", is_one_sided: bool, of_accounts: bool
) -> Sql:
    prices = [_perp_prices(value) for value in values]
    return _PERP.format(
        **owners,
        worth=_columns(
            [
                _perp_worth(prices.index(one), value)
                for one, value in zip(prices, values, strict=True)
            ]
        ),
        prices=_joined(prices, of_accounts),
        sides=_ONE_SIDE if is_one_sided else _BOTH_SIDES,
        fill=sql.SQL("NULL" if is_one_sided else "l.event_key || '/' || l.account"),
        in_window=_in_window("l", of_accounts),
    )


# A HIP-3 dex's fill is money that changed hands; its mark is what its deployer says.
_BY_MARK = sql.SQL(
    """
    {p}.usd, {p}.price_source, CASE WHEN l.dex = '' THEN {p}.trust ELSE 'market' END
    """
)


def _perp_worth(number: int, value: Definition) -> Sql:
    is_money = value.perp_value in ("fill", "realised")
    return (_PLAIN if is_money else _BY_MARK).format(p=_alias(number))


def _perp_prices(value: Definition) -> "_Prices":
    traded = [one for one in value.prices if one.startswith(("file:", "hyperliquid_fills"))]
    # dollars of an event that names no token need no price: at par they stand there as well
    sources = {"par": ["par"], "market": ["event", *traded], "market_or_par": [*traded, "par"]}
    return _Prices(
        sources[value.stablecoins],
        usd=sql.Identifier(f"{value.perp_value}_usd"),
        trust=sql.Identifier("quote_trust"),
    )


# -- lending -------------------------------------------------------------------------------------

# What the account bet on: who owes dollars and loses something else was long of it, who owes
# something else and loses dollars was short of it, and of two others neither. The parts of an
# absorption tell of collateral alone: their debt stands on the first.
_LENDING = sql.SQL(
    """
    SELECT 'lending' AS instrument, l.venue, ledger.chain_of(l.venue) AS chain, l.account,
           {owner} AS owner, l.market, '' AS dex, bet.asset, bet.relation,
           bet.side, l.method, 'liquidated' AS leg, NULL AS dir, true AS is_seen,
           'unknown' AS margin_mode, 'user' AS party,
           coalesce(l.liquidator IN (l.account, l.owner), false) AS is_self,
           l.block_number <= stream.finalized_block IS NOT FALSE AS is_final,
           l.block_number, l.block_at, l.event_key, l.account AS liquidated,
           left(l.event_key, 66) AS action, log.key AS order_id,
           log.key || '/' || l.account AS fill,
           false AS is_flat
           {worth}
    FROM ledger.lending_liquidation l {prices}
    LEFT JOIN ledger.stream ON stream.chain = ledger.chain_of(l.venue)
    CROSS JOIN LATERAL (
        SELECT split_part(l.event_key, '/', 1) || '/' || split_part(l.event_key, '/', 2)
    ) log (key)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN l.repaid_asset IS NOT NULL OR log.key = l.event_key THEN l.repaid_asset
               ELSE (SELECT first.repaid_asset FROM ledger.lending_liquidation first
                     WHERE (first.account, first.venue, first.event_key)
                         = (l.account, l.venue, log.key)) END,
               CASE WHEN l.seized_is_shares THEN coalesce(
                   (SELECT rate.underlying FROM ledger.share_rate rate
                    WHERE (rate.chain, rate.asset, rate.block_number)
                        = (ledger.chain_of(l.venue), l.seized_asset, l.block_number)),
                   l.seized_asset) ELSE l.seized_asset END
    ) of (debt, collateral)
    LEFT JOIN ledger.asset_kin debt
        ON (debt.chain, debt.address) = (ledger.chain_of(l.venue), of.debt)
    LEFT JOIN ledger.asset_kin collateral
        ON (collateral.chain, collateral.address) = (ledger.chain_of(l.venue), of.collateral)
    {tokens}
    CROSS JOIN LATERAL (
        SELECT CASE WHEN of.debt IS NULL OR of.collateral IS NULL THEN NULL
                    WHEN debt.family = 'USD' AND collateral.family IS DISTINCT FROM 'USD'
                    THEN 'long'
                    WHEN collateral.family = 'USD' AND debt.family IS DISTINCT FROM 'USD'
                    THEN 'short' END
    ) taken (side)
    CROSS JOIN LATERAL (
        SELECT taken.side,
               CASE WHEN taken.side = 'short'
                    THEN coalesce(debt.family, ledger.chain_of(l.venue) || '/' || of.debt)
                    ELSE coalesce(collateral.family,
                                  ledger.chain_of(l.venue) || '/' || of.collateral) END,
               CASE WHEN taken.side = 'short' THEN debt.relation ELSE collateral.relation END
    ) bet (side, asset, relation)
    {owners}
    WHERE {in_window}
    """
)
# Only a count of tokens at par wants to know how many decimals they have.
_DECIMALS = sql.SQL(
    """
    LEFT JOIN ledger.asset debt_token
        ON (debt_token.chain, debt_token.address) = (ledger.chain_of(l.venue), of.debt)
    LEFT JOIN ledger.asset collateral_token
        ON (collateral_token.chain, collateral_token.address)
         = (ledger.chain_of(l.venue), of.collateral)
    """
)
# What the account lost beyond its debt, where each leg that there is has a value.
_LOSS = sql.SQL(
    """
    CASE WHEN (l.repaid_raw IS NULL OR {p}.repaid_usd IS NOT NULL)
          AND (l.seized_raw IS NULL OR {p}.seized_usd IS NOT NULL)
         THEN coalesce({p}.seized_usd, 0) - coalesce({p}.repaid_usd, 0) END,
    {p}.price_source, {p}.trust
    """
)
# A part of an absorption has no debt of its own, and few liquidations leave bad debt: there is
# nothing that could have a value, and no record of it.
_OF_LOAN = sql.SQL(
    "{p}.usd, CASE WHEN {p}.usd IS NULL AND {is_absent} THEN 'absent' ELSE {p}.price_source END,"
    " {p}.trust"
)
_IS_PART = "log.key <> l.event_key"
_IS_ABSENT = {
    "repaid": f"l.repaid_raw IS NULL AND {_IS_PART}",
    "seized": f"l.seized_raw IS NULL AND {_IS_PART}",
    "seized_net": f"l.seized_raw IS NULL AND {_IS_PART}",
    "bonus": _IS_PART,
    "bad_debt": "l.bad_debt_raw IS NULL",
}
# A staked claim earns: it is worth more than a dollar, or becomes more of them.
_AT_PAR = sql.SQL(
    """
    CASE WHEN {leg}.family = 'USD' AND {leg}.relation <> 'staked' AND {is_tokens}
         THEN ledger.scaled({raw}, {leg}_token.decimals) ELSE {p}.usd END,
    CASE WHEN {leg}.family = 'USD' AND {leg}.relation <> 'staked' AND {is_tokens}
         THEN 'par' WHEN {p}.usd IS NULL AND {is_absent} THEN 'absent'
         ELSE {p}.price_source END,
    {p}.trust
    """
)


def _lending_legs(values: Sequence[Definition], owners: "_Owners", of_accounts: bool) -> Sql:
    prices = [_lending_prices(value) for value in values]
    return _LENDING.format(
        **owners,
        worth=_columns(
            [
                _lending_worth(prices.index(one), value)
                for one, value in zip(prices, values, strict=True)
            ]
        ),
        prices=_joined(prices, of_accounts),
        tokens=_DECIMALS if any(value.stablecoins == "par" for value in values) else _NOTHING,
        in_window=_in_window("l", of_accounts),
    )


def _lending_worth(number: int, value: Definition) -> Sql:
    if value.lending_value == "loss":
        return _LOSS.format(p=_alias(number))
    is_absent = sql.SQL(_IS_ABSENT[value.lending_value])
    at_par = _TOKENS.get(value.lending_value) if value.stablecoins == "par" else None
    if at_par is None:
        return _OF_LOAN.format(p=_alias(number), is_absent=is_absent)
    leg, raw, is_tokens = map(sql.SQL, at_par)
    return _AT_PAR.format(
        p=_alias(number), leg=leg, raw=raw, is_tokens=is_tokens, is_absent=is_absent
    )


# The basis, the token that it counts, and what to know before its units are taken for tokens.
_TOKENS = {
    "repaid": ("debt", "l.repaid_raw", "l.repaid_raw IS NOT NULL"),
    "seized": (
        "collateral",
        "l.seized_raw + CASE WHEN l.fee_in_seized = false THEN l.protocol_fee_raw ELSE 0 END",
        "NOT l.seized_is_shares AND l.seized_raw IS NOT NULL",
    ),
}


def _lending_prices(value: Definition) -> "_Prices":
    # what its protocol counts as a dollar, where nothing else has a price for it
    sources = value.prices if value.stablecoins == "market" else (*value.prices, "par")
    if value.lending_value == "loss":
        return _Prices(
            sources,
            usd=sql.SQL("nullif(num_nonnulls(repaid_usd, seized_usd), 0)"),
            trust=sql.SQL("greatest(repaid_trust, seized_trust)"),
            further=sql.SQL(", repaid_usd, seized_usd"),
            first=sql.SQL("num_nonnulls(repaid_usd, seized_usd) DESC, "),
        )
    trust = "seized" if value.lending_value == "seized_net" else value.lending_value
    return _Prices(
        sources,
        usd=sql.Identifier(f"{value.lending_value}_usd"),
        trust=sql.Identifier(f"{trust}_trust"),
    )


# -- the exchange's own ledger -------------------------------------------------------------------

_UPDATES = sql.SQL(
    """
    SELECT 'perp' AS instrument, l.venue, l.venue AS chain, l.account, {owner} AS owner,
           '*' AS market, '' AS dex, '*' AS asset, NULL AS relation, NULL AS side,
           'ledger_update' AS method, 'liquidated' AS leg, NULL AS dir, true AS is_seen,
           lower(l.margin_mode) AS margin_mode,
           CASE WHEN vault.account IS NULL THEN 'user' ELSE 'protocol_vault' END AS party,
           false AS is_self, true AS is_final, l.block_number, l.block_at, l.event_key,
           l.account AS liquidated, l.tx_hash AS action, l.tx_hash AS order_id,
           NULL AS fill, false AS is_flat
           {worth}
    FROM ledger.ledger_liquidation l
    LEFT JOIN ledger.protocol_vault vault ON (vault.venue, vault.account) = (l.venue, l.account)
    {owners}
    WHERE {in_window}
    """
)


def _ledger_updates(values: Sequence[Definition], owners: "_Owners", of_accounts: bool) -> Sql:
    return _UPDATES.format(
        **owners,
        worth=_columns([sql.SQL("l.notional_mark, 'par', 'governed'") for _ in values]),
        in_window=_in_window("l", of_accounts),
    )


# -- owners --------------------------------------------------------------------------------------

_Owners = Mapping[str, Sql]
# Who is proved to own it on the venue, else on its chain. Only an owner's total asks.
_OWNED = sql.SQL(
    """
    LEFT JOIN ledger.owner_of own ON (own.account, own.venue) = ({holder}, l.venue)
    LEFT JOIN ledger.owner_of own_of_chain
        ON (own_of_chain.account, own_of_chain.venue) = ({holder}, ledger.chain_of(l.venue))
    """
)


def _owners(holder: str, is_owned: bool) -> _Owners:
    if not is_owned:
        return {"owner": sql.SQL(holder), "owners": _NOTHING}
    return {
        "owner": sql.SQL(f"coalesce(own.owner, own_of_chain.owner, {holder})"),
        "owners": _OWNED.format(holder=sql.SQL(holder)),
    }


# -- values --------------------------------------------------------------------------------------

_PLAIN = sql.SQL("{p}.usd, {p}.price_source, {p}.trust")
_NOTHING = sql.SQL("")


class _Prices(NamedTuple):
    """Of each row the value of the first of the sources that has one; `first` comes before their
    order."""

    sources: Sequence[str]
    usd: sql.Composable
    trust: sql.Composable
    further: Sql = _NOTHING
    first: Sql = _NOTHING


_OF_WINDOW = sql.SQL(
    """
    LEFT JOIN (
        SELECT {distinct} v.venue, v.block_at, v.event_key, v.account, v.price_source,
               {usd} AS usd, {trust} AS trust {further}
        FROM ledger.valuation v
        WHERE {in_window} AND v.price_source = ANY ({sources}::text[]) AND {usd} IS NOT NULL
        {order}
    ) {alias} USING (venue, event_key, account)
    """
)
# Where several ways look at the one row of a source, it is joined once.
_OF_SOURCE = sql.SQL(
    """
    LEFT JOIN (
        SELECT v.venue, v.block_at, v.event_key, v.account, v.price_source, {columns}
        FROM ledger.valuation v
        WHERE {in_window} AND v.price_source = {source}
    ) {shared} USING (venue, event_key, account)
    """
)
_OF_SHARED = sql.SQL(
    """
    CROSS JOIN LATERAL (
        SELECT {shared}.{usd}, CASE WHEN {shared}.{usd} IS NOT NULL THEN {shared}.price_source END,
               CASE WHEN {shared}.{usd} IS NOT NULL THEN {shared}.{trust} END
    ) {alias} (usd, price_source, trust)
    """
)
_DISTINCT = sql.SQL("DISTINCT ON (v.venue, v.block_at, v.event_key, v.account)")
_FIRST = sql.SQL(
    "ORDER BY v.venue, v.block_at, v.event_key, v.account,"
    " {first} array_position({sources}::text[], v.price_source)"
)
_OF_ROW = sql.SQL(
    """
    LEFT JOIN LATERAL (
        SELECT v.price_source, {usd} AS usd, {trust} AS trust {further}
        FROM ledger.valuation v
        WHERE (v.venue, v.block_at, v.event_key, v.account)
            = (l.venue, l.block_at, l.event_key, l.account)
          AND v.price_source = ANY ({sources}::text[]) AND {usd} IS NOT NULL
        ORDER BY {first} array_position({sources}::text[], v.price_source) LIMIT 1
    ) {alias} ON true
    """
)


def _joined(prices: Sequence[_Prices], of_accounts: bool) -> Sql:
    """One join for all that are the same: its number is that of the first of them."""
    asked = {prices.index(one): one for one in prices}
    if of_accounts:
        return _lines(_of_row(one, _alias(number)) for number, one in asked.items())
    by_source: dict[tuple[str, ...], dict[int, _Prices]] = {}
    for number, one in asked.items():
        by_source.setdefault((*one.sources,), {})[number] = one
    return _lines(
        _of_source(sources[0], ways) if _is_shared(sources, ways)
        else _lines(_of_window(one, _alias(number)) for number, one in ways.items())
        for sources, ways in by_source.items()
    )  # fmt: skip


def _is_shared(sources: Sequence[str], ways: Mapping[int, _Prices]) -> bool:
    is_plain = all(one.further is _NOTHING for one in ways.values())
    return len(sources) == 1 and len(ways) > 1 and is_plain


def _of_source(source: str, ways: Mapping[int, _Prices]) -> Sql:
    shared = sql.Identifier(f"of_{source}")
    columns = sorted({one.usd.as_string() for one in ways.values()}
                     | {one.trust.as_string() for one in ways.values()})  # fmt: skip
    join = _OF_SOURCE.format(
        columns=sql.SQL(", ").join(map(sql.SQL, columns)), source=source, shared=shared,
        in_window=_in_window("v"),
    )  # fmt: skip
    taken = (
        _OF_SHARED.format(shared=shared, usd=one.usd, trust=one.trust, alias=_alias(number))
        for number, one in ways.items()
    )
    return _lines([join, *taken])


def _lines(parts: Iterable[Sql]) -> Sql:
    return sql.SQL(" ").join(parts)


def _of_row(prices: _Prices, alias: sql.Identifier) -> Sql:
    named = {**prices._asdict(), "sources": sql.Literal(list(prices.sources))}
    return _OF_ROW.format(**named, alias=alias)


def _of_window(prices: _Prices, alias: sql.Identifier) -> Sql:
    """By what names a liquidation. Its time would say no more, and tempt the planner to merge by
    venue and time, where many rows of a block are the same: that read six times the pages."""
    named = {**prices._asdict(), "sources": sql.Literal(list(prices.sources))}
    is_choice = len(prices.sources) > 1
    return _OF_WINDOW.format(
        **named,
        alias=alias,
        distinct=_DISTINCT if is_choice else _NOTHING,
        in_window=_in_window("v"),
        order=_FIRST.format(**named) if is_choice else _NOTHING,
    )


def _in_window(alias: str, of_accounts: bool = False) -> Sql:
    of = sql.Identifier(alias)
    window = _IN_WINDOW.format(of=of)
    return window + _OF_ACCOUNTS.format(of=of) if of_accounts else window


def _columns(worths: Sequence[Sql]) -> Sql:
    return sql.SQL("").join(sql.SQL(", {}").format(worth) for worth in worths)


def _alias(number: int) -> sql.Identifier:
    return sql.Identifier(f"worth_{number}")
