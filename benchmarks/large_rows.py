"""What is large of a year of simulated liquidations, in whole numbers and without a database: the
truth that `benchmarks.labels` compares flags and labels with.

Of rows that come block by block, in the order of time, it keeps what may still become large alone:
ten million of them fit.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

from benchmarks.totals import GAP_MS, LEVELS
from benchmarks.year_of_rows import (
    BEGIN,
    BLOCK_ROWS,
    DAY_MS,
    LOANS_A_BLOCK,
    Row,
    loan,
    loans_of,
    perp,
    perps_of,
)

E8 = Decimal("1e-8")
USD = 10**8  # units of 1e-8
LARGE = 1_000_000 * USD
THRESHOLDS = (100_000_000 * USD, 10_000_000 * USD, LARGE)
REPEAT_TIMES, REPEAT_MS = 3, 90 * DAY_MS

Account = tuple[str, str]  # venue and account


class Flag(NamedTuple):
    """What SIZE_ABS says of a liquidation, order, action or episode."""

    venue: str
    account: str
    level: str
    value_usd: Decimal
    threshold_usd: Decimal
    occurred_at: datetime


class Repeated(NamedTuple):
    """What REPEAT says of an account, and of how many episodes together."""

    venue: str
    account: str
    valid_from: datetime
    valid_to: datetime
    episodes: int
    usd: Decimal


class Episode(NamedTuple):
    """Rows of an account without a pause; ms since the year began, dollars in units of 1e-8."""

    venue: str
    account: str
    first_ms: int
    last_ms: int
    e8: int


class Truth(NamedTuple):
    """Everything that stands on liquidations alone."""

    flags: Counter[Flag]
    repeated: set[Repeated]

    def without(self, accounts: Collection[Account]) -> "Truth":
        """What is said of others."""
        return Truth(
            Counter({one: count for one, count in self.flags.items() if one[:2] not in accounts}),
            {one for one in self.repeated if one[:2] not in accounts},
        )

    def __or__(self, other: "Truth") -> "Truth":
        return Truth(self.flags + other.flags, self.repeated | other.repeated)


class Model:
    """Takes blocks in the order of time and knows what is large of them."""

    def __init__(self) -> None:
        self._units = Counter[Flag]()
        self._ended: list[Episode] = []
        self._open: dict[Account, Episode] = {}

    def add(self, block: Sequence[Row]) -> None:
        """The rows of a block: all of an order and an action are in one."""
        counted = [row for row in block if row.line == "counted"]
        for row in counted:
            self._lengthen(row)
        if sum(row.e8 for row in counted) < LARGE:
            return
        for row in counted:
            self._flag((row.venue, row.account), "liquidation", row.e8, row.at_ms)
        for level in ("order", "action"):
            units = defaultdict[tuple[str | None, ...], list[Row]](list)
            for row in counted:
                units[LEVELS[level](row)].append(row)
            for rows in units.values():
                account = (rows[0].venue, rows[0].account)
                self._flag(account, level, sum(row.e8 for row in rows), rows[-1].at_ms)

    def _lengthen(self, row: Row) -> None:
        account = (row.venue, row.account)
        known = self._open.get(account)
        if known is not None and row.at_ms - known.last_ms <= GAP_MS:
            self._open[account] = known._replace(last_ms=row.at_ms, e8=known.e8 + row.e8)
            return
        if known is not None and known.e8 >= LARGE:
            self._ended.append(known)
        self._open[account] = Episode(*account, row.at_ms, row.at_ms, row.e8)

    def _flag(self, account: Account, level: str, e8: int, at_ms: int) -> None:
        if e8 >= LARGE:
            self._units[flag(account, level, e8, at_ms)] += 1

    def truth(self) -> Truth:
        """As of the blocks that it has."""
        large = [one for one in chain(self._ended, self._open.values()) if one.e8 >= LARGE]
        of_episodes = Counter(flag(one[:2], "episode", one.e8, one.last_ms) for one in large)
        return Truth(self._units + of_episodes, repeated(large))


def flag(account: Account, level: str, e8: int, at_ms: int) -> Flag:
    """Of something that is large."""
    threshold = next(one for one in THRESHOLDS if e8 >= one)
    return Flag(*account, level, e8 * E8, threshold * E8, moment(at_ms))


def repeated(large: Iterable[Episode]) -> set[Repeated]:
    """Whom so many large episodes within so many days make a whale, and when."""
    accounts = defaultdict[Account, list[Episode]](list)
    for one in sorted(large, key=lambda one: one.first_ms):
        accounts[one.venue, one.account].append(one)
    return {found for episodes in accounts.values() for found in _repeated(episodes)}


def _repeated(episodes: Sequence[Episode]) -> Iterator[Repeated]:
    held: list[tuple[int, int]] = []
    for before, last in zip(episodes, episodes[REPEAT_TIMES - 1 :], strict=False):
        low, high = last.first_ms, last.first_ms + REPEAT_MS
        if before.first_ms <= low - REPEAT_MS:
            continue
        if held and low <= held[-1][1]:
            low = held.pop()[0]
        held.append((low, high))
    for low, high in held:
        among = [one for one in episodes if low - REPEAT_MS < one.first_ms < high]
        yield Repeated(
            *episodes[0][:2], moment(low), moment(high), len(among),
            sum(one.e8 for one in among) * E8,
        )  # fmt: skip


def moment(ms: int) -> datetime:
    """Of milliseconds since the year began."""
    return BEGIN + timedelta(milliseconds=ms)


class Block(NamedTuple):
    """Numbers of the rows of a block of perpetuals and of one of loans, which come together."""

    perps: range
    loans: range

    def rows(self, of: int) -> tuple[list[Row], list[Row]]:
        """In a year with so many rows."""
        perps, loans = perps_of(of), loans_of(of)
        return (
            [perp(number, perps) for number in self.perps],
            [loan(number, loans) for number in self.loans],
        )


def block(perp_block: int, loan_block: int) -> Block:
    """Of the numbers of both blocks."""
    return Block(_numbers(perp_block, BLOCK_ROWS), _numbers(loan_block, LOANS_A_BLOCK))


def _numbers(place: int, size: int) -> range:
    return range(place * size, (place + 1) * size)


def after_year(rows: int, place: int) -> Block:
    """A new block: the formula goes on, from the first whole block after the year."""
    return block(
        -(-perps_of(rows).rows // BLOCK_ROWS) + place,
        -(-loans_of(rows).rows // LOANS_A_BLOCK) + place,
    )


def large_block(rows: int, share: int, shares: int) -> Block:
    """The first block of perpetuals with a large row in a part of the year, or the first one of the
    part where there is none; and the first block of loans of this part."""
    course, blocks = perps_of(rows), perps_of(rows).rows // BLOCK_ROWS
    first, end = (blocks * each // shares for each in (share, share + 1))
    numbers = range(first * BLOCK_ROWS, end * BLOCK_ROWS)
    found = (n for n in numbers if (row := perp(n, course)).e8 >= LARGE and row.line == "counted")
    loan_block = loans_of(rows).rows // LOANS_A_BLOCK * share // shares
    return block(next(found, numbers.start) // BLOCK_ROWS, loan_block)


def blocks_of_year(rows: int) -> Iterator[list[Row]]:
    """All blocks of perpetuals, then all of loans."""
    perps, loans = perps_of(rows), loans_of(rows)
    for low in range(0, perps.rows, BLOCK_ROWS):
        yield [perp(n, perps) for n in range(low, min(low + BLOCK_ROWS, perps.rows))]
    for low in range(0, loans.rows, LOANS_A_BLOCK):
        yield [loan(n, loans) for n in range(low, min(low + LOANS_A_BLOCK, loans.rows))]
