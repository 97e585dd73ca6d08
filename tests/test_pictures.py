"""Pictures of the whale report, its command, and its page in a real browser."""

import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from indexer import resources, sync
from indexer.cli import console
from indexer.errors import ConfigError
from indexer.methodology.definition import presets
from indexer.methodology.prose import Language
from indexer.report import pictures, text
from indexer.report.pictures import Picture, Theme, family_of, fit, fonts, to_png, to_svg
from indexer.report.render import to_html
from indexer.report.whales import WhaleReport, collect
from indexer.store import database, values
from indexer.store.server import Server
from tests.conftest import Browser, Command
from tests.postgres import database as throw_away
from tests.test_report import DAY, HOSTILE, Tags

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(postgres: Server, migrated: str) -> Iterator[WhaleReport]:
    """A report of the bundled recording, whose largest account has hostile words for names."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        sync.backfill(opened, str(resources.recording()))
        account = opened.execute(
            "SELECT account FROM ledger.liquidation WHERE market = 'ETH'"
            " GROUP BY 1 ORDER BY sum(size * price) DESC LIMIT 1"
        ).fetchall()[0][0]
        opened.execute(
            "UPDATE ledger.liquidation SET market = %s WHERE account = %s AND market = 'ETH'",
            (HOSTILE, account),
        )
        opened.execute(
            "INSERT INTO ledger.label VALUES"
            " ('hyperliquid', %s, %s, %s, 1, 0.9, %s, '[2025-10-01,)', '[2025-01-01,)')",
            (account, HOSTILE, HOSTILE, json.dumps({HOSTILE: HOSTILE})),
        )
        values.value(opened, venues=["hyperliquid"])
        yield collect(opened, definition=presets()["strict/v1"], since=DAY)


# -- pictures


@pytest.mark.parametrize("picture", pictures.PICTURES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_picture_names_what_it_shows_and_under_which_definition(
    found: WhaleReport, picture: Picture, language: Language
) -> None:
    drawn = ElementTree.fromstring(to_svg(found, picture, language))
    texts = "\n".join(node.text or "" for node in drawn.iter(f"{SVG}text"))

    assert drawn.get("role") == "img"
    assert drawn.findtext(f"{SVG}title")
    assert text.usd(found.total.usd) in (drawn.findtext(f"{SVG}desc") or "")
    assert f"strict/v1 · {found.methodology.hash[:12]}" in texts
    assert found.hash[:24] in texts
    assert ("SIMULATED DATA" if language == "en" else "模拟数据") in texts


@pytest.mark.parametrize(
    ("picture", "size", "language", "theme"),
    [
        ("card", (1200, 675), "en", "light"),
        ("tall", (1080, 1350), "zh", "dark"),
        ("strip", (1200, 675), "zh", "light"),
    ],
)
def test_a_picture_is_a_png_of_its_size_with_letters_on_it(
    found: WhaleReport, picture: Picture, size: tuple[int, int], language: Language, theme: Theme
) -> None:
    width, height, rows = pixels(to_png(found, picture, language, theme))

    assert (width, height) == size
    paper = (0xFB, 0xFA, 0xF8) if theme == "light" else (0x10, 0x13, 0x17)
    foot = rows[height - 65 : height - 15]  # the definition and the hash stand there
    inked = sum(pixel != paper for row in foot for pixel in row)
    assert rows[height - 5][5] == paper
    assert 3_000 < inked < width * 25


def pixels(png: bytes) -> tuple[int, int, list[list[tuple[int, int, int]]]]:
    """Width, height and the colours of a PNG with 8 bits of red, green, blue and alpha each."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, packed, width, height = 8, b"", 0, 0
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        body = png[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", body)
            assert (depth, colours) == (8, 6)
        packed += body if kind == b"IDAT" else b""
        place += 12 + length
    return width, height, [
        [(row[n], row[n + 1], row[n + 2]) for n in range(0, len(row), 4)]
        for row in unfiltered(zlib.decompress(packed), width * 4)
    ]  # fmt: skip


def unfiltered(raw: bytes, line: int) -> Iterator[bytearray]:
    """Rows of bytes from the filtered ones: w3.org/TR/png, section 9."""
    before = bytearray(line)
    for place in range(0, len(raw), line + 1):
        kind, row = raw[place], bytearray(raw[place + 1 : place + 1 + line])
        for n in range(line) if kind else ():
            left, above = row[n - 4] if n > 3 else 0, before[n]
            corner = before[n - 4] if n > 3 else 0
            row[n] = (row[n] + PREDICTED[kind](left, above, corner)) % 256
        yield row
        before = row


def paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


PREDICTED = {
    1: lambda left, above, corner: left,
    2: lambda left, above, corner: above,
    3: lambda left, above, corner: (left + above) // 2,
    4: paeth,
}


def test_hostile_names_are_text_in_a_picture(found: WhaleReport) -> None:
    for picture in pictures.PICTURES:
        drawn = ElementTree.fromstring(to_svg(found, picture))
        tags = {node.tag.removeprefix(SVG) for node in drawn.iter()}
        assert tags <= {"svg", "title", "desc", "rect", "text", "path"}
        assert [key for node in drawn.iter() for key in node.attrib if "href" in key] == []


def test_the_bars_of_the_sensitivity_are_as_long_as_their_numbers(found: WhaleReport) -> None:
    drawn = ElementTree.fromstring(to_svg(found, "strip"))
    bars = [
        float(node.get("width", 0)) for node in drawn.iter(f"{SVG}rect")
        if node.get("height") == "8" and node.get("fill") in ("#2f6da8", "#d9902f")
    ]  # fmt: skip
    largest = max(one.usd for one in found.beside if one.usd is not None)
    mine = float((found.total.usd or 0) / largest)

    assert max(bars) == pytest.approx(1200 - 2 * 56, abs=0.5)
    assert bars[0] == pytest.approx(mine * (1200 - 2 * 56), abs=0.5)


def test_without_a_font_it_is_said_which_one_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pictures, "FOLDERS", (str(tmp_path),))
    with pytest.raises(ConfigError, match=r"no Latin font.*fonts-dejavu-core"):
        fonts("en")
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"no Chinese font.*fonts-wqy-microhei"):
        fonts("zh")


