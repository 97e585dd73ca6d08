"""A chain that knows its own truth, and nodes that serve it honestly or not.

It shares no code with the indexer on purpose: hashes, blooms, receipts, logs and the rows that must
come of them are its own. `chain` is pure and seeded, `events` encodes what happens on it, `render`
writes it as JSON; `node` and `live` serve it over HTTP, `faults` says how they fail and lie; `bulk`
is one long history for benchmarks, in a process of its own.
"""
