"""The report says what the simulated exchange did, and says so safely in all four formats."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from markupsafe import Markup
from psycopg import sql
from rich.console import Console

from indexer import explorers, sync
from indexer.errors import ConfigError
from indexer.methodology.definition import Definition, presets
from indexer.methodology.prose import Language, paragraph
from indexer.methodology.windows import Window
from indexer.positions import AccountState, Position
from indexer.report import text, voice
from indexer.report.markdown import plain
from indexer.report.render import to_html, to_json, to_markdown, to_terminal
from indexer.report.voice import Voice
from indexer.report.whale_sections import lacking
from indexer.report.whales import Bar, Largest, WhaleReport, bucket_of, collect
from indexer.store import database, definitions, positions, values
from indexer.store.database import Connection
from indexer.store.server import Server
from indexer.store.window_lines import neighbours
from tests.conftest import Browser
from tests.ledger_rows import in_order, rows
from tests.postgres import database as throw_away
from tests.simulator import (
    PROTOCOL_VAULTS,
    Simulation,
    simulate,
    small,
    write_by_block,
    write_misc,
    write_streaming,
)
from tests.simulator.config import FAULTS
from tests.simulator.truth import Group, Liquidation, episodes, grouped
from tests.test_totals import DAY as HAND_DAY
from tests.test_totals import NEXT as HAND_NEXT
from tests.test_totals import store_by_hand

USER_METHODS = ("market", "backstop", "adl_of_user")
TICK = timedelta(microseconds=1)
DAY = timedelta(hours=24)
WHOLE = timedelta(minutes=54)  # inside the 55 minutes that small() simulates
HOSTILE = (
    "<script>alert(1)</script>[red]|`x`*b*\x1b[31m\x07\u202e\x9b1m\"'&https://evil.example"
    "<img src=x onerror=alert(1)>=cmd|'/c calc'!A1{{7*7}}"
)
EN = Voice("en")


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return simulate(small(3))


@pytest.fixture(scope="module")
def tree(simulated: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_by_block(simulated, folder)
    write_misc(simulated, folder)
    return folder


@pytest.fixture(scope="module")
def filled(postgres: Server, migrated: str, tree: Path) -> Iterator[Connection]:
    """The simulated hour, for tests that only read."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        sync.backfill(opened, str(tree))
        values.value(opened, venues=["hyperliquid"])
        yield opened


@pytest.fixture(scope="module")
def report(filled: Connection) -> WhaleReport:
    return collect(filled, since=DAY)


@pytest.fixture
def own(connection: Connection, tree: Path) -> Connection:
    """The simulated hour, for a test that changes something."""
    sync.backfill(connection, str(tree))
    values.value(connection, venues=["hyperliquid"])
    return connection


def of_users(sim: Simulation) -> list[Liquidation]:
    return [
        row
        for row in sim.truth.liquidations
        if row.method in USER_METHODS and row.account not in PROTOCOL_VAULTS
    ]


def true_money(rows: list[Liquidation]) -> dict[str, Any]:
    """What a line of the report must be, from the truth alone; a sum of none is None."""
    sides = {side: [row.notional for row in rows if row.side == side] for side in ("long", "short")}
    return {
        "usd": total(row.notional for row in rows),
        "long_usd": sum(sides["long"]) if sides["long"] else None,
        "short_usd": sum(sides["short"]) if sides["short"] else None,
        "records": len(rows),
    }


def true_counts(rows: list[Liquidation]) -> dict[str, Any]:
    return {
        "fills": len(rows), "orders": len(orders(rows)), "actions": len(actions(rows)),
        "episodes": len(episodes(rows, 900)), "accounts": len({row.account for row in rows}),
    }  # fmt: skip


