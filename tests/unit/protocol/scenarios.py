"""The named scenarios of the protocol, each as a trace: what happens, in which order.

A trace is played with every rule in force, and again with the rule left out that it is about. A, B
and C are the shards of the order of the one message that most traces are about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tests.unit.protocol.cluster import Cluster, Fate
from tests.unit.protocol.faulty_log import Call, Publish, Rule, Settle, Submit
from tests.unit.protocol.hosts import Act, Host, Worker
from tests.unit.protocol.promises import ACCOUNT, Promise

from trunkline.domain.events import Type
from trunkline.domain.sid import SMS, digits_of, sid_from_key
from trunkline.log.event import decode
from trunkline.log.interface import Stored
from trunkline.log.limits import EJECTED_S, LATE_MAX_S
from trunkline.log.shards import order
from trunkline.messaging.accept import OPERATION, Created
from trunkline.messaging.work import OnAmbiguous

KEY: Final = "key"
DIGITS: Final = digits_of(sid_from_key(SMS, ACCOUNT, OPERATION, KEY))
A, B, C = order(DIGITS, 3)

IS_LOST: Final = Promise.NONE_LOST
IS_DOUBLED: Final = Promise.C1


@dataclass(frozen=True)
class Scenario:
    """`without` the rule it is about, the trace `breaks` a promise, or ends otherwise than said.
    A `marked` message may have arrived or not, and somebody was told so."""

    number: str
    name: str
    trace: Callable[[Cluster], None]
    without: Rule | None
    breaks: Promise | None = None
    policy: OnAmbiguous = OnAmbiguous.HOLD
    sent: int = 1
    is_marked: bool = False


def mutual_kill(cluster: Cluster) -> None:
    """A is passed over, B commits without an answer; then A is back, and takes the repeat."""
    one = cluster.hosts[0]
    one.health.eject(A)
    first = cluster.create(one, key=KEY)
    publishes(cluster, first, Fate.ANSWER_LOST, Fate.LOST)
    cluster.end_act(first)
    cluster.time.now += 2 * EJECTED_S
    assert accepted(cluster, one) == A


def second_lap(cluster: Cluster) -> None:
    """No shard answers; the second lap is accepted by A, and B's first publish lands."""
    create = cluster.create(cluster.hosts[0], key=KEY)
    publishes(cluster, create, Fate.LOST, Fate.DELAYED, Fate.LOST)
    assert isinstance(cluster.finish(create), Created)
    cluster.land(cluster.network.under_way[0])


def refused_left_out(cluster: Cluster) -> None:
    """A takes the message and loses its leader; the repeat is refused there, and taken by B."""
    one, two = cluster.hosts
    assert accepted(cluster, one) == A
    repeat = cluster.create(two, key=KEY)
    publishes(cluster, repeat, Fate.REFUSED)
    assert isinstance(cluster.finish(repeat), Created)
    assert len(cluster.originals()) == 2


def ejected_left_out(cluster: Cluster) -> None:
    """One host passes A over and is accepted by B; the other does not, and is accepted by A."""
    one, two = cluster.hosts
    one.health.eject(A)
    assert accepted(cluster, one) == B
    assert accepted(cluster, two) == A


def late_commit(cluster: Cluster) -> None:
    """A does not answer, B takes the message, which is sent; then A's publish lands."""
    create = cluster.create(cluster.hosts[0], key=KEY)
    publishes(cluster, create, Fate.DELAYED)
    assert isinstance(cluster.finish(create), Created)
    dispatch(cluster, B)
    cluster.land(cluster.network.under_way[0])


def in_flight_read_as_exists(cluster: Cluster) -> None:
    """A has the first create as a proposal when the repeat comes; then it loses it."""
    one, two = cluster.hosts
    first = cluster.create(one, key=KEY)
    publishes(cluster, first, Fate.PROPOSED)
    cluster.end_act(first)
    assert accepted(cluster, two) == B
    cluster.lose(cluster.network.under_way[0])


