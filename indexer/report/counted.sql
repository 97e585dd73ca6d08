-- The liquidations of the window, each on the one line of the report that it counts in.
SELECT l.*,
       CASE
           WHEN l.method IN ('market', 'backstop', 'adl_of_user')
                AND NOT l.account_is_protocol_vault THEN 'user'
           WHEN l.method IN ('borrow_partial', 'borrow_backstop') THEN 'borrow'
           ELSE 'protocol_vault'
       END AS line
FROM liq.liquidations l
WHERE l.block_at >= %(window_from)s AND l.block_at < %(window_to)s
