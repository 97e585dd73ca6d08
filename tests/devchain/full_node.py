"""A node in front of anvil that has forgotten old states and says so as geth does."""

import json
from typing import Any

import requests

from tests.rpc_proxy import Chain, Http, Node

STATES = 64  # below the newest block
# ethereum/go-ethereum:trie/errors.go, MissingNodeError
FORGOTTEN = {
    "code": -32000,
    "message": "missing trie node 0ac9b8b9b6b6d8a2 (path ) state 0x0ac9b8b9b6b6d8a2 is not"
    " available, not found",
}


class FullNode(Node):
    """Everything is passed on, but no call about an old block."""

    def __init__(self, url: str) -> None:
        super().__init__(Chain(0))
        self.refused = 0
        self._behind = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._numbers: dict[str, int] = {}

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._session.close()

    def answer(self, body: bytes) -> Http:
        """As anvil does, except what is refused."""
        asked = json.loads(body)
        replies = self._passed_on(asked)
        requests_, found = (asked, replies) if isinstance(asked, list) else ([asked], [replies])
        head = int(self._passed_on(_question("eth_blockNumber"))["result"], 16)
        for request, reply in zip(requests_, found, strict=True):
            if (
                request["method"] == "eth_call"
                and self._height(request["params"][1]) < head - STATES
            ):
                reply.pop("result", None)
                reply["error"] = FORGOTTEN
                self.refused += 1
        return Http(json.dumps(replies).encode())

    def _passed_on(self, asked: Any) -> Any:
        return self._session.post(self._behind, json=asked, timeout=60).json()

    def _height(self, block: Any) -> int:
        if isinstance(block, str):
            return int(block, 16)
        found = self._passed_on(_question("eth_getBlockByHash", block["blockHash"], False))
        return int(found["result"]["number"], 16)


def _question(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
