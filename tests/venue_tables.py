"""The tables of protocols in README.md and docs/chains.md, from the protocols themselves.

python -m tests.venue_tables
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from indexer.catalogue import Family, evidence_page, families, families_page
from indexer.venues.evm import specs

ROOT = Path(__file__).resolve().parents[1]
REMEDY = "the protocols have changed: python -m tests.venue_tables"
PAGES: dict[str, Callable[[Sequence[Family]], str]] = {
    "README.md": evidence_page,
    "docs/chains.md": families_page,
}
BEGIN, END = "<!-- made by python -m tests.venue_tables -->\n", "<!-- end -->\n"
_BETWEEN = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)


def shown(page: str) -> str:
    """The table that stands on a page."""
    (table,) = _BETWEEN.findall((ROOT / page).read_text("utf-8"))
    return str(table)


def made(page: str) -> str:
    """The table that must stand there."""
    return PAGES[page](families(specs()))


def write(page: str) -> None:
    """Put it there."""
    text = (ROOT / page).read_text("utf-8")
    (ROOT / page).write_text(_BETWEEN.sub(lambda _: made(page), text), "utf-8")


if __name__ == "__main__":
    for name in PAGES:
        write(name)
