"""How far a chain is followed, which blocks were read whole, and how both are taken back.

A commit stands on one of two fences: the head compares and sets its position, and every range is
covered once. Everything here runs in the caller's transaction.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.range import Range

from indexer.errors import Conflict, Fenced
from indexer.evm_model import BlockRef, Kind, LogRange, Position
from indexer.store.chain_rows import append_blocks, utc
from indexer.store.database import Connection

FACTS = "liquidations"  # what is taken from the logs, in the words of ledger.coverage
# What a reorg takes back, in an order that needs no other: each has a twin `orphan_…`.
OF_CHAIN = ("block", "raw_log", "quarantine", "fact", "share_rate")
OF_VENUE = ("lending_liquidation", "liquidation", "undecoded")
PRICES = ("price", "no_price")  # asked for again where the block comes back: no twins


class Seam(NamedTuple):
    """Under which filter and decoder a range was read for a venue, and what it trades in."""

    venue: str
    filter_hash: str
    decoder_version: int
    instrument: Kind


# position


def position(connection: Connection, chain: str) -> Position | None:
    """How far a chain is followed; None where it never was."""
    row = connection.execute(
        "SELECT chain, next_block, tip_hash, finalized_block, epoch FROM ledger.stream"
        " WHERE chain = %s",
        (chain,),
    ).fetchone()
    return None if row is None else Position(*row)  # type: ignore[arg-type]


def held_until(connection: Connection, chain: str) -> int | None:
    """The height below which all blocks of a followed chain are final and read; what is above it
    is the follower's alone. None where the chain is not followed."""
    at = position(connection, chain)
    return None if at is None else min(at.finalized_block + 1, at.next_block)


def begin(connection: Connection, parent: BlockRef, finalized: int) -> None:
    """Begin to follow a chain after a block, unless it is followed already."""
    connection.execute(
        """
        INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)
        VALUES (%s, %s, %s, %s, 0) ON CONFLICT DO NOTHING
        """,
        (parent.chain, parent.number + 1, parent.hash, finalized),
    )
    append_blocks(connection, [parent])


def take_over(connection: Connection, chain: str) -> Position:
    """Raise the epoch: whoever followed the chain until now can write no more."""
    row = connection.execute(
        """
        UPDATE ledger.stream SET epoch = epoch + 1 WHERE chain = %s
        RETURNING chain, next_block, tip_hash, finalized_block, epoch
        """,
        (chain,),
    ).fetchone()
    assert row is not None
    return Position(*row)  # type: ignore[arg-type]


def has_turn(connection: Connection, chain: str) -> bool:
    """Whether nobody else follows the chain, as far as a lock tells that ends with a connection.

    A courtesy, so that two supervisors do not chase each other's processes; the epoch is what
    keeps the other one from writing."""
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtext('indexer follow'), hashtext(%s))", (chain,)
    ).fetchone()
    return row is not None and bool(row[0])


def advance(connection: Connection, at: Position, to: BlockRef, finalized: int) -> Position:
    """Compare and set the position; raises Fenced when it is not where we left it."""
    moved = connection.execute(
        """
        UPDATE ledger.stream
        SET next_block = %s, tip_hash = %s, finalized_block = greatest(finalized_block, %s),
            updated_at = now()
        WHERE (chain, next_block, tip_hash, epoch) = (%s, %s, %s, %s)
        RETURNING chain, next_block, tip_hash, finalized_block, epoch
        """,
        (to.number + 1, to.hash, finalized, at.chain, at.next_block, at.tip_hash, at.epoch),
    ).fetchone()
    if moved is None:
        raise Fenced(f"{at.chain}: another process follows this chain now")
    return Position(*moved)  # type: ignore[arg-type]


def lock(connection: Connection, chain: str) -> None:
    """Keep the head of a chain from moving until the end of the transaction."""
    connection.execute("SELECT FROM ledger.stream WHERE chain = %s FOR NO KEY UPDATE", (chain,))


def covered_to(connection: Connection, chain: str) -> int:
    """The first height above all that is covered of a chain; 0 where nothing is."""
    row = connection.execute(
        "SELECT coalesce(max(upper(blocks)), 0) FROM ledger.coverage"
        " WHERE ledger.chain_of(venue) = %s AND facts = %s",
        (chain, FACTS),
    ).fetchone()
    return 0 if row is None else int(str(row[0]))


