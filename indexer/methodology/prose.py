"""The methodology paragraph: sentences that follow from the fields of a definition alone.

Two definitions that differ in what they count, or in what it is worth, never read the same.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, get_args

from indexer.methodology.definition import (
    GROUPS,
    Blocks,
    Calendar,
    Definition,
    Instrument,
    MarginMode,
    Rolling,
    Segment,
    instrument_of,
)
from indexer.model import EXACT

Language = Literal["en", "zh"]


class Said(NamedTuple):
    """One thing in each language."""

    en: str
    zh: str


PHRASES: dict[str, dict[str, Said]] = {
    "finality": {
        "finalized": Said("only finalized blocks count", "只计入已最终确定的区块"),
        "latest": Said(
            "blocks count up to the newest, which the chain may still replace",
            "计入直到最新的区块，其中最新的仍可能被链替换",
        ),
    },
    "window": {
        "calendar": Said(
            "the window follows the calendar days of {zone}, by block time, its end excluded",
            "统计窗口按 {zone} 的自然日（区块时间）划分，含起点、不含终点",
        ),
        "rolling": Said(
            "the window is the {hours} hours up to a moment, by block time, its end excluded",
            "统计窗口为某一时刻之前的 {hours} 小时（区块时间），含起点、不含终点",
        ),
        "blocks": Said(
            "the window is a range of block heights, its end excluded",
            "统计窗口为一段区块高度，含起点、不含终点",
        ),
        "segment": Said(
            "the window is one swing of the price {series}, from the extreme at one turning point"
            " up to that at the next, where a turn is a move of at least {percent} % back",
            "统计窗口为价格序列 {series} 的一个波段，自一个拐点的极值起，至下一个拐点的极值前止，"
            "价格自极值反向变动至少 {percent}% 即为拐点",
        ),
    },
    "instruments": {
        "perp": Said("perpetuals", "永续合约"),
        "lending": Said("loans", "借贷"),
    },
    "relations": {
        "self": Said("the coin itself", "原生币"),
        "wrapped": Said("wrapped", "包装币"),
        "bridged": Said("bridged", "跨链币"),
        "staked": Said("staked", "质押凭证"),
        "pegged": Said("pegged", "锚定币"),
    },
    "margin_modes": {
        "cross": Said("cross", "全仓"),
        "isolated": Said("isolated", "逐仓"),
        "unknown": Said("unrecorded", "未记录"),
    },
    "trust": {
        "governed": Said(
            "loans in markets that anybody may open, and marks on dexes that anybody may deploy,"
            " stand on a line of their own",
            "任何人都可开设的借贷市场，以及任何人都可部署的永续合约交易所的标记价，另行列示",
        ),
        "any": Said(
            "loans in markets that anybody may open, and marks on dexes that anybody may deploy,"
            " count, too",
            "任何人都可开设的借贷市场，以及任何人都可部署的永续合约交易所的标记价，也计入",
        ),
    },
    "methods": {
        "market": Said("forced closes in a book or against a pool", "订单簿或资金池中的强平"),
        "backstop": Said("takeovers by the exchange's vault", "交易所金库接管"),
        "adl_of_user": Said(
            "users' losing positions closed by auto-deleveraging", "用户亏损仓位的自动减仓"
        ),
        "adl_of_vault": Said(
            "positions of the exchange's vaults closed by auto-deleveraging",
            "交易所金库仓位的自动减仓",
        ),
        "borrow_partial": Said(
            "collateral of loans on the exchange sold into its book", "交易所内借贷抵押品的卖出"
        ),
        "borrow_backstop": Said(
            "loans on the exchange taken over by its vault", "交易所金库对交易所内借贷的接管"
        ),
        "ledger_update": Said(
            "liquidated accounts, whole, as the exchange's own ledger states them",
            "交易所自身账本所记的整户强平",
        ),
        "repay_seize": Said("debt repaid against collateral", "代偿债务并取走抵押品的清算"),
        "pre_liquidation": Said("pre-liquidations on agreed terms", "按约定条款的预清算"),
        "debt_transfer": Said("loans taken over by a liquidator", "由清算人承接的贷款"),
        "absorb": Said("loans absorbed by the protocol", "由协议吸收的贷款"),
        "heal": Said(
            "loans healed, the rest of their debt written off", "取尽抵押品并核销余债的贷款"
        ),
        "write_off": Said("bad debt written off alone", "单独核销的坏账"),
    },
    "parties": {
        "user": Said("users", "用户"),
        "protocol_vault": Said("the exchange's own vaults", "交易所自有金库"),
    },
    "self_liquidations": {
        "include": Said("liquidations of an account by itself are included", "自我清算计入"),
        "exclude": Said("liquidations of an account by itself are left out", "自我清算不计入"),
    },
    "leg": {
        "liquidated": Said(
            "each liquidation counts once, on the side of the liquidated account",
            "每笔清算只计一次，计在被清算方",
        ),
        "counterparty": Said(
            "each liquidation counts once, on the counterparty's side",
            "每笔清算只计一次，计在对手方",
        ),
        "both": Said(
            "each liquidation counts twice, on both sides of the trade",
            "每笔清算在成交双方各计一次，共计两次",
        ),
    },
    "count": {
        "record": Said("records as published", "原始记录"),
        "fill": Said("forced trades and logged liquidations", "逐笔强制成交与清算日志"),
        "order": Said("orders (of an account in one market)", "账户在单一市场的订单"),
        "action": Said("actions (all that one trigger does to an account)", "对账户的清算动作"),
        "position": Said("positions (by account, market and side)", "按账户、市场和方向区分的仓位"),
        "episode": Said(
            "episodes (an account's liquidations at one venue without a longer pause)",
            "清算过程（账户在单一平台上无较长间断的清算）",
        ),
        "account": Said("accounts", "账户"),
    },
    "account_unit": {
        "address": Said("an account is an address as its venue keys it", "账户即平台所记的地址"),
        "owner": Said("an owner's addresses are one account", "同一所有者的地址合为一个账户"),
    },
    "repeat": {
        "all": Said("repeated liquidations of an account all count", "同一账户的多次清算全部计入"),
        "first": Said(
            "of each episode only the first action counts", "每次清算过程只计第一个动作"
        ),
        "largest": Said(
            "of each episode only the largest action counts", "每次清算过程只计最大的一个动作"
        ),
    },
    "sample": {
        "last": Said(
            "of each market only the last order in every {seconds} s counts, as in a feed that"
            " drops the others",
            "每个市场每 {seconds} 秒只计最后一笔订单，如同会丢弃其余订单的数据流",
        ),
        "largest": Said(
            "of each market only the largest order in every {seconds} s counts, as in a feed that"
            " drops the others",
            "每个市场每 {seconds} 秒只计最大的一笔订单，如同会丢弃其余订单的数据流",
        ),
    },
    "perp_value": {
        "fill": Said(
            "perpetuals are worth their size at the price of the trade",
            "永续合约按成交价计算名义价值",
        ),
        "mark": Said(
            "perpetuals are worth their size at the mark price", "永续合约按标记价格计算名义价值"
        ),
        "bankruptcy": Said(
            "perpetuals are worth their size at the price that leaves no equity",
            "永续合约按破产价格计算名义价值",
        ),
        "margin_lost": Said(
            "perpetuals are worth the margin that was lost with them", "永续合约按损失的保证金计"
        ),
        "realised": Said(
            "perpetuals are worth the profit that the account realised, a loss being below zero",
            "永续合约按账户已实现盈亏计，亏损为负",
        ),
    },
    "lending_value": {
        "repaid": Said("loans are worth the debt repaid", "借贷按偿还的债务计"),
        "seized": Said(
            "loans are worth the collateral seized, the protocol's fee within",
            "借贷按被取走的抵押品计，含协议费用",
        ),
        "seized_net": Said(
            "loans are worth the collateral that the liquidator got, net of what went back or to"
            " the protocol",
            "借贷按清算人净得的抵押品计，扣除退还和归协议的部分",
        ),
        "bonus": Said(
            "loans are worth the liquidator's bonus, the collateral they got less the debt repaid",
            "借贷按清算人的奖励计，即所得抵押品减去偿还的债务",
        ),
        "loss": Said(
            "loans are worth what the account lost, the collateral seized less the debt repaid",
            "借贷按账户的损失计，即被取走的抵押品减去偿还的债务",
        ),
        "bad_debt": Said("loans are worth the bad debt written off", "借贷按核销的坏账计"),
    },
    "stablecoins": {
        "par": Said(
            "a dollar token counts at one dollar, as the quote of a perpetual and as the debt"
            " repaid or the collateral seized of a loan",
            "美元稳定币按 1 美元计，无论是永续合约的计价币，还是借贷中偿还的债务或被取走的抵押品",
        ),
        "market": Said(
            "a dollar token counts at its market price, and without one has no value",
            "美元稳定币按市价计，没有市价则无价值数据",
        ),
        "market_or_par": Said(
            "a dollar token counts at the price that these sources have, or, where none has one, at"
            " one dollar as the quote of a perpetual and as what a loan's own protocol takes for a"
            " dollar",
            "美元稳定币按下列来源的价格计，都没有价格时，永续合约的计价币以及借贷协议自身视作"
            " 1 美元者按 1 美元计",
        ),
    },
    "prices": {
        "event": Said("the event itself", "事件自带价格"),
        "oracle": Said("the protocol's oracle at the block", "协议预言机在该区块的价格"),
        "feed_log": Said("the last log of that oracle's feed", "该预言机数据源的最近日志"),
        "reference": Said(
            "another governed oracle of the chain", "同链上另一个受治理的预言机"
        ),
        "hyperliquid": Said("Hyperliquid's marks", "Hyperliquid 标记价格"),
        "hyperliquid_fills": Said("Hyperliquid's last trades", "Hyperliquid 最近成交价"),
        "file": Said("the imported file {name}", "导入文件 {name}"),
    },
    "rounding": {
        "none": Said("nothing is rounded", "不作舍入"),
        "cents": Said("each value is rounded to cents", "每个数值四舍五入到美分"),
    },
    "fidelity": {
        "exact": Said(
            "the number can be recomputed exactly from the chains' own records",
            "该数字可由链上记录精确重算",
        ),
        "approximate": Said(
            "the number approximates its model: the same idea on other data",
            "该数字为近似值：与被模仿者口径相近，但数据不同",
        ),
        "simulated": Said(
            "the number is simulated: what a feed that loses records would have shown",
            "该数字为模拟值：即会丢失记录的数据流所会显示的结果",
        ),
    },
    "scope": {
        "whole": Said("in scope are {instruments} on {places}", "范围为{instruments}：{places}"),
        "all": Said("all {kinds}", "所有{kinds}"),
        "margin": Said(
            "perpetuals count only in {modes} margin", "永续合约只计保证金模式为{modes}的仓位"
        ),
    },
    "all": {
        "venues": Said("venues", "平台"),
        "chains": Said("chains", "链"),
        "markets": Said("markets", "市场"),
        "assets": Said("assets", "资产"),
    },
    "named": {
        "venues": Said("the venues {names}", "平台 {names}"),
        "chains": Said("the chains {names}", "链 {names}"),
        "markets": Said("the markets {names}", "市场 {names}"),
        "assets": Said("the assets {names} ({relations})", "资产 {names}（{relations}）"),
    },
    "named_one": {
        "venues": Said("the venue {names}", "平台 {names}"),
        "chains": Said("the chain {names}", "链 {names}"),
        "markets": Said("the market {names}", "市场 {names}"),
        "assets": Said("the asset {names} ({relations})", "资产 {names}（{relations}）"),
    },
    "counted": {
        "of": Said("of {instrument} it counts {methods}", "{instrument}计入{methods}"),
        "dirs": Said(
            "of these only fills whose direction text begins with {dirs}",
            "其中仅限方向文字以 {dirs} 开头的成交",
        ),
    },
    "accounts": {
        "of": Said(
            "the total is of liquidated accounts of {parties}", "合计只含{parties}被清算的账户"
        ),
        "apart": Said(
            "the exchange's own vaults stand on a line of their own, outside of it",
            "交易所自有金库另行列示，不在合计内",
        ),
        "only": Said("accounts count only with the label {names}", "只计入带有标签 {names} 的账户"),
        "without": Said(
            "accounts with the label {names} do not count", "不计入带有标签 {names} 的账户"
        ),
        "now": Said(
            "labels are those that held at the liquidation, as known now",
            "标签取清算当时有效者，以目前所知为准",
        ),
        "as_of": Said(
            "labels are those that held at the liquidation, as known at {as_of}",
            "标签取清算当时有效者，以 {as_of} 时所知为准",
        ),
    },
    "sizes": {
        "count": Said("the headline counts {count}", "主计数为{count}"),
        "minimum": Said(
            "those worth less than {usd} dollars are left out, with their money",
            "其中价值低于 {usd} 美元的连同金额一并不计",
        ),
        "gap": Said(
            "an episode ends after {seconds} s without an action",
            "连续 {seconds} 秒没有清算动作，一次清算过程即告结束",
        ),
        "not_additive": Said(
            "totals of two windows do not add up to the total of both",
            "两个窗口的合计相加不等于合并窗口的合计",
        ),
    },
    "sums": {
        "apart": Said(
            "the two are not comparable and are shown apart", "两者不可比较，因此分开列示"
        ),
    },
    "sources": {
        "some": Said(
            "prices come from the first of these that has one: {names}",
            "价格依次取自{names}，以最先可得者为准",
        ),
        "none": Said("no stored price is used", "不使用已存储的价格"),
        "unpriced": Said(
            "what has no price is reported and adds no money", "没有价格的部分另行报告，不计入金额"
        ),
    },
    "end": {"end": Said("the definition is {id}, hash {hash}", "定义为 {id}，哈希 {hash}")},
    "join": {
        "and": Said(" and ", "和"),
        "or": Said(" or ", "或"),
        "and_name": Said(" and ", "、"),
        "or_name": Said(" or ", "、"),
        "then": Said(", then ", "、"),
        "comma": Said(", ", "、"),
        "place": Said(", ", "，"),
        "clause": Said("; ", "；"),
        "stop": Said(".", "。"),
        "space": Said(" ", ""),
    },
}  # fmt: skip
"""What each value of each field is called, and what such names make; those in braces are filled
in. What a table lists has its order there."""


class _Voice(NamedTuple):
    """How one language says it."""

    language: Language

    def say(self, field: str, value: str, **names: object) -> str:
        said: str = getattr(PHRASES[field][value], self.language)
        return said.format(**names)

    def each(self, field: str, values: Collection[str], last: str = "and") -> str:
        return self.row(
            [self.say(field, value) for value in PHRASES[field] if value in values], last
        )

    def row(self, names: Sequence[str], last: str) -> str:
        """`a, b and c`."""
        before = self.say("join", "comma").join(names[:-1])
        return self.say("join", last).join([before, names[-1]] if before else names)

    def quoted(self, names: Sequence[str], last: str) -> str:
        """Names that may hold anything, so that nothing in them reads as ours."""
        return self.row([json.dumps(name, ensure_ascii=False) for name in names], last)

    def sentence(self, clauses: Iterable[str]) -> str:
        text = self.say("join", "clause").join(clauses)
        return text[:1].upper() + text[1:] + self.say("join", "stop")


def paragraph(definition: Definition, language: Language) -> str:
    """What a definition means; the end has its id and the first digits of its hash."""
    voice = _Voice(language)
    groups = (
        ["methods"], ["party", "leg"], ["scope"], ["coverage", "window"], ["valuation"], ["price"],
        ["repeat"], ["fidelity"], ["end"],
    )  # fmt: skip
    sentences = (
        voice.sentence(clause for name in names for clause in _CLAUSES[name](definition, voice))
        for names in groups
    )
    return voice.say("join", "space").join(sentences)


def difference(a: Definition, b: Definition, language: Language) -> list[tuple[str, str, str]]:
    """Of each of `GROUPS` in which two definitions differ: its name, and what either says there."""
    voice = _Voice(language)
    return [
        (name, voice.sentence(_CLAUSES[name](a, voice)), voice.sentence(_CLAUSES[name](b, voice)))
        for name in GROUPS
        if a.group(name) != b.group(name)
    ]


def _methods(d: Definition, voice: _Voice) -> Iterator[str]:
    for instrument in get_args(Instrument):
        methods = [method for method in d.methods if instrument_of(method) == instrument]
        if methods:
            of = voice.say("instruments", instrument)
            named = voice.each("methods", methods)
            yield voice.say("counted", "of", instrument=of, methods=named)
    if d.dirs:
        yield voice.say("counted", "dirs", dirs=voice.quoted(d.dirs, "or_name"))


def _party(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("accounts", "of", parties=voice.each("parties", d.parties))
    if "protocol_vault" not in d.parties and "perp" in d.instruments:
        yield voice.say("accounts", "apart")
    yield voice.say("self_liquidations", d.self_liquidations)
    if d.labels.only:
        yield voice.say("accounts", "only", names=voice.quoted(d.labels.only, "or_name"))
    if d.labels.without:
        yield voice.say("accounts", "without", names=voice.quoted(d.labels.without, "or_name"))
    if d.labels.as_of is not None:
        yield voice.say("accounts", "as_of", as_of=d.labels.as_of)
    elif d.labels.only or d.labels.without:
        yield voice.say("accounts", "now")


def _leg(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("leg", d.leg)


def _scope(d: Definition, voice: _Voice) -> Iterator[str]:
    instruments = voice.each("instruments", d.instruments)
    places = voice.say("join", "place").join(_places(d, voice))
    yield voice.say("scope", "whole", instruments=instruments, places=places)
    if len(d.margin_modes) < len(get_args(MarginMode)):
        yield voice.say("scope", "margin", modes=voice.each("margin_modes", d.margin_modes, "or"))
    yield voice.say("trust", d.trust)


def _places(d: Definition, voice: _Voice) -> Iterator[str]:
    """What is named, and then in one what is not and therefore all of it counts."""
    chosen = {
        "venues": d.venues, "chains": d.chains, "assets": d.assets.families,
        "markets": tuple(json.dumps(name, ensure_ascii=False) for name in d.markets),
    }  # fmt: skip
    relations = voice.each("relations", d.assets.relations, "or")
    for kind, names in chosen.items():
        if names:
            form = "named_one" if len(names) == 1 else "named"
            text = voice.row(names, "and_name")
            yield voice.say(form, kind, names=text, relations=relations)
    rest = [kind for kind, names in chosen.items() if not names]
    if rest:
        yield voice.say("scope", "all", kinds=voice.each("all", rest))


def _coverage(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("finality", d.finality)


def _window(d: Definition, voice: _Voice) -> Iterator[str]:
    match d.window:
        case Calendar(zone=zone):
            yield voice.say("window", "calendar", zone=zone)
        case Rolling(hours=hours):
            yield voice.say("window", "rolling", hours=hours)
        case Blocks():
            yield voice.say("window", "blocks")
        case Segment(series=series, threshold=threshold):
            name = json.dumps(series, ensure_ascii=False)
            percent = f"{EXACT.normalize(EXACT.multiply(threshold, Decimal(100))):f}"
            yield voice.say("window", "segment", series=name, percent=percent)


def _valuation(d: Definition, voice: _Voice) -> Iterator[str]:
    if "perp" in d.instruments:
        yield voice.say("perp_value", d.perp_value)
    if "lending" in d.instruments:
        yield voice.say("lending_value", d.lending_value)
    if not d.is_one_sum:
        yield voice.say("sums", "apart")


def _price(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("stablecoins", d.stablecoins)
    if d.prices:
        yield voice.say("sources", "some", names=voice.row(list(_sources(d, voice)), "then"))
    else:
        yield voice.say("sources", "none")
    yield voice.say("sources", "unpriced")
    yield voice.say("rounding", d.rounding)


def _sources(d: Definition, voice: _Voice) -> Iterator[str]:
    for source in d.prices:
        kind, _, name = source.partition(":")
        yield voice.say("prices", kind, name=name)


def _repeat(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("sizes", "count", count=voice.say("count", d.count))
    if d.minimum_usd:
        yield voice.say("sizes", "minimum", usd=f"{d.minimum_usd:,f}")
    yield voice.say("sizes", "gap", seconds=d.repeat.gap_seconds)
    yield voice.say("account_unit", d.account_unit)
    yield voice.say("repeat", d.repeat.keep)
    if d.sample is not None:
        yield voice.say("sample", d.sample.keep, seconds=d.sample.seconds)
    if not d.is_additive:
        yield voice.say("sizes", "not_additive")


def _fidelity(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("fidelity", d.fidelity)


def _end(d: Definition, voice: _Voice) -> Iterator[str]:
    yield voice.say("end", "end", id=d.id, hash=d.hash[:12])


_CLAUSES: dict[str, Callable[[Definition, _Voice], Iterator[str]]] = {
    "methods": _methods,
    "party": _party,
    "leg": _leg,
    "scope": _scope,
    "coverage": _coverage,
    "window": _window,
    "valuation": _valuation,
    "price": _price,
    "repeat": _repeat,
    "fidelity": _fidelity,
    "end": _end,
}
