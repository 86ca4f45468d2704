"""An account: whom a resource belongs to, the token it authenticates with, and whether it may act."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec


class AccountStatus(StrEnum):
    """Whether an account may act. Only an active one sends, and has what it receives answered."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


NEXT: Final[Mapping[AccountStatus, frozenset[AccountStatus]]] = {
    AccountStatus.ACTIVE: frozenset({AccountStatus.SUSPENDED, AccountStatus.CLOSED}),
    AccountStatus.SUSPENDED: frozenset({AccountStatus.ACTIVE, AccountStatus.CLOSED}),
    AccountStatus.CLOSED: frozenset(),
}
"""What its parent may make of it."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since the epoch. `owner` is the parent's SID; a main account has none.
    `fingerprint` tells a repeat of the create from another one under its key."""

    sid: str
    friendly_name: str
    auth_token: str
    created_at: float
    updated_at: float
    owner: str = ""
    status: AccountStatus = AccountStatus.ACTIVE
    type: str = "Full"
    fingerprint: str = ""

    @property
    def is_active(self) -> bool:
        return self.status is AccountStatus.ACTIVE

    @property
    def is_subaccount(self) -> bool:
        return bool(self.owner)
