"""What `indexer follow` needs to listen to those who send fills of Hyperliquid."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import click

from indexer import settings
from indexer.cli.console import connected, say, usage
from indexer.cli.fills import watch_list
from indexer.errors import ConfigError
from indexer.report.text import count_of
from indexer.sources.hyperliquid_vendors import USERS_OF_AN_ADDRESS, VENDORS


class Choice(NamedTuple):
    """Whom to listen to."""

    stream: str | None
    vendor: str | None
    key_file: Path | None
    file: Path | None
    by_candidates: bool

    @property
    def is_any(self) -> bool:
        """Whether anything of it was chosen."""
        return any(self)


def chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that make a Choice."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option(
        "--stream", metavar="WSS",
        help="hyperliquid: the address of the --vendor's feed, where it is not the known one.",
    ),
    click.option(
        "--vendor", metavar="NAME",
        help=f"hyperliquid: who sends fills, and how: {', '.join(VENDORS)}.",
    ),
    click.option("--key-file", type=_FILE, help="hyperliquid: a file with the vendor's key."),
    click.option(
        "--watch-list", "file", type=_FILE,
        help=f"hyperliquid: whose fills to hear of the exchange, {USERS_OF_AN_ADDRESS} accounts at"
        " most.",
    ),
    click.option(
        "--candidates", "by_candidates", is_flag=True,
        help="hyperliquid, EXPERIMENTAL: hear all trades and what users did, and ask for the fills"
        " of takers whose trades nobody's action explains. Never tried live.",
    ),
)  # fmt: skip


def follow(choice: Choice, is_over: Callable[[], bool]) -> None:
    """Listen until told to stop, and write what is told."""
    if choice.by_candidates:
        if any(choice[:-1]):
            raise usage("--candidates needs no vendor: give it alone")
        _follow_candidates(is_over)
        return
    if choice.vendor is None:
        raise usage(f"say who sends it: --vendor {', '.join(VENDORS)}")
    if choice.vendor not in VENDORS:
        raise usage(f"no vendor {choice.vendor!r} is known: {', '.join(VENDORS)}")
    vendor = VENDORS[choice.vendor]
    if vendor.of_users != (choice.file is not None):
        raise usage(
            f"{vendor.name} sends fills of accounts that it is given: --watch-list FILE"
            if vendor.of_users
            else f"{vendor.name} sends fills of all accounts: --watch-list is for exchange"
        )
    users = watch_list(choice.file) if choice.file else []
    if len(users) > USERS_OF_AN_ADDRESS:
        raise usage(
            f"{choice.file} has {len(users)} accounts; the exchange sends those of"
            f" {USERS_OF_AN_ADDRESS}: indexer fills --watch-list asks for more"
        )
    with connected() as connection:
        from indexer.samples import listen
        from indexer.sources.hyperliquid_stream import Stream

        opened = Stream(vendor, choice.stream, _key(choice.key_file), users)
        source = f"stream {vendor.name} {vendor.feed}"
        lost = listen(connection, opened, source, users, is_over, say)
    say(f"stopped; a sample: it covers no blocks. Something was lost {count_of(lost, 'time')}")


def _follow_candidates(is_over: Callable[[], bool]) -> None:
    from indexer.samples import follow_candidates, markets
    from indexer.sources.hyperliquid_fills_api import FillsApi
    from indexer.sources.hyperliquid_trades import MOST_COINS, Feeds

    with connected() as connection, closing(FillsApi(settings.read().hyperliquid_api)) as api:
        coins = markets(api)
        say("EXPERIMENTAL: a sample of unknown size, never tried on the live exchange")
        if len(coins) > MOST_COINS:
            say(f"the exchange tells trades of {MOST_COINS} markets; {len(coins)} there are")
        follow_candidates(connection, Feeds(coins), api, is_over, say)
    say("stopped; a sample: it covers no blocks")


def _key(file: Path | None) -> str | None:
    if file is None:
        return settings.read().hyperliquid_stream_key
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read") from error
    if not key or len(key.split()) != 1:
        raise ConfigError(f"{file}: not one key on one line")
    return key
