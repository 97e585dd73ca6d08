"""What can be indexed: each protocol, where it stands, how its rows are made and what has shown
that they are right. Read from the protocols themselves, so that no list can go stale. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from indexer.decode import layouts
from indexer.evm_model import (
    EMITTER_FACT,
    Deployment,
    EventMap,
    Evidence,
    FactMap,
    PerpMap,
    ProtocolSpec,
)
from indexer.venues import hyperliquid

MOST_NAMES = 6  # of deployments in a line of the table
MOST_CHAINS = 3

Method = Literal[
    "event",  # one log is one row
    "joined",  # a row is made of several logs of a transaction
    "needs receipt",  # the same, and never without the whole receipt
    "files",  # from the block files of the exchange's own node
]
SAYS: dict[Evidence, str] = {
    "real": "real receipt or log",
    "contracts": "real contracts on the local chain",
    "abi": "encoded from the contract's ABI only",
}


class Family(msgspec.Struct, frozen=True):
    """A protocol. `events` make rows, `beside` say more of them; `is_listed` says that contracts of
    its own, as factories and comptrollers, tell which emitters are markets of it."""

    name: str
    kind: str
    method: Method
    is_listed: bool
    events: tuple[str, ...]
    beside: tuple[str, ...]
    evidence: Evidence
    methodology: str
    deployments: tuple[Deployment, ...]

    @property
    def how(self) -> str:
        """How its rows are made, in words."""
        return f"{self.method}, factory" if self.is_listed else self.method

    @property
    def names(self) -> tuple[str, ...]:
        """What its deployments are called, its own name first."""
        found = {one.name for one in self.deployments}
        return tuple(sorted(found, key=lambda name: (name != self.name, name)))

    @property
    def chains(self) -> tuple[str, ...]:
        """Where it stands; the exchange is a chain of its own."""
        return tuple(sorted({one.chain for one in self.deployments})) or (self.name,)


class Venue(msgspec.Struct, frozen=True):
    """A deployment of a family on a chain; `first_block` is None where one of its contracts does
    not say since when it is there."""

    venue: str
    family: Family
    chain: str
    deployments: tuple[Deployment, ...]
    first_block: int | None


# Not of a chain with contracts: indexer/venues/hyperliquid.py
HYPERLIQUID = Family(
    name="hyperliquid",
    kind="perp",
    method="files",
    is_listed=False,
    events=("liquidation",),
    beside=(),
    evidence="real",
    methodology=hyperliquid.SPEC.methodology,
    deployments=(),
)


def families(specs: Iterable[ProtocolSpec]) -> list[Family]:
    """All of them, by name; the exchange first."""
    return [HYPERLIQUID, *sorted(map(_family, specs), key=lambda one: one.name)]


def _family(spec: ProtocolSpec) -> Family:
    uses = [
        (layout.name, use)
        for contract in (*spec.contracts.values(), spec.bystander)
        if contract is not None
        for layout, use in layouts(contract)
    ]
    rows = dict.fromkeys(name for name, use in uses if isinstance(use, EventMap | PerpMap))
    beside = dict.fromkeys(name for name, use in uses if not isinstance(use, FactMap))
    proves = any(isinstance(use, FactMap) and use.proves for _, use in uses)
    return Family(
        name=spec.name,
        kind=spec.kind,
        method="needs receipt" if spec.needs_receipt else "joined" if spec.join else "event",
        is_listed=proves or EMITTER_FACT in spec.asks,
        events=tuple(rows),
        beside=tuple(name for name in beside if name not in rows),
        evidence=spec.evidence,
        methodology=spec.methodology,
        deployments=spec.deployments,
    )


def venues(found: Iterable[Family]) -> list[Venue]:
    """Each deployment of each family, chain by chain."""
    return [one for family in found for one in _venues(family)]


def _venues(family: Family) -> list[Venue]:
    if not family.deployments:
        return [Venue(family.name, family, family.name, (), None)]
    places = sorted({(one.name, one.chain) for one in family.deployments})
    return [_venue(family, name, chain) for name, chain in places]


def _venue(family: Family, name: str, chain: str) -> Venue:
    deployments = tuple(one for one in family.deployments if (one.name, one.chain) == (name, chain))
    firsts = [one.since_block for one in deployments]
    known = [block for block in firsts if block is not None]
    return Venue(
        venue=f"{name}.{chain}",
        family=family,
        chain=chain,
        deployments=deployments,
        first_block=min(known) if len(known) == len(firsts) else None,
    )


# pages


def families_page(found: Sequence[Family]) -> str:
    """The table of families, as docs/chains.md has it."""
    lines = [
        "| Family | Deployments | Chains | A row is made by | How | Evidence |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        cells = (
            f"`{one.name}`", _names(one), _chains(one), _made_by(one), one.how,
            SAYS[one.evidence],
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _names(one: Family) -> str:
    others = [name for name in one.names if name != one.name]
    shown = ", ".join(f"`{name}`" for name in others[:MOST_NAMES])
    rest = len(others) - MOST_NAMES
    more = f" and {rest} more" if rest > 0 else ""
    return f"also {shown}{more}" if others else "its own"


def _chains(one: Family) -> str:
    return ", ".join(one.chains) if len(one.chains) <= MOST_CHAINS else str(len(one.chains))


def _made_by(one: Family) -> str:
    rows = ", ".join(f"`{name}`" for name in one.events)
    beside = ", ".join(f"`{name}`" for name in one.beside)
    return f"{rows}; beside it {beside}" if beside else rows


def evidence_page(found: Sequence[Family]) -> str:
    """What stands behind which families, as README.md has it."""
    lines = ["| Decoded in tests from | Families |", "| --- | --- |"]
    for evidence, says in SAYS.items():
        names = [f"`{one.name}`" for one in found if one.evidence == evidence]
        if names:
            lines.append(f"| {says} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"