def stop(connection: Connection, chain: str, why: str | None) -> None:
    """Say in the database why a chain is not followed any further; None: it is again."""
    connection.execute("UPDATE ledger.stream SET stopped = %s WHERE chain = %s", (why, chain))


# coverage


def covered(connection: Connection, venue: str, filter_hash: str) -> list[tuple[int, int]]:
    """The heights that were read whole with this filter, as half-open ranges in order."""
    rows = connection.execute(
        """
        SELECT lower(run), upper(run) FROM (
            SELECT unnest(range_agg(blocks)) AS run
            FROM ledger.coverage WHERE (venue, facts, filter_hash) = (%s, %s, %s)
        ) runs
        ORDER BY 1
        """,
        (venue, FACTS, filter_hash),
    )
    return [(int(low), int(high)) for low, high in rows]  # type: ignore[call-overload]


def decoded_by(connection: Connection, venue: str, decoder_version: int) -> None:
    """Say that all rows of a venue are made by this version of its decoder."""
    connection.execute(
        "UPDATE ledger.coverage SET decoder_version = %s"
        " WHERE (venue, facts) = (%s, %s) AND decoder_version <> %s",
        (decoder_version, venue, FACTS, decoder_version),
    )


class Proved(NamedTuple):
    """Blocks of a venue that were read whole, and how that is known."""

    venue: str
    block_from: int
    block_to: int
    proof: str


def proved(connection: Connection, venues: Sequence[str], low: int, high: int) -> list[Proved]:
    """What is covered of some venues between two heights."""
    rows: Iterable[Any] = connection.execute(
        """
        SELECT venue, greatest(lower(blocks), %(low)s), least(upper(blocks), %(high)s),
               verification
        FROM ledger.coverage
        WHERE venue = ANY(%(venues)s) AND facts = %(facts)s
          AND blocks && int8range(%(low)s, %(high)s)
        ORDER BY venue, blocks
        """,
        {"venues": list(venues), "facts": FACTS, "low": low, "high": high},
    )
    return [Proved(*row) for row in rows]


def checked_until(connection: Connection, chain: str) -> int | None:
    """The height up to which a chain was last read a second time."""
    row = connection.execute(
        "SELECT max(upper(blocks)) FROM ledger.check_run WHERE chain = %s", (chain,)
    ).fetchone()
    return None if row is None or row[0] is None else int(str(row[0]))


