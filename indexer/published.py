"""What a log says by the names of its ABI, and where each field of a row is read from. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from indexer.decode import layouts
from indexer.evm_model import (
    EMITTER,
    Arg,
    EventMap,
    EventUse,
    Log,
    Lookup,
    PerpMap,
    ProtocolSpec,
    Value,
)


class Published(NamedTuple):
    """A log that was read: its event, its arguments, and what a protocol takes the event for."""

    log: Log
    event: str
    args: dict[str, Value]
    use: EventUse

    def said(self, arg: Arg | None) -> str:
        """An argument and its value, or which fact is in its place; nothing where there is none."""
        match arg:
            case None:
                return ""
            case Lookup():
                return f"{arg.fact} of {' and '.join(map(self._name, arg.of))}"
            case str() if arg == EMITTER:
                return f"emitter = {self.log.address}"
            case str():
                return f"{arg} = {self.args[arg]}"

    def _name(self, arg: Arg) -> str:
        return (
            self.said(arg) if isinstance(arg, Lookup) else "the emitter" if arg == EMITTER else arg
        )


def published(spec: ProtocolSpec, log: Log) -> Published | None:
    """What a protocol reads in a log; None where it has no such event."""
    shape = log.topics[0] if log.topics else "", len(log.topics)
    for contract in (*spec.contracts.values(), spec.bystander):
        if contract is None:
            continue
        for layout, use in layouts(contract):
            values = layout.read(log) if (layout.topic0, layout.topics) == shape else ""
            if isinstance(values, list):
                args = dict(zip(layout.names, values, strict=True))
                return Published(log, layout.name, args, use)
    return None


def sources(use: EventMap | PerpMap) -> Iterator[tuple[str, Arg | None]]:
    """Each field of a row with the argument that the event gives it."""
    if isinstance(use, PerpMap):
        yield "market", use.market[0]
        yield "account", use.account
        yield "liquidator", use.liquidator
        return
    nothing = (None, None)
    yield "market", use.market
    yield "account", use.account
    yield "owner", use.owner
    yield "liquidator", use.liquidator
    for name, leg in (("repaid", use.repaid), ("seized", use.seized)):
        asset, amount = leg or nothing
        yield f"{name} asset", asset
        yield name, amount
    yield "protocol fee", None
    yield "bad debt", use.bad_debt
