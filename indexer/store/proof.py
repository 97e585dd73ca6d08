"""What is proved of coverage: how whole a window is, which invariants of the data itself hold in
it, and a hash of what is stored.

Only fills with a liquidation mark are stored, and the other legs of their trades. What would need
all fills is therefore not claimed: that a position went on from one order of an account to its
next, that a whole order with all its legs is not missing, that a maker's legs follow each other.
Those rest on the heights that were read whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from psycopg import sql

from indexer.store import dydx_proof
from indexer.store.database import Connection

FACTS = "liquidations"


# coverage


class Run(msgspec.Struct, frozen=True):
    """Adjacent blocks `block_from` up to, not including, `block_to` that were read whole.

    `first_at` and `last_at` are the times of the first and the last of them, `verifications` how
    it is known."""

    block_from: int
    block_to: int
    first_at: datetime
    last_at: datetime
    verifications: tuple[str, ...]


class Hole(msgspec.Struct, frozen=True):
    """The part of a window from `low` to `high` that is not covered.

    Missing are the blocks `block_from` up to, not including, `block_to`, some of which may lie
    outside of the window; None where nothing is covered on that side. A hole may take no time: the
    blocks on both sides of it can have the same."""

    low: datetime
    high: datetime
    block_from: int | None
    block_to: int | None


class Covering(msgspec.Struct, frozen=True):
    """How much of the window from `low` to before `high` was read of a venue.

    `runs` are those that reach into the window, whole; `share` is of its time, from 0 to 1."""

    venue: str
    low: datetime
    high: datetime
    runs: tuple[Run, ...]
    holes: tuple[Hole, ...]
    share: Decimal

    @property
    def is_whole(self) -> bool:
        """Whether one run reaches from one end of the window to the other."""
        return not self.holes


def covered(
    connection: Connection,
    venue: str,
    low: datetime,
    high: datetime,
    first_block: int | None = None,
) -> Covering:
    """As `coverings`, of one venue."""
    first_blocks = {} if first_block is None else {venue: first_block}
    return coverings(connection, [venue], low, high, first_blocks)[0]


def coverings(
    connection: Connection,
    venues: Sequence[str],
    low: datetime,
    high: datetime,
    first_blocks: Mapping[str, int],
    facts: str = FACTS,
) -> list[Covering]:
    """How much of a window was read of each venue, in their order, for these facts.

    A window is covered to its end where a block at or after `high` was read, and from its begin
    where one at or before `low` was, or the venue's first block, before which there is nothing."""
    found: Iterable[Any] = connection.execute(_RUNS, {"venues": list(venues), "facts": facts})
    runs = {
        venue: [Run(row[1], row[2], row[3], row[4], tuple(row[5])) for row in of_venue]
        for venue, of_venue in groupby(found, itemgetter(0))
    }
    return [
        _covering(venue, runs.get(venue, []), low, high, first_blocks.get(venue))
        for venue in venues
    ]


_RUNS = """
    SELECT venue, min(lower(blocks)), max(upper(blocks)), min(lower(times)), max(upper(times)),
           array_agg(DISTINCT verification ORDER BY verification)
    FROM (
        SELECT *, count(*) FILTER (WHERE begins) OVER in_order AS run
        FROM (
            SELECT *, lag(upper(blocks)) OVER in_order IS DISTINCT FROM lower(blocks) AS begins
            FROM ledger.coverage
            WHERE venue = ANY(%(venues)s) AND facts = %(facts)s
            WINDOW in_order AS (PARTITION BY venue ORDER BY blocks)
        ) ranges
        WINDOW in_order AS (PARTITION BY venue ORDER BY blocks)
    ) numbered
    GROUP BY venue, run
    ORDER BY venue, 2
"""


