"""Perpetuals on the local chain: our decoder, and the real command, against what the state of the
genuine contracts says."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from indexer.decode import Decoder
from indexer.evm_model import (
    EMITTER_FACT,
    CallResult,
    Decoded,
    Deployment,
    Fact,
    FactKey,
    Learnt,
    MissingFact,
    PerpLiquidation,
)
from indexer.inquiry import inquire
from indexer.store.database import Connection
from indexer.venues.evm import specs, synthetix_perps_v2
from tests.conftest import Command
from tests.devchain.anvil import Anvil, Reverted, RpcError, anvil
from tests.devchain.contracts import Deployer
from tests.devchain.lending import WAD, topic0
from tests.devchain.perp_v2 import PerpV2, whole
from tests.devchain.synthetix_futures import SynthetixFutures
from tests.devchain.synthetix_market import SynthetixMarket
from tests.devchain.synthetix_perps_v2 import SynthetixPerpsV2
from tests.ledger_rows import in_order, rows
from tests.processes import following, soon, stopped


class Perps:
    """A node with three protocols on it, and what the indexer must be told of them."""

    def __init__(self, node: Anvil) -> None:
        deployer = Deployer(node)
        self.node = node
        self.perp_v2 = PerpV2(deployer)
        self.synthetix = SynthetixPerpsV2(deployer)
        self.futures = SynthetixFutures(deployer)

    def deployments(self) -> list[Deployment]:
        """Of all."""
        protocols = (self.perp_v2, self.synthetix, self.futures)
        return [at for protocol in protocols for at in protocol.deployments()]

    def decoder(self) -> Decoder:
        """Ours, told of what stands on this chain."""
        return Decoder(
            [
                msgspec.structs.replace(
                    spec,
                    deployments=(
                        *spec.deployments,
                        *(one for one in self.deployments() if one.name == spec.name),
                    ),
                )
                for spec in specs()
            ]
        )

    def decoded(self, tx_hash: str) -> list[Decoded]:
        """What our decoder makes of a transaction, given its whole receipt."""
        told = [*self.perp_v2.facts(), *self.futures.facts()]
        facts: dict[FactKey, str | None] = {fact.key: fact.value for fact in told}
        for log in self.node.logs(topic0("MarketAdded(address,bytes32,bytes32)")):
            if log.address == self.synthetix.manager.address:
                learnt = self.decoder().decode(log, facts)
                assert isinstance(learnt, Learnt)
                facts |= {fact.key: fact.value for fact in learnt.facts}
        logs = self.node.receipt(tx_hash).logs
        return self.decoder().transaction(logs, facts, is_whole=True)

    def environment(self, folder: Path, *urls: str) -> dict[str, str]:
        """What tells the command of the chain."""
        file = folder / "deployments.json"
        listed = [{"protocol": at.name, **msgspec.to_builtins(at)} for at in self.deployments()]
        file.write_bytes(msgspec.json.encode(listed))
        return {"RPC_ANVIL": ",".join((self.node.url, *urls)), "INDEXER_DEPLOYMENTS": str(file)}

    def everything(self) -> list[PerpLiquidation]:
        """A long and a short of each, with the truth of each."""
        return [*self.on_perp_v2(), *self.on_synthetix(), *self.on_futures()]

    def on_perp_v2(self) -> list[PerpLiquidation]:
        """A long after a fall, a short after a rise."""
        perp = self.perp_v2
        long = perp.open_position(10 * WAD, 2_500)
        perp.move(1_850)
        first = perp.liquidate(long)
        short = perp.open_position(-7 * WAD, 1_800)
        perp.move(2_050)
        return [first, perp.liquidate(short)]

    def on_synthetix(self) -> list[PerpLiquidation]:
        """The same; the second has lost more than its margin."""
        return self._long_and_short(self.synthetix)

    def on_futures(self) -> list[PerpLiquidation]:
        """The same, in the version before."""
        return self._long_and_short(self.futures)

    @staticmethod
    def _long_and_short(market: SynthetixMarket) -> list[PerpLiquidation]:
        long, short = market.open_position(10 * WAD), market.open_position(-4 * WAD)
        market.set_price(1_822 * WAD + 7)
        first = market.liquidate(long)
        market.set_price(2_230 * WAD)
        return [first, market.liquidate(short)]


@pytest.fixture
def perps(packages: list[Path]) -> Iterator[Perps]:
    """A new chain."""
    with anvil() as node:
        yield Perps(node)


# the decoder


def test_perp_v2_liquidations_decode_to_what_the_state_says(perps: Perps) -> None:
    long, short = perps.on_perp_v2()
    assert (long.side, short.side, long.size, short.size) == (
        "long", "short", Decimal(10), Decimal(7),
    )  # fmt: skip
    assert perps.decoded(long.tx_hash) == [long]
    assert perps.decoded(short.tx_hash) == [short]


def test_synthetix_liquidations_decode_to_what_the_state_says(perps: Perps) -> None:
    long, short = perps.on_synthetix()
    assert (long.price, short.position_before) == (
        Decimal("1822.000000000000000007"), Decimal(-4),
    )  # fmt: skip
    assert perps.decoded(long.tx_hash) == [long]
    assert perps.decoded(short.tx_hash) == [short]


def test_synthetix_futures_decode_to_what_the_state_says(perps: Perps) -> None:
    """More than the fee is left of the long's margin: no event tells that part."""
    long, short = perps.on_futures()
    assert (long.side, long.size, short.side, short.position_before) == (
        "long", Decimal(10), "short", Decimal(-4),
    )  # fmt: skip
    rest = perps.futures.rest
    left = [
        rest.change(one.block_number, "balanceOf", rest.read("FEE_ADDRESS"))
        for one in (long, short)
    ]
    assert left[0] > left[1] == 0
    assert perps.decoded(long.tx_hash) == [long]
    assert perps.decoded(short.tx_hash) == [short]


