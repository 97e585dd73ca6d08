"""What is announced, kept back, corrected: from what is so and what was said."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from indexer.alert_model import (
    Alerted,
    AlertRule,
    Announce,
    Correct,
    Decision,
    Gathered,
    Note,
    Subject,
    decide,
    digest_id,
    id_of,
    in_digest,
)

T0 = datetime(2025, 10, 10, 21, tzinfo=UTC)
GAP = timedelta(minutes=15)
ALICE, BOB = "0x" + 40 * "a", "0x" + 40 * "b"
RULE = AlertRule(name="r", definition="sizes/v1", above=Decimal(1_000_000))


def minutes(number: int) -> datetime:
    return T0 + timedelta(minutes=number)


def subject(key: str = "k", usd: int | None = 1_000_000, **changes: Any) -> Subject:
    made = Subject(
        key=key, venue="hyperliquid", account=ALICE, dex="", first_at=T0, last_at=T0,
        usd=None if usd is None else Decimal(usd), unvalued=0, orders=1, markets=("ETH",),
        sides=("long",), methods=("market",), action="0x1",
    )  # fmt: skip
    return made._replace(**changes)


def said(key: str = "k", usd: int = 1_000_000, step: int = 1, **changes: Any) -> Alerted:
    made = Alerted(
        key=key, venue="hyperliquid", account=ALICE, dex="", first_at=T0, last_at=T0,
        usd=Decimal(usd), step=step, revision=1, state="told", gone_at=None, alert_id="id-1",
    )  # fmt: skip
    return made._replace(**changes)


def decided(
    subjects: list[Subject], alerted: list[Alerted], rule: AlertRule = RULE, **changes: Any
) -> list[Decision]:
    rest = {"gap": GAP, "since": T0, "now": minutes(1), "recent": {}, **changes}
    return list(decide(rule, subjects=subjects, alerted=alerted, **rest))


def of(**changes: Any) -> AlertRule:
    return AlertRule(**{"name": "r", "definition": "sizes/v1", "above": RULE.above, **changes})


def test_steps_are_ten_times_as_large() -> None:
    sizes = (999_999, 1_000_000, 9_999_999, 10_000_000, 100_000_000, 2_000_000_000)

    assert [RULE.step(subject(usd=usd)) for usd in sizes] == [None, 1, 1, 2, 3, 4]
    assert RULE.step(subject(usd=None)) is None


def test_a_watched_account_is_announced_whatever_the_size() -> None:
    watching, only = of(accounts=frozenset({ALICE})), of(accounts=frozenset({ALICE}), above=None)

    assert [watching.step(subject(usd=usd)) for usd in (None, 1, 1_000_000)] == [0, 0, 1]
    assert [only.step(subject(usd=usd)) for usd in (None, 1, 10**9)] == [0, 0, 0]
    assert watching.step(subject(usd=1, account=BOB)) is None


def test_what_is_large_is_announced_once() -> None:
    new = said(alert_id=None)

    assert decided([subject()], []) == [Announce(new, subject(), "first", None)]
    assert decided([subject()], [said()]) == []


def test_what_is_small_is_not_announced() -> None:
    assert decided([subject(usd=999_999)], []) == []


def test_what_ended_before_the_first_start_is_not_announced() -> None:
    assert decided([subject()], [], since=minutes(1)) == []


def test_who_is_left_out_is_not_announced() -> None:
    assert decided([subject()], [], excluded={("hyperliquid", ALICE)}) == []
    assert len(decided([subject()], [], excluded={("aave_v3.base", ALICE)})) == 1


def test_growth_within_a_step_says_nothing_and_is_remembered() -> None:
    longer = subject(usd=9_000_000, last_at=minutes(3))

    assert decided([longer], [said()]) == [Note(said(usd=9_000_000, last_at=minutes(3)))]


def test_growth_to_the_next_step_is_one_more_message_on_the_same_thing() -> None:
    larger = subject(usd=10_000_000, last_at=minutes(3))
    grown = said(usd=10_000_000, step=2, last_at=minutes(3))

    assert decided([larger], [said()]) == [Announce(grown, larger, "more", "id-1")]
    assert decided([larger], [grown]) == []


def test_an_episode_that_a_late_row_begins_earlier_is_the_same() -> None:
    earlier = subject("other key", first_at=minutes(-5))

    assert decided([earlier], [said()]) == [Note(said(first_at=minutes(-5)))]


def test_the_next_episode_of_the_account_is_another() -> None:
    next_one = subject("next", first_at=minutes(16), last_at=minutes(16))

    assert decided([subject(), next_one], [said()], now=minutes(20)) == [
        Announce(
            said("next", first_at=minutes(16), last_at=minutes(16), alert_id=None),
            next_one, "first", None,
        )
    ]  # fmt: skip


def test_actions_are_told_apart_by_their_transaction() -> None:
    rule = of(unit="action")

    assert decided([subject(), subject("l")], [said()], rule) == [
        Announce(said("l", alert_id=None), subject("l"), "first", None)
    ]


def test_what_is_gone_is_corrected_at_once_or_after_a_while() -> None:
    gone = said(usd=0, step=0, revision=2, state="withdrawn")._replace(usd=None)
    patient = of(correct_after=timedelta(seconds=30))
    waiting = said(gone_at=minutes(1))

    assert decided([], [said()]) == [Correct(said(), gone, None)]
    assert decided([], [said()], patient) == [Note(waiting)]
    assert decided([], [waiting], patient) == []
    assert decided([], [waiting], patient, now=minutes(1) + timedelta(seconds=30)) == [
        Correct(waiting, gone, None)
    ]
    assert decided([], [gone], patient) == []


def test_what_comes_again_in_time_was_never_gone() -> None:
    patient = of(correct_after=timedelta(seconds=30))

    assert decided([subject()], [said(gone_at=T0)], patient) == [Note(said())]


def test_what_is_less_than_was_said_is_corrected_once() -> None:
    large, left = said(usd=20_000_000, step=2), subject(usd=2_000_000)
    now = said(usd=2_000_000, step=1, revision=2)

    assert decided([left], [large]) == [Correct(large, now, left)]
    assert decided([left], [now]) == []


def test_what_falls_below_the_threshold_is_taken_back_with_what_is_left() -> None:
    left = subject(usd=900_000)

    assert decided([left], [said()]) == [
        Correct(said(), said(usd=900_000, step=0, revision=2, state="withdrawn"), left)
    ]


def test_what_was_taken_back_and_comes_again_is_announced_again_under_another_id() -> None:
    gone = said(step=0, revision=2, state="withdrawn", alert_id="id-2")
    [again] = decided([subject()], [gone])

    assert again == Announce(said(revision=3, alert_id="id-2"), subject(), "first", "id-2")
    assert id_of(RULE, "first", again.alerted) != id_of(RULE, "first", said())


def test_within_the_cool_down_only_a_larger_step_of_the_account_is_announced() -> None:
    second = subject("second", first_at=minutes(30), last_at=minutes(30))
    kept = said(
        "second", first_at=minutes(30), last_at=minutes(30), state="kept_back", alert_id=None
    )

    assert decided([second], [], recent={ALICE: 1}) == [Note(kept)]
    assert decided([second], [kept], recent={}) == []
    assert decided([second], [], recent={BOB: 1})[0].alerted.state == "told"
    assert decided([second._replace(usd=Decimal(10**7))], [], recent={ALICE: 1}) == [
        Announce(
            kept._replace(state="told", step=2, usd=Decimal(10**7)),
            second._replace(usd=Decimal(10**7)), "first", None,
        )
    ]  # fmt: skip


def test_two_things_of_one_account_at_once_are_one_message_within_a_cool_down() -> None:
    both = [subject("a", dex="x"), subject("b", dex="y")]

    cool = of(cool_down=GAP)

    assert [type(one) for one in decided(both, [])] == [Announce, Announce]
    assert [(type(one), one.alerted.state) for one in decided(both, [], cool)] == [
        (Announce, "told"),
        (Note, "kept_back"),
    ]


def test_what_was_kept_back_and_goes_is_not_corrected() -> None:
    [decision] = decided([], [said(state="kept_back", alert_id=None)])

    assert isinstance(decision, Note)
    assert decision.alerted.state == "withdrawn"


def test_two_that_grow_together_are_one_message() -> None:
    one, two = said("a"), said("b", first_at=minutes(20), last_at=minutes(20))
    joined = subject("a", usd=10_000_000, last_at=minutes(20))
    decisions = decided([joined], [one, two])

    assert [type(decision) for decision in decisions] == [Announce, Note]
    assert decided([joined], [decision.alerted for decision in decisions]) == []


def test_one_that_parts_is_neither_announced_nor_corrected_while_one_part_is_as_large() -> None:
    whole = said(usd=3_000_000, last_at=minutes(30))
    parts = [subject("a"), subject("b", usd=1_500_000, first_at=minutes(30), last_at=minutes(30))]

    assert {type(one) for one in decided(parts, [whole])} <= {Note}


def test_the_id_is_that_of_rule_thing_step_and_revision() -> None:
    ids = {
        id_of(rule, kind, one)
        for rule in (RULE, of(name="s"), of(above=Decimal(2)))
        for kind in ("first", "more", "correction")
        for one in (said(), said("l"), said(step=2), said(revision=2))
    }

    assert len(ids) == 36
    assert id_of(RULE, "first", said()) == id_of(
        of(cool_down=GAP, accounts=frozenset({BOB})), "first", said(usd=7, last_at=minutes(9))
    )
    assert digest_id(RULE, T0) != digest_id(RULE, minutes(1))


def test_a_digest_says_the_last_of_each_and_nothing_of_what_came_and_went() -> None:
    def one(id: str, kind: Any, key: str, usd: int | None) -> Gathered:
        return Gathered(id, kind, key, None if usd is None else Decimal(usd), id)

    rows = [
        one("1", "first", "a", 1), one("2", "first", "b", 2), one("3", "more", "a", 10),
        one("4", "first", "c", 5), one("5", "correction", "c", None),
        one("6", "correction", "d", None),
    ]  # fmt: skip

    assert [found.id for found in in_digest(rows)] == ["3", "2", "6"]
