"""Transport and envelope: what of an answer is believed, where the next request goes, no keys."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3
from web3.exceptions import Web3RPCError

from indexer.errors import ConfigError
from indexer.evm_model import BlockRef
from indexer.sources import refusals, rpc, wire
from indexer.sources.chains import BY_NAME
from indexer.sources.endpoints import BlockUnknown, Budget, Endpoints, NoAnswer, NotServed
from indexer.sources.evm import EvmSource
from indexer.sources.rpc import CheckedProvider, Clock
from tests.rpc_proxy import WANTED, Chain, FakeClock, Http, Node, plays

ANVIL = BY_NAME["anvil"]
HTML = b"<html>error 1015</html>"
CANARY = "c4naryKEYc4naryKEYc4naryKEY"


@pytest.fixture
def source(node: Node, clock: FakeClock) -> Iterator[EvmSource]:
    """One endpoint; its chain id is proved, so that scripts meet the next request."""
    with closing(EvmSource(ANVIL, [node.url], clock=clock.clock)) as source:
        source.chain_id()
        yield source


@pytest.fixture
def pair(node: Node, second: Node, clock: FakeClock) -> Iterator[EvmSource]:
    """Two endpoints of one chain."""
    with closing(EvmSource(ANVIL, [node.url, second.url], clock=clock.clock)) as source:
        source.chain_id()
        yield source


# transport


@plays("T01", "HTTP 429 with Retry-After: 7", "wait so long, then ask the same endpoint again")
def test_T01_retry_after_in_seconds_is_waited_for(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    node.http(Http(status=429, headers={"Retry-After": "7"}))
    assert source.header(3).number == 3
    assert 7.0 <= sum(clock.slept) < 8.0


def test_T01_retry_after_as_a_date_is_capped(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    node.http(Http(status=429, headers={"Retry-After": "Sat, 16 Jan 2027 08:00:00 GMT"}))
    assert len(source.headers([3])) == 1
    assert 120.0 <= sum(clock.slept) < 133.0


def test_T01_another_endpoint_is_asked_at_once(
    pair: EvmSource, node: Node, second: Node, clock: FakeClock
) -> None:
    node.http(Http(status=429, headers={"Retry-After": "100"}))
    assert pair.header(3).number == 3
    assert pair.header(4).number == 4
    assert (clock.slept, second.count("eth_getBlockByNumber")) == ([], 2)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32005, "limit exceeded"),
        (429, "slow down"),
        (-32007, "50/second limit"),
        (-32009, "50/second limit"),
        (-32029, "quota"),
        (None, "Too many requests"),
        (-32000, "Your app has exceeded its compute units per second capacity"),
        (-32000, "daily request limit reached"),
    ],
)
@plays("T02", "a rate limit as an error in HTTP 200, by code or by text", "as T01")
def test_T02_a_rate_limit_inside_a_reply_cools_the_endpoint(
    source: EvmSource, node: Node, clock: FakeClock, code: int | None, message: str
) -> None:
    node.error(code, message, "eth_getBlockByNumber")
    assert source.header(3).number == 3
    assert len(clock.slept) == 1


@plays("T03", "HTTP 503 with an HTML body", "ask another endpoint; the body is never shown")
def test_T03_a_server_error_moves_the_request(
    pair: EvmSource, node: Node, second: Node, clock: FakeClock
) -> None:
    node.http(Http(HTML, 503, {"Content-Type": "text/html"}))
    assert pair.header(3).number == 3
    assert (clock.slept, second.count("eth_getBlockByNumber")) == ([], 1)


def test_T03_the_error_names_every_endpoint_and_no_body(source: EvmSource, node: Node) -> None:
    node.http(Http(HTML, 503), times=100)
    with pytest.raises(NoAnswer, match=r"^anvil: block 3: 127\.0\.0\.1 #1: HTTP 503$"):
        source.header(3)


@plays("T04", "HTTP 200 with an HTML page", "a transport failure: ask again")
def test_T04_a_page_instead_of_json_is_no_answer(source: EvmSource, node: Node) -> None:
    node.http(Http(HTML, 200, {"Content-Type": "text/html"}))
    assert source.header(3).number == 3


@plays("T05", "a port where nobody listens", "another endpoint; TLS is never weakened")
def test_T05_a_refused_connection_moves_the_request(node: Node, clock: FakeClock) -> None:
    urls = ["http://127.0.0.1:1", "https" + node.url.removeprefix("http"), node.url]
    with closing(EvmSource(ANVIL, urls, clock=clock.clock)) as source:
        assert source.header(3).number == 3
        faults = [dict(one.faults) for one in source.endpoints.all]
    assert faults == [{"Unreachable": 1}, {"Unreachable": 1}, {}]


@plays("T06", "eth_getLogs times out twice (HTTP 504)", "once more, then fewer blocks")
def test_T06_two_timeouts_halve_the_range(source: EvmSource, node: Node, clock: FakeClock) -> None:
    node.http(Http(status=504), "eth_getLogs", times=2)
    found = source.some_logs(WANTED, 0, 40)
    assert (found.block_to, len(found.logs)) == (20, 14)
    assert clock.slept == []


def test_T06_silence_on_the_line_is_a_timeout(
    pair: EvmSource, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "SILENT_SECONDS", 0.05)
    node.http(Http(b"{}", late=0.2, cut=0), "eth_getBlockByNumber")
    assert pair.header(3).number == 3
    assert pair.endpoints.all[0].faults == {"TimedOut": 1}


@plays("T07", "the connection is cut inside the body", "the whole request again")
def test_T07_a_cut_answer_is_asked_again(source: EvmSource, node: Node, chain: Chain) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": chain.blocks[3]}).encode()
    node.http(Http(body, cut=60), "eth_getBlockByNumber")
    assert source.header(3) == chain.ref(3)
    assert node.count("eth_getBlockByNumber") == 2


@plays("T08", "broken JSON of the announced length", "as T04")
def test_T08_broken_json_is_no_answer(source: EvmSource, node: Node, chain: Chain) -> None:
    node.http(Http(b'{"jsonrpc":"2.0","id":0,"result":"'))
    assert source.header(3) == chain.ref(3)


@plays("T09", "an answer beyond the byte cap", "stop reading, ask for fewer blocks")
def test_T09_an_endless_answer_is_too_large(
    source: EvmSource, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "BODY_BYTES", 50_000)
    node.http(Http(b" " * 60_000), "eth_getLogs")
    found = source.some_logs(WANTED, 0, 40)
    assert (found.block_to, len(found.logs)) == (20, 14)


@plays("T10", "a redirect to another host", "not followed; the endpoint is not used any more")
def test_T10_a_redirect_ends_an_endpoint(source: EvmSource, node: Node, second: Node) -> None:
    node.http(Http(status=307, headers={"Location": second.url}))
    with pytest.raises(NotServed, match="HTTP 307, a redirect"):
        source.header(3)
    assert second.posts == 0


# envelope


@plays("T11", "an answer with the id of another request", "discarded; ask elsewhere")
def test_T11_a_response_with_a_foreign_id_is_discarded(
    pair: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda reply: {**reply, "id": 987654, "result": chain.forked(3).blocks[3]})
    assert pair.header(3) == chain.ref(3)
    assert pair.endpoints.all[0].faults == {"Untrue": 1}


@pytest.mark.parametrize("number", ["0", 0.0, True, None])
def test_T11_an_id_must_be_equal_in_type_too(
    source: EvmSource, node: Node, chain: Chain, number: object
) -> None:
    node.edit(lambda reply: {**reply, "id": number})
    assert source.header(3) == chain.ref(3)
    assert node.count("eth_getBlockByNumber") == 2


@plays("T12", "a batch answered in reverse order", "legal: matched by id")
def test_T12_a_batch_in_another_order_is_matched_by_id(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda replies: replies[::-1])
    assert source.headers([3, 4, 5]) == [chain.ref(3), chain.ref(4), chain.ref(5)]
    assert node.count("eth_getBlockByNumber") == 3


@plays("T13", "2 answers to a batch of 3", "the missing one is asked again")
def test_T13_missing_batch_members_are_asked_again(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda replies: replies[:2])
    assert source.headers([3, 4, 5]) == [chain.ref(3), chain.ref(4), chain.ref(5)]
    assert node.asked[-1] == ("eth_getBlockByNumber", ["0x5", False])


@plays("T14", "a batch answered with foreign ids", "the whole batch is discarded")
def test_T14_a_batch_with_foreign_ids_is_discarded(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda replies: [*replies[:2], {**replies[2], "id": 777}])
    assert source.headers([3, 4, 5]) == [chain.ref(3), chain.ref(4), chain.ref(5)]
    assert node.count("eth_getBlockByNumber") == 6


def test_T14_a_batch_with_one_id_twice_is_discarded(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda replies: [*replies, {**replies[0], "result": chain.blocks[9]}])
    assert source.headers([3, 4, 5]) == [chain.ref(3), chain.ref(4), chain.ref(5)]


@plays("T15", "one error object for a batch", "half the batch, remembered for this endpoint")
def test_T15_a_refused_batch_gets_smaller(source: EvmSource, node: Node, chain: Chain) -> None:
    refused = {"id": None, "error": {"code": -32005, "message": "batch too large"}}
    node.edit(lambda replies: refused, times=2)
    assert source.headers(list(range(8))) == [chain.ref(number) for number in range(8)]
    assert source.endpoints.all[0].batch_calls == 2


@pytest.mark.parametrize(
    "members",
    [
        {"result": None, "error": None},
        {},
        {"result": "0x1", "error": {"code": -32000, "message": "no"}},
    ],
)
@plays("T16", "both result and error, or neither", "discarded; never read as no data")
def test_T16_an_answer_is_a_result_or_an_error(
    source: EvmSource, node: Node, chain: Chain, members: dict[str, object]
) -> None:
    node.edit(lambda reply: {"jsonrpc": "2.0", "id": reply["id"], **members})
    assert source.header(3) == chain.ref(3)
    assert source.endpoints.all[0].faults == {"Untrue": 1}


def test_T16_error_null_beside_a_result_is_tolerated(
    source: EvmSource, node: Node, chain: Chain
) -> None:
    node.edit(lambda reply: {**reply, "error": None})
    assert source.header(3) == chain.ref(3)
    assert node.count("eth_getBlockByNumber") == 1


@plays("T18", "an endpoint of another chain", "not used any more; an error when none is left")
def test_T18_another_chain_is_excluded(chain: Chain, node: Node, clock: FakeClock) -> None:
    with ExitStack() as stack:
        wrong = stack.enter_context(Node(chain, chain_id=56))
        source = stack.enter_context(
            closing(EvmSource(ANVIL, [wrong.url, node.url], clock=clock.clock))
        )
        assert source.header(3) == chain.ref(3)
        assert wrong.asked == [("eth_chainId", [])]


def test_T18_without_a_right_chain_the_error_says_which(chain: Chain, clock: FakeClock) -> None:
    expected = (
        r"anvil: no endpoint left, correct RPC_ANVIL: "
        r"127\.0\.0\.1 #1 serves chain 56, not 31337 \(anvil\)"
    )
    with ExitStack() as stack:
        wrong = stack.enter_context(Node(chain, chain_id=56))
        source = stack.enter_context(closing(EvmSource(ANVIL, [wrong.url], clock=clock.clock)))
        with pytest.raises(NotServed, match=expected):
            source.head()


def test_T18_the_chain_is_looked_at_again_after_ten_minutes(
    source: EvmSource, node: Node, clock: FakeClock
) -> None:
    clock.sleep(601)
    node.chain_id = 56
    with pytest.raises(NotServed, match="serves chain 56"):
        source.header(3)


@plays("T19", "error -32601 for eth_getBlockReceipts", "remembered; receipts one by one")
def test_T19_a_missing_method_has_a_substitute(source: EvmSource, node: Node, chain: Chain) -> None:
    node.error(-32601, "the method eth_getBlockReceipts does not exist", "eth_getBlockReceipts")
    assert [len(one.logs) for one in source.receipts(chain.ref(3))] == [2]
    assert [len(one.logs) for one in source.receipts(chain.ref(6))] == [2]
    assert node.count("eth_getBlockReceipts") == 1


@pytest.mark.parametrize(
    "answer",
    [
        Http(status=402),
        Http(b'{"id":1,"error":{"code":429,"message":"Monthly capacity limit exceeded"}}', 429),
    ],
)
@plays("T20", "HTTP 402, or 429 with a text about the month", "not used any more")
def test_T20_a_used_up_quota_ends_an_endpoint(
    pair: EvmSource, node: Node, chain: Chain, answer: Http
) -> None:
    node.http(answer)
    assert pair.header(3) == chain.ref(3)
    assert pair.endpoints.all[0].disabled is not None


@pytest.mark.parametrize("status", [401, 403])
@plays("T21", "HTTP 401 or 403", "not used any more, not even tried again")
def test_T21_a_refused_key_ends_an_endpoint(
    source: EvmSource, node: Node, clock: FakeClock, status: int
) -> None:
    node.http(Http(status=status))
    with pytest.raises(NotServed, match=f"HTTP {status}, the key is refused"):
        source.header(3)
    assert (node.count("eth_getBlockByNumber"), clock.slept) == (1, [])


@plays("T24", "the head goes backwards between two polls", "the lower head is ignored")
def test_T24_a_lower_head_is_ignored(source: EvmSource, node: Node, chain: Chain) -> None:
    assert source.head() == chain.ref(39)
    node.result(chain.blocks[30], "eth_getBlockByNumber")
    assert source.head() == chain.ref(39)


@pytest.mark.parametrize("said", ["0x003", 3, "0X3"])
@plays("T26", "numbers as 0x003, 0X3 or 3; null or a decimal text", "equal values are taken")
def test_T26_odd_but_equal_numbers_are_taken(
    source: EvmSource, node: Node, chain: Chain, said: object
) -> None:
    node.edit_result(lambda block: {**block, "number": said}, "eth_getBlockByNumber")
    assert source.header(3) == chain.ref(3)
    assert node.count("eth_getBlockByNumber") == 1


@pytest.mark.parametrize(
    "said", ["3", None, "0x", "-0x3", "0x_3", " 0x3", 3.0, "0xfffffffffffffff3"]
)
def test_T26_other_numbers_are_refused(
    source: EvmSource, node: Node, chain: Chain, said: object
) -> None:
    node.edit_result(lambda block: {**block, "number": said}, "eth_getBlockByNumber")
    assert source.header(3) == chain.ref(3)
    assert node.count("eth_getBlockByNumber") == 2


# wordings

RANGES = [
    ("Log response size exceeded. this block range should work: [0x64, 0xc7]", -32602, 100),
    ("you can make eth_getLogs requests with up to a 10 block range", None, 10),
    ("query returned more than 10000 results. Try with this block range [0x64, 0x6d].", -32005, 10),
    ("Query returned more than 99 results. Try with this block range [0x64, 0x6d]", None, 10),
    ("Try with this block range [0x64, 0x6d]", None, 10),
    ("Maximum allowed number of requested blocks is 500", None, 500),
    ("eth_getLogs is limited to a 500 range", -32614, 500),
    ("eth_getLogs is limited to a 500 blocks range", None, 500),
    ("response size should not greater than 10000000 bytes", None, 50_000),
    ("eth_getLogs is limited to a 10,000 range", None, 10_000),
    ("exceeds the range allowed for your plan (100000 > 500)", None, 50_000),
    ("eth_getLogs is limited to 1024 block range", None, 1024),
    ("block range is too wide", -32600, 3_000),
    ("query exceeds max results 20000", None, 50_000),
    ("maximum [from, to] blocks distance: 500", None, 500),
    ("query exceeds max results 20000, retry with the range 100-609", -32602, 510),
    ("query exceeds max block range 500", -32602, 500),
    ("Response is too big (Exceeded max limit of 83886080)", -32602, 50_000),
    ("requested too many blocks from 100 to 100099, maximum is set to 2048", -32000, 2048),
    ("ranges over 500 blocks are not supported on freetier", None, 500),
    ("Block range limit exceeded.", None, 10_000),
    ("Max range: 800", None, 800),
    ("please limit the query to at most 500 blocks", None, 500),
    ("exceed maximum block range: 50000", None, 50_000),
    ("block range too large", -32020, 2_000),
    ("no backend is currently healthy to serve traffic", -32020, 50_000),
    ("Block range is too large", None, 50_000),
    ("backend response too large", None, 50_000),
    ("logs matched by query exceeds limit of 10000", None, 50_000),
    ("query returned more than 10000 results", None, 50_000),
    ("exceed maximum block range: 5000", -32005, 5_000),
    ("Too many logs requested. Max logs per response is 20000.", -32005, 50_000),
    ("query exceeds limit 10000", -32000, 50_000),
    ("Requested range exceeds maximum RPC range limit", None, 5_000),
    ("allowed block range threshold exceeded", None, 50_000),
    ("block range too large (2000), maximum allowed is 1000 blocks", None, 1_000),
    ("requested range too large", -32012, 50_000),
    ("block range exceeds 1000", None, 1_000),
    ("block range greater than 1000 max", None, 1_000),
    ("eth_getLogs range is too large, max is 10k blocks", None, 10_000),
    ("eth_getLogs range is too large, max is 1k blocks", None, 1_000),
    ("query must be smaller than size 1024", None, 1_024),
    ("block range is too wide (maximum 1024)", None, 1_024),
    ("up to a 2000 block range", None, 2_000),
    ("exceed max block range: 5000", None, 5_000),
    ("More than 50000 logs returned", None, 50_000),
    ("too wide blocks range, the limit is 500", -32000, 500),
    ("request timed out", -32002, 50_000),
    ("408 Request Timed Out", -32002, 50_000),
]


@pytest.mark.parametrize(("message", "code", "width"), RANGES)
@plays("L08", "49 wordings of a range or size limit", "the hint as a width, else half")
def test_L08_a_known_wording_gives_the_next_width(
    message: str, code: int | None, width: int
) -> None:
    refusal = refusals.read(code, message)
    assert refusal.kind in ("too_wide", "too_many")
    assert refusal.width(100, 100_100) == width


MISSING = [
    *("missing trie node", "header not found", "could not find block", "unknown block"),
    *("Unknown block", "height must be less than or equal", "invalid blockhash finalized"),
    *("Expect block number from id", "block not found", "Block not found"),
    *("block height passed is invalid", "cannot query unfinalized", "height is not available"),
    *("genesis is not traceable", "could not find FinalizeBlock", "no historical rpc"),
    *("blocks specified in filter cannot be found", "transaction not found"),
    *("cannot find transaction", "after last accepted block", "No state available"),
    *("historical state 0xab is not available", "trie does not", "greater than latest"),
    *("not currently canonical", "requested data is not available", "invalid block range"),
    "block range extends beyond current head block",
]


@pytest.mark.parametrize("message", MISSING)
@plays("B09", "28 texts for: this endpoint lacks the block", "rotate, wait, then an error")
def test_B09_a_text_for_missing_data_is_not_no_data(message: str) -> None:
    assert refusals.read(-32000, message).kind == "missing"


# keys


def everything(error: BaseException) -> str:
    """All that an exception shows or holds, causes included."""
    held = [error, error.__cause__, error.__context__]
    shown = [f"{one!s} {one!r} {one.args!r} {vars(one)!r}" for one in held if one is not None]
    return "\n".join([*shown, *traceback.format_exception(error)])


@pytest.mark.parametrize(
    "answer",
    [
        Http(HTML, 503),
        Http(HTML, 200),
        Http(b"{}", cut=1),
        Http(status=401),
        Http(status=301, headers={"Location": f"http://elsewhere/{CANARY}"}),
        Http(
            b'{"jsonrpc":"2.0","id":null,"error":'
            b'{"code":-32600,"message":"Must be authenticated! key /v2/%b?k=s3cretQUERY"}}'
            % CANARY.encode()
        ),
        Http(b'{"id":null,"error":{"code":-1,"message":"%b"}}' % CANARY.lower().encode(), 500),
    ],
)
@plays("T17", "an error text that quotes the URL with its key", "scrubbed before it is shown")
def test_T17_no_error_log_or_repr_holds_a_key(
    chain: Chain, clock: FakeClock, caplog: pytest.LogCaptureFixture, answer: Http
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        node = stack.enter_context(Node(chain, path=f"/v2/{CANARY}?k=s3cretQUERY"))
        source = stack.enter_context(closing(EvmSource(ANVIL, [node.url], clock=clock.clock)))
        node.http(answer, times=1_000)
        with pytest.raises((NoAnswer, NotServed)) as caught:
            source.head()
        endpoint = source.endpoints.all[0]
        seen = f"{everything(caught.value)} {endpoint!r} {endpoint._provider!r} {endpoint.disabled}"
    seen += caplog.text
    assert CANARY.lower() not in seen.lower()
    assert "s3cretquery" not in seen.lower()


@plays("S01", "a connection error of requests, which holds the URL", "our own error without it")
def test_S01_a_transport_error_holds_no_key(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://user:p4ssw0rdp4ss@127.0.0.1:1/{CANARY}"
    with (
        closing(EvmSource(ANVIL, [url], clock=clock.clock)) as source,
        pytest.raises(NoAnswer) as caught,
    ):
        source.head()
    seen = everything(caught.value) + caplog.text
    assert (CANARY in seen, "p4ssw0rdp4ss" in seen) == (False, False)


@plays("S02", "urllib3 writes the path of the URL at DEBUG", "a filter cleans its records")
def test_S02_library_logs_hold_no_key(
    chain: Chain, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        node = stack.enter_context(Node(chain, path=f"/v2/{CANARY}"))
        source = stack.enter_context(closing(EvmSource(ANVIL, [node.url], clock=clock.clock)))
        source.head()
    assert '"POST ***' in caplog.text
    assert CANARY not in caplog.text


def test_a_key_in_a_host_name_is_hidden_too() -> None:
    provider = CheckedProvider(f"https://{CANARY}0123.rpc.example/", 2, Clock())
    assert str(provider) == "***.rpc.example #2"
    provider.close()


# one provider for web3 too


def test_web3_reads_through_the_checked_provider(node: Node, clock: FakeClock) -> None:
    provider = CheckedProvider(node.url, 1, clock.clock)
    assert Web3(provider).eth.chain_id == 31337
    node.error(3, "execution reverted: no", "eth_chainId")
    with pytest.raises(Web3RPCError, match="execution reverted: no"):
        Web3(provider).eth.chain_id  # noqa: B018  # it asks
    provider.close()


# budgets, order, settings


def test_a_budget_per_second_paces_the_requests(node: Node, clock: FakeClock) -> None:
    with closing(
        EvmSource(ANVIL, [node.url], budget=Budget(per_second=4), clock=clock.clock)
    ) as source:
        source.head()
        source.headers([1, 2, 3])
        source.head()
    assert clock.slept == [0.25, 0.25, 0.75]


def test_a_used_up_budget_of_the_day_ends_in_an_error(node: Node, clock: FakeClock) -> None:
    with closing(
        EvmSource(ANVIL, [node.url], budget=Budget(per_day=3), clock=clock.clock)
    ) as source:
        source.headers([1, 2])
        with pytest.raises(NoAnswer, match="the budget of requests for today is used up"):
            source.head()
    assert node.count("eth_getBlockByNumber") == 2


def test_the_fastest_endpoint_is_asked(pair: EvmSource, node: Node, second: Node) -> None:
    pair.endpoints.all[0].latency_seconds = 5.0
    pair.header(3)
    assert (node.count("eth_getBlockByNumber"), second.count("eth_getBlockByNumber")) == (0, 1)


def test_no_endpoint_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="zksync-era: no endpoint; set RPC_ZKSYNC_ERA"):
        Endpoints("zksync-era", 324, [])


def test_an_address_of_another_kind_is_an_error_without_the_address() -> None:
    with pytest.raises(ConfigError, match=r"^RPC_ANVIL: address 2 is not http:// or https://$"):
        Endpoints("anvil", 31337, ["http://a", f"wss://b/{CANARY}"])


def test_an_unknown_block_is_told_from_a_broken_endpoint(source: EvmSource) -> None:
    with pytest.raises(BlockUnknown, match=r"block 99: 127\.0\.0\.1 #1: block 99 is null"):
        source.header(99)


def test_a_header_becomes_a_noun(source: EvmSource, chain: Chain) -> None:
    assert source.header(3) == BlockRef(
        chain="anvil",
        number=3,
        hash=chain.blocks[3]["hash"],
        parent_hash=chain.blocks[2]["hash"],
        time=1_700_000_036,
    )


@given(st.lists(st.one_of(st.binary(max_size=70), st.binary(min_size=250, max_size=300))))
def test_a_list_of_bytes_is_encoded_as_the_library_encodes_it(items: list[bytes]) -> None:
    assert wire.rlp_list(items) == rlp.encode(items)
