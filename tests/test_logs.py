"""Lines on stderr: a step is one line of pairs, of text or of JSON, and none holds a key."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from tenacity import Retrying, before_sleep_log, stop_after_attempt

from indexer import resources
from indexer.cli import logs
from indexer.cli.console import fail, fault, say
from indexer.sources.chains import BY_NAME
from indexer.sources.endpoints import NoAnswer
from indexer.sources.evm import EvmSource
from tests.chain_model.chain import Config, ModelChain
from tests.chain_model.node import Node, comet_of
from tests.conftest import Command
from tests.processes import following, soon, stopped

CANARY = "c4naryKEYc4naryKEYc4naryKEY"
PASSWORD = "p4ss%2Fw0rd-p4ss"
URL = f"https://somebody:{PASSWORD}@rpc.example/ethereum/{CANARY}?api={CANARY}x"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The loggers and hooks as they were."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Lines in the form of the parameter, JSON without one, with secrets to keep."""
    monkeypatch.setenv("RPC_ETHEREUM", f"http://127.0.0.1:1/,{URL}")
    monkeypatch.setenv("HYPERLIQUID_STREAM_KEY", f"{CANARY}-stream")
    logs.begin(getattr(request, "param", "json"))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was said in JSON, without the times."""
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one.pop("at")[-1] for one in found] == ["Z"] * len(found)
    return found


@pytest.mark.usefixtures("begun")
def test_pairs_are_fields_and_other_words_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    say("chain=base to=12 liquidations=3 read_as=logs ms=-4")
    say("chain=base reorg: 2 blocks above 9: a=b")
    say("following base; stop with Ctrl-C")
    say("fault: base: a=b is away")
    fault("it is cut")
    with pytest.raises(SystemExit) as ended:
        fail("that is all")

    ours = {"logger": "indexer"}
    assert ended.value.code == 1
    assert lines(capsys) == [
        {"level": "info", **ours, "chain": "base", "to": 12, "liquidations": 3, "read_as": "logs",
         "ms": -4},
        {"level": "info", **ours, "chain": "base", "message": "reorg: 2 blocks above 9: a=b"},
        {"level": "info", **ours, "message": "following base; stop with Ctrl-C"},
        {"level": "warning", **ours, "message": "base: a=b is away"},
        {"level": "warning", **ours, "message": "it is cut"},
        {"level": "error", **ours, "message": "that is all"},
    ]  # fmt: skip


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("begun", ["text"], indirect=True)
def test_as_text_they_are_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    say("chain=base to=12 ms=4")
    say("fault: [red] it is cut")
    with pytest.raises(SystemExit):
        fail("that is all")

    assert capsys.readouterr().err == (
        "chain=base to=12 ms=4\nfault: [red] it is cut\nindexer: that is all\n"
    )


@pytest.mark.usefixtures("begun")
def test_no_line_takes_another_form_by_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    say('chain=base level=error at=now\nchain=x {"level": "error"} \x1b]0;x\x07')

    assert lines(capsys) == [
        {"level": "info", "logger": "indexer", "chain": "base",
         "message": 'level=error at=now\nchain=x {"level": "error"} ]0;x'},
    ]  # fmt: skip


FORMS = (
    URL, CANARY, CANARY.upper(), PASSWORD, "p4ss/w0rd-p4ss", f"{CANARY}x", quote(URL, safe=""),
    f"{CANARY}-stream",
)  # fmt: skip


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("begun", ["text", "json"], indirect=True)
@pytest.mark.parametrize("name", ["indexer.cli", "urllib3.connectionpool", "web3.RequestManager"])
def test_no_form_of_a_key_is_written(capsys: pytest.CaptureFixture[str], name: str) -> None:
    logger = logging.getLogger(name)
    for form in FORMS:
        logger.warning("asked %s", form)
        try:
            raise OSError(f"no route to {form}")
        except OSError:
            logger.warning("it failed", exc_info=True)

    said = capsys.readouterr().err.lower()
    assert said.count("asked") == len(FORMS)
    assert [form for form in (CANARY, "p4ss") if form.lower() in said] == []


@pytest.mark.usefixtures("begun")
def test_a_chain_in_an_address_stays_a_chain_in_our_own_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("chain=ethereum to=12")

    assert lines(capsys)[0]["chain"] == "ethereum"


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("begun", ["text", "json"], indirect=True)
def test_libraries_that_say_all_they_know_give_no_key_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://{CANARY}:{PASSWORD}@127.0.0.1:1/{CANARY}?k={CANARY}"
    monkeypatch.setenv("RPC_ETHEREUM", url)
    logs.begin("json")
    for name in ("urllib3", "web3", "requests", "tenacity", "websockets", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    with closing(EvmSource(BY_NAME["ethereum"], [url])) as source:
        policy = Retrying(
            stop=stop_after_attempt(2), reraise=True, sleep=lambda seconds: None,
            before_sleep=before_sleep_log(logging.getLogger("tenacity"), logging.DEBUG, True),
        )  # fmt: skip
        with pytest.raises(NoAnswer):
            policy(source.head)
    logging.getLogger("web3.providers").debug("Making request HTTP. URI: %s", url)

    said = capsys.readouterr().err
    assert ("tenacity" in said, "web3.providers" in said, "urllib3" in said) == (True,) * 3
    assert [word for word in (CANARY.lower(), "p4ss") if word in said.lower()] == []


@pytest.mark.usefixtures("begun")
def test_an_error_that_nobody_caught_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=lambda: print({}[URL]))
    thread.start()
    thread.join()

    (line,) = lines(capsys)
    assert (line["level"], line["message"].splitlines()[0]) == (
        "error", "a fault of the indexer itself:",
    )  # fmt: skip
    assert line["message"].splitlines()[-1] == "KeyError: '***'"


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Node, ModelChain]]:
    chain = ModelChain(Config(seed=3, empty_percent=0))
    chain.mine(40)
    with Node(chain, calls=comet_of(chain)) as found:
        yield found, chain


def test_a_backfill_tells_its_steps_to_programs(
    quick_indexer: Command, node: tuple[Node, ModelChain]
) -> None:
    served, chain = node
    first, end = chain.branch.blocks[0].number, chain.finalized + 1
    words = ("backfill", "ethereum", "--from", first, "--to")

    by_setting = quick_indexer(*words, first + 5, INDEXER_LOG="json", RPC_ETHEREUM=served.url)
    by_option = quick_indexer(*words, end, "--log-format", "json", RPC_ETHEREUM=served.url)
    plain = quick_indexer(*words, end, RPC_ETHEREUM=served.url)

    steps = [json.loads(line) for line in by_option.stderr.splitlines()]
    (last,) = [one for one in steps if "done" in one and one["done"] == one["of"]]
    assert (last["level"], last["logger"], last["chain"]) == ("info", "indexer", "ethereum")
    assert last["events"] > 0
    assert [json.loads(line)["level"] for line in by_setting.stderr.splitlines()] != []
    assert "done=" not in plain.stderr


def test_a_backfill_of_files_tells_each(quick_indexer: Command) -> None:
    done = quick_indexer(
        "backfill", "hyperliquid", "--from", resources.recording(), "--log-format", "json"
    )

    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0
    assert {one["venue"] for one in said if "file" in one} == {"hyperliquid"}
    assert [one["of_bytes"] for one in said if "file" in one and one["of_bytes"] <= 0] == []


def test_a_follower_tells_a_line_of_json_for_each_step(
    conninfo: str, tmp_path: Any, node: tuple[Node, ModelChain]
) -> None:
    served, chain = node
    environment = {"RPC_ETHEREUM": served.url, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    words = ("ethereum", "--log-format", "json")
    with following(conninfo, tmp_path, *words, **environment) as process:
        assert process.stderr
        first = json.loads(process.stderr.readline())
        begun = chain.head.number
        soon(lambda: chain.mine(3) is not None or chain.head.number > begun + 8, 60)
        step: dict[str, Any] = {}
        while "liquidations" not in step:
            step = json.loads(process.stderr.readline())
        rest = stopped(process)

    assert first["message"].startswith("following ethereum: ")
    assert (step["chain"], type(step["to"]), type(step["ms"])) == ("ethereum", int, int)
    assert [json.loads(line)["logger"] for line in rest.splitlines() if line[0] != "{"] == []


def test_another_form_is_told(quick_indexer: Command) -> None:
    by_setting = quick_indexer("status", INDEXER_LOG="xml")
    by_option = quick_indexer("follow", "base", "--log-format", "xml")

    assert (by_setting.returncode, by_setting.stderr) == (
        1, "indexer: INDEXER_LOG is neither text nor json\n",
    )  # fmt: skip
    assert by_option.returncode == 2
    assert "'xml' is not one of 'text', 'json'" in by_option.stderr


def test_a_failure_is_a_line_of_json_too(quick_indexer: Command) -> None:
    done = quick_indexer("definitions", "no/v1", INDEXER_LOG="json")

    said = json.loads(done.stderr)
    assert (done.returncode, said["level"]) == (1, "error")
    assert said["message"].startswith("there is no definition 'no/v1'")
