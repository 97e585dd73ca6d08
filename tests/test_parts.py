"""One liquidation with its parts: what a chain tells in several logs, calls or transactions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from indexer.chain import redecode
from indexer.decode import load_abi
from indexer.evm_model import BlockRef, Fact, Log
from indexer.store import chain_rows
from indexer.store.database import Connection
from indexer.store.explain import explain
from tests.evm_logs import DECODER, GOLDEN, Case, encoded
from tests.ledger_rows import rows
from tests.oracle_world import TIME

DAI_LEFT = Decimal(14900139506171583950617)
VAULT = "0x0000000000000000000000000000000000000a11"
BARK = f"maker.ethereum/0x{64 * '7'}/5/{VAULT}"


def golden(name: str) -> Case:
    return msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes(), type=Case)


def moved(logs: Sequence[Log], blocks: int) -> list[Log]:
    """The same logs in another transaction, so many blocks later."""
    return [
        msgspec.structs.replace(
            log,
            block_number=log.block_number + blocks,
            block_hash=f"0x{log.block_number + blocks:064x}",
            tx_hash=f"0x{blocks:064x}",
        )
        for log in logs
    ]


def at(blocks: int) -> datetime:
    return datetime.fromtimestamp(TIME + 12 * blocks, UTC)


def published(
    connection: Connection,
    venue: str,
    facts: Sequence[Fact],
    logs: Sequence[Log],
    *,
    is_whole: bool,
) -> None:
    """Logs of a venue as a follower stores them, and whatever follows from them."""
    chain = logs[0].chain
    numbers = {log.block_number: log.block_hash for log in logs}
    with connection.transaction():
        chain_rows.append_blocks(
            connection,
            [BlockRef(chain, number, found, "", TIME + 12 * (number - 1000))
             for number, found in numbers.items()],
        )  # fmt: skip
        known = {fact.key: fact.value for fact in facts}
        chain_rows.append_logs(
            connection, chain, [(log, DECODER.venue_of(log, known), is_whole) for log in logs]
        )
        chain_rows.append_facts(connection, [(fact, 1, None) for fact in facts])
        connection.execute(
            """
            INSERT INTO ledger.coverage (
                venue, facts, blocks, times, verification, decoder_version, filter_hash,
                parent_hash, last_hash, logs, digest, read_from
            ) SELECT %s, 'liquidations', '[990,2000)', tstzrange(%s, %s, '[]'), 'receipts', 1, %s,
                     '0xp', '0xl', counted.logs, counted.digest, '{somebody}'
            FROM ledger.counted(%s, '[990,2000)') counted
            """,
            (venue, at(0), at(1000), DECODER.filter_hash(venue), venue),
        )
    redecode.redecode(connection, DECODER, [venue])


def case(connection: Connection, venue: str, name: str) -> None:
    found = golden(name)
    published(connection, venue, found.facts, found.logs, is_whole=found.is_whole)


def parts(connection: Connection, columns: str) -> list[Any]:
    query = f"SELECT liquidation, part, kind, {columns} FROM liq.liquidation_parts"
    return rows(connection, query)


# -- Maker: an auction with its takes ------------------------------------------------------------


@pytest.fixture
def sold(connection: Connection) -> Connection:
    """A Bark with its auction, and two blocks on a take, a new price, and the last take."""
    bark, sale = golden("maker/auction_started"), golden("maker/nothing_sale")
    logs = [*bark.logs, *moved(sale.logs[:2], 2), *moved(sale.logs[2:3], 5)]
    published(connection, "maker.ethereum", bark.facts, logs, is_whole=False)
    return connection


AMOUNTS = "repaid_raw, seized_raw, paid_raw, sold_raw, debt_left_raw, collateral_left_raw"


def test_what_the_sale_brought_stands_beside_the_row_of_the_vault(sold: Connection) -> None:
    paid, left = 19000 * 10**18, DAI_LEFT
    all_of_it, debt = Decimal(21 * 10**18), Decimal(33900139506171583950617)
    assert parts(sold, AMOUNTS) == [
        (BARK, 0, "row", Decimal(30000123456789012345678), all_of_it, None, None, None, None),
        (BARK, 1, "auction", None, None, None, None, debt, all_of_it),
        (BARK, 2, "take", None, None, Decimal(paid), Decimal(10**19), left, Decimal(11 * 10**18)),
        (BARK, 3, "redo", None, None, None, None, left, Decimal(11 * 10**18)),
        (BARK, 4, "take", None, None, left, Decimal(10**19), Decimal(0), Decimal(10**18)),
    ]
    assert rows(sold, "SELECT DISTINCT is_over FROM liq.liquidation_parts") == [(True,)]


def test_an_auction_says_what_it_brought_and_what_went_back(sold: Connection) -> None:
    raised = Decimal(33900139506171583950617)
    query = """
        SELECT liquidation, venue, account, started_at, ended_at, outcome, takes, debt_asset,
               debt_raw, paid_raw, debt_left_raw, collateral_asset, collateral_raw, sold_raw,
               collateral_left_raw FROM liq.auctions
    """
    dai, token = ("0x" + 37 * "0" + end for end in ("da1", "0e1"))
    assert rows(sold, query) == [
        (BARK, "maker.ethereum", VAULT, at(0), at(5), "paid", 2, dai, raised, raised, Decimal(0),
         token, Decimal(21 * 10**18), Decimal(20 * 10**18), Decimal(10**18)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "outcome"), [(slice(0, 2), "open"), (slice(3, 4), "cancelled"), (slice(2, 3), "paid")]
)
def test_an_auction_ends_by_its_last_take_or_by_governance(
    connection: Connection, last: slice, outcome: str
) -> None:
    bark, sale = golden("maker/auction_started"), golden("maker/nothing_sale")
    # the case cancels the next auction: let it be this one
    logs = [msgspec.structs.replace(log, data=log.data.replace(f"{8:064x}", f"{7:064x}"))
            for log in sale.logs[last]]  # fmt: skip
    published(
        connection, "maker.ethereum", bark.facts, [*bark.logs, *moved(logs, 2)], is_whole=False
    )
    ended = None if outcome == "open" else at(2)
    assert rows(connection, "SELECT outcome, ended_at FROM liq.auctions") == [(outcome, ended)]


def test_of_an_auction_whose_bids_are_anonymous_only_the_beginning_is_known(
    connection: Connection,
) -> None:
    case(connection, "maker.ethereum", "maker/bite")
    found = rows(connection, "SELECT outcome, ended_at, takes FROM liq.auctions")
    assert found == [(None, None, 0)]


def test_each_of_two_auctions_of_one_vault_belongs_to_its_own_bark(connection: Connection) -> None:
    case(connection, "maker.ethereum", "maker/two_auctions_of_one_vault")
    keys = [f"maker.ethereum/0x{64 * '7'}/{log}/{VAULT}" for log in (5, 7)]
    assert [row[:4] for row in parts(connection, "log_index")] == [
        (keys[0], 0, "row", 5), (keys[0], 1, "auction", 3),
        (keys[1], 0, "row", 7), (keys[1], 1, "auction", 6),
    ]  # fmt: skip


def test_explain_shows_the_sale_of_a_vault(sold: Connection) -> None:
    found = {one.title: one.records for one in explain(sold, BARK)}
    assert [one["kind"] for one in found["parts of the liquidation"]] == [
        "row", "auction", "take", "redo", "take",
    ]  # fmt: skip


# -- Synthetix v3: a position in windows ---------------------------------------------------------

MARKET = "0x0a2af931effd34b81ebcc57e3d3c9b1e1de1c9ce"
SYNTHETIX = "synthetix_perps_v3.base"
EVENTS = {event.name: event for event in load_abi("synthetix_perps_v3_market.json")}
SYMBOLS = [
    Fact("base", "synthetix_v3_symbol", f"{MARKET}/{market}", symbol)
    for market, symbol in ((100, "ETH"), (200, "BTC"))
]


def event(name: str, log_index: int, **args: object) -> Log:
    return encoded(EVENTS[name], args, chain="base", address=MARKET, log_index=log_index)


def window(log_index: int, market: int, size: int, left: int, account: int = 7) -> Log:
    return event(
        "PositionLiquidated", log_index, accountId=account, marketId=market,
        amountLiquidated=size * 10**18, currentPositionSize=left * 10**18,
    )  # fmt: skip


def flag(log_index: int) -> Log:
    amounts = {"availableMargin": -1, "requiredMaintenanceMargin": 9, "liquidationReward": 1}
    return event("AccountFlaggedForLiquidation", log_index, accountId=7, **amounts, flagReward=1)


def attempt(log_index: int, *, is_full: bool, name: str = "AccountLiquidationAttempt") -> Log:
    return event(name, log_index, accountId=7, reward=1, fullLiquidation=is_full)


def key(blocks: int, log_index: int, account: int = 7) -> str:
    tx = f"0x{blocks:064x}" if blocks else "0x" + 64 * "7"
    return f"{SYNTHETIX}/{tx}/{log_index}/{account}"


@pytest.fixture
def windows(connection: Connection) -> Connection:
    """An account with two positions, of which one takes two windows; later it is liquidated again,
    and that is not over. Between them the only window of another."""
    logs = [
        flag(0), window(2, 100, 5, 10), window(4, 200, 1, 0), attempt(5, is_full=False),
        *moved([window(1, 100, 10, 0), attempt(2, is_full=True, name="AccountLiquidated"),
                window(8, 100, 1, 0, account=71)], 3),
        *moved([flag(0), window(2, 100, 2, 6), attempt(5, is_full=False)], 9),
    ]  # fmt: skip
    published(connection, SYNTHETIX, SYMBOLS, logs, is_whole=True)
    return connection


def test_windows_of_an_account_from_its_flag_to_its_end_are_one_liquidation(
    windows: Connection,
) -> None:
    first, again, other = key(0, 2), key(9, 2), key(3, 8, account=71)
    assert parts(windows, "market, size, key, is_over") == [
        (other, 0, "window", "100:ETH", Decimal(1), other, False),
        (again, 0, "window", "100:ETH", Decimal(2), again, False),
        (first, 0, "window", "100:ETH", Decimal(5), first, True),
        (first, 1, "window", "200:BTC", Decimal(1), key(0, 4), True),
        (first, 2, "window", "100:ETH", Decimal(10), key(3, 1), True),
    ]


def test_explain_shows_the_other_windows_of_one(windows: Connection) -> None:
    found = {one.title: one.records for one in explain(windows, key(3, 1))}
    assert [(one["part"], one["key"]) for one in found["parts of the liquidation"]] == [
        (0, key(0, 2)), (1, key(0, 4)), (2, key(3, 1)),
    ]  # fmt: skip


def test_the_only_window_of_an_account_has_no_other_parts(windows: Connection) -> None:
    found = {one.title for one in explain(windows, key(3, 8, account=71))}
    assert "parts of the liquidation" not in found


# -- one transaction -----------------------------------------------------------------------------


def amounts(*of: int | None) -> tuple[Decimal | None, ...]:
    return tuple(None if one is None else Decimal(one) for one in of)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(  # an absorb with its collaterals, and one of somebody who had none
            "comet/two_accounts_in_one_absorb",
            [(0, "row", *amounts(900, 10)), (1, "further", *amounts(None, 20)),
             (2, "further", *amounts(None, 30)), (0, "row", *amounts(500, None))],
            id="comet",
        ),
        pytest.param(  # the logs of the debt and of two collaterals
            "silo_v1/two_collaterals",
            [(0, "row", *amounts(500, 1000)), (1, "further", *amounts(None, 70))],
            id="silo_v1",
        ),
        pytest.param(  # one call, and a liquidation for the account of each trove
            "liquity_v2/several_troves",
            [(0, "row", *amounts(2000 * 10**18, 5 * 10**17)),
             (0, "row", *amounts(3000 * 10**18, 7 * 10**17))],
            id="liquity_v2",
        ),
        pytest.param("gmx_v2/long_with_fees", [(0, "row", None, None)], id="gmx_v2"),
        pytest.param("gtrade/v10_long", [(0, "row", None, None)], id="gtrade"),
    ],
)  # fmt: skip
def test_what_one_call_does_to_an_account_is_one_liquidation_with_its_assets(
    connection: Connection, name: str, expected: list[Any]
) -> None:
    (row,) = golden(name).outcomes[0].values()
    case(connection, row["venue"], name)
    assert [found[1:] for found in parts(connection, "repaid_raw, seized_raw")] == expected
    assert rows(connection, "SELECT DISTINCT is_over FROM liq.liquidation_parts") == [(True,)]


def test_explain_shows_all_assets_of_a_loan_that_has_several(connection: Connection) -> None:
    case(connection, "silo_v1.arbitrum", "silo_v1/two_collaterals")
    first, second = (row[3] for row in parts(connection, "key"))
    found = {one.title: one.records for one in explain(connection, second)}
    assert [(one["part"], one["key"]) for one in found["parts of the liquidation"]] == [
        (0, first), (1, second),
    ]  # fmt: skip
