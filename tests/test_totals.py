"""Totals in the database against hand-written values and against a model in plain Python."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from indexer import sync
from indexer.errors import ConfigError
from indexer.methodology.definition import (
    LENDING_METHODS,
    LEVELS,
    PERP_METHODS,
    Blocks,
    Definition,
    instrument_of,
    parse,
    presets,
)
from indexer.methodology.windows import resolve
from indexer.store import database, definitions, rollups, totals, values
from indexer.store.database import Connection
from indexer.store.server import Server
from tests import definition_model as model
from tests.postgres import database as throw_away
from tests.simulator import RECORDING, Simulation, simulate, write_by_block, write_misc
from tests.test_values import Beside, beside, insert

__all__ = ["beside"]  # a fixture

Raw = dict[str, Any]
Totals = list[tuple[Any, ...]]

DAY = datetime(2025, 10, 10, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)
T0 = DAY + timedelta(hours=21)
ALICE, BOB, CAROL, DAVE, EVE, FRANK, GINA, HUGO, INK, JJ, KIM, LOU, MAKER, VAULT = (
    "0x" + 40 * letter for letter in "abcdef0123456789"[:14]
)
USDC, WETH, WBTC, WSTETH, SUSDE, VTOKEN = ("0x" + 38 * "0" + f"{n:02d}" for n in range(6))
HEADLINE = """
    SELECT usd, long_usd, short_usd, records, fills, orders, actions, positions, episodes,
           accounts, unvalued
    FROM liq.total(%s, %s::timestamptz, %s::timestamptz) WHERE section = 'total'
