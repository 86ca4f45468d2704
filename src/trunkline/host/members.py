"""The process's part in the cluster: sends and hears heartbeats, and tells when the view changes."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog

from trunkline.host import heartbeat
from trunkline.host.membership import HEARTBEAT_S, Membership, State, View
from trunkline.kernel import Clock
from trunkline.log.interface import Bus

log: Final = structlog.get_logger(__name__)

JITTER_SHARE: Final = 0.1
"""So that hosts that were started together do not stay in step."""


class Members:
    """Use as a support: `run` until cancelled. `view` is as of this moment, always."""

    name = "members"

    def __init__(
        self, bus: Bus, membership: Membership, *, clock: Clock, rng: random.Random
    ) -> None:
        self._bus = bus
        self._membership = membership
        self._clock = clock
        self._rng = rng
        self._beat_due_at = clock.monotonic()
        self._told: _Told | None = None
        self._changed = asyncio.Event()
        self._woken = asyncio.Event()
        self._listeners: list[Callable[[View], None]] = []

    @property
    def own(self) -> str:
        """This host's name."""
        return self._membership.own

    @property
    def hosts(self) -> tuple[str, ...]:
        """All members of the cluster."""
        return self._membership.hosts

    async def run(self) -> None:
        """Until cancelled."""
        stop_listening = self._bus.subscribe(heartbeat.EVERY_HOST, self._on_message)
        try:
            while True:
                now = self._clock.monotonic()
                if now >= self._beat_due_at:
                    self._beat(now)
                self._tell()
                await self._rest()
        finally:
            stop_listening()

    def view(self) -> View:
        return self._membership.view(now=self._clock.monotonic())

    def on_change(self, listener: Callable[[View], None]) -> None:
        """Call `listener` with the view whenever it is another in more than its ages."""
        self._listeners.append(listener)

    async def until_changed(self, wait_s: float) -> None:
        """Return when the view has changed, or after `wait_s`."""
        await _until(self._changed, wait_s)

    # ---- this host

    @property
    def incarnation(self) -> str:
        """As which this process speaks for the host; "" if it does not."""
        return self._membership.incarnation

    def begin(self, incarnation: str) -> None:
        """Speak for the host as `incarnation` from now on."""
        self._membership.begin(incarnation, now=self._clock.monotonic())
        self._speak()

    def may_act(self, incarnation: str) -> bool:
        return self._membership.may_act(incarnation, now=self._clock.monotonic())

    def has_lapsed(self, incarnation: str) -> bool:
        return self._membership.has_lapsed(incarnation, now=self._clock.monotonic())

    def is_dead(self, host: str, incarnation: str) -> bool:
        return self._membership.is_dead(host, incarnation, now=self._clock.monotonic())

    def set_ready(self) -> None:
        """Serve, and take a share of the work."""
        self._membership.set_ready()
        self._speak()

    def set_draining(self) -> None:
        """Take no share of the work any more; the others know it within milliseconds."""
        self._membership.set_draining()
        self._speak()

    def _speak(self) -> None:
        """Say at once what is new, and not with the next heartbeat."""
        self._beat_due_at = self._clock.monotonic()
        self._woken.set()

    def _beat(self, now: float) -> None:
        self._membership.step(now=now)
        said = self._membership.beat(now=now)
        if said is not None:
            self._bus.send(heartbeat.subject_of(self.own), heartbeat.encode(said))
        jitter = 1.0 + JITTER_SHARE * (2.0 * self._rng.random() - 1.0)
        self._beat_due_at = now + HEARTBEAT_S * jitter

    async def _rest(self) -> None:
        now = self._clock.monotonic()
        wait_s = min(self._beat_due_at, self._membership.next_change_at(now=now)) - now
        self._woken.clear()
        await _until(self._woken, max(0.0, wait_s))

    def _on_message(self, subject: str, payload: bytes) -> None:
        said = heartbeat.decode(payload)
        if said is None or subject != heartbeat.subject_of(said.host):
            return
        # Also who was known, but not heard for a while, is news: so it is always looked.
        self._membership.receive(said, now=self._clock.monotonic())
        self._tell()

    def _tell(self) -> None:
        view = self.view()
        told, was = _told(view), self._told
        if told == was:
            return
        self._told = told
        _log_changes(was, told, view, own=self.own)
        for listener in tuple(self._listeners):
            listener(view)
        self._changed.set()
        self._changed = asyncio.Event()


_Told = tuple[tuple[tuple[str, State, str, str], ...], tuple[str, ...], bool, bool]


def _told(view: View) -> _Told:
    """What of a view is worth telling when it changes."""
    members = tuple(
        (host, member.state, member.incarnation, member.zone)
        for host, member in view.members.items()
    )
    return members, view.present, view.is_connected, view.may_act


def _log_changes(was: _Told | None, told: _Told, view: View, *, own: str) -> None:
    before = {host: state for host, state, _, _ in was[0]} if was is not None else {}
    for host, state, _, _ in told[0]:
        if host == own or state is before.get(host, State.UNKNOWN):
            continue
        if state is State.GONE:
            unheard_s = round(view.members[host].unheard_s, 3)
            log.warning("member.gone", member=host, unheard_s=unheard_s)
        else:
            log.info("member.heard", member=host, state=state.value)
    if was is not None and was[2] != told[2]:
        heard = sum(1 for member in view.members.values() if member.state is not State.GONE)
        if told[2]:
            log.info("cluster.majority_heard", hosts=heard)
        else:
            log.error("cluster.majority_lost", hosts=heard)


async def _until(event: asyncio.Event, wait_s: float) -> None:
    """Until the event, or for `wait_s`."""
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        return
