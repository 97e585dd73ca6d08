"""A definition is data: which records a total counts, as what, and what each is worth.

Everything that changes a number is a field here, and every field has a value: what a file leaves
out is as in `strict/v1`. The rules are those of section 5.4 of the methodology that this ledger
follows; what no venue records, such as an oracle price of a perpetual, is no choice.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec

from indexer.errors import ConfigError
from indexer.evm_model import LendingMethod
from indexer.families import Relation
from indexer.model import EXACT
from indexer.model import Method as PerpMethod

PRESETS = Path(__file__).parent / "presets"

Level = Literal[
    "record",  # one leg of a trade as published, or one log
    "fill",  # one forced trade, or one liquidation logged by a lending protocol
    "order",  # one order or takeover of an account in one market
    "action",  # all that one trigger did to an account: account and transaction hash
    "position",  # an account's actions in one market and side, until flat or for a gap without one
    "episode",  # an account's actions at one venue and dex without a longer pause than the gap
    "account",
]
LEVELS: tuple[Level, ...] = get_args(Level)
Instrument = Literal["perp", "lending"]
LedgerMethod = Literal["ledger_update"]  # the exchange's own ledger of account liquidations
Method = PerpMethod | LendingMethod | LedgerMethod
PERP_METHODS: tuple[str, ...] = (*get_args(PerpMethod), *get_args(LedgerMethod))
LENDING_METHODS: tuple[str, ...] = get_args(LendingMethod)
USUAL_METHODS: tuple[Method, ...] = (
    "market", "backstop", "adl_of_user", "adl_of_vault", "repay_seize", "pre_liquidation",
    "debt_transfer", "absorb", "heal",
)  # fmt: skip
Party = Literal["user", "protocol_vault"]
Leg = Literal["liquidated", "counterparty", "both"]
PerpValue = Literal["fill", "mark", "bankruptcy", "margin_lost", "realised"]
LendingValue = Literal["repaid", "seized", "seized_net", "bonus", "loss", "bad_debt"]
MarginMode = Literal["cross", "isolated", "unknown"]
VenueName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_]+(\.[a-z0-9-]+)?$")]
ChainName = Annotated[str, msgspec.Meta(pattern="^[0-9a-z][0-9a-z-]*$")]
Family = Annotated[str, msgspec.Meta(pattern="^[A-Z]+$")]

GROUPS = (
    "coverage", "window", "scope", "methods", "party", "leg", "repeat", "valuation", "price",
)  # fmt: skip
"""What two definitions can differ in, in the order in which a reconciliation walks."""

COOLDOWN_S = 30  # hyperliquid.gitbook.io/hyperliquid-docs/trading/liquidations, partial ones


class Calendar(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True,
    tag_field="rule", tag="calendar",
):  # fmt: skip
    """Days of a calendar, half-open, by block time."""

    zone: str = "UTC"


class Rolling(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True,
    tag_field="rule", tag="rolling",
):  # fmt: skip
    """The last hours before a moment."""

    hours: Annotated[int, msgspec.Meta(ge=1, le=24 * 366)] = 24


class Blocks(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True,
    tag_field="rule", tag="blocks",
):  # fmt: skip
    """Heights of the one chain in scope."""


class Segment(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True,
    tag_field="rule", tag="segment",
):  # fmt: skip
    """From one turning point of a price to the next: where it came back by `threshold`, a share.

    `series` is `file:NAME/CHAIN/ASSET`, an imported price file, or `mark:VENUE/MARKET`, the mark
    prices that forced trades of a market carry."""

    series: Annotated[str, msgspec.Meta(pattern="^(file|mark):[^/]+/.+$")]
    threshold: Decimal


WindowRule = Calendar | Rolling | Blocks | Segment


class Assets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which assets: none named is all. `relations` says what counts as one of a family."""

    families: tuple[Family, ...] = ()
    relations: tuple[Relation, ...] = ("self", "wrapped", "bridged")


class Repeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of an account's repeated liquidations counts. An episode ends after `gap_seconds`
    without one. `first` and `largest` keep one action of each episode: such totals do not add
    up over windows."""

    keep: Literal["all", "first", "largest"] = "all"
    gap_seconds: Annotated[int, msgspec.Meta(gt=COOLDOWN_S, le=30 * 86_400)] = 900


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a lossy feed would have shown: of each market and so many seconds one order."""

    seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    keep: Literal["last", "largest"]


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accounts with, or without, a label that held at the time of the liquidation, as we knew it
    at `as_of`, or as we know it now."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    as_of: str | None = None


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a total means. `says` is a sentence for readers, `mirrors` whose number it repeats.

    exact: can be recomputed from the chain's records. approximate: the same idea, other data.
    simulated: what a feed that loses records would have shown."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_]*/v[1-9][0-9]*$", max_length=80)]
    says: str
    mirrors: str = ""
    fidelity: Literal["exact", "approximate", "simulated"]

    finality: Literal["finalized", "latest"] = "finalized"

    window: WindowRule = Calendar()

    instruments: tuple[Instrument, ...] = ("perp", "lending")
    venues: tuple[VenueName, ...] = ()
    chains: tuple[ChainName, ...] = ()
    markets: tuple[str, ...] = ()
    assets: Assets = Assets()
    margin_modes: tuple[MarginMode, ...] = ("cross", "isolated", "unknown")
    trust: Literal["governed", "any"] = "governed"

    methods: tuple[Method, ...] = USUAL_METHODS
    dirs: tuple[str, ...] = ()

    parties: tuple[Party, ...] = ("user",)
    self_liquidations: Literal["include", "exclude"] = "include"
    labels: Labels = Labels()

    leg: Leg = "liquidated"

    count: Level = "episode"
    account_unit: Literal["address", "owner"] = "address"
    repeat: Repeat = Repeat()
    sample: Sample | None = None
    minimum_usd: Decimal = Decimal(0)

    perp_value: PerpValue = "fill"
    lending_value: LendingValue = "repaid"

    stablecoins: Literal["par", "market", "market_or_par"] = "market_or_par"
    prices: tuple[str, ...] = ("event", "oracle", "feed_log", "reference")
    rounding: Literal["none", "cents"] = "none"

    def canonical(self) -> str:
        """The definition in the one form that is hashed: all fields, sorted, decimals as text."""
        return json.dumps(
            msgspec.to_builtins(self), sort_keys=True, ensure_ascii=False, separators=(",", ":")
        )

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    @property
    def is_additive(self) -> bool:
        """Whether totals of two windows add up to that of both together."""
        return self.repeat.keep == "all" and self.sample is None and self.minimum_usd == 0

    @property
    def is_of_accounts(self) -> bool:
        """Whether what it counts of an account follows from the account's own rows, and stays as
        they are: nothing of others, of labels, of a chain's finalized height."""
        return (
            self.is_additive
            and self.leg == "liquidated"
            and self.account_unit == "address"
            and self.finality == "latest"
            and self.labels == Labels()
        )

    @property
    def is_one_sum(self) -> bool:
        """Whether what it counts may stand in one sum: the notional of perpetuals and the debt of
        loans are exposure, what was lost of both is loss, and no other two are alike."""
        return len(self.instruments) == 1 or (self.perp_value, self.lending_value) in _ALIKE

    def group(self, name: str) -> dict[str, Any]:
        """The fields of one of `GROUPS`, as data."""
        data = msgspec.to_builtins(self)
        return {field: data[field] for field in FIELDS_OF[name]}

    def with_group(self, name: str, other: "Definition") -> "Definition":
        """This definition with one group of fields as in another; may be one that no file could
        hold, as a step between two definitions is none that anybody would publish."""
        return msgspec.structs.replace(
            self, **{field: getattr(other, field) for field in FIELDS_OF[name]}
        )


FIELDS_OF = {
    "coverage": ("finality",),
    "window": ("window",),
    "scope": (
        "instruments", "venues", "chains", "markets", "assets", "margin_modes", "trust",
    ),
    "methods": ("methods", "dirs"),
    "party": ("parties", "self_liquidations", "labels"),
    "leg": ("leg",),
    "repeat": ("count", "account_unit", "repeat", "sample", "minimum_usd"),
    "valuation": ("perp_value", "lending_value"),
    "price": ("stablecoins", "prices", "rounding"),
}  # fmt: skip

