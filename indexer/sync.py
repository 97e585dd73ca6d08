"""The conductor: what a source read becomes rows and coverage, in one transaction a step.

Running any range again, in any order or in overlapping pieces, gives the same rows: rows have
natural keys, sums are added only for blocks that were not covered, and coverage is written in the
same transaction, where a second writer of the same blocks is refused.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from indexer.errors import ConfigError, Fenced, IndexerError, SourceFault
from indexer.model import Facts, Liquidation, Stretch, Undecoded
from indexer.plan import Heights
from indexer.sources import hyperliquid as source
from indexer.step import NeedleLied, Step, Unreadable, contradiction, correction
from indexer.store import ledger, values
from indexer.store.database import Connection
from indexer.venues import hyperliquid as venue

FACTS: tuple[Facts, ...] = ("liquidations", "account_days", "ledger_liquidations")
VENUE = venue.SPEC.name
CHAIN = venue.SPEC.chain
POLL_SECONDS = 0.05
VALUE_SECONDS = 1.0  # a pass over one new row takes about as long as one over a thousand
_ATTEMPTS = 20


@dataclass
class Tally:
    """What a run wrote and what went wrong; `low` and `high` bound the heights it read, `since` is
    the time of the first block."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[IndexerError] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    low: int | None = None
    high: int | None = None
    since: datetime | None = None

    def saw(self, stretch: Stretch) -> None:
        """Widen the bounds by what a read covered."""
        for blocks in stretch.covered:
            self.low = blocks.block_from if self.low is None else min(self.low, blocks.block_from)
            self.high = blocks.block_to if self.high is None else max(self.high, blocks.block_to)
            self.since = min(blocks.first_at, self.since or blocks.first_at)


# Told after each read: the file, how many of its stored bytes are read, and those of all files.
Progress = Callable[[source.HourFile, int, int], None]
Told = Callable[[source.HourFile, int], None]


class Writer:
    """Owns the step in the making and the database connection it will be written through."""

    def __init__(
        self,
        connection: Connection,
        *,
        with_accounts: bool,
        is_simulated: bool,
        is_sample: bool = False,
    ) -> None:
        self._connection = connection
        self._is_simulated = is_simulated
        self.is_sample = is_sample  # what is read tells some fills, never all of a block
        self._with_accounts = with_accounts
        self.tally = Tally()
        ledger.keep_vaults(connection, VENUE, venue.PROTOCOL_VAULTS)
        self.restart()

    def restart(self) -> None:
        """Drop what is not written and look again at what is covered."""
        self._known = {
            facts: Heights(ledger.covered(self._connection, VENUE, facts)) for facts in FACTS
        }
        self._begin()

    def _begin(self) -> None:
        self.step = Step(self._known, with_accounts=self._with_accounts)

    @property
    def only_marked(self) -> bool:
        """Whether lines without a mark may be passed over; with account days every line counts."""
        return not self._with_accounts

    def take(self, layout: source.Layout, stretch: Stretch, *, trust_needle: bool = True) -> None:
        """Take a stretch and write the step when it is full. Raises SourceFault where the stretch
        ends in one, once what stands before it is taken."""
        if layout == "misc":
            self.step.take_updates(stretch)
        else:
            self.step.take_fills(stretch, trust_needle=trust_needle)
        self.tally.saw(stretch)
        if self.step.is_full:
            self.write()
        if stretch.fault:
            raise stretch.fault

    def write(self) -> None:
        """Write the step: rows, coverage and account days together or not at all.

        Raises Fenced when somebody else covered one of its blocks; then nothing was written.
        """
        step = self.step
        if not step.is_empty:
            with self._connection.transaction():
                counts, faults = _write(
                    self._connection, step,
                    is_simulated=self._is_simulated, is_sample=self.is_sample,
                )  # fmt: skip
            self.tally.counts += counts
            self.tally.faults += faults
        self.tally.faults += step.faults
        self._begin()