@pytest.mark.parametrize("content", [b"", b"ttcf", b"no font at all, but some text" * 9])
def test_what_is_no_font_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.ttf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no TrueType or OpenType font"):
        family_of(path)


def test_the_family_of_a_system_font_is_read_from_its_file() -> None:
    families = {family_of(path) for path in (*fonts("en"), *fonts("zh"))}
    assert all(re.fullmatch("[A-Z][A-Za-z ]+", name) for name in families)


def test_long_names_are_cut_by_what_room_they_take() -> None:
    assert fit("short", 10) == "short"
    assert fit("exactly 10", 10) == "exactly 10"
    assert fit("more than ten", 10) == "more than…"
    assert fit("清算金额最大", 10) == "清算金额…"


# -- files


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"report\.html is there already: --overwrite"):
        console.write_file(path, b"new", overwrite=False)
    assert path.read_text() == "mine"
    console.write_file(path, b"new", overwrite=True)
    assert path.read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_a_write_that_fails_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", half)
    with pytest.raises(console.IndexerError, match="No space left on device"):
        console.write_file(tmp_path / "report.html", b"all of it", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_each_format_once(quick_indexer: Command, tmp_path: Path) -> None:
    assert quick_indexer("backfill", "hyperliquid", "--from", resources.recording()).returncode == 0
    asked = ("report", "whales", "--definition", "strict/v1", "--window", "2025-10-27")
    for form in ("html", "md", "json", "png"):
        done = quick_indexer(*asked, "--format", form, "--output", tmp_path / f"r.{form}")
        assert (done.returncode, done.stdout) == (0, "")
    again = quick_indexer(*asked, "--format", "png", "--output", tmp_path / "r.png")
    total = next(
        line for line in json.loads((tmp_path / "r.json").read_text())["lines"]
        if line["section"] == "total"
    )  # fmt: skip

    assert sorted(path.name for path in tmp_path.glob("r.*")) == [
        "r.html", "r.json", "r.md", "r.png",
    ]  # fmt: skip
    assert f"${float(total['usd']):,.2f}" in (tmp_path / "r.md").read_text()
    assert again.returncode == 1
    assert again.stderr.endswith("r.png is there already: --overwrite replaces it\n")


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        ("--format png", 2, "a picture is written to a file: --output card.png"),
        ("--format svg", 2, "'svg' is not one of"),
        ("--window 2025-10-27 --since 24h", 2, "two ways to say one thing"),
        ("--definition nope/v1", 1, "nope/v1"),
        ("--venue aave_v3", 1, "whale_report/v1 does not count aave_v3"),
        ("--format html --output nowhere/r.html", 1, "nowhere/r.html: No such file or directory"),
        ("--language de", 2, "'de' is not one of"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    quick_indexer: Command, arguments: str, status: int, hint: str
) -> None:
    done = quick_indexer("report", "whales", *arguments.split())

    assert (done.returncode, done.stdout) == (status, "")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


# -- in a real browser

DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"
# What each kind of text and drawing looks like on what it stands on.
COLOURS = """
<script>
const page = getComputedStyle(document.body).backgroundColor;
const seen = {};
for (const [name, selector, property] of [
    ["text", "main", "color"], ["note", ".note", "color"], ["link", "main a", "color"],
    ["market", "rect.market", "fill"], ["backstop", "rect.backstop", "fill"],
    ["adl", "rect.adl", "fill"], ["protocol_vault", "rect.protocol_vault", "fill"],
    ["long", ".sides .long", "backgroundColor"], ["bar", "th .bar", "backgroundColor"]]) {
  seen[name] = getComputedStyle(document.querySelector(selector))[property];
}
document.title = JSON.stringify({page, seen, width: document.documentElement.scrollWidth});
</script></body>
"""


def with_script(report: WhaleReport, language: Language) -> str:
    page = re.sub(r"<meta http-equiv[^>]*>", "", to_html(report, language))
    return page.replace("</body>", COLOURS)


def measured(chromium: Browser, path: Path, *options: str) -> dict[str, object]:
    shown = chromium(path, "--dump-dom", *options)
    title = re.findall(r"<title>(\{.*?\})</title>", shown)
    return dict(json.loads(title[0]))


def contrast(one: str, other: str) -> float:
    """w3.org/TR/WCAG21, relative luminance and contrast ratio."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_charts_and_words_can_be_told_from_the_page_in_light_and_dark(
    found: WhaleReport, chromium: Browser, tmp_path: Path, scheme: str, language: Language
) -> None:
    path = tmp_path / "page.html"
    path.write_text(with_script(found, language), encoding="utf-8")
    said = measured(chromium, path, scheme, "--window-size=1280,1000")
    page, seen = str(said["page"]), said["seen"]
    assert isinstance(seen, dict)

    assert (contrast(page, "rgb(0, 0, 0)") > 10) == (scheme == LIGHT)
    words = {name: contrast(page, seen[name]) for name in ("text", "note", "link")}
    drawn = {name: contrast(page, colour) for name, colour in seen.items() if name not in words}
    assert {name: ratio for name, ratio in words.items() if ratio < 4.5} == {}
    assert {name: ratio for name, ratio in drawn.items() if ratio < 2.2} == {}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_fits_a_phone_in_both_languages(
    found: WhaleReport, chromium: Browser, tmp_path: Path, language: Language
) -> None:
    # in a frame, because a headless window is never narrower than 500 px
    inner = with_script(found, language).replace("document.title =", "parent.document.title =")
    frame = f'<iframe width="360" height="800" style="border:0" srcdoc="{escape(inner)}"></iframe>'
    path = tmp_path / "phone.html"
    path.write_text(f"<title>-</title>{frame}", encoding="utf-8")
    assert measured(chromium, path)["width"] == 360


@contextmanager
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A port, and what was said to it first by each who came."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    came, _ = server.accept()
                except OSError:
                    return
                with came:
                    came.settimeout(2)
                    try:
                        heard.append(came.recv(4096))
                    except TimeoutError:
                        heard.append(b"")

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def everything_to(port: int) -> str:
    """Whatever name the browser asks for leads here."""
    return f"--host-resolver-rules=MAP * 127.0.0.1:{port}"


def names_in(heard: list[bytes]) -> list[bytes]:
    """The hosts of the page that were asked for, in plain or in a greeting of TLS."""
    wanted = (b"evil.example", b"hyperliquid", b"etherscan")
    return [said for said in heard if any(name in said for name in wanted)]


def test_the_page_shows_its_numbers_runs_nothing_and_asks_nobody(
    found: WhaleReport, chromium: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(to_html(found), encoding="utf-8")
    with listener() as (port, heard):
        shown = chromium(path, "--dump-dom", everything_to(port), "--virtual-time-budget=3000")
    tags = [tag for tag, _ in Tags(shown).tags]

    assert names_in(heard) == []
    assert {"script", "img", "iframe"} & set(tags) == set()
    assert shown.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 3
    for line in (*found.section("total"), *found.section("method"), *found.section("asset")):
        assert text.usd(line.usd) in shown
    for one in (*found.accounts[:5], *found.episodes[:5], *found.minutes):
        assert text.usd(one.usd) in shown


def test_a_page_that_did_ask_would_be_heard(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<img src="http://evil.example/x.png"><script>document.title = "ran"</script>')
    with listener() as (port, heard):
        shown = chromium(path, "--dump-dom", everything_to(port), "--virtual-time-budget=3000")
    assert names_in(heard) != []
    assert "<title>ran</title>" in shown


@pytest.mark.parametrize(("size", "scheme"), [("1280,1600", LIGHT), ("500,1600", DARK)])
def test_a_screenshot_of_the_page_is_not_blank(
    found: WhaleReport, chromium: Browser, tmp_path: Path, size: str, scheme: str
) -> None:
    path, picture = tmp_path / "page.html", tmp_path / "page.png"
    path.write_text(to_html(found, "zh"), encoding="utf-8")
    chromium(path, f"--screenshot={picture}", f"--window-size={size}", scheme)
    assert picture.stat().st_size > 50_000  # an empty page has 10,000


def test_the_page_prints(found: WhaleReport, chromium: Browser, tmp_path: Path) -> None:
    path, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(to_html(found), encoding="utf-8")
    chromium(path, f"--print-to-pdf={printed}", "--no-pdf-header-footer")
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 20
