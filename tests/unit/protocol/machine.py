"""The state machine: what Hypothesis may do to a cluster, and in which order it likes.

A `Protocol` run is one interleaving. Each rule is one thing that happens: a client asks, a call
gets its fate, a process freezes or dies, something late arrives. Promises are looked at as facts
come about; when the run is over everything is healed, drained, and looked at again.
"""

from collections.abc import Collection, Sequence
from typing import ClassVar, Final, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.unit.protocol.cluster import Cluster, Fate
from tests.unit.protocol.faulty_log import Rule
from tests.unit.protocol.hosts import Act, Host, Worker
from tests.unit.protocol.promises import Promise

from trunkline.messaging.work import OnAmbiguous

CREATES_MAX: Final = 4
ACTS_MAX: Final = 7
SKEW_MAX_S: Final = 150.0
"""A quarter of the bound of lateness: a host whose clock is off by more leaves the pool."""

PAUSES_S: Final = (0.3, 1.1, 3.0, 61.0, 601.0)
"""Past a try, an ejection, a redelivery, the bound on work, the bound of lateness."""

Item = TypeVar("Item")

picks: Final = st.integers(min_value=0, max_value=ACTS_MAX - 1)
fates: Final = st.lists(st.sampled_from([Fate.WELL] * 6 + list(Fate)[1:]), max_size=6)
"""What becomes of the next calls of an act: half of them go well."""

