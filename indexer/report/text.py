"""How money, times and foreign words are written; the one place for each."""

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

# Wide enough for any numeric(78, 0) with cents; money is never rounded but here.
_WIDE = Context(prec=200)
_SCALES = ((Decimal(10) ** 3, "k"), (Decimal(10) ** 6, "M"), (Decimal(10) ** 9, "B"))
_CHINESE = ((Decimal(10) ** 8, "亿"), (Decimal(10) ** 4, "万"))
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60))
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
ABSENT = "–"


def usd(value: Decimal | None) -> str:
    """`$161,234,567.89`, rounded half to even; a dash where nothing is known."""
    if value is None:
        return ABSENT
    return _signed(_rounded(value, "0.01"), "")


def compact_usd(value: Decimal | None) -> str:
    """`$161.2M` for headlines; the exact number must stand near."""
    if value is None:
        return ABSENT
    rounded, letter = _rounded(value, "1"), ""
    for scale, larger in _SCALES:
        if rounded.copy_abs() < 1000:
            break
        rounded, letter = _rounded(_WIDE.divide(value, scale), "0.1"), larger
    return _signed(rounded, letter)


def compact_zh(value: Decimal | None) -> str:
    """`1.61 亿美元`, `5,320.1 万美元`: Chinese counts in ten thousands and their squares."""
    if value is None:
        return ABSENT
    for scale, name in _CHINESE:
        if value.copy_abs() >= scale:
            rounded = _rounded(_WIDE.divide(value, scale), "0.01").normalize(_WIDE)
            return f"{rounded:,f} {name}美元"
    return f"{_rounded(value, '1'):,f} 美元"


def round_usd(value: Decimal) -> str:
    """`$10M`: a threshold or a step of an axis, which has few digits by nature."""
    return compact_usd(value).replace(".0", "")


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def percent(part: Decimal, whole: Decimal) -> str:
    """`64.7 %`; a dash of nothing."""
    if not whole:
        return ABSENT
    return f"{_rounded(_WIDE.divide(_WIDE.multiply(part, Decimal(100)), whole), '0.1')} %"


def _rounded(value: Decimal, to: str) -> Decimal:
    return value.quantize(Decimal(to), rounding=ROUND_HALF_EVEN, context=_WIDE)


def _signed(value: Decimal, letter: str) -> str:
    return f"{'-' if value < 0 else ''}${value.copy_abs():,f}{letter}"


def count_of(number: int, noun: str) -> str:
    """`1 fill`, `2,750 fills`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(at: datetime) -> str:
    """`2025-10-27 22:09:59 UTC`."""
    return f"{clock(at)} UTC"


def clock(at: datetime) -> str:
    """`2025-10-27 22:09:59`, for places that say UTC already."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def exact(at: datetime) -> str:
    """`2025-10-27 22:09:59.569109 UTC`: the bounds of a window, to the last digit."""
    fraction = f".{at.microsecond:06}" if at.microsecond else ""
    return f"{clock(at)}{fraction} UTC"


def duration(span: timedelta) -> str:
    """`24h`, `900s` as the command line takes it: the largest unit that divides it, days aside."""
    seconds = span.days * 86_400 + span.seconds
    if span.microseconds:
        return f"{seconds}.{span.microseconds:06}".rstrip("0") + "s"
    for letter, unit in _UNITS:
        if seconds and seconds % unit == 0 and seconds // unit > (1 if letter == "d" else 0):
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def in_chinese(span: timedelta) -> str:
    """`24 小时`, as `duration` has it."""
    said = duration(span)
    units = {"s": "秒", "m": "分钟", "h": "小时", "d": "天"}
    return f"{said[:-1]} {units[said[-1]]}"


def lasted(span: timedelta) -> str:
    """`31 s`, `12.5 min`."""
    seconds = span // timedelta(seconds=1)
    return f"{seconds} s" if seconds < 60 else f"{_rounded(Decimal(seconds) / 60, '0.1')} min"


def printable(text: str) -> str:
    """Without control characters and direction overrides; line breaks stay."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")


def clean(text: str) -> str:
    """Foreign text fit for one line: printable, with single spaces."""
    return " ".join(printable(text).split())


def listed(names: Iterable[str], most: int = 3) -> str:
    """`ETH, BTC, SOL and 4 more`, cleaned."""
    cleaned = [clean(name) for name in names]
    more = f" and {len(cleaned) - most} more" if len(cleaned) > most else ""
    return ", ".join(cleaned[:most]) + more


def is_address(text: str) -> bool:
    return _ADDRESS.fullmatch(text) is not None


def short(account: str) -> str:
    """`0x1234…abcd`; what is no address stays whole."""
    return f"{account[:6]}…{account[-4:]}" if is_address(account) else account
