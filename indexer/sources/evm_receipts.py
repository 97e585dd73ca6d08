"""The receipts of a block: all logs there are, since a header says which transactions it has and,
on most chains, which words their logs hold."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from indexer.evm_model import BlockRef, Log, LogFilter, Proof, Sent
from indexer.sources.chains import ChainProfile
from indexer.sources.endpoints import Endpoint
from indexer.sources.evm_headers import Headers, kept, logs_in
from indexer.sources.genuine import bloom_of
from indexer.sources.rpc import Call, TimedOut, TooLarge, Unsupported, Untrue, is_null
from indexer.sources.wire import (
    CALL,
    RECEIPT,
    RECEIPTS,
    TRANSACTION,
    Header,
    WireCall,
    WireReceipt,
    check_logs,
    quantity,
    read,
    read_block,
)


class Receipt(msgspec.Struct, frozen=True):
    """A transaction's receipt; `has_succeeded` is None on blocks before Byzantium."""

    tx_hash: str
    tx_index: int
    has_succeeded: bool | None
    logs: tuple[Log, ...]


class Mined(NamedTuple):
    """A transaction and the block that it stands in; `proof` says what stands behind its logs."""

    block: BlockRef
    receipt: Receipt
    proof: Proof


class Pending(NamedTuple):
    """A transaction that a node knows and no block has yet."""

    tx_hash: str


class Receipts:
    """The receipts of a chain as single endpoints have them; every method raises a Fault."""

    def __init__(self, profile: ChainProfile, headers: Headers) -> None:
        self._profile = profile
        self._headers = headers

    def of_block(self, endpoint: Endpoint, block: BlockRef) -> tuple[Receipt, ...]:
        """Those of all transactions of a block, in order."""
        by_hash = Call("eth_getBlockByHash", (block.hash, False))
        header = self._headers.checked(endpoint.call(by_hash), block.hash)
        try:
            raw = endpoint.call(Call("eth_getBlockReceipts", (block.hash,)))
            sent = read_block(RECEIPTS, raw, "the list of receipts")
        except Unsupported:
            sent = _singly(endpoint, header.transactions)
        receipts = self._checked(block, header, sent)
        self._check_bloom(header, receipts)
        return receipts

    def _checked(
        self, block: BlockRef, header: Header, sent: list[WireReceipt]
    ) -> tuple[Receipt, ...]:
        sent = sorted(sent, key=lambda receipt: quantity(receipt.transaction_index))
        if any(receipt.block_hash.lower() != block.hash for receipt in sent):
            raise Untrue(f"a receipt of another block than {block.number}")
        hashes = [receipt.transaction_hash.lower() for receipt in sent]
        expected = [tx_hash.lower() for tx_hash in header.transactions]
        missing = set(expected) - set(hashes)
        if missing or (hashes != expected and not self._profile.system_transactions):
            raise Untrue(f"the receipts of block {block.number} are not those of its transactions")
        logs = logs_in(block, [log for receipt in sent for log in receipt.logs], None)
        if not self._profile.system_transactions and (
            [log.log_index for log in logs] != list(range(len(logs)))
        ):
            raise Untrue(f"the logs of block {block.number} are not numbered from 0")
        by_tx: dict[str, list[Log]] = {tx_hash: [] for tx_hash in hashes}
        for log in logs:
            if log.tx_hash not in by_tx:
                raise Untrue(f"a log of a transaction that is not in block {block.number}")
            by_tx[log.tx_hash].append(log)
        return tuple(_receipt(receipt, by_tx) for receipt in sent)

    def _check_bloom(self, header: Header, receipts: Sequence[Receipt]) -> None:
        """Receipts without some of their logs have another bloom than a genuine header says."""
        if not self._profile.bloom_is_complete or header.logs_bloom is None:
            return
        bloom = bloom_of(log for receipt in receipts for log in receipt.logs)
        if bloom != header.logs_bloom.lower() and header.is_genuine():
            number = quantity(header.number)
            raise Untrue(f"the logs of block {number} are not those of its bloom")

    def of_hash(self, endpoint: Endpoint, tx_hash: str) -> Mined | Pending:
        """What became of a transaction, its receipt among all of its block where the endpoint gives
        those; a receipt of a block that was replaced is refused."""
        raw = endpoint.call(Call("eth_getTransactionReceipt", (tx_hash,)))
        if is_null(raw):
            return _pending(endpoint, tx_hash)
        sent = read(RECEIPT, raw)
        number = quantity(sent.block_number)
        block = self._headers.refs(endpoint, [number])[0]
        if (sent.transaction_hash.lower(), sent.block_hash.lower()) != (tx_hash, block.hash):
            raise Untrue("the receipt of another transaction, or of a block that was replaced")
        try:
            of_block = self.of_block(endpoint, block)
        except (Unsupported, TooLarge, TimedOut):
            logs = logs_in(block, sent.logs, None)
            if any(log.tx_hash != tx_hash for log in logs):
                raise Untrue("a receipt with logs of another transaction") from None
            return Mined(block, _receipt(sent, {tx_hash: logs}), "unverified")
        for receipt in of_block:
            if receipt.tx_hash == tx_hash:
                return Mined(block, receipt, "receipts")
        raise Untrue(f"block {number} does not have the transaction that is said to be in it")

    def of_transactions(
        self, endpoint: Endpoint, known: Mapping[str, Sequence[Log]]
    ) -> dict[str, tuple[Log, ...]]:
        """All logs of transactions, by their hash, of each of which some are known."""
        sent = _singly(endpoint, list(known))
        return {
            tx_hash: self._logs_of(receipt, known[tx_hash])
            for receipt, tx_hash in zip(sent, known, strict=True)
        }

    def _logs_of(self, sent: WireReceipt, known: Sequence[Log]) -> tuple[Log, ...]:
        tx_hash, block_hash = known[0].tx_hash, known[0].block_hash
        if (sent.transaction_hash.lower(), sent.block_hash.lower()) != (tx_hash, block_hash):
            raise Untrue("the receipt of another transaction, or of another block")
        number = quantity(sent.block_number)
        found = check_logs(sent.logs, self._profile.name, None, number, number + 1)
        if any(log.tx_hash != tx_hash or log.block_hash != block_hash for log in found.logs):
            raise Untrue("a receipt with logs of another transaction or block")
        if not all(log in found.logs for log in known):
            raise Untrue("a receipt without logs that its transaction is known to have")
        return tuple(found.logs)


