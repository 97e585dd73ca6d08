"""Who was liquidated in a window and how large: the numbers of `indexer report whales`.

Everything is read in one snapshot of the database, under one definition: its total is that of
`liq.total`, and all else is of the rows that it counts. How it looks is the business of `render`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from importlib import resources
from typing import Any, Literal, TypeVar

import msgspec
from psycopg.rows import dict_row

from indexer.errors import ConfigError
from indexer.methodology.definition import Definition, Rolling, presets
from indexer.methodology.prose import Language, paragraph
from indexer.methodology.windows import Window
from indexer.report.story import sentence
from indexer.report.text import duration, in_chinese, moment
from indexer.store import episodes, loan_episodes, positions, totals, window_lines
from indexer.store.database import Connection
from indexer.store.episodes import Place, check_gap
from indexer.store.positions import Shown
from indexer.store.totals import Line, Scope
from indexer.store.window_lines import Beside

DEFINITION = "whale_report/v1"
MOST_BARS = 120
MINUTES = 10  # of a cascade
SMALL_CHARTS = 8
STORIES = 3  # of an account
TICK = timedelta(microseconds=1)  # what timestamptz resolves

# As a definition takes them: a protocol, or a protocol on a chain.
_VENUE = re.compile(r"[a-z0-9_]+(\.[a-z0-9-]+)?")

T = TypeVar("T")
Departure = Literal["window", "gap", "venues"]
Level = Literal["fill", "order", "action", "episode", "account"]


# -- the nouns


class Largest(msgspec.Struct, frozen=True):
    """The largest single one of a level, as the total has it. `markets` are those of perpetuals,
    and of loans the assets; `action` is a transaction of it."""

    level: Level
    key: str
    venue: str
    account: str
    first_at: datetime
    last_at: datetime
    usd: Decimal
    records: int
    markets: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    action: str | None = None


class Story(msgspec.Struct, frozen=True):
    """What befell an account in one episode, in one sentence of each language: the whole episode,
    also what of it lies outside of the window. `key` is that of `indexer report episode`."""

    key: str
    en: str
    zh: str


class Episode(msgspec.Struct, frozen=True):
    """All that counts of one account at a venue and dex without a longer pause than the gap.

    Money is of the part inside the window. `methods` are in order of appearance. `equity_usd` is
    the account value that the exchange's ledger states at the first action it tells of;
    `threshold_usd` the largest that a flag names. The peak position is over all days read up to the
    end of the window. `action` is the transaction that took most.
    """

    key: str
    venue: str
    chain: str
    instrument: str
    account: str
    dex: str
    first_at: datetime
    last_at: datetime
    records: int
    markets: tuple[str, ...]
    sides: tuple[str, ...]
    methods: tuple[str, ...]
    action: str
    usd: Decimal | None
    mark_usd: Decimal | None
    realised_usd: Decimal | None
    unvalued: int
    labels: tuple[str, ...]
    threshold_usd: Decimal | None
    equity_usd: Decimal | None
    peak_position_usd: Decimal | None
    peak_position_market: str | None
    peak_position_day: date | None
    story: Story | None

    @property
    def lasted(self) -> timedelta:
        """From the first to the last liquidation."""
        return self.last_at - self.first_at


class Opinion(msgspec.Struct, frozen=True):
    """What an account is thought to be, and why. Numbers in `evidence` are text, so that none is
    rounded."""

    label: str
    rule: str
    rule_version: int
    confidence: Decimal
    evidence: dict[str, Any]
    valid_from: datetime | None
    valid_to: datetime | None


class Account(msgspec.Struct, frozen=True):
    """What counts of an account at one venue; `stories` are of the largest of its episodes that
    stand in the report, `action` is the transaction that took most of it."""

    venue: str
    chain: str
    account: str
    usd: Decimal | None
    long_usd: Decimal | None
    short_usd: Decimal | None
    records: int
    unvalued: int
    episodes: int
    realised_usd: Decimal | None
    first_at: datetime
    last_at: datetime
    action: str
    opinions: tuple[Opinion, ...]
    stories: tuple[Story, ...]


class Minute(msgspec.Struct, frozen=True):
    """One of the minutes in which most was liquidated."""

    at: datetime
    usd: Decimal
    long_usd: Decimal | None
    short_usd: Decimal | None
    records: int
    accounts: int


class Bar(msgspec.Struct, frozen=True):
    """Money of one kind in the bucket that begins at `at`, of all assets where `asset` is None;
    `kind` is market, backstop, adl, lending, other, or protocol_vault, which is in no total. A
    bucket without rows has no bar."""

    at: datetime
    asset: str | None
    kind: str
    usd: Decimal


class Chart(msgspec.Struct, frozen=True):
    """The part of the window that was read, in buckets of the clock; `unread` are the times of
    which no venue was read whole."""

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


class Undecoded(msgspec.Struct, frozen=True):
    """How many events of the window are no row for one reason."""

    venue: str
    reason: str
    events: int


class Unvalued(msgspec.Struct, frozen=True):
    """How many rows that count have no value for one reason; None where nobody tried."""

    venue: str
    reason: str | None
    records: int


class Coverage(msgspec.Struct, frozen=True):
    """What was read of the window, of each venue that the definition speaks of."""

    scopes: tuple[Scope, ...]
    covered: tuple[Covered, ...]
    undecoded: tuple[Undecoded, ...]
    unvalued: tuple[Unvalued, ...]
    outside_coverage: int

    @property
    def is_complete(self) -> bool:
        """Whether every block of the window was read, by what shows a lost one, all that was found
        is decoded, and each row is of a block that was read."""
        return (
            bool(self.scopes)
            and all(scope.is_whole for scope in self.scopes)
            and not self.unprovable_blocks
            and not self.outside_coverage
        )

    @property
    def blocks(self) -> int:
        """Of all ranges that touch the window, whole."""
        return sum(blocks.block_to - blocks.block_from for blocks in self.covered)

    @property
    def unprovable_blocks(self) -> int:
        """Of files without empty blocks: a lost one cannot be seen there."""
        ranges = (one for one in self.covered if one.verification == "fills_only")
        return sum(blocks.block_to - blocks.block_from for blocks in ranges)

    @property
    def undecoded_events(self) -> int:
        return sum(reason.events for reason in self.undecoded)

    @property
    def verifications(self) -> tuple[str, ...]:
        return tuple(sorted({blocks.verification for blocks in self.covered}))

    @property
    def decoders(self) -> dict[str, tuple[int, ...]]:
        """The versions of the decoders that made the rows of each venue."""
        found: dict[str, set[int]] = {}
        for one in self.covered:
            found.setdefault(one.venue, set()).add(one.decoder_version)
        return {venue: tuple(sorted(versions)) for venue, versions in found.items()}


class Reproduction(msgspec.Struct, frozen=True):
    """How to get the same numbers again: the command, and the SQL of the headline total."""

    command: str
    sql: str
    price_set: str
    labels_as_of: datetime | None
    code_version: str


class Methodology(msgspec.Struct, frozen=True):
    """What the total counts, as its definition says it in English and in Chinese. `departs` names
    what of it this report has otherwise."""

    id: str
    hash: str
    en: str
    zh: str
    departs: tuple[Departure, ...]

    def said(self, language: Language) -> str:
        """The paragraph of a language."""
        return self.en if language == "en" else self.zh


class WhaleReport(msgspec.Struct, frozen=True):
    """The report. `window_from` is inside the window, `window_to` is not.

    `lines` are those of the total. `under_water` and `closest` are open positions as they were last
    seen, whatever the window. `hash` is of all that the report says, but for when it was asked.
    """

    is_simulated: bool
    definition: Definition
    venues: tuple[str, ...]
    window_from: datetime
    window_to: datetime
    gap: timedelta
    top: int
    read_at: datetime
    coverage: Coverage
    methodology: Methodology
    lines: tuple[Line, ...]
    beside: tuple[Beside, ...]
    largest: tuple[Largest, ...]
    minutes: tuple[Minute, ...]
    episodes: tuple[Episode, ...]
    accounts: tuple[Account, ...]
    whales: tuple[Account, ...]
    whales_active: int
    whales_labelled: int
    under_water: tuple[Shown, ...]
    closest: tuple[Shown, ...]
    chart: Chart
    reproduction: Reproduction
    hash: str = ""

    def section(self, name: str) -> tuple[Line, ...]:
        """The lines of one section of the total, the largest first."""
        found = (line for line in self.lines if line.section == name)
        return tuple(sorted(found, key=lambda line: (-(line.usd or 0), line.name or "")))

    @property
    def total(self) -> Line:
        """The total itself."""
        return self.section("total")[0]


# -- collect


def collect(
    connection: Connection,
    *,
    definition: Definition | None = None,
    since: timedelta | None = None,
    until: datetime | None = None,
    window: Window | None = None,
    venues: Sequence[str] = (),
    gap: timedelta | None = None,
    top: int = 20,
    first_blocks: Mapping[str, int] | None = None,
) -> WhaleReport:
    """Read the report of a window from one snapshot of the database: of [until - since, until), or
    of `window`, which a definition's rule has resolved.

    Without `until` the window ends with the last block that was read: the data may be old.
    `connection` must be outside of a transaction; it fills temporary tables that it drops again.
    `first_blocks` says from which block on a venue exists, where that is known. Raises ConfigError
    when nothing was read yet or a parameter makes no sense.
    """
    asked = presets()[DEFINITION] if definition is None else definition
    meant = _with(asked, venues, gap)
    check_gap(timedelta(seconds=meant.repeat.gap_seconds))
    if top < 1:
        raise ConfigError(f"the report must have at least one row, not {top}")
    window_lines.make_room(connection)
    with totals.snapshot(connection):
        low, high = _bounds(connection, meant, since, until, window)
        reader = _Reader(connection, asked, meant, low, high, top, first_blocks or {})
        return reader.report(venues)


def _with(asked: Definition, venues: Sequence[str], gap: timedelta | None) -> Definition:
    """The definition with what was asked otherwise."""
    meant = asked
    for venue in venues:
        if not _VENUE.fullmatch(venue):
            raise ConfigError(f"{venue!r} is no venue: write hyperliquid or aave_v3.ethereum")
    if venues:
        strange = [v for v in venues if asked.venues and not {v, v.split(".")[0]} & {*asked.venues}]
        if strange:
            raise ConfigError(f"{asked.id} does not count {strange[0]}: give another --definition")
        meant = msgspec.structs.replace(meant, venues=tuple(sorted(venues)))
    if gap is not None:
        check_gap(gap)
        repeat = msgspec.structs.replace(meant.repeat, gap_seconds=gap // timedelta(seconds=1))
        meant = msgspec.structs.replace(meant, repeat=repeat)
    return meant


def _bounds(
    connection: Connection,
    definition: Definition,
    since: timedelta | None,
    until: datetime | None,
    window: Window | None,
) -> tuple[datetime, datetime]:
    if window is not None:
        if window.low is None or window.high is None:
            raise ConfigError("a report is of a window of times, not of blocks")
        return window.low, window.high
    since = timedelta(hours=24) if since is None else since
    if since <= timedelta(0):
        raise ConfigError(f"the window must be longer than {duration(since)}")
    if until is not None and until.tzinfo is None:
        raise ConfigError(f"the end of the window, {until}, must say its time zone")
    reached = totals.reached(connection, definition)
    if reached is None:
        raise ConfigError(
            f"nothing that {definition.id} counts is indexed yet: indexer backfill hyperliquid"
            " --from DIR"
        )
    high = until.astimezone(UTC) if until else reached + TICK
    try:
        return high - since, high
    except OverflowError:
        raise ConfigError(f"{duration(since)} before {moment(high)} is no date") from None


class _Reader:
    """The snapshot, with the table `counted` in it, and the parameters that every query has."""

    def __init__(
        self,
        connection: Connection,
        asked: Definition,
        meant: Definition,
        low: datetime,
        high: datetime,
        top: int,
        first_blocks: Mapping[str, int],
    ) -> None:
        self._connection = connection
        self._asked = asked
        self._now = datetime.now(UTC)
        self._meant = totals.with_labels(meant, self._now)
        self._window = Window(said=f"{_iso(low)}..{_iso(high)}", low=low, high=high)
        self._low, self._high, self._top = low, high, top
        self._gap = timedelta(seconds=meant.repeat.gap_seconds)
        # no time is between the last moment of the window and its end: a block there is enough
        last = msgspec.structs.replace(self._window, high=high - TICK)
        self._scopes = tuple(
            _to_the_end(scope, high)
            for scope in totals.scopes(connection, [meant], last, first_blocks)
        )
        self._others = window_lines.neighbours(self._meant)
        self._venues = [scope.venue for scope in self._scopes]
        self._parameters: dict[str, object] = {
            "window_from": low, "window_to": high, "top": top, "minutes": MINUTES, "gap": self._gap,
            "venues": self._venues, "facts": self._scopes[0].facts if self._scopes else "",
        }  # fmt: skip
        window_lines.read(connection, self._meant, self._window, self._others)

    def _rows(self, name: str, **more: object) -> list[dict[str, Any]]:
        values = {**self._parameters, **more}
        with self._connection.cursor(row_factory=dict_row) as cursor:
            # not prepared: the temporary tables of the next report may have other types
            return cursor.execute(_sql(name).encode(), values, prepare=False).fetchall()

    def _ask(self, name: str, into: type[T], **more: object) -> tuple[T, ...]:
        return msgspec.convert(self._rows(name, **more), tuple[into, ...])  # type: ignore[valid-type]

    def report(self, venues: Sequence[str]) -> WhaleReport:
        """Ask everything."""
        source = self._rows("sources")[0]
        lines, price_set = window_lines.lines(self._connection, self._meant)
        whales = self._rows("whales")
        places = {scope for venue in self._venues for scope in (venue, *venue.split(".")[1:])}
        found = WhaleReport(
            is_simulated=source["is_simulated"],
            definition=self._asked,
            venues=tuple(self._venues),
            window_from=self._low,
            window_to=self._high,
            gap=self._gap,
            top=self._top,
            read_at=source["read_at"],
            coverage=self._coverage,
            methodology=methodology(self._asked, self._high - self._low, self._gap, venues),
            lines=lines,
            beside=tuple(window_lines.beside(self._connection, self._meant, self._others)),
            largest=self._largest(lines),
            minutes=self._ask("minutes", Minute),
            episodes=self._episodes,
            accounts=self._accounts(self._rows("accounts")),
            whales=self._accounts(whales[: self._top]),
            whales_active=len(whales),
            whales_labelled=self._rows("labelled", places=sorted(places))[0]["count"],
            under_water=tuple(positions.under_water(self._connection, self._top)),
            closest=tuple(positions.closest(self._connection, self._top)),
            chart=self._chart(lines),
            reproduction=Reproduction(
                command=_command(self._asked, self._low, self._high, self._gap, self._top, venues),
                sql=_headline_sql(self._asked, self._low, self._high, venues),
                price_set=price_set,
                labels_as_of=self._now if _asks_labels(self._asked) else None,
                code_version=totals.code_version(),
            ),
        )
        return msgspec.structs.replace(found, hash=hash_of(found))

    def _largest(self, lines: Iterable[Line]) -> tuple[Largest, ...]:
        tops = [line for line in lines if line.section == "largest"]
        rows = self._rows(
            "largest",
            levels=[line.name for line in tops], venues_of=[line.venue for line in tops],
            units=[line.account for line in tops], keys=[line.key for line in tops],
            firsts=[line.first_at for line in tops], lasts=[line.last_at for line in tops],
        )  # fmt: skip
        told = {row["level"]: row for row in rows}
        found = [
            msgspec.convert(
                {**told[line.name or ""], "markets": _markets(told[line.name or ""]),
                 "key": line.key, "venue": line.venue, "account": line.account, "usd": line.usd,
                 "first_at": line.first_at, "last_at": line.last_at,
                 "sides": told[line.name or ""]["sides"] or ()}, Largest)
            for line in tops if line.name in told
        ]  # fmt: skip
        levels = ("fill", "order", "action", "episode", "account")
        return tuple(sorted(found, key=lambda one: levels.index(one.level)))

    @cached_property
    def _episodes(self) -> tuple[Episode, ...]:
        rows = self._rows("episodes")
        stories = self._stories(rows)
        keys = [story.key for story in stories if story is not None]
        reached = {
            row["key"]: row["threshold_usd"]
            for row in self._rows(
                "thresholds", keys=keys, of_venues=[row["venue"] for row in rows],
                of_accounts=[row["account"] for row in rows],
            )
        }  # fmt: skip
        found = []
        for row, story in zip(rows, stories, strict=True):
            key = row["key"] if story is None else story.key
            more = {"key": key, "story": story, "threshold_usd": reached.get(key)}
            found.append(msgspec.convert(row | more, Episode))
        return tuple(found)

    def _stories(self, rows: Sequence[dict[str, Any]]) -> list[Story | None]:
        """Of each row the story of its episode, where the account's own rows tell one."""
        places = [Place(row["venue"], row["account"], row["dex"], row["first_at"]) for row in rows]
        perps = [p for p, row in zip(places, rows, strict=True) if row["instrument"] == "perp"]
        loans = [p for p, row in zip(places, rows, strict=True) if row["instrument"] == "lending"]
        told = [
            *(episodes.read(self._connection, perps, self._gap) if perps else ()),
            *(loan_episodes.read(self._connection, loans, self._gap) if loans else ()),
        ]
        found: list[Story | None] = []
        for place in places:
            story = next((
                one for one in told
                if (one.venue, one.account) == (place.venue, place.account)
                and getattr(one, "dex", "") == place.dex
                and one.first_at <= place.at <= one.last_at
            ), None)  # fmt: skip
            found.append(story and Story(story.key, sentence(story, "en"), sentence(story, "zh")))
        return found

    def _accounts(self, rows: Sequence[dict[str, Any]]) -> tuple[Account, ...]:
        said: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self._rows(
            "opinions", of_venues=[row["venue"] for row in rows],
            of_accounts=[row["account"] for row in rows],
        ):  # fmt: skip
            evidence = {"evidence": _evidence(row["evidence"])}
            said.setdefault((row["venue"], row["account"]), []).append({**row, **evidence})
        return tuple(
            msgspec.convert(
                {**row, "opinions": said.get((row["venue"], row["account"]), []),
                 "stories": self._of_account(row["venue"], row["account"])}, Account)
            for row in rows
        )  # fmt: skip

    def _of_account(self, venue: str, account: str) -> list[Story]:
        stories = [
            one.story for one in self._episodes
            if (one.venue, one.account) == (venue, account) and one.story is not None
        ]  # fmt: skip
        return stories[:STORIES]

    @cached_property
    def _outside(self) -> dict[str, Any]:
        return self._rows("outside")[0]

    @cached_property
    def _coverage(self) -> Coverage:
        return Coverage(
            scopes=self._scopes,
            covered=self._ask("covered", Covered),
            undecoded=self._ask("undecoded", Undecoded),
            unvalued=self._ask("unvalued", Unvalued),
            outside_coverage=self._outside["outside_coverage"],
        )

    def _chart(self, lines: Iterable[Line]) -> Chart:
        """Over what was read, not the window: a day of which two hours were read shows these."""
        covered = self._coverage.covered
        first, last = self._outside["first_at"], self._outside["last_at"]
        starts = [blocks.first_at for blocks in covered] + ([first] if first else [])
        ends = [blocks.last_at + TICK for blocks in covered] + ([last + TICK] if last else [])
        chart_from = max(self._low, min(starts, default=self._low))
        chart_to = min(self._high, max(ends, default=self._high))
        bucket = bucket_of(chart_to - chart_from)
        by_asset = sorted(
            (line for line in lines if line.section == "asset" and line.usd and line.name),
            key=lambda line: (-(line.usd or 0), line.name or ""),
        )
        assets = [line.name for line in by_asset[:SMALL_CHARTS]]
        return Chart(
            chart_from,
            chart_to,
            bucket,
            self._ask("bars", Bar, bucket=bucket, assets=assets),
            _unread(self._scopes, chart_from, chart_to),
        )


