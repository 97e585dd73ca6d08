"""How a total looks on the terminal, in Markdown and in JSON. Its methodology stands under it."""

from collections.abc import Iterable, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

import msgspec
from rich.console import Console
from rich.markup import escape

from indexer.methodology.prose import paragraph
from indexer.model import EXACT
from indexer.report.markdown import plain, table_header, table_row
from indexer.report.terminal import plain_table
from indexer.report.text import (
    ABSENT,
    clock,
    count_of,
    exact,
    moment,
    printable,
    short,
    usd,
)
from indexer.store.totals import Line, Missing, Scope, Total

Language = Literal["en", "zh"]
Row = Sequence[str]

NAMES_SHOWN = 12  # assets, venues and the like; the JSON has them all
MISSING_SHOWN = 5

_SPLITS = {
    "instrument": "kind", "venue": "venue", "asset": "asset", "method": "method",
    "price_source": "price source",
}  # fmt: skip
_BESIDE = {
    "not_final": "in blocks that may still change",
    "permissionless": "priced by an asset's or a dex's own deployer",
    "protocol_vault": "of the exchange's own vaults",
    "self_liquidation": "by the account itself",
    "repeated": "repeated within an episode",
    "unsampled": "not in the sample",
    "too_small": "below the minimum",
}
_LARGEST = ("fill", "order", "action", "episode", "account")


def to_terminal(total: Total, language: Language, console: Console) -> None:
    """Tables between lines of text; hostile words are escaped."""
    for text in _head(total):
        console.print(escape(printable(text)), soft_wrap=True)
    for name, columns, rows in _tables(total):
        table = plain_table(name, *columns)
        for row in rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print()
        console.print(table)
    console.print()
    for text in _keys(total):
        console.print(escape(printable(text)), style="dim", soft_wrap=True)
    console.print()
    console.print(escape(paragraph(total.definition, language)), soft_wrap=True)


def to_markdown(total: Total, language: Language) -> str:
    """The same as tables of Markdown."""
    first, *head = _head(total)
    lines = [f"# {plain(first)}", "", *(f"- {plain(text)}" for text in head)]
    for name, columns, rows in _tables(total):
        lines += ["", *table_header(name, *columns)]
        lines += [table_row(map(plain, row)) for row in rows]
    lines += ["", *(f"- {plain(text)}" for text in _keys(total))]
    return "\n".join([*lines, "", paragraph(total.definition, language), ""])


def to_json(total: Total) -> str:
    """Everything, decimals as text."""
    definition = total.definition
    data = {
        "definition": definition.id, "definition_hash": definition.hash,
        "definition_body": msgspec.to_builtins(definition),
        "window": msgspec.to_builtins(total.window),
        "usd": total.line.usd, "is_complete": total.is_complete,
        "is_simulated": total.is_simulated, "lines": total.lines, "coverage": total.scopes,
        "price_set": total.price_set, "labels_as_of": total.labels_as_of,
        "code_version": total.code_version,
        "methodology": {name: paragraph(definition, name) for name in ("en", "zh")},
    }  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


# -- what is said --------------------------------------------------------------------------------


def _title(total: Total) -> str:
    return f"{total.definition.id}, {total.window.said}: {usd(total.line.usd)}"


def _head(total: Total) -> Iterable[str]:
    definition = total.definition
    yield _title(total)
    if total.is_simulated:
        yield "SIMULATED: this database holds rows that a simulator made"
    if total.line.usd is None:
        yield (
            "no sum: notional of perpetuals and this value of loans are not alike"
            if not definition.is_one_sum
            else "no sum: nothing of it has a value"
        )
    yield definition.says
    yield f"definition: {definition.id}, {definition.fidelity}, hash {definition.hash}"
    yield f"window: {window_text(total)}"
    yield from _coverage(total)
    if total.line.unvalued:
        yield f"without a value, in no sum: {count_of(total.line.unvalued, 'record')}"
    yield f"price set: {total.price_set}"
    if definition.labels.only or definition.labels.without:
        yield f"labels as known at {exact(total.labels_as_of)}"
    yield f"code: {total.code_version}"


