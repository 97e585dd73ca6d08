"""One EVM chain over JSON-RPC, read so that nothing is lost, whatever its providers do.

Whatever is read together is read from one endpoint: a header, the logs, the header again. Any
fault in it moves the whole read to another endpoint. What leaves this module is checked, or it is
an error of the family in `endpoints`; an unknown answer is never an empty one.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from indexer.errors import SourceFault
from indexer.evm_model import (
    BlockRef,
    CallResult,
    EthCall,
    Log,
    LogFilter,
    LogRange,
    Proof,
    Sent,
)
from indexer.sources.chains import ChainProfile
from indexer.sources.endpoints import (
    BULK,
    REAL,
    TIP,
    UNLIMITED,
    BlockUnknown,
    Budget,
    Endpoint,
    Endpoints,
    NoAnswer,
    NotServed,
    Patience,
)
from indexer.sources.evm_calls import (
    CALLS_AT_ONCE,
    Answer,
    Question,
    block_param,
    called,
    called_at,
    logs_at,
)
from indexer.sources.evm_headers import Headers, check_hashes, kept, logs_in
from indexer.sources.evm_receipts import (
    Mined,
    Pending,
    Receipt,
    Receipts,
    sent_of,
    wanted_of,
    whole_of,
)
from indexer.sources.refusals import Refusal
from indexer.sources.rpc import (
    Call,
    Clock,
    Missing,
    RateLimited,
    TimedOut,
    TooLarge,
    TooManyTerms,
    Unsupported,
    Untrue,
)
from indexer.sources.wire import (
    LOGS,
    NUMBER,
    Header,
    Logs,
    WireLog,
    bloom_may_hold,
    check_logs,
    quantity,
    read,
    same_logs,
)

SETTLED_BLOCKS = 50  # whose receipts are read when two endpoints disagree; more is a sick endpoint


class EvmSource:
    """Reads one chain; every method raises NoAnswer or one of its kinds (see `endpoints`)."""

    def __init__(
        self,
        profile: ChainProfile,
        urls: Sequence[str],
        *,
        budget: Budget = UNLIMITED,
        clock: Clock = REAL,
    ) -> None:
        self.profile = profile
        self._headers = Headers(profile, clock)
        self._receipts = Receipts(profile, self._headers)
        self._highest: BlockRef | None = None
        self._finalized = 0
        self.endpoints = Endpoints(
            profile.name,
            profile.chain_id,
            urls,
            first_width=profile.first_width,
            most_width=profile.most_width,
            budget=budget,
            clock=clock,
        )

    def close(self) -> None:
        """Close all connections."""
        self.endpoints.close()

    # heights and headers

    def chain_id(self) -> int:
        """The chain's id as an endpoint states it; fails when none serves the profile's chain."""
        call = Call("eth_chainId")
        return self.endpoints.ask(
            "eth_chainId", lambda one: quantity(read(NUMBER, one.call(call))), TIP
        )

    def head(self) -> BlockRef:
        """The newest block that any endpoint has shown us: a lower head is a lagging endpoint."""
        head = self.endpoints.ask("the head", lambda one: self._headers.tagged(one, "latest"), TIP)
        if self._highest is None or head.number >= self._highest.number:
            self._highest = head
        return self._highest

    def finalized(self) -> int:
        """The height that will not change any more, by tag or depth. It never goes backwards."""
        height = self._tagged()
        if height is None:
            height = self.head().number - self.profile.depth
        self._finalized = max(self._finalized, height)
        return self._finalized

    def _tagged(self) -> int | None:
        tag = self.profile.finality
        if tag is None:
            return None

        def ask(endpoint: Endpoint) -> int:
            try:
                return self._headers.tagged(endpoint, tag).number
            except Missing as fault:
                raise Unsupported(f"{tag}: {fault}") from None

        try:
            return self.endpoints.ask(f"the {tag} block", ask, TIP)
        except NotServed:
            return None

    def header(self, number: int, patience: Patience = TIP) -> BlockRef:
        """The block at a height; raises BlockUnknown when no endpoint has one."""
        return self.endpoints.ask(
            f"block {number}",
            lambda one: self._headers.refs(one, [number])[0],
            patience,
            block=number,
        )

    def headers(self, numbers: Sequence[int]) -> list[BlockRef]:
        """The blocks at these heights, in batches; neighbours are linked by their hashes."""
        if not numbers:
            return []
        what = f"blocks {min(numbers)} to {max(numbers)}"
        return self.endpoints.ask(
            what, lambda one: self._headers.refs(one, numbers), block=min(numbers)
        )

    def header_by_hash(self, block_hash: str, patience: Patience = TIP) -> BlockRef:
        """The block of this hash; raises BlockUnknown for one that is orphaned everywhere."""
        call = Call("eth_getBlockByHash", (block_hash, False))

        def ask(endpoint: Endpoint) -> BlockRef:
            return self._headers.checked(endpoint.call(call), block_hash).ref(self.profile.name)

        return self.endpoints.ask(f"block {block_hash}", ask, patience)

    # logs of finalized stretches

    def logs(self, wanted: LogFilter, block_from: int, block_to: int) -> LogRange:
        """All wanted logs of finalized blocks, in as many reads as the endpoints need."""
        parts = [self.some_logs(wanted, block_from, block_to)]
        while parts[-1].block_to < block_to:
            parts.append(self.some_logs(wanted, parts[-1].block_to, block_to))
        return _joined(parts)

    def some_logs(
        self, wanted: LogFilter, block_from: int, block_to: int, *, is_check: bool = False
    ) -> LogRange:
        """The wanted logs of finalized blocks from `block_from` on, of as many as one read brings.

        An empty answer is confirmed by its bloom (one block) or by a second endpoint, where there
        is one; with `is_check` so is any answer. Endpoints that disagree are settled by receipts.
        """
        _check_filter(wanted)
        if block_from >= block_to:
            raise ValueError(f"no blocks from {block_from} to {block_to}")

        def ask(endpoint: Endpoint) -> tuple[Endpoint, LogRange]:
            return endpoint, self._fitting(endpoint, wanted, block_from, block_to)

        endpoint, found = self.endpoints.ask(
            f"logs of blocks {block_from} to {block_to - 1}",
            ask,
            block=block_from,
            cost=_seconds_a_block,
        )
        if found.proof == "unverified" and (is_check or not found.logs):
            return self._confirmed(endpoint, wanted, found)
        return found

    def _fitting(
        self, endpoint: Endpoint, wanted: LogFilter, block_from: int, block_to: int
    ) -> LogRange:
        """A stretch as wide as the endpoint takes; it gets narrower at once, without waiting."""
        has_timed_out = False
        while True:
            high = min(block_to, block_from + endpoint.width.blocks)
            try:
                found = self._stretch(endpoint, wanted, block_from, high)
            except TimedOut:
                if not has_timed_out:  # once may be chance, twice is too much work
                    has_timed_out = True
                    continue
                if high - block_from == 1:
                    raise
                refusal = Refusal("too_many")
            except TooLarge as fault:
                if high - block_from == 1:
                    return self._one_large_block(endpoint, wanted, block_from)
                refusal = fault.refusal
            except RateLimited as fault:
                if not fault.may_be_size or high - block_from == 1:
                    raise
                self._get_logs(endpoint, wanted, block_from, block_from + 1)  # limited as well?
                refusal = Refusal("too_many")
            else:
                endpoint.width.served(high - block_from, len(found.logs))
                return found
            endpoint.width.refused(refusal, block_from, high)

    def _stretch(
        self, endpoint: Endpoint, wanted: LogFilter, block_from: int, block_to: int
    ) -> LogRange:
        """Logs between two looks at the last block: an endpoint that lacks it has no say."""
        ends = self._headers.numbered(endpoint, sorted({block_from, block_to - 1}))
        first, last = ends[0].ref(self.profile.name), ends[-1].ref(self.profile.name)
        found = self._get_logs(endpoint, wanted, block_from, block_to)
        numbers = sorted(found.hashes)
        again = self._headers.refs(endpoint, sorted({*numbers[:1], *numbers[-1:], block_to - 1}))
        if again[-1] != last:
            raise Untrue(f"block {last.number} changed while its logs were read")
        seen = {block.number: block for block in (first, *again)}
        times = _stated_times(found, seen, first, last)
        if times is None:
            known = [number for number in numbers if number not in seen]
            seen |= (
                {block.number: block for block in self._headers.refs(endpoint, known)}
                if known
                else {}
            )
            check_hashes(found, seen)
            times = {number: seen[number].time for number in numbers}
        is_bare = len(ends) == 1 and not found.logs and self._excludes(ends[0], wanted)
        return LogRange(
            block_from=block_from,
            block_to=block_to,
            logs=tuple(found.logs),
            times=times,
            first=first,
            last=last,
            proof="negative_bloom" if is_bare else "unverified",
            endpoint=endpoint.name,
        )

    def _get_logs(
        self, endpoint: Endpoint, wanted: LogFilter, block_from: int, block_to: int
    ) -> Logs:
        bounds = {"fromBlock": hex(block_from), "toBlock": hex(block_to - 1)}
        sent = self._sent_logs(endpoint, wanted, bounds)
        return check_logs(sent, self.profile.name, wanted, block_from, block_to)

    def _sent_logs(
        self, endpoint: Endpoint, wanted: LogFilter, bounds: dict[str, str]
    ) -> list[WireLog]:
        """What eth_getLogs says, with the filter in parts where it is too long for the endpoint;
        it is all of them or a fault."""
        while True:
            try:
                sent: list[WireLog] = []
                for part in wanted.parts(endpoint.terms or wanted.terms):
                    found = read(LOGS, endpoint.call(_get_logs_call(part, bounds)))
                    sent += found
            except TooManyTerms:
                terms = min(endpoint.terms or wanted.terms, wanted.terms)
                if terms == 1:
                    raise
                endpoint.terms = (terms + 1) // 2
            else:
                return sent

    def _one_large_block(self, endpoint: Endpoint, wanted: LogFilter, number: int) -> LogRange:
        """A block with too many logs at once: by hash, by halves of the filter, by receipts."""
        header = self._headers.numbered(endpoint, [number])[0]
        block = header.ref(self.profile.name)
        try:
            logs = self._halved(endpoint, wanted, block)
        except TooLarge:
            return self._by_receipts(endpoint, block, wanted)
        return self._of_block(endpoint, block, logs, "unverified")

    def _halved(self, endpoint: Endpoint, wanted: LogFilter, block: BlockRef) -> list[Log]:
        try:
            sent = self._sent_logs(endpoint, wanted, {"blockHash": block.hash})
            return logs_in(block, sent, wanted)
        except TooLarge:
            if wanted.terms == 1:
                raise
        parts = wanted.parts((wanted.terms + 1) // 2)
        return sorted(
            (log for part in parts for log in self._halved(endpoint, part, block)),
            key=lambda log: log.log_index,
        )

    # a second opinion

    def _confirmed(self, endpoint: Endpoint, wanted: LogFilter, found: LogRange) -> LogRange:
        """The same range from another endpoint, if there is one that can."""
        if not self.endpoints.has_other(endpoint):
            return found

        def ask(other: Endpoint) -> LogRange:
            parts = [self._fitting(other, wanted, found.block_from, found.block_to)]
            while parts[-1].block_to < found.block_to:
                parts.append(self._fitting(other, wanted, parts[-1].block_to, found.block_to))
            return _joined(parts)

        what = f"a second look at blocks {found.block_from} to {found.block_to - 1}"
        try:
            second = self.endpoints.ask(what, ask, TIP, block=found.block_from, without=endpoint)
        except NoAnswer:
            return found
        if second.last.hash != found.last.hash:
            raise NoAnswer(
                self.profile.name,
                f"{endpoint.name} and {second.endpoint} have different blocks {found.last.number}",
            )
        if same_logs(found.logs, second.logs):
            return msgspec.structs.replace(found, proof="second_endpoint")
        return self._settled(wanted, found, second)

    def _settled(self, wanted: LogFilter, one: LogRange, two: LogRange) -> LogRange:
        """Two endpoints disagree: the receipts of the blocks in question decide."""
        first, second = _by_block(one.logs), _by_block(two.logs)
        disputed = sorted(
            number
            for number in {*first, *second}
            if not same_logs(first.get(number, ()), second.get(number, ()))
        )
        if len(disputed) > SETTLED_BLOCKS:
            raise NoAnswer(
                self.profile.name,
                f"{one.endpoint} and {two.endpoint} disagree about the logs of {len(disputed)} "
                f"blocks from {disputed[0]} on",
            )
        agreed = {number: logs for number, logs in first.items() if number not in disputed}
        times = {**two.times, **one.times}
        for block in self.headers(disputed):
            agreed[block.number] = wanted_of(self.receipts(block), wanted)
            times[block.number] = block.time
        logs = tuple(log for number in sorted(agreed) for log in agreed[number])
        return msgspec.structs.replace(
            one,
            logs=logs,
            times={log.block_number: times[log.block_number] for log in logs},
            proof="receipts",
        )

    # the tip, by hash

    def logs_of_block(self, block: BlockRef, wanted: LogFilter) -> LogRange:
        """The wanted logs of one block, by its hash; raises BlockUnknown when it is orphaned.

        A genuine header whose bloom excludes them proves that there are none. Otherwise receipts
        decide, else a second endpoint; where there is neither the proof is `unverified`.
        """
        _check_filter(wanted)

        def ask(endpoint: Endpoint) -> tuple[Endpoint, LogRange]:
            return endpoint, self._tip(endpoint, block, wanted)

        what = f"logs of block {block.number} {block.hash}"
        endpoint, found = self.endpoints.ask(what, ask, TIP)
        if found.proof != "unverified" or not self.endpoints.has_other(endpoint):
            return found
        try:
            _, second = self.endpoints.ask(what, ask, TIP, without=endpoint)
        except NoAnswer:
            return found
        if second.proof != "unverified":
            return second
        if same_logs(found.logs, second.logs):
            return msgspec.structs.replace(found, proof="second_endpoint")
        raise NoAnswer(self.profile.name, f"{what}: {endpoint.name}, {second.endpoint} disagree")

    def _tip(self, endpoint: Endpoint, block: BlockRef, wanted: LogFilter) -> LogRange:
        header, logs = self._header_and_logs(endpoint, block, wanted)
        if self._excludes(header, wanted):
            if logs:
                raise Untrue(f"logs in block {block.number} that its bloom excludes")
            return self._of_block(endpoint, block, logs, "negative_bloom")
        try:
            receipts = self._receipts.of_block(endpoint, block)
        except (Unsupported, TooLarge, TimedOut):
            return self._of_block(endpoint, block, logs, "unverified")
        truth = wanted_of(receipts, wanted)
        if not set(map(_identity, logs)) <= set(map(_identity, truth)):
            raise Untrue(f"logs of block {block.number} that no receipt has")
        return self._of_block(endpoint, block, truth, "receipts", whole_of(receipts, truth))

    def _header_and_logs(
        self, endpoint: Endpoint, block: BlockRef, wanted: LogFilter
    ) -> tuple[Header, list[Log]]:
        """Both in one request where the endpoint takes batches: it must know the block at all."""
        by_hash = Call("eth_getBlockByHash", (block.hash, False))
        bounds = {"blockHash": block.hash}
        parts = wanted.parts(endpoint.terms or wanted.terms)
        raws = endpoint.batch([by_hash, *(_get_logs_call(part, bounds) for part in parts)])
        header = self._headers.checked(kept(raws[0]), block.hash)
        if header.ref(self.profile.name) != block:
            raise Untrue(f"another block {block.number} under the same hash")
        try:
            sent: list[WireLog] = []
            for raw in raws[1:]:
                found = read(LOGS, kept(raw))
                sent += found
            return header, logs_in(block, sent, wanted)
        except (TooLarge, TooManyTerms):
            return header, self._halved(endpoint, wanted, block)

    def _excludes(self, header: Header, wanted: LogFilter) -> bool:
        """Whether this header proves that its block has no wanted log."""
        return (
            self.profile.bloom_is_complete
            and not bloom_may_hold(header.logs_bloom, wanted)
            and header.is_genuine()
        )

    def _of_block(
        self,
        endpoint: Endpoint,
        block: BlockRef,
        logs: Sequence[Log],
        proof: Proof,
        whole: dict[str, tuple[Log, ...]] | None = None,
    ) -> LogRange:
        return LogRange(
            block_from=block.number,
            block_to=block.number + 1,
            logs=tuple(logs),
            times={block.number: block.time} if logs else {},
            first=block,
            last=block,
            proof=proof,
            endpoint=endpoint.name,
            whole=whole or {},
        )

    # receipts

    def receipts(self, block: BlockRef) -> tuple[Receipt, ...]:
        """The receipts of all transactions of a block, in order."""
        what = f"receipts of block {block.number} {block.hash}"
        return self.endpoints.ask(
            what, lambda one: self._receipts.of_block(one, block), TIP, block=block.number
        )

    def logs_by_receipts(self, block: BlockRef, wanted: LogFilter) -> LogRange:
        """The wanted logs of a block from its receipts alone: nothing can be left out there."""

        what = f"receipts of block {block.number}"
        return self.endpoints.ask(
            what, lambda one: self._by_receipts(one, block, wanted), block=block.number
        )

    def _by_receipts(self, endpoint: Endpoint, block: BlockRef, wanted: LogFilter) -> LogRange:
        receipts = self._receipts.of_block(endpoint, block)
        logs = wanted_of(receipts, wanted)
        return self._of_block(endpoint, block, logs, "receipts", whole_of(receipts, logs))

    def transactions(self, known: Mapping[str, Sequence[Log]]) -> dict[str, tuple[Log, ...]]:
        """All logs of transactions, by their hash, of each of which some logs are known."""
        if not known:
            return {}
        return self.endpoints.ask(
            f"{len(known)} receipts", lambda one: self._receipts.of_transactions(one, known), TIP
        )

    def sent(self, logs: Mapping[str, Log]) -> dict[str, Sent]:
        """What transactions are, by their hash, of each of which a log is known: in as few
        requests as the endpoint takes."""
        if not logs:
            return {}
        what = f"{len(logs)} transactions"
        return self.endpoints.ask(what, lambda one: sent_of(one, logs), TIP)

    def transaction(self, tx_hash: str) -> Mined | Pending:
        """What became of a transaction; raises BlockUnknown for one that no endpoint knows."""
        return self.endpoints.ask(
            f"transaction {tx_hash}", lambda one: self._receipts.of_hash(one, tx_hash), TIP
        )

    # calls

    def call_many(self, calls: Sequence[EthCall], block: BlockRef | int) -> list[CallResult]:
        """What contracts answer at a block, in order, through Multicall3 where it exists there."""
        number = block if isinstance(block, int) else block.number
        if not self.profile.serves_old_state and number < self.head().number - self.profile.depth:
            raise SourceFault(self.profile.name, f"no endpoint tells the state at block {number}")
        found: list[CallResult] = []
        for at in range(0, len(calls), CALLS_AT_ONCE):
            part = calls[at : at + CALLS_AT_ONCE]
            found += self.endpoints.ask(
                f"{len(part)} calls at block {number}",
                lambda one, part=part: called(one, part, block_param(block)),  # type: ignore[misc]
                block=number,
            )
        return found

    def call_many_at(self, questions: Sequence[Question]) -> list[list[CallResult] | None]:
        """As `call_many`, for several blocks in one request. None where every endpoint says that
        it does not have the state at that block: there is no archive, or the block is orphaned."""
        answers: dict[int, list[CallResult]] = {}
        left = self._with_state(questions)

        def ask(endpoint: Endpoint) -> list[Answer]:
            return called_at(endpoint, [questions[number] for number in left])

        def ask_for_all(endpoint: Endpoint) -> list[Answer]:
            found = ask(endpoint)
            for answer in found:
                if isinstance(answer, Missing):
                    raise answer
            return found

        # what the cheapest endpoint lacks is asked of one that has all of it
        for asking, patience in ((ask, BULK), (ask_for_all, TIP)):
            if not left:
                break
            try:
                what = f"calls at {len(left)} blocks"
                found = self.endpoints.ask(what, asking, patience)
            except (BlockUnknown, NotServed):
                break
            told = zip(left, found, strict=True)
            answers |= {number: answer for number, answer in told if isinstance(answer, list)}
            left = [number for number in left if number not in answers]
        return [answers.get(number) for number in range(len(questions))]

    def _with_state(self, questions: Sequence[Question]) -> list[int]:
        """The places of those that are about blocks whose state the chain's nodes keep."""
        if self.profile.serves_old_state:
            return list(range(len(questions)))
        oldest = self.head().number - self.profile.depth
        heights = [
            one.block if isinstance(one.block, int) else one.block.number for one in questions
        ]
        return [number for number, height in enumerate(heights) if height >= oldest]

    def logs_of_blocks(self, blocks: Sequence[tuple[BlockRef, LogFilter]]) -> list[tuple[Log, ...]]:
        """What one endpoint says of the wanted logs of each block, by its hash, in one request:
        not proved to be complete. Raises BlockUnknown when one of them is orphaned."""
        for _, wanted in blocks:
            _check_filter(wanted)
        what = f"logs of {len(blocks)} blocks by hash"
        return self.endpoints.ask(what, lambda one: logs_at(one, blocks), TIP) if blocks else []


