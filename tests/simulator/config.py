"""What to simulate. Everything follows from these fields, the seed among them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

# Stories that need less than five minutes of block time.
SHORT_STORIES = (
    "rare_shapes",
    "housekeeping",
    "small_liquidations",
    "shared_hash",
    "whale_of_ten_millions",
    "whale_of_hundred_millions",
    "cross_backstop",
    "isolated_backstop",
    "hip3",
    "adl_cascade",
    "borrow",
)
# "repeated" needs about 35 minutes: its three episodes lie more than 900 s apart.
STORIES = (*SHORT_STORIES, "repeated")
# What labels have to tell apart, beside all stories; "small_again" needs about 35 minutes.
LABEL_STORIES = (
    *STORIES,
    "small_again",
    "dex_liquidators",
    "sub_accounts",
    "user_vault",
    "rich",
    "heavy_trader",
    "broad_makers",
)

FAULTS = (
    "unknown_method",
    "object_on_spot_sell",
    "missing_tid",
    "foreign_hash",
    "legs_disagree",
)


@dataclass(frozen=True)
class Config:
    """`start` is the consensus time of the first block; percentages are whole numbers.

    `noise_percent` is the share of legs whose startPosition carries binary noise
    (`3135809.3999999999`), of those above 100 with a fraction and not of a liquidation; account
    days count what is printed. `faults` plants shapes no decoder can make a row of, each
    between accounts that do nothing else.
    """

    seed: int = 1
    start: datetime = datetime(2025, 10, 27, 16, 59, 59, tzinfo=UTC)
    first_block: int = 777_010_829
    blocks: int = 4000
    block_interval_ms: int = 83
    empty_percent: int = 25
    accounts: int = 80
    trades_per_block: int = 4
    small_liquidations: int = 30
    noise_percent: int = 1
    ledger_noise_percent: int = 10
    stories: tuple[str, ...] = SHORT_STORIES
    faults: tuple[str, ...] = ()


def small(seed: int, faults: tuple[str, ...] = ()) -> Config:
    """Every story in 55 minutes of block time and about 5,000 fills: for tests."""
    return Config(
        seed=seed,
        start=datetime(2025, 10, 27, 23, 20, 0, tzinfo=UTC),
        first_block=777_290_000,
        blocks=1100,
        block_interval_ms=3000,
        trades_per_block=2,
        stories=STORIES,
        faults=faults,
    )


def labelled(seed: int) -> Config:
    """Every story that a label depends on, in 55 minutes of block time."""
    return replace(small(seed), trades_per_block=1, accounts=40, stories=LABEL_STORIES)


# The bundled recording. Two simplifications keep it small: a block every 3.26 s where the real
# chain makes twelve a second, and 150 minutes of it. It crosses two hours and midnight UTC.
RECORDING = Config(
    seed=20251027,
    start=datetime(2025, 10, 27, 22, 9, 59, tzinfo=UTC),
    first_block=777_238_417,
    blocks=2750,
    block_interval_ms=3260,
    empty_percent=30,
    accounts=60,
    trades_per_block=1,
    small_liquidations=60,
    ledger_noise_percent=2,
    stories=STORIES,
)