def window_text(total: Total) -> str:
    """The window of a total, in UTC or in blocks."""
    window = total.window
    if window.low is None or window.high is None:
        return f"blocks {window.block_from:,} to before {window.block_to:,} of {window.chain}"
    text = f"{exact(window.low)} to before {exact(window.high)}"
    return f"{text}, prices {window.series_hash[:12]}" if window.series_hash else text


def _coverage(total: Total) -> Iterable[str]:
    if not total.scopes:
        yield "coverage: nothing in scope was ever read"
    elif total.is_complete:
        yield (
            "coverage: complete: every block of the window was read, of each venue in scope that"
            " was ever read"
        )
    for scope in total.scopes:
        if not (total.is_complete and len(total.scopes) > NAMES_SHOWN):
            yield _scope(scope)


def _scope(scope: Scope) -> str:
    parts = [f"{_share(scope.share)} of the window read"]
    if scope.verifications:
        parts.append(f"known by {', '.join(scope.verifications)}")
    if scope.undecoded:
        parts.append(f"{count_of(scope.undecoded, 'event')} undecoded")
    if scope.as_of_at is not None and scope.as_of_block is not None:
        parts.append(f"as of block {scope.as_of_block:,}, {moment(scope.as_of_at)}")
    if scope.missing:
        shown = "; ".join(_missing(one) for one in scope.missing[:MISSING_SHOWN])
        more = len(scope.missing) - MISSING_SHOWN
        parts.append(f"missing {shown}" + (f"; and {more:,} more" if more > 0 else ""))
    return f"coverage of {scope.name}: {', '.join(parts)}"


def _share(share: Decimal) -> str:
    """Cut, never rounded up to what was not read."""
    return f"{EXACT.multiply(share, Decimal(100)).quantize(Decimal('0.01'), ROUND_FLOOR)} %"


def _missing(one: Missing) -> str:
    if one.low is not None and one.high is not None:
        return f"{exact(one.low)} to {exact(one.high)}"
    if one.block_from is not None and one.block_to is not None:
        return f"blocks {one.block_from:,} to {one.block_to - 1:,}"
    return "an open end"


def _tables(total: Total) -> Iterable[tuple[str, Row, list[Row]]]:
    line = total.line
    yield "counts", ("number",), [
        (name, _number(getattr(line, name)))
        for name in (
            "records", "fills", "orders", "actions", "positions", "episodes", "accounts",
        )
    ]  # fmt: skip
    yield (
        "side",
        ("USD", "records"),
        [
            (one.name or "neither", usd(one.usd), _number(one.records))
            for one in total.section("side")
        ],
    )
    for section, name in _SPLITS.items():
        lines = total.section(section)
        rows = [_split(one) for one in lines[:NAMES_SHOWN]]
        if len(lines) > NAMES_SHOWN:
            rows.append((f"and {len(lines) - NAMES_SHOWN:,} more", *[""] * 5))
        yield name, ("USD", "long", "short", "records", "accounts"), rows
    largest = {one.name: one for one in total.section("largest")}
    yield "largest single", ("USD", "from, UTC", "account"), [
        (name, usd(one.usd), clock(one.first_at) if one.first_at else ABSENT,
         short(one.account or ABSENT))
        for name in _LARGEST if (one := largest.get(name)) is not None
    ]  # fmt: skip
    beside: list[Row] = [
        (_BESIDE[one.name or ""], usd(one.usd), _number(one.records), _number(one.accounts))
        for one in total.section("beside")
    ]
    if beside:
        yield "not counted", ("USD", "records", "accounts"), beside


def _keys(total: Total) -> Iterable[str]:
    for one in total.section("largest"):
        yield f"largest {one.name}: {one.key}"


def _split(one: Line) -> Row:
    return (
        one.name or "unknown", usd(one.usd), usd(one.long_usd), usd(one.short_usd),
        _number(one.records), _number(one.accounts),
    )  # fmt: skip


def _number(count: int | None) -> str:
    return ABSENT if count is None else f"{count:,}"
