"""Who can never be called a whale or a victim, and who liquidates others."""

import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from indexer import labels
from indexer.cli.label_sets import known_chains, never_of_project
from indexer.errors import ConfigError
from indexer.model import Rule
from indexer.never_labelled import FILE, Never, read
from indexer.store import labels as labeler
from indexer.store import never_labelled, values
from indexer.store.database import Connection
from indexer.venues.evm import specs
from tests.conftest import Command
from tests.ledger_rows import Rows, rows
from tests.lent import lend
from tests.simulator.loans import Loans, five_in_one_transaction, four, loans

A, B, C = ("0x" + 40 * letter for letter in "abc")
ZERO, VAULT = "0x" + 40 * "0", "0xb0a55f13d22f66e6d495ac98113841b2326e9540"
AAVE = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"
ONE_INCH = "0x111111125421ca6dc452d289314280a0f8842a65"
SOLO = "0x1e0447b19bb6ecfdae1e4ae1694b0c3659614e4e"
HEADER = "chain,account,why,source"
CHAINS = {1: "ethereum", 8453: "base"}
SAID = "SELECT chain, account, why, source, origin FROM liq.never_labelled"
LABELS = (
    "SELECT venue, account, label, rule, confidence, evidence, valid_from, valid_to FROM liq.labels"
)

WHALES = Rule(
    id="WHALES",
    version=1,
    makes="labels",
    reads=("liquidations",),
    sentence="Was liquidated on a lending protocol.",
    parameters={},
    query="""
        SELECT DISTINCT venue, account, 'whale' AS label, 1 AS confidence, '{}'::jsonb AS evidence,
               tstzrange(NULL, NULL) AS valid_during
        FROM ledger.lending_liquidation
        WHERE (%(accounts)s::text[] IS NULL OR account = ANY (%(accounts)s::text[]))
          AND ledger.never_because(venue, account) IS NULL
    """,
)


def written(folder: Path, *lines: str, header: str = HEADER) -> Path:
    path = folder / "ours.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def because(connection: Connection, venue: str, account: str) -> str | None:
    (found,) = connection.execute(
        "SELECT ledger.never_because(%s, %s)", (venue, account)
    ).fetchone() or (None,)
    return found  # type: ignore[return-value]


def owe(connection: Connection, *accounts: str, venue: str = "aave_v3.ethereum") -> None:
    """Liquidations of these accounts, valued as far as that goes."""
    for number, account in enumerate(accounts):
        connection.execute(
            """
            INSERT INTO ledger.lending_liquidation (
                venue, event_key, account, block_number, block_at, method, market, repaid_asset,
                repaid_raw, seized_is_shares, decoder_version
            ) VALUES (%s, %s, %s, 1, '2025-10-10', 'repay_seize', '0xm', '0xa', 1, false, 1)
            """,
            (venue, f"0x{number:064x}/1", account),
        )
    values.value(connection)


def observe(connection: Connection, account: str, kind: str, block: int = 1) -> None:
    """What stood at an address of Ethereum."""
    connection.execute(
        "INSERT INTO ledger.account_code"
        " VALUES (%s, 'ethereum', %s, '2025-10-10', '0xc', %s, '{}')",
        (account, block, kind),
    )


# -- the project's list --------------------------------------------------------------------------


def test_every_contract_of_our_venues_is_on_the_list() -> None:
    named = {(one.chain, one.account) for one in never_of_project()}

    deployed = {(one.chain, one.address.lower()) for spec in specs() for one in spec.deployments}
    assert len(deployed) > 300
    assert deployed - named == set()


def test_the_list_says_what_each_is_and_who_says_so() -> None:
    known = {(one.chain, one.account): one for one in never_of_project()}

    assert known["ethereum", AAVE] == Never(
        "ethereum", AAVE, "the contract pool of aave_v3.ethereum",
        "bgd-labs/aave-address-book:src/ts/AaveV3Ethereum.ts",
    )  # fmt: skip
    assert known["*", ONE_INCH] == Never(
        "*", ONE_INCH, "the 1inch aggregation router v6", "@1inch/limit-order-sdk 5.4.3"
    )
    assert known["ethereum", SOLO] == Never(
        "ethereum", SOLO, "a lender of flash loans, dYdX Solo",
        "dydxprotocol/solo:migrations/deployed.json, SoloMargin",
    )  # fmt: skip


