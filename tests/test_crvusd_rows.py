"""1,270 hard liquidations of crvUSD and LlamaLend as somebody else's scan has them.

They are no logs: amounts are floats of whole tokens, and nothing says which token a controller
takes. Logs are encoded from them here, so that they prove nothing of the encoding. What they prove:
whose controllers they are, who liquidated whom, and that the coins which the market had made of the
collateral belong to the collateral.
"""

import json
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from indexer.decode import load_abi
from indexer.evm_model import Decoded, Fact, LendingLiquidation, Log
from tests.evm_logs import DECODER, SPECS, encoded, known

BORROWED, COLLATERAL = "0x" + 40 * "b", "0x" + 40 * "c"
(LIQUIDATE,) = load_abi("crvusd_controller.json")
WAD = 10**18
# These have no block in the source of our deployments: only their factory's log can prove them. Of
# crvUSD's own there are nine, all of them deployments with a block, and none on other chains.
BY_FACTORY = {
    "0x98fc283d6636f6dcff5a817a00ac69a3add96907": "llamalend/controller",
    "0xc510d73ad34bedeca8978b6914461aa7b50cf3fc": "llamalend/controller",
    "0xdc8b1caf2e10de76fb67e82c2485e7d4fa098c53": "llamalend/controller",
    "0x9dba46e6a06fbf24ca11f8912b44338fe1b28ea9": "llamalend/controller",
    "0xc5cd9f6a1fb88bed782f475f72ff686ed35b7e8e": "llamalend/controller",
    "0x7a5a1c91daf5a41942f90b3f8a9c4d3526294c16": "llamalend/controller",
}


@pytest.fixture(scope="module")
def rows(real_data: Path) -> list[dict[str, Any]]:
    file = real_data / "evm" / "crvusd_llamalend_hard_liquidations.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def raw(amount: float) -> int:
    """As of a token of 18 decimals, to the digits that a float has."""
    return int(Decimal(repr(amount)) * WAD)


def log_of(row: dict[str, Any]) -> Log:
    return encoded(
        LIQUIDATE,
        {
            "liquidator": row["liquidator"],
            "user": row["user"],
            "collateral_received": raw(row["collateral_received"]),
            "stablecoin_received": raw(row["stablecoin_received"]),
            "debt": raw(row["debt_repaid"]),
        },
        chain=row["network"],
        address=row["controller"],
        tx_hash=row["tx_hash"],
    )


def decoded(row: dict[str, Any]) -> list[Decoded]:
    log = log_of(row)
    facts = [
        Fact(log.chain, "crvusd_borrowed", log.address, BORROWED),
        Fact(log.chain, "crvusd_collateral", log.address, COLLATERAL),
    ]
    if log.address in BY_FACTORY:
        facts.append(Fact(log.chain, "emitter", log.address, BY_FACTORY[log.address]))
    return DECODER.transaction([log], known(facts), is_whole=False)


def test_every_row_is_one_liquidation_of_a_known_controller(rows: list[dict[str, Any]]) -> None:
    found = [outcome for row in rows for outcome in decoded(row)]
    firsts = [one for one in found if isinstance(one, LendingLiquidation) and one.repaid]

    # 1,182 had coins, a second part each
    assert Counter(type(one) for one in found) == {LendingLiquidation: 1_270 + 1_182}
    assert Counter(one.venue for one in firsts) == {
        "crvusd.ethereum": 477,
        "llamalend.ethereum": 194,
        "llamalend.arbitrum": 272,
        "llamalend.fraxtal": 323,
        "llamalend.optimism": 4,
    }
    assert [(one.account, one.liquidator) for one in firsts] == [
        (row["user"].lower(), row["liquidator"].lower()) for row in rows
    ]


def test_both_columns_add_up_to_what_the_row_says(rows: list[dict[str, Any]]) -> None:
    legs: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for one in decoded(row):
            assert isinstance(one, LendingLiquidation)
            for side, leg in (("repaid", one.repaid), ("seized", one.seized)):
                legs[side, leg.asset or "" if leg else ""] += leg.raw if leg else 0

    assert legs == {
        ("repaid", BORROWED): sum(raw(row["debt_repaid"]) for row in rows),
        ("repaid", ""): 0,  # of the second parts
        ("seized", COLLATERAL): sum(raw(row["collateral_received"]) for row in rows),
        ("seized", BORROWED): sum(raw(row["stablecoin_received"]) for row in rows),
    }


def test_controllers_are_no_older_than_what_they_liquidated(rows: list[dict[str, Any]]) -> None:
    since = {
        (one.chain, one.address.lower()): one.since_block or 0
        for spec in SPECS
        if spec.name in ("crvusd", "llamalend")
        for one in spec.deployments
    }
    of_rows = {(row["network"], row["controller"].lower()) for row in rows}

    assert {address for _, address in of_rows - since.keys()} == BY_FACTORY.keys()
    assert [
        row["tx_hash"]
        for row in rows
        if since.get((row["network"], row["controller"].lower()), 0) >= row["block_number"]
    ] == []


def test_there_are_nine_markets_that_mint() -> None:
    deployed = DECODER.spec_of("crvusd.ethereum").deployments
    assert Counter(one.role for one in deployed) == {"controller": 9, "factory": 1}


def test_names_are_those_of_the_scan_but_for_what_only_factories_know(
    rows: list[dict[str, Any]],
) -> None:
    """The scan calls three of LlamaLend's markets crvUSD, among them one against crvUSD itself."""
    others = {
        row["controller"].lower()
        for row in rows
        for one in decoded(row)
        if isinstance(one, LendingLiquidation)
        and one.venue.partition(".")[0] != row["platform"].lower()
    }
    assert others == {
        "0x98fc283d6636f6dcff5a817a00ac69a3add96907",
        "0xc510d73ad34bedeca8978b6914461aa7b50cf3fc",
        "0xdc8b1caf2e10de76fb67e82c2485e7d4fa098c53",
    }


def spread(rows: list[dict[str, Any]], *, coins_are_collateral: bool) -> float:
    """How far apart is what liquidators of the same hour paid for one ether: the highest over the
    lowest, in the middle one of the hours."""
    paid: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        left = row["debt_repaid"] - row["stablecoin_received"]
        if row["collateral_token"] in ("ETH", "WETH") and left > 0 < row["collateral_received"]:
            of_debt = left if coins_are_collateral else row["debt_repaid"]
            paid[row["liquidation_time"][:13]].append(of_debt / row["collateral_received"])
    return median(max(prices) / min(prices) for prices in paid.values() if len(prices) > 1)


def test_what_is_paid_for_an_ether_is_about_the_same_only_if_coins_are_collateral(
    rows: list[dict[str, Any]],
) -> None:
    assert 1 < spread(rows, coins_are_collateral=True) < 1.1
    assert spread(rows, coins_are_collateral=False) > 2
