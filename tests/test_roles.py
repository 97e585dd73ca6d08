"""What the exchange says that accounts are, asked of a real HTTP server on loopback; what follows
from it: labels, and who owns what."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from indexer import census, labels
from indexer.errors import SourceFault
from indexer.roles import ExchangeRole
from indexer.sources.hyperliquid_api import HyperliquidApi, Silent
from indexer.store import labels as labeler
from indexer.store import roles
from indexer.store.database import Connection
from tests.conftest import Command
from tests.exchange_stub import (
    RECORDED_SUB_ACCOUNT,
    RECORDED_VAULT,
    Exchange,
    Json,
    sub_account,
    vault,
)
from tests.ledger_rows import Rows, rows
from tests.rpc_proxy import UTC as FAKE_UTC
from tests.rpc_proxy import FakeClock, Http

MASTER, SUB, OTHER_SUB, VAULT, LEADER, AGENT = (f"0x{digit * 40}" for digit in "abcdef")
STRANGER = f"0x{'1' * 40}"
HLP = "0xdfc24b077bc1425ad1dea75bcb6f8158e10df303"
HLP_CHILD = "0x010461c14e146ac35fe42271bdc1134ee31c703a"
HLP_LEADER = "0x677d831aef5328190852e24f13c46cac05f984e7"
AT = datetime.fromtimestamp(FAKE_UTC, UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exchange(clock: FakeClock) -> Iterator[Exchange]:
    """A master with two sub-accounts, a vault that it does not lead, an agent."""
    with Exchange(now=lambda: clock.seconds) as served:
        served.sub_accounts = [sub_account(SUB, MASTER, "One"), sub_account(OTHER_SUB, MASTER)]
        served.vaults = {VAULT: vault(VAULT, LEADER, "Growth")}
        served.users = {LEADER}
        served.signs_for = {AGENT: MASTER}
        yield served


@pytest.fixture
def api(exchange: Exchange, clock: FakeClock) -> Iterator[HyperliquidApi]:
    opened = HyperliquidApi(exchange.url, clock=clock.clock)
    yield opened
    opened.close()


# -- what the exchange says


def test_the_recorded_vault_is_read_whole(exchange: Exchange, api: HyperliquidApi) -> None:
    exchange.vaults[HLP] = RECORDED_VAULT

    assert api.vault(HLP) == ExchangeRole(
        venue="hyperliquid", account=HLP, role="vault", leader=HLP_LEADER, name="Test",
        said={
            "name": "Test", "vaultAddress": HLP, "leader": HLP_LEADER, "isClosed": False,
            "relationship": {"type": "parent"},
        },
        observed_at=AT,
    )  # fmt: skip


def test_the_recorded_sub_account_is_read_whole(exchange: Exchange, api: HyperliquidApi) -> None:
    exchange.sub_accounts.append(RECORDED_SUB_ACCOUNT)
    sub, master = RECORDED_SUB_ACCOUNT["subAccountUser"], RECORDED_SUB_ACCOUNT["master"]

    assert api.sub_accounts(master) == [
        ExchangeRole(
            venue="hyperliquid", account=sub, role="sub_account", master=master, name="Test",
            said={"name": "Test", "subAccountUser": sub, "master": master}, observed_at=AT,
        )
    ]  # fmt: skip
    assert api.sub_accounts(STRANGER) == []


def test_each_role_is_read_as_documented(api: HyperliquidApi) -> None:
    found = [api.user_role(account) for account in (LEADER, VAULT, SUB, AGENT, STRANGER)]

    assert found == [
        ExchangeRole(account=account, role=role, master=master, said=said, observed_at=AT)
        for account, role, master, said in (
            (LEADER, "user", None, {"role": "user"}),
            (VAULT, "vault", None, {"role": "vault"}),
            (SUB, "sub_account", MASTER, {"role": "subAccount", "data": {"master": MASTER}}),
            (AGENT, "agent", MASTER, {"role": "agent", "data": {"user": MASTER}}),
            (STRANGER, "missing", None, {"role": "missing"}),
        )
    ]  # fmt: skip


def test_addresses_are_stored_in_lower_case(exchange: Exchange, api: HyperliquidApi) -> None:
    upper = VAULT.upper().replace("0X", "0x")
    exchange.vaults[VAULT] = vault(upper, LEADER.upper().replace("0X", "0x"))

    found = api.vault(VAULT)

    assert (found.account, found.leader) == (VAULT, LEADER)


def without(said: Json, field: str) -> Json:
    return {name: value for name, value in said.items() if name != field}


OF_ROLE = {
    "null": None,
    "a list": [],
    "nothing": {},
    "no role": {"data": {"master": MASTER}},
    "role null": {"role": None},
    "a role nobody knows": {"role": "emperor"},
    "a sub-account of nobody": {"role": "subAccount"},
    "data null": {"role": "subAccount", "data": None},
    "no master": {"role": "subAccount", "data": {}},
    "master null": {"role": "subAccount", "data": {"master": None}},
    "an agent's master of a sub-account": {"role": "subAccount", "data": {"user": MASTER}},
    "an agent for nobody": {"role": "agent", "data": {"master": MASTER}},
    "a master that is no address": {"role": "subAccount", "data": {"master": "0xabc"}},
    "the master of itself": {"role": "subAccount", "data": {"master": SUB}},
    "an agent for itself": {"role": "agent", "data": {"user": SUB}},
}
GOOD_VAULT = vault(SUB, LEADER)
OF_VAULT = {
    "null": None,
    "nothing": {},
    "another vault": vault(VAULT, LEADER),
    "no name": without(GOOD_VAULT, "name"),
    "name null": {**GOOD_VAULT, "name": None},
    "no address": without(GOOD_VAULT, "vaultAddress"),
    "no leader": without(GOOD_VAULT, "leader"),
    "leader null": {**GOOD_VAULT, "leader": None},
    "a leader that is no address": {**GOOD_VAULT, "leader": "Leader"},
    "the leader of itself": {**GOOD_VAULT, "leader": SUB},
    "no relationship": without(GOOD_VAULT, "relationship"),
    "a relationship nobody knows": {**GOOD_VAULT, "relationship": {"type": "cousin"}},
}
GOOD_SUB = sub_account(OTHER_SUB, SUB)
OF_SUB_ACCOUNTS = {
    "an object": {},
    "one null": [None],
    "of another master": [GOOD_SUB, sub_account(VAULT, MASTER)],
    "no master": [without(GOOD_SUB, "master")],
    "no address": [without(GOOD_SUB, "subAccountUser")],
    "an address that is none": [{**GOOD_SUB, "subAccountUser": "0x12"}],
    "name null": [{**GOOD_SUB, "name": None}],
    "the sub-account of itself": [sub_account(SUB, SUB)],
}
ASK = {
    "userRole": HyperliquidApi.user_role,
    "vaultDetails": HyperliquidApi.vault,
    "subAccounts": HyperliquidApi.sub_accounts,
}
BAD = {
    f"{kind}: {what}": (kind, json.dumps(said).encode())
    for kind, answers in (
        ("userRole", OF_ROLE), ("vaultDetails", OF_VAULT), ("subAccounts", OF_SUB_ACCOUNTS),
    )
    for what, said in answers.items()
} | {
    f"{kind}: {what}": (kind, body)
    for kind in ASK
    for what, body in (("no JSON", b"<html>"), ("half of it", b'{"role": "us'), ("empty", b""))
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), BAD.values(), ids=BAD)
def test_an_answer_that_cannot_be_right_is_asked_again_and_never_used(
    exchange: Exchange, api: HyperliquidApi, kind: str, body: bytes
) -> None:
    exchange.play(Http(body), times=4)

    with pytest.raises(SourceFault, match=rf"^127\.0\.0\.1 #1: {kind}: ") as raised:
        ASK[kind](api, SUB)

    assert not isinstance(raised.value, Silent)
    assert exchange.count(kind) == 4


@pytest.mark.parametrize("kind", ASK)
@pytest.mark.parametrize("status", [429, 500])
def test_an_exchange_that_does_not_answer_is_silent(
    exchange: Exchange, api: HyperliquidApi, kind: str, status: int
) -> None:
    exchange.play(Http(b"", status), times=4)

    with pytest.raises(Silent, match=f"{kind}: HTTP {status}"):
        ASK[kind](api, SUB)


def test_a_passing_fault_is_waited_out(
    exchange: Exchange, api: HyperliquidApi, clock: FakeClock
) -> None:
    exchange.play(Http(b"", 429, {"Retry-After": "7"}))

    found = api.user_role(SUB)

    (slept,) = clock.slept
    assert (found.role, found.master) == ("sub_account", MASTER)
    assert 7.0 <= slept <= 7.7


def test_an_older_answer_without_a_relationship_is_one(
    exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.vaults[VAULT] = {**vault(VAULT, LEADER), "relationship": None}

    assert (api.vault(VAULT).leader, api.vault(VAULT).is_child) == (LEADER, False)


# -- asking about many


def ask(connection: Connection, api: HyperliquidApi, *accounts: str) -> tuple[Any, list[str]]:
    said: list[str] = []
    return census.ask(connection, api, accounts, said.append), said


ROLES = "SELECT account, role, master, leader, name FROM ledger.exchange_role"
OWNERS = "SELECT account, owner, via, method FROM liq.owners"
FAMILY: Rows = [
    (MASTER, "user", None, None, None),
    (SUB, "sub_account", MASTER, None, "One"),
    (OTHER_SUB, "sub_account", MASTER, None, "A sub-account"),
]


@pytest.mark.parametrize("first", [MASTER, SUB, OTHER_SUB])
def test_one_question_more_tells_of_the_whole_family(
    connection: Connection, exchange: Exchange, api: HyperliquidApi, first: str
) -> None:
    ask(connection, api, first, MASTER, SUB, OTHER_SUB)

    assert rows(connection, ROLES) == sorted(FAMILY, key=repr)
    asked = Counter(kind for _, kind, _ in exchange.asked)
    # who was told of along with another is not asked again; a list names the master no user
    assert asked["userRole"] == (1 if first == MASTER else 2)


def test_a_sub_account_that_its_master_does_not_list_has_no_name(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.play(Http(b"null"), "subAccounts")

    ask(connection, api, SUB)

    assert rows(connection, ROLES) == [(SUB, "sub_account", MASTER, None, None)]


def test_of_a_child_vault_the_parent_is_asked_too(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.vaults |= {HLP: RECORDED_VAULT, HLP_CHILD: vault(HLP_CHILD, HLP, "A", "child")}

    asked, _ = ask(connection, api, HLP_CHILD)

    assert asked == census.Census(1, 0, Counter({"vault": 2}))
    assert rows(connection, ROLES) == [
        (HLP_CHILD, "vault", None, HLP, "A"), (HLP, "vault", None, HLP_LEADER, "Test"),
    ]  # fmt: skip
    assert rows(connection, OWNERS) == [
        (HLP_CHILD, HLP_LEADER, [HLP], "vault_leader"), (HLP, HLP_LEADER, [], "vault_leader"),
    ]  # fmt: skip


def test_one_who_fails_does_not_stop_the_others(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.play(Http(b"Failed to deserialize", 422), STRANGER)
    exchange.play(Http(b"null"), "vaultDetails", times=4)

    asked, said = ask(connection, api, STRANGER, VAULT, AGENT)

    assert asked == census.Census(3, 2, Counter({"agent": 1}))
    assert [line.partition(": ")[0] for line in said] == [STRANGER, VAULT]
    assert rows(connection, ROLES) == [(AGENT, "agent", MASTER, None, None)]
    assert rows(connection, "SELECT account FROM ledger.role_asked") == [(AGENT,)]


def test_an_exchange_that_is_silent_is_left_alone(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.play(Http(b"", 503), times=100)

    asked, said = ask(connection, api, *(f"0x{number:040x}" for number in range(50)))

    assert asked == census.Census(50, 50, Counter())
    assert exchange.count("userRole") == 3 * 4
    assert said[-1] == "the exchange is silent, 47 accounts are left for the next run"


def test_an_answer_between_silences_lets_the_rest_be_asked(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    silent = [f"0x{number:040x}" for number in range(4)]
    for account in silent:
        exchange.play(Http(b"", 503), account, times=4)

    asked, _ = ask(connection, api, *silent[:2], AGENT, *silent[2:], STRANGER)

    assert asked == census.Census(6, 4, Counter({"agent": 1, "missing": 1}))


def test_no_minute_holds_more_weight_than_allowed(
    connection: Connection, exchange: Exchange, clock: FakeClock
) -> None:
    """A user costs 60 for the role and 20 for the sub-accounts: five fit in a minute of 400."""
    users = [f"0x{number:040x}" for number in range(1, 41)]
    exchange.users = set(users)
    api = HyperliquidApi(exchange.url, 400, clock.clock)

    ask(connection, api, *users)
    api.close()

    weights = {"userRole": 60, "subAccounts": 20}
    spent = [(at, weights[kind]) for at, kind, _ in exchange.asked]
    in_a_minute = [
        sum(weight for other, weight in spent if at <= other < at + 60) for at, _ in spent
    ]
    assert (len(spent), max(in_a_minute)) == (80, 400)
    assert spent[-1][0] - spent[0][0] == 7 * 60


# -- what is stored


def said_of(account: str, role: str, at: datetime, **other: Any) -> ExchangeRole:
    return ExchangeRole(account=account, role=role, said={}, observed_at=at, **other)  # type: ignore[arg-type]


def is_sub(account: str, master: str, at: datetime = AT) -> ExchangeRole:
    return said_of(account, "sub_account", at, master=master)


def is_vault(account: str, leader: str, at: datetime = AT, name: str = "V") -> ExchangeRole:
    return said_of(account, "vault", at, leader=leader, name=name)


def test_a_row_is_added_only_where_the_answer_differs(connection: Connection) -> None:
    answers = [
        said_of(VAULT, "missing", AT), said_of(VAULT, "missing", AT + DAY),
        is_vault(VAULT, LEADER, AT + 2 * DAY), is_vault(VAULT, LEADER, AT + 3 * DAY),
        is_vault(VAULT, LEADER, AT + 4 * DAY, "W"), is_vault(VAULT, LEADER, AT + 5 * DAY, "W"),
    ]  # fmt: skip

    roles.append(connection, answers)

    assert connection.execute(
        "SELECT role, name, observed_at, replaced_at, replaces, asked_at FROM liq.exchange_roles"
        " ORDER BY observed_at"
    ).fetchall() == [
        ("missing", None, AT, AT + 2 * DAY, None, None),
        ("vault", "V", AT + 2 * DAY, AT + 4 * DAY, "missing", None),
        ("vault", "W", AT + 4 * DAY, None, "vault", AT + 5 * DAY),
    ]


def test_an_answer_that_is_older_than_what_stands_says_nothing(connection: Connection) -> None:
    roles.append(connection, [is_vault(VAULT, LEADER, AT + DAY), said_of(VAULT, "missing", AT)])

    assert rows(connection, "SELECT role, asked_at FROM liq.exchange_roles") == [
        ("vault", AT + DAY)
    ]


@pytest.mark.parametrize(
    ("role", "other"),
    [("user", {"master": MASTER}), ("vault", {}), ("agent", {}), ("emperor", {})],
)
def test_the_table_keeps_no_role_that_cannot_be(
    connection: Connection, role: str, other: dict[str, str]
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        roles.append(connection, [said_of(VAULT, role, AT, **other)])

    assert rows(connection, "SELECT * FROM ledger.role_asked") == []


def test_a_name_with_what_no_database_keeps_is_stored_without(
    connection: Connection, exchange: Exchange, api: HyperliquidApi
) -> None:
    exchange.vaults[VAULT] = vault(VAULT, LEADER, "a\0b")

    ask(connection, api, VAULT)

    assert rows(connection, "SELECT name, raw ->> 'name' FROM ledger.exchange_role") == [
        ("ab", "ab")
    ]


# -- whom to ask about


def fall(connection: Connection, account: str, usd: int, key: str, **other: Any) -> None:
    row = {
        "venue": "hyperliquid", "event_key": key, "account": account, "block_at": AT,
        "method": "market", "market": "BTC", "dex": "", "quote": "USDC", "side": "long", "size": 1,
        "price": usd, "notional": usd, "account_is_protocol_vault": False, "legs_seen": "both",
        "decoder_version": 1, **other,
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO ledger.liquidation ({', '.join(row)})"
        f" VALUES ({', '.join(f'%({name})s' for name in row)})",
        row,
    )


def call_whale(connection: Connection, account: str, venue: str) -> None:
    connection.execute(
        """
        INSERT INTO ledger.label (
            venue, account, label, rule, rule_version, confidence, evidence, valid_during,
            recorded_during
        ) VALUES (%s, %s, 'whale', 'TEST', 1, 1, '{}', tstzrange(NULL, NULL),
                  tstzrange(now(), NULL))
        """,
        (venue, account),
    )


@pytest.fixture
def fallen(connection: Connection) -> Connection:
    """The master fell twice, the sub-account once and as deep as both; others did not count."""
    fall(connection, MASTER, 60_000, "1/BTC/1")
    fall(connection, MASTER, 50_000, "1/BTC/2")
    fall(connection, SUB, 120_000, "1/BTC/3")
    fall(connection, OTHER_SUB, 99_999, "1/BTC/4")
    fall(connection, HLP_CHILD, 900_000, "1/BTC/5", account_is_protocol_vault=True)
    fall(connection, STRANGER, 900_000, "1/BTC/6", quote="PURR")  # nobody knows in dollars
    call_whale(connection, OTHER_SUB, "*")
    call_whale(connection, SUB, "hyperliquid")
    call_whale(connection, VAULT, "aave_v3.ethereum")
    return connection


def test_who_lost_most_is_asked_about_first(fallen: Connection) -> None:
    wanted = roles.wanted(fallen, "hyperliquid", Decimal(100_000), AT)

    assert wanted == [SUB, MASTER, OTHER_SUB]


def test_who_was_asked_about_lately_is_left_out(fallen: Connection) -> None:
    roles.append(fallen, [said_of(MASTER, "user", AT), is_sub(SUB, MASTER, AT - 2 * DAY)])

    assert roles.wanted(fallen, "hyperliquid", Decimal(1), AT - DAY) == [SUB, OTHER_SUB]
    assert roles.wanted(fallen, "hyperliquid", Decimal(1), AT) == [SUB, OTHER_SUB]
    assert roles.wanted(fallen, "hyperliquid", Decimal(1), AT - 3 * DAY) == [OTHER_SUB]


# -- labels

LABELS = """
    SELECT account, label, rule, confidence, evidence ->> 'name',
           coalesce(evidence ->> 'leader', evidence ->> 'master'), valid_from, valid_to
    FROM liq.labels WHERE label <> 'protocol_vault'
