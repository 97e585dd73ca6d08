"""What strangers build on: its version, its views against the model of totals, and their plans."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from indexer.methodology.definition import presets
from indexer.store import contract, database
from indexer.store.contract import ContractBroken, broken, held, promised, publish, unpublished
from indexer.store.database import Connection
from indexer.store.server import Server
from tests import definition_model as model
from tests.ledger_rows import rows
from tests.postgres import database as throw_away
from tests.test_totals import (
    ALICE,
    DAY,
    KIM,
    NEXT,
    T0,
    USDC,
    WETH,
    WORLD,
    plain,
    store_by_hand,
    store_world,
)

STRICT = presets()["strict/v1"]
WIDE = (T0 - timedelta(days=10), NEXT + timedelta(days=10), None, None)


@pytest.fixture(scope="module")
def by_hand(postgres: Server, migrated: str) -> Iterator[str]:
    with throw_away(postgres, template=migrated) as fresh:
        with database.connect(fresh) as connection:
            store_by_hand(connection)
        yield fresh


@pytest.fixture
def world(by_hand: str) -> Iterator[Connection]:
    """A few perpetuals and loans of each kind, the same as in tests/test_totals.py."""
    with (
        database.connect(by_hand) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


# -- the promise ---------------------------------------------------------------------------------


@pytest.mark.any_postgres
def test_what_the_schema_holds_is_what_was_published(connection: Connection) -> None:
    before, now = promised(connection), held(connection)

    assert broken(before, now) == []
    assert unpublished(before, now) == []
    assert len(now) > 70


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP VIEW liq.sources", ["liq.sources is gone"]),
        (
            "DROP VIEW liq.sources; CREATE VIEW liq.sources AS SELECT uri FROM ledger.source",
            ["liq.sources lost is_sample boolean", "liq.sources lost is_simulated boolean"],
        ),
        (
            "DROP VIEW liq.checks; CREATE VIEW liq.checks AS SELECT check_id::text, chain, venues,"
            " lower(blocks) AS block_from, upper(blocks) AS block_to, proof, logs, missing, untrue,"
            " checked_at FROM ledger.check_run",
            ["liq.checks lost check_id bigint"],
        ),
        (
            "DROP VIEW liq.price_files; CREATE VIEW liq.price_files AS SELECT uri,"
            " 'file:' || name AS price_source, sha256, max_age, points, imported_at"
            " FROM ledger.price_file",
            ["liq.price_files lost price_source text", "liq.price_files lost uri text"],
        ),
        (
            "DROP FUNCTION liq.source_rank CASCADE",
            ["liq.lending_values is gone", "liq.source_rank(price_source text) is gone"],
        ),
    ],
)
def test_what_was_promised_and_is_no_more_raises_the_first_number(
    connection: Connection, change: str, said: list[str]
) -> None:
    connection.execute(change)

    assert broken(promised(connection), held(connection)) == said
    with pytest.raises(ContractBroken, match=r"version 1\.9 does not say that liq\."):
        publish(connection, "1.9")
    publish(connection, "2.0")
    assert unpublished(promised(connection), held(connection)) == []


def test_a_column_more_at_the_end_raises_the_second_number(connection: Connection) -> None:
    connection.execute(
        "CREATE OR REPLACE VIEW liq.sources AS"
        " SELECT uri, is_simulated, is_sample, source_id FROM ledger.source"
    )
    last = str(connection.execute("SELECT liq.contract_version()").fetchone()[0])  # type: ignore[index]

    assert broken(promised(connection), held(connection)) == []
    assert unpublished(promised(connection), held(connection)) == ["liq.sources"]
    with pytest.raises(ContractBroken, match="was published: sources came since"):
        publish(connection, last)
    publish(connection, "1.99")
    assert rows(connection, "SELECT since, version FROM liq.contract WHERE object = 'sources'") == [
        ("1.0", "1.99")
    ]
    assert rows(connection, "SELECT liq.contract_version()") == [("1.99",)]


def test_the_contract_says_the_columns_and_their_digest(connection: Connection) -> None:
    assert rows(
        connection, "SELECT kind, since, shape, hash FROM liq.contract WHERE object = 'sources'"
    ) == [
        (
            "view",
            "1.0",
            ["uri text", "is_simulated boolean", "is_sample boolean"],
            "2c1a37fb75af46209473a71d07ac8429",
        )
    ]


# -- liquidations in dollars ---------------------------------------------------------------------

OF_STRICT = """
    SELECT line, key, kind, venue, chain, account, market, dex, asset, side, method,
           block_number, block_at, action, order_id, usd
    FROM liq.liquidations_usd WHERE line NOT IN ('other_method', 'further_part')
