"""The exchange ledger's own word on liquidations: equity, margin mode, positions at mark."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from indexer.hyperliquid_format import NEEDLE
from indexer.model import BlockLine, LedgerLiquidation, RawEvent, Undecoded
from indexer.venues.hyperliquid import EVENTS, SPEC, digest_of, raw_event, undecoded_as


class Position(msgspec.Struct, frozen=True, gc=False):
    """One position of the account at that moment; `szi` is signed."""

    coin: str
    szi: str


class Delta(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The ledger's account of a liquidation: all positions of the account, valued at mark."""

    type: str
    liquidated_ntl_pos: Decimal
    account_value: Decimal
    leverage_type: str
    liquidated_positions: list[Position]


class Update(msgspec.Struct, frozen=True, gc=False):
    """A ledger update: whose it is and what changed."""

    users: list[str]
    delta: Delta


class Inner(msgspec.Struct, frozen=True, gc=False):
    """The body of an event that is a ledger update."""

    ledger_update: Update = msgspec.field(name="LedgerUpdate")


class LedgerEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of misc_events that is a liquidation."""

    time: str | int
    hash: str
    inner: Inner


_LEDGER_EVENT = msgspec.json.Decoder(LedgerEvent)


def ledger_liquidations(
    line: BlockLine,
) -> Iterator[tuple[RawEvent, LedgerLiquidation | Undecoded]]:
    """The ledger updates of a block that speak of a liquidation, each with its bytes."""
    for body in EVENTS.decode(line.events):
        if NEEDLE not in bytes(body):
            continue
        yield _ledger_liquidation(bytes(body), line)


def _ledger_liquidation(
    body: bytes, line: BlockLine
) -> tuple[RawEvent, LedgerLiquidation | Undecoded]:
    try:
        event = _LEDGER_EVENT.decode(body)
        users, delta = event.inner.ledger_update.users, event.inner.ledger_update.delta
        if delta.type != "liquidation" or len(users) != 1:
            raise msgspec.ValidationError(f"{delta.type} of {len(users)} users")
    except msgspec.MsgspecError as error:
        raw = raw_event(f"ledger/{digest_of(body)}", body, line)
        return raw, undecoded_as(raw, f"unknown shape of a ledger update: {error}")
    account, tx_hash = users[0].lower(), event.hash.lower()
    # One action can take several isolated positions of an account, each with its own update.
    coins = ",".join(sorted(position.coin for position in delta.liquidated_positions))
    raw = raw_event(f"ledger/{tx_hash}/{account}/{coins}", body, line)
    return raw, LedgerLiquidation(
        SPEC.name, raw.event_key, account, tx_hash, raw.block_number, raw.block_at,
        delta.account_value, delta.leverage_type.lower(), delta.liquidated_ntl_pos,
        msgspec.json.encode(delta.liquidated_positions).decode(),
    )  # fmt: skip
