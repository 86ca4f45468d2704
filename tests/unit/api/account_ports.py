"""Accounts and keys by SID, small and true: what is done is shown at once, unless the copy stands still."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from trunkline.directory.records import Missing, Removed, Spent, Undecidable
from trunkline.domain.account import Account
from trunkline.domain.events import AccountOpened, Body, Deleted, KeyMade, Kind, Type
from trunkline.domain.key import Key
from trunkline.kernel import Deadline, FakeClock
from trunkline.log.interface import Unreadable


class WritableCopy(Protocol):
    """The host's read copy, with the writing side in the test's hands."""

    def put(self, kind: Kind, type_: Type, account: str, of: str, body: Body) -> None: ...

    def catch_up(self) -> None: ...


@dataclass
class Accounts:
    """`bodies` is what the log would say."""

    copy: WritableCopy
    clock: FakeClock
    says: Undecidable | None = None
    is_electing: bool = False
    is_copy_behind: bool = False
    bodies: dict[str, AccountOpened] = field(default_factory=dict)

    async def open(
        self, opened: AccountOpened, *, is_keyed: bool, deadline: Deadline
    ) -> Account | Spent | Undecidable:
        del is_keyed
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if opened.sid not in self.bodies:
            self.bodies[opened.sid] = opened
            self._show(Type.ORIGINAL, opened)
        return self._account(opened.sid)

    async def change(
        self, sid: str, edit: Callable[[AccountOpened], AccountOpened], *, deadline: Deadline
    ) -> Account | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if sid not in self.bodies:
            return Missing()
        edited = edit(self.bodies[sid])
        if edited != self.bodies[sid]:
            self.bodies[sid] = edited
            self._show(Type.CHANGE, edited)
        return self._account(sid)

    async def find(self, sid: str, *, deadline: Deadline) -> Account | Unreadable | None:
        assert not deadline.has_passed()
        if self.is_electing:
            return Unreadable("electing")
        return self._account(sid) if sid in self.bodies else None

    def _account(self, sid: str) -> Account:
        known = msgspec.structs.asdict(self.bodies[sid])
        now = self.clock.wall()
        return Account(**known, created_at=now, updated_at=now)

    def _show(self, type_: Type, body: AccountOpened) -> None:
        self.copy.put(Kind.ACCOUNT, type_, body.sid, body.sid, body)
        if not self.is_copy_behind:
            self.copy.catch_up()


@dataclass
class Keys:
    """`made` is what the log would say."""

    copy: WritableCopy
    clock: FakeClock
    says: Undecidable | None = None
    is_electing: bool = False
    made: dict[str, Key] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    async def make(
        self, account: str, settings: KeyMade, *, is_keyed: bool, deadline: Deadline
    ) -> Key | Spent | Undecidable:
        del is_keyed
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        if settings.sid in self.deleted:
            return Spent()
        if settings.sid not in self.made:
            now = self.clock.wall()
            self.made[settings.sid] = Key(
                account=account, settings=settings, created_at=now, updated_at=now
            )
            self._show(Type.ORIGINAL, account, settings.sid, settings)
        return self.made[settings.sid]

    async def change(
        self, account: str, sid: str, edit: Callable[[KeyMade], KeyMade], *, deadline: Deadline
    ) -> Key | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        standing = self.made.get(sid)
        if standing is None or standing.account != account:
            return Missing()
        self.made[sid] = msgspec.structs.replace(
            standing, settings=edit(standing.settings), updated_at=self.clock.wall()
        )
        self._show(Type.CHANGE, account, sid, self.made[sid].settings)
        return self.made[sid]

    async def delete(
        self, account: str, sid: str, *, deadline: Deadline
    ) -> Removed | Missing | Undecidable:
        assert not deadline.has_passed()
        if self.says is not None:
            return self.says
        standing = self.made.get(sid)
        if standing is None or standing.account != account:
            return Missing()
        del self.made[sid]
        self.deleted.add(sid)
        self._show(Type.DELETED, account, sid, Deleted())
        return Removed(0, 1)

    async def find(self, sid: str, *, deadline: Deadline) -> Key | Unreadable | None:
        assert not deadline.has_passed()
        return Unreadable("electing") if self.is_electing else self.made.get(sid)

    def _show(self, type_: Type, account: str, sid: str, body: Body) -> None:
        self.copy.put(Kind.KEY, type_, account, sid, body)
        self.copy.catch_up()
