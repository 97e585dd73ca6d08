"""The suite that every protocol file gets for nothing, the moment it exists."""

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_abi.tools import get_abi_strategy
from eth_utils import event_abi_to_log_topic, is_checksum_address, keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3 import Web3

from indexer import decode
from indexer.decode import AbiEvent, Argument, Decoder, Layout, load_abi
from indexer.evm_model import (
    EMITTER_FACT,
    Arg,
    ChainRow,
    Contract,
    Deployment,
    EventMap,
    EventUse,
    FactMap,
    Facts,
    Learnt,
    LendingLiquidation,
    Log,
    Lookup,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
    Quarantined,
    Sibling,
    SiblingMap,
    UndecodedLog,
)
from indexer.resources import folder
from indexer.venues import evm
from tests.evm_logs import DECODER, GOLDEN, SPECS, Case, decoded, encoded, shape
from tests.rpc_proxy import plays

CHAIN, OURS, STRANGER = "testnet", "0x" + 39 * "0" + "1", "0x" + 39 * "0" + "2"
each_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)

CONTRACTS = [
    (spec, role, contract)
    for spec in SPECS
    for role, contract in (*spec.contracts.items(), ("", spec.bystander))
    if contract is not None
]
# Every event of every interface, with the protocol and the role it is emitted in.
EVENTS = [
    pytest.param(spec, role, event, id=f"{spec.name}-{role or 'anybody'}-{event.signature}")
    for spec, role, contract in CONTRACTS
    for event in load_abi(contract.abi)
]
ROLES = [event for event in EVENTS if event.values[1]]  # without those that anybody may emit
CASES = [
    pytest.param(path, id=f"{path.parent.name}-{path.stem}")
    for spec in SPECS
    for path in sorted((GOLDEN / spec.name).glob("*.json"))
]
few = settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
many = settings(few, max_examples=100)


class EveryFact(dict[tuple[str, str, str], str | None]):
    """Knows an answer to every question, and who OURS is."""

    def __missing__(self, key: tuple[str, str, str]) -> str:
        return "0x" + 40 * "f"


def arguments(event: AbiEvent) -> st.SearchStrategy[dict[str, Any]]:
    """Any values that the ABI allows, as eth_abi itself imagines them."""
    return st.fixed_dictionaries({a.name: get_abi_strategy(a.kind) for a in event.inputs})


def flat(argument: Argument, value: Any) -> list[Any]:
    """A value as we write it, a tuple as its members, of an indexed text the hash."""
    if argument.components and not argument.is_dynamic:
        values = value.values() if isinstance(value, dict) else value
        return [v for a, x in zip(argument.components, values, strict=True) for v in flat(a, x)]
    if argument.indexed and isinstance(value, str) and argument.type == "string":
        return ["0x" + keccak(text=value).hex()]
    return [nested(argument, value)]


def nested(argument: Argument, value: Any) -> Any:
    """A value as we write it, arrays and tuples as they are."""
    if argument.type.endswith("]"):
        of_one, _ = array(argument)
        return tuple(nested(of_one, one) for one in value)
    if argument.components:
        values = value.values() if isinstance(value, dict) else value
        return tuple(nested(a, x) for a, x in zip(argument.components, values, strict=True))
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value.lower() if argument.type == "address" else value


def expected(event: AbiEvent, args: dict[str, Any]) -> list[Any]:
    """Topics first, then data."""
    order = sorted(event.inputs, key=lambda argument: not argument.indexed)
    return [value for a in order for value in flat(a, args[a.name])]


def by_web3(event: AbiEvent, log: Log) -> dict[str, Any]:
    """What web3 makes of the same log."""
    contract = Web3().eth.contract(abi=[msgspec.to_builtins(event)])
    read = contract.events[event.name]().process_log(
        {
            "address": Web3.to_checksum_address(log.address),
            "topics": [bytes.fromhex(topic[2:]) for topic in log.topics],
            "data": bytes.fromhex(log.data[2:]),
            "blockNumber": log.block_number, "blockHash": log.block_hash,
            "transactionHash": log.tx_hash, "transactionIndex": 0, "logIndex": log.log_index,
        }  # type: ignore[typeddict-item]
    )  # fmt: skip
    return dict(read["args"])


def at(role: str, spec: ProtocolSpec) -> Facts:
    """OURS is a contract of this role, and every other question has an answer."""
    return EveryFact({(CHAIN, EMITTER_FACT, OURS): f"{spec.name}/{role}"} | nobody())


