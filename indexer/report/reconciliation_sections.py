"""What a reconciliation says, section by section, in the words that all formats share."""

from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Decimal
from typing import Literal, NamedTuple

from indexer.methodology.definition import LEVELS
from indexer.methodology.reconcile import (
    Covered,
    Near,
    Outside,
    PartKind,
    Reconciliation,
    Row,
    Sensitivity,
    Side,
    Step,
    exact_sum,
)
from indexer.methodology.windows import Window
from indexer.model import EXACT
from indexer.report.text import ABSENT, clock, count_of, exact, moment, percent, usd
from indexer.report.words import UNCHANGED

_KINDS: dict[PartKind, str] = {
    "only_a": "only in A",
    "only_b": "only in B",
    "revalued": "in both, at another value",
}


class Line(NamedTuple):
    """Cells of a table, whose line breaks count; `mark` says why it stands out."""

    cells: tuple[str, ...]
    mark: Literal["", "total", "differs"] = ""


class Section(NamedTuple):
    """A title, sentences, a table and the SQL behind it, by name; each but the title may be absent.

    A column whose name begins with a minus holds numbers. `is_prose` where cells hold sentences."""

    id: str
    title: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    queries: tuple[tuple[str, str], ...] = ()
    is_prose: bool = False


class Figure(NamedTuple):
    """One of the numbers at the top, and a word on it."""

    name: str
    usd: Decimal
    is_change: bool
    note: str


class Paragraph(NamedTuple):
    """What a definition means, in both languages."""

    title: str
    en: str
    zh: str


def sections(report: Reconciliation) -> Iterator[Section]:
    """All that has something to say, in order; the methodology paragraphs and the command, which no
    table holds, are the renderer's."""
    every = (
        _definitions, _coverage, _waterfall, _accounts, _levels, _split, _sensitivity, _parts,
        *(_rows_of(kind) for kind in _KINDS), _near, _caveats,
    )  # fmt: skip
    for make in every:
        section = make(report)
        if section.lines or section.notes:
            yield section


# -- the head ------------------------------------------------------------------------------------


def title(report: Reconciliation) -> str:
    b = report.b
    name = "an outside number" if isinstance(b, Outside) else b.definition_id
    return f"From {report.a.definition_id} to {name}"


def figures(report: Reconciliation) -> tuple[Figure, ...]:
    """A, B, what is between them, and what of that is not explained."""
    a, b = report.a, report.b
    between = EXACT.subtract(b.usd, a.usd)
    named = (
        Figure(f"B: {b.definition_id}", b.usd, False, unvalued(b.unvalued))
        if isinstance(b, Side)
        else Figure("B: outside number", b.usd, False, b.source)
    )
    found = (
        Figure(f"A: {a.definition_id}", a.usd, False, unvalued(a.unvalued)),
        named,
        Figure("B less A", between, True, f"{percent(between, a.usd)} of A"),
    )
    if report.residual_usd is None:
        return found
    note = f"{percent(report.residual_usd, b.usd)} of B"
    return (*found, Figure("Unexplained", report.residual_usd, True, note))


def amount(figure: Figure) -> str:
    return signed(figure.usd) if figure.is_change else usd(figure.usd)


def unvalued(records: int) -> str:
    return f"{count_of(records, 'row')} without a value" if records else "every row has a value"


def signed(value: Decimal | None) -> str:
    """`+$1.00`, as a change is written."""
    return f"+{usd(value)}" if value is not None and value > 0 else usd(value)


def verdict(report: Reconciliation) -> str:
    """Complete is said only where every venue was read whole."""
    whole = sum(venue.is_whole for venue in report.coverage)
    return "complete" if 0 < whole == len(report.coverage) else "not complete"


def coverage(report: Reconciliation) -> str:
    """What the verdict rests on."""
    whole = sum(venue.is_whole for venue in report.coverage)
    return f"{whole:,} of {count_of(len(report.coverage), 'venue')} read whole in both windows"


def as_of(report: Reconciliation) -> str:
    blocks = [
        f"{venue.venue} block {_last(venue)}"
        for venue in report.coverage
        if venue.last_block is not None
    ]
    return "; ".join([*blocks, f"database read {moment(report.as_of)}"])


