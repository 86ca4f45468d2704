"""Accounts: records of their own, each with a register named by the digits of its SID."""

from collections.abc import Callable

from trunkline.directory.news import Change, News
from trunkline.directory.records import (
    Missing,
    Occupied,
    Record,
    Register,
    Spent,
    Undecidable,
    Written,
    change,
    create,
    find,
)
from trunkline.directory.view import View
from trunkline.domain.account import Account
from trunkline.domain.events import AccountOpened, Kind
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.replica.queries import Replica


class Accounts:
    """Accounts as the API opens and changes them: what was just done is known to every host at once,
    and seen by the next read here."""

    def __init__(self, log: Log, replica: Replica, news: News, *, author: Author) -> None:
        self._log = log
        self._author = author
        self._news = news
        self._view = View(log, replica, author.clock)

    async def open(
        self, opened: AccountOpened, *, is_keyed: bool, deadline: Deadline
    ) -> Account | Spent | Undecidable:
        """Open it; repeatable with the same `opened.sid`, and then what stands is given back."""
        answer = await create(
            self._log,
            register_of(opened.sid),
            opened,
            sid=opened.sid,
            account=opened.sid,
            is_keyed=is_keyed,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Occupied):
            # The register is named by the SID.
            return Undecidable("another record stands under this SID")
        if not isinstance(answer, Written):
            return answer
        return await self._shown(answer.record)

    async def change(
        self, sid: str, edit: Callable[[AccountOpened], AccountOpened], *, deadline: Deadline
    ) -> Account | Missing | Undecidable:
        """Make it what `edit` makes of what it is now."""
        answer = await change(
            self._log,
            register_of(sid),
            edit,
            sid=sid,
            account=sid,
            author=self._author,
            deadline=deadline,
        )
        return await self._shown(answer.record) if isinstance(answer, Written) else answer

    async def find(self, sid: str, *, deadline: Deadline) -> Account | Unreadable | None:
        """As the log has it, for what the copy does not show yet; `None` only when it surely is not
        there."""
        timeout_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        found = await find(self._log, register_of(sid), timeout_s=timeout_s)
        return account_of(found) if isinstance(found, Record) else found

    async def _shown(self, record: Record[AccountOpened]) -> Account:
        account = account_of(record)
        self._news.tell(
            Change(sid=record.sid, shard=record.shard, sequence=record.sequence, account=account)
        )
        await self._view.show(record.shard, record.sequence)
        return account


async def open_account(
    log: Log, opened: AccountOpened, *, author: Author, deadline: Deadline
) -> bool:
    """Whether the account exists now, as it was opened or as it was changed since; a repeat changes
    nothing."""
    answer = await create(
        log,
        register_of(opened.sid),
        opened,
        sid=opened.sid,
        account=opened.sid,
        is_keyed=True,
        author=author,
        deadline=deadline,
    )
    return isinstance(answer, Written)


def register_of(sid: str) -> Register[AccountOpened]:
    """`sid` is well formed: it becomes a word of a subject."""
    return Register(Kind.ACCOUNT, AccountOpened, digits_of(sid))


def account_of(record: Record[AccountOpened]) -> Account:
    """The account that a record is."""
    body = record.body
    return Account(
        sid=body.sid,
        friendly_name=body.friendly_name,
        auth_token=body.auth_token,
        created_at=record.created_at,
        updated_at=record.changed_at,
        owner=body.owner,
        status=body.status,
        type=body.type,
        fingerprint=body.fingerprint,
    )
