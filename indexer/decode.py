"""ABI and mapping -> compiled decoder, keyed by (emitter, first topic, number of topics).

The layout of an event is a regular expression over its topics and data: one match checks the
first topic, the number of topics, the length, the padding of every address and integer and that a
boolean is 0 or 1, and cuts out the arguments. Only data with a dynamic type goes through eth_abi.
"""

import hashlib
import re
from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, cast

import msgspec
from eth_hash.auto import keccak

from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    EVENT,
    RECEIPT_FACT,
    Arg,
    ChainRow,
    Contract,
    Decoded,
    EventMap,
    EventPrice,
    EventUse,
    Fact,
    FactKey,
    FactMap,
    Facts,
    Learnt,
    Leg,
    LendingLiquidation,
    Log,
    LogFilter,
    MissingFact,
    PerpLiquidation,
    PerpMap,
    PriceMap,
    ProtocolSpec,
    Quarantined,
    Sibling,
    SiblingMap,
    UndecodedLog,
    Value,
)
from indexer.oracles import scaled
from indexer.resources import folder


class Argument(msgspec.Struct, frozen=True):
    """An argument as the ABI has it; `components` are the members of a tuple."""

    name: str
    type: str
    indexed: bool = False
    components: "tuple[Argument, ...]" = ()

    @property
    def kind(self) -> str:
        """The type as signatures write it: a tuple is its members in brackets."""
        if not self.type.startswith("tuple"):
            return self.type
        inside = ",".join(member.kind for member in self.components)
        return f"({inside}){self.type.removeprefix('tuple')}"

    @property
    def is_dynamic(self) -> bool:
        """Whether it is of no fixed size, or an array, which we leave to eth_abi too."""
        return (
            self.type in ("bytes", "string")
            or self.type.endswith("]")
            or any(member.is_dynamic for member in self.components)
        )


class AbiEvent(msgspec.Struct, frozen=True, tag_field="type", tag="event"):
    """An event as the ABI has it."""

    name: str
    inputs: tuple[Argument, ...]
    anonymous: bool = False

    @property
    def signature(self) -> str:
        """What its first topic is the hash of."""
        return f"{self.name}({','.join(argument.kind for argument in self.inputs)})"


@cache
def load_abi(file: str) -> tuple[AbiEvent, ...]:
    """The events of an interface in `abis/`."""
    return msgspec.json.decode((folder("abis") / file).read_bytes(), type=tuple[AbiEvent, ...])


NotDecoded = str  # why
_JOINABLE = (LendingLiquidation, PerpLiquidation, Sibling)
_Seen = ChainRow | Sibling
_log_index = attrgetter("log_index")


