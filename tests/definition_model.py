"""What a definition counts, worked out row by row in plain Python: the second opinion on the SQL.

Written from the comments of `Definition`, section 5 of the methodology and the words of the
paragraph; it shares no code with `indexer.store`, and reads the tables as they stand.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from operator import attrgetter
from typing import Any

import msgspec
from psycopg.rows import dict_row

from indexer.methodology.definition import Definition
from indexer.store.database import Connection

Row = Mapping[str, Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PERP_METHODS = {
    "market", "backstop", "adl_of_user", "adl_of_vault", "borrow_partial", "borrow_backstop",
}  # fmt: skip
ALIKE = {
    ("fill", "repaid"), ("mark", "repaid"), ("bankruptcy", "repaid"), ("margin_lost", "loss"),
}  # fmt: skip
LEVELS = ("fill", "order", "action", "episode", "account")


class Tables(msgspec.Struct, frozen=True):
    """The ledger as it stands, as far as a total looks at it."""

    liquidation: Sequence[Row]
    lending_liquidation: Sequence[Row]
    ledger_liquidation: Sequence[Row]
    valuation: Sequence[Row]
    asset: Sequence[Row]
    asset_kin: Sequence[Row]
    share_rate: Sequence[Row]
    stream: Sequence[Row]
    label: Sequence[Row]
    protocol_vault: Sequence[Row]
    owner_of: Sequence[Row]


def read(connection: Connection) -> Tables:
    with connection.cursor(row_factory=dict_row) as cursor:
        names = Tables.__struct_fields__
        return Tables(*(cursor.execute(f"SELECT * FROM ledger.{n}").fetchall() for n in names))


@dataclass(frozen=True, kw_only=True)
class Line:
    """A leg, what it is worth, and where it stands."""

    instrument: str
    venue: str
    chain: str
    account: str
    unit: str
    market: str
    dex: str
    asset: str | None
    relation: str | None
    side: str | None
    method: str
    leg: str
    dir: str | None
    is_seen: bool
    margin_mode: str
    party: str
    is_self: bool
    is_final: bool
    block_number: int | None
    block_at: datetime
    event_key: str
    liquidated: str
    action: str
    order_id: str
    fill: str
    is_flat: bool
    usd: Decimal | None
    source: str | None
    trust: str | None
    line: str = "counted"

    @property
    def shown(self) -> tuple[Any, ...]:
        """The columns of `liq.counted`."""
        return (
            f"{self.venue}/{self.event_key}/{self.liquidated}", self.instrument, self.venue,
            self.chain, self.account, self.unit, self.market, self.dex, self.asset, self.side,
            self.method, self.leg, self.margin_mode, self.block_number, self.block_at,
            self.action, self.order_id, self.usd, self.source, self.trust,
        )  # fmt: skip


Lines = list[Line]
Key = Callable[[Line], Any]


def lines(
    tables: Tables,
    d: Definition,
    low: datetime,
    high: datetime,
    block_from: int | None = None,
    block_to: int | None = None,
) -> Lines:
    """All rows that a definition looks at, each on its line."""

    def is_in_window(row: Row) -> bool:
        height = row["block_number"]
        return (
            low <= row["block_at"] < high
            and (block_from is None or (height is not None and height >= block_from))
            and (block_to is None or (height is not None and height < block_to))
        )

    with localcontext(prec=300):
        legs = [
            *_perp_legs(filter(is_in_window, tables.liquidation), tables, d),
            *_lending_legs(filter(is_in_window, tables.lending_liquidation), tables, d),
            *_ledger_legs(filter(is_in_window, tables.ledger_liquidation), tables, d),
        ]
        found = [_rounded(leg, d) for leg in legs if _is_looked_at(leg, tables, d)]
        found = [replace(leg, line=_line(leg, d)) for leg in found]
        return _without_small(_without_unsampled(_without_repeated(found, d), d), d)


# -- legs ----------------------------------------------------------------------------------------


def _perp_legs(rows: Iterable[Row], tables: Tables, d: Definition) -> Iterator[Line]:
    traded = [one for one in d.prices if one.startswith(("file:", "hyperliquid_fills"))]
    sources = {"par": ["par"], "market": ["event", *traded], "market_or_par": [*traded, "par"]}[
        d.stablecoins
    ]  # what an event has in dollars needs no price of a token
    worth = _by_row(tables.valuation)
    for row in rows:
        value = _first(worth[_key(row)], sources, f"{d.perp_value}_usd")
        trust = value.get("quote_trust")
        if d.perp_value not in ("fill", "realised") and row["dex"]:
            trust = "market"
        both = Line(
            instrument="perp", venue=row["venue"], chain=row["venue"], account=row["account"],
            unit=_unit(tables, d, row["account"], row["venue"]), market=row["market"],
            dex=row["dex"],
            asset=row["market"].split(":")[-1], relation="self", side=row["side"],
            method=row["method"], leg="liquidated", dir=row["dir_liquidated"],
            is_seen=row["legs_seen"] != "counterparty",
            margin_mode=row["margin_mode"] or "unknown",
            party="protocol_vault" if row["account_is_protocol_vault"] else "user",
            is_self=row["counterparty"] == row["account"], is_final=True,
            block_number=row["block_number"], block_at=row["block_at"],
            event_key=row["event_key"], liquidated=row["account"],
            action=row["tx_hash"] or row["event_key"],
            order_id=row["order_id"] or row["tx_hash"] or row["event_key"],
            fill=f"{row['event_key']}/{row['account']}", is_flat=row["is_full_close"] is True,
            usd=value.get(f"{d.perp_value}_usd"), source=value.get("price_source"), trust=trust,
        )  # fmt: skip
        yield both
        if row["legs_seen"] != "liquidated":
            won = row["counterparty_kind"] == "adl_winner"
            yield replace(
                both, account=row["counterparty"],
                unit=_unit(tables, d, row["counterparty"], row["venue"]), leg="counterparty",
                dir=row["dir_counterparty"], is_seen=True, is_flat=False,
                side={"long": "short", "short": "long"}[row["side"]] if won else row["side"],
            )  # fmt: skip


def _unit(tables: Tables, d: Definition, account: str, *places: str) -> str:
    """The account, or who owns it on the venue, else on the chain; of one with a number, the
    address."""
    if d.account_unit == "address":
        return account
    account = account.split(":")[0]
    owners = {(one["account"], one["venue"]): one["owner"] for one in tables.owner_of}
    known = (owners[account, place] for place in places if (account, place) in owners)
    return next(known, account)


def _lending_legs(rows: Iterable[Row], tables: Tables, d: Definition) -> Iterator[Line]:
    worth = _by_row(tables.valuation)
    stored = {(r["account"], r["venue"], r["event_key"]): r for r in tables.lending_liquidation}
    kin = {(r["chain"], r["address"]): r for r in tables.asset_kin}
    rates = {(r["chain"], r["asset"], r["block_number"]): r for r in tables.share_rate}
    final = {r["chain"]: r["finalized_block"] for r in tables.stream}
    for row in rows:
        chain = row["venue"].split(".")[1]
        log = "/".join(row["event_key"].split("/")[:2])
        debt = row["repaid_asset"]
        if debt is None and log != row["event_key"]:
            debt = stored.get((row["account"], row["venue"], log), {}).get("repaid_asset")
        collateral = row["seized_asset"]
        if row["seized_is_shares"]:
            rate = rates.get((chain, collateral, row["block_number"]), {})
            collateral = rate.get("underlying") or collateral
        side = _side(kin, chain, debt, collateral)
        bet = debt if side == "short" else collateral
        of_bet = kin.get((chain, bet), {})
        usd, source, trust = _loan(row, tables, d, worth[_key(row)], chain, debt, collateral)
        if usd is None and _is_nothing(row, d, is_part=log != row["event_key"]):
            continue
        holder = row["account"] if d.account_unit == "address" else row["owner"] or row["account"]
        yield Line(
            instrument="lending", venue=row["venue"], chain=chain, account=row["account"],
            unit=_unit(tables, d, holder, row["venue"], chain), market=row["market"],
            dex="", asset=of_bet.get("family", bet and f"{chain}/{bet}"),
            relation=of_bet.get("relation"), side=side, method=row["method"], leg="liquidated",
            dir=None, is_seen=True, margin_mode="unknown", party="user",
            is_self=row["liquidator"] is not None
            and row["liquidator"] in (row["account"], row["owner"]),
            is_final=chain not in final or row["block_number"] <= final[chain],
            block_number=row["block_number"], block_at=row["block_at"],
            event_key=row["event_key"], liquidated=row["account"], action=row["event_key"][:66],
            order_id=log, fill=f"{log}/{row['account']}", is_flat=False, usd=usd, source=source,
            trust=trust,
        )  # fmt: skip


def _is_nothing(row: Row, d: Definition, *, is_part: bool) -> bool:
    """Whether there is none of what the definition values: a part of an absorption has no debt."""
    match d.lending_value:
        case "repaid":
            return is_part and row["repaid_raw"] is None
        case "seized" | "seized_net":
            return is_part and row["seized_raw"] is None
        case "bonus":
            return is_part
        case "bad_debt":
            return row["bad_debt_raw"] is None
        case "loss":
            return False


def _side(kin: Mapping[Any, Row], chain: str, debt: str | None, lost: str | None) -> str | None:
    """Who owes dollars and loses something else was long of it, the other way round short."""
    if debt is None or lost is None:
        return None
    owes = kin.get((chain, debt), {}).get("family") == "USD"
    loses = kin.get((chain, lost), {}).get("family") == "USD"
    return {(True, False): "long", (False, True): "short"}.get((owes, loses))


def _loan(
    row: Row,
    tables: Tables,
    d: Definition,
    values: Mapping[str, Row],
    chain: str,
    debt: str | None,
    collateral: str | None,
) -> tuple[Decimal | None, str | None, str | None]:
    """What a loan's liquidation was worth, from which source, and who vouches for it."""
    # what its own protocol counts as a dollar is one where nothing else has a price for it
    sources = d.prices if d.stablecoins == "market" else (*d.prices, "par")
    if d.lending_value == "loss":
        return _loss(row, sources, values)
    of_trust = "seized" if d.lending_value == "seized_net" else d.lending_value
    value = _first(values, sources, f"{d.lending_value}_usd")
    trust = value.get(f"{of_trust}_trust")
    if d.stablecoins == "par" and d.lending_value in ("repaid", "seized"):
        asset = debt if d.lending_value == "repaid" else collateral
        raw = row["repaid_raw"]
        if d.lending_value == "seized":
            beside = row["fee_in_seized"] is False
            raw = _plus(row["seized_raw"], row["protocol_fee_raw"] if beside else Decimal(0))
        is_tokens = raw is not None and not (
            d.lending_value == "seized" and row["seized_is_shares"]
        )
        if is_tokens and _is_dollar(tables, chain, asset):
            return _scaled(tables, chain, asset, raw), "par", trust
    return value.get(f"{d.lending_value}_usd"), value.get("price_source"), trust


