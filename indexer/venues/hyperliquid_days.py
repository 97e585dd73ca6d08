"""Every account's fills, added up by day: whales are known before they are liquidated."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, Overflow, getcontext
from operator import length_hint
from typing import Literal, NamedTuple

import msgspec

from indexer.model import AccountDay, BlockLine, MarketMinute, RawEvent, Undecoded
from indexer.venues.hyperliquid import (
    EVENTS,
    HOUSEKEEPING_DIRS,
    MAIN_QUOTE,
    SPEC,
    market_of,
    unknown_event,
)

# The pairs in which other dollar tokens trade against USDC, as a wallet has them (@166 is USDT0 by
# the fee tokens of its fills on 2025-10-27, too):
# https://github.com/RabbyHub/Rabby/blob/develop/src/ui/views/Perps/constants.ts
DOLLAR_PAIRS = {"@150": "USDE", "@166": "USDT0", "@230": "USDH"}

# Who trades so meets another's order. A dir that is none of these, as of a takeover or a
# deleveraging, is at a price that nobody offered, and nobody made it.
_IN_THE_BOOK = frozenset(
    {"Open Long", "Open Short", "Close Long", "Close Short", "Long > Short", "Short > Long"}
)
_SPOT_DIRS = frozenset({"Buy", "Sell"})

_MAIN, _HIP3, _DOLLAR_PAIR, _NO_PERP = "main", "hip3", "dollar pair", "no perp"
_MINUTE, _NEVER = timedelta(minutes=1), datetime.max.replace(tzinfo=UTC)


def kind_of(coin: str) -> str:
    """Whether a coin is a perpetual of the main dex, of a HIP-3 dex, a pair of two dollar tokens,
    or none of them."""
    perp = market_of(coin)
    if perp is None:
        return _DOLLAR_PAIR if coin in DOLLAR_PAIRS else _NO_PERP
    return _HIP3 if perp.dex else _MAIN


class DayFill(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The part of a fill that an account's day and a market's minute need; parsing less is what
    makes it fast, and so does the order, which is that of the node."""

    coin: str
    px: str
    sz: str
    side: Literal["A", "B"]
    start_position: str
    dir: str
    closed_pnl: str
    crossed: bool | None = None
    fee_token: str = MAIN_QUOTE


_HIGHEST = Decimal("1e30")  # no sum of money is beyond; a comparison with NaN raises
_SURELY = 1 - 1e-9  # of a float: the few roundings on the way are a million times less
_DAY_FILL = msgspec.json.Decoder(tuple[str, DayFill])
_DAY_FILLS = msgspec.json.Decoder(list[tuple[str, DayFill]])


class _Sum:
    """The running sums of one account, day and quote token. The volume is what was bought and sold
    as a maker and all the rest."""

    __slots__ = (
        "beneath", "bought", "fills", "largest", "largest_market", "markets", "other_fills", "pnl",
        "rest", "sold",
    )  # fmt: skip

    def __init__(self) -> None:
        self.beneath = 0.0  # what is less than this, roughly, is less than the largest, exactly
        self.fills = self.other_fills = 0
        self.bought = self.sold = self.rest = self.pnl = self.largest = Decimal(0)
        self.largest_market = ""
        self.markets: set[str] | None = None


class _Last(NamedTuple):
    """The last trade of a market in a minute, as far as blocks were read."""

    block_number: int
    at: datetime
    price: str
    quote: str


class _Coin:
    """What all fills of a coin share: its name as one object, which a set finds without comparing,
    its kind, and its last trade in the minute that is read; `line` is None before that."""

    __slots__ = ("kind", "line", "name", "price", "quote")

    def __init__(self, name: str) -> None:
        self.name, self.kind = name, kind_of(name)
        self.line: BlockLine | None = None
        self.price = self.quote = ""


class _Coins(dict[str, _Coin]):
    """All coins that were met."""

    def __missing__(self, name: str) -> _Coin:
        self[name] = _Coin(name)
        return self[name]


