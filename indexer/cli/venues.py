"""The verb on what can be indexed: which part of it, in which form; everything else is called."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
import msgspec
import psycopg

from indexer import settings
from indexer.catalogue import SAYS, Family, Venue, families, families_page
from indexer.catalogue import venues as venues_of
from indexer.cli import chains
from indexer.cli.console import say, usage
from indexer.cli.shown import Listing, formatted, show, write_csv
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
@formatted(says="csv has a line for each contract, md one for each family.")
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
    match form:
        case "table":
            show(_table(found, checks), form)
        case "json":
            click.echo(_json(found, checks), nl=False)
        case _:
            write_csv((*OF_VENUE, *OF_CONTRACT), _contracts(found, checks))


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


_HEADS = {
    "venue": "venue", "family": "family", "first_block": "first block", "how": "how",
    "evidence": "evidence", "covered_to": "read to", "checked_at": "last check (UTC)",
}  # fmt: skip


def _table(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> Listing:
    rows = []
    for one in found:
        seen, family = checks.get(one.venue), one.family
        rows.append((
            one.venue, family.name, one.first_block, family.how, SAYS[family.evidence],
            seen.covered_to if seen else None,
            f"{seen.checked_at:%Y-%m-%d %H:%M}" if seen and seen.checked_at else None,
        ))  # fmt: skip
    return Listing("venues", _HEADS, rows)


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


def _contracts(found: Sequence[Venue], checks: Mapping[str, LastCheck]) -> Iterator[Iterable[Any]]:
    for one in found:
        contracts: Sequence[dict[str, Any]] = msgspec.to_builtins(one.deployments) or ({},)
        for at in contracts:
            yield (_facts(one, checks) | _contract(at)).values()