def test_the_file_is_sorted_and_each_account_stands_there_once() -> None:
    found = read(FILE, known_chains())

    assert found == sorted(found, key=lambda one: (one.why.lower(), one.chain, one.account))
    assert len({(one.chain, one.account) for one in found}) == len(found)


# -- a user's list -------------------------------------------------------------------------------


def test_a_file_of_accounts_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, f"base,{A.upper().replace('X', 'x')},our hot wallet,we", f"*,{B},x,y")

    assert read(path, CHAINS) == [
        Never("base", A, "our hot wallet", "we"),
        Never("*", B, "x", "y"),
    ]


def test_a_broken_file_is_refused_whole(tmp_path: Path) -> None:
    path = written(
        tmp_path, f"moon,{A},x,y", "base,0x1,x,y", f"base,{A}:1,x,y", f"base,{A},,y",
        f"base,{B},x,y", f"base,{B},x,z", f"base,{C}",
    )  # fmt: skip

    with pytest.raises(ConfigError) as caught:
        read(path, CHAINS)

    assert str(caught.value) == (
        f"{path}: nothing was taken, broken lines: 6: line 2: 'moon' is no chain that we know;"
        f" line 3: '0x1' is no account; line 4: '{A}:1': name the address alone, it holds for all"
        " its numbers; line 5: why and source say what it is and who says so; line 7:"
        f" {B} stands there already; and 1 more"
    )


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ours\.txt: a file of accounts ends with \.csv"):
        read(tmp_path / "ours.txt", CHAINS)


def test_a_list_takes_the_place_of_the_one_before(connection: Connection) -> None:
    first = [Never("base", A, "x", "y"), Never("base", B, "x", "y")]
    then = [Never("base", B, "z", "y"), Never("*", C, "x", "y")]
    never_labelled.keep(connection, "project", first)

    assert never_labelled.keep(connection, "user", first) == (2, 2, 0)
    assert never_labelled.keep(connection, "user", first) == (2, 0, 0)
    assert never_labelled.keep(connection, "user", then) == (2, 2, 2)
    assert rows(connection, SAID) == [
        ("*", C, "x", "y", "user"),
        ("base", A, "x", "y", "project"),
        ("base", B, "x", "y", "project"),
        ("base", B, "z", "y", "user"),
    ]


def test_the_command_takes_labels_away_and_gives_them_back(
    quick_indexer: Command, connection: Connection, tmp_path: Path
) -> None:
    rules = labels.rules()
    owe(connection, A, f"{A}:7", B)
    labeler.apply(connection, [*rules, WHALES])
    before = rows(connection, LABELS)
    written(tmp_path, f"ethereum,{A},our hot wallet,we")

    done = quick_indexer("labels", "never", "ours.csv")

    assert (done.returncode, done.stdout, done.stderr) == (
        0, "1 accounts of yours are never called a whale: 1 new, 0 gone\n", "",
    )  # fmt: skip
    labeler.apply(connection, [*rules, WHALES])
    assert [row[1] for row in rows(connection, LABELS)] == [B]
    never_labelled.keep(connection, "user", [])
    labeler.apply(connection, [*rules, WHALES])
    assert rows(connection, LABELS) == before


def test_labelling_keeps_the_projects_part(quick_indexer: Command, connection: Connection) -> None:
    assert quick_indexer("label").returncode == 0

    assert rows(connection, SAID) == sorted(
        ((*one, "project") for one in never_of_project()), key=repr
    )


