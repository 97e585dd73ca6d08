"""One transaction, from the receipt to what the protocols themselves say at its block. No database:
what a follower would read from it is asked anew.

What no endpoint tells, as the state of a block that only an archive keeps, is `untold`, with the
reason; nothing takes its place."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from indexer.chain.accounts import Accounts, Tally
from indexer.chain.assets import Assets, Described
from indexer.chain.prices import Prices
from indexer.chain.sync import Reader
from indexer.chain_step import Knowledge
from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import (
    TRANSACTION_FACT,
    ChainRow,
    Deployment,
    Fact,
    LendingLiquidation,
    MissingFact,
    PerpLiquidation,
    Quarantined,
)
from indexer.evm_model import UndecodedLog as Undecoded
from indexer.inquiry import inquire
from indexer.pricing import NoPrice, Price, Wanted, at_par, carried, rate
from indexer.sources.evm import EvmSource
from indexer.sources.evm_receipts import Mined
from indexer.store.accounts import SeenOwner
from indexer.store.accounts import Wanted as Account


class Verified(NamedTuple):
    """What a transaction became and what is said beside it, all at the end of its block.

    `facts` were asked of the contracts to decode it, `then` are the same asked at its block;
    `prices` are in USD for a base unit."""

    mined: Mined
    rows: list[ChainRow]
    undecoded: list[Undecoded]
    quarantined: list[Quarantined]
    facts: list[Fact]
    then: list[Fact]
    described: Described
    prices: list[Price | NoPrice]
    owners: list[SeenOwner]
    untold: list[str]


def verify(source: EvmSource, decoder: Decoder, venues: Collection[str], mined: Mined) -> Verified:
    """Decode a transaction for some venues and ask the protocols for their own numbers. Only the
    decoding may raise SourceFault: all else is then `untold`."""
    known = Knowledge(decoder, venues, {})
    step = Reader(source, known).transaction(mined.block, mined.receipt.logs, mined.proof).step
    rows = step.liquidations()
    loans = [row for row in rows if isinstance(row, LendingLiquidation)]
    facts = [fact for fact, log in step.learnt() if log is None or fact.fact == TRANSACTION_FACT]
    asked = _Asked(source, decoder, known, mined)
    described = Assets(source, decoder, ()).ask(rows)
    return Verified(
        mined=mined,
        rows=rows,
        undecoded=step.undecoded(),
        quarantined=step.quarantined(),
        facts=facts,
        then=asked.facts([fact for fact in facts if fact.value is not None], rows),
        described=described,
        prices=asked.prices(loans, described),
        owners=asked.owners(rows),
        untold=asked.untold,
    )


class _Asked:
    """The protocols of one chain, asked at one block."""

    def __init__(self, source: EvmSource, decoder: Decoder, known: Knowledge, mined: Mined) -> None:
        self._source = source
        self._decoder = decoder
        self._known = known
        self._block = mined.block
        self._logs = mined.receipt.logs
        self.untold: list[str] = []

    def facts(self, facts: Sequence[Fact], rows: Sequence[ChainRow]) -> list[Fact]:
        """The same facts as the contracts tell them at the block."""
        specs = {spec.name: spec for row in rows if (spec := self._decoder.spec_of(row.venue))}
        inquiries = {
            (fact.key, name): ask(MissingFact(*fact.key), self._deployed(spec.deployments))
            for fact in facts
            for name, spec in specs.items()
            if (ask := spec.asks.get(fact.fact))
        }
        try:
            found = inquire(inquiries, lambda calls: self._source.call_many(calls, self._block))
        except SourceFault as fault:
            self.untold.append(f"facts at the block: {fault}")
            return []
        return list(dict.fromkeys(fact for told in found.values() for fact in told))

    def _deployed(self, deployments: Iterable[Deployment]) -> list[Deployment]:
        return [one for one in deployments if one.chain == self._block.chain]

    def prices(
        self, rows: Sequence[LendingLiquidation], described: Described
    ) -> list[Price | NoPrice]:
        """What events say first, then what a protocol takes for a dollar, then the oracles."""
        wanted = list(self._wanted(rows, described))
        said: list[Price | NoPrice] = [price for one in wanted for price in self._said(one)]
        told = {(row.venue, row.market, row.asset) for row in said}
        left = [one for one in wanted if (one.venue, one.market, one.asset) not in told]
        try:
            return said + Prices(self._source, self._decoder).ask(left)
        except SourceFault as fault:
            self.untold.append(f"prices: {fault}")
            return said

    def _wanted(self, rows: Sequence[LendingLiquidation], described: Described) -> Iterator[Wanted]:
        """Each asset of each market, with all liquidations that name it."""
        rates = {one.asset: one for one, _ in described.rates}
        places: dict[tuple[str, str, str], list[LendingLiquidation]] = {}
        for row in rows:
            for leg in (row.repaid, row.seized, row.bad_debt):
                if leg is not None and leg.asset is not None:
                    places.setdefault((row.venue, row.market, leg.asset), []).append(row)
        for (venue, market, asset), of_asset in places.items():
            share = rates.get(asset) if any(row.seized_is_shares for row in of_asset) else None
            token = share and (share.underlying or self._underlying(asset))
            worth = share and rate(Decimal(share.assets_raw), Decimal(share.shares_raw))
            yield Wanted(
                venue, market, asset, of_asset[0].emitter, self._block,
                tuple(sorted({row.log_index for row in of_asset})),
                (token, worth) if token and worth else None,
            )  # fmt: skip

    def _underlying(self, asset: str) -> str | None:
        return self._known.facts.get((self._block.chain, "underlying", asset))

    def _said(self, wanted: Wanted) -> Iterator[Price]:
        """Prices that nobody is asked for."""
        spec, facts = self._decoder.spec_of(wanted.venue), self._known.facts
        if self._decoder.carries_prices(wanted.venue):
            said = self._decoder.prices(wanted.venue, self._logs, facts)
            by_index = {log.log_index: log for log in self._logs}
            yield from carried(
                wanted, by_index, said, "market" if spec.is_permissionless else "governed"
            )
        if spec.par is not None and (price := at_par(wanted, spec.par, facts)) is not None:
            yield price

    def owners(self, rows: Sequence[ChainRow]) -> list[SeenOwner]:
        """Who is behind the accounts, as the contracts prove it."""
        named: dict[tuple[str, str], ChainRow] = {}
        for row in rows:
            named.setdefault((row.venue, row.account), row)
        batch = [
            Account(
                row.venue, row.account, row.market, _owner(row),
                self._block, self._block,
            )
            for row in named.values()
        ]  # fmt: skip
        tally = Tally()
        try:
            _, owners = Accounts(self._source, self._decoder, self._block).ask(batch, tally)
        except SourceFault as fault:
            self.untold.append(f"owners: {fault}")
            return []
        self.untold += [f"{account}: no state at this block" for account in sorted(tally.untold)]
        self.untold += sorted(tally.unreadable)
        return owners


def _owner(row: ChainRow) -> tuple[str, ...]:
    """Of a loan the event itself may say whose the account is."""
    match row:
        case LendingLiquidation(owner=str() as owner):
            return (owner,)
        case LendingLiquidation() | PerpLiquidation():
            return ()
