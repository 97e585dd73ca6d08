"""What proves coverage from the data itself."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass
