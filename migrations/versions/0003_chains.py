"""Followed chains: blocks, raw logs, lending liquidations, and what a reorg took back."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE ledger.stream (
    chain text PRIMARY KEY,
    next_block bigint NOT NULL,
    tip_hash text NOT NULL,
    finalized_block bigint NOT NULL,
    epoch bigint NOT NULL,
    stopped text,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.block (
    chain text NOT NULL,
    block_number bigint NOT NULL,
    hash text NOT NULL,
    parent_hash text,
    block_at timestamptz NOT NULL,
    PRIMARY KEY (chain, block_number)
);

CREATE TABLE ledger.raw_log (
    chain text NOT NULL,
    block_number bigint NOT NULL,
    log_index int NOT NULL,
    venue text,
    tx_hash bytea NOT NULL,
    emitter bytea NOT NULL,
    topics bytea NOT NULL,
    data bytea NOT NULL,
    is_whole boolean NOT NULL,
    PRIMARY KEY (chain, block_number, log_index)
);

CREATE TABLE ledger.lending_liquidation (
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    block_number bigint NOT NULL,
    block_at timestamptz NOT NULL,
    method text NOT NULL,
    market text NOT NULL,
    owner text CHECK (owner = lower(owner)),
    liquidator text CHECK (liquidator = lower(liquidator)),
    repaid_asset text,
    repaid_raw numeric(78, 0),
    seized_asset text,
    seized_raw numeric(78, 0),
    seized_is_shares boolean NOT NULL,
    protocol_fee_raw numeric(78, 0),
    fee_in_seized boolean,
    bad_debt_asset text,
    bad_debt_raw numeric(78, 0),
    decoder_version int NOT NULL,
    PRIMARY KEY (account, venue, event_key)
);
CREATE INDEX lending_liquidation_venue_time ON ledger.lending_liquidation (venue, block_at);
CREATE INDEX lending_liquidation_time ON ledger.lending_liquidation USING brin (block_at);

ALTER TABLE ledger.undecoded ADD COLUMN missing_fact text, ADD COLUMN missing_subject text;

CREATE TABLE ledger.quarantine (
    chain text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    block_number bigint NOT NULL,
    block_at timestamptz NOT NULL,
    emitter text NOT NULL,
    topic0 text NOT NULL,
    looks_like text[] NOT NULL,
    PRIMARY KEY (chain, event_key)
);

CREATE TABLE ledger.fact (
    chain text NOT NULL,
    fact text NOT NULL,
    subject text COLLATE "C" NOT NULL,
    value text,
    block_number bigint NOT NULL,
    event_key text COLLATE "C",
    PRIMARY KEY (chain, fact, subject)
);

CREATE TABLE ledger.asset (
    chain text NOT NULL,
    address text NOT NULL CHECK (address = lower(address)),
    symbol text,
    name text,
    symbol_raw bytea,
    name_raw bytea,
    decimals smallint CHECK (decimals BETWEEN 0 AND 255),
    PRIMARY KEY (chain, address)
);

CREATE TABLE ledger.share_rate (
    chain text NOT NULL,
    asset text NOT NULL,
    block_number bigint NOT NULL,
    underlying text,
    shares_raw numeric(78, 0) NOT NULL,
    assets_raw numeric(78, 0) NOT NULL,
    PRIMARY KEY (chain, asset, block_number)
);

ALTER TABLE ledger.coverage
    DROP CONSTRAINT coverage_verification_check,
    ADD CONSTRAINT coverage_verification_check CHECK (verification IN (
        'every_height', 'fills_only',
        'negative_bloom', 'receipts', 'bloom_or_receipts', 'second_endpoint', 'read_twice',
        'unverified'
    )),
    ADD COLUMN filter_hash text,
    ADD COLUMN parent_hash text,
    ADD COLUMN last_hash text,
    ADD COLUMN logs bigint,
    ADD COLUMN digest numeric,
    ADD COLUMN read_from text[];

CREATE TABLE ledger.check_run (
    check_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain text NOT NULL,
    venues text[] NOT NULL,
    blocks int8range NOT NULL,
    proof text NOT NULL,
    logs bigint NOT NULL,
    missing bigint NOT NULL,
    untrue bigint NOT NULL,
    checked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX check_run_chain ON ledger.check_run (chain, checked_at);

CREATE TABLE ledger.reorg (
    reorg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain text NOT NULL,
    ancestor bigint NOT NULL,
    old_tip bigint NOT NULL,
    old_tip_hash text NOT NULL,
    found_by text NOT NULL CHECK (found_by IN ('reorg', 'check')),
    why text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ledger.orphan_block (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.block, PRIMARY KEY (reorg_id, block_number));
CREATE TABLE ledger.orphan_raw_log (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.raw_log, PRIMARY KEY (reorg_id, block_number, log_index));
CREATE TABLE ledger.orphan_lending_liquidation (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.lending_liquidation, PRIMARY KEY (reorg_id, account, venue, event_key));
CREATE TABLE ledger.orphan_undecoded (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.undecoded, PRIMARY KEY (reorg_id, venue, event_key));
CREATE TABLE ledger.orphan_quarantine (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.quarantine, PRIMARY KEY (reorg_id, event_key));
CREATE TABLE ledger.orphan_fact (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.fact, PRIMARY KEY (reorg_id, fact, subject));
CREATE TABLE ledger.orphan_share_rate (reorg_id bigint NOT NULL REFERENCES ledger.reorg,
    LIKE ledger.share_rate, PRIMARY KEY (reorg_id, asset, block_number));
"""

