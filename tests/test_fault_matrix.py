"""Faults of the study (rpc-faults.json) that need the follower and a real database: reorgs, a
server that refuses, stops or forgets, and a second indexer."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from eth_abi import abi
from eth_utils import function_signature_to_4byte_selector
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from indexer.chain import sync
from indexer.chain.follow import Follower, follow
from indexer.errors import Conflict, Fenced, FinalityViolated
from indexer.plan import Wait
from indexer.sources.chains import BY_NAME
from indexer.sources.endpoints import BlockUnknown, NoAnswer
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, database, server
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.campaign import VENUES, StillClock, World, catch_up, ordered, rows, world
from tests.chain_model.chain import Block, Config, ModelChain
from tests.chain_model.events import Row
from tests.chain_model.faults import Faults
from tests.chain_model.node import Calls, Node, View, comet_of
from tests.chain_model.serve import RpcError
from tests.evm_logs import DECODER
from tests.postgres import database as throw_away
from tests.postgres import fast_dir
from tests.rpc_proxy import plays

ETHEREUM = BY_NAME["ethereum"]
HISTORY = 20
FULL = Config(seed=5, depth=8, empty_percent=0, often={"aave": 3, "comet": 1})
CANARY = "c4n4ry-of-a-key"


@pytest.fixture
def chain() -> ModelChain:
    """Every block has a transaction; what is 8 blocks below the head is final."""
    chain = ModelChain(FULL)
    chain.mine(HISTORY)
    return chain


@pytest.fixture
def honest(chain: ModelChain) -> Iterator[World]:
    with world(chain, [Faults()]) as found:
        yield found


@pytest.fixture
def follower(connection: Connection, honest: World) -> Follower:
    """It has read all there is."""
    follower = Follower(connection, honest.source, DECODER, VENUES)
    catch_up(follower)
    return follower


def truth(chain: ModelChain) -> list[Row]:
    """What must be stored of a chain that is followed from its first finalized height on."""
    first = chain.config.first_block + HISTORY - 8
    return ordered(row for row in chain.truth().rows if row.block_number > first)


def tip(connection: Connection) -> str:
    """The hash of the block up to which the chain is followed."""
    found = chain_coverage.position(connection, "ethereum")
    return "" if found is None else found.tip_hash


def journals(connection: Connection) -> list[tuple[object, ...]]:
    """Each reorg: the highest block that stayed, and how many were taken back."""
    query = "SELECT ancestor, old_tip - ancestor FROM ledger.reorg ORDER BY reorg_id"
    return connection.execute(query).fetchall()


# reorgs


@plays("B01", "3 of the last blocks are replaced by 4", "one transaction back to the common block")
def test_a_reorg_is_taken_back_and_its_rows_are_in_the_journal(
    connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    replaced, ancestor = chain.branch.blocks[-3:], chain.head.number - 3
    chain.fork(3, 4)

    done = catch_up(follower)

    assert done == ["LookBack", "Written", "Written", "Written", "Written"]
    assert (rows(connection), journals(connection)) == (truth(chain), [(ancestor, 3)])
    assert journalled(connection) == keys(replaced)


def journalled(connection: Connection) -> list[tuple[str, str]]:
    """The rows that reorgs took back."""
    found: Iterable[Any] = connection.execute(
        "SELECT venue, left(event_key, 66) FROM ledger.orphan_lending_liquidation"
    )
    return sorted((venue, tx_hash) for venue, tx_hash in found)


def keys(blocks: Iterable[Block]) -> list[tuple[str, str]]:
    """The same of some blocks, as the model has it."""
    return sorted((row.venue, row.tx_hash) for block in blocks for row in block.rows("ethereum"))


@plays("B02", "another block at the height of our tip", "as a reorg, as soon as it is seen")
def test_a_head_of_the_same_height_and_another_hash_is_a_reorg(
    connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    ancestor = chain.head.number - 1
    chain.siblings([True])

    assert catch_up(follower) == ["LookBack", "Written"]
    assert (rows(connection), journals(connection)) == (truth(chain), [(ancestor, 1)])


@plays("B03", "a node 5 blocks behind our tip", "nothing is taken back; wait until it passes")
def test_a_lower_head_is_no_reorg(
    connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    before = rows(connection)
    with (
        Node([View(chain, blocks_behind=5)], calls=comet_of(chain)) as late,
        closing(EvmSource(ETHEREUM, [late.url])) as source,
    ):
        behind = Follower(connection, source, DECODER, VENUES)
        waited = behind.step()
        chain.mine(7)
        done = catch_up(behind)

    assert (waited, done) == (Wait(), ["Written", "Written"])
    assert (rows(connection)[: len(before)], journals(connection)) == (before, [])


@plays("B04", "once the head of the branch that lost", "no undo: a second look does not agree")
def test_a_node_on_the_losing_branch_undoes_nothing(
    connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    chain.fork(2)
    catch_up(follower)
    before, reorgs = rows(connection), journals(connection)
    faults = honest.nodes[0].faults
    faults.script.append("stale_fork")

    outcome = follower.step()

    assert (outcome, faults.served) == (Wait(), {"stale_fork": 1})
    assert (before, rows(connection), journals(connection)) == (truth(chain), before, reorgs)


@pytest.mark.parametrize("call", range(1, 9))
@plays("B05", "a second reorg during each of the calls that look back", "begun again; one truth")
def test_a_reorg_while_we_look_back_leads_to_the_last_one(
    connection: Connection, chain: ModelChain, follower: Follower, honest: World, call: int
) -> None:
    chain.fork(3, 4)
    honest.nodes[0].before_call(call, lambda: chain.fork(6, 7) and None)

    catch_up(follower)

    assert (rows(connection), tip(connection)) == (truth(chain), chain.head.hash)


@plays("B06", "a reorg of 12 blocks where 8 may change", "the chain is stopped, nothing is deleted")
def test_a_reorg_below_the_finalized_height_stops_the_chain_and_keeps_the_rows(
    connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    before = rows(connection)
    final = follower.position.finalized_block
    chain.fork(12, 13, breaks_finality=True)

    with pytest.raises(FinalityViolated, match=f"block {final} was final"):
        catch_up(follower)
    with pytest.raises(FinalityViolated, match=f"block {final} was final"):
        Follower(connection, honest.source, DECODER, VENUES)

    stopped = connection.execute("SELECT stopped LIKE %s FROM ledger.stream", [f"%{final}%"])
    assert (rows(connection), journals(connection)) == (before, [])
    assert stopped.fetchall() == [(True,)]


def test_a_chain_that_agrees_again_is_followed_again(
    connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    right = chain.branch
    chain.fork(12, 13, breaks_finality=True)
    with pytest.raises(FinalityViolated):
        catch_up(follower)
    chain.branch = right

    catch_up(Follower(connection, honest.source, DECODER, VENUES))

    stopped = connection.execute("SELECT stopped FROM ledger.stream")
    assert (rows(connection), tip(connection)) == (truth(chain), right.head.hash)
    assert stopped.fetchall() == [(None,)]


@plays("B13", "four blocks in each second", "height is the order, time is none")
def test_blocks_of_one_second_are_kept_apart(connection: Connection) -> None:
    chain = ModelChain(replace(FULL, block_seconds=0.25))
    chain.mine(HISTORY)
    with world(chain, [Faults()]) as found:
        follower = Follower(connection, found.source, DECODER, VENUES)
        catch_up(follower)
        chain.fork(3, 4)
        catch_up(follower)

    assert len({block.time for block in chain.branch.blocks}) == 6
    assert (rows(connection), tip(connection)) == (truth(chain), chain.head.hash)


@plays("B15", "the last 100 blocks are rebuilt, none of them final", "one undo, however deep")
def test_a_rebuilt_head_is_taken_back_whole(connection: Connection) -> None:
    chain = ModelChain(replace(FULL, depth=None, empty_percent=90))
    chain.mine(HISTORY)
    chain.finalize(chain.config.first_block + HISTORY - 8)
    with world(chain, [Faults()]) as found:
        follower = Follower(connection, found.source, DECODER, VENUES)
        chain.mine(100)
        catch_up(follower)
        ancestor = chain.head.number - 100
        chain.fork(100)
        done = catch_up(follower)

    assert done == ["LookBack"] + 100 * ["Written"]
    assert (rows(connection), journals(connection)) == (truth(chain), [(ancestor, 100)])


@plays(
    "B20", "the chain begins anew from its first block", "an error, then it is stopped; all kept"
)
def test_a_chain_that_begins_anew_takes_nothing_back(
    connection: Connection, follower: Follower
) -> None:
    before = rows(connection)
    chain = ModelChain(Config(seed=6))
    with world(chain, [Faults()]) as found:
        with pytest.raises(BlockUnknown):
            Follower(connection, found.source, DECODER, VENUES)
        chain.mine(2 * HISTORY)
        with pytest.raises(FinalityViolated):
            Follower(connection, found.source, DECODER, VENUES)

    assert (rows(connection), journals(connection)) == (before, [])


@plays("L27", "events in the blocks where backfill ends and following begins", "ranges that join")
def test_what_is_backfilled_and_what_is_followed_leave_no_hole(
    connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    first, end = chain.config.first_block, chain.head.number + 1

    sync.backfill(connection, honest.source, DECODER, VENUES, first, end)

    covered = [
        chain_coverage.covered(connection, venue, DECODER.filter_hash(venue)) for venue in VENUES
    ]
    assert covered == len(VENUES) * [[(first, end)]]
    assert rows(connection) == ordered(chain.truth().rows)


# a whole run, with a database that fails on the way


class Mended:
    """Announces nothing; what is broken is mended while the run waits."""

    is_connected = False

    def __init__(self, mend: Callable[[], object]) -> None:
        self._mend: Callable[[], object] | None = mend

    def wait(self, seconds: float) -> None:
        """The first wait is the one after the fault: until then there was enough to do."""
        mend, self._mend = self._mend, None
        if mend is not None:
            mend()


def nothing() -> None:
    """Nobody has to mend it."""


def followed(
    conninfo: str,
    honest: World,
    connect: Callable[[], Connection] | None = None,
    *,
    mend: Callable[[], object] = nothing,
    before: Mapping[int, Callable[[], object]] | None = None,
) -> list[str]:
    """Follow until the head is stored; what was said. `before` happens before a certain step."""
    said: list[str] = []
    turns = iter(range(1_000))

    def is_over() -> bool:
        (before or {}).get(next(turns), nothing)()
        try:
            with database.connect(conninfo) as judge:
                return tip(judge) == honest.chain.head.hash
        except psycopg.Error:
            return False

    follow(
        connect or (lambda: database.connect(conninfo)), honest.source, DECODER, VENUES,
        is_over=is_over, say=said.append, wake=Mended(mend),
    )  # fmt: skip
    return said


def fails(connection: Connection, table: str, what: str) -> Callable[[], object]:
    """Let writing into a table fail inside the server, until what is given back is called."""
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION ledger.fail() RETURNS trigger LANGUAGE plpgsql AS {};"
            " CREATE TRIGGER fail BEFORE INSERT ON {} FOR EACH STATEMENT"
            " EXECUTE FUNCTION ledger.fail()"
        ).format(sql.Literal(f"BEGIN {what}; RETURN NULL; END"), sql.Identifier("ledger", table))
    )
    return lambda: connection.execute("DROP FUNCTION ledger.fail CASCADE")


LOSE = "PERFORM pg_terminate_backend(pg_backend_pid())"
TERMINATED = "terminating connection due to administrator command"


def faults_of(said: Iterable[str]) -> list[str]:
    """What was tried again, and why."""
    return [text for text in said if text.endswith("trying again in 1 s")]


def again(why: str) -> list[str]:
    """One fault on the way."""
    return [f"ethereum: {why}; trying again in 1 s"]


@plays("P01", "the server ends the session in the middle of a step", "read the position, redo")
def test_a_connection_lost_inside_a_step_costs_nothing(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    mend = fails(connection, "lending_liquidation", LOSE)

    said = followed(conninfo, honest, mend=mend)

    assert faults_of(said) == again(TERMINATED)
    assert rows(connection) == truth(chain)


@plays("B26", "the session ends in the middle of an undo", "rolled back; begun again")
def test_an_undo_that_dies_halfway_has_not_happened(
    conninfo: str, connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    before, ancestor = rows(connection), chain.head.number - 3
    chain.fork(3, 4)
    mend = fails(connection, "orphan_lending_liquidation", LOSE)
    with database.connect(conninfo) as dying:
        follower.reconnect(dying)
        with pytest.raises(psycopg.OperationalError, match=TERMINATED):
            follower.step()
    after = (rows(connection), journals(connection))
    mend()
    follower.reconnect(connection)
    catch_up(follower)

    assert after == (before, [])
    assert (rows(connection), journals(connection)) == (truth(chain), [(ancestor, 3)])


class LosesAnswer(psycopg.Connection[tuple[object, ...]]):
    """Its third transaction is the last: the connection is gone, after the commit or before."""

    has_committed = True
    left = 3

    @contextmanager
    def transaction(self, *arguments: Any, **named: Any) -> Iterator[psycopg.Transaction]:
        """As psycopg, which cannot tell either what became of a commit without an answer."""
        if self.info.transaction_status is not TransactionStatus.IDLE:  # a savepoint
            with super().transaction(*arguments, **named) as opened:
                yield opened
            return
        self.left -= 1
        with super().transaction(*arguments, **named) as opened:
            yield opened
            self._lose(not self.left and not self.has_committed)
        self._lose(not self.left)

    def _lose(self, is_now: bool) -> None:
        if is_now:
            raise psycopg.OperationalError("server closed the connection unexpectedly")


class LosesCommit(LosesAnswer):
    """The server never saw the commit."""

    has_committed = False


@pytest.mark.parametrize("kind", [LosesAnswer, LosesCommit])
@plays("P02", "the answer to COMMIT is lost, it happened or not", "what is stored decides")
def test_a_commit_without_an_answer_is_neither_lost_nor_doubled(
    conninfo: str,
    connection: Connection,
    chain: ModelChain,
    honest: World,
    kind: type[LosesAnswer],
) -> None:
    first: list[Connection] = [kind.connect(conninfo, autocommit=True)]

    said = followed(conninfo, honest, lambda: first.pop() if first else database.connect(conninfo))

    assert faults_of(said) == again("server closed the connection unexpectedly")
    assert rows(connection) == truth(chain)


def refused(conninfo: str, connection: Connection, honest: World, code: str) -> list[str]:
    """The faults of a run to whose first row the server says no."""
    what = f"RAISE 'not now' USING ERRCODE = '{code}'"
    mend = fails(connection, "lending_liquidation", what)
    return faults_of(followed(conninfo, honest, mend=mend))


@plays("P03", "error 40001 inside a step", "rolled back; the step is read and written again")
def test_a_serialization_failure_is_tried_again(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    assert refused(conninfo, connection, honest, "40001") == again("not now")
    assert rows(connection) == truth(chain)


@plays("P05", "error 53100 inside a step", "rolled back; tried again, ever more slowly, and said")
def test_a_full_disk_is_waited_for(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    assert refused(conninfo, connection, honest, "53100") == again("not now")
    assert rows(connection) == truth(chain)


def locked_out(conninfo: str, connection: Connection, honest: World, limit: str) -> list[str]:
    """The faults of a run that waits no longer than a limit for a table that is taken."""
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE ledger.lending_liquidation")
    impatient = make_conninfo(conninfo, options=f"-c {limit}=100ms")
    said = followed(
        conninfo,
        honest,
        lambda: database.connect(impatient),
        mend=lambda: connection.execute("ROLLBACK"),
    )
    return faults_of(said)


@plays("P09", "a statement takes longer than its timeout", "the step is read and written again")
def test_a_statement_that_takes_too_long_is_tried_again(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    why = "canceling statement due to statement timeout"
    assert locked_out(conninfo, connection, honest, "statement_timeout") == again(why)
    assert rows(connection) == truth(chain)


@plays("P10", "a lock is not given in time", "the step is read and written again")
def test_a_lock_that_is_not_given_is_waited_for(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    why = "canceling statement due to lock timeout"
    assert locked_out(conninfo, connection, honest, "lock_timeout") == again(why)
    assert rows(connection) == truth(chain)


@pytest.fixture
def folder() -> Iterator[Path]:
    """For a server of its own; not tmp_path, which is closed to the server's user."""
    base = Path(tempfile.mkdtemp(prefix="indexer-test-", dir=fast_dir()))
    base.chmod(0o755)
    yield base / "data"
    server.stop(base / "data")
    shutil.rmtree(base)


