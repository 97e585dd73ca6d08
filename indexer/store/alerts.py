"""What `indexer alert` reads and writes: changes, episodes and actions, messages and their way.

Messages are written in the transaction that decides on them and sent after it, so that what was
decided is neither lost nor decided twice; the indexer waits for nothing of it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from psycopg.types.json import Jsonb

from indexer.alert_model import Alerted, AlertRule, Announce, Correct, Gathered, Kind, Subject
from indexer.store import prepared
from indexer.store.database import Connection
from indexer.store.sizes import BEGINNING, END, Sizing

ACCOUNTS_AT_ONCE = 500
FORGET_AFTER = timedelta(days=6)  # before triggers stop to note changes, after seven
GIVE_UP_AFTER = timedelta(days=1)
MOST_QUEUED = 1_000  # for one target: who was away for long does not want more
_FIRST_REACH = timedelta(hours=1)
_MOST_REACH = timedelta(days=30)  # what lasts longer is taken for several


def has_turn(connection: Connection, name: str) -> bool:
    """Whether nobody else sends the alerts of a name, by a lock that ends with the connection."""
    row: Any = connection.execute(
        "SELECT pg_try_advisory_lock(hashtext('indexer alert'), hashtext(%s))", (name,)
    ).fetchone()
    return bool(row[0])


def register(connection: Connection, rule: AlertRule, since: datetime | None) -> datetime:
    """Make a rule known; gives the time from when on it announces: `since`, else that of its first
    start, or of when it began to measure otherwise.

    What it remembers of what was announced goes where it measures otherwise: none of it could be
    compared."""
    with connection.transaction():
        row: Any = connection.execute(_REGISTERED, (rule.name,)).fetchone()
        is_same = row is not None and row[0] == rule.measure
        if row is None or not is_same:
            connection.execute("DELETE FROM ledger.alert_rule WHERE name = %s", (rule.name,))
        keeps_place = is_same and row[1] == rule.scope() and row[3] and since is None
        begin = since or (row[2] if is_same else None)
        found: Any = connection.execute(
            _KNOWN if keeps_place else _BEGIN,
            {"name": rule.name, "measure": rule.measure, "scope": Jsonb(rule.scope()),
             "since": begin},
        ).fetchone()  # fmt: skip
    # a transaction that began before this one ended may have noted nothing
    connection.execute(_SINCE_WHEN, (rule.name,))
    return found[0]  # type: ignore[no-any-return]


_REGISTERED = """
    SELECT measure, scope, since, looked_at > now() - interval '6 days'
    FROM ledger.alert_rule WHERE name = %s FOR UPDATE
"""
_KNOWN = "UPDATE ledger.alert_rule SET looked_at = now() WHERE name = %(name)s RETURNING since"
_BEGIN = """
    INSERT INTO ledger.alert_rule (name, measure, scope, since)
    VALUES (%(name)s, %(measure)s, %(scope)s, coalesce(%(since)s, now()))
    ON CONFLICT (name) DO UPDATE
    SET scope = excluded.scope, since = excluded.since, registered = NULL, seen = NULL,
        looked_at = now()
    RETURNING since
"""
_SINCE_WHEN = """
    UPDATE ledger.alert_rule SET registered = pg_snapshot_xmax(pg_current_snapshot())
    WHERE name = %s AND seen IS NULL
