"""The simulator's truth about labels, as the file that `indexer labels evaluate` reads.

Thresholds are the defaults of docs/labels.md, written down again; every account of the simulation
has a line for every rule, so that nothing that is labelled goes unjudged.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from tests.simulator.loans import Loans
from tests.simulator.truth import Truth

MILLION = Decimal(1_000_000)
TAKEOVERS = 5
THIRTY_DAYS = timedelta(days=30)

# account, label, rule, venue, truth
Line = tuple[str, str, str, str, str]


def write(path: Path, truth: Truth, loans: Loans) -> Path:
    """All lines, as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("account", "label", "rule", "venue", "truth"))
        writer.writerows((*_of_exchange(truth), *_of_loans(loans)))
    return path


def _of_exchange(truth: Truth) -> Iterator[Line]:
    everybody = accounts(truth)
    for (label, rule), those in labelled(truth).items():
        assert those <= everybody
        for account in sorted(everybody):
            yield account, label, rule, "hyperliquid", _said(account in those)


def _of_loans(loans: Loans) -> Iterator[Line]:
    for is_so, those in ((True, loans.liquidators), (False, loans.others)):
        for chain, account in sorted(those):
            yield account, "liquidator", "ROLE_LIQUIDATOR", chain, _said(is_so)


def _said(is_so: bool) -> str:
    return "yes" if is_so else "no"


def accounts(truth: Truth) -> frozenset[str]:
    """Everybody who traded, and the exchange's own vaults."""
    traded = {day.account for day in truth.account_days}
    return frozenset(traded.union(truth.protocol_vaults))


def labelled(truth: Truth) -> dict[tuple[str, str], frozenset[str]]:
    """Who has each label by each rule."""
    users = {
        ("liquidation", "SIZE_ABS"): _of_a_million(
            (row.account, row.notional) for row in truth.of_users
        ),
        ("order", "SIZE_ABS"): _of_a_million((one.key[0], one.notional) for one in truth.orders),
        ("action", "SIZE_ABS"): _of_a_million((one.key[0], one.notional) for one in truth.actions),
        ("episode", "SIZE_ABS"): truth.whales.episode_1m,
        ("whale", "PEAK_POSITION"): truth.whales.position_10m,
        ("whale", "REPEAT"): frozenset(
            account
            for account, times in Counter(
                one.key[0] for one in truth.episodes if one.notional >= MILLION
            ).items()
            if times >= 3
        ),
        ("whale", "EQUITY"): _of_a_million(
            (one.account, one.account_value) for one in truth.ledger_liquidations
        ),
        ("heavy_trader", "TRADED_VOLUME"): _heavy_traders(truth),
        ("sub_account", "EXCHANGE_SUB_ACCOUNT"): frozenset(truth.sub_accounts),
        ("user_vault", "ROLE_USER_VAULT"): frozenset(truth.user_vaults),
        ("market_maker", "ROLE_MM"): frozenset(truth.market_makers),
    }
    return {
        **{name: those.difference(truth.protocol_vaults) for name, those in users.items()},
        ("protocol_vault", "ROLE_PROTOCOL_VAULT"): frozenset(truth.protocol_vaults),
        ("liquidator", "ROLE_LIQUIDATOR"): _liquidators(truth),
    }


def _of_a_million(sizes: Iterable[tuple[str, Decimal]]) -> frozenset[str]:
    return frozenset(account for account, usd in sizes if usd >= MILLION)


def _heavy_traders(truth: Truth) -> frozenset[str]:
    volumes = defaultdict[tuple[str, int, int], Decimal](Decimal)
    for day in truth.account_days:
        volumes[day.account, day.day.year, day.day.month] += day.volume
    return frozenset(account for (account, *_), usd in volumes.items() if usd >= 1000 * MILLION)


def _liquidators(truth: Truth) -> frozenset[str]:
    times = defaultdict[str, list](list)
    for at, who, _, _ in truth.takeovers:
        times[who].append(at)
    assert all(found[-1] - found[0] < THIRTY_DAYS for found in times.values())
    return frozenset(who for who, found in times.items() if len(found) >= TAKEOVERS)
