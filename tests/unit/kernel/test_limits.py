"""A server's limits: so much at once, the important first, nothing that nobody waits for."""

import asyncio

import pytest

from trunkline.kernel import (
    Admission,
    Admitted,
    Deadline,
    Limiter,
    Priority,
    ServerLimits,
    Shed,
    ShedReason,
    VirtualClock,
    Waiting,
    run_in_virtual_time,
)

ONE = ServerLimits(in_flight_max=1)


class Line:
    """An `Admission` of one place, and who got what."""

    def __init__(self, limits: ServerLimits = ONE) -> None:
        self.admission = Admission(limits)
        self.begun: list[str] = []
        self.shed: dict[str, ShedReason] = {}

    def arrive(
        self,
        name: str,
        priority: Priority = Priority.READ,
        *,
        now: float = 0.0,
        deadline_at: float = 60.0,
    ) -> Waiting | None:
        entry = self.admission.arrive(priority, deadline_at=deadline_at, now=now)
        if isinstance(entry, Waiting):
            entry.on_turn = lambda shed: self._on_turn(name, shed)
            return entry
        self._on_turn(name, entry if isinstance(entry, Shed) else None)
        assert isinstance(entry, Admitted | Shed)
        return None

    def _on_turn(self, name: str, shed: Shed | None) -> bool:
        if shed is None:
            self.begun.append(name)
        else:
            self.shed[name] = shed.reason
        return True


def test_the_important_goes_first_and_equals_in_their_order() -> None:
    line = Line()
    line.arrive("first")
    for name, priority in (
        ("export", Priority.BULK),
        ("read 1", Priority.READ),
        ("call", Priority.LIVE),
        ("read 2", Priority.READ),
        ("receipt", Priority.OWED),
        ("create", Priority.CREATE),
    ):
        line.arrive(name, priority)

    for _ in range(6):
        line.admission.leave(now=0.05)

    assert line.begun == ["first", "call", "receipt", "create", "read 1", "read 2", "export"]


def test_what_nobody_waits_for_any_more_is_never_begun() -> None:
    line = Line()
    line.arrive("first")
    line.arrive("expired on arrival", now=1.0, deadline_at=1.0)
    line.arrive("expires in the queue", Priority.OWED, now=1.0, deadline_at=1.05)
    line.arrive("in time", now=1.0)

    line.admission.leave(now=1.06)

    assert line.begun == ["first", "in time"]
    assert set(line.shed.values()) == {ShedReason.EXPIRED}


def test_nothing_that_may_be_shed_waits_longer_than_a_tenth_of_a_second() -> None:
    line = Line()
    line.arrive("first")
    for priority in Priority:
        line.arrive(priority.name, priority)

    for _ in range(5):
        line.admission.leave(now=0.11)

    assert line.begun == ["first", "LIVE", "OWED"]
    assert line.shed == dict.fromkeys(["CREATE", "READ", "BULK"], ShedReason.WAITED)


def test_a_full_queue_turns_away_the_newest_of_the_least_important() -> None:
    line = Line(ServerLimits(in_flight_max=1, queue_max=2))
    line.arrive("first")
    line.arrive("bulk 1", Priority.BULK)
    line.arrive("bulk 2", Priority.BULK)

    line.arrive("read", Priority.READ)
    line.arrive("bulk 3", Priority.BULK)
    line.arrive("create", Priority.CREATE)
    line.arrive("read 2", Priority.READ)

    assert line.shed == dict.fromkeys(["bulk 2", "bulk 3", "bulk 1", "read 2"], ShedReason.FULL)


def test_the_first_two_priorities_are_never_shed() -> None:
    line = Line(ServerLimits(in_flight_max=1, queue_max=0))
    line.arrive("first")
    for number in range(100):
        line.arrive(f"call {number}", Priority.LIVE)
        line.arrive(f"receipt {number}", Priority.OWED)

    for _ in range(200):
        line.admission.leave(now=30.0)

    assert len(line.begun) == 201
    assert line.shed == {}


def test_whoever_left_the_queue_gets_no_turn() -> None:
    line = Line()
    line.arrive("first")
    gone = line.arrive("gone")
    line.arrive("next")
    assert gone is not None

    line.admission.withdraw(gone)
    assert line.admission.queued() == 1
    line.admission.leave(now=0.0)

    assert line.begun == ["first", "next"]


class Server:
    """A handler of 20 ms behind a `Limiter`, in virtual time."""

    def __init__(self, limits: ServerLimits) -> None:
        self.clock = VirtualClock()
        self.limiter = Limiter(limits, clock=self.clock)
        self.under_way = 0
        self.under_way_most = 0
        self.answers: list[str | Shed] = []

    async def handle(self) -> str:
        self.under_way += 1
        self.under_way_most = max(self.under_way_most, self.under_way)
        try:
            await asyncio.sleep(0.02)
        finally:
            self.under_way -= 1
        return "done"

    async def ask(self, priority: Priority = Priority.READ, within_s: float = 10.0) -> None:
        deadline = Deadline.after(within_s, self.clock)
        self.answers.append(
            await self.limiter.run(self.handle, priority=priority, deadline=deadline)
        )


def test_a_server_takes_on_what_it_can_and_tells_the_rest_in_time() -> None:
    server = Server(ServerLimits(in_flight_max=2))

    async def main() -> float:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(server.ask())
        return server.clock.monotonic()

    took_s = run_in_virtual_time(main())

    shed = [answer for answer in server.answers if isinstance(answer, Shed)]
    assert server.under_way_most == 2
    assert 100 - len(shed) == 10
    assert {each.reason for each in shed} == {ShedReason.WAITED}
    assert took_s == pytest.approx(0.1)


def test_a_cancelled_caller_gives_its_place_back_wherever_it_was() -> None:
    server = Server(ServerLimits(in_flight_max=1))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(server.ask())
            queued = tasks.create_task(server.ask())
            await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.sleep(0)
            # `queued` was told to begin in this moment, and has not run yet.
            queued.cancel()
        await server.ask()

    run_in_virtual_time(main())

    assert server.answers == ["done"]
    assert "0 of 1 in flight, 0 waiting" in repr(server.limiter)


def test_a_caller_whose_deadline_passes_in_the_queue_is_told_at_that_moment() -> None:
    server = Server(ServerLimits(in_flight_max=1))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.ask())
            tasks.create_task(server.ask(Priority.OWED, within_s=0.005))
            await asyncio.sleep(0.006)
            assert server.answers == [Shed(ShedReason.EXPIRED, 1.0)]

    run_in_virtual_time(main())