"""


# -- what changed --------------------------------------------------------------------------------


class Change(NamedTuple):
    """Rows of a venue from `low` to `high` may be others: those of one account, or of any."""

    venue: str
    account: str | None
    low: datetime
    high: datetime


class Changes(NamedTuple):
    """What is to be looked at; `snapshot` tells what was seen with it. `is_all`: everything since
    the rule began to look."""

    snapshot: str
    is_all: bool
    changes: Sequence[Change]


def changes(connection: Connection, name: str) -> Changes | None:
    """Changes that a rule has not looked at; None where there are none. Cheap when there are none.

    Transactions that were running when the rule was first known may have noted nothing: when all of
    them have ended, everything is looked at once more."""
    rows: list[Any] = prepared.execute(connection, _CHANGES, (name,))
    if not rows:
        return None
    snapshot, is_all = rows[0][:2]
    found = [
        Change(venue, account, max(low, BEGINNING), min(high, END))
        for _, _, venue, account, low, high in rows
        if venue is not None
    ]
    return Changes(snapshot, is_all, found)


# In one statement, which has one snapshot: what it does not see now, it sees next time. The name of
# a snapshot of another server, as after a restore, is of transactions that are still to come.
_CHANGES = """
    WITH rule AS (
        SELECT seen, coalesce(pg_snapshot_xmin(pg_current_snapshot()) >= registered, false)
                   OR seen IS NULL
                   OR pg_snapshot_xmax(seen) > pg_snapshot_xmax(pg_current_snapshot()) AS is_all
        FROM ledger.alert_rule WHERE name = $1
    )
    SELECT pg_current_snapshot()::text, rule.is_all, c.venue, c.account,
           CASE WHEN isfinite(c.low) THEN c.low ELSE '0002-01-01Z' END,
           CASE WHEN isfinite(c.high) THEN c.high ELSE '9998-12-31Z' END
    FROM rule
    LEFT JOIN ledger.alert_change c ON NOT rule.is_all
        AND c.xid >= pg_snapshot_xmin(rule.seen) AND NOT pg_visible_in_snapshot(c.xid, rule.seen)
    WHERE rule.is_all OR c.xid IS NOT NULL
"""


def saw(connection: Connection, name: str, snapshot: str) -> None:
    """All that a snapshot shows was looked at; what nobody has to look at any more is forgotten."""
    connection.execute(
        """
        UPDATE ledger.alert_rule
        SET seen = %(snapshot)s::pg_snapshot, looked_at = now(),
            registered = CASE WHEN pg_snapshot_xmin(%(snapshot)s::pg_snapshot) < registered
                         THEN registered END
        WHERE name = %(name)s
        """,
        {"snapshot": snapshot, "name": name},
    )
    connection.execute(
        """
        DELETE FROM ledger.alert_change WHERE xid < (
            SELECT min(pg_snapshot_xmin(seen)) FROM ledger.alert_rule
            WHERE seen IS NOT NULL AND looked_at > now() - interval '7 days')
        """
    )


def keep_up(connection: Connection, name: str) -> None:
    """Say that somebody still looks, and give up what could not be sent for a day, and the oldest
    of more than a thousand messages."""
    connection.execute("UPDATE ledger.alert_rule SET looked_at = now() WHERE name = %s", (name,))
    connection.execute(
        """
        UPDATE ledger.alert_delivery SET state = 'given_up'
        WHERE rule = %(name)s AND state = 'queued' AND (
            queued_at < now() - %(after)s::interval
            OR (alert_id, target) IN (
                SELECT alert_id, target FROM (
                    SELECT alert_id, target,
                           row_number() OVER (PARTITION BY target ORDER BY queued_at DESC) AS place
                    FROM ledger.alert_delivery WHERE rule = %(name)s AND state = 'queued'
                ) placed WHERE place > %(most)s))
        """,
        {"name": name, "after": GIVE_UP_AFTER, "most": MOST_QUEUED},
    )


def accounts_of(
    connection: Connection, rule: AlertRule, venues: Sequence[str], found: Changes, since: datetime
) -> dict[str, datetime]:
    """The accounts to look at, each with the first time that rows of it may be others."""
    low: dict[str, datetime] = {}
    spans = [(venue, since, END) for venue in venues] if found.is_all else []
    spans += [
        (one.venue, max(one.low, since), one.high)
        for one in found.changes
        if one.account is None and one.venue in venues and one.high >= since
    ]
    watched = None if rule.above is not None else sorted(rule.accounts)
    found_at: list[Any] = [(one.account, one.low) for one in found.changes if one.account]
    for span in dict.fromkeys(spans):
        found_at += prepared.execute(connection, _LIQUIDATED, (*span, watched))
    if found.is_all:
        found_at += connection.execute(_REMEMBERED, (rule.name,)).fetchall()
    for account, at in found_at:
        low[account] = min(at, low.get(account, at))
    return low


_LIQUIDATED = """
    SELECT account, min(block_at) FROM (
        SELECT account, block_at FROM ledger.valuation
        WHERE venue = $1 AND block_at >= $2 AND block_at <= $3
        UNION ALL
        SELECT account, block_at FROM ledger.unvalued
        WHERE venue = $1 AND block_at >= $2 AND block_at <= $3
    ) valued
    WHERE $4::text[] IS NULL OR account = ANY ($4::text[])
    GROUP BY account
