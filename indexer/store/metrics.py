"""What a monitor asks the database: queries, and what the columns of their rows measure. Reads
only."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, LiteralString, NamedTuple

from indexer.store.database import Connection

PREFIX = "indexer_"


class Metric(NamedTuple):
    """A number to watch; a counter's name ends in _total."""

    name: str
    kind: Literal["gauge", "counter"]
    says: str


class Probe(NamedTuple):
    """A query whose rows are first the labels, then a value for each metric, NULL for none."""

    name: str
    labels: Sequence[str]
    metrics: Sequence[Metric]
    query: LiteralString


Row = Sequence[Any]


def ask(connection: Connection, probe: Probe) -> list[Row]:
    """The rows of a probe."""
    return [*connection.execute(probe.query).fetchall()]


def _gauge(name: str, says: str) -> Metric:
    return Metric(PREFIX + name, "gauge", says)


def _counter(name: str, says: str) -> Metric:
    return Metric(PREFIX + name, "counter", says)


COVERAGE = Probe(
    "coverage", ("venue", "facts"),
    (
        _gauge("lag_seconds", "From the time of the last covered block to now."),
        _gauge("covered_blocks", "Blocks that were read whole."),
        _gauge("missing_blocks", "Blocks that were not read, between some that were."),
        _gauge("last_commit_timestamp_seconds", "When coverage last grew."),
    ),
    """
    SELECT venue, facts, extract(epoch FROM now() - max(upper(c.times))),
           sum(upper(c.blocks) - lower(c.blocks)), coalesce(missing.blocks, 0),
           extract(epoch FROM max(c.recorded_at))
    FROM ledger.coverage c
    LEFT JOIN (
        SELECT venue, facts, sum(block_to - block_from) AS blocks
        FROM liq.missing GROUP BY venue, facts
    ) missing USING (venue, facts)
    GROUP BY venue, facts, missing.blocks ORDER BY venue, facts
    """,
)  # fmt: skip

CHAINS = Probe(
    "chains", ("chain",),
    (
        _gauge("chain_tip_block", "The newest block that was written of a followed chain."),
        _gauge("chain_finalized_block", "The newest block that was known to be final."),
        _gauge("chain_stopped", "1 while a follower refuses to go on: liq.chains says why."),
        _gauge("chain_written_timestamp_seconds", "When a follower last wrote."),
        _gauge("chain_checked_block", "The newest block that was read a second time."),
        _counter("chain_corrected_logs_total", "Logs that a second reading added or took away."),
    ),
    """
    SELECT chain, tip_block, finalized_block, (stopped IS NOT NULL)::int,
           extract(epoch FROM updated_at), checks.checked_block, coalesce(checks.corrected, 0)
    FROM liq.chains
    LEFT JOIN (
        SELECT chain, max(block_to) - 1 AS checked_block, sum(missing + untrue) AS corrected
        FROM liq.checks GROUP BY chain
    ) checks USING (chain)
    ORDER BY chain
    """,
)  # fmt: skip

