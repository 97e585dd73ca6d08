"""The stories, each a generator over an `Exchange` that yields the seconds it waits.

A story goes on in the first block with events after its wait, so waits are at least as long.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

from tests.simulator.exchange import (
    DUST_COLLECTOR,
    FIRST_VAULT,
    MAKING_VAULTS,
    PROTOCOL_VAULTS,
    ZERO,
    ZERO_HASH,
    Exchange,
    Forced,
)
from tests.simulator.market import BROAD, COINS

Story = Iterator[int]
COOLDOWN_S = 31  # the exchange waits 30 s after the first fifth of a large position
LARGE_NOTIONAL = 100_000
FIRST_PART = Decimal("0.2")


def rare_shapes(ex: Exchange) -> Story:
    """A flip, self-trades, a TWAP, a builder's order and an outcome token."""
    flipper, trader = ex.new_account(), ex.new_account()
    ex.market_order(flipper, "SOL", True, Decimal("12.5"), pieces=2)
    ex.market_order(trader, "HYPE", True, Decimal("310.25"), cloid=ex.new_cloid())
    yield 3
    ex.market_order(flipper, "SOL", False, Decimal("31.25"), pieces=1)  # Long > Short
    for size in ("4.5", "0.75"):
        price = ex.marks["HYPE"]
        resting = ex.order(trader, is_taker=False, cloid=ex.new_cloid())
        taking = ex.order(trader, is_taker=True)
        ex.trade("HYPE", price, Decimal(size), taking, resting, ex.new_hash())
    yield 3
    ex.market_order(flipper, "SOL", True, Decimal("40.5"), pieces=1)  # Short > Long
    ex.market_order(trader, "#1890", True, Decimal(120), pieces=2, fee_rate=ZERO)
    ex.market_order(trader, "BTC", True, Decimal("0.0125"), builder="0x" + "b1" * 20)
    twap = ex.new_twap()
    for _ in range(4):
        yield 5
        ex.market_order(
            trader, "kPEPE", True, Decimal(25000), tx_hash=ZERO_HASH, twap_id=twap, pieces=1
        )


def housekeeping(ex: Exchange) -> Story:
    """Dust conversions, netting among HLP's children and the settlement of a delisted coin."""
    for coin, users in (("@107", 7), ("@142", 9), ("PURR/USDC", 5)):
        convert_dust(ex, coin, [ex.new_account() for _ in range(users)])
    yield 4
    first, second = (
        ex.order(vault, is_taker, dir="Net Child Vaults", fee_rate=ZERO)
        for vault, is_taker in zip(MAKING_VAULTS, (True, False), strict=True)
    )
    ex.trade("AVAX", ex.marks["AVAX"], Decimal("114.3"), first, second, ex.new_hash())
    yield 4
    tx_hash = ex.new_hash()
    shorts = ex.holders("MAVIA", is_long=False)
    for holder in ex.holders("MAVIA", is_long=True):
        settle(ex, "MAVIA", holder, shorts, tx_hash)


def convert_dust(ex: Exchange, coin: str, users: list[str]) -> None:
    """One leg a user, all of tid 0, then the pair in which the collector sells what came in."""
    total = ZERO
    for user in users:
        size = Decimal(1 + ex.rng.randrange(10**5)).scaleb(-8)
        total += size
        seller = ex.order(user, is_taker=True, dir="Spot Dust Conversion", fee_rate=ZERO)
        ex.dust(coin, size, seller)
    buyer = ex.order(ex.makers[-1], is_taker=False, fee_rate=ZERO)
    collector = ex.order(DUST_COLLECTOR, is_taker=True, fee_rate=ZERO)
    ex.trade(coin, ex.marks[coin], total, buyer, collector, ZERO_HASH)


def settle(ex: Exchange, coin: str, holder: str, shorts: list[str], tx_hash: str) -> None:
    """Close a long against the shorts that are left, at mark."""
    for short in shorts:
        size = min(ex.position(holder, coin), -ex.position(short, coin))
        if size > 0:
            buyer = ex.order(short, is_taker=False, dir="Settlement", fee_rate=ZERO)
            seller = ex.order(holder, is_taker=True, dir="Settlement", fee_rate=ZERO)
            ex.trade(coin, ex.marks[coin], size, buyer, seller, tx_hash)