"""


# -- what the database says, and what the model says ---------------------------------------------


def plain(found: Iterable[Iterable[Any]]) -> Totals:
    """Rows without trailing zeros in their numbers, sorted, so that two readings compare."""
    with localcontext(prec=300):
        return sorted(
            (
                tuple(v.normalize() + 0 if isinstance(v, Decimal) else v for v in row)
                for row in found
            ),
            key=repr,
        )


def asked(connection: Connection, query: str, *arguments: Any) -> Totals:
    return plain(connection.execute(query, arguments).fetchall())


OF_WINDOW = "(%s, %s::timestamptz, %s::timestamptz, %s::bigint, %s::bigint)"
Window = tuple[datetime, datetime, int | None, int | None]


def in_database(connection: Connection, d: Definition, window: Window) -> dict[str, Totals]:
    definitions.keep(connection, [d])
    return {
        "counted": asked(connection, f"SELECT * FROM liq.counted{OF_WINDOW}", d.id, *window),
        "beside": asked(
            connection,
            "SELECT line, venue || '/' || event_key || '/' || liquidated, leg, usd, price_source"
            f" FROM ledger.lines{OF_WINDOW} WHERE line <> 'counted'",
            d.id, *window,
        ),
        "total": asked(connection, f"SELECT * FROM liq.total{OF_WINDOW}", d.id, *window),
    }  # fmt: skip


def in_model(tables: model.Tables, d: Definition, window: Window) -> dict[str, Totals]:
    found = model.lines(tables, d, *window)
    return {
        "counted": plain(row.shown for row in found if row.line == "counted"),
        "beside": plain(
            (row.line, row.shown[0], row.leg, row.usd, row.source)
            for row in found
            if row.line != "counted"
        ),
        "total": plain(model.total(found, d)),
    }


def agrees(connection: Connection, d: Definition, window: Window) -> None:
    assert in_database(connection, d, window) == in_model(model.read(connection), d, window)


# -- random definitions --------------------------------------------------------------------------


def sets(*values: str, least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), unique=True, min_size=least, max_size=len(values))


def rarely(values: st.SearchStrategy[Any], usual: Any) -> st.SearchStrategy[Any]:
    """Mostly the usual, so that not everything is filtered away."""
    return st.one_of(st.just(usual), st.just(usual), values)


METHODS = [method for method in (*PERP_METHODS, *LENDING_METHODS) if method != "ledger_update"]
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "finality": st.sampled_from(["finalized", "latest"]),
    "window": rarely(st.just({"rule": "blocks"}), {"rule": "calendar"}),
    "venues": rarely(sets("aave_v3", "aave_v3.base", "hyperliquid"), []),
    "chains": rarely(sets("base", "ethereum", "hyperliquid"), []),
    "markets": rarely(sets("ETH", "xyz:TSLA", "pool", "it's"), []),
    "assets": rarely(
        st.fixed_dictionaries(
            {
                "families": sets("ETH", "BTC", "USD", least=1),
                "relations": sets("self", "wrapped", "staked", "bridged", "pegged", least=1),
            }
        ),
        {},
    ),
    "margin_modes": rarely(sets("cross", "isolated", "unknown", least=1), None),
    "trust": st.sampled_from(["governed", "any"]),
    "methods": rarely(
        st.lists(st.sampled_from(METHODS), unique=True, min_size=1, max_size=6), METHODS
    ),
    "dirs": rarely(sets("Liquidated", "Auto-Deleveraging", least=1), []),
    "parties": sets("user", "protocol_vault", least=1),
    "self_liquidations": st.sampled_from(["include", "exclude"]),
    "labels": rarely(
        st.fixed_dictionaries(
            {"only": sets("whale"), "without": sets("bot")},
            optional={"as_of": st.sampled_from(["2025-10-11T00:00:00Z", "2025-10-12T00:00:00Z"])},
        ),
        {"only": [], "without": []},
    ),
    "leg": st.sampled_from(["liquidated", "liquidated", "counterparty", "both"]),
    "count": st.sampled_from(LEVELS),
    "account_unit": st.sampled_from(["address", "owner"]),
    "repeat": st.fixed_dictionaries(
        {
            "keep": rarely(st.sampled_from(["first", "largest"]), "all"),
            "gap_seconds": st.sampled_from([60, 600, 900]),
        }
    ),
    "sample": rarely(
        st.fixed_dictionaries(
            {
                "seconds": st.sampled_from([1, 7, 600]),
                "keep": st.sampled_from(["last", "largest"]),
            }
        ),
        None,
    ),
    "minimum_usd": rarely(st.sampled_from(["0.01", "2", "3.5", "10", "1000"]), "0"),
    "perp_value": st.sampled_from(["fill", "mark", "bankruptcy", "margin_lost", "realised"]),
    "lending_value": st.sampled_from(
        ["repaid", "seized", "seized_net", "bonus", "loss", "bad_debt"]
    ),
    "stablecoins": st.sampled_from(["par", "market", "market_or_par"]),
    "prices": st.permutations(
        ["event", "oracle", "reference", "file:mine", "hyperliquid_fills"]
    ).flatmap(lambda order: st.integers(1, 4).map(lambda n: order[:n])),
    "rounding": st.sampled_from(["none", "cents"]),
}


@st.composite
def definition_of(draw: st.DrawFn) -> Definition:
    """The nearest valid definition: where two fields exclude each other, one is left out."""
    if draw(st.integers(0, 9)) == 0:
        raw: Raw = {
            "instruments": ["perp"], "methods": ["ledger_update"], "perp_value": "mark",
            "count": draw(st.sampled_from(["action", "account"])),
            "parties": draw(FIELDS["parties"]), "minimum_usd": draw(FIELDS["minimum_usd"]),
            "repeat": draw(FIELDS["repeat"]),
        }  # fmt: skip
        return defined(raw)
    raw = draw(st.fixed_dictionaries(FIELDS))
    instruments = {instrument_of(method) for method in raw["methods"]}
    if raw["leg"] != "liquidated" or raw["dirs"]:
        instruments = {"perp"} & instruments
    raw["methods"] = [m for m in raw["methods"] if instrument_of(m) in instruments] or ["market"]
    instruments = {instrument_of(method) for method in raw["methods"]}
    gone = {
        *(() if "perp" in instruments else ("margin_modes", "perp_value")),
        *(() if "lending" in instruments else ("lending_value",)),
        *(() if instruments == {"perp"} else ("leg", "dirs")),
        *(() if raw["leg"] == "liquidated" or raw["perp_value"] == "mark" else ("perp_value",)),
        *(() if raw["repeat"]["keep"] == "all" else ("sample",)),
        *(() if raw["labels"]["only"] or raw["labels"]["without"] else ("labels",)),
        *(() if raw["margin_modes"] else ("margin_modes",)),
        *(() if raw["sample"] else ("sample",)),
    }
    if raw["window"]["rule"] == "blocks":
        raw["chains"] = ["ethereum"]
    kept = {name: value for name, value in raw.items() if name not in gone}
    return defined(kept | {"instruments": sorted(instruments)})


def defined(raw: Raw, id: str = "mine/v1") -> Definition:
    whole = {"id": id, "says": "What I count.", "fidelity": "exact"} | raw
    return parse(msgspec.json.encode(whole), "json")


# -- random rows ---------------------------------------------------------------------------------

ACCOUNTS = (ALICE, BOB, CAROL)
MOMENTS = st.sampled_from([0, 0, 0, 1, 7, 60, 61, 600, 601, 900, 901, 3_600, 90_000]).map(
    lambda seconds: T0 + timedelta(seconds=seconds)
)
USD = st.one_of(
    st.none(),
    st.sampled_from(["1", "2", "2", "0.005", "3.015", "10.123456789012345678", "1000"]).map(
        Decimal
    ),
)
KNOWN = USD.map(lambda usd: Decimal(5) if usd is None else usd)
RAW = st.one_of(st.none(), st.sampled_from([0, 1, 2_000_000, 10**18, 3 * 10**40]))


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


PERP = st.fixed_dictionaries(
    {
        "account": one_of(*ACCOUNTS), "block_number": one_of(10, 20, None), "block_at": MOMENTS,
        "tx_hash": one_of("0xa", "0xb", None), "order_id": one_of("1", "2", None),
        "method": one_of(*[m for m in METHODS if instrument_of(m) == "perp"]),
        "market": one_of("ETH", "BTC", "xyz:TSLA"), "side": one_of("long", "short"),
        "is_full_close": one_of(True, False, None),
        "margin_mode": one_of("cross", "isolated", None), "counterparty": one_of(*ACCOUNTS),
        "counterparty_kind": one_of("maker", "adl_winner", "protocol_vault", None),
        "account_is_protocol_vault": one_of(False, False, True),
        "dir_liquidated": one_of("Liquidated Cross Long", "Auto-Deleveraging", "Close Long", None),
        "dir_counterparty": one_of("Liquidated Cross Long", "Auto-Deleveraging", None),
        "legs_seen": one_of("both", "liquidated", "counterparty"),
    }
)  # fmt: skip
LOAN = st.fixed_dictionaries(
    {
        "venue": one_of("aave_v3.ethereum", "aave_v3.base", "comet.ethereum"),
        "account": one_of(*ACCOUNTS), "block_number": one_of(10, 20, 30), "block_at": MOMENTS,
        "method": one_of(*LENDING_METHODS), "market": one_of("pool", "it's"),
        "owner": one_of(None, DAVE), "liquidator": one_of(None, DAVE, *ACCOUNTS),
        "repaid_asset": one_of(USDC, WETH, SUSDE, None), "repaid_raw": RAW,
        "seized_asset": one_of(USDC, WETH, WBTC, WSTETH, SUSDE, VTOKEN, None), "seized_raw": RAW,
        "seized_is_shares": one_of(False, False, True),
        "protocol_fee_raw": one_of(0, 5), "fee_in_seized": one_of(True, False, None),
        "tx": one_of("a", "b"), "log": one_of(0, 1), "part": one_of(0, 0, 1, 2),
    }
)  # fmt: skip
UPDATE = st.fixed_dictionaries(
    {
        "account": one_of(*ACCOUNTS),
        "tx_hash": one_of("0xa", "0xb"),
        "block_at": MOMENTS,
        "margin_mode": one_of("Cross", "Isolated"),
        "notional_mark": KNOWN,
    }
)
VALUE = {
    **{f"{name}_usd": USD for name in (
        "repaid", "seized", "seized_net", "bonus", "bad_debt", "mark", "bankruptcy",
        "margin_lost", "realised",
    )},
    **{f"{name}_trust": one_of("governed", "market", None) for name in (
        "repaid", "seized", "bad_debt", "bonus",
    )},
}  # fmt: skip
VALUES = st.dictionaries(
    one_of("event", "oracle", "reference", "file:mine", "hyperliquid_fills", "par"),
    st.fixed_dictionaries(VALUE), max_size=3,
)  # fmt: skip
LABEL = st.fixed_dictionaries(
    {
        "account": one_of(*ACCOUNTS),
        "venue": one_of("hyperliquid", "aave_v3.ethereum", "ethereum", "*"),
        "label": one_of("whale", "bot"), "from": one_of(None, T0, T0 + timedelta(seconds=60)),
        "known": one_of(None, NEXT + timedelta(hours=1)),
        "until": one_of(None, NEXT + timedelta(hours=20)),
    }
)  # fmt: skip
WORLD = st.fixed_dictionaries(
    {
        "perps": st.lists(st.tuples(PERP, VALUES), max_size=12),
        "loans": st.lists(st.tuples(LOAN, VALUES), max_size=12),
        "updates": st.lists(UPDATE, max_size=4),
        "labels": st.lists(LABEL, max_size=3),
        "owners": st.dictionaries(
            st.tuples(one_of(*ACCOUNTS), one_of("hyperliquid", "aave_v3.ethereum", "base")),
            one_of(INK, JJ),
            max_size=3,
        ),
        "final": st.dictionaries(one_of("ethereum", "base"), one_of(10, 20, 30)),
    }
)


def store_world(connection: Connection, world: Raw) -> None:
    for number, (row, worth) in enumerate(world["perps"]):
        perp(connection, f"p{number}", {"usd": "1", "worth": worth} | row)
    keys = set()
    for row, worth in world["loans"]:
        row = dict(row)
        tx, log, part = row.pop("tx"), row.pop("log"), row.pop("part")
        key = f"{tx.ljust(66, '_')}/{log}" + (f"/{part}" if part else "")
        if (row["account"], row["venue"], key) not in keys:
            keys.add((row["account"], row["venue"], key))
            loan(connection, key, {"worth": worth} | row)
    for number, row in enumerate(world["updates"]):
        update(connection, f"u{number}", row)
    for number, row in enumerate(world["labels"]):
        label(connection, number, row)
    for (account, venue), owner in world["owners"].items():
        own(connection, account, venue, owner)
    for chain, height in world["final"].items():
        stream(connection, chain, height)
    tokens(connection)
    vault(connection, CAROL)


def perp(connection: Connection, key: str, changes: Raw) -> None:
    """A liquidation of Hyperliquid that is worth `usd`, in dollars at par; `worth` may say more."""
    changes = dict(changes)
    usd = Decimal(changes.pop("usd"))
    worth = changes.pop("worth", {"par": {}})
    market = changes.get("market", "ETH")
    row = {
        "venue": "hyperliquid", "event_key": key, "account": ALICE, "block_number": 1,
        "block_at": T0, "tx_hash": f"0x{key}", "method": "market", "market": market,
        "dex": market.rpartition(":")[0], "quote": "USDC", "side": "long", "size": usd,
        "price": 1, "notional": usd, "order_id": f"o{key}", "counterparty": MAKER,
        "counterparty_kind": "maker", "account_is_protocol_vault": False, "legs_seen": "both",
        "decoder_version": 1, **changes,
    }  # fmt: skip
    if row["legs_seen"] == "liquidated":
        row["counterparty"] = None
    insert(connection, "liquidation", row)
    for source, value in worth.items():
        of_quote = {"fill_usd": usd, "quote_trust": "governed"}
        valued(connection, row, source, of_quote | only_of("perp", value))


def loan(connection: Connection, key: str, changes: Raw) -> None:
    """A liquidation of a loan, `worth` what each source says."""
    changes = dict(changes)
    worth = changes.pop("worth", {})
    row = {
        "venue": "aave_v3.ethereum", "event_key": key, "account": FRANK, "block_number": 10,
        "block_at": T0, "method": "repay_seize", "market": "pool", "repaid_asset": USDC,
        "repaid_raw": 1, "seized_asset": WETH, "seized_raw": 1, "seized_is_shares": False,
        "decoder_version": 1, **changes,
    }  # fmt: skip
    insert(connection, "lending_liquidation", row)
    for source, value in worth.items():
        valued(connection, row, source, only_of("lending", value))


def only_of(instrument: str, value: Raw) -> Raw:
    of_loans = ("repaid", "seized", "bonus", "bad_debt")
    return {
        name: usd
        for name, usd in value.items()
        if (name.startswith(of_loans)) == (instrument == "lending")
    }


def valued(connection: Connection, row: Raw, source: str, value: Raw) -> None:
    key = {name: row[name] for name in ("venue", "block_at", "event_key", "account")}
    insert(connection, "valuation", {**key, "price_source": source, **value})


def update(connection: Connection, key: str, changes: Raw) -> None:
    row = {
        "venue": "hyperliquid", "event_key": key, "account": ALICE, "tx_hash": f"0x{key}",
        "block_number": 1, "block_at": T0, "account_value": 0, "margin_mode": "Cross",
        "notional_mark": 0, "positions": "[]", **changes,
    }  # fmt: skip
    insert(connection, "ledger_liquidation", row)


def label(connection: Connection, number: int, row: Raw) -> None:
    connection.execute(
        "INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence, evidence,"
        " valid_during, recorded_during)"
        " VALUES (%(venue)s, %(account)s, %(label)s, %(rule)s, 1, 1, '{}',"
        " tstzrange(%(from)s, NULL), tstzrange(%(known)s, %(until)s))",
        {"venue": "hyperliquid", "from": None, "known": None, "until": None,
         "rule": f"r{number}", **row},
    )  # fmt: skip


def stream(connection: Connection, chain: str, finalized: int) -> None:
    connection.execute(
        "INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)"
        " VALUES (%s, 1000, '', %s, 0)",
        (chain, finalized),
    )


def tokens(connection: Connection) -> None:
    kin = (
        (USDC, "USD", "pegged", 6), (WETH, "ETH", "wrapped", 18), (WBTC, "BTC", "bridged", None),
        (WSTETH, "ETH", "staked", 18), (SUSDE, "USD", "staked", 18),
    )  # fmt: skip
    for chain in ("ethereum", "base"):
        for address, family, relation, decimals in kin:
            names = {"chain": chain, "address": address}
            insert(
                connection, "asset_kin",
                {**names, "family": family, "relation": relation, "source": "test"},
            )  # fmt: skip
            insert(connection, "asset", {**names, "decimals": decimals})
    connection.execute(
        "INSERT INTO ledger.share_rate VALUES ('ethereum', %s, 10, %s, 1, 1),"
        " ('ethereum', %s, 20, NULL, 1, 1), ('base', %s, 10, %s, 1, 1)",
        (VTOKEN, USDC, VTOKEN, WETH, USDC),
    )


def vault(connection: Connection, account: str) -> None:
    connection.execute(
        "INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', %s, 'v', NULL, NULL, 'test')",
        (account,),
    )


# -- a world by hand -----------------------------------------------------------------------------


def log(name: str) -> str:
    """The key of a log: a transaction hash of 66 characters and a place."""
    return f"{name.ljust(66, '_')}/0"


AT = {f"{h:02d}:{m:02d}": DAY + timedelta(hours=h, minutes=m) for h in range(24) for m in range(60)}
PERPS: dict[str, Raw] = {
    # one order of two fills, then a takeover ten minutes later
    "p1": {"usd": "1", "tx_hash": "0xa", "order_id": "1", "margin_mode": "cross",
           "dir_liquidated": "Close Long",
           "worth": {"par": {"mark_usd": "1.5", "realised_usd": "-0.5"},
                     "file:mine": {"fill_usd": "0.999"}}},
    "p2": {"usd": "2", "tx_hash": "0xa", "order_id": "1", "is_full_close": True,
           "dir_liquidated": "Close Long", "legs_seen": "liquidated"},
    "p3": {"usd": "4", "block_at": AT["21:10"], "method": "backstop", "market": "BTC",
           "side": "short", "margin_mode": "isolated", "counterparty": VAULT,
           "counterparty_kind": "protocol_vault", "dir_liquidated": "Liquidated Isolated Short",
           "dir_counterparty": "Liquidated Isolated Short",
           "worth": {"par": {"margin_lost_usd": "0.25", "bankruptcy_usd": "4.125"}}},
    "p4": {"usd": "8", "account": BOB, "block_at": AT["21:20"], "method": "adl_of_user",
           "market": "SOL", "counterparty": CAROL, "counterparty_kind": "adl_winner",
           "dir_liquidated": "Auto-Deleveraging", "dir_counterparty": "Auto-Deleveraging"},
    "p5": {"usd": "16", "account": VAULT, "block_at": AT["21:20"], "method": "adl_of_vault",
           "market": "AVAX", "counterparty": CAROL, "counterparty_kind": "adl_winner",
           "account_is_protocol_vault": True, "legs_seen": "counterparty", "order_id": None,
           "dir_counterparty": "Auto-Deleveraging"},
    "p6": {"usd": "32", "account": BOB, "block_at": AT["21:25"], "market": "xyz:TSLA",
           "worth": {"par": {"mark_usd": "33"}}},
    "p7": {"usd": "64", "account": BOB, "block_at": AT["21:30"], "method": "borrow_partial"},
    "p8": {"usd": "128", "account": DAVE, "block_at": AT["21:30"], "side": "short",
           "counterparty": DAVE},
    # of a quote token that only the price file knows
    "p9": {"usd": "256", "account": EVE, "block_at": AT["21:40"],
           "worth": {"file:mine": {"fill_usd": "250"}}},
    "p10": {"usd": "512.005", "block_at": AT["15:00"]},
    # of the trigger of p4, in another market
    "p12": {"usd": "0.5", "account": BOB, "block_at": AT["21:20"], "method": "adl_of_user",
            "tx_hash": "0xp4", "market": "DOGE", "dir_liquidated": "Auto-Deleveraging"},
    # of the position of p3, by another trigger
    "p13": {"usd": "0.25", "block_at": AT["21:15"], "market": "BTC", "side": "short"},
    "p11": {"usd": "1024", "block_at": NEXT + timedelta(hours=1)},
}  # fmt: skip
LOANS: dict[str, Raw] = {
    "l1": {"worth": {"oracle": {"repaid_usd": "10000", "seized_usd": "10500",
                                "seized_net_usd": "10450", "bonus_usd": "450"},
                     "reference": {"repaid_usd": "10001"}},
           "repaid_raw": 10_002_000_000},
    # whoever opened the market chose the oracle
    "l2": {"venue": "morpho_blue.base", "account": GINA, "market": "0xm",
           "worth": {"oracle": {"repaid_usd": "20000", "repaid_trust": "market"}}},
    # two accounts of one owner, short of ETH
    "l3": {"venue": "euler_v2.ethereum", "account": HUGO, "owner": INK, "repaid_asset": WETH,
           "seized_asset": USDC, "seized_raw": 39_000_000_000, "protocol_fee_raw": 1_000_000_000,
           "fee_in_seized": False, "worth": {"oracle": {"repaid_usd": "40000"}}},
    "l4": {"venue": "euler_v2.ethereum", "account": JJ, "owner": INK, "repaid_asset": WETH,
           "seized_asset": USDC, "seized_raw": 82_000_000_000, "block_number": 11,
           "worth": {"oracle": {"repaid_usd": "80000"}}, "block_at": AT["21:01"]},
    "l5": {"venue": "aave_v3.base", "account": GINA, "block_number": 999,
           "worth": {"oracle": {"repaid_usd": "160000"}}},
    # an absorption of three collaterals
    "l6": {"venue": "comet.ethereum", "account": LOU, "method": "absorb", "market": "0xc",
           "repaid_raw": 320_032_000_000,
           "worth": {"oracle": {"repaid_usd": "320000", "seized_usd": "300000"}}},
    "l6/1": {"venue": "comet.ethereum", "account": LOU, "method": "absorb", "market": "0xc",
             "repaid_asset": None, "repaid_raw": None, "seized_asset": WBTC,
             "worth": {"oracle": {"seized_usd": "50000"}}},
    "l6/2": {"venue": "comet.ethereum", "account": LOU, "method": "absorb", "market": "0xc",
             "repaid_asset": None, "repaid_raw": None, "seized_asset": WSTETH,
             "worth": {"oracle": {"seized_usd": "7000"}}},
    "l7": {"account": KIM, "liquidator": KIM, "repaid_raw": 640_064_000_000, "seized_asset": WSTETH,
           "worth": {"oracle": {"repaid_usd": "640000"}}},
    "l8": {"account": KIM, "method": "write_off", "block_at": AT["22:00"], "repaid_asset": None,
           "repaid_raw": None, "seized_asset": None, "seized_raw": None,
           "worth": {"oracle": {"bad_debt_usd": "1280000"}}},
}  # fmt: skip
UPDATES: dict[str, Raw] = {
    "u1": {"tx_hash": "0xl", "notional_mark": "7", "block_at": AT["21:10"]},
    "u2": {"account": VAULT, "tx_hash": "0xm", "notional_mark": "70", "margin_mode": "Isolated"},
}


def worth_of(changes: Raw) -> Raw:
    """What the records of a world by hand say, as numbers."""
    said = changes.get("worth")
    if said is None:
        return changes
    worth = {
        source: {k: Decimal(v) if k.endswith("_usd") else v for k, v in value.items()}
        for source, value in said.items()
    }
    return changes | {"worth": worth}


def store_by_hand(connection: Connection) -> None:
    for name, changes in PERPS.items():
        perp(connection, name, worth_of(changes))
    for name, changes in LOANS.items():
        first, _, part = name.partition("/")
        loan(connection, log(first) + (f"/{part}" if part else ""), worth_of(changes))
    for name, changes in UPDATES.items():
        update(connection, name, changes)
    stream(connection, "base", 500)
    tokens(connection)
    vault(connection, VAULT)
    label(connection, 1, {"account": ALICE, "label": "whale", "from": AT["21:05"]})
    label(connection, 2, {"account": BOB, "label": "whale", "until": NEXT})
    label(connection, 3, {"account": DAVE, "label": "bot"})


@pytest.fixture(scope="module")
def by_hand(postgres: Server, migrated: str) -> Iterator[str]:
    """A database with the world by hand; what a test does there is taken back."""
    with throw_away(postgres, template=migrated) as fresh:
        with database.connect(fresh) as connection:
            store_by_hand(connection)
        yield fresh


@pytest.fixture
def world(by_hand: str) -> Iterator[Connection]:
    with (
        database.connect(by_hand) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


def rows_of(said: str) -> dict[str, str]:
    return dict(one.split("=") for one in said.split())


def counted(
    connection: Connection, d: Definition, low: datetime = DAY, high: datetime = NEXT
) -> dict[str, str]:
    """The rows that count and what each is worth; ~ is the other side of a trade."""
    definitions.keep(connection, [d])
    query = "SELECT key, leg, usd FROM liq.counted(%s, %s::timestamptz, %s::timestamptz)"
    return {
        name_of(key) + ("~" if leg == "counterparty" else ""): str(usd and f"{usd:f}")
        for key, leg, usd in asked(connection, query, d.id, low, high)
    }


def name_of(key: str) -> str:
    """p1 of hyperliquid/p1/0xaaa, l6/1 of comet.ethereum/l6_____/0/1/0x555."""
    name, *further = key.split("/")[1:-1]
    return "/".join([name.rstrip("_"), *further[1:]])


def headline(
    connection: Connection, d: Definition, low: datetime = DAY, high: datetime = NEXT
) -> str:
    """Money, long and short, and counts from records to accounts, with those unvalued."""
    definitions.keep(connection, [d])
    [row] = asked(connection, HEADLINE, d.id, low, high)
    return " ".join(f"{value:f}" if isinstance(value, Decimal) else str(value) for value in row)


def of_toml(text: str) -> Definition:
    return parse(f'id = "mine/v1"\nsays = "What I count."\nfidelity = "exact"\n{text}'.encode())


PERP_TOML, LOAN_TOML = 'instruments = ["perp"]\n', 'instruments = ["lending"]\n'
OF_PERPS = "p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p9=None p10=512.005 p12=0.5 p13=0.25"
OF_LOANS = "l1=10000 l3=40000 l4=80000 l6=320000 l7=640000"
MARKED = "p1=1.5 p2=None p3=None p4=None p8=None p9=None p10=None p12=None p13=None"
CROSS = "p1~=1 p3~=4 p4~=8 p6~=32 p8~=128 p9~=None p10~=512.005 p12~=0.5 p13~=0.25"
ETHER = "p1=1 p2=2 p8=128 p9=None p10=512.005"
MINIMA = """
    3.0  fill     684.005 p3=4 p4=8 p6=32 p8=128 p10=512.005
    3.0  order    687.005 p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p10=512.005
    4.2  record   680.005 p4=8 p6=32 p8=128 p10=512.005
    4.2  fill     680.005 p4=8 p6=32 p8=128 p10=512.005
    4.2  order    680.005 p4=8 p6=32 p8=128 p10=512.005
    4.2  action   680.505 p4=8 p6=32 p8=128 p10=512.005 p12=0.5
    4.2  position 684.255 p3=4 p4=8 p6=32 p8=128 p10=512.005 p13=0.25
    4.2  episode  687.755 p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p10=512.005 p12=0.5 p13=0.25
    8.0  episode  680.505 p4=8 p6=32 p8=128 p10=512.005 p12=0.5
    8.0  account  687.755 p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p10=512.005 p12=0.5 p13=0.25