FUNCTIONS = """
CREATE FUNCTION ledger.chain_of(venue text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN split_part(venue, '.', 2);

CREATE FUNCTION ledger.log_digest(log ledger.raw_log) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ('x' || substr(encode(sha256(
    int8send(log.block_number) || log.tx_hash || log.emitter || log.topics || log.data
), 'hex'), 1, 15))::bit(60)::bigint;

CREATE FUNCTION ledger.counted(
    of_venue text, blocks int8range, OUT logs bigint, OUT digest numeric
) LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT count(*), coalesce(sum(ledger.log_digest(r)), 0)
    FROM ledger.raw_log r
    WHERE r.chain = ledger.chain_of(of_venue) AND r.venue = of_venue
      AND NOT isempty(blocks)
      AND r.block_number >= coalesce(lower(blocks), 0)
      AND r.block_number < coalesce(upper(blocks), 9223372036854775807);
END;

CREATE FUNCTION ledger.joined_proof(one text, two text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN one = two THEN one
    WHEN one IN ('negative_bloom', 'receipts', 'bloom_or_receipts')
        AND two IN ('negative_bloom', 'receipts', 'bloom_or_receipts') THEN 'bloom_or_receipts'
END;
"""

VIEWS = """
CREATE VIEW liq.lending_liquidations AS
SELECT l.venue || '/' || l.event_key || '/' || l.account AS key,
       l.venue, split_part(l.venue, '.', 1) AS protocol, ledger.chain_of(l.venue) AS chain,
       l.account, l.owner, l.block_number, l.block_at, left(l.event_key, 66) AS tx_hash,
       split_part(l.event_key, '/', 2)::int AS log_index,
       coalesce(nullif(split_part(l.event_key, '/', 3), ''), '0')::int AS part,
       'lending' AS kind, l.method, l.market, l.liquidator,
       l.repaid_asset, repaid.symbol AS repaid_symbol, l.repaid_raw,
       ledger.scaled(l.repaid_raw, repaid.decimals) AS repaid,
       l.seized_asset, seized.symbol AS seized_symbol, l.seized_raw, l.seized_is_shares,
       ledger.scaled(l.seized_raw, seized.decimals) AS seized,
       rate.underlying AS seized_underlying,
       div(l.seized_raw * rate.assets_raw, rate.shares_raw) AS seized_underlying_raw,
       l.protocol_fee_raw, l.fee_in_seized,
       l.bad_debt_asset, l.bad_debt_raw,
       ledger.scaled(l.bad_debt_raw, bad_debt.decimals) AS bad_debt,
       l.decoder_version, l.event_key,
       l.block_number <= stream.finalized_block IS NOT FALSE AS is_final
FROM ledger.lending_liquidation l
LEFT JOIN ledger.asset repaid
    ON repaid.chain = ledger.chain_of(l.venue) AND repaid.address = l.repaid_asset
LEFT JOIN ledger.asset seized
    ON seized.chain = ledger.chain_of(l.venue) AND seized.address = l.seized_asset
LEFT JOIN ledger.asset bad_debt
    ON bad_debt.chain = ledger.chain_of(l.venue) AND bad_debt.address = l.bad_debt_asset
LEFT JOIN ledger.share_rate rate ON l.seized_is_shares
    AND rate.chain = ledger.chain_of(l.venue) AND rate.asset = l.seized_asset
    AND rate.block_number = l.block_number
LEFT JOIN ledger.stream stream ON stream.chain = ledger.chain_of(l.venue);

CREATE VIEW liq.quarantine AS
SELECT chain, event_key, block_number, block_at, emitter, topic0, looks_like
FROM ledger.quarantine;

CREATE VIEW liq.assets AS
SELECT chain, address, symbol, name, decimals FROM ledger.asset;

CREATE VIEW liq.chains AS
SELECT chain, next_block - 1 AS tip_block, tip_hash, finalized_block, stopped, updated_at
FROM ledger.stream;

CREATE VIEW liq.checks AS
SELECT check_id, chain, venues, lower(blocks) AS block_from, upper(blocks) AS block_to, proof,
       logs, missing, untrue, checked_at
FROM ledger.check_run;

CREATE VIEW liq.reorgs AS
SELECT reorg_id, chain, ancestor, old_tip, old_tip - ancestor AS depth, found_by, why, found_at,
       (SELECT count(*) FROM ledger.orphan_lending_liquidation o
        WHERE o.reorg_id = reorg.reorg_id) AS liquidations
FROM ledger.reorg;

CREATE VIEW liq.orphaned_liquidations AS
SELECT reorg_id, reorg.found_at, venue || '/' || event_key || '/' || account AS key, venue,
       account, block_number, block_at, method, market, liquidator, repaid_asset, repaid_raw,
       seized_asset, seized_raw
FROM ledger.orphan_lending_liquidation JOIN ledger.reorg USING (reorg_id);

CREATE OR REPLACE VIEW liq.undecoded AS
SELECT u.venue, u.event_key, u.block_number, u.block_at, u.reason, u.decoder_version,
       u.missing_fact, u.missing_subject
FROM ledger.undecoded u;

CREATE OR REPLACE VIEW liq.coverage AS
SELECT venue, facts, lower(blocks) AS block_from, upper(blocks) AS block_to,
       lower(times) AS first_at, upper(times) AS last_at, verification, decoder_version,
       recorded_at, filter_hash, parent_hash, last_hash, logs, digest, read_from
FROM ledger.coverage;
"""

