"""What liquidations of lending protocols were worth, by each source of prices that is stored."""

from datetime import timedelta
from typing import Any, NamedTuple

from psycopg import sql

from indexer.evm_model import Bonus, FeeRule
from indexer.store.database import Connection
from indexer.store.staged import IN_SCOPE, KEY, Scope

# Of each minute the last trade is known, and one after the moment says nothing of it: in a market
# that trades every minute there is one of at most two minutes before any moment.
LAST_TRADE_MAX_AGE = timedelta(minutes=2)


class Terms(NamedTuple):
    """What no row says of its protocol. Without a fee rule, what the liquidator got is unknown
    where the fee is. In a permissionless protocol no price from a file is trusted."""

    bonus: Bonus | None = None
    fee: FeeRule | None = None
    is_permissionless: bool = False


class _Source(NamedTuple):
    """A source on the chain; with `has_own`, prices of it hold for single logs."""

    name: str
    has_own: bool


def stage(connection: Connection, scope: Scope, terms: Terms) -> int:
    """Stage what the liquidations of one part were worth; gives their number."""
    values = _described(connection, scope, terms)
    sources = _sources(connection, values)
    values["on_chain"] = [source.name for source in sources]
    for source in sources:
        legs = _legs_on_chain(has_own=source.has_own, has_other_debt=values["has_other_debt"])
        connection.execute(_WORTH.format(legs=legs, **_SCOPED), values | {"source": source.name})
    for name, max_age in files_of(connection, values["chain"]):
        _stage_file(
            connection,
            values | {"file": name, "source": f"file:{name}", "max_age": max_age},
        )
    _stage_prices(connection, _MARK_PRICES, values | {"source": "hyperliquid"})
    of_trades = {"source": "hyperliquid_fills", "max_age": LAST_TRADE_MAX_AGE}
    _stage_prices(connection, _TRADE_PRICES, values | of_trades)
    if values["has_parts"]:
        connection.execute(_ADD_UP_PARTS)
    if connection.execute(_ANY_LACKS).fetchone() == (True,):
        connection.execute(_UNVALUED.format(whys=_WHYS, key=KEY), values)
    connection.execute(_SUSPECT.format(key=KEY), values)
    if values["has_lltv"]:
        connection.execute(_MORPHO_SUSPECT.format(key=KEY), values)
    return int(values["rows"])


def _stage_file(connection: Connection, values: dict[str, Any]) -> None:
    connection.execute(_FILE_PRICES.format(**_SCOPED), values)
    connection.execute(_WORTH.format(legs=_LEGS_IN_FILE, **_SCOPED), values)
    connection.execute(_UNVALUED_BY_FILE.format(**_SCOPED), values)
    connection.execute("TRUNCATE staged_file_price")


def _stage_prices(connection: Connection, query: sql.SQL, values: dict[str, Any]) -> None:
    """Nobody expects a mark or a trade at every time: where there is none, nothing is missing."""
    if connection.execute(query.format(**_SCOPED), values).rowcount:
        connection.execute(_WORTH.format(legs=_LEGS_IN_FILE, **_SCOPED), values)
        connection.execute("TRUNCATE staged_file_price")


def files_of(connection: Connection, chain: str) -> list[tuple[Any, ...]]:
    """Name and greatest age of the price files that name assets of a chain."""
    return connection.execute(
        """
        SELECT name, max_age FROM ledger.price_file f
        WHERE EXISTS (SELECT FROM ledger.price_point p WHERE (p.name, p.chain) = (f.name, %s))
        ORDER BY name
        """,
        (chain,),
    ).fetchall()


_SCOPED: dict[str, sql.Composable] = {"key": KEY, "scope": IN_SCOPE}

_DESCRIBED = sql.SQL(
    """
    SELECT count(*), coalesce(min(l.block_number), 0), coalesce(max(l.block_number), 0),
           coalesce(bool_or(l.bad_debt_asset <> l.repaid_asset
                         OR l.bad_debt_asset IS NOT NULL AND l.repaid_asset IS NULL), false),
           coalesce(bool_or(l.event_key LIKE '%%/%%/%%'), false),
           EXISTS (
               SELECT FROM ledger.fact
               WHERE (chain, fact) = (ledger.chain_of(%(venue)s), 'morpho_lltv')
           )
    FROM ledger.lending_liquidation l WHERE {scope}
    """
).format(scope=IN_SCOPE)


