"""Liquidation events of several protocols, encoded from the facts of their ABIs. Pure, seeded.

Topics are keccak of the signature; a word is 32 bytes, numbers and addresses are padded on the
left. `Script` collects what one transaction logs and what that must become in our tables.
"""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from eth_hash.auto import keccak

NOBODY = "0x" + "0" * 40
ASSETS, ACCOUNTS, LIQUIDATORS, MARKETS = 6, 12, 4, 8  # few, so that they meet again


def topic(signature: str) -> str:
    """The first topic of an event."""
    return "0x" + keccak(signature.encode()).hex()


def word(value: str | int | bool) -> str:
    """An address, hash, number or truth value as 64 digits."""
    digits = value[2:] if isinstance(value, str) else f"{int(value):x}"
    return digits.rjust(64, "0")


def address(*parts: object) -> str:
    """An address that follows from its name."""
    return "0x" + keccak(repr(parts).encode())[-20:].hex()


LIQUIDATION_CALL = topic(
    "LiquidationCall(address,address,address,uint256,uint256,address,bool)"
)  # aave/protocol-v2:contracts/interfaces/ILendingPool.sol
CREATE_MARKET = topic(
    "CreateMarket(bytes32,(address,address,address,address,uint256))"
)  # morpho-org/morpho-blue:src/libraries/EventsLib.sol
LIQUIDATE = topic(
    "Liquidate(bytes32,address,address,uint256,uint256,uint256,uint256,uint256)"
)  # the same file
ABSORB_DEBT = topic(
    "AbsorbDebt(address,address,uint256,uint256)"
)  # compound-finance/comet:contracts/CometMainInterface.sol
ABSORB_COLLATERAL = topic("AbsorbCollateral(address,address,address,uint256,uint256)")
TRANSFER = topic("Transfer(address,address,uint256)")  # ERC-20
# gmx-io/gmx-contracts:contracts/core/Vault.sol and PositionRouter.sol
LIQUIDATE_POSITION = topic(
    "LiquidatePosition(bytes32,address,address,address,bool,uint256,uint256,uint256,int256,uint256)"
)
DECREASE_POSITION = topic(
    "DecreasePosition(bytes32,address,address,address,uint256,uint256,bool,uint256,uint256)"
)
CLOSE_POSITION = topic("ClosePosition(bytes32,uint256,uint256,uint256,uint256,uint256,int256)")
EXECUTE_DECREASE = topic(
    "ExecuteDecreasePosition(address,address[],address,uint256,uint256,bool,address,uint256,"
    "uint256,uint256,uint256,uint256)"
)
LIQUIDATE_CALL = topic("liquidatePosition(address,address,address,bool,address)")[:10]


class Places(NamedTuple):
    """Who emits what, in lower case; `stranger` emits LiquidationCall and is nobody's pool."""

    aave_v2: str
    morpho_blue: str
    comet: str
    comet_base: str
    stranger: str
    vault: str


ETHEREUM = Places(
    aave_v2="0x7d2768de32b0b80b7a3454c06bdac94a69ddc7a9",  # bgd-labs/aave-address-book
    morpho_blue="0xbbbbbbbbbb9cc5e90e3b3af64bdaf62c37eeffcb",  # morpho-org/sdks
    comet="0xc3d688b66703497daa19211eedff47f25384cdc3",  # compound-finance/comet, mainnet/usdc
    comet_base="0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",  # USDC, its baseToken()
    stranger=address("stranger"),
    vault=address("vault"),  # made up: no vault of GMX's is on this chain
)


class Sent(NamedTuple):
    """Who sent a transaction, to whom, and what."""

    sender: str
    to: str
    input: str


ANYBODY = Sent("0x" + 40 * "1", "0x" + 40 * "2", "0x")


class Log(NamedTuple):
    """What a contract logged, before it has a place in a block."""

    address: str
    topics: tuple[str, ...]
    data: str


class Row(NamedTuple):
    """A row that must be in our tables. `part` counts the further collaterals of one debt, which
    repeat its log index; a leg that the event lacks is None on both sides. Of a perpetual `repaid`
    is its size at entry, in its quote times 10**30."""

    venue: str
    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    account: str
    liquidator: str | None
    market: str
    repaid_asset: str | None
    repaid_raw: int | None
    seized_asset: str | None
    seized_raw: int | None
    method: str
    part: int = 0


class Stranger(NamedTuple):
    """A log that must be quarantined."""

    tx_hash: str
    log_index: int
    block_number: int
    block_hash: str
    emitter: str
    topic0: str


