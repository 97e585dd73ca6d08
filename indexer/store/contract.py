"""The version of what strangers build on: what the schema `liq` promised, and what it holds.

A migration that changes `liq` ends with `publish`. Taking away, retyping or moving a column raises
the first number of the version, adding one behind the others or a new object the second."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from indexer.errors import IndexerError


class Promise(NamedTuple):
    """A view, or a function with the types of its arguments, and its columns with their types."""

    object: str
    kind: str
    shape: tuple[str, ...]


class ContractBroken(IndexerError):
    """A migration changes what strangers build on without saying so."""


# Arguments stand with their names: who calls by name builds on them.
HELD = """
    SELECT c.relname AS object, 'view' AS kind,
           array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
               AS shape
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'liq'::regnamespace AND c.relkind IN ('v', 'm', 'r', 'p')
      AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY c.relname
    UNION ALL
    SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'function',
           CASE WHEN p.proallargtypes IS NULL THEN ARRAY[pg_get_function_result(p.oid)]
                ELSE ARRAY(
                    SELECT p.proargnames[i] || ' ' || format_type(p.proallargtypes[i], NULL)
                    FROM generate_subscripts(p.proallargtypes, 1) i
                    WHERE p.proargmodes[i] IN ('o', 'b', 't') ORDER BY i)
           END
    FROM pg_proc p
    WHERE p.pronamespace = 'liq'::regnamespace AND p.prokind = 'f'
    ORDER BY 1
"""


def held(connection: Any) -> dict[str, Promise]:
    """What the schema holds now."""
    return _promises(_run(connection, HELD))


def promised(connection: Any) -> dict[str, Promise]:
    """What was published last."""
    return _promises(_run(connection, "SELECT object, kind, shape FROM ledger.contract"))


def _promises(rows: Any) -> dict[str, Promise]:
    return {row[0]: Promise(row[0], row[1], tuple(row[2])) for row in rows}


def broken(before: Mapping[str, Promise], now: Mapping[str, Promise]) -> list[str]:
    """What was promised and does not hold: whoever builds on it would notice."""
    return sorted(
        f"liq.{name} is gone" if name not in now else f"liq.{name} lost {lost}"
        for name, promise in before.items()
        for lost in ([""] if name not in now else _lost(promise, now[name]))
    )


def _lost(before: Promise, now: Promise) -> list[str]:
    """Columns may come behind the others of a view; the rows of a function are what they are."""
    if before.kind == "function":
        return [] if before.shape == now.shape else [", ".join(before.shape)]
    return [
        column for place, column in enumerate(before.shape)
        if now.shape[place : place + 1] != (column,)
    ]  # fmt: skip


def unpublished(before: Mapping[str, Promise], now: Mapping[str, Promise]) -> list[str]:
    """What is there and was not promised."""
    return sorted(f"liq.{name}" for name, held in now.items() if before.get(name) != held)


def publish(connection: Any, version: str) -> None:
    """Promise what the schema holds now; raises ContractBroken where the version does not say what
    that is to those who build on it."""
    before, now = promised(connection), held(connection)
    last = max((numbers(row[0]) for row in _run(connection, _VERSIONS)), default=(0, 0))
    lost = broken(before, now)
    changed = [name for name, one in now.items() if before.get(name) != one]
    if lost and numbers(version)[0] <= last[0]:
        raise ContractBroken(f"version {version} does not say that {'; '.join(lost)}")
    if (changed or lost) and numbers(version) <= last:
        raise ContractBroken(f"version {version} was published: {', '.join(changed)} came since")
    for name in before.keys() - now.keys():
        _run(connection, "DELETE FROM ledger.contract WHERE object = %s", (name,))
    for name in changed:
        one = now[name]
        _run(connection, _PROMISE, (name, one.kind, list(one.shape), version, version))


_VERSIONS = "SELECT DISTINCT version FROM ledger.contract"
_PROMISE = """
    INSERT INTO ledger.contract (object, kind, shape, since, version) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (object) DO UPDATE SET shape = excluded.shape, version = excluded.version
"""


def numbers(version: str) -> tuple[int, int]:
    """A version as what it is compared by."""
    first, _, second = version.partition(".")
    return int(first), int(second)


def _run(connection: Any, query: str, values: tuple[object, ...] = ()) -> Any:
    """On a connection of a migration, or one of ours."""
    run = getattr(connection, "exec_driver_sql", connection.execute)
    return run(query, values or None)
