"""The sentences that several reports share, and how evidence is read out."""

import re
from decimal import Decimal
from typing import Any

from indexer.report.text import ABSENT, clean, usd

SIMULATED = "SIMULATED DATA"
SIMULATED_WHY = "made by a simulator: none of these accounts, trades and liquidations ever existed"
UNCHANGED = (
    "Money is the same at every level; only counts and the largest single change with the level."
)
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


def facts(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """Evidence as name and value; a list of keys is counted, its members are in the JSON."""
    return [
        (clean(name).removesuffix("_usd").replace("_", " "), _fact(name, value))
        for name, value in evidence.items()
    ]


def _fact(name: str, value: Any) -> str:
    if isinstance(value, list | dict):
        return f"× {len(value)}"
    if (name == "usd" or name.endswith("_usd")) and _NUMBER.fullmatch(str(value)):
        return usd(Decimal(str(value)))
    return ABSENT if value is None else clean(str(value))


def number(value: Decimal) -> str:
    """`0.9`, without trailing zeros or an exponent."""
    return f"{value:f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
