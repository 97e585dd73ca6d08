"""The error family. Bad *data* is no error: it becomes an `Undecoded` row.

IndexerError          one line for the user, exit code 1
├── ConfigError       a setting, an option or the machine is wrong; stop at the start
├── SourceFault       a source breaks off or contradicts itself: keep what came before
├── Conflict          the same event was published twice with different content
├── Fenced            another writer covered these blocks first; nothing of ours was written
└── FinalityViolated  a chain replaced blocks that it had called final; a human must look
"""


class IndexerError(Exception):
    """Root of the family; its text is one line that a user can act on."""


class ConfigError(IndexerError):
    """The settings or the machine do not allow a start."""


class SourceFault(IndexerError):
    """A file or stream is cut, unreadable or not in order. `where` is `file:line`."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


class Conflict(IndexerError):
    """One event key, two contents: the first stays, the second is refused."""


class Fenced(IndexerError):
    """Another process committed these blocks while we read them."""


class FinalityViolated(IndexerError):
    """A reorg reaches below what was final: the chain is not followed any further."""
