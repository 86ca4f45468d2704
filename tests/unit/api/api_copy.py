"""The read copy of a host's API, with the writing side in the test's hands."""

import contextlib
import itertools
import sqlite3
from pathlib import Path

import msgspec

from trunkline.domain.events import Body, Kind, Type
from trunkline.kernel import FakeClock
from trunkline.log.event import Event, changed_subject, encode_body
from trunkline.log.interface import Stored
from trunkline.replica import schema
from trunkline.replica.folding import Folding
from trunkline.replica.progress import Progress
from trunkline.replica.queries import Replica


class Copy:
    """The host's read copy, with the writing side in the test's hands."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self._path = path
        self._clock = clock
        self._ids = itertools.count()
        self._folding = Folding(schema.open_for_writing(path, cluster="test"))
        self._sequence = 0
        self._progress = Progress(path.with_suffix(".progress"), shards=1, clock=clock)
        self.replica = Replica(path, self._progress)

    def put(self, kind: Kind, type_: Type, account: str, of: str, body: Body) -> None:
        """One event of resource `of`, visible after `catch_up`."""
        now = self._clock.wall()
        event = Event(
            id=f"event-{next(self._ids)}",
            kind=kind,
            type=type_,
            sid=of,
            account=account,
            at=now,
            by_host="host-1",
            data=encode_body(body),
        )
        stored = Stored(0, changed_subject(0, kind, account), 1, now, b"")
        self._folding.add(event, body, stored)

    def catch_up(self) -> None:
        """Show everything put so far."""
        self._folding.write()
        self._folding.commit()
        self._folding.forget_written()
        self._sequence += 1
        self._progress.record(0, sequence=self._sequence, complete_at=self._clock.wall())

    def change_token(self, account: str, token: str) -> None:
        """As a projector does that has not said yet that it wrote."""
        known = self.replica.account(account)
        assert known is not None
        state = msgspec.msgpack.encode(msgspec.structs.replace(known, auth_token=token))
        with contextlib.closing(sqlite3.connect(self._path)) as database, database:
            database.execute("UPDATE account SET state = ? WHERE sid = ?", (state, account))

    def close(self) -> None:
        self.replica.close()
        self._progress.close()
        self._folding.close()
