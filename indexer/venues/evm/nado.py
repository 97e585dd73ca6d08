"""Nado on Ink, and Vertex before it, whose contracts it took over. A sequencer brings liquidations
on chain in batches, later than they were traded. Loans and perpetuals share the event: what is a
loan, of a spot product, never has the number of a perpetual to wait for and stays undecoded.

nadohq/nado-contracts:core/contracts/ClearinghouseLiq.sol,
vertex-protocol/vertex-contracts:core/contracts/ClearinghouseLiq.sol
"""

from collections.abc import Sequence
from typing import Any

from indexer.abi_calls import address_of, call, uint_of
from indexer.evm_model import (
    EMITTER,
    NOBODY,
    Contract,
    Deployment,
    Inquiry,
    Lookup,
    MissingFact,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
)
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

QUOTE = Lookup("nado_quote", (EMITTER,))  # what is paid in: USDT0
# the number of the perpetual, by that of a product or of a spread
PERP = Lookup("nado_perp", (EMITTER, "productId", "isEncodedSpread"))
PLACES = 18  # nadohq/nado-contracts:core/contracts/libraries/MathSD21x18.sol
SPREAD_BITS = 16  # above those of the spot product in the number of a spread
IS_PERP = 1  # nadohq/nado-contracts:core/contracts/interfaces/engine/IProductEngine.sol
# "iso" ends the name of a sub-account for one position; of RiskHelper.sol, isIsolatedSubaccount
ISOLATED = b"iso".hex()

# No contract names products.
# nadohq/nado-web-monorepo-snapshot:packages/react-client/context/metadata/productMetadata/
# perpMetadataByProductId.ts
_OF_NADO = """
    2 BTC 4 ETH 8 SOL 10 XRP 14 BNB 16 HYPE 18 ZEC 20 MON 22 FARTCOIN 24 SUI 26 AAVE 28 XAUT
    30 PUMP 32 TAO 34 XMR 36 LIT 38 kPEPE 40 PENGU 42 USELESS 44 SKR 46 UNI 48 ASTER 50 XPL 52 DOGE
    54 WLFI 56 kBONK 58 ZRO 64 AVAX 68 BCH 72 ENA 74 LINK 76 LTC 78 NEAR 80 ONDO 82 SKY 86 JUP
    88 XAG 90 WTI 92 EURUSD 94 GBPUSD 96 USDJPY 98 QQQ 100 SPY 102 AAPL 104 AMZN 106 GOOGL 108 META
    110 MSFT 112 NVDA 114 TSLA 120 MEGA 122 GRAM 124 VVV 126 AMD 128 AVGO 130 DELL 132 INTC
    134 MRVL 136 MU 138 SNDK 140 SPCX 142 WLD 158 CHIP 162 PENG 164 BBX 166 MSTR 168 ZHIPU
"""
# fegloff/vertex-web-monorepo-snapshot:apps/trade/common/productMetadata/arbitrum/
# perpMetadataByProductId.ts; the first of them also in ElixirProtocol/vertex-contracts:README.md
_OF_VERTEX = """
    2 BTC 4 ETH 6 ARB 8 BNB 10 XRP 12 SOL 14 MATIC 16 SUI 18 OP 20 APT 22 LTC 24 BCH 26 COMP 28 MKR
    30 MPEPE 34 DOGE 36 LINK 38 DYDX 40 CRV 44 TIA 46 PYTH 50 JTO 52 AVAX 54 INJ 56 SNX 58 ADA
    60 IMX 62 MEME 64 SEI 66 BLUR 68 STX 70 NEAR 72 LDO 74 FIL 76 WLD 78 ICP 80 DOT 82 TRX 84 GALA
    86 ATOM 88 APE 90 JUP 92 ONE
"""


def _table(words: str) -> dict[str, str]:
    parts = words.split()
    return dict(zip(parts[::2], parts[1::2], strict=True))


COINS = {"nado.ink": _table(_OF_NADO), "vertex.arbitrum": _table(_OF_VERTEX)}


