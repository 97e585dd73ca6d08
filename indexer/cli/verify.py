"""The verb on one transaction: which node and chain, where to keep it; all else is called."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import click
from rich.markup import escape
from rich.table import Table

from indexer import golden, settings
from indexer.account_model import Owned
from indexer.cli import chains
from indexer.cli.console import fail, out, say, usage
from indexer.cli.shown import Listing, formatted, show
from indexer.decode import Decoder
from indexer.errors import ConfigError, IndexerError
from indexer.evm_model import (
    EMITTER_FACT,
    ChainRow,
    EventMap,
    Fact,
    Leg,
    LendingLiquidation,
    PerpLiquidation,
    PerpMap,
    ProtocolSpec,
)
from indexer.pricing import WHOLE_BLOCK, NoPrice, Price
from indexer.published import Published, published, sources
from indexer.sources.chains import BY_NAME, OTHER_IDS, ChainProfile, name_of, profile_of, stranger
from indexer.tokens import Token
from indexer.venues import evm

if TYPE_CHECKING:
    from indexer.chain.verify import Verified
    from indexer.sources.evm_receipts import Mined

LOCAL = BY_NAME["anvil"].chain_id  # of chains on one's own machine, whatever they are a fork of
WIDE = 170  # columns: three addresses beside each other, each with its word
_WIDE = Context(prec=100)


class TxHash(click.ParamType[str]):
    """The hash of a transaction."""

    name = "transaction"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if re.fullmatch("0[xX][0-9a-fA-F]{64}", value) is None:
            self.fail(f"{value!r} is no transaction hash: 0x and 64 hex digits", param, ctx)
        return str(value).lower()


@click.command()
@click.argument("tx_hash", type=TxHash(), metavar="TX")
@click.option("--rpc", metavar="URL", help="The node to ask, by default RPC_<CHAIN> of --chain.")
@click.option(
    "--chain", metavar="NAME", help="Which chain it is, where the node's chain id does not tell."
)
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Keep it as a golden case: DIR/PROTOCOL/0x….json, as in tests/golden.",
)  # fmt: skip
@formatted(says="All but table have what was published and the rows alone.")
def verify(tx_hash: str, rpc: str | None, chain: str | None, save: Path | None, form: str) -> None:
    """Decode one transaction of a node and show side by side what was published, the row that comes
    of it, and what the protocol itself says at that block: prices, share rates, owners.

    No database is needed. Exits with 1 when the transaction holds no liquidation that is understood
    to the end. Prices and rates of old blocks need a node that keeps their state.

    Example: indexer verify 0xc1a03e87f1c0446ddd5a77f7eb906831c72618a921a1f6f9f430f612edca0531 --rpc http://localhost:8545
    """  # noqa: E501 - a hash has its length
    chosen = settings.read()
    urls = _urls(chosen, rpc, chain)
    profile = _profile(urls[0], chain)
    specs = chains.specs_of(chosen)
    decoder = Decoder(specs)
    venues = [name for name in decoder.venues() if chains.chain_of(name) == profile.name]
    if not venues:
        raise IndexerError(
            f"{profile.name}: no venue stands there; name contracts in INDEXER_DEPLOYMENTS"
        )
    found = _verified(profile, urls, decoder, venues, tx_hash)
    if form == "table":
        _show(found, decoder)
    else:
        show(Listing("rows", _OF_LINES, list(_all_lines(found, decoder))), form)
    if not (found.rows or found.undecoded or found.quarantined):
        fail(f"{tx_hash}: none of its {len(found.mined.receipt.logs)} logs is a liquidation")
    if found.undecoded or not found.rows:
        fail(f"{tx_hash}: not understood to the end, see above")
    if save is not None:
        say(f"wrote {_save(save, found, specs, profile)}")


def _urls(chosen: settings.Settings, rpc: str | None, chain: str | None) -> Sequence[str]:
    """Where to ask. What is wrong with an address is said without it: it may hold a key."""
    if rpc is None and chain is None:
        raise usage("say which node to ask with --rpc URL, or which chain with --chain NAME")
    if rpc is None:
        urls = [url for url in chosen.endpoints(str(chain)) if not url.startswith("ws")]
        name = settings.rpc_name(str(chain))
        if not (urls and all(map(_is_address, urls))):
            raise ConfigError(f"{name}: an address is not http:// or https://")
        return urls
    if not _is_address(rpc):
        raise usage("--rpc takes an address that begins with http:// or https://")
    return [rpc]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _profile(url: str, chain: str | None) -> ChainProfile:
    """The chain that a node serves, or that the user says it does: an id that is of another chain
    of ours contradicts him, that of a chain on his own machine does not."""
    from indexer.sources.endpoints import chain_id_of

    served = chain_id_of(url)
    own = name_of(served)
    if chain is None and own is None:
        raise IndexerError(f"the node serves chain {served}, which has no name here: --chain NAME")
    if chain is None or chain == own:
        return profile_of(str(own))
    if own is not None and served != LOCAL:
        raise IndexerError(f"the node serves {own} (chain {served}), not {chain}")
    if served != LOCAL and chain in {*BY_NAME, *OTHER_IDS}:
        expected = profile_of(chain).chain_id
        raise IndexerError(f"the node serves chain {served}, not {expected} ({chain})")
    return stranger(chain, served)


def _verified(
    profile: ChainProfile, urls: Sequence[str], decoder: Decoder, venues: list[str], tx_hash: str
) -> "Verified":
    from indexer.chain.verify import verify as verified
    from indexer.sources.evm import EvmSource

    with closing(EvmSource(profile, urls)) as source:
        return verified(source, decoder, venues, _mined(source, tx_hash))


def _mined(source: Any, tx_hash: str) -> "Mined":
    """The transaction, if it is one that could have done something."""
    from indexer.sources.endpoints import BlockUnknown
    from indexer.sources.evm_receipts import Pending

    chain = source.profile.name
    try:
        found = source.transaction(tx_hash)
    except BlockUnknown:
        raise IndexerError(f"{chain}: no transaction {tx_hash}") from None
    if isinstance(found, Pending):
        raise IndexerError(f"{chain}: {tx_hash} is pending: no block has it yet")
    if found.receipt.has_succeeded is False:
        raise IndexerError(f"{chain}: {tx_hash} was reverted: nothing came of it")
    mined: Mined = found
    return mined


# what is shown


def _show(found: "Verified", decoder: Decoder) -> None:
    block, receipt, proof = found.mined
    at = datetime.fromtimestamp(block.time, UTC)
    proved = "all receipts of the block" if proof == "receipts" else "its receipt alone"
    out.print(f"[bold]{receipt.tx_hash}[/]", soft_wrap=True)
    out.print(
        f"{block.chain} block {block.number:,} at {at:%Y-%m-%d %H:%M:%S} UTC,"
        f" {len(receipt.logs):,} logs, read from {proved}",
        soft_wrap=True,
    )
    for row in found.rows:
        _show_row(row, found, decoder)
    for fact in found.facts:
        _line(f"fact: {fact.fact} of {fact.subject} is {_then(fact, found.then)}")
    for one in found.undecoded:
        _line(f"undecoded: log {one.log.log_index} of {one.venue}: {one.reason}")
    for quarantined in found.quarantined:
        like = " or ".join(quarantined.looks_like) or "a liquidation"
        _line(
            f"quarantined: log {quarantined.log.log_index} by {quarantined.log.address} looks like"
            f" {like}, of nobody's that is known"
        )
    for text in found.untold:
        _line(f"not told: {text}")


def _line(text: str) -> None:
    out.print(escape(text), soft_wrap=True)


def _then(fact: Fact, then: Sequence[Fact]) -> str:
    """A fact, and what its contract says of it at the block."""
    told = [one.value for one in then if one.key == fact.key]
    if not told:
        return f"{fact.value}"
    return f"{fact.value}, at the block " + ("too" if told == [fact.value] else f"{told[0]}")


def _show_row(row: ChainRow, found: "Verified", decoder: Decoder) -> None:
    spec = decoder.spec_of(row.venue)
    event, logs = _event(row, found, spec)
    out.print()
    _line(f"{row.venue} {row.method}, log {row.log_index} {event.event} of {row.emitter}")
    for one in _beside(event, logs):
        _line(f"  beside it log {one.log.log_index} {one.event} of {one.log.address}")
    table = Table(box=None, padding=(0, 1))
    for name in ("", "published", "row", "the protocol itself"):
        table.add_column(name, overflow="fold")
    for cells in _lines(row, event, _Beside(found)):
        table.add_row(*map(escape, cells))
    out.print(table, width=max(out.width, WIDE), crop=False)


def _event(
    row: ChainRow, found: "Verified", spec: ProtocolSpec
) -> tuple[Published, list[Published]]:
    """What a row was made from, and all that its protocol published in the transaction."""
    logs = [one for log in found.mined.receipt.logs if (one := published(spec, log)) is not None]
    (event,) = [one for one in logs if one.log.log_index == row.log_index]
    return event, logs


_OF_LINES = {
    "venue": "venue", "log_index": "log", "event": "event", "name": "field",
    "published": "published", "row": "row", "protocol": "the protocol itself",
}  # fmt: skip


def _all_lines(found: "Verified", decoder: Decoder) -> Iterator[tuple[Any, ...]]:
    for row in found.rows:
        event, _ = _event(row, found, decoder.spec_of(row.venue))
        for line in _lines(row, event, _Beside(found)):
            yield (row.venue, row.log_index, event.event, *line)


def _beside(event: Published, logs: Sequence[Published]) -> Iterator[Published]:
    """What else the protocol itself logged in the transaction."""
    for one in logs:
        if one.log.address == event.log.address and one is not event:
            yield one


class _Beside:
    """What the chain said of tokens, prices, rates and owners, by what they are of."""

    def __init__(self, found: "Verified") -> None:
        self.tokens: Mapping[str, Token] = {one.address: one for one in found.described.tokens}
        self._found = found

    def amount(self, leg: Leg) -> str:
        """Base units, and whole tokens where it is known how many those are."""
        token = self.tokens.get(leg.asset or "")
        if token is None or token.decimals is None:
            return f"{leg.raw}"
        whole = Decimal(leg.raw).scaleb(-token.decimals, _WIDE)
        return f"{leg.raw} = {whole:f} {token.symbol or ''}".rstrip()

    def prices(self, row: LendingLiquidation, asset: str) -> list[Price | NoPrice]:
        """Of an asset where the row stands."""
        return [
            one
            for one in self._found.prices
            if (one.venue, one.market, one.asset) == (row.venue, row.market, asset)
            and one.log_index in (WHOLE_BLOCK, row.log_index)
        ]

    def of_one(self, row: LendingLiquidation, asset: str | None) -> str:
        """What one whole token is worth, or why that is not known."""
        if asset is None:
            return ""
        token = self.tokens.get(asset)
        decimals = token.decimals if token else None
        return "; ".join(_price(one, decimals) for one in self.prices(row, asset))

    def of_all(self, row: LendingLiquidation, leg: Leg) -> str:
        """What an amount is worth by each price, and in what it is a share of."""
        said = [
            f"{_usd(_WIDE.multiply(one.usd, Decimal(leg.raw)))} USD by {one.source}"
            for one in self.prices(row, leg.asset or "")
            if isinstance(one, Price)
        ]
        for rate, _ in self._found.described.rates:
            if rate.asset == leg.asset:
                assets = leg.raw * rate.assets_raw // rate.shares_raw
                said.append(f"{assets} of {rate.underlying or 'its underlying'} by the share rate")
        return "; ".join(said)

    def owners(self, row: ChainRow) -> str:
        """Who is behind the account, by which way."""
        return "; ".join(
            f"{one.answer.owner or 'several owners'} by {one.method}"
            for one in self._found.owners
            if one.account == row.account and isinstance(one.answer, Owned)
        )


def _price(one: Price | NoPrice, decimals: int | None) -> str:
    if isinstance(one, NoPrice):
        return f"no price: {one.reason}"
    usd = one.usd if decimals is None else one.usd.scaleb(decimals, _WIDE)
    of = "base unit" if decimals is None else "token"
    via = f" {one.via[-1]}" if one.via else ""
    return f"{_usd(usd)} USD a {of} by {one.source}{via}, quality {one.quality}"


def _usd(number: Decimal) -> str:
    """Two places, or as many as it takes to show six digits."""
    if number == 0 or number >= 1:
        return f"{number:,.2f}"
    return f"{number:.{5 - number.adjusted()}f}"


class _Line(NamedTuple):
    name: str
    published: str
    row: str
    protocol: str


_Values = dict[str, tuple[str | None, str]]  # of a row, and what the protocol says beside it


def _lines(row: ChainRow, event: Published, beside: _Beside) -> Iterator[_Line]:
    """Field by field, without those that nobody says anything of."""
    match row:
        case LendingLiquidation():
            values = _of_loan(row, beside)
        case PerpLiquidation():
            values = _of_perp(row, beside)
    said = _said(event)
    for name in dict.fromkeys([*said, *values]):
        published, (value, protocol) = said.get(name, ""), values[name]
        if value is not None or published or protocol:
            yield _Line(name, published, "unknown" if value is None else value, protocol)


def _of_loan(row: LendingLiquidation, beside: _Beside) -> _Values:
    fee = row.protocol_fee_raw
    legs = {"repaid": row.repaid, "seized": row.seized, "bad debt": row.bad_debt}
    values: _Values = {
        "market": (row.market, ""),
        "account": (row.account, beside.owners(row)),
        "owner": (row.owner, ""),
        "liquidator": (row.liquidator, ""),
        "protocol fee": (None if fee is None else f"{fee}", ""),
    }
    for name, leg in legs.items():
        asset = leg.asset if leg else None
        values[f"{name} asset"] = (asset, beside.of_one(row, asset))
        values[name] = (beside.amount(leg), beside.of_all(row, leg)) if leg else (None, "")
    return values


def _of_perp(row: PerpLiquidation, beside: _Beside) -> _Values:
    """Its events have its amounts; there is nothing to ask what they are worth."""
    amounts = (
        "side", "size", "price", "notional", "notional_entry", "mark_price", "notional_mark",
        "position_before", "position_after", "realised_pnl", "fee", "quote", "margin_mode",
        "order_id",
    )  # fmt: skip
    return {
        "market": (row.market, ""),
        "account": (row.account, beside.owners(row)),
        "liquidator": (row.liquidator, ""),
        **{name.replace("_", " "): (_text(getattr(row, name)), "") for name in amounts},
    }


def _text(value: Decimal | str | None) -> str | None:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _said(event: Published) -> dict[str, str]:
    if isinstance(event.use, EventMap | PerpMap):
        return {name: event.said(arg) for name, arg in sources(event.use)}
    return {}


# what is kept


def _save(
    folder: Path, found: "Verified", specs: Sequence[ProtocolSpec], profile: ChainProfile
) -> Path:
    """Write the case, as the project's own protocols decode it without the user's deployments."""
    receipt = found.mined.receipt
    own = Decoder(evm.specs())
    venues = ", ".join(dict.fromkeys(row.venue for row in found.rows))
    case = golden.case_of(
        own,
        f"{len(found.rows)} of {venues}, as a node has it.",
        f"Real: {receipt.tx_hash} of {profile.name} (chain {profile.chain_id}), saved by"
        " indexer verify.",
        _needed(found, specs, own),
        receipt.logs,
    )
    rows = golden.outcomes_of(found.rows)
    kinds = {name for row in rows for name in row}
    if [one for one in case.outcomes if kinds & one.keys()] != rows:
        raise IndexerError("not saved: by its facts alone it decodes to something else")
    protocol = next(
        spec.name for spec in specs
        if found.rows[0].venue.partition(".")[0] in {spec.name, *(d.name for d in spec.deployments)}
    )  # fmt: skip
    path = folder / protocol / f"{receipt.tx_hash[:10]}.json"
    text = golden.written(case)
    if path.exists() and path.read_bytes() != text:
        raise IndexerError(f"{path}: is there already and says something else")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    return path


def _needed(found: "Verified", specs: Sequence[ProtocolSpec], own: Decoder) -> list[Fact]:
    """What was asked, and which contracts of the user's own file are whose."""
    chain = found.mined.block.chain
    known = {at.address.lower() for spec in evm.specs() for at in spec.deployments
             if at.chain == chain}  # fmt: skip
    told = [
        Fact(chain, EMITTER_FACT, at.address.lower(), f"{at.name}/{at.role}")
        for spec in specs
        for at in spec.deployments
        if at.chain == chain and at.address.lower() not in known
    ]
    asked = [one for one in found.facts if (one.fact, one.value) != (EMITTER_FACT, None)]
    return list({fact.key: fact for fact in (*told, *asked)}.values())
