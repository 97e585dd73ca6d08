"""What sources tell of some accounts, or of a time that nobody can prove whole: samples.

They give rows and no coverage; what whole blocks say stands over what they say.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0018"
down_revision = "0017"

TABLES = """
ALTER TABLE ledger.source ADD COLUMN is_sample boolean NOT NULL DEFAULT false;

CREATE TABLE ledger.sample (
    sample_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue text NOT NULL,
    source text NOT NULL,
    account text CHECK (account = lower(account)),
    times tstzrange NOT NULL CHECK (NOT isempty(times)),
    lacks text,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sample_of ON ledger.sample (venue, source, account);

CREATE OR REPLACE VIEW liq.sources AS
SELECT uri, is_simulated, is_sample FROM ledger.source;

CREATE VIEW liq.samples AS
SELECT venue, source, account, lower(times) AS first_at, upper(times) AS last_at, lacks, recorded_at
FROM ledger.sample;
"""

COMMENTS = {
    "uri": "Path or s3:// address as it was given; of a sample who was asked for what.",
    "is_simulated": "The data was made by a simulator, not published by a venue.",
    "is_sample": "It tells some fills and never proves that there are no others.",
    "source_id": "Number of the source.",
    "sample_id": "Number of the sample.",
    "venue": "A protocol on a chain, e.g. hyperliquid.",
    "source": "Who was asked, or listened to, for what.",
    "account": "Whose fills; NULL where it was a stream of many accounts.",
    "times": "Between which times, both included: those asked for, or of our clock while we"
    " listened.",
    "first_at": "From when on it was asked for, or listened to.",
    "last_at": "Until when.",
    "lacks": "What is known to be missing in it; NULL where nothing is, which proves nothing.",
    "recorded_at": "When we wrote it down.",
}
TABLE_COMMENTS = {
    "TABLE ledger.source": "Files and records we read, so that any row can be traced to its"
    " published bytes.",
    "TABLE ledger.sample": "When samples were taken of whom. Never coverage: blocks of such times"
    " may hold more.",
    "VIEW liq.sources": "Files and records that marked events were read from.",
    "VIEW liq.samples": "When samples were taken of whom. Never coverage: blocks of such times may"
    " hold more.",
}


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql(TABLES)
    for name, text in TABLE_COMMENTS.items():
        kind, _, relation = name.partition(" ")
        comment_on(bind, kind, relation, text, COMMENTS)
