"""The exchange's /info on loopback, in the shapes that it serves, and a script of faults to play.

Shapes: `clearinghouseState`, `perpDexs`, `allPerpMetas` and `metaAndAssetCtxs` as the exchange's
own documentation and recorded answers have them, the last cut to what names a market and its open
interest; `userFillsByTime` as recorded, the oldest first as documented or the newest first as in
2023; `spotMeta` as documented, cut to what names a token; `userRole`, `vaultDetails` and
`subAccounts` as documented. Unknown kinds of question are refused with 422, as recorded.
https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.rpc_proxy import Http

Json = Any

# The example of the documentation: a long of 0.0335 ETH, of 22 February 2024.
RECORDED_AT = 1708622398623
RECORDED: Json = {
    "assetPositions": [
        {
            "position": {
                "coin": "ETH",
                "cumFunding": {
                    "allTime": "514.085417", "sinceChange": "0.0", "sinceOpen": "0.0",
                },
                "entryPx": "2986.3",
                "leverage": {"rawUsd": "-95.059824", "type": "isolated", "value": 20},
                "liquidationPx": "2866.26936529",
                "marginUsed": "4.967826",
                "maxLeverage": 50,
                "positionValue": "100.02765",
                "returnOnEquity": "-0.0026789",
                "szi": "0.0335",
                "unrealizedPnl": "-0.0134",
            },
            "type": "oneWay",
        }
    ],
    "crossMaintenanceMarginUsed": "0.0",
    "crossMarginSummary": {
        "accountValue": "13104.514502", "totalMarginUsed": "0.0", "totalNtlPos": "0.0",
        "totalRawUsd": "13104.514502",
    },
    "marginSummary": {
        "accountValue": "13109.482328", "totalMarginUsed": "4.967826",
        "totalNtlPos": "100.02765", "totalRawUsd": "13009.454678",
    },
    "time": RECORDED_AT,
    "withdrawable": "13104.514502",
}  # fmt: skip
# Two of the twelve positions of hyperliquid-dex/hyperliquid-python-sdk:
# tests/cassettes/info_test/test_get_user_state.yaml, of 27 March 2023.
RECORDED_SHORT: Json = {
    "coin": "BTC", "entryPx": "26951.0", "leverage": {"type": "cross", "value": 20},
    "liquidationPx": "173198.69592357", "marginUsed": "10.582271",
    "maxTradeSzs": ["0.76534", "0.74964"], "positionValue": "211.64542",
    "returnOnEquity": "-0.00756643", "szi": "-0.00785", "unrealizedPnl": "-0.08007",
}  # fmt: skip
RECORDED_SAFE: Json = {
    "coin": "ETH", "entryPx": "1705.82", "leverage": {"type": "cross", "value": 20},
    "liquidationPx": None, "marginUsed": "11.383755", "maxTradeSzs": ["11.8423", "12.1091"],
    "positionValue": "227.675114", "returnOnEquity": "0.01042942", "szi": "0.1334",
    "unrealizedPnl": "0.118726",
}  # fmt: skip
# The examples of the documentation: a sub-account, and the vault of the exchange, its portfolio and
# followers cut to one.
RECORDED_SUB_ACCOUNT: Json = {
    "name": "Test",
    "subAccountUser": "0x035605fc2f24d65300227189025e90a0d947f16c",
    "master": "0x8c967e73e6b15087c42a10d344cff4c96d877f1d",
    "clearinghouseState": {
        "marginSummary": {
            "accountValue": "29.78001", "totalNtlPos": "0.0", "totalRawUsd": "29.78001",
            "totalMarginUsed": "0.0",
        },
        "crossMarginSummary": {
            "accountValue": "29.78001", "totalNtlPos": "0.0", "totalRawUsd": "29.78001",
            "totalMarginUsed": "0.0",
        },
        "crossMaintenanceMarginUsed": "0.0",
        "withdrawable": "29.78001",
        "assetPositions": [],
        "time": 1733968369395,
    },
    "spotState": {
        "balances": [
            {"coin": "USDC", "token": 0, "total": "0.22", "hold": "0.0", "entryNtl": "0.0"}
        ]
    },
}  # fmt: skip
RECORDED_VAULT: Json = {
    "name": "Test",
    "vaultAddress": "0xdfc24b077bc1425ad1dea75bcb6f8158e10df303",
    "leader": "0x677d831aef5328190852e24f13c46cac05f984e7",
    "description": "This community-owned vault provides liquidity to Hyperliquid through multiple"
    " market making strategies, performs liquidations, and accrues platform fees.",
    "portfolio": [
        [
            "day",
            {
                "accountValueHistory": [[1734397526634, "329265410.90790099"]],
                "pnlHistory": [[1734397526634, "0.0"]],
                "vlm": "0.0",
            },
        ],
    ],
    "apr": 0.36387129259090006,
    "followerState": None,
    "leaderFraction": 0.0007904828725729887,
    "leaderCommission": 0,
    "followers": [
        {
            "user": "0x005844b2ffb2e122cf4244be7dbcb4f84924907c",
            "vaultEquity": "714491.71026243",
            "pnl": "3203.43026143",
            "allTimePnl": "79843.74476743",
            "daysFollowing": 388,
            "vaultEntryTime": 1700926145201,
            "lockupUntil": 1734824439201,
        }
    ],
    "maxDistributable": 94856870.164485,
    "maxWithdrawable": 742557.680863,
    "isClosed": False,
    "relationship": {
        "type": "parent",
        "data": {
            "childAddresses": [
                "0x010461c14e146ac35fe42271bdc1134ee31c703a",
                "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14",
                "0x31ca8395cf837de08b24da3f660e77761dfb974b",
            ]
        },
    },
    "allowDeposits": True,
    "alwaysCloseOnWithdraw": False,
}
_NOTHING = {
    "accountValue": "0.0", "totalNtlPos": "0.0", "totalRawUsd": "0.0", "totalMarginUsed": "0.0",
}  # fmt: skip


def state(*positions: Json, at: int | None = None) -> Json:
    """A `clearinghouseState` with these positions, of a moment in milliseconds or of now; without
    any it is what the exchange says of an account that it never saw."""
    return {
        "marginSummary": _NOTHING,
        "crossMarginSummary": _NOTHING,
        "crossMaintenanceMarginUsed": "0.0",
        "withdrawable": "0.0",
        "assetPositions": [{"type": "oneWay", "position": one} for one in positions],
        "time": int(time.time() * 1000) if at is None else at,
    }


def vault(account: str, leader: str, name: str = "A vault", kind: str = "normal") -> Json:
    """A `vaultDetails`; of a child the leader is its parent."""
    own = {"vaultAddress": account, "leader": leader, "name": name, "relationship": {"type": kind}}
    return {**RECORDED_VAULT, **own}


def sub_account(account: str, master: str, name: str = "A sub-account") -> Json:
    """One of the list of a `subAccounts`."""
    return {**RECORDED_SUB_ACCOUNT, "subAccountUser": account, "master": master, "name": name}


class Exchange:
    """Tells what accounts hold and are, until something is played. Use as a context manager."""

    def __init__(self, path: str = "", now: Callable[[], float] = time.monotonic) -> None:
        self.held: dict[tuple[str, str], Json] = {}  # by account and dex
        self.vaults: dict[str, Json] = {}
        self.sub_accounts: list[Json] = []
        self.signs_for: dict[str, str] = {}  # agents
        self.users: set[str] = set()
        self.fills: dict[str, list[Json]] = {}  # by account, the oldest first
        self.page_fills = 2_000
        self.newest_first = False
        self.open_interest = {"BTC": "9942.2624", "ETH": "0.0", "xyz:TSLA": "1250.5"}
        self.asked: list[tuple[float, str, str]] = []  # when, what kind, of whom
        self._now = now
        self._script: list[tuple[str, Http]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Exchange":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def play(self, answer: Http, word: str = "", times: int = 1) -> None:
        """Answer questions that hold this word with this, in place of the truth."""
        self._script += [(word, answer)] * times

    def count(self, kind: str) -> int:
        """How often a kind of question came."""
        return sum(asked == kind for _, asked, _ in self.asked)

    def answer(self, body: bytes) -> Http:
        question = json.loads(body)
        user = question.get("vaultAddress", question.get("user", ""))
        self.asked.append((self._now(), question["type"], user))
        for place, (word, answer) in enumerate(self._script):
            if word.encode() in body:
                del self._script[place]
                return answer
        match question["type"]:
            case "perpDexs":
                said: Json = [None, {"name": "xyz", "fullName": "XYZ", "deployer": "0x88"}]
            case "allPerpMetas":
                said = [
                    {"universe": [_asset("BTC"), _asset("ETH")], "collateralToken": 0},
                    {"universe": [_asset("xyz:TSLA")], "collateralToken": 360},
                ]
            case "spotMeta":
                said = {"universe": [], "tokens": [_token("USDC", 0), _token("USDH", 360)]}
            case "metaAndAssetCtxs":
                said = self._contexts(question["dex"])
            case "clearinghouseState":
                said = self.held.get((user, question["dex"]), state())
            case "userFillsByTime":
                said = self._fills_of(user, question)
            case "userRole":
                said = self._role(user)
            case "vaultDetails":
                said = self.vaults.get(user)
            case "subAccounts":
                said = [one for one in self.sub_accounts if one["master"] == user] or None
            case _:
                return Http(b"Failed to deserialize the JSON body into the target type", 422)
        return Http(json.dumps(said).encode())

    def _fills_of(self, user: str, question: Json) -> Json:
        """A page: the oldest fills of a time, or the newest, which then come first. Knows the
        10,000 newest of an account."""
        low, high = question["startTime"], question["endTime"]
        known = self.fills.get(user, [])[-10_000:]
        found = [fill for fill in known if low <= fill["time"] <= high]
        if self.newest_first:
            return found[-self.page_fills :][::-1]
        return found[: self.page_fills]

    def _contexts(self, dex: str) -> Json:
        held = [name for name in self.open_interest if name.rpartition(":")[0] == dex]
        return [
            {"universe": [_asset(name) for name in held], "collateralToken": 0},
            [{"openInterest": self.open_interest[name], "midPx": None} for name in held],
        ]

    def _role(self, account: str) -> Json:
        masters = [one["master"] for one in self.sub_accounts if one["subAccountUser"] == account]
        if masters:
            return {"role": "subAccount", "data": {"master": masters[0]}}
        if account in self.signs_for:
            return {"role": "agent", "data": {"user": self.signs_for[account]}}
        if account in self.vaults:
            return {"role": "vault"}
        masters = [one["master"] for one in self.sub_accounts]
        return {"role": "user" if account in {*self.users, *masters} else "missing"}


def _asset(name: str) -> Json:
    return {"name": name, "szDecimals": 3, "maxLeverage": 20, "marginTableId": 20}


def _token(name: str, index: int) -> Json:
    return {"name": name, "szDecimals": 8, "weiDecimals": 8, "index": index, "tokenId": "0x6d"}


def _handler(exchange: Exchange) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_info = self.path.endswith("/info")
            answer = exchange.answer(body) if is_info else Http(b"not found", 404)
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