def _write(
    connection: Connection, step: Step, *, is_simulated: bool, is_sample: bool
) -> tuple[Counter[str], list[IndexerError]]:
    faults: list[IndexerError] = list(_other_content(connection, step))
    if not is_sample:
        faults += _take_back(connection, step)
    corrected, wrong = [], set()
    for found in ledger.append_raw(
        connection, list(step.raw.values()), is_simulated=is_simulated, is_sample=is_sample
    ):
        is_same = venue.is_same(found.stored, found.read)
        if found.is_sample and not is_sample:
            # A sample never stands against files of blocks, nor for less than they say.
            if not is_same or venue.says_more(found.read, found.stored):
                corrected.append(found.event_key)
            if not is_same:
                faults.append(correction(step.raw[found.event_key], found.stored_at))
                wrong.add(found.event_key)
        elif not is_same:
            faults.append(contradiction(step.raw[found.event_key], found.stored_at))
            step.legs.pop(found.event_key, None)
            step.ledger.pop(found.event_key, None)
    ledger.replace_raw(connection, corrected)
    trades = {venue.trade_key(leg) for key, leg in step.legs.items() if key in wrong}
    ledger.withdraw(connection, VENUE, CHAIN, (), sorted(trades))  # they are made anew
    liquidations, undecoded = _decode(connection, step)
    undecoded += step.undecoded.values()
    ledger.append_liquidations(connection, liquidations)
    ledger.append_ledger(connection, list(step.ledger.values()))
    ledger.append_undecoded(connection, undecoded)
    ledger.add_account_days(connection, step.account_days())
    ledger.add_market_minutes(connection, step.market_minutes())
    for facts, blocks in step.covered.items():
        ledger.cover(connection, VENUE, facts, blocks, venue.SPEC.decoder_version)
    counts = Counter(
        liquidations=len(liquidations),
        ledger_liquidations=len(step.ledger),
        undecoded=len(undecoded),
        blocks=sum(b.block_to - b.block_from for b in step.covered["liquidations"]),
    )
    return counts, faults


def _other_content(connection: Connection, step: Step) -> Iterator[IndexerError]:
    """Blocks that were read whole before and now hold more or fewer marked fills."""
    if not step.read_again:
        return
    stored = ledger.stored_marks(connection, CHAIN, step.read_again)
    again = Heights.joined(step.read_again)
    read = Counter(
        raw.block_number
        for raw in step.raw.values()
        if raw.block_number in again and not raw.event_key.startswith("ledger/")
    )
    for number in sorted({n for n in (*stored, *read) if n is not None}):
        if stored.get(number, 0) != read[number]:
            yield IndexerError(
                f"block {number}, read whole before with {stored.get(number, 0)} marked fills,"
                f" now has {read[number]}"
            )


def _take_back(connection: Connection, step: Step) -> Iterator[IndexerError]:
    """Fills that samples told of blocks which were now read whole, and which are not in them; and,
    in silence, those that named no block and now are known with theirs."""
    covered = step.covered["liquidations"]
    if not covered or not ledger.has_samples(connection):
        return
    blocks = [(part.block_from, part.block_to) for part in covered]
    gone = ledger.unconfirmed(connection, CHAIN, blocks, step.raw)
    for raw in gone:
        yield IndexerError(
            f"block {raw.block_number}, read whole, has no {raw.event_key}, told by"
            f" {raw.source}:{raw.line}; it is taken back"
        )
    placed = {(venue.timed_key(leg), leg.user, leg.fill.side) for leg in step.legs.values()}
    for raw in ledger.without_height(connection, CHAIN):
        leg = venue.leg_again(raw)
        if leg and (venue.timed_key(leg), leg.user, leg.fill.side) in placed:
            gone.append(raw)
    legs = [leg for raw in gone if (leg := venue.leg_again(raw))]
    trades = {venue.trade_key(leg) for leg in legs}
    ledger.withdraw(connection, VENUE, CHAIN, [raw.event_key for raw in gone], sorted(trades))


def _decode(connection: Connection, step: Step) -> tuple[list[Liquidation], list[Undecoded]]:
    """Make the rows of the step's trades. A trade of which we hold one leg may have the other in
    the ledger, from another file or another day."""
    trades = step.trades()
    alone = [key for key, legs in trades.items() if len(legs) == 1]
    if alone:
        for raw in ledger.stored_under(connection, CHAIN, alone):
            leg = venue.leg_again(raw)
            legs = trades[venue.trade_key(leg)] if leg else []
            if leg and raw.event_key != legs[0].raw.event_key:
                legs.append(leg)
    liquidations, undecoded = [], []
    for legs in trades.values():
        row = venue.decode(legs)
        if isinstance(row, Liquidation):
            liquidations.append(row)
        else:
            undecoded.append(row)
    return liquidations, undecoded


