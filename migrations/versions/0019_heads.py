"""Perpetuals of chains in what is known of heads, and contracts of protocols in what is never
labelled: of a market whose positions no event tells apart the market itself is the account.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

FUNCTIONS = """
CREATE OR REPLACE FUNCTION ledger.forget_days_of_heads() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('indexer roll up'));
    PERFORM ledger.forget_days(min(l.block_at), 'infinity')
    FROM (
        SELECT venue, block_number, block_at FROM ledger.lending_liquidation
        UNION ALL
        SELECT venue, block_number, block_at FROM ledger.liquidation
    ) l
    WHERE ledger.chain_of(l.venue) = NEW.chain AND l.block_number > NEW.finalized_block;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ledger.never_because(venue text, account text) RETURNS text
LANGUAGE sql STABLE
RETURN CASE
    WHEN account = '0x0000000000000000000000000000000000000000' THEN 'the zero address'
    WHEN account ~ '^0x(2{40}|[24]0{31}[0-9a-f]{8})$' THEN 'a system address of the exchange'
    ELSE coalesce(
        (SELECT 'the protocol vault ' || v.name FROM ledger.protocol_vault v
         WHERE v.account = never_because.account AND never_because.venue IN (v.venue, '*')
         ORDER BY v.venue LIMIT 1),
        -- of an account with a number, the address
        (SELECT n.why FROM ledger.never_labelled n
         WHERE n.account = split_part(never_because.account, ':', 1)
           AND (n.chain IN ('*', ledger.chain_or_venue(never_because.venue))
                OR never_because.venue = '*')
         ORDER BY n.chain, n.origin LIMIT 1),
        (SELECT 'a contract of ' || split_part(f.value, '/', 1) FROM ledger.fact f
         WHERE (f.chain, f.fact, f.subject)
             = (ledger.chain_or_venue(never_because.venue), 'emitter', never_because.account)),
        CASE WHEN 'contract' = (
            SELECT c.kind FROM ledger.account_code c
            WHERE c.account = never_because.account
              AND c.chain = ledger.chain_or_venue(never_because.venue)
            ORDER BY c.block_number DESC LIMIT 1
        ) AND ledger.liquidates(never_because.venue, never_because.account)
        THEN 'a liquidator contract' END
    )
END;

CREATE FUNCTION ledger.note_emitters() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT subject, 'never_labelled' FROM changed WHERE fact = 'emitter'
    ORDER BY 1 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ledger.note_emitters() IS
    'Whether these contracts are of a protocol has to be looked at again.';
"""

TRIGGER = """
CREATE TRIGGER note_emitters_{event} AFTER {event} ON ledger.fact
    REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.note_emitters();
"""
EVENTS = {"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"}


def upgrade() -> None:
    triggers = (TRIGGER.format(event=event, rows=rows) for event, rows in EVENTS.items())
    op.get_bind().exec_driver_sql("".join([FUNCTIONS, *triggers]).replace("%", "%%"))
