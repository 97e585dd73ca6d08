"""What a node of dYdX v4 tells of a block, and what its transactions say in protobuf; shared by the
source and the venue file.

[S] `dydxprotocol/v4-chain:` names the file each shape is from; envelopes are `cosmos/cosmos-sdk:
proto/cosmos/tx/v1beta1/tx.proto` (TxRaw, TxBody) and `google/protobuf/any.proto`.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import msgspec

CHAIN_ID = "dydx-mainnet-1"
PROPOSED = b"/dydxprotocol.clob.MsgProposedOperations"  # proto/dydxprotocol/clob/tx.proto
_VARINT_BYTES = 10  # the most that 64 bits take


class Result(msgspec.Struct, frozen=True, gc=False):
    """What became of one transaction: its code, 0 where it was carried out, and its events as
    published."""

    code: int
    events: tuple[bytes, ...]


class Block(msgspec.Struct, frozen=True, gc=False):
    """One block with its results; `others` are the events of no transaction, in lists by name.

    `results` are as many as `txs`. `source` says which node told it."""

    height: int
    at: datetime
    hash: str
    parent_hash: str
    txs: tuple[bytes, ...]
    results: tuple[Result, ...]
    others: tuple[tuple[str, tuple[bytes, ...]], ...]
    source: str


class Perpetual(NamedTuple):
    """A market: one base quantum is ten to the power of `atomic_resolution` of its coin.

    [S] proto/dydxprotocol/perpetuals/perpetual.proto"""

    ticker: str
    atomic_resolution: int


class Deleveraging(NamedTuple):
    """One fill of a deleveraging as the block's proposer wrote it, with the bytes of the operation
    that it is part of. A final settlement is at the oracle's price, of an account with equity.

    [S] proto/dydxprotocol/clob/matches.proto: MatchPerpetualDeleveraging, is_final_settlement"""

    liquidated: str
    perpetual: int
    offsetting: str
    quantums: int
    is_final_settlement: bool
    operation: bytes


class Operations(NamedTuple):
    """What the proposer's transaction holds of forced trades: the number of fills of liquidation
    orders, and each fill of a deleveraging."""

    liquidations: int
    deleveragings: tuple[Deleveraging, ...]


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message, in order. Raises ValueError.

    https://protobuf.dev/programming-guides/encoding"""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"protobuf of wire type {kind}")
        if at + size > len(message):
            raise ValueError("protobuf that is cut")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(message[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError("protobuf that is cut")


def _texts(message: bytes, number: int) -> list[bytes]:
    """All values of a field that holds bytes."""
    return [value for found, value in fields(message) if found == number and type(value) is bytes]


def _number(message: bytes, number: int) -> int:
    """A field that holds a number; 0 where it is left out, as proto3 leaves out zeros."""
    found = [value for name, value in fields(message) if name == number and type(value) is int]
    return found[-1] if found else 0


def _only(message: bytes, number: int) -> bytes:
    found = _texts(message, number)
    return found[-1] if found else b""


def operations(tx: bytes) -> Operations:
    """What a transaction proposes of forced trades; nothing where it is no proposer's. Raises
    ValueError where it is no transaction.

    [S] proto/dydxprotocol/clob/tx.proto: MsgProposedOperations, OperationRaw; matches.proto"""
    liquidations, deleveragings = 0, []
    for message in _texts(_only(tx, 1), 1):
        if _only(message, 1) != PROPOSED:
            continue
        for operation in _texts(_only(message, 2), 1):
            match = _only(operation, 1)
            liquidations += sum(len(_texts(one, 6)) for one in _texts(match, 2))
            deleveragings += [fill for one in _texts(match, 3) for fill in _deleveraged(one)]
    return Operations(liquidations, tuple(deleveragings))


def _deleveraged(operation: bytes) -> Iterator[Deleveraging]:
    liquidated, perpetual = _subaccount(_only(operation, 1)), _number(operation, 2)
    is_final = bool(_number(operation, 4))
    for fill in _texts(operation, 3):
        offsetting = _subaccount(_only(fill, 1))
        yield Deleveraging(liquidated, perpetual, offsetting, _number(fill, 2), is_final, operation)


def _subaccount(message: bytes) -> str:
    """[S] proto/dydxprotocol/subaccounts/subaccount.proto: SubaccountId"""
    return subaccount(_only(message, 1).decode("ascii"), _number(message, 2))


def subaccount(owner: str, number: int) -> str:
    """An account as rows name it: the owner's address, a colon and its number."""
    return f"{owner.lower()}:{number}"


def perpetual_request(number: int) -> bytes:
    """The query for one perpetual. [S] proto/dydxprotocol/perpetuals/query.proto"""
    value = bytearray(b"\x08")
    while number >= 0x80:
        value.append(number & 0x7F | 0x80)
        number >>= 7
    value.append(number)
    return bytes(value)


def perpetual_of(answer: bytes, number: int) -> Perpetual:
    """What the answer says of a perpetual. Raises ValueError where it is of another."""
    params = _only(_only(answer, 1), 1)
    ticker = _only(params, 2).decode("ascii")
    zigzag = _number(params, 4)  # sint32
    if _number(params, 1) != number or not ticker:
        raise ValueError(f"the answer is not about perpetual {number}")
    return Perpetual(ticker, (zigzag >> 1) ^ -(zigzag & 1))
