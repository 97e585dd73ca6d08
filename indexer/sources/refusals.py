"""How nodes and providers word a refusal: the one place that reads their texts. Pure.

Gathered by the study behind this project from ponder-sh/ponder (getLogsRetryHelper.ts),
smartcontractkit/chainlink-evm (pkg/client/errors.go), erpc/erpc (error_normalizer.go, util.go),
joshstevens19/rindexer (fetch_logs.rs), enviodev/hyperindex (classify.rs), subsquid/squid-sdk and
graphprotocol/graph-node. A text that no row knows is `other`, and never means "no data".
"""

import re
from typing import Literal, NamedTuple

READ_CHARACTERS = 5_000  # of a message; some providers quote the whole request back

Kind = Literal[
    "too_wide",  # more blocks than this endpoint ever serves at once
    "too_many",  # more logs, bytes or seconds than it serves at once
    "terms",  # more addresses or topics than it takes
    "batch",  # more calls in one request than it takes
    "pruned",  # it has thrown these blocks away
    "missing",  # it does not have this block (yet)
    "unsupported",  # it does not serve this method
    "quota",  # an operator must pay or wait for the next month
    "key",  # an operator must mend the key
    "rate",  # later, please
    "rate_or_size",  # code -32005 alone is used for both
    "gas",  # a call ran out of gas
    "reverted",  # the contract said no: an answer
    "other",
]


