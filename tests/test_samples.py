"""Fills asked of a real HTTP server on loopback, and what becomes of them when whole blocks are
read before or after: rows only ever gain, and end as those of the blocks alone."""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indexer import samples, sync
from indexer.cli.fills import watch_list
from indexer.errors import ConfigError, SourceFault
from indexer.hyperliquid_format import utc_of_ms
from indexer.samples import Asked, Sampler, Span
from indexer.sources.hyperliquid_api import Silent
from indexer.sources.hyperliquid_fills import Told, block_lines
from indexer.sources.hyperliquid_fills_api import FillsApi, Page
from indexer.store import database
from indexer.store.database import Connection
from indexer.store.server import Server
from tests.conftest import Command
from tests.exchange_stub import Exchange
from tests.ledger_rows import Rows, everything, rows
from tests.postgres import database as throw_away
from tests.rpc_proxy import UTC as FAKE_UTC
from tests.rpc_proxy import FakeClock, Http
from tests.simulator import Simulation, simulate, small, write_by_block

ACCOUNT, OTHER = (f"0x{digit * 40}" for digit in "ab")
VAULT = "0x2e3d94f0562703b25c83308a05046ddaf9a8dd14"
SPAN = Span(datetime(2023, 5, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
NO_MARK = "0x" + 20 * "1" + "04" + "0a6dff13" + 34 * "0"
RAW = "SELECT event_key, body FROM ledger.raw_event"
ROWS = "SELECT * FROM ledger.liquidation"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def exchange(clock: FakeClock) -> Iterator[Exchange]:
    """Its questions are noted with the time of the fake clock."""
    with Exchange(now=lambda: clock.seconds) as served:
        yield served


@pytest.fixture
def api(exchange: Exchange, clock: FakeClock) -> Iterator[FillsApi]:
    opened = FillsApi(exchange.url, clock=clock.clock)
    yield opened
    opened.close()


def fill(time: int, tid: int = 1, **other: Any) -> dict[str, Any]:
    """An ordinary fill of the API."""
    return {
        "coin": "BTC", "px": "64159.0", "sz": "0.1", "side": "B", "time": time,
        "startPosition": "0.0", "dir": "Open Long", "closedPnl": "0.0", "hash": NO_MARK,
        "oid": tid, "crossed": True, "fee": "0.1", "tid": tid, "feeToken": "USDC",
        **other,
    }  # fmt: skip


def times(pages: list[Page]) -> list[list[int]]:
    return [[json.loads(told.fill)["time"] for told in page.fills] for page in pages]


def recorded(real_data: Path, name: str) -> Any:
    return json.loads((real_data / "hyperliquid" / name).read_text())


# -- what the API says


def test_all_pages_are_asked_for_within_the_weight(
    exchange: Exchange, api: FillsApi, clock: FakeClock
) -> None:
    exchange.fills[ACCOUNT] = [fill(1_700_000_000_000 + n, n) for n in range(4_500)]

    pages = list(api.fills(ACCOUNT, *SPAN))

    assert [len(page.fills) for page in pages] == [2_000, 2_000, 502]
    assert [page.lacks for page in pages] == [None, None, None]
    assert {n for page in times(pages) for n in page} == {
        1_700_000_000_000 + n for n in range(4_500)
    }
    assert [when for when, *_ in exchange.asked] == [1_000.0] * 3  # 120 + 120 + 46 of 1,200
    for _ in range(9):
        list(api.fills(ACCOUNT, SPAN.since, utc_of_ms(1_700_000_001_999)))
    assert clock.slept == [60.0]  # each asks for 2,000 and for the last one again: 141


@pytest.mark.parametrize("page_fills", [500, 2_000])
def test_an_api_that_tells_the_newest_first_is_asked_backwards(
    exchange: Exchange, api: FillsApi, page_fills: int
) -> None:
    exchange.newest_first, exchange.page_fills = True, page_fills
    exchange.fills[ACCOUNT] = [fill(1_700_000_000_000 + n, n) for n in range(2_400)]

    found = {time for page in times(list(api.fills(ACCOUNT, *SPAN))) for time in page}

    assert found == {1_700_000_000_000 + n for n in range(2_400)}


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_page_that_is_full_at_one_millisecond_is_said_and_the_rest_is_asked_for(
    exchange: Exchange, api: FillsApi, newest_first: bool
) -> None:
    exchange.newest_first = newest_first
    busy = 1_700_000_000_000
    exchange.fills[ACCOUNT] = [
        fill(busy - 1, 1), *(fill(busy, n) for n in range(2, 2_500)), fill(busy + 1, 2_500),
    ]  # fmt: skip

    pages = list(api.fills(ACCOUNT, *SPAN))

    assert {page.lacks for page in pages} == {
        None,
        f"{ACCOUNT}: a page is full at the one millisecond 2023-11-14 22:13:20.000000: what more it"
        " holds cannot be asked for",
    }
    assert {busy - 1, busy, busy + 1} == {time for page in times(pages) for time in page}


def test_an_account_with_more_fills_than_the_api_remembers_is_named(
    exchange: Exchange, api: FillsApi
) -> None:
    exchange.fills[ACCOUNT] = [fill(1_700_000_000_000 + n, n) for n in range(12_000)]

    pages = list(api.fills(ACCOUNT, *SPAN))

    assert pages[0].fills[0].fill == json.dumps(fill(1_700_000_002_000, 2_000)).encode()
    assert pages[-1].lacks == (
        f"{ACCOUNT}: the API knows its 10,000 newest fills alone; before the first of them there"
        " may be more"
    )


BROKEN: dict[str, Any] = {
    "null": None,
    "an object": {},
    "no fill": [{"coin": "BTC"}],
    "no order of time": [fill(1_700_000_000_001), fill(1_700_000_000_000), fill(1_700_000_000_002)],
    "what was not asked for": [fill(1_600_000_000_000)],
    "a day to come": [fill(int(FAKE_UTC * 1000) + 61_000)],
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_cannot_be_right_is_asked_again_and_never_used(
    exchange: Exchange, api: FillsApi, body: Any
) -> None:
    exchange.play(Http(json.dumps(body).encode()), times=4)

    with pytest.raises(SourceFault, match=r"^127\.0\.0\.1 #1: userFillsByTime: "):
        list(api.fills(ACCOUNT, SPAN.since, datetime(2028, 1, 1, tzinfo=UTC)))
    assert exchange.count("userFillsByTime") == 4


def test_too_many_requests_are_waited_for_and_then_given_up(
    exchange: Exchange, api: FillsApi, clock: FakeClock
) -> None:
    exchange.play(Http(status=429, headers={"Retry-After": "7"}), times=1)
    assert list(api.fills(ACCOUNT, *SPAN)) == [Page(())]
    assert 7.0 <= clock.slept[0] <= 7.7

    exchange.play(Http(status=429), times=4)
    with pytest.raises(Silent, match="HTTP 429"):
        list(api.fills(ACCOUNT, *SPAN))


def test_aggregated_fills_are_never_asked_for(
    exchange: Exchange, api: FillsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []
    answer = exchange.answer
    monkeypatch.setattr(exchange, "answer", lambda body: (bodies.append(body), answer(body))[1])

    list(api.fills(ACCOUNT, utc_of_ms(1_700_000_000_000), utc_of_ms(1_700_000_000_999)))

    assert [json.loads(body) for body in bodies] == [
        {
            "type": "userFillsByTime", "user": ACCOUNT,
            "startTime": 1_700_000_000_000, "endTime": 1_700_000_000_999,
        }
    ]  # fmt: skip


# -- what is stored


def ask(connection: Connection, api: FillsApi, *accounts: str) -> tuple[Asked, list[str]]:
    said: list[str] = []
    found = samples.ask(
        connection, Sampler(connection), api, {one: [SPAN] for one in accounts}, said.append
    )
    return found, said


def test_recorded_takeovers_by_the_vault_are_stored_with_their_height_and_cover_nothing(
    connection: Connection, exchange: Exchange, api: FillsApi, real_data: Path
) -> None:
    fills = recorded(real_data, "api_userFills_liquidator_vault_backstop.json")
    exchange.fills[VAULT] = sorted(fills, key=lambda one: int(one["time"]))

    asked, said = ask(connection, api, VAULT)

    assert (asked, said) == (Asked(1, 0, 5), [])
    assert rows(
        connection,
        "SELECT block_number, market, account, method, side, legs_seen, liquidator"
        " FROM ledger.liquidation",
    ) == [
        (1116179181, "PURR", "0xf4349a87d8c71a517ecadbefbbc4b0db70fc6108", "backstop", "short",
         "counterparty", VAULT),
        (1119108997, "HMSTR", "0xcb02837caaee310c178501855b63bf7f4f4b1f8b", "backstop", "short",
         "counterparty", VAULT),
    ]  # fmt: skip
    assert rows(connection, "SELECT * FROM ledger.coverage") == []
    assert rows(connection, "SELECT uri, is_sample FROM liq.sources") == [
        (f"api userFillsByTime {VAULT}", True)
    ]
    assert rows(
        connection, "SELECT venue, source, account, first_at, last_at, lacks FROM liq.samples"
    ) == [("hyperliquid", "api userFillsByTime", VAULT, *SPAN, None)]


def test_an_own_liquidation_on_another_dex_is_stored_from_the_own_leg(
    connection: Connection, exchange: Exchange, api: FillsApi, real_data: Path
) -> None:
    account = "0x61fb9e7583dc92cc76eb52f93d88addaa0f02265"
    fills = recorded(real_data, "api_userFills_own_market_liquidation_hip3.json")
    exchange.fills[account] = sorted(fills, key=lambda one: int(one["time"]))

    ask(connection, api, account)

    assert rows(
        connection, "SELECT market, account, method, legs_seen, is_full_close FROM liq.liquidations"
    ) == [("xyz:SILVER", account, "market", "liquidated", True)]


def test_one_account_that_fails_leaves_the_others(
    connection: Connection, exchange: Exchange, api: FillsApi
) -> None:
    exchange.play(Http(b"[{}]"), ACCOUNT, times=4)

    asked, said = ask(connection, api, ACCOUNT, OTHER)

    assert asked == Asked(2, 1, 0)
    assert len(said) == 1
    assert rows(connection, "SELECT account FROM liq.samples") == [(OTHER,)]


def test_a_silent_exchange_is_not_asked_for_all_accounts(
    connection: Connection, exchange: Exchange, api: FillsApi
) -> None:
    exchange.play(Http(status=503), times=100)

    asked, said = ask(connection, api, *(f"0x{n:040x}" for n in range(9)))

    assert asked == Asked(9, 9, 0)
    assert said[-1] == "the exchange is silent, 6 accounts are left for the next time"


def test_the_next_time_goes_on_where_it_was_left(
    connection: Connection, exchange: Exchange, api: FillsApi
) -> None:
    ask(connection, api, ACCOUNT)
    later = SPAN.until + timedelta(hours=1)

    found = samples.since_last(connection, [ACCOUNT, OTHER], SPAN.since, later)

    assert found == {
        ACCOUNT: [Span(SPAN.until - timedelta(minutes=1), later)],
        OTHER: [Span(SPAN.since, later)],
    }


# -- samples and whole blocks


SEEDS = (1, 2)
ORDERS = (
    ("api", "archive"),
    ("archive", "api"),
    ("api", "api", "archive", "archive"),
    ("stream", "api", "archive", "stream"),
    ("api", "stream", "archive", "api"),
    ("archive", "stream", "archive"),
)
# Of what a fill has, only this makes it one and places it.
LOSABLE = ("startPosition", "closedPnl", "oid", "crossed", "fee", "feeToken", "cloid", "twapId")


@pytest.fixture(scope="module", params=SEEDS)
def sim(request: pytest.FixtureRequest) -> Simulation:
    return simulate(small(request.param))


@pytest.fixture(scope="module")
def tree(sim: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    write_by_block(sim, folder)
    return folder


@pytest.fixture(scope="module")
def alone(postgres: Server, migrated: str, tree: Path) -> dict[str, Rows]:
    """What the blocks alone give."""
    with throw_away(postgres, template=migrated) as fresh, database.connect(fresh) as opened:
        sync.backfill(opened, str(tree))
        return everything(opened)


def told(sim: Simulation, rng: random.Random, share: float) -> list[Told]:
    """A share of the fills, each without some of its fields."""
    return [
        Told(user, json.dumps({
            key: value for key, value in one.items()
            if key not in LOSABLE or rng.random() > 0.15
        }).encode())
        for block in sim.blocks for user, one in block.events if rng.random() < share
    ]  # fmt: skip


def take_api(connection: Connection, found: list[Told]) -> None:
    by_user: dict[str, list[Told]] = defaultdict(list)
    for one in found:
        by_user[one.user].append(one)
    sampler = Sampler(connection)
    for fills in by_user.values():
        assert sampler.take(list(block_lines(fills, "api"))) == []


def take_stream(connection: Connection, found: list[Told]) -> None:
    assert Sampler(connection).take(list(block_lines(found, "stream"))) == []


def known(connection: Connection) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What each row says, without what it does not know."""
    cursor = connection.execute(ROWS)
    names = [column.name for column in cursor.description or ()]
    said = [dict(zip(names, row, strict=True)) for row in cursor]
    for row in said:  # what a fill says, which blocks make finer
        row["block_at"] = row["block_at"].replace(microsecond=row["block_at"].microsecond // 1000)
    return {
        (row["account"], row["event_key"]): {k: v for k, v in row.items() if v is not None}
        for row in said
    }


# What the other leg may teach: whether it was an auto-deleveraging, and how much is known.
MAY_CHANGE = {"legs_seen", "method", "counterparty_kind", "liquidator"}


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_rows_only_gain_and_end_as_those_of_the_blocks_alone(
    connection: Connection, sim: Simulation, tree: Path, alone: dict[str, Rows],
    order: tuple[str, ...],
) -> None:  # fmt: skip
    rng = random.Random(repr(order))
    before: dict[tuple[Any, ...], dict[str, Any]] = {}
    for source in order:
        match source:
            case "archive":
                assert sync.backfill(connection, str(tree)).faults == []
            case "api":
                take_api(connection, told(sim, rng, 0.5))
            case "stream":
                take_stream(connection, told(sim, rng, 0.6))
        after = known(connection)
        lost = {
            (key, name)
            for key, row in before.items() for name, value in row.items()
            if after.get(key, {}).get(name) != value and name not in MAY_CHANGE
        }  # fmt: skip
        assert lost == set()
        before = after

    found = everything(connection)
    assert {name for name in alone if found[name] != alone[name]} <= {"raw"}
    assert [key for _, key, *_ in found["raw"]] == [key for _, key, *_ in alone["raw"]]


def test_samples_alone_make_rows_of_one_leg_and_of_both(
    connection: Connection, sim: Simulation
) -> None:
    take_api(connection, told(sim, random.Random(1), 0.5))

    assert rows(connection, "SELECT DISTINCT legs_seen FROM ledger.liquidation") == [
        ("both",), ("counterparty",), ("liquidated",)
    ]  # fmt: skip
    assert rows(connection, "SELECT * FROM ledger.account_day") == []


def marked(sim: Simulation) -> Told:
    """A leg of a market liquidation."""
    return next(
        Told(user, json.dumps(one).encode())
        for block in sim.blocks for user, one in block.events
        if one.get("liquidation", {}).get("method") == "market"
        and one["liquidation"]["liquidatedUser"] == user
    )  # fmt: skip


def lie(one: Told, **fields: Any) -> Told:
    return Told(one.user, json.dumps({**json.loads(one.fill), **fields}).encode())


LIES: dict[str, dict[str, Any]] = {
    "another price": {"px": "1.5"},
    "a trade that was none": {"tid": 77},
    "no trade id": {"tid": None},
    "a coin that was not traded": {"coin": "NEVER"},
    "a height that nothing names": {"hash": "0x" + 64 * "0"},
}


@pytest.mark.parametrize("said", LIES.values(), ids=LIES)
def test_what_a_sample_says_wrongly_is_taken_back_when_the_block_is_read(
    connection: Connection, sim: Simulation, tree: Path, alone: dict[str, Rows],
    said: dict[str, Any],
) -> None:  # fmt: skip
    take_stream(connection, [lie(marked(sim), **said)])

    tally = sync.backfill(connection, str(tree))

    assert everything(connection) == alone
    assert len(tally.faults) == (0 if "hash" in said else 1)


@pytest.mark.parametrize("said", LIES.values(), ids=LIES)
def test_where_a_block_was_read_a_sample_changes_nothing(
    connection: Connection, sim: Simulation, tree: Path, alone: dict[str, Rows],
    said: dict[str, Any],
) -> None:  # fmt: skip
    sync.backfill(connection, str(tree))

    faults = Sampler(connection).take(list(block_lines([lie(marked(sim), **said)], "stream")))

    assert everything(connection) == alone
    assert len(faults) == 1


def test_a_record_of_the_api_that_was_read_from_a_file_is_a_sample_too(
    connection: Connection, real_data: Path
) -> None:
    file = real_data / "hyperliquid" / "api_userFills_liquidator_vault_backstop.json"

    sync.backfill(connection, str(file), account=VAULT)

    assert rows(connection, "SELECT is_sample FROM liq.sources") == [(True,)]


def test_holes_are_those_of_blocks_and_those_of_listening(
    connection: Connection, sim: Simulation, tree: Path
) -> None:
    lines = (next(tree.rglob("hourly/*/*"))).read_text().splitlines(keepends=True)
    cut = tree.parent / "node_fills_by_block_cut"
    cut.write_text("".join([*lines[:40], *lines[60:]]))
    sync.backfill(connection, str(cut))
    hole = rows(
        connection, "SELECT after_at, before_at FROM liq.missing WHERE facts = 'liquidations'"
    )
    now = datetime.now(UTC)

    assert [tuple(span) for span in samples.holes(connection, None, now)] == hole
    assert set(samples.VAULTS) <= set(
        samples.around(connection, samples.holes(connection, None, now))
    )


# -- the command


def test_the_command_asks_for_a_watch_list_and_says_that_it_is_a_sample(
    indexer: Command, connection: Connection, exchange: Exchange, real_data: Path, tmp_path: Path
) -> None:
    fills = recorded(real_data, "api_userFills_liquidator_vault_backstop.json")
    exchange.fills[VAULT] = sorted(
        ({**one, "time": one["time"] - 30 * 86_400_000} for one in fills),
        key=lambda one: int(one["time"]),
    )
    (tmp_path / "whales.txt").write_text(f"# mine\n{VAULT.upper().replace('0X', '0x')} the vault\n")

    done = indexer(
        "fills", "--watch-list", "whales.txt", "--since", "2026-01-01",
        HYPERLIQUID_API=exchange.url,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (
        0,
        "1 account, 0 failed, 5 fills; 2 liquidations among them, 0 undecoded. A sample: it covers"
        " no blocks\n",
    ), done.stderr
    total = indexer("total", "--window", "2026-07-01..2026-08-01").stdout
    assert "complete: every block" not in total
    assert re.findall("coverage of hyperliquid: [^,]*", total) == [
        "coverage of hyperliquid: 0.00 % of the window read"
    ]  # fmt: skip
    assert [line.split() for line in indexer("status").stdout.splitlines()] == [
        ["venue", "source", "accounts", "from", "to", "(UTC)", "pieces", "lacking", "read", "as"],
        ["hyperliquid", "api", "userFillsByTime", "1", "2026-01-01", "00:00:00",
         *f"{datetime.now(UTC):%Y-%m-%d}".split(), *indexer_time(connection), "1", "0", "sample"],
    ]  # fmt: skip


def indexer_time(connection: Connection) -> list[str]:
    """The time of day until which a sample was taken."""
    return [
        f"{last_at:%H:%M:%S}" for (last_at,) in rows(connection, "SELECT last_at FROM liq.samples")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say whose: 0x…, --watch-list FILE, --liquidator-vaults or --holes"),
        (["0x12"], "'0x12' is no address"),
        ([ACCOUNT, "--since", "yesterday"], "'yesterday' is no time"),
        ([ACCOUNT, "--since", "1969-01-01"], "--since is before there was the exchange"),
        ([ACCOUNT, "--since", "2090-01-01"], "--since is still to come"),
        ([ACCOUNT, "--since", "99999d"], "longer ago than there are fills"),
        ([ACCOUNT, "--since", "2026-01-02", "--until", "2026-01-01"], "--until is before --since"),
        ([ACCOUNT, "--until", "1h", "--every", "5m"], "--until ends what --every goes on with"),
    ],
)
def test_wrong_words_are_refused_with_a_hint(
    quick_indexer: Command, words: list[str], said: str
) -> None:
    done = quick_indexer("fills", *words, HYPERLIQUID_API="http://127.0.0.1:9")

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_watch_list_with_something_else_in_it_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{ACCOUNT}\n\n{OTHER}, whale\nvitalik.eth\n")

    with pytest.raises(ConfigError, match=r"list\.txt:4: 'vitalik\.eth' does not begin with an ad"):
        watch_list(path)


def test_an_exchange_that_refuses_is_one_line_and_exit_code_1(
    quick_indexer: Command, exchange: Exchange
) -> None:
    exchange.play(Http(status=403), times=9)

    done = quick_indexer("fills", ACCOUNT, "--since", "24h", HYPERLIQUID_API=exchange.url)

    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "the key is refused; see HYPERLIQUID_API" in done.stderr


def test_the_examples_of_the_docs_run(indexer: Command, exchange: Exchange) -> None:
    page = (Path(__file__).parents[1] / "docs" / "hyperliquid-without-a-node.md").read_text()
    lines = re.findall(r"^indexer (.+)$", page, re.MULTILINE)

    done = [indexer(*line.split(), HYPERLIQUID_API=exchange.url) for line in lines]

    assert len(lines) == 3
    assert [(run.args[3:], run.stderr) for run in done if run.returncode != 0] == []
