"""How one row came about, from the published bytes to the opinions on it. Reads only."""

from typing import Any, LiteralString, NamedTuple

from psycopg import Cursor
from psycopg.rows import dict_row

from indexer.errors import IndexerError
from indexer.store.database import Connection

Record = dict[str, Any]


class Section(NamedTuple):
    """One step of the way, in records of names and values."""

    title: str
    records: list[Record]


class _Asker:
    """Runs queries with the values known so far."""

    def __init__(self, cursor: Cursor[Record], **values: Any) -> None:
        self._cursor = cursor
        self.values = values

    def __call__(self, query: LiteralString) -> list[Record]:
        return self._cursor.execute(query, self.values).fetchall()


def explain(connection: Connection, key: str) -> list[Section]:
    """Walk from a key: `venue/event/account` of a row, `venue/event` of an undecoded event, or
    `chain/event` of one in quarantine. Raises IndexerError when there is none of them.
    """
    venue, _, rest = key.strip().partition("/")
    event_key, _, account = rest.rpartition("/")
    with connection.cursor(row_factory=dict_row) as cursor:
        ask = _Asker(
            cursor, venue=venue, event_key=event_key, account=account.lower(), rest=rest
        )  # fmt: skip
        found = (
            _fill(ask) or _lending(ask) or _nameless(ask) or _undecoded(ask) or _quarantined(ask)
        )
    if not found:
        raise IndexerError(
            f"no liquidation {key!r}: take a key from the views liq.liquidations or"
            " liq.lending_liquidations, or venue/event_key from liq.undecoded"
        )
    return [section for section in found if section.records]


def _fill(ask: _Asker) -> list[Section]:
    row = ask(
        "SELECT * FROM liq.liquidations WHERE account = %(account)s AND venue = %(venue)s"
        " AND event_key = %(event_key)s"
    )
    if not row:
        return []
    ask.values |= {
        "prefix": row[0]["event_key"], "tx_hash": row[0]["tx_hash"], "market": row[0]["market"],
        "order_id": row[0]["order_id"] or row[0]["tx_hash"], "at": row[0]["block_at"],
        "dex": row[0]["dex"], "chain": row[0]["chain"], "block_number": row[0]["block_number"],
        "known": [row[0]["market"].partition(":")[0], row[0]["account"]],
    }  # fmt: skip
    is_logged = row[0]["chain"] != row[0]["venue"]
    levels = ask(_LEVELS)
    ask.values["subjects"] = [row[0]["key"], *(level["key"] for level in levels)]
    return [
        *(_published(ask) if is_logged else [Section("published", ask(_PUBLISHED_FILLS))]),
        Section("row", row),
        Section(
            "the exchange's ledger on the same action",
            ask(
                "SELECT * FROM liq.ledger_liquidations WHERE account = %(account)s"
                " AND venue = %(venue)s AND tx_hash = %(tx_hash)s"
            ),
        ),
        Section("part of", levels),
        *([_parts(ask)] if is_logged else []),
        *_worth(ask),
        *_opinions(ask),
    ]


def _worth(ask: _Asker) -> list[Section]:
    """What it was worth, by whose price; what has no value, and why; what contradicts itself."""
    return [
        Section("worth", ask(_WORTH)),
        Section("prices", ask(_PRICES)),
        Section("no value", ask(_NO_VALUE)),
        Section("suspect", ask(_SUSPECT)),
    ]


# With the time of the row, which the keys of the tables behind these views begin with.
_WORTH = """
    SELECT basis, usd, price_source, price, quality, trust, as_of_block, as_of_at
    FROM liq.valuations
    WHERE venue = %(venue)s AND block_at = %(at)s AND event_key = %(event_key)s
      AND account = %(account)s
    ORDER BY basis, price_source
"""

_NO_VALUE = """
    SELECT basis, price_source, reason FROM liq.unvalued
    WHERE venue = %(venue)s AND block_at = %(at)s AND event_key = %(event_key)s
      AND account = %(account)s
    ORDER BY basis, price_source
"""

_SUSPECT = """
    SELECT rule, detail FROM liq.suspects
    WHERE venue = %(venue)s AND block_at = %(at)s AND event_key = %(event_key)s
      AND account = %(account)s
    ORDER BY rule
"""

# What was asked for the row's own place in its block comes before what holds in all of it.
_PRICES = """
    SELECT DISTINCT ON (p.asset, p.source)
           p.asset, p.symbol, p.source, p.usd_per_token, p.quality, p.trust, p.via, p.as_of_block,
           p.as_of_at
    FROM liq.prices p JOIN ledger.lending_liquidation l
        ON (p.venue, p.market, p.block_number) = (l.venue, l.market, l.block_number)
       AND p.asset IN (l.repaid_asset, l.seized_asset, l.bad_debt_asset)
    WHERE l.venue = %(venue)s AND l.account = %(account)s AND l.event_key = %(event_key)s
      AND coalesce(p.log_index, split_part(l.event_key, '/', 2)::int)
        = split_part(l.event_key, '/', 2)::int
    ORDER BY p.asset, p.source, p.log_index
"""


