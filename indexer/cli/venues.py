"""The verb on what can be indexed: which part of it, in which form; everything else is called."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
import msgspec
import psycopg
from rich.table import Table

from indexer import settings
from indexer.catalogue import SAYS, Family, Venue, families, families_page
from indexer.catalogue import venues as venues_of
from indexer.cli import chains
from indexer.cli.console import out, say, usage
from indexer.errors import ConfigError
from indexer.settings import Settings
from indexer.store import server
from indexer.store.checks import LastCheck, last_checks
from indexer.store.database import connect

OF_VENUE = (
    "venue", "family", "kind", "chain", "first_block", "method", "is_listed", "evidence",
    "covered_to", "checked_to", "checked_at",
)  # fmt: skip
OF_CONTRACT = ("address", "role", "since_block", "label", "source")


@click.command()
@click.option("--chain", metavar="NAME", help="Only what stands on this chain.")
@click.option("--protocol", metavar="NAME", help="Only a family, as aave_v3, or a fork, as spark.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv", "md"]), default="table",
    show_default=True, help="csv has a line for each contract, md one for each family.",
)  # fmt: skip
def venues(chain: str | None, protocol: str | None, form: str) -> None:
    """List what can be indexed: families, their deployments, chains and first blocks, how rows are
    made, and what has shown that they are right. Where a database is there, also how far each venue
    was read and when a second time; none is started for that.

    Example: indexer venues

    Example: indexer venues --chain base --format csv
    """
    chosen = settings.read()
    known = families(chains.specs_of(chosen))
    found = _filtered(known, chain, protocol)
    if form == "md":
        click.echo(families_page(_families(known, found)), nl=False)
        return
    checks = _checks(chosen)
    if form == "table":
        _show(found, checks)
    else:
        click.echo(_json(found, checks) if form == "json" else _csv(found, checks), nl=False)


def _filtered(known: Sequence[Family], chain: str | None, protocol: str | None) -> list[Venue]:
    every = venues_of(known)
    chain_names = {one.chain for one in every}
    names = {name for one in every for name in (one.family.name, one.venue.partition(".")[0])}
    if chain is not None and chain not in chain_names:
        raise usage(f"no chain {chain!r}; chains are {', '.join(sorted(chain_names))}")
    if protocol is not None and protocol not in names:
        raise usage(f"no protocol {protocol!r}; there are {', '.join(sorted(names))}")
    return [
        one for one in every
        if chain in (None, one.chain)
        and protocol in (None, one.family.name, one.venue.partition(".")[0])
    ]  # fmt: skip


def _families(known: Sequence[Family], found: Sequence[Venue]) -> list[Family]:
    """The families of some venues, with no other deployments."""
    kept = {one.family.name: [at for v in found if v.family is one.family for at in v.deployments]
            for one in found}  # fmt: skip
    return [
        msgspec.structs.replace(one, deployments=tuple(kept[one.name]))
        for one in known if one.name in kept
    ]  # fmt: skip


def _checks(chosen: Settings) -> Mapping[str, LastCheck]:
    """What a database says that is there; whatever is wrong with it is said and is no fault."""
    conninfo = chosen.database_url
    if conninfo is None:
        running = server.status(chosen.data_dir)
        conninfo = running.conninfo if running else None
    if conninfo is None:
        return {}
    try:
        with connect(conninfo) as connection:
            return last_checks(connection)
    except ConfigError as error:
        say(f"last checks are unknown: {error}")
    except psycopg.Error as error:
        say(f"last checks are unknown: {error.diag.message_primary}")
    return {}


def _show(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> None:
    table = Table(
        "venue", "family", "first block", "how", "evidence", "read to", "last check (UTC)", box=None
    )  # fmt: skip
    for one in found:
        seen, family = checks.get(one.venue), one.family
        table.add_row(
            one.venue, family.name,
            "" if one.first_block is None else f"{one.first_block:,}", family.how,
            SAYS[family.evidence], f"{seen.covered_to:,}" if seen else "",
            f"{seen.checked_at:%Y-%m-%d %H:%M}" if seen and seen.checked_at else "",
        )  # fmt: skip
    out.print(table)


def _facts(one: Venue, checks: Mapping[str, LastCheck]) -> dict[str, Any]:
    family, seen = one.family, checks.get(one.venue)
    values = (
        one.venue, family.name, family.kind, one.chain, one.first_block, family.method,
        family.is_listed, SAYS[family.evidence], *(seen[1:] if seen else (None, None, None)),
    )  # fmt: skip
    return dict(zip(OF_VENUE, values, strict=True))


def _json(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> str:
    rows = [
        {
            **_facts(one, checks),
            "events": one.family.events,
            "beside": one.family.beside,
            "methodology": one.family.methodology,
            "contracts": [_contract(at) for at in msgspec.to_builtins(one.deployments)],
        }
        for one in found
    ]
    return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n"


def _contract(at: dict[str, Any]) -> dict[str, Any]:
    return {name: at.get(name) for name in OF_CONTRACT}


def _csv(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, (*OF_VENUE, *OF_CONTRACT), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_contracts(found, checks))
    return text.getvalue()


def _contracts(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> Iterator[dict[str, Any]]:
    for one in found:
        contracts: Sequence[dict[str, Any]] = msgspec.to_builtins(one.deployments) or ({},)
        for at in contracts:
            yield _facts(one, checks) | _contract(at)