SCALED = """
CREATE FUNCTION ledger.scaled(raw numeric, decimals smallint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN decimals <= 36 THEN raw * (10 ^ (-decimals::numeric)) END;
"""

TABLE_COMMENTS = {
    "stream": "How far a chain is followed. A commit compares and sets position, tip and epoch:"
    " a second process can never write.",
    "block": "Blocks with rows, the ends of what was read, and the whole unfinalized tip.",
    "raw_log": "Logs as published; rows derive from these and from facts alone.",
    "lending_liquidation": "One row for each liquidation logged by a lending protocol, and one for"
    " each further asset in it; unknown is NULL.",
    "undecoded": "Events of a venue that could not be made a row, and why.",
    "quarantine": "Liquidation events by contracts that no deployment names and no factory has"
    " proved. Anybody can emit one: they are in no total.",
    "fact": "What holds for good and events leave out, e.g. the underlying of a market.",
    "asset": "What tokens say of themselves, as far as a row names them. Identity is the address.",
    "share_rate": "What shares were worth in their underlying at a block.",
    "coverage": "Which blocks were read whole, for which facts. Ranges never overlap.",
    "check_run": "Second readings of finalized blocks and what they found.",
    "reorg": "Blocks that were taken back because the chain replaced them.",
    "orphan_block": "Blocks that a reorg took back.",
    "orphan_raw_log": "Raw logs that a reorg took back.",
    "orphan_lending_liquidation": "Liquidations that a reorg took back.",
    "orphan_undecoded": "Undecoded events that a reorg took back.",
    "orphan_quarantine": "Quarantined events that a reorg took back.",
    "orphan_fact": "Facts that were learnt in blocks which a reorg took back.",
    "orphan_share_rate": "Share rates of blocks that a reorg took back.",
}