def _covering(
    venue: str, runs: Sequence[Run], low: datetime, high: datetime, first_block: int | None
) -> Covering:
    holes = tuple(_holes(runs, low, high, first_block))
    time, missing = high - low, sum(((hole.high - hole.low) for hole in holes), low - low)
    share = Decimal((time - missing) // _TICK) / Decimal(time // _TICK) if time else Decimal(1)
    inside = tuple(run for run in runs if run.first_at <= high and run.last_at >= low)
    return Covering(venue, low, high, inside, holes, share if runs else Decimal(0))


_TICK = datetime.resolution


def _holes(
    runs: Sequence[Run], low: datetime, high: datetime, first_block: int | None
) -> Iterable[Hole]:
    """What lies before, between and after the runs, as far as it reaches into the window."""
    ends = [None, *runs]
    for before, after in zip(ends, [*runs, None], strict=True):
        if after and first_block is not None and after.block_from <= first_block:
            continue
        since = before.last_at if before else None
        until = after.first_at if after else None
        if (since is None or since < high) and (until is None or until > low):
            yield Hole(
                max(low, since or low),
                min(high, until or high),
                before.block_to if before else None,
                after.block_from if after else None,
            )


def venues(connection: Connection) -> list[str]:
    """Every venue of which any block was read for its liquidations."""
    rows = connection.execute(
        "SELECT DISTINCT venue FROM ledger.coverage WHERE facts = %s ORDER BY 1", (FACTS,)
    )
    return [str(venue) for (venue,) in rows]


def extent(connection: Connection, venue: str) -> tuple[datetime, datetime] | None:
    """The times of the first and the last covered block; None where there is none."""
    row: Any = connection.execute(
        "SELECT min(lower(times)), max(upper(times)) FROM ledger.coverage"
        " WHERE (venue, facts) = (%s, %s)",
        (venue, FACTS),
    ).fetchone()
    return None if row[0] is None else (row[0], row[1])


# invariants


class Checked(msgspec.Struct, frozen=True):
    """How many units an invariant was tried on, and how many contradict it."""

    invariant: str
    units: int
    violated: int


class Violation(msgspec.Struct, frozen=True):
    """What contradicts an invariant."""

    invariant: str
    subject: str
    detail: str


class Audit(msgspec.Struct, frozen=True):
    """What is stored of a venue in a window: what could not be decoded, what the invariants say,
    and the sum of the hashes of its raw records."""

    undecoded: int
    quarantined: int
    checked: tuple[Checked, ...]
    records: int
    digest: int


class Topics(NamedTuple):
    """First topics of a chain venue's events: those that are a liquidation by themselves, and
    those that belong to one of their transaction, and those that may be part of one, which what
    their transaction is has to tell."""

    liquidations: Sequence[str] = ()
    siblings: Sequence[str] = ()
    candidates: Sequence[str] = ()


def audit(
    connection: Connection,
    venue: str,
    low: datetime | None,
    high: datetime | None,
    topics: Topics,
) -> Audit:
    """Try the invariants on what is stored of a venue from `low` to before `high`, both open where
    None, and make `ledger.violation` of that time equal to what contradicts them.

    All of it sees one state of the ledger, whoever writes beside it."""
    values = {
        "venue": venue, "facts": FACTS, "low": low, "high": high,
        "liquidations": [bytes.fromhex(topic[2:]) for topic in topics.liquidations],
        "siblings": [bytes.fromhex(topic[2:]) for topic in topics.siblings],
        "candidates": [bytes.fromhex(topic[2:]) for topic in topics.candidates],
    }  # fmt: skip
    stages, invariants = (
        (_LOGS, _OF_CHAINS) if "." in venue
        else (dydx_proof.STAGES, dydx_proof.INVARIANTS) if venue == "dydx_v4"
        else (_LEGS, _OF_PERPS)
    )  # fmt: skip
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # before the first look at data: a second audit waits, and then sees what the first wrote
        connection.execute("LOCK TABLE ledger.violation IN SHARE ROW EXCLUSIVE MODE")
        connection.execute(_FORGET, values)
        for stage in stages:
            connection.execute(stage.format(window=_WINDOW), values)
        checked = tuple(
            Checked(name, *_row(connection, _CHECK.format(units=units), {**values, "name": name}))
            for name, units in invariants.items()
        )
        undecoded, quarantined = _row(connection, _UNREAD.format(window=_WINDOW), values)
        records, digest = _row(connection, _CONTENT, values)
    return Audit(undecoded, quarantined, checked, records, int(digest))


def _row(connection: Connection, query: Any, values: Mapping[str, object]) -> Any:
    return connection.execute(query, values).fetchone()


def violations(
    connection: Connection, venue: str, low: datetime | None, high: datetime | None, most: int
) -> list[Violation]:
    """What audits wrote down of a venue and a window, the first of it."""
    rows: Iterable[Any] = connection.execute(
        "SELECT invariant, subject, detail FROM ledger.violation"
        " WHERE venue = %s AND times && tstzrange(%s::timestamptz, %s::timestamptz)"
        " ORDER BY times, invariant, subject LIMIT %s",
        (venue, low, high, most),
    )
    return [Violation(*row) for row in rows]


_WINDOW = sql.SQL(
    "block_at >= coalesce(%(low)s::timestamptz, '-infinity')"
    " AND block_at < coalesce(%(high)s::timestamptz, 'infinity')"
)

_FORGET = """
    DELETE FROM ledger.violation
    WHERE venue = %(venue)s AND times && tstzrange(%(low)s::timestamptz, %(high)s::timestamptz)
"""

# An invariant is a query for its units: subject, first and last time, and what contradicts it there
# or NULL.
_CHECK = sql.SQL(
    """
    WITH unit (subject, first_at, last_at, detail) AS ({units}), found AS (
        INSERT INTO ledger.violation (venue, invariant, subject, detail, times, audited)
        SELECT %(venue)s, %(name)s, subject, detail, tstzrange(first_at, last_at, '[]'),
               tstzrange(%(low)s::timestamptz, %(high)s::timestamptz)
        FROM unit WHERE detail IS NOT NULL
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM unit), (SELECT count(*) FROM found)
    """
)

_UNREAD = sql.SQL(
    """
    SELECT (SELECT count(*) FROM ledger.undecoded
            WHERE venue = %(venue)s AND event_key NOT LIKE 'ledger/%%' AND {window}),
           (SELECT count(*) FROM ledger.quarantine
            WHERE chain = ledger.chain_of(%(venue)s) AND {window})
    """
)

_CONTENT = """
    SELECT records, digest FROM liq.content_hash(
        %(venue)s, coalesce(%(low)s::timestamptz, '-infinity'),
        coalesce(%(high)s::timestamptz, 'infinity')
    )
"""

# The fills under the key of a trade: those without one are undecoded. `is_covered` says that the
# whole block was read: of a record from the API the other leg may never have been.
_LEGS = (
    sql.SQL(
        """
        CREATE TEMP TABLE audited_leg ON COMMIT DROP AS
        SELECT regexp_replace(event_key, '/[^/]*/[AB]$', '') AS trade, event_key, block_number,
               block_at, fill.*,
               (SELECT range_agg(blocks) FROM ledger.coverage
                WHERE venue = %(venue)s AND facts = %(facts)s) @> block_number AS is_covered
        FROM ledger.raw_event CROSS JOIN LATERAL ledger.fill_of(body) fill
        WHERE chain = %(venue)s AND event_key ~ '^t?[0-9]+/.*/[AB]$' AND {window}
        """
    ),
    sql.SQL("ANALYZE audited_leg"),
    sql.SQL(
        """
        CREATE TEMP TABLE audited_row ON COMMIT DROP AS
        SELECT * FROM ledger.liquidation WHERE venue = %(venue)s AND {window}
        """
    ),
    sql.SQL("ANALYZE audited_row"),
)

# Node files print both legs of every trade: 3,641 of 3,641 in whole blocks of 2025-10, of equal
# size and price, one on each side.
_TWO_LEGS = sql.SQL(
    """
    SELECT trade, min(block_at), max(block_at),
           CASE WHEN count(*) <> 2 THEN format('%%s legs', count(*))
                WHEN min(px) = max(px) AND min(sz) = max(sz) AND count(px) = 2 THEN NULL
                ELSE format('legs of %%s', string_agg(sz || ' at ' || px, ' and ' ORDER BY is_buy))
           END
    FROM audited_leg WHERE is_covered GROUP BY trade
    """
)

_NETS_TO_ZERO = sql.SQL(
    """
    SELECT trade, min(block_at), max(block_at),
           CASE WHEN sum(CASE WHEN is_buy THEN sz ELSE -sz END) = 0 THEN NULL
                ELSE format('bought %%s, sold %%s',
                            trim_scale(coalesce(sum(sz) FILTER (WHERE is_buy), 0)),
                            trim_scale(coalesce(sum(sz) FILTER (WHERE NOT is_buy), 0))) END
    FROM audited_leg WHERE is_covered GROUP BY trade
    """
)

# The fills of one forced order of an account lie next to each other in its position, as all of them
# carry the mark and no other fill of it can come between, but one with itself: such orders are left
# out. So are spot balances, which fees and transfers change as well. Positions carry binary noise,
# of 1e-16 at most in 4,919 links of real fills.
_POSITION_CHAIN = sql.SQL(
    """
    SELECT event_key, block_at, block_at,
           CASE WHEN abs(start_position - ended)
                    <= 1e-12 * greatest(abs(start_position), abs(ended)) THEN NULL
                ELSE format('starts at %%s, the fill before it ended at %%s',
                            trim_scale(start_position), trim_scale(ended)) END
    FROM (
        SELECT *, lag(start_position + CASE WHEN is_buy THEN sz ELSE -sz END) OVER (
            PARTITION BY block_number, account, coin, hash, oid, is_buy
            ORDER BY CASE WHEN is_buy THEN start_position ELSE -start_position END, event_key
        ) AS ended
        FROM (
            SELECT *, count(*) OVER (PARTITION BY trade, account) AS own
            FROM audited_leg
            WHERE account = liquidated AND coin !~ '^[@#]|/'
              AND num_nulls(hash, oid, start_position, sz, is_buy) = 0
        ) legs
        WHERE own = 1
    ) links
    WHERE ended IS NOT NULL
    """
)

# In a takeover both legs are marked backstop and cancel out. What is left of a market in a block is
# what winners and losers of auto-deleveraging traded, whichever trade a leg is said to belong to.
_ADL_BALANCE = sql.SQL(
    """
    SELECT block_number || '/' || coin, min(block_at), max(block_at),
           CASE WHEN sum(signed) = 0 THEN NULL
                ELSE format('winners %%s, losers %%s',
                            trim_scale(abs(sum(signed) FILTER (WHERE is_winner))),
                            trim_scale(abs(coalesce(sum(signed) FILTER (WHERE NOT is_winner), 0))))
           END
    FROM (
        SELECT *, CASE WHEN is_buy THEN px * sz ELSE -px * sz END AS signed,
               dir = 'Auto-Deleveraging' AS is_winner
        FROM audited_leg WHERE is_covered AND method = 'backstop'
    ) legs
    GROUP BY block_number, coin HAVING bool_or(is_winner)
    """
)

_ROW_OF_LEGS = sql.SQL(
    """
    SELECT r.event_key || '/' || r.account, r.block_at, r.block_at,
           CASE WHEN count(leg.trade) = 0 THEN 'no leg of it is stored' ELSE nullif(concat_ws('; ',
               CASE WHEN NOT bool_and((leg.sz = r.size) IS TRUE)
                    THEN format('size %%s, legs of %%s', r.size, string_agg(leg.sz::text, ', '))
               END,
               CASE WHEN NOT bool_and((leg.px = r.price) IS TRUE)
                    THEN format('price %%s, legs at %%s', r.price, string_agg(leg.px::text, ', '))
               END,
               CASE WHEN r.notional <> r.size * r.price
                    THEN format('notional %%s is not size times price', r.notional) END,
               CASE WHEN NOT bool_and(leg.mark_px IS NOT DISTINCT FROM r.mark_price)
                    THEN format('mark %%s, legs say %%s', r.mark_price,
                                string_agg(leg.mark_px::text, ', ')) END,
               CASE WHEN NOT bool_or(coalesce(leg.liquidated, leg.account) = r.account)
                    THEN format('legs name %%s',
                                string_agg(coalesce(leg.liquidated, leg.account), ', ')) END,
               CASE WHEN NOT bool_or(leg.is_buy = (r.side = 'short')) FILTER (WHERE is_own)
                      OR NOT bool_or(is_own) AND NOT bool_and(leg.is_buy = (r.side = 'long'))
                    THEN format('side %%s, the legs say the other', r.side) END
           ), '') END
    FROM audited_row r
    LEFT JOIN audited_leg leg ON leg.trade = r.event_key
    LEFT JOIN LATERAL (SELECT leg.account = r.account AS is_own) whose ON true
    GROUP BY r.event_key, r.account, r.block_at, r.size, r.price, r.notional, r.mark_price, r.side
    """
)

_TRADE_HAS_ROW = sql.SQL(
    """
    SELECT leg.trade, min(leg.block_at), max(leg.block_at),
           CASE WHEN count(r.event_key) + count(u.event_key) = 0
                THEN 'neither a liquidation nor undecoded' END
    FROM audited_leg leg
    LEFT JOIN audited_row r ON r.event_key = leg.trade
    LEFT JOIN ledger.undecoded u
        ON u.venue = %(venue)s AND u.event_key IN (leg.trade, leg.event_key)
    GROUP BY leg.trade
    """
)

_OF_PERPS = {
    "two_legs": _TWO_LEGS,
    "nets_to_zero": _NETS_TO_ZERO,
    "position_chain": _POSITION_CHAIN,
    "adl_balance": _ADL_BALANCE,
    "row_of_legs": _ROW_OF_LEGS,
    "trade_has_row": _TRADE_HAS_ROW,
}

_LOGS = (
    sql.SQL(
        """
        CREATE TEMP TABLE audited_log ON COMMIT DROP AS
        SELECT tx_hash, log_index, substr(topics, 1, 32) AS topic, data, block_at
        FROM ledger.block JOIN ledger.raw_log USING (chain, block_number)
        WHERE chain = ledger.chain_of(%(venue)s) AND venue = %(venue)s AND {window}
        """
    ),
    sql.SQL("ANALYZE audited_log"),
    sql.SQL(
        """
        CREATE TEMP TABLE audited_event ON COMMIT DROP AS
        SELECT decode(substr(event_key, 3, 64), 'hex') AS tx_hash,
               split_part(event_key, '/', 2)::int AS log_index, min(block_at) AS block_at
        FROM (
            SELECT event_key, block_at FROM ledger.lending_liquidation WHERE venue = %(venue)s
            UNION ALL
            SELECT event_key, block_at FROM ledger.liquidation WHERE venue = %(venue)s
            UNION ALL
            SELECT event_key, block_at FROM ledger.undecoded WHERE venue = %(venue)s
        ) events
        WHERE {window}
        GROUP BY 1, 2
        """
    ),
    sql.SQL("ANALYZE audited_event"),
)

_DIGEST = sql.SQL(
    """
    SELECT lower(blocks) || '-' || upper(blocks) - 1, lower(c.times), upper(c.times),
           CASE WHEN (c.logs, c.digest) = (now.logs, now.digest) THEN NULL
                ELSE format('%%s logs of digest %%s were read, %%s of %%s are stored',
                            c.logs, c.digest, now.logs, now.digest) END
    FROM ledger.coverage c, LATERAL ledger.counted(c.venue, c.blocks) now
    WHERE c.venue = %(venue)s AND c.facts = %(facts)s
      AND c.times && tstzrange(%(low)s::timestamptz, %(high)s::timestamptz)
    """
)

# A log without a number other than zero after its first word moved nothing and is no row: Euler
# emits such for calls on healthy accounts.
_LOG_HAS_ROW = sql.SQL(
    """
    SELECT '0x' || encode(tx_hash, 'hex') || '/' || log.log_index, log.block_at, log.block_at,
           CASE WHEN topic = ANY(%(liquidations)s) AND own.log_index IS NULL
                    THEN 'a liquidation that is neither a row nor undecoded'
                WHEN topic = ANY(%(candidates)s) AND same.tx_hash IS NULL AND fact.value IS NULL
                    THEN 'may be one, and nobody looked at what its transaction is'
                WHEN topic = ANY(%(siblings)s) AND same.tx_hash IS NULL
                    THEN 'part of a liquidation, and its transaction has none' END
    FROM audited_log log
    LEFT JOIN audited_event own USING (tx_hash, log_index)
    LEFT JOIN (SELECT DISTINCT tx_hash FROM audited_event) same USING (tx_hash)
    LEFT JOIN ledger.fact ON topic = ANY(%(candidates)s)
        AND (fact.chain, fact.fact) = (ledger.chain_of(%(venue)s), 'transaction')
        AND fact.subject = '0x' || encode(tx_hash, 'hex')
    WHERE topic = ANY(%(siblings)s) OR topic = ANY(%(candidates)s)
       OR topic = ANY(%(liquidations)s) AND btrim(substr(data, 33), '\\x00'::bytea) <> ''::bytea
    """
)

_ROW_HAS_LOG = sql.SQL(
    """
    SELECT '0x' || encode(tx_hash, 'hex') || '/' || log_index, event.block_at, event.block_at,
           CASE WHEN log.topic IS NULL THEN 'its log is not stored' END
    FROM audited_event event LEFT JOIN audited_log log USING (tx_hash, log_index)
    """
)

_OF_CHAINS = {
    "digest": _DIGEST,
    "log_has_row": _LOG_HAS_ROW,
    "row_has_log": _ROW_HAS_LOG,
}