def _last(venue: Covered) -> str:
    at = "" if venue.last_at is None else f" of {exact(venue.last_at)}"
    return ABSENT if venue.last_block is None else f"{venue.last_block:,}{at}"


def paragraphs(report: Reconciliation) -> tuple[Paragraph, ...]:
    return tuple(
        Paragraph(f"{name}: {side.definition_id}", side.paragraph_en, side.paragraph_zh)
        for name, side in _sides(report)
    )


# -- both sides ----------------------------------------------------------------------------------


def _sides(report: Reconciliation) -> list[tuple[str, Side]]:
    """The definitions with their names; B has none where it is only a number."""
    goal = report.goal
    if goal is None:
        return [("A", report.a)]
    return [("A", report.a), ("B" if goal is report.b else "B as supposed", goal)]


def _of_sides(report: Reconciliation, say: Callable[[Side], str]) -> tuple[str, ...]:
    return tuple(say(side) for _, side in _sides(report))


def _line(report: Reconciliation, name: str, say: Callable[[Side], str]) -> Line:
    """One thing of both definitions, which stands out where they differ."""
    cells = _of_sides(report, say)
    return Line((name, *cells), "differs" if len(set(cells)) > 1 else "")


def _definitions(report: Reconciliation) -> Section:
    plain: tuple[tuple[str, Callable[[Side], str]], ...] = (
        ("definition", lambda side: side.definition_id),
        ("hash", lambda side: side.definition_hash),
        ("says", lambda side: side.says),
        ("total", _total),
    )
    compared: tuple[tuple[str, Callable[[Side], str]], ...] = (
        ("fidelity", lambda side: side.fidelity),
        ("window", lambda side: _window(side.window)),
        ("labels known at", _labels),
        ("prices", lambda side: side.price_set),
    )
    return Section(
        "definitions",
        "The two definitions" if report.goal else "The definition",
        _outside(report),
        ("", *(name for name, _ in _sides(report))),
        (
            *(Line((name, *_of_sides(report, say))) for name, say in plain),
            *(_line(report, name, say) for name, say in compared),
            *(Line((said.group, said.a, said.b), "differs") for said in report.differences),
        ),
        is_prose=True,
    )


def _outside(report: Reconciliation) -> tuple[str, ...]:
    b = report.b
    if isinstance(b, Side):
        return ("Rows in which they differ stand out.",)
    method = f"It states: “{b.stated_method}”." if b.stated_method else "It states no method."
    if b.meant is None:
        return (f"B is a number of {b.source}. {method}",)
    return (
        f"B is a number of {b.source}. {method}",
        f"If it meant {b.meant.definition_id}, which is a supposition, the steps explain the way"
        " there; what is left is unexplained.",
    )


def _window(window: Window) -> str:
    asked = f"\nasked as {window.said}"
    if window.block_from is not None and window.block_to is not None:
        heights = f"{window.block_from:,} up to, not including, {window.block_to:,}"
        return f"{window.chain or 'chain unknown'}, blocks {heights}{asked}"
    low, high = (ABSENT if at is None else exact(at) for at in (window.low, window.high))
    return f"from {low} up to, not including, {high}{asked}"


def _total(side: Side) -> str:
    return f"{usd(side.usd)}\n{unvalued(side.unvalued)}"


def _labels(side: Side) -> str:
    return "no label asked for" if side.labels_as_of is None else moment(side.labels_as_of)


def _coverage(report: Reconciliation) -> Section:
    return Section(
        "coverage",
        "What was read",
        ("Of both windows together, by time.",),
        ("venue", "read", "-share", "-holes", "last block"),
        tuple(
            Line(
                (
                    venue.venue,
                    "whole" if venue.is_whole else "not whole",
                    _share(venue),
                    f"{venue.holes:,}",
                    _last(venue),
                )
            )
            for venue in report.coverage
        ),
    )


def _share(venue: Covered) -> str:
    """Cut, never rounded up to what was not read."""
    share = EXACT.multiply(venue.share, Decimal(100))
    return f"{share.quantize(Decimal('0.01'), ROUND_FLOOR)} %"


# -- the steps -----------------------------------------------------------------------------------