class Layout:
    """How one event lies in a log, and how to read it. Raises ValueError on an anonymous one."""

    def __init__(self, event: AbiEvent) -> None:
        if event.anonymous:
            raise ValueError(f"{event.name} is anonymous: nothing in a log says that it is this")
        indexed = [argument for argument in event.inputs if argument.indexed]
        plain = [argument for argument in event.inputs if not argument.indexed]
        # of an indexed argument that is no single word the topic is only a hash
        topics = [_Leaf(a.name, a.type if _is_word(a.type) else "bytes32") for a in indexed]
        self._is_dynamic = any(argument.is_dynamic for argument in plain)
        data = [] if self._is_dynamic else [leaf for a in plain for leaf in _leaves(a)]
        self.name = event.name
        self.indexed = [argument.type for argument in indexed]
        self.topic0 = "0x" + keccak(event.signature.encode()).hex()
        self.topics = 1 + len(indexed)
        names = [leaf.name for leaf in (*topics, *data)]
        self.names = (*names, *(a.name for a in plain)) if self._is_dynamic else tuple(names)
        self._kinds = [argument.kind for argument in plain]
        self._size = len(data) * 64
        # no part can lend digits to the next: a stray bar is one bar too many
        pattern = r"\|".join((self.topic0, *("0x" + leaf.pattern for leaf in topics), "0x"))
        tail = "((?:[0-9a-f]{2})*)" if self._is_dynamic else "".join(leaf.pattern for leaf in data)
        self._match = re.compile(pattern + tail).fullmatch
        self._values = _compiled([leaf.python for leaf in (*topics, *data)], self._is_dynamic)

    def read(self, log: Log) -> list[Value] | NotDecoded:
        """The values in the order of `names`; never raises."""
        found = self._match("|".join((*log.topics, log.data)))
        if found is None:
            return self._why(log)
        values = self._values(*found.groups())
        return self._read_dynamic(values, values.pop()) if self._is_dynamic else values

    def _read_dynamic(self, values: list[Any], data: Any) -> list[Value] | NotDecoded:
        from eth_abi import abi
        from eth_abi.exceptions import DecodingError

        raw = bytes.fromhex(data)
        try:
            decoded = abi.decode(self._kinds, raw)
            is_canonical = abi.encode(self._kinds, decoded) == raw
        except (DecodingError, OverflowError) as error:
            return f"data is not as the ABI encodes it: {error}"
        except UnicodeDecodeError as error:
            return f"text that is no UTF-8: {error.reason}"
        if not is_canonical:
            return "data is not as the ABI encodes it"
        return values + [_plain(value) for value in decoded]

    def _why(self, log: Log) -> NotDecoded:
        if re.fullmatch("0x(?:[0-9a-f]{2})*", log.data) is None:
            return "data is no hex text"
        if not self._is_dynamic and len(log.data) != self._size + 2:
            return f"{len(log.data) // 2 - 1} bytes of data, {self._size // 2} expected"
        return "padding or a boolean is not as the ABI encodes it"

    def index(self, name: str) -> int:
        """The place of an argument; raises ValueError where the ABI has no such name."""
        if name not in self.names:
            raise ValueError(f"{self.name} has no argument {name}, only {', '.join(self.names)}")
        return self.names.index(name)


def _compiled(words: list[str], has_tail: bool) -> Callable[..., list[Any]]:
    """One function that makes all values; half the time of a function for each of them."""
    names = [f"w{number}" for number in range(len(words) + has_tail)]
    words = [*words, "{}"] if has_tail else words
    values = ", ".join(word.format(name) for word, name in zip(words, names, strict=True))
    source = f"lambda {', '.join(names)}: [{values}]"
    made: Callable[..., list[Any]] = eval(source, {"signed": _signed})  # noqa: S307 - our own text
    return made


class _Leaf:
    """One word: what it must match, with a group, and the Python that makes it a value."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.pattern, self.python = _word(kind)


def _is_word(kind: str) -> bool:
    return re.fullmatch(r"address|bool|u?int\d+|bytes\d+", kind) is not None


def _word(kind: str) -> tuple[str, str]:
    if kind == "address":
        return "0{24}([0-9a-f]{40})", "'0x' + {}"
    if kind == "bool":
        return "0{63}([01])", "{} == '1'"
    digits = int(re.sub("[a-z]", "", kind)) * (2 if kind.startswith("bytes") else 1)
    if kind.startswith("bytes"):
        return f"([0-9a-f]{{{digits}}})0{{{64 - digits}}}", "'0x' + {}"
    digits //= 4
    rest = 64 - digits
    if kind.startswith("uint"):
        return f"0{{{rest}}}([0-9a-f]{{{digits}}})", "int({}, 16)"
    sign = f"(?:0{{{rest}}}[0-7]|f{{{rest}}}[89a-f])"
    return f"({sign}[0-9a-f]{{{digits - 1}}})", "signed({})"


def _signed(word: str) -> int:
    return int.from_bytes(bytes.fromhex(word), "big", signed=True)


def _leaves(argument: Argument, prefix: str = "") -> Iterator[_Leaf]:
    name = prefix + argument.name
    if argument.components:
        for member in argument.components:
            yield from _leaves(member, f"{name}.")
    else:
        yield _Leaf(name, argument.type)


def _plain(value: Any) -> Value:
    """What eth_abi gives, as we write it."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple | list):
        return tuple(_plain(member) for member in value)
    return value  # type: ignore[no-any-return]


class _Place(msgspec.Struct, frozen=True):
    """An address that is ours: what its venue is called and which events it may emit."""

    venue: str
    events: "_Events"


Reader = Callable[[Log, str, Facts], Decoded]
Shape = tuple[str, int]  # the first topic and the number of topics
Wanted = Callable[[Log], bool]
# The second topics that are wanted, by first topic; None: any.
Seconds = Mapping[str, frozenset[str] | None]


