"""Follows the head of one chain: final stretches by range, the tip by hash, reorgs taken back.

State is only in Postgres. After any failure the position is read again, and what was learnt from
blocks that were not written is forgotten.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from psycopg import OperationalError

from indexer.chain import assets as tokens
from indexer.chain.assets import Assets
from indexer.chain.check import check
from indexer.chain.redecode import settle
from indexer.chain.sync import Reader, Reading, Written, write
from indexer.chain.values import Wrote, nobody
from indexer.chain_step import Knowledge
from indexer.decode import Decoder
from indexer.errors import ConfigError, Conflict, Fenced, FinalityViolated, SourceFault
from indexer.evm_model import BlockRef
from indexer.plan import AdvanceBlock, AdvanceRange, LookBack, Wait, plan
from indexer.sources.endpoints import BlockUnknown, NotServed
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, chain_rows
from indexer.store.database import Connection

LOOK_BACK_BLOCKS = 64  # stored blocks that are compared with the chain's in one batch
CHECK_EVERY_SECONDS = 600.0  # blocks that became final are read a second time
CHECK_BLOCKS = 5_000  # of them at once: the head waits meanwhile
TURN_SECONDS = 0.5
COOL_SECONDS = 1.0
MOST_COOL_SECONDS = 30.0
FINALIZED_EVERY_SECONDS = 2.0  # the finalized height moves slowly; asking costs a request


class Wake(Protocol):
    """Ends a wait early when a new head is announced."""

    def wait(self, seconds: float) -> None:
        """Come back after so many seconds, or before."""


class Follower:
    """Follows one chain for some venues from where the database says; `step` does one thing.

    Taking over raises the epoch: a process that followed the chain before can write no more."""

    def __init__(
        self,
        connection: Connection,
        source: EvmSource,
        decoder: Decoder,
        venues: Sequence[str],
        wrote: Wrote = nobody,
    ) -> None:
        self._wrote = wrote
        self._source = source
        self._decoder = decoder
        self._venues = tuple(venues)
        self._chain = source.profile.name
        self._finalized = 0
        self._finalized_at = float("-inf")
        self._connection = connection
        if chain_coverage.position(connection, self._chain) is None:
            self._begin()
        self.position = chain_coverage.take_over(connection, self._chain)
        self._remember()
        self._check_finality()

    def _begin(self) -> None:
        """Own all above the finalized height; what lies at or below it is for backfill. An
        endpoint that lags may call final less than a backfill has covered already."""
        covered = chain_coverage.covered_to(self._connection, self._chain)
        parent = self._source.header(max(self._source.finalized(), covered - 1))
        with self._connection.transaction():
            chain_coverage.begin(self._connection, parent, parent.number)

    def reconnect(self, connection: Connection) -> None:
        """Go on with another connection, from what is stored: a commit whose answer was lost may
        have happened. Raises Fenced when somebody else took over."""
        self._connection = connection
        stored = chain_coverage.position(connection, self._chain)
        if stored is None or stored.epoch != self.position.epoch:
            raise Fenced(f"{self._chain}: another process follows this chain now")
        self.position = stored
        self._remember()

    def _remember(self) -> None:
        facts = chain_rows.facts(self._connection, self._chain)
        self._reader = Reader(self._source, Knowledge(self._decoder, self._venues, facts))
        known = chain_rows.known_assets(self._connection, self._chain)
        self._assets = Assets(self._source, self._decoder, known)

    def _check_finality(self) -> None:
        """What was final when we last wrote must still be there. A chain that was stopped goes on
        only when the database and the chain agree again."""
        stored = chain_rows.blocks_down(
            self._connection, self._chain, self.position.finalized_block + 1, 1
        )
        if stored and self._source.header(stored[0].number).hash != stored[0].hash:
            raise self._stopped(stored[0])
        chain_coverage.stop(self._connection, self._chain, None)

    def _stopped(self, ours: BlockRef) -> FinalityViolated | SourceFault:
        """A second look decides: an endpoint that is left behind on a dead branch is a fault."""
        if self._source.header(ours.number).hash == ours.hash:
            return SourceFault(self._chain, f"two answers about the final block {ours.number}")
        why = (
            f"block {ours.number} was final and is another one now: check the endpoints; if the"
            " chain really did this, its rows from there on must be taken back by hand"
        )
        chain_coverage.stop(self._connection, self._chain, why)
        return FinalityViolated(f"{self._chain}: {why}")

    @property
    def chain(self) -> str:
        """The chain that is followed."""
        return self._chain

    @property
    def block_seconds(self) -> float:
        """The time between two blocks, as the chain's profile has it."""
        return self._source.profile.block_seconds

    def look_again(self) -> list[str]:
        """Settle what waits for facts, and check the next blocks that became final; says what it
        found. Raises NoAnswer."""
        changed = settle(self._connection, self._source, self._decoder, wrote=self._wrote)
        low = chain_coverage.checked_until(self._connection, self._chain)
        if low is None:
            low = max(self.position.finalized_block - CHECK_BLOCKS, 0)
        high = min(self.position.finalized_block + 1, self.position.next_block, low + CHECK_BLOCKS)
        found = check(
            self._connection, self._source, self._decoder, self._venues, low, high,
            wrote=self._wrote,
        )  # fmt: skip
        self._remember()
        texts = [f"{changed} rows settled"] if changed else []
        if found.missing or found.untrue:
            texts.append(f"check: {found.missing} logs missing, {found.untrue} untrue: corrected")
        return texts + [f"check: {text}" for text in found.unsettled]

    def step(self) -> Written | Wait | LookBack:
        """Write the next blocks, or take back those that were replaced, or find nothing to do.

        Raises Fenced, FinalityViolated, NoAnswer."""
        head, finalized = self._source.head(), self._final_height()
        try:
            todo = plan(self.position, head, finalized, self._child(head, finalized))
            match todo:
                case AdvanceRange(low, high):
                    return self._advance(self._reader.range(low, high), finalized)
                case AdvanceBlock() if (other := self._other_final(finalized)) is not None:
                    return self._rewind(other)
                case AdvanceBlock(block):
                    return self._advance(self._reader.block(block), finalized)
                case LookBack():
                    return self._rewind(todo)
                case Wait():
                    return todo
        except BlockUnknown:  # replaced meanwhile, or not there yet: look at the chain again now
            return Wait()

    def _final_height(self) -> int:
        now = time.monotonic()
        if now - self._finalized_at >= FINALIZED_EVERY_SECONDS:
            self._finalized = self._source.finalized()
            self._finalized_at = now
        return max(self._finalized, self.position.finalized_block)

    def _other_final(self, finalized: int) -> LookBack | None:
        """The block that became final must be the one that we hold, or we would hold to a branch
        as final that is not: the head may come from an endpoint that has not left it yet."""
        if finalized <= self.position.finalized_block:
            return None
        ours = chain_rows.blocks_down(self._connection, self._chain, finalized + 1, 1)[0]
        theirs = self._source.header(finalized)
        if theirs.hash == ours.hash:
            return None
        return LookBack(f"the final block {finalized} is {theirs.hash}, not {ours.hash}")

    def _child(self, head: BlockRef, finalized: int) -> BlockRef | None:
        number = self.position.next_block
        if number <= finalized or number > head.number:
            return None
        return head if head.number == number else self._source.header(number)

    def _advance(self, reading: Reading, finalized: int) -> Written | Wait | LookBack:
        first = reading.found.first
        if first.parent_hash != self.position.tip_hash:
            why = f"block {first.number} {first.hash} is no child of {self.position.tip_hash}"
            return self._rewind(LookBack(why))
        final_before = self.position.finalized_block
        try:
            written = write(
                self._connection, self._decoder, self._venues, reading,
                at=self.position, finalized=finalized,
            )  # fmt: skip
        except Exception:
            self._remember_if_connected()
            raise
        assert written.position is not None
        self.position = written.position
        rows = reading.step.liquidations()
        tokens.store(self._connection, self._assets.ask(rows))
        if rows:
            oldest = min(row.block_number for row in rows)
            self._wrote(chain_rows.utc(reading.found.times[oldest]))
        final = min(self.position.finalized_block, self.position.next_block - 1)  # not our tip
        if final > final_before:
            chain_coverage.prune_blocks(self._connection, self._chain, final_before, final)
        return written

    def _remember_if_connected(self) -> None:
        if not self._connection.closed and not self._connection.broken:
            self._remember()

    def _rewind(self, seen: LookBack) -> LookBack | Wait:
        """Take back what the chain replaced, once a second look agrees that it did."""
        ancestor = self._ancestor()
        if ancestor.number == self.position.next_block - 1:
            self._remember()  # and not what was learnt from the blocks that are not written now
            return Wait()  # the second look does not agree: an endpoint showed another branch
        tip = self.position.next_block - 1
        with self._connection.transaction():
            self.position = chain_coverage.rewind(
                self._connection, self.position, ancestor, tip, seen.why
            )
        self._remember()
        return LookBack(f"{tip - ancestor.number} blocks above {ancestor.number}: {seen.why}")

    def _ancestor(self) -> BlockRef:
        """The highest stored block that the chain has too; raises FinalityViolated when all that
        may change were replaced."""
        below = self.position.next_block
        while True:
            stored = chain_rows.blocks_down(self._connection, self._chain, below, LOOK_BACK_BLOCKS)
            theirs = {one.number: one for one in self._source.headers([b.number for b in stored])}
            for block in stored:
                if theirs[block.number].hash == block.hash:
                    return block
                if block.number <= self.position.finalized_block:
                    raise self._stopped(block)
            below = stored[-1].number


