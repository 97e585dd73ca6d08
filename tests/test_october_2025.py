"""The study of the published October 2025 numbers. Expected figures are those of the reference
(published figures and what it derived from them); the small case is worked out by hand."""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from indexer import labels
from indexer.errors import ConfigError
from indexer.label_files import Context
from indexer.store import label_sets, ledger
from indexer.store import labels as labeler
from indexer.store.database import Connection
from indexer.store.label_sets import Origin
from indexer.studies.october_2025.page import page
from indexer.studies.october_2025.published import (
    BURSTS,
    BY_ACCOUNT,
    BY_COIN,
    BY_SECOND,
    BY_TICKER,
    SAMPLE,
    TOTALS,
    Amount,
    Burst,
    Bursts,
    ByAccount,
    Coin,
    Deleveraged,
    Flagged,
    Leg,
    Metadata,
    Published,
    Second,
    Ticker,
    Timeline,
    TimeRange,
    Top,
    Totals,
    read,
)
from indexer.studies.october_2025.study import (
    Agreement,
    Conclusion,
    Evidence,
    NotEven,
    Pair,
    Parity,
    Placed,
    Ranked,
    Ranking,
    Reading,
    RowAgreement,
    Sample,
    Step,
    Study,
    parity,
    study,
)
from indexer.venues.hyperliquid import PROTOCOL_VAULTS

DOCUMENT = Path(__file__).parents[1] / "docs" / "october-2025.md"
FIRST_VAULT = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"
SECOND_VAULT = "0xb0a55f13d22f66e6d495ac98113841b2326e9540"
USER = "0x" + 40 * "1"
WINNER = "0x" + 40 * "2"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "indexer.studies.october_2025", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="session")
def folder(real_data: Path) -> Path:
    return real_data / "hyperliquid"


@pytest.fixture(scope="session")
def evidence(folder: Path) -> Evidence:
    return study(read(folder)).evidence


@pytest.fixture(scope="session")
def conclusion(folder: Path) -> Conclusion:
    outcome = study(read(folder)).outcome
    assert isinstance(outcome, Conclusion)
    return outcome


# -- the document --------------------------------------------------------------------------------


def test_the_document_is_what_the_module_prints(folder: Path) -> None:
    done = run(folder)

    assert (done.returncode, done.stderr) == (0, "")
    assert DOCUMENT.read_text() == done.stdout


