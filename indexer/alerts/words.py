"""What a message says: one line, one link.

Names of tokens, markets and labels are foreign words. Telegram, Discord, Slack, mail and terminals
each give other characters a meaning, so those characters are replaced by ones that look alike and
mean nothing anywhere: no name can mention, format, link or steer. Links come from `explorers`.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from indexer import explorers
from indexer.alert_model import Alerted, AlertRule, Gathered, Subject
from indexer.report.text import clean, clock, count_of, is_address, lasted, moment, short, usd

MOST_NAMES = 3
MOST_LETTERS = 32  # of a foreign name
MOST_IN_DIGEST = 6  # Discord takes 2,000 characters: discord.com/developers/docs/resources/message

_ALIKE = str.maketrans(
    {
        "@": "＠", "#": "＃", "&": "＆", "<": "‹", ">": "›", "[": "［", "]": "］", "(": "（",
        ")": "）", "{": "｛", "}": "｝", "*": "∗", "_": "＿", "~": "∼", "`": "ˋ", "|": "¦",
        "\\": "＼", "!": "ǃ", ":": "∶", "=": "＝", '"': "”", "'": "’", "$": "＄", "%": "％",
    }
)  # fmt: skip
_DOT = re.compile(r"\.(?=\w)")  # what may be read as a host, evil.example, is made a link by many


def plain(text: str) -> str:
    """A foreign name of one line that means nothing to whoever shows it."""
    name = _DOT.sub("․", clean(text).translate(_ALIKE))
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def happened(
    rule: AlertRule, id: str, subject: Subject, labels: Sequence[str], *, is_more: bool, kept: int
) -> str:
    """What happened; `is_more` where it grew since it was announced. So many others of the account
    were `kept` back before."""
    what, who = _what(rule, subject), _who(subject.account, labels)
    orders, span = subject.orders, subject.last_at - subject.first_at
    methods = ", ".join(plain(one.replace("_", " ")) for one in subject.methods)
    if rule.language == "zh":
        now = "现已" if is_more else ""
        over = f"，历时 {lasted(span)}" if span else ""
        before = f"，此前另有 {kept} 次未单独通知" if kept else ""
        head = (
            f"{now}清算 {_money(rule, subject.usd)}：{what} · {who} · {subject.venue}"
            f" · {methods} · {orders:,} 笔订单{over}{before}"
        )
    else:
        now = "now " if is_more else ""
        over = f" over {lasted(span)}" if span else ""
        before = f", {count_of(kept, 'other')} kept back before" if kept else ""
        head = (
            f"Liquidated: {now}{_money(rule, subject.usd)} of {what} · {who} · {subject.venue}"
            f" · {methods} · {count_of(orders, 'order')}{over}{before}"
        )
    return _line(rule, id, head, subject.last_at, subject.venue, subject.action, subject.account)


def correction(
    rule: AlertRule, id: str, said: Alerted, left: Subject | None, labels: Sequence[str]
) -> str:
    """It is less than was said, or nothing."""
    who, was = _who(said.account, labels), _money(rule, said.usd)
    if rule.language == "zh":
        now = "已不再计入" if left is None else f"现为 {_money(rule, left.usd)}"
        head = f"更正 {said.alert_id}：{who} 在 {said.venue} 的清算 {was} {now}"
    else:
        now = "is withdrawn: it is on the chain no more, or counted no more"
        if left is not None:
            now = f"is {_money(rule, left.usd)} now"
        head = f"Correction of {said.alert_id}: {was} of {who} on {said.venue} {now}"
    action = None if left is None else left.action
    return _line(rule, id, head, said.last_at, said.venue, action, said.account)


def digest(
    rule: AlertRule, id: str, since: datetime, until: datetime, said: Sequence[Gathered]
) -> str:
    """The largest of what was gathered, a line each."""
    shown = said[:MOST_IN_DIGEST]
    rest = len(said) - len(shown)
    if rule.language == "zh":
        more = f"，以下为最大的 {len(shown)} 条" if rest else ""
        head = (
            f"{clock(since)} 至 {moment(until)}：{len(said):,} 条{more} · {rule.definition} · {id}"
        )
    else:
        more = f", the largest {len(shown)} are" if rest else ""
        head = f"{clock(since)} to {moment(until)}: {count_of(len(said), 'message')}{more}"
    head = f"{head} · {rule.definition} · {id}"
    return "\n".join((head, *(one.said for one in shown)))


def trial(language: str) -> str:
    """A message that says nothing but that messages arrive."""
    if language == "zh":
        return "清算提醒测试：消息可以送达"
    return "A trial of liquidation alerts: messages arrive here"


def _what(rule: AlertRule, subject: Subject) -> str:
    names = [_market(one) for one in subject.markets]
    rest = len(names) - MOST_NAMES
    zh = rule.language == "zh"
    more = (f" 等 {len(names)} 种" if zh else f" and {rest} more") if rest > 0 else ""
    sides = {"long": "多单", "short": "空单"} if zh else {}
    side = "/".join(sides.get(one, one) for one in subject.sides)
    return f"{', '.join(names[:MOST_NAMES])}{more}{' ' if side else ''}{side}"


def _market(name: str) -> str:
    """A token without a family stands as chain/address."""
    chain, _, address = name.partition("/")
    return f"{plain(chain)}/{short(address)}" if is_address(address) else plain(name)


def _who(account: str, labels: Sequence[str]) -> str:
    address, _, number = account.partition(":")
    who = plain(short(address)) + (f" no. {plain(number)}" if number else "")
    named = [plain(one.replace("_", " ")) for one in labels[:MOST_NAMES]]
    return f"{who} ({', '.join(named)})" if named else who


def _money(rule: AlertRule, value: Decimal | None) -> str:
    if value is None:
        return "金额未知" if rule.language == "zh" else "an amount without a dollar value"
    return usd(value)


def _line(
    rule: AlertRule,
    id: str,
    head: str,
    at: datetime,
    venue: str,
    action: str | None,
    account: str,
) -> str:
    """The link comes last: what follows one may be taken for a part of it."""
    found = explorers.transaction(venue, action) or explorers.account(venue, account)
    parts = (head, moment(at), rule.definition, id, *([found] if found else []))
    return " · ".join(parts)
