"""What commands say on the way, on stderr: lines of text for people, or of JSON for collectors.

Our own lines go through one logger; what libraries warn of comes the same way, and an
error that nobody caught. Nothing of it holds a key: see S02 and S03 of docs/faults.md."""

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import click
from rich.markup import escape

from indexer import settings
from indexer.cli.console import LOG, err
from indexer.errors import ConfigError
from indexer.report.text import printable
from indexer.sources.secrets import Secrets

FORMS = ("text", "json")
KEY_CHARACTERS = 8  # what is shorter may be a word like others

_PAIR = re.compile(r"([a-z_]+)=(\S+) ?")
_MARKS = {logging.WARNING: "[bold red]fault:[/] ", logging.ERROR: "[bold red]indexer:[/] "}


class Lines(logging.Handler):
    """Writes each record as a line, of text or of JSON, without secrets."""

    def __init__(self, form: str, urls: Iterable[str], words: Iterable[str]) -> None:
        super().__init__()
        self.form = form
        # what a library says may quote any part of an address; our own lines name chains, which
        # may be in one too, so that only what can be nothing but a key is taken out of them
        self._of_libraries = [secrets for url in urls if (secrets := _secrets(url)) is not None]
        sure = {word for url in urls for word in _keys(url)} | {*words, *urls}
        sure |= {quote(word, safe="") for word in sure}
        longest_first = sorted(filter(None, sure), key=len, reverse=True)
        self._sure = re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; a stderr that is gone stops nobody."""
        text = self._scrubbed(record, record.getMessage())
        if record.exc_info and record.exc_info[0]:
            lines = "".join(traceback.format_exception(*record.exc_info))
            text = f"{text}\n{self._scrubbed(record, lines)}".rstrip()
        try:
            self._write(record, printable(text))
        except OSError:
            return

    def _scrubbed(self, record: logging.LogRecord, text: str) -> str:
        text = self._sure.sub("***", text)
        if not _is_ours(record):
            for secrets in self._of_libraries:
                text = secrets.clean(text)
        return text

    def _write(self, record: logging.LogRecord, text: str) -> None:
        if self.form == "json":
            err.file.write(json.dumps(_fields(record, text), ensure_ascii=False) + "\n")
            err.file.flush()
            return
        mark = _MARKS.get(record.levelno, "") if _is_ours(record) else f"{escape(record.name)}: "
        err.print(f"{mark}{escape(text)}", soft_wrap=True)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == LOG.name


def _fields(record: logging.LogRecord, text: str) -> dict[str, Any]:
    """Of `chain=base to=9 ms=3` each by its name; of other lines the text as `message`."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, Any] = {
        "at": at.replace("+00:00", "Z"), "level": record.levelname.lower(),
        "logger": "indexer" if _is_ours(record) else record.name,
    }  # fmt: skip
    rest = text
    while _is_ours(record) and (pair := _PAIR.match(rest)) and pair[1] not in fields:
        fields[pair[1]] = int(pair[2]) if re.fullmatch(r"-?\d{1,18}", pair[2]) else pair[2]
        rest = rest[pair.end() :]
    if rest:
        fields["message"] = rest
    return fields


def _secrets(url: str) -> Secrets | None:
    try:
        return Secrets(url)
    except ValueError:  # no address at all: it is hidden whole
        return None


def _keys(url: str) -> set[str]:
    """What of an address can be nothing but a key."""
    try:
        parts = urlsplit(url)
        words = [parts.username or "", parts.password or "", *parts.path.split("/")]
        words += [value for _, value in parse_qsl(parts.query)]
    except ValueError:
        return set()
    known = {form for word in words for form in (word, unquote(word))}
    return {word for word in known if len(word) >= KEY_CHARACTERS and re.search(r"\d", word)}


def begin(form: str | None = None) -> None:
    """Write lines in a form, by default as INDEXER_LOG says; again replaces what was begun."""
    try:
        chosen = form or settings.log_form()
    except ConfigError:
        begin("text")  # what is wrong wants to be said
        raise
    urls, words = settings.secrets()
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, Lines)]:
        root.removeHandler(handler)
    root.addHandler(Lines(chosen, urls, words))
    LOG.setLevel(logging.INFO)
    sys.excepthook = _uncaught
    threading.excepthook = lambda thrown: _uncaught(
        thrown.exc_type, thrown.exc_value, thrown.exc_traceback
    )


def _uncaught(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    if error is not None and not issubclass(kind, SystemExit):
        LOG.error("a fault of the indexer itself:", exc_info=(kind, error, trace))


def _begin(ctx: click.Context, param: click.Parameter, form: str | None) -> None:
    if form is not None:
        begin(form)


def logged(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --log-format, of commands that go on for long."""
    return click.option(
        "--log-format", type=click.Choice(FORMS), callback=_begin, expose_value=False,
        help="Lines on stderr for people or for programs.  [default: INDEXER_LOG, or text]",
    )(command)  # fmt: skip


def steps_are_wanted() -> bool:
    """Whether programs read the lines: those of each step then take the place of a bar."""
    handlers = logging.getLogger().handlers
    return any(isinstance(one, Lines) and one.form == "json" for one in handlers)
