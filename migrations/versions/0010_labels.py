"""Labels that are made again only where something changed."""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    pass