def backfill(
    connection: Connection,
    location: str,
    *,
    with_accounts: bool = True,
    account: str | None = None,
    progress: Progress = lambda file, size, total: None,
) -> Tally:
    """Read a tree of finished files, or one file, and store what is in it.

    A file that cannot be read on is a fault of the tally; what stands before it is kept and the
    other files are read. `account` is whose API records are that do not say.
    """
    listing = source.discover(location)
    writer = Writer(connection, with_accounts=with_accounts, is_simulated=listing.is_simulated)
    writer.tally.ignored += listing.ignored
    total = sum(file.file.size for file in listing.files)

    def told(file: source.HourFile, size: int) -> None:
        progress(file, size, total)

    for files in source.units(listing.files):
        if files[0].layout == "records":
            _backfill_records(writer, files, account)
        else:
            _backfill_blocks(writer, files, told)
    return writer.tally


def _backfill_records(writer: Writer, files: list[source.HourFile], account: str | None) -> None:
    writer.is_sample = True  # whoever asked the API asked for somebody's fills
    for file in files:
        try:
            for layout, line in source.read_records(file.file, account):
                writer.take(layout, Stretch(lines=(line,)), trust_needle=False)
        except SourceFault as fault:
            writer.tally.faults.append(fault)
        writer.write()
    writer.is_sample = False


def _backfill_blocks(writer: Writer, files: list[source.HourFile], told: Told) -> None:
    """Read files that belong together, from the start again when another process covered their
    blocks meanwhile, or when the prefilter turned out not to fit them."""
    trust_needle = True
    counted, found = writer.tally.counts.copy(), len(writer.tally.faults)
    for _ in range(_ATTEMPTS):
        try:
            _read_files(writer, files, told, trust_needle=trust_needle)
            return
        except NeedleLied:
            trust_needle = False
        except Fenced:
            pass
        writer.restart()
        writer.tally.counts = counted.copy()
        del writer.tally.faults[found:]
    raise Fenced(f"{files[0].file.uri}: another process keeps covering these blocks")


def _read_files(
    writer: Writer, files: list[source.HourFile], told: Told, *, trust_needle: bool
) -> None:
    broken = None
    only_marked = writer.only_marked and trust_needle
    for file, stretch in source.read(files, only_marked=only_marked):
        if file is broken:
            continue
        try:
            writer.take(file.layout, stretch, trust_needle=trust_needle)
        except SourceFault as fault:
            writer.tally.faults.append(fault)
            broken = file
        told(file, stretch.size)
    writer.write()


def redecode(connection: Connection) -> Counter[str]:
    """Derive all rows again from the stored legs, in one transaction: whoever reads sees the rows
    of one decoder with their values, or those of the other. Account days stay: of most fills
    nothing is stored."""
    counts: Counter[str] = Counter()
    with connection.transaction():
        trades: dict[str, list[venue.Leg]] = {}
        for raw in ledger.legs_in_order(connection, CHAIN):
            leg = venue.leg_again(raw)
            if leg is None:
                continue
            counts["legs"] += 1
            key = venue.trade_key(leg)
            if key not in trades and len(trades) >= ledger.LEGS_AT_ONCE:
                counts += _derive_again(connection, trades)
                trades = {}
            trades.setdefault(key, []).append(leg)
        counts += _derive_again(connection, trades)
        ledger.decoded_by(connection, VENUE, "liquidations", venue.SPEC.decoder_version)
        value(connection, None)
    return counts


def _derive_again(connection: Connection, trades: Mapping[str, list[venue.Leg]]) -> Counter[str]:
    rows = [venue.decode(legs) for legs in trades.values()]
    liquidations = [row for row in rows if isinstance(row, Liquidation)]
    undecoded = [row for row in rows if isinstance(row, Undecoded)]
    ledger.forget_staged(connection)
    read = [leg.raw.event_key for legs in trades.values() for leg in legs]
    ledger.now_decoded(connection, VENUE, read)
    ledger.append_liquidations(connection, liquidations)
    ledger.append_undecoded(connection, undecoded)
    return Counter(liquidations=len(liquidations), undecoded=len(undecoded))


