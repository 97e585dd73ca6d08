"""`indexer total`, `indexer definitions` and `indexer reconcile` as users type them, over the rows
whose numbers `test_reconciliation` works out by hand."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from indexer.methodology.definition import presets
from indexer.methodology.prose import paragraph
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.postgres import database as throw_away
from tests.test_reconciliation import ALICE, BOB, CAROL, insert, october, store_by_hand

DAY = ("--window", "2025-10-10")


@pytest.fixture(scope="module")
def migrated(postgres: Server, migrated: str) -> Iterator[str]:
    """The name of a database with the rows, of whose windows nothing is said to be read."""
    with throw_away(postgres, template=migrated) as fresh:
        with database.connect(fresh) as connection:
            store_by_hand(connection)
        yield str(conninfo_to_dict(fresh)["dbname"])


def cover(connection: Connection, venue: str, low: str, high: str, blocks: str = "[0,200)") -> None:
    insert(connection, "coverage", {
        "venue": venue, "facts": "liquidations", "blocks": blocks,
        "times": f"[{october(low)},{october(high)}]", "verification": "every_height",
        "decoder_version": 1,
    })  # fmt: skip


@pytest.fixture
def whole(connection: Connection) -> Connection:
    """Both venues were read from before the day to after it."""
    cover(connection, "hyperliquid", "09T00:00", "12T00:00")
    cover(connection, "aave_v3.ethereum", "09T00:00", "12T00:00")
    return connection


def outcome(command: Command, *arguments: object) -> tuple[int, str]:
    """Exit code and what was said on stderr."""
    done = command(*arguments)
    return done.returncode, done.stderr


def said(command: Command, *arguments: object) -> str:
    """What a command that ends well prints."""
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


def data(command: Command, *arguments: object) -> Any:
    return json.loads(said(command, *arguments, "--format", "json"))


def usd(command: Command, *arguments: object) -> str:
    return str(data(command, "total", *arguments)["usd"])


# -- a total -------------------------------------------------------------------------------------

STRICT = f"""\
strict/v1, 2025-10-10: $1,348.00
Forced closes of users' own positions, each trade once at the price it traded for, and loans at the debt repaid.
definition: strict/v1, exact, hash {presets()["strict/v1"].hash}
window: 2025-10-10 00:00:00 UTC to before 2025-10-11 00:00:00 UTC
coverage: complete: every block of the window was read, of each venue in scope that was ever read
coverage of aave_v3.ethereum: 100.00 % of the window read, known by every_height, as of block 199, 2025-10-12 00:00:00 UTC
coverage of hyperliquid: 100.00 % of the window read, known by every_height, as of block 199, 2025-10-12 00:00:00 UTC
without a value, in no sum: 1 record
price set: 6:2652520044478354132
code: 0.1.0

counts     number
─────────────────
records         6
fills           6
orders          6
actions         6
positions       6
episodes        5
accounts        3

side           USD  records
───────────────────────────
neither  $1,000.00        1
long       $348.00        5

kind           USD     long  short  records  accounts
─────────────────────────────────────────────────────
lending  $1,000.00        –      –        1         1
perp       $348.00  $348.00      –        5         2

venue                   USD     long  short  records  accounts
──────────────────────────────────────────────────────────────
aave_v3.ethereum  $1,000.00        –      –        1         1
hyperliquid         $348.00  $348.00      –        5         2

asset                                                      USD     long  short  records  accounts
─────────────────────────────────────────────────────────────────────────────────────────────────
ethereum/0x1111111111111111111111111111111111111111  $1,000.00        –      –        1         1
BTC                                                    $208.00  $208.00      –        2         2
ETH                                                    $140.00  $140.00      –        2         1
SOL                                                          –        –      –        1         1

method             USD     long  short  records  accounts
─────────────────────────────────────────────────────────
repay_seize  $1,000.00        –      –        1         –
backstop       $200.00  $200.00      –        1         –
market         $148.00  $148.00      –        4         –