def nobody() -> dict[tuple[str, str, str], str | None]:
    """STRANGER is asked about and is nothing."""
    return {(CHAIN, EMITTER_FACT, STRANGER): None}


@pytest.mark.parametrize(("spec", "role", "event"), EVENTS)
def test_any_log_that_the_abi_allows_is_read_as_web3_reads_it(
    spec: ProtocolSpec, role: str, event: AbiEvent
) -> None:
    layout = Layout(event)

    @few
    @given(arguments(event))
    def check(args: dict[str, Any]) -> None:
        log = encoded(event, args, chain=CHAIN, address=OURS)
        assert layout.read(log) == expected(event, args) == expected(event, by_web3(event, log))

    check()


@pytest.mark.parametrize(("spec", "role", "event"), ROLES)
def test_any_log_that_the_abi_allows_becomes_something(
    spec: ProtocolSpec, role: str, event: AbiEvent
) -> None:
    @few
    @given(arguments(event))
    def check(args: dict[str, Any]) -> None:
        log = encoded(event, args | chosen(spec, role, event), chain=CHAIN, address=OURS)
        outcome = DECODER.decode(log, at(role, spec))
        assert isinstance(outcome, ChainRow | Sibling | Learnt)
        assert outcome.venue == f"{spec.name}.{CHAIN}"
        assert DECODER.transaction([log], at(role, spec), is_whole=True) is not None

    check()


def chosen(spec: ProtocolSpec, role: str, event: AbiEvent) -> dict[str, Any]:
    """Arguments that make it one of ours, where the event also means other things."""
    use = spec.contracts[role].events[event.name]
    when = use.when if isinstance(use, PerpMap | SiblingMap) else {}
    return {argument: values[0] for argument, values in when.items()}


def words(event: AbiEvent) -> list[str]:
    """The type of every word after the first topic; arrays and bytes are left out."""

    def of(argument: Argument) -> list[str]:
        return [w for a in argument.components for w in of(a)] or [argument.type]

    order = sorted(event.inputs, key=lambda argument: not argument.indexed)
    return [word for argument in order for word in of(argument)]


def broken(log: Log, event: AbiEvent) -> list[Log]:
    """Cut, lengthened, dirty, with other topics: each no log of this event any more."""
    data, topics = log.data, log.topics

    def made(topics: tuple[str, ...] = topics, data: str = data) -> Log:
        return msgspec.structs.replace(log, topics=topics, data=data)

    found = [
        made(data=data + 64 * "0"), made(data=data + "00"), made(data=data + "0"),
        made(data=data[2:]), made(data=data + "zz"), made(data=""), made(data=data + "\n"),
        made(topics=(*topics, topics[-1])), made(topics=(topics[0] + "00", *topics[1:])),
    ]  # fmt: skip
    if len(data) > 2:
        found += [made(data="0x"), made(data=data[:-2]), made(data=data[:-64])]
    if len(topics) > 1:
        found += [made(topics=topics[:-1]), made(topics=(*topics[:-1], topics[-1][:-2]))]
        found += [made(topics=(*topics[:-1], topics[-1][:-1] + "G"))]
    if any(argument.is_dynamic for argument in event.inputs):
        return found
    for number, kind in enumerate(words(event)):
        if kind not in ("uint256", "int256", "bytes32"):
            found.append(dirty(log, number, -1 if re.match(r"bytes\d", kind) else 0))
    return found


def dirty(log: Log, number: int, digit: int) -> Log:
    """One digit of the padding of one word is not zero."""
    at_topic = number + 1 < len(log.topics)
    start = 2 if at_topic else 2 + 64 * (number + 1 - len(log.topics))
    text = log.topics[number + 1] if at_topic else log.data
    place = start + digit % 64
    text = text[:place] + "7" + text[place + 1 :]
    if at_topic:
        topics = (*log.topics[: number + 1], text, *log.topics[number + 2 :])
        return msgspec.structs.replace(log, topics=topics)
    return msgspec.structs.replace(log, data=text)


def array(argument: Argument) -> tuple[Argument, int]:
    """What it is of, and how many: none of those of any number."""
    kind, _, length = argument.type[:-1].rpartition("[")
    return msgspec.structs.replace(argument, type=kind), int(length or 0)


