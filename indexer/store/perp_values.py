"""What liquidations of perpetuals were worth. Their records carry the amounts themselves, in a
quote token: at par, one of those that are meant to be a dollar is one, and what an event has in
dollars is what it says; a price file may know better, or the last trade of the token against USDC.
The last trade of a market stands beside a mark that is missing, never in the place of one that was
published."""

from psycopg import sql

from indexer.store.database import Connection
from indexer.store.lending_values import LAST_TRADE_MAX_AGE, Terms, files_of
from indexer.store.staged import IN_SCOPE, KEY, Scope, number

CHAIN = "hyperliquid"  # where price files name quote tokens of the venue that is no chain's


def stage(connection: Connection, scope: Scope, terms: Terms) -> int:
    """Stage what the liquidations of one part were worth; gives their number."""
    names = {"key": KEY, "scope": IN_SCOPE, "equity": _EQUITY, "point": _POINT}
    connection.execute(_AT_PAR.format(**names), scope)
    connection.execute(_UNVALUED_AT_PAR.format(**names), scope)
    connection.execute(_BY_EVENT.format(**names), scope)
    chain = str(scope["venue"]).partition(".")[2] or CHAIN
    for name, max_age in files_of(connection, chain):
        values = {
            **scope, "chain": chain, "file": name, "source": f"file:{name}", "max_age": max_age,
        }  # fmt: skip
        connection.execute(_BY_FILE.format(**names), values)
        connection.execute(_UNVALUED_BY_FILE.format(**names), values)
    connection.execute(_BY_TRADES.format(**names), {**scope, "max_age": LAST_TRADE_MAX_AGE})
    connection.execute(_SUSPECT.format(**names), scope)
    return number(connection, sql.SQL("ledger.liquidation l WHERE {}").format(IN_SCOPE), scope)


# A takeover is at the price where nothing is left of the margin, cut to the digits that a price may
# have. What the account had is stated by the exchange's ledger for the whole action, which is that
# of one row only if the action has no other; else it is what the position was worth above that
# price at mark. An order in the book leaves the rest of the margin with the account, whose loss is
# `realised`. https://hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations
_EQUITY = sql.SQL(
    """
    LEFT JOIN LATERAL (
        SELECT min(said.account_value) AS stated FROM ledger.ledger_liquidation said
        WHERE (said.account, said.venue, said.tx_hash) = (l.account, l.venue, l.tx_hash)
        HAVING count(*) = 1 AND (
            SELECT count(*) FROM ledger.liquidation other
            WHERE (other.account, other.venue, other.tx_hash) = (l.account, l.venue, l.tx_hash)
        ) = 1
    ) equity ON l.method IN ('backstop', 'adl_of_user')
    CROSS JOIN LATERAL (
        SELECT coalesce(equity.stated, CASE WHEN l.method = 'backstop'
                   THEN CASE l.side WHEN 'long' THEN l.mark_price - l.price
                                    ELSE l.price - l.mark_price END * l.size END) AS margin_lost,
               nullif(CASE WHEN l.method = 'backstop'
                   THEN CASE l.side WHEN 'long' THEN l.notional_mark - equity.stated
                                    ELSE l.notional_mark + equity.stated END END, l.notional)
                   AS bankruptcy
    ) lost
    """
)

_AT_PAR = sql.SQL(
    """
    INSERT INTO staged_valuation (
        {key}, price_source, fill_usd, mark_usd, bankruptcy_usd, margin_lost_usd, realised_usd,
        quote_price, quote_quality, quote_trust, quote_as_of_at
    )
    SELECT l.venue, l.block_at, l.event_key, l.account, 'par', l.notional, l.notional_mark,
           lost.bankruptcy, lost.margin_lost, l.realised_pnl, 1, 'A', 'governed', l.block_at
    FROM ledger.liquidation l {equity}
    WHERE {scope} AND liq.at_par(l.quote)
    """
)

# Of what is in dollars there is nothing to look up: who wants no token at par has this as well.
_BY_EVENT = sql.SQL(
    """
    INSERT INTO staged_valuation (
        {key}, price_source, fill_usd, mark_usd, realised_usd, quote_price, quote_quality,
        quote_trust, quote_as_of_at
    )
    SELECT l.venue, l.block_at, l.event_key, l.account, 'event', l.notional, l.notional_mark,
           l.realised_pnl, 1, 'A', 'governed', l.block_at
    FROM ledger.liquidation l
    WHERE {scope} AND l.quote = 'usd'
    """
)

_UNVALUED_AT_PAR = sql.SQL(
    """
    INSERT INTO staged_unvalued ({key}, price_source, reason, bases)
    SELECT l.venue, l.block_at, l.event_key, l.account, 'par', why.reason,
           array_agg(why.basis ORDER BY why.place)
    FROM ledger.liquidation l
    LEFT JOIN staged_valuation v USING (venue, block_at, event_key, account)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN l.quote IS NULL THEN 'the quote token is unknown'
                    WHEN v.venue IS NULL THEN 'the quote token is no dollar token' END AS why
    ) quote
    CROSS JOIN LATERAL (VALUES
        (1, 'fill', CASE WHEN l.notional IS NULL THEN 'no event tells the price of the close'
                         ELSE quote.why END),
        (2, 'mark', CASE WHEN l.notional_mark IS NULL THEN 'the record carries no mark price'
                         ELSE quote.why END),
        (3, 'margin_lost', CASE WHEN l.method NOT IN ('backstop', 'adl_of_user') THEN NULL
                                WHEN quote.why IS NOT NULL THEN quote.why
                                WHEN v.margin_lost_usd IS NULL
                                THEN 'neither mark nor equity of this liquidation is known' END),
        (4, 'realised', CASE WHEN l.realised_pnl IS NULL THEN 'the account''s own leg was not seen'
                             ELSE quote.why END)
    ) why (place, basis, reason)
    WHERE {scope} AND why.reason IS NOT NULL
    GROUP BY l.venue, l.block_at, l.event_key, l.account, why.reason
    """
)

