"""What a total means: definitions, saved totals, rollups."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    pass
