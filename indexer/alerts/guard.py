"""Nobody connects to the inside: asked at each connection, by the address that it is made to.

A host may have another address when it is connected to than when it was looked up, and a server may
send us elsewhere: so what is judged is what the system is asked to connect to, by an audit hook
(peps.python.org/pep-0578), whichever library asks. The database's own library is none of Python's,
and is not asked.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indexer.outbound import inside

_ASKED = ("socket.connect", "socket.sendto", "socket.sendmsg")


class Inside(PermissionError):
    """A connection to the inside; libraries take it for one that failed."""


class _Guard:
    def __init__(self) -> None:
        self.is_installed = False
        self.is_on = False
        self.refused: str | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or event not in _ASKED:
            return
        address = arguments[1]
        if address is None:  # of a connected socket
            return
        host = address[0] if isinstance(address, tuple) else None
        why = inside(host) if isinstance(host, str) else "a socket of this machine"
        if why is not None:
            self.refused = f"{host or 'it'} is {why}"
            raise Inside(self.refused)


_GUARD = _Guard()


@contextmanager
def guarded(is_on: bool = True) -> Iterator[None]:
    """No connection of this process that begins within goes to the inside."""
    if is_on and not _GUARD.is_installed:
        sys.addaudithook(_GUARD)
        _GUARD.is_installed = True
    before = _GUARD.is_on
    _GUARD.is_on = is_on
    try:
        yield
    finally:
        _GUARD.is_on = before


def refused() -> str | None:
    """Why the last connection was refused, once."""
    why, _GUARD.refused = _GUARD.refused, None
    return why
