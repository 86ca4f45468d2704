"""A request whose account is known and whose arguments are checked: what a handler is given."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from trunkline.api.answer import Answer
from trunkline.api.arguments import Arguments
from trunkline.api.catalogue import Operation
from trunkline.api.form import Fields
from trunkline.api.services import ApiServices
from trunkline.domain.account import Account
from trunkline.domain.errors import Code
from trunkline.kernel import Deadline


class Request(msgspec.Struct, frozen=True):
    """`words` stand at the placeholders of the path, the account's SID first; `fields` are as sent.
    `account` is the one that is acted on, by `caller`, which is the same or its parent; `is_by_key`
    where it showed a key and not its token."""

    operation: Operation
    account: Account
    caller: Account
    path: str
    words: tuple[str, ...]
    headers: dict[bytes, bytes]
    fields: Fields
    arguments: Arguments
    deadline: Deadline
    is_by_key: bool = False

    def header(self, name: bytes) -> str | None:
        """A header's value; `name` is in lower case. Bytes beyond ASCII become Latin-1."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()


@dataclass(frozen=True, slots=True)
class Handler:
    """How one operation is done, and the codes with which it refuses malformed parameters. With
    `is_own_only` it takes the account's own credentials, and not those of a key; `is_for_inactive`
    ones change something, and are done for an account that is suspended, too."""

    run: Callable[[Request, ApiServices], Awaitable[Answer]]
    codes: Mapping[str, Code] = field(default_factory=dict)
    is_own_only: bool = False
    is_for_inactive: bool = False
