"""Label sets of others: imported whole or not at all, kept when they are replaced, and listed."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.errors import CheckViolation
from psycopg.types.json import Jsonb

from indexer.errors import ConfigError
from indexer.label_files import Broken, Context, Dropped, Format, Said, read
from indexer.label_truth import Opinion
from indexer.store.database import Connection

SHOWN = 5  # broken records in a message


class Origin(NamedTuple):
    """Whose labels a file has, which version of them, when they were taken from there, and how far
    they are trusted: above 0 to 1."""

    source: str
    version: str
    weight: Decimal
    retrieved_at: datetime | None = None


class Imported(NamedTuple):
    """What an import stored: labels, rows that said the same again, rows dropped for each reason,
    and the broken rows that were skipped. `is_new` is False where it stood already."""

    labels: int
    merged: int
    dropped: Mapping[str, int]
    skipped: tuple[Broken, ...]
    is_new: bool


class LabelSet(NamedTuple):
    """An import; `replaced_at` is None while it stands."""

    source: str
    version: str
    format: str
    weight: Decimal
    labels: int
    merged: int
    dropped: Mapping[str, int]
    skipped: int
    retrieved_at: datetime | None
    imported_at: datetime
    replaced_at: datetime | None


def import_file(
    connection: Connection,
    path: Path,
    form: Format,
    origin: Origin,
    context: Context,
    *,
    replace: bool = False,
    skip_broken: bool = False,
) -> Imported:
    """Import a file as what its source says from now on; what it said before is kept as history.

    Raises ConfigError, and imports nothing, where a record is broken or contradicts another one,
    unless these are to be skipped, and where the version was imported with other content or another
    weight, unless it is to be replaced."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with connection.transaction():
        # two imports of one source, one after the other
        connection.execute("LOCK TABLE ledger.label_set IN SHARE ROW EXCLUSIVE MODE")
        stored = _standing(connection, form, origin, sha256)
        if stored is not None:
            return stored
        _check_version(connection, form, origin, sha256, replace=replace)
        dropped, broken = _stage(connection, path, form, context)
        broken += _contradicting(connection)
        if broken and not skip_broken:
            raise ConfigError(_refusal(path, broken))
        return _store(connection, path, form, origin, sha256, dropped, broken)


def _standing(connection: Connection, form: Format, origin: Origin, sha256: str) -> Imported | None:
    """The import that stands, where it is this very one."""
    found: Any = connection.execute(
        """
        SELECT labels, merged, dropped FROM ledger.label_set
        WHERE upper_inf(recorded_during) AND (source, version, format, weight, sha256)
            = (%s, %s, %s, %s, %s) AND retrieved_at IS NOT DISTINCT FROM %s
        """,
        (origin.source, origin.version, form, origin.weight, sha256, origin.retrieved_at),
    ).fetchone()
    if found is None:
        return None
    labels, merged, dropped = found
    return Imported(labels, merged, dropped, skipped=(), is_new=False)


def _check_version(
    connection: Connection, form: Format, origin: Origin, sha256: str, *, replace: bool
) -> None:
    """A version is one file with one weight; an earlier one may come back as it was."""
    other: Any = connection.execute(
        """
        SELECT uri FROM ledger.label_set
        WHERE (source, version) = (%s, %s)
          AND (format, weight, sha256, retrieved_at) IS DISTINCT FROM (%s, %s, %s, %s)
        ORDER BY set_id DESC LIMIT 1
        """,
        (
            origin.source, origin.version, form, origin.weight, sha256, origin.retrieved_at,
        ),
    ).fetchone()  # fmt: skip
    if other is not None and not replace:
        raise ConfigError(
            f"{origin.source} {origin.version} was imported from {other[0]} with other content,"
            " weight or time; name another version, or replace it"
        )


def _stage(
    connection: Connection, path: Path, form: Format, context: Context
) -> tuple[Counter[str], list[Broken]]:
    """COPY what the records say into a temporary table as they are read."""
    connection.execute(
        """
        CREATE TEMP TABLE IF NOT EXISTS staged_set_label (
            place bigint, record text, chain text, account text COLLATE "C",
            label text COLLATE "C", name text, confidence numeric, valid_from timestamptz,
            valid_to timestamptz, raw text,
            valid_during tstzrange GENERATED ALWAYS AS (tstzrange(valid_from, valid_to)) STORED
        ) ON COMMIT DELETE ROWS;
        TRUNCATE staged_set_label
        """
    )
    dropped: Counter[str] = Counter()
    broken: list[Broken] = []
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY staged_set_label (place, record, chain, account, label, name, confidence,"
            " valid_from, valid_to, raw) FROM STDIN (FORMAT BINARY)"
        ) as stream,
    ):
        stream.set_types(
            ["int8", "text", "text", "text", "text", "text", "numeric", "timestamptz",
             "timestamptz", "text"]
        )  # fmt: skip
        for said in read(path, form, context):
            match said:
                case Said():
                    stream.write_row(said)
                case Dropped(why):
                    dropped[why] += 1
                case Broken():
                    broken.append(said)
    return dropped, broken


