"""Perpetual Protocol v2 from @perp/curie-deployments, on a pool of the genuine Uniswap v3: one
market of ether, with a maker whose liquidity all trade with."""

from decimal import Decimal
from fractions import Fraction
from math import isqrt
from typing import Any

from indexer.evm_model import Deployment, Fact, PerpLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import dev, stubs
from tests.devchain.contracts import Code, Contract, Deployer, artifact
from tests.devchain.lending import UNLIMITED, VERSIONS, WAD, only
from tests.devchain.packages import PERP_V2, UNISWAP_V3, folder

FEE, SPACING = 10_000, 200  # one percent; Uniswap/v3-core:contracts/UniswapV3Factory.sol
DOLLAR = 10**6
WIDE = 887_200  # ticks, the most that the spacing divides


def code(name: str) -> Code:
    """A contract as it was deployed."""
    return artifact(folder(PERP_V2), f"{name}.sol/{name}")


class PerpV2:
    """Who liquidates takes the position over, at the mark price."""

    name = "perp_v2"
    event = "PositionLiquidated(address,address,uint256,uint256,uint256,address)"

    def __init__(self, deployer: Deployer) -> None:
        self.deployer, self.node = deployer, deployer.node
        self.since = self.node.head + 1
        deploy = deployer.deploy
        self.dollar = deploy(dev()["Token"], "USDC", 6)
        self.feed = deploy(stubs()["IndexFeed"])
        self.quote = deploy(code("QuoteToken"))
        self.base = deploy(code("BaseToken"))
        while int(self.base.address, 16) >= int(self.quote.address, 16):
            self.base = deploy(code("BaseToken"))  # a market's token is the first of its pool
        self.house, self.balances, self.vault = (
            deploy(code(name)) for name in ("ClearingHouse", "AccountBalance", "Vault")
        )
        self.config, self.fund = (
            deploy(code(name)) for name in ("ClearingHouseConfig", "InsuranceFund")
        )
        self.factory = deploy(artifact(folder(UNISWAP_V3), "UniswapV3Factory"))
        self.set_price(2_000)
        self._wire()
        self._lend()

    def _wire(self) -> None:
        """As the protocol's own scripts do it, without proxies."""
        deploy, send = self.deployer.deploy, self.deployer.send
        registry, orders, exchange, collateral = (
            deploy(code(name))
            for name in ("MarketRegistry", "OrderBook", "Exchange", "CollateralManager")
        )
        house, config, vault, fund = (
            one.address for one in (self.house, self.config, self.vault, self.fund)
        )
        send(self.quote, "initialize", "vUSD", "vUSD")
        send(self.base, "initialize", "vETH", "vETH", self.feed.address)
        send(self.config, "initialize")
        send(registry, "initialize", self.factory.address, self.quote.address)
        send(orders, "initialize", registry.address)
        send(exchange, "initialize", registry.address, orders.address, config)
        send(self.balances, "initialize", config, orders.address)
        send(self.fund, "initialize", self.dollar.address)
        send(self.vault, "initialize", fund, config, self.balances.address, exchange.address)
        # perpetual-protocol/perp-curie-contract:test/clearingHouse/fixtures.ts
        send(
            collateral, "initialize", config, vault, 5, 750_000, 500_000, 2_000, 30_000,
            10_000 * DOLLAR, 500 * DOLLAR,
        )  # fmt: skip
        send(
            self.house, "initialize", config, vault, self.quote.address, self.factory.address,
            exchange.address, self.balances.address, fund,
        )  # fmt: skip
        send(self.fund, "setVault", vault)
        send(self.vault, "setCollateralManager", collateral.address)
        send(orders, "setExchange", exchange.address)
        send(exchange, "setAccountBalance", self.balances.address)
        send(self.balances, "setVault", vault)
        for contract in (registry, orders, exchange, self.balances, self.vault):
            send(contract, "setClearingHouse", house)
        send(self.config, "setSettlementTokenBalanceCap", UNLIMITED)
        self._list(registry, exchange)

    def _list(self, registry: Contract, exchange: Contract) -> None:
        send, tokens = self.deployer.send, (self.base, self.quote)
        made = artifact(folder(UNISWAP_V3), "UniswapV3Pool")
        send(self.factory, "createPool", self.base.address, self.quote.address, FEE)
        address = self.factory.read("getPool", *(one.address for one in tokens), FEE)
        self.pool = self.deployer.at(address, made)
        send(self.pool, "initialize", isqrt(2_000 << 192))
        send(self.pool, "increaseObservationCardinalityNext", 100)
        for token in tokens:
            send(token, "addWhitelist", self.house.address)
            send(token, "addWhitelist", address)
            send(token, "mintMaximumTo", self.house.address)
        send(registry, "addPool", self.base.address, FEE)
        send(exchange, "setMaxTickCrossedWithinBlock", self.base.address, 1_000)

    def _lend(self) -> None:
        """A maker over all prices; the averages of Uniswap need half an hour of history."""
        self.wait()
        maker = self._funded(100_000_000)
        order = (
            self.base.address, 10_000 * WAD, 20_000_000 * WAD, -WIDE, WIDE, 0, 0, False, UNLIMITED,
        )  # fmt: skip
        self.house.send(maker, "addLiquidity", order)
        self._give(self.fund.address, 1_000_000)

    def deployments(self) -> list[Deployment]:
        """The clearing house has all markets."""
        address, chain = self.house.address, self.node.chain
        return [Deployment(chain, address, self.name, "clearing_house", self.since, "tests")]

    def facts(self) -> list[Fact]:
        """From the token's own symbol."""
        symbol = str(self.base.read("symbol")).removeprefix("v")
        return [Fact(self.node.chain, "perp_v2_coin", self.base.address, symbol)]

    # the story

    def set_price(self, dollars: int) -> None:
        """The index of an ether."""
        self.deployer.send(self.feed, "set", dollars * WAD)

    def wait(self) -> None:
        """Until all averages are those of now."""
        self.node.set_time(self.node.block("latest").time + 3_600)
        self.node.mine()

    def open_position(self, size_raw: int, margin: int) -> str:
        """A new account with a margin in dollars; a short has a negative size."""
        account = self._funded(margin)
        self._trade(account, size_raw)
        return account

    def move(self, dollars: int) -> None:
        """Index and pool: somebody trades until the pool is there, a little in each block."""
        self.set_price(dollars)
        trader, target = self._funded(10_000_000), isqrt(dollars << 192)
        is_fall = target < self._root()
        while is_fall is (target < self._root()):
            self._trade(trader, -100 * WAD if is_fall else 100 * WAD)
        self.wait()

    def _root(self) -> int:
        """Of the pool's price, as Uniswap has it."""
        return int(self.pool.read("slot0")[0])

    def liquidate(self, account: str, size_raw: int = 0) -> PerpLiquidation:
        """So much of the position, or as much as is allowed, and what state says of it."""
        liquidator = self._funded(1_000_000)
        receipt = self.house.send(liquidator, "liquidate", account, self.base.address, size_raw)
        return self.truth(account, liquidator, receipt)

    def _trade(self, account: str, size_raw: int) -> None:
        """Exactly so much ether."""
        is_sale = size_raw < 0
        order = (self.base.address, is_sale, is_sale, abs(size_raw), 0, UNLIMITED, 0, bytes(32))
        self.house.send(account, "openPosition", order)

    def _funded(self, dollars: int) -> str:
        account = self.node.new_account()
        self._give(account, dollars)
        self.dollar.send(account, "approve", self.vault.address, UNLIMITED)
        self.vault.send(account, "deposit", self.dollar.address, dollars * DOLLAR)
        return account

    def _give(self, to: str, dollars: int) -> None:
        self.deployer.send(self.dollar, "mint", to, dollars * DOLLAR)

    def truth(self, account: str, liquidator: str, receipt: Receipt) -> PerpLiquidation:
        """Of the event only its place is read. What was closed is worth the mark price, what it was
        opened for is what is missing of the open notional; the penalty is what the fund got and
        what the liquidator need not pay."""
        at = receipt.block_number
        log = only(self.event, receipt, self.house.address)
        mark = self.balances.read("getMarkPrice", self.base.address, at=at)
        before, after = (self._of("getTakerPositionSize", account, h) for h in (at - 1, at))
        opened = -self._change("getTakerOpenNotional", account, at)
        taken = self._change("getTakerPositionSize", liquidator, at)
        size, is_whole = abs(before - after), after == 0
        notional = size * mark // WAD
        signed = notional if before > 0 else -notional
        owed, owed_before, *_ = (
            self.balances.read("getPnlAndPendingFee", self.fund.address, at=height)[0]
            for height in (at, at - 1)
        )
        saved = self._change("getTakerOpenNotional", liquidator, at) + signed
        said: dict[str, Any] = {
            "side": "long" if before > 0 else "short",
            "size": whole(size),
            "price": whole(round(Fraction(notional * WAD, size))),
            "notional": whole(notional),
            "notional_entry": whole(abs(opened)),
            "realised_pnl": whole(signed + opened),
            "fee": whole(owed - owed_before + saved),
            "is_full_close": is_whole,
            "position_before": whole(before) if is_whole else None,
            "position_after": whole(after) if is_whole else None,
            "counterparty": liquidator if taken == before - after else None,
        }
        return PerpLiquidation(
            venue=f"{self.name}.{log.chain}", event_key=log.event_key,
            block_number=log.block_number, block_hash=log.block_hash, tx_hash=log.tx_hash,
            log_index=log.log_index, emitter=self.house.address,
            market=f"{self.base.address}:ETH", kind="perp", method="market", account=account,
            liquidator=liquidator, quote="USDC", margin_mode="cross",
            decoder_version=VERSIONS[self.name], counterparty_kind="liquidator", **said,
        )  # fmt: skip

    def _of(self, what: str, account: str, at: int) -> int:
        """In the market."""
        return int(self.balances.read(what, account, self.base.address, at=at))

    def _change(self, what: str, account: str, at: int) -> int:
        return self._of(what, account, at) - self._of(what, account, at - 1)


def whole(raw: int) -> Decimal:
    """A number of 18 decimals."""
    return Decimal(f"{raw}e-18")
