"""The formats of a report, in a language."""

import json
from typing import NamedTuple

import msgspec
from rich.console import Console

from indexer.methodology.prose import Language
from indexer.report.markdown import to_markdown
from indexer.report.page import to_html
from indexer.report.terminal import to_terminal
from indexer.report.whales import WhaleReport

__all__ = ["In", "to_html", "to_json", "to_markdown", "to_terminal"]


def to_json(report: msgspec.Struct) -> str:
    """ASCII text: decimals as strings, times ISO 8601 with Z, durations ISO 8601."""
    return json.dumps(msgspec.to_builtins(report), indent=2) + "\n"


class In(NamedTuple):
    """All formats in one language; JSON has both."""

    language: Language

    def to_terminal(self, report: WhaleReport, console: Console) -> None:
        to_terminal(report, console, self.language)

    def to_markdown(self, report: WhaleReport) -> str:
        return to_markdown(report, self.language)

    def to_html(self, report: WhaleReport) -> str:
        return to_html(report, self.language)

    def to_json(self, report: WhaleReport) -> str:
        return to_json(report)
