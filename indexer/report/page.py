"""The report as one self-contained HTML page: no script, nothing loaded from anywhere."""

from decimal import Decimal
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from indexer.methodology.prose import Language
from indexer.report import chart, text, words
from indexer.report import whale_sections as said
from indexer.report.voice import Voice
from indexer.report.whales import SMALL_CHARTS, WhaleReport


def to_html(report: WhaleReport, language: Language = "en") -> str:
    """The page, to be written as UTF-8."""
    voice = Voice(language)
    assets = [line for line in report.section("asset") if line.name and line.usd]
    found = {section.id: section for section in said.sections(report, voice)}
    return template("whales.html.j2").render(
        report=report,
        voice=voice,
        said=said,
        sections=found,
        drawing=chart.draw(report.chart, language=language),
        small=[(line, chart.draw(report.chart, asset=line.name)) for line in assets[:SMALL_CHARTS]],
        other_assets=len(assets) - SMALL_CHARTS,
    )


@cache
def template(name: str) -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_finalize,
        loader=PackageLoader("indexer", "report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        words=words, text=text, above=chart.above, UP=chart.UP, DOWN=chart.DOWN
    )
    environment.filters.update(
        usd=text.usd,
        compact=text.compact_usd,
        moment=text.moment,
        clock=text.clock,
        exact=text.exact,
        duration=text.duration,
        lasted=text.lasted,
        short=text.short,
        share=_share,
    )
    return environment.get_template(name)


def _finalize(value: object) -> object:
    """No word reaches the page with a control character in it; autoescape does the rest."""
    return text.printable(value) if type(value) is str else value


def _share(part: Decimal, whole: Decimal) -> str:
    """Per cent for CSS, `64.7`; of nothing 0."""
    return text.percent(part, whole).removesuffix(" %") if whole else "0"