def fence_drops_on_a_proposal(cluster: Cluster) -> None:
    """B takes the message, and is fenced while A has a proposal, which is lost."""
    proposed_in_a_taken_by_b(cluster)
    dispatch(cluster, B)
    cluster.lose(cluster.network.under_way[0])


def duplicate_tombstone(cluster: Cluster) -> None:
    """B takes the message, and is fenced while A has a proposal, which commits."""
    proposed_in_a_taken_by_b(cluster)
    dispatch(cluster, B)
    cluster.land(cluster.network.under_way[0])


def repeat_meets_a_tombstone(cluster: Cluster) -> None:
    """C's fencer dies with A closed and B not; the repeat walks past A, and is taken by B."""
    one, two = cluster.hosts
    one.health.eject(A)
    one.health.eject(B)
    first = cluster.create(one, key=KEY)
    publishes(cluster, first, Fate.ANSWER_LOST)
    cluster.end_act(first)
    fencing = deliver(cluster, one.worker, C)
    publishes(cluster, fencing, Fate.WELL)
    cluster.kill(one.worker)

    assert accepted(cluster, two) == B

    dispatch(cluster, C)
    assert DIGITS not in cluster.promises.handed_over


def key_reused(cluster: Cluster) -> None:
    """Two bodies under one key, each answered 201 by another shard: one of them is sent."""
    one, two = cluster.hosts
    one.health.eject(A)
    assert accepted(cluster, one, text="the one") == B
    assert accepted(cluster, two, text="the other") == A

    dispatch(cluster, B)
    conflicts = [event for event in cluster.events() if event.type is Type.KEY_CONFLICT]
    assert [digits_of(event.sid) for event in conflicts] == [DIGITS]


def late_original_as_true(cluster: Cluster) -> None:
    """B takes the message; A's publish lands when it counts as closed."""
    create = cluster.create(cluster.hosts[0], key=KEY)
    publishes(cluster, create, Fate.DELAYED)
    assert isinstance(cluster.finish(create), Created)
    cluster.time.now += LATE_MAX_S + 1.0
    cluster.land(cluster.network.under_way[0])


def attempt_without_cas(cluster: Cluster) -> None:
    """Two workers have the message in hand, and the first is slow."""
    one, two = cluster.hosts
    assert accepted(cluster, one) == A
    slow = deliver(cluster, one.worker, A)
    cluster.until(slow, is_submit)
    cluster.finish(deliver(cluster, two.worker, A))
    cluster.finish(slow)


def own_claim_by_name(cluster: Cluster) -> None:
    """A worker dies with the message sent, and another starts under the same name."""
    one = cluster.hosts[0]
    assert accepted(cluster, one) == A
    sending = deliver(cluster, one.worker, A)
    cluster.until(sending, is_submit)
    cluster.step(sending, Fate.HAPPENED)
    name = one.worker.lease
    cluster.kill(one.worker)
    cluster.finish(deliver(cluster, cluster.start_worker(one, lease=name), A))


def early_ack(cluster: Cluster) -> None:
    """A worker dies with the claim written, and nothing sent."""
    one = cluster.hosts[0]
    assert accepted(cluster, one) == A
    cluster.until(deliver(cluster, one.worker, A), is_submit)
    cluster.kill(one.worker)


def orphan_claim(cluster: Cluster) -> None:
    """A task ends with its claim stored and not answered, and its process lives."""
    one = cluster.hosts[0]
    assert accepted(cluster, one) == A
    claiming = deliver(cluster, one.worker, A)
    publishes(cluster, claiming, Fate.HAPPENED)
    cluster.end_act(claiming)


def outcome_beside_the_chain(cluster: Cluster) -> None:
    """A worker dies with the outcome written, and the delivery open."""
    one = cluster.hosts[0]
    assert accepted(cluster, one) == A
    cluster.until(deliver(cluster, one.worker, A), is_settle)
    cluster.kill(one.worker)


