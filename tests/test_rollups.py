"""Sums of days: which are kept, that totals stand on them, and that they never outlive a change."""

import subprocess
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from indexer.store import values
from indexer.store.database import Connection
from indexer.store.rollups import Compared, compare, refresh
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.oracle_world import write_case

ALICE, CAROL = ("0x" + 40 * digit for digit in "ac")
NOW = datetime(2025, 10, 13, 9, tzinfo=UTC)
OLDEST, NEXT, TODAY = (datetime(2025, 10, day, 7, tzinfo=UTC) for day in (9, 12, 13))
ROLLED = "SELECT day FROM ledger.rolled_day"
LARGEST = (
    "SELECT venue, account, usd, records"
    " FROM liq.largest_accounts('strict/v1', '2025-10-09', '2025-10-14')"
)


def perp(connection: Connection, number: int, at: datetime, usd: int, account: str = ALICE) -> None:
    """A forced trade, valued at par."""
    connection.execute(
        """
        INSERT INTO ledger.liquidation (
            venue, event_key, account, block_number, block_at, tx_hash, method, market, dex, quote,
            side, size, price, notional, counterparty, counterparty_kind,
            account_is_protocol_vault, legs_seen, decoder_version
        ) VALUES (
            'hyperliquid', %(key)s, %(account)s, 1, %(at)s, %(key)s, 'market', 'ETH', '', 'USDC',
            'long', 1, %(usd)s, %(usd)s, '0xm', 'maker', false, 'both', 1
        )
        """,
        {"key": f"1/ETH/{number}", "account": account, "at": at, "usd": usd},
    )
    values.value(connection, venues=["hyperliquid"], since=at, until=at + timedelta(seconds=1))


def loan(connection: Connection, block: int, at: datetime) -> None:
    """A liquidation on Ethereum, which is final up to block 100; nobody has a price for it."""
    connection.execute(
        "INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)"
        " VALUES ('ethereum', 200, '0xt', 100, 1)"
    )
    connection.execute(
        "INSERT INTO ledger.block (chain, block_number, hash, block_at)"
        " VALUES ('ethereum', %s, '0xb', %s)",
        (block, at),
    )
    connection.execute(
        """
        INSERT INTO ledger.lending_liquidation (
            venue, event_key, account, block_number, block_at, method, market, repaid_asset,
            repaid_raw, seized_is_shares, decoder_version
        ) VALUES ('aave_v3.ethereum', '0x1/1', %s, %s, %s, 'repay_seize', '0xm', '0xa', 1, false, 1)
        """,
        (ALICE, block, at),
    )


def test_each_day_that_has_ended_and_has_rows_is_added_up_once(connection: Connection) -> None:
    for number, at in enumerate((OLDEST, OLDEST + timedelta(hours=16), NEXT, TODAY)):
        perp(connection, number, at, 100)

    assert (refresh(connection, now=NOW), refresh(connection, now=NOW)) == (2, 0)
    assert rows(connection, ROLLED) == [(NEXT.date(),), (OLDEST.date(),)]


def test_the_newest_day_comes_first(connection: Connection) -> None:
    for number, at in enumerate((OLDEST, NEXT)):
        perp(connection, number, at, 100)

    assert refresh(connection, now=NOW, most=1) == 1
    assert rows(connection, ROLLED) == [(NEXT.date(),)]


def test_an_empty_ledger_has_nothing_to_add_up(connection: Connection) -> None:
    assert refresh(connection, now=NOW) == 0


def test_what_the_database_does_not_know_is_not_added_up(connection: Connection) -> None:
    perp(connection, 1, OLDEST, 100)

    assert refresh(connection, now=NOW, definition="mine/v1") == 0


def test_the_last_moment_of_a_day_is_its_own_and_the_first_of_the_next_is_not(
    connection: Connection,
) -> None:
    midnight = datetime(2025, 10, 11, tzinfo=UTC)
    perp(connection, 1, midnight - timedelta(microseconds=1), 100)
    perp(connection, 2, midnight, 100)

    assert refresh(connection, now=midnight) == 1
    assert rows(connection, ROLLED) == [(date(2025, 10, 10),)]


@pytest.mark.parametrize(("block", "expected"), [(100, [(OLDEST.date(),)]), (101, [])])
def test_a_day_with_a_block_that_is_not_final_waits(
    connection: Connection, block: int, expected: list[tuple[date]]
) -> None:
    loan(connection, block, OLDEST)

    assert refresh(connection, now=NOW) == len(expected)
    assert rows(connection, ROLLED) == expected


def test_the_largest_accounts_come_from_the_stored_sums(connection: Connection) -> None:
    for number, at in enumerate((OLDEST, NEXT, TODAY)):
        perp(connection, number, at, 100)
    perp(connection, 9, OLDEST, 250, CAROL)
    before = rows(connection, LARGEST)

    refresh(connection, now=NOW)
    after = rows(connection, LARGEST)
    connection.execute("UPDATE ledger.account_total SET usd = usd * 10")

    assert before == after == [
        ("hyperliquid", ALICE, Decimal(300), 3), ("hyperliquid", CAROL, Decimal(250), 1),
    ]  # fmt: skip
    assert rows(connection, LARGEST) == [
        ("hyperliquid", ALICE, Decimal(2_100), 3), ("hyperliquid", CAROL, Decimal(2_500), 1),
    ]  # fmt: skip


