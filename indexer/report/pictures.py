"""Pictures of the whale report: social-size cards, and each chart alone, as PNG.

Drawn as SVG from the same positions as the charts of the page. Text is set in one font file that is
found here or named by the caller, so that nothing hangs on what a renderer would choose.
"""

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from indexer.errors import ConfigError
from indexer.methodology.prose import Language
from indexer.report import chart
from indexer.report import whale_sections as said
from indexer.report.page import template
from indexer.report.text import ABSENT, clean, clock, percent, short, usd
from indexer.report.voice import Voice
from indexer.report.whales import WhaleReport

Picture = Literal["card", "tall", "time", "assets", "venues", "strip"]
Theme = Literal["light", "dark"]
PICTURES: tuple[Picture, ...] = get_args(Picture)
# Section 7 of the methodology: what people post.
SIZES: dict[Picture, tuple[int, int]] = {"tall": (1080, 1350)}
USUAL_SIZE = (1200, 675)
MARGIN = 56
BARS_SHOWN = 8

# Where systems keep fonts, and files of fonts that have what a language needs: Latin ones, and
# Chinese ones, which have both. The first that is there is taken.
FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts",
    "/System/Library/Fonts", "/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
CHINESE = (
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "NotoSansCJKsc-Regular.otf",
    "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "PingFang.ttc", "STHeiti Medium.ttc", "msyh.ttc", "simhei.ttf",
)  # fmt: skip
LATIN = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Inter-Regular.ttf",
    "Roboto-Regular.ttf", "Helvetica.ttc", "segoeui.ttf", "Arial.ttf", "arial.ttf",
)  # fmt: skip
_INSTALL = {
    "en": "install one, as fonts-dejavu-core, or name a file with --font",
    "zh": "install one, as fonts-wqy-microhei or fonts-noto-cjk, or name a file with --font",
}


class Bar(NamedTuple):
    """A bar that lies: `part` of the longest, from 0 to 1."""

    name: str
    value: str
    note: str
    part: Decimal
    is_chosen: bool = False


class Box(NamedTuple):
    """Where something is drawn, in pixels."""

    x: int
    y: int
    width: int
    height: int


def to_png(
    report: WhaleReport,
    picture: Picture,
    language: Language = "en",
    theme: Theme = "light",
    font: Path | None = None,
) -> bytes:
    """A picture of the report. ConfigError where the renderer or a font is missing."""
    files = [font] if font else fonts(language)
    family = family_of(files[0])
    svg = to_svg(report, picture, language, theme)
    width, height = SIZES.get(picture, USUAL_SIZE)
    return _renderer()(
        svg_string=svg, width=width, height=height, skip_system_fonts=True,
        font_files=[str(file) for file in files], font_family=family, sans_serif_family=family,
    )  # fmt: skip


def _renderer() -> Callable[..., bytes]:
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise ConfigError(
            "pictures are drawn by resvg-py, which is not installed: pip install"
            " 'liquidation-indexer[png]'"
        ) from None
    return svg_to_bytes


def fonts(language: Language) -> list[Path]:
    """The font file to set a language in, and one for Chinese names where there is one;
    ConfigError where there is none."""
    found = _found((*CHINESE, *LATIN))
    wanted = CHINESE if language == "zh" else (*LATIN, *CHINESE)
    first = next((found[name] for name in wanted if name in found), None)
    if first is None:
        which = "Chinese" if language == "zh" else "Latin"
        raise ConfigError(f"no {which} font was found for the picture: {_INSTALL[language]}")
    behind = next((found[name] for name in CHINESE if name in found), first)
    return list(dict.fromkeys((first, behind)))


def _found(names: Sequence[str]) -> dict[str, Path]:
    """The files of these names."""
    places: dict[str, Path] = {}
    for folder in FOLDERS:
        root = Path(folder).expanduser()
        if root.is_dir():
            for path in root.rglob("*.*"):
                if path.name in names:
                    places.setdefault(path.name, path)
    return places


def family_of(font: Path) -> str:
    """The family name in a font file, the English one where there is one; ConfigError for what is
    no font: learn.microsoft.com/typography/opentype/spec/name."""
    try:
        return _family(font.read_bytes())
    except OSError as error:
        raise ConfigError(f"{font}: {error.strerror}") from None
    except (struct.error, StopIteration, UnicodeDecodeError):
        raise ConfigError(f"{font} is no TrueType or OpenType font") from None


