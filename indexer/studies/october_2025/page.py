"""The study as Markdown: docs/october-2025.md."""

import re
import textwrap
from collections.abc import Iterable
from decimal import Decimal

from indexer.studies.october_2025.published import ORIGINS
from indexer.studies.october_2025.study import (
    PUBLISHED_VAULT_SHARE,
    Conclusion,
    Evidence,
    NotEven,
    Parity,
    Ranking,
    Study,
    total,
)

LARGEST = 10  # tickers with a line of their own
WIDTH = 100
TICK_RULE = "https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/tick-and-lot-size"

HEAD = """# 10 October 2025: what the published rows are

Made by `python -m indexer.studies.october_2025 FOLDER` from the published files that stand at the
end. A *row* is a row of the publisher, "ADL" is auto-deleveraging, dollars are price times size of
the fill. The window is 21:15 to 21:27 UTC.
"""

INFERENCE = """
## What is arithmetic and what is inference

Arithmetic: every sum, difference, parity and half on this page.

Inference, in the order in which the figures need it:

1. *A liquidation row is a leg.* The publisher takes each fill whose `dir` holds "Liquidated". Of a
   takeover that is published in full elsewhere, both legs say so, the account's and the vault's.
2. *An ADL trade has one liquidation row.* The winner's leg says "Auto-Deleveraging"; that the
   loser's says "Liquidated" follows from the equal rows above.
3. *The rest are takeovers of users' positions.* Pairs of "Liquidated" rows without ADL are read as
   an account's and a vault's leg. The files do not name the two sides of any of these rows.
4. *Both legs of a trade have one price and one size*, so that half the dollars are the trade's.
5. *The two accounts that lost most in ADL are vaults of the exchange*, as listed in
   tradingstrategy-ai/web3-ethereum-defi:eth_defi/hyperliquid/constants.py.

The raw fills of that hour, grouped by trade id, would settle 1 to 4; they are not in these files.
"""


def page(study: Study) -> str:
    """The whole page."""
    evidence = study.evidence
    match study.outcome:
        case Conclusion() as found:
            parts = [
                _short(found), _parities(evidence), _chances(evidence), _support(evidence),
                INFERENCE, _waterfall(found), _tickers(found), _limits(found),
            ]  # fmt: skip
        case NotEven(broken):
            parts = [_refusal(broken), _parities(evidence)]
    text = "\n\n".join([HEAD, *parts, _rankings(evidence), _agreements(evidence), _sources()])
    return "\n\n".join(_filled(block) for block in re.split(r"\n{2,}", text.strip())) + "\n"


def _short(found: Conclusion) -> str:
    every = found.all
    table = _table(
        ("", "Rows or trades", "USD"),
        [
            ("published as liquidations", _count(every.liquidations), _usd(found.liquidation_usd)),
            ("published as ADL", _count(every.adls), _usd(found.adl_usd)),
            ("published sum", _count(every.liquidations + every.adls), _usd(found.published_usd)),
            (
                "takeovers by the exchange's vaults",
                _count(every.takeovers),
                _usd(every.takeover_usd),
            ),
            ("ADL trades", _count(every.adls), _usd(found.adl_usd)),
            ("forced trades, each once", _count(every.trades), _usd(every.trades_usd)),
        ],
    )
    return f"""
## In short

{table}

The rows are read as legs of trades: {every.liquidations:,} = 2 × {every.takeovers:,} +
{every.adls:,}. The published sum then counts every forced trade twice. Counted once,
{_usd(found.users_usd)} was taken from users and {_usd(found.vaults_usd)} from the exchange's own
vaults. What speaks for the reading is arithmetic; the reading itself is an inference, step by step
below.
"""


def _refusal(broken: tuple[str, ...]) -> str:
    parts = "\n".join(f"- {part}" for part in broken)
    return f"""
## Not even: the reading does not hold

If each ADL trade were one row of either kind and each takeover two liquidation rows, liquidations
less ADL would be even and not negative everywhere. They are not, so nothing is concluded:

{parts}
"""


def _parities(evidence: Evidence) -> str:
    table = _table(
        ("Cut", "Parts", "Odd liquidations", "Odd ADL", "Equal", "Odd difference", "Negative"),
        (
            (name, *map(_count, (
                cut.parts, cut.liquidations_odd, cut.adls_odd, cut.equal, len(cut.odd),
                len(cut.negative),
            )))
            for name, cut in _cuts(evidence)
        ),
    )  # fmt: skip
    return f"""
## Liquidations less ADL

This is arithmetic on published numbers. *Odd liquidations* and *odd ADL* are the parts in which
that side is odd by itself; the difference is what counts.

{table}

A part is *equal* that has as many liquidation rows as ADL rows, or as many dollars. All dollar sums
of tickers lie within {_plain(evidence.off_unit)} of a whole number of millionths, the finest
product of price and size that the [tick rule]({TICK_RULE}) of perps allows; in
the largest the last digit may have been rounded at the source.
"""