"""


def test_strict_counts_each_forced_trade_of_a_user_once_and_loans_at_the_debt_repaid(
    world: Connection,
) -> None:
    strict = presets()["strict/v1"]

    assert counted(world, strict) == rows_of(f"{OF_PERPS} {OF_LOANS}")
    assert headline(world, strict) == "1090687.755 970555.505 120132.25 15 15 14 13 13 11 9 1"
    assert asked(
        world, "SELECT name, usd, records FROM liq.total(%s, %s::timestamptz, %s::timestamptz)"
        " WHERE section = 'beside'", strict.id, DAY, NEXT,
    ) == [
        ("not_final", Decimal(160_000).normalize(), 1),
        ("permissionless", Decimal(20_000).normalize(), 1),
        ("protocol_vault", Decimal(16), 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "rows", "usd"),
    [
        ('finality = "latest"', f"{OF_PERPS} {OF_LOANS} l5=160000", "1250687.755"),
        ('instruments = ["perp"]', OF_PERPS, "687.755"),
        ('instruments = ["lending"]', OF_LOANS, "1090000"),
        ('venues = ["euler_v2"]', "l3=40000 l4=80000", "120000"),
        ('venues = ["euler_v2.ethereum"]', "l3=40000 l4=80000", "120000"),
        ('venues = ["euler_v2.base"]', "", "0"),
        ('chains = ["ethereum"]', OF_LOANS, "1090000"),
        ('chains = ["hyperliquid"]', OF_PERPS, "687.755"),
        ('markets = ["0xc", "BTC"]', "p3=4 p13=0.25 l6=320000", "320004.25"),
        (
            'assets = {families = ["ETH"]}',
            f"{ETHER} l1=10000 l3=40000 l4=80000 l6=320000", "450643.005",
        ),
        ('assets = {families = ["ETH"], relations = ["self"]}', ETHER, "643.005"),
        (
            'assets = {families = ["ETH"], relations = ["self", "staked"]}',
            f"{ETHER} l7=640000", "640643.005",
        ),
        ('assets = {families = ["BTC"]}', "p3=4 p13=0.25", "4.25"),
        ('margin_modes = ["cross"]', f"p1=1 {OF_LOANS}", "1090001"),
        ('margin_modes = ["isolated"]', f"p3=4 {OF_LOANS}", "1090004"),
        ('trust = "any"', f"{OF_PERPS} {OF_LOANS} l2=20000", "1110687.755"),
        ('methods = ["backstop", "absorb"]', "p3=4 l6=320000", "320004"),
        ('methods = ["borrow_partial", "write_off"]', "p7=64 l8=None", "64"),
        ('parties = ["user", "protocol_vault"]', f"{OF_PERPS} {OF_LOANS} p5=16", "1090703.755"),
        ('parties = ["protocol_vault"]', "p5=16", "16"),
        (
            'self_liquidations = "exclude"',
            "p1=1 p2=2 p3=4 p4=8 p6=32 p9=None p10=512.005 p12=0.5 p13=0.25"
            " l1=10000 l3=40000 l4=80000 l6=320000", "450559.755",
        ),
        ('labels = {only = ["whale"]}', "p3=4 p13=0.25", "4.25"),
        (
            'labels = {only = ["whale"], as_of = "2025-10-10T23:00:00Z"}',
            "p3=4 p4=8 p6=32 p12=0.5 p13=0.25", "44.75",
        ),
        (
            'labels = {without = ["bot", "whale"]}',
            f"p1=1 p2=2 p4=8 p6=32 p9=None p10=512.005 p12=0.5 {OF_LOANS}", "1090555.505",
        ),
        ('count = "account"', f"{OF_PERPS} {OF_LOANS}", "1090687.755"),
        ('account_unit = "owner"', f"{OF_PERPS} {OF_LOANS}", "1090687.755"),
        (
            'stablecoins = "par"',
            f"{OF_PERPS} l1=10002 l3=40000 l4=80000 l6=320032 l7=640064",
            "1090785.755",
        ),
        ('prices = ["reference"]', f"{OF_PERPS} l1=10001 l3=None l4=None l6=None"
         " l7=None l2=None", "10688.755"),
        ('prices = ["reference", "oracle"]', f"{OF_PERPS} l1=10001 l3=40000 l4=80000 l6=320000"
         " l7=640000", "1090688.755"),
        ('prices = ["oracle", "file:mine"]', f"p1=0.999 p2=2 p3=4 p4=8 p6=32 p8=128 p9=250"
         f" p10=512.005 p12=0.5 p13=0.25 {OF_LOANS}", "1090937.754"),
        ('rounding = "cents"', f"p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p9=None p10=512.01 p12=0.5"
         f" p13=0.25 {OF_LOANS}", "1090687.76"),
    ],
)  # fmt: skip
def test_a_field_that_is_changed_alone_changes_just_what_it_is_about(
    world: Connection, changed: str, rows: str, usd: str
) -> None:
    d = of_toml(changed)

    assert counted(world, d) == rows_of(rows)
    assert headline(world, d).split()[0] == usd
    agrees(world, d, (DAY, NEXT, None, None))


@pytest.mark.parametrize(
    ("changed", "rows", "usd"),
    [
        ('dirs = ["Liquidated"]', "p3=4", "4"),
        ('dirs = ["Auto-Deleveraging", "Liquidated"]', "p3=4 p4=8 p12=0.5", "12.5"),
        ('leg = "counterparty"', CROSS, "685.755"),
        ('leg = "both"', f"{OF_PERPS} {CROSS}", "1373.51"),
        ('perp_value = "mark"', MARKED, "1.5"),
        ('perp_value = "mark"\ntrust = "any"', f"{MARKED} p6=33", "34.5"),
        (
            'perp_value = "bankruptcy"',
            "p1=None p2=None p3=4.125 p4=None p8=None p9=None p10=None p12=None p13=None",
            "4.125",
        ),
        (
            'perp_value = "margin_lost"',
            "p1=None p2=None p3=0.25 p4=None p8=None p9=None p10=None p12=None p13=None",
            "0.25",
        ),
        (
            'perp_value = "realised"',
            "p1=-0.5 p2=None p3=None p4=None p6=None p8=None p9=None p10=None p12=None p13=None",
            "-0.5",
        ),
        (
            'repeat = {keep = "first"}',
            "p1=1 p2=2 p4=8 p6=32 p8=128 p9=None p10=512.005 p12=0.5",
            "683.505",
        ),
        (
            'repeat = {keep = "first", gap_seconds = 599}',
            "p1=1 p2=2 p3=4 p4=8 p6=32 p8=128 p9=None p10=512.005 p12=0.5",
            "687.505",
        ),
        (
            'repeat = {keep = "largest"}',
            "p3=4 p4=8 p6=32 p8=128 p9=None p10=512.005 p12=0.5",
            "684.505",
        ),
        ('sample = {seconds = 1, keep = "last"}', OF_PERPS, "687.755"),
        (
            'sample = {seconds = 3600, keep = "last"}',
            "p4=8 p6=32 p9=None p10=512.005 p12=0.5 p13=0.25",
            "552.755",
        ),
        (
            'sample = {seconds = 3600, keep = "largest"}',
            "p3=4 p4=8 p6=32 p8=128 p10=512.005 p12=0.5",
            "684.505",
        ),
        (
            'stablecoins = "market"',
            "p1=None p2=None p3=None p4=None p6=None p8=None p9=None p10=None p12=None p13=None",
            "None",
        ),
        (
            'stablecoins = "market"\nprices = ["file:mine"]',
            "p1=0.999 p2=None p3=None p4=None p6=None p8=None p9=250 p10=None p12=None p13=None",
            "250.999",
        ),
        ('stablecoins = "par"\nprices = ["file:mine"]', OF_PERPS, "687.755"),
        *(
            (f"minimum_usd = {least}\ncount = {level!r}", " ".join(rows), usd)
            for least, level, usd, *rows in map(str.split, MINIMA.strip().splitlines())
        ),
    ],
)
def test_a_field_of_perpetuals_changes_just_what_it_is_about(
    world: Connection, changed: str, rows: str, usd: str
) -> None:
    d = of_toml(PERP_TOML + changed)

    assert counted(world, d) == rows_of(rows)
    assert headline(world, d).split()[0] == usd
    agrees(world, d, (DAY, NEXT, None, None))


@pytest.mark.parametrize(
    ("changed", "rows", "usd"),
    [
        ("", OF_LOANS, "1090000"),
        (
            'lending_value = "seized"',
            "l1=10500 l3=None l4=None l6=300000 l6/1=50000 l6/2=7000 l7=None l2=None",
            "367500",
        ),
        (
            'lending_value = "seized"\nstablecoins = "par"',
            "l1=10500 l3=40000 l4=82000 l6=300000 l6/1=50000 l6/2=7000 l7=None l2=None",
            "489500",
        ),
        (
            'lending_value = "seized_net"',
            "l1=10450 l3=None l4=None l6=None l6/1=None l6/2=None l7=None l2=None",
            "10450",
        ),
        (
            'lending_value = "bonus"',
            "l1=450 l3=None l4=None l6=None l7=None l2=None",
            "450",
        ),
        (
            'lending_value = "loss"',
            "l1=500 l3=None l4=None l6=-20000 l6/1=50000 l6/2=7000 l7=None",
            "37500",
        ),
        ('lending_value = "bad_debt"\nmethods = ["write_off"]', "l8=1280000", "1280000"),
    ],
)
def test_a_field_of_loans_changes_just_what_it_is_about(
    world: Connection, changed: str, rows: str, usd: str
) -> None:
    d = of_toml(LOAN_TOML + changed)

    assert counted(world, d) == rows_of(rows)
    assert headline(world, d).split()[0] == usd
    agrees(world, d, (DAY, NEXT, None, None))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (PERP_TOML, "687.755 555.505 132.25 10 10 9 8 8 6 4 1"),
        (PERP_TOML + "repeat = {gap_seconds = 599}", "687.755 555.505 132.25 10 10 9 8 8 7 4 1"),
        (PERP_TOML + "repeat = {gap_seconds = 600}", "687.755 555.505 132.25 10 10 9 8 8 6 4 1"),
        (PERP_TOML + 'leg = "both"', "1373.51 1101.01 272.5 19 10 17 16 16 12 7 2"),
        (LOAN_TOML, "1090000 970000 120000 5 5 5 5 5 5 5 0"),
        (LOAN_TOML + 'account_unit = "owner"', "1090000 970000 120000 5 5 5 5 4 4 4 0"),
        # what traders owed and what vaults took is no one sum
        ('lending_value = "seized"', "None None None 18 16 15 14 14 12 10 5"),
        ('perp_value = "margin_lost"\nlending_value = "loss"',
         "37500.25 37500 0.25 16 14 13 12 12 10 9 11"),
    ],
)  # fmt: skip
def test_each_level_has_its_count(world: Connection, changed: str, expected: str) -> None:
    assert headline(world, of_toml(changed)) == expected


def test_the_largest_of_each_level_is_named(world: Connection) -> None:
    definitions.keep(world, [of_toml(PERP_TOML)])

    assert asked(
        world, "SELECT name, usd, key, first_at, last_at"
        " FROM liq.total('mine/v1', %s::timestamptz, %s::timestamptz) WHERE section = 'largest'",
        T0, NEXT,
    ) == [
        ("account", Decimal(128), f"hyperliquid/{DAVE}", AT["21:30"], AT["21:30"]),
        ("action", Decimal(128), f"hyperliquid/{DAVE}/0xp8", AT["21:30"], AT["21:30"]),
        ("episode", Decimal(128), f"hyperliquid/{DAVE}/@20251010T213000.000000", AT["21:30"],
         AT["21:30"]),
        ("fill", Decimal(128), f"hyperliquid/p8/{DAVE}", AT["21:30"], AT["21:30"]),
        ("order", Decimal(128), f"hyperliquid/{DAVE}/ETH/op8", AT["21:30"], AT["21:30"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("of_alice", "of_bob", "who", "usd"),
    [
        # sums are looked for by whole dollars, rounded up, and a trillion at the most for a row
        (["0.3", "0.4"], ["0.6"], ALICE, "0.7"),
        (["0.01", "0.01", "0.01"], ["1.5"], BOB, "1.5"),
        (["0.5", "0.5"], ["1"], ALICE, "1"),
        (["2e12"], ["3e12"], BOB, "3e12"),
        (["5e12"], ["1e12", "1e12"], ALICE, "5e12"),
        (["-5"], ["-4.5", "-0.25"], BOB, "-4.75"),
        (["9", "-3e12", "3e12"], ["8.5"], ALICE, "9"),
        (["-5"], [None], ALICE, "-5"),
        (["0"], ["-1"], ALICE, "0"),
        (["-1.5e12", "-1.5e12"], ["-4e12"], ALICE, "-3e12"),
    ],
)
def test_the_largest_is_exact_whatever_its_size(
    connection: Connection, of_alice: list[str], of_bob: list[str | None], who: str, usd: str
) -> None:
    for number, (account, value) in enumerate(
        [*((ALICE, one) for one in of_alice), *((BOB, one) for one in of_bob)]
    ):
        together = {"account": account, "tx_hash": f"0x{account}", "order_id": account}
        worth = {"par": {"fill_usd": value and Decimal(value)}}
        perp(connection, f"p{number}", {**together, "usd": "1", "worth": worth})
    definitions.keep(connection, [of_toml(PERP_TOML)])

    largest = (who, Decimal(usd).normalize())
    assert asked(
        connection, "SELECT name, account, usd FROM liq.total('mine/v1', %s::timestamptz,"
        " %s::timestamptz) WHERE section = 'largest' AND name <> 'fill'", DAY, NEXT,
    ) == [(level, *largest) for level in ("account", "action", "episode", "order")]  # fmt: skip


def test_a_vaults_loss_to_a_winner_stands_on_either_side_once(world: Connection) -> None:
    both = PERP_TOML + 'leg = "both"\nmethods = ["adl_of_vault"]\n'
    everybody = 'parties = ["user", "protocol_vault"]'

    assert counted(world, of_toml(PERP_TOML + everybody + '\nmethods = ["adl_of_vault"]')) == {
        "p5": "16"
    }
    # nobody published the vault's own leg
    assert counted(world, msgspec.structs.replace(of_toml(both + everybody), id="mine/v2")) == {
        "p5~": "16"
    }


def test_the_exchanges_ledger_is_counted_by_account(world: Connection) -> None:
    whole = presets()["ledger_account/v1"]
    vaults = msgspec.structs.replace(whole, id="mine/v1", parties=("protocol_vault", "user"))
    isolated = msgspec.structs.replace(vaults, id="mine/v2", margin_modes=("isolated",))

    assert counted(world, whole) == {"u1": "7"}
    assert counted(world, vaults) == {"u1": "7", "u2": "70"}
    assert counted(world, isolated) == {"u2": "70"}


# -- windows -------------------------------------------------------------------------------------


def test_the_day_of_utc_and_that_of_china_differ_by_the_events_in_between(
    world: Connection,
) -> None:
    definitions.keep(world, [presets()["strict/v1"], presets()["natural_day_cn/v1"]])
    day = "SELECT key FROM liq.counted(%s, '2025-10-10', '2025-10-11')"
    next_day = "SELECT key FROM liq.counted(%s, '2025-10-11', '2025-10-12')"

    utc = {name_of(key) for (key,) in asked(world, day, "strict/v1")}
    cn = {name_of(key) for (key,) in asked(world, day, "natural_day_cn/v1")}
    cn_next = {name_of(key) for (key,) in asked(world, next_day, "natural_day_cn/v1")}

    # p13 was at 21:15 of UTC, which is the next morning in China; p10 at 15:00, p11 at 01:00
    assert utc == set(rows_of(f"{OF_PERPS} {OF_LOANS}"))
    assert cn == {"p10"}
    assert cn_next == (utc - {"p10"}) | {"p11"}


def test_a_window_of_hours_ends_with_its_moment(world: Connection) -> None:
    rolling = presets()["rolling24h_orders/v1"]
    window = resolve(rolling.window, "2025-10-11T01:00:01Z", NEXT)

    assert (window.low, window.high) == (
        DAY + timedelta(hours=1, seconds=1), NEXT + timedelta(hours=1, seconds=1)
    )  # fmt: skip
    assert counted(world, rolling, window.low, window.high) == rows_of(f"{OF_PERPS} p11=1024")


def test_a_window_of_blocks_is_half_open_too(world: Connection) -> None:
    definitions.keep(world, [of_toml('chains = ["ethereum"]\nwindow = {rule = "blocks"}')])
    query = "SELECT key FROM liq.counted('mine/v1', '-infinity', 'infinity', %s, %s)"

    first = {name_of(key) for (key,) in asked(world, query, 10, 11)}
    second = {name_of(key) for (key,) in asked(world, query, 11, 12)}

    assert first == {"l1", "l3", "l6", "l7"}
    assert second == {"l4"}


def test_a_price_set_takes_dates_as_the_other_functions_do(world: Connection) -> None:
    world.execute("SET TIME ZONE 'Asia/Tokyo'")
    query = "SELECT liq.price_set('strict/v1', {0}, {1}) = liq.price_set('strict/v1', {2}, {3})"
    utc = ("'2025-10-10T00:00:00Z'::timestamptz", "'2025-10-11T00:00:00Z'::timestamptz")

    assert asked(world, query.format("'2025-10-10'", "'2025-10-11'", *utc)) == [(True,)]


# -- whose accounts, and which labels --------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "accounts"),
    [("hyperliquid", ["0xink"]), ("aave_v3.ethereum", [ALICE]), ("ethereum", [ALICE])],
)
def test_an_owner_that_is_proved_on_the_venue_takes_an_accounts_place(
    connection: Connection, venue: str, accounts: list[str]
) -> None:
    perp(connection, "p1", {"usd": "1"})
    own(connection, ALICE, venue, "0xink")

    assert units(connection, PERP_TOML + 'account_unit = "owner"') == accounts
    assert units(connection, PERP_TOML, "mine/v2") == [ALICE]


@pytest.mark.parametrize(("venue", "owner"), [("dydx_v4", "0xink"), ("hyperliquid", "dydx1abc")])
def test_accounts_with_numbers_are_of_one_address(
    connection: Connection, venue: str, owner: str
) -> None:
    for number in (0, 128):
        changes = {"usd": "1", "venue": "dydx_v4", "account": f"dydx1abc:{number}"}
        perp(connection, f"p{number}", changes)
    own(connection, "dydx1abc", venue, "0xink")

    assert units(connection, PERP_TOML + 'account_unit = "owner"') == [owner, owner]
    assert units(connection, PERP_TOML, "mine/v2") == ["dydx1abc:0", "dydx1abc:128"]
    assert asked(connection, "SELECT account, owner, method, proof FROM liq.owners"
                 " WHERE account <> 'dydx1abc'") == [
        (f"dydx1abc:{number}", "dydx1abc", "liquidation", [{
            "account": f"dydx1abc:{number}", "owner": "dydx1abc", "method": "liquidation",
            "proof": {"liquidation": f"dydx_v4/p{number}/dydx1abc:{number}"},
        }])
        for number in (0, 128)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "venue", "accounts"),
    [
        (None, "ethereum", ["0xink"]),
        (None, "aave_v3.ethereum", ["0xink"]),
        (None, "base", [FRANK]),
        (DAVE, "ethereum", [DAVE]),  # the event names him, and nobody owns him
    ],
)
def test_an_owner_that_is_proved_on_the_chain_takes_a_borrowers_place(
    connection: Connection, owner: str | None, venue: str, accounts: list[str]
) -> None:
    value = {"oracle": {"repaid_usd": Decimal(1), "repaid_trust": "governed"}}
    loan(connection, log("l1"), {"owner": owner, "worth": value})
    own(connection, FRANK, venue, "0xink")

    assert units(connection, LOAN_TOML + 'account_unit = "owner"') == accounts


def test_the_owner_of_whom_an_event_names_is_asked_for_too(connection: Connection) -> None:
    value = {"oracle": {"repaid_usd": Decimal(1), "repaid_trust": "governed"}}
    loan(connection, log("l1"), {"owner": DAVE, "worth": value})
    own(connection, DAVE, "ethereum", "0xchain")
    own(connection, DAVE, "aave_v3.ethereum", "0xvenue")

    assert units(connection, LOAN_TOML + 'account_unit = "owner"') == ["0xvenue"]


@pytest.mark.parametrize(
    ("venue", "counted"),
    [("aave_v3.ethereum", 1), ("ethereum", 1), ("*", 1), ("base", 0), ("aave_v3.base", 0)],
)
def test_a_label_holds_on_a_venue_on_a_chain_or_everywhere(
    connection: Connection, venue: str, counted: int
) -> None:
    value = {"oracle": {"repaid_usd": Decimal(1), "repaid_trust": "governed"}}
    loan(connection, log("l1"), {"worth": value})
    label(connection, 1, {"account": FRANK, "venue": venue, "label": "whale"})

    only = LOAN_TOML + '[labels]\nonly = ["whale"]'
    assert len(units(connection, only)) == counted


def units(connection: Connection, toml: str, id: str = "mine/v1") -> list[str]:
    definitions.keep(connection, [msgspec.structs.replace(of_toml(toml), id=id)])
    query = "SELECT unit FROM liq.counted(%s, %s::timestamptz, %s::timestamptz)"
    return [str(unit) for (unit,) in asked(connection, query, id, DAY, NEXT)]


def own(connection: Connection, account: str, venue: str, owner: str) -> None:
    insert(connection, "owner_of", {
        "venue": venue, "account": account, "owner": owner, "via": [], "method": "said",
        "proof": "[]", "since": T0,
    })  # fmt: skip


# -- random rows under random definitions


def test_the_database_counts_what_the_model_counts(connection: Connection) -> None:
    # to shrink an example takes minutes, as each is a database's work
    @settings(max_examples=60, deadline=None, derandomize=True, phases=(Phase.generate,))
    @given(
        world=WORLD,
        many=st.lists(definition_of(), min_size=1, max_size=5),
        high=st.sampled_from([NEXT, T0 + timedelta(seconds=600)]),
    )
    def run(world: Raw, many: list[Definition], high: datetime) -> None:
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            for number, d in enumerate(many):
                blocks = (10, 20) if isinstance(d.window, Blocks) else (None, None)
                window = (T0, high, *blocks)
                agrees(connection, msgspec.structs.replace(d, id=f"mine/v{number + 1}"), window)

    run()


# -- what others published -----------------------------------------------------------------------


def test_a_published_market_liquidation_has_its_two_notionals(connection: Connection) -> None:
    # NEAR, 64.8 at 4.6879 and marked at 4.69112: section 10 of the methodology
    near = {
        "usd": "303.77592", "market": "NEAR", "dir_liquidated": "Close Long",
        "worth": {"par": {"mark_usd": Decimal("303.984576")}},
    }  # fmt: skip
    perp(connection, "near", near)
    fill, mark = of_toml(PERP_TOML), of_toml(PERP_TOML + 'perp_value = "mark"')

    assert counted(connection, fill) == {"near": "303.77592"}
    assert headline(connection, fill) == "303.77592 303.77592 None 1 1 1 1 1 1 1 0"
    assert counted(connection, msgspec.structs.replace(mark, id="mine/v2")) == {
        "near": "303.984576"
    }


@pytest.mark.parametrize(
    ("preset", "rows", "usd"),
    [
        ("strict/v1", "", "0 None None"),
        ("adl_only/v1", "avax~=629.79975", "629.79975 None 629.79975"),
        ("gross_legs/v1", "avax~=629.79975", "629.79975 None 629.79975"),
        ("defillama_notional/v1", "avax=629.79975", "629.79975 629.79975 None"),
    ],
)
def test_a_winners_leg_is_of_the_winner_or_of_the_vault_and_never_both(
    connection: Connection, preset: str, rows: str, usd: str
) -> None:
    # AVAX, 28.53 at 22.075, the winner short and the vault long: section 10 of the methodology
    perp(
        connection, "avax",
        PERPS["p5"] | {"usd": "629.79975", "block_at": T0},
    )  # fmt: skip

    assert counted(connection, presets()[preset]) == rows_of(rows)
    assert headline(connection, presets()[preset]).startswith(usd)


# -- presets on all data -------------------------------------------------------------------------


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_preset_agrees_with_the_model_on_what_was_made_by_hand(
    world: Connection, preset: str
) -> None:
    agrees(world, presets()[preset], (DAY, NEXT, None, None))


@pytest.fixture(scope="module")
def simulated(
    postgres: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Connection]:
    """The simulator's exchange, as its files tell it, and valued."""
    sim, folder = simulate(RECORDING), tmp_path_factory.mktemp("node")
    write_by_block(sim, folder)
    write_misc(sim, folder)
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as connection:
        sync.backfill(connection, str(folder))
        values.value(connection)
        yield connection