def test_perp_v2_closes_a_position_in_parts(perps: Perps) -> None:
    """Half of it, which is as much as may be, then a tenth and the rest after a further fall."""
    perp = perps.perp_v2
    account = perp.open_position(10 * WAD, 2_500)
    perp.move(1_890)
    half = perp.liquidate(account)
    with pytest.raises(Reverted):
        perp.liquidate(account)
    perp.move(1_700)
    tenth, rest = perp.liquidate(account, WAD), perp.liquidate(account)

    parts = (half, tenth, rest)
    assert [(one.size, one.is_full_close) for one in parts] == [
        (Decimal(5), False), (Decimal(1), False), (Decimal(4), True),
    ]  # fmt: skip
    assert [perps.decoded(one.tx_hash) for one in parts] == [[one] for one in parts]


def test_bad_debt_of_perp_v2_changes_nothing_in_its_row(perps: Perps) -> None:
    """All of the penalty is the liquidator's then, and the fund pays what is missing."""
    perp = perps.perp_v2
    account = perp.open_position(10 * WAD, 2_500)
    perp.move(1_650)
    truth = perp.liquidate(account)

    settled = topic0("BadDebtSettled(address,uint256)")
    (bad,) = (one for one in perps.node.receipt(truth.tx_hash).logs if one.topics[0] == settled)
    assert bad.address == perp.vault.address
    assert perps.decoded(truth.tx_hash) == [truth]


def test_what_is_no_liquidation_is_no_row(perps: Perps) -> None:
    perp, market = perps.perp_v2, perps.synthetix
    before = perps.node.head
    perp.move(1_950)
    account = market.open_position(10 * WAD)
    market.set_price(1_822 * WAD)
    market.market.send(perps.node.new_account(), "flagPosition", account)

    blocks = range(before + 1, perps.node.head + 1)
    receipts = [one for block in blocks for one in perps.node.receipts(block)]
    found = [perps.decoded(one.tx_hash) for one in receipts]
    assert len(found) > 10
    assert [one for one in found if one] == []


