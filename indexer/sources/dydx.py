"""A node of dYdX v4, asked over CometBFT's JSON-RPC for whole blocks and what became of them.

A committed block is final. https://docs.cometbft.com/v0.38/rpc: `status`, `block`,
`block_results`, `abci_query`; before 0.38 events of no transaction came in two lists.
"""

import random
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from indexer.dydx_format import (
    CHAIN_ID,
    Block,
    Perpetual,
    Result,
    perpetual_of,
    perpetual_request,
)
from indexer.errors import ConfigError, SourceFault
from indexer.sources.endpoints import REAL, UNLIMITED, Budget, Endpoint, Width
from indexer.sources.rpc import (
    Call,
    CheckedProvider,
    Clock,
    Disabled,
    Fault,
    Missing,
    Pruned,
    RateLimited,
    Unreachable,
    Untrue,
)

SETTING = "RPC_DYDX"
READERS = 8
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5  # doubles
LIMITED_SECONDS = 10.0  # after a 429 that names no time
MOST_WAIT_SECONDS = 120.0
PERPETUAL = "/dydxprotocol.perpetuals.Query/Perpetual"  # proto/dydxprotocol/perpetuals/query.proto

# cometbft/cometbft:rpc/core/env.go, internal/state/errors.go; they stand in `data` of the error
GONE = ("lowest height is", "could not find results", "not persisting")
NOT_YET = "must be less than or equal to the current"

T = TypeVar("T")


class Silent(SourceFault):
    """No node answers, or only with that it will later."""


class Unreadable(SourceFault):
    """Nodes answer, and this height cannot be had from them: it is gone, or told wrongly."""


class Status(msgspec.Struct, frozen=True):
    """What a node has: blocks `first` to `last`, the last of them of `last_at`."""

    first: int
    last: int
    last_at: datetime
    is_behind: bool


class _SyncInfo(msgspec.Struct):
    latest_block_height: str
    latest_block_time: datetime
    earliest_block_height: str
    catching_up: bool


class _NodeInfo(msgspec.Struct):
    network: str


class _Status(msgspec.Struct):
    node_info: _NodeInfo
    sync_info: _SyncInfo


class _BlockId(msgspec.Struct):
    hash: str


class _Header(msgspec.Struct):
    chain_id: str
    height: str
    time: str
    last_block_id: _BlockId


class _Data(msgspec.Struct):
    txs: list[str] | None = None


class _Content(msgspec.Struct):
    header: _Header
    data: _Data


class _Block(msgspec.Struct):
    block_id: _BlockId
    block: _Content


class _Result(msgspec.Struct):
    code: int = 0
    events: list[msgspec.Raw] | None = None


class _Results(msgspec.Struct):
    height: str
    txs_results: list[_Result] | None = None
    finalize_block_events: list[msgspec.Raw] | None = None
    begin_block_events: list[msgspec.Raw] | None = None
    end_block_events: list[msgspec.Raw] | None = None


class _Response(msgspec.Struct):
    code: int = 0
    value: str | None = None


class _Answer(msgspec.Struct):
    response: _Response


class _Provider(CheckedProvider):
    """CometBFT says what is the matter in `data`, and in `message` only that something is."""

    def _refusal_fault(self, error: object) -> Fault | None:
        data = getattr(error, "data", None)
        said = bytes(data).decode("utf-8", "replace") if isinstance(data, msgspec.Raw) else ""
        if any(text in said for text in GONE):
            return Pruned(self._secrets.hide(said.strip('"')))
        if NOT_YET in said:
            return Missing(self._secrets.hide(said.strip('"')))
        return super()._refusal_fault(error)  # type: ignore[arg-type]


class DydxNode:
    """Asks nodes in turn until one answers what can be believed; raises Silent or Unreadable, and
    ConfigError where asking again is of no use to anybody. For several threads at once."""

    def __init__(
        self, urls: Sequence[str], *, budget: Budget = UNLIMITED, clock: Clock = REAL
    ) -> None:
        for number, url in enumerate(urls, 1):
            if not url.startswith(("http://", "https://")):
                raise ConfigError(f"{SETTING}: address {number} is not http:// or https://")
        # a budget is kept by waiting in turn; else blocks are large, and nodes answer side by side
        self.at_once = READERS if budget == UNLIMITED else 1
        self._clock = clock
        self._nodes = [
            Endpoint(_Provider(url, number, clock), Width(1, 1), budget, clock)
            for number, url in enumerate(urls, 1)
        ]
        self._is_ours: set[Endpoint] = set()

    def close(self) -> None:
        """Close all connections."""
        for node in self._nodes:
            node.close()

    @property
    def all(self) -> Sequence[Endpoint]:
        """All nodes."""
        return self._nodes

    def status(self) -> Status:
        """What the first node that answers has."""
        return self._asked("status", _status)

    def block(self, height: int) -> Block:
        """A block and its results, both of one node."""
        return self._asked(f"block {height}", lambda node: _block(node, height))

    def perpetual(self, number: int) -> Perpetual | None:
        """What a market's quantums are; None where the chain knows no such market."""
        return self._asked(f"perpetual {number}", lambda node: _perpetual(node, number))

    def _asked(self, what: str, ask: Callable[[Endpoint], T]) -> T:
        policy = Retrying(
            retry=retry_if_exception_type(_Round),
            stop=_is_enough,
            wait=_wait_seconds,
            sleep=self._clock.sleep,
            reraise=True,
        )
        try:
            answer: T = policy(self._round, ask)
            return answer
        except _Round as nobody:
            faults = nobody.faults
        text = f"{what}: " + "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        if all(isinstance(fault, Disabled) for fault in faults.values()):
            raise ConfigError(f"dydx: no node left, correct {SETTING} or --rpc: {text}")
        if any(isinstance(fault, Unreachable | RateLimited) for fault in faults.values()):
            raise Silent("dydx", text)
        raise Unreadable("dydx", text)

    def _round(self, ask: Callable[[Endpoint], T]) -> T:
        faults: dict[str, Fault] = {}
        for node in self._nodes:
            if node.disabled is not None:
                faults[node.name] = Disabled(node.disabled)
                continue
            try:
                if node not in self._is_ours:
                    _status(node)
                    self._is_ours.add(node)
                return ask(node)
            except Fault as fault:
                if isinstance(fault, Disabled):
                    node.disabled = str(fault)
                faults[node.name] = fault
        raise _Round(faults)


