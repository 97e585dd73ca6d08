"""Puts simulated loans into the ledger."""

from collections.abc import Iterable

from indexer.store.database import Connection
from tests.simulator.loans import Loan


def lend(connection: Connection, rows: Iterable[Loan]) -> None:
    """As liquidations that nobody has a price for."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO ledger.lending_liquidation (
                venue, event_key, account, block_number, block_at, method, market, repaid_asset,
                repaid_raw, liquidator, seized_is_shares, decoder_version
            ) VALUES (%s, %s, %s, 1, %s, 'repay_seize', '0xm', '0xa', 1, %s, false, 1)
            """,
            [(row.venue, row.event_key, row.account, row.at, row.liquidator) for row in rows],
        )
