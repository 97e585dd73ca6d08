"""Every account's fills, added up by day: whales are known before they are liquidated."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal, Overflow, getcontext
from functools import cache
from itertools import chain, groupby
from operator import attrgetter, length_hint
from typing import Literal

import msgspec

from indexer.model import AccountDay, BlockLine, RawEvent, Undecoded
from indexer.venues.hyperliquid import (
    EVENTS,
    HOUSEKEEPING_DIRS,
    MAIN_QUOTE,
    SPEC,
    market_of,
    unknown_event,
)

_MAIN, _HIP3, _NO_PERP = "main", "hip3", "no perp"


@cache
def kind_of(coin: str) -> str:
    """Whether a coin is a perpetual of the main dex, of a HIP-3 dex, or none."""
    perp = market_of(coin)
    if perp is None:
        return _NO_PERP
    return _HIP3 if perp.dex else _MAIN


class DayFill(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The part of a fill that an account's day needs; parsing less is what makes it fast, and so
    does the order, which is that of the node."""

    coin: str
    px: str
    sz: str
    side: Literal["A", "B"]
    start_position: str
    dir: str
    closed_pnl: str
    fee_token: str = MAIN_QUOTE


_HIGHEST = Decimal("1e30")  # no sum of money is beyond; a comparison with NaN raises
_DAY_FILL = msgspec.json.Decoder(tuple[str, DayFill])
_DAY_FILLS = msgspec.json.Decoder(list[tuple[str, DayFill]])


class _Sum:
    """The running sums of one account, day and quote token."""

    __slots__ = ("fills", "largest", "largest_market", "other_fills", "pnl", "volume")

    def __init__(self) -> None:
        self.fills = self.other_fills = 0
        self.volume = self.pnl = self.largest = Decimal(0)
        self.largest_market = ""


class AccountDays:
    """Adds up every account's fills into days. Fills that are no perp trade (spot, outcome tokens,
    dust, netting, settlement) are only counted, on the row of the dex's quote token.

    Works in the caller's decimal context, which should be `EXACT`.
    """

    def __init__(self) -> None:
        self._days: dict[date, _Day] = {}

    def __len__(self) -> int:
        return sum(len(sums) for day in self._days.values() for sums in day.quotes.values())

    def add(self, lines: Sequence[BlockLine]) -> Iterator[tuple[RawEvent, Undecoded]]:
        """Add the fills of blocks while giving those of no known shape, or with NaN and the like in
        them, which are in no sum. Nothing is added but by iterating.

        Raises UnreadableEvents at a block whose events are no list; those before it are added.
        """
        if len(days := set(map(datetime.date, map(_block_at, lines)))) == 1:  # a step within a day
            yield from self._days.setdefault(days.pop(), _Day()).add(lines)
            return
        for day, of_day in groupby(lines, key=_day_of):
            yield from self._days.setdefault(day, _Day()).add(list(of_day))

    def rows(self) -> list[AccountDay]:
        """The days so far, in the order of their keys."""
        return [
            AccountDay(
                SPEC.name, account, day, quote, s.fills, s.other_fills, s.volume, s.pnl, s.largest,
                s.largest_market,
            )
            for day, sums_of in sorted(self._days.items())
            for quote, sums in sorted(sums_of.quotes.items())
            for account, s in sorted(sums.items())
            if s.fills or s.other_fills
        ]  # fmt: skip


_events_of, _block_at = attrgetter("events"), attrgetter("block_at")


def _in_no_day(body: bytes, line: BlockLine, error: Exception) -> tuple[RawEvent, Undecoded]:
    return unknown_event(body, line, f"in no account's day: {error}")


def _day_of(line: BlockLine) -> date:
    return line.block_at.date()


class UnreadableEvents(Exception):
    """The events of a block are no list."""

    def __init__(self, line: BlockLine, error: msgspec.MsgspecError) -> None:
        super().__init__(str(error))
        self.line = line


class _OutOfRange(Exception):
    """A fill whose numbers no market has."""

    def __init__(self, pair: tuple[str, DayFill] | None) -> None:
        super().__init__("number out of range")
        self._pair = pair

    def body_in(self, line: BlockLine) -> bytes:
        """The fill as it stands in its block."""
        bodies = (bytes(body) for body in EVENTS.decode(line.events))
        return next(body for body in bodies if _DAY_FILL.decode(body) == self._pair)


