"""EXPERIMENTAL. Which trades may have been liquidations, when nobody says so: those whose hash the
explorer does not show as what a user did. Pure.

That liquidations have a hash of their own is measured on recorded blocks; that the explorer shows
every user's action and none of theirs was never tried live. So what comes of it is a sample."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from indexer.hyperliquid_format import block_in_hash

# What users send that trades: nktkas/hyperliquid:src/api/exchange/_methods. Whatever else the
# explorer shows under a hash, as SetGlobalAction or liquidate, explains no trade.
TRADING_ACTIONS = frozenset({"order", "modify", "batchModify", "twapOrder"})
HELD_SECONDS = 15.0  # how long the explorer may take to show an action
MOST_HELD = 200_000  # trades; some minutes of a busy market


class Trade(msgspec.Struct, frozen=True):
    """A trade as the public feed tells it: without any mark."""

    coin: str
    side: Literal["A", "B"]
    time: int
    hash: str
    tid: int
    users: tuple[str, str]

    @property
    def taker(self) -> str:
        """Who crossed the book: `users` are buyer and seller, `side` is the taker's. One SDK has
        them as maker and taker; both legs of a liquidation carry the mark, so either will do."""
        return self.users[0 if self.side == "B" else 1].lower()


class Action(msgspec.Struct):
    """What somebody did, as the explorer shows it."""

    hash: str
    block: int
    action: dict[str, msgspec.Raw] = {}

    @property
    def kind(self) -> str:
        """Its type; empty where it says none."""
        try:
            return msgspec.json.decode(self.action.get("type", msgspec.Raw(b'""')), type=str)
        except msgspec.MsgspecError:
            return ""


class Candidate(NamedTuple):
    """Whom to ask for the fills of which milliseconds, and of which trades."""

    account: str
    times: tuple[int, ...]
    trades: int


class Counts(NamedTuple):
    """What became of trades: explained by a user's action, without a hash, in blocks that the
    explorer did not show, left out because there were too many, and asked for."""

    explained: int = 0
    without_hash: int = 0
    not_shown: int = 0
    dropped: int = 0
    candidates: int = 0


class Candidates:
    """Holds trades until the explorer has had the time to explain them."""

    def __init__(self, held_seconds: float = HELD_SECONDS, most: int = MOST_HELD) -> None:
        self._held_seconds = held_seconds
        self._most = most
        self._held: OrderedDict[str, tuple[float, list[Trade]]] = OrderedDict()
        self._seen: OrderedDict[tuple[int, str, int], None] = OrderedDict()
        self._explained: OrderedDict[str, None] = OrderedDict()
        self._shown: tuple[int, int] | None = None  # the first and the last block of the explorer
        self.counts = Counts()

    def trade(self, trades: Iterable[Trade], now: float) -> None:
        """Trades were heard of; one that comes again is one."""
        for trade in trades:
            key = trade.time, trade.coin, trade.tid
            if key in self._seen:
                continue
            self._remember(self._seen, key)
            if block_in_hash(trade.hash) is None:
                self._count(without_hash=1)  # TWAP and housekeeping, never seen on a liquidation
            elif trade.hash in self._explained:
                self._count(explained=1)
            else:
                self._held.setdefault(trade.hash, (now, []))[1].append(trade)
        while sum(1 for _ in self._held) > self._most:
            _, (_, dropped) = self._held.popitem(last=False)
            self._count(dropped=len(dropped))

    def act(self, actions: Iterable[Action]) -> None:
        """The explorer shows what was done."""
        for action in actions:
            low, high = self._shown or (action.block, action.block)
            self._shown = min(low, action.block), max(high, action.block)
            if action.kind not in TRADING_ACTIONS:
                continue
            self._remember(self._explained, action.hash)
            if action.hash in self._held:
                self._count(explained=len(self._held.pop(action.hash)[1]))

    def lost(self) -> None:
        """The explorer was not listened to for a while: what is held can not be judged."""
        for _, trades in self._held.values():
            self._count(not_shown=len(trades))
        self._held.clear()
        self._shown = None

    def due(self, now: float) -> list[Candidate]:
        """Whom to ask: the takers of trades that were held long enough and that nobody explained,
        in blocks between two that the explorer showed."""
        by_taker: dict[str, list[Trade]] = {}
        while self._held:
            tx_hash, (heard_at, trades) = next(iter(self._held.items()))
            if now - heard_at < self._held_seconds:
                break
            del self._held[tx_hash]
            if not self._is_shown(tx_hash):
                self._count(not_shown=len(trades))
                continue
            self._count(candidates=len(trades))
            for trade in trades:
                by_taker.setdefault(trade.taker, []).append(trade)
        return [
            Candidate(taker, tuple(sorted({trade.time for trade in trades})), len(trades))
            for taker, trades in by_taker.items()
        ]

    def _is_shown(self, tx_hash: str) -> bool:
        block = block_in_hash(tx_hash)
        if self._shown is None or block is None:
            return False
        return self._shown[0] < block < self._shown[1]

    def _remember(self, known: OrderedDict, key: object) -> None:  # type: ignore[type-arg]
        known[key] = None
        if len(known) > self._most:
            known.popitem(last=False)

    def _count(self, **more: int) -> None:
        counts = {name: getattr(self.counts, name) + number for name, number in more.items()}
        self.counts = self.counts._replace(**counts)