CHECK: Final = settings(
    max_examples=180,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""What every run of the unit tests explores: the same for the same code."""

DEEP: Final = settings(CHECK, max_examples=50_000, stateful_step_count=80, derandomize=False)
"""A search of minutes to hours, other each time."""

COUNTER_EXAMPLE: Final = settings(
    CHECK, max_examples=30_000, phases=[Phase.generate], report_multiple_bugs=False
)
"""Up to the first broken promise, as it was found: mostly after tens of runs, or hundreds."""


class Protocol(RuleBasedStateMachine):
    """One cluster with two hosts, and everything that may happen to it."""

    without: ClassVar[Rule | None] = None
    watched: ClassVar[Collection[Promise]] = frozenset(Promise)

    def __init__(self) -> None:
        super().__init__()
        self.cluster: Cluster
        self.creates = 0
        self.is_thawed_first = True
        self.lands = True

    @initialize(
        policy=st.sampled_from(OnAmbiguous),
        shards=st.integers(2, 3),
        skew_s=st.sampled_from([0.0, SKEW_MAX_S, -SKEW_MAX_S]),
        is_thawed_first=st.booleans(),
        lands=st.booleans(),
    )
    def begin(
        self,
        policy: OnAmbiguous,
        shards: int,
        skew_s: float,
        is_thawed_first: bool,
        lands: bool,
    ) -> None:
        self.cluster = Cluster(
            policy=policy, shards=shards, skew_s=skew_s, without=self.without, watched=self.watched
        )
        self.is_thawed_first, self.lands = is_thawed_first, lands

    # ---- what clients, the engine and other services ask for

    @precondition(lambda self: self.creates < CREATES_MAX and self.has_room)
    @rule(
        pick=picks,
        key=st.sampled_from(["a", "a", "b", None]),
        text=st.sampled_from(["x", "x", "y"]),
        fates=fates,
    )
    def create(self, pick: int, key: str | None, text: str, fates: list[Fate]) -> None:
        self.creates += 1
        self.move(self.cluster.create(self.host(pick), key=key, text=text), fates)

    @precondition(lambda self: self.creates < CREATES_MAX and self.has_room)
    @rule(pick=picks, fates=fates)
    def create_together(self, pick: int, fates: list[Fate]) -> None:
        self.creates += 1
        self.move(self.cluster.create_together(self.host(pick), "x", "y"), fates)

    @precondition(lambda self: self.cluster.originals() and self.has_room)
    @rule(pick=picks, worker=picks, fates=fates)
    def deliver(self, pick: int, worker: int, fates: list[Fate]) -> None:
        able = [each for each in self.cluster.workers if not each.is_frozen and not each.is_dead]
        if able:
            original = chosen(self.cluster.originals(), pick)
            self.move(self.cluster.deliver(chosen(able, worker), original), fates)

    @precondition(lambda self: self.cluster.originals() and self.has_room)
    @rule(pick=picks, fates=fates)
    def audit(self, pick: int, fates: list[Fate]) -> None:
        original = chosen(self.cluster.originals(), pick)
        self.move(self.cluster.audit(self.host(pick), original), fates)

    # ---- what becomes of a call

    @precondition(lambda self: self.under_way)
    @rule(pick=picks, fates=fates)
    def go_on(self, pick: int, fates: list[Fate]) -> None:
        self.move(chosen(self.under_way, pick), fates)

    @precondition(lambda self: self.able)
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        self.cluster.go_on(chosen(self.able, pick))

    @precondition(lambda self: self.cluster.network.under_way)
    @rule(pick=picks, lands=st.booleans())
    def arrive(self, pick: int, lands: bool) -> None:
        arrived = chosen(self.cluster.network.under_way, pick)
        if lands:
            self.cluster.land(arrived)
        else:
            self.cluster.lose(arrived)

    # ---- what becomes of processes, shards and time

    @precondition(lambda self: self.under_way)
    @rule(pick=picks, leaves_behind=st.booleans())
    def end_task(self, pick: int, leaves_behind: bool) -> None:
        self.cluster.end_act(chosen(self.under_way, pick), leaves_behind=leaves_behind)

    @precondition(lambda self: self.working)
    @rule(pick=picks, lapses=st.booleans())
    def freeze(self, pick: int, lapses: bool) -> None:
        worker = chosen(self.working, pick)
        worker.is_frozen = True
        if lapses:
            self.cluster.lapse(worker)

    @precondition(lambda self: any(worker.is_frozen for worker in self.cluster.workers))
    @rule(pick=picks, lapses=st.booleans())
    def thaw(self, pick: int, lapses: bool) -> None:
        worker = chosen([each for each in self.cluster.workers if each.is_frozen], pick)
        if lapses:
            self.cluster.lapse(worker)
        worker.is_frozen = False

    @precondition(lambda self: self.working)
    @rule(pick=picks, lapses=st.booleans(), leaves_behind=st.booleans())
    def kill(self, pick: int, lapses: bool, leaves_behind: bool) -> None:
        worker = chosen(self.working, pick)
        self.cluster.kill(worker, leaves_behind=leaves_behind)
        if lapses:
            self.cluster.lapse(worker)

    @rule(pick=picks, shard=picks)
    def eject(self, pick: int, shard: int) -> None:
        self.host(pick).health.eject(shard % self.cluster.network.shards)

    @rule(pick=picks, is_connected=st.booleans())
    def look_around(self, pick: int, is_connected: bool) -> None:
        host = self.host(pick)
        host.log.is_connected = is_connected
        host.copy.catch_up()

    @rule(seconds=st.sampled_from(PAUSES_S))
    def pass_time(self, seconds: float) -> None:
        self.cluster.time.now += seconds

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        try:
            if not self.cluster.promises.is_broken:
                self.cluster.drain(is_thawed_first=self.is_thawed_first, lands=self.lands)
        finally:
            self.cluster.close()

    @property
    def under_way(self) -> list[Act]:
        return [act for act in self.cluster.acts if not act.is_over]

    @property
    def able(self) -> list[Act]:
        return [act for act in self.under_way if act.can_move]

    @property
    def has_room(self) -> bool:
        return len(self.under_way) < ACTS_MAX

    @property
    def working(self) -> list[Worker]:
        """The processes that have something to lose."""
        workers = [act.worker for act in self.under_way if act.worker is not None]
        return [each for each in self.cluster.workers if each in workers and not each.is_frozen]

    def move(self, act: Act, fates: list[Fate]) -> None:
        for fate in fates:
            if not act.is_over:
                self.cluster.step(act, fate)

    def host(self, pick: int) -> Host:
        return chosen(self.cluster.hosts, pick)


def chosen(items: Sequence[Item], pick: int) -> Item:
    """One of them, whatever number was drawn."""
    return items[pick % len(items)]
