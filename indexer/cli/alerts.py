"""The verb on alerts: of what, to whom; everything else is called."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import click

from indexer import settings
from indexer.alert_model import AlertRule, Unit
from indexer.cli.console import Duration, Moment, Number, fail, out, prepared, say, usage
from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError
from indexer.report.text import count_of
from indexer.store import sizes

# Apprise is imported where it is needed: most commands need none of its two hundred services.

LARGE = Decimal(1_000_000)  # as SIZE_ABS of indexer label: the 99th percentile of 2025-10-10
_ADDRESS = re.compile("0x[0-9a-fA-F]{40}|dydx1[0-9a-z]{38}")


class Dollars(click.ParamType[Decimal]):
    """An amount such as 250k, 1M, 2.5M, 1B or 1e6."""

    name = "dollars"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        if isinstance(value, Decimal):
            return value
        letter = value[-1:] if value[-1:] in "kMB" else ""
        scale = Decimal(10) ** {"": 0, "k": 3, "M": 6, "B": 9}[letter]
        amount = Number().convert(value.removesuffix(letter), param, ctx) * scale
        if not 0 < amount < 10**18:
            self.fail(f"{value!r} is no threshold; write 250k, 1M or 2.5M", param, ctx)
        return amount


class Account(click.ParamType[str]):
    """An address of a chain, or of dYdX."""

    name = "account"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if _ADDRESS.fullmatch(value) is None:
            self.fail(f"{value!r} is no address", param, ctx)
        return str(value).lower()


class Since(click.ParamType[datetime]):
    """A time, or how long before now."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        if isinstance(value, str) and re.fullmatch("[0-9]+[smhd]", value):
            return datetime.now(UTC) - Duration().convert(value, param, ctx)
        return Moment().convert(value, param, ctx)


