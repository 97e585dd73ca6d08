"""Runs the rules: what a rule finds now stands, what it no longer finds is withdrawn.

A rule of accounts depends on the facts of an account alone, a rule of days on the episodes of a
day and of days before it. So it looks at the accounts or days whose facts changed since it last
ran, and what comes of it is what looking at all of them would give. Where the rule itself changed,
it looks at all.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from indexer.errors import IndexerError
from indexer.model import Rule
from indexer.store import prepared, sizes
from indexer.store.database import Connection
from indexer.store.sizes import BEGINNING, DEFINITION, EVER, Span


class Change(NamedTuple):
    """What one run of a rule did."""

    rule: Rule
    new: int
    withdrawn: int


class NeverLabelled(IndexerError):
    """A rule called an account a whale or a victim that can be neither; nothing was written."""


class _Look(NamedTuple):
    """What a rule looks at; None are all. No flag of these accounts that could be another now is of
    before `since`."""

    accounts: list[str] | None
    days: list[date] | None
    since: datetime


_ALL = _Look(None, None, BEGINNING)

# What identifies an opinion, and what it says; a change in what it says is a new row.
_SAYS = {
    "flags": (
        "flag",
        ("venue", "account", "level", "subject_key"),
        ("value_usd", "threshold_usd", "occurred_at"),
    ),
    "labels": (
        "label",
        ("venue", "account", "label", "valid_during"),
        ("confidence", "evidence"),
    ),
}
# labels that say what an account is; all others are opinions on it
HARMLESS = (
    *("protocol_vault", "user_vault", "sub_account", "liquidator"),
    *("contract", "safe", "erc4337", "eip7702", "market_maker"),
)


def apply(
    connection: Connection,
    rules: Sequence[Rule],
    *,
    definition: str = DEFINITION,
    again: bool = False,
    since: datetime | None = None,
) -> list[Change]:
    """Make flags and labels equal to what the rules find, in one transaction; sizes are those of
    `definition`. `again` looks at all accounts, whether anything changed or not, `since` at those
    with facts from then on too.

    Nothing is overwritten: a row that no longer holds is closed in recorded time. The result does
    not depend on how often or after which data it ran before. Raises NeverLabelled, and ConfigError
    where no sizes can be told under the definition."""
    with connection.transaction():
        # one run at a time: a second would take the changes of the first for done
        connection.execute("LOCK TABLE ledger.label_run IN SHARE ROW EXCLUSIVE MODE")
        connection.execute(prepared.GENERIC)
        if since is not None:
            connection.execute(_NOTE_SINCE, {"since": since})
        changed = _take_changed(connection)
        sizing = sizes.sizing(connection, definition)
        meanings = {rule.id: _meaning(rule, definition) for rule in rules}
        meanings[_SIZES] = sizing.meaning
        ran: dict[str, str] = dict(connection.execute(_RAN).fetchall())  # type: ignore[arg-type]
        is_new = {id for id, meaning in meanings.items() if again or ran.get(id) != meaning}
        gone = sorted(ran.keys() - meanings.keys())
        if not (is_new or gone or since or any(changed.values())):
            return [Change(rule, 0, 0) for rule in rules]
        if _SIZES in is_new or len(changed["liquidations"]) > _MOST_ACCOUNTS:
            at = sizes.make_all(connection, definition)
            is_new |= {rule.id for rule in rules if _looks_at_sizes(rule)}
        else:
            at = sizes.refresh(connection, sizing, changed["liquidations"])
        if is_new:
            connection.execute("SET LOCAL work_mem = '64MB'")  # who groups all accounts sorts not
        days = sizes.days_of(connection, _accounts(changed, _ON_NOBODY), since)
        stands = _standing_on(connection, rules, changed, at)
        changes = [
            _apply(connection, rule, definition, _ALL)
            if rule.id in is_new
            else _apply(connection, rule, definition, _look_of(rule, changed, at, stands, days))
            for rule in rules
        ]
        for id in sorted(is_new):
            connection.execute(_REMEMBER, (id, meanings[id]))
        _withdraw_rules(connection, gone)
        _check(connection, _accounts(changed, _ON_NOBODY))
    return changes


def standing(connection: Connection) -> dict[str, int]:
    """How many flags or labels of each rule stand now."""
    found = connection.execute(
        """
        SELECT rule, count(*) FROM ledger.flag WHERE upper_inf(recorded_during) GROUP BY rule
        UNION ALL
        SELECT rule, count(*) FROM ledger.label WHERE upper_inf(recorded_during) GROUP BY rule
        """
    )
    return {str(rule): int(count) for rule, count in found}  # type: ignore[call-overload]


# -- what changed --------------------------------------------------------------------------------

# By the facts, the accounts and the times that theirs are others of.
_Changed = Mapping[str, Mapping[str, Span]]
_SIZES = "(sizes)"  # stands among the rules that ran: episodes are made by a definition
# who can never be called something, whatever the rule
_ON_NOBODY = ("protocol_vaults", "never_labelled", "account_codes", "contracts_that_liquidate")
_MOST_ACCOUNTS = 20_000  # beyond, all are looked at sooner
_MOST_SPANS = 20  # beyond, all between them is looked at


def _take_changed(connection: Connection) -> _Changed:
    """The accounts whose facts changed since the last run."""
    found = defaultdict[str, dict[str, Span]](dict)
    for facts, account, *times in prepared.execute(connection, _TAKE_CHANGED, (_MOST_SPANS,)):
        span = Span(*times) if None not in times else EVER
        found[facts][account] = span | found[facts].get(account, span)
    if found["liquidators"]:
        liquidators = {"accounts": list(found["liquidators"])}
        contracts = connection.execute(_WITH_CODE, liquidators).fetchall()
        found["contracts_that_liquidate"] = {str(account): EVER for (account,) in contracts}
    return found


def _accounts(changed: _Changed, facts: Sequence[str]) -> list[str]:
    return sorted({account for one in facts for account in changed.get(one, ())})


def _looks_at_sizes(rule: Rule) -> bool:
    return rule.makes == "flags" or rule.reads is None or "liquidations" in rule.reads


def _look_of(
    rule: Rule, changed: _Changed, at: sizes.Refreshed, stands: "_Standing", further: set[date]
) -> _Look:
    """Of days, `further` ones are looked at by themselves: no day after them is another."""
    if rule.of == "days":
        return _Look([], sorted(_days_of(rule, at, stands) | further), BEGINNING)
    reads = tuple(changed) if rule.reads is None else (*rule.reads, *_ON_NOBODY)
    accounts = _accounts(changed, reads)
    if len(accounts) > _MOST_ACCOUNTS:
        return _ALL
    # what is new in other facts of an account tells nothing of when its sizes changed
    is_of_sizes = not _accounts(changed, [facts for facts in reads if facts != "liquidations"])
    is_small = is_of_sizes and at.largest < _least(rule)
    if rule.id not in stands.rules and (is_small or rule.id in stands.lacking):
        return _Look([], [], BEGINNING)
    is_later = is_of_sizes and rule.reads == ("liquidations",)
    return _Look(accounts, [], at.since if is_later else BEGINNING)


def _days_of(rule: Rule, at: sizes.Refreshed, stands: "_Standing") -> set[date]:
    """A rule that reaches further compares with days before: of the day itself it looks at what is
    large enough. One that does not compares with all of the day, which may become more or less."""
    large = {day for day, usd in at.days.items() if usd >= _least(rule)}
    if not rule.reach:
        return large | at.fallen | (stands.days.get(rule.id, set()) & at.days.keys())
    reach = int(str(rule.parameters[rule.reach]))
    after = (day + timedelta(days=later + 1) for day in at.days for later in range(reach))
    return large | (set(after) & stands.ended)


def _least(rule: Rule) -> Decimal:
    return Decimal(str(rule.parameters[rule.least])) if rule.least else Decimal(0)


class _Standing(NamedTuple):
    """Rules of which something stands on accounts that changed, those that find nothing of any, as
    they lack what they need, and the days, not before the first that changed, on which flags of a
    rule stand and on which episodes ended."""

    rules: Set[str]
    lacking: Set[str]
    days: Mapping[str, Set[date]]
    ended: Set[date]


def _standing_on(
    connection: Connection, rules: Sequence[Rule], changed: _Changed, at: sizes.Refreshed
) -> _Standing:
    needing = [rule for rule in rules if rule.needs]
    cursor = psycopg.ClientCursor(connection)
    able = [
        cursor.mogrify(_ABLE.format(rule.needs), {**rule.parameters, "rule": rule.id})
        for rule in needing
    ]
    values = (
        _accounts(changed, list(changed)),
        [rule.id for rule in rules if rule.of == "days" and not rule.reach],
        min(at.days, default=None),
    )
    found = defaultdict[str, list[tuple[str, date]]](list)
    for what, rule, day in prepared.execute(connection, " UNION ".join((_STANDS, *able)), values):
        found[what].append((rule, day))
    days = defaultdict[str, set[date]](set)
    for rule, day in found["flagged"]:
        days[rule].add(day)
    return _Standing(
        {rule for rule, _ in found["stands"]},
        {rule.id for rule in needing} - {rule for rule, _ in found["able"]},
        days,
        {day for _, day in found["ended"]},
    )


_STANDS = """
    SELECT 'stands' AS what, rule, NULL::date AS day FROM ledger.flag
    WHERE account = ANY ($1::text[]) AND upper_inf(recorded_during)
    UNION
    SELECT 'stands', rule, NULL FROM ledger.label
    WHERE account = ANY ($1::text[]) AND upper_inf(recorded_during)
    UNION
    SELECT 'flagged', rule, (occurred_at AT TIME ZONE 'UTC')::date FROM ledger.flag
    WHERE rule = ANY ($2::text[]) AND upper_inf(recorded_during)
      AND occurred_at >= $3::date::timestamp AT TIME ZONE 'UTC'
    UNION
    SELECT 'ended', '', day FROM ledger.episode_day WHERE day >= $3::date