def _described(connection: Connection, scope: Scope, terms: Terms) -> dict[str, Any]:
    names = ("rows", "low_block", "high_block", "has_other_debt", "has_parts", "has_lltv")
    row = connection.execute(_DESCRIBED, scope).fetchone()
    assert row is not None
    return {
        **scope, **dict(zip(names, row, strict=True)),
        "chain": str(scope["venue"]).partition(".")[2], "fee": terms.fee,
        "least": terms.bonus and terms.bonus.least, "most": terms.bonus and terms.bonus.most,
        "file_trust": "market" if terms.is_permissionless else "governed",
    }  # fmt: skip


def _sources(connection: Connection, values: dict[str, Any]) -> list[_Source]:
    """The protocol's oracle, which stands for all where there is none, and what else is met."""
    rows: Any = connection.execute(
        """
        SELECT source, bool_or(log_index >= 0) FROM ledger.price
        WHERE venue = %(venue)s AND block_number BETWEEN %(low_block)s AND %(high_block)s
        GROUP BY source
        """,
        values,
    )
    met = {"oracle": False, **dict(rows)}
    return [_Source(name, has_own) for name, has_own in sorted(met.items())]


# -- legs and their prices -----------------------------------------------------------------------

_QUOTED = ("usd", "quality", "trust", "as_of_block", "as_of_at")

# What holds for the liquidation's own log comes before what holds in all of the block.
_PRICE = sql.SQL(
    """
    LEFT JOIN ledger.price {quote} ON {quote}.venue = %(venue)s
        AND {quote}.source = %(source)s AND {quote}.log_index = {place}
        AND {quote}.block_number BETWEEN %(low_block)s AND %(high_block)s
        AND ({quote}.block_number, {quote}.market, {quote}.asset)
          = (l.block_number, l.market, l.{asset})
    """
)
_OWN_PLACE = sql.SQL("split_part(l.event_key, '/', 2)::int")


def _leg_on_chain(leg: str, asset: str, *, has_own: bool) -> sql.Composable:
    """Joins that give a row `leg` of what is quoted for an asset of the liquidation."""
    columns = {"asset": sql.Identifier(asset)}
    if not has_own:
        return _PRICE.format(quote=sql.Identifier(leg), place=sql.SQL("-1"), **columns)
    own, whole = sql.Identifier(f"{leg}_own"), sql.Identifier(f"{leg}_whole")
    chosen = sql.SQL(", ").join(
        sql.SQL(
            "CASE WHEN {own}.usd IS NULL THEN {whole}.{one} ELSE {own}.{one} END AS {one}"
        ).format(own=own, whole=whole, one=sql.Identifier(one))
        for one in _QUOTED
    )
    return sql.SQL("{own} {whole} CROSS JOIN LATERAL (SELECT {chosen}) {leg}").format(
        own=_PRICE.format(quote=own, place=_OWN_PLACE, **columns),
        whole=_PRICE.format(quote=whole, place=sql.SQL("-1"), **columns),
        chosen=chosen, leg=sql.Identifier(leg),
    )  # fmt: skip


# Bad debt is nearly always of the repaid asset, and a join costs as much as the rest of a row.
_SAME_DEBT = sql.SQL(
    """
    CROSS JOIN LATERAL (SELECT {columns}) b
    """
).format(
    columns=sql.SQL(", ").join(
        sql.SQL("CASE WHEN l.bad_debt_asset IS NOT NULL THEN r.{one} END AS {one}").format(
            one=sql.Identifier(one)
        )
        for one in _QUOTED
    )
)


def _legs_on_chain(*, has_own: bool, has_other_debt: bool) -> sql.Composable:
    """Rows `r`, `s` and `b`: what is quoted for the repaid, seized and written-off asset."""
    bad_debt = _leg_on_chain("b", "bad_debt_asset", has_own=has_own)
    return sql.SQL(" ").join(
        [
            _leg_on_chain("r", "repaid_asset", has_own=has_own),
            _leg_on_chain("s", "seized_asset", has_own=has_own),
            bad_debt if has_other_debt else _SAME_DEBT,
        ]
    )


