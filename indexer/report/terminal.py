"""The report in a terminal. Foreign words go through `clean` into `Text`, never into markup."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from indexer.methodology.prose import Language
from indexer.report import watched
from indexer.report import whale_sections as said
from indexer.report.chart import DOWN, draw
from indexer.report.text import ABSENT, clean, clock, short
from indexer.report.voice import Voice
from indexer.report.whale_sections import Card, Cell, Section
from indexer.report.whales import WhaleReport

_STORIES_SHOWN = 5
_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"": "", "total": "bold", "apart": "dim"}


def to_terminal(report: WhaleReport, console: Console, language: Language = "en") -> None:
    """Print the report; a table that has no room is printed row by row."""
    voice = Voice(language)
    _head(report, console, voice)
    _chart(report, console, voice)
    for section in said.sections(report, voice):
        _section(section, console)
        if section.id == "largest":
            heading(console, voice.say("top_accounts"))
            _cards(said.cards(report, voice), console, voice)
            heading(console, voice.say("whales"))
            say(console, said.whales_note(report, voice), "dim")
            _cards(said.other_whales(report, voice), console, voice)
    heading(console, voice.say("methodology"))
    say(console, report.methodology.said(language))
    heading(console, voice.say("again"))
    say(console, report.reproduction.command, "cyan", soft_wrap=True)
    say(console, report.reproduction.sql, "cyan", soft_wrap=True)
    for made in said.reproduction(report, voice):
        say(console, made, "dim")


def _head(report: WhaleReport, console: Console, voice: Voice) -> None:
    if report.is_simulated:
        console.print(Text(f" {voice.say('simulated')} ", "bold black on yellow"), end=" ")
        console.print(Text(voice.say("simulated_why"), "yellow"))
    say(console, said.title(report, voice), "bold")
    for fact in said.bounds(report, voice):
        say(console, f"{fact.name}  {clean(fact.said)}", "dim")
    is_complete = report.coverage.is_complete
    mark = Text(said.verdict(report, voice), "bold green" if is_complete else "bold yellow")
    console.print(mark.append(f": {said.coverage(report, voice)}", "not bold default"))
    console.print()
    for figure in said.figures(report, voice):
        line = Text(f"{figure.name}  ").append(clean(figure.value), "bold cyan")
        notes = " · ".join(clean(note) for note in figure.notes if note)
        console.print(line.append(f"  {notes}" if notes else "", "not bold default"))


def _chart(report: WhaleReport, console: Console, voice: Voice) -> None:
    """One line of blocks: what counts in each bucket of time."""
    drawing = draw(report.chart)
    if not drawing.columns or not _is_unicode(console):
        return
    chart = report.chart
    width = min(-(-(chart.chart_to - chart.chart_from) // chart.bucket) + 1, console.width)
    heights = [0] * width
    for column in drawing.columns:
        place = max(0, (column.begins - chart.chart_from) // chart.bucket + 1)
        rects = [rect for rect in column.rects if rect.kind != DOWN]
        if rects and place < width:
            heights[place] = max(1, min(8, round(sum(rect.height for rect in rects) * 8 / 100)))
    heading(console, voice.say("time"))
    say(console, "".join(" " if not high else _BLOCKS[high - 1] for high in heights), "cyan")
    times = {"low": clock(chart.chart_from), "high": clock(chart.chart_to)}
    bucket = voice.duration(chart.bucket)
    say(console, voice.say("time_note", bucket=bucket, **times), "dim")


def _section(section: Section, console: Console) -> None:
    heading(console, section.title)
    if section.rows:
        table = _table(section)
        room = console.measure(table, options=console.options.update(width=10_000)).maximum
        if room <= console.width:
            console.print(table)
        else:
            _row_by_row(section, console)
    for item in section.items:
        say(console, f"- {clean(item)}")
    for note in section.notes:
        say(console, clean(note), "dim")


def _table(section: Section) -> Table:
    numbers = [place for place, name in enumerate(section.columns) if name.startswith("-")]
    table = plain_table(*(name.removeprefix("-") for name in section.columns), money=numbers)
    for row in section.rows:
        table.add_row(*map(_cell, row.cells), style=_STYLES[row.mark])
    return table


def _cell(cell: Cell) -> Text:
    shown = Text(clean(cell.text))
    return shown.append(f"\n{clean(cell.note)}", "dim") if cell.note else shown


def _row_by_row(section: Section, console: Console) -> None:
    """Each value with the name of its column."""
    first, *others = (name.removeprefix("-") for name in section.columns)
    for row in section.rows:
        head, *cells = row.cells
        line = Text(f"{first} ", "dim").append(clean(head.text), "bold default")
        line.append(f" {clean(head.note)}" if head.note else "", "not bold dim")
        console.print(line, soft_wrap=True)
        told = [
            f"{name} {clean(cell.text)}" + (f" ({clean(cell.note)})" if cell.note else "")
            for name, cell in zip(others, cells, strict=True) if cell.text not in ("", ABSENT)
        ]  # fmt: skip
        console.print(Padding(Text(" · ".join(told), _STYLES[row.mark]), (0, 0, 0, 2)))


def _cards(cards: Sequence[Card], console: Console, voice: Voice) -> None:
    for rank, card in enumerate(cards):
        text = Text(clean(card.account), "magenta").append(f"  {card.usd}", "bold default")
        console.print(text.append(f"  {card.venue} · {card.note}", "not bold dim"), soft_wrap=True)
        for name, facts in card.opinions:
            told = "; ".join(f"{fact.name}: {fact.said}".removesuffix(": ") for fact in facts)
            console.print(Padding(Text(f"{name}: {told}", "dim"), (0, 0, 0, 4)))
        for story in card.stories if rank < _STORIES_SHOWN else ():
            console.print(Padding(Text(story), (0, 0, 0, 4)))


def heading(console: Console, title: str) -> None:
    console.print()
    say(console, title, "bold")


def show(table: watched.Table, console: Console) -> None:
    """Hostile words are escaped."""
    console.print()
    console.print(f"[bold]{table.name}[/]")
    shown = plain_table("account", *table.columns)
    for account, *cells in table.rows:
        shown.add_row(*(escape(clean(cell)) for cell in (short(account), *cells)))
    console.print(shown)


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