def _loss(
    row: Row, sources: Sequence[str], values: Mapping[str, Row]
) -> tuple[Decimal | None, str | None, str | None]:
    """The collateral seized less the debt repaid, by the first of the sources that have most."""

    def known(source: str) -> int:
        value = values.get(source, {})
        return sum(value.get(f"{leg}_usd") is not None for leg in ("repaid", "seized"))

    best = max(sources, key=known)  # the first of several
    value = values[best] if known(best) else {}
    usd = Decimal(0)
    for leg, sign in (("seized", 1), ("repaid", -1)):
        worth = value.get(f"{leg}_usd")
        if worth is None and row[f"{leg}_raw"] is not None:
            return None, value.get("price_source"), _worst(value)
        usd += sign * (worth or 0)
    return usd, value.get("price_source"), _worst(value)


def _worst(value: Row) -> str | None:
    said = {value.get("repaid_trust"), value.get("seized_trust")} - {None}
    return max(said, default=None)  # market is worse than governed, and the alphabet agrees


def _is_dollar(tables: Tables, chain: str, asset: str | None) -> bool:
    """A staked claim on dollars is more than a dollar."""
    return any(
        (r["chain"], r["address"], r["family"]) == (chain, asset, "USD")
        and r["relation"] != "staked"
        for r in tables.asset_kin
    )


