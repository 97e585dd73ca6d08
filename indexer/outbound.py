"""Which hosts we may connect to when somebody else chose the name: none that lies inside.

A webhook that points inward reads what only this machine may see (CWE-918). A host is judged by its
addresses, however they are written, and again by the one that is connected to: a name may mean
another address by then.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

# iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry, beside what the
# module ipaddress calls not global; the reason stands in the message of a refusal
_INSIDE: tuple[tuple[IPv4Network | IPv6Network, str], ...] = (
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv6Network("::1/128"), "loopback"),
    (IPv4Network("0.0.0.0/8"), "this network"),
    (IPv6Network("::/128"), "unspecified"),
    # where clouds give out credentials: 169.254.169.254, 169.254.170.2; of AWS fd00:ec2::254, of
    # Alibaba 100.100.100.200, which shared and unique local addresses hold
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv4Network("100.64.0.0/10"), "shared address space"),
    (IPv4Network("10.0.0.0/8"), "private"),
    (IPv4Network("172.16.0.0/12"), "private"),
    (IPv4Network("192.168.0.0/16"), "private"),
    (IPv6Network("fc00::/7"), "unique local"),
    (IPv6Network("fec0::/10"), "site-local"),
    (IPv4Network("192.0.0.0/24"), "reserved"),
    (IPv4Network("192.88.99.0/24"), "reserved"),
    (IPv4Network("198.18.0.0/15"), "benchmarking"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv6Network("ff00::/8"), "multicast"),
    (IPv4Network("240.0.0.0/4"), "reserved"),
)
# The public address of Azure's own services inside its virtual machines
# (learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
_METADATA = frozenset({IPv4Address("168.63.129.16")})
# RFC 6052: the last four bytes are an IPv4 address, which a gateway would reach.
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = IPv6Network("::/96")
_LOCAL_NAMES = ("localhost", "local", "internal", "lan", "home.arpa", "localdomain", "intranet")
_PART = re.compile(r"0x[0-9a-f]*|[0-9]+")


def inside(address: str) -> str | None:
    """Why an address is one of the inside, for a message; None of a public one.

    What is no address at all is refused, too: `no address`."""
    found = _address(address)
    if found is None:
        return "no address"
    return next((why for one in _meant(found) if (why := _why(one))), None)


def inside_by_name(host: str) -> str | None:
    """Why a host is of the inside by its name alone, before anybody is asked for its address: an
    address in any of the forms that the C library reads, or a name that is local by definition."""
    name = host.strip().strip("[]").lower().rstrip(".")
    if not name:
        return "no host"
    if re.search(r"[\s/\\@#?%]", name):
        return "no host name"
    found = _address(name) or _as_the_c_library_reads(name)
    if found is not None:
        return inside(str(found))
    if name in _LOCAL_NAMES or name.endswith(tuple(f".{one}" for one in _LOCAL_NAMES)):
        return "a local name"
    return None


def inside_of(addresses: Iterable[str]) -> str | None:
    """Why one of the addresses of a host is of the inside: a host with a public one beside it may
    be reached at either."""
    return next((f"{why} {one}" for one in addresses if (why := inside(one))), None)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text.partition("%")[0])  # a scope as in fe80::1%eth0
    except ValueError:
        return None


def _meant(address: Address) -> Iterable[Address]:
    """The address, and the IPv4 addresses that one of IPv6 stands for."""
    yield address
    if isinstance(address, IPv6Address):
        yield from (one for one in (address.ipv4_mapped, address.sixtofour) if one)
        if any(address in network for network in (*_TRANSLATED, _COMPATIBLE)):
            yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _why(address: Address) -> str | None:
    for network, why in _INSIDE:
        if address.version == network.version and address in network:
            return why
    if address in _METADATA:
        return "a cloud's metadata"
    return None if address.is_global or _stands_for_another(address) else "not global"


def _stands_for_another(address: Address) -> bool:
    return isinstance(address, IPv6Address) and (
        address.ipv4_mapped is not None or any(address in one for one in _TRANSLATED)
    )


def _as_the_c_library_reads(name: str) -> IPv4Address | None:
    """`2130706433`, `0x7f.1` and `0177.0.0.1` as inet_aton(3) does: one to four numbers, decimal,
    octal or hexadecimal, the last of which fills the bytes that are left."""
    parts = name.split(".")
    if len(parts) > 4 or not all(_PART.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *first, last = numbers
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    value = last
    for place, number in enumerate(first):
        value += number << (8 * (3 - place))
    return IPv4Address(value)


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8) if part.startswith("0") and part != "0" else int(part)
