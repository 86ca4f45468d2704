"""A cluster in virtual time: real acceptors, fences and dispatchers, moved one call at a time.

Every concurrent act is an `Act`, a coroutine that stands still at its next call to the log, the
carrier or the clock. `Cluster.step` gives that call a `Fate`; between two steps a process may be
frozen, thawed or killed, its lease may lapse, and what is under way may land.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection
from dataclasses import replace
from enum import Enum, auto
from typing import Any, Final, assert_never

import msgspec
from tests.unit.protocol.faulty_log import (
    Call,
    Connect,
    HostClock,
    HostDelivery,
    Network,
    Publish,
    Read,
    Rule,
    Settle,
    Sleep,
    Submit,
    Transit,
    UnderWay,
    VirtualTime,
)
from tests.unit.protocol.hosts import (
    RECIPIENT,
    SENDER,
    Act,
    Host,
    Worker,
    new_host,
    new_worker,
    together,
)
from tests.unit.protocol.promises import ACCOUNT, Promise, Promises

from trunkline.domain.events import Type
from trunkline.domain.sid import digits_of
from trunkline.kernel import Deadline
from trunkline.log.append import Appended, NotStored, is_late
from trunkline.log.event import Event, decode_all, encode
from trunkline.log.fence import Verdict, is_true_copy
from trunkline.log.interface import (
    Exists,
    PublishAnswer,
    Refused,
    Stored,
    Undecided,
    Unknown,
    Unreadable,
)
from trunkline.log.limits import TRY_TIMEOUT_S, WORK_MAX_S
from trunkline.log.shards import order
from trunkline.messaging import accept, carrier
from trunkline.messaging.accept import Created, NewMessage, NotAccepted, message_from
from trunkline.messaging.attempt import POISON_RETRY_S
from trunkline.messaging.carrier import Submission
from trunkline.messaging.work import OnAmbiguous

CALLS_MAX: Final = 100
DRAIN_ROUNDS_MAX: Final = 12
DRAIN_PAUSE_S: Final = 5.0
HAND_OVER_LOST_S: Final = 1.0


class Fate(Enum):
    """What becomes of one call."""

    WELL = auto()
    HAPPENED = auto()
    """It has its effect; the answer is on its way."""
    ANSWER_LOST = auto()
    """It has its effect, and whoever asked will not know. Of a read: it is out of date."""
    LOST = auto()
    """It has no effect, and whoever asked will not know."""
    REFUSED = auto()
    """Surely without effect. Of a hand-over: the carrier's final no."""
    UNDECIDED = auto()
    """Another publish is under way. Of a read: nothing seems to be there. Of a hand-over: it came
    back, and may be tried again."""
    DELAYED = auto()
    """Its effect may come later, and whoever asked does not know."""
    PROPOSED = auto()
    """The same, and its register is undecided until then."""


