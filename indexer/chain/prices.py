"""Asks for the prices that liquidations want: the protocols' own oracles at their blocks, in as few
requests as that takes; where nobody keeps the old state, the logs of Chainlink's feeds. What events
themselves say, and what a protocol takes for a dollar, is known already.

What was asked and not answered is stored with the reason. What an endpoint failed to say is not
stored at all: it is wanted again next time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple, TypeGuard

from indexer.decode import Decoder
from indexer.evm_model import (
    USD,
    BlockRef,
    CallResult,
    Deployment,
    Dialogue,
    Facts,
    Feed,
    LogFilter,
    NoQuote,
    OracleOf,
    Quote,
    Subject,
    Trust,
)
from indexer.inquiry import CallAt, at_block, inquire
from indexer.oracles import FeedState, feed_state
from indexer.pricing import (
    ANSWER_UPDATED,
    NO_ORACLE,
    NO_PLAIN_FEED,
    NO_UNIT,
    STALE_SECONDS,
    WHOLE_BLOCK,
    LoggedFeed,
    Look,
    Moves,
    NoPrice,
    Price,
    Update,
    Wanted,
    at_par,
    carried,
    emitters_of,
    is_answered,
    logged,
    no_price,
    priced,
    pushed,
    pushes,
    references,
    scale_of,
    update_of,
    wants_feed,
)
from indexer.sources.endpoints import NotServed
from indexer.sources.evm import EvmSource
from indexer.sources.evm_calls import Question
from indexer.store import chain_rows
from indexer.store import prices as store
from indexer.store.database import Connection

BLOCKS_AT_ONCE = 200  # with the block before each, 400 calls in one request
FRESH_BLOCKS = 64  # full nodes keep 128 states: who lacks one of these lags, it is no archive
FIRST_WINDOW_SECONDS = 3_600.0  # of the search for a feed's last answer
WINDOW_GROWTH = 5  # 1 h, 6 h, then all that is not stale: three requests for the slowest feed
REFERENCE = "aave_v3"  # the protocol whose oracles are asked for dollar prices

_REVERTED = CallResult(is_ok=False, data=b"")

Told = Callable[[Counter[str]], None]  # after each batch: how many prices, and how many in vain


def fill(
    connection: Connection,
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    *,
    again: bool = False,
    since: datetime | None = None,
    told: Told = lambda counts: None,
) -> Counter[str]:
    """Ask for what liquidations of some venues of a chain want and store it, batch by batch, the
    newest first, after what their events say. Raises SourceFault; what was stored before stays."""
    chain = source.profile.name
    asker = Prices(source, decoder)
    counts = from_events(connection, decoder, chain, venues, again=again, since=since)
    wanted = store.wanted(connection, chain, venues, again=again, since=since)
    for batch in _batches(wanted):
        rows = asker.ask(batch)
        _append(connection, chain, batch, rows)
        counts["prices"] += sum(isinstance(row, Price) for row in rows)
        counts["in_vain"] += sum(isinstance(row, NoPrice) for row in rows)
        told(counts)
    return counts


def from_events(
    connection: Connection,
    decoder: Decoder,
    chain: str,
    venues: Sequence[str],
    *,
    again: bool = False,
    since: datetime | None = None,
) -> Counter[str]:
    """Store the prices that stored events carry, and a dollar for what their contracts take for
    one; nobody is asked."""
    counts: Counter[str] = Counter()
    venues = [
        venue for venue in venues
        if decoder.carries_prices(venue) or decoder.spec_of(venue).par is not None
    ]  # fmt: skip
    if not venues:
        return counts
    facts: Facts = {}
    for batch in _batches(store.wanted(connection, chain, venues, again=again, since=since)):
        facts = facts or {**decoder.known_facts, **chain_rows.facts(connection, chain)}
        rows = [
            row for one in _by_block(batch) for row in _carried(connection, decoder, facts, one)
        ]
        _append(connection, chain, batch, rows)
        counts["prices"] += len(rows)
    return counts


def _append(
    connection: Connection, chain: str, batch: Sequence[Wanted], rows: Sequence[Price | NoPrice]
) -> None:
    answered = {_place(row) for row in rows}
    with connection.transaction():
        asked = [one for one in batch if _place(one) in answered]
        store.append(connection, chain, asked, rows)


def _carried(
    connection: Connection, decoder: Decoder, facts: Facts, of_block: Sequence[Wanted]
) -> Iterator[Price]:
    """What the events of one block say, and what needs no saying."""
    block = of_block[0].block
    stored = chain_rows.stored_logs(connection, block.chain, block.number, block.number + 1)
    logs = [log for log, *_ in stored]
    for one in of_block:
        spec = decoder.spec_of(one.venue)
        trust: Trust = "market" if spec.is_permissionless else "governed"
        said = decoder.prices(one.venue, logs, facts)
        yield from carried(one, {log.log_index: log for log in logs}, said, trust)
        if spec.par is not None and (price := at_par(one, spec.par, facts)) is not None:
            yield price


def _by_block(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    for _, of_block in groupby(wanted, key=lambda one: one.block.number):
        yield list(of_block)


def _batches(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    batch: list[Wanted] = []
    blocks = 0
    for of_block in _by_block(wanted):
        batch += of_block
        blocks += 1
        if blocks == BLOCKS_AT_ONCE:
            yield batch
            batch, blocks = [], 0
    if batch:
        yield batch


def _place(one: Wanted | Price | NoPrice) -> tuple[str, str, str, int]:
    number = one.block.number if isinstance(one, Wanted) else one.block_number
    return one.venue, one.market, one.asset, number


class _Asked(NamedTuple):
    """A question to a venue's own oracle: about what, at the end of which block."""

    venue: str
    subject: Subject
    block_number: int