"""


def label(connection: Connection, *, again: bool = False) -> None:
    labeler.apply(connection, labels.rules(), again=again)


def test_a_vault_and_a_sub_account_are_called_so_with_who_is_behind(connection: Connection) -> None:
    roles.append(
        connection,
        [is_vault(VAULT, LEADER), is_sub(SUB, MASTER), said_of(LEADER, "user", AT),
         said_of(AGENT, "agent", AT, master=MASTER)],
    )  # fmt: skip

    label(connection)

    assert rows(connection, LABELS) == [
        (SUB, "sub_account", "EXCHANGE_SUB_ACCOUNT", Decimal(1), None, MASTER, None, None),
        (VAULT, "user_vault", "ROLE_USER_VAULT", Decimal("0.95"), "V", LEADER, None, None),
    ]
    assert rows(connection, "SELECT DISTINCT evidence ->> 'observed_at' FROM liq.labels"
                " WHERE label <> 'protocol_vault'") == [("2027-01-15T08:00:00Z",)]  # fmt: skip


def test_a_label_holds_from_an_answer_to_the_next(connection: Connection) -> None:
    label(connection)
    roles.append(connection, [said_of(VAULT, "missing", AT), is_vault(VAULT, LEADER, AT + DAY)])
    label(connection)
    roles.append(connection, [is_vault(VAULT, LEADER, AT + 2 * DAY, "W")])
    label(connection)

    stepwise = rows(connection, LABELS)
    label(connection, again=True)
    rule = ("user_vault", "ROLE_USER_VAULT", Decimal("0.95"))
    assert (
        stepwise
        == rows(connection, LABELS)
        == [
            (VAULT, *rule, "V", LEADER, AT + DAY, AT + 2 * DAY),
            (VAULT, *rule, "W", LEADER, AT + 2 * DAY, None),
        ]
    )


def test_what_the_exchange_leads_itself_is_no_vault_of_a_user(connection: Connection) -> None:
    new_child = f"0x{'7' * 40}"
    roles.append(connection, [is_vault(HLP, HLP_LEADER), is_vault(new_child, HLP)])
    found = []
    for statement in (
        f"INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', '{HLP}', 'HLP', NULL, NULL, '')",
        "DELETE FROM ledger.protocol_vault",
        f"INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', '{HLP}', 'HLP', NULL, NULL, '')",
    ):
        connection.execute(statement)
        label(connection)
        found.append([account for account, *_ in rows(connection, LABELS)])

    assert found == [[], [new_child, HLP], []]


def test_what_can_never_be_a_whale_may_be_a_vault_or_a_sub_account(connection: Connection) -> None:
    systems = [f"0x20{number:038x}" for number in range(2)]
    roles.append(connection, [is_vault(systems[0], LEADER), is_sub(systems[1], MASTER)])

    label(connection)

    assert rows(connection, f"SELECT account, label FROM ({LABELS}) said") == [
        (systems[0], "user_vault"), (systems[1], "sub_account"),
    ]  # fmt: skip


# -- who owns what


def test_a_sub_account_belongs_to_its_master_and_a_vault_to_its_leader(
    connection: Connection,
) -> None:
    roles.append(
        connection,
        [is_sub(SUB, MASTER), is_vault(VAULT, LEADER, AT + DAY), said_of(MASTER, "user", AT),
         said_of(AGENT, "agent", AT, master=MASTER), said_of(STRANGER, "missing", AT)],
    )  # fmt: skip

    assert rows(connection, "SELECT venue, account, owner, via, method, proof, since"
                " FROM liq.owners") == [
        ("hyperliquid", SUB, MASTER, [], "sub_account",
         [{"account": SUB, "owner": MASTER, "method": "sub_account", "proof": {}}], AT),
        ("hyperliquid", VAULT, LEADER, [], "vault_leader",
         [{"account": VAULT, "owner": LEADER, "method": "vault_leader", "proof": {}}], AT + DAY),
    ]  # fmt: skip


def test_an_owner_is_followed_to_the_end_and_changes_with_each_link(
    connection: Connection,
) -> None:
    roles.append(connection, [is_vault(VAULT, SUB)])
    first = rows(connection, OWNERS)
    roles.append(connection, [is_sub(SUB, MASTER)])
    second = rows(connection, OWNERS)
    roles.append(connection, [said_of(SUB, "user", AT + DAY)])
    third = rows(connection, OWNERS)
    connection.execute("DELETE FROM ledger.exchange_role WHERE account = %s", (VAULT,))

    assert first == third == [(VAULT, SUB, [], "vault_leader")]
    assert second == [(SUB, MASTER, [], "sub_account"), (VAULT, MASTER, [SUB], "vault_leader")]
    assert rows(connection, OWNERS) == []


def test_the_zero_address_owns_nothing(connection: Connection) -> None:
    roles.append(connection, [is_vault(VAULT, f"0x{'0' * 40}")])

    assert rows(connection, OWNERS) == []


URN, PROXY, SAFE = "0x" + "2" * 40, "0x" + "3" * 40, "0x" + "4" * 40


def own(connection: Connection, venue: str, account: str, owner: str | None, block: int) -> None:
    """What a contract said of an account at a block."""
    connection.execute(
        "INSERT INTO ledger.account_owner (account, venue, method, block_number, block_at, owner,"
        " proof) VALUES (%s, %s, 'test', %s, %s, %s, %s)",
        (account, venue, block, AT + block * DAY, owner, Jsonb({"block": block})),
    )


def test_owners_on_a_chain_are_followed_there_and_nowhere_else(connection: Connection) -> None:
    own(connection, "maker.ethereum", URN, PROXY, 1)
    own(connection, "ethereum", PROXY, SAFE, 2)
    own(connection, "base", SAFE, STRANGER, 3)
    roles.append(connection, [is_sub(SAFE, STRANGER)])

    assert rows(connection, f"{OWNERS} WHERE venue <> 'hyperliquid'") == [
        (URN, SAFE, [PROXY], "test"), (PROXY, SAFE, [], "test"), (SAFE, STRANGER, [], "test"),
    ]  # fmt: skip
    own(connection, "ethereum", PROXY, None, 4)  # of several
    assert rows(connection, f"{OWNERS} WHERE venue LIKE '%ethereum'") == [(URN, PROXY, [], "test")]


def test_a_venue_knows_better_than_its_chain_and_a_later_answer_better_than_an_earlier(
    connection: Connection,
) -> None:
    own(connection, "ethereum", URN, SAFE, 2)
    own(connection, "maker.ethereum", URN, PROXY, 1)
    of_venue = rows(connection, f"{OWNERS} WHERE venue = 'maker.ethereum'")
    own(connection, "maker.ethereum", URN, STRANGER, 3)

    assert of_venue == [(URN, PROXY, [], "test")]
    assert rows(connection, f"{OWNERS} WHERE venue = 'maker.ethereum'") == [
        (URN, STRANGER, [], "test")
    ]


def test_an_owner_that_a_liquidation_names_is_followed_too(connection: Connection) -> None:
    own(connection, "ethereum", PROXY, SAFE, 1)
    connection.execute(
        """
        INSERT INTO ledger.lending_liquidation (
            venue, event_key, account, owner, block_number, block_at, method, market, repaid_raw,
            seized_is_shares, decoder_version
        ) VALUES ('euler_v2.ethereum', '0x01/3', %s, %s, 5, %s, 'repay_seize', %s, 1, false, 1)
        """,
        (URN, PROXY, AT, VAULT),
    )

    assert rows(connection, f"{OWNERS} WHERE account = '{URN}'") == [
        (URN, SAFE, [PROXY], "liquidation")
    ]


@pytest.mark.parametrize("seed", range(5))
def test_owners_are_those_of_a_walk_over_what_was_said_last(
    connection: Connection, seed: int
) -> None:
    """Against a walk in Python, after links came, changed and went in any order."""
    chance = random.Random(seed)
    accounts = [f"0x{number:040x}" for number in range(1, 13)]
    last: dict[str, str | None] = {}
    for step in range(80):
        account, owner = chance.sample(accounts, 2)
        is_free = chance.random() < 0.3
        at = AT + step * DAY
        roles.append(
            connection, [said_of(account, "user", at) if is_free else is_sub(account, owner, at)]
        )
        last[account] = None if is_free else owner

    def way(account: str) -> list[str]:
        passed = [account]
        while (owner := last.get(passed[-1])) is not None and owner not in passed:
            passed.append(owner)
        return passed[1:]

    assert rows(connection, OWNERS) == sorted(
        (
            (account, found[-1], found[:-1], "sub_account")
            for account in accounts
            if (found := way(account))
        ),
        key=repr,
    )


# -- the command


@pytest.fixture
def served() -> Iterator[Exchange]:
    with Exchange() as opened:
        opened.sub_accounts = [sub_account(SUB, MASTER)]
        opened.vaults = {VAULT: vault(VAULT, LEADER, "<b>[bold]")}
        yield opened


def test_the_command_goes_on_where_it_ended(
    served: Exchange, quick_indexer: Command, connection: Connection
) -> None:
    fall(connection, SUB, 300_000, "1/BTC/1")
    fall(connection, VAULT, 200_000, "1/BTC/2")
    fall(connection, MASTER, 100_000, "1/BTC/3")
    served.play(Http(b"Failed to deserialize", 422), VAULT)

    first = quick_indexer("roles", HYPERLIQUID_API=served.url)
    second = quick_indexer("roles", "--min-usd", "150e3", HYPERLIQUID_API=served.url)
    third = quick_indexer("roles", HYPERLIQUID_API=served.url)

    assert first.returncode == 1
    assert first.stdout == (
        "3 accounts, 1 failed; 1 user, 0 vault, 1 sub_account, 0 agent, 0 missing\n"
    )
    assert first.stderr == (
        f"{VAULT}: 127.0.0.1 #1: userRole: HTTP 422\nindexer: 1 account could not be asked about\n"
    )
    assert (second.returncode, second.stderr, second.stdout) == (
        0, "", "1 account, 0 failed; 0 user, 1 vault, 0 sub_account, 0 agent, 0 missing\n",
    )  # fmt: skip
    assert (third.returncode, third.stdout) == (
        0, "0 accounts, 0 failed; 0 user, 0 vault, 0 sub_account, 0 agent, 0 missing\n",
    )  # fmt: skip
    assert rows(connection, "SELECT account, role, name FROM liq.exchange_roles") == [
        (MASTER, "user", None), (SUB, "sub_account", "A sub-account"),
        (VAULT, "vault", "<b>[bold]"),
    ]  # fmt: skip


def test_named_accounts_are_asked_about_however_late(
    served: Exchange, quick_indexer: Command
) -> None:
    words = ("roles", "--account", STRANGER, "--account", STRANGER, "--weight", "120")

    done = [quick_indexer(*words, HYPERLIQUID_API=served.url) for _ in range(2)]

    assert [run.stdout for run in done] == [
        "1 account, 0 failed; 0 user, 0 vault, 0 sub_account, 0 agent, 1 missing\n"
    ] * 2
    assert served.count("userRole") == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--account", "0x12"), ("--account", VAULT, "--min-usd", "1"), ("--weight", "59"),
        ("--weight", "1201"), ("--max-age", "soon"),
    ],
)  # fmt: skip
def test_wrong_words_are_a_usage_error(quick_indexer: Command, words: tuple[str, ...]) -> None:
    assert quick_indexer("roles", *words).returncode == 2
