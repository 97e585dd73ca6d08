"""Real liquidations with prices that are given by hand: what our arithmetic makes of amounts and
prices must be what the records themselves say. Their README names each source."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from indexer.evm_model import (
    NATIVE,
    Decoded,
    Fact,
    LendingLiquidation,
)
from indexer.store.database import Connection
from tests.conftest import Command
from tests.evm_logs import DECODER
from tests.test_real_logs import (
    CETH,
    COMET,
    CUSDT,
    DAI,
    DECIMALS,
    SAMPLES,
    USDC,
    USDC_E,
    USDT,
    WETH,
    proved,
    receipt,
    sample,
    with_tokens,
)

AT = datetime(2024, 1, 1, tzinfo=UTC)
ARBITRUM_WETH = "0x82af49447d8a07e3bd95bd0d56f35241523fbab1"
RETH = "0xae78736cd615f374d3085123a210448e74fc6393"
VALUES = "SELECT basis, usd FROM liq.valuations"
ROW = """
    INSERT INTO ledger.lending_liquidation (
        venue, event_key, account, block_number, block_at, method, market, liquidator,
        repaid_asset, repaid_raw, seized_asset, seized_raw, seized_is_shares, protocol_fee_raw,
        fee_in_seized, decoder_version
    )
    VALUES (
        %(venue)s, %(event_key)s, %(account)s, %(block_number)s, %(block_at)s, %(method)s,
        %(market)s, %(liquidator)s, %(repaid_asset)s, %(repaid_raw)s, %(seized_asset)s,
        %(seized_raw)s, %(seized_is_shares)s, %(protocol_fee_raw)s, %(fee_in_seized)s,
        %(decoder_version)s
    )
"""
BY_ORACLE = """
    INSERT INTO ledger.price (
        venue, market, asset, block_number, log_index, source, usd, quality, trust, via,
        as_of_block, as_of_at
    )
    SELECT venue, market, %(asset)s, block_number, -1, 'oracle', %(usd)s, 'A', 'governed', '{}',
           block_number, block_at
    FROM ledger.lending_liquidation
"""


def times(amount: str, price: str) -> Decimal:
    """Exactly."""
    with localcontext(prec=80):
        return Decimal(amount) * Decimal(price)


def less(one: Decimal, other: Decimal) -> Decimal:
    """Exactly."""
    with localcontext(prec=80):
        return one - other


def values(connection: Connection, query: str) -> list[Any]:
    """The rows of a query, by their first column; numbers to the last digit."""
    return sorted(connection.execute(query).fetchall(), key=lambda row: str(row[0]))  # type: ignore[arg-type]


def liquidations(outcomes: Sequence[Decoded]) -> list[LendingLiquidation]:
    return [one for one in outcomes if isinstance(one, LendingLiquidation)]


def store(connection: Connection, row: LendingLiquidation) -> None:
    """As if it had been indexed."""
    legs = {"repaid": row.repaid, "seized": row.seized}
    named = {f"{leg}_asset": one and one.asset for leg, one in legs.items()}
    counted = {f"{leg}_raw": one and one.raw for leg, one in legs.items()}
    values = {**msgspec.structs.asdict(row), **named, **counted, "block_at": AT}
    with connection.transaction():
        connection.execute(ROW, values)


def price(connection: Connection, whole: Mapping[str, tuple[str, int]]) -> None:
    """By asset: dollars for a whole token, and its decimals."""
    with connection.transaction():
        for asset, (usd, decimals) in whole.items():
            unit = Decimal(usd).scaleb(-decimals)
            connection.execute(BY_ORACLE, {"asset": asset, "usd": unit})


@pytest.fixture
def valued(quick_indexer: Command) -> Any:
    """Values a venue without asking anybody."""

    def run(venue: str) -> None:
        done = quick_indexer("value", venue, "--offline")
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr

    return run


def test_a_comets_refund_is_not_in_the_value_of_its_debt(
    real_data: Path, connection: Connection, valued: Any
) -> None:
    """18,400.428695 - 1,833.440630 = 16,566.988065 USDC.e. The prices are the only ones of eight
    decimals at which the event's own usdValues come out: 18,399.50867356 for what was paid out,
    19,367.90386694 for the collateral."""
    facts = proved(Fact("arbitrum", "underlying", COMET, USDC_E))
    logs = receipt(real_data, "0xd2e9f1be")
    (row,) = liquidations(DECODER.transaction(logs, facts, is_whole=True))
    store(connection, row)
    price(connection, {USDC_E: ("0.99995", 6), ARBITRUM_WETH: ("2224.29075", 18)})

    valued("comet.arbitrum")

    assert values(connection, VALUES) == [
        ("repaid", Decimal("16566.15971559675")),
        ("seized", Decimal("19367.90386694496617970335925")),
    ]
    assert times("18400.428695", "0.99995") == Decimal("18399.50867356525")


class AaveCase(NamedTuple):
    """Amounts as the README has them; `price` is that at which the reserve's bonus comes out."""

    tx: str
    venue: str
    debt: str
    debt_decimals: int
    repaid: str
    collateral: str
    got: str
    fee: str
    price: str


AAVE = [
    AaveCase("0xc1a03e87", "aave_v3.ethereum", USDC, 6, "30.660134", WETH, "0.018891825379519208",
             "0.000090391508992915", "1695.96316853"),
    AaveCase("0xe0413af6", "spark.ethereum", DAI, 18, "52478.981693208930272653", RETH,
             "22.710179663725056310", "0.149549630899412412", "2456.39437318"),
    AaveCase("0x7257788d", "aave_v3.arbitrum", USDC_E, 6, "97.163926", ARBITRUM_WETH,
             "0.028405548095409717", "0.000135911713375166", "3574.52362225"),
]  # fmt: skip


