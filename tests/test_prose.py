"""The methodology paragraph: nothing that counts goes unsaid, in either language."""

import json
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.methodology.definition import (
    GROUPS,
    LENDING_METHODS,
    LEVELS,
    PERP_METHODS,
    Assets,
    Definition,
    Repeat,
    Sample,
    instrument_of,
    parse,
    presets,
)
from indexer.methodology.prose import PHRASES, Language, difference, paragraph

LANGUAGES: tuple[Language, ...] = get_args(Language)
each_language = pytest.mark.parametrize("language", LANGUAGES)

Raw = dict[str, Any]


def defined(raw: Raw) -> Definition:
    header = {"id": "mine/v1", "says": "", "fidelity": "exact"}
    return parse(json.dumps(header | raw).encode(), "json")


def body(definition: Definition, language: Language) -> str:
    """All but the last sentence, whose id and hash would differ by themselves."""
    last = {"en": " The definition is ", "zh": "定义为 "}[language]
    return paragraph(definition, language).rpartition(last)[0]


def meaning(definition: Definition) -> str:
    return msgspec.structs.replace(definition, id="a/v1", says="", mirrors="").canonical()


# -- the words -----------------------------------------------------------------------------------


def values_of(hint: Any) -> set[str]:
    """The values of all Literals in a type."""
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {value for inner in get_args(hint) for value in values_of(inner)}


CHOICES = {
    **{name: values_of(hint) for name, hint in get_type_hints(Definition).items()},
    "relations": values_of(get_type_hints(Assets)["relations"]),
    "repeat": values_of(get_type_hints(Repeat)["keep"]),
    "sample": values_of(get_type_hints(Sample)["keep"]),
    "window": {
        rule.__struct_config__.tag for rule in get_args(get_type_hints(Definition)["window"])
    },
    "prices": {"event", "oracle", "feed_log", "reference", "file"}
    | {"hyperliquid", "hyperliquid_fills"},
}


@pytest.mark.parametrize("field", sorted(name for name, values in CHOICES.items() if values))
def test_each_value_of_a_field_has_its_own_phrase_in_both_languages(field: str) -> None:
    assert set(PHRASES[field]) == CHOICES[field]
    assert len({said.en for said in PHRASES[field].values()}) == len(CHOICES[field])
    assert len({said.zh for said in PHRASES[field].values()}) == len(CHOICES[field])


def test_both_languages_fill_in_the_same() -> None:
    filled = [
        tuple(set(re.findall(r"\{(\w+)\}", text)) for text in said)
        for phrases in PHRASES.values()
        for said in phrases.values()
    ]

    assert [en for en, _ in filled] == [zh for _, zh in filled]


def test_chinese_phrases_are_chinese() -> None:
    plain = re.compile(r"\{\w+\}|Hyperliquid| |[0-9]")
    texts = [plain.sub("", said.zh) for phrases in PHRASES.values() for said in phrases.values()]

    assert [text for text in texts if re.search("[A-Za-z,.;()]", text)] == []


# -- nothing goes unsaid -------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "a and b", 'a", "b', "a；b", "A", "甲"])


def sets(values: Any, least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(values, unique=True, min_size=least, max_size=4)


def chosen(field: str) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(CHOICES[field]))


def chosen_set(field: str) -> st.SearchStrategy[list[str]]:
    return sets(chosen(field), least=1)


