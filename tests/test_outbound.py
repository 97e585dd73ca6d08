"""Which hosts may be reached: a table of what is inside, and how it may be written."""

import socket

import pytest

from indexer.outbound import inside, inside_by_name, inside_of

INSIDE = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "0.0.0.0": "this network",
    "0.1.2.3": "this network",
    "::": "unspecified",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "169.254.169.254": "link-local",
    "169.254.170.2": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "100.64.0.1": "shared address space",
    "100.100.100.200": "shared address space",
    "fd00:ec2::254": "unique local",
    "fc00::1": "unique local",
    "fec0::1": "site-local",
    "192.0.0.192": "reserved",
    "198.18.0.1": "benchmarking",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "reserved",
    "168.63.129.16": "a cloud's metadata",
    "192.0.2.1": "not global",
    "203.0.113.7": "not global",
    "2001:db8::1": "not global",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:7f00:1": "loopback",
    "::ffff:10.1.2.3": "private",
    "::127.0.0.1": "loopback",
    "2002:7f00:1::": "loopback",
    "2002:a00:1::1": "private",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b::a9fe:a9fe": "link-local",
    "64:ff9b:1::a00:1": "private",
    "2001:0:7f00:1::": "not global",
    "hooks.example.com": "no address",
    "": "no address",
}
PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
    *("169.253.255.255", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"),
    *("::ffff:8.8.8.8", "64:ff9b::808:808"),
)
WRITTEN = {
    "localhost": "a local name",
    "LOCALHOST.": "a local name",
    "db.localhost": "a local name",
    "printer.local": "a local name",
    "metadata.google.internal": "a local name",
    "2130706433": "loopback",
    "0x7f000001": "loopback",
    "0x7F.0.0.1": "loopback",
    "0177.0.0.1": "loopback",
    "017700000001": "loopback",
    "127.1": "loopback",
    "127.0.1": "loopback",
    "127.0.0.1.": "loopback",
    "0": "this network",
    "0x0": "this network",
    "10.1": "private",
    "192.168.257": "private",
    "3232235777": "private",
    "2852039166": "link-local",
    "0xa9.0xfe.0xa9.0xfe": "link-local",
    "0251.0376.0251.0376": "link-local",
    "[::1]": "loopback",
    "[::ffff:127.0.0.1]": "loopback",
    "[fe80::1": "link-local",
    "": "no host",
    ".": "no host",
    "hooks.example.com@127.0.0.1": "no host name",
    "127.0.0.1#hooks.example.com": "no host name",
    "127.0.0.1\\@hooks.example.com": "no host name",
    "hooks.example.com/../": "no host name",
    "%31%32%37.0.0.1": "no host name",
    "127.0.0.1 hooks.example.com": "no host name",
}
NAMES = (
    *("hooks.example.com", "api.telegram.org", "localhost.example.com", "local.example", "1.1.1.1"),
    *("134744072", "0x08080808", "8.8", "256.1.1.1.example", "123abc", "0xzz", "1.2.3.4.5", "09.1"),
)


@pytest.mark.parametrize(("address", "why"), INSIDE.items())
def test_an_address_of_the_inside_is_refused_with_the_reason(address: str, why: str) -> None:
    assert inside(address) == why


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert inside(address) is None


@pytest.mark.parametrize(("host", "why"), WRITTEN.items())
def test_a_host_of_the_inside_is_known_however_it_is_written(host: str, why: str) -> None:
    assert inside_by_name(host) == why


@pytest.mark.parametrize("host", NAMES)
def test_a_name_that_may_be_public_is_left_to_its_addresses(host: str) -> None:
    assert inside_by_name(host) is None


def test_one_address_of_the_inside_is_enough() -> None:
    assert inside_of(["8.8.8.8", "10.0.0.1"]) == "private 10.0.0.1"
    assert inside_of(["8.8.8.8", "1.1.1.1"]) is None
    assert inside_of([]) is None


@pytest.mark.parametrize("host", [host for host, why in WRITTEN.items() if why == "loopback"])
def test_what_the_c_library_takes_for_this_machine_is_refused(host: str) -> None:
    """The table against the system's own reading of numbers."""
    try:
        read = socket.inet_ntoa(socket.inet_aton(host.strip("[].")))
    except OSError:
        return
    assert read == "127.0.0.1"