"""


def in_model(connection: Connection) -> list[tuple[Any, ...]]:
    """The rows of strict/v1 as the model of totals counts them."""
    return plain(
        (row.line, *(row.shown[place] for place in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
         row.usd)
        for row in model.lines(model.read(connection), STRICT, *WIDE)
    )  # fmt: skip


def test_every_row_has_the_line_and_the_money_of_strict(world: Connection) -> None:
    assert plain(world.execute(OF_STRICT).fetchall()) == in_model(world)


def test_so_it_has_in_any_world(connection: Connection) -> None:
    @settings(max_examples=25, deadline=None, derandomize=True, phases=(Phase.generate,))
    @given(world=WORLD)
    def run(world: Any) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            assert plain(connection.execute(OF_STRICT).fetchall()) == in_model(connection)

    run()


def test_what_strict_does_not_speak_of_stands_there_too(world: Connection) -> None:
    assert rows(
        world,
        "SELECT line, count(*) FROM liq.liquidations_usd GROUP BY line",
    ) == [
        ("counted", 16), ("further_part", 2), ("not_final", 1), ("other_method", 2),
        ("permissionless", 1), ("protocol_vault", 1),
    ]  # fmt: skip
    assert rows(
        world,
        "SELECT (SELECT count(*) FROM liq.liquidations_usd),"
        " (SELECT count(*) FROM liq.liquidations)"
        " + (SELECT count(*) FROM liq.lending_liquidations)",
    ) == [(23, 23)]


def test_markets_and_amounts_of_both_kinds_have_names(world: Connection) -> None:
    for address, symbol in ((USDC, "USDC"), (WETH, "WETH")):
        world.execute("UPDATE ledger.asset SET symbol = %s WHERE address = %s", (symbol, address))
    assert rows(
        world,
        "SELECT kind, market_name, asset_name, side, basis, price_source, price_trust,"
        " repaid_symbol, repaid, seized_symbol FROM liq.liquidations_usd"
        " WHERE key LIKE ANY ('{hyperliquid/p6/%,aave\\_v3.ethereum/l1%,euler%/l4%}')",
    ) == [
        ("lending", "USDC/WETH", "ETH", "short", "repaid", "oracle", None, "WETH",
         Decimal("1E-18"), "USDC"),
        ("lending", "WETH/USDC", "ETH", "long", "repaid", "oracle", None, "USDC",
         Decimal("10002"), "WETH"),
        ("perp", "xyz:TSLA", "TSLA", "long", "fill", "par", "governed", None, None, None),
    ]  # fmt: skip


# -- levels --------------------------------------------------------------------------------------


def test_the_largest_of_each_level_is_that_of_the_total(world: Connection) -> None:
    window = "'strict/v1', '2025-10-10', '2025-10-11'"
    assert rows(
        world,
        "SELECT level, key, account, usd, first_at, last_at"
        " FROM liq.largest('2025-10-10T00:00Z', '2025-10-11T00:00Z', 1)"
        " WHERE (level, usd) IN (SELECT level, max(usd)"
        " FROM liq.largest('2025-10-10T00:00Z', '2025-10-11T00:00Z', 1) GROUP BY 1)",
    ) == rows(
        world,
        f"SELECT name, key, account, usd, first_at, last_at FROM liq.total({window})"
        " WHERE section = 'largest'",
    )


def test_the_largest_are_in_order_and_as_many_as_asked_for(world: Connection) -> None:
    assert rows(
        world,
        "SELECT kind, place, split_part(key, '/', 2), usd FROM"
        " liq.largest('2025-10-10T00:00Z', '2025-10-11T00:00Z', 2) WHERE level = 'fill'"
        " AND kind = 'perp'",
    ) == [
        ("perp", 1, "p10", Decimal("512.005")),
        ("perp", 2, "p8", Decimal("128")),
    ]


def test_levels_of_a_window_are_those_of_everything(world: Connection) -> None:
    everything = "'-infinity', 'infinity'"
    # of p9 only a price file knows what its quote is worth, and strict/v1 does not ask it
    assert rows(
        world,
        f"SELECT key, first_at, last_at, liquidations, usd FROM liq.orders_between({everything})"
        " WHERE kind = 'perp' AND NOT key LIKE '%/op9'",
    ) == rows(
        world,
        "SELECT key, first_at, last_at, liquidations, notional_usd FROM liq.orders"
        " WHERE NOT key LIKE '%/op9'",
    )
    assert rows(
        world,
        f"SELECT key, first_at, last_at, liquidations FROM liq.actions_between({everything})"
        " WHERE kind = 'perp'",
    ) == rows(world, "SELECT key, first_at, last_at, liquidations FROM liq.actions")
    assert rows(
        world,
        "SELECT key, first_at, last_at, liquidations, orders, actions"
        f" FROM liq.episodes_between({everything}) WHERE kind = 'perp'",
    ) == rows(
        world,
        "SELECT key, first_at, last_at, liquidations, orders, actions FROM liq.episodes()",
    )


def test_an_episode_that_touches_a_window_is_whole(world: Connection) -> None:
    # of the account of p1: 21:00 twice and 21:10, 21:15; the window sees one
    low, high = DAY + timedelta(hours=21, minutes=9), DAY + timedelta(hours=21, minutes=12)
    found = world.execute(
        "SELECT kind, first_at, last_at, liquidations, usd, lines"
        " FROM liq.episodes_between(%s, %s) WHERE kind = 'perp'",
        (low, high),
    ).fetchall()
    assert found == [
        (
            "perp", DAY + timedelta(hours=21), DAY + timedelta(hours=21, minutes=15), 4,
            Decimal("7.25"), ["counted"],
        )
    ]  # fmt: skip


@pytest.mark.parametrize("minutes", [(0, 1), (0, 6), (1, 11), (10, 15), (10, 16), (21, 31)])
def test_episodes_of_a_window_are_those_of_everything_with_a_row_in_it(
    world: Connection, minutes: tuple[int, int]
) -> None:
    low, high = (DAY + timedelta(hours=21, minutes=minute) for minute in minutes)
    found = world.execute("SELECT * FROM liq.episodes_between(%s, %s) ORDER BY 1", (low, high))
    expected = world.execute(
        """
        SELECT e.* FROM liq.episodes_between('-infinity', 'infinity') e
        WHERE EXISTS (SELECT FROM liq.liquidations_usd l
                      WHERE (l.account, l.venue, l.dex) = (e.account, e.venue, e.dex)
                        AND l.block_at BETWEEN e.first_at AND e.last_at
                        AND l.block_at >= %s AND l.block_at < %s)
        ORDER BY 1
        """,
        (low, high),
    ).fetchall()

    assert found.fetchall() == expected != []


def test_a_gap_within_the_cooldown_is_refused(world: Connection) -> None:
    with pytest.raises(Exception, match="cooldown"):
        world.execute("SELECT FROM liq.episodes_between('2025-10-10', '2025-10-11', '30 s')")


def test_fills_are_the_legs_of_both_sides(world: Connection) -> None:
    assert rows(
        world,
        "SELECT split_part(key, '/', 2), leg, side, is_published, notional_usd FROM liq.fills"
        " WHERE split_part(key, '/', 2) IN ('p1', 'p2', 'p4', 'p5')",
    ) == [
        ("p1", "counterparty", "long", True, Decimal(1)),
        ("p1", "liquidated", "long", True, Decimal(1)),
        ("p2", "liquidated", "long", True, Decimal(2)),
        ("p4", "counterparty", "short", True, Decimal(8)),
        ("p4", "liquidated", "long", True, Decimal(8)),
        ("p5", "counterparty", "short", True, Decimal(16)),
        ("p5", "liquidated", "long", False, Decimal(16)),
    ]


def test_an_account_is_one_row_whatever_its_venues(world: Connection) -> None:
    world.execute(
        "UPDATE ledger.lending_liquidation SET account = %s WHERE account = %s", (ALICE, KIM)
    )
    alice = world.execute(
        "SELECT venues, first_at, last_at, liquidations, counted, unvalued, fill_usd, repaid_usd,"
        " largest_usd, account_is_protocol_vault, labels FROM liq.accounts WHERE account = %s",
        (ALICE,),
    ).fetchone()
    assert alice == (
        ["aave_v3.ethereum", "hyperliquid"], DAY + timedelta(hours=15), NEXT + timedelta(hours=1),
        8, 7, 1, Decimal("1543.255"), None, Decimal(1024), False, ["whale"],
    )  # fmt: skip


# -- buckets -------------------------------------------------------------------------------------


def cover(connection: Connection, venue: str, blocks: str, low: datetime, high: datetime) -> None:
    connection.execute(
        "INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)"
        " VALUES (%s, 'liquidations', %s, tstzrange(%s, %s, '[]'), 'every_height', 1)",
        (venue, blocks, low, high),
    )


@pytest.mark.parametrize(("view", "column"), [("hourly", "hour"), ("daily", "day")])
def test_buckets_add_up_to_the_rows(world: Connection, view: str, column: str) -> None:
    split = "venue, kind, asset, side, method, line"
    of_row = {
        "hour": "date_trunc('hour', block_at, 'UTC')",
        "day": "(date_trunc('day', block_at, 'UTC') AT TIME ZONE 'UTC')::date",
    }[column]
    assert rows(
        world, f"SELECT {column}, {split}, liquidations, unvalued, usd, accounts FROM liq.{view}"
    ) == rows(
        world,
        f"SELECT {of_row}, {split}, count(*), count(*) FILTER (WHERE usd IS NULL), sum(usd),"
        f" count(DISTINCT account) FROM liq.liquidations_usd GROUP BY {of_row}, {split}",
    )


def test_a_bucket_says_how_much_of_it_was_read(world: Connection) -> None:
    hour = timedelta(hours=1)
    # the first half of 21 h, and what follows without a hole; nothing of any chain
    cover(world, "hyperliquid", "[1,10)", DAY + 14 * hour, DAY + 21 * hour)
    cover(world, "hyperliquid", "[10,20)", DAY + 21 * hour, DAY + 21.5 * hour)

    shares = (
        "SELECT DISTINCT hour, share_read, is_read FROM liq.hourly"
        " WHERE venue = %s AND hour >= %s AND hour < %s ORDER BY 1"
    )
    assert world.execute(shares, ("hyperliquid", DAY, NEXT)).fetchall() == [
        (DAY + 15 * hour, Decimal(1), True),
        (DAY + 21 * hour, Decimal("0.5"), False),
    ]
    assert world.execute(shares, ("aave_v3.ethereum", DAY, NEXT)).fetchall() == [
        (DAY + 21 * hour, None, None),
        (DAY + 22 * hour, None, None),
    ]
    assert rows(
        world, "SELECT block_from, block_to, first_at, last_at, verifications FROM liq.stretches"
    ) == [(1, 20, DAY + 14 * hour, DAY + 21.5 * hour, ["every_height"])]


def test_a_bucket_is_of_utc_whatever_the_session_says(world: Connection) -> None:
    before = rows(world, "SELECT hour, line, usd FROM liq.hourly")
    days = rows(world, "SELECT day, line, usd FROM liq.daily")
    world.execute("SET LOCAL TIME ZONE 'Asia/Kolkata'")  # half an hour off

    assert [(hour.astimezone(UTC), *rest) for hour, *rest in rows(
        world, "SELECT hour, line, usd FROM liq.hourly")] == [
        (hour.astimezone(UTC), *rest) for hour, *rest in before
    ]  # fmt: skip
    assert rows(world, "SELECT day, line, usd FROM liq.daily") == days


# -- labels --------------------------------------------------------------------------------------


def test_labels_of_then_are_those_of_the_history(connection: Connection) -> None:
    at = datetime(2025, 10, 10, tzinfo=UTC)
    connection.execute(
        """
        INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence, evidence,
                                  valid_during, recorded_during)
        VALUES ('*', '0xa', 'whale', 'BIG', 1, 1, '{}', tstzrange(%(at)s, NULL),
                tstzrange(%(at)s, %(at)s + interval '1 day')),
               ('*', '0xa', 'whale', 'BIG', 2, 1, '{}', tstzrange(%(at)s, NULL),
                tstzrange(%(at)s + interval '1 day', NULL))
        """,
        {"at": at},
    )
    then = "SELECT rule_version, withdrawn_at FROM liq.labels_at(%s, %s)"
    day = timedelta(days=1)

    assert connection.execute(then, (at, at)).fetchall() == [(1, at + day)]
    assert connection.execute(then, (at, at + day)).fetchall() == [(2, None)]
    assert connection.execute(then, (at - day, at + day)).fetchall() == []
    assert rows(connection, "SELECT count(*) FROM liq.label_history") == [(2,)]


# -- plans ---------------------------------------------------------------------------------------

OF_WINDOW = {
    "rows": "SELECT sum(usd) FROM liq.liquidations_usd"
    " WHERE block_at >= {low} AND block_at < {high}",
    "fills": "SELECT count(*) FROM liq.fills WHERE block_at >= {low} AND block_at < {high}",
    "hours": "SELECT sum(usd) FROM liq.hourly WHERE hour >= {low} AND hour < {high}",
    "days": "SELECT sum(usd) FROM liq.daily WHERE day = {day}",
    "account": "SELECT fill_usd FROM liq.accounts WHERE account = '0xa1'",
    "orders": "SELECT count(*) FROM liq.orders_between({low}, {high})",
    "actions": "SELECT count(*) FROM liq.actions_between({low}, {high})",
    "episodes": "SELECT count(*) FROM liq.episodes_between({low}, {high})",
    "largest": "SELECT count(*) FROM liq.largest({low}, {high})",
}  # fmt: skip


@pytest.fixture(scope="module")
def many(postgres: Server, migrated: str) -> Iterator[Connection]:
    """100 days of 1,200 perpetuals and 300 loans, each account's a second apart."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as connection:
        connection.execute(MANY)
        connection.execute("VACUUM ANALYZE")
        yield connection


