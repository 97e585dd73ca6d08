"""The chain verbs as users type them: what they print, what bad input gets, what stays secret."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from eth_abi.abi import encode

from indexer.cli.console import Height
from indexer.store.database import Connection
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.events import Row
from tests.chain_model.node import Calls, Limits, Node, comet_of
from tests.chain_model.serve import RpcError
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.processes import following, soon, stopped

LOOKED_AT = "SELECT count(DISTINCT (venue, event_key, account)) FROM ledger.unvalued"
CANARY = "c4n4ry0f4k3yth4tmustn0tl34k"
VENUES = ("aave_v2.ethereum", "morpho_blue.ethereum", "comet.ethereum")


@pytest.fixture
def chain() -> ModelChain:
    """Three hundred blocks with liquidations, the last eight not final."""
    model = ModelChain(Config(seed=3))
    model.mine(300)
    return model


@pytest.fixture
def node(chain: ModelChain) -> Iterator[Node]:
    """An honest node of it."""
    with Node(chain, calls=comet_of(chain)) as served:
        yield served


def keyed(node: Node) -> str:
    """Its address with a key in the path."""
    return f"{node.url}/v3/{CANARY}"


def bounds(chain: ModelChain) -> tuple[str, str, str, str]:
    """--from and --to for all final blocks."""
    blocks = chain.branch.blocks
    return "--from", str(blocks[0].number), "--to", str(chain.finalized + 1)


def wanted_prices(found: Iterable[Row]) -> int:
    """How many prices rows want: one for each token of a market in a block."""
    return len({
        (row.venue, row.market, row.block_number, asset)
        for row in found
        for asset in (row.repaid_asset, row.seized_asset)
        if asset
    })  # fmt: skip


def only_line(text: str) -> str:
    """The one line of a message."""
    (line,) = text.splitlines()
    return line


def test_a_backfill_says_what_it_wrote_and_again_writes_nothing(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    truth = chain.truth(to=chain.finalized)
    arguments = ("backfill", *VENUES, *bounds(chain))

    first = quick_indexer(*arguments, RPC_ETHEREUM=node.url)
    again = quick_indexer(*arguments, RPC_ETHEREUM=node.url)

    blocks = chain.finalized + 1 - chain.branch.blocks[0].number
    assert (first.returncode, only_line(first.stderr)) == (
        0, f"ethereum: 0 new prices, {wanted_prices(truth.rows)} asked in vain",
    )  # fmt: skip
    assert first.stdout == (
        f"ethereum: {blocks} new blocks, {len(truth.rows)} liquidations, 0 undecoded,"
        f" {len(truth.strangers)} quarantined\n"
    )
    assert "ethereum: 0 new blocks, 0 liquidations" in again.stdout
    assert again.stderr == ""
    assert rows(connection, "SELECT count(*) FROM liq.lending_liquidations") == [(len(truth.rows),)]


def test_venues_of_a_chain_share_their_requests(
    chain: ModelChain, node: Node, quick_indexer: Command
) -> None:
    quick_indexer("backfill", VENUES[0], *bounds(chain), RPC_ETHEREUM=node.url)
    alone = node.asked["eth_getLogs"]
    quick_indexer("backfill", *VENUES[1:], *bounds(chain), RPC_ETHEREUM=node.url)

    assert node.asked["eth_getLogs"] == 2 * alone


def test_blocks_that_are_not_final_are_left_to_follow(
    chain: ModelChain, node: Node, quick_indexer: Command
) -> None:
    first, last = chain.branch.blocks[0].number, chain.head.number + 1

    done = quick_indexer(
        "backfill", VENUES[0], "--from", first, "--to", last, RPC_ETHEREUM=node.url
    )

    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0, f"ethereum: 8 blocks up to {last:,} are not final yet: indexer follow ethereum",
    )  # fmt: skip


def test_status_and_explain_show_how_a_row_came_about(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=keyed(node))
    ((key, account, repaid),) = rows(
        connection,
        "SELECT key, account, repaid_raw FROM liq.lending_liquidations"
        " WHERE venue = 'aave_v2.ethereum' AND repaid_raw > 0 ORDER BY key LIMIT 1",
    )

    explained = quick_indexer("explain", key)
    status = quick_indexer("status")

    assert explained.returncode == 0, explained.stderr
    said = re.sub(r"\s+", " ", explained.stdout)
    assert [
        word in said
        for word in ("published", "topics", "row", str(account), str(repaid), "read_from")
    ] == [True] * 6
    assert re.search(r"aave_v2.ethereum\s+liquidations\s+293", status.stdout)


def test_explain_walks_from_a_quarantined_event_to_its_log(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=node.url)
    ((event_key, emitter),) = rows(
        connection, "SELECT event_key, emitter FROM liq.quarantine ORDER BY 1 LIMIT 1"
    )

    explained = quick_indexer("explain", f"ethereum/{event_key}")

    assert explained.returncode == 0
    assert explained.stdout.count(str(emitter)) == 2
    assert "quarantined" in explained.stdout


def test_redecode_needs_no_node(chain: ModelChain, node: Node, quick_indexer: Command) -> None:
    quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=node.url)

    done = quick_indexer("redecode", *VENUES)

    assert (done.returncode, "0 rows changed" in done.stdout) == (0, True), done.stderr


def test_redecode_makes_a_row_of_what_a_new_deployment_explains(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=node.url)
    emitters = [row[0] for row in rows(connection, "SELECT DISTINCT emitter FROM liq.quarantine")]
    strangers = len(chain.truth(to=chain.finalized).strangers)
    file = tmp_path / "deployments.json"
    file.write_text(json.dumps([
        {"protocol": "aave_v2", "chain": "ethereum", "address": emitter, "role": "pool",
         "source": "a test"}
        for emitter in emitters
    ]))  # fmt: skip

    done = quick_indexer("redecode", "aave_v2.ethereum", INDEXER_DEPLOYMENTS=str(file))

    assert done.returncode == 0, done.stderr
    assert rows(
        connection,
        "SELECT count(*) FROM liq.quarantine UNION ALL SELECT count(*)"
        " FROM ledger.coverage c, ledger.counted(venue, blocks) n"
        " WHERE (c.logs, c.digest) IS DISTINCT FROM (n.logs, n.digest)",
    ) == [(0,), (0,)]
    assert strangers > 0
    assert f"{strangers * 2} rows changed" in done.stdout
    assert rows(connection, f"{LOOKED_AT} WHERE reason = 'no price was asked for yet'") == [
        (strangers,)
    ]


def test_what_a_check_adds_is_valued(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    node.faults.script[:] = ["empty_logs"]
    quick_indexer("backfill", VENUES[0], *bounds(chain), RPC_ETHEREUM=node.url)
    assert rows(connection, "SELECT count(*) FROM liq.lending_liquidations") == [(0,)]

    done = quick_indexer("check", VENUES[0], RPC_ETHEREUM=node.url)

    added = [row for row in chain.truth(to=chain.finalized).rows if row.venue == VENUES[0]]
    assert (done.returncode, only_line(done.stderr)) == (
        0, f"ethereum: 0 new prices, {wanted_prices(added)} asked in vain",
    )  # fmt: skip
    assert rows(connection, LOOKED_AT) == [(len(added),)]


BAD = {
    "unknown venue": (
        ["backfill", "aave_v9.ethereum", "--from", "1", "--to", "2"], 2,
        "no venue 'aave_v9.ethereum'; there are aave_v1.ethereum, ",
    ),
    "unknown chain": (
        ["follow", "etherium"], 2, "no venue or chain 'etherium'; chains are ",
    ),
    "venue on a chain where it is not": (
        ["check", "comet.gnosis"], 2, "no venue 'comet.gnosis'; there are ",
    ),
    "no endpoint": (
        ["backfill", "aave_v2.polygon", "--from", "1", "--to", "2"], 1,
        "polygon: no endpoint; set RPC_POLYGON to one or more, comma separated",
    ),
    "no height": (
        ["backfill", "aave_v2.ethereum", "--from", "here", "--to", "2"], 2,
        "'here' is no block height; write 18000000 or 18M",
    ),
    "no end": (
        ["backfill", "aave_v2.ethereum", "--from", "1"], 2,
        "give the end of the blocks with --to, or follow the chain",
    ),
    "files and chains": (
        ["follow", "hyperliquid", "ethereum"], 2,
        "hyperliquid is read from files: give it a command of its own",
    ),
    "a chain from files": (
        ["follow", "ethereum", "--from", "."], 2,
        "--from is for hyperliquid; chains are read from RPC_<CHAIN>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_gets_one_line_that_says_what_to_do(case: str, quick_indexer: Command) -> None:
    arguments, code, message = BAD[case]

    done = quick_indexer(*arguments)

    assert (done.returncode, done.stdout, message in done.stderr) == (code, "", True), done.stderr


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that ended with 1; it holds no key."""
    assert (done.returncode, CANARY in done.stdout + done.stderr) == (1, False), done.stderr
    return only_line(done.stderr)