class Market(NamedTuple):
    """The parameters of a Morpho market, which are also its name."""

    loan: str
    collateral: str
    oracle: str
    irm: str
    lltv: int

    @property
    def id(self) -> str:
        """keccak(abi.encode(marketParams)): morpho-org/morpho-blue:src/libraries/
        MarketParamsLib.sol"""
        return "0x" + keccak(bytes.fromhex("".join(map(word, self)))).hex()


class Meaning(NamedTuple):
    """A row that does not know its block yet; `at` is its log's place in the transaction."""

    at: int
    protocol: str
    account: str
    liquidator: str | None
    market: str
    repaid: tuple[str, int] | None
    seized: tuple[str, int] | None
    method: str = "repay_seize"
    part: int = 0


@dataclass
class Script:
    """What one transaction does: written by the functions below, in order."""

    rng: random.Random
    places: Places
    logs: list[Log] = field(default_factory=list)
    meanings: list[Meaning] = field(default_factory=list)
    strangers: list[int] = field(default_factory=list)
    creates: list[Market] = field(default_factory=list)
    needs: list[Market] = field(default_factory=list)
    sent: Sent = ANYBODY

    def log(self, emitter: str, topics: tuple[str, ...], *data: str | int | bool) -> int:
        """Append a log; its place is the answer."""
        padded = tuple("0x" + word(one) for one in topics)
        self.logs.append(Log(emitter, padded, "0x" + "".join(map(word, data))))
        return len(self.logs) - 1

    def one_of(self, what: str, count: int) -> str:
        """An address that comes again."""
        return address(what, self.rng.randrange(count))

    def amount(self) -> int:
        """Of any size: a token of 2 decimals, one of 18, none at all, the largest there is."""
        return self.rng.choice(
            (0, self.rng.randrange(1, 10**6), self.rng.randrange(1, 10**21), self.tokens())
            + (2**256 - 1,) * (self.rng.random() < 0.1)
        )

    def tokens(self) -> int:
        """An ordinary amount, never 0."""
        return self.rng.randrange(1, 10**12)


def transfer(script: Script) -> None:
    """Noise: tokens change hands."""
    sender, receiver = script.one_of("account", ACCOUNTS), script.one_of("account", ACCOUNTS)
    token = script.one_of("asset", ASSETS)
    script.log(token, (TRANSFER, sender, receiver), script.amount())


def _liquidation_call(script: Script, emitter: str) -> Meaning:
    collateral, debt = script.one_of("asset", ASSETS), script.one_of("asset", ASSETS)
    account, liquidator = script.one_of("account", ACCOUNTS), script.one_of("bot", LIQUIDATORS)
    repaid, seized = script.amount(), script.amount()
    topics = (LIQUIDATION_CALL, collateral, debt, account)
    at = script.log(emitter, topics, repaid, seized, liquidator, script.rng.random() < 0.5)
    return Meaning(
        at, "aave_v2", account, liquidator, emitter, (debt, repaid), (collateral, seized)
    )


def aave(script: Script) -> None:
    """LiquidationCall of the pool."""
    script.meanings.append(_liquidation_call(script, script.places.aave_v2))


def stranger(script: Script) -> None:
    """The same event from a contract that is no deployment."""
    script.strangers.append(_liquidation_call(script, script.places.stranger).at)


def create_market(script: Script, market: Market) -> None:
    """CreateMarket, without which nothing says which tokens a market has."""
    script.log(script.places.morpho_blue, (CREATE_MARKET, market.id), *market)
    script.creates.append(market)


def liquidate(script: Script, market: Market) -> None:
    """Liquidate of a market that exists by then."""
    account, liquidator = script.one_of("account", ACCOUNTS), script.one_of("bot", LIQUIDATORS)
    repaid, seized = script.amount(), script.amount()
    bad = script.rng.choice((0, script.tokens()))
    topics = (LIQUIDATE, market.id, liquidator, account)
    at = script.log(script.places.morpho_blue, topics, repaid, script.tokens(), seized, bad, bad)
    script.needs.append(market)
    script.meanings.append(
        Meaning(
            *(at, "morpho_blue", account, liquidator, market.id),
            *((market.loan, repaid), (market.collateral, seized)),
        )
    )


def morpho(script: Script, markets: Collection[Market]) -> None:
    """A liquidation; where its market is not among those that exist, or only, its creation."""
    market = script.rng.choice([*sorted(markets), _any_market(script.rng)])
    if market not in markets:
        create_market(script, market)
        if script.rng.random() < 0.5:
            return
    liquidate(script, market)


