"""Why two totals differ: what each group of a definition moves, in any order, and by which rows.

The method is that of section 5.7 of the methodology that this ledger follows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from itertools import chain, combinations
from math import factorial, floor
from typing import Literal

import msgspec

from indexer.methodology.definition import GROUPS, Definition, Level
from indexer.methodology.windows import Window
from indexer.model import EXACT

Fidelity = Literal["exact", "approximate", "simulated"]
PartKind = Literal["only_a", "only_b", "revalued"]
_CENTS = -2  # the last digit of a mean, as a power of ten


# -- the nouns -----------------------------------------------------------------------------------


class OfVenue(msgspec.Struct, frozen=True):
    """What one venue has of a total; `unvalued` of the records have no value to add."""

    venue: str
    usd: Decimal
    records: int
    unvalued: int = 0


class Side(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="definition"):
    """A definition and its total. `usd` is of the records that have a value, `unvalued` have none.

    What is neither long nor short, such as a loan, is in neither of the two. `labels_as_of` is when
    labels were known, None where the definition asks for none; `price_set` names the prices."""

    definition_id: str
    definition_hash: str
    fidelity: Fidelity
    says: str
    paragraph_en: str
    paragraph_zh: str
    window: Window
    usd: Decimal
    unvalued: int
    counts: dict[Level, int]
    long_usd: Decimal
    short_usd: Decimal
    by_venue: tuple[OfVenue, ...]
    labels_as_of: datetime | None
    price_set: str


class Outside(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="outside"):
    """A number that somebody else published. `meant` is the definition that it may be of, with the
    total that it has here: a supposition, which the steps then lead to."""

    usd: Decimal
    source: str
    stated_method: str | None = None
    meant: Side | None = None


class Difference(msgspec.Struct, frozen=True):
    """What two definitions say of a group in which they differ."""

    group: str
    a: str
    b: str


class Moved(msgspec.Struct, frozen=True):
    """How much of a step one account makes up."""

    venue: str
    account: str
    usd: Decimal


class Affected(msgspec.Struct, frozen=True):
    """What a step moves: how many records come, go or are worth something else, how many of them
    have no value before or after it, the accounts that it moves most, and the SQL of the rows."""

    records: int
    unvalued: int
    accounts: tuple[Moved, ...]
    sql: str


class Step(msgspec.Struct, frozen=True):
    """One group taken from B instead of A, after all groups before it in the order of `GROUPS`.

    `usd` is what that changes, `running_usd` the total after it. `least_usd` and `most_usd` are the
    least and the most that the group changes in any order of the groups, `mean_usd` its mean over
    all orders (the Shapley value). Steps, and means, add up to B less A exactly."""

    group: str
    usd: Decimal
    running_usd: Decimal
    least_usd: Decimal
    most_usd: Decimal
    mean_usd: Decimal
    affected: Affected | None


class Part(msgspec.Struct, frozen=True):
    """Records that are in one total alone, or in both at another value, for one reason: the first
    group in the order of `GROUPS` that tells them apart. `usd` is what they add to B less A."""

    kind: PartKind
    reason: str
    records: int
    unvalued: int
    usd: Decimal
    sql: str


class Row(msgspec.Struct, frozen=True):
    """One record of a part; a value is None where the record is not counted, or has none."""

    reason: str
    key: str
    venue: str
    account: str
    market: str
    at: datetime
    usd_a: Decimal | None
    usd_b: Decimal | None


class Rows(msgspec.Struct, frozen=True):
    """The largest of each kind."""

    only_a: tuple[Row, ...] = ()
    only_b: tuple[Row, ...] = ()
    revalued: tuple[Row, ...] = ()


class Counted(msgspec.Struct, frozen=True):
    """A total in short: dollars, records without a value, episodes."""

    usd: Decimal
    unvalued: int
    episodes: int


class Sensitivity(msgspec.Struct, frozen=True):
    """Both totals with one dimension at one value: (episode gap, 60s), (zone, Asia/Shanghai). None
    where a definition or a window cannot have this value."""

    dimension: str
    value: str
    a: Counted | None
    b: Counted | None


class Near(msgspec.Struct, frozen=True):
    """A definition's total over the same window, and what an outside number has more than it."""

    definition_id: str
    fidelity: Fidelity
    usd: Decimal
    unvalued: int
    difference_usd: Decimal


class Covered(msgspec.Struct, frozen=True):
    """How much of both windows together was read of a venue, by time: `share` from 0 to 1. The last
    block is None where none was read."""

    venue: str
    share: Decimal
    is_whole: bool
    holes: int
    last_block: int | None
    last_at: datetime | None


class Reconciliation(msgspec.Struct, frozen=True, kw_only=True):
    """From the total of A to B, a definition or an outside number. `as_of` is when the database was
    read. Where B is an outside number, `residual_usd` is what nothing here explains (`residual`),
    and without a definition that it may mean there are no steps, parts, rows or differences."""

    a: Side
    b: Side | Outside
    differences: tuple[Difference, ...]
    steps: tuple[Step, ...]
    parts: tuple[Part, ...]
    rows: Rows
    sensitivity: tuple[Sensitivity, ...]
    near: tuple[Near, ...]
    residual_usd: Decimal | None
    coverage: tuple[Covered, ...]
    is_simulated: bool
    as_of: datetime
    command: str

    @property
    def goal(self) -> Side | None:
        """The definition that the steps lead to."""
        return self.b.meant if isinstance(self.b, Outside) else self.b


