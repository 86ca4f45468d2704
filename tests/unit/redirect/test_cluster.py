"""Asking the cluster: another host when one dies or hangs, the same key, never past the deadline."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from trunkline.kernel import Deadline, VirtualClock, run_in_virtual_time
from trunkline.redirect.asked import Asked, Replied, Unsent
from trunkline.redirect.cluster import (
    REQUEST_DEADLINE_S,
    TRY_TIMEOUT_S,
    Cluster,
    NotAnswered,
    reachable,
)

HOSTS = ("http://a", "http://b", "http://c")
MESSAGES = "/2010-04-01/Accounts/AC1/Messages.json"
CREATE = Asked("POST", MESSAGES, body=b"Body=x")
CREATED = Replied(201, "Created", body=b"{}")

Behaviour = Callable[[Asked], Awaitable[Replied]]


class FakeWire:
    """Hosts that behave as told, and what each was asked."""

    def __init__(self, usual: Behaviour, **others: Behaviour) -> None:
        self.usual = usual
        self.others = {f"http://{name}": behaviour for name, behaviour in others.items()}
        self.asked: list[tuple[str, Asked]] = []

    async def send(self, host: str, asked: Asked, *, bound_s: float) -> Replied:
        del bound_s
        self.asked.append((host, asked))
        return await self.others.get(host, self.usual)(asked)

    @property
    def keys(self) -> set[bytes]:
        return {
            value
            for _, asked in self.asked
            for name, value in asked.headers
            if name == b"Idempotency-Key"
        }


def answering(answer: Replied) -> Behaviour:
    async def behave(_: Asked) -> Replied:
        return answer

    return behave


async def dead(_: Asked) -> Replied:
    raise Unsent("nobody listens")


async def breaking(_: Asked) -> Replied:
    raise OSError("the connection was lost")


async def hanging(_: Asked) -> Replied:
    await asyncio.sleep(3600.0)
    raise AssertionError("nobody waits an hour")


def until(moment: float, first: Behaviour, then: Behaviour) -> Behaviour:
    async def behave(asked: Asked) -> Replied:
        is_early = asyncio.get_running_loop().time() < moment
        return await (first if is_early else then)(asked)

    return behave


def after(times: int, first: Behaviour, then: Behaviour) -> Behaviour:
    left = [times]

    async def behave(asked: Asked) -> Replied:
        left[0] -= 1
        return await (first if left[0] >= 0 else then)(asked)

    return behave


def answered(
    wire: FakeWire, asked: Asked = CREATE, *, times: int = 1
) -> tuple[list[Replied | NotAnswered], float]:
    """What is answered to `times` requests at once, and after how many seconds all are."""

    async def main() -> tuple[list[Replied | NotAnswered], float]:
        clock = VirtualClock()
        cluster = Cluster(HOSTS, wire, clock=clock, rng=random.Random(7))
        async with asyncio.TaskGroup() as tasks:
            asks = [
                tasks.create_task(
                    cluster.ask(asked, deadline=Deadline.after(REQUEST_DEADLINE_S, clock))
                )
                for _ in range(times)
            ]
        return [each.result() for each in asks], clock.monotonic()

    return run_in_virtual_time(main())


def test_a_create_goes_to_another_host_when_one_is_dead() -> None:
    for name in "abc":
        wire = FakeWire(answering(CREATED), **{name: dead})

        answers, took_s = answered(wire, times=20)

        assert answers == [CREATED] * 20
        assert took_s < 1.0


def test_a_create_that_a_host_may_have_is_repeated_with_the_same_key() -> None:
    wire = FakeWire(after(2, breaking, answering(CREATED)))

    answers, _ = answered(wire)

    assert answers == [CREATED]
    assert len(wire.asked) == 3
    assert len(wire.keys) == 1
    assert len({host for host, _ in wire.asked}) == 3


def test_each_create_of_the_program_has_a_key_of_its_own() -> None:
    wire = FakeWire(answering(CREATED))

    answered(wire, times=5)

    assert len(wire.keys) == 5


def test_a_host_that_hangs_is_left_after_the_bound_of_a_try() -> None:
    wire = FakeWire(after(1, hanging, answering(CREATED)))

    answers, took_s = answered(wire)

    assert answers == [CREATED]
    assert TRY_TIMEOUT_S <= took_s < TRY_TIMEOUT_S + 0.1


def test_a_host_is_told_how_long_it_is_waited_for() -> None:
    wire = FakeWire(answering(CREATED))

    answered(wire)

    assert dict(wire.asked[0][1].headers)[b"X-Deadline-Ms"] == b"3000"


def test_a_cluster_that_restarts_is_waited_for() -> None:
    wire = FakeWire(until(10.0, dead, answering(CREATED)))

    answers, took_s = answered(wire)

    assert answers == [CREATED]
    assert 10.0 <= took_s < 13.0


def test_retry_after_is_honoured() -> None:
    for status in (503, 429):
        busy = Replied(status, "Busy", ((b"Retry-After", b"5"),))
        wire = FakeWire(until(4.0, answering(busy), answering(CREATED)))

        answers, took_s = answered(wire)

        assert answers == [CREATED]
        assert took_s >= 5.0


def test_what_every_host_refuses_is_told_to_the_program_by_the_deadline() -> None:
    refusal = Replied(503, "Service Unavailable", ((b"Retry-After", b"2"),), b"{}")
    wire = FakeWire(answering(refusal))

    answers, took_s = answered(wire)

    assert answers == [refusal]
    assert took_s <= REQUEST_DEADLINE_S
    assert len(wire.asked) < 3 * REQUEST_DEADLINE_S / 2.0


def test_a_cluster_that_is_gone_is_told_with_what_is_known() -> None:
    unsent, took_s = answered(FakeWire(dead))
    lost, _ = answered(FakeWire(breaking))

    assert unsent == [NotAnswered("Unsent: nobody listens", is_unsent=True)]
    assert lost == [NotAnswered("OSError: the connection was lost", is_unsent=False)]
    assert took_s <= REQUEST_DEADLINE_S


def test_a_post_that_takes_no_key_is_not_repeated_once_it_may_have_arrived() -> None:
    call = Asked("POST", "/2010-04-01/Accounts/AC1/Calls.json")
    for behaviour in (breaking, hanging, answering(Replied(503, "Service Unavailable"))):
        wire = FakeWire(behaviour)

        answered(wire, call)

        assert len(wire.asked) == 1
        assert wire.keys == set()


def test_a_post_that_takes_no_key_is_repeated_while_it_never_left() -> None:
    wire = FakeWire(after(3, dead, answering(CREATED)))

    answers, _ = answered(wire, Asked("POST", "/2010-04-01/Accounts/AC1/Calls.json"))

    assert answers == [CREATED]
    assert len(wire.asked) == 4


def test_an_update_is_repeated_without_a_key() -> None:
    wire = FakeWire(after(1, breaking, answering(Replied(200, "OK"))))

    answers, _ = answered(wire, Asked("POST", "/2010-04-01/Accounts/AC1/Messages/SM1.json"))

    assert answers == [Replied(200, "OK")]
    assert wire.keys == set()


def test_other_answers_go_to_the_program_as_they_are() -> None:
    for status in (400, 401, 404, 409, 422, 500, 501):
        wire = FakeWire(answering(Replied(status, "No")))

        answers, _ = answered(wire)

        assert answers == [Replied(status, "No")]
        assert len(wire.asked) == 1


def test_a_delete_whose_answer_was_lost_is_no_404() -> None:
    gone = Replied(404, "Not Found", ((b"Content-Type", b"application/json"),), b"{}")
    message = Asked("DELETE", "/2010-04-01/Accounts/AC1/Messages/SM1.json")

    lost, _ = answered(FakeWire(after(1, breaking, answering(gone))), message)
    unknown, _ = answered(FakeWire(answering(gone)), message)
    unsent, _ = answered(FakeWire(after(1, dead, answering(gone))), message)

    assert lost == [Replied(204, "No Content")]
    assert unknown == unsent == [gone]


def test_nothing_is_repeated_for_a_program_that_hung_up() -> None:
    wire = FakeWire(dead)

    _, took_s = answered(wire, Asked("POST", MESSAGES, has_gone=lambda: True))

    assert len(wire.asked) <= 3
    assert took_s < 1.0


def test_an_outage_is_not_stormed() -> None:
    wire = FakeWire(until(20.0, breaking, answering(CREATED)))

    answers, _ = answered(wire, times=200)

    assert answers == [CREATED] * 200
    early = len(wire.asked) - 200
    assert early < 200 * 6


def test_who_does_not_answer_is_named_before_the_program_starts() -> None:
    async def main() -> dict[str, str]:
        wire = FakeWire(answering(CREATED), b=dead, c=hanging)
        return await reachable(HOSTS, wire, bound_s=2.0)

    assert run_in_virtual_time(main()) == {
        "http://b": "nobody listens",
        "http://c": "no answer in 2 s",
    }
