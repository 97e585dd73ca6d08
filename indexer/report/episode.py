"""How stories of episodes look on the terminal, in Markdown and in JSON."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal
from itertools import chain

import msgspec
from rich.console import Console
from rich.markup import escape

from indexer.errors import ConfigError
from indexer.report.markdown import plain, table_header, table_row
from indexer.report.story import (
    Story,
    money,
    number,
    sentence,
    share,
    so_far,
    taken_by,
    ten_digits,
    token,
    unknown,
)
from indexer.report.terminal import plain_table
from indexer.report.text import (
    ABSENT,
    clean,
    clock,
    count_of,
    duration,
    exact,
    listed,
    moment,
    short,
    usd,
)
from indexer.report.words import SIMULATED, SIMULATED_WHY
from indexer.store import episodes, loan_episodes
from indexer.store.database import Connection
from indexer.store.episodes import Market, PerpStory, Place, thinned
from indexer.store.loan_episodes import LoanStory

Row = Sequence[str]
Table = tuple[str, Row, list[Row]]

STEPS_SHOWN = 100  # of a long episode the first and the last half; the JSON has them all
POINTS_SHOWN = 12
PATHS_SHOWN = 3
_TEN_DIGITS = Context(prec=10)

BASES = {
    "perp": "dollars: notional at execution price, and beside it at mark price; dollar tokens count"
    " as one dollar, other tokens have no dollar value",
    "lending": "dollars: each basis from its best price source, the protocol's oracle before"
    " others; repaid and seized are two sides of one thing and never add up",
}


class Stories(msgspec.Struct, frozen=True):
    """Stories, the largest first, or the one of a key. The window is None where a key was asked."""

    read_at: datetime
    is_simulated: bool
    gap: timedelta
    window_from: datetime | None
    window_to: datetime | None
    stories: tuple[Story, ...]


# -- collect -------------------------------------------------------------------------------------


def of_key(connection: Connection, key: str, gap: timedelta) -> Stories:
    """The story of the episode that a key names. Raises IndexerError where there is none."""
    episodes.check_gap(gap)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found = _told(connection, [episodes.place_of(connection, key)], gap)
        if not found:
            raise episodes.unknown_key(key)
        return _stories(connection, gap, None, None, found)


def of_window(
    connection: Connection, low: datetime, high: datetime, top: int, gap: timedelta
) -> Stories:
    """The stories of the largest episodes in [low, high), whole ones."""
    episodes.check_gap(gap)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        places = episodes.largest(connection, low, high, top, gap)
        return _stories(connection, gap, low, high, _told(connection, places, gap))


def since(connection: Connection, span: timedelta) -> tuple[datetime, datetime]:
    """The window of this length that ends with the last block that was read."""
    row = connection.execute(
        "SELECT max(last_at) + interval '1 microsecond' FROM liq.coverage"
        " WHERE facts = 'liquidations'"
    ).fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise ConfigError("nothing is indexed yet: indexer backfill hyperliquid --from DIR")
    try:
        return row[0] - span, row[0]
    except OverflowError:
        raise ConfigError(f"{duration(span)} before {moment(row[0])} is no date") from None


def _told(connection: Connection, places: list[Place], gap: timedelta) -> tuple[Story, ...]:
    """In the order of the places."""
    lenders = episodes.lenders(connection, {place.venue for place in places})
    loans = [place for place in places if place.venue in lenders]
    perps = [place for place in places if place.venue not in lenders]
    found: list[Story] = []
    if perps:
        found += episodes.read(connection, perps, gap)
    if loans:
        found += loan_episodes.read(connection, loans, gap)
    by_place = {(s.venue, s.account, _dex(s), at): s for s in found for at in _moments(s)}
    told = [by_place[place] for place in places if tuple(place) in by_place]
    return tuple({story.key: story for story in told}.values())


def _dex(story: Story) -> str:
    return story.dex if isinstance(story, PerpStory) else ""


def _moments(story: Story) -> set[datetime]:
    return {step.at for step in story.steps}


def _stories(
    connection: Connection,
    gap: timedelta,
    low: datetime | None,
    high: datetime | None,
    found: tuple[Story, ...],
) -> Stories:
    (row,) = connection.execute(
        "SELECT now(), coalesce(bool_or(is_simulated), false) FROM liq.sources"
    ).fetchall()
    read_at, is_simulated = msgspec.convert(row, tuple[datetime, bool])
    return Stories(read_at, is_simulated, gap, low, high, found)


# -- the formats ---------------------------------------------------------------------------------


def to_terminal(found: Stories, console: Console) -> None:
    """Text and tables; hostile words are escaped."""
    for text in _head(found):
        console.print(escape(clean(text)), soft_wrap=True)
    for story in found.stories:
        console.print()
        console.print(f"[bold]{escape(clean(sentence(story)))}[/]", soft_wrap=True)
        for text in _facts(story):
            console.print(escape(clean(text)), soft_wrap=True)
        for name, columns, rows in _tables(story, whole=False):
            table = plain_table(escape(clean(name)), *columns)
            for row in rows:
                table.add_row(*(escape(clean(cell)) for cell in row))
            console.print()
            console.print(table)
        console.print()
        for text in unknown(story):
            console.print(escape(clean(f"not known: {text}")), style="dim", soft_wrap=True)


def to_markdown(found: Stories) -> str:
    """The same as tables of Markdown, with whole addresses and hashes."""
    lines = ["# Episodes", "", *(f"- {plain(text)}" for text in _head(found))]
    for story in found.stories:
        lines += ["", f"## {plain(story.account)}", "", plain(sentence(story)), ""]
        lines += [f"- {plain(text)}" for text in _facts(story)]
        for name, columns, rows in _tables(story, whole=True):
            lines += ["", *table_header(plain(name), *columns)]
            lines += [table_row(map(plain, row)) for row in rows]
        lines += ["", *(f"- not known: {plain(text)}" for text in unknown(story))]
    return "\n".join([*lines, ""])


def to_json(found: Stories) -> str:
    """Everything, decimals as text, with the sentence and what is not known."""
    data = msgspec.to_builtins(found)
    for story, shown in zip(found.stories, data["stories"], strict=True):
        shown["sentence"], shown["unknown"] = sentence(story), unknown(story)
    data["bases"] = BASES
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def _head(found: Stories) -> Iterable[str]:
    if found.is_simulated:
        yield f"{SIMULATED}: {SIMULATED_WHY}"
    if found.window_from is not None and found.window_to is not None:
        what = count_of(len(found.stories), "episode")
        yield (
            f"the largest in the window: {what} with a part from {exact(found.window_from)} up to,"
            f" not including, {exact(found.window_to)}"
        )
    yield f"an episode ends after {duration(found.gap)} without a liquidation"
    yield f"database read {moment(found.read_at)}"


# -- what is told --------------------------------------------------------------------------------


def _facts(story: Story) -> Iterable[str]:
    yield f"key: {story.key}"
    yield f"account: {story.account}"
    yield f"from {exact(story.first_at)} to {exact(story.last_at)}"
    if story.labels:
        yield "labels: " + ", ".join(
            f"{one.label} ({one.rule} v{one.rule_version}, confidence {number(one.confidence)})"
            for one in story.labels
        )
    match story:
        case PerpStory():
            yield BASES["perp"]
            yield from _facts_of_perp(story)
        case LoanStory():
            yield BASES["lending"]
            yield from _facts_of_loan(story)


def _facts_of_perp(story: PerpStory) -> Iterable[str]:
    yield f"dex: {story.dex or 'main'}"
    yield f"margin: {', '.join(story.margin_modes) or 'not published on these fills'}"
    yield (
        f"{count_of(story.fills, 'fill')}, {count_of(story.orders, 'order')},"
        f" {count_of(story.actions, 'action')}"
    )
    stated = [step for step in story.steps if step.equity is not None]
    if stated:
        yield (
            f"equity: {number(stated[0].equity)}, as the exchange's ledger stated at"
            f" {exact(stated[0].at)}"
        )
    mark = "not known" if story.notional_mark_usd is None else usd(story.notional_mark_usd)
    yield f"notional: {money(story)} at execution, {mark} at mark{_less(story.without_mark)}"
    pnl = story.realised_pnl if story.unpriced else story.realised_pnl_usd
    shown = f"{number(pnl)} {token(story)}" if story.unpriced else usd(pnl)
    yield f"realised PnL before fees: {shown}{_less(story.without_pnl)}"
    for fee in story.fees:
        yield f"fees: {number(fee.amount)} {fee.asset or 'of an unknown token'}"
    if story.without_fee:
        yield f"fees: not known of {count_of(story.without_fee, 'fill')}"
    if story.takeovers:
        yield (
            f"margin lost with {count_of(story.takeovers, 'takeover')}:"
            f" {usd(story.margin_lost_usd)}{_less(story.without_margin)}"
        )
    for one in story.by_market:
        if one.changes:
            yield _moved_between(story, one)


def _moved_between(story: PerpStory, one: Market) -> str:
    why = "by trades of the account's own" if story.was_read_whole else "by whatever was not read"
    far = "" if one.changed_by is None else f" by {number(one.changed_by)} in all"
    times = count_of(one.changes, "time")
    return f"position in {one.market}: moved between liquidations {times}{far}, {why}"


def _less(without: int) -> str:
    return f", {count_of(without, 'fill')} left out" if without else ""


def _facts_of_loan(story: LoanStory) -> Iterable[str]:
    yield f"venue: {story.venue}"
    if story.owner:
        yield f"owner: {story.owner}"
    yield (
        f"{count_of(story.liquidations, 'liquidation')}, {count_of(story.actions, 'transaction')},"
        f" methods {', '.join(story.methods)}, markets {listed(story.markets)}"
    )
    if story.price_sources:
        yield f"price sources: {', '.join(story.price_sources)}"


def _tables(story: Story, *, whole: bool) -> Iterable[Table]:
    match story:
        case PerpStory():
            return _tables_of_perp(story, whole=whole)
        case LoanStory():
            return _tables_of_loan(story, whole=whole)


def _tables_of_perp(story: PerpStory, *, whole: bool) -> Iterable[Table]:
    yield "taken by", (
        "share", "notional", "USD", "fills", "orders", "actions", "other sides", "the largest",
    ), [
        (
            taken_by(story, one.method), share(story, one), number(one.notional),
            usd(one.notional_usd), f"{one.fills:,}", f"{one.orders:,}", f"{one.actions:,}",
            f"{one.takers:,}" + (f", {one.unseen:,} unseen" if one.unseen else ""),
            _taker(one.largest, whole=whole),
        )
        for one in story.shares
    ]  # fmt: skip
    yield "market", (
        "side", "before", "taken", "after", "moved between", "average", "worst", "mark, first",
        "mark, last", "slippage", "of it",
    ), [
        (
            one.market, "/".join(one.sides), number(one.position_before), number(one.size),
            number(one.position_after), _moved(one), ten_digits(one.average_price),
            number(one.worst_price), ten_digits(one.mark_first), ten_digits(one.mark_last),
            number(one.slippage), _slipped(one),
        )
        for one in story.by_market
    ]  # fmt: skip
    yield "at, UTC", (
        "block", "market", "side", "method", "fills", "size", "prices", "notional", "mark",
        "so far", "left", "hash",
    ), _halved([
        (
            clock(one.at), ABSENT if one.block_number is None else f"{one.block_number:,}",
            one.market, one.side, one.method, f"{one.fills:,}", number(one.size),
            number(one.low) if one.low == one.high else f"{number(one.low)} to {number(one.high)}",
            number(one.notional), ten_digits(one.mark_price), so_far(story, one),
            number(one.position_after), _hash(one.tx_hash, whole=whole),
        )
        for one in story.steps
    ])  # fmt: skip
    for one in story.by_market[:PATHS_SHOWN]:
        yield f"price of {one.market}, UTC", ("fills", "lowest", "highest", "mark"), [
            (clock(p.at), ten_digits(p.price), number(p.low), number(p.high),
             ten_digits(p.mark_price))
            for p in thinned(one.path, POINTS_SHOWN)
        ]  # fmt: skip


def _taker(largest: tuple[episodes.Taker, ...], *, whole: bool) -> str:
    if not largest:
        return ABSENT
    account = largest[0].account if whole else short(largest[0].account)
    return f"{largest[0].name}, {account}" if largest[0].name else account


def _moved(one: Market) -> str:
    if one.changed_by is None:
        return ABSENT
    return f"{number(one.changed_by)} in {count_of(one.changes, 'step')}" if one.changes else "0"


def _slipped(one: Market) -> str:
    """In basis points of the mark notional."""
    if one.slippage is None or not one.notional_mark:
        return ABSENT
    part = _TEN_DIGITS.divide(
        _TEN_DIGITS.multiply(one.slippage, Decimal(10_000)), one.notional_mark
    )
    return f"{part.quantize(Decimal('0.1')):,f} bp"


def _tables_of_loan(story: LoanStory, *, whole: bool) -> Iterable[Table]:
    yield "sums", ("USD", "without a value"), [
        ("debt repaid", usd(story.repaid_usd), f"{story.without_repaid:,}"),
        ("collateral seized", usd(story.seized_usd), f"{story.without_seized:,}"),
        ("bonus", usd(story.bonus_usd), f"{story.without_bonus:,}"),
        ("bad debt", usd(story.bad_debt_usd) if story.bad_debts else "none recorded",
         f"{story.without_bad_debt:,}"),
    ]  # fmt: skip
    yield "asset", ("", "token", "amount", "base units", "USD", "records"), [
        (
            one.symbol or ABSENT, one.role.replace("_", " "),
            (one.asset or ABSENT) if whole else short(one.asset or ABSENT),
            number(one.amount) + (" shares" if one.is_shares else ""), number(one.raw),
            usd(one.usd), f"{one.records:,}",
        )
        for one in story.amounts
    ]  # fmt: skip
    yield "liquidator", ("records", "repaid, USD", "seized, USD", "bonus, USD"), [
        (
            (one.account or "not known") if whole else short(one.account or "not known"),
            f"{one.records:,}", usd(one.repaid_usd), usd(one.seized_usd), usd(one.bonus_usd),
        )
        for one in story.liquidators
    ]  # fmt: skip
    yield "at, UTC", (
        "block", "method", "repaid", "USD", "seized", "USD", "bonus", "bad debt", "liquidator",
        "hash",
    ), _halved([
        (
            clock(one.at), f"{one.block_number:,}", one.method,
            _tokens(one.repaid, one.repaid_raw, one.repaid_symbol), usd(one.repaid_usd),
            _tokens(one.seized, one.seized_raw, one.seized_symbol), usd(one.seized_usd),
            usd(one.bonus_usd), usd(one.bad_debt_usd),
            (one.liquidator or ABSENT) if whole else short(one.liquidator or ABSENT),
            _hash(one.tx_hash, whole=whole),
        )
        for one in story.steps
    ])  # fmt: skip


def _tokens(amount: object, raw: object, symbol: str | None) -> str:
    """Whole tokens, else base units; a dash where there is none."""
    if raw is None:
        return ABSENT
    return f"{amount} {symbol or ''}" if amount is not None else f"{raw} base units"


def _hash(tx_hash: str | None, *, whole: bool) -> str:
    if tx_hash is None or whole:
        return tx_hash or ABSENT
    return f"{tx_hash[:10]}…" if len(tx_hash) > 12 else tx_hash


def _halved(rows: list[Row]) -> list[Row]:
    hidden = len(rows) - STEPS_SHOWN
    if hidden <= 0:
        return rows
    half = STEPS_SHOWN // 2
    gap = (f"and {hidden:,} more", *[""] * (len(rows[0]) - 1))
    return [*chain(rows[:half], [gap], rows[-half:])]
