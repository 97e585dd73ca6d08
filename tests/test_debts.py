"""Debts before liquidations: whales by what they owed, and the pool asked at the block before, on
genuine contracts."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer import labels
from indexer.model import Rule
from indexer.positions import AccountState, Position
from indexer.store import labels as labeler
from indexer.store import positions, values
from indexer.store.database import Connection
from tests.conftest import Command
from tests.devchain.anvil import EPOCH, anvil
from tests.devchain.full_node import STATES, FullNode
from tests.devchain.packages import ALL, folder
from tests.devchain.priced import WETH, Priced
from tests.ledger_rows import Rows, rows

D = Decimal
WHALE, OTHER, THIRD = (f"0x{digit * 40}" for digit in "abc")
POOL, ORACLE, VENUE = f"0x{'d' * 40}", f"0x{'e' * 40}", "aave_v3.ethereum"
AT = datetime(2025, 10, 10, 21, 15, tzinfo=UTC)
BLOCK = 23_550_000
DAYS = timedelta(days=90)

# -- the rule


def seconds(number: int) -> timedelta:
    return timedelta(seconds=number)


def liquidate(connection: Connection, block: int = BLOCK, **other: Any) -> None:
    """A row of the ledger that nobody has a price for, in a block twelve seconds after the last."""
    at = AT + seconds(12 * (block - BLOCK))
    row = {
        "venue": VENUE, "event_key": f"0x{block:064x}/3", "account": WHALE, "block_number": block,
        "block_at": at, "method": "repay_seize", "market": POOL, "repaid_raw": 1,
        "repaid_asset": f"0x{'9' * 40}", "seized_is_shares": False, "decoder_version": 1, **other,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO ledger.lending_liquidation ({', '.join(row)})"
        f" VALUES ({', '.join(f'%({name})s' for name in row)})",
        row,
    )
    connection.execute(
        "INSERT INTO ledger.block (chain, block_number, hash, parent_hash, block_at)"
        " VALUES ('ethereum', %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (block, f"hash {block}", f"hash {block - 1}", row["block_at"]),
    )


def owe(connection: Connection, usd: str, block: int = BLOCK - 1, **other: Any) -> None:
    """As `indexer debt` stores it."""
    row = {
        "venue": VENUE, "account": WHALE, "market": POOL, "block_number": block,
        "block_hash": f"hash {block}", "block_at": AT + seconds(12 * (block - BLOCK)),
        "debt": usd, "collateral": "9e6", "quote": "usd", "quote_usd": 1, "via": [ORACLE], **other,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO ledger.debt_before ({', '.join(row)})"
        f" VALUES ({', '.join(f'%({name})s' for name in row)})",
        row,
    )


def watch(connection: Connection, usd: int, ago: timedelta, **other: Any) -> None:
    """As `indexer watch` stores it, of a time before the liquidation."""
    block = BLOCK - max(int(ago.total_seconds()) // 12, 1)
    loan = Position(market=POOL, value=D(9_000_000), debt=D(usd), health_factor=D("1.02"))
    fields: dict[str, Any] = {"quote": "usd", "positions": (loan,) if usd else (), **other}
    positions.append(
        connection,
        AccountState(
            venue=VENUE, account=WHALE, dex=POOL, observed_at=AT - ago, block_number=block,
            equity=D(9_000_000 - usd), **fields,
        ),
    )  # fmt: skip


def ours(toml: str = "") -> list[Rule]:
    return [rule for rule in labels.rules(toml.encode()) if rule.id == "DEBT_SIZE"]


FOUND = "SELECT venue, account, label, confidence, evidence, valid_from, valid_to FROM liq.labels"


def found(connection: Connection, *, again: bool = False, toml: str = "") -> Rows:
    """What stands after the rule ran, valued before."""
    values.value(connection)
    labeler.apply(connection, ours(toml), again=again)
    return rows(connection, FOUND)


def test_who_owed_five_million_at_the_block_before_is_a_whale(connection: Connection) -> None:
    liquidate(connection)
    owe(connection, "5000000")
    liquidate(connection, account=OTHER)
    owe(connection, "4999999.99", account=OTHER)

    assert found(connection) == [
        (
            VENUE, WHALE, "whale", D("0.9"),
            {
                "debt_usd": "5000000", "debt": "5000000", "quote": "usd", "quote_usd": "1",
                "via": [ORACLE], "pool": POOL, "block": BLOCK - 1, "at": "2025-10-10T21:14:48Z",
                "asked_by": "debt", "liquidated_in_block": BLOCK, "times": 1,
            },
            AT, AT + DAYS,
        )
    ]  # fmt: skip


def test_a_debt_in_a_token_counts_in_its_dollars(connection: Connection) -> None:
    liquidate(connection)
    owe(connection, "1500.5", quote=WETH, quote_usd="4000.25", via=[ORACLE, OTHER])

    ((*_, evidence, _, _),) = found(connection)

    assert {name: evidence[name] for name in ("debt_usd", "debt", "quote", "quote_usd", "via")} == {
        "debt_usd": "6002375.125", "debt": "1500.5", "quote": WETH, "quote_usd": "4000.25",
        "via": [ORACLE, OTHER],
    }  # fmt: skip


def test_what_was_observed_shortly_before_counts_where_nobody_asked(
    connection: Connection,
) -> None:
    liquidate(connection)
    watch(connection, 7_000_000, timedelta(minutes=5))

    ((*_, evidence, begin, end),) = found(connection)

    assert (begin, end) == (AT, AT + DAYS)
    assert evidence == {
        "debt_usd": "7000000", "debt": "7000000", "quote": "usd", "quote_usd": "1", "via": None,
        "pool": POOL, "block": BLOCK - 25, "at": "2025-10-10T21:10:00Z", "asked_by": "watch",
        "liquidated_in_block": BLOCK, "times": 1,
    }  # fmt: skip


def observe_old(connection: Connection) -> None:
    watch(connection, 7_000_000, timedelta(minutes=5, seconds=1))


def observe_less(connection: Connection) -> None:
    watch(connection, 7_000_000, timedelta(minutes=4))
    watch(connection, 1_000_000, timedelta(minutes=3))


def observe_nothing(connection: Connection) -> None:
    watch(connection, 7_000_000, timedelta(minutes=4))
    watch(connection, 0, timedelta(minutes=3))


def observe_and_ask(connection: Connection) -> None:
    watch(connection, 7_000_000, timedelta(minutes=4))
    owe(connection, "1000000")


def observe_in_ether(connection: Connection) -> None:
    watch(connection, 7_000_000, timedelta(minutes=4), quote=WETH)


def ask_of_another_pool(connection: Connection) -> None:
    owe(connection, "7000000", market=ORACLE)


def ask_after(connection: Connection) -> None:
    owe(connection, "7000000", block=BLOCK)


def ask_of_another_branch(connection: Connection) -> None:
    owe(connection, "7000000", block_hash="hash of another")


def ask_of_nobody(connection: Connection) -> None:
    owe(connection, "7000000", quote=WETH, quote_usd=None, reason="nobody knows")


NOT_ENOUGH: dict[str, Callable[[Connection], None]] = {
    "it is older": observe_old,
    "it was less later": observe_less,
    "it was nothing later": observe_nothing,
    "it was less at the block before": observe_and_ask,
    "its dollars are unknown": observe_in_ether,
    "another pool": ask_of_another_pool,
    "after it": ask_after,
    "another branch": ask_of_another_branch,
    "nobody knows": ask_of_nobody,
}


@pytest.mark.parametrize("say", NOT_ENOUGH.values(), ids=NOT_ENOUGH)
def test_other_debts_make_no_whale(
    connection: Connection, say: Callable[[Connection], None]
) -> None:
    liquidate(connection)
    say(connection)

    assert found(connection) == []


def test_a_debt_that_was_never_liquidated_makes_no_whale(connection: Connection) -> None:
    owe(connection, "7000000")

    assert found(connection) == []


def test_intervals_that_meet_are_one_with_the_largest_debt(connection: Connection) -> None:
    """The second 60 days later, the third 91 days after that."""
    blocks = [BLOCK, BLOCK + 60 * 7_200, BLOCK + 151 * 7_200]
    for block, usd in zip(blocks, ("6e6", "8e6", "7e6"), strict=True):
        liquidate(connection, block)
        owe(connection, usd, block - 1)

    assert [
        (one[4]["debt_usd"], one[4]["liquidated_in_block"], one[4]["times"], *one[5:])
        for one in sorted(found(connection), key=lambda one: one[5])
    ] == [
        ("8000000", blocks[1], 2, AT, AT + timedelta(days=150)),
        ("7000000", blocks[2], 1, AT + timedelta(days=151), AT + timedelta(days=241)),
    ]


def test_who_can_never_be_a_whale_is_none(connection: Connection) -> None:
    """A router that owes for a moment, and a person who liquidates others."""
    connection.execute(
        "INSERT INTO ledger.never_labelled VALUES ('ethereum', %s, 'project', 'a router', 'test')",
        (WHALE,),
    )
    for account in (WHALE, OTHER, THIRD):
        liquidate(connection, account=account)
        owe(connection, "7000000", account=account)
    for day in range(5):
        liquidate(connection, BLOCK + day * 7_200, account=f"0x{day:040x}", liquidator=OTHER)

    assert [account for _, account, *_ in found(connection)] == [THIRD]


def test_looking_at_what_changed_gives_what_looking_at_all_gives(connection: Connection) -> None:
    """The answer after the liquidation, a correction, a reorg, an observation that came late, and a
    liquidation after its observation."""
    liquidate(connection)
    seen = [found(connection)]
    owe(connection, "7000000")
    seen.append(found(connection))
    connection.execute("UPDATE ledger.debt_before SET debt = 4")
    seen.append(found(connection))
    connection.execute("DELETE FROM ledger.debt_before")
    seen.append(found(connection))
    watch(connection, 6_000_000, timedelta(minutes=1))
    seen.append(found(connection))
    connection.execute("DELETE FROM ledger.lending_liquidation")
    seen.append(found(connection))
    liquidate(connection)
    seen.append(found(connection))

    assert [len(one) for one in seen] == [0, 1, 0, 0, 1, 0, 1]
    connection.execute("DELETE FROM ledger.label")
    assert found(connection, again=True) == seen[-1]


def test_an_observation_of_who_was_never_liquidated_notes_nobody(connection: Connection) -> None:
    watch(connection, 6_000_000, timedelta(minutes=1))
    positions.append(
        connection,
        AccountState(
            venue="hyperliquid", account=WHALE, dex="", observed_at=AT, quote="USDC", equity=D(1),
            positions=(),
        ),
    )  # fmt: skip

    assert rows(connection, "SELECT account FROM ledger.changed_account") == []


# -- asking, on the local chain


@pytest.fixture(scope="session")
def packages() -> list[Path]:
    """The genuine contracts."""
    return [folder(package) for package in ALL]


@pytest.fixture
def priced(packages: list[Path], request: pytest.FixtureRequest) -> Iterator[Priced]:
    with anvil(getattr(request, "param", "anvil")) as node:
        yield Priced(node)


Asked = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(priced: Priced, quick_indexer: Command, tmp_path: Path) -> Asked:
    """A command at the node, or at another address."""

    def ask(*words: object, url: str | None = None) -> subprocess.CompletedProcess[str]:
        deployments = priced.write_deployments(tmp_path / "deployments.json")
        rpc = {f"RPC_{priced.node.chain.upper()}": url or priced.node.url}
        return quick_indexer(*words, INDEXER_DEPLOYMENTS=str(deployments), **rpc)

    return ask


def backfill(priced: Priced, run: Asked) -> None:
    done = run("backfill", priced.node.chain, "--from", 0, "--to", priced.node.head + 1)
    assert done.returncode == 0, done.stderr


TOLD = """
    SELECT account, market, block_number, debt, collateral, health_factor, quote, quote_usd,
           debt_usd, via, reason
    FROM liq.debts WHERE asked_by = 'debt'
