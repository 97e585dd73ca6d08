"""The nouns: frozen, slotted, cheap to build by the ten thousand.

Amounts are `Decimal` in the unit their name says; times are aware UTC datetimes.
"""

from datetime import date, datetime
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import Literal

import msgspec

from indexer.errors import SourceFault

# Sums and products of money are exact or an error, never rounded in silence.
EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow, DivisionByZero])

Method = Literal[
    "market",  # closed at the venue's price: in its book, against its pool, by a liquidator
    "backstop",  # taken over by the venue's own vault or fund
    "adl_of_user",
    "adl_of_vault",
    "borrow_partial",
    "borrow_backstop",
]
Side = Literal["long", "short"]
LegsSeen = Literal["both", "liquidated", "counterparty"]
CounterpartyKind = Literal["maker", "protocol_vault", "adl_winner", "liquidator", "pool"]
Facts = Literal["liquidations", "account_days", "ledger_liquidations"]
Verification = Literal["every_height", "fills_only"]
Completeness = Literal["sample", "lower bound"]  # of records that prove nothing about others


class Venue(msgspec.Struct, frozen=True, gc=False):
    """What users see of a protocol on a chain; `decoder_version` rises when its rows change."""

    name: str
    chain: str
    decoder_version: int
    methodology: str


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """What was published, to the byte, and where we read it.

    `event_key` stays the same whenever and wherever the event is read again. `block_number` is
    None where neither the envelope nor the transaction hash tells it.
    """

    chain: str
    event_key: str
    block_number: int | None
    block_at: datetime
    body: str
    source: str
    line: int


class Liquidation(msgspec.Struct, frozen=True, gc=False):
    """One venue record, one row. What is unknown is None; zero means zero.

    `size`, `position_*` are in units of the market, `price`, `notional*`, `realised_pnl` in
    `quote`, `fee` in `fee_asset`. `side` is the side of the position that was liquidated.
    """

    venue: str
    event_key: str
    account: str
    block_number: int | None
    block_at: datetime
    tx_hash: str | None
    method: Method
    market: str
    dex: str
    quote: str | None
    side: Side
    size: Decimal
    price: Decimal
    notional: Decimal
    mark_price: Decimal | None
    notional_mark: Decimal | None
    position_before: Decimal | None
    position_after: Decimal | None
    is_full_close: bool | None
    fee: Decimal | None
    fee_asset: str | None
    realised_pnl: Decimal | None
    margin_mode: Literal["cross", "isolated"] | None
    order_id: str | None
    trade_id: str | None
    counterparty: str | None
    counterparty_kind: CounterpartyKind | None
    liquidator: str | None
    account_is_protocol_vault: bool
    dir_liquidated: str | None
    dir_counterparty: str | None
    legs_seen: LegsSeen
    decoder_version: int


class AnonymousLiquidation(msgspec.Struct, frozen=True, gc=False):
    """A liquidation of which the venue does not say whose it was. Never a row among those that do.

    `lacks` names what is not told, `completeness` how far the records of the venue go."""

    venue: str
    event_key: str
    block_number: int | None
    block_at: datetime
    tx_hash: str | None
    method: Method | None
    market: str
    quote: str | None
    side: Side | None
    size: Decimal
    price: Decimal
    notional: Decimal
    trade_id: str | None
    lacks: tuple[str, ...]
    completeness: Completeness
    decoder_version: int


class Undecoded(msgspec.Struct, frozen=True, gc=False):
    """An event that carries a liquidation mark and could not be made a row, with the reason."""

    venue: str
    event_key: str
    block_number: int | None
    block_at: datetime
    reason: str
    decoder_version: int


class LedgerLiquidation(msgspec.Struct, frozen=True, gc=False):
    """The exchange ledger's account action: the whole account valued at mark. Never summed with
    fills; `positions` is JSON text, a list of coin and signed size as published."""

    venue: str
    event_key: str
    account: str
    tx_hash: str
    block_number: int | None
    block_at: datetime
    account_value: Decimal
    margin_mode: str
    notional_mark: Decimal
    positions: str