def zero(argument: Argument) -> Any:
    """The smallest value of a type."""
    if argument.type.endswith("]"):
        of_one, length = array(argument)
        return (zero(of_one),) * length
    if argument.components:
        return tuple(zero(member) for member in argument.components)
    if argument.type == "address":
        return "0x" + 40 * "0"
    if argument.type == "bool":
        return False
    if argument.type == "string":
        return ""
    return b"" if argument.type.startswith("bytes") else 0


@pytest.mark.parametrize(("spec", "role", "event"), ROLES)
@plays("S17", "event data cut, lengthened or with dirty padding", "undecoded, with the reason")
def test_a_broken_log_is_kept_with_a_reason(spec: ProtocolSpec, role: str, event: AbiEvent) -> None:
    args = {a.name: zero(a) for a in event.inputs} | chosen(spec, role, event)
    log = encoded(event, args, chain=CHAIN, address=OURS)

    logs = [b for b in broken(log, event) if b.topics[0] == log.topics[0]]
    outcomes = [DECODER.decode(b, at(role, spec)) for b in logs]

    shapes = {(o.topic0, o.topics) for o in map(Layout, load_abi(spec.contracts[role].abi))}
    others = [b for b in logs if (b.topics[0], len(b.topics)) in shapes - {shape(log)}]
    assert [o for o in outcomes if not isinstance(o, UndecodedLog)] == []
    assert len(logs) >= 7
    assert [DECODER.decode(b, at(role, spec)) for b in others] == [
        o for b, o in zip(logs, outcomes, strict=True) if b in others
    ]


@pytest.mark.parametrize(("spec", "role", "event"), ROLES)
def test_the_same_log_of_a_stranger_is_never_a_row(
    spec: ProtocolSpec, role: str, event: AbiEvent
) -> None:
    args = {a.name: zero(a) for a in event.inputs}
    log = encoded(event, args, chain=CHAIN, address=STRANGER)

    outcomes = [DECODER.decode(b, at(role, spec)) for b in (log, *broken(log, event))]

    assert [o for o in outcomes if not isinstance(o, Quarantined | None)] == []


@few
@given(
    st.sampled_from([event.values for event in ROLES]),
    st.lists(st.text("0x123456789abcdefG_ \n", max_size=70), max_size=5),
    st.text("0x19af_ \n", max_size=400),
)
def test_nothing_that_a_node_may_send_raises(
    place: tuple[ProtocolSpec, str, AbiEvent], topics: list[str], data: str
) -> None:
    spec, role, event = place
    for names in (topics, [Layout(event).topic0, *topics]):
        log = Log(CHAIN, OURS, tuple(names), data, 1, "", "0x1", 0)
        assert isinstance(DECODER.decode(log, at(role, spec)), UndecodedLog | Quarantined | None)


def small(argument: Argument) -> st.SearchStrategy[Any]:
    """Few values, so that logs have something to do with each other; arrays are empty."""
    if argument.type.endswith("]"):
        of_one, length = array(argument)
        return st.tuples(*[small(of_one)] * length)
    if argument.type == "string":
        return st.just("")
    if argument.components:
        return st.tuples(*map(small, argument.components))
    if argument.type == "address":
        return st.sampled_from([OURS, STRANGER, "0x" + 40 * "0"])
    if argument.type == "bool":
        return st.booleans()
    return st.just(b"") if argument.type.startswith("bytes") else st.sampled_from([0, 1, 100])


@st.composite
def transactions(draw: st.DrawFn, spec: ProtocolSpec) -> tuple[list[Log], Facts]:
    """Logs of a protocol's events in any order, from an emitter of each role and anybody."""
    of_spec = [event.values for event in EVENTS if event.values[0] is spec]
    roles = {role: "0x" + f"{number:040x}" for number, role in enumerate(spec.contracts, 100)}
    facts = EveryFact(nobody())
    facts |= {(CHAIN, EMITTER_FACT, at): f"{spec.name}/{role}" for role, at in roles.items()}
    logs = []
    for log_index, (_, role, event) in enumerate(draw(st.lists(st.sampled_from(of_spec)))):
        args = draw(st.fixed_dictionaries({a.name: small(a) for a in event.inputs}))
        address = roles.get(role, STRANGER)
        args |= chosen(spec, role, event) if role else {}
        logs.append(encoded(event, args, chain=CHAIN, address=address, log_index=log_index))
    return logs, facts


