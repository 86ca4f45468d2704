"""The Media resource of a message, and the bytes behind a media URL."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.api.api_world import ACCOUNT, HANDSET, OTHER_ACCOUNT, OTHER_TOKEN, OUR_NUMBER, World

from trunkline.api.media_bytes import ASKING_MAX
from trunkline.blobs.store import name_of
from trunkline.domain.events import Kind, MediaKept, MessageReceived, Refused, Type
from trunkline.domain.media import Piece, media_sid

pytestmark = pytest.mark.anyio

SID = "MM" + "7" * 32
ME = [media_sid("event", index) for index in range(3)]
BYTES = [b"\x89PNG one", b"GIF89a two", b"three"]
TYPES = ["image/png", "image/gif", "text/plain"]
MESSAGE = f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{SID}"
MEDIA = f"{MESSAGE}/Media"


def receive(world: World, sid: str = SID, account: str = ACCOUNT) -> None:
    """An inbound message with three media, which are not stored yet."""
    received = MessageReceived(
        sid=sid,
        sender=HANDSET,
        recipient=OUR_NUMBER,
        text="look",
        media_urls=(
            "https://media.example/1",
            "https://media.example/2",
            "https://media.example/3",
        ),
    )
    world.copy.put(Kind.INBOUND, Type.ORIGINAL, account, sid, received)
    world.copy.catch_up()


def keep(world: World, sid: str = SID, account: str = ACCOUNT) -> None:
    pieces = [
        Piece(
            sid=ME[index],
            index=index,
            sha256=name_of(content),
            content_type=TYPES[index],
            size_bytes=len(content),
        )
        for index, content in enumerate(BYTES)
    ]
    world.copy.put(Kind.INBOUND, Type.MEDIA_KEPT, account, sid, MediaKept(pieces=tuple(pieces)))
    world.copy.catch_up()
    world.media.has |= {name_of(content): content for content in BYTES}


async def listed(world: World, query: str = "") -> list[Any]:
    answer = await world.get(f"{MEDIA}.json{query}")
    assert answer.status == 200, answer.json
    return list(answer.json["media_list"])


async def test_the_media_of_a_message_are_listed_with_every_property(world: World) -> None:
    receive(world)
    keep(world)

    first, *others = await listed(world)

    created = (await world.get(f"{MESSAGE}.json")).json["date_created"]
    assert first == {
        "sid": ME[0],
        "account_sid": ACCOUNT,
        "parent_sid": SID,
        "content_type": "image/png",
        "date_created": created,
        "date_updated": created,
        "uri": f"{MEDIA}/{ME[0]}.json",
    }
    assert [each["sid"] for each in others] == ME[1:]


async def test_a_list_goes_page_by_page(world: World) -> None:
    receive(world)
    keep(world)

    page = (await world.get(f"{MEDIA}.json?PageSize=2")).json
    following = (await world.get(page["next_page_uri"])).json

    assert [each["sid"] for each in page["media_list"]] == ME[:2]
    assert [each["sid"] for each in following["media_list"]] == ME[2:]
    assert following["next_page_uri"] is None


async def test_a_list_is_filtered_by_the_date_of_storing(world: World) -> None:
    receive(world)
    keep(world)

    assert len(await listed(world, "?DateCreated>=2000-01-01")) == 3
    assert await listed(world, "?DateCreated<=2000-01-01") == []
    assert await listed(world, "?DateCreated=2000-01-01") == []


async def test_a_piece_is_fetched_as_json_and_as_bytes_without_credentials(world: World) -> None:
    receive(world)
    keep(world)

    shown = await world.get(f"{MEDIA}/{ME[1]}.json")
    content = await world.call("GET", f"{MEDIA}/{ME[1]}", user=None)

    assert (shown.status, shown.json["content_type"]) == (200, "image/gif")
    assert (content.status, content.body) == (200, BYTES[1])
    assert content.headers["content-type"] == "image/gif"
    assert content.headers["content-length"] == str(len(BYTES[1]))
    assert "max-age=" in content.headers["cache-control"]
    assert (await world.call("GET", f"{MEDIA}/{ME[1]}.json", user=None)).status == 401


async def test_a_head_has_the_length_and_no_bytes(world: World) -> None:
    receive(world)
    keep(world)

    answer = await world.call("HEAD", f"{MEDIA}/{ME[0]}", user=None)

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == str(len(BYTES[0]))


async def test_no_other_media_are_given(world: World) -> None:
    receive(world)
    keep(world)
    elsewhere = MEDIA.replace(ACCOUNT, OTHER_ACCOUNT)

    for path in (f"{MEDIA}/ME{'0' * 32}", f"{elsewhere}/{ME[0]}"):
        assert (await world.call("GET", path, user=None)).status == 404
    stranger = await world.call(
        "GET", f"{elsewhere}/{ME[0]}.json", user=OTHER_ACCOUNT, token=OTHER_TOKEN
    )
    assert (stranger.status, stranger.code) == (404, 20404)


async def test_a_deleted_piece_is_gone_and_the_others_stay(world: World) -> None:
    receive(world)
    keep(world)

    answer = await world.call("DELETE", f"{MEDIA}/{ME[0]}.json")

    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert (await world.get(f"{MEDIA}/{ME[0]}.json")).status == 404
    assert (await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 404
    assert (await world.call("DELETE", f"{MEDIA}/{ME[0]}.json")).status == 404
    assert [each["sid"] for each in await listed(world)] == ME[1:]
    assert (await world.get(f"{MESSAGE}.json")).json["num_media"] == "2"


async def test_the_media_of_a_deleted_message_are_gone_with_it(world: World) -> None:
    receive(world)
    keep(world)

    assert (await world.call("DELETE", f"{MESSAGE}.json")).status == 204

    for path in (f"{MEDIA}.json", f"{MEDIA}/{ME[0]}.json", f"{MEDIA}/{ME[0]}"):
        assert (await world.get(path)).status == 404
    assert (await world.call("DELETE", f"{MEDIA}/{ME[0]}.json")).status == 404


async def test_a_redacted_message_keeps_its_media_until_they_are_deleted(world: World) -> None:
    receive(world)
    keep(world)

    redacted = await world.post(f"{MESSAGE}.json", {"Body": ""})

    assert (redacted.json["body"], redacted.json["num_media"]) == ("", "3")
    assert (await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 200
    assert (await world.call("DELETE", f"{MEDIA}/{ME[0]}.json")).status == 204
    assert (await world.get(f"{MESSAGE}.json")).json["num_media"] == "2"


async def test_a_deletion_that_is_not_written_down_is_not_claimed(world: World) -> None:
    receive(world)
    keep(world)
    world.media.is_log_down = True

    assert (await world.call("DELETE", f"{MEDIA}/{ME[0]}.json")).status == 503


async def test_media_that_are_yet_to_be_stored_are_asked_for_again(world: World) -> None:
    receive(world)

    answer = await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert await listed(world) == []
    assert (await world.get(f"{MESSAGE}.json")).json["num_media"] == "3"


async def test_media_of_a_message_that_failed_will_never_be_there(world: World) -> None:
    receive(world)
    world.copy.put(Kind.MESSAGE, Type.REFUSAL, ACCOUNT, SID, Refused(attempt=0, error_code=11200))
    world.copy.catch_up()

    assert (await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 404


async def test_bytes_that_no_host_has_just_now_are_asked_for_again(world: World) -> None:
    receive(world)
    keep(world)
    world.media.has.clear()

    assert (await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 503


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "strict.sqlite3", media_needs_credentials=True)
    yield made
    made.copy.close()


async def test_where_the_setting_says_so_bytes_need_the_accounts_credentials(
    strict: World,
) -> None:
    receive(strict)
    keep(strict)

    assert (await strict.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 401
    other = await strict.call("GET", f"{MEDIA}/{ME[0]}", user=OTHER_ACCOUNT, token=OTHER_TOKEN)
    assert other.status == 401
    mine = await strict.get(f"{MEDIA}/{ME[0]}")
    assert (mine.status, mine.body) == (200, BYTES[0])
    assert mine.headers["cache-control"].startswith("private")


async def test_media_of_a_message_that_this_copy_does_not_show_yet_are_asked_for_again(
    world: World,
) -> None:
    receive(world)
    message = world.copy.replica.message(SID)
    assert message is not None
    late = "MM" + "8" * 32
    assert message.received is not None
    received = msgspec.structs.replace(message.received, sid=late)
    world.lookup.knows[late] = msgspec.structs.replace(message, sid=late, received=received)

    answer = await world.call("GET", f"{MEDIA.replace(SID, late)}/{ME[0]}", user=None)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    world.lookup.is_electing = True
    nowhere = MEDIA.replace(SID, "MM" + "9" * 32)
    answer = await world.call("GET", f"{nowhere}/{ME[0]}", user=None)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    world.lookup.is_electing = False
    assert (await world.call("GET", f"{nowhere}/{ME[0]}", user=None)).status == 404


async def test_made_up_urls_ask_the_log_only_a_few_at_once(world: World) -> None:
    receive(world)
    keep(world)
    world.lookup.may_answer = asyncio.Event()
    paths = [f"{MEDIA.replace(SID, f'MM{number:032x}')}/{ME[0]}" for number in range(20)]

    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(world.call("GET", path, user=None)) for path in paths]
        await world.clock.advance(0)
        assert (await world.call("GET", f"{MEDIA}/{ME[0]}", user=None)).status == 200
        assert world.lookup.asked == ASKING_MAX
        world.lookup.may_answer.set()

    answers = [task.result().status for task in asking]
    assert answers == [404] * ASKING_MAX + [503] * (20 - ASKING_MAX)
