"""A follower's place: on the own server while its copy keeps up, and elsewhere while it does not."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from trunkline.kernel.virtual import VirtualClock, run_in_virtual_time
from trunkline.log.engines.jetstream.consume import END_EVERY_S, LATE_LEAST_S, JetStreamFollower
from trunkline.log.engines.jetstream.elections import Elections
from trunkline.log.engines.jetstream.requests import Reply, Requests, Unanswered
from trunkline.protocols import nats

OWN = "a"
LEADER = "b"


class Connection:
    """To the own server. What is asked of a place there is answered by the server it is on."""

    server = OWN

    def __init__(self, servers: "Servers") -> None:
        self._servers = servers
        self._sinks: dict[str, Callable[[nats.Message], None]] = {}
        self._open: list[tuple[str, Callable[[nats.Message], None]]] = []

    def subscribe(self, subject: str, sink: Callable[[nats.Message], None]) -> int:
        self._sinks[subject] = sink
        return len(self._sinks)

    def unsubscribe(self, sid: int) -> None:
        del sid

    def write(self, said: bytes) -> bool:
        line, _, rest = said.partition(b"\r\n")
        _, subject, inbox, _ = line.decode().split(" ")
        name = subject.rpartition(".")[2]
        batch = json.loads(rest)["batch"]
        sink = self._sinks[inbox]
        if self._give(name, batch, sink) == 0 and "no_wait" not in json.loads(rest):
            self._open.append((name, sink))
        elif "no_wait" in json.loads(rest):
            sink(nats.Message(inbox, 1, "", b"", 404, ""))
        return True

    def serve(self) -> None:
        """The requests that are open."""
        waiting, self._open = self._open, []
        for name, sink in waiting:
            if self._give(name, 1, sink) == 0:
                self._open.append((name, sink))

    def _give(self, name: str, batch: int, sink: Callable[[nats.Message], None]) -> int:
        sequences = self._servers.take(name, batch)
        for sequence in sequences:
            reply = f"$JS.ACK.EV_0.{name}.1.{sequence}.{sequence}.0.0"
            sink(nats.Message("ev.0.x", 1, reply, b"%d" % sequence))
        return len(sequences)


class Route:
    inbox = "_INBOX.0"

    def __init__(self, servers: "Servers") -> None:
        self.connection = Connection(servers)


class Servers:
    """In place of `Requests`: three servers, each with so many messages of the shard; places are
    given on one after the other."""

    has_others = True
    is_connected = True
    own_server = OWN
    routes: tuple[()] = ()

    def __init__(self) -> None:
        self.has = {"a": 0, "b": 0, "c": 0}
        self.places: dict[str, tuple[str, int]] = {}
        self._lots = itertools.cycle("cab")
        self._names = itertools.count(1)
        self._route = Route(self)

    @property
    def where(self) -> str:
        """The server of the newest place."""
        return list(self.places.values())[-1][0]

    def put(self, count: int, *, on: str = "abc") -> None:
        for server in on:
            self.has[server] += count
        self._route.connection.serve()

    def take(self, name: str, batch: int) -> list[int]:
        if name not in self.places:
            return []
        server, given = self.places[name]
        upto = min(given + batch, self.has[server])
        self.places[name] = server, upto
        return list(range(given + 1, upto + 1))

    def when_shaken(self, listener: object) -> Callable[[], None]:
        del listener
        return lambda: None

    def new_name(self) -> str:
        return f"n{next(self._names)}"

    def choose(self) -> Route:
        return self._route

    def send(self, subject: str, payload: bytes) -> None:
        del payload
        self.places.pop(subject.rpartition(".")[2])

    async def ask(self, subject: str, payload: bytes = b"", *, timeout_s: float) -> Reply:
        del timeout_s
        if subject.startswith("$JS.API.CONSUMER.CREATE."):
            asked = json.loads(payload)["config"]
            server = next(self._lots)
            self.places[asked["name"]] = server, asked["opt_start_seq"] - 1
            return _json({"name": asked["name"], "cluster": {"leader": server}})
        if subject == "$JS.API.STREAM.INFO.EV_0":
            return _json({"state": self._state(), "cluster": self._cluster()})
        return Unanswered(subject)

    def _state(self) -> dict[str, int]:
        return {"first_seq": 1, "last_seq": self.has[LEADER]}

    def _cluster(self) -> dict[str, Any]:
        lags = {each: self.has[LEADER] - self.has[each] for each in "ac"}
        copies = [{"name": name, "current": not lag, "lag": lag} for name, lag in lags.items()]
        return {"leader": LEADER, "replicas": copies}


def _json(answer: object) -> bytes:
    return json.dumps(answer).encode()


def play(test: Callable[[Servers, JetStreamFollower], Awaitable[None]]) -> None:
    async def main() -> None:
        servers = Servers()
        requests = cast(Requests, servers)
        follower = JetStreamFollower(requests, Elections(requests), 0, 0, VirtualClock())
        await follower.start()
        await test(servers, follower)
        await follower.close()

    run_in_virtual_time(main())


async def read(follower: JetStreamFollower, for_s: float) -> int:
    """How many came within so long."""
    came = 0
    now = asyncio.get_running_loop().time
    until = now() + for_s
    while now() < until:
        came += len(await follower.fetch(100, END_EVERY_S / 4))
    return came


def test_what_the_own_server_lacks_is_read_from_another_one() -> None:
    async def test(servers: Servers, follower: JetStreamFollower) -> None:
        servers.put(3)
        assert await read(follower, 1.0) == 3
        assert servers.where == OWN

        servers.put(5, on="bc")
        assert await read(follower, 4 * END_EVERY_S) == 5
        assert servers.where != OWN

        servers.put(2, on="bc")
        assert await read(follower, 2 * END_EVERY_S) == 2

    play(test)


def test_the_own_server_is_read_again_when_it_has_all_and_not_before() -> None:
    async def test(servers: Servers, follower: JetStreamFollower) -> None:
        servers.put(5, on="bc")
        assert await read(follower, 3 * LATE_LEAST_S) == 5
        assert servers.where != OWN

        servers.put(5, on="a")
        await read(follower, 3 * END_EVERY_S)
        servers.put(1)
        assert await read(follower, 3 * END_EVERY_S) == 1
        assert servers.where == OWN

    play(test)