@each_spec
def test_any_mixture_of_logs_is_joined_without_losing_or_doubling_one(spec: ProtocolSpec) -> None:
    @many
    @given(transactions(spec))
    def check(case: tuple[list[Log], Facts]) -> None:
        logs, facts = case
        alone = [DECODER.decode(log, facts) for log in logs]
        outcomes = DECODER.transaction(logs, facts, is_whole=True)

        rows = [o for o in outcomes if isinstance(o, ChainRow)]
        keys = [row.event_key for row in rows]
        calls = {o.event_key for o in alone if isinstance(o, ChainRow) and not nil(o)}
        assert len(keys) == len(set(keys))
        assert calls <= set(keys)
        assert {o.log for o in outcomes if not isinstance(o, ChainRow)} <= set(logs)
        assert {amount(o) for o in rows if o.method != "absorb"} >= {
            amount(o) for o in alone if isinstance(o, ChainRow) and o.method != "absorb"
        } - {0, None}

    check()


def nil(row: ChainRow) -> bool:
    """Nothing repaid and nothing taken, which Euler logs for healthy accounts."""
    return isinstance(row, LendingLiquidation) and not any(
        leg.raw for leg in (row.repaid, row.seized) if leg
    )


def amount(row: ChainRow) -> Decimal | int | None:
    """Of a loan what was repaid, of a perpetual its size."""
    match row:
        case LendingLiquidation(repaid=repaid):
            return repaid.raw if repaid else 0
        case PerpLiquidation(size=size):
            return size


@pytest.mark.parametrize(
    "name",
    [
        "euler_v2/nothing_alchemix",
        "maker/nothing_sale",
        "comet/nothing_buy_collateral",
        "liquity_v1/nothing_redemption",
        "liquity_v2/nothing_redemption",
        "crvusd/nothing_soft_liquidation",
        "gmx_v1/owner_closes_by_position_router",
        "gmx_v1/owner_closes_by_order_book",
        "gmx_v1/owner_closes_by_router",
        "gtrade/v10_other_orders",
        "gmx_v2/no_liquidation",
    ],
)
def test_what_only_looks_like_a_liquidation_is_no_row(name: str) -> None:
    """What an account liquidates of itself is one, and dYdX' settlements are in test_dydx.py."""
    found = decoded(msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes(), type=Case))
    assert {kind for one in found for kind in one} <= {"Dismissed", "Learnt"}


def test_a_liquidator_contract_of_a_users_file_is_not_who_liquidated() -> None:
    """It names nobody here, so nobody is known; without the file it is taken for a liquidator."""
    contract = {"protocol": "venus_core", "chain": CHAIN, "address": STRANGER, "source": "mine"}
    file = msgspec.json.encode([{**contract, "role": "liquidator"}])
    (event,) = load_abi("venus_core_vtoken.json")
    args = {
        "liquidator": STRANGER, "borrower": OURS, "repayAmount": 1, "vTokenCollateral": OURS,
        "seizeTokens": 2,
    }  # fmt: skip
    log = encoded(event, args, chain=CHAIN, address=OURS)
    facts = EveryFact({(CHAIN, EMITTER_FACT, OURS): "venus_core/market"})
    (before,) = DECODER.transaction([log], facts, is_whole=True)

    (row,) = Decoder(evm.with_deployments(SPECS, file)).transaction([log], facts, is_whole=True)

    assert isinstance(before, LendingLiquidation)
    assert (before.liquidator, row) == (STRANGER, before.with_(liquidator=None))


def test_addresses_are_checksummed_and_unique_on_their_chain() -> None:
    all_of_them = [deployment for spec in SPECS for deployment in spec.deployments]

    assert [d for d in all_of_them if not is_checksum_address(d.address)] == []
    assert [k for k, n in Counter((d.chain, d.address) for d in all_of_them).items() if n > 1] == []
    assert [d for d in all_of_them if not re.fullmatch("[a-z0-9_]+", d.name)] == []
    assert [d for d in all_of_them if d.source == ""] == []


def test_an_address_that_two_protocols_claim_stops_at_the_start() -> None:
    first = SPECS[0]
    twice = msgspec.structs.replace(first, name="other", deployments=first.deployments[:1])
    with pytest.raises(ValueError, match=r"two protocols|deployed twice"):
        Decoder([first, twice])


def test_every_file_is_a_protocol() -> None:
    files = {path.stem for path in Path(evm.__file__).parent.glob("*.py")} - {"__init__"}
    assert {spec.name for spec in SPECS} == files


