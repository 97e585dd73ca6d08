"""What a total means: definitions with their SQL, totals of them, saved totals, sums by day.

A definition compiles to a query over the tables; it stands in `ledger.definition`, and the
functions here run it and add up what it gives. So a total in SQL and one at the command line are
the same.
"""

from alembic import op

from indexer.store.comments import comment_on

revision = "0005"
down_revision = "0004"

TABLES = """
CREATE TABLE ledger.definition (
    id text COLLATE "C" PRIMARY KEY,
    hash text NOT NULL,
    body text NOT NULL,
    says text NOT NULL,
    mirrors text NOT NULL,
    fidelity text NOT NULL CHECK (fidelity IN ('exact', 'approximate', 'simulated')),
    zone text NOT NULL,
    gap interval NOT NULL CHECK (gap > interval '30 s'),
    is_additive boolean NOT NULL,
    is_one_sum boolean NOT NULL,
    paragraph_en text NOT NULL,
    paragraph_zh text NOT NULL,
    query text NOT NULL,
    account_query text,
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.total (
    total_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    definition text COLLATE "C" NOT NULL,
    definition_hash text NOT NULL,
    body text NOT NULL,
    said text NOT NULL,
    low timestamptz,
    high timestamptz,
    block_from bigint,
    block_to bigint,
    usd numeric,
    is_complete boolean NOT NULL,
    result jsonb NOT NULL,
    coverage jsonb NOT NULL,
    price_set text NOT NULL,
    labels_as_of timestamptz NOT NULL,
    code_version text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger.rolled_day (
    definition text COLLATE "C" NOT NULL REFERENCES ledger.definition ON DELETE CASCADE,
    day date NOT NULL,
    PRIMARY KEY (definition, day)
);

CREATE TABLE ledger.account_total (
    definition text COLLATE "C" NOT NULL,
    day date NOT NULL,
    venue text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    usd numeric,
    long_usd numeric,
    short_usd numeric,
    records bigint NOT NULL,
    unvalued bigint NOT NULL,
    PRIMARY KEY (definition, venue, account, day),
    FOREIGN KEY (definition, day) REFERENCES ledger.rolled_day ON DELETE CASCADE
);
CREATE INDEX account_total_day ON ledger.account_total (definition, day, usd DESC);
"""

