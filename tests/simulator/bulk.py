"""One big hour file for speed measurements: a gigabyte in about 20 s, truth included.

The file has the shape and the proportions of a busy hour: 363,000 lines and 2.46 million fills
a gigabyte, 29 % of the lines empty, liquidations together in 0.4 % of the lines. To be quick it
simplifies: every trade is a market order against one resting order on the main dex, nine of ten
forced ones are of method market, the closedPnl of a reducing fill is drawn rather than computed,
and the blocks are 9.9 ms apart so that a gigabyte fits into one hour. The startPosition chain
holds. Accounts are about as unequal as in 667 real blocks, where 50 of 731 have half of the legs.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import lz4.frame

from tests.simulator.write import iso

BLOCK_INTERVAL_NS = 9_900_000
EMPTY_SHARE = 0.29
# Lines that hold liquidations, per liquidation trade: 0.4 % of lines hold 0.5 % of trades.
LIQUIDATIONS_A_LINE = 4
USERS = 20_000
MAKERS = 400
FLUSH_BYTES = 4_000_000
TID_FACTOR = 0x2545F4914F6CDD | 1  # odd, so that numbers below 2**50 map one to one
ZERO_HASH = "0x" + "0" * 64
VAULT = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"

# Coin, price in ticks, decimals of the price. Sizes have one fraction digit everywhere.
COINS = (
    ("BTC", 114_321, 0),
    ("ETH", 42_159, 1),
    ("SOL", 20_137, 2),
    ("HYPE", 47_291, 3),
    ("XRP", 26_431, 4),
    ("DOGE", 20_484, 5),
    ("AVAX", 20_175, 3),
    ("WLFI", 15_327, 5),
    ("FARTCOIN", 40_213, 5),
    ("kPEPE", 7_124, 6),
    ("PUMP", 4_513, 6),
    ("ENA", 47_121, 5),
)


@dataclass(frozen=True)
class BulkTruth:
    """`notional` is the sum of price x size over liquidation trades, `volume` over all legs."""

    bytes: int
    lines: int
    first_block: int
    last_block: int
    fills: int
    liquidations: int
    liquidations_by_method: dict[str, int]
    liquidation_lines: int
    notional: Decimal
    volume: Decimal
    users: int


def write_hour(
    path: Path,
    target_bytes: int,
    liquidation_share: float = 0.005,
    seed: int = 1,
    start: datetime = datetime(2025, 10, 10, 21, 0, 0, tzinfo=UTC),
    first_block: int = 758_790_000,
) -> BulkTruth:
    """Write lines until `target_bytes` before compression; `.lz4` only if the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = _Writer(seed, liquidation_share, start, first_block)
    if path.suffix == ".lz4":
        with lz4.frame.open(path, "wb", compression_level=0) as stream:
            writer.write(stream, target_bytes)
    else:
        with path.open("wb") as stream:
            writer.write(stream, target_bytes)
    return writer.truth()


