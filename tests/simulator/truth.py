"""What really happened, counted while it happened and never read back from the files."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

EPISODE_GAP_S = 900
HOUSEKEEPING = ("Net Child Vaults", "Settlement", "Spot Dust Conversion")


def moment(time_ns: int) -> datetime:
    """Nanoseconds since 1970 as UTC, cut to microseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=rest // 1000)


@dataclass(frozen=True)
class Liquidation:
    """One liquidation trade. `variant` is empty, or says what is unusual about its shape."""

    block_number: int
    block_time: datetime
    coin: str
    tid: int
    hash: str
    oid: int
    account: str
    counterparty: str
    counterparty_oid: int
    method: str
    side: str
    size: Decimal
    price: Decimal
    notional: Decimal
    mark_price: Decimal | None
    notional_mark: Decimal | None
    position_before: Decimal
    position_after: Decimal
    is_full_close: bool
    fee: Decimal
    fee_token: str
    realised_pnl: Decimal
    dir_liquidated: str
    dir_counterparty: str
    dex: str
    quote: str
    variant: str = ""


@dataclass(frozen=True)
class Group:
    """Liquidation trades that belong together: an order, an account action or an episode."""

    key: tuple[str, ...]
    first_at: datetime
    last_at: datetime
    fills: int
    notional: Decimal
    notional_mark: Decimal
    methods: tuple[str, ...]
    coins: tuple[str, ...]


@dataclass(frozen=True)
class AccountDay:
    """`fills`, `volume`, `realised_pnl` and the largest position are of perpetual trades only.

    Spot, outcome and housekeeping legs are `other_fills`; spot and outcome count under USDC,
    the quote token of all pairs here. The largest position is in quote, at the fill's price.
    """

    account: str
    day: date
    quote: str
    fills: int
    other_fills: int
    volume: Decimal
    realised_pnl: Decimal
    largest_position: Decimal
    largest_position_market: str


@dataclass(frozen=True)
class LedgerLiquidation:
    account: str
    hash: str
    block_number: int
    time: datetime
    account_value: Decimal
    leverage_type: str
    liquidated_ntl: Decimal
    positions: tuple[tuple[str, Decimal], ...]


@dataclass(frozen=True)
class Undecoded:
    """A planted fault; its two accounts do nothing else in the simulation."""

    fault: str
    block_number: int
    coin: str
    tid: int | None
    hash: str
    account: str
    counterparty: str


@dataclass(frozen=True)
class Blocks:
    first: int
    last: int
    first_at: datetime
    last_at: datetime
    count: int
    empty: int


@dataclass(frozen=True)
class Whales:
    """Accounts that must be found, protocol vaults taken out; episodes in quote units."""

    episode_1m: frozenset[str]
    episode_10m: frozenset[str]
    episode_100m: frozenset[str]
    position_10m: frozenset[str]


