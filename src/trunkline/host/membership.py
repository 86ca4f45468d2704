"""Which hosts of the cluster are there, as this one hears them, and which of them are surely dead.

Three different questions, with three different answers. *Present* is what this host hears: work is
divided by it, and a wrong answer costs a little work twice. *May act* is what a majority hears of
us (`host/standing`). *Dead* is said of an incarnation only when a majority has not heard it for so
long that it must know that it may not act: what it had begun is then settled by others. No task, no
socket and no clock here; `host/members` has those.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from trunkline.host.heartbeat import Heard, Heartbeat
from trunkline.host.standing import MUTE_S, Standing, majority_of

HEARTBEAT_S: Final = 0.1
"""An echo is up to two of these old when everything is well, which must be far from `MUTE_S`."""

ABSENT_S: Final = 0.4
"""A host not heard for this long has no share of the work: three heartbeats that did not come."""

TAKEOVER_S: Final = 3.0
"""A host not heard for this long is gone; an incarnation that a majority has not heard for this
long can be dead."""

QUIET_MIN_S: Final = MUTE_S * 1.1
"""For how long a majority must not have heard an incarnation, all at once: longer than the time
after which it may not act, by more than two clocks can differ in their pace."""

AWAY_S: Final = 0.25
"""A step of our own that comes this late shows that we were away, and heard nobody meanwhile."""

REMEMBERED_S: Final = 10.0
INCARNATIONS_MAX: Final = 16
"""Incarnations of one host that are remembered; a new one takes most of a second to be heard."""

STOOD_REMEMBERED_MAX: Final = 1_024
"""Incarnations of which it is known since when they could act; of others it is asked anew."""


class State(StrEnum):
    """What a member is doing, as this host hears it."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Member:
    """One configured host. `may_act` is what it says of itself; `is_heard`: it was heard just
    now. `heard_for_s`: how long it has been heard without a gap; `unheard_s`:
    how long ago it was last heard, infinite if never."""

    host: str
    state: State
    incarnation: str = ""
    base_url: str = ""
    zone: str = ""
    may_act: bool = False
    is_heard: bool = False
    heard_for_s: float = 0.0
    unheard_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class View:
    """`present` are the hosts that take a share of the work, in the order of their names: they are
    heard, ready, and may act. `is_connected`: a majority of the members is heard; `may_act`: a
    majority hears us, as far as this process is the one to know."""

    members: Mapping[str, Member]
    present: tuple[str, ...]
    is_connected: bool
    may_act: bool

    @property
    def is_working(self) -> bool:
        """Whether this process takes part in the work."""
        return self.is_connected and self.may_act

    @property
    def zones(self) -> Mapping[str, str]:
        return {name: member.zone for name, member in self.members.items() if member.zone}


@dataclass(slots=True)
class _Peer:
    """What was heard of one host."""

    newest: Heartbeat | None = None
    heard_at: float = float("-inf")
    heard_since: float = 0.0
    excused_until: float = float("-inf")
    """It was there when we went away, and had no chance to be heard since."""
    incarnations: dict[str, tuple[int, float]] = field(default_factory=dict)
    """For each the newest number, and when it came."""

    def is_heard(self, within_s: float, now: float) -> bool:
        return now - self.heard_at < within_s or now < self.excused_until


