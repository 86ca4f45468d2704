"""Owning a telephone number: decided in one place, the number's home shard, and never diverted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

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
    was_here,
)
from trunkline.directory.view import View
from trunkline.domain.events import Kind, NumberOwned
from trunkline.domain.number import Number, is_e164
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.log.limits import TRY_TIMEOUT_S
from trunkline.log.shards import home
from trunkline.replica.queries import Replica

FORMER_ACCOUNTS_MAX: Final = 16
"""Of a number that was moved on and on: the newest, whose STOPs count for whoever has it now."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The account owns the number now; `is_repeat` when it already did under the same SID."""

    number: Number
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody owns it already: the `number` as it is, where that is known."""

    number: Number | None = field(default=None, compare=False)


OwnAnswer = Owned | Taken | Spent | Undecidable


class Numbers:
    """Numbers as the API owns, changes and releases them: what was just done is also seen by the next
    read here."""

    def __init__(
        self,
        log: Log,
        replica: Replica,
        *,
        author: Author,
        is_closed: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`is_closed` says of an account whether it is closed: what it has left is anybody's."""
        self._log = log
        self._replica = replica
        self._author = author
        self._is_closed = is_closed
        self._view = View(log, replica, author.clock)

    async def own(
        self, account: str, settings: NumberOwned, *, is_keyed: bool, deadline: Deadline
    ) -> OwnAnswer:
        """Make `settings.phone_number` the account's; repeatable with the same `settings.sid`."""
        answer = await self._own(account, settings, is_keyed=is_keyed, deadline=deadline)
        if (
            isinstance(answer, Taken)
            and answer.number is not None
            and self._is_closed(answer.number.account)
        ):
            # It was closed, and the host that did so died before it had given back everything.
            freed = await self.release(answer.number, deadline=deadline)
            if isinstance(freed, Undecidable):
                return freed
            answer = await self._own(account, settings, is_keyed=is_keyed, deadline=deadline)
        if isinstance(answer, Owned):
            # The newest of the shard, and not only ours: a repeat finds an older record.
            await self._view.show_newest(home(settings.phone_number, self._log.shards))
        return answer

    async def _own(
        self, account: str, settings: NumberOwned, *, is_keyed: bool, deadline: Deadline
    ) -> OwnAnswer:
        return await own_number(
            self._log,
            account,
            settings,
            author=self._author,
            deadline=deadline,
            is_keyed=is_keyed,
        )

    async def change(
        self, number: Number, edit: Callable[[NumberOwned], NumberOwned], *, deadline: Deadline
    ) -> Number | Missing | Undecidable:
        """Make the settings what `edit` makes of the newest ones."""
        answer = await change(
            self._log,
            register_of(number.phone_number),
            edit,
            sid=number.sid,
            account=number.account,
            author=self._author,
            deadline=deadline,
        )
        if not isinstance(answer, Written):
            return answer
        await self._view.show(answer.record.shard, answer.record.sequence)
        return number_of(answer.record)

    async def move(
        self,
        number: Number,
        account: str,
        edit: Callable[[NumberOwned], NumberOwned],
        *,
        deadline: Deadline,
    ) -> Number | Missing | Undecidable:
        """Make the number the `account`'s, with the settings that `edit` makes of the newest ones."""
        answer = await change(
            self._log,
            register_of(number.phone_number),
            lambda settings: _moved(edit(settings), number.account, account),
            sid=number.sid,
            account=number.account,
            author=self._author,
            deadline=deadline,
            new_account=account,
        )
        if not isinstance(answer, Written):
            return answer
        await self._view.show(answer.record.shard, answer.record.sequence)
        return number_of(answer.record)

    async def release(
        self, number: Number, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        """Give the number back: from now on anybody may own it."""
        answer = await delete(
            self._log,
            register_of(number.phone_number),
            sid=number.sid,
            account=number.account,
            author=self._author,
            deadline=deadline,
        )
        if isinstance(answer, Removed):
            await self._view.show(answer.shard, answer.sequence)
        return answer

    async def find_owned(
        self, account: str, phone_number: str, *, deadline: Deadline
    ) -> Number | Unreadable | None:
        """See `find_owned` of this module."""
        timeout_s = min(TRY_TIMEOUT_S, deadline.remaining_s())
        return await find_owned(
            self._log, self._replica, account, phone_number, timeout_s=timeout_s
        )

    async def was_named(
        self, phone_number: str, sid: str, *, deadline: Deadline
    ) -> bool | Undecidable:
        """Whether the number is owned under this SID, or was and has been given back since."""
        clock = self._author.clock
        return await was_here(
            self._log, register_of(phone_number), sid, clock=clock, deadline=deadline
        )

    async def catch_up(self, *, deadline: Deadline) -> bool:
        """Whether this host's copy shows everything now that was acknowledged before the call."""
        return await self._view.catch_up(deadline=deadline)


async def own_number(
    log: Log,
    account: str,
    settings: NumberOwned,
    *,
    author: Author,
    deadline: Deadline,
    is_keyed: bool = True,
) -> OwnAnswer:
    """Claim the number's register in its home shard, where nobody else's claim can pass it."""
    answer = await create(
        log,
        register_of(settings.phone_number),
        settings,
        sid=settings.sid,
        account=account,
        is_keyed=is_keyed,
        author=author,
        deadline=deadline,
    )
    match answer:
        case Written(record=record, is_repeat=is_repeat):
            return Owned(number_of(record), is_repeat)
        case Occupied(record=record):
            return Taken(number_of(record))
        case Spent() | Undecidable():
            return answer
        case other:
            assert_never(other)


async def find_number(
    log: Log, phone_number: str, *, timeout_s: float
) -> Number | Unreadable | None:
    """The number as the log itself has it; `None` only when surely nobody owns it."""
    if not is_e164(phone_number):
        return None  # carriers may say anything, and a subject has words and wildcards of its own
    found = await find(log, register_of(phone_number), timeout_s=timeout_s)
    return number_of(found) if isinstance(found, Record) else found


async def find_owned(
    log: Log,
    replica: Replica,
    account: str,
    phone_number: str,
    *,
    timeout_s: float = TRY_TIMEOUT_S,
) -> Number | Unreadable | None:
    """The account's number, as the copy shows it, or else as the log has it: an owner whom the copy
    shows may be an earlier one. `None` only when it surely is none of the account's."""
    shown = replica.number_by_phone(phone_number)
    if shown is not None and shown.account == account:
        return shown
    found = await find_number(log, phone_number, timeout_s=timeout_s)
    is_anothers = isinstance(found, Number) and found.account != account
    return None if is_anothers else found


def _moved(settings: NumberOwned, giver: str, taker: str) -> NumberOwned:
    former = [each for each in settings.former_accounts if each not in (giver, taker)]
    newest = (*former, giver)[-FORMER_ACCOUNTS_MAX:]
    return msgspec.structs.replace(settings, former_accounts=newest)


def register_of(phone_number: str) -> Register[NumberOwned]:
    """The account is no part of the register's name: it is one register for everybody."""
    return Register(
        Kind.NUMBER, NumberOwned, phone_number.removeprefix("+"), placed_by=phone_number
    )


def number_of(record: Record[NumberOwned]) -> Number:
    """The number that a record is."""
    return Number(
        account=record.account,
        settings=record.body,
        created_at=record.created_at,
        updated_at=record.changed_at,
    )