class _Events:
    """The events of one contract interface, compiled. `wanted` is of those shapes that also mean
    other things: whether a log is one of ours. `seconds` are by first topic the second topics that
    ours have, None where it may be any."""

    def __init__(self, contract: Contract, spec: ProtocolSpec) -> None:
        self.readers: dict[Shape, Reader] = {}
        self.topics: dict[str, set[int]] = defaultdict(set)
        self.wanted: dict[Shape, Wanted] = {}
        self.seconds: Seconds = {}
        self.liquidations: set[Shape] = set()
        for layout, use in layouts(contract):
            shape = layout.topic0, layout.topics
            self.readers[shape] = _reader(layout, use, spec)
            self.topics[layout.topic0].add(layout.topics)
            if isinstance(use, EventMap | PerpMap):
                self.liquidations.add(shape)
            if isinstance(use, PerpMap | SiblingMap) and (use.when or use.only):
                self.wanted[shape] = wanted_by(layout, use.when, use.only)
            when = use.when if isinstance(use, PerpMap | SiblingMap) else {}
            self.seconds = _united(self.seconds, {layout.topic0: _second_topics(layout, when)})

    def wants(self, log: Log) -> bool:
        """Whether a log with a first topic of ours is none of the others that have it."""
        wanted = self.wanted.get((log.topics[0], len(log.topics)))
        return wanted is None or wanted(log)


def _second_topics(layout: Layout, when: Mapping[str, tuple[Value, ...]]) -> frozenset[str] | None:
    """Those of which `when` has one right after the first topic; None: any."""
    values = when.get(layout.names[0], ()) if layout.indexed else ()
    return frozenset(_topic(layout.indexed[0], value) for value in values) or None


def _united(one: Seconds, other: Seconds) -> Seconds:
    """Where one side takes any, any is taken."""
    return {
        first: None
        if any(first in side and side[first] is None for side in (one, other))
        else (one.get(first) or frozenset()) | (other.get(first) or frozenset())
        for first in one.keys() | other.keys()
    }


def wanted_by(
    layout: Layout,
    when: Mapping[str, tuple[Value, ...]],
    only: Callable[[dict[str, Value]], bool] | None = None,
) -> Wanted:
    """Whether a log is one that `when` and `only` choose. Compares topics first: to read the data
    of what is not ours would be most of the work. What cannot be read is ours, and will say why."""
    places = [(layout.index(name), values) for name, values in when.items()]
    of_topics = len(layout.indexed)
    in_topics = [
        (place + 1, {_topic(layout.indexed[place], value) for value in values})
        for place, values in places
        if place < of_topics
    ]
    in_data = [(place, values) for place, values in places if place >= of_topics]

    def wanted(log: Log) -> bool:
        if any(log.topics[place] not in topics for place, topics in in_topics):
            return False
        read = layout.read(log) if in_data or only is not None else ""
        if isinstance(read, str):
            return True
        if any(read[place] not in values for place, values in in_data):
            return False
        return only is None or only(dict(zip(layout.names, read, strict=True)))

    return wanted


def _topic(kind: str, value: Value) -> str:
    """An indexed argument as it stands: of a text only the hash."""
    if kind == "string":
        return "0x" + keccak(str(value).encode()).hex()
    number = int(value, 16) if isinstance(value, str) else int(cast(int, value))
    return f"0x{number % 2**256:064x}"


def layouts(contract: Contract) -> list[tuple[Layout, EventUse]]:
    """Each event of an interface and its use; raises ValueError when ABI and mapping disagree."""
    found = [(Layout(event), contract.events.get(event.name)) for event in load_abi(contract.abi)]
    unused = {layout.name for layout, use in found if use is None}
    unknown = contract.events.keys() - {layout.name for layout, _ in found}
    if unused or unknown:
        raise ValueError(f"{contract.abi}: unmapped {unused or '{}'}, unknown {unknown or '{}'}")
    return [(layout, use) for layout, use in found if use is not None]


def _reader(layout: Layout, use: EventUse, spec: ProtocolSpec) -> Reader:
    match use:
        case EventMap():
            return _row_reader(layout, use, spec)
        case PerpMap():
            return _perp_reader(layout, use, spec)
        case FactMap():
            return _fact_reader(layout, use, spec)
        case SiblingMap() | PriceMap():
            return _sibling_reader(layout, spec)