class Membership:
    """One process's view. `hosts` are all members by name, `own` among them.

    The process that speaks for its host calls `begin` for each incarnation of it; the others of a
    host only listen, and hear their own host like any other.
    """

    def __init__(self, hosts: Sequence[str], own: str, *, now: float) -> None:
        self.hosts: Final = tuple(sorted(hosts))
        self.own: Final = own
        self._peers: dict[str, _Peer] = {host: _Peer() for host in self.hosts}
        self._listening_since = now
        self._stepped_at = now
        self._standing: Standing | None = None
        self._incarnation = ""
        self._number = 0
        self._began_at = now
        self._base_url = ""
        self._zone = ""
        self._is_ready = False
        self._is_draining = False
        # Since when, at the latest, an incarnation could act, for all we know.
        self._stood_at: OrderedDict[str, float] = OrderedDict()

    # ---- this host

    @property
    def incarnation(self) -> str:
        """As which this process speaks for its host; "" if it does not."""
        return self._incarnation

    def introduce(self, *, base_url: str, zone: str) -> None:
        """What the others are told about this host."""
        self._base_url, self._zone = base_url, zone

    def begin(self, incarnation: str, *, now: float) -> None:
        """Speak as `incarnation` from now on. It may act once a majority has heard it."""
        self._standing = Standing(self.hosts, self.own)
        self._incarnation = incarnation
        self._number = 0
        self._began_at = now

    def set_ready(self) -> None:
        self._is_ready = True

    def set_draining(self) -> None:
        self._is_draining = True

    def beat(self, *, now: float) -> Heartbeat | None:
        """The next heartbeat, to be sent at once; `None` in a process that only listens."""
        if self._standing is None:
            return None
        self._number += 1
        self._standing.sending(self._number, now=now)
        return Heartbeat(
            host=self.own,
            incarnation=self._incarnation,
            number=self._number,
            base_url=self._base_url,
            zone=self._zone,
            is_ready=self._is_ready,
            is_draining=self._is_draining,
            may_act=self._standing.may_act(now=now),
            listening_s=now - self._listening_since,
            heard=tuple(self._heard(now)),
        )

    def may_act(self, incarnation: str, *, now: float) -> bool:
        """Whether `incarnation` is the one we speak as, and a majority hears it without a gap."""
        standing = self._standing
        return (
            standing is not None and incarnation == self._incarnation and standing.may_act(now=now)
        )

    def has_lapsed(self, incarnation: str, *, now: float) -> bool:
        """Whether `incarnation` cannot act any more, whatever comes."""
        standing = self._standing
        return standing is None or incarnation != self._incarnation or standing.has_lapsed(now=now)

    # ---- the others

    def step(self, *, now: float) -> None:
        """Called for each heartbeat of our own. A late call shows that this process was away: what
        the others said meanwhile may still be on its way through our own sockets."""
        if now - self._stepped_at > HEARTBEAT_S + AWAY_S:
            for peer in self._peers.values():
                if peer.is_heard(ABSENT_S, self._stepped_at):
                    peer.excused_until = now + ABSENT_S
        self._stepped_at = now

    def receive(self, heartbeat: Heartbeat, *, now: float) -> None:
        """Take note of a heartbeat. One that comes twice, or late, says nothing new."""
        peer = self._peers.get(heartbeat.host)
        if peer is None or heartbeat.incarnation == self._incarnation:
            return
        number, _ = peer.incarnations.get(heartbeat.incarnation, (0, 0.0))
        if heartbeat.number <= number:
            return
        self._note(peer, heartbeat, now)
        if heartbeat.may_act:
            self._note_stood(heartbeat.incarnation, now)
        self._take_echo(heartbeat, now)
        if peer.newest is None or not peer.is_heard(TAKEOVER_S, now):
            peer.heard_since = now
        peer.heard_at, peer.newest = now, heartbeat

    def view(self, *, now: float) -> View:
        """The cluster as it is heard at this moment."""
        members = {host: self._member(host, now) for host in self.hosts}
        heard = [host for host in self.hosts if members[host].is_heard]
        may_act = self._standing is None or self._standing.may_act(now=now)
        return View(
            members=members,
            present=tuple(
                host
                for host in heard
                if members[host].state is State.READY and members[host].may_act
            ),
            is_connected=len(heard) >= majority_of(self.hosts),
            may_act=may_act,
        )

    def is_dead(self, host: str, incarnation: str, *, now: float) -> bool:
        """Whether `incarnation` of another host, which left a claim, may surely not act any more.

        Only who is heard by a majority may say so, and only when a majority of the members, none of
        them that host, has not heard it, all at once for longer than it may act unheard, and since it
        could act. What another member says is as old as the heartbeat of ours that it had when it
        said so.
        """
        standing = self._standing
        if standing is None or host == self.own or not standing.may_act(now=now):
            return False
        stood_at = self._note_stood(incarnation, now)
        quiet = [
            said
            for member in self.hosts
            if member != host and (said := self._quiet(member, host, incarnation, now)) is not None
        ]
        return any(
            min(until for _, until in chosen) - max(stood_at, *(since for since, _ in chosen))
            >= QUIET_MIN_S
            for chosen in itertools.combinations(quiet, majority_of(self.hosts))
        )

    def next_change_at(self, *, now: float) -> float:
        """When the view changes if nothing is heard from now on; infinite if it does not."""
        moments = [
            max(peer.heard_at + within_s, peer.excused_until)
            for peer in self._peers.values()
            for within_s in (ABSENT_S, TAKEOVER_S)
        ]
        if self._standing is not None:
            moments.append(self._standing.until())
        return min((at for at in moments if at > now), default=float("inf"))

    def _note(self, peer: _Peer, heartbeat: Heartbeat, now: float) -> None:
        peer.incarnations[heartbeat.incarnation] = (heartbeat.number, now)
        for name, (_, at) in tuple(peer.incarnations.items()):
            if now - at > REMEMBERED_S:
                del peer.incarnations[name]
        if len(peer.incarnations) > INCARNATIONS_MAX:
            # What is forgotten must not pass for unheard: we have heard nothing for long, then.
            oldest = min(peer.incarnations, key=lambda name: peer.incarnations[name][1])
            del peer.incarnations[oldest]
            self._listening_since = now

    def _note_stood(self, incarnation: str, now: float) -> float:
        """Since when it is known that the incarnation could act: what has claimed something could."""
        stood_at = self._stood_at.setdefault(incarnation, now)
        if len(self._stood_at) > STOOD_REMEMBERED_MAX:
            self._stood_at.popitem(last=False)
        return stood_at

    def _take_echo(self, heartbeat: Heartbeat, now: float) -> None:
        if self._standing is not None:
            number = self._echo_in(heartbeat)
            if number is not None:
                self._standing.echoed(heartbeat.host, number, now=now)

    def _echo_in(self, heartbeat: Heartbeat) -> int | None:
        """The newest of our heartbeats that its sender had."""
        for heard in heartbeat.heard:
            if heard.host == self.own and heard.incarnation == self._incarnation:
                return heard.number
        return None

    def _heard(self, now: float) -> Iterable[Heard]:
        for host, peer in self._peers.items():
            for incarnation, (number, at) in peer.incarnations.items():
                if now - at <= REMEMBERED_S:
                    yield Heard(host, incarnation, number, round(now - at, 6))

    def _quiet(
        self, member: str, host: str, incarnation: str, now: float
    ) -> tuple[float, float] | None:
        """From when to when, by our clock, `member` surely did not hear the incarnation."""
        if member == self.own:
            heard = self._peers[host].incarnations if host in self._peers else {}
            _, at = heard.get(incarnation, (0, self._listening_since))
            unheard_s, until = now - max(at, now - REMEMBERED_S), now
        else:
            said = self._peers[member].newest
            number = None if said is None else self._echo_in(said)
            sent_at = None
            if self._standing is not None and number is not None:
                sent_at = self._standing.sent_at(number)
            if said is None or sent_at is None:
                return None
            unheard_s, until = _unheard_s(said, host, incarnation), sent_at
        return (now - unheard_s, until) if unheard_s >= TAKEOVER_S else None

    def _member(self, host: str, now: float) -> Member:
        if host == self.own and self._standing is not None:
            return Member(
                host=host,
                state=_state(is_ready=self._is_ready, is_draining=self._is_draining),
                incarnation=self._incarnation,
                base_url=self._base_url,
                zone=self._zone,
                may_act=self._standing.may_act(now=now),
                is_heard=True,
                heard_for_s=now - self._began_at,
                unheard_s=0.0,
            )
        peer = self._peers[host]
        said = peer.newest
        if said is None:
            return Member(host=host, state=State.UNKNOWN)
        is_there = peer.is_heard(TAKEOVER_S, now)
        state = _state(is_ready=said.is_ready, is_draining=said.is_draining)
        return Member(
            host=host,
            state=state if is_there else State.GONE,
            incarnation=said.incarnation,
            base_url=said.base_url,
            zone=said.zone,
            may_act=said.may_act,
            is_heard=peer.is_heard(ABSENT_S, now),
            heard_for_s=now - peer.heard_since if is_there else 0.0,
            unheard_s=now - peer.heard_at,
        )


def _state(*, is_ready: bool, is_draining: bool) -> State:
    if is_draining:
        return State.DRAINING
    return State.READY if is_ready else State.STARTING


def _unheard_s(said: Heartbeat, host: str, incarnation: str) -> float:
    """For how long the sender had not heard the incarnation when it said this."""
    for heard in said.heard:
        if heard.host == host and heard.incarnation == incarnation:
            return heard.age_s
    return min(said.listening_s, REMEMBERED_S)
