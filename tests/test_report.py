"""The report says what the simulated exchange did, and says so safely in all four formats."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from markupsafe import Markup
from psycopg import sql
from rich.console import Console

from indexer import sync
from indexer.errors import ConfigError
from indexer.methodology.definition import presets
from indexer.methodology.prose import paragraph
from indexer.positions import AccountState, Position
from indexer.report import text
from indexer.report.markdown import plain
from indexer.report.render import to_html, to_json, to_markdown, to_terminal
from indexer.report.whales import PAR_TOKENS, Bar, Largest, Line, WhaleReport, bucket_of, collect
from indexer.store import database, positions, values
from indexer.store.database import Connection
from indexer.store.server import Server
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

USER_METHODS = ("market", "backstop", "adl_of_user")
TICK = timedelta(microseconds=1)
DAY = timedelta(hours=24)
WHOLE = timedelta(minutes=54)  # inside the 55 minutes that small() simulates
HOSTILE = "<script>alert(1)</script>[red]|`x`*b*\x1b[31m\x07\u202e\x9b1m\"'&https://evil.example"


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
        yield opened


@pytest.fixture(scope="module")
def report(filled: Connection) -> WhaleReport:
    return collect(filled, since=DAY)


@pytest.fixture
def own(connection: Connection, tree: Path) -> Connection:
    """The simulated hour, for a test that changes something."""
    sync.backfill(connection, str(tree))
    return connection


def of_users(sim: Simulation) -> list[Liquidation]:
    return [
        row
        for row in sim.truth.liquidations
        if row.method in USER_METHODS and row.account not in PROTOCOL_VAULTS
    ]


def true_line(name: str, rows: list[Liquidation]) -> Line:
    """What the line of the report must be, from the truth alone."""
    return Line(
        name,
        fills=len(rows),
        orders=len(orders(rows)),
        actions=len(actions(rows)),
        episodes=len(episodes(rows, 900)),
        accounts=len({row.account for row in rows}),
        notional_usd=total(row.notional for row in rows),
        notional_mark_usd=total(row.notional_mark or Decimal(0) for row in rows),
        long_usd=total(row.notional for row in rows if row.side == "long"),
        short_usd=total(row.notional for row in rows if row.side == "short"),
        realised_pnl_usd=total(row.realised_pnl for row in rows),
        without_mark=sum(row.notional_mark is None for row in rows),
    )


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
    return row.level, row.account, row.notional_usd, row.fills


def by_kind(bars: tuple[Bar, ...]) -> dict[str, Decimal]:
    return {
        kind: total(bar.notional_usd for bar in bars if bar.kind == kind)
        for kind in {bar.kind for bar in bars}
    }


def terminal(report: WhaleReport, width: int = 200) -> str:
    written = StringIO()
    to_terminal(report, Console(file=written, width=width, force_terminal=False))
    return written.getvalue()


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
    assert report.total == true_line("user", of_users(simulated))


@pytest.mark.parametrize("method", USER_METHODS)
def test_each_method_has_its_own_money_and_counts(
    report: WhaleReport, simulated: Simulation, method: str
) -> None:
    expected = true_line(method, [row for row in of_users(simulated) if row.method == method])
    assert {line.name: line for line in report.methods}[method] == expected


def test_methods_add_up_to_the_total(report: WhaleReport) -> None:
    money = [line.notional_usd for line in report.methods]
    assert sum(money) == report.total.notional_usd
    assert report.total.long_usd + report.total.short_usd == report.total.notional_usd


def test_protocol_vaults_stand_apart(report: WhaleReport, simulated: Simulation) -> None:
    vaults = [row for row in simulated.truth.liquidations if row.account in PROTOCOL_VAULTS]
    assert report.apart[0] == true_line("protocol_vault", vaults)


def test_the_totals_are_those_of_the_definition_that_stands_under_them(
    own: Connection, report: WhaleReport
) -> None:
    values.value(own, venues=["hyperliquid"])

    assert rows(
        own,
        "SELECT section, name, usd, long_usd, short_usd, records, unvalued, accounts, fills,"
        f" orders, actions, episodes FROM liq.total('whale_report/v1', {moments(report)})"
        " WHERE section IN ('total', 'beside')",
    ) == in_order(
        [
            ("total", None, *money_of(report.total), *counts_of(report.total)),
            ("beside", "protocol_vault", *money_of(report.apart[0]), None, None, None, None),
        ]
    )


def test_the_largest_are_those_of_the_definition(own: Connection, report: WhaleReport) -> None:
    values.value(own, venues=["hyperliquid"])

    assert rows(
        own,
        f"SELECT name, account, usd FROM liq.total('whale_report/v1', {moments(report)})"
        " WHERE section = 'largest' AND name <> 'account'",
    ) == in_order((row.level, row.account, row.notional_usd) for row in report.largest)


def moments(report: WhaleReport) -> str:
    return f"'{report.window_from}'::timestamptz, '{report.window_to}'::timestamptz"


def money_of(line: Line) -> tuple[object, ...]:
    return (
        line.notional_usd, line.long_usd, line.short_usd, line.fills, line.unpriced, line.accounts,
    )  # fmt: skip


def counts_of(line: Line) -> tuple[int, ...]:
    return line.fills, line.orders, line.actions, line.episodes


def test_borrow_liquidations_stand_apart(report: WhaleReport, simulated: Simulation) -> None:
    borrow = simulated.truth.liquidations + simulated.truth.without_object
    expected = {
        name: true_line(name, [row for row in borrow if row.method == name])
        for name in ("borrow_partial", "borrow_backstop")
    }
    assert {line.name: line for line in report.apart[1:]} == expected


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
    assert list(map(said, report.largest)) == expected


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
    assert found == [(row.account, row.notional_usd)]


def test_top_episodes_are_in_order_of_size(report: WhaleReport, simulated: Simulation) -> None:
    expected = sorted(episodes(of_users(simulated), 900), key=lambda g: -g.notional)[:20]
    assert [
        (e.account, e.first_at, e.last_at, e.fills, e.notional_usd, e.notional_mark_usd)
        for e in report.episodes
    ] == [(g.key[0], g.first_at, g.last_at, g.fills, g.notional, g.notional_mark) for g in expected]
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
    lines = (*report.methods, report.apart[0])
    assert by_kind(report.chart.bars) == {line.name: line.notional_usd for line in lines}


def test_the_markets_add_up_to_the_total(report: WhaleReport) -> None:
    assert sum(row.notional_usd for row in report.markets) == report.total.notional_usd
    assert sum(row.fills for row in report.markets) == report.total.fills


def test_the_printed_sql_gives_the_headline(report: WhaleReport, filled: Connection) -> None:
    answer = filled.execute(report.reproduction.sql.encode()).fetchall()
    assert answer == [(report.total.notional_usd,)]


def test_a_longer_gap_makes_fewer_episodes_of_the_same_money(
    filled: Connection, report: WhaleReport, simulated: Simulation
) -> None:
    longer = collect(filled, since=DAY, gap=timedelta(hours=1))
    assert longer.total.episodes == len(episodes(of_users(simulated), 3600))
    assert longer.total.episodes < report.total.episodes
    assert longer.total.notional_usd == report.total.notional_usd
    assert "no pause longer than 1h" in longer.terms[-1]


def test_the_par_tokens_in_the_definition_are_those_of_the_database(filled: Connection) -> None:
    tokens = [*PAR_TOKENS, "FDUSD", "HYPE", "usdc"]
    query = "SELECT token FROM unnest(%s::text[]) WITH ORDINALITY t(token, n)"
    found = filled.execute(query + " WHERE liq.at_par(token) ORDER BY n", [tokens]).fetchall()
    assert [token for (token,) in found] == list(PAR_TOKENS)


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
    assert report.as_of[0].last_block == simulated.truth.blocks.last


def test_the_window_has_its_first_moment_and_not_its_last(
    filled: Connection, simulated: Simulation
) -> None:
    rows = of_users(simulated)
    times = sorted({row.block_time for row in rows})
    begins, ends = times[3], times[-3]
    inside = [row for row in rows if begins <= row.block_time < ends]
    found = collect(filled, since=ends - begins, until=ends)
    assert found.total == true_line("user", inside)
    assert found.total.fills < len(rows)


def test_an_episode_that_began_before_the_window_keeps_its_key(
    filled: Connection, report: WhaleReport
) -> None:
    whole = report.episodes[0]
    cut = collect(filled, since=report.window_to - whole.last_at)
    assert cut.episodes[0].key == whole.key
    assert cut.episodes[0].notional_usd is not None
    assert whole.notional_usd is not None
    assert 0 < cut.episodes[0].notional_usd < whole.notional_usd


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
    assert found.total == Line("user")
    assert found.apart == (Line("protocol_vault"), Line("borrow"))
    assert ["$0.00" in shown[form] for form in ("html", "md", "terminal")] == [True] * 3


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"since": timedelta(0)}, "the window must be longer than 0s"),
        ({"since": timedelta(days=900_000)}, "900000d before 2025-10-28"),
        ({"since": DAY, "until": datetime(2025, 10, 28)}, "must say its time zone"),  # noqa: DTZ001
        ({"since": DAY, "gap": timedelta(seconds=30)}, "cooldown of 30s, not 30s"),
        ({"since": DAY, "top": 0}, "at least one row, not 0"),
    ],
)
def test_senseless_parameters_are_refused(
    filled: Connection, parameters: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        collect(filled, **parameters)  # type: ignore[arg-type]


def test_an_empty_database_says_what_to_do(connection: Connection) -> None:
    with pytest.raises(ConfigError, match="nothing is indexed yet: indexer backfill hyperliquid"):
        collect(connection, since=DAY)


# -- what is missing


def test_a_window_that_was_read_whole_is_complete(filled: Connection) -> None:
    found = collect(filled, since=WHOLE)
    assert found.coverage.lacks == ()
    assert found.coverage.blocks == 1100
    assert "Complete" in terminal(found)
    assert "<strong>Complete.</strong>" in to_html(found)
    assert "- **Complete**: 1,100 blocks read" in to_markdown(found)


def test_a_window_that_begins_before_the_first_block_is_not_complete(report: WhaleReport) -> None:
    assert report.coverage.lacks == (
        "the window begins before the first covered block (2025-10-27 23:20:01 UTC)",
    )
    assert "Not complete" in terminal(report)
    assert "omplete." not in to_html(report).replace("Not complete.", "")


def test_a_window_that_ends_after_the_last_block_is_not_complete(
    filled: Connection, report: WhaleReport
) -> None:
    found = collect(filled, since=WHOLE, until=report.window_to + TICK)
    assert found.coverage.lacks == (
        f"the window ends after the last covered block ({text.moment(report.as_of[0].last_at)})",
    )


def test_a_window_in_which_nothing_was_read_says_so(filled: Connection) -> None:
    found = collect(filled, since=DAY, until=datetime(2024, 1, 1, tzinfo=UTC))
    assert found.coverage.lacks == ("hyperliquid: no block of this window was read",)


def test_a_hole_makes_it_incomplete(
    connection: Connection, simulated: Simulation, tmp_path: Path
) -> None:
    blocks = simulated.blocks[:500] + simulated.blocks[507:]
    write_by_block(Simulation(simulated.config, blocks, simulated.truth), tmp_path)
    sync.backfill(connection, str(tmp_path))
    found = collect(connection, since=WHOLE)
    assert found.coverage.missing_blocks == 7
    assert len(found.coverage.lacks) == 1
    assert found.coverage.lacks[0].startswith("7 blocks from height 777290500 on never read")
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
    found = collect(connection, since=WHOLE)
    assert found.coverage.undecoded_events > 0
    assert found.coverage.lacks == (
        f"{found.coverage.undecoded_events} events could not be decoded",
    )
    assert found.total == true_line("user", of_users(sim))


def test_files_without_empty_blocks_cannot_prove_completeness(
    connection: Connection, simulated: Simulation, tmp_path: Path
) -> None:
    write_streaming(simulated, tmp_path)
    sync.backfill(connection, str(tmp_path))
    found = collect(connection, since=timedelta(minutes=50))
    assert found.coverage.verifications == ("fills_only",)
    assert "a lost block cannot be seen there" in found.coverage.lacks[-1]
    assert found.total.fills > 0


def test_rows_of_no_covered_block_make_it_incomplete(own: Connection) -> None:
    own.execute("UPDATE ledger.liquidation SET block_number = NULL WHERE market = 'DOGE'")
    found = collect(own, since=WHOLE)
    assert found.coverage.outside_coverage > 0
    assert "came from single records, not from whole blocks" in found.coverage.lacks[0]


def test_rows_without_a_dollar_value_are_counted_and_told(
    own: Connection, report: WhaleReport
) -> None:
    own.execute("UPDATE ledger.liquidation SET quote = 'XYZ' WHERE market = 'ETH'")
    own.execute("UPDATE ledger.liquidation SET quote = NULL WHERE market = 'SOL' AND side = 'long'")
    found = collect(own, since=DAY)
    unpriced = [row for row in found.unpriced if row.line == "user"]
    assert [row.quote for row in unpriced] == ["XYZ", None]
    assert found.total.unpriced == sum(row.fills for row in unpriced)
    assert found.total.fills == report.total.fills
    lost = sum(row.notional for row in unpriced)
    assert found.total.notional_usd == report.total.notional_usd - lost
    assert "in XYZ without a dollar value" in to_markdown(found)
    assert "in an unknown token without a dollar value" in terminal(found)


def test_simulated_data_says_so_in_every_format(report: WhaleReport, own: Connection) -> None:
    own.execute("UPDATE ledger.source SET is_simulated = true")
    found = all_formats(collect(own, since=DAY))
    assert report.is_simulated is False
    assert ["SIMULATED DATA" in found[form] for form in ("html", "md", "terminal")] == [True] * 3
    assert json.loads(found["json"])["is_simulated"] is True
    assert "SIMULATED" not in to_html(report) + to_markdown(report) + terminal(report)


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
    assert found.whales[0].notional_usd == report.episodes[0].notional_usd
    assert (found.whales_active, found.whales_labelled) == (2, 4)
    assert "2 labelled accounts liquidated in the window; 2 more labelled whale" in terminal(found)


def test_labels_and_thresholds_stand_with_the_episode(own: Connection, report: WhaleReport) -> None:
    episode = report.episodes[0]
    label(own, episode.account)
    label(own, episode.account, name="market_maker", rule="ROLE_MM")
    own.execute(
        "INSERT INTO ledger.flag VALUES"
        " ('hyperliquid', %s, 'episode', %s, 'SIZE_ABS', 1, %s, 100000000, %s, '[2025-01-01,)')",
        [episode.account, episode.key, episode.notional_usd, episode.last_at],
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
    assert found["total"]["notional_usd"] == str(report.total.notional_usd)
    assert found["window_to"] == f"{report.window_to:%Y-%m-%dT%H:%M:%S.%f}Z"


def test_the_headline_stands_to_the_cent_in_every_format(report: WhaleReport) -> None:
    exact = text.usd(report.total.notional_usd)
    found = all_formats(report)
    assert [exact in found[form] for form in ("html", "md", "terminal")] == [True] * 3


def test_every_format_has_the_definition_and_its_paragraphs(report: WhaleReport) -> None:
    definition = presets()["whale_report/v1"]
    paragraphs = [paragraph(definition, "en"), paragraph(definition, "zh")]
    page, said = to_html(report), json.loads(to_json(report))["methodology"]

    assert said == {
        "id": "whale_report/v1", "hash": definition.hash,
        "en": paragraphs[0], "zh": paragraphs[1], "departs": [],
    }  # fmt: skip
    wide = terminal(report, 9_999)
    assert [text in wide for text in paragraphs] == [True] * 2
    assert [plain(text) in to_markdown(report) for text in paragraphs] == [True] * 2
    assert re.findall(r'<p lang="(.*?)">(.*?)</p>', page) == [
        ("en", str(Markup.escape(paragraphs[0]))), ("zh-Hans", str(Markup.escape(paragraphs[1]))),
    ]  # fmt: skip
    named = f"whale_report/v1, hash {definition.hash}"
    heads = (page.split("</header>")[0], wide.split("liquidated")[0])
    assert [named in head for head in heads] == [True] * 2
    assert plain(named) in to_markdown(report).split("## Totals")[0]


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
    assert [", but for its window and gap" in form for form in shown] == [True] * 3


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
    assert text.usd(report.total.notional_usd) in shown


def test_every_row_of_a_markdown_table_has_the_cells_of_its_header(report: WhaleReport) -> None:
    assert uneven_rows(to_markdown(report)) == []


def uneven_rows(markdown: str) -> list[str]:
    """Tables whose rows do not all have the same number of unescaped pipes."""
    tables = [part for part in markdown.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 4
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


@pytest.fixture
def hostile(own: Connection, report: WhaleReport) -> WhaleReport:
    """A report whose every foreign word wants to be markup."""
    account = report.episodes[0].account
    own.execute(
        "UPDATE ledger.liquidation SET market = %(word)s, dex = %(word)s, dir_liquidated = %(word)s"
        " WHERE account = %(account)s",
        {"word": HOSTILE, "account": account},
    )
    own.execute("UPDATE ledger.liquidation SET quote = %s WHERE market = 'DOGE'", [HOSTILE])
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
    page = to_html(hostile)
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;[red]|") >= 10
    assert [c for c in "\x1b\x07\u202e\x9b" if c in page] == []
    assert loaded_from_elsewhere(page) == []


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
    assert "https://" not in shown
    assert "\\[red\\]\\|\\`x\\`" in shown
    assert uneven_rows(shown) == []
    assert [c for c in "\x1b\x07\u202e\x9b" if c in shown] == []


def test_hostile_words_come_back_whole_from_json(hostile: WhaleReport) -> None:
    written = to_json(hostile)
    assert written.isascii()
    assert [c for c in "\x1b\x07\x7f" if c in written] == []
    assert json.loads(written)["episodes"][0]["markets"] == [HOSTILE]
    assert msgspec.json.decode(written, type=WhaleReport) == hostile


def loaded_from_elsewhere(page: str) -> list[str]:
    """What a browser would fetch: any src, href, import or url() but the empty icon."""
    found = re.findall(
        r"""(?:src|href|srcset|action)\s*=\s*["']?[^"'>\s]*|url\([^)]*|@import""", page
    )
    return [what for what in found if what != 'href="data:,']


def test_the_page_loads_nothing(report: WhaleReport) -> None:
    page = to_html(report)
    assert loaded_from_elsewhere(page) == []
    assert "://" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_the_page_has_headers_and_titles_for_those_who_hear_it(report: WhaleReport) -> None:
    page = to_html(report)
    assert re.findall(r"<th(?! scope=)[ >]", page) == []
    assert page.count('<svg role="img"') == page.count("<svg")
    assert page.count("</desc>") == page.count("<svg")
    assert '<html lang="en">' in page


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
    assert f"<span>{text.usd(report.total.notional_usd)}</span>" in shown
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
