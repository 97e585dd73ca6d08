"""Real receipts and logs against what others said about them; their README names each source.

What no log says (whose market it is, which token is behind it) comes as a fact, as it would from
the factory's own log or from a call; amounts, accounts and liquidators are never given.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from indexer.decode import Layout, load_abi
from indexer.evm_model import (
    NATIVE,
    Decoded,
    Dismissed,
    Fact,
    Facts,
    Learnt,
    Leg,
    LendingLiquidation,
    Log,
    Quarantined,
    UndecodedLog,
)
from tests.evidence import RECORDED, cases
from tests.evm_logs import CHAINS, DECODER, SPECS, known, looks_like, recorded

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
USDC = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
USDT = "0xdac17f958d2ee523a2206206994597c13d831ec7"
DAI = "0x6b175474e89094c44da98b954eedeac495271d0f"
USDE = "0x4c9edd5852cd905f086c759e8383e09bff1e68b3"
USDS = "0xdc035d45d973e3ec169d2276ddab16f1e407384f"
DECIMALS = {WETH: 18, USDC: 6, USDT: 6, DAI: 18, USDE: 18, USDS: 18}

CETH = "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5"
CUSDT = "0xf650c3d88d12db855b8bf7d11be6c55a4e07dcc9"
COMET = "0xa5edbdd9646f8dff606d7448e414884c7d905dca"
USDC_E = "0xff970a61a04b1ca14834a43f5de4533ebddb5cc8"
KATANA_MARKET = "0xcd2dc555dced7422a3144a4126286675449019366f83e9717be7c2deb3daae3e"

# Whose market an emitter is, as the source of the logs labels it.
MARKETS = {
    CETH: "compound_v2/market",
    CUSDT: "compound_v2/market",
    "0x39aa39c021dfbae8fac545936693ac917d5e7563": "compound_v2/market",
    "0xe65cdb6479bac1e22340e4e755fae7e509ecd06c": "compound_v2/market",
    "0x0568f6cb5a0e84faca107d02f81ddeb1803f3b50": "capyfi/market",
    "0x13eb80fdbe5c5f4a7039728e258a6f05fb3b912b": "venus_isolated/market",
    "0xc82780db1257c788f262fbbda960b3706dfdcaf2": "venus_isolated/market",
    "0x2daca71cb58285212dc05d65cfd4f59a82bc4cf6": "euler_v2/vault",
    "0x3573a84bee11d49a1cbce2b291538de7a7dd81c6": "euler_v2/vault",
    "0x412d0e31790d77b6e7a7872a9fd6967b6e640229": "euler_v2/vault",
    "0xa324f0274bc4f19764cdcc364707fd0f945bf0d8": "fluid/vault",
    "0x7bec989264dddb48a71cc726b64cf5f560f5926f": "silo_v2/hook",
}
SILO = "0xea00305557fea9ba1cfd699ebd38336ecd0f487c"
PROOFS = [Fact("ethereum", "emitter", market, role) for market, role in MARKETS.items()]


class AnyFact(dict[tuple[str, str, str], str | None]):
    """Answers what is not given with "there is none", so that nothing waits."""

    def __missing__(self, key: tuple[str, str, str]) -> None:
        return None


def proved(*facts: Fact) -> Facts:
    return AnyFact(known([*PROOFS, *facts]))


def records(real_data: Path, name: str) -> list[dict[str, Any]]:
    lines = (real_data / "evm" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def receipt(real_data: Path, start: str) -> list[Log]:
    (row,) = [r for r in records(real_data, "receipts") if r["case"].startswith(start)]
    return [recorded(log, row["chain_id"]) for log in row["receipt"]["logs"]]


def single_logs(real_data: Path, **chosen: str) -> list[Log]:
    return [
        recorded(row["log"], row["chain_id"])
        for row in records(real_data, "mainnet_liquidation_logs")
        if chosen.items() <= row.items()
    ]


def amounts(outcomes: list[Decoded]) -> list[tuple[Any, ...]]:
    """What the independent sources speak of."""
    return [
        (row.venue, row.account, row.liquidator, row.repaid, row.seized, row.protocol_fee_raw)
        for row in outcomes
        if isinstance(row, LendingLiquidation)
    ]


RECEIPTS = [
    # rotki: 38.160293005291481434 aLINK burned
    (
        "0x75ef28b5",
        ("aave_v1.ethereum", "0x8ca7ed9b02ec1e8beee868a32495ed5b157eee08",
         "0x4cd62db8e2d78db8138e4d6e0d65cf76ff2a3b85",
         Leg("0x57ab1ec28d129707052df4df418d58a2d46d5f51", 274_021843682369759590),
         Leg("0x514910771af9ca656af840dff83e8264ecf986ca", 38_160293005291481434), None),
    ),
    # no independent source
    (
        "0x00eea635",
        ("aave_v1.ethereum", "0xba215f7be6c620da3f8240b82741eaf3c5f5d786",
         "0x7b2ef92fdecdf4a156365eb78c9e92b44588fe84", Leg(NATIVE, 9_251070299427409111),
         Leg("0x2260fac5e5542a773aa44fbcfedf7c193bc2c599", 41590034), None),
    ),
    # rotki: 0.910875161581518408 WETH repaid, 0.956418919660594328 WETH taken
    (
        "0x2077a54e",
        ("aave_v2.ethereum", "0x1db64086b4cda94884e4fc296799a512dfc564ca",
         "0xb6569481dccddd527c2b0e8ba32f494e52224ca1", Leg(WETH, 910875161581518408),
         Leg(WETH, 956418919660594328), None),
    ),
    # rotki: fee 0.000090391508992915 aWETH; its burns differ from the event by interest
    (
        "0xc1a03e87",
        ("aave_v3.ethereum", "0x7420fa58ba44e1141d5e9adb6903be549f7ce0b5",
         "0x594efbe5a71a10a958d812b4c65f3dfa60922a15", Leg(USDC, 30_660134),
         Leg(WETH, 18891825379519208), 90391508992915),
    ),
    # contango lists it, the transfers of the receipt agree
    (
        "0xe0413af6",
        ("spark.ethereum", "0x7cf90ef7235d000794d496314364efd973c96cd0",
         "0xb441dea845a1a03a3e7aee81c03662fd9a1b6fda", Leg(DAI, 52478_981693208930272653),
         Leg("0xae78736cd615f374d3085123a210448e74fc6393", 22_710179663725056310),
         149549630899412412),
    ),
    (
        "0x7257788d",
        ("aave_v3.arbitrum", "0x538c570227f12a5d6bb901103c71859aa1793c4c",
         "0x329f60bc8e0f529e9a87dccb31c832ae81081187", Leg(USDC_E, 97_163926),
         Leg("0x82af49447d8a07e3bd95bd0d56f35241523fbab1", 28405548095409717),
         135911713375166),
    ),
    # rotki: 1907.307144 USDT, 258831.42924011 cBAT
    (
        "0x0001a89e",
        ("compound_v2.ethereum", "0x9bf62c518ffe86bd43d57c7026aa1a4fbea83b15",
         "0xd911560979b78821d7b045c79e36e9cbfc2f6c6f", Leg(USDT, 1907_307144),
         Leg("0x6c8c6b02e7b2be14d4fa6022dfd6d75921d90e4e", 258831_42924011), None),
    ),
    # rotki: 0.00168867571834735 ETH, 13.06078395 cUSDC
    (
        "0x160c0e6d",
        ("compound_v2.ethereum", "0xc440f3c87dc4b6843cabc413916220d4f4fed117",
         "0x89c745c97495644a44d19654c8adcaaacb7ec263", Leg(NATIVE, 1688675718347350),
         Leg("0x39aa39c021dfbae8fac545936693ac917d5e7563", 13_06078395), None),
    ),
    # contango lists it; 18,400.428695 paid out less 1,833.440630 given back
    (
        "0xd2e9f1be",
        ("comet.arbitrum", "0x8b604cfa88b7fcf09660b8500e14962a03f67097",
         "0x35460583dbe220be4711d814fcf95ac5685bd540", Leg(USDC_E, 16566_988065),
         Leg("0x82af49447d8a07e3bd95bd0d56f35241523fbab1", 8_707451517723106199), None),
    ),
    # contango lists it; 18,595.98 TANGO and 504.277253 USDC.e in the transfers of the receipt
    (
        "0x04a05341",
        ("silo_v1.arbitrum", "0x18c7b72b6061a9fca7a23647300fc2bcc9bafa8e",
         "0x479e0975b0b5f76a9d732574d6084147fb419e3c", Leg(USDC_E, 504_277253),
         Leg("0xc760f9782f8cea5b06d862574464729537159966", 18595_983615919134060479), 0),
    ),
    # kelbic asserts 233,776.522569 vbUSDC and 2.69169697 vbWBTC; the tokens are stand-ins
    (
        "0xf42780f7",
        ("morpho_blue.katana", "0x14bcd9da052cdc6fe0b9446d5a616d5b7b4d4550",
         "0x083cfa7fd187be983ce5d519fe7ae78357779998", Leg("vbUSDC", 233776_522569),
         Leg("vbWBTC", 2_69169697), None),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("start", "expected"), RECEIPTS, ids=[start for start, _ in RECEIPTS])
def test_a_receipt_decodes_to_what_others_say(
    real_data: Path, start: str, expected: tuple[Any, ...]
) -> None:
    facts = proved(
        Fact("ethereum", "underlying", CUSDT, USDT),
        Fact("arbitrum", "underlying", COMET, USDC_E),
        Fact("arbitrum", "emitter", SILO, "silo_v1/silo"),
        Fact("katana", "morpho_loan_token", KATANA_MARKET, "vbUSDC"),
        Fact("katana", "morpho_collateral_token", KATANA_MARKET, "vbWBTC"),
    )

    outcomes = DECODER.transaction(receipt(real_data, start), facts, is_whole=True)

    assert amounts(outcomes) == [expected]
    assert len(outcomes) == 1


def test_a_receipt_has_its_case_above_or_among_the_golden_ones_or_nobody_here_reads_it(
    real_data: Path,
) -> None:
    starts = {start for start, _ in RECEIPTS} | {
        start
        for spec in SPECS
        for case in cases(spec).values()
        if RECORDED.fullmatch(case.source)
        for start in re.findall("0x[0-9a-f]{8}", case.source)
    }
    others = [
        row["case"] for row in records(real_data, "receipts") if row["case"][:10] not in starts
    ]

    assert {start: DECODER.transaction(receipt(real_data, start), proved(), is_whole=True)
            for start in others} == {start: [] for start in others}  # fmt: skip


@pytest.mark.parametrize(
    ("start", "bonus_percent"), [("0xc1a03e87", 5), ("0x7257788d", 5), ("0xe0413af6", 7)]
)
def test_the_fee_is_a_tenth_of_the_bonus(real_data: Path, start: str, bonus_percent: int) -> None:
    (row,) = DECODER.transaction(receipt(real_data, start), {}, is_whole=True)

    assert isinstance(row, LendingLiquidation)
    assert row.seized is not None
    assert row.protocol_fee_raw is not None
    gross = row.seized.raw + row.protocol_fee_raw
    assert row.protocol_fee_raw == pytest.approx(
        gross * bonus_percent / (100 + bonus_percent) / 10, rel=1e-12
    )


def test_an_event_without_its_receipt_has_no_fee_rather_than_none_of_it(real_data: Path) -> None:
    logs = [log for log in receipt(real_data, "0xc1a03e87") if log.log_index == 255]

    (row,) = DECODER.transaction(logs, {}, is_whole=False)

    assert isinstance(row, LendingLiquidation)
    assert (row.protocol_fee_raw, row.fee_in_seized) == (None, None)


SAMPLES = [
    "0x5a3ef484", "0x333b1f82", "0x46cbc9c4", "0x97a9bf12", "0xf55fcfbc", "0xa9c7bffb",
    "0x4a2fe3b7", "0xd4add913", "0x4deef52d", "0xbfaf55b0", "0xe19e201e",
]  # fmt: skip


def sample(real_data: Path, start: str) -> tuple[Log, dict[str, Any]]:
    (row,) = [
        row
        for row in records(real_data, "mainnet_liquidation_logs")
        if row["case"].startswith(start)
    ]
    return recorded(row["log"], row["chain_id"]), row["expected"]


def with_tokens(log: Log, expected: dict[str, Any]) -> Facts:
    """The tokens that the source of the log found by calls at its block."""
    debt, collateral = expected["debt_token"], expected.get("collateral_token")
    return (
        proved(
            Fact(log.chain, "underlying", log.address, debt),
            Fact(log.chain, "morpho_loan_token", log.topics[-3], debt),
            Fact(log.chain, "morpho_collateral_token", log.topics[-3], collateral),
        )
        if len(log.topics) > 2
        else proved(Fact(log.chain, "underlying", log.address, debt))
    )


@pytest.mark.parametrize("start", SAMPLES)
def test_the_repaid_amount_times_an_oracle_price_is_what_the_source_says(
    real_data: Path, start: str
) -> None:
    """The price has eight decimals: an amount that were off by a unit would not give it."""
    log, expected = sample(real_data, start)

    (row,) = DECODER.transaction([log], with_tokens(log, expected), is_whole=False)

    assert isinstance(row, LendingLiquidation)
    assert row.repaid is not None
    assert row.repaid.asset == expected["debt_token"]
    amount = row.repaid.raw / 10 ** DECIMALS[expected["debt_token"]]
    price = round(expected["repaid_usd"] / amount, 8)
    assert price * amount == pytest.approx(expected["repaid_usd"], rel=1e-13)


@pytest.mark.parametrize("start", SAMPLES[:4])
def test_aave_names_the_tokens_that_the_source_found_by_calls(real_data: Path, start: str) -> None:
    log, expected = sample(real_data, start)

    row = DECODER.decode(log, {})

    assert isinstance(row, LendingLiquidation)
    assert (row.repaid and row.repaid.asset) == expected["debt_token"]
    assert (row.seized and row.seized.asset) == expected["collateral_token"]


def test_two_borrowers_in_one_transaction_are_two_rows(real_data: Path) -> None:
    logs = [log for log in single_logs(real_data) if log.tx_hash.startswith("0x32eb7f5e")]

    rows = DECODER.transaction(logs, proved(), is_whole=False)

    liquidator = "0x1f2f10d1c40777ae1da742455c65828ff36df387"
    assert [row[:3] for row in amounts(rows)] == [
        ("morpho_blue.ethereum", "0xe08d97e151473a848c3d9ca3f323cb720472d015", liquidator),
        ("morpho_blue.ethereum", "0x00000f91109c4d0007e90000d9facad5298a0cac", liquidator),
    ]


def test_four_borrowers_in_one_transaction_are_four_rows(real_data: Path) -> None:
    logs = [log for log in single_logs(real_data) if log.tx_hash.startswith("0x22854206")]

    rows = DECODER.transaction(logs, proved(), is_whole=False)

    accounts = {row.account for row in rows if isinstance(row, LendingLiquidation)}
    assert (len(rows), len(accounts)) == (4, 4)


@pytest.mark.parametrize(
    ("start", "bad_debt"), [("0x4deef52d", 4_404072), ("0xdc687eef", 261_930235), ("0xd4add913", 0)]
)
def test_bad_debt_is_what_morpho_says(real_data: Path, start: str, bad_debt: int) -> None:
    (log,) = [log for log in single_logs(real_data) if log.tx_hash.startswith(start)]

    row = DECODER.decode(log, proved())

    assert isinstance(row, LendingLiquidation)
    assert row.bad_debt == Leg(None, bad_debt)


def test_a_hundred_units_are_a_row_too(real_data: Path) -> None:
    log, expected = sample(real_data, "0x4a2fe3b7")
    row = DECODER.decode(log, with_tokens(log, expected))
    assert isinstance(row, LendingLiquidation)
    assert row.repaid == Leg(USDC, 100)


@pytest.mark.parametrize("protocol", ["euler_v2", "compound_v2", "venus_isolated"])
def test_shares_are_marked_as_shares(real_data: Path, protocol: str) -> None:
    rows = [DECODER.decode(log, proved()) for log in single_logs(real_data, protocol=protocol)]
    marks = {row.seized_is_shares for row in rows if isinstance(row, LendingLiquidation)}
    assert marks == {True}


def test_a_vault_can_be_debt_and_collateral(real_data: Path) -> None:
    logs = single_logs(real_data, protocol="euler_v2", set="complete_range")
    rows = [DECODER.decode(log, proved()) for log in logs]

    debts = {row.emitter for row in rows if isinstance(row, LendingLiquidation)}
    collaterals = {
        row.seized.asset for row in rows if isinstance(row, LendingLiquidation) and row.seized
    }

    assert debts & collaterals == {"0x3573a84bee11d49a1cbce2b291538de7a7dd81c6"}


def test_a_market_without_underlying_is_no_error_of_the_row(real_data: Path) -> None:
    log, expected = sample(real_data, "0x6e5c92a3")
    facts = proved(
        Fact("ethereum", "emitter", log.address, "compound_v2/market"),
        Fact("ethereum", "underlying", log.address, expected["debt_token"]),
    )

    row = DECODER.decode(log, facts)

    assert isinstance(row, LendingLiquidation)
    assert (row.repaid and row.repaid.asset) == USDT
    assert (row.seized and row.seized.asset) == "0xec0d3f28d37a3393cf09ee3ad446c485b6afdaa3"


def test_aave_v4_waits_for_its_reserves_and_is_then_a_row(real_data: Path) -> None:
    logs = single_logs(real_data, protocol="aave_v4")
    waiting = [DECODER.decode(log, {}) for log in logs]
    rows = [DECODER.decode(log, proved()) for log in logs]

    assert [w.missing.fact for w in waiting if isinstance(w, UndecodedLog) and w.missing] == (
        4 * ["aave_v4_asset"]
    )
    assert [r.emitter for r in rows if isinstance(r, LendingLiquidation)] == [
        "0x94e7a5dcbe816e498b89ab752661904e2f56c485",
        "0x973a023a77420ba610f06b3858ad991df6d85a08",
        "0x94e7a5dcbe816e498b89ab752661904e2f56c485",
        "0x973a023a77420ba610f06b3858ad991df6d85a08",
    ]


COMPLETE = {
    "aave_v3.ethereum": 6,
    "aave_v2.ethereum": 1,
    "morpho_blue.ethereum": 3,
    "euler_v2.ethereum": 8,
    "compound_v2.ethereum": 4,
    "venus_isolated.ethereum": 5,
}


def test_the_complete_range_is_found_whole(real_data: Path) -> None:
    logs = single_logs(real_data, set="complete_range")

    outcomes = [DECODER.decode(log, proved()) for log in logs]

    rows = [row for row in outcomes if isinstance(row, LendingLiquidation)]
    unknown = [row for row in outcomes if isinstance(row, Quarantined)]
    found = Counter(row.venue for row in rows)
    assert len(logs) == 29
    assert found & Counter(COMPLETE) == Counter(COMPLETE)
    assert [row.looks_like for row in unknown] == [looks_like(row.log) for row in unknown]
    assert {row.log.address[:10] for row in unknown} <= {"0xd55b0b38", "0x2c38134a"}
    assert len(rows) + len(unknown) == 29


def test_the_complete_range_is_found_whole_before_any_factory_was_read(real_data: Path) -> None:
    logs = single_logs(real_data, set="complete_range")

    outcomes = Counter(type(DECODER.decode(log, AnyFact())).__name__ for log in logs)

    assert outcomes["LendingLiquidation"] >= 10
    assert outcomes["LendingLiquidation"] + outcomes["Quarantined"] == 29


@pytest.mark.parametrize(
    ("label", "like"),
    [
        ("aave_style_unknown_fork", {"aave_v2", "aave_v3"}),
        ("compound_v2_fork", {"compound_v2", "venus_core"}),
        ("compound_v2_fork_moma", {"compound_v2", "venus_core"}),
    ],
)
def test_an_unknown_fork_is_kept_and_called_unknown(
    real_data: Path, label: str, like: set[str]
) -> None:
    logs = single_logs(real_data, protocol=label)
    assert [DECODER.decode(log, proved()) for log in logs] == [
        Quarantined(log, looks_like(log)) for log in logs
    ]
    assert [like - {*looks_like(log)} for log in logs] == [set()] * len(logs)
    assert logs != []


def test_a_fluid_vault_stands_for_its_positions(real_data: Path) -> None:
    """Nobody says which tokens the vault has; here they are stand-ins."""
    (log,) = single_logs(real_data, protocol="fluid_vault")
    tokens = [
        Fact(log.chain, f"fluid_{side}", log.address, side) for side in ("debt", "collateral")
    ]

    (row,) = DECODER.transaction([log], proved(*tokens), is_whole=False)

    assert amounts([row]) == [
        ("fluid.ethereum", log.address, "0x7dec5e9c8317adc21091f7b0f3db2a4f6a419632",
         Leg("debt", 162_470), Leg("collateral", 269_669_149_035_630), None)
    ]  # fmt: skip
    assert isinstance(row, LendingLiquidation)
    assert row.owner is None


def test_an_owner_who_changes_a_position_of_a_fluid_vault_yields_none(real_data: Path) -> None:
    (row,) = [
        row for row in records(real_data, "not_liquidations") if row["protocol"] == "fluid_vault"
    ]
    logs = [recorded(log, row["chain_id"]) for log in row["receipt"]["logs"]]
    operated = {log.address for log in logs if log.topics[0].startswith("0xfef64760")}
    facts = proved(*(Fact("arbitrum", "emitter", vault, "fluid/vault") for vault in operated))

    assert DECODER.transaction(logs, facts, is_whole=True) == []
    assert len(operated) == 1


def test_silo_v2_waits_for_its_receipt_and_names_debt_and_account(real_data: Path) -> None:
    """In the silo's token, a stand-in; which silo the collateral is of only the receipt says."""
    (log,) = single_logs(real_data, protocol="silo_v2")
    silo, other = "0x4ef4dc9def84e3cc54d7a4aa95877fbd4add36c1", "0x" + 40 * "1"
    market = f"config/{silo}/debt/protected/{other}/collateral/other"
    facts = proved(Fact(log.chain, "silo_v2_market", log.address, market))

    (waiting,) = DECODER.transaction([log], facts, is_whole=False)
    (row,) = DECODER.transaction([log], facts, is_whole=True)

    assert isinstance(waiting, UndecodedLog)
    assert (waiting.missing and waiting.missing.fact) == "receipt"
    assert amounts([row]) == [
        ("silo_v2.ethereum", "0x23ce39c9ab29d00fca9b83a50f64a67837c757c5",
         "0x00000f91109c4d0007e90000d9facad5298a0cac", Leg("debt", 1_550_245_125),
         Leg(None, 572_425_528_945_048_882_642), None)
    ]  # fmt: skip


