"""What endpoints were asked and how they failed: counts of every command, by host, never an
address: that may hold a key."""

from alembic import op

from indexer.store.comments import comment_on
from indexer.store.contract import publish

revision = "0027"
down_revision = "0026"

TABLES = """
CREATE TABLE ledger.endpoint_state (
    chain text NOT NULL,
    endpoint text NOT NULL,
    requests bigint NOT NULL,
    is_disabled boolean NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (chain, endpoint)
);

CREATE TABLE ledger.endpoint_fault (
    chain text NOT NULL,
    endpoint text NOT NULL,
    fault text NOT NULL,
    faults bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (chain, endpoint, fault),
    FOREIGN KEY (chain, endpoint) REFERENCES ledger.endpoint_state
);

CREATE VIEW liq.endpoints AS
SELECT e.chain, e.endpoint, e.requests, coalesce(f.faults, 0) AS faults,
       coalesce(f.faults_by_kind, '{}') AS faults_by_kind, f.last_fault_at, e.is_disabled,
       e.updated_at
FROM ledger.endpoint_state e
LEFT JOIN LATERAL (
    SELECT sum(f.faults)::bigint AS faults, max(f.last_at) AS last_fault_at,
           jsonb_object_agg(f.fault, f.faults) AS faults_by_kind
    FROM ledger.endpoint_fault f WHERE (f.chain, f.endpoint) = (e.chain, e.endpoint)
) f ON true;
"""

STATE = {
    "chain": "Name of the chain.",
    "endpoint": "Host and number of the address among those of its chain, as node.example #1; what"
    " looks like a key is left out.",
    "requests": "Requests by all commands since the database is there; a batch is one.",
    "is_disabled": "Whether who asked last gave it up: a wrong key, an empty quota, another chain.",
    "updated_at": "When a command last told of it.",
}
FAULT = {
    "chain": "Name of the chain.",
    "endpoint": "As of ledger.endpoint_state.",
    "fault": "How no usable answer came: Unreachable, TimedOut, RateLimited, Disabled, Untrue,"
    " Missing, Pruned, Unsupported, TooLarge, TooManyTerms, BatchRefused or Refused.",
    "faults": "How often, by all commands since the database is there.",
    "last_at": "When a command last told of one.",
}
VIEW = {
    **STATE,
    "faults": "How often no usable answer came.",
    "faults_by_kind": "The same by kind: Unreachable, RateLimited and so on, as an object.",
    "last_fault_at": "When a command last told of one; NULL where there was none.",
}


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql(TABLES)
    comment_on(
        bind, "TABLE", "ledger.endpoint_state",
        "What each endpoint was asked. Commands add to it every few seconds.", STATE,
    )  # fmt: skip
    comment_on(
        bind, "TABLE", "ledger.endpoint_fault", "How often each endpoint failed, and how.", FAULT
    )
    comment_on(
        bind, "VIEW", "liq.endpoints",
        "What each endpoint of a chain was asked and how often it failed. No address is stored.",
        VIEW,
    )  # fmt: skip
    publish(bind, "1.3")