class _Writer:
    def __init__(self, seed: int, share: float, start: datetime, first_block: int) -> None:
        self.rng = random.Random(seed)
        self.share = share
        self.block = self.first_block = first_block
        self.time_ns = int(start.timestamp()) * 1_000_000_000 - 240_000_000
        self.users = ["0x" + self.rng.randbytes(20).hex() for _ in range(USERS)]
        self.prices = [_prices(ticks, decimals) for _, ticks, decimals in COINS]
        self.sizes = [_sizes(ticks, decimals) for _, ticks, decimals in COINS]
        self.positions: dict[tuple[int, int], int] = {}
        self.vault: dict[int, int] = {}
        self.oid = 194_018_286_846
        self.tid = self.bytes = self.lines = self.liquidation_lines = 0
        self.trades = 0
        self.methods = {"market": 0, "backstop": 0}
        # sums in the smallest units: ticks x tenths, a coin each
        self.volumes = [0] * len(COINS)
        self.notionals = [0] * len(COINS)

    def write(self, stream: BinaryIO, target_bytes: int) -> None:
        waiting: list[str] = []
        size = 0
        while self.bytes + size < target_bytes:
            line = self._line()
            waiting.append(line)
            size += len(line)
            if size >= FLUSH_BYTES:
                self._flush(stream, waiting)
                size = 0
        self._flush(stream, waiting)

    def _flush(self, stream: BinaryIO, waiting: list[str]) -> None:
        data = "".join(waiting).encode()
        stream.write(data)
        self.bytes += len(data)
        waiting.clear()

    def _line(self) -> str:
        rng, number = self.rng, self.block
        self.block += 1
        self.lines += 1
        self.time_ns += BLOCK_INTERVAL_NS
        head = (
            f'{{"local_time":"{iso(self.time_ns + 250_000_000 + rng.randrange(4_000_000))}",'
            f'"block_time":"{iso(self.time_ns)}","block_number":{number},"events":['
        )
        drawn = rng.random()
        if drawn < EMPTY_SHARE:
            return head + "]}\n"
        trades = 1 + int(rng.expovariate(0.233))
        # an ordinary line has 4.8 trades on 71 % of the lines: 3.4 a line
        forced = 0
        if rng.random() * (1 - EMPTY_SHARE) * LIQUIDATIONS_A_LINE < self.share * 3.4:
            forced = 1 + rng.randrange(2 * LIQUIDATIONS_A_LINE - 1)
            self.liquidation_lines += 1
        action = -1
        events = []
        for index in range(max(trades, forced)):
            action += 1 + rng.getrandbits(3)
            events.append(self._trade(number, action, index < forced))
        return head + ",".join(events) + "]}\n"

    def _trade(self, block: int, action: int, is_forced: bool) -> str:
        rng = self.rng
        coin = int(rng.random() ** 2 * len(COINS))
        user = self._taker()
        key = (user, coin)
        unit, most = self.sizes[coin]
        size = 1 + int(rng.paretovariate(0.9) * unit) % most
        is_buy = rng.getrandbits(1)
        method = "market"
        if is_forced:
            # the busy accounts are no victims, and a flat account has nothing to liquidate
            while user < MAKERS or self.positions.get(key) == 0:
                user = MAKERS + rng.randrange(USERS - MAKERS)
                key = (user, coin)
            # an account not seen before comes with a position
            size = abs(self.positions.setdefault(key, -size if is_buy else size))
            is_buy = 1 if self.positions[key] < 0 else 0
            method = "market" if rng.random() < 0.9 else "backstop"
            self.methods[method] += 1
        ticks, price = self.prices[coin][rng.getrandbits(8)]
        self.volumes[coin] += 2 * ticks * size
        if is_forced:
            self.notionals[coin] += ticks * size
        self.trades += 1
        self.tid += 1
        self.oid += 2
        sequence = f"{action:x}"
        sequence = sequence if len(sequence) % 2 == 0 else "0" + sequence
        tail = "00" if action == 0 else f"{len(sequence) // 2:02x}{sequence}"
        tx_hash = f"{rng.getrandbits(80):020x}04{block:08x}{tail}00"
        tx_hash += f"{rng.getrandbits(136):034x}"[: 64 - len(tx_hash)]
        tid = self.tid * TID_FACTOR % 2**50
        twap, twap_hash = "null", None
        if not is_forced and rng.random() < 0.11:
            twap, twap_hash = str(1_306_590 + self.tid % 500), ZERO_HASH
        common = (
            f'"hash":"{twap_hash or "0x" + tx_hash}","oid":',
            f'"tid":{tid},',
        )
        forced_text = ""
        if is_forced:
            forced_text = (
                f'"liquidation":{{"liquidatedUser":"{self.users[user]}",'
                f'"markPx":"{price}","method":"{method}"}},'
            )
        head = f'{{"coin":"{COINS[coin][0]}","px":"{price}","sz":"{size // 10}.{size % 10}",'
        direction = None
        if method == "backstop":
            direction = f"Liquidated Cross {'Short' if is_buy else 'Long'}"
            other = self._vault_leg(coin, size, not is_buy, head, common, forced_text, direction)
        else:
            other = self._maker_leg(user, coin, size, not is_buy, head, common, forced_text)
        before = self.positions.get(key, 0)
        after = self.positions[key] = before + size if is_buy else before - size
        is_free = method == "backstop"
        fee = "0.0" if is_free else f"0.{rng.getrandbits(19) * 10 + 7:07d}"[:8].rstrip("0")
        own = _leg(
            self.users[user],
            head,
            is_buy,
            self.time_ns // 1_000_000,
            before,
            direction or _direction(before, after, is_buy),
            "0.0" if abs(after) > abs(before) else f"{rng.getrandbits(9)}.{rng.getrandbits(12)}3",
            common,
            self.oid,
            "false" if is_free else "true",
            fee if fee != "0." else "0.0",
            "",
            forced_text,
            twap,
        )
        return f"{own},{other}" if is_buy else f"{other},{own}"

    def _taker(self) -> int:
        """Three of five market orders come from the accounts that also make the market."""
        if self.rng.random() < 0.6:
            return _busy(self.rng, 5, MAKERS)
        return MAKERS + _busy(self.rng, 50, USERS - MAKERS)

    def _maker_leg(
        self,
        taker: int,
        coin: int,
        size: int,
        is_buy: bool,
        head: str,
        common: tuple[str, str],
        forced: str,
    ) -> str:
        rng = self.rng
        maker = _busy(rng, 5, MAKERS)
        maker = (maker + 1) % MAKERS if maker == taker else maker  # no trade with oneself
        before = self.positions.get((maker, coin), 0)
        after = self.positions[maker, coin] = before + size if is_buy else before - size
        cloid = f'"cloid":"0x{rng.getrandbits(128):032x}",' if maker & 1 else ""
        return _leg(
            self.users[maker],
            head,
            is_buy,
            self.time_ns // 1_000_000,
            before,
            _direction(before, after, is_buy),
            "0.0" if abs(after) > abs(before) else f"-{rng.getrandbits(7)}.{rng.getrandbits(12)}9",
            common,
            self.oid - 1 - rng.getrandbits(20) * 2,
            "false",
            f"-0.0{1 + rng.getrandbits(12) * 10}",
            cloid,
            forced,
            "null",
        )

    def _vault_leg(
        self,
        coin: int,
        size: int,
        is_buy: bool,
        head: str,
        common: tuple[str, str],
        forced: str,
        direction: str,
    ) -> str:
        before = self.vault.get(coin, 0)
        self.vault[coin] = before + size if is_buy else before - size
        return _leg(
            VAULT,
            head,
            is_buy,
            self.time_ns // 1_000_000,
            before,
            direction,
            "0.0",
            common,
            self.oid - 1,
            "true",
            "0.0",
            "",
            forced,
            "null",
        )

    def truth(self) -> BulkTruth:
        return BulkTruth(
            bytes=self.bytes,
            lines=self.lines,
            first_block=self.first_block,
            last_block=self.block - 1,
            fills=2 * self.trades,
            liquidations=sum(self.methods.values()),
            liquidations_by_method=dict(self.methods),
            liquidation_lines=self.liquidation_lines,
            notional=_in_quote(self.notionals),
            volume=_in_quote(self.volumes),
            users=len({user for user, _ in self.positions}) + (1 if self.vault else 0),
        )