def _scaled(tables: Tables, chain: str, asset: str | None, raw: Decimal) -> Decimal | None:
    for token in tables.asset:
        if (token["chain"], token["address"]) == (chain, asset):
            decimals = token["decimals"]
            return raw.scaleb(-decimals) if decimals is not None and decimals <= 36 else None
    return None


def _plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _ledger_legs(rows: Iterable[Row], tables: Tables, d: Definition) -> Iterator[Line]:
    vaults = {(vault["venue"], vault["account"]) for vault in tables.protocol_vault}
    for row in rows:
        yield Line(
            instrument="perp", venue=row["venue"], chain=row["venue"], account=row["account"],
            unit=_unit(tables, d, row["account"], row["venue"]), market="*", dex="", asset="*",
            relation=None, side=None,
            method="ledger_update", leg="liquidated", dir=None, is_seen=True,
            margin_mode=row["margin_mode"].lower(),
            party="protocol_vault" if (row["venue"], row["account"]) in vaults else "user",
            is_self=False, is_final=True, block_number=row["block_number"],
            block_at=row["block_at"], event_key=row["event_key"], liquidated=row["account"],
            action=row["tx_hash"], order_id=row["tx_hash"],
            fill=f"{row['event_key']}/{row['account']}", is_flat=False, usd=row["notional_mark"],
            source="par", trust="governed",
        )  # fmt: skip


