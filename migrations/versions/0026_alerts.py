"""Alerts: what was announced, to whom it went, and which changes are still to be looked at.

A change is noted where rules of labels learn of it, too: where rows are valued, and where they go.
Only while somebody looks, so that nobody's notes pile up. A note carries the transaction that it is
of: who looks remembers which transactions it saw, so that one that commits late is not passed over.
"""

from alembic import op

from indexer.store.comments import comment_on
from indexer.store.contract import publish

revision = "0026"
down_revision = "0025"

TABLES = """
CREATE TABLE ledger.alert_rule (
    name text COLLATE "C" PRIMARY KEY,
    measure text NOT NULL,
    scope jsonb NOT NULL,
    since timestamptz NOT NULL,
    registered xid8,
    seen pg_snapshot,
    looked_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.alert_change (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    venue text NOT NULL,
    account text,
    low timestamptz NOT NULL,
    high timestamptz NOT NULL
);
CREATE INDEX alert_change_xid ON ledger.alert_change (xid);

CREATE TABLE ledger.alerted (
    rule text COLLATE "C" NOT NULL REFERENCES ledger.alert_rule ON DELETE CASCADE,
    key text COLLATE "C" NOT NULL,
    venue text NOT NULL,
    account text COLLATE "C" NOT NULL,
    dex text NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    usd numeric,
    step int NOT NULL CHECK (step >= 0),
    revision int NOT NULL CHECK (revision > 0),
    state text NOT NULL CHECK (state IN ('told', 'kept_back', 'withdrawn')),
    gone_at timestamptz,
    alert_id text,
    PRIMARY KEY (rule, key)
);
CREATE INDEX alerted_account ON ledger.alerted (rule, account, last_at);
CREATE INDEX alerted_gone ON ledger.alerted (rule, gone_at) WHERE gone_at IS NOT NULL;

CREATE TABLE ledger.alert (
    id text COLLATE "C" PRIMARY KEY,
    rule text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('first', 'more', 'correction', 'digest')),
    subject_key text NOT NULL,
    venue text,
    account text COLLATE "C",
    step int,
    usd numeric,
    said text NOT NULL,
    about text,
    digest_id text,
    state text NOT NULL CHECK (state IN ('queued', 'gathered', 'in_digest')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX alert_account ON ledger.alert (rule, account, created_at);
CREATE INDEX alert_gathered ON ledger.alert (rule, created_at) WHERE state = 'gathered';

CREATE TABLE ledger.alert_delivery (
    alert_id text COLLATE "C" NOT NULL REFERENCES ledger.alert ON DELETE CASCADE,
    target text COLLATE "C" NOT NULL,
    rule text COLLATE "C" NOT NULL,
    state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'given_up')),
    attempts int NOT NULL DEFAULT 0,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    error text,
    PRIMARY KEY (alert_id, target),
    CHECK ((state = 'sent') = (sent_at IS NOT NULL))
);
CREATE INDEX alert_delivery_queued ON ledger.alert_delivery (rule, target, next_at)
    WHERE state = 'queued';

CREATE VIEW liq.alerts AS
SELECT a.id, a.rule, a.kind, a.subject_key, a.venue, a.account, a.step, a.usd, a.said, a.about,
       a.digest_id, a.created_at, d.target, coalesce(d.state, a.state) AS state, d.attempts,
       d.sent_at, d.error
FROM ledger.alert a
LEFT JOIN ledger.alert_delivery d ON d.alert_id = a.id;
"""

# Who last looked a week ago begins anew, and looks at all: its notes need not be kept.
FUNCTIONS = """
CREATE FUNCTION ledger.somebody_is_alerted() RETURNS boolean
LANGUAGE sql STABLE
RETURN EXISTS (SELECT FROM ledger.alert_rule WHERE looked_at > now() - interval '7 days');

CREATE FUNCTION ledger.note_alert_times() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF ledger.somebody_is_alerted() THEN
        INSERT INTO ledger.alert_change (venue, low, high)
        SELECT venue, coalesce(lower(times), '-infinity'), coalesce(upper(times), 'infinity')
        FROM come WHERE NOT isempty(times);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.note_alert_accounts() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF ledger.somebody_is_alerted() THEN
        INSERT INTO ledger.alert_change (venue, account, low, high)
        SELECT venue, account, min(block_at), max(block_at) FROM gone GROUP BY 1, 2;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER note_alerts_insert AFTER INSERT ON ledger.changed_times
    REFERENCING NEW TABLE AS come FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_alert_times();
"""
TRIGGER = """
CREATE TRIGGER note_alerts_{event} AFTER {event} ON ledger.{table}
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_alert_accounts();
"""

