"""The verb for monitors: where to listen, what is late; everything else is called."""

import ipaddress
from contextlib import closing
from datetime import timedelta
from typing import Any

import click

from indexer.cli import completion, logs
from indexer.cli.console import Duration, prepared, say
from indexer.cli.watch import until_stopped
from indexer.errors import ConfigError
from indexer.store.database import connect_briefly

STATEMENT_SECONDS = 3


class Listen(click.ParamType[tuple[str, int]]):
    """Where to listen, as 127.0.0.1:9464 or [::1]:9464."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65_536):
            self.fail(f"{value!r} is no address; write 127.0.0.1:9464", param, ctx)
        return host, int(port)


@click.command()
@click.option(
    "--listen", type=Listen(), default="127.0.0.1:9464", show_default=True, metavar="HOST:PORT",
    help="Whoever reaches this address sees the numbers. Port 0: any that is free.",
)  # fmt: skip
@click.option(
    "--max-lag", type=Duration(), default="15m", show_default=True,
    help="How far behind a venue may be for /ready.",
)  # fmt: skip
@click.option(
    "--venue", "venues", multiple=True, metavar="VENUE", shell_complete=completion.venues,
    help="What /ready is about; by default all venues that are covered.",
)  # fmt: skip
@logs.logged
def serve(listen: tuple[str, int], max_lag: timedelta, venues: tuple[str, ...]) -> None:
    """Answer monitors over HTTP until stopped with Ctrl-C or SIGTERM: /metrics for Prometheus,
    /health, and /ready with what is late.

    The metrics are listed in docs/operations.md. Nothing of it changes the database.

    Example: indexer serve --max-lag 5m
    """
    # with prometheus_client, which few commands need
    from indexer.serve import Monitor, Server

    conninfo = prepared().conninfo
    with (
        until_stopped(),
        closing(
            Monitor(
                lambda: connect_briefly(conninfo, STATEMENT_SECONDS), venues,
                int(max_lag.total_seconds()),
            )
        ) as monitor,
    ):  # fmt: skip
        try:
            server = Server(listen, monitor)
        except OSError as error:
            host, port = listen
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        with server:
            host, port = str(server.server_address[0]), server.server_port
            say(f"answering on http://{_shown(host)}:{port}/metrics; stop with Ctrl-C")
            if not _is_loopback(host):
                say("this address is not loopback: whoever reaches it sees the numbers")
            server.serve_forever()


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
