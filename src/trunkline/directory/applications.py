"""Applications: records of an account, each with a register named by the digits of its SID."""

from collections.abc import Callable

from trunkline.directory.records import (
    Missing,
    Occupied,
    Record,
    Register,
    Removed,
    Spent,
    Undecidable,
    Written,
    change,
    create,
    delete,
    find,
)
from trunkline.directory.view import View
from trunkline.domain.application import Application
from trunkline.domain.events import ApplicationMade, Kind
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.replica.queries import Replica


class Applications:
    """Applications as the API makes and changes them: what was just done is also seen by the next
    read here."""

    def __init__(self, log: Log, replica: Replica, *, author: Author) -> None:
        self._log = log
        self._author = author
        self._view = View(log, replica, author.clock)

    async def make(
        self, account: str, settings: ApplicationMade, *, is_keyed: bool, deadline: Deadline
    ) -> Application | Spent | Undecidable:
        """Make it; repeatable with the same `settings.sid`, and then what stands is given back."""
        answer = await create(
            self._log,
            register_of(settings.sid),
            settings,
            sid=settings.sid,
            account=account,
            is_keyed=is_keyed,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Occupied):
            # The register is named by the SID, and SIDs of two accounts are never the same.
            return Undecidable("another record stands under this SID")
        if not isinstance(answer, Written):
            return answer
        await self._view.show(answer.record.shard, answer.record.sequence)
        return application_of(answer.record)

    async def change(
        self,
        account: str,
        sid: str,
        edit: Callable[[ApplicationMade], ApplicationMade],
        *,
        deadline: Deadline,
    ) -> Application | Missing | Undecidable:
        """Make the settings what `edit` makes of the newest ones."""
        answer = await change(
            self._log,
            register_of(sid),
            edit,
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        if not isinstance(answer, Written):
            return answer
        await self._view.show(answer.record.shard, answer.record.sequence)
        return application_of(answer.record)

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        """Delete it. Numbers that name it go by their own URLs from then on."""
        answer = await delete(
            self._log,
            register_of(sid),
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Removed):
            await self._view.show(answer.shard, answer.sequence)
        return answer

    async def find(self, sid: str, *, deadline: Deadline) -> Application | Unreadable | None:
        """As the log has it, for what the copy does not show yet; `None` only when it surely is not
        there."""
        timeout_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        return await find_application(self._log, sid, timeout_s=timeout_s)


async def find_application(
    log: Log, sid: str, *, timeout_s: float
) -> Application | Unreadable | None:
    """The application as the log itself has it; `None` only when there surely is none."""
    found = await find(log, register_of(sid), timeout_s=timeout_s)
    return application_of(found) if isinstance(found, Record) else found


def register_of(sid: str) -> Register[ApplicationMade]:
    """`sid` is well formed: it becomes a word of a subject."""
    return Register(Kind.APPLICATION, ApplicationMade, digits_of(sid))


def application_of(record: Record[ApplicationMade]) -> Application:
    """The application that a record is."""
    return Application(
        account=record.account,
        settings=record.body,
        created_at=record.created_at,
        updated_at=record.changed_at,
    )
