"""The report as GitHub-flavoured Markdown, with whole addresses."""

import re
from collections.abc import Iterable, Iterator

from indexer.report import watched, words
from indexer.report.text import (
    clean,
    clock,
    count_of,
    is_address,
    lasted,
    listed,
    percent,
    sentence,
    usd,
)
from indexer.report.whales import Line, Whale, WhaleReport

# All that starts markup, a cell, a tag, a link or a mention in any of the usual dialects.
_MARKUP = re.compile(r"[\\`*_{}\[\]()#+!|~$^&<>@]|(?<=www)\.|:(?=//)", re.IGNORECASE)


def to_markdown(report: WhaleReport) -> str:
    """The text, with a line break at its end."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: WhaleReport) -> Iterator[str]:
    yield from _head(report)
    yield from _totals(report)
    yield from _largest(report)
    yield from _markets(report)
    yield from _episodes(report)
    yield from _whales(report)
    yield from _watched(report)
    yield from _foot(report)


def _head(report: WhaleReport) -> Iterator[str]:
    total = report.total
    yield f"# Whale report: {plain(', '.join(report.venues))}"
    if report.is_simulated:
        yield f"\n> **{words.SIMULATED}**: {words.SIMULATED_WHY}."
    yield f"\n**{usd(total.notional_usd)}** of user positions liquidated,"
    yield f"{percent(total.long_usd, total.notional_usd)} of it long:"
    yield f"{words.counts(total)} · {count_of(total.accounts, 'account')}."
    yield f"\n- Window {words.window(report)}"
    yield f"- As of {plain(words.as_of(report))}"
    yield f"- Definition {plain(words.definition(report))}"
    yield f"- **{words.verdict(report).capitalize()}**: {plain(words.coverage(report))}"
    for lack in report.coverage.lacks:
        yield f"  - {plain(lack)}"
    for reason in report.coverage.undecoded[:5]:
        yield f"  - undecoded: {reason.events:,} × {plain(reason.reason)}"


def _totals(report: WhaleReport) -> Iterator[str]:
    yield "\n## Totals\n"
    yield from table_header(
        "method", "-notional", "-mark notional", "-long", "-short", "-realised PnL",
        "-fills", "-orders", "-actions", "-episodes", "-accounts",
    )  # fmt: skip
    for line in (report.total, *report.methods, *report.apart):
        yield table_row(_cells(line, is_apart=line in report.apart))
    yield "\n\\* in no total."
    for note in words.notes(report):
        yield sentence(plain(note))


def _cells(line: Line, *, is_apart: bool) -> list[str]:
    money = (
        line.notional_usd,
        line.notional_mark_usd,
        line.long_usd,
        line.short_usd,
        line.realised_pnl_usd,
    )
    counts = (line.fills, line.orders, line.actions, line.episodes, line.accounts)
    name = plain(words.name_of(line.name)) + (" \\*" if is_apart else "")
    return [name, *map(usd, money), *(f"{count:,}" for count in counts)]


def _largest(report: WhaleReport) -> Iterator[str]:
    yield f"\n## The largest single one\n\n{words.UNCHANGED}\n"
    yield from table_header("level", "-notional", "account", "what", "when, UTC", "key")
    for row in report.largest:
        what = plain(words.where(row))
        yield table_row(
            [
                row.level,
                usd(row.notional_usd),
                _account(row.account),
                what,
                clock(row.first_at),
                plain(row.key),
            ]
        )


def _markets(report: WhaleReport) -> Iterator[str]:
    yield "\n## Markets\n"
    yield from table_header("market", "-notional", "-long", "-short", "-fills", "-accounts")
    for row in report.markets[: report.top]:
        money = map(usd, (row.notional_usd, row.long_usd, row.short_usd))
        yield table_row([plain(row.market), *money, f"{row.fills:,}", f"{row.accounts:,}"])


def _episodes(report: WhaleReport) -> Iterator[str]:
    yield f"\n## Top {len(report.episodes)} of {count_of(report.total.episodes, 'episode')}\n"
    yield from table_header(
        "-#", "account", "labels", "dex", "what", "-notional", "-mark notional", "-realised PnL",
        "-equity", "-peak position", "how", "from, UTC", "to, UTC", "lasted", "-fills",
    )  # fmt: skip
    for rank, row in enumerate(report.episodes, 1):
        size = [words.threshold(row.threshold_usd)] if row.threshold_usd is not None else []
        what = f"{listed(row.markets)} {'/'.join(row.sides)}"
        money = (row.notional_usd, row.notional_mark_usd, row.realised_pnl_usd, row.equity_usd)
        yield table_row(
            [
                str(rank),
                _account(row.account),
                plain(" ".join([*row.labels, *size])),
                plain(row.dex or "main"),
                plain(what),
                *map(usd, money),
                usd(row.peak_position_usd),
                plain(words.methods(row.methods)),
                clock(row.first_at),
                clock(row.last_at),
                lasted(row.lasted),
                f"{row.fills:,}",
            ]
        )
    if report.episodes:
        yield "\nEach as one story, also what of it lies outside of the window.\n"
    for rank, row in enumerate(report.episodes, 1):
        yield f"{rank}. {plain(row.story)}"


def _whales(report: WhaleReport) -> Iterator[str]:
    yield f"\n## Whales\n\n{words.whales_line(report)}.\n"
    for whale in report.whales:
        yield from _whale(whale)


def _whale(whale: Whale) -> Iterator[str]:
    pnl = usd(whale.realised_pnl_usd)
    yield f"- {_account(whale.account)}: {usd(whale.notional_usd)}, PnL {pnl}"
    for opinion in whale.opinions:
        said = "; ".join(f"{name}: {value}" for name, value in words.facts(opinion.evidence))
        confidence = words.number(opinion.confidence)
        rule = f"{plain(opinion.rule)} v{opinion.rule_version}"
        yield f"  - {rule}, confidence {confidence}: {plain(said)}"


def _watched(report: WhaleReport) -> Iterator[str]:
    for table in watched.tables(report.under_water, report.closest):
        yield f"\n## {table.name}\n"
        yield f"{words.WATCHED}\n"
        yield from table_header("account", *table.columns)
        yield from (table_row(map(plain, row)) for row in table.rows)


def _foot(report: WhaleReport) -> Iterator[str]:
    yield "\n## What is counted\n"
    for said in report.terms:
        yield f"- {plain(said)}"
    yield f"\n## Methodology\n\n{plain(report.methodology.en)}\n\n{plain(report.methodology.zh)}"
    yield "\n## The same numbers again\n"
    yield f"```sh\n{report.reproduction.command}\n```\n"
    yield f"```sql\n{report.reproduction.sql}\n```\n"
    for made in report.reproduction.decoders:
        yield f"Decoder of {plain(made.venue)}: {words.versions(made)}."


def table_header(*names: str) -> Iterator[str]:
    """A name with a minus in front stands over numbers."""
    yield table_row(name.removeprefix("-") for name in names)
    yield table_row("--:" if name.startswith("-") else "---" for name in names)


def table_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _account(account: str) -> str:
    return f"`{account}`" if is_address(account) else plain(account)


def plain(text: str) -> str:
    """Foreign words as words: no markup, no table cell, no link, no mention, no tag."""
    return _MARKUP.sub(_escaped, clean(text))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return f"&#{ord(character)};" if character in "&<>@.:" else f"\\{character}"
