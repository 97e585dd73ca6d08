"""Imports, exports and the evaluation of labels: whole or not at all, and nothing forgotten."""

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer import labels
from indexer.errors import ConfigError
from indexer.label_files import Broken, Context, Format
from indexer.store import label_sets
from indexer.store import labels as labeler
from indexer.store.database import Connection
from indexer.store.label_sets import Imported, Label, Origin
from tests.conftest import Command
from tests.ledger_rows import Rows, rows

A, B, C = ("0x" + 40 * letter for letter in "abc")
VAULT = "0xdfc24b077bc1425ad1dea75bcb6f8158e10df303"
HERE = Context({1: "ethereum", 8453: "base"})
HEADER = "account,label,name,chain,confidence,valid_from,valid_to"
TAKEN = datetime(2025, 10, 1, tzinfo=UTC)
EXPIRY = TAKEN + timedelta(days=365)
DAY = datetime(2025, 10, 10, tzinfo=UTC)


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def taken(
    connection: Connection,
    folder: Path,
    *lines: str,
    source: str = "mine",
    version: str = "1",
    weight: str = "0.8",
    **how: Any,
) -> Imported:
    return label_sets.import_file(
        connection, written(folder, *lines), "csv",
        Origin(source, version, Decimal(weight), TAKEN), HERE, **how,
    )  # fmt: skip


def register(connection: Connection, vault: str) -> None:
    """As a vault of the exchange itself."""
    connection.execute(
        "INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', %s, 'HLP', NULL, NULL, 'x')",
        (vault,),
    )


def label(connection: Connection) -> None:
    labeler.apply(connection, labels.rules())


SAID = "SELECT source, version, chain, account, label, names, confidence FROM liq.set_labels"
IMPORTED = (
    "SELECT venue, account, label, confidence, valid_from, valid_to FROM liq.labels"
    " WHERE rule = 'IMPORTED'"
)


def everything(connection: Connection) -> list[Rows]:
    tables = ("ledger.label_set", "ledger.set_label", "ledger.label", "ledger.changed_account")
    return [rows(connection, f"SELECT * FROM {table}") for table in tables]


# -- importing -----------------------------------------------------------------------------------


def test_rows_that_say_the_same_are_one_label(connection: Connection, tmp_path: Path) -> None:
    mixed = "0x" + 20 * "aA"
    found = taken(
        connection,
        tmp_path,
        f"{A},whale,Al,base,,,",
        f"{mixed},Whale,,base,,,",
        f"{A},whale,Big Al,base,,,",
        f"{A},whale,Al,ethereum,0.5,,",
    )

    assert found == Imported(labels=2, merged=2, dropped={}, skipped=(), is_new=True)
    assert rows(connection, SAID) == [
        ("mine", "1", "base", A, "whale", ["Al", "Big Al"], Decimal("0.8")),
        ("mine", "1", "ethereum", A, "whale", ["Al"], Decimal("0.4")),
    ]
    raw = rows(connection, "SELECT raw FROM liq.set_labels WHERE chain = 'base'")[0][0]
    assert [one["account"] for one in raw] == [A, mixed, A]