def sent_of(endpoint: Endpoint, logs: Mapping[str, Log]) -> dict[str, Sent]:
    """What transactions are, by their hash, of each of which a log is known; raises a Fault."""
    calls = [Call("eth_getTransactionByHash", (tx_hash,)) for tx_hash in logs]
    raws = zip(logs.values(), endpoint.batch(calls), strict=True)
    return {
        log.tx_hash: _sent(log, read_block(CALL, kept(raw), "a transaction")) for log, raw in raws
    }


def _sent(log: Log, sent: WireCall) -> Sent:
    if (sent.hash.lower(), sent.block_hash.lower()) != (log.tx_hash, log.block_hash):
        raise Untrue("another transaction, or one of another block")
    found = Sent(sent.sender.lower(), (sent.to or "").lower(), sent.input.lower())
    if _CALL.fullmatch("/".join(found)) is None:
        raise Untrue("a transaction that is not hexadecimal text")
    return found


_CALL = re.compile("0x[0-9a-f]{40}/(0x[0-9a-f]{40})?/0x([0-9a-f]{2})*")


def _singly(endpoint: Endpoint, transactions: Sequence[str]) -> list[WireReceipt]:
    calls = [Call("eth_getTransactionReceipt", (tx_hash,)) for tx_hash in transactions]
    return [read_block(RECEIPT, kept(raw), "a receipt") for raw in endpoint.batch(calls)]


def _pending(endpoint: Endpoint, tx_hash: str) -> Pending:
    """A transaction without a receipt; raises Missing where it is none that the endpoint knows."""
    try:
        known = endpoint.call(Call("eth_getTransactionByHash", (tx_hash,)))
    except Unsupported:
        known = msgspec.Raw(b"null")
    if read_block(TRANSACTION, known, "the transaction").hash.lower() != tx_hash:
        raise Untrue("another transaction than was asked for")
    return Pending(tx_hash)


def _receipt(sent: WireReceipt, by_tx: Mapping[str, Sequence[Log]]) -> Receipt:
    tx_hash = sent.transaction_hash.lower()
    return Receipt(
        tx_hash=tx_hash,
        tx_index=quantity(sent.transaction_index),
        has_succeeded=None if sent.status is None else quantity(sent.status) == 1,
        logs=tuple(by_tx[tx_hash]),
    )


def wanted_of(receipts: Iterable[Receipt], wanted: LogFilter) -> list[Log]:
    """The wanted logs, in order."""
    return [log for receipt in receipts for log in receipt.logs if wanted.wants(log)]


def whole_of(receipts: Iterable[Receipt], logs: Sequence[Log]) -> dict[str, tuple[Log, ...]]:
    """All logs of the transactions that these logs are of."""
    wanted = {log.tx_hash for log in logs}
    return {receipt.tx_hash: receipt.logs for receipt in receipts if receipt.tx_hash in wanted}