"""


def test_a_debt_is_what_the_pool_itself_says_at_the_block_before(
    priced: Priced, run: Asked, connection: Connection, tmp_path: Path
) -> None:
    """Genuine Aave v3: two borrowers in two blocks; the first is liquidated again, and each label
    stands on its debt."""
    aave = priced.aave
    accounts = [aave.open_position(), aave.open_position()]
    aave.fall()
    made = [aave.make(aave.attempt(account)) for account in accounts]
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)

    done = run("debt", "anvil", "--min-usd", 1000)
    again = run("debt", "anvil", "--min-usd", 1000)

    assert (done.returncode, done.stdout, done.stderr) == (
        0, "anvil: 2 debts asked for, 2 told\n", "",
    )  # fmt: skip
    assert again.stdout == "anvil: 0 debts asked for, 0 told\n"
    told = {
        row.account: aave.pool.read("getUserAccountData", row.account, at=row.block_number - 1)
        for row in made
    }
    assert rows(connection, TOLD) == sorted(
        (
            (
                row.account, aave.pool.address, row.block_number - 1,
                D(told[row.account][1]).scaleb(-8).normalize(),
                D(told[row.account][0]).scaleb(-8).normalize(),
                D(told[row.account][5]).scaleb(-18).normalize(), "usd", D(1),
                D(told[row.account][1]).scaleb(-8).normalize(), [aave.oracle.address], None,
            )
            for row in made
        ),
        key=repr,
    )  # fmt: skip
    rules = ours("[DEBT_SIZE]\ndebt_usd = 14_000")
    labeler.apply(connection, rules)
    assert rows(connection, "SELECT account, evidence ->> 'debt_usd' FROM liq.labels") == sorted(
        (account, f"{D(debt).scaleb(-8).normalize():f}") for account, (_, debt, *_) in told.items()
    )
    before = rows(connection, FOUND)
    labeler.apply(connection, rules, again=True)
    assert rows(connection, FOUND) == before


def test_liquidations_that_are_worth_less_are_not_asked_about(priced: Priced, run: Asked) -> None:
    """Half of 15,000 dollars was liquidated."""
    priced.aave.liquidate()
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)

    more = run("debt", "anvil", "--min-usd", 7_600)
    less = run("debt", "aave_v3.anvil", "--min-usd", 7_400)

    assert (more.stdout, less.stdout) == (
        "anvil: 0 debts asked for, 0 told\n", "anvil: 1 debt asked for, 1 told\n",
    )  # fmt: skip


@pytest.mark.parametrize("priced", ["ethereum"], indirect=True)
def test_a_debt_in_ether_has_the_dollars_of_a_reference_oracle_at_that_block(
    priced: Priced, run: Asked, connection: Connection
) -> None:
    """Aave v2 counts in ether; what that was worth at the block before, Aave v3 says."""
    aave = priced.aave_v2()
    account = aave.open_position()
    aave.fall()
    made = aave.make(aave.attempt(account))
    priced.aave.fall()  # another price of ether, too late
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)

    done = run("debt", "aave_v2.ethereum", "--min-usd", 1)

    at = made.block_number - 1
    collateral, debt, _, _, _, health = aave.pool.read("getUserAccountData", account, at=at)
    ether = D(priced.aave.oracle.read("getAssetPrice", WETH, at=at)).scaleb(-8)
    assert (done.returncode, done.stdout) == (0, "ethereum: 1 debt asked for, 1 told\n")
    ((*_, via, reason),) = found_rows = rows(connection, TOLD)
    assert found_rows[0][:-2] == (
        account, aave.pool.address, at, D(debt).scaleb(-18).normalize(),
        D(collateral).scaleb(-18).normalize(), D(health).scaleb(-18).normalize(), WETH,
        ether.normalize(), (D(debt).scaleb(-18) * ether).normalize(),
    )  # fmt: skip
    assert (via[0], via[-1], reason) == (aave.oracle.address, priced.aave.oracle.address, None)


def test_a_debt_whose_unit_nobody_names_is_counted_and_asked_again_only_when_told_to(
    priced: Priced, run: Asked, connection: Connection
) -> None:
    aave = priced.aave_v2()
    account = aave.open_position()
    aave.fall()
    made = aave.make(aave.attempt(account))
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)
    give_a_value(connection)
    why = "nobody states the unit of the pool's oracle"

    done = run("debt", "anvil", "--min-usd", 1)
    again = [run("debt", "anvil", "--min-usd", 1, *words).stdout for words in ((), ("--again",))]

    assert (done.stdout, done.stderr) == (
        "anvil: 1 debt asked for, 0 told\n", f"anvil: {why}: 1, e.g. {account}\n",
    )  # fmt: skip
    assert again == ["anvil: 0 debts asked for, 0 told\n", "anvil: 1 debt asked for, 0 told\n"]
    assert rows(connection, "SELECT account, block_number, debt, reason FROM liq.debts") == [
        (account, made.block_number - 1, None, why)
    ]


def give_a_value(connection: Connection) -> None:
    """As if somebody had priced what was repaid."""
    connection.execute(
        "INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source,"
        " repaid_usd) SELECT venue, block_at, event_key, account, 'file:mine', 100"
        " FROM ledger.lending_liquidation"
    )


def forgetful(priced: Priced) -> AbstractContextManager[FullNode]:
    return FullNode(priced.node.url)


def test_without_an_archive_only_the_newest_are_told_and_an_archive_tells_the_rest(
    priced: Priced, run: Asked, connection: Connection
) -> None:
    """A full node keeps 64 states here: near its head that is enough."""
    aave = priced.aave
    first, second = aave.open_position(), aave.open_position()
    aave.fall()
    old = aave.make(aave.attempt(first))
    priced.node.mine(STATES + 10)
    aave.fall()  # prices that are not stale
    new = aave.make(aave.attempt(second))
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)

    with forgetful(priced) as node:
        done = run("debt", "anvil", "--min-usd", 1, url=node.url)
    near = rows(connection, "SELECT account, block_number, reason FROM liq.debts")
    rest = run("debt", "anvil", "--min-usd", 1)

    assert (done.returncode, done.stdout, done.stderr) == (
        0, "anvil: 2 debts asked for, 1 told\n",
        f"anvil: no endpoint keeps the state of the block: 1, e.g. {first}\n",
    )  # fmt: skip
    assert near == [(second, new.block_number - 1, None)]
    assert rest.stdout == "anvil: 1 debt asked for, 1 told\n"
    assert rows(connection, "SELECT account, block_number FROM liq.debts") == sorted(
        [(first, old.block_number - 1), (second, new.block_number - 1)], key=repr
    )


def test_a_block_that_the_chain_replaced_is_not_asked(
    priced: Priced, run: Asked, connection: Connection
) -> None:
    """The liquidation's block names a parent that is not there."""
    made = priced.aave.liquidate()
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)
    connection.execute(
        "UPDATE ledger.block SET parent_hash = '0x12' WHERE block_number = %s",
        (made.block_number,),
    )

    done = run("debt", "anvil", "--min-usd", 1)

    assert done.stdout == "anvil: 1 debt asked for, 0 told\n"
    assert done.stderr == (f"anvil: the chain has another block there: 1, e.g. {made.account}\n")
    assert rows(connection, "SELECT FROM ledger.debt_before") == []


def test_what_was_watched_at_the_block_before_is_not_asked(
    priced: Priced, run: Asked, connection: Connection
) -> None:
    aave = priced.aave
    account = aave.open_position()
    aave.fall()
    attempt = aave.attempt(account)
    assert run("watch", "aave_v3.anvil", "--account", account, "--once").returncode == 0
    made = aave.make(attempt)
    priced.node.mine(2 * EPOCH + 1)
    backfill(priced, run)

    done = run("debt", "anvil", "--min-usd", 1)

    assert done.stdout == "anvil: 0 debts asked for, 0 told\n"
    assert rows(connection, "SELECT block_number, asked_by FROM liq.debts") == [
        (made.block_number - 1, "watch")
    ]


def test_a_chain_without_an_endpoint_is_left_out_aloud(quick_indexer: Command) -> None:
    done = quick_indexer("debt")
    named = quick_indexer("debt", "ethereum")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert named.returncode == 1
    assert "RPC_ETHEREUM" in named.stderr
