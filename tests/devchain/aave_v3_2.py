"""Aave v3.2 from web3-ethereum-defi: the latest that a registry has, without bad debt in logs."""

from fractions import Fraction
from typing import Any

from eth_abi import abi

from indexer.evm_model import LendingLiquidation
from tests.devchain.aave import TREASURY
from tests.devchain.aave_v3 import AaveV3
from tests.devchain.contracts import Code, Contract, artifact
from tests.devchain.feeds import FEED_DECIMALS, Feed
from tests.devchain.lending import NOBODY, PricedLending
from tests.devchain.packages import AAVE_V3_2, folder

# what the protocol gave another name, as more than one contract is made of it
INSTANCES = ("AToken", "Pool", "PoolConfigurator", "VariableDebtToken")
RATES = (8_000, 0, 400, 6_000)  # of 10,000: best utilization, base, slopes


class AaveV32(AaveV3, PricedLending):
    """With the protocol's own oracle, on feeds of ours."""

    package = AAVE_V3_2
    deep = 1_600  # all of the debt may be repaid at once
    crash = 1_300  # the debt is worth more than the collateral

    @classmethod
    def code(cls, name: str) -> Code:
        """A contract of the package."""
        return artifact(folder(cls.package), f"{name}Instance" if name in INSTANCES else name)

    def oracle_for(self, provider: Contract) -> Contract:
        """The protocol's own."""
        self.feed = Feed(self.deployer, "ETH / USD", self.high * 10**FEED_DECIMALS)
        par = Feed(self.deployer, "USDC / USD", 99_990_000)
        feeds = {self.ether.address: self.feed.address, self.dollar.address: par.address}
        terms = (list(feeds), list(feeds.values()), NOBODY, NOBODY, 10**FEED_DECIMALS)
        self.oracle = self.deployer.deploy(self.code("AaveOracle"), provider.address, *terms)
        return self.oracle

    def _inputs(self, provider: Contract) -> list[tuple[Any, ...]]:
        """Rates are told with each reserve; decimals are not."""
        tokens = [
            self.deployer.deploy(self.code(name), self.pool.address).address
            for name in ("AToken", "VariableDebtToken")
        ]
        rates = self.deployer.deploy(
            self.code("DefaultReserveInterestRateStrategyV2"), provider.address
        )
        told = abi.encode(["uint16", "uint32", "uint32", "uint32"], RATES)
        return [
            (
                *tokens, True, rates.address, token.address, TREASURY, NOBODY,
                *("a", "a", "v", "v"), b"", told,
            )
            for token in self.reserves()
        ]  # fmt: skip

    def set_price(self, dollars: int) -> None:
        """The feed's, to the last digit."""
        self.feed.report(dollars * 10**FEED_DECIMALS + 4_321)

    def everything(self) -> list[LendingLiquidation]:
        """Half of a debt, all of one for aTokens, and all of the collateral for a part of one."""
        half = self.liquidate()
        account = self.open_position()
        self.set_price(self.deep)
        whole = self.make(self.attempt(account, takes_atokens=True))
        self.recover()
        account = self.open_position()
        self.set_price(self.crash)
        short = self.make(self.attempt(account))
        self.recover()
        return [half, whole, short]

    def usd(self, asset: str, at: int) -> Fraction:
        """Of a base unit at the end of a block, as the oracle says."""
        (token,) = (token for token in self.reserves() if token.address == asset)
        price = self.oracle.read("getAssetPrice", asset, at=at)
        return Fraction(price, 10 ** (FEED_DECIMALS + token.read("decimals")))
