"""A year of simulated account days, by a formula that stands twice: in SQL, which makes them, and
in Python, which says whom rules label for them.

One account for every twenty liquidations, those of perpetuals the first of them, each with a day in
every quarter; one of five hundred is a market maker.
"""

from collections import defaultdict
from collections.abc import Mapping

from benchmarks.year_of_rows import BEGIN, address, drawn
from indexer.store.database import Connection

ROWS_AN_ACCOUNT = 20
QUARTERS, QUARTER_DAYS = 4, 91
MAKERS = 500  # one of so many accounts
POSITION_USD, VOLUME_USD = 4, 800  # for each unit drawn: few accounts are whales by them
WHALE_POSITION_USD, WHALE_VOLUME_USD = 10_000_000, 1_000_000_000
MARKETS = 40  # that a market maker makes

DAYS = """
    INSERT INTO ledger.account_day
    SELECT 'hyperliquid', '0x' || md5('a' || account) || '00000000',
           %(begin)s::date + (quarter * %(quarter_days)s
               + public.drawn('q', account * %(quarters)s + quarter) %% %(quarter_days)s)::int,
           'USDC', 6, 0, volume, 0, %(position)s * dollars, 'C0',
           volume * made, volume * made,
           CASE WHEN account %% %(makers)s = 0 THEN %(markets)s::text[] ELSE ARRAY['C0', 'C1'] END
    FROM generate_series(%(low)s::bigint, %(high)s - 1) account
    CROSS JOIN generate_series(0, %(quarters)s - 1) quarter
    CROSS JOIN LATERAL (
        SELECT (1 << 30) / (public.drawn('p', account * %(quarters)s + quarter) + 100) AS dollars,
               CASE WHEN account %% %(makers)s = 0 THEN 0.4 ELSE 0.1 END AS made
    ) drawn
    CROSS JOIN LATERAL (SELECT %(volume)s * dollars AS volume) traded
"""
AT_ONCE = 100_000  # accounts of a transaction


def accounts_of(rows: int) -> int:
    """How many accounts have days."""
    return rows // ROWS_AN_ACCOUNT


def put_days(connection: Connection, rows: int) -> None:
    """Write the days of all accounts."""
    accounts = accounts_of(rows)
    for low in range(0, accounts, AT_ONCE):
        connection.execute(
            DAYS,
            {
                "low": low, "high": min(low + AT_ONCE, accounts), "begin": BEGIN.date(),
                "quarters": QUARTERS, "quarter_days": QUARTER_DAYS, "makers": MAKERS,
                "position": POSITION_USD, "volume": VOLUME_USD,
                "markets": [f"C{number}" for number in range(MARKETS)],
            },
        )  # fmt: skip
    connection.execute("VACUUM ANALYZE ledger.account_day")


def labelled_by_days(rows: int) -> Mapping[str, set[str]]:
    """By the rule, whom it labels."""
    found: dict[str, set[str]] = {"PEAK_POSITION": set(), "TRADED_VOLUME": set(), "ROLE_MM": set()}
    for account in range(accounts_of(rows)):
        days = range(account * QUARTERS, (account + 1) * QUARTERS)
        dollars = [(1 << 30) // (drawn("p", day) + 100) for day in days]
        if POSITION_USD * max(dollars) >= WHALE_POSITION_USD:
            found["PEAK_POSITION"].add(address(f"a{account}"))
        if VOLUME_USD * sum(dollars) >= WHALE_VOLUME_USD and _largest_month(account, dollars):
            found["TRADED_VOLUME"].add(address(f"a{account}"))
        if account % MAKERS == 0:
            found["ROLE_MM"].add(address(f"a{account}"))
    return found


def _largest_month(account: int, dollars: list[int]) -> bool:
    """Whether the days of one month are enough: two quarters meet in April, and two in July."""
    months = defaultdict[int, int](int)
    for quarter, drawn_dollars in enumerate(dollars):
        day = quarter * QUARTER_DAYS + drawn("q", account * QUARTERS + quarter) % QUARTER_DAYS
        months[_month(day)] += VOLUME_USD * drawn_dollars
    return max(months.values()) >= WHALE_VOLUME_USD


def _month(day: int) -> int:
    """Of the year, from the number of a day in it."""
    ends = (31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)
    return next(month for month, end in enumerate(ends) if day < end)
