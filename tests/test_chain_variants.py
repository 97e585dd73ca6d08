"""The campaign can fail: it finds each safety that is taken out of the code, within a few seeds.

Variants are patched in here; the code itself has no switches. Defences that stand on their own
are taken out alone as well, to show that nothing is lost then."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest

from indexer.chain import follow, sync
from indexer.chain.follow import Follower
from indexer.chain.sync import Reader, Reading, Written
from indexer.errors import IndexerError
from indexer.evm_model import BlockRef, LogRange, Position
from indexer.plan import AdvanceBlock, AdvanceRange, Wait
from indexer.sources.evm import EvmSource
from indexer.store import chain_coverage, chain_rows
from indexer.store.server import Server
from tests.campaign import Campaign
from tests.postgres import database as throw_away

HANDFUL = 4

Patch = pytest.MonkeyPatch


@pytest.fixture
def fresh(postgres: Server, migrated: str) -> Callable[[], Any]:
    """A migrated database for one campaign."""
    return partial(throw_away, postgres, template=migrated)


def verdict(
    fresh: Callable[[], Any], *, lies: float | None = None, has_perpetuals: bool = False
) -> str | None:
    """What the first campaign that fails says; None when all of a handful went well."""
    for seed in range(1, HANDFUL + 1):
        with fresh() as conninfo:
            try:
                Campaign(conninfo, seed, lies=lies, has_perpetuals=has_perpetuals).run()
            except (AssertionError, IndexerError, psycopg.Error, LookupError) as failure:
                return f"seed {seed}: {type(failure).__name__}: {failure}"
            except pytest.fail.Exception as failure:
                return f"seed {seed}: {failure}"
    return None


# parents and hashes


def without_parents_in_the_plan(patch: Patch) -> None:
    def plan(at: Position, head: BlockRef, finalized: int, child: BlockRef | None) -> Any:
        if at.next_block <= finalized:
            return AdvanceRange(at.next_block, finalized + 1)
        return AdvanceBlock(child) if child else Wait()

    patch.setattr(follow, "plan", plan)


def without_parents_at_the_write(patch: Patch) -> None:
    """Every block is taken for a child of the tip, in the step and in the coverage."""
    advance = Follower._advance

    def adopted(self: Follower, reading: Reading, finalized: int) -> Any:
        first = msgspec.structs.replace(reading.found.first, parent_hash=self.position.tip_hash)
        found = msgspec.structs.replace(reading.found, first=first)
        return advance(self, reading._replace(found=found), finalized)

    patch.setattr(Follower, "_advance", adopted)


def without_hashes(patch: Patch) -> None:
    """The tip is read by number."""
    patch.setattr(Reader, "block", lambda self, block: self.range(block.number, block.number + 1))


def test_parents_are_looked_at_twice_so_that_the_plan_may_forget_them(
    fresh: Callable[[], Any], monkeypatch: Patch
) -> None:
    without_parents_in_the_plan(monkeypatch)
    assert verdict(fresh, lies=0.0) is None


def test_honest_nodes_may_be_read_by_number(fresh: Callable[[], Any], monkeypatch: Patch) -> None:
    without_hashes(monkeypatch)
    assert verdict(fresh, lies=0.0) is None


def test_without_parents_and_hashes_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch
) -> None:
    without_parents_in_the_plan(monkeypatch)
    without_parents_at_the_write(monkeypatch)
    without_hashes(monkeypatch)
    assert verdict(fresh, lies=0.0) is not None


# one transaction, one writer


def test_with_rows_and_position_in_two_transactions_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch
) -> None:
    def write(connection: Any, decoder: Any, venues: Any, reading: Reading, **named: Any) -> Any:
        at, finalized = named["at"], named["finalized"]
        moved = chain_coverage.advance(connection, at, reading.found.last, finalized)
        return Written(moved, sync.write(connection, decoder, venues, reading).counts)

    monkeypatch.setattr(follow, "write", write)
    assert verdict(fresh) is not None


def test_without_a_fence_the_campaign_fails(fresh: Callable[[], Any], monkeypatch: Patch) -> None:
    advance = chain_coverage.advance

    def anywhere(connection: Any, at: Position, to: BlockRef, finalized: int) -> Position:
        stored = chain_coverage.position(connection, at.chain)
        assert stored is not None
        return advance(connection, stored, to, finalized)

    monkeypatch.setattr(chain_coverage, "advance", anywhere)
    assert verdict(fresh) is not None


# taking back


@pytest.mark.parametrize("table", chain_coverage.OF_CHAIN)
def test_when_an_undo_forgets_a_table_of_the_chain_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch, table: str
) -> None:
    left = tuple(one for one in chain_coverage.OF_CHAIN if one != table)
    monkeypatch.setattr(chain_coverage, "OF_CHAIN", left)
    assert verdict(fresh) is not None


@pytest.mark.parametrize("table", chain_coverage.OF_VENUE)
def test_when_an_undo_forgets_a_table_of_the_venues_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch, table: str
) -> None:
    left = tuple(one for one in chain_coverage.OF_VENUE if one != table)
    monkeypatch.setattr(chain_coverage, "OF_VENUE", left)
    assert verdict(fresh, has_perpetuals=table == "liquidation") is not None


def test_when_final_blocks_may_be_taken_back_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch
) -> None:
    def ancestor(self: Follower) -> BlockRef:
        below = self.position.next_block
        stored = chain_rows.blocks_down(self._connection, self._chain, below, 64)
        return next(one for one in stored if self._source.header(one.number).hash == one.hash)

    monkeypatch.setattr(Follower, "_ancestor", ancestor)
    assert verdict(fresh) is not None


# trust


def test_when_logs_are_believed_without_receipts_the_campaign_fails(
    fresh: Callable[[], Any], monkeypatch: Patch
) -> None:
    def tip(self: EvmSource, endpoint: Any, block: BlockRef, wanted: Any) -> LogRange:
        _, logs = self._header_and_logs(endpoint, block, wanted)
        return self._of_block(endpoint, block, logs, "receipts")

    monkeypatch.setattr(EvmSource, "_tip", tip)
    assert verdict(fresh, lies=0.03) is not None