@pytest.fixture(scope="module")
def truth() -> Simulation:
    return simulate(RECORDING)


ALWAYS = (DAY - timedelta(days=3650), NEXT + timedelta(days=3650), None, None)


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_preset_agrees_with_the_model_on_the_simulators_exchange(
    simulated: Connection, preset: str
) -> None:
    agrees(simulated, presets()[preset], ALWAYS)


def test_gross_legs_and_strict_are_what_the_simulator_knows(
    simulated: Connection, truth: Simulation
) -> None:
    every = [*truth.truth.liquidations, *truth.truth.without_object]
    kinds = {"market", "backstop", "adl_of_user", "adl_of_vault"}
    of_users = [*truth.truth.of_users, *truth.truth.without_object]

    gross = headline(simulated, presets()["gross_legs/v1"], ALWAYS[0], ALWAYS[1])
    strict = headline(simulated, presets()["strict/v1"], ALWAYS[0], ALWAYS[1])

    both = sum(2 * row.notional for row in every if row.method in kinds)
    once = sum(row.notional for row in of_users if row.method in kinds)
    assert Decimal(gross.split()[0]) == both
    assert Decimal(strict.split()[0]) == once


@pytest.fixture(scope="module")
def real(postgres: Server, migrated: str, real_data: Path) -> Iterator[Connection]:
    """Records of the real exchange that beside each other tell no lie."""
    folder = real_data / "hyperliquid"
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as connection:
        sync.backfill(connection, str(folder / "node_fills_by_block_20251027_17_uncut.jsonl"))
        sync.backfill(connection, str(folder / "fills_single.jsonl"))
        values.value(connection)
        yield connection


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_preset_agrees_with_the_model_on_real_records(real: Connection, preset: str) -> None:
    agrees(real, presets()[preset], ALWAYS)