_LEGS_IN_FILE = sql.SQL(" ").join(
    sql.SQL(
        """
        LEFT JOIN (
            SELECT asset, is_shares, block_number, usd, 'C' AS quality, %(file_trust)s AS trust,
                   NULL::bigint AS as_of_block, as_of_at
            FROM staged_file_price WHERE reason IS NULL
        ) {leg} ON ({leg}.asset, {leg}.is_shares, {leg}.block_number)
                 = (l.{asset}, {is_shares}, l.block_number)
        """
    ).format(leg=sql.Identifier(leg), asset=sql.Identifier(asset), is_shares=sql.SQL(is_shares))
    for leg, asset, is_shares in (
        ("r", "repaid_asset", "false"),
        ("s", "seized_asset", "l.seized_is_shares"),
        ("b", "bad_debt_asset", "false"),
    )
)

# A protocol that takes the collateral itself (absorb) leaves no liquidator who could have a bonus.
_WORTH = sql.SQL(
    """
    INSERT INTO staged_valuation (
        {key}, price_source,
        repaid_usd, repaid_price, repaid_quality, repaid_trust, repaid_as_of_block,
        repaid_as_of_at,
        seized_usd, seized_price, seized_quality, seized_trust, seized_as_of_block,
        seized_as_of_at, seized_net_usd,
        bad_debt_usd, bad_debt_price, bad_debt_quality, bad_debt_trust, bad_debt_as_of_block,
        bad_debt_as_of_at,
        bonus_usd, bonus_quality, bonus_trust,
        lacks, part, has_repaid, has_seized, has_taker, has_bad_debt, wants_bonus, is_covered,
        all_repaid_usd, all_seized_usd, all_fee_usd, token_usd
    )
    SELECT l.venue, l.block_at, l.event_key, l.account, %(source)s,
           w.repaid_usd, r.usd, r.quality, r.trust, r.as_of_block, r.as_of_at,
           w.seized_usd, s.usd, s.quality, s.trust, s.as_of_block, s.as_of_at, w.net_usd,
           l.bad_debt_raw * b.usd, b.usd, b.quality, b.trust, b.as_of_block, b.as_of_at,
           w.net_usd - w.repaid_usd,
           CASE WHEN w.net_usd - w.repaid_usd IS NOT NULL THEN greatest(r.quality, s.quality) END,
           CASE WHEN w.net_usd - w.repaid_usd IS NOT NULL THEN greatest(r.trust, s.trust) END,
           l.repaid_raw IS NOT NULL AND w.repaid_usd IS NULL
               OR l.seized_raw IS NOT NULL AND w.seized_usd IS NULL
               OR w.has_taker AND w.net_usd IS NULL
               OR l.bad_debt_raw IS NOT NULL AND b.usd IS NULL,
           CASE WHEN %(has_parts)s THEN split_part(l.event_key, '/', 3) ELSE '' END,
           l.repaid_raw IS NOT NULL, l.seized_raw IS NOT NULL,
           w.has_taker, l.bad_debt_raw IS NOT NULL, w.has_taker AND l.repaid_raw IS NOT NULL,
           coalesce(l.bad_debt_raw, 0) = 0,
           w.repaid_usd, w.seized_usd, l.protocol_fee_raw * s.usd, r.usd * pegged.token_raw
    FROM ledger.lending_liquidation l
    {legs}
    LEFT JOIN (
        SELECT kin.address, ('1e' || asset.decimals)::numeric AS token_raw
        FROM ledger.asset_kin kin JOIN ledger.asset USING (chain, address)
        WHERE kin.chain = %(chain)s AND (kin.relation, kin.family) = ('pegged', 'USD')
          AND asset.decimals <= 36
    ) pegged ON pegged.address = l.repaid_asset
    CROSS JOIN LATERAL (
        SELECT l.seized_raw IS NOT NULL AND l.method <> 'absorb' AS has_taker,
               l.repaid_raw * r.usd AS repaid_usd,
               CASE WHEN l.fee_in_seized = false
                        OR l.fee_in_seized IS NULL AND %(fee)s::text = 'on_top'
                        THEN l.seized_raw + l.protocol_fee_raw
                    ELSE l.seized_raw END * s.usd AS seized_usd,
               CASE WHEN l.method = 'absorb' THEN NULL
                    WHEN l.fee_in_seized THEN l.seized_raw - l.protocol_fee_raw
                    WHEN l.fee_in_seized = false OR %(fee)s::text IN ('none', 'on_top')
                        THEN l.seized_raw END * s.usd AS net_usd
        OFFSET 0  -- each product once: pulled up they would be made anew wherever they are named
    ) w
    WHERE {scope}
    """
)

