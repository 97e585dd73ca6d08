"""Which accounts are to be asked what they are and whose, and where the answers are kept."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from psycopg import sql
from psycopg.types.json import Jsonb

from indexer.account_model import Code, NotOwned, Owned
from indexer.evm_model import BlockRef
from indexer.store.database import Connection

ROWS_AT_ONCE = 10_000


class Wanted(NamedTuple):
    """An account of a venue, the blocks of its first and last liquidation, the market of the last,
    and the owners that its liquidations name."""

    venue: str
    account: str
    market: str
    owners: tuple[str, ...]
    first: BlockRef
    last: BlockRef


class SeenCode(NamedTuple):
    """What stood at an address at the end of a block."""

    account: str
    block: BlockRef
    code: Code


class SeenOwner(NamedTuple):
    """What a way to find the owner of an account said at the end of a block; `venue` may be a
    chain."""

    account: str
    venue: str
    method: str
    block: BlockRef
    answer: Owned | NotOwned


def wanted(
    connection: Connection, chain: str, venues: Sequence[str], final: int, *, again: bool = False
) -> Iterator[Wanted]:
    """The liquidated accounts of some venues of a chain that were not asked, as far as their blocks
    are final; all of them with `again`. Other statements may run on the connection meanwhile."""
    with connection.cursor("wanted_accounts", withhold=True) as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(
            """
            SELECT l.venue, l.account, l.market, l.owners,
                   first.block_number, first.hash, coalesce(first.parent_hash, ''),
                   extract(epoch FROM first.block_at)::bigint,
                   last.block_number, last.hash, coalesce(last.parent_hash, ''),
                   extract(epoch FROM last.block_at)::bigint
            FROM (
                SELECT venue, account, min(block_number) AS first, max(block_number) AS last,
                       (array_agg(market ORDER BY block_number DESC, event_key))[1] AS market,
                       coalesce(array_agg(DISTINCT owner) FILTER (WHERE owner IS NOT NULL), '{}')
                           AS owners
                FROM (
                    SELECT venue, account, block_number, event_key, market, owner
                    FROM ledger.lending_liquidation
                    WHERE venue = ANY (%(venues)s) AND block_number <= %(final)s
                    UNION ALL
                    SELECT venue, account, block_number, event_key, market, NULL
                    FROM ledger.liquidation
                    WHERE venue = ANY (%(venues)s) AND block_number <= %(final)s
                ) l
                WHERE %(again)s OR NOT EXISTS (
                    SELECT FROM ledger.account_asked asked
                    WHERE (asked.account, asked.venue) = (l.account, l.venue))
                GROUP BY venue, account
            ) l
            JOIN ledger.block first ON first.chain = %(chain)s AND first.block_number = l.first
            JOIN ledger.block last ON last.chain = %(chain)s AND last.block_number = l.last
            ORDER BY l.account, l.venue
            """,
            {"chain": chain, "venues": list(venues), "final": final, "again": again},
        )
        rows: Any = cursor
        for venue, account, market, owners, *blocks in rows:
            yield Wanted(
                venue, account, market, tuple(owners), BlockRef(chain, *blocks[:4]),
                BlockRef(chain, *blocks[4:]),
            )  # fmt: skip


def append(
    connection: Connection,
    chain: str,
    asked: Sequence[tuple[str, str]],
    asked_at: BlockRef,
    codes: Sequence[SeenCode],
    owners: Sequence[SeenOwner],
) -> None:
    """Store what was seen and that these (account, venue) were asked, in one transaction. What is
    known of a block already is put right."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.account_code AS known
                (account, chain, block_number, block_at, code_hash, kind, evidence)
            VALUES (%s, %s, %s, to_timestamp(%s), %s, %s, %s)
            ON CONFLICT (account, chain, block_number) DO UPDATE
            SET code_hash = excluded.code_hash, kind = excluded.kind, evidence = excluded.evidence
            WHERE (known.code_hash, known.kind, known.evidence)
                IS DISTINCT FROM (excluded.code_hash, excluded.kind, excluded.evidence)
            """,
            [
                (one.account, chain, one.block.number, one.block.time, one.code.code_hash,
                 one.code.kind, Jsonb(one.code.evidence))
                for one in codes
            ],
        )  # fmt: skip
        for seen in owners:  # few accounts have one
            _append_owner(connection, seen)
        accounts = sorted({one.account for one in codes} | {one.account for one in owners})
        for statement in (_THIN_CODES, _THIN_OWNERS):
            cursor.execute(statement, {"accounts": accounts})
        cursor.executemany(
            """
            INSERT INTO ledger.account_asked (account, venue, block_number) VALUES (%s, %s, %s)
            ON CONFLICT (account, venue) DO UPDATE
            SET block_number = excluded.block_number, asked_at = now()
            """,
            [(account, venue, asked_at.number) for account, venue in asked],
        )


def _append_owner(connection: Connection, seen: SeenOwner) -> None:
    """That there is none is worth a row only where there was one."""
    match seen.answer:
        case Owned(owner, proof):
            told: tuple[str | None, Jsonb] = (owner, Jsonb(proof))
        case NotOwned():
            told = (None, Jsonb({}))
    connection.execute(
        """
        INSERT INTO ledger.account_owner AS known
            (account, venue, method, block_number, block_at, owner, proof)
        SELECT %(account)s, %(venue)s, %(method)s, %(block)s, to_timestamp(%(time)s), %(owner)s,
               %(proof)s
        WHERE %(is_owned)s OR EXISTS (
            SELECT FROM ledger.account_owner before
            WHERE (before.account, before.venue, before.method)
                = (%(account)s, %(venue)s, %(method)s) AND before.block_number <= %(block)s)
        ON CONFLICT (account, venue, method, block_number) DO UPDATE
        SET owner = excluded.owner, proof = excluded.proof
        WHERE (known.owner, known.proof) IS DISTINCT FROM (excluded.owner, excluded.proof)
        """,
        {
            "account": seen.account, "venue": seen.venue, "method": seen.method,
            "block": seen.block.number, "time": seen.block.time, "owner": told[0],
            "proof": told[1], "is_owned": isinstance(seen.answer, Owned),
        },
    )  # fmt: skip


# An observation between two that say the same adds nothing: an interval begins with the first that
# differs, wherever those between stood.
_THIN = """
    DELETE FROM ledger.{table} WHERE ({key}, block_number) IN (
        SELECT {key}, block_number FROM (
            SELECT {key}, block_number,
                   ({says}) IS NOT DISTINCT FROM ({before})
                   AND ({says}) IS NOT DISTINCT FROM ({after})
                   AND lag(account) OVER by_block IS NOT NULL
                   AND lead(account) OVER by_block IS NOT NULL AS is_between
            FROM ledger.{table} WHERE account = ANY (%(accounts)s)
            WINDOW by_block AS (PARTITION BY {key} ORDER BY block_number)
        ) seen
        WHERE is_between
    )
"""


def _thin(table: str, key: tuple[str, ...], says: tuple[str, ...]) -> sql.Composed:
    def over(function: str) -> sql.Composed:
        columns = (sql.SQL(f"{function}({column}) OVER by_block") for column in says)
        return sql.SQL(", ").join(columns)

    return sql.SQL(_THIN).format(
        table=sql.Identifier(table),
        key=sql.SQL(", ").join(map(sql.Identifier, key)),
        says=sql.SQL(", ").join(map(sql.Identifier, says)),
        before=over("lag"),
        after=over("lead"),
    )


_THIN_CODES = _thin("account_code", ("account", "chain"), ("code_hash", "kind", "evidence"))
_THIN_OWNERS = _thin("account_owner", ("account", "venue", "method"), ("owner", "proof"))