"""
_REMEMBERED = "SELECT account, min(first_at) FROM ledger.alerted WHERE rule = %s GROUP BY account"


def gone(connection: Connection, name: str, until: datetime) -> dict[str, datetime]:
    """Accounts of which something has been less than was said since before `until`, each with when
    that began."""
    rows: list[Any] = prepared.execute(connection, _GONE, (name, until))
    return dict(rows)


_GONE = """
    SELECT account, min(first_at) FROM ledger.alerted
    WHERE rule = $1 AND gone_at <= $2 GROUP BY account
"""


# -- what happened, and what was said of it ------------------------------------------------------


def subjects(
    connection: Connection,
    rule: AlertRule,
    sizing: Sizing,
    venues: Sequence[str],
    accounts: Sequence[str],
    low: datetime,
) -> list[Subject]:
    """The episodes or actions of accounts since `low`, whole ones: rows are read from as far before
    it as one of them reaches."""
    reach = _FIRST_REACH
    query = _EPISODES if rule.unit == "episode" else _ACTIONS
    for name, text in (("{lines}", _LINES), ("{said}", _SAID), ("{query}", sizing.rows)):
        query = query.replace(name, text)
    while True:
        begin = max(low - reach, BEGINNING)
        values = (begin, END, list(venues), list(accounts), 0, sizing.gap, list(rule.assets))
        rows: list[Any] = prepared.execute(connection, query, values)
        found = [_subject(row) for row in rows]
        is_whole = all(one.first_at - begin > sizing.gap for one in found)
        if is_whole or reach >= _MOST_REACH or begin == BEGINNING:
            return found
        reach *= 6


def _subject(row: Sequence[Any]) -> Subject:
    *first, markets, sides, methods, action = row
    said: Any = (*first, tuple(markets), tuple(sides or ()), tuple(methods), action)
    return Subject(*said)


# Of loans the market is the pool's address: what was bet on says more.
_LINES = """
    lines AS MATERIALIZED (
        SELECT venue, account, dex, side, method, action, order_id, block_at, usd,
               CASE instrument WHEN 'perp' THEN market ELSE coalesce(asset, market) END AS market
        FROM ({query}) line
        WHERE line = 'counted'
          AND ($7::text[] = '{}' OR asset = ANY ($7::text[]) OR market = ANY ($7::text[]))
    )
"""
_SAID = """
    min(block_at), max(block_at), sum(usd), count(*) - count(usd),
    count(DISTINCT (market, order_id)), array_agg(DISTINCT market),
    array_agg(DISTINCT side) FILTER (WHERE side IS NOT NULL), array_agg(DISTINCT method),
    (array_agg(action ORDER BY usd DESC NULLS LAST, block_at, action))[1]