# Several collaterals, or debts written off, of one liquidation: its bonus is one number.
_ADD_UP_PARTS = """
    WITH whole AS (
        SELECT account, price_source,
               split_part(event_key, '/', 1) || '/' || split_part(event_key, '/', 2) AS event_key,
               CASE WHEN bool_and(NOT has_repaid OR repaid_usd IS NOT NULL)
                   THEN sum(repaid_usd) END AS repaid_usd,
               CASE WHEN bool_and(NOT has_seized OR seized_usd IS NOT NULL)
                   THEN sum(seized_usd) END AS seized_usd,
               CASE WHEN bool_and(NOT has_taker OR seized_net_usd IS NOT NULL)
                   THEN sum(seized_net_usd) END AS net_usd,
               sum(all_fee_usd) AS fee_usd, bool_and(is_covered) AS is_covered,
               bool_or(has_repaid) AND bool_or(has_taker) AS wants_bonus,
               max(greatest(repaid_quality, seized_quality)) AS quality,
               max(greatest(repaid_trust, seized_trust)) AS trust
        FROM staged_valuation
        GROUP BY 1, 2, 3 HAVING count(*) > 1
    )
    UPDATE staged_valuation v
    SET lacks = true, bonus_usd = CASE WHEN v.part = '' THEN bonus.usd END,
        bonus_quality = CASE WHEN v.part = '' AND bonus.usd IS NOT NULL THEN whole.quality END,
        bonus_trust = CASE WHEN v.part = '' AND bonus.usd IS NOT NULL THEN whole.trust END,
        wants_bonus = v.part = '' AND whole.wants_bonus,
        all_repaid_usd = CASE WHEN v.part = '' THEN whole.repaid_usd END,
        all_seized_usd = CASE WHEN v.part = '' THEN whole.seized_usd END,
        all_fee_usd = whole.fee_usd, is_covered = whole.is_covered
    FROM whole CROSS JOIN LATERAL (SELECT whole.net_usd - whole.repaid_usd AS usd) bonus
    WHERE (v.account, v.price_source) = (whole.account, whole.price_source)
      AND split_part(v.event_key, '/', 1) || '/' || split_part(v.event_key, '/', 2)
        = whole.event_key
"""

# To plan what comes after it would take longer than to look.
_ANY_LACKS = "SELECT EXISTS (SELECT FROM staged_valuation WHERE lacks)"

