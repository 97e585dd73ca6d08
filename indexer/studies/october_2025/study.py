"""What the published rows are, by arithmetic and by one reading of it.

The reading: each auto-deleveraging (ADL) trade has two legs, the loser's with a "Liquidated" dir
and the winner's with "Auto-Deleveraging"; each takeover by a vault of the exchange has two legs
that both say "Liquidated". Then liquidation rows = ADL rows + 2 x takeovers in every part of the
data, and half of any difference is a whole number. Where it is not, nothing is concluded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from math import comb
from typing import NamedTuple

from indexer.model import EXACT
from indexer.studies.october_2025.published import (
    BURSTS,
    BY_ACCOUNT,
    BY_COIN,
    BY_SECOND,
    BY_TICKER,
    TOTALS,
    Burst,
    Published,
    Second,
    Ticker,
)
from indexer.venues.hyperliquid import PROTOCOL_VAULTS

# Share of the ADL dollars that its publisher gives to the vaults:
# tektonic.company/blog/hyperliquid-adl-cascade-october-10
PUBLISHED_VAULT_SHARE = Decimal("0.951")

HALF = Decimal("0.5")
RANKED = 6  # accounts of a ranking with a line of their own
MILLION = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = {vault.account: vault.name for vault in PROTOCOL_VAULTS}


class Pair(NamedTuple):
    """Liquidation and ADL of one part of the data: rows, or millionths of a dollar."""

    name: str
    liquidations: int
    adls: int


class Parity(NamedTuple):
    """What the parts of one cut say: `liquidations_odd` and `adls_odd` count each side alone, the
    others the difference. `odd` and `negative` are the parts that break the reading."""

    parts: int
    liquidations_odd: int
    adls_odd: int
    equal: int
    odd: tuple[str, ...]
    negative: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.odd and not self.negative

    @property
    def coin_bits(self) -> int:
        """Fair coins would make each difference that is not 0 even once in two to the this."""
        return self.parts - self.equal

    @property
    def shuffle_bits(self) -> int:
        """The ADL side, dealt out again at random among the parts, would be odd just where the
        liquidation side is less than once in two to the this."""
        return comb(self.parts, self.liquidations_odd).bit_length() - 1


class Agreement(NamedTuple):
    """One figure as several files give it."""

    figure: str
    values: tuple[tuple[str, Decimal], ...]

    @property
    def apart(self) -> Decimal:
        values = [value for _, value in self.values]
        return max(values) - min(values)


class RowAgreement(NamedTuple):
    """One figure of `rows` rows: the widest that two statements of it are apart."""

    figure: str
    rows: int
    apart: Decimal


class Placed(NamedTuple):
    """A burst at one timestamp, and all rows of its second; None where none is published."""

    burst: Burst
    second: Second | None


class Sample(NamedTuple):
    """The winners' legs that name the loser."""

    legs: int
    vault_legs: int
    losing_users: int
    own_loser: int
    decimals: int  # of price x size, at most


class Ranked(NamedTuple):
    """An account in a ranking; `vault` is its name where it is one of the exchange's own, which
    have no place `after`."""

    account: str
    vault: str | None
    value: Decimal
    before: int
    after: int | None


class Ranking(NamedTuple):
    """Who comes first by a measure: of `accounts` as published, of fewer once vaults are out."""

    measure: str
    accounts: int
    vaults: int
    first: tuple[Ranked, ...]


class Evidence(NamedTuple):
    """Arithmetic on what is published; true whatever the rows are."""

    tickers: Parity
    seconds: Parity
    money: Parity
    off_unit: Decimal  # farthest that a ticker's dollars are from whole millionths, in millionths
    equal_tickers: tuple[tuple[str, int, Decimal], ...]  # name, rows, dollars apart
    tickers_without_adl: int
    seconds_without_adl: int
    seconds_before_adl: int  # with rows
    seconds_before_adl_stated: int
    rows_before_adl: int
    bursts: tuple[Placed, ...]
    sample: Sample
    flagged_rows: int
    flagged_accounts: int
    flagged_vaults: tuple[tuple[str, int], ...]  # name, rows
    rankings: tuple[Ranking, ...]
    agreements: tuple[Agreement, ...]
    row_agreements: tuple[RowAgreement, ...]


class Step(NamedTuple):
    """One line of the waterfall; `change` is what the line takes away."""

    what: str
    change: Decimal
    running: Decimal


class Reading(NamedTuple):
    """What one ticker's rows are."""

    ticker: str
    liquidations: int
    adls: int
    takeovers: int
    takeover_usd: Decimal
    trades: int
    trades_usd: Decimal


