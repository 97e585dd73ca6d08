"""Campaigns against the follower: a model chain and a real database lead it through a random life.

One seed is one history of mining, forks, lies, crashes, take-overs, backfills, checks and
redecodings. During it the database must be true to the branch that it holds; at its end, with
honest nodes, it must be equal to what the model knows.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus

from indexer.chain import check, follow, redecode, sync
from indexer.chain.follow import Follower
from indexer.chain.sync import Written
from indexer.decode import Decoder
from indexer.errors import Conflict, Fenced, FinalityViolated, SourceFault
from indexer.evm_model import Position, ShareRate
from indexer.plan import Wait
from indexer.sources.chains import BY_NAME, ChainProfile
from indexer.sources.endpoints import MOST_COOL_SECONDS
from indexer.sources.evm import EvmSource
from indexer.sources.rpc import Clock
from indexer.store import chain_rows, database
from indexer.store.database import Connection
from indexer.venues.evm import with_deployments
from tests.chain_model import faults
from tests.chain_model.chain import OFTEN, WITH_PERPETUALS, Block, Config, ModelChain
from tests.chain_model.events import (
    ABSORB_DEBT,
    LIQUIDATE,
    LIQUIDATE_POSITION,
    LIQUIDATION_CALL,
    Row,
    Stranger,
)
from tests.chain_model.events import ETHEREUM as PLACES
from tests.chain_model.faults import Faults
from tests.chain_model.node import Node, View, comet_of
from tests.chain_model.serve import Request, Result
from tests.evm_logs import DECODER, SPECS

VENUES = ("aave_v2.ethereum", "comet.ethereum", "morpho_blue.ethereum")
PERPETUALS = "gmx_v1.ethereum"
DEPTH = 8  # blocks below the head are final in the model
HISTORY = 20  # blocks before the follower begins
UTC = 1_800_000_000.0  # after every block of the model
ETHEREUM = BY_NAME["ethereum"]

T = TypeVar("T")


class Crash(BaseException):
    """The process dies here; nothing in the code under test may catch it."""


class Fuse:
    """Burns down by one at each point that a process can die at, when it was lit; or dies at the
    point `cut`."""

    def __init__(self, cut: str = "") -> None:
        self.cut = cut
        self.left: int | None = None
        self.burnt: Counter[str] = Counter()

    def reach(self, point: str) -> None:
        """Die here if it is time."""
        if point == self.cut:
            self.cut = ""
            raise Crash(point)
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.burnt[point] += 1
            raise Crash(point)


class FragileConnection(psycopg.Connection[tuple[object, ...]]):
    """Dies before and after each statement of a transaction, and before and after its commit."""

    fuse: Fuse

    @contextmanager
    def transaction(self, *arguments: Any, **named: Any) -> Iterator[psycopg.Transaction]:
        """A transaction with points to die at; a savepoint has none."""
        if self.info.transaction_status is not TransactionStatus.IDLE:
            with super().transaction(*arguments, **named) as opened:
                yield opened
            return
        self.fuse.reach("after fetch")
        with super().transaction(*arguments, **named) as opened:
            yield opened
            self.fuse.reach("before commit")
        self.fuse.reach("after commit")


class FragileCursor(psycopg.Cursor[tuple[object, ...]]):
    """Tells the fuse of its connection what was written."""

    def _wrote(self, query: Any) -> None:
        text = query if isinstance(query, str) else query.as_string(self.connection)
        written = re.search(r"(UPDATE|INSERT INTO|COPY) \"?ledger\"?\.\"?(\w+)", text)
        fuse = self.connection.fuse  # type: ignore[attr-defined]
        if written and fuse:
            fuse.reach(f"after {written[2]}")

    def execute(self, query: Any, *arguments: Any, **named: Any) -> "FragileCursor":
        """As the cursor does."""
        super().execute(query, *arguments, **named)
        self._wrote(query)
        return self

    def executemany(self, query: Any, *arguments: Any, **named: Any) -> None:
        """As the cursor does."""
        super().executemany(query, *arguments, **named)
        self._wrote(query)

    @contextmanager
    def copy(self, statement: Any, *arguments: Any, **named: Any) -> Iterator[psycopg.Copy]:
        """As the cursor does."""
        with super().copy(statement, *arguments, **named) as stream:
            yield stream
        self._wrote(statement)


def connect(conninfo: str, fuse: Fuse) -> FragileConnection:
    """As `database.connect`; it dies when the fuse has burnt down."""
    FragileConnection.fuse = fuse
    opened = FragileConnection.connect(conninfo, autocommit=True, cursor_factory=FragileCursor)
    opened.fuse = fuse
    opened.execute("SET TIME ZONE 'UTC'")
    return opened


class RestlessNode(Node):
    """A node inside which something happens just before the call with a certain number from now
    on is answered: a fork during a poll."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._due: tuple[int, Callable[[], None]] | None = None

    def before_call(self, number: int, happens: Callable[[], None]) -> None:
        """Let it happen before the call with this number, once."""
        self._due = number, happens

    def rest(self) -> None:
        """Nothing happens any more."""
        self._due = None

    def call(self, request: Request, view: View) -> Result:
        """As the node does."""
        if self._due is not None:
            left, happens = self._due
            self._due = (left - 1, happens) if left else None
            if not left:
                happens()
        return super().call(request, view)


