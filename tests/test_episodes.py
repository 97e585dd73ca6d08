"""Stories of episodes: against what the simulated exchange did, worked out here in Python from its
truth alone, and by hand where the simulator has no such thing. All data here is SIMULATED."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from io import StringIO
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from indexer import resources, sync
from indexer.errors import ConfigError, IndexerError
from indexer.report import episode as shown
from indexer.report.story import sentence, unknown
from indexer.report.whales import collect
from indexer.store import database, episodes, loan_episodes, values
from indexer.store.database import Connection
from indexer.store.episodes import PerpStory, Place, Point, thinned
from indexer.store.loan_episodes import LoanStory
from indexer.store.server import Server
from tests.conftest import Command
from tests.postgres import database as throw_away
from tests.simulator import PROTOCOL_VAULTS, Simulation, simulate, small, write_by_block, write_misc
from tests.simulator.truth import Liquidation

GAP = timedelta(seconds=900)
DAY = timedelta(hours=24)
ROOT = Path(__file__).resolve().parents[1]
WHALE, OTHER, VAULT = "0x" + 40 * "a", "0x" + 40 * "b", "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"
T0 = datetime(2025, 10, 10, 21, 15, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>[red]|`x`*b*\x1b[31m\x07\u202e\n# \\"


@pytest.fixture(scope="module")
def simulated() -> Simulation:
    return simulate(small(3))


@pytest.fixture(scope="module")
def tree(simulated: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_by_block(simulated, folder)
    write_misc(simulated, folder)
    return folder


@pytest.fixture(scope="module")
def filled(postgres: Server, migrated: str, tree: Path) -> Iterator[Connection]:
    """The simulated hour with its values, for tests that only read."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        sync.backfill(opened, str(tree))
        values.value(opened, venues=["hyperliquid"])
        yield opened


# -- the model -----------------------------------------------------------------------------------


def happened(simulation: Simulation) -> list[Liquidation]:
    """Every forced trade, in the order in which it was made."""
    truth = simulation.truth
    return sorted((*truth.liquidations, *truth.without_object), key=lambda row: row.block_time)


def true_episodes(simulation: Simulation) -> list[list[Liquidation]]:
    """All of them, each in the order in which it happened."""
    found: list[list[Liquidation]] = []
    open_ones: dict[tuple[str, str], list[Liquidation]] = {}
    for row in happened(simulation):
        last = open_ones.get((row.account, row.dex))
        if last is None or row.block_time - last[-1].block_time > GAP:
            open_ones[row.account, row.dex] = last = []
            found.append(last)
        last.append(row)
    return found


def model(rows: list[Liquidation], simulation: Simulation) -> dict[str, Any]:
    """What the story of an episode must be, without its key."""
    steps = true_steps(rows, simulation)
    taken = [row for row in rows if row.method in ("backstop", "adl_of_user")]
    margins = [margin_lost(row, simulation) for row in taken]
    methods = in_order_of_money(rows, "method")
    fees = {token: total(r.fee for r in rows if r.fee_token == token)
            for token in sorted({row.fee_token for row in rows})}  # fmt: skip
    return {
        "venue": "hyperliquid", "account": rows[0].account, "dex": rows[0].dex,
        "first_at": rows[0].block_time, "last_at": rows[-1].block_time,
        "first_block": rows[0].block_number, "last_block": rows[-1].block_number,
        "fills": len(rows), "orders": len({(row.coin, row.oid) for row in rows}),
        "actions": len({row.hash for row in rows}),
        "markets": tuple(sorted({row.coin for row in rows})),
        "sides": tuple(sorted({row.side for row in rows})),
        "margin_modes": tuple(sorted(
            {row.dir_liquidated.split()[1].lower() for row in rows
             if row.dir_liquidated.startswith("Liquidated")})),
        "quotes": tuple(sorted({row.quote for row in rows})),
        "is_protocol_vault": rows[0].account in PROTOCOL_VAULTS, "was_read_whole": True,
        "notional": total(row.notional for row in rows),
        "notional_usd": total(row.notional for row in rows),
        "notional_mark_usd": total(row.notional_mark for row in rows if row.notional_mark),
        "realised_pnl": total(row.realised_pnl for row in rows),
        "realised_pnl_usd": total(row.realised_pnl for row in rows),
        "unpriced": 0, "without_mark": sum(row.mark_price is None for row in rows),
        "without_pnl": 0, "without_own_leg": 0, "without_fee": 0, "one_legged_backstops": 0,
        "takeovers": len(taken), "without_margin": margins.count(None),
        "margin_lost_usd": some(margins),
        "labels": (),
        "shares": tuple(
            true_share(method, [row for row in rows if row.method == method])
            for method in methods
        ),
        "fees": tuple(
            {"asset": token, "amount": paid, "usd": paid} for token, paid in fees.items()
        ),
        "lacks": tuple(
            {"basis": "margin_lost", "records": margins.count(None),
             "reason": "neither mark nor equity of this liquidation is known"}
            for _ in range(None in margins)
        ),
        "by_market": tuple(
            true_market([row for row in rows if row.coin == coin], coin)
            for coin in in_order_of_money(rows, "coin")
        ),
        "steps": tuple(steps),
    }  # fmt: skip


