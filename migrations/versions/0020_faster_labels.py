"""Labels of a new block in fewer questions, and of everything in fewer passes.

Rows of an account are found by their time, too: the first account of all has more than a hundred
thousand, of which a block concerns a few. So rows that go are noted with their time.
"""

from alembic import op

revision = "0020"
down_revision = "0019"

TABLES = """
ALTER TABLE ledger.changed_account ADD COLUMN since timestamptz, ADD COLUMN until timestamptz,
    ADD CHECK ((since IS NULL) = (until IS NULL));

-- Of an account with thousands of them, the last ones.
ALTER TABLE ledger.episode DROP CONSTRAINT episode_pkey,
    ADD PRIMARY KEY (account, last_at, venue, dex);

CREATE INDEX liquidation_account_time ON ledger.liquidation (account, block_at);
CREATE INDEX lending_liquidation_account_time ON ledger.lending_liquidation (account, block_at);
"""

FUNCTIONS = r"""
CREATE FUNCTION ledger.note_changed_liquidations() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.changed_account AS noted (account, facts, since, until)
    SELECT account, 'liquidations', min(block_at), max(block_at)
    FROM changed GROUP BY account ORDER BY account
    ON CONFLICT (account, facts) DO UPDATE
    SET since = least(noted.since, excluded.since), until = greatest(noted.until, excluded.until)
    WHERE noted.since IS NOT NULL;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.take_changed(most_spans int)
RETURNS TABLE (facts text, account text, since timestamptz, until timestamptz)
-- Planned for its times: not knowing how few rows these are of, the planner would read everything
-- that anybody liquidated, and a block took 100 ms.
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    span record;
BEGIN
    -- One span is looked at by itself: what a join of them would cost, the planner cannot guess.
    -- Of many, all between those of a venue are. It may be endless: all was valued again.
    FOR span IN
        WITH taken AS (
            DELETE FROM ledger.changed_times RETURNING venue, times
        ), spans AS (
            SELECT venue, unnest(range_agg(times)) AS times FROM taken GROUP BY venue
        ), placed AS (
            SELECT venue, times,
                   CASE WHEN count(*) OVER () <= most_spans THEN row_number() OVER () END AS place
            FROM spans
        )
        SELECT venue, min(coalesce(lower(times), '-infinity')) AS low,
               max(coalesce(upper(times), 'infinity')) AS high
        FROM placed GROUP BY venue, place
    LOOP
        -- A row without a value is one of its episode, too: it may join what is before and after.
        RETURN QUERY
        SELECT 'liquidations', valued.account, CASE WHEN is_finite THEN span.low END,
               CASE WHEN is_finite THEN span.high END
        FROM (
            SELECT v.account FROM ledger.valuation v
            WHERE v.venue = span.venue AND v.block_at >= span.low AND v.block_at <= span.high
            UNION
            SELECT u.account FROM ledger.unvalued u
            WHERE u.venue = span.venue AND u.block_at >= span.low AND u.block_at <= span.high
        ) valued
        CROSS JOIN (SELECT isfinite(span.low) AND isfinite(span.high)) known (is_finite);
        -- Who is known as a liquidator since before stays one, whatever he did later.
        RETURN QUERY
        SELECT 'liquidators', acted.liquidator, NULL::timestamptz, NULL::timestamptz
        FROM (
            SELECT l.liquidator FROM ledger.lending_liquidation l
            WHERE l.venue = span.venue AND l.block_at >= span.low AND l.block_at <= span.high
            UNION
            SELECT l.liquidator FROM ledger.liquidation l
            WHERE l.venue = span.venue AND l.block_at >= span.low AND l.block_at <= span.high
        ) acted
        WHERE acted.liquidator IS NOT NULL AND 0 = (
            SELECT count(*) FROM ledger.label known
            WHERE known.account = acted.liquidator
              AND known.venue = ledger.chain_or_venue(span.venue)
              AND known.rule = 'ROLE_LIQUIDATOR' AND upper_inf(known.recorded_during)
              AND lower(known.valid_during) <= span.low
        );
    END LOOP;
    RETURN QUERY
    DELETE FROM ledger.changed_account c RETURNING c.facts, c.account, c.since, c.until;
END $$;

-- Rows between two multiples of the gap are never further apart: to add them up needs no order, and
-- several processes can. The planner guesses few rows, of which it would have one sort them all.
CREATE OR REPLACE FUNCTION ledger.episodes_within(
    definition text, low timestamptz, high timestamptz
) RETURNS SETOF ledger.episode
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off SET enable_sort = off
SET parallel_tuple_cost = 10 SET parallel_setup_cost = 0 AS $$
DECLARE
    one ledger.definition := ledger.defined(definition);
    known record;
BEGIN
    FOR known IN
        SELECT 'perp' AS instrument, ledger.venues_with_rows() AS venues
        UNION ALL
        -- valuations are of all venues: those of perpetuals need not be read twice
        SELECT 'lending', array_agg(of_venue) FROM unnest(ledger.venues_with_rows()) of_venue
        WHERE EXISTS (SELECT FROM ledger.lending_liquidation l WHERE l.venue = of_venue)
    LOOP
        RETURN QUERY EXECUTE format($text$
            WITH parts AS (
                SELECT account, venue, dex, instrument, min(block_at) AS first_at,
                       max(block_at) AS last_at, count(*) AS records,
                       count(*) - count(usd) AS unvalued, sum(usd) AS usd
                FROM (%s) line WHERE line = 'counted' AND instrument = %L
                GROUP BY account, venue, dex, instrument, date_bin($6, block_at, '2000-01-01Z')
            )
            SELECT account, venue, dex, instrument, min(first_at), max(last_at),
                   sum(records)::bigint, sum(unvalued)::bigint, sum(usd)
            FROM (
                SELECT begun.*, count(*) FILTER (WHERE begins) OVER (
                    PARTITION BY account, venue, dex ORDER BY first_at) AS episode
                FROM (
                    SELECT parts.*, first_at - lag(last_at) OVER (
                        PARTITION BY account, venue, dex ORDER BY first_at) > $6 AS begins
                    FROM parts
                ) begun
            ) placed
            GROUP BY account, venue, dex, instrument, episode
        $text$, one.query, known.instrument)
        USING low, high, known.venues, NULL::bigint, NULL::bigint, one.gap;
    END LOOP;
END $$;

-- Of each episode its own rows are read: its account may have thousands of others.
CREATE FUNCTION ledger.lines_of_episodes(
    definition text, accounts text[], venues text[], dexes text[], firsts timestamptz[],
    lasts timestamptz[]
) RETURNS TABLE (
    venue text, account text, market text, action text, order_id text, event_key text,
    liquidated text, block_at timestamptz, usd numeric
)
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    query text := (ledger.defined(definition)).account_query;
BEGIN
    query := regexp_replace(query, '\$1\M', 'whole.first_at', 'g');
    query := regexp_replace(query, '\$2\M', '(whole.last_at + interval ''1 us'')', 'g');
    query := regexp_replace(query, '\$3\M', 'ARRAY[whole.venue]', 'g');
    query := regexp_replace(query, '\$4\M', 'ARRAY[whole.account]', 'g');
    RETURN QUERY EXECUTE format($text$
        SELECT line.venue, line.account, line.market, line.action, line.order_id, line.event_key,
               line.liquidated, line.block_at, line.usd
        FROM unnest($1, $2, $3, $4, $5) AS whole (account, venue, dex, first_at, last_at)
        CROSS JOIN LATERAL (%s) line
        WHERE line.line = 'counted' AND line.dex = whole.dex
    $text$, query)
    USING accounts, venues, dexes, firsts, lasts;
END $$;
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER note_{event} AFTER {event} ON ledger.{table}
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT
    EXECUTE FUNCTION ledger.note_changed_liquidations();
"""

COLUMN_COMMENTS = {
    "since": "The first time that its facts are others of; NULL where it may be any.",
    "until": "The last time that they are others of.",
}
FUNCTION_COMMENTS = {
    "ledger.note_changed_liquidations()": "What rules say of these accounts has to be looked at"
    " again, as of the times of the rows that went.",
    "ledger.take_changed(int)": "Accounts whose facts changed since it was last asked, from the"
    " first to the last time that they are others of; NULL where it may be any.",
    "ledger.lines_of_episodes(text, text[], text[], text[], timestamptz[], timestamptz[])":
    "The lines of a definition that count in episodes of accounts.",
}  # fmt: skip


def upgrade() -> None:
    triggers = (
        TRIGGER.format(event=event, table=table)
        for event in ("delete", "update")
        for table in ("liquidation", "lending_liquidation")
    )
    for statements in (TABLES, FUNCTIONS, *triggers):
        op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
    for function, text in FUNCTION_COMMENTS.items():
        op.execute(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for column, text in COLUMN_COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN ledger.changed_account.{column} IS '{text}'")
