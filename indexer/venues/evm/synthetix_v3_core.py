"""Synthetix v3, its core: what backs the dollars that it lent, not the perpetuals above it. The
debt and collateral of a position go to all others of its vault; a vault that is under water as a
whole is sold to whoever burns dollars for it.

Synthetixio/synthetix-v3:protocol/synthetix/contracts/modules/core/LiquidationModule.sol
"""

from collections.abc import Sequence

from indexer.abi_calls import call, getter, is_silent, uint_of
from indexer.evm_model import (
    EMITTER,
    USD,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Inquiry,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    Par,
    ProtocolSpec,
    Quote,
    Subject,
    Value,
)
from indexer.oracles import decimals_of, number_of, scaled
from indexer.venues.evm import deployments

DOLLAR = Lookup("synthetix_usd", (EMITTER,))
# of the token, for `_in_base_units`
DECIMALS = Lookup("synthetix_decimals", ("collateralType",))
PLACES = 18  # of all amounts, whatever the token's own decimals


def _in_base_units(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """As a withdrawal would pay it out, rounded down.

    Synthetixio/synthetix-v3:protocol/synthetix/contracts/storage/CollateralConfiguration.sol"""
    assert row.seized is not None
    decimals = row.seized.asset or ""
    if not decimals.isdecimal():
        return row.with_(seized=None)
    raw = row.seized.raw * 10 ** int(decimals) // 10**PLACES
    return row.with_(seized=Leg(str(args["collateralType"]), raw))


def _position(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    return _in_base_units(row, args).with_(account=str(args["accountId"]))


def _vault(row: LendingLiquidation, args: dict[str, Value]) -> LendingLiquidation:
    """Of all its positions: `POOL/TOKEN`."""
    return _in_base_units(row, args).with_(account=f"{args['poolId']}/{args['collateralType']}")


def _decimals(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A token that states none is taken to have as many as an amount.

    Synthetixio/synthetix-v3:protocol/synthetix/contracts/storage/CollateralConfiguration.sol"""
    (answer,) = yield [call(missing.subject, "decimals()")]
    decimals = PLACES if is_silent(answer) else uint_of(answer, bits=8)
    return () if decimals is None else (missing.told(str(decimals)),)


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Synthetixio/synthetix-v3:protocol/synthetix/contracts/interfaces/
    ICollateralConfigurationModule.sol"""
    core = subject.market
    priced, stated = yield [
        call(core, "getCollateralPrice(address)", subject.asset),
        call(subject.asset, "decimals()"),
    ]
    price, decimals = number_of(priced), decimals_of(stated)
    if isinstance(price, NoQuote):
        return price
    if isinstance(decimals, NoQuote):
        return decimals
    return Quote(scaled(price, PLACES + decimals), USD, (core,))


SPEC = ProtocolSpec(
    name="synthetix_v3_core",
    kind="lending",
    contracts={
        "core": Contract(
            abi="synthetix_v3_core.json",
            events={
                "Liquidation": EventMap(
                    account="accountId",
                    liquidator="sender",
                    method="absorb",
                    repaid=(DOLLAR, "liquidationData.debtLiquidated"),
                    seized=(DECIMALS, "liquidationData.collateralLiquidated"),
                    then=_position,
                ),
                "VaultLiquidation": EventMap(
                    account="poolId",
                    liquidator="sender",
                    repaid=(DOLLAR, "liquidationData.debtLiquidated"),
                    seized=(DECIMALS, "liquidationData.collateralLiquidated"),
                    then=_vault,
                ),
            },
        )
    },
    deployments=deployments("synthetix_v3_core"),
    asks={
        # Synthetixio/synthetix-v3:protocol/synthetix/contracts/interfaces/IMarketManagerModule.sol
        DOLLAR.fact: getter("getUsdToken()"),
        DECIMALS.fact: _decimals,
    },
    oracle=oracle,
    par=Par(
        DOLLAR.fact,
        PLACES,
        "Synthetixio/synthetix-v3:protocol/synthetix/contracts/modules/core/LiquidationModule.sol,"
        " _isLiquidatable",
    ),
    # no bonus and no fee rule: the vault takes over both sides, and the reward is a fixed amount
    methodology=(
        "Debt `liquidationData.debtLiquidated` in the system's own dollars and collateral"
        " `liquidationData.collateralLiquidated` of `collateralType`, which are taken over by the"
        " other positions of the vault but for the liquidator's `liquidationData.amountRewarded`."
        " An account is its `accountId`. In a liquidation of a whole vault, the `sender` pays the"
        " debt and gets the collateral; its account is the `poolId`, a stroke and the"
        " `collateralType`."
    ),
)