def shown_of(line: object, expected: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line that something is expected of."""
    return {name: getattr(line, name) for name in expected}


def total(amounts: Iterator[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def fills(rows: list[Liquidation]) -> list[Group]:
    return grouped(rows, lambda row: (row.account, str(row.block_number), row.coin, str(row.tid)))


def orders(rows: list[Liquidation]) -> list[Group]:
    return grouped(rows, lambda row: (row.account, row.coin, str(row.oid)))


def actions(rows: list[Liquidation]) -> list[Group]:
    return grouped(rows, lambda row: (row.account, row.hash))


def largest(groups: list[Group]) -> Group:
    return max(groups, key=lambda group: group.notional)


def said(row: Largest) -> tuple[str, str, Decimal, int]:
    return row.level, row.account, row.usd, row.records


def by_kind(bars: tuple[Bar, ...]) -> dict[str, Decimal]:
    return {
        kind: total(bar.usd for bar in bars if bar.kind == kind and bar.asset is None)
        for kind in {bar.kind for bar in bars}
    }


def terminal(report: WhaleReport, width: int = 200, language: Language = "en") -> str:
    written = StringIO()
    to_terminal(report, Console(file=written, width=width, force_terminal=False), language)
    return written.getvalue()


def lacks(report: WhaleReport) -> list[str]:
    return list(lacking(report, EN))


def all_formats(report: WhaleReport) -> dict[str, str]:
    return {
        "html": to_html(report),
        "json": to_json(report),
        "md": to_markdown(report),
        "terminal": terminal(report),
    }


# -- the numbers


def test_the_total_is_that_of_the_simulated_exchange(
    report: WhaleReport, simulated: Simulation
) -> None:
    users = of_users(simulated)
    expected = true_money(users) | true_counts(users)
    assert shown_of(report.total, expected) == expected


@pytest.mark.parametrize("method", USER_METHODS)
def test_each_method_has_its_own_money(
    report: WhaleReport, simulated: Simulation, method: str
) -> None:
    expected = true_money([row for row in of_users(simulated) if row.method == method])
    found = {line.name: line for line in report.section("method")}[method]
    assert shown_of(found, expected) == expected


@pytest.mark.parametrize("section", ["instrument", "venue", "asset", "method", "side"])
def test_the_lines_of_a_split_add_up_to_the_total(report: WhaleReport, section: str) -> None:
    lines = report.section(section)
    assert sum(line.usd or 0 for line in lines) == report.total.usd
    assert sum(line.records or 0 for line in lines) == report.total.records


def test_protocol_vaults_stand_apart(report: WhaleReport, simulated: Simulation) -> None:
    vaults = [row for row in simulated.truth.liquidations if row.account in PROTOCOL_VAULTS]
    beside = {line.name: line for line in report.section("beside")}["protocol_vault"]
    expected = true_money(vaults)
    assert shown_of(beside, expected) == expected


def test_every_neighbour_is_what_the_exchange_did_under_that_choice(
    report: WhaleReport, simulated: Simulation
) -> None:
    users = of_users(simulated)
    everybody = [row for row in simulated.truth.liquidations if not row.method.startswith("borrow")]
    found = {(one.switch, one.value): one for one in report.beside}
    realised = found["perp_value", "realised"]
    marks = [row.notional_mark for row in users if row.notional_mark is not None]

    assert found["perp_value", "fill"].usd == total(row.notional for row in users)
    assert found["perp_value", "mark"].perp_usd is not None
    assert found["perp_value", "mark"].perp_usd <= sum(marks)  # marks of deployers stand apart
    assert realised.usd == total(row.realised_pnl for row in users)
    assert found["parties", "user+protocol_vault"].usd == total(row.notional for row in everybody)
    without = [row for row in users if row.method != "adl_of_user"]
    assert found["methods", "without_adl"].usd == total(row.notional for row in without)
    assert found["leg", "both"].usd == 2 * total(row.notional for row in users)
    assert {seconds: found["repeat", str(seconds)].episodes for seconds in (60, 900, 3600)} == {
        seconds: len(episodes(users, seconds)) for seconds in (60, 900, 3600)
    }


def test_the_heaviest_minutes_are_those_of_the_exchange(
    report: WhaleReport, simulated: Simulation
) -> None:
    minutes: dict[datetime, Decimal] = {}
    for row in of_users(simulated):
        at = row.block_time.replace(second=0, microsecond=0)
        minutes[at] = minutes.get(at, Decimal(0)) + row.notional
    largest = sorted(minutes.items(), key=lambda one: (-one[1], one[0]))[:10]
    assert [(one.at, one.usd) for one in report.minutes] == sorted(largest)


# -- the same as liq.total, whatever the definition


TOTAL = """
    SELECT section, name, usd, long_usd, short_usd, records, fills, orders, actions, positions,
           episodes, accounts, unvalued, venue, account, key, first_at, last_at
    FROM liq.total({}, {}, {})
"""


def in_sql(connection: Connection, name: str, report: WhaleReport) -> list[tuple[Any, ...]]:
    query = sql.SQL(TOTAL).format(name, report.window_from, report.window_to)  # type: ignore[arg-type]
    return rows(connection, query.as_string(connection))


def said_by(report: WhaleReport) -> list[tuple[Any, ...]]:
    return in_order(msgspec.structs.astuple(line) for line in report.lines)


@pytest.fixture(scope="module")
def mixed(postgres: Server, migrated: str) -> Iterator[Connection]:
    """Perpetuals and loans by hand, of each kind that a definition can tell apart."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        store_by_hand(opened)
        opened.commit()
        yield opened


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_line_is_that_of_the_total_under_the_same_definition(
    mixed: Connection, name: str
) -> None:
    found = of_the_day(mixed, presets()[name])

    assert said_by(found) == in_sql(mixed, name, found)


@pytest.mark.parametrize("name", ["strict/v1", "loss_to_users/v1", "gross_legs/v1", "sizes/v1"])
def test_every_neighbour_is_the_total_of_the_definition_that_it_names(
    mixed: Connection, name: str
) -> None:
    found = of_the_day(mixed, presets()[name])
    others = neighbours(presets()[name])
    definitions.keep(mixed, [
        msgspec.structs.replace(one.definition, id=other_id(name, number))
        for number, one in enumerate(others)
    ])  # fmt: skip

    for number, (one, other) in enumerate(zip(found.beside, others, strict=True)):
        lines = in_sql(mixed, other_id(name, number), found)
        of = {(line[0], line[1]): line for line in lines}
        total = of["total", None]
        apart = [of.get(("instrument", kind), [None] * 3)[2] for kind in ("perp", "lending")]
        assert in_order([(one.usd, one.perp_usd, one.lending_usd, one.records, one.unvalued)]) == (
            in_order([(total[2], *apart, total[5], total[12])])
        ), other
        assert one.episodes in (None, total[10]), other


def other_id(name: str, number: int) -> str:
    return f"{name.partition('/')[0]}_other_{number}/v1"


def test_perpetuals_and_loans_stand_apart_where_they_make_no_sum(mixed: Connection) -> None:
    definition = msgspec.structs.replace(
        presets()["strict/v1"], id="unlike/v1", lending_value="bonus"
    )
    definitions.keep(mixed, [definition])
    found = of_the_day(mixed, definition)

    assert found.total.usd is None
    assert [line.name for line in found.section("instrument")] == ["perp", "lending"]
    assert "no sum" in to_html(found)
    assert "不作合计" in to_markdown(found, "zh")


def test_the_largest_accounts_are_those_of_the_database(mixed: Connection) -> None:
    found = of_the_day(mixed, presets()["strict/v1"])

    assert [
        (one.venue, one.account, one.usd, one.long_usd, one.short_usd, one.records, one.unvalued)
        for one in found.accounts
    ] == mixed.execute(
        "SELECT * FROM liq.largest_accounts('strict/v1', %s, %s, 20) WHERE usd IS NOT NULL",
        (found.window_from, found.window_to),
    ).fetchall()


def test_a_venue_alone_has_its_line_of_the_total(mixed: Connection) -> None:
    whole = of_the_day(mixed, presets()["strict/v1"])
    found = of_the_day(mixed, presets()["strict/v1"], venues=("aave_v3",))

    expected = [line for line in whole.section("venue") if (line.name or "").startswith("aave_v3")]
    assert expected
    assert found.total.usd == sum(line.usd or 0 for line in expected)
    assert mixed.execute(found.reproduction.sql.encode()).fetchall() == [(found.total.usd,)]
    assert found.methodology.departs == ("venues",)


def test_loans_have_a_story_in_both_languages(mixed: Connection) -> None:
    found = of_the_day(mixed, presets()["strict/v1"])
    loans = [one for one in found.episodes if one.instrument == "lending" and one.story]

    assert loans
    assert all("lost collateral of" in one.story.en for one in loans if one.story)
    assert all("被清算" in one.story.zh for one in loans if one.story)


def of_the_day(connection: Connection, definition: Definition, **more: Any) -> WhaleReport:
    window = Window(said="2025-10-10", low=HAND_DAY, high=HAND_NEXT)
    return collect(connection, definition=definition, window=window, **more)


def test_the_largest_single_one_differs_by_level(
    report: WhaleReport, simulated: Simulation
) -> None:
    rows = of_users(simulated)
    levels = {
        "fill": largest(fills(rows)),
        "order": largest(orders(rows)),
        "action": largest(actions(rows)),
        "episode": largest(episodes(rows, 900)),
    }
    expected = [(name, g.key[0], g.notional, g.fills) for name, g in levels.items()]
    assert list(map(said, report.largest))[:4] == expected
    assert report.largest[4].usd == report.accounts[0].usd


@pytest.mark.parametrize(
    ("level", "view"),
    [
        ("fill", "liquidations"),
        ("order", "orders"),
        ("action", "actions"),
        ("episode", "episodes()"),
    ],
)
def test_the_key_of_the_largest_finds_it_in_its_view(
    report: WhaleReport, filled: Connection, level: str, view: str
) -> None:
    row = next(row for row in report.largest if row.level == level)
    query = sql.SQL("SELECT account, notional_usd FROM liq.{} WHERE key = %s")  # type: ignore[arg-type]
    found = filled.execute(query.format(sql.SQL(view)), [row.key]).fetchall()
    assert found == [(row.account, row.usd)]


def test_top_episodes_are_in_order_of_size(report: WhaleReport, simulated: Simulation) -> None:
    expected = sorted(episodes(of_users(simulated), 900), key=lambda g: -g.notional)[:20]
    assert [(e.account, e.first_at, e.last_at, e.records, e.usd) for e in report.episodes] == [
        (g.key[0], g.first_at, g.last_at, g.fills, g.notional) for g in expected
    ]
    assert [(e.mark_usd or 0) for e in report.episodes] == [g.notional_mark for g in expected]
    assert [(e.markets, tuple(sorted(e.methods))) for e in report.episodes] == [
        (g.coins, g.methods) for g in expected
    ]


def test_the_largest_episode_shows_what_the_ledger_told(
    report: WhaleReport, simulated: Simulation
) -> None:
    episode = report.episodes[0]
    told = [row for row in simulated.truth.ledger_liquidations if row.account == episode.account]
    days = [row for row in simulated.truth.account_days if row.account == episode.account]
    assert episode.methods == ("market", "backstop")
    assert episode.equity_usd == min(told, key=lambda row: row.time).account_value
    assert episode.peak_position_usd == max(day.largest_position for day in days)


def test_the_top_is_as_long_as_asked(filled: Connection, report: WhaleReport) -> None:
    assert collect(filled, since=DAY, top=3).episodes == report.episodes[:3]


def test_the_bars_add_up_to_the_totals(report: WhaleReport) -> None:
    sums = {line.name: line.usd for line in report.section("method")}
    assert by_kind(report.chart.bars) == {
        "market": sums["market"], "backstop": sums["backstop"], "adl": sums["adl_of_user"],
        "protocol_vault": report.section("beside")[0].usd,
    }  # fmt: skip


def test_the_bars_of_an_asset_add_up_to_its_line(report: WhaleReport) -> None:
    first = report.section("asset")[0]
    assert total(bar.usd for bar in report.chart.bars if bar.asset == first.name) == first.usd


def test_the_printed_sql_gives_the_headline(report: WhaleReport, filled: Connection) -> None:
    answer = filled.execute(report.reproduction.sql.encode()).fetchall()
    assert answer == [(report.total.usd,)]


def test_a_longer_gap_makes_fewer_episodes_of_the_same_money(
    filled: Connection, report: WhaleReport, simulated: Simulation
) -> None:
    longer = collect(filled, since=DAY, gap=timedelta(hours=1))
    assert longer.total.episodes == len(episodes(of_users(simulated), 3600))
    assert (longer.total.episodes or 0) < (report.total.episodes or 0)
    assert longer.total.usd == report.total.usd
    assert "no pause longer than 1h" in to_markdown(longer)


def test_perpetuals_of_other_venues_are_not_in_it(own: Connection) -> None:
    """Its definition names one venue; on others `market` is a close against a pool."""
    before = collect(own, since=DAY)
    columns = ", ".join(
        str(name)
        for (name,) in own.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'ledger'"
            " AND table_name = 'liquidation' AND column_name <> 'venue'"
        )
    )
    for venue in ("dydx_v4", "gmx_v2.arbitrum"):
        own.execute(
            f"INSERT INTO ledger.liquidation (venue, {columns})"
            f" SELECT '{venue}', {columns} FROM ledger.liquidation WHERE venue = 'hyperliquid'"
        )

    after = collect(own, since=DAY)
    assert msgspec.structs.replace(after, read_at=before.read_at) == before