# -- asked in SQL --------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_dates_are_of_the_definitions_zone_whatever_the_sessions(
    world: Connection, zone: str
) -> None:
    strict, chinese = presets()["strict/v1"], presets()["natural_day_cn/v1"]
    definitions.keep(world, [strict, chinese])
    world.execute("SELECT set_config('TimeZone', %s, true)", (zone,))
    usd = "SELECT usd FROM liq.total(%s, '2025-10-10', '2025-10-11') WHERE section = 'total'"
    at = (
        "SELECT usd FROM liq.total(%s, '2025-10-10T21:10:00Z', '2025-10-11T05:20:00+08')"
        " WHERE section = 'total'"
    )

    assert asked(world, usd, strict.id) == [(Decimal("1090687.755"),)]
    assert asked(world, usd, chinese.id) == [(Decimal("512.005"),)]
    assert asked(world, at, strict.id) == [(Decimal("4.25"),)]


@pytest.mark.parametrize(
    "said",
    [
        "2025-10-10T21:15:00", "2025-10-10 21:15", "2025-1-10", "10-10-2025", "2025-10",
        "yesterday", "now", "", "2025-10-10Z", "infinity",
    ],
)  # fmt: skip
def test_a_time_that_depends_on_the_session_is_refused(world: Connection, said: str) -> None:
    definitions.keep(world, [presets()["strict/v1"]])

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="is neither a date nor a time"):
        world.execute("SELECT * FROM liq.total('strict/v1', %s::text, '2025-10-11')", (said,))


