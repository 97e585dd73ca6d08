"""Labels and flags against the simulator's truth; withdrawn when what they stood on is gone."""

import random
import re
from decimal import Decimal
from pathlib import Path

import pytest

from indexer import labels, sync
from indexer.errors import ConfigError
from indexer.model import Rule
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
    sync.value(connection, None)
    label(connection)
    return connection


def label(connection: Connection) -> list[tuple[str, int, int]]:
    changes = labeler.apply(connection, labels.rules())
    return [(change.rule.id, change.new, change.withdrawn) for change in changes]


def accounts(connection: Connection, query: str) -> frozenset[str]:
    return frozenset(str(account) for (account,) in connection.execute(query))


def opinions(connection: Connection) -> dict[str, Rows]:
    return {
        "flags": rows(
            connection,
            "SELECT venue, account, level, subject_key, rule, rule_version, value_usd,"
            " threshold_usd, occurred_at FROM liq.flags",
        ),
        "labels": rows(
            connection,
            "SELECT venue, account, label, rule, confidence, evidence, valid_from, valid_to"
            " FROM liq.labels",
        ),
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

    roles = "SELECT account FROM liq.labels WHERE label = 'protocol_vault'"
    assert accounts(labelled, roles) >= vaults
    others = "SELECT account FROM liq.labels WHERE label NOT IN ('protocol_vault', 'liquidator')"
    assert not accounts(labelled, others) & vaults
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
        sync.value(connection, sync.backfill(connection, str(path)).since)
        label(connection)
    in_pieces = opinions(connection)

    connection.execute("TRUNCATE ledger.flag, ledger.label")
    labeler.apply(connection, labels.rules(), again=True)

    assert in_pieces["flags"] != []
    assert opinions(connection) == in_pieces


@pytest.mark.parametrize("seed", range(6))
def test_labels_of_changed_accounts_equal_those_of_all(
    connection: Connection, sim: Simulation, tmp_path: Path, seed: int
) -> None:
    """Pieces in any order, labelled or not after each; rows that go and come back."""
    chance = random.Random(seed)
    files = [*write_by_block(sim, tmp_path), *write_misc(sim, tmp_path)]
    chance.shuffle(files)
    for path in files:
        sync.value(connection, sync.backfill(connection, str(path)).since)
        for act in chance.sample([label, _lose_rows, _change_rows], k=2):
            act(connection)

    label(connection)

    in_pieces = opinions(connection)
    connection.execute("TRUNCATE ledger.flag, ledger.label")
    labeler.apply(connection, labels.rules(), again=True)
    assert opinions(connection) == in_pieces


def _lose_rows(connection: Connection) -> None:
    """As a reorg would take them."""
    connection.execute(
        "DELETE FROM ledger.liquidation WHERE account IN ("
        " SELECT account FROM liq.flags ORDER BY value_usd DESC, account LIMIT 2)"
    )
    connection.execute(
        "DELETE FROM ledger.account_day WHERE account IN ("
        " SELECT account FROM liq.labels WHERE rule = 'PEAK_POSITION' ORDER BY account LIMIT 1)"
    )


def _change_rows(connection: Connection) -> None:
    """As a newer decoder would."""
    connection.execute(
        "UPDATE ledger.liquidation SET notional = notional * 3 WHERE account IN ("
        " SELECT account FROM ledger.liquidation ORDER BY notional DESC, account LIMIT 3)"
    )
    sync.value(connection, None)


def test_what_we_thought_then_is_one_query(labelled: Connection, sim: Simulation) -> None:
    (whale,) = sim.truth.whales.episode_100m
    asked = "SELECT DISTINCT rule FROM liq.labels_at(%s, %s) WHERE account = %s ORDER BY rule"
    row = labelled.execute("SELECT max(block_at), clock_timestamp() FROM ledger.liquidation")
    happened_at, before = row.fetchone() or (None, None)
    thought = labelled.execute(asked, (happened_at, before, whale)).fetchall()

    labelled.execute("DELETE FROM ledger.account_day WHERE account = %s", (whale,))
    label(labelled)

    now = labelled.execute("SELECT clock_timestamp()").fetchone() or (None,)
    assert ("PEAK_POSITION",) in thought
    assert labelled.execute(asked, (happened_at, before, whale)).fetchall() == thought
    assert ("PEAK_POSITION",) not in labelled.execute(asked, (happened_at, *now, whale)).fetchall()


def test_a_label_ends_by_itself_and_is_former_then(labelled: Connection) -> None:
    state = "SELECT DISTINCT state FROM liq.labels WHERE rule = 'PEAK_POSITION'"
    assert labelled.execute(state).fetchall() == [("current",)]

    labelled.execute(
        """
        INSERT INTO ledger.coverage (venue, facts, blocks, times, verification, decoder_version)
        SELECT venue, facts, '[1000000000000,1000000000001)', tstzrange(later, later, '[]'),
               verification, decoder_version
        FROM ledger.coverage
        CROSS JOIN LATERAL (SELECT upper(times) + interval '200 days') time (later)
        LIMIT 1
        """
    )

    assert labelled.execute(state).fetchall() == [("former",)]


BAD = Rule(
    id="BAD", version=1, makes="labels", sentence="Calls a vault a whale.", parameters={},
    query="SELECT venue, account, 'whale' AS label, 1 AS confidence, '{}'::jsonb AS evidence,"
    " tstzrange(NULL, NULL) AS valid_during FROM liq.protocol_vaults"
    " WHERE %(accounts)s::text[] IS NULL",
)  # fmt: skip


def test_a_rule_that_calls_a_vault_a_whale_fails_and_nothing_is_written(
    labelled: Connection,
) -> None:
    before = opinions(labelled)

    with pytest.raises(labeler.NeverLabelled, match="called whale and is the protocol vault"):
        labeler.apply(labelled, [*labels.rules(), BAD])

    assert opinions(labelled) == before


def test_a_rule_that_is_no_more_takes_its_labels_along(labelled: Connection) -> None:
    kept = [rule for rule in labels.rules() if rule.id != "PEAK_POSITION"]

    labeler.apply(labelled, kept)

    assert accounts(labelled, "SELECT account FROM liq.labels WHERE rule = 'PEAK_POSITION'") == (
        frozenset()
    )


def test_a_user_sets_parameters_and_adds_a_rule(labelled: Connection) -> None:
    theirs = b"""
        [SIZE_ABS]
        large = 500_000
        [SAW_TSLA]
        version = 1
        makes = "labels"
        sentence = "Was liquidated in TSLA."
        query = '''
            SELECT DISTINCT venue, account, 'tsla' AS label, 1 AS confidence,
                   '{}'::jsonb AS evidence, tstzrange(NULL, NULL) AS valid_during
            FROM liq.liquidations WHERE market = 'xyz:TSLA' AND NOT account_is_protocol_vault
              AND (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))'''
    """

    labeler.apply(labelled, labels.rules(theirs))

    least = labelled.execute("SELECT min(threshold_usd) FROM liq.flags").fetchone()
    assert least == (Decimal(500_000),)
    assert accounts(labelled, "SELECT account FROM liq.labels WHERE label = 'tsla'") == accounts(
        labelled,
        "SELECT account FROM liq.liquidations"
        " WHERE market = 'xyz:TSLA' AND NOT account_is_protocol_vault",
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"[SIZE_ABS]\nlarg = 1", "SIZE_ABS has no parameter larg; it has large, very_large"),
        (b"[SIZE_ABS]\nlarge = 'a lot'", "SIZE_ABS: large: "),
        (b"[OTHER]\nlarge = 1", "OTHER is no rule that we have, and none of its own"),
        (b"[SIZE_ABS]\nquery = 'SELECT 1'", "SIZE_ABS is a rule already"),
        (b"large = 1", "large stands outside of a rule's table"),
        (b"[", "not a file of rules"),
    ],
)
def test_a_faulty_file_of_rules_is_refused(file: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        labels.rules(file)


def test_every_rule_says_a_sentence_with_its_parameters() -> None:
    said = {rule.id: str(rule) for rule in labels.rules()}

    assert said["EQUITY"] == (
        "Had an account value of at least 1,000,000 USD at a liquidation, as the exchange's ledger"
        " states it; holds for 90 days after the last."
    )
    assert not [text for text in said.values() if "{" in text]
