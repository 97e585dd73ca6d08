"""One transaction of a node, verified without a database: what is shown, kept and refused."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import msgspec
import pytest

from indexer.golden import outcomes_of
from indexer.sources.chains import CHAINS, OTHER_IDS, name_of
from tests.chain_model.chain import Block, Config, ModelChain, Receipt
from tests.chain_model.node import Limits, Node, comet_of
from tests.chain_model.serve import Asked, Reply, Request, Result, RpcError, Server, exchange
from tests.evm_logs import DECODER, GOLDEN, SPECS, Case, decoded, known, plain
from tests.quick_start import Starter

CANARY = "c4n4ry0f4k3yth4tmustn0tl34k"
UNKNOWN = "0x" + 64 * "9"
Verify = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def chain() -> ModelChain:
    """Three hundred blocks with liquidations."""
    model = ModelChain(Config(seed=3))
    model.mine(300)
    return model


@pytest.fixture
def node(chain: ModelChain) -> Iterator[Node]:
    """An honest node of it."""
    with Node(chain, calls=comet_of(chain)) as served:
        yield served


@pytest.fixture
def verify(start: Starter, tmp_path: Path) -> Verify:
    """The command, where there is no database and none may be started."""

    def run(*arguments: object, **environment: str) -> CompletedProcess[str]:
        nowhere = {"INDEXER_DATA_DIR": str(tmp_path / "data"), "INDEXER_PG_BIN": str(tmp_path)}
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        words = ["verify", *map(str, arguments)]
        done = start.run(
            words, {**kept, **nowhere, "COLUMNS": "200", **environment}, tmp_path, None
        )
        assert not (tmp_path / "data").exists()
        return done

    return run


class Found(NamedTuple):
    """A transaction of the model."""

    block: Block
    receipt: Receipt

    @property
    def hash(self) -> str:
        return self.receipt.transaction.hash


def found(chain: ModelChain, kind: str) -> Found:
    """The first transaction of a kind."""
    return next(
        Found(block, receipt)
        for block in chain.branch.blocks
        for receipt in block.receipts
        if receipt.transaction.kind == kind
    )


def alone(verified: CompletedProcess[str]) -> tuple[int, str]:
    """The exit code and the last line of what was said."""
    return verified.returncode, (verified.stderr.splitlines() or [""])[-1]


# what is shown


def test_what_was_published_stands_beside_the_row(
    chain: ModelChain, node: Node, verify: Verify
) -> None:
    tx = found(chain, "aave")
    (row,) = [row for row in chain.truth().rows if row.tx_hash == tx.hash]

    done = verify(tx.hash, "--rpc", node.url)

    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines()}
    assert f"ethereum block {tx.block.number:,} at 2024-07-03" in done.stdout
    assert f"aave_v2.ethereum repay_seize, log {row.log_index} LiquidationCall" in done.stdout
    assert lines["account"] == ["account", "user", "=", row.account, row.account]
    assert lines["repaid"] == ["repaid", "debtToCover", "=", *2 * [f"{row.repaid_raw}"]]
    assert lines["seized"] == (
        ["seized", "liquidatedCollateralAmount", "=", *2 * [f"{row.seized_raw}"]]
    )
    assert "no price: " in done.stdout


def test_a_missing_fact_is_asked_of_the_contract_and_shown(
    chain: ModelChain, node: Node, verify: Verify
) -> None:
    tx = found(chain, "comet")
    places = chain.config.places

    done = verify(tx.hash, "--rpc", node.url)

    assert done.returncode == 0, done.stderr
    assert f"of {places.comet} is {places.comet_base}, at the block too" in done.stdout


def test_a_node_without_receipts_of_blocks_is_asked_for_them_singly(
    chain: ModelChain, verify: Verify
) -> None:
    tx = found(chain, "aave")
    with Node(chain, limits=Limits(unsupported={"eth_getBlockReceipts"})) as node:
        done = verify(tx.hash, "--rpc", node.url)

    assert done.returncode == 0, done.stderr
    assert "read from all receipts of the block" in done.stdout


def test_the_endpoints_of_the_settings_do_as_well(
    chain: ModelChain, node: Node, verify: Verify
) -> None:
    tx = found(chain, "aave")
    done = verify(tx.hash, "--chain", "ethereum", RPC_ETHEREUM=f"ws://127.0.0.1:1,{node.url}")
    assert (done.returncode, done.stderr) == (0, "")


# what is kept


@pytest.mark.parametrize(("kind", "protocol"), [("aave", "aave_v2"), ("comet", "comet")])
def test_a_saved_transaction_is_a_golden_case_as_it_is(
    chain: ModelChain, node: Node, verify: Verify, tmp_path: Path, kind: str, protocol: str
) -> None:
    tx = found(chain, kind)

    done = verify(tx.hash, "--rpc", node.url, "--save", tmp_path / "golden")

    path = tmp_path / "golden" / protocol / f"{tx.hash[:10]}.json"
    assert alone(done) == (0, f"wrote {path}")
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    assert msgspec.json.encode(decoded(case)) == msgspec.json.encode(case.outcomes)
    assert case.source == (f"Real: {tx.hash} of ethereum (chain 1), saved by indexer verify.")
    assert [log.data for log in case.logs] == [log.data for log in tx.receipt.logs]
    assert "LendingLiquidation" in case.outcomes[0]


def test_what_only_its_call_explains_is_saved_with_the_call(verify: Verify, tmp_path: Path) -> None:
    model = ModelChain(Config(seed=3, often={"perpetual": 1}))
    model.mine(30)
    tx = next(
        Found(block, receipt)
        for block in model.branch.blocks
        for receipt in block.receipts
        if any(one.liquidator for one in receipt.transaction.meanings)
    )
    file = tmp_path / "mine.json"
    vault = {"protocol": "gmx_v1", "chain": "ethereum", "role": "vault", "source": "made up"}
    file.write_bytes(msgspec.json.encode([{**vault, "address": model.config.places.vault}]))

    with Node(model) as node:
        words = (tx.hash, "--rpc", node.url, "--save", tmp_path / "golden")
        done = verify(*words, INDEXER_DEPLOYMENTS=str(file))

    assert alone(done) == (0, f"wrote {tmp_path / 'golden' / 'gmx_v1' / tx.hash[:10]}.json")
    case = msgspec.json.decode(
        (tmp_path / "golden" / "gmx_v1" / f"{tx.hash[:10]}.json").read_bytes(), type=Case
    )
    assert ["/".join(tx.receipt.transaction.sent)] == [
        fact.value for fact in case.facts if fact.fact == "transaction"
    ]
    assert [next(iter(one)) for one in case.outcomes] == ["PerpLiquidation"]


def test_a_case_is_kept_once_and_never_replaced(
    chain: ModelChain, node: Node, verify: Verify, tmp_path: Path
) -> None:
    arguments = (found(chain, "aave").hash, "--rpc", node.url, "--save", tmp_path)
    assert [verify(*arguments).returncode for _ in range(2)] == [0, 0]
    (path,) = (tmp_path / "aave_v2").iterdir()
    path.write_text("mine")

    done = verify(*arguments)

    assert alone(done) == (1, f"indexer: {path}: is there already and says something else")
    assert path.read_text() == "mine"


def test_outcomes_are_written_as_the_golden_suite_reads_them() -> None:
    """The suite has its own way to write them: two that agree."""
    cases = [
        msgspec.json.decode(path.read_bytes(), type=Case)
        for spec in SPECS
        for path in (GOLDEN / spec.name).glob("*.json")
    ]
    outcomes = [
        DECODER.transaction(case.logs, known(case.facts), is_whole=case.is_whole) for case in cases
    ]
    assert len(cases) >= 60
    assert [outcomes_of(found) for found in outcomes] == [plain(found) for found in outcomes]


# bad input


@pytest.mark.parametrize("word", ["", "0x12", "0x" + 64 * "g", 64 * "1", "0x" + 65 * "1", "é"])
def test_what_is_no_hash_is_wrong_usage(verify: Verify, word: str) -> None:
    code, said = alone(verify(word, "--rpc", "http://127.0.0.1:1"))
    assert (code, "is no transaction hash: 0x and 64 hex digits" in said) == (2, True)


@pytest.mark.parametrize(
    "url",
    [f"ws://h/{CANARY}", f"h/{CANARY}", "", f"http:///{CANARY}", f"http://h:{CANARY}/",
     f"http://[{CANARY}/", f"file:///{CANARY}", f"http://u:{CANARY}@/"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_usage_and_not_repeated(verify: Verify, url: str) -> None:
    done = verify(UNKNOWN, "--rpc", url)
    assert alone(done) == (
        2, "Error: --rpc takes an address that begins with http:// or https://"
    )  # fmt: skip
    assert CANARY not in done.stdout + done.stderr


def test_a_node_must_be_named(verify: Verify) -> None:
    code, said = alone(verify(UNKNOWN))
    assert (code, said) == (
        2, "Error: say which node to ask with --rpc URL, or which chain with --chain NAME"
    )  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [f"http://user:{CANARY}@127.0.0.1:1/v3", f"http://127.0.0.1:1/{CANARY}",
        f"http://127.0.0.1:1/?key={CANARY}",],
)  # fmt: skip
def test_a_node_that_is_away_is_said_without_its_key(verify: Verify, url: str) -> None:
    done = verify(UNKNOWN, "--rpc", url)

    code, said = alone(done)
    assert (code, said.startswith("indexer: eth_chainId: ")) == (1, True)
    assert len(done.stderr.splitlines()) == 1
    assert CANARY not in done.stdout + done.stderr


def test_an_unknown_transaction(node: Node, verify: Verify) -> None:
    done = verify(UNKNOWN, "--rpc", f"{node.url}/v3/{CANARY}")
    assert (*alone(done), done.stdout) == (1, f"indexer: ethereum: no transaction {UNKNOWN}", "")


def test_a_transaction_that_was_reverted(chain: ModelChain, node: Node, verify: Verify) -> None:
    """The receipts say so, whatever logs a sick node sends with them."""
    tx = found(chain, "aave")

    def reverted(asked: Asked) -> Reply | None:
        reply = node.answer(asked)
        return reply and reply._replace(
            body=reply.body.replace(b'"status":"0x1"', b'"status":"0x0"')
        )

    with Server(reverted) as server:
        done = verify(tx.hash, "--rpc", server.url)

    assert alone(done) == (
        1, f"indexer: ethereum: {tx.hash} was reverted: nothing came of it"
    )  # fmt: skip


def test_a_transaction_without_liquidation(
    chain: ModelChain, node: Node, verify: Verify, tmp_path: Path
) -> None:
    tx = found(chain, "transfer")
    logs = len(tx.receipt.logs)
    assert alone(verify(tx.hash, "--rpc", node.url, "--save", tmp_path / "golden")) == (
        1, f"indexer: {tx.hash}: none of its {logs} logs is a liquidation"
    )  # fmt: skip
    assert not (tmp_path / "golden").exists()


def test_a_strangers_event_is_shown_and_no_success(
    chain: ModelChain, node: Node, verify: Verify
) -> None:
    tx = found(chain, "stranger")
    done = verify(tx.hash, "--rpc", node.url)
    assert alone(done) == (1, f"indexer: {tx.hash}: not understood to the end, see above")
    assert f"by {chain.config.places.stranger} looks like aave_v2 or aave_v3" in done.stdout


def test_a_row_that_waits_for_a_fact_is_no_success(chain: ModelChain, verify: Verify) -> None:
    tx = found(chain, "comet")
    with Node(chain) as mute:  # no contract answers
        done = verify(tx.hash, "--rpc", mute.url)

    assert alone(done) == (1, f"indexer: {tx.hash}: not understood to the end, see above")
    assert f"waits for underlying of {chain.config.places.comet}" in done.stdout


# which chain it is


class Fake:
    """A node that answers each method with one result."""

    def __init__(self, **results: Result) -> None:
        self.results = results

    def answer(self, asked: Asked) -> Reply:
        """HTTP."""
        return exchange(asked.body, self._call)

    def _call(self, request: Request) -> Result:
        return self.results.get(request.method, RpcError(-32601, "no such method"))


def test_a_pending_transaction(verify: Verify) -> None:
    sent = msgspec.json.encode({"hash": UNKNOWN, "blockHash": None, "blockNumber": None})
    fake = Fake(
        eth_chainId=b'"0x1"', eth_getTransactionReceipt=b"null", eth_getTransactionByHash=sent
    )
    with Server(fake.answer) as server:
        done = verify(UNKNOWN, "--rpc", server.url)
    assert alone(done) == (
        1, f"indexer: ethereum: {UNKNOWN} is pending: no block has it yet"
    )  # fmt: skip


def test_a_node_that_tells_of_another_transaction_is_not_believed(verify: Verify) -> None:
    sent = msgspec.json.encode({"hash": "0x" + 64 * "8"})
    fake = Fake(
        eth_chainId=b'"0x1"', eth_getTransactionReceipt=b"null", eth_getTransactionByHash=sent
    )
    with Server(fake.answer) as server:
        code, said = alone(verify(UNKNOWN, "--rpc", server.url))
    assert (code, "another transaction than was asked for" in said) == (1, True)


@pytest.mark.parametrize(
    ("chain_id", "words", "said"),
    [
        ("0x1337abcd", (), "the node serves chain 322415565, which has no name here: --chain NAME"),
        ("0x2105", ("--chain", "ethereum"), "the node serves base (chain 8453), not ethereum"),
        (
            "0x1337abcd", ("--chain", "base"),
            "the node serves chain 322415565, not 8453 (base)",
        ),
        (
            "0x7a69", (),
            "anvil: no venue stands there; name contracts in INDEXER_DEPLOYMENTS",
        ),
        (
            "0x1337abcd", ("--chain", "mine"),
            "mine: no venue stands there; name contracts in INDEXER_DEPLOYMENTS",
        ),
    ],
)  # fmt: skip
def test_which_chain_it_is(
    verify: Verify, chain_id: str, words: tuple[str, ...], said: str
) -> None:
    with Server(Fake(eth_chainId=f'"{chain_id}"'.encode()).answer) as server:
        assert alone(verify(UNKNOWN, "--rpc", server.url, *words)) == (1, f"indexer: {said}")


def test_a_fork_on_ones_own_machine_is_the_chain_that_the_user_says(
    chain: ModelChain, verify: Verify, tmp_path: Path
) -> None:
    tx = found(chain, "aave")
    with Node(chain, chain_id=31337) as node:
        done = verify(tx.hash, "--rpc", node.url, "--chain", "ethereum", "--save", tmp_path)

    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "aave_v2").iterdir()
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    assert case.source == (f"Real: {tx.hash} of ethereum (chain 31337), saved by indexer verify.")


def test_every_chain_has_one_id() -> None:
    ids = {one.chain_id: one.name for one in CHAINS} | {n: name for name, n in OTHER_IDS.items()}
    assert len(ids) == len(CHAINS) + len(OTHER_IDS)
    assert {number: name_of(number) for number in ids} == ids
    assert name_of(322415565) is None