def _family(data: bytes) -> str:
    begins = struct.unpack_from(">I", data, 12)[0] if data[:4] == b"ttcf" else 0
    (tables,) = struct.unpack_from(">H", data, begins + 4)
    records = (struct.unpack_from(">4sIII", data, begins + 12 + 16 * n) for n in range(tables))
    table = next(place for tag, _, place, _ in records if tag == b"name")
    _, count, texts = struct.unpack_from(">HHH", data, table)
    names = {}
    for number in range(count):
        platform, _, language, kind, length, at = struct.unpack_from(
            ">6H", data, table + 6 + 12 * number
        )
        if (platform, kind) == (3, 1):  # Windows, family
            start = table + texts + at
            names[language] = data[start : start + length].decode("utf-16-be")
    return names.get(0x409) or next(iter(names.values()))


# -- what is drawn -------------------------------------------------------------------------------


def to_svg(
    report: WhaleReport, picture: Picture, language: Language = "en", theme: Theme = "light"
) -> str:
    """The picture as SVG, with a title and a description."""
    voice = Voice(language)
    width, height = SIZES.get(picture, USUAL_SIZE)
    drawing = chart.draw(report.chart, language=language)
    return template("picture.svg.j2").render(
        report=report, voice=voice, said=said, picture=picture, theme=theme, drawing=drawing,
        width=width, height=height, margin=MARGIN, figures=figures(report, voice),
        window=f"{clock(report.window_from)} – {clock(report.window_to)} UTC",
        bars=_bars(report, picture, voice), accounts=_accounts(report), place=place, Box=Box,
        fit=fit,
    )  # fmt: skip


def figures(report: WhaleReport, voice: Voice) -> list[said.Figure]:
    """The headline, long and short, accounts, the largest episode; of a definition without one sum
    perpetuals and loans take the headline's place."""
    found = said.figures(report, voice)
    return [one for one in found if one.value != ABSENT or one.name != voice.say("headline")][:6]


def _accounts(report: WhaleReport) -> list[Bar]:
    most = report.accounts[0].usd if report.accounts else None
    return [
        Bar(short(clean(one.account)), usd(one.usd), clean(one.venue),
            said.part_of(one.usd, most) or Decimal(0))
        for one in report.accounts[:5]
    ]  # fmt: skip


def _bars(report: WhaleReport, picture: Picture, voice: Voice) -> list[Bar]:
    if picture == "strip":
        shown, _ = said.strip(report.beside)
        most = max((one.usd for one in shown if one.usd is not None), default=None)
        of_money = [one for one in shown if one.switch != "repeat"]
        return [
            Bar(said.choice(one, voice), usd(one.usd), said.change(one, report.total.usd),
                said.part_of(one.usd, most) or Decimal(0), one.is_chosen)
            for one in of_money[:BARS_SHOWN + 2]
        ]  # fmt: skip
    lines = report.section("venue" if picture == "venues" else "asset")
    whole = report.total.usd
    return [
        Bar(clean(one.name or voice.say("unknown")), usd(one.usd),
            percent(one.usd, whole) if one.usd and whole else ABSENT,
            said.part_of(one.usd, lines[0].usd) or Decimal(0))
        for one in lines[:BARS_SHOWN]
    ]  # fmt: skip


def place(rect: chart.Rect, box: Box) -> dict[str, Decimal]:
    """A piece of a chart, from per cent of its box to pixels."""
    wide, high = Decimal(box.width) / 100, Decimal(box.height) / 100
    return {
        "x": chart.to_hundredths(box.x + rect.x * wide),
        "y": chart.to_hundredths(box.y + rect.y * high),
        "width": chart.to_hundredths(rect.width * wide),
        "height": chart.to_hundredths(rect.height * high),
    }


def fit(text: str, room: int) -> str:
    """Cut to so many Latin letters, of which a Chinese one takes two."""
    used = 0
    for number, letter in enumerate(text):
        used += 2 if ord(letter) >= 0x2E80 else 1
        if used > room:
            return f"{text[: max(0, number - 1)]}…"
    return text
