"""What labels find of what the simulator knows: SIMULATED data, and the real command that measures
it. Right and complete, for twenty seeds."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer import labels, sync
from indexer.cli.label_sets import never_of_project
from indexer.roles import ExchangeRole
from indexer.store import labels as labeler
from indexer.store import never_labelled, roles, values
from indexer.store.database import Connection
from indexer.venues.hyperliquid import PROTOCOL_VAULTS
from tests import simulator
from tests.conftest import Command
from tests.lent import lend
from tests.simulator import (
    Simulation,
    Truth,
    label_truth,
    labelled,
    simulate,
    write_by_block,
    write_misc,
)
from tests.simulator.loans import Loans, loans
from tests.simulator.validate import violations

# vaults of the registry that the simulator leaves out
UNSEEN = {vault.account for vault in PROTOCOL_VAULTS} - set(simulator.PROTOCOL_VAULTS)
SAID_AT = datetime(2025, 10, 27, tzinfo=UTC)


def ready(connection: Connection, folder: Path, sim: Simulation, lent: Loans) -> None:
    """Read, value and label all that there is."""
    write_by_block(sim, folder)
    write_misc(sim, folder)
    sync.backfill(connection, str(folder))
    lend(connection, lent.rows)
    answer(connection, sim.truth)
    values.value(connection)
    never_labelled.keep(connection, "project", never_of_project())
    labeler.apply(connection, labels.rules())


def answer(connection: Connection, truth: Truth) -> None:
    """As the exchange does when it is asked about sub-accounts and vaults."""
    roles.append(
        connection,
        [
            ExchangeRole(account=vault, role="vault", leader=leader, said={}, observed_at=SAID_AT)
            for vault, leader in truth.user_vaults.items()
        ]
        + [
            ExchangeRole(
                account=sub, role="sub_account", master=master, said={}, observed_at=SAID_AT
            )
            for sub, master in truth.sub_accounts.items()
        ],
    )


@pytest.mark.parametrize("seed", range(1, 21))
def test_precision_and_recall_are_one(
    connection: Connection, quick_indexer: Command, tmp_path: Path, seed: int
) -> None:
    sim, lent = simulate(labelled(seed)), loans(seed)
    ready(connection, tmp_path, sim, lent)
    label_truth.write(tmp_path / "truth.csv", sim.truth, lent)

    done = quick_indexer("labels", "evaluate", "truth.csv", "--format", "json")

    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    expected = {pair: len(those) for pair, those in label_truth.labelled(sim.truth).items()}
    expected["liquidator", "ROLE_LIQUIDATOR"] += len(lent.liquidators)
    elsewhere = {("protocol_vault", "ROLE_PROTOCOL_VAULT"): len(UNSEEN)}
    assert {
        (one["label"], one["rule"]): (
            one["right"], one["wrong"], one["missed"], one["unknown"], one["unjudged"],
            one["precision"]["share"], one["recall"]["share"],
        )
        for one in found["scores"]
    } == {
        pair: (number, 0, 0, 0, elsewhere.get(pair, 0), "1", "1")
        for pair, number in expected.items()
    }  # fmt: skip
    assert_nobody_is_a_liquidated_whale_who_was_not(connection, sim.truth)


def assert_nobody_is_a_liquidated_whale_who_was_not(connection: Connection, truth: Truth) -> None:
    """No vault and no winner of an ADL, unless that winner fell by itself."""
    flagged = {str(account) for (account,) in connection.execute("SELECT account FROM liq.flags")}
    fallen = {row.account for row in truth.of_users}
    assert truth.adl_winners - fallen
    assert flagged & (truth.adl_winners - fallen) == set()
    assert flagged & set(truth.protocol_vaults) == set()


# -- the simulation itself -----------------------------------------------------------------------


def test_simulated_blocks_obey_the_facts(tmp_path: Path) -> None:
    paths = write_by_block(simulate(labelled(1)), tmp_path)

    assert violations(line for path in paths for line in path.read_text().splitlines()) == []


def test_what_labels_have_to_tell_apart_is_there() -> None:
    truth = simulate(labelled(1)).truth
    large = truth.whales.episode_1m
    lost = Counter[str]()
    for row in truth.of_users:
        lost[row.account] += int(row.notional)
    together = Counter[str]()
    for sub, master in truth.sub_accounts.items():
        together[master] += lost[sub]
    (often,) = label_truth.labelled(truth)["liquidator", "ROLE_LIQUIDATOR"] - set(
        truth.protocol_vaults
    )

    repeatedly_small = {who for who, usd in lost.items() if usd >= 1_500_000} - large
    assert len(repeatedly_small) == 1
    assert [usd >= 1_000_000 for usd in together.values()] == [True]
    assert large & set(truth.sub_accounts) == set()
    assert often in large
    assert len(set(truth.user_vaults) & set(lost)) == 1
    assert len(truth.adl_winners - set(lost)) > 5
    assert set(truth.makers) & large == set()
