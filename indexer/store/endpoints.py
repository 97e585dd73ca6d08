"""Counts of what endpoints were asked and how they failed, added up over all commands."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from indexer.store.database import Connection


class Asked(NamedTuple):
    """What one endpoint was asked since it was last told; `faults` are by kind."""

    endpoint: str
    requests: int
    faults: Mapping[str, int]
    is_disabled: bool


def add(connection: Connection, chain: str, told: Iterable[Asked]) -> None:
    """Add to what is stored, in one transaction. Commands that do it at once wait for each other,
    in the same order."""
    with connection.transaction(), connection.cursor() as cursor:
        for one in sorted(told):
            place = {"chain": chain, "endpoint": one.endpoint}
            cursor.execute(
                """
                INSERT INTO ledger.endpoint_state AS stored
                    (chain, endpoint, requests, is_disabled, updated_at)
                VALUES (%(chain)s, %(endpoint)s, %(requests)s, %(is_disabled)s, now())
                ON CONFLICT (chain, endpoint) DO UPDATE
                SET requests = stored.requests + excluded.requests,
                    is_disabled = excluded.is_disabled, updated_at = excluded.updated_at
                """,
                {**place, "requests": one.requests, "is_disabled": one.is_disabled},
            )
            cursor.execute(
                """
                INSERT INTO ledger.endpoint_fault AS stored
                    (chain, endpoint, fault, faults, last_at)
                SELECT %(chain)s, %(endpoint)s, fault, faults, now()
                FROM unnest(%(kinds)s::text[], %(counts)s::bigint[]) AS told (fault, faults)
                ON CONFLICT (chain, endpoint, fault) DO UPDATE
                SET faults = stored.faults + excluded.faults, last_at = excluded.last_at
                """,
                {**place, "kinds": list(one.faults), "counts": list(one.faults.values())},
            )
