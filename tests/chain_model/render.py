"""Blocks, receipts and logs as the JSON that a node sends, encoded once."""

from functools import lru_cache
from typing import NamedTuple

import msgspec

from tests.chain_model.chain import Block, Receipt
from tests.chain_model.events import Log

encode = msgspec.json.encode


class SentLog(NamedTuple):
    """A log and its JSON; `block` is the height that the JSON names."""

    log: Log
    block: int
    json: bytes


class SentReceipt(NamedTuple):
    """A receipt in the pieces that its JSON is made of."""

    tx_hash: str
    start: bytes
    logs: tuple[SentLog, ...]

    def json(self, *, has_logs: bool = True) -> bytes:
        """Whole, or without its logs."""
        logs = self.logs if has_logs else ()
        return self.start[:-1] + b',"logs":' + array([log.json for log in logs]) + b"}"


class Sent(NamedTuple):
    """All that can be said of a block."""

    header: bytes
    receipts: tuple[SentReceipt, ...]
    logs: tuple[SentLog, ...]


def array(parts: list[bytes]) -> bytes:
    """A JSON array of JSON."""
    return b"[" + b",".join(parts) + b"]"


@lru_cache(maxsize=8192)  # by identity: blocks compare so
def sent(block: Block) -> Sent:
    """A block as JSON."""
    receipts = tuple(
        _receipt(block, receipt, place) for place, receipt in enumerate(block.receipts)
    )
    logs = tuple(log for receipt in receipts for log in receipt.logs)
    return Sent(_header(block), receipts, logs)


def hex_of(value: bytes | int) -> str:
    """Bytes and quantities as nodes write them."""
    return "0x" + value.hex() if isinstance(value, bytes) else hex(value)


def _header(block: Block) -> bytes:
    fields: dict[str, object] = {name: hex_of(value) for name, value in block.header.items()}
    return encode(
        fields
        | {
            "hash": block.hash,
            "size": "0x400",
            "totalDifficulty": "0x0",
            "transactions": [receipt.transaction.hash for receipt in block.receipts],
            "uncles": [],
            "withdrawals": [],
        }
    )


def _receipt(block: Block, receipt: Receipt, place: int) -> SentReceipt:
    start = {
        "transactionHash": receipt.transaction.hash,
        "transactionIndex": hex(place),
        "blockHash": block.hash,
        "blockNumber": hex(block.number),
        "from": receipt.transaction.sent.sender,
        "to": receipt.transaction.sent.to,
        "contractAddress": None,
        "cumulativeGasUsed": hex(21_000 * (place + 1)),
        "gasUsed": hex(21_000),
        "effectiveGasPrice": "0x7",
        "type": "0x2",
        "status": hex(receipt.has_succeeded),
    }
    logs = tuple(
        _log(block, receipt, place, index, log)
        for index, log in enumerate(receipt.logs, receipt.first_log)
    )
    return SentReceipt(receipt.transaction.hash, encode(start), logs)


def _log(block: Block, receipt: Receipt, place: int, index: int, log: Log) -> SentLog:
    json = encode(
        {
            **log._asdict(),
            "blockNumber": hex(block.number),
            "blockHash": block.hash,
            "blockTimestamp": hex(block.time),
            "transactionHash": receipt.transaction.hash,
            "transactionIndex": hex(place),
            "logIndex": hex(index),
            "removed": False,
        }
    )
    return SentLog(log, block.number, json)