def value(connection: Connection, since: datetime | None) -> None:
    """Value what is stored of a time and after; the records carry their own prices."""
    values.value(connection, venues=(VENUE,), since=since)


class _Fresh:
    """Values new rows beside the reading, not more than once a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._since: datetime | None = None
        self._valued_at = float("-inf")

    def saw(self, stretch: Stretch) -> None:
        """Rows of these blocks were written."""
        for blocks in stretch.covered:
            self._since = min(blocks.first_at, self._since or blocks.first_at)

    def value(self, *, at_once: bool = False) -> None:
        """Value what is new, when it is time or at the end."""
        is_due = at_once or time.monotonic() - self._valued_at >= VALUE_SECONDS
        if self._since is not None and is_due:
            value(self._connection, self._since)
            self._since, self._valued_at = None, time.monotonic()


def follow(
    connection: Connection,
    location: str,
    *,
    with_accounts: bool = True,
    is_over: Callable[[], bool],
    say: Callable[[str], None],
) -> Tally:
    """Read what a running node appends until told to stop, one step a read.

    Begins in the hour before the last covered block, or with the oldest file. Every fill is
    parsed: at the head there is time, and no prefilter to trust. Faults are said at once; the
    lines after them are read.
    """
    if location.startswith("s3://"):
        raise ConfigError(
            "follow reads what a node appends to local files; an object in S3 is finished"
        )
    is_simulated = source.is_simulated(location)
    writer = Writer(connection, with_accounts=with_accounts, is_simulated=is_simulated)
    last = ledger.covered_until(connection, VENUE)
    since = None if last is None else last - timedelta(hours=1)
    tails = [(layout, source.Tail(location, layout, since)) for layout in source.BLOCK_LAYOUTS]
    fresh = _Fresh(connection)
    while not is_over():
        is_idle = True
        for layout, tail in tails:
            stretch = tail.poll()
            if stretch is None:
                continue
            is_idle = False
            if _write_and_say(writer, layout, stretch, say):
                fresh.saw(stretch)
        fresh.value()
        if is_idle:
            time.sleep(POLL_SECONDS)
    fresh.value(at_once=True)
    return writer.tally


def _write_and_say(
    writer: Writer, layout: source.Layout, stretch: Stretch, say: Callable[[str], None]
) -> bool:
    """Says what was written and what is wrong; gives whether there are new rows."""
    counted, found, started = writer.tally.counts.copy(), len(writer.tally.faults), time.monotonic()
    _write_stretch(writer, layout, stretch)
    new = writer.tally.counts - counted
    has_rows = bool(new["liquidations"] or new["ledger_liquidations"])
    if has_rows or new["undecoded"]:
        milliseconds = round(1000 * (time.monotonic() - started))
        fields = " ".join(f"{name}={number}" for name, number in sorted(new.items()))
        say(f"venue={VENUE} to={writer.tally.high} {fields} ms={milliseconds}")
    for fault in writer.tally.faults[found:]:
        say(f"fault: {fault}")
    return has_rows


def _write_stretch(writer: Writer, layout: source.Layout, stretch: Stretch) -> None:
    """Take and write one stretch, also the lines after an unreadable one; once more when another
    process covered its blocks meanwhile, as a backfill of the same tree does."""
    found = len(writer.tally.faults)
    for _ in range(_ATTEMPTS):
        rest: Stretch | None = stretch
        try:
            while rest is not None:
                rest = _take(writer, layout, rest)
            writer.write()
            return
        except Fenced:
            writer.restart()
            del writer.tally.faults[found:]
    raise Fenced("another process keeps covering the blocks that are followed")


def _take(writer: Writer, layout: source.Layout, stretch: Stretch) -> Stretch | None:
    """Take a stretch, or the part of it before an unreadable line; gives the part after that."""
    try:
        writer.take(layout, stretch, trust_needle=False)
    except Unreadable as fault:
        writer.tally.faults.append(fault)
        return fault.rest
    except SourceFault as fault:
        writer.tally.faults.append(fault)
    return None