def _key(row: Row) -> tuple[Any, ...]:
    return row["venue"], row["block_at"], row["event_key"], row["account"]


def _by_row(values: Iterable[Row]) -> Mapping[tuple[Any, ...], Mapping[str, Row]]:
    """Of each liquidation its values, by source."""
    found: dict[tuple[Any, ...], dict[str, Row]] = defaultdict(dict)
    for value in values:
        found[_key(value)][value["price_source"]] = value
    return found


def _first(values: Mapping[str, Row], sources: Iterable[str], usd: str) -> Row:
    having = (values[source] for source in sources if source in values)
    return next((value for value in having if value[usd] is not None), {})


# -- what counts ---------------------------------------------------------------------------------


def _is_looked_at(leg: Line, tables: Tables, d: Definition) -> bool:
    """Whether it is within the scope, the methods, the labels and the legs of a definition."""
    return all(
        (
            leg.instrument in d.instruments,
            not d.venues or leg.venue in d.venues or leg.venue.split(".")[0] in d.venues,
            not d.chains or leg.chain in d.chains,
            not d.markets or leg.market in d.markets,
            not d.assets.families
            or (leg.asset in d.assets.families and leg.relation in d.assets.relations),
            leg.instrument == "lending" or leg.margin_mode in d.margin_modes,
            leg.method in d.methods,
            not d.dirs or (leg.dir is not None and leg.dir.startswith(tuple(d.dirs))),
            not d.labels.only or _has_label(leg, tables, d, d.labels.only),
            not (d.labels.without and _has_label(leg, tables, d, d.labels.without)),
            leg.is_seen if d.leg == "both" else leg.leg == d.leg,
        )
    )


def _has_label(leg: Line, tables: Tables, d: Definition, names: Sequence[str]) -> bool:
    as_of = d.labels.as_of

    def is_held(label: Row) -> bool:
        known = label["recorded_during"]
        return known.upper_inf if as_of is None else datetime.fromisoformat(as_of) in known

    return any(
        label["account"] == leg.account
        and label["venue"] in (leg.venue, leg.chain, "*")
        and label["label"] in names
        and leg.block_at in label["valid_during"]
        and is_held(label)
        for label in tables.label
    )


def _rounded(leg: Line, d: Definition) -> Line:
    if leg.usd is None or d.rounding == "none":
        return leg
    return replace(leg, usd=leg.usd.quantize(Decimal("0.01"), ROUND_HALF_UP))


