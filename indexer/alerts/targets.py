"""Where messages go: addresses in Apprise's form, which hold secrets.

An address is never shown, logged or stored. A target is known by its name, or by its kind and a
hash of the address without its secrets; what the library says of a failure is scrubbed of every
part of the address.
"""

import hashlib
import logging
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from indexer.alert_model import Kind
from indexer.alerts import guard
from indexer.errors import ConfigError
from indexer.outbound import inside_by_name, inside_of
from indexer.report.text import clean

_NAME = re.compile("[a-z0-9][a-z0-9-]{0,39}")
_WITHOUT_ENCRYPTION = ("json", "xml", "form", "apprise")
_MOST_OF_AN_ERROR = 160
_SHORTEST_SECRET = 4


class Given(NamedTuple):
    """An address as it was given, with the name for it, where it has one."""

    name: str | None
    address: str


def read(text: str) -> list[Given]:
    """Addresses, one a line, each after its name where it has one: `desk tgram://…`. Lines that
    begin with # say nothing."""
    found: list[Given] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2 or "://" not in words[-1]:
            raise ConfigError(f"line {number} of the targets is no address, nor a name and one")
        name = words[0] if len(words) == 2 else None
        if name is not None and _NAME.fullmatch(name) is None:
            raise ConfigError(f"line {number} of the targets: a name is letters, digits and -")
        found.append(Given(name, words[-1]))
    return found


def split(text: str) -> list[Given]:
    """Addresses without names, separated by blanks: as a variable of the environment has them."""
    return [Given(None, address) for address in text.split()]


class Target:
    """One address, ready to be sent to. Not to be used by two threads at once."""

    def __init__(self, name: str, plugin: Any, secrets: frozenset[str]) -> None:
        self.name = name
        self._plugin = plugin
        self._secrets = secrets

    def __repr__(self) -> str:
        return f"Target({self.name!r})"

    def send(self, said: str, *, id: str, kind: Kind, rule: str) -> str | None:
        """Send a message; None where it was taken, else why not. Webhooks have the id beside the
        message, in the body and as a header, so that a second one is known for what it is."""
        for field, extra in (
            ("headers", {"X-Alert-Id": id}),
            ("payload_extras", {"alert_id": id, "alert_kind": kind, "alert_rule": rule}),
        ):
            values = getattr(self._plugin, field, None)
            if isinstance(values, dict):
                values.update(extra)
        guard.refused()
        with _heard() as complaints:
            try:
                is_taken = self._plugin.notify(body=said, title="", body_format="text")
            except Exception as error:  # noqa: BLE001 - of some two hundred plugins, which raise what they like
                complaints.append(type(error).__name__)
                is_taken = False
        if is_taken:
            return None
        refused = guard.refused()
        if refused is not None:
            return f"{refused}: --allow-private allows it"
        return self._scrubbed(" ".join(complaints) or "not taken, and no reason given")

    def _scrubbed(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "…")
        return clean(text)[:_MOST_OF_AN_ERROR]


def opened(given: Iterable[Given], *, allow_private: bool = False) -> list[Target]:
    """Targets that can be sent to. Raises ConfigError, which names a target by its place, where an
    address says nothing to the library, points to the inside, or is the same as another."""
    apprise = _apprise()
    asset = apprise.AppriseAsset(app_id="liquidation-indexer", http_redirects=False)
    found: dict[str, Target] = {}
    for place, one in enumerate(given, 1):
        with _heard():
            plugin = apprise.Apprise.instantiate(one.address, asset=asset, suppress_exceptions=True)
        if plugin is None:
            raise ConfigError(f"target {place} is no address that Apprise knows")
        plugin.redirects = False
        name = one.name or _name_of(plugin)
        if not allow_private:
            _check(f"target {place} ({name})", plugin)
        if name in found:
            raise ConfigError(f"target {place} looks like another, {name}: give both a name")
        found[name] = Target(name, plugin, _secrets(one.address, plugin))
    if not found:
        raise ConfigError("no targets: name them in a file, --to-file, or in INDEXER_ALERT_TO")
    return list(found.values())


def _apprise() -> Any:
    """Imported when asked for: it takes a while, and few need it."""
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            "alerts need Apprise: pip install 'liquidation-indexer[alerts]'"
        ) from None
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    return apprise


def _name_of(plugin: Any) -> str:
    """The kind, and a hash of what is no secret in the address: it is stored, and a password that
    can be guessed could be tried against it."""
    shown = plugin.url(privacy=True)
    schema = re.sub("[^a-z0-9]", "", shown.partition("://")[0].lower())
    return f"{schema}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}"


def _check(what: str, plugin: Any) -> None:
    """What names a host of its own must name one outside, and is encrypted on its way there."""
    if "host" not in plugin.template_tokens or not isinstance(plugin.host, str):
        return
    why = inside_by_name(plugin.host) or inside_of(_addresses(plugin.host))
    if why is not None:
        raise ConfigError(f"{what} points to the inside, {why}: --allow-private allows it")
    if not plugin.secure and plugin.url(privacy=True).partition("://")[0] in _WITHOUT_ENCRYPTION:
        raise ConfigError(f"{what} would send in the clear: write json as jsons, and so on")


def _addresses(host: str) -> list[str]:
    """Those that a host has now; none where nobody tells: it may be known later."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except OSError:
        return []


def _secrets(address: str, plugin: Any) -> frozenset[str]:
    """Every part of an address but its kind and host, as written and as it may be written."""
    rest = address.partition("://")[2]
    parts = {address, rest, *re.split(r"[/?&=:@#,+;]", rest)}
    host = plugin.host if "host" in plugin.template_tokens else None
    spelled = {form for part in parts for form in (part, unquote(part), quote(part, safe=""))}
    return frozenset(one for one in spelled if len(one) >= _SHORTEST_SECRET and one != host)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the library complains about in this thread: it says so in its log alone."""
    complaints: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                complaints.append(record.getMessage())

    logger, listener = logging.getLogger("apprise"), Listener(logging.WARNING)
    logger.addHandler(listener)
    try:
        yield complaints
    finally:
        logger.removeHandler(listener)


def wait_after(attempts: int) -> timedelta:
    """How long a message waits after so many attempts in vain: half a second, doubling, at most
    five minutes."""
    return timedelta(seconds=min(0.5 * 2.0 ** min(attempts, 20), 300))
