"""A user's prices: what a file may say, what is refused and how that is named."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import ConfigError
from indexer.price_files import BadLine, Point, read
from indexer.store import price_files
from indexer.store.database import Connection
from indexer.store.price_files import Imported

WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
OTHER = "0x" + 40 * "7"
NOON = datetime(2025, 10, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHAINS = ("base", "ethereum", "hyperliquid")


def csv(folder: Path, *lines: str) -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as format_of

    path = folder / "prices.parquet"
    format_of.write_table(pyarrow.table(columns), path)
    return path


# -- reading -------------------------------------------------------------------------------------


def test_a_line_is_a_token_a_time_and_exact_dollars(tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "Time,asset,usd,chain,volume",
        f"2025-10-10T14:00:00+02:00,{WETH.upper().replace('X', 'x')},4123.45000000000000001,base,",
        f"1760097600,ethereum:{WETH},1e-9,,3",
        "2025-10-10T12:00:00Z,hyperliquid:USDe,0.65,,",
    )

    assert list(read(path)) == [
        Point(2, "base", WETH, NOON, Decimal("4123.45000000000000001")),
        Point(3, "ethereum", WETH, NOON, Decimal("0.000000001")),
        Point(4, "hyperliquid", "USDe", NOON, Decimal("0.65")),
    ]


def test_the_chain_of_the_file_is_that_of_assets_without_one(tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", f"{WETH},1760097600,4000", f"base:{WETH},1760097600,5")

    assert [point.chain for point in read(path, "ethereum") if isinstance(point, Point)] == [
        "ethereum",
        "base",
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"{WETH},1760097600,1", f"no chain is named for '{WETH}'"),
        ("ethereum:0xabc,1760097600,1", "'ethereum:0xabc' is no token of ethereum"),
        ("ethereum:,1760097600,1", "'ethereum:' is no token of ethereum"),
        ("hyperliquid:US DC,1760097600,1", "'hyperliquid:US DC' is no token of hyperliquid"),
        (f"base:{WETH},2025-10-10T12:00:00,1", "'2025-10-10T12:00:00' is no time with a zone"),
        (f"base:{WETH},1760097600000,1", "'1760097600000' is no time with a zone"),
        (f"base:{WETH},yesterday,1", "'yesterday' is no time with a zone"),
        (f"base:{WETH},,1", "'' is no time with a zone"),
        (f"base:{WETH},1760097600,0", "'0' is no price above 0"),
        (f"base:{WETH},1760097600,0.000", "'0.000' is no price above 0"),
        (f"base:{WETH},1760097600,-1", "'-1' is no price above 0"),
        (f"base:{WETH},1760097600,NaN", "'NaN' is no price above 0"),
        (f"base:{WETH},1760097600,inf", "'inf' is no price above 0"),
        (f"base:{WETH},1760097600,1_000", "'1_000' is no price above 0"),
        (f'base:{WETH},1760097600,"1,000"', "'1,000' is no price above 0"),
        (f"base:{WETH},1760097600,", "'' is no price above 0"),
        (f"base:{WETH},1760097600", "2 values under 3 columns"),
        (f"mo\0on:{WETH},1760097600,1", r"'mo\x00on' is no name of a chain"),
        ("base:WETH,noon,0", "'base:WETH' is no token of base, 'noon' is no time with a zone,"
                             " '0' is no price above 0"),
        (f"{WETH},,", f"no chain is named for '{WETH}', '' is no time with a zone,"
                      " '' is no price above 0"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_all_its_faults(tmp_path: Path, line: str, what: str) -> None:
    path = csv(tmp_path, "asset,time,usd", line)

    assert [str(one) for one in read(path)] == [f"line 2: {what}"]


def test_a_bad_line_keeps_the_token_that_it_names(tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", f"BASE:{WETH},1760097600,0", "base:WETH,1760097600,1")

    assert list(read(path)) == [
        BadLine(2, "'0' is no price above 0", "base", WETH),
        BadLine(3, "'base:WETH' is no token of base", "base", None),
    ]


def test_a_quote_that_does_not_close_ends_the_file(tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,1", f'"base:{WETH},1,1', "x")

    assert list(read(path)) == [
        Point(2, "base", WETH, NOON, Decimal(1)),
        BadLine(4, "unexpected end of data, so what follows is unread"),
    ]


def test_chains_that_contradict_each_other_are_no_token(tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd,chain", f"Base:{WETH},1760097600,1,ethereum")

    assert list(read(path)) == [BadLine(2, f"'Base:{WETH}' is no token of base", "base")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "it is empty"),
        (b"asset,usd\n", "no column time"),
        (b"a,b\n", "no column asset and no time and no usd"),
        (b"asset,time,usd,usd\n", "two columns usd"),
        (b'asset,"time,usd', "line 1: unexpected end of data"),
        (b"asset,time,usd\n\xff,1,1\n", "not UTF-8"),
    ],
)
def test_what_is_no_file_of_prices_is_refused(tmp_path: Path, text: bytes, what: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(text)

    with pytest.raises(ConfigError, match=what):
        list(read(path))


def test_parquet_has_decimals_or_text_and_aware_times(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = parquet(
        tmp_path,
        asset=[f"base:{WETH}", "hyperliquid:USDH"],
        time=pyarrow.array([NOON, None], pyarrow.timestamp("ns", "Europe/Berlin")),
        usd=pyarrow.array([Decimal("4123.45"), Decimal("1.00")], pyarrow.decimal128(38, 10)),
        extra=[1.5, 2.5],
    )

    assert list(read(path)) == [
        Point(1, "base", WETH, NOON, Decimal("4123.4500000000")),
        BadLine(2, "'' is no time with a zone", "hyperliquid", "USDH"),
    ]


def test_parquet_with_text_and_seconds(tmp_path: Path) -> None:
    path = parquet(tmp_path, asset=[WETH], chain=["base"], time=[1760097600], usd=["0.10"])

    assert list(read(path)) == [Point(1, "base", WETH, NOON, Decimal("0.10"))]


def test_parquet_times_without_a_zone_are_bad_lines(tmp_path: Path) -> None:
    path = parquet(tmp_path, asset=[f"base:{WETH}"], time=[datetime(2025, 1, 1)], usd=["1"])  # noqa: DTZ001

    assert [str(one) for one in read(path)] == [
        "line 1: '2025-01-01 00:00:00' is no time with a zone"
    ]


def test_parquet_with_floats_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = parquet(tmp_path, asset=[f"base:{WETH}"], time=[1760097600], usd=[1.5])

    with pytest.raises(ConfigError, match=r"float column.*decimal128 or as text"):
        list(read(path))


def test_what_only_says_that_it_is_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "prices.parquet"
    path.write_bytes(b"asset,time,usd\n")

    with pytest.raises(ConfigError, match=r"prices\.parquet: "):
        list(read(path))


# -- importing -----------------------------------------------------------------------------------


@pytest.fixture
def known(connection: Connection) -> Connection:
    """A database that has met two tokens."""
    connection.execute(
        "INSERT INTO ledger.asset (chain, address, decimals) VALUES ('base', %s, 18)", (WETH,)
    )
    return connection


def points(connection: Connection) -> list[Any]:
    return connection.execute(
        "SELECT name, chain, asset, at, usd FROM ledger.price_point ORDER BY name, at"
    ).fetchall()


def test_a_file_is_a_source_with_its_origin(known: Connection, tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "asset,time,usd",
        f"base:{WETH},1760097600,4123.45",
        f"base:{WETH},1760097600,4123.450",
        "hyperliquid:USDE,1760097601,0.65",
    )

    assert price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR) == Imported(
        2, 1, (3,)
    )

    assert points(known) == [
        ("mine", "base", WETH, NOON, Decimal("4123.45")),
        ("mine", "hyperliquid", "USDE", NOON + timedelta(seconds=1), Decimal("0.65")),
    ]
    assert known.execute(
        "SELECT price_source, uri, length(sha256), max_age, points FROM liq.price_files"
    ).fetchall() == [("file:mine", str(path), 64, HOUR, 2)]


def test_tokens_that_no_row_has_met_are_taken_and_named(known: Connection, tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "asset,time,usd",
        f"base:{WETH},1,1",
        f"base:{OTHER},1,1",
        f"base:{OTHER},2,1",
        f"ethereum:{WETH},1,1",
        "hyperliquid:USDH,1,1",
    )

    imported = price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR)

    unmet = [f"base:{OTHER}", f"ethereum:{WETH}", "hyperliquid:USDH"]
    assert (imported, price_files.unmet(known, "mine")) == (Imported(5), (4, unmet))


def test_the_same_file_again_changes_nothing(known: Connection, tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,4123.45")
    price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR)
    before = known.execute("SELECT * FROM ledger.price_file").fetchall()

    assert price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR) == Imported(1)
    assert known.execute("SELECT * FROM ledger.price_file").fetchall() == before


def test_a_name_is_taken_unless_it_is_to_be_replaced(known: Connection, tmp_path: Path) -> None:
    first = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,1", f"base:{WETH},1,2")
    price_files.import_file(known, first, "mine", chains=CHAINS, max_age=HOUR)
    second = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,3")

    with pytest.raises(ConfigError, match=r"mine was imported from .*prices.csv with other"):
        price_files.import_file(known, second, "mine", chains=CHAINS, max_age=HOUR)
    assert len(points(known)) == 2

    assert price_files.import_file(
        known, second, "mine", chains=CHAINS, max_age=HOUR, replace=True
    ) == Imported(1)
    assert points(known) == [("mine", "base", WETH, NOON, Decimal(3))]


def test_a_bad_replacement_leaves_the_old_file(known: Connection, tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,1")
    price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR)
    path = csv(tmp_path, "asset,time,usd", f"base:{WETH},1760097600,1", f"base:{WETH},1760097600,2")

    with pytest.raises(ConfigError):
        price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR, replace=True)
    assert points(known) == [("mine", "base", WETH, NOON, Decimal(1))]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (
            [f"base:{WETH},1,1", f"base:{WETH},2,-1", f"base:{WETH},3,x"],
            "bad lines: 2: line 3: '-1' is no price above 0; line 4: 'x' is no price above 0$",
        ),
        (
            [f"base:{WETH},{at},0" for at in range(7)],
            "bad lines: 7: line 2: .*; line 6: '0' is no price above 0; and 2 more$",
        ),
        (
            [f"base:{WETH},1,1", f"moon:{WETH},1,1", f"moon:{OTHER},2,1"],
            "bad lines: 2: line 3: moon is no chain that we know$",
        ),
        (["hyperliquid:USDX,1,1"], "line 2: USDX is no quote token of hyperliquid$"),
        (["base:WETH,1,1"], "line 2: 'base:WETH' is no token of base$"),
        (
            [f"base:{WETH},1,1", f"base:{WETH},1,1.0", f"base:{WETH},1,1.01"],
            f"bad lines: 1: line 4: {WETH} has another price at that time than in line 2$",
        ),
        (
            [f"base:{WETH},1,{usd}" for usd in (1, "1.01", "1.0", "1.02")],
            f"bad lines: 2: line 3: {WETH} has another price at that time than in line 2;"
            f" line 5: {WETH} has another price at that time than in line 2$",
        ),
        ([], "there is no price in it$"),
    ],
)
def test_a_faulty_file_is_refused_whole(
    known: Connection, tmp_path: Path, lines: list[str], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        price_files.import_file(
            known, csv(tmp_path, "asset,time,usd", *lines), "m", chains=CHAINS, max_age=HOUR
        )
    assert points(known) == []
    assert known.execute("SELECT * FROM ledger.price_file").fetchall() == []


def test_all_that_is_wrong_with_a_file_is_said_at_once(known: Connection, tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "asset,time,usd",
        f"base:{WETH},1,1",
        f"base:{OTHER},2,-1",  # its price is wrong, and its token is in no row
        f"moon:{WETH},noon,1",
        "hyperliquid:USDX,3,0",
        "hyperliquid:USDH,3,1",
        f"moon:{OTHER},4,1",
        f"base:{WETH},1,2",
        "base:WETH,5,1",
        "hyperliquid:USDX,4,1",
        "1",
    )

    with pytest.raises(ConfigError) as raised:
        price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR)

    assert str(raised.value).removeprefix(f"{path}: ").split("; ") == [
        "nothing was imported, bad lines: 8: line 3: '-1' is no price above 0",
        "line 4: 'noon' is no time with a zone, moon is no chain that we know",
        "line 5: '0' is no price above 0, USDX is no quote token of hyperliquid",
        f"line 8: {WETH} has another price at that time than in line 2",
        "line 9: 'base:WETH' is no token of base",
        "line 11: 1 values under 3 columns",
        f"besides, 2 of 3 assets are in no row yet: base:{OTHER}, hyperliquid:USDH",
    ]
    assert points(known) == []


def test_many_faults_of_one_kind_hide_no_other(known: Connection, tmp_path: Path) -> None:
    path = csv(
        tmp_path,
        "asset,time,usd",
        *[f"base:{WETH},{at},0" for at in range(7)],
        *[f"moon:{WETH},{at},1" for at in range(100)],
        *[f"base:0x{at:040x},1,1" for at in range(6)],
    )
    unmet = ", ".join(f"base:0x{at:040x}" for at in range(5))

    with pytest.raises(ConfigError) as raised:
        price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR)

    assert str(raised.value).endswith(
        "bad lines: 107: "
        + "".join(f"line {line}: '0' is no price above 0; " for line in range(2, 7))
        + "line 9: moon is no chain that we know; and 2 more;"
        f" besides, 6 of 7 assets are in no row yet: {unmet}, …"
    )


def test_a_bad_file_after_another_is_told_its_own_faults(known: Connection, tmp_path: Path) -> None:
    first = csv(tmp_path, "asset,time,usd", f"base:{WETH},1,0")
    with pytest.raises(ConfigError):
        price_files.import_file(known, first, "mine", chains=CHAINS, max_age=HOUR)
    second = csv(tmp_path, "asset,time,usd", f"base:{WETH},1,1")

    assert price_files.import_file(known, second, "mine", chains=CHAINS, max_age=HOUR) == (
        Imported(1)
    )


def test_lines_that_say_the_same_again_are_counted(known: Connection, tmp_path: Path) -> None:
    path = csv(tmp_path, "asset,time,usd", *8 * [f"base:{WETH},1,2.50"], f"base:{WETH},2,2.5")

    assert price_files.import_file(known, path, "mine", chains=CHAINS, max_age=HOUR) == Imported(
        2, 7, (3, 4, 5, 6, 7)
    )


@pytest.mark.parametrize(("name", "max_age"), [("My File", HOUR), ("mine", timedelta(0))])
def test_a_name_that_is_none_or_an_age_of_nothing_is_refused(
    known: Connection, tmp_path: Path, name: str, max_age: timedelta
) -> None:
    path = csv(tmp_path, "asset,time,usd", f"base:{WETH},1,1")

    with pytest.raises(ConfigError, match="a name has small letters"):
        price_files.import_file(known, path, name, chains=CHAINS, max_age=max_age)
