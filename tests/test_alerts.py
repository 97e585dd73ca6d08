"""Alerts from the stored row to the webhook: real Postgres, real HTTP, real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from indexer.chain import follow
from indexer.chain.follow import Follower
from indexer.store import database, values
from indexer.store.database import Connection
from tests.campaign import DEPTH, VENUES, World, catch_up, world
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.faults import Faults
from tests.conftest import Command
from tests.evm_logs import DECODER
from tests.processes import soon
from tests.test_values import insert
from tests.webhooks import Webhook, mail_server, webhook

ALICE, BOB, CAROL, VAULT = ("0x" + 40 * letter for letter in "abcd")
# after the rule is first known, which announces nothing of before
NOW = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
HASH = "0x" + 64 * "7"
SECRET = "canary-5f1c-token"

Alert = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as found:
        yield found


@pytest.fixture
def alert(quick_indexer: Command, hook: Webhook) -> Alert:
    """`indexer alert --once` to the webhook."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        to = {"INDEXER_ALERT_TO": hook.address, **environment}
        return quick_indexer("alert", "--once", "--allow-private", *arguments, **to)

    return run


@pytest.fixture
def begun(alert: Alert) -> None:
    """The rule is known: what comes now is new."""
    assert alert().returncode == 0


@contextmanager
def alerting(
    conninfo: str, folder: Path, *arguments: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """`indexer alert` as a process that goes on; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "indexer", "alert", "--allow-private", *arguments],
        env={**os.environ, "DATABASE_URL": conninfo, **environment},
        cwd=folder, text=True, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def liquidate(
    connection: Connection, account: str, usd: int, number: int = 1, **changes: Any
) -> None:
    """A liquidation of Hyperliquid and its value, as the indexer writes them."""
    at = changes.pop("at", NOW)
    insert(
        connection, "liquidation",
        {
            "venue": "hyperliquid", "event_key": f"{number}/ETH/{number}", "account": account,
            "block_number": number, "block_at": at, "tx_hash": HASH, "order_id": str(number),
            "method": "market", "market": "ETH", "dex": "", "quote": "USDC", "side": "long",
            "size": Decimal(usd) / 2_000, "price": Decimal(2_000), "notional": Decimal(usd),
            "account_is_protocol_vault": False, "legs_seen": "both", "decoder_version": 1,
            **changes,
        },
    )  # fmt: skip
    values.value(connection, venues=[changes.get("venue", "hyperliquid")], since=at)


def withdraw(connection: Connection, number: int = 1) -> None:
    connection.execute(
        "DELETE FROM ledger.liquidation WHERE event_key = %s", (f"{number}/ETH/{number}",)
    )


def listed(connection: Connection, columns: str, table: str = "liq.alerts") -> list[Any]:
    return connection.execute(f"SELECT {columns} FROM {table} ORDER BY created_at, id").fetchall()


# -- what is sent --------------------------------------------------------------------------------


def test_a_large_episode_is_one_message_of_one_line_with_one_link(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 900_000, 1)
    liquidate(connection, ALICE, 350_000, 2, market="BTC", at=NOW + timedelta(seconds=90))

    first, again = alert(), alert()

    assert (first.returncode, first.stdout, first.stderr) == (0, "1 new message; 0 wait\n", "")
    assert (again.returncode, again.stdout) == (0, "0 new messages; 0 wait\n")
    [received] = hook.received
    at = f"{NOW + timedelta(seconds=90):%Y-%m-%d %H:%M:%S} UTC"
    assert received.said == (
        "Liquidated: $1,250,000.00 of BTC, ETH long · 0xaaaa…aaaa · hyperliquid · market"
        f" · 2 orders over 1.5 min · {at} · sizes/v1 · {received.id}"
        f" · https://app.hyperliquid.xyz/explorer/tx/{HASH}"
    )
    assert received.headers["X-Alert-Id"] == received.id
    assert (received.body["alert_kind"], received.body["alert_rule"]) == ("first", "alerts")
    assert listed(connection, "id, rule, kind, account, step, usd, state, attempts, error") == [
        (received.id, "alerts", "first", ALICE, 1, 1_250_000, "sent", 0, None)
    ]


def test_a_message_in_chinese(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000)

    assert alert("--language", "zh").returncode == 0

    assert hook.said[0].startswith(
        "清算 $2,000,000.00：ETH 多单 · 0xaaaa…aaaa · hyperliquid · market · 1 笔订单 · "
    )


def test_nothing_of_the_past_is_announced_unless_it_is_asked_for(
    connection: Connection, alert: Alert, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000, at=NOW - timedelta(hours=2))
    liquidate(connection, BOB, 2_000_000, 2, at=NOW - timedelta(hours=4))

    assert [alert().returncode, len(hook.received)] == [0, 0]
    assert [alert("--since", "2h").returncode, len(hook.received)] == [0, 1]
    assert ALICE[:6] in hook.said[0]


def test_growth_is_a_message_at_each_step_and_a_withdrawal_a_correction(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    for number, usd in enumerate((1_500_000, 500_000, 9_000_000, 1_000_000), 1):
        liquidate(connection, ALICE, usd, number)
        assert alert().returncode == 0
    withdraw(connection, 3)
    assert alert("--correct-after", "1s").returncode == 0
    time.sleep(1)
    assert alert("--correct-after", "1s").returncode == 0
    assert alert("--correct-after", "1s").returncode == 0

    first, more, correction = hook.received
    assert first.said.startswith("Liquidated: $1,500,000.00 of ETH long")
    assert more.said.startswith("Liquidated: now $11,000,000.00 of ETH long")
    assert correction.said.startswith(
        f"Correction of {more.id}: $12,000,000.00 of 0xaaaa…aaaa on hyperliquid is $3,000,000.00"
        " now · "
    )
    assert len({one.id for one in hook.received}) == 3
    assert listed(connection, "kind, step, about") == [
        ("first", 1, None), ("more", 2, first.id), ("correction", 1, more.id),
    ]  # fmt: skip


def test_what_was_all_that_a_venue_had_is_taken_back(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000)
    assert alert("--correct-after", "1s").returncode == 0
    withdraw(connection)
    assert alert("--correct-after", "1s").returncode == 0
    time.sleep(1)
    assert [alert("--correct-after", "1s").returncode for _ in "12"] == [0, 0]
    liquidate(connection, ALICE, 2_000_000)
    assert alert("--correct-after", "1s").returncode == 0

    assert [one.body["alert_kind"] for one in hook.received] == ["first", "correction", "first"]
    assert len({one.id for one in hook.received}) == 3


def test_who_writes_when_alerts_begin_is_not_passed_over(
    conninfo: str, connection: Connection, alert: Alert, hook: Webhook
) -> None:
    with database.connect(conninfo) as slow:
        with slow.transaction():
            liquidate(slow, ALICE, 2_000_000)  # nobody is alerted yet, so this notes nothing
            assert [alert().returncode, len(hook.received)] == [0, 0]
        assert [alert().returncode, len(hook.received)] == [0, 1]


def test_each_transaction_of_an_account_is_an_action(
    connection: Connection, alert: Alert, hook: Webhook
) -> None:
    assert alert("--unit", "action").returncode == 0
    for number, tx in enumerate(("7", "7", "8"), 1):
        liquidate(connection, ALICE, 600_000, number, tx_hash="0x" + 64 * tx)

    assert alert("--unit", "action").returncode == 0

    [said] = hook.said
    assert said.startswith("Liquidated: $1,200,000.00 of ETH long · 0xaaaa…aaaa")
    assert said.endswith("/tx/" + HASH)


def test_a_watched_account_is_announced_whatever_its_size_and_others_are_not(
    connection: Connection, alert: Alert, hook: Webhook, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"# mine\n{BOB.upper().replace('X', 'x')}, a fund\n\n")
    options = ("--account", ALICE, "--watch-list", "list.txt")
    assert alert(*options).returncode == 0
    for number, account in enumerate((ALICE, BOB, CAROL), 1):
        liquidate(connection, account, number * 10, number)
    liquidate(connection, ALICE, 5, 9, quote="XYZ", at=NOW + timedelta(hours=1))

    assert alert(*options).returncode == 0

    assert sorted(said.partition(" · 2")[0] for said in hook.said) == [
        "Liquidated: $10.00 of ETH long · 0xaaaa…aaaa · hyperliquid · market · 1 order",
        "Liquidated: $20.00 of ETH long · 0xbbbb…bbbb · hyperliquid · market · 1 order",
        "Liquidated: an amount without a dollar value of ETH long · 0xaaaa…aaaa · hyperliquid"
        " · market · 1 order",
    ]


def test_venues_assets_accounts_and_labels_are_left_out(
    connection: Connection, alert: Alert, hook: Webhook
) -> None:
    connection.execute(
        "INSERT INTO ledger.label (venue, account, label, rule, rule_version, confidence, evidence,"
        " valid_during, recorded_during) VALUES ('hyperliquid', %s, 'market_maker', 'X', 1, 1,"
        " '{}', '(,)', tstzrange(now(), NULL))",
        (BOB,),
    )
    connection.execute(
        "INSERT INTO ledger.protocol_vault VALUES ('hyperliquid', %s, 'v', NULL, NULL, 'test')",
        (VAULT,),
    )
    options = ("--exclude", "market_maker", "--exclude", CAROL, "--asset", "ETH")
    other = ("--venue", "aave_v3", "--name", "aave")
    assert [alert(*options).returncode, alert(*other).returncode] == [0, 0]
    liquidate(connection, ALICE, 2_000_000, 1)
    liquidate(connection, ALICE, 3_000_000, 2, market="BTC")
    liquidate(connection, BOB, 2_000_000, 3)
    liquidate(connection, CAROL, 2_000_000, 4)
    liquidate(connection, VAULT, 2_000_000, 5)

    assert [alert(*options).returncode, alert(*other).returncode] == [0, 0]

    assert [said.partition(" · ")[0] for said in hook.said] == [
        "Liquidated: $2,000,000.00 of ETH long"
    ]
    assert alert("--name", "all", "--since", "1h").returncode == 0
    assert len(hook.received) == 4
    assert sum("0xbbbb…bbbb (market maker)" in said for said in hook.said) == 1


def test_within_the_cool_down_what_is_no_larger_is_kept_back_and_counted_later(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    for number in (1, 2, 3):
        liquidate(connection, ALICE, 2_000_000, number, at=NOW + timedelta(hours=number))
        assert alert("--cool-down", "1h").returncode == 0
    liquidate(connection, ALICE, 20_000_000, 4, at=NOW + timedelta(hours=9))
    assert alert("--cool-down", "1h").returncode == 0

    assert [said.partition(" · 2")[0].rpartition(" · ")[2] for said in hook.said] == [
        "1 order",
        "1 order, 2 others kept back before",
    ]


def test_a_digest_is_one_message_of_the_largest(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    for number in range(1, 9):
        liquidate(connection, f"0x{number:040x}", number * 1_000_000, number)
    options = ("--digest", "1s")
    assert [alert("--digest", "1d").returncode, len(hook.received)] == [0, 0]
    time.sleep(1.1)
    assert [alert(*options).returncode, alert(*options).returncode] == [0, 0]

    [received] = hook.received
    head, *lines = received.said.splitlines()
    assert received.body["alert_kind"] == "digest"
    assert " UTC: 8 messages, the largest 6 are · sizes/v1 · " + received.id in head
    assert [line.partition(" of ")[0] for line in lines] == [
        f"Liquidated: ${number},000,000.00" for number in (8, 7, 6, 5, 4, 3)
    ]


HOSTILE = "@everyone <@&1> [x](http://evil.example) *b* `c` _i_ ||s|| :boom: \x1b[31m\u202e<b>&\n#"


def test_a_hostile_name_means_nothing_to_anybody(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000, market=HOSTILE)

    assert alert().returncode == 0

    head, _, rest = hook.said[0].partition(" long · ")
    assert head.startswith("Liquidated: $2,000,000.00 of ＠everyone ‹＠＆1› ［x］（http∶")
    assert not set(head.removeprefix("Liquidated: $")) & set("@<>[]()*`_|&#\\~\x1b\u202e\n")
    assert rest.count("https://") == 1


# -- when it does not go well --------------------------------------------------------------------


def test_an_unreachable_webhook_is_a_clear_line_and_the_message_waits(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    dead = f"json://user:{SECRET}@127.0.0.1:9/{SECRET}?+X-Key={SECRET}"
    liquidate(connection, ALICE, 2_000_000)

    failed = alert(INDEXER_ALERT_TO=f"{dead} {hook.address}")

    assert failed.returncode == 1
    *lines, last = failed.stderr.splitlines()
    assert len(lines) == 3
    name = last.removeprefix("indexer: messages could not be sent: 1 for ")
    assert lines[0].startswith(f"{name}: message ")
    assert lines[0].endswith(
        "was not taken, attempt 1: A Connection error occurred sending JSON notification to"
        " 127.0.0.1.; again in 0.5 s"
    )
    assert len(hook.received) == 1
    assert sorted(listed(connection, "state, attempts")) == [("queued", 3), ("sent", 0)]
    everything = repr(failed) + repr(
        connection.execute("SELECT d::text FROM ledger.alert_delivery d").fetchall()
    )
    assert SECRET not in everything.replace(dead, "")


def test_a_refusal_and_a_redirect_are_failures_with_their_reason(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000)
    hook.status, hook.location = 302, "http://127.0.0.1:9/elsewhere"
    redirected = alert()
    at_once = "UPDATE ledger.alert_delivery SET next_at = clock_timestamp()"
    hook.status, hook.location = 500, None
    connection.execute(at_once)
    refused = alert()
    hook.status = 200
    connection.execute(at_once)
    taken = alert()

    assert [redirected.returncode, refused.returncode, taken.returncode] == [1, 1, 0]
    assert "error=302" in redirected.stderr
    assert "error=500" in refused.stderr
    assert {one.path for one in hook.received} == {"/hook"}
    assert len({one.id for one in hook.received}) == 1


def test_a_target_of_the_inside_is_refused_at_the_start(
    quick_indexer: Command, hook: Webhook
) -> None:
    inward = {
        "json://127.0.0.1:1/x": "loopback",
        "jsons://2130706433/x": "loopback",
        "jsons://localhost/x": "a local name",
        "form://169.254.169.254/": "link-local",
        "xmls://10.0.0.1/": "private",
    }

    said = [quick_indexer("alert", "--once", INDEXER_ALERT_TO=address) for address in inward]

    assert [one.returncode for one in said] == [1] * len(inward)
    assert [
        one.stderr.partition("inside, ")[2].partition(":")[0].partition(" ")[0] for one in said
    ] == [why.partition(" ")[0] for why in inward.values()]


def test_a_host_that_moves_to_the_inside_is_refused_when_it_is_connected_to(
    connection: Connection, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, the next is this machine."""
    import socket

    from indexer.alerts import targets
    from indexer.alerts.guard import guarded

    answers = iter(["1.1.1.1"])
    port = hook.server_port
    real = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return real(next(answers, "127.0.0.1"), port)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    given = [targets.Given("moved", f"jsons://hooks.example:{port}/{SECRET}")]
    [target] = targets.opened(given)
    with guarded():
        problem = target.send("x", id="1", kind="first", rule="r")

    assert problem == "127.0.0.1 is loopback: --allow-private allows it"
    assert hook.received == []
    assert SECRET not in repr(target)


def test_what_is_wrong_with_targets_is_said_without_them(
    quick_indexer: Command, tmp_path: Path, hook: Webhook
) -> None:
    file = tmp_path / "to.txt"

    def told(text: str, *options: str) -> tuple[int, str]:
        file.write_text(text)
        file.chmod(0o600)
        run = quick_indexer("alert", "--once", "--to-file", "to.txt", *options)
        return run.returncode, run.stderr.strip().removeprefix("indexer: ")

    assert told("") == (1, "no targets: name them in a file, --to-file, or in INDEXER_ALERT_TO")
    assert told(f"nonsense://{SECRET}") == (1, "target 1 is no address that Apprise knows")
    assert told(f"a b json://{SECRET}") == (
        1, "line 1 of the targets is no address, nor a name and one",
    )  # fmt: skip
    assert told(f"json://1.1.1.1/{SECRET}")[1].endswith(
        "would send in the clear: write json as jsons, and so on"
    )
    assert told(f"one {hook.address}\none {hook.address}x", "--allow-private") == (
        1, "target 2 looks like another, one: give both a name",
    )  # fmt: skip
    assert quick_indexer("alert", "--once").returncode == 2
    assert told(hook.address, "--allow-private", "--definition", "strict/v1")[1].startswith(
        "sizes cannot be told under strict/v1: "
    )


def test_targets_are_tried_on_request(quick_indexer: Command, hook: Webhook) -> None:
    options = ("alert", "--trial", "--allow-private")
    taken = quick_indexer(*options, INDEXER_ALERT_TO=hook.address)
    hook.status = 404
    refused = quick_indexer(*options, INDEXER_ALERT_TO=hook.address)

    assert (taken.returncode, taken.stdout.endswith(": taken\n")) == (0, True)
    assert (refused.returncode, "error=404" in refused.stdout) == (1, True)


def test_mail_goes_to_a_mail_server(connection: Connection, alert: Alert, begun: None) -> None:
    with mail_server() as (port, mails):
        liquidate(connection, ALICE, 2_000_000, market="<b>&@x")
        to = f"mailto://127.0.0.1:{port}?from=indexer@example.org&to=desk@example.org"
        assert alert(INDEXER_ALERT_TO=to).returncode == 0

    [mail] = mails
    assert "To: desk@example.org" in mail
    assert "<b>" not in mail


# -- processes -----------------------------------------------------------------------------------


def test_a_message_goes_out_within_a_second_of_the_commit_and_never_again_after_a_restart(
    conninfo: str, connection: Connection, hook: Webhook, tmp_path: Path
) -> None:
    to = {"INDEXER_ALERT_TO": hook.address}
    with alerting(conninfo, tmp_path, **to) as process:
        assert process.stderr is not None
        assert "go to json-" in process.stderr.readline()
        liquidate(connection, ALICE, 2_000_000)
        committed = time.time()
        soon(lambda: len(hook.received) == 1)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(20), process.stderr.read()) == (0, "stopped\n")
    with alerting(conninfo, tmp_path, **to) as process:
        liquidate(connection, BOB, 2_000_000, 2)
        soon(lambda: len(hook.received) >= 2)
        time.sleep(0.5)

    assert ["0xaaaa" in said for said in hook.said] == [True, False]
    assert hook.received[0].at - committed < 5  # benchmarks/alerts.py measures it


