"""One rule a file: how a size is flagged and an account labelled. A file here is a rule."""

import pkgutil
from importlib import import_module

from indexer.model import Rule


def rules() -> list[Rule]:
    """All rules, by id; a module without a RULE fails here."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return sorted((module.RULE for module in modules), key=lambda rule: rule.id)
