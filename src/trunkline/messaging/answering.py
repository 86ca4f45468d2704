"""Whose URLs are asked about what arrives at a number, and whose numbers the replies go out from."""

from trunkline.directory.applications import find_application
from trunkline.directory.numbers import find_owned
from trunkline.domain.events import ApplicationMade, NumberOwned
from trunkline.domain.number import Number
from trunkline.kernel import Backoff, Clock, Deadline
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.replica.queries import Replica


async def answering(
    number: Number, *, log: Log, replica: Replica
) -> ApplicationMade | NumberOwned | Unreadable:
    """The settings that count for messages to `number`.

    An application that the copy does not show may be too new for it, so the log is asked. One that
    surely is not there was deleted: then the number's own URLs count, as if it named none.
    """
    sid = number.settings.sms_application_sid
    if not sid:
        return number.settings
    application = replica.application(sid) or await find_application(
        log, sid, timeout_s=TRY_TIMEOUT_S
    )
    if isinstance(application, Unreadable):
        return application
    if application is None or application.account != number.account:
        return number.settings
    return application.settings


async def is_number_of(
    account: str,
    phone_number: str,
    *,
    log: Log,
    replica: Replica,
    clock: Clock,
    backoff: Backoff,
    deadline: Deadline,
) -> bool | None:
    """Whether the number is the account's. One that was just bought is not shown by every copy yet, so
    the log is asked until it can tell; `None` if it cannot before the deadline."""
    attempt = 0
    while True:
        found = await find_owned(log, replica, account, phone_number)
        if not isinstance(found, Unreadable):
            return found is not None
        if deadline.has_passed():
            return None
        await clock.sleep(min(backoff.delay_s(attempt), deadline.remaining_s()))
        attempt += 1
