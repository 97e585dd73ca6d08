"""A year of simulated liquidations, by a formula that stands twice: in SQL, which makes millions of
rows in minutes, and in Python, which makes those of a window in whole numbers.

Four of five rows are perpetuals, the rest loans on four venues; 3 % of all are on one day.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from psycopg.types.json import Jsonb

from indexer import families
from indexer.methodology.definition import presets
from indexer.methodology.windows import Window
from indexer.store import database, definitions, kin, server
from indexer.store.database import Connection
from tests.postgres import database as fresh_database

BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000
BUSY_DAY = 282  # 10 October 2025
FILLS, ORDERS, BLOCK_ROWS = 3, 6, 12  # perp rows of an order, of an action, of a block
LOANS_A_BLOCK = 2
VENUES = ("aave_v3.ethereum", "aave_v3.base", "aave_v2.ethereum", "morpho_blue.ethereum")
METHODS = {0: "backstop", 1: "adl_of_user", 2: "adl_of_vault"}  # of twenty orders; the rest market
DEBTS = ("USDC", "USDT", "USDS", "WETH")
COLLATERALS = ("WETH", "wstETH", "weETH", "cbBTC", "LBTC", "", "USDC")  # one is of no family
VAULT = f"0x{'f' * 40}"


class Course(NamedTuple):
    """When so many rows happen: evenly over a year, but 3 % of them on one day."""

    rows: int

    @property
    def busy(self) -> int:
        """Rows of the busiest day."""
        return self.rows * 3 // 100

    @property
    def before(self) -> int:
        """Rows before it."""
        return (self.rows - self.busy) * BUSY_DAY // 364

    def moment(self, row: int) -> int:
        """Milliseconds since the year began."""
        before, busy = self.before, self.busy
        if row < before:
            return row * BUSY_DAY * DAY_MS // before
        if row < before + busy:
            return BUSY_DAY * DAY_MS + (row - before) * DAY_MS // busy
        rest = self.rows - before - busy
        return (BUSY_DAY + 1) * DAY_MS + (row - before - busy) * (364 - BUSY_DAY) * DAY_MS // rest

    def within(self, window: Window, step: int) -> range:
        """The rows of a window, where so many at a time happen at once."""
        ends = [
            bisect_left(range(self.rows), _ms(end), key=lambda row: self.moment(row - row % step))
            for end in (window.low, window.high)
        ]
        return range(*ends)


def _ms(moment: datetime | None) -> int:
    assert moment is not None
    return (moment - BEGIN) // timedelta(milliseconds=1)


def perps_of(rows: int) -> Course:
    """Four of five are perpetuals."""
    return Course(rows * 8 // 10)


def loans_of(rows: int) -> Course:
    return Course(rows - rows * 8 // 10)


# `drawn` is evenly among 2^20 numbers, `skewed` mostly among the first: the first account of 2^18
# has 1.6 % of all actions, half of them are of an eighth of the accounts. A size is drawn so that
# few are large. All is in whole numbers, and as `perp` and `loan` have it in Python.
FUNCTIONS = """
    CREATE FUNCTION public.drawn(what text, number bigint) RETURNS bigint IMMUTABLE
    RETURN ('x' || substr(md5(what || number), 1, 5))::bit(20)::bigint;
    CREATE FUNCTION public.skewed(what text, number bigint) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE AS $$
    DECLARE
        drawn bigint := public.drawn(what, number);
    BEGIN
        RETURN drawn * drawn * drawn >> 40;
    END $$;
    CREATE FUNCTION public.moment(number bigint, before bigint, busy bigint, total bigint)
    RETURNS timestamptz IMMUTABLE
    RETURN timestamptz '2025-01-01Z' + interval '1 ms' * CASE
        WHEN number < before THEN number * 282 * 86400000 / before
        WHEN number < before + busy
        THEN 282 * 86400000::bigint + (number - before) * 86400000 / busy
        ELSE 283 * 86400000::bigint
            + (number - before - busy) * 82 * 86400000 / (total - before - busy) END;