WINDOWS = st.one_of(
    st.fixed_dictionaries(
        {"rule": st.just("calendar"), "zone": st.sampled_from(["UTC", "Asia/Shanghai"])}
    ),
    st.fixed_dictionaries({"rule": st.just("rolling"), "hours": st.integers(1, 8784)}),
    st.just({"rule": "blocks"}),
    st.fixed_dictionaries(
        {
            "rule": st.just("segment"),
            "series": st.sampled_from(["mark:hyperliquid/BTC", "file:a/b/c", "file:a/b/c d"]),
            "threshold": st.sampled_from(["0.03", "0.3", "0.000000000000000001"]),
        }
    ),
)
ASSETS = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "families": sets(st.sampled_from(["ETH", "BTC", "USD"]), least=1),
            "relations": chosen_set("relations"),
        }
    ),
)
LABELS = st.fixed_dictionaries(
    {"only": sets(names), "without": sets(names)},
    optional={
        "as_of": st.sampled_from(["2025-10-11T00:00:00Z", "2025-10-11T00:00:00.000001Z"]),
    },
)
REPEATS = st.fixed_dictionaries(
    {"keep": chosen("repeat"), "gap_seconds": st.integers(31, 30 * 86_400)}
)
SAMPLES = st.one_of(
    st.none(),
    st.fixed_dictionaries({"seconds": st.integers(1, 3600), "keep": chosen("sample")}),
)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "fidelity": chosen("fidelity"),
    "finality": chosen("finality"),
    "window": WINDOWS,
    "venues": sets(st.sampled_from(["aave_v3", "aave_v3.base", "hyperliquid", "and"])),
    "chains": sets(st.sampled_from(["base", "ethereum", "hyperevm"])),
    "markets": sets(names),
    "trust": chosen("trust"),
    "assets": ASSETS,
    "parties": chosen_set("parties"),
    "self_liquidations": chosen("self_liquidations"),
    "labels": LABELS,
    "count": st.sampled_from(LEVELS),
    "account_unit": chosen("account_unit"),
    "repeat": REPEATS,
    "sample": SAMPLES,
    "minimum_usd": st.sampled_from(["0", "1", "1000", "1000.5", "0.000000000000000001"]),
    "prices": sets(
        st.sampled_from(["event", "oracle", "feed_log", "reference", "hyperliquid", "file:a-b"]),
        least=1,
    ),
    "stablecoins": chosen("stablecoins"),
    "rounding": chosen("rounding"),
}
OF_PERPS: dict[str, st.SearchStrategy[Any]] = {
    "margin_modes": chosen_set("margin_modes"),
    "perp_value": chosen("perp_value"),
}
OF_LOANS: dict[str, st.SearchStrategy[Any]] = {
    "lending_value": chosen("lending_value"),
}
METHODS = sorted({*PERP_METHODS, *LENDING_METHODS} - {"ledger_update"})  # which stands alone
FIELDS = {
    **COMMON, **OF_PERPS, **OF_LOANS,
    "methods": sets(st.sampled_from(METHODS), least=1),
    "leg": chosen("leg"),
    "dirs": sets(names),
}  # fmt: skip


def mended(raw: Raw) -> Raw:
    """The nearest that a file may say: where two fields exclude each other, one is left out."""
    instruments = {instrument_of(method) for method in raw["methods"]}
    only, without = raw["labels"]["only"], raw["labels"]["without"]
    labels = raw["labels"] | {"without": [name for name in without if name not in only]}
    gone = {
        *(() if "perp" in instruments else OF_PERPS),
        *(() if "lending" in instruments else OF_LOANS),
        *(() if instruments == {"perp"} else ("leg", "dirs")),
        *(() if raw["leg"] == "liquidated" else ("perp_value",)),
        *(() if raw["sample"] is None else ("repeat",)),
        *(() if only or labels["without"] else ("labels",)),
    }
    chains = ["base"] if raw["window"]["rule"] == "blocks" else raw["chains"]
    whole = raw | {"instruments": sorted(instruments), "labels": labels, "chains": chains}
    return {name: value for name, value in whole.items() if name not in gone}


@settings(max_examples=1000)
@given(raw=st.fixed_dictionaries(FIELDS), data=st.data(), field=st.sampled_from(sorted(FIELDS)))
def test_two_definitions_read_the_same_only_if_they_are(
    raw: Raw, data: st.DataObject, field: str
) -> None:
    changed = raw | {field: data.draw(FIELDS[field])}
    a, b = defined(mended(raw)), defined(mended(changed))

    same = meaning(a) == meaning(b)

    assert [body(a, language) == body(b, language) for language in LANGUAGES] == [same, same]


