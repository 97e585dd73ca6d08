"""Two passes over the values of one venue may run at once, in weeks that they do not share.

What is changed or deleted is kept from being valued meanwhile by a lock of its venue. One venue may
have most of all rows, as Hyperliquid, and one connection is one core of the server. So the lock has
two halves: the even weeks and the odd ones. Who changes rows holds both, shared.
"""

from alembic import op

revision = "0029"
down_revision = "0028"

LOCKS = """
CREATE FUNCTION ledger.lock_half_of_values(of_venue text, half int, alone boolean) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT CASE WHEN alone
        THEN pg_advisory_xact_lock(hashtext('indexer value ' || half), hashtext(of_venue))
        ELSE pg_advisory_xact_lock_shared(hashtext('indexer value ' || half), hashtext(of_venue))
    END;
END;

CREATE OR REPLACE FUNCTION ledger.lock_values(of_venue text, alone boolean) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    -- always in this order, so that no two wait for each other
    PERFORM ledger.lock_half_of_values(of_venue, 0, alone);
    PERFORM ledger.lock_half_of_values(of_venue, 1, alone);
END $$;

COMMENT ON FUNCTION ledger.lock_half_of_values(text, int, boolean) IS
    'Holds, to the end of the transaction, values of a venue in even weeks since 1970, half 0, or'
    ' in odd ones: alone for who values them, shared for who changes what is valued.';
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(LOCKS)
