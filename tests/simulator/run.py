"""Blocks one after the other: stories that are due, and ordinary trading around them."""

import heapq
import random
from dataclasses import dataclass
from decimal import Decimal

from tests.simulator import stories
from tests.simulator.config import Config
from tests.simulator.exchange import (
    MAKING_VAULTS,
    PROTOCOL_VAULTS,
    ZERO_HASH,
    Block,
    Exchange,
    Position,
)
from tests.simulator.market import COINS
from tests.simulator.truth import Blocks, Truth, moment

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Simulation:
    config: Config
    blocks: list[Block]
    truth: Truth


def simulate(config: Config) -> Simulation:
    """Raises ValueError when the blocks end before a story does."""
    rng = random.Random(config.seed)
    exchange = Exchange(config, rng, Truth(PROTOCOL_VAULTS))
    populate(exchange)
    exchange.truth.makers = tuple(set_apart(exchange.makers))
    blocks = new_blocks(config, rng)
    waiting = first_calls(exchange, blocks)
    for block in blocks:
        exchange.open_block(block)
        if not block.is_empty:
            background(exchange)
            waiting = advance(waiting, block.block_time_ns)
        ledger_noise(exchange)
    if waiting:
        unfinished = ", ".join(sorted(name for _, name, _ in waiting))
        raise ValueError(f"the blocks ended before these stories: {unfinished}")
    exchange.truth.blocks = Blocks(
        blocks[0].number,
        blocks[-1].number,
        moment(blocks[0].block_time_ns),
        moment(blocks[-1].block_time_ns),
        len(blocks),
        sum(not block.events for block in blocks),
    )
    return Simulation(config, blocks, exchange.truth)


# -- time


def new_blocks(config: Config, rng: random.Random) -> list[Block]:
    """Every height once; the node's clock trails by 0.15 to 1.55 s and never runs back."""
    interval_ns = config.block_interval_ms * 1_000_000
    start_ns = int(config.start.timestamp()) * SECOND_NS
    blocks, last_local_ns = [], 0
    for index in range(config.blocks):
        at_ns = start_ns + interval_ns * index + rng.randrange(interval_ns * 3 // 5)
        lag_ns = 150_000_000 + rng.randrange(320_000_000)
        if rng.random() < 0.01:
            lag_ns += rng.randrange(1_050_000_000)
        last_local_ns = max(at_ns + lag_ns, last_local_ns + 1_000 + rng.randrange(9_000))
        is_empty = rng.randrange(100) < config.empty_percent
        blocks.append(Block(config.first_block + index, at_ns, last_local_ns, is_empty))
    return blocks


Waiting = list[tuple[int, str, stories.Story]]


def first_calls(exchange: Exchange, blocks: list[Block]) -> Waiting:
    names = exchange.config.stories + (("faults",) if exchange.config.faults else ())
    waiting: Waiting = []
    for name in names:
        percent, story = stories.BY_NAME[name]
        due_ns = blocks[len(blocks) * percent // 100].block_time_ns
        waiting.append((due_ns, name, story(exchange)))
    heapq.heapify(waiting)
    return waiting


def advance(waiting: Waiting, now_ns: int) -> Waiting:
    """Let every story that is due go on to its next wait."""
    while waiting and waiting[0][0] <= now_ns:
        _, name, story = heapq.heappop(waiting)
        seconds = next(story, None)
        if seconds is not None:
            heapq.heappush(waiting, (now_ns + max(1, seconds * SECOND_NS), name, story))
    return waiting


# -- ordinary trading


def populate(exchange: Exchange) -> None:
    """Makers with books in every coin, and traders some of whom hold a position already."""
    rng = exchange.rng
    exchange.makers = [*MAKING_VAULTS, *(exchange.new_account() for _ in range(7))]
    exchange.retail = [exchange.new_account() for _ in range(exchange.config.accounts)]
    for coin in COINS.values():
        for account in exchange.makers + exchange.retail:
            if not coin.weight:
                continue
            is_maker = account in exchange.makers
            if not coin.is_perp or (not is_maker and rng.random() < 0.8):
                continue
            notional = Decimal(rng.randrange(10, 400_000 if is_maker else 30_000))
            size = coin.round_size(notional / coin.price)
            position = Position(size if rng.random() < 0.5 else -size, coin.price)
            exchange.positions[account, coin.name] = position


def set_apart(accounts: list[str]) -> list[str]:
    """Without the exchange's own vaults."""
    return [account for account in accounts if account not in PROTOCOL_VAULTS]


def background(exchange: Exchange) -> None:
    """A few orders of ordinary accounts; one in nine is part of a TWAP and has no hash."""
    rng = exchange.rng
    names = list(COINS)
    weights = [COINS[name].weight for name in names]
    for _ in range(1 + rng.randrange(2 * exchange.config.trades_per_block - 1)):
        coin = rng.choices(names, weights)[0]
        exchange.drift(coin)
        account, is_buy = rng.choice(exchange.retail), rng.random() < 0.5
        magnitude = rng.choices((10, 100, 1_000, 10_000), (20, 40, 32, 8))[0]
        notional = Decimal(magnitude * rng.randrange(100, 600) // 100)
        size = COINS[coin].round_size(notional / exchange.marks[coin])
        pieces = rng.choices((1, 2, 3, 5), (60, 25, 10, 5))[0]
        if rng.random() < 0.11:
            twap = exchange.new_twap()
            exchange.market_order(
                account, coin, is_buy, size, pieces, tx_hash=ZERO_HASH, twap_id=twap
            )
        elif COINS[coin].is_perp and rng.random() < 0.06:
            builder = f"0x{'b1' if is_buy else 'b2'}" + "95" * 19
            exchange.market_order(account, coin, is_buy, size, pieces, builder=builder)
        else:
            exchange.market_order(account, coin, is_buy, size, pieces)


def ledger_noise(exchange: Exchange) -> None:
    """Deposits and transfers, whose hashes are not of the chain's layout."""
    rng = exchange.rng
    if rng.randrange(100) >= exchange.config.ledger_noise_percent:
        return
    usdc = f"{rng.randrange(5, 90_000)}.0"
    deltas: tuple[dict[str, object], ...] = (
        {"type": "deposit", "usdc": usdc},
        {"type": "accountClassTransfer", "usdc": usdc, "toPerp": rng.random() < 0.5},
        {"type": "withdraw", "usdc": usdc, "nonce": rng.getrandbits(40), "fee": "1.0"},
    )
    tx_hash = "0x" + (rng.randbytes(10) + bytes([255]) + rng.randbytes(21)).hex()
    exchange.write_ledger_event(tx_hash, [rng.choice(exchange.retail)], rng.choice(deltas))