def _check_filter(wanted: LogFilter) -> None:
    if not wanted.topics0 or (wanted.addresses is not None and not wanted.addresses):
        raise ValueError("a filter without addresses or topics would mean: everything")


def _seconds_a_block(endpoint: Endpoint) -> float:
    return (endpoint.latency_seconds + 0.001) / endpoint.width.blocks


def _get_logs_call(wanted: LogFilter, bounds: dict[str, str]) -> Call:
    """Always with numbers or a hash: a tag would move during the call."""
    topics = [sorted(one) for one in (wanted.topics0, wanted.topics1) if one]
    params: dict[str, object] = {**bounds, "topics": topics}
    if wanted.addresses is not None:
        params["address"] = sorted(wanted.addresses)
    return Call("eth_getLogs", (params,))


def _stated_times(
    found: Logs, seen: dict[int, BlockRef], first: BlockRef, last: BlockRef
) -> dict[int, int] | None:
    """The times that the logs state, if every log does, they agree with the headers that we hold
    (the ends, the first and the last block with logs) and never run backwards."""
    check_hashes(found, seen)
    times: dict[int, int] = {}
    before = first.time
    for number in sorted(found.times):
        time = found.times[number]
        if time is None or not before <= time <= last.time:
            return None
        if number in seen and seen[number].time != time:
            return None
        times[number] = before = time
    return times


def _joined(parts: Sequence[LogRange]) -> LogRange:
    """Neighbouring ranges as one, as well proved as the least of them."""
    if len(parts) == 1:
        return parts[0]
    proofs = {part.proof for part in parts}
    return LogRange(
        block_from=parts[0].block_from,
        block_to=parts[-1].block_to,
        logs=tuple(log for part in parts for log in part.logs),
        times={number: time for part in parts for number, time in part.times.items()},
        first=parts[0].first,
        last=parts[-1].last,
        proof=proofs.pop() if len(proofs) == 1 else "unverified",
        endpoint=", ".join(dict.fromkeys(part.endpoint for part in parts)),
    )


def _by_block(logs: Iterable[Log]) -> dict[int, list[Log]]:
    blocks: dict[int, list[Log]] = {}
    for log in logs:
        blocks.setdefault(log.block_number, []).append(log)
    return blocks


def _identity(log: Log) -> tuple[object, ...]:
    return log.tx_hash, log.log_index, log.address, log.topics, log.data
