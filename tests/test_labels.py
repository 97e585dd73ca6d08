"""Labels and flags against the simulator's truth; withdrawn when what they stood on is gone."""

from decimal import Decimal
from pathlib import Path

import pytest

from indexer import labels, sync
from indexer.store import labels as labeler
from indexer.store.database import Connection
from tests.ledger_rows import Rows, rows
from tests.simulator import RECORDING, Simulation, simulate, write_by_block, write_misc


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return simulate(RECORDING)


@pytest.fixture
def labelled(connection: Connection, sim: Simulation, tmp_path: Path) -> Connection:
    write_by_block(sim, tmp_path)
    write_misc(sim, tmp_path)
    sync.backfill(connection, str(tmp_path))
    label(connection)
    return connection


def label(connection: Connection) -> list[tuple[str, int, int]]:
    changes = [labeler.apply(connection, rule) for rule in labels.rules()]
    return [(change.rule.id, change.new, change.withdrawn) for change in changes]


def accounts(connection: Connection, query: str) -> frozenset[str]:
    return frozenset(str(account) for (account,) in connection.execute(query))


def opinions(connection: Connection) -> dict[str, Rows]:
    return {
        "flags": rows(connection, "SELECT * FROM liq.flags").copy(),
        "labels": rows(connection, "SELECT account, rule, evidence, valid_from FROM liq.labels"),
    }


@pytest.mark.any_postgres
def test_episodes_are_flagged_at_each_threshold(labelled: Connection, sim: Simulation) -> None:
    whales = sim.truth.whales
    flagged = "SELECT account FROM liq.flags WHERE level = 'episode' AND threshold_usd >= "

    assert accounts(labelled, f"{flagged} 1000000") == whales.episode_1m
    assert accounts(labelled, f"{flagged} 10000000") == whales.episode_10m
    assert accounts(labelled, f"{flagged} 100000000") == whales.episode_100m


def test_single_liquidations_and_orders_are_flagged_too(
    labelled: Connection, sim: Simulation
) -> None:
    million = Decimal(1_000_000)

    flags = rows(labelled, "SELECT account, value_usd FROM liq.flags WHERE level = 'liquidation'")
    assert flags == sorted(
        (
            (row.account, row.notional.normalize())
            for row in sim.truth.of_users
            if row.notional >= million
        ),
        key=repr,
    )
    orders = rows(labelled, "SELECT account, value_usd FROM liq.flags WHERE level = 'order'")
    assert [value for _, value in orders] == [
        value
        for _, value in sorted(
            (
                (group.key[0], group.notional.normalize())
                for group in sim.truth.orders
                if group.notional >= million
            ),
            key=repr,
        )
    ]


@pytest.mark.any_postgres
def test_whales_are_those_who_held_large_positions(labelled: Connection, sim: Simulation) -> None:
    found = accounts(labelled, "SELECT account FROM liq.labels WHERE rule = 'PEAK_POSITION'")

    assert found == sim.truth.whales.position_10m
    liquidated = found & {row.account for row in sim.truth.of_users}
    assert sim.truth.whales.episode_100m <= liquidated  # known from its trades before it fell


def test_repeated_large_liquidations_make_a_whale(labelled: Connection, sim: Simulation) -> None:
    large = [group for group in sim.truth.episodes if group.notional >= 1_000_000]
    often = {
        group.key[0] for group in large if sum(other.key[0] == group.key[0] for other in large) >= 3
    }

    assert often
    assert accounts(labelled, "SELECT account FROM liq.labels WHERE rule = 'REPEAT'") == often


def test_equity_of_a_million_makes_a_whale(labelled: Connection) -> None:
    account = "0x00000000000000000000000000000000000000ee"
    labelled.execute(
        """
        INSERT INTO ledger.ledger_liquidation
        SELECT venue, 'ledger/x', %s, 'x', block_number, block_at, 1000000, 'cross', 5e6, '[]'
        FROM ledger.ledger_liquidation LIMIT 1
        """,
        (account,),
    )

    label(labelled)

    assert rows(
        labelled,
        "SELECT account, confidence, evidence ->> 'equity_usd' FROM liq.labels"
        " WHERE rule = 'EQUITY'",
    ) == [(account, Decimal(1), "1000000")]


@pytest.mark.any_postgres
def test_a_protocol_vault_is_never_flagged_or_labelled(
    labelled: Connection, sim: Simulation
) -> None:
    vaults = frozenset(sim.truth.protocol_vaults)
    large = "SELECT account FROM liq.account_days WHERE largest_position_usd >= 10000000"
    assert accounts(labelled, large) & vaults  # there was one to be caught

    assert not accounts(labelled, "SELECT account FROM liq.labels") & vaults
    assert not accounts(labelled, "SELECT account FROM liq.flags") & vaults


def test_labelling_again_changes_nothing(labelled: Connection) -> None:
    before = opinions(labelled)

    changes = label(labelled)

    assert [(new, withdrawn) for _, new, withdrawn in changes] == [(0, 0)] * len(changes)
    assert opinions(labelled) == before


def test_what_stood_on_rows_that_are_gone_is_withdrawn_and_kept_as_history(
    labelled: Connection, sim: Simulation
) -> None:
    (whale,) = sim.truth.whales.episode_100m
    flags = "SELECT count(*) FROM {} WHERE account = %s"
    count = labelled.execute(flags.format("liq.flags"), (whale,)).fetchone()
    assert count is not None

    labelled.execute("DELETE FROM ledger.liquidation WHERE account = %s", (whale,))
    label(labelled)

    assert labelled.execute(flags.format("liq.flags"), (whale,)).fetchone() == (0,)
    assert labelled.execute(flags.format("ledger.flag"), (whale,)).fetchone() == count
    closed = "SELECT bool_and(NOT upper_inf(recorded_during)) FROM ledger.flag WHERE account = %s"
    assert labelled.execute(closed, (whale,)).fetchone() == (True,)


def test_labels_after_each_piece_equal_labels_after_all(
    connection: Connection, sim: Simulation, tmp_path: Path
) -> None:
    files = [*write_by_block(sim, tmp_path), *write_misc(sim, tmp_path)]
    for path in reversed(files):
        sync.backfill(connection, str(path))
        label(connection)
    in_pieces = opinions(connection)

    connection.execute("TRUNCATE ledger.flag, ledger.label")
    label(connection)

    recorded = len(in_pieces["flags"][0]) - 1  # when we wrote it down is all that may differ
    rebuilt = opinions(connection)
    assert [row[:recorded] for row in in_pieces["flags"]] == [
        row[:recorded] for row in rebuilt["flags"]
    ]
    assert in_pieces["labels"] == rebuilt["labels"]


def test_every_rule_says_a_sentence_with_its_parameters() -> None:
    said = {rule.id: str(rule) for rule in labels.rules()}

    assert said["EQUITY"] == (
        "Had an account value of at least 1,000,000 USD at a liquidation of the last 90 days, as"
        " the exchange's ledger states it."
    )
    assert not [text for text in said.values() if "{" in text]
