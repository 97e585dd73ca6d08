"""What accounts are and whose: genuine Safes and smart accounts on a chain, SIMULATED owners, and
answers that are silent, garbage or lies."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from indexer import labels
from indexer.account_kinds import code_at, hash_of
from indexer.account_model import (
    Code,
    CodeOf,
    Held,
    NotOwned,
    Owned,
    Question,
    SlotOf,
    Unreadable,
)
from indexer.chain.accounts import Tally, fill
from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import BlockRef, CallResult
from indexer.inquiry import inquire
from indexer.owners import maker_cdp, ways
from indexer.sources.chains import profile_of
from indexer.sources.evm import EvmSource
from indexer.store import accounts as store
from indexer.store import labels as labeler
from indexer.store.accounts import SeenCode, SeenOwner
from indexer.store.database import Connection
from indexer.venues import evm
from tests.conftest import Command
from tests.devchain.accounts import ENTRY_POINTS, NOBODY, SMART, Accounts
from tests.devchain.anvil import EPOCH, anvil
from tests.devchain.contracts import Contract, artifact
from tests.devchain.full_node import FullNode
from tests.devchain.packages import folder
from tests.fake_chain import NOTHING, RESULTS, REVERTED, asked, says
from tests.ledger_rows import Rows, in_order, rows
from tests.oracle_world import write_case
from tests.rpc_proxy import FakeClock, Http

AAVE, EULER, TROVES = "aave_v3.ethereum", "euler_v2.ethereum", "asymmetry_usdaf.ethereum"
CONNECTOR = "0x0c9a3dd6b8f28529d72d7f9ce918d493519ee383"  # Euler's on Ethereum
PROXIES = "0xa26e15c895efc0616177b7c1e7270a4c7d51c997"  # DSProxyFactory
VAULTS = "0x5ef30b9986345249bc32d8928b7ee64de9435e39"  # Maker's CDP manager
ENGINE = "0xce01c90de7fd1bcfa39e237fe6d8d9f569e8a6a3"  # Sky's LockstakeEngine
MARGIN = "0x8234f990b149ae59416dc260305e565e5dafeb54"  # Kwenta's factory
FLUID = "0x324c5dc1fc42c7a4d43d92df1eba58a54d13bf2d"  # Fluid's vault factory
PERPS = "0xcb68b813210afa0373f076239ad4803f8809e8cf"  # PerpsAccountProxy on Base
KEY = bytes(31) + b"\x07"
A, B, C = ("0x" + 40 * digit for digit in "abc")
CREDIT, MANAGER = ("0x" + 38 * "0" + end for end in ("ca", "cc"))  # of Gearbox, as in its case
POSITION, CORE = f"{2**127 + 29}", "0x32c222a9a159782afd7529c87fa34b96ca72c696"
EMPTY = "0x" + keccak(b"").hex()
DECODER = Decoder(evm.specs())
WAYS = {way.method: way for way in ways()}
START = datetime(2025, 1, 1, tzinfo=UTC)

Answers = dict[Question, CallResult]


# a chain


@pytest.fixture
def chain() -> Iterator[Accounts]:
    """A chain that passes for Ethereum, with nothing on it but whom the ways ask."""
    with anvil("ethereum") as node:
        made = Accounts(node)
        for address, code in ((PROXIES, "ProxyFactory"), (VAULTS, "Vaults"), (ENGINE, "Connector")):
            made.deployer.place(address, made.codes[code])
            node.rpc("anvil_setNonce", address, "0x1")  # as of a contract that was made
        made.deployer.place(CONNECTOR, made.codes["Connector"])
        yield made


def placed(chain: Accounts, address: str, code: str) -> Contract:
    """A SIMULATED contract that stands there."""
    return chain.deployer.at(address, chain.codes[code])


def liquidated(
    connection: Connection,
    block: BlockRef,
    account: str,
    *,
    venue: str = AAVE,
    market: str = C,
    owner: str | None = None,
) -> None:
    """A SIMULATED liquidation in a genuine block."""
    connection.execute(
        "INSERT INTO ledger.block VALUES (%s, %s, %s, %s, to_timestamp(%s)) ON CONFLICT DO NOTHING",
        (block.chain, block.number, block.hash, block.parent_hash, block.time),
    )
    connection.execute(
        "INSERT INTO ledger.lending_liquidation (venue, event_key, account, block_number, block_at,"
        " method, market, owner, seized_is_shares, decoder_version)"
        " VALUES (%s, %s, %s, %s, to_timestamp(%s), 'repay_seize', %s, %s, false, 1)",
        (venue, f"0x{block.number:064x}/{account[-6:]}", account, block.number, block.time, market,
         owner),
    )  # fmt: skip


def ask(
    connection: Connection, url: str, venues: Sequence[str] = (AAVE,), *, again: bool = False
) -> Tally:
    """What the command does for one chain."""
    with closing(EvmSource(profile_of("ethereum"), [url])) as source:
        return fill(connection, source, DECODER, venues, again=again)


def asked_at_end(
    connection: Connection, chain: Accounts, *accounts: str, again: bool = False
) -> Tally:
    """Let accounts be liquidated now, let that be final, and ask."""
    block = chain.block()
    for account in accounts:
        liquidated(connection, block, account)
    chain.node.mine(2 * EPOCH)
    return ask(connection, chain.node.url, again=again)


def kinds(connection: Connection) -> dict[str, tuple[str, dict[str, Any]]]:
    """What is known of each account, once where two observations agree."""
    return {
        str(account): (str(kind), evidence)
        for account, kind, evidence in connection.execute(
            "SELECT account, kind, evidence FROM liq.account_codes"
        )
    }


# kinds


@pytest.mark.parametrize("version", ["1.3.0", "1.4.1"])
def test_a_genuine_safe_is_known_by_the_code_of_its_singleton(
    chain: Accounts, connection: Connection, version: str
) -> None:
    owners = sorted(chain.node.new_account() for _ in range(3))
    safe, singleton = chain.safe(version, owners, 2)

    tally = asked_at_end(connection, chain, safe.address)

    assert kinds(connection) == {
        safe.address: ("safe", {"safe": {
            "singleton": singleton, "version": version, "singleton_known_by": "code",
            "proxy_is_known": True,
        }}),
    }  # fmt: skip
    assert (tally.asked, tally.kinds, tally.owned) == (1, {"safe": 1}, {"safe": 1})
    assert [
        (owner, method, proof["threshold"], sorted(proof["owners"]))
        for owner, method, proof in connection.execute(
            "SELECT owner, method, proof FROM liq.account_owners"
        )
    ] == [(None, "safe", 2, owners)]


@pytest.mark.parametrize("version", ["0.6", "0.7", "0.8"])
def test_a_genuine_smart_account_is_first_what_it_says_and_then_what_the_entry_point_counts(
    chain: Accounts, connection: Connection, version: str
) -> None:
    point, owner = chain.entry_point(version), chain.node.new_account()
    account, body = chain.smart_account(version, owner)

    asked_at_end(connection, chain, account.address)
    before = kinds(connection)
    account.send(
        owner, "execute", point.address, 0, bytes.fromhex(point.data("incrementNonce", 0)[2:])
    )
    chain.node.mine(2 * EPOCH)
    ask(connection, chain.node.url, again=True)

    says_so = {"entry_point": ENTRY_POINTS[version], "version": version, "by": "interface"}
    proxy = {"implementation": body, "by": "eip1967"}
    assert before == {account.address: ("erc4337", {**proxy, "erc4337": says_so})}
    assert rows(
        connection,
        "SELECT kind, evidence #>> '{erc4337,by}', valid_to IS NULL FROM liq.account_codes",
    ) == [("erc4337", "interface", False), ("erc4337", "nonce", True)]


def test_who_only_says_so_is_a_contract(chain: Accounts, connection: Connection) -> None:
    """A paymaster names its EntryPoint too; a word in slot 0 and some answers make no Safe."""
    point = chain.entry_point("0.7")
    signer = chain.node.new_account()
    paymaster = chain.deployer.deploy(
        artifact(folder(SMART["0.7"]), "VerifyingPaymaster"), point.address, signer
    )
    known = "0xd9db270c1b5e3bd161e8c8503c55ceabee709552"  # the singleton of 1.3.0
    liar = chain.deployer.deploy(chain.codes["Pretender"], known, point.address)

    asked_at_end(connection, chain, paymaster.address, liar.address, signer)

    assert kinds(connection) == {
        paymaster.address: ("contract", {}), liar.address: ("contract", {}), signer: ("none", {}),
    }  # fmt: skip


def test_a_delegation_holds_until_it_is_seen_to_be_taken_back(
    chain: Accounts, connection: Connection
) -> None:
    account = chain.delegate(KEY, A)
    delegated = chain.block()
    asked_at_end(connection, chain, account)
    chain.delegate(KEY, NOBODY)
    chain.node.mine(2 * EPOCH)
    ask(connection, chain.node.url, again=True)
    seen = chain.block("finalized")

    begin, end = (datetime.fromtimestamp(one.time, UTC) for one in (delegated, seen))
    assert rows(
        connection,
        "SELECT kind, code_hash, evidence::text, first_block, valid_from, valid_to"
        " FROM liq.account_codes",
    ) == [
        ("eip7702", hash_of(bytes.fromhex("ef0100" + A[2:])), f'{{"delegate": "{A}"}}',
         delegated.number, begin, end),
        ("none", EMPTY, "{}", seen.number, end, None),
    ]  # fmt: skip
    labeler.apply(connection, labels.rules())
    assert rows(
        connection,
        "SELECT venue, account, label, rule, confidence, evidence ->> 'delegate', valid_from,"
        " valid_to FROM liq.labels",
    ) == [("ethereum", account, "eip7702", "ROLE_7702", Decimal("0.95"), A, begin, end)]


def test_a_key_may_delegate_to_a_smart_account(chain: Accounts, connection: Connection) -> None:
    point = chain.entry_point("0.8")
    body = chain.deployer.deploy(artifact(folder(SMART["0.8"]), "Simple7702Account"))
    account = chain.delegate(KEY, body.address)

    asked_at_end(connection, chain, account)

    used = {"entry_point": point.address, "version": "0.8", "by": "interface"}
    assert kinds(connection) == {account: ("eip7702", {"delegate": body.address, "erc4337": used})}
    labeler.apply(connection, labels.rules())
    assert rows(connection, "SELECT rule, confidence FROM liq.labels") == [
        ("ROLE_4337", Decimal("0.8")), ("ROLE_7702", Decimal("0.95")),
    ]  # fmt: skip


def test_the_upgrade_of_a_proxy_begins_an_interval(chain: Accounts, connection: Connection) -> None:
    """Its code stays the same, what it runs does not."""
    chain.entry_point("0.7")
    owner = chain.node.new_account()
    account, old = chain.smart_account("0.7", owner)
    _, new = chain.smart_account("0.7", owner)
    asked_at_end(connection, chain, account.address)
    account.send(owner, "upgradeToAndCall", new, b"")
    chain.node.mine(2 * EPOCH)
    ask(connection, chain.node.url, again=True)

    assert rows(
        connection,
        "SELECT evidence ->> 'implementation', valid_to IS NULL,"
        " count(*) OVER (PARTITION BY code_hash) FROM liq.account_codes",
    ) == sorted([(old, False, 2), (new, True, 2)], key=repr)


# owners


def test_an_urn_leads_to_its_proxy_and_that_to_its_key(
    chain: Accounts, connection: Connection
) -> None:
    key, stranger = chain.node.new_account(), chain.node.new_account()
    factory, vaults = placed(chain, PROXIES, "ProxyFactory"), placed(chain, VAULTS, "Vaults")
    chain.deployer.send(factory, "build", key)
    proxy = str(factory.read("last"))
    chain.deployer.send(vaults, "open", stranger)
    chain.deployer.send(vaults, "open", proxy)
    urn = str(vaults.read("urns", 2))
    own = chain.deployer.deploy(chain.codes["OwnedProxy"], stranger)  # no factory has made it

    tally = asked_at_end(connection, chain, urn, own.address)

    by_vault = {"contract": VAULTS, "call": "owns(uint256)", "vault": 2}
    by_factory = {
        "contract": proxy, "call": "owner()", "made_by": PROXIES, "known_by": "isProxy(address)",
    }  # fmt: skip
    assert in_order(
        connection.execute(
            "SELECT venue, account, owner, method, proof, valid_to FROM liq.account_owners"
        )
    ) == in_order(
        [
            ("ethereum", urn, proxy, "maker_cdp", by_vault, None),
            ("ethereum", proxy, key, "ds_proxy", by_factory, None),
        ]
    )
    assert (tally.asked, tally.owned) == (2, {"maker_cdp": 1, "ds_proxy": 1})


def test_a_vault_that_is_given_away_has_another_owner_from_when_that_was_seen(
    chain: Accounts, connection: Connection
) -> None:
    first, second = chain.node.new_account(), chain.node.new_account()
    vaults = placed(chain, VAULTS, "Vaults")
    chain.deployer.send(vaults, "open", first)
    urn = str(vaults.read("urns", 1))
    asked_at_end(connection, chain, urn)
    chain.deployer.send(vaults, "give", 1, second)
    chain.node.mine(2 * EPOCH)
    ask(connection, chain.node.url, again=True)
    seen = datetime.fromtimestamp(chain.block("finalized").time, UTC)

    assert rows(
        connection,
        f"SELECT owner, valid_from = '{seen}', valid_to FROM liq.account_owners",
    ) == sorted([(first, False, seen), (second, True, None)], key=repr)


def test_the_holder_of_a_trove_is_asked_before_the_liquidation_burns_it(
    chain: Accounts, connection: Connection
) -> None:
    holder = chain.node.new_account()
    nfts = chain.deployer.deploy(chain.codes["Nfts"])
    troves = chain.deployer.deploy(chain.codes["Troves"], nfts.address)
    chain.deployer.send(nfts, "put", 5, holder)
    chain.deployer.send(nfts, "put", 5, NOBODY)
    trove, block = f"0x{5:064x}", chain.block()
    liquidated(connection, block, trove, venue=TROVES, market=troves.address)
    chain.node.mine(2 * EPOCH)

    tally = ask(connection, chain.node.url, [TROVES])

    proof = {"contract": nfts.address, "call": "ownerOf(uint256)"}
    burnt_after = datetime.fromtimestamp(chain.block(block.number - 1).time, UTC)
    assert connection.execute(
        "SELECT venue, account, owner, method, proof, first_block, valid_from"
        " FROM liq.account_owners"
    ).fetchall() == [
        (TROVES, trove, holder, "liquity_v2", proof, block.number - 1, burnt_after),
    ]
    assert tally.unreadable == {}


def test_eulers_connector_is_asked_where_no_liquidation_names_the_owner(
    chain: Accounts, connection: Connection
) -> None:
    connector = placed(chain, CONNECTOR, "Connector")
    mine, alien, told, nobody = (A[:-2] + "a3", B, C[:-1] + "1", "0x" + 40 * "d")
    chain.deployer.send(connector, "register", mine, A)
    chain.deployer.send(connector, "register", alien, A)
    block = chain.block()
    for account, owner in ((mine, None), (alien, None), (told, C), (nobody, None)):
        liquidated(connection, block, account, venue=EULER, owner=owner)
    chain.node.mine(2 * EPOCH)

    tally = ask(connection, chain.node.url, [EULER])

    by_log = {"liquidation": f"{EULER}/0x{block.number:064x}/{told[-6:]}/{told}"}
    by_call = {"contract": CONNECTOR, "call": "getAccountOwner(address)", "sub_account": 9}
    assert connection.execute(
        "SELECT venue, account, owner, method, proof FROM liq.account_owners ORDER BY account"
    ).fetchall() == [
        (EULER, mine, A, "euler_v2", by_call),
        (EULER, told, C, "liquidation", by_log),
    ]
    assert (tally.unreadable, tally.example) == (
        {"euler_v2: an owner with other first 19 bytes": 2},  # at both blocks
        {"euler_v2: an owner with other first 19 bytes": alien},
    )


# endpoints


class Old(FullNode):
    """Keeps no state but of blocks above a height."""

    def __init__(self, url: str, above: int) -> None:
        super().__init__(url)
        self.above = above

    def answer(self, body: bytes) -> Http:
        requests = msgspec.json.decode(body)
        listed = requests if isinstance(requests, list) else [requests]
        replies = self._passed_on(listed)
        for request, reply in zip(listed, replies, strict=True):
            state = request["method"] in ("eth_getCode", "eth_getStorageAt", "eth_call")
            if state and self._height(request["params"][-1]) <= self.above:
                reply.pop("result", None)
                reply["error"] = {"code": -32000, "message": "missing trie node 0ac9b8b9"}
        return Http(msgspec.json.encode(replies if isinstance(requests, list) else replies[0]))


def test_without_an_archive_the_account_is_what_it_is_now(
    chain: Accounts, connection: Connection
) -> None:
    account = chain.node.new_account()
    block = chain.block()
    liquidated(connection, block, account)
    chain.node.mine(2 * EPOCH + 1)

    with Old(chain.node.url, block.number) as node:
        tally = ask(connection, node.url)
        second = ask(connection, node.url)

    assert (tally.asked, tally.untold, tally.kinds) == (1, {account}, {"none": 1})
    (seen,) = rows(connection, "SELECT block_number FROM ledger.account_code")
    assert seen[0] > block.number
    assert second.asked == 0


def test_who_has_no_state_at_all_leaves_accounts_unasked(
    chain: Accounts, connection: Connection
) -> None:
    account = chain.node.new_account()
    liquidated(connection, chain.block(), account)
    chain.node.mine(2 * EPOCH + 1)

    with Old(chain.node.url, 10**9) as node:
        tally = ask(connection, node.url)

    assert (tally.asked, tally.untold, tally.kinds) == (1, {account}, {})
    assert rows(connection, "SELECT * FROM ledger.account_code") == []
    assert ask(connection, chain.node.url).kinds == {"none": 1}


class Untrue(FullNode):
    """Answers one method with what cannot be right."""

    def __init__(self, url: str, method: str, result: str | None) -> None:
        super().__init__(url)
        self.method, self.result = method, result

    def answer(self, body: bytes) -> Http:
        requests = msgspec.json.decode(body)
        listed = requests if isinstance(requests, list) else [requests]
        replies = self._passed_on(listed)
        for request, reply in zip(listed, replies, strict=True):
            if request["method"] == self.method:
                reply["result"] = self.result
        return Http(msgspec.json.encode(replies if isinstance(requests, list) else replies[0]))


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("eth_getCode", "0xzz"),
        ("eth_getCode", None),
        ("eth_getStorageAt", "0x" + 33 * "11"),
        ("eth_getStorageAt", "no word"),
    ],
)
def test_an_endpoint_that_answers_garbage_is_a_fault_and_nothing_is_stored(
    chain: Accounts, connection: Connection, method: str, result: str | None
) -> None:
    liquidated(connection, chain.block(), PROXIES)  # any contract
    chain.node.mine(2 * EPOCH)

    with (
        Untrue(chain.node.url, method, result) as node,
        closing(EvmSource(profile_of("ethereum"), [node.url], clock=FakeClock().clock)) as source,
        pytest.raises(SourceFault),
    ):
        fill(connection, source, DECODER, [AAVE])

    tables = ("ledger.account_code", "ledger.account_owner", "ledger.account_asked")
    assert [rows(connection, f"SELECT * FROM {table}") for table in tables] == [[], [], []]
    assert ask(connection, chain.node.url).kinds == {"contract": 1}


def test_blocks_that_are_not_final_are_left_for_later(
    chain: Accounts, connection: Connection
) -> None:
    chain.node.mine(2 * EPOCH)
    liquidated(connection, chain.block(), chain.node.new_account())

    early = ask(connection, chain.node.url)
    chain.node.mine(2 * EPOCH)

    assert (early.asked, ask(connection, chain.node.url).asked) == (0, 1)


# encoded answers


def told(asking: Generator[Sequence[Question], Sequence[CallResult], Any], known: Answers) -> Any:
    """What comes of a dialogue with a chain that answers so, and reverts else; there is no code
    and no storage but what is given."""

    def answer(questions: Sequence[Question]) -> list[CallResult]:
        return [
            known.get(one, CallResult(True, b"" if isinstance(one, CodeOf) else bytes(32)))
            if isinstance(one, CodeOf | SlotOf)
            else known.get(one, REVERTED)
            for one in questions
        ]

    return inquire({"it": asking}, answer)["it"]


def whose(method: str, held: Held, known: Answers) -> Any:
    """What a way makes of such answers."""
    way = WAYS[method]
    deployed = {"euler_v2": DECODER.spec_of(EULER).deployments}
    assert way.is_for(held)
    return told(way.ask(held, way.vouching(held.chain, deployed)), known)


CONTRACT = Code("contract", EMPTY, {})
SAFE = Code("safe", EMPTY, {})
# of each way: an account, the call that decides, its true answer, and the owner that is proved
CASES: dict[str, tuple[Held, Any, CallResult]] = {
    "ds_proxy": (
        Held("ethereum", B, code=CONTRACT), asked(B, "owner()"), says("address", A),
    ),
    "smart_margin": (
        Held("optimism", B, code=CONTRACT), asked(MARGIN, "getAccountOwner(address)", B),
        says("address", A),
    ),
    "sky_lockstake": (
        Held("ethereum", B, code=CONTRACT), asked(ENGINE, "urnOwners(address)", B),
        says("address", A),
    ),
    "maker_cdp": (
        Held("ethereum", "0xa84cd3f5f8d8ae0f2ab3ba6ba6ce5c1f6ef5ba43", code=CONTRACT),
        asked(VAULTS, "owns(uint256)", 1), says("address", A),
    ),
    "euler_v2": (
        Held("ethereum", A[:-2] + "a3", EULER), asked(CONNECTOR, "getAccountOwner(address)",
                                                      A[:-2] + "a3"), says("address", A),
    ),
    "liquity_v2": (
        Held("ethereum", f"0x{5:064x}", TROVES, C), asked(B, "ownerOf(uint256)", 5),
        says("address", A),
    ),
    "fluid": (
        Held("base", "77", "fluid.base"), asked(FLUID, "ownerOf(uint256)", 77), says("address", A),
    ),
    "synthetix_v3": (
        Held("base", "170141183460469231731687303715884105728", "synthetix_perps_v3.base"),
        asked(PERPS, "ownerOf(uint256)", 2**127), says("address", A),
    ),
    "synthetix_v3_core": (
        Held("ethereum", "170141183460469231731687303715884105728", "synthetix_v3_core.ethereum",
             C), asked(B, "ownerOf(uint256)", 2**127), says("address", A),
    ),
    "gearbox_v3": (
        Held("ethereum", B, "gearbox_v3.ethereum", C),
        asked(C, "getBorrowerOrRevert(address)", B), says("address", A),
    ),
}  # fmt: skip
URN = maker_cdp._made(bytes.fromhex(VAULTS[2:]), 1)
CASES["maker_cdp"] = (Held("ethereum", URN, code=CONTRACT), *CASES["maker_cdp"][1:])
AROUND: Answers = {
    asked(PROXIES, "isProxy(address)", B): says("bool", True),
    asked(VAULTS, "cdpi()"): says("uint256", 30_000),
    asked(VAULTS, "urns(uint256)", 1): says("address", URN),
    asked(C, "troveNFT()"): says("address", B),
    asked(C, "getAccountTokenAddress()"): says("address", B),
}
each_way = pytest.mark.parametrize("method", sorted(CASES))


def test_whoever_lost_a_perpetual_is_asked_about_as_its_row_names_it(
    connection: Connection,
) -> None:
    """A row of Synthetix v3, and its number to the contract of its NFT."""
    write_case(connection, "synthetix_perps_v3/window_of_a_long")

    (one,) = store.wanted(connection, "base", ["synthetix_perps_v3.base"], 1_000)

    account = str(2**127 + 19)
    assert (one.account, one.market, one.owners) == (account, "100:ETH", ())
    held = Held("base", one.account, one.venue, one.market)
    answers = {asked(PERPS, "ownerOf(uint256)", 2**127 + 19): says("address", A)}
    assert whose("synthetix_v3", held, answers).owner == A
    assert list(store.wanted(connection, "base", ["synthetix_perps_v3.base"], 999)) == []


@pytest.mark.parametrize(
    ("name", "venue", "account", "market", "decides"),
    [
        pytest.param(
            "gearbox_v3/part_of_an_account", "gearbox_v3.ethereum", CREDIT, MANAGER,
            asked(MANAGER, "getBorrowerOrRevert(address)", CREDIT), id="gearbox_v3",
        ),
        pytest.param(
            "synthetix_v3_core/position", "synthetix_v3_core.base", POSITION, CORE,
            asked(B, "ownerOf(uint256)", int(POSITION)), id="synthetix_v3_core",
        ),
    ],
)  # fmt: skip
def test_whoever_lost_a_loan_is_asked_about_where_its_row_says(
    connection: Connection, name: str, venue: str, account: str, market: str, decides: Any
) -> None:
    write_case(connection, name)
    protocol, _, chain = venue.partition(".")

    (one,) = store.wanted(connection, chain, [venue], 1_000)

    assert (one.account, one.market, one.owners) == (account, market, ())
    held = Held(chain, one.account, one.venue, one.market)
    answers = {asked(CORE, "getAccountTokenAddress()"): says("address", B),
               decides: says("address", A)}  # fmt: skip
    assert whose(protocol, held, answers).owner == A


def test_a_vault_that_is_liquidated_as_a_whole_has_no_owner(connection: Connection) -> None:
    write_case(connection, "synthetix_v3_core/whole_vault")
    (one,) = store.wanted(connection, "base", ["synthetix_v3_core.base"], 1_000)
    held = Held("base", one.account, one.venue, one.market)
    assert not WAYS["synthetix_v3_core"].is_for(held)


@each_way
def test_a_way_finds_the_owner_that_is_told(method: str) -> None:
    held, decides, truth = CASES[method]
    found = whose(method, held, {**AROUND, decides: truth})
    assert (found.owner, found.proof["contract"]) == (A, decides.to)


@each_way
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (REVERTED, NotOwned()),
        (NOTHING, NotOwned()),
        (says("address", NOBODY), NotOwned()),
        (says("uint256", 2**256 - 1), Unreadable("an owner that is no address")),
        (says("address address", A, A), Unreadable("an owner that is no address")),
        (CallResult(is_ok=True, data=b"\x01"), Unreadable("an owner that is no address")),
    ],
    ids=["reverts", "empty", "nobody", "no address", "two words", "a byte"],
)
def test_no_way_makes_an_owner_of_what_is_none(
    method: str, answer: CallResult, expected: NotOwned | Unreadable
) -> None:
    held, decides, _ = CASES[method]
    assert whose(method, held, {**AROUND, decides: answer}) == expected


def test_a_proxy_that_no_factory_knows_is_not_heard() -> None:
    held, decides, truth = CASES["ds_proxy"]
    made = asked(PROXIES, "isProxy(address)", B)
    for knows in (says("bool", False), REVERTED, NOTHING, says("uint256", 2)):
        assert whose("ds_proxy", held, {made: knows, decides: truth}) == NotOwned()


def test_a_vault_must_be_that_of_the_urn() -> None:
    held, decides, truth = CASES["maker_cdp"]
    other = {asked(VAULTS, "urns(uint256)", 1): says("address", B)}
    few = {asked(VAULTS, "cdpi()"): says("uint256", 0)}
    endless = {asked(VAULTS, "cdpi()"): says("uint256", 2**255)}
    found = [
        whose("maker_cdp", held, {**AROUND, decides: truth, **x}) for x in (other, few, endless)
    ]
    assert found == [
        Unreadable("a vault whose urn is another one"), NotOwned(),
        Unreadable("a number of vaults that cannot be"),
    ]  # fmt: skip


def test_the_addresses_of_urns_are_those_that_create_gives() -> None:
    """The first vaults of Maker, by the independent encoder of a library."""
    import rlp

    maker = bytes.fromhex(VAULTS[2:])
    expected = [
        "0x" + keccak(rlp.encode([maker, nonce]))[12:].hex() for nonce in (1, 127, 128, 300, 31_000)
    ]
    assert [maker_cdp._made(maker, nonce) for nonce in (1, 127, 128, 300, 31_000)] == expected


def test_a_safe_with_owners_that_cannot_be_is_unreadable() -> None:
    held = Held("ethereum", B, code=SAFE)
    owners, threshold = asked(B, "getOwners()"), asked(B, "getThreshold()")
    fine = {owners: says("address[]", [A, C]), threshold: says("uint256", 2)}
    unreadable = Unreadable("owners of a Safe that cannot be")

    assert whose("safe", held, fine) == Owned(
        None, {"contract": B, "owners": [A, C], "threshold": 2}
    )
    assert whose("safe", held, {**fine, threshold: says("uint256", 3)}) == unreadable
    assert whose("safe", held, {**fine, threshold: says("uint256", 0)}) == unreadable
    assert whose("safe", held, {**fine, owners: says("address[]", [])}) == unreadable
    assert whose("safe", held, {**fine, owners: says("address", A)}) == unreadable
    assert whose("safe", held, {**fine, owners: REVERTED}) == unreadable


def test_who_alone_signs_for_a_safe_owns_it() -> None:
    held = Held("ethereum", B, code=SAFE)
    known = {
        asked(B, "getOwners()"): says("address[]", [A]),
        asked(B, "getThreshold()"): says("uint256", 1),
    }
    assert whose("safe", held, known) == Owned(A, {"contract": B, "owners": [A], "threshold": 1})


def test_a_clone_names_what_it_runs() -> None:
    clone = bytes.fromhex(f"363d3d373d3d3d363d73{A[2:]}5af43d82803e903d91602b57fd5bf3")
    assert told(code_at(B), {CodeOf(B): CallResult(True, clone)}) == Code(
        "contract", hash_of(clone), {"implementation": A, "by": "eip1167"}
    )


def test_almost_a_delegation_is_a_contract() -> None:
    for code in ("ef0100" + A[2:-2], "ef0101" + A[2:], "ef0100" + A[2:] + "00"):
        found = told(code_at(B), {CodeOf(B): CallResult(True, bytes.fromhex(code))})
        assert found.kind == "contract"


KNOWN_SAFE: Answers = {
    CodeOf(B): CallResult(True, b"\x60\x01"),
    SlotOf(B, 0): says("address", "0x41675C099F32341bf84BFc5382aF534df5C7461a"),
    asked(B, "VERSION()"): says("string", "1.4.1"),
    asked(B, "getOwners()"): says("address[]", [A, C]),
    asked(B, "getThreshold()"): says("uint256", 1),
}


def test_a_safe_is_known_by_the_address_of_its_singleton() -> None:
    assert told(code_at(B), KNOWN_SAFE).evidence == {
        "safe": {
            "singleton": "0x41675c099f32341bf84bfc5382af534df5c7461a", "version": "1.4.1",
            "singleton_known_by": "address", "proxy_is_known": False,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (SlotOf(B, 0), says("address", A)),
        (SlotOf(B, 0), says("uint256", 2**255)),
        (asked(B, "VERSION()"), says("string", "1.3.0")),
        (asked(B, "VERSION()"), CallResult(True, b"\xff" * 96)),
        (asked(B, "VERSION()"), REVERTED),
        (asked(B, "getOwners()"), NOTHING),
        (asked(B, "getOwners()"), says("uint256 uint256", 32, 2**200)),
        (asked(B, "getThreshold()"), says("uint256", 3)),
        (asked(B, "getThreshold()"), says("uint256", 0)),
    ],
)
def test_one_answer_that_does_not_fit_makes_it_no_safe(
    question: Question, answer: CallResult
) -> None:
    assert told(code_at(B), {**KNOWN_SAFE, question: answer}).kind == "contract"


@given(st.lists(RESULTS, min_size=1), st.binary(min_size=1, max_size=60))
def test_a_hostile_contract_is_a_contract(results: list[CallResult], code: bytes) -> None:
    """Whatever it answers; its code and storage are the chain's own word."""
    at = iter(range(10**6))

    def answer(questions: Sequence[Question]) -> list[CallResult]:
        return [
            CallResult(True, code if one.address == B else b"") if isinstance(one, CodeOf)
            else CallResult(True, bytes(32)) if isinstance(one, SlotOf)
            else results[next(at) % len(results)] if one.to == B else NOTHING
            for one in questions
        ]  # fmt: skip

    assert inquire({"it": code_at(B)}, answer)["it"].kind == "contract"