# -- what it means -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "account", "why"),
    [
        ("aave_v3.ethereum", ZERO, "the zero address"),
        ("hyperliquid", "0x" + 40 * "2", "a system address of the exchange"),
        ("hyperliquid", "0x4" + 38 * "0" + "4", "a system address of the exchange"),
        ("hyperliquid", VAULT, "the protocol vault HLP"),
        ("*", VAULT, "the protocol vault HLP"),
        ("aave_v3.ethereum", VAULT, None),
        ("compound_v2.ethereum", AAVE, "the contract pool of aave_v3.ethereum"),
        ("ethereum", AAVE, "the contract pool of aave_v3.ethereum"),
        ("*", AAVE, "the contract pool of aave_v3.ethereum"),
        ("aave_v3.base", AAVE, None),
        ("hyperliquid", AAVE, None),
        ("aave_v3.ethereum", ONE_INCH, "the 1inch aggregation router v6"),
        ("hyperliquid", ONE_INCH, "the 1inch aggregation router v6"),
        ("dolomite.ethereum", f"{SOLO}:12", "a lender of flash loans, dYdX Solo"),
        ("aave_v3.ethereum", A, None),
    ],
)
def test_an_account_is_never_called_a_whale_where_it_is_something_else(
    connection: Connection, venue: str, account: str, why: str | None
) -> None:
    connection.execute(
        "INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', %s, 'HLP', NULL, NULL, 'x')",
        (VAULT,),
    )
    never_labelled.keep(connection, "project", never_of_project())

    assert because(connection, venue, account) == why


@pytest.mark.parametrize(
    ("pattern", "kinds", "why"),
    [
        (five_in_one_transaction, ["contract"], "a liquidator contract"),
        (five_in_one_transaction, ["none", "contract"], "a liquidator contract"),
        (five_in_one_transaction, ["safe"], None),
        (five_in_one_transaction, ["contract", "eip7702"], None),
        (five_in_one_transaction, ["none"], None),
        (five_in_one_transaction, [], None),
        (four, ["contract"], None),
    ],
)
def test_a_contract_that_liquidates_others_is_no_whale_and_a_person_may_be_one(
    connection: Connection, pattern: object, kinds: list[str], why: str | None
) -> None:
    lend(connection, pattern(random.Random(1), A))  # type: ignore[operator]
    for block, kind in enumerate(kinds):
        observe(connection, A, kind, block)

    assert because(connection, "aave_v3.ethereum", A) == why
    assert because(connection, "aave_v3.base", A) is None


def test_labels_follow_what_is_known_of_a_liquidator(connection: Connection) -> None:
    rules = [*labels.rules(), WHALES]
    owe(connection, A)
    labeler.apply(connection, rules)
    lend(connection, five_in_one_transaction(random.Random(1), A))
    values.value(connection)
    labeler.apply(connection, rules)
    mine = f"{LABELS.replace('confidence, evidence, valid_from, valid_to', 'state')}"
    person = rows(connection, f"{mine} WHERE account = '{A}'")

    observe(connection, A, "contract")
    labeler.apply(connection, rules)

    liquidator = ("ethereum", A, "liquidator", "ROLE_LIQUIDATOR", "current")
    assert person == [
        ("aave_v3.ethereum", A, "whale", "WHALES", "current"),
        liquidator,
    ]
    contract = rows(connection, f"{mine} WHERE account = '{A}' AND label <> 'contract'")
    assert contract == [liquidator]


def test_a_vault_that_stands_for_its_positions_is_no_whale(connection: Connection) -> None:
    """Fluid's events name no account: the vault is proved by its factory, maybe after its rows."""
    lend(connection, four(random.Random(1), B))
    connection.execute("UPDATE ledger.lending_liquidation SET account = %s", (A,))
    labeler.apply(connection, [WHALES])
    before = rows(connection, "SELECT account FROM liq.labels")
    proved = "INSERT INTO ledger.fact VALUES ('ethereum', 'emitter', %s, %s, 1, NULL)"
    connection.execute(proved, (A, "fluid/vault"))
    connection.execute(proved, (B, None))  # asked, and nobody's

    labeler.apply(connection, [WHALES])

    assert before == [(A,)]
    assert rows(connection, "SELECT account FROM liq.labels") == []
    assert because(connection, "aave_v3.ethereum", A) == "a contract of fluid"
    assert (
        because(connection, "aave_v3.base", A) is because(connection, "fluid.ethereum", B) is None
    )
    connection.execute("DELETE FROM ledger.fact")
    labeler.apply(connection, [WHALES])
    assert rows(connection, "SELECT account FROM liq.labels") == [(A,)]