price source        USD     long  short  records  accounts
──────────────────────────────────────────────────────────
oracle        $1,000.00        –      –        1         –
par             $348.00  $348.00      –        4         –
unknown               –        –      –        1         –

largest single        USD            from, UTC      account
───────────────────────────────────────────────────────────
fill            $1,000.00  2025-10-10 18:00:00  0xcccc…cccc
order           $1,000.00  2025-10-10 18:00:00  0xcccc…cccc
action          $1,000.00  2025-10-10 18:00:00  0xcccc…cccc
episode         $1,000.00  2025-10-10 18:00:00  0xcccc…cccc
account         $1,000.00  2025-10-10 18:00:00  0xcccc…cccc

not counted                                       USD  records  accounts
────────────────────────────────────────────────────────────────────────
priced by an asset's or a dex's own deployer  $500.00        1         1
of the exchange's own vaults                  $300.00        1         1
in blocks that may still change                $70.00        1         1

largest account: aave_v3.ethereum/{CAROL}
largest action: aave_v3.ethereum/{CAROL}/0x1/7
largest episode: aave_v3.ethereum/{CAROL}/@20251010T180000.000000
largest fill: aave_v3.ethereum/0x1/7/{CAROL}
largest order: aave_v3.ethereum/{CAROL}/pool/0x1/7