class StillClock:
    """Time passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        """What a source takes."""
        return Clock(now=lambda: self.seconds, sleep=self.sleep, utc=lambda: UTC)


# what is stored


ROWS = """
    SELECT l.venue, l.tx_hash, l.log_index, l.block_number, b.hash, l.account, l.liquidator,
           l.market, l.repaid_asset, l.repaid_raw, l.seized_asset, l.seized_raw, l.method, l.part
    FROM (
        SELECT chain, venue, tx_hash, log_index, block_number, account, liquidator, market,
               repaid_asset, repaid_raw, seized_asset, seized_raw, method, part
        FROM liq.lending_liquidations
        UNION ALL
        SELECT ledger.chain_of(venue), venue, tx_hash, split_part(event_key, '/', 2)::int,
               block_number, account, liquidator, market, quote, notional_entry * 10::numeric ^ 30,
               NULL, NULL, method, 0
        FROM ledger.liquidation
    ) l
    LEFT JOIN ledger.block b ON (b.chain, b.block_number) = (l.chain, l.block_number)
    ORDER BY l.block_number, l.log_index, l.part, l.venue
"""
STRANGERS = """
    SELECT left(q.event_key, 66), split_part(q.event_key, '/', 2)::int, q.block_number, b.hash,
           q.emitter, q.topic0
    FROM liq.quarantine q LEFT JOIN ledger.block b USING (chain, block_number)
    ORDER BY q.block_number, 2