_SETS = (
    "instruments", "venues", "chains", "markets", "margin_modes", "methods", "dirs", "parties",
)  # fmt: skip
_ALIKE = {
    ("fill", "repaid"), ("mark", "repaid"), ("bankruptcy", "repaid"), ("margin_lost", "loss"),
}  # fmt: skip
_ONLY_OF: dict[Instrument, tuple[str, ...]] = {
    "perp": ("perp_value",),
    "lending": ("lending_value",),
}
"""Fields that say nothing of the other instrument."""
_USUAL = {field.name: field.default for field in msgspec.structs.fields(Definition)}
_DIGITS = 18  # before and after the point: what decimals of dollars and shares may have
_SOURCE = re.compile(
    "event|oracle|feed_log|reference|hyperliquid|hyperliquid_fills|file:[a-z0-9][a-z0-9_-]*"
)


def parse(text: bytes, form: Literal["toml", "json"] = "toml") -> Definition:
    """A definition from its file; ConfigError names an unknown key, a wrong value, or fields that
    cannot go together."""
    load = tomllib.loads if form == "toml" else json.loads
    try:
        raw: Any = load(text.decode(), parse_float=str)
        found = msgspec.convert(_with_usual_methods(raw), Definition)
    except ValueError as error:  # msgspec's own is one, too
        raise ConfigError(f"not a definition: {error}") from None
    problem = next(_contradictions(found), None)
    if problem is not None:
        raise ConfigError(f"{found.id}: {problem}")
    return _in_one_form(found)


def read(path: Path) -> Definition:
    """The definition in a .toml or .json file; ConfigError where it holds none."""
    try:
        return parse(path.read_bytes(), "json" if path.suffix == ".json" else "toml")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


@cache
def presets() -> dict[str, Definition]:
    """The definitions that come with the indexer, by id."""
    found = [read(path) for path in sorted(PRESETS.glob("*.toml"))]
    return {definition.id: definition for definition in found}


def _with_usual_methods(raw: Any) -> Any:
    """Of the instruments that a file names, it counts the usual methods unless it names them."""
    chosen = raw.get("instruments") if isinstance(raw, dict) and "methods" not in raw else None
    if not isinstance(chosen, list):
        return raw
    return {**raw, "methods": [m for m in USUAL_METHODS if instrument_of(m) in chosen]}


def instrument_of(method: str) -> Instrument:
    """What kind of venue has liquidations of this method."""
    return "perp" if method in PERP_METHODS else "lending"


def _in_one_form(d: Definition) -> Definition:
    """Sets in order, decimals without an exponent, times in UTC: what means the same has the same
    hash."""
    window, as_of = d.window, d.labels.as_of
    if isinstance(window, Segment):
        window = msgspec.structs.replace(window, threshold=_plain(window.threshold))
    if as_of is not None:
        as_of = datetime.fromisoformat(as_of).astimezone(UTC).isoformat().replace("+00:00", "Z")
    return msgspec.structs.replace(
        d,
        window=window,
        minimum_usd=_plain(d.minimum_usd),
        assets=_sorted(d.assets, "families", "relations"),
        labels=msgspec.structs.replace(_sorted(d.labels, "only", "without"), as_of=as_of),
        **{name: tuple(sorted(getattr(d, name))) for name in _SETS},
    )


_Sets = TypeVar("_Sets", Assets, Labels)


def _sorted(those: _Sets, *names: str) -> _Sets:
    return msgspec.structs.replace(
        those, **{name: tuple(sorted(getattr(those, name))) for name in names}
    )


def _plain(number: Decimal) -> Decimal:
    return Decimal(format(EXACT.normalize(number.copy_abs()), "f"))  # 0 may have come with a sign


