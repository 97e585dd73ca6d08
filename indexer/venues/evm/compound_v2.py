"""Compound v2 and its forks. The emitter is the market that was borrowed from, collateral is
counted in the other market's shares, and nothing is indexed. Comptrollers list their markets."""

from collections.abc import Sequence

from indexer.abi_calls import address_of, call, is_silent, rate_by, vouched_for
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    NATIVE,
    NOBODY,
    Contract,
    Deployment,
    EventMap,
    Fact,
    FactMap,
    Inquiry,
    Lookup,
    MissingFact,
    ProtocolSpec,
)
from indexer.venues.evm import deployments


def underlying(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A market of the chain's coin is without this function, some forks' says the zero address:
    there is none then. compound-finance/compound-protocol:contracts/CTokenInterfaces.sol"""
    (answer,) = yield [call(missing.subject, "underlying()")]
    address = address_of(answer)
    if address is None and not is_silent(answer):
        return ()
    return (missing.told(None if address == NOBODY else address),)


ASKS = {
    # isListed comes first in all forks, what follows differs;
    # compound-finance/compound-protocol:contracts/ComptrollerStorage.sol
    EMITTER_FACT: vouched_for("comptroller", "markets(address)", "market", of=None),
    "underlying": underlying,
}
# scaled by 10**18; compound-finance/compound-protocol:contracts/CToken.sol
SHARE_RATE = rate_by("exchangeRateStored()", underlying="underlying()")

SPEC = ProtocolSpec(
    name="compound_v2",
    kind="lending",
    contracts={
        "comptroller": Contract(
            abi="compound_v2_comptroller.json",
            events={"MarketListed": FactMap(proves={"cToken": "market"})},
        ),
        "market": Contract(
            abi="compound_v2_ctoken.json",
            events={
                "LiquidateBorrow": EventMap(
                    account="borrower",
                    liquidator="liquidator",
                    repaid=(Lookup("underlying", (EMITTER,)), "repayAmount"),
                    seized=("cTokenCollateral", "seizeTokens"),
                    seized_is_shares=True,
                )
            },
        ),
    },
    facts=(
        # cETH has no underlying(); compound-finance/compound-config:networks/mainnet.json
        Fact("ethereum", "underlying", "0x4ddc2d193948926d02f9b1fe9e1daa0718270ed5", NATIVE),
    ),
    deployments=deployments("compound_v2"),
    asks=ASKS,
    share_rate=SHARE_RATE,
    methodology=(
        "Debt `repayAmount` in the underlying of the emitting market; collateral `seizeTokens` are"
        " shares of the market `cTokenCollateral`, with what newer markets keep for their reserves."
    ),
)