@given(st.lists(RESULTS, min_size=1), st.sampled_from([*sorted(CASES), "safe"]))
def test_a_hostile_answer_ends_every_way_well(results: list[CallResult], method: str) -> None:
    held = CASES[method][0] if method in CASES else Held("ethereum", B, code=SAFE)
    at = iter(range(10**6))

    def answer(questions: Sequence[Question]) -> list[CallResult]:
        return [results[next(at) % len(results)] for _ in questions]

    way = WAYS[method]
    deployed = {"euler_v2": DECODER.spec_of(EULER).deployments}
    found = inquire({"it": way.ask(held, way.vouching(held.chain, deployed))}, answer)["it"]
    assert isinstance(found, Owned | NotOwned | Unreadable)


def test_every_way_is_tested_and_documented_and_its_vouchers_have_a_source() -> None:
    vouchers = [one for way in ways() for one in way.vouchers]
    assert len(vouchers) == 12
    assert [one for one in vouchers if len(one.address) != 42 or not one.source] == []
    assert sorted(WAYS) == sorted({*CASES, "safe"})
    page = (Path(__file__).parents[1] / "docs" / "labels.md").read_text("utf-8")
    assert [method for method in WAYS if f"`{method}`" not in page] == []


# what is kept


def at(number: int) -> BlockRef:
    """A block of one a day."""
    time = START + timedelta(days=number)
    return BlockRef("ethereum", number, f"0x{number:064x}", "", int(time.timestamp()))