# -- the window


def test_without_an_end_the_window_ends_with_the_last_block(
    report: WhaleReport, simulated: Simulation
) -> None:
    assert simulated.truth.blocks
    assert report.window_to == simulated.truth.blocks.last_at + TICK
    assert report.window_from == report.window_to - DAY
    assert report.coverage.scopes[0].as_of_block == simulated.truth.blocks.last


def test_the_window_has_its_first_moment_and_not_its_last(
    filled: Connection, simulated: Simulation
) -> None:
    rows = of_users(simulated)
    times = sorted({row.block_time for row in rows})
    begins, ends = times[3], times[-3]
    inside = [row for row in rows if begins <= row.block_time < ends]
    found = collect(filled, since=ends - begins, until=ends)
    expected = true_money(inside) | true_counts(inside)
    assert shown_of(found.total, expected) == expected
    assert len(inside) < len(rows)


def test_an_episode_that_began_before_the_window_keeps_its_key(
    filled: Connection, report: WhaleReport
) -> None:
    whole = report.episodes[0]
    cut = collect(filled, since=report.window_to - whole.last_at)
    assert cut.episodes[0].key == whole.key
    assert cut.episodes[0].usd is not None
    assert whole.usd is not None
    assert 0 < cut.episodes[0].usd < whole.usd


