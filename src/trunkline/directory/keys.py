"""API keys: records of an account, each with a register named by the digits of its SID."""

from trunkline.directory.collection import Collection
from trunkline.directory.news import Change, News
from trunkline.directory.records import Record, Register
from trunkline.domain.events import KeyMade, Kind
from trunkline.domain.key import Key
from trunkline.domain.sid import digits_of
from trunkline.log.author import Author
from trunkline.log.interface import Log
from trunkline.replica.queries import Replica


def all_keys(log: Log, replica: Replica, news: News, *, author: Author) -> Collection[KeyMade, Key]:
    """All keys. What is done to one is known to every host at once: with a key that was deleted nobody
    gets in any more."""

    def tell(sid: str, shard: int, sequence: int, key: Key | None) -> None:
        news.tell(Change(sid=sid, shard=shard, sequence=sequence, key=key))

    return Collection(log, replica, register_of, key_of, author=author, tell=tell)


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
