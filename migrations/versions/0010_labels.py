"""Labels that are made again only where something changed, and who can never be called a whale.

Rules depend on the facts of an account alone, and on none of the clock: a label holds for an
interval of chain time that follows from them. So to look again at the accounts whose facts changed
gives what looking at all would give.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0010"
down_revision = "0009"

TABLES = """
CREATE TABLE ledger.changed_account (
    account text NOT NULL,
    facts text NOT NULL,
    PRIMARY KEY (account, facts)
);

CREATE TABLE ledger.changed_times (
    venue text NOT NULL,
    times tstzrange NOT NULL
);

ALTER TABLE ledger.flag ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}';
ALTER TABLE ledger.label ADD COLUMN parameters jsonb NOT NULL DEFAULT '{}';

CREATE TABLE ledger.episode (
    account text COLLATE "C" NOT NULL,
    venue text COLLATE "C" NOT NULL,
    dex text COLLATE "C" NOT NULL,
    instrument text COLLATE "C" NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    records bigint NOT NULL,
    unvalued bigint NOT NULL,
    usd numeric,
    PRIMARY KEY (account, venue, dex, first_at)
);

CREATE TABLE ledger.episode_day (
    instrument text COLLATE "C" NOT NULL,
    day date NOT NULL,
    episodes bigint NOT NULL,
    valued bigint NOT NULL,
    usd numeric NOT NULL,
    PRIMARY KEY (instrument, day)
);

CREATE TABLE ledger.trailing_size (
    instrument text COLLATE "C" NOT NULL,
    day date NOT NULL,
    days int NOT NULL,
    share numeric NOT NULL,
    episodes bigint NOT NULL,
    usd numeric,
    PRIMARY KEY (instrument, day, days, share)
);

CREATE INDEX flag_at ON ledger.flag (rule, occurred_at) WHERE upper_inf(recorded_during);

DROP INDEX ledger.label_now;
CREATE UNIQUE INDEX label_now ON ledger.label (account, venue, label, rule, lower(valid_during))
    WHERE upper_inf(recorded_during);

CREATE TABLE ledger.label_run (
    rule text PRIMARY KEY,
    meaning text NOT NULL,
    ran_at timestamptz NOT NULL DEFAULT now()
);
"""

# The episodes of `lines`, rows of a definition's query: what an account suffered on one venue and
# dex without a quiet time longer than the gap, `$6`. What lasted no longer than it has none in it.
EPISODES = """
-- Millions are made in half the time before there is an index of them.
CREATE PROCEDURE ledger.index_episodes()
LANGUAGE plpgsql SET maintenance_work_mem = '256MB' AS $$
BEGIN
    CREATE INDEX episode_size ON ledger.episode (instrument, usd DESC, last_at)
        WHERE usd IS NOT NULL;
END $$;

CALL ledger.index_episodes();

CREATE FUNCTION ledger.episodes_query(query text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'WITH lines AS MATERIALIZED (
    SELECT account, venue, dex, instrument, block_at, usd FROM (' || query || ') line
    WHERE line = ''counted''
)' || $text$
, stays AS (
    SELECT account, venue, dex, instrument, min(block_at) AS first_at, max(block_at) AS last_at,
           count(*) AS records, count(*) - count(usd) AS unvalued, sum(usd) AS usd
    FROM lines GROUP BY 1, 2, 3, 4
)
SELECT * FROM stays WHERE last_at - first_at <= $6
UNION ALL
SELECT account, venue, dex, instrument, min(block_at), max(block_at), count(*),
       count(*) - count(usd), sum(usd)
FROM (
    SELECT begun.*, count(*) FILTER (WHERE begins) OVER (
        PARTITION BY account, venue, dex ORDER BY block_at ROWS UNBOUNDED PRECEDING) AS episode
    FROM (
        SELECT lines.*, block_at - lag(block_at) OVER (
            PARTITION BY account, venue, dex ORDER BY block_at) > $6 AS begins
        FROM lines JOIN stays USING (account, venue, dex)
        WHERE last_at - first_at > $6
    ) begun
) placed
GROUP BY account, venue, dex, instrument, episode
$text$;

CREATE FUNCTION ledger.episodes_of(definition text, accounts text[], since timestamptz)
RETURNS SETOF ledger.episode
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    one ledger.definition := ledger.defined(definition);
BEGIN
    RETURN QUERY EXECUTE ledger.episodes_query(one.account_query)
        USING since, timestamptz 'infinity', ledger.venues_with_rows(), accounts, NULL, one.gap;
END $$;

CREATE FUNCTION ledger.episodes_within(definition text, low timestamptz, high timestamptz)
RETURNS SETOF ledger.episode
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    one ledger.definition := ledger.defined(definition);
BEGIN
    RETURN QUERY EXECUTE ledger.episodes_query(one.query)
        USING low, high, ledger.venues_with_rows(), NULL::bigint, NULL::bigint, one.gap;
