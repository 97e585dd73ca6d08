"""Who can never be called a whale or a victim, and who liquidates others.

The list of accounts comes from the project (a file of it and the venues' deployments) and from the
user; `indexer label` keeps the project's part. Liquidators are noted where a row goes or changes;
those of new rows are found in the times that were valued, so that an insert costs no trigger.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0013"
down_revision = "0012"

TABLES = """
CREATE TABLE ledger.never_labelled (
    chain text NOT NULL,
    account text COLLATE "C" NOT NULL CHECK (account = lower(account)),
    origin text NOT NULL CHECK (origin IN ('project', 'user')),
    why text NOT NULL,
    source text NOT NULL,
    PRIMARY KEY (account, chain, origin)
);

CREATE INDEX lending_liquidation_liquidator ON ledger.lending_liquidation (liquidator)
    WHERE liquidator IS NOT NULL;
CREATE INDEX liquidation_liquidator ON ledger.liquidation (liquidator)
    WHERE liquidator IS NOT NULL;
"""

FUNCTIONS = """
CREATE FUNCTION ledger.chain_or_venue(venue text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(nullif(split_part(venue, '.', 2), ''), venue);

CREATE FUNCTION ledger.liquidates(
    venue text, account text, times int DEFAULT 5, days int DEFAULT 30
) RETURNS boolean
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT EXISTS (
        SELECT FROM (
            SELECT last_at, lag(last_at, times - 1) OVER (ORDER BY last_at) AS first_at
            FROM (
                SELECT l.block_at AS last_at FROM liq.liquidators l
                WHERE l.chain = ledger.chain_or_venue(liquidates.venue)
                  AND l.liquidator = liquidates.account
                GROUP BY l.block_at, l.venue, l.account, l.tx_hash
            ) actions
        ) counted
        WHERE first_at > last_at - make_interval(days => days)
    );
END;

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
        CASE WHEN 'contract' = (
            SELECT c.kind FROM ledger.account_code c
            WHERE c.account = never_because.account
              AND c.chain = ledger.chain_or_venue(never_because.venue)
            ORDER BY c.block_number DESC LIMIT 1
        ) AND ledger.liquidates(never_because.venue, never_because.account)
        THEN 'a liquidator contract' END
    )
END;

CREATE FUNCTION ledger.note_never_labelled() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT account, 'never_labelled' FROM changed
    UNION
    -- the numbered accounts of these addresses; reads the whole table, but the list seldom changes
    SELECT l.account, 'never_labelled' FROM ledger.lending_liquidation l
    JOIN changed ON changed.account = split_part(l.account, ':', 1)
    WHERE l.account LIKE '%:%'
    ORDER BY 1 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_changed_liquidators() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT liquidator, 'liquidators' FROM changed WHERE liquidator IS NOT NULL
    ORDER BY 1 ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
"""

TRIGGER = """
CREATE TRIGGER note_{what}_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.{function}();
"""
TRIGGERS = (
    ("never", "never_labelled", "INSERT", "NEW", "note_never_labelled"),
    ("never", "never_labelled", "UPDATE", "NEW", "note_never_labelled"),
    ("never", "never_labelled", "DELETE", "OLD", "note_never_labelled"),
    ("liquidators", "liquidation", "UPDATE", "OLD", "note_changed_liquidators"),
    ("liquidators", "liquidation", "DELETE", "OLD", "note_changed_liquidators"),
    ("liquidators", "lending_liquidation", "UPDATE", "OLD", "note_changed_liquidators"),
    ("liquidators", "lending_liquidation", "DELETE", "OLD", "note_changed_liquidators"),
)

# An action is what one transaction did to one account, as in liq.actions.
VIEWS = """
CREATE VIEW liq.never_labelled AS
SELECT chain, account, why, source, origin FROM ledger.never_labelled;

CREATE VIEW liq.liquidators AS
SELECT ledger.chain_of(venue) AS chain, liquidator, venue, account,
       left(event_key, 66) AS tx_hash, block_at
FROM ledger.lending_liquidation
WHERE liquidator IS NOT NULL AND liquidator <> account AND liquidator IS DISTINCT FROM owner
UNION ALL
SELECT venue, liquidator, venue, account, tx_hash, block_at
FROM ledger.liquidation
WHERE liquidator IS NOT NULL AND liquidator <> account;
"""

FUNCTION_COMMENTS = {
    "ledger.liquidates(text, text, int, int)": "Whether an account liquidated others so many times"
    " within so many days on the chain of the venue.",
    "ledger.chain_or_venue(text)": "The chain of a venue; an exchange that is its own chain, a"
    " chain and * stay as they are.",
    "ledger.note_never_labelled()": "What rules say of these accounts has to be looked at again.",
    "ledger.note_changed_liquidators()": "Whether these accounts liquidate others has to be looked"
    " at again.",
}
TABLE_COMMENTS = {
    "TABLE ledger.never_labelled": "Accounts that can never be called a whale or a victim, beside"
    " the protocol vaults, the zero address and system addresses.",
    "VIEW liq.never_labelled": "Accounts that can never be called a whale or a victim, beside the"
    " protocol vaults, the zero address and system addresses.",
    "VIEW liq.liquidators": "Who liquidated whom: the liquidator that a lending protocol names, and"
    " who took a position over. Rows of one transaction and account are one action; what somebody"
    " did to themselves is left out.",
}
COMMENTS = {
    "chain": "The chain that it holds on, hyperliquid, or * for every chain.",
    "account": "Address of the account concerned, lower case.",
    "origin": "project: a file of it or the deployments of its venues. user: indexer labels never.",
    "why": "What it is, as a sentence goes on: the Uniswap V2 router.",
    "source": "The repository, package or documentation that names it.",
    "liquidator": "Who liquidated, lower case.",
    "venue": "A protocol on a chain, e.g. aave_v3.ethereum.",
    "tx_hash": "Hash of the transaction, or of the action on an exchange.",
    "block_at": "Time of the block, UTC.",
}


def upgrade() -> None:
    triggers = (
        TRIGGER.format(what=what, table=table, event=event, old_or_new=old_or_new, function=name)
        for what, table, event, old_or_new, name in TRIGGERS
    )
    for statements in (TABLES, VIEWS, FUNCTIONS, *triggers):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for name, text in TABLE_COMMENTS.items():
        kind, _, relation = name.partition(" ")
        comment_on(op.get_bind(), kind, relation, text, COMMENTS)