NONE = Code("none", EMPTY, {})
DELEGATED = Code("eip7702", hash_of(b"x"), {"delegate": A})
BY_FACTORY = Owned(A, {"contract": B, "call": "owner()"})
CODES = ((1, NONE), (2, NONE), (3, DELEGATED), (4, DELEGATED), (5, DELEGATED), (6, NONE), (9, NONE))
OWNERS: tuple[tuple[int, Owned | NotOwned], ...] = (
    (1, BY_FACTORY), (2, BY_FACTORY), (4, BY_FACTORY), (6, NotOwned()), (7, NotOwned()),
)  # fmt: skip


def see(connection: Connection, *days: int) -> None:
    """Store what was seen of B on these days, one after the other."""
    for day in days:
        codes = [SeenCode(B, at(number), code) for number, code in CODES if number == day]
        owners = [
            SeenOwner(B, "ethereum", "ds_proxy", at(number), answer)
            for number, answer in OWNERS
            if number == day
        ]
        store.append(connection, "ethereum", [(B, AAVE)], at(day), codes, owners)


def standing(connection: Connection) -> Rows:
    """All labels."""
    labeler.apply(connection, labels.rules())
    return rows(
        connection,
        "SELECT venue, account, label, rule, confidence, evidence::text, valid_from, valid_to"
        " FROM liq.labels",
    )


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def test_labels_hold_from_one_observation_that_differs_to_the_next(connection: Connection) -> None:
    see(connection, 1, 2, 3, 4, 5, 6, 7, 9)

    assert [(row[2], row[3], row[4], row[6], row[7]) for row in standing(connection)] == [
        ("eip7702", "ROLE_7702", Decimal("0.95"), day(3), day(6)),
        ("sub_account", "SUB_ACCOUNT", Decimal(1), day(1), day(6)),
    ]
    assert rows(connection, "SELECT block_number FROM ledger.account_code") == [
        (1,), (2,), (3,), (5,), (6,), (9,),
    ]  # fmt: skip
    assert rows(connection, "SELECT block_number, owner FROM ledger.account_owner") == [
        (1, A), (4, A), (6, None), (7, None),
    ]  # fmt: skip


