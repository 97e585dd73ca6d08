"""Values new rows beside a follower, in a thread of its own: what holds it up, or fails, never
holds up the following. And what a pass has to know of protocols."""

import threading
from collections.abc import Callable
from datetime import datetime

import psycopg

from indexer.decode import Decoder
from indexer.errors import IndexerError
from indexer.store.lending_values import Terms

COOL_SECONDS = 2.0
MOST_COOL_SECONDS = 300.0
LAST_SECONDS = 0.7  # of each of the two things that closing waits for

Say = Callable[[str], None]
# Told after liquidations were written or changed: the time of the oldest of them.
Wrote = Callable[[datetime], None]


def nobody(since: datetime) -> None:
    """Where nobody wants to know."""


def terms_of(decoder: Decoder) -> dict[str, Terms]:
    """What no row says of its protocol, by the protocol's name as users see it."""
    names = {venue.rpartition(".")[0]: decoder.spec_of(venue) for venue in decoder.venues()}
    return {
        name: Terms(spec.bonus, spec.fee, spec.is_permissionless) for name, spec in names.items()
    }


class Valuer:
    """Calls `value` with the time of the oldest new row, after rows were written; again, ever
    more rarely, while that fails. What fails is said once. What is left in the end goes to
    `value_stored`, which asks nobody and is soon done."""

    def __init__(
        self,
        chain: str,
        value: Callable[[datetime], None],
        value_stored: Callable[[datetime], None],
        say: Say,
        cool_seconds: float = COOL_SECONDS,
    ) -> None:
        self._chain = chain
        self._value = value
        self._value_stored = value_stored
        self._say = say
        self._cool_seconds = cool_seconds
        self._changed = threading.Condition()
        self._since: datetime | None = None  # from when on rows wait
        self._doing: datetime | None = None  # from when on they are being valued
        self._is_over = False
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name=f"{chain} values", daemon=True)
        self._thread.start()

    def wrote(self, since: datetime) -> None:
        """Rows were written or changed, the oldest of them of this time."""
        with self._changed:
            self._since = min(since, self._since or since)
            self._changed.notify()

    def close(self) -> None:
        """Stop, once what is being valued is done, or could be: an endpoint may keep it waiting."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join(LAST_SECONDS)
        with self._changed:
            left = [since for since in (self._since, self._doing) if since is not None]
        if left:
            self._attempt(self._value_stored, min(left))

    def _run(self) -> None:
        cool = self._cool_seconds
        while (since := self._next()) is not None:
            if self._attempt(self._value, since):
                cool, self._complaint = self._cool_seconds, ""
                continue
            self.wrote(since)
            self._wait(cool)
            cool = min(cool * 2, MOST_COOL_SECONDS)

    def _attempt(self, value: Callable[[datetime], None], since: datetime) -> bool:
        """Whether it did not fail; else it is said why."""
        try:
            value(since)
        except (IndexerError, psycopg.Error) as error:
            self._complain(str(error).strip().partition("\n")[0])
            return False
        return True

    def _next(self) -> datetime | None:
        """Since when there are new rows; waits for them. None when it is over."""
        with self._changed:
            self._doing = None
            self._changed.wait_for(lambda: self._is_over or self._since is not None)
            if self._is_over:
                return None
            self._since, self._doing = None, self._since
            return self._doing

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over, timeout=seconds)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._say(f"{self._chain}: not valued yet: {text}")
            self._complaint = text