"""
PERPS = """
    INSERT INTO ledger.liquidation
    SELECT 'hyperliquid', block || '/' || coin || '/' || i,
           CASE method WHEN 'adl_of_vault' THEN %(vault)s
               ELSE '0x' || md5('a' || (public.skewed('a', action) >> 2)) || '00000000' END,
           block, public.moment(i - i %% 12, %(before)s, %(busy)s, %(total)s),
           '0x' || md5('t' || action) || md5('u' || action), method, coin, '', 'USDC',
           CASE WHEN placed %% 3 = 0 THEN 'short' ELSE 'long' END,
           size, price, size * price, price + 0.1, size * (price + 0.1), NULL, NULL, i %% 3 = 2,
           0.5, 'USDC', -size, 'cross', placed::text, i::text,
           '0x' || md5('m' || i %% 97) || '00000000',
           CASE method WHEN 'market' THEN 'maker' WHEN 'backstop' THEN 'protocol_vault'
               ELSE 'adl_winner' END,
           CASE method WHEN 'backstop' THEN %(vault)s END,
           method = 'adl_of_vault', 'Close Long', 'Open Long', 'both', 1
    FROM generate_series(%(low)s::bigint, %(high)s - 1) i
    CROSS JOIN LATERAL (SELECT i / 3 AS placed, i / 6 AS action, 600000000 + i / 12 AS block) part
    CROSS JOIN LATERAL (
        SELECT CASE placed %% 20 WHEN 0 THEN 'backstop' WHEN 1 THEN 'adl_of_user'
                   WHEN 2 THEN 'adl_of_vault' ELSE 'market' END AS method,
               public.skewed('c', placed) * 150 >> 20 AS coin_number,
               (1 << 30) / (public.drawn('s', i) + 100) * 0.0001 AS size
    ) drawn
    CROSS JOIN LATERAL (
        SELECT 'C' || coin_number AS coin,
               (coin_number * 7919 %% 50021 + 100 + block %% 101) * 0.1 AS price
    ) traded
"""
PERP_VALUES = """
    INSERT INTO ledger.valuation (
        venue, block_at, event_key, account, price_source, fill_usd, mark_usd, realised_usd,
        quote_price, quote_quality, quote_trust, quote_as_of_at
    )
    SELECT venue, block_at, event_key, account, 'par', notional, notional_mark, realised_pnl,
           1, 'A', 'governed', block_at
    FROM ledger.liquidation {where} ORDER BY venue, block_at, event_key, account
"""
LOANS = """
    INSERT INTO ledger.lending_liquidation
    SELECT venue, '0x' || md5('t' || i) || md5('v' || i) || '/' || i %% 300,
           '0x' || md5('b' || (public.skewed('b', i) >> 2)) || '00000000', 20000000 + i / 2,
           public.moment(i - i %% 2, %(before)s, %(busy)s, %(total)s), 'repay_seize',
           '0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2', NULL,
           '0x' || md5('l' || i %% 100) || '00000000',
           tokens -> 'debts' ->> (public.drawn('d', i) %% 4)::int, 1000000 * dollars,
           tokens -> 'collaterals' ->> (public.drawn('k', i) %% 7)::int,
           500000000000000 * dollars, false, 2500000000000 * dollars, false, NULL, NULL, 2
    FROM generate_series(%(low)s::bigint, %(high)s - 1) i
    CROSS JOIN LATERAL (
        SELECT (%(venues)s::text[])[public.drawn('v', i) %% 4 + 1] AS venue,
               ((1 << 28) / (public.drawn('r', i) + 100))::numeric AS dollars
    ) drawn
    CROSS JOIN LATERAL (SELECT %(tokens)s::jsonb -> ledger.chain_of(venue)) known (tokens)
