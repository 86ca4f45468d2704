"""How a host connects to customers' servers: past the guard, and trusting whom its operator trusts.

Whether private addresses may be reached follows, unless it is set, from who can name one: on a host
that only this machine reaches and that has one account, that is its operator alone.
"""

import dataclasses
import errno
import ipaddress
import json
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from trunkline.host.config import Settings
from trunkline.host.layout import Layout
from trunkline.host.listen import Address
from trunkline.host.refusal import ConfigError
from trunkline.kernel import Clock

if TYPE_CHECKING:
    from trunkline.host.context import Context
    from trunkline.webhooks.guard import Policy
    from trunkline.webhooks.session import SessionFactory

_LOCAL_NAME: Final = "localhost"


class Accounts(Protocol):
    """Whoever counts the accounts that are not closed; raises `sqlite3.Error`."""

    def open_accounts(self, *, items_max: int) -> int: ...


def session_factory(
    context: "Context", accounts: Accounts, *, is_for_carrier: bool = False
) -> "SessionFactory":
    """What opens sessions for webhooks and media. What `is_for_carrier` goes where a carrier leads,
    which is the operator's choice and may be on a private network. Raises `ConfigError` for a file of
    authorities that cannot be used."""
    policy = policy_of(context.settings, context.layout, accounts)
    if is_for_carrier:
        policy = dataclasses.replace(policy, may_be_private=lambda: True)
    return _opens(policy, context.settings, context.clock)


def session_factory_beside(
    settings: Settings, layout: Layout, accounts: Accounts, clock: Clock
) -> "SessionFactory":
    """The same for a command that asks from a host's folder: it goes nowhere where the host does not.
    Raises `ConfigError`."""
    return _opens(policy_of(settings, layout, accounts), settings, clock)


def _opens(policy: "Policy", settings: Settings, clock: Clock) -> "SessionFactory":
    from trunkline.webhooks.guard import Guard  # noqa: PLC0415 - paid for where it is used
    from trunkline.webhooks.session import open_session  # noqa: PLC0415 - as above

    guard = Guard(policy, clock)
    tls = tls_context(settings)
    return lambda: open_session(guard=guard, tls=tls)


def policy_of(settings: Settings, layout: Layout, accounts: Accounts) -> "Policy":
    from trunkline.webhooks.guard import Policy  # noqa: PLC0415 - as above

    members = settings.cluster.hosts
    places = [place for each in members for place in (each.log, each.route)]
    places += [] if settings.log.monitor_http is None else [settings.log.monitor_http]
    places += _own_engine(layout)
    exact = {place for place in places if _is_one_address(place.host)}
    return Policy(
        _may_be_private(settings, accounts),
        settings.webhooks.allowed_networks,
        frozenset((str(ipaddress.ip_address(each.host)), each.port) for each in exact),
        frozenset(each.port for each in set(places) - exact),
    )


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """One that trusts the system's authorities and those of `webhooks.ca_file`; `None` where there
    are none. Raises `ConfigError`."""
    path = settings.webhooks.ca_file
    if path is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # that of a file without certificates is one, too
        reason = error.strerror or str(error)
        raise ConfigError(
            f"cannot read certificates from {path}, which webhooks.ca_file names ({reason})",
            "put the certificates of the authorities there, in PEM, readable for this user",
        ) from error
    return context


def is_local(settings: Settings) -> bool:
    """Whether only this machine reaches the host, and the host's others, if any."""
    places = [settings.host.http.host, *(each.log.host for each in settings.cluster.hosts)]
    return all(
        place == _LOCAL_NAME or (_is_address(place) and ipaddress.ip_address(place).is_loopback)
        for place in places
    )


def _may_be_private(settings: Settings, accounts: Accounts) -> Callable[[], bool]:
    match settings.webhooks.private_addresses:
        case "allow":
            return lambda: True
        case "auto" if is_local(settings):
            return lambda: _has_one_account(accounts)
        case _:
            return lambda: False


def _has_one_account(accounts: Accounts) -> bool:
    """Of those that are not closed for good."""
    import sqlite3  # noqa: PLC0415 - as above

    try:
        return accounts.open_accounts(items_max=2) < 2
    except sqlite3.Error as error:
        raise OSError(errno.EIO, f"the read copy cannot be read: {error}") from error


def _own_engine(layout: Layout) -> list[Address]:
    """Where this host's engine listens, and those it knows; a log in memory has none."""
    try:
        urls = json.loads(layout.engine_door.read_bytes())["urls"]
    except FileNotFoundError:
        return []
    places = [urlsplit(url) for url in urls]
    return [Address(each.hostname or "", each.port or 0) for each in places]


def _is_one_address(text: str) -> bool:
    return _is_address(text) and not ipaddress.ip_address(text).is_unspecified


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