class _ReferenceOf(NamedTuple):
    """A question to the reference oracles."""

    asset: str
    block_number: int


class _State:
    """Calls at several heights; the heights whose state nobody keeps are `absent` afterwards."""

    def __init__(self, source: EvmSource, blocks: Iterable[BlockRef]) -> None:
        self._source = source
        self._blocks = {one.number - 1: _parent(one) for one in blocks}
        self._blocks |= {one.number: one for one in blocks}
        self.absent: set[int] = set()

    def call_many(self, calls: Sequence[CallAt]) -> list[CallResult]:
        """What contracts answer; a revert where there is no state, which is not to be believed."""
        by_height: dict[int, list[CallAt]] = {}
        for call in calls:
            if call.block_number not in self.absent:
                by_height.setdefault(call.block_number, []).append(call)
        answers = self._source.call_many_at(
            [
                Question(self._blocks[height], [call for _, call in asked])
                for height, asked in by_height.items()
            ]
        )
        results: dict[CallAt, CallResult] = {}
        for (height, asked), answer in zip(by_height.items(), answers, strict=True):
            if answer is None:
                self.absent.add(height)
            else:
                results |= zip(asked, answer, strict=True)
        return [results.get(call, _REVERTED) for call in calls]


class Prices:
    """Asks one chain for prices; remembers from which block on somebody keeps the state, and the
    plain feeds of assets."""

    def __init__(self, source: EvmSource, decoder: Decoder) -> None:
        self._source = source
        self._decoder = decoder
        self._chain = source.profile.name
        self._state_from = 0
        self._feeds: dict[tuple[str, str, str, str | None], tuple[LoggedFeed, ...]] = {}
        spec = decoder.spec_of(f"{REFERENCE}.{self._chain}")
        self._pools = references(spec.deployments, self._chain)

    def ask(self, wanted: Sequence[Wanted]) -> list[Price | NoPrice]:
        """The rows that come of it; nothing of what could not be told yet. Raises SourceFault."""
        with_state = [one for one in wanted if one.block.number >= self._state_from]
        rows, absent = self._by_state(with_state)
        self._forget_state(absent)
        old = {one.block.number for one in wanted if one.block.number < self._state_from}
        return rows + self._by_logs([one for one in wanted if one.block.number in old])

    def _forget_state(self, absent: set[int]) -> None:
        """A state that is away stays away, and so do all before it, unless it is a fresh one."""
        if absent:
            fresh = self._source.head().number - FRESH_BLOCKS
            old = [number for number in absent if number < fresh]
            self._state_from = max([self._state_from, *(number + 1 for number in old)])

    # the oracles

    def _own(self, venue: str, subject: Subject) -> Dialogue[Quote | NoQuote]:
        spec = self._decoder.spec_of(venue)
        return _asked(spec.oracle, subject, self._deployed(spec.deployments))

    def _reference(self, pool: Deployment, asset: str) -> Dialogue[Quote | NoQuote]:
        spec = self._decoder.spec_of(f"{REFERENCE}.{self._chain}")
        address = pool.address.lower()
        subject = Subject(self._chain, address, asset, address)
        return _asked(spec.oracle, subject, self._deployed(spec.deployments))

    def _deployed(self, deployments: Sequence[Deployment]) -> list[Deployment]:
        return [one for one in deployments if one.chain == self._chain]

    # at the blocks themselves

    def _by_state(self, wanted: Sequence[Wanted]) -> tuple[list[Price | NoPrice], set[int]]:
        """Rows, and the heights of wanted prices whose state nobody keeps."""
        if not wanted:
            return [], set()
        state = _State(self._source, {one.block for one in wanted})
        own = self._own_looks(state, wanted)
        references = self._reference_looks(state, _references_wanted(wanted, own))
        looks = [(one.block, look) for one in wanted for look in _looks(one, own, references)]
        moves = self._moves(state, looks)
        present = [one for one in wanted if one.block.number not in state.absent]
        rows = [
            row
            for one in present
            for row in _rows(one, own[_key(one)], references, moves.get(one.block.number, {}))
        ]
        return rows, {one.block.number for one in wanted} & state.absent

    def _own_looks(self, state: _State, wanted: Sequence[Wanted]) -> dict[_Asked, "_Seen"]:
        heights = [
            (key, number)
            for key in dict.fromkeys(map(_key, wanted))
            for number in (key.block_number, key.block_number - 1)
        ]
        found = inquire(
            {
                (key, number): at_block(number, self._own(key.venue, key.subject))
                for key, number in heights
            },
            state.call_many,
        )
        return {
            key: _Seen(
                found[key, number], _unless_absent(found[key, number - 1], number - 1, state)
            )
            for key, number in heights
            if number == key.block_number
        }

    def _reference_looks(
        self, state: _State, wanted: Iterable[_ReferenceOf]
    ) -> dict[_ReferenceOf, Look]:
        """What the first pool that knows a dollar price says, for those that one knows."""
        heights = [
            (key, place, number)
            for key in dict.fromkeys(wanted)
            for place in range(len(self._pools))
            for number in (key.block_number, key.block_number - 1)
        ]
        found = inquire(
            {
                (key, place, number): at_block(
                    number, self._reference(self._pools[place], key.asset)
                )
                for key, place, number in heights
            },
            state.call_many,
        )
        looks: dict[_ReferenceOf, Look] = {}
        for key, place, number in heights:
            now = found[key, place, number]
            if number == key.block_number and _is_dollars(now) and key not in looks:
                before = _unless_absent(found[key, place, number - 1], number - 1, state)
                looks[key] = Look(now, before)
        return looks

    def _moves(
        self, state: _State, looks: Iterable[tuple[BlockRef, Look]]
    ) -> dict[int, dict[Feed, Moves]]:
        """Of the feeds that may have changed a price inside its block: what they say at both ends
        and the updates between them."""
        wanted = {(block, feed) for block, look in looks if (feed := wants_feed(look))}
        found = inquire(
            {
                (block, feed, number): at_block(number, feed_state(feed))
                for block, feed in wanted
                for number in (block.number, block.number - 1)
            },
            state.call_many,
        )
        ends = {
            (block, feed): (found[block, feed, block.number - 1], found[block, feed, block.number])
            for block, feed in wanted
        }
        updates = self._updates_in(
            {place: pushes(place[1], now) for place, (before, now) in ends.items() if before != now}
        )
        moves: dict[int, dict[Feed, Moves]] = {}
        for (block, feed), seen in updates.items():
            moves.setdefault(block.number, {})[feed] = Moves(*ends[block, feed], seen)
        return moves

    def _updates_in(
        self, filters: Mapping[tuple[BlockRef, Feed], LogFilter]
    ) -> dict[tuple[BlockRef, Feed], tuple[Update, ...]]:
        """The updates of each feed in each block, all in one request."""
        of_block: dict[BlockRef, LogFilter] = {}
        for (block, _), one in filters.items():
            of_block[block] = _union(of_block.get(block, one), one)
        try:
            logs = self._source.logs_of_blocks(list(of_block.items()))
        except NotServed:  # these logs are gone: which side a liquidation stands on stays unknown
            return {}
        found = dict(zip(of_block, logs, strict=True))
        return {
            (block, feed): tuple(
                update for log in found[block] if one.wants(log) and (update := pushed(feed, log))
            )
            for (block, feed), one in filters.items()
        }

    # by the logs of feeds

    def _by_logs(self, wanted: Sequence[Wanted]) -> list[Price | NoPrice]:
        if not wanted:
            return []
        final = self._source.finalized()
        settled = [one for one in wanted if one.block.number <= final]
        self._find_feeds(settled)
        rows: list[Price | NoPrice] = []
        with_feeds = []
        for one in settled:
            if self._feeds[_feed_key(one)]:
                with_feeds.append(one)
            else:
                rows.append(no_price(one, NO_PLAIN_FEED))
        for cluster in self._clusters(with_feeds):
            rows += self._logged(cluster)
        return rows

    def _find_feeds(self, wanted: Sequence[Wanted]) -> None:
        """Look at the head which plain feeds the oracles read for assets that are new to us."""
        new = {_feed_key(one): one for one in wanted if _feed_key(one) not in self._feeds}
        if not new:
            return
        head = self._source.head()
        own = inquire(
            {key: self._own(one.venue, _subject(one)) for key, one in new.items()},
            lambda calls: self._source.call_many(calls, head),
        )
        units = {quote.unit for quote in own.values() if isinstance(quote, Quote)} - {USD}
        assets = {one.share[0] if one.share else one.asset for one in new.values()}
        dollars = self._dollars(units | assets, head)
        quotes = [quote for quote in (*own.values(), *dollars.values()) if isinstance(quote, Quote)]
        feeds = self._states_of(quotes, head)
        for key, one in new.items():
            self._feeds[key] = _logged_feeds(one, own[key], dollars, feeds)

    def _dollars(self, assets: Iterable[str], head: BlockRef) -> dict[str, Quote]:
        """What the first pool that knows a dollar price says of each asset now."""
        found = inquire(
            {
                (asset, place): self._reference(pool, asset)
                for asset in sorted(assets)
                for place, pool in enumerate(self._pools)
            },
            lambda calls: self._source.call_many(calls, head),
        )
        dollars: dict[str, Quote] = {}
        for (asset, _), quote in found.items():
            if _is_dollars(quote):
                dollars.setdefault(asset, quote)
        return dollars

    def _states_of(
        self, quotes: Sequence[Quote], head: BlockRef
    ) -> dict[str, tuple[FeedState, tuple[str, ...]]]:
        feeds = sorted({quote.feed for quote in quotes if isinstance(quote.feed, str)})
        states = inquire(
            {feed: feed_state(feed) for feed in feeds},
            lambda calls: self._source.call_many(calls, head),
        )
        emitters = inquire(
            {feed: emitters_of(feed) for feed in feeds},
            lambda calls: self._source.call_many(calls, head),
        )
        return {feed: (states[feed], emitters[feed]) for feed in feeds}

    def _clusters(self, wanted: Sequence[Wanted]) -> list[list[Wanted]]:
        """Those that are so near to each other that their logs are best read at once."""
        near = FIRST_WINDOW_SECONDS / self._source.profile.block_seconds
        clusters: list[list[Wanted]] = []
        for one in sorted(wanted, key=lambda one: one.block.number):
            if clusters and one.block.number - clusters[-1][-1].block.number <= near:
                clusters[-1].append(one)
            else:
                clusters.append([one])
        return clusters

    def _logged(self, cluster: Sequence[Wanted]) -> list[Price | NoPrice]:
        """Read further and further back until each feed has answered, or must be stale."""
        feeds = {one: self._feeds[_feed_key(one)] for one in cluster}
        updates: dict[str, list[Update]] = {}
        times: dict[int, int] = {}
        window, most = (
            int(seconds / self._source.profile.block_seconds) + 1
            for seconds in (FIRST_WINDOW_SECONDS, 1.5 * STALE_SECONDS)
        )
        first, high = cluster[0].block.number, cluster[-1].block.number + 1
        low, floor = max(first - window, 0), max(first - most, 0)
        lacking = {feed for of_one in feeds.values() for feed in of_one}
        while lacking and low < high:
            emitters = {emitter for feed in lacking for emitter in feed.emitters}
            found = self._source.logs(_answers_of(emitters), low, high)
            times |= found.times
            _put_before(updates, filter(None, map(update_of, found.logs)))
            lacking = {
                feed
                for one, of_one in feeds.items()
                for feed in of_one
                if not is_answered(one, feed, updates)
            }
            window *= WINDOW_GROWTH
            low, high = max(low - window, floor), low
        return [row for one in cluster for row in logged(one, feeds[one], updates, times)]


