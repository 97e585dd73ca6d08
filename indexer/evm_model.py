"""The nouns of the EVM half: what a log is, how a venue file describes events, what comes of them.

Hashes, addresses and raw bytes are lower-case `0x` text, amounts integers in base units of the
asset beside them. An argument is named as in the ABI, inside a tuple with a dot:
`marketParams.loanToken`.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar, cast

import msgspec

from indexer.model import CounterpartyKind, Side
from indexer.model import Method as PerpMethod

Kind = Literal["lending", "perp"]
LendingMethod = Literal[
    "repay_seize",  # debt repaid and collateral taken in one call
    "pre_liquidation",  # the same under terms the borrower had agreed to
    "debt_transfer",  # the liquidator takes over the debt instead of repaying it
    "absorb",  # the protocol takes both over
    "heal",  # all collateral taken, what is left of the debt written off
    "write_off",  # bad debt only, no debt repaid and no collateral taken
]
Value = str | int | bool | tuple[object, ...]

EMITTER = "@emitter"  # in the place of an argument: the address that emitted the log
EVENT = "@event"  # the same: what tells a log from all others, transaction/index
EMITTER_FACT = "emitter"  # (chain, "emitter", address) -> "protocol/role", proved by a factory
RECEIPT_FACT = "receipt"  # never in a Facts mapping: given as `is_whole`
TRANSACTION_FACT = "transaction"  # (chain, "transaction", hash) -> "sender/to/input": see Sent
NOBODY = "0x" + 40 * "0"  # the zero address
NATIVE = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"  # the chain's coin, as Aave v1 writes it


class Log(msgspec.Struct, frozen=True, gc=False):
    """A log as a node sends it, with the chain it comes from."""

    chain: str
    address: str
    topics: tuple[str, ...]
    data: str
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int

    @property
    def event_key(self) -> str:
        """The same whenever and from wherever the log is read again."""
        return f"{self.tx_hash}/{self.log_index}"


class BlockRef(msgspec.Struct, frozen=True, gc=False):
    """Enough of a block to see a reorg; `time` is in seconds since 1970, hashes are lower-case."""

    chain: str
    number: int
    hash: str
    parent_hash: str
    time: int


class LogFilter(NamedTuple):
    """Which logs: of these emitters (None: of anybody) with one of these first topics.

    Of a first topic in `pairs` only those with one of the second topics that stand there with it.
    All in lower case; the first two must not be empty, since a node reads that as "everything"."""

    addresses: frozenset[str] | None
    topics0: frozenset[str]
    pairs: frozenset[tuple[str, str]] = frozenset()

    @property
    def terms(self) -> int:
        """The length of its longer list."""
        return max(len(self.addresses or ()), len(self.topics0))

    @property
    def topics1(self) -> frozenset[str]:
        """The second topics of a part: it has either none or one first topic that wants them."""
        return frozenset(second for _, second in self.pairs)

    def parts(self, terms: int) -> "list[LogFilter]":
        """Filters with at most so many addresses and topics each, and a first topic that wants
        second ones alone, as a node can be asked; together they are this one."""
        chosen = frozenset(first for first, _ in self.pairs)
        alone = [(frozenset({first}), self._pairs_of(first)) for first in sorted(chosen)]
        plain = [(topics0, frozenset[tuple[str, str]]())
                 for topics0 in _cut(self.topics0 - chosen, terms)]  # fmt: skip
        return [
            LogFilter(addresses, topics0, pairs)
            for addresses in _cut(self.addresses, terms)
            for topics0, pairs in (*plain, *alone)
            if topics0
        ]

    def _pairs_of(self, first: str) -> frozenset[tuple[str, str]]:
        return frozenset(pair for pair in self.pairs if pair[0] == first)

    def wants(self, log: Log) -> bool:
        """Whether a log is one of these."""
        return (
            (self.addresses is None or log.address in self.addresses)
            and bool(log.topics)
            and log.topics[0] in self.topics0
            and self._wants_second(log.topics)
        )

    def _wants_second(self, topics: tuple[str, ...]) -> bool:
        seconds = {second for first, second in self.pairs if first == topics[0]}
        return not seconds or (topics[1:2] != () and topics[1] in seconds)


def _cut(words: frozenset[str] | None, size: int) -> list[Any]:
    if words is None:
        return [None]
    ordered = sorted(words)
    return [frozenset(ordered[at : at + size]) for at in range(0, len(ordered), size)]


# How we know that no log is missing.
Proof = Literal["negative_bloom", "receipts", "second_endpoint", "unverified"]


class LogRange(msgspec.Struct, frozen=True):
    """All wanted logs of blocks `block_from` up to, not including, `block_to`, in order.

    `times` are the verified times of the blocks with logs, by number. `first` and `last` are the
    blocks at both ends. `proof` says how we know that none is missing, `endpoint` who gave them.
    `whole` has all logs of those transactions whose receipts were read on the way, by hash.
    """

    block_from: int
    block_to: int
    logs: tuple[Log, ...]
    times: dict[int, int]
    first: BlockRef
    last: BlockRef
    proof: Proof
    endpoint: str
    whole: dict[str, tuple[Log, ...]] = {}


class Position(msgspec.Struct, frozen=True, gc=False):
    """How far a chain is followed: everything below `next_block`, whose parent has `tip_hash`.

    `epoch` rises with every process that takes over; a commit compares and sets all of it."""

    chain: str
    next_block: int
    tip_hash: str
    finalized_block: int
    epoch: int


class EthCall(msgspec.Struct, frozen=True):
    """A contract to ask and what, both lower-case `0x` text."""

    to: str
    data: str


class CallResult(msgspec.Struct, frozen=True):
    """What the contract returned, or that it reverted; what is no contract returns nothing."""

    is_ok: bool
    data: bytes


R = TypeVar("R")
# Yields calls, is sent their results in the same order, and returns what it made of them.
Dialogue = Generator[Sequence[EthCall], Sequence[CallResult], R]


FactKey = tuple[str, str, str]
# By chain, fact and subject. None: we asked, and there is none. No entry: we never asked.
Facts = Mapping[FactKey, str | None]


class Fact(msgspec.Struct, frozen=True, gc=False):
    """Something that holds for good and that events leave out, as `underlying` of a market."""

    chain: str
    fact: str
    subject: str
    value: str | None

    @property
    def key(self) -> FactKey:
        """Where it stands in a `Facts` mapping."""
        return self.chain, self.fact, self.subject


class MissingFact(msgspec.Struct, frozen=True, gc=False):
    """What an event waits for; an entry with value None also ends the waiting."""

    chain: str
    fact: str
    subject: str

    def __str__(self) -> str:
        return f"waits for {self.fact} of {self.subject}"

    def told(self, value: str | None) -> Fact:
        """The fact, once its value is known; None where there is none."""
        return Fact(self.chain, self.fact, self.subject, value)


class Sent(NamedTuple):
    """Who sent what to whom: the call that a transaction is; `to` is "" where it made a contract.

    Only its sender's own call, not those that follow from it."""

    sender: str
    to: str
    input: str

    @classmethod
    def of(cls, log: Log, facts: Facts) -> "Sent | MissingFact":
        """What the transaction of a log is; a join asks so for the few that need it."""
        key = log.chain, TRANSACTION_FACT, log.tx_hash
        said = facts.get(key)
        if said is None:
            return MissingFact(*key)
        sender, _, rest = said.partition("/")
        to, _, data = rest.partition("/")
        return cls(sender, to, data)

    def fact(self, log: Log) -> Fact:
        """As it is kept, of the transaction of a log."""
        said = f"{self.sender}/{self.to}/{self.input}"
        return Fact(log.chain, TRANSACTION_FACT, log.tx_hash, said)