def test_a_set_keeps_where_it_is_from(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "aliases.json"
    path.write_text(json.dumps({A: "Al", B: "", C: ""}))
    label_sets.import_file(
        connection, path, "hyperliquid-aliases", Origin("hs", "Oct", Decimal("0.5"), TAKEN), HERE
    )

    assert rows(
        connection,
        "SELECT source, version, format, weight, labels, merged, dropped, skipped, retrieved_at,"
        " imported_at <= now(), replaced_at, uri, length(sha256) FROM liq.label_sets",
    ) == [
        (
            "hs", "Oct", "hyperliquid-aliases", Decimal("0.5"), 1, 0, {"no name": 2}, 0, TAKEN,
            True, None, str(path), 64,
        )
    ]  # fmt: skip


@pytest.mark.any_postgres
def test_a_newer_version_takes_the_place_of_the_older_one(
    connection: Connection, tmp_path: Path
) -> None:
    taken(connection, tmp_path, f"{A},whale,,base,,,", f"{B},whale,,base,,,")
    label(connection)
    (before,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
    taken(connection, tmp_path, f"{B},whale,,base,,,", f"{C},fund,,*,,,", version="2")
    label(connection)

    assert rows(connection, IMPORTED) == [
        ("*", C, "fund", Decimal("0.8"), None, EXPIRY),
        ("base", B, "whale", Decimal("0.8"), None, EXPIRY),
    ]
    then = label_sets.labels_at(connection, as_of=DAY, known_at=before)  # type: ignore[arg-type]
    now = label_sets.labels_at(connection, as_of=DAY)
    assert [(one.account, _version(one)) for one in then] == [(A, "1"), (B, "1")]
    assert [(one.account, _version(one)) for one in now] == [(B, "2"), (C, "2")]
    sets = label_sets.sets(connection)
    assert [(one.version, one.labels, one.replaced_at is None) for one in sets] == [
        ("2", 2, True),
        ("1", 2, False),
    ]


def _version(one: Label) -> str:
    return str(one.evidence["sets"][0]["version"])


def test_the_same_file_again_changes_nothing(connection: Connection, tmp_path: Path) -> None:
    first = taken(connection, tmp_path, f"{A},whale,,base,,,")
    before = everything(connection)

    assert taken(connection, tmp_path, f"{A},whale,,base,,,") == first._replace(is_new=False)
    assert everything(connection) == before


def test_an_older_version_may_come_back(connection: Connection, tmp_path: Path) -> None:
    taken(connection, tmp_path, f"{A},whale,,base,,,")
    taken(connection, tmp_path, f"{B},whale,,base,,,", version="2")

    assert taken(connection, tmp_path, f"{A},whale,,base,,,").is_new
    assert [(row[1], row[3]) for row in rows(connection, SAID)] == [("1", A)]


@pytest.mark.parametrize(
    ("line", "weight"), [(f"{B},whale,,base,,,", "0.8"), (f"{A},whale,,base,,,", "0.9")]
)
def test_a_version_is_one_file_with_one_weight_unless_it_is_replaced(
    connection: Connection, tmp_path: Path, line: str, weight: str
) -> None:
    taken(connection, tmp_path, f"{A},whale,,base,,,")
    before = everything(connection)

    with pytest.raises(ConfigError, match=r"mine 1 was imported from .*labels\.csv with other"):
        taken(connection, tmp_path, line, weight=weight)
    assert everything(connection) == before

    assert taken(connection, tmp_path, line, weight=weight, replace=True).is_new
    assert [(row[3], row[6]) for row in rows(connection, SAID)] == [(line[:42], Decimal(weight))]


BROKEN = [
    f"{A},whale,,base,,,",
    f"{B},whale,,moon,,,",
    f"{A},whale,,base,0.5,,",
    f"{C},whale,,base,,,",
]


def test_a_broken_row_or_a_contradiction_refuses_the_whole_file(
    connection: Connection, tmp_path: Path
) -> None:
    taken(connection, tmp_path, f"{A},fund,,base,,,")
    before = everything(connection)

    with pytest.raises(
        ConfigError,
        match=r"labels\.csv: nothing was imported, broken rows: 2: line 3: 'moon' is no chain that"
        r" we know; line 4: whale holds for another time or with another confidence in line 2$",
    ):
        taken(connection, tmp_path, *BROKEN, version="2")
    assert everything(connection) == before


def test_broken_rows_can_be_skipped_and_are_counted(connection: Connection, tmp_path: Path) -> None:
    found = taken(connection, tmp_path, *BROKEN, skip_broken=True)

    assert (found.labels, found.skipped) == (
        2,
        (
            Broken("line 3", "'moon' is no chain that we know"),
            Broken("line 4", "whale holds for another time or with another confidence in line 2"),
        ),
    )
    assert [row[3] for row in rows(connection, SAID)] == [A, C]
    assert rows(connection, "SELECT labels, skipped FROM liq.label_sets") == [(2, 2)]


def test_no_more_than_five_broken_rows_are_shown(connection: Connection, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"broken rows: 8: line 2: .*; line 6: [^;]*; and 3 more$"
    ):
        taken(connection, tmp_path, *(f"{A},x{n},,moon,,," for n in range(8)))


@pytest.mark.parametrize(
    ("source", "version", "weight"),
    [("My Set", "1", "0.5"), ("mine", " ", "0.5"), ("mine", "1", "0"), ("mine", "1", "1.1")],
)
def test_a_name_version_or_weight_that_is_none_is_refused(
    connection: Connection, tmp_path: Path, source: str, version: str, weight: str
) -> None:
    line = f"{A},whale,,base,,,"
    with pytest.raises(ConfigError, match="a source has small letters"):
        taken(connection, tmp_path, line, source=source, version=version, weight=weight)
    assert rows(connection, "SELECT * FROM ledger.label_set") == []


def test_a_file_without_a_label_says_why(connection: Connection, tmp_path: Path) -> None:
    path = tmp_path / "sanctioned_addresses_XBT.txt"
    path.write_text("1CF46Rfbp97absrs7zb7dFfZS6qBXUm9EP\n")

    with pytest.raises(ConfigError, match=r"no label in it; not on an EVM chain: 1$"):
        label_sets.import_file(connection, path, "ofac", Origin("o", "1", Decimal(1)), HERE)


# -- what comes of it ----------------------------------------------------------------------------


def test_one_opinion_stands_on_all_sets_that_hold_it(
    connection: Connection, tmp_path: Path
) -> None:
    taken(connection, tmp_path, f"{A},whale,Al,base,,,", source="one", weight="0.7")
    taken(connection, tmp_path, f"{A},whale,,base,0.50,,", source="two", weight="0.9")
    label(connection)

    assert rows(connection, IMPORTED) == [("base", A, "whale", Decimal("0.7"), None, EXPIRY)]
    (found,) = label_sets.labels_at(connection)
    assert [(one["set"], one["confidence"], one["names"]) for one in found.evidence["sets"]] == [
        ("one", "0.7", ["Al"]),
        ("two", "0.45", []),
    ]


def test_times_that_the_set_says_are_those_of_the_label(
    connection: Connection, tmp_path: Path
) -> None:
    taken(
        connection,
        tmp_path,
        f"{A},whale,,base,,2025-01-01,2025-02-01",
        f"{A},whale,,base,,2025-10-10,",
        f"{B},whale,,base,,2027-01-01,",  # after the set has expired
    )
    label(connection)

    january = datetime(2025, 1, 1, tzinfo=UTC)
    assert rows(connection, IMPORTED) == [
        ("base", A, "whale", Decimal("0.8"), january, datetime(2025, 2, 1, tzinfo=UTC)),
        ("base", A, "whale", Decimal("0.8"), DAY, EXPIRY),
    ]


def test_changed_sets_give_what_looking_at_all_gives(
    connection: Connection, tmp_path: Path
) -> None:
    taken(connection, tmp_path, f"{A},whale,,base,,,", f"{B},fund,,*,,,")
    label(connection)
    taken(connection, tmp_path, f"{A},exchange,,base,,,", f"{B},fund,,*,,,", version="2")
    label(connection)
    changed = rows(connection, f"SELECT * FROM ({IMPORTED}) said")

    labeler.apply(connection, labels.rules(), again=True)

    assert [row[:3] for row in changed] == [("*", B, "fund"), ("base", A, "exchange")]
    assert rows(connection, IMPORTED) == changed


@pytest.mark.parametrize("chain", ["hyperliquid", "*"])
def test_a_vault_is_no_whale_whoever_says_so(
    connection: Connection, tmp_path: Path, chain: str
) -> None:
    register(connection, VAULT)
    taken(connection, tmp_path, f"{VAULT},whale,,{chain},,,", f"{A},whale,,{chain},,,")

    label(connection)

    assert [row[1] for row in rows(connection, IMPORTED)] == [A]


def test_conflicts_stay_visible(connection: Connection, tmp_path: Path) -> None:
    taken(
        connection, tmp_path, f"{A},whale,Al,base,,,", f"{A},is_eoa:true,,base,,,",
        f"{B},exchange,KuCoin,base,,,", f"{B},kucoin,KuCoin 2,base,,,", f"{C},whale,,base,,,",
        source="one",
    )  # fmt: skip
    taken(
        connection, tmp_path, f"{A},exchange,KuCoin,*,,,", f"{A},is_eoa:false,,*,,,",
        f"{B},exchange,kucoin 2,base,,,", f"{C},exchange,,ethereum,,,", source="two",
    )  # fmt: skip

    assert rows(connection, "SELECT * FROM liq.label_conflicts") == [
        ("is_eoa", A, "base", "two", ["is_eoa:false"], "one", ["is_eoa:true"]),
        ("label", A, "base", "one", ["whale"], "two", ["exchange"]),
        ("name", A, "base", "one", ["Al"], "two", ["KuCoin"]),
    ]


# -- the commands --------------------------------------------------------------------------------


def import_words(*more: object, form: Format = "csv") -> tuple[object, ...]:
    return ("labels", "import", "labels.csv", "--format", form, "--source", "mine", *more)


def test_the_command_counts_what_it_did(quick_indexer: Command, tmp_path: Path) -> None:
    written(
        tmp_path, f"{A},whale,,,,,", f"{A},Whale,,,,,", "0x1,whale,,,,,", "0x2,whale,,,,,"
    )  # fmt: skip
    words = import_words("--version", "2025-10", "--chain", "base")

    refused = quick_indexer(*words)
    done = quick_indexer(*words, "--skip-broken")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "broken rows: 2: line 4: '0x1' is no account; line 5: " in refused.stderr
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "mine 2025-10: 1 labels; rows merged: 1; broken rows skipped: 2\n",
        "skipped: line 4: '0x1' is no account\nskipped: line 5: '0x2' is no account\n",
    )
    again = quick_indexer(*words, "--skip-broken")
    assert again.stdout == "mine 2025-10: 1 labels; rows merged: 1 (it stood already)\n"


def test_sets_are_listed(quick_indexer: Command, tmp_path: Path) -> None:
    nothing = quick_indexer("labels", "list")
    written(tmp_path, f"{A},whale,,base,,,")
    quick_indexer(*import_words("--version", "v1", "--retrieved", "2025-10-01T00:00"))

    listed = quick_indexer("labels", "list", COLUMNS="200").stdout.splitlines()

    assert nothing.stdout.startswith("no label sets: indexer labels import")
    assert listed[1].split()[:10] == [
        *("mine", "v1", "csv", "0.5", "1", "0", "0", "0", "2025-10-01", "00:00:00"),
    ]  # fmt: skip
    assert len(listed) == 2


def test_an_export_is_every_label_in_order(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    taken(
        connection, tmp_path, f"{B},whale,,base,,,", f"{A},whale,\N{SNOWMAN},ethereum,,,2025-10-01",
        f"{A},whale,,base,,2025-10-10,",
    )  # fmt: skip
    label(connection)

    as_csv = quick_indexer("labels", "export").stdout
    as_json = quick_indexer("labels", "export", "--format", "json", "--as-of", "2025-10-10").stdout

    read = list(csv.DictReader(as_csv.splitlines()))
    assert [
        (row["venue"], row["account"], row["confidence"], row["valid_from"], row["valid_to"])
        for row in read
    ] == [
        ("base", A, "0.8", "2025-10-10T00:00:00Z", "2026-10-01T00:00:00Z"),
        ("ethereum", A, "0.8", "", "2025-10-01T00:00:00Z"),
        ("base", B, "0.8", "", "2026-10-01T00:00:00Z"),
    ]
    assert json.loads(read[1]["evidence"])["sets"][0]["names"] == ["\N{SNOWMAN}"]
    assert [(one["venue"], one["account"]) for one in json.loads(as_json)] == [
        ("base", A),
        ("base", B),
    ]
    assert quick_indexer("labels", "export").stdout == as_csv


def test_an_export_of_nothing_is_a_header_or_an_empty_list(quick_indexer: Command) -> None:
    as_csv = quick_indexer("labels", "export").stdout
    as_json = quick_indexer("labels", "export", "--format", "json").stdout

    assert as_csv == ",".join(Label._fields) + "\n"
    assert json.loads(as_json) == []


def test_labels_are_measured_against_a_file_of_truth(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    register(connection, VAULT)
    taken(
        connection, tmp_path, f"{A},whale,,base,,,", f"{B},whale,,base,,,", f"{VAULT},whale,,*,,,"
    )
    label(connection)
    (tmp_path / "truth.csv").write_text(
        f"account,label,rule,venue,truth\n{A},whale,,aave_v3.base,yes\n{B},whale,,,no\n"
        f"{C},whale,,,yes\n{VAULT},whale,,,no\n"
    )

    as_table = quick_indexer("labels", "evaluate", "truth.csv", COLUMNS="200")
    as_json = quick_indexer("labels", "evaluate", "truth.csv", "--format", "json")

    half = {"share": "1/2", "low": "0.0945", "high": "0.9055"}
    counts = {"right": 1, "wrong": 1, "missed": 1, "rejected": 1, "unknown": 1, "unjudged": 0}
    assert json.loads(as_json.stdout) == {
        "lines": 4,
        "scores": [
            {"rule": rule, "label": "whale", **counts, "precision": half, "recall": half}
            for rule in ("*", "IMPORTED")
        ],
        "unknown_accounts": [C],
    }
    assert "0.5000 (0.0945 to 0.9055)" in as_table.stdout
    assert as_table.stderr == f"1 of 4 accounts are in no table: {C}\n"


def test_a_broken_file_of_truth_measures_nothing(quick_indexer: Command, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(f"account,label,truth\n{A},whale,yes\n{B},whale,perhaps\n")

    done = quick_indexer("labels", "evaluate", "truth.csv")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "indexer: truth.csv: nothing was evaluated, broken lines: 1: line 3: 'perhaps' is neither"
        " yes nor no\n"
    )