"""


def _all(connection: Connection, query: Any, *values: object) -> list[Any]:
    return connection.execute(query, values).fetchall()


def rows(connection: Connection) -> list[Row]:
    """All liquidations, in the order of the chain."""
    return [Row(*row) for row in _all(connection, ROWS)]


def strangers(connection: Connection) -> list[Stranger]:
    """All that is quarantined, in the order of the chain."""
    return [Stranger(*row) for row in _all(connection, STRANGERS)]


def ordered(found: Iterable[Row]) -> list[Row]:
    """Rows in the order of the chain."""
    return sorted(found, key=lambda row: (row.block_number, row.log_index, row.part, row.venue))


class Range(NamedTuple):
    """Blocks of a venue that are covered; `agrees` says that logs and digest are those stored."""

    venue: str
    block_from: int
    block_to: int
    parent_hash: str
    last_hash: str
    proof: str
    agrees: bool


def coverage(connection: Connection) -> list[Range]:
    """All coverage, by venue and height."""
    query = """
        SELECT venue, block_from, block_to, parent_hash, last_hash, verification,
               (logs, digest) = (SELECT c.logs, c.digest
                                 FROM ledger.counted(venue, int8range(block_from, block_to)) c)
        FROM liq.coverage ORDER BY 1, 2
    """
    return [Range(*row) for row in _all(connection, query)]


TABLES = (
    *("stream", "block", "raw_log", "lending_liquidation", "liquidation", "undecoded"),
    *("quarantine", "fact", "asset", "share_rate", "coverage", "check_run", "reorg"),
)


def fingerprint(connection: Connection) -> dict[str, Any]:
    """A sum over each table that changes when a row does."""
    query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {} t")
    return {
        table: _all(connection, query.format(sql.Identifier("ledger", table)))[0]
        for table in TABLES
    }


def data_of(connection: Connection) -> dict[str, Any]:
    """The same without how far the chain is followed, by whom, and why not."""
    return {table: sum_of for table, sum_of in fingerprint(connection).items() if table != "stream"}


# what must hold at any time

# I5, no gaps, is what coverage must be at the end. A revived branch makes orphans canonical again,
# so that I10 asks that a journal keeps to the blocks of its reorg.
INVARIANTS = {
    "I1 stored neighbours are linked": """
        SELECT b.chain, b.block_number FROM ledger.block b JOIN ledger.block p
            ON p.chain = b.chain AND p.block_number = b.block_number - 1
        WHERE b.parent_hash <> p.hash""",
    "I2 the position is the tip": """
        SELECT s.chain, s.next_block FROM ledger.stream s LEFT JOIN ledger.block b
            ON b.chain = s.chain AND b.block_number = s.next_block - 1
        WHERE b.hash IS DISTINCT FROM s.tip_hash""",
    "I3 nothing is beyond the position": """
        SELECT found.* FROM ledger.stream s, LATERAL (
            SELECT 'row' AS what, block_number FROM ledger.lending_liquidation
                WHERE ledger.chain_of(venue) = s.chain
            UNION ALL SELECT 'perpetual', block_number FROM ledger.liquidation
                WHERE ledger.chain_of(venue) = s.chain
            UNION ALL SELECT 'undecoded', block_number FROM ledger.undecoded
                WHERE ledger.chain_of(venue) = s.chain
            UNION ALL SELECT 'log', block_number FROM ledger.raw_log r WHERE r.chain = s.chain
            UNION ALL SELECT 'stranger', block_number FROM ledger.quarantine q
                WHERE q.chain = s.chain
            UNION ALL SELECT 'block', block_number FROM ledger.block b WHERE b.chain = s.chain
            UNION ALL SELECT 'coverage', upper(blocks) - 1 FROM ledger.coverage
                WHERE ledger.chain_of(venue) = s.chain
        ) found WHERE found.block_number >= s.next_block""",
    "I4 no row is without its block": """
        SELECT found.* FROM (
            SELECT chain, block_number, NULL::timestamptz AS block_at FROM ledger.raw_log
            UNION ALL SELECT chain, block_number, block_at FROM ledger.quarantine
            UNION ALL SELECT ledger.chain_of(venue), block_number, block_at
                FROM ledger.lending_liquidation
            UNION ALL SELECT ledger.chain_of(venue), block_number, block_at
                FROM ledger.liquidation
            UNION ALL SELECT ledger.chain_of(venue), block_number, block_at FROM ledger.undecoded
        ) found LEFT JOIN ledger.block b USING (chain, block_number)
        WHERE b.hash IS NULL OR b.block_at <> found.block_at""",
    "I6 seams are on one chain": """
        SELECT a.venue, a.blocks FROM ledger.coverage a JOIN ledger.coverage b
            ON (b.venue, b.facts) = (a.venue, a.facts) AND lower(b.blocks) = upper(a.blocks)
        WHERE b.parent_hash <> a.last_hash""",
    "I7 coverage counts the logs that are there": """
        SELECT v.venue, v.blocks, v.logs, x.logs FROM ledger.coverage v
            CROSS JOIN LATERAL ledger.counted(v.venue, v.blocks) x
        WHERE (x.logs, x.digest) <> (v.logs, v.digest)""",
    "I7 a log of a venue is covered": """
        SELECT r.venue, r.block_number FROM ledger.raw_log r WHERE r.venue IS NOT NULL
            AND NOT EXISTS (SELECT FROM ledger.coverage v
                            WHERE v.venue = r.venue AND v.blocks @> r.block_number)""",
    "I8 a log is a row, undecoded or in quarantine": """
        SELECT r.block_number, r.log_index FROM ledger.raw_log r,
            LATERAL (SELECT '0x' || encode(r.tx_hash, 'hex') || '/' || r.log_index AS key) k
        WHERE substr(r.topics, 1, 32) = ANY(%s) AND (r.venue IS NOT NULL OR NOT r.is_whole)
            AND NOT EXISTS (SELECT FROM ledger.lending_liquidation l
                            WHERE (l.venue, l.event_key) = (r.venue, k.key))
            AND NOT EXISTS (SELECT FROM ledger.liquidation l
                            WHERE (l.venue, l.event_key) = (r.venue, k.key))
            AND NOT EXISTS (SELECT FROM ledger.undecoded u
                            WHERE (u.venue, u.event_key) = (r.venue, k.key))
            AND NOT EXISTS (SELECT FROM ledger.quarantine q
                            WHERE (q.chain, q.event_key) = (r.chain, k.key))""",
    "I9 time does not run backwards": """
        SELECT b.chain, b.block_number FROM ledger.block b JOIN ledger.block p
            ON p.chain = b.chain AND p.block_number = b.block_number - 1
        WHERE b.block_at < p.block_at""",
    "I10 a journal holds blocks of its reorg": """
        SELECT o.reorg_id, o.block_number FROM (
            SELECT reorg_id, block_number FROM ledger.orphan_lending_liquidation
            UNION ALL SELECT reorg_id, block_number FROM ledger.orphan_liquidation
        ) o JOIN ledger.reorg g USING (reorg_id)
        WHERE NOT (o.block_number > g.ancestor AND o.block_number <= g.old_tip)""",
}
LIQUIDATING = [
    bytes.fromhex(topic[2:])
    for topic in (LIQUIDATION_CALL, LIQUIDATE, ABSORB_DEBT, LIQUIDATE_POSITION)
]


def broken_invariants(connection: Connection) -> dict[str, list[Any]]:
    """The invariants that do not hold, with the first rows against each."""
    found = {
        name: _all(connection, query, *([LIQUIDATING] if "%s" in query else []))[:3]
        for name, query in INVARIANTS.items()
    }
    return {name: against for name, against in found.items() if against}


def branch_of(chain: ModelChain, tip_hash: str) -> dict[int, Block]:
    """The blocks from a tip down, by height, as the model knows them."""
    found: dict[int, Block] = {}
    block = chain.known.get(tip_hash)
    while block is not None:
        found[block.number] = block
        block = chain.known.get(block.parent_hash)
    return found


PROVED = ("negative_bloom", "receipts", "bloom_or_receipts")


def untrue_promises(connection: Connection, chain: ModelChain) -> dict[str, list[Any]]:
    """What the database says against the branch of its own tip: rows that are not there, rows that
    are missing where coverage calls the reading proved, ends of ranges that are on no branch."""
    ((tip_hash,),) = _all(connection, "SELECT tip_hash FROM ledger.stream")
    branch = branch_of(chain, tip_hash)
    covered = coverage(connection)
    stored = set(rows(connection))
    waiting = set(
        _all(connection, "SELECT venue, left(event_key, 66), block_number FROM ledger.undecoded")
    )
    name = chain.config.chain
    due = {row for one in covered if one.proof in PROVED for row in _rows(branch, name, one)}
    missing = {
        row for row in due - stored if (row.venue, row.tx_hash, row.block_number) not in waiting
    }
    truth = {row for block in branch.values() for row in block.rows(name)}
    ends = [
        one
        for one in covered
        if one.block_to - 1 not in branch
        or (branch[one.block_from].parent_hash, branch[one.block_to - 1].hash)
        != (one.parent_hash, one.last_hash)
    ]
    found = {
        "missing": ordered(missing),
        "invented": ordered(stored - truth),
        "ends": ends,
        "facts": _orphaned_facts(connection, branch),
        "share rates": _orphaned_rates(connection, branch),
    }
    return {what: against[:3] for what, against in found.items() if against}


def _orphaned_facts(connection: Connection, branch: dict[int, Block]) -> list[Any]:
    query = """
        SELECT subject, block_number, left(event_key, 66) FROM ledger.fact
        WHERE event_key IS NOT NULL
    """
    return [
        fact
        for fact in _all(connection, query)
        if fact[1] not in branch
        or fact[2] not in {one.transaction.hash for one in branch[fact[1]].receipts}
    ]


def _orphaned_rates(connection: Connection, branch: dict[int, Block]) -> list[Any]:
    return [
        rate
        for rate in _all(connection, "SELECT block_number, shares_raw FROM ledger.share_rate")
        if rate[0] not in branch or rate[1] != 1 + int(branch[rate[0]].hash[:12], 16)
    ]


def _rows(branch: dict[int, Block], name: str, covered: Range) -> Iterator[Row]:
    for number in range(covered.block_from, covered.block_to):
        if number in branch:
            yield from (row for row in branch[number].rows(name) if row.venue == covered.venue)


def untrue_journal(connection: Connection, chain: ModelChain) -> list[Any]:
    """Rows in the journals of reorgs that the model's orphaned blocks do not have, or the other
    way round, apart from transactions with an event that was still undecoded."""
    blocks = _all(connection, "SELECT reorg_id, hash FROM ledger.orphan_block")
    waiting = set(
        _all(connection, "SELECT reorg_id, venue, left(event_key, 66) FROM ledger.orphan_undecoded")
    )
    expected = {
        (reorg_id, row.venue, row.tx_hash, row.log_index)
        for reorg_id, block_hash in blocks
        for row in chain.known[block_hash].rows(chain.config.chain)
    }
    query = """
        SELECT reorg_id, venue, left(event_key, 66), split_part(event_key, '/', 2)::int
        FROM (SELECT reorg_id, venue, event_key FROM ledger.orphan_lending_liquidation
              UNION ALL SELECT reorg_id, venue, event_key FROM ledger.orphan_liquidation) rows
        WHERE reorg_id IN (SELECT reorg_id FROM ledger.orphan_block)
    """
    differ = expected ^ set(_all(connection, query))
    return sorted(row for row in differ if row[:3] not in waiting)


# the campaign


class World(NamedTuple):
    """A chain and the nodes that serve it, of which the first may lie; one source for them all."""

    chain: ModelChain
    nodes: tuple[RestlessNode, ...]
    source: EvmSource
    clock: StillClock

    def become_honest(self) -> None:
        """From now on nodes say what is, and nothing happens inside them."""
        for node in self.nodes:
            node.faults.chances.clear()
            node.rest()
        self.clock.sleep(MOST_COOL_SECONDS)


@contextmanager
def world(
    chain: ModelChain,
    lies: Sequence[Faults],
    profile: ChainProfile = ETHEREUM,
    *,
    keeps_orphans: bool = True,
) -> Iterator[World]:
    """A node for each of some faults, and a source whose time passes only by sleeping."""
    views = [View(chain, keeps_orphans=keeps_orphans)]
    with ExitStack() as stack:
        nodes = tuple(
            stack.enter_context(RestlessNode(views, faults=one, calls=comet_of(chain)))
            for one in lies
        )
        still = StillClock()
        source = EvmSource(profile, [node.url for node in nodes], clock=still.clock)
        yield World(chain, nodes, stack.enter_context(closing(source)), still)


WORLDLY = (faults.TRANSPORT, faults.HEADS, faults.BLOCKS)
SETTINGS = {
    "one endpoint, honest receipts": ((*WORLDLY, faults.LOGS),),
    "two endpoints, one lies about logs": ((*WORLDLY, faults.LOGS), ()),
    "two endpoints, one lies about receipts": ((*WORLDLY, faults.RECEIPTS), ()),
}


def chances(chance: float, groups: Iterable[Sequence[faults.Fault]]) -> dict[faults.Fault, float]:
    """A request fails or lies with this chance in each way, about logs and receipts more often:
    those are the lies that cost rows."""
    often = {*faults.LOGS, *faults.RECEIPTS}
    ways = [fault for group in groups for fault in group]
    return {fault: chance * (6 if fault in often else 1) for fault in ways}


@cache
def with_vault() -> Decoder:
    """All protocols, and the model's vault, as a user's file would name it."""
    contract = {"protocol": "gmx_v1", "chain": "ethereum", "role": "vault"}
    file = msgspec.json.encode([{**contract, "address": PLACES.vault, "source": "made up"}])
    return Decoder(with_deployments(SPECS, file))


def venues_of(chain: ModelChain) -> tuple[str, ...]:
    """What an indexer of a model chain follows."""
    return (*VENUES, PERPETUALS) if "perpetual" in chain.config.often else VENUES


class Campaign:
    """One random life of an indexer. `tally` counts what happened in it; `lies` is the chance of
    each fault and lie in a request, drawn where it is not given. With perpetuals there is a vault
    of GMX's on the chain, of some of whose closes only the transaction tells what they are."""

    def __init__(
        self,
        conninfo: str,
        seed: int,
        *,
        actions: int = 60,
        lies: float | None = None,
        has_perpetuals: bool = False,
    ) -> None:
        self.seed = seed
        self.tally: Counter[str] = Counter()
        self._conninfo = conninfo
        self._actions = actions
        self._rng = random.Random(seed)
        self._fuse = Fuse()
        self._setting = list(SETTINGS)[seed % len(SETTINGS)]
        often = WITH_PERPETUALS if has_perpetuals else OFTEN
        self._chain = ModelChain(Config(seed=seed, depth=DEPTH, most_transactions=3, often=often))
        self._venues = venues_of(self._chain)
        self._decoder = with_vault() if has_perpetuals else DECODER
        self._chain.mine(HISTORY)
        drawn = self._rng.choice((0.0, 0.01, 0.03))
        self._lies = drawn if lies is None else lies
        self._follower: Follower | None = None
        self._open: list[Connection] = []
        self._judge = database.connect(conninfo)

    def run(self) -> None:
        """Live, and compare; raises AssertionError with the seed at the first difference."""
        random.seed(self.seed)  # endpoints choose their waits at random
        lies = [
            Faults(chances(self._lies, groups), seed=self.seed + at)
            for at, groups in enumerate(SETTINGS[self._setting])
        ]
        width = self._rng.choice((3, 7, 1_000))
        profile = msgspec.structs.replace(ETHEREUM, first_width=width, most_width=2 * width)
        try:
            with pytest.MonkeyPatch.context() as patch, world(self._chain, lies, profile) as found:
                patch.setattr(follow, "FINALIZED_EVERY_SECONDS", 0.0)
                self._world = found
                self._live()
                self._count_lies()
                self._end()
        finally:
            for connection in (*self._open, self._judge):
                connection.close()

    def _live(self) -> None:
        doings = {
            self._mine: 5, self._fork: 3, self._siblings: 1, self._revive: 1, self._steps: 12,
            self._backfill: 2, self._check: 1, self._redecode: 1, self._look_again: 1,
            self._take_over: 1,
        }  # fmt: skip
        for _ in range(self._actions):
            self._rng.choices(list(doings), list(doings.values()))[0]()
            self._world.clock.sleep(ETHEREUM.block_seconds)
            self._expect_truth_of_what_is_held()

    def _count_lies(self) -> None:
        for node in self._world.nodes:
            self.tally["lies"] += node.faults.served.total()
        self.tally["crashes"] = self._fuse.burnt.total()
        self.tally.update({f"crash {point}": n for point, n in self._fuse.burnt.items()})

    # the chain

    def _mine(self) -> None:
        self._chain.mine(self._rng.randint(1, 3))

    def _fork(self) -> None:
        most = min(self._chain.head.number - self._chain.finalized, DEPTH)
        if most:
            depth = self._rng.choice((1, self._rng.randint(1, most), most))
            self._chain.fork(depth, depth + self._rng.choice((0, 0, 1, 2, 9)))
            self.tally["forks"] += 1

    def _siblings(self) -> None:
        most = min(self._chain.head.number - self._chain.finalized, 3)
        if most:
            self._chain.siblings([self._rng.random() < 0.5 for _ in range(most)])
            self.tally["forks"] += 1

    def _revive(self) -> None:
        """Return to the branch before the last fork, where finality and its height allow it."""
        old = self._chain.abandoned[-1].head if self._chain.abandoned else None
        if old is None or self._chain.branch.has(old) or old.number < self._chain.head.number:
            return
        block = old
        while not self._chain.branch.has(block):
            block = self._chain.known[block.parent_hash]
        if block.number >= self._chain.finalized:
            self._chain.revive(old.hash)
            self.tally["revived"] += 1

    # the indexer

    def _connection(self) -> Connection:
        self._open.append(connect(self._conninfo, self._fuse))
        return self._open[-1]

    def _something_happens(self) -> None:
        """Maybe during the next poll, and maybe the process will die soon."""
        if self._rng.random() < 0.4:
            happens = self._rng.choice((self._mine, self._fork, self._fork, self._revive))
            node = self._rng.choice(self._world.nodes)
            node.before_call(self._rng.randrange(12), happens)
        if self._rng.random() < 0.35:
            self._fuse.left = self._rng.randrange(14)

    def _survived(self, does: Callable[[], T]) -> T | None:
        """What it gives; None when it died or no endpoint answered, of which it must recover."""
        self._something_happens()
        try:
            return does()
        except Crash:
            self._die()
        except SourceFault:
            self.tally["no answer"] += 1
        except FinalityViolated:  # two lies about the same final block; a new start may go on
            self._follower = None
            self.tally["false alarms"] += 1
            assert self._lies, f"seed {self.seed}: no node lied"
        finally:
            self._fuse.left = None
        return None

    def _die(self) -> None:
        """The server notices that the connections are gone; a follower is told or made anew."""
        while self._open:
            self._open.pop().close()
        follower, self._follower = self._follower, None
        if follower is not None and self._rng.random() < 0.5:
            follower.reconnect(self._connection())
            self._follower = follower

    def _alive(self) -> Follower | None:
        if self._follower is None:
            self._follower = self._survived(self._begun)
        return self._follower

    def _begun(self) -> Follower:
        return Follower(self._connection(), self._world.source, self._decoder, self._venues)

    def _steps(self) -> None:
        for _ in range(self._rng.randint(1, 4)):
            follower = self._alive()
            if follower is not None:
                outcome = self._survived(follower.step)
                self.tally[type(outcome).__name__] += 1
                if isinstance(outcome, Written) and outcome.position:
                    self._value_shares(outcome.position)

    def _value_shares(self, at: Position) -> None:
        """What shares are worth at the tip, as a row would ask; here it tells the block's hash."""
        rate = ShareRate(at.chain, "0x", at.next_block - 1, None, 1 + int(at.tip_hash[:12], 16), 1)
        chain_rows.append_share_rates(self._judge, [(rate, at.tip_hash)])

    def _some_blocks(self) -> tuple[int, int]:
        first, head = self._chain.branch.blocks[0].number, self._chain.head.number
        low, high = sorted(self._rng.choices(range(first, head + 2), k=2))
        return low, high

    def _backfill(self) -> None:
        venues = self._rng.sample(self._venues, self._rng.randint(1, 3))
        low, high = self._some_blocks()
        self.tally["backfills"] += 1
        try:
            self._survived(
                lambda: sync.backfill(
                    self._connection(), self._world.source, self._decoder, venues, low, high
                )
            )
        except Conflict:
            self.tally["conflicts"] += 1

    def _check(self) -> None:
        low, high = self._some_blocks()
        found = self._survived(
            lambda: check.check(
                self._connection(), self._world.source, self._decoder, self._venues, low, high
            )
        )
        self.tally["checks"] += 1
        if found:
            self.tally["corrected"] += found.missing + found.untrue

    def _redecode(self) -> None:
        venues = self._rng.sample(self._venues, self._rng.randint(1, 3))
        self._survived(lambda: redecode.redecode(self._connection(), self._decoder, venues))
        self.tally["redecodings"] += 1

    def _look_again(self) -> None:
        follower = self._alive()
        if follower is not None:
            self._survived(follower.look_again)

    def _take_over(self) -> None:
        """A second follower begins; the first can write no more."""
        old, self._follower = self._alive(), None
        new = self._alive()
        if old is None or new is None or old is new:
            return
        self.tally["take-overs"] += 1
        self._chain.mine()
        before = fingerprint(self._judge)
        outcomes = [self._fenced(old) for _ in range(4)]
        assert fingerprint(self._judge) == before, f"seed {self.seed}: {outcomes}"

    def _fenced(self, old: Follower) -> str:
        try:
            return type(old.step()).__name__
        except (Fenced, SourceFault) as refused:
            self.tally[f"take-over: {type(refused).__name__}"] += 1
            return str(refused)

    # the truth

    def _expect_truth_of_what_is_held(self) -> None:
        if _all(self._judge, "SELECT FROM ledger.stream"):
            wrong = broken_invariants(self._judge) | untrue_promises(self._judge, self._chain)
            assert wrong == {}, f"seed {self.seed}: {wrong}"

    def _end(self) -> None:
        """Honest nodes, no crashes: everything must come out right."""
        self._world.become_honest()
        connection, source = self._connection(), self._world.source
        follower = Follower(connection, source, self._decoder, self._venues)
        catch_up(follower)
        first, head = self._chain.branch.blocks[0].number, self._chain.head.number
        sync.backfill(connection, source, self._decoder, self._venues, first, head + 1)
        self._expect_truth_of_what_is_held()
        check.check(connection, source, self._decoder, self._venues, first, head + 1)
        redecode.settle(connection, source, self._decoder)
        again = redecode.redecode(connection, self._decoder, self._venues)
        assert again["changed"] == 0, f"seed {self.seed}: rows do not follow from what is stored"
        self._expect_truth_of_what_is_held()
        wrong = differences(connection, self._chain)
        assert wrong == {}, f"seed {self.seed}: {wrong}"
        self.tally |= counts(connection)
        self._break_finality(follower)

    def _break_finality(self, follower: Follower) -> None:
        """A fork below the finalized height stops the chain, and the data stays as it is."""
        before = data_of(self._judge)
        self._chain.fork(DEPTH + 2, DEPTH + 3, breaks_finality=True)
        for does in (follower.step, self._begun):
            with pytest.raises(FinalityViolated):
                does()
        assert data_of(self._judge) == before, f"seed {self.seed}: final rows were changed"


