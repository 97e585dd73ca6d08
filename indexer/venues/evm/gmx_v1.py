"""GMX v1, Gambit before it and the many forks of its vault, which emits the event with nothing
indexed and amounts in dollars.

A position above the highest leverage that has collateral left is closed as its owner would close
it: the vault logs DecreasePosition and ClosePosition, and only the call says who wanted it. Owners'
closes are many, and nearly all are told by a third log, of the router or the order book that did
them; of what is left the transaction itself is read.
gmx-io/gmx-contracts:contracts/core/Vault.sol, liquidatePosition and _decreasePosition
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from indexer.abi_calls import call, selector
from indexer.evm_model import (
    SIBLING,
    USD_QUOTE,
    Contract,
    Deployment,
    Dismissed,
    Facts,
    Inquiry,
    Lookup,
    MissingFact,
    PerpJoinable,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
    Sent,
    Sibling,
    SiblingMap,
    UndecodedLog,
)
from indexer.families import coin
from indexer.oracles import scaled
from indexer.tokens import clean, raw_text
from indexer.venues.evm import deployments

COIN = Lookup("gmx_v1_coin", ("indexToken",))  # what the token says that it is: WETH
PLACES = 30  # gmx-io/gmx-contracts:contracts/core/Vault.sol, PRICE_PRECISION
SIZE = 18  # places to which a size is cut, which is a quotient

# Of the vault and of PositionManager in front of it, which have the same.
# gmx-io/gmx-contracts:contracts/core/PositionManager.sol
LIQUIDATE = "liquidatePosition(address,address,address,bool,address)"
# What executes an order of the owner's. gmx-io/gmx-contracts:contracts/core/PositionRouter.sol,
# OrderBook.sol and PositionManager.sol
EXECUTE = (
    selector("executeDecreasePositions(uint256,address)"),
    selector("executeDecreasePosition(bytes32,address)"),
    selector("executeDecreaseOrder(address,uint256,address)"),
)


def _closed(row: PerpLiquidation, args: dict[str, Any]) -> PerpLiquidation:
    """The vault takes the whole position at the price that it marks it with."""
    price = scaled(args["markPrice"], PLACES)
    return row.with_(
        side="long" if args["isLong"] else "short",
        price=price,
        mark_price=price,
        notional_entry=scaled(args["size"], PLACES),
        position_after=Decimal(0),
        is_full_close=True,
    )


class Close(NamedTuple):
    """What the vault logs of a position that is closed by a decrease."""

    decrease: Sibling
    closing: Sibling

    @property
    def words(self) -> tuple[str, str, str, bool]:
        """Which position: account, collateral, index token, whether long."""
        args = self.decrease.args
        return tuple(args[name] for name in ("account", "collateralToken", "indexToken", "isLong"))  # type: ignore[return-value]


def join(
    events: Sequence[PerpJoinable], facts: Facts
) -> Iterable[PerpLiquidation | UndecodedLog | Dismissed]:
    """A row of each close that was none of its owner's; what is plainly his is dismissed."""
    yield from (event for event in events if isinstance(event, PerpLiquidation))
    siblings = [event for event in events if isinstance(event, Sibling)]
    orders = [_ordered(event) for event in siblings if event.venue is None]
    closes = list(_closes(siblings))
    told = [close for close in closes if _order(close) not in orders]
    kept = {event.log.event_key for close in told for event in close}
    for event in siblings:
        if event.venue is not None and event.log.event_key not in kept:
            yield Dismissed(event.venue, event.log)
    for close in told:
        found = _judged(close, facts)
        if found is not None:
            yield found


def _closes(events: Sequence[Sibling]) -> Iterator[Close]:
    """Each closing right after the decrease of the same position and size."""
    before: dict[tuple[str, str], Sibling] = {}
    for event in events:
        key = event.log.address, str(event.args.get("key"))
        match event.name:
            case "DecreasePosition":
                before[key] = event
            case "ClosePosition" if key in before:
                yield Close(before.pop(key), event)


_Order = tuple[object, ...]


def _order(close: Close) -> _Order:
    return *close.words, close.decrease.number("sizeDelta")


def _ordered(event: Sibling) -> _Order:
    """What an order closed; one of the router's may swap what it gets, from the first of a path."""
    args = event.args
    path = args.get("path")
    collateral = path[0] if isinstance(path, tuple) and path else args.get("collateralToken")
    return args["account"], collateral, args["indexToken"], args["isLong"], args["sizeDelta"]