class Conclusion(NamedTuple):
    """What follows when the reading holds. Dollars are at the price of the forced trade."""

    all: Reading
    tickers: tuple[Reading, ...]  # most takeover dollars first
    steps: tuple[Step, ...]
    published_usd: Decimal
    liquidation_usd: Decimal
    adl_usd: Decimal
    vaults: tuple[tuple[str, str, Decimal], ...]  # name, account, what ADL took from it
    vaults_usd: Decimal
    direct_usd: Decimal  # what ADL took from users, no vault in between
    users_usd: Decimal
    vaults_usd_by_share: Decimal
    users_usd_by_share: Decimal
    unlisted_usd: Decimal  # ADL dollars of losers whom the file does not name


class NotEven(NamedTuple):
    """The reading does not hold: the parts that break it, each with its reason."""

    broken: tuple[str, ...]


class Study(NamedTuple):
    evidence: Evidence
    outcome: Conclusion | NotEven


def study(published: Published) -> Study:
    """The whole of it, exactly; the only roundings are those of the sources."""
    with localcontext(EXACT):
        evidence = _evidence(published)
        broken = tuple(_broken(evidence))
        return Study(evidence, NotEven(broken) if broken else _conclusion(published))


def parity(pairs: Iterable[Pair]) -> Parity:
    """Whether liquidations less ADLs are even, and not negative, in every part."""
    pairs = tuple(pairs)
    return Parity(
        parts=len(pairs),
        liquidations_odd=sum(pair.liquidations % 2 for pair in pairs),
        adls_odd=sum(pair.adls % 2 for pair in pairs),
        equal=sum(pair.liquidations == pair.adls for pair in pairs),
        odd=tuple(pair.name for pair in pairs if (pair.liquidations - pair.adls) % 2),
        negative=tuple(pair.name for pair in pairs if pair.liquidations < pair.adls),
    )


def _broken(evidence: Evidence) -> Iterator[str]:
    cuts = (("rows", evidence.tickers), ("rows", evidence.seconds), ("dollars", evidence.money))
    for unit, cut in cuts:
        yield from (f"{name}: {unit} odd" for name in cut.odd)
        yield from (f"{name}: fewer liquidation {unit} than ADL {unit}" for name in cut.negative)


# -- arithmetic ----------------------------------------------------------------------------------


def _evidence(published: Published) -> Evidence:
    tickers, seconds = published.tickers, published.seconds.timeline
    flagged = [row.user_address for row in published.btc_sol if row.was_liquidated == "True"]
    vaults = [NAMES[account] for account in flagged if account in NAMES]
    until = (published.seconds.first_adl - published.seconds.event_start) // timedelta(seconds=1)
    before = [row for row in seconds if row.second < until]
    return Evidence(
        tickers=parity(Pair(row.ticker, row.liq_events, row.adl_events) for row in tickers),
        seconds=parity(Pair(f"second {row.second}", row.liquidations, row.adls) for row in seconds),
        money=parity(
            Pair(row.ticker, _millionths(row.liq_notional), _millionths(row.adl_notional))
            for row in tickers
        ),
        off_unit=max(
            abs(usd * MILLION - _millionths(usd))
            for row in tickers
            for usd in (row.liq_notional, row.adl_notional)
        ),
        equal_tickers=tuple(
            (row.ticker, row.liq_events, abs(row.liq_notional - row.adl_notional))
            for row in tickers
            if row.liq_events == row.adl_events
        ),
        tickers_without_adl=sum(row.adl_events == 0 for row in tickers),
        seconds_without_adl=sum(row.adls == 0 for row in seconds),
        seconds_before_adl=len(before),
        seconds_before_adl_stated=published.bursts.initial_liquidation_only_seconds,
        rows_before_adl=sum(row.liquidations for row in before),
        bursts=tuple(_placed(published)),
        sample=_sample(published),
        flagged_rows=len(flagged),
        flagged_accounts=len(set(flagged)),
        flagged_vaults=tuple((name, vaults.count(name)) for name in sorted(set(vaults))),
        rankings=tuple(_rankings(published)),
        agreements=tuple(_agreements(published)),
        row_agreements=tuple(_row_agreements(published)),
    )


def _millionths(usd: Decimal) -> int:
    return int((usd * MILLION).to_integral_value())


def _placed(published: Published) -> Iterator[Placed]:
    by_second = {row.second: row for row in published.seconds.timeline}
    for burst in published.bursts.top_shared_bursts:
        second = (burst.timestamp - published.seconds.event_start) // timedelta(seconds=1)
        yield Placed(burst, by_second.get(second))


def _sample(published: Published) -> Sample:
    legs = published.sample
    products = [(leg.adl_price * leg.adl_size).normalize() for leg in legs]
    users = [leg.liquidated_user for leg in legs if leg.liquidated_user not in NAMES]
    return Sample(
        legs=len(legs),
        vault_legs=len(legs) - len(users),
        losing_users=len(set(users)),
        own_loser=sum(leg.user == leg.liquidated_user for leg in legs),
        decimals=max(-int(product.as_tuple().exponent) for product in products),
    )