def _opinions(ask: _Asker) -> list[Section]:
    return [
        Section(
            "flags",
            ask(
                "SELECT * FROM liq.flags WHERE account = %(account)s"
                " AND subject_key = ANY(%(subjects)s) ORDER BY level"
            ),
        ),
        Section(
            "labels of the account",
            ask(
                "SELECT * FROM liq.labels WHERE account = %(account)s"
                " AND venue IN (%(venue)s, ledger.chain_of(%(venue)s), '*')"
                " ORDER BY rule"
            ),
        ),
    ]


_PUBLISHED_FILLS = """
    SELECT event_key, body, uri, line
    FROM ledger.raw_event JOIN ledger.source USING (source_id)
    WHERE chain = %(venue)s
      AND (event_key = %(prefix)s
           OR event_key > %(prefix)s || '/' COLLATE "C"
          AND event_key < %(prefix)s || '0' COLLATE "C")
    ORDER BY event_key
"""

_LEVELS = """
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


def _lending(ask: _Asker) -> list[Section]:
    row = ask(
        "SELECT * FROM liq.lending_liquidations WHERE account = %(account)s"
        " AND venue = %(venue)s AND event_key = %(event_key)s"
    )
    if not row:
        return []
    ask.values |= {
        "chain": row[0]["chain"], "block_number": row[0]["block_number"],
        "tx_hash": row[0]["tx_hash"], "subjects": [row[0]["key"]], "at": row[0]["block_at"],
        "known": [row[0][name] for name in ("market", "repaid_asset", "seized_asset", "account")],
    }  # fmt: skip
    return [*_published(ask), Section("row", row), _parts(ask), *_worth(ask), *_opinions(ask)]


def _parts(ask: _Asker) -> Section:
    """What else is the same liquidation, where it is more than this row."""
    parts = ask(_PARTS)
    return Section("parts of the liquidation", parts if len(parts) > 1 else [])


_PARTS = """
    SELECT part, kind, key, block_number, tx_hash, log_index, repaid_raw, seized_raw, bad_debt_raw,
           size, notional, paid_raw, sold_raw, debt_left_raw, collateral_left_raw, is_over
    FROM liq.liquidation_parts
    WHERE account = %(account)s AND venue = %(venue)s AND liquidation = (
        SELECT liquidation FROM liq.liquidation_parts
        WHERE account = %(account)s AND venue = %(venue)s
          AND key = %(venue)s || '/' || %(event_key)s || '/' || %(account)s
    )
    ORDER BY part
"""


def _published(ask: _Asker) -> list[Section]:
    """The logs of a transaction that are the venue's or unknown, the block, where it was read."""
    return [
        Section("published", ask(_LOGS)),
        Section(
            "read as",
            ask(
                "SELECT block_from, block_to, verification, read_from, logs, digest, recorded_at"
                " FROM liq.coverage WHERE venue = %(venue)s"
                " AND %(block_number)s >= block_from AND %(block_number)s < block_to"
            ),
        ),
        Section(
            "facts",
            ask(
                "SELECT fact, subject, value, block_number, event_key FROM ledger.fact"
                " WHERE chain = %(chain)s AND (subject = ANY(%(known)s) OR subject = %(tx_hash)s)"
                " ORDER BY fact, subject"
            ),
        ),
    ]


_LOGS = """
    SELECT r.block_number, b.hash AS block_hash, r.log_index,
           '0x' || encode(r.tx_hash, 'hex') AS tx_hash,
           '0x' || encode(r.emitter, 'hex') AS emitter,
           '0x' || encode(r.topics, 'hex') AS topics, '0x' || encode(r.data, 'hex') AS data
    FROM ledger.raw_log r JOIN ledger.block b USING (chain, block_number)
    WHERE r.chain = %(chain)s AND r.block_number = %(block_number)s
      AND r.tx_hash = decode(substr(%(tx_hash)s, 3), 'hex')
      AND (r.venue = %(venue)s OR r.venue IS NULL AND NOT r.is_whole)
    ORDER BY r.log_index
"""


def _nameless(ask: _Asker) -> list[Section]:
    row = ask(
        "SELECT * FROM liq.anonymous_liquidations WHERE venue = %(venue)s AND event_key = %(rest)s"
    )
    if not row:
        return []
    ask.values["prefix"] = ask.values["rest"]
    return [Section("published", ask(_PUBLISHED_FILLS)), Section("row", row)]


def _undecoded(ask: _Asker) -> list[Section]:
    row = ask("SELECT * FROM liq.undecoded WHERE venue = %(venue)s AND event_key = %(rest)s")
    if not row:
        return []
    chain = ask.values["venue"].partition(".")[2]
    if not chain:
        ask.values["prefix"] = ask.values["rest"]
        return [Section("published", ask(_PUBLISHED_FILLS)), Section("undecoded", row)]
    ask.values |= {
        "chain": chain, "block_number": row[0]["block_number"],
        "tx_hash": row[0]["event_key"][:66], "known": [row[0]["missing_subject"]],
    }  # fmt: skip
    return [*_published(ask), Section("undecoded", row)]


def _quarantined(ask: _Asker) -> list[Section]:
    row = ask("SELECT * FROM liq.quarantine WHERE chain = %(venue)s AND event_key = %(rest)s")
    if not row:
        return []
    ask.values |= {
        "chain": row[0]["chain"], "block_number": row[0]["block_number"],
        "tx_hash": row[0]["event_key"][:66], "known": [row[0]["emitter"]],
    }  # fmt: skip
    return [*_published(ask), Section("quarantined", row)]