"""
LOAN_VALUES = """
    INSERT INTO ledger.valuation (
        venue, block_at, event_key, account, price_source, repaid_usd, repaid_price,
        repaid_quality, repaid_trust, seized_usd, seized_price, seized_quality, seized_trust,
        seized_net_usd, bonus_usd, bonus_quality, bonus_trust
    )
    SELECT venue, block_at, event_key, account, said.source, repaid_raw * price, price, 'A',
           said.trust, seized_raw * 2.1e-15, 2.1e-15, 'A', said.trust, seized_raw * 2.08e-15,
           seized_raw * 1e-16, 'A', said.trust
    FROM ledger.lending_liquidation
    CROSS JOIN LATERAL (SELECT (100000000 + block_number %% 10007) * 1e-14) of_dollar (price)
    CROSS JOIN LATERAL (VALUES
        ('oracle', CASE WHEN venue LIKE 'morpho%%' THEN 'market' ELSE 'governed' END),
        ('reference', CASE WHEN venue LIKE 'morpho%%' THEN 'governed' END)
    ) said (source, trust)
    WHERE said.trust IS NOT NULL {where}
    ORDER BY venue, block_at, event_key, account
"""
AROUND = """
    INSERT INTO ledger.source (uri, is_simulated) VALUES ('benchmarks.totals', true);
    INSERT INTO ledger.asset (chain, address, decimals)
    SELECT DISTINCT ledger.chain_of(venue), repaid_asset, 6 FROM ledger.lending_liquidation;
    INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)
    SELECT ledger.chain_of(venue), max(block_number) + 1, '0x', max(block_number), 1
    FROM ledger.lending_liquidation GROUP BY 1;
    INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
    SELECT venue, 'liquidations', int8range(min(block_number), max(block_number) + 1),
           tstzrange(min(block_at), max(block_at), '[]'), 'every_height', 2
    FROM (SELECT venue, block_number, block_at FROM ledger.liquidation
          UNION ALL SELECT venue, block_number, block_at FROM ledger.lending_liquidation) read
    GROUP BY venue