def _contradicting(connection: Connection) -> list[Broken]:
    """Records that say of a label what an earlier one says otherwise; they are staged no longer."""
    found: Any = connection.execute(
        """
        WITH taken AS (
            DELETE FROM staged_set_label later
            USING staged_set_label earlier
            WHERE (earlier.account, earlier.chain, earlier.label)
                = (later.account, later.chain, later.label)
              AND earlier.place < later.place
              AND earlier.valid_during && later.valid_during
              AND (earlier.valid_during, earlier.confidence)
                  <> (later.valid_during, later.confidence)
            RETURNING later.place, later.record, later.label, earlier.record AS before
        )
        SELECT record, format('%s holds for another time or with another confidence in %s',
                              label, before)
        FROM taken ORDER BY place
        """
    ).fetchall()
    return [Broken(*one) for one in found]


def _refusal(path: Path, broken: list[Broken]) -> str:
    first = "; ".join(map(str, broken[:SHOWN]))
    rest = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    return f"{path}: nothing was imported, broken rows: {len(broken)}: {first}{rest}"


def _store(
    connection: Connection,
    path: Path,
    form: Format,
    origin: Origin,
    sha256: str,
    dropped: Mapping[str, int],
    broken: list[Broken],
) -> Imported:
    counted: Any = connection.execute(
        "SELECT count(*), count(DISTINCT (account, chain, label, valid_during))"
        " FROM staged_set_label"
    ).fetchone()
    read, labels = counted
    if not labels:
        why = "".join(f"; {reason}: {count}" for reason, count in sorted(dropped.items()))
        raise ConfigError(f"{path}: there is no label in it{why}")
    # not now(): it is from before we waited for the lock
    moment: Any = connection.execute("SELECT clock_timestamp()").fetchone()
    connection.execute(
        "UPDATE ledger.label_set SET recorded_during = tstzrange(lower(recorded_during), %s)"
        " WHERE source = %s AND upper_inf(recorded_during)",
        (moment[0], origin.source),
    )
    try:
        set_id: Any = connection.execute(
            """
            INSERT INTO ledger.label_set (source, version, format, weight, uri, sha256,
                retrieved_at, labels, merged, dropped, skipped, recorded_during)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, tstzrange(%s, NULL))
            RETURNING set_id
            """,
            (
                origin.source, origin.version, form, origin.weight, str(path), sha256,
                origin.retrieved_at, labels, read - labels, Jsonb(dict(dropped)), len(broken),
                moment[0],
            ),
        ).fetchone()  # fmt: skip
    except CheckViolation:
        raise ConfigError(
            f"{origin.source!r}, version {origin.version!r}, weight {origin.weight}: a source has"
            " small letters, digits, - and _, a version up to 100 letters, and a weight is above 0"
            " to 1"
        ) from None
    connection.execute(_KEEP, {"set_id": set_id[0]})
    connection.execute(_NOTE, {"source": origin.source, "set_id": set_id[0]})
    return Imported(labels, read - labels, dict(dropped), tuple(broken), is_new=True)


_KEEP = """
    INSERT INTO ledger.set_label
        (set_id, chain, account, label, names, own_confidence, valid_during, raw)
    SELECT %(set_id)s, chain, account, label,
           coalesce(array_agg(name ORDER BY place) FILTER (WHERE is_first), '{}'),
           max(confidence), valid_during, jsonb_agg(raw::jsonb ORDER BY place)
    FROM (
        SELECT s.*, name IS NOT NULL AND row_number() OVER (
            PARTITION BY account, chain, label, valid_during, name ORDER BY place
        ) = 1 AS is_first
        FROM staged_set_label s
    ) s
    GROUP BY account, chain, label, valid_during
"""
# Of these accounts the source says something else now than it did: rules look at them again.
_NOTE = """
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT account, 'label_sets'
    FROM ledger.set_label
    WHERE set_id IN (
        %(set_id)s,
        (SELECT max(set_id) FROM ledger.label_set WHERE source = %(source)s AND set_id < %(set_id)s)
    )
    ORDER BY account
    ON CONFLICT DO NOTHING
"""


