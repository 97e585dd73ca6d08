"""A story in words: one sentence, and what could not be known. All formats share them.

Names of tokens, markets and labels are foreign words: they are cleaned here and escaped by whoever
shows them.
"""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Context, Decimal

from indexer.methodology.prose import Language
from indexer.report import story_zh
from indexer.report.text import ABSENT, clean, count_of, lasted, listed, percent, short, usd
from indexer.store.episodes import Market, PerpStory, Share, Step
from indexer.store.loan_episodes import Amount, LoanStory

Story = PerpStory | LoanStory

TAKEN_BY = {
    "market": "the order book",
    "backstop": "the backstop",
    "adl_of_user": "ADL",
    "adl_of_vault": "ADL of the vault",
    "borrow_partial": "the order book, of a loan's collateral",
    "borrow_backstop": "the backstop, of a loan's collateral",
}
_TEN_DIGITS = Context(prec=10)


def sentence(story: Story, language: Language = "en") -> str:
    """The whole story in one sentence."""
    if language == "zh":
        return story_zh.sentence(story)
    match story:
        case PerpStory():
            return _of_perp(story)
        case LoanStory():
            return _of_loan(story)


def unknown(story: Story) -> list[str]:
    """What the story cannot tell, and why."""
    match story:
        case PerpStory():
            return [*_unread(story.was_read_whole), *_unknown_of_perp(story)]
        case LoanStory():
            return [*_unread(story.was_read_whole), *_unknown_of_loan(story)]


def _unread(was_read_whole: bool) -> Iterable[str]:
    if not was_read_whole:
        yield "not all blocks of this time were read: liquidations may be missing"


# -- perpetuals ----------------------------------------------------------------------------------


def _of_perp(story: PerpStory) -> str:
    who = short(story.account)
    vault = ", a vault of the exchange," if story.is_protocol_vault else ""
    what = f"{listed(story.markets)} {'/'.join(story.sides)}"
    orders = count_of(story.orders, "order")
    return (
        f"{who}{vault} {_loss(story)} on {money(story)} of {what} in {orders}"
        f" {_over(story.lasted)}: {_taken(story)}; {_margin(story)}{_remaining(story)}."
    )


def _loss(story: PerpStory) -> str:
    if story.without_pnl == story.fills:
        return "lost an amount that is not known"
    lost = story.realised_pnl if story.unpriced else story.realised_pnl_usd
    if lost is None:
        return "lost amounts in several tokens"
    if story.without_pnl:
        seen = f"{story.fills - story.without_pnl:,} of {count_of(story.fills, 'fill')}"
        return f"realised {_amount(story, lost)} in the {seen} whose own leg was seen,"
    if lost == 0:
        return "realised neither profit nor loss"
    return f"{'lost' if lost < 0 else 'gained'} {_amount(story, abs(lost))}"


def money(story: PerpStory) -> str:
    """The notional at execution price in dollars, else in its one token."""
    value = story.notional if story.unpriced else story.notional_usd
    return "an amount in several tokens" if value is None else _amount(story, value)


def _amount(story: PerpStory, value: Decimal) -> str:
    return f"{number(value)} {token(story)}" if story.unpriced else usd(value)


def token(story: PerpStory) -> str:
    """The one quote token of the story."""
    quote = story.quotes[0] if len(story.quotes) == 1 else None
    return clean(quote) if quote else "of an unknown token"


def _margin(story: PerpStory) -> str:
    if story.margin_lost_usd is None or story.without_margin:
        return ""
    if story.margin_lost_usd < 0:
        return f"{usd(-story.margin_lost_usd)} was lacking when it was taken over; "
    return f"{usd(story.margin_lost_usd)} of margin went with what was taken over; "


def _over(span: timedelta) -> str:
    return f"over {lasted(span)}" if span else "at once"


def taken_by(story: PerpStory, method: str) -> str:
    """Who took what a method closed; perpetuals of chains have no book."""
    if method == "market" and "." in story.venue:
        return "the pool or a liquidator"
    return TAKEN_BY.get(method, clean(method))


def _taken(story: PerpStory) -> str:
    parts: list[str] = []
    for one in story.shares:
        by = taken_by(story, one.method)
        parts.append(f"{share(story, one)}{'' if parts else ' taken'} by {by}{_named(one)}")
    return ", ".join(parts)


def _named(one: Share) -> str:
    """The vault that took a backstop's part, where it is one."""
    names = {taker.name for taker in one.largest if taker.name}
    if one.takers != 1 or len(names) != 1:
        return ""
    return f" ({clean(names.pop())})"


def share(story: PerpStory, part: Share) -> str:
    """Of the notional at execution price; a dash where several tokens have no common measure."""
    if story.unpriced == 0 and part.notional_usd is not None and story.notional_usd:
        return percent(part.notional_usd, story.notional_usd)
    return percent(part.notional, story.notional) if story.notional else ABSENT


def so_far(story: PerpStory, step: Step) -> str:
    """How much of the episode was over with this step."""
    whole = story.steps[-1].so_far
    is_alike = story.notional is not None or story.unpriced == 0
    return percent(step.so_far, whole) if is_alike else ABSENT