FUNCTION_COMMENTS = {
    "ledger.somebody_is_alerted()": "Whether changes have to be noted for alerts.",
    "ledger.note_alert_times()": "Alerts have to look at rows that were valued.",
    "ledger.note_alert_accounts()": "Alerts have to look at accounts whose rows went or changed.",
}
TABLE_COMMENTS = {
    "alert_rule": "Who is alerted of what: a name of indexer alert, and how far it has looked.",
    "alert_change": "Changes that some rule has not looked at yet.",
    "alerted": "Episodes and actions that a rule announced, or kept back for a cool-down, as they"
    " were said to be.",
    "alert": "Messages, each written once under an id that stays.",
    "alert_delivery": "A message to one target: queued, sent, or given up.",
}
VIEW_TEXT = "Messages of indexer alert, one row for each target that they go to."
COMMENTS = {
    "name": "Name of the rule, as of indexer alert --name.",
    "measure": "By what it tells an episode or action and its size; where that changes, it begins"
    " anew.",
    "scope": "Of whom and where it announces; no target stands here.",
    "since": "What ended before is not announced.",
    "registered": "Transactions before this one may have noted nothing of their changes; NULL when"
    " all of them have ended and were looked at.",
    "seen": "The transactions whose changes were looked at; NULL: all has to be looked at.",
    "looked_at": "When it last looked, to the minute; after a week without, it begins anew.",
    "xid": "The transaction of the change.",
    "venue": "A protocol on a chain, e.g. aave_v3.ethereum, or an exchange.",
    "account": "Address of the account that was liquidated; of a change NULL where it is any.",
    "low": "The first time that rows are others of.",
    "high": "The last one.",
    "rule": "Name of the rule.",
    "key": "Key of the episode or action, as it was when it was first seen.",
    "dex": "Dex of the venue that lists the market; empty for the main one.",
    "first_at": "Time of its first row.",
    "last_at": "Time of its last row.",
    "usd": "What it was said to be worth in dollars; NULL where no row has a value.",
    "step": "The threshold that was said to be reached: 1 is the first, 2 ten times as much, and so"
    " on; 0 of a watched account below it.",
    "revision": "1, and one more each time that it was announced again after a correction.",
    "gone_at": "When it was first seen to be less than was said; NULL while it is not.",
    "alert_id": "The last message on it.",
    "id": "Id of the message: of rule, episode or action, step and revision, so the same wherever"
    " it is made.",
    "kind": "first, more (it grew to the next step), correction, or digest.",
    "subject_key": "Key of the episode or action; of a digest the time that it ends with.",
    "said": "The message.",
    "about": "The message that a correction, or a further step, refers to.",
    "digest_id": "The digest that it went into.",
    "state": "Of a message queued, sent or given_up to the target, gathered for a digest or"
    " in_digest; of what was announced told, kept_back for a cool-down, or withdrawn.",
    "created_at": "When it was written.",
    "target": "Name of the target; never its address, which holds secrets.",
    "attempts": "How often it was tried in vain.",
    "queued_at": "When it was queued.",
    "next_at": "When it is tried next.",
    "sent_at": "When the target took it.",
    "error": "Why it was not taken the last time, without secrets.",
}


def upgrade() -> None:
    bind = op.get_bind()
    triggers = (
        TRIGGER.format(event=event, table=table)
        for event in ("delete", "update")
        for table in ("liquidation", "lending_liquidation")
    )
    for statements in (TABLES, FUNCTIONS, *triggers):
        bind.exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        comment_on(bind, "TABLE", f"ledger.{table}", text, COMMENTS)
    comment_on(bind, "VIEW", "liq.alerts", VIEW_TEXT, COMMENTS)
    publish(bind, "1.2")
