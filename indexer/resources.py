"""Where the files that ship beside the code are: in the wheel under the package, in a checkout
at the top level."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `migrations` or `abis`; raises FileNotFoundError when the install is broken."""
    for place in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}: neither in the package nor beside it")


def recording() -> Path:
    """The bundled, simulated recording of block files."""
    return _PACKAGE / "recording"