def test_a_change_drops_the_sums_of_its_day_and_a_refresh_restores_them(
    connection: Connection,
) -> None:
    for number, at in enumerate((OLDEST, NEXT)):
        perp(connection, number, at, 100)
    refresh(connection, now=NOW)

    perp(connection, 9, OLDEST, 250, CAROL)
    left = rows(connection, ROLLED)

    assert left == [(NEXT.date(),)]
    assert refresh(connection, now=NOW) == 1
    assert rows(connection, "SELECT account, usd FROM ledger.account_total") == [
        (ALICE, Decimal(100)), (ALICE, Decimal(100)), (CAROL, Decimal(250)),
    ]  # fmt: skip


TAMPERED = {
    "a sum": ("UPDATE ledger.day_total SET usd = usd + 1e-30 WHERE section = 'total'", "total"),
    "a count": ("UPDATE ledger.day_total SET episodes = 2 WHERE section = 'venue'", "total"),
    "a name": ("UPDATE ledger.day_total SET name = 'BTC' WHERE section = 'asset'", "total"),
    "an order": ("UPDATE ledger.day_total SET place = -place", "total"),
    "a line less": ("DELETE FROM ledger.day_total WHERE section = 'largest'", "total"),
    "a line more": ("INSERT INTO ledger.day_total SELECT (jsonb_populate_record(t,"
                    " '{\"place\": 99}')).* FROM ledger.day_total t WHERE place = 1", "total"),
    "an account's sum": ("UPDATE ledger.account_total SET usd = usd + 1", "accounts"),
    "an account less": ("DELETE FROM ledger.account_total", "accounts"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "what"), TAMPERED.values(), ids=TAMPERED)
def test_what_is_stored_otherwise_than_the_rows_have_it_is_found(
    connection: Connection, change: str, what: str
) -> None:
    for number, at in enumerate((OLDEST, NEXT)):
        perp(connection, number, at, 100)
    refresh(connection, now=NOW)
    before = compare(connection)

    connection.execute(change)
    connection.execute("DELETE FROM ledger.rolled_day WHERE day = %s", (OLDEST.date(),))

    assert before == [Compared("strict/v1", at.date(), ()) for at in (OLDEST, NEXT)]
    assert compare(connection) == [Compared("strict/v1", NEXT.date(), (what,))]


def test_an_audit_says_where_stored_days_are_not_those_of_the_rows(
    connection: Connection, quick_indexer: Command
) -> None:
    perp(connection, 1, OLDEST, 100)
    quick_indexer("audit")  # as every command it brings the kin of assets up to date
    refresh(connection, now=NOW)
    whole = quick_indexer("audit")

    connection.execute("UPDATE ledger.day_total SET usd = 99 WHERE section = 'total'")
    connection.execute("UPDATE ledger.account_total SET records = 2")
    done, of_venue = quick_indexer("audit"), quick_indexer("audit", "hyperliquid")

    assert (whole.returncode, lines(whole)) == (0, ["totals of days: 1 compared, 0 differ"])
    assert (done.returncode, lines(done)) == (
        1,
        [
            "totals of days: 1 compared, 1 differ",
            "  strict/v1 2025-10-09: total, accounts",
            "  delete from ledger.rolled_day forgets them; indexer value makes them again",
        ],
    )
    assert lines(of_venue) == []


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What an audit says of stored days: it comes last."""
    _, begin, said = done.stdout.partition("totals of days")
    return [line.rstrip() for line in (begin + said).splitlines()]


def test_days_that_a_window_touches_are_compared(connection: Connection) -> None:
    for number, at in enumerate((OLDEST, NEXT)):
        perp(connection, number, at, 100)
    refresh(connection, now=NOW)
    midnight = datetime(2025, 10, 12, tzinfo=UTC)

    assert [one.day for one in compare(connection, OLDEST, midnight)] == [OLDEST.date()]
    assert [one.day for one in compare(connection, midnight)] == [NEXT.date()]
    assert [one.day for one in compare(connection, high=midnight)] == [OLDEST.date()]


def test_a_refresh_brings_the_total_of_each_day_back(connection: Connection) -> None:
    perp(connection, 1, OLDEST, 100)
    stored = "SELECT usd, records FROM ledger.day_total WHERE section = 'total'"
    refresh(connection, now=NOW)
    before = rows(connection, stored)

    perp(connection, 9, OLDEST, 250, CAROL)
    gone = rows(connection, stored)
    refresh(connection, now=NOW)

    assert (before, gone) == ([(Decimal(100), 1)], [])
    assert rows(connection, stored) == [(Decimal(350), 2)]


def test_indexer_value_leaves_days_added_up(connection: Connection, quick_indexer: Command) -> None:
    (row,) = write_case(connection, "dolomite/liquidation")

    done = quick_indexer("value", row.venue, "--offline")

    assert done.returncode == 0
    assert rows(connection, "SELECT venue, account, usd FROM ledger.account_total") == [
        (row.venue, row.account, Decimal("1898.1"))
    ]
