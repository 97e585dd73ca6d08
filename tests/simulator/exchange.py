"""The exchange: a ledger of positions, and trades that print two fills and leave their truth."""

import itertools
import random
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, Decimal

from tests.simulator.config import Config
from tests.simulator.market import COINS, Coin, text
from tests.simulator.truth import (
    HOUSEKEEPING,
    LedgerLiquidation,
    Liquidation,
    Truth,
    Undecoded,
    moment,
)

ZERO = Decimal(0)
ZERO_HASH = "0x" + "00" * 32
FIRST_VAULT = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"
SECOND_VAULT = "0xb0a55f13d22f66e6d495ac98113841b2326e9540"
SECOND_VAULT_COINS = ("BTC", "ETH", "SOL", "XRP")
MAKING_VAULTS = (
    "0x010461c14e146ac35fe42271bdc1134ee31c703a",
    "0x31ca8395cf837de08b24da3f660e77761dfb974b",
)
PROTOCOL_VAULTS = (FIRST_VAULT, SECOND_VAULT, *MAKING_VAULTS)
DUST_COLLECTOR = "0x" + "e" * 40

TAKER_FEE = Decimal("0.00045")
MAKER_FEES = (Decimal("-0.00001"), Decimal("0"), Decimal("0.00015"))
HIP3_TAKER_FEE = Decimal("0.0009")
BUILDER_FEE = Decimal("0.0005")

Fill = dict[str, object]


@dataclass
class Block:
    number: int
    block_time_ns: int
    local_time_ns: int
    is_empty: bool
    events: list[tuple[str, Fill]] = field(default_factory=list)
    ledger_events: list[dict[str, object]] = field(default_factory=list)


@dataclass(frozen=True)
class Position:
    """Signed size and average entry; for spot coins the balance."""

    size: Decimal
    entry: Decimal


@dataclass(frozen=True)
class Order:
    """One side of a trade. `dir` and `fee_rate` are given where the exchange, not the ledger,
    decides them."""

    account: str
    oid: int
    is_taker: bool
    cloid: str | None = None
    twap_id: int | None = None
    builder: str | None = None
    dir: str | None = None
    fee_rate: Decimal | None = None


@dataclass(frozen=True)
class Forced:
    """What makes a trade a liquidation: `method` is ours, `node_method` is what the node prints
    (None: the object is left out)."""

    account: str
    method: str
    mark: Decimal
    node_method: str | None
    variant: str = ""
    truth: bool = True


@dataclass(frozen=True)
class Leg:
    order: Order
    is_buy: bool
    fill: Fill
    start: Decimal
    after: Decimal
    fee: Decimal
    closed_pnl: Decimal