def total(amounts: Iterator[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def some(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None


def in_order_of_money(rows: list[Liquidation], name: str) -> list[str]:
    sums: dict[str, Decimal] = {}
    for row in rows:
        sums[getattr(row, name)] = sums.get(getattr(row, name), Decimal(0)) + row.notional
    return sorted(sums, key=lambda one: (-sums[one], one))


def margin_lost(row: Liquidation, simulation: Simulation) -> Decimal | None:
    """As stated, where the action is just this trade; else what a backstop paid less than mark."""
    alike = [one for one in happened(simulation) if (one.account, one.hash)
             == (row.account, row.hash)]  # fmt: skip
    stated = [said.account_value for said in simulation.truth.ledger_liquidations
              if (said.account, said.hash) == (row.account, row.hash)]  # fmt: skip
    if len(alike) == len(stated) == 1:
        return stated[0]
    if row.method != "backstop" or row.mark_price is None:
        return None
    return (row.mark_price - row.price) * row.size * (1 if row.side == "long" else -1)


def true_share(method: str, rows: list[Liquidation]) -> dict[str, Any]:
    names = {account: f"of {account}" for account in PROTOCOL_VAULTS}
    by_taker: dict[str, list[Liquidation]] = {}
    for row in rows:
        by_taker.setdefault(row.counterparty, []).append(row)
    takers = sorted(by_taker, key=lambda one: (-total(row.notional for row in by_taker[one]), one))
    return {
        "method": method, "fills": len(rows), "orders": len({(r.coin, r.oid) for r in rows}),
        "actions": len({row.hash for row in rows}), "notional": total(r.notional for r in rows),
        "notional_usd": total(row.notional for row in rows), "takers": len(takers), "unseen": 0,
        "largest": tuple(
            {"account": one, "name": names.get(one), "fills": len(by_taker[one]),
             "notional": total(row.notional for row in by_taker[one])}
            for one in takers[:5]
        ),
    }  # fmt: skip


def true_steps(rows: list[Liquidation], simulation: Simulation) -> list[dict[str, Any]]:
    """What an action did in one market by one method; the markets of an action by name."""
    groups: dict[tuple[int, str, str], list[Liquidation]] = {}
    actions = list(dict.fromkeys(row.hash for row in rows))
    for row in rows:
        groups.setdefault((actions.index(row.hash), row.coin, row.method), []).append(row)
    found, so_far = [], Decimal(0)
    for _, members in sorted(groups.items(), key=lambda item: item[0][:2]):
        first = members[0]
        so_far += total(row.notional for row in members)
        said = [one for one in simulation.truth.ledger_liquidations
                if (one.account, one.hash) == (first.account, first.hash)]  # fmt: skip
        (mark,) = {row.mark_price for row in members}
        before, after = true_ends(members)
        found.append({
            "at": first.block_time, "block_number": first.block_number, "tx_hash": first.hash,
            "market": first.coin, "side": first.side, "method": first.method,
            "fills": len(members), "orders": len({row.oid for row in members}),
            "size": total(row.size for row in members), "low": min(row.price for row in members),
            "high": max(row.price for row in members),
            "notional": total(row.notional for row in members),
            "notional_usd": total(row.notional for row in members),
            "notional_mark": some([row.notional_mark for row in members]), "mark_price": mark,
            "realised_pnl": total(row.realised_pnl for row in members), "so_far": so_far,
            "position_before": before, "position_after": after,
            "equity": some([one.account_value for one in said]),
            "margin_mode": said[0].leverage_type.lower() if said else None,
        })  # fmt: skip
    return found


def true_ends(members: list[Liquidation]) -> tuple[Decimal | None, Decimal | None]:
    """Of a chain of fills; a balance of spot is topped up within one, and has none."""
    links = [one.position_after == two.position_before for one, two in pairwise(members)]
    if members[0].coin.startswith("@") and not all(links):
        return None, None
    assert all(links)
    return members[0].position_before, members[-1].position_after


def true_market(rows: list[Liquidation], coin: str) -> dict[str, Any]:
    sign = 1 if rows[0].side == "long" else -1
    orders = [list(members) for _, members in groupby(rows, lambda row: row.hash)]
    ends = [true_ends(members) for members in orders]
    moved = [None if before is None or after is None else after - before
             for (_, before), (after, _) in pairwise(ends)]  # fmt: skip
    are_marked = all(row.notional_mark is not None for row in rows)
    notional, size = total(row.notional for row in rows), total(row.size for row in rows)
    mark = total(row.notional_mark for row in rows if row.notional_mark is not None)
    by_time: dict[datetime, list[Liquidation]] = {}
    for row in rows:
        by_time.setdefault(row.block_time, []).append(row)
    return {
        "market": coin, "sides": (rows[0].side,), "fills": len(rows), "size": size,
        "notional": notional, "notional_usd": notional,
        "average_price": ratio(notional, size),
        "worst_price": (min if sign > 0 else max)(row.price for row in rows),
        "mark_first": rows[0].mark_price, "mark_last": rows[-1].mark_price,
        "notional_mark": mark if are_marked else None,
        "slippage": sign * (mark - notional) if are_marked else None,
        "position_before": ends[0][0], "position_after": ends[-1][1],
        "changes": sum(bool(change) for change in moved),
        "changed_by": None if None in moved else some([Decimal(0), *moved]),
        "path": tuple(
            {"at": at, "price": ratio(total(one.notional for one in members),
                                      total(one.size for one in members)),
             "low": min(one.price for one in members), "high": max(one.price for one in members),
             "mark_price": members[0].mark_price}
            for at, members in by_time.items()
        ),
    }  # fmt: skip


def ratio(part: Decimal, whole: Decimal) -> Decimal:
    return rounded(Context(prec=30).divide(part, whole))


def rounded(value: Decimal) -> Decimal:
    return Context(prec=12).plus(value)


# -- what is asked -------------------------------------------------------------------------------


def told(connection: Connection, places: Sequence[Place], gap: timedelta = GAP) -> list[PerpStory]:
    with connection.transaction():
        return episodes.read(connection, places, gap)


def place(rows: list[Liquidation]) -> Place:
    return Place("hyperliquid", rows[0].account, rows[0].dex, rows[0].block_time)


def plain(value: Any) -> Any:
    """A story as the model has it: quotients to twelve digits, vaults by what they are called."""
    match value:
        case msgspec.Struct():
            fields = msgspec.structs.asdict(value)
            if "average_price" in fields or "price" in fields:
                name = "average_price" if "average_price" in fields else "price"
                fields[name] = rounded(fields[name])
            if fields.get("name"):
                fields["name"] = f"of {fields['account']}"
            return {name: plain(one) for name, one in fields.items() if name != "key"}
        case tuple():
            return tuple(map(plain, value))
    return value


def only(connection: Connection, key: str, gap: timedelta = GAP) -> PerpStory:
    (found,) = shown.of_key(connection, key, gap).stories
    assert isinstance(found, PerpStory)
    return found


# -- against the simulator -----------------------------------------------------------------------


def test_every_episode_is_told_as_it_happened(filled: Connection, simulated: Simulation) -> None:
    expected = true_episodes(simulated)

    found = told(filled, [place(rows) for rows in expected])

    assert len(expected) > 40
    assert {method for story in found for method in (s.method for s in story.shares)} == {
        "market", "backstop", "adl_of_user", "adl_of_vault", "borrow_partial", "borrow_backstop",
    }  # fmt: skip
    assert [plain(story) for story in found] == [model(rows, simulated) for rows in expected]


def test_the_model_is_not_deaf(filled: Connection, simulated: Simulation) -> None:
    """A trade that is left out, or at another price, is another story."""
    rows = max(true_episodes(simulated), key=len)
    (found,) = told(filled, [place(rows)])
    dearer = [replace(rows[0], price=rows[0].price + 1), *rows[1:]]

    assert plain(found) != model(rows[:-1], simulated)
    assert plain(found) != model(dearer, simulated)


def test_the_largest_of_a_window_are_whole_and_in_order(
    filled: Connection, simulated: Simulation
) -> None:
    of_users = [rows for rows in true_episodes(simulated) if rows[0].account not in PROTOCOL_VAULTS]
    expected = sorted(of_users, key=lambda rows: -total(row.notional for row in rows))[:5]
    low, high = shown.since(filled, DAY)

    found = shown.of_window(filled, low, high, 5, GAP)

    assert [plain(story) for story in found.stories] == [
        model(rows, simulated) for rows in expected
    ]


def test_a_window_that_cuts_an_episode_tells_it_whole(
    filled: Connection, simulated: Simulation
) -> None:
    rows = max(true_episodes(simulated), key=lambda rows: total(row.notional for row in rows))
    middle = rows[30].block_time
    assert rows[0].block_time < middle < rows[-1].block_time

    found = shown.of_window(filled, middle, middle + timedelta(seconds=1), 9, GAP)

    assert plain(found.stories[0]) == model(rows, simulated)


def test_the_key_is_that_of_the_function(filled: Connection, simulated: Simulation) -> None:
    keys = [key for (key,) in filled.execute("SELECT key FROM liq.episodes()").fetchall()]

    found = told(filled, [place(rows) for rows in true_episodes(simulated)])

    assert sorted(story.key for story in found) == sorted(map(str, keys))


def test_the_largest_episode_of_a_total_is_a_key(filled: Connection) -> None:
    low, high = shown.since(filled, DAY)
    key, usd = filled.execute(
        "SELECT key, usd FROM liq.total('strict/v1', %s::timestamptz, %s::timestamptz)"
        " WHERE section = 'largest' AND name = 'episode'",
        (low, high),
    ).fetchone()  # type: ignore[misc]

    story = only(filled, str(key))

    assert (story.key, story.notional_usd) == (key, usd)


def test_each_sentence_of_the_whale_report_is_that_of_its_episode(filled: Connection) -> None:
    report = collect(filled, since=DAY)

    assert len(report.episodes) == 20
    assert [row.story.en for row in report.episodes] == [
        sentence(only(filled, row.key)) for row in report.episodes
    ]


def test_the_whale_of_hundred_millions_in_one_sentence(
    filled: Connection, simulated: Simulation
) -> None:
    rows = max(true_episodes(simulated), key=lambda rows: total(row.notional for row in rows))
    account, notional = rows[0].account, total(row.notional for row in rows)
    lost, taken = -total(row.realised_pnl for row in rows), rows[-1]
    margin = margin_lost(taken, simulated)
    share = ratio(100 * taken.notional, notional)

    (story,) = told(filled, [place(rows)])

    assert notional > 100_000_000
    assert sentence(story) == (
        f"{account[:6]}…{account[-4:]} lost ${lost:,.2f} on ${notional:,.2f} of ETH long in"
        f" 8 orders over {ratio(Decimal(story.lasted.seconds), Decimal(60)):.1f} min:"
        f" {100 - share:.1f} % taken by the order book, {share:.1f} % by the backstop"
        f" (HLP Liquidator); ${margin:,.2f} of margin went with what was taken over; nothing"
        " of it remained."
    )
    assert unknown(story) == [
        "positions in other markets: the fills do not tell of them",
        "bad debt: the exchange publishes none for a fill",
    ]


# -- by hand -------------------------------------------------------------------------------------


def insert(connection: Connection, table: str, row: Mapping[str, Any]) -> None:
    names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO ledger.{table} ({names}) VALUES ({places})", row)


def fill(
    connection: Connection,
    at: datetime,
    before: int | None,
    size: int,
    price: int = 10,
    **other: Any,
) -> str:
    """A forced sale of a long; gives its key. Where `before` is None the own leg was not seen."""
    number = connection.execute("SELECT count(*) FROM ledger.liquidation").fetchone()
    assert number is not None
    row = {
        "venue": "hyperliquid", "event_key": f"{number[0]}/ETH/1", "account": WHALE,
        "block_number": 100, "block_at": at, "tx_hash": f"0x{at:%d%H%M%S}", "method": "market",
        "market": "ETH", "dex": "", "quote": "USDC", "side": "long", "size": size, "price": price,
        "mark_price": 11, "position_before": before, "order_id": f"o{at:%H%M%S}", "fee": 1,
        "fee_asset": "USDC", "realised_pnl": -5, "counterparty": OTHER,
        "counterparty_kind": "maker", "account_is_protocol_vault": False, "legs_seen": "both",
        "decoder_version": 1,
    } | other  # fmt: skip
    own = row["position_before"] is not None
    row |= {
        "notional": row["size"] * row["price"],
        "notional_mark": row["mark_price"] and row["size"] * row["mark_price"],
        "position_after": row["position_before"] - row["size"] if own else None,
    }
    if not own:
        row |= {"legs_seen": "counterparty", "order_id": None, "fee": None, "fee_asset": None,
                "realised_pnl": None}  # fmt: skip
    insert(connection, "liquidation", row)
    return f"hyperliquid/{row['event_key']}/{row['account']}"


def seconds(count: int) -> timedelta:
    return timedelta(seconds=count)


def positions(story: PerpStory) -> list[tuple[object, object]]:
    return [(step.position_before, step.position_after) for step in story.steps]


def test_two_episodes_of_an_account_are_two_stories(connection: Connection) -> None:
    first = fill(connection, T0, 100, 40)
    fill(connection, T0 + seconds(900), 60, 10)
    second = fill(connection, T0 + seconds(1801), 50, 50)

    assert [
        (story.key, story.fills, story.by_market[0].position_after)
        for story in (only(connection, first), only(connection, second))
    ] == [
        (f"hyperliquid/{WHALE}/@20251010T211500.000000", 2, 50),
        (f"hyperliquid/{WHALE}/@20251010T214501.000000", 1, 0),
    ]


def test_a_longer_gap_makes_one_story_of_two(connection: Connection) -> None:
    fill(connection, T0, 100, 40)
    key = fill(connection, T0 + seconds(1801), 60, 60)

    story = only(connection, key, timedelta(hours=1))

    assert (story.key, story.fills) == (f"hyperliquid/{WHALE}/@20251010T211500.000000", 2)


def test_an_episode_goes_on_across_midnight(connection: Connection) -> None:
    midnight = datetime(2025, 10, 11, tzinfo=UTC)
    fill(connection, midnight - seconds(1), 100, 40)
    fill(connection, midnight + seconds(600), 60, 60)

    story = only(connection, f"hyperliquid/{WHALE}/@20251010T235959.000000")

    assert (story.fills, story.lasted) == (2, seconds(601))
    for low, high in ((midnight - DAY, midnight), (midnight, midnight + DAY)):
        assert shown.of_window(connection, low, high, 5, GAP).stories == (story,)


def test_an_episode_of_another_dex_is_another(connection: Connection) -> None:
    fill(connection, T0, 100, 40)
    key = fill(connection, T0, 9, 9, market="xyz:TSLA", dex="xyz")

    story = only(connection, key)

    assert (story.key, story.markets) == (
        f"hyperliquid/{WHALE}/xyz@20251010T211500.000000", ("xyz:TSLA",),
    )  # fmt: skip


def test_the_share_of_each_method_and_what_is_left(connection: Connection) -> None:
    fill(connection, T0, 100, 62)
    fill(connection, T0 + seconds(40), 38, 30, method="backstop", counterparty=VAULT,
         counterparty_kind="protocol_vault", liquidator=VAULT)  # fmt: skip
    key = fill(connection, T0 + seconds(660), 8, 5, method="adl_of_user",
               counterparty_kind="adl_winner")  # fmt: skip
    insert(connection, "protocol_vault", {
        "venue": "hyperliquid", "account": VAULT, "name": "HLP Liquidator", "source": "a test",
    })  # fmt: skip

    story = only(connection, key)

    assert sentence(story) == (
        "0xaaaa…aaaa lost $15.00 on $970.00 of ETH long in 3 orders over 11.0 min: 63.9 % taken by"
        " the order book, 30.9 % by the backstop (HLP Liquidator), 5.2 % by ADL; 3 of 100 ETH long"
        " remained."
    )
    assert unknown(story) == [
        "not all blocks of this time were read: liquidations may be missing",
        "margin lost of 2 takeovers: not valued yet: indexer value hyperliquid",
        "positions in other markets: the fills do not tell of them",
        "bad debt: the exchange publishes none for a fill",
        "equity: no record of the exchange's ledger on these actions was read",
    ]


def test_what_an_account_lacked_is_not_called_margin(connection: Connection) -> None:
    key = fill(connection, T0, 9, 9, method="adl_of_user", counterparty_kind="adl_winner")
    insert(connection, "valuation", {
        "venue": "hyperliquid", "block_at": T0, "event_key": "0/ETH/1", "account": WHALE,
        "price_source": "par", "margin_lost_usd": Decimal("-1.5"),
    })  # fmt: skip

    assert sentence(only(connection, key)) == (
        "0xaaaa…aaaa lost $5.00 on $90.00 of ETH long in 1 order at once: 100.0 % taken by ADL;"
        " $1.50 was lacking when it was taken over; nothing of it remained."
    )


def test_nothing_and_unknown_stand_side_by_side(connection: Connection) -> None:
    fill(connection, T0, None, 9, market="BTC")
    key = fill(connection, T0, 9, 9)

    assert sentence(only(connection, key)).endswith(
        "; nothing of ETH remained, what remained of BTC is not known."
    )


def test_a_position_that_was_added_to_in_between_is_told(connection: Connection) -> None:
    fill(connection, T0, 100, 40)
    key = fill(connection, T0 + seconds(60), 75, 75)

    story = only(connection, key)

    market = story.by_market[0]
    assert (market.position_before, market.size, market.position_after) == (100, 115, 0)
    assert (market.changes, market.changed_by) == (1, 15)
    assert "moved between liquidations 1 time by 15 in all" in markdown(connection, key)


def test_a_position_that_was_closed_and_opened_again_is_told(connection: Connection) -> None:
    fill(connection, T0, 40, 40)
    key = fill(connection, T0 + seconds(60), 30, 20)

    story = only(connection, key)

    assert (story.by_market[0].changes, story.by_market[0].changed_by) == (1, 30)
    assert sentence(story).endswith("100.0 % taken by the order book; 10 ETH long remained.")


def test_positions_are_unknown_where_no_own_leg_tells(connection: Connection) -> None:
    fill(connection, T0, 100, 40)
    key = fill(connection, T0 + seconds(60), None, 10)

    story = only(connection, key)

    assert positions(story) == [(100, 60), (None, None)]
    market = story.by_market[0]
    assert (market.position_before, market.position_after, market.changed_by) == (100, None, None)
    assert sentence(story).endswith("; what remained of ETH is not known.")
    assert "realised -$5.00 in the 1 of 2 fills whose own leg was seen," in sentence(story)
    assert unknown(story)[1:4] == [
        "the account's own leg was not seen of 1 of 2 fills: its position, order, fee and profit"
        " are not known there",
        "the position after the last fill in ETH",
        "whether the position moved between liquidations in ETH",
    ]


def test_fills_between_known_ones_hide_no_position(connection: Connection) -> None:
    """100 to 90 and 70 to 60 are known: what is between them is just the fill of 20."""
    same = {"tx_hash": "0xs", "order_id": "o"}
    fill(connection, T0, 100, 10, **same)
    fill(connection, T0, None, 20, **same)
    key = fill(connection, T0, 70, 10, **same)

    assert positions(only(connection, key)) == [(100, 60)]


def test_a_fill_that_may_be_first_or_last_hides_both_ends(connection: Connection) -> None:
    same = {"tx_hash": "0xs", "order_id": "o"}
    fill(connection, T0, 100, 10, **same)
    key = fill(connection, T0, None, 20, **same)

    assert positions(only(connection, key)) == [(None, None)]


def test_nothing_is_left_of_a_closed_position_whatever_else_was_not_seen(
    connection: Connection,
) -> None:
    same = {"tx_hash": "0xs", "order_id": "o"}
    fill(connection, T0, None, 20, **same)
    key = fill(connection, T0, 10, 10, **same)

    assert positions(only(connection, key)) == [(None, 0)]


def test_noise_in_a_published_position_is_no_change(connection: Connection) -> None:
    fill(connection, T0, 4_000_000, 864_190)
    key = fill(connection, T0 + seconds(60), Decimal("3135809.9999999999"), 5)

    assert only(connection, key).by_market[0].changes == 0


def test_a_backstop_with_one_leg_may_be_adl(connection: Connection) -> None:
    key = fill(connection, T0, 10, 10, method="backstop", legs_seen="liquidated",
               counterparty=None, counterparty_kind=None)  # fmt: skip

    story = only(connection, key)

    assert (story.shares[0].takers, story.shares[0].unseen) == (0, 1)
    assert "of 1 of 1 fill by backstop only one leg was seen: some may be ADL" in unknown(story)


def test_a_missing_mark_leaves_mark_and_slippage_unknown(connection: Connection) -> None:
    fill(connection, T0, 100, 40)
    key = fill(connection, T0 + seconds(60), 60, 10, mark_price=None)

    market = only(connection, key).by_market[0]

    assert (market.mark_first, market.mark_last, market.notional_mark, market.slippage) == (
        11, None, None, None,
    )  # fmt: skip


def test_a_token_that_is_no_dollar_has_no_dollars(connection: Connection) -> None:
    key = fill(connection, T0, 100, 40, quote="HYPE", fee_asset="HYPE")

    story = only(connection, key)

    assert (story.notional, story.notional_usd, story.unpriced) == (400, None, 1)
    assert story.fees[0].usd is None
    assert sentence(story) == (
        "0xaaaa…aaaa lost 5 HYPE on 400 HYPE of ETH long in 1 order at once: 100.0 % taken by the"
        " order book; 60 of 100 ETH long remained."
    )


def test_a_short_is_worst_where_it_is_dearest(connection: Connection) -> None:
    short = {"side": "short"}
    fill(connection, T0, -100, -40, price=12, **short)
    connection.execute("UPDATE ledger.liquidation SET size = 40, notional = 480,"
                       " notional_mark = 440")  # fmt: skip
    key = f"hyperliquid/{WHALE}/@20251010T211500.000000"

    market = only(connection, key).by_market[0]

    assert (market.worst_price, market.slippage) == (12, 40)
    assert (market.position_before, market.position_after) == (-100, -60)
    assert "60 of 100 ETH short remained" in sentence(only(connection, key))


def test_labels_of_the_venue_and_of_every_chain_that_hold_then(connection: Connection) -> None:
    key = fill(connection, T0, 100, 40)
    for number, (venue, during) in enumerate([
        ("hyperliquid", "[2025-10-01,2025-11-01)"), ("*", "(,)"),
        ("ethereum", "(,)"), ("hyperliquid", "[2025-11-01,)"),
    ]):  # fmt: skip
        insert(connection, "label", {
            "venue": venue, "account": WHALE, "label": f"l{number}", "rule": "R",
            "rule_version": 1, "confidence": 1, "evidence": "{}", "valid_during": during,
            "recorded_during": "[2025-10-01,)",
        })  # fmt: skip

    assert [one.label for one in only(connection, key).labels] == ["l0", "l1"]


def test_a_part_of_the_blocks_that_was_not_read_is_told(connection: Connection) -> None:
    key = fill(connection, T0, 100, 100)
    insert(connection, "coverage", {
        "venue": "hyperliquid", "facts": "liquidations", "blocks": "[1,200)",
        "times": f"[{T0 - DAY},{T0 + DAY}]", "verification": "every_height", "decoder_version": 1,
    })  # fmt: skip

    assert only(connection, key).was_read_whole is True
    assert unknown(only(connection, key))[0].startswith("positions in other")


# -- price paths ---------------------------------------------------------------------------------


def point(number: int, price: int, mark: int | None = 50) -> Point:
    value = Decimal(price)
    return Point(T0 + seconds(number), value, value, value, mark and Decimal(mark))


def test_a_thinned_path_is_bounded_and_keeps_ends_and_extremes() -> None:
    path = [point(n, 100) for n in range(1000)]
    path[333], path[501] = point(333, 7), point(501, 900)
    path[77], path[640] = point(77, 100, 1), point(640, 100, 99)

    found = thinned(path, 12)

    assert len(found) <= 12
    assert {0, 77, 333, 501, 640, 999} <= {path.index(one) for one in found}
    assert list(found) == sorted(found, key=lambda one: one.at)


def test_a_short_path_stays_whole() -> None:
    path = [point(n, 100 + n, None) for n in range(12)]

    assert thinned(path, 12) == tuple(path)


# -- loans ---------------------------------------------------------------------------------------

POOL, DAI, WETH = "0x" + 40 * "1", "0x" + 40 * "2", "0x" + 40 * "3"


def loan(
    connection: Connection,
    number: int,
    at: datetime,
    *,
    dollars: tuple[Any, ...] = (),
    **other: Any,
) -> str:
    key = f"0x{number:064x}/1"
    insert(connection, "lending_liquidation", {
        "venue": "aave_v3.ethereum", "event_key": key, "account": WHALE, "block_number": number,
        "block_at": at, "method": "repay_seize", "market": POOL, "liquidator": OTHER,
        "repaid_asset": DAI, "repaid_raw": 5 * 10**18, "seized_asset": WETH,
        "seized_raw": 2 * 10**15, "seized_is_shares": False, "decoder_version": 1,
    } | other)  # fmt: skip
    if dollars:
        names = ("repaid_usd", "seized_usd", "bonus_usd", "bad_debt_usd")
        insert(connection, "valuation", {
            "venue": "aave_v3.ethereum", "block_at": at, "event_key": key, "account": WHALE,
            "price_source": "oracle", **dict(zip(names, dollars, strict=False)),
        })  # fmt: skip
    return f"aave_v3.ethereum/{key}/{WHALE}"


@pytest.fixture
def assets(connection: Connection) -> Connection:
    for address, symbol in ((DAI, "DAI"), (WETH, HOSTILE)):
        insert(connection, "asset", {
            "chain": "ethereum", "address": address, "symbol": symbol, "decimals": 18,
        })  # fmt: skip
    return connection


def of_loan(connection: Connection, key: str) -> LoanStory:
    (found,) = shown.of_key(connection, key, GAP).stories
    assert isinstance(found, LoanStory)
    return found


def test_liquidations_of_a_loan_are_one_story(assets: Connection) -> None:
    loan(assets, 7, T0, dollars=(5, 6, 1, None))
    loan(assets, 8, T0 + seconds(900), dollars=(5, 6, 1, 3), liquidator=VAULT,
         bad_debt_asset=DAI, bad_debt_raw=3 * 10**18)  # fmt: skip
    key = loan(assets, 9, T0 + seconds(901))
    loan(assets, 10, T0 + seconds(2000))

    story = of_loan(assets, key)

    assert (story.key, story.records, story.liquidations, story.actions) == (
        f"aave_v3.ethereum/{WHALE}/@20251010T211500.000000", 3, 3, 3,
    )  # fmt: skip
    assert (story.repaid_usd, story.seized_usd, story.bonus_usd, story.bad_debt_usd) == (
        10,
        12,
        2,
        3,
    )
    assert (story.without_repaid, story.without_seized, story.without_bonus) == (1, 1, 1)
    assert [(one.role, one.symbol, one.raw, one.amount, one.usd) for one in story.amounts] == [
        ("repaid", "DAI", 15 * 10**18, 15, 10), ("seized", HOSTILE, 6 * 10**15,
        Decimal("0.006"), 12), ("bad_debt", "DAI", 3 * 10**18, 3, 3),
    ]  # fmt: skip
    assert [(one.account, one.records, one.repaid_usd) for one in story.liquidators] == [
        (OTHER, 2, 5), (VAULT, 1, 5),
    ]  # fmt: skip
    assert sentence(story) == (
        "0xaaaa…aaaa lost collateral of $12.00 and more without a value for debt of $10.00 and"
        " more without a value on aave_v3.ethereum in 3 liquidations over 15.0 min: DAI repaid,"
        " <script>alert(1)</script>[red]|`x`*b*[31m # \\ seized by 2 liquidators; the bonus was"
        " $2.00 and more without a value; bad debt of $3.00 was left; what remained is not known."
    )
    assert unknown(story) == [
        "not all blocks of this time were read: liquidations may be missing",
        "repaid of 1 record in dollars: not valued yet: indexer value aave_v3.ethereum",
        "seized of 1 record in dollars: not valued yet: indexer value aave_v3.ethereum",
        "the bonus of 1 liquidation",
        "debt and collateral before and after: liquidation events do not say",
    ]


def test_a_loan_on_another_venue_is_another_story(assets: Connection) -> None:
    loan(assets, 7, T0, venue="aave_v2.ethereum")
    key = loan(assets, 8, T0)

    story = of_loan(assets, key)

    assert (story.venue, story.records) == ("aave_v3.ethereum", 1)


def test_a_loan_without_values_has_none_and_says_why(assets: Connection) -> None:
    key = loan(assets, 7, T0)
    insert(assets, "unvalued", {
        "venue": "aave_v3.ethereum", "block_at": T0, "event_key": f"0x{7:064x}/1",
        "account": WHALE, "price_source": "oracle", "reason": "no feed", "bases": ["repaid"],
    })  # fmt: skip

    story = of_loan(assets, key)

    assert (story.repaid_usd, story.seized_usd, story.bonus_usd) == (None, None, None)
    assert [(lack.basis, lack.reason) for lack in story.lacks] == [
        ("repaid", "no feed"), ("seized", None),
    ]  # fmt: skip


def test_loans_and_perpetuals_stand_in_one_list_by_their_dollars(assets: Connection) -> None:
    loan(assets, 7, T0, dollars=(500, 600, 100))
    loan(assets, 9, T0 + DAY / 2)
    fill(assets, T0, 100, 40)
    fill(assets, T0, 100, 60, account=OTHER)
    fill(assets, T0, 100, 90, account=VAULT, account_is_protocol_vault=True)

    found = shown.of_window(assets, T0, T0 + DAY, 9, GAP)

    assert [(type(story), story.account) for story in found.stories] == [
        (PerpStory, OTHER), (LoanStory, WHALE), (PerpStory, WHALE), (LoanStory, WHALE),
    ]  # fmt: skip


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [
    "", "nonsense", "hyperliquid/0xabc/@20251010T211500.000000", HOSTILE,
    f"hyperliquid/{WHALE}/@20251010T211500.000001", f"hyperliquid/9/ETH/1/{WHALE}",
    f"hyperliquid/{WHALE}/xyz@20251010T211500.000000",
    f"hyperliquid/{WHALE}/@20259910T211500.000000",
    f"aave_v3.ethereum/{WHALE}/@20251010T211500.000000",
])  # fmt: skip
def test_a_key_that_is_none_says_what_a_key_is(connection: Connection, key: str) -> None:
    fill(connection, T0, 100, 40)

    with pytest.raises(IndexerError) as raised:
        shown.of_key(connection, key, GAP)

    assert str(raised.value) == (
        f"no episode {key!r}: take a key from liq.episodes(), from the largest of indexer total, or"
        " that of a liquidation"
    )


def test_a_key_of_a_later_moment_finds_the_whole(connection: Connection) -> None:
    """As indexer total prints it, where the window begins in the middle."""
    fill(connection, T0, 100, 40)
    fill(connection, T0 + seconds(60), 60, 60)

    story = only(
        connection, f"hyperliquid/{WHALE.upper().replace('X', 'x')}/@20251010T211600.000000"
    )

    assert story.key == f"hyperliquid/{WHALE}/@20251010T211500.000000"


def test_a_dex_may_be_called_anything(connection: Connection) -> None:
    dex = "a/b@20251010T211500.000000"
    fill(connection, T0, 100, 40, market=f"{dex}:TSLA", dex=dex)

    story = only(connection, f"hyperliquid/{WHALE}/{dex}@20251010T211500.000000")

    assert story.dex == dex


def test_a_gap_within_the_cooldown_is_refused(connection: Connection) -> None:
    with pytest.raises(ConfigError, match="must exceed the venue's cooldown of 30s, not 30s"):
        shown.of_key(connection, "any", seconds(30))


def test_of_nothing_there_is_no_window(connection: Connection) -> None:
    with pytest.raises(ConfigError, match="nothing is indexed yet"):
        shown.since(connection, DAY)


# -- how it looks --------------------------------------------------------------------------------


def markdown(connection: Connection, key: str) -> str:
    return shown.to_markdown(shown.of_key(connection, key, GAP))


def terminal(connection: Connection, key: str) -> str:
    written = StringIO()
    console = Console(file=written, width=300, force_terminal=False)
    shown.to_terminal(shown.of_key(connection, key, GAP), console)
    return written.getvalue()


def test_hostile_names_are_words_in_every_format(connection: Connection) -> None:
    key = fill(connection, T0, 100, 40, market=HOSTILE, dex=HOSTILE, quote=HOSTILE,
               fee_asset=HOSTILE, tx_hash=HOSTILE)  # fmt: skip
    insert(connection, "label", {
        "venue": "hyperliquid", "account": WHALE, "label": HOSTILE, "rule": HOSTILE,
        "rule_version": 1, "confidence": 1, "evidence": "{}", "valid_during": "(,)",
        "recorded_during": "[2025-10-01,)",
    })  # fmt: skip

    text, page = terminal(connection, key), markdown(connection, key)

    whole = text.count("<script>alert(1)</script>[red]|`x`*b*[31m # \\")
    assert whole >= 8
    assert text.count("<script>") == whole + 1  # the hash is cut
    assert re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text + page) is None
    assert page.count("&#60;script&#62;alert(1)") == 0  # brackets are escaped as well
    assert page.count(r"&#60;script&#62;alert\(1\)&#60;/script&#62;\[red\]\|\`x\`\*b\*") >= 8
    assert "<script" not in page
    assert [line for line in page.splitlines() if re.match(r"\s*# ", line)] == ["# Episodes"]


def test_a_hostile_token_of_a_loan_is_a_word_too(assets: Connection) -> None:
    key = loan(assets, 7, T0)

    assert "<script" not in markdown(assets, key)
    assert "<script>alert(1)</script>[red]" in terminal(assets, key)


def test_a_long_story_shows_its_begin_and_its_end(connection: Connection) -> None:
    for number in range(130):
        key = fill(connection, T0 + seconds(number), 1000 - number, 1)

    text = markdown(connection, key)

    assert text.count("| ETH | long | market |") == 100
    assert "| and 30 more |" in text
    assert len(only(connection, key).steps) == 130
    assert len(only(connection, key).by_market[0].path) <= 60


def test_the_json_has_everything_with_the_sentence(connection: Connection) -> None:
    key = fill(connection, T0, 100, 40)
    found = shown.of_key(connection, key, GAP)

    data = json.loads(shown.to_json(found))

    (story,) = data["stories"]
    assert (story["kind"], story["sentence"]) == ("perp", sentence(found.stories[0]))
    assert story["unknown"] == unknown(found.stories[0])
    assert (story["notional_usd"], story["by_market"][0]["average_price"]) == (
        "400", "10.0000000000000000",
    )  # fmt: skip
    assert data["bases"]["perp"].startswith("dollars: notional at execution price")


# -- the command ---------------------------------------------------------------------------------


def test_the_command_tells_a_key(quick_indexer: Command, connection: Connection) -> None:
    key = fill(connection, T0, 100, 40)

    done = quick_indexer("report", "episode", key, "--format", "json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["stories"][0]["fills"] == 1


@pytest.mark.parametrize("form", ["table", "md", "json"])
def test_the_command_tells_the_largest_of_a_window(
    quick_indexer: Command, connection: Connection, form: str
) -> None:
    fill(connection, T0, 100, 40)
    fill(connection, T0, 100, 60, account=OTHER)

    done = quick_indexer(
        "report", "episode", "--window", "2025-10-10", "--top", "1", "--format", form
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("0xbbbb…bbbb") == 1 + (form == "table")
    assert WHALE not in done.stdout.replace(f"`{WHALE}`", "")


def test_the_command_ends_with_1_for_an_unknown_key(quick_indexer: Command) -> None:
    done = quick_indexer("report", "episode", f"hyperliquid/{WHALE}/@20251010T211500.000000")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"indexer: no episode 'hyperliquid/{WHALE}/@2025")


@pytest.mark.parametrize("words", [
    ("key", "--top", "3"), ("key", "--since", "1h"), ("key", "--window", "24h"),
    ("--since", "1h", "--window", "24h"), ("--top", "0"), ("--since", "0s"),
])  # fmt: skip
def test_wrong_words_end_with_2(quick_indexer: Command, words: tuple[str, ...]) -> None:
    assert quick_indexer("report", "episode", *words).returncode == 2


# -- with many rows ------------------------------------------------------------------------------

MANY = """
    INSERT INTO ledger.liquidation (
        venue, event_key, account, block_number, block_at, tx_hash, method, market, dex, quote,
        side, size, price, notional, mark_price, notional_mark, account_is_protocol_vault,
        legs_seen, decoder_version
    )
    SELECT 'hyperliquid', n || '/ETH/1', '0x' || lpad(to_hex(n / 50), 40, '0'), n,
           '2025-10-10'::timestamptz + n * interval '1 second', '0x' || n / 5, 'backstop', 'ETH',
           '', 'USDC', 'long', 1, 10, 10, 11, 11, false, 'both', 1
    FROM generate_series(1, 100000) n;
    INSERT INTO ledger.valuation (
        venue, block_at, event_key, account, price_source, fill_usd, margin_lost_usd
    )
    SELECT venue, block_at, event_key, account, 'par', notional, 1 FROM ledger.liquidation;
    INSERT INTO ledger.unvalued
    SELECT venue, block_at, event_key, account, 'par', 'why', '{mark}' FROM ledger.liquidation;
    INSERT INTO ledger.ledger_liquidation
    SELECT venue, event_key, account, tx_hash, block_number, block_at, 1, 'Cross', 1, '[]'
    FROM ledger.liquidation;
    INSERT INTO ledger.lending_liquidation (
        venue, event_key, account, block_number, block_at, method, market, repaid_asset,
        repaid_raw, seized_is_shares, decoder_version
    )
    SELECT 'aave_v3.ethereum', '0x' || n || '/0', account, block_number, block_at, 'repay_seize',
           'm', 'a', 1, false, 1
    FROM (SELECT l.*, block_number AS n FROM ledger.liquidation l) l;
    INSERT INTO ledger.valuation (
        venue, block_at, event_key, account, price_source, repaid_usd
    )
    SELECT venue, block_at, event_key, account, 'oracle', 1 FROM ledger.lending_liquidation;
    ANALYZE
"""
HUGE = {"liquidation", "valuation", "unvalued", "ledger_liquidation", "lending_liquidation"}


@pytest.fixture(scope="module")
def crowded(postgres: Server, migrated: str) -> Iterator[Connection]:
    """A hundred thousand rows of perpetuals and as many of loans, with values."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        for statement in MANY.split(";\n"):
            opened.execute(statement.encode())
        yield opened


def scans(connection: Connection, ask: episodes.Asker, statement: str) -> set[str]:
    """The tables that a statement reads from end to end."""
    lines = connection.execute(f"EXPLAIN {statement}".encode(), ask.values).fetchall()
    plan = "\n".join(str(line) for (line,) in lines)
    return set(re.findall(r"Seq Scan on (\w+)", plan))


@pytest.mark.parametrize("places", [1, 20])
def test_a_story_reads_no_large_table_from_end_to_end(crowded: Connection, places: int) -> None:
    accounts = [f"0x{number * 7:040x}" for number in range(1, places + 1)]
    perps = [Place("hyperliquid", account, "", T0) for account in accounts]
    with crowded.transaction(force_rollback=True):
        ask = episodes.Asker(crowded, perps, GAP)
        found = scans(crowded, ask, episodes.TOLD)
        ask.values["moments"] = [at(crowded, account) for account in accounts]
        ask.run(episodes.TOLD)
        ask.run("ANALYZE told")
        found |= scans(crowded, ask, episodes.STEPS)
        ask.run(episodes.STEPS)
        found |= scans(crowded, ask, episodes.HEADER) | scans(crowded, ask, episodes.LACKS)
        ask.values["venues"] = ["aave_v3.ethereum"] * places
        found |= scans(crowded, ask, loan_episodes.TOLD)
        ask.run(loan_episodes.TOLD)
        ask.run("ANALYZE told_loan")
        found |= scans(crowded, ask, loan_episodes.LACKS)
        rows = crowded.execute(
            "SELECT (SELECT count(*) FROM told), (SELECT count(*) FROM told_loan)"
        ).fetchone()

    assert rows == (50 * places, 50 * places)
    assert found & HUGE == set()


def test_the_largest_of_a_window_are_found_by_its_time(crowded: Connection) -> None:
    begins = datetime(2025, 10, 10, 5, tzinfo=UTC)
    ask = episodes.Asker(crowded, [], GAP)
    ask.values |= {
        "low": begins, "high": begins + seconds(600), "top": 5,
        "venues": ["aave_v3.ethereum", "hyperliquid"],
    }  # fmt: skip

    assert scans(crowded, ask, episodes.LARGEST) & HUGE == set()
    assert len(episodes.largest(crowded, begins, begins + seconds(600), 5, GAP)) == 5


def test_the_scan_of_a_large_table_would_be_seen(crowded: Connection) -> None:
    ask = episodes.Asker(crowded, [], GAP)

    assert scans(crowded, ask, "SELECT sum(size) FROM ledger.liquidation") == {"liquidation"}


def at(connection: Connection, account: str) -> datetime:
    row = connection.execute(
        "SELECT min(block_at) FROM ledger.liquidation WHERE account = %s", (account,)
    ).fetchone()
    assert row is not None
    assert isinstance(row[0], datetime)
    return row[0]


# -- the page ------------------------------------------------------------------------------------


def test_the_examples_of_the_page_run_and_say_what_it_shows(quick_indexer: Command) -> None:
    page = (ROOT / "docs" / "episodes.md").read_text()
    quoted = " ".join(re.findall(r"^> (.+)$", page, re.MULTILINE))
    lines = re.findall(r"^indexer (.+)$", page, re.MULTILINE)
    filling = quick_indexer("backfill", "hyperliquid", "--from", resources.recording())

    done = [quick_indexer(*line.split()) for line in lines]

    assert len(lines) == 3
    assert [(run.returncode, run.stderr) for run in (filling, *done)] == [(0, "")] * 4
    assert [quoted in re.sub(r"\\(.)", r"\1", run.stdout) for run in done] == [True] * 3
    assert ["SIMULATED" in run.stdout for run in done] == [True] * 3
