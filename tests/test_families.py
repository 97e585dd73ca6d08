"""Which tokens are kin: the data, what is refused, and the table that follows the data."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import msgspec
import pytest

from indexer import families
from indexer.errors import ConfigError
from indexer.evm_model import NATIVE
from indexer.families import Kin
from indexer.sources.chains import profile_of
from indexer.store import kin
from indexer.store.database import Connection
from indexer.venues.evm import specs

AAVE = "bgd-labs/aave-address-book:src/AaveV3Ethereum.sol"
WETH = Kin(
    "ethereum", "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "WETH", "ETH", "wrapped", AAVE
)  # fmt: skip
WSTETH = Kin(
    "ethereum", "0x7f39c581f595b53c5cb19bd0b3f8da6c935e2ca0", "wstETH", "ETH", "staked", AAVE
)  # fmt: skip
USDC = Kin(
    "ethereum", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "USDC", "USD", "pegged", AAVE
)  # fmt: skip
ETHER = Kin(
    "ethereum", NATIVE, "ETH", "ETH", "self", "ethereum-lists/chains:_data/chains/eip155-1.json"
)  # fmt: skip
EACH_CHAIN = [
    *("ethereum", "arbitrum", "base", "optimism", "polygon", "avalanche", "bsc", "gnosis"),
    *("linea", "scroll", "hyperevm"),
]


def file_of(*changed: dict[str, object]) -> bytes:
    """A file of WETH's row, once for each set of changes."""
    return json.dumps([{**msgspec.structs.asdict(WETH), **change} for change in changed]).encode()


def stored(connection: Connection) -> set[tuple[object, ...]]:
    return set(
        connection.execute("SELECT chain, address, family, relation, source FROM ledger.asset_kin")
    )


def as_rows(*them: Kin) -> set[tuple[object, ...]]:
    return {(one.chain, one.address, one.family, one.relation, one.source) for one in them}


@pytest.mark.parametrize("one", [WETH, WSTETH, USDC, ETHER], ids=lambda one: one.symbol)
def test_well_known_tokens_of_ethereum(one: Kin) -> None:
    found = [kin for kin in families.kin() if (kin.chain, kin.address) == ("ethereum", one.address)]

    assert found == [one]


def test_the_chains_are_those_that_we_read() -> None:
    ours = {deployment.chain for spec in specs() for deployment in spec.deployments}
    named = {one.chain for one in families.kin()}
    assert named <= ours
    assert {profile_of(name).name for name in named} == named


@pytest.mark.parametrize("family", ["ETH", "BTC", "USD"])
def test_each_large_chain_has_tokens_of_each_large_family(family: str) -> None:
    with_some = {one.chain for one in families.kin() if one.family == family}
    assert set(EACH_CHAIN) <= with_some


def test_a_chain_has_at_most_one_coin() -> None:
    coins = [one.chain for one in families.kin() if one.relation == "self"]
    assert len(coins) == len(set(coins))


def test_a_file_is_read_as_it_stands() -> None:
    assert families.parse(file_of({}, {"chain": "base"})) == (
        WETH,
        msgspec.structs.replace(WETH, chain="base"),
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"relation": "cousin"}, "Invalid enum value 'cousin'"),
        ({"address": "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"}, "matching regex"),
        ({"address": "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756c"}, "matching regex"),
        ({"source": "somebody told me"}, "matching regex"),
        ({"family": ""}, "matching regex"),
        ({"decimals": 18}, "unknown field `decimals`"),
    ],
    ids=str,
)
def test_a_row_in_another_form_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        families.parse(file_of(change))


def test_a_token_has_one_family() -> None:
    with pytest.raises(ConfigError, match=f"^named more than once: {WETH.address} of ethereum$"):
        families.parse(file_of({}, {"family": "BTC"}))


def test_the_first_command_fills_the_table(
    quick_indexer: Callable[..., CompletedProcess[str]], connection: Connection
) -> None:
    assert stored(connection) == set()
    assert quick_indexer("status").returncode == 0
    assert stored(connection) == as_rows(*families.kin())


def test_the_table_follows_the_data(connection: Connection) -> None:
    moved = msgspec.structs.replace(WETH, relation="bridged", source="a/b:c")
    kin.keep(connection, [WETH, USDC])
    assert stored(connection) == as_rows(WETH, USDC)
    kin.keep(connection, [moved, WSTETH])
    assert stored(connection) == as_rows(moved, WSTETH)


def test_an_equal_table_is_kept_without_the_right_to_write(connection: Connection) -> None:
    kin.keep(connection, [WETH])
    connection.execute("SET default_transaction_read_only = on")
    kin.keep(connection, iter([WETH]))
    assert stored(connection) == as_rows(WETH)


def test_a_token_that_is_one_for_one_bears_the_name_of_its_family() -> None:
    weth, wsteth = (
        "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "0x7f39c581f595b53c5cb19bd0b3f8da6c935e2ca0",
    )  # fmt: skip
    assert [families.coin("ethereum", one) for one in (weth, wsteth, "0x")] == ["ETH", None, None]
    assert families.coin("base", weth) is None