def test_a_wrong_chain_is_refused(quick_indexer: Command) -> None:
    with Node(ModelChain(Config(seed=1)), chain_id=10) as other:
        done = quick_indexer(
            "backfill", VENUES[0], "--from", 1, "--to", 2, RPC_ETHEREUM=keyed(other)
        )

    assert "serves chain 10, not 1 (ethereum)" in refused(done)
    assert "correct RPC_ETHEREUM" in refused(done)


def test_an_endpoint_that_nobody_answers_is_named_without_its_key(quick_indexer: Command) -> None:
    done = quick_indexer(
        "backfill", VENUES[0], "--from", 1, "--to", 2,
        RPC_ETHEREUM=f"http://127.0.0.1:9/v3/{CANARY}",
    )  # fmt: skip

    assert "127.0.0.1 #1: ConnectionError" in refused(done)


def test_blocks_before_the_history_of_an_endpoint_are_refused(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    first = chain.branch.blocks[0].number

    done = quick_indexer(
        "backfill", VENUES[0], "--from", first - 5, "--to", first + 5, RPC_ETHEREUM=keyed(node)
    )

    assert f"block {first - 5}" in refused(done)
    assert rows(connection, "SELECT count(*) FROM ledger.coverage") == [(0,)]


STRANGE = (
    '{"protocol": "comet", "chain": "ethereum", "role": "comet", "source": "s",'
    ' "address": "0x' + 40 * "7" + '"}'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a list of deployments"),
        ('[{"protocol": "x", "chain": "c", "address": "0x", "role": "pool", "source": "s"}]',
         "no protocol 'x'; there are aave_v1, "),
        ('[{"protocol": "comet", "chain": "c", "address": "0x", "role": "pool", "source": "s"}]',
         "comet has no role 'pool', only comet"),
        ('[{"protocol": "comet", "chain": "c", "address": "0x", "role": "comet", "source": "s"}]',
         "'0x' is no address"),
        ('[{"protocol": "comet", "chain": "ethereum", "role": "comet", "source": "s",'
         ' "address": "0x87870BCA3F3FD6335C3F4CE8392D69350B4FA4E2"}]',
         "0x87870BCA3F3FD6335C3F4CE8392D69350B4FA4E2 on ethereum is deployed twice"),
        (f"[{STRANGE}, {STRANGE}]", "on ethereum is deployed twice"),
        (f'[{STRANGE[:-1]}, "name": "spark"}}]', "spark is a deployment of aave_v3"),
    ],
    ids=["no JSON", "protocol", "role", "address", "known address", "address twice", "name"],
)  # fmt: skip
def test_a_deployments_file_is_checked(
    text: str, message: str, quick_indexer: Command, tmp_path: Path
) -> None:
    file = tmp_path / "deployments.json"
    file.write_text(text)

    done = quick_indexer("redecode", VENUES[0], INDEXER_DEPLOYMENTS=str(file))

    assert f"{file.name}: " in refused(done)
    assert message in refused(done)