PROBES = (
    COVERAGE,
    CHAINS,
    Probe(
        "reorgs", ("chain", "found_by"),
        (
            _counter("reorgs_total", "Times that blocks were taken back."),
            _counter("reorged_blocks_total", "Blocks that were taken back."),
        ),
        "SELECT chain, found_by, count(*), sum(depth) FROM liq.reorgs"
        " GROUP BY chain, found_by ORDER BY chain, found_by",
    ),
    Probe(
        "undecoded", ("venue", "waits_for"),
        (
            _gauge(
                "undecoded_events",
                "Events without a row; waits_for is the fact that is missing, empty where none"
                " would help.",
            ),
        ),
        "SELECT venue, coalesce(missing_fact, ''), count(*) FROM ledger.undecoded"
        " GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    Probe(
        "quarantine", ("chain",),
        (_gauge("quarantined_events", "Logs that look like liquidations, by unknown emitters."),),
        "SELECT chain, count(*) FROM ledger.quarantine GROUP BY chain ORDER BY chain",
    ),
    Probe(
        "suspects", ("venue", "rule"),
        (_gauge("suspect_liquidations", "Rows whose values contradict each other, by rule."),),
        "SELECT venue, rule, count(*) FROM ledger.suspect GROUP BY venue, rule ORDER BY 1, 2",
    ),
    Probe(
        "violations", ("venue", "invariant"),
        (_gauge("violations", "What the last audits found to contradict an invariant."),),
        "SELECT venue, invariant, count(*) FROM ledger.violation"
        " GROUP BY venue, invariant ORDER BY 1, 2",
    ),
    Probe(
        "liquidations", ("venue", "method"),
        (_gauge("liquidations", "Rows that are stored; a reorg takes some of them back."),),
        """
        SELECT venue, method, count(*) FROM ledger.liquidation GROUP BY venue, method
        UNION ALL
        SELECT venue, method, count(*) FROM ledger.lending_liquidation GROUP BY venue, method
        ORDER BY 1, 2
        """,
    ),
    Probe(
        "day", ("venue",),
        (
            _gauge(
                "liquidated_usd_24h",
                "Dollars of the last 24 hours under strict/v1, for graphs: a float. indexer total"
                " has the exact sum.",
            ),
            _gauge("liquidations_24h", "Rows of the last 24 hours under strict/v1."),
        ),
        "SELECT name, usd, records FROM liq.total('strict/v1', now() - interval '24 hours', now())"
        " WHERE section = 'venue' AND name IS NOT NULL ORDER BY name",
    ),
    Probe(
        "unvalued", ("venue",),
        (_gauge("unvalued_liquidations", "Rows that lack a value in some basis, for a reason."),),
        "SELECT venue, count(DISTINCT (event_key, account)) FROM ledger.unvalued"
        " GROUP BY venue ORDER BY venue",
    ),
    Probe(
        "no_price", ("venue",),
        (_gauge("prices_missing", "Prices that were asked for in vain."),),
        "SELECT venue, count(*) FROM ledger.no_price GROUP BY venue ORDER BY venue",
    ),
    Probe(
        "label_runs", ("rule",),
        (_gauge("label_run_timestamp_seconds", "When a rule last ran over the accounts."),),
        "SELECT rule, extract(epoch FROM max(ran_at)) FROM ledger.label_run"
        " GROUP BY rule ORDER BY rule",
    ),
    Probe(
        "samples", ("venue",),
        (_gauge("sample_lag_seconds", "From the end of the newest sample to now."),),
        "SELECT venue, extract(epoch FROM now() - max(upper(times))) FROM ledger.sample"
        " GROUP BY venue ORDER BY venue",
    ),
    Probe(
        "endpoints", ("chain", "endpoint"),
        (
            _counter("endpoint_requests_total", "Requests by all commands; a batch is one."),
            _gauge("endpoint_disabled", "1 where who asked last gave the endpoint up."),
        ),
        "SELECT chain, endpoint, requests, is_disabled::int FROM ledger.endpoint_state"
        " ORDER BY chain, endpoint",
    ),
    Probe(
        "faults", ("chain", "endpoint", "fault"),
        (_counter("endpoint_faults_total", "Requests without a usable answer, by kind."),),
        "SELECT chain, endpoint, fault, faults FROM ledger.endpoint_fault ORDER BY 1, 2, 3",
    ),
    Probe(
        "database", (),
        (_gauge("database_bytes", "Size of the database."),),
        "SELECT pg_database_size(current_database())",
    ),
)  # fmt: skip


class Late(NamedTuple):
    """A venue that is behind."""

    venue: str
    lag_s: int


class Stand(NamedTuple):
    """What keeps an indexer from being ready. `absent` are venues of which nothing is covered."""

    late: list[Late]
    stopped: list[str]
    absent: list[str]

    @property
    def is_ready(self) -> bool:
        """Whether nothing does."""
        return not (self.late or self.stopped or self.absent)


def stand(found: Mapping[str, Sequence[Row]], venues: Sequence[str], most_lag_s: int) -> Stand:
    """From the rows of COVERAGE and CHAINS: of the venues named, or of all that are covered."""
    lags = {
        str(venue): int(lag) for venue, facts, lag, *_ in found[COVERAGE.name]
        if facts == "liquidations"
    }  # fmt: skip
    asked = venues or sorted(lags) or ["any"]
    chains = {venue.rpartition(".")[2] for venue in asked}
    return Stand(
        [Late(venue, lags[venue]) for venue in asked if lags.get(venue, 0) > most_lag_s],
        [str(row[0]) for row in found[CHAINS.name] if row[3] and row[0] in chains],
        [venue for venue in asked if venue not in lags],
    )
