"""The public indexer API of dYdX v4: trades of every market with their kind, without accounts.

[S] dydxprotocol/v4-chain: indexer/services/comlink/src/controllers/api/v4/trades-controller.ts,
height-controller.ts, perpetual-markets-controller.ts; types.ts: TradeResponseObject
"""

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

import msgspec
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from indexer.errors import ConfigError, SourceFault
from indexer.sources.endpoints import REAL
from indexer.sources.rpc import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    CheckedProvider,
    Clock,
    Disabled,
    Fault,
    RateLimited,
    Unreachable,
    Untrue,
)

URL = "https://indexer.dydx.trade"
PAGE = 100  # every version takes it: config.ts, API_LIMIT_V4
ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.5  # doubles

T = TypeVar("T")


class Trade(msgspec.Struct, frozen=True, rename="camel"):
    """A fill as the API tells it; `side` is the taker's."""

    id: str
    side: Literal["BUY", "SELL"]
    size: Decimal
    price: Decimal
    type: str
    created_at_height: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]

    @property
    def height(self) -> int:
        """Its block."""
        return int(self.created_at_height)


class _Trades(msgspec.Struct):
    trades: list[Trade]


class _Markets(msgspec.Struct):
    markets: dict[str, msgspec.Raw]


class _Height(msgspec.Struct):
    height: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,18}$")]


class _Get(CheckedProvider):
    """The careful exchange of JSON-RPC for an API that is asked by path."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url, 1, clock)
        session = requests.Session()

        def get(body: bytes) -> requests.Response:
            return session.get(
                f"{url}{body.decode()}",
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, SILENT_SECONDS),
            )

        self._post = get
        self._close = session.close

    def get(self, path: str) -> bytes:
        """The body of an answer; raises a Fault."""
        return self._exchange(path.encode())


class DydxApi:
    """Asks until there is an answer that can be believed, a few times; then raises SourceFault."""

    def __init__(self, url: str = URL, *, clock: Clock = REAL) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("--api is not http:// or https://")
        self._api = _Get(url.rstrip("/").removesuffix("/v4"), clock)
        self._clock = clock

    def close(self) -> None:
        """Close its connections."""
        self._api.close()

    def height(self) -> int:
        """The last block that it has taken in."""
        return int(self._asked("/v4/height", _Height).height)

    def tickers(self) -> list[str]:
        """All markets that there are."""
        return sorted(self._asked("/v4/perpetualMarkets", _Markets).markets)

    def trades(self, ticker: str, low: int, high: int) -> Iterator[Trade]:
        """All trades of a market in blocks `low` up to, not including, `high`, the last first.

        Raises SourceFault where one block has more than a page takes: what it leaves out cannot
        be asked for by height."""
        until = high - 1
        while until >= low:
            query = f"limit={PAGE}&createdBeforeOrAtHeight={until}"
            path = f"/v4/trades/perpetualMarket/{quote(ticker, safe='')}?{query}"
            page = self._asked(path, _Trades).trades
            is_last = len(page) < PAGE
            lowest = min((trade.height for trade in page), default=0)
            if lowest == until and not is_last:
                raise SourceFault(self._api.name, f"{ticker}: block {until} does not fit on a page")
            # of the lowest block of a full page there may be more
            yield from (
                one for one in page if one.height >= low and (is_last or one.height > lowest)
            )
            if is_last:
                return
            until = lowest

    def _asked(self, path: str, shape: type[T]) -> T:
        policy = Retrying(
            retry=retry_if_exception_type((Unreachable, RateLimited, Untrue)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_wait_seconds,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            answer: T = policy(self._once, path, shape)
            return answer
        except Disabled as fault:
            error: Exception = ConfigError(f"{self._api.name}: {fault}; see --api")
        except Fault as fault:
            error = SourceFault(self._api.name, f"{path.partition('?')[0]}: {fault}")
        raise error

    def _once(self, path: str, shape: type[T]) -> T:
        body = self._api.get(path)
        try:
            return msgspec.json.decode(body, type=shape)
        except msgspec.MsgspecError as error:
            text = str(error)
        raise Untrue(text)


def _wait_seconds(state: RetryCallState) -> float:
    fault = state.outcome.exception() if state.outcome else None
    own = FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1)
    if isinstance(fault, RateLimited):
        own = max(own, 10.0 if fault.seconds is None else fault.seconds)
    return own * random.uniform(1.0, 1.1)
