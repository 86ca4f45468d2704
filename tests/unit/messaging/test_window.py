"""A window: never more than its places, in the order of asking, and none lost."""

import asyncio

import pytest

from trunkline.messaging.window import Window

pytestmark = pytest.mark.anyio


async def turn() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_many_places_are_given_as_are_free_and_one_is_waited_for() -> None:
    window = Window(3)

    assert await window.take(2) == 2
    assert await window.take(5) == 1

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(window.take(5))
        await turn()
        assert not waiting.done()
        window.give_back()
    assert waiting.result() == 1


async def test_places_are_given_in_the_order_of_asking() -> None:
    window = Window(1)
    assert await window.take() == 1
    served: list[int] = []

    async def ask(number: int) -> None:
        await window.take()
        served.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(ask(number))
        for number in range(3):
            await turn()
            assert len(served) == number
            window.give_back()
    assert served == [0, 1, 2]


async def test_who_gives_up_waiting_takes_no_place_with_it() -> None:
    window = Window(1)
    await window.take()

    async with asyncio.TaskGroup() as tasks:
        first, second = (tasks.create_task(window.take()) for _ in range(2))
        await turn()
        window.give_back()
        first.cancel()  # just when its turn had come
        await turn()
        assert second.done()

    window.give_back()
    assert await window.take(9) == 1