class Pace:
    """When to look for the next block: soon before it is due, then often. In seconds.

    The time between blocks is what we see, at first what the chain's profile says."""

    def __init__(self, block_seconds: float) -> None:
        self._interval = block_seconds
        self._seen_at = time.monotonic()

    def saw_blocks(self, count: int) -> None:
        """Learn from blocks that have come: at once when they come faster, since we may have slept
        over the next one already."""
        now = time.monotonic()
        seen = (now - self._seen_at) / max(count, 1)
        self._interval += (seen - self._interval) * (1.0 if seen < self._interval else 0.1)
        self._seen_at = now

    def pause(self) -> float:
        """How long to wait when there is nothing to read."""
        due_in = self._seen_at + 0.9 * self._interval - time.monotonic()
        return min(max(due_in, self._interval / 25, 0.005), 5.0)


class Watch(Wake, Protocol):
    """Announces blocks; while it does, there is no need to ask often."""

    is_connected: bool


def follow(
    connect: Callable[[], Connection],
    source: EvmSource,
    decoder: Decoder,
    venues: Sequence[str],
    *,
    is_over: Callable[[], bool],
    say: Callable[[str], None],
    wake: Watch,
    check_seconds: float = CHECK_EVERY_SECONDS,
    wrote: Wrote = nobody,
) -> None:
    """Follow a chain until told to stop; connections that break are made anew.

    Raises Fenced when another process takes over, FinalityViolated when the chain must stop."""
    follower: Follower | None = None
    cool = COOL_SECONDS
    while not is_over():
        try:
            with connect() as connection:
                if follower is None:
                    if not _wait_for_turn(connection, source.profile.name, is_over, say, wake):
                        return
                    follower = Follower(connection, source, decoder, venues, wrote)
                else:
                    follower.reconnect(connection)
                cool = COOL_SECONDS
                _Run(follower, say, wake, check_seconds).until(is_over)
        except Conflict as error:  # what we hold and what the chain says now cannot both be right
            with connect() as connection:
                chain_coverage.stop(connection, source.profile.name, str(error))
            raise
        except (OperationalError, ConfigError, SourceFault) as error:
            if follower is None and isinstance(error, ConfigError | NotServed):
                raise
            say(f"{source.profile.name}: {_first_line(error)}; trying again in {cool:.0f} s")
            wake.wait(cool)
            cool = min(cool * 2, MOST_COOL_SECONDS)


