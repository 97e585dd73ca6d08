"""From what oracles say of an asset to one price: units, and on which side of a change a
liquidation stands. Pure.

A price is made of links: what the protocol's oracle says of the asset, and what a reference oracle
says of the unit where that is not USD. Each is known at the end of the block and of the block
before. Where both are the same it held at every position. Where they differ and the link ends in a
feed that logs its answers, its logs of the block say where it changed. Where they differ without
such a log, as a share's rate does when interest accrues, the end of the block is taken, as A-.

A price that the liquidation's own event carries, or one beside it in its transaction, needs no
links: it is what the contract itself reckoned with. Nor does an asset that the contract takes for a
dollar whatever it trades at.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal, NamedTuple

import msgspec
from eth_hash.auto import keccak

from indexer.abi_calls import WORD, call, uint_of
from indexer.evm_model import (
    BlockRef,
    Deployment,
    Dialogue,
    EventPrice,
    Facts,
    Feed,
    Log,
    LogFilter,
    NoQuote,
    Par,
    PythFeed,
    Quote,
    RedstoneFeed,
    RedstonePush,
    Trust,
)
from indexer.oracles import FeedState, contract_of, scaled

# smartcontractkit/chainlink-evm:contracts/src/v0.8/shared/interfaces/AggregatorInterface.sol
ANSWER_UPDATED = "0x" + keccak(b"AnswerUpdated(int256,uint256,uint256)").hex()
# pyth-network/pyth-sdk-solidity:IPythEvents.sol, of a price that is newer than the one before
PRICE_FEED_UPDATE = "0x" + keccak(b"PriceFeedUpdate(bytes32,uint64,int64,uint64)").hex()
# euler-xyz/euler-price-oracle:src/adapter/redstone/RedstoneCoreOracle.sol
CACHE_UPDATED = "0x" + keccak(b"CacheUpdated(uint256,uint256)").hex()
# redstone-finance/redstone-oracles-monorepo:packages/on-chain-relayer/contracts/price-feeds/
# without-rounds/MultiFeedAdapterWithoutRounds.sol
VALUE_UPDATE = "0x" + keccak(b"ValueUpdate(uint256,bytes32,uint256)").hex()
# No feed of Chainlink has a longer heartbeat than 24 h (data.chain.link); an hour for its delay.
STALE_SECONDS = 25 * 3_600
REFERENCES = 4  # pools asked for a dollar price; on Ethereum all four of Aave v3 itself
WHOLE_BLOCK = -1  # in the place of a log index: the price held at every position

Quality = Literal["A", "A-", "B", "B-"]  # of prices that are asked for; from a file: C
PriceSource = Literal["event", "oracle", "reference", "feed_log", "par"]

NO_UNIT = "no dollar price of the unit that the oracle quotes"
NOT_POSITIVE = "the oracle answers 0 or less"
NO_PLAIN_FEED = "no plain feed, and no state at that block"
FEED_NOT_POSITIVE = "the feed answers 0 or less"
STALE = "the feed is stale"
TWO_AGGREGATORS = "two aggregators of the feed answer"
NO_ORACLE = "no way to ask the protocol's oracle"

_WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)  # 256 bits by 256 bits is 155 digits at most


class Wanted(msgspec.Struct, frozen=True):
    """An asset as rows of a market name it, and the liquidations of a block that want its price.

    `share` is the token that it is a share of and how much of that one base unit was worth at the
    end of the block, where both are stored."""

    venue: str
    market: str
    asset: str
    emitter: str
    block: BlockRef
    log_indexes: tuple[int, ...]
    share: tuple[str, Decimal] | None = None


class Price(msgspec.Struct, frozen=True):
    """A row of ledger.price; `block_hash` is not stored but must be that of the stored block."""

    venue: str
    market: str
    asset: str
    block_number: int
    block_hash: str
    log_index: int
    source: PriceSource
    usd: Decimal
    quality: Quality
    trust: Trust
    via: tuple[str, ...]
    as_of_block: int
    as_of_time: int


class NoPrice(msgspec.Struct, frozen=True):
    """A row of ledger.no_price: asked, and there is none."""

    venue: str
    market: str
    asset: str
    block_number: int
    block_hash: str
    log_index: int
    reason: str


class Look(NamedTuple):
    """What an oracle said at the end of the block and of the one before (None: unknown)."""

    now: Quote
    before: Quote | NoQuote | None


class Update(NamedTuple):
    """A log that says what a feed answers from there on. `emitter` is Chainlink's aggregator,
    Pyth's contract or an adapter of RedStone's."""

    emitter: str
    block_number: int
    log_index: int
    answer: int
    updated_at: int


class Moves(NamedTuple):
    """A feed at the end of the block before and of the block, and its updates in the block."""

    before: FeedState
    now: FeedState
    updates: tuple[Update, ...]


def references(deployments: Sequence[Deployment], chain: str) -> list[Deployment]:
    """The governed pools of a chain whose oracles know dollar prices, the most trusted first:
    Aave's own, its main market before the others (the shortest label), then its forks by name."""
    pools = [one for one in deployments if one.chain == chain and one.role == "pool"]
    pools.sort(
        key=lambda one: (one.name != "aave_v3", one.name, len(one.label or ""), one.address.lower())
    )
    return pools[:REFERENCES]


