"""Who can never be called a whale or a victim."""

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    pass