def _contradictions(d: Definition) -> Iterator[str]:
    """What of a definition cannot be, in words for its author."""
    lists = {name: getattr(d, name) for name in (*_SETS, "prices")} | {
        "assets.families": d.assets.families, "assets.relations": d.assets.relations,
        "labels.only": d.labels.only, "labels.without": d.labels.without,
    }  # fmt: skip
    for name, values in lists.items():
        if len(set(values)) < len(values):
            yield f"{name} names something twice"
        if "" in values:
            yield f"{name} names something without a name"
    for name in ("instruments", "methods", "parties", "margin_modes", "assets.relations"):
        if not lists[name]:
            yield f"{name} is empty: nothing could count"
    for instrument in d.instruments:
        if not any(instrument_of(method) == instrument for method in d.methods):
            yield f"{instrument} is an instrument, but no method of it counts"
    for method in d.methods:
        if instrument_of(method) not in d.instruments:
            yield f"the method {method} is of {instrument_of(method)}, which is no instrument here"
    for instrument, names in _ONLY_OF.items():
        for name in names if instrument not in d.instruments else ():
            if getattr(d, name) != _USUAL[name]:
                yield f"{name} says something of {instrument}, which is no instrument here"
    if "perp" not in d.instruments and set(d.margin_modes) != set(get_args(MarginMode)):
        yield "margin_modes are of perp, which is no instrument here"
    if not d.assets.families and set(d.assets.relations) != set(Assets().relations):
        yield "assets.relations says what belongs to a family: name one in assets.families"
    if "ledger_update" in d.methods:
        if d.methods != ("ledger_update",):
            yield "ledger_update tells of the same liquidations as fills do: it stands alone"
        if d.perp_value != "mark" or d.leg != "liquidated" or d.count not in ("action", "account"):
            yield "ledger_update values accounts at mark: perp_value mark, count action or account"
        if d.dirs or d.sample is not None:
            yield "ledger_update has neither dirs nor orders to sample"
    if d.leg != "liquidated":
        if d.instruments != ("perp",):
            yield "only a perpetual's trade has a counterparty's leg: instruments perp"
        if d.perp_value not in ("fill", "mark"):
            yield f"{d.perp_value} is of the liquidated account alone: leg liquidated"
    if d.dirs and d.instruments != ("perp",):
        yield "dirs are texts on fills of perpetuals: instruments perp"
    if isinstance(d.window, Blocks) and len(d.chains) != 1:
        yield "a window of blocks is of one chain: name it in chains"
    if isinstance(d.window, Calendar) and not is_zone(d.window.zone):
        yield f"{d.window.zone!r} is no time zone"
    if isinstance(d.window, Segment) and not _is_share(d.window.threshold):
        yield f"the threshold of a segment is a share between 0 and 1, of {_DIGITS} digits"
    if not _is_number(d.minimum_usd):
        yield f"minimum_usd is a number of dollars from 0 up, of {_DIGITS} digits"
    if d.sample is not None and d.repeat.keep != "all":
        yield "a sample of orders and a choice of an episode's actions exclude each other"
    if d.labels.as_of is not None and not (d.labels.only or d.labels.without):
        yield "labels have an as_of, but no label is asked for"
    if set(d.labels.only) & set(d.labels.without):
        yield "labels ask for the same label with and without"
    if d.labels.as_of is not None and not _is_moment(d.labels.as_of):
        yield "labels.as_of is a time with a zone, as 2025-10-11T00:00:00Z"
    for source in d.prices:
        if not _SOURCE.fullmatch(source):
            yield f"{source!r} is no price source"
    if "lending" in d.instruments and not d.prices:
        yield "loans have no value without prices"
    if d.stablecoins == "market" and not d.prices:
        yield "a dollar token has no market price without prices"


def is_zone(name: str) -> bool:
    """Whether the time zone database knows a zone: the packaged one, as a machine's own also has
    names that mean something else elsewhere, such as localtime."""
    return name in _zones()


@cache
def _zones() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def _is_share(number: Decimal) -> bool:
    return _is_number(number) and 0 < number < 1


def _is_number(number: Decimal) -> bool:
    """Whether it is finite, not below 0 and short enough to be kept as it is."""
    if not number.is_finite() or number < 0:
        return False
    digits = number.as_tuple()
    return number < 10**_DIGITS and isinstance(digits.exponent, int) and digits.exponent >= -_DIGITS


def _is_moment(text: str) -> bool:
    try:
        moment = datetime.fromisoformat(text)
        return moment.tzinfo is not None and moment.astimezone(UTC) == moment
    except (ValueError, OverflowError):
        return False
