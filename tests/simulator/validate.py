"""Facts that the node's own lines obey; the same functions judge real and simulated files."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

ENVELOPE = ["local_time", "block_time", "block_number", "events"]
KEYS = [
    *("coin", "px", "sz", "side", "time", "startPosition", "dir", "closedPnl", "hash", "oid"),
    *("crossed", "fee", "builderFee", "tid", "cloid", "liquidation", "feeToken", "builder"),
    "twapId",
]
OPTIONAL = {"builderFee", "cloid", "liquidation", "builder"}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}")
NUMBER = re.compile(r"-?(0|[1-9]\d*)\.(0|\d*[1-9])")
ACCOUNT = re.compile(r"0x[0-9a-f]{40}")
ZERO_HASH = "0x" + "0" * 64
DUST = "Spot Dust Conversion"
DUST_COLLECTOR = "0x" + "e" * 40

Event = tuple[str, dict]


def violations(lines: Iterable[str], missing: frozenset[int] = frozenset()) -> list[str]:
    """What is wrong with consecutive `node_fills_by_block` lines; `missing` heights may lack."""
    judge = _Judge(missing)
    for line in lines:
        judge.judge(line)
    return judge.found


def nanoseconds(text: str) -> int:
    whole, fraction = text.split(".")
    at = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000_000_000 + int(fraction)


def action_of(tx_hash: str) -> tuple[int, int, int]:
    """Byte 10, block number and action sequence of a hash."""
    raw = bytes.fromhex(tx_hash[2:])
    length = raw[15]
    return raw[10], int.from_bytes(raw[11:15], "big"), int.from_bytes(raw[16 : 16 + length], "big")


def trades(events: list[Event]) -> Iterator[list[Event]]:
    """Neighbours two by two, dust alone."""
    start = 0
    while start < len(events):
        end = start + (1 if events[start][1]["dir"] == DUST else 2)
        yield events[start:end]
        start = end


@dataclass
class _Judge:
    missing: frozenset[int]
    found: list[str] = field(default_factory=list)
    number: int | None = None
    last_local: int = 0
    last_block_time: int = 0
    after: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    def expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self.found.append(f"block {self.number}: {what}")

    def judge(self, line: str) -> None:
        block = json.loads(line)
        before, self.number = self.number, block["block_number"]
        self.expect(json.dumps(block, separators=(",", ":")) == line.rstrip("\n"), "not compact")
        self.expect(list(block) == ENVELOPE, f"envelope {list(block)}")
        if before is not None:
            skipped = frozenset(range(before + 1, self.number))
            self.expect(self.number > before and skipped <= self.missing, "heights do not follow")
            if skipped:
                self.after.clear()
        self.judge_times(block)
        last_action = -1
        for legs in trades(block["events"]):
            last_action = self.judge_hash(legs, last_action)
            self.judge_legs(legs)
            for account, fill in legs:
                self.judge_fill(account, fill)

    def judge_times(self, block: dict) -> None:
        local, at = block["local_time"], block["block_time"]
        self.expect(bool(ISO.fullmatch(local) and ISO.fullmatch(at)), f"times {local} {at}")
        local_ns, at_ns = nanoseconds(local), nanoseconds(at)
        self.expect(100_000_000 < local_ns - at_ns < 1_600_000_000, "local_time does not trail")
        self.expect(local_ns > self.last_local, "local_time does not grow")
        self.expect(at_ns > self.last_block_time, "block_time does not grow")
        self.last_local, self.last_block_time = local_ns, at_ns

    def judge_hash(self, legs: list[Event], last_action: int) -> int:
        tx_hash = legs[0][1]["hash"]
        twaps = sum(fill["twapId"] is not None for _, fill in legs)
        is_dust = any(fill["dir"] == DUST or account == DUST_COLLECTOR for account, fill in legs)
        if tx_hash == ZERO_HASH:
            self.expect(twaps == 1 or is_dust, "zero hash without a TWAP or dust")
            return last_action
        mark, number, action = action_of(tx_hash)
        self.expect(twaps == 0, "TWAP with a hash")
        self.expect((mark, number) == (4, self.number), f"hash of block {number}, byte 10 {mark}")
        self.expect(action >= last_action, "actions out of order")
        return action

    def judge_legs(self, legs: list[Event]) -> None:
        if len(legs) == 1:
            fill = legs[0][1]
            self.expect((fill["dir"], fill["tid"]) == (DUST, 0), "one leg only")
            return
        buyer, seller = legs[0][1], legs[1][1]
        self.expect((buyer["side"], seller["side"]) == ("B", "A"), "not buyer first")
        for key in ("coin", "px", "sz", "time", "hash", "tid", "liquidation"):
            self.expect(buyer.get(key) == seller.get(key), f"legs differ in {key}")
        self.expect(buyer["crossed"] != seller["crossed"], "not one taker")
        self.expect(0 < buyer["tid"] < 2**50, f"tid {buyer['tid']}")
        if "liquidation" in buyer:
            self.judge_liquidation(legs, buyer["liquidation"])

    def judge_liquidation(self, legs: list[Event], mark: dict) -> None:
        own = [fill for account, fill in legs if account == mark["liquidatedUser"]]
        self.expect(list(mark) == ["liquidatedUser", "markPx", "method"], f"object {mark}")
        self.expect(len(own) == 1, "no leg of the liquidated user")
        other = next(fill for account, fill in legs if account != mark["liquidatedUser"])
        is_borrow = "Borrow Liquidation" in own[0]["dir"]
        if mark["method"] == "market" and not is_borrow:
            self.expect(own[0]["crossed"] and Decimal(own[0]["fee"]) > 0, "market: no taker fee")
            self.expect("cloid" not in own[0], "market: cloid on a forced order")
            closes = "Close Long" if own[0]["side"] == "A" else "Close Short"
            self.expect(own[0]["dir"] == closes, f"market: {own[0]['dir']}")
        elif not is_borrow:
            self.expect(not own[0]["crossed"] and own[0]["fee"] == "0.0", "backstop: taker, fee")
            allowed = (own[0]["dir"], "Auto-Deleveraging")
            self.expect(other["dir"] in allowed, f"backstop: {other['dir']}")
            kind = "Long" if own[0]["side"] == "A" else "Short"
            self.expect(own[0]["dir"].endswith(kind), f"backstop: {own[0]['dir']}")

    def judge_fill(self, account: str, fill: dict) -> None:
        self.expect(bool(ACCOUNT.fullmatch(account)), f"account {account}")
        present = [key for key in KEYS if key in fill]
        self.expect(list(fill) == present, f"keys {list(fill)}")
        self.expect(set(KEYS) - set(fill) <= OPTIONAL, f"keys {list(fill)}")
        self.expect(fill["time"] == self.last_block_time // 1_000_000, "time is not block_time")
        for key in ("px", "sz", "startPosition", "closedPnl", "fee"):
            self.expect(bool(NUMBER.fullmatch(fill[key])), f"{key} {fill[key]}")
        self.judge_chain(account, fill)

    def judge_chain(self, account: str, fill: dict) -> None:
        """Perpetual positions follow from fill to fill, but for binary noise."""
        coin = fill["coin"]
        if coin.startswith(("@", "#")) or "/" in coin:
            return
        start, size = Decimal(fill["startPosition"]), Decimal(fill["sz"])
        known = self.after.get((account, coin), start)
        self.expect(abs(known - start) < Decimal("0.000000001"), f"{coin}: {known} then {start}")
        self.after[account, coin] = start + size if fill["side"] == "B" else start - size
