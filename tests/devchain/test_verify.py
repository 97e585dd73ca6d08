"""The real command verifies liquidations of genuine contracts and keeps them as golden cases."""

import os
import re
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest

from indexer.evm_model import LendingLiquidation
from tests.conftest import Command
from tests.devchain.accounts import Accounts
from tests.devchain.network import Network
from tests.devchain.priced import Priced
from tests.devchain.test_devchain import PROTOCOLS
from tests.devchain.worth import worths
from tests.evm_logs import Case, decoded, plain
from tests.quick_start import Starter


@pytest.fixture
def verify(start: Starter, tmp_path: Path) -> Command:
    """The command on a node and its deployments; there is no database."""

    def run(chain: Network | Priced, tx_hash: str, *words: object) -> CompletedProcess[str]:
        told = chain.write_deployments(tmp_path / "deployments.json")
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        env = {**kept, "INDEXER_DEPLOYMENTS": str(told), "INDEXER_DATA_DIR": str(tmp_path / "no")}
        arguments = ["verify", tx_hash, "--rpc", chain.node.url, *map(str, words)]
        return start.run(arguments, {**env, "COLUMNS": "200"}, tmp_path, None)

    return run


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_saved_liquidation_is_what_the_state_said(
    devchain: Network, verify: Command, tmp_path: Path, name: str
) -> None:
    """The golden case decodes without the user's deployments, by the facts in it alone."""
    truth = devchain.protocols[name].liquidate()

    done = verify(devchain, truth.tx_hash, "--save", tmp_path / "golden")

    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "golden").rglob("*.json")
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    assert path.parent.name == name
    assert f"{truth.tx_hash} of anvil (chain 31337)" in case.source
    assert case.outcomes == plain([truth])
    assert decoded(case) == case.outcomes
    for value in (truth.account, truth.liquidator, truth.repaid and truth.repaid.asset):
        assert str(value) in done.stdout


def test_bad_debt_is_shown_beside_the_event(devchain: Network, verify: Command) -> None:
    _, second = devchain.morpho_blue.liquidate_to_the_end()
    done = verify(devchain, second.tx_hash)

    assert done.returncode == 0, done.stderr
    assert second.bad_debt is not None
    raw = f"{second.bad_debt.raw}"
    assert re.search(rf"bad debt +badDebtAssets = {raw} +{raw} = ", done.stdout)


def test_a_liquidation_that_reverts_is_refused(devchain: Network, verify: Command) -> None:
    aave, node = devchain.aave_v3, devchain.node
    attempt = aave.attempt(aave.open_position())  # healthy: there is nothing to liquidate
    tx = {**attempt.tx.wire, "gas": hex(2_000_000)}
    tx_hash = str(node.rpc("eth_sendTransaction", tx))

    done = verify(devchain, tx_hash)

    assert (done.returncode, done.stderr) == (
        1, f"indexer: anvil: {tx_hash} was reverted: nothing came of it\n"
    )  # fmt: skip


def test_a_transaction_that_no_block_has_yet_is_pending(devchain: Network, verify: Command) -> None:
    node = devchain.node
    account = node.new_account()
    node.rpc("evm_setAutomine", False)
    tx_hash = str(node.rpc("eth_sendTransaction", {"from": account, "to": account}))

    done = verify(devchain, tx_hash)

    assert (done.returncode, done.stderr) == (
        1, f"indexer: anvil: {tx_hash} is pending: no block has it yet\n"
    )  # fmt: skip


def shown_usd(done: CompletedProcess[str], field: str) -> str:
    """What the protocol's own price makes of an amount."""
    (found,) = re.findall(rf"^ {field} .* ([\d,.]+) USD by oracle", done.stdout, re.MULTILINE)
    return str(found)


def test_dollars_are_those_of_the_protocols_own_oracle(priced: Priced, verify: Command) -> None:
    aave = priced.aave
    truth: LendingLiquidation = aave.make_of(aave.pair_of_tokens)
    worth = {one.basis: one.usd for one in worths(truth, aave.usd)}

    done = verify(priced, truth.tx_hash)

    assert done.returncode == 0, done.stderr
    assert (shown_usd(done, "repaid"), shown_usd(done, "seized")) == (
        f"{worth['repaid']:,.2f}", f"{worth['seized_net']:,.2f}"
    )  # fmt: skip
    assert "not told" not in done.stdout


def test_shares_are_shown_with_what_they_were_worth(priced: Priced, verify: Command) -> None:
    core = priced.core()
    truth = core.liquidate()
    assert truth.seized is not None and truth.seized.asset is not None
    market = core.ether_market
    rate = market.read("exchangeRateStored", at=truth.block_number)

    done = verify(priced, truth.tx_hash)

    assert done.returncode == 0, done.stderr
    assets = truth.seized.raw * rate // 10**18
    assert f"; {assets} of" in done.stdout  # the rest of the cell is folded


def test_the_owner_behind_an_account_is_shown(
    devchain: Network, verify: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is a genuine Safe with one key."""
    aave, node = devchain.aave_v3, devchain.node
    key = node.new_account()
    safe, _ = Accounts(node).safe("1.3.0", [key], 1)
    node.rpc("anvil_impersonateAccount", safe.address)
    node.rpc("anvil_setBalance", safe.address, hex(10**20))
    with monkeypatch.context() as patched:
        patched.setattr(node, "new_account", lambda: safe.address)
        account = aave.open_position()
    aave.fall()
    truth = aave.make(aave.attempt(account))

    done = verify(devchain, truth.tx_hash)

    assert done.returncode == 0, done.stderr
    assert truth.account == safe.address
    assert re.search(rf"account +user = {account} +{account} +{key} by safe", done.stdout)