def emitters_of(feed: str) -> Dialogue[tuple[str, ...]]:
    """All that may have logged the answers of a feed: itself and its aggregators of all phases."""
    named, phase = yield [call(feed, "aggregator()"), call(feed, "phaseId()")]
    phases = uint_of(phase, bits=16) or 0
    older = yield [call(feed, "phaseAggregators(uint16)", number + 1) for number in range(phases)]
    found = (contract_of(answer) for answer in (named, *older))
    return tuple(dict.fromkeys([feed, *(address for address in found if address)]))


def update_of(log: Log) -> Update | None:
    """AnswerUpdated(int256 indexed current, uint256 indexed roundId, uint256 updatedAt); None
    where anything else has its first topic."""
    if len(log.topics) != 3 or len(log.data) != 2 + 2 * WORD:
        return None
    answer = int.from_bytes(bytes.fromhex(log.topics[1][2:]), "big", signed=True)
    return Update(log.address, log.block_number, log.log_index, answer, int(log.data, 16))


def pushes(feed: Feed, state: FeedState) -> LogFilter:
    """The logs among which those of a feed are."""
    match feed:
        case PythFeed():
            return LogFilter(frozenset({feed.pyth}), frozenset({PRICE_FEED_UPDATE}))
        case RedstoneFeed():
            return LogFilter(frozenset({feed.adapter}), frozenset({CACHE_UPDATED}))
        case RedstonePush():
            # the second of an adapter that is its own price feed:
            # price-feeds/without-rounds/MergedPriceFeedAdapterWithoutRounds.sol
            topics = frozenset({VALUE_UPDATE, ANSWER_UPDATED})
            return LogFilter(frozenset({feed.adapter}), topics)
        case str():
            emitters = {feed, state.emitter or feed}
            return LogFilter(frozenset(emitters), frozenset({ANSWER_UPDATED}))


def pushed(feed: Feed, log: Log) -> Update | None:
    """What one of those logs says that the feed answers; None where it is another's."""
    words = [log.data[at : at + 2 * WORD] for at in range(2, len(log.data), 2 * WORD)]
    match feed, words:
        # uint64 publishTime, int64 price, uint64 conf
        case PythFeed(), [time, price, _] if log.topics[1:] == (feed.id,):
            answer = int.from_bytes(bytes.fromhex(price), "big", signed=True)
            return _update(log, answer, time)
        case RedstoneFeed(), [price, time] if len(log.topics) == 1:
            return _update(log, int(price, 16), time)
        # uint256 value, bytes32 dataFeedId, uint256 updatedAt: none of them indexed
        case RedstonePush(), [price, number, time] if log.topics == (VALUE_UPDATE,):
            return _update(log, int(price, 16), time) if "0x" + number == feed.id else None
        case RedstonePush(), [_] if log.topics[0] == ANSWER_UPDATED:
            return update_of(log)
        case str(), _:
            return update_of(log)
    return None


def _update(log: Log, answer: int, time: str) -> Update:
    return Update(log.address, log.block_number, log.log_index, answer, int(time, 16))


# prices that nobody is asked for


def carried(
    wanted: Wanted, logs: Mapping[int, Log], said: Sequence[EventPrice], trust: Trust
) -> list[Price]:
    """The last that the contract of each liquidation said of the asset in its transaction, its own
    event included; no row for a liquidation before which it said nothing. `logs` are those of the
    block by their index, `said` is in their order."""
    rows: list[Price] = []
    for log_index in wanted.log_indexes:
        own = logs.get(log_index)
        before = [
            one
            for one in said
            if own is not None
            and (one.asset, one.log.address, one.log.tx_hash)
            == (wanted.asset, own.address, own.tx_hash)
            and one.log.log_index <= log_index
        ]
        if before and before[-1].usd > 0:
            last = before[-1]
            rows.append(
                _price(
                    wanted, log_index, "event", last.usd,
                    quality="A",
                    trust=trust,
                    via=(last.log.address, last.log.event_key),
                    as_of=(wanted.block.number, wanted.block.time),
                )
            )  # fmt: skip
    return rows


