"""Maker, now Sky. A liquidation is the Bark of Dog, until 2021 the Bite of Cat: debt and collateral
leave the vault there and then, and what happens to them afterwards is no second liquidation. The
collateral is sold in an auction, which has the number `id` at its auction house.

The sale is kept as facts, each with the log that taught it, since Take, Redo and Yank of a clipper
come in later transactions. What a Take leaves of `tab` and `lot` is different each time, so that
with house and number it names the Take; a Take that buys nothing is said once. Of a flipper only
the Kick can be asked for: bids are anonymous notes without a topic of their own.
makerdao/dss:src/dog.sol (bark), src/clip.sol (kick, take), src/cat.sol (bite), src/flip.sol
"""

from collections.abc import Iterable, Sequence

from indexer.abi_calls import call, uint_of
from indexer.evm_model import (
    EMITTER,
    EMITTER_FACT,
    USD,
    Contract,
    Deployment,
    Dialogue,
    EventMap,
    Fact,
    FactMap,
    Facts,
    Inquiry,
    Joinable,
    Learn,
    Leg,
    LendingLiquidation,
    Lookup,
    MissingFact,
    NoQuote,
    Par,
    ProtocolSpec,
    Quote,
    Sibling,
    Subject,
    UndecodedLog,
)
from indexer.oracles import (
    UNKNOWN_ORACLE,
    UNREADABLE,
    ZERO,
    contract_of,
    decimals_of,
    number_of,
    oracle_of,
    scaled,
)
from indexer.venues.evm import deployments

# Amounts of the vat have 18 decimals, whatever the token has, ratios 27, amounts of DAI the sum of
# both: makerdao/dss:DEVELOPING.md
WAD, RAY = 18, 27
COIN = Lookup("maker_coin", (EMITTER,))
GEM = Lookup("maker_gem", (EMITTER, "ilk"))
DECIMALS = Lookup("maker_gem_decimals", (EMITTER, "ilk"))
KEEPER = Lookup("maker_keeper", ("clip", "id"))

# Governance keeps all addresses there; makerdao/dss-exec-lib:src/DssExecLib.sol, LOG
CHAINLOG = "0xda0ab1e0017debcd72be8599041a2aa3ba7e740f"
# makerdao/vdb-mcd-transformers:environments/backfillEvents.toml, MCD_SPOT
SPOTTER = "0x65c79fcb50ca1594b025960e539ed7a9a6d434a3"


def join(events: Sequence[Joinable], facts: Facts) -> Iterable[LendingLiquidation | UndecodedLog]:
    """Amounts of the vat into base units of the tokens, rounded down as when they leave it."""
    for event in events:
        assert not isinstance(event, Sibling)
        yield _in_base_units(event)