MANY = """
    SET session_replication_role = replica;
    INSERT INTO ledger.liquidation (
        venue, event_key, account, block_number, block_at, tx_hash, method, market, dex, quote,
        side, size, price, notional, account_is_protocol_vault, legs_seen, decoder_version
    )
    SELECT 'hyperliquid', i || '/ETH/1', '0x' || lpad(to_hex(i % 5000), 40, '0'), i,
           timestamptz '2025-01-01Z' + i * interval '72 s', '0x' || i, 'market', 'ETH', '', 'USDC',
           'long', 1, 1, 1, false, 'both', 1
    FROM generate_series(0, 119999) i;
    INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source, fill_usd)
    SELECT venue, block_at, event_key, account, 'par', notional FROM ledger.liquidation;
    INSERT INTO ledger.lending_liquidation (
        venue, event_key, account, block_number, block_at, method, market, repaid_asset, repaid_raw,
        seized_asset, seized_raw, seized_is_shares, decoder_version
    )
    SELECT 'aave_v3.ethereum', '0x' || lpad(to_hex(i), 64, '0') || '/0',
           '0x' || lpad(to_hex(i % 5000), 40, '0'), i,
           timestamptz '2025-01-01Z' + i * interval '288 s', 'repay_seize', '0xm', '0xd', 1,
           '0xc', 1, false, 1
    FROM generate_series(0, 29999) i;
    INSERT INTO ledger.valuation (venue, block_at, event_key, account, price_source, repaid_usd)
    SELECT venue, block_at, event_key, account, 'oracle', 1 FROM ledger.lending_liquidation;
    SET session_replication_role = DEFAULT
"""