def _wait_for_turn(
    connection: Connection,
    chain: str,
    is_over: Callable[[], bool],
    say: Callable[[str], None],
    wake: Watch,
) -> bool:
    """Wait while another process follows the chain; false when we are told to stop meanwhile."""
    if not chain_coverage.has_turn(connection, chain):
        say(f"{chain}: another process follows it; waiting for it to end")
        while not chain_coverage.has_turn(connection, chain):
            if is_over():
                return False
            wake.wait(TURN_SECONDS)
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class _Run:
    """Steps of one follower over one connection."""

    def __init__(
        self, follower: Follower, say: Callable[[str], None], wake: Watch, check_seconds: float
    ) -> None:
        self._follower = follower
        self._say = say
        self._wake = wake
        self._pace = Pace(follower.block_seconds)
        self._check_seconds = check_seconds
        self._next_check = time.monotonic() + check_seconds
        self._complaint = ""

    def until(self, is_over: Callable[[], bool]) -> None:
        """Step until told to stop; what an endpoint fails to answer is asked again."""
        while not is_over():
            started = time.monotonic()
            try:
                outcome = self._follower.step()
                self._complaint = ""
            except SourceFault as fault:
                self._complain(str(fault))
                continue
            self._tell(outcome, started)
            if isinstance(outcome, Wait):
                self._rest()

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._say(f"fault: {text}")
            self._complaint = text
        self._wake.wait(self._pace.pause())

    def _tell(self, outcome: Written | Wait | LookBack, started: float) -> None:
        name = self._follower.chain
        match outcome:
            case LookBack(why):
                self._say(f"chain={name} reorg: {why}")
            case Written(position, counts):
                self._pace.saw_blocks(counts["blocks"])
                if position and (any(counts[key] for key in counts if key != "blocks")):
                    fields = " ".join(f"{key}={count}" for key, count in sorted(counts.items()))
                    milliseconds = round(1000 * (time.monotonic() - started))
                    self._say(
                        f"chain={name} to={position.next_block - 1} {fields} ms={milliseconds}"
                    )

    def _rest(self) -> None:
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + self._check_seconds
            self._look_again()
        pause = self._pace.pause()
        self._wake.wait(
            max(pause, self._follower.block_seconds) if self._wake.is_connected else pause
        )

    def _look_again(self) -> None:
        """Ask for what events wait for, and read what became final a second time."""
        try:
            for text in self._follower.look_again():
                self._say(f"chain={self._follower.chain} {text}")
        except SourceFault as fault:
            self._complain(str(fault))
