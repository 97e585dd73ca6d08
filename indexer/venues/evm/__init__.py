"""One protocol a file: its SPEC, and a join where one liquidation is several logs."""

import pkgutil
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import msgspec

from indexer.errors import ConfigError
from indexer.evm_model import Deployment, ProtocolSpec


def specs() -> list[ProtocolSpec]:
    """All protocols, by name; a module without a SPEC fails here."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return sorted((module.SPEC for module in modules), key=lambda spec: spec.name)


def deployments(name: str) -> tuple[Deployment, ...]:
    """The addresses in `deployments/NAME.json`, each with its source."""
    file = Path(__file__).parent / "deployments" / f"{name}.json"
    return msgspec.json.decode(file.read_bytes(), type=tuple[Deployment, ...])


class _Further(msgspec.Struct, forbid_unknown_fields=True):
    """A deployment in a user's own file: of which protocol, and where."""

    protocol: str
    chain: str
    address: str
    role: str
    source: str
    name: str | None = None
    since_block: int | None = None
    label: str | None = None


def with_deployments(known: Sequence[ProtocolSpec], file: bytes) -> list[ProtocolSpec]:
    """The protocols with the deployments of a user's file added; raises ConfigError."""
    try:
        further = msgspec.json.decode(file, type=list[_Further])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"not a list of deployments: {error}") from None
    by_name = {spec.name: spec for spec in known}
    places = {(at.chain, at.address.lower()) for spec in known for at in spec.deployments}
    named = {at.name: spec.name for spec in known for at in spec.deployments} | {
        name: name for name in by_name
    }
    for one in further:
        spec = by_name.get(one.protocol)
        if spec is None:
            raise ConfigError(f"no protocol {one.protocol!r}; there are {', '.join(by_name)}")
        if one.role not in spec.contracts:
            roles = ", ".join(spec.contracts)
            raise ConfigError(f"{one.protocol} has no role {one.role!r}, only {roles}")
        for word in (one.chain, one.name or spec.name):
            if re.fullmatch("[a-z0-9][a-z0-9_-]*", word) is None:
                raise ConfigError(f"{word!r} is no name: small letters, digits, _ and - make one")
        if re.fullmatch("0x[0-9a-fA-F]{40}", one.address) is None:
            raise ConfigError(f"{one.address!r} is no address")
        place = one.chain, one.address.lower()
        if place in places:
            raise ConfigError(f"{one.address} on {one.chain} is deployed twice")
        places.add(place)
        if named.setdefault(one.name or spec.name, spec.name) != spec.name:
            raise ConfigError(f"{one.name} is a deployment of {named[str(one.name)]}")
        added = Deployment(
            one.chain, one.address, one.name or spec.name, one.role, one.since_block, one.source,
            one.label,
        )  # fmt: skip
        by_name[spec.name] = msgspec.structs.replace(spec, deployments=(*spec.deployments, added))
    return list(by_name.values())