def scanned(plan: dict[str, Any]) -> Iterator[str]:
    """The large tables that a plan reads from one end to the other."""
    large = ("liquidation", "lending_liquidation", "valuation")
    if plan["Node Type"] == "Seq Scan" and plan["Relation Name"] in large:
        yield plan["Relation Name"]
    for further in plan.get("Plans", ()):
        yield from scanned(further)


@pytest.mark.parametrize("query", OF_WINDOW.values(), ids=OF_WINDOW)
def test_a_query_of_a_window_reads_no_large_table_whole(many: Connection, query: str) -> None:
    query = query.format(
        low="timestamptz '2025-02-01Z'", high="timestamptz '2025-02-02Z'", day="date '2025-02-01'"
    )
    found = many.execute(f"EXPLAIN (FORMAT JSON) {query}").fetchone()

    assert list(scanned(found[0][0]["Plan"])) == []  # type: ignore[index]


def test_a_day_of_many_is_what_its_rows_say(many: Connection) -> None:
    assert rows(many, "SELECT kind, liquidations, usd FROM liq.daily WHERE day = '2025-02-01'") == [
        ("lending", 300, Decimal(300)), ("perp", 1200, Decimal(1200)),
    ]  # fmt: skip


def test_versions_are_compared_as_numbers() -> None:
    assert contract.numbers("1.10") > contract.numbers("1.9")