def _rankings(published: Published) -> Iterator[Ranking]:
    """The largest accounts of the lists that name accounts as liquidated."""
    flagged = [row for row in published.btc_sol if row.was_liquidated == "True"]
    deleveraged = published.accounts.deleveraged_accounts
    yield _ranking(
        "fills in BTC and SOL, of accounts flagged as liquidated",
        ((row.user_address, Decimal(row.trades_count)) for row in flagged),
    )
    yield _ranking(
        "USD left in BTC and SOL at mark, of the same accounts",
        ((row.user_address, abs(row.position_size) * row.mark_price) for row in flagged),
    )
    yield _ranking(
        "USD that ADL took, of the accounts that it took most from",
        ((row.account, row.total_notional) for row in deleveraged),
    )


def _ranking(measure: str, rows: Iterable[tuple[str, Decimal]]) -> Ranking:
    values = defaultdict[str, Decimal](Decimal)
    for account, value in rows:
        values[account] += value
    largest = sorted(values, key=lambda account: (-values[account], account))
    users = {account: place for place, account in enumerate(_users(largest), 1)}
    return Ranking(
        measure,
        accounts=len(values),
        vaults=len(values) - len(users),
        first=tuple(
            Ranked(account, NAMES.get(account), values[account], place, users.get(account))
            for place, account in enumerate(largest[:RANKED], 1)
        ),
    )


def _users(accounts: Iterable[str]) -> Iterator[str]:
    return (account for account in accounts if account not in NAMES)


def _agreements(published: Published) -> Iterator[Agreement]:
    """Every figure that more than one file gives."""
    tickers, seconds = published.tickers, published.seconds.timeline
    totals, coins, accounts = published.totals, published.coins, published.accounts.metadata
    start = _unix(published.seconds.event_start)

    def figure(name: str, **values: Decimal | int | None) -> Agreement:
        given = {
            "tickers": BY_TICKER, "seconds": BY_SECOND, "totals": TOTALS, "bursts": BURSTS,
            "coins": BY_COIN, "accounts": BY_ACCOUNT,
        }  # fmt: skip
        return Agreement(
            name,
            tuple((given[at], Decimal(value)) for at, value in values.items() if value is not None),
        )

    yield figure(
        "liquidation rows",
        tickers=sum(row.liq_events for row in tickers),
        seconds=sum(row.liquidations for row in seconds),
        totals=totals.liquidations.events,
    )
    yield figure(
        "ADL rows",
        tickers=sum(row.adl_events for row in tickers),
        seconds=sum(row.adls for row in seconds),
        totals=totals.adl.events,
        coins=sum(row.num_events for row in coins),
        accounts=accounts.event_count,
    )
    yield figure(
        "rows of both",
        tickers=sum(row.total_events for row in tickers),
        totals=totals.total.events,
    )
    yield figure(
        "liquidations, USD",
        tickers=sum(row.liq_notional for row in tickers),
        totals=totals.liquidations.notional,
    )
    yield figure(
        "ADL, USD",
        tickers=sum(row.adl_notional for row in tickers),
        totals=totals.adl.notional,
        coins=sum(row.adl_notional for row in coins),
        accounts=accounts.total_notional_usd,
    )
    yield figure(
        "both, USD",
        tickers=sum(row.total_notional for row in tickers),
        totals=totals.total.notional,
    )
    yield figure(
        "liquidations, closed profit, USD",
        tickers=sum(row.liq_pnl for row in tickers),
        totals=totals.liquidations.pnl,
    )
    yield figure(
        "ADL, closed profit, USD",
        tickers=sum(row.adl_pnl for row in tickers),
        totals=totals.adl.pnl,
        coins=sum(row.closed_pnl for row in coins),
    )
    yield figure(
        "markets with ADL",
        tickers=sum(row.adl_events > 0 for row in tickers),
        coins=len(coins),
        accounts=accounts.unique_assets,
    )
    yield figure(
        "seconds, or timestamps, with ADL",
        seconds=sum(row.adls > 0 for row in seconds),
        bursts=published.bursts.timestamps_with_both,
    )
    yield figure(
        "first ADL, seconds after the first liquidation row",
        seconds=_unix(published.seconds.first_adl) - start,
        bursts=_unix(published.bursts.first_shared_timestamp) - start,
        accounts=Decimal(accounts.time_range.start) / 1000 - start,
    )