def test_the_end_may_be_given_in_any_time_zone(filled: Connection, report: WhaleReport) -> None:
    zone = datetime.now().astimezone().tzinfo
    found = collect(filled, since=DAY, until=report.window_to.astimezone(zone))
    assert msgspec.structs.replace(found, read_at=report.read_at) == report
    assert found.window_to.tzinfo is UTC


def test_a_window_without_liquidations_is_shown_with_zeros(
    filled: Connection, simulated: Simulation
) -> None:
    before = min(row.block_time for row in simulated.truth.liquidations)
    found = collect(filled, since=timedelta(seconds=1), until=before - timedelta(seconds=5))
    shown = all_formats(found)
    assert shown_of(found.total, {"usd": 0, "records": 0, "accounts": 0}) == {
        "usd": 0, "records": 0, "accounts": 0,
    }  # fmt: skip
    assert (found.section("beside"), found.episodes, found.accounts) == ((), (), ())
    assert ["$0.00" in shown[form] for form in ("html", "md", "terminal")] == [True] * 3


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"since": timedelta(0)}, "the window must be longer than 0s"),
        ({"since": timedelta(days=900_000)}, "900000d before 2025-10-28"),
        ({"since": DAY, "until": datetime(2025, 10, 28)}, "must say its time zone"),  # noqa: DTZ001
        ({"since": DAY, "gap": timedelta(seconds=30)}, "cooldown of 30s, not 30s"),
        ({"since": DAY, "top": 0}, "at least one row, not 0"),
        ({"since": DAY, "venues": ["aave_v3"]}, "whale_report/v1 does not count aave_v3"),
        ({"since": DAY, "venues": ["x'; --"]}, "is no venue"),
        ({"window": Window(said="1..2", chain="base", block_from=1, block_to=2)}, "not of blocks"),
    ],
)
def test_senseless_parameters_are_refused(
    filled: Connection, parameters: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        collect(filled, **parameters)  # type: ignore[arg-type]


def test_an_empty_database_says_what_to_do(connection: Connection) -> None:
    with pytest.raises(ConfigError, match="counts is indexed yet: indexer backfill hyperliquid"):
        collect(connection, since=DAY)


# -- what is missing


def test_a_window_that_was_read_whole_is_complete(filled: Connection) -> None:
    found = collect(filled, since=WHOLE)
    assert (found.coverage.is_complete, lacks(found)) == (True, [])
    assert found.coverage.blocks == 1100
    assert "Complete" in terminal(found)
    assert "<strong>Complete.</strong>" in to_html(found)
    assert "<strong>数据完整。</strong>" in to_html(found, "zh")
    assert "- **Complete**: 1,100 blocks read" in to_markdown(found)
    assert "Nothing is known to be missing" in to_markdown(found)


def test_a_window_that_begins_before_the_first_block_is_not_complete(report: WhaleReport) -> None:
    low = text.moment(report.window_from)
    assert lacks(report) == [f"hyperliquid: {low} to 2025-10-27 23:20:01 UTC never read"]
    assert "Not complete" in terminal(report)
    assert "omplete." not in to_html(report).replace("Not complete.", "")


def test_a_window_that_ends_after_the_last_block_is_not_complete(
    filled: Connection, report: WhaleReport
) -> None:
    found = collect(filled, since=WHOLE, until=report.window_to + TICK)
    assert [m.low for m in found.coverage.scopes[0].missing] == [report.window_to - TICK]
    assert not found.coverage.is_complete


def test_a_window_in_which_nothing_was_read_says_so(filled: Connection) -> None:
    found = collect(filled, since=DAY, until=datetime(2024, 1, 1, tzinfo=UTC))
    assert lacks(found) == [
        "hyperliquid: 2023-12-31 00:00:00 UTC to 2024-01-01 00:00:00 UTC never read"
    ]
    assert found.coverage.scopes[0].share == 0


def test_a_hole_makes_it_incomplete(
    connection: Connection, simulated: Simulation, tmp_path: Path
) -> None:
    blocks = simulated.blocks[:500] + simulated.blocks[507:]
    write_by_block(Simulation(simulated.config, blocks, simulated.truth), tmp_path)
    sync.backfill(connection, str(tmp_path))
    values.value(connection, venues=["hyperliquid"])
    found = collect(connection, since=WHOLE)
    assert len(lacks(found)) == 1
    assert lacks(found)[0].startswith(
        "hyperliquid: blocks 777,290,500 to 777,290,506 never read, 2025-10-27 23:"
    )
    assert len(found.chart.unread) == 1


def test_a_hole_outside_the_window_does_not_matter(
    connection: Connection, simulated: Simulation, tmp_path: Path
) -> None:
    blocks = simulated.blocks[:500] + simulated.blocks[507:]
    write_by_block(Simulation(simulated.config, blocks, simulated.truth), tmp_path)
    sync.backfill(connection, str(tmp_path))
    assert collect(connection, since=timedelta(minutes=20)).coverage.is_complete


def test_undecoded_events_make_it_incomplete(connection: Connection, tmp_path: Path) -> None:
    sim = simulate(small(4, FAULTS))
    write_by_block(sim, tmp_path)
    sync.backfill(connection, str(tmp_path))
    values.value(connection, venues=["hyperliquid"])
    found = collect(connection, since=WHOLE)
    assert found.coverage.undecoded_events > 0
    assert all(" could not be decoded: " in lack for lack in lacks(found))
    assert len(lacks(found)) == len(found.coverage.undecoded)
    expected = true_money(of_users(sim)) | true_counts(of_users(sim))
    assert shown_of(found.total, expected) == expected


def test_files_without_empty_blocks_cannot_prove_completeness(
    connection: Connection, simulated: Simulation, tmp_path: Path
) -> None:
    write_streaming(simulated, tmp_path)
    sync.backfill(connection, str(tmp_path))
    found = collect(connection, since=timedelta(minutes=50))
    assert found.coverage.verifications == ("fills_only",)
    assert "a lost block cannot be seen there" in " ".join(lacks(found))
    assert not found.coverage.is_complete
    assert (found.total.fills or 0) > 0


def test_rows_of_no_covered_block_make_it_incomplete(own: Connection) -> None:
    own.execute("UPDATE ledger.liquidation SET block_number = NULL WHERE market = 'DOGE'")
    found = collect(own, since=WHOLE)
    assert found.coverage.outside_coverage > 0
    assert "came from single records, not from whole blocks" in lacks(found)[0]


def test_rows_without_a_dollar_value_are_counted_and_told(
    own: Connection, report: WhaleReport
) -> None:
    own.execute(
        "DELETE FROM ledger.valuation v USING ledger.liquidation l WHERE l.market = 'ETH'"
        " AND (l.venue, l.block_at, l.event_key, l.account)"
        " = (v.venue, v.block_at, v.event_key, v.account)"
    )
    own.execute(
        "INSERT INTO ledger.unvalued"
        " SELECT venue, block_at, event_key, account, 'par', %s, '{fill}'"
        " FROM ledger.liquidation WHERE market = 'ETH' AND side = 'short'",
        ["in XYZ, which is no dollar"],
    )
    found = collect(own, since=DAY)
    eth = next(line for line in report.section("asset") if line.name == "ETH")

    assert found.total.unvalued == sum(one.records for one in found.coverage.unvalued)
    assert {one.reason for one in found.coverage.unvalued} == {None, "in XYZ, which is no dollar"}
    assert found.total.records == report.total.records
    assert found.total.usd == (report.total.usd or 0) - (eth.usd or 0)
    assert "without a value, in no sum: in XYZ, which is no dollar" in to_markdown(found)
    assert "not valued yet: indexer value hyperliquid" in terminal(found)


def test_simulated_data_says_so_in_every_format(report: WhaleReport, own: Connection) -> None:
    own.execute("UPDATE ledger.source SET is_simulated = true")
    found = all_formats(collect(own, since=DAY))
    assert report.is_simulated is False
    assert ["SIMULATED DATA" in found[form] for form in ("html", "md", "terminal")] == [True] * 3
    assert json.loads(found["json"])["is_simulated"] is True
    assert "SIMULATED" not in to_html(report) + to_markdown(report) + terminal(report)
    assert "模拟数据" in to_html(collect(own, since=DAY), "zh")


# -- whales


def label(
    connection: Connection,
    account: str,
    *,
    name: str = "whale",
    rule: str = "PEAK_POSITION",
    evidence: str = '{"largest_position_usd": 168724000.000000000000000001}',
    during: str = "[2025-10-01, 2026-01-01)",
) -> None:
    connection.execute(
        "INSERT INTO ledger.label VALUES"
        " ('hyperliquid', %s, %s, %s, 1, 0.9, %s, %s, '[2025-01-01,)')",
        [account, name, rule, evidence, during],
    )


def test_whales_are_labelled_accounts_that_were_liquidated(
    own: Connection, report: WhaleReport
) -> None:
    first, second = report.episodes[0].account, report.episodes[1].account
    label(own, second, rule="REPEAT", evidence='{"episodes": ["a", "b"], "times": 3}')
    label(own, first)
    label(own, first, rule="EQUITY")
    label(own, "0x" + "ab" * 20)  # a whale that was not liquidated
    label(own, report.episodes[2].account, during="[2026-01-01,)")  # not yet one
    found = collect(own, since=DAY)
    assert [whale.account for whale in found.whales] == [first, second]
    assert [opinion.rule for opinion in found.whales[0].opinions] == ["EQUITY", "PEAK_POSITION"]
    assert found.whales[0].opinions[1].evidence == {
        "largest_position_usd": "168724000.000000000000000001"
    }
    assert [opinion.label for opinion in found.accounts[0].opinions] == ["whale", "whale"]
    assert found.whales[0].usd == report.accounts[0].usd
    assert (found.whales_active, found.whales_labelled) == (2, 4)
    told = "2 labelled accounts liquidated in the window; 2 more labelled whale"
    assert told in terminal(found)
    assert "$168,724,000.00" in to_html(found)


def test_labels_and_thresholds_stand_with_the_episode(own: Connection, report: WhaleReport) -> None:
    episode = report.episodes[0]
    label(own, episode.account)
    label(own, episode.account, name="market_maker", rule="ROLE_MM")
    own.execute(
        "INSERT INTO ledger.flag VALUES"
        " ('hyperliquid', %s, 'episode', %s, 'SIZE_ABS', 1, %s, 100000000, %s, '[2025-01-01,)')",
        [episode.account, episode.key, episode.usd, episode.last_at],
    )
    found = collect(own, since=DAY)
    assert found.episodes[0].labels == ("market_maker", "whale")
    assert found.episodes[0].threshold_usd == 100_000_000
    assert "≥ $100M" in to_html(found)


# -- the formats


def test_the_json_has_the_same_numbers(report: WhaleReport) -> None:
    written = to_json(report)
    assert msgspec.json.decode(written, type=WhaleReport) == report
    found = json.loads(written)
    assert [line["usd"] for line in found["lines"] if line["section"] == "total"] == [
        str(report.total.usd)
    ]
    assert found["window_to"] == f"{report.window_to:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_the_headline_stands_to_the_cent_in_every_format(report: WhaleReport) -> None:
    exact = text.usd(report.total.usd)
    found = all_formats(report)
    chinese = (to_html(report, "zh"), to_markdown(report, "zh"), terminal(report, 200, "zh"))
    assert [exact in found[form] for form in ("html", "md", "terminal")] == [True] * 3
    assert [exact in form for form in chinese] == [True] * 3


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_format_has_the_definition_and_its_paragraph(
    report: WhaleReport, language: Language
) -> None:
    definition = presets()["whale_report/v1"]
    said = json.loads(to_json(report))["methodology"]
    page, wide = to_html(report, language), terminal(report, 9_999, language)
    told = paragraph(definition, language)

    assert said == {
        "id": "whale_report/v1", "hash": definition.hash, "departs": [],
        "en": paragraph(definition, "en"), "zh": paragraph(definition, "zh"),
    }  # fmt: skip
    assert told in wide
    assert plain(told) in to_markdown(report, language)
    assert f"<p>{Markup.escape(told)}</p>" in page
    for shown in (page.split("</header>")[0], wide, to_markdown(report, language)):
        assert definition.hash in shown


def test_no_word_of_a_report_is_left_in_the_other_language(report: WhaleReport) -> None:
    english = [said.en for said in voice.SAID.values() if re.search("[a-z]{5}", said.en)]
    page = re.sub(
        r"<(style|pre)>.*?</\1>|<code.*?</code>", "", to_html(report, "zh"), flags=re.DOTALL
    )
    told = [said for said in english if re.search(rf">{re.escape(said)}<", page)]

    assert told == []
    assert re.findall("[\u4e00-\u9fff]+", to_html(report)) == []
    assert re.findall("[\u4e00-\u9fff]+", to_markdown(report) + terminal(report)) == []


def test_every_phrase_takes_the_same_names_in_both_languages() -> None:
    names = {
        name: [set(re.findall(r"{(\w+)}", text)) for text in said]
        for name, said in voice.SAID.items()
    }
    assert {name: found for name, found in names.items() if found[0] != found[1]} == {}


def test_equal_reports_have_one_hash_and_others_another(filled: Connection) -> None:
    one, again = collect(filled, since=DAY), collect(filled, since=DAY)
    other = collect(filled, since=WHOLE)

    assert (one.hash, len(one.hash)) == (again.hash, 64)
    assert one.read_at != again.read_at
    assert one.hash != other.hash
    assert [one.hash in form for form in all_formats(one).values()] == [True] * 4


def test_a_report_says_where_it_departs_from_its_definition(filled: Connection) -> None:
    found = collect(filled, since=WHOLE, gap=timedelta(hours=1))

    assert found.methodology.departs == ("window", "gap")
    assert found.methodology.en.endswith(
        " Here the window is 54m. Here an episode ends after 1h without an action."
    )
    assert found.methodology.zh.endswith(
        "本报告的统计窗口为 54 分钟。本报告中，连续 1 小时没有清算动作，一次清算过程即告结束。"
    )
    shown = (to_html(found), to_markdown(found), terminal(found, 9_999))
    assert [", but for its window, gap" in form for form in shown] == [True] * 3


def test_every_format_names_the_window_and_how_to_get_it_again(report: WhaleReport) -> None:
    command = report.reproduction.command
    assert command.endswith(
        f" --since 24h --until {report.window_to:%Y-%m-%dT%H:%M:%S.%f}Z --gap 15m --top 20"
    )
    assert [command in shown for shown in all_formats(report).values()] == [True] * 4
    bounds = (text.exact(report.window_from), text.exact(report.window_to))
    shown = to_html(report), to_markdown(report), terminal(report)
    assert [bound in form for form in shown for bound in bounds] == [True] * 6


def test_whole_addresses_are_in_every_format(report: WhaleReport) -> None:
    accounts = {row.account for row in report.episodes}
    shown = (*all_formats(report).values(), terminal(report, 80))
    assert [{a for a in accounts if a not in form} for form in shown] == [set()] * 5


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_money_is_cut_off_in_a_terminal(report: WhaleReport, width: int) -> None:
    shown = terminal(report, width)
    assert re.findall(r"\$[\d,.]*…", shown) == []
    assert text.usd(report.total.usd) in shown


def test_every_row_of_a_markdown_table_has_the_cells_of_its_header(report: WhaleReport) -> None:
    assert uneven_rows(to_markdown(report)) == []


def uneven_rows(markdown: str) -> list[str]:
    """Tables whose rows do not all have the same number of unescaped pipes."""
    tables = [part for part in markdown.split("\n\n") if part.startswith("| ")]
    assert len(tables) >= 6
    return [
        table
        for table in tables
        if len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) > 1
    ]