# -- the steps -----------------------------------------------------------------------------------

Totals = Mapping[frozenset[str], Decimal]
"""Of every set of the groups in which A and B differ: the total with exactly these as in B."""


def waterfall(
    groups: Iterable[str], totals: Totals, affected: Mapping[str, Affected]
) -> tuple[Step, ...]:
    """The steps from A to B, in the order of `GROUPS`, whatever order `groups` has; a KeyError
    names a set whose total is missing."""
    ordered = sorted(groups, key=GROUPS.index)
    means = _means(ordered, totals)
    return tuple(
        _step(group, frozenset(ordered[:place]), ordered, totals, mean, affected.get(group))
        for place, (group, mean) in enumerate(zip(ordered, means, strict=True))
    )


def _step(
    group: str,
    before: frozenset[str],
    groups: Sequence[str],
    totals: Totals,
    mean: Decimal,
    affected: Affected | None,
) -> Step:
    changes = [change for _, change in _changes(group, groups, totals)]
    return Step(
        group,
        _less(totals[before | {group}], totals[before]),
        totals[before | {group}],
        min(changes),
        max(changes),
        mean,
        affected,
    )


def _changes(
    group: str, groups: Sequence[str], totals: Totals
) -> Iterator[tuple[frozenset[str], Decimal]]:
    """What a group changes after each set of the others; every order has one of these before it."""
    others = [other for other in groups if other != group]
    sets = chain.from_iterable(combinations(others, size) for size in range(len(others) + 1))
    for before in map(frozenset, sets):
        yield before, _less(totals[before | {group}], totals[before])


def _means(groups: Sequence[str], totals: Totals) -> list[Decimal]:
    """The mean change of each group over all orders.

    A mean need not have an end as a decimal. Each is cut to cents, downwards, or to the last digit
    of B less A where that is finer; what then lacks goes, a unit each, to those that were cut by
    most, the first of equals. So they add up exactly."""
    if not groups:
        return []
    whole = EXACT.normalize(_less(totals[frozenset(groups)], totals[frozenset()]))
    exponent = whole.as_tuple().exponent
    assert isinstance(exponent, int)  # no total is infinite
    unit = min(exponent, _CENTS)
    exact = [_mean(group, groups, totals) / Fraction(10) ** unit for group in groups]
    cut = [floor(mean) for mean in exact]
    lacking = int(EXACT.scaleb(whole, -unit)) - sum(cut)
    by_loss = sorted(range(len(groups)), key=lambda place: cut[place] - exact[place])
    for place in by_loss[:lacking]:
        cut[place] += 1
    return [EXACT.scaleb(Decimal(units), unit) for units in cut]


def _mean(group: str, groups: Sequence[str], totals: Totals) -> Fraction:
    """The Shapley value: each set before the group weighs as many orders as begin with it."""
    orders = factorial(len(groups))
    return sum(
        (
            Fraction(change) * factorial(len(before)) * factorial(len(groups) - len(before) - 1)
            for before, change in _changes(group, groups, totals)
        ),
        Fraction(0),
    ) / orders  # fmt: skip


# -- the parts and the residual ------------------------------------------------------------------


def check_partition(parts: Iterable[Part], usd_a: Decimal, usd_b: Decimal) -> None:
    """ValueError where the parts are not exactly B less A: a fault of ours, not of the data."""
    found, wanted = exact_sum(part.usd for part in parts), _less(usd_b, usd_a)
    if found != wanted:
        raise ValueError(f"the parts make {found:f}, not the {wanted:f} between the totals")


def residual(a: Side, b: Side | Outside) -> Decimal | None:
    """What of an outside number nothing explains; None between two definitions.

    It is the outside number less the total of the definition that it may mean; with none, less the
    total of A. It stands on a line of its own and is never spread over steps: we know which rows a
    step moves, and do not know which rows somebody else has counted."""
    if not isinstance(b, Outside):
        return None
    return _less(b.usd, (b.meant or a).usd)


def nearest(
    outside_usd: Decimal, totals: Iterable[tuple[Definition, Decimal, int]]
) -> tuple[Near, ...]:
    """Definitions by how near their totals come to an outside number; each with its total and its
    records without a value."""
    found = [
        Near(d.id, d.fidelity, usd, unvalued, _less(outside_usd, usd))
        for d, usd, unvalued in totals
    ]
    return tuple(
        sorted(found, key=lambda near: (near.difference_usd.copy_abs(), near.definition_id))
    )


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Never rounded."""
    return reduce(EXACT.add, amounts, Decimal(0))


def _less(b: Decimal, a: Decimal) -> Decimal:
    return EXACT.subtract(b, a)
