"""Markets whose dollars come from another protocol's oracle: Morpho Blue, which is genuine, and
SIMULATED ones of Compound v3 and Euler v2, whose contracts no registry has.

What they say is in their own unit; `usd` makes dollars of it with the price of that unit at the
same block, as Aave's oracle says it."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from indexer.evm_model import Deployment, Leg, LendingLiquidation
from tests.devchain.anvil import Receipt
from tests.devchain.compiler import dev, stand_ins
from tests.devchain.contracts import Contract, Deployer
from tests.devchain.feeds import FEED_DECIMALS, Feed
from tests.devchain.lending import VERSIONS, WAD, only
from tests.devchain.morpho_blue import MorphoBlue

Usd = Callable[[str, int], Fraction]  # of a base unit of a token, at the end of a block
UNIT = 10**FEED_DECIMALS
DOLLAR_UNIT = "0x" + f"{840:040x}"  # ISO 4217, as Euler's oracles name the dollar
ORACLE_SCALE = 10**36


def row(name: str, receipt: Receipt, event: str, emitter: str, **said: Any) -> LendingLiquidation:
    """A row at the place of an event; everything else of it is given."""
    log = only(event, receipt, emitter)
    common: dict[str, Any] = {"market": emitter, "owner": None, "seized_is_shares": False}
    return LendingLiquidation(
        venue=f"{name}.{log.chain}", event_key=log.event_key, block_number=log.block_number,
        block_hash=log.block_hash, tx_hash=log.tx_hash, log_index=log.log_index, emitter=emitter,
        kind="lending", decoder_version=VERSIONS[name], **common | said,
    )  # fmt: skip


class PricedMorpho(MorphoBlue):
    """Collateral with eight decimals, a loan with six; the market's oracle is what its opener
    chose."""

    ether_decimals, dollar_decimals = 8, 6
    deposit_raw = 10 * 10**8
    loan_raw = 16_000 * 10**6
    seized_raw = 3 * 10**8

    def set_price(self, dollars: int) -> None:
        """Of a base unit of collateral in base units of the loan, times 10**36, no digit zero."""
        scale = ORACLE_SCALE * 10**self.dollar_decimals // 10**self.ether_decimals
        self.price(self.prices.address, dollars * scale + 1_234_567_890_123_456_789)

    def usd_by(self, loan: Usd) -> Usd:
        """Dollars of either token, with those of the loan from elsewhere."""

        def usd(asset: str, at: int) -> Fraction:
            if asset == self.dollar.address:
                return loan(asset, at)
            assert asset == self.ether.address
            ratio = Fraction(self.prices.read("price", at=at), ORACLE_SCALE)
            return ratio * loan(self.dollar.address, at)

        return usd


class Comet:
    """SIMULATED. A market of wrapped ether whose prices are in ether with eight decimals: the feed
    of its base token always says one."""

    LIQUIDATION_FACTOR = 93 * WAD // 100
    answers = (1_17654321, 33_98765433)  # ether for a whole token
    decimals = (18, 8)

    def __init__(self, deployer: Deployer, base: Contract) -> None:
        self.deployer, self.node, self.base = deployer, deployer.node, base
        self.since = self.node.head + 1
        one = Feed(deployer, "constant price feed", UNIT)
        self.contract = deployer.deploy(stand_ins()["CometLike"], base.address, one.address, 18)
        self.tokens = [
            deployer.deploy(dev()["Token"], f"Collateral{decimals}", decimals)
            for decimals in self.decimals
        ]
        self.feeds = [Feed(deployer, "TOKEN / ETH", answer) for answer in self.answers]
        for token, feed, decimals in zip(self.tokens, self.feeds, self.decimals, strict=True):
            terms = (feed.address, 10**decimals, self.LIQUIDATION_FACTOR)
            deployer.send(self.contract, "list", token.address, *terms)

    def deployments(self) -> list[Deployment]:
        """The market is a deployment of its own."""
        chain, address = self.node.chain, self.contract.address
        return [Deployment(chain, address, "comet", "comet", self.since, "tests")]

    def absorb(self, debt_raw: int, *seized_raw: int) -> list[LendingLiquidation]:
        """An account that owes so much is absorbed: a row, and one for the second collateral."""
        account, absorber = self.node.new_account(), self.node.new_account()
        for token, raw in zip(self.tokens, seized_raw, strict=False):
            self.deployer.send(self.contract, "become", account, debt_raw, token.address, raw)
        receipt = self.contract.send(absorber, "absorb", absorber, [account])
        refund = self.contract.read("balanceOf", account)
        assert refund == self.contract.change(receipt.block_number, "balanceOf", account)
        row_of = row(
            "comet", receipt, "AbsorbDebt(address,address,uint256,uint256)", self.contract.address,
            method="absorb", account=account, liquidator=absorber,
            repaid=Leg(self.base.address, debt_raw),
            seized=Leg(self.tokens[0].address, seized_raw[0]),
        )  # fmt: skip
        return [row_of] + [
            row_of.part(number, seized=Leg(token.address, raw))
            for number, (token, raw) in enumerate(
                zip(self.tokens[1:], seized_raw[1:], strict=False), start=1
            )
        ]

    def usd_by(self, ether: Usd) -> Usd:
        """Dollars of base and collateral, with those of the quote's unit from elsewhere."""
        read = self.contract.read

        def usd(asset: str, at: int) -> Fraction:
            whole = ether(self.base.address, at) * read("baseScale")
            if asset == self.base.address:
                feed, scale = read("baseTokenPriceFeed"), read("baseScale")
            else:
                (_, _, feed, scale, *_) = read("getAssetInfoByAddress", asset)
            return Fraction(read("getPrice", feed, at=at), UNIT * scale) * whole

        return usd