"""
_ABLE = """
    SELECT 'able', %(rule)s, NULL
    WHERE EXISTS (SELECT FROM {} needed WHERE account = ANY ($1::text[]))
"""

_TAKE_CHANGED = "SELECT * FROM ledger.take_changed($1)"
# Of liquidators contracts alone can never be called something.
_WITH_CODE = "SELECT DISTINCT account FROM ledger.account_code WHERE account = ANY (%(accounts)s)"
_NOTE_SINCE = """
    INSERT INTO ledger.changed_account (account, facts)
    SELECT account, 'liquidations' FROM ledger.liquidation WHERE block_at >= %(since)s
    UNION SELECT account, 'liquidations' FROM ledger.lending_liquidation WHERE block_at >= %(since)s
    UNION SELECT account, 'ledger_liquidations' FROM ledger.ledger_liquidation
          WHERE block_at >= %(since)s
    UNION SELECT account, 'account_days' FROM ledger.account_day
          WHERE day >= (%(since)s::timestamptz AT TIME ZONE 'UTC')::date
    ON CONFLICT (account, facts) DO UPDATE SET since = NULL, until = NULL
"""

# -- one rule ------------------------------------------------------------------------------------

_RAN = "SELECT rule, meaning FROM ledger.label_run"
_REMEMBER = """
    INSERT INTO ledger.label_run (rule, meaning) VALUES (%s, %s)
    ON CONFLICT (rule) DO UPDATE SET meaning = excluded.meaning, ran_at = now()
