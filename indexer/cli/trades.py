"""Perpetual exchanges whose trades are public: one look at them, or as they happen."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from indexer import settings
from indexer.cli import logs
from indexer.cli.console import connected, fail, out, say, usage
from indexer.cli.fills import Since
from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError
from indexer.perp_feeds import FEEDS, Feed
from indexer.report.text import count_of
from indexer.store import rollups

if TYPE_CHECKING:
    from indexer.sources.perp_trades import Market, TradesApi

# What reaches web3 is imported where it is needed: that takes a second, and most commands do not.

ASKED = [feed.venue for feed in FEEDS.values() if feed.pages]
NAMES_SHOWN = 10


@click.command()
@click.argument("venue", metavar="VENUE")
@click.argument("markets", nargs=-1, metavar="[MARKET]...")
@click.option(
    "--since", type=Since(),
    help="From when on, UTC, or how long ago, as 24h.  [default: where it was left, or 24h]",
)  # fmt: skip
@logs.logged
def trades(venue: str, markets: tuple[str, ...], since: datetime | None) -> None:
    """Ask another exchange for trades, and store the liquidations among them.

    A VENUE is lighter, paradex or extended; a MARKET is named as there, and without one it is all
    of them. A sample and never a total: it covers nothing. Liquidations of lighter have accounts;
    those of the others lack them, and stand apart, in liq.anonymous_liquidations. indexer follow
    VENUE goes on with it, and hears those of aster. Exits with 1 when a market could not be asked
    for.

    Example: indexer trades lighter ETH --since 1h

    Example: indexer trades paradex BTC-USD-PERP --since 1h
    """
    if venue not in FEEDS:
        raise usage(f"no exchange {venue!r} is known: {', '.join(ASKED)}")
    if venue not in ASKED:
        raise usage(f"{venue} tells liquidations only as they happen: indexer follow {venue}")
    now = datetime.now(UTC)
    if since is not None and since > now:
        raise usage("--since is still to come")
    with until_stopped(), connected() as connection, closing(_api(FEEDS[venue])) as api:
        from indexer import perp_samples

        feed = FEEDS[venue]
        chosen = _chosen(feed, api, markets)
        source = perp_samples.source_of(markets)
        sampler = perp_samples.Sampler(connection, feed)
        asked = perp_samples.pull(
            connection, sampler, feed, api, chosen, source=source, until=now, say=say,
            since=since or perp_samples.since_last(connection, feed, source, now),
        )  # fmt: skip
        if sampler.counts["liquidations"]:
            rollups.refresh(connection, now=datetime.now(UTC))
        counts = sampler.counts
        out.print(
            f"{count_of(asked.markets, 'market')}, {asked.failed:,} failed,"
            f" {count_of(asked.trades, 'trade')}; {count_of(counts['liquidations'], 'liquidation')}"
            f" among them, {counts['anonymous']:,} without an account, {counts['undecoded']:,}"
            " undecoded. A sample: it covers nothing",
            soft_wrap=True,
        )
    if asked.failed:
        fail(f"{count_of(asked.failed, 'market')} could not be asked for")


def follow(venue: str, is_over: Callable[[], bool]) -> None:
    """Ask again and again, or listen, until told to stop."""
    feed = FEEDS[venue]
    if feed.wire is None:
        # what is waited for may be long: a signal ends it at once
        with until_stopped(), connected() as connection, closing(_api(feed)) as api:
            from indexer import perp_samples

            perp_samples.poll(connection, feed, api, say)
        say("a sample: it covers nothing")
        return
    with connected() as connection:
        from indexer import perp_samples
        from indexer.sources.perp_trades import TradeStream

        stream = TradeStream(feed, _address(feed, "STREAM", "ws://", "wss://"))
        lost = perp_samples.listen(connection, feed, stream, is_over, say)
    said = "a lower bound" if feed.completeness == "lower bound" else "a sample"
    say(f"stopped; {said}: it covers nothing. Something was lost {count_of(lost, 'time')}")


def _api(feed: Feed) -> "TradesApi":
    from indexer.sources.perp_trades import TradesApi

    return TradesApi(feed, _address(feed, "API", "http://", "https://"))


def _address(feed: Feed, kind: str, *schemes: str) -> str | None:
    name = f"{feed.venue.upper()}_{kind}"
    found = settings.read().perps.get(name)
    if found is not None and not found.startswith(schemes):
        raise ConfigError(f"{name} is not {' or '.join(schemes)}")
    return found


def _chosen(feed: Feed, api: "TradesApi", names: tuple[str, ...]) -> "list[Market]":
    """The markets of these names, or all; an unknown one is wrong usage."""
    known = {market.name: market for market in api.markets()}
    for name in names:
        if name not in known:
            some = ", ".join(list(known)[:NAMES_SHOWN])
            raise usage(f"{feed.venue} has no perpetual {name!r}; it has {some} and so on")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())