def test_who_is_under_water_is_a_section_of_every_format(own: Connection) -> None:
    held = Position(
        market=HOSTILE, side="long", size=Decimal(2), mark_price=Decimal(50_000),
        liquidation_price=Decimal(49_000), value=Decimal(100_000), unrealised=Decimal(-5_000),
    )  # fmt: skip
    positions.append(own, AccountState(
        venue="hyperliquid", account="0x" + 40 * "d", dex="", observed_at=datetime.now(UTC),
        quote="USDC", equity=Decimal(20_000), positions=(held,),
    ))  # fmt: skip
    found = collect(own, since=DAY)

    assert [(one.account, one.unrealised_usd) for one in found.under_water] == [
        ("0x" + 40 * "d", Decimal(-5_000))
    ]
    assert [one.distance for one in found.closest] == [Decimal("0.02")]
    told = {"html": to_html(found), "md": to_markdown(found), "terminal": terminal(found, 250)}
    for heading in ("Whales under water", "Closest to liquidation"):
        assert [form for form, text in told.items() if heading not in text] == []
    assert [form for form, text in told.items() if "5,000.00" not in text] == []
    assert "<script>" not in told["html"] + told["md"]
    assert "\x1b[31m" not in told["terminal"]
    said = json.loads(to_json(found))
    assert (said["under_water"][0]["unrealised_usd"], said["closest"][0]["status"]) == (
        "-5000", "open",
    )  # fmt: skip


