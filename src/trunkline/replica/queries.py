"""Reading the host's copy. Reads are small and run inline; they may lag, and say by how much."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from trunkline.domain.account import Account, AccountStatus
from trunkline.domain.application import Application
from trunkline.domain.inventory import PREFIXES, NumberType
from trunkline.domain.key import Key
from trunkline.domain.message import Link, Message
from trunkline.domain.number import Number
from trunkline.domain.price import Category
from trunkline.kernel import Deadline
from trunkline.log.interface import Unreadable
from trunkline.replica import account_rows, callback_tables, money_tables, reply_rows, schema
from trunkline.replica.callback_tables import Waiting
from trunkline.replica.opt_outs import OptOuts
from trunkline.replica.progress import Progress

NUMBER_CHARS_MAX: Final = 16
"""A plus sign and fifteen digits (E.164)."""

_MESSAGE: Final = msgspec.msgpack.Decoder(Message)
_NUMBER: Final = msgspec.msgpack.Decoder(Number)
_ACCOUNT: Final = msgspec.msgpack.Decoder(Account)
_APPLICATION: Final = msgspec.msgpack.Decoder(Application)
_KEY: Final = msgspec.msgpack.Decoder(Key)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list that is ordered newest first: the last row already shown."""

    created_at: float
    sid: str


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Every given part must match. Times are seconds since the epoch, `from` inclusive and `to`
    exclusive, and speak of the moment of sending, or of creation where nothing was sent."""

    sender: str | None = None
    recipient: str | None = None
    sent_from: float | None = None
    sent_to: float | None = None


@dataclass(frozen=True, slots=True)
class NumberFilter:
    """`phone_number` matches anywhere in the number, each `*` in it one digit; `friendly_name` matches
    whole."""

    phone_number: str | None = None
    friendly_name: str | None = None
    type: NumberType | None = None


END_OF_TIME: Final = (float("inf"), "")


@dataclass(frozen=True, slots=True)
class Usage:
    """The messages of one day and category, which owe so many millionths of the currency."""

    day: int
    category: Category
    messages: int
    segments: int
    micros: int


class Replica:
    """One process's reading handle on the copy."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._db = schema.open_for_reading(path)
        self._file = _identity(path)
        self._progress = progress
        self._opt_outs = OptOuts(self._words, progress, progress.clock)

    def message(self, sid: str) -> Message | None:
        """The message, if its original has arrived here; also one that was deleted, which only its
        own services may see."""
        message = self.message_named(sid[2:])
        return message if message is not None and message.sid == sid else None

    def sequence(self, shard: int) -> int:
        """Up to where the copy holds everything of the shard."""
        return self._progress.sequence(shard)

    def link(self, digits: str, shard: int) -> Link | Unreadable | None:
        """The newest record of a message's chain in `shard` that the copy shows."""
        try:
            row = self._one("SELECT state FROM message WHERE digits = ?", digits)
        except sqlite3.Error as error:
            return Unreadable(f"the read copy cannot be read: {error}")
        link = None if row is None else _MESSAGE.decode(row[0]).link
        return link if link is not None and link.shard == shard else None

    def message_named(self, digits: str) -> Message | None:
        """The message with these digits, whatever letters its SID begins with; as above."""
        row = self._one("SELECT state FROM message WHERE digits = ?", digits)
        message = None if row is None else _MESSAGE.decode(row[0])
        return message if message is not None and message.is_known else None

    def messages(
        self, account: str, wanted: MessageFilter, *, items_max: int, behind: Place | None = None
    ) -> list[Message]:
        """At most `items_max` of the account's messages, newest first, behind a place; those that
        were deleted are left out."""
        where, values = ["account = ?", "created_at > 0"], [account]
        terms: list[tuple[str, object | None]] = [
            ("sender = ?", wanted.sender),
            ("recipient = ?", wanted.recipient),
            ("sent_or_created_at >= ?", wanted.sent_from),
            ("sent_or_created_at < ?", wanted.sent_to),
        ]
        return [
            _MESSAGE.decode(row[0])
            for row in self._page("message", where, values, terms, items_max, behind)
        ]

    def number(self, sid: str) -> Number | None:
        row = self._one("SELECT state FROM number WHERE sid = ?", sid)
        return None if row is None else _NUMBER.decode(row[0])

    def number_by_phone(self, phone_number: str) -> Number | None:
        row = self._one("SELECT state FROM number WHERE phone_number = ?", phone_number)
        return None if row is None else _NUMBER.decode(row[0])

    def owner_of(self, phone_number: str) -> str | Unreadable | None:
        """The account that owns it, for whoever sends: a copy that cannot be read is an answer."""
        try:
            number = self.number_by_phone(phone_number)
        except sqlite3.Error as error:
            return Unreadable(f"the read copy cannot be read: {error}")
        return None if number is None else number.account

    def numbers(
        self, account: str, wanted: NumberFilter, *, items_max: int, behind: Place | None = None
    ) -> list[Number]:
        """At most `items_max` of the account's numbers, newest first, behind a place."""
        where, values = ["account = ?"], [account]
        terms: list[tuple[str, object | None]] = [
            ("phone_number GLOB ?", _glob(wanted.phone_number)),
            ("friendly_name = ?", wanted.friendly_name),
        ]
        terms += _terms_of(wanted.type)
        return [
            _NUMBER.decode(row[0])
            for row in self._page("number", where, values, terms, items_max, behind)
        ]

    def application(self, sid: str) -> Application | None:
        row = self._one("SELECT state FROM application WHERE sid = ?", sid)
        return None if row is None else _APPLICATION.decode(row[0])

    def applications(
        self,
        account: str,
        friendly_name: str | None = None,
        *,
        items_max: int,
        behind: Place | None = None,
    ) -> list[Application]:
        """At most `items_max` of the account's applications, newest first, behind a place;
        `friendly_name` matches whole."""
        where, values = ["account = ?"], [account]
        terms: list[tuple[str, object | None]] = [("friendly_name = ?", friendly_name)]
        return [
            _APPLICATION.decode(row[0])
            for row in self._page("application", where, values, terms, items_max, behind)
        ]

    def has_opted_out(
        self,
        account: str,
        phone_number: str,
        handset: str,
        *,
        before: tuple[float, str] = END_OF_TIME,
    ) -> bool:
        """Whether `handset` has asked `phone_number` to stop, as far as this copy knows; with `before`,
        a moment and the SID of a message, whether it had when that message came."""
        if before is END_OF_TIME:
            known = self._opt_outs.has(account, phone_number, handset)
            if known is not None:
                return known
        return money_tables.has_opted_out(self._database(), account, phone_number, handset, before)

    def opt_out(self, account: str, phone_number: str, handset: str) -> bool | Unreadable:
        """The same as of now, for whoever sends: a copy that cannot be read is an answer."""
        try:
            return self.has_opted_out(account, phone_number, handset)
        except sqlite3.Error as error:
            return Unreadable(f"the read copy cannot be read: {error}")

    def replies_between(
        self, account: str, one: str, other: str, *, since: float
    ) -> int | Unreadable:
        """How many replies of the account's applications went from one of the numbers to the other
        since then, either way, as far as this copy knows."""
        try:
            return reply_rows.count(self._database(), account, one, other, since=since)
        except sqlite3.Error as error:
            return Unreadable(f"the read copy cannot be read: {error}")

    def usage(
        self, account: str, first_day: int, last_day: int, *, with_subaccounts: bool = False
    ) -> list[Usage]:
        """What the account's messages came to, by day and category, oldest first; days count from the
        epoch, in UTC, and both are included."""
        rows = money_tables.usage_between(
            self._database(), account, first_day, last_day, with_subaccounts=with_subaccounts
        )
        return [Usage(day, Category(category), *sums) for day, category, *sums in rows]

    def account(self, sid: str) -> Account | None:
        row = self._one("SELECT state FROM account WHERE sid = ?", sid)
        return None if row is None else _ACCOUNT.decode(row[0])

    def accounts(
        self,
        owner: str,
        friendly_name: str | None = None,
        status: AccountStatus | None = None,
        *,
        only: str | None = None,
        items_max: int,
        behind: Place | None = None,
    ) -> list[Account]:
        """At most `items_max` of the main account `owner` and its subaccounts, newest first, behind a
        place; or of these `only` the one. `friendly_name` matches whole."""
        where, values = ["owner = ?"], [owner]
        terms: list[tuple[str, object | None]] = [
            ("friendly_name = ?", friendly_name),
            ("status = ?", None if status is None else status.value),
            ("sid = ?", only),
        ]
        return [
            _ACCOUNT.decode(row[0])
            for row in self._page("account", where, values, terms, items_max, behind)
        ]

    def open_accounts(self, *, items_max: int) -> int:
        """How many accounts are not closed; `items_max` for that many or more."""
        return account_rows.count_open(self._database(), items_max)

    def key(self, sid: str) -> Key | None:
        row = self._one("SELECT state FROM api_key WHERE sid = ?", sid)
        return None if row is None else _KEY.decode(row[0])

    def keys(self, account: str, *, items_max: int, behind: Place | None = None) -> list[Key]:
        """At most `items_max` of the account's keys, newest first, behind a place."""
        where, values = ["account = ?"], [account]
        return [
            _KEY.decode(row[0])
            for row in self._page("api_key", where, values, [], items_max, behind)
        ]

    def receivers_waited_for(self, *, behind: str, items_max: int) -> list[str]:
        """The names of receivers (`domain/callback`) who are still to be told something, in order."""
        return callback_tables.receivers(self._database(), behind=behind, items_max=items_max)

    def waiting_for(self, receiver: str, *, behind: Waiting, items_max: int) -> list[Waiting]:
        """The messages of which one of them is still to be told something, the oldest first."""
        return callback_tables.waiting_for(
            self._database(), receiver, behind=behind, items_max=items_max
        )

    def lag_ms(self) -> float:
        """How long ago this copy was last known to be complete, in milliseconds."""
        return self._progress.lag_ms()

    def lag_ms_of(self, shard: int) -> float:
        """The same of what stands in one shard."""
        return self._progress.lag_ms_of(shard)

    def version(self) -> bytes:
        """Another one whenever the copy has moved; what was read under the same one still holds."""
        return self._progress.version()

    async def wait_until_seen(self, shard: int, sequence: int, *, deadline: Deadline) -> bool:
        """Whether the copy holds `sequence` of `shard` before the deadline."""
        return await self._progress.wait_until_seen(shard, sequence, deadline=deadline)

    def close(self) -> None:
        self._db.close()

    def _database(self) -> sqlite3.Connection:
        """The handle on the file that stands there now: the projector's process may have put
        another one in its place, restored, while this process lived on."""
        now = _identity(self._path)
        if now != self._file and now is not None:
            self._db.close()
            self._db = schema.open_for_reading(self._path)
            self._file = now
        return self._db

    def _words(self, account: str, phone_number: str, items_max: int) -> list[tuple[str, str]]:
        return money_tables.words_to(self._database(), account, phone_number, items_max)

    def _one(self, statement: str, *values: object) -> tuple[bytes, ...] | None:
        row: tuple[bytes, ...] | None = self._database().execute(statement, values).fetchone()
        return row

    def _page(
        self,
        table: str,
        where: list[str],
        values: list[object] | list[str],
        terms: list[tuple[str, object | None]],
        items_max: int,
        behind: Place | None,
    ) -> list[tuple[bytes]]:
        given: list[object] = list(values)
        for term, value in terms:
            if value is not None:
                where.append(term)
                given += value if isinstance(value, tuple) else (value,)
        if behind is not None:
            where.append("(created_at, sid) < (?, ?)")
            given += [behind.created_at, behind.sid]
        statement = (
            f"SELECT state FROM {table} WHERE {' AND '.join(where)} "  # noqa: S608 - fixed words only
            "ORDER BY created_at DESC, sid DESC LIMIT ?"
        )
        rows: list[tuple[bytes]] = (
            self._database().execute(statement, [*given, items_max]).fetchall()
        )
        return rows


def _glob(part: str | None) -> str | None:
    """The pattern for a part of a number. What no number has, or is longer than any, matches none,
    and is not read as a pattern: SQLite refuses long ones."""
    if part is None:
        return None
    is_part = len(part) <= NUMBER_CHARS_MAX and all(each in "+*0123456789" for each in part)
    return f"*{part.replace('*', '[0-9]')}*" if is_part else "-"


def _terms_of(type_: NumberType | None) -> list[tuple[str, object | None]]:
    """What tells the numbers of a type from others: how they begin."""
    if type_ is None:
        return []
    if type_ is NumberType.LOCAL:
        others = [each for prefixes in PREFIXES.values() for each in prefixes]
        return [("phone_number NOT GLOB ?", f"{each}*") for each in others]
    either = " OR ".join(["phone_number GLOB ?"] * len(PREFIXES[type_]))
    return [(f"({either})", tuple(f"{each}*" for each in PREFIXES[type_]))]


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; `None` in the moment in which there is none. About a microsecond."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