def _waterfall(report: Reconciliation) -> Section:
    a, b, goal = report.a, report.b, report.goal
    lines = [Line((f"A: {a.definition_id}", "", "", usd(a.usd), "", "", ""), "total")]
    lines += [Line(_step(step, a)) for step in report.steps]
    if isinstance(b, Outside):
        if goal is not None:
            name = f"B as supposed: {goal.definition_id}"
            lines.append(Line((name, "", "", usd(goal.usd), "", "", ""), "total"))
        rest = report.residual_usd
        share = ABSENT if rest is None else percent(rest, a.usd)
        lines.append(Line(("unexplained", signed(rest), share, usd(b.usd), "", "", ""), "differs"))
    name = "B: outside number" if isinstance(b, Outside) else f"B: {b.definition_id}"
    lines.append(Line((name, "", "", usd(b.usd), "", "", ""), "total"))
    return Section(
        "waterfall",
        "From A to B, step by step",
        _of_steps(report),
        (
            "step", "-change", "-% of A", "-running total", "-range over orders",
            "-mean over orders", "-records",
        ),
        tuple(lines),
        tuple(
            (step.group, step.affected.sql) for step in report.steps if step.affected is not None
        ),
    )  # fmt: skip


def _of_steps(report: Reconciliation) -> tuple[str, ...]:
    if report.goal is None:
        return ("Nobody has said what B means, so no step leads to it.",)
    if not report.steps:
        return ("The definitions differ in no group.",)
    return (
        "Each step takes one group of fields from B, after those above it. What a step changes"
        " depends on the order: the range is from the least to the most over all orders, the mean"
        " over all orders is the Shapley value. Changes add up to B less A, and so do means.",
    )


def _step(step: Step, a: Side) -> tuple[str, ...]:
    return (
        step.group,
        signed(step.usd),
        percent(step.usd, a.usd),
        usd(step.running_usd),
        _range(step),
        signed(step.mean_usd),
        ABSENT
        if step.affected is None
        else _records(step.affected.records, step.affected.unvalued),
    )


def _range(step: Step) -> str:
    if step.least_usd == step.most_usd:
        return "the same in all"
    return f"{signed(step.least_usd)}\nto {signed(step.most_usd)}"


def _records(records: int, without: int) -> str:
    return f"{records:,}\n({without:,} without a value)" if without else f"{records:,}"


def _accounts(report: Reconciliation) -> Section:
    return Section(
        "accounts",
        "Accounts that the steps move most",
        columns=("step", "account", "-change", "venue"),
        lines=tuple(
            Line((step.group, moved.account, signed(moved.usd), moved.venue))
            for step in report.steps
            if step.affected is not None
            for moved in step.affected.accounts
        ),
    )


# -- the totals apart ----------------------------------------------------------------------------


def _levels(report: Reconciliation) -> Section:
    return Section(
        "levels",
        "Counts at all levels",
        (UNCHANGED,),
        ("level", *_numbers(report)),
        tuple(
            Line((level, *(_count(side.counts.get(level)) for _, side in _sides(report))))
            for level in LEVELS
        ),
    )


def _count(number: int | None) -> str:
    return ABSENT if number is None else f"{number:,}"


def _numbers(report: Reconciliation) -> tuple[str, ...]:
    return tuple(f"-{name}" for name, _ in _sides(report))


def _split(report: Reconciliation) -> Section:
    venues = {part.venue for _, side in _sides(report) for part in side.by_venue}
    return Section(
        "split",
        "Long, short and venues",
        columns=("", *_numbers(report)),
        lines=(
            Line(("long", *_of_sides(report, lambda side: usd(side.long_usd)))),
            Line(("short", *_of_sides(report, lambda side: usd(side.short_usd)))),
            Line(("neither of them", *_of_sides(report, lambda side: usd(_neither(side))))),
            *(
                Line((venue, *(_of_venue(side, venue) for _, side in _sides(report))))
                for venue in sorted(venues)
            ),
            Line(("total", *_of_sides(report, _total)), "total"),
        ),
    )


def _neither(side: Side) -> Decimal:
    return EXACT.subtract(side.usd, exact_sum((side.long_usd, side.short_usd)))


def _of_venue(side: Side, venue: str) -> str:
    found = [part for part in side.by_venue if part.venue == venue]
    if not found:
        return ABSENT
    part = found[0]
    without = f", {unvalued(part.unvalued)}" if part.unvalued else ""
    return f"{usd(part.usd)}\n({count_of(part.records, 'record')}{without})"


