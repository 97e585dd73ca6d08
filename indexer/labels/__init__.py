"""One rule a file: how a size is flagged and an account labelled. A file here is a rule; a user's
file of rules sets parameters of these, and adds more."""

import pkgutil
import tomllib
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec

from indexer.errors import ConfigError
from indexer.model import Rule


def rules(theirs: bytes = b"") -> list[Rule]:
    """All rules, by id, with what a file of the user's changes; a module without a RULE fails here.

    A table of the file names a rule and sets parameters, `[SIZE_ABS]` and `large = 500_000`; one
    with a `query` is a rule of its own. ConfigError names what is unknown or of another type."""
    modules = (
        import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    found: dict[str, Rule] = {module.RULE.id: module.RULE for module in modules}
    try:
        tables = tomllib.loads(theirs.decode(), parse_float=Decimal)
    except ValueError as error:
        raise ConfigError(f"not a file of rules: {error}") from None
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{name} stands outside of a rule's table")
        known = found.get(name)
        if "query" in table and known is not None:
            raise ConfigError(f"{name} is a rule already: a rule of your own wants another name")
        found[name] = _with(known, table) if known is not None else _new(name, table)
    return [found[name] for name in sorted(found)]


def _with(rule: Rule, parameters: dict[str, Any]) -> Rule:
    changed = dict(rule.parameters)
    for name, value in parameters.items():
        if name not in changed:
            known = ", ".join(changed)
            raise ConfigError(f"{rule.id} has no parameter {name}; it has {known}")
        try:
            changed[name] = msgspec.convert(value, type(changed[name]))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{rule.id}: {name}: {error}") from None
    return msgspec.structs.replace(rule, parameters=changed)


def _new(name: str, table: dict[str, Any]) -> Rule:
    try:
        rule = msgspec.convert({"parameters": {}, **table, "id": name}, Rule)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name} is no rule that we have, and none of its own: {error}") from None
    unknown = set(table) - set(Rule.__struct_fields__)
    if unknown:
        raise ConfigError(f"{name}: {', '.join(sorted(unknown))}: a rule has no such field")
    if rule.of == "days" and rule.makes != "flags":
        raise ConfigError(f"{name}: a rule of days makes flags")
    reach = rule.parameters.get(rule.reach)
    if rule.reach and not (type(reach) is int and reach >= 0):
        raise ConfigError(f"{name}: reach names a parameter that is a number of days")
    least = rule.parameters.get(rule.least)
    if rule.least and type(least) not in (int, Decimal):
        raise ConfigError(f"{name}: least names a parameter that is a number of dollars")
    return rule