def test_without_a_look_there_is_no_such_section(report: WhaleReport) -> None:
    assert "under water" not in to_html(report) + to_markdown(report)


def test_links_are_made_of_hashes_and_addresses_alone() -> None:
    tx, account = "0x" + 64 * "a", "0x" + 40 * "b"
    assert explorers.transaction("aave_v3.base", tx) == f"https://basescan.org/tx/{tx}"
    assert explorers.account("hyperliquid", account) == (
        f"https://app.hyperliquid.xyz/explorer/address/{account}"
    )
    for strange in ("javascript:alert(1)", tx + "/../x", "0x" + 64 * "0", tx.upper(), ""):
        assert explorers.transaction("aave_v3.ethereum", strange) is None
    assert explorers.transaction("aave_v3.nowhere", tx) is None
    assert explorers.account("aave_v3.ethereum", HOSTILE) is None


def test_the_largest_link_to_their_transactions_and_accounts(report: WhaleReport) -> None:
    page, markdown = to_html(report), to_markdown(report)
    for one in report.episodes[:3]:
        link = f"https://app.hyperliquid.xyz/explorer/tx/{one.action}"
        assert f'href="{link}"' in page
        assert f"]({link})" in markdown
    assert f"/explorer/address/{report.accounts[0].account}" in page


