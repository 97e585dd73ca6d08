"""Looks at what changed, and writes what is to be said of it: nothing is sent here."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from indexer.alert_model import (
    AlertRule,
    Announce,
    Correct,
    Decision,
    Kind,
    Note,
    decide,
    digest_id,
    id_of,
    in_digest,
)
from indexer.alerts import words
from indexer.store import alerts, sizes
from indexer.store.database import Connection
from indexer.store.sizes import Sizing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Looker:
    """Looks for one rule, whose alerts go to `targets`, names of them. Changes since the last look
    are looked at, what was already looked at never is again, whoever did."""

    def __init__(
        self,
        connection: Connection,
        rule: AlertRule,
        targets: Sequence[str],
        since: datetime | None = None,
    ) -> None:
        """Raises ConfigError where the definition cannot say what one account suffered."""
        self._connection = connection
        self._rule = rule
        self._targets = targets
        sizes.sizing(connection, rule.definition)
        self.since = alerts.register(connection, rule, since)

    def look(self, now: datetime) -> int:
        """Write what there is to say; gives how many messages."""
        found = alerts.changes(self._connection, self._rule.name)
        waiting = alerts.gone(self._connection, self._rule.name, now - self._rule.correct_after)
        if found is None and not waiting:
            return 0
        written = 0
        with self._connection.transaction():
            sizing = sizes.sizing(self._connection, self._rule.definition)
            venues = [one for one in sizing.venues if _is_in(self._rule, one)]
            low = dict(waiting)
            if found is not None:
                changed = alerts.accounts_of(
                    self._connection, self._rule, venues, found, self.since
                )
                low |= {one: min(at, low.get(one, at)) for one, at in changed.items()}
            accounts = sorted(low)
            for start in range(0, len(accounts), alerts.ACCOUNTS_AT_ONCE):
                part = accounts[start : start + alerts.ACCOUNTS_AT_ONCE]
                since = min(low[one] for one in part)
                written += self._look_at(sizing, venues, part, since, now)
            if found is not None:
                alerts.saw(self._connection, self._rule.name, found.snapshot)
        return written

    def _look_at(
        self,
        sizing: Sizing,
        venues: Sequence[str],
        accounts: Sequence[str],
        since: datetime,
        now: datetime,
    ) -> int:
        """All that was said of the accounts from a time on, beside all that is so."""
        rule, connection = self._rule, self._connection
        low = since - sizing.gap
        alerted = alerts.alerted(connection, rule.name, accounts, low)
        low = min((low, *(one.first_at for one in alerted)))
        # of a venue that is left out by now, what was announced is still looked after
        read = sorted({*venues, *(one.venue for one in alerted)})
        subjects = alerts.subjects(connection, rule, sizing, read, accounts, low)
        near = [one for one in subjects if one.last_at >= low]
        asked = [(one.venue, one.account) for one in near if rule.step(one) is not None]
        asked += [(one.venue, one.account) for one in alerted]
        known = alerts.known(connection, rule, asked)
        excluded = {
            (venue, account)
            for (venue, account), one in known.items()
            if one.never or one.is_left_out or not _is_in(rule, venue)
        }
        recent = alerts.recent(connection, rule.name, accounts, rule.cool_down)
        decisions = decide(rule, sizing.gap, self.since, now, near, alerted, recent, excluded)
        return sum(self._write(decision, known) for decision in decisions)

    def _write(self, decision: Decision, known: dict[tuple[str, str], alerts.Known]) -> int:
        rule, connection, one = self._rule, self._connection, decision.alerted
        of_account = known.get((one.venue, one.account))
        labels = of_account.labels if of_account else ()
        kind: Kind = "correction"
        match decision:
            case Note():
                alerts.remember(connection, rule.name, one)
                return 0
            case Announce(_, subject, kind, _):
                id = id_of(rule, kind, one)
                kept = alerts.kept_back(connection, rule.name, one.account)
                said = words.happened(rule, id, subject, labels, is_more=kind == "more", kept=kept)
            case Correct(before, _, left):
                id = id_of(rule, kind, one)
                said = words.correction(rule, id, before, left, labels)
        alerts.write(connection, rule, self._targets, decision, id=id, kind=kind, said=said)
        return 1

    def digest(self, now: datetime) -> bool:
        """Write the digest of what was gathered before the last full period, or of all where
        nothing is gathered any more; whether there was anything."""
        rule = self._rule
        period = rule.digest or timedelta(seconds=1)
        until = now - (now - _EPOCH) % period
        with self._connection.transaction():
            gathered = alerts.gathered(self._connection, rule.name, until)
            if not gathered:
                return False
            kept, id = in_digest(gathered), digest_id(rule, until)
            alerts.write_digest(
                self._connection, rule, self._targets, id=id, until=until,
                said=words.digest(rule, id, until - period, until, kept) if kept else None,
                ids=[one.id for one in gathered],
            )  # fmt: skip
        return bool(kept)


def _is_in(rule: AlertRule, venue: str) -> bool:
    """Whether a venue is one that is listened to, by its name, its protocol or its chain."""
    return not rule.venues or bool({venue, *venue.split(".")} & {*rule.venues})