def sets(connection: Connection) -> list[LabelSet]:
    """All imports, by source, the last one of a source first."""
    found: Any = connection.execute(
        "SELECT source, version, format, weight, labels, merged, dropped, skipped, retrieved_at,"
        " imported_at, replaced_at FROM liq.label_sets ORDER BY source, imported_at DESC"
    )
    return [LabelSet(*row) for row in found]


class Label(NamedTuple):
    """A label as it is or was held, with its two intervals; None is open."""

    venue: str
    account: str
    label: str
    rule: str
    rule_version: int
    confidence: Decimal
    valid_from: datetime | None
    valid_to: datetime | None
    recorded_at: datetime
    withdrawn_at: datetime | None
    evidence: Any


def labels_at(
    connection: Connection, *, as_of: datetime | None = None, known_at: datetime | None = None
) -> Iterator[Label]:
    """Labels that hold at a chain time, at whatever time where none is given, as they were known
    at a recorded time, by default now; always in the same order."""
    # a server-side cursor: there may be hundreds of thousands
    with connection.transaction(), connection.cursor("labels") as cursor:
        cursor.execute(
            """
            SELECT venue, account, label, rule, rule_version, confidence,
                   nullif(lower(valid_during), '-infinity'),
                   nullif(upper(valid_during), 'infinity'),
                   lower(recorded_during), upper(recorded_during), evidence
            FROM ledger.label
            WHERE recorded_during @> coalesce(%(known_at)s::timestamptz, 'infinity')
              AND (%(as_of)s::timestamptz IS NULL OR valid_during @> %(as_of)s::timestamptz)
            ORDER BY account COLLATE "C", venue COLLATE "C", label COLLATE "C", rule COLLATE "C",
                     lower(valid_during) NULLS FIRST, lower(recorded_during)
            """,
            {"as_of": as_of, "known_at": known_at},
        )
        for row in cursor:
            yield Label(*row)  # type: ignore[arg-type]


# What happened at a moment holds for the shortest time that there is.
_OPINIONS = sql.SQL(
    """
    WITH opinion AS (
        SELECT rule, label, venue, account, nullif(valid_from, '-infinity') AS since,
               nullif(valid_to, 'infinity') AS until
        FROM liq.labels
        UNION ALL
        SELECT rule, level, venue, account, occurred_at, occurred_at + interval '1 microsecond'
        FROM liq.flags
    )
    """
)


def rules_that_ran(connection: Connection) -> set[str]:
    """Their ids, the user's own among them."""
    found: Any = connection.execute("SELECT rule FROM ledger.label_run")
    return {rule for (rule,) in found}


def opinions(connection: Connection, accounts: Collection[str]) -> list[Opinion]:
    """The labels and flags that stand on some accounts."""
    found: Any = connection.execute(
        _OPINIONS
        + sql.SQL(
            "SELECT rule, label, venue, account, since, until FROM opinion WHERE account = ANY (%s)"
        ),
        (list(accounts),),
    )
    return [Opinion(*row) for row in found]


def counts_without(connection: Connection, accounts: Collection[str]) -> dict[tuple[str, str], int]:
    """How many other accounts have a label by a rule, * being whatever label or rule."""
    found: Any = connection.execute(
        _OPINIONS
        + sql.SQL(
            "SELECT coalesce(label, '*'), coalesce(rule, '*'), count(DISTINCT account)"
            " FROM opinion WHERE account <> ALL (%s)"
            " GROUP BY GROUPING SETS ((label, rule), (label), (rule))"
        ),
        (list(accounts),),
    )
    return {(label, rule): count for label, rule, count in found}


def unknown(connection: Connection, accounts: Collection[str]) -> list[str]:
    """Those of some accounts that no table has, as who was liquidated, took part or is labelled."""
    found: Any = connection.execute(
        """
        SELECT account FROM unnest(%s::text[]) AS account
        EXCEPT SELECT account FROM ledger.liquidation
        EXCEPT SELECT counterparty FROM ledger.liquidation
        EXCEPT SELECT liquidator FROM ledger.liquidation
        EXCEPT SELECT account FROM ledger.ledger_liquidation
        EXCEPT SELECT account FROM ledger.account_day
        EXCEPT SELECT account FROM ledger.lending_liquidation
        EXCEPT SELECT owner FROM ledger.lending_liquidation
        EXCEPT SELECT liquidator FROM ledger.lending_liquidation
        EXCEPT SELECT account FROM ledger.protocol_vault
        EXCEPT SELECT account FROM ledger.label
        EXCEPT SELECT account FROM ledger.set_label
        ORDER BY account
        """,
        (list(accounts),),
    )
    return [account for (account,) in found]
