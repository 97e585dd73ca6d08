"""What the exchange says of an account: vault, sub-account, agent; and all owners in one place."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0012"
down_revision = "0011"

TABLES = """
CREATE TABLE ledger.exchange_role (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    role text NOT NULL CHECK (role IN ('user', 'vault', 'sub_account', 'agent', 'missing')),
    master text CHECK (master = lower(master) AND master <> account),
    leader text CHECK (leader = lower(leader) AND leader <> account),
    name text,
    raw jsonb NOT NULL,
    observed_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((master IS NOT NULL) = (role IN ('sub_account', 'agent'))),
    CHECK ((leader IS NOT NULL) = (role = 'vault')),
    PRIMARY KEY (account, venue, observed_at)
);
CREATE INDEX exchange_role_leader ON ledger.exchange_role (leader) WHERE leader IS NOT NULL;

CREATE TABLE ledger.role_asked (
    venue text NOT NULL,
    account text NOT NULL,
    asked_at timestamptz NOT NULL,
    PRIMARY KEY (account, venue)
);

CREATE TABLE ledger.owner_of (
    venue text NOT NULL,
    account text NOT NULL,
    owner text NOT NULL CHECK (owner <> account),
    via text[] NOT NULL,
    method text NOT NULL,
    proof jsonb NOT NULL,
    since timestamptz NOT NULL,
    PRIMARY KEY (account, venue)
);
CREATE INDEX owner_of_owner ON ledger.owner_of (owner);
CREATE INDEX owner_of_via ON ledger.owner_of USING gin (via);
CREATE INDEX liquidation_numbered ON ledger.liquidation (account) WHERE account LIKE '%:%';
"""

VIEWS = """
CREATE VIEW liq.exchange_roles AS
SELECT said.venue, said.account, said.role, said.master, said.leader, said.name,
       said.observed_at, said.replaced_at, said.replaces,
       CASE WHEN said.replaced_at IS NULL THEN asked.asked_at END AS asked_at, said.raw