def at_par(wanted: Wanted, par: Par, facts: Facts) -> Price | None:
    """One dollar for what the emitter takes for one; None for any other asset. B: the dollar is an
    assumption, though the protocol's own."""
    if facts.get((wanted.block.chain, par.fact, wanted.emitter)) != wanted.asset:
        return None
    return _price(
        wanted, WHOLE_BLOCK, "par", scaled(1, par.places),
        quality="B",
        trust="governed",
        via=(par.source,),
        as_of=(wanted.block.number, wanted.block.time),
    )  # fmt: skip


# prices by state


def wants_feed(look: Look) -> Feed | None:
    """The feed to ask whether it changed in the block. An oracle that had no price before, as one
    that waits for a push does, can only have got it from there."""
    match look:
        case Look(Quote() as now, Quote() as before) if now.feed == before.feed:
            return None if _is_same(now, before) else now.feed
        case Look(Quote() as now, NoQuote()):
            return now.feed
    return None


def _is_same(one: Quote, two: Quote) -> bool:
    """In another round a feed may say what it said before, and something else in between."""
    return (one.per_unit, one.unit, one.feed_round) == (two.per_unit, two.unit, two.feed_round)


class _At(NamedTuple):
    """A link's value where a log stands; `is_of_log` where other logs may see another one."""

    per_unit: Decimal
    quality: Quality
    is_of_log: bool


def _at(look: Look, moves: Mapping[Feed, Moves], log_index: int) -> _At:
    now, before = look
    if isinstance(before, Quote) and _is_same(now, before):
        return _At(now.per_unit, "A", is_of_log=False)
    feed = wants_feed(look)
    seen = moves.get(feed) if feed else None
    if before is None or seen is None or not seen.now.answer or not _is_told(seen):
        return _At(now.per_unit, "A-", is_of_log=False)
    last = [update for update in seen.updates if update.log_index < log_index]
    if isinstance(before, NoQuote):
        if not last or scale_of(now, seen.now.answer) is None:
            return _At(now.per_unit, "A-", is_of_log=False)
    elif not _is_in_proportion(now, before, seen):
        return _At(now.per_unit if last else before.per_unit, "A-", is_of_log=True)
    elif not last:
        return _At(before.per_unit, "A", is_of_log=True)
    then = _WIDE.multiply(now.per_unit, last[-1].answer)
    return _At(_WIDE.divide(then, seen.now.answer), "A", is_of_log=True)


def _is_told(seen: Moves) -> bool:
    """The logs are there and end with what the feed answered then, by the same emitter."""
    emitters = {update.emitter for update in seen.updates}
    return (
        len(emitters) == 1
        and seen.now.emitter == seen.before.emitter
        and seen.updates[-1].answer == seen.now.answer
    )


def _is_in_proportion(now: Quote, before: Quote, seen: Moves) -> bool:
    """Nothing but the feed moved the quote: neither a rate of shares nor another feed."""
    if seen.now.answer is None or seen.before.answer is None:
        return False
    return _WIDE.multiply(now.per_unit, seen.before.answer) == _WIDE.multiply(
        before.per_unit, seen.now.answer
    )


def priced(
    wanted: Wanted, source: PriceSource, links: Sequence[Look], moves: Mapping[Feed, Moves]
) -> list[Price | NoPrice]:
    """The price of an asset by its links, one row for the block, or one a liquidation where a
    feed changed in the block. A link by another protocol's oracle makes it B."""
    found = [
        (log_index, [_at(look, moves, log_index) for look in links])
        for log_index in wanted.log_indexes
    ]
    if not any(at.is_of_log for _, ats in found for at in ats):
        found = [(WHOLE_BLOCK, found[0][1])]
    is_foreign = source == "reference" or len(links) > 1
    rows: list[Price | NoPrice] = []
    for log_index, ats in found:
        usd = _product([at.per_unit for at in ats])
        if usd is None:
            rows.append(no_price(wanted, NOT_POSITIVE, log_index))
            continue
        rows.append(
            _price(
                wanted, log_index, source, usd,
                quality=_quality([at.quality for at in ats], is_foreign=is_foreign),
                trust=_trust([look.now for look in links]),
                via=tuple(dict.fromkeys(one for look in links for one in look.now.via)),
                as_of=(wanted.block.number, wanted.block.time),
            )
        )  # fmt: skip
    return rows


def _quality(of_links: Sequence[Quality], *, is_foreign: bool) -> Quality:
    if "A-" in of_links:
        return "B-" if is_foreign else "A-"
    return "B" if is_foreign else "A"


def rate(assets_raw: Decimal, shares_raw: Decimal) -> Decimal | None:
    """What one base unit of shares is worth in base units of their underlying."""
    return _WIDE.divide(assets_raw, shares_raw) if assets_raw > 0 and shares_raw > 0 else None