def test_a_rule_that_calls_a_router_a_whale_fails_and_nothing_is_written(
    connection: Connection,
) -> None:
    careless = WHALES.query.replace("AND ledger.never_because(venue, account) IS NULL", "")
    rule = Rule("WHALES", 1, "labels", "Careless.", {}, careless, ("liquidations",))
    never_labelled.keep(connection, "project", never_of_project())
    owe(connection, A, ONE_INCH)

    with pytest.raises(labeler.NeverLabelled) as caught:
        labeler.apply(connection, [rule])

    assert str(caught.value) == (
        f"{ONE_INCH} of aave_v3.ethereum was to be called whale and is the 1inch aggregation"
        " router v6"
    )
    assert rows(connection, LABELS) == []


# -- who liquidates ------------------------------------------------------------------------------


def test_a_liquidator_is_one_from_the_action_that_made_enough(connection: Connection) -> None:
    lend(connection, five_in_one_transaction(random.Random(1), A))
    values.value(connection)
    labeler.apply(connection, labels.rules())

    (found,) = rows(connection, f"{LABELS} WHERE rule = 'ROLE_LIQUIDATOR'")
    actions = sorted(
        f"{row.venue}/{row.account}/{row.tx_hash}"
        for row in five_in_one_transaction(random.Random(1), A)
    )
    assert found == (
        "ethereum", A, "liquidator", "ROLE_LIQUIDATOR", Decimal("0.9"), {"actions": actions},
        datetime(2025, 9, 1, tzinfo=UTC), None,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_liquidators_after_each_piece_are_those_after_all(
    connection: Connection, seed: int
) -> None:
    """Pieces in any order, labelled or not after each; rows that go and come back changed."""
    chance, lent = random.Random(seed), loans(seed)
    left = list(lent.rows)
    while left:
        piece, left = left[:15], left[15:]
        lend(connection, piece)
        if chance.random() < 0.3:
            gone = chance.sample(piece, k=2)
            connection.execute(
                "DELETE FROM ledger.lending_liquidation WHERE event_key = ANY (%s)",
                ([row.event_key for row in gone],),
            )
            lend(connection, gone)
        if chance.random() < 0.3:
            connection.execute(
                "UPDATE ledger.lending_liquidation SET liquidator = %s WHERE event_key = %s",
                (C, piece[0].event_key),
            )
        values.value(connection)
        if chance.random() < 0.6:
            labeler.apply(connection, labels.rules())
    labeler.apply(connection, labels.rules())

    in_pieces = rows(connection, LABELS)
    connection.execute("TRUNCATE ledger.label")
    labeler.apply(connection, labels.rules(), again=True)
    assert in_pieces != []
    assert rows(connection, LABELS) == in_pieces


def test_patterns_are_told_apart(connection: Connection) -> None:
    lent = loans(7)
    lend(connection, lent.rows)
    values.value(connection)
    labeler.apply(connection, labels.rules())

    assert len(lent.liquidators) == 4
    assert in_venues(connection) == sorted(lent.liquidators)
    assert liquidating(connection, lent) == sorted(lent.liquidators)


def in_venues(connection: Connection) -> Rows:
    return rows(connection, "SELECT venue, account FROM liq.labels WHERE label = 'liquidator'")


def liquidating(connection: Connection, lent: Loans) -> Rows:
    """By the function, which takes the defaults of the rule."""
    return [
        pair
        for pair in sorted(lent.liquidators | lent.others)
        if connection.execute("SELECT ledger.liquidates(%s, %s)", pair).fetchone() == (True,)
    ]
