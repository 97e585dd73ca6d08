-- How many accounts are labelled whale, liquidated in the window or not.
SELECT count(DISTINCT (venue, account)) FROM liq.labels WHERE label = 'whale'