def _put_before(known: dict[str, list[Update]], earlier: Iterable[Update]) -> None:
    found: dict[str, list[Update]] = {}
    for update in earlier:
        found.setdefault(update.emitter, []).append(update)
    for emitter, updates in found.items():
        known[emitter] = updates + known.get(emitter, [])


class _Seen(NamedTuple):
    """As a Look, where there may be nothing to see."""

    now: Quote | NoQuote
    before: Quote | NoQuote | None


def _asked(
    oracle: OracleOf | None, subject: Subject, deployed: Sequence[Deployment]
) -> Dialogue[Quote | NoQuote]:
    if oracle is None:
        return NoQuote(NO_ORACLE)
    return (yield from oracle(subject, deployed))


def _parent(block: BlockRef) -> BlockRef | int:
    """By its hash where that is stored: another branch may have other prices."""
    number = block.number - 1
    return BlockRef(block.chain, number, block.parent_hash, "", 0) if block.parent_hash else number


def _subject(one: Wanted) -> Subject:
    return Subject(one.block.chain, one.market, one.asset, one.emitter)


def _key(one: Wanted) -> _Asked:
    return _Asked(one.venue, _subject(one), one.block.number)


def _unless_absent(
    quote: Quote | NoQuote, block_number: int, state: _State
) -> Quote | NoQuote | None:
    return None if block_number in state.absent else quote


