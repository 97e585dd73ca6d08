"""Label sets of others: what a file of each format says, and what is dropped or broken in it.

The samples are written by hand in the shape of the files that indexer/label_files.py names."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from indexer import label_truth
from indexer.errors import ConfigError
from indexer.label_files import Broken, Context, Dropped, Format, Said, read
from indexer.label_truth import ANY, Opinion, Score, Share, Truth

A = "0x" + 40 * "a"
B = "0x" + 40 * "b"
MIXED = "0x" + 20 * "aA"
HERE = Context({1: "ethereum", 10: "optimism", 8453: "base"})
NOON = datetime(2025, 10, 10, 12, tzinfo=UTC)
DAY = datetime(2025, 10, 10, tzinfo=UTC)

Statement = tuple[object, ...]


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def statements(
    path: Path, form: Format, context: Context = HERE
) -> list[Statement | Dropped | Broken]:
    """What a file says as (where, chain, account, label, name)."""
    return [
        (one.where, one.chain, one.account, one.label, one.name) if isinstance(one, Said) else one
        for one in read(path, form, context)
    ]


# -- the Open Labels Initiative ------------------------------------------------------------------

OLI: list[Mapping[str, object]] = [
    {"chain_id": "eip155:8453", "address": MIXED, "tag_id": "usage_category", "tag_value": "DEX"},
    {"chain_id": "eip155:any", "address": A, "tag_id": "is_eoa", "tag_value": "true"},
    {"chain_id": "eip155:999999", "address": B, "tag_id": "contract_name", "tag_value": "Router"},
    {"chain_id": "eip155:1", "address": B, "tag_id": "contract_name", "tag_value": ""},
    {"chain_id": "eip155:1", "address": B, "tag_id": "deployment_tx", "tag_value": "0x1"},
    {"chain_id": "SN_MAIN", "address": "0x01", "tag_id": "is_eoa", "tag_value": "true"},
    {"chain_id": "eip155:1", "address": B, "tag_id": "is_proxy", "tag_value": ""},
    {"chain_id": "eip155:1", "address": "0x12", "tag_id": "is_eoa", "tag_value": "true"},
]
SAID_OF_OLI = [
    ("base", A, "usage_category:dex", None),
    ("*", A, "is_eoa:true", None),
    ("eip155:999999", B, "alias", "Router"),
    Dropped("no name"),
    Dropped("a tag that does not say what the account is"),
    Dropped("not on an EVM chain"),
    "is_proxy has no value",
    "'0x12' is no address",
]


def without_where(found: list[Statement | Dropped | Broken]) -> list[object]:
    return [
        one if isinstance(one, Dropped) else one.what if isinstance(one, Broken) else one[1:]
        for one in found
    ]


def test_oli_rows_are_tags_with_their_values(tmp_path: Path) -> None:
    found = statements(written(tmp_path, "labels.json", OLI), "oli")

    assert without_where(found) == SAID_OF_OLI
    assert found[0][0] == "entry 1"


def test_oli_as_csv_says_the_same(tmp_path: Path) -> None:
    lines = [",".join(OLI[0]), *(",".join(map(str, row.values())) for row in OLI)]

    found = statements(written(tmp_path, "labels.csv", "\n".join(lines)), "oli")

    assert without_where(found) == SAID_OF_OLI
    assert found[0][0] == "line 2"


def test_oli_as_parquet_says_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "labels.parquet"
    nothing = {"revocation_time": float("nan")}  # as pandas writes a column with gaps
    parquet.write_table(pyarrow.Table.from_pylist([{**row, **nothing} for row in OLI]), path)

    found = statements(path, "oli")

    assert without_where(found) == SAID_OF_OLI
    assert found[0][0] == "row 1"


def test_what_an_attester_took_back_is_dropped(tmp_path: Path) -> None:
    tag = {"chain_id": "eip155:1", "address": A, "tag_id": "is_eoa", "value": "true"}
    rows = [{**tag, "revoked": True}, {**tag, "revoked": "True"}, {**tag, "revoked": False}]

    assert statements(written(tmp_path, "l.json", rows), "oli") == [
        Dropped("revoked"),
        Dropped("revoked"),
        ("entry 3", "ethereum", A, "is_eoa:true", None),
    ]


# -- explorer tags, sanctions, aliases -----------------------------------------------------------


def test_eth_labels_are_rows_with_a_name_tag(tmp_path: Path) -> None:
    rows = [
        {"address": MIXED, "chainId": 1, "label": "aave", "nameTag": "Aave: Pool"},
        {"address": A, "chainId": 10, "label": "fund", "nameTag": None},
        {"address": A, "chainId": 1, "nameTag": "no label"},
        {"address": A, "chainId": "one", "label": "fund"},
        "what is this",
    ]
    as_csv = f'address,chainId,label,nameTag\n"{MIXED}",1,"aave","Aave: Pool"\n"{A}",10,"fund",""\n'
    said = [("ethereum", A, "aave", "Aave: Pool"), ("optimism", A, "fund", None)]

    assert statements(written(tmp_path, "accounts.json", rows), "eth-labels") == [
        ("entry 1", *said[0]),
        ("entry 2", *said[1]),
        Broken("entry 3", "there is no label"),
        Broken("entry 4", "'eip155:one' is no chain that we know"),
        Broken("entry 5", "'what is this' is no row with columns"),
    ]
    found = statements(written(tmp_path, "accounts.csv", as_csv), "eth-labels")
    assert without_where(found) == said


def test_etherscan_labels_are_addresses_with_a_name_and_labels(tmp_path: Path) -> None:
    combined = {
        "": {"name": "Sum of 4 Accounts", "labels": ["aave", "fund"]},
        MIXED: {"name": "", "labels": ["Fund", "exchange"]},
        B: {"name": "KuCoin 2", "labels": []},
        "0xb": {"name": "KuCoin 2", "labels": ["kucoin"]},
        A: {"name": "KuCoin 3", "labels": "kucoin"},
    }

    found = statements(
        written(tmp_path, "combinedAllLabels.json", combined),
        "etherscan-labels",
        HERE._replace(chain="ethereum"),
    )

    assert found == [
        Dropped("no account"),
        ("entry 2", "ethereum", A, "fund", None),
        ("entry 2", "ethereum", A, "exchange", None),
        Dropped("no label"),
        Broken("entry 4", "'0xb' is no address"),
        Broken("entry 5", "labels is no list of texts"),
    ]


def test_an_etherscan_table_has_the_label_that_it_is_called(tmp_path: Path) -> None:
    table = f",Address,Name Tag,Balance,Txn Count\n0,{A},Fund: 0xaaa,0 ETH,7\n1,,Sum of 1,0 ETH,7\n"

    found = statements(
        written(tmp_path, "fund.csv", table), "etherscan-labels", HERE._replace(chain="base")
    )

    assert found == [("line 2", "base", A, "fund", "Fund: 0xaaa"), Dropped("no account")]


def test_sanctions_hold_on_every_chain(tmp_path: Path) -> None:
    tether = f"{MIXED}\n\n0x12\n16iWn2J1McqjToYLHSsAyS6En3QA8YQ91H\n"

    assert statements(written(tmp_path, "sanctioned_addresses_USDT.txt", tether), "ofac") == [
        ("line 1", "*", A, "sanctioned", None),
        Broken("line 3", "'0x12' is no address"),
        Dropped("not on an EVM chain"),
    ]
    found = statements(written(tmp_path, "sanctioned_addresses_ETH.json", [B, 7]), "ofac")
    assert found == [
        ("entry 1", "*", B, "sanctioned", None),
        Broken("entry 2", "'7' is no address"),
    ]


def test_aliases_without_a_name_are_dropped(tmp_path: Path) -> None:
    aliases = {MIXED: "Assistance Fund", B: " ", "me": "x", A: ["x"]}

    assert statements(written(tmp_path, "a.json", aliases), "hyperliquid-aliases") == [
        ("entry 1", "hyperliquid", A, "alias", "Assistance Fund"),
        Dropped("no name"),
        Broken("entry 3", "'me' is no address"),
        Broken("entry 4", f"the name of '{A}' is no text"),
    ]


def test_a_key_that_stands_twice_in_json_is_read_twice(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", f'{{"{A}": "one", "{A}": "two"}}')

    assert [said[4] for said in statements(path, "hyperliquid-aliases") if len(said) == 5] == [
        "one",
        "two",
    ]


# -- plain CSV -----------------------------------------------------------------------------------


def test_a_plain_row_may_say_chain_confidence_and_times(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "mine.csv",
        "account,label,name,chain,confidence,valid_from,valid_to\n"
        f"{MIXED}, Whale  watcher ,Al,base,0.50,2025-10-10,2025-10-10T14:00:00+02:00\n"
        f"{B}:7,fund,,*,,1760097600,\n",
    )

    assert list(read(path, "csv", HERE)) == [
        Said(
            1, "line 2", "base", A, "whale watcher", "Al", Decimal("0.50"), DAY, NOON,
            json.dumps(
                {
                    "account": MIXED, "label": " Whale  watcher ", "name": "Al", "chain": "base",
                    "confidence": "0.50", "valid_from": "2025-10-10",
                    "valid_to": "2025-10-10T14:00:00+02:00",
                }
            ),
        ),
        Said(
            2, "line 3", "*", f"{B}:7", "fund", None, Decimal(1), NOON, None,
            json.dumps(
                {
                    "account": f"{B}:7", "label": "fund", "name": "", "chain": "*",
                    "confidence": "", "valid_from": "1760097600", "valid_to": "",
                }
            ),
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (f"{A},whale,,moon,,,", "'moon' is no chain that we know"),
        (f"{A},whale,,,,,", "no chain is named"),
        ("0xabc,whale,,base,,,", "'0xabc' is no account"),
        (",whale,,base,,,", "'' is no account"),
        (f"{A}, ,,base,,,", "there is no label"),
        (f"{A},{201 * 'x'},,base,,,", "a label of more than 200 letters"),
        (f"{A},whale,,base,0,,", "'0' is no confidence above 0 to 1"),
        (f"{A},whale,,base,1.01,,", "'1.01' is no confidence above 0 to 1"),
        (f"{A},whale,,base,NaN,,", "'NaN' is no confidence above 0 to 1"),
        (f"{A},whale,,base,,2025-10-10T12:00,", "'2025-10-10T12:00' is no day and no time"),
        (f"{A},whale,,base,,,soon", "'soon' is no day and no time with a zone"),
        (f"{A},whale,,base,,2025-10-10,2025-10-10", "valid_to is not after valid_from"),
        (f"{A},whale", "2 values under 7 columns"),
        (f"{A},wh\0ale,,base,,,", "a NUL character in it"),
    ],
)
def test_a_broken_row_is_named_with_its_fault(tmp_path: Path, row: str, what: str) -> None:
    header = "account,label,name,chain,confidence,valid_from,valid_to"
    (found,) = read(written(tmp_path, "mine.csv", f"{header}\n{row}\n"), "csv", HERE)

    assert isinstance(found, Broken)
    assert (found.where, found.what.startswith(what)) == ("line 2", True)


def test_half_a_character_is_broken(tmp_path: Path) -> None:
    path = written(tmp_path, "a.json", f'{{"{A}": "\\ud83d"}}')

    assert statements(path, "hyperliquid-aliases") == [Broken("entry 1", "half a character in it")]


@pytest.mark.parametrize(
    ("name", "form", "content", "what"),
    [
        ("a.csv", "csv", "", "it is empty"),
        ("a.csv", "csv", "account\n", "no column label"),
        ("a.csv", "csv", "account,label,label\n", "two columns label"),
        ("a.csv", "csv", 'account,label\n"a', "line 2: unexpected end of data"),
        ("a.txt", "csv", "account,label\n", r"a file of csv ends with \.csv$"),
        ("a.json", "ofac", "[", "no JSON that we can read"),
        ("a.json", "ofac", "[NaN]", "no JSON that we can read: NaN is no number"),
        ("a.json", "ofac", 100_000 * "[", "no JSON that we can read: too deep"),
        ("a.json", "ofac", '"0x"', "neither a list nor an object"),
        ("a.csv", "etherscan-labels", "Address\n", "no column Name Tag"),
    ],
)
def test_what_is_no_file_of_the_format_is_refused(
    tmp_path: Path, name: str, form: Format, content: str, what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        list(read(written(tmp_path, name, content), form, HERE))


def test_brackets_in_texts_are_not_deep(tmp_path: Path) -> None:
    name = 100 * '[{\\"'

    assert statements(written(tmp_path, "a.json", {A: name}), "hyperliquid-aliases") == [
        ("entry 1", "hyperliquid", A, "alias", name)
    ]


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"account,label\n\xff,x\n")

    with pytest.raises(ConfigError, match="not UTF-8"):
        list(read(path, "csv", HERE))


def test_a_chain_that_nobody_knows_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'moon' is no chain that we know"):
        list(read(written(tmp_path, "a.csv", ""), "csv", HERE._replace(chain="moon")))


# -- truth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "of", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
        (81, 263, "0.2553", "0.3662"),
        (15, 148, "0.0624", "0.1605"),
        (0, 20, "0.0000", "0.1611"),
        (1, 29, "0.0061", "0.1718"),
        (20, 20, "0.8389", "1.0000"),  # the mirror of 0 of 20
    ],
)
def test_intervals_are_those_of_the_literature(part: int, of: int, low: str, high: str) -> None:
    share = Share(of, part)

    assert share.value == Fraction(part, of)
    assert str(share.interval) == f"(Decimal('{low}'), Decimal('{high}'))"


def test_a_share_of_nothing_is_unknown() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)


def truth(account: str, is_so: bool, **said: Any) -> Truth:
    nothing = {"label": None, "rule": None, "venue": None, "since": None, "until": None}
    return Truth(where="", account=account, is_so=is_so, **{**nothing, **said})


def opinion(account: str, rule: str, label: str = "whale", **said: Any) -> Opinion:
    nothing = {"venue": "hyperliquid", "since": None, "until": None}
    return Opinion(rule=rule, label=label, account=account, **{**nothing, **said})


def test_scores_are_of_all_rules_together_and_of_each() -> None:
    truths = [
        truth("a", True, label="whale"),
        truth("b", True, label="whale"),
        truth("c", True, label="whale"),
        truth("d", False, label="whale"),
        truth("e", False, label="whale"),
    ]
    opinions = [
        opinion("a", "EQUITY"),
        opinion("a", "REPEAT"),
        opinion("b", "REPEAT"),
        opinion("d", "EQUITY"),
        opinion("e", "SIZE_ABS", "episode"),
    ]
    unjudged = {("whale", ANY): 9, ("whale", "EQUITY"): 4}

    found = label_truth.evaluate(truths, opinions, unjudged, ["c"])

    assert found == [
        Score(ANY, "whale", right=2, wrong=1, missed=1, rejected=1, unknown=1, unjudged=9),
        Score("EQUITY", "whale", right=1, wrong=1, missed=2, rejected=1, unknown=1, unjudged=4),
        Score("REPEAT", "whale", right=2, wrong=0, missed=1, rejected=2, unknown=1, unjudged=0),
    ]
    assert (found[0].precision, found[0].recall) == (Share(3, 2), Share(3, 2))


def test_a_line_without_a_label_is_for_any_label_of_its_rule() -> None:
    truths = [truth("a", True, rule="SIZE_ABS"), truth("b", True, rule="SIZE_ABS")]

    found = label_truth.evaluate(truths, [opinion("a", "SIZE_ABS", "order")], {}, [])

    assert found == [
        Score("SIZE_ABS", ANY, right=1, wrong=0, missed=1, rejected=0, unknown=0, unjudged=0)
    ]


@pytest.mark.parametrize(
    ("said", "thought", "is_found"),
    [
        ({"venue": "aave_v3.base"}, {"venue": "aave_v3.base"}, True),
        ({"venue": "aave_v3.base"}, {"venue": "base"}, True),
        ({"venue": "aave_v3.base"}, {"venue": "*"}, True),
        ({"venue": "aave_v3.base"}, {"venue": "aave_v2.base"}, False),
        ({"venue": "hyperliquid"}, {"venue": "hyperliquid"}, True),
        ({"since": DAY}, {"until": DAY}, False),
        ({"since": DAY}, {"until": NOON}, True),
        ({"until": DAY}, {"since": DAY}, False),
        ({"until": NOON}, {"since": DAY}, True),
    ],
)
def test_truth_and_label_meet_in_venue_and_time(said: Any, thought: Any, is_found: bool) -> None:
    (score,) = label_truth.evaluate(
        [truth("a", True, rule="EQUITY", label="whale", **said)],
        [opinion("a", "EQUITY", **thought)],
        {},
        [],
    )

    assert (score.right, score.missed) == (is_found, not is_found)


def test_a_file_of_truth_is_read_whole(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "truth.csv",
        f"account,label,rule,venue,truth,from,to\n{MIXED},Whale,,,yes,,\n"
        f"{B},,EQUITY,hyperliquid,no,2025-10-10,{int(NOON.timestamp())}\n",
    )

    assert label_truth.read(path, {"EQUITY"}) == [
        Truth("line 2", A, "whale", None, None, True, None, None),
        Truth("line 3", B, None, "EQUITY", "hyperliquid", False, DAY, NOON),
    ]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([f"{A},,,yes"], "line 2: neither a label nor a rule$"),
        ([f"{A},,EQITY,yes"], "line 2: 'EQITY' is no rule$"),
        ([f"{A},whale,,maybe"], "line 2: 'maybe' is neither yes nor no$"),
        (["0x1,whale,,yes", "0x2,whale,,no"], "broken lines: 2: line 2: '0x1' is .*; line 3: "),
        ([f"{A},whale,,yes", f"{A},whale,,no"], "line 3: the opposite of line 2$"),
        ([f"{A},whale,,yes", f"{A},Whale,,yes"], "line 3: the same as line 2$"),
        ([f"{A},whale,,yes", "x"], "line 3: 1 values under 4 columns$"),
        ([f"{n:#042x},whale,,?" for n in range(7)], "lines: 7: .*; and 2 more$"),
        ([], "there is no truth in it$"),
    ],
)
def test_a_broken_file_of_truth_is_refused_whole(
    tmp_path: Path, lines: list[str], what: str
) -> None:
    path = written(tmp_path, "truth.csv", "\n".join(["account,label,rule,truth", *lines]))

    with pytest.raises(ConfigError, match=what):
        label_truth.read(path, {"EQUITY"})
