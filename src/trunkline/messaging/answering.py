"""Whose URLs are asked about what arrives at a number: those of its application, or its own."""

from trunkline.directory.applications import find_application
from trunkline.domain.events import ApplicationMade, NumberOwned
from trunkline.domain.number import Number
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