# What a total is made of. `lines` is the definition's query, cut to what is looked at; $6 is the
# gap, $7 whether loans and perpetuals may stand in one sum: where both do and may not, it is NULL.
# An account's units of each level are told apart by venue, so that those of two venues add up.
TOTAL = """
CREATE AGGREGATE ledger.add(bigint) (
    sfunc = int8pl, stype = bigint, initcond = '0', combinefunc = int8pl, parallel = safe
);

CREATE FUNCTION ledger.total_query(query text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'WITH lines AS MATERIALIZED (
    -- in the order in which they are asked for: what stands before a column is read with it
    SELECT line = ''counted'' AS is_counted, venue COLLATE "C" AS venue, unit COLLATE "C" AS unit,
           usd, CASE WHEN abs(usd) < 1e12 THEN ceil(usd) ELSE sign(usd) * 1e12 END::bigint
               AS at_most, block_at, dex,
           market COLLATE "C" AS market, side, is_flat,
           action COLLATE "C" AS action, order_id COLLATE "C" AS order_id,
           asset COLLATE "C" AS asset, fill COLLATE "C" AS fill, method, price_source, instrument,
           event_key COLLATE "C" AS event_key, nullif(liquidated, unit) AS other, line
    FROM (' || query || ') line
)' || $text$
, counted AS NOT MATERIALIZED (
    SELECT * FROM lines WHERE is_counted
), money AS (
    SELECT min(instrument) AS instrument, venue, asset, method, side, price_source,
           sum(usd) AS usd, count(*) AS records, count(*) - count(usd) AS unvalued,
           count(*) - count(fill) AS lone_fills, max(at_most) AS at_most,
           min(at_most) AS at_least
    FROM counted GROUP BY 2, 3, 4, 5, 6
), splits AS (
    SELECT CASE grouping(instrument, venue, asset, method, side, price_source)
               WHEN 63 THEN 'total' WHEN 31 THEN 'instrument' WHEN 47 THEN 'venue'
               WHEN 55 THEN 'asset' WHEN 59 THEN 'method' WHEN 61 THEN 'side'
               WHEN 62 THEN 'price_source' END AS section,
           coalesce(instrument, venue, asset, method, side, price_source) AS name,
           CASE WHEN sum(records) IS NULL THEN 0
                WHEN $7 OR min(instrument) = max(instrument) THEN sum(usd) END AS usd,
           CASE WHEN $7 OR min(instrument) = max(instrument)
                THEN sum(usd) FILTER (WHERE side = 'long') END AS long_usd,
           CASE WHEN $7 OR min(instrument) = max(instrument)
                THEN sum(usd) FILTER (WHERE side = 'short') END AS short_usd,
           coalesce(sum(records), 0)::bigint AS records,
           coalesce(sum(unvalued), 0)::bigint AS unvalued
    FROM money
    GROUP BY GROUPING SETS (
        (), (instrument), (venue), (asset), (method), (side), (price_source)
    )
), fills AS (
    SELECT venue, fill, min(unit) AS unit, min(event_key) AS event_key, min(other) AS other,
           min(block_at) AS first_at, max(block_at) AS last_at, sum(usd) AS usd
    FROM counted WHERE fill IS NOT NULL GROUP BY venue, fill
), orders AS (
    SELECT venue, unit, ledger.add(at_most) AS at_most, count(usd) AS valued
    FROM counted GROUP BY venue, unit, market, order_id
), actions AS (
    SELECT venue, unit, ledger.add(at_most) AS at_most, count(usd) AS valued
    FROM counted GROUP BY venue, unit, action
), held AS (
    SELECT venue, dex, unit, market, side, min(block_at) AS first_at, max(block_at) AS last_at,
           ledger.add(at_most) AS at_most, count(usd) AS valued,
           count(*) FILTER (WHERE is_flat) AS flats,
           max(block_at) FILTER (WHERE is_flat) AS flat_at
    FROM counted GROUP BY 1, 2, 3, 4, 5
), stays AS (
    SELECT venue, dex, unit, min(first_at) AS first_at, max(last_at) AS last_at,
           ledger.add(at_most) AS at_most, ledger.add(valued) AS valued
    FROM held GROUP BY 1, 2, 3
), episodes AS (
    -- What lasted no longer than the gap has none in it: the rest alone is put in order.
    SELECT venue, unit, at_most, valued FROM stays WHERE last_at - first_at <= $6
    UNION ALL
    SELECT venue, unit, ledger.add(at_most), count(usd)
    FROM (
        SELECT begun.*, count(*) FILTER (WHERE begins_episode) OVER (
            PARTITION BY unit, venue, dex ORDER BY block_at ROWS UNBOUNDED PRECEDING
        ) AS episode
        FROM (
            SELECT venue, dex, unit, block_at, c.usd, c.at_most,
                   block_at - lag(block_at) OVER of_episode > $6 AS begins_episode
            FROM counted c JOIN stays USING (venue, dex, unit)
            WHERE last_at - first_at > $6
            WINDOW of_episode AS (PARTITION BY unit, venue, dex ORDER BY block_at)
        ) begun
    ) placed
    GROUP BY venue, dex, unit, episode
), positions AS (
    -- So with positions, where it was flat at most at the end.
    SELECT venue, count(*) AS units FROM held
    WHERE last_at - first_at <= $6 AND (flats = 0 OR flats = 1 AND flat_at = last_at)
    GROUP BY venue
    UNION ALL
    SELECT venue, count(*) FILTER (WHERE is_same IS NOT TRUE)
    FROM (
        SELECT venue, block_at - lag(block_at) OVER of_position <= $6
                          AND NOT lag(is_flat) OVER of_position AS is_same
        FROM counted c
        WHERE (venue, dex, unit, market, coalesce(side, '')) IN (
            SELECT venue, dex, unit, market, coalesce(side, '') FROM held
            WHERE NOT (last_at - first_at <= $6 AND (flats = 0 OR flats = 1 AND flat_at = last_at))
        )
        WINDOW of_position AS (
            PARTITION BY unit, venue, dex, market, c.side ORDER BY block_at, is_flat)
    ) placed
    GROUP BY venue
), accounts AS (
    SELECT venue, unit, ledger.add(at_most) AS at_most, ledger.add(valued) AS valued
    FROM stays GROUP BY venue, unit
), kinds AS (
    SELECT DISTINCT venue, instrument FROM money
), levels AS (
    SELECT venue, 'fill' AS level, sum(lone_fills)::bigint AS units FROM money GROUP BY venue
    UNION ALL SELECT venue, 'fill', count(*) FROM fills GROUP BY venue
    UNION ALL SELECT venue, 'order', count(*) FROM orders GROUP BY venue
    UNION ALL SELECT venue, 'action', count(*) FROM actions GROUP BY venue
    UNION ALL SELECT venue, 'position', units FROM positions
    UNION ALL SELECT venue, 'episode', count(*) FROM episodes GROUP BY venue
), counts AS (
    SELECT CASE grouping(instrument, venue) WHEN 3 THEN 'total' WHEN 1 THEN 'instrument'
                ELSE 'venue' END AS section,
           coalesce(instrument, venue) AS name,
           coalesce(sum(units) FILTER (WHERE level = 'fill'), 0)::bigint AS fills,
           coalesce(sum(units) FILTER (WHERE level = 'order'), 0)::bigint AS orders,
           coalesce(sum(units) FILTER (WHERE level = 'action'), 0)::bigint AS actions,
           coalesce(sum(units) FILTER (WHERE level = 'position'), 0)::bigint AS positions,
           coalesce(sum(units) FILTER (WHERE level = 'episode'), 0)::bigint AS episodes
    FROM levels JOIN kinds USING (venue)
    GROUP BY GROUPING SETS ((), (instrument), (venue))
), people AS (
    SELECT 'total' AS section, NULL AS name, count(*) AS accounts
    FROM (SELECT FROM accounts GROUP BY unit) units
    UNION ALL
    SELECT 'instrument', instrument, count(*)
    FROM (SELECT instrument FROM accounts JOIN kinds USING (venue) GROUP BY instrument, unit) units
    GROUP BY instrument
    UNION ALL
    SELECT 'venue', venue, count(*) FROM accounts GROUP BY venue
    UNION ALL
    SELECT 'asset', asset, count(*)
    FROM (SELECT asset FROM counted GROUP BY asset, unit) held GROUP BY asset
), near AS (
    -- The largest of each level are of these accounts: a unit is worth more than at_most - valued,
    -- unless a row of it is beyond a trillion. Exact sums of all units cost a tenth of the time.
    SELECT * FROM counted
    WHERE (SELECT max(at_most) = 1e12 OR min(at_least) = -1e12 FROM money)
       OR (venue, unit) IN (
        SELECT venue, unit FROM orders WHERE at_most >= (
            SELECT max(at_most - valued) FROM orders WHERE valued > 0)
        UNION ALL
        SELECT venue, unit FROM actions WHERE at_most >= (
            SELECT max(at_most - valued) FROM actions WHERE valued > 0)
        UNION ALL
        SELECT venue, unit FROM episodes WHERE at_most >= (
            SELECT max(at_most - valued) FROM episodes WHERE valued > 0)
        UNION ALL
        SELECT venue, unit FROM accounts WHERE at_most >= (
            SELECT max(at_most - valued) FROM accounts WHERE valued > 0)
    )
), near_episodes AS (
    SELECT near.*, count(*) FILTER (WHERE begins_episode) OVER (
        PARTITION BY unit, venue, dex ORDER BY block_at ROWS UNBOUNDED PRECEDING
    ) AS episode
    FROM (
        SELECT *, block_at - lag(block_at) OVER (
            PARTITION BY unit, venue, dex ORDER BY block_at) > $6 AS begins_episode
        FROM near
    ) near
), largest AS (
    (SELECT 'fill' AS level, venue, unit,
            venue || '/' || event_key || '/' || coalesce(other, unit) AS key,
            block_at AS first_at, block_at AS last_at, usd
     FROM counted
     WHERE fill IS NULL AND usd = (SELECT max(usd) FROM counted WHERE fill IS NULL)
     ORDER BY venue, event_key, unit LIMIT 1)
    UNION ALL
    (SELECT 'fill', venue, unit, venue || '/' || event_key || '/' || coalesce(other, unit),
            first_at, last_at, usd
     FROM fills WHERE usd IS NOT NULL ORDER BY usd DESC, venue, fill LIMIT 1)
    UNION ALL
    (SELECT 'order', venue, unit, venue || '/' || unit || '/' || market || '/' || order_id,
            min(block_at), max(block_at), sum(usd)
     FROM near GROUP BY venue, unit, market, order_id HAVING sum(usd) IS NOT NULL
     ORDER BY sum(usd) DESC, venue, unit, market, order_id LIMIT 1)
    UNION ALL
    (SELECT 'action', venue, unit, venue || '/' || unit || '/' || action,
            min(block_at), max(block_at), sum(usd)
     FROM near GROUP BY venue, unit, action HAVING sum(usd) IS NOT NULL
     ORDER BY sum(usd) DESC, venue, unit, action LIMIT 1)
    UNION ALL
    (SELECT 'episode', venue, unit,
            venue || '/' || unit || '/' || dex || '@'
                || to_char(min(block_at) AT TIME ZONE 'UTC', 'YYYYMMDD"T"HH24MISS.US'),
            min(block_at), max(block_at), sum(usd)
     FROM near_episodes GROUP BY venue, unit, dex, episode HAVING sum(usd) IS NOT NULL
     ORDER BY sum(usd) DESC, venue, unit, dex, min(block_at) LIMIT 1)
    UNION ALL
    (SELECT 'account', venue, unit, venue || '/' || unit, min(block_at), max(block_at), sum(usd)
     FROM near GROUP BY venue, unit HAVING sum(usd) IS NOT NULL
     ORDER BY sum(usd) DESC, venue, unit LIMIT 1)
)
SELECT splits.section, splits.name, usd, long_usd, short_usd, records,
       fills, orders, actions, positions, episodes, accounts, unvalued,
       NULL AS venue, NULL AS account, NULL AS key,
       NULL::timestamptz AS first_at, NULL::timestamptz AS last_at
FROM splits
LEFT JOIN counts ON (counts.section, coalesce(counts.name, ''))
                  = (splits.section, coalesce(splits.name, ''))
LEFT JOIN people ON (people.section, coalesce(people.name, ''))
                  = (splits.section, coalesce(splits.name, ''))
UNION ALL
SELECT 'beside', line, CASE WHEN is_one_sum THEN usd END, CASE WHEN is_one_sum THEN long_usd END,
       CASE WHEN is_one_sum THEN short_usd END, records, NULL, NULL, NULL, NULL, NULL, accounts,
       unvalued, NULL, NULL, NULL, NULL, NULL
FROM (
    SELECT line, sum(usd) AS usd, sum(usd) FILTER (WHERE side = 'long') AS long_usd,
           sum(usd) FILTER (WHERE side = 'short') AS short_usd, count(*) AS records,
           count(DISTINCT unit) AS accounts, count(*) - count(usd) AS unvalued,
           $7 OR min(instrument) = max(instrument) AS is_one_sum
    FROM lines WHERE NOT is_counted GROUP BY line
) beside
UNION ALL
(SELECT DISTINCT ON (level) 'largest', level, usd, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, venue, unit, key, first_at, last_at
 FROM largest ORDER BY level, usd DESC, venue, key)
$text$;
"""