def test_one_row_more_and_the_study_refuses_to_conclude(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data", copy_function=shutil.copyfile)
    (tmp_path / "data").chmod(0o755)
    path = tmp_path / "data" / BY_TICKER
    path.write_text(path.read_text().replace(",5419,2443,", ",5420,2443,"))

    done = run(tmp_path / "data")

    assert (done.returncode, done.stderr) == (0, "")
    assert "## Not even: the reading does not hold" in done.stdout
    assert "\n- BTC: rows odd\n" in done.stdout
    assert "| liquidation rows | 3 | 63,638 | 1 |" in done.stdout
    assert "| rows by ticker | 171 | 70 | 71 | 2 | 1 | 0 |" in done.stdout
    assert "Waterfall" not in done.stdout
    assert "14,327" not in done.stdout


def test_a_folder_without_the_files_is_one_line_of_error(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / BY_TICKER}: No such file or directory\n"


# -- the figures of the reference ----------------------------------------------------------------


def test_liquidations_less_adl_are_even_for_171_tickers_and_186_seconds(
    evidence: Evidence,
) -> None:
    assert evidence.tickers == Parity(171, 71, 71, 2, (), ())
    assert evidence.seconds == Parity(186, 53, 53, 83, (), ())
    # 103 differences that are not 0, all even: 2^-103
    assert evidence.seconds.coin_bits == 103
    assert evidence.seconds_without_adl == 86


def test_the_dollars_are_even_too_in_millionths(evidence: Evidence) -> None:
    assert evidence.money == Parity(171, 43, 43, 2, (), ())
    assert evidence.off_unit <= Decimal("0.1")
    assert evidence.equal_tickers == (("MET", 140, Decimal(0)), ("RUNE", 7, Decimal(0)))


def test_63_637_rows_are_14_327_takeovers_of_1_70_billion(conclusion: Conclusion) -> None:
    every = conclusion.all

    assert (every.liquidations, every.adls, every.takeovers, every.trades) == (
        63637, 34983, 14327, 49310,
    )  # fmt: skip
    assert (
        round(conclusion.published_usd), round(conclusion.liquidation_usd),
        round(conclusion.adl_usd), round(every.takeover_usd), round(every.trades_usd),
    ) == (7_614_154_356, 5_511_042_925, 2_103_111_431, 1_703_965_747, 3_807_077_178)  # fmt: skip
    assert every.trades_usd * 2 == conclusion.published_usd


def test_the_waterfall_ends_at_1_81_billion(conclusion: Conclusion) -> None:
    assert [(round(step.change), round(step.running)) for step in conclusion.steps] == [
        (2_103_111_431, 5_511_042_925),
        (1_703_965_747, 3_807_077_178),
        (1_999_288_399, 1_807_788_779),
    ]
    assert conclusion.users_usd == conclusion.steps[-1].running


def test_the_vaults_share_comes_from_their_published_amounts(conclusion: Conclusion) -> None:
    assert conclusion.vaults == (
        ("HLP Liquidator 2", SECOND_VAULT, Decimal("1299111627.3117304")),
        ("HLP Liquidator", FIRST_VAULT, Decimal("700176772.0161649")),
    )
    assert round(conclusion.direct_usd) == 103_823_032
    assert round(conclusion.users_usd) == 1_807_788_779
    # with the 95.1 % of the article instead
    assert round(conclusion.vaults_usd_by_share) == 2_000_058_971
    assert round(conclusion.users_usd_by_share) == 1_807_018_207


def test_the_largest_markets_by_takeovers(conclusion: Conclusion) -> None:
    """In hundred thousands of dollars, in millions the forced trades: as the reference has them."""
    found = {row.ticker: row for row in conclusion.tickers}
    largest = [found[ticker] for ticker in ("BTC", "ETH", "SOL", "HYPE", "XPL")]

    assert list(conclusion.tickers[:5]) == largest
    assert [(row.takeovers, round(row.takeover_usd, -5)) for row in largest] == [
        (1488, 584_400_000),
        (982, 300_100_000),
        (1266, 170_900_000),
        (1373, 151_100_000),
        (632, 56_400_000),
    ]
    assert [round(row.trades_usd, -6) for row in largest[:4]] == [
        1_205_000_000, 758_000_000, 447_000_000, 341_000_000,
    ]  # fmt: skip


def test_the_largest_bursts_have_equal_rows_on_both_sides(evidence: Evidence) -> None:
    assert [(placed.burst.liquidations, placed.burst.adls) for placed in evidence.bursts] == [
        (11279, 11279), (2915, 2915), (2468, 2468), (2248, 2248), (2226, 2226),
        (1664, 1664), (1179, 1179), (1087, 1087), (1035, 1035), (954, 954),
    ]  # fmt: skip
    assert evidence.bursts[2].second == Second(122, 3986, 2468)
    assert (evidence.seconds_before_adl, evidence.rows_before_adl) == (10, 710)


def test_the_sample_and_the_list_of_accounts_show_vaults(evidence: Evidence) -> None:
    assert evidence.sample == Sample(318, 254, 38, 0, 6)
    assert (evidence.flagged_rows, evidence.flagged_accounts) == (2924, 2819)
    assert evidence.flagged_vaults == (("HLP Liquidator 2", 2),)


def test_the_vault_leads_the_published_list_and_has_no_place_after(evidence: Evidence) -> None:
    by_fills, by_position, by_adl = evidence.rankings

    assert (by_fills.accounts, by_fills.vaults) == (2819, 1)
    assert [(one.account, one.vault, one.value, one.after) for one in by_fills.first] == [
        (SECOND_VAULT, "HLP Liquidator 2", 8082, None),
        ("0xc6ac58a7a63339898aeda32499a8238a46d88e84", None, 2185, 1),
        ("0x0a07d250f3ff9815299adf42894c5676f8021801", None, 899, 2),
        ("0x34365f472a3af2ff8167970a519931437e2c2094", None, 737, 3),
        ("0x044d0932b02f5045bc00e0a6818b7f98ef504681", None, 726, 4),
        ("0x7905cb0c114a3d2759e84558c2a3c2926a493f21", None, 692, 5),
    ]
    assert (by_position.accounts, by_position.vaults) == (2819, 1)
    assert [(one.account[:6], round(one.value), one.after) for one in by_position.first] == [
        ("0xd45d", 6_675_456, 1),
        ("0x9bba", 3_328_855, 2),
        ("0xb0a5", 2_507_298, None),
        ("0xd5d6", 1_083_400, 3),
        ("0x1392", 210_768, 4),
        ("0xe8df", 156_895, 5),
    ]
    assert (by_adl.accounts, by_adl.vaults) == (34, 2)
    assert [(one.vault, round(one.value), one.after) for one in by_adl.first[:3]] == [
        ("HLP Liquidator 2", 1_299_111_627, None),
        ("HLP Liquidator", 700_176_772, None),
        (None, 34_518_697, 1),
    ]
    assert [one.before for one in by_fills.first] == [1, 2, 3, 4, 5, 6]


def test_the_labeler_takes_the_published_list_and_leaves_the_vault_out(
    folder: Path, tmp_path: Path, connection: Connection
) -> None:
    flagged = {row.user_address for row in read(folder).btc_sol if row.was_liquidated == "True"}
    path = tmp_path / "flagged.csv"
    lines = "".join(f"{account},liquidated whale\n" for account in sorted(flagged))
    path.write_text(f"account,label\n{lines}")
    ledger.keep_vaults(connection, "hyperliquid", PROTOCOL_VAULTS)
    label_sets.import_file(
        connection, path, "csv", Origin("published", "oct10", D("0.5")), Context({}, "hyperliquid")
    )

    labeler.apply(connection, labels.rules())

    found = connection.execute("SELECT account FROM liq.labels WHERE rule = 'IMPORTED'").fetchall()
    assert (len(flagged), len(found)) == (2819, 2818)
    assert flagged - {str(account) for (account,) in found} == {SECOND_VAULT}


def test_the_files_agree_in_rows_exactly_and_in_dollars_to_a_cent(evidence: Evidence) -> None:
    assert {
        found.figure: (len(found.values), found.values[0][1], found.apart)
        for found in evidence.agreements
        if found.values[0][1] == int(found.values[0][1])
    } == {
        "liquidation rows": (3, 63637, 0),
        "ADL rows": (5, 34983, 0),
        "rows of both": (2, 98620, 0),
        "markets with ADL": (3, 162, 0),
        "seconds, or timestamps, with ADL": (2, 100, 0),
    }
    assert max(found.apart for found in evidence.agreements) == Decimal("0.000874")  # the time
    assert [(found.rows, found.apart) for found in evidence.row_agreements] == [
        (171, 0),
        (171, Decimal("2E-7")),
        (171, Decimal("1E-8")),
        (162, 0),
        (162, 0),
        (162, 0),
        (10, Decimal("0.003798")),
        (10, Decimal("0.00489")),
        (10, Decimal("0.004898")),
    ]


# -- a small case by hand ------------------------------------------------------------------------

# AAA: two takeovers of 10.5 together and three ADLs of 30. BBB: one takeover of 2.000001.
# CCC: one ADL of 5. All ADLs in second 2, two takeovers beside them, one takeover in second 0.
START = datetime(2025, 10, 10, 21, 15, 3, 500_000, UTC)
FIRST_ADL = datetime(2025, 10, 10, 21, 15, 5, 600_000, UTC)
D = Decimal
SMALL = Published(
    tickers=(
        Ticker("AAA", D(51), D(30), D(81), 7, 3, 10, D(-9), D(8), D(-1)),
        Ticker("BBB", D("4.000002"), D(0), D("4.000002"), 2, 0, 2, D(-1), D(0), D(-1)),
        Ticker("CCC", D(5), D(5), D(10), 1, 1, 2, D(-2), D(2), D(0)),
    ),
    seconds=Timeline(START, FIRST_ADL, (Second(0, 2, 0), Second(2, 8, 4))),
    totals=Totals(
        Amount(10, D("60.000002"), D(-12)),
        Amount(4, D(35), D(10)),
        Amount(14, D("95.000002")),
        {"BBB": Top(D(4), D(0), D(4))},
    ),
    bursts=Bursts(1, 2, FIRST_ADL, (Burst(FIRST_ADL, 4, 4),)),
    coins=(Coin("AAA", D(31), D(8), 3), Coin("CCC", D(5), D(2), 1)),
    accounts=ByAccount(
        Metadata(4, TimeRange(1760130905600, 1760130905600), D(36), 2),
        (Deleveraged(SECOND_VAULT, D(20)), Deleveraged(USER, D(10))),
    ),
    sample=(
        Leg(WINNER, D("0.5"), D("0.25"), SECOND_VAULT),
        Leg(WINNER, D(3), D(20), USER),
    ),
    btc_sol=(
        Flagged(SECOND_VAULT, "True", 5, D(2), D(100)),
        Flagged(USER, "True", 3, D(-4), D(50)),
        Flagged(USER, "True", 4, D("0.5"), D(100)),
        Flagged(WINNER, "False", 99, D(9), D(100)),
    ),
)
EVIDENCE = Evidence(
    tickers=Parity(3, 2, 2, 1, (), ()),
    seconds=Parity(2, 0, 0, 0, (), ()),
    money=Parity(3, 0, 0, 1, (), ()),
    off_unit=D(0),
    equal_tickers=(("CCC", 1, D(0)),),
    tickers_without_adl=1,
    seconds_without_adl=1,
    seconds_before_adl=1,
    seconds_before_adl_stated=2,
    rows_before_adl=2,
    bursts=(Placed(Burst(FIRST_ADL, 4, 4), Second(2, 8, 4)),),
    sample=Sample(legs=2, vault_legs=1, losing_users=1, own_loser=0, decimals=3),
    flagged_rows=3,
    flagged_accounts=2,
    flagged_vaults=(("HLP Liquidator 2", 1),),
    rankings=(
        Ranking(
            "fills in BTC and SOL, of accounts flagged as liquidated", 2, 1,
            (
                Ranked(USER, None, D(7), 1, 1),
                Ranked(SECOND_VAULT, "HLP Liquidator 2", D(5), 2, None),
            ),
        ),
        Ranking(
            "USD left in BTC and SOL at mark, of the same accounts", 2, 1,
            (
                Ranked(USER, None, D(250), 1, 1),
                Ranked(SECOND_VAULT, "HLP Liquidator 2", D(200), 2, None),
            ),
        ),
        Ranking(
            "USD that ADL took, of the accounts that it took most from", 2, 1,
            (
                Ranked(SECOND_VAULT, "HLP Liquidator 2", D(20), 1, None),
                Ranked(USER, None, D(10), 2, 1),
            ),
        ),
    ),
    agreements=(
        Agreement("liquidation rows", ((BY_TICKER, D(10)), (BY_SECOND, D(10)), (TOTALS, D(10)))),
        Agreement(
            "ADL rows",
            (
                (BY_TICKER, D(4)), (BY_SECOND, D(4)), (TOTALS, D(4)), (BY_COIN, D(4)),
                (BY_ACCOUNT, D(4)),
            ),
        ),
        Agreement("rows of both", ((BY_TICKER, D(14)), (TOTALS, D(14)))),
        Agreement("liquidations, USD", ((BY_TICKER, D("60.000002")), (TOTALS, D("60.000002")))),
        Agreement(
            "ADL, USD", ((BY_TICKER, D(35)), (TOTALS, D(35)), (BY_COIN, D(36)), (BY_ACCOUNT, D(36)))
        ),
        Agreement("both, USD", ((BY_TICKER, D("95.000002")), (TOTALS, D("95.000002")))),
        Agreement("liquidations, closed profit, USD", ((BY_TICKER, D(-12)), (TOTALS, D(-12)))),
        Agreement(
            "ADL, closed profit, USD", ((BY_TICKER, D(10)), (TOTALS, D(10)), (BY_COIN, D(10)))
        ),
        Agreement("markets with ADL", ((BY_TICKER, D(2)), (BY_COIN, D(2)), (BY_ACCOUNT, D(2)))),
        Agreement("seconds, or timestamps, with ADL", ((BY_SECOND, D(1)), (BURSTS, D(1)))),
        Agreement(
            "first ADL, seconds after the first liquidation row",
            ((BY_SECOND, D("2.1")), (BURSTS, D("2.1")), (BY_ACCOUNT, D("2.1"))),
        ),
    ),
    row_agreements=(
        RowAgreement("tickers: rows of both = liquidation + ADL", 3, D(0)),
        RowAgreement("tickers: USD of both = liquidation + ADL", 3, D(0)),
        RowAgreement("tickers: closed profit of both = liquidation + ADL", 3, D(0)),
        RowAgreement("ADL rows: tickers = coins", 2, D(0)),
        RowAgreement("ADL USD: tickers = coins", 2, D(1)),
        RowAgreement("ADL closed profit: tickers = coins", 2, D(0)),
        RowAgreement("liquidation USD: tickers = ten largest in totals, in cents", 1, D("2E-6")),
        RowAgreement("ADL USD: tickers = ten largest in totals, in cents", 1, D(0)),
        RowAgreement("USD of both: tickers = ten largest in totals, in cents", 1, D("2E-6")),
    ),
)  # fmt: skip
CONCLUSION = Conclusion(
    all=Reading("all", 10, 4, 3, D("12.500001"), 7, D("47.500001")),
    tickers=(
        Reading("AAA", 7, 3, 2, D("10.5"), 5, D("40.5")),
        Reading("BBB", 2, 0, 1, D("2.000001"), 1, D("2.000001")),
        Reading("CCC", 1, 1, 0, D(0), 1, D(5)),
    ),
    steps=(
        Step("winners' legs of ADL trades", D(35), D("60.000002")),
        Step("vaults' legs of takeovers", D("12.500001"), D("47.500001")),
        Step("ADL trades in which a vault of the exchange lost", D(20), D("27.500001")),
    ),
    published_usd=D("95.000002"),
    liquidation_usd=D("60.000002"),
    adl_usd=D(35),
    vaults=(("HLP Liquidator 2", SECOND_VAULT, D(20)),),
    vaults_usd=D(20),
    direct_usd=D(15),
    users_usd=D("27.500001"),
    vaults_usd_by_share=D("33.285"),
    users_usd_by_share=D("14.215001"),
    unlisted_usd=D(5),
)


def test_three_takeovers_and_four_adls_are_found_in_fourteen_rows() -> None:
    assert study(SMALL) == Study(EVIDENCE, CONCLUSION)


@pytest.mark.parametrize(
    ("ticker", "reasons"),
    [
        (
            Ticker("CCC", D(5), D(5), D(10), 2, 1, 3, D(-2), D(2), D(0)),
            ("CCC: rows odd",),
        ),
        (
            Ticker("CCC", D(5), D(5), D(10), 1, 3, 4, D(-2), D(2), D(0)),
            ("CCC: fewer liquidation rows than ADL rows",),
        ),
        (
            Ticker("CCC", D("5.000001"), D(5), D("10.000001"), 1, 1, 2, D(-2), D(2), D(0)),
            ("CCC: dollars odd",),
        ),
        (
            Ticker("CCC", D(5), D("5.000001"), D("10.000001"), 2, 1, 3, D(-2), D(2), D(0)),
            (
                "CCC: rows odd", "CCC: dollars odd",
                "CCC: fewer liquidation dollars than ADL dollars",
            ),
        ),
    ],
)  # fmt: skip
def test_a_ticker_that_breaks_the_reading_leaves_no_conclusion(
    ticker: Ticker, reasons: tuple[str, ...]
) -> None:
    published = msgspec.structs.replace(SMALL, tickers=(*SMALL.tickers[:2], ticker))

    assert study(published).outcome == NotEven(reasons)


def test_an_odd_second_leaves_no_conclusion_and_the_page_says_so() -> None:
    timeline = Timeline(START, FIRST_ADL, (Second(0, 2, 0), Second(2, 7, 4)))

    done = study(msgspec.structs.replace(SMALL, seconds=timeline))

    assert done.outcome == NotEven(("second 2: rows odd",))
    text = page(done)
    assert "## Not even: the reading does not hold" in text
    assert "- second 2: rows odd" in text
    assert "takeovers by" not in text
    assert "chance" not in text


def test_chances_are_counted_in_halvings() -> None:
    """Six parts, three of them odd: 20 ways to deal, more than 2^4; two differences not 0."""
    pairs = [
        Pair("a", 3, 1), Pair("b", 5, 5), Pair("c", 7, 7),
        Pair("d", 2, 2), Pair("e", 4, 4), Pair("f", 8, 0),
    ]  # fmt: skip

    found = parity(pairs)

    assert found == Parity(6, 3, 3, 4, (), ())
    assert (found.coin_bits, found.shuffle_bits) == (2, 4)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        (TOTALS, "{}", "Object missing required field `liquidations`"),
        (BY_SECOND, "<html>", "JSON is malformed: invalid character (byte 0)"),
        (BY_COIN, "coin,adl_notional\nBTC,1\n", "Object missing required field `closed_pnl`"),
        (SAMPLE, 'user\n"a', "unexpected end of data"),
    ],
)
def test_a_file_of_another_form_is_refused(
    folder: Path, tmp_path: Path, name: str, content: str, what: str
) -> None:
    for path in folder.glob("oct10_*"):
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / name).write_text(content)

    with pytest.raises(ConfigError) as caught:
        read(tmp_path)

    assert str(caught.value) == f"{tmp_path / name}: {what}"