def asked_for() -> set[str]:
    """The first topics that nodes are asked for."""
    return {topic for venue in DECODER.venues() for topic in DECODER.topics(venue)}


def test_every_log_of_a_protocol_here_becomes_a_row_or_is_quarantined(real_data: Path) -> None:
    logs = [log for log in single_logs(real_data) if log.topics[0] in asked_for()]

    outcomes = Counter(type(DECODER.decode(log, proved())).__name__ for log in logs)

    assert outcomes["LendingLiquidation"] >= 45
    assert outcomes["NoneType"] == 0


def test_what_is_no_liquidation_yields_none(real_data: Path) -> None:
    cases = [
        [recorded(log, row["chain_id"]) for log in row.get("receipt", {}).get("logs", [])]
        or [recorded(row["log"], row["chain_id"])]
        for row in records(real_data, "not_liquidations")
    ]

    outcomes = [o for logs in cases for o in DECODER.transaction(logs, proved(), is_whole=True)]

    assert len(cases) == 19
    assert [one for one in outcomes if not isinstance(one, Learnt | Dismissed)] == []
    taught = [fact.fact for o in outcomes if isinstance(o, Learnt) for fact in o.facts]
    assert {"aave_v4_asset", "aave_v4_underlying"} <= {*taught}


def reference(real_data: Path) -> list[dict[str, Any]]:
    file = real_data.parent / "reference" / "evm-protocols.json"
    protocols: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    wanted = {"aave", "aave-forks", "radiant", "agave", "compound", "compound-v2-forks", "venus"}
    wanted |= {"gmx"}
    return [
        protocol
        for protocol in protocols
        if protocol["protocol"] in wanted | {"morpho", "dolomite", "fluid", "silo", "gearbox"}
        or (protocol["protocol"], protocol["version"][:2])
        in {("euler", "v1"), ("euler", "v2"), ("liquity", "v2")}
    ]