def _busy(rng: random.Random, flat: int, count: int) -> int:
    """A rank below `count`, the chance of which falls as 1 / (rank + flat)."""
    return min(int(flat * ((1 + count / flat) ** rng.random() - 1)), count - 1)


def _prices(ticks: int, decimals: int) -> list[tuple[int, str]]:
    """256 prices within 2 % of `ticks`, none of which ends in a zero that would be cut."""
    found = []
    for index in range(256):
        value = ticks - ticks // 50 + index * max(1, ticks // 6400)
        value += value % 10 == 0
        if decimals == 0:
            found.append((value, f"{value}.0"))
        else:
            whole, rest = divmod(value, 10**decimals)
            found.append((value, f"{whole}.{rest:0{decimals}d}"))
    return found


def _sizes(ticks: int, decimals: int) -> tuple[int, int]:
    """In tenths: about 30 and at most about 200,000 in quote."""
    return max(1, 300 * 10**decimals // ticks), max(3, 2_000_000 * 10**decimals // ticks)


def _in_quote(sums: list[int]) -> Decimal:
    return sum(
        (
            Decimal(total).scaleb(-decimals - 1)
            for total, (_, _, decimals) in zip(sums, COINS, strict=True)
        ),
        Decimal(0),
    )


def _direction(before: int, after: int, is_buy: int) -> str:
    if is_buy:
        if before >= 0:
            return "Open Long"
        return "Close Short" if after <= 0 else "Short > Long"
    if before <= 0:
        return "Open Short"
    return "Close Long" if after >= 0 else "Long > Short"


def _leg(
    account: str,
    head: str,
    is_buy: int,
    time_ms: int,
    before: int,
    direction: str,
    closed_pnl: str,
    common: tuple[str, str],
    oid: int,
    crossed: str,
    fee: str,
    cloid: str,
    forced: str,
    twap: str,
) -> str:
    sign = "-" if before < 0 else ""
    whole, tenth = divmod(abs(before), 10)
    return (
        f'["{account}",{head}"side":"{"B" if is_buy else "A"}","time":{time_ms},'
        f'"startPosition":"{sign}{whole}.{tenth}","dir":"{direction}",'
        f'"closedPnl":"{closed_pnl}",{common[0]}{oid},"crossed":{crossed},"fee":"{fee}",'
        f'{common[1]}{cloid}{forced}"feeToken":"USDC","twapId":{twap}}}]'
    )