def test_who_is_killed_while_sending_sends_the_same_id_once_more_and_then_never_again(
    conninfo: str, connection: Connection, hook: Webhook, tmp_path: Path
) -> None:
    to = {"INDEXER_ALERT_TO": hook.address}
    hook.goes_on.clear()
    with alerting(conninfo, tmp_path, **to) as process:
        assert process.stderr is not None
        process.stderr.readline()
        liquidate(connection, ALICE, 2_000_000)
        soon(lambda: len(hook.received) == 1)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    hook.goes_on.set()
    for _ in range(2):
        with alerting(conninfo, tmp_path, **to) as process:
            soon(lambda: listed(connection, "state") == [("sent",)])
            time.sleep(0.5)
            process.send_signal(signal.SIGKILL)

    assert [one.id for one in hook.received] == 2 * [hook.received[0].id]


def test_of_two_processes_one_sends_and_the_other_takes_over_when_it_ends(
    conninfo: str, connection: Connection, hook: Webhook, tmp_path: Path, alert: Alert
) -> None:
    to = {"INDEXER_ALERT_TO": hook.address}
    with alerting(conninfo, tmp_path, **to) as first, ExitStack() as stack:
        assert first.stderr is not None
        assert "go to json-" in first.stderr.readline()
        second = stack.enter_context(alerting(conninfo, tmp_path, **to))
        assert second.stderr is not None
        assert "another process sends the alerts 'alerts': waiting" in second.stderr.readline()
        for number in range(1, 6):
            liquidate(connection, f"0x{number:040x}", 2_000_000, number)
        soon(lambda: len(hook.received) == 5)
        at_once = alert()
        first.send_signal(signal.SIGKILL)
        liquidate(connection, ALICE, 2_000_000, 9)
        soon(lambda: len(hook.received) == 6)
        time.sleep(0.5)

    assert (at_once.returncode, at_once.stderr) == (
        1, "indexer: another process sends the alerts 'alerts'\n",
    )  # fmt: skip
    assert len({one.id for one in hook.received}) == len(hook.received) == 6


