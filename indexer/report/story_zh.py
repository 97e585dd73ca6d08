"""A story in Chinese: what `story` says in English, from the same numbers.

Names of tokens, markets and labels are foreign words: they are cleaned here and escaped by whoever
shows them.
"""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal

from indexer.report.text import ABSENT, clean, lasted, percent, short, usd
from indexer.store.episodes import Market, PerpStory, Share
from indexer.store.loan_episodes import Amount, LoanStory

_TAKEN_BY = {
    "market": "在订单簿成交",
    "backstop": "由金库接管",
    "adl_of_user": "自动减仓（ADL）",
    "adl_of_vault": "金库仓位自动减仓（ADL）",
    "borrow_partial": "为借贷抵押品在订单簿卖出",
    "borrow_backstop": "为借贷抵押品由金库接管",
}
_SIDES = {"long": "多头", "short": "空头"}


def sentence(story: PerpStory | LoanStory) -> str:
    """The whole story in one sentence."""
    match story:
        case PerpStory():
            return _of_perp(story)
        case LoanStory():
            return _of_loan(story)


def listed(names: Iterable[str], most: int = 3) -> str:
    """`ETH、BTC、SOL 等 7 项`, cleaned."""
    cleaned = [clean(name) for name in names]
    more = f" 等 {len(cleaned)} 项" if len(cleaned) > most else ""
    return "、".join(cleaned[:most]) + more


def sides(names: Iterable[str]) -> str:
    """`多头`, `多头/空头`."""
    return "/".join(_SIDES.get(name, clean(name)) for name in names)


def span(time: timedelta) -> str:
    """`31 秒`, `12.5 分钟`."""
    return lasted(time).replace("min", "分钟").replace("s", "秒")


# -- perpetuals ----------------------------------------------------------------------------------


def _of_perp(story: PerpStory) -> str:
    vault = "（交易所金库）" if story.is_protocol_vault else ""
    lasting = f"，历时 {span(story.lasted)}" if story.lasted else ""
    parts = [
        f"{short(story.account)}{vault}的 {listed(story.markets)} {sides(story.sides)}"
        f" {_money(story)}（{story.orders:,} 笔订单{lasting}）被强平，{_loss(story)}："
        f"{_taken(story)}",
        *_margin(story),
        *_remaining(story),
    ]
    return "；".join(parts) + "。"


def _money(story: PerpStory) -> str:
    value = story.notional if story.unpriced else story.notional_usd
    return "（多种代币计价，无合计）" if value is None else _amount(story, value)


def _amount(story: PerpStory, value: Decimal) -> str:
    if not story.unpriced:
        return usd(value)
    quote = story.quotes[0] if len(story.quotes) == 1 else None
    return f"{_number(value)} {clean(quote) if quote else '未知代币'}"


def _loss(story: PerpStory) -> str:
    if story.without_pnl == story.fills:
        return "盈亏不详"
    lost = story.realised_pnl if story.unpriced else story.realised_pnl_usd
    if lost is None:
        return "以多种代币计的盈亏无法合计"
    amount = _amount(story, abs(lost))
    word = "亏损" if lost < 0 else "盈利"
    if story.without_pnl:
        seen = story.fills - story.without_pnl
        return f"所见 {story.fills:,} 笔成交中的 {seen:,} 笔{word} {amount}"
    return "不亏不盈" if lost == 0 else f"{word} {amount}"


def _taken(story: PerpStory) -> str:
    return "，".join(f"{_share(story, one)} {_by(story, one)}" for one in story.shares)


def _by(story: PerpStory, one: Share) -> str:
    if one.method == "market" and "." in story.venue:
        return "由资金池或清算人平掉"
    names = {taker.name for taker in one.largest if taker.name}
    named = f"（{clean(names.pop())}）" if one.takers == 1 and len(names) == 1 else ""
    return _TAKEN_BY.get(one.method, clean(one.method)) + named


def _share(story: PerpStory, part: Share) -> str:
    if story.unpriced == 0 and part.notional_usd is not None and story.notional_usd:
        return percent(part.notional_usd, story.notional_usd)
    return percent(part.notional, story.notional) if story.notional else ABSENT


def _margin(story: PerpStory) -> Iterator[str]:
    if story.margin_lost_usd is None or story.without_margin:
        return
    if story.margin_lost_usd < 0:
        yield f"接管时保证金缺口为 {usd(-story.margin_lost_usd)}"
    else:
        yield f"随接管转移的保证金为 {usd(story.margin_lost_usd)}"


def _remaining(story: PerpStory) -> Iterator[str]:
    known = [one for one in story.by_market if one.position_after is not None]
    left = [one for one in known if one.position_after]
    if known and not left:
        is_all = len(known) == len(story.by_market)
        what = "" if is_all else f" {listed(one.market for one in known)} "
        yield f"{what.strip()}仓位已全部平掉"
    yield from map(_left, left[:3])
    if len(left) > 3:
        yield f"另有 {len(left) - 3:,} 个市场仍有持仓"
    if hidden := [one.market for one in story.by_market if one.position_after is None]:
        yield f"{listed(hidden)} 的剩余仓位不详"


def _left(one: Market) -> str:
    after = one.position_after or Decimal(0)
    before = one.position_before if one.changes == 0 else None  # what was added was not there
    of = "" if before is None else f"（原为 {_number(abs(before))}）"
    side = _SIDES["long" if after > 0 else "short"]
    return f"剩余 {_number(abs(after))} {clean(one.market)} {side}{of}"


# -- loans ---------------------------------------------------------------------------------------


def _of_loan(story: LoanStory) -> str:
    lasting = f"，历时 {span(story.lasted)}" if story.lasted else ""
    repaid = listed(_symbol(one) for one in story.amounts if one.role == "repaid") or "无"
    seized = listed(_symbol(one) for one in story.amounts if one.role == "seized") or "无"
    parts = [
        f"{short(story.account)} 在 {clean(story.venue)} 上被清算 {story.liquidations:,} 次"
        f"{lasting}："
        f"代偿债务 {_valued(story.repaid_usd, story.without_repaid)}（{repaid}），"
        f"被取走抵押品 {_valued(story.seized_usd, story.without_seized)}（{seized}），"
        f"{_who(story)}",
        f"清算奖励 {_valued(story.bonus_usd, story.without_bonus)}",
    ]
    if story.bad_debts:
        parts.append(f"留下坏账 {_valued(story.bad_debt_usd, story.without_bad_debt)}")
    parts.append("剩余仓位不详")
    return "；".join(parts) + "。"


def _valued(value: Decimal | None, without: int) -> str:
    if value is None:
        return "价值不详"
    return f"{usd(value)}，另有部分无价值数据" if without else usd(value)


def _symbol(one: Amount) -> str:
    return one.symbol or short(one.asset or "未知资产")


def _who(story: LoanStory) -> str:
    known = [one.account for one in story.liquidators if one.account is not None]
    if len(known) < len(story.liquidators):
        return "清算人不详" if not known else "清算人有多个"
    return f"清算人为 {short(known[0])}" if len(known) == 1 else f"清算人共 {len(known):,} 个"


def _number(value: Decimal) -> str:
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
