"""What must not be shown of an address that may hold a key."""

import json
import logging
import re
from urllib.parse import parse_qsl, quote, unquote, urlsplit

TEXT_CHARACTERS = 200  # of a provider's message that we repeat


class Secrets:
    """What of a URL must never be seen, and its removal from texts."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        words = {url, parts.netloc if parts.username or parts.password else ""}
        words |= {parts.username or "", parts.password or "", parts.query}
        words |= {value for _, value in parse_qsl(parts.query)}
        words |= {part for part in (parts.path, *parts.path.split("/")) if len(part) >= 6}
        words |= {label for label in (parts.hostname or "").split(".") if _is_key(label)}
        words |= {form(word) for word in words for form in (unquote, quote, _quote_all)}
        words |= {json.dumps(word)[1:-1] for word in words}
        longest_first = sorted((word for word in words if len(word) >= 3), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)

    def hide(self, text: str) -> str:
        """The text without them, on one line, without control characters, cut."""
        text = self._pattern.sub("***", text)
        return "".join(c if c.isprintable() else " " for c in text)[:TEXT_CHARACTERS]

    def clean(self, text: str) -> str:
        """The whole text without them."""
        return self._pattern.sub("***", text)

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean a log record; for `Logger.addFilter`."""
        record.msg = self._pattern.sub("***", record.getMessage())
        record.args = None
        return True


def _is_key(label: str) -> bool:
    return len(label) >= 20 and any(c.isdigit() for c in label)


def _quote_all(word: str) -> str:
    return quote(word, safe="")