@plays("P06", "the server crashes (SIGQUIT) and is started again", "connect again, go on")
def test_a_server_that_crashes_and_comes_back_costs_nothing(
    chain: ModelChain, honest: World, folder: Path
) -> None:
    found = server.ensure_running(folder)
    database.migrate(found.conninfo)
    postmaster = int((folder / "cluster/postmaster.pid").read_text().partition("\n")[0])

    said = followed(
        found.conninfo,
        honest,
        mend=lambda: server.ensure_running(folder),
        before={4: lambda: os.kill(postmaster, signal.SIGQUIT)},
    )

    with database.connect(found.conninfo) as connection:
        assert rows(connection) == truth(chain)
    assert len(faults_of(said)) == 1


# a database that forgets, and a second indexer


@plays("P07", "a server that lost the last 3 blocks takes over", "go on from what it has")
def test_a_failover_that_lost_commits_is_read_again_from_there(
    postgres: Server, conninfo: str, chain: ModelChain, honest: World
) -> None:
    with database.connect(conninfo) as before:
        follower = Follower(before, honest.source, DECODER, VENUES)
        catch_up(follower)
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with throw_away(postgres, template=name) as replica:
        with database.connect(conninfo) as primary:
            follower.reconnect(primary)
            chain.mine(3)
            catch_up(follower)
        with database.connect(replica) as promoted:
            follower.reconnect(promoted)
            assert catch_up(follower) == ["Written", "Written", "Written"]
            assert (rows(promoted), tip(promoted)) == (truth(chain), chain.head.hash)


