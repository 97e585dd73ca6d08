"""Webhooks that take messages, hang, refuse, or send elsewhere; and a mail server."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    """A request as it came: when, where to, its headers, its JSON."""

    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.body["alert_id"])

    @property
    def said(self) -> str:
        return str(self.body["message"])


class Webhook(ThreadingHTTPServer):
    """Takes JSON at any path of its address on loopback.

    `status` is what it answers, `location` where it sends to; while `holds` is set it reads what
    comes and answers nothing."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.status = 200
        self.location: str | None = None
        self.goes_on = threading.Event()
        self.goes_on.set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """In Apprise's form."""
        return f"json://127.0.0.1:{self.server_port}/hook"

    @property
    def said(self) -> list[str]:
        return [one.said for one in self.received]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who was killed does not wait for the answer."""


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        received = Received(time.time(), self.path, dict(self.headers), body)
        self.server.received.append(received)
        self.server.goes_on.wait(30)
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook, closed at the end."""
    server = Webhook()
    try:
        yield server
    finally:
        server.goes_on.set()
        server.shutdown()
        server.server_close()


class _Mail(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        say = lambda text: self.wfile.write(f"{text}\r\n".encode())  # noqa: E731
        say("220 mail")
        lines: list[str] = []
        for line in iter(self.rfile.readline, b""):
            word = line.decode().strip().upper()
            if word.startswith("DATA"):
                say("354 go on")
                for text in iter(self.rfile.readline, b".\r\n"):
                    lines.append(text.decode().rstrip())
                self.server.mails.append("\n".join(lines))  # type: ignore[attr-defined]
                say("250 taken")
            elif word.startswith("QUIT"):
                say("221 bye")
                return
            else:
                say("250 yes")


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """The port of a mail server on loopback, and the mails that it took."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mail) as server:
        server.daemon_threads = True
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], server.mails  # type: ignore[attr-defined]
        server.shutdown()
