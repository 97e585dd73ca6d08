"""Prices: by oracles at a block, by the side of a change, by the logs of feeds, or not at all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from eth_abi import abi
from msgspec.structs import replace

from indexer.chain import prices
from indexer.chain.values import terms_of
from indexer.errors import SourceFault
from indexer.evm_model import (
    USD,
    BlockRef,
    CallResult,
    EventPrice,
    Feed,
    Leg,
    LendingLiquidation,
    Log,
    NoQuote,
    PythFeed,
    Quote,
    RedstoneFeed,
    RedstonePush,
)
from indexer.methodology.definition import parse
from indexer.oracles import FeedState
from indexer.pricing import (
    CACHE_UPDATED,
    PRICE_FEED_UPDATE,
    VALUE_UPDATE,
    LoggedFeed,
    Look,
    Moves,
    NoPrice,
    Price,
    Update,
    Wanted,
    carried,
    logged,
    priced,
    pushed,
    pushes,
    references,
    scale_of,
    update_of,
)
from indexer.sources.chains import BY_NAME, MULTICALL3
from indexer.sources.evm import EvmSource
from indexer.sources.evm_calls import Question
from indexer.store import chain_rows, definitions, values
from indexer.store.database import Connection
from indexer.store.explain import explain
from tests.evm_logs import DECODER
from tests.fake_chain import REVERTED, asked, says
from tests.ledger_rows import rows
from tests.oracle_world import (
    AGGREGATOR,
    BLOCKS,
    FEED,
    HEAD,
    LOCAL,
    LOCAL_DECODER,
    MAIN,
    ORACLE,
    PROVIDER,
    TIME,
    TOKEN,
    Multicalled,
    Said,
    World,
    aave,
    address,
    always,
    answer_log,
    jumping,
    listed,
    log_of,
    on_wire,
    write_case,
    write_wire,
)
from tests.rpc_proxy import Chain, FakeClock, Json, Node, RpcError

POOL, UNIT, OTHER = map(address, "13c")
VENUE = "aave_v3.ethereum"
BLOCK = BlockRef("ethereum", 1_000, "0x" + 64 * "5", "0x" + 64 * "4", TIME)
WANTED = Wanted(VENUE, POOL, TOKEN, POOL, BLOCK, (3, 8))
D = Decimal


def quote(per_unit: str, unit: str = USD, feed: str | None = FEED, **more: Any) -> Quote:
    return Quote(D(per_unit), unit, (POOL,), feed=feed, **more)


def price(usd: str, quality: str, log_index: int = -1, **more: Any) -> Price:
    plain = Price(
        VENUE, POOL, TOKEN, 1_000, BLOCK.hash, log_index, "oracle", D(usd), quality,  # type: ignore[arg-type]
        "governed", (POOL,), 1_000, TIME,
    )  # fmt: skip
    return replace(plain, **more)


def none(reason: str, log_index: int = -1) -> NoPrice:
    return NoPrice(VENUE, POOL, TOKEN, 1_000, BLOCK.hash, log_index, reason)


def update(log_index: int, answer: int, emitter: str = AGGREGATOR, block: int = 1_000) -> Update:
    return Update(emitter, block, log_index, answer, TIME - 12 * (1_000 - block))


def moves(before: int, *updates: Update) -> Moves:
    """A feed that answered `before` and then what its last update says."""
    return Moves(FeedState(AGGREGATOR, before), FeedState(AGGREGATOR, updates[-1].answer), updates)


MOVED = Look(quote("3E-16"), quote("2E-16"))
STILL = Look(quote("2E-16"), quote("2E-16"))
STALE_BEFORE = NoQuote("the oracle reverts")

PRICED = [
    ("the same before and after", [STILL], {}, [price("2E-16", "A")]),
    ("it moved and nobody knows where", [MOVED], {}, [price("3E-16", "A-")]),
    (
        "an oracle without a plain feed moved",
        [Look(quote("3E-16", feed=None), quote("2E-16", feed=None))],
        {FEED: moves(2, update(5, 3))},
        [price("3E-16", "A-")],
    ),
    ("nobody knows the block before", [Look(quote("2E-16"), None)], {}, [price("2E-16", "A-")]),
    (
        "there was no price before",
        [Look(quote("2E-16"), NoQuote("the oracle answers 0"))],
        {},
        [price("2E-16", "A-")],
    ),
    (
        "one update between the two",
        [MOVED],
        {FEED: moves(2, update(5, 3))},
        [price("2E-16", "A", 3), price("3E-16", "A", 8)],
    ),
    (
        "one update before both",
        [MOVED],
        {FEED: moves(2, update(1, 3))},
        [price("3E-16", "A", 3), price("3E-16", "A", 8)],
    ),
    (
        "two updates, and the first liquidation between them",
        [MOVED],
        {FEED: moves(2, update(1, 4), update(5, 3))},
        [price("4E-16", "A", 3), price("3E-16", "A", 8)],
    ),
    (
        "there and back within the block, seen by the round alone",
        [Look(quote("2E-16", feed_round=9), quote("2E-16", feed_round=7))],
        {FEED: moves(2, update(1, 4), update(5, 2))},
        [price("4E-16", "A", 3), price("2E-16", "A", 8)],
    ),
    (
        "there was no price before the push",
        [Look(quote("3E-16"), STALE_BEFORE)],
        {FEED: moves(2, update(1, 4), update(5, 3))},
        [price("4E-16", "A", 3), price("3E-16", "A", 8)],
    ),
    (
        "there was no price before, and another rate is in what there is",
        [Look(quote("3.1E-16"), STALE_BEFORE)],
        {FEED: moves(2, update(1, 4), update(5, 3))},
        [price("3.1E-16", "A-")],
    ),
    (
        "there was no price before, nor a push before the liquidation",
        [Look(quote("3E-16"), STALE_BEFORE)],
        {FEED: moves(2, update(9, 3))},
        [price("3E-16", "A-")],
    ),
    (
        "a feed that fell silent, and a fallback",
        [MOVED],
        {FEED: moves(0, update(5, 0))},
        [price("3E-16", "A-")],
    ),
    (
        "a share's rate moved as well",
        [Look(quote("3.1E-16"), quote("2E-16"))],
        {FEED: moves(2, update(5, 3))},
        [price("2E-16", "A-", 3), price("3.1E-16", "A-", 8)],
    ),
    (
        "the logs do not end with the answer",
        [MOVED],
        {FEED: Moves(FeedState(AGGREGATOR, 2), FeedState(AGGREGATOR, 3), (update(5, 4),))},
        [price("3E-16", "A-")],
    ),
    (
        "the feed changed its aggregator",
        [MOVED],
        {FEED: Moves(FeedState(OTHER, 2), FeedState(AGGREGATOR, 3), (update(5, 3),))},
        [price("3E-16", "A-")],
    ),
    (
        "without logs",
        [MOVED],
        {FEED: Moves(FeedState(AGGREGATOR, 2), FeedState(AGGREGATOR, 3), ())},
        [price("3E-16", "A-")],
    ),
    (
        "a unit that moved, by another protocol's oracle",
        [
            Look(*[quote("5", UNIT, feed=None, trust="market")] * 2),
            Look(replace(MOVED.now, via=(OTHER,)), replace(MOVED.now, per_unit=D("2E-16"))),
        ],
        {FEED: moves(2, update(5, 3))},
        [
            price("1.0E-15", "B", 3, trust="market", via=(POOL, OTHER)),
            price("1.5E-15", "B", 8, trust="market", via=(POOL, OTHER)),
        ],
    ),
    (
        "a price of nothing",
        [Look(quote("0"), quote("0"))],
        {},
        [none("the oracle answers 0 or less")],
    ),
    (
        "a price that is no number",
        [Look(quote("Infinity"), None)],
        {},
        [none("the oracle answers 0 or less")],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("links", "seen", "expected"), [case[1:] for case in PRICED], ids=[case[0] for case in PRICED]
)
def test_the_side_of_a_change_decides_the_price(
    links: list[Look], seen: dict[Feed, Moves], expected: list[Price | NoPrice]
) -> None:
    assert priced(WANTED, "oracle", links, seen) == expected


def said(
    log_index: int, usd: str, asset: str = TOKEN, tx: str = "6", emitter: str = POOL
) -> EventPrice:
    tx_hash = "0x" + 64 * tx
    log = Log("ethereum", emitter, (), "0x", 1_000, BLOCK.hash, tx_hash, log_index)
    return EventPrice(log, asset, D(usd))


def in_event(usd: str, log_index: int, by: int) -> Price:
    via = (POOL, "0x" + 64 * "6" + f"/{by}")
    return price(usd, "A", log_index, source="event", via=via)


CARRIED = [
    ("the event itself", [said(3, "2E-16")], [in_event("2E-16", 3, 3), in_event("2E-16", 8, 3)]),
    (
        "the last before each",
        [said(1, "2E-16"), said(5, "3E-16"), said(9, "4E-16")],
        [in_event("2E-16", 3, 1), in_event("3E-16", 8, 5)],
    ),
    ("only before one of them", [said(4, "3E-16")], [in_event("3E-16", 8, 4)]),
    ("of another asset", [said(1, "2E-16", asset=OTHER)], []),
    ("of another transaction", [said(1, "2E-16", tx="5")], []),
    ("by somebody else", [said(1, "2E-16", emitter=OTHER)], []),
    ("of nothing, after a price", [said(1, "2E-16"), said(2, "0")], []),
]


@pytest.mark.parametrize(
    ("told", "expected"), [case[1:] for case in CARRIED], ids=[case[0] for case in CARRIED]
)
def test_what_the_emitter_of_a_liquidation_said_last_before_it_is_the_price(
    told: list[EventPrice], expected: list[Price]
) -> None:
    logs = {at: said(at, "1").log for at in WANTED.log_indexes}

    assert carried(WANTED, logs, told, "governed") == expected


def test_a_liquidation_whose_log_is_not_stored_has_no_price_of_its_own() -> None:
    assert carried(WANTED, {}, [said(1, "2E-16")], "governed") == []


def test_a_reference_is_never_better_than_b() -> None:
    assert priced(WANTED, "reference", [STILL], {}) == [price("2E-16", "B", source="reference")]


def test_numbers_of_256_bits_multiply_exactly() -> None:
    largest = 2**256 - 1
    link = Look(quote(str(largest)), quote(str(largest)))

    (row,) = priced(WANTED, "oracle", [link, link], {})

    assert isinstance(row, Price)
    assert int(row.usd) == largest * largest


@pytest.mark.parametrize(
    ("per_unit", "answer", "scale"),
    [
        ("0.0000003", 30_000_000, D("1E-14")),  # 8 decimals of the feed, 6 of the token
        ("3000", 3000, D(1)),
        ("0.00000031", 30_000_000, None),  # a rate, or a cap
        ("3", 0, None),
        ("3", None, None),
    ],
)
def test_a_plain_feed_is_off_by_a_power_of_ten(
    per_unit: str, answer: int | None, scale: Decimal | None
) -> None:
    assert scale_of(quote(per_unit), answer) == scale


PLAIN = LoggedFeed(FEED, D("1E-14"), "governed", (FEED, AGGREGATOR))
OF_UNIT = LoggedFeed(OTHER, D("1E-2"), "governed", (OTHER,))


def by_logs(usd: str, log_index: int = -1, as_of: int = 990, **more: Any) -> Price:
    when = TIME - 12 * (1_000 - as_of)
    return price(
        usd, "B", log_index,
        **{"source": "feed_log", "via": (FEED, AGGREGATOR), "as_of_block": as_of,
           "as_of_time": when, **more},
    )  # fmt: skip


LOGGED: list[tuple[str, list[LoggedFeed], list[Update], list[Price | NoPrice]]] = [
    (
        "the last answer before the block",
        [PLAIN],
        [update(9, 1, block=980), update(2, 30, block=990)],
        [by_logs("3.0E-13")],
    ),
    (
        "an answer within the block",
        [PLAIN],
        [update(2, 30, block=990), update(5, 40)],
        [by_logs("3.0E-13", 3), by_logs("4.0E-13", 8, as_of=1_000)],
    ),
    (
        "two feeds multiplied, as old as the older one",
        [PLAIN, OF_UNIT],
        [update(2, 30, block=990), update(1, 7, OTHER, block=995)],
        [by_logs("2.10E-14", via=(FEED, AGGREGATOR, OTHER))],
    ),
    ("no answer at all", [PLAIN], [], [none("the feed is stale")]),
    (
        "an answer of the day before yesterday",
        [PLAIN],
        [Update(AGGREGATOR, 990, 2, 30, TIME - 25 * 3_600 - 1)],
        [none("the feed is stale")],
    ),
    (
        "an answer of nothing",
        [PLAIN],
        [update(2, 0, block=990)],
        [none("the feed answers 0 or less")],
    ),
    ("below nothing", [PLAIN], [update(2, -5, block=990)], [none("the feed answers 0 or less")]),
    (
        "two aggregators at once",
        [PLAIN],
        [update(2, 30, block=990), update(2, 31, FEED, block=991)],
        [none("two aggregators of the feed answer")],
    ),
]


@pytest.mark.parametrize(
    ("feeds", "updates", "expected"),
    [case[1:] for case in LOGGED],
    ids=[case[0] for case in LOGGED],
)
def test_the_last_answer_before_a_log_is_its_price(
    feeds: list[LoggedFeed], updates: list[Update], expected: list[Price | NoPrice]
) -> None:
    by_emitter = {one.emitter: [u for u in updates if u.emitter == one.emitter] for one in updates}
    times = {one.block_number: TIME - 12 * (1_000 - one.block_number) for one in updates}

    assert logged(WANTED, feeds, by_emitter, times) == expected


def test_shares_are_worth_their_stored_rate() -> None:
    shares = replace(WANTED, share=(UNIT, D("0.02")))

    assert logged(shares, [PLAIN], {AGGREGATOR: [update(2, 30, block=990)]}, {990: TIME - 120}) == [
        by_logs("6.00E-15")
    ]


def test_an_answer_is_read_with_its_sign() -> None:
    assert update_of(answer_log(-5, BLOCK, 7)) == Update(AGGREGATOR, 1_000, 7, -5, TIME)


def test_what_only_looks_like_an_answer_is_none() -> None:
    log = answer_log(5, BLOCK, 7)

    assert update_of(replace(log, topics=log.topics[:2])) is None
    assert update_of(replace(log, data="0x")) is None


PYTH = PythFeed(address("7"), "0x" + 64 * "9")
REDSTONE = RedstoneFeed(address("8"))
PUSH = RedstonePush(address("9"), "0x" + b"weETH/ETH".hex().ljust(64, "0"))
MERGED = RedstonePush(FEED, PUSH.id)  # the price feed is the adapter


def pyth_log(price: int, log_index: int, of: PythFeed = PYTH, block: BlockRef = BLOCK) -> Log:
    words = abi.encode(["uint64", "int64", "uint64"], [block.time - 1, price, 5])
    return log_of((PRICE_FEED_UPDATE, of.id), words, block, log_index, of.pyth)


def redstone_log(price: int, log_index: int, block: BlockRef = BLOCK) -> Log:
    words = abi.encode(["uint256", "uint256"], [price, block.time - 1])
    return log_of((CACHE_UPDATED,), words, block, log_index, REDSTONE.adapter)


def value_log(
    value: int, log_index: int, of: RedstonePush = PUSH, block: BlockRef = BLOCK, tx: str = "6"
) -> Log:
    words = abi.encode(
        ["uint256", "bytes32", "uint256"], [value, bytes.fromhex(of.id[2:]), block.time]
    )
    log = log_of((VALUE_UPDATE,), words, block, log_index, of.adapter)
    return replace(log, tx_hash="0x" + 64 * tx)


def test_a_real_log_of_redstones_adapter_is_read() -> None:
    """Of 0x663b50c9da9bd586f855af13e91ef2f0954c9761 on Rootstock's testnet: topic and data as a
    monitor of its union bridge, which is public code, is tried on. The place in a chain is ours."""
    rif = b"RIF".hex().ljust(64, "0")
    adapter = "0x663b50c9da9bd586f855af13e91ef2f0954c9761"
    data = f"{0:058x}53ff58{rif}{0:056x}67ac7f97"
    topic = "0xf36866d965ee70c8632ff558f5cf8d41ee9ca1d0d0bc7700786e57be60747390"
    log = log_of((topic,), bytes.fromhex(data), BLOCK, 7, adapter)
    push = RedstonePush(adapter, f"0x{rif}")

    assert pushes(push, FeedState(None, None)).wants(log)
    # 0.05504856 dollars at 11:01:43 UTC on 12 February 2025
    assert pushed(push, log) == Update(adapter, 1_000, 7, 5_504_856, 1_739_358_103)


def test_pushes_are_read() -> None:
    assert pushed(PUSH, value_log(5, 7)) == Update(PUSH.adapter, 1_000, 7, 5, TIME)
    assert pushed(MERGED, answer_log(5, BLOCK, 7, FEED)) == Update(FEED, 1_000, 7, 5, TIME)
    assert pushed(PYTH, pyth_log(-5, 7)) == Update(PYTH.pyth, 1_000, 7, -5, TIME - 1)
    assert pushed(REDSTONE, redstone_log(5, 7)) == Update(REDSTONE.adapter, 1_000, 7, 5, TIME - 1)
    assert pushed(FEED, answer_log(5, BLOCK, 7)) == Update(AGGREGATOR, 1_000, 7, 5, TIME)


@pytest.mark.parametrize(
    ("feed", "log"),
    [
        (PYTH, pyth_log(5, 7, PYTH._replace(id="0x" + 64 * "8"))),
        (PYTH, replace(pyth_log(5, 7), data="0x")),
        (REDSTONE, replace(redstone_log(5, 7), topics=(CACHE_UPDATED, PYTH.id))),
        (REDSTONE, replace(redstone_log(5, 7), data="0x" + 64 * "1")),
        (PUSH, value_log(5, 7, PUSH._replace(id="0x" + b"ETH".hex().ljust(64, "0")))),
        (PUSH, replace(value_log(5, 7), topics=(VALUE_UPDATE, PUSH.id))),
        (PUSH, replace(value_log(5, 7), data="0x" + 64 * "1")),
    ],
)
def test_a_push_of_another_feed_is_none(feed: Feed, log: Log) -> None:
    assert pushed(feed, log) is None


def test_aaves_main_market_is_the_first_reference() -> None:
    found = references(DECODER.spec_of(VENUE).deployments, "ethereum")

    assert [(one.name, one.label) for one in found] == [
        ("aave_v3", "AaveV3Ethereum"),
        ("aave_v3", "AaveV3EthereumLido"),
        ("aave_v3", "AaveV3EthereumEtherFi"),
        ("aave_v3", "AaveV3EthereumHorizon"),
    ]


def liquidation(
    world: World, venue: str, market: str, number: int, log_index: int, **legs: Any
) -> LendingLiquidation:
    block = world.block(number)
    tx = f"0x{number:060x}{log_index:04x}"
    return LendingLiquidation(
        venue, f"{tx}/{log_index}", number, block.hash, tx, log_index, market, market, "lending",
        "repay_seize", address("9"), None, None, legs.get("repaid"), legs.get("seized"),
        legs.get("shares", False), 1,
    )  # fmt: skip


def write(connection: Connection, world: World, found: Sequence[LendingLiquidation]) -> None:
    blocks = [world.block(number) for number in sorted({row.block_number for row in found})]
    times = {block.number: chain_rows.utc(block.time) for block in blocks}
    with connection.transaction():
        chain_rows.append_blocks(connection, blocks)
        chain_rows.append_liquidations(
            connection, chain_rows.pack_liquidations(connection, found, times)
        )


def fill(connection: Connection, world: Any, *venues: str, **more: Any) -> dict[str, int]:
    return dict(prices.fill(connection, world, DECODER, venues or (VENUE,), **more))


PRICES = (
    "SELECT market, asset, block_number, log_index, source, usd, quality, trust, via, as_of_block"
    " FROM ledger.price ORDER BY 1, 2, 3, 4, 5"
)
VAIN = (
    "SELECT venue, asset, block_number, log_index, reason FROM ledger.no_price ORDER BY 1, 2, 3, 4"
)


@pytest.fixture
def world() -> World:
    """A token of 6 decimals whose feed jumps in block 1000, after the log 4."""
    made = World(aave(MAIN, PROVIDER, ORACLE) | listed(ORACLE, TOKEN, 6, FEED, jumping))
    made.answers(210_000_000_000, 1_000, 4)
    return made


def repaid(raw: int = 5) -> Leg:
    return Leg(TOKEN, raw)


def test_each_liquidation_gets_the_price_of_its_side(connection: Connection, world: World) -> None:
    found = [liquidation(world, VENUE, MAIN, number, at, repaid=repaid())
             for number, at in ((999, 1), (1_000, 2), (1_000, 6))]  # fmt: skip
    write(connection, world, found)

    assert fill(connection, world) == {"prices": 3, "in_vain": 0}
    way = [MAIN, PROVIDER, ORACLE]
    assert rows(connection, PRICES) == [
        (MAIN, TOKEN, 1_000, 2, "oracle", D("0.002"), "A", "governed", way, 1_000),
        (MAIN, TOKEN, 1_000, 6, "oracle", D("0.0021"), "A", "governed", way, 1_000),
        (MAIN, TOKEN, 999, -1, "oracle", D("0.002"), "A", "governed", way, 999),
    ]  # fmt: skip


def test_a_price_is_as_old_as_its_block(connection: Connection, world: World) -> None:
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, "SELECT venue, as_of_at FROM ledger.price") == [
        (VENUE, datetime.fromtimestamp(TIME + 12 * 999, UTC))
    ]


def test_what_has_a_price_is_not_asked_again(connection: Connection, world: World) -> None:
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])
    fill(connection, world)
    world.asked_at.clear()

    assert (fill(connection, world), fill(connection, world, again=True)) == ({}, {})
    assert world.asked_at == []


def test_the_newest_blocks_come_first(
    connection: Connection, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "BLOCKS_AT_ONCE", 1)
    found = [liquidation(world, VENUE, MAIN, at, 1, repaid=repaid()) for at in (10, 30, 20)]
    write(connection, world, found)

    fill(connection, world)

    assert list(dict.fromkeys(world.asked_at)) == [30, 29, 20, 19, 10, 9]


VAINLY = [
    ("it reverts", "getAssetPrice(address)", lambda _: REVERTED, "the oracle reverts"),
    ("it answers 0", "getAssetPrice(address)", always("uint256", 0), "the oracle answers 0"),
    (
        "it answers below 0",
        "getAssetPrice(address)",
        always("int256", -1),
        "the oracle answers a negative number",
    ),
]


@pytest.mark.parametrize(
    ("function", "answer", "reason"),
    [case[1:] for case in VAINLY],
    ids=[case[0] for case in VAINLY],
)
def test_an_oracle_without_a_price_is_written_down(
    connection: Connection, world: World, function: str, answer: Said, reason: str
) -> None:
    world.said[asked(ORACLE, function, TOKEN)] = answer
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    assert fill(connection, world) == {"prices": 0, "in_vain": 1}
    assert rows(connection, VAIN) == [(VENUE, TOKEN, 999, -1, reason)]
    assert fill(connection, world) == {}


def test_a_token_without_decimals_has_no_price(connection: Connection, world: World) -> None:
    world.said[asked(TOKEN, "decimals()")] = lambda _: REVERTED
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, VAIN) == [(VENUE, TOKEN, 999, -1, "the token states no decimals")]


def test_what_was_asked_in_vain_is_asked_again_when_told_to(
    connection: Connection, world: World
) -> None:
    call = asked(ORACLE, "getAssetPrice(address)", TOKEN)
    honest = world.said.pop(call)
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])
    fill(connection, world)
    world.said[call] = honest

    assert fill(connection, world, again=True) == {"prices": 1, "in_vain": 0}
    assert (rows(connection, VAIN), len(rows(connection, PRICES))) == ([], 1)


def test_what_nobody_could_tell_is_not_written(connection: Connection, world: World) -> None:
    world.fault = SourceFault("ethereum", "every endpoint asks to come later")
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    with pytest.raises(SourceFault):
        fill(connection, world)

    assert (rows(connection, VAIN), rows(connection, PRICES)) == ([], [])


def test_a_price_of_a_block_that_is_not_ours_any_more_is_not_stored(
    connection: Connection, world: World
) -> None:
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])
    held = list(prices.store.wanted(connection, "ethereum", [VENUE]))
    told = prices.Prices(world, DECODER).ask(held)  # type: ignore[arg-type]
    connection.execute("UPDATE ledger.block SET hash = '0xother'")

    prices.store.append(connection, "ethereum", held, told)

    assert rows(connection, PRICES) == []


# units, references, markets that anybody opens

V2_POOL = "0x7d2768de32b0b80b7a3454c06bdac94a69ddc7a9"
V2_PROVIDER, V2_ORACLE = address("7"), address("8")
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"


def test_a_unit_that_is_no_dollar_gets_its_dollars_from_a_reference(
    connection: Connection, world: World
) -> None:
    world.said |= {
        asked(V2_POOL, "getAddressesProvider()"): always("address", V2_PROVIDER),
        asked(V2_PROVIDER, "getPriceOracle()"): always("address", V2_ORACLE),
        asked(V2_ORACLE, "WETH()"): always("address", WETH),
        **listed(V2_ORACLE, OTHER, 6, address("f"), lambda _: 25 * 10**13),  # 1 is 0.00025 ether
        **listed(ORACLE, WETH, 18, FEED, lambda _: 4_000 * 10**8),
    }
    write(
        connection,
        world,
        [liquidation(world, "aave_v2.ethereum", V2_POOL, 999, 1, repaid=Leg(OTHER, 1))],
    )

    fill(connection, world, "aave_v2.ethereum")

    way = [V2_POOL, V2_PROVIDER, V2_ORACLE, MAIN, PROVIDER, ORACLE]
    assert rows(connection, PRICES) == [
        (V2_POOL, OTHER, 999, -1, "oracle", D("0.000001"), "B", "governed", way, 999),
    ]  # fmt: skip


def test_a_unit_without_dollars_is_a_reason(connection: Connection, world: World) -> None:
    world.said |= {
        asked(V2_POOL, "getAddressesProvider()"): always("address", V2_PROVIDER),
        asked(V2_PROVIDER, "getPriceOracle()"): always("address", V2_ORACLE),
        asked(V2_ORACLE, "WETH()"): always("address", WETH),
        **listed(V2_ORACLE, OTHER, 6, address("f"), lambda _: 25 * 10**13),
        asked(WETH, "decimals()"): always("uint8", 18),
    }
    write(
        connection,
        world,
        [liquidation(world, "aave_v2.ethereum", V2_POOL, 999, 1, repaid=Leg(OTHER, 1))],
    )

    fill(connection, world, "aave_v2.ethereum")

    assert rows(connection, VAIN) == [
        ("aave_v2.ethereum", OTHER, 999, -1, "no dollar price of the unit that the oracle quotes")
    ]


MORPHO = "0xbbbbbbbbbb9cc5e90e3b3af64bdaf62c37eeffcb"
USDC, WSTETH = (
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    "0x7f39c581f595b53c5cb19bd0b3f8da6c935e2ca0",
)
MARKET = "0xb323495f7e4148be5643a4ea4a8221eef163e4bccfdedc2a6f4696baacbc86cc"
MARKET_ORACLE = "0x48f7e36eb6b826b2df4b2e630b62cd25e89e40e2"
MORPHO_VENUE = "morpho_blue.ethereum"


def test_a_market_of_anybodys_has_both_its_own_price_and_a_reference(
    connection: Connection, world: World
) -> None:
    world.said |= {
        asked(MORPHO, "idToMarketParams(bytes32)", bytes.fromhex(MARKET[2:])): always(
            "address address address address uint256", USDC, WSTETH, MARKET_ORACLE,
            "0x870ac11d48b15db9a138cf899d20f13f79ba00bc", 86 * 10**16,
        ),
        asked(MARKET_ORACLE, "price()"): always("uint256", 4_000 * 10**24),  # 4000 USDC
        **listed(ORACLE, USDC, 6, FEED, lambda _: 99_900_000),
        **listed(ORACLE, WSTETH, 18, OTHER, lambda _: 3_900 * 10**8),
    }  # fmt: skip
    write(
        connection,
        world,
        [
            liquidation(
                world, MORPHO_VENUE, MARKET, 999, 1, repaid=Leg(USDC, 1), seized=Leg(WSTETH, 1)
            )
        ],
    )

    fill(connection, world, MORPHO_VENUE)

    way = [MAIN, PROVIDER, ORACLE]
    both = [MORPHO, MARKET_ORACLE, *way]
    assert rows(connection, PRICES) == [
        (MARKET, WSTETH, 999, -1, "oracle", D("3.996E-15"), "B", "market", both, 999),
        (MARKET, WSTETH, 999, -1, "reference", D("3.9E-15"), "B", "governed", way, 999),
        (MARKET, USDC, 999, -1, "oracle", D("9.99E-7"), "B", "governed", [MORPHO, *way], 999),
    ]  # fmt: skip


# what is pushed, into an adapter of Euler's

VAULT, ROUTER, ADAPTER = address("5"), address("4"), REDSTONE.adapter
DOLLAR = f"0x{840:040x}"
EULER = "euler_v2.ethereum"


def in_adapter(world: World, at: Callable[[int], int | None], **getters: Said) -> None:
    """A vault whose router asks one adapter: `at` a block it quotes that price of 8 decimals for a
    token of 6, or is stale."""

    def quoted(block: int) -> CallResult:
        price = at(block)
        return REVERTED if price is None else says("uint256", price * 10**34)

    resolve = "resolveOracle(uint256,address,address)"
    world.said |= {
        asked(VAULT, "oracle()"): always("address", ROUTER),
        asked(VAULT, "unitOfAccount()"): always("address", DOLLAR),
        asked(ROUTER, "getQuote(uint256,address,address)", 10**30, TOKEN, DOLLAR): quoted,
        asked(ROUTER, resolve, 10**18, TOKEN, DOLLAR): always(
            "uint256 address address address", 10**18, TOKEN, DOLLAR, ADAPTER
        ),
        **{asked(ADAPTER, f"{name}()"): said for name, said in getters.items()},
    }


def in_pyth(world: World, at: Callable[[int], int | None], stored: Callable[[int], int]) -> None:
    in_adapter(
        world, at, pyth=always("address", PYTH.pyth), feedId=always("uint256", int(PYTH.id, 16))
    )
    state = "getPriceUnsafe(bytes32)"
    world.said[asked(PYTH.pyth, state, bytes.fromhex(PYTH.id[2:]))] = lambda block: says(
        "int64 uint64 int32 uint256", stored(block), 5, -8, TIME + 12 * block - 1
    )


EULER_PRICES = "SELECT log_index, source, usd, quality FROM ledger.price ORDER BY 1"


def test_a_liquidation_after_a_push_of_pyth_stands_on_its_side(
    connection: Connection,
) -> None:
    world = World({})
    in_pyth(world, jumping, jumping)
    block = world.block(1_000)
    world.logged = [
        pyth_log(205_000_000_000, 1, block=block),
        pyth_log(1, 3, PYTH._replace(id="0x" + 64 * "8"), block),
        pyth_log(210_000_000_000, 4, block=block),
    ]
    found = [liquidation(world, EULER, VAULT, 1_000, at, repaid=repaid()) for at in (0, 2, 6)]
    write(connection, world, found)

    fill(connection, world, EULER)

    assert rows(connection, EULER_PRICES) == [
        (0, "oracle", D("0.002"), "A"),
        (2, "oracle", D("0.00205"), "A"),
        (6, "oracle", D("0.0021"), "A"),
    ]


def test_what_was_stale_until_somebody_pushed_has_the_price_that_was_pushed(
    connection: Connection,
) -> None:
    world = World({})
    in_pyth(world, lambda block: jumping(block) if block == 1_000 else None, jumping)
    world.logged = [pyth_log(210_000_000_000, 4, block=world.block(1_000))]
    write(connection, world, [liquidation(world, EULER, VAULT, 1_000, 6, repaid=repaid())])

    fill(connection, world, EULER)

    assert rows(connection, EULER_PRICES) == [(6, "oracle", D("0.0021"), "A")]


def test_a_push_of_redstone_is_read_in_its_adapter(connection: Connection) -> None:
    world = World({})
    in_adapter(
        world,
        jumping,
        cache=lambda block: says("uint208 uint48", jumping(block), TIME + 12 * block - 1),
    )
    world.logged = [redstone_log(210_000_000_000, 4, world.block(1_000))]
    found = [liquidation(world, EULER, VAULT, 1_000, at, repaid=repaid()) for at in (2, 6)]
    write(connection, world, found)

    fill(connection, world, EULER)

    assert rows(connection, EULER_PRICES) == [
        (2, "oracle", D("0.002"), "A"),
        (6, "oracle", D("0.0021"), "A"),
    ]


# what is pushed into RedStone's own adapters, read through feeds that look like Chainlink's


def in_redstone(
    world: World,
    stored: Callable[[int], int],
    push: RedstonePush = PUSH,
    at: Callable[[int], int] = lambda block: block,
) -> None:
    """The feed of the world's token is RedStone's: `stored` at a block is its price, of 8 decimals,
    last pushed in the block `at`."""
    world.said |= listed(ORACLE, TOKEN, 6, FEED, stored)
    world.said[asked(FEED, "aggregator()")] = lambda _: REVERTED
    for getter, types, value in (
        ("getPriceFeedAdapter()", "address", push.adapter),
        ("getDataFeedId()", "bytes32", bytes.fromhex(push.id[2:])),
    ):
        world.said[asked(FEED, getter)] = always(types, value)

    def latest(block: int) -> CallResult:
        time = TIME + 12 * at(block)
        return says("uint80 int256 uint256 uint256 uint80", 1, stored(block), time, time, 1)

    world.said[asked(FEED, "latestRoundData()")] = latest
    if push.adapter != FEED:
        kept = "getLastUpdateDetailsUnsafe(bytes32)"
        world.said[asked(push.adapter, kept, bytes.fromhex(push.id[2:]))] = lambda block: says(
            "uint256 uint256 uint256", 1_000 * (TIME + 12 * at(block)) - 1, TIME + 12 * at(block),
            stored(block),
        )  # fmt: skip


SIDES = "SELECT log_index, source, usd, quality, via FROM ledger.price ORDER BY 1"
WAY = [MAIN, PROVIDER, ORACLE]


@pytest.mark.parametrize(
    ("push", "logged"),
    [
        (PUSH, value_log),
        (MERGED, lambda value, at, _, block: answer_log(value, block, at, FEED)),
    ],
)
def test_a_liquidation_after_a_push_of_redstone_stands_on_its_side(
    connection: Connection, world: World, push: RedstonePush, logged: Callable[..., Log]
) -> None:
    in_redstone(world, jumping, push)
    world.logged = [logged(210_000_000_000, 4, push, world.block(1_000))]
    found = [liquidation(world, VENUE, MAIN, 1_000, at, repaid=repaid()) for at in (2, 6)]
    write(connection, world, found)

    fill(connection, world)

    assert rows(connection, SIDES) == [
        (2, "oracle", D("0.002"), "A", WAY),
        (6, "oracle", D("0.0021"), "A", WAY),
    ]


def test_a_push_beside_others_in_the_liquidations_own_transaction_is_its_price(
    connection: Connection, world: World
) -> None:
    in_redstone(world, jumping)
    block = world.block(1_000)
    (found,) = [liquidation(world, VENUE, MAIN, 1_000, 6, repaid=repaid())]
    other = PUSH._replace(id="0x" + b"ETH".hex().ljust(64, "0"))
    world.logged = [
        value_log(1, 3, other, block),
        replace(value_log(210_000_000_000, 4, block=block), tx_hash=found.tx_hash),
        value_log(2, 5, other, block),
        value_log(3, 5, PUSH._replace(adapter=address("4")), block),
    ]
    write(connection, world, [found])

    fill(connection, world)

    assert rows(connection, SIDES) == [(6, "oracle", D("0.0021"), "A", WAY)]


def test_an_adapter_of_redstones_that_logs_nothing_leaves_the_end_of_the_block(
    connection: Connection, world: World
) -> None:
    in_redstone(world, jumping, MERGED)
    world.logged = []
    found = [liquidation(world, VENUE, MAIN, 1_000, at, repaid=repaid()) for at in (2, 6)]
    write(connection, world, found)

    fill(connection, world)

    assert rows(connection, SIDES) == [(-1, "oracle", D("0.0021"), "A-", WAY)]


def test_a_push_of_the_same_price_moves_nothing(connection: Connection, world: World) -> None:
    in_redstone(world, lambda _: 200_000_000_000)
    world.logged = [value_log(200_000_000_000, 4, block=world.block(1_000))]
    write(connection, world, [liquidation(world, VENUE, MAIN, 1_000, 6, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, SIDES) == [(-1, "oracle", D("0.002"), "A", WAY)]


def test_a_price_that_was_stale_until_redstone_pushed_the_same_is_the_one_pushed(
    connection: Connection, world: World
) -> None:
    # The adapter refuses to read what is older than 30 hours, and keeps it nonetheless.
    in_redstone(world, lambda _: 200_000_000_000, at=lambda block: 1_000 if block >= 1_000 else 1)
    call = asked(ORACLE, "getAssetPrice(address)", TOKEN)
    honest = world.said[call]
    world.said[call] = lambda block: honest(block) if block >= 1_000 else REVERTED
    world.logged = [value_log(200_000_000_000, 4, block=world.block(1_000))]
    write(connection, world, [liquidation(world, VENUE, MAIN, 1_000, 6, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, SIDES) == [(6, "oracle", D("0.002"), "A", WAY)]


def test_a_push_of_redstone_is_no_price_without_the_old_state(
    connection: Connection, world: World
) -> None:
    in_redstone(world, jumping)
    world.state_from = HEAD - 120
    world.logged = [value_log(210_000_000_000, 4, block=world.block(1_000))]
    write(connection, world, [liquidation(world, VENUE, MAIN, 1_000, 6, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, "SELECT reason FROM ledger.no_price") == [
        ("no plain feed, and no state at that block",)
    ]


def test_a_push_into_pyth_is_no_price_without_the_old_state(
    connection: Connection,
) -> None:
    world = World({})
    in_pyth(world, jumping, jumping)
    world.state_from = HEAD - 120
    world.logged = [pyth_log(210_000_000_000, 4, block=world.block(1_000))]
    write(connection, world, [liquidation(world, EULER, VAULT, 1_000, 6, repaid=repaid())])

    fill(connection, world, EULER)

    assert rows(connection, "SELECT reason FROM ledger.no_price") == [
        ("no plain feed, and no state at that block",)
    ]


# what events carry


TROVES = "0x7bcb64b2c9206a5b699ed43363f6f98d4776cf5a"
MARGIN = "0x6bd780e7fdf01d77e4d475c821f1e7ae05409072"
TX = "0x" + 64 * "7"


RATIO = "liquity/bold:contracts/src/Dependencies/LiquityMath.sol, _computeCR"


def test_a_trove_has_the_price_in_its_event_and_its_debt_that_of_the_protocol(
    connection: Connection, world: World
) -> None:
    (row,) = write_case(connection, "liquity_v2/one_trove")
    assert row.repaid is not None
    assert row.seized is not None

    assert fill(connection, world, row.venue) == {"prices": 2}
    assert rows(connection, PRICES) == sorted(
        [
            (TROVES, row.seized.asset, 1_000, 6, "event", D("4E-15"), "A", "governed",
             [TROVES, f"{TX}/6"], 1_000),
            (TROVES, row.repaid.asset, 1_000, -1, "par", D("1E-18"), "B", "governed",
             [RATIO], 1_000),
        ],
        key=repr,
    )  # fmt: skip
    assert (world.asked_at, rows(connection, VAIN)) == ([], [])


def test_a_coin_that_its_protocol_takes_for_a_dollar_is_worth_one(connection: Connection) -> None:
    (row,) = write_case(connection, "liquity_v2/one_trove")
    assert row.repaid is not None
    connection.execute(
        "INSERT INTO ledger.asset (chain, address) VALUES ('ethereum', %s)", (row.repaid.asset,)
    )
    prices.from_events(connection, DECODER, "ethereum", [row.venue])

    values.value(connection, terms=terms_of(DECODER))

    assert rows(
        connection,
        "SELECT repaid_usd, repaid_source, repaid_trust, seized_source, bonus_usd"
        " FROM liq.lending_values",
    ) == [(row.repaid.raw * D("1E-18"), "par", "governed", "event", None)]
    assert rows(connection, "SELECT * FROM ledger.unvalued") == []
    # no oracle of anybody's has looked at it
    assert rows(connection, "SELECT trust FROM liq.assets") == [("unlisted",)]


@pytest.mark.parametrize(
    ("stablecoins", "expected"),
    [("par", ("par", D(10_000))), ("market_or_par", ("par", D(10_000))), ("market", (None, None))],
)
def test_a_total_takes_a_protocols_dollar_unless_it_wants_the_market(
    connection: Connection, stablecoins: str, expected: tuple[str | None, Decimal | None]
) -> None:
    (row,) = write_case(connection, "liquity_v2/one_trove")
    prices.from_events(connection, DECODER, "ethereum", [row.venue])
    values.value(connection, terms=terms_of(DECODER))
    definition = parse(
        b'id = "mine/v1"\nsays = "Mine."\nfidelity = "exact"\ninstruments = ["lending"]\n'
        + f'stablecoins = "{stablecoins}"'.encode()
    )
    definitions.keep(connection, [definition])

    assert rows(
        connection,
        "SELECT price_source, usd"
        " FROM liq.counted('mine/v1', '-infinity'::timestamptz, 'infinity')",
    ) == [expected]


def test_a_price_that_stood_beside_the_event_values_it_before_all_others(
    connection: Connection,
) -> None:
    (row,) = write_case(connection, "dolomite/liquidation")
    world = World({}, "arbitrum")

    fill(connection, world, row.venue)
    values.value(connection, terms=terms_of(DECODER))

    assert world.asked_at == []
    assert rows(
        connection,
        "SELECT repaid_usd, repaid_source, seized_usd, seized_net_usd, bonus_usd, bonus_source"
        " FROM liq.lending_values",
    ) == [(D("1898.1"), "event", D(2000), D(2000), D("101.9"), "event")]


def test_explain_names_the_log_that_said_the_price(connection: Connection) -> None:
    (row,) = write_case(connection, "dolomite/liquidation")
    prices.from_events(connection, DECODER, "arbitrum", [row.venue])

    sections = explain(connection, f"{row.venue}/{row.event_key}/{row.account}")

    (told,) = (section.records for section in sections if section.title == "prices")
    assert [(one["source"], one["quality"], one["via"]) for one in told] == [
        ("event", "A", [MARGIN, f"{TX}/4"]),
        ("event", "A", [MARGIN, f"{TX}/3"]),
    ]


def test_without_the_log_beside_it_the_oracle_is_asked(connection: Connection) -> None:
    (row,) = write_case(connection, "dolomite/numbered_account")
    assert row.seized is not None
    world = World(
        {
            asked(MARGIN, "getMarketIdByTokenAddress(address)", row.seized.asset): always(
                "uint256", 0
            ),
            asked(MARGIN, "getMarketPrice(uint256)", 0): always("uint256", 4_000 * 10**18),
        },
        "arbitrum",
    )

    fill(connection, world, row.venue)

    assert rows(connection, "SELECT asset, source, usd, quality FROM ledger.price") == [
        (row.seized.asset, "oracle", D("4E-15"), "A")
    ]
    assert rows(connection, "SELECT reason FROM ledger.no_price") == [
        ("the market does not know the asset",)
    ]


# without the old state


def test_without_the_old_state_the_logs_of_the_feed_tell(
    connection: Connection, world: World
) -> None:
    world.state_from = HEAD - 120
    world.answers(200_000_000_000, 400, 0)
    world.logged.sort(key=lambda log: log.block_number)
    found = [liquidation(world, VENUE, MAIN, number, at, repaid=repaid())
             for number, at in ((999, 1), (1_000, 2), (1_000, 6))]  # fmt: skip
    write(connection, world, found)

    assert fill(connection, world) == {"prices": 3, "in_vain": 0}
    via = [FEED, AGGREGATOR]
    assert rows(connection, PRICES) == [
        (MAIN, TOKEN, 1_000, 2, "feed_log", D("0.002"), "B", "governed", via, 400),
        (MAIN, TOKEN, 1_000, 6, "feed_log", D("0.0021"), "B", "governed", via, 1_000),
        (MAIN, TOKEN, 999, -1, "feed_log", D("0.002"), "B", "governed", via, 400),
    ]  # fmt: skip


def test_without_the_old_state_an_adapter_has_no_price(
    connection: Connection, world: World
) -> None:
    world.state_from = HEAD - 120
    world.said[asked(FEED, "aggregator()")] = lambda _: REVERTED
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, VAIN) == [
        (VENUE, TOKEN, 999, -1, "no plain feed, and no state at that block")
    ]


def test_a_feed_without_an_answer_for_a_day_is_stale(connection: Connection, world: World) -> None:
    world.state_from = HEAD - 120
    world.logged.clear()
    write(connection, world, [liquidation(world, VENUE, MAIN, 999, 1, repaid=repaid())])

    fill(connection, world)

    assert rows(connection, VAIN) == [(VENUE, TOKEN, 999, -1, "the feed is stale")]


def test_old_state_that_is_away_is_asked_for_once(
    connection: Connection, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "BLOCKS_AT_ONCE", 1)
    world.state_from = HEAD - 120
    found = [liquidation(world, VENUE, MAIN, at, 1, repaid=repaid()) for at in (10, 30, 20)]
    write(connection, world, found)

    fill(connection, world)

    assert list(dict.fromkeys(world.asked_at)) == [30, 29]


def test_a_fresh_block_that_an_endpoint_lacks_is_tried_again(
    connection: Connection, world: World
) -> None:
    world.state_from = HEAD
    write(connection, world, [liquidation(world, VENUE, MAIN, HEAD - 1, 1, repaid=repaid())])

    assert fill(connection, world) == {"prices": 0, "in_vain": 0}
    assert rows(connection, VAIN) == []
    world.state_from = 0
    assert fill(connection, world) == {"prices": 1, "in_vain": 0}


# over the wire


@pytest.fixture
def wire(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Node, EvmSource, World]]:
    """A node over HTTP with the contracts of the world, whose feed jumps in block 100."""
    world.said |= listed(ORACLE, TOKEN, 6, FEED, lambda block: jumping(block + 900))
    chain = Chain(BLOCKS)
    chain.logs[chain.blocks[100]["hash"]] = [
        {
            "address": AGGREGATOR,
            "topics": list(answer_log(210_000_000_000, BLOCK, 4).topics),
            "data": "0x" + 64 * "1",
            "blockNumber": hex(100),
            "blockHash": chain.blocks[100]["hash"],
            "transactionHash": "0x" + 64 * "6",
            "transactionIndex": "0x0",
            "logIndex": "0x4",
            "removed": False,
        }
    ]
    with (
        Node(chain) as node,
        closing(EvmSource(BY_NAME["anvil"], [node.url], clock=FakeClock().clock)) as source,
    ):
        source.chain_id()
        monkeypatch.setattr(node, "eth_call", Multicalled(world, chain.blocks))
        yield node, source, world


def test_a_busy_range_takes_a_tenth_of_a_request_a_liquidation(
    connection: Connection, wire: tuple[Node, EvmSource, World]
) -> None:
    node, source, _ = wire
    found = [on_wire(node, number, 2) for number in range(20, 220)]
    write_wire(connection, node, found)
    before = node.posts

    counts = prices.fill(connection, source, LOCAL_DECODER, [LOCAL])

    assert (dict(counts), node.posts - before) == ({"prices": 200, "in_vain": 0}, 7)
    assert rows(
        connection,
        "SELECT usd, quality, log_index, count(*) FROM ledger.price GROUP BY 1, 2, 3 ORDER BY 1, 3",
    ) == [(D("0.002"), "A", -1, 80), (D("0.002"), "A", 2, 1), (D("0.0021"), "A", -1, 119)]


def test_an_endpoint_without_old_state_leaves_it_to_one_that_has_it(
    connection: Connection, wire: tuple[Node, EvmSource, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, _, world = wire
    recent = Multicalled(World(world.said, state_from=200), archive.chain.blocks)
    write_wire(connection, archive, [on_wire(archive, number, 2) for number in (50, 240)])
    with Node(archive.chain) as full:
        monkeypatch.setattr(full, "eth_call", recent)
        urls = [full.url, archive.url]
        with closing(EvmSource(BY_NAME["anvil"], urls, clock=FakeClock().clock)) as source:
            counts = prices.fill(connection, source, LOCAL_DECODER, [LOCAL])

    assert dict(counts) == {"prices": 2, "in_vain": 0}
    assert rows(connection, "SELECT DISTINCT source FROM ledger.price") == [("oracle",)]


def test_nobody_with_old_state_is_no_fault(wire: tuple[Node, EvmSource, World]) -> None:
    node, source, world = wire
    world.state_from = 100
    token = asked(TOKEN, "decimals()")

    found = source.call_many_at([Question(node.chain.ref(50), [token]), Question(150, [token])])

    assert found == [None, [says("uint8", 6)]]


def test_many_calls_at_many_blocks_are_two_requests(wire: tuple[Node, EvmSource, World]) -> None:
    node, source, _ = wire
    questions = [
        Question(number, [asked(TOKEN, "decimals()"), asked(OTHER, "decimals()")])
        for number in range(50)
    ]
    before = node.posts

    found = source.call_many_at(questions)

    assert found == [[says("uint8", 6), REVERTED]] * 50
    assert node.posts - before == 2  # the second for what failed in company


def test_gas_that_runs_out_halves_the_calls_of_one_block(
    wire: tuple[Node, EvmSource, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, source, _ = wire
    honest: Any = node.eth_call

    def starving(call: Json, at: Json) -> Json:
        if call["to"] == MULTICALL3 and len(call["data"]) > 1_000 and at == hex(7):
            raise RpcError(-32000, "out of gas")
        return honest(call, at)

    monkeypatch.setattr(node, "eth_call", starving)
    calls = [asked(TOKEN, "decimals()"), asked(FEED, "aggregator()")] * 3

    assert (
        source.call_many_at([Question(7, calls), Question(8, calls)])
        == [[says("uint8", 6), says("address", AGGREGATOR)] * 3] * 2
    )