@dataclass
class Truth:
    protocol_vaults: tuple[str, ...]
    liquidations: list[Liquidation] = field(default_factory=list)
    without_object: list[Liquidation] = field(default_factory=list)
    ledger_liquidations: list[LedgerLiquidation] = field(default_factory=list)
    undecoded: list[Undecoded] = field(default_factory=list)
    blocks: Blocks | None = None
    fills: int = 0
    makers: tuple[str, ...] = ()  # whose orders rest in the book, protocol vaults taken out
    sub_accounts: dict[str, str] = field(default_factory=dict)  # each with its master
    user_vaults: dict[str, str] = field(default_factory=dict)  # each with its leader
    market_makers: set[str] = field(default_factory=set)  # on both sides, in thirty markets
    _days: dict[tuple[str, date, str], AccountDay] = field(default_factory=dict)

    @property
    def of_users(self) -> list[Liquidation]:
        """All but the vault's own deleveraging, which is no user's liquidation."""
        return [row for row in self.liquidations if row.method != "adl_of_vault"]

    @property
    def orders(self) -> list[Group]:
        """Of users, by (account, coin, oid)."""
        return grouped(self.of_users, lambda row: (row.account, row.coin, str(row.oid)))

    @property
    def actions(self) -> list[Group]:
        """Of users, by (account, hash)."""
        return grouped(self.of_users, lambda row: (row.account, row.hash))

    @property
    def episodes(self) -> list[Group]:
        """Of users, by (account, dex), cut where nothing happens for more than 900 s."""
        return episodes(self.of_users, EPISODE_GAP_S)

    @property
    def account_days(self) -> list[AccountDay]:
        return [self._days[key] for key in sorted(self._days)]

    @property
    def whales(self) -> Whales:
        def liquidated(least: int) -> frozenset[str]:
            return frozenset(group.key[0] for group in self.episodes if group.notional >= least)

        large = {day.account for day in self.account_days if day.largest_position >= 10_000_000}
        return Whales(
            liquidated(1_000_000),
            liquidated(10_000_000),
            liquidated(100_000_000),
            frozenset(large.difference(self.protocol_vaults)),
        )

    @property
    def takeovers(self) -> list[tuple[datetime, str, str, str]]:
        """Actions in which somebody took positions over: time, who, whose, hash."""
        return sorted(
            {
                (row.block_time, row.counterparty, row.account, row.hash)
                for row in (*self.liquidations, *self.without_object)
                if row.method in ("backstop", "borrow_backstop")
            }
        )

    @property
    def adl_winners(self) -> frozenset[str]:
        """Who was closed against a losing account or vault."""
        return frozenset(
            row.counterparty for row in self.liquidations if row.method.startswith("adl_of_")
        )

    def count_leg(
        self,
        account: str,
        at: datetime,
        coin: str,
        quote: str,
        is_perp_trade: bool,
        price: Decimal,
        size: Decimal,
        start: Decimal,
        after: Decimal,
        closed_pnl: Decimal,
    ) -> None:
        """Add one printed fill to its account's day."""
        self.fills += 1
        key = (account, at.date(), quote)
        zero = Decimal(0)
        day = self._days.get(key) or AccountDay(*key, 0, 0, zero, zero, zero, "")
        if not is_perp_trade:
            self._days[key] = AccountDay(
                *key,
                day.fills,
                day.other_fills + 1,
                day.volume,
                day.realised_pnl,
                day.largest_position,
                day.largest_position_market,
            )
            return
        position = max(abs(start), abs(after)) * price
        is_larger = position > day.largest_position
        self._days[key] = AccountDay(
            *key,
            day.fills + 1,
            day.other_fills,
            day.volume + price * size,
            day.realised_pnl + closed_pnl,
            position if is_larger else day.largest_position,
            coin if is_larger else day.largest_position_market,
        )


def group(key: tuple[str, ...], rows: list[Liquidation]) -> Group:
    return Group(
        key,
        min(row.block_time for row in rows),
        max(row.block_time for row in rows),
        len(rows),
        sum((row.notional for row in rows), Decimal(0)),
        sum((row.notional_mark or Decimal(0) for row in rows), Decimal(0)),
        tuple(sorted({row.method for row in rows})),
        tuple(sorted({row.coin for row in rows})),
    )


def grouped(
    rows: Iterable[Liquidation], key: Callable[[Liquidation], tuple[str, ...]]
) -> list[Group]:
    """In order of first appearance."""
    found: dict[tuple[str, ...], list[Liquidation]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return [group(name, members) for name, members in found.items()]


def episodes(rows: Iterable[Liquidation], gap_s: int) -> list[Group]:
    """By (account, dex); a new one begins after more than `gap_s` without a liquidation."""
    open_ones: dict[tuple[str, str], list[Liquidation]] = {}
    closed: list[Group] = []
    for row in sorted(rows, key=lambda row: row.block_time):
        key = (row.account, row.dex)
        members = open_ones.setdefault(key, [])
        if members and row.block_time - members[-1].block_time > timedelta(seconds=gap_s):
            closed.append(group(key, members))
            members.clear()
        members.append(row)
    closed += [group(key, members) for key, members in open_ones.items()]
    return sorted(closed, key=lambda episode: (episode.first_at, episode.key))
