"""Sizes under a definition: rows of accounts, episodes made and kept up, and what rules say."""

import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from indexer import labels
from indexer.errors import ConfigError
from indexer.methodology.definition import Definition, Labels, Repeat, presets
from indexer.model import Rule
from indexer.store import database, definitions, sizes, values
from indexer.store import labels as labeler
from indexer.store.database import Connection
from tests import definition_model as model
from tests.conftest import Command
from tests.test_totals import (
    ACCOUNTS,
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DAY,
    LOAN,
    PERP,
    T0,
    VALUES,
    WORLD,
    Raw,
    asked,
    definition_of,
    loan,
    log,
    of_toml,
    perp,
    plain,
    sets,
    store_world,
    vault,
)
from tests.test_values import insert, lending, price, prices_of

__all__ = ["lending", "price"]  # fixtures

SIZES = presets()["sizes/v1"]
GAP = timedelta(seconds=900)
EVER = (datetime.min.replace(tzinfo=DAY.tzinfo), datetime.max.replace(tzinfo=DAY.tzinfo))
ONE_MICROSECOND = timedelta(microseconds=1)
# to shrink an example takes minutes, as each is a database's work
MANY = settings(max_examples=40, deadline=None, derandomize=True, phases=(Phase.generate,))


# -- rows of accounts ----------------------------------------------------------------------------

SHOWN = """
    instrument, venue, chain, account, unit, market, dex, asset, side, method, leg, margin_mode,
    block_number, block_at, action, order_id, usd, price_source, trust
"""
OF_ACCOUNTS = f"""
    SELECT line, venue || '/' || event_key || '/' || liquidated, {SHOWN}
    FROM ledger.lines_of(%s, %s, %s)
"""
OF_ALL = f"""
    SELECT * FROM (
        SELECT 'counted' AS line, key, {SHOWN}
        FROM liq.counted(%(id)s, %(since)s, 'infinity'::timestamptz)
        UNION ALL
        SELECT line, key, {SHOWN} FROM liq.beside(%(id)s, %(since)s, 'infinity'::timestamptz)
    ) line
    WHERE account = ANY (%(accounts)s)
"""


def of_accounts(d: Definition) -> Definition:
    """The nearest definition that says what an account suffered by its own rows."""
    return msgspec.structs.replace(
        d, finality="latest", leg="liquidated", account_unit="address", labels=Labels(),
        repeat=Repeat(gap_seconds=d.repeat.gap_seconds), sample=None, minimum_usd=Decimal(0),
    )  # fmt: skip


def test_rows_of_accounts_are_those_of_all_that_concern_them(connection: Connection) -> None:
    @MANY
    @given(
        world=WORLD,
        d=st.one_of(st.just(SIZES), definition_of().map(of_accounts)),
        accounts=sets(*ACCOUNTS, DAVE),
        since=st.sampled_from([DAY, T0, T0 + timedelta(seconds=600), T0 + timedelta(days=9)]),
    )
    def run(world: Raw, d: Definition, accounts: list[str], since: datetime) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            definitions.keep(connection, [d])
            names = {"id": d.id, "since": since, "accounts": accounts}
            assert asked(connection, OF_ACCOUNTS, d.id, accounts, since) == plain(
                connection.execute(OF_ALL, names)
            )

    run()


def test_rows_of_no_accounts_are_none(connection: Connection) -> None:
    perp(connection, "p", {"usd": "1"})

    assert asked(connection, OF_ACCOUNTS, SIZES.id, None, DAY) == []
    assert asked(connection, OF_ACCOUNTS, SIZES.id, [], DAY) == []
    assert len(asked(connection, OF_ACCOUNTS, SIZES.id, [ALICE], DAY)) == 1


# -- episodes ------------------------------------------------------------------------------------

# Runs of rows a gap apart, and a little more; days that come close to each other.
SECONDS = st.sampled_from(
    [0, 0, 450, 900, 1_800, 1_801, 2_700, 3_600, 3_601, 10_800, 11_699, 11_700, 86_400, 90_000]
)
AT = st.tuples(SECONDS, st.sampled_from([0, 0, 0, 1])).map(
    lambda pair: T0 + timedelta(seconds=pair[0], microseconds=pair[1])
)


def at_times(rows: st.SearchStrategy[Raw]) -> st.SearchStrategy[Raw]:
    return st.tuples(rows, AT).map(lambda pair: {**pair[0], "block_at": pair[1]})


ROWS = st.fixed_dictionaries(
    {
        "perps": st.lists(st.tuples(at_times(PERP), VALUES), max_size=12),
        "loans": st.lists(st.tuples(at_times(LOAN), VALUES), max_size=12),
        "updates": st.just([]), "labels": st.just([]), "final": st.just({}), "owners": st.just({}),
    }
)  # fmt: skip
EPISODES = """
    SELECT account, venue, dex, instrument, first_at, last_at, records, unvalued, usd
    FROM ledger.episode
"""
DAYS = "SELECT instrument, day, episodes, valued, usd FROM ledger.episode_day"


def found(connection: Connection) -> Any:
    return asked(connection, EPISODES), asked(connection, DAYS)


def expected(connection: Connection, d: Definition = SIZES) -> Any:
    """Episodes and days as plain Python makes them of what stands in the tables."""
    counted = [
        row for row in model.lines(model.read(connection), d, *EVER) if row.line == "counted"
    ]
    episodes = [_episode(unit) for unit in model.units(counted, "episode", d.repeat.gap_seconds)]
    days: dict[tuple[str, date], list[Decimal | None]] = {}
    for _, _, _, instrument, _, last_at, _, _, usd in episodes:
        days.setdefault((instrument, last_at.date()), []).append(usd)
    return plain(episodes), plain(
        (*key, len(usd), len(_known(usd)), sum(_known(usd), Decimal(0)))
        for key, usd in days.items()
    )


def _episode(rows: model.Lines) -> tuple[Any, ...]:
    [(account, venue, dex, instrument)] = {
        (row.account, row.venue, row.dex, row.instrument) for row in rows
    }
    times, known = [row.block_at for row in rows], _known(row.usd for row in rows)
    return (
        account, venue, dex, instrument, min(times), max(times), len(rows),
        len(rows) - len(known), sum(known, Decimal(0)) if known else None,
    )  # fmt: skip


def _known(values: Any) -> list[Decimal]:
    return [value for value in values if value is not None]


def make_all(connection: Connection, definition: str = SIZES.id) -> None:
    with connection.transaction():
        sizes.make_all(connection, definition)