def test_an_unknown_definition_is_refused_and_the_known_ones_are_named(world: Connection) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        world.execute("SELECT * FROM liq.total('no/v1', '2025-10-10', '2025-10-11')")

    assert caught.value.diag.message_primary == "there is no definition 'no/v1'"
    assert caught.value.diag.message_hint == "SELECT id FROM liq.definitions"


@pytest.mark.parametrize(
    "text",
    [
        "'",
        "it's",
        "x' OR true --",
        "\\' OR true --",
        '"',
        "$4",
        "%s",
        "{usd}",
        "$text$",
        "/*",
        "''",
    ],
)
def test_no_text_of_a_definition_gets_out_of_its_quotes(connection: Connection, text: str) -> None:
    perp(connection, "p1", {"usd": "1", "market": text, "dir_liquidated": text + " and more"})
    perp(connection, "p2", {"usd": "2"})
    label(connection, 1, {"account": ALICE, "label": text})
    hostile = defined(
        {"instruments": ["perp"], "markets": [text], "dirs": [text], "labels": {"only": [text]}}
    )

    assert counted(connection, hostile) == {"p1": "1"}
    agrees(connection, hostile, (DAY, NEXT, None, None))


# -- what is known of a definition ---------------------------------------------------------------


def test_a_definition_that_is_known_is_not_written_again(connection: Connection) -> None:
    definitions.keep(connection, presets().values())
    connection.execute("SET default_transaction_read_only = on")

    definitions.keep(connection, presets().values())

    assert definitions.known(connection, "strict/v1") == presets()["strict/v1"]


def test_a_definition_never_changes_its_meaning(connection: Connection) -> None:
    strict = presets()["strict/v1"]
    changed = msgspec.structs.replace(strict, trust="any")
    definitions.keep(connection, [strict])

    with pytest.raises(ConfigError) as caught:
        definitions.keep(connection, [changed])

    assert str(caught.value) == (
        f"strict/v1 is known with another meaning: its hash was {strict.hash[:12]}"
        f" and is {changed.hash[:12]} now; give it a new version"
    )


def test_sums_of_days_go_with_the_query_that_made_them(connection: Connection) -> None:
    strict = presets()["strict/v1"]
    definitions.keep(connection, [strict])
    connection.execute("SELECT ledger.roll_up('strict/v1', '2025-10-10')")
    connection.execute("UPDATE ledger.definition SET query = 'what an older program made of it'")

    definitions.keep(connection, [strict])

    assert asked(connection, "SELECT * FROM ledger.rolled_day") == []


