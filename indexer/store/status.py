"""What is covered, what is missing, and how one row came about. Reads only."""

from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row, dict_row

from indexer.errors import IndexerError
from indexer.store.database import Connection


class FactsStatus(NamedTuple):
    """Coverage of one kind of facts of a venue; `lag_s` is from its last block to now."""

    venue: str
    facts: str
    blocks: int
    block_from: int
    block_to: int
    first_at: datetime
    last_at: datetime
    missing: int
    undecoded: int
    lag_s: int
    verification: str


class Hole(NamedTuple):
    """Heights that were never read, between two that were."""

    venue: str
    facts: str
    block_from: int
    block_to: int
    after_at: datetime
    before_at: datetime

    def __str__(self) -> str:
        count = self.block_to - self.block_from
        blocks = (
            f"block {self.block_from} is" if count == 1
            else f"{count} blocks {self.block_from} to {self.block_to - 1} are"
        )  # fmt: skip
        return (
            f"{self.venue} {self.facts}: {blocks} missing, between"
            f" {self.after_at:%Y-%m-%d %H:%M:%S.%f} and {self.before_at:%Y-%m-%d %H:%M:%S.%f} UTC"
        )


def status(connection: Connection) -> list[FactsStatus]:
    """One line for each venue and kind of facts that has any coverage."""
    with connection.cursor(row_factory=class_row(FactsStatus)) as cursor:
        return cursor.execute(
            """
            SELECT covered.venue, covered.facts, covered.blocks, block_from, block_to,
                   first_at, last_at, coalesce(missing.blocks, 0) AS missing,
                   (SELECT count(*) FROM liq.undecoded
                    WHERE undecoded.venue = covered.venue
                      AND covered.facts = CASE WHEN event_key LIKE 'ledger/%'
                          THEN 'ledger_liquidations' ELSE 'liquidations' END) AS undecoded,
                   extract(epoch FROM now() - last_at)::bigint AS lag_s, verification
            FROM (
                SELECT venue, facts, sum(block_to - block_from)::bigint AS blocks,
                       min(block_from) AS block_from, max(block_to) AS block_to,
                       min(first_at) AS first_at, max(last_at) AS last_at,
                       string_agg(DISTINCT verification, ', ') AS verification
                FROM liq.coverage GROUP BY venue, facts
            ) covered
            LEFT JOIN (
                SELECT venue, facts, sum(block_to - block_from)::bigint AS blocks
                FROM liq.missing GROUP BY venue, facts
            ) missing USING (venue, facts)
            ORDER BY venue, facts
            """
        ).fetchall()


def holes(connection: Connection, *, low: int | None = None, high: int | None = None) -> list[Hole]:
    """Holes in coverage, all or those between two heights."""
    with connection.cursor(row_factory=class_row(Hole)) as cursor:
        return cursor.execute(
            """
            SELECT * FROM liq.missing
            WHERE block_from >= coalesce(%s, block_from) AND block_to <= coalesce(%s, block_to)
            ORDER BY venue, facts, block_from
            """,
            (low, high),
        ).fetchall()


class Explanation(NamedTuple):
    """How a liquidation came about, from the published bytes to the opinions on it."""

    liquidation: dict[str, Any] | None
    undecoded: dict[str, Any] | None
    published: list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    levels: list[dict[str, Any]]
    flags: list[dict[str, Any]]
    labels: list[dict[str, Any]]


def explain(connection: Connection, key: str) -> Explanation:
    """Walk from a key, `venue/event/account` or the `venue/event` of an undecoded event.

    Raises IndexerError when there is neither.
    """
    venue, _, rest = key.strip().partition("/")
    event_key, _, account = rest.rpartition("/")
    values: dict[str, Any] = {
        "venue": venue,
        "event_key": event_key,
        "account": account.lower(),
        "rest": rest,
    }
    with connection.cursor(row_factory=dict_row) as cursor:

        def ask(query: str) -> list[dict[str, Any]]:
            return cursor.execute(query, values).fetchall()

        row = ask(
            "SELECT * FROM liq.liquidations WHERE account = %(account)s AND venue = %(venue)s"
            " AND event_key = %(event_key)s"
        )
        undecoded = ask(
            "SELECT * FROM liq.undecoded WHERE venue = %(venue)s AND event_key = %(rest)s"
        )
        if not row and not undecoded:
            raise IndexerError(
                f"no liquidation {key!r}: take a key from the view liq.liquidations, or"
                " venue/event_key from liq.undecoded"
            )
        values["prefix"] = event_key if row else rest
        published = ask(
            """
            SELECT event_key, body, uri, line
            FROM ledger.raw_event JOIN ledger.source USING (source_id)
            WHERE event_key = %(prefix)s
               OR (event_key > %(prefix)s || '/' COLLATE "C"
                   AND event_key < %(prefix)s || '0' COLLATE "C")
            ORDER BY event_key
            """
        )
        if not row:
            return Explanation(None, undecoded[0], published, [], [], [], [])
        values.update(
            tx_hash=row[0]["tx_hash"], market=row[0]["market"], key=row[0]["key"],
            order_id=row[0]["order_id"] or row[0]["tx_hash"], at=row[0]["block_at"],
            dex=row[0]["dex"],
        )  # fmt: skip
        levels = ask(
            """
            SELECT 'order' AS level, key, liquidations, notional_usd, first_at, last_at
            FROM liq.orders
            WHERE account = %(account)s AND venue = %(venue)s AND market = %(market)s
              AND order_id = %(order_id)s
            UNION ALL
            SELECT 'action', key, liquidations, notional_usd, first_at, last_at
            FROM liq.actions
            WHERE account = %(account)s AND venue = %(venue)s AND tx_hash = %(tx_hash)s
            UNION ALL
            SELECT 'episode', key, liquidations, notional_usd, first_at, last_at
            FROM liq.episodes()
            WHERE account = %(account)s AND venue = %(venue)s AND dex = %(dex)s
              AND %(at)s BETWEEN first_at AND last_at
            """
        )
        values["subjects"] = [key, *(level["key"] for level in levels)]
        return Explanation(
            liquidation=row[0],
            undecoded=undecoded[0] if undecoded else None,
            published=published,
            ledger=ask(
                "SELECT * FROM liq.ledger_liquidations WHERE account = %(account)s"
                " AND venue = %(venue)s AND tx_hash = %(tx_hash)s"
            ),
            levels=levels,
            flags=ask(
                "SELECT * FROM liq.flags WHERE account = %(account)s"
                " AND subject_key = ANY(%(subjects)s) ORDER BY level"
            ),
            labels=ask(
                "SELECT * FROM liq.labels WHERE account = %(account)s AND venue = %(venue)s"
                " ORDER BY rule"
            ),
        )
