"""What the queries of docs/cookbook.md must answer, worked out in plain Python from the simulator's
truth and from the loans that were drawn: the second opinion on their SQL.

Nothing here reads a database. A column that holds an opinion, or what the simulator does not know,
is not named.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from tests import cookbook_world as world
from tests.cookbook_world import BOTS, FILE_USD, Loan, loans, truth
from tests.simulator import truth as simulated

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
D = Decimal

DAY = datetime(2025, 10, 27, tzinfo=UTC)
NEXT, AFTER = DAY + timedelta(days=1), DAY + timedelta(days=2)
GAP = timedelta(minutes=15)
FINAL = world.BLOCKS + 1 - 8  # the last minute whose block is final
STRICT = ("market", "backstop", "adl_of_user")
MARKED = (*STRICT, "adl_of_vault")


class Answer(NamedTuple):
    """Of some columns what must be in them."""

    columns: tuple[str, ...]
    rows: Callable[[], Rows]


ANSWERS: dict[str, Answer] = {}


def answers(title: str, columns: str) -> Callable[[Callable[[], Rows]], Callable[[], Rows]]:
    """Enter a function under a question of the page."""

    def enter(rows: Callable[[], Rows]) -> Callable[[], Rows]:
        ANSWERS[title] = Answer(tuple(columns.split()), rows)
        return rows

    return enter


# -- what happened


@dataclass(frozen=True)
class Event:
    """A forced trade or a loan, as far as totals look at it."""

    kind: str
    venue: str
    account: str
    at: datetime
    dex: str
    asset: str
    side: str
    method: str
    order: Hashable
    action: Hashable
    usd: Decimal | None


def perps(low: datetime, high: datetime, methods: Iterable[str] = STRICT) -> list[Event]:
    """Forced trades of a window, by time; dollar tokens are dollars."""
    rows = (*truth().liquidations, *truth().without_object)
    return [
        Event(
            "perp", "hyperliquid", row.account, row.block_time, row.dex, row.coin.split(":")[-1],
            row.side, row.method, (row.coin, row.oid), row.hash, row.notional,
        )
        for row in sorted(rows, key=lambda row: row.block_time)
        if low <= row.block_time < high and row.method in methods
    ]  # fmt: skip


def trades(low: datetime, high: datetime) -> list[simulated.Liquidation]:
    """The same with all that the simulator knows of them, other methods too."""
    rows = (*truth().liquidations, *truth().without_object)
    return [row for row in rows if low <= row.block_time < high]


def kept(low: datetime, high: datetime) -> list[Loan]:
    """Loans that are stored, whether their block is final or not."""
    return [loan for loan in loans() if loan.is_kept and low <= loan.at < high]


FAMILY = {"WETH": "ETH", "WBTC": "BTC"}


def lent(low: datetime, high: datetime) -> list[Event]:
    """Loans in blocks that are final. All debts are dollars against something else: long."""
    return [
        Event(
            "lending", loan.venue, loan.account, loan.at, "", FAMILY[loan.collateral.symbol],
            "long", "absorb" if loan.venue.startswith("comet") else "repay_seize", (loan,), (loan,),
            loan.repaid if loan.is_priced else None,
        )
        for loan in kept(low, high) if loan.minute <= FINAL
    ]  # fmt: skip


def strict(low: datetime, high: datetime) -> list[Event]:
    """What strict/v1 counts."""
    return [*perps(low, high), *lent(low, high)]


# -- arithmetic


def cents(value: Decimal | None, places: str = "0.01") -> Decimal | None:
    """As round(value, 2) of SQL."""
    return None if value is None else value.quantize(D(places), ROUND_HALF_UP)


def total(values: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known, D(0)) if known else None


def usd(events: Iterable[Event]) -> Decimal | None:
    """Dollars of all of them."""
    return total(event.usd for event in events)


def percent(part: Decimal, whole: Decimal, places: str = "0.01") -> Decimal | None:
    """Of a hundred."""
    with localcontext(prec=60):
        return cents(100 * part / whole, places)


def by(items: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Items by a key, the keys in the order of their first item."""
    found: dict[Any, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return dict(found)


def episodes(events: Iterable[Event], gap: timedelta = GAP) -> list[list[Event]]:
    """Runs of one account on one venue and dex without a pause longer than the gap."""
    found: list[list[Event]] = []
    for group in by(events, lambda event: (event.venue, event.account, event.dex)).values():
        in_order = sorted(group, key=lambda event: event.at)
        found.append([in_order[0]])
        for before, event in pairwise(in_order):
            if event.at - before.at > gap:
                found.append([])
            found[-1].append(event)
    return found


def units(events: Sequence[Event], level: str) -> list[list[Event]]:
    """What counts as one at a level."""
    keys: dict[str, Callable[[Event], Any]] = {
        "fill": id,
        "order": lambda event: (event.venue, event.account, event.order),
        "action": lambda event: (event.venue, event.account, event.action),
        "account": lambda event: (event.venue, event.account),
    }
    return episodes(events) if level == "episode" else [*by(events, keys[level]).values()]


def accounts(events: Iterable[Event]) -> int:
    """Addresses, each once in all."""
    return len({event.account for event in events})


def unvalued(events: Iterable[Event]) -> int:
    """How many have no dollars."""
    return sum(event.usd is None for event in events)


def largest_first(rows: Rows, at: int) -> Rows:
    """By a column, the unknown last."""
    return sorted(rows, key=lambda row: -(row[at] if row[at] is not None else D(-1)))


def sides(events: Sequence[Event]) -> tuple[Decimal | None, Decimal | None]:
    """Dollars of longs and of shorts."""
    long, short = (usd(e for e in events if e.side == side) for side in ("long", "short"))
    return long, short


# -- what was the total


def legs(low: datetime, high: datetime) -> list[tuple[str, bool, Event]]:
    """Both legs of each marked trade: which one, whether it is a vault's, and of whom."""
    found = []
    for row in trades(low, high):
        if row.method in MARKED:
            for leg, account in (("liquidated", row.account), ("counterparty", row.counterparty)):
                event = Event(
                    "perp", "hyperliquid", account, row.block_time, row.dex, row.coin, row.side,
                    row.method, row.oid, row.hash, row.notional,
                )  # fmt: skip
                found.append((leg, account in truth().protocol_vaults, event))
    return found


@answers(
    "What was liquidated on a day, under three definitions?",
    "id usd records episodes accounts unvalued",
)
def _() -> Rows:
    of = {
        "gross_legs/v1": [event for _, _, event in legs(DAY, NEXT)],
        "strict/v1": strict(DAY, NEXT),
        "backstop_only/v1": perps(DAY, NEXT, ["backstop"]),
    }
    return [
        (id, cents(usd(e)), len(e), len(episodes(e)), accounts(e), unvalued(e))
        for id, e in of.items()
    ]


def _counted(section: str, name: str, events: list[Event]) -> tuple[Any, ...]:
    levels = (len(units(events, level)) for level in ("order", "action", "episode"))
    money = cents(usd(events))
    return section, name, money, len(events), *levels, accounts(events), unvalued(events)


@answers(
    "What do perpetuals and loans add up to, each with its counts?",
    "section name usd records orders actions episodes accounts unvalued",
)
def _() -> Rows:
    events = strict(DAY, NEXT)
    kinds = by(events, lambda event: event.kind).items()
    venues = by(events, lambda event: event.venue).items()
    return [
        *largest_first([_counted("instrument", *kind) for kind in kinds], 2),
        _counted("total", "all", events),
        *largest_first([_counted("venue", *venue) for venue in venues], 2),
    ]


@answers("Were longs or shorts liquidated?", "venue long_usd short_usd long_percent")
def _() -> Rows:
    events = strict(DAY, NEXT)
    return [
        ("all", *_sided(events)),
        *largest_first(
            [(venue, *_sided(e)) for venue, e in by(events, lambda event: event.venue).items()], 1
        ),
    ]


def _sided(events: list[Event]) -> tuple[Decimal | None, ...]:
    long, short = sides(events)
    share = None if long is None else percent(long, long + (short or 0), "0.1")
    return cents(long), cents(short), share


@answers("What was the largest single liquidation?", "unit usd venue account first_at last_at")
def _() -> Rows:
    found = []
    for level in ("fill", "order", "action", "episode"):
        best = max(units(strict(DAY, NEXT), level), key=lambda unit: usd(unit) or D(0))
        ends = (min(e.at for e in best), max(e.at for e in best))
        found.append((level, cents(usd(best)), best[0].venue, best[0].account, *ends))
    return found


@answers("What is in scope and was not counted?", "line instrument records accounts usd")
def _() -> Rows:
    vaults = perps(DAY, AFTER, ["adl_of_vault"])
    late = [loan for loan in kept(DAY, AFTER) if loan.minute > FINAL]
    people = {loan.account for loan in late}
    return [
        ("not_final", "lending", len(late), len(people), cents(total(x.repaid for x in late))),
        ("protocol_vault", "perp", len(vaults), accounts(vaults), cents(usd(vaults))),
    ]


@answers("Which coins?", "asset usd long_usd short_usd records accounts")
def _() -> Rows:
    found = by(strict(DAY, NEXT), lambda event: event.asset).items()
    rows = [
        (asset, cents(usd(e)), *map(cents, sides(e)), len(e), accounts(e)) for asset, e in found
    ]
    return largest_first(rows, 1)[:8]


@answers(
    "What is left when each account counts once?", "instrument accounts usd largest_action_of_each"
)
def _() -> Rows:
    found = []
    for kind in ("lending", "perp"):
        people = by([e for e in strict(DAY, NEXT) if e.kind == kind], lambda e: e.account).values()
        largest = [max(usd(unit) or D(0) for unit in units(e, "action")) for e in people]
        sums = total(usd(e) for e in people), total(largest)
        found.append((kind, len(people), *map(cents, sums)))
    return found


@answers("How many episodes are there, for how long a pause?", "pause_in_minutes episodes")
def _() -> Rows:
    gaps = (1, 15, 60)
    return [(n, len(episodes(strict(DAY, NEXT), timedelta(minutes=n)))) for n in gaps]


@answers("Does it matter where a day begins?", "id day usd records")
def _() -> Rows:
    in_china, one = timedelta(hours=-8), timedelta(days=1)
    found: Rows = []
    for id, shift in (("natural_day_cn/v1", in_china), ("strict/v1", timedelta())):
        for day in (DAY, NEXT):
            events = strict(day + shift, day + one + shift)
            money = cents(usd(events) or D(0))
            found.append((id, f"{day:%F}", money, len(events)))
    return found


@answers("Why do two platforms differ? By legs and vaults", "leg is_vault records usd running_usd")
def _() -> Rows:
    found: Rows = []
    running = D(0)
    groups = by(legs(DAY, AFTER), lambda leg: leg[:2])
    for leg, is_vault in sorted(groups, key=lambda key: (key[0] != "liquidated", key[1])):
        events = [event for _, _, event in groups[leg, is_vault]]
        running += usd(events) or D(0)
        found.append((leg, is_vault, len(events), cents(usd(events)), cents(running)))
    return found


@answers("What would a feed that shows one order a second have shown?", "id usd orders")
def _() -> Rows:
    events = perps(DAY, NEXT)
    largest, last = [], []
    for shown in by(events, lambda e: (e.asset, e.dex, int(e.at.timestamp()))).values():
        orders = units(shown, "order")
        largest += max(orders, key=lambda order: usd(order) or D(0))
        newest = max(event.at for event in shown)
        ends = [order for order in orders if any(event.at == newest for event in order)]
        last += min(ends, key=lambda order: (order[0].account, str(order[0].order)))
    found = {
        "rolling24h_orders/v1": events,
        "throttle1s_largest/v1": largest,
        "throttle1s_last/v1": last,
    }
    return [(id, cents(usd(e)), len(units(e, "order"))) for id, e in found.items()]


# -- who, and how large


def users(low: datetime, high: datetime) -> list[Event]:
    """All that happened to users, of whatever method."""
    everything = {row.method for row in trades(low, high)} - {"adl_of_vault"}
    late = [loan for loan in kept(low, high) if loan.minute > FINAL]
    unsure = [
        Event("lending", x.venue, x.account, x.at, "", "", "long", "", (x,), (x,), x.repaid)
        for x in late
    ]
    return [*perps(low, high, everything), *lent(low, high), *unsure]


@answers("Which episodes were the largest?", "account first_at took records usd")
def _() -> Rows:
    found = episodes(perps(DAY, AFTER))
    rows = [(e[0].account, e[0].at, e[-1].at - e[0].at, len(e), cents(usd(e))) for e in found]
    return largest_first(rows, 4)[:8]


@answers(
    "Which whales were liquidated twice or more in a week?",
    "account venues episodes first_at last_began_at usd largest_usd",
)
def _() -> Rows:
    large = [e for e in episodes(strict(DAY, AFTER)) if (usd(e) or 0) >= 1_000_000]
    found = []
    for account, of in by(large, lambda e: e[0].account).items():
        if len(of) > 1:
            began, sizes = [e[0].at for e in of], [usd(e) for e in of]
            venues = sorted({e[0].venue for e in of})
            money = cents(total(sizes)), cents(max(size or D(0) for size in sizes))
            found.append((account, venues, len(of), min(began), max(began), *money))
    return sorted(found, key=lambda row: (-row[2], row[0]))


@answers(
    "How large is a usual liquidation?", "instrument episodes median_usd p90_usd p99_usd mean_usd"
)
def _() -> Rows:
    found = []
    for kind in ("lending", "perp"):
        every = episodes([event for event in strict(DAY, AFTER) if event.kind == kind])
        sizes = sorted(size for e in every if (size := usd(e)) is not None and e[0].at < NEXT)
        ranks = [-(-len(sizes) * share // 1000) - 1 for share in (500, 900, 990)]
        with localcontext(prec=60):
            mean = sum(sizes, D(0)) / len(sizes)
        found.append((kind, len(sizes), *(cents(sizes[rank]) for rank in ranks), cents(mean)))
    return found


@answers("How much of the day was a few accounts?", "top accounts usd percent")
def _() -> Rows:
    each = [usd(e) for e in units(strict(DAY, NEXT), "account")]
    sizes = sorted((size for size in each if size), reverse=True)
    return [
        (top, len(sizes[:top]), cents(sum(sizes[:top], D(0))),
         percent(sum(sizes[:top], D(0)), sum(sizes, D(0))))
        for top in (1, 3, 10, 100, 1_000_000)
    ]  # fmt: skip


@answers("Who lost the most?", "account realised_usd fill_usd")
def _() -> Rows:
    rows = [row for row in trades(DAY, NEXT) if row.account not in truth().protocol_vaults]
    found = [
        (account, total(r.realised_pnl for r in of), total(r.notional for r in of))
        for account, of in by(rows, lambda row: row.account).items()
    ]
    best = sorted(found, key=lambda row: (row[1], row[0]))[:8]
    return [(account, cents(lost), cents(size)) for account, lost, size in best]


@answers(
    "What was left of an account when it was liquidated?",
    "account block_at margin_mode equity position_usd times_equity realised_pnl_usd",
)
def _() -> Rows:
    fills = by(trades(DAY, AFTER), lambda row: (row.account, row.hash))
    best = sorted(truth().ledger_liquidations, key=lambda row: (-row.liquidated_ntl, row.account))
    found = []
    for row in best[:8]:
        with localcontext(prec=60):
            times = cents(row.liquidated_ntl / row.account_value, "0.1")
        lost = total(fill.realised_pnl for fill in fills[row.account, row.hash])
        sizes = (cents(row.account_value), cents(row.liquidated_ntl), times, cents(lost))
        found.append((row.account, row.time, row.leverage_type.lower(), *sizes))
    return found


@answers(
    "How did the largest liquidation go, step by step?",
    "first_at methods fills size average_price notional_usd percent_of_position position_after",
)
def _() -> Rows:
    account = max(episodes(perps(DAY, AFTER)), key=lambda e: usd(e) or D(0))[0].account
    rows = [row for row in trades(DAY, AFTER) if row.account == account]
    found = []
    for of in by(rows, lambda row: row.oid).values():
        size = sum((row.size for row in of), D(0))
        notional = sum((row.notional for row in of), D(0))
        before = max((row.position_before for row in of), key=abs)
        with localcontext(prec=60):
            average = cents(notional / size)
        after = min((row.position_after for row in of), key=abs)
        found.append((
            min(row.block_time for row in of), sorted({row.method for row in of}), len(of),
            cents(size, "0.0001"), average, cents(notional), percent(size, abs(before), "0.1"),
            after,
        ))  # fmt: skip
    return sorted(found, key=lambda row: row[0])


@answers(
    "How large was it against the open interest?",
    "account market first_at notional_usd size open_interest open_interest_at",
)
def _() -> Rows:
    vaults = truth().protocol_vaults
    rows = [
        row
        for row in trades(DAY, NEXT)
        if row.coin in world.INTEREST_OF and row.account not in vaults
    ]
    found = []
    for (account, coin), of in by(rows, lambda row: (row.account, row.coin)).items():
        first = min(row.block_time for row in of)
        minutes = int((first - world.STARTED).total_seconds()) // 600 * 10
        interest, at = world.INTEREST_OF[coin] + minutes, world.STARTED + minutes * world.MINUTE
        size = sum((row.size for row in of), D(0))
        money = cents(total(row.notional for row in of))
        found.append((account, coin, first, money, size, interest, at))
    return sorted(found, key=lambda row: -row[4] / row[5])[:6]


@answers(
    "When was an account first liquidated, and when the worst?",
    "account first_at episodes largest_at largest_usd",
)
def _() -> Rows:
    found = []
    for account, of in by(episodes(perps(DAY, AFTER)), lambda e: e[0].account).items():
        worst = min(of, key=lambda e: (-(usd(e) or D(0)), e[0].at))
        first = min(e[0].at for e in of)
        found.append((account, first, len(of), worst[0].at, cents(usd(worst))))
    return sorted(found)


@answers(
    "Which accounts were liquidated on several venues?",
    "account venues liquidations fill_usd repaid_usd",
)
def _() -> Rows:
    found = []
    for account, of in by(strict(DAY, AFTER), lambda event: event.account).items():
        venues = sorted({event.venue for event in of})
        if len(venues) > 1:
            money = (usd(e for e in of if e.kind == kind) for kind in ("perp", "lending"))
            found.append((account, venues, len(of), *map(cents, money)))
    return sorted(found, key=lambda row: (-((row[3] or 0) + (row[4] or 0)), row[0]))


@answers(
    "What ever happened to one account?",
    "venues first_at last_at liquidations fill_usd repaid_usd largest_usd",
)
def _() -> Rows:
    of = [event for event in users(DAY, AFTER) if event.account == world.whale()]
    money = [usd(event for event in of if event.kind == kind) for kind in ("perp", "lending")]
    ends = min(event.at for event in of), max(event.at for event in of)
    largest = max(event.usd for event in of if event.usd is not None)
    venues = sorted({event.venue for event in of})
    return [(venues, *ends, len(of), *map(cents, money), cents(largest))]


# -- when


@answers(
    "How did the cascade run, minute by minute?",
    "minute fills accounts long_usd short_usd adl_and_backstop_usd",
)
def _() -> Rows:
    low = datetime(2025, 10, 27, 22, 14, tzinfo=UTC)
    found = []
    for minute in (low + number * world.MINUTE for number in range(11)):
        events = perps(minute, minute + world.MINUTE)
        taken = usd(event for event in events if event.method != "market")
        money = map(cents, (*sides(events), taken))
        found.append((minute, len(events), accounts(events), *money))
    return found


@answers("In which hours?", "hour kind liquidations unvalued usd")
def _() -> Rows:
    def hour(event: Event) -> tuple[datetime, str]:
        return event.at.replace(minute=0, second=0, microsecond=0), event.kind

    found = by(strict(DAY, AFTER), hour).items()
    return sorted((*key, len(e), unvalued(e), cents(usd(e))) for key, e in found)


@answers("What is the series of days?", "day kind liquidations usd long_usd short_usd is_read")
def _() -> Rows:
    found = by(strict(DAY, AFTER), lambda event: (event.at.date(), event.kind)).items()
    return sorted((*key, len(e), cents(usd(e)), *map(cents, sides(e)), False) for key, e in found)


@answers("Which stretch was the worst?", "from_minute to_minute usd liquidations")
def _() -> Rows:
    minutes = by(perps(DAY, AFTER), lambda event: event.at.replace(second=0, microsecond=0))
    runs: list[list[datetime]] = []
    for minute in sorted(minutes):
        if not runs or minute - runs[-1][-1] > world.MINUTE:
            runs.append([])
        runs[-1].append(minute)
    found = [
        (run[0], run[-1], cents(usd(e for m in run for e in minutes[m])),
         sum(len(minutes[m]) for m in run))
        for run in runs
    ]  # fmt: skip
    return largest_first(found, 2)[:5]


# -- by what mechanism


@answers("What share did the backstop take?", "method liquidations accounts usd percent")
def _() -> Rows:
    events = perps(DAY, NEXT)
    whole = usd(events) or D(0)
    found = [
        (method, len(e), accounts(e), cents(usd(e)), percent(usd(e) or D(0), whole))
        for method, e in by(events, lambda event: event.method).items()
    ]
    return largest_first(found, 3)


@answers(
    "Who was deleveraged, with the exchange's vaults and without?",
    "method is_vault fills losers winners notional_usd",
)
def _() -> Rows:
    found = by(trades(DAY, AFTER), lambda row: row.method)
    return [
        (
            method, method == "adl_of_vault", len(found[method]),
            len({row.account for row in found[method]}),
            len({row.counterparty for row in found[method]}),
            cents(total(row.notional for row in found[method])),
        )
        for method in ("adl_of_user", "adl_of_vault")
    ]  # fmt: skip


@answers("Who was closed although they were winning?", "account fills markets usd")
def _() -> Rows:
    rows = [row for row in trades(DAY, AFTER) if row.method.startswith("adl_")]
    found = [
        (account, len(of), len({row.coin for row in of}), cents(total(row.notional for row in of)))
        for account, of in by(rows, lambda row: row.counterparty).items()
    ]
    return sorted(found, key=lambda row: (-(row[3] or 0), row[0]))[:6]


@answers("How often was the whole position closed?", "method orders closed percent unknown")
def _() -> Rows:
    rows = [row for row in trades(DAY, AFTER) if row.method != "adl_of_vault"]
    orders = by(rows, lambda row: (row.account, row.coin, row.oid)).values()
    by_method = by(orders, lambda order: order[0].method)
    found = []
    for method in sorted(by_method):
        closed = sum(any(row.position_after == 0 for row in order) for order in by_method[method])
        orders_of = len(by_method[method])
        found.append((method, orders_of, closed, percent(D(closed), D(orders_of), "0.1"), 0))
    return found


@answers("What share had markets that anybody may deploy?", "dex quote liquidations usd percent")
def _() -> Rows:
    rows = [row for row in trades(DAY, AFTER) if row.method in STRICT]
    whole = total(row.notional for row in rows) or D(0)
    found = [
        (dex or "main", quote, len(of), cents(total(row.notional for row in of)),
         percent(total(row.notional for row in of) or D(0), whole, "0.001"))
        for (dex, quote), of in by(rows, lambda row: (row.dex, row.quote)).items()
    ]  # fmt: skip
    return largest_first(found, 3)


@answers(
    "How far from the mark were positions closed?",
    "method liquidations at_fill at_mark cost_in_basis_points",
)
def _() -> Rows:
    rows = [row for row in trades(DAY, AFTER) if row.method != "adl_of_vault"]
    found = []
    for method, of in sorted(by(rows, lambda row: row.method).items()):
        marked = [row for row in of if row.notional_mark is not None]
        fill = sum((row.notional for row in marked), D(0))
        mark = sum((row.notional_mark or D(0) for row in marked), D(0))
        lost = sum(
            ((row.notional_mark or D(0)) - row.notional) * (1 if row.side == "long" else -1)
            for row in marked
        )
        with localcontext(prec=60):
            points = cents(10_000 * lost / mark, "0.1")
        found.append((method, len(marked), cents(fill), cents(mark), points))
    return found


@answers("Who liquidates the most?", "liquidator venues actions accounts usd")
def _() -> Rows:
    found = []
    for bot in BOTS:
        of = [x for x in kept(DAY, AFTER) if bot == x.liquidator != x.account]
        money = cents(total(loan.repaid for loan in of if loan.is_priced))
        venues = sorted({loan.venue for loan in of})
        found.append((bot, venues, len(of), len({loan.account for loan in of}), money))
    rows = [row for row in trades(DAY, AFTER) if row.method in ("backstop", "borrow_backstop")]
    for vault, taken in by(rows, lambda row: row.counterparty).items():
        actions = {(row.account, row.hash) for row in taken}
        every = [row for row in trades(DAY, AFTER) if (row.account, row.hash) in actions]
        money = cents(total(row.notional for row in every))
        people = len({row.account for row in taken})
        found.append((vault, ["hyperliquid"], len(actions), people, money))
    return sorted(found, key=lambda row: (-row[2], row[0]))


# -- loans


def _file(loan: Loan) -> tuple[Decimal, Decimal]:
    """Debt and collateral at the prices of the file."""
    debt, collateral = (replace(t, usd=FILE_USD[t]) for t in (loan.debt, loan.collateral))
    return debt.worth(loan.repaid_raw), collateral.worth(loan.seized_raw)


class Worth(NamedTuple):
    """Dollars of a loan, each from its best source."""

    repaid: Decimal
    seized: Decimal
    bonus: Decimal | None
    bad_debt: Decimal | None


def worth(loan: Loan) -> Worth:
    """The oracle's, or the file's where the oracle is silent."""
    bad_debt = loan.bad_debt if loan.bad_debt_raw else None
    if not loan.is_priced:
        repaid, seized = _file(loan)
        bad = replace(loan.debt, usd=FILE_USD[loan.debt]).worth(loan.bad_debt_raw)
        return Worth(repaid, seized, seized - repaid, bad)
    is_absorbed = loan.venue.startswith("comet")
    bonus = None if is_absorbed else loan.seized - loan.repaid
    lost = loan.seized + loan.collateral.worth(loan.fee_raw or 0)
    return Worth(loan.repaid, lost, bonus, bad_debt)


@answers(
    "What was repaid, seized, and left as a bonus, by protocol and chain?",
    "protocol chain liquidations accounts repaid_usd seized_usd bonus_usd bad_debt_usd",
)
def _() -> Rows:
    found = []
    for venue, of in by(kept(DAY, NEXT), lambda loan: loan.venue).items():
        money = (cents(total(column)) for column in zip(*map(worth, of), strict=True))
        people = len({loan.account for loan in of})
        found.append((*venue.split("."), len(of), people, *money))
    return largest_first(found, 4)


@answers("Who was left with bad debt?", "block_at venue account liquidator bad_debt symbol usd")
def _() -> Rows:
    found = []
    for loan in kept(DAY, AFTER):
        if loan.bad_debt_raw:
            debt = cents(D(loan.bad_debt_raw).scaleb(-loan.debt.decimals))
            who = (loan.at, loan.venue, loan.account, loan.liquidator)
            found.append((*who, debt, loan.debt.symbol, cents(worth(loan).bad_debt)))
    return largest_first(found, 6)


@answers(
    "What does bad debt add up to, under a definition?",
    "section name usd records accounts unvalued",
)
def _() -> Rows:
    of = [loan for loan in kept(DAY, NEXT) if loan.bad_debt_raw or not loan.is_priced]
    found = [_bad("total", "all", of)]
    venues = by(of, lambda loan: loan.venue).items()
    return [*found, *largest_first([_bad("venue", *venue) for venue in venues], 2)]


def _bad(section: str, name: str, of: list[Loan]) -> tuple[Any, ...]:
    known = [loan for loan in of if loan.is_priced]
    people = len({(loan.venue, loan.account) for loan in of})
    money = cents(total(loan.bad_debt for loan in known))
    return section, name, money, len(of), people, len(of) - len(known)


@answers(
    "Which debt against which collateral?",
    "debt collateral side liquidations repaid seized repaid_usd",
)
def _() -> Rows:
    found = []
    pairs = by(kept(DAY, NEXT), lambda loan: (loan.debt.symbol, loan.collateral.symbol))
    for pair, of in pairs.items():
        repaid = sum((D(x.repaid_raw).scaleb(-x.debt.decimals) for x in of), D(0))
        with localcontext(prec=60):
            seized = sum((D(x.seized_raw).scaleb(-x.collateral.decimals) for x in of), D(0))
        money = total(loan.repaid for loan in of if loan.is_priced)
        amounts = (cents(repaid), cents(seized, "0.0001"), cents(money))
        found.append((*pair, "long", len(of), *amounts))
    return largest_first(found, 6)


@answers("What did liquidators of loans earn?", "liquidator liquidations repaid_usd bonus_usd")
def _() -> Rows:
    found = []
    of_others = [loan for loan in kept(DAY, NEXT) if loan.liquidator != loan.account]
    for bot, of in by(of_others, lambda loan: loan.liquidator).items():
        worths = [worth(loan) for loan in of]
        money = (total(one.repaid for one in worths), total(one.bonus for one in worths))
        found.append((bot, len(of), *map(cents, money)))
    return largest_first(found, 3)


# -- what stands now


@answers(
    "Which whales are under water?",
    "account market side size entry_price mark_price unrealised_usd value_usd",
)
def _() -> Rows:
    rows = [_held(account, one) for account, of in world.held().items() for one in of]
    return sorted((row for row in rows if row[6] < 0), key=lambda row: row[6])


def _held(account: str, one: dict[str, str]) -> tuple[Any, ...]:
    size, value = D(one["szi"]), D(one["positionValue"])
    with localcontext(prec=60):
        mark = cents(value / abs(size))
    side = "long" if size > 0 else "short"
    money = D(one["unrealizedPnl"]), value
    return account, one["coin"], side, abs(size), cents(D(one["entryPx"])), mark, *money


@answers("Who is closest to liquidation?", "account market liquidation_price distance_percent")
def _() -> Rows:
    found = []
    for account, of in world.held().items():
        for one in of:
            if one["liquidationPx"] is not None:
                edge = D(one["liquidationPx"])
                with localcontext(prec=60):
                    mark = D(one["positionValue"]) / abs(D(one["szi"]))
                    distance = cents(100 * abs(mark - edge) / mark)
                found.append((account, one["coin"], edge, distance))
    return sorted(found, key=lambda row: row[3])


# -- can I believe it


@answers(
    "What of the day was read, and where are the holes?",
    "venue block_from block_to blocks after_at before_at",
)
def _() -> Rows:
    hole = world.UNREAD
    ends = (world.STARTED + minute * world.MINUTE for minute in (hole.start - 1, hole.stop))
    low, high, blocks = world.FIRST + hole.start, world.FIRST + hole.stop, len(hole)
    at = tuple(ends)
    return [(venue, low, high, blocks, *at) for venue in sorted(world.VENUES)]


@answers("What could not be priced, and why?", "venue basis price_source liquidations")
def _() -> Rows:
    silent = [loan for loan in kept(DAY, AFTER) if not loan.is_priced]
    unmarked = [row for row in trades(DAY, AFTER) if row.mark_price is None]
    bases = ("bad_debt", "bonus", "repaid", "seized", "seized_net")
    return [
        ("hyperliquid", "margin_lost", "par", _without_margin()),
        ("hyperliquid", "mark", "par", len(unmarked)),
        *(("morpho_blue.ethereum", basis, "oracle", len(silent)) for basis in bases),
    ]


def _without_margin() -> int:
    """Takeovers of several positions that share a margin, or closed against a winner: of some the
    equity is of more than one row."""
    return sum(row.method == "adl_of_user" for row in trades(DAY, AFTER))


@answers("How far apart are two sources?", "venue basis liquidations oracle_usd file_usd")
def _() -> Rows:
    found = []
    for venue in ("aave_v2.ethereum", "comet.ethereum"):
        of = [loan for loan in kept(DAY, AFTER) if loan.venue == venue]
        for basis, at in (("repaid", 0), ("seized", 1)):
            both = [x for x in of if (x.debt, x.collateral)[at] in FILE_USD]
            oracle = total((x.repaid, x.seized)[at] for x in both)
            file = total(_one_side(x, at) for x in both)
            found.append((venue, basis, len(both), cents(oracle), cents(file)))
    return found


def _one_side(loan: Loan, at: int) -> Decimal:
    token, raw = ((loan.debt, loan.repaid_raw), (loan.collateral, loan.seized_raw))[at]
    return replace(token, usd=FILE_USD[token]).worth(raw)


@answers("What looks wrong?", "rule venue account block_at")
def _() -> Rows:
    return [
        ("bonus", loan.venue, loan.account, loan.at)
        for loan in kept(DAY, AFTER)
        if loan.venue.startswith("aave") and loan.seized < loan.repaid * D("0.999")
    ]


@answers("What could not be decoded?", "venue events first_at wait_for_a_fact")
def _() -> Rows:
    return [("morpho_blue.ethereum", 1, world.STARTED + 40 * world.MINUTE, 1)]


@answers("Which contracts only look like a protocol?", "chain emitter events first_at")
def _() -> Rows:
    stranger = world.PLACES["ethereum"].stranger
    return [("ethereum", stranger, 2, world.STARTED + 41 * world.MINUTE)]


@answers(
    "What did a reorg take back?",
    "chain ancestor depth venue account block_at symbol repaid is_back",
)
def _() -> Rows:
    found = []
    for loan in loans():
        if loan.venue.endswith(".ethereum") and loan.minute >= world.GONE:
            what = (loan.venue, loan.account, loan.at, loan.debt.symbol)
            debt = cents(D(loan.repaid_raw).scaleb(-loan.debt.decimals))
            ancestor = world.FIRST + world.GONE - 1
            is_back = loan.minute > world.GONE
            found.append(("ethereum", ancestor, world.REPLACED, *what, debt, is_back))
    return sorted(found, key=lambda row: (row[3], row[4]))


@answers("What may still be taken back?", "venue account block_number usd")
def _() -> Rows:
    return [
        (loan.venue, loan.account, world.FIRST + loan.minute, cents(loan.repaid))
        for loan in kept(DAY, AFTER)
        if loan.minute > FINAL
    ]


@answers(
    "Which rows are behind a number, and where do they come from?", "account market method usd"
)
def _() -> Rows:
    rows = [row for row in trades(DAY, NEXT) if row.method == "backstop"]
    return largest_first(
        [(row.account, row.coin, row.method, cents(row.notional)) for row in rows], 3
    )[:5]
