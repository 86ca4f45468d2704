"""What must hold after each step and at the end, whatever the network, the hosts and time do.

`Promises` is told everything that becomes a fact, and raises `Broken` at the first one that may
not be. It looks at the log, at what reached the carrier, and at what clients were told: never at
what the code under test believes.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.unit.protocol.faulty_log import Network

from trunkline.domain.events import Ambiguous, Kind, MessageCreated, Type
from trunkline.domain.message import Message
from trunkline.domain.sid import digits_of
from trunkline.log.append import is_late
from trunkline.log.event import Event, created_subject, decode_all
from trunkline.log.fence import Verdict
from trunkline.log.interface import Stored
from trunkline.log.names import SHARED_DIGITS
from trunkline.log.shards import order
from trunkline.messaging.accept import Created, KeyReused, NotAccepted
from trunkline.messaging.carrier import Submission
from trunkline.messaging.work import OnAmbiguous

ACCOUNT: Final = "AC" + "a" * 32
ENDS: Final = frozenset({Type.OUTCOME, Type.REFUSAL})


class Promise(Enum):
    """The invariants of the protocol, by the names they have in its design."""

    A1 = "at most one copy of a resource is ever decided true"
    A2 = "if an original in time stands anywhere, exactly one is decided true in the end"
    A3 = "what was answered 201 stands in the log, as it was asked for"
    A4 = "a tombstone replaces nothing"
    A5 = "a fence never changes its answer"
    SURE = "what was answered as surely not accepted stands nowhere"
    C1 = "one hand-over for each attempt"
    C2 = "no second hand-over before the first is marked ambiguous"
    C3 = "a delivery is answered when what came of it is durable"
    C4 = "no claim behind an end"
    NONE_LOST = "what was accepted was handed over, or somebody was told why not"
    NOT_STUCK = "with everything healed, everything comes to an end"


SEEN_FROM_OUTSIDE: Final = frozenset({Promise.C1, Promise.C2, Promise.NONE_LOST})
"""Sent twice without a word, or lost: what a customer would notice."""


class Broken(AssertionError):
    """A promise that did not hold, and by what."""

    def __init__(self, promise: Promise, by: str) -> None:
        super().__init__(f"{promise.name}: {promise.value}; broken by {by}")
        self.promise = promise


@dataclass(frozen=True)
class Copy:
    """An original that stands first in a register, in time."""

    stored: Stored
    event: Event

    @property
    def body(self) -> MessageCreated:
        body = self.event.body()
        assert isinstance(body, MessageCreated)
        return body


@dataclass
class Promises:
    """The judge of one cluster."""

    network: Network
    policy: OnAmbiguous
    watched: Collection[Promise] = frozenset(Promise)
    is_broken: bool = False
    handed_over: dict[str, list[int]] = field(default_factory=dict)
    """By digits: the attempts that reached the carrier, in that order."""
    refused: set[str] = field(default_factory=set)
    """The digits of those to which the carrier said a final no."""
    _true: dict[str, int] = field(default_factory=dict)
    _false: set[tuple[str, int]] = field(default_factory=set)
    _surely_nowhere: set[str] = field(default_factory=set)
    _attempts_left: set[str] = field(default_factory=set)

    def stored(self, stored: Stored, event: Event) -> None:
        """A record is durable."""
        digits = digits_of(event.sid)
        if event.type is Type.ORIGINAL and digits in self._surely_nowhere:
            self.broken(Promise.SURE, f"{event.sid} in shard {stored.shard}")
        chain = self.network.chain(stored.shard, digits)
        if event.type is Type.TOMBSTONE and len(chain) != 1:
            self.broken(Promise.A4, f"a tombstone behind something in {stored.subject}")
        if event.type is Type.CLAIM:
            if any(_is_end(record) for record in chain[:-1]):
                self.broken(Promise.C4, f"a claim of {event.by_host} on {event.sid}")
            self._decided_true(digits, stored.shard)

    def judged(self, event: Event, shard: int, verdict: Verdict) -> None:
        """A fence has answered."""
        digits = digits_of(event.sid)
        if verdict is Verdict.TRUE:
            self._decided_true(digits, shard)
        elif verdict is Verdict.DUPLICATE:
            self._false.add((digits, shard))
            if self._true.get(digits) == shard:
                self.broken(Promise.A5, f"shard {shard}'s copy of {event.sid}, true before")

    def _decided_true(self, digits: str, shard: int) -> None:
        if (digits, shard) in self._false:
            self.broken(Promise.A5, f"shard {shard}'s copy of {digits}, a duplicate before")
        if self._true.setdefault(digits, shard) != shard:
            self.broken(Promise.A1, f"{digits} in shards {self._true[digits]} and {shard}")

    def tried(self, submission: Submission) -> None:
        """A worker has begun a hand-over."""
        if submission.reference in self._attempts_left:
            self.broken(Promise.C1, f"a second try of {submission.reference}")
        self._attempts_left.add(submission.reference)

    def reached_carrier(self, submission: Submission) -> None:
        """The carrier has taken a message."""
        _, sid, number, _ = submission.reference.split(":")
        digits, attempt = digits_of(sid), int(number)
        attempts = self.handed_over.setdefault(digits, [])
        ambiguous = self.ambiguous(digits)
        if attempt in attempts:
            self.broken(Promise.C1, f"attempt {attempt} of {sid}, twice")
        unmarked = [each for each in sorted([*attempts, attempt])[:-1] if each not in ambiguous]
        if unmarked:
            self.broken(Promise.C2, f"{sid}: {attempts}, then {attempt}; unmarked: {unmarked}")
        if any(each < attempt for each in ambiguous) and not submission.is_possible_duplicate:
            self.broken(Promise.C2, f"{sid}: attempt {attempt} does not say what it is")
        attempts.append(attempt)

    def acknowledged(self, stored: Stored, event: Event, message: Message | None) -> None:
        """A worker says that it is done with an original. `message`: as its host knows it."""
        records = self.network.chain(stored.shard, digits_of(event.sid))
        if is_late(event, stored.at) or any(_is_end(record) for record in records):
            return
        copies = self.copies(digits_of(event.sid))
        if copies and copies[0].stored.shard != stored.shard:
            return  # dropped for an earlier one
        if self.policy is OnAmbiguous.RESEND and message is not None and message.ending is not None:
            return
        self.broken(Promise.C3, f"{event.sid} in shard {stored.shard}")

    def answered(self, sids: Collection[str], fingerprint: str, answer: object) -> None:
        """A client has its answer. `sids`: what its create tried to store."""
        match answer:
            case Created(message=message):
                copies = self.copies(digits_of(message.sid))
                if not any(copy.body.fingerprint == fingerprint for copy in copies):
                    self.broken(Promise.A3, f"the 201 for {message.sid}")
            case KeyReused(sid=sid):
                copies = self.copies(digits_of(sid))
                if all(copy.body.fingerprint == fingerprint for copy in copies):
                    self.broken(Promise.A3, f"the 422 for {sid}")
            case NotAccepted():
                self._surely_nowhere.update(digits_of(sid) for sid in sids)
                for sid in sids:
                    if self.copies(digits_of(sid)):
                        self.broken(Promise.SURE, f"the 503 for {sid}")
            case _:
                pass

    def at_end(self) -> None:
        """Everything is healed and drained."""
        names = {
            digits_of(event.sid): None
            for each in self.network.stored
            for event in decode_all(each.payload)
        }
        for digits in (*names, *(each for each in self.handed_over if each not in names)):
            self._ended_well(digits)

    def _ended_well(self, digits: str) -> None:
        attempts = self.handed_over.get(digits, [])
        copies = self.copies(digits)
        if not copies:
            if attempts:
                self.broken(Promise.A2, f"{digits} was handed over and stands nowhere")
            return
        chains = {
            copy.stored.shard: self.network.chain(copy.stored.shard, digits) for copy in copies
        }
        ended = [shard for shard, records in chains.items() if any(map(_is_end, records))]
        if ended != [copies[0].stored.shard]:
            self.broken(Promise.A2, f"{digits} stands in {list(chains)} and ended in {ended}")
        is_marked = bool(self.ambiguous(digits))
        if not attempts and not is_marked and not self._was_told(chains[copies[0].stored.shard]):
            self.broken(Promise.NONE_LOST, f"{digits}, in shard {copies[0].stored.shard}")
        if len(attempts) > 1 and (not is_marked or self.policy is not OnAmbiguous.RESEND):
            self.broken(Promise.C2, f"{digits}: {attempts} under {self.policy}")

    def _was_told(self, records: list[Event]) -> bool:
        """Whether it ended with a no: the carrier's, or that its validity is over."""
        original, last = records[0], records[-1]
        if last.type is not Type.REFUSAL:
            return False
        is_over = last.at - original.at > _validity_s(original)
        return is_over or digits_of(original.sid) in self.refused

    def copies(self, digits: str) -> list[Copy]:
        """Its originals in time, the first of the order first."""
        found = []
        for name, shard in self._registers(digits):
            subject = created_subject(shard, Kind.MESSAGE, ACCOUNT, name)
            for stored in self.network.standing(subject)[:1]:
                found += [
                    Copy(stored, event)
                    for event in decode_all(stored.payload)
                    if digits_of(event.sid) == digits
                    if event.type is Type.ORIGINAL and not is_late(event, stored.at)
                ]
        return found

    def _registers(self, digits: str) -> Iterator[tuple[str, int]]:
        """Where it may stand, keyed or not, in the order that counts."""
        for name in (digits, digits[:SHARED_DIGITS]):
            for shard in order(name, self.network.shards):
                yield name, shard

    def ambiguous(self, digits: str) -> set[int]:
        """The attempts that are marked."""
        marked = set()
        for copy in self.copies(digits):
            for record in self.network.chain(copy.stored.shard, digits):
                body = record.body()
                if isinstance(body, Ambiguous):
                    marked.add(body.attempt)
        return marked

    def broken(self, promise: Promise, by: str) -> None:
        """A promise did not hold; one that is not watched is passed over."""
        if promise in self.watched:
            self.is_broken = True
            raise Broken(promise, by)


def _is_end(record: Event) -> bool:
    """Whether nothing more is sent behind this record."""
    if record.type in ENDS:
        return True
    body = record.body()
    return isinstance(body, Ambiguous) and body.is_held


def _validity_s(original: Event) -> float:
    body = original.body()
    assert isinstance(body, MessageCreated)
    return body.validity_s