def _is_dollars(quote: Quote | NoQuote) -> TypeGuard[Quote]:
    return isinstance(quote, Quote) and quote.unit == USD


def _union(one: LogFilter, other: LogFilter) -> LogFilter:
    return LogFilter(
        (one.addresses or frozenset()) | (other.addresses or frozenset()),
        one.topics0 | other.topics0,
    )


def _answers_of(emitters: Iterable[str]) -> LogFilter:
    return LogFilter(frozenset(emitters), frozenset({ANSWER_UPDATED}))


def _unit_of(one: Wanted, now: Quote | NoQuote) -> _ReferenceOf | None:
    if isinstance(now, Quote) and now.unit != USD:
        return _ReferenceOf(now.unit, one.block.number)
    return None


def _asset_of(one: Wanted, now: Quote | NoQuote) -> _ReferenceOf | None:
    """A second opinion where the own oracle has none, or one that nobody governs."""
    if isinstance(now, Quote) and now.trust == "governed":
        return None
    return _ReferenceOf(one.share[0] if one.share else one.asset, one.block.number)


def _references_wanted(
    wanted: Iterable[Wanted], own: Mapping[_Asked, _Seen]
) -> Iterator[_ReferenceOf]:
    for one in wanted:
        now = own[_key(one)].now
        yield from (found for found in (_unit_of(one, now), _asset_of(one, now)) if found)


