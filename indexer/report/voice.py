"""What the whale report says, in English and in Chinese: every word of it that is not data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from indexer.methodology.prose import Language
from indexer.report import story_zh, text
from indexer.report.text import clean


class Said(NamedTuple):
    """One thing in each language; names in braces are filled in."""

    en: str
    zh: str


SAID: dict[str, Said] = {
    # the head
    "title": Said("Whale report", "巨鲸爆仓报告"),
    "question": Said("Who was liquidated, and how large", "谁被清算，规模多大"),
    "liquidated": Said("liquidated", "被清算"),
    "simulated": Said("SIMULATED DATA", "模拟数据"),
    "simulated_why": Said(
        "made by a simulator: none of these accounts, trades and liquidations ever existed",
        "由模拟器生成：其中的账户、成交与清算均不存在",
    ),
    "window": Said("Window", "统计窗口"),
    "window_is": Said("from {low} up to, not including, {high}", "自 {low} 起，至 {high} 前止"),
    "as_of": Said("As of", "数据截至"),
    "as_of_venue": Said("{venue} block {block} of {at}", "{venue} 区块 {block}（{at}）"),
    "as_of_more": Said("and {venues} more", "另有 {venues} 个平台"),
    "read_at": Said("database read {at}", "数据库读取于 {at}"),
    "definition": Said("Definition", "统计口径"),
    "definition_is": Said("{id}, hash {hash}", "{id}，哈希 {hash}"),
    "departs": Said(", but for its {names}", "，但以下各项不同：{names}"),
    "depart_window": Said("window", "统计窗口"),
    "depart_gap": Said("gap", "间断时长"),
    "depart_venues": Said("venues", "平台"),
    "report_hash": Said("Report hash", "报告哈希"),
    "complete": Said("Complete", "数据完整"),
    "not_complete": Said("Not complete", "数据不完整"),
    "coverage_is": Said(
        "{blocks} read in {ranges}, {undecoded}, verification: {levels}",
        "已读取 {blocks}，分 {ranges}；{undecoded}；校验方式：{levels}",
    ),
    "every_height": Said("every height seen", "逐块连续"),
    "fills_only": Said("source without empty blocks", "来源不含空区块"),
    "none": Said("none", "无"),
    # the headline
    "headline": Said("Liquidated", "清算总额"),
    "headline_perp": Said("Perpetuals", "永续合约"),
    "headline_lending": Said("Loans", "借贷"),
    "not_one_sum": Said(
        "perpetuals and loans are not alike under this definition: no sum",
        "在此口径下永续合约与借贷不可相加，不作合计",
    ),
    "sides": Said("Long and short", "多头与空头"),
    "share_long": Said("{share} long", "多头占 {share}"),
    "both_sides": Said("{long} long · {short} short", "多头 {long} · 空头 {short}"),
    "accounts": Said("Accounts", "账户"),
    "largest_episode": Said("Largest episode", "最大一次清算过程"),
    "of_the_total": Said("{share} of the total", "占合计 {share}"),
    "none_here": Said("none in this window", "本窗口内无"),
    # sections
    "strip": Said("How much hangs on the definition", "口径敏感度"),
    "strip_note": Said(
        "The same window with one choice changed at a time, all else as in the definition.",
        "同一窗口，每次只改变一项选择，其余与所用口径一致。",
    ),
    "strip_same": Said("Makes no difference here: {names}.", "以下选择在此不影响结果：{names}。"),
    "choice": Said("choice", "选择"),
    "chosen": Said("as defined", "所用口径"),
    "change": Said("change", "变化"),
    "time": Said("When it happened", "清算时间线"),
    "time_note": Said(
        "Money in buckets of {bucket}, {low} to {high} UTC.",
        "按 {bucket} 分段统计的金额，{low} 至 {high}（UTC）。",
    ),
    "time_part": Said(" Only the part of the window that was read.", "仅含窗口中已读取的部分。"),
    "time_vault": Said(
        " Below the axis: protocol vaults, in no total.", "轴下方为交易所自有金库，不计入合计。"
    ),
    "time_unread": Said(" Grey: never read.", "灰色为未读取的时段。"),
    "time_apart": Said(
        " Perpetuals and loans are not alike: compare colours, not heights.",
        "永续合约与借贷不可相加：请比较颜色，勿比较总高度。",
    ),
    "chart_title": Said("Liquidations over time", "清算金额随时间变化"),
    "chart_words": Said(
        "Stacked bars of {kinds}, {usd} in all. Highest: {usd_high} from {at} UTC. The numbers are"
        " in the table below the chart.",
        "按{kinds}堆叠的柱状图，合计 {usd}。最高：自 {at}（UTC）起 {usd_high}。数值见图下表格。",
    ),
    "chart_table": Said("The chart as a table", "以表格查看"),
    "from_utc": Said("from, UTC", "起始（UTC）"),
    "cascade": Said("The heaviest minutes", "最剧烈的分钟"),
    "cascade_note": Said(
        "The {minutes} with most, in the order of the clock: {share} of the total.",
        "金额最大的 {minutes}，按时间排列，合计占总额 {share}。",
    ),
    "minute": Said("minute, UTC", "分钟（UTC）"),
    "assets_over_time": Said("Assets over time", "各资产时间线"),
    "assets_note": Said(
        "Each chart has a scale of its own.{more}", "各图坐标轴独立。{more}"
    ),
    "assets_more": Said(" {count} more assets are in the table.", "其余 {count} 种资产见表格。"),
    "asset_chart": Said("{asset} over time, {usd} in all", "{asset} 随时间变化，合计 {usd}"),
    "kinds": Said("What and how", "类型与方式"),
    "kind": Said("kind", "类型"),
    "method": Said("how", "清算方式"),
    "beside": Said("beside, in no total", "另列，不计入合计"),
    "venues": Said("Venues", "平台"),
    "venue": Said("venue", "平台"),
    "assets": Said("Assets", "资产"),
    "asset": Said("asset", "资产"),
    "and_more": Said("and {count} more", "另有 {count} 项"),
    "unknown": Said("unknown", "未知"),
    "largest": Said("The largest single one", "单笔之最"),
    "unchanged": Said(
        "Money is the same at every level; only counts and the largest single change with the"
        " level.",
        "各层级金额相同，变化的只是计数和单笔最大值。",
    ),
    "level": Said("level", "层级"),
    "account": Said("account", "账户"),
    "what": Said("what", "标的"),
    "when": Said("when, UTC", "时间（UTC）"),
    "key": Said("key", "键"),
    "link": Said("transaction", "交易"),
    "top_accounts": Said("The largest accounts", "清算金额最大的账户"),
    "accounts_note": Said(
        "Labels are opinions: each stands with its rule and evidence. Stories tell whole episodes,"
        " also what of them lies outside of the window.",
        "标签仅为判断，附规则与依据。过程叙述涵盖整个清算过程，包括窗口之外的部分。",
    ),
    "no_label": Said("no label", "无标签"),
    "confidence": Said("confidence {value}", "置信度 {value}"),
    "holds_from": Said("holds from", "有效自"),
    "holds_until": Said("until", "有效至"),
    "pnl": Said("realised PnL", "已实现盈亏"),
    "pnl_is": Said("realised PnL {usd}", "已实现盈亏 {usd}"),
    "open_account": Said("account", "账户页"),
    "open_tx": Said("its largest transaction", "最大一笔交易"),
    "episodes": Said("The largest episodes", "最大的清算过程"),
    "episodes_note": Said(
        "{shown} of {all}. Equity is what the exchange's ledger stated at the first action it tells"
        " of; the peak is the largest position read on any day up to the window's end; ≥ is the"
        " largest threshold that the size reaches.",
        "{all}中的前 {shown} 次。账户权益取交易所账本在首次清算动作时所记；最大持仓取截至窗口结束"
        "所读各日的最大值；≥ 为所达到的最高门槛。",
    ),
    "labels": Said("labels", "标签"),
    "at_mark": Said("at mark", "按标记价"),
    "equity": Said("equity", "账户权益"),
    "peak": Said("peak position", "最大持仓"),
    "lasted": Said("lasted", "历时"),
    "at_once": Said("at once", "瞬时"),
    "whales": Said("Labelled whales", "带巨鲸标签的账户"),
    "whales_note": Said(
        "{active} liquidated in the window{shown}; {others} more labelled whale, not liquidated in"
        " it.",
        "本窗口内有 {active}被清算{shown}；另有 {others} 个带巨鲸标签的账户未被清算。",
    ),
    "whales_shown": Said("; the largest {count} are shown", "，列出其中最大的 {count} 个"),
    "whales_above": Said(
        "Those among the largest accounts are told there.", "已列入上文最大账户者不再重复。"
    ),
    "missing": Said("What is not covered", "未覆盖的部分"),
    "missing_none": Said(
        "Nothing is known to be missing: every block of the window was read and all that was found"
        " is decoded and valued.",
        "未发现缺失：窗口内的区块均已读取，所得记录均已解码并估值。",
    ),
    "lack_none_read": Said(
        "nothing that this definition speaks of was ever read", "此口径所涉平台均从未读取"
    ),
    "lack_time": Said("{venue}: {low} to {high} never read", "{venue}：{low} 至 {high} 从未读取"),
    "lack_blocks": Said(
        "{venue}: blocks {low} to {high} never read", "{venue}：区块 {low} 至 {high} 从未读取"
    ),
    "lack_both": Said(
        "{venue}: blocks {first} to {last} never read, {low} to {high}",
        "{venue}：区块 {first} 至 {last} 从未读取，时间为 {low} 至 {high}",
    ),
    "lack_more": Said(
        "{venue}: {count} more stretches never read", "{venue}：另有 {count} 段从未读取"
    ),
    "lack_venues": Said(
        "{count} more venues were not read whole", "另有 {count} 个平台未完整读取"
    ),
    "lack_undecoded": Said(
        "{venue}: {events} could not be decoded: {reason}", "{venue}：{events}无法解码：{reason}"
    ),
    "lack_unvalued": Said(
        "{venue}: {records} without a value, in no sum: {reason}",
        "{venue}：{records}无价值数据，不计入金额：{reason}",
    ),
    "not_tried": Said("not valued yet: indexer value {venue}", "尚未估值：indexer value {venue}"),
    "lack_outside": Said(
        "{records} came from single records, not from whole blocks",
        "{records}来自单条数据，而非完整区块",
    ),
    "lack_unprovable": Said(
        "{blocks} came from files without empty blocks: a lost block cannot be seen there",
        "{blocks}来自不含空区块的文件，其中的缺块无法察觉",
    ),
    "lack_mark": Said(
        "{records} of perpetuals without a mark price, left out at mark",
        "永续合约中 {records}无标记价，不计入按标记价的金额",
    ),
    "read": Said("What was read", "已读取的范围"),
    "read_is": Said(
        "{venue}: {share} of the window; blocks up to {block}, {at}",
        "{venue}：窗口的 {share}；区块读至 {block}（{at}）",
    ),
    "read_never": Said("{venue}: {share} of the window", "{venue}：窗口的 {share}"),
    "decoders": Said("decoder {versions}", "解码器版本 {versions}"),
    "methodology": Said("Methodology", "统计方法"),
    "words": Said("Words", "用语"),
    "word_levels": Said(
        "Fill: one forced trade, or one logged liquidation of a loan. Order: one order of an"
        " account in one market. Action: all that one transaction did to an account. Episode: what"
        " was liquidated of an account at one venue with no pause longer than {gap}.",
        "成交：一笔强制成交，或借贷协议记录的一次清算。订单：账户在单一市场的一笔订单。清算动作：单笔"
        "交易对一个账户所做的全部清算。清算过程：账户在单一平台上、间断不超过 {gap}的全部清算。",
    ),
    "word_beside": Said(
        "Lines beside are in no total; the sensitivity strip says what the number becomes with"
        " them.",
        "另列各项不计入合计；计入后的数字见口径敏感度。",
    ),
    "word_account": Said(
        "An account is not a person: one person may have many, and many may share one.",
        "账户不等于个人：一人可有多个账户，多人也可共用一个账户。",
    ),
    "again": Said("The same numbers again", "如何复现"),
    "again_note": Said(
        "The command, the SQL of the headline total, and the price set of what counts.",
        "命令、合计的 SQL，以及所计价格集。",
    ),
    "price_set": Said("price set {value}", "价格集 {value}"),
    "code": Said("code {value}", "程序版本 {value}"),
    "labels_as_of": Said("labels as known at {at}", "标签以 {at} 时所知为准"),
    # columns
    "usd": Said("USD", "金额（美元）"),
    "long": Said("long", "多头"),
    "short": Said("short", "空头"),
    "records": Said("records", "记录数"),
    "fills": Said("fills", "成交数"),
    "orders": Said("orders", "订单数"),
    "actions": Said("actions", "清算动作数"),
    "episode_count": Said("episodes", "清算过程数"),
    "account_count": Said("accounts", "账户数"),
    "share": Said("share", "占比"),
    "perps": Said("perpetuals", "永续合约"),
    "loans": Said("loans", "借贷"),
    "total": Said("total", "合计"),
    # kinds, methods, sides, levels, lines beside
    "kind_perp": Said("perpetuals", "永续合约"),
    "kind_lending": Said("loans", "借贷"),
    "bar_market": Said("market (book or pool)", "市价强平（订单簿或资金池）"),
    "bar_backstop": Said("backstop (taken over)", "金库接管"),
    "bar_adl": Said("ADL", "自动减仓（ADL）"),
    "bar_lending": Said("loans", "借贷清算"),
    "bar_other": Said("other", "其他"),
    "bar_protocol_vault": Said("protocol vaults", "交易所自有金库"),
    "method_market": Said("market (book or pool)", "市价强平（订单簿或资金池）"),
    "method_backstop": Said("backstop (taken over)", "金库接管"),
    "method_adl_of_user": Said("ADL of users", "用户仓位自动减仓（ADL）"),
    "method_adl_of_vault": Said("ADL of vaults", "金库仓位自动减仓（ADL）"),
    "method_borrow_partial": Said("borrow, partial", "交易所内借贷，部分清算"),
    "method_borrow_backstop": Said("borrow, backstop", "交易所内借贷，金库接管"),
    "method_ledger_update": Said("ledger of the exchange", "交易所账本"),
    "method_repay_seize": Said("debt repaid, collateral seized", "代偿债务并取走抵押品"),
    "method_pre_liquidation": Said("pre-liquidation", "预清算"),
    "method_debt_transfer": Said("loan taken over", "贷款承接"),
    "method_absorb": Said("absorbed by the protocol", "协议吸收"),
    "method_heal": Said("healed, rest written off", "取尽抵押品并核销余债"),
    "method_write_off": Said("bad debt written off", "坏账核销"),
    "side_long": Said("long", "多头"),
    "side_short": Said("short", "空头"),
    "level_fill": Said("fill", "成交"),
    "level_order": Said("order", "订单"),
    "level_action": Said("action", "清算动作"),
    "level_episode": Said("episode", "清算过程"),
    "level_account": Said("account", "账户"),
    "beside_not_final": Said("in blocks that may still change", "所在区块尚未最终确定"),
    "beside_permissionless": Said(
        "priced by an asset's or a dex's own deployer", "由资产或交易所部署者自行定价"
    ),
    "beside_protocol_vault": Said("of the exchange's own vaults", "交易所自有金库"),
    "beside_self_liquidation": Said("by the account itself", "自我清算"),
    "beside_repeated": Said("repeated within an episode", "同一清算过程内的重复清算"),
    "beside_unsampled": Said("not in the sample", "未被抽样"),
    "beside_too_small": Said("below the minimum", "低于最小金额"),
    # the strip
    "switch_perp_value": Said("perpetuals at", "永续合约估值"),
    "switch_lending_value": Said("loans at", "借贷估值"),
    "switch_stablecoins": Said("dollar tokens", "美元稳定币"),
    "switch_parties": Said("whose", "被清算方"),
    "switch_methods": Said("methods", "清算方式"),
    "switch_leg": Said("legs of a trade", "成交的计入方"),
    "switch_trust": Said("prices of markets that anybody may open", "任何人可开设市场的价格"),
    "switch_finality": Said("blocks", "区块"),
    "switch_repeat": Said("pause that ends an episode", "清算过程的间断时长"),
    "value_fill": Said("price of the trade", "成交价"),
    "value_mark": Said("mark price", "标记价"),
    "value_realised": Said("realised profit or loss", "已实现盈亏"),
    "value_repaid": Said("debt repaid", "偿还的债务"),
    "value_seized": Said("collateral seized", "被取走的抵押品"),
    "value_par": Said("at one dollar", "按 1 美元计"),
    "value_market": Said("at market prices alone", "仅按市价计"),
    "value_user": Said("users", "仅用户"),
    "value_user+protocol_vault": Said("with the exchange's vaults", "含交易所自有金库"),
    "value_without_adl": Said("without ADL", "不含自动减仓（ADL）"),
    "value_liquidated": Said("the liquidated side, once", "只计被清算方"),
    "value_both": Said("both sides", "双方均计"),
    "value_governed": Said("apart", "另列"),
    "value_any": Said("counted, too", "也计入"),
    "value_finalized": Said("finalized", "仅已最终确定"),
    "value_latest": Said("up to the newest", "直到最新"),
    "seconds": Said("{value} s", "{value} 秒"),
    "join": Said(", ", "、"),
    "part": Said(", ", "，"),
    "stop": Said(".", "。"),
    "footer": Said("read {at}", "读取于 {at}"),
    "language": Said("en", "zh-Hans"),
}  # fmt: skip

_COUNTED = {
    "record": "条记录", "fill": "笔成交", "order": "笔订单", "action": "次清算动作",
    "episode": "次清算过程", "position": "个仓位", "account": "个账户", "event": "个事件",
    "block": "个区块", "range": "段", "minute": "分钟", "whale": "个账户",
    "labelled account": "个带标签的账户", "undecoded event": "个事件未能解码",
}  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """How one language says it."""

    language: Language

    def say(self, name: str, **names: object) -> str:
        """A phrase of the table."""
        said: str = getattr(SAID[name], self.language)
        return said.format(**names) if names else said

    def named(self, kind: str, name: str | None) -> str:
        """A name that is ours, as `method_market`; another is shown as it is stored."""
        if name is None:
            return self.say("unknown")
        said = SAID.get(f"{kind}_{name}")
        return clean(name) if said is None else str(getattr(said, self.language))

    def count(self, number: int, noun: str) -> str:
        """`1 fill`, `2,750 fills`; `2,750 笔成交`."""
        if self.language == "zh":
            return f"{number:,} {_COUNTED[noun]}"
        return text.count_of(number, noun)

    def compact(self, value: Decimal | None) -> str:
        """`$161.2M`, `1.61 亿美元`: the exact number stands near."""
        return text.compact_zh(value) if self.language == "zh" else text.compact_usd(value)

    def duration(self, span: timedelta) -> str:
        """`15m`, `15 分钟`."""
        return text.in_chinese(span) if self.language == "zh" else text.duration(span)

    def lasted(self, span: timedelta) -> str:
        """`31 s`, `31 秒`."""
        return story_zh.span(span) if self.language == "zh" else text.lasted(span)

    def listed(self, names: Iterable[str]) -> str:
        """At most three names, and how many more."""
        names = list(names)
        return story_zh.listed(names) if self.language == "zh" else text.listed(names)

    def joined(self, names: Sequence[str]) -> str:
        """All of them."""
        return self.say("join").join(names)

    def sides(self, names: Iterable[str]) -> str:
        """`long/short`."""
        return "/".join(self.named("side", name) for name in names)

    def methods(self, names: Iterable[str]) -> str:
        """In the order in which they came."""
        return " → ".join(self.named("method", name) for name in names)

    def story(self, story: Any) -> str:
        """The sentence of an episode."""
        return str(getattr(story, self.language))