class AccountDay(msgspec.Struct, frozen=True, gc=False):
    """What one account did on one UTC day in one quote token. Adds up over disjoint blocks.

    `maker_bought` and `maker_sold` are the parts of `volume` in which another met its order,
    `maker_markets` where, in the order of their names."""

    venue: str
    account: str
    day: date
    quote: str
    fills: int
    other_fills: int
    volume: Decimal
    realised_pnl: Decimal
    largest_position: Decimal
    largest_position_market: str
    maker_bought: Decimal
    maker_sold: Decimal
    maker_markets: tuple[str, ...]


class MarketMinute(msgspec.Struct, frozen=True, gc=False):
    """The last trade of a market in the minute that begins at `minute`: its price in `quote`, and
    the block that it stands in. `token` is what a pair of two dollar tokens prices, None of a
    perpetual."""

    venue: str
    market: str
    minute: datetime
    token: str | None
    quote: str
    last_price: Decimal
    last_at: datetime
    last_block: int


class BlockLine(msgspec.Struct, frozen=True, gc=False):
    """One block as a source published it; `events` is the JSON text of its list of events.

    `block_number` is None where the source names no height. `has_needle` says whether the bytes
    that every liquidation mark contains are in it, `is_again` that a restarted node wrote it a
    second time: it adds to no sum."""

    block_number: int | None
    block_at: datetime
    events: bytes
    has_needle: bool
    source: str
    line: int
    is_again: bool = False

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.source}:{self.line}"


class CoveredBlocks(msgspec.Struct, frozen=True, gc=False):
    """Blocks `block_from` up to, not including, `block_to` were read whole.

    `first_at` and `last_at` are the times of the first and the last of them."""

    block_from: int
    block_to: int
    first_at: datetime
    last_at: datetime
    verification: Verification


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """What one read brought: which blocks it held whole, and the lines a decoder must see.

    `sample` are lines without the needle that are parsed all the same, to keep the prefilter
    honest. `size` is how far the source was read, in stored bytes. `fault` says why the source
    could not be read on; what stands before it holds, and `unread` bytes follow it."""

    covered: tuple[CoveredBlocks, ...] = ()
    lines: tuple[BlockLine, ...] = ()
    sample: tuple[BlockLine, ...] = ()
    size: int = 0
    fault: SourceFault | None = None
    unread: int = 0


class ProtocolVault(msgspec.Struct, frozen=True, gc=False):
    """An account of the exchange itself; never a liquidated user, never a whale."""

    account: str
    name: str
    valid_from: date | None
    valid_to: date | None
    source: str


class Rule(msgspec.Struct, frozen=True):
    """How a label or a size flag comes about.

    `query` is one set-based SELECT with `%(name)s` for each parameter. A flag rule selects venue,
    account, level, subject_key, value_usd, threshold_usd, occurred_at; a label rule venue, account,
    label, confidence, evidence, valid_during, the times that it holds. `sentence` is printed in
    reports, filled with the parameters.

    A rule of accounts looks at `%(accounts)s`, an array, NULL for all: what it finds of an account
    must follow from that account's facts alone, and not from when it runs. `reads` names those
    facts, as triggers note them in `ledger.changed_account`: where none of them changed, there is
    nothing to look at; None where it may be any. Where it reads liquidations alone, flags of before
    `%(since)s` need not be found again.

    A rule of days looks at episodes that ended on `%(on_days)s`, NULL for all; `reach` names the
    parameter that says for how many days after it a day matters.
    Sizes are those of `%(definition)s`.

    `least` names the parameter below which no episode makes it find anything. `needs` is a
    relation, or a SELECT in brackets with `%(name)s` for parameters, with the accounts that alone
    it can find something of: what is none of these need not be asked.
    """

    id: str
    version: int
    makes: Literal["flags", "labels"]
    sentence: str
    parameters: dict[str, object]
    query: str
    reads: tuple[str, ...] | None = None
    of: Literal["accounts", "days"] = "accounts"
    reach: str = ""
    least: str = ""
    needs: str = ""

    def __str__(self) -> str:
        return self.sentence.format(**self.parameters)