SCENARIOS: Final = (
    Scenario("S1", "mutual kill", mutual_kill, Rule.POSITION, IS_LOST),
    Scenario("S2", "second lap, self kill", second_lap, Rule.SAME_BYTES, IS_LOST),
    Scenario("S3", "refused left out", refused_left_out, Rule.PASSED_OVER, IS_DOUBLED),
    Scenario("S4", "ejected left out", ejected_left_out, Rule.PASSED_OVER, IS_DOUBLED),
    Scenario("S5", "late original", late_commit, Rule.FENCE, IS_DOUBLED),
    Scenario(
        "S6", "in-flight read as Exists", in_flight_read_as_exists, Rule.UNDECIDED, Promise.A3
    ),
    Scenario("S7", "fence drops on 10164", fence_drops_on_a_proposal, Rule.UNDECIDED, IS_LOST),
    Scenario("S8", "duplicate tombstone", duplicate_tombstone, Rule.NO_ENGINE_ID, IS_DOUBLED),
    Scenario("S9", "repeat meets a tombstone", repeat_meets_a_tombstone, None),
    Scenario("S10", "key reused, other body", key_reused, None),
    Scenario("S14", "late original as true", late_original_as_true, Rule.LATE_IS_CLOSED, IS_LOST),
    Scenario("S17", "attempt without CAS", attempt_without_cas, Rule.CLAIM, IS_DOUBLED),
    Scenario("S18", "own claim by name", own_claim_by_name, Rule.NONCE, IS_DOUBLED, is_marked=True),
    Scenario("S19", "early ack", early_ack, Rule.ACK_LAST, IS_LOST, sent=0, is_marked=True),
    Scenario(
        "S19",
        "orphan claim",
        orphan_claim,
        Rule.AUTHOR_RESOLVES,
        Promise.NOT_STUCK,
        sent=0,
        is_marked=True,
    ),
    Scenario(
        "S20",
        "outcome or cancel as a plain event",
        outcome_beside_the_chain,
        Rule.OUTCOME_IN_CHAIN,
        policy=OnAmbiguous.RESEND,
    ),
)

TRIMMING: Final = "played, with trimming"
CALLS: Final = "there are no calls yet"

NOT_YET: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "S11": ("age limit", TRIMMING),
        "S12": ("fence after retention", TRIMMING),
        "S13": ("tombstone trimmed", TRIMMING),
        "S15": ("thawed fencer", TRIMMING),
        "S16": ("old key", TRIMMING),
        "S21": ("thawed call owner", CALLS),
        "S22": ("stale adopter", CALLS),
        "S23": ("one host decides", CALLS),
        "S24": ("mute counted from arrival", CALLS),
        "S25": ("half take", CALLS),
    }
)
"""The scenarios about what is not built, and why each waits."""


def accepted(cluster: Cluster, host: Host, *, text: str = "hello") -> int:
    """The shard that took the message, when all goes well and the answer is 201."""
    assert isinstance(cluster.finish(cluster.create(host, key=KEY, text=text)), Created)
    return cluster.network.stored[-1].shard


def publishes(cluster: Cluster, act: Act, *fates: Fate) -> None:
    """The next publishes of `act` meet these fates; what is between them goes well."""
    for fate in fates:
        cluster.until(act, is_publish)
        cluster.step(act, fate)


def deliver(cluster: Cluster, worker: Worker, shard: int) -> Act:
    """The copy in `shard`, in the hands of a worker."""
    return cluster.deliver(worker, original(cluster, shard))


def dispatch(cluster: Cluster, shard: int) -> None:
    """A living worker does with the copy in `shard` what it can."""
    cluster.finish(deliver(cluster, cluster.hosts[0].worker, shard))


def original(cluster: Cluster, shard: int) -> Stored:
    (found,) = (
        each
        for each in cluster.originals()
        if each.shard == shard and digits_of(decode(each.payload).sid) == DIGITS
    )
    return found


def proposed_in_a_taken_by_b(cluster: Cluster) -> None:
    create = cluster.create(cluster.hosts[0], key=KEY)
    publishes(cluster, create, Fate.PROPOSED)
    assert isinstance(cluster.finish(create), Created)


def is_publish(call: Call) -> bool:
    return isinstance(call, Publish)


def is_submit(call: Call) -> bool:
    return isinstance(call, Submit)


def is_settle(call: Call) -> bool:
    return isinstance(call, Settle)
