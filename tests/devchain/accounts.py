"""Genuine Safes and smart accounts on a local chain, delegated keys, and SIMULATED owners."""

from typing import Any

from eth_account import Account

from indexer.evm_model import BlockRef
from tests.devchain.anvil import Anvil
from tests.devchain.compiler import HERE, compiled
from tests.devchain.contracts import Code, Contract, Deployer, artifact
from tests.devchain.packages import Package, folder

SAFE_1_3 = Package(
    "@gnosis.pm/safe-contracts",
    "1.3.0",
    "1p+1HwGvxGUVzVkFjNzglwHrLNA67U/axP0Ct85FzzH8yhGJb4t9jDjPYocVMzLorDoWAfKicGy1akPY9jXRVw==",
    ("build/artifacts/contracts/GnosisSafe.sol/", "build/artifacts/contracts/proxies/"),
)
SAFE_1_4 = Package(
    "@safe-global/safe-contracts",
    "1.4.1-2",
    "UFiqZOamt1lDbyQ16lpzBE8mDdzfnQ3OBftll1erLlwIrdfmhePicQqfLquvyXA8AlqPWQ3ktz1DzpC9UcN+JQ==",
    ("build/artifacts/contracts/Safe.sol/", "build/artifacts/contracts/proxies/"),
)
_ARTIFACTS = tuple(
    f"artifacts/{name}.json"
    for name in (
        *("EntryPoint", "SimpleAccount", "SimpleAccountFactory", "Simple7702Account"),
        "VerifyingPaymaster",
    )
)
SMART = {
    "0.6": Package(
        "@account-abstraction/contracts",
        "0.6.0",
        "8ooRJuR7XzohMDM4MV34I12Ci2bmxfE9+cixakRL7lA4BAwJKQ3ahvd8FbJa9kiwkUPCUNtj+/zxDQWYYalLMQ==",
        _ARTIFACTS,
    ),
    "0.7": Package(
        "@account-abstraction/contracts",
        "0.7.0",
        "Bt/66ilu3u8I9+vFZ9fTd+cWs55fdb9J5YKfrhsrFafH1drkzwuCSL/xEot1GGyXXNJLQuXbMRztQPyelNbY1A==",
        _ARTIFACTS,
    ),
    "0.8": Package(
        "@account-abstraction/contracts",
        "0.8.0",
        "8krPx/gpnoT+5xAroagVCbeA7FbUigMZWXFKKPm+oghyr29Dksssdx5sI7xGv9212i4JPaDDUGFk58dpuwVgHA==",
        _ARTIFACTS,
    ),
}
# where the world has them; eth-infinitism/account-abstraction: releases v0.6.0, v0.7.0, v0.8.0
ENTRY_POINTS = {
    "0.6": "0x5ff137d4b0fdcd49dca30c7cf57e578a026d2789",
    "0.7": "0x0000000071727de22e5e9d8baf0edac6f37da032",
    "0.8": "0x4337084d9e255ff0702461cf8895ce9e3b5ff108",
}
NOBODY = "0x" + 40 * "0"
SIMPLE_OF_TWO = {"1.3.0": ("GnosisSafe", "GnosisSafeProxy"), "1.4.1": ("Safe", "SafeProxy")}


def simulated() -> dict[str, Code]:
    """The contracts of Accounts.sol."""
    return compiled({"Accounts.sol": (HERE / "Accounts.sol").read_text("utf-8")})


class Accounts:
    """What can be made on a chain, by an account that pays for all."""

    def __init__(self, node: Anvil) -> None:
        self.node = node
        self.deployer = Deployer(node)
        self.codes = simulated()

    def block(self, at: int | str = "latest") -> BlockRef:
        """A block with its hash."""
        return self.node.block(at)

    def safe(self, version: str, owners: list[str], threshold: int) -> tuple[Contract, str]:
        """A Safe as its factory makes it, and its singleton."""
        root = folder(SAFE_1_3 if version == "1.3.0" else SAFE_1_4)
        whole, proxy = (artifact(root, name) for name in SIMPLE_OF_TWO[version])
        singleton = self.deployer.deploy(whole)
        made = self.deployer.deploy(proxy, singleton.address)
        safe = self.deployer.at(made.address, whole)
        self.deployer.send(safe, "setup", owners, threshold, NOBODY, b"", NOBODY, NOBODY, 0, NOBODY)
        return safe, singleton.address

    def entry_point(self, version: str) -> Contract:
        """The genuine one where the world has it."""
        code = artifact(folder(SMART[version]), "EntryPoint")
        return self.deployer.place(ENTRY_POINTS[version], code)

    def smart_account(self, version: str, owner: str) -> tuple[Contract, str]:
        """One as the samples of ERC-4337 have it, made by its factory; and its implementation."""
        root = folder(SMART[version])
        account = artifact(root, "SimpleAccount")
        factory = self.deployer.deploy(
            artifact(root, "SimpleAccountFactory"), ENTRY_POINTS[version]
        )
        if version == "0.8":  # there only the EntryPoint's own helper may ask for an account
            creator = str(self.entry_point_at(version).read("senderCreator"))
            self.node.rpc("anvil_impersonateAccount", creator)
            self.node.rpc("anvil_setBalance", creator, hex(10**20))
            factory.send(creator, "createAccount", owner, 1)
        else:
            self.deployer.send(factory, "createAccount", owner, 1)
        made = str(factory.read("getAddress", owner, 1))
        return self.deployer.at(made, account), str(factory.read("accountImplementation")).lower()

    def entry_point_at(self, version: str) -> Contract:
        """One that was placed."""
        return self.deployer.at(
            ENTRY_POINTS[version], artifact(folder(SMART[version]), "EntryPoint")
        )

    def delegate(self, key: bytes, to: str) -> str:
        """Have a key delegate its account to an address, or take it back with the zero address."""
        account = Account.from_key(key)
        self.node.rpc("anvil_setBalance", account.address, hex(10**20))
        nonce = int(self.node.rpc("eth_getTransactionCount", account.address, "latest"), 16)
        chain = int(self.node.rpc("eth_chainId"), 16)
        # the nonce is that after the transaction's own
        granted = account.sign_authorization(
            {"chainId": chain, "address": bytes.fromhex(to[2:]), "nonce": nonce + 1}
        )
        sent: dict[str, Any] = {
            "type": 4, "chainId": chain, "nonce": nonce, "to": account.address, "value": 0,
            "gas": 200_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0, "data": b"",
            "accessList": [], "authorizationList": [granted],
        }  # fmt: skip
        raw = account.sign_transaction(sent).raw_transaction
        self.node.rpc("eth_sendRawTransactionSync", "0x" + raw.hex())
        return str(account.address).lower()
