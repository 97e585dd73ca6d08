"""How the compiled layouts read and refuse, and what the decoder does with facts and emitters."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from indexer.decode import AbiEvent, Argument, Decoder, Layout, layouts
from indexer.evm_model import (
    EMITTER,
    Contract,
    Deployment,
    EventMap,
    EventPrice,
    Fact,
    FactMap,
    Facts,
    Leg,
    LendingLiquidation,
    Log,
    Lookup,
    MissingFact,
    PriceMap,
    ProtocolSpec,
    Quarantined,
    Sibling,
    UndecodedLog,
)
from tests.evm_logs import DECODER, SPECS, encoded, known, looks_like
from tests.rpc_proxy import plays

POOL = "0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2"
MORPHO = "0xbbbbbbbbbb9cc5e90e3b3af64bdaf62c37eeffcb"


def layout_of(*arguments: Argument) -> tuple[AbiEvent, Layout]:
    event = AbiEvent("Happened", arguments)
    return event, Layout(event)


def log_of(layout: Layout, data: str, *topics: str) -> Log:
    return Log("x", POOL, (layout.topic0, *topics), "0x" + data, 1, "0xb", "0xt", 0)


def word(last: str, fill: str = "0") -> str:
    return last.rjust(64, fill)


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        ("uint256", word("ff"), 255),
        ("uint8", word("ff"), 255),
        ("uint8", word("100"), None),
        ("int256", 64 * "f", -1),
        ("int256", "8" + 63 * "0", -(2**255)),
        ("int8", word("7f"), 127),
        ("int8", word("80", "f"), -128),
        ("int8", word("80"), None),
        ("int8", word("7f", "f"), None),
        ("int128", word(32 * "f", "f"), -1),
        ("bool", word("1"), True),
        ("bool", word("0"), False),
        ("bool", word("2"), None),
        ("address", word(40 * "a"), "0x" + 40 * "a"),
        ("address", word("1" + 40 * "a"), None),
        ("address", word(40 * "A"), None),
        ("bytes4", "deadbeef" + 56 * "0", "0xdeadbeef"),
        ("bytes4", "deadbeef1" + 55 * "0", None),
        ("uint256", "0x" + 62 * "0", None),
        ("uint256", "+" + 63 * "0", None),
        ("uint256", 31 * "1_" + "11", None),
    ],
)
def test_a_word(kind: str, data: str, value: int | str | bool | None) -> None:
    _, layout = layout_of(Argument("a", kind))

    read = layout.read(log_of(layout, data))

    assert read == [value] if value is not None else isinstance(read, str)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (word("1"), "32 bytes of data, 64 expected"),
        (3 * word("1"), "96 bytes of data, 64 expected"),
        (word("1") + word("2"), "padding or a boolean is not as the ABI encodes it"),
        (word("1") + word("g"), "data is no hex text"),
    ],
)
@plays("S16", "event data that is longer than its ABI says", "undecoded, with the reason")
def test_why_a_log_is_not_read(data: str, reason: str) -> None:
    _, layout = layout_of(Argument("a", "uint256"), Argument("b", "bool"))
    assert layout.read(log_of(layout, data)) == reason


def test_members_of_a_tuple_are_named_with_a_dot() -> None:
    members = (Argument("x", "uint256"), Argument("y", "tuple", False, (Argument("z", "bool"),)))
    event, layout = layout_of(Argument("t", "tuple", False, members), Argument("u", "address"))

    log = encoded(event, {"t": (7, (True,)), "u": POOL}, chain="x", address=POOL)

    assert event.signature == "Happened((uint256,(bool)),address)"
    assert layout.names == ("t.x", "t.y.z", "u")
    assert layout.read(log) == [7, True, POOL]


@plays("S18", "a string argument that is no UTF-8", "undecoded, with the reason")
def test_dynamic_types_go_through_eth_abi_and_must_be_canonical() -> None:
    event, layout = layout_of(
        Argument("who", "address", True), Argument("text", "string"), Argument("list", "uint8[2][]")
    )
    args: dict[str, Any] = {"who": POOL, "text": "ä\0", "list": [(1, 2), (3, 4)]}
    log = encoded(event, args, chain="x", address=POOL)

    assert layout.read(log) == [POOL, "ä\0", ((1, 2), (3, 4))]
    longer = msgspec.structs.replace(log, data=log.data + word("0"))
    assert layout.read(longer) == "data is not as the ABI encodes it"
    assert isinstance(layout.read(msgspec.structs.replace(log, data=log.data[:-64])), str)
    assert isinstance(layout.read(msgspec.structs.replace(log, data="0x" + 64 * "f")), str)
    no_text = log.data.replace("c3a400", "ffff00")
    assert layout.read(msgspec.structs.replace(log, data=no_text)) == (
        "text that is no UTF-8: invalid start byte"
    )


def test_an_indexed_dynamic_argument_is_only_its_hash() -> None:
    _, layout = layout_of(Argument("name", "string", True))
    assert layout.read(log_of(layout, "", "0x" + 64 * "a")) == ["0x" + 64 * "a"]


def test_topics_cannot_lend_each_other_digits() -> None:
    _, layout = layout_of(Argument("a", "uint256", True), Argument("b", "uint256", True))
    shifted = log_of(layout, "", "0x" + 63 * "1", "10x" + 64 * "1")
    assert isinstance(layout.read(shifted), str)


def test_an_anonymous_event_stops_at_the_start() -> None:
    with pytest.raises(ValueError, match="Happened is anonymous"):
        Layout(AbiEvent("Happened", (), anonymous=True))


def spec_with(**events: EventMap | FactMap) -> ProtocolSpec:
    return ProtocolSpec(
        name="mine",
        kind="lending",
        contracts={"pool": Contract("aave_v2_pool.json", dict(events))},
        deployments=(Deployment("x", POOL, "mine", "pool", None, "test"),),
        methodology="",
    )


def test_an_argument_that_the_abi_does_not_have_stops_at_the_start() -> None:
    with pytest.raises(ValueError, match="LiquidationCall has no argument borrower, only"):
        Decoder([spec_with(LiquidationCall=EventMap(account="borrower"))])


def test_an_event_that_the_abi_does_not_have_stops_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"unmapped {'LiquidationCall'}, unknown {'Liquidated'}"):
        Decoder([spec_with(Liquidated=EventMap(account="user"))])


def test_a_role_that_nobody_described_stops_at_the_start() -> None:
    with pytest.raises(ValueError, match="proves unknown roles"):
        Decoder([spec_with(LiquidationCall=FactMap(proves={"user": "vault"}))])


def liquidation_call(**changes: Any) -> Log:
    (layout, _), *_ = layouts(DECODER.spec_of("aave_v3.ethereum").contracts["pool"])
    body = word("3e8") + word("7d0") + word(40 * "1") + word("0")
    log = Log(
        "ethereum", POOL, (layout.topic0, *("0x" + word(40 * digit) for digit in "abc")),
        "0x" + body, 19_000_000, "0x" + 64 * "b", "0x" + 64 * "7", 5,
    )  # fmt: skip
    return msgspec.structs.replace(log, **changes)


def test_a_log_becomes_a_row() -> None:
    assert DECODER.decode(liquidation_call(), {}) == LendingLiquidation(
        venue="aave_v3.ethereum",
        event_key="0x" + 64 * "7" + "/5",
        block_number=19_000_000,
        block_hash="0x" + 64 * "b",
        tx_hash="0x" + 64 * "7",
        log_index=5,
        emitter=POOL,
        market=POOL,
        kind="lending",
        method="repay_seize",
        account="0x" + 40 * "c",
        owner=None,
        liquidator="0x" + 40 * "1",
        repaid=Leg("0x" + 40 * "b", 1000),
        seized=Leg("0x" + 40 * "a", 2000),
        seized_is_shares=False,
        decoder_version=2,
    )


def test_the_same_address_on_another_chain_is_a_stranger() -> None:
    log = liquidation_call(chain="base")
    assert DECODER.decode(log, {}) == Quarantined(log, looks_like(log))
    assert {"aave_v2", "aave_v3"} <= {*looks_like(log)}


@plays("S13", "our first topic, another number of topics", "undecoded, with the reason")
def test_a_wrong_number_of_topics_is_said() -> None:
    log = liquidation_call(topics=liquidation_call().topics[:3])
    assert DECODER.decode(log, {}) == UndecodedLog(
        "aave_v3.ethereum", log, "3 topics, 4 expected", 2
    )


def test_a_log_without_topics_is_not_ours() -> None:
    assert DECODER.decode(liquidation_call(topics=()), {}) is None


def test_another_protocols_event_by_one_of_our_contracts_is_quarantined() -> None:
    log = liquidation_call(address=MORPHO)
    assert DECODER.decode(log, {}) == Quarantined(log, looks_like(log))


def test_a_market_is_proved_by_a_fact_and_only_on_its_chain() -> None:
    market = "0x" + 40 * "5"
    log = liquidation_call(address=market)
    facts = known([Fact("ethereum", "emitter", market, "spark/pool")])

    row = DECODER.decode(log, facts)

    assert isinstance(row, LendingLiquidation)
    assert (row.venue, row.market) == ("spark.ethereum", market)
    elsewhere = msgspec.structs.replace(log, chain="base")
    assert isinstance(DECODER.decode(elsewhere, facts), Quarantined)


@pytest.mark.parametrize("role", ["spark/vault", "nobody/pool", "spark", "", None])
def test_a_proof_of_something_that_we_do_not_know_proves_nothing(role: str | None) -> None:
    log = liquidation_call(address="0x" + 40 * "5")
    facts = known([Fact("ethereum", "emitter", log.address, role)])
    assert isinstance(DECODER.decode(log, facts), Quarantined)


NESTED = spec_with(
    LiquidationCall=EventMap(
        account="user",
        owner=Lookup("owner", (Lookup("wallet", (EMITTER, "user")),), head=4),
        repaid=("debtAsset", "debtToCover"),
    )
)
USER = "0x" + 40 * "c"


def test_a_fact_can_be_about_a_number() -> None:
    about = Lookup("size", ("debtToCover",))
    spec = spec_with(LiquidationCall=EventMap(account="user", owner=about))
    log = liquidation_call(chain="x")
    assert Decoder([spec]).decode(log, {}) == UndecodedLog(
        "mine.x", log, "waits for size of 1000", 1, MissingFact("x", "size", "1000")
    )


@pytest.mark.parametrize(
    ("facts", "owner"),
    [
        ({("x", "wallet", f"{POOL}/{USER}"): "0xabcdef", ("x", "owner", "0xab"): "0xo"}, "0xo"),
        ({("x", "wallet", f"{POOL}/{USER}"): "0xabcdef", ("x", "owner", "0xab"): None}, None),
        ({("x", "wallet", f"{POOL}/{USER}"): None}, None),
    ],
)
def test_a_fact_about_a_fact(facts: dict[tuple[str, str, str], str], owner: str | None) -> None:
    row = Decoder([NESTED]).decode(liquidation_call(chain="x"), facts)
    assert isinstance(row, LendingLiquidation)
    assert row.owner == owner


@pytest.mark.parametrize(
    ("facts", "missing"),
    [
        ({}, MissingFact("x", "wallet", f"{POOL}/{USER}")),
        ({("x", "wallet", f"{POOL}/{USER}"): "0xabcdef"}, MissingFact("x", "owner", "0xab")),
    ],
)
def test_an_event_waits_for_one_missing_fact_after_the_other(
    facts: dict[tuple[str, str, str], str], missing: MissingFact
) -> None:
    log = liquidation_call(chain="x")
    assert Decoder([NESTED]).decode(log, facts) == UndecodedLog(
        "mine.x", log, f"waits for {missing.fact} of {missing.subject}", 1, missing
    )


PRICED = spec_with(
    LiquidationCall=EventMap(
        account="user", price=PriceMap(Lookup("token", ("debtAsset",)), "debtToCover", 4)
    )
)
OF_TOKEN = ("x", "token", "0x" + 40 * "b")


def test_an_event_carries_the_price_of_an_asset() -> None:
    log = liquidation_call(chain="x")
    decoder = Decoder([PRICED])

    assert decoder.prices("mine.x", [log], {OF_TOKEN: "0xtoken"}) == [
        EventPrice(log, "0xtoken", Decimal("0.1"))
    ]


@pytest.mark.parametrize("facts", [{}, {OF_TOKEN: None}])
def test_a_price_of_an_asset_that_is_unknown_is_none(facts: Facts) -> None:
    assert Decoder([PRICED]).prices("mine.x", [liquidation_call(chain="x")], facts) == []


def test_only_what_is_whole_and_of_its_topics_carries_a_price() -> None:
    log = liquidation_call(chain="x")
    others = [
        msgspec.structs.replace(log, topics=()),
        msgspec.structs.replace(log, topics=log.topics[:3]),
        msgspec.structs.replace(log, data=log.data[:-2]),
    ]
    assert Decoder([PRICED]).prices("mine.x", others, {OF_TOKEN: "0xtoken"}) == []


def test_whose_events_carry_prices() -> None:
    found = {venue for venue in DECODER.venues() if DECODER.carries_prices(venue)}
    uses = {
        spec.name: [
            use
            for contract in (*spec.contracts.values(), spec.bystander)
            if contract is not None
            for use in contract.events.values()
        ]
        for spec in SPECS
    }
    with_prices = {
        name
        for name, of_spec in uses.items()
        if any(isinstance(getattr(use, "price", None), PriceMap | str) for use in of_spec)
    }
    assert {DECODER.spec_of(venue).name for venue in found} == with_prices
    assert {"dolomite", "liquity_v2"} <= with_prices


def test_a_price_that_the_abi_does_not_have_stops_at_the_start() -> None:
    event = EventMap(account="user", price=PriceMap("debtAsset", "price", 18))
    with pytest.raises(ValueError, match="LiquidationCall has no argument price, only"):
        Decoder([spec_with(LiquidationCall=event)])


def test_logs_are_joined_in_their_order_whatever_order_they_come_in() -> None:
    logs = [liquidation_call(log_index=n) for n in (9, 3)]

    rows = DECODER.transaction(logs, {}, is_whole=True)

    assert [row.log_index for row in rows if isinstance(row, LendingLiquidation)] == [3, 9]


def test_what_a_node_must_be_asked_for() -> None:
    venue = "aave_v3.ethereum"
    assert venue in DECODER.venues()
    assert POOL in DECODER.addresses(venue)
    assert liquidation_call().topics[0] in DECODER.topics(venue)
    assert len(DECODER.topics(venue)) == 2  # LiquidationCall and DeficitCreated, no transfers
    assert DECODER.addresses("aave_v3.nowhere") == []


def test_a_sibling_gives_its_arguments_by_name() -> None:
    sibling = Sibling(liquidation_call(), "aave_v3.ethereum", "Some", {"from": USER, "value": 3})

    assert sibling.says("Some", POOL, from_=USER, value=3)
    assert not sibling.says("Some", POOL, from_=USER, value=4)
    assert not sibling.says("Some", MORPHO)
