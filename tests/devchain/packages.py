"""Packages, pinned by their sha512, unpacked once into the user's cache folder.

`npm pack` fetches one archive and nothing that it depends on, and runs no script of it; so does
`pip download` with a wheel.
"""

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NoReturn

import msgspec
import platformdirs
import pytest

CACHE = Path(platformdirs.user_cache_dir("liquidation-indexer-tests"))


class Package(msgspec.Struct, frozen=True):
    """An archive of the registry and the paths in it that we use."""

    name: str
    version: str
    sha512: str  # base64, as npm writes it
    keep: tuple[str, ...]
    is_wheel: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'==' if self.is_wheel else '@'}{self.version}"

    @property
    def folder_name(self) -> str:
        """Another one whenever the archive or what is kept of it is another."""
        kept = hashlib.sha256("\n".join((self.sha512, *self.keep)).encode()).hexdigest()[:12]
        return f"{str(self).replace('/', '_')}-{kept}"


# 1.5.1, since 1.7.1 takes longer for each block than for the one before it; only this platform's
# binary is on every registry that we know.
ANVIL = Package(
    "@foundry-rs/anvil-linux-amd64",
    "1.5.1",
    "17AQOAcW1/iLQ9batoTWNMDp6hcCvh5rH0f5fkEzvsiv50Sq6Q4jyyGB30YEdQnHFkkmmQNKsZz/R1RhuyxJkg==",
    ("bin/anvil",),
)
SOLC = Package(
    "solc",
    "0.8.19",
    "yqurS3wzC4LdEvmMobODXqprV4MYJcVtinuxgrp61ac8K2zz40vXA0eSAskSHPgv8dQo7Nux39i3QBsHx4pqyA==",
    ("soljson.js",),
)
AAVE_V2 = Package(
    "@aave/protocol-v2",
    "1.0.1",
    "MU3WiigW89DWDpCtvaw4rafih7RbADB45uUM/zqfnOD4g9JNUVfeT6MrjV4/DP/JPA2Iv5ySKSx+a1OfUES0Pg==",
    (
        "artifacts/contracts/protocol/",
        "artifacts/contracts/misc/AaveOracle.sol/",
        "artifacts/contracts/mocks/oracle/LendingRateOracle.sol/",
    ),
)
# Of Aave v3.2, which has no stable debt, compiled by Foundry for the tests of a Python library.
AAVE_V3_2 = Package(
    "web3-ethereum-defi",
    "1.2",
    "B26W1q5FqGhk6lneUBH50l7zs6XnhhuYOadw91M/mSa2P8d+7s/wHceT4Nx9HjDYl3uOiPhBz47qGpNU6L/qzA==",
    tuple(
        f"eth_defi/abi/aave_v3/{name}.json"
        for name in (
            "ACLManager",
            "ATokenInstance",
            "AaveOracle",
            "BorrowLogic",
            "BridgeLogic",
            "ConfiguratorLogic",
            "DefaultReserveInterestRateStrategyV2",
            "EModeLogic",
            "FlashLoanLogic",
            "LiquidationLogic",
            "PoolAddressesProvider",
            "PoolConfiguratorInstance",
            "PoolInstance",
            "PoolLogic",
            "SupplyLogic",
            "VariableDebtTokenInstance",
        )
    ),
    is_wheel=True,
)
AAVE_V3 = Package(
    "@aave/core-v3",
    "1.19.3",
    "Xr7+VcoU5b4mPwM4IUCnskw3lciwrnL4Xloyad8GOddYeixnri2lZYobNmErm1LwE50vqjI0O+9QGNKY2TDkeQ==",
    ("artifacts/contracts/protocol/", "artifacts/contracts/misc/AaveOracle.sol/"),
)
MORPHO_BLUE = Package(
    "@morpho-org/morpho-blue",
    "1.0.0",
    "MKtzYMRE65B1hVJYAPtml3ecHPY2e/SL3JRvM7XWjtbnWQX6U/C3beSdxr7v+rHaVJ0ri/dUPxvNfWtr0NZdGw==",
    ("src/Morpho.sol", "src/interfaces/", "src/libraries/"),
)
# Compound as it was on Ethereum in 2020, compiled for the tests of Set, which builds on it.
COMPOUND_V2 = Package(
    "@setprotocol/set-protocol-v2",
    "0.1.16",
    "84/rvT7b2k5SFaF5C/vh2SKV/DS4F+9i7E/5rkQBlU+XnNRnGjG/xROsbYYLkkMaz5YPQVDnDZI5tbZ+JsZYhg==",
    ("external/abi/compound/",),
)
VENUS_CORE = Package(
    "@venusprotocol/venus-protocol",
    "10.3.0",
    "qGvjvUgYhK5REF/Cj4Lg4FNBMrEscnSSxr4sHL4WDlb2woPucvqLfGkw/f3XKFanf+lWD1G4K0Gzpdc430+BeQ==",
    (
        "artifacts/contracts/Comptroller/Unitroller.sol/",
        "artifacts/contracts/Comptroller/Diamond/Diamond.sol/",
        "artifacts/contracts/Comptroller/Diamond/facets/",
        "artifacts/contracts/InterestRateModels/WhitePaperInterestRateModel.sol/",
        "artifacts/contracts/Lens/ComptrollerLens.sol/",
        "artifacts/contracts/Liquidator/Liquidator.sol/",
        "artifacts/contracts/Tokens/VAI/VAI.sol/",
        "artifacts/contracts/Tokens/VAI/VAIController.sol/",
        "artifacts/contracts/Tokens/VAI/VAIUnitroller.sol/",
        "artifacts/contracts/Tokens/VTokens/VBep20Immutable.sol/",
    ),
)
VENUS_ISOLATED = Package(
    "@venusprotocol/isolated-pools",
    "4.4.0",
    "OalbpAYhtUJ9ZPHNUKDFZQcvjvRwtFeKU59weL7pUG9AUPBH9CwYhsK/M3OC7YIUmFGe5nBV554nirqCWu2SKA==",
    (
        "artifacts/contracts/Comptroller.sol/",
        "artifacts/contracts/Pool/PoolRegistry.sol/",
        "artifacts/contracts/VToken.sol/",
        "artifacts/contracts/WhitePaperInterestRateModel.sol/",
        "artifacts/hardhat-deploy/solc_0.8/openzeppelin/proxy/ERC1967/ERC1967Proxy.sol/",
    ),
)
# The contracts as they stood on Optimism in April 2023, on pools of Uniswap's.
PERP_V2 = Package(
    "@perp/curie-deployments",
    "2023.4.12-1681295833590",
    "NJbTy3frix5AQS5Bk/littykkmQ/m1rFD5HUQG8b0SDVGsqvIsSr5NSlhwb+UGJS7EHtgxevh4P4dTPc4dN6lQ==",
    ("optimism/core/artifacts/contracts/",),
)
UNISWAP_V3 = Package(
    "@uniswap/v3-core",
    "1.0.1",
    "7pVk4hEm00j9tc71Y9+ssYpO6ytkeI0y7WE9P6UcmNzhxPePwyAxImuhVsTqWK9YFvzgtvzJHi64pBl4jUzKMQ==",
    (
        "artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
        "artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    ),
)
SYNTHETIX = Package(
    "synthetix",
    "2.102.1",
    "SJsFT5VRqkQjqDO2K3s2h9LqnPjIIqAPEP6wV9MKnC5rcCBzkKYsHbba0Q+pRHxrM18ODic4HC51AYtaQcRu/Q==",
    ("contracts/",),
)
OPENZEPPELIN_2 = Package(
    "openzeppelin-solidity",
    "2.3.0",
    "QYeiPLvB1oSbDt6lDQvvpx7k8ODczvE474hb2kLXZBPKMsxKT1WxTCHBYrCU7kS7hfAku4DcJ0jqOyL+jvjwQw==",
    ("contracts/math/",),
)
GEARBOX_V2 = Package(
    "@gearbox-protocol/core-v2",
    "1.21.1",
    "pEIXRnmkdbPiR8j7d+l80OdOpVcRjeNE2ZfnUL2sfDq5lx7aTUNUNxAPfKT3S5vD+8NISL3ojmxQwiAFTwAFEw==",
    tuple(
        f"contracts/{folder}/"
        for folder in (
            "core",
            "credit",
            "factories",
            "interfaces",
            "libraries",
            "oracles",
            "pool",
            "support",
            "tokens",
        )
    ),
)
GEARBOX_V3 = Package(
    "@gearbox-protocol/core-v3",
    "1.52.1",
    "lcwzcZeLXhvK+a9pnM+yuaqoQVYUkNtvlfMTWIgOu1wYU5HeXnNI0dBYKYarDu1LwVgNwP2nU2DcY/PVGtRaNg==",
    (
        "contracts/core/",
        "contracts/credit/",
        "contracts/interfaces/",
        "contracts/libraries/",
        "contracts/pool/",
        "contracts/traits/",
    ),
)
OPENZEPPELIN_4 = Package(
    "@openzeppelin/contracts",
    "4.9.6",
    "xSmezSupL+y9VkHZJGDoCBpmnB2ogM13ccaYDWqJTfS3dbuHkgjuwDFUmaFauBCboQMGB/S5UqUl2y54X99BmA==",
    ("access/", "interfaces/", "proxy/", "security/", "token/", "utils/"),
)
ONE_INCH = Package(
    "@1inch/solidity-utils",
    "3.8.3",
    "aJ1+7K1gy22aRz/wR+5CE8GOpfAsT3ohyBocvpA5xFUldbnUhtOKVPxFbjBIUlqoK2uninBbJTS3wx8FJL5F9Q==",
    ("contracts/interfaces/", "contracts/libraries/"),
)
# As it stands on Optimism; the markets differ in what their constructors were told.
EXACTLY = Package(
    "@exactly/protocol",
    "0.2.24",
    "8Pz8E0C78CxqE7FXzILnOAHcchKttbgo0rtiWCgrqzzIo0b/OgVT7kgiIg4tucSLYLk7rgnmQyn9bPC4GmQxfQ==",
    (
        "deployments/optimism/Auditor_Implementation.json",
        "deployments/optimism/InterestRateModelUSDC.json",
        "deployments/optimism/MarketWETH_Implementation.json",
        "deployments/optimism/MarketWETH_Proxy.json",
    ),
)
SOLC_0_5 = Package(
    "solc",
    "0.5.16",
    "weEtRtisJyf+8UjELs7S4ST1KK7UIq6SRB7tpprfJBL9b5mTrZAT7m4gJKi2h6MiBpuSWfnraK8BnkyWzuTMRA==",
    ("soljson.js",),
)
ALL = (
    ANVIL, SOLC, AAVE_V2, AAVE_V3, AAVE_V3_2, COMPOUND_V2, MORPHO_BLUE, VENUS_CORE, VENUS_ISOLATED,
    PERP_V2, UNISWAP_V3, SYNTHETIX, OPENZEPPELIN_2, SOLC_0_5, GEARBOX_V2, GEARBOX_V3,
    OPENZEPPELIN_4, ONE_INCH, EXACTLY,
)  # fmt: skip


def folder(package: Package, cache: Path = CACHE) -> Path:
    """Where the package lies unpacked, fetched if need be; raises ValueError on a wrong sha512.

    What was interrupted left nothing behind under this name, and of two processes that fetch at
    once the second finds the work done."""
    ready = cache / package.folder_name
    if not ready.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            _unpack(_fetched(package, Path(scratch)), package.keep, unpacked)
            _claim(unpacked, ready)
    return ready


def _claim(unpacked: Path, ready: Path) -> None:
    try:
        unpacked.rename(ready)
    except OSError:  # a folder that is not empty cannot be replaced: somebody was faster
        if not ready.is_dir():
            raise


def _fetched(package: Package, into: Path) -> Path:
    """The archive, its hash checked."""
    command = _by_pip(package, into) if package.is_wheel else _by_npm(package, into)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        unavailable(f"{package} cannot be fetched: {done.stderr.strip()[:300]}")
    (archive,) = into.glob("*.whl" if package.is_wheel else "*.tgz")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise ValueError(f"{package} has the sha512 {found}, {package.sha512} expected")
    return archive


def _by_npm(package: Package, into: Path) -> list[str]:
    pack = ("pack", "--loglevel=error", str(package), "--pack-destination", str(into))
    return [program("npm"), *pack]


def _by_pip(package: Package, into: Path) -> list[str]:
    quietly = ("--quiet", "--disable-pip-version-check", "--no-cache-dir")
    wheel = ("--no-deps", "--only-binary", ":all:", str(package), "--dest", str(into))
    return [sys.executable, "-m", "pip", "download", *quietly, *wheel]


def _unpack(archive: Path, keep: tuple[str, ...], into: Path) -> None:
    """The members below these paths; all that npm packs is in one folder, which is left out."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(into, [one for one in wheel.namelist() if one.startswith(keep)])
        return
    with tarfile.open(archive) as members:
        for member in members:
            path = member.name.partition("/")[2]
            if member.isfile() and path.startswith(keep) and not path.endswith(".dbg.json"):
                members.extract(member.replace(name=path), into, filter="data")


def program(name: str) -> str:
    """Its path; without it the test is skipped."""
    found = shutil.which(name)
    return found if found is not None else unavailable(f"{name} is not installed")


def anvil_program(cache: Path = CACHE) -> Path:
    """anvil's binary; there is one for Linux on x86-64 only."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        unavailable(f"no anvil is pinned for {sys.platform} on {platform.machine()}")
    return folder(ANVIL, cache) / "bin" / "anvil"


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
