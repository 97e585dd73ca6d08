"""How good labels are: precision and recall against a file of what is true.

The file is CSV with the columns account, truth (yes or no), label or rule or both, and maybe venue,
from, to (the end is outside). A line says that the account has, or has not, the label. One without
a rule is for each rule that makes the label and for all of them together; one without a label is
for whatever label of the rule. A flag counts as a label with the name of its level.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from indexer.errors import ConfigError
from indexer.label_files import Broken, Faulty, account_of, moment, records, shown, text

# the 97.5th percentile of the normal distribution, for intervals of 95 %
Z = Decimal("1.959963984540054")
SHOWN = 5  # broken lines in a message

ANY = "*"  # whatever label or rule, as the name of one


class Truth(NamedTuple):
    """A line of the file; what it leaves open is None."""

    where: str
    account: str
    label: str | None
    rule: str | None
    venue: str | None
    is_so: bool
    since: datetime | None
    until: datetime | None


class Opinion(NamedTuple):
    """A label or flag that stands; `venue` is a protocol on a chain, a chain, or *."""

    rule: str
    label: str
    venue: str
    account: str
    since: datetime | None
    until: datetime | None


class Share(NamedTuple):
    """So many of so many, with the Wilson score interval of 95 % to four digits
    (Wilson, Journal of the American Statistical Association 22, 1927)."""

    of: int
    part: int

    @property
    def value(self) -> Fraction | None:
        """None where there is nothing to be a part of."""
        return Fraction(self.part, self.of) if self.of else None

    @property
    def interval(self) -> tuple[Decimal, Decimal] | None:
        if not self.of:
            return None
        with localcontext() as context:
            context.prec = 50
            n, share = Decimal(self.of), Decimal(self.part) / self.of
            spread = Z * (share * (1 - share) / n + Z * Z / (4 * n * n)).sqrt()
            centre = share + Z * Z / (2 * n)
            bounds = [(centre + sign * spread) / (1 + Z * Z / n) for sign in (-1, 1)]
            low, high = (bound.quantize(Decimal("0.0001")) for bound in bounds)
        return abs(low), high


class Score(NamedTuple):
    """How a rule did on a label; * is all rules together, or whatever label.

    Lines of the file are right (yes, and it is labelled), wrong (no, and it is labelled), missed
    (yes, and it is not) or rejected (no, and it is not). `unknown` of the missed are accounts that
    no table has. `unjudged` accounts are labelled and in no line."""

    rule: str
    label: str
    right: int
    wrong: int
    missed: int
    rejected: int
    unknown: int
    unjudged: int

    @property
    def precision(self) -> Share:
        """Of what is labelled, how much is right."""
        return Share(self.right + self.wrong, self.right)

    @property
    def recall(self) -> Share:
        """Of what should be labelled, how much is."""
        return Share(self.right + self.missed, self.right)


def read(path: Path, rules: Collection[str]) -> list[Truth]:
    """The lines of a file; ConfigError, with each of the first few, where one of them is broken,
    contradicts another one or names none of the rules."""
    truths: list[Truth] = []
    broken: list[Broken] = []
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"{path}: a file of truth ends with .csv")
    for record in records(path, ("account", "truth")):
        if isinstance(record, Broken):
            broken.append(record)
            continue
        try:
            truths.append(_truth(record.where, record.fields, rules))
        except Faulty as fault:
            broken.append(Broken(record.where, str(fault)))
    broken += _contradicting(truths)
    if broken:
        rest = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        first = "; ".join(map(str, broken[:SHOWN]))
        raise ConfigError(
            f"{path}: nothing was evaluated, broken lines: {len(broken)}: {first}{rest}"
        )
    if not truths:
        raise ConfigError(f"{path}: there is no truth in it")
    return truths


def _truth(where: str, row: Mapping[str, Any], rules: Collection[str]) -> Truth:
    label, rule = text(row.get("label")).lower() or None, text(row.get("rule")) or None
    if label is None and rule is None:
        raise Faulty("neither a label nor a rule")
    if rule is not None and rule not in rules:
        raise Faulty(f"{shown(rule)} is no rule")
    truth = text(row["truth"]).lower()
    if truth not in ("yes", "no"):
        raise Faulty(f"{shown(row['truth'])} is neither yes nor no")
    since, until = moment(row.get("from")), moment(row.get("to"))
    if since is not None and until is not None and since >= until:
        raise Faulty("to is not after from")
    return Truth(
        where, account_of(row["account"]), label, rule, text(row.get("venue")) or None,
        truth == "yes", since, until,
    )  # fmt: skip


def _contradicting(truths: Iterable[Truth]) -> Iterator[Broken]:
    said: dict[tuple[object, ...], Truth] = {}
    for one in truths:
        key = (one.account, one.label, one.rule, one.venue, one.since, one.until)
        first = said.setdefault(key, one)
        if first.is_so != one.is_so:
            yield Broken(one.where, f"the opposite of {first.where}")
        elif first is not one:
            yield Broken(one.where, f"the same as {first.where}")


def evaluate(
    truths: Collection[Truth],
    opinions: Collection[Opinion],
    unjudged: Mapping[tuple[str, str], int],
    unknown: Collection[str],
) -> list[Score]:
    """Scores by label and rule, first of all rules together where lines name none.

    `opinions` are on the accounts of the file; `unjudged` counts the accounts that are not in it by
    label and rule, either of them *; `unknown` are accounts of the file that no table has."""
    by_account: dict[str, list[Opinion]] = {}
    for opinion in opinions:
        by_account.setdefault(opinion.account, []).append(opinion)
    scores = []
    for label, rule in sorted(_pairs(truths, opinions)):
        counts: Counter[str] = Counter()
        for one in truths:
            if (one.label or ANY) != label or one.rule not in (None, rule):
                continue
            is_found = any(
                label in (ANY, opinion.label)
                and rule in (ANY, opinion.rule)
                and _meets(one, opinion)
                for opinion in by_account.get(one.account, ())
            )
            match one.is_so, is_found:
                case True, True:
                    counts["right"] += 1
                case False, True:
                    counts["wrong"] += 1
                case True, False:
                    counts["missed"] += 1
                    counts["unknown"] += one.account in unknown
                case False, False:
                    counts["rejected"] += 1
        scores.append(
            Score(
                rule, label, counts["right"], counts["wrong"], counts["missed"],
                counts["rejected"], counts["unknown"], unjudged.get((label, rule), 0),
            )
        )  # fmt: skip
    return scores


def _pairs(truths: Iterable[Truth], opinions: Collection[Opinion]) -> set[tuple[str, str]]:
    """Label and rule of each score: what lines name, and the rules that made such a label."""
    pairs = {(one.label or ANY, one.rule or ANY) for one in truths}
    wanted = {one.label for one in truths if one.rule is None}
    return pairs | {(found.label, found.rule) for found in opinions if found.label in wanted}


def _meets(truth: Truth, opinion: Opinion) -> bool:
    """Whether they speak of the same venue and of a common time."""
    if truth.venue is not None:
        chain = truth.venue.rpartition(".")[2]
        if opinion.venue not in (truth.venue, chain, "*"):
            return False
    return (truth.since is None or opinion.until is None or truth.since < opinion.until) and (
        truth.until is None or opinion.since is None or opinion.since < truth.until
    )
