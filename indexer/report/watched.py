"""Tables of open positions, for every report that has some."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Context, Decimal
from typing import NamedTuple

from indexer.methodology.prose import Language
from indexer.report.text import ABSENT, clock, percent, usd
from indexer.store.positions import Shown

WHAT = (
    "under water: an open position with a loss that is not realised; a loan has none",
    "distance: the share of the mark price, or of a loan's collateral, that may be lost until"
    " liquidation is due",
    "at risk: still there, and closer than 5 %",
    "liquidated: a stored liquidation left nothing of it; closed: stored liquidations are whole and"
    " did not end it; gone: not there any more, and the ledger cannot tell why; stale: nobody"
    " looked for over an hour",
)
NOTE = {
    "en": "Open positions of watched accounts as they were last seen, whatever the window.",
    "zh": "受关注账户的未平仓位，以最近一次查看为准，与统计窗口无关。",
}
_TEN_DIGITS = Context(prec=10)
_CHINESE = {
    "Whales under water": "浮亏的巨鲸",
    "Closest to liquidation": "最接近强平",
    "Not there any more, or not looked at": "已不存在或未再查看",
    "what": "标的", "unrealised": "未实现盈亏", "value": "价值", "entry": "开仓价",
    "mark": "标记价",
    "liquidation": "强平价", "leverage": "杠杆", "distance": "距强平", "seen, UTC": "查看于（UTC）",
    "health": "健康系数", "debt": "债务", "status": "状态", "liquidations": "清算数",
    "not there, UTC": "消失于（UTC）", "at risk": "高危", "long": "多头", "short": "空头",
    "loan on": "借贷：",
}  # fmt: skip


class Table(NamedTuple):
    """`rows` begin with the account, which `columns` do not name."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(
    under_water: Iterable[Shown],
    closest: Iterable[Shown],
    ended: Iterable[Shown] = (),
    *,
    language: Language = "en",
) -> Iterator[Table]:
    """Those that have rows. Cells are as they were said: hostile words among them."""
    said = _Said(language)
    found = (_under_water(under_water, said), _closest(closest, said), _ended(ended, said))
    return (
        Table(said(table.name), [said(name) for name in table.columns], table.rows)
        for table in found if table.rows
    )  # fmt: skip


class _Said(NamedTuple):
    """Our words in a language; what is no word of ours stays."""

    language: Language

    def __call__(self, word: str) -> str:
        return _CHINESE.get(word, word) if self.language == "zh" else word


def _under_water(positions: Iterable[Shown], said: _Said) -> Table:
    columns = (
        "what", "unrealised", "value", "entry", "mark", "liquidation", "leverage", "distance",
        "seen, UTC",
    )  # fmt: skip
    return Table("Whales under water", columns, [
        (
            one.account, _what(one, said), usd(one.unrealised_usd), usd(one.value_usd),
            _number(one.entry_price), _number(one.mark_price), _number(one.liquidation_price),
            _number(one.leverage), _share(one.distance), clock(one.observed_at),
        )
        for one in positions
    ])  # fmt: skip


def _closest(positions: Iterable[Shown], said: _Said) -> Table:
    columns = (
        "what", "distance", "", "mark", "liquidation", "health", "value", "debt", "seen, UTC",
    )  # fmt: skip
    return Table("Closest to liquidation", columns, [
        (
            one.account, _what(one, said), _share(one.distance), 
            said("at risk") if one.is_at_risk else "",
            _number(one.mark_price), _number(one.liquidation_price), _number(one.health_factor),
            usd(one.value_usd), usd(one.debt_usd), clock(one.observed_at),
        )
        for one in positions
    ])  # fmt: skip


def _ended(positions: Iterable[Shown], said: _Said) -> Table:
    columns = ("what", "status", "liquidations", "value", "seen, UTC", "not there, UTC")
    return Table("Not there any more, or not looked at", columns, [
        (
            one.account, _what(one, said), one.status,
            ABSENT if one.liquidations is None else f"{one.liquidations:,}",
            usd(one.value_usd), clock(one.observed_at),
            clock(one.gone_at) if one.gone_at else ABSENT,
        )
        for one in positions
    ])  # fmt: skip


def _what(one: Shown, said: _Said) -> str:
    """`BTC long`, with the venue of a loan in the place of its pool."""
    return f"{one.market} {said(one.side)}" if one.side else f"{said('loan on')} {one.venue}"


def _share(part: Decimal | None) -> str:
    return ABSENT if part is None else percent(part, Decimal(1))


def _number(value: Decimal | None) -> str:
    """To ten digits, without zeros at the end or an exponent."""
    return ABSENT if value is None else f"{_TEN_DIGITS.normalize(value):f}"
