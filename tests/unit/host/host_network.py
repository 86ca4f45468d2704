"""Hosts that send each other heartbeats over a network of which everything can be broken, in virtual
time: each link may be cut one way, or slow; each host may freeze, start anew, or have a clock of its
own pace. Also a `Bus` in memory, for the part with tasks."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline.host import heartbeat
from trunkline.host.heartbeat import Heartbeat
from trunkline.host.membership import HEARTBEAT_S, Membership, View

Sink = Callable[[str, bytes], None]


@dataclass
class SimulatedHost:
    """One host's membership; `pace` and `offset` make its clock."""

    membership: Membership
    incarnation: str
    pace: float = 1.0
    offset: float = 0.0
    frozen: bool = False
    is_dead: bool = False
    waiting: list[Heartbeat] = field(default_factory=list)


class HostNetwork:
    """`run_until` moves time on. Times are true ones; each host is given its own clock's."""

    def __init__(self, names: tuple[str, ...] = ("a", "b", "c"), *, delay_s: float = 0.001) -> None:
        self.now = 0.0
        self.names = names
        self.cut: set[tuple[str, str]] = set()
        self.delay_s: dict[tuple[str, str], float] = {}
        self.default_delay_s = delay_s
        self._counted = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.hosts: dict[str, SimulatedHost] = {}
        for position, name in enumerate(names):
            self.start(name, first_beat_after_s=0.03 * position)

    def start(self, name: str, *, first_beat_after_s: float = 0.0) -> None:
        """A new process of the host; what an earlier one was is gone."""
        old = self.hosts.get(name)
        if old is not None:
            old.is_dead = True
        host = SimulatedHost(
            Membership(self.names, name, now=0.0),
            f"{name}{next(self._counted)}",
            pace=old.pace if old else 1.0,
            offset=old.offset if old else 0.0,
        )
        host.membership = Membership(self.names, name, now=self.clock(host))
        host.membership.begin(host.incarnation, now=self.clock(host))
        host.membership.set_ready()
        self.hosts[name] = host
        self.at(self.now + first_beat_after_s, lambda: self._beat(name, host))

    def renew(self, name: str) -> None:
        """The same process goes on under another incarnation."""
        host = self.hosts[name]
        host.incarnation = f"{name}{next(self._counted)}"
        host.membership.begin(host.incarnation, now=self.clock(host))

    def kill(self, name: str) -> None:
        self.hosts[name].is_dead = True

    def freeze(self, name: str) -> None:
        self.hosts[name].frozen = True

    def thaw(self, name: str) -> None:
        """What came meanwhile is read now, all at once."""
        host = self.hosts[name]
        host.frozen = False
        for said in host.waiting:
            host.membership.receive(said, now=self.clock(host))
        host.waiting.clear()

    def isolate(self, name: str) -> None:
        """Nothing to it and nothing from it."""
        for other in self.names:
            self.cut |= {(name, other), (other, name)}

    def heal(self) -> None:
        self.cut.clear()
        self.delay_s.clear()

    def fail(self, kind: str, one: str, other: str, *, slow_s: float) -> None:
        """One fault or its end, by name."""
        acts: dict[str, Callable[[], object]] = {
            "cut": lambda: self.cut.add((one, other)),
            "mend": lambda: self.cut.discard((one, other)),
            "heal": self.heal,
            "slow": lambda: self.delay_s.update({(one, other): slow_s}),
            "freeze": lambda: self.freeze(one),
            "thaw": lambda: self.thaw(one),
            "restart": lambda: self.start(one),
            "renew": lambda: self.renew(one),
        }
        acts[kind]()

    def clock(self, host: SimulatedHost) -> float:
        return host.offset + host.pace * self.now

    def may_act(self, name: str) -> bool:
        host = self.hosts[name]
        return host.membership.may_act(host.incarnation, now=self.clock(host))

    def says_dead(self, name: str, other: str, incarnation: str) -> bool:
        host = self.hosts[name]
        return host.membership.is_dead(other, incarnation, now=self.clock(host))

    def view(self, name: str) -> View:
        host = self.hosts[name]
        return host.membership.view(now=self.clock(host))

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._counted), event))

    def run_until(self, time: float) -> None:
        while self._events and self._events[0][0] <= time:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = time

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    def _beat(self, name: str, host: SimulatedHost) -> None:
        if host.is_dead:
            return
        self.at(self.now + HEARTBEAT_S, lambda: self._beat(name, host))
        if host.frozen:
            return
        host.membership.step(now=self.clock(host))
        said = host.membership.beat(now=self.clock(host))
        assert said is not None
        payload = heartbeat.encode(said)
        for other in self.names:
            if other != name:
                delay_s = self.delay_s.get((name, other), self.default_delay_s)
                self.at(self.now + delay_s, self._delivery(name, other, payload))

    def _delivery(self, sender: str, receiver: str, payload: bytes) -> Callable[[], None]:
        def deliver() -> None:
            host = self.hosts[receiver]
            said = heartbeat.decode(payload)
            assert said is not None
            if (sender, receiver) in self.cut or host.is_dead:
                return
            if host.frozen:
                host.waiting.append(said)
            else:
                host.membership.receive(said, now=self.clock(host))

        return deliver


class MemoryBus:
    """Each of the connected processes gets one from `MemoryBus.joined`; everyone hears everyone,
    itself included, in the same turn, except over what is `cut`."""

    def __init__(self, sinks: list[tuple["MemoryBus", str, Sink]]) -> None:
        self._sinks = sinks
        self.is_cut = False

    @classmethod
    def joined(cls, count: int) -> list["MemoryBus"]:
        sinks: list[tuple[MemoryBus, str, Sink]] = []
        return [cls(sinks) for _ in range(count)]

    def send(self, subject: str, payload: bytes) -> bool:
        if self.is_cut:
            return False
        for bus, pattern, sink in tuple(self._sinks):
            if not bus.is_cut and _matches(pattern, subject):
                sink(subject, payload)
        return True

    def subscribe(self, subject: str, sink: Sink) -> Callable[[], None]:
        entry = (self, subject, sink)
        self._sinks.append(entry)
        return lambda: self._sinks.remove(entry)


def _matches(pattern: str, subject: str) -> bool:
    wanted, words = pattern.split("."), subject.split(".")
    return len(wanted) == len(words) and all(
        want in ("*", word) for want, word in zip(wanted, words, strict=True)
    )