class Lookup(msgspec.Struct, frozen=True):
    """A fact about arguments, EMITTER or another fact; several make the subject `a/b`.

    `head` keeps only the first characters of the subject."""

    fact: str
    of: "tuple[Arg, ...]"
    head: int | None = None


Arg = str | Lookup  # an argument by its name, EMITTER, or a fact about them


class PriceMap(msgspec.Struct, frozen=True):
    """An event says what its emitter takes one base unit of an asset for, from there on to the end
    of the transaction: the argument `price`, in dollars times 10**`places`."""

    asset: Arg
    price: str
    places: int


class EventMap(msgspec.Struct, frozen=True, kw_only=True):
    """How the arguments of a liquidation event become a `LendingLiquidation`.

    `repaid` and `seized` name the asset and its amount, `bad_debt` an amount of the repaid asset;
    `price` is one that the event carries; `then` finishes the row from all arguments where naming
    them is not enough.
    """

    account: Arg
    owner: Arg | None = None
    liquidator: Arg | None = None
    market: Arg = EMITTER
    method: LendingMethod = "repay_seize"
    repaid: tuple[Arg, str] | None = None
    seized: tuple[Arg, str] | None = None
    seized_is_shares: bool = False
    bad_debt: str | None = None
    price: PriceMap | None = None
    then: "Callable[[LendingLiquidation, dict[str, Value]], LendingLiquidation] | None" = None


