"""What tokens call themselves, and what shares were worth: asked after the rows are written.

Neither is needed to make a row, and neither may hold one up: what nobody tells stays unknown."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from indexer.decode import Decoder
from indexer.errors import SourceFault
from indexer.evm_model import BlockRef, ChainRow, LendingLiquidation, ShareRate
from indexer.inquiry import inquire
from indexer.sources.evm import EvmSource
from indexer.store import chain_rows
from indexer.store.database import Connection
from indexer.tokens import Token, describe


class Described(NamedTuple):
    """What was learnt about the tokens of some rows; rates with the hash of their block."""

    tokens: Sequence[Token]
    rates: Sequence[tuple[ShareRate, str]]


class Assets:
    """Describes each token once; asks for share rates as long as somebody tells the old state."""

    def __init__(self, source: EvmSource, decoder: Decoder, known: Iterable[str]) -> None:
        self._source = source
        self._decoder = decoder
        self._chain = source.profile.name
        self._known = set(known)
        self._has_state = True

    def ask(self, rows: Sequence[ChainRow]) -> Described:
        """What the tokens and shares of new rows say of themselves: of those of loans, as a
        perpetual's amounts are scaled where it is decoded."""
        loans = [row for row in rows if isinstance(row, LendingLiquidation)]
        return Described(self._tokens(loans), self._rates(loans))

    def _tokens(self, rows: Iterable[LendingLiquidation]) -> list[Token]:
        legs = (leg for row in rows for leg in (row.repaid, row.seized, row.bad_debt) if leg)
        new = {leg.asset for leg in legs if leg.asset} - self._known
        if not new:
            return []
        try:
            head = self._source.head()
            tokens = inquire(
                {asset: describe(self._chain, asset) for asset in new},
                lambda calls: self._source.call_many(calls, head),
            )
        except SourceFault:
            return []  # asked again with the next row that names it
        self._known |= new
        return list(tokens.values())

    def _rates(self, rows: Iterable[LendingLiquidation]) -> list[tuple[ShareRate, str]]:
        wanted: dict[tuple[int, str], set[tuple[str, str]]] = {}
        for row in rows:
            if row.seized_is_shares and row.seized and row.seized.asset:
                block = row.block_number, row.block_hash
                wanted.setdefault(block, set()).add((row.venue, row.seized.asset))
        return [
            (rate, block_hash)
            for (number, block_hash), assets in wanted.items()
            for rate in self._rates_at(BlockRef(self._chain, number, block_hash, "", 0), assets)
        ]

    def _rates_at(self, block: BlockRef, assets: Iterable[tuple[str, str]]) -> list[ShareRate]:
        dialogues = {
            asset: rate(self._chain, asset, block.number)
            for venue, asset in assets
            if (rate := self._decoder.spec_of(venue).share_rate)
        }
        if not (dialogues and self._has_state):
            return []
        try:
            found = inquire(dialogues, lambda calls: self._source.call_many(calls, block))
        except SourceFault:
            self._has_state = False  # no archive behind these endpoints: not asked at every row
            return []
        return [rate for rate in found.values() if rate]


def store(connection: Connection, described: Described) -> None:
    """Store what was learnt about tokens."""
    if described.tokens or described.rates:
        with connection.transaction():
            chain_rows.append_assets(connection, described.tokens)
            chain_rows.append_share_rates(connection, described.rates)