@given(raw=st.fixed_dictionaries(FIELDS), other=st.fixed_dictionaries(FIELDS))
def test_a_difference_names_each_group_that_differs_and_says_how(raw: Raw, other: Raw) -> None:
    a, b = defined(mended(raw)), defined(mended(other))

    in_english, in_chinese = difference(a, b, "en"), difference(a, b, "zh")

    differing = [name for name in GROUPS if a.group(name) != b.group(name)]
    assert [name for name, _, _ in in_english] == differing
    assert [name for name, _, _ in in_chinese] == differing
    assert [name for name, said, other in in_english + in_chinese if said == other] == []


# -- whole texts ---------------------------------------------------------------------------------


def test_strict_in_english() -> None:
    assert paragraph(presets()["strict/v1"], "en") == (
        "Of perpetuals it counts forced closes in a book or against a pool, takeovers by the"
        " exchange's vault, users' losing positions closed by auto-deleveraging and positions of"
        " the exchange's vaults closed by auto-deleveraging; of loans it counts debt repaid against"
        " collateral,"
        " pre-liquidations on agreed terms, loans taken over by a liquidator, loans absorbed by"
        " the protocol and loans healed, the rest of their debt written off. The total is of"
        " liquidated accounts of users; the exchange's own vaults stand on a line of their own,"
        " outside of it; liquidations of an account by itself are included; each liquidation"
        " counts once, on the side of the liquidated account. In scope are perpetuals and loans"
        " on all venues, chains, markets and assets; loans in markets that anybody may open, and"
        " marks on dexes that anybody may deploy, stand on a line of their own. Only finalized"
        " blocks count; the window follows the calendar days of UTC, by block time, its end"
        " excluded. Perpetuals are worth their size at the price of the trade; loans are worth"
        " the debt repaid. A dollar token counts at the price that these sources have, or,"
        " where none has one, at one dollar as the quote of a perpetual and as what a loan's own"
        " protocol takes for a"
        " dollar; prices come from the first of these that has one: the event itself, the"
        " protocol's oracle at the block, the last log of that oracle's feed, then another"
        " governed oracle of the chain; what has no price is reported and adds no money; nothing"
        " is rounded. The headline counts episodes (an account's liquidations at one venue"
        " without a longer pause); an episode ends after 900 s without an action; an account is"
        " an address as its venue keys it; repeated liquidations of an account all count. The"
        " number can be recomputed exactly from the chains' own records. The definition is"
        " strict/v1, hash 7bbab7a53922."
    )


def test_strict_in_chinese() -> None:
    assert paragraph(presets()["strict/v1"], "zh") == (
        "永续合约计入订单簿或资金池中的强平、交易所金库接管、用户亏损仓位的自动减仓和交易所金库仓位的自动减仓；"
        "借贷计入代偿债务并取走抵押品的清算、按约定条款的预清算、由清算人承接的贷款、由协议吸收的贷款"
        "和取尽抵押品并核销余债的贷款。合计只含用户被清算的账户；交易所自有金库另行列示，不在合计内；"
        "自我清算计入；每笔清算只计一次，计在被清算方。范围为永续合约和借贷：所有平台、链、市场和资产"
        "；任何人都可开设的借贷市场，以及任何人都可部署的永续合约交易所的标记价，另行列示。只计入已最"
        "终确定的区块；统计窗口按 UTC 的自然日（区块时间）划分，含起点、不含终点。永续合约按成交"
        "价计算名义价值；借贷按偿还的债务计。美元稳定币按下列来源的价格计，都没有价格时，永续合约的计价币以及借贷"
        "协议自身视作 1 美元者按 1 美元计；价格依次取自事件自带价格、协议预言机在该区块的价格、"
        "该预言机数据源的最近日志、同链上另一个受治理的预言机，以最先可得者为准；没有价格的部分另行报"
        "告，不计入金额；不作舍入。主计数为清算过程（账户在单一平台上无较长间断的清算）；连续 900"
        " 秒没有清算动作，一次清算过程即告结束；账户即平台所记的地址；同一账户的多次清算全部计入"
        "。该数字可由链上记录精确重算。定义为 strict/v1，哈希 7bbab7a53922。"
    )