def _unix(at: datetime) -> Decimal:
    return Decimal((at - EPOCH) // timedelta(microseconds=1)) / MILLION


def _row_agreements(published: Published) -> Iterator[RowAgreement]:
    """Statements about the same row, in one file or in two."""
    tickers = published.tickers
    by_coin = {row.coin: row for row in published.coins}
    top = published.totals.top_combined_tickers
    in_both = [(row, by_coin[row.ticker]) for row in tickers if row.ticker in by_coin]
    in_top = [(row, top[row.ticker]) for row in tickers if row.ticker in top]

    def widest(figure: str, apart: Iterable[Decimal | int]) -> RowAgreement:
        found = [abs(Decimal(value)) for value in apart]
        return RowAgreement(figure, len(found), max(found, default=Decimal(0)))

    yield widest(
        "tickers: rows of both = liquidation + ADL",
        (row.liq_events + row.adl_events - row.total_events for row in tickers),
    )
    yield widest(
        "tickers: USD of both = liquidation + ADL",
        (row.liq_notional + row.adl_notional - row.total_notional for row in tickers),
    )
    yield widest(
        "tickers: closed profit of both = liquidation + ADL",
        (row.liq_pnl + row.adl_pnl - row.total_pnl for row in tickers),
    )
    yield widest(
        "ADL rows: tickers = coins",
        (row.adl_events - coin.num_events for row, coin in in_both),
    )
    yield widest(
        "ADL USD: tickers = coins",
        (row.adl_notional - coin.adl_notional for row, coin in in_both),
    )
    yield widest(
        "ADL closed profit: tickers = coins",
        (row.adl_pnl - coin.closed_pnl for row, coin in in_both),
    )
    yield widest(
        "liquidation USD: tickers = ten largest in totals, in cents",
        (row.liq_notional - named.liquidations for row, named in in_top),
    )
    yield widest(
        "ADL USD: tickers = ten largest in totals, in cents",
        (row.adl_notional - named.adl for row, named in in_top),
    )
    yield widest(
        "USD of both: tickers = ten largest in totals, in cents",
        (row.total_notional - named.total for row, named in in_top),
    )


# -- the reading ---------------------------------------------------------------------------------


def _conclusion(published: Published) -> Conclusion:
    """Only of published numbers whose parities hold."""
    tickers = sorted(
        (_reading(row) for row in published.tickers), key=lambda row: -row.takeover_usd
    )
    everything = total("all", tickers)
    listed = published.accounts.deleveraged_accounts
    vaults = tuple(
        (NAMES[row.account], row.account, row.total_notional)
        for row in listed
        if row.account in NAMES
    )
    adl_usd = _sum(row.adl_notional for row in published.tickers)
    vaults_usd = _sum(usd for _, _, usd in vaults)
    by_share = PUBLISHED_VAULT_SHARE * adl_usd
    published_usd = _sum(row.liq_notional + row.adl_notional for row in published.tickers)
    steps = tuple(
        _waterfall(
            published_usd,
            ("winners' legs of ADL trades", adl_usd),
            ("vaults' legs of takeovers", everything.takeover_usd),
            ("ADL trades in which a vault of the exchange lost", vaults_usd),
        )
    )
    return Conclusion(
        all=everything,
        tickers=tuple(tickers),
        steps=steps,
        published_usd=published_usd,
        liquidation_usd=published_usd - adl_usd,
        adl_usd=adl_usd,
        vaults=vaults,
        vaults_usd=vaults_usd,
        direct_usd=adl_usd - vaults_usd,
        users_usd=everything.trades_usd - vaults_usd,
        vaults_usd_by_share=by_share,
        users_usd_by_share=everything.trades_usd - by_share,
        unlisted_usd=adl_usd - _sum(row.total_notional for row in listed),
    )


def _reading(row: Ticker) -> Reading:
    takeovers = (row.liq_events - row.adl_events) // 2
    takeover_usd = (row.liq_notional - row.adl_notional) * HALF
    return Reading(
        row.ticker,
        row.liq_events,
        row.adl_events,
        takeovers,
        takeover_usd,
        takeovers + row.adl_events,
        takeover_usd + row.adl_notional,
    )


def total(name: str, rows: Iterable[Reading]) -> Reading:
    """Several tickers as one."""
    rows = tuple(rows)
    return Reading(
        name,
        sum(row.liquidations for row in rows),
        sum(row.adls for row in rows),
        sum(row.takeovers for row in rows),
        _sum(row.takeover_usd for row in rows),
        sum(row.trades for row in rows),
        _sum(row.trades_usd for row in rows),
    )


def _waterfall(start: Decimal, *taken: tuple[str, Decimal]) -> Iterator[Step]:
    running = start
    for what, usd in taken:
        running -= usd
        yield Step(what, usd, running)


def _sum(values: Iterable[Decimal]) -> Decimal:
    return sum(values, Decimal(0))
