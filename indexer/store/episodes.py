"""What befell one account within one episode, read as one story: perpetuals here, loans in
`loan_episodes`.

Nothing is stored: a story follows from the rows of its account, which are read by the account's own
index. Rows are put into a temporary table first, so that the planner knows how few they are.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple, TypeVar

import msgspec
from psycopg.rows import dict_row

from indexer.errors import ConfigError, IndexerError
from indexer.methodology.definition import COOLDOWN_S
from indexer.store.database import Connection

USUAL_GAP = timedelta(seconds=900)
MOST_TAKERS = 5  # named of each method; all are counted

_KEY = re.compile(r"([^/]+)/([^/]+)/(.*)@([0-9]{8}T[0-9]{6}\.[0-9]{6})", re.DOTALL)

T = TypeVar("T")


# -- the nouns -----------------------------------------------------------------------------------


class Place(NamedTuple):
    """The episode of an account on a dex that has a record at a moment; `dex` is empty for the
    main one and for loans."""

    venue: str
    account: str
    dex: str
    at: datetime


class Label(msgspec.Struct, frozen=True):
    """What the account is thought to be during the episode."""

    label: str
    rule: str
    rule_version: int
    confidence: Decimal


class Taker(msgspec.Struct, frozen=True):
    """Who was on the other side; `name` is that of a vault of the exchange."""

    account: str
    name: str | None
    fills: int
    notional: Decimal


class Share(msgspec.Struct, frozen=True):
    """What one method took. `takers` counts the accounts on the other side that were seen,
    `largest` names the first of them; `unseen` are fills of which that side was not."""

    method: str
    fills: int
    orders: int
    actions: int
    notional: Decimal
    notional_usd: Decimal | None
    takers: int
    unseen: int
    largest: tuple[Taker, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """What one action did in one market by one method. `so_far` is the notional of the episode up
    to and with it; positions are signed, None where the fills that would tell were not seen.
    `equity` and `margin_mode` are what the exchange's ledger states of the whole action."""

    at: datetime
    block_number: int | None
    tx_hash: str | None
    market: str
    side: str
    method: str
    fills: int
    orders: int
    size: Decimal
    low: Decimal
    high: Decimal
    notional: Decimal
    notional_usd: Decimal | None
    notional_mark: Decimal | None
    mark_price: Decimal | None
    realised_pnl: Decimal | None
    so_far: Decimal
    position_before: Decimal | None
    position_after: Decimal | None
    equity: Decimal | None
    margin_mode: str | None


class Point(msgspec.Struct, frozen=True):
    """Prices of one block: the average of the fills, their lowest and highest, and the mark."""

    at: datetime
    price: Decimal
    low: Decimal
    high: Decimal
    mark_price: Decimal | None


class Market(msgspec.Struct, frozen=True):
    """What became of the position in one market.

    `slippage` is what execution brought less than the mark price, in the quote token; a gain is
    negative. `changes` are the times that the position moved between two steps, by trades of the
    account's own or by liquidations that were not read, `changed_by` how far in all. `worst_price`
    is None where both sides were liquidated, other fields where a fill that would tell is not seen.
    """

    market: str
    sides: tuple[str, ...]
    fills: int
    size: Decimal
    notional: Decimal
    notional_usd: Decimal | None
    average_price: Decimal
    worst_price: Decimal | None
    mark_first: Decimal | None
    mark_last: Decimal | None
    notional_mark: Decimal | None
    slippage: Decimal | None
    position_before: Decimal | None
    position_after: Decimal | None
    changes: int
    changed_by: Decimal | None
    path: tuple[Point, ...] = ()


class Fee(msgspec.Struct, frozen=True):
    """Fees that the account paid in one token; `usd` at par."""

    asset: str | None
    amount: Decimal
    usd: Decimal | None


class Lack(msgspec.Struct, frozen=True):
    """How many records have no value on a basis, and why; no reason where nobody tried."""

    basis: str
    reason: str | None
    records: int