class Euler:
    """SIMULATED. Vaults of a factory, one with dollars and one with ether as unit of account, and
    collateral whose shares earn."""

    RATE = 1_087654321 * 10**9  # base units of the asset for 10**18 shares
    ether_price = 1_812_345_678 * 10**9  # of 10**-18 dollars, for a thousandth of an ether

    def __init__(self, deployer: Deployer, ether: Contract, dollar: Contract) -> None:
        codes = stand_ins()
        self.deployer, self.node = deployer, deployer.node
        self.ether, self.dollar = ether, dollar
        self.since = self.node.head + 1
        self.router = deployer.deploy(codes["EulerRouterLike"])
        self.factory = deployer.deploy(codes["EulerFactoryLike"])
        self.connector = deployer.deploy(codes["EulerFactoryLike"])
        self.by_dollar = self._vault(dollar, DOLLAR_UNIT, 6)
        self.by_ether = self._vault(dollar, ether.address, 6)
        self.collateral = self._vault(ether, DOLLAR_UNIT, 18)
        self._price()
        deployer.send(self.collateral, "earn", self.RATE)
        deployer.send(self.router, "resolve", self.collateral.address)

    def _vault(self, asset: Contract, unit: str, decimals: int) -> Contract:
        made = self.deployer.deploy(
            stand_ins()["EulerVaultLike"], asset.address, self.router.address, unit, decimals
        )
        self.deployer.send(self.factory, "adopt", made.address)
        return made

    def _price(self) -> None:
        """Out and per: ether and dollar in dollars of 18 decimals, the dollar in ether."""
        for base, quote, out, per in (
            (self.ether.address, DOLLAR_UNIT, self.ether_price, 10**15),
            (self.dollar.address, DOLLAR_UNIT, 99_991234 * 10**10, 10**6),
            (self.dollar.address, self.ether.address, 551_234567890123, 10**6),
        ):
            self.deployer.send(self.router, "set", base, quote, out, per)

    def deployments(self) -> list[Deployment]:
        """The factory, which vouches for the vaults, and the connector, which knows no owners."""
        return [
            Deployment(self.node.chain, contract.address, "euler_v2", role, self.since, "tests")
            for role, contract in (("factory", self.factory), ("evc", self.connector))
        ]

    def liquidate(self, vault: Contract, repaid_raw: int, shares: int) -> LendingLiquidation:
        """A liquidation with these two amounts."""
        account, liquidator = self.node.new_account(), self.node.new_account()
        arguments = (account, self.collateral.address, repaid_raw, shares, 0)
        receipt = vault.send(liquidator, "liquidate", *arguments)
        return row(
            "euler_v2", receipt, "Liquidate(address,address,address,uint256,uint256)",
            vault.address, method="debt_transfer", account=account, liquidator=liquidator,
            repaid=Leg(self.dollar.address, repaid_raw),
            seized=Leg(self.collateral.address, shares), seized_is_shares=True,
        )  # fmt: skip

    def usd_by(self, vault: Contract, ether: Usd) -> Usd:
        """As the router quotes 10**18 base units, with the dollars of ether from elsewhere."""
        unit = vault.read("unitOfAccount")

        def usd(asset: str, at: int) -> Fraction:
            quote = self.router.read("getQuote", 10**18, asset, unit, at=at)
            whole = Fraction(1, WAD) if unit == DOLLAR_UNIT else ether(self.ether.address, at)
            return Fraction(quote, 10**18) * whole

        return usd
