"""JSON-RPC over HTTP, believed only where the envelope is right; no text of ours holds a key.

Fault                one endpoint gave no usable answer; another may
├── Unreachable      nothing came, or it was cut, or no JSON
│   └── TimedOut     not within the time given
├── RateLimited      later, please
├── Disabled         never again without an operator: key, quota, redirect, wrong chain
├── Untrue           it broke the protocol or contradicts itself or its request
├── Missing          it does not have the block (yet)
│   └── Pruned       it has it no more
├── Unsupported      it does not serve the method
├── TooLarge         fewer blocks, or fewer logs, please
├── TooManyTerms     fewer addresses or topics, please
├── BatchRefused     fewer calls in one request, please
└── Refused          any other error, a revert among them
"""

import logging
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint, RPCResponse

from indexer.sources import refusals
from indexer.sources.refusals import Refusal
from indexer.sources.secrets import Secrets

BODY_BYTES = 64 * 1024 * 1024  # 64 MiB are 70,000 liquidation logs; providers stop at 10,000
READ_BYTES = 256 * 1024
CONNECT_SECONDS = 5.0
SILENT_SECONDS = 20.0  # between two bytes
ANSWER_SECONDS = 60.0  # for a whole answer, however it drips
RETRY_AFTER_SECONDS = 120.0  # the most that a Retry-After is honoured

T = TypeVar("T")