def _any_market(rng: random.Random) -> Market:
    """One of few, so that a market whose creation was orphaned is created again."""
    number = rng.randrange(MARKETS)
    loan, collateral = (address("asset", at % ASSETS) for at in (number, number + 1))
    return Market(loan, collateral, address("oracle", number), address("irm"), 86 * 10**16)


def absorb(script: Script) -> None:
    """One or two accounts in one call of Comet's `absorb`."""
    liquidator = script.one_of("bot", LIQUIDATORS)
    first = script.rng.randrange(ACCOUNTS)
    for account in (first, first + 1)[: script.rng.randint(1, 2)]:
        _absorbed(script, liquidator, address("account", account % ACCOUNTS))


def _absorbed(script: Script, liquidator: str, account: str) -> None:
    comet, base = script.places.comet, script.places.comet_base
    taken = list(_taken(script, liquidator, account))
    debt, refund = script.tokens(), script.rng.choice((0, script.tokens()))
    at = script.log(comet, (ABSORB_DEBT, liquidator, account), debt + refund, script.tokens())
    _refunded(script, account, refund)
    common = (at, "comet", account, liquidator, comet)
    for part, seized in enumerate(taken or [None]):
        repaid = (base, debt) if part == 0 else None
        script.meanings.append(Meaning(*common, repaid, seized, "absorb", part))


def _taken(script: Script, liquidator: str, account: str) -> Iterator[tuple[str, int]]:
    for number in range(script.rng.randint(0, 3)):
        asset, raw = address("asset", number), script.tokens()
        topics = (ABSORB_COLLATERAL, liquidator, account, asset)
        script.log(script.places.comet, topics, raw, script.tokens())
        yield asset, raw


def _refunded(script: Script, account: str, refund: int) -> None:
    """The mint right after the debt is its refund; a later one is somebody's deposit."""
    minted = (TRANSFER, NOBODY, account)
    if refund:
        script.log(script.places.comet, minted, refund)
    elif script.rng.random() < 0.5:
        transfer(script)
        script.log(script.places.comet, minted, script.tokens())


class Held(NamedTuple):
    """A position of a perpetual: its first four words are what names it."""

    account: str
    collateral: str
    token: str
    is_long: bool
    size: int

    @property
    def key(self) -> str:
        """Only that it is the same for the same position matters here."""
        return topic(repr(self[:4]))


def perpetual(script: Script) -> None:
    """A position is closed: for want of margin, above the highest leverage, or by its owner."""
    rng = script.rng
    held = Held(
        script.one_of("account", ACCOUNTS), script.one_of("asset", ASSETS),
        script.one_of("asset", ASSETS), rng.random() < 0.5, script.tokens() * 10**24,
    )  # fmt: skip
    keeper = script.one_of("bot", LIQUIDATORS)
    script.sent = Sent(keeper, address("manager"), LIQUIDATE_CALL + _words(*held[:4], keeper))
    match rng.choice(("margin", "leverage", "order", "owner")):
        case "margin":
            amounts = (held.size, script.tokens(), script.tokens(), 0, script.tokens())
            at = script.log(
                script.places.vault, (LIQUIDATE_POSITION,), held.key, *held[:4], *amounts
            )
            _liquidated(script, at, held, None)
        case "leverage":
            _liquidated(script, _decreased(script, held), held, keeper)
        case "order":
            _decreased(script, held)
            _ordered(script, held)
            script.sent = Sent(keeper, address("router"), "0x12345678")
        case _:
            _decreased(script, held)
            script.sent = Sent(held.account, address("router"), "0x87654321")


def _words(*values: str | int | bool) -> str:
    return "".join(map(word, values))


def _liquidated(script: Script, at: int, held: Held, liquidator: str | None) -> None:
    script.meanings.append(
        Meaning(
            *(at, "gmx_v1", held.account, liquidator, held.token),
            *(("usd", held.size), None, "market"),
        )
    )


def _decreased(script: Script, held: Held) -> int:
    vault, price = script.places.vault, script.tokens()
    at = script.log(
        vault, (DECREASE_POSITION,), held.key, *held[:3], 0, held.size, held.is_long, price, 0
    )
    script.log(vault, (CLOSE_POSITION,), held.key, held.size, 0, price, 0, 0, 0)
    return at


def _ordered(script: Script, held: Held) -> None:
    """The path of one token is behind the other ten words that are no topic."""
    script.log(
        *(address("router"), (EXECUTE_DECREASE, held.account)),
        *(11 * 32, held.token, 0, held.size, held.is_long, held.account, 1, 0, 0, 0, 0),
        *(1, held.collateral),
    )
