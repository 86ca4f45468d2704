"""API keys: records of an account, each with a register named by the digits of its SID."""

from collections.abc import Callable

from trunkline.directory.news import Change, News
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
from trunkline.domain.events import KeyMade, Kind
from trunkline.domain.key import Key
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.replica.queries import Replica


class Keys:
    """Keys as the API makes, changes and deletes them: what was just done is known to every host at
    once, and seen by the next read here."""

    def __init__(self, log: Log, replica: Replica, news: News, *, author: Author) -> None:
        self._log = log
        self._author = author
        self._news = news
        self._view = View(log, replica, author.clock)

    async def make(
        self, account: str, settings: KeyMade, *, is_keyed: bool, deadline: Deadline
    ) -> Key | Spent | Undecidable:
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
        return await self._shown(answer.record)

    async def change(
        self, account: str, sid: str, edit: Callable[[KeyMade], KeyMade], *, deadline: Deadline
    ) -> Key | Missing | Undecidable:
        """Make it what `edit` makes of what it is now."""
        answer = await change(
            self._log,
            register_of(sid),
            edit,
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        return await self._shown(answer.record) if isinstance(answer, Written) else answer

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        """Delete it: nobody gets in with it any more."""
        answer = await delete(
            self._log,
            register_of(sid),
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Removed):
            self._news.tell(Change(sid=sid, shard=answer.shard, sequence=answer.sequence))
            await self._view.show(answer.shard, answer.sequence)
        return answer

    async def find(self, sid: str, *, deadline: Deadline) -> Key | Unreadable | None:
        """As the log has it, for what the copy does not show yet; `None` only when it surely is not
        there."""
        timeout_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        found = await find(self._log, register_of(sid), timeout_s=timeout_s)
        return key_of(found) if isinstance(found, Record) else found

    async def _shown(self, record: Record[KeyMade]) -> Key:
        key = key_of(record)
        self._news.tell(
            Change(sid=record.sid, shard=record.shard, sequence=record.sequence, key=key)
        )
        await self._view.show(record.shard, record.sequence)
        return key


def register_of(sid: str) -> Register[KeyMade]:
    """`sid` is well formed: it becomes a word of a subject."""
    return Register(Kind.KEY, KeyMade, digits_of(sid))


def key_of(record: Record[KeyMade]) -> Key:
    """The key that a record is."""
    return Key(
        account=record.account,
        settings=record.body,
        created_at=record.created_at,
        updated_at=record.changed_at,
    )