"""


def _meaning(rule: Rule, definition: str) -> str:
    said = (rule.version, rule.makes, rule.query, sorted(_parameters(rule, definition).items()))
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _parameters(rule: Rule, definition: str) -> dict[str, Any]:
    """As they are stored; a size is one under a definition."""
    said = {name: msgspec.to_builtins(value) for name, value in rule.parameters.items()}
    return said | ({"definition": definition} if rule.makes == "flags" else {})


def _apply(connection: Connection, rule: Rule, definition: str, look: _Look) -> Change:
    if not (look is _ALL or look.accounts or look.days):
        return Change(rule, 0, 0)
    cursor = psycopg.ClientCursor(connection)
    values = {
        **rule.parameters, "definition": definition, "accounts": None, "on_days": None,
        "since": BEGINNING, "rule": rule.id, "rule_version": rule.version,
        "said": Jsonb(_parameters(rule, definition)), "harmless": list(HARMLESS),
    }  # fmt: skip
    statement = _statement(rule).as_string(connection)
    if look is _ALL:
        row: Any = cursor.execute(statement, values).fetchone()
    else:
        text = cursor.mogrify(_of_some(statement), values)
        [row] = prepared.execute(connection, text, look)
    withdrawn, new, violation = row
    if violation is not None:
        raise NeverLabelled(violation)
    return Change(rule, new, withdrawn)


_PLACES = {"%(accounts)s": "$1", "%(on_days)s": "$2", "%(since)s": "$3"}  # in a _Look


def _of_some(statement: str) -> str:
    """The statement for what a look names. Whether it may be all is no question any more: as one it
    would keep the planner from the index."""
    some = re.sub(r"%\((accounts|on_days)\)s::(text|date)\[\] IS NULL\s+OR\s+", "", statement)
    return re.sub("|".join(map(re.escape, _PLACES)), lambda place: _PLACES[place[0]], some)


def _statement(rule: Rule) -> sql.Composed:
    table, key, says = _SAYS[rule.makes]
    return _APPLY.format(
        query=sql.SQL(rule.query),
        table=sql.Identifier("ledger", table),
        columns=sql.SQL(", ").join(map(sql.Identifier, (*key, *says))),
        what=sql.Identifier(key[2]),
        # the account by itself, as a comparison of rows that may be NULL cannot be hashed
        same=sql.SQL(
            "stored.account = found.account"
            " AND ({stored}, stored.rule_version, stored.parameters)"
            " IS NOT DISTINCT FROM ({found}, %(rule_version)s, %(said)s::jsonb)"
        ).format(stored=_of("stored", (*key, *says)), found=_of("found", (*key, *says))),
        stands=sql.SQL("stored.rule = %(rule)s AND upper_inf(stored.recorded_during)"),
        looked_at=_LOOKED_AT[rule.of if rule.makes == "flags" else "labels"],
    )


# Of these it was looked; what was said of others still stands.
_LOOKED_AT = {
    "labels": sql.SQL(
        "(%(accounts)s::text[] IS NULL OR stored.account = ANY (%(accounts)s::text[]))"
    ),
    "accounts": sql.SQL(
        "(%(accounts)s::text[] IS NULL OR stored.account = ANY (%(accounts)s::text[]) AND ("
        " stored.occurred_at >= %(since)s::timestamptz"
        " OR (stored.level, stored.subject_key) IN (SELECT level, subject_key FROM found)))"
    ),
    "days": sql.SQL(
        "(%(on_days)s::date[] IS NULL OR (stored.occurred_at AT TIME ZONE 'UTC')::date"
        " = ANY (%(on_days)s::date[]))"
    ),
}
# What is new waits for what it takes the place of: one alone of a kind may stand. The look names
# types, whichever of it the query asks for.
_APPLY = sql.SQL(
    """
    WITH look AS (
        SELECT %(accounts)s::text[], %(on_days)s::date[], %(since)s::timestamptz
    ), found AS MATERIALIZED ({query}
    ), withdrawn AS (
        UPDATE {table} stored
        SET recorded_during = tstzrange(lower(recorded_during), clock_timestamp())
        WHERE {stands} AND {looked_at} AND NOT EXISTS (SELECT FROM found WHERE {same})
        RETURNING 1
    ), gone AS (
        SELECT count(*) AS rows FROM withdrawn
    ), come AS (
        INSERT INTO {table} ({columns}, rule, rule_version, parameters, recorded_during)
        SELECT {columns}, %(rule)s, %(rule_version)s, %(said)s,
               tstzrange(clock_timestamp(), NULL)
        FROM found CROSS JOIN gone
        WHERE NOT EXISTS (SELECT FROM {table} stored WHERE {stands} AND {same})
        RETURNING venue, account, {what}
    )
    SELECT (SELECT rows FROM gone), (SELECT count(*) FROM come), (
        SELECT min(account || ' of ' || venue || ' was to be called ' || {what} || ' and is '
                   || ledger.never_because(venue, account))
        FROM come WHERE {what} <> ALL (%(harmless)s)
    )
    """
)


def _withdraw_rules(connection: Connection, gone: Sequence[str]) -> None:
    """What a rule said that is no more is withdrawn."""
    if not gone:
        return
    for table in ("flag", "label"):
        connection.execute(
            sql.SQL(
                "UPDATE {} SET recorded_during = tstzrange(lower(recorded_during),"
                " clock_timestamp()) WHERE upper_inf(recorded_during) AND rule = ANY (%s)"
            ).format(sql.Identifier("ledger", table)),
            (gone,),
        )
    connection.execute("DELETE FROM ledger.label_run WHERE rule = ANY (%s)", (gone,))


def _check(connection: Connection, accounts: Sequence[str]) -> None:
    """No standing opinion is on one of the accounts that can never have one now."""
    if not accounts:
        return
    row: Any = connection.execute(
        """
        SELECT account || ' of ' || venue || ' was to be called ' || what || ' and is '
               || ledger.never_because(venue, account)
        FROM (
            SELECT venue, account, label AS what FROM ledger.label
            WHERE upper_inf(recorded_during) AND label <> ALL (%(harmless)s)
              AND account = ANY (%(accounts)s)
            UNION ALL
            SELECT venue, account, level FROM ledger.flag
            WHERE upper_inf(recorded_during) AND account = ANY (%(accounts)s)
        ) said
        WHERE ledger.never_because(venue, account) IS NOT NULL
        ORDER BY 1 LIMIT 1
        """,
        {"harmless": list(HARMLESS), "accounts": accounts},
    ).fetchone()
    if row is not None:
        raise NeverLabelled(row[0])


def _of(alias: str, columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(alias, column) for column in columns)