class PerpMap(msgspec.Struct, frozen=True, kw_only=True):
    """How the arguments of a liquidation event become a `PerpLiquidation`, which `then` finishes.

    `market` is how the venue names it, with a colon and what it is the price of where a fact tells;
    `quote` is what prices and amounts are in: a token's symbol, or USD_QUOTE. Of an event that
    means more than liquidations `when` says which values an argument has in those, and `only`, of
    all arguments, what no values of them can say: all other logs are none of ours."""

    account: Arg
    market: tuple[Arg, ...]
    liquidator: Arg | None = None
    method: PerpMethod = "market"
    counterparty_kind: CounterpartyKind | None = "pool"
    quote: str | None = None
    margin_mode: Literal["cross", "isolated"] | None = None
    when: dict[str, tuple[Value, ...]] = {}
    only: Callable[[dict[str, Value]], bool] | None = None
    then: "Callable[[PerpLiquidation, dict[str, Value]], PerpLiquidation] | None" = None


class Learn(msgspec.Struct, frozen=True):
    """An event states a fact: `of` and `value` are arguments, EMITTER or EVENT, several make `a/b`.

    With EVENT, of which there is one, each such event stays a fact of its own."""

    fact: str
    of: tuple[str, ...]
    value: tuple[str, ...]


class FactMap(msgspec.Struct, frozen=True, kw_only=True):
    """What an event teaches: facts, and contracts of ours (argument -> role).

    `also` reads what no argument says by itself: (fact, subject, value) from all arguments."""

    learns: tuple[Learn, ...] = ()
    proves: dict[str, str] = {}
    also: Callable[[dict[str, Value]], Iterable[tuple[str, str, str]]] | None = None


class SiblingMap(msgspec.Struct, frozen=True):
    """An event that only means something beside others of its transaction: see the join. `when` and
    `only` are as in a `PerpMap`. A candidate need not belong to any liquidation."""

    when: dict[str, tuple[Value, ...]] = {}
    only: Callable[[dict[str, Value]], bool] | None = None
    is_candidate: bool = False


EventUse = EventMap | PerpMap | FactMap | SiblingMap | PriceMap
SIBLING = SiblingMap()


class Contract(msgspec.Struct, frozen=True):
    """One contract interface: its file in `abis/` and what each event in it is for."""

    abi: str
    events: dict[str, EventUse]


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An address that we trust because `source` names it; `name` is the protocol as users see it.

    `since_block` is the first block where known, `label` the source's own word for it."""

    chain: str
    address: str
    name: str
    role: str
    since_block: int | None
    source: str
    label: str | None = None


# What the chain says of facts. Without a fact for what was asked it could not tell: ask again.
Inquiry = Dialogue[tuple[Fact, ...]]
# How to ask for a missing fact, given where the protocol is deployed on its chain.
Ask = Callable[[MissingFact, Sequence[Deployment]], Inquiry]


class Leg(msgspec.Struct, frozen=True, gc=False):
    """Base units of one asset; `asset` is None where the chain itself names none."""

    asset: str | None
    raw: int


class LendingLiquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation as logged, or one further part of it (`/1`, `/2` at the end of its key).

    Parts carry only what differs: another collateral or another written-off debt, so that every
    column adds up. `account` is as logged, `owner` whose sub-account it is. `seized` is as logged:
    the fee that the protocol kept is within it where `fee_in_seized`, beside it where not.
    """

    venue: str
    event_key: str
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int
    emitter: str
    market: str
    kind: Kind
    method: LendingMethod
    account: str
    owner: str | None
    liquidator: str | None
    repaid: Leg | None
    seized: Leg | None
    seized_is_shares: bool
    decoder_version: int
    protocol_fee_raw: int | None = None
    fee_in_seized: bool | None = None
    bad_debt: Leg | None = None

    def with_(self, **changes: object) -> "LendingLiquidation":
        """The same row with some fields changed."""
        return msgspec.structs.replace(self, **changes)

    def part(self, number: int, **changes: object) -> "LendingLiquidation":
        """A further part of this liquidation: the same place and people, other amounts."""
        return self.with_(
            event_key=f"{self.event_key}/{number}",
            **{"repaid": None, "seized": None, "protocol_fee_raw": None, "fee_in_seized": None,
               "bad_debt": None, **changes},
        )  # fmt: skip


USD_QUOTE = "usd"  # amounts of an event that are dollars and no token's


class PerpLiquidation(msgspec.Struct, frozen=True, gc=False):
    """One liquidation of a perpetual as logged. What is unknown is None; zero means zero.

    `size` and `position_*` are in units of what the market prices, positions signed; `price`,
    `notional*`, `realised_pnl` and `fee` in `quote`. `notional` is at the price of the close,
    `notional_entry` at that of the opening. `side` is the side of the position that was
    liquidated."""

    venue: str
    event_key: str
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int
    emitter: str
    market: str
    kind: Kind
    method: PerpMethod
    account: str
    liquidator: str | None
    quote: str | None
    margin_mode: Literal["cross", "isolated"] | None
    decoder_version: int
    counterparty: str | None = None
    counterparty_kind: CounterpartyKind | None = None
    side: Side | None = None
    size: Decimal | None = None
    price: Decimal | None = None
    notional: Decimal | None = None
    notional_entry: Decimal | None = None
    mark_price: Decimal | None = None
    notional_mark: Decimal | None = None
    position_before: Decimal | None = None
    position_after: Decimal | None = None
    is_full_close: bool | None = None
    fee: Decimal | None = None
    realised_pnl: Decimal | None = None
    order_id: str | None = None

    def with_(self, **changes: object) -> "PerpLiquidation":
        """The same row with some fields changed."""
        return msgspec.structs.replace(self, **changes)


ChainRow = LendingLiquidation | PerpLiquidation


class Sibling(msgspec.Struct, frozen=True, gc=False):
    """A read event that waits for its join; `venue` is None for one that anybody emitted."""

    log: Log
    venue: str | None
    name: str
    args: dict[str, Value]

    @property
    def log_index(self) -> int:
        """Where in the block it stands."""
        return self.log.log_index

    def says(self, name: str, address: str, **args: object) -> bool:
        """Whether it is this event of this address with these arguments (`from_` is `from`)."""
        return (self.name, self.log.address) == (name, address) and all(
            self.args[arg.rstrip("_")] == value for arg, value in args.items()
        )

    def number(self, name: str) -> int:
        """An argument that the ABI has as an integer."""
        return cast(int, self.args[name])

    def text(self, name: str) -> str:
        """An argument that the ABI has as an address or as bytes."""
        return cast(str, self.args[name])

    def alone(self, reason: str, version: int) -> "UndecodedLog":
        """It means a liquidation, and there is no row that it belongs to."""
        return UndecodedLog(self.venue or "", self.log, reason, version)


class Learnt(msgspec.Struct, frozen=True, gc=False):
    """What a log taught: new facts for the store and for the logs after it."""

    venue: str
    log: Log
    facts: tuple[Fact, ...]


class UndecodedLog(msgspec.Struct, frozen=True, gc=False):
    """A log of ours that could not be made a row, with the reason; a missing fact ends by itself.

    What is tried again is the whole transaction: a sibling may belong to another row of it."""

    venue: str
    log: Log
    reason: str
    decoder_version: int
    missing: MissingFact | None = None


class Dismissed(msgspec.Struct, frozen=True, gc=False):
    """A log of ours of which others of its transaction say that it is no part of a liquidation.

    It is not kept: as many as a venue has trades may be so, and the same logs say so again."""

    venue: str
    log: Log


class Quarantined(msgspec.Struct, frozen=True, gc=False):
    """A liquidation event by a contract that no deployment names and no factory has proved.

    Anybody can emit one; `looks_like` are the protocols with an event of these topics."""

    log: Log
    looks_like: tuple[str, ...]


Joinable = LendingLiquidation | Sibling
PerpJoinable = PerpLiquidation | Sibling
Decoded = ChainRow | Sibling | Learnt | UndecodedLog | Dismissed | Quarantined
# The rows and siblings of one protocol in one transaction, in order -> what becomes of them. The
# facts also tell what each deployment is, as EMITTER_FACT.
Join = Callable[[Sequence[Joinable], Facts], Iterable[LendingLiquidation | UndecodedLog]]
PerpJoin = Callable[
    [Sequence[PerpJoinable], Facts], Iterable[PerpLiquidation | UndecodedLog | Dismissed]
]


class ShareRate(msgspec.Struct, frozen=True, gc=False):
    """At the end of a block `shares_raw` of `asset` are worth `assets_raw` of `underlying`.

    `underlying` is None where the asset itself names none, as cETH; a fact may know better."""

    chain: str
    asset: str
    block_number: int
    underlying: str | None
    shares_raw: int
    assets_raw: int


# How to ask what the shares of a protocol are worth: chain, asset and block, at whose end to ask.
ShareRateOf = Callable[[str, str, int], Dialogue[ShareRate | None]]


USD = "usd"  # in the place of an asset: the dollar itself, in whole dollars
Trust = Literal[
    "governed",  # the protocol's governance chose asset and oracle
    "market",  # whoever opened the market did
]


class Subject(msgspec.Struct, frozen=True, gc=False):
    """What to price: an asset as a row of `market` names it, shares as shares."""

    chain: str
    market: str
    asset: str
    emitter: str  # of the liquidation


class EventPrice(msgspec.Struct, frozen=True, gc=False):
    """What a log says that its emitter takes one base unit of an asset for, in dollars."""

    log: Log
    asset: str
    usd: Decimal


class Par(msgspec.Struct, frozen=True, gc=False):
    """An asset that a protocol counts as one dollar by construction, a whole one of `places`
    decimals: the one that the fact `fact` names of the emitter. `source` is where it does so."""

    fact: str
    places: int
    source: str


class PythFeed(NamedTuple):
    """A price that is pushed into Pyth's contract."""

    pyth: str
    id: str