def _chances(evidence: Evidence) -> str:
    chances = _table(
        ("Cut", "Fair coins", "ADL side shuffled"),
        (
            (name, f"2^-{cut.coin_bits}", f"under 2^-{cut.shuffle_bits}")
            for name, cut in _cuts(evidence)
        ),
    )
    return f"""
How likely even differences everywhere are by chance, if the two sides had nothing to do with each
other: with a fair coin for each part that is not equal; or with the odd parts of the ADL side dealt
out at random, which assumes nothing about how often a side is odd. Dollars are even
more often than odd, so that for them only the second says something. The cuts are of the same rows:
their chances must not be multiplied.

{chances}

Records that were all written twice would make each side even by itself, which neither is.
"""


def _support(evidence: Evidence) -> str:
    sample, seconds, tickers = evidence.sample, evidence.seconds, evidence.tickers
    with_adl = seconds.parts - evidence.seconds_without_adl
    equal = ", ".join(
        f"{name} ({rows} rows, {_plain(apart)} USD apart)"
        for name, rows, apart in evidence.equal_tickers
    )
    flagged = ", ".join(f"{name} in {rows} rows" for name, rows in evidence.flagged_vaults)
    bursts = _table(
        ("Burst, UTC", "Liquidation rows", "ADL rows", "Both in its second", "Takeovers beside it"),
        (
            (
                f"{burst.timestamp:%H:%M:%S.%f}", _count(burst.liquidations), _count(burst.adls),
                f"{second.liquidations:,} and {second.adls:,}",
                _count((second.liquidations - second.adls) // 2),
            )
            for burst, second in evidence.bursts
            if second is not None
        ),
    )  # fmt: skip
    return f"""
## What else the files show

**An ADL row brings one liquidation row.** {seconds.equal} of the {with_adl} seconds with ADL have
as many of one as of the other, and so have {len(evidence.equal_tickers)} tickers, where the dollars
are equal too: {equal}. The largest bursts have equal rows on both sides:

{bursts}

**Without ADL, rows come in pairs.** {evidence.tickers_without_adl} of {tickers.parts} tickers and
{evidence.seconds_without_adl} of {seconds.parts} seconds have no ADL: all have an even number of
rows. Before the first ADL there are {evidence.rows_before_adl:,} rows, that is
{evidence.rows_before_adl // 2:,} takeovers.

**Who loses in ADL is mostly a vault.** Of {sample.legs} published winners' legs, no random sample,
{sample.vault_legs} name a liquidator vault of the exchange as the loser and
{sample.legs - sample.vault_legs} one of {sample.losing_users} users; {sample.own_loser} name the
winner itself. (No product of price and size among them has more than {sample.decimals} decimals.) A
published list of accounts in BTC and SOL flags {evidence.flagged_rows:,} rows of
{evidence.flagged_accounts:,} accounts as liquidated, among them {flagged}: a vault counted as a
victim.
"""


def _waterfall(found: Conclusion) -> str:
    needs = ("1, 2", "1 to 4", "5")
    lines = _table(
        ("Step", "Change, USD", "Running, USD", "Rests on"),
        [
            ("published: liquidations and ADL", "", _usd(found.published_usd), "arithmetic"),
            *(
                (step.what, f"-{_usd(step.change)}", _usd(step.running), f"inference {need}")
                for step, need in zip(found.steps, needs, strict=True)
            ),
        ],
    )
    vaults = _table(
        ("Loser in ADL", "Address", "USD"),
        [
            *((name, f"`{account}`", _usd(usd)) for name, account, usd in found.vaults),
            ("together", "", _usd(found.vaults_usd)),
        ],
    )
    share, stated = found.vaults_usd / found.adl_usd, PUBLISHED_VAULT_SHARE
    rounded = "rounds to" if round(share, 3) == stated else "does not round to"
    return f"""
## Waterfall

{lines}

What is left was taken from users: {_usd(found.all.takeover_usd)} by takeovers and
{_usd(found.direct_usd)} by ADL with no vault in between.

The last step takes the dollars that are published for the vaults by account:

{vaults}

That is {share:.4%} of the ADL dollars and {rounded} the {stated:.1%} of the study's article, which
does not say of what (tektonic.company/blog/hyperliquid-adl-cascade-october-10). With {stated:.1%}
the step would be {_usd(found.vaults_usd_by_share)} and the end {_usd(found.users_usd_by_share)}:
{_usd(found.users_usd - found.users_usd_by_share)} less. The dollars are used: they are not rounded.
"""


def _tickers(found: Conclusion) -> str:
    others = found.tickers[LARGEST:]
    table = _table(
        (
            "Ticker", "Liquidation rows", "ADL rows", "Takeovers", "Takeovers, USD",
            "Forced trades", "Forced trades, USD",
        ),
        (
            (
                row.ticker, _count(row.liquidations), _count(row.adls), _count(row.takeovers),
                _usd(row.takeover_usd), _count(row.trades), _usd(row.trades_usd),
            )
            for row in (
                *found.tickers[:LARGEST], total(f"{len(others)} others", others), found.all,
            )
        ),
    )  # fmt: skip
    return f"## By ticker\n\n{table}"


def _limits(found: Conclusion) -> str:
    return f"""
## What cannot be said from these files

- **Liquidations in the order book.** Their `dir` is "Close Long" or "Close Short", which the
  publisher's filter does not select. All figures here leave them out.
- **How many users, and how many of the ADL trades were theirs.** By loser, only dollars are
  published.
- **Whether further vaults lost in ADL.** The file does not name the losers of
  {_usd(found.unlisted_usd)} USD; a vault among them would lower the users' part by at most that.
- **What is published elsewhere and not in the files:** 14,159 liquidation rows with a closed profit
  of 0, as a vault's leg has it unless it nets a position ({found.all.takeovers:,} such legs are
  predicted here), and equal dollars by market in the first burst.
"""


def _rankings(evidence: Evidence) -> str:
    tables = "\n\n".join(map(_ranking, evidence.rankings))
    return f"""
## The largest accounts, before and after

*Before* is the place of an account in the list as it is published, *after* its place once the
exchange's own vaults are left out, as everywhere in this project: a vault is never a victim and
never a whale (see [labels](labels.md)).

{tables}

The list of accounts in BTC and SOL has no dollars of what was liquidated: fills, and what was left,
say how large an account was, not how much it lost. The list of ADL holds 34 of the 50 largest, and
places are among these.
"""


def _ranking(ranking: Ranking) -> str:
    table = _table(
        ("Before", "After", "Account", ranking.measure.split(",")[0]),
        (
            (
                _count(one.before),
                one.vault or _count(one.after or 0),
                f"`{one.account}`",
                _usd(one.value),
            )
            for one in ranking.first
        ),
    )
    rest = ranking.accounts - ranking.vaults
    return f"By {ranking.measure}: {ranking.accounts:,} accounts, {rest:,} of users.\n\n{table}"


def _agreements(evidence: Evidence) -> str:
    totals = _table(
        ("Figure", "Files", "Value", "Apart"),
        (
            (
                found.figure, _count(len(found.values)), _figure(found.values[0][1]),
                _plain(found.apart),
            )
            for found in evidence.agreements
        ),
    )  # fmt: skip
    by_row = _table(
        ("Figure", "Rows compared", "Apart at most"),
        (
            (found.figure, _count(found.rows), _plain(found.apart))
            for found in evidence.row_agreements
        ),
    )
    return f"""
## Do the files agree with each other

Figures that several files give; the value is that of the first. Times are cut to milliseconds in
one file, the ten largest are rounded to cents, other differences have the size of binary rounding.

{totals}

{by_row}

Words that do not fit numbers: {evidence.seconds_before_adl_stated} "liquidation-only seconds"
before the first ADL are its delay, {evidence.seconds_before_adl} have rows; the list of BTC and SOL
accounts is introduced with 3,088 liquidated, {evidence.flagged_rows:,} rows say so; a report of the
same study calls the number of its liquidation rows one of "unique liquidated users"
(ConejoCapital/HyperMultiAssetedADL:docs/reports/LOSING_POSITIONS_ADL_VERIFICATION.md).
"""


def _sources() -> str:
    files = _table(("File", "From"), ((f"`{name}`", origin) for name, origin in ORIGINS.items()))
    return f"## Files\n\n{files}"


def _cuts(evidence: Evidence) -> tuple[tuple[str, Parity], ...]:
    return (
        ("rows by ticker", evidence.tickers),
        ("rows by second", evidence.seconds),
        ("millionths of a dollar by ticker", evidence.money),
    )


# -- Markdown ------------------------------------------------------------------------------------


def _filled(block: str) -> str:
    """A paragraph or a list in lines of `WIDTH`; tables and titles as they are."""
    if block[0] in "#|":
        return block
    items = re.split(r"\n(?=- |\d\. )", block)
    return "\n".join(_item(" ".join(item.split())) for item in items)


def _item(text: str) -> str:
    mark = re.match(r"- |\d\. ", text)
    indent = " " * len(mark[0]) if mark else ""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Columns whose last cell is a number stand right."""
    rows = list(rows)
    rules = ("---:" if _is_number(cell) else "---" for cell in rows[-1])
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?[0-9.,]+", cell) is not None


def _count(number: int) -> str:
    return f"{number:,}"


def _usd(usd: Decimal) -> str:
    return f"{usd:,.0f}"


def _plain(number: Decimal) -> str:
    """All digits, no exponent."""
    return f"{number.normalize():f}"


def _figure(number: Decimal) -> str:
    return _count(int(number)) if number == number.to_integral_value() else f"{number:,.2f}"
