"""Perpetual exchanges whose public feeds name liquidations: what differs between them, as data.

Shared by their source and their venue file. None of the feeds could be tried live: each field and
word below stands in the documentation or the client that `source` names, and what stands in none of
them is left out.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from indexer.model import Completeness, Method


class Kind(NamedTuple):
    """What a word of a feed says of a trade. `method` is None where it does not say how;
    `is_of_taker` that the taker's position is the one that was liquidated."""

    method: Method | None = None
    is_of_taker: bool = False


class Fields(NamedTuple):
    """Where a trade has what. `key` tells it from all others, with a digest where it has no `id`.

    `closing_side` is the side, BUY or SELL, of the order that closed the position."""

    kind: str
    key: tuple[str, ...]
    market: str
    at_ms: str
    price: str
    size: str
    id: str | None = None
    closing_side: str | None = None


class Parties(NamedTuple):
    """Where a trade of a feed that names accounts has its two sides."""

    maker_is_ask: str
    ask_account: str
    bid_account: str
    ask_order: str
    bid_order: str
    taker_position: str  # signed, before the trade; left out when it is none
    height: str
    tx_hash: str


class Pages(NamedTuple):
    """A REST API. Markets are in the list `markets_at`; a path of trades has places for `{market}`,
    `{kind}` and `{since}`, and the list `trades_at`, from where `cursor_at` leads on.

    `perps` are the field and the word that tell perpetuals from other markets, `kinds` those that
    are asked for apart, `a_minute` how many requests an address has."""

    url: str
    markets: str
    markets_at: str
    market_id: str
    market_name: str
    perps: tuple[str, str] | None
    trades: str
    trades_at: str
    cursor_at: str | None
    kinds: tuple[str, ...]
    a_minute: int


class Wire(NamedTuple):
    """A WebSocket. `named_at` and `names` tell messages of the feed from others; without names
    those are of it that have `trades_at`, which holds a list, or one trade where not `is_list`."""

    url: str
    subscribe: Mapping[str, Any] | None
    named_at: str
    names: tuple[str, ...]
    trades_at: str
    is_list: bool
    silent_seconds: float


class Feed(NamedTuple):
    """One exchange. `kinds` are its words for liquidations, `ordinary` those for other trades; of a
    word that is neither nobody knows what it means, and the trade is kept undecoded.

    `quote` is the token of prices, usd where the API has them in dollars."""

    venue: str
    kinds: Mapping[str, Kind]
    ordinary: frozenset[str]
    fields: Fields
    parties: Parties | None
    quote: str | None
    completeness: Completeness
    pages: Pages | None
    wire: Wire | None
    source: str