def test_every_interface_is_used() -> None:
    used = {contract.abi for _, _, contract in CONTRACTS}
    used |= {spec.look_alike for spec in SPECS if spec.look_alike is not None}
    assert {path.name for path in folder("abis").glob("*.json")} == used


def test_no_topic_is_typed() -> None:
    sources = [Path(decode.__file__), *Path(evm.__file__).parent.glob("*.py")]
    typed = [path.name for path in sources if re.search("0x[0-9a-f]{64}", path.read_text("utf-8"))]
    assert typed == []


@pytest.mark.parametrize(("spec", "role", "event"), EVENTS)
def test_topics_are_those_of_an_independent_library(
    spec: ProtocolSpec, role: str, event: AbiEvent
) -> None:
    abi: Any = msgspec.to_builtins(event)
    assert Layout(event).topic0 == "0x" + event_abi_to_log_topic(abi).hex()


@each_spec
def test_every_word_in_backticks_is_an_argument(spec: ProtocolSpec) -> None:
    contracts = [c for c in (*spec.contracts.values(), spec.bystander) if c is not None]
    names = {name for c in contracts for e in load_abi(c.abi) for name in Layout(e).names}

    said = set(re.findall("`(.*?)`", spec.methodology))

    assert said - names == set()
    assert len(said) >= 2


def events_of(contract: Contract) -> set[tuple[str, int]]:
    return {(layout.topic0, layout.topics) for layout in map(Layout, load_abi(contract.abi))}


@each_spec
def test_there_is_a_golden_case_for_every_event(spec: ProtocolSpec) -> None:
    files = (GOLDEN / spec.name).glob("*.json")
    cases = [msgspec.json.decode(path.read_bytes(), type=Case) for path in files]
    published = {shape(log) for case in cases for log in case.logs}

    contracts = [c for c in (*spec.contracts.values(), spec.bystander) if c is not None]

    assert {event for c in contracts for event in events_of(c)} - published == set()
    row = {"lending": "LendingLiquidation", "perp": "PerpLiquidation"}[spec.kind]
    assert any(row in outcome for case in cases for outcome in case.outcomes)


def uses(spec: ProtocolSpec) -> list[EventUse]:
    return [use for contract in spec.contracts.values() for use in contract.events.values()]


def looked_up(arg: Arg | None) -> set[str]:
    """The facts that an argument of a row waits for."""
    if not isinstance(arg, Lookup):
        return set()
    return {arg.fact}.union(*map(looked_up, arg.of))


def awaited(use: EventMap | PerpMap) -> set[str]:
    if isinstance(use, PerpMap):
        return set().union(*map(looked_up, [use.account, use.liquidator, *use.market]))
    assets = [leg[0] for leg in (use.repaid, use.seized) if leg is not None]
    return set().union(
        *map(looked_up, [use.account, use.owner, use.liquidator, use.market, *assets])
    )


@each_spec
def test_every_fact_that_a_row_waits_for_can_be_asked_of_the_chain(spec: ProtocolSpec) -> None:
    rows = [use for use in uses(spec) if isinstance(use, EventMap | PerpMap)]
    facts: set[str] = set().union(*map(awaited, rows))
    # a FactMap may teach them too, but no fact of today comes from logs alone; what is asked and
    # in no row is for a join
    assert facts <= spec.asks.keys()
    assert spec.join is not None or spec.asks.keys() <= facts | {EMITTER_FACT}


@each_spec
def test_whoever_a_log_can_prove_can_be_proved_by_asking(spec: ProtocolSpec) -> None:
    proved = {
        role for use in uses(spec) if isinstance(use, FactMap) for role in use.proves.values()
    }
    assert EMITTER_FACT in spec.asks or not proved


@each_spec
def test_what_shares_are_worth_can_be_asked_where_collateral_is_shares(spec: ProtocolSpec) -> None:
    are_shares = [use for use in uses(spec) if isinstance(use, EventMap) and use.seized_is_shares]
    assert (spec.share_rate is not None) == bool(are_shares)


@pytest.mark.parametrize("path", CASES)
def test_golden(path: Path) -> None:
    case = msgspec.json.decode(path.read_bytes(), type=Case)

    assert msgspec.json.encode(decoded(case)) == msgspec.json.encode(case.outcomes)


def test_deployments_have_a_role_that_their_protocol_knows() -> None:
    unknown: list[Deployment] = [
        deployment
        for spec in SPECS
        for deployment in spec.deployments
        if deployment.role not in spec.contracts
    ]
    assert unknown == []
