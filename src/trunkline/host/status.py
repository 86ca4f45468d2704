"""What a host knows about itself and its cluster, left in its data folder for `trunkline status`.

A file and no request: it can be read while the host does not answer, and when all others are dead.
Each process of the host leaves its own, `run/status-<process>.json`, and what they say is put
together by who reads them.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.host.cluster import ClusterPart
from trunkline.host.gauges import HasPools
from trunkline.host.queues import QueueLine
from trunkline.kernel import Clock, Out
from trunkline.replica.progress import Progress
from trunkline.webhooks.receiver_state import ReceiverState

LEFT_EVERY_S: Final = 1.0
STALE_S: Final = 5.0
"""What was not written for so long is of a process that is gone, or hangs."""

ERROR_CHARS_MAX: Final = 300
"""Of what a replica answered last: enough to know it by."""

_PREFIX: Final = "status-"


class HostLine(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the cluster. `heard_for_s` counts from when it was first heard without a gap;
    `unheard_s` is -1 for one that was never heard."""

    host: str
    state: str
    may_act: bool
    incarnation: str
    base_url: str
    zone: str
    heard_for_s: float
    unheard_s: float


class ShardLine(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of the log: whose it is, who leads it, and who leads each of its consumers."""

    stream: str
    owner: str
    leader: str
    consumers: Mapping[str, str]


class OutLine(msgspec.Struct, frozen=True, kw_only=True):
    """A replica that is out of rotation: the rule that it broke, `failures` of `outcomes` tries in the
    ten seconds before, and what it answered last. `probed_in_s` is 0 where a probe is due; with
    `is_ignored` so many of the pool are out that it is asked all the same."""

    replica: str
    rule: str
    failures: int
    outcomes: int
    last_error: str
    out_for_s: float
    probed_in_s: float
    is_ignored: bool


class PoolLine(msgspec.Struct, frozen=True, kw_only=True):
    """One pool of a process, and what of it is out of rotation."""

    pool: str
    replicas: int
    out: tuple[OutLine, ...] = ()


class ReceiverLine(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver of status callbacks for whom something waits, and who failed in its last `failures`
    tries, to this process; it is tried again in `tried_in_s`, or now."""

    receiver: str
    failures: int
    down_for_s: float
    last_error: str
    tried_in_s: float


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says. `at` is seconds since the epoch; `hosts` and `shards` are empty where
    the host is alone. `copy_lag_ms` is -1 until the copy was complete once."""

    at: float
    host: str
    services: tuple[str, ...]
    not_ready: tuple[str, ...]
    copy_lag_ms: float
    hosts: tuple[HostLine, ...] = ()
    shards: tuple[ShardLine, ...] = ()
    pools: tuple[PoolLine, ...] = ()
    queues: tuple[QueueLine, ...] = ()
    receivers_down: tuple[ReceiverLine, ...] = ()


class StatusFile:
    """A support: leaves the status of this process in `path` each second, until cancelled."""

    name = "status"

    def __init__(  # noqa: PLR0913 - each is a part that the composition root names
        self,
        path: Path,
        *,
        host: str,
        services: Sequence[str],
        readiness: Callable[[], Sequence[str]],
        progress: Progress,
        part: ClusterPart | None,
        owners: Callable[[], Iterable[object]],
        queues: Callable[[], Sequence[QueueLine]],
        receivers_down: Callable[[], Sequence[ReceiverState]] = tuple,
        clock: Clock,
    ) -> None:
        self._path = path
        self._host = host
        self._services = tuple(services)
        self._readiness = readiness
        self._progress = progress
        self._part = part
        self._owners = owners
        self._queues = queues
        self._receivers_down = receivers_down
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. What processes left that were killed is cleared away first."""
        for path in self._path.parent.glob(f"{_PREFIX}*.json"):
            if _fresh(path, self._clock.wall()) is None:
                path.unlink(missing_ok=True)
        try:
            while True:
                with contextlib.suppress(OSError):  # a full disk must not end the host for it
                    new = self._path.with_name(f"{self._path.name}.new")
                    new.write_bytes(encode(self.status()))
                    new.replace(self._path)
                await self._clock.sleep(LEFT_EVERY_S)
        finally:
            self._path.unlink(missing_ok=True)

    def status(self) -> ProcessStatus:
        """As of now."""
        lag_ms = self._progress.lag_ms()
        return ProcessStatus(
            at=self._clock.wall(),
            host=self._host,
            services=self._services,
            not_ready=tuple(self._readiness()),
            copy_lag_ms=-1.0 if lag_ms == float("inf") else lag_ms,
            hosts=() if self._part is None else tuple(_hosts(self._part)),
            shards=() if self._part is None else tuple(_shards(self._part)),
            pools=tuple(_pools(self._owners())),
            queues=tuple(self._queues()),
            receivers_down=tuple(map(_receiver, self._receivers_down())),
        )


def path_of(run: Path, process: int) -> Path:
    """Where a process leaves its status, in the host's folder of what is running."""
    return run / f"{_PREFIX}{process}.json"


def encode(status: ProcessStatus) -> bytes:
    return msgspec.json.encode(status)


def read(run: Path, *, wall: float) -> list[ProcessStatus]:
    """What the processes of the host said in the last seconds; none where no host runs."""
    found = [_fresh(path, wall) for path in sorted(run.glob(f"{_PREFIX}*.json"))]
    return [status for status in found if status is not None]


def _fresh(path: Path, wall: float) -> ProcessStatus | None:
    try:
        status = msgspec.json.decode(path.read_bytes(), type=ProcessStatus)
    except (OSError, msgspec.MsgspecError):
        return None
    return status if abs(wall - status.at) <= STALE_S else None


def _hosts(part: ClusterPart) -> Iterable[HostLine]:
    for member in part.members.view().members.values():
        unheard_s = member.unheard_s
        yield HostLine(
            host=member.host,
            state=member.state.value,
            may_act=member.may_act,
            incarnation=member.incarnation,
            base_url=member.base_url,
            zone=member.zone,
            heard_for_s=round(member.heard_for_s, 1),
            unheard_s=-1.0 if unheard_s == float("inf") else round(unheard_s, 3),
        )


def _shards(part: ClusterPart) -> Iterable[ShardLine]:
    leaders = {} if part.balancer is None else part.balancer.leaders
    for shares, stream in ((part.shards, "EV"), (part.timers, "TIMER")):
        for shard, owner in enumerate(shares.owners):
            name = f"{stream}_{shard}"
            yield ShardLine(
                stream=name,
                owner=owner or "",
                leader=leaders.get(name) or "",
                consumers={
                    led.removeprefix(f"{name}."): leader or ""
                    for led, leader in leaders.items()
                    if led.startswith(f"{name}.")
                },
            )


def _receiver(state: ReceiverState) -> ReceiverLine:
    return ReceiverLine(
        receiver=state.receiver,
        failures=state.failures,
        down_for_s=state.down_for_s,
        last_error=state.last_error[:ERROR_CHARS_MAX],
        tried_in_s=state.tried_in_s,
    )


def _pools(owners: Iterable[object]) -> Iterable[PoolLine]:
    for owner in owners:
        if isinstance(owner, HasPools):
            for pool in owner.pools():
                yield PoolLine(pool=pool.name, replicas=pool.size, out=tuple(map(_out, pool.out())))


def _out(out: Out[Any]) -> OutLine:
    ejection = out.ejection
    return OutLine(
        replica=str(out.replica),
        rule=ejection.rule,
        failures=ejection.failures,
        outcomes=ejection.outcomes,
        last_error=ejection.last_error[:ERROR_CHARS_MAX],
        out_for_s=round(out.out_for_s, 1),
        probed_in_s=round(out.probed_in_s, 1),
        is_ignored=out.is_ignored,
    )