class _Round(Exception):
    """No node answered."""

    def __init__(self, faults: dict[str, Fault]) -> None:
        super().__init__()
        self.faults = faults


def _faults(state: RetryCallState) -> list[Fault]:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, _Round)  # only this one is retried
    return list(error.faults.values())


def _is_enough(state: RetryCallState) -> bool:
    """What a node has thrown away it will not have the next time, and nobody waits for tomorrow's
    budget."""
    faults = _faults(state)
    is_settled = all(isinstance(fault, Disabled | Pruned) for fault in faults)
    return is_settled or state.attempt_number >= ATTEMPTS or _asked_for(faults) > MOST_WAIT_SECONDS


def _wait_seconds(state: RetryCallState) -> float:
    own = FIRST_WAIT_SECONDS * 2.0 ** (state.attempt_number - 1)
    return max(own, _asked_for(_faults(state))) * random.uniform(1.0, 1.1)


def _asked_for(faults: Sequence[Fault]) -> float:
    """How long the most patient node wants to be left alone."""
    limited = [one for one in faults if isinstance(one, RateLimited)]
    return max((LIMITED_SECONDS if one.seconds is None else one.seconds for one in limited),
               default=0.0)  # fmt: skip


def _read(node: Endpoint, shape: type[T], method: str, *params: object) -> T:
    result = node.call(Call(method, params))
    try:
        return msgspec.json.decode(result, type=shape)
    except msgspec.MsgspecError as error:
        text = str(error)
    raise Untrue(f"{method}: {text}")


def _status(node: Endpoint) -> Status:
    found = _read(node, _Status, "status")
    if found.node_info.network != CHAIN_ID:
        raise Disabled(f"serves {found.node_info.network[:40]!r}, not {CHAIN_ID}")
    sync = found.sync_info
    return Status(
        _height(sync.earliest_block_height), _height(sync.latest_block_height),
        sync.latest_block_time, sync.catching_up,
    )  # fmt: skip


def _block(node: Endpoint, height: int) -> Block:
    found = _read(node, _Block, "block", str(height))
    results = _read(node, _Results, "block_results", str(height))
    header = found.block.header
    if header.chain_id != CHAIN_ID:
        raise Disabled(f"serves {header.chain_id[:40]!r}, not {CHAIN_ID}")
    if not _height(header.height) == _height(results.height) == height:
        raise Untrue(f"blocks {header.height[:20]} and {results.height[:20]} for {height}")
    try:
        at = datetime.fromisoformat(header.time).astimezone(UTC)
        txs = tuple(b64decode(tx, validate=True) for tx in found.block.data.txs or ())
    except (ValueError, NoBase64) as error:
        raise Untrue(f"block {height}: {error}") from None
    return Block(
        height=height,
        at=at,
        hash=found.block_id.hash.upper(),
        parent_hash=header.last_block_id.hash.upper(),
        txs=txs,
        results=tuple(Result(one.code, _bytes(one.events)) for one in results.txs_results or ()),
        others=tuple(
            (name, _bytes(getattr(results, f"{name}_events")))
            for name in ("begin_block", "finalize_block", "end_block")
        ),
        source=f"{node.name} block_results",
    )


def _bytes(events: list[msgspec.Raw] | None) -> tuple[bytes, ...]:
    return tuple(bytes(one) for one in events or ())


def _perpetual(node: Endpoint, number: int) -> Perpetual | None:
    data = perpetual_request(number).hex()
    response = _read(node, _Answer, "abci_query", PERPETUAL, data, "0", False).response
    if response.code or not response.value:
        return None
    try:
        return perpetual_of(b64decode(response.value, validate=True), number)
    except (ValueError, NoBase64) as error:
        text = str(error)
    raise Untrue(text)


def _height(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Untrue(f"{text[:20]!r} for a height")
    return int(text)