# The venues that have rows: one look at the index for each.
FUNCTIONS = """
CREATE FUNCTION ledger.venues_with_rows() RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE perps AS (
        SELECT min(venue) AS venue FROM ledger.liquidation
        UNION ALL
        SELECT (SELECT min(l.venue) FROM ledger.liquidation l WHERE l.venue > perps.venue)
        FROM perps WHERE perps.venue IS NOT NULL
    ), loans AS (
        SELECT min(venue) AS venue FROM ledger.lending_liquidation
        UNION ALL
        SELECT (SELECT min(l.venue) FROM ledger.lending_liquidation l WHERE l.venue > loans.venue)
        FROM loans WHERE loans.venue IS NOT NULL
    )
    SELECT coalesce(array_agg(venue ORDER BY venue), '{}') FROM (
        SELECT venue FROM perps UNION SELECT venue FROM loans
        UNION SELECT venue FROM ledger.ledger_liquidation
    ) found WHERE venue IS NOT NULL;
END;

CREATE FUNCTION ledger.defined(id text) RETURNS ledger.definition
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    one ledger.definition;
BEGIN
    SELECT * INTO one FROM ledger.definition d WHERE d.id = defined.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no definition %', quote_nullable(id)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SELECT id FROM liq.definitions';
    END IF;
    RETURN one;
END $$;

CREATE FUNCTION ledger.moment_of(definition text, said text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    IF said ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN
        RETURN said::timestamp AT TIME ZONE (ledger.defined(definition)).zone;
    ELSIF said ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$' THEN
        RETURN said::timestamptz;
    END IF;
    RAISE EXCEPTION '% is neither a date nor a time with its zone', quote_nullable(said)
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'write 2025-10-10, or 2025-10-10T21:15:00Z';
END $$;

CREATE FUNCTION ledger.lines(
    definition text, low timestamptz, high timestamptz, block_from bigint, block_to bigint
) RETURNS TABLE ({shown})
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
BEGIN
    RETURN QUERY EXECUTE (ledger.defined(definition)).query
        USING low, high, ledger.venues_with_rows(), block_from, block_to;
END $$;

CREATE FUNCTION ledger.lines_of(definition text, accounts text[], since timestamptz)
RETURNS TABLE ({shown})
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    query text := (ledger.defined(definition)).account_query;
BEGIN
    IF accounts IS NULL THEN
        RETURN;
    END IF;
    IF query IS NULL THEN
        RAISE EXCEPTION 'what % counts of an account does not follow from its own rows', definition
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY EXECUTE query
        USING since, timestamptz 'infinity', ledger.venues_with_rows(), accounts;
END $$;

CREATE FUNCTION liq.counted(
    definition text, low timestamptz, high timestamptz,
    block_from bigint DEFAULT NULL, block_to bigint DEFAULT NULL
) RETURNS TABLE ({public})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT {select} FROM ledger.lines(definition, low, high, block_from, block_to)
    WHERE line = 'counted';
END;

CREATE FUNCTION liq.counted(definition text, low text, high text) RETURNS TABLE ({public})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM liq.counted(
        definition, ledger.moment_of(definition, low), ledger.moment_of(definition, high));
END;

CREATE FUNCTION liq.beside(definition text, low timestamptz, high timestamptz)
RETURNS TABLE (line text, {public})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT line, {select} FROM ledger.lines(definition, low, high, NULL, NULL)
    WHERE line <> 'counted';
END;

CREATE FUNCTION liq.beside(definition text, low text, high text)
RETURNS TABLE (line text, {public})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM liq.beside(
        definition, ledger.moment_of(definition, low), ledger.moment_of(definition, high));
END;

CREATE FUNCTION liq.total(
    definition text, low timestamptz, high timestamptz,
    block_from bigint DEFAULT NULL, block_to bigint DEFAULT NULL
) RETURNS TABLE ({total})
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    one ledger.definition := ledger.defined(definition);
BEGIN
    RETURN QUERY EXECUTE ledger.total_query(one.query)
        USING low, high, ledger.venues_with_rows(), block_from, block_to, one.gap,
            one.is_one_sum;
END $$;

CREATE FUNCTION liq.total(definition text, low text, high text) RETURNS TABLE ({total})
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM liq.total(
        definition, ledger.moment_of(definition, low), ledger.moment_of(definition, high));
END;

CREATE FUNCTION ledger.price_set_query(query text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN $text$
    SELECT count(*) || ':' || coalesce(sum(('x' || substr(md5(
               concat_ws('|', venue, event_key, account, leg, usd, price_source)
           ), 1, 15))::bit(60)::bigint), 0)
    FROM ($text$ || query || $text$) line WHERE line = 'counted'
$text$;

CREATE FUNCTION liq.price_set(
    definition text, low timestamptz, high timestamptz,
    block_from bigint DEFAULT NULL, block_to bigint DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql STABLE SET work_mem = '64MB' SET jit = off AS $$
DECLARE
    found text;
BEGIN
    EXECUTE ledger.price_set_query((ledger.defined(definition)).query) INTO found
        USING low, high, ledger.venues_with_rows(), block_from, block_to;
    RETURN found;
END $$;

CREATE FUNCTION liq.price_set(definition text, low text, high text) RETURNS text
LANGUAGE sql STABLE
RETURN liq.price_set(
    definition, ledger.moment_of(definition, low), ledger.moment_of(definition, high));
"""

