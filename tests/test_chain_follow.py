"""The follower step by step: starts, pauses, reorgs, finality, holes, facts, checks, crashes."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from indexer.abi_calls import vouched_for
from indexer.chain import check, follow, redecode, sync
from indexer.chain.follow import Follower
from indexer.chain.sync import Written
from indexer.decode import Decoder
from indexer.errors import ConfigError, Conflict, FinalityViolated, SourceFault
from indexer.evm_model import EMITTER_FACT, Deployment
from indexer.plan import LookBack, Wait
from indexer.store import database
from indexer.store.database import Connection
from tests.campaign import (
    DEPTH,
    ETHEREUM,
    VENUES,
    Crash,
    Fuse,
    World,
    catch_up,
    connect,
    coverage,
    differences,
    fingerprint,
    ordered,
    rows,
    runs,
    strangers,
    world,
)
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.events import ETHEREUM as PLACES
from tests.chain_model.faults import Faults
from tests.evm_logs import DECODER, SPECS

FIRST = Config().first_block


@pytest.fixture
def chain() -> ModelChain:
    """20 blocks, of which 12 are final."""
    chain = ModelChain(Config(seed=4, depth=DEPTH, empty_percent=0))
    chain.mine(20)
    return chain


@pytest.fixture
def at(chain: ModelChain, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """One endpoint, honest until its faults get a script."""
    monkeypatch.setattr(follow, "FINALIZED_EVERY_SECONDS", 0.0)
    with world(chain, [Faults()]) as found:
        yield found


@pytest.fixture
def follower(connection: Connection, at: World) -> Follower:
    return Follower(connection, at.source, DECODER, VENUES)


def one(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    return row and row[0]


def fill(connection: Connection, at: World, *venues: str) -> sync.ChainTally:
    """Backfill from the first block of the model on."""
    high = at.chain.head.number + 1
    return sync.backfill(connection, at.source, DECODER, venues or VENUES, FIRST, high)


# starting


def test_a_first_start_begins_above_the_finalized_block(
    connection: Connection, follower: Follower, chain: ModelChain
) -> None:
    assert catch_up(follower) == ["Written"] * DEPTH
    ends = (FIRST + 13, FIRST + 21, chain.branch.at(FIRST + 12).hash, chain.head.hash)  # type: ignore[union-attr]
    assert runs(coverage(connection)) == [(venue, *ends) for venue in VENUES]


def test_after_a_pause_final_blocks_are_read_by_range_and_the_tip_by_hash(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    catch_up(follower)
    chain.mine(100)
    before = at.nodes[0].asked["eth_getLogs"]
    assert catch_up(Follower(connection, at.source, DECODER, VENUES)) == ["Written"] * (1 + DEPTH)
    assert at.nodes[0].asked["eth_getLogs"] - before == 1 + DEPTH
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}


def test_a_lower_head_is_no_reorg(connection: Connection, at: World, follower: Follower) -> None:
    catch_up(follower)
    before = fingerprint(connection)
    at.nodes[0].faults.chances["lagging_head"] = 1.0
    assert [follower.step() for _ in range(5)] == [Wait()] * 5
    assert fingerprint(connection) == before


# reorgs


@pytest.mark.parametrize("depth", range(1, DEPTH + 1))
def test_a_reorg_of_any_depth_above_finality_is_taken_back_into_the_journal(
    connection: Connection, at: World, follower: Follower, chain: ModelChain, depth: int
) -> None:
    catch_up(follower)
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    old = [row for row in chain.truth().rows if row.block_number > chain.head.number - depth]
    chain.fork(depth, depth + 1)
    catch_up(follower)
    assert differences(connection, chain) == {}
    journal = connection.execute("SELECT depth, liquidations FROM liq.reorgs").fetchall()
    assert journal == [(depth, len(old))]
    gone = connection.execute("SELECT venue, account, block_number FROM liq.orphaned_liquidations")
    assert sorted(gone) == sorted((row.venue, row.account, row.block_number) for row in old)


def test_an_orphan_that_nobody_knows_any_more_is_let_go_at_once(
    connection: Connection, chain: ModelChain
) -> None:
    with world(chain, [Faults()], keeps_orphans=False) as at:
        follower = Follower(connection, at.source, DECODER, VENUES)
        node, before = at.nodes[0], at.clock.seconds
        node.before_call(3, lambda: chain.fork(DEPTH, DEPTH))  # after head, finality and child
        node.asked.clear()
        assert (follower.step(), node.asked.total()) == (Wait(), 9)
        assert (type(follower.step()), node.asked.total()) == (Written, 17)
        assert at.clock.seconds - before < 0.5


# finality


def test_a_fork_below_finality_stops_the_chain_until_both_agree_again(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    catch_up(follower)
    held, tip = rows(connection), chain.head
    chain.fork(DEPTH + 1, breaks_finality=True)
    chain.mine()
    with pytest.raises(FinalityViolated):
        follower.step()
    with pytest.raises(FinalityViolated):
        Follower(connection, at.source, DECODER, VENUES)
    assert rows(connection) == held
    assert f"block {FIRST + 12} was final" in one(connection, "SELECT stopped FROM liq.chains")
    chain._adopt((*chain.branch.between(0, FIRST + 11), *_down_to(chain, tip.hash, FIRST + 12)), 0)
    chain.mine()
    catch_up(Follower(connection, at.source, DECODER, VENUES))
    assert one(connection, "SELECT stopped FROM liq.chains") is None


def _down_to(chain: ModelChain, block_hash: str, low: int) -> list[Any]:
    block = chain.known[block_hash]
    below = _down_to(chain, block.parent_hash, low) if block.number > low else []
    return [*below, block]


def test_one_answer_of_a_dead_branch_about_a_final_block_is_no_violation(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    chain.fork(DEPTH, DEPTH + 4)
    catch_up(follower)
    at.nodes[0].faults.script[:] = ["stale_fork"]
    with pytest.raises(SourceFault, match="two answers about the final block"):
        Follower(connection, at.source, DECODER, VENUES)
    assert one(connection, "SELECT stopped FROM liq.chains") is None


def test_a_branch_is_never_called_final_before_its_blocks_were_compared(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    """The head comes from before a fork, the finalized height from after it."""
    catch_up(follower)
    chain.mine()
    at.nodes[0].before_call(1, lambda: chain.fork(DEPTH, 2 * DEPTH - 2))
    outcome = follower.step()
    assert isinstance(outcome, LookBack)
    assert outcome.why.partition(":")[0] == f"7 blocks above {FIRST + 13}"
    catch_up(follower)
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}


# holes


def test_a_venue_added_later_fills_its_own_hole_and_shares_requests(
    connection: Connection, at: World, chain: ModelChain
) -> None:
    catch_up(Follower(connection, at.source, DECODER, ["aave_v2.ethereum"]))
    chain.mine(DEPTH)
    catch_up(Follower(connection, at.source, DECODER, VENUES))
    before = at.nodes[0].asked["eth_getLogs"]
    fill(connection, at)
    # all three from the first block, two from where the first was followed
    assert at.nodes[0].asked["eth_getLogs"] - before == 2
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}


def test_backfill_leaves_what_is_above_the_follower_to_it(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    follower.step()
    chain.mine(30)
    assert fill(connection, at).not_final == 51 - 13
    catch_up(follower)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}


def test_a_neighbour_from_another_fork_is_refused(
    connection: Connection, at: World, follower: Follower
) -> None:
    catch_up(follower)
    connection.execute("UPDATE ledger.coverage SET parent_hash = '0xdead'")
    before = fingerprint(connection)
    with pytest.raises(Conflict, match="do not link"):
        fill(connection, at)
    assert fingerprint(connection) == before


# facts


def test_a_fact_that_arrives_later_settles_what_waited_for_it(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    told, at.nodes[0].calls = at.nodes[0].calls, lambda to, data: "0x"
    catch_up(follower)
    fill(connection, at)
    waiting = "SELECT DISTINCT left(event_key, 66) FROM liq.undecoded WHERE venue LIKE 'comet.%'"
    absorbed = {row.tx_hash for row in chain.truth().rows if row.method == "absorb"}
    assert {tx_hash for (tx_hash,) in connection.execute(waiting)} == absorbed
    at.nodes[0].calls = told
    follower.look_again()
    assert differences(connection, chain) == {}


def test_the_time_of_rows_that_were_settled_is_told(
    connection: Connection, at: World, chain: ModelChain
) -> None:
    """As that of rows which are written, so that they are valued as soon."""
    told: list[datetime] = []
    node = at.nodes[0]
    known, node.calls = node.calls, lambda to, data: "0x"
    follower = Follower(connection, at.source, DECODER, VENUES, told.append)
    catch_up(follower)
    written = {row.block_number for row in rows(connection)}
    assert told == times(chain, written)

    told.clear()
    node.calls = known
    follower.look_again()

    settled = {row.block_number for row in chain.truth().rows if row.method == "absorb"}
    assert told == times(chain, {number for number in settled if number > chain.finalized}) != []


def times(chain: ModelChain, numbers: Iterable[int]) -> list[datetime]:
    """The times of some blocks, in order."""
    blocks = [chain.branch.at(number) for number in sorted(numbers)]
    return [datetime.fromtimestamp(block.time, UTC) for block in blocks if block]


def test_what_was_learnt_from_blocks_that_were_not_written_is_forgotten(
    connection: Connection, chain: ModelChain
) -> None:
    """Else a row could be made of a fact that nobody ever stored. On this chain a header does not
    prove itself, so that a forged one is noticed only by its parent."""
    profile = replace(ETHEREUM, has_ethereum_headers=False)
    with world(chain, [Faults()], profile) as at:
        follower = Follower(connection, at.source, DECODER, VENUES)
        chain.mine(30)
        node = at.nodes[0]
        node.before_call(2, lambda: node.faults.script.append("forged_block"))  # first of a range
        assert follower.step() == Wait()
        catch_up(follower)
        fill(connection, at)
        redecode.settle(connection, at.source, DECODER)
        assert redecode.redecode(connection, DECODER, VENUES)["changed"] == 0
        assert differences(connection, chain) == {}


def test_a_forged_header_is_refused(at: World, follower: Follower, chain: ModelChain) -> None:
    chain.mine(30)
    at.nodes[0].faults.script.append("forged_block")
    catch_up(follower)
    assert at.nodes[0].faults.served == {"forged_block": 1}
    assert at.source.endpoints.all[0].faults == {"Untrue": 1}


# quarantine

AAVE_V2 = next(spec for spec in SPECS if spec.name == "aave_v2")
OTHERS = [spec for spec in SPECS if spec is not AAVE_V2]
STRANGER = Deployment(
    chain="ethereum", address=PLACES.stranger, name="aave_v2", role="pool", since_block=None,
    source="a test",
)  # fmt: skip


def test_a_quarantined_log_becomes_a_row_when_its_contract_is_added(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    catch_up(follower)
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    deployments = (*AAVE_V2.deployments, STRANGER)
    decoder = Decoder([*OTHERS, replace(AAVE_V2, deployments=deployments)])
    assert redecode.redecode(connection, decoder, VENUES)["changed"] == 2 * 2  # one goes, one comes
    expect_rows_of_the_stranger(connection, chain)


def test_a_child_that_its_factory_vouches_for_is_no_stranger(
    connection: Connection, at: World, chain: ModelChain
) -> None:
    asks = {EMITTER_FACT: vouched_for("pool", "isChild(address)", "pool")}
    decoder = Decoder([*OTHERS, replace(AAVE_V2, asks=asks)])
    child, comet = PLACES.stranger[2:], at.nodes[0].calls
    at.nodes[0].calls = lambda to, data: (
        "0x" + "1".rjust(64, "0")
        if to == PLACES.aave_v2 and data.endswith(child)
        else comet(to, data)
    )
    catch_up(Follower(connection, at.source, decoder, VENUES))
    high = chain.head.number
    sync.backfill(connection, at.source, decoder, VENUES, FIRST, high)
    redecode.settle(connection, at.source, decoder)
    expect_rows_of_the_stranger(connection, chain)


def expect_rows_of_the_stranger(connection: Connection, chain: ModelChain) -> None:
    stored, (rows_due, due) = rows(connection), chain.truth()
    assert [row for row in stored if row.market != PLACES.stranger] == ordered(rows_due)
    assert [(r.tx_hash, r.log_index) for r in stored if r.market == PLACES.stranger] == [
        (stranger.tx_hash, stranger.log_index) for stranger in due
    ]
    assert (strangers(connection), len(due)) == ([], 2)
    assert {each.agrees for each in coverage(connection)} == {True}


# checks


def checks(connection: Connection) -> list[Any]:
    return connection.execute("SELECT proof, missing, untrue FROM liq.checks").fetchall()


def test_a_check_adds_what_the_first_reading_missed(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    at.nodes[0].faults.script[:] = ["empty_logs"]
    fill(connection, at)
    assert (rows(connection), strangers(connection)) == ([], [])
    check.check(connection, at.source, DECODER, VENUES, FIRST, FIRST + 100)
    assert redecode.redecode(connection, DECODER, VENUES)["changed"] == 0  # its facts are stored
    catch_up(follower)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}
    assert {each.proof for each in coverage(connection)} == {"read_twice", "receipts"}
    assert checks(connection) == [("read_twice", 45, 0)]


def test_a_check_takes_back_what_no_receipt_has(
    connection: Connection, at: World, follower: Follower, chain: ModelChain
) -> None:
    fill(connection, at)
    block, index = connection.execute(
        "SELECT block_number, max(log_index) + 100 FROM ledger.raw_log"
        " WHERE venue = 'aave_v2.ethereum' GROUP BY 1 LIMIT 1"
    ).fetchone()  # type: ignore[misc]
    connection.execute(
        "INSERT INTO ledger.raw_log SELECT chain, block_number, %s, venue, tx_hash, emitter,"
        " topics, data, is_whole FROM ledger.raw_log WHERE block_number = %s"
        " AND venue = 'aave_v2.ethereum' LIMIT 1",
        (index, block),
    )
    connection.execute(
        "UPDATE ledger.coverage SET (logs, digest) ="
        " (SELECT c.logs, c.digest FROM ledger.counted(venue, blocks) c)"
    )
    redecode.redecode(connection, DECODER, VENUES)
    check.check(connection, at.source, DECODER, VENUES, FIRST, FIRST + 100)
    catch_up(follower)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}
    assert checks(connection) == [("read_twice", 0, 1)]


def test_the_time_of_rows_that_a_check_corrected_is_told(
    connection: Connection, at: World, chain: ModelChain
) -> None:
    told: list[datetime] = []
    follower = Follower(connection, at.source, DECODER, VENUES, told.append)
    at.nodes[0].faults.script[:] = ["empty_logs"]
    fill(connection, at)

    follower.look_again()

    first = min(row.block_number for row in chain.truth(to=chain.finalized).rows)
    assert told == times(chain, [first])


def test_a_check_of_blocks_that_are_not_final_finds_nothing_to_do(
    connection: Connection, at: World, follower: Follower
) -> None:
    found = check.check(connection, at.source, DECODER, VENUES, FIRST + 15, FIRST + 20)
    assert found == check.CheckTally()


# connections


POINTS = (
    *("after fetch", "after stream", "after coverage", "after raw_log"),
    *("after lending_liquidation", "before commit"),
)


@pytest.mark.parametrize("point", POINTS)
def test_a_step_that_dies_before_its_commit_has_written_nothing(
    connection: Connection, conninfo: str, at: World, chain: ModelChain, point: str
) -> None:
    follower = Follower(connection, at.source, DECODER, VENUES)
    before = fingerprint(connection)
    with closing(connect(conninfo, Fuse(point))) as fragile:
        follower.reconnect(fragile)
        with pytest.raises(Crash):
            catch_up(follower)
    assert fingerprint(connection)["coverage"] == before["coverage"]


def test_a_commit_whose_answer_was_lost_is_found_by_reading_the_position_again(
    connection: Connection, conninfo: str, at: World, chain: ModelChain
) -> None:
    follower = Follower(connection, at.source, DECODER, VENUES)
    before = follower.position
    with closing(connect(conninfo, Fuse("after commit"))) as cut:
        follower.reconnect(cut)
        with pytest.raises(Crash):
            follower.step()
    assert follower.position == before
    follower.reconnect(connection)
    assert follower.position.next_block == before.next_block + 1
    catch_up(follower)
    fill(connection, at)
    redecode.settle(connection, at.source, DECODER)
    assert differences(connection, chain) == {}


class Restarts:
    """A wait in which a block comes; in the third the database breaks all connections, and is gone
    for two attempts."""

    is_connected = False

    def __init__(self, conninfo: str, chain: ModelChain) -> None:
        self.waits = 0
        self._conninfo = conninfo
        self._chain = chain
        self._refusals = 2

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self._chain.mine()
        if self.waits == 3:
            with database.connect(self._conninfo) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    def connect(self) -> Connection:
        if self.waits >= 3 and self._refusals:
            self._refusals -= 1
            raise ConfigError("cannot connect to the database: it is starting up")
        return database.connect(self._conninfo)


def test_following_goes_on_after_the_database_was_restarted(
    conninfo: str, at: World, chain: ModelChain
) -> None:
    wake, said = Restarts(conninfo, chain), list[str]()
    follow.follow(
        wake.connect, at.source, DECODER, VENUES,
        is_over=lambda: wake.waits == 9, say=said.append, wake=wake,
    )  # fmt: skip
    chain_is_at = chain.head.number
    with database.connect(conninfo) as connection:
        fill(connection, at)
        catch_up(Follower(connection, at.source, DECODER, VENUES))
        redecode.settle(connection, at.source, DECODER)
        assert differences(connection, chain) == {}
    assert chain_is_at == FIRST + 20 + 9
    assert [text.rpartition("; ")[2] for text in said if "trying again" in text] == [
        *("trying again in 1 s", "trying again in 2 s", "trying again in 4 s"),
    ]
