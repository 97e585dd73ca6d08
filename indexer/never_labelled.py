"""Accounts that can never be called a whale or a victim: routers, lenders of flash loans, bridges
and liquidator contracts, and the contracts of our own venues.

What no venue says stands in `never_labelled.csv`, each account with the repository or the package
and version that names it. Users add a file in the same form. `*` is every chain, and only for
contracts that have the same address wherever they are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from indexer.errors import ConfigError
from indexer.evm_model import ProtocolSpec
from indexer.label_files import Broken, Context, Faulty, account_of, chain_of, records, shown, text

FILE = Path(__file__).with_suffix(".csv")
SHOWN = 5  # broken lines in a message


class Never(NamedTuple):
    """An account, what it is as a sentence goes on ("a router of X"), and who says so."""

    chain: str
    account: str
    why: str
    source: str


def of_project(specs: Iterable[ProtocolSpec], chains: Mapping[int, str]) -> list[Never]:
    """All that the project knows: the file, and where the protocols are deployed."""
    known = {(one.chain, one.account): one for one in (*of_venues(specs), *read(FILE, chains))}
    return sorted(known.values())


def of_venues(specs: Iterable[ProtocolSpec]) -> Iterator[Never]:
    """The contracts of the protocols themselves."""
    for spec in specs:
        for place in spec.deployments:
            role = place.role.replace("_", " ")
            why = f"the contract {role} of {place.name}.{place.chain}"
            yield Never(place.chain, place.address.lower(), why, place.source)


def read(path: Path, chains: Mapping[int, str]) -> list[Never]:
    """The accounts of a CSV file: chain, account, why, source. Whole or ConfigError, with the first
    few lines that are broken or say an account again."""
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"{path}: a file of accounts ends with .csv")
    found: list[Never] = []
    broken: list[Broken] = []
    seen: Counter[tuple[str, str]] = Counter()
    for record in records(path, Never._fields):
        if isinstance(record, Broken):
            broken.append(record)
            continue
        try:
            one = _never(record.fields, Context(chains))
        except Faulty as fault:
            broken.append(Broken(record.where, str(fault)))
            continue
        seen[one.chain, one.account] += 1
        if seen[one.chain, one.account] > 1:
            broken.append(Broken(record.where, f"{one.account} stands there already"))
        found.append(one)
    if broken:
        rest = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        first = "; ".join(map(str, broken[:SHOWN]))
        raise ConfigError(f"{path}: nothing was taken, broken lines: {len(broken)}: {first}{rest}")
    return found


def _never(row: Mapping[str, Any], context: Context) -> Never:
    account = account_of(row["account"])
    if ":" in account:
        raise Faulty(f"{shown(account)}: name the address alone, it holds for all its numbers")
    why, source = text(row["why"]), text(row["source"])
    if not why or not source:
        raise Faulty("why and source say what it is and who says so")
    return Never(chain_of(row["chain"], context), account, why, source)
