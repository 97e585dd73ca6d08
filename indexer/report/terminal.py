"""The report in a terminal. Foreign words go through `clean` into `Text`, never into markup."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from indexer.report import watched, words
from indexer.report.chart import draw
from indexer.report.text import (
    clean,
    clock,
    compact_usd,
    count_of,
    duration,
    lasted,
    listed,
    percent,
    short,
    usd,
)
from indexer.report.whales import Episode, Line, Whale, WhaleReport

_WIDEST = 180  # columns from which the table of episodes has room for all it could say
_STORIES_SHOWN = 5
_BLOCKS = "▁▂▃▄▅▆▇█"


def to_terminal(report: WhaleReport, console: Console) -> None:
    """Print the report; the wider the console, the more columns."""
    _head(report, console)
    _totals(report, console)
    _chart(report, console)
    _largest(report, console)
    _episodes(report, console)
    _whales(report, console)
    for table in watched.tables(report.under_water, report.closest):
        show(table, console)
        say(console, words.WATCHED, "dim")
    _foot(report, console)


def show(table: watched.Table, console: Console) -> None:
    """Hostile words are escaped."""
    console.print()
    console.print(f"[bold]{table.name}[/]")
    shown = plain_table("account", *table.columns)
    for account, *cells in table.rows:
        shown.add_row(*(escape(clean(cell)) for cell in (short(account), *cells)))
    console.print(shown)


def _head(report: WhaleReport, console: Console) -> None:
    if report.is_simulated:
        console.print(Text(f" {words.SIMULATED} ", "bold black on yellow"), end=" ")
        console.print(Text(words.SIMULATED_WHY, "yellow"))
    venues = ", ".join(clean(venue) for venue in report.venues)
    console.print(Text(f"Whale report · {venues}", "bold"))
    say(console, f"Window {words.window(report)}")
    say(console, f"As of {words.as_of(report)}", "dim")
    say(console, f"Definition {words.definition(report)}", "dim")
    is_complete = report.coverage.is_complete
    mark = Text(words.verdict(report).capitalize(), "bold green" if is_complete else "bold yellow")
    console.print(mark.append(f": {words.coverage(report)}", "not bold default"))
    for lack in report.coverage.lacks:
        say(console, f"  ! {clean(lack)}", "yellow")
    for reason in report.coverage.undecoded[:3]:
        say(console, f"    {reason.events:,} × {clean(reason.reason)}", "dim")


def _totals(report: WhaleReport, console: Console) -> None:
    total = report.total
    console.print()
    headline = Text(compact_usd(total.notional_usd), "bold cyan")
    headline.append(f" liquidated ({usd(total.notional_usd)}), ", "not bold default")
    headline.append(f"{percent(total.long_usd, total.notional_usd)} long", "not bold default")
    console.print(headline)
    say(console, f"{words.counts(total)} · {count_of(total.accounts, 'account')}")
    table = plain_table(
        "", "notional", "mark notional", "long", "short", "fills", "episodes", "accounts"
    )
    is_wide = console.width >= 110
    table.columns[0].no_wrap = True
    name_of = words.name_of if is_wide else words.short_name_of
    for line in (total, *report.methods):
        table.add_row(
            name_of(line.name), *_cells(line, is_wide), style="bold" if line is total else ""
        )
    table.add_section()
    for line in report.apart:
        table.add_row(name_of(line.name), *_cells(line, is_wide), style="dim")
    for column in () if is_wide else (table.columns[2], table.columns[5]):
        table.columns.remove(column)
    console.print(table)
    say(console, "Below the rule: in no total.", "dim")
    for note in words.notes(report):
        say(console, note, "yellow")


def _cells(line: Line, is_wide: bool) -> list[str]:
    money = (line.notional_usd, line.notional_mark_usd)
    sides = map(usd if is_wide else compact_usd, (line.long_usd, line.short_usd))
    counts = (line.fills, line.episodes, line.accounts)
    return [*map(usd, money), *sides, *(f"{count:,}" for count in counts)]


def _chart(report: WhaleReport, console: Console) -> None:
    """One line of blocks: money of users in each bucket of time."""
    drawing = draw(report.chart)
    if not drawing.columns or not _is_unicode(console):
        return
    chart = report.chart
    width = min(-(-(chart.chart_to - chart.chart_from) // chart.bucket) + 1, console.width)
    heights = [0] * width
    for column in drawing.columns:
        place = max(0, (column.begins - chart.chart_from) // chart.bucket + 1)
        above = [rect for rect in column.rects if rect.kind != "protocol_vault"]
        if above and place < width:
            heights[place] = max(1, min(8, round(sum(rect.height for rect in above) * 8 / 100)))
    console.print()
    say(console, "".join(" " if not high else _BLOCKS[high - 1] for high in heights), "cyan")
    bucket = duration(chart.bucket)
    say(
        console,
        f"{clock(chart.chart_from)} to {clock(chart.chart_to)} UTC, a column for {bucket}",
        "dim",
    )


def _largest(report: WhaleReport, console: Console) -> None:
    console.print()
    console.print(Text("Largest single", "bold"))
    table = plain_table("level", "notional", "account", "what", money=(1,))
    for row in report.largest:
        account = clean(row.account)
        shown = account if console.width >= 110 else short(account)
        table.add_row(row.level, usd(row.notional_usd), Text(shown), Text(words.where(row)))
    console.print(table)
    say(console, words.UNCHANGED, "dim")


def _episodes(report: WhaleReport, console: Console) -> None:
    console.print()
    console.print(Text(f"Top {len(report.episodes)} episodes", "bold"))
    is_wide, is_widest = console.width >= 110, console.width >= _WIDEST
    names = ("#", "account", "notional", "PnL", "what", "how", "from")
    table = plain_table(*names, money=(2, 3))
    table.columns[1].no_wrap = True
    for name in ("mark", "equity", "peak", "lasted") if is_widest else ():
        table.add_column(name, justify="right", no_wrap=True)
    for rank, row in enumerate(report.episodes, 1):
        cells: list[str | Text] = [
            str(rank),
            _account(row, whole=is_widest),
            usd(row.notional_usd) if is_wide else compact_usd(row.notional_usd),
            compact_usd(row.realised_pnl_usd),
            Text(f"{listed(row.markets)} {'/'.join(map(clean, row.sides))}"),
            Text(words.methods(row.methods)),
            clock(row.first_at)[0 if is_wide else 11 :],
        ]
        if is_widest:
            values = (row.notional_mark_usd, row.equity_usd, row.peak_position_usd)
            cells += [*map(compact_usd, values), lasted(row.lasted)]
        table.add_row(*cells)
    console.print(table)
    if not is_widest:
        _addresses(console, [clean(row.account) for row in report.episodes])
    for rank, row in enumerate(report.episodes[:_STORIES_SHOWN], 1):
        say(console, f"{rank:>4}  {clean(row.story)}", soft_wrap=True)


def _account(row: Episode, *, whole: bool) -> Text:
    """The address, and below it what we think of its owner."""
    account = clean(row.account)
    text = Text(account if whole else short(account))
    marks = [*map(clean, row.labels)]
    if row.threshold_usd is not None:
        marks.append(words.threshold(row.threshold_usd))
    return text.append(f"\n{' '.join(marks)}", "magenta") if marks else text


def _addresses(console: Console, accounts: Iterable[str]) -> None:
    for rank, account in enumerate(accounts, 1):
        say(console, f"{rank:>4}  {account}", "dim", soft_wrap=True)


def _whales(report: WhaleReport, console: Console) -> None:
    console.print()
    console.print(Text("Whales", "bold"))
    say(console, words.whales_line(report))
    for whale in report.whales:
        _whale(whale, console)


def _whale(whale: Whale, console: Console) -> None:
    account = clean(whale.account)
    text = Text(account, "magenta").append(f"  {usd(whale.notional_usd)}", "bold default")
    console.print(text.append(f"  PnL {usd(whale.realised_pnl_usd)}", "not bold default"))
    for opinion in whale.opinions:
        said = "; ".join(f"{name}: {value}" for name, value in words.facts(opinion.evidence))
        rule = f"{clean(opinion.rule)} v{opinion.rule_version}"
        line = f"{rule}, confidence {words.number(opinion.confidence)}: {said}"
        console.print(Padding(Text(line, "dim"), (0, 0, 0, 4)))


def _foot(report: WhaleReport, console: Console) -> None:
    console.print()
    console.print(Text("What is counted", "bold"))
    for sentence in report.terms:
        say(console, sentence)
    console.print()
    console.print(Text("Methodology", "bold"))
    say(console, report.methodology.en)
    if _is_unicode(console):
        say(console, report.methodology.zh)
    console.print()
    console.print(Text("The same numbers again", "bold"))
    say(console, report.reproduction.command, "cyan", soft_wrap=True)
    say(console, report.reproduction.sql, "cyan", soft_wrap=True)
    for made in report.reproduction.decoders:
        say(console, f"decoder of {clean(made.venue)}: {words.versions(made)}", "dim")


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def say(console: Console, line: str, style: str = "", *, soft_wrap: bool = False) -> None:
    console.print(Text(line, style), soft_wrap=soft_wrap)


def plain_table(*names: str, money: Iterable[int] | None = None) -> Table:
    """A table whose numbers stand to the right; by default all but the first column."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
        header_style="dim",
    )
    right = set(range(1, len(names)) if money is None else money)
    for place, name in enumerate(names):
        is_number = place in right
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number)
    return table
