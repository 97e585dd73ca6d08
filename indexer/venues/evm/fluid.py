"""Fluid vaults. A liquidation takes a part of every position above a price, and the event names
none of them: a row is of the whole vault, whose address stands for the account.

Instadapp/fluid-contracts-public:contracts/protocols/vault/vaultT1/coreModule/main.sol
"""

from collections.abc import Sequence
from typing import NamedTuple

from indexer.abi_calls import address_of, call, uint_of, vouched_for
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NOBODY,
    CallResult,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    FactMap,
    Inquiry,
    Lookup,
    MissingFact,
    NoQuote,
    ProtocolSpec,
    Quote,
    Subject,
)
from indexer.oracles import NO_ORACLE, NOT_LISTED, UNREADABLE, number_of, scaled, unit_itself
from indexer.venues.evm import deployments

COLLATERAL = Lookup("fluid_collateral", (EMITTER,))
DEBT = Lookup("fluid_debt", (EMITTER,))
# Words of `constantsView()`: of a vault of two tokens, and of one with an exchange on a side or
# both. contracts/protocols/vault/interfaces/iVaultT1.sol, iVault.sol
PLAIN, SMART = 13, 18
SHARES = NoQuote("shares of an exchange have no price here")


class _Sides(NamedTuple):
    """The token of each side, or the exchange whose shares it is."""

    collateral: str
    debt: str
    shares: frozenset[str]  # which of them are exchanges
    is_plain: bool


def _sides(constants: CallResult) -> _Sides | None:
    """An exchange has two tokens; whatever is one token comes from the liquidity layer."""
    if len(constants.data) // 32 == PLAIN:
        collateral, debt = (address_of(constants, at, of=PLAIN) for at in (4, 5))
        return None if not collateral or not debt else _Sides(collateral, debt, frozenset(), True)
    supply, borrow, *tokens = (address_of(constants, at, of=SMART) for at in (6, 7, 8, 9, 10, 11))
    if supply is None or borrow is None or None in tokens:
        return None
    collateral, second, debt, second_debt = (str(token) for token in tokens)
    shares = {
        exchange for exchange, token in ((supply, second), (borrow, second_debt)) if token != NOBODY
    }
    return _Sides(
        collateral if second == NOBODY else supply,
        debt if second_debt == NOBODY else borrow,
        frozenset(shares),
        False,
    )


def _tokens(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Both of them at once."""
    (constants,) = yield [call(missing.subject, "constantsView()")]
    sides = _sides(constants)
    if sides is None or NOBODY in sides[:2]:
        return ()
    return (
        Fact(missing.chain, COLLATERAL.fact, missing.subject, sides.collateral),
        Fact(missing.chain, DEBT.fact, missing.subject, sides.debt),
    )


# contracts/protocols/vault/vaultT1/common/variables.sol: the second word, its highest 160 bits
ORACLE_SLOT, ORACLE_BITS = 1, 96
RATE_PLACES = 27


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """Collateral of a vault of two tokens in base units of its debt; decimals are in the rate. The
    first oracles had one rate for everything.

    Instadapp/fluid-contracts-public:contracts/oracle/interfaces/iFluidOracle.sol"""
    vault, asset = subject.market, subject.asset
    constants, stored = yield [
        call(vault, "constantsView()"),
        call(vault, "readFromStorage(bytes32)", ORACLE_SLOT),
    ]
    sides = _sides(constants)
    if sides is None:
        return UNREADABLE
    if asset not in sides[:2]:
        return NOT_LISTED
    if asset in sides.shares:
        return SHARES
    if asset == sides.debt:
        return unit_itself(asset, (vault,))
    if not sides.is_plain:
        return NoQuote("a vault with an exchange names its oracle by a number")
    word = uint_of(stored)
    if word is None:
        return UNREADABLE
    if not word >> ORACLE_BITS:
        return NO_ORACLE
    named = f"0x{word >> ORACLE_BITS:040x}"
    rates = yield [
        call(named, "getExchangeRateLiquidate()"),
        call(named, "getExchangeRate()"),
    ]
    rate, first_rate = map(number_of, rates)
    rate = first_rate if isinstance(rate, NoQuote) else rate
    if isinstance(rate, NoQuote):
        return rate
    return Quote(scaled(rate, RATE_PLACES), sides.debt, (vault, named))


SPEC = ProtocolSpec(
    name="fluid",
    kind="lending",
    evidence="real",
    contracts={
        "factory": Contract(
            abi="fluid_vault_factory.json",
            events={"VaultDeployed": FactMap(proves={"vault": "vault"})},
        ),
        "vault": Contract(
            abi="fluid_vault.json",
            events={
                "LogLiquidate": EventMap(
                    account=EMITTER,
                    liquidator="liquidator_",
                    repaid=(DEBT, "debtAmt_"),
                    seized=(COLLATERAL, "colAmt_"),
                ),
                "LogAbsorb": EventMap(account=EMITTER, method="absorb"),
            },
        ),
    },
    deployments=deployments("fluid"),
    asks={
        # contracts/protocols/vault/interfaces/iVaultFactory.sol
        EMITTER_FACT: vouched_for("factory", "isVault(address)", "vault"),
        COLLATERAL.fact: _tokens,
        DEBT.fact: _tokens,
    },
    oracle=oracle,
    # no bonus: what was absorbed before is sold at its own ratio of collateral to debt.
    # The collateral goes to the receiver as logged; vaultT1/coreModule/main.sol, liquidate
    fee="none",
    methodology=(
        "Debt `debtAmt_` and collateral `colAmt_` in the tokens of the emitting vault. A side on an"
        " exchange is counted in the exchange's shares: its asset is the exchange then and it is"
        " worth nothing known. No event names a position: the account is the vault, for all"
        " positions above the price together, and never a person; its owner is unknown. The"
        " collateral went from the `liquidator_` to `to_`. The vault takes over positions far"
        " above the price in an event of its own, a row by the method absorb without amounts:"
        " `colAbsorbedRaw_` and `debtAbsorbedRaw_` are no token amounts, and what was taken over is"
        " liquidated later and counted then."
    ),
)
