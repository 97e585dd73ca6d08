"""The proof of coverage: whole data contradicts nothing, each damage contradicts just what it must,
and two who hold the same data get the same hash."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from psycopg.types.range import Range

from indexer import sync
from indexer.store import database, proof
from indexer.store.database import Connection
from indexer.store.proof import Checked, Covering, Hole, Run, Topics
from indexer.store.server import Server
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.node import Node, comet_of
from tests.conftest import Command
from tests.ledger_rows import rows
from tests.postgres import database as throw_away
from tests.processes import soon
from tests.simulator import Simulation, simulate, small, write_by_block, write_misc, write_streaming
from tests.simulator.config import FAULTS
from tests.simulator.truth import Liquidation

VENUE = "hyperliquid"
CHAIN_VENUES = ("aave_v2.ethereum", "comet.ethereum", "morpho_blue.ethereum")
VIOLATIONS = "SELECT invariant, subject, detail FROM liq.violations"


@pytest.fixture
def other(postgres: Server, migrated: str) -> Iterator[Connection]:
    """A second fresh database, to compare with."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        yield opened


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(small(3))


@pytest.fixture(scope="module")
def tree(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_by_block(sim, folder)
    write_misc(sim, folder)
    return folder


@pytest.fixture
def filled(connection: Connection, tree: Path) -> Connection:
    sync.backfill(connection, str(tree), with_accounts=False)
    return connection


def audit(
    connection: Connection, low: datetime | None = None, high: datetime | None = None
) -> dict[str, tuple[int, int]]:
    """For each invariant of perps how many units were tried and how many contradict it."""
    found = proof.audit(connection, VENUE, low, high, Topics())
    return {one.invariant: (one.units, one.violated) for one in found.checked}


def kind_of(row: Liquidation) -> tuple[str, ...]:
    return row.account, row.coin, row.hash, str(row.oid)


def links(found: list[Liquidation]) -> int:
    """How often a fill of a perpetual follows another of its order, by the simulator's truth."""
    perps = sorted(kind_of(row) for row in found if row.coin[0] != "@")
    return sum(len(list(same)) - 1 for _, same in groupby(perps))


# invariants of perps


@pytest.mark.any_postgres
def test_whole_data_contradicts_nothing_and_every_unit_is_tried(
    filled: Connection, sim: Simulation
) -> None:
    truth = sim.truth
    everything = truth.liquidations + truth.without_object
    deleveraged = {(r.block_number, r.coin) for r in everything if r.method.startswith("adl")}

    assert audit(filled) == {
        "two_legs": (len(everything), 0),
        "nets_to_zero": (len(everything), 0),
        "position_chain": (links(truth.liquidations), 0),
        "adl_balance": (len(deleveraged), 0),
        "row_of_legs": (len(everything), 0),
        "trade_has_row": (len(everything), 0),
    }
    assert min(len(everything), links(truth.liquidations), len(deleveraged)) > 10
    assert rows(filled, VIOLATIONS) == []


def test_what_is_undecoded_is_counted_and_accounted_for(
    connection: Connection, tmp_path: Path
) -> None:
    sim = simulate(small(4, FAULTS))
    write_by_block(sim, tmp_path)
    sync.backfill(connection, str(tmp_path), with_accounts=False)
    expected = rows(connection, "SELECT count(*) FROM liq.undecoded")[0][0]
    connection.execute(
        "INSERT INTO ledger.undecoded VALUES ('hyperliquid', 'ledger/0x1', 1, now(), 'other', 1)"
    )

    found = proof.audit(connection, VENUE, None, None, Topics())

    disagreeing = next(one for one in sim.truth.undecoded if one.fault == "legs_disagree")
    trade = f"{disagreeing.block_number}/SOL/{disagreeing.tid}"
    assert found.undecoded == expected > 5
    assert [one for one in found.checked if one.invariant == "trade_has_row"] == [
        # of the faulty trades one has no trade id, and so no key
        Checked("trade_has_row", len(sim.truth.liquidations + sim.truth.without_object) + 4, 0)
    ]
    assert [(name, subject) for name, subject, _ in rows(connection, VIOLATIONS)] == [
        ("nets_to_zero", trade), ("two_legs", trade),
    ]  # fmt: skip


class Order(NamedTuple):
    """The fills of a forced order in the book, in their order, and the legs of its middle one."""

    fills: list[Liquidation]
    trade: str
    own: str
    other: str

    @property
    def middle(self) -> Liquidation:
        return self.fills[len(self.fills) // 2]

    @property
    def after(self) -> Liquidation:
        return self.fills[len(self.fills) // 2 + 1]


def trade_of(row: Liquidation) -> str:
    return f"{row.block_number}/{row.coin}/{row.tid}"


def own_leg(row: Liquidation) -> str:
    return f"{trade_of(row)}/{row.account}/{'A' if row.side == 'long' else 'B'}"


@pytest.fixture
def order(sim: Simulation) -> Order:
    by_order = sorted((r for r in sim.truth.liquidations if r.method == "market"), key=kind_of)
    fills = max((list(same) for _, same in groupby(by_order, kind_of)), key=len)
    fills.sort(key=lambda row: -abs(row.position_before))
    middle = fills[len(fills) // 2]
    side = "B" if middle.side == "long" else "A"
    other = f"{trade_of(middle)}/{middle.counterparty}/{side}"
    return Order(fills, trade_of(middle), own_leg(middle), other)


def plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def delete(connection: Connection, table: str, key: str) -> None:
    done = connection.execute(
        f"DELETE FROM ledger.{table} WHERE event_key = %s",
        (key,),  # type: ignore[arg-type]
    )
    assert done.rowcount == 1


def change(connection: Connection, key: str, **fields: object) -> None:
    """Make a stored fill say something else."""
    body = connection.execute(
        "SELECT body FROM ledger.raw_event WHERE event_key = %s", (key,)
    ).fetchone()
    user, fill = json.loads(str(body and body[0]))
    connection.execute(
        "UPDATE ledger.raw_event SET body = %s WHERE event_key = %s",
        (json.dumps([user, fill | fields]), key),
    )


def net(row: Liquidation, *, has_buyer: bool) -> str:
    size = plain(row.size)
    return f"bought {size}, sold 0" if has_buyer else f"bought 0, sold {size}"


def test_a_counterpartys_leg_that_is_missing(filled: Connection, order: Order) -> None:
    delete(filled, "raw_event", order.other)
    audit(filled)

    assert rows(filled, VIOLATIONS) == [
        ("nets_to_zero", order.trade, net(order.middle, has_buyer=order.middle.side == "short")),
        ("two_legs", order.trade, "1 legs"),
    ]


def test_an_own_leg_that_is_missing_also_breaks_the_chain(filled: Connection, order: Order) -> None:
    delete(filled, "raw_event", order.own)
    audit(filled)

    assert rows(filled, VIOLATIONS) == [
        ("nets_to_zero", order.trade, net(order.middle, has_buyer=order.middle.side == "long")),
        ("position_chain", own_leg(order.after), chain_of(order)),
        ("two_legs", order.trade, "1 legs"),
    ]


def chain_of(order: Order) -> str:
    """What is said of the fill after the middle one, without the middle one."""
    start, ended = order.after.position_before, order.middle.position_before
    return f"starts at {plain(start)}, the fill before it ended at {plain(ended)}"


def test_a_fill_that_is_gone_with_all_that_was_made_of_it_shows_in_the_chain_alone(
    filled: Connection, order: Order
) -> None:
    for key in (order.own, order.other):
        delete(filled, "raw_event", key)
    delete(filled, "liquidation", order.trade)
    audit(filled)

    assert rows(filled, VIOLATIONS) == [("position_chain", own_leg(order.after), chain_of(order))]


def test_a_size_that_is_changed_on_one_leg(filled: Connection, order: Order) -> None:
    size = order.middle.size
    change(filled, order.other, sz=str(size + 1))
    audit(filled)

    found = rows(filled, VIOLATIONS)
    assert [(name, subject) for name, subject, _ in found] == [
        ("nets_to_zero", order.trade),
        ("row_of_legs", f"{order.trade}/{order.middle.account}"),
        ("two_legs", order.trade),
    ]
    assert all(plain(size + 1) in detail for _, _, detail in found)


@pytest.mark.parametrize(
    ("column", "value", "detail"),
    [
        ("size", "size + 1", "size "),
        ("price", "price + 1", "price "),
        ("notional", "notional + 1", "notional "),
        ("mark_price", "mark_price + 1", "mark "),
        ("account", "counterparty", "legs name "),
        ("side", "CASE side WHEN 'long' THEN 'short' ELSE 'long' END", "side "),
    ],
)
def test_a_row_that_says_other_than_its_legs(
    filled: Connection, order: Order, column: str, value: str, detail: str
) -> None:
    filled.execute(
        f"UPDATE ledger.liquidation SET {column} = {value} WHERE event_key = %s",  # type: ignore[arg-type]
        (order.trade,),
    )
    assert audit(filled)["row_of_legs"][1] == 1

    ((invariant, subject, text),) = rows(filled, VIOLATIONS)
    assert (invariant, subject.rpartition("/")[0]) == ("row_of_legs", order.trade)
    assert text.startswith(detail)


def test_a_trade_without_a_row_and_a_row_without_a_trade(filled: Connection, order: Order) -> None:
    delete(filled, "liquidation", order.trade)
    first = order.fills[0]
    filled.execute(
        "DELETE FROM ledger.raw_event WHERE event_key LIKE %s", (f"{trade_of(first)}/%",)
    )
    audit(filled)

    assert rows(filled, VIOLATIONS) == [
        ("row_of_legs", f"{trade_of(first)}/{first.account}", "no leg of it is stored"),
        ("trade_has_row", order.trade, "neither a liquidation nor undecoded"),
    ]


def test_a_winner_that_is_missing_leaves_losers_over(filled: Connection, sim: Simulation) -> None:
    deleveraged = [row for row in sim.truth.liquidations if row.method.startswith("adl")]
    groups = groupby(deleveraged, lambda row: (row.block_number, row.coin))
    market, found = next((key, same) for key, group in groups if len(same := list(group)) > 1)
    side = "B" if found[0].side == "long" else "A"
    delete(filled, "raw_event", f"{trade_of(found[0])}/{found[0].counterparty}/{side}")
    audit(filled)

    losers = sum(row.notional for row in found)
    balance = f"winners {plain(losers - found[0].notional)}, losers {plain(losers)}"
    assert rows(filled, VIOLATIONS) == [
        ("adl_balance", "/".join(map(str, market)), balance),
        ("nets_to_zero", trade_of(found[0]), net(found[0], has_buyer=side == "A")),
        ("two_legs", trade_of(found[0]), "1 legs"),
    ]


def test_binary_noise_of_positions_breaks_no_chain(filled: Connection, order: Order) -> None:
    start = order.after.position_before
    noise = abs(start).scaleb(-16)
    change(filled, own_leg(order.after), startPosition=f"{start + noise:f}")

    assert audit(filled)["position_chain"][1] == 0

    change(filled, own_leg(order.after), startPosition=f"{start + abs(start).scaleb(-10):f}")

    assert audit(filled)["position_chain"][1] > 0


def test_a_trade_with_oneself_breaks_no_chain(filled: Connection, order: Order) -> None:
    """It moves the position back, so that no order of the account is held to a chain there."""
    body = filled.execute(
        "UPDATE ledger.raw_event SET event_key = %s WHERE event_key = %s RETURNING body",
        (f"{order.trade}/{order.middle.account}/{order.other[-1]}", order.other),
    ).fetchone()
    _, fill = json.loads(str(body and body[0]))
    filled.execute(
        "UPDATE ledger.raw_event SET body = %s WHERE event_key LIKE %s",
        (json.dumps([order.middle.account, fill]), f"{order.trade}/%/{order.other[-1]}"),
    )
    for late in order.fills[len(order.fills) // 2 + 1 :]:
        start = late.position_before - (order.after.position_before - order.middle.position_before)
        change(filled, own_leg(late), startPosition=str(start))

    assert audit(filled)["position_chain"][1] == 0


@pytest.mark.parametrize("odd", ['"\\u0000"', "1e999999", "[" * 20000 + "]" * 20000])
def test_what_sql_cannot_read_is_a_violation_and_no_error(
    filled: Connection, order: Order, odd: str
) -> None:
    filled.execute(
        "UPDATE ledger.raw_event SET body = replace(body, '\"crossed\"', %s) WHERE event_key = %s",
        (f'"odd":{odd},"crossed"', order.other),
    )

    found = audit(filled)

    assert (found["two_legs"][1], found["row_of_legs"][1]) == (1, 1)


def test_a_row_that_was_mirrored_is_held_against_the_other_leg(
    connection: Connection, real_data: Path
) -> None:
    path = real_data / "hyperliquid" / "api_userFills_liquidator_vault_backstop.json"
    sync.backfill(connection, str(path), account="0x2e3d94f0562703b25c83308a05046ddaf9a8dd14")
    assert audit(connection)["row_of_legs"] == (2, 0)

    connection.execute("UPDATE ledger.liquidation SET side = 'long' WHERE market = 'PURR'")
    audit(connection)

    ((invariant, _, detail),) = rows(connection, VIOLATIONS)
    assert (invariant, detail) == ("row_of_legs", "side long, the legs say the other")


# violations in their table


def test_the_violations_of_what_was_repaired_vanish(
    filled: Connection, order: Order, tree: Path
) -> None:
    delete(filled, "raw_event", order.other)
    audit(filled)
    assert len(rows(filled, VIOLATIONS)) == 2

    sync.backfill(filled, str(tree), with_accounts=False)
    audit(filled)

    assert rows(filled, VIOLATIONS) == []


def test_an_audit_replaces_only_violations_of_its_own_time(
    filled: Connection, order: Order
) -> None:
    first, last = order.fills[0], order.fills[-1]
    other = next(row for row in audited_rows(filled) if row[0] != first.block_time)
    delete(filled, "raw_event", order.other)
    filled.execute("DELETE FROM ledger.liquidation WHERE event_key = %s", (other[1],))
    audit(filled)

    low, high = first.block_time, last.block_time + timedelta(microseconds=1)
    filled.execute("UPDATE ledger.violation SET detail = 'old'")
    audit(filled, low, high)

    query = "SELECT invariant, subject, detail, audited_from, audited_to FROM liq.violations"
    assert rows(filled, query) == [
        (
            "nets_to_zero", order.trade,
            net(order.middle, has_buyer=order.middle.side == "short"), low, high,
        ),
        ("trade_has_row", other[1], "old", None, None),
        ("two_legs", order.trade, "1 legs", low, high),
    ]  # fmt: skip


def audited_rows(connection: Connection) -> list[tuple[Any, ...]]:
    return rows(connection, "SELECT block_at, event_key FROM ledger.liquidation")


def test_records_of_an_api_are_not_held_to_have_two_legs(
    connection: Connection, real_data: Path
) -> None:
    folder = real_data / "hyperliquid"
    for path in sorted(folder.glob("*_own_market_liquidation*")):
        sync.backfill(connection, str(path), account="0x61fb9e7583dc92cc76eb52f93d88addaa0f02265")

    assert audit(connection) == {
        "two_legs": (0, 0),
        "nets_to_zero": (0, 0),
        "position_chain": (0, 0),
        "adl_balance": (0, 0),
        "row_of_legs": (1, 0),
        "trade_has_row": (1, 0),
    }


def test_an_audit_sees_one_state_whoever_writes_beside_it(
    filled: Connection, conninfo: str, order: Order
) -> None:
    with database.connect(conninfo) as writer, ThreadPoolExecutor(1) as thread:
        with writer.transaction():
            # the audit has read the legs when it comes to the rows, and waits there
            writer.execute("LOCK TABLE ledger.liquidation IN ACCESS EXCLUSIVE MODE")
            audited = thread.submit(audit, filled)
            waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            soon(lambda: rows(writer, waits) == [(True,)])
            delete(writer, "liquidation", order.trade)
        found = audited.result(timeout=60)

    assert found["trade_has_row"][1] == 0
    assert audit(filled)["trade_has_row"][1] == 1


# the hash of the content

HASH = "SELECT records, digest FROM liq.content_hash(%s, %s, %s)"
EVER = ("-infinity", "infinity")


def content(connection: Connection, venue: str, low: object, high: object) -> tuple[int, Decimal]:
    return connection.execute(HASH, (venue, low, high)).fetchone()  # type: ignore[return-value]


def test_the_same_data_in_another_order_and_other_pieces_has_the_same_hash(
    filled: Connection, other: Connection, sim: Simulation, tmp_path: Path
) -> None:
    pieces = write_streaming(sim, tmp_path, compress=True)
    for path in (*reversed(pieces), *pieces):
        sync.backfill(other, str(path))

    found = content(filled, VENUE, *EVER)

    forced = len(sim.truth.liquidations + sim.truth.without_object)
    assert content(other, VENUE, *EVER) == found
    assert found[0] == 2 * forced
    assert found[1] > 0


def test_hashes_of_ranges_add_up(filled: Connection, order: Order) -> None:
    cut = order.middle.block_time

    before, after = (
        content(filled, VENUE, "-infinity", cut),
        content(filled, VENUE, cut, "infinity"),
    )

    assert min(before[0], after[0]) > 0
    assert (before[0] + after[0], before[1] + after[1]) == content(filled, VENUE, *EVER)


def test_one_changed_byte_is_another_hash(filled: Connection, order: Order) -> None:
    found = content(filled, VENUE, *EVER)
    filled.execute(
        "UPDATE ledger.raw_event SET body = overlay(body PLACING ' ' FROM 2 FOR 0)"
        " WHERE event_key = %s",
        (order.other,),
    )

    changed = content(filled, VENUE, *EVER)

    assert (changed[0], changed[1] == found[1]) == (found[0], False)


def test_the_audit_prints_the_hash_that_sql_gives(filled: Connection) -> None:
    found = proof.audit(filled, VENUE, None, None, Topics())

    assert (found.records, found.digest) == content(filled, VENUE, *EVER)


# coverage


def at(minute: float) -> datetime:
    return datetime(2025, 10, 10, 21, tzinfo=UTC) + timedelta(minutes=minute)


def cover(connection: Connection, venue: str, *ranges: tuple[int, int, float, float]) -> None:
    """Ranges of heights with the minutes of their first and last block."""
    for low, high, first, last in ranges:
        connection.execute(
            "INSERT INTO ledger.coverage (venue, facts, blocks, times, verification,"
            " decoder_version) VALUES (%s, 'liquidations', %s, %s, 'every_height', 1)",
            (venue, Range(low, high), Range(at(first), at(last), "[]")),
        )


def hole(low: int, high: int, block_from: int | None, block_to: int | None) -> Hole:
    return Hole(at(low), at(high), block_from, block_to)


WINDOWS = {
    "nothing is covered": ((), None, [hole(10, 20, None, None)], "0"),
    "one range": (((100, 200, 5, 25),), None, [], "1"),
    "one range that just reaches": (((100, 200, 10, 20),), None, [], "1"),
    "adjacent ranges": (((100, 150, 5, 15), (150, 200, 15, 25)), None, [], "1"),
    "ranges that are not adjacent": (
        ((100, 150, 5, 14), (151, 200, 16, 25)), None, [hole(14, 16, 150, 151)], "0.8",
    ),
    "a hole that takes no time": (
        ((100, 150, 5, 15), (151, 200, 15, 25)), None, [hole(15, 15, 150, 151)], "1",
    ),
    "a hole before the window": (((100, 150, 2, 5), (160, 200, 8, 25)), None, [], "1"),
    "a hole after the window": (((100, 150, 2, 20), (160, 200, 25, 28)), None, [], "1"),
    "a hole over its begin": (
        ((100, 150, 2, 5), (160, 200, 15, 25)), None, [hole(10, 15, 150, 160)], "0.5",
    ),
    "both ends are missing": (
        ((100, 200, 12, 18),), None, [hole(10, 12, None, 100), hole(18, 20, 200, None)], "0.6",
    ),
    "the end is missing": (((100, 200, 5, 19),), None, [hole(19, 20, 200, None)], "0.9"),
    "the first block lies in the window": (((100, 200, 15, 25),), 100, [], "1"),
    "a later one than the first": (
        ((100, 200, 15, 25),), 99, [hole(10, 15, None, 100)], "0.5",
    ),
    "a hole below the first block": (((50, 60, 5, 6), (90, 200, 15, 25)), 95, [], "1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("ranges", "first_block", "holes", "share"), WINDOWS.values(), ids=WINDOWS.keys()
)
def test_a_window_is_whole_when_one_run_reaches_from_end_to_end(
    connection: Connection,
    ranges: tuple[tuple[int, int, int, int], ...],
    first_block: int | None,
    holes: list[Hole],
    share: str,
) -> None:
    cover(connection, VENUE, *ranges)

    found = proof.covered(connection, VENUE, at(10), at(20), first_block)

    assert (found.holes, found.share) == (tuple(holes), Decimal(share))
    assert found.is_whole is (holes == [])


def test_coverings_are_given_in_the_order_of_the_venues(connection: Connection) -> None:
    cover(connection, "a.x", (100, 150, 5, 15), (150, 200, 15, 25))
    cover(connection, "b.x", (7, 9, 15, 25))

    found = proof.coverings(connection, ["b.x", "a.x"], at(10), at(20), {"b.x": 7})

    proofs = ("every_height",)
    assert found == [
        Covering("b.x", at(10), at(20), (Run(7, 9, at(15), at(25), proofs),), (), Decimal(1)),
        Covering("a.x", at(10), at(20), (Run(100, 200, at(5), at(25), proofs),), (), Decimal(1)),
    ]


# chains


@pytest.fixture(scope="module")
def chain() -> ModelChain:
    """A hundred blocks with liquidations of three protocols."""
    model = ModelChain(Config(seed=3))
    model.mine(100)
    return model


@pytest.fixture
def lent(chain: ModelChain, quick_indexer: Command, connection: Connection) -> Connection:
    """All final blocks of the model are indexed."""
    first, end = chain.branch.blocks[0].number, chain.finalized + 1
    with Node(chain, calls=comet_of(chain)) as node:
        done = quick_indexer(
            "backfill", *CHAIN_VENUES, "--from", first, "--to", end, RPC_ETHEREUM=node.url
        )
    assert done.returncode == 0, done.stderr
    return connection


def printed(run: Any, *names: str) -> list[str]:
    """The lines of an audit that begin with one of these words, with one space between words."""
    lines = (line.split() for line in run.stdout.splitlines())
    return [" ".join(words) for words in lines if words[0] in names]


INVARIANTS = ("digest", "log_has_row", "row_has_log")


def test_what_was_read_of_a_chain_contradicts_nothing(
    chain: ModelChain, lent: Connection, quick_indexer: Command
) -> None:
    done = quick_indexer("audit", "comet.ethereum", "aave_v2.ethereum")

    truth = [row for row in chain.truth(to=chain.finalized).rows if row.part == 0]
    absorbed = sum(row.venue == "comet.ethereum" for row in truth)
    called = sum(row.venue == "aave_v2.ethereum" for row in truth)
    parts = rows(lent, "SELECT count(*) FROM ledger.raw_log WHERE venue = 'comet.ethereum'")[0][0]
    assert min(absorbed, called) > 10
    assert parts > absorbed
    assert printed(done, *INVARIANTS) == [
        "digest 1 0", f"log_has_row {parts} 0", f"row_has_log {absorbed} 0",
        "digest 1 0", f"log_has_row {called} 0", f"row_has_log {called} 0",
    ]  # fmt: skip
    assert (done.returncode, done.stderr, rows(lent, VIOLATIONS)) == (0, "", [])


def of_venue(connection: Connection, venue: str, table: str) -> str:
    """The key of the first row of a venue."""
    return str(
        rows(connection, f"SELECT min(event_key) FROM ledger.{table} WHERE venue = '{venue}'")[0][0]
    )


def test_a_log_that_is_gone_shows_in_the_digest_and_in_its_row(
    lent: Connection, quick_indexer: Command
) -> None:
    key = of_venue(lent, "aave_v2.ethereum", "lending_liquidation")
    lent.execute(
        "DELETE FROM ledger.raw_log WHERE '0x' || encode(tx_hash, 'hex') || '/' || log_index = %s",
        (key,),
    )

    done = quick_indexer("audit", "aave_v2.ethereum")

    ((blocks, logs, read),) = rows(
        lent,
        "SELECT block_from || '-' || block_to - 1, logs, digest FROM liq.coverage"
        " WHERE venue = 'aave_v2.ethereum'",
    )
    digest, left = lent.execute(
        "SELECT detail, (liq.content_hash('aave_v2.ethereum', '-infinity', 'infinity')).digest"
        " FROM liq.violations WHERE invariant = 'digest'"
    ).fetchone()  # type: ignore[misc]
    assert done.returncode == 1
    assert [found[:2] for found in rows(lent, VIOLATIONS)] == [
        ("digest", blocks), ("row_has_log", key),
    ]  # fmt: skip
    assert digest == (
        f"{logs} logs of digest {read:f} were read, {logs - 1} of {left:f} are stored"
    )


@pytest.mark.parametrize("venue", CHAIN_VENUES)
def test_a_row_of_a_chain_that_is_gone_is_missed(
    lent: Connection, quick_indexer: Command, venue: str
) -> None:
    key = of_venue(lent, venue, "lending_liquidation")
    lent.execute("DELETE FROM ledger.lending_liquidation WHERE event_key LIKE %s", (f"{key}%",))

    done = quick_indexer("audit", venue)

    assert done.returncode == 1
    assert ("log_has_row", key, "a liquidation that is neither a row nor undecoded") in rows(
        lent, VIOLATIONS
    )
    assert {(name, subject[:66]) for name, subject, _ in rows(lent, VIOLATIONS)} == {
        ("log_has_row", key[:66])
    }


def test_collateral_that_is_joined_to_no_absorption_is_missed(
    lent: Connection, quick_indexer: Command
) -> None:
    """All rows of a transaction are gone, and the logs of their collateral are left over."""
    parts = (
        "SELECT min(left(event_key, 66)) FROM ledger.lending_liquidation WHERE event_key ~ '/1$'"
    )
    ((tx_hash,),) = rows(lent, f"{parts} AND event_key LIKE '%/%/%' AND venue = 'comet.ethereum'")
    lent.execute("DELETE FROM ledger.lending_liquidation WHERE event_key LIKE %s", (f"{tx_hash}%",))

    quick_indexer("audit", "comet.ethereum")

    assert {detail for _, _, detail in rows(lent, VIOLATIONS)} == {
        "a liquidation that is neither a row nor undecoded",
        "part of a liquidation, and its transaction has none",
    }


def test_the_hash_of_a_chains_venue_is_the_digest_of_its_coverage(lent: Connection) -> None:
    said = rows(lent, "SELECT venue, sum(logs), sum(digest) FROM liq.coverage GROUP BY 1")

    assert [venue for venue, _, _ in said] == list(CHAIN_VENUES)
    assert [(records, digest) for _, records, digest in said] == [
        tuple(content(lent, venue, *EVER)) for venue in CHAIN_VENUES
    ]


def test_a_log_without_any_number_moved_nothing_and_needs_no_row(
    lent: Connection, quick_indexer: Command
) -> None:
    """As Euler emits it; here a log of Aave v2 stands in for it."""
    key = of_venue(lent, "aave_v2.ethereum", "lending_liquidation")
    delete(lent, "lending_liquidation", key)
    lent.execute(
        "UPDATE ledger.raw_log SET data = decode(repeat('11', 32) || repeat('00', 96), 'hex')"
        " WHERE '0x' || encode(tx_hash, 'hex') || '/' || log_index = %s",
        (key,),
    )

    quick_indexer("audit", "aave_v2.ethereum")

    assert [name for name, _, _ in rows(lent, VIOLATIONS)] == ["digest"]


# the command


def test_a_share_is_rounded_down(connection: Connection, quick_indexer: Command) -> None:
    cover(connection, VENUE, (100, 150, 5, 15), (151, 200, 15.000001, 25))

    done = quick_indexer("audit", VENUE, "--window", "2025-10-10T21:10..2025-10-10T21:20")

    assert printed(done, "hyperliquid", "hole:") == [
        "hyperliquid 2025-10-10 21:10:00.000000 to 2025-10-10 21:20:00.000000 UTC:"
        " 99.9999 % of the time, holes: 1",
        "hole: block 150, 2025-10-10 21:15:00.000000 to 2025-10-10 21:15:00.000060",
    ]


def test_uncut_blocks_are_whole_and_contradict_nothing(
    indexer: Command, real_data: Path, connection: Connection
) -> None:
    name = "node_fills_by_block_20251027_17_uncut.jsonl"
    indexer("backfill", VENUE, "--from", real_data / "hyperliquid" / name)
    ((records, digest),) = rows(
        connection, "SELECT * FROM liq.content_hash('hyperliquid', '-infinity', 'infinity')"
    )

    done = indexer("audit")

    times = "2025-10-27 16:59:59.797563 to 2025-10-27 17:00:54.291996"
    assert records == 2
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        f"hyperliquid {times} UTC: whole",
        f"  read: 667 blocks 777010829 to 777011495, {times}, every_height",
        f"  content: 2 records, hash {digest:f}",
        "  undecoded 0, quarantined on the chain 0",
        "  invariant         checked    violated",
        "  two_legs          1          0",
        "  nets_to_zero      1          0",
        "  position_chain    0          0",
        "  adl_balance       0          0",
        "  row_of_legs       1          0",
        "  trade_has_row     1          0",
        "totals of days: 1 compared, 0 differ",
    ]
    assert (done.returncode, done.stderr) == (0, "")


def test_the_one_height_left_out_of_nine_lines_is_a_hole(indexer: Command, real_data: Path) -> None:
    path = real_data / "hyperliquid" / "node_fills_by_block_20260315_00_with_gap.jsonl"
    indexer("backfill", VENUE, "--from", path)

    done = indexer("audit", VENUE, "--window", "2026-03-15..2026-03-15T00:00:00.5")

    assert done.returncode == 1
    assert printed(done, "hyperliquid", "hole:") == [
        "hyperliquid 2026-03-15 00:00:00.000000 to 2026-03-15 00:00:00.500000 UTC:"
        " 45.8756 % of the time, holes: 1",
        "hole: block 923950858, 2026-03-15 00:00:00.000000 to 2026-03-15 00:00:00.270622",
    ]


def test_blocks_cut_down_to_one_leg_say_so(
    indexer: Command, real_data: Path, tmp_path: Path, connection: Connection
) -> None:
    """Their sources cut them: what was published is not what the exchange printed."""
    lines = real_data / "hyperliquid" / "node_fills_by_block_lines.jsonl"
    first = tmp_path / "node_fills_by_block_0"
    first.write_text(lines.read_text().splitlines(keepends=True)[0])
    indexer("backfill", VENUE, "--from", first)

    done = indexer("audit", VENUE)

    assert done.returncode == 1
    assert printed(done, "read:") == [
        "read: block 1052527672, 2026-06-28 08:43:53.257028"
        " to 2026-06-28 08:43:53.257028, every_height"
    ]
    assert [found[::2] for found in rows(connection, VIOLATIONS)] == [
        ("nets_to_zero", "bought 0, sold 0.58"), ("two_legs", "1 legs"),
    ]  # fmt: skip


def test_a_window_before_all_that_was_read_is_not_covered(
    filled: Connection, quick_indexer: Command
) -> None:
    done = quick_indexer("audit", VENUE, "--window", "2020-01-01..2020-01-02")

    assert done.returncode == 1
    assert printed(done, "hyperliquid", "read:", "hole:", "content:") == [
        "hyperliquid 2020-01-01 00:00:00.000000 to 2020-01-02 00:00:00.000000 UTC:"
        " 0.0000 % of the time, holes: 1",
        "hole: blocks before 777290000, 2020-01-01 00:00:00.000000 to 2020-01-02 00:00:00.000000",
        "content: 0 records, hash 0",
    ]


def test_a_venue_of_which_nothing_was_read_is_no_proof(quick_indexer: Command) -> None:
    named, unnamed = quick_indexer("audit", "comet.ethereum"), quick_indexer("audit")

    assert (named.returncode, named.stderr) == (1, "comet.ethereum: nothing is covered\n")
    assert (unnamed.returncode, unnamed.stdout) == (0, "nothing is indexed yet: indexer backfill\n")


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ("2025-10-10", "is no window; write 2025-10-10..2025-10-11"),
        ("2025-10-11..2025-10-10", "ends before it begins"),
        ("2025-10-10..soon", "is no time"),
    ],
)
def test_a_window_that_is_none_is_wrong_usage(
    quick_indexer: Command, window: str, why: str
) -> None:
    done = quick_indexer("audit", VENUE, "--window", window)

    assert done.returncode == 2
    assert why in done.stderr
