"""What is announced, and when something that was announced is taken back. Pure.

Of each episode or action there is one message, one more for each further step of size that it
reaches, and one where it turns out to be less than was said.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from indexer.model import EXACT

Unit = Literal["episode", "action"]
Kind = Literal["first", "more", "correction", "digest"]
State = Literal["told", "kept_back", "withdrawn"]

STEP = 10  # from one threshold to the next: 1M, 10M, 100M, as the sizes that `indexer label` flags


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to hear of: what is worth `above` dollars or more, and whatever befalls
    `accounts`."""

    name: str
    definition: str
    unit: Unit = "episode"
    above: Decimal | None = None
    accounts: frozenset[str] = frozenset()
    venues: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    without_labels: tuple[str, ...] = ()
    cool_down: timedelta = timedelta(0)
    digest: timedelta | None = None
    correct_after: timedelta = timedelta(0)
    language: Literal["en", "zh"] = "en"

    @property
    def measure(self) -> str:
        """By what a subject and its steps are told apart: where it changes, nothing that was said
        before can be compared."""
        said = (self.definition, self.unit, str(self.above), sorted(self.assets))
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def scope(self) -> dict[str, list[str]]:
        """Of whom and where, for those who look at the database."""
        return {
            "accounts": sorted(self.accounts), "venues": list(self.venues),
            "assets": list(self.assets), "without": sorted(self.without),
            "without_labels": list(self.without_labels), "unit": [self.unit],
            "definition": [self.definition], "above": [str(self.above)] if self.above else [],
        }  # fmt: skip

    def step(self, subject: "Subject") -> int | None:
        """The largest threshold that it reaches, from 1; 0 of a watched account below the first;
        None of what is not announced."""
        if self.above is not None and subject.usd is not None and subject.usd >= self.above:
            step, next_one = 1, EXACT.multiply(self.above, STEP)
            while subject.usd >= next_one:
                step, next_one = step + 1, EXACT.multiply(next_one, STEP)
            return step
        return 0 if subject.account in self.accounts else None


class Subject(NamedTuple):
    """An episode or action as the ledger has it now. `action` is that of its largest row."""

    key: str
    venue: str
    account: str
    dex: str
    first_at: datetime
    last_at: datetime
    usd: Decimal | None
    unvalued: int
    orders: int
    markets: tuple[str, ...]
    sides: tuple[str, ...]
    methods: tuple[str, ...]
    action: str


class Alerted(NamedTuple):
    """What was said of one. `gone_at` is since when it is less than that."""

    key: str
    venue: str
    account: str
    dex: str
    first_at: datetime
    last_at: datetime
    usd: Decimal | None
    step: int
    revision: int
    state: State
    gone_at: datetime | None
    alert_id: str | None


class Announce(NamedTuple):
    """Say it, for the first time or as more than before; `about` is the message before."""

    alerted: Alerted
    subject: Subject
    kind: Kind
    about: str | None


class Correct(NamedTuple):
    """Say that it is less than was said: `subject` is what is left of it, None where nothing is.
    `alerted` is what stands afterwards."""

    said: Alerted
    alerted: Alerted
    subject: Subject | None


class Note(NamedTuple):
    """Say nothing, and remember how it stands."""

    alerted: Alerted


Decision = Announce | Correct | Note


def decide(
    rule: AlertRule,
    gap: timedelta,
    since: datetime,
    now: datetime,
    subjects: Sequence[Subject],
    alerted: Sequence[Alerted],
    recent: Mapping[str, int],
    excluded: Set[tuple[str, str]] = frozenset(),
) -> Iterator[Decision]:
    """What is to be said of all subjects and all that was announced of some accounts.

    What ended before `since` is not announced, nor what is of an `excluded` account of a venue.
    `recent` is the largest step that was announced of an account within the cool-down: what is no
    larger is kept back, until it grows."""
    steps = dict(recent)
    for one in alerted:
        yield from _left(rule, gap, now, one, subjects)
    for subject in sorted(subjects, key=lambda one: (one.first_at, one.key)):
        step = rule.step(subject)
        if step is None or subject.last_at < since:
            continue
        if (subject.venue, subject.account) in excluded:
            continue
        known = [one for one in alerted if _is_of(rule, gap, one, subject)]
        for decision in _heard(subject, step, known, steps):
            if rule.cool_down and isinstance(decision, Announce):
                steps[subject.account] = max(step, steps.get(subject.account, step))
            yield decision


