"""An account: whom a resource belongs to, and the token it authenticates with."""

import msgspec


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds since the epoch."""

    sid: str
    friendly_name: str
    auth_token: str
    created_at: float
    updated_at: float