def test_a_definition_of_its_own_in_english() -> None:
    definition = defined(
        {
            "fidelity": "approximate",
            "finality": "latest",
            "venues": ["hyperliquid", "aave_v3.ethereum"],
            "markets": ["ETH"],
            "assets": {"families": ["ETH"], "relations": ["self", "staked"]},
            "margin_modes": ["cross"],
            "methods": ["market", "write_off"],
            "labels": {"without": ["fund"], "as_of": "2025-10-11T00:00:00Z"},
            "lending_value": "bad_debt",
            "minimum_usd": 10000.5,
            "count": "account",
            "account_unit": "owner",
            "repeat": {"keep": "largest", "gap_seconds": 60},
            "prices": ["file:desk", "oracle"],
            "rounding": "cents",
            "window": {"rule": "segment", "series": "file:desk/base/ETH", "threshold": 0.025},
        }
    )

    assert body(definition, "en") == (
        "Of perpetuals it counts forced closes in a book or against a pool; of loans it counts"
        " bad debt written off alone. The total is of liquidated accounts of users; the"
        " exchange's own vaults stand on a line of their own, outside of it; liquidations of an"
        " account by itself are"
        ' included; accounts with the label "fund" do not count; labels are those that held at'
        " the liquidation, as known at 2025-10-11T00:00:00Z; each liquidation counts once, on the"
        " side of the liquidated account. In scope are perpetuals and loans on the venues"
        " aave_v3.ethereum and hyperliquid, the asset ETH (the coin itself or staked), the market"
        ' "ETH", all chains; perpetuals count only in cross margin; loans in markets that anybody'
        " may open, and marks on dexes that anybody may deploy, stand on a line of their own."
        " Blocks count up to the newest, which the chain may still replace; the window is one"
        ' swing of the price "file:desk/base/ETH", from the extreme at one turning point up to'
        " that at the next, where a turn is a move of at least 2.5 % back. Perpetuals are worth"
        " their size at the price of the trade; loans are worth the bad debt written off; the two"
        " are not comparable and are shown apart. A dollar token counts at the price that these"
        " sources have, or, where none has one, at one dollar as the quote of a perpetual and as"
        " what a loan's"
        " own protocol takes for a dollar; prices come from the first of these that has one: the"
        " imported file desk, then the protocol's oracle at the block; what has no price is"
        " reported and adds no money; each value is rounded to cents. The headline counts"
        " accounts; those worth less than 10,000.5 dollars are left out, with their money; an"
        " episode ends after 60 s without an action; an owner's addresses are one account; of"
        " each episode only the largest action counts; totals of two windows do not add up to the"
        " total of both. The number approximates its model: the same idea on other data."
    )


def test_labels_without_a_time_are_those_known_now() -> None:
    plain = defined({"parties": ["user", "protocol_vault"]})
    labelled = defined(
        {"parties": ["user", "protocol_vault"], "labels": {"only": ["whale", "fund"]}}
    )

    assert difference(plain, labelled, "en") == [
        (
            "party",
            "The total is of liquidated accounts of users and the exchange's own vaults;"
            " liquidations of an account by itself are included.",
            "The total is of liquidated accounts of users and the exchange's own vaults;"
            " liquidations of an account by itself are included; accounts count only with the"
            ' label "fund" or "whale"; labels are those that held at the liquidation, as known'
            " now.",
        )
    ]


@each_language
@pytest.mark.parametrize("id", sorted(presets()))
def test_each_preset_has_a_paragraph_of_its_own(id: str, language: Language) -> None:
    texts = [body(preset, language) for preset in presets().values()]

    assert texts.count(body(presets()[id], language)) == 1


def test_a_difference_of_strict_and_the_chinese_day() -> None:
    strict, chinese = presets()["strict/v1"], presets()["natural_day_cn/v1"]

    assert difference(strict, strict, "en") == []
    assert difference(strict, chinese, "en") == [
        (
            "window",
            "The window follows the calendar days of UTC, by block time, its end excluded.",
            "The window follows the calendar days of Asia/Shanghai, by block time, its end"
            " excluded.",
        )
    ]
    assert difference(strict, chinese, "zh") == [
        (
            "window",
            "统计窗口按 UTC 的自然日（区块时间）划分，含起点、不含终点。",
            "统计窗口按 Asia/Shanghai 的自然日（区块时间）划分，含起点、不含终点。",
        )
    ]