# What no source on the chain has. Where it is the price that is missing: the reason that was noted,
# for the log itself before that for all of the block.
_WHYS = sql.SQL(", ").join(
    sql.SQL(
        """
        CASE WHEN NOT lacking.{leg} THEN NULL
             WHEN l.{asset} IS NULL THEN 'the asset is unknown'
        ELSE coalesce((
            SELECT n.reason FROM ledger.no_price n
            WHERE (n.venue, n.block_number, n.market, n.asset)
                = (l.venue, l.block_number, l.market, l.{asset})
              AND n.log_index IN (-1, split_part(l.event_key, '/', 2)::int)
            ORDER BY n.log_index DESC LIMIT 1
        ), 'no price was asked for yet') END AS {why}
        """
    ).format(
        leg=sql.Identifier(leg), asset=sql.Identifier(f"{leg}_asset"),
        why=sql.Identifier(f"why_{leg}"),
    )
    for leg in ("repaid", "seized", "bad_debt")
)  # fmt: skip
_UNVALUED = sql.SQL(
    """
    INSERT INTO staged_unvalued ({key}, price_source, reason, bases)
    WITH lacking AS (
        SELECT {key}, bool_and(has_repaid AND repaid_usd IS NULL) AS repaid,
               bool_and(has_seized AND seized_price IS NULL) AS seized,
               bool_and(has_seized AND seized_usd IS NULL) AS gross,
               bool_and(has_taker AND seized_net_usd IS NULL) AS net,
               bool_and(has_bad_debt AND bad_debt_usd IS NULL) AS bad_debt,
               bool_and(wants_bonus AND bonus_usd IS NULL) AS bonus
        FROM staged_valuation
        WHERE lacks AND price_source = ANY(%(on_chain)s) AND (
            has_repaid AND repaid_usd IS NULL OR has_seized AND seized_usd IS NULL
            OR has_taker AND seized_net_usd IS NULL OR has_bad_debt AND bad_debt_usd IS NULL
            OR wants_bonus AND bonus_usd IS NULL
        )
        GROUP BY {key} HAVING count(*) = cardinality(%(on_chain)s::text[])
    ), asked AS (
        SELECT lacking.*, {whys}
        FROM lacking JOIN ledger.lending_liquidation l USING (account, venue, event_key)
    )
    SELECT {key}, 'oracle', why.reason, array_agg(why.basis ORDER BY why.place)
    FROM asked CROSS JOIN LATERAL (VALUES
        (1, 'repaid', why_repaid),
        (2, 'seized', CASE WHEN gross THEN coalesce(why_seized, 'the protocol fee is unknown')
                      END),
        (3, 'seized_net', CASE WHEN net THEN coalesce(why_seized, 'the protocol fee is unknown')
                          END),
        (4, 'bonus', CASE WHEN bonus THEN coalesce(
            why_repaid, why_seized,
            CASE WHEN net THEN 'the protocol fee is unknown'
                 ELSE 'no one source has a price for every leg' END
        ) END),
        (5, 'bad_debt', why_bad_debt)
    ) why (place, basis, reason)
    WHERE why.reason IS NOT NULL
    GROUP BY {key}, why.reason
    """
)

# -- price files ---------------------------------------------------------------------------------

# What a file says of the assets that it names: its last point at or before the block, if that is
# not too old. A point is of a whole token, and shares are worth what they stand for.
_FILE_PRICES = sql.SQL(
    """
    INSERT INTO staged_file_price
    SELECT a.asset, a.is_shares, a.block_number, worth.usd, point.at, worth.reason
    FROM (
        SELECT DISTINCT leg.asset, leg.is_shares, l.block_number, l.block_at
        FROM ledger.lending_liquidation l
        CROSS JOIN LATERAL (VALUES
            (l.repaid_asset, false), (l.seized_asset, l.seized_is_shares), (l.bad_debt_asset, false)
        ) leg (asset, is_shares)
        WHERE {scope} AND leg.asset IS NOT NULL
    ) a
    LEFT JOIN ledger.share_rate rate ON a.is_shares AND rate.chain = %(chain)s
        AND rate.asset = a.asset AND rate.block_number = a.block_number
    LEFT JOIN ledger.fact ON a.is_shares AND fact.chain = %(chain)s AND fact.fact = 'underlying'
        AND fact.subject = a.asset
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.is_shares THEN coalesce(rate.underlying, fact.value) ELSE a.asset END
            AS address
    ) token
    LEFT JOIN ledger.asset ON asset.chain = %(chain)s AND asset.address = token.address
    LEFT JOIN LATERAL (
        SELECT p.at, p.usd FROM ledger.price_point p
        WHERE (p.name, p.chain, p.asset) = (%(file)s, %(chain)s, token.address)
          AND p.at <= a.block_at
        ORDER BY p.at DESC LIMIT 1
    ) point ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.is_shares
                   THEN ledger.scaled(point.usd, asset.decimals) * rate.assets_raw
                        / nullif(rate.shares_raw, 0)
                   ELSE ledger.scaled(point.usd, asset.decimals) END AS usd,
               CASE WHEN a.is_shares AND coalesce(rate.shares_raw * rate.assets_raw, 0) = 0
                        THEN 'what the shares were worth is unknown'
                    WHEN point.at IS NULL THEN 'the file has no point before it'
                    WHEN point.at < a.block_at - %(max_age)s
                        THEN 'the last point of the file is too old'
                    WHEN ledger.scaled(point.usd, asset.decimals) IS NULL
                        THEN 'the decimals of the token are unknown' END AS reason
    ) worth
    WHERE EXISTS (
        SELECT FROM ledger.price_point p
        WHERE (p.name, p.chain, p.asset) = (%(file)s, %(chain)s, token.address)
    )
    """
)

