"""The real command prices liquidations on the local chain; every value equals what the protocols'
own views say at that block, in fractions that the test makes itself."""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from indexer.evm_model import NATIVE, Leg, LendingLiquidation
from indexer.store.database import Connection
from tests import ledger_rows
from tests.conftest import Command
from tests.devchain.aave import Pair
from tests.devchain.anvil import EPOCH, STATES_KEPT, Tx
from tests.devchain.feeds import Together
from tests.devchain.full_node import FullNode
from tests.devchain.lending import Attempt
from tests.devchain.priced import Priced
from tests.devchain.priced_aave import PricedAave, PricedV2, PricedV3
from tests.devchain.priced_markets import Usd
from tests.devchain.test_follow import as_row, ledger
from tests.devchain.worth import exact, worths
from tests.processes import following, soon, stopped

Row = tuple[Any, ...]
Valued = Callable[..., None]
VALUES = "SELECT venue, event_key, account, basis, usd FROM liq.valuations"


@pytest.fixture
def valued(priced: Priced, quick_indexer: Command, tmp_path: Path) -> Valued:
    """Backfills all of the chain and values it."""

    def run(url: str = priced.node.url) -> None:
        priced.node.mine(2 * EPOCH)
        deployments = priced.write_deployments(tmp_path / "deployments.json")
        chain = priced.node.chain
        env = {f"RPC_{chain.upper()}": url, "INDEXER_DEPLOYMENTS": str(deployments)}
        for command in (("backfill", chain, "--from", 0, "--to", "1M"), ("value", chain)):
            done = quick_indexer(*command, **env)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    return run


# where one known token is ether, in which Aave v2 counts
on_ethereum = pytest.mark.parametrize("priced", ["ethereum"], indirect=True)


def in_order(found: Iterable[Sequence[Any]]) -> list[Row]:
    """By all that is no number: those are compared to the last digit, however many there are."""

    def words(row: Row) -> list[str]:
        return [str(one) for one in row if not isinstance(one, Decimal)]

    return sorted((tuple(row) for row in found), key=words)


def values(connection: Connection, query: str) -> list[Row]:
    """What a query gives."""
    return in_order(connection.execute(query).fetchall())  # type: ignore[arg-type]


def origins(connection: Connection, venue: str) -> list[Row]:
    """By whom each basis is priced, how well, and who is trusted with it."""
    return values(
        connection,
        "SELECT DISTINCT basis, price_source, quality, trust FROM liq.valuations"
        f" WHERE venue LIKE '{venue}.%'",
    )


def all_by(source: str, quality: str, trust: str, *bases: str) -> list[Row]:
    """What `origins` gives where all bases are alike."""
    return [(basis, source, quality, trust) for basis in sorted(bases)]


# the protocols


def test_aave_agrees_with_its_own_account_of_dollars(priced: Priced) -> None:
    """The test's own arithmetic against the pool's, into which a block's interest goes."""
    aave = priced.aave
    made = aave.make_of(aave.pair_of_tokens)
    worth = {one.basis: one.usd for one in worths(made, aave.usd)}

    collateral, debt = aave.lost(made.account, made.block_number)

    assert float(worth["seized"] / Decimal(float(collateral))) == pytest.approx(1, rel=1e-6)
    assert float(worth["repaid"] / Decimal(float(debt))) == pytest.approx(1, rel=1e-6)


def test_aave_v2_agrees_with_its_own_account_of_ether(priced: Priced) -> None:
    aave = priced.aave_v2()
    made = aave.make_of(aave.pair_of_tokens)
    worth = {one.basis: one.usd for one in worths(made, aave.quoted)}

    collateral, debt = aave.lost(made.account, made.block_number)

    assert float(worth["seized"] / Decimal(float(collateral))) == pytest.approx(1, rel=1e-6)
    assert float(worth["repaid"] / Decimal(float(debt))) == pytest.approx(1, rel=1e-6)


