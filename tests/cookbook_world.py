"""What the questions of docs/cookbook.md are asked of: the bundled recording of the exchange, and
loans of two simulated chains on the same evening.

The loans are drawn, logged in blocks of a model chain, served by a node and read from it, one reorg
among it; what they were worth is known before anybody asks. SIMULATED: the contracts of protocols
and tokens are the real ones; accounts, amounts, prices and blocks are made up.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

from indexer import resources
from indexer.chain import redecode
from indexer.chain.follow import Follower
from indexer.evm_model import NOBODY, CallResult, EthCall
from indexer.sources.chains import BY_NAME
from indexer.sources.evm import EvmSource
from indexer.store import database
from tests.campaign import catch_up
from tests.chain_model import events
from tests.chain_model.chain import Block, Config, ModelChain, Transaction
from tests.chain_model.events import Market, Script, address, topic
from tests.chain_model.node import Calls, Node, comet_of
from tests.chain_model.serve import RpcError
from tests.evm_logs import DECODER
from tests.exchange_stub import RECORDED_SHORT, Exchange, Json, state
from tests.fake_chain import asked, says
from tests.simulator import RECORDING, Truth, simulate

STARTED = datetime(2025, 10, 27, 22, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
BLOCKS = 150  # one a minute
FIRST = Config().first_block
UNREAD = range(60, 75)  # blocks of ethereum that nobody asks for
REPLACED = 3  # the last so many blocks are replaced
GONE = BLOCKS - REPLACED + 1  # the first of them, whose loans are in none of the others
VENUES = ("aave_v2.ethereum", "comet.ethereum", "morpho_blue.ethereum")


@dataclass(frozen=True)
class Token:
    """A token of a chain, and dollars for one whole of it, all evening."""

    address: str
    symbol: str
    decimals: int
    usd: Decimal

    def worth(self, raw: int) -> Decimal:
        """Dollars."""
        return self.usd * raw / 10**self.decimals

    def raw(self, usd: Decimal) -> int:
        """Base units for so many dollars, cut."""
        return int(usd / self.usd * 10**self.decimals)


@dataclass(frozen=True)
class Loan:
    """What one liquidation of a loan is, whatever is said of it later."""

    venue: str
    minute: int
    account: str
    liquidator: str
    debt: Token
    repaid_raw: int
    collateral: Token
    seized_raw: int
    bad_debt_raw: int = 0

    @property
    def at(self) -> datetime:
        """Time of the block."""
        return STARTED + self.minute * MINUTE

    @property
    def is_priced(self) -> bool:
        """Whether an oracle tells: those of Morpho's markets are silent here."""
        return not self.venue.startswith("morpho")

    @property
    def repaid(self) -> Decimal:
        """Dollars of debt."""
        return self.debt.worth(self.repaid_raw)

    @property
    def seized(self) -> Decimal:
        """Dollars of collateral."""
        return self.collateral.worth(self.seized_raw)

    @property
    def bad_debt(self) -> Decimal:
        """Dollars of debt that was written off."""
        return self.debt.worth(self.bad_debt_raw)

    @property
    def fee_raw(self) -> int | None:
        """Collateral that the protocol took, on top of what was seized; None: nobody tells."""
        return {"aave_v3.base": self.seized_raw // 400, "aave_v2.ethereum": 0}.get(self.venue)

    @property
    def is_kept(self) -> bool:
        """Whether it was read, and its block not replaced."""
        is_ethereum = self.venue.endswith(".ethereum")
        return not is_ethereum or (self.minute not in UNREAD and self.minute != GONE)


# indexer/families.json has the addresses, and where they are from
USDC = Token("0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48", "USDC", 6, Decimal("0.9998"))
DAI = Token("0x6b175474e89094c44da98b954eedeac495271d0f", "DAI", 18, Decimal("1.0001"))
WETH = Token("0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2", "WETH", 18, Decimal("4105.25"))
WBTC = Token("0x2260fac5e5542a773aa44fbcfedf7c193bc2c599", "WBTC", 8, Decimal("114210.5"))
BASE_USDC = Token("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USDC", 6, Decimal("0.9997"))
BASE_WETH = Token("0x4200000000000000000000000000000000000006", "WETH", 18, Decimal("4104.75"))
TOKENS = {"ethereum": (USDC, DAI, WETH, WBTC), "base": (BASE_USDC, BASE_WETH)}
FILE_USD = {USDC: Decimal("0.9996"), WETH: Decimal("4101.5")}  # what a file of prices says of them

POOLS = {"ethereum": "aave_v2.ethereum", "base": "aave_v3.base"}
PLACES = {
    "ethereum": events.ETHEREUM,
    "base": events.ETHEREUM._replace(  # Aave v3 kept the event of v2
        aave_v2="0xa238dd80c259a72e81d7e4664a9801593f98d1c5",  # bgd-labs/aave-address-book
        comet=address("no comet"),
    ),
}
MARKET = Market(USDC.address, WETH.address, address("oracle"), address("irm"), 86 * 10**16)
UNKNOWN = MARKET._replace(oracle=address("another oracle"))  # nobody saw it being made
DEFICIT = topic("DeficitCreated(address,address,uint256)")
# aave-dao/aave-v3-origin:src/contracts/interfaces/IPool.sol

PRICES = "chain,asset,time,usd\n" + "".join(
    f"ethereum,{token.address},{STARTED:%FT%TZ},{usd}\n" for token, usd in FILE_USD.items()
)
INTEREST_OF = {"BTC": Decimal(30000), "ETH": Decimal(610000), "HYPE": Decimal(21000000)}
INTEREST = "time,coin,open_interest\n" + "".join(
    f"{STARTED + minute * MINUTE:%FT%TZ},{coin},{size + minute}\n"
    for minute in range(0, 120, 10) for coin, size in INTEREST_OF.items()
)  # fmt: skip

BOTS = [address("bot", number) for number in range(3)]
BORROWERS = [address("borrower", number) for number in range(9)]


@cache
def truth() -> Truth:
    """What happened on the exchange."""
    return simulate(RECORDING).truth


@cache
def whale() -> str:
    """The account that has the most episodes on the exchange; it has a loan as well."""
    accounts = [group.key[0] for group in truth().episodes if group.notional >= 1_000_000]
    return max(accounts, key=accounts.count)


def held() -> dict[str, list[Json]]:
    """What two whales hold on the exchange now: the first is near the edge."""
    largest = max(truth().episodes, key=lambda group: group.notional).key[0]
    return {
        whale(): [
            _position("BTC", "21.5", "111500", "2330000", "107950", "-67250"),
            _position("SOL", "-900", "201.5", "180900", "265", "450"),
        ],
        largest: [_position("ETH", "1250", "4010", "4987500", None, "-25000")],
    }


def _position(
    coin: str, size: str, entry: str, value: str, liquidation: str | None, profit: str
) -> Json:
    return {
        **RECORDED_SHORT, "coin": coin, "szi": size, "entryPx": entry, "positionValue": value,
        "liquidationPx": liquidation, "unrealizedPnl": profit,
    }  # fmt: skip


def names() -> str:
    """A label set that somebody else made."""
    lines = (
        f"{whale()},fund,Seven Seas,hyperliquid",
        f"{BOTS[0]},bot,Alpha,ethereum",
        f"{BORROWERS[0]},alias,Bob,ethereum",
    )
    return "\n".join(["account,label,name,chain", *lines]) + "\n"


@cache
def loans() -> tuple[Loan, ...]:
    """All that happens on both chains, by time; each protocol has its own ways."""
    rng = random.Random(20251027)
    drawn = [
        *(_drawn(rng, "aave_v2.ethereum", (USDC, DAI), (WETH, WBTC)) for _ in range(44)),
        *(_drawn(rng, "comet.ethereum", (USDC,), (WETH,)) for _ in range(9)),
        *(_drawn(rng, "morpho_blue.ethereum", (USDC,), (WETH,)) for _ in range(6)),
        *(_drawn(rng, "aave_v3.base", (BASE_USDC,), (BASE_WETH,)) for _ in range(21)),
    ]
    special = [
        _loan("aave_v2.ethereum", 96, whale(), BOTS[0], USDC, "1250000", WETH, "1312500"),
        _loan("aave_v2.ethereum", 101, BORROWERS[3], BOTS[1], DAI, "48000", WBTC, "31000"),
        _loan("aave_v2.ethereum", 118, BOTS[2], BOTS[2], USDC, "9000", WETH, "9450"),  # itself
        _loan("aave_v2.ethereum", GONE, BORROWERS[1], BOTS[2], USDC, "310000", WETH, "325500"),
        _loan("aave_v2.ethereum", GONE + 1, BORROWERS[8], BOTS[2], USDC, "27500", WETH, "28875"),
        _loan("comet.ethereum", GONE, BORROWERS[2], BOTS[0], USDC, "15000", WETH, "16400"),
        _loan("aave_v3.base", 98, BORROWERS[4], BOTS[0], BASE_USDC, "64000", BASE_WETH, "67200",
              "5321.25"),
        _loan("aave_v3.base", 99, BORROWERS[5], BOTS[0], BASE_USDC, "905", BASE_WETH, "950.25",
              "112.5"),
        _loan("morpho_blue.ethereum", 99, BORROWERS[6], BOTS[1], USDC, "20000", WETH, "20700",
              "1804"),
    ]  # fmt: skip
    return tuple(sorted([*drawn, *special], key=lambda loan: loan.minute))


def _drawn(
    rng: random.Random, venue: str, debts: tuple[Token, ...], collaterals: tuple[Token, ...]
) -> Loan:
    """Most of them while the exchange's cascade runs; a tenth of the debt is the bonus at most."""
    minute = rng.randrange(90, 110) if rng.random() < 0.5 else rng.randrange(5, BLOCKS - 12)
    repaid = Decimal(int(10 ** rng.uniform(2.5, 5.9)))
    seized = repaid * (1000 + rng.randrange(20, 100)) / 1000
    liquidator = rng.choices(BOTS, (6, 3, 1))[0]
    account = rng.choice(BORROWERS)
    return _loan(
        venue, minute, account, liquidator, rng.choice(debts), str(repaid),
        rng.choice(collaterals), str(seized),
    )  # fmt: skip


def _loan(
    venue: str,
    minute: int,
    account: str,
    liquidator: str,
    debt: Token,
    repaid: str,
    collateral: Token,
    seized: str,
    bad_debt: str = "0",
) -> Loan:
    """Amounts in dollars."""
    amounts = (debt.raw(Decimal(repaid)), collateral, collateral.raw(Decimal(seized)))
    return Loan(
        venue, minute, account, liquidator, debt, *amounts, debt.raw(Decimal(bad_debt))
    )  # fmt: skip


# -- the chains


class Scripted(ModelChain):
    """A model chain whose blocks hold the loans of their minute."""

    def __init__(self, chain: str) -> None:
        self._loans = [loan for loan in loans() if loan.venue.endswith(f".{chain}")]
        super().__init__(
            Config(
                seed=len(self._loans),
                chain=chain,
                places=PLACES[chain],
                started=int(STARTED.timestamp()),
                block_seconds=60,
            )
        )

    def _chosen(self, parent: Block) -> Iterator[Transaction]:
        minute = parent.number + 1 - FIRST
        for loan in self._loans:
            if loan.minute == minute:
                yield self._of(lambda script, loan=loan: _log(script, loan))
        if self.config.chain == "ethereum" and minute in ODD:
            yield self._of(ODD[minute])

    def _of(self, does: Callable[[Script], None]) -> Transaction:
        script = Script(self._rng, self.config.places)
        does(script)
        parts = (tuple(script.logs), (), (), frozenset[Market](), frozenset[Market]())
        return Transaction(self._new_hash(), "loan", *parts, script.sent)


def _log(script: Script, loan: Loan) -> None:
    """The logs of a liquidation."""
    emitters = script.places
    match loan.venue.partition("_")[0].partition(".")[0]:
        case "aave":
            if loan.bad_debt_raw:
                topics = (DEFICIT, loan.account, loan.debt.address)
                script.log(emitters.aave_v2, topics, loan.bad_debt_raw)
            if loan.fee_raw:
                _paid_out(script, loan, loan.fee_raw)
            _liquidation_call(script, emitters.aave_v2, loan)
        case "comet":
            topics = (events.ABSORB_COLLATERAL, loan.liquidator, loan.account)
            script.log(emitters.comet, (*topics, loan.collateral.address), loan.seized_raw, 1)
            topics = (events.ABSORB_DEBT, loan.liquidator, loan.account)
            script.log(emitters.comet, topics, loan.repaid_raw, 1)
        case "morpho":
            _liquidate(script, MARKET, loan)


def _paid_out(script: Script, loan: Loan, fee_raw: int) -> None:
    """The aToken gives the liquidator the collateral, and moves the fee to the treasury."""
    atoken, paid = address("atoken"), (events.TRANSFER, address("atoken"), loan.liquidator)
    script.log(loan.collateral.address, paid, loan.seized_raw)
    script.log(atoken, (events.TRANSFER, loan.account, address("treasury")), fee_raw)


def _liquidation_call(script: Script, emitter: str, loan: Loan) -> None:
    tokens = (loan.collateral.address, loan.debt.address)
    topics = (events.LIQUIDATION_CALL, *tokens, loan.account)
    script.log(emitter, topics, loan.repaid_raw, loan.seized_raw, loan.liquidator, False)


def _liquidate(script: Script, market: Market, loan: Loan) -> None:
    topics = (events.LIQUIDATE, market.id, loan.liquidator, loan.account)
    amounts = (loan.repaid_raw, 1, loan.seized_raw, loan.bad_debt_raw, loan.bad_debt_raw)
    script.log(script.places.morpho_blue, topics, *amounts)


def _odd() -> Loan:
    return _loan("", 0, BORROWERS[0], BOTS[0], USDC, "777", WETH, "800")


ODD: dict[int, Callable[[Script], None]] = {
    1: lambda script: events.create_market(script, MARKET),
    40: lambda script: _liquidate(script, UNKNOWN, _odd()),
    41: lambda script: _liquidation_call(script, script.places.stranger, _odd()),
    95: lambda script: _liquidation_call(script, script.places.stranger, _odd()),
}


def contracts(chain: ModelChain) -> Calls:
    """The protocols' oracles and tokens."""
    said = {**_aave(chain.config.chain), **_comet(chain.config.places.comet)}
    known = {(call.to, call.data): "0x" + result.data.hex() for call, result in said.items()}
    others = comet_of(chain)

    def call(to: str, data: str) -> str | RpcError:
        found = known.get((to.lower(), data))
        return others(to, data) if found is None else found

    return call


def _aave(chain: str) -> dict[EthCall, CallResult]:
    """Of Aave v2 or v3: prices in dollars of 8 decimals."""
    pool, provider, oracle = PLACES[chain].aave_v2, address("provider"), address("oracle")
    said: dict[EthCall, CallResult] = {
        asked(pool, "getAddressesProvider()"): says("address", provider),
        asked(pool, "ADDRESSES_PROVIDER()"): says("address", provider),
        asked(provider, "getPriceOracle()"): says("address", oracle),
        asked(oracle, "BASE_CURRENCY()"): says("address", NOBODY),
        asked(oracle, "BASE_CURRENCY_UNIT()"): says("uint256", 10**8),
    }
    for token in TOKENS[chain]:
        price = says("uint256", int(token.usd * 10**8))
        said[asked(oracle, "getAssetPrice(address)", token.address)] = price
        said[asked(token.address, "decimals()")] = says("uint8", token.decimals)
        said[asked(token.address, "symbol()")] = says("string", token.symbol)
        said[asked(token.address, "name()")] = says("string", token.symbol)
    return said


def _comet(comet: str) -> dict[EthCall, CallResult]:
    """Of the market in USDC, which takes WETH."""
    feeds = {token: address("feed", token.symbol) for token in (USDC, WETH)}
    scale = 10**WETH.decimals
    of_weth = (0, WETH.address, feeds[WETH], scale, 0, 0, 0, 0)
    said: dict[EthCall, CallResult] = {
        asked(comet, "baseScale()"): says("uint256", 10**USDC.decimals),
        asked(comet, "baseTokenPriceFeed()"): says("address", feeds[USDC]),
        asked(comet, "getAssetInfoByAddress(address)", WETH.address): says(
            "uint8 address address uint64 uint64 uint64 uint64 uint128", *of_weth
        ),
    }
    for token, feed in feeds.items():
        price = says("uint256", int(token.usd * 10**8))
        said[asked(comet, "getPrice(address)", feed)] = price
        said[asked(feed, "description()")] = says("string", f"{token.symbol} / USD")
    return said


# -- reading it


Run = Callable[..., CompletedProcess[str]]


def read(conninfo: str, run: Run, folder: Path) -> None:
    """Index, value and label all of it; `run` calls the command line, `folder` is for a file."""

    def command(*arguments: object, **environment: str) -> None:
        done = run(*arguments, **environment)
        assert done.returncode == 0, done.stderr

    ethereum, base = Scripted("ethereum"), Scripted("base")
    for chain in (ethereum, base):
        chain.mine(BLOCKS)
    command("backfill", "hyperliquid", "--from", resources.recording())
    with (
        Node(ethereum, calls=contracts(ethereum)) as node,
        Node(base, calls=contracts(base), chain_id=BY_NAME["base"].chain_id) as b,
    ):
        urls = {"RPC_ETHEREUM": node.url, "RPC_BASE": b.url}
        for low, high in ((0, UNREAD.start), (UNREAD.stop, ethereum.finalized + 1 - FIRST)):
            ends = ("--from", FIRST + low, "--to", FIRST + high)
            command("backfill", *VENUES, *ends, "--no-values", **urls)
        ends = ("--from", FIRST, "--to", base.finalized + 1)
        command("backfill", "aave_v3.base", *ends, "--no-values", **urls)
        with database.connect(conninfo) as connection:
            _follow(connection, ethereum, node.url)
        for name, text in (("mine", PRICES), ("interest", INTEREST), ("names", names())):
            (folder / f"{name}.csv").write_text(text)
        command("prices", "import", folder / "mine.csv", "--name", "mine", "--max-age", "24h")
        command("interest", "import", folder / "interest.csv")
        ends = ("--source", "desk", "--version", "1")
        command("labels", "import", folder / "names.csv", "--format", "csv", *ends)
        command("value", **urls)
    command("label")
    _watch(command)


def _watch(command: Callable[..., None]) -> None:
    with Exchange() as exchange:
        for account, positions in held().items():
            exchange.held[account, ""] = state(*positions)
        whom = [word for account in held() for word in ("--account", account)]
        command("watch", "hyperliquid", *whom, "--once", HYPERLIQUID_API=exchange.url)


def _follow(connection: database.Connection, chain: ModelChain, url: str) -> None:
    """The tip, a reorg, and what comes after it."""
    with closing(EvmSource(BY_NAME["ethereum"], [url])) as source:
        follower = Follower(connection, source, DECODER, VENUES)
        catch_up(follower)
        chain.siblings([True] + [False] * (REPLACED - 1))
        chain.mine()
        catch_up(follower)
        redecode.settle(connection, source, DECODER)
