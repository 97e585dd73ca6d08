-- What more there is to tell of the largest of each level: its rows.
SELECT asked.level, count(*) AS records,
       array_agg(DISTINCT coalesce(c.market, '') ORDER BY coalesce(c.market, ''))
           FILTER (WHERE c.instrument = 'perp') AS markets,
       array_agg(DISTINCT c.asset ORDER BY c.asset) FILTER (WHERE c.asset IS NOT NULL) AS assets,
       array_agg(DISTINCT c.side ORDER BY c.side) FILTER (WHERE c.side IS NOT NULL) AS sides,
       min(c.action) AS action
FROM unnest(%(levels)s::text[], %(venues_of)s::text[], %(units)s::text[], %(keys)s::text[],
            %(firsts)s::timestamptz[], %(lasts)s::timestamptz[])
    AS asked (level, venue, unit, key, first_at, last_at)
JOIN counted c ON c.line = 'counted' AND c.venue = asked.venue AND c.unit = asked.unit
    AND c.block_at BETWEEN asked.first_at AND asked.last_at
    AND CASE asked.level
            WHEN 'fill' THEN asked.key
                = c.venue || '/' || c.event_key || '/' || coalesce(nullif(c.liquidated, c.unit), c.unit)
            WHEN 'order' THEN asked.key
                = c.venue || '/' || c.unit || '/' || c.market || '/' || c.order_id
            WHEN 'action' THEN asked.key = c.venue || '/' || c.unit || '/' || c.action
            WHEN 'episode' THEN starts_with(
                asked.key, c.venue || '/' || c.unit || '/' || c.dex || '@')
            ELSE true END
GROUP BY asked.level