END $$;

CREATE FUNCTION ledger.trailing_size(
    instrument text, day date, days int, share numeric, fewest bigint
) RETURNS numeric
LANGUAGE plpgsql AS $$
DECLARE
    known ledger.trailing_size;
BEGIN
    SELECT * INTO known FROM ledger.trailing_size t
    WHERE (t.instrument, t.day, t.days, t.share) = ($1, $2, $3, $4);
    IF NOT FOUND THEN
        SELECT $1, $2, $3, $4, coalesce(sum(d.valued), 0) INTO known
        FROM ledger.episode_day d
        WHERE d.instrument = $1 AND d.day >= $2 - $3 AND d.day < $2;
        SELECT e.usd INTO known.usd
        FROM ledger.episode e
        WHERE e.instrument = $1 AND e.usd IS NOT NULL
          AND e.last_at >= ($2 - $3)::timestamp AT TIME ZONE 'UTC'
          AND e.last_at < $2::timestamp AT TIME ZONE 'UTC'
        ORDER BY e.usd DESC
        OFFSET greatest(known.episodes - ceil($4 * known.episodes), 0) LIMIT 1;
        INSERT INTO ledger.trailing_size SELECT known.*;
    END IF;
    RETURN CASE WHEN known.episodes >= fewest THEN known.usd END;
END $$;
"""

# A row that goes, or changes, is one that opinions may have stood on; and new days and statements
# of equity are what they stand on. New liquidations are noted when they are valued: rules look at
# what they were worth.
NOTE = """
CREATE FUNCTION ledger.note_changed_accounts() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account (account, facts)
    SELECT DISTINCT account, tg_argv[0] FROM changed ORDER BY account ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE TRIGGER note_{event} AFTER {event} ON ledger.{table}
    REFERENCING {old_or_new} TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_changed_accounts('{facts}');
"""
TRIGGERS = (
    ("liquidation", "DELETE", "OLD", "liquidations"),
    ("liquidation", "UPDATE", "OLD", "liquidations"),
    ("lending_liquidation", "DELETE", "OLD", "liquidations"),
    ("lending_liquidation", "UPDATE", "OLD", "liquidations"),
    ("ledger_liquidation", "INSERT", "NEW", "ledger_liquidations"),
    ("ledger_liquidation", "DELETE", "OLD", "ledger_liquidations"),
    ("account_day", "INSERT", "NEW", "account_days"),
    ("account_day", "UPDATE", "NEW", "account_days"),
    ("account_day", "DELETE", "OLD", "account_days"),
    ("protocol_vault", "INSERT", "NEW", "protocol_vaults"),
    ("protocol_vault", "UPDATE", "NEW", "protocol_vaults"),
    ("protocol_vault", "DELETE", "OLD", "protocol_vaults"),
)

FUNCTIONS = """
CREATE FUNCTION ledger.reached() RETURNS timestamptz
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT coalesce(max(upper(times)), '-infinity') FROM ledger.coverage;
END;

CREATE FUNCTION ledger.never_because(venue text, account text) RETURNS text
LANGUAGE sql STABLE
RETURN CASE
    WHEN account = '0x0000000000000000000000000000000000000000' THEN 'the zero address'
    WHEN account ~ '^0x(2{40}|[24]0{31}[0-9a-f]{8})$' THEN 'a system address of the exchange'
    ELSE (SELECT 'the protocol vault ' || v.name FROM ledger.protocol_vault v
          WHERE (v.venue, v.account) = (never_because.venue, never_because.account))
END;

