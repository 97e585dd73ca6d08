"""What a liquidation was worth, in fractions: amounts that the state told, times the prices that
the protocols' own views told. Nothing of the indexer's arithmetic is in here."""

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from indexer.evm_model import Leg, LendingLiquidation
from tests.devchain.priced_markets import Usd


class Worth(NamedTuple):
    """One basis of one liquidation."""

    venue: str
    event_key: str
    account: str
    basis: str
    usd: Decimal


def exact(number: Fraction) -> Decimal:
    """All digits of it; raises ValueError where they never end."""
    places = 0
    while (number * 10**places).denominator != 1:
        places += 1
        if places > 400:
            raise ValueError(f"{number} has no last digit")
    return Decimal(f"{(number * 10**places).numerator}e{-places}")


# protocols that keep nothing of the collateral
FREE = ("aave_v2", "morpho_blue", "euler_v2", "gearbox_v3")


def worths(row: LendingLiquidation, usd: Usd) -> list[Worth]:
    """All bases for which both amount and price are known."""
    at = row.block_number
    lost, got = _seized(row)
    repaid, seized, bad_debt = (
        None if leg is None or leg.asset is None else usd(leg.asset, at)
        for leg in (row.repaid, row.seized, row.bad_debt)
    )
    found = {
        "repaid": _times(_raw(row.repaid), repaid),
        "seized": _times(lost, seized),
        "seized_net": _times(got, seized),
        "bonus": _less(_times(got, seized), _times(_raw(row.repaid), repaid)),
        "bad_debt": _times(_raw(row.bad_debt), bad_debt),
    }
    return [
        Worth(row.venue, row.event_key, row.account, basis, exact(number))
        for basis, number in found.items()
        if number is not None
    ]


def _raw(leg: Leg | None) -> int | None:
    return None if leg is None else leg.raw


def _times(raw: int | None, price: Fraction | None) -> Fraction | None:
    return None if raw is None or price is None else raw * price


def _less(got: Fraction | None, paid: Fraction | None) -> Fraction | None:
    return None if got is None or paid is None else got - paid


def _seized(row: LendingLiquidation) -> tuple[int | None, int | None]:
    """What the account lost, and what the liquidator got of it, unknown where the fee is."""
    if row.seized is None:
        return None, None
    raw, fee = row.seized.raw, row.protocol_fee_raw
    if row.method == "absorb":
        return raw, None
    if fee is None:
        return raw, raw if row.venue.startswith(FREE) else None
    return (raw, raw - fee) if row.fee_in_seized else (raw + fee, raw)