COLUMNS = {
    "line": "text", "instrument": "text", "venue": "text", "chain": "text", "account": "text",
    "unit": "text", "market": "text", "dex": "text", "asset": "text", "side": "text",
    "method": "text", "leg": "text", "margin_mode": "text", "block_number": "bigint",
    "block_at": "timestamptz", "event_key": "text", "liquidated": "text", "action": "text",
    "order_id": "text", "fill": "text", "is_flat": "boolean", "usd": "numeric",
    "price_source": "text", "trust": "text",
}  # fmt: skip
PUBLIC = {"key": "text"} | {
    name: kind
    for name, kind in COLUMNS.items()
    if name not in ("line", "event_key", "liquidated", "fill", "is_flat")
}
SELECTED = "venue || '/' || event_key || '/' || liquidated, " + ", ".join(list(PUBLIC)[1:])
OF_TOTAL = {
    "section": "text", "name": "text", "usd": "numeric", "long_usd": "numeric",
    "short_usd": "numeric", "records": "bigint", "fills": "bigint", "orders": "bigint",
    "actions": "bigint", "positions": "bigint", "episodes": "bigint", "accounts": "bigint",
    "unvalued": "bigint", "venue": "text", "account": "text", "key": "text",
    "first_at": "timestamptz", "last_at": "timestamptz",
}  # fmt: skip