@dataclass
class Exchange:
    config: Config
    rng: random.Random
    truth: Truth
    block: Block = field(default_factory=lambda: Block(0, 0, 0, True))
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    marks: dict[str, Decimal] = field(
        default_factory=lambda: {name: coin.price for name, coin in COINS.items()}
    )
    makers: list[str] = field(default_factory=list)
    retail: list[str] = field(default_factory=list)
    has_second_vault: bool = False
    _next_oid: int = 214_106_928_179
    _next_twap: int = 1_306_590
    _next_action: int = 0
    _tids: set[int] = field(default_factory=set)

    # -- identities

    def new_account(self) -> str:
        return "0x" + self.rng.randbytes(20).hex()

    def open_block(self, block: Block) -> None:
        self.block = block
        self._next_action = 0

    def new_hash(self, block_number: int | None = None) -> str:
        """The hash of the block's next action, laid out as the chain does."""
        sequence, self._next_action = self._next_action, self._next_action + self._step(9)
        sub_action = 1 if self.rng.random() < 0.02 else 0
        head = (
            self.rng.randbytes(10)
            + bytes([4])
            + (block_number or self.block.number).to_bytes(4, "big")
            + _prefixed(sequence)
            + _prefixed(sub_action)
        )
        return "0x" + (head + self.rng.randbytes(32 - len(head))).hex()

    def order(self, account: str, is_taker: bool, **more: object) -> Order:
        self._next_oid += self._step(40)
        return Order(account, self._next_oid, is_taker, **more)

    def new_twap(self) -> int:
        self._next_twap += self._step(3)
        return self._next_twap

    def new_cloid(self) -> str:
        """Most makers count up, a few draw their ids."""
        if self.rng.random() < 0.15:
            return "0x" + self.rng.randbytes(16).hex()
        return f"0x20251027{self._next_oid % 10_000_000:024d}"

    def _step(self, most: int) -> int:
        return 1 + self.rng.randrange(most)

    def _new_tid(self) -> int:
        tid = 1 + self.rng.getrandbits(50) % (2**50 - 1)
        while tid in self._tids:
            tid = 1 + self.rng.getrandbits(50) % (2**50 - 1)
        self._tids.add(tid)
        return tid

    # -- the ledger

    def position(self, account: str, coin: str) -> Decimal:
        found = self.positions.get((account, coin))
        return found.size if found else ZERO

    def held(self, account: str) -> list[str]:
        """Coins of the account's perpetual positions."""
        return [
            coin
            for (owner, coin), position in self.positions.items()
            if owner == account and position.size and COINS[coin].is_perp
        ]

    def holders(self, coin: str, is_long: bool, but: tuple[str, ...] = ()) -> list[str]:
        """Accounts on one side of a coin, largest first."""
        found = [
            (-abs(position.size), account)
            for (account, name), position in self.positions.items()
            if name == coin and position.size and (position.size > 0) == is_long
        ]
        return [account for _, account in sorted(found) if account not in but]

    def shock(self, coin: str, percent: str) -> None:
        """Move the mark."""
        moved = self.marks[coin] * (100 + Decimal(percent)) / 100
        self.marks[coin] = COINS[coin].round_price(moved)

    def drift(self, coin: str) -> None:
        """A small step at random, drawn back towards the price of the start."""
        market, mark = COINS[coin], self.marks[coin]
        back = (market.price - mark) / 50
        step = mark * (self.rng.randrange(-40, 41)) / 100_000
        self.marks[coin] = max(market.tick, market.round_price(mark + step + back))

    def near_mark(self, coin: str, is_buy: bool, worse_ticks: int) -> Decimal:
        ticks = self.rng.randrange(-1, worse_ticks + 1)
        return self.marks[coin] + COINS[coin].tick * (ticks if is_buy else -ticks)

    # -- trades

    def trade(
        self,
        coin: str,
        price: Decimal,
        size: Decimal,
        buyer: Order,
        seller: Order,
        tx_hash: str,
        forced: Forced | None = None,
        fault: str | None = None,
    ) -> tuple[Leg, Leg]:
        """Print both legs, buyer first, move both positions, remember the truth."""
        market, tid = COINS[coin], self._new_tid()
        seller_size = size - market.lot if fault == "legs_disagree" else size
        bought = self._leg(market, price, size, buyer, True, tx_hash, tid, forced)
        sold = self._leg(market, price, seller_size, seller, False, tx_hash, tid, forced)
        for leg in (bought, sold):
            if fault == "missing_tid":
                del leg.fill["tid"]
            self.block.events.append((leg.order.account, leg.fill))
        if forced and forced.truth:
            self._remember(market, price, size, tid, tx_hash, bought, sold, forced)
        return bought, sold

    def dust(self, coin: str, size: Decimal, seller: Order) -> None:
        """A Spot Dust Conversion: the only one-legged fill; tid 0 and zero hash."""
        leg = self._leg(COINS[coin], self.marks[coin], size, seller, False, ZERO_HASH, 0, None)
        self.block.events.append((seller.account, leg.fill))

    def market_order(
        self,
        account: str,
        coin: str,
        is_buy: bool,
        size: Decimal,
        pieces: int = 1,
        forced: Forced | None = None,
        tx_hash: str | None = None,
        worse_ticks: int = 4,
        makers: list[Order] | None = None,
        fault: str | None = None,
        **taker_more: object,
    ) -> None:
        """One taker order into the book against `pieces` resting orders (or those given)."""
        maker_dir = None
        if forced and forced.method == "borrow_partial":
            maker_dir = "Buy"
        resting = makers or [
            self.order(
                self.rng.choice([maker for maker in self.makers if maker != account]),
                is_taker=False,
                cloid=self.new_cloid() if self.rng.random() < 0.5 else None,
                dir=maker_dir,
                fee_rate=self.rng.choice(MAKER_FEES),
            )
            for _ in range(pieces)
        ]
        taker = self.order(account, is_taker=True, **taker_more)
        tx_hash = tx_hash or self.new_hash()
        for maker, part in zip(resting, self.split(coin, size, len(resting)), strict=False):
            price = self.near_mark(coin, is_buy, worse_ticks)
            buyer, seller = (taker, maker) if is_buy else (maker, taker)
            self.trade(coin, price, part, buyer, seller, tx_hash, forced, fault)

    def split(self, coin: str, size: Decimal, pieces: int) -> list[Decimal]:
        """At most `pieces` random parts in lots that add up to `size`."""
        lots = int(size / COINS[coin].lot)
        cuts = sorted({self.rng.randrange(1, lots) for _ in range(pieces - 1)}) if lots > 1 else []
        edges = [0, *cuts, lots]
        return [(right - left) * COINS[coin].lot for left, right in itertools.pairwise(edges)]

    # -- the three ways to be liquidated

    def liquidate_on_book(
        self,
        account: str,
        coin: str,
        size: Decimal | None = None,
        pieces: int = 3,
        tx_hash: str | None = None,
        makers: list[Order] | None = None,
        node_method: str = "market",
        fault: str | None = None,
    ) -> None:
        """Method market: the account's own order takes what it finds; the whole if no size."""
        position = self.position(account, coin)
        forced = Forced(account, "market", self.marks[coin], node_method, truth=fault is None)
        self.market_order(
            account,
            coin,
            is_buy=position < 0,
            size=size or abs(position),
            pieces=pieces,
            forced=forced,
            tx_hash=tx_hash,
            worse_ticks=12,
            makers=makers,
            fault=fault,
        )

    def vault_for(self, coin: str) -> str:
        is_second = self.has_second_vault and coin in SECOND_VAULT_COINS
        return SECOND_VAULT if is_second else FIRST_VAULT

    def backstop(
        self,
        account: str,
        coins: list[str],
        leverage: str,
        equity: Decimal,
        liquidator: str | None = None,
    ) -> None:
        """The vault, or a dex's own `liquidator`, takes whole positions over at bankruptcy price,
        all under one hash.

        `equity` is the account value per unit of notional at mark, for example 0.011.
        """
        tx_hash = self.new_hash()
        before = [(coin, self.position(account, coin)) for coin in coins]
        for coin, size in before:
            mark = self.marks[coin]
            value = mark * abs(size) * equity
            price = COINS[coin].round_price(mark - value / size)
            vault = liquidator or self.vault_for(coin)
            direction = f"Liquidated {leverage} {'Long' if size > 0 else 'Short'}"
            victim = self.order(account, is_taker=False, dir=direction, fee_rate=ZERO)
            taker = self.order(vault, is_taker=True, dir=direction, fee_rate=ZERO)
            buyer, seller = (taker, victim) if size > 0 else (victim, taker)
            forced = Forced(account, "backstop", mark, "backstop")
            self.trade(coin, price, abs(size), buyer, seller, tx_hash, forced)
        self.write_ledger_liquidation(account, tx_hash, before, leverage, equity)

    def deleverage(
        self, account: str, coin: str, size: Decimal, leverage: str, winners: list[str]
    ) -> None:
        """ADL: winners, each for at most a third, are closed against the account near the mark."""
        start, mark, tx_hash = self.position(account, coin), self.marks[coin], self.new_hash()
        is_long = start > 0
        is_vault = account in PROTOCOL_VAULTS
        forced = Forced(account, "adl_of_vault" if is_vault else "adl_of_user", mark, "backstop")
        direction = f"Liquidated {leverage} {'Long' if is_long else 'Short'}"
        loser = self.order(account, is_taker=False, dir=direction, fee_rate=ZERO)
        price, left = self.near_mark(coin, not is_long, 3), size
        most = COINS[coin].round_size(size / 3)
        for name in winners:
            part = min(left, most, abs(self.position(name, coin)))
            winner = self.order(name, is_taker=True, dir="Auto-Deleveraging", fee_rate=ZERO)
            buyer, seller = (winner, loser) if is_long else (loser, winner)
            self.trade(coin, price, part, buyer, seller, tx_hash, forced)
            left -= part
            if not left:
                break
        if not is_vault:
            before = [(coin, start)]
            self.write_ledger_liquidation(account, tx_hash, before, leverage, Decimal("-0.0062"))

    # -- the ledger's own events

    def write_ledger_liquidation(
        self,
        account: str,
        tx_hash: str,
        positions: list[tuple[str, Decimal]],
        leverage: str,
        equity: Decimal,
    ) -> None:
        notional = sum((abs(size) * self.marks[coin] for coin, size in positions), ZERO)
        value = (notional * equity).quantize(Decimal("0.000001"), ROUND_DOWN)
        self.write_ledger_event(
            tx_hash,
            [account],
            {
                "type": "liquidation",
                "liquidatedNtlPos": text(notional),
                "accountValue": text(value),
                "leverageType": leverage,
                "liquidatedPositions": [
                    {"coin": coin, "szi": text(size)} for coin, size in positions
                ],
            },
        )
        self.truth.ledger_liquidations.append(
            LedgerLiquidation(
                account,
                tx_hash,
                self.block.number,
                moment(self.block.block_time_ns),
                value,
                leverage,
                notional,
                tuple(positions),
            )
        )

    def write_ledger_event(self, tx_hash: str, users: list[str], delta: dict[str, object]) -> None:
        self.block.ledger_events.append(
            {"hash": tx_hash, "inner": {"LedgerUpdate": {"users": users, "delta": delta}}}
        )

    # -- one fill

    def _leg(
        self,
        market: Coin,
        price: Decimal,
        size: Decimal,
        order: Order,
        is_buy: bool,
        tx_hash: str,
        tid: int,
        forced: Forced | None,
    ) -> Leg:
        position = self._before(market, order.account, size, is_buy)
        start = position.size
        after = start + size if is_buy else start - size
        fee, builder_fee = _fees(market, price, size, order, is_buy)
        moved, closed_pnl = _move(market, position, after, price)
        if not market.is_perp and is_buy:
            moved = replace(moved, size=after - fee)  # a spot buyer pays in what was bought
        self.positions[order.account, market.name] = moved
        printed = start if forced else self._print_start(start)
        fill: Fill = {
            "coin": market.name,
            "px": text(price),
            "sz": text(size),
            "side": "B" if is_buy else "A",
            "time": self.block.block_time_ns // 1_000_000,
            "startPosition": text(printed),
            "dir": order.dir or _direction(market, start, after, is_buy),
            "closedPnl": text(closed_pnl),
            "hash": tx_hash,
            "oid": order.oid,
            "crossed": order.is_taker,
            "fee": text(fee),
        }
        if builder_fee:
            fill["builderFee"] = text(builder_fee)
        fill["tid"] = tid
        if order.cloid:
            fill["cloid"] = order.cloid
        if forced and forced.node_method:
            fill["liquidation"] = {
                "liquidatedUser": forced.account,
                "markPx": text(forced.mark),
                "method": forced.node_method,
            }
        fill["feeToken"] = market.base if is_buy and market.base else market.quote
        if order.builder:
            fill["builder"] = order.builder
        fill["twapId"] = order.twap_id
        self.truth.count_leg(
            order.account,
            moment(self.block.block_time_ns),
            market.name,
            market.quote,
            market.is_perp and fill["dir"] not in HOUSEKEEPING,
            price,
            size,
            printed,
            printed + size if is_buy else printed - size,
            closed_pnl,
        )
        return Leg(order, is_buy, fill, start, after, fee, closed_pnl)

    def _before(self, market: Coin, account: str, size: Decimal, is_buy: bool) -> Position:
        key = (account, market.name)
        known = self.positions.get(key)
        if market.is_perp:
            return known or Position(ZERO, ZERO)
        if known is None or (not is_buy and known.size < size):
            # balances also change by transfers, which fills do not show
            grown = size * self._step(5) + Decimal(self.rng.randrange(10**10)).scaleb(-8)
            return Position(grown, self.marks[market.name])
        return known

    def _print_start(self, start: Decimal) -> Decimal:
        """Sometimes with the binary noise that the node's own numbers carry."""
        is_fractional = start != start.to_integral_value() and abs(start) > 100
        if is_fractional and self.rng.randrange(100) < self.config.noise_percent:
            return start + Decimal(self.rng.choice((-1, 1))).scaleb(-10)
        return start

    def _remember(
        self,
        market: Coin,
        price: Decimal,
        size: Decimal,
        tid: int,
        tx_hash: str,
        bought: Leg,
        sold: Leg,
        forced: Forced,
    ) -> None:
        is_long = sold.order.account == forced.account
        victim, other = (sold, bought) if is_long else (bought, sold)
        has_object = forced.node_method is not None
        row = Liquidation(
            block_number=self.block.number,
            block_time=moment(self.block.block_time_ns),
            coin=market.name,
            tid=tid,
            hash=tx_hash,
            oid=victim.order.oid,
            account=forced.account,
            counterparty=other.order.account,
            counterparty_oid=other.order.oid,
            method=forced.method,
            side="long" if is_long else "short",
            size=size,
            price=price,
            notional=price * size,
            mark_price=forced.mark if has_object else None,
            notional_mark=forced.mark * size if has_object else None,
            position_before=victim.start,
            position_after=victim.after,
            is_full_close=victim.after == 0,
            fee=victim.fee,
            fee_token=str(victim.fill["feeToken"]),
            realised_pnl=victim.closed_pnl,
            dir_liquidated=str(victim.fill["dir"]),
            dir_counterparty=str(other.fill["dir"]),
            dex=market.dex,
            quote=market.quote,
            variant=forced.variant,
        )
        (self.truth.liquidations if has_object else self.truth.without_object).append(row)

    def remember_fault(self, fault: str, first_event: int, accounts: tuple[str, str]) -> None:
        """Note each trade printed since `first_event` as one that cannot be decoded."""
        for _, fill in self.block.events[first_event::2]:
            self.truth.undecoded.append(
                Undecoded(
                    fault,
                    self.block.number,
                    str(fill["coin"]),
                    fill.get("tid"),
                    str(fill["hash"]),
                    *accounts,
                )
            )


