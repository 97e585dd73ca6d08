"""How much an account made of what it traded; the last price of a minute."""

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    pass