_POINT = sql.SQL(
    """
    LEFT JOIN LATERAL (
        SELECT p.at, p.usd FROM ledger.price_point p
        WHERE (p.name, p.chain, p.asset) = (%(file)s, %(chain)s, l.quote) AND p.at <= l.block_at
        ORDER BY p.at DESC LIMIT 1
    ) point ON true
    """
)

_BY_FILE = sql.SQL(
    """
    INSERT INTO staged_valuation (
        {key}, price_source, fill_usd, mark_usd, bankruptcy_usd, margin_lost_usd, realised_usd,
        quote_price, quote_quality, quote_trust, quote_as_of_at
    )
    SELECT l.venue, l.block_at, l.event_key, l.account, %(source)s, l.notional * point.usd,
           l.notional_mark * point.usd, lost.bankruptcy * point.usd, lost.margin_lost * point.usd,
           l.realised_pnl * point.usd, point.usd, 'C', 'governed', point.at
    FROM ledger.liquidation l {point} {equity}
    WHERE {scope} AND point.at >= l.block_at - %(max_age)s
    """
)

_UNVALUED_BY_FILE = sql.SQL(
    """
    INSERT INTO staged_unvalued ({key}, price_source, reason, bases)
    SELECT l.venue, l.block_at, l.event_key, l.account, %(source)s,
           CASE WHEN point.at IS NULL THEN 'the file has no point before it'
                ELSE 'the last point of the file is too old' END,
           CASE WHEN l.method IN ('backstop', 'adl_of_user')
               THEN ARRAY['fill', 'mark', 'margin_lost', 'realised']
               ELSE ARRAY['fill', 'mark', 'realised'] END
    FROM ledger.liquidation l {point}
    WHERE {scope} AND coalesce(point.at < l.block_at - %(max_age)s, true) AND EXISTS (
        SELECT FROM ledger.price_point p
        WHERE (p.name, p.chain, p.asset) = (%(file)s, %(chain)s, l.quote)
    )
    """
)

# Pairs are against USDC, which is the unit here: one of it is one dollar. A row is made where a
# trade tells what no other source of the exchange does: what the quote token was worth, or, of a
# record without a mark, what the market traded at. As old as the older of the trades it takes.
_BY_TRADES = sql.SQL(
    """
    INSERT INTO staged_valuation (
        {key}, price_source, fill_usd, mark_usd, bankruptcy_usd, margin_lost_usd, realised_usd,
        quote_price, quote_quality, quote_trust, quote_as_of_at
    )
    SELECT l.venue, l.block_at, l.event_key, l.account, 'hyperliquid_fills', l.notional * token.usd,
           coalesce(l.notional_mark, l.size * traded.price) * token.usd,
           lost.bankruptcy * token.usd, lost.margin_lost * token.usd, l.realised_pnl * token.usd,
           token.usd, 'C', 'governed', least(token.at, traded.at)
    FROM ledger.liquidation l {equity}
    LEFT JOIN LATERAL ledger.traded_before(l.market, l.block_at, %(max_age)s) traded
        ON l.notional_mark IS NULL
    LEFT JOIN LATERAL (
        SELECT pair.market FROM ledger.market_minute pair
        WHERE pair.token = l.quote AND pair.minute <= l.block_at
        ORDER BY pair.minute DESC LIMIT 1
    ) pair ON l.quote <> 'USDC'
    LEFT JOIN LATERAL ledger.traded_before(pair.market, l.block_at, %(max_age)s) against ON true
    CROSS JOIN LATERAL (
        SELECT CASE l.quote WHEN 'USDC' THEN 1 ELSE against.price END AS usd,
               CASE l.quote WHEN 'USDC' THEN traded.at ELSE against.at END AS at
    ) token
    WHERE {scope} AND (l.quote <> 'USDC' OR l.notional_mark IS NULL) AND token.at IS NOT NULL
    """
)

# Published decimals, but the exchange itself computes in binary: 1e-12 is allowed.
_SUSPECT = sql.SQL(
    """
    INSERT INTO staged_suspect ({key}, rule, detail)
    SELECT l.venue, l.block_at, l.event_key, l.account, doubt.rule, doubt.detail
    FROM ledger.liquidation l
    LEFT JOIN staged_valuation v
        ON (v.venue, v.block_at, v.event_key, v.account, v.price_source)
         = (l.venue, l.block_at, l.event_key, l.account, 'par')
    CROSS JOIN LATERAL (VALUES
        ('position', CASE WHEN l.notional > abs(l.position_before) * l.price * 1.000000000001
            THEN format('the notional of %%s is more than that of the position, %%s',
                        l.notional, abs(l.position_before) * l.price) END),
        ('margin', CASE
            WHEN v.margin_lost_usd > greatest(v.fill_usd, v.mark_usd) * 1.000000000001
            THEN format('the margin lost of %%s USD is more than the notional of %%s USD',
                        v.margin_lost_usd, greatest(v.fill_usd, v.mark_usd)) END)
    ) doubt (rule, detail)
    WHERE {scope} AND doubt.detail IS NOT NULL
    """
)