# Sums of whole UTC days, for windows of many. A day's sums go, in the same transaction, when a row
# or a value of that day comes, changes or goes, or what rows are read by: they are either what the
# rows say or not there. Whoever forgets days holds a lock that making them waits for.
ROLLUPS = """
CREATE FUNCTION ledger.forget_days(low timestamptz, high timestamptz) RETURNS void
LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT pg_advisory_xact_lock_shared(hashtext('indexer roll up'));
    DELETE FROM ledger.rolled_day
    WHERE day BETWEEN (low AT TIME ZONE 'UTC')::date AND (high AT TIME ZONE 'UTC')::date;
END;

CREATE FUNCTION ledger.forget_days_of_rows() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger.forget_days(block_at, block_at)
    FROM (SELECT DISTINCT date_trunc('day', block_at, 'UTC') AS block_at FROM changed) days;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.forget_days_of_rates() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger.forget_days(block_at, block_at)
    FROM (
        SELECT DISTINCT date_trunc('day', b.block_at, 'UTC') AS block_at
        FROM changed JOIN ledger.block b USING (chain, block_number)
    ) days;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.forget_days_of_dollars() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed JOIN ledger.asset_kin kin USING (chain, address)
               WHERE kin.family = 'USD') THEN
        PERFORM ledger.forget_days('-infinity', 'infinity');
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.forget_all_days() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed) THEN
        PERFORM ledger.forget_days('-infinity', 'infinity');
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ledger.forget_values() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM gone) THEN
        RETURN NULL;
    END IF;
    PERFORM ledger.lock_values(venue, false)
    FROM (SELECT DISTINCT venue FROM gone ORDER BY venue) venues;
    PERFORM ledger.forget_days(block_at, block_at)
    FROM (SELECT DISTINCT date_trunc('day', block_at, 'UTC') AS block_at FROM gone) days;
    DELETE FROM ledger.valuation v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    DELETE FROM ledger.unvalued v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    DELETE FROM ledger.suspect v USING gone
    WHERE (v.venue, v.block_at, v.event_key, v.account)
        = (gone.venue, gone.block_at, gone.event_key, gone.account);
    RETURN NULL;
END $$;

CREATE FUNCTION ledger.roll_up(definition text, day date) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    low timestamptz := day::timestamp AT TIME ZONE 'UTC';
    high timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    one ledger.definition;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('indexer roll up'));
    one := ledger.defined(definition);
    IF NOT one.is_additive
       OR one.body::jsonb -> 'labels' <> '{"only": [], "without": [], "as_of": null}' THEN
        RETURN false;
    END IF;
    INSERT INTO ledger.rolled_day VALUES (definition, day) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    WITH lines AS MATERIALIZED (
        SELECT line, venue, unit, side, usd
        FROM ledger.lines(definition, low, high, NULL, NULL)
        WHERE line IN ('counted', 'not_final')
    )
    INSERT INTO ledger.account_total
    SELECT definition, day, venue, unit, sum(usd), sum(usd) FILTER (WHERE side = 'long'),
           sum(usd) FILTER (WHERE side = 'short'), count(*), count(*) - count(usd)
    FROM lines
    WHERE NOT EXISTS (SELECT FROM lines WHERE line = 'not_final') GROUP BY venue, unit;
    IF NOT FOUND AND EXISTS (SELECT FROM ledger.lines(definition, low, high, NULL, NULL)
                             WHERE line = 'not_final') THEN
        DELETE FROM ledger.rolled_day r
        WHERE (r.definition, r.day) = (roll_up.definition, roll_up.day);
        RETURN false;
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION liq.largest_accounts(
    definition text, low timestamptz, high timestamptz, top int DEFAULT 20
) RETURNS TABLE (venue text, account text, usd numeric, long_usd numeric, short_usd numeric,
                 records bigint, unvalued bigint)
LANGUAGE sql STABLE SET work_mem = '64MB' SET jit = off
BEGIN ATOMIC
    WITH rolled AS MATERIALIZED (
        SELECT day, day::timestamp AT TIME ZONE 'UTC' AS low,
               (day + 1)::timestamp AT TIME ZONE 'UTC' AS high
        FROM ledger.rolled_day r
        WHERE r.definition = largest_accounts.definition
          AND r.day::timestamp AT TIME ZONE 'UTC' >= largest_accounts.low
          AND (r.day + 1)::timestamp AT TIME ZONE 'UTC' <= largest_accounts.high
    ), rest AS (
        SELECT unnest(
            tstzmultirange(tstzrange(largest_accounts.low, largest_accounts.high))
            - coalesce((SELECT range_agg(tstzrange(low, high)) FROM rolled), '{}')
        ) AS part
    ), fresh AS MATERIALIZED (
        SELECT l.venue COLLATE "C" AS venue, l.unit COLLATE "C" AS account, sum(l.usd) AS usd,
               sum(l.usd) FILTER (WHERE l.side = 'long') AS long_usd,
               sum(l.usd) FILTER (WHERE l.side = 'short') AS short_usd,
               count(*) AS records, count(*) - count(l.usd) AS unvalued
        FROM rest CROSS JOIN LATERAL ledger.lines(
            largest_accounts.definition, lower(rest.part), upper(rest.part), NULL, NULL) l
        WHERE l.line = 'counted' GROUP BY l.venue, l.unit
    ), leaders AS (
        SELECT of_day.venue, of_day.account FROM rolled CROSS JOIN LATERAL (
            SELECT t.venue, t.account FROM ledger.account_total t
            WHERE t.definition = largest_accounts.definition AND t.day = rolled.day
              AND t.usd IS NOT NULL
            ORDER BY t.usd DESC LIMIT top
        ) of_day
        UNION
        (SELECT f.venue, f.account FROM fresh f ORDER BY f.usd DESC NULLS LAST LIMIT top)
    ), least AS MATERIALIZED (
        -- No account can be among the first without one part, a day or the rest, of at least the
        -- mean of a sum that so many others reach for sure. A little less, for the digits.
        SELECT sums.usd / (SELECT count(*) + 1 FROM rolled) * 0.999999 AS usd
        FROM leaders CROSS JOIN LATERAL (
            SELECT coalesce(sum(t.usd), 0)
                   + coalesce((SELECT f.usd FROM fresh f WHERE (f.venue, f.account)
                               = (leaders.venue, leaders.account)), 0) AS usd
            FROM ledger.account_total t
            WHERE t.definition = largest_accounts.definition
              AND (t.venue, t.account) = (leaders.venue, leaders.account)
              AND t.day IN (SELECT day FROM rolled)
        ) sums
        ORDER BY sums.usd DESC OFFSET top - 1 LIMIT 1
    ), likely AS (
        SELECT of_day.venue, of_day.account FROM rolled CROSS JOIN LATERAL (
            SELECT t.venue, t.account FROM ledger.account_total t
            WHERE t.definition = largest_accounts.definition AND t.day = rolled.day
              AND t.usd >= (SELECT usd FROM least)
        ) of_day
        WHERE (SELECT usd FROM least) > 0
        UNION
        SELECT f.venue, f.account FROM fresh f WHERE f.usd >= (SELECT usd FROM least)
        UNION
        SELECT t.venue, t.account FROM ledger.account_total t
        WHERE ((SELECT usd FROM least) > 0) IS NOT TRUE
          AND t.definition = largest_accounts.definition AND t.day IN (SELECT day FROM rolled)
        UNION
        SELECT f.venue, f.account FROM fresh f WHERE ((SELECT usd FROM least) > 0) IS NOT TRUE
    )
    SELECT likely.venue, likely.account, sums.usd, sums.long_usd, sums.short_usd,
           sums.records::bigint, sums.unvalued::bigint
    FROM likely CROSS JOIN LATERAL (
        SELECT sum(p.usd) AS usd, sum(p.long_usd) AS long_usd, sum(p.short_usd) AS short_usd,
               sum(p.records) AS records, sum(p.unvalued) AS unvalued
        FROM (
            SELECT t.usd, t.long_usd, t.short_usd, t.records, t.unvalued
            FROM ledger.account_total t
            WHERE t.definition = largest_accounts.definition
              AND (t.venue, t.account) = (likely.venue, likely.account)
              AND t.day IN (SELECT day FROM rolled)
            UNION ALL
            SELECT f.usd, f.long_usd, f.short_usd, f.records, f.unvalued FROM fresh f
            WHERE (f.venue, f.account) = (likely.venue, likely.account)
        ) p
    ) sums
    ORDER BY sums.usd DESC NULLS LAST, likely.venue, likely.account
    LIMIT top;
END;

CREATE FUNCTION liq.largest_accounts(
    definition text, low text, high text, top int DEFAULT 20
) RETURNS TABLE (venue text, account text, usd numeric, long_usd numeric, short_usd numeric,
                 records bigint, unvalued bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM liq.largest_accounts(
        definition, ledger.moment_of(definition, low), ledger.moment_of(definition, high), top);
END;
"""

