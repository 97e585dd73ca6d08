"""The real command follows the genuine contracts over HTTP and WebSocket; every row equals what
the contracts' own state says."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from eth_hash.auto import keccak

from indexer.evm_model import LendingLiquidation
from indexer.store.database import Connection
from tests.conftest import Command
from tests.devchain.network import Network
from tests.ledger_rows import rows
from tests.processes import following, soon, stopped

Row = tuple[object, ...]
COLUMNS = (
    "venue, event_key, account, block_number, method, market, owner, liquidator, repaid_asset,"
    " repaid_raw, seized_asset, seized_raw, seized_is_shares, protocol_fee_raw, fee_in_seized,"
    " bad_debt_asset, bad_debt_raw"
)


class Nothing(NamedTuple):
    """An absent leg."""

    asset: None = None
    raw: None = None


def as_row(truth: LendingLiquidation) -> Row:
    """What the table must hold of it."""
    repaid, seized, bad_debt = (
        leg or Nothing() for leg in (truth.repaid, truth.seized, truth.bad_debt)
    )
    return (
        truth.venue, truth.event_key, truth.account, truth.block_number, truth.method,
        truth.market, truth.owner, truth.liquidator, repaid.asset, repaid.raw, seized.asset,
        seized.raw, truth.seized_is_shares, truth.protocol_fee_raw, truth.fee_in_seized,
        bad_debt.asset, bad_debt.raw,
    )  # fmt: skip


def ledger(connection: Connection) -> list[Row]:
    """The rows in the database."""
    return rows(
        connection,
        f"SELECT {COLUMNS} FROM ledger.lending_liquidation ORDER BY block_number, event_key",
    )


def environment(chain: Network, folder: Path, **more: str) -> dict[str, str]:
    """What tells the command of the chain."""
    deployments = chain.write_deployments(folder / "deployments.json")
    return {"RPC_ANVIL": chain.node.url, "INDEXER_DEPLOYMENTS": str(deployments), **more}


def everything(chain: Network) -> list[LendingLiquidation]:
    """One liquidation of each kind, with the truth of each."""
    return [protocol.liquidate() for protocol in chain.protocols.values()]


def until(connection: Connection, truth: list[LendingLiquidation]) -> None:
    """Wait for the ledger to be this, and say how it differs when it does not become so."""
    wanted = sorted(map(as_row, truth), key=lambda row: (row[3], row[1]))
    try:
        soon(lambda: ledger(connection) == wanted)
    except AssertionError:
        assert ledger(connection) == wanted


def tip(connection: Connection) -> int:
    """The height that is read, -1 before the first."""
    found = rows(connection, "SELECT tip_block FROM liq.chains WHERE chain = 'anvil'")
    return int(str(found[0][0])) if found else -1


@pytest.fixture
def started(
    devchain: Network, connection: Connection, conninfo: str, tmp_path: Path
) -> Iterator[None]:
    """The chain is being followed."""
    env = environment(devchain, tmp_path, RPC_ANVIL=f"{devchain.node.url},{devchain.node.ws_url}")
    with following(conninfo, tmp_path, "anvil", **env) as process:
        soon(lambda: tip(connection) == devchain.node.head)
        yield
        said = stopped(process)
    assert (process.returncode, "Traceback" in said) == (0, False), said


def test_a_backfill_equals_the_state_of_the_contracts(
    devchain: Network, connection: Connection, indexer: Command, tmp_path: Path
) -> None:
    truth = everything(devchain)
    devchain.node.mine(80)
    env = environment(devchain, tmp_path)

    done = indexer("backfill", "anvil", "--from", 0, "--to", devchain.node.head + 1, **env)

    assert (done.returncode, done.stderr.count("not final yet")) == (0, 1), done.stderr
    until(connection, truth)
    again = indexer("backfill", "anvil", "--from", 0, "--to", "1k", **env)
    assert "0 new blocks, 0 liquidations" in again.stdout


def test_rows_follow_the_head(devchain: Network, connection: Connection, started: None) -> None:
    truth = everything(devchain)

    until(connection, truth)


def test_redecode_and_check_change_nothing_that_is_right(
    devchain: Network, connection: Connection, indexer: Command, tmp_path: Path
) -> None:
    truth = everything(devchain)
    devchain.node.mine(80)
    env = environment(devchain, tmp_path)
    assert indexer("backfill", "anvil", "--from", 0, "--to", "1k", **env).returncode == 0

    again = indexer("redecode", "anvil", **env)
    checked = indexer("check", "anvil", "--last", "1k", **env)

    assert "0 rows changed" in again.stdout
    assert "0 logs were missing, 0 untrue" in checked.stdout
    until(connection, truth)


# with four slots an epoch the eighth block below the head is final
@pytest.mark.parametrize("depth", [1, 2, 7])
def test_a_reorg_takes_a_liquidation_back_and_another_takes_its_place(
    devchain: Network, connection: Connection, started: None, depth: int
) -> None:
    aave = devchain.aave_v3
    first, second = aave.open_position(), aave.open_position()
    aave.fall()
    gone = aave.attempt(first)
    comes = aave.attempt(second)
    before = aave.make(gone)
    devchain.node.mine(depth - 1)
    soon(lambda: tip(connection) == devchain.node.head)
    until(connection, [before])

    receipts = devchain.node.reorg(depth, (comes.tx, depth - 1))
    devchain.node.mine(1)

    until(connection, [aave.truth(comes, receipts[0])])
    taken_back = rows(
        connection,
        "SELECT depth, liquidations, account"
        " FROM liq.reorgs JOIN liq.orphaned_liquidations USING (reorg_id)",
    )
    assert taken_back == [(depth, 1, before.account)]


def test_the_same_transaction_in_another_block_is_one_row(
    devchain: Network, connection: Connection, started: None
) -> None:
    aave = devchain.aave_v3
    account = aave.open_position()
    aave.fall()
    attempt = aave.attempt(account)
    before = aave.make(attempt)
    devchain.node.mine(1)
    until(connection, [before])
    signed = devchain.node.signed(before.tx_hash)

    receipts = devchain.node.reorg(2, (signed, 1))
    devchain.node.mine(1)

    after = aave.truth(attempt, receipts[0])
    assert (after.tx_hash, after.block_number) == (before.tx_hash, before.block_number + 1)
    until(connection, [after])


def test_a_liquidation_that_a_reorg_took_back_can_happen_again(
    devchain: Network, connection: Connection, started: None
) -> None:
    aave = devchain.aave_v3
    account = aave.open_position()
    aave.fall()
    attempt = aave.attempt(account)
    first = aave.make(attempt)
    until(connection, [first])

    devchain.node.reorg(1)
    devchain.node.mine(1)
    until(connection, [])
    again = aave.make(aave.attempt(account))

    until(connection, [again])


def test_what_shares_and_tokens_are_is_what_the_contracts_say(
    devchain: Network, connection: Connection, indexer: Command, tmp_path: Path
) -> None:
    truth = devchain.venus_core.liquidate()
    assert truth.repaid and truth.repaid.asset and truth.seized and truth.seized.asset
    devchain.node.mine(80)
    env = environment(devchain, tmp_path)

    done = indexer("backfill", "anvil", "--from", 0, "--to", "1k", **env)

    market, block = truth.seized.asset, truth.block_number
    rate = said(devchain, market, "exchangeRateStored()", block)
    underlying = "0x" + said(devchain, market, "underlying()", block).to_bytes(20, "big").hex()
    decimals = [said(devchain, token, "decimals()") for token in (truth.repaid.asset, market)]
    assert done.returncode == 0, done.stderr
    assert rows(
        connection,
        "SELECT seized_underlying, seized_underlying_raw, r.decimals, s.decimals,"
        " repaid * 10::numeric ^ r.decimals = repaid_raw, r.symbol IS NOT NULL"
        " FROM liq.lending_liquidations JOIN liq.assets r ON r.address = repaid_asset"
        " JOIN liq.assets s ON s.address = seized_asset",
    ) == [(underlying, truth.seized.raw * rate // 10**18, *decimals, True, True)]


def said(chain: Network, contract: str, function: str, at: int | None = None) -> int:
    """A number that a contract tells."""
    selector = "0x" + keccak(function.encode())[:4].hex()
    return int.from_bytes(chain.node.call(contract, selector, at), "big")
