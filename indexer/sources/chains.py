"""The chains: what each promises about finality, blooms, ranges and time, with where it is said.

A chain without a row of its own gets a profile that takes nothing on trust: see `profile_of`.
"""

import msgspec

from indexer.errors import ConfigError

MULTICALL3 = (
    "0xca11bde05977b3631167028862be2a173976ca11"  # mds1/multicall3, same address everywhere
)


class ChainProfile(msgspec.Struct, frozen=True, kw_only=True):
    """How to read a chain.

    `finality` is a block tag, or None where only `depth` counts; `depth` also serves endpoints
    without the tag. `bloom_is_complete` says whether a header's bloom holds every log of its block
    by the time the header is served, `has_ethereum_headers` that headers hash as Ethereum's do, old
    ones too. `first_width` blocks are asked for at first, never more than
    `most_width`. A block more than `future_seconds` ahead of our clock is refused (None: not
    looked at). Without `serves_old_state` calls at past heights are refused.
    """

    name: str
    chain_id: int
    source: str
    block_seconds: float
    finality: str | None = "finalized"
    depth: int = 256
    bloom_is_complete: bool = False
    has_ethereum_headers: bool = False
    first_width: int = 1_000
    most_width: int = 1_000_000
    future_seconds: float | None = 86_400
    serves_old_state: bool = True
    system_transactions: bool = False


_GETH = "ethereum/execution-apis: block tags; logsBloom in every header"
_OP = "specs.optimism.io: finalized is L1 finality; RSS3-Network/Global-Indexer#274"
_ARBITRUM = "OffchainLabs/arbitrum-docs#3478; ponder-sh/ponder finality.ts (240 blocks)"
_BOR = "0xPolygon/bor#1081, #868, #973 (deep reorgs), #432 (state-sync logs outside the bloom)"

CHAINS = (
    ChainProfile(
        name="ethereum", chain_id=1, block_seconds=12, depth=65, bloom_is_complete=True,
        has_ethereum_headers=True,
        source=f"{_GETH}; depth: ponder-sh/ponder finality.ts",
    ),
    ChainProfile(
        name="optimism", chain_id=10, block_seconds=2, depth=1_800, bloom_is_complete=True,
        has_ethereum_headers=True, source=_OP,
    ),
    ChainProfile(
        name="base", chain_id=8453, block_seconds=2, depth=1_800, bloom_is_complete=True,
        has_ethereum_headers=True, source=_OP,
    ),
    ChainProfile(
        name="unichain", chain_id=130, block_seconds=1, depth=3_600, bloom_is_complete=True,
        has_ethereum_headers=True, source=_OP,
    ),
    ChainProfile(
        name="arbitrum", chain_id=42161, block_seconds=0.25, depth=14_400, first_width=10_000,
        source=_ARBITRUM,
    ),
    ChainProfile(
        name="polygon", chain_id=137, block_seconds=2, depth=256, system_transactions=True,
        source=_BOR,
    ),
    ChainProfile(
        name="bsc", chain_id=56, block_seconds=0.75, depth=256, system_transactions=True,
        source="smartcontractkit/chainlink-evm: -32005 on public nodes for rate and for size",
    ),
    ChainProfile(
        name="avalanche", chain_id=43114, block_seconds=2, depth=64, most_width=2_048,
        source="subsquid/squid-sdk evm-rpc rpc.ts: `cannot query unfinalized data`",
    ),
    # its headers before the merge have AuRa's seal fields in the place of Ethereum's;
    # openethereum/openethereum:crates/ethcore/src/engines/authority_round/mod.rs
    ChainProfile(
        name="gnosis", chain_id=100, block_seconds=5, depth=128, bloom_is_complete=True,
        source=_GETH,
    ),
    ChainProfile(
        name="sonic", chain_id=146, block_seconds=0.5, finality=None, depth=256,
        source="ponder-sh/ponder#1657: the tag is not to be trusted",
    ),
    ChainProfile(
        name="berachain", chain_id=80094, block_seconds=2, finality=None, depth=256,
        source="smartcontractkit/ccip#1522: a reorg below the tag was seen",
    ),
    ChainProfile(
        name="monad", chain_id=143, block_seconds=0.4, depth=256,
        source="ponder-sh/ponder finality.ts: asynchronous execution, no bloom near the head",
    ),
    ChainProfile(
        name="zksync-era", chain_id=324, block_seconds=1, depth=10_000,
        source="matter-labs/zksync-era#236, #4580: batches revert, tags may be null, no bloom",
    ),
    ChainProfile(
        name="linea", chain_id=59144, block_seconds=2, depth=1_800, source=_GETH
    ),
    ChainProfile(
        name="scroll", chain_id=534352, block_seconds=3, depth=1_200, source=_GETH
    ),
    ChainProfile(
        name="hyperevm", chain_id=999, block_seconds=1, finality=None, depth=5, first_width=50,
        most_width=1_000, serves_old_state=False, system_transactions=True,
        source="hyperliquid.gitbook.io hyperevm/json-rpc: 50 blocks; hyperliquid-dex/node#141",
    ),
    ChainProfile(
        name="anvil", chain_id=31337, block_seconds=1, depth=64, bloom_is_complete=True,
        has_ethereum_headers=True, future_seconds=None,
        source="anvil 1.7.1: finalized = head - 2 epochs; time moves at will",
    ),
)  # fmt: skip
BY_NAME = {profile.name: profile for profile in CHAINS}


