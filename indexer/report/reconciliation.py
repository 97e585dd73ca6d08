"""The four formats of a reconciliation."""

import re
from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from indexer.methodology.reconcile import Reconciliation
from indexer.report import reconciliation_chart, words
from indexer.report import reconciliation_sections as said
from indexer.report.markdown import plain, table_header, table_row
from indexer.report.page import template
from indexer.report.reconciliation_sections import Line, Section
from indexer.report.render import to_json
from indexer.report.terminal import plain_table, say
from indexer.report.text import clean, printable

__all__ = ["to_html", "to_json", "to_markdown", "to_terminal"]

_ROOM_FOR_PROSE = 150  # columns from which two definitions stand side by side
_STYLES = {"": "", "total": "bold", "differs": "yellow"}


def to_html(report: Reconciliation) -> str:
    """One self-contained page, to be written as UTF-8."""
    return template("reconciliation.html.j2").render(
        report=report,
        said=said,
        sections=list(said.sections(report)),
        drawing=reconciliation_chart.draw(report),
    )


# -- Markdown ------------------------------------------------------------------------------------


def to_markdown(report: Reconciliation) -> str:
    """The text, with a line break at its end."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Reconciliation) -> Iterator[str]:
    yield f"# {plain(said.title(report))}"
    if report.is_simulated:
        yield f"\n> **{words.SIMULATED}**: {words.SIMULATED_WHY}."
    yield ""
    for figure in said.figures(report):
        yield f"- {plain(figure.name)}: **{said.amount(figure)}** ({plain(figure.note)})"
    yield f"- As of {plain(said.as_of(report))}"
    yield f"- **{said.verdict(report).capitalize()}**: {said.coverage(report)}"
    for section in said.sections(report):
        yield from _section(section)
    yield "\n## What each definition means"
    for paragraph in said.paragraphs(report):
        yield f"\n### {plain(paragraph.title)}\n\n{plain(paragraph.en)}\n\n{plain(paragraph.zh)}"
    yield f"\n## The same numbers again\n\n{_fenced('sh', report.command)}"


def _section(section: Section) -> Iterator[str]:
    yield f"\n## {section.title}"
    for note in section.notes:
        yield f"\n{plain(note)}"
    if section.lines:
        yield ""
        yield from table_header(*section.columns)
        for line in section.lines:
            yield table_row(_cells(section, line))
    for name, sql in section.queries:
        yield f"\n<details><summary>SQL of the rows: {plain(name)}</summary>\n"
        yield f"{_fenced('sql', sql)}\n\n</details>"


def _cells(section: Section, line: Line) -> Iterator[str]:
    """Numbers as they are: they are ours."""
    for place, (name, cell) in enumerate(zip(section.columns, line.cells, strict=True)):
        words = cell if name.startswith("-") else "\n".join(map(plain, cell.split("\n")))
        shown = words.replace("\n", "<br>")
        yield f"**{shown}**" if line.mark and shown and not place else shown


def _fenced(language: str, text: str) -> str:
    """A fence is longer than any in the text, so that nothing in it ends the block."""
    fence = max(["```", *(f"{run}`" for run in re.findall("`{3,}", text))], key=len)
    return f"{fence}{language}\n{printable(text)}\n{fence}"


# -- terminal ------------------------------------------------------------------------------------


def to_terminal(report: Reconciliation, console: Console) -> None:
    """Print the report; what has no room as a table is printed line by line."""
    if report.is_simulated:
        console.print(Text(f" {words.SIMULATED} ", "bold black on yellow"), end=" ")
        console.print(Text(words.SIMULATED_WHY, "yellow"))
    say(console, clean(said.title(report)), "bold")
    for figure in said.figures(report):
        line = Text(f"{clean(figure.name)}: ").append(said.amount(figure), "bold cyan")
        console.print(line.append(f" ({clean(figure.note)})", "dim"), soft_wrap=True)
    say(console, f"As of {clean(said.as_of(report))}", "dim")
    is_complete = said.verdict(report) == "complete"
    mark = Text(said.verdict(report).capitalize(), "bold green" if is_complete else "bold yellow")
    console.print(mark.append(f": {said.coverage(report)}", "not bold default"))
    for section in said.sections(report):
        _print(section, console)
    _heading(console, "What each definition means")
    for paragraph in said.paragraphs(report):
        say(console, clean(paragraph.title))
        for text in (paragraph.en, paragraph.zh):
            console.print(Padding(Text(clean(text), "dim"), (0, 0, 0, 2)))
    _heading(console, "The same numbers again")
    say(console, printable(report.command), "cyan", soft_wrap=True)


def _heading(console: Console, title: str) -> None:
    console.print()
    say(console, title, "bold")


def _print(section: Section, console: Console) -> None:
    _heading(console, section.title)
    for note in section.notes:
        say(console, clean(note), "dim")
    if section.lines:
        table = _table(section)
        if _has_room(section, table, console):
            console.print(table)
        else:
            _print_lines(section, console)
    if section.queries:
        say(console, "the SQL of these rows: --format html, md or json", "dim")


def _table(section: Section) -> Table:
    numbers = [place for place, name in enumerate(section.columns) if name.startswith("-")]
    table = plain_table(*(name.removeprefix("-") for name in section.columns), money=numbers)
    for line in section.lines:
        cells = (Text("\n".join(map(clean, cell.split("\n")))) for cell in line.cells)
        table.add_row(*cells, style=_STYLES[line.mark])
    return table


def _has_room(section: Section, table: Table, console: Console) -> bool:
    """Sentences may be broken into lines, numbers and addresses may not."""
    if section.is_prose:
        return console.width >= _ROOM_FOR_PROSE
    boundless = console.options.update(width=10_000)
    return console.measure(table, options=boundless).maximum <= console.width


def _print_lines(section: Section, console: Console) -> None:
    for line in section.lines:
        first, *others = (clean(cell) for cell in line.cells)
        say(console, first, _STYLES[line.mark] or "bold", soft_wrap=True)
        for name, cell in zip(section.columns[1:], others, strict=True):
            if cell:
                say(console, f"  {name.removeprefix('-')}: {cell}", soft_wrap=True)