{paragraph(presets()["strict/v1"], "en")}
"""  # noqa: E501 - as it is printed


@pytest.mark.usefixtures("whole")
def test_a_total_says_what_it_is(quick_indexer: Command) -> None:
    assert said(quick_indexer, "total", *DAY) == STRICT


@pytest.mark.usefixtures("whole")
def test_all_formats_have_the_same_numbers(quick_indexer: Command) -> None:
    total = ("total", *DAY, "--definition", "gross_legs/v1")
    table, markdown = (said(quick_indexer, *total, "--format", form) for form in ("table", "md"))
    found = data(quick_indexer, *total)

    definition = presets()["gross_legs/v1"]
    assert (found["usd"], found["definition"], found["definition_hash"], found["is_complete"]) == (
        "1148", "gross_legs/v1", definition.hash, True,
    )  # fmt: skip
    assert numbers(markdown.replace("\\", "")) == numbers(table)
    assert {"$1,148.00", "$1,008.00", "$400.00"} <= set(numbers(table))
    assert found["definition_body"] == json.loads(definition.canonical())
    assert found["window"]["low"] == "2025-10-10T00:00:00Z"


def numbers(text: str) -> list[str]:
    return re.findall(r"-?\$[0-9,.]*[0-9]", text)


@pytest.mark.parametrize("form", ["table", "md"])
def test_the_methodology_stands_under_a_total_in_the_language_asked_for(
    quick_indexer: Command, form: str
) -> None:
    text = said(quick_indexer, "total", *DAY, "--language", "zh", "--format", form)

    assert text.rstrip("\n").rpartition("\n")[2] == paragraph(presets()["strict/v1"], "zh")


def test_every_json_has_the_methodology_in_both_languages(quick_indexer: Command) -> None:
    assert data(quick_indexer, "total", *DAY)["methodology"] == {
        name: paragraph(presets()["strict/v1"], name) for name in ("en", "zh")
    }


def test_what_is_not_alike_has_no_sum(quick_indexer: Command, tmp_path: Path) -> None:
    define(tmp_path, lending_value="bonus")
    text = said(quick_indexer, "total", *DAY, "--definition", "mine.toml")

    assert text.splitlines()[:2] == [
        "mine/v1, 2025-10-10: –",
        "no sum: notional of perpetuals and this value of loans are not alike",
    ]
    assert re.findall(r"^(?:perp|lending) .*$", text, re.MULTILINE) == [
        "perp     $348.00  $348.00      –        5         2",
        "lending        –        –      –        2         1",
    ]


def test_simulated_rows_are_said_to_be(quick_indexer: Command, connection: Connection) -> None:
    before = said(quick_indexer, "total", *DAY)
    insert(connection, "source", {"uri": "recording", "is_simulated": True})
    total = said(quick_indexer, "total", *DAY, "--format", "md")
    reconciled = said(quick_indexer, "reconcile", "strict/v1", "gross_legs/v1", *DAY)

    assert ["SIMULATED" in text for text in (before, total, reconciled)] == [False, True, True]


HOSTILE = "[red]A[/]|<b>`\x1b[31m\u202e"


@pytest.mark.parametrize("form", ["table", "md"])
def test_a_hostile_symbol_is_text(
    quick_indexer: Command, connection: Connection, form: str
) -> None:
    connection.execute("UPDATE ledger.liquidation SET market = %s WHERE market = 'ETH'", (HOSTILE,))

    text = said(quick_indexer, "total", *DAY, "--format", form)

    shown = {"table": "[red]A[/]|<b>`[31m ", "md": r"| \[red\]A\[/\]\|&#60;b&#62;\`\[31m | "}[form]
    assert [shown in text, "\x1b" in text, "\u202e" in text] == [True, False, False]


# -- what was read -------------------------------------------------------------------------------


def coverage(text: str) -> list[str]:
    return re.findall(r"^coverage.*$", text, re.MULTILINE)


def test_without_coverage_nothing_is_complete(quick_indexer: Command) -> None:
    text = said(quick_indexer, "total", *DAY)

    missing = "missing 2025-10-10 00:00:00 UTC to 2025-10-11 00:00:00 UTC"
    assert coverage(text) == [
        f"coverage of aave_v3.ethereum: 0.00 % of the window read, {missing}",
        f"coverage of hyperliquid: 0.00 % of the window read, {missing}",
    ]
    assert "complete" not in text


def test_a_hole_of_a_second_is_a_hole(quick_indexer: Command, connection: Connection) -> None:
    cover(connection, "hyperliquid", "09T00:00", "10T21:14:59", "[0,2)")
    cover(connection, "hyperliquid", "10T21:15", "12T00:00", "[3,200)")
    cover(connection, "aave_v3.ethereum", "09T00:00", "12T00:00")

    text = said(quick_indexer, "total", *DAY)

    assert coverage(text)[1] == (
        "coverage of hyperliquid: 99.99 % of the window read, known by every_height, as of block"
        " 199, 2025-10-12 00:00:00 UTC, missing 2025-10-10 21:14:59 UTC to 2025-10-10 21:15:00 UTC"
    )
    assert "complete" not in text


def test_what_waits_to_be_decoded_is_not_complete(
    quick_indexer: Command, whole: Connection
) -> None:
    insert(whole, "undecoded", {
        "venue": "hyperliquid", "event_key": "9/ETH/9", "block_number": 9,
        "block_at": october("10T23:59:59"), "reason": "no method", "decoder_version": 1,
    })  # fmt: skip

    day, next_day = (
        said(quick_indexer, "total", "--window", window) for window in ("2025-10-10", "2025-10-11")
    )

    assert "1 event undecoded" in coverage(day)[1]
    assert ["complete" in day, "complete" in next_day] == [False, True]


def test_what_a_definition_names_and_nobody_read_is_missing(
    quick_indexer: Command, whole: Connection, tmp_path: Path
) -> None:
    define(tmp_path, instruments=["lending"], chains=["base", "ethereum"])

    text = said(quick_indexer, "total", *DAY, "--definition", "mine.toml")

    assert [line.partition(" of the")[0] for line in coverage(text)] == [
        "coverage of aave_v3.ethereum: 100.00 %", "coverage of base: 0.00 %",
    ]  # fmt: skip
    assert "complete" not in text


def test_the_exchanges_own_ledger_has_coverage_of_its_own(
    quick_indexer: Command, whole: Connection
) -> None:
    insert(whole, "ledger_liquidation", {
        "venue": "hyperliquid", "event_key": "ledger/1", "tx_hash": "0x1", "account": ALICE,
        "block_number": 1, "block_at": october("10T15:00"), "account_value": 1,
        "notional_mark": 7, "margin_mode": "Cross", "positions": "[]",
    })  # fmt: skip

    text = said(quick_indexer, "total", *DAY, "--definition", "ledger_account/v1")

    assert (text.splitlines()[0], coverage(text)) == (
        "ledger_account/v1, 2025-10-10: $7.00",
        ["coverage of hyperliquid ledger_liquidations: 0.00 % of the window read, missing"
         " 2025-10-10 00:00:00 UTC to 2025-10-11 00:00:00 UTC"],
    )  # fmt: skip


def test_nothing_read_is_said(
    conninfo: str, quick_indexer: Command, connection: Connection
) -> None:
    connection.execute("TRUNCATE ledger.liquidation, ledger.lending_liquidation")

    text = said(quick_indexer, "total", *DAY)

    assert (text.splitlines()[0], coverage(text)) == (
        "strict/v1, 2025-10-10: $0.00", ["coverage: nothing in scope was ever read"],
    )  # fmt: skip


# -- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "window", "expected"),
    [
        ("strict/v1", "2025-10-10", "1348"),
        ("natural_day_cn/v1", "2025-10-10", "105"),
        ("natural_day_cn/v1", "2025-10-11", "1251"),
        ("strict/v1", "2025-10-09..2025-10-11", "1353"),
        ("strict/v1", "2025-10-10T21:15Z..2025-10-10T21:20Z", "48"),
        ("strict/v1", "2025-10", "1356"),
        ("rolling24h_orders/v1", "2025-10-10T21:20Z", "148"),
    ],
)
def test_a_total_is_of_its_window_whose_end_is_outside(
    quick_indexer: Command, definition: str, window: str, expected: str
) -> None:
    assert usd(quick_indexer, "--definition", definition, "--window", window) == expected


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("yesterday", "'yesterday' is no window; write 2025-10-10, 2025-10,"
                      " 2025-10-10..2025-10-12, 2025-10-10T21:15Z, now or 24h"),
        ("2025-10-11..2025-10-10", "the window '2025-10-11..2025-10-10' is empty: it ends where it"
                                   " begins, or before"),
        ("[red]", "'[red]' is no window; write 2025-10-10, 2025-10, 2025-10-10..2025-10-12,"
                  " 2025-10-10T21:15Z, now or 24h"),
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused(quick_indexer: Command, window: str, message: str) -> None:
    assert outcome(quick_indexer, "total", "--window", window) == (1, f"indexer: {message}\n")


def test_blocks_of_a_chain_are_a_window(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    define(tmp_path, instruments=["lending"], chains=["ethereum"], trust="any",
           window={"rule": "blocks"})  # fmt: skip
    cover(connection, "aave_v3.ethereum", "09T00:00", "10T19:00", "[100,121)")
    total = ("total", "--definition", "mine.toml", "--window")

    text = said(quick_indexer, *total, "100..121")
    more = said(quick_indexer, *total, "100..125")
    saved = outcome(quick_indexer, *total, "100..125", "--save")

    assert [
        text.splitlines()[0],
        *re.findall("^window.*$", text, re.MULTILINE),
        *coverage(text),
    ] == [
        "mine/v1, 100..121: $1,500.00",
        "window: blocks 100 to before 121 of ethereum",
        "coverage: complete: every block of the window was read, of each venue in scope that was"
        " ever read",
        "coverage of aave_v3.ethereum: 100.00 % of the window read, known by every_height, as of"
        " block 120, 2025-10-10 19:00:00 UTC",
    ]
    assert coverage(more) == [
        "coverage of aave_v3.ethereum: 84.00 % of the window read, known by every_height, as of"
        " block 120, 2025-10-10 19:00:00 UTC, missing blocks 121 to 124"
    ]
    assert saved == (0, "saved as total 1\n")
    assert said(quick_indexer, "total", "--verify") == (
        "total 1, mine/v1, 100..125: $1,500.00, as it was\n"
    )


SWING = {"rule": "segment", "threshold": "0.1"}


def test_a_swing_of_an_imported_price_is_a_window(quick_indexer: Command, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(
        "chain,asset,time,usd\n"
        "hyperliquid,USDC,2025-10-10T14:00:00Z,100\n"
        "hyperliquid,USDC,2025-10-10T20:00:00Z,120\n"
        "hyperliquid,USDC,2025-10-10T21:18:00Z,80\n"
        "hyperliquid,USDC,2025-10-10T23:00:00Z,100\n"
    )
    assert quick_indexer("prices", "import", "prices.csv", "--name", "desk").returncode == 0
    define(tmp_path, window=SWING | {"series": "file:desk/hyperliquid/USDC"})
    total = ("--definition", "mine.toml", "--window")

    found = data(quick_indexer, "total", *total, "2025-10-10T21:15Z")

    assert (found["usd"], found["window"]["low"], found["window"]["high"]) == (
        "48", "2025-10-10T20:00:00Z", "2025-10-10T21:18:00Z",
    )  # fmt: skip
    assert outcome(quick_indexer, "total", *total, "2025-10-10T22:00Z") == (
        1,
        "indexer: the segment of 2025-10-10T22:00Z begins at 2025-10-10 21:18:00+00:00 and is not"
        " over: file:desk/hyperliquid/USDC has not turned again, and later prices may move its"
        " end\n",
    )


def test_a_swing_of_the_marks_is_a_window(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    define(tmp_path, window=SWING | {"series": "mark:hyperliquid/ETH"})
    total = ("--definition", "mine.toml", "--window", "2025-10-10T15:00Z")
    without = outcome(quick_indexer, "total", *total)
    connection.execute(
        "UPDATE ledger.liquidation SET mark_price = CASE event_key WHEN '0/ETH/1' THEN 100"
        " WHEN '1/ETH/1' THEN 150 WHEN '2/ETH/1' THEN 90 END WHERE market = 'ETH'"
    )
    insert(connection, "liquidation", {
        "venue": "hyperliquid", "event_key": "9/ETH/1", "account": BOB, "method": "market",
        "block_at": october("11T09:00"), "market": "ETH", "dex": "", "side": "long", "size": 1,
        "price": 1, "notional": 1, "mark_price": 120, "account_is_protocol_vault": False,
        "legs_seen": "both", "decoder_version": 1,
    })  # fmt: skip

    found = data(quick_indexer, "total", *total)

    assert without == (
        1, "indexer: no prices of mark:hyperliquid/ETH: no segments can be found\n",
    )  # fmt: skip
    # the values of a row that changes go with it
    assert (found["window"]["low"], found["window"]["high"], found["lines"][-1]["unvalued"]) == (
        "2025-10-10T15:00:00Z", "2025-10-10T21:15:00Z", 2,
    )  # fmt: skip


# -- definitions of one's own --------------------------------------------------------------------

MINE = 'id = "mine/v1"\nsays = "Mine."\nfidelity = "exact"\n'


def define(folder: Path, **fields: Any) -> None:
    """Write mine.toml."""
    lines = [f"{name} = {toml(value)}" for name, value in fields.items()]
    (folder / "mine.toml").write_text(MINE + "\n".join(lines) + "\n")


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


def test_a_definition_of_a_file_is_known_from_then_on(
    quick_indexer: Command, tmp_path: Path
) -> None:
    define(tmp_path, markets=["ETH"])
    unknown = outcome(quick_indexer, "total", "--definition", "mine/v1")

    by_file = usd(quick_indexer, *DAY, "--definition", "mine.toml")
    by_id = usd(quick_indexer, *DAY, "--definition", "mine/v1")

    assert (by_file, by_id) == ("140", "140")
    known = ", ".join(presets())
    assert unknown == (
        1, f"indexer: there is no definition 'mine/v1'; known are {known}, or name a file\n",
    )  # fmt: skip


def test_a_file_of_json_is_a_definition_too(quick_indexer: Command, tmp_path: Path) -> None:
    body = json.loads(presets()["strict/v1"].canonical()) | {"id": "mine/v1", "markets": ["ETH"]}
    (tmp_path / "mine.json").write_text(json.dumps(body))

    assert usd(quick_indexer, *DAY, "--definition", "mine.json") == "140"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"market": ["ETH"]}, "not a definition: Object contains unknown field `market`"),
        ({"perp_value": "oracle"}, "not a definition: Invalid enum value 'oracle' - at"
                                   " `$.perp_value`"),
        ({"leg": "both"}, "mine/v1: only a perpetual's trade has a counterparty's leg: instruments"
                          " perp"),
        ({"window": {"rule": "calendar", "zone": "Asia/[red]"}}, "mine/v1: 'Asia/[red]' is no time"
                                                                 " zone"),
    ],
)  # fmt: skip
def test_a_file_that_says_what_cannot_be_is_refused(
    quick_indexer: Command, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    define(tmp_path, **fields)

    for_total, for_list = (
        outcome(quick_indexer, *words)
        for words in (("total", "--definition", "mine.toml"), ("definitions", "mine.toml"))
    )

    assert for_total == for_list == (1, f"indexer: mine.toml: {message}\n")


def test_a_file_that_is_not_there_is_named(quick_indexer: Command) -> None:
    assert outcome(quick_indexer, "total", "--definition", "mine.toml") == (
        1, "indexer: mine.toml: No such file or directory\n",
    )  # fmt: skip


def test_an_id_does_not_change_its_meaning(quick_indexer: Command, tmp_path: Path) -> None:
    define(tmp_path, markets=["ETH"])
    usd(quick_indexer, *DAY, "--definition", "mine.toml")
    define(tmp_path, markets=["BTC"])

    code, message = outcome(quick_indexer, "total", *DAY, "--definition", "mine.toml")

    assert (code, re.sub("[0-9a-f]{12}", "…", message)) == (
        1,
        "indexer: mine/v1 is known with another meaning: its hash was … and is … now; give it a new"
        " version\n",
    )
    assert usd(quick_indexer, *DAY, "--definition", "mine/v1") == "140"


def test_definitions_are_listed_with_whose_number_they_repeat(quick_indexer: Command) -> None:
    text = said(quick_indexer, "definitions")

    listed = re.findall(r"^ ([a-z0-9_]+/v1) +(exact|approximate|simulated) ", text, re.MULTILINE)
    assert listed == [(id, preset.fidelity) for id, preset in presets().items()]
    assert "HyperReplay and Tektonic" in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_definition_is_shown_in_words_as_data_and_as_sql(
    quick_indexer: Command, connection: Connection, language: Any
) -> None:
    preset = presets()["gross_legs/v1"]

    text = said(quick_indexer, "definitions", preset.id, "--language", language)

    query = rows(connection, f"SELECT query FROM liq.definitions WHERE id = '{preset.id}'")[0][0]
    assert text == "\n\n".join(
        [f"{preset.id}, exact, hash {preset.hash}", preset.says, paragraph(preset, language),
         preset.canonical(), query]
    ) + "\n"  # fmt: skip


# -- saved totals --------------------------------------------------------------------------------


@pytest.fixture
def saved(whole: Connection, quick_indexer: Command) -> Connection:
    """The total of the day, saved."""
    assert outcome(quick_indexer, "total", *DAY, "--save") == (0, "saved as total 1\n")
    return whole


def verified(command: Command) -> tuple[int, str, str]:
    done = command("total", "--verify")
    return done.returncode, done.stdout, done.stderr


def test_a_saved_total_is_in_sql_and_holds(saved: Connection, quick_indexer: Command) -> None:
    assert verified(quick_indexer) == (
        0, "total 1, strict/v1, 2025-10-10: $1,348.00, as it was\n", "",
    )  # fmt: skip
    assert rows(
        saved,
        "SELECT total_id, definition, definition_hash, said, low, high, usd, is_complete, price_set"
        " FROM liq.totals",
    ) == [
        (1, "strict/v1", presets()["strict/v1"].hash, "2025-10-10", october("10T00:00"),
         october("11T00:00"), 1348, True, "6:2652520044478354132")
    ]  # fmt: skip


def test_what_is_read_later_than_the_window_changes_nothing(
    saved: Connection, quick_indexer: Command
) -> None:
    cover(saved, "hyperliquid", "12T00:00", "13T00:00", "[200,300)")

    assert verified(quick_indexer)[0] == 0


def test_a_value_that_changed_is_found(saved: Connection, quick_indexer: Command) -> None:
    saved.execute("UPDATE ledger.valuation SET fill_usd = 201 WHERE event_key = '4/BTC/1'")

    code, text, _ = verified(quick_indexer)

    assert (code, re.sub("(6:)[0-9]+", r"\1…", text)) == (
        1,
        "total 1, strict/v1, 2025-10-10: $1,349.00, was $1,348.00; what differs:\n"
        "  asset BTC\n  instrument perp\n  method backstop\n  price_source par\n  side long\n"
        "  total\n  venue hyperliquid\n  price set 6:…, was 6:…\n",
    )


def test_a_row_that_came_is_found_even_if_it_has_no_value(
    saved: Connection, quick_indexer: Command
) -> None:
    insert(saved, "lending_liquidation", {
        "venue": "aave_v3.ethereum", "event_key": "0x9/7", "account": CAROL, "block_number": 110,
        "block_at": october("10T18:00"), "method": "repay_seize", "market": "pool",
        "seized_is_shares": False, "decoder_version": 1,
    })  # fmt: skip

    code, text, _ = verified(quick_indexer)

    assert (code, re.sub(":[0-9]{9,}", ":…", text)) == (
        1,
        "total 1, strict/v1, 2025-10-10: $1,348.00, was $1,348.00; what differs:\n"
        "  asset unknown\n  instrument lending\n  method repay_seize\n  price_source unknown\n"
        "  side unknown\n  total\n  venue aave_v3.ethereum\n  price set 7:…, was 6:…\n",
    )


def test_coverage_that_changed_is_found(saved: Connection, quick_indexer: Command) -> None:
    saved.execute("DELETE FROM ledger.coverage WHERE venue = 'hyperliquid'")

    assert verified(quick_indexer) == (
        1,
        "total 1, strict/v1, 2025-10-10: $1,348.00, was $1,348.00; what differs:\n"
        "  what was read of the window\n",
        "",
    )


def test_without_saved_totals_it_says_how_to_save_one(quick_indexer: Command) -> None:
    assert verified(quick_indexer) == (0, "no total is saved yet: indexer total --save\n", "")


def test_saving_and_verifying_are_two_things(quick_indexer: Command) -> None:
    code, message = outcome(quick_indexer, "total", "--save", "--verify")

    assert (code, message.splitlines()[-1]) == (
        2, "Error: --save and --verify are two things to do",
    )  # fmt: skip


# -- reconciliations -----------------------------------------------------------------------------

BOTH = ("reconcile", "natural_day_cn/v1", "strict/v1", *DAY)


def test_a_reconciliation_in_json_has_all_digits_and_sql_that_runs(
    quick_indexer: Command, connection: Connection
) -> None:
    found = data(quick_indexer, *BOTH)

    (step,) = found["steps"]
    assert [found[side]["usd"] for side in "ab"] == ["105", "1348"]
    assert [step[name] for name in ("group", "usd", "least_usd", "most_usd", "mean_usd")] == [
        "window", "1243", "1243", "1243", "1243.00",
    ]  # fmt: skip
    assert [(p["kind"], p["reason"], p["records"], p["usd"]) for p in found["parts"]] == [
        ("only_a", "window", 1, "-5"), ("only_b", "window", 5, "1248"),
    ]  # fmt: skip
    assert len(connection.execute(step["affected"]["sql"]).fetchall()) == 6


def test_a_reconciliation_ends_with_the_command_that_made_it(indexer: Command) -> None:
    words = ("strict/v1", "gross_legs/v1", *DAY, "--window-b", "2025-10-10..2025-10-11")

    lines = said(indexer, "reconcile", *words).splitlines()

    assert lines[-1] == f"indexer reconcile {' '.join(words)}"


@pytest.mark.usefixtures("whole")
def test_a_reconciliation_on_the_terminal(quick_indexer: Command) -> None:
    lines = said(quick_indexer, *BOTH).splitlines()

    assert [lines[0], *lines[1:4], lines[5]] == [
        "From natural_day_cn/v1 to strict/v1",
        "A: natural_day_cn/v1: $105.00 (every row has a value)",
        "B: strict/v1: $1,348.00 (1 row without a value)",
        "B less A: +$1,243.00 (1183.8 % of A)",
        "Complete: 2 of 2 venues read whole in both windows",
    ]


@pytest.mark.parametrize(("form", "begin"), [("html", "<!doctype html>"), ("md", "# From natural")])
def test_a_reconciliation_is_written_to_a_file(
    quick_indexer: Command, tmp_path: Path, form: str, begin: str
) -> None:
    done = quick_indexer(*BOTH, "--format", form, "-o", "report")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "wrote report\n")
    text = (tmp_path / "report").read_text()
    assert text.lower().startswith(begin.lower())
    assert "$1,243.00" in text


def test_a_window_of_its_own_for_b(quick_indexer: Command) -> None:
    found = data(
        quick_indexer, "reconcile", "strict/v1", "strict/v1", *DAY, "--window-b", "2025-10"
    )

    assert [(step["group"], step["usd"]) for step in found["steps"]] == [("window", "8")]


OUTSIDE = ("reconcile", "strict/v1", *DAY, "--external", "1.5e3", "--source", "a <page>")


def test_a_published_number_leaves_a_residual(quick_indexer: Command) -> None:
    found = data(quick_indexer, *OUTSIDE, "--stated", "none", "--meant", "gross_legs/v1")

    assert (found["b"]["is"], found["b"]["usd"], found["b"]["source"]) == (
        "outside", "1500", "a <page>",
    )  # fmt: skip
    assert (found["b"]["meant"]["definition_id"], found["residual_usd"]) == ("gross_legs/v1", "352")
    assert [(near["definition_id"], near["usd"]) for near in found["near"][:3]] == [
        ("allium_lending/v1", "1500"), ("defillama_collateral/v1", "1500"),
        ("dune_collateral/v1", "1500"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("reconcile", "strict/v1"), 2,
         "Error: name a second definition, or a number with --external"),
        (("reconcile", "strict/v1", "gross_legs/v1", "--external", "1"), 2,
         "Error: name a second definition, or a number with --external"),
        (("reconcile", "strict/v1", "--external", "1"), 2,
         "Error: say where the number was published: --source"),
        (("reconcile", "strict/v1", "gross_legs/v1", "--meant", "strict/v1"), 2,
         "Error: --source, --stated and --meant are of a number with --external"),
        (("reconcile", "strict/v1", "--external", "much"), 2,
         "Error: Invalid value for '--external': 'much' is no number; write 190e6"),
        ((*OUTSIDE, "--meant", "none/v1"), 1,
         "indexer: 'none/v1' is no preset: indexer definitions"),
        (("reconcile", "strict/v1", "mine.toml"), 1,
         "indexer: mine.toml: No such file or directory"),
        (("reconcile", "strict/v1", "gross_legs/v1", "--window", "x"), 1,
         "indexer: 'x' is no window; write 2025-10-10, 2025-10, 2025-10-10..2025-10-12,"
         " 2025-10-10T21:15Z, now or 24h"),
        (("reconcile", "strict/v1", "gross_legs/v1", "-o", "report"), 1,
         "indexer: a table goes to the terminal; --output takes --format html, md or json"),
    ],
)  # fmt: skip
def test_what_cannot_be_reconciled_is_said_in_a_line(
    quick_indexer: Command, words: tuple[str, ...], code: int, message: str
) -> None:
    done = outcome(quick_indexer, *words)

    assert (done[0], done[1].splitlines()[-1]) == (code, message)