@pytest.fixture
def hostile(own: Connection, report: WhaleReport) -> WhaleReport:
    """A report whose every foreign word wants to be markup."""
    account = report.episodes[0].account
    own.execute(
        "UPDATE ledger.liquidation SET market = %(word)s, dex = %(word)s, dir_liquidated = %(word)s"
        " WHERE account = %(account)s",
        {"word": HOSTILE, "account": account},
    )
    values.value(own, venues=["hyperliquid"])  # a row that changed has none
    own.execute(
        "INSERT INTO ledger.unvalued"
        " SELECT venue, block_at, event_key, account, 'par', %s, '{fill}'"
        " FROM ledger.liquidation WHERE market = 'DOGE'", [HOSTILE],
    )  # fmt: skip
    own.execute(
        "DELETE FROM ledger.valuation v USING ledger.liquidation l WHERE l.market = 'DOGE'"
        " AND (l.venue, l.block_at, l.event_key, l.account)"
        " = (v.venue, v.block_at, v.event_key, v.account)"
    )
    own.execute("UPDATE ledger.account_day SET largest_position_market = %s", [HOSTILE])
    own.execute(
        "INSERT INTO ledger.undecoded VALUES ('hyperliquid', 'x', 1, %s, %s, 1)",
        [report.episodes[0].first_at, HOSTILE],
    )
    evidence = json.dumps({HOSTILE: HOSTILE, "a_usd": "²"})
    label(own, account, rule=HOSTILE, evidence=evidence)
    label(own, account, name=HOSTILE, rule=HOSTILE)
    return collect(own, since=DAY)


def test_hostile_words_are_text_in_html(hostile: WhaleReport) -> None:
    for page in (to_html(hostile), to_html(hostile, "zh")):
        assert "<script" not in page.lower()
        assert "<img" not in page
        assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;[red]|") >= 10
        assert [c for c in "\x1b\x07\u202e\x9b" if c in page] == []
        assert loaded_from_elsewhere(page) == []
        assert strange_links(page) == []


def test_hostile_words_are_text_in_a_terminal(hostile: WhaleReport) -> None:
    written = StringIO()
    to_terminal(hostile, Console(file=written, width=250, force_terminal=True, no_color=True))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert "[red]|" in shown
    assert [c for c in "\x1b\x07\u202e\x9b" if c in shown] == []
    assert [c for c in "\x1b\x07\u202e\x9b" if c in terminal(hostile)] == []


