"""Label sets of others, as they were imported."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0008"
down_revision = "0007"

TABLES = """
CREATE TABLE ledger.label_set (
    set_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL CHECK (source ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    version text NOT NULL CHECK (version ~ '^\\S.{0,99}$'),
    format text NOT NULL,
    weight numeric NOT NULL CHECK (weight > 0 AND weight <= 1),
    uri text NOT NULL,
    sha256 text NOT NULL,
    retrieved_at timestamptz,
    labels int NOT NULL,
    merged int NOT NULL,
    dropped jsonb NOT NULL,
    skipped int NOT NULL,
    recorded_during tstzrange NOT NULL
);
CREATE UNIQUE INDEX label_set_now ON ledger.label_set (source) WHERE upper_inf(recorded_during);

CREATE TABLE ledger.set_label (
    set_id int NOT NULL REFERENCES ledger.label_set,
    chain text NOT NULL,
    account text COLLATE "C" NOT NULL CHECK (account = lower(account)),
    label text COLLATE "C" NOT NULL,
    names text[] NOT NULL,
    own_confidence numeric NOT NULL CHECK (own_confidence > 0 AND own_confidence <= 1),
    valid_during tstzrange NOT NULL CHECK (NOT isempty(valid_during)),
    raw jsonb NOT NULL,
    PRIMARY KEY (account, chain, label, valid_during, set_id)
);
"""

VIEWS = """
CREATE VIEW liq.label_sets AS
SELECT source, version, format, weight, labels, merged, dropped, skipped, retrieved_at,
       lower(recorded_during) AS imported_at, upper(recorded_during) AS replaced_at, uri, sha256
FROM ledger.label_set;

CREATE VIEW liq.set_labels AS
SELECT l.chain, l.account, l.label, l.names, s.weight * l.own_confidence AS confidence,
       lower(l.valid_during) AS valid_from, upper(l.valid_during) AS valid_to,
       s.source, s.version, s.retrieved_at, lower(s.recorded_during) AS imported_at, l.raw
FROM ledger.set_label l
JOIN ledger.label_set s USING (set_id)
WHERE upper_inf(s.recorded_during);

CREATE VIEW liq.label_conflicts AS
WITH named AS (
    SELECT source, chain, account, array_agg(DISTINCT name) AS says,
           array_agg(DISTINCT lower(name)) AS in_lower_case
    FROM liq.set_labels CROSS JOIN unnest(names) AS name
    GROUP BY source, chain, account
), plain AS (
    SELECT source, chain, account, array_agg(DISTINCT label ORDER BY label) AS says
    FROM liq.set_labels
    WHERE label NOT LIKE '%:%' AND label NOT IN ('alias', 'sanctioned')
    GROUP BY source, chain, account
), tagged AS (
    SELECT source, chain, account, label, split_part(label, ':', 1) AS tag
    FROM liq.set_labels
    WHERE label LIKE '%:%'
)
SELECT 'name' AS about, account, CASE a.chain WHEN '*' THEN b.chain ELSE a.chain END AS chain,
       a.source, a.says, b.source AS other_source, b.says AS other_says
FROM named a JOIN named b USING (account)
WHERE a.source < b.source AND (a.chain = b.chain OR '*' IN (a.chain, b.chain))
  AND NOT a.in_lower_case && b.in_lower_case
UNION ALL
SELECT 'label', account, CASE a.chain WHEN '*' THEN b.chain ELSE a.chain END,
       a.source, a.says, b.source, b.says
FROM plain a JOIN plain b USING (account)
WHERE a.source < b.source AND (a.chain = b.chain OR '*' IN (a.chain, b.chain))
  AND NOT a.says && b.says
UNION ALL
SELECT DISTINCT a.tag, account, CASE a.chain WHEN '*' THEN b.chain ELSE a.chain END,
       a.source, ARRAY[a.label], b.source, ARRAY[b.label]
FROM tagged a JOIN tagged b USING (account, tag)
WHERE a.label < b.label AND (a.chain = b.chain OR '*' IN (a.chain, b.chain));
"""

TABLE_COMMENTS = {
    "ledger.label_set": "Files of labels that others made, each import with its origin and weight."
    " One of each source stands; those before it are kept.",
    "ledger.set_label": "What a label set says of an account, as it was imported.",
    "liq.label_sets": "Imported label sets, those that were replaced too.",
    "liq.set_labels": "What the label sets that stand say of accounts.",
    "liq.label_conflicts": "Accounts of which label sets say what cannot both be so.",
}

COLUMN_COMMENTS = {
    "set_id": "The import.",
    "source": "What the source is called.",
    "version": "Its version, in its own or the importer's words.",
    "format": "How the file is written: oli, eth-labels, etherscan-labels, ofac,"
    " hyperliquid-aliases or csv.",
    "weight": "How far the source is trusted, above 0 to 1.",
    "uri": "Path of the file as it was given.",
    "sha256": "SHA-256 of the file.",
    "retrieved_at": "When the file was taken from its source; NULL where nobody said.",
    "labels": "Labels in it, as they are stored.",
    "merged": "Rows that say what another row of the file says.",
    "dropped": "Rows that say nothing of an account of ours: how many for each reason.",
    "skipped": "Broken rows that were left out because that was asked for.",
    "recorded_during": "When it stood; open-ended while it does.",
    "imported_at": "When it was imported.",
    "replaced_at": "When another import of the source took its place; NULL while it stands.",
    "chain": "The chain that the label is for, hyperliquid, eip155:ID where the chain is none of"
    " ours, or * for every chain where the address is an account.",
    "account": "Address of the account, lower case.",
    "label": "What the set says it is, lower case; kind:value where a kind has one value.",
    "names": "What the set calls it, in the order of the file; empty where it does not.",
    "own_confidence": "What the row itself says, from 0 to 1; 1 where it says nothing.",
    "confidence": "The weight of the set times what the row itself says.",
    "valid_during": "When it holds, in chain time; open-ended where the set does not say.",
    "valid_from": "Since when it holds; NULL where the set does not say.",
    "valid_to": "Until when it holds; NULL where the set does not say.",
    "raw": "The rows of the file, as published.",
    "about": "name: the two sources share no name of it. label: they share no label, kinds, aliases"
    " and sanctions aside. Else the kind that has two values, maybe within one source.",
    "says": "What the source says.",
    "other_source": "The other source.",
    "other_says": "What the other source says.",
}


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
    for name, text in TABLE_COMMENTS.items():
        kind = "TABLE" if name.startswith("ledger.") else "VIEW"
        comment_on(op.get_bind(), kind, name, text, COLUMN_COMMENTS)