# What makes days be forgotten: the table, what happens to it, and the function that is told.
FORGETTING = [
    *(
        (table, event, "forget_days_of_rows")
        for table, events in {
            "liquidation": ("INSERT", "UPDATE"),  # of what was there forget_values is told
            "lending_liquidation": ("INSERT", "UPDATE"),
            "ledger_liquidation": ("INSERT", "DELETE"),
        }.items()
        for event in events
    ),
    ("share_rate", "INSERT", "forget_days_of_rates"),
    ("asset", "INSERT", "forget_days_of_dollars"),
    ("asset", "UPDATE", "forget_days_of_dollars"),
    ("asset_kin", "INSERT", "forget_all_days"),
    ("asset_kin", "DELETE", "forget_all_days"),
    ("protocol_vault", "INSERT", "forget_all_days"),
    ("protocol_vault", "DELETE", "forget_all_days"),
]

VIEWS = """
CREATE VIEW liq.definitions AS
SELECT id, says, mirrors, fidelity, is_additive, is_one_sum, hash, body, paragraph_en,
       paragraph_zh, query, registered_at
FROM ledger.definition;

CREATE VIEW liq.totals AS
SELECT total_id, definition, definition_hash, said, low, high, block_from, block_to, usd,
       is_complete, result, coverage, price_set, labels_as_of, code_version, saved_at
FROM ledger.total;
"""

