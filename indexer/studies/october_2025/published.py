"""What the oct10_* files say, under the names that they use themselves.

Amounts are USD. They went through binary floating point at their sources and are kept here as
printed there. Origins: `ORIGINS`.
"""

import csv
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from indexer.errors import ConfigError

BY_TICKER = "oct10_published_impact_by_ticker.csv"
BY_SECOND = "oct10_published_timeline_by_second.json"
TOTALS = "oct10_published_totals.json"
BURSTS = "oct10_published_bursts.json"
BY_COIN = "oct10_published_adl_by_coin.csv"
BY_ACCOUNT = "oct10_adl_by_deleveraged_account.json"
SAMPLE = "oct10_adl_legs_sample.csv"
BTC_SOL = "oct10_published_btc_sol_accounts.csv"

ORIGINS = {
    BY_TICKER: "ConejoCapital/HyperMultiAssetedADL:combined_impact_by_ticker.csv (commit 259f905)",
    BY_SECOND: "ConejoCapital/HyperMultiAssetedADL:scripts/analysis/outputs/"
    "cascade_timing_results.json",
    TOTALS: "ConejoCapital/HyperMultiAssetedADL:scripts/analysis/total_impact_results.json",
    BURSTS: "ConejoCapital/HyperMultiAssetedADL:scripts/analysis/outputs/"
    "batch_processing_results.json",
    BY_COIN: "ConejoCapital/HyperReplay:data/canonical/adl_by_coin_REALTIME.csv",
    BY_ACCOUNT: "ConejoCapital/ADLVisualizer:public/data/adl_flow_data.json (commit 8998256), "
    "34 of its 50 largest",
    SAMPLE: "ConejoCapital/HyperMultiAssetedADL:data/raw/high_leverage_outliers_analysis.csv, "
    "about two thirds of its rows",
    BTC_SOL: "ConejoCapital/HyperAnalyzeADL:results/positions_FINAL.csv",
}


class Ticker(msgspec.Struct, frozen=True):
    """Rows, dollars and closed profit of one market; `liq` is any dir with "Liquidated" in it."""

    ticker: str
    liq_notional: Decimal
    adl_notional: Decimal
    total_notional: Decimal
    liq_events: int
    adl_events: int
    total_events: int
    liq_pnl: Decimal
    adl_pnl: Decimal
    total_pnl: Decimal


class Second(msgspec.Struct, frozen=True):
    """Rows in one second after the first liquidation row; a second without rows is not listed."""

    second: int
    liquidations: int
    adls: int


class Timeline(msgspec.Struct, frozen=True):
    event_start: datetime
    first_adl: datetime
    timeline: tuple[Second, ...]


class Amount(msgspec.Struct, frozen=True):
    """`pnl` is None where the file gives none."""

    events: int
    notional: Decimal
    pnl: Decimal | None = None


class Top(msgspec.Struct, frozen=True):
    """Dollars of one market, rounded to cents by the source."""

    liquidations: Decimal
    adl: Decimal
    total: Decimal


class Totals(msgspec.Struct, frozen=True):
    liquidations: Amount
    adl: Amount
    total: Amount
    top_combined_tickers: dict[str, Top]


class Burst(msgspec.Struct, frozen=True):
    """Rows at one timestamp."""

    timestamp: datetime
    liquidations: int
    adls: int


class Bursts(msgspec.Struct, frozen=True):
    timestamps_with_both: int
    initial_liquidation_only_seconds: int
    first_shared_timestamp: datetime
    top_shared_bursts: tuple[Burst, ...]


class Coin(msgspec.Struct, frozen=True):
    """The ADL rows of one market, from another repository than `Ticker`."""

    coin: str
    adl_notional: Decimal
    closed_pnl: Decimal
    num_events: int


class TimeRange(msgspec.Struct, frozen=True):
    """Milliseconds since 1970."""

    start: int
    end: int


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    event_count: int
    time_range: TimeRange
    total_notional_usd: Decimal
    unique_assets: int


class Deleveraged(msgspec.Struct, frozen=True, rename="camel"):
    """What ADL took from one losing account."""

    account: str
    total_notional: Decimal


class ByAccount(msgspec.Struct, frozen=True):
    metadata: Metadata
    deleveraged_accounts: tuple[Deleveraged, ...]


class Leg(msgspec.Struct, frozen=True):
    """A winner's leg of an ADL trade; `liquidated_user` lost."""

    user: str
    adl_price: Decimal
    adl_size: Decimal
    liquidated_user: str


class Flagged(msgspec.Struct, frozen=True):
    """An account in BTC or SOL: its fills in the window, and what it held after it."""

    user_address: str
    was_liquidated: Literal["True", "False"]
    trades_count: int
    position_size: Decimal
    mark_price: Decimal


class Published(msgspec.Struct, frozen=True):
    """All files."""

    tickers: tuple[Ticker, ...]
    seconds: Timeline
    totals: Totals
    bursts: Bursts
    coins: tuple[Coin, ...]
    accounts: ByAccount
    sample: tuple[Leg, ...]
    btc_sol: tuple[Flagged, ...]


_T = TypeVar("_T")


def read(folder: Path) -> Published:
    """Raises ConfigError when a file is absent or is not what its name says."""
    return Published(
        _csv(folder / BY_TICKER, Ticker),
        _json(folder / BY_SECOND, Timeline),
        _json(folder / TOTALS, Totals),
        _json(folder / BURSTS, Bursts),
        _csv(folder / BY_COIN, Coin),
        _json(folder / BY_ACCOUNT, ByAccount),
        _csv(folder / SAMPLE, Leg),
        _csv(folder / BTC_SOL, Flagged),
    )


def _json(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise _refusal(path, error) from None


def _csv(path: Path, kind: type[_T]) -> tuple[_T, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, strict=True))
        return tuple(msgspec.convert(line, kind, strict=False) for line in lines)
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.ValidationError) as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> ConfigError:
    what = error.strerror if isinstance(error, OSError) else error
    return ConfigError(f"{path}: {what}")
