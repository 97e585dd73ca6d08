"""Which tokens are the same thing: a coin and its wrappers, bridged copies, staked claims and pegs.

The data stand in `families.json`, each address with the file that says it. An address is in one
family or in none; none is the answer for what no source of ours vouches for. What a relation
promises is how its price moves, so "ETH" is a choice of relations: `self`, `wrapped` and `bridged`
are one ETH each; a `staked` one earns, and becomes worth more ETH or, as stETH, more tokens.
"""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from indexer.errors import ConfigError

Relation = Literal[
    "self",  # the chain's own coin: NATIVE, or the contract that the chain keeps for it
    "wrapped",  # a claim on one unit of it, by contract or in custody: WETH, WBTC, cbBTC
    "bridged",  # a token of another chain carried over, itself worth one: WETH.e, USDC.e, WXDAI
    "staked",  # a claim that earns, wherever it was carried: wstETH, weETH, sUSDe, LBTC
    "pegged",  # aims at its price without a claim on it: USDC, DAI, USDe, frxETH
]

FILE = Path(__file__).with_suffix(".json")


class Kin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token's place in a family. `symbol` is what `source` calls it, to read by and not to trust;
    `source` is "owner/repo:path"."""

    chain: Annotated[str, msgspec.Meta(pattern="^[0-9a-z][0-9a-z-]*$")]
    address: Annotated[str, msgspec.Meta(pattern="^0x[0-9a-f]{40}$")]
    symbol: str
    family: Annotated[str, msgspec.Meta(pattern="^[A-Z]+$")]
    relation: Relation
    source: Annotated[str, msgspec.Meta(pattern="^[^/: ]+/[^/: ]+:[^ ]+$")]


@cache
def kin() -> tuple[Kin, ...]:
    """All that we know, as in the file."""
    return parse(FILE.read_bytes())


def coin(chain: str, address: str) -> str | None:
    """Of which family a token is, one for one; None where it is worth more, or of none."""
    return _coins().get((chain, address))


@cache
def _coins() -> dict[tuple[str, str], str]:
    one_each = ("self", "wrapped", "bridged")
    return {(k.chain, k.address): k.family for k in kin() if k.relation in one_each}


def parse(file: bytes) -> tuple[Kin, ...]:
    """A file of kin; ConfigError when it is not in the form or names a token twice."""
    try:
        found = msgspec.json.decode(file, type=tuple[Kin, ...])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not a list of kin: {error}") from None
    named = Counter((one.chain, one.address) for one in found)
    twice = sorted(f"{address} of {chain}" for (chain, address), n in named.items() if n > 1)
    if twice:
        raise ConfigError(f"named more than once: {', '.join(twice)}")
    return found
