"""The harness, and our decoder against what the state of the genuine contracts says."""

from pathlib import Path

import msgspec
import pytest
import requests

from indexer.evm_model import Deployment, Leg
from tests.devchain.aave import TREASURY
from tests.devchain.anvil import EPOCH, SECONDS_A_BLOCK, Reverted, RpcError, anvil
from tests.devchain.lending import topic0
from tests.devchain.network import Network

PROTOCOLS = (
    "aave_v2", "aave_v3", "compound_v2", "morpho_blue", "venus_core", "venus_isolated",
)  # fmt: skip
each_protocol = pytest.mark.parametrize("name", PROTOCOLS)


# the decoder


@each_protocol
def test_a_liquidation_decodes_to_what_the_state_says(devchain: Network, name: str) -> None:
    truth = devchain.protocols[name].liquidate()
    assert devchain.decoded(truth.tx_hash) == [truth]


def test_morpho_says_how_much_bad_debt_the_second_liquidation_leaves(devchain: Network) -> None:
    first, second = devchain.morpho_blue.liquidate_to_the_end()

    assert devchain.decoded(first.tx_hash) == [first]
    assert devchain.decoded(second.tx_hash) == [second]
    assert (first.bad_debt, second.bad_debt) == (
        Leg(devchain.morpho_blue.dollar.address, 0),
        Leg(devchain.morpho_blue.dollar.address, 4_120_799_999_999_999_992_657),
    )


def test_a_healing_hides_only_what_the_market_kept(devchain: Network) -> None:
    """The market says it in underlying alone: no log has these shares."""
    truth = devchain.venus_isolated.heal()
    assert truth.seized is not None and truth.protocol_fee_raw is not None
    given = Leg(truth.seized.asset, truth.seized.raw - truth.protocol_fee_raw)

    known = truth.with_(seized=given, protocol_fee_raw=None, fee_in_seized=None)
    assert devchain.decoded(truth.tx_hash) == [known]


@pytest.mark.parametrize("name", ["aave_v2", "aave_v3"])
def test_a_liquidator_can_take_atokens(devchain: Network, name: str) -> None:
    aave = devchain.aave[name]
    account = aave.open_position()
    aave.fall()

    truth = aave.make(aave.attempt(account, takes_atokens=True))

    assert devchain.decoded(truth.tx_hash) == [truth]


def test_one_account_can_be_liquidated_twice(devchain: Network) -> None:
    aave = devchain.aave_v3
    account = aave.open_position()
    aave.fall()
    first = aave.make(aave.attempt(account))
    aave.set_price(1_200)

    second = aave.make(aave.attempt(account))

    assert (first.account, second.account) == (account, account)
    assert devchain.decoded(first.tx_hash) == [first]
    assert devchain.decoded(second.tx_hash) == [second]


def test_the_comptrollers_teach_which_markets_are_theirs(devchain: Network) -> None:
    facts = devchain.facts()
    taught = {market: role for (_, fact, market), role in facts.items() if fact == "emitter"}
    compound = devchain.compound_v2.comptroller.read("getAllMarkets")
    core = devchain.venus_core.comptroller.read("getAllMarkets")
    isolated = devchain.venus_isolated.comptroller.read("getAllMarkets")

    assert taught == {
        **dict.fromkeys(compound, "compound_v2/market"),
        **dict.fromkeys(core, "venus_core/market"),
        **dict.fromkeys(isolated, "venus_isolated/market"),
    }
    assert len(taught) == 6


# the liquidations


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("aave_v2", 4),
        ("aave_v3", 4),
        ("compound_v2", 1),
        ("morpho_blue", 4),
        ("venus_core", 1),
        ("venus_isolated", 4),
    ],
)
def test_a_liquidation_is_exactly_one_log(devchain: Network, name: str, topics: int) -> None:
    protocol = devchain.protocols[name]
    before = devchain.node.head

    truth = protocol.liquidate()

    (log,) = devchain.node.logs(topic0(protocol.event), first=before)
    assert (log.tx_hash, log.address, len(log.topics)) == (truth.tx_hash, truth.emitter, topics)


@pytest.mark.parametrize("name", ["aave_v2", "aave_v3", "morpho_blue", "venus_isolated"])
def test_an_account_is_healthy_until_the_price_falls(devchain: Network, name: str) -> None:
    protocol = devchain.protocols[name]
    attempt = protocol.attempt(protocol.open_position())

    with pytest.raises(Reverted):
        protocol.make(attempt)


@pytest.mark.parametrize("name", ["compound_v2", "venus_core"])
def test_a_compound_market_refuses_without_reverting(devchain: Network, name: str) -> None:
    pool = devchain.compound[name]
    attempt = pool.attempt(pool.open_position())

    receipt = devchain.node.send(attempt.tx)

    assert pool.dollar.change(receipt.block_number, "balanceOf", attempt.liquidator) == 0
    assert devchain.decoded(receipt.tx_hash) == []


def test_aaves_account_loses_what_liquidator_and_treasury_get(devchain: Network) -> None:
    aave = devchain.aave_v3
    truth = aave.liquidate()

    lost = -aave.a_ether.change(truth.block_number, "balanceOf", truth.account)

    assert (truth.repaid, truth.seized, truth.protocol_fee_raw) == (
        Leg(aave.dollar.address, 7_500 * 10**6),
        Leg(aave.ether.address, 4_478571428571428571),
        21428571428571429,
    )
    assert lost == 4_500000000000000000
    assert aave.a_ether.read("balanceOf", TREASURY) == truth.protocol_fee_raw


