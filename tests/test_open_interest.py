"""Open interest from daily files and from the exchange, and liquidations that are large for their
market. All files here are SIMULATED, in the layout of hyperliquid-archive/asset_ctxs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
import pytest

from indexer import labels
from indexer.model import Rule
from indexer.store import labels as labeler
from indexer.store import values
from indexer.store.database import Connection
from tests.conftest import Command
from tests.exchange_stub import Exchange
from tests.ledger_rows import Rows, rows
from tests.rpc_proxy import Http

HEADER = (
    "time,coin,funding,open_interest,prev_day_px,day_ntl_vlm,premium,oracle_px,mark_px,mid_px,"
    "impact_bid_px,impact_ask_px"
)
D = Decimal
A, B, C = (f"0x{digit * 40}" for digit in "abc")
VAULT = "0xdfc24b077bc1425ad1dea75bcb6f8158e10df303"
DAY = datetime(2025, 10, 10, tzinfo=UTC)
AT = DAY + timedelta(hours=21, minutes=15)
STORED = "SELECT market, at, open_interest FROM liq.open_interest"


def line(time: str, coin: str, amount: str) -> str:
    return f"{time},{coin},0.0000125,{amount},3.2,45678.0,0.0002,3.2765,3.2767,3.2768,3.276,3.277"


def at(minute: int) -> str:
    return f"{DAY + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%S}Z"


def write(folder: Path, *lines: str, name: str = "20251010.csv.lz4") -> Path:
    """A daily file, packed where its name says so."""
    text = "\n".join((HEADER, *lines, "")).encode()
    file = folder / name
    file.write_bytes(lz4.frame.compress(text) if name.endswith(".lz4") else text)
    return file


# -- files


@pytest.mark.parametrize("name", ["20251010.csv.lz4", "20251010.csv", "day"])
def test_a_file_is_imported_whole_and_its_holes_are_visible(
    quick_indexer: Command, connection: Connection, tmp_path: Path, name: str
) -> None:
    """The first 156 minutes of a day, of which one is late by four seconds and one is not there."""
    minutes = [minute for minute in range(157) if minute != 100]
    lines = [line(at(minute), "BTC", f"{minute}.5") for minute in minutes if minute != 7]
    late = line("2025-10-10T00:07:04Z", "BTC", "7.5")
    odd = [line(at(3), "xyz:TSLA", "1e-05"), line(at(3), "NEWCOIN", "0.0")]
    write(tmp_path, *lines[:50], late, *odd, *lines[50:], odd[0], name=name)

    done = quick_indexer("interest", "import", name)

    assert (done.returncode, done.stdout) == (
        0, "2025-10-10: 156 of 1,440 minutes, 158 observations of 3 markets, 1 line twice\n",
    )  # fmt: skip
    assert done.stderr == (
        "2025-10-10: nothing from 01:40 to 01:41\n2025-10-10: nothing from 02:37 to 24:00\n"
    )
    assert rows(connection, STORED) == sorted(
        [
            *(("BTC", DAY + timedelta(minutes=m), D(f"{m}.5")) for m in minutes if m != 7),
            ("BTC", DAY + timedelta(minutes=7, seconds=4), D("7.5")),
            ("NEWCOIN", DAY + timedelta(minutes=3), D(0)),
            ("xyz:TSLA", DAY + timedelta(minutes=3), D("0.00001")),
        ],
        key=repr,
    )
    assert rows(
        connection,
        "SELECT venue, day::text, minutes, minutes_missing, markets, sources"
        " FROM liq.open_interest_days",
    ) == [("hyperliquid", "2025-10-10", 156, 1284, 3, [name])]
    assert rows(
        connection, "SELECT day::text, after_at, before_at FROM liq.open_interest_missing"
    ) == [
        ("2025-10-10", DAY + timedelta(minutes=100), DAY + timedelta(minutes=101)),
        ("2025-10-10", DAY + timedelta(minutes=157), DAY + timedelta(days=1)),
    ]


BROKEN = {
    "no time": ("soon", "BTC", "1", "line 3: 'soon' is no time with a zone"),
    "no zone": (
        "2025-10-10T00:01:00", "BTC", "1",
        "line 3: '2025-10-10T00:01:00' is no time with a zone",
    ),
    "another day": (
        "2025-10-11T00:00:00Z", "BTC", "1",
        "line 3: 2025-10-11T00:00:00Z is not on 2025-10-10",
    ),
    "a spot coin": (at(1), "@107", "1", "line 3: '@107' is no perpetual"),
    "no coin": (at(1), "", "1", "line 3: '' is no perpetual"),
    "no amount": (at(1), "BTC", "", "line 3: '' is no open interest"),
    "no number": (at(1), "BTC", "NaN", "line 3: 'NaN' is no open interest"),
    "below 0": (at(1), "BTC", "-1", "line 3: '-1' is no open interest"),
    "another amount": (
        at(0), "BTC", "2", "line 3: BTC has another open interest at that time than in line 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("time", "coin", "amount", "why"), BROKEN.values(), ids=BROKEN)
def test_a_file_with_a_broken_line_is_not_imported(
    quick_indexer: Command,
    connection: Connection,
    tmp_path: Path,
    time: str,
    coin: str,
    amount: str,
    why: str,
) -> None:
    write(tmp_path, line(at(0), "BTC", "1"), line(time, coin, amount), line(at(2), "BTC", "3"))

    done = quick_indexer("interest", "import", "20251010.csv.lz4")

    assert (done.returncode, done.stdout, done.stderr) == (
        1, "", f"indexer: 20251010.csv.lz4: nothing was imported, bad lines: 1: {why}\n",
    )  # fmt: skip
    assert rows(connection, "SELECT FROM ledger.interest_file") == []
    assert rows(connection, STORED) == []


def test_the_first_five_of_many_broken_lines_are_named(
    quick_indexer: Command, tmp_path: Path
) -> None:
    write(tmp_path, *(f"{at(minute)},BTC" for minute in range(7)))

    done = quick_indexer("interest", "import", "20251010.csv.lz4")

    named = "; ".join(f"line {number}: 2 values under 12 columns" for number in range(2, 7))
    assert done.stderr == (
        f"indexer: 20251010.csv.lz4: nothing was imported, bad lines: 7: {named}; and 2 more\n"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b"time,coin\n", "no column open_interest"),
        (b"time,coin,open_interest,coin\n", "two columns coin"),
        (b"time,coin,open_interest\n", "there is no open interest in it"),
        (b"time,coin,open_interest\n\xff\xfe\n", "not UTF-8"),
        (b'time,coin,open_interest\n"2025', "line 2: unexpected end of data"),
    ],
)
def test_what_is_no_such_file_is_refused(
    quick_indexer: Command, tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "20251010.csv").write_bytes(content)

    done = quick_indexer("interest", "import", "20251010.csv")

    assert (done.returncode, done.stderr) == (1, f"indexer: 20251010.csv: {why}\n")


def test_a_file_that_is_cut_off_is_not_imported_and_the_others_are(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    whole = write(tmp_path, *(line(at(minute), "BTC", "1") for minute in range(1_440)))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "20251010.csv.lz4").write_bytes(whole.read_bytes()[:-20])

    done = quick_indexer("interest", "import", "cut", "20251010.csv.lz4")

    assert done.returncode == 1
    assert done.stderr.startswith("indexer: cut/20251010.csv.lz4: LZ4 frame cut off")
    assert done.stdout == ("2025-10-10: 1,440 of 1,440 minutes, 1,440 observations of 1 market\n")
    assert rows(connection, "SELECT DISTINCT source FROM liq.open_interest") == [
        ("20251010.csv.lz4",)
    ]


def test_a_file_again_changes_nothing_and_a_fuller_one_closes_its_holes(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    lines = [line(at(minute), "BTC", "1") for minute in range(1_440)]
    write(tmp_path, *lines[10:], name="some.csv")
    write(tmp_path, *lines[:20], name="more.csv")

    first = quick_indexer("interest", "import", "some.csv").stdout
    again = quick_indexer("interest", "import", "some.csv").stdout
    more = quick_indexer("interest", "import", "more.csv")

    assert (first, again) == (
        "2025-10-10: 1,430 of 1,440 minutes, 1,430 observations of 1 market\n",
        "2025-10-10: 1,430 of 1,440 minutes, 1,430 observations of 1 market; was imported before\n",
    )
    assert (more.stdout, more.stderr) == (
        "2025-10-10: 1,440 of 1,440 minutes, 20 observations of 1 market\n", "",
    )  # fmt: skip
    assert rows(connection, "SELECT minutes, sources FROM liq.open_interest_days") == [
        (1_440, ["some.csv", "more.csv"])
    ]
    assert rows(connection, "SELECT source, count(*) FROM liq.open_interest GROUP BY source") == [
        ("more.csv", 10),
        ("some.csv", 1_430),
    ]


def test_a_file_that_contradicts_another_is_refused_unless_it_replaces(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    write(tmp_path, line(at(0), "BTC", "1"), line(at(1), "BTC", "2"), name="one.csv")
    write(tmp_path, line(at(1), "BTC", "2"), line(at(0), "BTC", "7"), name="two.csv")
    quick_indexer("interest", "import", "one.csv")

    refused = quick_indexer("interest", "import", "two.csv")
    before = rows(connection, "SELECT at, open_interest, source FROM liq.open_interest")
    quick_indexer("interest", "import", "two.csv", "--replace")

    assert (refused.returncode, refused.stderr) == (
        1,
        "indexer: two.csv: nothing was imported, bad lines: 1: line 3: BTC has another open"
        " interest at that time in one.csv\n",
    )
    second = DAY + timedelta(minutes=1)
    assert before == [(DAY, D(1), "one.csv"), (second, D(2), "one.csv")]
    assert rows(connection, "SELECT at, open_interest, source FROM liq.open_interest") == [
        (DAY, D(7), "two.csv"), (second, D(2), "one.csv"),
    ]  # fmt: skip


# -- the exchange


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    with Exchange() as served:
        yield served


def test_the_exchange_tells_all_markets_of_all_dexes(
    quick_indexer: Command, connection: Connection, exchange: Exchange
) -> None:
    begun = datetime.now(UTC)
    done = quick_indexer("interest", "fetch", HYPERLIQUID_API=exchange.url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.partition(" UTC ")[2] == "open interest of 3 markets\n"
    assert rows(connection, "SELECT market, open_interest, source FROM liq.open_interest") == [
        ("BTC", D("9942.2624"), "metaAndAssetCtxs"), ("ETH", D(0), "metaAndAssetCtxs"),
        ("xyz:TSLA", D("1250.5"), "metaAndAssetCtxs"),
    ]  # fmt: skip
    times = connection.execute("SELECT min(at), max(at) FROM liq.open_interest").fetchone()
    assert begun < times[0] <= times[1] < datetime.now(UTC)  # type: ignore[index, operator]


ANSWERS = {
    "null": b"null",
    "a context too few": b'[{"universe": [{"name": "xyz:TSLA"}]}, []]',
    "a market of another dex": b'[{"universe": [{"name": "BTC"}]}, [{"openInterest": "1"}]]',
    "no number": b'[{"universe": [{"name": "xyz:TSLA"}]}, [{"openInterest": "NaN"}]]',
    "a market twice": b'[{"universe": [{"name": "xyz:T"}, {"name": "xyz:T"}]},'
    b' [{"openInterest": "1"}, {"openInterest": "1"}]]',
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_a_dex_that_does_not_tell_leaves_the_others(
    quick_indexer: Command, connection: Connection, exchange: Exchange, body: bytes
) -> None:
    exchange.play(Http(body), '"dex":"xyz"', times=4)

    done = quick_indexer("interest", "fetch", HYPERLIQUID_API=exchange.url)

    assert done.returncode == 1
    assert done.stderr.startswith("127.0.0.1 #1: metaAndAssetCtxs: ")
    assert done.stderr.endswith("\nindexer: not all of it could be asked for\n")
    assert rows(connection, "SELECT market FROM liq.open_interest") == [("BTC",), ("ETH",)]


# -- the rule


def liquidate(connection: Connection, key: int, **other: Any) -> None:
    """A row of the ledger: 1 BTC of A is sold for 100,000 dollars."""
    row = {
        "venue": "hyperliquid", "event_key": f"{key}/BTC/{key}", "account": A, "block_at": AT,
        "method": "market", "market": "BTC", "dex": "", "quote": "USDC", "side": "long", "size": 1,
        "price": 100_000, "notional": 100_000, "account_is_protocol_vault": False,
        "legs_seen": "both", "decoder_version": 1, **other,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO ledger.liquidation ({', '.join(row)})"
        f" VALUES ({', '.join(f'%({name})s' for name in row)})",
        row,
    )


def observe(connection: Connection, amount: str, when: datetime, market: str = "BTC") -> None:
    connection.execute(
        "INSERT INTO ledger.open_interest (venue, market, at, open_interest)"
        " VALUES ('hyperliquid', %s, %s, %s)",
        (market, when, amount),
    )


def ours(toml: str = "") -> list[Rule]:
    return [rule for rule in labels.rules(toml.encode()) if rule.id == "SIZE_OI"]


FLAGS = "SELECT account, subject_key, value_usd, threshold_usd, occurred_at FROM liq.flags"


SMALL_TOO = "[SIZE_OI]\nleast_usd = 1"


def flags(connection: Connection, *, again: bool = False, toml: str = "") -> Rows:
    """What stands after the rule ran, valued before."""
    values.value(connection)
    labeler.apply(connection, ours(toml), again=again)
    assert rows(connection, "SELECT DISTINCT level FROM liq.flags") in ([("position",)], [])
    return rows(connection, FLAGS)


KEY = "hyperliquid/{}/@20251010T211500.000000/BTC"
FLAGGED = (A, KEY.format(A), D(250_000), D(125_000), AT + timedelta(minutes=10))


def test_a_position_is_flagged_by_its_share_of_the_open_interest(connection: Connection) -> None:
    """2 BTC of 200 are 1 %, sold for 250,000 dollars in two fills of an episode: half of it, 0.5 %
    of 200, is worth 125,000 at their average price."""
    liquidate(connection, 1)
    liquidate(
        connection, 2, price=150_000, notional=150_000, block_at=AT + timedelta(minutes=10),
    )  # fmt: skip
    liquidate(connection, 3, account=B, size="0.999", notional=99_900)
    observe(connection, "200", AT - timedelta(minutes=1))
    observe(connection, "9999999", AT - timedelta(minutes=2))
    observe(connection, "9999999", AT + timedelta(microseconds=1))

    assert flags(connection) == [FLAGGED]
    assert rows(
        connection,
        "SELECT account, market, episode_key || '/BTC' = key, first_at, last_at, liquidations,"
        " size, notional_usd, open_interest, open_interest_at, open_interest_source"
        f" FROM liq.liquidated_positions() WHERE account = '{A}'",
    ) == [
        (
            A, "BTC", True, AT, AT + timedelta(minutes=10), 2, D(2), D(250_000), D(200),
            AT - timedelta(minutes=1), "metaAndAssetCtxs",
        )
    ]  # fmt: skip


def test_a_share_of_exactly_the_parameter_is_flagged(connection: Connection) -> None:
    liquidate(connection, 1, size="0.3", price=70_001, notional="21000.3")
    observe(connection, "60", AT)

    (flag,) = flags(connection, toml=SMALL_TOO)

    assert flag[2:4] == (D("21000.3"), D("21000.3"))


@pytest.mark.parametrize(
    ("seconds", "count"), [(0, 1), (-300, 1), (-301, 0), (1, 0)],
    ids=["at the fill", "five minutes old", "older", "after it"],
)  # fmt: skip
def test_just_before_is_not_after_and_not_older_than_five_minutes(
    connection: Connection, seconds: int, count: int
) -> None:
    liquidate(connection, 1)
    observe(connection, "200", AT + timedelta(seconds=seconds))

    assert len(flags(connection)) == count


NEVER: dict[str, dict[str, Any]] = {
    "a vault": {"account": VAULT, "account_is_protocol_vault": True},
    "a vault that the row does not know": {"account": VAULT},
    "the zero address": {"account": "0x" + 40 * "0"},
    "no dollars": {"quote": "FEUSD"},
    "another market": {"market": "ETH"},
    "another dex's": {"market": "xyz:BTC", "dex": "xyz", "quote": "USDH"},
}


@pytest.mark.parametrize("row", NEVER.values(), ids=NEVER)
def test_some_are_never_flagged(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(
        "INSERT INTO ledger.protocol_vault (venue, account, name, source)"
        " VALUES ('hyperliquid', %s, 'HLP', 'test') ON CONFLICT DO NOTHING",
        (VAULT,),
    )
    liquidate(connection, 1, **row)
    observe(connection, "200", AT)

    assert flags(connection) == []


def test_open_interest_of_zero_is_no_share(connection: Connection) -> None:
    liquidate(connection, 1)
    observe(connection, "0", AT)

    assert flags(connection) == []


def test_each_market_of_an_episode_is_a_position_of_its_own(connection: Connection) -> None:
    liquidate(connection, 1)
    liquidate(connection, 2, market="SOL", size=900, notional=180_000)
    liquidate(connection, 3, market="xyz:TSLA", dex="xyz", quote="USDH", size=9, notional=3_600)
    observe(connection, "100", AT)
    observe(connection, "100000", AT, "SOL")
    observe(connection, "1000", AT, "SOL2")
    observe(connection, "1250.5", AT, "xyz:TSLA")

    found = flags(connection, toml=SMALL_TOO)
    assert [(key, value, threshold) for _, key, value, threshold, _ in found] == [
        (KEY.format(A), D(100_000), D(50_000)),
        (KEY.format(A).replace("BTC", "SOL"), D(180_000), D(100_000)),
        (
            f"hyperliquid/{A}/xyz@20251010T211500.000000/xyz:TSLA", D(3_600), D(2501),
        ),
    ]  # fmt: skip


def test_looking_at_what_changed_gives_what_looking_at_all_gives(
    connection: Connection, quick_indexer: Command, tmp_path: Path
) -> None:
    """Fills first, then files; open interest that is corrected, and that goes; a late fill."""
    liquidate(connection, 1)
    liquidate(connection, 2, account=B, size=3, notional=300_000)
    liquidate(connection, 3, account=C, market="SOL")
    seen = [flags(connection)]
    connection.execute("DELETE FROM ledger.changed_account")
    write(tmp_path, line("2025-10-10T21:14:00Z", "BTC", "300"), name="one.csv")
    quick_indexer("interest", "import", "one.csv")
    noted = rows(connection, "SELECT account, facts FROM ledger.changed_account")
    seen.append(flags(connection))
    write(tmp_path, line("2025-10-10T21:14:00Z", "BTC", "200"), name="two.csv")
    quick_indexer("interest", "import", "two.csv", "--replace")
    seen.append(flags(connection))
    liquidate(connection, 4, account=C, size=2, block_at=AT + timedelta(minutes=2))
    seen.append(flags(connection))
    connection.execute("DELETE FROM ledger.open_interest WHERE market = 'BTC'")
    observe(connection, "600", AT - timedelta(minutes=5))
    seen.append(flags(connection))

    assert noted == [(A, "open_interest"), (B, "open_interest")]
    assert [[flag[0] for flag in found] for found in seen] == [[], [B], [A, B], [A, B, C], [B]]
    connection.execute("DELETE FROM ledger.flag")
    assert flags(connection, again=True) == seen[-1]


def test_each_state_is_what_looking_at_all_gives(connection: Connection) -> None:
    liquidate(connection, 1)
    found = [flags(connection)]
    observe(connection, "200", AT - timedelta(minutes=4))
    found.append(flags(connection))
    all_of_it = flags(connection, again=True)
    connection.execute("UPDATE ledger.open_interest SET open_interest = 201")
    found.append(flags(connection))
    connection.execute("UPDATE ledger.open_interest SET open_interest = 20")
    found.append(flags(connection))
    connection.execute("DELETE FROM ledger.open_interest")
    found.append(flags(connection))

    assert [len(each) for each in found] == [0, 1, 0, 1, 0]
    assert all_of_it == found[1]
    assert flags(connection, again=True) == found[-1]


def test_open_interest_where_nothing_was_liquidated_notes_nobody(connection: Connection) -> None:
    liquidate(connection, 1)
    liquidate(connection, 2, account=B, market="SOL")
    connection.execute("DELETE FROM ledger.changed_account")
    observe(connection, "200", AT + timedelta(seconds=1))
    observe(connection, "200", AT - timedelta(minutes=61))
    observe(connection, "200", AT, "ETH")

    assert rows(connection, "SELECT account FROM ledger.changed_account") == []


def test_a_user_may_use_open_interest_for_an_hour_and_no_longer(connection: Connection) -> None:
    liquidate(connection, 1)
    observe(connection, "200", AT - timedelta(minutes=60))

    assert len(flags(connection, toml="[SIZE_OI]\nminutes = 60")) == 1
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="for an hour at most"):
        flags(connection, toml="[SIZE_OI]\nminutes = 61")


def test_few_accounts_are_looked_up_by_their_keys(connection: Connection) -> None:
    """Whatever else is in the ledger: no scan of all of it in the plan."""
    connection.execute("SET enable_seqscan = off")
    plan = connection.execute(
        "EXPLAIN SELECT * FROM liq.liquidated_positions(interval '5 minutes', %s::text[])"
        " WHERE open_interest > 0",
        ([A],),
    ).fetchall()
    text = "\n".join(str(row[0]) for row in plan)

    assert "Seq Scan" not in text
    assert "Function Scan" not in text
    assert text.count(f"account = ANY ('{{{A}}}'::text[])") >= 2
