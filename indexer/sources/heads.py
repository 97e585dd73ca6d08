"""New blocks announced over WebSocket. An announcement is only a reason to look earlier: what is
read comes over HTTP, and without announcements the head is looked at all the same."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from indexer.sources.secrets import Secrets

if TYPE_CHECKING:
    from web3 import WebSocketProvider  # web3 takes half a second to import

MOST_BYTES = 4 * 1024 * 1024  # of one message; the library's own limit of 1 MiB is soon reached
SILENT_SECONDS = 60.0  # five blocks of the slowest chain: a subscription can end without a word
COOL_SECONDS = 1.0
MOST_COOL_SECONDS = 60.0
# They write the URL at DEBUG and INFO, and at ERROR what we say ourselves when we are cut off.
_TALKATIVE = (
    *("web3.providers.WebSocketProvider", "web3.providers.PersistentConnectionProvider"),
    *("web3.manager.RequestManager", "websockets.client", "asyncio"),
)

Say = Callable[[str], None]


class Clockwork:
    """Where nobody announces blocks: a wait is as long as it was meant to be."""

    is_connected = False

    def wait(self, seconds: float) -> None:
        """Come back after so many seconds."""
        time.sleep(seconds)

    def close(self) -> None:
        """There is nothing to close."""


class Heads:
    """Listens to `newHeads` of one node in a thread of its own, and again when it is cut off or
    hears nothing for long; says so once, until it was connected again.

    `wait` ends early when a block was announced since it was last called."""

    def __init__(self, url: str, say: Say, silent_seconds: float = SILENT_SECONDS) -> None:
        self._url = url
        self._silent_seconds = silent_seconds
        self._secrets = Secrets(url)
        self._host = self._secrets.hide(urlsplit(url).hostname or "?")
        self._say = say
        self._announced = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._has_failed = False
        self.is_connected = False
        for logger in _TALKATIVE:
            logging.getLogger(logger).addFilter(self._is_clean)
        self._thread = threading.Thread(target=self._run, name="heads", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Come back after so many seconds, or when a block is announced."""
        self._announced.wait(seconds)
        self._announced.clear()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(RuntimeError):  # it was closed before
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(timeout=10)
        for logger in _TALKATIVE:
            logging.getLogger(logger).removeFilter(self._is_clean)

    def _is_clean(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR and self._secrets.filter(record)

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._listen_until_closed())

    async def _listen_until_closed(self) -> None:
        over = asyncio.ensure_future(self._over.wait())
        cool = COOL_SECONDS
        while not over.done():
            listening = asyncio.ensure_future(self._listen())
            await asyncio.wait({over, listening}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await listening
                return
            cool = COOL_SECONDS if self.is_connected else min(cool * 2, MOST_COOL_SECONDS)
            self._lost(listening.exception())
            await asyncio.wait({over}, timeout=cool)

    def _lost(self, error: BaseException | None) -> None:
        if self.is_connected or not self._has_failed:
            name = type(error).__name__ if error else "closed"
            self._say(f"{self._host}: no announcements of blocks ({name}); asking instead")
        self._has_failed = True
        self.is_connected = False

    async def _listen(self) -> None:
        from web3 import AsyncWeb3, WebSocketProvider

        provider = WebSocketProvider(
            self._url, max_connection_retries=1, websocket_kwargs={"max_size": MOST_BYTES}
        )
        async with _closing(provider), AsyncWeb3(provider) as node:
            await node.eth.subscribe("newHeads")
            self.is_connected = True
            async with asyncio.timeout(self._silent_seconds) as silence:
                # what is announced is not looked at: heads may be left out or come in any order
                async for _ in node.socket.process_subscriptions():
                    self._announced.set()
                    silence.reschedule(self._loop.time() + self._silent_seconds)


@contextlib.asynccontextmanager
async def _closing(provider: "WebSocketProvider") -> AsyncIterator[None]:
    """The provider leaves its socket open where its listener failed, or the other side is closing:
    web3 8.0.0, `PersistentConnectionProvider.disconnect`."""
    try:
        yield
    finally:
        if provider._ws is not None:
            await provider._ws.close()