def catch_up(follower: Follower) -> list[str]:
    """Step until there is nothing to do; what was done."""
    done: list[str] = []
    while not isinstance(outcome := follower.step(), Wait):
        done.append(type(outcome).__name__)
        assert len(done) < 1_000, "it never comes to rest"
    return done


def counts(connection: Connection) -> Counter[str]:
    """Figures of a life for the report."""
    ((reorgs, deepest, orphaned),) = _all(
        connection,
        "SELECT count(*), coalesce(max(depth), 0), coalesce(sum(liquidations), 0) FROM liq.reorgs",
    )
    ((calls,),) = _all(connection, "SELECT count(*) FROM ledger.fact WHERE fact = 'transaction'")
    return Counter(
        reorgs=reorgs, deepest=deepest, orphaned=int(orphaned), rows=len(rows(connection)),
        calls=calls,
    )  # fmt: skip


def differences(connection: Connection, chain: ModelChain) -> dict[str, list[Any]]:
    """Where the database is not equal to the model, from its first block to its head."""
    truth, blocks = chain.truth(), chain.branch.blocks
    ends = (blocks[0].number, chain.head.number + 1, blocks[0].parent_hash, chain.head.hash)
    found = {
        "rows": apart(rows(connection), truth.rows),
        "strangers": apart(strangers(connection), truth.strangers),
        "undecoded": _all(connection, "SELECT venue, event_key, reason FROM liq.undecoded"),
        "coverage": apart(
            runs(coverage(connection)), [(venue, *ends) for venue in venues_of(chain)]
        ),
        "journal": untrue_journal(connection, chain),
    }
    return {what: against[:3] for what, against in found.items() if against}


def apart(stored: Sequence[Any], true: Sequence[Any]) -> list[Any]:
    """What only one side has, or one has more often; nothing when both are equal."""
    one, two = Counter(stored), Counter(true)
    return [("stored", each) for each in one - two] + [("true", each) for each in two - one]


def runs(covered: Iterable[Range]) -> list[tuple[str, int, int, str, str]]:
    """Coverage with neighbours joined whose logs agree and whose hashes are linked."""
    found: list[tuple[str, int, int, str, str]] = []
    for venue, low, high, parent_hash, last_hash, _, agrees in covered:
        assert agrees
        if found and (found[-1][0], found[-1][2], found[-1][4]) == (venue, low, parent_hash):
            venue, low, _, parent_hash, _ = found.pop()
        found.append((venue, low, high, parent_hash, last_hash))
    return found
