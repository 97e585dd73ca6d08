"""One protocol a file: its SPEC, and a join where one liquidation is several logs."""

import pkgutil
from importlib import import_module
from pathlib import Path

import msgspec

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
