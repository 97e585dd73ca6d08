"""Who was liquidated in a window and how large: the numbers of `indexer report whales`.

Everything is read in one snapshot of the database. How it looks is the business of `render`.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from importlib import resources
from itertools import groupby
from typing import Any, Literal, TypeVar

import msgspec
from psycopg.rows import dict_row

from indexer.errors import ConfigError
from indexer.methodology.definition import presets
from indexer.methodology.prose import paragraph
from indexer.report.story import sentence
from indexer.report.text import count_of, duration, moment
from indexer.store import episodes, positions
from indexer.store.database import Connection
from indexer.store.episodes import USUAL_GAP, check_gap
from indexer.store.positions import Shown

# As liq.at_par has them; a test holds the two together.
PAR_TOKENS = ("USDC", "USDT", "USDT0", "USDH", "USDE", "DAI", "sUSD")
# What the headline means; a test holds it to `liq.total` of this definition.
DEFINITION = "whale_report/v1"
USUAL_WINDOW = timedelta(hours=24)  # of this definition, as is
MOST_BARS = 120
TICK = timedelta(microseconds=1)  # what timestamptz resolves

T = TypeVar("T")
Level = Literal["fill", "order", "action", "episode"]


# -- the nouns


class Line(msgspec.Struct, frozen=True):
    """Money and counts of one line; `name` is user, protocol_vault, borrow or a method.

    Counts include the `unpriced` rows, dollars cannot. `without_mark` and `without_pnl` say how
    many priced rows the mark notional and the profit or loss miss.
    """

    name: str
    fills: int = 0
    orders: int = 0
    actions: int = 0
    episodes: int = 0
    accounts: int = 0
    notional_usd: Decimal = Decimal(0)
    notional_mark_usd: Decimal = Decimal(0)
    long_usd: Decimal = Decimal(0)
    short_usd: Decimal = Decimal(0)
    realised_pnl_usd: Decimal = Decimal(0)
    unpriced: int = 0
    without_mark: int = 0
    without_pnl: int = 0


class Unpriced(msgspec.Struct, frozen=True):
    """Rows of a line without a dollar value; `notional` is in `quote`, None where unknown."""

    line: str
    quote: str | None
    fills: int
    notional: Decimal


class Largest(msgspec.Struct, frozen=True):
    """The largest single fill, order, action or episode; `key` is that of its `liq` view."""

    level: Level
    key: str
    venue: str
    account: str
    dex: str
    markets: tuple[str, ...]
    sides: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    fills: int
    notional_usd: Decimal


class Episode(msgspec.Struct, frozen=True):
    """All that was liquidated of one account on one dex without a longer pause than the gap.

    `methods` are in order of appearance. `equity_usd` is the account value that the exchange's
    ledger states at the first action it tells of; `threshold_usd` the largest that a flag names.
    The peak position is over all days read up to the end of the window. `story` is the whole
    episode in one sentence, also what of it lies outside of the window.
    """

    key: str
    venue: str
    account: str
    dex: str
    first_at: datetime
    last_at: datetime
    fills: int
    markets: tuple[str, ...]
    sides: tuple[str, ...]
    methods: tuple[str, ...]
    notional_usd: Decimal | None
    notional_mark_usd: Decimal | None
    realised_pnl_usd: Decimal | None
    unpriced: int
    labels: tuple[str, ...]
    threshold_usd: Decimal | None
    equity_usd: Decimal | None
    peak_position_usd: Decimal | None
    peak_position_market: str | None
    peak_position_day: date | None
    story: str

    @property
    def lasted(self) -> timedelta:
        """From the first to the last liquidation."""
        return self.last_at - self.first_at


class Opinion(msgspec.Struct, frozen=True):
    """Why an account counts as a whale. Numbers in `evidence` are text, so that none is rounded."""

    rule: str
    rule_version: int
    confidence: Decimal
    evidence: dict[str, Any]
    valid_from: datetime | None
    valid_to: datetime | None


class Whale(msgspec.Struct, frozen=True):
    """A labelled account that was liquidated in the window."""

    venue: str
    account: str
    fills: int
    episodes: int
    first_at: datetime
    last_at: datetime
    notional_usd: Decimal | None
    realised_pnl_usd: Decimal | None
    opinions: tuple[Opinion, ...]


class MarketTotal(msgspec.Struct, frozen=True):
    """What users lost their positions in."""

    market: str
    notional_usd: Decimal
    long_usd: Decimal
    short_usd: Decimal
    fills: int
    accounts: int


class Bar(msgspec.Struct, frozen=True):
    """Money of one kind in one market in the bucket that begins at `at`; `kind` is a method of
    users, or protocol_vault. A bucket without rows has no bar."""

    at: datetime
    market: str
    kind: str
    notional_usd: Decimal


class Chart(msgspec.Struct, frozen=True):
    """The part of the window that was read, in buckets of the clock; `unread` are the holes."""

    chart_from: datetime
    chart_to: datetime
    bucket: timedelta
    bars: tuple[Bar, ...]
    unread: tuple[tuple[datetime, datetime], ...]


class Covered(msgspec.Struct, frozen=True):
    """A range of blocks that was read whole and touches the window."""

    venue: str
    block_from: int
    block_to: int
    first_at: datetime
    last_at: datetime
    verification: str
    decoder_version: int


class Hole(msgspec.Struct, frozen=True):
    """Blocks that were never read, between the times of two that were."""

    venue: str
    block_from: int
    block_to: int
    after_at: datetime
    before_at: datetime


class Reach(msgspec.Struct, frozen=True):
    """The last block that was read of a venue."""

    venue: str
    last_at: datetime
    last_block: int


class UndecodedReason(msgspec.Struct, frozen=True):
    """How many events of the window are no row for one reason."""

    venue: str
    reason: str
    events: int


class Coverage(msgspec.Struct, frozen=True):
    """What was read of the window. `lacks` is empty when, and only when, nothing is missing."""

    covered: tuple[Covered, ...]
    holes: tuple[Hole, ...]
    undecoded: tuple[UndecodedReason, ...]
    outside_coverage: int
    lacks: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.lacks

    @property
    def blocks(self) -> int:
        """Of all ranges that touch the window, whole."""
        return sum(blocks.block_to - blocks.block_from for blocks in self.covered)

    @property
    def missing_blocks(self) -> int:
        return sum(hole.block_to - hole.block_from for hole in self.holes)

    @property
    def undecoded_events(self) -> int:
        return sum(reason.events for reason in self.undecoded)

    @property
    def verifications(self) -> tuple[str, ...]:
        return tuple(sorted({blocks.verification for blocks in self.covered}))


class Decoders(msgspec.Struct, frozen=True):
    """The versions of the decoders that made the rows of the window."""

    venue: str
    versions: tuple[int, ...]


class Reproduction(msgspec.Struct, frozen=True):
    """How to get the same numbers again: the command, and the SQL of the headline total."""

    command: str
    sql: str
    decoders: tuple[Decoders, ...]


class Methodology(msgspec.Struct, frozen=True):
    """What the total counts, as its definition says it in English and in Chinese. `departs` names
    what of it this report has otherwise."""

    id: str
    hash: str
    en: str
    zh: str
    departs: tuple[Literal["window", "gap"], ...]


class WhaleReport(msgspec.Struct, frozen=True):
    """The report. `window_from` is inside the window, `window_to` is not.

    `as_of` are the last blocks read of each venue, `read_at` is when the database was asked.
    `total` is of users; `apart` are the lines that are in no total. `under_water` and `closest` are
    open positions as they were last seen, whatever the window.
    """

    is_simulated: bool
    venues: tuple[str, ...]
    window_from: datetime
    window_to: datetime
    gap: timedelta
    top: int
    as_of: tuple[Reach, ...]
    read_at: datetime
    coverage: Coverage
    methodology: Methodology
    terms: tuple[str, ...]
    total: Line
    methods: tuple[Line, ...]
    apart: tuple[Line, ...]
    unpriced: tuple[Unpriced, ...]
    largest: tuple[Largest, ...]
    markets: tuple[MarketTotal, ...]
    episodes: tuple[Episode, ...]
    whales: tuple[Whale, ...]
    whales_active: int
    whales_labelled: int
    under_water: tuple[Shown, ...]
    closest: tuple[Shown, ...]
    chart: Chart
    reproduction: Reproduction


# -- collect


def collect(
    connection: Connection,
    *,
    since: timedelta,
    until: datetime | None = None,
    gap: timedelta = USUAL_GAP,
    top: int = 20,
) -> WhaleReport:
    """Read the report of the window [until - since, until) from one snapshot of the database.

    Without `until` the window ends with the last block that was read: the data may be old.
    `connection` must be outside of a transaction; it fills a temporary table that it drops again.
    Raises ConfigError when nothing was read yet or a parameter makes no sense.
    """
    _check(since, until, gap, top)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        as_of = _ask(connection, "reach", {}, Reach)
        if not as_of:
            raise ConfigError("nothing is indexed yet: indexer backfill hyperliquid --from DIR")
        window_to = until.astimezone(UTC) if until else max(r.last_at for r in as_of) + TICK
        try:
            window_from = window_to - since
        except OverflowError:
            raise ConfigError(f"{duration(since)} before {moment(window_to)} is no date") from None
        return _Reader(connection, as_of, window_from, window_to, gap, top).report()


def _check(since: timedelta, until: datetime | None, gap: timedelta, top: int) -> None:
    if since <= timedelta(0):
        raise ConfigError(f"the window must be longer than {duration(since)}")
    if until is not None and until.tzinfo is None:
        raise ConfigError(f"the end of the window, {until}, must say its time zone")
    check_gap(gap)
    if top < 1:
        raise ConfigError(f"the report must have at least one row, not {top}")


class _Reader:
    """The snapshot, with the table `counted` in it, and the parameters that every query has."""

    def __init__(
        self,
        connection: Connection,
        as_of: tuple[Reach, ...],
        window_from: datetime,
        window_to: datetime,
        gap: timedelta,
        top: int,
    ) -> None:
        self._connection = connection
        self._as_of = as_of
        self._parameters: dict[str, object] = {
            "window_from": window_from,
            "window_to": window_to,
            "gap": gap,
            "top": top,
        }
        self._window = (window_from, window_to)
        self._gap, self._top = gap, top
        connection.execute(_sql("counted").encode(), self._parameters)
        connection.execute("ANALYZE counted")

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return _rows(self._connection, name, self._parameters)

    def _ask(self, name: str, into: type[T]) -> tuple[T, ...]:
        return _ask(self._connection, name, self._parameters, into)

    def report(self) -> WhaleReport:
        """Ask everything."""
        source = self._rows("sources")[0]
        whales = _whales(self._rows("whales"))
        lines = self._rows("lines")
        return WhaleReport(
            is_simulated=source["is_simulated"],
            venues=tuple(reach.venue for reach in self._as_of),
            window_from=self._window[0],
            window_to=self._window[1],
            gap=self._gap,
            top=self._top,
            as_of=self._as_of,
            read_at=source["read_at"],
            coverage=self._coverage,
            methodology=methodology(self._window[1] - self._window[0], self._gap),
            terms=terms(self._gap),
            total=_total(lines, "user"),
            methods=_methods(lines, "user"),
            apart=(_total(lines, "protocol_vault"), *_borrow(lines)),
            unpriced=self._ask("unpriced", Unpriced),
            largest=self._ask("largest", Largest),
            markets=self._ask("markets", MarketTotal),
            episodes=self._episodes(),
            whales=whales[: self._top],
            whales_active=len(whales),
            whales_labelled=self._rows("labelled")[0]["count"],
            under_water=tuple(positions.under_water(self._connection, self._top)),
            closest=tuple(positions.closest(self._connection, self._top)),
            chart=self._chart(),
            reproduction=Reproduction(
                _command(*self._window, self._gap, self._top),
                _headline_sql(*self._window),
                self._ask("decoders", Decoders),
            ),
        )

    def _episodes(self) -> tuple[Episode, ...]:
        rows = self._rows("episodes")
        places = [place for row in rows if (place := episodes.parsed(row["key"])) is not None]
        told = episodes.read(self._connection, places, self._gap)
        stories = {story.key: sentence(story) for story in told}
        return tuple(msgspec.convert(row | {"story": stories[row["key"]]}, Episode) for row in rows)

    @cached_property
    def _outside(self) -> dict[str, Any]:
        return self._rows("outside")[0]

    @cached_property
    def _coverage(self) -> Coverage:
        covered, holes = self._ask("covered", Covered), self._ask("holes", Hole)
        undecoded = self._ask("undecoded", UndecodedReason)
        outside = self._outside["outside_coverage"]
        lacks = [
            *_unreached(self._as_of, covered, holes, *self._window),
            *map(_told, holes),
            *_unprovable(covered),
        ]
        if events := sum(reason.events for reason in undecoded):
            lacks.append(f"{count_of(events, 'event')} could not be decoded")
        if outside:
            lacks.append(
                f"{count_of(outside, 'fill')} came from single records, not from whole blocks"
            )
        return Coverage(covered, holes, undecoded, outside, tuple(lacks))

    def _chart(self) -> Chart:
        """Over what was read, not the window: a day of which two hours were read shows these."""
        window_from, window_to = self._window
        covered = self._coverage.covered
        first, last = self._outside["first_at"], self._outside["last_at"]
        starts = [blocks.first_at for blocks in covered] + ([first] if first else [])
        ends = [blocks.last_at + TICK for blocks in covered] + ([last + TICK] if last else [])
        chart_from = max(window_from, min(starts, default=window_from))
        chart_to = min(window_to, max(ends, default=window_to))
        bucket = bucket_of(chart_to - chart_from)
        self._parameters["bucket"] = bucket
        holes = self._coverage.holes
        unread = ((max(h.after_at, chart_from), min(h.before_at, chart_to)) for h in holes)
        return Chart(
            chart_from,
            chart_to,
            bucket,
            self._ask("bars", Bar),
            tuple(sorted((begins, ends) for begins, ends in unread if begins < ends)),
        )


def _sql(name: str) -> str:
    return (resources.files("indexer.report") / f"{name}.sql").read_text(encoding="utf-8")


def _rows(
    connection: Connection, name: str, parameters: Mapping[str, object]
) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_sql(name).encode(), parameters).fetchall()


def _ask(
    connection: Connection, name: str, parameters: Mapping[str, object], into: type[T]
) -> tuple[T, ...]:
    return msgspec.convert(_rows(connection, name, parameters), tuple[into, ...])  # type: ignore[valid-type]


# -- lines


def _total(lines: list[dict[str, Any]], name: str) -> Line:
    found = [row for row in lines if row["line"] == name and row["method"] is None]
    return _line(found[0], name) if found else Line(name)


def _methods(lines: list[dict[str, Any]], name: str) -> tuple[Line, ...]:
    found = [row for row in lines if row["line"] == name and row["method"] is not None]
    return tuple(_line(row, row["method"]) for row in found)


def _borrow(lines: list[dict[str, Any]]) -> tuple[Line, ...]:
    return _methods(lines, "borrow") or (Line("borrow"),)


def _line(row: dict[str, Any], name: str) -> Line:
    counts = {field: row[field] for field in Line.__struct_fields__ if field != "name"}
    return Line(name, **counts)


def _whales(rows: list[dict[str, Any]]) -> tuple[Whale, ...]:
    def account(row: dict[str, Any]) -> tuple[str, str]:
        return row["venue"], row["account"]

    return tuple(_whale(list(said)) for _, said in groupby(rows, account))


def _whale(rows: list[dict[str, Any]]) -> Whale:
    opinions = [{**row, "evidence": _evidence(row["evidence"])} for row in rows]
    return msgspec.convert({**rows[0], "opinions": opinions}, Whale)


def _evidence(text: str) -> dict[str, Any]:
    """Numbers stay as they are written."""
    found = json.loads(text, parse_float=str, parse_int=str)
    return found if isinstance(found, dict) else {"evidence": found}


# -- is it complete


def _unreached(
    as_of: tuple[Reach, ...],
    covered: tuple[Covered, ...],
    holes: tuple[Hole, ...],
    window_from: datetime,
    window_to: datetime,
) -> Iterator[str]:
    """Where a venue's first or last range stops short of the edge of the window."""
    for reach in as_of:
        ranges = [blocks for blocks in covered if blocks.venue == reach.venue]
        if not ranges:
            yield f"{reach.venue}: no block of this window was read"
            continue
        first, last = ranges[0], ranges[-1]
        is_hole = any(hole.block_to == first.block_from for hole in holes)
        if first.first_at > window_from and not is_hole:
            yield f"the window begins before the first covered block ({moment(first.first_at)})"
        is_hole = any(hole.block_from == last.block_to for hole in holes)
        if last.last_at < window_to - TICK and not is_hole:
            yield f"the window ends after the last covered block ({moment(last.last_at)})"