# A coin that has a perpetual of its name on Hyperliquid's main dex, and what is worth one of it, at
# the mark that a forced trade recorded at most a minute before. In its quote token, at par.
_MARK_PRICES = sql.SQL(
    """
    INSERT INTO staged_file_price
    SELECT a.asset, false, a.block_number, ledger.scaled(mark.mark_price, asset.decimals),
           mark.block_at
    FROM (
        SELECT DISTINCT leg.asset, l.block_number, l.block_at
        FROM ledger.lending_liquidation l
        CROSS JOIN LATERAL (VALUES
            (l.repaid_asset), (l.bad_debt_asset),
            (CASE WHEN NOT l.seized_is_shares THEN l.seized_asset END)
        ) leg (asset)
        WHERE {scope} AND EXISTS (
            SELECT FROM ledger.liquidation h
            WHERE h.venue = 'hyperliquid'
              AND h.block_at >= %(low)s::timestamptz - interval '1 minute'
              AND h.block_at < %(high)s::timestamptz
        )
    ) a
    JOIN ledger.asset_kin kin ON (kin.chain, kin.address) = (%(chain)s, a.asset)
        AND kin.relation IN ('self', 'wrapped', 'bridged')
    JOIN ledger.asset ON (asset.chain, asset.address) = (%(chain)s, a.asset)
    CROSS JOIN LATERAL (
        SELECT h.mark_price, h.block_at FROM ledger.liquidation h
        WHERE h.venue = 'hyperliquid' AND (h.market, h.dex) = (kin.family, '')
          AND h.mark_price > 0 AND h.block_at <= a.block_at
          AND h.block_at >= a.block_at - interval '1 minute'
        ORDER BY h.block_at DESC, h.event_key LIMIT 1
    ) mark
    WHERE asset.decimals <= 36
    """
)

# The same coins at the last trade of the perpetual, which is there wherever the coin trades in each
# minute, and not only where somebody was liquidated.
_TRADE_PRICES = sql.SQL(
    """
    INSERT INTO staged_file_price
    SELECT a.asset, false, a.block_number, ledger.scaled(traded.price, asset.decimals), traded.at
    FROM (
        SELECT DISTINCT leg.asset, l.block_number, l.block_at
        FROM ledger.lending_liquidation l
        CROSS JOIN LATERAL (VALUES
            (l.repaid_asset), (l.bad_debt_asset),
            (CASE WHEN NOT l.seized_is_shares THEN l.seized_asset END)
        ) leg (asset)
        WHERE {scope} AND EXISTS (SELECT FROM ledger.market_minute)
    ) a
    JOIN ledger.asset_kin kin ON (kin.chain, kin.address) = (%(chain)s, a.asset)
        AND kin.relation IN ('self', 'wrapped', 'bridged')
    JOIN ledger.asset ON (asset.chain, asset.address) = (%(chain)s, a.asset)
    CROSS JOIN LATERAL ledger.traded_before(kin.family, a.block_at, %(max_age)s) traded
    WHERE asset.decimals <= 36
    """
)

# Only of what the file names: nobody expects it to know the rest.
_UNVALUED_BY_FILE = sql.SQL(
    """
    INSERT INTO staged_unvalued ({key}, price_source, reason, bases)
    SELECT l.venue, l.block_at, l.event_key, l.account, %(source)s, why.reason,
           array_agg(why.basis ORDER BY why.place)
    FROM ledger.lending_liquidation l
    LEFT JOIN staged_file_price r ON (r.asset, r.is_shares, r.block_number)
        = (l.repaid_asset, false, l.block_number)
    LEFT JOIN staged_file_price s ON (s.asset, s.is_shares, s.block_number)
        = (l.seized_asset, l.seized_is_shares, l.block_number)
    LEFT JOIN staged_file_price b ON (b.asset, b.is_shares, b.block_number)
        = (l.bad_debt_asset, false, l.block_number)
    CROSS JOIN LATERAL (VALUES
        (1, 'repaid', r.reason),
        (2, 'seized', s.reason),
        (3, 'seized_net', CASE WHEN l.method <> 'absorb' THEN s.reason END),
        (4, 'bonus', CASE WHEN l.method <> 'absorb' AND r.asset IS NOT NULL AND s.asset IS NOT NULL
                     THEN coalesce(r.reason, s.reason) END),
        (5, 'bad_debt', b.reason)
    ) why (place, basis, reason)
    WHERE {scope} AND why.reason IS NOT NULL
    GROUP BY l.venue, l.block_at, l.event_key, l.account, why.reason
    """
)

