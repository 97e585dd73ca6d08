"""The exchange's public API: what accounts hold and are, within the weight that an address may
spend.

POST /info of https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint"""

import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import TypeVar

import msgspec
import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from indexer import interest, roles
from indexer.errors import ConfigError, SourceFault
from indexer.positions import AccountState, Dex, account_state, collateral, dex_names, tokens
from indexer.roles import ExchangeRole
from indexer.sources.endpoints import REAL
from indexer.sources.rpc import (
    CheckedProvider,
    Clock,
    Disabled,
    Fault,
    RateLimited,
    Refused,
    Unreachable,
    Untrue,
)

# A minute and an address: /for-developers/api/rate-limits
WEIGHT_A_MINUTE = 1_200
MINUTE_SECONDS = 60.0
FILLS_A_WEIGHT = 20  # fills of an answer that weigh 1 more, each 20 or part of them
PAGE_FILLS = 2_000  # the most in an answer: /for-developers/api/info-endpoint
WEIGHTS = {
    "clearinghouseState": 2,
    "userRole": 60,
    "userFillsByTime": 20 + PAGE_FILLS // FILLS_A_WEIGHT,  # until the answer is there
}
HEAVY = 20  # all others that are asked here
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5  # doubles
LIMITED_SECONDS = 10.0  # after a 429 that names no time
AHEAD = timedelta(minutes=1)  # how far the exchange's clock may be ahead of ours

T = TypeVar("T")


class Silent(SourceFault):
    """The API does not answer, or only with that it will later."""


class Weights:
    """Spends no more than `most` in any minute, by waiting."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()

    def spend(self, weight: int) -> None:
        """Wait until there is room for it. One that exceeds all that may be spent has a minute of
        its own."""
        while (used := self._in_use()) and used + weight > self._most:
            self._clock.sleep(self._spent[0][0] + MINUTE_SECONDS - self._clock.now())
        self._spent.append((self._clock.now(), weight))

    def has_room(self, weight: int) -> bool:
        """Whether it may be spent at once."""
        used = self._in_use()
        return not used or used + weight <= self._most

    def give_back(self, weight: int) -> None:
        """What the last answer turned out not to weigh."""
        at, spent = self._spent.pop()
        self._spent.append((at, spent - weight))

    def _in_use(self) -> int:
        while self._spent and self._spent[0][0] + MINUTE_SECONDS <= self._clock.now():
            self._spent.popleft()
        return sum(weight for _, weight in self._spent)


class _Post(CheckedProvider):
    """The careful POST of JSON-RPC for an API that has no envelope: its own are its statuses."""

    def info(self, question: dict[str, str | int]) -> bytes:
        """The body of an answer; raises a Fault."""
        return self._exchange(msgspec.json.encode(question))

    def _status_fault(self, response: requests.Response, body: bytes) -> Fault:
        if response.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            return Refused(f"HTTP {response.status_code}", "other")
        return super()._status_fault(response, body)


class HyperliquidApi:
    """Asks until there is an answer that can be believed, a few times; then raises Silent or
    another SourceFault. Raises ConfigError where asking again is of no use to anybody."""

    def __init__(
        self, url: str, weight_a_minute: int = WEIGHT_A_MINUTE, clock: Clock = REAL
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("HYPERLIQUID_API is not http:// or https://")
        self._post = _Post(f"{url.rstrip('/')}/info", 1, clock)
        self._weights = Weights(weight_a_minute, clock)
        self._clock = clock

    def close(self) -> None:
        """Close its connections."""
        self._post.close()

    def dexes(self) -> list[Dex]:
        """All perp dexes and what they settle in: three questions of the heavy kind."""
        names = self._asked("perpDexs", dex_names)
        settled_in = self._asked("allPerpMetas", collateral)
        called = self._asked("spotMeta", tokens)
        return [Dex(name, called.get(settled_in.get(name, -1))) for name in names]

    def account_state(self, account: str, dex: Dex) -> AccountState:
        """All that an account holds on a dex; an account that nobody knows holds nothing."""

        def read(body: bytes) -> AccountState:
            state = account_state(body, account, dex)
            if state.observed_at > self._utc() + AHEAD:
                raise ValueError("a state of a time that is still to come")
            return state

        return self._asked("clearinghouseState", read, user=account, dex=dex.name)

    def user_role(self, account: str) -> ExchangeRole:
        """What an account is. The answer names no time: it is that of our clock, as below."""

        def read(body: bytes) -> ExchangeRole:
            return roles.user_role(body, account, self._utc())

        return self._asked("userRole", read, user=account)

    def vault(self, account: str) -> ExchangeRole:
        """Name and leader of a vault. One that the exchange does not know is a fault."""

        def read(body: bytes) -> ExchangeRole:
            return roles.vault(body, account, self._utc())

        return self._asked("vaultDetails", read, vaultAddress=account)

    def sub_accounts(self, master: str) -> list[ExchangeRole]:
        """All sub-accounts of an account."""

        def read(body: bytes) -> list[ExchangeRole]:
            return roles.sub_accounts(body, master, self._utc())

        return self._asked("subAccounts", read, user=master)

    def open_interest(self, dex: Dex) -> tuple[datetime, dict[str, Decimal]]:
        """That of each market of a dex, in its units. The answer names no time: it is that of our
        clock when we had it, so that what stands in it was so at the latest then."""

        def read(body: bytes) -> tuple[datetime, dict[str, Decimal]]:
            return self._utc(), interest.now(body, dex.name)

        return self._asked("metaAndAssetCtxs", read, dex=dex.name)

    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self._clock.utc(), UTC)

    def _asked(self, kind: str, read: Callable[[bytes], T], **question: str | int) -> T:
        policy = Retrying(
            retry=retry_if_exception_type((Unreachable, RateLimited, Untrue)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_seconds,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            answer: T = policy(self._once, kind, read, question)
            return answer
        except Disabled as fault:
            error: Exception = ConfigError(f"{self._post.name}: {fault}; see HYPERLIQUID_API")
        except (Unreachable, RateLimited) as fault:
            error = Silent(self._post.name, f"{kind}: {fault}")
        except Fault as fault:
            error = SourceFault(self._post.name, f"{kind}: {fault}")
        raise error

    def _once(self, kind: str, read: Callable[[bytes], T], question: dict[str, str | int]) -> T:
        self._weights.spend(WEIGHTS.get(kind, HEAVY))
        body = self._post.info({"type": kind, **question})
        try:
            return read(body)
        except (msgspec.MsgspecError, ValueError) as error:
            text = str(error)
        raise Untrue(text)


def wait_seconds(state: RetryCallState) -> float:
    """Twice as long each time, and as long as was asked for."""
    fault = state.outcome.exception() if state.outcome else None
    own = FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1)
    if isinstance(fault, RateLimited):
        own = max(own, LIMITED_SECONDS if fault.seconds is None else fault.seconds)
    return own * random.uniform(1.0, 1.1)