def _told(hole: Hole) -> str:
    blocks = count_of(hole.block_to - hole.block_from, "block")
    return (
        f"{blocks} from height {hole.block_from} on never read, between"
        f" {moment(hole.after_at)} and {moment(hole.before_at)}"
    )


def _unprovable(covered: tuple[Covered, ...]) -> Iterator[str]:
    blocks = sum(c.block_to - c.block_from for c in covered if c.verification == "fills_only")
    if blocks:
        yield (
            f"{count_of(blocks, 'block')} came from files without empty blocks:"
            " a lost block cannot be seen there"
        )


# -- words


def methodology(window: timedelta, gap: timedelta) -> Methodology:
    """The paragraphs of the definition, and what this report has otherwise at their end."""
    definition = presets()[DEFINITION]
    en, zh = paragraph(definition, "en"), paragraph(definition, "zh")
    departs: list[Literal["window", "gap"]] = []
    if window != USUAL_WINDOW:
        departs.append("window")
        en += f" Here the window is {duration(window)}."
        zh += f"本报告的统计窗口为 {_in_chinese(window)}。"
    if gap != USUAL_GAP:
        departs.append("gap")
        en += f" Here an episode ends after {duration(gap)} without an action."
        zh += f"本报告中，连续 {_in_chinese(gap)}没有清算动作，一次清算过程即告结束。"
    return Methodology(definition.id, definition.hash, en, zh, tuple(departs))