def _own_links(
    one: Wanted, seen: _Seen, references: Mapping[_ReferenceOf, Look]
) -> list[Look] | NoQuote:
    """From the asset to dollars by the protocol's own oracle."""
    if isinstance(seen.now, NoQuote):
        return seen.now
    link = Look(seen.now, seen.before)
    unit = _unit_of(one, seen.now)
    if unit is None:
        return [link]
    return [link, references[unit]] if unit in references else NoQuote(NO_UNIT)


def _reference_links(
    one: Wanted, seen: _Seen, references: Mapping[_ReferenceOf, Look]
) -> list[Look]:
    """From the asset, or the shares by their stored rate, to dollars by a reference oracle."""
    key = _asset_of(one, seen.now)
    if key is None or key not in references:
        return []
    if one.share is None:
        return [references[key]]
    token, rate = one.share
    share = Quote(rate, token, ())
    return [Look(share, share), references[key]]


def _looks(
    one: Wanted, own: Mapping[_Asked, _Seen], references: Mapping[_ReferenceOf, Look]
) -> list[Look]:
    seen = own[_key(one)]
    links = _own_links(one, seen, references)
    return [
        *([] if isinstance(links, NoQuote) else links),
        *_reference_links(one, seen, references),
    ]


def _rows(
    one: Wanted,
    seen: _Seen,
    references: Mapping[_ReferenceOf, Look],
    moves: Mapping[Feed, Moves],
) -> list[Price | NoPrice]:
    """Prices from both sides, as far as there are; where there is none, why the own has none."""
    links = _own_links(one, seen, references)
    rows: list[Price | NoPrice] = (
        [no_price(one, links.reason)]
        if isinstance(links, NoQuote)
        else priced(one, "oracle", links, moves)
    )
    if second := _reference_links(one, seen, references):
        rows += priced(one, "reference", second, moves)
    told = {row.log_index for row in rows if isinstance(row, Price)}
    if WHOLE_BLOCK in told or told >= {*one.log_indexes}:
        return [row for row in rows if isinstance(row, Price)]
    return [row for row in rows if isinstance(row, Price) or row.log_index not in told]