@pytest.mark.parametrize("case", AAVE, ids=lambda case: case.tx)
def test_aave_keeps_a_tenth_of_the_bonus(
    real_data: Path, connection: Connection, valued: Any, case: AaveCase
) -> None:
    (row,) = liquidations(DECODER.transaction(receipt(real_data, case.tx), proved(), is_whole=True))
    store(connection, row)
    whole = {case.debt: ("1", case.debt_decimals), case.collateral: (case.price, 18)}
    price(connection, whole)

    valued(case.venue)

    found = dict(values(connection, VALUES))
    lost = str(Decimal(case.got) + Decimal(case.fee))
    assert found == {
        "repaid": Decimal(case.repaid),
        "seized": times(lost, case.price),
        "seized_net": times(case.got, case.price),
        "bonus": less(times(case.got, case.price), Decimal(case.repaid)),
    }
    kept = found["seized"] - found["seized_net"]
    tenth = (found["seized"] - found["repaid"]) / 10
    # the debt is known to a millionth of a dollar at best, the price to 8 decimals
    assert abs(kept - tenth) < Decimal("0.000001")
    assert values(connection, "SELECT * FROM liq.suspects") == []


@pytest.mark.parametrize(
    ("tx", "market", "debt", "decimals", "usd", "expected"),
    [
        # 1,907.307144 USDT in a market whose shares have eight decimals, not six: not 19.07
        ("0x0001a89e", CUSDT, USDT, 6, "1.0003", "1907.8793361432"),
        # 0.00168867571834735 ETH
        ("0x160c0e6d", CETH, NATIVE, 18, "2000.5", "3.378195774553873675"),
    ],
)
def test_a_compound_debt_has_the_decimals_of_its_token(
    real_data: Path,
    connection: Connection,
    valued: Any,
    tx: str,
    market: str,
    debt: str,
    decimals: int,
    usd: str,
    expected: str,
) -> None:
    facts = proved(Fact("ethereum", "underlying", market, debt))
    (row,) = liquidations(DECODER.transaction(receipt(real_data, tx), facts, is_whole=True))
    store(connection, row)
    price(connection, {debt: (usd, decimals)})

    valued("compound_v2.ethereum")

    assert values(connection, f"{VALUES} WHERE basis = 'repaid'") == [("repaid", Decimal(expected))]
    assert values(connection, "SELECT basis, reason FROM liq.unvalued WHERE basis = 'seized'") == [
        ("seized", "no price was asked for yet")
    ]


@pytest.mark.parametrize("tx", SAMPLES)
def test_a_repaid_value_is_what_the_source_of_the_log_says(
    real_data: Path, connection: Connection, valued: Any, tx: str
) -> None:
    """Its own figure went through a float, which leaves fifteen digits."""
    log, said = sample(real_data, tx)
    (row,) = liquidations(DECODER.transaction([log], with_tokens(log, said), is_whole=False))
    assert row.repaid is not None
    decimals = DECIMALS[said["debt_token"]]
    oracle = round(Decimal(repr(said["repaid_usd"])) / Decimal(row.repaid.raw).scaleb(-decimals), 8)
    store(connection, row)
    price(connection, {said["debt_token"]: (str(oracle), decimals)})

    valued(row.venue)

    ((_, usd),) = values(connection, f"{VALUES} WHERE basis = 'repaid'")
    assert float(usd) == pytest.approx(said["repaid_usd"], rel=1e-13)


BACKSTOP = "hyperliquid/backstop_three_records_one_event.json"
TAKEN_OVER = "0x4e8ffa69c78d7a067e1795fbe16a5c80c90b6c05"


def test_a_takeover_is_worth_less_at_its_price_than_at_the_mark(
    real_data: Path, connection: Connection, quick_indexer: Command, valued: Any
) -> None:
    """0.1037 ETH at 2,323.3 is 240.92621, as the exchange's ledger says; at 2,316.0, 240.1692; and
    less the equity of 0.756264 that it states, 240.169946."""
    done = quick_indexer(
        "backfill", "hyperliquid", "--account", TAKEN_OVER, "--from", real_data / BACKSTOP
    )
    assert done.returncode == 0, done.stderr

    valued("hyperliquid")

    query = "SELECT basis, usd, price_source, quality FROM liq.valuations"
    assert values(connection, f"{query} WHERE basis <> 'margin_lost'") == [
        ("bankruptcy", Decimal("240.169946"), "par", "A"),
        ("fill", Decimal("240.1692"), "par", "A"),
        ("mark", Decimal("240.92621"), "par", "A"),
        ("realised", Decimal("-9.94483"), "par", "A"),
    ]


def test_a_takeover_costs_the_equity_that_the_ledger_states(
    real_data: Path, connection: Connection, quick_indexer: Command, valued: Any
) -> None:
    """The price is 2,323.3 - 0.756264 / 0.1037 = 2,316.007, of which five digits are kept: what is
    between the mark and that price, 0.75701, is not what the account had."""
    done = quick_indexer(
        "backfill", "hyperliquid", "--account", TAKEN_OVER, "--from", real_data / BACKSTOP
    )
    assert done.returncode == 0, done.stderr

    valued("hyperliquid")

    assert values(connection, f"{VALUES} WHERE basis = 'margin_lost'") == [
        ("margin_lost", Decimal("0.756264"))
    ]