FUNCTION_COMMENTS = {
    "ledger.total_query(text)": "The query of a total, made of that of a definition.",
    "ledger.price_set_query(text)": "The query of a price set, made of that of a definition.",
    "ledger.venues_with_rows()": "Venues that have any liquidation.",
    "ledger.defined(text)": "The definition of an id, or an error.",
    "ledger.moment_of(text, text)": "A date in the time zone of a definition, or a time with its"
    " own.",
    "ledger.lines_of(text, text[], timestamptz)": "Rows of a definition that concern accounts, from"
    " a time on.",
    "ledger.lines(text, timestamptz, timestamptz, bigint, bigint)": "All rows of a definition:"
    " those that it counts, and those that it leaves out, each with the line that it stands on.",
    "ledger.forget_days(timestamptz, timestamptz)": "Sums of these days do not hold any more.",
    "ledger.forget_values()": "Values, reasons, suspicions and sums of a day go with the row that"
    " they are about, also when it changes.",
    "ledger.forget_days_of_rows()": "Sums of a day do not hold any more when a row of it comes.",
    "ledger.forget_days_of_rates()": "Nor when it becomes known what a share stands for.",
    "ledger.forget_days_of_dollars()": "Nor when the decimals of a dollar token become known.",
    "ledger.forget_all_days()": "Nor when other tokens or vaults are known.",
    "ledger.roll_up(text, date)": "Adds up a day; false where not all of it is final, and where"
    " sums of days do not add up or opinions move them.",
    "liq.counted(text, timestamptz, timestamptz, bigint, bigint)": "The rows behind a number: each"
    " liquidation, or leg of one, that a definition counts, and what it is worth.",
    "liq.counted(text, text, text)": "The rows behind a number; dates are of the definition''s"
    " zone.",
    "liq.beside(text, timestamptz, timestamptz)": "What is within a definition''s scope and yet"
    " does not count, each row with the line that it stands on.",
    "liq.beside(text, text, text)": "What does not count; dates are of the definition''s zone.",
    "liq.total(text, timestamptz, timestamptz, bigint, bigint)": "A total under a definition: money"
    " and counts, split by instrument, venue, asset, method, side and price source; what stands"
    " beside it; the largest of each level.",
    "liq.total(text, text, text)": "A total; dates are of the definition''s zone.",
    "liq.price_set(text, timestamptz, timestamptz, bigint, bigint)": "Number and digest of the"
    " values in a total: who has the same has the same values.",
    "liq.price_set(text, text, text)": "A price set; dates are of the definition''s zone.",
    "liq.largest_accounts(text, timestamptz, timestamptz, int)": "The accounts with the largest"
    " sums under a definition. Whole UTC days come from stored sums where there are.",
    "liq.largest_accounts(text, text, text, int)": "The largest accounts; dates are of the"
    " definition''s zone.",
}

