"""What `indexer venues` prints in each form, with a database and without."""

import csv
import io
import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from indexer.catalogue import SAYS, families, families_page, venues
from indexer.venues.evm import specs
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.node import Node, comet_of
from tests.conftest import Command
from tests.quick_start import Starter

FAMILIES = families(specs())
VENUES = venues(FAMILIES)


@pytest.fixture
def listed(start: Starter, tmp_path: Path) -> Command:
    """The command, where there is no database and none may be started."""

    def run(*arguments: object, **environment: str) -> CompletedProcess[str]:
        nowhere = {"INDEXER_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200"}
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        words = ["venues", *map(str, arguments)]
        done = start.run(words, {**kept, **nowhere, **environment}, tmp_path, None)
        assert not (tmp_path / "data").exists()
        return done

    return run


def test_a_table_has_a_line_for_each_venue(listed: Command) -> None:
    done = listed()

    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split("  ")[0].strip() == "venue"
    assert [line.split()[0] for line in lines] == [one.venue for one in VENUES]


def test_json_has_all_that_is_known_of_each_contract(listed: Command) -> None:
    found = json.loads(listed("--protocol", "spark", "--format", "json").stdout)

    assert [one["venue"] for one in found] == ["spark.ethereum", "spark.gnosis"]
    assert found[0].pop("methodology").startswith("Debt `debtToCover`")
    assert found[0] == {
        "venue": "spark.ethereum",
        "family": "aave_v3",
        "kind": "lending",
        "chain": "ethereum",
        "first_block": 16776401,
        "method": "joined",
        "is_listed": False,
        "evidence": "real receipt or log",
        "covered_to": None,
        "checked_to": None,
        "checked_at": None,
        "events": ["LiquidationCall"],
        "beside": ["DeficitCreated", "Transfer"],
        "contracts": [
            {
                "address": "0xC13e21B648A5Ee794902342038FF3aDAB66BE987",
                "role": "pool",
                "since_block": 16776401,
                "label": None,
                "source": "sparkdotfi/spark-address-registry:src/SparkLend.sol",
            }
        ],
    }


def test_csv_has_a_line_for_each_contract_with_its_source(listed: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(listed("--format", "csv").stdout)))

    deployed = [at for one in VENUES for at in one.deployments]
    assert [row["source"] for row in rows if row["address"]] == [at.source for at in deployed]
    assert [row["venue"] for row in rows if not row["address"]] == ["hyperliquid"]
    assert {row["evidence"] for row in rows} <= set(SAYS.values())


def test_md_is_the_table_of_the_docs(listed: Command) -> None:
    assert listed("--format", "md").stdout == families_page(FAMILIES)


def test_a_filter_holds_for_every_form(listed: Command) -> None:
    words = ("--chain", "gnosis", "--protocol", "aave_v3")
    of_gnosis = ["aave_v3.gnosis", "realt_rmm_marketplace_v2.gnosis", "spark.gnosis"]

    lines = listed(*words).stdout.splitlines()
    table = listed(*words, "--format", "md").stdout.splitlines()

    assert [line.split()[0] for line in lines[1:]] == of_gnosis
    assert len(table) == 3
    assert "| also `realt_rmm_marketplace_v2`, `spark` | gnosis |" in table[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--chain", "nowhere"), "Error: no chain 'nowhere'; chains are "),
        (("--protocol", "nobody"), "Error: no protocol 'nobody'; there are "),
    ],
)
def test_an_unknown_name_is_wrong_usage(listed: Command, words: tuple[str, str], said: str) -> None:
    done = listed(*words)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(said)


def test_two_names_that_never_meet_give_nothing_in_any_form(listed: Command) -> None:
    words = ("--chain", "gnosis", "--protocol", "comet")
    done = [listed(*words, "--format", form) for form in ("table", "json", "csv", "md")]
    assert [(one.returncode, len(one.stdout.splitlines())) for one in done] == [
        (0, 1), (0, 1), (0, 1), (0, 2),
    ]  # fmt: skip


def test_the_users_own_deployments_are_listed(listed: Command, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    own = {"protocol": "aave_v3", "chain": "mine", "address": "0x" + 40 * "1", "role": "pool"}
    file.write_text(json.dumps([{**own, "source": "mine", "since_block": 7}]))

    done = listed("--chain", "mine", "--format", "csv", INDEXER_DEPLOYMENTS=str(file))

    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["venue"], row["first_block"], row["source"]) == ("aave_v3.mine", "7", "mine")


def test_a_database_that_is_away_takes_only_the_checks(listed: Command) -> None:
    done = listed("--protocol", "agave", DATABASE_URL="postgresql://u:s3cr3t@127.0.0.1:1/db")

    assert done.returncode == 0
    assert "agave.gnosis" in done.stdout
    assert done.stderr.startswith("last checks are unknown: cannot connect to 127.0.0.1:1/db")
    assert "s3cr3t" not in done.stderr


def test_how_far_a_venue_was_read_and_when_again(quick_indexer: Command) -> None:
    chain = ModelChain(Config(seed=3))
    chain.mine(40)
    first, last = chain.branch.blocks[0].number, chain.finalized
    words = ("--protocol", "aave_v2", "--chain", "ethereum", "--format", "json")
    with Node(chain, calls=comet_of(chain)) as node:
        bounds = ("--from", first, "--to", last + 1)
        quick_indexer("backfill", "aave_v2.ethereum", *bounds, RPC_ETHEREUM=node.url)
        before = json.loads(quick_indexer("venues", *words).stdout)
        quick_indexer("check", "aave_v2.ethereum", "--last", 10, RPC_ETHEREUM=node.url)
        after = json.loads(quick_indexer("venues", *words).stdout)

    names = ("covered_to", "checked_to")
    of_aave = [
        next(one for one in found if one["venue"] == "aave_v2.ethereum")
        for found in (before, after)
    ]
    assert [[one[name] for name in names] for one in of_aave] == [[last, None], [last, last]]
    assert of_aave[0]["checked_at"] is None
    assert of_aave[1]["checked_at"].startswith("20")
