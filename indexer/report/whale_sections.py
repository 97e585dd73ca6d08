"""The whale report as sections of notes and tables, in one language: all formats show these.

Cells are as they were said, hostile words among them: who shows them escapes them.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

from indexer import explorers
from indexer.report import watched, words
from indexer.report.chart import Drawing, above
from indexer.report.text import ABSENT, clean, clock, exact, moment, percent, round_usd, usd
from indexer.report.voice import Voice
from indexer.report.whales import Account, Episode, Largest, Opinion, WhaleReport
from indexer.store.totals import Line, Missing, Scope
from indexer.store.window_lines import Beside

NAMES_SHOWN = 20  # venues and assets; the JSON has them all
SCOPES_SHOWN = 12
MISSING_SHOWN = 5  # of a venue
_WIDE = Context(prec=200)  # for shares, which are rounded at once


class Cell(NamedTuple):
    """What stands in a table: `note` below it, smaller. `href` is made by `explorers` alone."""

    text: str
    note: str = ""
    href: str | None = None
    is_code: bool = False


class Row(NamedTuple):
    """`mark` is total, apart or empty; `part` the share of a bar behind it, from 0 to 1."""

    cells: Sequence[Cell]
    mark: str = ""
    part: Decimal | None = None


class Section(NamedTuple):
    """The columns of numbers have a minus before their names. `items` are a list of sentences."""

    id: str
    title: str
    notes: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    items: Sequence[str] = ()


class Fact(NamedTuple):
    """Something with a name."""

    name: str
    said: str


class Card(NamedTuple):
    """An account with what is thought of it and what befell it."""

    account: str
    href: str | None
    usd: str
    note: str
    venue: str
    tx_href: str | None
    opinions: Sequence[tuple[str, Sequence[Fact]]]
    stories: Sequence[str]


# -- the head ------------------------------------------------------------------------------------


def title(report: WhaleReport, voice: Voice) -> str:
    """What it is a report of."""
    return f"{voice.say('title')} · {scope_of(report, voice)}"


def scope_of(report: WhaleReport, voice: Voice) -> str:
    """The venues, or how many."""
    if len(report.venues) > 3:
        return f"{len(report.venues)} {voice.say('venues').lower()}"
    return ", ".join(map(clean, report.venues)) or voice.say("none")


def bounds(report: WhaleReport, voice: Voice) -> list[Fact]:
    """Of which window, as of when, under which definition, and the hash of it all."""
    low, high = exact(report.window_from), exact(report.window_to)
    return [
        Fact(voice.say("window"), voice.say("window_is", low=low, high=high)),
        Fact(voice.say("as_of"), as_of(report, voice)),
        Fact(voice.say("definition"), definition(report, voice)),
        Fact(voice.say("report_hash"), report.hash),
    ]


def as_of(report: WhaleReport, voice: Voice) -> str:
    """How far each venue was read, and when the database was asked."""
    read = [scope for scope in report.coverage.scopes if scope.as_of_at is not None]
    shown = [
        voice.say("as_of_venue", venue=clean(s.name), block=f"{s.as_of_block:,}",
                  at=exact(s.as_of_at))
        for s in read[:4] if s.as_of_at is not None
    ]  # fmt: skip
    if len(read) > 4:
        shown.append(voice.say("as_of_more", venues=len(read) - 4))
    shown.append(voice.say("read_at", at=moment(report.read_at)))
    return voice.say("part").join(shown)


def definition(report: WhaleReport, voice: Voice) -> str:
    """Which definition the total is of, and whether this is just it."""
    said = report.methodology
    text = voice.say("definition_is", id=said.id, hash=said.hash)
    if not said.departs:
        return text
    names = voice.joined([voice.say(f"depart_{name}") for name in said.departs])
    return text + voice.say("departs", names=names)


def verdict(report: WhaleReport, voice: Voice) -> str:
    """One word, or two."""
    return voice.say("complete" if report.coverage.is_complete else "not_complete")


def coverage(report: WhaleReport, voice: Voice) -> str:
    """The counts behind the verdict, whether good or bad."""
    found = report.coverage
    levels = [voice.say(v) if v in ("every_height", "fills_only") else v.replace("_", " ")
              for v in found.verifications]  # fmt: skip
    return voice.say(
        "coverage_is",
        blocks=voice.count(found.blocks, "block"),
        ranges=voice.count(len(found.covered), "range"),
        undecoded=voice.count(found.undecoded_events, "undecoded event"),
        levels=voice.joined(levels) or voice.say("none"),
    )


# -- the headline --------------------------------------------------------------------------------


class Figure(NamedTuple):
    """A headline number: `value` large, `notes` below it; `sides` are the long and short dollars
    of a bar."""

    name: str
    value: str
    notes: Sequence[str]
    sides: tuple[Decimal, Decimal] | None = None
    account: str = ""


def figures(report: WhaleReport, voice: Voice) -> list[Figure]:
    """Perpetuals and loans stand apart where both count."""
    kinds = report.section("instrument")
    found = [_headline(report, voice)]
    if len(kinds) > 1 and report.total.usd is not None:
        found += [
            Figure(voice.say(f"headline_{kind.name}"), voice.compact(kind.usd),
                   [usd(kind.usd), percent(kind.usd or Decimal(0), report.total.usd)])
            for kind in kinds
        ]  # fmt: skip
    elif len(kinds) > 1:
        found = [
            Figure(voice.say(f"headline_{kind.name}"), voice.compact(kind.usd), [usd(kind.usd)])
            for kind in kinds
        ]
        found.append(Figure(voice.say("headline"), ABSENT, [voice.say("not_one_sum")]))
    return [*found, _sides(report.total, voice), _accounts(report.total, voice),
            _largest_episode(report, voice)]  # fmt: skip


def _headline(report: WhaleReport, voice: Voice) -> Figure:
    total = report.total
    return Figure(voice.say("headline"), voice.compact(total.usd), [usd(total.usd)])


def _sides(total: Line, voice: Voice) -> Figure:
    long, short = total.long_usd or Decimal(0), total.short_usd or Decimal(0)
    both = voice.say("both_sides", long=voice.compact(long), short=voice.compact(short))
    if not long + short:
        return Figure(voice.say("sides"), ABSENT, [])
    share = percent(long, long + short)
    return Figure(voice.say("sides"), voice.say("share_long", share=share), [both], (long, short))


def counts(line: Line, voice: Voice) -> str:
    """At all levels that have a count."""
    found = [
        voice.count(number, noun)
        for number, noun in (
            (line.fills, "fill"), (line.orders, "order"), (line.actions, "action"),
            (line.episodes, "episode"),
        ) if number is not None
    ]  # fmt: skip
    return " · ".join(found)


def _accounts(total: Line, voice: Voice) -> Figure:
    return Figure(voice.say("accounts"), f"{total.accounts or 0:,}", [counts(total, voice)])


def _largest_episode(report: WhaleReport, voice: Voice) -> Figure:
    found = next((one for one in report.largest if one.level == "episode"), None)
    name = voice.say("largest_episode")
    if found is None:
        return Figure(name, ABSENT, [voice.say("none_here")])
    notes = [where(found, voice)]
    if report.total.usd:
        share = percent(found.usd, report.total.usd)
        notes[0] += f" · {voice.say('of_the_total', share=share)}"
    return Figure(name, voice.compact(found.usd), notes, account=found.account)


def where(one: Largest | Episode, voice: Voice) -> str:
    """`ETH long`."""
    return f"{voice.listed(one.markets)} {voice.sides(one.sides)}".strip()


# -- tables --------------------------------------------------------------------------------------


def sections(report: WhaleReport, voice: Voice) -> Iterator[Section]:
    """All that are tables or lists, in their order; those with nothing to say are left out."""
    yield from _cascade(report, voice)
    yield from _strip(report, voice)
    yield _kinds(report, voice)
    yield from _split(report, "venue", voice)
    yield from _split(report, "asset", voice)
    yield _largest(report, voice)
    yield _episodes(report, voice)
    tables = watched.tables(report.under_water, report.closest, language=voice.language)
    open_ones = [found for found in (report.under_water, report.closest) if found]
    for place, (table, held) in enumerate(zip(tables, open_ones, strict=True)):
        rows = [
            Row([_account(row[0], one.venue), *map(Cell, row[1:])])
            for row, one in zip(table.rows, held, strict=True)
        ]
        notes = [watched.NOTE[voice.language]]
        columns = [voice.say("account"), *table.columns]
        yield Section(f"watched-{place}", table.name, notes, columns, rows)
    yield missing(report, voice)
    yield read(report, voice)
    yield Section("words", voice.say("words"), items=_words(report, voice))


def _kinds(report: WhaleReport, voice: Voice) -> Section:
    columns = [voice.say(name) for name in (
        "kind", "usd", "long", "short", "records", "episode_count", "account_count",
    )]  # fmt: skip
    rows = [_line(report.total, voice.say("total"), "total")]
    if len(report.section("instrument")) > 1:
        rows += [_line(one, voice.named("kind", one.name)) for one in report.section("instrument")]
    rows += [_line(one, voice.named("method", one.name)) for one in report.section("method")]
    rows += [_line(one, voice.named("beside", one.name), "apart")
             for one in report.section("beside")]  # fmt: skip
    notes = [voice.say("word_beside")] if report.section("beside") else []
    return Section("kinds", voice.say("kinds"), notes, _numbers(columns), rows)


def _numbers(columns: Sequence[str], words: int = 1) -> list[str]:
    """All but the first ones are over numbers."""
    return [*columns[:words], *(f"-{name}" for name in columns[words:])]


def _line(line: Line, name: str, mark: str = "") -> Row:
    money = (line.usd, line.long_usd, line.short_usd)
    numbers = (line.records, line.episodes, line.accounts)
    return Row([Cell(name), *(Cell(usd(one)) for one in money),
                *(Cell(_number(one)) for one in numbers)], mark)  # fmt: skip


def _number(count: int | None) -> str:
    return ABSENT if count is None else f"{count:,}"


def _split(report: WhaleReport, name: str, voice: Voice) -> Iterator[Section]:
    lines = report.section(name)
    if not lines:
        return
    columns = [voice.say(one) for one in (
        name, "usd", "share", "long", "short", "records", "account_count",
    )]  # fmt: skip
    rows = []
    for line in lines[:NAMES_SHOWN]:
        share = percent(line.usd, report.total.usd) if line.usd and report.total.usd else ABSENT
        cells = [clean(line.name or voice.say("unknown")), usd(line.usd), share,
                 usd(line.long_usd), usd(line.short_usd), _number(line.records),
                 _number(line.accounts)]  # fmt: skip
        rows.append(Row([*map(Cell, cells)], "", part_of(line.usd, lines[0].usd)))
    more = len(lines) - NAMES_SHOWN
    notes = [voice.say("and_more", count=f"{more:,}")] if more > 0 else []
    yield Section(f"by-{name}", voice.say(f"{name}s"), notes, _numbers(columns), rows)


def _strip(report: WhaleReport, voice: Voice) -> Iterator[Section]:
    shown, same = strip(report.beside)
    if not shown and not same:
        return
    has_both = len(report.section("instrument")) > 1
    columns = [voice.say("choice"), voice.say("usd"), voice.say("change")]
    columns += [voice.say("perps"), voice.say("loans")] if has_both else []
    columns += [voice.say("records"), voice.say("episode_count")]
    rows = []
    most = max((abs(one.usd) for one in shown if one.usd is not None), default=None)
    for one in shown:
        apart = [usd(one.perp_usd), usd(one.lending_usd)] if has_both else []
        cells = [usd(one.usd), change(one, report.total.usd), *apart, _number(one.records),
                 _number(one.episodes)]  # fmt: skip
        note = voice.say("chosen") if one.is_chosen else ""
        rows.append(Row([Cell(choice(one, voice), note), *map(Cell, cells)],
                        "total" if one.is_chosen else "", part_of(one.usd, most)))  # fmt: skip
    notes = [voice.say("strip_note")]
    if same:
        names = voice.joined([voice.named("switch", name) for name in same])
        notes.append(voice.say("strip_same", names=names))
    yield Section("strip", voice.say("strip"), notes, _numbers(columns), rows)


def strip(beside: Iterable[Beside]) -> tuple[list[Beside], list[str]]:
    """The choices that change something, and the names of those that change nothing."""
    groups: dict[str, list[Beside]] = {}
    for one in beside:
        groups.setdefault(one.switch, []).append(one)
    shown, same = [], []
    for switch, values in groups.items():
        told = {(v.usd, v.perp_usd, v.lending_usd, v.records, v.episodes) for v in values}
        if len(told) > 1:
            shown += values
        else:
            same.append(switch)
    return shown, same


def choice(one: Beside, voice: Voice) -> str:
    """`perpetuals at: mark price`."""
    value = (
        voice.say("seconds", value=one.value) if one.switch == "repeat"
        else voice.named("value", one.value)
    )  # fmt: skip
    colon = "：" if voice.language == "zh" else ": "
    return f"{voice.named('switch', one.switch)}{colon}{value}"


def part_of(one: Decimal | None, most: Decimal | None) -> Decimal | None:
    """How long its bar is beside the longest, to four digits."""
    if one is None or not most or one < 0:
        return None
    return _WIDE.divide(one, most).quantize(Decimal("0.0001"), ROUND_FLOOR)


def change(one: Beside, of: Decimal | None) -> str:
    """`+3.94 %`; a dash where there is no number, or nothing to compare it with."""
    if one.usd is None or not of:
        return ABSENT
    if one.usd == of:
        return "0 %"
    share = _WIDE.divide(_WIDE.multiply(one.usd - of, Decimal(100)), of)
    return f"{share.quantize(Decimal('0.01'), ROUND_HALF_EVEN, _WIDE):+,f} %"


def _cascade(report: WhaleReport, voice: Voice) -> Iterator[Section]:
    if not report.minutes:
        return
    columns = [voice.say(name) for name in (
        "minute", "usd", "share", "long", "short", "records", "account_count",
    )]  # fmt: skip
    whole = report.total.usd
    rows = [
        Row([Cell(clock(one.at)[:-3]), *map(Cell, (
            usd(one.usd), percent(one.usd, whole) if whole else ABSENT, usd(one.long_usd),
            usd(one.short_usd), _number(one.records), _number(one.accounts),
        ))]) for one in report.minutes
    ]  # fmt: skip
    together = sum((one.usd for one in report.minutes), Decimal(0))
    note = voice.say(
        "cascade_note", minutes=voice.count(len(rows), "minute"),
        share=percent(together, whole) if whole else ABSENT,
    )  # fmt: skip
    yield Section("cascade", voice.say("cascade"), [note], _numbers(columns), rows)


def _largest(report: WhaleReport, voice: Voice) -> Section:
    columns = [voice.say("level"), f"-{voice.say('usd')}"]
    columns += [voice.say(name) for name in ("account", "what", "when", "link", "key")]
    rows = []
    for one in report.largest:
        lasts = one.last_at - one.first_at
        note = voice.lasted(lasts) if lasts else ""
        rows.append(Row([
            Cell(voice.named("level", one.level)), Cell(usd(one.usd)),
            _account(one.account, one.venue), Cell(where(one, voice), clean(one.venue)),
            Cell(clock(one.first_at), note), _transaction(one.venue, one.action),
            Cell(clean(one.key), is_code=True),
        ]))  # fmt: skip
    notes = [voice.say("unchanged")]
    if not rows:
        notes.append(voice.say("none_here"))
    return Section("largest", voice.say("largest"), notes, columns, rows)


def _account(account: str, venue: str) -> Cell:
    return Cell(clean(account), href=explorers.account(venue, account), is_code=True)


def _transaction(venue: str, action: str | None) -> Cell:
    href = explorers.transaction(venue, action)
    shown = f"{action[:10]}…" if action and action.startswith("0x") else clean(action or ABSENT)
    return Cell(shown, href=href, is_code=True)


def _episodes(report: WhaleReport, voice: Voice) -> Section:
    columns = [voice.say("account"), voice.say("labels"), voice.say("what")]
    columns += [f"-{voice.say(name)}" for name in ("usd", "at_mark", "pnl", "equity", "peak")]
    columns += [voice.say("method"), voice.say("when"), f"-{voice.say('records')}",
                voice.say("link")]  # fmt: skip
    rows = [_episode(one, voice) for one in report.episodes]
    if not rows:
        return Section("episodes", voice.say("episodes"), [voice.say("none_here")])
    note = voice.say(
        "episodes_note", shown=len(rows), all=voice.count(report.total.episodes or 0, "episode")
    )
    return Section("episodes", voice.say("episodes"), [note], columns, rows)


def _episode(one: Episode, voice: Voice) -> Row:
    size = [] if one.threshold_usd is None else [f"≥ {round_usd(one.threshold_usd)}"]
    peak = " ".join(str(part) for part in (one.peak_position_market, one.peak_position_day) if part)
    dex = f"{clean(one.venue)} {clean(one.dex)}".strip()
    lasts = voice.lasted(one.lasted) if one.lasted else voice.say("at_once")
    return Row([
        _account(one.account, one.venue),
        Cell(" ".join([*map(clean, one.labels), *size])),
        Cell(where(one, voice), dex),
        Cell(usd(one.usd), _unvalued(one.unvalued, voice)),
        Cell(usd(one.mark_usd)), Cell(usd(one.realised_usd)), Cell(usd(one.equity_usd)),
        Cell(usd(one.peak_position_usd), clean(peak)),
        Cell(voice.methods(one.methods)), Cell(clock(one.first_at), lasts),
        Cell(_number(one.records)), _transaction(one.venue, one.action),
    ])  # fmt: skip


def _unvalued(number: int, voice: Voice) -> str:
    return f"+ {voice.count(number, 'record')}, {ABSENT}" if number else ""


# -- accounts ------------------------------------------------------------------------------------


def cards(report: WhaleReport, voice: Voice) -> list[Card]:
    """The largest accounts."""
    return [_card(one, voice) for one in report.accounts]


def other_whales(report: WhaleReport, voice: Voice) -> list[Card]:
    """Labelled whales that are not among the largest accounts."""
    told = {(one.venue, one.account) for one in report.accounts}
    return [_card(one, voice) for one in report.whales if (one.venue, one.account) not in told]


def whales_note(report: WhaleReport, voice: Voice) -> str:
    """How many labelled accounts are shown, and how many exist beside them."""
    hidden = report.whales_active - len(report.whales)
    shown = voice.say("whales_shown", count=len(report.whales)) if hidden else ""
    others = max(0, report.whales_labelled - report.whales_active)
    active = voice.count(report.whales_active, "labelled account")
    said = voice.say("whales_note", active=active, shown=shown, others=f"{others:,}")
    return f"{said} {voice.say('whales_above')}" if report.whales else said


def _card(one: Account, voice: Voice) -> Card:
    pnl = voice.say("pnl_is", usd=usd(one.realised_usd))
    parts = [voice.count(one.episodes, "episode"), voice.count(one.records, "record")]
    return Card(
        account=clean(one.account),
        href=explorers.account(one.venue, one.account),
        usd=usd(one.usd),
        note=" · ".join([*([pnl] if one.realised_usd is not None else []), *parts]),
        venue=clean(one.venue),
        tx_href=explorers.transaction(one.venue, one.action),
        opinions=[_opinion(said, voice) for said in one.opinions],
        stories=[clean(voice.story(story)) for story in one.stories],
    )


def _opinion(said: Opinion, voice: Voice) -> tuple[str, list[Fact]]:
    name = f"{clean(said.label)} · {clean(said.rule)} v{said.rule_version}"
    facts = [Fact(voice.say("confidence", value=words.number(said.confidence)), "")]
    facts += [Fact(name, value) for name, value in words.facts(said.evidence)]
    for word, at in (("holds_from", said.valid_from), ("holds_until", said.valid_to)):
        facts += [Fact(voice.say(word), moment(at))] if at else []
    return name, facts


# -- what is missing -----------------------------------------------------------------------------


def missing(report: WhaleReport, voice: Voice) -> Section:
    """All that is known to be lacking."""
    lacks = list(lacking(report, voice)) or [voice.say("missing_none")]
    return Section("missing", voice.say("missing"), items=lacks)


def lacking(report: WhaleReport, voice: Voice) -> Iterator[str]:
    """One sentence for each thing that is lacking; the first ones say why it is not complete."""
    found = report.coverage
    if not found.scopes:
        yield voice.say("lack_none_read")
    lacking = [scope for scope in found.scopes if scope.missing]
    for scope in lacking[:SCOPES_SHOWN]:
        yield from _of_scope(scope, voice)
    if len(lacking) > SCOPES_SHOWN:
        yield voice.say("lack_venues", count=len(lacking) - SCOPES_SHOWN)
    if found.unprovable_blocks:
        yield voice.say("lack_unprovable", blocks=voice.count(found.unprovable_blocks, "block"))
    if found.outside_coverage:
        records = voice.count(found.outside_coverage, "record")
        yield voice.say("lack_outside", records=records)
    for one in found.undecoded[:NAMES_SHOWN]:
        yield voice.say(
            "lack_undecoded", venue=clean(one.venue), reason=clean(one.reason),
            events=voice.count(one.events, "event"),
        )  # fmt: skip
    for lack in found.unvalued[:NAMES_SHOWN]:
        venue = clean(lack.venue)
        reason = clean(lack.reason) if lack.reason else voice.say("not_tried", venue=venue)
        records = voice.count(lack.records, "record")
        yield voice.say("lack_unvalued", venue=venue, records=records, reason=reason)


def _of_scope(scope: Scope, voice: Voice) -> Iterator[str]:
    for one in scope.missing[:MISSING_SHOWN]:
        yield _stretch(clean(scope.name), one, voice)
    more = len(scope.missing) - MISSING_SHOWN
    if more > 0:
        yield voice.say("lack_more", venue=clean(scope.name), count=f"{more:,}")


def _stretch(venue: str, one: Missing, voice: Voice) -> str:
    times = {"low": moment(one.low), "high": moment(one.high)} if one.low and one.high else {}
    if one.block_from is None or one.block_to is None:
        return voice.say("lack_time", venue=venue, **(times or {"low": ABSENT, "high": ABSENT}))
    first, last = f"{one.block_from:,}", f"{one.block_to - 1:,}"
    if not times:
        return voice.say("lack_blocks", venue=venue, low=first, high=last)
    return voice.say("lack_both", venue=venue, first=first, last=last, **times)


def read(report: WhaleReport, voice: Voice) -> Section:
    """How much of the window was read of each venue."""
    versions = report.coverage.decoders
    items = []
    for scope in report.coverage.scopes[:NAMES_SHOWN]:
        share = _WIDE.multiply(scope.share, Decimal(100)).quantize(Decimal("0.01"), ROUND_FLOOR)
        names: dict[str, Any] = {"venue": clean(scope.name), "share": f"{share} %"}
        if scope.as_of_at is None or scope.as_of_block is None:
            said = voice.say("read_never", **names)
        else:
            at = moment(scope.as_of_at)
            said = voice.say("read_is", **names, block=f"{scope.as_of_block:,}", at=at)
        if scope.venue in versions:
            known = voice.joined([str(version) for version in versions[scope.venue]])
            said += f" ({voice.say('decoders', versions=known)})"
        items.append(said)
    if len(report.coverage.scopes) > NAMES_SHOWN:
        more = len(report.coverage.scopes) - NAMES_SHOWN
        items.append(voice.say("and_more", count=more))
    return Section("read", voice.say("read"), items=items or [voice.say("lack_none_read")])


def _words(report: WhaleReport, voice: Voice) -> list[str]:
    gap = voice.duration(report.gap)
    return [voice.say("word_levels", gap=gap), voice.say("word_account")]


def reproduction(report: WhaleReport, voice: Voice) -> list[str]:
    """What the numbers stand on, beside the command and the SQL."""
    made = report.reproduction
    found = [
        voice.say("price_set", value=made.price_set),
        voice.say("code", value=made.code_version),
    ]
    if made.labels_as_of is not None:
        found.append(voice.say("labels_as_of", at=exact(made.labels_as_of)))
    return found


# -- the chart in words --------------------------------------------------------------------------


def chart_words(report: WhaleReport, drawing: Drawing, voice: Voice) -> str:
    """What a chart shows, for those who cannot see it."""
    high = drawing.highest
    kinds = voice.joined([voice.named("bar", kind) for kind in drawing.kinds])
    if high is None:
        return voice.say("none_here")
    return voice.say(
        "chart_words", kinds=kinds, usd=usd(report.total.usd), usd_high=usd(above(high.usd)),
        at=clock(high.begins),
    )  # fmt: skip