def test_hostile_words_are_text_in_markdown(hostile: WhaleReport) -> None:
    shown = to_markdown(hostile)
    assert "<script" not in shown
    assert "<img" not in shown
    assert set(re.findall(r"https?://[^/]+", shown)) == {"https://app.hyperliquid.xyz"}
    assert "\\[red\\]\\|\\`x\\`" in shown
    assert uneven_rows(shown) == []
    assert [c for c in "\x1b\x07\u202e\x9b" if c in shown] == []


def test_hostile_words_come_back_whole_from_json(hostile: WhaleReport) -> None:
    written = to_json(hostile)
    assert written.isascii()
    assert [c for c in "\x1b\x07\x7f" if c in written] == []
    assert json.loads(written)["episodes"][0]["markets"] == [HOSTILE]
    assert msgspec.json.decode(written, type=WhaleReport) == hostile


class Tags(HTMLParser):
    """What a browser makes of a page: tags with attributes, and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def loaded_from_elsewhere(page: str) -> list[object]:
    """What a browser would fetch or run: anything but the empty icon."""
    loads = {"src", "srcset", "action", "data", "poster", "background"}
    found: list[object] = re.findall(r"url\([^)]*|@import", page)
    for tag, attributes in Tags(page).tags:
        found += [(tag, name) for name in attributes if name in loads or name.startswith("on")]
        if tag in ("script", "iframe", "object", "embed", "base", "form", "img"):
            found.append(tag)
        if tag not in ("a", "html") and attributes.get("href", "data:,") != "data:,":
            found.append((tag, attributes["href"]))
    return found


def strange_links(page: str) -> list[str]:
    """Where a reader could go that is none of our explorers."""
    links = [attributes["href"] or "" for tag, attributes in Tags(page).tags if tag == "a"]
    known = tuple(f"{root}/" for root in explorers.EXPLORERS.values())
    return [link for link in links if not link.startswith((*known, "#missing"))]


def test_the_page_loads_nothing(report: WhaleReport) -> None:
    page = to_html(report)
    assert loaded_from_elsewhere(page) == []
    assert strange_links(page) == []
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_page_has_headers_and_titles_for_those_who_hear_it(report: WhaleReport) -> None:
    page = to_html(report)
    assert re.findall(r"<th(?! scope=)[ >]", page) == []
    assert page.count('<svg role="img"') == page.count("<svg")
    assert page.count("</desc>") == page.count("<svg")
    assert '<html lang="en">' in page
    assert '<html lang="zh-Hans">' in to_html(report, "zh")
    words = re.findall(r'<desc id="chart-words">(.*?)</desc>', page)
    assert f"{text.usd(report.total.usd)} in all" in words[0]


# -- in a real browser


def test_the_page_fits_a_phone_in_a_real_browser(
    hostile: WhaleReport, chromium: Browser, tmp_path: Path
) -> None:
    # in a frame, because a headless window is never narrower than 500 px
    measure = "parent.document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    page = re.sub(r"<meta http-equiv[^>]*>", "", to_html(hostile))
    page = page.replace("</body>", f"<script>{measure}</script></body>")
    path = tmp_path / "phone.html"
    frame = f'<iframe width="390" height="800" style="border:0" srcdoc="{escape(page)}"></iframe>'
    path.write_text(f"<title>-</title>{frame}", encoding="utf-8")
    shown = chromium(path, "--dump-dom")
    assert re.findall(r"<title>(\d+ of \d+)</title>", shown) == ["390 of 390"]


def test_a_real_browser_shows_the_headline(
    report: WhaleReport, chromium: Browser, tmp_path: Path
) -> None:
    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(to_html(report), encoding="utf-8")
    shown = chromium(path, "--dump-dom", "--window-size=1280,2400")
    assert f"<span>{text.usd(report.total.usd)}</span>" in shown
    chromium(path, f"--screenshot={picture}", "--window-size=1280,2400")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000  # an empty page has 10,000


# -- how money and times are written


@pytest.mark.parametrize(
    ("value", "exact", "compact"),
    [
        ("161234567.885", "$161,234,567.88", "$161.2M"),
        ("161234567.895", "$161,234,567.90", "$161.2M"),
        ("-0.001", "$0.00", "$0"),
        ("0", "$0.00", "$0"),
        ("999.4", "$999.40", "$999"),
        ("999.6", "$999.60", "$1.0k"),
        ("999950", "$999,950.00", "$1.0M"),
        ("999949", "$999,949.00", "$999.9k"),
        ("-1250000000", "-$1,250,000,000.00", "-$1.2B"),
        (f"{'9' * 60}.994", f"${int('9' * 60):,}.99", f"${10**51:,}.0B"),
    ],
)
def test_money_is_rounded_half_to_even(value: str, exact: str, compact: str) -> None:
    assert text.usd(Decimal(value)) == exact
    assert text.compact_usd(Decimal(value)) == compact


def test_what_is_not_known_is_a_dash() -> None:
    assert (text.usd(None), text.compact_usd(None)) == ("–", "–")
    assert text.percent(Decimal(1), Decimal(0)) == "–"


@pytest.mark.parametrize(
    ("span", "written"),
    [
        (timedelta(hours=24), "24h"),
        (timedelta(days=7), "7d"),
        (timedelta(seconds=900), "15m"),
        (timedelta(seconds=90), "90s"),
        (timedelta(milliseconds=1500), "1.5s"),
    ],
)
def test_durations_are_written_as_the_command_line_takes_them(
    span: timedelta, written: str
) -> None:
    assert text.duration(span) == written


@pytest.mark.parametrize("days", [0.001, 0.1, 1, 2, 30, 365, 5000])
def test_a_chart_has_at_most_120_bars(days: float) -> None:
    span = timedelta(days=days)
    assert span / bucket_of(span) <= 119
