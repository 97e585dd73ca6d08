-- Who was liquidated in the window; lets the episodes be cut from these accounts' rows alone.
SELECT DISTINCT account FROM ({counted}) counted