def _markets(row: Mapping[str, Any]) -> list[str]:
    return [name for name in row["markets"] or () if name] or row["assets"] or []


def _to_the_end(scope: Scope, high: datetime) -> Scope:
    """What is missing up to the last moment of a window is missing up to its end."""
    missing = (
        msgspec.structs.replace(one, high=high) if one.high == high - TICK else one
        for one in scope.missing
    )
    return msgspec.structs.replace(scope, missing=tuple(missing))


def _unread(
    scopes: Sequence[Scope], begins: datetime, ends: datetime
) -> tuple[tuple[datetime, datetime], ...]:
    """Times that were read of no venue in scope: where all have a hole, so has the chart."""
    holes = [
        [(max(m.low, begins), min(m.high, ends)) for m in scope.missing if m.low and m.high]
        for scope in scopes
    ]
    if not holes:
        return ()
    common, *others = holes
    for other in others:
        common = [(max(a, c), min(b, d)) for a, b in common for c, d in other]
        common = [(low, high) for low, high in common if low < high]
    return tuple(sorted((low, high) for low, high in common if low < high))


def _sql(name: str) -> str:
    return (resources.files("indexer.report") / f"{name}.sql").read_text(encoding="utf-8")


def _evidence(text: str) -> dict[str, Any]:
    """Numbers stay as they are written."""
    found = json.loads(text, parse_float=str, parse_int=str)
    return found if isinstance(found, dict) else {"evidence": found}