@pytest.mark.parametrize("order", [(9, 7, 6, 5, 4, 3, 2, 1), (4, 9, 1, 6, 3, 7, 5, 2)])
def test_the_order_of_observations_of_code_does_not_matter(
    connection: Connection, order: tuple[int, ...]
) -> None:
    see(connection, *order)
    found = [row for row in standing(connection) if row[3] == "ROLE_7702"]
    assert [(row[6], row[7]) for row in found] == [(day(3), day(6))]


def test_labels_after_some_observations_are_those_of_looking_at_all(
    connection: Connection,
) -> None:
    for number in (1, 3, 4, 6, 9):
        see(connection, number)
        step = standing(connection)
        labeler.apply(connection, labels.rules(), again=True)
        assert standing(connection) == step


def test_a_liquidation_that_names_an_owner_makes_a_sub_account_without_any_value(
    connection: Connection,
) -> None:
    standing(connection)  # so that the next run looks at what changed alone
    numbered = f"{A}:7"
    liquidated(connection, at(3), numbered, venue="dolomite.arbitrum", owner=A)
    liquidated(connection, at(4), A, venue=EULER, owner=A)  # an owner's own first account

    found = standing(connection)
    connection.execute("DELETE FROM ledger.lending_liquidation WHERE account = %s", (numbered,))

    proof = (
        f'{{"owners": [{{"owner": "{A}", "proof": {{"liquidation": "dolomite.arbitrum/0x{3:064x}/'
        f'{numbered[-6:]}/{numbered}"}}, "method": "liquidation", "block_number": 3}}]}}'
    )
    assert found == [
        ("dolomite.arbitrum", numbered, "sub_account", "SUB_ACCOUNT", Decimal(1), proof, day(3),
         None),
    ]  # fmt: skip
    assert standing(connection) == []


