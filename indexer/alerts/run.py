"""The process: looks, has sent, waits; one at a time for each name."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from indexer.alert_model import AlertRule
from indexer.alerts.look import Looker
from indexer.alerts.send import STOP_SECONDS, Sender, send_once
from indexer.alerts.targets import Target
from indexer.errors import IndexerError
from indexer.store import alerts
from indexer.store.database import Connection, connect

Say = Callable[[str], None]

POLL_SECONDS = 0.25
TURN_SECONDS = 1.0  # between looks whether whoever sends has ended
KEEP_UP = timedelta(minutes=1)
CHANNEL = "liq_changes"  # where whoever tells of changes tells it; nobody has to


def once(
    conninfo: str, rule: AlertRule, targets: Sequence[Target], since: datetime | None, say: Say
) -> tuple[int, dict[str, int]]:
    """Look once and send what is due; gives how many messages are new, and how many wait, by
    target. Raises IndexerError where another process sends them."""
    with connect(conninfo) as connection:
        if not alerts.has_turn(connection, rule.name):
            raise IndexerError(f"another process sends the alerts {rule.name!r}")
        looker = Looker(connection, rule, [one.name for one in targets], since)
        now = datetime.now(UTC)
        written = looker.look(now)
        looker.digest(now)
        alerts.keep_up(connection, rule.name)
        return written, send_once(conninfo, rule, targets, say)


def forever(
    conninfo: str, rule: AlertRule, targets: Sequence[Target], since: datetime | None, say: Say
) -> None:
    """Look again and again, and send, until stopped; waits while another process does."""
    with connect(conninfo) as connection:
        _wait_for_turn(connection, rule, say)
        looker = Looker(connection, rule, [one.name for one in targets], since)
        senders = [Sender(conninfo, rule, target, say) for target in targets]
        for sender in senders:
            sender.start()
        say(
            f"alerts {rule.name!r} of what ended since {looker.since:%Y-%m-%d %H:%M:%S} UTC go to"
            f" {', '.join(one.name for one in targets)}"
        )
        try:
            _go_on(connection, rule, looker, senders)
        finally:
            _stop(senders)


def _wait_for_turn(connection: Connection, rule: AlertRule, say: Say) -> None:
    if alerts.has_turn(connection, rule.name):
        return
    say(f"another process sends the alerts {rule.name!r}: waiting for it to end")
    while not alerts.has_turn(connection, rule.name):
        time.sleep(TURN_SECONDS)


def _go_on(
    connection: Connection, rule: AlertRule, looker: Looker, senders: Sequence[Sender]
) -> None:
    connection.execute(f"LISTEN {CHANNEL}")
    keep_up_at = datetime.now(UTC)
    while True:
        now = datetime.now(UTC)
        is_new = looker.look(now) > 0
        is_new |= looker.digest(now)
        if is_new:
            for sender in senders:
                sender.wake()
        if now >= keep_up_at:
            alerts.keep_up(connection, rule.name)
            keep_up_at = now + KEEP_UP
        for sender in senders:
            if sender.problem is not None:
                raise IndexerError(f"{sender.target.name}: sending ended: {sender.problem}")
        for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
            pass


def _stop(senders: Sequence[Sender]) -> None:
    """What is on its way arrives and is noted, where that does not take long."""
    for sender in senders:
        sender.stop()
    end = time.monotonic() + STOP_SECONDS
    for sender in senders:
        sender.join(max(end - time.monotonic(), 0))
