"""The ledger: what was published, what we made of it, and where we looked."""

from alembic import op

from indexer.store.comments import comment_on

revision = "0001"
down_revision = None

TABLES = """
CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;

CREATE TABLE ledger.source (
    source_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uri text NOT NULL UNIQUE,
    is_simulated boolean NOT NULL
);

CREATE TABLE ledger.raw_event (
    chain text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    block_number bigint,
    block_at timestamptz NOT NULL,
    body text NOT NULL,
    source_id int NOT NULL REFERENCES ledger.source,
    line int NOT NULL,
    PRIMARY KEY (chain, event_key)
);
CREATE INDEX raw_event_block ON ledger.raw_event (chain, block_number);

CREATE TABLE ledger.liquidation (
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    block_number bigint,
    block_at timestamptz NOT NULL,
    tx_hash text,
    method text NOT NULL,
    market text NOT NULL,
    dex text NOT NULL,
    quote text,
    side text NOT NULL CHECK (side IN ('long', 'short')),
    size numeric NOT NULL,
    price numeric NOT NULL,
    notional numeric NOT NULL,
    mark_price numeric,
    notional_mark numeric,
    position_before numeric,
    position_after numeric,
    is_full_close boolean,
    fee numeric,
    fee_asset text,
    realised_pnl numeric,
    margin_mode text CHECK (margin_mode IN ('cross', 'isolated')),
    order_id text,
    trade_id text,
    counterparty text CHECK (counterparty = lower(counterparty)),
    counterparty_kind text,
    liquidator text,
    account_is_protocol_vault boolean NOT NULL,
    dir_liquidated text,
    dir_counterparty text,
    legs_seen text NOT NULL CHECK (legs_seen IN ('both', 'liquidated', 'counterparty')),
    decoder_version int NOT NULL,
    PRIMARY KEY (account, venue, event_key)
);
CREATE INDEX liquidation_venue_time ON ledger.liquidation (venue, block_at);
CREATE INDEX liquidation_time ON ledger.liquidation USING brin (block_at);

CREATE TABLE ledger.ledger_liquidation (
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    tx_hash text NOT NULL,
    block_number bigint,
    block_at timestamptz NOT NULL,
    account_value numeric NOT NULL,
    margin_mode text NOT NULL,
    notional_mark numeric NOT NULL,
    positions jsonb NOT NULL,
    PRIMARY KEY (account, venue, event_key)
);
CREATE INDEX ledger_liquidation_action ON ledger.ledger_liquidation (account, tx_hash);

CREATE TABLE ledger.undecoded (
    venue text NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    block_number bigint,
    block_at timestamptz NOT NULL,
    reason text NOT NULL,
    decoder_version int NOT NULL,
    PRIMARY KEY (venue, event_key)
);

CREATE TABLE ledger.account_day (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    day date NOT NULL,
    quote text NOT NULL,
    fills bigint NOT NULL,
    other_fills bigint NOT NULL,
    volume numeric NOT NULL,
    realised_pnl numeric NOT NULL,
    largest_position numeric NOT NULL,
    largest_position_market text NOT NULL,
    PRIMARY KEY (account, venue, day, quote)
);

CREATE TABLE ledger.coverage (
    venue text NOT NULL,
    facts text NOT NULL CHECK (facts IN ('liquidations', 'account_days', 'ledger_liquidations')),
    blocks int8range NOT NULL CHECK (NOT isempty(blocks)),
    times tstzrange NOT NULL,
    verification text NOT NULL CHECK (verification IN ('every_height', 'fills_only')),
    decoder_version int NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT covered_once EXCLUDE USING gist (venue WITH =, facts WITH =, blocks WITH &&)
);

CREATE TABLE ledger.protocol_vault (
    venue text NOT NULL,
    account text NOT NULL CHECK (account = lower(account)),
    name text NOT NULL,
    valid_from date,
    valid_to date,
    source text NOT NULL,
    PRIMARY KEY (venue, account)
);

CREATE TABLE ledger.flag (
    venue text NOT NULL,
    account text NOT NULL,
    level text NOT NULL CHECK (level IN ('liquidation', 'order', 'action', 'episode')),
    subject_key text COLLATE "C" NOT NULL,
    rule text NOT NULL,
    rule_version int NOT NULL,
    value_usd numeric NOT NULL,
    threshold_usd numeric NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_during tstzrange NOT NULL
);
CREATE UNIQUE INDEX flag_now ON ledger.flag (account, level, subject_key, rule)
    WHERE upper_inf(recorded_during);

CREATE TABLE ledger.label (
    venue text NOT NULL,
    account text NOT NULL,
    label text NOT NULL,
    rule text NOT NULL,
    rule_version int NOT NULL,
    confidence numeric NOT NULL CHECK (confidence > 0 AND confidence <= 1),
    evidence jsonb NOT NULL,
    valid_during tstzrange NOT NULL,
    recorded_during tstzrange NOT NULL
);
CREATE UNIQUE INDEX label_now ON ledger.label (account, venue, label, rule)
    WHERE upper_inf(recorded_during);
"""

TABLE_COMMENTS = {
    "source": "Files and records we read, so that any row can be traced to its published bytes.",
    "raw_event": "Events with a liquidation mark, as published; rows derive from these alone.",
    "liquidation": "One row for each liquidation record of a venue; an unknown value is NULL.",
    "ledger_liquidation": "What the exchange's own ledger says of an account action, at mark."
    " Never add to fills.",
    "undecoded": "Events with a liquidation mark that could not be made a row, and why.",
    "account_day": "What every account traded on one UTC day, liquidated or not.",
    "coverage": "Which blocks were read whole, for which facts. Ranges never overlap.",
    "protocol_vault": "Accounts of the exchange itself; never liquidated users, never whales.",
    "flag": "Sizes at or above a threshold: facts under a declared rule.",
    "label": "Opinions on accounts, each with rule, evidence, confidence and two time intervals.",
}

