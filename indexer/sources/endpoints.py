"""The endpoints of one chain: which to ask next, what each has taught us, when to give up."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from indexer.errors import ConfigError, SourceFault
from indexer.sources.refusals import Refusal
from indexer.sources.rpc import (
    BatchRefused,
    Call,
    CheckedProvider,
    Clock,
    Disabled,
    Fault,
    Missing,
    Pruned,
    RateLimited,
    Refused,
    TooLarge,
    Unreachable,
    Unsupported,
    Untrue,
)
from indexer.sources.wire import NUMBER, quantity, read

PROVE_SECONDS = 600.0  # how long we believe that an endpoint still serves the same chain
BATCH_CALLS = 500
COOL_SECONDS = 0.25  # after the first failure in a row; doubles
MOST_COOL_SECONDS = 30.0
DAY_SECONDS = 86_400

T = TypeVar("T")


class NoAnswer(SourceFault):
    """Every endpoint was asked, as often as makes sense, and none gave a usable answer."""


class BlockUnknown(NoAnswer):
    """Every endpoint says that it does not have this block: not yet, no more, or orphaned."""


class NotServed(NoAnswer):
    """No endpoint serves this method, or none goes back as far as this block."""


class Patience(NamedTuple):
    """How often all endpoints are asked in turn, and how long in all. Rounds in which endpoints
    only asked us to come later do not count."""

    rounds: int
    first_wait_seconds: float
    most_wait_seconds: float
    seconds: float


TIP = Patience(rounds=3, first_wait_seconds=0.05, most_wait_seconds=0.5, seconds=20)
BULK = Patience(rounds=6, first_wait_seconds=0.5, most_wait_seconds=30, seconds=900)


class Budget(NamedTuple):
    """The most requests to one endpoint; each call in a batch counts. None: no limit."""

    per_second: float | None = None
    per_day: int | None = None


REAL = Clock()
UNLIMITED = Budget()


class Width:
    """How many blocks an endpoint serves at once. Doubles until something was refused, then grows
    by a tenth; never beyond `most` or a width that was refused for being too wide."""

    def __init__(self, first: int, most: int) -> None:
        self.blocks = first
        self._most = most
        self._was_refused = False
        self._most_logs: int | None = None

    def refused(self, refusal: Refusal, block_from: int, block_to: int) -> None:
        """Learn from a refusal of these blocks; afterwards `blocks` is less than they were."""
        self._was_refused = True
        self.blocks = refusal.width(block_from, block_to)
        self._most_logs = refusal.logs or self._most_logs
        if refusal.kind == "too_wide":
            self._most = self.blocks if refusal.blocks else block_to - block_from - 1

    def served(self, blocks: int, logs: int) -> None:
        """Learn from an answer. An answer near the limit is no reason to ask for more."""
        factor = 1.1 if self._was_refused else 2.0
        fits = self._most_logs is None or logs * factor < self._most_logs
        if blocks == self.blocks and fits:
            self.blocks = min(max(int(blocks * factor), blocks + 1), self._most)


class Endpoint:
    """One URL: its health, and what it has taught us about its limits."""

    def __init__(self, provider: CheckedProvider, width: Width, budget: Budget, clock: Clock):
        self.name = provider.name
        self.width = width
        self.batch_calls = BATCH_CALLS
        self.terms: int | None = None
        self.pruned_below = 0
        self.unsupported: set[str] = set()
        self.disabled: str | None = None
        self.latency_seconds = 0.0
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.proven_at: float | None = None
        self.ready_at = 0.0
        self._provider = provider
        self._failures = 0
        self._budget = budget
        self._clock = clock
        self._next_at = 0.0
        self._today = (0, 0)

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r})"

    def call(self, call: Call) -> msgspec.Raw:
        """The result of one request; raises a Fault."""
        key = _capability(call)
        if key in self.unsupported:
            raise Unsupported(f"{key} is not served")
        try:
            return self._timed(1, lambda: self._provider.call(call))
        except Unsupported:
            self.unsupported.add(key)
            raise

    def batch(self, calls: Sequence[Call]) -> list[msgspec.Raw | Fault]:
        """The result or fault of each, in as few requests as the endpoint takes."""
        results: list[msgspec.Raw | Fault] = []
        while len(results) < len(calls):
            part = calls[len(results) : len(results) + self.batch_calls]
            try:
                results += self._part(part)
            except (BatchRefused, TooLarge, RateLimited) as fault:
                # A batch may be what breaks the limit per second: it gets smaller as well.
                self.batch_calls = max(len(part) // 2, 1)
                if isinstance(fault, RateLimited) or len(part) == 1:
                    raise
        return results

    def _part(self, calls: Sequence[Call]) -> list[msgspec.Raw | Fault]:
        if len(calls) > 1:
            return self._timed(len(calls), lambda: self._provider.batch(calls))
        try:
            return [self.call(calls[0])]
        except (Missing, Untrue, Refused, Unsupported) as fault:
            return [fault]

    def _timed(self, calls: int, ask: Callable[[], T]) -> T:
        self._spend(calls)
        start = self._clock.now()
        try:
            return ask()
        finally:
            self.requests += 1
            took = self._clock.now() - start
            self.latency_seconds += (took - self.latency_seconds) * 0.2

    def _spend(self, calls: int) -> None:
        """Wait for our turn; a day's budget that is used up is a rate limit until midnight UTC."""
        if self._budget.per_day is not None:
            today = int(self._clock.utc() // DAY_SECONDS)
            used = self._today[1] if self._today[0] == today else 0
            if used + calls > self._budget.per_day:
                rest = (today + 1) * DAY_SECONDS - self._clock.utc()
                raise RateLimited("the budget of requests for today is used up", rest)
            self._today = (today, used + calls)
        if self._budget.per_second is not None:
            now = self._clock.now()
            if self._next_at > now:
                self._clock.sleep(self._next_at - now)
            self._next_at = max(self._next_at, now) + calls / self._budget.per_second

    def failed(self, fault: Fault, block: int | None) -> None:
        """Remember a fault and for how long it keeps the endpoint out of the rotation."""
        self.faults[type(fault).__name__] += 1
        match fault:
            case Disabled():
                self.disabled = str(fault)
            case RateLimited() | Unreachable() | Untrue() | Refused():
                self._failures += 1
                own = min(COOL_SECONDS * 2 ** (self._failures - 1), MOST_COOL_SECONDS)
                said = fault.seconds or 0.0 if isinstance(fault, RateLimited) else 0.0
                self.ready_at = self._clock.now() + max(said, own) * random.uniform(1.0, 1.1)
                if isinstance(fault, Unreachable):
                    self.proven_at = None
            case Pruned() if block is not None:
                self.pruned_below = max(self.pruned_below, block + 1)
            case _:
                pass  # it is well, it only cannot answer this

    def succeeded(self) -> None:
        """Take it as healthy again."""
        self._failures = 0

    def close(self) -> None:
        """Close its connections."""
        self._provider.close()


def _capability(call: Call) -> str:
    """What may be missing: a method, or a tag in it."""
    tag = call.params[0] if call.params else None
    return f"{call.method} {tag}" if tag in ("finalized", "safe") else call.method


class _Round(Exception):
    """Nobody answered in this round."""

    def __init__(self, faults: dict[Endpoint, Fault], ready_in: float, is_over: bool) -> None:
        super().__init__(
            "; ".join(f"{endpoint.name}: {fault}" for endpoint, fault in faults.items())
        )
        self.faults = faults
        self.ready_in = ready_in
        self.is_over = is_over
        self.counts = any(not isinstance(fault, RateLimited) for fault in faults.values())


class Endpoints:
    """All endpoints of one chain; raises ConfigError when there is none."""

    def __init__(
        self,
        chain: str,
        chain_id: int,
        urls: Sequence[str],
        *,
        first_width: int = 1_000,
        most_width: int = 1_000_000,
        budget: Budget = UNLIMITED,
        clock: Clock = REAL,
    ) -> None:
        self._setting = f"RPC_{chain.upper().replace('-', '_')}"
        if not urls:
            raise ConfigError(f"{chain}: no endpoint; set {self._setting}")
        for number, url in enumerate(urls, 1):
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"{self._setting}: address {number} is not http:// or https://")
        self._chain = chain
        self._chain_id = chain_id
        self._clock = clock
        self.all = tuple(
            Endpoint(
                CheckedProvider(url, number, clock), Width(first_width, most_width), budget, clock
            )
            for number, url in enumerate(urls, 1)
        )

    def ask(
        self,
        what: str,
        ask: Callable[[Endpoint], T],
        patience: Patience = BULK,
        *,
        block: int | None = None,
        without: Endpoint | None = None,
        cost: Callable[[Endpoint], float] = lambda endpoint: endpoint.latency_seconds,
    ) -> T:
        """What the first endpoint that can do it answers, the cheapest first.

        `ask` may make several requests; a Fault in one of them moves all of them elsewhere.
        Raises NoAnswer, one of its kinds, saying what every endpoint said."""
        started = self._clock.now()
        counted = 0

        def one_round() -> T:
            return self._round(ask, block, without, cost)

        def is_enough(state: RetryCallState) -> bool:
            nonlocal counted
            fault = _fault_of(state)
            counted += fault.counts
            late = self._clock.now() - started + fault.ready_in > patience.seconds
            return fault.is_over or counted >= patience.rounds or late

        def wait_seconds(state: RetryCallState) -> float:
            own = patience.first_wait_seconds * 2.0 ** max(counted - 1, 0)
            own = min(own, patience.most_wait_seconds) * random.uniform(1.0, 1.2)
            return max(own, _fault_of(state).ready_in)

        policy = Retrying(
            retry=retry_if_exception_type(_Round),
            stop=is_enough,
            wait=wait_seconds,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            return policy(one_round)
        except _Round as nobody:
            answer = self._no_answer(what, nobody)
        raise answer

    def _round(
        self,
        ask: Callable[[Endpoint], T],
        block: int | None,
        without: Endpoint | None,
        cost: Callable[[Endpoint], float],
    ) -> T:
        usable = [one for one in self._serving(block) if one is not without]
        faults: dict[Endpoint, Fault] = {}
        for endpoint in sorted(usable, key=cost):
            if endpoint.ready_at > self._clock.now():
                continue
            try:
                self._prove(endpoint)
                answer = ask(endpoint)
            except Fault as fault:
                endpoint.failed(fault, block)
                faults[endpoint] = fault
            else:
                endpoint.succeeded()
                return answer
        left = [one for one in usable if one.disabled is None]
        ready_in = min((one.ready_at for one in left), default=0.0) - self._clock.now()
        hopeless = all(isinstance(faults.get(one), Unsupported | Pruned) for one in left)
        raise _Round(faults, max(ready_in, 0.0), is_over=hopeless)

    def _serving(self, block: int | None) -> list[Endpoint]:
        """Those that are not disabled and go back this far; without one, the error says why."""
        allowed = [one for one in self.all if one.disabled is None]
        if not allowed:
            why = "; ".join(f"{one.name} {one.disabled}" for one in self.all)
            raise NotServed(self._chain, f"no endpoint left, correct {self._setting}: {why}")
        deep = [one for one in allowed if block is None or one.pruned_below <= block]
        if not deep:
            why = f"no endpoint goes back to block {block}; give one that keeps history"
            raise NotServed(self._chain, why)
        return deep

    def _prove(self, endpoint: Endpoint) -> None:
        """See that it serves our chain: at first use, after it was gone, every ten minutes."""
        proven_at = endpoint.proven_at
        if proven_at is not None and self._clock.now() - proven_at < PROVE_SECONDS:
            return
        served = quantity(read(NUMBER, endpoint.call(Call("eth_chainId"))))
        if served != self._chain_id:
            raise Disabled(f"serves chain {served}, not {self._chain_id} ({self._chain})")
        endpoint.proven_at = self._clock.now()

    def _no_answer(self, what: str, nobody: _Round) -> NoAnswer:
        self._serving(None)  # when all are disabled by now, that is the error
        faults = nobody.faults.values()
        text = f"{what}: {nobody}" if faults else f"{what}: every endpoint asks to come later"
        if faults and all(isinstance(fault, Pruned | Unsupported) for fault in faults):
            return NotServed(self._chain, text)
        if faults and all(isinstance(fault, Missing) for fault in faults):
            return BlockUnknown(self._chain, text)
        return NoAnswer(self._chain, text)

    def has_other(self, endpoint: Endpoint) -> bool:
        """Whether a second endpoint could confirm what this one said."""
        return any(one is not endpoint and one.disabled is None for one in self.all)

    def close(self) -> None:
        """Close all connections."""
        for endpoint in self.all:
            endpoint.close()


def chain_id_of(url: str) -> int:
    """The chain that an endpoint says it serves, asked once; raises NoAnswer."""
    provider = CheckedProvider(url, 1, REAL)
    try:
        return quantity(read(NUMBER, provider.call(Call("eth_chainId"))))
    except Fault as fault:
        said = f"{provider.name}: {fault}"
    finally:
        provider.close()
    raise NoAnswer("eth_chainId", said)


def _fault_of(state: RetryCallState) -> _Round:
    fault = state.outcome.exception() if state.outcome else None
    assert isinstance(fault, _Round)  # only this one is retried
    return fault