def _in_chinese(span: timedelta) -> str:
    said = duration(span)
    units = {"s": "秒", "m": "分钟", "h": "小时", "d": "天"}
    return f"{said[:-1]} {units[said[-1]]}"


def terms(gap: timedelta) -> tuple[str, ...]:
    """What words and lines of this report mean that the definition leaves open, made of the
    parameters that it was made with."""
    tokens = ", ".join(PAR_TOKENS[:-1]) + f" and {PAR_TOKENS[-1]}"
    return (
        f"Dollar tokens are {tokens}; rows in any other token have no dollar value.",
        "Protocol vaults as liquidated party, and borrow liquidations, stand on lines of their own"
        " and are in no total.",
        "Fill: one trade. Order: one order of an account in one market. Action: what one hash did"
        " to an account. Episode: what was liquidated of an account on one dex with no pause"
        f" longer than {duration(gap)}.",
    )


def _command(window_from: datetime, window_to: datetime, gap: timedelta, top: int) -> str:
    return (
        f"indexer report whales --since {duration(window_to - window_from)}"
        f" --until {_iso(window_to)} --gap {duration(gap)} --top {top}"
    )


def _headline_sql(window_from: datetime, window_to: datetime) -> str:
    text = _sql("headline").strip()
    for name, at in (("window_from", window_from), ("window_to", window_to)):
        text = text.replace(f"%({name})s", f"'{_iso(at)}'")
    return f"{text};"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# -- buckets

_BUCKETS = [
    timedelta(seconds=seconds)
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(hours * 3600 for hours in (1, 2, 3, 6, 12, 24, 7 * 24)),
    )
]


def bucket_of(span: timedelta) -> timedelta:
    """The smallest handy bucket that cuts the span into at most MOST_BARS, whole ones or not."""
    for bucket in _BUCKETS:
        if span <= bucket * (MOST_BARS - 1):
            return bucket
    week = _BUCKETS[-1]
    return week * -(-span // (week * (MOST_BARS - 1)))