EDGES = st.lists(AT, max_size=8, unique=True).map(
    lambda times: [T0, *sorted({*times} - {T0}), T0 + timedelta(days=2)]
)


def test_episodes_of_all_are_those_of_a_model_whatever_the_windows(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @MANY
    @given(world=ROWS, edges=EDGES)
    def run(world: Raw, edges: list[datetime]) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            with monkeypatch.context() as patch:
                patch.setattr(sizes, "_edges", lambda _: edges)
                sizes.make_all(connection, SIZES.id)

            assert found(connection) == expected(connection)

    run()


def test_episodes_of_a_definition_of_the_users_have_its_gap_and_values(
    connection: Connection,
) -> None:
    @MANY
    @given(world=ROWS, d=definition_of().map(of_accounts))
    def run(world: Raw, d: Definition) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            definitions.keep(connection, [d])
            sizes.make_all(connection, d.id)

            assert found(connection) == expected(connection, d)

    run()


def at(seconds: float, **changes: Any) -> Raw:
    return {"usd": "1", "block_at": T0 + timedelta(seconds=seconds), **changes}


def unvalued(seconds: float) -> Raw:
    return at(seconds, worth={"par": {"fill_usd": None}})


def store(connection: Connection, *rows: Raw) -> None:
    for number, row in enumerate(rows):
        perp(connection, f"p{number}", row)


def spans(connection: Connection) -> list[tuple[Any, ...]]:
    """Of each episode its first and last second, rows, unvalued rows and worth."""
    rows = connection.execute("SELECT * FROM ledger.episode ORDER BY account, dex, first_at")
    return [
        ((first - T0).total_seconds(), (last - T0).total_seconds(), records, unknown, usd)
        for _, _, _, _, first, last, records, unknown, usd in rows.fetchall()
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [900, 300, 45])
def test_a_chain_of_rows_a_gap_apart_is_one_episode_across_many_windows(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    store(connection, *(at(900 * n) for n in range(6)), at(5_400.000001), at(6_300.000001))
    edges = [T0 + timedelta(seconds=n) for n in range(0, 6_400, seconds)]
    last = T0 + timedelta(seconds=6_400)
    monkeypatch.setattr(sizes, "_edges", lambda _: [*edges, last])

    make_all(connection)

    assert spans(connection) == [
        (0, 4500, 6, 0, Decimal(6)),
        (5400.000001, 6300.000001, 2, 0, Decimal(2)),
    ]


@pytest.mark.parametrize(
    ("rows", "edge"), [((1_000, 1_900, 2_800), 2_800), ((999.999999, 1_899.9, 1_900), 1_000)]
)
def test_an_episode_that_is_no_longer_than_a_gap_from_one_edge_alone_goes_on_beyond_it(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, rows: tuple[float, ...], edge: int
) -> None:
    store(connection, *map(at, rows))
    edges = [T0, T0 + timedelta(seconds=edge), T0 + timedelta(days=1)]
    monkeypatch.setattr(sizes, "_edges", lambda _: edges)

    make_all(connection)

    assert spans(connection) == [(rows[0], rows[-1], 3, 0, Decimal(3))]


def test_rows_of_the_moment_that_a_window_begins_with_are_there_once(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(connection, at(0), at(600), at(600), at(600, market="xyz:TSLA"), at(600, account=BOB))
    middle = T0 + timedelta(seconds=600)
    monkeypatch.setattr(sizes, "_edges", lambda _: [T0, middle, middle, T0 + timedelta(days=1)])

    make_all(connection)

    # of ALICE, then of her on the other dex, then of BOB
    assert spans(connection) == [
        (0, 600, 3, 0, Decimal(3)), (600, 600, 1, 0, Decimal(1)), (600, 600, 1, 0, Decimal(1))
    ]  # fmt: skip


def test_all_rows_are_cut_into_windows_by_how_many_there_are(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(connection, *(at(500 * n) for n in range(7)), at(90_000))
    connection.execute("ANALYZE ledger.liquidation, ledger.lending_liquidation")
    monkeypatch.setattr(sizes, "_ROWS_AT_ONCE", 1)

    assert sizes._edges(connection) == [
        *(T0 + timedelta(seconds=10_000 * n) for n in range(9)), T0 + timedelta(seconds=90_001)
    ]  # fmt: skip
    make_all(connection)
    assert spans(connection) == [(0, 3000, 7, 0, Decimal(7)), (90_000, 90_000, 1, 0, Decimal(1))]


def test_there_are_no_episodes_of_nothing(connection: Connection) -> None:
    make_all(connection)

    assert found(connection) == ([], [])


def test_rows_without_a_value_are_counted_and_worth_nothing_that_is_known(
    connection: Connection,
) -> None:
    store(connection, unvalued(0), at(900, usd="2.50"), unvalued(1_800), unvalued(90_000))

    make_all(connection)

    assert spans(connection) == [
        (0, 1800, 3, 2, Decimal("2.5")),
        (90_000, 90_000, 1, 1, None),
    ]
    assert asked(connection, DAYS) == [
        ("perp", date(2025, 10, 10), 1, 1, Decimal("2.5")),
        ("perp", date(2025, 10, 11), 1, 0, Decimal(0)),
    ]


# -- kept up -------------------------------------------------------------------------------------

PERP_VENUE = "hyperliquid"
LATE = st.one_of(
    st.tuples(st.just("perp"), at_times(PERP), VALUES),
    st.tuples(st.just("loan"), at_times(LOAN), VALUES),
)
CHANGE = st.one_of(
    LATE, LATE, LATE,
    st.tuples(st.sampled_from(["delete", "method", "move", "revalue", "forget"]),
              st.integers(0, 30), AT, st.sampled_from([None, "0", "3", "1000.01"])),
)  # fmt: skip


def note(connection: Connection, venue: str, moment: datetime) -> None:
    """As a pass over values does that wrote something."""
    connection.execute(
        "INSERT INTO ledger.changed_times VALUES (%s, tstzrange(%s, %s, '[]'))",
        (venue, moment, moment),
    )


def unvalued_row(connection: Connection, row: Raw) -> None:
    key = {name: row[name] for name in ("venue", "block_at", "event_key", "account")}
    bases = ["fill"] if row["venue"] == PERP_VENUE else ["repaid"]
    connection.execute(
        "INSERT INTO ledger.unvalued (venue, block_at, event_key, account, price_source, reason,"
        " bases) VALUES (%(venue)s, %(block_at)s, %(event_key)s, %(account)s, 'par', 'none',"
        " %(bases)s) ON CONFLICT DO NOTHING",
        {**key, "bases": bases},
    )


def change(connection: Connection, number: int, said: tuple[Any, ...]) -> None:
    """A row that comes late, goes, or is another; or its value does. As the program does it."""
    kind, *what = said
    if kind == "perp":
        row, worth = what
        row = {"venue": PERP_VENUE, "event_key": f"late{number}", **row}
        perp(connection, row["event_key"], {"usd": "1", "worth": worth, **row})
        _valued_late(connection, row, worth)
    elif kind == "loan":
        row, worth = what
        row = {name: value for name, value in row.items() if name not in ("tx", "log", "part")}
        row["event_key"] = log(f"late{number}")
        loan(connection, row["event_key"], {"worth": worth, **row})
        _valued_late(connection, row, worth)
    else:
        _change_row(connection, kind, *what)


def _valued_late(connection: Connection, row: Raw, worth: Raw) -> None:
    if not worth:
        unvalued_row(connection, row)
    note(connection, row["venue"], row["block_at"])


STORED = """
    SELECT 'liquidation', venue, event_key, account, block_at FROM ledger.liquidation
    UNION ALL
    SELECT 'lending_liquidation', venue, event_key, account, block_at
    FROM ledger.lending_liquidation ORDER BY 1, 2, 3, 4
"""
SAME = "(venue, event_key, account) = (%(venue)s, %(event_key)s, %(account)s)"


def _change_row(
    connection: Connection, kind: str, number: int, moment: datetime, usd: str | None
) -> None:
    stored = connection.execute(STORED).fetchall()
    if not stored:
        return
    table, *key = stored[number % len(stored)]
    row = dict(zip(("venue", "event_key", "account", "block_at"), key, strict=True))
    names = {**row, "usd": usd, "moment": moment}
    name = f"ledger.{table}"
    if kind == "delete":
        connection.execute(f"DELETE FROM {name} WHERE {SAME}", names)
        return
    if kind in ("method", "move"):
        column = "block_at = %(moment)s"
        if kind == "method":  # to one that sizes/v1 does not count
            method = "borrow_partial" if table == "liquidation" else "write_off"
            column = f"method = '{method}'"
        connection.execute(f"UPDATE {name} SET {column} WHERE {SAME}", names)
        row["block_at"] = moment if kind == "move" else row["block_at"]
    connection.execute(f"DELETE FROM ledger.valuation WHERE {SAME}", names)
    if usd is None or kind == "forget":
        unvalued_row(connection, row)
    else:
        of_leg = "fill_usd" if table == "liquidation" else "repaid_usd"
        source = "par" if table == "liquidation" else "oracle"
        insert(connection, "valuation", {**row, "price_source": source, of_leg: Decimal(usd)})
    note(connection, row["venue"], row["block_at"])


TRAILING = """
    SELECT instrument, day, days, share, ledger.trailing_size(instrument, day::date, days, share, 1)
    FROM unnest('{perp,lending}'::text[]) AS instrument,
         generate_series('2025-10-09'::date, '2025-10-14', '1 day') AS day,
         unnest('{1,2}'::int[]) AS days, unnest('{0.5,0.995}'::numeric[]) AS share
"""


def keep_up(connection: Connection) -> None:
    """A run of the labeler without a rule: nothing but sizes."""
    labeler.apply(connection, [])


def test_episodes_that_are_kept_up_are_those_made_anew(connection: Connection) -> None:
    @settings(MANY, max_examples=60)
    @given(world=ROWS, steps=st.lists(st.lists(CHANGE, min_size=1, max_size=4), max_size=4))
    def run(world: Raw, steps: list[list[tuple[Any, ...]]]) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            keep_up(connection)
            for number, changes in enumerate(steps):
                asked(connection, TRAILING)  # is remembered, and forgotten where it changes
                for place, said in enumerate(changes):
                    change(connection, 10 * number + place, said)
                keep_up(connection)
            kept, answers = found(connection), asked(connection, TRAILING)

            sizes.make_all(connection, SIZES.id)
            assert kept == found(connection) == expected(connection)
            assert answers == asked(connection, TRAILING)

    run()


def kept_up(connection: Connection) -> Any:
    """Episodes and days after a run that looks at what changed; they are those made anew."""
    keep_up(connection)
    kept = found(connection)
    make_all(connection)
    assert kept == found(connection) == expected(connection)
    return kept


def late(connection: Connection, key: str, row: Raw) -> None:
    """A liquidation of Hyperliquid that comes after others."""
    perp(connection, key, row)
    note(connection, PERP_VENUE, row["block_at"])


def test_an_episode_that_ended_long_before_stays_whole_when_rows_are_read_from_its_middle_on(
    connection: Connection,
) -> None:
    """The episode on xyz began before the one that goes on, and ended longer than a gap before."""
    store(connection, *(at(900 * n, market="xyz:TSLA") for n in range(3)), at(1_000), at(1_900))
    for number in range(3):
        perp(connection, f"b{number}", at(900 * number, account=BOB))
    keep_up(connection)

    late(connection, "p9", at(2_800))
    late(connection, "p10", at(2_800, account=BOB))
    keep_up(connection)

    assert spans(connection) == [
        (1_000, 2_800, 3, 0, Decimal(3)),
        (0, 1_800, 3, 0, Decimal(3)),
        (0, 1_800, 3, 0, Decimal(3)),
        (2_800, 2_800, 1, 0, Decimal(1)),
    ]


def test_a_late_row_joins_the_episodes_that_it_lies_between(connection: Connection) -> None:
    store(connection, at(0), at(1_800), at(86_400))
    keep_up(connection)

    late(connection, "p9", at(900, usd="0.5"))
    keep_up(connection)

    assert spans(connection) == [
        (0, 1_800, 3, 0, Decimal("2.5")),
        (86_400, 86_400, 1, 0, Decimal(1)),
    ]
    kept_up(connection)


def test_a_row_that_goes_parts_what_it_held_together(connection: Connection) -> None:
    store(connection, at(0), at(900), at(1_800))
    keep_up(connection)

    connection.execute("DELETE FROM ledger.liquidation WHERE event_key = 'p1'")
    keep_up(connection)

    assert spans(connection) == [(0, 0, 1, 0, Decimal(1)), (1_800, 1_800, 1, 0, Decimal(1))]
    kept_up(connection)


def test_a_day_with_no_episode_left_is_no_day(connection: Connection) -> None:
    store(connection, at(0), at(86_400))
    keep_up(connection)

    connection.execute("DELETE FROM ledger.liquidation WHERE event_key = 'p1'")
    keep_up(connection)

    assert asked(connection, DAYS) == [("perp", date(2025, 10, 10), 1, 1, Decimal(1))]


def test_a_loan_that_nothing_can_price_is_part_of_its_episode_at_once(
    connection: Connection, lending: Callable[..., str], price: Callable[..., None]
) -> None:
    """Through the passes over values: the one between joins two, without a value of its own."""
    prices_of(price, 101)
    prices_of(price, 102)
    lending(1)
    lending(2, block_at=T0 + 2 * GAP)
    values.value(connection)
    keep_up(connection)

    lending(3, block_at=T0 + GAP, repaid_asset="0x" + 40 * "9", seized_asset="0x" + 40 * "9")
    values.value(connection)

    episodes, _ = kept_up(connection)
    assert [row[4:8] for row in episodes] == [
        (T0 + timedelta(seconds=12), T0 + 2 * GAP, 3, 1)
    ]  # fmt: skip


def test_a_value_that_comes_and_goes_changes_its_episode(
    connection: Connection, lending: Callable[..., str], price: Callable[..., None]
) -> None:
    lending(1)
    values.value(connection)
    unknown, _ = kept_up(connection)

    prices_of(price)
    values.value(connection)
    known, _ = kept_up(connection)

    connection.execute("DELETE FROM ledger.price")
    values.value(connection)
    gone, _ = kept_up(connection)

    assert [row[6:] for row in unknown] == [(1, 1, None)]
    assert [row[6:] for row in known] == [(1, 0, Decimal("3999.2"))]
    assert gone == unknown


# -- what rules say ------------------------------------------------------------------------------

EVE, FRANK, GINA, HUGO, HLP = ("0x" + 40 * letter for letter in "15678")
FLAGS = """
    SELECT account, level, subject_key, value_usd, threshold_usd, occurred_at, venue, rule,
           rule_version, parameters
    FROM liq.flags
"""
LABELS = """
    SELECT account, label, evidence, confidence, valid_from, valid_to, venue, rule, rule_version,
           parameters
    FROM liq.labels
"""
SAID_ABS = {
    "definition": "sizes/v1", "large": "1000000", "very_large": "10000000",
    "exceptional": "100000000",
}  # fmt: skip
SAID_SHARE = {"definition": "sizes/v1", "share": "0.05", "least_usd": "1000000"}
Rows = list[tuple[Any, ...]]


def rules_of(*ids: str, theirs: str = "") -> list[Rule]:
    return [rule for rule in labels.rules(theirs.encode()) if rule.id in ids]


def label(connection: Connection, *ids: str, theirs: str = "", **choices: Any) -> None:
    labeler.apply(connection, rules_of(*ids, theirs=theirs), **choices)


def flags(connection: Connection) -> Rows:
    return asked(connection, FLAGS)


def whole(rule: str, version: int, said: Raw, venue: str, *rows: Any) -> Rows:
    """Rows of liq.flags or liq.labels of one rule at one venue."""
    return [(*row, venue, rule, version, said) for row in rows]


def short(connection: Connection) -> Rows:
    """Account, value and threshold of each flag of an episode."""
    query = "SELECT account, value_usd, threshold_usd FROM liq.flags WHERE level = 'episode'"
    return asked(connection, query)


def usd(text: str) -> Decimal:
    return Decimal(text).normalize()


def test_sizes_are_flagged_at_each_level_from_the_threshold_on(connection: Connection) -> None:
    same = {"tx_hash": "0xa", "order_id": "1"}
    store(
        connection,
        at(0, usd="600000.01", **same), at(0, usd="399999.99", **same),  # an order of two fills
        at(0, usd="999999.99", account=BOB),
        at(0, usd="10000000", account=CAROL),
        at(0, usd="99999999.99", account=DAVE),
        at(0, usd="100000000", account=EVE),
        at(0, usd="500000", account=FRANK), at(900, usd="500000", account=FRANK),
        at(0, usd="500000", account=HUGO), at(901, usd="500000", account=HUGO),
    )  # fmt: skip

    label(connection, "SIZE_ABS")

    def each(account: str, name: str, value: str, threshold: str) -> Iterator[Any]:
        worth = (usd(value), usd(threshold), T0)
        yield account, "liquidation", f"hyperliquid/{name}/{account}", *worth
        yield account, "order", f"hyperliquid/{account}/ETH/o{name}", *worth
        yield account, "action", f"hyperliquid/{account}/0x{name}", *worth
        yield account, "episode", f"hyperliquid/{account}/@20251010T210000.000000", *worth

    million = (usd("1000000"), usd("1000000"))
    assert flags(connection) == plain(
        whole(
            "SIZE_ABS", 3, SAID_ABS, PERP_VENUE,
            (ALICE, "order", f"hyperliquid/{ALICE}/ETH/1", *million, T0),
            (ALICE, "action", f"hyperliquid/{ALICE}/0xa", *million, T0),
            (ALICE, "episode", f"hyperliquid/{ALICE}/@20251010T210000.000000", *million, T0),
            *each(CAROL, "p3", "10000000", "10000000"),
            *each(DAVE, "p4", "99999999.99", "10000000"),
            *each(EVE, "p5", "100000000", "100000000"),
            (FRANK, "episode", f"hyperliquid/{FRANK}/@20251010T210000.000000", *million, T0 + GAP),
        )
    )  # fmt: skip


def test_what_is_worth_less_now_is_no_longer_flagged_and_what_was_before_stays(
    connection: Connection,
) -> None:
    store(connection, at(-86_400, usd="2000000"), at(0, usd="3000000"))
    label(connection, "SIZE_ABS")

    connection.execute("UPDATE ledger.valuation SET fill_usd = 1 WHERE event_key = 'p1'")
    note(connection, PERP_VENUE, T0)
    label(connection, "SIZE_ABS")

    assert sorted((row[1], row[3], row[5]) for row in flags(connection)) == [
        (level, usd("2000000"), T0 - timedelta(days=1))
        for level in ("action", "episode", "liquidation", "order")
    ]


def debt(amount: str, **changes: Any) -> Raw:
    return {"worth": {"oracle": {"repaid_usd": Decimal(amount)}}, **changes}


def test_loans_are_flagged_at_each_level_too(connection: Connection) -> None:
    one, other = f"{'a'.ljust(66, '_')}/0", f"{'a'.ljust(66, '_')}/1"
    loan(connection, one, debt("400000"))
    loan(connection, other, debt("600000"))
    loan(connection, log("b"), debt("99999999", block_at=T0 + 2 * GAP))
    loan(connection, log("c"), debt("999999.99", account=BOB))

    label(connection, "SIZE_ABS")

    of, later = "aave_v3.ethereum", T0 + 2 * GAP
    million, more = (usd("1000000"),) * 2, (usd("99999999"), usd("10000000"))
    frank = "0xffffffffffffffffffffffffffffffffffffffff"  # whose loans they are
    assert flags(connection) == plain(
        whole(
            "SIZE_ABS", 3, SAID_ABS, of,
            (frank, "action", f"{of}/{frank}/{'a'.ljust(66, '_')}", *million, T0),
            (frank, "episode", f"{of}/{frank}/@20251010T210000.000000", *million, T0),
            (frank, "liquidation", f"{of}/{log('b')}/{frank}", *more, later),
            (frank, "order", f"{of}/{frank}/pool/{log('b')}", *more, later),
            (frank, "action", f"{of}/{frank}/{'b'.ljust(66, '_')}", *more, later),
            (frank, "episode", f"{of}/{frank}/@20251010T213000.000000", *more, later),
        )
    )  # fmt: skip


ALL_SIZES = ("SIZE_ABS", "SIZE_PCTL", "SIZE_SHARE", "MARGIN_LOST")
FIVE = "[SIZE_PCTL]\nshare = {share}\ndays = 2\nepisodes = {episodes}\nleast_usd = 1\n"


def days(connection: Connection, *rows: tuple[int, float, str]) -> None:
    """Episodes, each of another account: the day of October, the second of it, dollars."""
    for number, (day, second, amount) in enumerate(rows):
        moment = datetime(2025, 10, day, tzinfo=DAY.tzinfo) + timedelta(seconds=second)
        perp(
            connection, f"d{number}",
            {"usd": amount, "account": f"0x{number:040x}", "block_at": moment},
        )  # fmt: skip


HISTORY = (
    (7, 86_399.999999, "100"), (8, 0, "5"), (8, 50_000, "1"), (9, 0, "4"), (9, 50_000, "2"),
    (9, 86_399.999999, "3"),
)  # fmt: skip
TENTH = ((10, 0, "3.99"), (10, 50_000, "4"), (10, 86_399.999999, "1000"))


def trailing(connection: Connection, share: str, episodes: int) -> Rows:
    label(connection, "SIZE_PCTL", theirs=FIVE.format(share=share, episodes=episodes))
    query = "SELECT value_usd, threshold_usd FROM liq.flags WHERE occurred_at >= '2025-10-10Z'"
    return asked(connection, query)


@pytest.mark.parametrize(
    ("share", "threshold", "flagged"),
    [
        ("0.8", "4", ["4", "1000"]),  # of 1 2 3 4 5 four are not larger than 4
        ("0.8000001", "5", ["1000"]),
        ("0.61", "4", ["4", "1000"]),
        ("0.6", "3", ["3.99", "4", "1000"]),
        ("0.2", "1", ["3.99", "4", "1000"]),
    ],
)
def test_an_episode_is_large_for_its_time_by_the_days_before_it(
    connection: Connection, share: str, threshold: str, flagged: list[str]
) -> None:
    days(connection, *HISTORY, *TENTH)

    assert trailing(connection, share, 5) == plain((usd(one), usd(threshold)) for one in flagged)


def test_a_percentile_of_too_few_episodes_says_nothing(connection: Connection) -> None:
    days(connection, *HISTORY, *TENTH)
    perp(connection, "unknown", {**unvalued(-50_000), "account": GINA})

    assert trailing(connection, "0.8", 6) == []
    assert [value for value, _ in trailing(connection, "0.8", 5)] == [usd("1000"), usd("4")]


def test_loans_are_large_among_loans(connection: Connection) -> None:
    days(connection, *HISTORY, *TENTH)
    for number, amount in enumerate(("30", "10", "20", "50", "40")):
        moment = DAY - timedelta(hours=number + 1)
        loan(connection, log(f"{number}"), debt(amount, block_at=moment, account=f"0x{number}"))
    loan(connection, log("large"), debt("40", account=GINA))
    loan(connection, log("small"), debt("39.99", account=HUGO))

    assert trailing(connection, "0.8", 5) == plain(
        [(usd("4"), usd("4")), (usd("1000"), usd("4")), (usd("40"), usd("40"))]
    )
    assert flags(connection)[-1] == (
        GINA, "episode", f"aave_v3.ethereum/{GINA}/@20251010T210000.000000", usd("40"), usd("40"),
        T0, "aave_v3.ethereum", "SIZE_PCTL", 1,
        {"definition": "sizes/v1", "share": "0.8", "days": 2, "episodes": 5, "least_usd": "1"},
    )  # fmt: skip


def test_an_episode_that_is_much_of_its_day_is_flagged_until_the_day_has_more(
    connection: Connection,
) -> None:
    store(
        connection,
        at(0, usd="1000000"), at(0, usd="18000000", account=BOB),
        at(0, usd="999999", account=CAROL), unvalued(-86_400), at(0, usd="1", account=DAVE),
        at(86_400, usd="999999.99"),  # all of its day, and not enough
    )  # fmt: skip
    loan(connection, log("a"), debt("1000000", account=EVE))

    label(connection, "SIZE_SHARE")
    before = flags(connection)
    late(connection, "late", at(7_200, usd="0.01", account=FRANK))
    label(connection, "SIZE_SHARE")

    def said(account: str, venue: str, value: str, threshold: str) -> Rows:
        key = f"{venue}/{account}/@20251010T210000.000000"
        row = (account, "episode", key, usd(value), usd(threshold), T0)
        return whole("SIZE_SHARE", 1, SAID_SHARE, venue, row)

    eve = said(EVE, "aave_v3.ethereum", "1000000", "50000")
    assert before == plain(
        [
            *said(ALICE, PERP_VENUE, "1000000", "1000000"),
            *said(BOB, PERP_VENUE, "18000000", "1000000"),
            *eve,
        ]
    )
    assert flags(connection) == plain([*said(BOB, PERP_VENUE, "18000000", "1000000.0005"), *eve])
    assert asked(
        connection, "SELECT account, upper_inf(recorded_during) FROM ledger.flag"
    ) == plain([(ALICE, False), (BOB, False), (BOB, True), (EVE, True)])  # fmt: skip


def lost(margin: str, seconds: float = 0, **changes: Any) -> Raw:
    worth = {"par": {"margin_lost_usd": Decimal(margin)}}
    return at(seconds, **{"method": "backstop", "worth": worth, **changes})


def test_a_large_loss_of_margin_is_flagged_where_the_episode_is_large_enough(
    connection: Connection,
) -> None:
    half = {"usd": "250000"}
    store(
        connection,
        lost("400000", **half), lost("600000", 900, **half, method="adl_of_user"),
        lost("900000", usd="499999.99", account=BOB), lost("100000", account=BOB, usd="0"),
        lost("999999.99", usd="500000", account=CAROL),
        lost("500000", usd="500000", account=DAVE),
        lost("500000", 901, usd="500000", account=DAVE),
        lost("500000", usd="500000", account=DAVE, market="xyz:TSLA"),
    )  # fmt: skip

    label(connection, "MARGIN_LOST")

    key = f"hyperliquid/{ALICE}/@20251010T210000.000000"
    said = {"definition": "sizes/v1", "margin_usd": "1000000", "episode_usd": "500000"}
    million = usd("1000000")
    assert flags(connection) == whole(
        "MARGIN_LOST", 1, said, PERP_VENUE, (ALICE, "episode", key, million, million, T0 + GAP)
    )


def test_who_is_liquidated_often_of_loans_is_a_whale(connection: Connection) -> None:
    day = timedelta(days=1)
    times = [T0, T0 + 44 * day, T0 + 90 * day - ONE_MICROSECOND]
    for number, moment in enumerate(times):
        loan(connection, log(f"a{number}"), debt("1000000", account=ALICE, block_at=moment))
        loan(connection, log(f"c{number}"), debt("999999.99", account=CAROL, block_at=moment))
        exactly = moment + (ONE_MICROSECOND if number == 2 else 0 * day)
        loan(connection, log(f"b{number}"), debt("1000000", account=BOB, block_at=exactly))

    label(connection, "REPEAT")

    stamps = ("20251010T210000.000000", "20251123T210000.000000", "20260108T205959.999999")
    evidence = {
        "episodes": [f"aave_v3.ethereum/{ALICE}/@{stamp}" for stamp in stamps],
        "usd": "3000000",
    }
    said = {"times": 3, "episode_usd": "1000000", "days": 90, "confidence": "1"}
    assert asked(connection, LABELS) == whole(
        "REPEAT", 3, said, "aave_v3.ethereum",
        (ALICE, "whale", evidence, Decimal(1), times[-1], times[-1] + 90 * day),
    )  # fmt: skip


def large_vault(connection: Connection) -> None:
    """Of two accounts of the exchange: the rows of one say so, those of the other do not."""
    for account, says_so in ((HLP, True), (GINA, False)):
        vault(connection, account)
        for number in range(3):
            late(
                connection, f"{account}{number}",
                lost("5000000", 86_400 * number, usd="5000000", account=account,
                     account_is_protocol_vault=says_so),
            )  # fmt: skip


VAULTS_TOO = "[SIZE_PCTL]\nshare = 0.5\ndays = 2\nepisodes = 1\nleast_usd = 1\n"


def test_a_vault_of_the_exchange_is_flagged_by_no_size(connection: Connection) -> None:
    large_vault(connection)

    label(connection, *ALL_SIZES, "REPEAT", theirs=VAULTS_TOO)

    assert (flags(connection), asked(connection, LABELS)) == ([], [])
    # what is not known to be a vault's counts in the sums of the days all the same
    assert [row[4] for row in asked(connection, DAYS)] == [usd("5000000")] * 3


@pytest.mark.parametrize("how", ["a vault", "an address of the list"])
def test_who_turns_out_to_be_a_vault_loses_all_flags_and_has_them_again_if_not(
    connection: Connection, how: str
) -> None:
    for number in range(3):
        row = lost("5000000", 86_400 * number, usd="5000000", account=GINA)
        late(connection, f"g{number}", row)
    names = (*ALL_SIZES, "REPEAT")
    label(connection, *names, theirs=VAULTS_TOO)
    flagged, called = flags(connection), asked(connection, LABELS)

    if how == "a vault":
        vault(connection, GINA)
    else:
        connection.execute(
            "INSERT INTO ledger.never_labelled (chain, account, why, source, origin)"
            " VALUES ('*', %s, 'a router', 'test', 'user')",
            (GINA,),
        )
    label(connection, *names, theirs=VAULTS_TOO)
    none = (flags(connection), asked(connection, LABELS))
    connection.execute("DELETE FROM ledger.protocol_vault; DELETE FROM ledger.never_labelled")
    label(connection, *names, theirs=VAULTS_TOO)

    assert {row[7] for row in flagged} == {*ALL_SIZES}
    assert len(called) == 1
    assert none == ([], [])
    assert (flags(connection), asked(connection, LABELS)) == (flagged, called)


# -- the order of changes ------------------------------------------------------------------------

LOW = """
[SIZE_ABS]
large = 3
very_large = 6
exceptional = 1_000
[SIZE_PCTL]
share = 0.7
days = 2
episodes = 3
least_usd = 3
[SIZE_SHARE]
share = 0.3
least_usd = 2
[MARGIN_LOST]
margin_usd = 4
episode_usd = 2
[REPEAT]
times = 2
episode_usd = 3
days = 2
[LONE]
version = 1
makes = "flags"
of = "days"
reach = "after"
sentence = "An episode a day or more after the last one that was as large."
parameters = {after = 1, least = 2}
query = '''
SELECT e.venue, e.account, 'episode' AS level, e.key AS subject_key, e.usd AS value_usd,
       %(least)s AS threshold_usd, e.last_at AS occurred_at
FROM liq.sized_episodes e
WHERE e.usd >= %(least)s AND ledger.never_because(e.venue, e.account) IS NULL
  AND (%(on_days)s::date[] IS NULL
       OR (e.last_at AT TIME ZONE 'UTC')::date = ANY (%(on_days)s::date[]))
  AND NOT EXISTS (
      SELECT FROM ledger.episode_day before
      WHERE before.instrument = e.instrument AND before.usd >= %(least)s
        AND before.day = (e.last_at AT TIME ZONE 'UTC')::date - %(after)s)
'''
"""
PLACES = tuple(
    T0 + timedelta(days=day, seconds=second)
    for day in range(4)
    for second in (0, 900, 1_800, 1_801, 10_799, 10_800, 11_700)
)
AMOUNTS = ("1", "2", "2.99", "3", "5", "7", "1000")


def _come(connection: Connection, chance: random.Random, number: int) -> None:
    """A liquidation, with a value or without."""
    account, moment = chance.choice((*ACCOUNTS, DAVE)), chance.choice(PLACES)
    amount = chance.choice((*AMOUNTS, None))
    row: Raw = {"account": account, "block_at": moment}
    if chance.random() < 0.5:
        worth = {"oracle": {"repaid_usd": Decimal(amount)}} if amount else {}
        kind, row = "loan", {**row, "venue": chance.choice(("aave_v3.ethereum", "aave_v3.base"))}
    else:
        known = {"fill_usd": Decimal(amount or 0), "margin_lost_usd": Decimal(amount or 0)}
        worth = {"par": known} if amount else {}
        market = chance.choice(("ETH", "ETH", "xyz:TSLA"))
        of_vault = chance.random() < 0.1
        kind, row = "perp", {**row, "market": market, "account_is_protocol_vault": of_vault}
    change(connection, number, (kind, row, worth))


def _change(connection: Connection, chance: random.Random, number: int) -> None:
    kind = chance.choice(["delete", "method", "move", "revalue", "forget"])
    said = (kind, chance.randrange(99), chance.choice(PLACES), chance.choice(AMOUNTS))
    change(connection, number, said)


def _vaults(connection: Connection, chance: random.Random, _: int) -> None:
    """An account turns out to be one of those who are never flagged, or not to be one."""
    account = chance.choice(ACCOUNTS)
    if connection.execute(
        "DELETE FROM ledger.protocol_vault WHERE account = %s", (account,)
    ).rowcount == 0:  # fmt: skip
        vault(connection, account)


def _label(connection: Connection, *_: Any) -> None:
    labeler.apply(connection, labels.rules(LOW.encode()))


@pytest.mark.parametrize(
    ("seed", "most"), [*((seed, 20_000) for seed in range(8)), (8, 0), (9, 1), (10, 2)]
)
def test_what_rules_say_does_not_depend_on_what_came_first(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, seed: int, most: int
) -> None:
    # of more accounts or spans all are looked at
    monkeypatch.setattr(labeler, "_MOST_ACCOUNTS", most)
    monkeypatch.setattr(labeler, "_MOST_SPANS", most)
    chance = random.Random(seed)
    _label(connection)
    for number in range(60):
        act = chance.choices([_come, _change, _vaults, _label], weights=[8, 3, 1, 3])[0]
        act(connection, chance, number)
    _label(connection)

    said = flags(connection), asked(connection, LABELS), *found(connection)
    connection.execute("TRUNCATE ledger.flag, ledger.label")
    labeler.apply(connection, labels.rules(LOW.encode()), again=True)

    assert said == (flags(connection), asked(connection, LABELS), *found(connection))
    assert {row[7] for row in said[0]} >= {"SIZE_ABS", "SIZE_SHARE", "LONE"}


def test_episodes_that_were_all_made_are_not_made_once_more(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    late(connection, "p0", at(0, usd="2"))
    monkeypatch.setattr(sizes, "refresh", lambda *_: pytest.fail("they were just made"))

    _label(connection)

    assert [usd for *_, usd in found(connection)[0]] == [Decimal(2)]


# -- another definition --------------------------------------------------------------------------

ORDINARY = "sizes cannot be told under mine/v1: what it counts of an account depends on others"
BELOW_ZERO = "sizes cannot be told under mine/v1: what it counts may be worth less than nothing"


def opinions(connection: Connection) -> Any:
    """All that a run may change."""
    tables = ("flag", "label", "label_run", "episode", "episode_day", "changed_times")
    return [asked(connection, f"SELECT * FROM ledger.{table}") for table in tables]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('finality = "finalized"', ORDINARY),
        ('sample = {seconds = 1, keep = "last"}', ORDINARY),
        ("minimum_usd = 1", ORDINARY),
        ('labels = {without = ["bot"]}', ORDINARY),
        ('account_unit = "owner"', ORDINARY),
        ('repeat = {keep = "first"}', ORDINARY),
        ('instruments = ["perp"]\nleg = "both"', ORDINARY),
        ('perp_value = "realised"', BELOW_ZERO),
        ('perp_value = "margin_lost"\nlending_value = "loss"', BELOW_ZERO),
        ('lending_value = "bonus"', BELOW_ZERO),
        (
            'instruments = ["perp"]\nmethods = ["ledger_update"]\nperp_value = "mark"\n'
            'count = "action"',
            "sizes cannot be told under mine/v1: the exchange's ledger names no orders",
        ),
    ],
)
def test_a_definition_that_tells_no_sizes_is_refused_and_nothing_changes(
    connection: Connection, fields: str, said: str
) -> None:
    late(connection, "p", at(0, usd="2000000"))
    labeler.apply(connection, labels.rules())
    late(connection, "q", at(0, usd="2000000", account=BOB))
    finality = "" if "finality" in fields else 'finality = "latest"\n'
    definitions.keep(connection, [of_toml(finality + fields)])
    before = opinions(connection)

    with pytest.raises(ConfigError, match=said):
        labeler.apply(connection, labels.rules(), definition="mine/v1")

    assert opinions(connection) == before
    labeler.apply(connection, labels.rules())
    assert {row[0] for row in flags(connection)} == {ALICE, BOB}


def test_strict_is_refused_with_the_reason(quick_indexer: Command, connection: Connection) -> None:
    late(connection, "p", at(0, usd="2000000"))

    strict = quick_indexer("label", "--definition", "strict/v1")
    unknown = quick_indexer("label", "--definition", "strcit/v1")

    assert (strict.returncode, strict.stdout) == (1, "")
    assert strict.stderr == (
        "indexer: sizes cannot be told under strict/v1: what it counts of an account depends on"
        " others, on labels, on what is final, or leaves rows out\n"
    )
    assert unknown.stderr == "indexer: there is no definition 'strcit/v1': indexer definitions\n"
    assert flags(connection) == []


MARKED = 'finality = "latest"\nperp_value = "mark"\nrepeat = {gap_seconds = 600}\n'


def test_under_another_definition_sizes_are_others_and_so_is_what_rules_say(
    connection: Connection,
) -> None:
    def row(seconds: float, usd: str, mark: str) -> Raw:
        return at(seconds, usd=usd, worth={"par": {"mark_usd": Decimal(mark)}})

    store(connection, *(row(700 * n, "400000", "1000000") for n in range(3)))
    names = ("SIZE_ABS", "REPEAT")
    definitions.keep(connection, [of_toml(MARKED)])
    label(connection, *names)
    usual = flags(connection), asked(connection, LABELS), spans(connection)

    label(connection, *names, definition="mine/v1")
    theirs = flags(connection), asked(connection, LABELS), spans(connection)
    late(connection, "p9", {**row(2_000, "1", "1000000"), "account": BOB})
    late(connection, "p10", row(3_600, "1", "1000000"))
    label(connection, *names, definition="mine/v1")
    kept = found(connection)
    label(connection, *names, definition="mine/v1", again=True)

    assert kept == found(connection)
    assert len(spans(connection)) == 5
    connection.execute("DELETE FROM ledger.liquidation WHERE event_key IN ('p9', 'p10')")
    label(connection, *names)
    assert (flags(connection), asked(connection, LABELS), spans(connection)) == usual

    assert usual[2] == [(0, 1_400, 3, 0, Decimal(1_200_000))]
    assert [(row[1], row[3], row[-1]) for row in usual[0]] == [
        ("episode", usd("1200000"), SAID_ABS)
    ]
    assert usual[1] == []
    assert theirs[2] == [(at, at, 1, 0, Decimal(1_000_000)) for at in (0, 700, 1_400)]
    assert sorted((row[1], row[-1]["definition"]) for row in theirs[0]) == [
        (level, "mine/v1")
        for level in ("action", "episode", "liquidation", "order") for _ in range(3)
    ]  # fmt: skip
    assert [(row[0], row[1], row[2]["usd"]) for row in theirs[1]] == [(ALICE, "whale", "3000000")]


# -- a second look -------------------------------------------------------------------------------


def test_since_looks_again_at_what_is_of_then_or_later(
    quick_indexer: Command, connection: Connection
) -> None:
    store(
        connection,
        at(-86_400, usd="2000000"), at(0, usd="2000000", account=BOB),
        at(86_400, usd="2000000", account=CAROL),
    )  # fmt: skip
    loan(connection, log("a"), debt("2000000", account=DAVE))
    assert quick_indexer("label").returncode == 0
    before = flags(connection)
    connection.execute("DELETE FROM ledger.flag")

    quick_indexer("label")
    nothing = flags(connection)
    done = quick_indexer("label", "--since", "2025-10-10")

    assert (nothing, done.stderr) == ([], "")
    assert {row[7] for row in before} == {"SIZE_ABS", "SIZE_SHARE"}
    assert {row[0] for row in before} == {ALICE, BOB, CAROL, DAVE}
    assert flags(connection) == [row for row in before if row[0] != ALICE]


DAYS_RULE = LOW[LOW.index("[LONE]") :]


def test_a_users_rule_of_days_looks_at_the_days_that_a_changed_day_reaches(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(DAYS_RULE)
    late(connection, "p0", at(86_400, usd="2"))
    late(connection, "p1", at(2 * 86_400, usd="2"))
    late(connection, "p2", at(4 * 86_400, usd="1.99", account=BOB))

    def lone() -> Rows:
        assert quick_indexer("label", "--rules", file).returncode == 0
        return [row for row in flags(connection) if row[7] == "LONE"]

    first = lone()
    late(connection, "p3", at(0, usd="2", account=CAROL))
    second = lone()
    connection.execute("DELETE FROM ledger.liquidation WHERE event_key = 'p0'")
    third = lone()

    def said(account: str, stamp: str, moment: datetime) -> Rows:
        key = f"hyperliquid/{account}/@{stamp}T210000.000000"
        row = (account, "episode", key, usd("2"), usd("2"), moment)
        return whole("LONE", 1, {"definition": "sizes/v1", "after": 1, "least": 2}, PERP_VENUE, row)

    assert first == said(ALICE, "20251011", T0 + timedelta(days=1))
    assert second == said(CAROL, "20251010", T0)
    assert third == plain(
        [*said(CAROL, "20251010", T0), *said(ALICE, "20251012", T0 + timedelta(days=2))]
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('makes = "flags"', 'makes = "labels"', "LONE: a rule of days makes flags"),
        ('reach = "after"', 'reach = "before"', "LONE: reach names a parameter that is a number"),
        ("after = 1,", 'after = "1",', "LONE: reach names a parameter that is a number of days"),
        ("after = 1,", "after = -1,", "LONE: reach names a parameter that is a number of days"),
        ('reach = "after"', 'least = "most"', "LONE: least names a parameter that is a number of"),
        ('of = "days"', 'of = "weeks"', "LONE is no rule that we have, and none of its own"),
    ],
)
def test_a_faulty_rule_of_days_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        labels.rules(DAYS_RULE.replace(old, new).encode())


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Shanghai"])
def test_days_are_of_utc_and_times_as_they_are_whatever_the_zone_of_the_session(
    conninfo: str, zone: str
) -> None:
    with database.connect(conninfo) as connection:
        connection.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
        days(connection, (9, 0, "1"), (9, 86_399.999999, "3"), (10, 0, "3"), (10, 86_399, "5"))
        percentile = FIVE.format(share="1", episodes=2)
        label(connection, "SIZE_PCTL", theirs=percentile)
        first = short(connection)
        late(connection, "late", at(-86_400, usd="4", account=BOB))
        connection.execute("INSERT INTO ledger.changed_times VALUES ('hyperliquid', '(,)')")
        label(connection, "SIZE_PCTL", theirs=percentile)

        assert [row[1:3] for row in asked(connection, DAYS)] == [
            (date(2025, 10, 10), 2), (date(2025, 10, 9), 3)
        ]  # fmt: skip
        assert first == [
            ("0x" + 39 * "0" + "2", usd("3"), usd("3")), ("0x" + 39 * "0" + "3", usd("5"), usd("3"))
        ]  # fmt: skip
        assert short(connection) == [("0x" + 39 * "0" + "3", usd("5"), usd("4"))]


def test_the_rules_that_the_docs_show_find_what_they_say(connection: Connection) -> None:
    page = (Path(__file__).parents[1] / "docs" / "labels.md").read_text()
    theirs = "".join(part.partition("```")[0] for part in page.split("```toml\n")[1:])
    days(connection, (1, 0, "5"), (2, 0, "5"), (3, 0, "5.01"), (3, 1, "4"), (4, 0, "5.01"))
    perp(connection, "btc", {"usd": "500000", "account": BOB, "market": "BTC"})

    labeler.apply(connection, labels.rules(theirs.encode()))

    found = asked(connection, "SELECT rule, level, account, value_usd FROM liq.flags")
    third = "0x" + 39 * "0" + "2"
    assert ("RECORD", "episode", third, usd("5.01")) in found
    assert [row[2] for row in found if row[0] == "RECORD"] == [third, BOB]
    assert {row[0] for row in found if row[2] == BOB} == {"RECORD", "SIZE_ABS"}
    assert asked(connection, "SELECT account, label FROM liq.labels") == [(BOB, "btc")]