# ethereum-lists/chains; chains where a protocol of ours is deployed, without a row of their own
OTHER_IDS = {
    "0g": 16661, "abstract": 2741, "apechain": 33139, "arc": 5042, "bitlayer": 200901,
    "blast": 81457, "bob": 60808, "bsquared": 223, "camp": 123420001114, "canto": 7700,
    "celo": 42220, "core": 1116, "corn": 21000000, "cronos": 25, "duckchain": 5545, "eden": 714,
    "etherlink": 42793, "fantom": 250, "flare": 14, "flow-evm": 747, "fraxtal": 252, "fuse": 122,
    "gensyn": 685689, "harmony": 1666600000, "hedera": 295, "hemi": 43111, "ink": 57073,
    "iota-evm": 8822, "iotex": 4689, "kaia": 8217, "katana": 747474, "kava": 2222, "lisk": 1135,
    "manta": 169, "mantle": 5000, "megaeth": 4326, "merlin": 4200, "meter": 82, "metis": 1088,
    "mezo": 31612, "mode": 34443, "moonbeam": 1284, "moonriver": 1285, "morph": 2818,
    "neon": 245022934, "opbnb": 204, "pharos": 1672, "plasma": 9745, "plume": 98866,
    "pulsechain": 369, "ronin": 2020, "rootstock": 30, "sei": 1329, "shimmer-evm": 148,
    "somnia": 5031, "soneium": 1868, "stable": 988, "story": 1514, "swell": 1923, "tac": 239,
    "taiko": 167000, "telos": 40, "tempo": 4217, "worldchain": 480, "xdc": 50, "xlayer": 196,
    "zetachain": 7000, "zircuit": 48900, "zklink-nova": 810180,
}  # fmt: skip


def profile_of(name: str) -> ChainProfile:
    """The row of a chain, or one that takes nothing on trust; ConfigError without a chain id."""
    known = BY_NAME.get(name)
    if known is not None:
        return known
    if name not in OTHER_IDS:
        raise ConfigError(
            f"no chain {name!r}; there are {', '.join(sorted({*BY_NAME, *OTHER_IDS}))}"
        )
    return ChainProfile(
        name=name, chain_id=OTHER_IDS[name], block_seconds=2, source="own rule: no trust"
    )


def name_of(chain_id: int) -> str | None:
    """What we call the chain with this id, if anything."""
    names = {profile.chain_id: profile.name for profile in CHAINS}
    return names.get(chain_id) or {other: name for name, other in OTHER_IDS.items()}.get(chain_id)


def stranger(name: str, chain_id: int) -> ChainProfile:
    """A chain of any id under a name that the user gives it, as a fork on his own machine: nothing
    of it is taken on trust, its clock neither."""
    return ChainProfile(
        name=name, chain_id=chain_id, block_seconds=2, future_seconds=None,
        source="own rule: no trust",
    )  # fmt: skip