@plays("P11", "two indexers follow one chain", "the first can write no more, and ends")
def test_of_two_indexers_only_the_second_writes(
    conninfo: str, connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    with database.connect(conninfo) as other:
        second = Follower(other, honest.source, DECODER, VENUES)
        chain.mine(2)
        with pytest.raises(Fenced, match="another process follows this chain now"):
            follower.step()
        before = tip(connection)
        catch_up(second)

    assert (before, rows(connection)) == (chain.branch.blocks[-3].hash, truth(chain))


@plays("P12", "one loses its connection, another takes over meanwhile", "fenced by its epoch")
def test_who_was_cut_off_cannot_come_back_after_another_has_taken_over(
    conninfo: str, connection: Connection, chain: ModelChain, honest: World
) -> None:
    with database.connect(conninfo) as lost:
        first = Follower(lost, honest.source, DECODER, VENUES)
        connection.execute("SELECT pg_terminate_backend(%s)", [lost.info.backend_pid])
        second = Follower(connection, honest.source, DECODER, VENUES)
        with pytest.raises(psycopg.OperationalError):
            first.step()
    with database.connect(conninfo) as again, pytest.raises(Fenced, match="another process"):
        first.reconnect(again)
    catch_up(second)

    assert rows(connection) == truth(chain)


# what is there already


def of_next_block(chain: ModelChain) -> Row:
    """A row that the next block will bring."""
    chain.mine()
    return next(row for row in chain.truth().rows if row.block_hash == chain.head.hash)


@plays("P17", "the key of a new row is there already", "never swallowed: the run ends")
def test_a_key_that_is_there_already_ends_the_run(
    conninfo: str, connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    before, row = tip(connection), of_next_block(chain)
    connection.execute(
        "INSERT INTO ledger.lending_liquidation (venue, event_key, account, block_number,"
        " block_at, method, market, seized_is_shares, decoder_version)"
        " VALUES (%s, %s, %s, %s, now(), 'absorb', 'm', false, 1)",
        [row.venue, f"{row.tx_hash}/{row.log_index}", row.account, row.block_number],
    )

    with pytest.raises(psycopg.errors.UniqueViolation):
        followed(conninfo, honest)

    assert tip(connection) == before


@plays("P18", "a log is stored under the same key with other content", "Conflict: the run ends")
def test_a_log_with_other_content_is_a_conflict(
    conninfo: str, connection: Connection, chain: ModelChain, follower: Follower, honest: World
) -> None:
    before, row = tip(connection), of_next_block(chain)
    connection.execute(
        "INSERT INTO ledger.raw_log VALUES ('ethereum', %s, %s, NULL, '', '', '', '', false)",
        [row.block_number, row.log_index],
    )

    with pytest.raises(Conflict, match="is stored with other content"):
        followed(conninfo, honest)

    assert tip(connection) == before


# values that a database chokes on


def tokens_say(getter: str, answer: bytes, chain: ModelChain) -> Calls:
    """Every token answers one question so; Comet is asked as ever."""
    selector = "0x" + function_signature_to_4byte_selector(getter).hex()

    def call(to: str, data: str) -> str | RpcError:
        return "0x" + answer.hex() if data == selector else comet_of(chain)(to, data)

    return call


@pytest.mark.parametrize(
    ("symbol", "text"), [(b"A\0B", "AB"), (b"\xed\xa0\x80", "\ufffd" * 3), (b"\0", None)]
)
@plays("P19", "a token whose name has NUL or half a surrogate", "bytes as they are, a clean text")
def test_a_name_that_no_text_column_takes_is_kept_as_bytes(
    connection: Connection, chain: ModelChain, honest: World, symbol: bytes, text: str | None
) -> None:
    honest.nodes[0].calls = tokens_say("symbol()", abi.encode(["bytes"], [symbol]), chain)

    catch_up(Follower(connection, honest.source, DECODER, VENUES))

    said = connection.execute("SELECT DISTINCT symbol_raw, symbol FROM ledger.asset")
    assert (said.fetchall(), rows(connection)) == ([(symbol, text)], truth(chain))


@pytest.mark.parametrize(
    ("decimals", "kept", "is_scaled"), [(36, 36, True), (37, 37, False), (255, 255, False),
                                        (256, None, False)],
)  # fmt: skip
@plays("S11", "decimals of 37, 255 and 256", "kept as said; amounts are scaled up to 36 only")
def test_absurd_decimals_scale_nothing(
    connection: Connection,
    chain: ModelChain,
    honest: World,
    decimals: int,
    kept: int | None,
    is_scaled: bool,
) -> None:
    honest.nodes[0].calls = tokens_say("decimals()", decimals.to_bytes(32, "big"), chain)

    catch_up(Follower(connection, honest.source, DECODER, VENUES))

    said = connection.execute(
        "SELECT DISTINCT a.decimals, l.repaid IS NOT NULL FROM liq.lending_liquidations l"
        " JOIN ledger.asset a ON a.address = l.repaid_asset"
    )
    assert (said.fetchall(), rows(connection)) == ([(kept, is_scaled)], truth(chain))


@plays("P20", "amounts of 2^256 - 1", "numeric(78, 0) holds them")
def test_the_largest_amount_there_is_is_stored(
    connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    chain.mine(30)
    catch_up(follower)

    assert rows(connection) == truth(chain)
    assert max(row.repaid_raw or 0 for row in rows(connection)) == 2**256 - 1


@plays("P21", "a block of the year 36812", "refused as of the future: nothing of it is written")
def test_a_time_that_no_timestamp_holds_is_refused(
    connection: Connection, chain: ModelChain, follower: Follower
) -> None:
    before = rows(connection)
    chain.mine(time=2**40)

    with pytest.raises(NoAnswer, match="a block from the future"):
        follower.step()

    assert rows(connection) == before


# secrets


@plays("S03", "every request fails and is tried again", "what is said and logged has no key")
def test_nothing_that_is_tried_again_tells_a_key(
    conninfo: str, chain: ModelChain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    said: list[str] = []
    turns = iter([False, False, False, True])
    url, clock = f"http://127.0.0.1:9/v2/{CANARY}", StillClock().clock
    with closing(EvmSource(ETHEREUM, [url], clock=clock)) as source:
        follow(
            lambda: database.connect(conninfo), source, DECODER, VENUES,
            is_over=lambda: next(turns), say=said.append, wake=Mended(nothing),
        )  # fmt: skip

    assert len(said) == 3
    assert CANARY not in "".join(said) + caplog.text