def subaccount(word: str) -> str:
    """`ADDRESS:NAME`, the name in hexadecimal where it is no text; without one ADDRESS alone."""
    address, name = word[:42], bytes.fromhex(word[42:])
    written = name.rstrip(b"\0")
    if not written:
        return address
    is_text = all(0x20 < byte < 0x7F for byte in written)
    return f"{address}:{written.decode('ascii') if is_text else '0x' + name.hex()}"


def _liquidated(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """One unit of a spread is one of the spot product and minus one of the perpetual, whose side
    is at the oracle's price; a perpetual alone is at a price that is worse for the account."""
    quote, _, product = row.market.rpartition(":")
    amount, paid = args["amount"], abs(args["amountQuote"])
    position = -amount if args["isEncodedSpread"] else amount
    coin = COINS.get(row.venue, {}).get(product)
    by, account = args["liquidatorSubaccount"], args["liquidateeSubaccount"]
    by_venue = by[:42] == NOBODY  # nadohq/nado-contracts:core/contracts/common/Constants.sol
    return row.with_(
        market=product if coin is None else f"{product}:{coin}",
        quote=quote,
        account=subaccount(account),
        liquidator=None if by_venue else by[:42],
        method="backstop" if by_venue else "market",
        counterparty_kind="protocol_vault" if by_venue else "liquidator",
        margin_mode="isolated" if account.endswith(ISOLATED) else "cross",
        side=None if position == 0 else "long" if position > 0 else "short",
        size=scaled(abs(amount), PLACES),
        price=scaled(paid * 10**PLACES // abs(amount), PLACES) if amount else None,
        notional=scaled(paid, PLACES),
    )


def _perp(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """What a spot product is never told.

    nadohq/nado-contracts:core/contracts/interfaces/clearinghouse/IClearinghouse.sol"""
    clearinghouse, number, is_spread = missing.subject.split("/")
    product = int(number) >> SPREAD_BITS if is_spread == str(True) else int(number)
    (said,) = yield [call(clearinghouse, "getEngineByProduct(uint32)", product)]
    engine = address_of(said)
    if engine in (None, NOBODY):
        return ()
    (kind,) = yield [call(engine, "getEngineType()")]
    return (missing.told(str(product)),) if uint_of(kind, bits=8) == IS_PERP else ()


def _quote(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The tether of many chains writes itself with a sign of its own for the T."""
    (said,) = yield [call(missing.subject, "getQuote()")]
    token = address_of(said)
    if token in (None, NOBODY):
        return ()
    (symbol,) = yield [call(token, "symbol()")]
    text = clean(raw_text(symbol))
    return () if text is None else (missing.told(text.replace("\u20ae", "T")),)


SPEC = ProtocolSpec(
    name="nado",
    kind="perp",
    contracts={
        "clearinghouse": Contract(
            abi="nado_clearinghouse.json",
            events={
                "Liquidation": PerpMap(
                    account="liquidateeSubaccount",
                    liquidator="liquidatorSubaccount",
                    market=(QUOTE, PERP),  # taken apart by `_liquidated`
                    then=_liquidated,
                )
            },
        )
    },
    deployments=deployments("nado"),
    asks={QUOTE.fact: _quote, PERP.fact: _perp},
    methodology=(
        "A row is the perpetual's side of an event: `amount` of it, long where positive, paid with"
        " `amountQuote` of the quote token, which is at the price of liquidation and not at the"
        " oracle's. Where `isEncodedSpread`, the number has a spot product and a perpetual in it;"
        " the perpetual's side is the other way round and at the oracle's price, and the spot"
        " side, a loan, is not counted. Liquidations of a spot product alone are loans: they stay"
        " undecoded and say that they wait for the number of a perpetual. The price is the"
        " quotient of both amounts, cut to 18 digits after the point. An account is the address"
        " with a colon and the name of the sub-account; who liquidated is an address, or nobody"
        " where the venue's own vault took the position over. What the position was before is not"
        " told. Blocks are later than trades, by up to a batch."
    ),
)