def test_aave_v2_gives_the_liquidator_all_that_the_account_loses(devchain: Network) -> None:
    aave = devchain.aave_v2
    truth = aave.liquidate()

    a_ether = aave.a_token(aave.ether)
    lost = -a_ether.change(truth.block_number, "balanceOf", truth.account)

    assert (truth.repaid, truth.seized, truth.protocol_fee_raw) == (
        Leg(aave.dollar.address, 7_500 * 10**6),
        Leg(aave.ether.address, lost),
        None,
    )
    assert a_ether.read("balanceOf", TREASURY) == 0


@pytest.mark.parametrize("name", ["compound_v2", "venus_core"])
def test_a_compound_market_gives_the_liquidator_all_of_it(devchain: Network, name: str) -> None:
    pool = devchain.compound[name]
    truth = pool.liquidate()

    got = pool.ether_market.change(truth.block_number, "balanceOf", truth.liquidator)

    assert truth.seized == Leg(pool.ether_market.address, got)


def test_an_isolated_market_keeps_a_part_of_it(devchain: Network) -> None:
    isolated = devchain.venus_isolated
    truth = isolated.liquidate()

    got = isolated.ether_market.change(truth.block_number, "balanceOf", truth.liquidator)

    assert truth.protocol_fee_raw == 147058823529411590
    assert truth.seized == Leg(isolated.ether_market.address, got + truth.protocol_fee_raw)


# the chain


def test_a_reorg_replaces_a_liquidation_by_another(devchain: Network) -> None:
    aave, node = devchain.aave_v3, devchain.node
    first, second = aave.open_position(), aave.open_position()
    aave.fall()
    orphan, other = aave.attempt(first), aave.attempt(second)
    gone = aave.make(orphan)
    node.mine(2)

    (receipt,) = node.reorg(3, (other.tx, 1))

    truth = aave.truth(other, receipt)
    (log,) = node.logs(topic0(aave.event))
    assert (log.event_key, truth.account) == (truth.event_key, second)
    assert (truth.block_number, node.head) == (gone.block_number + 1, gone.block_number + 2)
    assert devchain.decoded(truth.tx_hash) == [truth]
    with pytest.raises(RpcError, match="no receipt"):
        node.receipt(gone.tx_hash)


def test_a_reorg_moves_the_same_transaction(devchain: Network) -> None:
    aave, node = devchain.aave_v3, devchain.node
    account = aave.open_position()
    aave.fall()
    attempt = aave.attempt(account)
    before = aave.make(attempt)
    signed = node.signed(before.tx_hash)
    node.mine(2)

    (receipt,) = node.reorg(3, (signed, 2))

    after = aave.truth(attempt, receipt)
    assert after == before.with_(
        block_number=before.block_number + 2, block_hash=receipt.block_hash
    )
    assert devchain.decoded(after.tx_hash) == [after]


def test_a_liquidation_that_a_reorg_took_away_can_come_back(devchain: Network) -> None:
    aave, node = devchain.aave_v3, devchain.node
    account = aave.open_position()
    aave.fall()
    attempt = aave.attempt(account)
    before = aave.make(attempt)

    assert node.reorg(1) == []
    assert node.logs(topic0(aave.event)) == []
    after = aave.make(attempt)

    assert (after.tx_hash, after.block_number) == (before.tx_hash, before.block_number + 1)
    assert devchain.decoded(after.tx_hash) == [after]


def test_safe_and_finalized_are_behind_the_head(devchain: Network) -> None:
    head = devchain.node.head
    assert devchain.node.block("safe").number == head - EPOCH
    assert devchain.node.block("finalized").number == head - 2 * EPOCH


def test_a_rollback_lowers_the_head(devchain: Network) -> None:
    before = devchain.node.block("latest")
    devchain.node.mine(3)
    devchain.node.rollback(3)
    assert devchain.node.block("latest") == before


def test_time_moves_at_will_and_by_the_block(devchain: Network) -> None:
    node = devchain.node
    later = node.block("latest").time + 1_000_000
    node.set_time(later)
    node.mine(2)
    assert [node.block(node.head - 1).time, node.block(node.head).time] == [
        later,
        later + SECONDS_A_BLOCK,
    ]


@each_protocol
def test_a_revert_puts_everything_back(devchain: Network, name: str) -> None:
    protocol, node = devchain.protocols[name], devchain.node
    before = node.snapshot()
    first = protocol.liquidate()
    node.revert(before)

    assert protocol.liquidate() == first


def test_every_chain_has_the_same_hashes(devchain: Network) -> None:
    with anvil() as node:
        other = Network(node)
        assert node.block("latest") == devchain.node.block("latest")
        assert other.deployments() == devchain.deployments()


@pytest.mark.usefixtures("packages")
def test_a_node_ends_with_its_block() -> None:
    with anvil() as node:
        assert node.head == 0
    with pytest.raises(requests.ConnectionError):
        requests.post(node.url, timeout=10)


def test_the_indexer_is_told_the_addresses_and_roles(devchain: Network, tmp_path: Path) -> None:
    file = devchain.write_deployments(tmp_path / "deployments.json")

    listed = msgspec.json.decode(file.read_bytes(), type=list[dict[str, object]])

    assert [entry.pop("protocol") for entry in listed] == [
        "aave_v2", "aave_v3", "compound_v2", "morpho_blue", "venus_core", "venus_isolated",
        "venus_isolated",
    ]  # fmt: skip
    assert msgspec.convert(listed, list[Deployment]) == devchain.deployments()
    assert [at.role for at in devchain.deployments()] == [
        "pool", "pool", "comptroller", "morpho", "comptroller", "pool_registry", "comptroller",
    ]  # fmt: skip