def _judged(close: Close, facts: Facts) -> PerpLiquidation | UndecodedLog | None:
    """By the transaction; None for the owner's own. Somebody else may call through a contract of
    his: then the vault's call, word for word, is in what he sent, or nothing tells."""
    log, venue = close.decrease.log, close.decrease.venue or ""
    sent = Sent.of(log, facts)
    if isinstance(sent, MissingFact):
        return UndecodedLog(venue, log, str(sent), SPEC.decoder_version, sent)
    account, collateral, token, is_long = close.words
    if call("", LIQUIDATE, account, collateral, token, int(is_long)).data[2:] in sent.input:
        return _liquidated(close, sent, facts)
    if account in (sent.sender, sent.to) or sent.input.startswith(EXECUTE):
        return None
    reason = "its transaction does not tell whether its owner or a liquidator closed it"
    return UndecodedLog(venue, log, reason, SPEC.decoder_version)


def _liquidated(close: Close, sent: Sent, facts: Facts) -> PerpLiquidation | UndecodedLog:
    """Both logs tell what it was worth: the position is in dollars at the price of its opening."""
    decrease, closing = close
    log, venue = decrease.log, decrease.venue or ""
    account, _, token, is_long = close.words
    key = log.chain, COIN.fact, token
    if key not in facts:
        missing = MissingFact(*key)
        return UndecodedLog(venue, log, str(missing), SPEC.decoder_version, missing)
    entry, price = decrease.number("sizeDelta"), decrease.number("price")
    row = PerpLiquidation(
        venue, log.event_key, log.block_number, log.block_hash, log.tx_hash, log.log_index,
        log.address, ":".join(filter(None, (token, facts[key]))), "perp", "market", account,
        sent.sender, USD_QUOTE, "isolated", SPEC.decoder_version,
        counterparty_kind="pool",
        side="long" if is_long else "short",
        price=scaled(price, PLACES),
        mark_price=scaled(price, PLACES),
        notional_entry=scaled(entry, PLACES),
        position_after=Decimal(0),
        is_full_close=True,
        fee=scaled(decrease.number("fee"), PLACES),
    )  # fmt: skip
    return _sized(row, entry, closing.number("averagePrice"), price)


def _sized(row: PerpLiquidation, entry: int, opened: int, price: int) -> PerpLiquidation:
    """A position is in dollars: of the token it is what those bought at the price of its opening.

    gmx-io/gmx-contracts:contracts/core/Vault.sol, getDelta"""
    if opened == 0:
        return row
    size_raw = entry * 10**SIZE // opened
    notional = scaled(size_raw * price, SIZE + PLACES)
    return row.with_(
        size=scaled(size_raw, SIZE),
        notional=notional,
        notional_mark=notional,
        position_before=scaled(size_raw if row.side == "long" else -size_raw, SIZE),
    )


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """Its family's name, so that ether is one asset on all venues, else its own symbol; a token
    without one has no name here either."""
    (answer,) = yield [call(missing.subject, "symbol()")]
    name = coin(missing.chain, missing.subject) or clean(raw_text(answer))
    return (missing.told(name),)


SPEC = ProtocolSpec(
    name="gmx_v1",
    kind="perp",
    contracts={
        "vault": Contract(
            abi="gmx_v1_vault.json",
            events={
                "LiquidatePosition": PerpMap(
                    account="account",
                    market=("indexToken", COIN),
                    quote=USD_QUOTE,
                    margin_mode="isolated",
                    then=_closed,
                ),
                # as the vault does it; an owner may name no collateral either
                "DecreasePosition": SiblingMap(when={"collateralDelta": (0,)}, is_candidate=True),
                "ClosePosition": SiblingMap(is_candidate=True),
            },
        )
    },
    bystander=Contract(
        abi="gmx_v1_orders.json",
        events={"ExecuteDecreasePosition": SIBLING, "ExecuteDecreaseOrder": SIBLING},
    ),
    asks_for_bystander=True,
    reads_calls=True,
    join=join,
    decoder_version=2,
    deployments=deployments("gmx_v1"),
    asks={COIN.fact: _coin},
    methodology=(
        "LiquidatePosition closes a whole position, of `size` dollars at the price of its opening,"
        " at `markPrice`. What it was worth at the close and how much of the token it was is"
        " unknown: the event leaves out the price of the opening. All of `collateral` is lost; its"
        " `realisedPnl` is what closes before this one realised. The liquidator is unknown. A"
        " position above the highest leverage with collateral left is closed as its owner would"
        " close it, with DecreasePosition, whose `collateralDelta` is 0, and ClosePosition: it is a"
        " liquidation where the transaction calls for it, and none where a router or an order book"
        " logs the execution of such an order, where the account itself sends or is sent the"
        " transaction, or where that executes orders. Of anything else nobody can tell, and it"
        " stays undecoded. Such a row is `sizeDelta` over `averagePrice` of the token, cut to 18"
        " digits after the point, worth that times `price`; its `fee` is what the vault charged"
        " and its liquidator whoever sent the transaction. Forks are taken to emit the same"
        " events; nobody checked each."
    ),
)
