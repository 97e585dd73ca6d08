"""The fills of one account after another, page by page, as the public API tells them.

`userFillsByTime` gives a page of at most 2,000 and knows the 10,000 newest fills of an account.
`aggregateByTime` is never asked for: it merges fills, and their trade ids are lost.
https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec

from indexer.hyperliquid_format import utc_of_ms
from indexer.sources.hyperliquid_api import (
    AHEAD,
    FILLS_A_WEIGHT,
    PAGE_FILLS,
    WEIGHTS,
    HyperliquidApi,
)
from indexer.sources.hyperliquid_fills import Told, head_of

SOURCE = "api userFillsByTime"
# hyperliquid-dex/hyperliquid-python-sdk:tests/cassettes/info_test/test_get_user_fills_by_time.yaml,
# of 2023, has a page of 500 that fills its time exactly: one of that length may be cut as well.
OLD_PAGE_FILLS = 500
NEWEST_FILLS = 10_000

_FILLS = msgspec.json.Decoder(list[msgspec.Raw])
_MS = timedelta(milliseconds=1)
_EPOCH = utc_of_ms(0)


class Page(NamedTuple):
    """Some fills, in order; `lacks` says what is known to be left out."""

    fills: tuple[Told, ...]
    lacks: str | None = None


class _Answer(NamedTuple):
    fills: tuple[Told, ...]
    times: tuple[int, ...]
    is_newest_first: bool

    @property
    def may_be_cut(self) -> bool:
        return len(self.fills) == OLD_PAGE_FILLS or len(self.fills) >= PAGE_FILLS


class FillsApi(HyperliquidApi):
    """Asks for fills, within the same weight and with the same patience as for all else."""

    def fills(self, account: str, since: datetime, until: datetime) -> Iterator[Page]:
        """All that the API still knows of an account's fills between two times, both included.

        Neighbouring pages share the fills of the millisecond between them. Raises Silent or another
        SourceFault; what came before holds."""
        told = 0
        asked = [((since - _EPOCH) // _MS, (until - _EPOCH) // _MS)]
        while asked:
            low, high = asked.pop()
            if low > high:
                continue
            answer = self._answer(account, low, high)
            told += len(answer.fills)
            if not answer.may_be_cut:
                # That the account has more fills shows only in how many it has told.
                forgets = not asked and told >= NEWEST_FILLS
                yield Page(answer.fills, _forgotten(account) if forgets else None)
                continue
            first, last = answer.times[0], answer.times[-1]
            if first == last:
                yield Page(answer.fills, _full(account, last))
                asked += (last + 1, high), (low, first - 1)
            else:
                yield Page(answer.fills)
                asked.append((low, first) if answer.is_newest_first else (last, high))

    def has_room(self) -> bool:
        """Whether a page may be asked for at once."""
        return self._weights.has_room(WEIGHTS["userFillsByTime"])

    def _answer(self, account: str, low: int, high: int) -> _Answer:
        def read(body: bytes) -> _Answer:
            fills = tuple(Told(account, bytes(raw)) for raw in _FILLS.decode(body))
            unused = PAGE_FILLS - len(fills)
            self._weights.give_back(max(unused, 0) // FILLS_A_WEIGHT)
            times = tuple(head_of(told).time for told in fills)
            is_newest_first = bool(times) and times[0] > times[-1]
            if is_newest_first:
                fills, times = fills[::-1], times[::-1]
            if any(one > two for one, two in pairwise(times)):
                raise ValueError("fills in no order of time")
            if times and not (low <= times[0] and times[-1] <= high):
                raise ValueError("fills of times that were not asked for")
            if times and utc_of_ms(times[-1]) > self._utc() + AHEAD:
                raise ValueError("a fill of a time that is still to come")
            return _Answer(fills, times, is_newest_first)

        return self._asked("userFillsByTime", read, user=account, startTime=low, endTime=high)


def _full(account: str, time: int) -> str:
    return (
        f"{account}: a page is full at the one millisecond {utc_of_ms(time):%Y-%m-%d %H:%M:%S.%f}:"
        " what more it holds cannot be asked for"
    )


def _forgotten(account: str) -> str:
    return (
        f"{account}: the API knows its {NEWEST_FILLS:,} newest fills alone; before the first of"
        " them there may be more"
    )
