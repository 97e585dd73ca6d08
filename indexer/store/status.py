"""What is covered, what is missing, how far each chain is followed. Reads only."""

from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

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


class ChainStatus(NamedTuple):
    """How far a chain is followed; `stopped` says why it stands still, None while it does not."""

    chain: str
    tip_block: int
    finalized_block: int
    stopped: str | None
    age_s: int
    reorgs: int
    waiting: int
    quarantined: int
    checked_to: int | None
    missed: int


def chains(connection: Connection) -> list[ChainStatus]:
    """One line for each chain of which any block is read."""
    with connection.cursor(row_factory=class_row(ChainStatus)) as cursor:
        return cursor.execute(
            """
            SELECT chain, tip_block, finalized_block, stopped,
                   extract(epoch FROM now() - updated_at)::bigint AS age_s,
                   (SELECT count(*) FROM liq.reorgs r
                    WHERE r.chain = c.chain AND found_by = 'reorg') AS reorgs,
                   (SELECT count(*) FROM liq.undecoded u
                    WHERE split_part(u.venue, '.', 2) = c.chain AND missing_fact IS NOT NULL)
                       AS waiting,
                   (SELECT count(*) FROM liq.quarantine q WHERE q.chain = c.chain) AS quarantined,
                   checks.checked_to, coalesce(checks.missed, 0) AS missed
            FROM liq.chains c
            LEFT JOIN (
                SELECT chain, max(block_to) - 1 AS checked_to,
                       sum(missing + untrue)::bigint AS missed
                FROM liq.checks GROUP BY chain
            ) checks USING (chain)
            ORDER BY chain
            """
        ).fetchall()


class SampleStatus(NamedTuple):
    """What one source told of some accounts, or of all while we listened: no coverage."""

    venue: str
    source: str
    accounts: int
    first_at: datetime
    last_at: datetime
    pieces: int
    lacking: int

    @property
    def who(self) -> str:
        """How many accounts, for people."""
        return f"{self.accounts:,}" if self.accounts else "all"

    @property
    def read_as(self) -> str:
        """Never whole."""
        return "sample"


def samples(connection: Connection) -> list[SampleStatus]:
    """One line for each source of samples; a stream is of no account in particular."""
    with connection.cursor(row_factory=class_row(SampleStatus)) as cursor:
        return cursor.execute(
            """
            SELECT venue, source, count(DISTINCT account) AS accounts, min(first_at) AS first_at,
                   max(last_at) AS last_at, count(*) AS pieces, count(lacks) AS lacking
            FROM liq.samples GROUP BY venue, source ORDER BY venue, source
            """
        ).fetchall()