LIGHTER = Feed(
    venue="lighter",
    # A liquidation is an immediate-or-cancel order on behalf of the account, so the account is the
    # taker: docs.lighter.xyz/perpetual-futures/liquidations-and-insurance-fund; docs.allium.so/
    # historical-data/supported-blockchains/lighter/dex/liquidations ("the taker is the liquidated
    # account"). Of a deleverage nothing says which of the two it was, nor whether the insurance
    # fund or a winner took the position over.
    kinds={"liquidation": Kind("market", is_of_taker=True), "deleverage": Kind()},
    ordinary=frozenset({"trade", "market-settlement"}),
    fields=Fields(
        kind="type", key=("market_id", "trade_id"), market="market_id", at_ms="timestamp",
        price="price", size="size", id="trade_id",
    ),
    parties=Parties(
        maker_is_ask="is_maker_ask", ask_account="ask_account_id", bid_account="bid_account_id",
        ask_order="ask_id", bid_order="bid_id", taker_position="taker_position_size_before",
        height="block_height", tx_hash="tx_hash",
    ),
    quote="usd",  # size times price is `usd_amount`
    completeness="sample",
    pages=Pages(
        url="https://mainnet.zklighter.elliot.ai/api/v1",
        markets="/orderBooks",
        markets_at="order_books",
        market_id="market_id",
        market_name="symbol",
        perps=("market_type", "perp"),
        trades="/trades?market_id={market}&type={kind}&sort_by=timestamp&sort_dir=desc&limit=100",
        trades_at="trades",
        cursor_at="next_cursor",
        kinds=("liquidation", "deleverage"),
        a_minute=40,  # weight 600 of 24,000
    ),
    # The channel trade/{MARKET_INDEX} has the same trades, a market a subscription and 100 of them
    # a connection; what pages tell later than it they tell without holes.
    wire=None,
    source="apidocs.lighter.xyz/docs/websocket-reference (Trade JSON), apidocs.lighter.xyz/docs/"
    "rate-limits; elliottech/lighter-python:docs/OrderApi.md, docs/OrderBook.md,"
    " lighter/models/trades.py; nautechsystems/nautilus_trader: crates/adapters/lighter/src/http/"
    "query.rs",
)  # fmt: skip
PARADEX = Feed(
    venue="paradex",
    # The insurance fund takes positions over and closes them on the market; which of both a trade
    # of this type is, and on which side, is not written: docs.paradex.trade/risk/liquidations.
    kinds={"LIQUIDATION": Kind()},
    # Others that its fills have, as UNWIND_TRANSFER, are explained nowhere.
    ordinary=frozenset({"FILL", "RPI", "BLOCK_TRADE", "SETTLE_MARKET"}),
    fields=Fields(
        # "Unique Trade ID per TradeType"
        kind="trade_type", key=("market", "trade_type", "id"), market="market", at_ms="created_at",
        price="price", size="size", id="id",
    ),
    parties=None,
    quote="usd",  # quote_currency of its markets is USD
    completeness="sample",
    pages=Pages(
        url="https://api.prod.paradex.trade/v1",
        markets="/markets",
        markets_at="results",
        market_id="symbol",
        market_name="symbol",
        perps=("asset_kind", "PERP"),
        trades="/trades?market={market}&start_at={since}&page_size=1000",
        trades_at="results",
        cursor_at="next",
        kinds=("",),
        a_minute=1_500,
    ),
    wire=None,  # binary (SBE) since 21 September 2026: docs.paradex.trade/ws/general-information
    source="docs.paradex.trade/api/prod/trades/trades, docs.paradex.trade/api/general-information/"
    "rate-limits/api; tradeparadex/paradex-py (TradeResult); docs.paradex.trade/ws/"
    "web-socket-channels/fills-market-symbol (the words); ccxt/ccxt:ts/src/paradex.ts (start_at)",
)  # fmt: skip
EXTENDED = Feed(
    venue="extended",
    # That the side is the taker's is written, but not whether the taker is who was liquidated.
    kinds={"LIQUIDATION": Kind(), "DELEVERAGE": Kind("adl_of_user")},
    ordinary=frozenset({"TRADE"}),
    fields=Fields(kind="tT", key=("m", "i"), market="m", at_ms="T", price="p", size="q", id="i"),
    parties=None,
    quote="usd",  # collateralAssetName of its markets is USD
    completeness="sample",
    pages=Pages(
        url="https://api.starknet.extended.exchange/api/v1",
        markets="/info/markets",
        markets_at="data",
        market_id="name",
        market_name="name",
        perps=None,
        trades="/info/markets/{market}/trades",
        trades_at="data",
        cursor_at=None,  # the latest alone: history is for an account's own
        kinds=("",),
        a_minute=1_000,
    ),
    wire=Wire(
        url="wss://api.starknet.extended.exchange/stream.extended.exchange/v1/publicTrades",
        subscribe=None,  # without a market in its path it is of all
        named_at="type",
        names=(),
        trades_at="data",
        is_list=True,
        silent_seconds=60.0,  # all trades of the exchange
    ),
    source="api.docs.extended.exchange (Get market last trades, Trades stream);"
    " x10xchange/python_sdk:x10/config.py, x10/models/trade.py",
)
ASTER = Feed(
    venue="aster",
    # An order that is filled does not come again; others may, and no id would tell.
    kinds={"FILLED": Kind("market")},
    ordinary=frozenset(),
    fields=Fields(
        kind="X", key=("s", "T"), market="s", at_ms="T", price="ap", size="z", closing_side="S"
    ),
    parties=None,
    quote=None,  # in the name of the market alone
    completeness="lower bound",  # "only the latest one liquidation order within 1000ms", a symbol
    pages=None,
    wire=Wire(
        url="wss://fstream.asterdex.com/ws",
        subscribe={"method": "SUBSCRIBE", "params": ["!forceOrder@arr"], "id": 1},
        named_at="e",
        names=("forceOrder",),
        trades_at="o",
        is_list=False,
        silent_seconds=3_600.0,  # it may be quiet for long; a dead socket shows by its pings
    ),
    source="asterdex/api-docs:V3(Recommended)/EN/aster-finance-futures-api-v3.md (All Market"
    " Liquidation Order Streams)",
)

FEEDS = {feed.venue: feed for feed in (LIGHTER, PARADEX, EXTENDED, ASTER)}