def _is_of(rule: AlertRule, gap: timedelta, one: Alerted, subject: Subject) -> bool:
    """Whether that is what was announced. The first row of an episode names it, and may be another
    by now: so an episode is the one of its time."""
    if (one.venue, one.account) != (subject.venue, subject.account):
        return False
    if rule.unit == "action":
        return one.key == subject.key
    is_near = subject.first_at - gap <= one.last_at and one.first_at <= subject.last_at + gap
    return one.dex == subject.dex and is_near


def _left(
    rule: AlertRule, gap: timedelta, now: datetime, one: Alerted, subjects: Sequence[Subject]
) -> Iterator[Decision]:
    """What became of something that was announced, or kept back."""
    if one.state == "withdrawn":
        return
    same = [subject for subject in subjects if _is_of(rule, gap, one, subject)]
    largest = max(same, key=lambda found: (rule.step(found) or 0, found.usd or 0), default=None)
    step = None if largest is None else rule.step(largest) or 0
    if step is not None and step >= one.step:
        if one.gone_at is not None:
            yield Note(one._replace(gone_at=None))
        return
    left = one._replace(
        step=step or 0, usd=largest and largest.usd, revision=one.revision + 1, gone_at=None,
        state="withdrawn" if not _is_announced(rule, largest) else one.state,
    )  # fmt: skip
    if one.state == "kept_back":
        yield Note(left)
    elif one.gone_at is None and rule.correct_after:
        yield Note(one._replace(gone_at=now))
    elif one.gone_at is None or now - one.gone_at >= rule.correct_after:
        yield Correct(one, left, largest)


def _is_announced(rule: AlertRule, subject: Subject | None) -> bool:
    return subject is not None and rule.step(subject) is not None


def _heard(
    subject: Subject, step: int, known: Sequence[Alerted], recent: Mapping[str, int]
) -> Iterator[Decision]:
    """What a subject is, beside what is known of it: the same, more, or new."""
    standing = [one for one in known if one.state != "withdrawn"]
    told = [one for one in standing if one.state == "told"]
    if any(one.step >= step for one in standing):
        # what is less than was said waits for its correction
        if any(one.step == step and one.gone_at is None for one in standing):
            yield from _grown(subject, [one for one in standing if one.gone_at is None])
        return
    if told:
        first, *others = sorted(told, key=lambda one: (one.first_at, one.key))
        yield Announce(_as_of(first, subject, step, "told"), subject, "more", first.alert_id)
        yield from (Note(_as_of(one, subject, step, "told")) for one in others)
        return
    before = max(known, key=lambda one: one.revision, default=None)
    is_again = before is not None and before.state == "withdrawn"
    kept = before or _new(subject)
    made = _as_of(kept, subject, step, "told")._replace(
        revision=kept.revision + 1 if is_again else kept.revision
    )
    if step <= recent.get(subject.account, -1):
        yield Note(made._replace(state="kept_back"))
    else:
        yield Announce(made, subject, "first", kept.alert_id)


def _grown(subject: Subject, same: Iterable[Alerted]) -> Iterator[Note]:
    """It lasts longer or is worth something else, and no further step."""
    for one in same:
        now = _as_of(one, subject, one.step, one.state)
        if now != one:
            yield Note(now)


def _new(subject: Subject) -> Alerted:
    return Alerted(*subject[:7], step=0, revision=1, state="told", gone_at=None, alert_id=None)


def _as_of(one: Alerted, subject: Subject, step: int, state: State) -> Alerted:
    return one._replace(
        first_at=subject.first_at, last_at=subject.last_at, usd=subject.usd, step=step,
        state=state, gone_at=None,
    )  # fmt: skip


def id_of(rule: AlertRule, kind: Kind, one: Alerted) -> str:
    """The id of a message, the same wherever it is made."""
    said = (rule.name, rule.measure, kind, one.key, one.step, one.revision)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def digest_id(rule: AlertRule, until: datetime) -> str:
    """The id of the digest that ends with a time."""
    said = (rule.name, rule.measure, "digest", until.isoformat())
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


class Gathered(NamedTuple):
    """A message that waits for a digest."""

    id: str
    kind: Kind
    subject_key: str
    usd: Decimal | None
    said: str


def in_digest(gathered: Sequence[Gathered]) -> list[Gathered]:
    """What a digest says of messages in the order in which they came: of each subject the last;
    nothing of one that came and went meanwhile."""
    last = {one.subject_key: one for one in gathered}
    came = {one.subject_key for one in gathered if one.kind == "first"}
    kept = [one for key, one in last.items() if not (one.kind == "correction" and key in came)]
    return sorted(kept, key=lambda one: (-(one.usd or 0), one.id))