class RedstoneFeed(NamedTuple):
    """A price that is pushed into an adapter of Euler's that keeps what RedStone signed."""

    adapter: str


class RedstonePush(NamedTuple):
    """A price that is pushed into an adapter of RedStone's, by itself or with a feed before it."""

    adapter: str
    id: str


# the address of a proxy of Chainlink's, or one of these
Feed = str | PythFeed | RedstoneFeed | RedstonePush


class Quote(msgspec.Struct, frozen=True, gc=False):
    """What an oracle says one base unit of an asset is worth: `per_unit` base units of `unit`, or
    whole dollars where that is USD. `via` are the contracts asked, `feed` what is at the end of it
    where that is one feed: its answer, of `feed_round`, moves the quote in proportion."""

    per_unit: Decimal
    unit: str
    via: tuple[str, ...]
    trust: Trust = "governed"
    feed: Feed | None = None
    feed_round: int | None = None


class NoQuote(msgspec.Struct, frozen=True, gc=False):
    """There is none, and why, in words that can be counted: no numbers or addresses in them."""

    reason: str


# How to ask a protocol's own oracle, at the end of whatever block the calls are made at.
OracleOf = Callable[[Subject, Sequence[Deployment]], Dialogue[Quote | NoQuote]]


class Bonus(msgspec.Struct, frozen=True, gc=False):
    """Within what a protocol's value of the collateral seized, gross, over the debt repaid must
    lie when there is no bad debt; `source` is where the bounds come from."""

    least: Decimal
    most: Decimal
    source: str


# Where the protocol's fee stands when no event says what it was.
FeeRule = Literal[
    "none",  # the protocol keeps nothing of the collateral
    "on_top",  # beside what is logged: what is logged is the liquidator's
    "within",  # in what is logged: the liquidator gets less
]


# What has shown that a protocol's logs are read rightly, the strongest that there is. Whatever is
# claimed here the tests prove, and that no more could be claimed: tests/test_evidence.py.
Evidence = Literal[
    "real",  # a real receipt or log of a public chain
    "contracts",  # the real contracts, deployed and liquidated on the local chain
    "abi",  # only logs that were encoded from the contracts' ABI
]


class ProtocolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol, whole. `contracts` are by role; `bystander` is an interface anybody may have,
    whose logs the join wants to see; with `needs_receipt` a row is wrong without them, with
    `asks_for_bystander` a node is asked for them as for our own. With `reads_calls` the join wants
    to know what some transactions are: see Sent. `asks` are by fact; that of EMITTER_FACT tells
    "NAME/role" as a FactMap's `proves` does, with the name of the deployment that vouches. Without
    a `fee` rule, what the liquidator got is unknown where the fee is. `par` is what it takes for a
    dollar without asking. In a permissionless protocol anybody opens a market, with any token and
    oracle. `look_alike` is an interface of others whose events have a first topic of ours and are
    no liquidations: no quarantine is needed for them."""

    name: str
    kind: Kind
    contracts: dict[str, Contract]
    deployments: tuple[Deployment, ...]
    methodology: str
    decoder_version: int = 1
    bystander: Contract | None = None
    look_alike: str | None = None
    needs_receipt: bool = False
    asks_for_bystander: bool = False
    reads_calls: bool = False
    join: Join | PerpJoin | None = None
    facts: tuple[Fact, ...] = ()
    asks: dict[str, Ask] = {}
    share_rate: ShareRateOf | None = None
    oracle: OracleOf | None = None
    par: Par | None = None
    bonus: Bonus | None = None
    fee: FeeRule | None = None
    is_permissionless: bool = False
    evidence: Evidence = "abi"