def test_kinds_are_no_opinions_so_that_a_vault_may_be_one(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO ledger.account_code VALUES (%s, 'ethereum', 1, %s, %s, 'contract', %s)",
        (NOBODY, day(1), EMPTY, Jsonb({})),
    )
    assert [row[1:4] for row in standing(connection)] == [(NOBODY, "contract", "ROLE_CONTRACT")]


def test_a_safe_is_less_sure_where_its_proxy_is_unknown(connection: Connection) -> None:
    known = {"singleton": A, "version": "1.4.1", "singleton_known_by": "code"}
    for number, is_known in ((1, True), (2, False)):
        evidence = {"safe": {**known, "proxy_is_known": is_known}}
        seen = SeenCode(B, at(number), Code("safe", EMPTY, evidence))
        store.append(connection, "ethereum", [], at(number), [seen], [])

    standing(connection)

    assert rows(
        connection, "SELECT rule, confidence, valid_from, valid_to FROM liq.labels"
    ) == in_order(
        [
            ("ROLE_CONTRACT", Decimal("0.95"), day(1), day(2)),
            ("ROLE_CONTRACT", Decimal("0.95"), day(2), None),
            ("ROLE_SAFE", Decimal("0.8"), day(2), None),
            ("ROLE_SAFE", Decimal("0.95"), day(1), day(2)),
        ]
    )


