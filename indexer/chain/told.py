"""Tells the database what endpoints were asked and how they failed, every few seconds, beside the
work: counts that cannot be written now are written later, and hold up nobody."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import psycopg

from indexer.errors import ConfigError
from indexer.sources.endpoints import Endpoint
from indexer.store import endpoints
from indexer.store.database import Connection
from indexer.store.endpoints import Asked

EVERY_SECONDS = 10.0
LAST_SECONDS = 5.0  # how long an end may wait for the last counts


class Teller:
    """Opens a connection only when there is something to tell; `connect` should give up soon."""

    def __init__(
        self,
        chain: str,
        told: Sequence[Endpoint],
        connect: Callable[[], Connection],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._chain = chain
        self._connect = connect
        self._every_seconds = every_seconds
        self._counted: dict[Endpoint, tuple[int, Counter[str]]] = {
            one: (0, Counter()) for one in told
        }
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{chain} endpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the last of it, if that is soon done."""
        self._is_over.set()
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        while not self._is_over.wait(self._every_seconds):
            self._tell()
        self._tell()

    def _tell(self) -> None:
        now = {one: (one.requests, Counter(dict(one.faults))) for one in self._counted}
        news = [
            Asked(one.name, requests - told, faults - before, one.disabled is not None)
            for one, (requests, faults) in now.items()
            for told, before in [self._counted[one]]
            if (requests, faults) != (told, before)
        ]
        if not news:
            return
        try:
            with self._connect() as connection:
                endpoints.add(connection, self._chain, news)
        except (psycopg.Error, ConfigError):
            return  # the work itself says that the database is away; this is told the next time
        self._counted = now
