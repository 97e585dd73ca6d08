"""The four formats of a report."""

import json

import msgspec

from indexer.report.markdown import to_markdown
from indexer.report.page import to_html
from indexer.report.terminal import to_terminal

__all__ = ["to_html", "to_json", "to_markdown", "to_terminal"]


def to_json(report: msgspec.Struct) -> str:
    """ASCII text: decimals as strings, times ISO 8601 with Z, durations ISO 8601."""
    return json.dumps(msgspec.to_builtins(report), indent=2) + "\n"
