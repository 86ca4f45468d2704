"""All records of one kind that are named by their SIDs: made, changed, deleted and found.

`directory/records` decides in the log. Here its answers become what the rest of the host works with,
and are waited for in this host's copy, so that what was just done is seen by the next read here. A
kind is one module beside this one: which register a SID has, what a record of it is to the outside,
and whom to tell when it changes. Numbers are not kept so: a number's register is named by its digits,
and that another one stands in it is an answer there.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

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
from trunkline.domain.events import Settings
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.replica.queries import Replica

Shown = TypeVar("Shown")
"""What a record is to the rest of the host: its settings, whose it is, and since when."""

Tell = Callable[[str, int, int, Shown | None], None]
"""Called with the SID of what changed, the shard and the sequence of the event that says so, and what
it is now: `None` when it was deleted."""


class Collection(Generic[Settings, Shown]):
    """All records of one kind, of every account."""

    def __init__(
        self,
        log: Log,
        replica: Replica,
        register_of: Callable[[str], Register[Settings]],
        shown_of: Callable[[Record[Settings]], Shown],
        *,
        author: Author,
        tell: Tell[Shown] | None = None,
    ) -> None:
        """`register_of` gives the register of a SID; what is told is told before the copy is waited
        for."""
        self._log = log
        self._register_of: Callable[[str], Register[Settings]] = register_of
        self._shown_of: Callable[[Record[Settings]], Shown] = shown_of
        self._author = author
        self._tell = tell
        self._view = View(log, replica, author.clock)

    async def make(
        self, account: str, settings: Settings, *, is_keyed: bool, deadline: Deadline
    ) -> Shown | Spent | Undecidable:
        """Make it; repeatable with the same `settings.sid`, and then what stands is given back."""
        answer = await create(
            self._log,
            self._register_of(settings.sid),
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
        return await self._told(answer.record) if isinstance(answer, Written) else answer

    async def change(
        self, account: str, sid: str, edit: Callable[[Settings], Settings], *, deadline: Deadline
    ) -> Shown | Missing | Undecidable:
        """Make it what `edit` makes of what it is now. `edit` as in `records.change`."""
        answer = await change(
            self._log,
            self._register_of(sid),
            edit,
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        return await self._told(answer.record) if isinstance(answer, Written) else answer

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        """Delete it. What names it finds nothing from then on."""
        answer = await delete(
            self._log,
            self._register_of(sid),
            sid=sid,
            account=account,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Removed):
            await self._known(sid, answer.shard, answer.sequence, None)
        return answer

    async def find(self, sid: str, *, deadline: Deadline) -> Shown | Unreadable | None:
        """As the log has it, for what the copy does not show yet; `None` only when it surely is not
        there."""
        timeout_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        found = await find(self._log, self._register_of(sid), timeout_s=timeout_s)
        return self._shown_of(found) if isinstance(found, Record) else found

    async def _told(self, record: Record[Settings]) -> Shown:
        shown = self._shown_of(record)
        await self._known(record.sid, record.shard, record.sequence, shown)
        return shown

    async def _known(self, sid: str, shard: int, sequence: int, shown: Shown | None) -> None:
        if self._tell is not None:
            self._tell(sid, shard, sequence, shown)
        await self._view.show(shard, sequence)
