"""SIMULATED liquidations of loans, and who of those who liquidate does it for a living.

Each liquidator is made to a pattern, and the pattern is the truth: nothing here counts.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

START = datetime(2025, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Loan:
    """A row of a lending protocol; `log` counts the logs of its transaction."""

    venue: str
    tx_hash: str
    log: int
    account: str
    liquidator: str | None
    at: datetime

    @property
    def event_key(self) -> str:
        return f"{self.tx_hash}/{self.log}"


@dataclass(frozen=True)
class Loans:
    """`liquidators` are (chain, account), as are `others`, who liquidate too, and less."""

    rows: tuple[Loan, ...]
    liquidators: frozenset[tuple[str, str]]
    others: frozenset[tuple[str, str]]


def loans(seed: int) -> Loans:
    """Liquidators of each pattern, in an order by chance."""
    rng = random.Random(f"loans {seed}")
    rows: list[Loan] = []
    known: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for is_liquidator, pattern in PATTERNS:
        liquidator = account(rng)
        made = list(pattern(rng, liquidator))
        rows += made
        known[is_liquidator] |= {(row.venue.split(".")[1], liquidator) for row in made}
    rng.shuffle(rows)
    return Loans(tuple(rows), frozenset(known[True]), frozenset(known[False]))


def account(rng: random.Random) -> str:
    return "0x" + rng.randbytes(20).hex()


def loan(
    rng: random.Random, liquidator: str | None, at: datetime, venue: str = "aave_v3.ethereum"
) -> Loan:
    return Loan(venue, "0x" + rng.randbytes(32).hex(), 1, account(rng), liquidator, at)


def five_in_thirty_days(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """The fifth one moment before thirty days are over."""
    for days in (0, 8, 15, 22):
        yield loan(rng, liquidator, START + days * DAY)
    yield loan(rng, liquidator, START + 30 * DAY - MINUTE)


def five_on_two_protocols(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    for number in range(5):
        venue = ("aave_v3.base", "compound_v2.base")[number % 2]
        yield loan(rng, liquidator, START + number * DAY, venue)


def five_in_one_transaction(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """Five accounts: five actions."""
    tx_hash = "0x" + rng.randbytes(32).hex()
    for log in range(5):
        yield Loan("comet.ethereum", tx_hash, log, account(rng), liquidator, START)


def late_after_few(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """Four, nothing for a year, then five in an hour."""
    for number in range(4):
        yield loan(rng, liquidator, START - (400 - number) * DAY)
    for number in range(5):
        yield loan(rng, liquidator, START + 10 * number * MINUTE)


def four(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    for number in range(4):
        yield loan(rng, liquidator, START + number * DAY)


def five_in_just_thirty_days(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """Thirty days apart is not within thirty days."""
    for days in (0, 8, 15, 22, 30):
        yield loan(rng, liquidator, START + days * DAY)


def many_far_apart(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    for number in range(20):
        yield loan(rng, liquidator, START - number * 8 * DAY)


def five_rows_of_one_account(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """Several assets of one account in one transaction: one action."""
    one = loan(rng, liquidator, START)
    for log in range(9):
        yield Loan(one.venue, one.tx_hash, log, one.account, liquidator, START)


def only_their_own(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """An account that liquidates itself."""
    for number in range(9):
        own = loan(rng, liquidator, START + number * MINUTE)
        yield Loan(own.venue, own.tx_hash, 1, liquidator, liquidator, own.at)


def few_on_each_chain(rng: random.Random, liquidator: str) -> Iterator[Loan]:
    """Four on one chain and four on another one, where the address may be somebody else."""
    for number in range(8):
        venue = ("aave_v3.ethereum", "aave_v3.base")[number % 2]
        yield loan(rng, liquidator, START + number * MINUTE, venue)


PATTERNS = (
    (True, five_in_thirty_days),
    (True, five_on_two_protocols),
    (True, five_in_one_transaction),
    (True, late_after_few),
    (False, four),
    (False, five_in_just_thirty_days),
    (False, many_far_apart),
    (False, five_rows_of_one_account),
    (False, only_their_own),
    (False, few_on_each_chain),
)