def _trust(quotes: Sequence[Quote]) -> Trust:
    return "market" if any(quote.trust == "market" for quote in quotes) else "governed"


def _product(factors: Sequence[Decimal]) -> Decimal | None:
    """None unless all are positive numbers."""
    product = Decimal(1)
    for factor in factors:
        if not factor.is_finite() or factor <= 0:
            return None
        product = _WIDE.multiply(product, factor)
    return product


def _price(
    wanted: Wanted,
    log_index: int,
    source: PriceSource,
    usd: Decimal,
    *,
    quality: Quality,
    trust: Trust,
    via: tuple[str, ...],
    as_of: tuple[int, int],
) -> Price:
    return Price(
        wanted.venue, wanted.market, wanted.asset, wanted.block.number, wanted.block.hash,
        log_index, source, usd, quality, trust, via, *as_of,
    )  # fmt: skip


def no_price(wanted: Wanted, reason: str, log_index: int = WHOLE_BLOCK) -> NoPrice:
    """There is none for this, and why."""
    return NoPrice(
        wanted.venue, wanted.market, wanted.asset, wanted.block.number, wanted.block.hash,
        log_index, reason,
    )  # fmt: skip


# prices by logs


class LoggedFeed(NamedTuple):
    """A feed whose answer times `scale`, a power of ten, is the price; who may log its answers."""

    feed: str
    scale: Decimal
    trust: Trust
    emitters: tuple[str, ...]


def scale_of(quote: Quote, answer: int | None) -> Decimal | None:
    """What a feed's answer has to be multiplied with to be the quote. None unless that is a power
    of ten: then there is more in the quote than decimals, as a rate or a cap."""
    if answer is None or answer <= 0:
        return None
    scale = _WIDE.divide(quote.per_unit, Decimal(answer)).normalize(_WIDE)
    return scale if scale.as_tuple().digits == (1,) and scale > 0 else None


def logged(
    wanted: Wanted,
    feeds: Sequence[LoggedFeed],
    updates: Mapping[str, Sequence[Update]],
    times: Mapping[int, int],
) -> list[Price | NoPrice]:
    """The price of an asset by the last answers logged at or before each liquidation. `updates`
    are by emitter in the order of the chain, `times` those of their blocks."""
    rows: list[Price | NoPrice] = []
    is_moving = any(
        update.block_number == wanted.block.number
        for feed in feeds
        for emitter in feed.emitters
        for update in updates.get(emitter, ())
    )
    for log_index in wanted.log_indexes if is_moving else wanted.log_indexes[:1]:
        at = log_index if is_moving else WHOLE_BLOCK
        answers = [_answer(wanted.block, log_index, feed, updates) for feed in feeds]
        rows.append(_by_answers(wanted, at, feeds, answers, times))
    return rows


def _by_answers(
    wanted: Wanted,
    log_index: int,
    feeds: Sequence[LoggedFeed],
    answers: Sequence[Update | str],
    times: Mapping[int, int],
) -> Price | NoPrice:
    found: list[Update] = []
    factors = [wanted.share[1]] if wanted.share else []
    via: list[str] = []
    for feed, answer in zip(feeds, answers, strict=True):
        if isinstance(answer, str):
            return no_price(wanted, answer, log_index)
        found.append(answer)
        factors.append(_WIDE.multiply(feed.scale, answer.answer))
        via += feed.feed, answer.emitter
    usd = _product(factors)
    if usd is None:
        return no_price(wanted, FEED_NOT_POSITIVE, log_index)
    oldest = min(answer.block_number for answer in found)
    return _price(
        wanted, log_index, "feed_log", usd,
        quality="B",
        trust="market" if any(feed.trust == "market" for feed in feeds) else "governed",
        via=tuple(dict.fromkeys(via)),
        as_of=(oldest, times[oldest]),
    )  # fmt: skip


def is_answered(wanted: Wanted, feed: LoggedFeed, updates: Mapping[str, Sequence[Update]]) -> bool:
    """Whether a feed has answered before the first of the liquidations, and not long before."""
    return _answer(wanted.block, wanted.log_indexes[0], feed, updates) != STALE


def _answer(
    block: BlockRef, log_index: int, feed: LoggedFeed, updates: Mapping[str, Sequence[Update]]
) -> Update | str:
    """The last answer before a log, or why there is none."""
    place = block.number, log_index
    last = {
        emitter: before[-1]
        for emitter in feed.emitters
        if (before := [one for one in updates.get(emitter, ()) if (one[1], one[2]) < place])
    }
    fresh = [one for one in last.values() if block.time - one.updated_at <= STALE_SECONDS]
    if not fresh:
        return STALE
    if len(fresh) > 1:
        return TWO_AGGREGATORS
    return fresh[0] if fresh[0].answer > 0 else FEED_NOT_POSITIVE