class Cluster:
    """Hosts, one network, one carrier, and everything that is under way."""

    def __init__(
        self,
        *,
        policy: OnAmbiguous = OnAmbiguous.HOLD,
        shards: int = 3,
        skew_s: float = 0.0,
        without: Rule | None = None,
        watched: Collection[Promise] = frozenset(Promise),
    ) -> None:
        self.time = VirtualTime()
        self.policy = policy
        self.without = without
        self.network = Network(HostClock(self.time), shards, without)
        self.promises = Promises(self.network, policy, watched)
        self.network.on_stored = self._on_stored
        self.acts: list[Act] = []
        self.workers: list[Worker] = []
        self.dead_leases: set[str] = set()
        self._acked: set[tuple[int, int]] = set()
        self._unsure: dict[str, list[int]] = {}
        self._incarnations = itertools.count(1)
        self.hosts = [
            new_host("one", self.network, HostClock(self.time)),
            new_host("two", self.network, HostClock(self.time, skew_s)),
        ]
        for host in self.hosts:
            self.start_worker(host)

    # ---- what can be begun

    def start_worker(self, host: Host, *, lease: str = "") -> Worker:
        """A new dispatching process on a host; the one before it is on its own."""
        lease = lease or f"{host.name}-{next(self._incarnations)}"
        host.worker = new_worker(
            host, lease, policy=self.policy, dead_leases=self.dead_leases, without=self.without
        )
        self.workers.append(host.worker)
        return host.worker

    def create(self, host: Host, *, key: str | None = "key", text: str = "hello") -> Act:
        """A client asks a host for a message."""
        new = NewMessage(account=ACCOUNT, sender=SENDER, recipient=RECIPIENT, text=text)
        deadline = Deadline.after(WORK_MAX_S, host.author.clock)
        accepting = host.acceptor.accept(new, key=key, deadline=deadline)

        def answered(act: Act) -> None:
            self.promises.answered(act.sids, accept._fingerprint(new) if key else "", act.result)

        return self._begin(Act(f"create on {host.name}", accepting, host, on_end=answered))

    def create_together(self, host: Host, *texts: str) -> Act:
        """Clients ask a host for messages at the same moment, without keys."""
        draft = together(host, *texts)

        def answered(act: Act) -> None:
            stored = []
            if isinstance(act.result, Appended):
                stored = [act.result.event, *act.result.others]
            for event in stored:
                self.promises.answered([event.sid], "", Created(message_from(event)))
            if isinstance(act.result, NotStored):
                self.promises.answered(act.sids, "", NotAccepted(act.result.reason))

        accepting = host.acceptor._append(draft)
        return self._begin(Act(f"creates on {host.name}", accepting, host, on_end=answered))

    def deliver(self, worker: Worker, stored: Stored) -> Act:
        """The engine hands an original to a worker, whoever else may have it in hand."""
        handling = _handled(worker, HostDelivery(stored))
        return self._begin(Act(f"dispatch on {worker.lease}", handling, worker.host, worker))

    def audit(self, host: Host, stored: Stored) -> Act:
        """Another service asks the fence about an original, for an effect of its own."""
        event = decode_all(stored.payload)[0]
        clock = host.author.clock
        judging = is_true_copy(
            host.log, event, stored, clock=clock, deadline=Deadline.after(1.0, clock)
        )

        def judged(act: Act) -> None:
            verdict: Verdict = act.result
            if not is_late(event, stored.at):
                self.promises.judged(event, stored.shard, verdict)

        return self._begin(Act(f"audit on {host.name}", judging, host, on_end=judged))

    def _begin(self, act: Act) -> Act:
        self.acts.append(act)
        act.resume()
        return act

    # ---- what can happen to a call

    def step(self, act: Act, fate: Fate = Fate.WELL) -> None:
        """Give the call at which `act` stands its fate. A frozen process's calls may still have
        their effect."""
        call = act.call
        assert call is not None
        if not act.can_move:
            fate = Fate.HAPPENED
        if act.has_happened:
            self._answer_comes(act, fate)
            return
        match call:
            case Publish():
                self._publish(act, call, fate)
            case Read():
                self._read(act, call, fate)
            case Submit(submission=submission):
                self._submit(act, submission, fate)
            case Settle():
                self._settle(act, call, fate)
            case Sleep() | Connect():
                self._wait(act, call, fate)
            case other:
                assert_never(other)

    def go_on(self, act: Act) -> None:
        """Run for a while, with every call going well; perhaps to the end."""
        for _ in range(CALLS_MAX):
            if act.call is not None:
                self.step(act)

    def finish(self, act: Act) -> Any:
        """Run to the end, with every call going well; what it returned."""
        return self.until(act, lambda _call: False)

    def until(self, act: Act, wanted: Callable[[Call], bool]) -> Any:
        """Run, with every call going well, until it stands at a call that is wanted."""
        for _ in range(CALLS_MAX):
            if act.call is None or wanted(act.call):
                return act.result
            self.step(act)
        self.promises.broken(Promise.NOT_STUCK, f"{act.name}, at {act.call}")
        return None

    def _answer_comes(self, act: Act, fate: Fate) -> None:
        if not act.can_move:
            return
        if fate is Fate.WELL or not isinstance(act.call, Publish | Submit):
            act.resume(act.answer)
        elif isinstance(act.call, Publish):
            self._no_answer(act, act.call)
        else:
            self._no_outcome(act)

    def _publish(self, act: Act, call: Publish, fate: Fate) -> None:
        sent = self._bent(act, call)
        if call.event.type is Type.ORIGINAL:
            act.sids += [event.sid for event in call.events]
        match fate:
            case Fate.WELL:
                self._publish_answered(act, sent, self.network.store(sent))
            case Fate.HAPPENED:
                act.answer_with(self.network.store(sent))
            case Fate.ANSWER_LOST:
                self.network.store(sent)
                self._no_answer(act, sent)
            case Fate.LOST:
                self._no_answer(act, sent)
            case Fate.REFUSED:
                self._publish_answered(act, sent, Refused("no leader"))
            case Fate.UNDECIDED:
                self._publish_answered(act, sent, Undecided())
            case Fate.DELAYED:
                self.network.under_way.append(UnderWay(sent, Transit.DELAYED))
                self._no_answer(act, sent)
            case Fate.PROPOSED:
                self._propose(act, sent)
            case other:
                assert_never(other)

    def _propose(self, act: Act, sent: Publish) -> None:
        """The leader takes it up: only what its register allows, and only one at a time."""
        standing = self.network.standing(sent.subject)
        last = standing[-1].sequence if standing else 0
        if sent.expected == last and self.network.proposed(sent.subject) is None:
            self.network.under_way.append(UnderWay(sent, Transit.PROPOSED))
            self._no_answer(act, sent)
        else:
            self._publish_answered(act, sent, self.network.store(sent))

    def _no_answer(self, act: Act, sent: Publish) -> None:
        self.time.now += TRY_TIMEOUT_S
        self._publish_answered(act, sent, Unknown("no answer"))

    def _publish_answered(self, act: Act, sent: Publish, answer: PublishAnswer) -> None:
        if isinstance(answer, Unknown | Undecided | Exists):
            unsure = self._unsure.setdefault(act.host.name + sent.event.sid, [])
            if sent.shard not in unsure:
                unsure.append(sent.shard)
        act.resume(answer)

    def _read(self, act: Act, call: Read, fate: Fate) -> None:
        if not act.can_move:
            return
        match fate:
            case Fate.WELL | Fate.HAPPENED:
                act.resume(self.network.read(call))
            case Fate.ANSWER_LOST:
                act.resume(self.network.read_before(call))
            case Fate.UNDECIDED:
                act.resume(None)
            case Fate.LOST | Fate.REFUSED | Fate.DELAYED | Fate.PROPOSED:
                self.time.now += TRY_TIMEOUT_S
                act.resume(Unreadable("no leader"))
            case other:
                assert_never(other)

    def _submit(self, act: Act, submission: Submission, fate: Fate) -> None:
        self.promises.tried(submission)
        match fate:
            case Fate.WELL:
                act.resume(self._taken(submission))
            case Fate.HAPPENED:
                act.answer_with(self._taken(submission))
            case Fate.ANSWER_LOST:
                self._taken(submission)
                self._no_outcome(act)
            case Fate.LOST:
                self._no_outcome(act)
            case Fate.REFUSED:
                _, sid, *_ = submission.reference.split(":")
                self.promises.refused.add(digits_of(sid))
                act.resume(carrier.Refused(30003, "unreachable"))
            case Fate.UNDECIDED:
                act.resume(carrier.Refused(0, "throttled", is_returned=True, retry_after_s=1.0))
            case Fate.DELAYED | Fate.PROPOSED:
                self.network.under_way.append(UnderWay(submission, Transit.DELAYED))
                self._no_outcome(act)
            case other:
                assert_never(other)

    def _taken(self, submission: Submission) -> carrier.Outcome:
        self.promises.reached_carrier(submission)
        return carrier.Accepted(f"acme:{submission.reference}")

    def _no_outcome(self, act: Act) -> None:
        self.time.now += HAND_OVER_LOST_S
        act.resume(carrier.Unknown("the link was lost"))

    def _wait(self, act: Act, call: Sleep | Connect, fate: Fate) -> None:
        if not act.can_move:
            return
        if isinstance(call, Sleep):
            self.time.now = max(self.time.now, call.until)
            act.resume()
        else:
            act.resume(fate is not Fate.LOST)

    def _settle(self, act: Act, call: Settle, fate: Fate) -> None:
        if call.again_after_s == POISON_RETRY_S:
            self.promises.broken(Promise.NOT_STUCK, f"an exception in {act.name}")
        is_ack = call.again_after_s is None
        for event in decode_all(call.stored.payload) if is_ack else ():
            self.promises.acknowledged(call.stored, event, act.host.copy.message(event.sid))
        if is_ack and fate in {Fate.WELL, Fate.HAPPENED, Fate.ANSWER_LOST}:
            self._acked.add((call.stored.shard, call.stored.sequence))
        if act.can_move:
            act.resume()
        else:
            act.answer_with(None)

    # ---- what can happen to everything else

    def originals(self) -> list[Stored]:
        """What the engine may deliver: originals that nobody is done with."""
        return [
            stored
            for stored in self.network.stored
            if (stored.shard, stored.sequence) not in self._acked
            and decode_all(stored.payload)[0].type is Type.ORIGINAL
        ]

    def events(self) -> list[Event]:
        """Everything that was written down."""
        return [event for each in self.network.stored for event in decode_all(each.payload)]

    def land(self, arrived: UnderWay) -> None:
        """Something under way arrives after all."""
        if isinstance(arrived.cargo, Submission):
            self.network.under_way.remove(arrived)
            self._taken(arrived.cargo)
        else:
            self.network.land(arrived)

    def lose(self, lost: UnderWay) -> None:
        self.network.under_way.remove(lost)

    def end_act(self, act: Act, *, leaves_behind: bool = False) -> None:
        """A task ends where it stands. `leaves_behind`: what it stood at was already sent."""
        if leaves_behind and not act.has_happened:
            if isinstance(act.call, Publish):
                sent = self._bent(act, act.call)
                self.network.under_way.append(UnderWay(sent, Transit.DELAYED))
            elif isinstance(act.call, Submit):
                self.promises.tried(act.call.submission)
                self.network.under_way.append(UnderWay(act.call.submission, Transit.DELAYED))
        act.end()

    def kill(self, worker: Worker, *, leaves_behind: bool = False) -> None:
        """A process dies with all its tasks. Others see its lease dead when it lapses."""
        worker.is_dead = True
        for act in self.acts_of(worker):
            self.end_act(act, leaves_behind=leaves_behind)
        if worker.host.worker is worker:
            self.start_worker(worker.host)

    def lapse(self, worker: Worker) -> None:
        """Others see the lease of a frozen or dead process dead; so will it, when it thaws."""
        self.dead_leases.add(worker.lease)
        if worker.host.worker is worker:
            self.start_worker(worker.host)

    def acts_of(self, worker: Worker) -> list[Act]:
        return [act for act in self.acts if act.worker is worker and not act.is_over]

    def close(self) -> None:
        for act in self.acts:
            act.end()

    def drain(self, *, is_thawed_first: bool = True, lands: bool = True) -> None:
        """Heal everything, bring everything to an end, and look at all promises again."""
        for host in self.hosts:
            host.log.is_connected = True
        for under_way in list(self.network.under_way):
            (self.land if lands else self.lose)(under_way)
        if is_thawed_first:
            self._thaw_all()
        for act in list(self.acts):
            if act.can_move:
                self.finish(act)
        for worker in list(self.workers):
            if worker.is_dead or worker.is_frozen:
                self.lapse(worker)
        self._deliver_everything()
        self._thaw_all()
        for act in list(self.acts):
            if not act.is_over:
                self.finish(act)
        self._deliver_everything()
        self.promises.at_end()

    def _thaw_all(self) -> None:
        for worker in self.workers:
            worker.is_frozen = False

    def _deliver_everything(self) -> None:
        for _ in range(DRAIN_ROUNDS_MAX):
            if not self.originals():
                return
            for worker in [host.worker for host in self.hosts]:
                for stored in self.originals():
                    self.finish(self.deliver(worker, stored))
            self.time.now += DRAIN_PAUSE_S
        self.promises.broken(Promise.NOT_STUCK, f"{len(self.originals())} originals")

    def _on_stored(self, stored: Stored, event: Event) -> None:
        self.promises.stored(stored, event)
        if self.without is Rule.ACK_LAST and event.type is Type.CLAIM:
            self._acked.update(
                (each.shard, each.sequence)
                for each in self.originals()
                if each.shard == stored.shard
                if event.sid in [one.sid for one in decode_all(each.payload)]
            )

    def _bent(self, act: Act, call: Publish) -> Publish:
        """An original as a host would write it that breaks one of the rules about it."""
        event = call.event
        bent = {Rule.POSITION, Rule.PASSED_OVER, Rule.SAME_BYTES}
        if self.without not in bent or event.type is not Type.ORIGINAL or len(call.events) > 1:
            return call
        unsure = self._unsure.get(act.host.name + event.sid, [])
        walk = order(digits_of(event.sid), self.network.shards)
        if call.shard in act.first_bytes:
            if self.without is not Rule.SAME_BYTES:
                return replace(call, payload=act.first_bytes[call.shard])
        elif self.without is Rule.SAME_BYTES:
            act.first_bytes[call.shard] = call.payload
            return call
        passed_over = walk[: walk.index(call.shard)] if self.without is Rule.POSITION else ()
        named = [*passed_over, *unsure]
        prior = tuple(dict.fromkeys(shard for shard in named if shard != call.shard))
        payload = encode(msgspec.structs.replace(event, prior=prior))
        act.first_bytes.setdefault(call.shard, payload)
        return replace(call, payload=payload)


async def _handled(worker: Worker, delivery: HostDelivery) -> None:
    """What a dispatcher does with one delivery."""
    works = await worker.dispatcher._open(delivery)
    if works:
        await worker.dispatcher._handle([works], asyncio.Semaphore(len(works)))