class PerpStory(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="perp"):
    """The episode of an account on one dex.

    Dollars are dollar tokens at par: `notional_usd` at execution, `notional_mark_usd` at the mark
    price. `unpriced`, `without_mark` and `without_pnl` say how many fills the sums beside them
    miss; a sum of none is None. `notional` and `realised_pnl` are in the quote token, None where
    `quotes` are several. `takeovers` are fills by backstop or ADL, which take margin along: of
    `without_margin` of them the margin lost is not known.
    """

    key: str
    venue: str
    account: str
    dex: str
    first_at: datetime
    last_at: datetime
    first_block: int | None
    last_block: int | None
    fills: int
    orders: int
    actions: int
    markets: tuple[str, ...]
    sides: tuple[str, ...]
    margin_modes: tuple[str, ...]
    quotes: tuple[str | None, ...]
    is_protocol_vault: bool
    was_read_whole: bool
    notional: Decimal | None
    notional_usd: Decimal | None
    notional_mark_usd: Decimal | None
    realised_pnl: Decimal | None
    realised_pnl_usd: Decimal | None
    unpriced: int
    without_mark: int
    without_pnl: int
    without_own_leg: int
    without_fee: int
    one_legged_backstops: int
    takeovers: int
    margin_lost_usd: Decimal | None
    without_margin: int
    labels: tuple[Label, ...] = ()
    shares: tuple[Share, ...] = ()
    fees: tuple[Fee, ...] = ()
    lacks: tuple[Lack, ...] = ()
    by_market: tuple[Market, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def lasted(self) -> timedelta:
        """From the first to the last liquidation."""
        return self.last_at - self.first_at


# -- which episode -------------------------------------------------------------------------------


def check_gap(gap: timedelta) -> None:
    """Raises ConfigError for a gap that would cut one liquidation of the venue in two."""
    if gap <= timedelta(seconds=COOLDOWN_S):
        raise ConfigError(
            f"the gap must exceed the venue's cooldown of {COOLDOWN_S}s, not"
            f" {gap.total_seconds():g}s"
        )


def place_of(connection: Connection, key: str) -> Place:
    """What the key of an episode names, or that of a liquidation in it. Raises IndexerError where
    it is neither."""
    found = parsed(key) or _of_liquidation(connection, key)
    if found is None:
        raise unknown_key(key)
    return found


def parsed(key: str) -> Place | None:
    """The parts of `venue/account/dex@time`; None where it is no such key."""
    found = _KEY.fullmatch(key.strip())
    if found is None:
        return None
    try:
        at = datetime.strptime(found[4], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Place(found[1], found[2].lower(), found[3], at)


def key_of(place: Place) -> str:
    """As `liq.episodes` writes it, of an episode that begins at the place."""
    return f"{place.venue}/{place.account}/{place.dex}@{place.at:%Y%m%dT%H%M%S.%f}"


def unknown_key(key: str) -> IndexerError:
    """What is said of a key that names no episode."""
    return IndexerError(
        f"no episode {key!r}: take a key from liq.episodes(), from the largest of indexer total, or"
        " that of a liquidation"
    )


def _of_liquidation(connection: Connection, key: str) -> Place | None:
    venue, _, rest = key.strip().partition("/")
    event_key, _, account = rest.rpartition("/")
    row = connection.execute(
        """
        SELECT venue, account, dex, block_at FROM ledger.liquidation
        WHERE account = %(account)s AND venue = %(venue)s AND event_key = %(event_key)s
        UNION ALL
        SELECT venue, account, '', block_at FROM ledger.lending_liquidation
        WHERE account = %(account)s AND venue = %(venue)s AND event_key = %(event_key)s
        """,
        {"venue": venue, "event_key": event_key, "account": account.lower()},
    ).fetchone()
    return Place(*row) if row else None  # type: ignore[arg-type]


def lenders(connection: Connection, venues: Iterable[str]) -> set[str]:
    """Those of some venues that lend; all of a chain do of which nothing else is known."""
    rows = connection.execute(
        """
        SELECT venue FROM unnest(%s::text[]) AS asked (venue)
        LEFT JOIN ledger.venue USING (venue)
        WHERE coalesce(instrument = 'lending', ledger.chain_of(venue) <> '')
        """,
        (list(venues),),
    )
    return {str(venue) for (venue,) in rows}


def largest(
    connection: Connection, low: datetime, high: datetime, top: int, gap: timedelta
) -> list[Place]:
    """The episodes with the most dollars in [low, high): at execution price, of loans the debt
    repaid. What has no dollar value comes last, vaults of the exchange not at all."""
    venues = connection.execute("SELECT ledger.venues_with_rows()").fetchone()
    rows = connection.execute(
        LARGEST,
        {"low": low, "high": high, "top": top, "gap": gap, "venues": venues and venues[0]},
    ).fetchall()
    return [Place(*row) for row in rows]  # type: ignore[arg-type]


# Two records in the window have only records in the window between them: what it cuts off of an
# episode is not needed to tell it from the next. Venues are named, as the indices begin with them.
LARGEST = """
    WITH perp AS (
        SELECT venue, account, dex, min(block_at) AS at, sum(usd) AS usd
        FROM (
            SELECT spaced.*, count(*) FILTER (WHERE is_late) OVER (
                       PARTITION BY venue, account, dex ORDER BY block_at) AS episode
            FROM (
                SELECT l.venue, l.account, l.dex, l.block_at, l.notional_usd AS usd,
                       l.block_at - lag(l.block_at) OVER (
                           PARTITION BY l.venue, l.account, l.dex ORDER BY l.block_at
                       ) > %(gap)s AS is_late
                FROM liq.liquidations l
                WHERE l.venue = ANY (%(venues)s) AND NOT l.account_is_protocol_vault
                  AND l.block_at >= %(low)s AND l.block_at < %(high)s
            ) spaced
        ) numbered
        GROUP BY venue, account, dex, episode
    ), loan AS (
        SELECT venue, account, '' AS dex, min(block_at) AS at, sum(usd) AS usd
        FROM (
            SELECT spaced.*, count(*) FILTER (WHERE is_late) OVER (
                       PARTITION BY venue, account ORDER BY block_at) AS episode
            FROM (
                SELECT l.venue, l.account, l.block_at, v.repaid_usd AS usd,
                       l.block_at - lag(l.block_at) OVER (
                           PARTITION BY l.venue, l.account ORDER BY l.block_at
                       ) > %(gap)s AS is_late
                FROM ledger.lending_liquidation l
                LEFT JOIN (
                    SELECT * FROM liq.lending_values
                    WHERE venue = ANY (%(venues)s)
                      AND block_at >= %(low)s AND block_at < %(high)s
                ) v USING (venue, account, event_key, block_at)
                WHERE l.venue = ANY (%(venues)s)
                  AND l.block_at >= %(low)s AND l.block_at < %(high)s
            ) spaced
        ) numbered
        GROUP BY venue, account, episode
    )
    SELECT venue, account, dex, at
    FROM (SELECT * FROM perp UNION ALL SELECT * FROM loan) found
    ORDER BY usd DESC NULLS LAST, venue, account, dex, at
    LIMIT %(top)s
"""


# -- the story -----------------------------------------------------------------------------------


def read(connection: Connection, places: Sequence[Place], gap: timedelta) -> list[PerpStory]:
    """The stories of perpetuals at these places, in their order; a place without one is left out.

    To be called once within a transaction, which drops the temporary tables at its end."""
    ask = Asker(connection, places, gap)
    for statement in (TOLD, "ANALYZE told", STEPS, "ANALYZE told_step"):
        ask.run(statement)
    parts: dict[str, dict[int, list[Any]]] = {
        "labels": ask.grouped(LABELS.replace("{told}", "told"), Label),
        "shares": _shares(ask),
        "fees": ask.grouped(_FEES, Fee),
        "lacks": ask.grouped(LACKS, Lack),
        "by_market": _markets(ask),
        "steps": ask.grouped(_STEPS_IN_ORDER, Step),
    }
    return [
        msgspec.convert(
            row | {name: tuple(found[row["place"]]) for name, found in parts.items()}, PerpStory
        )
        for row in ask.rows(HEADER)
    ]


class Asker:
    """Runs queries with the places that stories are asked of."""

    def __init__(self, connection: Connection, places: Sequence[Place], gap: timedelta) -> None:
        self._connection = connection
        self.values: dict[str, Any] = {
            "venues": [place.venue for place in places],
            "accounts": [place.account for place in places],
            "dexes": [place.dex for place in places],
            "moments": [place.at for place in places],
            "gap": gap,
            "most_takers": MOST_TAKERS,
        }

    def run(self, statement: LiteralString) -> None:
        """Run a statement that gives no rows."""
        self._connection.execute(statement, self.values)

    def rows(self, query: LiteralString) -> list[dict[str, Any]]:
        """The rows by the names of their columns."""
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, self.values).fetchall()

    def grouped(self, query: LiteralString, into: type[T]) -> dict[int, list[T]]:
        """The rows of each place, in the query's order."""
        found: dict[int, list[T]] = defaultdict(list)
        for row in self.rows(query):
            found[row["place"]].append(msgspec.convert(row, into))
        return found


def _shares(ask: Asker) -> dict[int, list[Share]]:
    takers: dict[tuple[int, str], list[Taker]] = defaultdict(list)
    for row in ask.rows(_TAKERS):
        takers[row["place"], row["method"]].append(msgspec.convert(row, Taker))
    found: dict[int, list[Share]] = defaultdict(list)
    for row in ask.rows(_SHARES):
        named = tuple(takers[row["place"], row["method"]])
        found[row["place"]].append(msgspec.convert(row | {"largest": named}, Share))
    return found


def _markets(ask: Asker) -> dict[int, list[Market]]:
    paths: dict[tuple[int, str], list[Point]] = defaultdict(list)
    for row in ask.rows(_PATH):
        paths[row["place"], row["market"]].append(msgspec.convert(row, Point))
    found: dict[int, list[Market]] = defaultdict(list)
    for row in ask.rows(_MARKETS):
        path = thinned(paths[row["place"], row["market"]], MOST_POINTS)
        found[row["place"]].append(msgspec.convert(row | {"path": path}, Market))
    return found


MOST_POINTS = 60
_ALWAYS = 6  # first, last, lowest, highest fill, lowest and highest mark


def thinned(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """At most so many points, evenly taken; the first, the last and the extremes always stay."""
    if len(points) <= most:
        return tuple(points)
    marks = [n for n, point in enumerate(points) if point.mark_price is not None]
    places = range(len(points))
    kept = {
        0, len(points) - 1,
        min(places, key=lambda n: points[n].low), max(places, key=lambda n: points[n].high),
        *([min(marks, key=lambda n: points[n].mark_price or 0),
           max(marks, key=lambda n: points[n].mark_price or 0)] if marks else []),
    }  # fmt: skip
    even = most - _ALWAYS
    kept |= {len(points) * n // even for n in range(even)}
    return tuple(points[n] for n in sorted(kept))


# The inner query cannot be joined as a whole table, as it has windows: it is looked up by the
# account's index, place by place. Records of one moment are never late among themselves.
TOLD = """
    CREATE TEMP TABLE told ON COMMIT DROP AS
    SELECT asked.place, mine.*, coalesce(mine.tx_hash, mine.event_key) AS action
    FROM unnest(%(venues)s::text[], %(accounts)s::text[], %(dexes)s::text[],
                %(moments)s::timestamptz[])
        WITH ORDINALITY AS asked (venue, account, dex, at, place)
    CROSS JOIN LATERAL (
        SELECT numbered.*, bool_or(block_at = asked.at) OVER (PARTITION BY episode) AS is_asked
        FROM (
            SELECT spaced.*, count(*) FILTER (WHERE is_late) OVER (ORDER BY block_at) AS episode
            FROM (
                SELECT l.*, l.block_at - lag(l.block_at) OVER (ORDER BY l.block_at) > %(gap)s
                           AS is_late
                FROM liq.liquidations l
                WHERE l.account = asked.account AND l.venue = asked.venue AND l.dex = asked.dex
            ) spaced
        ) numbered
    ) mine
    WHERE mine.is_asked
"""

# Within one action fills are in no order, and their trade ids say nothing; but they only make a
# position smaller. So the largest before and the smallest after are its ends, if all that was taken
# fits between them: if the account's own leg was seen of all, or of enough that the rest lies
# between. Nothing left is the end in any case. A balance of spot may grow meanwhile: it has none.
# Actions of one block are in the order of the number that their hashes hold from byte 15 on, as far
# as it is known.
STEPS = """
    CREATE TEMP TABLE told_step ON COMMIT DROP AS
    SELECT step.*, said.equity, said.margin_mode,
           row_number() OVER in_order AS number,
           sum(step.notional) OVER (in_order ROWS UNBOUNDED PRECEDING) AS so_far
    FROM (
        SELECT summed.*,
               CASE WHEN is_known THEN sign * largest END AS position_before,
               CASE WHEN is_known OR smallest = 0 THEN sign * smallest END AS position_after
        FROM (
            SELECT place, action, market, side, method, min(venue) AS venue,
                   min(account) AS account, min(tx_hash) AS tx_hash, min(block_at) AS at,
                   min(block_number) AS block_number, count(*) AS fills,
                   count(DISTINCT coalesce(order_id, action)) AS orders,
                   sum(size) AS size, min(price) AS low, max(price) AS high,
                   sum(notional) AS notional,
                   CASE WHEN count(notional_usd) = count(*) THEN sum(notional_usd) END
                       AS notional_usd,
                   CASE WHEN count(notional_mark) = count(*) THEN sum(notional_mark) END
                       AS notional_mark,
                   CASE WHEN count(mark_price) < count(*) THEN NULL
                        WHEN min(mark_price) = max(mark_price) THEN min(mark_price)
                        ELSE sum(notional_mark) / nullif(sum(size), 0) END AS mark_price,
                   CASE WHEN count(realised_pnl) = count(*) THEN sum(realised_pnl) END
                       AS realised_pnl,
                   CASE side WHEN 'long' THEN 1 ELSE -1 END AS sign,
                   max(abs(position_before)) AS largest, min(abs(position_after)) AS smallest,
                   abs(max(abs(position_before)) - min(abs(position_after)) - sum(size))
                       <= sum(size) * 1e-9 AS is_known
            FROM told
            GROUP BY place, action, market, side, method
        ) summed
    ) step
    CROSS JOIN LATERAL (
        SELECT sum(l.account_value) AS equity, min(l.margin_mode) AS margin_mode
        FROM ledger.ledger_liquidation l
        WHERE l.account = step.account AND l.tx_hash = step.tx_hash AND l.venue = step.venue
    ) said
    WINDOW in_order AS (
        PARTITION BY step.place
        ORDER BY step.at, substr(step.tx_hash, 33) COLLATE "C", step.action COLLATE "C",
                 step.market COLLATE "C", step.largest DESC NULLS LAST, step.method
    )
"""

_STEPS_IN_ORDER = "SELECT * FROM told_step ORDER BY place, number"

# What a takeover cost in margin is a value; the key of the values begins with venue and time.
HEADER = """
    SELECT t.place,
           min(t.venue) || '/' || min(t.account) || '/' || min(t.dex) || '@'
               || to_char(min(t.block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US') AS key,
           min(t.venue) AS venue, min(t.account) AS account, min(t.dex) AS dex,
           min(t.block_at) AS first_at, max(t.block_at) AS last_at,
           min(t.block_number) AS first_block, max(t.block_number) AS last_block,
           count(*) AS fills, count(DISTINCT (t.market, coalesce(t.order_id, t.action))) AS orders,
           count(DISTINCT t.action) AS actions,
           array_agg(DISTINCT t.market ORDER BY t.market) AS markets,
           array_agg(DISTINCT t.side ORDER BY t.side) AS sides,
           (SELECT coalesce(array_agg(DISTINCT mode ORDER BY mode), '{}')
            FROM (SELECT margin_mode AS mode FROM told WHERE place = t.place
                  UNION ALL SELECT lower(margin_mode) FROM told_step WHERE place = t.place) said
            WHERE mode IS NOT NULL) AS margin_modes,
           array_agg(DISTINCT t.quote ORDER BY t.quote) AS quotes,
           bool_or(t.account_is_protocol_vault) AS is_protocol_vault,
           ledger.has_read(min(t.venue), min(t.block_at), max(t.block_at)) AS was_read_whole,
           CASE WHEN count(DISTINCT coalesce(t.quote, '')) = 1 THEN sum(t.notional) END AS notional,
           sum(t.notional_usd) AS notional_usd, sum(t.notional_mark_usd) AS notional_mark_usd,
           CASE WHEN count(DISTINCT coalesce(t.quote, '')) = 1 THEN sum(t.realised_pnl) END
               AS realised_pnl,
           sum(t.realised_pnl_usd) AS realised_pnl_usd,
           count(*) - count(t.notional_usd) AS unpriced,
           count(*) - count(t.notional_mark) AS without_mark,
           count(*) - count(t.realised_pnl) AS without_pnl,
           count(*) FILTER (WHERE t.legs_seen = 'counterparty') AS without_own_leg,
           count(*) - count(t.fee) AS without_fee,
           count(*) FILTER (WHERE t.method = 'backstop' AND t.legs_seen = 'liquidated')
               AS one_legged_backstops,
           count(*) FILTER (WHERE t.method IN ('backstop', 'adl_of_user')) AS takeovers,
           sum(worth.margin_lost_usd) AS margin_lost_usd,
           count(*) FILTER (WHERE t.method IN ('backstop', 'adl_of_user')
                            AND worth.margin_lost_usd IS NULL) AS without_margin
    FROM told t
    LEFT JOIN LATERAL (
        SELECT v.margin_lost_usd FROM ledger.valuation v
        WHERE v.venue = t.venue AND v.block_at = t.block_at AND v.event_key = t.event_key
          AND v.account = t.account AND v.price_source = 'par'
        LIMIT 1
    ) worth ON true
    GROUP BY t.place
    ORDER BY t.place
"""

_SHARES = """
    SELECT place, method, count(*) AS fills,
           count(DISTINCT (market, coalesce(order_id, action))) AS orders,
           count(DISTINCT action) AS actions, sum(notional) AS notional,
           CASE WHEN count(notional_usd) = count(*) THEN sum(notional_usd) END AS notional_usd,
           count(DISTINCT counterparty) AS takers,
           count(*) - count(counterparty) AS unseen
    FROM told
    GROUP BY place, method
    ORDER BY place, sum(notional) DESC, method
"""

_TAKERS = """
    SELECT ranked.*, vault.name
    FROM (
        SELECT place, method, counterparty AS account, min(venue) AS venue, count(*) AS fills,
               sum(notional) AS notional,
               row_number() OVER (
                   PARTITION BY place, method ORDER BY sum(notional) DESC, counterparty) AS rank
        FROM told
        WHERE counterparty IS NOT NULL
        GROUP BY place, method, counterparty
    ) ranked
    LEFT JOIN liq.protocol_vaults vault USING (venue, account)
    WHERE rank <= %(most_takers)s
    ORDER BY place, method, rank
"""

_FEES = """
    SELECT place, fee_asset AS asset, sum(fee) AS amount,
           CASE WHEN liq.at_par(fee_asset) THEN sum(fee) END AS usd
    FROM told WHERE fee IS NOT NULL
    GROUP BY place, fee_asset
    ORDER BY place, fee_asset
"""

# A record that has neither a value nor a reason was never valued.
LACKS = """
    SELECT t.place, 'margin_lost' AS basis, why.reason, count(*) AS records
    FROM told t
    LEFT JOIN LATERAL (
        SELECT v.margin_lost_usd FROM ledger.valuation v
        WHERE v.venue = t.venue AND v.block_at = t.block_at AND v.event_key = t.event_key
          AND v.account = t.account AND v.price_source = 'par'
        LIMIT 1
    ) worth ON true
    LEFT JOIN LATERAL (
        SELECT u.reason FROM ledger.unvalued u
        WHERE u.venue = t.venue AND u.block_at = t.block_at AND u.event_key = t.event_key
          AND u.account = t.account AND u.price_source = 'par' AND 'margin_lost' = ANY (u.bases)
        LIMIT 1
    ) why ON true
    WHERE t.method IN ('backstop', 'adl_of_user') AND worth.margin_lost_usd IS NULL
    GROUP BY t.place, why.reason
    ORDER BY t.place, why.reason
"""

_MARKETS = """
    SELECT place, market, array_agg(DISTINCT side ORDER BY side) AS sides,
           sum(fills)::bigint AS fills, sum(size) AS size, sum(notional) AS notional,
           CASE WHEN count(notional_usd) = count(*) THEN sum(notional_usd) END AS notional_usd,
           sum(notional) / nullif(sum(size), 0) AS average_price,
           CASE WHEN min(side) < max(side) THEN NULL
                WHEN min(side) = 'long' THEN min(low) ELSE max(high) END AS worst_price,
           (array_agg(mark_price ORDER BY number))[1] AS mark_first,
           (array_agg(mark_price ORDER BY number DESC))[1] AS mark_last,
           CASE WHEN count(notional_mark) = count(*) THEN sum(notional_mark) END AS notional_mark,
           CASE WHEN count(notional_mark) = count(*)
                THEN sum(sign * (notional_mark - notional)) END AS slippage,
           (array_agg(position_before ORDER BY number))[1] AS position_before,
           (array_agg(position_after ORDER BY number DESC))[1] AS position_after,
           count(*) FILTER (WHERE change <> 0) AS changes,
           CASE WHEN count(*) FILTER (WHERE change IS NULL) = 0 THEN sum(change) END AS changed_by
    FROM (
        SELECT told_step.*,
               CASE WHEN lag(number) OVER of_market IS NULL THEN 0
                    WHEN abs(position_before - lag(position_after) OVER of_market)
                         <= greatest(abs(position_before), size) * 1e-9 THEN 0
                    ELSE position_before - lag(position_after) OVER of_market END AS change
        FROM told_step
        WINDOW of_market AS (PARTITION BY place, market ORDER BY number)
    ) step
    GROUP BY place, market
    ORDER BY place, sum(notional) DESC, market
"""

_PATH = """
    SELECT place, market, block_at AS at, sum(notional) / nullif(sum(size), 0) AS price,
           min(price) AS low, max(price) AS high,
           CASE WHEN count(mark_price) < count(*) THEN NULL
                WHEN min(mark_price) = max(mark_price) THEN min(mark_price)
                ELSE sum(notional_mark) / nullif(sum(size), 0) END AS mark_price
    FROM told
    GROUP BY place, market, block_at
    ORDER BY place, market, block_at
"""

# A label may be of the venue, of its chain, or of every chain.
LABELS = """
    SELECT DISTINCT said.place, l.label, l.rule, l.rule_version, l.confidence
    FROM (
        SELECT place, min(venue) AS venue, min(account) AS account, min(block_at) AS first_at,
               max(block_at) AS last_at
        FROM {told} GROUP BY place
    ) said
    JOIN liq.labels l
      ON l.account = said.account
     AND l.venue IN (said.venue, nullif(ledger.chain_of(said.venue), ''), '*')
    WHERE coalesce(l.valid_from, '-infinity') <= said.last_at
      AND coalesce(l.valid_to, 'infinity') > said.first_at
    ORDER BY said.place, l.label, l.rule
"""