def test_a_webhook_that_hangs_holds_up_neither_the_indexer_nor_other_targets(
    conninfo: str, connection: Connection, hook: Webhook, tmp_path: Path
) -> None:
    hook.goes_on.clear()
    with (
        webhook() as other,
        alerting(conninfo, tmp_path, INDEXER_ALERT_TO=f"{hook.address} {other.address}") as process,
    ):
        assert process.stderr is not None
        process.stderr.readline()
        liquidate(connection, ALICE, 2_000_000)
        soon(lambda: len(hook.received) == 1)
        with database.connect(conninfo) as indexing:
            indexing.execute("SET lock_timeout = '1s'; SET statement_timeout = '2s'")
            for number in range(2, 12):
                liquidate(indexing, f"0x{number:040x}", 2_000_000, number)
            withdraw(indexing, 2)
        soon(lambda: len(other.received) >= 10)
        assert len(hook.received) == 1
        idle = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            " AND datname = current_database()"
        ).fetchone()
        assert idle == (0,)


# -- a chain -------------------------------------------------------------------------------------


@pytest.fixture
def chain() -> ModelChain:
    chain = ModelChain(Config(seed=4, depth=DEPTH, empty_percent=0))
    chain.mine(20)
    return chain


@pytest.fixture
def at(chain: ModelChain, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(follow, "FINALIZED_EVERY_SECONDS", 0.0)
    with world(chain, [Faults()]) as found:
        yield found


def test_what_a_reorg_takes_back_is_corrected(
    connection: Connection, chain: ModelChain, at: World, alert: Alert, hook: Webhook
) -> None:
    """Real blocks of a model chain, followed; a fork replaces the last ones for good."""
    follower = Follower(connection, at.source, DECODER, VENUES)
    catch_up(follower)
    rows = chain.truth().rows
    accounts = sorted({row.account for row in rows})
    watching = [word for account in accounts for word in ("--account", account)]
    options = (*watching, "--since", "1970-01-01", "--unit", "action", "--correct-after", "1s")
    assert alert(*options).returncode == 0
    values.value(connection, venues=VENUES)
    assert alert(*options).returncode == 0
    announced = {one.id: one.said for one in hook.received}
    before = set(listed(connection, "subject_key, kind, id"))

    chain.fork(DEPTH, DEPTH + 1)
    catch_up(follower)
    values.value(connection, venues=VENUES)
    assert alert(*options).returncode == 0
    time.sleep(1)
    assert alert(*options).returncode == 0

    actions = {f"{r.venue}/{r.account}/{r.tx_hash}" for r in chain.truth().rows}
    corrected = {
        key
        for key, kind, _ in set(listed(connection, "subject_key, kind, id")) - before
        if kind == "correction"
    }
    assert corrected == {key for key, _, _ in before} - actions
    assert len(corrected) > 0
    told = [one for one in hook.received if one.body["alert_kind"] == "correction"]
    assert {one.said.split()[2].rstrip(":") for one in told} <= set(announced)
    assert all("is withdrawn: it is on the chain no more" in one.said for one in told)


def test_a_change_that_commits_late_is_not_passed_over(
    conninfo: str, connection: Connection, alert: Alert, hook: Webhook
) -> None:
    options = ("--account", ALICE, "--account", BOB)
    assert alert(*options).returncode == 0
    with database.connect(conninfo) as slow:
        with slow.transaction():
            liquidate(slow, ALICE, 7, 1)
            # of another venue, as the values of one are written one after the other
            liquidate(connection, BOB, 7, 2, venue="gmx_v2.arbitrum")
            assert [alert(*options).returncode, len(hook.received)] == [0, 1]
        assert [alert(*options).returncode, len(hook.received)] == [0, 2]


def test_notes_of_changes_are_kept_only_while_somebody_looks(
    connection: Connection, alert: Alert
) -> None:
    def notes() -> Any:
        return connection.execute("SELECT count(*) FROM ledger.alert_change").fetchone()

    liquidate(connection, ALICE, 2_000_000, 1)
    assert notes() == (0,)
    assert alert().returncode == 0
    liquidate(connection, ALICE, 2_000_000, 2)
    assert notes() == (1,)
    assert [alert().returncode, alert().returncode] == [0, 0]
    connection.execute("UPDATE ledger.alert_rule SET looked_at = now() - interval '8 days'")
    liquidate(connection, BOB, 2_000_000, 3)
    assert notes()[0] <= 1


def test_who_did_not_look_for_a_week_misses_nothing(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    connection.execute("UPDATE ledger.alert_rule SET looked_at = now() - interval '8 days'")
    liquidate(connection, ALICE, 2_000_000)

    assert [alert().returncode, alert().returncode, len(hook.received)] == [0, 0, 1]


def test_what_could_not_be_sent_for_a_day_is_given_up(
    connection: Connection, alert: Alert, begun: None, hook: Webhook
) -> None:
    liquidate(connection, ALICE, 2_000_000)
    hook.status = 500
    assert alert().returncode == 1
    connection.execute("UPDATE ledger.alert_delivery SET queued_at = now() - interval '25 hours'")

    assert alert().returncode == 0
    assert listed(connection, "state") == [("given_up",)]
