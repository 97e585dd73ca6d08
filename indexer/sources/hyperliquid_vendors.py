"""Who sells, or gives, fills as they happen: what differs between them, as data.

All tell `[user, fill]` in the shape of the exchange's API. `aggregateByTime`, which some offer, is
never asked for: it merges fills, and their trade ids are lost. None of the feeds could be tried
live; whether they send both legs of a trade is not written anywhere.
"""

from typing import Any, Literal, NamedTuple


class Vendor(NamedTuple):
    """One feed. `url` is None where each customer has an address of its own.

    `named_at` and `names` tell messages of the feed from others; without names those are of it
    that lead to a list. `fills_at` are the keys that may lead to it, `user_at` those to the user
    where it has bare fills in place of tuples. `seq` counts messages of a connection from 1 on.
    `ping` is sent now and then; `pings` are words that are answered. A feed that says nothing for
    `silent_seconds` is opened anew, whether its socket answers or not. `feed` names it, `source` is
    where all this is written."""

    name: str
    url: str | None
    key_in: Literal["query", "url", "nowhere"]
    key_name: str
    subscribe: dict[str, Any]
    named_at: str
    names: tuple[str, ...]
    fills_at: tuple[tuple[str, ...], ...]
    user_at: tuple[str, ...]
    seq: str | None
    ping: dict[str, Any] | None
    pings: dict[str, dict[str, Any]]
    silent_seconds: float
    of_users: bool
    feed: str
    source: str


# The exchange has some ten liquidations a minute: ten minutes without one are rare. A single user
# may be quiet for days, but the exchange answers pings.
_QUIET = 600.0
_EXCHANGE_PING = {"method": "ping"}

_ALL = (
    Vendor(
        name="exchange",
        url="wss://api.hyperliquid.xyz/ws",
        key_in="nowhere",
        key_name="",
        subscribe={"method": "subscribe", "subscription": {"type": "userFills"}},
        named_at="channel",
        names=("userFills",),
        fills_at=(("data", "fills"),),
        user_at=("data", "user"),
        seq=None,
        ping=_EXCHANGE_PING,
        pings={},
        silent_seconds=60.0,
        of_users=True,
        feed="userFills",
        source="hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket/subscriptions;"
        " roq-trading/roq-hyperliquid:test/json_user_fills.cpp",
    ),
    Vendor(
        name="goldrush",
        url="wss://hypercore.goldrushdata.com/ws",
        key_in="query",
        key_name="key",
        subscribe={"method": "subscribe", "subscription": {"type": "liquidationFills"}},
        named_at="channel",
        names=("liquidationFills",),
        # the page has `fills` beside `channel`; its other channels have the exchange's `data`
        fills_at=(("fills",), ("data", "fills"), ("data",)),
        user_at=(),
        seq=None,
        ping=_EXCHANGE_PING,
        pings={},
        silent_seconds=_QUIET,
        of_users=False,
        feed="liquidationFills",
        source="goldrush.dev/docs/api-reference/hyperliquid-websocket/liquidation-fills",
    ),
    Vendor(
        name="hydromancer",
        url="wss://api.hydromancer.xyz/ws",
        key_in="query",
        key_name="token",
        subscribe={"type": "subscribe", "subscription": {"type": "liquidationFills"}},
        named_at="type",
        names=("liquidationFills",),
        fills_at=(("fills",),),
        user_at=(),
        seq="seq",
        ping=None,
        pings={"ping": {"type": "pong"}},
        silent_seconds=_QUIET,
        of_users=False,
        feed="liquidationFills",
        source="docs.hydromancer.xyz/readme/websocket/trades-data/liquidationfills;"
        " docs.hydromancer.xyz/readme/websocket/session-management-and-reconnection",
    ),
    Vendor(
        name="quicknode",
        url=None,  # each endpoint has its own, which holds the key
        key_in="url",
        key_name="",
        subscribe={
            "jsonrpc": "2.0",
            "method": "hl_subscribe",
            "params": {"streamType": "trades"},
            "id": 1,
        },
        named_at="stream",
        names=(),
        fills_at=(("data", "events"),),
        user_at=(),
        seq=None,
        ping=None,
        pings={},
        silent_seconds=60.0,  # all trades of the exchange
        of_users=False,
        feed="trades",
        source="quicknode.com/docs/hyperliquid/datasets",
    ),
)
VENDORS = {vendor.name: vendor for vendor in _ALL}
USERS_OF_AN_ADDRESS = 10  # in streams of users, all connections together: api/rate-limits