COMMON = {
    "venue": "A protocol on a chain, e.g. hyperliquid.",
    "chain": "The chain the event was published on.",
    "event_key": "Natural key of the event; the same whenever and wherever it is read again.",
    "account": "Address of the account concerned, lower case.",
    "block_number": "Height of the block; NULL where the source does not tell it.",
    "block_at": "Time of the block, UTC.",
    "tx_hash": "Hash of the action, as published; many fills and users share one.",
    "source_id": "The file or record it was read from.",
    "decoder_version": "Version of the decoder that made the row.",
    "rule": "Id of the rule.",
    "rule_version": "Version of the rule.",
    "recorded_during": "When we held this to be so; open-ended while we still do.",
    "quote": "Token that prices and notionals are in; NULL where unknown.",
    "margin_mode": "cross or isolated, where the record tells.",
    "notional_mark": "Size times mark price, in the quote token.",
}

COLUMN_COMMENTS = {
    "source": {
        "uri": "Path or s3:// address as it was given.",
        "is_simulated": "The data was made by a simulator, not published by a venue.",
    },
    "raw_event": {
        "event_key": "Fills: block/coin/trade id/user/side; updates: ledger/hash/user/coins.",
        "body": "The JSON text as published: [user, fill], or a ledger event.",
        "line": "Line of the source, counted from 1.",
    },
    "liquidation": {
        "event_key": "block/coin/trade id; with the account it names the liquidation.",
        "account": "Who was liquidated, lower case.",
        "method": "market, backstop, adl_of_user, adl_of_vault, borrow_partial or borrow_backstop.",
        "market": "Coin as published, e.g. BTC, kPEPE, xyz:TSLA.",
        "dex": "Perp dex: empty for the main one, else the HIP-3 dex of the coin.",
        "side": "Side of the position that was liquidated.",
        "size": "Executed size, in units of the market.",
        "price": "Execution price; the bankruptcy price in a backstop takeover.",
        "notional": "Size times execution price, in the quote token.",
        "mark_price": "Mark price that the record carries.",
        "position_before": "Signed position before this fill; NULL when the leg was not seen.",
        "position_after": "Signed position after this fill.",
        "is_full_close": "Whether this fill closed the position.",
        "fee": "Fee that the liquidated account paid, in fee_asset.",
        "fee_asset": "Token of the fee.",
        "realised_pnl": "Profit or loss realised by this fill before fees, in the quote token.",
        "order_id": "The liquidated account's order; NULL when its leg was not seen.",
        "trade_id": "The venue's trade id; 50 bits of a hash, not unique over time.",
        "counterparty": "Account on the other side of the trade.",
        "counterparty_kind": "maker, protocol_vault, adl_winner or liquidator.",
        "liquidator": "Who took the position over; NULL when the order book did.",
        "account_is_protocol_vault": "The liquidated account is the exchange's own vault.",
        "dir_liquidated": "The dir text on the liquidated account's leg.",
        "dir_counterparty": "The dir text on the other leg.",
        "legs_seen": "Which legs of the trade we were given: both, liquidated, counterparty.",
    },
    "ledger_liquidation": {
        "account_value": "Equity of the account, or of the isolated position, at that moment.",
        "notional_mark": "Sum of absolute size times mark over the listed positions.",
        "positions": "The listed positions: coin and signed size (szi), as published.",
    },
    "undecoded": {"reason": "Why it is no row yet."},
    "account_day": {
        "day": "UTC day of the block times.",
        "fills": "Number of perp fills.",
        "other_fills": "Number of fills that are no perp trade: spot, outcome tokens, housekeeping."
        " Spot and outcome tokens count on the row of the main dex's quote token.",
        "volume": "Sum of price times size over the account's perp fills, in the quote token.",
        "realised_pnl": "Sum of the realised profit or loss before fees, in the quote token.",
        "largest_position": "Largest notional of a position before or after a fill, at its price.",
        "largest_position_market": "Market of that position.",
    },
    "coverage": {
        "facts": "What was taken from the blocks: liquidations, account_days, ledger_liquidations.",
        "blocks": "Heights that were read whole, end excluded.",
        "times": "Times of the first and the last of these blocks, both included.",
        "verification": "every_height: each height had its line. fills_only: the source has no line"
        " for a block without fills, so a lost block cannot be seen.",
        "recorded_at": "When the row was last written.",
    },
    "protocol_vault": {
        "name": "What the exchange calls it.",
        "valid_from": "First day; NULL where not published.",
        "valid_to": "Last day; NULL while in use or not published.",
        "source": "Where this is known from.",
    },
    "flag": {
        "level": "What is flagged: liquidation (a fill), order, action or episode.",
        "subject_key": "Key of what is flagged, as in the view of its level.",
        "value_usd": "Execution notional in dollars, dollar tokens at par.",
        "threshold_usd": "The largest threshold that the value reaches.",
        "occurred_at": "Time of the last block of the subject.",
    },
    "label": {
        "label": "What we think of the account, e.g. whale.",
        "confidence": "From 0 to 1.",
        "evidence": "Numbers and keys that the label stands on.",
        "valid_during": "When it holds, in chain time.",
    },
}


def upgrade() -> None:
    op.execute(TABLES)
    for table, text in TABLE_COMMENTS.items():
        columns = COMMON | COLUMN_COMMENTS[table]
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, columns)
