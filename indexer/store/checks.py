"""When each venue was last read a second time, and how far it was read at all. Reads only."""

from datetime import datetime
from typing import NamedTuple

from psycopg.rows import class_row

from indexer.store.database import Connection


class LastCheck(NamedTuple):
    """Of a venue: its highest covered block, and the last second reading, None where none was."""

    venue: str
    covered_to: int
    checked_to: int | None
    checked_at: datetime | None


def last_checks(connection: Connection) -> dict[str, LastCheck]:
    """By venue, of those that are covered anywhere."""
    with connection.cursor(row_factory=class_row(LastCheck)) as cursor:
        found = cursor.execute(
            """
            SELECT venue, covered_to, block_to - 1 AS checked_to, checked_at
            FROM (
                SELECT venue, max(block_to) - 1 AS covered_to FROM liq.coverage GROUP BY venue
            ) covered
            LEFT JOIN LATERAL (
                SELECT block_to, checked_at FROM liq.checks
                WHERE covered.venue = ANY(venues) ORDER BY checked_at DESC LIMIT 1
            ) last ON true
            """
        ).fetchall()
    return {one.venue: one for one in found}