def _in_base_units(row: LendingLiquidation) -> LendingLiquidation:
    repaid, seized, decimals = row.repaid, row.seized, row.owner
    assert repaid is not None
    assert seized is not None
    taken = None
    if decimals is not None and decimals.isdecimal():
        taken = Leg(seized.asset, seized.raw * 10 ** int(decimals) // 10**WAD)
    return row.with_(owner=None, repaid=Leg(repaid.asset, repaid.raw // 10**RAY), seized=taken)


def _is_its_own(emitter: str, deployed: Sequence[Deployment]) -> bool:
    """Whether it is a contract of Maker itself, for which the addresses above hold."""
    return any((one.name, one.address.lower()) == (SPEC.name, emitter) for one in deployed)


def _clipper_of(clip: str, deployed: Sequence[Deployment]) -> Dialogue[str | None]:
    """Whose clipper it is: it names its ilk, and a Dog names the clipper of each ilk now."""
    (told,) = yield [call(clip, "ilk()")]
    ilk = uint_of(told)
    if ilk is None:
        return None
    dogs = [one for one in deployed if one.role == "dog"]
    answers = yield [call(one.address, "ilks(bytes32)", ilk) for one in dogs]
    names = {
        one.name
        for one, answer in zip(dogs, answers, strict=True)
        if uint_of(answer, 0, of=4, bits=160) == int(clip, 16)
    }
    return names.pop() if len(names) == 1 else None


def _emitter(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    name = yield from _clipper_of(missing.subject, deployed)
    return () if name is None else (missing.told(f"{name}/clipper"),)


def _keeper(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """No contract keeps it: the Kick just before the Bark tells it, unless its clipper is one that
    no log has proved. Then the clipper is asked about, and what it has logged is read again."""
    clip = missing.subject.partition("/")[0]
    name = yield from _clipper_of(clip, deployed)
    proof = [] if name is None else [Fact(missing.chain, EMITTER_FACT, clip, f"{name}/clipper")]
    return (*proof, missing.told(None))


def _listed(key: str, emitter: str, deployed: Sequence[Deployment]) -> Dialogue[str | None]:
    if not _is_its_own(emitter, deployed):
        return None
    word = "0x" + key.encode().ljust(32, b"\0").hex()
    (told,) = yield [call(CHAINLOG, "getAddress(bytes32)", word)]
    return contract_of(told)


def _coin(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    dai = yield from _listed("MCD_DAI", missing.subject, deployed)
    return () if dai is None else (missing.told(dai),)


def _gem(missing: MissingFact, deployed: Sequence[Deployment]) -> Inquiry:
    """The token of an ilk and how many decimals its adapter counts it with.

    makerdao/ilk-registry:src/IlkRegistry.sol"""
    emitter, _, ilk = missing.subject.partition("/")
    registry = yield from _listed("ILK_REGISTRY", emitter, deployed)
    if registry is None:
        return ()
    gem, dec = yield [call(registry, "gem(bytes32)", ilk), call(registry, "dec(bytes32)", ilk)]
    token, decimals = contract_of(gem), uint_of(dec, bits=8)
    if token is None or decimals is None:
        return ()
    return (
        Fact(missing.chain, GEM.fact, missing.subject, token),
        Fact(missing.chain, DECIMALS.fact, missing.subject, str(decimals)),
    )


def oracle(subject: Subject, deployed: Sequence[Deployment]) -> Dialogue[Quote | NoQuote]:
    """The price by which the vat has found the vault unsafe: `spot` is the price over the ratio
    that is required, `mat`, as of the last poke. The delayed feed itself answers those only whom
    governance has let in. A ratio that changed since the poke is in neither.

    makerdao/dss:src/spot.sol (poke), src/vat.sol (ilks)"""
    if not _is_its_own(subject.emitter, deployed):
        return UNKNOWN_ORACLE
    ilk = subject.market
    told, dollars, listed, token = yield [
        call(SPOTTER, "vat()"),
        call(SPOTTER, "par()"),
        call(SPOTTER, "ilks(bytes32)", ilk),
        call(subject.asset, "decimals()"),
    ]
    vat, par, mat = oracle_of(told), number_of(dollars), uint_of(listed, 1, of=2)
    decimals = decimals_of(token)
    if isinstance(vat, NoQuote):
        return vat
    if isinstance(par, NoQuote):
        return par
    if isinstance(decimals, NoQuote):
        return decimals
    (known,) = yield [call(vat, "ilks(bytes32)", ilk)]
    spot = uint_of(known, 2, of=5)
    if spot is None or mat is None:
        return UNREADABLE
    if spot * mat == 0:
        return ZERO
    return Quote(scaled(spot * mat * par, 3 * RAY + decimals), USD, (SPOTTER, vat))


AUCTION = Learn("maker_auction", (EMITTER, "id"), ("usr", "tab", "lot"))

SPEC = ProtocolSpec(
    name="maker",
    kind="lending",
    contracts={
        "dog": Contract(
            abi="maker_dog.json",
            events={
                "Bark": EventMap(
                    account="urn",
                    owner=DECIMALS,  # for the join, which counts by them
                    liquidator=KEEPER,
                    market="ilk",
                    method="absorb",
                    repaid=(COIN, "due"),
                    seized=(GEM, "ink"),
                ),
                "File": FactMap(proves={"clip": "clipper"}),
            },
        ),
        "clipper": Contract(
            abi="maker_clipper.json",
            events={
                "Kick": FactMap(learns=(AUCTION, Learn(KEEPER.fact, (EMITTER, "id"), ("kpr",)))),
                "Take": FactMap(
                    learns=(Learn("maker_take", (EMITTER, "id", "tab", "lot"), ("owe", "price")),)
                ),
                "Redo": FactMap(
                    learns=(
                        Learn("maker_redo", (EMITTER, "id", "tab", "lot", "top"), ("kpr", "coin")),
                    )
                ),
                "Yank": FactMap(learns=(Learn("maker_yank", (EMITTER, "id"), ("id",)),)),
            },
        ),
        "cat": Contract(
            abi="maker_cat.json",
            events={
                "Bite": EventMap(
                    account="urn",
                    owner=DECIMALS,
                    market="ilk",
                    method="absorb",
                    repaid=(COIN, "tab"),
                    seized=(GEM, "ink"),
                )
            },
        ),
        "flipper": Contract(abi="maker_flipper.json", events={"Kick": FactMap(learns=(AUCTION,))}),
    },
    join=join,
    deployments=deployments("maker"),
    asks={
        EMITTER_FACT: _emitter,
        COIN.fact: _coin,
        GEM.fact: _gem,
        DECIMALS.fact: _gem,
        KEEPER.fact: _keeper,
    },
    oracle=oracle,
    # no bonus: the auction gives what it gives, and later
    par=Par(COIN.fact, WAD, "makerdao/dss:src/spot.sol, par"),
    methodology=(
        "Debt `due` of a Bark, `tab` of a Bite: what the vault `urn` owed in DAI, without the"
        " penalty that the auction adds. Collateral `ink` in the token of the collateral type"
        " `ilk`, which is the market. Both are cut to base units. The liquidator is the `kpr` whom"
        " the auction house `clip` logs for auction `id`, who is paid for starting it and gets no"
        " collateral; nobody is named in a Bite. What the sale brought, `owe` of each Take, is kept"
        " as facts and is no part of the row."
    ),
)
