"""A node of dYdX v4 and its public indexer on loopback, with blocks of our own making.

Made up, encoded from the sources; no real event is public. Shapes: attributes as
dydxprotocol/v4-chain:protocol/x/clob/types/events.go writes them, transactions as its
proto/dydxprotocol/clob/{tx,matches}.proto, answers as https://docs.cometbft.com/v0.38/rpc and the
indexer's services/comlink/src/types.ts. The encoder shares no code with the reader.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.rpc_proxy import Http

Json = Any
GENESIS = datetime(2025, 10, 10, 21, 0, tzinfo=UTC)
MARKETS = {0: ("BTC-USD", -10), 1: ("ETH-USD", -9), 7: ("PEPE-USD", 1)}

ALICE = "dydx1" + "a" * 38
BOB = "dydx1" + "b" * 38
CAROL = "dydx1" + "c" * 38
DAVE = "dydx1" + "d" * 38


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def number_field(name: int, value: int) -> bytes:
    return varint(name << 3) + varint(value) if value else b""


def bytes_field(name: int, value: bytes) -> bytes:
    return varint(name << 3 | 2) + varint(len(value)) + value


def account(owner: str, number: int) -> bytes:
    return bytes_field(1, owner.encode()) + number_field(2, number)


class Fill(NamedTuple):
    """A fill as the chain makes it. `quote` is of the fill alone, `base` what the taker got."""

    taker: tuple[str, int]
    maker: tuple[str, int]
    perpetual: int
    base: int
    quote: int
    kind: str = "trade"  # or liquidation, deleveraging, settlement
    taker_fee: int = 0
    maker_fee: int = 0
    insurance: int = 0
    builder_fee: int | None = 0  # of the maker; None as before there were any

    def event(self) -> Json:
        """protocol/x/clob/keeper/process_single_match.go: what each pays is taken off its quote."""
        taker_quote = (-self.quote if self.base > 0 else self.quote) - self.taker_fee
        maker_quote = (self.quote if self.base > 0 else -self.quote) - self.maker_fee
        said = {
            "taker_subaccount": self.taker[0],
            "taker_subaccount_number": self.taker[1],
            "maker_subaccount": self.maker[0],
            "maker_subaccount_number": self.maker[1],
            "taker_order_fee_quote_quantums": self.taker_fee,
            "maker_order_fee_quote_quantums": self.maker_fee,
            "taker_quote_balance_delta_quote_quantums": taker_quote - self.insurance,
            "maker_quote_balance_delta_quote_quantums": maker_quote - (self.builder_fee or 0),
            "taker_perpetual_quantums_delta_base_quantums": self.base,
            "maker_perpetual_quantums_delta_base_quantums": -self.base,
            "insurance_fund_delta_quote_quantums": self.insurance,
            "is_liquidation": str(self.kind == "liquidation").lower(),
            "is_deleverage": str(self.kind in ("deleveraging", "settlement")).lower(),
            "perpetual_id": self.perpetual,
        }
        if self.builder_fee is not None:
            said |= {
                "taker_builder_address": "", "maker_builder_address": "",
                "taker_builder_fee_quantums": 0, "maker_builder_fee_quantums": self.builder_fee,
                "taker_order_router_address": "", "maker_order_router_address": "",
                "taker_order_router_fee_quote_quantums": 0,
                "maker_order_router_fee_quote_quantums": 0,
            }  # fmt: skip
        return event("match", said)

    def operation(self) -> bytes:
        """proto/dydxprotocol/clob/matches.proto: ClobMatch."""
        if self.kind == "trade":
            return bytes_field(1, bytes_field(2, number_field(1, abs(self.base))))
        if self.kind == "liquidation":
            order = bytes_field(1, account(*self.taker)) + number_field(3, self.perpetual)
            maker = number_field(1, abs(self.base)) + bytes_field(2, b"")
            return bytes_field(2, order + bytes_field(6, maker))
        offset = bytes_field(1, account(*self.maker)) + number_field(2, abs(self.base))
        order = bytes_field(1, account(*self.taker)) + number_field(2, self.perpetual)
        is_final = number_field(4, int(self.kind == "settlement"))
        return bytes_field(3, order + bytes_field(3, offset) + is_final)


def event(kind: str, attributes: dict[str, Any]) -> Json:
    said = [{"key": key, "value": str(value), "index": True} for key, value in attributes.items()]
    return {"type": kind, "attributes": said}


def transaction(kind: str, message: bytes) -> bytes:
    """cosmos.tx.v1beta1 TxRaw around one message, with an empty AuthInfo."""
    packed = bytes_field(1, kind.encode()) + bytes_field(2, message)
    return bytes_field(1, bytes_field(1, packed)) + bytes_field(2, b"")


def proposed(fills: list[Fill]) -> bytes:
    queue = [bytes_field(1, bytes_field(1, fill.operation())) for fill in fills]
    other = bytes_field(1, bytes_field(2, b"a signed order, which nobody reads here"))
    return transaction("/dydxprotocol.clob.MsgProposedOperations", b"".join([other, *queue]))


def tx_hash(fills: list[Fill]) -> str:
    """As explorers show it."""
    return hashlib.sha256(proposed(fills)).hexdigest().upper()


class Dydx:
    """Serves a chain over CometBFT's JSON-RPC and trades as the indexer does; `tweak` may change
    any answer before it goes out. Use as a context manager."""

    def __init__(self, first: int = 100, last: int = 119, path: str = "") -> None:
        self.first, self.last = first, last
        self.network = "dydx-mainnet-1"
        self.is_syncing = False
        self.fills: dict[int, list[Fill]] = {}
        self.markets = dict(MARKETS)
        self.asked: list[tuple[str, int]] = []
        self.tweak: Callable[[str, int, Json], Json | Http] = lambda method, height, said: said
        self.trades: dict[str, list[Json]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Dydx":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def at(self, height: int) -> datetime:
        """One block a second."""
        return GENESIS + timedelta(seconds=height - 100)

    def hash(self, height: int) -> str:
        return hashlib.sha256(f"block {height}".encode()).hexdigest().upper()

    def answer(self, body: bytes) -> Http:
        question = json.loads(body)
        method, params = question["method"], question["params"]
        height = int(params[0]) if method.startswith("block") else 0
        self.asked.append((method, height))
        said: Json = None
        if method == "status":
            said = self._status()
        elif method == "abci_query":
            said = self._perpetual(params)
        elif height > self.last:
            said = {"error": _error(
                f"height {height} must be less than or equal to the current blockchain height"
                f" {self.last}"
            )}  # fmt: skip
        elif height < self.first:
            said = {"error": _error(
                f"height {height} is not available, lowest height is {self.first}"
            )}  # fmt: skip
        else:
            said = self._block(height) if method == "block" else self._results(height)
        said = self.tweak(method, height, said)
        if isinstance(said, Http):
            return said
        envelope = said if "error" in said else {"result": said}
        return Http(json.dumps({"jsonrpc": "2.0", "id": question["id"], **envelope}).encode())

    def _status(self) -> Json:
        return {
            "node_info": {"network": self.network, "version": "0.38.15", "moniker": "made-up"},
            "sync_info": {
                "latest_block_hash": self.hash(self.last),
                "latest_block_height": str(self.last),
                "latest_block_time": self._time(self.last),
                "earliest_block_height": str(self.first),
                "catching_up": self.is_syncing,
            },
        }

    def _time(self, height: int) -> str:
        return f"{self.at(height):%Y-%m-%dT%H:%M:%S}.123456789Z"

    def _block(self, height: int) -> Json:
        txs = [proposed(self.fills.get(height, [])), transaction("/a.Vote", b"")]
        return {
            "block_id": {"hash": self.hash(height), "parts": {"total": 1, "hash": "AB"}},
            "block": {
                "header": {
                    "version": {"block": "11"}, "chain_id": self.network, "height": str(height),
                    "time": self._time(height),
                    "last_block_id": {"hash": self.hash(height - 1)},
                    "app_hash": "CD",
                },
                "data": {"txs": [base64.b64encode(tx).decode() for tx in txs]},
                "evidence": {"evidence": []},
            },
        }  # fmt: skip

    def _results(self, height: int) -> Json:
        matches = [fill.event() for fill in self.fills.get(height, [])]
        done = {"code": 0, "data": None, "log": "", "gas_wanted": "0", "gas_used": "0"}
        signed = event("message", {"action": "/dydxprotocol.clob.MsgProposedOperations"})
        return {
            "height": str(height),
            "txs_results": [{**done, "events": [signed, *matches]}, {**done, "events": None}],
            "finalize_block_events": [event("coin_spent", {"amount": 1, "mode": "BeginBlock"})],
            "validator_updates": None,
            "app_hash": "CD",
        }

    def _perpetual(self, params: list[Any]) -> Json:
        path, data = params[0], bytes.fromhex(params[1])
        assert path == "/dydxprotocol.perpetuals.Query/Perpetual"
        number = next((n for n in self.markets if data == b"\x08" + varint(n)), None)
        if number is None:
            return {"response": {"code": 22, "log": "not found", "value": None, "height": "0"}}
        ticker, resolution = self.markets[number]
        zigzag = -2 * resolution - 1 if resolution < 0 else 2 * resolution
        params_of = number_field(1, number) + bytes_field(2, ticker.encode())
        params_of += number_field(3, number) + number_field(4, zigzag)
        value = bytes_field(1, bytes_field(1, params_of) + bytes_field(2, b"\x02"))
        said = base64.b64encode(value).decode()
        return {"response": {"code": 0, "log": "", "value": said, "height": str(self.last)}}

    # the indexer

    def publish(self) -> None:
        """Let the indexer tell the fills of all blocks, as its fills table has them."""
        for height, fills in self.fills.items():
            for place, fill in enumerate(fills):
                ticker, resolution = self.markets[fill.perpetual]
                size = Decimal(abs(fill.base)).scaleb(resolution)
                kinds = {"trade": "LIMIT", "liquidation": "LIQUIDATED"}
                self.trades.setdefault(ticker, []).append({
                    "id": f"{height:08x}{place:08x}",
                    "side": "BUY" if fill.base > 0 else "SELL",
                    "size": f"{size:f}",
                    "price": f"{Decimal(fill.quote).scaleb(-6) / size:f}",
                    "type": kinds.get(fill.kind, "DELEVERAGED"),
                    "createdAt": self._time(height),
                    "createdAtHeight": str(height),
                })  # fmt: skip

    def told(self, path: str) -> Http:
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        *_, word = parts.path.split("/")
        said: Json
        if parts.path.endswith("/v4/height"):
            said = {"height": str(self.last), "time": self._time(self.last)}
        elif parts.path.endswith("/v4/perpetualMarkets"):
            said = {"markets": {ticker: {"ticker": ticker} for ticker, _ in self.markets.values()}}
        else:
            until = int(query["createdBeforeOrAtHeight"])
            found = sorted(
                (one for one in self.trades.get(word, []) if int(one["createdAtHeight"]) <= until),
                key=lambda one: -int(one["createdAtHeight"]),
            )
            said = {"trades": found[: int(query["limit"])]}
        said = self.tweak(parts.path, 0, said)
        return said if isinstance(said, Http) else Http(json.dumps(said).encode())


def _error(data: str) -> Json:
    return {"code": -32603, "message": "Internal error", "data": data}


def _handler(dydx: Dydx) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            self._send(dydx.answer(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self._send(dydx.told(self.path))

        def _send(self, answer: Http) -> None:
            time.sleep(answer.late)
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
