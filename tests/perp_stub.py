"""Three exchanges' public REST APIs on loopback, with made-up trades, and a script of faults.

Shapes as documented, nothing recorded: `orderBooks` and `trades` of Lighter
(elliottech/lighter-python:docs/OrderBook.md, lighter/models/trades.py; apidocs.lighter.xyz/docs/
websocket-reference for a trade), `markets` and `trades` of Paradex (docs.paradex.trade/api/prod/
trades/trades), `info/markets` and its `trades` of Extended (api.docs.extended.exchange).
"""

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from tests.rpc_proxy import Http
from tests.stream_stub import Close, Feed

Json = Any


def lighter(trade_id: int, kind: str = "liquidation", **other: Json) -> Json:
    """A trade of Lighter: account 57890, long 0.5, sells 0.2 to 317068 unless told otherwise."""
    return {
        "trade_id": trade_id, "trade_id_str": str(trade_id), "tx_hash": "019F2B9C",
        "type": kind, "market_id": 0, "size": "0.2", "price": "2181.83", "usd_amount": "436.366",
        "ask_id": 281476612587355, "bid_id": 562948334068259,
        "ask_account_id": 57890, "bid_account_id": 317068, "is_maker_ask": False,
        "block_height": 198321831, "timestamp": 1773854156654,
        "taker_position_size_before": "0.5", "maker_position_size_before": "-4.3180",
        "transaction_time": 1773854156686065,
        **other,
    }  # fmt: skip


def paradex(number: int, kind: str = "LIQUIDATION", **other: Json) -> Json:
    """A trade of Paradex."""
    return {
        "id": str(number), "market": "BTC-USD-PERP", "side": "BUY", "size": "0.01",
        "price": "30001.2", "created_at": 1773854156654, "trade_type": kind,
        **other,
    }  # fmt: skip


def extended(number: int, kind: str = "LIQUIDATION", **other: Json) -> Json:
    """A trade of Extended."""
    return {
        "i": number, "m": "BTC-USD", "S": "SELL", "tT": kind, "T": 1773854156654, "p": "61998.5",
        "q": "0.04", **other,
    }  # fmt: skip


def aster(**other: Json) -> Json:
    """A message of Aster: a long of 0.014 is closed."""
    order = {
        "s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910",
        "ap": "9911", "X": "FILLED", "l": "0.014", "z": "0.014", "T": 1773854156654,
    }  # fmt: skip
    return {"e": "forceOrder", "E": 1773854156660, "o": {**order, **other}}


class Perps:
    """Answers for all three under the path of each. Use as a context manager."""

    def __init__(self) -> None:
        self.trades: dict[str, list[Json]] = {"lighter": [], "paradex": [], "extended": []}
        self.page_trades = 100
        self.asked: list[str] = []
        self._script: list[tuple[str, Http]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Perps":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """For the real command."""
        return {f"{name.upper()}_API": f"{self.url}/{name}" for name in self.trades}

    def play(self, answer: Http, word: str = "", times: int = 1) -> None:
        """Answer requests whose path has this word with this."""
        self._script += [(word, answer)] * times

    def answer(self, path: str) -> Http:
        self.asked.append(path)
        for place, (word, answer) in enumerate(self._script):
            if word in path:
                del self._script[place]
                return answer
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name, _, rest = parts.path.strip("/").partition("/")
        said = getattr(self, f"_{name}")(rest, asked)
        return Http(json.dumps(said).encode())

    def _lighter(self, path: str, asked: dict[str, str]) -> Json:
        if path == "orderBooks":
            books = [("ETH", 0, "perp"), ("BTC", 1, "perp"), ("ETH/USDC", 2048, "spot")]
            return {"code": 200, "order_books": [
                {"symbol": symbol, "market_id": number, "market_type": kind, "status": "active"}
                for symbol, number, kind in books
            ]}  # fmt: skip
        found = [
            one for one in self.trades["lighter"]
            if (str(one["market_id"]), one["type"]) == (asked["market_id"], asked["type"])
        ]  # fmt: skip
        found.sort(key=lambda one: -int(one["timestamp"]))
        page, cursor = self._page(found, asked.get("cursor"))
        return {"code": 200, "trades": page, **({"next_cursor": cursor} if cursor else {})}

    def _paradex(self, path: str, asked: dict[str, str]) -> Json:
        if path == "markets":
            return {"results": [
                {"symbol": "BTC-USD-PERP", "quote_currency": "USD", "asset_kind": "PERP"},
                {"symbol": "BTC-USD-90000-C", "quote_currency": "USD", "asset_kind": "PERP_OPTION"},
            ]}  # fmt: skip
        found = [one for one in self.trades["paradex"] if one["market"] == asked["market"]
                 and one["created_at"] >= int(asked["start_at"])]  # fmt: skip
        found.sort(key=lambda one: -int(one["created_at"]))
        page, cursor = self._page(found, asked.get("cursor"))
        return {"next": cursor, "prev": None, "results": page}

    def _extended(self, path: str, asked: dict[str, str]) -> Json:
        if path == "info/markets":
            return {"status": "OK", "data": [
                {"name": "BTC-USD", "assetName": "BTC", "collateralAssetName": "USD"}
            ]}  # fmt: skip
        return {"status": "OK", "data": self.trades["extended"]}

    def _page(self, found: list[Json], cursor: str | None) -> tuple[list[Json], str | None]:
        begin = int(cursor or 0)
        end = begin + self.page_trades
        return found[begin:end], str(end) if end < len(found) else None


def _handler(perps: Perps) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            answer = perps.answer(self.path)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = self.close_connection or answer.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class Unasked(Feed):
    """A feed that speaks without being asked, as its address says what it is of."""

    def _handle(self, connection: ServerConnection) -> None:
        part: Sequence[Json] = self.parts[min(self.connections, len(self.parts) - 1)]
        self.connections += 1
        try:
            for message in part:
                if isinstance(message, Close):
                    connection.close(message.code, message.reason)
                    return
                connection.send(message if isinstance(message, str) else json.dumps(message))
            connection.recv()
        except (ConnectionClosed, OSError):
            return