# the command


def test_the_command_says_what_it_found_and_asks_once(
    chain: Accounts, connection: Connection, quick_indexer: Command
) -> None:
    owner = chain.node.new_account()
    safe, _ = chain.safe("1.4.1", [owner], 1)
    liquidated(connection, chain.block(), safe.address)
    liquidated(connection, chain.block(), owner)
    chain.node.mine(2 * EPOCH)

    first, second, third = (
        quick_indexer("accounts", *words, RPC_ETHEREUM=chain.node.url)
        for words in (["ethereum"], ["ethereum"], ["aave_v3.ethereum", "--again"])
    )

    told = "ethereum: 2 accounts asked: 1 without code, 1 Safes; 1 owners proved (safe 1)\n"
    assert (first.returncode, first.stderr, first.stdout) == (0, "", told)
    assert (second.stdout, third.stdout) == (
        "ethereum: 0 accounts asked; 0 owners proved\n", told
    )  # fmt: skip
    assert standing(connection)[-1][2:5] == ("sub_account", "SUB_ACCOUNT", Decimal("0.6"))


def test_a_chain_that_nobody_answers_for_ends_the_command_with_1(
    connection: Connection, quick_indexer: Command
) -> None:
    url = "http://127.0.0.1:9/secret-key"
    done = quick_indexer("accounts", "ethereum", RPC_ETHEREUM=url)
    none = quick_indexer("accounts", "ethereum")
    odd = quick_indexer("accounts", "atlantis")

    assert (done.returncode, none.returncode, odd.returncode) == (1, 1, 2)
    assert "secret-key" not in done.stdout + done.stderr
    assert "RPC_ETHEREUM" in none.stderr
    assert "no venue or chain 'atlantis'" in odd.stderr
