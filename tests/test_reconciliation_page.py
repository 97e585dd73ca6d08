"""A reconciliation says all its numbers, and says them safely, in all four formats."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from html import escape, unescape
from io import StringIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from rich.console import Console

from indexer.methodology.reconcile import (
    Affected,
    Counted,
    Covered,
    Difference,
    Moved,
    Near,
    OfVenue,
    Outside,
    Part,
    Reconciliation,
    Row,
    Rows,
    Sensitivity,
    Side,
    check_partition,
    residual,
    waterfall,
)
from indexer.methodology.windows import Window
from indexer.report.chart import Tick
from indexer.report.reconciliation import to_html, to_json, to_markdown, to_terminal
from indexer.report.reconciliation_chart import Range, draw
from tests.conftest import Browser

HOSTILE = "<script>alert(1)</script>[red]|`x`*b*\x1b[31m\x07\u202e\x9b1m\"'&https://evil.example"
FIRST, SECOND = "0x" + "ab" * 20, "0x" + "cd" * 20
DAY = Window(
    said="2025-10-10",
    low=datetime(2025, 10, 10, tzinfo=UTC),
    high=datetime(2025, 10, 11, tzinfo=UTC),
)
AT = datetime(2025, 10, 10, 21, 16, 4, 831874, tzinfo=UTC)


def usd(text: str) -> Decimal:
    return Decimal(text)


A = Side(
    definition_id="gross_legs/v1",
    definition_hash="1a" * 32,
    fidelity="exact",
    says="Every leg that carries a liquidation mark.",
    paragraph_en="Counted are, of perpetuals, all legs.",
    paragraph_zh="统计永续合约的全部成交腿。",
    window=DAY,
    usd=usd("7614154356"),
    unvalued=0,
    counts={"record": 98620, "fill": 49310, "episode": 19337, "account": 19301},
    long_usd=usd("7000000000.25"),
    short_usd=usd("614154355.5"),
    by_venue=(OfVenue("hyperliquid", usd("7614154356"), 98620),),
    labels_as_of=None,
    price_set="par",
)
B = Side(
    definition_id="strict/v1",
    definition_hash="2b" * 32,
    fidelity="approximate",
    says="Forced closes of users' own positions.",
    paragraph_en="Counted are, of users, forced closes.",
    paragraph_zh="统计用户的强平。",
    window=DAY,
    usd=usd("1798812456.78"),
    unvalued=12,
    counts={"record": 20111, "fill": 20112, "order": 15001, "episode": 9001, "account": 8999},
    long_usd=usd("1600000000.11"),
    short_usd=usd("198000000.22"),
    by_venue=(
        OfVenue("hyperliquid", usd("1798000000.33"), 20100, 12),
        OfVenue("aave_v3.ethereum", usd("812456.45"), 11),
    ),
    labels_as_of=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    price_set="prices 2026-01-02",
)
OF_GROUP = {
    frozenset(): usd("7614154356"),
    frozenset({"leg"}): usd("3807077178"),
    frozenset({"party"}): usd("3614036414"),
    frozenset({"valuation"}): usd("7590000000.10"),
    frozenset({"leg", "party"}): usd("1807018207"),
    frozenset({"leg", "valuation"}): usd("3795000000.05"),
    frozenset({"party", "valuation"}): usd("3600000000"),
    frozenset({"leg", "party", "valuation"}): usd("1799123456.78"),
}


def hybrid(of_b: frozenset[str]) -> Decimal:
    """The methods add 234,000 where vaults count and take 311,000 where they do not."""
    methods = usd("-311000") if "party" in of_b else usd("234000")
    return OF_GROUP[of_b - {"methods"}] + methods * ("methods" in of_b)


GROUPS = ("methods", "party", "leg", "valuation")
TOTALS = {
    frozenset(of_b): hybrid(frozenset(of_b))
    for size in range(5)
    for of_b in combinations(GROUPS, size)
}
AFFECTED = {
    "methods": Affected(34983, 0, (), "SELECT * FROM liq.moved('methods')"),
    "party": Affected(
        10244,
        7,
        (
            Moved("hyperliquid", FIRST, usd("-330000000.07")),
            Moved("hyperliquid", SECOND, usd("1000.5")),
        ),
        "SELECT *\nFROM liq.moved('party')",
    ),
}
PARTS = (
    Part("only_a", "methods", 34983, 0, usd("-2103111431"), "SELECT 'only_a, methods'"),
    Part("only_a", "leg", 14327, 3, usd("-1703965747.22"), "SELECT 'only_a, leg'"),
    Part("only_b", "methods", 11, 0, usd("812456.45"), "SELECT 'only_b'"),
    Part("revalued", "valuation", 20100, 12, usd("-2009077177.45"), "SELECT 'revalued'"),
)
ROWS = Rows(
    only_a=(Row("leg", "k1", "hyperliquid", FIRST, "ETH", AT, usd("2500000.75"), None),),
    only_b=(Row("methods", "k2", "aave_v3.ethereum", SECOND, "WETH", AT, None, usd("812400.45")),),
    revalued=(Row("valuation", "k3", "hyperliquid", SECOND, "BTC", AT, usd("9.25"), usd("8.75")),),
)
REPORT = Reconciliation(
    a=A,
    b=B,
    differences=(
        Difference("methods", "All methods count.", "Book, takeovers and ADL count."),
        Difference("party", "Vaults count.", "Vaults do not count."),
    ),
    steps=waterfall(GROUPS, TOTALS, AFFECTED),
    parts=PARTS,
    rows=ROWS,
    sensitivity=(
        Sensitivity(
            "episode gap", "60s", Counted(usd("7614154356"), 0, 23456), Counted(usd("1.5"), 2, 9002)
        ),
    ),
    near=(),
    residual_usd=None,
    coverage=(
        Covered("hyperliquid", usd("1"), True, 0, 777291599, AT),
        Covered("aave_v3.ethereum", usd("0.99999"), False, 2, 23550000, AT),
    ),
    is_simulated=False,
    as_of=datetime(2026, 1, 3, tzinfo=UTC),
    command="indexer reconcile gross_legs/v1 strict/v1 --window 2025-10-10",
)  # fmt: skip


def against(outside: Outside) -> Reconciliation:
    """The report with a number in the place of B."""
    near = (
        Near("natural_day_cn/v1", "exact", usd("1810000000"), 4, usd("89999999.5")),
        Near("strict/v1", "exact", usd("1798812456.78"), 12, usd("101187542.72")),
    )
    return msgspec.structs.replace(
        REPORT, b=outside, near=near, residual_usd=residual(REPORT.a, outside)
    )


CLAIM = Outside(usd=usd("1899999999.5"), source="a newspaper", stated_method="24 hours, all venues")
SUPPOSED = against(msgspec.structs.replace(CLAIM, meant=B))
UNEXPLAINED = msgspec.structs.replace(
    against(CLAIM), steps=(), parts=(), rows=Rows(), differences=(), sensitivity=()
)


def terminal(report: Reconciliation, width: int = 200) -> str:
    written = StringIO()
    to_terminal(report, Console(file=written, width=width, force_terminal=False))
    return written.getvalue()


def shown(report: Reconciliation) -> list[str]:
    """For people: the page, the Markdown, the terminal, wide and narrow."""
    return [to_html(report), to_markdown(report), terminal(report), terminal(report, 80)]


def joined(report: Reconciliation) -> list[str]:
    """The words that a reader sees: no markup, no line ends."""
    page, markdown, wide, narrow = shown(report)
    page = unescape(re.sub(r"<[^>]+>", " ", page.partition("</style>")[2]))
    markdown = re.sub(r"\\(?=\W|_)", "", markdown.replace("<br>", " "))
    return [re.sub(r"\s+", " ", text) for text in (page, unescape(markdown), wide, narrow)]


def missing(words: list[str], texts: list[str]) -> list[list[str]]:
    return [[word for word in words if word not in text] for text in texts]


# -- the numbers ---------------------------------------------------------------------------------


def test_the_sample_is_a_true_reconciliation() -> None:
    check_partition(PARTS, A.usd, B.usd)
    assert REPORT.steps[-1].running_usd == B.usd


def test_the_steps_are_in_every_format() -> None:
    expected = [
        # A, B, B less A
        *("$7,614,154,356.00", "$1,798,812,456.78", "-$5,815,341,899.22", "-76.4 % of A"),
        # of each step: change, share of A, running total, least, most, mean
        *("+$234,000.00", "0.0 %", "$7,614,388,356.00", "-$311,000.00", "to +$234,000.00"),
        *("-$38,500.00", "-$4,000,662,942.00", "-52.5 %", "$3,613,725,414.00"),
        *("to -$1,995,876,543.27", "-$2,997,280,490.27", "-$1,807,018,207.00", "-23.7 %"),
        *("$1,806,707,207.00", "-$3,807,077,178.00", "to -$1,800,876,543.22"),
        *("-$2,802,987,608.25", "-$7,894,750.22", "-0.1 %", "-$24,154,355.90"),
        *("to -$7,894,750.22", "-$15,035,300.70", "34,983", "10,244", "(7 without a value)"),
        # accounts, SQL
        *("-$330,000,000.07", "+$1,000.50", FIRST, SECOND),
    ]
    assert missing(expected, joined(REPORT)) == [[]] * 4


def test_the_sql_of_rows_is_in_the_files_and_the_terminal_says_so() -> None:
    page, markdown, wide, _ = joined(REPORT)
    queries = ["FROM liq.moved(", "SELECT 'only_a, leg'", "SELECT 'only_b'", "SELECT 'revalued'"]

    assert missing(queries, [page, markdown]) == [[], []]
    assert missing(queries, [wide]) == [queries]
    assert "the SQL of these rows: --format html, md or json" in wide


def test_both_definitions_are_in_every_format() -> None:
    expected = [
        *("gross_legs/v1", "1a" * 32, "exact", "Every leg that carries a liquidation mark."),
        *("strict/v1", "2b" * 32, "approximate", "Forced closes of users' own positions."),
        *("from 2025-10-10 00:00:00 UTC up to, not including, 2025-10-11 00:00:00 UTC",),
        *("asked as 2025-10-10", "no label asked for", "2026-01-02 03:04:05 UTC"),
        *("prices 2026-01-02", "All methods count.", "Book, takeovers and ADL count."),
        *("Counted are, of perpetuals, all legs.", "统计永续合约的全部成交腿。"),
        *("Counted are, of users, forced closes.", "统计用户的强平。"),
    ]
    assert missing(expected, joined(REPORT)) == [[]] * 4


def test_counts_splits_and_sensitivity_are_in_every_format() -> None:
    expected = [
        *("98,620", "49,310", "19,337", "19,301", "20,111", "20,112", "15,001", "9,001", "8,999"),
        *("$7,000,000,000.25", "$614,154,355.50", "$0.25", "(98,620 records)"),
        *("$1,600,000,000.11", "$198,000,000.22", "$812,456.45", "(11 records)"),
        *("$1,798,000,000.33", "(20,100 records, 12 rows without a value)"),
        *("episode gap", "60s", "23,456", "$1.50", "(2 rows without a value)", "9,002"),
    ]
    assert missing(expected, joined(REPORT)) == [[]] * 4


def test_parts_and_rows_are_in_every_format() -> None:
    expected = [
        *("-$2,103,111,431.00", "14,327", "(3 without a value)", "-$1,703,965,747.22"),
        *("+$812,456.45", "20,100", "-$2,009,077,177.45", "69,421", "-$5,815,341,899.22"),
        *("$2,500,000.75", "$812,400.45", "$9.25", "$8.75", "2025-10-10 21:16:04", "WETH", "k3"),
    ]
    assert missing(expected, joined(REPORT)) == [[]] * 4


@pytest.mark.parametrize("report", [REPORT, UNEXPLAINED], ids=["definition", "number"])
def test_every_format_says_how_to_get_it_again_and_as_of_when(report: Reconciliation) -> None:
    expected = [
        *(report.command, "777,291,599", "23,550,000", "21:16:04.831874 UTC"),
        *("database read 2026-01-03 00:00:00 UTC", "99.99 %", "100.00 %"),
    ]
    assert missing(expected, joined(report)) == [[]] * 4


def test_what_no_definition_explains_has_a_line_of_its_own() -> None:
    expected = [
        *("B: outside number", "$1,899,999,999.50", "a newspaper", "24 hours, all venues"),
        *("If it meant strict/v1, which is a supposition", "B as supposed: strict/v1"),
        *("Unexplained: +$101,187,542.72. It is spread over no step", "5.3 % of B"),
        *("natural_day_cn/v1", "$1,810,000,000.00", "(4 rows without a value)", "+$89,999,999.50"),
    ]
    assert missing(expected, joined(SUPPOSED)) == [[]] * 4


def test_a_number_that_is_not_explained_at_all_has_no_steps() -> None:
    expected = [
        *("Nobody has said what B means, so no step leads to it.", "-$5,714,154,356.50"),
        *("Unexplained: -$5,714,154,356.50. It is spread over no step", "The definition"),
    ]
    assert missing(expected, joined(UNEXPLAINED)) == [[]] * 4
    assert [text for text in shown(UNEXPLAINED) if "Shapley" in text or "supposed" in text] == []


def test_a_source_that_states_no_method_is_said_to() -> None:
    bare = msgspec.structs.replace(UNEXPLAINED, b=Outside(usd=usd("190e6"), source="a platform"))
    assert missing(["B is a number of a platform. It states no method."], joined(bare)) == [[]] * 4


def test_definitions_that_do_not_differ_say_so() -> None:
    same = msgspec.structs.replace(REPORT, b=A, steps=(), differences=(), parts=(), rows=Rows())
    assert missing(["The definitions differ in no group."], joined(same)) == [[]] * 4


def test_what_could_mislead_is_said() -> None:
    expected = [
        "B has 12 rows without a value: its total is of the others.",
        "B is approximate: the same idea as its model, from other data.",
        "The windows were not read whole: both totals may lack liquidations.",
        "Whether the step methods adds or takes away depends on the order of steps.",
    ]
    assert missing(expected, joined(REPORT)) == [[]] * 4


def test_complete_is_said_where_all_venues_were_read_whole() -> None:
    whole = msgspec.structs.replace(REPORT, coverage=REPORT.coverage[:1])
    assert missing(["Complete", "1 of 1 venue read whole"], joined(whole)) == [[]] * 4
    assert missing(["Not complete", "1 of 2 venues read whole"], joined(REPORT)) == [[]] * 4


@pytest.mark.parametrize("coverage", [(), REPORT.coverage])
def test_complete_is_not_said_where_something_was_not_read(coverage: tuple[Covered, ...]) -> None:
    report = msgspec.structs.replace(REPORT, coverage=coverage)
    said = " ".join(shown(report)).lower().replace("not complete", "")
    assert "complete" not in said


def test_simulated_data_says_so_in_every_format() -> None:
    simulated = msgspec.structs.replace(REPORT, is_simulated=True)
    assert missing(["SIMULATED DATA", "ever existed"], joined(simulated)) == [[]] * 4
    assert json.loads(to_json(simulated))["is_simulated"] is True
    assert [text for text in shown(REPORT) if "SIMULATED" in text] == []


@pytest.mark.parametrize("report", [REPORT, SUPPOSED, UNEXPLAINED])
def test_the_json_has_the_same_numbers(report: Reconciliation) -> None:
    written = to_json(report)
    assert msgspec.json.decode(written, type=Reconciliation) == report
    assert json.loads(written)["a"]["usd"] == "7614154356"
    assert json.loads(written)["coverage"][1]["share"] == "0.99999"


@pytest.mark.parametrize("width", [80, 120, 150, 200])
def test_nothing_is_cut_off_in_a_terminal(width: int) -> None:
    said = terminal(REPORT, width)
    assert "…" not in said
    assert [
        word for word in (FIRST, SECOND, "1a" * 32, "-$4,000,662,942.00") if word not in said
    ] == []


# -- the chart -----------------------------------------------------------------------------------


def test_bars_begin_where_the_one_before_ended() -> None:
    """From 100 up by 60, which could have been down by 20, to 160; the axis goes to 200."""
    totals = {frozenset[str](): usd("100"), frozenset({"leg"}): usd("160")}
    step = msgspec.structs.replace(waterfall(["leg"], totals, {})[0], least_usd=usd("-20"))
    report = msgspec.structs.replace(
        REPORT,
        a=msgspec.structs.replace(A, usd=usd("100")),
        b=msgspec.structs.replace(B, usd=usd("160")),
        steps=(step,),
    )
    drawing = draw(report)
    assert [
        (bar.name, bar.rect.kind, bar.rect.y, bar.rect.height, bar.end) for bar in drawing.bars
    ] == [
        ("A", "total", usd("50"), usd("50"), usd("50")),
        ("leg", "up", usd("20"), usd("30"), usd("20")),
        ("B", "total", usd("20"), usd("80"), usd("20")),
    ]
    assert [bar.range for bar in drawing.bars] == [
        None,
        Range(usd("50"), usd("47.33"), usd("52.67"), usd("20"), usd("60")),
        None,
    ]
    assert drawing.up == (
        Tick(usd("100"), "$0"), Tick(usd("75"), "$50"), Tick(usd("50"), "$100"),
        Tick(usd("25"), "$150"), Tick(usd("0"), "$200"),
    )  # fmt: skip


def test_what_is_unexplained_leads_from_the_supposed_total_to_the_number() -> None:
    names = [(bar.name, bar.rect.kind, bar.usd) for bar in draw(SUPPOSED).bars[-3:]]
    assert names == [
        ("supposed", "total", usd("1798812456.78")),
        ("unexplained", "unexplained", usd("101187542.72")),
        ("B", "total", usd("1899999999.5")),
    ]


def test_totals_of_nothing_and_below_nothing_can_be_drawn() -> None:
    nothing = msgspec.structs.replace(A, usd=usd("0"))
    loss = msgspec.structs.replace(A, usd=usd("-80"))
    empty = draw(msgspec.structs.replace(REPORT, a=nothing, b=nothing, steps=()))
    below = draw(msgspec.structs.replace(REPORT, a=loss, b=nothing, steps=()))
    assert [(bar.rect.y, bar.rect.height) for bar in empty.bars] == [(usd("100"), usd("0.5"))] * 2
    assert [(bar.rect.y, bar.rect.height) for bar in below.bars] == [
        (usd("0"), usd("100")),
        (usd("0"), usd("0.5")),
    ]


@pytest.mark.parametrize("report", [REPORT, SUPPOSED, UNEXPLAINED])
def test_the_chart_is_valid_and_described(report: Reconciliation) -> None:
    (svg,) = re.findall(r"<svg.*?</svg>", to_html(report), re.DOTALL)
    root = ElementTree.fromstring(svg)
    assert root.findtext("title") == "Waterfall from A to B"
    assert f"to B, ${report.b.usd:,.2f}" in str(root.findtext("desc"))
    assert len(root.findall("g/rect")) == len(draw(report).bars)
    assert root.get("aria-labelledby") == "chart-title chart-words"


# -- hostile words -------------------------------------------------------------------------------


def hostile_side(side: Side) -> Side:
    return msgspec.structs.replace(
        side, definition_id=HOSTILE, says=HOSTILE, paragraph_en=HOSTILE, paragraph_zh=HOSTILE,
        price_set=HOSTILE, by_venue=(OfVenue(HOSTILE, side.usd, 1),),
        window=msgspec.structs.replace(DAY, said=HOSTILE),
    )  # fmt: skip


ROW = Row(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, AT, usd("1"), usd("2"))
HOSTILE_REPORT = msgspec.structs.replace(
    REPORT,
    a=hostile_side(A),
    b=Outside(usd=usd("190e6"), source=HOSTILE, stated_method=HOSTILE, meant=hostile_side(B)),
    differences=(Difference("party", HOSTILE, HOSTILE),),
    steps=(
        msgspec.structs.replace(
            REPORT.steps[0], affected=Affected(1, 0, (Moved(HOSTILE, HOSTILE, usd("1")),), HOSTILE)
        ),
    ),
    parts=(Part("only_a", "leg", 1, 0, usd("1"), f"```\n{HOSTILE}\n````"),),
    rows=Rows((ROW,), (ROW,), (ROW,)),
    sensitivity=(Sensitivity(HOSTILE, HOSTILE, Counted(usd("1"), 0, 1), None),),
    near=(Near(HOSTILE, "exact", usd("1"), 0, usd("1")),),
    residual_usd=usd("1"),
    coverage=(Covered(HOSTILE, usd("1"), True, 0, 1, AT),),
    command=f"indexer reconcile '{HOSTILE}'",
)
UNPRINTABLE = "\x1b\x07\u202e\x9b"


def test_hostile_words_are_text_in_html() -> None:
    page = to_html(HOSTILE_REPORT)
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;[red]|") > 40
    assert [c for c in UNPRINTABLE if c in page] == []
    assert loaded_from_elsewhere(page) == []


def test_hostile_words_are_text_in_markdown() -> None:
    written = to_markdown(HOSTILE_REPORT)
    prose = re.sub(r"(?ms)^(`{3,})\w+\n.*?^\1$", "", written)
    assert [word for word in ("<script", "https://", "[red]") if word in prose] == []
    assert re.findall(r"(?<!\\)`", prose) == []
    assert "\\[red\\]\\|\\`x\\`" in prose
    assert uneven_rows(written) == []
    assert [c for c in UNPRINTABLE if c in written] == []


def test_sql_cannot_end_its_block_in_markdown() -> None:
    sql = "SELECT '\n```\n````\n'"
    part = msgspec.structs.replace(PARTS[0], sql=sql)
    written = to_markdown(msgspec.structs.replace(REPORT, parts=(part,)))
    assert f"\n`````sql\n{sql}\n`````\n" in written


@pytest.mark.parametrize("width", [80, 250])
def test_hostile_words_are_text_in_a_terminal(width: int) -> None:
    written = StringIO()
    console = Console(file=written, width=width, force_terminal=True, no_color=True)
    to_terminal(HOSTILE_REPORT, console)
    said = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert "[red]|" in said
    assert [c for c in UNPRINTABLE if c in said] == []


def test_hostile_words_come_back_whole_from_json() -> None:
    written = to_json(HOSTILE_REPORT)
    assert written.isascii()
    assert msgspec.json.decode(written, type=Reconciliation) == HOSTILE_REPORT


@pytest.mark.parametrize("report", [REPORT, SUPPOSED, UNEXPLAINED])
def test_every_row_of_a_markdown_table_has_the_cells_of_its_header(report: Reconciliation) -> None:
    assert uneven_rows(to_markdown(report)) == []


def uneven_rows(markdown: str) -> list[str]:
    """Tables whose rows do not all have the same number of unescaped pipes."""
    tables = [part for part in markdown.split("\n\n") if part.startswith("| ")]
    assert len(tables) > 3
    return [
        table
        for table in tables
        if len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) > 1
    ]


def loaded_from_elsewhere(page: str) -> list[str]:
    """What a browser would fetch: any src, href, import or url() but the empty icon."""
    found = re.findall(
        r"""(?:src|href|srcset|action)\s*=\s*["']?[^"'>\s]*|url\([^)]*|@import""", page
    )
    return [what for what in found if what != 'href="data:,']


