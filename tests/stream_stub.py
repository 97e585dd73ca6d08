"""A feed of fills on loopback, over a real WebSocket: it says what it is told to say.

Shapes: the exchange's `userFills` and `trades` as recorded; `liquidationFills` of two vendors and
the node's lines of a third as their documentation has them, filled with recorded or simulated
fills. https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket
"""

import json
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

Json = Any
PAUSE_SECONDS = 0.01


class Close:
    """To be said in place of a message: the connection ends with this code."""

    def __init__(self, code: int = 1011, reason: str = "") -> None:
        self.code = code
        self.reason = reason


class Cut:
    """To be said in place of a message: the connection ends without a word."""


class Feed:
    """Says its script, a connection's part to each, then whatever is appended to the last part.

    Use as a context manager. `paths` are those that were asked for, `heard` what clients sent."""

    def __init__(self, *parts: Sequence[Json], status: int = 101) -> None:
        self.parts = [list(part) for part in parts] or [[]]
        self.status = status
        self.paths: list[str] = []
        self.heard: list[Json] = []
        self.connections = 0
        self._server: Server = serve(
            self._handle, "127.0.0.1", 0, process_request=self._request, close_timeout=0.1
        )
        port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}/ws"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Feed":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self.status == 101:
            return None
        return connection.respond(HTTPStatus(self.status), "no\n")

    def _handle(self, connection: ServerConnection) -> None:
        part = self.parts[min(self.connections, len(self.parts) - 1)]
        self.connections += 1
        said = 0
        subscribed = False
        try:
            while True:
                try:
                    self.heard.append(json.loads(connection.recv(timeout=PAUSE_SECONDS)))
                    subscribed = True
                except TimeoutError:
                    pass
                while subscribed and said < len(part):
                    message = part[said]
                    said += 1
                    if isinstance(message, Close):
                        connection.close(message.code, message.reason)
                        return
                    if isinstance(message, Cut):
                        connection.socket.close()
                        return
                    connection.send(message if isinstance(message, str) else json.dumps(message))
                time.sleep(PAUSE_SECONDS)
        except (ConnectionClosed, OSError):
            return
