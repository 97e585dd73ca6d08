"""The report as GitHub-flavoured Markdown, with whole addresses."""

import re
from collections.abc import Iterable, Iterator

from indexer.methodology.prose import Language
from indexer.report import whale_sections as said
from indexer.report.text import clean
from indexer.report.voice import Voice
from indexer.report.whale_sections import Card, Cell, Fact, Section
from indexer.report.whales import WhaleReport

# What may stand between two backticks as it is.
_WORD = re.compile(r"[0-9A-Za-z./@:…_-]+")
# All that starts markup, a cell, a tag, a link or a mention in any of the usual dialects.
_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|~$^&<>@]|(?<=www)\.|:(?=//)", re.IGNORECASE)


def to_markdown(report: WhaleReport, language: Language = "en") -> str:
    """The text, with a line break at its end."""
    return "\n".join(_lines(report, Voice(language))) + "\n"


def _lines(report: WhaleReport, voice: Voice) -> Iterator[str]:
    yield from _head(report, voice)
    for section in said.sections(report, voice):
        yield from _section(section)
        if section.id == "largest":
            yield f"\n## {voice.say('top_accounts')}\n\n{plain(voice.say('accounts_note'))}\n"
            yield from _cards(said.cards(report, voice), voice)
            yield f"\n## {voice.say('whales')}\n\n{plain(said.whales_note(report, voice))}\n"
            yield from _cards(said.other_whales(report, voice), voice)
    yield f"\n## {plain(voice.say('methodology'))}\n"
    yield plain(report.methodology.said(voice.language))
    yield f"\n## {plain(voice.say('again'))}\n\n{plain(voice.say('again_note'))}\n"
    yield f"```sh\n{report.reproduction.command}\n```\n"
    yield f"```sql\n{report.reproduction.sql}\n```\n"
    for made in said.reproduction(report, voice):
        yield f"- {plain(made)}"


def _head(report: WhaleReport, voice: Voice) -> Iterator[str]:
    colon = "：" if voice.language == "zh" else ": "
    yield f"# {plain(said.title(report, voice))}\n"
    if report.is_simulated:
        yield f"> **{voice.say('simulated')}**{colon}{voice.say('simulated_why')}\n"
    for figure in said.figures(report, voice):
        notes = " · ".join(plain(note) for note in figure.notes if note)
        more = f" ({notes})" if notes else ""
        yield f"- {figure.name}{colon}**{plain(figure.value)}**{more}"
    yield ""
    for fact in said.bounds(report, voice):
        yield f"- {fact.name}{colon}{plain(fact.said)}"
    yield f"- **{said.verdict(report, voice)}**{colon}{plain(said.coverage(report, voice))}"


def _section(section: Section) -> Iterator[str]:
    yield f"\n## {plain(section.title)}"
    for note in section.notes:
        yield f"\n{plain(note)}"
    if section.rows:
        yield ""
        yield from table_header(*section.columns)
        for row in section.rows:
            yield table_row(map(_in_column, section.columns, row.cells))
    if section.items:
        yield ""
        yield from (f"- {plain(item)}" for item in section.items)


def _in_column(name: str, cell: Cell) -> str:
    """Numbers stand as they are: they are ours."""
    return cell.text if name.startswith("-") and not cell.note else _cell(cell)


def _cell(cell: Cell) -> str:
    shown = f"`{cell.text}`" if cell.is_code and _WORD.fullmatch(cell.text) else plain(cell.text)
    if cell.href is not None:
        shown = f"[{shown}]({cell.href})"
    return f"{shown}<br>{plain(cell.note)}" if cell.note else shown


def _cards(cards: Iterable[Card], voice: Voice) -> Iterator[str]:
    for card in cards:
        account = _cell(Cell(card.account, href=card.href, is_code=True))
        link = f" · [{voice.say('open_tx')}]({card.tx_href})" if card.tx_href else ""
        yield f"- {account} {plain(card.venue)}: **{card.usd}** · {plain(card.note)}{link}"
        for name, facts in card.opinions:
            yield f"  - {plain(name)}: {plain('; '.join(map(_fact, facts)))}"
        for story in card.stories:
            yield f"  - {plain(story)}"


def _fact(fact: Fact) -> str:
    return f"{fact.name}: {fact.said}" if fact.said else fact.name


def table_header(*names: str) -> Iterator[str]:
    """A name with a minus in front stands over numbers."""
    yield table_row(name.removeprefix("-") for name in names)
    yield table_row("--:" if name.startswith("-") else "---" for name in names)


def table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Foreign words as words: no markup, no table cell, no link, no mention, no tag."""
    return _MARKUP.sub(_escaped, clean(text))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return f"&#{ord(character)};" if character in "&<>@.:" else f"\\{character}"
