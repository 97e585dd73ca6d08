"""`indexer value` and `indexer prices` as users type them, and a follower that values beside."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from indexer import resources
from indexer.chain.values import Valuer
from indexer.errors import SourceFault
from indexer.store.database import Connection
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.events import ASSETS, ETHEREUM, address
from tests.chain_model.node import Calls, Node, comet_of
from tests.chain_model.serve import RpcError
from tests.conftest import Command
from tests.fake_chain import asked, says
from tests.ledger_rows import Rows, rows
from tests.oracle_world import write_case
from tests.processes import following, soon, stopped

VENUE = "aave_v2.ethereum"
POOL, PROVIDER, ORACLE = ETHEREUM.aave_v2, address("provider"), address("oracle")
FEED = address("feed")
DOLLARS = "0x10f7fc1f91ba351f9c629c5947ad69bd03c05b96"  # as Aave v2 writes USD
SILENT = address("asset", 5)  # the oracle reverts for this one
UNTOUCHED = ("ledger.valuation", "ledger.unvalued", "ledger.price", "ledger.rolled_day")


def oracle_of(chain: ModelChain) -> Calls:
    """Aave v2's oracle over the assets of the model: 2 dollars for one token of 6 decimals."""
    said = {
        asked(POOL, "getAddressesProvider()"): says("address", PROVIDER),
        asked(PROVIDER, "getPriceOracle()"): says("address", ORACLE),
        asked(ORACLE, "BASE_CURRENCY()"): says("address", DOLLARS),
        asked(ORACLE, "BASE_CURRENCY_UNIT()"): says("uint256", 10**8),
    }
    for token in (address("asset", number) for number in range(ASSETS)):
        said[asked(token, "decimals()")] = says("uint8", 6)
        if token != SILENT:
            said[asked(ORACLE, "getAssetPrice(address)", token)] = says("uint256", 2 * 10**8)
    other = comet_of(chain)
    known = {(call.to, call.data): "0x" + result.data.hex() for call, result in said.items()}

    def call(to: str, data: str) -> str | RpcError:
        return known[to, data] if (to, data) in known else other(to, data)

    return call


@pytest.fixture
def chain() -> ModelChain:
    """A hundred blocks with liquidations."""
    model = ModelChain(Config(seed=3))
    model.mine(100)
    return model


@pytest.fixture
def node(chain: ModelChain) -> Iterator[Node]:
    with Node(chain, calls=oracle_of(chain)) as served:
        yield served


@pytest.fixture
def backfilled(chain: ModelChain, node: Node, quick_indexer: Command) -> Node:
    """All final blocks are indexed; no price is known, since nobody answered calls meanwhile."""
    limits, node.limits = node.limits, node.limits._replace(unsupported=("eth_call",))
    done = quick_indexer(*backfill(chain), RPC_ETHEREUM=node.url)
    node.limits = limits
    assert done.returncode == 0, done.stderr
    return node


def backfill(chain: ModelChain, venue: str = VENUE) -> tuple[object, ...]:
    """The command for all final blocks."""
    return "backfill", venue, "--from", chain.branch.blocks[0].number, "--to", chain.finalized + 1


def legs(chain: ModelChain) -> tuple[int, int]:
    """How many prices a blind count wants, by asset and block: those of others, those of SILENT."""
    wanted = {
        (row.block_number, asset)
        for row in chain.truth(to=chain.finalized).rows
        if row.venue == VENUE
        for asset in (row.repaid_asset, row.seized_asset)
    }
    silent = sum(asset == SILENT for _, asset in wanted)
    return len(wanted) - silent, silent


def test_value_fetches_values_and_counts_what_it_could_not(
    chain: ModelChain, backfilled: Node, quick_indexer: Command, connection: Connection
) -> None:
    told, silent = legs(chain)

    done = quick_indexer("value", VENUE, RPC_ETHEREUM=backfilled.url)

    assert (done.returncode, done.stderr) == (
        0, f"ethereum: {told} new prices, {silent} asked in vain\n",
    )  # fmt: skip
    assert done.stdout.startswith(f"{VENUE}: ")
    assert "the oracle reverts" in done.stdout or "unreadable" in done.stdout
    assert rows(
        connection, "SELECT DISTINCT usd, quality, source, log_index FROM ledger.price"
    ) == [(Decimal("0.000002"), "A", "oracle", -1)]


