-- How many accounts are labelled whale where the report looks, liquidated in the window or not.
SELECT count(DISTINCT (venue, account))
FROM liq.labels
WHERE label = 'whale' AND (venue = '*' OR venue = ANY (%(places)s))