# -- sums of days --------------------------------------------------------------------------------

SUMS = """
    SELECT venue, account, usd, long_usd, short_usd, records, unvalued
    FROM liq.largest_accounts(%s, %s::timestamptz, %s::timestamptz, 1000)
"""
OF_ROWS = """
    SELECT venue, unit, sum(usd), sum(usd) FILTER (WHERE side = 'long'),
           sum(usd) FILTER (WHERE side = 'short'), count(*), count(*) - count(usd)
    FROM liq.counted(%s, %s::timestamptz, %s::timestamptz) GROUP BY venue, unit
"""
ROLLED = "SELECT day::text FROM ledger.rolled_day"


def rolled(connection: Connection, id: str, *days: str) -> list[bool]:
    query = "SELECT ledger.roll_up(%s, %s)"
    return [bool(asked(connection, query, id, day)[0][0]) for day in days]


def sums_are_those_of_the_rows(
    connection: Connection, id: str, low: datetime = DAY, high: datetime = NEXT + timedelta(days=1)
) -> None:
    assert asked(connection, SUMS, id, low, high) == asked(connection, OF_ROWS, id, low, high)


def test_sums_by_day_are_those_of_the_rows_in_any_window(world: Connection) -> None:
    strict = presets()["strict/v1"]
    definitions.keep(world, [strict])

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        days=st.sets(st.sampled_from(["2025-10-09", "2025-10-10", "2025-10-11", "2025-10-12"])),
        low=st.integers(0, 4 * 24 * 60),
        minutes=st.integers(1, 4 * 24 * 60),
    )
    def run(days: set[str], low: int, minutes: int) -> None:
        start = DAY - timedelta(days=1) + timedelta(minutes=low)
        with world.transaction(force_rollback=True):
            rolled(world, strict.id, *days)
            sums_are_those_of_the_rows(world, strict.id, start, start + timedelta(minutes=minutes))

    run()


def test_the_largest_accounts_come_first(world: Connection) -> None:
    definitions.keep(world, [presets()["strict/v1"]])
    query = "SELECT * FROM liq.largest_accounts('strict/v1', '2025-10-10', '2025-10-11', 2)"
    found = [
        ("aave_v3.ethereum", KIM, Decimal(640_000), Decimal(640_000), None, 1, 0),
        ("comet.ethereum", LOU, Decimal(320_000), Decimal(320_000), None, 1, 0),
    ]

    assert world.execute(query).fetchall() == found
    assert rolled(world, "strict/v1", "2025-10-10") == [False]  # l5 is not final
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    assert rolled(world, "strict/v1", "2025-10-10") == [True]
    assert world.execute(query).fetchall() == found


CHANGES = {
    "a row goes": "DELETE FROM ledger.liquidation WHERE event_key = 'p8'",
    "a row changes": "UPDATE ledger.liquidation SET side = 'long' WHERE event_key = 'p8'",
    "a row moves to the day": f"UPDATE ledger.liquidation SET block_at = '{T0}'"
    " WHERE event_key = 'p11'",
    "a row moves away": f"UPDATE ledger.liquidation SET block_at = '{NEXT}' WHERE event_key = 'p8'",
    "a row comes": "INSERT INTO ledger.liquidation SELECT (jsonb_populate_record(l,"
    " '{\"event_key\": \"new\"}')).* FROM ledger.liquidation l WHERE event_key = 'p8'",
    "a loan comes": "INSERT INTO ledger.lending_liquidation SELECT (jsonb_populate_record(l,"
    " '{\"event_key\": \"new/0\"}')).* FROM ledger.lending_liquidation l WHERE market = '0xm'",
    "a loan goes": "DELETE FROM ledger.lending_liquidation WHERE market = '0xc'",
    "a reorg takes a loan back": "WITH reorg AS (INSERT INTO ledger.reorg"
    " (chain, ancestor, old_tip, old_tip_hash, found_by, why)"
    " VALUES ('ethereum', 1, 2, '', 'reorg', '') RETURNING reorg_id),"
    " gone AS (DELETE FROM ledger.lending_liquidation WHERE market = 'pool' RETURNING *)"
    " INSERT INTO ledger.orphan_lending_liquidation SELECT reorg_id, gone.* FROM gone, reorg",
    "another kin": "DELETE FROM ledger.asset_kin WHERE family = 'USD'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_sums_of_a_day_go_when_its_rows_change(world: Connection, change: str) -> None:
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    definitions.keep(world, [presets()["strict/v1"]])
    assert rolled(world, "strict/v1", "2025-10-10", "2025-10-11") == [True, True]

    world.execute(change)

    sums_are_those_of_the_rows(world, "strict/v1")
    assert asked(world, ROLLED + " WHERE day = '2025-10-10'") == []


def test_sums_of_a_day_go_when_its_values_change(world: Connection) -> None:
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    definitions.keep(world, [presets()["strict/v1"]])
    values.value(world)
    assert rolled(world, "strict/v1", "2025-10-10", "2025-10-11") == [True, True]

    insert(
        world, "price",
        {
            "venue": "comet.ethereum", "market": "0xc", "asset": USDC, "block_number": 10,
            "log_index": -1, "source": "oracle", "usd": Decimal("0.000001"), "quality": "A",
            "trust": "governed", "via": [], "as_of_block": 10,
        },
    )  # fmt: skip
    values.value(world, until=AT["23:00"])

    sums_are_those_of_the_rows(world, "strict/v1")
    assert asked(world, ROLLED) == [("2025-10-11",)]
    values.value(world)
    assert asked(world, ROLLED) == [("2025-10-11",)]


def test_sums_of_the_exchanges_ledger_go_when_a_row_of_it_comes(world: Connection) -> None:
    whole = presets()["ledger_account/v1"]
    definitions.keep(world, [whole])
    assert rolled(world, whole.id, "2025-10-10") == [True]

    update(world, "u3", {"notional_mark": Decimal(700)})
    sums_are_those_of_the_rows(world, whole.id)
    assert rolled(world, whole.id, "2025-10-10") == [True]
    world.execute("DELETE FROM ledger.protocol_vault")

    sums_are_those_of_the_rows(world, whole.id)
    assert asked(world, SUMS, whole.id, DAY, NEXT) == [
        ("hyperliquid", VAULT, Decimal(70).normalize(), None, None, 1, 0),
        ("hyperliquid", ALICE, Decimal(707), None, None, 2, 0),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        'repeat = {keep = "first"}', "minimum_usd = 5", 'sample = {seconds = 7, keep = "last"}',
        'labels = {only = ["whale"]}', 'account_unit = "owner"',
    ],
)  # fmt: skip
def test_what_does_not_add_up_over_days_or_becomes_known_later_is_never_added_up(
    world: Connection, changed: str
) -> None:
    definitions.keep(world, [of_toml(PERP_TOML + changed)])

    assert rolled(world, "mine/v1", "2025-10-10") == [False]
    assert asked(world, ROLLED) == []
    sums_are_those_of_the_rows(world, "mine/v1")


# -- totals of days

TOTAL = "SELECT * FROM {}(%s, %s::timestamptz, %s::timestamptz)"
DAYS = ("2025-10-10", "2025-10-11")
FALSIFY = "UPDATE ledger.day_total SET usd = -1, records = -1"


def total_of(connection: Connection, d: Definition, low: datetime, high: datetime) -> list[Any]:
    return connection.execute(TOTAL.format("liq.total"), (d.id, low, high)).fetchall()


def of_rows(connection: Connection, d: Definition, low: datetime, high: datetime) -> list[Any]:
    return connection.execute(TOTAL.format("ledger.total_of_rows"), (d.id, low, high)).fetchall()


def stored_days_are_those_of_the_rows(connection: Connection, *many: Definition) -> int:
    """Line by line in their order, to the last digit; gives how many days are stored."""
    for low in (DAY, NEXT):
        for d in many:
            found = total_of(connection, d, low, low + timedelta(days=1))
            assert repr(found) == repr(of_rows(connection, d, low, low + timedelta(days=1)))
    compared = rollups.compare(connection)
    assert [one for one in compared if one.differs] == []
    return len(compared)


def adds_up(d: Definition) -> bool:
    labels = d.labels
    return d.is_additive and d.account_unit == "address" and not (labels.only or labels.without)


@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_stored_total_is_that_of_the_rows_whatever_happens_to_them(
    world: Connection, preset: str
) -> None:
    d = presets()[preset]
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    assert rolled(world, d.id, *DAYS) == [adds_up(d)] * 2
    agrees(world, d, (DAY, NEXT, None, None))
    stored = stored_days_are_those_of_the_rows(world, d)

    for change in (*CHANGES.values(), *FURTHER_CHANGES):
        with world.transaction(force_rollback=True):
            world.execute(change)
            stored_days_are_those_of_the_rows(world, d)

    assert stored == 2 * adds_up(d)


_WORTH = """
    WITH worth AS (UPDATE ledger.valuation SET repaid_usd = repaid_usd + 1
                   WHERE price_source = 'oracle' RETURNING block_at)
    SELECT ledger.forget_days(min(block_at), max(block_at)) FROM worth
"""
FURTHER_CHANGES = (
    # what was final is not any more, or was not when nobody followed the chain
    "UPDATE ledger.stream SET finalized_block = 500",
    "INSERT INTO ledger.stream (chain, next_block, tip_hash, finalized_block, epoch)"
    " VALUES ('ethereum', 12, '', 10, 0) ON CONFLICT (chain) DO UPDATE SET finalized_block = 10",
    "INSERT INTO ledger.owner_of (venue, account, owner, via, method, proof, since)"
    f" SELECT 'hyperliquid', account, '{INK}', '{{}}', 'said', '[]', '{T0}'"
    f" FROM unnest(ARRAY['{ALICE}', '{BOB}']) AS account ON CONFLICT DO NOTHING",
    "INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence, evidence,"
    f" valid_during, recorded_during) VALUES ('*', '{BOB}', 'whale', 'late', 1, 1, '{{}}',"
    " tstzrange(NULL, NULL), tstzrange(NULL, NULL))",
    "DELETE FROM ledger.protocol_vault",
    "DELETE FROM ledger.ledger_liquidation",
    "DELETE FROM ledger.liquidation",
    "DELETE FROM ledger.lending_liquidation WHERE block_number = 10",
    "UPDATE ledger.lending_liquidation SET block_at = block_at + interval '1 day'",
    "UPDATE ledger.liquidation SET account_is_protocol_vault = NOT account_is_protocol_vault",
    f"UPDATE ledger.asset SET decimals = 5 WHERE address = '{USDC}'",
    "INSERT INTO ledger.share_rate (chain, asset, block_number, underlying, shares_raw, assets_raw)"
    f" SELECT chain, '{VTOKEN}', block_number, '{WBTC}', 1, 1 FROM ledger.block"
    " ON CONFLICT DO NOTHING",
    _WORTH,  # as a pass over values does it
)


