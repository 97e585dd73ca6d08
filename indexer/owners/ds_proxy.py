"""DSProxy, through which Maker's and Liquity's users act: made by a factory, owned by a key."""

from indexer.account_model import Way
from indexer.evm_model import Deployment
from indexer.owner_answers import has_code, made_by

WAY = Way(
    method="ds_proxy",
    ask=made_by("isProxy(address)"),  # dapphub/ds-proxy:src/proxy.sol, DSProxyFactory
    is_for=has_code,
    vouchers=(
        Deployment(
            "ethereum", "0xA26e15C895EFc0616177B7c1e7270A4C7D51C997", "ds_proxy", "factory", None,
            "https://changelog.makerdao.com, PROXY_FACTORY",
        ),
    ),
)  # fmt: skip