"""
_EPISODES = """
    WITH {lines}
    SELECT venue || '/' || account || '/' || dex || '@'
               || to_char(min(block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US'),
           venue, account, dex, {said}
    FROM (
        SELECT begun.*, count(*) FILTER (WHERE begins) OVER (
            PARTITION BY account, venue, dex ORDER BY block_at ROWS UNBOUNDED PRECEDING) AS episode
        FROM (
            SELECT lines.*, block_at - lag(block_at) OVER (
                PARTITION BY account, venue, dex ORDER BY block_at) > $6::interval AS begins
            FROM lines
        ) begun
    ) placed
    GROUP BY venue, account, dex, episode
"""
_ACTIONS = """
    WITH {lines}
    SELECT venue || '/' || account || '/' || action, venue, account, min(dex), {said}
    FROM lines WHERE $6::interval IS NOT NULL
    GROUP BY venue, account, action
"""


def alerted(
    connection: Connection, name: str, accounts: Sequence[str], low: datetime
) -> list[Alerted]:
    """What was said of accounts that lasted until `low` or later."""
    rows: list[Any] = prepared.execute(connection, _ALERTED, (name, list(accounts), low))
    return [Alerted(*row) for row in rows]


_ALERTED = """
    SELECT key, venue, account, dex, first_at, last_at, usd, step, revision, state, gone_at,
           alert_id
    FROM ledger.alerted
    WHERE rule = $1 AND account = ANY ($2) AND last_at >= $3
    ORDER BY first_at, key
"""


def recent(
    connection: Connection, name: str, accounts: Sequence[str], cool_down: timedelta
) -> dict[str, int]:
    """The largest step that was announced of each account within the cool-down."""
    if not cool_down:
        return {}
    rows: list[Any] = prepared.execute(connection, _RECENT, (name, list(accounts), cool_down))
    return dict(rows)


_RECENT = """
    SELECT account, max(step) FROM ledger.alert
    WHERE rule = $1 AND account = ANY ($2) AND created_at > clock_timestamp() - $3::interval
      AND kind IN ('first', 'more')
    GROUP BY account
"""


class Known(NamedTuple):
    """What is known of an account of a venue: labels that hold now, why it can never be called a
    victim, and whether a rule leaves it out."""

    labels: Sequence[str]
    never: str | None
    is_left_out: bool


def known(
    connection: Connection, rule: AlertRule, accounts: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Known]:
    """What is known of accounts, by venue and account."""
    pairs = sorted(set(accounts))
    if not pairs:
        return {}
    venues, those = map(list, zip(*pairs, strict=True))
    rows: list[Any] = prepared.execute(
        connection, _OF_ACCOUNTS, (venues, those, sorted(rule.without), list(rule.without_labels))
    )
    return {(venue, account): Known(*rest) for venue, account, *rest in rows}


_OF_ACCOUNTS = """
    SELECT asked.venue, asked.account, coalesce(said.labels, '{}'),
           ledger.never_because(asked.venue, asked.account),
           asked.account = ANY ($3::text[]) OR coalesce(said.labels && $4::text[], false)
    FROM unnest($1::text[], $2::text[]) AS asked (venue, account)
    CROSS JOIN LATERAL (
        SELECT array_agg(DISTINCT l.label ORDER BY l.label) AS labels
        FROM liq.labels l
        WHERE l.account = asked.account AND l.state = 'current'
          AND l.venue IN (asked.venue, ledger.chain_or_venue(asked.venue), '*')
    ) said
"""


def kept_back(connection: Connection, name: str, account: str) -> int:
    """How many subjects of an account were kept back since it was last announced anything of."""
    row: Any = connection.execute(
        """
        SELECT count(*) FROM ledger.alerted
        WHERE rule = %(name)s AND account = %(account)s AND state = 'kept_back'
          AND last_at >= coalesce((
              SELECT max(a.last_at) FROM ledger.alerted a
              WHERE a.rule = %(name)s AND a.account = %(account)s AND a.state = 'told'),
              '-infinity')
        """,
        {"name": name, "account": account},
    ).fetchone()
    return int(row[0])


# -- messages ------------------------------------------------------------------------------------


def remember(connection: Connection, name: str, one: Alerted) -> None:
    """How something stands now."""
    connection.execute(_REMEMBER, {"rule": name, **one._asdict()})


_REMEMBER = """
    INSERT INTO ledger.alerted (rule, key, venue, account, dex, first_at, last_at, usd, step,
                                revision, state, gone_at, alert_id)
    VALUES (%(rule)s, %(key)s, %(venue)s, %(account)s, %(dex)s, %(first_at)s, %(last_at)s, %(usd)s,
            %(step)s, %(revision)s, %(state)s, %(gone_at)s, %(alert_id)s)
    ON CONFLICT (rule, key) DO UPDATE
    SET first_at = excluded.first_at, last_at = excluded.last_at, usd = excluded.usd,
        step = excluded.step, revision = excluded.revision, state = excluded.state,
        gone_at = excluded.gone_at, alert_id = excluded.alert_id
"""


def write(
    connection: Connection,
    rule: AlertRule,
    targets: Sequence[str],
    decision: Announce | Correct,
    *,
    id: str,
    kind: Kind,
    said: str,
) -> None:
    """Write a message, for its targets or for the next digest, and remember what it says."""
    one = decision.alerted
    about = decision.about if isinstance(decision, Announce) else decision.said.alert_id
    _insert(
        connection, rule, targets if rule.digest is None else (),
        {"id": id, "kind": kind, "subject_key": one.key, "venue": one.venue,
         "account": one.account, "step": one.step, "usd": one.usd, "said": said, "about": about,
         "state": "queued" if rule.digest is None else "gathered"},
    )  # fmt: skip
    remember(connection, rule.name, one._replace(alert_id=id))


def _insert(
    connection: Connection, rule: AlertRule, targets: Sequence[str], message: dict[str, Any]
) -> None:
    connection.execute(_WRITE, {"rule": rule.name, **message})
    for target in targets:
        connection.execute(
            "INSERT INTO ledger.alert_delivery (alert_id, target, rule) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (message["id"], target, rule.name),
        )


_WRITE = """
    INSERT INTO ledger.alert (id, rule, kind, subject_key, venue, account, step, usd, said, about,
                              state)
    VALUES (%(id)s, %(rule)s, %(kind)s, %(subject_key)s, %(venue)s, %(account)s, %(step)s, %(usd)s,
            %(said)s, %(about)s, %(state)s)
    ON CONFLICT (id) DO NOTHING
"""


def gathered(connection: Connection, name: str, until: datetime) -> list[Gathered]:
    """Messages from before `until` that wait for a digest, in the order in which they came."""
    rows: list[Any] = connection.execute(
        """
        SELECT id, kind, subject_key, usd, said FROM ledger.alert
        WHERE rule = %s AND state = 'gathered' AND created_at < %s ORDER BY created_at, id
        """,
        (name, until),
    ).fetchall()
    return [Gathered(*row) for row in rows]


def write_digest(
    connection: Connection,
    rule: AlertRule,
    targets: Sequence[str],
    *,
    id: str,
    until: datetime,
    said: str | None,
    ids: Sequence[str],
) -> None:
    """Write a digest of messages, unless there is nothing to say of them."""
    if said is not None:
        _insert(
            connection, rule, targets,
            {"id": id, "kind": "digest", "subject_key": until.isoformat(), "venue": None,
             "account": None, "step": None, "usd": None, "said": said, "about": None,
             "state": "queued"},
        )  # fmt: skip
    connection.execute(
        "UPDATE ledger.alert SET state = 'in_digest', digest_id = %s WHERE id = ANY (%s)",
        (id if said is not None else None, list(ids)),
    )


# -- the way of a message ------------------------------------------------------------------------


class Delivery(NamedTuple):
    """A message that is to go to one target."""

    alert_id: str
    kind: Kind
    said: str
    attempts: int


def next_due(
    connection: Connection, name: str, target: str, tried: int | None = None
) -> Delivery | None:
    """What is to be sent to a target now; what was tried less often first, so that one message that
    a target refuses does not hold up the others. With `tried`, what was tried less often is due
    at once."""
    rows: list[Any] = prepared.execute(connection, _NEXT, (name, target, tried or 0))
    return Delivery(*rows[0]) if rows else None


_NEXT = """
    SELECT d.alert_id, a.kind, a.said, d.attempts
    FROM ledger.alert_delivery d JOIN ledger.alert a ON a.id = d.alert_id
    WHERE d.rule = $1 AND d.target = $2 AND d.state = 'queued'
      AND (d.next_at <= clock_timestamp() OR d.attempts < $3)
    ORDER BY d.attempts, d.queued_at, d.alert_id LIMIT 1
"""


def sent(connection: Connection, alert_id: str, target: str) -> None:
    """A target took a message: it never goes there again."""
    connection.execute(
        """
        UPDATE ledger.alert_delivery
        SET state = 'sent', sent_at = clock_timestamp(), error = NULL
        WHERE (alert_id, target) = (%s, %s)
        """,
        (alert_id, target),
    )


def failed(connection: Connection, alert_id: str, target: str, error: str, wait: timedelta) -> None:
    """A target did not take it, as far as we know: it is tried again after a while."""
    connection.execute(
        """
        UPDATE ledger.alert_delivery
        SET attempts = attempts + 1, error = %s, next_at = clock_timestamp() + %s::interval
        WHERE (alert_id, target) = (%s, %s)
        """,
        (error, wait, alert_id, target),
    )


def queued(connection: Connection, name: str) -> dict[str, int]:
    """How many messages of a rule wait, by target."""
    rows: list[Any] = connection.execute(
        """
        SELECT target, count(*) FROM ledger.alert_delivery
        WHERE rule = %s AND state = 'queued' GROUP BY target ORDER BY target
        """,
        (name,),
    ).fetchall()
    return dict(rows)