def test_a_chain_that_must_stop_leaves_the_others_running(
    chain: ModelChain, node: Node, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    """Of two chains one is followed from a tip that its endpoint does not know any more."""
    connection.execute(
        "INSERT INTO ledger.stream VALUES ('base', 101, %(hash)s, 100, 1);".replace(
            "%(hash)s", f"'0x{'ab' * 32}'"
        )
    )
    connection.execute(
        "INSERT INTO ledger.block VALUES ('base', %s, %s, NULL, now())",
        (chain.branch.blocks[0].number, "0x" + "ab" * 32),
    )
    connection.execute(
        "UPDATE ledger.stream SET next_block = %s, finalized_block = %s WHERE chain = 'base'",
        (chain.branch.blocks[1].number, chain.branch.blocks[0].number),
    )
    with Node(chain, chain_id=8453) as base:
        env = {"RPC_ETHEREUM": keyed(node), "RPC_BASE": keyed(base)}
        with following(conninfo, tmp_path, *VENUES, "base", **env) as follower:
            _until_head(connection, chain.head.number)
            chain.mine(3)
            _until_head(connection, chain.head.number)
            shown = rows(connection, "SELECT chain FROM liq.chains WHERE stopped IS NOT NULL")
            said = stopped(follower)

    assert (follower.returncode, shown, CANARY in said) == (1, [("base",)], False)
    assert "base stopped: base: block 20000000 was final and is another one now" in said


def test_a_second_follow_waits_for_the_first_to_end(
    chain: ModelChain, node: Node, conninfo: str, connection: Connection, tmp_path: Path
) -> None:
    with following(conninfo, tmp_path, *VENUES, RPC_ETHEREUM=node.url) as first:
        _until_head(connection, chain.head.number)
        with following(conninfo, tmp_path, *VENUES, RPC_ETHEREUM=node.url) as second:
            assert second.stderr is not None
            heard = [second.stderr.readline() for _ in range(2)]
            ended = stopped(first)
            chain.mine(3)
            _until_head(connection, chain.head.number)
            stopped(second)

    assert heard[1] == "ethereum: another process follows it; waiting for it to end\n"
    assert (first.returncode, second.returncode, "Fenced" in ended) == (0, 0, False)


def _until_head(connection: Connection, head: int) -> None:
    query = "SELECT tip_block FROM liq.chains WHERE chain = 'ethereum'"
    soon(lambda: rows(connection, query) == [(head,)])


def test_no_key_is_in_the_database(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=keyed(node))
    quick_indexer("check", *VENUES, RPC_ETHEREUM=keyed(node))

    tables = [row[0] for row in rows(connection, _TABLES)]
    held = "".join(str(rows(connection, f"SELECT t::text FROM {table} t")) for table in tables)
    assert (CANARY in held, "127.0.0.1 #1" in held) == (False, True)


_TABLES = """
    SELECT c.oid::regclass::text FROM pg_class c
    WHERE relnamespace IN ('ledger'::regnamespace, 'liq'::regnamespace) AND relkind IN ('r', 'v')
"""


def test_what_waits_for_a_receipt_is_settled_by_a_node_that_has_it(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    unsupported = ("eth_getBlockReceipts", "eth_getTransactionReceipt")
    with Node(chain, limits=Limits(unsupported=unsupported), calls=comet_of(chain)) as poor:
        done = quick_indexer("backfill", "comet.ethereum", *bounds(chain), RPC_ETHEREUM=poor.url)

    waiting = rows(connection, "SELECT DISTINCT missing_fact FROM liq.undecoded")
    assert (done.returncode, waiting) == (0, [("receipt",)])
    assert rows(connection, "SELECT count(*) FROM liq.lending_liquidations") == [(0,)]

    quick_indexer("backfill", "comet.ethereum", *bounds(chain), RPC_ETHEREUM=node.url)

    truth = chain.truth(to=chain.finalized).rows
    assert rows(
        connection,
        "SELECT count(*) FROM liq.undecoded UNION ALL"
        " SELECT count(*) FROM liq.lending_liquidations",
    ) == [(0,), (sum(row.venue == "comet.ethereum" for row in truth),)]


def test_what_a_backfill_settles_of_another_venue_is_valued_too(
    chain: ModelChain, node: Node, quick_indexer: Command, connection: Connection
) -> None:
    unsupported = ("eth_getBlockReceipts", "eth_getTransactionReceipt")
    with Node(chain, limits=Limits(unsupported=unsupported), calls=comet_of(chain)) as poor:
        quick_indexer("backfill", "comet.ethereum", *bounds(chain), RPC_ETHEREUM=poor.url)

    quick_indexer("backfill", "aave_v2.ethereum", *bounds(chain), RPC_ETHEREUM=node.url)

    truth = chain.truth(to=chain.finalized).rows
    assert rows(connection, f"{LOOKED_AT} WHERE venue = 'comet.ethereum'") == [
        (sum(row.venue == "comet.ethereum" for row in truth),)
    ]


HOSTILE = b"\x00\x1b[31mUSDC\x1b[0m\xe2\x80\xae<script>\xff\xed\xa0\x80"


def hostile_token(chain: ModelChain) -> Calls:
    """Every token calls itself HOSTILE and has 255 decimals."""
    known = comet_of(chain)
    text = "0x" + encode(["bytes"], [HOSTILE]).hex()  # as a string, but it is no UTF-8
    said = {"0x95d89b41": text, "0x06fdde03": text, "0x313ce567": "0x" + 62 * "0" + "ff"}

    def call(to: str, data: str) -> str | RpcError:
        return said.get(data) or known(to, data)

    return call


def test_what_a_token_calls_itself_breaks_no_row_and_reaches_no_terminal(
    chain: ModelChain, quick_indexer: Command, connection: Connection
) -> None:
    with Node(chain, calls=hostile_token(chain)) as node:
        done = quick_indexer("backfill", *VENUES, *bounds(chain), RPC_ETHEREUM=node.url)
    ((key, symbol, raw, decimals, repaid_raw, repaid),) = rows(
        connection,
        "SELECT key, repaid_symbol, symbol_raw, decimals, repaid_raw, repaid"
        " FROM liq.lending_liquidations JOIN ledger.asset ON address = repaid_asset"
        " WHERE repaid_raw > 0 ORDER BY key LIMIT 1",
    )

    explained = quick_indexer("explain", key)

    assert (done.returncode, explained.returncode) == (0, 0)
    assert (symbol, raw, decimals, repaid) == (
        "[31mUSDC[0m<script>\ufffd\ufffd\ufffd\ufffd",
        HOSTILE,
        255,
        None,
    )
    assert str(repaid_raw) in explained.stdout
    assert [c for c in explained.stdout if not c.isprintable() and c != "\n"] == []
    assert "[31mUSDC[0m<script>" in explained.stdout


@pytest.mark.parametrize(
    ("text", "height"),
    [("18M", 18_000_000), ("18.5M", 18_500_000), ("10k", 10_000), ("1_000", 1_000), ("0", 0)],
)
def test_a_height_may_be_written_short(text: str, height: int) -> None:
    assert Height().convert(text, None, None) == height