def _sensitivity(report: Reconciliation) -> Section:
    has_b = report.goal is not None
    return Section(
        "sensitivity",
        "The same totals with one thing changed",
        columns=("dimension", "value", "-A", "-episodes of A")
        + (("-B", "-episodes of B") if has_b else ()),
        lines=tuple(Line(_sensitive(row, has_b)) for row in report.sensitivity),
    )


def _sensitive(row: Sensitivity, has_b: bool) -> tuple[str, ...]:
    cells = [row.dimension, row.value]
    for counted in (row.a, row.b) if has_b else (row.a,):
        if counted is None:
            cells += [ABSENT, ABSENT]
        else:
            without = f"\n({unvalued(counted.unvalued)})" if counted.unvalued else ""
            cells += [f"{usd(counted.usd)}{without}", f"{counted.episodes:,}"]
    return tuple(cells)


# -- the rows ------------------------------------------------------------------------------------


def _parts(report: Reconciliation) -> Section:
    lines = [
        Line((_KINDS[p.kind], p.reason, _records(p.records, p.unvalued), signed(p.usd)))
        for p in report.parts
    ]
    if lines:
        records = sum(part.records for part in report.parts)
        change = exact_sum(part.usd for part in report.parts)
        without = sum(part.unvalued for part in report.parts)
        lines.append(Line(("together", "", _records(records, without), signed(change)), "total"))
    return Section(
        "parts",
        "Which rows make the difference",
        (
            "In no order of steps: each row once, with the first group, in the order above, that"
            " tells the two definitions apart on it.",
        )
        if lines
        else (),
        ("rows", "first reason", "-records", "-adds to B less A"),
        tuple(lines),
        tuple((f"{_KINDS[part.kind]}, {part.reason}", part.sql) for part in report.parts),
    )


def _rows_of(kind: PartKind) -> Callable[[Reconciliation], Section]:
    def section(report: Reconciliation) -> Section:
        rows: tuple[Row, ...] = getattr(report.rows, kind)
        return Section(
            kind.replace("_", "-"),
            f"The largest rows {_KINDS[kind]}",
            columns=("account", "market", "at, UTC", "-A", "-B", "reason", "venue", "key"),
            lines=tuple(
                Line(
                    (
                        row.account, row.market, clock(row.at), usd(row.usd_a), usd(row.usd_b),
                        row.reason, row.venue, row.key,
                    )
                )
                for row in rows
            ),
        )  # fmt: skip

    return section


# -- the rest ------------------------------------------------------------------------------------


def _near(report: Reconciliation) -> Section:
    if report.residual_usd is None:
        return Section("near", "Nearest definitions")
    return Section(
        "near",
        "Nearest definitions and the unexplained rest",
        (
            f"Unexplained: {signed(report.residual_usd)}. It is spread over no step: which rows"
            " somebody else has counted is not known.",
        ),
        ("definition", "fidelity", "-total", "-outside number less it"),
        tuple(map(_nearness, report.near)),
    )


def _nearness(near: Near) -> Line:
    without = f"\n({unvalued(near.unvalued)})" if near.unvalued else ""
    total = f"{usd(near.usd)}{without}"
    return Line((near.definition_id, near.fidelity, total, signed(near.difference_usd)))


def _caveats(report: Reconciliation) -> Section:
    return Section("caveats", "What to keep in mind", tuple(_warnings(report)))


def _warnings(report: Reconciliation) -> Iterator[str]:
    for name, side in _sides(report):
        if side.unvalued:
            yield f"{name} has {unvalued(side.unvalued)}: its total is of the others."
        if side.fidelity != "exact":
            yield f"{name} is {side.fidelity}: {_FIDELITY[side.fidelity]}."
    if verdict(report) != "complete":
        yield "The windows were not read whole: both totals may lack liquidations."
    for step in report.steps:
        if step.least_usd < 0 < step.most_usd:
            yield f"Whether the step {step.group} adds or takes away depends on the order of steps."
    yield "Each amount is rounded to the cent by itself; the JSON has all digits."


_FIDELITY = {
    "approximate": "the same idea as its model, from other data",
    "simulated": "what a feed that loses records would have shown",
}
