"""GMX v2, called Synthetics, and its forks. One contract emits the events of all others: their name
is an argument, and what they say a list of named items, to which releases added.

gmx-io/gmx-synthetics:contracts/event/EventEmitter.sol, contracts/position/PositionEventUtils.sol
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import prod
from typing import Any, NamedTuple, cast

from eth_hash.auto import keccak

from indexer.abi_calls import WORD, call, uint_of
from indexer.evm_model import (
    USD_QUOTE,
    Contract,
    Deployment,
    Facts,
    Inquiry,
    Lookup,
    MissingFact,
    PerpJoinable,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
    Sibling,
    SiblingMap,
    UndecodedLog,
    Value,
)
from indexer.families import coin
from indexer.oracles import contract_of, scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

INDEX = Lookup("gmx_v2_index", ("topic1",))  # of a market: token/its decimals/its symbol
USD_PLACES = 30  # gmx-io/gmx-synthetics:contracts/utils/Precision.sol, FLOAT_PRECISION
LIQUIDATION = 7  # gmx-io/gmx-synthetics:contracts/order/Order.sol, OrderType


class Items(NamedTuple):
    """What an event says, by name. gmx-io/gmx-synthetics:contracts/event/EventUtils.sol"""

    addresses: dict[str, str]
    uints: dict[str, int]
    ints: dict[str, int]
    bools: dict[str, bool]
    words: dict[str, str]

    @classmethod
    def of(cls, args: dict[str, Value]) -> "Items":
        """Of each kind the single values; the last kinds and all arrays are nothing of ours."""
        data = cast(Any, args["eventData"])
        return cls(*(dict(kind[0]) for kind in data[: len(cls._fields)]))


def is_liquidation(args: dict[str, Value]) -> bool:
    """Whether a decrease was; one that does not say is ours, and will say why."""
    return Items.of(args).uints.get("orderType", LIQUIDATION) == LIQUIDATION


class Index(NamedTuple):
    """What a market is the price of; `places` are those of one base unit."""

    symbol: str | None
    places: int | None


# Markets of what has no token on their chain: symbols and decimals, the address is made of the
# symbol. gmx-io/gmx-synthetics:config/tokens.ts, synthetic; utils/token.ts
SYNTHETICS = {
    ("arbitrum", 42161): {
        5: "BONK MEW",
        6: "XRP STX SATS ATOM TIA TRX BOME ADA TRUMP MELANIA FARTCOIN PENGU JUP MOODENG ALGO XAUT",
        7: "XLM",
        8: "BTC DOGE LTC APT BCH ICP HYPE SPX6900 HBAR CRO KAS ZEC DASH",
        9: "SUI TAO TON FLOKI AI16Z JTO",
        10: "DOT",
        12: "XMR AR",
        18: "SHIB POL SEI WLD MEME RENDER FIL INJ DYDX ENA LDO BERA VIRTUAL ONDO FET S CAKE AIXBT"
        " MKR OM DOLO ZRO CRV PI PUMP MNT CVX OKB AERO BRETT ZORA KTA WLFI WELL VVV MORPHO ORDI"
        " XPL ASTER 0G AVNT LINEA SKY MON SYRUP CHZ IP LIT",
        24: "NEAR",
    },
    ("avalanche", 43114): {6: "XRP TRUMP MELANIA", 8: "DOGE LTC", 18: "PUMP WLFI"},
    ("botanix", 3637): {8: "BTC"},
}


def synthetic(chain_id: int, symbol: str) -> str:
    """The address that stands for it: the end of a hash of the number of the chain and the text."""
    words = (chain_id, 2 * WORD, len(symbol))
    text = symbol.encode().ljust(WORD, b"\0")
    return "0x" + keccak(b"".join(word.to_bytes(WORD, "big") for word in words) + text).hex()[24:]


KNOWN = {
    (chain, synthetic(chain_id, symbol)): Index(symbol, places)
    for (chain, chain_id), by_places in SYNTHETICS.items()
    for places, symbols in by_places.items()
    for symbol in symbols.split()
}


def _index(chain: str, told: str | None) -> Index:
    token, _, said = (told or "").partition("/")
    places, _, symbol = said.partition("/")
    found = Index(symbol or None, int(places) if places.isdecimal() else None)
    return KNOWN.get((chain, token), found)


def join(events: Sequence[PerpJoinable], facts: Facts) -> Iterable[PerpLiquidation | UndecodedLog]:
    """Make a row of each liquidation, with the fees that the same order paid."""
    siblings = [event for event in events if isinstance(event, Sibling)]
    fees = [event for event in siblings if event.venue is None]
    for event in events:
        if isinstance(event, PerpLiquidation):
            yield event
        elif event.venue is not None:
            yield _row(event, fees, facts)


def _row(event: Sibling, fees: Sequence[Sibling], facts: Facts) -> PerpLiquidation | UndecodedLog:
    log, items = event.log, Items.of(event.args)
    account, market = items.addresses.get("account"), items.addresses.get("market")
    is_long = items.bools.get("isLong")
    if account is None or market is None or is_long is None or "orderType" not in items.uints:
        reason = "not all of account, market, isLong and orderType among its items"
        return event.alone(reason, SPEC.decoder_version)
    key = log.chain, INDEX.fact, market
    if key not in facts:
        missing = MissingFact(*key)
        return UndecodedLog(event.venue or "", log, str(missing), SPEC.decoder_version, missing)
    index = _index(log.chain, facts[key])
    row = PerpLiquidation(
        event.venue or "", log.event_key, log.block_number, log.block_hash, log.tx_hash,
        log.log_index, log.address, market if index.symbol is None else f"{market}:{index.symbol}",
        "perp", "market", account, None, USD_QUOTE, "isolated", SPEC.decoder_version,
        counterparty_kind="pool", side="long" if is_long else "short",
        order_id=items.words.get("orderKey"),
    )  # fmt: skip
    return _sized(_in_dollars(row, items), items, index).with_(fee=_fee(event, items, fees))


def _marked(items: Items, *, is_long: bool) -> int | None:
    """The lower price closes a long, the higher one a short.

    gmx-io/gmx-synthetics:contracts/position/DecreasePositionCollateralUtils.sol, getPositionPnlUsd
    """
    return items.uints.get("indexTokenPrice.min" if is_long else "indexTokenPrice.max")


def _in_dollars(row: PerpLiquidation, items: Items) -> PerpLiquidation:
    """Prices are of one base unit of the token: how many of those make a whole one is no matter."""
    closed = items.uints.get("sizeDeltaInTokens")
    left = items.uints.get("sizeInUsd")
    return row.with_(
        notional=_usd(closed, items.uints.get("executionPrice")),
        notional_mark=_usd(closed, _marked(items, is_long=row.side == "long")),
        notional_entry=_usd(items.uints.get("sizeDeltaUsd")),
        realised_pnl=_usd(items.ints.get("basePnlUsd")),
        is_full_close=None if left is None else left == 0,
    )


def _usd(*factors: int | None) -> Decimal | None:
    known = [factor for factor in factors if factor is not None]
    return scaled(prod(known), USD_PLACES) if len(known) == len(factors) else None


def _sized(row: PerpLiquidation, items: Items, index: Index) -> PerpLiquidation:
    """In whole tokens, where somebody says how many base units those are."""
    if index.places is None:
        return row
    closed, left = items.uints.get("sizeDeltaInTokens"), items.uints.get("sizeInTokens")
    sign = 1 if row.side == "long" else -1

    def at(number: int | None, places: int) -> Decimal | None:
        return None if number is None else scaled(number, places)

    of_price = USD_PLACES - index.places
    return row.with_(
        size=at(closed, index.places),
        price=at(items.uints.get("executionPrice"), of_price),
        mark_price=at(_marked(items, is_long=row.side == "long"), of_price),
        position_before=(
            None if closed is None or left is None else at(sign * (left + closed), index.places)
        ),
        position_after=None if left is None else at(sign * left, index.places),
    )


def _fee(event: Sibling, items: Items, fees: Sequence[Sibling]) -> Decimal | None:
    """All costs of the order but losses. They are emptied where the collateral did not cover
    everything: then nothing tells what of it were fees.

    gmx-io/gmx-synthetics:contracts/position/DecreasePositionCollateralUtils.sol, getEmptyFees"""
    order = items.words.get("orderKey")
    for paid in fees:
        said = Items.of(paid.args)
        if paid.log.address == event.log.address and order and said.words.get("orderKey") == order:
            cost = said.uints.get("totalCostAmount")
            return _usd(cost, said.uints.get("collateralTokenPrice.min")) if cost else None
    return None


# gmx-io/gmx-synthetics:contracts/market/MarketStoreUtils.sol, contracts/data/DataStore.sol
INDEX_TOKEN = keccak(b"".join((
    WORD.to_bytes(WORD, "big"), len("INDEX_TOKEN").to_bytes(WORD, "big"),
    b"INDEX_TOKEN".ljust(WORD, b"\0"),
)))  # fmt: skip


def _of_market(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """A market names its store, which has the token; what has none on its chain says nothing. A
    token of a family bears its name, so that ether is one asset on all venues.

    gmx-io/gmx-synthetics:contracts/bank/Bank.sol, dataStore"""
    (named,) = yield [call(missing.subject, "dataStore()")]
    store = contract_of(named)
    if store is None:
        return ()
    market = bytes.fromhex(missing.subject.removeprefix("0x")).rjust(WORD, b"\0")
    place = "0x" + keccak(market + INDEX_TOKEN).hex()
    (answer,) = yield [call(store, "getAddress(bytes32)", place)]
    token = contract_of(answer)
    if token is None:
        return ()
    symbol, decimals = yield [call(token, "symbol()"), call(token, "decimals()")]
    places = uint_of(decimals, bits=8)
    said = coin(missing.chain, token) or clean(raw_text(symbol))
    return (missing.told(f"{token}/{'' if places is None else places}/{said or ''}"),)


POSITION: dict[str, tuple[Value, ...]] = {"eventNameHash": ("PositionDecrease",)}
FEES = SiblingMap(when={"eventNameHash": ("PositionFeesCollected",)})

SPEC = ProtocolSpec(
    name="gmx_v2",
    kind="perp",
    contracts={
        "emitter": Contract(
            abi="gmx_v2_event_emitter.json",
            events={"EventLog1": SiblingMap(when=POSITION, only=is_liquidation)},
        ),
        # nobody's role: with it, the event of an unknown emitter is kept
        "unproved": Contract(
            abi="gmx_v2_event_emitter.json",
            events={
                "EventLog1": PerpMap(
                    account="topic1",
                    market=("topic1", INDEX),
                    when=POSITION,
                    only=is_liquidation,
                )
            },
        ),
    },
    bystander=Contract(abi="gmx_v2_event_emitter.json", events={"EventLog1": FEES}),
    join=join,
    deployments=deployments("gmx_v2"),
    asks={INDEX.fact: _of_market},
    methodology=(
        "Each event whose `eventNameHash` is that of PositionDecrease, and whose `eventData` has"
        " an orderType of 7, closes sizeDeltaInTokens at executionPrice, which has the impact on"
        " the price in it; sizeDeltaUsd is what that was at its opening. The mark is the lower"
        " indexTokenPrice for a long and the higher one for a short, and the profit or loss,"
        " basePnlUsd, is at the mark. The fee is totalCostAmount at the lower price of the"
        " collateral, with funding, borrowing and the liquidation's own in it; unknown where the"
        " collateral did not cover everything. Where nothing says how many base units a whole"
        " token has, what is not in dollars is unknown. The liquidator is unknown, and what bad"
        " debt there was is not kept. Automatic deleveraging is an ordinary decrease here, and"
        " not counted."
    ),
)