# -- what contradicts the protocol's own rules ---------------------------------------------------

# Amounts are whole base units: one of each side, and one more for what is rounded on the way, is
# allowed on top of every bound. A price from a file is of another time and proves nothing.
_SUSPECT = sql.SQL(
    """
    INSERT INTO staged_suspect ({key}, rule, detail)
    SELECT {key}, doubt.rule,
           string_agg(doubt.detail || ' (' || price_source || ')', '; '
                      ORDER BY liq.source_rank(price_source))
    FROM staged_valuation v
    CROSS JOIN LATERAL (
        SELECT is_covered AND part = '' AND (
                   all_seized_usd < %(least)s::numeric * all_repaid_usd
                   AND all_seized_usd + 2 * seized_price
                       < %(least)s::numeric * (all_repaid_usd - 2 * repaid_price)
                   OR all_seized_usd > %(most)s::numeric * all_repaid_usd
                   AND all_seized_usd - 2 * seized_price
                       > %(most)s::numeric * (all_repaid_usd + 2 * repaid_price)
               ) AS bonus,
               is_covered AND part = '' AND all_fee_usd > all_seized_usd - all_repaid_usd
                   AND all_fee_usd
                       > all_seized_usd - all_repaid_usd + 2 * seized_price + 2 * repaid_price
                   AS fee,
               token_usd NOT BETWEEN 0.9 AND 1.1 AS peg
    ) is_off
    CROSS JOIN LATERAL (VALUES
        ('bonus', CASE WHEN is_off.bonus THEN format(
            'the collateral is worth %%s times the debt, beyond %%s to %%s',
            round(all_seized_usd / nullif(all_repaid_usd, 0), 4), %(least)s::numeric,
            %(most)s::numeric
        ) END),
        ('protocol_fee', CASE WHEN is_off.fee THEN format(
            'the protocol kept %%s USD of a bonus of %%s USD', round(all_fee_usd, 2),
            round(all_seized_usd - all_repaid_usd, 2)
        ) END),
        ('peg', CASE WHEN is_off.peg THEN format(
            'debt in a dollar token is not worth a dollar but %%s', round(token_usd, 4)
        ) END)
    ) doubt (rule, detail)
    WHERE price_source = ANY(%(on_chain)s) AND (is_off.bonus OR is_off.fee OR is_off.peg)
      AND doubt.detail IS NOT NULL
    GROUP BY {key}, doubt.rule
    """
)

# The incentive of a market is a function of its lltv, for liquidations by Morpho itself.
# morpho-org/morpho-blue:src/Morpho.sol (liquidate), src/libraries/ConstantsLib.sol
_MORPHO_SUSPECT = sql.SQL(
    """
    INSERT INTO staged_suspect ({key}, rule, detail)
    SELECT v.venue, v.block_at, v.event_key, v.account, 'morpho_bonus', format(
        'the collateral is worth %%s times the debt, not %%s (oracle)',
        round(v.seized_usd / nullif(v.repaid_usd, 0), 6), round(incentive.factor, 6)
    )
    FROM staged_valuation v
    JOIN ledger.lending_liquidation l USING (account, venue, event_key)
    JOIN ledger.fact ON (fact.chain, fact.fact, fact.subject) = (%(chain)s, 'morpho_lltv', l.market)
    CROSS JOIN LATERAL (
        SELECT least(1.15, 1 / (1 - 0.3 * (1 - fact.value::numeric * 1e-18))) AS factor
    ) incentive
    WHERE v.price_source = 'oracle' AND l.method = 'repay_seize'
      AND 'A-' <> ALL (ARRAY[v.repaid_quality, v.seized_quality])
      AND 'B-' <> ALL (ARRAY[v.repaid_quality, v.seized_quality])
      AND abs(v.seized_usd - factor * v.repaid_usd) > 0.000001 * factor * v.repaid_usd
          + 2 * v.seized_price + 2 * factor * v.repaid_price
    """
)