def _line(leg: Line, d: Definition) -> str:
    if d.finality == "finalized" and not leg.is_final:
        return "not_final"
    if d.trust == "governed" and leg.trust == "market":
        return "permissionless"
    if leg.party not in d.parties:
        return "protocol_vault"
    if d.self_liquidations == "exclude" and leg.is_self:
        return "self_liquidation"
    return "counted"


# -- what belongs together -----------------------------------------------------------------------


def units(rows: Iterable[Line], level: str, gap_seconds: int) -> list[Lines]:
    """The rows of each unit of a level."""
    gap = timedelta(seconds=gap_seconds)
    if level == "episode":
        return _runs(rows, _of_dex, lambda row: (row.block_at,), lambda *_: False, gap)
    if level == "position":
        return _runs(
            rows,
            lambda row: (*_of_dex(row), row.market, row.side),
            # blocks have no order that all legs tell: flat at the end of a block is flat
            lambda row: (row.block_at, row.is_flat, row.event_key),
            lambda last, _: last.is_flat,
            gap,
        )
    of: dict[str, Key] = {
        "record": lambda row: (row.venue, row.event_key, row.liquidated, row.leg),
        "fill": lambda row: (row.venue, row.fill),
        "order": lambda row: (row.venue, row.unit, row.market, row.order_id),
        "action": lambda row: (row.venue, row.unit, row.action),
        "account": lambda row: (row.venue, row.unit),
    }
    return list(_grouped(rows, of[level]).values())


def _of_dex(row: Line) -> tuple[str, ...]:
    return row.venue, row.dex, row.unit


def _grouped(rows: Iterable[Line], key: Key) -> dict[Any, Lines]:
    found: dict[Any, Lines] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _runs(
    rows: Iterable[Line], of: Key, order: Key, ends: Callable[[Line, Line], bool], gap: timedelta
) -> list[Lines]:
    found: list[Lines] = []
    for group in _grouped(rows, of).values():
        last: Line | None = None
        for row in sorted(group, key=order):
            if last is None or ends(last, row) or row.block_at - last.block_at > gap:
                found.append([])
            found[-1].append(row)
            last = row
    return found


def _sum(rows: Iterable[Line]) -> Decimal | None:
    """Of what is known; None where nothing is."""
    known = [row.usd for row in rows if row.usd is not None]
    return sum(known, Decimal(0)) if known else None


def _size(rows: Lines) -> tuple[int, Decimal]:
    """To sort by: the largest first, the unknown last."""
    usd = _sum(rows)
    return (1, Decimal(0)) if usd is None else (0, -usd)


def _off(name: str, rows: Lines, kept: Iterable[Line]) -> Lines:
    """Rows with all counted ones off the line that are not kept."""
    ids = set(map(id, kept))
    return [
        row if row.line != "counted" or id(row) in ids else replace(row, line=name) for row in rows
    ]


def _counted(rows: Iterable[Line]) -> Lines:
    return [row for row in rows if row.line == "counted"]


def _without_repeated(rows: Lines, d: Definition) -> Lines:
    """Of each episode the first or the largest action."""
    if d.repeat.keep == "all":
        return rows
    kept: Lines = []
    for episode in units(_counted(rows), "episode", d.repeat.gap_seconds):
        actions = _grouped(episode, lambda row: row.action)
        if d.repeat.keep == "first":
            best = min(actions, key=lambda a: (min(r.block_at for r in actions[a]), a))
        else:
            best = min(actions, key=lambda a: (_size(actions[a]), a))
        kept += actions[best]
    return _off("repeated", rows, kept)