"""
AT_ONCE = 480_000  # rows of a transaction; whole blocks of all kinds


class Row(NamedTuple):
    """A row as the formula has it; time in ms since the year began, dollars in units of 1e-8."""

    line: str
    instrument: str
    venue: str
    account: str
    market: str
    asset: str
    side: str | None
    method: str
    price_source: str
    at_ms: int
    order: str
    action: str
    is_flat: bool
    e8: int
    text: str  # what the digest of a price set is made of


def perp(number: int, course: Course) -> Row:
    """The forced trade of a number."""
    placed, action, block = number // FILLS, number // ORDERS, 600_000_000 + number // BLOCK_ROWS
    method = METHODS.get(placed % 20, "market")
    is_vault = method == "adl_of_vault"
    account = VAULT if is_vault else address(f"a{_skewed('a', action) >> 2}")
    coin_number = _skewed("c", placed) * 150 >> 20
    coin = f"C{coin_number}"
    size = (1 << 30) // (drawn("s", number) + 100)
    e5 = size * (coin_number * 7919 % 50_021 + 100 + block % 101)
    return Row(
        "protocol_vault" if is_vault else "counted", "perp", "hyperliquid", account, coin, coin,
        "long" if placed % 3 else "short", method, "par",
        course.moment(number - number % BLOCK_ROWS), str(placed), str(action),
        number % FILLS == FILLS - 1, e5 * 1000,
        f"hyperliquid|{block}/{coin}/{number}|{account}|liquidated|{_text(e5, 5)}|par",
    )  # fmt: skip


def loan(number: int, course: Course) -> Row:
    """The liquidation of a loan of a number."""
    venue = VENUES[drawn("v", number) % len(VENUES)]
    chain = venue.partition(".")[2]
    account = address(f"b{_skewed('b', number) >> 2}")
    key = f"0x{_md5(f't{number}')}{_md5(f'v{number}')}/{number % 300}"
    debt = _token(chain, DEBTS[drawn("d", number) % len(DEBTS)])
    collateral = _token(chain, COLLATERALS[drawn("k", number) % len(COLLATERALS)])
    owes, has = debt.family == "USD", collateral.family == "USD"
    dollars = (1 << 28) // (drawn("r", number) + 100)
    e8 = dollars * (100_000_000 + (20_000_000 + number // LOANS_A_BLOCK) % 10_007)
    return Row(
        "permissionless" if venue.startswith("morpho") else "counted", "lending", venue, account,
        "", debt.family if has and not owes else collateral.family,
        "long" if owes and not has else "short" if has and not owes else None, "repay_seize",
        "oracle", course.moment(number - number % LOANS_A_BLOCK), key, key, False, e8,
        f"{venue}|{key}|{account}|liquidated|{_text(e8, 8)}000000|oracle",
    )  # fmt: skip


class _Token(NamedTuple):
    address: str
    family: str


@cache
def _token(chain: str, symbol: str) -> _Token:
    if not symbol:
        address = f"0x{'0' * 40}"
        return _Token(address, f"{chain}/{address}")
    found = [one for one in families.kin() if (one.chain, one.symbol) == (chain, symbol)]
    return _Token(found[0].address, found[0].family)


def _tokens() -> Jsonb:
    return Jsonb({
        chain: {name: [_token(chain, symbol).address for symbol in symbols]
                for name, symbols in {"debts": DEBTS, "collaterals": COLLATERALS}.items()}
        for chain in ("ethereum", "base")
    })  # fmt: skip


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@cache
def address(name: str) -> str:
    """Of the account of a name."""
    return f"0x{_md5(name)}00000000"


def drawn(what: str, number: int) -> int:
    """As the SQL function of this name."""
    return int(_md5(f"{what}{number}")[:5], 16)


def _skewed(what: str, number: int) -> int:
    return drawn(what, number) ** 3 >> 40


def _text(number: int, digits: int) -> str:
    """A number of so many digits behind the point, all of them written."""
    return f"{number // 10**digits}.{number % 10**digits:0{digits}}"


def digest_of(row: Row) -> int:
    """What a row adds to the digest of a price set."""
    return int(_md5(row.text)[:15], 16)


def rows_of(rows: int, window: Window) -> list[Row]:
    """All rows of a window."""
    perps, loans = perps_of(rows), loans_of(rows)
    return [
        *(perp(number, perps) for number in perps.within(window, BLOCK_ROWS)),
        *(loan(number, loans) for number in loans.within(window, LOANS_A_BLOCK)),
    ]


def put(connection: Connection, query: str, course: Course, numbers: range) -> None:
    """Write the rows of these numbers, without their values; they may be after the year."""
    connection.execute(
        query,
        {
            "low": numbers.start, "high": numbers.stop, "total": course.rows,
            "before": course.before, "busy": course.busy, "vault": VAULT,
            "venues": list(VENUES), "tokens": _tokens(),
        },
    )  # fmt: skip


@contextmanager
def filled(on: server.Server, rows: int) -> Iterator[str]:
    """The conninfo of a database with all rows, vacuumed as it would be after a night."""
    with (
        fresh_database(on, template=server.NAME) as conninfo,
        database.connect(conninfo) as connection,
    ):
        kin.keep(connection, families.kin())
        definitions.keep(connection, presets().values())
        connection.execute(FUNCTIONS)
        for query, course in ((PERPS, perps_of(rows)), (LOANS, loans_of(rows))):
            for low in range(0, course.rows, AT_ONCE):
                put(connection, query, course, range(low, min(low + AT_ONCE, course.rows)))
        for query in (PERP_VALUES, LOAN_VALUES):
            connection.execute(query.format(where=""), {})
        connection.execute(AROUND)
        connection.execute("VACUUM ANALYZE")
        yield conninfo