TABLE_COMMENTS = {
    "definition": "What totals mean, each with the SQL and the words that it compiles to. An id"
    " never changes its meaning.",
    "total": "Totals that were saved, with all that is needed to compute them again. A total that"
    " was corrected keeps its row; the new one is another.",
    "rolled_day": "UTC days whose sums by account stand in account_total.",
    "account_total": "What an account sums up to under a definition on one UTC day.",
}
VIEW_COMMENTS = {
    "definitions": "What totals mean, each with the SQL and the words that it compiles to.",
    "totals": "Totals that were saved.",
}
COMMENTS = {
    "id": "Name and version.",
    "hash": "SHA-256 of the body.",
    "body": "The definition as canonical JSON.",
    "says": "What it counts, in a sentence.",
    "mirrors": "Whose number it repeats.",
    "fidelity": "exact: can be recomputed from the chain. approximate: the same idea, other data."
    " simulated: what a feed that loses records would have shown.",
    "zone": "Time zone of its calendar days.",
    "gap": "Quiet time that ends an episode.",
    "is_one_sum": "What it counts of loans and of perpetuals may be added.",
    "is_additive": "Totals of two windows add up to that of both together.",
    "paragraph_en": "The methodology in words, made from the body.",
    "paragraph_zh": "The same in Chinese.",
    "query": "What it compiles to. $1, $2: window. $3: venues. $4, $5: blocks.",
    "account_query": "What it compiles to for accounts, $4, from $1 to $2; NULL where what it"
    " counts of an account does not follow from its own rows.",
    "registered_at": "When it was first met here.",
    "total_id": "Number of the total.",
    "definition": "Id of the definition.",
    "definition_hash": "Hash of the definition.",
    "said": "The window as it was asked for.",
    "low": "Start of the window; NULL of a window of blocks.",
    "high": "End of the window, itself outside.",
    "block_from": "First block of a window of blocks.",
    "block_to": "First block after it.",
    "usd": "US dollars; NULL where there are rows and none has a value.",
    "is_complete": "Every block of the window was read, of each venue in scope, and all that was"
    " found is decoded.",
    "result": "All that liq.total gave.",
    "coverage": "Of each venue in scope what of the window was read.",
    "price_set": "Number and digest of the values in it.",
    "labels_as_of": "Labels as we knew them then.",
    "code_version": "Version of the program and of the decoders.",
    "saved_at": "When it was saved.",
    "day": "UTC day.",
    "venue": "A protocol on a chain, or hyperliquid.",
    "account": "The account, or its owner where the definition asks for owners.",
    "long_usd": "Of long positions; of loans whose collateral fell against dollars.",
    "short_usd": "Of short positions; of loans that owed something else and lost dollars.",
    "records": "Number of rows counted.",
    "unvalued": "Rows among them without a value, in no sum.",
}


def _table(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def upgrade() -> None:
    op.execute(TABLES)
    _run(TOTAL)
    _run(
        FUNCTIONS.replace("{shown}", _table(COLUMNS))
        .replace("{public}", _table(PUBLIC))
        .replace("{total}", _table(OF_TOTAL))
        .replace("{select}", SELECTED)
    )
    _run(ROLLUPS)
    for table, event, function in FORGETTING:
        _run(
            f"CREATE TRIGGER {function}_on_{event.lower()} AFTER {event} ON ledger.{table}"
            f" REFERENCING {'OLD' if event == 'DELETE' else 'NEW'} TABLE AS changed"
            f" FOR EACH STATEMENT EXECUTE FUNCTION ledger.{function}()"
        )
    _run(VIEWS)
    for function, text in FUNCTION_COMMENTS.items():
        _run(f"COMMENT ON FUNCTION {function} IS '{text}'")
    for table, text in TABLE_COMMENTS.items():
        comment_on(op.get_bind(), "TABLE", f"ledger.{table}", text, COMMENTS)
    for view, text in VIEW_COMMENTS.items():
        comment_on(op.get_bind(), "VIEW", f"liq.{view}", text, COMMENTS)


def _run(statements: str) -> None:
    """As it stands: colons and percent signs are no parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))
