"""What an account is: a contract, a Safe; who owns it.

Both are observations at blocks that are final. What differs from the observation before it begins
an interval, so that a delegation that is taken back, or a proxy that is upgraded, ends what was.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0011"
down_revision = "0010"

TABLES = """
CREATE TABLE ledger.account_code (
    account text NOT NULL CHECK (account = lower(account)),
    chain text NOT NULL,
    block_number bigint NOT NULL,
    block_at timestamptz NOT NULL,
    code_hash text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('none', 'contract', 'safe', 'erc4337', 'eip7702')),
    evidence jsonb NOT NULL,
    PRIMARY KEY (account, chain, block_number)
);

CREATE TABLE ledger.account_owner (
    account text NOT NULL CHECK (account = lower(account)),
    venue text NOT NULL,
    method text NOT NULL,
    block_number bigint NOT NULL,
    block_at timestamptz NOT NULL,
    owner text CHECK (owner = lower(owner)),
    proof jsonb NOT NULL,
    PRIMARY KEY (account, venue, method, block_number)
);

CREATE TABLE ledger.account_asked (
    account text NOT NULL,
    venue text NOT NULL,
    block_number bigint NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, venue)
);

-- few rows have one, and rules look for these alone
CREATE INDEX lending_liquidation_owner ON ledger.lending_liquidation (account)
    WHERE owner IS NOT NULL;
"""

# A new liquidation tells an owner whether or not it will ever have a value.
NOTE = """
CREATE FUNCTION ledger.note_owned_accounts() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT account, 'account_owners' FROM changed
    WHERE owner IS NOT NULL ORDER BY account ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER note_owned_on_insert AFTER INSERT ON ledger.lending_liquidation
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_owned_accounts();
CREATE TRIGGER note_owned_on_update AFTER UPDATE ON ledger.lending_liquidation
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_owned_accounts();
CREATE TRIGGER note_owned_on_delete AFTER DELETE ON ledger.lending_liquidation
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_owned_accounts();
"""
TRIGGER = """
CREATE TRIGGER note_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_changed_accounts('{table}s');
"""
EVENTS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))

VIEWS = """
CREATE VIEW liq.account_codes AS
WITH compared AS (
    SELECT *, (code_hash, kind, evidence) IS DISTINCT FROM (
        lag(code_hash) OVER earlier, lag(kind) OVER earlier, lag(evidence) OVER earlier
    ) AS is_new
    FROM ledger.account_code
    WINDOW earlier AS (PARTITION BY account, chain ORDER BY block_number)
), run AS (
    SELECT *, count(*) FILTER (WHERE is_new)
                  OVER (PARTITION BY account, chain ORDER BY block_number) AS number
    FROM compared
), joined AS (
    SELECT account, chain, number, min(kind) AS kind, min(code_hash) AS code_hash,
           (array_agg(evidence))[1] AS evidence, min(block_number) AS first_block,
           max(block_number) AS last_block, min(block_at) AS valid_from
    FROM run GROUP BY account, chain, number
)
SELECT chain, account, kind, code_hash, evidence, first_block, last_block, valid_from,
       lead(valid_from) OVER (PARTITION BY account, chain ORDER BY number) AS valid_to
FROM joined;

CREATE VIEW liq.account_owners AS
WITH compared AS (
    SELECT *, lag(method) OVER earlier IS NULL OR (owner, proof) IS DISTINCT FROM (
        lag(owner) OVER earlier, lag(proof) OVER earlier
    ) AS is_new
    FROM ledger.account_owner
    WINDOW earlier AS (PARTITION BY account, venue, method ORDER BY block_number)
), run AS (
    SELECT *, count(*) FILTER (WHERE is_new)
                  OVER (PARTITION BY account, venue, method ORDER BY block_number) AS number
    FROM compared
), joined AS (
    SELECT account, venue, method, number, min(owner) AS owner,
           (array_agg(proof))[1] AS proof, min(block_number) AS first_block,
           max(block_number) AS last_block, min(block_at) AS valid_from
    FROM run GROUP BY account, venue, method, number
)
SELECT venue, account, owner, method, proof, first_block, last_block, valid_from,
       lead(valid_from) OVER (PARTITION BY account, venue, method ORDER BY number) AS valid_to
FROM joined
UNION ALL
SELECT venue, account, owner, 'liquidation',
       jsonb_build_object('liquidation', (array_agg(
           venue || '/' || event_key || '/' || account ORDER BY block_number, event_key))[1]),
       min(block_number), max(block_number), min(block_at), NULL
FROM ledger.lending_liquidation
WHERE owner IS NOT NULL
GROUP BY venue, account, owner;
"""

FUNCTION_COMMENTS = {
    "ledger.note_owned_accounts()": "Liquidations that name an owner are facts about owners too.",
}
TABLE_COMMENTS = {
    "account_code": "What stands at an address, as observed at final blocks; of observations in a"
    " row that say the same, the first and the last.",
    "account_owner": "Whose an account is, as observed at final blocks; of observations in a row"
    " that say the same, the first and the last.",
    "account_asked": "Accounts whose code and owner were asked, and when last.",
}
VIEW_COMMENTS = {
    "account_codes": "What stands at an address, and from when to when: up to the first observation"
    " that differs.",
    "account_owners": "Whose an account is, by proof: an observation, or a liquidation that names"
    " the owner.",
}
COMMENTS = {
    "account": "Address, or the account or number as the venue writes it, lower case.",
    "chain": "The chain, e.g. ethereum.",
    "venue": "Where it is an account: a protocol on a chain, or a chain.",
    "block_number": "Height at whose end it was so.",
    "block_at": "Time of that block.",
    "code_hash": "keccak-256 of the code; that of no bytes where there is none.",
    "kind": "none, contract, safe, erc4337 or eip7702.",
    "evidence": "What was read beside the code: implementation, delegate, singleton, EntryPoint.",
    "owner": "Address of the owner; NULL where there are several, or none any more.",
    "method": "How it was found: a file of indexer/owners, or liquidation for what its event said.",
    "proof": "The contracts that vouch and what they were asked; owners and threshold of a Safe.",
    "asked_at": "When it was asked last.",
    "first_block": "Height of the first observation.",
    "last_block": "Height of the last observation that said the same.",
    "valid_from": "Time of the first observation.",
    "valid_to": "Time of the first observation that differs; NULL where none does.",
}


def upgrade() -> None:
    triggers = (
        TRIGGER.format(table=table, event=event, old_or_new=old_or_new)
        for table in ("account_code", "account_owner")
        for event, old_or_new in EVENTS
    )
    for statements in (TABLES, NOTE, *triggers, VIEWS):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, COMMENTS)