def small_liquidations(ex: Exchange) -> Story:
    """Ordinary accounts, one every so often; large positions only by a fifth at first."""
    seconds = ex.config.blocks * ex.config.block_interval_ms // 1000
    spacing = max(1, seconds * 3 // 4 // (ex.config.small_liquidations or 1))
    for _ in range(ex.config.small_liquidations):
        account = ex.rng.choice(ex.retail)
        coins = ex.held(account)
        if coins:
            coin = ex.rng.choice(coins)
            size = abs(ex.position(account, coin))
            if size * ex.marks[coin] > LARGE_NOTIONAL:
                size = COINS[coin].round_size(size * FIRST_PART)
            ex.liquidate_on_book(account, coin, size, pieces=1 + ex.rng.randrange(5))
        yield spacing


def shared_hash(ex: Exchange) -> Story:
    """One resting order meets three liquidated accounts in one block under one hash."""
    accounts = [ex.new_account() for _ in range(3)]
    for number, account in enumerate(accounts):
        ex.market_order(account, "ETH", True, Decimal("1.25") + number, pieces=2)
        yield 1
    ex.shock("ETH", "-2.5")
    resting = ex.order(ex.makers[-1], is_taker=False, cloid=ex.new_cloid())
    tx_hash = ex.new_hash()
    for account in accounts:
        ex.liquidate_on_book(account, "ETH", tx_hash=tx_hash, makers=[resting])


def whale_of_hundred_millions(ex: Exchange) -> Story:
    """Long 40,000 ETH: a fifth to the book, cooldown, most of the rest, then the backstop."""
    account = ex.new_account()
    for _ in range(8):
        ex.market_order(account, "ETH", True, Decimal(5000), pieces=4)
        yield 2
    ex.shock("ETH", "-3")
    ex.liquidate_on_book(account, "ETH", Decimal(8000), pieces=9)
    yield COOLDOWN_S
    for _ in range(6):
        ex.shock("ETH", "-0.4")
        ex.liquidate_on_book(account, "ETH", Decimal(3500), pieces=8)
        yield 9
    ex.backstop(account, ["ETH"], "Cross", Decimal("0.0113"))
    yield 5
    for _ in range(4):  # the vault works it off in ordinary fills
        ex.market_order(FIRST_VAULT, "ETH", False, Decimal(600), pieces=2, fee_rate=ZERO)
        yield 4


def whale_of_ten_millions(ex: Exchange) -> Story:
    """Short 190 BTC, closed on the book alone, by both stages."""
    account = ex.new_account()
    for _ in range(5):
        ex.market_order(account, "BTC", False, Decimal(38), pieces=3)
        yield 2
    ex.shock("BTC", "2.4")
    ex.liquidate_on_book(account, "BTC", Decimal(38), pieces=6)
    yield COOLDOWN_S
    ex.liquidate_on_book(account, "BTC", pieces=14)


def cross_backstop(ex: Exchange) -> Story:
    """Two accounts taken over whole: four coins, longs and shorts; then two shorts."""
    wide, short = ex.new_account(), ex.new_account()
    ex.market_order(wide, "BTC", True, Decimal("0.7512"), pieces=2)
    ex.market_order(wide, "SOL", True, Decimal("410.25"), pieces=2)
    ex.market_order(wide, "kPEPE", True, Decimal(1_250_000), pieces=2)
    ex.market_order(wide, "DOGE", False, Decimal(90_000), pieces=2)
    yield 2
    ex.market_order(short, "HYPE", False, Decimal("1500.5"), pieces=2)
    ex.market_order(short, "WLFI", False, Decimal(88_000), pieces=2)
    yield 10
    for coin, percent in (("BTC", "-1.1"), ("SOL", "-2.4"), ("kPEPE", "-3"), ("DOGE", "1.5")):
        ex.shock(coin, percent)
    ex.backstop(wide, ["BTC", "SOL", "kPEPE", "DOGE"], "Cross", Decimal("0.0091"))
    yield 6
    ex.shock("HYPE", "4")
    ex.backstop(short, ["HYPE", "WLFI"], "Cross", Decimal("0.0125"))


def isolated_backstop(ex: Exchange) -> Story:
    """One isolated long and one isolated short; the account's other coin stays."""
    account = ex.new_account()
    ex.market_order(account, "AVAX", True, Decimal("1210.5"), pieces=2)
    ex.market_order(account, "XRP", False, Decimal(8100), pieces=1)
    ex.market_order(account, "SOL", True, Decimal("3.5"), pieces=1)
    yield 8
    ex.shock("AVAX", "-5")
    ex.backstop(account, ["AVAX"], "Isolated", Decimal("0.0312"))
    yield 5
    ex.backstop(account, ["XRP"], "Isolated", Decimal("0.0207"))


def hip3(ex: Exchange) -> Story:
    """Builder-deployed markets: on the book in three quote tokens, and ADL without a vault."""
    account, loser = ex.new_account(), ex.new_account()
    ex.market_order(account, "xyz:TSLA", True, Decimal("81.125"), pieces=2)
    ex.market_order(account, "km:USTECH", False, Decimal("30.5"), pieces=2)
    ex.market_order(account, "cash:NVDA", True, Decimal("55.375"), pieces=1)
    ex.market_order(loser, "xyz:SILVER", True, Decimal("9100.25"), pieces=3)
    yield 10
    ex.shock("xyz:TSLA", "-4")
    ex.liquidate_on_book(account, "xyz:TSLA", pieces=4)
    ex.liquidate_on_book(account, "km:USTECH", pieces=2)
    yield 3
    ex.liquidate_on_book(account, "cash:NVDA", Decimal("20.125"), pieces=2)
    ex.shock("xyz:SILVER", "-8")
    winners = ex.holders("xyz:SILVER", is_long=False, but=(loser,))
    ex.deleverage(loser, "xyz:SILVER", Decimal("5000.25"), "Isolated", winners)
    yield 5
    ex.deleverage(loser, "xyz:SILVER", Decimal(4100), "Isolated", winners)


def adl_cascade(ex: Exchange) -> Story:
    """The vaults, two at once and split by coin, take positions over and are deleveraged."""
    ex.has_second_vault = True
    positions = {"BTC": "42.5", "ETH": "-910", "SOL": "15000", "AVAX": "61000", "kPEPE": "-9000000"}
    accounts = {coin: ex.new_account() for coin in positions}
    direct = ex.new_account()
    for coin, size in positions.items():
        amount = Decimal(size)
        ex.market_order(accounts[coin], coin, amount > 0, abs(amount), pieces=3)
    ex.market_order(direct, "HYPE", True, Decimal(9000), pieces=3)
    yield 12
    for coin, size in positions.items():
        ex.shock(coin, "-6" if Decimal(size) > 0 else "5")
        ex.backstop(accounts[coin], [coin], "Cross", Decimal("0.0042"))
    yield 2
    for part in ("0.5", "0.4"):
        for coin in positions:
            deleverage_vault(ex, coin, Decimal(part))
        yield 2
    ex.shock("HYPE", "-9")
    winners = ex.holders("HYPE", is_long=False, but=(direct, *PROTOCOL_VAULTS))
    ex.deleverage(direct, "HYPE", Decimal(9000), "Cross", winners)
    ex.has_second_vault = False


def deleverage_vault(ex: Exchange, coin: str, part: Decimal) -> None:
    vault = ex.vault_for(coin)
    position = ex.position(vault, coin)
    size = COINS[coin].round_size(abs(position) * part)
    winners = ex.holders(coin, position < 0, but=(vault, *PROTOCOL_VAULTS))
    ex.deleverage(vault, coin, size, "Cross", winners)


def borrow(ex: Exchange) -> Story:
    """Collateral sold every 3 s into the book, then the vault takes the rest over.

    What object these fills carry is not known; all answers occur, each noted as a variant.
    """
    account, coin = ex.new_account(), "@107"
    for node_method in ("backstop", "backstop", "market", None):
        variant = f"partial borrow, method {node_method}" if node_method else "no object"
        forced = Forced(account, "borrow_partial", ex.marks[coin], node_method, variant)
        ex.market_order(
            account,
            coin,
            is_buy=False,
            size=Decimal("512.5"),
            pieces=2 if node_method else 1,
            forced=forced,
            dir="Partial Borrow Liquidation",
        )
        yield 3
    direction = "Backstop Borrow Liquidation"
    forced = Forced(account, "borrow_backstop", ex.marks[coin], "backstop", direction.lower())
    victim = ex.order(account, is_taker=False, dir=direction, fee_rate=ZERO)
    vault = ex.order(FIRST_VAULT, is_taker=True, dir=direction, fee_rate=ZERO)
    price = COINS[coin].round_price(ex.marks[coin] * Decimal("0.97"))
    ex.trade(coin, price, Decimal("2210.25"), vault, victim, ex.new_hash(), forced)


def repeated(ex: Exchange) -> Story:
    """One account, three episodes above a million; the first of two actions 120 s apart."""
    account = ex.new_account()
    ex.market_order(account, "BTC", True, Decimal(105), pieces=6)
    yield 20
    ex.shock("BTC", "-2")
    ex.liquidate_on_book(account, "BTC", Decimal(21), pieces=5)
    yield 120
    ex.liquidate_on_book(account, "BTC", Decimal("12.5"), pieces=3)
    yield 940
    ex.shock("BTC", "-1.5")
    ex.liquidate_on_book(account, "BTC", Decimal("14.25"), pieces=4)
    yield 940
    ex.shock("BTC", "-1.5")
    ex.liquidate_on_book(account, "BTC", pieces=9)


# -- what labels have to tell apart


def small_again(ex: Exchange) -> Story:
    """One account, many liquidations and three episodes, each below a million, together above."""
    account = ex.new_account()
    ex.market_order(account, "BTC", True, Decimal(16), pieces=6)
    for wait in (940, 940, 0):
        ex.shock("BTC", "-0.5")
        for _ in range(7):
            yield 20
            ex.liquidate_on_book(account, "BTC", Decimal("0.75"), pieces=3)
        yield wait


def dex_liquidators(ex: Exchange) -> Story:
    """Two liquidators of a dex's own, who take over five accounts and four. The first is liquidated
    in the book itself, for more than a million: a liquidator all the same, and a large one."""
    often, seldom = ex.new_account(), ex.new_account()
    for number, liquidator in enumerate((often,) * 5 + (seldom,) * 4):
        account = ex.new_account()
        ex.market_order(account, "xyz:SILVER", True, Decimal(60 + number), pieces=1)
        yield 2
        ex.backstop(account, ["xyz:SILVER"], "Isolated", Decimal("0.02"), liquidator)
    ex.market_order(often, "SOL", True, Decimal(6500), pieces=4)
    yield 2
    ex.shock("SOL", "-3")
    ex.liquidate_on_book(often, "SOL", pieces=5)


def sub_accounts(ex: Exchange) -> Story:
    """One person with two sub-accounts, each liquidated for less than a million, at once."""
    master, subs = ex.new_account(), [ex.new_account() for _ in range(2)]
    ex.truth.sub_accounts.update(dict.fromkeys(subs, master))
    ex.market_order(master, "BTC", True, Decimal("0.25"), pieces=1)
    for account in subs:
        ex.market_order(account, "BTC", True, Decimal(6), pieces=3)
    yield 5
    ex.shock("BTC", "-2")
    for account in subs:
        ex.liquidate_on_book(account, "BTC", pieces=4)


def user_vault(ex: Exchange) -> Story:
    """A vault that a user leads falls, for less than a million: an account like others."""
    leader, vault = ex.new_account(), ex.new_account()
    ex.truth.user_vaults[vault] = leader
    ex.market_order(leader, "BTC", True, Decimal("0.25"), pieces=1)
    ex.market_order(vault, "SOL", False, Decimal(2500), pieces=3)
    yield 5
    ex.shock("SOL", "2")
    ex.liquidate_on_book(vault, "SOL", pieces=3)


def broad_makers(ex: Exchange) -> Story:
    """One who makes both sides of 32 markets, and three who are no market makers: on one side only,
    in few markets, and who takes as much as they make."""
    maker, one_sided, narrow, taking = (ex.new_account() for _ in range(4))
    ex.truth.market_makers.add(maker)
    for number, coin in enumerate(BROAD):
        for is_buy in (True, False):
            meet(ex, coin, is_buy, maker)
            meet(ex, coin, True, one_sided)
            meet(ex, BROAD[number % 12], is_buy, narrow)
            meet(ex, coin, is_buy, taking)
            ex.market_order(taking, coin, is_buy, Decimal(100), pieces=1)
        yield 1


def meet(ex: Exchange, coin: str, is_buy: bool, maker: str) -> None:
    """Somebody new takes the maker's order."""
    resting = ex.order(maker, is_taker=False, cloid=ex.new_cloid())
    ex.market_order(ex.new_account(), coin, is_buy, Decimal(100), makers=[resting])


def rich(ex: Exchange) -> Story:
    """An account worth more than a million when the vault takes it over."""
    account = ex.new_account()
    ex.market_order(account, "ETH", False, Decimal(30_000), pieces=6)
    yield 5
    ex.shock("ETH", "2")
    ex.backstop(account, ["ETH"], "Cross", Decimal("0.0121"))


def heavy_trader(ex: Exchange) -> Story:
    """More than a billion in a month, and no liquidation."""
    account = ex.new_account()
    for number in range(14):
        ex.market_order(account, "ETH", number % 2 == 0, Decimal(20_000), pieces=5)
        yield 3


# -- shapes that cannot be decoded


def faults(ex: Exchange) -> Story:
    for fault in ex.config.faults:
        accounts = (ex.new_account(), ex.new_account())
        opener = ex.order(accounts[0], is_taker=True)
        seller = ex.order(accounts[1], is_taker=False)
        size = Decimal("1.25")
        coin = "@107" if fault == "object_on_spot_sell" else "SOL"
        ex.trade(coin, ex.marks[coin], size, opener, seller, ex.new_hash())
        yield 2
        first_event = len(ex.block.events)
        plant(ex, fault, coin, size, accounts)
        ex.remember_fault(fault, first_event, accounts)
        yield 1


def plant(ex: Exchange, fault: str, coin: str, size: Decimal, accounts: tuple[str, str]) -> None:
    maker = ex.order(accounts[1], is_taker=False)
    if fault == "object_on_spot_sell":
        forced = Forced(accounts[0], "market", ex.marks[coin], "market", truth=False)
        ex.market_order(accounts[0], coin, False, size, forced=forced, makers=[maker])
        return
    is_foreign = fault == "foreign_hash"
    ex.liquidate_on_book(
        accounts[0],
        coin,
        size,
        tx_hash=ex.new_hash(ex.block.number - 5000) if is_foreign else None,
        makers=[replace(maker, cloid=ex.new_cloid())],
        node_method="portfolio" if fault == "unknown_method" else "market",
        fault=fault,
    )


# Name, start in per cent of the run, story.
BY_NAME: dict[str, tuple[int, Callable[[Exchange], Story]]] = {
    "rare_shapes": (1, rare_shapes),
    "whale_of_hundred_millions": (4, whale_of_hundred_millions),
    "small_liquidations": (10, small_liquidations),
    "shared_hash": (12, shared_hash),
    "whale_of_ten_millions": (20, whale_of_ten_millions),
    "repeated": (28, repeated),
    "cross_backstop": (30, cross_backstop),
    "isolated_backstop": (40, isolated_backstop),
    "hip3": (50, hip3),
    "borrow": (58, borrow),
    "faults": (62, faults),
    "housekeeping": (74, housekeeping),
    "adl_cascade": (84, adl_cascade),
    "small_again": (15, small_again),
    "dex_liquidators": (35, dex_liquidators),
    "sub_accounts": (45, sub_accounts),
    "user_vault": (48, user_vault),
    "broad_makers": (55, broad_makers),
    "rich": (66, rich),
    "heavy_trader": (70, heavy_trader),
}