class _Values:
    """Where each argument is once a log was read: all of the event's, then None, then the emitter,
    then the event's own key, then the facts that were looked up, each of which may be about those
    before it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lookups: list[tuple[str, list[int], int | None]] = []

    def place(self, arg: Arg | None) -> int:
        """The place of an argument; raises ValueError where the ABI has no such name."""
        count = len(self._layout.names)
        if arg is None:
            return count
        if arg == EMITTER:
            return count + 1
        if arg == EVENT:
            return count + 2
        if isinstance(arg, str):
            return self._layout.index(arg)
        parts = [self.place(part) for part in arg.of]
        self._lookups.append((arg.fact, parts, arg.head))
        return count + 2 + len(self._lookups)

    def read(self, log: Log, facts: Facts) -> list[Any] | NotDecoded | MissingFact:
        """All values of a log, or why not."""
        read = self._layout.read(log)
        if isinstance(read, str):
            return read
        values: list[Any] = read
        values += None, log.address, log.event_key
        for fact, parts, head in self._lookups:
            subjects = [values[part] for part in parts]
            if None in subjects:  # a fact about what does not exist does not exist
                values.append(None)
                continue
            subject = str(subjects[0]) if len(parts) == 1 else "/".join(map(str, subjects))
            key = log.chain, fact, subject[:head]
            try:
                values.append(facts[key])
            except KeyError:
                return MissingFact(*key)
        return values


def _row_reader(layout: Layout, use: EventMap, spec: ProtocolSpec) -> Reader:
    values_of = _Values(layout)
    market, account, owner, liquidator, debt, repaid, collateral, seized, bad_debt = map(
        values_of.place,
        (
            use.market, use.account, use.owner, use.liquidator,
            *(use.repaid or (None, None)), *(use.seized or (None, None)), use.bad_debt,
        ),
    )  # fmt: skip
    version, kind, method, shares = (
        spec.decoder_version, spec.kind, use.method, use.seized_is_shares
    )  # fmt: skip
    then, names = use.then, layout.names

    def leg(asset: str | None, raw: int | None) -> Leg | None:
        return None if raw is None else Leg(asset, raw)

    def read(log: Log, venue: str, facts: Facts) -> LendingLiquidation | UndecodedLog:
        values = values_of.read(log, facts)
        if type(values) is not list:
            return _undecoded(log, venue, values, version)
        asset = values[debt]
        row = LendingLiquidation(
            venue, f"{log.tx_hash}/{log.log_index}", log.block_number, log.block_hash,
            log.tx_hash, log.log_index, log.address, values[market], kind, method,
            values[account], values[owner], values[liquidator], leg(asset, values[repaid]),
            leg(values[collateral], values[seized]), shares, version, None, None,
            leg(asset, values[bad_debt]),
        )  # fmt: skip
        return row if then is None else then(row, dict(zip(names, values, strict=False)))

    return read


def _perp_reader(layout: Layout, use: PerpMap, spec: ProtocolSpec) -> Reader:
    values_of = _Values(layout)
    market = list(map(values_of.place, use.market))
    account, liquidator = values_of.place(use.account), values_of.place(use.liquidator)
    then, names = use.then, layout.names

    def read(log: Log, venue: str, facts: Facts) -> PerpLiquidation | UndecodedLog:
        values = values_of.read(log, facts)
        if type(values) is not list:
            return _undecoded(log, venue, values, spec.decoder_version)
        row = PerpLiquidation(
            venue, f"{log.tx_hash}/{log.log_index}", log.block_number, log.block_hash,
            log.tx_hash, log.log_index, log.address,
            ":".join([str(values[part]) for part in market if values[part] is not None]),
            spec.kind, use.method, values[account], values[liquidator], use.quote,
            use.margin_mode, spec.decoder_version, counterparty_kind=use.counterparty_kind,
        )  # fmt: skip
        return row if then is None else then(row, dict(zip(names, values, strict=False)))

    return read


def _undecoded(
    log: Log, venue: str, why: NotDecoded | MissingFact | list[Any], version: int
) -> UndecodedLog:
    missing = why if isinstance(why, MissingFact) else None
    return UndecodedLog(venue, log, str(why), version, missing)


def _fact_reader(layout: Layout, use: FactMap, spec: ProtocolSpec) -> Reader:
    values_of = _Values(layout)
    learns = [
        (learn.fact, list(map(values_of.place, learn.of)), list(map(values_of.place, learn.value)))
        for learn in use.learns
    ]
    proves = [(values_of.place(child), role) for child, role in use.proves.items()]
    unknown_roles = set(use.proves.values()) - spec.contracts.keys()
    if unknown_roles:
        raise ValueError(f"{spec.name}: {layout.name} proves unknown roles {unknown_roles}")

    def read(log: Log, venue: str, facts: Facts) -> Learnt | UndecodedLog:
        values = values_of.read(log, facts)
        if not isinstance(values, list):
            return _undecoded(log, venue, values, spec.decoder_version)
        protocol = venue.partition(".")[0]
        found = [
            (fact, "/".join(str(values[i]) for i in of), "/".join(str(values[i]) for i in value))
            for fact, of, value in learns
        ]
        found += [(EMITTER_FACT, values[child], f"{protocol}/{role}") for child, role in proves]
        if use.also is not None:
            found += use.also(dict(zip(layout.names, values, strict=False)))
        return Learnt(venue, log, tuple(Fact(log.chain, *fact) for fact in found))

    return read


def _sibling_reader(layout: Layout, spec: ProtocolSpec) -> Reader:
    def read(log: Log, venue: str, facts: Facts) -> Sibling | UndecodedLog:
        values = layout.read(log)
        if isinstance(values, str):
            return _undecoded(log, venue, values, spec.decoder_version)
        return Sibling(log, venue, layout.name, dict(zip(layout.names, values, strict=True)))

    return read


_PriceReader = Callable[[Log, Facts], EventPrice | None]


def _price_reader(layout: Layout, use: PriceMap) -> _PriceReader:
    values_of = _Values(layout)
    asset, price = values_of.place(use.asset), layout.index(use.price)

    def read(log: Log, facts: Facts) -> EventPrice | None:
        values = values_of.read(log, facts)
        if not isinstance(values, list) or values[asset] is None:
            return None
        return EventPrice(log, values[asset], scaled(values[price], use.places))

    return read


class Decoder:
    """All protocols, compiled; raises ValueError when two of them claim the same address."""

    def __init__(self, specs: Sequence[ProtocolSpec]) -> None:
        self._specs: dict[str, ProtocolSpec] = {}  # by the protocol's name as users see it
        self._places: dict[tuple[str, str], _Place] = {}
        self._deployed: dict[FactKey, str | None] = {}  # what each of them is
        self._roles: dict[str, _Events] = {}  # by "protocol/role"
        self._bystanders: dict[str, dict[Shape, tuple[Layout, Wanted | None]]] = {}
        self._beside: dict[str, _Events] = {}
        self._prices: dict[str, dict[tuple[str, int], _PriceReader]] = {}
        self._liquidations: set[str] = set()
        self._looks_like: dict[Shape, dict[str, Wanted | None]] = {}
        self._others: set[Shape] = set()
        self.known_facts: dict[FactKey, str | None] = {}
        for spec in specs:
            self._add(spec)

    def _add(self, spec: ProtocolSpec) -> None:
        compiled = {role: _Events(contract, spec) for role, contract in spec.contracts.items()}
        for name in {spec.name, *(deployment.name for deployment in spec.deployments)}:
            if self._specs.setdefault(name, spec) is not spec:
                raise ValueError(f"{name} is a deployment of two protocols")
            self._roles |= {f"{name}/{role}": events for role, events in compiled.items()}
        for at in spec.deployments:
            place = _Place(f"{at.name}.{at.chain}", compiled[at.role])
            key = at.chain, at.address.lower()
            if self._places.setdefault(key, place) is not place:
                raise ValueError(f"{at.address} on {at.chain} is deployed twice")
            self._deployed[at.chain, EMITTER_FACT, key[1]] = f"{at.name}/{at.role}"
        for events in compiled.values():
            for shape in events.liquidations:
                self._liquidations.add(shape[0])
                self._looks_like.setdefault(shape, {})[spec.name] = events.wanted.get(shape)
        if spec.look_alike is not None:
            self._others |= {
                (one.topic0, one.topics) for one in map(Layout, load_abi(spec.look_alike))
            }
        if spec.bystander is not None:
            self._beside[spec.name] = _Events(spec.bystander, spec)
            wanted = self._beside[spec.name].wanted
            self._bystanders[spec.name] = {
                (shape := (layout.topic0, layout.topics)): (layout, wanted.get(shape))
                for layout, _ in layouts(spec.bystander)
            }
        self._prices[spec.name] = {
            (layout.topic0, layout.topics): _price_reader(layout, price)
            for contract in (*spec.contracts.values(), spec.bystander)
            if contract is not None
            for layout, use in layouts(contract)
            if (price := use.price if isinstance(use, EventMap) else use)
            and isinstance(price, PriceMap)
        }
        self.known_facts |= {fact.key: fact.value for fact in spec.facts}

    def venues(self) -> list[str]:
        """Every venue, `protocol.chain`."""
        return sorted({place.venue for place in self._places.values()})

    def addresses(self, venue: str) -> list[str]:
        """What to ask a node for, besides the emitters that a venue's factories have proved."""
        return sorted(key[1] for key, place in self._places.items() if place.venue == venue)

    def topics(self, venue: str) -> list[str]:
        """The first topics to ask a node for."""
        return sorted({topic for events in self._asked(venue) for topic in events.topics})

    def _asked(self, venue: str) -> list[_Events]:
        protocol = venue.partition(".")[0]
        spec = self._specs[protocol]
        own = [self._roles[f"{protocol}/{role}"] for role in spec.contracts]
        return own + ([self._beside[spec.name]] if spec.asks_for_bystander else [])

    def filter(self, venues: Iterable[str]) -> LogFilter:
        """What to ask a node for some venues, of any emitter: what is not ours but looks like it
        goes to quarantine."""
        seconds: Seconds = {}
        for venue in venues:
            for events in self._asked(venue):
                seconds = _united(seconds, events.seconds)
        pairs = {(first, second) for first, chosen in seconds.items() for second in chosen or ()}
        return LogFilter(None, frozenset(seconds), frozenset(pairs))

    def decode(self, log: Log, facts: Facts) -> Decoded | None:
        """What one log is by itself; None is not ours. Never raises on a log."""
        place = self._places.get((log.chain, log.address))
        if place is None:
            place = self._proved(log, facts)
        topic = log.topics[0] if log.topics else ""
        if place is not None:
            read = place.events.readers.get((topic, len(log.topics)))
            if read is not None:
                return read(log, place.venue, facts) if place.events.wants(log) else None
            if topic in place.events.topics:
                return self._wrong_topics(log, place)
        if topic in self._liquidations:
            return self._stranger(log)
        return None

    def _stranger(self, log: Log) -> Quarantined | None:
        """A log as liquidations have it, by somebody whom we do not know."""
        if (log.topics[0], len(log.topics)) in self._others:
            return None
        alike = self._looks_like.get((log.topics[0], len(log.topics)), {})
        like = tuple(name for name, wanted in alike.items() if wanted is None or wanted(log))
        return Quarantined(log, like) if like or not alike else None

    def venue_of(self, log: Log, facts: Facts) -> str | None:
        """Whose event it is; None for other people's, and for events that we do not read."""
        place = self._places.get((log.chain, log.address)) or self._proved(log, facts)
        if place is None or not log.topics or log.topics[0] not in place.events.topics:
            return None
        return place.venue if place.events.wants(log) else None

    def since(self, venue: str) -> int:
        """The first block worth reading: 0 where one of its deployments does not say."""
        protocol, _, chain = venue.partition(".")
        firsts = [
            one.since_block or 0
            for one in self.spec_of(venue).deployments
            if (one.name, one.chain) == (protocol, chain)
        ]
        return min(firsts, default=0)

    def filter_hash(self, venue: str) -> str:
        """What tells one set of events that are kept from another."""
        spec = self.spec_of(venue)
        chosen = sorted(
            word
            for contract in (
                *spec.contracts.values(),
                *((spec.bystander,) if spec.bystander and spec.asks_for_bystander else ()),
            )
            for event, use in contract.events.items()
            if isinstance(use, PerpMap | SiblingMap)
            for word in (
                *(f"{event}.{argument}={values}" for argument, values in use.when.items()),
                *((f"{event} {use.only.__name__}",) if use.only else ()),
            )
        )
        return hashlib.sha256(" ".join([*self.topics(venue), *chosen]).encode()).hexdigest()[:16]

    def _proved(self, log: Log, facts: Facts) -> _Place | None:
        role = facts.get((log.chain, EMITTER_FACT, log.address))
        if role is None or role not in self._roles:
            return None
        return _Place(f"{role.partition('/')[0]}.{log.chain}", self._roles[role])

    def _wrong_topics(self, log: Log, place: _Place) -> UndecodedLog:
        expected = " or ".join(str(n) for n in sorted(place.events.topics[log.topics[0]]))
        reason = f"{len(log.topics)} topics, {expected} expected"
        version = self.spec_of(place.venue).decoder_version
        return UndecodedLog(place.venue, log, reason, version)

    def spec_of(self, venue: str) -> ProtocolSpec:
        """The protocol of a venue; its `bystander` says whether whole receipts are wanted."""
        return self._specs[venue.partition(".")[0]]

    def transaction(self, logs: Iterable[Log], facts: Facts, *, is_whole: bool) -> list[Decoded]:
        """What all logs of one transaction are together, siblings joined into their rows.

        `is_whole` says that the logs are the whole receipt; a row that would be wrong without it
        stays undecoded. A log teaches the logs after it, and its facts are also given back.
        """
        outcomes: list[Decoded] = []
        joinable: dict[str, list[_Seen]] = {}
        others: list[Log] = []
        learnt: dict[FactKey, str | None] = {}
        known = facts
        for log in sorted(logs, key=_log_index):
            outcome = self.decode(log, known)
            if outcome is None:
                others.append(log)
            elif not isinstance(outcome, _JOINABLE):
                outcomes.append(outcome)
                if isinstance(outcome, Learnt):
                    learnt |= {fact.key: fact.value for fact in outcome.facts}
                    known = ChainMap(learnt, cast(dict[FactKey, str | None], facts))
            else:
                spec = self.spec_of(outcome.venue or "")
                if spec.needs_receipt and not is_whole:
                    missing = MissingFact(log.chain, RECEIPT_FACT, log.tx_hash)
                    outcomes.append(
                        _undecoded(log, outcome.venue or "", missing, spec.decoder_version)
                    )
                elif spec.join is None:
                    outcomes.append(outcome)
                else:
                    joinable.setdefault(spec.name, []).append(outcome)
        for name, events in joinable.items():
            outcomes += self._joined(name, events, others, known)
        return outcomes

    def carries_prices(self, venue: str) -> bool:
        """Whether events of a venue say what assets are worth."""
        return bool(self._prices[self.spec_of(venue).name])

    def prices(self, venue: str, logs: Iterable[Log], facts: Facts) -> list[EventPrice]:
        """What events of a venue's kind say that assets are worth, whoever emitted them."""
        readers = self._prices[self.spec_of(venue).name]
        found = (
            read(log, facts)
            for log in logs
            if (read := readers.get((log.topics[0] if log.topics else "", len(log.topics))))
        )
        return [price for price in found if price is not None]

    def _joined(
        self, name: str, events: list[_Seen], others: list[Log], facts: Facts
    ) -> Iterable[Decoded]:
        join: Any = self._specs[name].join  # of rows of the kind that its own events make
        seen = [*events, *self._seen_by(name, others)]
        known: Facts = ChainMap(self._deployed, cast(dict[FactKey, str | None], facts))
        joined: Iterable[Decoded] = join(sorted(seen, key=lambda event: event.log_index), known)
        return joined

    def _seen_by(self, name: str, logs: list[Log]) -> list[Sibling]:
        """Those of other people's logs that the join of a protocol wants to see."""
        wanted = self._bystanders.get(name)
        if wanted is None:
            return []
        seen: list[Sibling] = []
        for log in logs:
            shape = log.topics[0] if log.topics else "", len(log.topics)
            layout, is_chosen = wanted.get(shape, (None, None))
            if layout is None or (is_chosen is not None and not is_chosen(log)):
                continue
            values = layout.read(log)
            if isinstance(values, list):
                args = dict(zip(layout.names, values, strict=True))
                seen.append(Sibling(log, None, layout.name, args))
        return seen