def _remaining(story: PerpStory) -> str:
    known = [one for one in story.by_market if one.position_after is not None]
    left = [one for one in known if one.position_after]
    parts = [_left(one) for one in left[:3]]
    if len(left) > 3:
        parts.append(f"positions in {len(left) - 3:,} more markets remained")
    if hidden := [one.market for one in story.by_market if one.position_after is None]:
        parts.append(f"what remained of {listed(hidden)} is not known")
    if not left and known:
        is_all = len(known) == len(story.by_market)
        what = "it" if is_all else listed(one.market for one in known)
        parts.insert(0, f"nothing of {what} remained")
    return ", ".join(parts)


def _left(one: Market) -> str:
    after = one.position_after or Decimal(0)
    side = "long" if after > 0 else "short"
    before = one.position_before if one.changes == 0 else None  # what was added was not there
    of = "" if before is None else f" of {number(abs(before))}"
    return f"{number(abs(after))}{of} {clean(one.market)} {side} remained"


def _unknown_of_perp(story: PerpStory) -> Iterable[str]:
    fills = story.fills
    if story.unpriced:
        yield (
            f"{_part(story.unpriced, fills)} in a token that is no dollar, or unknown: no dollar"
            " column has them"
        )
    if story.without_own_leg:
        yield (
            f"the account's own leg was not seen of {_part(story.without_own_leg, fills)}: its"
            " position, order, fee and profit are not known there"
        )
    if story.without_mark:
        yield f"the mark price is not known of {_part(story.without_mark, fills)}"
    if story.one_legged_backstops:
        yield (
            f"of {_part(story.one_legged_backstops, fills)} by backstop only one leg was seen:"
            " some may be ADL"
        )
    yield from _unknown_positions(story.by_market)
    for lack in story.lacks:
        why = clean(lack.reason) if lack.reason else "not valued yet: indexer value hyperliquid"
        yield f"margin lost of {count_of(lack.records, 'takeover')}: {why}"
    yield "positions in other markets: the fills do not tell of them"
    yield "bad debt: the exchange publishes none for a fill"
    if not any(step.equity is not None for step in story.steps):
        yield "equity: no record of the exchange's ledger on these actions was read"


def _unknown_positions(markets: Iterable[Market]) -> Iterable[str]:
    before, after, moved = [], [], []
    for one in markets:
        if one.position_before is None:
            before.append(one.market)
        if one.position_after is None:
            after.append(one.market)
        if one.changed_by is None:
            moved.append(one.market)
    if before:
        yield f"the position before the first fill in {listed(before)}"
    if after:
        yield f"the position after the last fill in {listed(after)}"
    if moved:
        yield f"whether the position moved between liquidations in {listed(moved)}"


def _part(some: int, of: int) -> str:
    return f"{some:,} of {count_of(of, 'fill')}"


# -- loans ---------------------------------------------------------------------------------------


def _of_loan(story: LoanStory) -> str:
    seized = _valued(story.seized_usd, story.without_seized)
    repaid = _valued(story.repaid_usd, story.without_repaid)
    parts = [
        f"{short(story.account)} lost collateral of {seized} for debt of {repaid} on"
        f" {clean(story.venue)} in {count_of(story.liquidations, 'liquidation')}"
        f" {_over(story.lasted)}: {_what(story)} by {_who(story)}",
        f"the bonus was {_valued(story.bonus_usd, story.without_bonus)}",
    ]
    if story.bad_debts:
        parts.append(f"bad debt of {_valued(story.bad_debt_usd, story.without_bad_debt)} was left")
    parts.append("what remained is not known")
    return "; ".join(parts) + "."


def _valued(value: Decimal | None, without: int) -> str:
    if value is None:
        return "unknown value"
    return f"{usd(value)} and more without a value" if without else usd(value)


def _what(story: LoanStory) -> str:
    repaid = [_symbol(one) for one in story.amounts if one.role == "repaid"]
    seized = [_symbol(one) for one in story.amounts if one.role == "seized"]
    return f"{listed(repaid) or 'no debt'} repaid, {listed(seized) or 'nothing'} seized"


def _symbol(one: Amount) -> str:
    return one.symbol or short(one.asset or "an unknown asset")


def _who(story: LoanStory) -> str:
    known = [one.account for one in story.liquidators if one.account is not None]
    if len(known) < len(story.liquidators):
        return "liquidators that the chain does not tell" if not known else "several liquidators"
    return short(known[0]) if len(known) == 1 else count_of(len(known), "liquidator")


def _unknown_of_loan(story: LoanStory) -> Iterable[str]:
    for lack in story.lacks:
        why = clean(lack.reason) if lack.reason else f"not valued yet: indexer value {story.venue}"
        name = lack.basis.replace("_", " ")
        yield f"{name} of {count_of(lack.records, 'record')} in dollars: {why}"
    if story.without_bonus:
        yield f"the bonus of {count_of(story.without_bonus, 'liquidation')}"
    if any(one.account is None for one in story.liquidators):
        yield "the liquidator, where the chain does not tell"
    if not story.is_final:
        yield "some of it is in blocks that may still change"
    yield "debt and collateral before and after: liquidation events do not say"


def number(value: Decimal | None) -> str:
    """With thousands apart, without zeros at the end or an exponent."""
    if value is None:
        return ABSENT
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ten_digits(value: Decimal | None) -> str:
    """As `number`, of what was divided."""
    return number(None if value is None else _TEN_DIGITS.plus(value))