FROM (
    SELECT r.*, lead(observed_at) OVER in_time AS replaced_at, lag(role) OVER in_time AS replaces
    FROM ledger.exchange_role r
    WINDOW in_time AS (PARTITION BY account, venue ORDER BY observed_at)
) said
LEFT JOIN ledger.role_asked asked USING (account, venue);
"""

# An agent may sign for an account and is not owned by it: no link. The zero address owns nothing.
# What a liquidation names is no link either: each row has it, and the way goes on from there.
FUNCTIONS = """
CREATE FUNCTION ledger.direct_owner(of_venue text, of_account text)
RETURNS TABLE (owner text, method text, link jsonb, since timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT known.owner, known.method,
           jsonb_build_object('account', of_account, 'owner', known.owner, 'method', known.method,
                              'proof', known.proof),
           known.since
    FROM (
        SELECT coalesce(said.master, said.leader) AS owner,
               CASE said.role WHEN 'vault' THEN 'vault_leader' ELSE said.role END AS method,
               said.raw AS proof, said.observed_at AS since, false AS is_of_chain
        FROM (
            SELECT * FROM ledger.exchange_role
            WHERE (account, venue) = (of_account, of_venue)
            ORDER BY observed_at DESC LIMIT 1
        ) said
        WHERE said.role IN ('sub_account', 'vault')
        UNION ALL
        SELECT o.owner, o.method, o.proof, o.valid_from, o.venue <> of_venue
        FROM liq.account_owners o
        WHERE o.account = of_account AND o.venue IN (of_venue, ledger.chain_of(of_venue))
          AND o.valid_to IS NULL AND o.owner IS NOT NULL AND o.method <> 'liquidation'
    ) known
    WHERE known.owner NOT IN (of_account, '0x0000000000000000000000000000000000000000')
    ORDER BY known.is_of_chain, known.since DESC, known.method LIMIT 1;
END;

CREATE FUNCTION ledger.last_owner(of_venue text, of_account text)
RETURNS TABLE (owner text, via text[], method text, proof jsonb, since timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE way AS (
        SELECT d.owner, '{}'::text[] AS via, d.method, jsonb_build_array(d.link) AS proof, d.since
        FROM ledger.direct_owner(of_venue, of_account) d
        UNION ALL
        SELECT d.owner, w.via || w.owner, w.method, w.proof || d.link, greatest(w.since, d.since)
        FROM way w CROSS JOIN LATERAL ledger.direct_owner(of_venue, w.owner) d
        WHERE d.owner <> ALL (w.via || w.owner || of_account)
    )
    SELECT w.owner, w.via, w.method, w.proof, w.since
    FROM way w ORDER BY cardinality(w.via) DESC LIMIT 1;
END;

CREATE FUNCTION ledger.settle_owners() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    venues text[];
    accounts text[];
BEGIN
    -- one at a time: of two links that are written at once each would miss the other
    LOCK TABLE ledger.owner_of IN SHARE ROW EXCLUSIVE MODE;
    -- the accounts themselves, and those whose way goes through them
    SELECT array_agg(venue), array_agg(account) INTO venues, accounts
    FROM (
        SELECT venue, account FROM changed
        UNION
        SELECT o.venue, o.account FROM ledger.owner_of o JOIN changed c ON o.owner = c.account
        UNION
        SELECT o.venue, o.account
        FROM ledger.owner_of o JOIN changed c ON o.via @> ARRAY[c.account]
    ) concerned;
    DELETE FROM ledger.owner_of o USING unnest(venues, accounts) c (venue, account)
    WHERE (o.account, o.venue) = (c.account, c.venue);
    INSERT INTO ledger.owner_of (venue, account, owner, via, method, proof, since)
    SELECT c.venue, c.account, found.owner, found.via, found.method, found.proof, found.since
    FROM unnest(venues, accounts) c (venue, account)
    CROSS JOIN LATERAL ledger.last_owner(c.venue, c.account) found;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_led_vaults() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT r.account, 'exchange_roles'
    FROM ledger.exchange_role r JOIN changed c ON (c.account, c.venue) = (r.leader, r.venue)
    ORDER BY r.account ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
"""

OWNERS = """
CREATE VIEW liq.owners AS
SELECT venue, account, owner, method, via, proof, since
FROM ledger.owner_of
UNION ALL
SELECT o.venue, o.account, coalesce(last.owner, o.owner), o.method,
       CASE WHEN last.owner IS NULL THEN '{}' ELSE o.owner || last.via END,
       jsonb_build_array(jsonb_build_object('account', o.account, 'owner', o.owner,
                                            'method', o.method, 'proof', o.proof))
           || coalesce(last.proof, '[]'),
       greatest(o.valid_from, last.since)
FROM (
    SELECT venue, account, owner, method, proof, valid_from FROM liq.account_owners
    WHERE method = 'liquidation' AND owner <> account
    UNION ALL
    -- an account with a number is the address's before it, as the venue writes it
    SELECT venue, account, split_part(account, ':', 1), 'liquidation',
           jsonb_build_object('liquidation', min(venue || '/' || event_key || '/' || account)),
           min(block_at)
    FROM ledger.liquidation WHERE account LIKE '%:%'
    GROUP BY venue, account
) o
LEFT JOIN LATERAL ledger.last_owner(o.venue, o.owner) last ON last.owner <> o.account
WHERE NOT EXISTS (
      SELECT FROM ledger.owner_of known WHERE (known.account, known.venue) = (o.account, o.venue)
  );
"""

TRIGGER = """
CREATE TRIGGER {name}_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.{does};
"""
EVENTS = (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
TRIGGERS = (
    ("note", "exchange_role", "note_changed_accounts('exchange_roles')"),
    ("settle", "exchange_role", "settle_owners()"),
    ("settle", "account_owner", "settle_owners()"),
    ("note_led", "protocol_vault", "note_led_vaults()"),
)

FUNCTION_COMMENTS = {
    "ledger.direct_owner(text, text)": "Who owns an account, as a stored answer or fact says it;"
    " no row where none does.",
    "ledger.last_owner(text, text)": "The end of the way from owner to owner: a vault''s leader may"
    " be a vault itself. Owners that own each other are followed once around.",
    "ledger.settle_owners()": "Keeps ledger.owner_of equal to what stored facts say.",
    "ledger.note_led_vaults()": "Whether these are the exchange''s own says of the vaults that they"
    " lead whether users lead them.",
}
TABLE_COMMENTS = {
    "ledger.exchange_role": "What the exchange said that an account is, a row where an answer"
    " differs from that before it. Rows are only added.",
    "ledger.role_asked": "When the exchange was last asked about an account.",
    "ledger.owner_of": "Who owns an account in the end, kept up by triggers on the facts that say"
    " so. Of who is not here no owner is known: the account stands for itself.",
    "liq.exchange_roles": "What the exchange says that accounts are, and said before.",
    "liq.owners": "Accounts whose owner a stored answer or fact proves, as of now. The account in"
    " all other tables stays as it was published.",
}
COMMENTS = {
    "venue": "A protocol on a chain, e.g. hyperliquid; of an owner maybe a chain.",
    "account": "Address of the account concerned, lower case.",
    "role": "user, vault, sub_account, agent (an address that may sign for another) or missing (the"
    " exchange never saw it).",
    "master": "The account that a sub-account belongs to, or that an agent signs for.",
    "leader": "Who leads a vault; of a child vault its parent.",
    "name": "What its owner calls a vault or a sub-account; NULL where the answer has no name.",
    "raw": "The fields of the answer that the row stands on, as published; of those that change all"
    " the time none.",
    "observed_at": "When this was first said, by our clock: the exchange states no time.",
    "recorded_at": "When the row was written.",
    "replaced_at": "When something else was said; NULL for what stands.",
    "replaces": "The role that was said before; NULL where nothing was.",
    "asked_at": "When the exchange was last asked, or told of it along with another account.",
    "owner": "Who owns it in the end.",
    "via": "Owners between the account and that one, in order.",
    "method": "How its first owner is known. sub_account, vault_leader: the exchange says so."
    " liquidation: the event names it. Others: as liq.account_owners says.",
    "proof": "Each link with account, owner, method and what it stands on, from the account on.",
    "since": "When the last of the links was first said as it stands, which may be long after it"
    " began to hold.",
}


def upgrade() -> None:
    triggers = (
        TRIGGER.format(name=name, event=event, table=table, old_or_new=old_or_new, does=does)
        for name, table, does in TRIGGERS
        for event, old_or_new in EVENTS
    )
    for statements in (TABLES, VIEWS, FUNCTIONS, OWNERS, *triggers):
        op.execute(statements)
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for relation, text in TABLE_COMMENTS.items():
        kind = "VIEW" if relation.startswith("liq.") else "TABLE"
        comment_on(op.get_bind(), kind, relation, text, COMMENTS)
