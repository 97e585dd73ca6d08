"""Open positions of watched accounts, as venues stated them."""

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    pass
