"""What can be exported, as data. Its columns are a promise: a test holds them to their version."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Literal, NamedTuple

Kind = Literal[
    "text", "digits", "decimal", "int64", "int32", "int16", "bool", "time", "date", "json"
]


class Dataset(NamedTuple):
    """Rows that can be exported. `version` grows when a column is added, goes or changes its type.

    `rows` is what stands behind FROM; `{scope}` are conditions on its columns `venue` and `at`."""

    name: str
    version: int
    says: str
    columns: tuple[str, ...]
    key: tuple[str, ...]  # names a row; rows come in its order, after venue and time
    rows: str
    views: tuple[str, ...]  # whose comments explain the columns
    venue: str | None = "venue"
    at: str | None = "block_at"
    by_day: bool = False  # an index on venue and time finds a day
    digits: frozenset[str] = frozenset()  # numbers of any length, beside those named _raw
    comments: Mapping[str, str] = MappingProxyType({})  # of columns that no view has


class Column(NamedTuple):
    """A column of a dataset: what it holds, and what its comment in the database says."""

    name: str
    kind: Kind
    comment: str


Day = tuple[datetime, datetime]


class Scope(NamedTuple):
    """Which rows: of these venues, all where there are none; from `low` on and before `high`."""

    venues: tuple[str, ...] = ()
    low: datetime | None = None
    high: datetime | None = None
    definition: str | None = None

    def of_day(self, venue: str, day: Day) -> "Scope":
        """What of it falls on a venue's day."""
        low, high = day
        return self._replace(
            venues=(venue,),
            low=max(low, self.low) if self.low else low,
            high=min(high, self.high) if self.high else high,
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# is_final is of the moment and not of the row: `heads` of the metadata has the finalized blocks.
DATASETS = {one.name: one for one in (
    Dataset(
        "liquidations", 1,
        "Liquidations of perpetuals: one row for each liquidation record of a venue.",
        _names(
            "key venue chain account block_number block_at tx_hash method market dex quote side"
            " size price notional notional_usd mark_price notional_mark notional_mark_usd"
            " notional_entry realised_pnl realised_pnl_usd fee fee_asset position_before"
            " position_after is_full_close margin_mode order_id trade_id counterparty"
            " counterparty_kind liquidator account_is_protocol_vault dir_liquidated"
            " dir_counterparty legs_seen decoder_version event_key"
        ),
        _names("event_key account"), "liq.liquidations WHERE {scope}", ("liquidations",),
        by_day=True,
    ),
    Dataset(
        "lending_liquidations", 1,
        "Liquidations of loans in base units, in whole tokens, and in dollars as their best price"
        " source has it. Never add what was seized to notionals of perpetuals.",
        _names(
            "key venue protocol chain account owner block_number block_at tx_hash log_index part"
            " kind method market liquidator repaid_asset repaid_symbol repaid_raw repaid repaid_usd"
            " repaid_source repaid_trust seized_asset seized_symbol seized_raw seized_is_shares"
            " seized seized_usd seized_source seized_trust seized_net_usd seized_net_source"
            " seized_underlying seized_underlying_raw protocol_fee_raw fee_in_seized bonus_usd"
            " bonus_source bonus_trust bad_debt_asset bad_debt_raw bad_debt bad_debt_usd"
            " bad_debt_source bad_debt_trust decoder_version event_key"
        ),
        _names("event_key account"),
        "(SELECT * FROM liq.lending_liquidations WHERE {scope}) l LEFT JOIN ("
        " SELECT venue, block_at, event_key, account, repaid_usd, repaid_source, repaid_trust,"
        " seized_usd, seized_source, seized_trust, seized_net_usd, seized_net_source, bonus_usd,"
        " bonus_source, bonus_trust, bad_debt_usd, bad_debt_source, bad_debt_trust"
        " FROM liq.lending_values WHERE {scope}"
        ") v USING (venue, block_at, event_key, account)",
        ("lending_liquidations", "lending_values"), by_day=True,
    ),
    Dataset(
        "valuations", 1,
        "What liquidations were worth: a row for each basis and price source. Never add bases or"
        " sources.",
        _names(
            "key kind venue protocol chain account event_key block_at basis price_source usd price"
            " quality trust as_of_block as_of_at"
        ),
        _names("event_key account basis price_source"), "liq.valuations WHERE {scope}",
        ("valuations",), by_day=True, digits=frozenset({"price"}),
    ),
    Dataset(
        "counted", 1,
        "The rows that a definition counts in a window, each with the dollars that it counts for.",
        _names(
            "key instrument venue chain account unit market dex asset side method leg margin_mode"
            " block_number block_at action order_id usd price_source trust"
        ),
        _names("key leg"), "liq.counted({definition}, {low}, {high}) WHERE {scope}",
        ("liquidations", "valuations"),
        comments={
            "instrument": "lending or perp.",
            "unit": "The account, or its owner where the definition asks for owners.",
            "asset": "What the market is the price of, or the token of the leg.",
            "leg": "Which leg counts, of those that the definition names.",
            "action": "Transaction, or trigger of the exchange.",
            "usd": "US dollars that it counts for; NULL where it has no value.",
        },
    ),
    Dataset(
        "orders", 1, "Forced orders and takeovers of an account in one market.",
        _names(
            "key venue account market order_id dex quote side first_at last_at liquidations methods"
            " size average_price notional_usd notional_mark_usd realised_pnl_usd position_before"
            " position_after account_is_protocol_vault"
        ),
        _names("key"), "liq.orders WHERE {scope}", ("orders",), at="first_at",
    ),
    Dataset(
        "actions", 1,
        "All that one trigger did to an account, beside what the exchange's ledger said of it.",
        _names(
            "key venue account tx_hash block_number first_at last_at liquidations markets methods"
            " notional_usd notional_mark_usd realised_pnl_usd account_is_protocol_vault margin_mode"
            " equity ledger_notional_mark"
        ),
        _names("key"), "liq.actions WHERE {scope}", ("actions",), at="first_at",
    ),
    Dataset(
        "episodes", 1,
        "Liquidations of perpetuals of one account on one dex with no pause above 15 minutes.",
        _names(
            "key venue account dex first_at last_at liquidations orders actions markets methods"
            " notional_usd notional_mark_usd long_usd short_usd realised_pnl_usd unpriced"
            " account_is_protocol_vault"
        ),
        _names("key"), "liq.episodes() WHERE {scope}", ("orders", "actions"), at="first_at",
        comments={
            "orders": "Number of orders in it.",
            "actions": "Number of actions in it: triggers of the exchange.",
            "long_usd": "Execution notional of long positions, in dollars.",
            "short_usd": "Execution notional of short positions, in dollars.",
            "unpriced": "Rows among them without a dollar value, in no sum.",
        },
    ),
    Dataset(
        "account_days", 1, "What every account traded on one UTC day, liquidated or not.",
        _names(
            "venue account day quote fills other_fills volume realised_pnl largest_position"
            " largest_position_usd largest_position_market maker_bought maker_sold maker_markets"
        ),
        _names("day account quote"), "liq.account_days WHERE {scope}", ("account_days",), at="day",
    ),
    Dataset(
        "labels", 1, "What we think of accounts, as of now, each with its evidence.",
        _names(
            "venue account label rule rule_version confidence evidence parameters valid_from"
            " valid_to recorded_at"
        ),
        _names("account venue label rule"), "liq.labels WHERE {scope}", ("labels",), at=None,
    ),
    Dataset(
        "flags", 1, "Sizes at or above a threshold, as of now.",
        _names(
            "venue account level subject_key rule rule_version value_usd threshold_usd occurred_at"
            " recorded_at parameters"
        ),
        _names("account level subject_key rule"), "liq.flags WHERE {scope}", ("flags",),
        at="occurred_at",
    ),
    Dataset(
        "anonymous_liquidations", 1,
        "Liquidations whose account the venue does not tell: in no total, to be added knowingly.",
        _names(
            "key venue block_number block_at tx_hash method market quote side size price notional"
            " notional_usd trade_id lacks completeness source decoder_version event_key"
        ),
        _names("event_key"), "liq.anonymous_liquidations WHERE {scope}",
        ("anonymous_liquidations",), by_day=True,
    ),
    Dataset(
        "undecoded", 1, "Events with a liquidation mark that are no row, and why.",
        _names(
            "venue event_key block_number block_at reason decoder_version missing_fact"
            " missing_subject"
        ),
        _names("event_key"), "liq.undecoded WHERE {scope}", ("undecoded",),
    ),
    Dataset(
        "orphaned_liquidations", 1, "Liquidations that a reorg or a check took back.",
        _names(
            "reorg_id found_at key venue account block_number block_at method market liquidator"
            " repaid_asset repaid_raw seized_asset seized_raw side size price notional quote"
        ),
        _names("reorg_id key"), "liq.orphaned_liquidations WHERE {scope}",
        ("orphaned_liquidations",),
    ),
    Dataset(
        "coverage", 1, "Which blocks were read whole, for which facts.",
        _names(
            "venue facts block_from block_to first_at last_at verification decoder_version"
            " recorded_at filter_hash parent_hash last_hash logs digest"
        ),
        _names("facts block_from"), "liq.coverage WHERE {scope}", ("coverage",), at=None,
        digits=frozenset({"digest"}),
    ),
    Dataset(
        "assets", 1, "Tokens that rows name. A symbol is what the contract says, no identity.",
        _names("chain address symbol name decimals family relation trust"),
        _names("chain address"), "liq.assets WHERE {scope}", ("assets",), venue=None, at=None,
    ),
    Dataset(
        "totals", 1, "Saved totals, with all that they stood on.",
        _names(
            "total_id definition definition_hash said low high block_from block_to usd is_complete"
            " result coverage price_set labels_as_of code_version saved_at"
        ),
        _names("total_id"), "liq.totals WHERE {scope}", ("totals",), venue=None, at=None,
    ),
)}  # fmt: skip