def test_stored_totals_of_random_rows_stay_those_of_the_rows(connection: Connection) -> None:
    stored = 0

    @settings(max_examples=25, deadline=None, derandomize=True, phases=(Phase.generate,))
    @given(
        world=WORLD,
        many=st.lists(
            st.one_of(st.sampled_from(list(presets().values())), definition_of()),
            min_size=2, max_size=4,
        ),
        changes=st.lists(st.sampled_from(FURTHER_CHANGES), min_size=1, max_size=4),
        then=st.booleans(),
    )  # fmt: skip
    def run(world: Raw, many: list[Definition], changes: list[str], then: bool) -> None:
        nonlocal stored
        with connection.transaction(force_rollback=True):
            store_world(connection, world)
            named = [
                msgspec.structs.replace(d, id=f"mine/v{number + 1}")
                for number, d in enumerate(many)
            ]
            definitions.keep(connection, named)
            for change in (*changes, None):
                for d in named:
                    rolled(connection, d.id, *DAYS)
                stored += stored_days_are_those_of_the_rows(connection, *named)
                if change:
                    connection.execute(change)
                elif then:
                    values.value(connection)
                stored += stored_days_are_those_of_the_rows(connection, *named)

    run()
    assert stored > 200  # and not all refused


def test_a_total_is_stored_for_exactly_a_utc_day_and_read_from_rows_elsewhere(
    world: Connection,
) -> None:
    strict, chinese = presets()["strict/v1"], presets()["natural_day_cn/v1"]
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    assert rolled(world, strict.id, *DAYS) == rolled(world, chinese.id, *DAYS) == [True, True]
    hour = timedelta(hours=1)
    others = [
        (DAY, NEXT - timedelta(microseconds=1)), (DAY + hour, NEXT), (DAY + hour, NEXT + hour),
        (DAY - timedelta(microseconds=1), NEXT), (DAY, NEXT + timedelta(days=1)), (DAY, DAY),
    ]  # fmt: skip
    before = [of_rows(world, strict, *window) for window in others]
    world.execute(FALSIFY)

    assert {line[5] for line in total_of(world, strict, DAY, NEXT)} == {-1}
    assert [total_of(world, strict, *window) for window in others] == before
    of_blocks = f"SELECT records FROM liq.total{OF_WINDOW} WHERE section = 'total'"
    assert asked(world, of_blocks, strict.id, DAY, NEXT, 10, 11) == [(4,)]
    in_words = "SELECT usd FROM liq.total(%s, '2025-10-10', '2025-10-11') WHERE section = 'total'"
    assert asked(world, in_words, strict.id) == [(Decimal(-1),)]
    assert asked(world, in_words, chinese.id) == [(Decimal("512.005"),)]


@pytest.mark.parametrize("ends", [("-infinity", "infinity"), (None, None), ("infinity",) * 2])
def test_windows_without_ends_are_no_days(world: Connection, ends: tuple[str, str]) -> None:
    definitions.keep(world, [presets()["strict/v1"]])
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    rolled(world, "strict/v1", *DAYS)
    found, expected = (
        world.execute(TOTAL.format(name), ("strict/v1", *ends)).fetchall()
        for name in ("liq.total", "ledger.total_of_rows")
    )

    assert found == expected != []


def test_lines_come_in_the_order_in_which_they_are_told(world: Connection) -> None:
    found = total_of(world, presets()["strict/v1"], DAY, NEXT)
    sections = ["total", "instrument", "venue", "asset", "method", "side", "price_source",
                "beside", "largest"]  # fmt: skip

    assert found == sorted(
        found, key=lambda line: (sections.index(line[0]), line[1] is None, line[1] or "")
    )
    assert {line[0] for line in found} == set(sections)


def test_a_proof_reads_rows_and_not_what_is_stored(world: Connection) -> None:
    strict = presets()["strict/v1"]
    window = resolve(strict.window, "2025-10-10", NEXT)
    world.execute("UPDATE ledger.stream SET finalized_block = 999")
    rolled(world, strict.id, *DAYS)
    saved = totals.within(world, strict, window, {}, NEXT)
    totals.save(world, saved)
    world.execute(FALSIFY)
    bounds = (strict.id, window.low, window.high)

    now = totals.within(world, strict, window, {}, NEXT)

    assert now == saved
    assert now.line.usd == of_rows(world, strict, *bounds[1:])[0][2] != Decimal(-1)  # type: ignore[arg-type]


def test_making_sums_waits_for_who_changes_a_row(connection: Connection, beside: Beside) -> None:
    perp(connection, "p1", {"usd": "1"})
    definitions.keep(connection, [presets()["strict/v1"]])

    with connection.transaction():
        perp(connection, "p2", {"usd": "2"})
        summing = beside(lambda other: rolled(other, "strict/v1", "2025-10-10"))
        assert not summing.done()

    assert summing.result(timeout=60) == [True]
    assert [row[:3] for row in asked(connection, SUMS, "strict/v1", DAY, NEXT)] == [
        ("hyperliquid", ALICE, Decimal(3))
    ]
    assert stored_days_are_those_of_the_rows(connection, presets()["strict/v1"]) == 1


def test_who_changes_a_row_waits_for_sums_on_their_way_and_forgets_them(
    connection: Connection, beside: Beside
) -> None:
    perp(connection, "p1", {"usd": "1"})

    with connection.transaction():
        assert rolled(connection, "strict/v1", "2025-10-10") == [True]
        changing = beside(lambda other: perp(other, "p2", {"usd": "2"}))
        assert not changing.done()

    changing.result(timeout=60)
    assert asked(connection, ROLLED) == []
    assert total_of(connection, presets()["strict/v1"], DAY, NEXT)[0][5] == 2


def test_who_begins_before_sums_are_made_and_ends_after_it_forgets_them(
    connection: Connection, conninfo: str
) -> None:
    perp(connection, "p1", {"usd": "1"})

    with database.connect(conninfo) as early, early.transaction():
        early.execute("SELECT FROM ledger.rolled_day")
        assert rolled(connection, "strict/v1", "2025-10-10") == [True]
        perp(early, "p2", {"usd": "2"})
        assert total_of(connection, presets()["strict/v1"], DAY, NEXT)[0][5] == 1

    assert asked(connection, ROLLED) == []
    assert total_of(connection, presets()["strict/v1"], DAY, NEXT)[0][5] == 2


REPEATABLE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"


def test_a_snapshot_that_could_not_see_sums_changes_no_row(
    connection: Connection, conninfo: str
) -> None:
    perp(connection, "p1", {"usd": "1"})

    with database.connect(conninfo) as early, early.transaction(force_rollback=True):
        early.execute(REPEATABLE)
        early.execute("SELECT FROM ledger.rolled_day")
        assert rolled(connection, "strict/v1", "2025-10-10") == [True]
        with pytest.raises(psycopg.errors.InvalidTransactionState, match="READ COMMITTED alone"):
            perp(early, "p2", {"usd": "2"})

    assert stored_days_are_those_of_the_rows(connection, presets()["strict/v1"]) == 1


def test_no_sums_are_made_in_a_snapshot_that_could_not_see_rows(connection: Connection) -> None:
    perp(connection, "p1", {"usd": "1"})

    with (
        pytest.raises(psycopg.errors.InvalidTransactionState, match="READ COMMITTED alone"),
        connection.transaction(),
    ):
        connection.execute(REPEATABLE)
        rolled(connection, "strict/v1", "2025-10-10")


def test_a_snapshot_reads_what_was_stored_of_the_rows_in_it(
    connection: Connection, conninfo: str
) -> None:
    perp(connection, "p1", {"usd": "1"})
    assert rolled(connection, "strict/v1", "2025-10-10") == [True]

    with database.connect(conninfo) as reader, reader.transaction():
        reader.execute(REPEATABLE)
        before = total_of(reader, presets()["strict/v1"], DAY, NEXT)
        perp(connection, "p2", {"usd": "2"})
        assert total_of(reader, presets()["strict/v1"], DAY, NEXT) == before
        assert stored_days_are_those_of_the_rows(reader, presets()["strict/v1"]) == 1

    assert stored_days_are_those_of_the_rows(connection, presets()["strict/v1"]) == 0


def test_sums_wait_for_who_compiles_their_definition_anew(
    connection: Connection, beside: Beside
) -> None:
    perp(connection, "p1", {"usd": "1"})

    with connection.transaction():
        connection.execute("UPDATE ledger.definition SET query = replace(query, 'counted', 'x')")
        summing = beside(lambda other: rolled(other, "strict/v1", "2025-10-10"))
        assert not summing.done()
        connection.execute("DELETE FROM ledger.rolled_day")

    assert summing.result(timeout=60) == [True]
    assert total_of(connection, presets()["strict/v1"], DAY, NEXT)[0][5] == 0


def test_connections_write_at_the_level_that_sums_need_whatever_the_server_says(
    conninfo: str,
) -> None:
    options = "-c default_transaction_isolation=serializable"

    with database.connect(make_conninfo(conninfo, options=options)) as connection:
        perp(connection, "p1", {"usd": "1"})
        assert rolled(connection, "strict/v1", "2025-10-10") == [True]