def test_the_manager_vouches_for_its_market_and_for_no_other(perps: Perps) -> None:
    market, manager = perps.synthetix.market.address, perps.synthetix.manager.address
    asks = synthetix_perps_v2.SPEC.asks

    def told(fact: str, subject: str) -> tuple[Fact, ...]:
        missing = MissingFact("anvil", fact, subject)
        asked = {0: asks[fact](missing, perps.synthetix.deployments())}
        return inquire(asked, lambda calls: [said(perps.node, one) for one in calls])[0]

    assert told(EMITTER_FACT, market)[0].value == "synthetix_perps_v2/market"
    assert told("synthetix_coin", market)[0].value == "ETH"
    assert told(EMITTER_FACT, manager) == ()
    # a market of the same key that the manager does not know
    other = SynthetixPerpsV2(perps.synthetix.deployer).market.address
    assert told("synthetix_coin", other)[0].value == "ETH"
    assert told(EMITTER_FACT, other) == ()


def said(node: Anvil, asked: Any) -> CallResult:
    """What a contract answers, or that it reverts."""
    try:
        return CallResult(is_ok=True, data=node.call(asked.to, asked.data))
    except RpcError:
        return CallResult(is_ok=False, data=b"")


# the real command

COLUMNS = (
    "venue, event_key, account, block_number, method, market, quote, side, size, price, notional,"
    " notional_entry, position_before, position_after, is_full_close, fee, realised_pnl,"
    " margin_mode, counterparty, counterparty_kind, liquidator"
)


def as_row(truth: PerpLiquidation) -> tuple[object, ...]:
    """What the table must hold of it."""
    return tuple(getattr(truth, column.strip()) for column in COLUMNS.split(","))


def ledger(connection: Connection) -> list[tuple[object, ...]]:
    """The rows in the database."""
    return rows(connection, f"SELECT {COLUMNS} FROM ledger.liquidation ORDER BY block_number")


def test_a_total_of_what_was_read_is_the_contracts_own_number(
    perps: Perps, connection: Connection, quick_indexer: Command, tmp_path: Path
) -> None:
    truth = perps.everything()
    perps.node.mine(20)
    env = perps.environment(tmp_path)

    for command in (("backfill", "anvil", "--from", 0, "--to", "1k"), ("value", "anvil")):
        done = quick_indexer(*command, **env)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    assert ledger(connection) == in_order(map(as_row, truth))
    perp_v2, futures, perps_v2 = (
        sum(one.notional or 0 for one in truth if one.venue == f"{name}.anvil")
        for name in ("perp_v2", "synthetix_futures", "synthetix_perps_v2")
    )
    assert rows(
        connection,
        "SELECT section, name, usd, records FROM liq.total('strict/v1', '2023-11-14',"
        " '2023-11-17') WHERE section IN ('total', 'venue', 'asset') ORDER BY section, name",
    ) == [
        ("asset", "ETH", perp_v2 + futures + perps_v2, 6),
        ("total", None, perp_v2 + futures + perps_v2, 6),
        ("venue", "perp_v2.anvil", perp_v2, 2),
        ("venue", "synthetix_futures.anvil", futures, 2),
        ("venue", "synthetix_perps_v2.anvil", perps_v2, 2),
    ]
    again = quick_indexer("redecode", "anvil", **env)
    assert "0 rows changed" in again.stdout


def test_rows_of_perpetuals_follow_the_head(
    perps: Perps, connection: Connection, conninfo: str, tmp_path: Path
) -> None:
    env = perps.environment(tmp_path, perps.node.ws_url)
    with following(conninfo, tmp_path, "anvil", **env) as process:
        soon(lambda: rows(connection, "SELECT tip_block FROM liq.chains") != [])
        truth = perps.everything()
        wanted = in_order(map(as_row, truth))
        try:
            soon(lambda: ledger(connection) == wanted)
        except AssertionError:
            assert ledger(connection) == wanted
        told = stopped(process)
    assert (process.returncode, "Traceback" in told) == (0, False), told


def test_every_number_of_18_decimals_is_exact() -> None:
    assert whole(2**127) == Decimal("170141183460469231731.687303715884105728")
