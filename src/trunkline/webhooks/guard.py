"""Which addresses may be connected to on a customer's behalf: webhooks, redirects, TwiML and media.

Whoever names a URL makes this host connect to it from where it stands, behind firewalls. So each
address is judged when a socket is made for it, after names, redirects and every way of writing an
address have become what is connected to: a name that means another address a moment later does not
help. An address that carries another one, as tunnels do, is judged by both.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from trunkline.kernel import Clock

REFUSED: Final = 70_001
"""The `errno` of what we refuse. No system has it: it tells our refusal from a network's. What tries
several addresses of one host gives the number of all of them on, and the exception of none."""

TOLD_EVERY_S: Final = 60.0
TOLD_MAX: Final = 256
"""Refused addresses of which is remembered when the log last told of them."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Place = tuple[str, int]
"""An address as text, and a port."""

log: Final = structlog.get_logger(__name__)


def _networks(*rows: tuple[str, str]) -> tuple[tuple[IpNetwork, str], ...]:
    return tuple((ipaddress.ip_network(network), what) for network, what in rows)


# IANA, "IPv4 Special-Purpose Address Registry" and the one for IPv6; and where clouds have a service
# for their machines outside the link-local addresses.
_NEVER: Final = _networks(
    ("0.0.0.0/8", "unspecified, which leads back to this machine"),
    ("169.254.0.0/16", "link-local, where clouds tell their machines secrets"),
    ("100.100.100.200/32", "where a cloud tells its machines secrets"),
    ("168.63.129.16/32", "where a cloud serves its machines"),
    ("192.0.0.192/32", "where a cloud tells its machines secrets"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified, which leads back to this machine"),
    ("fe80::/10", "link-local, where clouds tell their machines secrets"),
    ("fd00:ec2::254/128", "where a cloud tells its machines secrets"),
    ("fd20:ce::254/128", "where a cloud tells its machines secrets"),
    ("ff00::/8", "multicast"),
)
_PRIVATE: Final = _networks(
    ("127.0.0.0/8", "this machine"),
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "of a provider's own network"),
    ("192.0.0.0/24", "reserved for protocols"),
    ("192.0.2.0/24", "of examples"),
    ("198.51.100.0/24", "of examples"),
    ("203.0.113.0/24", "of examples"),
    ("198.18.0.0/15", "of benchmarks"),
    ("::1/128", "this machine"),
    ("fc00::/7", "private"),
    ("fec0::/10", "private"),
    ("64:ff9b:1::/48", "of a local translation"),
    ("2001:db8::/32", "of examples"),
    ("3fff::/20", "of examples"),
)

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


@dataclass(frozen=True, slots=True)
class Policy:
    """`may_be_private` is asked at each connection to a private address, and raises `OSError` where
    nobody can tell. Those in `allowed` are reached in any case, and the engines' own `listeners`
    never: `ports` are theirs wherever an address is private, for hosts that are known by names."""

    may_be_private: Callable[[], bool] = lambda: True
    allowed: tuple[IpNetwork, ...] = ()
    listeners: frozenset[Place] = frozenset()
    ports: frozenset[int] = frozenset()


class Guard:
    """Makes the sockets of whoever connects on a customer's behalf."""

    def __init__(self, policy: Policy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def socket(self, address: tuple[Any, ...]) -> socket.socket:
        """For an address as `getaddrinfo` gives it. Raises `OSError` with the number `REFUSED` for
        one that may not be connected to."""
        family, type_, protocol, _, place = address
        reason = self.refusal(str(place[0]), int(place[1]))
        if reason is not None:
            self._tell(str(place[0]), reason)
            raise OSError(REFUSED, reason)
        return socket.socket(family, type_, protocol)

    def refusal(self, text: str, port: int) -> str | None:
        """Why an address may not be connected to, and what would mend it; `None` if it may."""
        address = ipaddress.ip_address(text)
        meant = (address, *carried(address))
        for each in meant:
            what = _what(each, _NEVER)
            if what is not None:
                return f"{_shown(address, each)} is {what}: nothing is fetched from there"
        private = [(each, what) for each in meant if (what := _private(each)) is not None]
        if self._is_ours(meant, port, is_private=bool(private)):
            return f"port {port} of {address} is the log engine's: nothing is fetched from there"
        for each, what in private:
            is_allowed = any(each in network for network in self._policy.allowed)
            if not is_allowed and not self._policy.may_be_private():
                return (
                    f"{_shown(address, each)} is {what}, and webhooks.private_addresses refuses that "
                    "here: if it is meant, put its network into webhooks.allowed_networks"
                )
        return None

    def _is_ours(self, meant: tuple[IpAddress, ...], port: int, *, is_private: bool) -> bool:
        if is_private and port in self._policy.ports:
            return True
        return any((str(each), port) in self._policy.listeners for each in meant)

    def _tell(self, address: str, reason: str) -> None:
        """Once a minute for one address."""
        now = self._clock.monotonic()
        if now < self._told_at.get(address, -TOLD_EVERY_S) + TOLD_EVERY_S:
            return
        self._told_at.pop(address, None)
        while len(self._told_at) >= TOLD_MAX:
            self._told_at.pop(next(iter(self._told_at)))
        self._told_at[address] = now
        log.warning("webhooks.address_refused", address=address, reason=reason)


def carried(address: IpAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """The addresses that are reached through `address`, where it says so."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    is_within = address in _NAT64 or (address in _COMPATIBLE and int(address) > 1)
    return (ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF),) if is_within else ()


def refusal_in(error: BaseException) -> str | None:
    """The reason, where `error` is a refusal of ours, however it was passed on."""
    cause = getattr(error, "os_error", error)
    if not isinstance(cause, OSError) or cause.errno != REFUSED:
        return None
    text = str(cause.strerror).removeprefix("Multiple exceptions: ")
    return re.sub(r"\[Errno \d+\] ", "", text)


def _private(address: IpAddress) -> str | None:
    """What it is, where it is not for everybody."""
    what = _what(address, _PRIVATE)
    if what is None and not address.is_global and not carried(address):
        return "not a public address"
    return what


def _what(address: IpAddress, table: tuple[tuple[IpNetwork, str], ...]) -> str | None:
    return next((what for network, what in table if address in network), None)


def _shown(address: IpAddress, meant: IpAddress) -> str:
    return str(address) if address == meant else f"{address}, which leads to {meant},"