def test_a_backfill_leaves_its_rows_valued(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    told, silent = legs(chain)

    done = quick_indexer(*backfill(chain), RPC_ETHEREUM=node.url)
    before = rows(connection, "SELECT * FROM ledger.valuation")
    value = quick_indexer("value", VENUE, RPC_ETHEREUM=node.url)

    said = f"ethereum: {told} new prices, {silent} asked in vain\n"
    assert (done.returncode, done.stderr, value.stderr) == (0, said, "")
    assert rows(connection, "SELECT * FROM ledger.valuation") == before != []


def test_a_backfill_leaves_values_for_later_when_told_to(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    done = quick_indexer(*backfill(chain), "--no-values", RPC_ETHEREUM=node.url)

    written = rows(connection, "SELECT * FROM liq.lending_liquidations")
    assert (done.returncode, done.stderr, written != []) == (0, "", True)
    assert [rows(connection, f"SELECT * FROM {table}") for table in UNTOUCHED] == [[]] * 4


def test_a_backfill_of_files_leaves_values_for_later_when_told_to(
    quick_indexer: Command, connection: Connection
) -> None:
    tree = resources.recording()

    quick_indexer("backfill", "hyperliquid", "--from", tree, "--no-values")
    before = [rows(connection, f"SELECT * FROM {table}") for table in UNTOUCHED]
    quick_indexer("value", "hyperliquid")

    assert before == [[]] * 4
    assert rows(connection, "SELECT count(*) FROM ledger.valuation WHERE price_source = 'par'") == (
        rows(connection, "SELECT count(*) FROM ledger.liquidation WHERE liq.at_par(quote)")
    )


def test_a_backfill_again_values_what_nobody_could_price_before(
    chain: ModelChain, backfilled: Node, quick_indexer: Command, connection: Connection
) -> None:
    waiting = rows(connection, "SELECT DISTINCT reason FROM ledger.unvalued")
    told, silent = legs(chain)

    again = quick_indexer(*backfill(chain), RPC_ETHEREUM=backfilled.url)

    assert waiting == [("no price was asked for yet",)]
    assert (again.returncode, again.stderr) == (
        0, f"ethereum: {told} new prices, {silent} asked in vain\n",
    )  # fmt: skip
    assert "0 new blocks, 0 liquidations" in again.stdout


def test_a_price_that_fails_is_no_fault_of_a_backfill(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    node.limits = node.limits._replace(unsupported=("eth_call",))

    done = quick_indexer(*backfill(chain), RPC_ETHEREUM=node.url)

    (said,) = done.stderr.splitlines()
    assert (done.returncode, said.partition(": ethereum")[0]) == (0, "ethereum: prices are missing")
    assert said.endswith("; ask again with indexer value ethereum")
    truth = chain.truth(to=chain.finalized).rows
    assert rows(connection, "SELECT count(*) FROM liq.lending_liquidations") == [
        (sum(row.venue == VENUE for row in truth),)
    ]


def test_again_changes_nothing_and_asks_nobody(backfilled: Node, quick_indexer: Command) -> None:
    first = quick_indexer("value", VENUE, RPC_ETHEREUM=backfilled.url)
    before = backfilled.asked["eth_call"]
    again = quick_indexer("value", VENUE, RPC_ETHEREUM=backfilled.url)

    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert backfilled.asked["eth_call"] == before


def test_offline_asks_nobody(backfilled: Node, quick_indexer: Command) -> None:
    done = quick_indexer("value", VENUE, "--offline")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{VENUE}: 0 valued, ")


def test_offline_takes_the_prices_that_stored_events_carry(
    quick_indexer: Command, connection: Connection
) -> None:
    (row,) = write_case(connection, "dolomite/liquidation")

    done = quick_indexer("value", row.venue, "--offline")
    again = quick_indexer("value", row.venue, "--offline")

    assert (done.returncode, done.stderr) == (0, "arbitrum: 2 new prices\n")
    assert done.stdout == f"{row.venue}: 1 valued, 0 without a value, 0 suspect\n"
    assert (again.returncode, again.stderr, again.stdout) == (0, "", done.stdout)


def test_all_that_is_indexed_is_valued_where_nothing_is_named(
    backfilled: Node, quick_indexer: Command
) -> None:
    done = quick_indexer("value", RPC_ETHEREUM=backfilled.url)
    alone = quick_indexer("value")

    assert (done.returncode, alone.returncode) == (0, 0)
    assert done.stdout == alone.stdout
    assert alone.stderr == "ethereum: no endpoint, so no new prices; set RPC_ETHEREUM\n"


def test_a_named_chain_without_an_endpoint_is_an_error(quick_indexer: Command) -> None:
    done = quick_indexer("value", VENUE)

    assert done.returncode == 1
    assert done.stderr == (
        "indexer: ethereum: no endpoint; set RPC_ETHEREUM to one or more, comma separated\n"
    )


def test_an_unknown_venue_is_wrong_usage(quick_indexer: Command) -> None:
    done = quick_indexer("value", "aave_v9.ethereum")

    assert (done.returncode, "no venue 'aave_v9.ethereum'" in done.stderr) == (2, True)


def test_without_anything_indexed_there_is_nothing_to_value(quick_indexer: Command) -> None:
    done = quick_indexer("value")

    assert (done.returncode, done.stdout) == (0, "nothing to value yet: indexer backfill\n")


def test_an_endpoint_that_fails_leaves_prices_missing(
    backfilled: Node, quick_indexer: Command, connection: Connection
) -> None:
    backfilled.limits = backfilled.limits._replace(unsupported=("eth_call",))

    done = quick_indexer("value", VENUE, RPC_ETHEREUM=backfilled.url)

    assert (done.returncode, "eth_call" in done.stderr) == (1, True)
    assert rows(connection, "SELECT * FROM ledger.no_price") == []


def test_explain_walks_to_the_origin_of_a_price(
    backfilled: Node, quick_indexer: Command, connection: Connection
) -> None:
    quick_indexer("value", VENUE, RPC_ETHEREUM=backfilled.url)
    key, usd = rows(connection, "SELECT key, usd FROM liq.valuations WHERE basis = 'repaid'"
                                " ORDER BY key LIMIT 1")[0]  # fmt: skip

    text = quick_indexer("explain", key, COLUMNS="200").stdout

    titles = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert {"published", "row", "worth", "prices"} <= set(titles)
    worth = text.partition("\nworth\n")[2]
    assert "repaid" in worth and str(usd.normalize()) in worth
    assert ORACLE in text.partition("\nprices\n")[2]


# files


@pytest.fixture
def usdc(tmp_path: Path) -> Path:
    """Two prices of a quote token."""
    file = tmp_path / "prices.csv"
    file.write_text(
        "asset,time,usd\nUSDC,2025-10-10T21:15:00Z,0.9995\nUSDC,2025-10-10T21:20:00Z,0.9991\n"
    )
    return file


IMPORT = ("prices", "import", "prices.csv", "--name", "kaiko", "--chain", "hyperliquid")


def test_a_price_file_is_imported_and_listed(usdc: Path, quick_indexer: Command) -> None:
    imported = quick_indexer(*IMPORT, "--max-age", "5m")
    listed = quick_indexer("prices", "list")

    assert (imported.returncode, imported.stdout, imported.stderr) == (
        0, "kaiko: 2 prices\n", "1 of 1 assets are in no row yet: hyperliquid:USDC\n",
    )  # fmt: skip
    assert [word in listed.stdout for word in ("kaiko", "2", "0:05:00", "prices.csv")] == [True] * 4


def test_lines_of_a_price_file_that_say_the_same_again_are_named(
    usdc: Path, quick_indexer: Command
) -> None:
    with usdc.open("a") as file:
        file.write(6 * "USDC,2025-10-10T21:20:00Z,0.99910\n")

    imported = quick_indexer(*IMPORT)

    assert (imported.returncode, imported.stdout, imported.stderr.splitlines()) == (
        0, "kaiko: 2 prices\n",
        ["6 lines say again what others say: 4, 5, 6, 7, 8, …",
         "1 of 1 assets are in no row yet: hyperliquid:USDC"],
    )  # fmt: skip


def test_another_file_of_the_same_name_wants_to_be_told(usdc: Path, quick_indexer: Command) -> None:
    quick_indexer(*IMPORT)
    usdc.write_text("asset,time,usd\nUSDC,2025-10-10T21:15:00Z,0.99\n")

    refused = quick_indexer(*IMPORT)
    replaced = quick_indexer(*IMPORT, "--replace")

    assert (refused.returncode, "replace" in refused.stderr) == (1, True)
    assert (replaced.returncode, replaced.stdout) == (0, "kaiko: 1 prices\n")


def test_without_price_files_the_list_says_how_to_get_one(quick_indexer: Command) -> None:
    done = quick_indexer("prices", "list")

    assert done.stdout == "no price files: indexer prices import FILE --name NAME\n"


# beside a follower


def test_a_follower_values_what_it_writes(
    chain: ModelChain, node: Node, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    def has(table: str) -> bool:
        return bool(rows(connection, f"SELECT FROM ledger.{table} LIMIT 1"))

    with following(conninfo, tmp_path, VENUE, RPC_ETHEREUM=node.url) as process:
        soon(lambda: has("stream"))
        chain.mine(8)
        soon(lambda: has("valuation"))
        stopped(process)

    assert rows(connection, "SELECT DISTINCT usd FROM ledger.price") == [(Decimal("0.000002"),)]


OLD_DAY = """
    INSERT INTO ledger.lending_liquidation (
        venue, event_key, account, block_number, block_at, method, market, repaid_asset,
        repaid_raw, seized_is_shares, decoder_version
    ) VALUES (
        'aave_v3.base', '0x1/1', '0xa', 1, '2025-10-10T21:15Z', 'repay_seize', '0xm', '0xc', 1,
        false, 1
    )
"""


def test_a_follower_adds_up_days_that_have_ended(
    chain: ModelChain, node: Node, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    connection.execute(OLD_DAY)

    with following(conninfo, tmp_path, VENUE, RPC_ETHEREUM=node.url) as process:
        soon(lambda: bool(rows(connection, "SELECT FROM ledger.stream")))
        chain.mine(8)
        soon(lambda: bool(rows(connection, "SELECT FROM ledger.rolled_day")))
        stopped(process)

    assert rows(connection, "SELECT definition, day FROM ledger.rolled_day") == [
        ("strict/v1", date(2025, 10, 10))
    ]


def test_days_that_cannot_be_added_up_do_not_keep_a_follower_from_valuing(
    chain: ModelChain, node: Node, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    connection.execute(OLD_DAY)
    connection.execute(
        "CREATE OR REPLACE FUNCTION ledger.roll_up(definition text, day date) RETURNS boolean"
        " LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$"
    )

    def blocks() -> int:
        return len(rows(connection, "SELECT DISTINCT block_at FROM ledger.valuation"))

    with following(conninfo, tmp_path, VENUE, RPC_ETHEREUM=node.url) as process:
        soon(lambda: bool(rows(connection, "SELECT FROM ledger.stream")))
        chain.mine(8)
        soon(lambda: blocks() > 0)
        before = blocks()
        chain.mine(8)
        soon(lambda: blocks() > before)
        said = stopped(process)

    assert said.count("ethereum: days are not added up: no room") == 1


def test_a_follower_that_is_stopped_while_it_asks_counts_its_rows_as_not_valued(
    chain: ModelChain, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    is_asked, go_on = threading.Event(), threading.Event()
    oracle = oracle_of(chain)

    def call(to: str, data: str) -> str | RpcError:
        if to == POOL:
            is_asked.set()
            go_on.wait(60)
        return oracle(to, data)

    with Node(chain, calls=call) as node:
        with following(conninfo, tmp_path, VENUE, RPC_ETHEREUM=node.url) as process:
            soon(lambda: bool(rows(connection, "SELECT FROM ledger.stream")))
            chain.mine(8)
            assert is_asked.wait(30)
            said = stopped(process)
        go_on.set()

    written = rows(connection, "SELECT event_key FROM liq.lending_liquidations")
    assert "Traceback" not in said
    assert rows(connection, "SELECT event_key, reason FROM ledger.unvalued") == [
        (key, "no price was asked for yet") for (key,) in written
    ]
    assert written != []


def test_a_follower_values_what_it_settles_of_whatever_venue(
    chain: ModelChain, node: Node, quick_indexer: Command, conninfo: str, connection: Connection,
    tmp_path: Path,
) -> None:  # fmt: skip
    no_receipts = ("eth_getBlockReceipts", "eth_getTransactionReceipt")
    limits, node.limits = node.limits, node.limits._replace(unsupported=no_receipts)
    quick_indexer(*backfill(chain, "comet.ethereum"), RPC_ETHEREUM=node.url)
    waiting = rows(connection, "SELECT * FROM liq.lending_liquidations")
    node.limits = limits
    settled = sum(row.venue == "comet.ethereum" for row in chain.truth(to=chain.finalized).rows)

    def valued() -> Rows:
        return rows(
            connection, "SELECT count(DISTINCT (event_key, account)) FROM ledger.unvalued"
                        " WHERE venue = 'comet.ethereum'",
        )  # fmt: skip

    with following(
        conninfo, tmp_path, VENUE, "--check-every", "1s", RPC_ETHEREUM=node.url
    ) as process:
        soon(lambda: valued() == [(settled,)])
        stopped(process)

    assert (waiting, settled > 0) == ([], True)


WHEN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_valuer_tries_again_what_failed_and_complains_once() -> None:
    said: list[str] = []
    asked_since: list[datetime] = []
    is_done = threading.Event()

    def value(since: datetime) -> None:
        asked_since.append(since)
        if len(asked_since) < 4:
            raise SourceFault("ethereum", "come later")
        is_done.set()

    left: list[datetime] = []

    valuer = Valuer("ethereum", value, left.append, said.append, cool_seconds=0.001)
    valuer.wrote(WHEN)
    assert is_done.wait(10)
    valuer.close()

    assert (asked_since, left) == ([WHEN] * 4, [])
    assert said == ["ethereum: not valued yet: ethereum: come later"]


def test_a_valuer_takes_the_oldest_of_what_came_meanwhile() -> None:
    seen: list[datetime] = []
    go_on, is_busy = threading.Event(), threading.Event()

    def value(since: datetime) -> None:
        seen.append(since)
        is_busy.set()
        go_on.wait(10)

    left: list[datetime] = []
    valuer = Valuer("ethereum", value, left.append, print)
    valuer.wrote(LATER)
    assert is_busy.wait(10)
    for since in (LATER, WHEN, LATER):
        valuer.wrote(since)
    go_on.set()
    deadline = time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    valuer.close()

    assert (seen, left) == ([LATER, WHEN], [])


def test_what_still_waits_when_a_valuer_is_closed_is_valued_from_what_is_stored() -> None:
    has_complained = threading.Event()
    left: list[datetime] = []

    def value(since: datetime) -> None:
        raise SourceFault("ethereum", "come later")

    valuer = Valuer("ethereum", value, left.append, lambda text: has_complained.set())
    valuer.wrote(LATER)
    assert has_complained.wait(10)
    valuer.wrote(WHEN)
    valuer.close()

    assert left == [WHEN]


def test_a_valuer_is_closed_while_an_endpoint_keeps_it_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("indexer.chain.values.LAST_SECONDS", 0.01)
    go_on, is_busy, is_done = threading.Event(), threading.Event(), threading.Event()
    left: list[datetime] = []

    def value(since: datetime) -> None:
        is_busy.set()
        go_on.wait(10)
        is_done.set()

    valuer = Valuer("ethereum", value, left.append, print)
    valuer.wrote(WHEN)
    assert is_busy.wait(10)
    valuer.close()
    was_done = is_done.is_set()
    go_on.set()

    assert (left, was_done, is_done.wait(10)) == ([WHEN], False, True)
