"""Whatever a protocol claims to be proved by stands in the tests, and the tables say no more."""

from pathlib import Path

import msgspec
import pytest

from indexer.catalogue import HYPERLIQUID, families, venues
from indexer.evm_model import ProtocolSpec
from indexer.hyperliquid_format import utc
from indexer.model import BlockLine
from tests import venue_tables
from tests.devchain import test_devchain, test_lenders
from tests.evidence import (
    cases,
    derived,
    is_known_source,
    is_real,
    is_true,
    liquidated_on_the_local_chain,
)
from tests.evm_logs import DECODER, SPECS, Case
from tests.test_hyperliquid import decoded

each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@each_spec
def test_a_protocol_claims_the_evidence_that_there_is(spec: ProtocolSpec) -> None:
    assert spec.evidence == derived(spec), (
        f'indexer/venues/evm/{spec.name}.py: say evidence="{derived(spec)}" in its SPEC'
    )


@each_spec
def test_a_golden_case_says_where_its_logs_are_from(spec: ProtocolSpec) -> None:
    assert [name for name, case in cases(spec).items() if not is_known_source(case)] == []


@each_spec
def test_logs_that_are_said_to_be_real_stand_in_the_records(
    spec: ProtocolSpec, real_data: Path
) -> None:
    assert [name for name, case in cases(spec).items() if not is_true(case, real_data)] == []


class Published(msgspec.Struct):
    """A line of the exchange's own node."""

    block_number: int
    block_time: str
    events: msgspec.Raw


def real_case() -> Case:
    """One of those that stand in the records."""
    (spec,) = [spec for spec in SPECS if spec.name == "aave_v3"]
    return cases(spec)["fee_beside_the_seized.json"]


def saved(tx_hash: str, chain: str, chain_id: int) -> Case:
    """As `indexer verify --save` writes it."""
    source = f"Real: {tx_hash} of {chain} (chain {chain_id}), saved by indexer verify."
    return msgspec.structs.replace(real_case(), source=source)


def test_a_log_that_was_changed_is_no_real_one(real_data: Path) -> None:
    case = real_case()
    first, *others = case.logs
    forged = msgspec.structs.replace(first, data=first.data[:-1] + "7")

    changed = msgspec.structs.replace(case, logs=[forged, *others])

    assert (is_true(case, real_data), is_true(changed, real_data)) == (True, False)


def test_a_saved_transaction_is_real_on_a_public_chain_alone() -> None:
    tx_hash = real_case().logs[0].tx_hash
    assert [
        is_real(saved(tx_hash, "ethereum", 1)),
        is_real(saved("0x" + 64 * "9", "ethereum", 1)),
        is_real(saved(tx_hash, "base", 8453)),
        is_real(saved(tx_hash, "ethereum", 31337)),
        is_real(saved(tx_hash, "ethereum", 8453)),
    ] == [True, False, False, False, False]


def test_the_local_chain_liquidates_what_it_is_said_to() -> None:
    perps = {"perp_v2", "synthetix_futures", "synthetix_perps_v2"}  # tests/devchain/test_perps.py
    assert liquidated_on_the_local_chain() == {
        *test_devchain.PROTOCOLS,
        *test_lenders.LENDERS,
        *perps,
    }


def test_real_blocks_of_the_exchange_decode(real_data: Path) -> None:
    file = real_data / "hyperliquid" / "node_fills_by_block_20251027_17_uncut.jsonl"
    blocks = [
        msgspec.json.decode(line, type=Published)
        for line in file.read_bytes().splitlines()
        if b'"liquidation"' in line
    ]
    lines = [
        BlockLine(one.block_number, utc(one.block_time), bytes(one.events), True, "records", 1)
        for one in blocks
    ]

    assert HYPERLIQUID.evidence == "real"
    assert [row["method"] for line in lines for row in decoded(line)["liquidations"]] == ["market"]


# the catalogue


def test_the_catalogue_has_every_venue_that_can_be_indexed() -> None:
    assert sorted(one.venue for one in venues(families(SPECS))) == sorted(
        [HYPERLIQUID.name, *DECODER.venues()]
    )


def test_the_catalogue_has_the_first_blocks_that_backfills_begin_with() -> None:
    found = [one for one in venues(families(SPECS)) if one.first_block is not None]
    assert len(found) >= 50
    assert [one.first_block for one in found] == [DECODER.since(one.venue) for one in found]


@pytest.mark.parametrize("page", venue_tables.PAGES)
def test_the_tables_of_the_docs_are_those_of_the_protocols(page: str) -> None:
    assert venue_tables.shown(page) == venue_tables.made(page), venue_tables.REMEDY