def _asks_labels(definition: Definition) -> bool:
    return bool(definition.labels.only or definition.labels.without)


def hash_of(report: WhaleReport) -> str:
    """SHA-256, in hex, of the report as JSON without this hash and without the moments at which it
    was asked for: equal reports have said the same."""
    again = msgspec.structs.replace(report.reproduction, labels_as_of=None)
    said = msgspec.structs.replace(report, hash="", read_at=report.window_to, reproduction=again)
    text = json.dumps(msgspec.to_builtins(said), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# -- words


def methodology(
    definition: Definition, window: timedelta, gap: timedelta, venues: Sequence[str] = ()
) -> Methodology:
    """The paragraphs of the definition, and what this report has otherwise at their end."""
    en, zh = paragraph(definition, "en"), paragraph(definition, "zh")
    departs: list[Departure] = []
    rule = definition.window
    usual = timedelta(hours=rule.hours) if isinstance(rule, Rolling) else None
    if usual is not None and window != usual:
        departs.append("window")
        en += f" Here the window is {duration(window)}."
        zh += f"本报告的统计窗口为 {in_chinese(window)}。"
    if gap != timedelta(seconds=definition.repeat.gap_seconds):
        departs.append("gap")
        en += f" Here an episode ends after {duration(gap)} without an action."
        zh += f"本报告中，连续 {in_chinese(gap)}没有清算动作，一次清算过程即告结束。"
    if venues:
        departs.append("venues")
        names = sorted(venues)
        en += f" Here only {', '.join(names)} is counted."
        zh += f"本报告只计 {'、'.join(names)}。"
    return Methodology(definition.id, definition.hash, en, zh, tuple(departs))


def _command(
    definition: Definition, low: datetime, high: datetime, gap: timedelta, top: int,
    venues: Sequence[str],
) -> str:  # fmt: skip
    only = "".join(f" --venue {venue}" for venue in sorted(venues))
    return (
        f"indexer report whales --definition {definition.id}{only}"
        f" --since {duration(high - low)} --until {_iso(high)} --gap {duration(gap)} --top {top}"
    )


def _headline_sql(
    definition: Definition, low: datetime, high: datetime, venues: Sequence[str]
) -> str:
    total = f"liq.total('{definition.id}', timestamptz '{_iso(low)}', timestamptz '{_iso(high)}')"
    if not venues:
        return f"SELECT usd FROM {total} WHERE section = 'total';"  # noqa: S608 - ours alone
    names = ", ".join(f"'{venue}'" for venue in sorted(venues))
    return (
        f"SELECT sum(usd) FROM {total}\nWHERE section = 'venue'"  # noqa: S608 - ours alone
        f" AND (name IN ({names}) OR split_part(name, '.', 1) IN ({names}));"
    )


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
