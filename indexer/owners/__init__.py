"""One way a file to find whose an account is, by what contracts of note say. A file here is a way.

Nobody is believed about itself: an address that says who owns it is only heard where a factory that
a source names has made it, or where its code is known."""

import pkgutil
from importlib import import_module

from indexer.account_model import Way


def ways() -> list[Way]:
    """All ways, by method; a module without a WAY fails here."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return sorted((module.WAY for module in modules), key=lambda way: way.method)