class Refusal(NamedTuple):
    """What an error says. `blocks` is a width it would accept, `first` and `last` a range of
    blocks, `logs` the most that it gives in one answer."""

    kind: Kind
    text: str = ""
    blocks: tuple[int, ...] = ()
    first: int | None = None
    last: int | None = None
    logs: int | None = None

    def width(self, block_from: int, block_to: int) -> int:
        """How many blocks to ask for after `block_from` to `block_to` was refused: the hint where
        it lies inside the request and is narrower, else half. At least 1."""
        refused = block_to - block_from
        first, last = self.first, self.last
        if first is not None and last is not None and block_from <= first <= last < block_to:
            hinted = last - first + 1
            if hinted < refused:
                return hinted
        for blocks in self.blocks:
            if 0 < blocks < refused:
                return blocks
            if blocks == refused > 1:  # some count the distance, some the blocks
                return blocks - 1
        return max(refused // 2, 1)


class Wording(NamedTuple):
    """A pattern over lower-case text. Named groups: blocks, thousands, first, last, logs.

    `usual` are widths that these providers are known to accept although they do not say so."""

    kind: Kind
    who: str
    pattern: str
    usual: tuple[int, ...] = ()


_N = r"(?P<blocks>\d[\d,_]*)"
_LOGS = r"(?P<logs>\d[\d,_]*)"
_RANGE = r"\[?(?P<first>0x[0-9a-f]+|\d+)\s*[,-]\s*(?P<last>0x[0-9a-f]+|\d+)"

# The first row that matches wins: exact ranges, widths, sizes; then what ends an endpoint.
WORDINGS = (
    Wording("too_many", "Alchemy", rf"this block range should work: {_RANGE}"),
    Wording(
        "too_many",
        "Infura, zkSync Era, Tenderly, thirdweb",
        rf"(?:more than {_LOGS} results.*)?try with this block range {_RANGE}",
    ),
    Wording(
        "too_many",
        "reth, dRPC, BlastAPI, LlamaNodes",
        rf"(?:max results {_LOGS}.*)?retry with the range {_RANGE}",
    ),
    Wording("too_wide", "Alchemy free tier, Aurora", rf"up to an? {_N} block range"),
    Wording("too_wide", "thirdweb", rf"number of requested blocks is {_N}"),
    Wording(
        "too_wide", "QuickNode, 1RPC, BlastAPI, BlockPI", rf"limited to an? {_N} (?:blocks? )?range"
    ),
    Wording("too_wide", "BlockPI", rf"limited to {_N} (?:blocks? )?range"),
    Wording("too_wide", "Ankr (TAC)", rf"blocks distance: {_N}"),
    Wording("too_wide", "reth, HyperEVM", rf"exceeds max block range {_N}"),
    Wording("too_wide", "dRPC, Avalanche", rf"requested too many blocks.*maximum is set to {_N}"),
    Wording("too_wide", "dRPC free", rf"ranges over {_N} blocks are not supported"),
    Wording("too_wide", "Cloudflare", rf"max range: {_N}"),
    Wording("too_wide", "Coinbase", rf"limit the query to at most {_N} blocks"),
    Wording(
        "too_wide",
        "PublicNode, geth, BSC, Tron",
        rf"exceeds? (?:max|maximum) block range:? {_N}",
    ),
    Wording("too_wide", "Sei", rf"maximum allowed is {_N} blocks"),
    Wording("too_wide", "Somnia", rf"block range exceeds {_N}"),
    Wording("too_wide", "Swell", rf"block range greater than {_N}"),
    Wording("too_wide", "Merkle", rf"range is too large, max is {_N}(?P<thousands>k?) blocks"),
    Wording("too_wide", "Harmony", rf"query must be smaller than size {_N}"),
    Wording("too_wide", "Moonriver", rf"block range is too wide \(maximum {_N}\)"),
    Wording("too_wide", "SimplyVC", rf"too wide blocks range, the limit is {_N}"),
    Wording("too_wide", "Ankr", r"block range is too wide", usual=(3_000,)),
    Wording("too_wide", "Chainstack", r"block range limit exceeded", usual=(10_000, 100)),
    Wording("too_wide", "Besu", r"exceeds maximum rpc range limit", usual=(5_000,)),
    Wording("too_wide", "Base public", r"block range too large", usual=(2_000,)),
    Wording(
        "too_wide",
        "Optimism, Arc, altitude, BlastAPI",
        r"range is too large|range too large|range threshold exceeded"
        r"|exceeds the range allowed for your plan",
    ),
    Wording("too_many", "Polygon zkEVM", rf"returned more than {_LOGS} results"),
    Wording("too_many", "Ankr, LlamaNodes, altitude", rf"exceeds max results {_LOGS}"),
    Wording("too_many", "Arbitrum", rf"logs matched by query exceeds limit of {_LOGS}"),
    Wording("too_many", "Nethermind", rf"too many logs requested.*per response is {_LOGS}"),
    Wording("too_many", "HyperRPC (Envio)", rf"more than {_LOGS} logs returned"),
    Wording(
        "too_many",
        "1RPC, reth, Base, Optimism, Alchemy, Erigon",
        r"response size|response (?:is )?too (?:big|large)|query exceeds limit",
    ),
    Wording(
        "too_many",
        "Linkpool, Block Daemon, Chainstack",
        r"request timed out|query timeout|query timed out",
    ),
    Wording(
        "terms",
        "geth, eRPC's list",
        r"max addresses or topics|specify less number of address"
        r"|this query contains \d+ filters|too many (?:addresses|topics)",
    ),
    Wording(
        "batch",
        "eRPC's list",
        r"batch (?:is )?too large|batch (?:size|limit)|too many (?:requests|calls) in (?:a |the )?"
        r"batch|validation errors in batch|batch (?:requests|calls) (?:are )?not",
    ),
    Wording(
        "pruned",
        "geth (4444), Erigon, reth",
        r"pruned history|due to pruning|has been pruned|data before txnum",
    ),
    Wording(
        "missing",
        "eRPC's, Chainlink's and Squid's lists",
        r"missing trie node|header not found|could not find block|unknown block"
        r"|height must be less than or equal|invalid blockhash finalized"
        r"|expect block number from id|block not found|block height passed is invalid"
        r"|cannot query unfinalized|height is not available|state .*is not available"
        r"|genesis is not traceable"
        r"|could not find finalizeblock|no historical rpc|cannot be found|transaction not found"
        r"|cannot find transaction|after last accepted block|no state available|trie does not"
        r"|greater than latest|not currently canonical|requested data is not available"
        r"|beyond current head block",
    ),
    Wording(
        "missing",
        "HyperEVM, dRPC, Arc, anvil",
        r"invalid block (?:range|height)|code=40000|block not yet imported"
        r"|blockoutofrange|block height is \d+ but requested",
    ),
    Wording(
        "quota",
        "Alchemy, dRPC and others",
        r"monthly (?:capacity|quota)|reached the free tier|/billing|payment required",
    ),
    Wording("key", "any", r"invalid (?:api|access) ?key|key is inactive|must be authenticated"),
    Wording(
        "unsupported",
        "any",
        r"method .*not (?:found|available|supported|whitelisted|exist)|does not exist/is not ava"
        r"|not included in your current plan|not a supported commitment"
        r"|(?:tag|finalized block|method) (?:is )?not (?:found|supported)|unsupported method",
    ),
    Wording("gas", "any", r"out of gas|gas required exceeds"),
    Wording("reverted", "any", r"execution reverted|^reverted|: revert|vm execution error"),
    Wording(
        "rate",
        "any",
        r"rate.?limit|too many requests|has exceeded|request limit|requests per second"
        r"|throughput|compute units",
    ),
)
_COMPILED = tuple((wording, re.compile(wording.pattern, re.DOTALL)) for wording in WORDINGS)

# What a code alone says. -32601: JSON-RPC 2.0; the others: eRPC's error_normalizer.go, quicknode.go
CODES: dict[int, Kind] = {
    3: "reverted",  # geth
    429: "rate",
    4444: "pruned",  # ethereum/execution-apis#636
    -32001: "unsupported",
    -32004: "unsupported",
    -32005: "rate_or_size",
    -32007: "rate",
    -32009: "rate",
    -32012: "too_wide",  # Arc
    -32014: "missing",  # Arc
    -32015: "reverted",  # Parity, Nethermind
    -32020: "too_wide",  # Base public
    -32029: "rate",
    -32601: "unsupported",
    -32614: "too_wide",  # QuickNode
}


def read(code: object, message: str, data: str = "") -> Refusal:
    """What kind of no this is: by its wording, else by its code."""
    text = f"{message} {data}"[:READ_CHARACTERS].lower()
    for wording, pattern in _COMPILED:
        if found := pattern.search(text):
            return _refusal(wording, found, message)
    return Refusal(CODES.get(code, "other") if isinstance(code, int) else "other", message)


def _refusal(wording: Wording, found: re.Match[str], message: str) -> Refusal:
    said = found.groupdict()
    scale = 1_000 if said.get("thousands") else 1
    blocks = _number(said.get("blocks"))
    return Refusal(
        wording.kind,
        message,
        blocks=wording.usual if blocks is None else (blocks * scale,),
        first=_number(said.get("first")),
        last=_number(said.get("last")),
        logs=_number(said.get("logs")),
    )


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    return int(text, 16) if text.startswith("0x") else int(re.sub("[,_]", "", text))
