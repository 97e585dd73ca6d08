"""dYdX v4. Each fill of a liquidation order, and each fill of a deleveraging, is one `match` event
in the results of a block; it names both sub-accounts and what moved between them.

[S] dydxprotocol/v4-chain: protocol/x/clob/types/events.go names the attributes, written as plain
text, as CometBFT does from 0.37 on (the chain was on Cosmos SDK 0.47 before it began, pull request
110, and is on CometBFT 0.38: protocol/go.mod). process_single_match.go and deleveraging.go in
protocol/x/clob/keeper say what stands in them. No real event of it is public: the tests are encoded
from these sources.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from hashlib import sha256
from typing import NamedTuple

import msgspec

from indexer.dydx_format import Block, Deleveraging, Perpetual, operations, subaccount
from indexer.model import (
    EXACT,
    CounterpartyKind,
    Liquidation,
    Method,
    RawEvent,
    Undecoded,
    Venue,
)

SPEC = Venue(
    name="dydx_v4",
    chain="dydx_v4",
    decoder_version=1,
    methodology=(
        "One row for each `match` event with `is_liquidation` or `is_deleverage`: the taker is the"
        " liquidated sub-account, the maker the other side. The notional is what the fill itself"
        " moved, without fees and without the insurance fund's part, which is the fee; the price is"
        " notional over size. `is_liquidation` closes in the order book, `market`; `is_deleverage`"
        " is `adl_of_user`, taken over by `adl_winner` at the bankruptcy price. A deleveraging that"
        " the block's proposer marks as final settlement, at the oracle's price in a market that"
        " ends, is no liquidation and no row."
    ),
)

QUOTE = "USDC"
QUOTE_EXPONENT = -6  # [S] protocol/lib/constants.go: QuoteCurrencyAtomicResolution
NEEDLE = b'"match"'  # [S] events.go: EventTypeMatch
# A quotient has no end; the exact amounts stand beside it.
PRICE = Context(prec=28, rounding=ROUND_HALF_EVEN)
MOST_QUANTUMS = 10**30  # as for other perpetuals: no market has such numbers
MOST_RESOLUTION = 30

OPERATION, SETTLEMENT = "deleveraging", "final_settlement"


class _Attribute(msgspec.Struct, gc=False):
    key: str
    value: str | None = None


class _Event(msgspec.Struct, gc=False):
    type: str
    attributes: list[_Attribute] | None = None


_EVENT = msgspec.json.Decoder(_Event)


class Marked(NamedTuple):
    """A match event that was forced, or may have been, and the operation that proposed it where it
    is a deleveraging: the key of that ends with what it is."""

    raw: RawEvent
    operation: RawEvent | None = None

    @property
    def is_settlement(self) -> bool:
        """Whether it is a final settlement, and so no liquidation."""
        operation = self.operation
        return operation is not None and operation.event_key.endswith(f"/{SETTLEMENT}")


class Contradiction(Exception):
    """The results of a block are not those of its transactions."""


def marked(block: Block) -> list[Marked]:
    """The match events of a block that carry a mark or cannot be read.

    Raises Contradiction where the results lack what the block's own proposer wrote into it, as they
    do where a node leaves out events."""
    if len(block.results) != len(block.txs):
        raise Contradiction(f"{len(block.txs)} transactions, {len(block.results)} results")
    found: list[tuple[RawEvent, dict[str, str]]] = []
    liquidations = 0
    proposed: list[Deleveraging] = []
    for tx, result in zip(block.txs, block.results, strict=True):
        found += _forced(block, sha256(tx).hexdigest().upper(), result.events)
        if result.code == 0:
            try:
                said = operations(tx)
            except (ValueError, UnicodeDecodeError) as error:
                raise Contradiction(f"a transaction cannot be read: {error}") from None
            liquidations += said.liquidations
            proposed += said.deleveragings
    for name, events in block.others:
        found += _forced(block, name, events)
    told = Counter(attributes.get("is_deleverage") == "true" for _, attributes in found)
    if told[False] < liquidations or told[True] < len(proposed):
        raise Contradiction(
            f"its transactions hold {liquidations} fills of liquidations and {len(proposed)} of"
            f" deleveragings, its results {told[False]} and {told[True]}"
        )
    return [Marked(raw, _operation(raw, attributes, proposed)) for raw, attributes in found]


def _forced(
    block: Block, place: str, events: Sequence[bytes]
) -> Iterator[tuple[RawEvent, dict[str, str]]]:
    for number, body in enumerate(events):
        if NEEDLE not in body:
            continue
        text = body.decode("utf-8", "backslashreplace")
        raw = RawEvent(
            SPEC.chain, f"{block.height}/{place}/{number}", block.height, block.at, text,
            block.source, block.height,
        )  # fmt: skip
        attributes = _attributes(text)
        if attributes is None or _is_forced(attributes):
            yield raw, attributes or {}


def _attributes(body: str) -> dict[str, str] | None:
    """Those of a match event, empty where it is none of these; None where it cannot be read."""
    try:
        event = _EVENT.decode(body.encode())
    except msgspec.MsgspecError:
        return None
    if event.type != "match":
        return {"is_liquidation": "false", "is_deleverage": "false"}
    found = {one.key: one.value or "" for one in event.attributes or ()}
    return found if len(found) == len(event.attributes or ()) else None


def _is_forced(attributes: Mapping[str, str]) -> bool:
    """Whether it was, or does not clearly say that it was not."""
    said = attributes.get("is_liquidation"), attributes.get("is_deleverage")
    return said != ("false", "false")


def _operation(
    raw: RawEvent, attributes: Mapping[str, str], proposed: Sequence[Deleveraging]
) -> RawEvent | None:
    """The operation that a deleveraging was proposed by; None where none, or where two that are
    not of one kind, could be it."""
    if attributes.get("is_deleverage") != "true":
        return None
    try:
        match = _match(attributes)
    except _Unreadable:
        return None
    same = [
        one for one in proposed
        if (one.liquidated, one.perpetual, one.offsetting, one.quantums)
        == (match.taker, match.perpetual, match.maker, abs(match.base))
    ]  # fmt: skip
    if len({one.is_final_settlement for one in same}) != 1:
        return None
    kind = SETTLEMENT if same[0].is_final_settlement else OPERATION
    body = b64encode(same[0].operation).decode()
    return msgspec.structs.replace(raw, event_key=f"{raw.event_key}/{kind}", body=body)


# -- one event -----------------------------------------------------------------------------------


class _Unreadable(Exception):
    """The reason why an event is no row."""


class _Match(NamedTuple):
    """What an event says: accounts, what moved in base and quote quantums as the taker saw it, the
    quote without what either paid beside the fill."""

    taker: str
    maker: str
    perpetual: int
    base: int
    quote: int
    fee: int
    is_deleverage: bool


def _match(attributes: Mapping[str, str]) -> _Match:
    """Read the attributes. Raises _Unreadable with the reason."""
    flags = _flag(attributes, "is_liquidation"), _flag(attributes, "is_deleverage")
    if flags[0] == flags[1]:
        raise _Unreadable("both a liquidation and a deleveraging" if flags[0] else "no mark")
    base, other = (
        _quantums(attributes, f"{who}_perpetual_quantums_delta_base_quantums")
        for who in ("taker", "maker")
    )
    insurance = _quantums(attributes, "insurance_fund_delta_quote_quantums")
    paid = _quantums(attributes, "taker_order_fee_quote_quantums")
    quote, back = (
        _quantums(attributes, f"{who}_quote_balance_delta_quote_quantums")
        + _quantums(attributes, f"{who}_order_fee_quote_quantums")
        # builder fees came with a later version: there is none where the attribute is absent
        + _quantums(attributes, f"{who}_builder_fee_quantums", absent=0)
        for who in ("taker", "maker")
    )
    quote += insurance
    if base + other or quote + back:
        raise _Unreadable(
            f"the sides disagree: base {base} and {other}, quote without fees {quote} and {back}"
        )
    if base == 0:
        raise _Unreadable("nothing changed hands")
    if base * quote > 0:
        raise _Unreadable(f"base {base} and quote {quote} moved the same way")
    return _Match(
        _account(attributes, "taker"), _account(attributes, "maker"),
        _whole(attributes, "perpetual_id"), base, quote, paid + insurance, flags[1],
    )  # fmt: skip


def _text(attributes: Mapping[str, str], key: str) -> str:
    if key not in attributes:
        raise _Unreadable(f"no attribute {key}")
    return attributes[key]


def _flag(attributes: Mapping[str, str], key: str) -> bool:
    text = _text(attributes, key)
    if text not in ("true", "false"):
        raise _Unreadable(f"{key} is {text[:40]!r}")
    return text == "true"


def _quantums(attributes: Mapping[str, str], key: str, *, absent: int | None = None) -> int:
    if absent is not None and not attributes.get(key):
        return absent
    text = _text(attributes, key)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_QUANTUMS))):
        raise _Unreadable(f"{key} is {text[:40]!r}")
    return int(text)


def _whole(attributes: Mapping[str, str], key: str) -> int:
    number = _quantums(attributes, key)
    if not 0 <= number < 1 << 32:  # uint32
        raise _Unreadable(f"{key} is {number}")
    return number


def _account(attributes: Mapping[str, str], who: str) -> str:
    owner = _text(attributes, f"{who}_subaccount")
    # [S] indexer/services/comlink/src/lib/validation/schemas.ts: isValidAddress
    if not (owner.isascii() and owner.isalnum() and len(owner) <= 90):
        raise _Unreadable(f"{who}_subaccount is {owner[:40]!r}")
    return subaccount(owner, _whole(attributes, f"{who}_subaccount_number"))


def perpetual_of(event: Marked) -> int | None:
    """The perpetual that must be known to decode an event; None where nothing helps."""
    try:
        return _match(_attributes(event.raw.body) or {}).perpetual
    except _Unreadable:
        return None


def decode(event: Marked, perpetuals: Mapping[int, Perpetual]) -> Liquidation | Undecoded:
    """Make the row of an event; of a final settlement, the row that it would be."""
    try:
        match = _match(_attributes(event.raw.body) or {})
        return _row(event, match, perpetuals.get(match.perpetual))
    except _Unreadable as reason:
        raw = event.raw
        return Undecoded(
            SPEC.name, raw.event_key, raw.block_number, raw.block_at, str(reason),
            SPEC.decoder_version,
        )  # fmt: skip


def _row(event: Marked, match: _Match, perpetual: Perpetual | None) -> Liquidation:
    raw = event.raw
    if match.is_deleverage and event.operation is None:
        raise _Unreadable("its block does not say whether this deleveraging is a final settlement")
    if perpetual is None:
        raise _Unreadable(f"perpetual {match.perpetual}: its resolution is unknown")
    if abs(perpetual.atomic_resolution) > MOST_RESOLUTION:
        raise _Unreadable(f"perpetual {match.perpetual}: resolution {perpetual.atomic_resolution}")
    size = _scaled(abs(match.base), perpetual.atomic_resolution)
    notional = _usdc(abs(match.quote))
    market = market_of(perpetual.ticker)
    place = raw.event_key.split("/")[1]
    method: Method = "adl_of_user" if match.is_deleverage else "market"
    kind: CounterpartyKind = "adl_winner" if match.is_deleverage else "maker"
    return Liquidation(
        venue=SPEC.name,
        event_key=raw.event_key,
        account=match.taker,
        block_number=raw.block_number,
        block_at=raw.block_at,
        tx_hash=place if len(place) == 64 else None,
        method=method,
        market=market,
        dex="",
        quote=QUOTE,
        side="long" if match.base < 0 else "short",
        size=size,
        price=_plain(PRICE.divide(notional, size)),
        notional=notional,
        mark_price=None,
        notional_mark=None,
        position_before=None,
        position_after=None,
        is_full_close=None,
        fee=_usdc(match.fee),
        fee_asset=QUOTE,
        realised_pnl=None,
        margin_mode=None,
        order_id=f"{raw.block_number}/{match.taker}/{match.perpetual}",
        trade_id=None,
        counterparty=match.maker,
        counterparty_kind=kind,
        liquidator=None,
        account_is_protocol_vault=False,
        dir_liquidated=None,
        dir_counterparty=None,
        legs_seen="both",
        decoder_version=SPEC.decoder_version,
    )


def _usdc(quantums: int) -> Decimal:
    return _scaled(quantums, QUOTE_EXPONENT)


def _scaled(quantums: int, exponent: int) -> Decimal:
    return _plain(EXACT.scaleb(Decimal(quantums), exponent))


def _plain(number: Decimal) -> Decimal:
    """Without an exponent, and without the zeros that the quantums bring along."""
    return Decimal(format(EXACT.normalize(number), "f"))


def market_of(ticker: str) -> str:
    """A market by its ticker, with a colon and what it is the price of, as on chains."""
    base = ticker.removesuffix("-USD")
    return ticker if base == ticker else f"{ticker}:{base}"