class _Day:
    """The sums of one day: by quote token, then by account."""

    def __init__(self) -> None:
        self.quotes: dict[str, dict[str, _Sum]] = {MAIN_QUOTE: {}}

    def add(self, lines: Sequence[BlockLine]) -> Iterator[tuple[RawEvent, Undecoded]]:
        """Add the fills of blocks, all through one loop; see AccountDays.add."""
        ahead = iter(lines)
        while length_hint(ahead):
            fills = chain.from_iterable(map(_DAY_FILLS.decode, map(_events_of, ahead)))
            while True:
                try:
                    self._add_fills(fills)
                    break
                except _OutOfRange as error:  # the fills after this one are still in the chain
                    line = lines[-length_hint(ahead) - 1]
                    yield _in_no_day(error.body_in(line), line, error)
                except msgspec.MsgspecError:  # none of this block is added, the chain is at its end
                    yield from self._add_one_by_one(lines[-length_hint(ahead) - 1])
                    break

    def _add_one_by_one(self, line: BlockLine) -> Iterator[tuple[RawEvent, Undecoded]]:
        try:
            bodies = [bytes(body) for body in EVENTS.decode(line.events)]
        except msgspec.MsgspecError as error:
            raise UnreadableEvents(line, error) from error
        for body in bodies:
            try:
                self._add_fills(iter([_DAY_FILL.decode(body)]))
            except (msgspec.MsgspecError, _OutOfRange) as error:
                yield _in_no_day(body, line, error)

    # One loop, almost without calls of our own: two million fills an hour pass here.
    def _add_fills(self, fills: Iterator[tuple[str, DayFill]]) -> None:
        """The two legs of a trade stand side by side and share price and size.

        Raises _OutOfRange at a fill with NaN and the like, which is in no sum."""
        number = getcontext().create_decimal  # a fifth faster than Decimal
        housekeeping, hip3, no_perp = HOUSEKEEPING_DIRS, _HIP3, _NO_PERP
        main, kind = self.quotes[MAIN_QUOTE], no_perp
        last_coin = px_text = sz_text = ""
        price = size = notional = Decimal(0)
        lowest, highest = -_HIGHEST, _HIGHEST
        pair = None
        try:
            for pair in fills:
                user, fill = pair
                coin = fill.coin
                if coin != last_coin:
                    last_coin, kind = coin, kind_of(coin)
                sums = main if kind is not hip3 else self._sums_in(fill.fee_token)
                try:
                    total = sums[user]
                except KeyError:
                    total = sums[user] = _Sum()
                if kind is no_perp or fill.dir in housekeeping:
                    total.other_fills += 1
                    continue
                px, sz = fill.px, fill.sz
                if sz != sz_text or px != px_text:
                    sz_text = ""  # not the numbers of this text until they are checked
                    price, size = number(px), number(sz)
                    notional = price * size
                    if not lowest < notional < highest:
                        raise Overflow
                    px_text, sz_text = px, sz
                # the larger of the position before and after, without its sign
                start = fill.start_position
                if start == "0.0":
                    position = notional
                else:
                    is_short = start[0] == "-"
                    position = -number(start) if is_short else number(start)
                    if (fill.side == "A") is is_short:
                        position += size
                    elif position < size:
                        position = max(position, size - position)
                    position *= price
                pnl, gain = None, fill.closed_pnl
                if gain != "0.0":
                    pnl = total.pnl + number(gain)
                    if not lowest < pnl < highest:
                        raise Overflow
                if position >= total.largest:
                    if position > highest:
                        raise Overflow
                    if position > total.largest or coin < total.largest_market:
                        total.largest, total.largest_market = position, coin
                if pnl is not None:
                    total.pnl = pnl
                total.fills += 1
                total.volume += notional
        except ArithmeticError as error:
            raise _OutOfRange(pair) from error

    def _sums_in(self, quote: str) -> dict[str, _Sum]:
        return self.quotes.setdefault(quote, {})
