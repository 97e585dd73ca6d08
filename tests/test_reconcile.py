"""Steps, ranges, means and parts, against a model that walks every order."""

from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import combinations, groupby, pairwise, permutations
from math import factorial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.methodology.definition import GROUPS, presets
from indexer.methodology.reconcile import (
    Affected,
    Moved,
    Near,
    Outside,
    Part,
    Side,
    Step,
    check_partition,
    nearest,
    residual,
    waterfall,
)
from indexer.methodology.windows import Window
from indexer.model import EXACT

# -- the model: legs with a fact for each group, definitions that take some of them --------------

SELECTING = GROUPS[:-2]  # valuation and price do not choose rows
WORTH = len(GROUPS) - 2


class Leg(NamedTuple):
    """`facts` has a number below 3 for each group that selects, `usd` a value for each valuation,
    None where there is none."""

    facts: tuple[int, ...]
    usd: tuple[Decimal | None, ...]


Choices = Mapping[str, int]
"""Of each selecting group a set of facts as bits; of valuation which value, of price a factor."""


def passes(leg: Leg, choices: Choices, group: str) -> bool:
    return bool(choices[group] >> leg.facts[SELECTING.index(group)] & 1)


def counts(leg: Leg, choices: Choices) -> bool:
    return all(passes(leg, choices, group) for group in SELECTING)


def worth(leg: Leg, choices: Choices) -> Decimal:
    with localcontext(EXACT):
        return (leg.usd[choices["valuation"]] or Decimal(0)) * (choices["price"] + 1)


def total(legs: Iterable[Leg], choices: Choices) -> Decimal:
    with localcontext(EXACT):
        return sum((worth(leg, choices) for leg in legs if counts(leg, choices)), Decimal(0))


class World(NamedTuple):
    legs: list[Leg]
    a: Choices
    b: Choices

    @property
    def groups(self) -> list[str]:
        return [group for group in GROUPS if self.a[group] != self.b[group]]

    def total(self, of_b: Iterable[str]) -> Decimal:
        return total(self.legs, {**self.a, **{group: self.b[group] for group in of_b}})

    @property
    def totals(self) -> dict[frozenset[str], Decimal]:
        sizes = range(len(self.groups) + 1)
        sets = [frozenset(s) for size in sizes for s in combinations(self.groups, size)]
        return {of_b: self.total(of_b) for of_b in sets}


def in_all_orders(world: World) -> dict[str, list[Fraction]]:
    """What each group changes in each order of the groups."""
    totals = world.totals
    changes: dict[str, list[Fraction]] = {group: [] for group in world.groups}
    for order in permutations(world.groups):
        for place, group in enumerate(order):
            after, before = totals[frozenset(order[: place + 1])], totals[frozenset(order[:place])]
            changes[group].append(Fraction(after) - Fraction(before))
    return changes


def parts_of(world: World) -> list[Part]:
    """Each leg that adds something, with the first group that tells the definitions apart on it."""
    told = [told for leg in world.legs if (told := told_apart(leg, world)) is not None]
    grouped = groupby(sorted(told, key=lambda one: one[:2]), key=lambda one: one[:2])
    return [
        Part(kind, reason, len(ones), 0, added(ones), "")  # type: ignore[arg-type]
        for (kind, reason), ones in ((key, list(found)) for key, found in grouped)
    ]


def added(ones: list[tuple[str, str, Decimal]]) -> Decimal:
    with localcontext(EXACT):
        return sum((usd for _, _, usd in ones), Decimal(0))


def told_apart(leg: Leg, world: World) -> tuple[str, str, Decimal] | None:
    a, b = world.a, world.b
    with localcontext(EXACT):
        match counts(leg, a), counts(leg, b):
            case True, True if worth(leg, a) != worth(leg, b):
                differs = leg.usd[a["valuation"]] != leg.usd[b["valuation"]]
                return (
                    "revalued", "valuation" if differs else "price", worth(leg, b) - worth(leg, a)
                )  # fmt: skip
            case True, False:
                return "only_a", first_failing(leg, b), -worth(leg, a)
            case False, True:
                return "only_b", first_failing(leg, a), worth(leg, b)
    return None


