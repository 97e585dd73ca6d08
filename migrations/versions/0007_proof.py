"""What proves coverage from the data itself: a hash of the content, and what speaks against it."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0007"
down_revision = "0006"

TABLES = """
CREATE TABLE ledger.violation (
    venue text NOT NULL,
    invariant text NOT NULL,
    subject text COLLATE "C" NOT NULL,
    detail text NOT NULL,
    times tstzrange NOT NULL,
    audited tstzrange NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (venue, invariant, subject)
);

-- what an audit of some days looks up; a few kilobytes for millions of rows
CREATE INDEX raw_event_time ON ledger.raw_event USING brin (block_at);
CREATE INDEX block_time ON ledger.block USING brin (block_at);
"""

# A body is to the byte what somebody published. What the decoder could read and SQL cannot, as text
# with \u0000 in it or a number of a million digits, gives NULL, not an error.
FUNCTIONS = """
CREATE FUNCTION ledger.fill_of(
    body text, OUT account text, OUT coin text, OUT px numeric, OUT sz numeric, OUT is_buy boolean,
    OUT start_position numeric, OUT dir text, OUT hash text, OUT oid text, OUT liquidated text,
    OUT mark_px numeric, OUT method text
) LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    SELECT lower(pair ->> 0), f.coin, f.px, f.sz, f.side = 'B', f."startPosition", f.dir,
           lower(f.hash), f.oid, lower(f.liquidation ->> 'liquidatedUser'),
           (f.liquidation ->> 'markPx')::numeric, f.liquidation ->> 'method'
    INTO account, coin, px, sz, is_buy, start_position, dir, hash, oid, liquidated, mark_px, method
    FROM (SELECT body::jsonb AS pair) published,
         jsonb_to_record(pair -> 1) AS f (
             coin text, px numeric, sz numeric, side text, "startPosition" numeric, dir text,
             hash text, oid text, liquidation jsonb
         );
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    NULL;
END $$;

CREATE FUNCTION ledger.event_digest(event ledger.raw_event) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ('x' || substr(encode(sha256(
    int4send(octet_length(event.event_key))
        || convert_to(event.event_key, 'UTF8') || convert_to(event.body, 'UTF8')
), 'hex'), 1, 15))::bit(60)::bigint;

CREATE FUNCTION liq.content_hash(
    of_venue text, low timestamptz, high timestamptz, OUT records bigint, OUT digest numeric
) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT count(*), coalesce(sum(one.digest), 0)
    FROM (
        SELECT ledger.event_digest(e) AS digest
        FROM ledger.raw_event e
        WHERE e.chain = of_venue AND e.event_key NOT LIKE 'ledger/%'
          AND e.block_at >= low AND e.block_at < high
        UNION ALL
        SELECT ledger.log_digest(r)
        FROM ledger.block b JOIN ledger.raw_log r USING (chain, block_number)
        WHERE b.chain = ledger.chain_of(of_venue) AND r.venue = of_venue
          AND b.block_at >= low AND b.block_at < high
    ) one;
END;
"""

VIEWS = """
CREATE VIEW liq.violations AS
SELECT venue, invariant, subject, detail, lower(times) AS first_at, upper(times) AS last_at,
       lower(audited) AS audited_from, upper(audited) AS audited_to, found_at
FROM ledger.violation;
"""

FUNCTION_COMMENTS = """
COMMENT ON FUNCTION liq.content_hash(text, timestamptz, timestamptz) IS
    'What is stored of a venue as published, from a time to before another: number of records and'
    ' the sum of a hash of each. Hashes of ranges that do not overlap add up.';
"""

COMMENT = "What contradicts an invariant, as the last audit of its time found it."

COMMENTS = {
    "venue": "A protocol on a chain, e.g. hyperliquid.",
    "invariant": "two_legs, nets_to_zero, position_chain, adl_balance, row_of_legs, trade_has_row;"
    " of chains digest, log_has_row, row_has_log.",
    "subject": "What is at fault: a trade, a leg, a market in a block, a row, a log or a range.",
    "detail": "What contradicts what, with the numbers.",
    "times": "Times of the first and the last block of the subject, both included.",
    "audited": "The window of the audit, end excluded; without bounds: all that is stored.",
    "first_at": "Time of the first block of the subject.",
    "last_at": "Time of the last block of the subject.",
    "audited_from": "Begin of the window of the audit; NULL without one.",
    "audited_to": "End of the window of the audit, itself outside; NULL without one.",
    "found_at": "When an audit last found it.",
}


def upgrade() -> None:
    for statements in (TABLES, FUNCTIONS, VIEWS, FUNCTION_COMMENTS):
        op.execute(statements)
    comment_on(op.get_bind(), "TABLE", "ledger.violation", COMMENT, COMMENTS)
    comment_on(op.get_bind(), "VIEW", "liq.violations", COMMENT, COMMENTS)
