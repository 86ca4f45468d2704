"""Whose resources a request may touch: its caller's own, or those of a subaccount of the caller.

The account in the path is the one that is acted on: to it belongs what is made, and it is counted for
its limits. All refusals are 20003, and those of another account's path are the same whether there is
such an account or not.
"""

from typing import Final

from trunkline.api.auth import Caller
from trunkline.api.errors import ApiError, refused, unavailable
from trunkline.api.remembered import Remembered
from trunkline.api.services import KnownPort, RecordsPort
from trunkline.domain import sid
from trunkline.domain.account import Account
from trunkline.domain.events import AccountOpened
from trunkline.kernel import Clock, Deadline
from trunkline.log.interface import Unreadable


class Access:
    """Finds the account of a path for who may act on it."""

    def __init__(
        self, known: KnownPort, accounts: RecordsPort[AccountOpened, Account], clock: Clock
    ) -> None:
        self._accounts: Final = accounts
        self._known: Final[Remembered[str, Account]] = Remembered(
            known.account, known.version, clock
        )

    async def account(
        self, caller: Caller, words: tuple[str, ...], *, is_own_only: bool, deadline: Deadline
    ) -> Account:
        """The account that the first of `words` names, or the caller's own where a path has none.
        `is_own_only`: what is asked for is not done with a key. Raises `ApiError`."""
        if is_own_only and caller.key is not None:
            raise refused(
                "An API key manages no accounts and no keys: use the account's SID and auth token."
            )
        own = caller.account
        if not words or words[0] == own.sid:
            return own
        # What is not known here yet may have been made a moment ago; only a main account that has
        # shown its token can make us ask the log.
        if caller.key is not None or own.is_subaccount or not sid.is_sid(words[0], sid.ACCOUNT):
            raise _foreign()
        account = self._known(words[0]) or await self._sought(words[0], deadline)
        if account is None or account.owner != own.sid:
            raise _foreign()
        return account

    async def _sought(self, name: str, deadline: Deadline) -> Account | None:
        found = await self._accounts.find(name, deadline=deadline)
        if isinstance(found, Unreadable):
            raise unavailable(
                "Whether this account exists cannot be told at the moment. Try again."
            )
        return found


def refuse_inactive(account: Account) -> None:
    """Raises `ApiError` for an account that may do nothing new. It is only its parent that gets here:
    its own credentials are good for nothing."""
    if not account.is_active:
        raise refused(f"The account is {account.status.value}, and nothing is made for it.")


def _foreign() -> ApiError:
    return refused(
        "These credentials are of another account. A main account acts on its own subaccounts with "
        "its SID and auth token, and a key on the account that it belongs to."
    )
