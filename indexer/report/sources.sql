-- Whether anything in this database was simulated, and when we looked.
SELECT coalesce(bool_or(is_simulated), false) AS is_simulated, now() AS read_at FROM liq.sources
