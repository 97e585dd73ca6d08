"""New blocks announced over WebSocket. An announcement is only a reason to look earlier: what is
read comes over HTTP, and without announcements the head is looked at all the same."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from indexer.sources.rpc import Secrets

MOST_BYTES = 4 * 1024 * 1024  # of one message; the library's own limit of 1 MiB is soon reached
COOL_SECONDS = 1.0
MOST_COOL_SECONDS = 60.0

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
    """Listens to `newHeads` of one node in a thread of its own, and again when it is cut off.

    `wait` ends early when a block was announced since it was last called."""

    def __init__(self, url: str, say: Say) -> None:
        self._url = url
        self._secrets = Secrets(url)
        self._host = self._secrets.hide(urlsplit(url).hostname or "?")
        self._say = say
        self._announced = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self.is_connected = False
        self._thread = threading.Thread(target=self._run, name="heads", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Come back after so many seconds, or when a block is announced."""
        self._announced.wait(seconds)
        self._announced.clear()

    def close(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(timeout=10)

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
            was_connected, self.is_connected = self.is_connected, False
            error = listening.exception()
            name = type(error).__name__ if error else "closed"
            self._say(f"{self._host}: no announcements of blocks ({name}); asking instead")
            cool = COOL_SECONDS if was_connected else min(cool * 2, MOST_COOL_SECONDS)
            await asyncio.wait({over}, timeout=cool)

    async def _listen(self) -> None:
        from web3 import AsyncWeb3, WebSocketProvider

        provider = WebSocketProvider(
            self._url, max_connection_retries=1, websocket_kwargs={"max_size": MOST_BYTES}
        )
        async with AsyncWeb3(provider) as node:
            await node.eth.subscribe("newHeads")
            self.is_connected = True
            async for _ in node.socket.process_subscriptions():
                self._announced.set()