class Clock(NamedTuple):
    """What time is and how to wait; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    utc: Callable[[], float] = time.time


class Fault(Exception):
    """One endpoint gave no usable answer. Never leaves the sources."""


class Unreachable(Fault):
    """Nothing usable came over the wire."""


class TimedOut(Unreachable):
    """No answer in time: a slow endpoint, or too much was asked."""


class RateLimited(Fault):
    """To be asked again after `seconds`, where the endpoint says so."""

    def __init__(self, text: str, seconds: float | None = None, may_be_size: bool = False) -> None:
        super().__init__(text)
        self.seconds = seconds
        self.may_be_size = may_be_size


class Disabled(Fault):
    """Not to be asked again before an operator has done something."""


class Untrue(Fault):
    """The answer cannot be right, so nothing of it is used."""


class Missing(Fault):
    """This endpoint does not have the block."""


class Pruned(Missing):
    """This endpoint has thrown the block away."""


class Unsupported(Fault):
    """This endpoint does not serve the method."""


class TooLarge(Fault):
    """The answer would be too large; the refusal may say what would not be."""

    def __init__(self, text: str, refusal: Refusal) -> None:
        super().__init__(text)
        self.refusal = refusal


class TooManyTerms(Fault):
    """Too many addresses or topics in one filter."""


class Refused(Fault):
    """Any other error. `kind` tells a revert from what nobody knows."""

    def __init__(self, text: str, kind: refusals.Kind) -> None:
        super().__init__(text)
        self.kind = kind


class BatchRefused(Fault):
    """One answer for the whole batch: fewer calls at once, please."""


class Call(NamedTuple):
    """One request; `params` are ready for JSON."""

    method: str
    params: tuple[Any, ...] = ()


class _Error(msgspec.Struct):
    code: int | float | str | None = None
    message: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")  # whatever JSON: a text, an object or null


class _Envelope(msgspec.Struct):
    id: int | float | str | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | str | msgspec.UnsetType | None = msgspec.UNSET


_ONE = msgspec.json.Decoder(_Envelope)
_MANY = msgspec.json.Decoder(list[_Envelope])
_ENCODE = msgspec.json.Encoder().encode
_NULL = b"null"


# These write the path of the URL at DEBUG, or all of it when a header is broken.
_TALKATIVE = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry", "requests")


class CheckedProvider(HTTPProvider):
    """A web3 provider that takes an answer only for the request it belongs to.

    It raises `Fault`s, follows no redirect, retries nothing and knows its URL only in a closure.
    """

    def __init__(self, url: str, number: int, clock: Clock) -> None:
        self._secrets = Secrets(url)
        host = urlsplit(url).hostname or "?"
        self.name = f"{self._secrets.hide(host)} #{number}"
        session = requests.Session()
        super().__init__(self.name, session=session, exception_retry_configuration=None)
        headers = {**self.get_request_headers(), "Accept-Encoding": "gzip, deflate"}
        self._clock = clock
        for logger in _TALKATIVE:
            logging.getLogger(logger).addFilter(self._secrets)

        def post(body: bytes) -> requests.Response:
            return session.post(
                url,
                data=body,
                headers=headers,
                stream=True,
                allow_redirects=False,  # one could carry the key to another host
                timeout=(CONNECT_SECONDS, SILENT_SECONDS),
            )

        self._post = post
        self._close = session.close

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"CheckedProvider({self.name!r})"

    def close(self) -> None:
        """Close its connections and leave the loggers as they were."""
        self._close()
        for logger in _TALKATIVE:
            logging.getLogger(logger).removeFilter(self._secrets)

    def call(self, call: Call) -> msgspec.Raw:
        """The result of one request; raises a Fault."""
        number = next(self.request_counter)
        answer = self._decoded(_ONE, self._exchange(_ENCODE(_request(number, call))))
        return self._result(answer, number)

    def batch(self, calls: Sequence[Call]) -> list[msgspec.Raw | Fault]:
        """The result or the fault of each, in order; members that were left out are asked again.

        Raises a Fault where nothing at all can be used, `BatchRefused` where fewer would do."""
        numbers = {next(self.request_counter): at for at, call in enumerate(calls)}
        results: list[msgspec.Raw | Fault | None] = [None] * len(calls)
        while numbers:
            open_calls = [_request(number, calls[at]) for number, at in numbers.items()]
            answers = self._batch_answers(self._exchange(_ENCODE(open_calls)), set(numbers))
            for answer in answers:
                at = numbers.pop(_whole(answer.id))
                try:
                    results[at] = self._result(answer, _whole(answer.id))
                except Fault as fault:
                    results[at] = fault
        return [result for result in results if result is not None]

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """What web3 itself asks, checked as well; a revert reaches web3 as the error it was."""
        number = next(self.request_counter)
        body = self._exchange(_ENCODE(_request(number, Call(method, tuple(params)))))
        answer = self._decoded(_ONE, body)
        try:
            result = msgspec.json.decode(self._result(answer, number))
        except Refused as fault:
            error: Any = {"code": -32000, "message": str(fault)}
            return {"jsonrpc": "2.0", "id": number, "error": error}
        return {"jsonrpc": "2.0", "id": number, "result": result}

    def make_batch_request(
        self, batch_requests: list[tuple[RPCEndpoint, Any]]
    ) -> list[RPCResponse] | RPCResponse:
        """As `make_request`, one by one: web3 would pair answers and requests by their order."""
        return [self.make_request(method, params) for method, params in batch_requests]

    def _exchange(self, body: bytes) -> bytes:
        """One POST. Faults are raised outside the handlers: a library's exception holds the URL."""
        fault: Fault
        try:
            with self._post(body) as response:
                answer = self._read(response)
                if response.status_code == HTTPStatus.OK:
                    return answer
                fault = self._status_fault(response, answer)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            fault = TimedOut(type(error).__name__)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            fault = Unreachable(type(error).__name__)
        except Fault as error:
            fault = error
        raise fault

    def _read(self, response: requests.Response) -> bytes:
        deadline = self._clock.now() + ANSWER_SECONDS
        body = bytearray()
        while data := response.raw.read1(READ_BYTES, decode_content=True):
            body += data
            if len(body) > BODY_BYTES:
                raise TooLarge(f"more than {BODY_BYTES} bytes", Refusal("too_many"))
            if self._clock.now() > deadline:
                raise TimedOut(f"not complete after {ANSWER_SECONDS:.0f} s")
        return bytes(body)

    def _status_fault(self, response: requests.Response, body: bytes) -> Fault:
        """Some answer with a JSON-RPC error and a status; the error says more, if we know it."""
        status = response.status_code
        text = f"HTTP {status}"
        if 300 <= status < 400:
            return Disabled(f"{text}, a redirect; give the address it leads to")
        try:
            said = self._refusal_fault(_ONE.decode(body).error)
        except msgspec.MsgspecError:
            said = None
        known = said if not isinstance(said, Refused) else None
        match status:
            case _ if isinstance(known, Disabled):
                return known
            case HTTPStatus.TOO_MANY_REQUESTS:
                return RateLimited(text, self._retry_after(response))
            case _ if known is not None:
                return known
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return Disabled(f"{text}, the key is refused")
            case HTTPStatus.PAYMENT_REQUIRED:
                return Disabled(f"{text}, the quota is used up")
            case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                return TooManyTerms(text)
            case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.GATEWAY_TIMEOUT | 524:  # 524: Cloudflare
                return TimedOut(text)
            case _:
                return Unreachable(text)

    def _retry_after(self, response: requests.Response) -> float | None:
        """Seconds from now, RFC 9110 section 10.2.3: a number or a date. Capped."""
        said = response.headers.get("Retry-After", "").strip()
        if said.isdecimal():
            seconds = float(said)
        else:
            try:
                seconds = parsedate_to_datetime(said).timestamp() - self._clock.utc()
            except ValueError:
                return None
        return min(max(seconds, 0.0), RETRY_AFTER_SECONDS)

    def _decoded(self, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            fault: Fault = Untrue("not a JSON-RPC answer")
        except msgspec.DecodeError:
            fault = Unreachable("no JSON in the answer")
        raise fault

    def _batch_answers(self, body: bytes, numbers: set[int]) -> list[_Envelope]:
        if body.lstrip()[:1] == b"{":
            answer = self._decoded(_ONE, body)
            fault = self._refusal_fault(answer.error)
            if fault is None or isinstance(fault, Refused | TooLarge | Unsupported):
                raise BatchRefused(str(fault or "one answer for a batch"))
            if isinstance(fault, RateLimited) and fault.may_be_size:
                raise BatchRefused(str(fault))
            raise fault
        answers = self._decoded(_MANY, body)
        ids = [answer.id for answer in answers]
        if not ids:
            raise Untrue("an empty answer to a batch")
        if not {_whole(number) for number in ids} <= numbers or len(set(ids)) < len(ids):
            raise Untrue("a batch with foreign or double ids")
        return answers

    def _result(self, answer: _Envelope, number: int) -> msgspec.Raw:
        """The result of an answer, if it is the answer to this request."""
        fault = self._refusal_fault(answer.error)
        if _whole(answer.id) != number and not (fault and answer.id is None):
            raise Untrue("the answer to another request")
        result = answer.result
        if fault is None:
            if isinstance(result, msgspec.UnsetType) or (answer.error is None and is_null(result)):
                raise Untrue("neither a result nor an error")
            return result
        if isinstance(result, msgspec.Raw) and not is_null(result):
            raise Untrue("both a result and an error")
        raise fault

    def _refusal_fault(self, error: _Error | str | msgspec.UnsetType | None) -> Fault | None:
        match error:
            case None | msgspec.UnsetType():
                return None
            case str():
                said = refusals.read(None, error)
            case _Error():
                data = bytes(error.data or b"").decode("utf-8", "replace")
                said = refusals.read(error.code, error.message or "", data)
        code = error.code if isinstance(error, _Error) else None
        return _as_fault(said, f"error {code}: {self._secrets.hide(said.text)}")


def _as_fault(said: Refusal, text: str) -> Fault:
    match said.kind:
        case "too_wide" | "too_many":
            return TooLarge(text, said._replace(text=text))
        case "terms":
            return TooManyTerms(text)
        case "pruned":
            return Pruned(text)
        case "missing":
            return Missing(text)
        case "unsupported":
            return Unsupported(text)
        case "quota" | "key":
            return Disabled(text)
        case "rate" | "rate_or_size":
            return RateLimited(text, may_be_size=said.kind == "rate_or_size")
        case "batch" | "gas" | "reverted" | "other":
            return Refused(text, said.kind)


def _request(number: int, call: Call) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params}


def _whole(number: int | float | str | None) -> int:
    """An id as we send them; anything else is nobody's."""
    return number if type(number) is int else -1


def is_null(result: msgspec.Raw) -> bool:
    """Whether the node says null; what that means depends on the question."""
    return memoryview(result).nbytes == len(_NULL) and bytes(result) == _NULL