@on_ethereum
def test_aave_v2_values_are_its_oracles_in_ether_for_0_6_8_18_and_27_decimals(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave_v2()
    usd = aave.usd_by(priced.aave.usd)
    truth = [aave.make_of(pair) for pair in aave.pairs()]
    of_ether = aave.liquidate()
    expected = [one for row in (*truth, of_ether) for one in worths(row, usd)]

    valued()

    assert len(expected) == 4 * len([*aave.pairs(), aave.pair])
    assert values(connection, VALUES) == in_order(expected)
    assert origins(connection, "aave_v2") == all_by(
        "oracle", "B", "governed", *{one.basis for one in expected}
    )


@on_ethereum
@pytest.mark.parametrize("takes_atokens", [False, True], ids=["underlying", "aTokens"])
def test_aave_v2_collateral_has_the_same_value_in_either_form(
    priced: Priced, connection: Connection, valued: Valued, takes_atokens: bool
) -> None:
    aave = priced.aave_v2()
    account = aave.open_position()
    aave.fall()
    made = aave.make(aave.attempt(account, takes_atokens=takes_atokens))
    expected = worths(made, aave.usd_by(priced.aave.usd))

    valued()

    assert values(connection, VALUES) == in_order(expected)


def test_an_oracle_in_ether_of_a_chain_whose_ether_we_do_not_know_prices_nothing(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave_v2()
    aave.make_of(aave.pair_of_tokens)

    valued()

    assert values(connection, VALUES) == []
    assert values(connection, "SELECT DISTINCT reason FROM liq.unvalued") == [
        ("the unit of the oracle is unknown",)
    ]


def test_aave_values_are_its_oracles_for_0_6_8_18_and_27_decimals(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    truth = [aave.make_of(pair) for pair in aave.pairs()]
    expected = [one for row in truth for one in worths(row, aave.usd)]

    valued()

    assert len(expected) == 4 * len(aave.answers)
    assert values(connection, VALUES) == in_order(expected)
    assert origins(connection, "aave_v3") == all_by(
        "oracle", "A", "governed", *{one.basis for one in expected}
    )


def test_compound_v2_values_are_its_oracles_with_6_and_8_decimals(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    compound = priced.compound_v2()
    expected = worths(compound.liquidate(), compound.usd)

    valued()

    assert values(connection, VALUES) == in_order(expected)
    assert origins(connection, "compound_v2") == [
        ("repaid", "oracle", "A", "governed"),
        ("seized", "oracle", "A-", "governed"),  # its shares earn in the block itself
    ]


@on_ethereum
def test_compound_v2_values_are_its_oracles_when_it_counted_in_ether(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    compound = priced.compound_in_ether()
    usd = compound.usd_by(priced.aave.usd, priced.aave.ether.address)
    truth = [compound.liquidate(), compound.liquidate_a_debt_in_ether()]
    expected = [one for row in truth for one in worths(row, usd)]

    valued()

    assert [row.repaid and row.repaid.asset for row in truth] == [compound.dollar.address, NATIVE]
    assert values(connection, VALUES) == in_order(expected)
    assert {row[1:3] for row in origins(connection, "compound_v2")} == {
        ("oracle", "B"),
        ("oracle", "B-"),
    }


def test_venus_core_values_are_its_oracles_with_0_and_27_decimals(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    core = priced.core()
    expected = worths(core.liquidate(), core.usd)

    valued()

    assert values(connection, VALUES) == in_order(expected)


@pytest.mark.parametrize("priced", ["bsc"], indirect=True)
def test_vai_is_liquidated_at_a_dollar(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    """By the genuine controller; for the collateral the pool takes it at that price too."""
    vai = priced.vai()
    made = vai.liquidate()
    assert made.repaid is not None and made.seized is not None
    assert made.seized.raw == vai.seizable(made.repaid.raw, made.block_number)
    expected = worths(made, vai.usd)

    valued()

    assert ledger(connection) == [as_row(made)]
    assert {one.basis for one in expected} >= {"repaid", "seized"}
    assert values(connection, VALUES) == in_order(expected)


@pytest.mark.parametrize("priced", ["bsc"], indirect=True)
def test_the_liquidator_of_venus_names_who_it_was_and_keeps_a_part(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    """Half of the bonus of a tenth, from debt in VAI as from debt in dollars."""
    vai = priced.vai()
    vai.appoint()
    priced.tell([one for one in vai.deployments() if one.role == "liquidator"])
    truth = vai.liquidate_both()
    expected = [one for row in truth for one in worths(row, vai.usd)]
    for row in truth:
        assert row.seized is not None and row.protocol_fee_raw is not None
        assert row.protocol_fee_raw == pytest.approx(row.seized.raw / 22, rel=1e-9)

    valued()

    assert ledger(connection) == ledger_rows.in_order(map(as_row, truth))
    assert values(connection, VALUES) == in_order(expected)


def test_venus_isolated_values_are_its_oracles_with_6_and_8_decimals(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    isolated = priced.isolated()
    expected = worths(isolated.liquidate(), isolated.usd)

    valued()

    assert values(connection, VALUES) == in_order(expected)


def test_a_morpho_market_is_priced_by_its_oracle_in_a_loan_that_aave_prices(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    market = priced.morpho()
    expected = worths(market.liquidate(), market.usd_by(priced.aave.usd))

    valued()

    legs = [one for one in expected if one.basis != "bonus"]
    assert values(connection, f"{VALUES} WHERE basis <> 'bonus'") == in_order(legs)
    assert origins(connection, "morpho_blue")[-2:] == [
        ("seized", "oracle", "B", "market"),
        ("seized_net", "oracle", "B", "market"),
    ]


def test_a_morpho_liquidation_has_a_bonus_and_it_is_nothing_to_suspect(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    """Its two legs are of one oracle in the end: that of the loan token."""
    market = priced.morpho()
    expected = worths(market.liquidate(), market.usd_by(priced.aave.usd))

    valued()

    bonus = [one for one in expected if one.basis == "bonus"]
    assert values(connection, f"{VALUES} WHERE basis = 'bonus'") == in_order(bonus)
    assert values(connection, "SELECT * FROM liq.suspects") == []


def test_bad_debt_of_a_morpho_market_is_in_dollars_of_its_loan(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    market = priced.morpho()
    _, second = market.liquidate_to_the_end()
    expected = worths(second, market.usd_by(priced.aave.usd))

    valued()

    assert second.bad_debt is not None and second.bad_debt.raw > 0
    assert values(
        connection, f"{VALUES} WHERE basis = 'bad_debt' AND event_key = '{second.event_key}'"
    ) == [one for one in expected if one.basis == "bad_debt"]


def test_what_a_healing_wrote_off_is_in_dollars(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    """No log tells what the market kept of the shares: of those it is only what the payer got."""
    isolated = priced.isolated()
    truth = isolated.heal()
    assert truth.seized is not None and truth.protocol_fee_raw is not None
    given = Leg(truth.seized.asset, truth.seized.raw - truth.protocol_fee_raw)
    expected = worths(truth.with_(seized=given, protocol_fee_raw=None), isolated.usd)

    valued()

    assert {one.basis for one in expected} == {"repaid", "seized", "bad_debt"}
    assert values(connection, VALUES) == in_order(expected)
    assert values(connection, "SELECT basis, reason FROM liq.unvalued") == [
        ("bonus", "the protocol fee is unknown"),
        ("seized_net", "the protocol fee is unknown"),
    ]


def test_play_money_has_no_value_and_says_why(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    made = priced.play_money().liquidate()

    valued()

    assert values(connection, VALUES) == []
    found = values(connection, "SELECT event_key, basis, reason FROM liq.unvalued")
    no_unit = "no dollar price of the unit that the oracle quotes"
    assert found == in_order(
        [
            (made.event_key, "bad_debt", no_unit),
            (made.event_key, "bonus", no_unit),
            (made.event_key, "repaid", no_unit),
            (made.event_key, "seized", no_unit),
            (made.event_key, "seized_net", no_unit),
        ]
    )


def test_a_comet_in_ether_is_worth_its_ratios_times_aaves_ether(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    comet = priced.comet()
    usd = comet.usd_by(priced.aave.usd)
    with_refund = comet.absorb(3_123456789012345678, 5_000000000000000001, 13_000007)
    with_loss = comet.absorb(9_123456789012345678, 5_000000000000000001)
    expected = [one for row in (*with_refund, *with_loss) for one in worths(row, usd)]

    valued()

    assert values(connection, VALUES) == in_order(expected)


@on_ethereum
def test_exactly_values_are_its_auditors_in_ether_times_aaves_ether(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    """Debt that is paid, collateral, and debt that is written off."""
    exactly = priced.exactly()
    usd = exactly.usd_by(priced.aave.usd)
    expected = [one for row in exactly.everything() for one in worths(row, usd)]

    valued()

    assert {one.basis for one in expected} == {"repaid", "seized", "bad_debt"}
    assert values(connection, VALUES) == in_order(expected)
    assert {row[1:3] for row in origins(connection, "exactly")} == {("oracle", "B")}


def test_euler_values_are_its_routers_in_dollars_and_in_ether(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    euler, aave = priced.euler(), priced.aave
    by_dollar = euler.liquidate(euler.by_dollar, 10_000_000001, 5_600000000000000123)
    by_ether = euler.liquidate(euler.by_ether, 10_000_000003, 5_500000000000000321)
    expected = [
        *worths(by_dollar, euler.usd_by(euler.by_dollar, aave.usd)),
        *worths(by_ether, euler.usd_by(euler.by_ether, aave.usd)),
    ]

    valued()

    by_router = f"{VALUES} WHERE price_source = 'oracle'"
    assert values(connection, by_router) == in_order(expected)
    shares = Fraction(euler.RATE, 10**18)

    def governed(asset: str, at: int) -> Fraction:
        of_token = {euler.dollar.address: euler.dollar, euler.collateral.address: euler.ether}
        token = aave.usd(of_token[asset].address, at)
        return token * shares if asset == euler.collateral.address else token

    second = [one for row in (by_dollar, by_ether) for one in worths(row, governed)]
    by_aave = f"{VALUES} WHERE price_source = 'reference'"
    assert values(connection, by_aave) == in_order(second)
    assert values(connection, "SELECT DISTINCT price_source, trust FROM liq.valuations") == [
        ("oracle", "market"),
        ("reference", "governed"),
    ]


def test_a_liquidation_that_gave_next_to_nothing_is_suspect_and_stays(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    euler = priced.euler()
    made = euler.liquidate(euler.by_dollar, 10_000_000001, 1_000)

    valued()

    assert values(connection, "SELECT event_key, rule FROM liq.suspects") == [
        (made.event_key, "bonus")
    ]
    assert values(
        connection, "SELECT DISTINCT event_key FROM liq.valuations WHERE basis = 'repaid'"
    ) == [(made.event_key,)]


# where in the block


def liquidated(
    aave: PricedAave,
    before: Sequence[int],
    own: Sequence[int],
    after: Sequence[int],
    then: Sequence[Tx] = (),
    *,
    first: Sequence[Tx] = (),
) -> LendingLiquidation:
    """The liquidation of a new account, see `liquidate`."""
    account, liquidator = aave.open_of(aave.pair), Together(aave.deployer)
    return liquidate(aave, account, liquidator, before, own, after, then, first=first)


def liquidate(
    aave: PricedAave,
    account: str,
    liquidator: Together,
    before: Sequence[int],
    own: Sequence[int],
    after: Sequence[int],
    then: Sequence[Tx] = (),
    *,
    first: Sequence[Tx] = (),
) -> LendingLiquidation:
    """One block: whatever comes first, answers of the moving feed, a transaction with answers and
    then the liquidation, further answers, and whatever else."""
    pair, deployer = aave.pair, aave.deployer
    feed = aave.moving.aggregator
    money = aave.loan_of(pair.debt)
    deployer.send(pair.debt, "mint", liquidator.address, money)

    def answers(given: Sequence[int]) -> list[Tx]:
        return [feed.tx(deployer.address, "report", answer) for answer in given]

    tx = liquidator.tx(
        [
            *((feed, "report", answer) for answer in own),
            (pair.debt, "approve", aave.pool.address, money),
            (aave.pool, *aave.liquidation(account, pair)),
        ]
    )
    earlier = (*first, *answers(before))
    receipts = aave.node.send_together(*earlier, tx, *answers(after), *then)
    return aave.truth(Attempt(account, liquidator.address, tx), receipts[len(earlier)], pair)


def at_the_log(aave: PricedV3, block_number: int) -> Usd:
    """Ether at AT, the dollar as its feed says all along."""
    dollar = aave.usd(aave.dollar.address, block_number)
    ether = Fraction(AT, 10**8 * 10**18)
    return lambda asset, at: ether if asset == aave.ether.address else dollar


AT, LATER = 1_750_12345678, 1_640_87654321  # the feed said 2,000 dollars before


@pytest.mark.parametrize(
    ("before", "own", "after"),
    [
        pytest.param([AT], [], [], id="in the transaction before"),
        pytest.param([], [AT], [], id="in its own transaction"),
        pytest.param([], [AT], [LATER], id="in its own and in a later one"),
        pytest.param([LATER], [AT], [LATER], id="on both sides"),
    ],
)
def test_a_feed_that_changes_in_the_block_is_worth_what_it_said_at_the_log(
    priced: Priced,
    connection: Connection,
    valued: Valued,
    before: list[int],
    own: list[int],
    after: list[int],
) -> None:
    aave = priced.aave
    made = liquidated(aave, before, own, after)
    usd = at_the_log(aave, made.block_number)

    valued()

    best = "SELECT repaid_usd, seized_usd FROM liq.lending_values"
    expected = {one.basis: one.usd for one in worths(made, usd)}
    assert values(connection, best) == [(expected["repaid"], expected["seized"])]


def test_a_feed_that_changes_after_the_liquidation_does_not_change_its_value(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    account, liquidator = aave.open_of(aave.pair), Together(priced.deployer)
    aave.feeds[aave.ether.address].report(AT)
    made = liquidate(aave, account, liquidator, [], [], [LATER])
    expected = worths(made, at_the_log(aave, made.block_number))

    valued()

    assert values(connection, VALUES) == in_order(expected)
    assert origins(connection, "aave_v3") == all_by(
        "oracle", "A", "governed", *{one.basis for one in expected}
    )


OF_ETHER = 571_428_571_428_573  # wei for a dollar; the feed said 0.0005 ether before


def through_ether(aave: PricedV2, ether: int) -> Usd:
    """A dollar at OF_ETHER, and ether at an answer of the feed that others read."""
    of_ether = Fraction(ether, 10**8 * 10**18)
    usd = {
        aave.ether.address: of_ether,
        aave.dollar.address: of_ether * OF_ETHER / 10**aave.dollar_decimals,
    }
    return lambda asset, at: usd[asset]


@on_ethereum
@pytest.mark.parametrize(
    ("first", "then", "ether"),
    [
        pytest.param([], [LATER], 2_000_00004321, id="ether changes after it"),
        pytest.param([AT], [], AT, id="ether changes before it"),
        pytest.param([AT], [LATER], AT, id="ether changes on both sides"),
    ],
)
def test_two_feeds_that_change_in_the_block_are_both_read_at_the_log(
    priced: Priced,
    connection: Connection,
    valued: Valued,
    first: list[int],
    then: list[int],
    ether: int,
) -> None:
    aave, feed, owner = priced.aave_v2(), priced.aave.moving.aggregator, priced.deployer.address
    made = liquidated(
        aave, [], [OF_ETHER], [OF_ETHER * 2],
        [feed.tx(owner, "report", answer) for answer in then],
        first=[feed.tx(owner, "report", answer) for answer in first],
    )  # fmt: skip

    valued()

    assert values(connection, VALUES) == in_order(worths(made, through_ether(aave, ether)))
    assert {row[1:3] for row in origins(connection, "aave_v2")} == {("oracle", "B")}


# as it happens


def test_a_followed_liquidation_is_valued_while_it_is_new(
    priced: Priced, connection: Connection, conninfo: str, tmp_path: Path
) -> None:
    aave = priced.aave
    deployments = priced.write_deployments(tmp_path / "deployments.json")
    env = {"RPC_ANVIL": f"{priced.node.url},{priced.node.ws_url}"}

    with following(
        conninfo, tmp_path, "anvil", INDEXER_DEPLOYMENTS=str(deployments), **env
    ) as process:
        soon(lambda: values(connection, "SELECT chain FROM liq.chains") == [("anvil",)])
        expected = in_order(worths(aave.make_of(aave.pair), aave.usd))
        soon(lambda: values(connection, VALUES) == expected, seconds=60)
        said = stopped(process)

    assert (process.returncode, "Traceback" in said) == (0, False), said


# without an archive


def test_without_old_state_the_feeds_own_logs_tell_the_same(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    made = liquidated(aave, [], [AT], [LATER])
    usd = at_the_log(aave, made.block_number)
    priced.node.mine(2 * STATES_KEPT)

    valued()

    expected = worths(made, usd)
    assert values(connection, VALUES) == in_order(expected)
    assert origins(connection, "aave_v3") == all_by(
        "feed_log", "B", "governed", *{one.basis for one in expected}
    )


@on_ethereum
def test_without_old_state_the_logs_of_two_feeds_tell_the_same(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave_v2()
    priced.aave.moving.report(AT)
    made = liquidated(aave, [], [OF_ETHER], [OF_ETHER * 2])
    priced.node.mine(2 * STATES_KEPT)

    valued()

    assert values(connection, VALUES) == in_order(worths(made, through_ether(aave, AT)))
    assert {row[1:3] for row in origins(connection, "aave_v2")} == {("feed_log", "B")}


def test_a_feed_whose_aggregator_was_replaced_since_is_still_read(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    made = liquidated(aave, [], [AT], [])
    usd = at_the_log(aave, made.block_number)
    aave.feeds[aave.ether.address].replace(LATER)
    priced.node.mine(2 * STATES_KEPT)

    valued()

    assert values(connection, VALUES) == in_order(worths(made, usd))
    assert {row[1] for row in origins(connection, "aave_v3")} == {"feed_log"}


def test_an_endpoint_that_says_in_geths_words_that_it_has_no_state_is_no_archive(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    made = liquidated(aave, [], [AT], [])
    usd = at_the_log(aave, made.block_number)
    priced.node.mine(80)

    with FullNode(priced.node.url) as full_node:
        valued(full_node.url)

    assert full_node.refused > 0
    expected = worths(made, usd)
    assert values(connection, VALUES) == in_order(expected)
    assert {row[1] for row in origins(connection, "aave_v3")} == {"feed_log"}


def test_a_feed_that_was_silent_for_two_days_prices_nothing(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave, node = priced.aave, priced.node
    account, liquidator = aave.open_of(aave.pair), Together(priced.deployer)
    node.set_time(node.block("latest").time + 2 * 86_400)
    node.mine(1)
    made = liquidate(aave, account, liquidator, [], [AT], [])
    collateral = aave.usd(aave.ether.address, made.block_number)
    node.mine(2 * STATES_KEPT)

    valued()

    assert made.seized is not None and made.protocol_fee_raw is not None
    assert values(connection, "SELECT basis, usd FROM liq.valuations") == [
        ("seized", exact((made.seized.raw + made.protocol_fee_raw) * collateral)),
        ("seized_net", exact(made.seized.raw * collateral)),
    ]
    assert values(connection, "SELECT basis, reason FROM liq.unvalued") == [
        ("bonus", "the feed is stale"),
        ("repaid", "the feed is stale"),
    ]


# what no oracle says


BAD = [pytest.param((0, False), id="0"), pytest.param((-5, False), id="negative"),
       pytest.param((AT, True), id="reverts")]  # fmt: skip


@pytest.mark.parametrize("turn", BAD)
def test_an_oracle_that_stops_answering_in_the_block_prices_nothing(
    priced: Priced, connection: Connection, valued: Valued, turn: tuple[int, bool]
) -> None:
    """The pool itself refuses such a price, so that it comes after the liquidation."""
    aave = priced.aave
    feed = aave.feeds[aave.ether.address].aggregator
    answer, is_broken = turn
    now = priced.node.block("latest").time
    made = liquidated(
        aave, [], [AT], [], (feed.tx(priced.deployer.address, "turn", answer, now, is_broken),)
    )

    valued()

    assert values(connection, "SELECT DISTINCT basis FROM liq.valuations") == [("repaid",)]
    assert values(connection, "SELECT event_key, basis, reason FROM liq.unvalued") == [
        (made.event_key, basis, "the oracle reverts") for basis in ("bonus", "seized", "seized_net")
    ]
    assert values(connection, "SELECT usd FROM liq.valuations WHERE usd <= 0") == []


def test_a_market_without_a_price_at_the_end_of_the_block_has_no_value(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    core = priced.core()
    account, liquidator = core.open_position(), Together(priced.deployer)
    priced.deployer.send(core.dollar, "mint", liquidator.address, core.repaid_raw)
    core.fall()
    owner, market = priced.deployer.address, core.dollar_market
    calls = [
        (core.dollar, "approve", market.address, core.repaid_raw),
        (market, "liquidateBorrow", account, core.repaid_raw, core.ether_market.address),
    ]
    no_price = core.prices.tx(owner, "set", core.ether_market.address, 0)
    receipts = priced.node.send_together(liquidator.tx(calls), no_price)
    made = core.truth(Attempt(account, liquidator.address, no_price), receipts[0])

    valued()

    assert made.repaid is not None and made.repaid.asset is not None
    repaid = made.repaid.raw * core.usd(made.repaid.asset, made.block_number)
    assert values(connection, "SELECT basis, usd FROM liq.valuations") == [
        ("repaid", exact(repaid))
    ]
    assert ("seized", "the oracle answers 0") in values(
        connection, "SELECT basis, reason FROM liq.unvalued"
    )


def test_a_token_that_states_no_decimals_has_no_value(
    priced: Priced, connection: Connection, valued: Valued
) -> None:
    aave = priced.aave
    made = aave.make_of(Pair(aave.mute, aave.dollar))
    assert made.repaid is not None and made.repaid.asset is not None
    repaid = made.repaid.raw * aave.usd(made.repaid.asset, made.block_number)

    valued()

    assert values(connection, "SELECT basis, usd FROM liq.valuations") == [
        ("repaid", exact(repaid))
    ]
    assert values(connection, "SELECT basis, reason FROM liq.unvalued") == [
        (basis, "the token states no decimals") for basis in ("bonus", "seized", "seized_net")
    ]