ONE_NAME = {"swellchain": "swell"}  # the reference has two


def test_every_deployment_of_the_reference_is_here(real_data: Path) -> None:
    there = {
        (
            ONE_NAME.get(at["chain"], at["chain"]),
            address.lower(),
            at["first_block"] if address == at["address"] else None,
        )
        for protocol in reference(real_data)
        for at in protocol["deployments"]
        if not at.get("role", "").endswith("Resolver")  # Fluid's answer questions of others
        for address in (at["address"], *filter(None, [at.get("evc")]))
    }
    here = {
        (at.chain, at.address.lower(), at.since_block) for spec in SPECS for at in spec.deployments
    }

    assert there - here == set()
    beyond = {address for _, address, _ in here - there}
    vague = [
        at.address
        for spec in SPECS
        for at in spec.deployments
        if at.address.lower() in beyond and re.search(r"[\w.-]+/[\w.-]+", at.source) is None
    ]
    # eight public repositories name it, none of which is the protocol's own
    assert vague == ["0x5E15d5E33d318dCEd84Bfe3F4EACe07909bE6d9c"]


def test_topics_and_indexed_arguments_are_those_of_the_reference(real_data: Path) -> None:
    ours = {
        (event.signature, Layout(event).topic0, tuple(a.name for a in event.inputs if a.indexed))
        for spec in SPECS
        for contract in spec.contracts.values()
        for event in load_abi(contract.abi)
    }
    theirs = {
        (event["canonical"], event["topic0"], tuple(event["indexed"]))
        for protocol in reference(real_data)
        for event in protocol["events"]
    }

    # not mapped: what no row needs, what only bystanders emit, and events that never were
    assert {signature.partition("(")[0] for signature, _, _ in theirs - ours} <= {
        "DeficitCovered", "BalanceTransfer", "BuyCollateral", "Transfer", "LiquidationCall",
        "TroveOperation", "LogOperate", "IncurUncoveredLoss", "LiquidateCreditAccount",
        "DefaultingLiquidation", "DecreasePosition", "ClosePosition", "EventLog", "EventLog2",
    }  # fmt: skip
    assert [t for s, t, _ in theirs - ours if s.startswith("LiquidationCall")] == [
        "0x1802b80feb654f7eab59586a9157cbb066ed334e3b14710e18978cd23b3f6065"
    ]


def test_the_records_are_of_chains_that_we_name(real_data: Path) -> None:
    rows = records(real_data, "receipts") + records(real_data, "mainnet_liquidation_logs")
    assert {row["chain_id"] for row in rows} == set(CHAINS)