CREATE FUNCTION liq.labels_at(valid_at timestamptz, known_at timestamptz DEFAULT now())
RETURNS TABLE (
    venue text, account text, label text, rule text, rule_version int, parameters jsonb,
    confidence numeric, evidence jsonb, valid_from timestamptz, valid_to timestamptz,
    recorded_at timestamptz, withdrawn_at timestamptz
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT l.venue, l.account, l.label, l.rule, l.rule_version, l.parameters, l.confidence,
           l.evidence, lower(l.valid_during), upper(l.valid_during), lower(l.recorded_during),
           upper(l.recorded_during)
    FROM ledger.label l
    WHERE l.valid_during @> labels_at.valid_at AND l.recorded_during @> labels_at.known_at;
END;
"""

VIEWS = """
CREATE VIEW liq.sized_episodes AS
SELECT venue || '/' || account || '/' || dex || '@'
           || to_char(first_at AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US') AS key,
       venue, account, dex, instrument, first_at, last_at, records, unvalued, usd
FROM ledger.episode;

CREATE OR REPLACE VIEW liq.labels AS
SELECT venue, account, label, rule, rule_version, confidence, evidence,
       lower(valid_during) AS valid_from, upper(valid_during) AS valid_to,
       lower(recorded_during) AS recorded_at, parameters,
       CASE WHEN upper(valid_during) <= (SELECT ledger.reached()) THEN 'former' ELSE 'current' END
           AS state
FROM ledger.label
WHERE upper_inf(recorded_during);

CREATE OR REPLACE VIEW liq.flags AS
SELECT venue, account, level, subject_key, rule, rule_version, value_usd, threshold_usd,
       occurred_at, lower(recorded_during) AS recorded_at, parameters
FROM ledger.flag
WHERE upper_inf(recorded_during);
"""

FUNCTION_COMMENTS = {
    "ledger.episodes_query(text)": "SQL of the episodes that rows of a definition make.",
    "ledger.episodes_of(text, text[], timestamptz)": "Episodes of accounts, of their rows from a"
    " time on.",
    "ledger.episodes_within(text, timestamptz, timestamptz)": "Episodes of all rows of a window,"
    " cut where it begins and ends.",
    "ledger.trailing_size(text, date, int, numeric, bigint)": "The size that so large a share of"
    " the episodes did not exceed that ended in so many days before; NULL of fewer than the"
    " fewest.",
    "ledger.note_changed_accounts()": "What rules say of these accounts has to be looked at again.",
    "ledger.reached()": "Up to when anything was read.",
    "ledger.never_because(text, text)": "Why an account can never be called a whale or a victim;"
    " NULL where nothing speaks against it.",
    "liq.labels_at(timestamptz, timestamptz)": "The labels that held at a time, as we knew them at"
    " another.",
}
TABLE_COMMENTS = {
    "episode": "Episodes of accounts as the definition counts them that indexer label runs under.",
    "episode_day": "How many episodes ended on a day, and what they were worth together.",
    "trailing_size": "Percentiles that were asked for: a day needs each of them once.",
    "changed_account": "Accounts whose facts changed since rules last looked at them.",
    "changed_times": "Times with rows that are new since rules last looked.",
    "label_run": "What each rule meant when it last ran: where that changed, all is looked at"
    " again.",
    "flag": "Sizes at or above a threshold: facts under a declared rule.",
    "label": "Opinions on accounts, each with rule, evidence, confidence and two time intervals.",
}
VIEW_COMMENTS = {
    "sized_episodes": "Episodes of accounts as the definition counts them that indexer label ran"
    " under.",
    "flags": "Sizes at or above a threshold, as of now.",
    "labels": "What we think of accounts, as of now; liq.labels_at says what we thought then.",
}
COMMENTS = {
    "key": "Key of the episode, as totals print it.",
    "dex": "Dex of the venue that lists the market; empty for the main one.",
    "instrument": "perp or lending.",
    "first_at": "Time of its first row.",
    "last_at": "Time of its last row.",
    "records": "Rows that count.",
    "unvalued": "Rows of it without a value.",
    "usd": "Worth in dollars; NULL where no row has a value.",
    "day": "UTC day.",
    "days": "So many days before it.",
    "share": "From 0 to 1.",
    "episodes": "Number of episodes.",
    "valued": "Number of episodes with a value.",
    "venue": "A protocol on a chain, e.g. hyperliquid; * for all.",
    "facts": "Which facts of it: liquidations, account_days, and so on, as rules name them.",
    "account": "Address of the account concerned, lower case.",
    "times": "From the first to the last of the new rows.",
    "rule": "Id of the rule.",
    "rule_version": "Version of the rule.",
    "meaning": "Hash of the rule: version, query and parameters.",
    "ran_at": "When it ran.",
    "level": "What is flagged: liquidation (a fill), order, action or episode.",
    "subject_key": "Key of what is flagged, as in the view of its level.",
    "value_usd": "Worth in dollars, as the definition values it that parameters name.",
    "threshold_usd": "The largest threshold that the value reaches.",
    "occurred_at": "Time of the last block of the subject.",
    "recorded_during": "When we held this to be so; open-ended while we still do.",
    "recorded_at": "When we wrote it down.",
    "parameters": "Parameters that the rule ran with.",
    "label": "What we think of the account, e.g. whale.",
    "confidence": "From 0 to 1.",
    "evidence": "Numbers and keys that the label stands on.",
    "valid_during": "When it holds, in chain time.",
    "valid_from": "Start of validity, in chain time.",
    "valid_to": "End of validity, in chain time.",
    "state": "current, or former where its validity ended before what was last read.",
}


def upgrade() -> None:
    triggers = (
        TRIGGER.format(table=table, event=event, old_or_new=old_or_new, facts=facts)
        for table, event, old_or_new, facts in TRIGGERS
    )
    for statements in (TABLES, EPISODES, NOTE, *triggers, FUNCTIONS, VIEWS):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, COMMENTS)
