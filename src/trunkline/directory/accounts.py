"""Accounts: records of their own, each with a register named by the digits of its SID."""

from trunkline.directory.collection import Collection
from trunkline.directory.news import Change, News
from trunkline.directory.records import Record, Register, Written, create
from trunkline.domain.account import Account
from trunkline.domain.events import AccountOpened, Kind
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.author import Author
from trunkline.log.interface import Log
from trunkline.replica.queries import Replica


def all_accounts(
    log: Log, replica: Replica, news: News, *, author: Author
) -> Collection[AccountOpened, Account]:
    """All accounts; the account of each is itself. What is done to one is known to every host at
    once. None is ever deleted: one is closed, and that is one of its states."""

    def tell(sid: str, shard: int, sequence: int, account: Account | None) -> None:
        news.tell(Change(sid=sid, shard=shard, sequence=sequence, account=account))

    return Collection(log, replica, register_of, account_of, author=author, tell=tell)


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