class AccountDays:
    """Adds up every account's fills into days, and keeps what each market traded at last in each
    minute. Fills that are no perp trade (spot, outcome tokens, dust, netting, settlement) are only
    counted, on the row of the dex's quote token.

    Works in the caller's decimal context, which should be `EXACT`.
    """

    def __init__(self) -> None:
        self._days: dict[date, dict[str, dict[str, _Sum]]] = {}
        self._minutes: dict[datetime, dict[str, _Last]] = {}
        self._coins = _Coins()

    def __len__(self) -> int:
        days = sum(len(sums) for quotes in self._days.values() for sums in quotes.values())
        return days + sum(map(len, self._minutes.values()))

    def add(self, lines: Sequence[BlockLine]) -> Iterator[tuple[RawEvent, Undecoded]]:
        """Add the fills of blocks, in the order of their heights, while giving those of no known
        shape, or with NaN and the like in them, which are in no sum. Nothing is added but by
        iterating.

        Raises UnreadableEvents at a block whose events are no list; those before it are added.
        """
        ahead = iter(lines)
        while length_hint(ahead):
            try:
                self._add_blocks(ahead)
            except _OutOfRange as error:  # what stands before it in its block is added
                yield from self._add_one_by_one(error.line, error.unread)
            except msgspec.MsgspecError:  # none of this block is added
                yield from self._add_one_by_one(lines[-length_hint(ahead) - 1])

    def rows(self) -> list[AccountDay]:
        """The days so far, in the order of their keys."""
        return [
            AccountDay(
                SPEC.name, account, day, quote, s.fills, s.other_fills, s.bought + s.sold + s.rest,
                s.pnl, s.largest, s.largest_market, s.bought, s.sold,
                tuple(sorted(s.markets or ())),
            )
            for day, quotes in sorted(self._days.items())
            for quote, sums in sorted(quotes.items())
            for account, s in sorted(sums.items())
            if s.fills or s.other_fills
        ]  # fmt: skip

    def minutes(self) -> list[MarketMinute]:
        """The minutes so far, in the order of their keys."""
        return [
            MarketMinute(
                SPEC.name, coin, minute, DOLLAR_PAIRS.get(coin), last.quote, price, last.at,
                last.block_number,
            )
            for minute, lasts in sorted(self._minutes.items())
            for coin, last in sorted(lasts.items())
            if (price := Decimal(last.price)) > 0
        ]  # fmt: skip

    def _add_one_by_one(
        self, line: BlockLine, last: int | None = None
    ) -> Iterator[tuple[RawEvent, Undecoded]]:
        """Add the fills of a block, or its last ones."""
        try:
            bodies = [bytes(body) for body in EVENTS.decode(line.events)]
        except msgspec.MsgspecError as error:
            raise UnreadableEvents(line, error) from error
        for body in bodies if last is None else bodies[-last:]:
            alone = msgspec.structs.replace(line, events=b"[%b]" % body)
            try:
                _DAY_FILL.decode(body)  # says where in the fill it cannot be read
                self._add_blocks(iter([alone]))
            except (msgspec.MsgspecError, _OutOfRange) as error:
                yield unknown_event(body, line, f"in no account's day: {error}")

    # One loop, almost without calls of our own: two million fills an hour pass here.
    def _add_blocks(self, ahead: Iterator[BlockLine]) -> None:
        """The two legs of a trade stand side by side and share price and size.

        Raises MsgspecError at a block that cannot be read, _OutOfRange at a fill with NaN and the
        like, which is in no sum."""
        number, decode = getcontext().create_decimal, _DAY_FILLS.decode  # faster than Decimal
        in_the_book, housekeeping, hip3, no_perp = _IN_THE_BOOK, HOUSEKEEPING_DIRS, _HIP3, _NO_PERP
        zero, lowest, highest = Decimal(0), -_HIGHEST, _HIGHEST
        price = size = notional = zero
        # Decimal, as float, takes what a text has around its number; nothing else may differ
        exact, rough, rough_price, rough_notional = Decimal, float, 0.0, 0.0
        px_text, sz_text, coin, kind = "", None, "", no_perp
        traded = _Coin(coin)
        day: dict[str, dict[str, _Sum]] = {}
        main: dict[str, _Sum] = {}
        sums, quote = main, MAIN_QUOTE
        since = until = _NEVER
        fills: Iterator[tuple[str, DayFill]] = iter(())
        line, is_market, coins = None, True, self._coins
        try:
            for line in ahead:
                if not since <= line.block_at < until:
                    self._keep_minute(since)
                    since = line.block_at.replace(second=0, microsecond=0)
                    until = since + _MINUTE
                    day = self._days.setdefault(since.date(), {MAIN_QUOTE: {}})
                    main = day[MAIN_QUOTE]
                    coin = ""
                fills = iter(decode(line.events))
                sz_text = None  # the same price in another block is a later one
                for user, fill in fills:
                    if fill.coin != coin:
                        sums, quote, sz_text = main, MAIN_QUOTE, None
                        traded = coins[fill.coin]
                        coin, kind = traded.name, traded.kind
                    if kind is hip3:
                        quote = fill.fee_token
                        sums = day.setdefault(quote, {})
                    try:
                        total = sums[user]
                    except KeyError:
                        total = sums[user] = _Sum()
                    crossed = fill.crossed
                    if kind is no_perp or fill.dir not in in_the_book:
                        if kind is no_perp or kind is _DOLLAR_PAIR or fill.dir in housekeeping:
                            if kind is _DOLLAR_PAIR and _is_spot_trade(fill):
                                traded.line, traded.price, traded.quote = line, fill.px, quote
                            total.other_fills += 1
                            continue
                        crossed, sz_text, is_market = None, None, False
                    px, sz = fill.px, fill.sz
                    if sz != sz_text or px != px_text:
                        sz_text = None  # not the numbers of this text until they are checked
                        price, size = number(px), number(sz)
                        notional = price * size
                        rough_price = rough(px)
                        rough_notional = rough_price * rough(sz)
                        if not zero < notional < highest:
                            if not lowest < notional < highest:
                                raise Overflow
                            is_market = False
                        if is_market:
                            traded.line, traded.price, traded.quote = line, px, quote
                            px_text, sz_text = px, sz
                        else:
                            is_market = True
                    # Most positions are far from their account's largest, which floats tell; what
                    # they cannot tell apart is computed, and so is what is no finite number.
                    start, is_sale = fill.start_position, fill.side == "A"
                    roughly = rough_notional + rough_price * abs(rough(start))
                    is_less = roughly < total.beneath
                    pnl, gain = None, fill.closed_pnl
                    if gain != "0.0":
                        pnl = total.pnl + number(gain)
                        if not lowest < pnl < highest:
                            raise Overflow
                    if not is_less:
                        # the larger of the position before and after, without its sign
                        position = exact(start)
                        is_short = position < zero
                        if is_short:
                            position = -position
                        if is_sale is is_short:
                            position += size
                        else:
                            roughly -= rough_notional
                            if position < size:
                                position = max(position, size - position)
                                roughly = max(roughly, rough_notional - roughly)
                        position *= price
                        if position >= total.largest:
                            if position > highest:
                                raise Overflow
                            if position > total.largest or coin < total.largest_market:
                                total.largest, total.largest_market = position, coin
                                total.beneath = roughly * _SURELY
                    if pnl is not None:
                        total.pnl = pnl
                    total.fills += 1
                    if crossed is not False:
                        total.rest += notional
                    else:
                        if is_sale:
                            total.sold += notional
                        else:
                            total.bought += notional
                        if total.markets is None:
                            total.markets = {coin}
                        else:
                            total.markets.add(coin)
        except msgspec.MsgspecError:  # a ValueError, too
            raise
        except (ArithmeticError, ValueError) as error:
            assert line is not None
            raise _OutOfRange(line, length_hint(fills) + 1) from error
        finally:
            self._keep_minute(since)

    def _keep_minute(self, minute: datetime) -> None:
        """Steps bring blocks in any order: of two trades the one in the higher block is the last,
        and within a block the one that stands behind. A trade id orders nothing: it is a hash."""
        for coin in self._coins.values():
            line, coin.line = coin.line, None
            if line is None:
                continue
            kept, height = self._minutes.setdefault(minute, {}), line.block_number or 0
            if coin.name not in kept or kept[coin.name].block_number <= height:
                kept[coin.name] = _Last(height, line.block_at, coin.price, coin.quote)


def _is_spot_trade(fill: DayFill) -> bool:
    """Whether it is at a price; spot fills are in no sum, so that no other check sees them."""
    try:
        return fill.dir in _SPOT_DIRS and 0 < Decimal(fill.px) < _HIGHEST
    except ArithmeticError:
        return False


class UnreadableEvents(Exception):
    """The events of a block are no list."""

    def __init__(self, line: BlockLine, error: msgspec.MsgspecError) -> None:
        super().__init__(str(error))
        self.line = line


class _OutOfRange(Exception):
    """A fill whose numbers no market has; with it, `unread` fills of its block are not added."""

    def __init__(self, line: BlockLine, unread: int) -> None:
        super().__init__("number out of range")
        self.line = line
        self.unread = unread