def test_the_page_loads_nothing() -> None:
    page = to_html(REPORT)
    assert loaded_from_elsewhere(page) == []
    assert "://" not in page
    assert "default-src 'none'" in page


def test_the_page_has_headers_for_those_who_hear_it() -> None:
    page = to_html(SUPPOSED)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert re.findall(r"<th(?! scope=)[ >]", page) == []
    assert set(re.findall(r'aria-labelledby="([\w-]+)"', page)) <= set(ids)
    assert len(ids) == len(set(ids))
    assert '<html lang="en">' in page
    assert page.count('lang="zh"') == 2


def test_the_page_fits_a_phone_in_a_real_browser(chromium: Browser, tmp_path: Path) -> None:
    # in a frame, because a headless window is never narrower than 500 px
    measure = "parent.document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    page = re.sub(r"<meta http-equiv[^>]*>", "", to_html(HOSTILE_REPORT))
    page = page.replace("</body>", f"<script>{measure}</script></body>")
    path = tmp_path / "phone.html"
    frame = f'<iframe width="390" height="800" style="border:0" srcdoc="{escape(page)}"></iframe>'
    path.write_text(f"<title>-</title>{frame}", encoding="utf-8")
    dumped = chromium(path, "--dump-dom")
    assert re.findall(r"<title>(\d+ of \d+)</title>", dumped) == ["390 of 390"]
