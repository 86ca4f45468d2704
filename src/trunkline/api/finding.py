"""A message by its SID: from the host's copy, or where that lags, from the log itself."""

from trunkline.api.errors import unavailable
from trunkline.api.services import ApiServices
from trunkline.domain import sid
from trunkline.domain.message import Message
from trunkline.kernel import Deadline
from trunkline.log.interface import Unreadable


async def find_message(
    account: str, name: str, services: ApiServices, *, deadline: Deadline
) -> Message | None:
    """The account's message; `None` only if it was deleted, or every part of the log said that there
    is none. Raises `ApiError` (503) where that cannot be told."""
    if not sid.is_sid(name, sid.SMS, sid.MMS):
        return None
    known = services.replica.message(name)
    if known is None:
        # The copy may lag: a resource just created is found in the log, or we say that we cannot tell.
        answer = await services.lookup.message(account, name, deadline=deadline)
        if isinstance(answer, Unreadable):
            raise unavailable(
                "Whether this message exists cannot be told at the moment. Try again."
            )
        known = answer
    if known is None or known.account != account or not known.is_known or known.is_deleted:
        return None
    return known
