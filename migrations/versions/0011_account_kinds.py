"""What an account is: a contract, a Safe; who owns it."""

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    pass
