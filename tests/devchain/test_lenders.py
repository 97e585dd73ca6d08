"""Further lenders on the local chain: our decoder, and the real command, against what the state and
the views of the genuine contracts say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.evm_model import (
    EMITTER_FACT,
    Leg,
    LendingLiquidation,
    MissingFact,
    ProtocolSpec,
)
from indexer.inquiry import inquire
from indexer.store.database import Connection
from indexer.venues.evm import gearbox_v2, gearbox_v3
from tests import ledger_rows
from tests.conftest import Command
from tests.devchain.aave_v3_2 import AaveV32
from tests.devchain.anvil import EPOCH, Anvil, Reverted, anvil
from tests.devchain.contracts import Deployer
from tests.devchain.exactly import Exactly
from tests.devchain.gearbox_v2 import GearboxV2
from tests.devchain.gearbox_v3 import FEES, GearboxV3
from tests.devchain.lending import PricedLending, topic0
from tests.devchain.network import Chain
from tests.devchain.test_follow import as_row, ledger
from tests.devchain.test_perps import said
from tests.devchain.test_values import VALUES, in_order, values
from tests.devchain.worth import Worth, worths
from tests.ledger_rows import Rows, rows
from tests.processes import following, soon, stopped

LENDERS: dict[str, type[PricedLending]] = {
    "aave_v3": AaveV32, "exactly": Exactly, "gearbox_v2": GearboxV2, "gearbox_v3": GearboxV3,
}  # fmt: skip


@pytest.fixture
def node(packages: list[Path]) -> Iterator[Anvil]:
    """A new chain."""
    with anvil() as node:
        yield node


@pytest.fixture
def lenders(node: Anvil) -> Chain:
    """All of them on it."""
    deployer = Deployer(node)
    return Chain(node, *(lender(deployer) for lender in LENDERS.values()))


@pytest.fixture
def gearbox(node: Anvil) -> GearboxV3:
    """Gearbox alone."""
    return GearboxV3(Deployer(node))


# the decoder


@pytest.mark.parametrize("name", LENDERS)
def test_liquidations_decode_to_what_the_state_says(node: Anvil, name: str) -> None:
    lender = LENDERS[name](Deployer(node))
    chain = Chain(node, lender)

    truth = lender.everything()

    transactions = dict.fromkeys(one.tx_hash for one in truth)
    assert [row for tx_hash in transactions for row in chain.decoded(tx_hash)] == truth
    assert {one.venue for one in truth} == {f"{name}.anvil"}


@pytest.mark.parametrize("name", LENDERS)
def test_an_account_is_healthy_until_the_price_falls(node: Anvil, name: str) -> None:
    lender = LENDERS[name](Deployer(node))
    attempt = lender.attempt(lender.open_position())

    with pytest.raises(Reverted):
        lender.make(attempt)


# Gearbox


@pytest.mark.parametrize(
    ("kind", "spec"), [(GearboxV2, gearbox_v2.SPEC), (GearboxV3, gearbox_v3.SPEC)],
    ids=["v2", "v3"],
)  # fmt: skip
def test_the_register_vouches_for_its_facade_and_for_no_other(
    node: Anvil, kind: type[GearboxV2 | GearboxV3], spec: ProtocolSpec
) -> None:
    """Another market of the same contracts that is not in this register is not proved."""
    own, other = (kind(Deployer(node)) for _ in range(2))

    def told(fact: str, subject: str) -> dict[str, str | None]:
        missing = MissingFact("anvil", fact, subject)
        asked = {0: spec.asks[fact](missing, own.deployments())}
        (answers,) = inquire(asked, lambda calls: [said(node, one) for one in calls]).values()
        return {one.fact: one.value for one in answers}

    assert [told(one.fact, one.subject) for one in own.facts()] == [
        {one.fact: one.value} for one in own.facts()
    ]
    assert told(EMITTER_FACT, other.facade.address) == {}


def test_a_pool_gets_debt_then_fees_and_the_rest_is_lost(gearbox: GearboxV3) -> None:
    """Its own numbers: a profit with the first, a loss with the second."""
    part, whole, with_loss = gearbox.everything()
    repay = topic0("Repay(address,uint256,uint256,uint256)")

    def repaid(row: LendingLiquidation) -> tuple[int, ...]:
        (log,) = (one for one in gearbox.node.receipt(row.tx_hash).logs if one.topics[0] == repay)
        return tuple(int(log.data[at : at + 64], 16) for at in (2, 66, 130))

    owed = gearbox.owed(whole.account, whole.block_number)
    fee = owed.worth * FEES[1] // 10_000
    assert repaid(whole) == (gearbox.loan_raw, owed.fees + fee, 0)
    assert whole.bad_debt is None
    assert with_loss.bad_debt == Leg(gearbox.dollar.address, repaid(with_loss)[2])
    assert repaid(with_loss)[1] == 0 < repaid(with_loss)[2]
    assert part.seized is not None


def test_what_is_no_liquidation_is_no_row(gearbox: GearboxV3) -> None:
    """Accounts are opened, and one repays its debt and closes."""
    gearbox.open_position()
    before = gearbox.node.head
    gearbox.close(gearbox.open_position())

    chain = Chain(gearbox.node, gearbox)
    blocks = range(before + 1, gearbox.node.head + 1)
    receipts = [one for block in blocks for one in gearbox.node.receipts(block)]
    assert topic0("Repay(address,uint256,uint256,uint256)") in {
        log.topics[0] for one in receipts for log in one.logs
    }
    assert [chain.decoded(one.tx_hash) for one in receipts] == [[]] * len(receipts)


# the real command


def environment(chain: Chain, folder: Path, *urls: str) -> dict[str, str]:
    """What tells the command of the chain."""
    deployments = chain.write_deployments(folder / "deployments.json")
    return {
        "RPC_ANVIL": ",".join((chain.node.url, *urls)),
        "INDEXER_DEPLOYMENTS": str(deployments),
    }


def everything(chain: Chain) -> list[LendingLiquidation]:
    """All liquidations that there are, with the truth of each."""
    return [row for protocol in chain.protocols.values() for row in protocol.everything()]


def as_rows(truth: list[LendingLiquidation]) -> Rows:
    """As the ledger gives them."""
    return ledger_rows.in_order(map(as_row, truth))


def test_rows_and_values_are_what_the_contracts_say(
    lenders: Chain, connection: Connection, quick_indexer: Command, tmp_path: Path
) -> None:
    truth: list[LendingLiquidation] = []
    expected: list[Worth] = []
    for protocol in lenders.protocols.values():
        assert isinstance(protocol, PricedLending)
        made = protocol.everything()
        truth += made
        expected += [one for row in made for one in worths(row, protocol.usd)]
    lenders.node.mine(2 * EPOCH)
    env = environment(lenders, tmp_path)

    for command in (("backfill", "anvil", "--from", 0, "--to", "1k"), ("value", "anvil")):
        done = quick_indexer(*command, **env)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    assert ledger(connection) == as_rows(truth)
    assert values(connection, VALUES) == in_order(expected)
    assert values(connection, "SELECT * FROM liq.suspects") == []
    assert "0 rows changed" in quick_indexer("redecode", "anvil", **env).stdout


def test_rows_follow_the_head(
    lenders: Chain, connection: Connection, conninfo: str, tmp_path: Path
) -> None:
    env = environment(lenders, tmp_path, lenders.node.ws_url)
    with following(conninfo, tmp_path, "anvil", **env) as process:
        soon(lambda: rows(connection, "SELECT tip_block FROM liq.chains") != [])
        wanted = as_rows(everything(lenders))
        try:
            soon(lambda: ledger(connection) == wanted)
        except AssertionError:
            assert ledger(connection) == wanted
        told = stopped(process)
    assert (process.returncode, "Traceback" in told) == (0, False), told