def _feed_key(one: Wanted) -> tuple[str, str, str, str | None]:
    return one.venue, one.market, one.asset, one.share[0] if one.share else None


def _logged_feeds(
    one: Wanted,
    own: Quote | NoQuote,
    dollars: Mapping[str, Quote],
    feeds: Mapping[str, tuple[FeedState, tuple[str, ...]]],
) -> tuple[LoggedFeed, ...]:
    """The feeds that an asset's price is the product of: of the own oracle, with that of its
    unit, else of the reference oracle; none where one of them is not plain."""
    ways: list[list[Quote | None]] = []
    if one.share is None and isinstance(own, Quote):
        ways.append([own] if own.unit == USD else [own, dollars.get(own.unit)])
    ways.append([dollars.get(one.share[0] if one.share else one.asset)])
    for way in ways:
        found = [feed for quote in way if (feed := _logged_feed(quote, feeds))]
        if len(found) == len(way):
            return tuple(found)
    return ()


def _logged_feed(
    quote: Quote | None, feeds: Mapping[str, tuple[FeedState, tuple[str, ...]]]
) -> LoggedFeed | None:
    if quote is None or not isinstance(quote.feed, str):
        return None
    state, emitters = feeds[quote.feed]
    scale = scale_of(quote, state.answer)
    return None if scale is None else LoggedFeed(quote.feed, scale, quote.trust, emitters)
