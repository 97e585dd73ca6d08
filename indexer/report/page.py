"""The report as one self-contained HTML page: no script, nothing loaded from anywhere."""

from decimal import Decimal
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from indexer.report import chart, text, watched, words
from indexer.report.whales import WhaleReport

_SMALL_CHARTS = 8


def to_html(report: WhaleReport) -> str:
    """The page, to be written as UTF-8."""
    return template("whales.html.j2").render(
        report=report,
        total=report.total,
        drawing=chart.draw(report.chart),
        small=[
            (market, chart.draw(report.chart, market=market.market))
            for market in report.markets[:_SMALL_CHARTS]
        ],
        other_markets=len(report.markets) - _SMALL_CHARTS,
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
        words=words, text=text, watched=watched, UP=chart.UP, DOWN=chart.DOWN
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