def _prefixed(number: int) -> bytes:
    """A length byte and the number in as few bytes as it needs; nothing after it for zero."""
    length = (number.bit_length() + 7) // 8
    return bytes([length]) + number.to_bytes(length, "big")


def _direction(market: Coin, start: Decimal, after: Decimal, is_buy: bool) -> str:
    if not market.is_perp:
        return "Buy" if is_buy else "Sell"
    if is_buy:
        if start >= 0:
            return "Open Long"
        return "Close Short" if after <= 0 else "Short > Long"
    if start <= 0:
        return "Open Short"
    return "Close Long" if after >= 0 else "Long > Short"


def _move(
    market: Coin, position: Position, after: Decimal, price: Decimal
) -> tuple[Position, Decimal]:
    """The position after a trade, and the profit of the part it closed."""
    start = position.size
    if start == 0:
        return Position(after, price), ZERO
    is_same_side = (start > 0) == (after > 0) and after != 0
    if is_same_side and abs(after) > abs(start):
        entry = (abs(start) * position.entry + abs(after - start) * price) / abs(after)
        return Position(after, market.round_price(entry)), ZERO
    closed = start - after if is_same_side else start
    entry = position.entry if is_same_side else price
    return Position(after, entry), (price - position.entry) * closed


def _fees(
    market: Coin, price: Decimal, size: Decimal, order: Order, is_buy: bool
) -> tuple[Decimal, Decimal]:
    """Fee and the builder's part of it, cut as the node cuts: six places, spot tokens eight."""
    rate = order.fee_rate
    if rate is None:
        rate = HIP3_TAKER_FEE if market.dex else TAKER_FEE
    if not market.is_perp and is_buy:
        return (size * rate).quantize(Decimal("0.00000001"), ROUND_DOWN), ZERO
    cut = Decimal("0.000001")
    builder_fee = ZERO
    if order.builder and order.twap_id is None:
        builder_fee = (price * size * BUILDER_FEE).quantize(cut, ROUND_DOWN)
    return (price * size * rate).quantize(cut, ROUND_DOWN) + builder_fee, builder_fee