VIEW_COMMENTS = {
    "lending_liquidations": "Liquidations of lending protocols. Parts of one event add up; never"
    " add repaid and seized.",
    "quarantine": "Liquidation events by unknown contracts, in no total.",
    "assets": "Tokens that rows name. A symbol is what the contract says, no identity.",
    "chains": "How far each followed chain is read, and why one stands still.",
    "checks": "Second readings of finalized blocks: how many logs were missing or untrue.",
    "reorgs": "Reorgs that took blocks back, and how many liquidations with them.",
    "orphaned_liquidations": "Liquidations that a reorg took back; they never happened.",
    "undecoded": "Events of a venue that are no row, and why.",
    "coverage": "Which blocks were read whole, for which facts.",
}

COMMENTS = {
    "venue": "A protocol on a chain, e.g. aave_v3.ethereum; NULL where the log is no venue's.",
    "protocol": "The protocol of the venue.",
    "chain": "The chain the event was published on.",
    "kind": "Kind of the venue: lending.",
    "key": "Key of the row; indexer explain takes it.",
    "event_key": "Transaction hash and log index, and the number of a further part.",
    "account": "Address that was liquidated, lower case.",
    "owner": "Who owns the account, where it is a sub-account and the owner is known.",
    "block_number": "Height of the block.",
    "block_at": "Time of the block, UTC.",
    "block_from": "First height of the range.",
    "block_to": "First height after the range.",
    "blocks": "Heights that were read whole, end excluded.",
    "times": "Times of the first and the last of these blocks, both included.",
    "first_at": "Time of the first block.",
    "last_at": "Time of the last block.",
    "facts": "What was taken from the blocks: liquidations, account_days, ledger_liquidations.",
    "hash": "Hash of the block.",
    "parent_hash": "Hash of the block before it, or before the first of the range.",
    "last_hash": "Hash of the last block of the range.",
    "tx_hash": "Hash of the transaction.",
    "log_index": "Place of the log in its block.",
    "part": "0 for the liquidation, 1 and on for further assets of the same one.",
    "emitter": "Contract that emitted the log.",
    "topic0": "First topic: the hash of the event's signature.",
    "topics": "All topics, 32 bytes each.",
    "data": "Data of the log.",
    "is_whole": "All logs of the transaction are stored.",
    "method": "repay_seize, pre_liquidation, debt_transfer, absorb, heal or write_off.",
    "market": "Contract or id of the market, as the protocol names it.",
    "liquidator": "Who liquidated; NULL where the chain does not tell.",
    "repaid_asset": "Token of the debt.",
    "repaid_raw": "Debt repaid or taken over, in base units.",
    "repaid_symbol": "What the token calls itself: no identity.",
    "repaid": "Debt in whole tokens; NULL where the decimals are unknown or absurd.",
    "seized_asset": "Token of the collateral, or of its shares.",
    "seized_raw": "Collateral as logged, in base units or shares.",
    "seized_symbol": "What the token calls itself: no identity.",
    "seized": "Collateral in whole tokens or shares; NULL where the decimals are unknown.",
    "seized_is_shares": "The collateral is counted in shares of the market.",
    "seized_underlying": "Token that the shares stand for; NULL where not asked.",
    "seized_underlying_raw": "The shares in base units of it at the end of the block.",
    "protocol_fee_raw": "What the protocol kept of the collateral; NULL where unknown.",
    "fee_in_seized": "The fee is within seized_raw; false: it comes on top.",
    "bad_debt_asset": "Token of the debt that was written off.",
    "bad_debt_raw": "Debt that was written off, in base units.",
    "bad_debt": "Debt that was written off, in whole tokens.",
    "decoder_version": "Version of the decoder that made the row.",
    "is_final": "The block will not change any more, as far as the chain promises.",
    "reason": "Why it is no row yet.",
    "missing_fact": "The fact that it waits for; NULL where no fact would help.",
    "missing_subject": "What the fact is about.",
    "looks_like": "Protocols that have an event of these topics.",
    "fact": "Name of the fact, e.g. underlying.",
    "subject": "What it is about: an address, an id, or several joined with a slash.",
    "value": "The fact; NULL: we asked, and there is none.",
    "address": "Address of the token, lower case.",
    "symbol": "Symbol as the contract says it, cleaned for display.",
    "name": "Name as the contract says it, cleaned for display.",
    "symbol_raw": "Symbol to the byte, cut.",
    "name_raw": "Name to the byte, cut.",
    "decimals": "Decimals as the contract says, 0 to 255; amounts are scaled up to 36.",
    "asset": "Token whose units are shares.",
    "underlying": "Token that the shares stand for.",
    "shares_raw": "A number of shares.",
    "assets_raw": "What they were worth in base units of the underlying.",
    "verification": "How we know that nothing is missing. Files: every_height, fills_only. Logs:"
    " negative_bloom, receipts, bloom_or_receipts, second_endpoint, read_twice, unverified.",
    "filter_hash": "Hash of the addresses and topics that were asked for.",
    "logs": "Number of raw logs in it.",
    "digest": "Sum of ledger.log_digest over the venue's raw logs in the range.",
    "read_from": "Endpoints that gave the logs, by host.",
    "recorded_at": "When the row was last written.",
    "next_block": "First height that is not read yet.",
    "tip_block": "Last height that is read.",
    "tip_hash": "Hash of the last block that is read.",
    "finalized_block": "Height that will not change any more; it never decreases.",
    "epoch": "Rises with each process that takes over.",
    "stopped": "Why the chain is not followed any further; NULL while it is.",
    "updated_at": "When the row was last written.",
    "check_id": "Number of the check.",
    "venues": "Venues that were checked.",
    "proof": "How the second reading is known to be complete.",
    "missing": "Logs that the first reading had missed; they were added.",
    "untrue": "Logs of the first reading that no receipt has; they were taken back.",
    "checked_at": "When it was checked.",
    "reorg_id": "Number of the reorg.",
    "ancestor": "Last block that both branches share.",
    "old_tip": "Last block that was read of the old branch.",
    "old_tip_hash": "Its hash.",
    "depth": "Blocks that were taken back.",
    "found_by": "reorg: the chain replaced the blocks. check: a second reading found that the first"
    " was wrong in some of them.",
    "why": "What showed it.",
    "found_at": "When it was found.",
    "liquidations": "Liquidations that were taken back with it.",
}


def upgrade() -> None:
    for statements in (TABLES, FUNCTIONS, SCALED, VIEWS):
        op.execute(statements)
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, COMMENTS)
