"""How much of what an account traded it made, and where; what a market traded at last in a minute.

Of days and blocks that were counted before, nothing of it is known.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0014"
down_revision = "0013"

TABLES = """
ALTER TABLE ledger.account_day
    ADD COLUMN maker_bought numeric,
    ADD COLUMN maker_sold numeric,
    ADD COLUMN maker_markets text[] COLLATE "C";

CREATE TABLE ledger.market_minute (
    venue text NOT NULL,
    market text COLLATE "C" NOT NULL,
    minute timestamptz NOT NULL CHECK (minute = date_trunc('minute', minute, 'UTC')),
    token text,
    quote text NOT NULL,
    last_price numeric NOT NULL CHECK (last_price > 0),
    last_at timestamptz NOT NULL CHECK (last_at >= minute AND last_at < minute + interval '1 min'),
    last_block bigint NOT NULL,
    PRIMARY KEY (venue, market, minute)
);

CREATE INDEX market_minute_token ON ledger.market_minute (token, minute, market)
    WHERE token IS NOT NULL;
"""

FUNCTIONS = """
CREATE FUNCTION ledger.united(one text[], other text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(
    SELECT DISTINCT each COLLATE "C" FROM unnest(one || other) AS each ORDER BY 1
);

CREATE FUNCTION ledger.traded_before(
    market text, moment timestamptz, max_age interval
) RETURNS TABLE (price numeric, at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    -- the minute of the moment has its last trade behind it as a rule: the one before then tells
    SELECT m.last_price, m.last_at FROM ledger.market_minute m
    WHERE (m.venue, m.market) = ('hyperliquid', traded_before.market)
      AND m.minute > moment - max_age - interval '1 minute' AND m.minute <= moment
      AND m.last_at >= moment - max_age AND m.last_at < moment
    ORDER BY m.minute DESC LIMIT 1;
END;
"""

VIEWS = """
CREATE OR REPLACE VIEW liq.account_days AS
SELECT venue, account, day, quote, fills, other_fills, volume, realised_pnl, largest_position,
       largest_position_market,
       CASE WHEN liq.at_par(quote) THEN largest_position END AS largest_position_usd,
       maker_bought, maker_sold, maker_markets
FROM ledger.account_day;

CREATE VIEW liq.market_minutes AS
SELECT venue, market, minute, token, quote, last_price, last_at, last_block
FROM ledger.market_minute;
"""

UNITED = "Both lists as one, each name once, in order; NULL where one is."
TRADED_BEFORE = (
    "The last trade of a market of Hyperliquid before a moment and at most so long before it, as"
    " minutes tell: the last of the minute before, unless this one has none after the moment."
)
PRICE_SOURCE = (
    "event, oracle, reference, feed_log, file:NAME, hyperliquid (the mark of a perpetual there),"
    " hyperliquid_fills (the last trade there), or par: a dollar token is one dollar, of loans"
    " where the protocol itself counts it so."
)
OF_SOURCES = (
    "ledger.valuation", "ledger.unvalued", "liq.valuations", "liq.unvalued",
    "liq.unvalued_reasons",
)  # fmt: skip
MINUTE = "The last trade in the order book of each market in each minute that has one."
DAY = "What every account traded on one UTC day, liquidated or not."
OF_DAYS = {
    "venue": "A protocol on a chain, e.g. hyperliquid.",
    "account": "Address of the account concerned, lower case.",
    "day": "UTC day of the block times.",
    "quote": "Token that prices and notionals are in.",
    "fills": "Number of perp fills.",
    "other_fills": "Number of fills that are no perp trade: spot, outcome tokens, housekeeping."
    " Spot and outcome tokens count on the row of the main dex's quote token.",
    "volume": "Sum of price times size over the account's perp fills, in the quote token.",
    "realised_pnl": "Sum of the realised profit or loss before fees, in the quote token.",
    "largest_position": "Largest notional of a position before or after a fill, at its price.",
    "largest_position_market": "Market of that position.",
    "largest_position_usd": "Largest position in dollars, dollar tokens at par.",
    "maker_bought": "The part of volume that the account bought as a maker: with an order in the"
    " book that another one met. NULL of days that were counted before this was known.",
    "maker_sold": "The part of volume that it sold so.",
    "maker_markets": "The markets in which it did, each once, in order.",
}
OF_MINUTES = {
    "venue": "A protocol on a chain, e.g. hyperliquid.",
    "market": "Coin as published: a perpetual, or a spot pair of two dollar tokens.",
    "minute": "When the minute begins.",
    "token": "Of a pair of two dollar tokens the one that is priced; NULL of a perpetual.",
    "quote": "Token that the price is in.",
    "last_price": "Price of the last trade in the order book, forced orders among them; a takeover"
    " or a deleveraging is at no price of the book and is none.",
    "last_at": "Time of its block.",
    "last_block": "Its block. Within a block the trade that stands last is the last.",
}


def upgrade() -> None:
    bind = op.get_bind()
    for statements in (TABLES, FUNCTIONS, VIEWS):
        bind.exec_driver_sql(statements.replace("%", "%%"))
    op.execute(f"COMMENT ON FUNCTION ledger.united(text[], text[]) IS '{UNITED}'")
    op.execute(
        "COMMENT ON FUNCTION ledger.traded_before(text, timestamptz, interval) IS"
        f" '{TRADED_BEFORE}'"
    )
    for name in OF_SOURCES:
        op.execute(f"COMMENT ON COLUMN {name}.price_source IS '{PRICE_SOURCE}'")
    comment_on(bind, "TABLE", "ledger.account_day", DAY, OF_DAYS)
    comment_on(bind, "VIEW", "liq.account_days", DAY, OF_DAYS)
    comment_on(bind, "TABLE", "ledger.market_minute", MINUTE, OF_MINUTES)
    comment_on(bind, "VIEW", "liq.market_minutes", MINUTE, OF_MINUTES)