def _without_unsampled(rows: Lines, d: Definition) -> Lines:
    """Of each market and stretch of seconds since 1970 the last or the largest order."""
    if d.sample is None:
        return rows
    seconds = timedelta(seconds=d.sample.seconds)
    kept: Lines = []
    for shown in _grouped(
        _counted(rows), lambda row: (row.venue, row.market, (row.block_at - EPOCH) // seconds)
    ).values():
        orders = _grouped(shown, lambda row: (row.unit, row.order_id))
        if d.sample.keep == "last":
            best = min(orders, key=lambda o: (EPOCH - max(r.block_at for r in orders[o]), o))
        else:
            best = min(orders, key=lambda o: (_size(orders[o]), o))
        kept += orders[best]
    return _off("unsampled", rows, kept)


def _without_small(rows: Lines, d: Definition) -> Lines:
    if not d.minimum_usd:
        return rows
    kept: Lines = []
    for unit in units(_counted(rows), d.count, d.repeat.gap_seconds):
        usd = _sum(unit)
        if usd is not None and usd >= d.minimum_usd:
            kept += unit
    return _off("too_small", rows, kept)


# -- the total -----------------------------------------------------------------------------------


def total(rows: Lines, d: Definition) -> list[tuple[Any, ...]]:
    """The rows of `liq.total`, in no order."""
    with localcontext(prec=300):
        counted = _counted(rows)
        found = [_split("total", None, counted, d)]
        for section in ("instrument", "venue", "asset", "method", "side"):
            for name, part in _grouped(counted, attrgetter(section)).items():
                found.append(_split(section, name, part, d))
        for name, part in _grouped(counted, lambda row: row.source).items():
            found.append(_split("price_source", name, part, d))
        beside = [row for row in rows if row.line != "counted"]
        for name, part in _grouped(beside, lambda row: row.line).items():
            found.append((
                "beside", name, *_money(part, d), len(part), *[None] * 5,
                len({row.unit for row in part}), _unvalued(part), *[None] * 5,
            ))  # fmt: skip
        for level in LEVELS:
            found += _largest(level, counted, d)
        return found


def _split(section: str, name: str | None, rows: Lines, d: Definition) -> tuple[Any, ...]:
    counts: list[int | None] = [None] * 5
    if section in ("total", "instrument", "venue"):
        counts = [
            len(units(rows, level, d.repeat.gap_seconds))
            for level in ("fill", "order", "action", "position", "episode")
        ]
    accounts = (
        len({row.unit for row in rows})
        if section in ("total", "instrument", "venue", "asset")
        else None
    )
    usd = _money(rows, d) if rows else (Decimal(0), None, None)
    return (section, name, *usd, len(rows), *counts, accounts, _unvalued(rows), *[None] * 5)


def _money(rows: Lines, d: Definition) -> tuple[Decimal | None, ...]:
    """In all, long and short; none where perpetuals and loans may not stand in one sum."""
    is_mixed = len({row.instrument for row in rows}) > 1
    if is_mixed and (d.perp_value, d.lending_value) not in ALIKE:
        return None, None, None
    sides = [[row for row in rows if row.side == side] for side in ("long", "short")]
    return _sum(rows), *map(_sum, sides)


def _unvalued(rows: Lines) -> int:
    return sum(row.usd is None for row in rows)


def _largest(level: str, counted: Lines, d: Definition) -> list[tuple[Any, ...]]:
    known = [unit for unit in units(counted, level, d.repeat.gap_seconds) if _sum(unit) is not None]
    if not known:
        return []
    best = min(known, key=lambda unit: (_size(unit), unit[0].venue, _name(level, unit)))
    times = [row.block_at for row in best]
    return [
        (
            "largest", level, _sum(best), *[None] * 10, best[0].venue,
            min(row.unit for row in best), _full_name(level, best), min(times), max(times),
        )
    ]  # fmt: skip


def _name(level: str, unit: Lines) -> tuple[str, ...]:
    """What names a unit beside its venue."""
    one, first = unit[0], min(row.block_at for row in unit)
    return {
        "fill": (min(row.event_key for row in unit), one.liquidated),
        "order": (one.unit, one.market, one.order_id),
        "action": (one.unit, one.action),
        "episode": (one.unit, one.dex, first.strftime("%Y%m%dT%H%M%S.%f")),
        "account": (one.unit,),
    }[level]


def _full_name(level: str, unit: Lines) -> str:
    name = "/".join((unit[0].venue, *_name(level, unit)))
    head, _, moment = name.rpartition("/")
    return f"{head}@{moment}" if level == "episode" else name