def append_check(
    connection: Connection,
    found: LogRange,
    venues: Sequence[str],
    proof: str,
    *,
    missing: int,
    untrue: int,
) -> None:
    """Write down what a second reading found."""
    connection.execute(
        """
        INSERT INTO ledger.check_run (chain, venues, blocks, proof, logs, missing, untrue)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (
            found.first.chain, list(venues), Range(found.block_from, found.block_to), proof,
            len(found.logs), missing, untrue,
        ),
    )  # fmt: skip


def venues_at(connection: Connection, chain: str, block_number: int) -> list[str]:
    """The venues of a chain that are covered at a height."""
    rows = connection.execute(
        """
        SELECT DISTINCT venue FROM ledger.coverage
        WHERE ledger.chain_of(venue) = %s AND facts = %s AND blocks @> %s::bigint ORDER BY 1
        """,
        (chain, FACTS, block_number),
    )
    return [str(venue) for (venue,) in rows]


def cover(
    connection: Connection, found: LogRange, seams: Sequence[Seam], proof: str | None = None
) -> None:
    """Record a range as read whole for some venues, joined with neighbours read equally well.
    `proof` says how that is known where the reading itself does not. `count` adds the logs, once
    they are stored.

    Raises Fenced when one of them was covered meanwhile, Conflict when a neighbour is of another
    chain of blocks."""
    values = {
        "facts": FACTS, "low": found.block_from, "high": found.block_to,
        "blocks": Range(found.block_from, found.block_to),
        "first_at": utc(found.first.time), "last_at": utc(found.last.time),
        "parent_hash": found.first.parent_hash, "last_hash": found.last.hash,
        "proof": proof or found.proof, "read_from": [found.endpoint],
        "venues": [s.venue for s in seams], "filters": [s.filter_hash for s in seams],
        "versions": [s.decoder_version for s in seams],
        "instruments": [s.instrument for s in seams],
    }  # fmt: skip
    _check_seams(connection, values)
    try:
        connection.execute(_COVER, values)
    except psycopg.errors.ExclusionViolation as error:
        low, high = found.block_from, found.block_to
        raise Fenced(f"{found.first.chain}: blocks {low} to {high - 1} were covered") from error
    _join_right(connection, values)


_COVER = """
    WITH added AS (
        SELECT * FROM unnest(
            %(venues)s::text[], %(filters)s::text[], %(versions)s::int[], %(instruments)s::text[]
        ) AS added (venue, filter_hash, decoder_version, instrument)
    ), named AS (
        INSERT INTO ledger.venue SELECT venue, instrument FROM added ON CONFLICT DO NOTHING
    ), widened AS (
        UPDATE ledger.coverage c
        SET blocks = int8range(lower(c.blocks), %(high)s),
            times = tstzrange(lower(c.times), greatest(upper(c.times), %(last_at)s), '[]'),
            verification = ledger.joined_proof(c.verification, %(proof)s),
            last_hash = %(last_hash)s,
            read_from = ARRAY(SELECT DISTINCT unnest(c.read_from || %(read_from)s::text[])),
            recorded_at = now()
        FROM added
        WHERE (c.venue, c.filter_hash, c.decoder_version)
            = (added.venue, added.filter_hash, added.decoder_version)
          AND c.facts = %(facts)s AND c.blocks -|- %(blocks)s::int8range
          AND upper(c.blocks) = %(low)s
          AND ledger.joined_proof(c.verification, %(proof)s) IS NOT NULL
        RETURNING c.venue
    )
    INSERT INTO ledger.coverage (
        venue, facts, blocks, times, verification, decoder_version, filter_hash, parent_hash,
        last_hash, logs, digest, read_from
    )
    SELECT venue, %(facts)s, %(blocks)s::int8range,
           tstzrange(%(first_at)s, %(last_at)s, '[]'), %(proof)s, decoder_version, filter_hash,
           %(parent_hash)s, %(last_hash)s, 0, 0, %(read_from)s
    FROM added WHERE venue NOT IN (SELECT venue FROM widened)
"""


def _check_seams(connection: Connection, values: Mapping[str, Any]) -> None:
    row = connection.execute(
        """
        SELECT venue, lower(blocks), upper(blocks) FROM ledger.coverage
        WHERE venue = ANY(%(venues)s) AND facts = %(facts)s AND blocks -|- %(blocks)s::int8range
          AND ((upper(blocks) = %(low)s AND last_hash <> %(parent_hash)s)
            OR (lower(blocks) = %(high)s AND parent_hash <> %(last_hash)s))
        LIMIT 1
        """,
        values,
    ).fetchone()
    if row is not None:
        raise Conflict(
            f"{row[0]}: blocks {values['low']} to {values['high'] - 1} do not link to blocks"
            f" {row[1]} to {int(row[2]) - 1}, which were read before"  # type: ignore[call-overload]
        )


def _join_right(connection: Connection, values: Mapping[str, Any]) -> None:
    """Join the new range with the one that begins where it ends, as a backfill does at last."""
    gone = connection.execute(
        """
        DELETE FROM ledger.coverage r USING ledger.coverage l
        WHERE l.venue = ANY(%(venues)s) AND l.facts = %(facts)s
          AND l.blocks @> (%(high)s - 1)::bigint AND upper(l.blocks) = %(high)s
          AND (r.venue, r.facts, r.filter_hash, r.decoder_version)
            = (l.venue, l.facts, l.filter_hash, l.decoder_version)
          AND r.blocks @> %(high)s::bigint AND lower(r.blocks) = %(high)s
          AND ledger.joined_proof(l.verification, r.verification) IS NOT NULL
        RETURNING r.venue, upper(r.blocks) AS upper, upper(r.times) AS last_at, r.verification,
                  r.last_hash, r.logs, r.digest, r.read_from
        """,
        values,
    )
    for venue, upper, last_at, proof, last_hash, logs, digest, read_from in gone.fetchall():
        connection.execute(
            """
            UPDATE ledger.coverage
            SET blocks = int8range(lower(blocks), %s), times = tstzrange(lower(times), %s, '[]'),
                verification = ledger.joined_proof(verification, %s), last_hash = %s,
                logs = logs + %s, digest = digest + %s,
                read_from = ARRAY(SELECT DISTINCT unnest(read_from || %s::text[]))
            WHERE (venue, facts) = (%s, %s) AND blocks @> %s::bigint
            """,
            (upper, last_at, proof, last_hash, logs, digest, read_from, venue, FACTS,
             values["high"] - 1),
        )  # fmt: skip


def count(connection: Connection, found: LogRange, venues: Collection[str]) -> None:
    """Add the raw logs of a range, which are stored by now, to the coverage of its venues."""
    connection.execute(
        """
        WITH added AS (
            SELECT venue, count(*) AS logs, sum(ledger.log_digest(r)) AS digest
            FROM ledger.raw_log r
            WHERE chain = %(chain)s AND block_number >= %(low)s AND block_number < %(high)s
              AND venue = ANY(%(venues)s)
            GROUP BY venue
        )
        UPDATE ledger.coverage c SET logs = c.logs + added.logs, digest = c.digest + added.digest
        FROM added
        WHERE c.venue = added.venue AND c.facts = %(facts)s AND c.blocks @> %(low)s::bigint
        """,
        {
            "chain": found.first.chain, "low": found.block_from, "high": found.block_to,
            "venues": list(venues), "facts": FACTS,
        },
    )  # fmt: skip


def uncover(
    connection: Connection, venues: Sequence[str], before: BlockRef, after: BlockRef | None
) -> None:
    """Take the blocks between two out of coverage; without `after`, all above `before`.

    What is left on either side keeps its own count, so this comes before any raw log goes."""
    connection.execute(
        _UNCOVER,
        {
            "venues": list(venues), "facts": FACTS,
            "hole": Range(before.number + 1, None if after is None else after.number),
            "right": Range(None if after is None else after.number, None, empty=after is None),
            "before_hash": before.hash, "before_at": utc(before.time),
            "after_parent": after and after.parent_hash, "after_at": after and utc(after.time),
        },
    )  # fmt: skip


_UNCOVER = """
    WITH cut AS (
        DELETE FROM ledger.coverage
        WHERE venue = ANY(%(venues)s) AND facts = %(facts)s AND blocks && %(hole)s::int8range
        RETURNING *
    ), counted AS (
        SELECT cut.*, after.logs AS logs_after, after.digest AS digest_after,
               cut.logs - inside.logs - after.logs AS logs_before,
               cut.digest - inside.digest - after.digest AS digest_before
        FROM cut,
             LATERAL ledger.counted(venue, blocks * %(hole)s::int8range) inside,
             LATERAL ledger.counted(venue, blocks * %(right)s::int8range) after
    ), parts AS (
        SELECT counted.*, part, lower(part) = lower(blocks) AS is_before
        FROM counted, unnest(int8multirange(blocks) - int8multirange(%(hole)s::int8range)) AS part
    )
    INSERT INTO ledger.coverage (
        venue, facts, blocks, times, verification, decoder_version, recorded_at, filter_hash,
        parent_hash, last_hash, logs, digest, read_from
    )
    SELECT venue, facts, part,
           CASE WHEN is_before THEN tstzrange(lower(times), %(before_at)s, '[]')
                ELSE tstzrange(%(after_at)s, upper(times), '[]') END,
           verification, decoder_version, recorded_at, filter_hash,
           CASE WHEN is_before THEN parent_hash ELSE %(after_parent)s END,
           CASE WHEN is_before THEN %(before_hash)s ELSE last_hash END,
           CASE WHEN is_before THEN logs_before ELSE logs_after END,
           CASE WHEN is_before THEN digest_before ELSE digest_after END,
           read_from
    FROM parts
"""


# taking back


def rewind(
    connection: Connection, at: Position, ancestor: BlockRef, old_tip: int, why: str
) -> Position:
    """Take back all blocks above `ancestor`: rows move into the journal, coverage shrinks.

    Raises Fenced as `advance`."""
    moved = advance(connection, at, ancestor, at.finalized_block)
    old = BlockRef(at.chain, old_tip, at.tip_hash, "", 0)
    reorg_id = _journal(connection, "reorg", ancestor.number, old, why)
    venues = _venues_above(connection, at.chain, ancestor.number)
    uncover(connection, venues, ancestor, None)
    values = {
        "reorg_id": reorg_id, "chain": at.chain, "above": ancestor.number, "venues": venues,
        "since": utc(ancestor.time),
    }  # fmt: skip
    for table in OF_CHAIN:
        _move(connection, table, "chain = %(chain)s AND block_number > %(above)s", values)
    for table in OF_VENUE:  # by the time as well: it is what there is an index on
        _move(
            connection, table,
            "venue = ANY(%(venues)s) AND block_at >= %(since)s AND block_number > %(above)s",
            values,
        )  # fmt: skip
    for table in PRICES:
        connection.execute(
            sql.SQL(
                "DELETE FROM {} WHERE venue = ANY(%(venues)s) AND block_number > %(above)s"
            ).format(sql.Identifier("ledger", table)),
            values,
        )
    return moved


def take_back(
    connection: Connection,
    blocks: Sequence[BlockRef],
    venues: Sequence[str],
    topics0: Sequence[str],
    why: str,
) -> None:
    """Move the rows of some venues in some blocks into the journal, and what with one of these
    topics is in quarantine: a second reading has shown that the first was wrong there. The blocks
    themselves and their facts stay."""
    first, last = blocks[0], blocks[-1]
    reorg_id = _journal(connection, "check", first.number - 1, last, why)
    values = {
        "reorg_id": reorg_id, "chain": first.chain, "venues": list(venues),
        "numbers": [block.number for block in blocks], "since": utc(first.time),
        "topics0": list(topics0), "topic_bytes": [bytes.fromhex(one[2:]) for one in topics0],
    }  # fmt: skip
    _move(
        connection, "raw_log",
        "chain = %(chain)s AND block_number = ANY(%(numbers)s) AND (venue = ANY(%(venues)s)"
        " OR venue IS NULL AND NOT is_whole AND substr(topics, 1, 32) = ANY(%(topic_bytes)s))",
        values,
    )  # fmt: skip
    _move(
        connection, "quarantine",
        "chain = %(chain)s AND block_number = ANY(%(numbers)s) AND topic0 = ANY(%(topics0)s)",
        values,
    )  # fmt: skip
    for table in OF_VENUE:
        _move(
            connection, table,
            "venue = ANY(%(venues)s) AND block_at >= %(since)s"
            " AND block_number = ANY(%(numbers)s)",
            values,
        )  # fmt: skip


def _journal(
    connection: Connection, found_by: str, ancestor: int, old_tip: BlockRef, why: str
) -> int:
    row = connection.execute(
        """
        INSERT INTO ledger.reorg (chain, ancestor, old_tip, old_tip_hash, found_by, why)
        VALUES (%s, %s, %s, %s, %s, %s) RETURNING reorg_id
        """,
        (old_tip.chain, ancestor, old_tip.number, old_tip.hash, found_by, why),
    ).fetchone()
    assert row is not None
    return int(str(row[0]))


def _venues_above(connection: Connection, chain: str, block_number: int) -> list[str]:
    """The venues that are covered above a height: only they can have rows there."""
    rows = connection.execute(
        """
        SELECT DISTINCT venue FROM ledger.coverage
        WHERE ledger.chain_of(venue) = %s AND facts = %s AND upper(blocks) > %s + 1
        """,
        (chain, FACTS, block_number),
    )
    return [str(venue) for (venue,) in rows]


def _move(
    connection: Connection, table: str, where: LiteralString, values: Mapping[str, Any]
) -> None:
    connection.execute(
        sql.SQL(
            "WITH gone AS (DELETE FROM {table} WHERE {where} RETURNING *)"
            " INSERT INTO {journal} SELECT %(reorg_id)s, gone.* FROM gone"
        ).format(
            table=sql.Identifier("ledger", table),
            where=sql.SQL(where),
            journal=sql.Identifier("ledger", f"orphan_{table}"),
        ),
        values,
    )


def prune_blocks(connection: Connection, chain: str, block_from: int, block_to: int) -> None:
    """Forget blocks that became final without a row: only the tip is needed whole."""
    connection.execute(
        """
        DELETE FROM ledger.block b
        WHERE chain = %s AND block_number >= %s AND block_number < %s AND NOT EXISTS (
            SELECT FROM ledger.raw_log r
            WHERE r.chain = b.chain AND r.block_number = b.block_number
        )
        """,
        (chain, block_from, block_to),
    )
