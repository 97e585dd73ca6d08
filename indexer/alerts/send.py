"""Sends what is written, and notes what was taken: a thread for each target, so that one which
hangs holds up nobody else.

A message is sent between two transactions. Who is killed there sends it once more under the same
id; what was noted as sent never goes out again.
"""

import threading
from collections.abc import Callable, Sequence

from indexer.alert_model import AlertRule
from indexer.alerts.targets import Target, wait_after
from indexer.store import alerts
from indexer.store.database import Connection, connect

Say = Callable[[str], None]

IDLE_SECONDS = 1.0  # between looks for a message whose time to be tried again has come
MOST_REST_SECONDS = 30.0  # of a target that took nothing, before the next message is tried
ATTEMPTS_AT_ONCE = 3  # of `--once`, before a message is left for the next time
STOP_SECONDS = 10.0  # for a message that is on its way; two of the library's timeouts


class Sender(threading.Thread):
    """Sends the messages of a rule to one target, until told to stop."""

    def __init__(self, conninfo: str, rule: AlertRule, target: Target, say: Say) -> None:
        super().__init__(name=f"alerts to {target.name}", daemon=True)
        self.target = target
        self.problem: str | None = None
        self._conninfo = conninfo
        self._rule = rule
        self._say = say
        self._stop_asked = threading.Event()
        self._wake = threading.Event()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    def stop(self) -> None:
        """Take up no further message."""
        self._stop_asked.set()
        self._wake.set()

    def run(self) -> None:
        try:
            with connect(self._conninfo) as connection:
                self._run(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, the process has to end with it
            self.problem = f"{type(error).__name__}: {error}".partition("\n")[0]

    def _run(self, connection: Connection) -> None:
        in_vain = 0
        while not self._stop_asked.is_set():
            due = alerts.next_due(connection, self._rule.name, self.target.name)
            if due is None:
                self._wake.wait(IDLE_SECONDS)
                self._wake.clear()
            elif send(connection, self._rule, self.target, due, self._say):
                in_vain = 0
            else:
                in_vain += 1
                rest = min(wait_after(in_vain).total_seconds(), MOST_REST_SECONDS)
                self._stop_asked.wait(rest)


def send(
    connection: Connection, rule: AlertRule, target: Target, due: alerts.Delivery, say: Say
) -> bool:
    """Send one message; whether it was taken, which is noted at once."""
    problem = target.send(due.said, id=due.alert_id, kind=due.kind, rule=rule.name)
    if problem is None:
        alerts.sent(connection, due.alert_id, target.name)
        return True
    wait = wait_after(due.attempts)
    alerts.failed(connection, due.alert_id, target.name, problem, wait)
    say(
        f"{target.name}: message {due.alert_id} was not taken, attempt {due.attempts + 1}:"
        f" {problem}; again in {wait.total_seconds():g} s"
    )
    return False


def send_once(
    conninfo: str, rule: AlertRule, targets: Sequence[Target], say: Say
) -> dict[str, int]:
    """Send what is due to all targets at once, each message a few times where it is not taken;
    gives how many wait for the next time, by target."""
    threads = [
        threading.Thread(target=_drain, args=(conninfo, rule, target, say), daemon=True)
        for target in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with connect(conninfo) as connection:
        left = alerts.queued(connection, rule.name)
    return {target.name: left[target.name] for target in targets if target.name in left}


def _drain(conninfo: str, rule: AlertRule, target: Target, say: Say) -> None:
    pause = threading.Event()
    with connect(conninfo) as connection:
        while due := alerts.next_due(connection, rule.name, target.name, ATTEMPTS_AT_ONCE):
            if due.attempts:
                pause.wait(wait_after(due.attempts - 1).total_seconds())
            send(connection, rule, target, due, say)
