"""What a definition may say, the one form that its hash is of, and the presets."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from indexer.errors import ConfigError
from indexer.methodology.definition import (
    FIELDS_OF,
    GROUPS,
    Definition,
    is_zone,
    parse,
    presets,
    read,
)

MINIMAL = 'id = "mine/v1"\nsays = "What I count."\nfidelity = "exact"\n'
PERP = 'instruments = ["perp"]\n'
LENDING = 'instruments = ["lending"]\n'

# Written by hand from section 5.4 of the methodology; not from the program.
STRICT = (
    '{"account_unit":"address",'
    '"assets":{"families":[],"relations":["bridged","self","wrapped"]},'
    '"chains":[],'
    '"count":"episode",'
    '"dirs":[],'
    '"fidelity":"exact",'
    '"finality":"finalized",'
    '"id":"strict/v1",'
    '"instruments":["lending","perp"],'
    '"labels":{"as_of":null,"only":[],"without":[]},'
    '"leg":"liquidated",'
    '"lending_value":"repaid",'
    '"margin_modes":["cross","isolated","unknown"],'
    '"markets":[],'
    '"methods":["absorb","adl_of_user","adl_of_vault","backstop","debt_transfer","heal","market",'
    '"pre_liquidation","repay_seize"],'
    '"minimum_usd":"0",'
    '"mirrors":"this ledger\'s default",'
    '"parties":["user"],'
    '"perp_value":"fill",'
    '"prices":["event","oracle","feed_log","reference"],'
    '"repeat":{"gap_seconds":900,"keep":"all"},'
    '"rounding":"none",'
    '"sample":null,'
    '"says":"Forced closes of users\' own positions, each trade once at the price it traded for,'
    ' and loans at the debt repaid.",'
    '"self_liquidations":"include",'
    '"stablecoins":"market_or_par",'
    '"trust":"governed",'
    '"venues":[],'
    '"window":{"rule":"calendar","zone":"UTC"}}'
)

# Section 5.6 of the methodology.
PRESETS = {
    "strict/v1": "exact",
    "gross_legs/v1": "exact",
    "gross_legs_dirtext/v1": "exact",
    "dir_liquidated/v1": "exact",
    "fills_with_marker/v1": "exact",
    "liquidated_wallet_fills/v1": "exact",
    "ledger_account/v1": "exact",
    "backstop_only/v1": "exact",
    "adl_only/v1": "exact",
    "rolling24h_orders/v1": "approximate",
    "throttle1s_last/v1": "simulated",
    "throttle1s_largest/v1": "simulated",
    "natural_day_cn/v1": "exact",
    "dune_debt/v1": "approximate",
    "dune_collateral/v1": "approximate",
    "flipside_ez/v1": "approximate",
    "allium_lending/v1": "approximate",
    "messari_lending/v1": "approximate",
    "defillama_collateral/v1": "approximate",
    "defillama_notional/v1": "approximate",
    "maker_dashboard/v1": "approximate",
    "leverage_removed/v1": "exact",
    "loss_to_users/v1": "exact",
    "protocol_loss/v1": "exact",
}

# What this project itself counts beside them.
OWN = {"sizes/v1": "exact", "whale_report/v1": "exact"}


def parsed(text: str) -> Definition:
    return parse((MINIMAL + text).encode())


# -- the form ------------------------------------------------------------------------------------


def test_the_canonical_form_is_the_one_written_by_hand() -> None:
    assert presets()["strict/v1"].canonical() == STRICT


def test_the_hash_is_that_of_the_canonical_form() -> None:
    assert presets()["strict/v1"].hash == hashlib.sha256(STRICT.encode()).hexdigest()
    # as sha256sum of GNU coreutils has it
    assert presets()["strict/v1"].hash == (
        "7bbab7a53922796561618594a510589d4438cf19dd16ad5521c6d002c472cdb2"
    )


def test_the_canonical_form_is_a_file_of_the_same_definition() -> None:
    assert parse(STRICT.encode(), "json") == presets()["strict/v1"]


def test_what_a_file_leaves_out_is_as_in_strict() -> None:
    strict = presets()["strict/v1"]

    assert parsed("") == msgspec.structs.replace(
        strict, id="mine/v1", says="What I count.", mirrors=""
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('venues = ["comet", "aave_v3"]', 'venues = ["aave_v3", "comet"]'),
        ('methods = ["absorb", "market"]', 'methods = ["market", "absorb"]'),
        ('assets = {families = ["ETH", "BTC"]}', 'assets = {families = ["BTC", "ETH"]}'),
        (
            'assets = {families = ["ETH"], relations = ["staked", "self"]}',
            'assets = {families = ["ETH"], relations = ["self", "staked"]}',
        ),
        ('labels = {only = ["b", "a"]}', 'labels = {only = ["a", "b"]}'),
        ('labels = {without = ["b", "a"]}', 'labels = {without = ["a", "b"]}'),
        (
            'labels = {only = ["a"], as_of = "2025-10-11T02:00:00+02:00"}',
            'labels = {only = ["a"], as_of = "2025-10-11T00:00Z"}',
        ),
        ("minimum_usd = 1e3", "minimum_usd = 1000.00"),
        ("minimum_usd = -0.0", "minimum_usd = 0"),
        (
            'window = {rule = "segment", series = "mark:hyperliquid/BTC", threshold = 0.030}',
            'window = {threshold = 3e-2, series = "mark:hyperliquid/BTC", rule = "segment"}',
        ),
    ],
)
def test_what_means_the_same_has_the_same_hash(one: str, other: str) -> None:
    assert parsed(one).hash == parsed(other).hash


@pytest.mark.parametrize(
    "text",
    [
        'prices = ["oracle", "event", "feed_log", "reference"]',
        "minimum_usd = 0.000000000000000001",
        "repeat = {gap_seconds = 901}",
        'window = {rule = "rolling"}',
        'window = {rule = "calendar", zone = "Asia/Shanghai"}',
    ],
)
def test_what_changes_a_number_changes_the_hash(text: str) -> None:
    assert parsed(text).hash != parsed("").hash


def test_a_decimal_keeps_every_digit_that_it_may_have() -> None:
    text = "123456789012345678.123456789012345678"

    assert str(parsed(f"minimum_usd = {text}").minimum_usd) == text


def test_the_usual_methods_are_those_of_the_instruments() -> None:
    assert parsed(PERP).methods == ("adl_of_user", "adl_of_vault", "backstop", "market")
    assert parsed(LENDING).methods == (
        "absorb", "debt_transfer", "heal", "pre_liquidation", "repay_seize",
    )  # fmt: skip


def test_each_field_but_the_names_is_in_one_group() -> None:
    fields = [field for name in GROUPS for field in FIELDS_OF[name]]

    assert sorted([*fields, "id", "says", "mirrors", "fidelity"]) == sorted(
        Definition.__struct_fields__
    )


def test_a_group_can_be_taken_from_another_definition() -> None:
    strict, chinese = presets()["strict/v1"], presets()["natural_day_cn/v1"]

    step = strict.with_group("window", chinese)

    assert step == msgspec.structs.replace(strict, window=chinese.window)
    assert step.group("window") == {"window": {"rule": "calendar", "zone": "Asia/Shanghai"}}


@pytest.mark.parametrize(
    ("text", "is_additive"),
    [
        ("", True),
        ("repeat = {gap_seconds = 60}", True),
        ('repeat = {keep = "first"}', False),
        ('repeat = {keep = "largest"}', False),
        ('sample = {seconds = 1, keep = "last"}', False),
        ("minimum_usd = 1", False),
    ],
)
def test_which_totals_add_up_over_windows(text: str, is_additive: bool) -> None:
    assert parsed(text).is_additive is is_additive


@pytest.mark.parametrize(
    ("text", "is_one_sum"),
    [
        ("", True),
        ('perp_value = "margin_lost"\nlending_value = "loss"', True),
        ('lending_value = "seized"', False),
        ('perp_value = "margin_lost"', False),
        ('perp_value = "realised"\nlending_value = "loss"', False),
        (LENDING + 'lending_value = "seized"', True),
    ],
)
def test_what_perpetuals_and_loans_are_worth_may_be_one_sum(text: str, is_one_sum: bool) -> None:
    assert parsed(text).is_one_sum is is_one_sum


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "not a definition: Object contains unknown field `colour`"),
        (
            "repeat = {gap = 1}",
            "not a definition: Object contains unknown field `gap` - at `$.repeat`",
        ),
        (
            'window = {rule = "calendar", hours = 1}',
            "not a definition: Object contains unknown field `hours` - at `$.window`",
        ),
        ('leg = "all"', "not a definition: Invalid enum value 'all' - at `$.leg`"),
        (
            'window = {rule = "weeks"}',
            "not a definition: Invalid value 'weeks' - at `$.window.rule`",
        ),
        (
            "repeat = {gap_seconds = 30}",
            "not a definition: Expected `int` >= 31 - at `$.repeat.gap_seconds`",
        ),
        (
            'venues = ["Aave V3"]',
            r"not a definition: Expected `str` matching regex '^[a-z0-9_]+(\\.[a-z0-9-]+)?$'"
            " - at `$.venues[0]`",
        ),
        ("leg = ?", "not a definition: Invalid value (at line 4, column 7)"),
    ],
)
def test_a_file_that_is_not_in_the_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text)

    assert str(error.value) == message


@pytest.mark.parametrize("id", ["strict", "strict/v0", "strict/1", "Strict/v1", "../v1", "a b/v1"])
def test_an_id_is_a_name_and_a_version(id: str) -> None:
    text = json.dumps({"id": id, "says": "", "fidelity": "exact"})

    with pytest.raises(ConfigError, match=r"matching regex .* - at `\$\.id`$"):
        parse(text.encode(), "json")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a definition: 'utf-8' codec can't decode"):
        parse(b"\xff")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('venues = ["comet", "comet"]', "venues names something twice"),
        ('prices = ["event", "event"]', "prices names something twice"),
        ('labels = {only = ["a", "a"]}', "labels.only names something twice"),
        ('assets = {families = ["ETH", "ETH"]}', "assets.families names something twice"),
        ('markets = [""]', "markets names something without a name"),
        ("instruments = []", "instruments is empty: nothing could count"),
        ("parties = []", "parties is empty: nothing could count"),
        ("margin_modes = []", "margin_modes is empty: nothing could count"),
        (
            'assets = {families = ["ETH"], relations = []}',
            "assets.relations is empty: nothing could count",
        ),
        ('methods = ["market"]', "lending is an instrument, but no method of it counts"),
        (
            PERP + 'methods = ["market", "absorb"]',
            "the method absorb is of lending, which is no instrument here",
        ),
        (
            LENDING + 'perp_value = "mark"',
            "perp_value says something of perp, which is no instrument here",
        ),
        (
            LENDING + 'margin_modes = ["cross"]',
            "margin_modes are of perp, which is no instrument here",
        ),
        (
            PERP + 'lending_value = "bonus"',
            "lending_value says something of lending, which is no instrument here",
        ),
        (
            'assets = {relations = ["self"]}',
            "assets.relations says what belongs to a family: name one in assets.families",
        ),
        (
            PERP + 'methods = ["ledger_update", "market"]\nperp_value = "mark"\ncount = "action"',
            "ledger_update tells of the same liquidations as fills do: it stands alone",
        ),
        (
            PERP + 'methods = ["ledger_update"]\nperp_value = "mark"',
            "ledger_update values accounts at mark: perp_value mark, count action or account",
        ),
        (
            PERP + 'methods = ["ledger_update"]\nperp_value = "mark"\ncount = "action"\n'
            'dirs = ["Liquidated"]',
            "ledger_update has neither dirs nor orders to sample",
        ),
        ('leg = "both"', "only a perpetual's trade has a counterparty's leg: instruments perp"),
        (
            PERP + 'leg = "counterparty"\nperp_value = "realised"',
            "realised is of the liquidated account alone: leg liquidated",
        ),
        ('dirs = ["Liquidated"]', "dirs are texts on fills of perpetuals: instruments perp"),
        (
            'window = {rule = "blocks"}',
            "a window of blocks is of one chain: name it in chains",
        ),
        (
            'chains = ["base", "ethereum"]\nwindow = {rule = "blocks"}',
            "a window of blocks is of one chain: name it in chains",
        ),
        ('window = {rule = "calendar", zone = "CEST"}', "'CEST' is no time zone"),
        ('window = {rule = "calendar", zone = "localtime"}', "'localtime' is no time zone"),
        (
            'window = {rule = "segment", series = "file:a/b/c", threshold = 1}',
            "the threshold of a segment is a share between 0 and 1, of 18 digits",
        ),
        (
            'window = {rule = "segment", series = "file:a/b/c", threshold = 0}',
            "the threshold of a segment is a share between 0 and 1, of 18 digits",
        ),
        ("minimum_usd = -1", "minimum_usd is a number of dollars from 0 up, of 18 digits"),
        ("minimum_usd = nan", "minimum_usd is a number of dollars from 0 up, of 18 digits"),
        ("minimum_usd = inf", "minimum_usd is a number of dollars from 0 up, of 18 digits"),
        ("minimum_usd = 1e99999999", "minimum_usd is a number of dollars from 0 up, of 18 digits"),
        ("minimum_usd = 1e-19", "minimum_usd is a number of dollars from 0 up, of 18 digits"),
        (
            'sample = {seconds = 1, keep = "last"}\nrepeat = {keep = "first"}',
            "a sample of orders and a choice of an episode's actions exclude each other",
        ),
        (
            'labels = {as_of = "2025-10-11T00:00:00Z"}',
            "labels have an as_of, but no label is asked for",
        ),
        (
            'labels = {only = ["a"], without = ["a"]}',
            "labels ask for the same label with and without",
        ),
        (
            'labels = {only = ["a"], as_of = "2025-10-11T00:00:00"}',
            "labels.as_of is a time with a zone, as 2025-10-11T00:00:00Z",
        ),
        (
            'labels = {only = ["a"], as_of = "0001-01-01T00:00:00+01:00"}',
            "labels.as_of is a time with a zone, as 2025-10-11T00:00:00Z",
        ),
        ('prices = ["binance"]', "'binance' is no price source"),
        ("prices = []", "loans have no value without prices"),
        (
            PERP + 'prices = []\nstablecoins = "market"',
            "a dollar token has no market price without prices",
        ),
    ],
)
def test_what_cannot_go_together_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(text)

    assert str(error.value) == f"mine/v1: {problem}"


@pytest.mark.parametrize("name", ["posix/UTC", "right/UTC", "posixrules", "", "../UTC", "utc"])
def test_a_zone_is_one_that_every_machine_knows(name: str) -> None:
    assert not is_zone(name)


def test_a_file_is_named_where_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"id": "mine/v1"}')

    with pytest.raises(ConfigError) as error:
        read(path)

    assert str(error.value) == (f"{path}: not a definition: Object missing required field `says`")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "mine.toml")

    assert str(error.value) == f"{tmp_path / 'mine.toml'}: No such file or directory"


# -- the presets ---------------------------------------------------------------------------------


def test_the_presets_are_those_of_the_methodology_and_our_own() -> None:
    assert {id: definition.fidelity for id, definition in presets().items()} == PRESETS | OWN


def test_a_preset_is_in_the_file_of_its_name() -> None:
    folder = Path(read.__code__.co_filename).parent / "presets"

    assert {path.stem for path in folder.iterdir()} == {id.split("/")[0] for id in PRESETS | OWN}


def test_no_two_presets_count_the_same() -> None:
    meanings = {
        msgspec.structs.replace(preset, id="a/v1", says="", mirrors="", fidelity="exact").hash
        for preset in presets().values()
    }

    assert len(meanings) == len(PRESETS | OWN)
