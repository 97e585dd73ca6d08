"""Reconciliations over a real database: every hybrid, step, part and range against the model of
`definition_model`, which shares no code with the SQL, and cases whose numbers were worked out by
hand."""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from indexer.errors import ConfigError
from indexer.methodology.definition import GROUPS, Definition, parse, presets
from indexer.methodology.reconcile import (
    Counted,
    Moved,
    Outside,
    Reconciliation,
    Row,
    Rows,
    Step,
    exact_sum,
    waterfall,
)
from indexer.methodology.windows import Window, resolve
from indexer.store import database, reconciliation
from indexer.store.database import Connection
from indexer.store.reconciliation import Asked
from indexer.store.server import Server
from tests import definition_model as model
from tests.postgres import database as throw_away
from tests.test_prose import FIELDS, METHODS, Raw, defined, mended, sets

T0 = datetime(2025, 10, 10, 12, tzinfo=UTC)
NOW = datetime(2025, 10, 12, tzinfo=UTC)
KNOWN = datetime(2025, 10, 11, 18, tzinfo=UTC)  # when the labels of the world changed
ALICE, BOB, CAROL, VAULT = ("0x" + 40 * digit for digit in "abc9")
WETH, USDC, ODD = ("0x" + 40 * digit for digit in "123")


def insert(connection: Connection, table: str, row: Mapping[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ledger.{table} ({names}) VALUES ({places})", row)


# -- a world of random rows ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2])
def world(request: pytest.FixtureRequest, postgres: Server, migrated: str) -> Iterator[Connection]:
    """Rows of all kinds, with values or without, on two days."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as connection:
        fill(connection, random.Random(request.param))
        yield connection


def fill(connection: Connection, rng: random.Random) -> None:
    for number in range(60):
        perp(connection, rng, number)
    for number in range(40):
        loan(connection, rng, number)
    for number in range(6):
        insert(connection, "ledger_liquidation", {
            "venue": "hyperliquid", "event_key": f"ledger/{number}", "tx_hash": f"0x{number % 9}",
            "account": rng.choice([ALICE, BOB, VAULT]), "block_number": 100 + number,
            "block_at": moment(rng), "account_value": 1, "notional_mark": money(rng),
            "margin_mode": rng.choice(["Cross", "Isolated"]), "positions": "[]",
        })  # fmt: skip
    vault = {"venue": "hyperliquid", "account": VAULT, "name": "vault", "source": "test"}
    insert(connection, "protocol_vault", vault)
    for chain in ("ethereum", "base"):
        for token, family, decimals in ((WETH, "ETH", 18), (USDC, "USD", 6)):
            insert(connection, "asset",
                   {"chain": chain, "address": token, "decimals": decimals})  # fmt: skip
            insert(connection, "asset_kin", {
                "chain": chain, "address": token, "family": family, "relation": "wrapped",
                "source": "test",
            })  # fmt: skip
    insert(connection, "stream", {"chain": "ethereum", "next_block": 200, "tip_hash": "0x",
                                  "finalized_block": 120, "epoch": 1})  # fmt: skip
    for venue in ("hyperliquid", "aave_v3.ethereum"):
        for account, until in ((ALICE, ""), (BOB, KNOWN.isoformat())):
            insert(connection, "label", {
                "venue": venue, "account": account, "label": "fund", "rule": "test",
                "rule_version": 1, "confidence": 1, "evidence": "{}",
                "valid_during": "[2025-10-10 18:00+00,)",
                "recorded_during": f"[2025-10-10 00:00+00,{until})",
            })  # fmt: skip


def moment(rng: random.Random) -> datetime:
    """Few different ones, so that rows share blocks, episodes and seconds."""
    return T0 + timedelta(seconds=rng.choice([0, 20, 600, 1200, 5000]) + 7200 * rng.randrange(12))


def money(rng: random.Random) -> Decimal:
    """With more digits than cents, and often the same."""
    return Decimal(rng.choice([100, 2500, 99_999, rng.randrange(10**9)])).scaleb(-3)


def maybe(rng: random.Random, value: Any) -> Any:
    return None if rng.random() < 0.2 else value


def perp(connection: Connection, rng: random.Random, number: int) -> None:
    account, other = (rng.choice([ALICE, BOB, CAROL, VAULT]) for _ in range(2))
    market = rng.choice(["ETH", "BTC", "xyz:TSLA"])
    key, at = f"{number}/{market}/1", moment(rng)
    insert(connection, "liquidation", {
        "venue": "hyperliquid", "event_key": key, "account": account, "block_number": 100 + number,
        "block_at": at, "tx_hash": maybe(rng, f"0x{number // 3}"),
        "method": rng.choice([m for m in METHODS if model.PERP_METHODS & {m}]), "market": market,
        "dex": market.rpartition(":")[0], "quote": "USDC", "side": rng.choice(["long", "short"]),
        "size": 1, "price": 1, "notional": 1, "is_full_close": maybe(rng, rng.random() < 0.5),
        "margin_mode": rng.choice(["cross", "isolated", None]),
        "order_id": maybe(rng, str(number // 2)), "counterparty": other,
        "counterparty_kind": rng.choice(["maker", "adl_winner", "protocol_vault"]),
        "account_is_protocol_vault": account == VAULT,
        "dir_liquidated": rng.choice(["a", "b", None]),
        "dir_counterparty": rng.choice(["a", "甲", None]),
        "legs_seen": rng.choice(["both", "both", "liquidated", "counterparty"]),
        "decoder_version": 1,
    })  # fmt: skip
    for source in rng.sample(["par", "file:a-b"], rng.randrange(3)):
        bases = ("fill", "mark", "bankruptcy", "margin_lost", "realised")
        insert(connection, "valuation", {
            "venue": "hyperliquid", "block_at": at, "event_key": key, "account": account,
            "price_source": source, "quote_trust": rng.choice(["governed", "market"]),
            **{f"{basis}_usd": maybe(rng, money(rng)) for basis in bases},
        })  # fmt: skip


def loan(connection: Connection, rng: random.Random, number: int) -> None:
    venue = rng.choice(["aave_v3.ethereum", "comet.base"])
    account = rng.choice([ALICE, BOB, CAROL])
    log = f"0x{number // 3:064x}/{number}"
    key, at = log + rng.choice(["", "", "/1"]), moment(rng)
    debt, collateral = rng.choice([USDC, WETH, None]), rng.choice([USDC, WETH, ODD])
    insert(connection, "lending_liquidation", {
        "venue": venue, "event_key": key, "account": account, "block_number": 100 + number,
        "block_at": at, "method": rng.choice([m for m in METHODS if not model.PERP_METHODS & {m}]),
        "market": rng.choice(["a", "b"]), "owner": maybe(rng, rng.choice([ALICE, VAULT])),
        "liquidator": maybe(rng, rng.choice([ALICE, BOB])), "repaid_asset": debt,
        "repaid_raw": debt and rng.randrange(10**9), "seized_asset": collateral,
        "seized_raw": rng.randrange(10**9), "seized_is_shares": rng.random() < 0.2,
        "protocol_fee_raw": maybe(rng, rng.randrange(10**6)),
        "fee_in_seized": rng.choice([True, False, None]), "decoder_version": 1,
    })  # fmt: skip
    bases = ("repaid", "seized", "bad_debt", "bonus")
    for source in rng.sample(["event", "oracle", "reference", "file:a-b"], rng.randrange(4)):
        insert(connection, "valuation", {
            "venue": venue, "block_at": at, "event_key": key, "account": account,
            "price_source": source, "seized_net_usd": maybe(rng, money(rng)),
            **{f"{basis}_usd": maybe(rng, money(rng)) for basis in bases},
            **{f"{basis}_trust": rng.choice(["governed", "market"]) for basis in bases},
        })  # fmt: skip


# -- pairs of definitions ------------------------------------------------------------------------

MINE: dict[str, st.SearchStrategy[Any]] = FIELDS | {
    "window": st.one_of(
        st.fixed_dictionaries({"rule": st.just("calendar"), "zone": st.sampled_from(
            ["UTC", "Asia/Shanghai", "America/New_York"])}),
        st.fixed_dictionaries({"rule": st.just("rolling"), "hours": st.integers(1, 48)}),
    ),
    "venues": sets(st.sampled_from(["aave_v3", "comet.base", "hyperliquid"])),
    "chains": sets(st.sampled_from(["base", "ethereum", "hyperliquid"])),
    "markets": sets(st.sampled_from(["a", "ETH", "BTC", "xyz:TSLA"])),
    "dirs": sets(st.sampled_from(["a", "b", "甲", "'; --"])),
    "labels": st.fixed_dictionaries(
        {"only": sets(st.just("fund")), "without": sets(st.sampled_from(["fund", "'x"]))},
        optional={"as_of": st.sampled_from(["2025-10-11T00:00:00Z", "2025-10-13T00:00:00Z"])},
    ),
    "minimum_usd": st.sampled_from(["1", "50", "1000.5"]),
}  # fmt: skip
USUAL: Raw = {
    name: value for name, value in msgspec.to_builtins(presets()["strict/v1"]).items()
    if name in MINE
} | {"methods": METHODS}  # fmt: skip
WORDS = st.sampled_from(
    [
        "2025-10-10", "2025-10-11", "2025-10", "2025-10-10T20:00Z", "now",
        "2025-10-10T20:00Z..2025-10-11T04:00Z", "2025-10-11..2025-10-11T03:00Z",
    ]
)  # fmt: skip
OF_THE_LEDGER = presets()["ledger_account/v1"]


# What differs from the usual: where much does, hardly a row is left.
somewhat = st.lists(st.sampled_from(sorted(MINE)), unique=True, max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: MINE[name] for name in names})
)


@st.composite
def asked_pairs(draw: st.DrawFn, groups: st.SearchStrategy[list[str]]) -> tuple[Asked, Asked]:
    """A definition, and it with some groups of another one."""
    a, b = (defined(mended(summable(USUAL | draw(somewhat)))) for _ in range(2))
    if draw(st.integers(0, 9)) == 0:
        b = OF_THE_LEDGER
    changed = a
    for name in draw(groups):
        changed = changed.with_group(name, b)
    assume(is_valid(a) and is_valid(changed))
    return Asked(a, windowed(a, draw(WORDS))), Asked(changed, windowed(changed, draw(WORDS)))


def windowed(definition: Definition, words: str) -> Window:
    """Where a zone leaves the words no time, the day."""
    try:
        return resolve(definition.window, words, NOW)
    except ConfigError:
        return resolve(definition.window, "2025-10-11", NOW)


def summable(raw: Raw) -> Raw:
    """What is worth not alike is of one kind alone."""
    value = (raw["perp_value"], raw["lending_value"])
    if value in model.ALIKE:
        return raw
    perps = [method for method in raw["methods"] if method in model.PERP_METHODS]
    return raw | {"methods": perps or raw["methods"]}


def is_valid(definition: Definition) -> bool:
    try:
        return parse(definition.canonical().encode(), "json").is_one_sum
    except ConfigError:
        return False


few = st.lists(st.sampled_from(GROUPS), unique=True, max_size=3)
LENIENT = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


class Check:
    """A reconciliation beside what the model says of it."""

    def __init__(self, connection: Connection, a: Asked, b: Asked) -> None:
        self.connection = connection
        self.found = reconciliation.reconcile(connection, a, b, {}, "")
        self.tables = model.read(connection)
        self.a, self.b = a, b

    def lines(self, groups: frozenset[str]) -> list[model.Line]:
        """What a hybrid counts."""
        definition = self.a.definition
        for name in groups:
            definition = definition.with_group(name, self.b.definition)
        window = (self.b if "window" in groups else self.a).window
        assert window.low is not None and window.high is not None
        found = model.lines(self.tables, definition, window.low, window.high)
        return [line for line in found if line.line == "counted"]

    def total(self, groups: frozenset[str]) -> Decimal:
        return exact_sum(line.usd for line in self.lines(groups) if line.usd is not None)

    def totals(self) -> dict[frozenset[str], Decimal]:
        """Of every hybrid."""
        groups = [step.group for step in self.found.steps]
        sizes = range(len(groups) + 1)
        chosen = (frozenset(s) for size in sizes for s in combinations(groups, size))
        return {of_b: self.total(of_b) for of_b in chosen}

    def kinds(self) -> dict[str, tuple[int, Decimal]]:
        """Records and money of each kind of part."""
        a, b = (
            {(ln.venue, ln.event_key, ln.liquidated, ln.leg): ln.usd for ln in self.lines(groups)}
            for groups in (frozenset[str](), frozenset(GROUPS))
        )
        told = {
            "only_a": [-(a[key] or 0) for key in a.keys() - b.keys()],
            "only_b": [b[key] or 0 for key in b.keys() - a.keys()],
            "revalued": [
                less(b[key] or 0, a[key] or 0) for key in a.keys() & b.keys() if a[key] != b[key]
            ],
        }
        return {kind: (len(usd), exact_sum(map(Decimal, usd))) for kind, usd in told.items() if usd}

    def rows(self, sql: str) -> tuple[int, Decimal]:
        """How many rows a query gives, and their money."""
        row: Any = self.connection.execute(
            f"SELECT count(*), coalesce(sum(usd), 0) FROM ({sql}) shown"
        ).fetchone()
        return row


def less(b: Decimal | int, a: Decimal | int) -> Decimal:
    with localcontext(prec=300):
        return Decimal(b) - Decimal(a)


def said_kinds(found: Reconciliation) -> dict[str, tuple[int, Decimal]]:
    return {
        kind: (
            sum(part.records for part in found.parts if part.kind == kind),
            exact_sum(part.usd for part in found.parts if part.kind == kind),
        )
        for kind in {part.kind for part in found.parts}
    }


@settings(max_examples=25, deadline=None, suppress_health_check=LENIENT)
@given(pair=asked_pairs(few))
def test_steps_and_parts_are_what_the_model_says_and_their_sql_gives_them(
    world: Connection, pair: tuple[Asked, Asked]
) -> None:
    check = Check(world, *pair)
    found, hybrids = check.found, check.totals()
    assert found.goal is not None
    change = less(found.goal.usd, found.a.usd)

    assert (found.a.usd, found.goal.usd) == (hybrids[frozenset()], check.total(frozenset(GROUPS)))
    assert found.steps == waterfall(
        [step.group for step in found.steps], hybrids,
        {step.group: step.affected for step in found.steps if step.affected},
    )  # fmt: skip
    assert exact_sum(step.usd for step in found.steps) == change
    assert exact_sum(step.mean_usd for step in found.steps) == change
    assert exact_sum(part.usd for part in found.parts) == change
    assert said_kinds(found) == check.kinds()
    groups = {step.group for step in found.steps}
    assert {part.reason for part in found.parts} <= groups | {"repeat"}
    steps = [(step.usd, step.affected) for step in found.steps if step.affected is not None]
    assert [check.rows(one.sql) for _, one in steps] == [(one.records, usd) for usd, one in steps]
    assert [check.rows(p.sql) for p in found.parts] == [(p.records, p.usd) for p in found.parts]


@settings(max_examples=3, deadline=None, suppress_health_check=LENIENT)
@given(pair=asked_pairs(st.just(list(GROUPS))))
def test_definitions_that_differ_in_all_they_can_add_up(
    world: Connection, pair: tuple[Asked, Asked]
) -> None:
    check = Check(world, *pair)
    found = check.found
    assert found.goal is not None

    assert (found.a.usd, found.goal.usd) == (
        check.total(frozenset()), check.total(frozenset(GROUPS)),
    )  # fmt: skip
    change = less(found.goal.usd, found.a.usd)
    assert exact_sum(step.usd for step in found.steps) == change
    assert exact_sum(part.usd for part in found.parts) == change


# -- a world whose numbers are worked out by hand ------------------------------------------------

DAVE = "0x" + 40 * "d"
BY_HAND = (  # key, account, when, method, and what it was worth as fill, at mark, as realised
    ("0/ETH/1", ALICE, "09T17:00", "market", "5", "5", "0"),
    ("1/ETH/1", ALICE, "10T15:00", "market", "100", "110", "-10"),
    ("2/ETH/1", ALICE, "10T21:15", "market", "40", "50", "-4"),
    ("3/BTC/1", ALICE, "10T21:16:30", "market", "8", "9", "1"),
    ("4/BTC/1", BOB, "10T21:20", "backstop", "200", None, "-20"),
    ("5/SOL/1", BOB, "10T16:00", "market", None, None, None),
    ("6/BTC/1", VAULT, "10T22:00", "adl_of_vault", "300", "300", "-50"),
    ("7/SOL/1", ALICE, "11T02:00", "market", "3", "3", "0"),
)
LOANS = (  # key, when, height, who vouches, debt in millionths of a dollar token, its worth
    ("0x1", "10T18:00", 120, "governed", 1_001_000_000, "1000"),
    ("0x2", "10T18:00", 120, "market", 500_000_000, "500"),
    ("0x3", "10T18:30", 121, "governed", 70_000_000, "70"),
)


def october(text: str) -> datetime:
    return datetime.fromisoformat(f"2025-10-{text}").replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def by_hand(postgres: Server, migrated: str) -> Iterator[Connection]:
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as connection:
        store_by_hand(connection)
        yield connection


def store_by_hand(connection: Connection) -> None:
    for key, account, at, method, fill_usd, mark_usd, realised_usd in BY_HAND:
        insert(connection, "liquidation", {
            "venue": "hyperliquid", "event_key": key, "account": account,
            "block_number": int(key[0]), "block_at": october(at), "tx_hash": f"0x{key[0]}",
            "method": method, "market": key.split("/")[1], "dex": "", "quote": "USDC",
            "side": "long", "size": 1, "price": 1, "notional": 1, "order_id": key[0],
            "counterparty": None if method == "market" else DAVE,
            "counterparty_kind": None if method == "market" else "protocol_vault",
            "account_is_protocol_vault": account == VAULT, "dir_liquidated": "Close Long",
            "legs_seen": "liquidated" if method == "market" else "both", "decoder_version": 1,
        })  # fmt: skip
        if fill_usd is not None:
            insert(connection, "valuation", {
                "venue": "hyperliquid", "block_at": october(at), "event_key": key,
                "account": account, "price_source": "par", "quote_trust": "governed",
                "fill_usd": fill_usd, "mark_usd": mark_usd, "realised_usd": realised_usd,
            })  # fmt: skip
    insert(connection, "valuation", {
        "venue": "hyperliquid", "block_at": october("10T15:00"), "event_key": "1/ETH/1",
        "account": ALICE, "price_source": "file:desk", "quote_trust": "governed",
        "fill_usd": "99.9",
    })  # fmt: skip
    for key, at, height, trust, raw, usd in LOANS:
        insert(connection, "lending_liquidation", {
            "venue": "aave_v3.ethereum", "event_key": key + "/7", "account": CAROL,
            "block_number": height, "block_at": october(at), "method": "repay_seize",
            "market": "pool", "repaid_asset": USDC, "repaid_raw": raw, "seized_asset": WETH,
            "seized_raw": 10**18, "seized_is_shares": False, "decoder_version": 1,
        })  # fmt: skip
        insert(connection, "valuation", {
            "venue": "aave_v3.ethereum", "block_at": october(at), "event_key": key + "/7",
            "account": CAROL, "price_source": "oracle", "repaid_usd": usd,
            "repaid_trust": trust, "seized_usd": usd, "seized_trust": trust,
        })  # fmt: skip
    insert(connection, "asset", {"chain": "ethereum", "address": USDC, "decimals": 6})
    insert(connection, "asset_kin", {
        "chain": "ethereum", "address": USDC, "family": "USD", "relation": "self",
        "source": "test",
    })  # fmt: skip
    insert(connection, "stream", {"chain": "ethereum", "next_block": 130, "tip_hash": "0x",
                                  "finalized_block": 120, "epoch": 1})  # fmt: skip


def asked(raw: Raw, words: str = "2025-10-10") -> Asked:
    definition = defined(raw)
    chain = definition.chains[0] if definition.chains else None
    return Asked(definition, resolve(definition.window, words, NOW, chain=chain))


Parts = list[tuple[str, str, int, int, str]]
PERPS: Raw = {"instruments": ["perp"]}
DESK: Raw = {"prices": ["oracle", "file:desk"]}


@pytest.mark.parametrize(
    ("a", "b", "total", "step", "parts"),
    [
        pytest.param(
            {}, {"finality": "latest"}, "1348", ("coverage", "70", 1, 0),
            [("only_b", "coverage", 1, 0, "70")], id="coverage",
        ),
        pytest.param(
            {}, {"window": {"rule": "calendar", "zone": "Asia/Shanghai"}}, "1348",
            ("window", "-1243", 6, 1),
            [("only_a", "window", 5, 1, "-1248"), ("only_b", "window", 1, 0, "5")], id="window",
        ),
        pytest.param(
            {}, {"markets": ["ETH"]}, "1348", ("scope", "-1208", 4, 1),
            [("only_a", "scope", 4, 1, "-1208")], id="scope",
        ),
        pytest.param(
            {}, {"trust": "any"}, "1348", ("scope", "500", 1, 0),
            [("only_b", "scope", 1, 0, "500")], id="trust",
        ),
        pytest.param(
            {}, {"methods": ["market", "adl_of_vault", "repay_seize"]}, "1348",
            ("methods", "-200", 1, 0), [("only_a", "methods", 1, 0, "-200")], id="methods",
        ),
        pytest.param(
            {}, {"parties": ["user", "protocol_vault"]}, "1348", ("party", "300", 1, 0),
            [("only_b", "party", 1, 0, "300")], id="party",
        ),
        pytest.param(
            PERPS, PERPS | {"leg": "both"}, "348", ("leg", "200", 1, 0),
            [("only_b", "leg", 1, 0, "200")], id="leg",
        ),
        pytest.param(
            {}, {"repeat": {"keep": "first"}}, "1348", ("repeat", "-8", 1, 0),
            [("only_a", "repeat", 1, 0, "-8")], id="repeat",
        ),
        pytest.param(
            {}, {"perp_value": "mark"}, "1348", ("valuation", "-179", 4, 1),
            [("revalued", "valuation", 4, 1, "-179")], id="valuation",
        ),
        pytest.param(
            DESK, DESK | {"stablecoins": "par"}, "1347.9", ("price", "1.1", 2, 0),
            [("revalued", "price", 2, 0, "1.1")], id="price",
        ),
    ],
)  # fmt: skip
def test_a_group_alone_makes_the_whole_difference(
    by_hand: Connection, a: Raw, b: Raw, total: str, step: tuple[str, str, int, int], parts: Parts
) -> None:
    found = reconciliation.reconcile(by_hand, asked(a), asked(b), {}, "")

    group, usd, records, unvalued = step
    change = Decimal(usd)
    assert found.a.usd == Decimal(total)
    assert [
        (s.group, s.usd, s.running_usd, s.least_usd, s.most_usd, s.mean_usd, s.affected.records,
         s.affected.unvalued)
        for s in found.steps if s.affected is not None
    ] == [
        (group, change, Decimal(total) + change, change, change, change, records, unvalued)
    ]  # fmt: skip
    assert [
        (p.kind, p.reason, p.records, p.unvalued, f"{p.usd.normalize():f}") for p in found.parts
    ] == parts


def test_definitions_that_say_the_same_have_no_step_and_no_part(by_hand: Connection) -> None:
    found = reconciliation.reconcile(by_hand, asked({}), asked({"says": "again"}), {}, "")

    assert (found.steps, found.parts, found.differences) == ((), (), ())


def test_a_step_may_add_or_take_away_as_its_place_in_the_order_says(by_hand: Connection) -> None:
    b = PERPS | {"parties": ["user", "protocol_vault"], "perp_value": "realised"}

    found = reconciliation.reconcile(by_hand, asked(PERPS), asked(b), {}, "")

    usd = Decimal
    assert [msgspec.structs.replace(step, affected=None) for step in found.steps] == [
        Step("party", usd(300), usd(648), usd(-50), usd(300), usd(125), None),
        Step("valuation", usd(-731), usd(-83), usd(-731), usd(-381), usd(-556), None),
    ]
    assert [step.affected and step.affected.accounts for step in found.steps] == [
        (Moved("hyperliquid", VAULT, usd(300)),),
        (Moved("hyperliquid", VAULT, usd(-350)), Moved("hyperliquid", BOB, usd(-220)),
         Moved("hyperliquid", ALICE, usd(-161))),
    ]  # fmt: skip
    assert parts_of(found) == [
        ("only_b", "party", 1, usd(-50)), ("revalued", "valuation", 4, usd(-381)),
    ]  # fmt: skip
    assert found.rows == Rows(
        only_b=(
            Row("party", f"hyperliquid/6/BTC/1/{VAULT}", "hyperliquid", VAULT, "BTC",
                october("10T22:00"), None, usd(-50)),
        ),
        revalued=(
            Row("valuation", f"hyperliquid/4/BTC/1/{BOB}", "hyperliquid", BOB, "BTC",
                october("10T21:20"), usd(200), usd(-20)),
            Row("valuation", f"hyperliquid/1/ETH/1/{ALICE}", "hyperliquid", ALICE, "ETH",
                october("10T15:00"), usd(100), usd(-10)),
            Row("valuation", f"hyperliquid/2/ETH/1/{ALICE}", "hyperliquid", ALICE, "ETH",
                october("10T21:15"), usd(40), usd(-4)),
            Row("valuation", f"hyperliquid/3/BTC/1/{ALICE}", "hyperliquid", ALICE, "BTC",
                october("10T21:16:30"), usd(8), usd(1)),
        ),
    )  # fmt: skip


def of_a_dex(connection: Connection, fill_usd: str, mark_usd: str) -> None:
    """One trade in a market whose mark is what its deployer says."""
    key = {
        "venue": "hyperliquid", "block_at": october("10T15:00"), "event_key": "1/xyz:TSLA/1",
        "account": ALICE,
    }  # fmt: skip
    insert(connection, "liquidation", key | {
        "block_number": 1, "method": "market", "market": "xyz:TSLA", "dex": "xyz", "quote": "USDC",
        "side": "long", "size": 1, "price": 1, "notional": 1, "account_is_protocol_vault": False,
        "legs_seen": "both", "counterparty": BOB, "decoder_version": 1,
    })  # fmt: skip
    insert(connection, "valuation", key | {
        "price_source": "par", "quote_trust": "governed", "fill_usd": fill_usd,
        "mark_usd": mark_usd,
    })  # fmt: skip


def parts_of(found: Reconciliation) -> list[tuple[str, str, int, Decimal]]:
    return [(part.kind, part.reason, part.records, part.usd) for part in found.parts]


def test_what_nobody_vouches_for_at_mark_is_gone_for_its_value(connection: Connection) -> None:
    of_a_dex(connection, "9", "8")

    found = reconciliation.reconcile(connection, asked({}), asked({"perp_value": "mark"}), {}, "")

    assert [(step.group, step.usd) for step in found.steps] == [("valuation", Decimal(-9))]
    assert parts_of(found) == [("only_a", "valuation", 1, Decimal(-9))]


def test_what_rounding_hides_is_no_reason(connection: Connection) -> None:
    of_a_dex(connection, "9.001", "9.002")
    a, b = {"trust": "any", "rounding": "cents"}, {"trust": "any", "perp_value": "mark"}

    found = reconciliation.reconcile(connection, asked(a), asked(b), {}, "")

    assert parts_of(found) == [("revalued", "price", 1, Decimal("0.002"))]


# -- how much hangs on one choice ----------------------------------------------------------------


def test_the_strip_has_the_totals_of_each_choice(by_hand: Connection) -> None:
    found = reconciliation.reconcile(
        by_hand, asked({}), asked({"perp_value": "margin_lost", "lending_value": "loss"}), {}, ""
    )

    assert [
        (row.dimension, row.value, row.a and msgspec.structs.astuple(row.a), row.b is None)
        for row in found.sensitivity
    ] == [
        ("episode gap", "60 s", (Decimal(1348), 1, 6), False),
        ("episode gap", "900 s", (Decimal(1348), 1, 5), False),
        ("episode gap", "3600 s", (Decimal(1348), 1, 5), False),
        ("time zone", "UTC", (Decimal(1348), 1, 5), False),
        ("time zone", "Asia/Shanghai", (Decimal(105), 0, 2), False),
        ("time zone", "America/New_York", (Decimal(1351), 1, 6), False),
        ("dollar tokens", "par", (Decimal(1349), 1, 5), False),
        ("dollar tokens", "market", (Decimal(1000), 5, 5), False),
        # what was lost of loans is not alike to what was closed of perpetuals
        ("perpetuals at", "fill", (Decimal(1348), 1, 5), True),
        ("perpetuals at", "mark", (Decimal(1169), 2, 5), True),
    ]


def test_a_zone_that_leaves_a_window_no_time_is_left_out(by_hand: Connection) -> None:
    window = "2025-10-10..2025-10-10T03:00Z"

    found = reconciliation.reconcile(by_hand, asked({}, window), asked({}, window), {}, "")

    assert {row.value: row.a for row in found.sensitivity if row.dimension == "time zone"} == {
        "UTC": Counted(Decimal(0), 0, 0), "Asia/Shanghai": Counted(Decimal(5), 0, 1),
        "America/New_York": None,
    }  # fmt: skip


# -- a number that somebody published ------------------------------------------------------------


def against(connection: Connection, usd: str, meant: str | None = None) -> Reconciliation:
    outside = Outside(usd=Decimal(usd), source="a page")
    return reconciliation.reconcile_outside(connection, asked({}), outside, meant, {}, "")


def test_the_nearest_preset_is_supposed_and_the_rest_stands_alone(by_hand: Connection) -> None:
    found = against(by_hand, "660")

    assert found.goal is not None
    assert [(n.definition_id, n.usd, n.difference_usd) for n in found.near[:2]] == [
        ("defillama_notional/v1", Decimal(648), Decimal(12)),
        ("liquidated_wallet_fills/v1", Decimal(648), Decimal(12)),
    ]
    assert (found.goal.definition_id, found.goal.usd) == ("defillama_notional/v1", Decimal(648))
    assert exact_sum(step.usd for step in found.steps) == Decimal(648 - 1348)
    assert found.residual_usd == Decimal(12)


def test_all_presets_are_tried_and_sorted_by_what_they_are_off(by_hand: Connection) -> None:
    tables = model.read(by_hand)
    day = october("10T00:00"), october("11T00:00")
    counted = {
        id: exact_sum(
            line.usd for line in model.lines(tables, preset, *day)
            if line.line == "counted" and line.usd is not None
        )
        for id, preset in presets().items() if preset.is_one_sum
    }  # fmt: skip

    found = against(by_hand, "900.5")

    off = {id: Decimal("900.5") - usd for id, usd in counted.items()}
    assert [(n.definition_id, n.usd, n.difference_usd) for n in found.near] == [
        (id, counted[id], off[id]) for id in sorted(counted, key=lambda id: (abs(off[id]), id))
    ]


def test_what_a_number_is_said_to_mean_is_taken(by_hand: Connection) -> None:
    found = against(by_hand, "2000", "gross_legs/v1")

    assert found.goal is not None
    assert (found.goal.usd, found.residual_usd) == (Decimal(1148), Decimal(852))
    assert exact_sum(step.usd for step in found.steps) == Decimal(1148 - 1348)


# -- what is refused -----------------------------------------------------------------------------

BLOCKS: Raw = {"window": {"rule": "blocks"}, "chains": ["ethereum"]}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (asked({}), asked(BLOCKS, "100..130"),
         "a window of blocks and one of times cannot be reconciled"),
        (asked(BLOCKS, "100..130"), asked(BLOCKS | {"chains": ["base"]}, "100..130"),
         "blocks of ethereum and of base cannot be reconciled"),
        (asked({}), asked({"lending_value": "bonus"}),
         "mine/v1 has no one sum to reconcile: what it counts of perpetuals and of loans is not"
         " alike"),
    ],
    ids=["blocks and times", "two chains", "no one sum"],
)  # fmt: skip
def test_what_cannot_be_reconciled_is_refused(
    by_hand: Connection, a: Asked, b: Asked, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        reconciliation.reconcile(by_hand, a, b, {}, "")

    assert str(refused.value) == message


def test_blocks_of_one_chain_are_reconciled(by_hand: Connection) -> None:
    a, b = asked(BLOCKS, "100..121"), asked(BLOCKS | {"finality": "latest"}, "100..122")

    found = reconciliation.reconcile(by_hand, a, b, {}, "")

    assert [(step.group, step.usd) for step in found.steps] == [
        ("coverage", Decimal(0)), ("window", Decimal(70)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("a", "meant", "message"),
    [
        (asked({}), "mine/v1", "'mine/v1' is no preset: indexer definitions"),
        (asked(BLOCKS, "100..130"), None,
         "a published number is of a window of times, not of blocks"),
    ],
)  # fmt: skip
def test_a_number_is_reconciled_with_presets_over_times(
    by_hand: Connection, a: Asked, meant: str | None, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        outside = Outside(usd=Decimal(1), source="a page")
        reconciliation.reconcile_outside(by_hand, a, outside, meant, {}, "")

    assert str(refused.value) == message