def first_failing(leg: Leg, choices: Choices) -> str:
    return next(group for group in SELECTING if not passes(leg, choices, group))


amounts = st.decimals(-(10**12), 10**12, places=8, allow_nan=False, allow_infinity=False)
legs = st.builds(
    Leg,
    st.tuples(*(st.integers(0, 2) for _ in SELECTING)),
    st.tuples(*(st.none() | amounts for _ in range(3))),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A and B differ in at most five groups; most sets of facts are large, so that rows count."""
    sets = st.sampled_from((7, 7, 6, 5, 3))
    may_differ = draw(st.sets(st.sampled_from(GROUPS), min_size=1, max_size=5))
    values = dict.fromkeys(SELECTING, sets) | {
        "valuation": st.integers(0, 2), "price": st.integers(0, 2),
    }  # fmt: skip
    a = {group: draw(values[group]) for group in GROUPS}
    b = {group: draw(values[group]) if group in may_differ else a[group] for group in GROUPS}
    return World(draw(st.lists(legs, max_size=8)), a, b)


# -- the steps -----------------------------------------------------------------------------------


@settings(deadline=None)
@given(worlds())
def test_a_step_is_the_change_in_the_order_of_groups(world: World) -> None:
    order = world.groups
    running = [world.total(order[: place + 1]) for place in range(len(order))]
    levels = pairwise([world.total([]), *running])
    changes = [Fraction(after) - Fraction(before) for before, after in levels]
    steps = waterfall(reversed(order), world.totals, {})
    assert [(s.group, Fraction(s.usd), s.running_usd) for s in steps] == list(
        zip(order, changes, running, strict=True)
    )


@settings(deadline=None)
@given(worlds())
def test_steps_and_means_and_parts_each_make_b_less_a(world: World) -> None:
    between = Fraction(world.total(world.groups)) - Fraction(world.total([]))
    steps = waterfall(world.groups, world.totals, {})
    parts = parts_of(world)
    check_partition(parts, world.total([]), world.total(world.groups))
    sums = [
        sum(Fraction(step.usd) for step in steps),
        sum(Fraction(step.mean_usd) for step in steps),
        sum(Fraction(part.usd) for part in parts),
    ]
    assert sums == [between] * 3


@settings(deadline=None)
@given(worlds())
def test_the_range_of_a_step_is_over_all_orders(world: World) -> None:
    steps = waterfall(world.groups, world.totals, {})
    assert {s.group: (Fraction(s.least_usd), Fraction(s.most_usd)) for s in steps} == {
        group: (min(changes), max(changes)) for group, changes in in_all_orders(world).items()
    }


@settings(deadline=None)
@given(worlds())
def test_the_mean_of_a_step_is_over_all_orders_and_less_than_a_cent_off(world: World) -> None:
    orders = factorial(len(world.groups))
    exact = {group: sum(all_) / orders for group, all_ in in_all_orders(world).items()}
    steps = waterfall(world.groups, world.totals, {})
    far = [
        step
        for step in steps
        if abs(Fraction(step.mean_usd) - exact[step.group]) >= Fraction(1, 100)
    ]
    assert far == []


def usd(text: str) -> Decimal:
    return Decimal(text)


def test_a_step_may_take_away_or_add_as_its_place_in_the_order_says() -> None:
    """A counts the book's liquidations of everybody, B takeovers of users alone. One user lost
    311,000 in the book, one vault 545,000 to a takeover."""
    totals = {
        frozenset(): usd("311000"),
        frozenset({"methods"}): usd("545000"),
        frozenset({"party"}): usd("311000"),
        frozenset({"methods", "party"}): usd("0"),
    }
    affected = Affected(2, 0, (Moved("hyperliquid", "0xabc", usd("545000")),), "SELECT 1")
    assert waterfall({"party", "methods"}, totals, {"methods": affected}) == (
        Step(
            "methods", usd("234000"), usd("545000"), usd("-311000"), usd("234000"),
            usd("-38500.00"), affected,
        ),
        Step(
            "party", usd("-545000"), usd("0"), usd("-545000"), usd("0"), usd("-272500.00"), None
        ),
    )  # fmt: skip


def test_cents_that_means_lack_go_to_the_first_of_equals() -> None:
    """Only all three together add a dollar; so each one's mean is a third of it."""
    groups = ("window", "party", "price")
    sets = [frozenset(s) for size in range(4) for s in combinations(groups, size)]
    totals = {of_b: usd("1.00") if len(of_b) == 3 else usd("0") for of_b in sets}
    means = [(step.group, step.mean_usd) for step in waterfall(groups, totals, {})]
    assert means == [("window", usd("0.34")), ("party", usd("0.33")), ("price", usd("0.33"))]


def test_cents_that_means_lack_go_to_what_was_cut_by_most() -> None:
    """Party and price together add a cent, all three another: the means are 1/3, 5/6 and 5/6."""
    groups = ("window", "party", "price")
    sets = [frozenset(s) for size in range(4) for s in combinations(groups, size)]
    cents = {frozenset({"party", "price"}): usd("0.01"), frozenset(groups): usd("0.02")}
    totals = {of_b: cents.get(of_b, usd("0")) for of_b in sets}
    means = [(step.group, step.mean_usd) for step in waterfall(groups, totals, {})]
    assert means == [("window", usd("0.00")), ("party", usd("0.01")), ("price", usd("0.01"))]


def test_means_have_as_many_digits_as_what_they_add_up_to() -> None:
    totals = {frozenset[str](): usd("5.5"), frozenset({"leg"}): usd("5.500000000000000001")}
    step = waterfall(["leg"], totals, {})[0]
    assert (step.usd, step.mean_usd) == (usd("1E-18"), usd("1E-18"))


def test_no_digit_is_lost_in_amounts_longer_than_usual() -> None:
    long = usd("1234567890123456789012345678901234567890.01")
    totals = {frozenset[str](): usd("0.02"), frozenset({"leg"}): long}
    step = waterfall(["leg"], totals, {})[0]
    assert (step.usd, step.mean_usd) == (
        usd("1234567890123456789012345678901234567889.99"),
        usd("1234567890123456789012345678901234567889.99"),
    )


def test_definitions_without_a_difference_have_no_steps() -> None:
    assert waterfall([], {frozenset(): usd("7")}, {}) == ()


def test_a_hybrid_without_a_total_is_named() -> None:
    with pytest.raises(KeyError, match="leg"):
        waterfall(["leg"], {frozenset(): usd("7")}, {})


# -- parts and residual --------------------------------------------------------------------------


def test_parts_that_are_a_cent_off_are_refused() -> None:
    parts = [
        Part("only_a", "leg", 2, 0, usd("-10.00"), ""),
        Part("revalued", "price", 1, 1, usd("3.01"), ""),
    ]
    check_partition(parts, usd("100"), usd("93.01"))
    with pytest.raises(ValueError, match=r"the parts make -6\.99, not the -7\.00 between"):
        check_partition(parts, usd("100"), usd("93.00"))


def side(total: str) -> Side:
    return Side(
        definition_id="x/v1", definition_hash="00", fidelity="exact", says="", paragraph_en="",
        paragraph_zh="", window=Window(said="2025-10-10"), usd=usd(total), unvalued=0, counts={},
        long_usd=usd("0"), short_usd=usd("0"), by_venue=(), labels_as_of=None, price_set="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        (side("190"), None),
        (Outside(usd=usd("190"), source="somebody"), usd("40")),
        (Outside(usd=usd("190"), source="somebody", meant=side("191.5")), usd("-1.5")),
    ],
)
def test_the_residual_is_what_no_definition_explains(
    b: Side | Outside, expected: Decimal | None
) -> None:
    assert residual(side("150"), b) == expected


def test_the_nearest_definition_comes_first_whether_above_or_below() -> None:
    found = presets()
    totals = [
        (found["strict/v1"], usd("150"), 2),
        (found["throttle1s_last/v1"], usd("195"), 0),
        (found["gross_legs/v1"], usd("230"), 0),
    ]
    assert nearest(usd("190"), totals) == (
        Near("throttle1s_last/v1", "simulated", usd("195"), 0, usd("-5")),
        Near("gross_legs/v1", "exact", usd("230"), 0, usd("-40")),
        Near("strict/v1", "exact", usd("150"), 2, usd("40")),
    )