@click.command()
@click.option(
    "--to-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Where messages go: Apprise addresses, one a line, a name before it if you like; else"
    " INDEXER_ALERT_TO.",
)  # fmt: skip
@click.option(
    "--above", type=Dollars(), metavar="USD",
    help="Announce what is worth as much, and again at ten times as much; 1M unless accounts are"
    " named.",
)  # fmt: skip
@click.option(
    "--unit", type=click.Choice(["episode", "action"]), default="episode", show_default=True,
    help="What a message is of.",
)  # fmt: skip
@click.option(
    "--account", "accounts", type=Account(), multiple=True, metavar="0x…",
    help="Announce whatever befalls this account.",
)  # fmt: skip
@click.option(
    "--watch-list", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="A file of such accounts, one a line.",
)  # fmt: skip
@click.option(
    "--definition", default=sizes.DEFINITION, show_default=True,
    help="What counts, and what it is worth: indexer definitions.",
)  # fmt: skip
@click.option(
    "--venue", "venues", multiple=True, metavar="VENUE",
    help="Only this venue, protocol or chain.",
)  # fmt: skip
@click.option("--asset", "assets", multiple=True, help="Only this asset or market, as ETH.")
@click.option(
    "--exclude", multiple=True, metavar="0x…|LABEL",
    help="Not this account, or accounts with this label; protocol vaults and whoever else can never"
    " be called a victim are left out anyway.",
)  # fmt: skip
@click.option(
    "--cool-down", type=Duration(), metavar="DURATION",
    help="After a message on an account, only a larger step of it for so long.",
)  # fmt: skip
@click.option(
    "--digest", type=Duration(), metavar="DURATION",
    help="One message for each such period, of the largest in it, as 1h.",
)  # fmt: skip
@click.option(
    "--correct-after", type=Duration(), default="30s", show_default=True,
    help="How long something is gone before it is taken back: after a reorg most transactions come"
    " again.",
)  # fmt: skip
@click.option(
    "--since", type=Since(), metavar="TIME|DURATION",
    help="Announce what ended from then on too; by default only what ends from now on.",
)  # fmt: skip
@click.option("--language", type=click.Choice(["en", "zh"]), default="en", show_default=True)
@click.option(
    "--name", default="alerts", show_default=True,
    help="Remembers what was announced; two different sets of alerts need two names.",
)  # fmt: skip
@click.option(
    "--allow-private",
    is_flag=True,
    help="Allow targets in private networks and on this machine, and without encryption.",
)
@click.option("--once", is_flag=True, help="Look once, send, and end.")
@click.option("--trial", is_flag=True, help="Send each target a message that says so, and end.")
def alert(
    to_file: Path | None,
    above: Decimal | None,
    unit: Unit,
    accounts: tuple[str, ...],
    watch_list: Path | None,
    definition: str,
    venues: tuple[str, ...],
    assets: tuple[str, ...],
    exclude: tuple[str, ...],
    cool_down: timedelta | None,
    digest: timedelta | None,
    correct_after: timedelta,
    since: datetime | None,
    language: Literal["en", "zh"],
    name: str,
    allow_private: bool,
    once: bool,
    trial: bool,
) -> None:
    """Send a message on each large liquidation, or on watched accounts, until stopped with Ctrl-C:
    to Telegram, Discord, Slack, mail, a webhook and whatever else Apprise knows.

    One message for each episode or action, not for each fill; one more where it grows to the next
    step; a correction where a reorg takes it back. What was sent is not sent again after a restart.
    With --once, exits with 1 when a message could not be sent.

    Example: indexer alert --to-file targets.txt --above 1M --once
    """
    from indexer.alerts import run, targets, words
    from indexer.alerts.guard import guarded

    if re.fullmatch("[a-z0-9][a-z0-9_-]{0,39}", name) is None:
        raise usage("a name is letters, digits, - and _")
    watched = frozenset((*accounts, *_listed(watch_list)))
    without = {one for one in exclude if _ADDRESS.fullmatch(one)}
    rule = AlertRule(
        name=name, definition=definition, unit=unit,
        above=above if above is not None or watched else LARGE,
        accounts=watched, venues=venues, assets=assets,
        without=frozenset(one.lower() for one in without),
        without_labels=tuple(sorted({*exclude} - without)),
        cool_down=cool_down or timedelta(0), digest=digest, correct_after=correct_after,
        language=language,
    )  # fmt: skip
    to = targets.opened(_given(to_file), allow_private=allow_private)
    with guarded(not allow_private):
        if trial:
            _try(to, words.trial(language))
            return
        conninfo = prepared().conninfo
        with until_stopped():
            if not once:
                run.forever(conninfo, rule, to, since, say)
                return
            written, left = run.once(conninfo, rule, to, since, say)
            out.print(f"{count_of(written, 'new message')}; {sum(left.values()):,} wait")
            if left:
                waiting = ", ".join(f"{number:,} for {one}" for one, number in left.items())
                fail(f"messages could not be sent: {waiting}")


def _given(file: Path | None) -> "list[Any]":
    from indexer.alerts import targets

    if file is not None:
        if file.stat().st_mode & 0o077:
            say(f"{file}: others on this machine may read its addresses: chmod 600")
        return targets.read(_text(file))
    found = settings.read().alert_to
    if found is None:
        raise usage("name the targets in a file, --to-file, or in INDEXER_ALERT_TO")
    return targets.split(found)


def _listed(file: Path | None) -> list[str]:
    """The accounts of a file, one a line; what comes after it is for people."""
    if file is None:
        return []
    found: list[str] = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if _ADDRESS.fullmatch(words[0]) is None:
            raise ConfigError(f"{file}: line {number} begins with no address")
        found.append(words[0].lower())
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not text in UTF-8") from None


def _try(to: "list[Any]", said: str) -> None:
    problems = 0
    for target in to:
        problem = target.send(said, id="trial", kind="first", rule="trial")
        out.print(
            f"{target.name}: {'taken' if problem is None else f'not taken: {problem}'}",
            markup=False,
        )
        problems += problem is not None
    if problems:
        fail(f"{count_of(problems, 'target')} took no message")
