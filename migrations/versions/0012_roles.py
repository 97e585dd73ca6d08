"""What the exchange says of an account: vault, sub-account, agent."""

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    pass
