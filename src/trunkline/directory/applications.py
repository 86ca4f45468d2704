"""Applications: records of an account, each with a register named by the digits of its SID."""

from trunkline.directory.collection import Collection
from trunkline.directory.records import Record, Register, find
from trunkline.domain.application import Application
from trunkline.domain.events import ApplicationMade, Kind
from trunkline.domain.sid import digits_of
from trunkline.log.author import Author
from trunkline.log.interface import Log, Unreadable
from trunkline.replica.queries import Replica


def all_applications(
    log: Log, replica: Replica, *, author: Author
) -> Collection[ApplicationMade, Application]:
    """All applications. Numbers that name a deleted one go by their own URLs from then on."""
    return Collection(log, replica, register_of, application_of, author=author)


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
