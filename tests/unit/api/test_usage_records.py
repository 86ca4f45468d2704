"""What the usage records, the balance and the prices of messages say, and that they agree."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.api.api_world import ACCOUNT, HANDSET, MESSAGES, OUR_NUMBER, World

from trunkline.api.resources.usage_records import CATEGORIES, within
from trunkline.domain.events import HandedOver, Kind, MessageCreated, MessageReceived, Type
from trunkline.domain.price import Category
from trunkline.replica.queries import Usage

pytestmark = pytest.mark.anyio

RECORDS = f"/2010-04-01/Accounts/{ACCOUNT}/Usage/Records"
LISTS = ("AllTime", "Daily", "LastMonth", "Monthly", "ThisMonth", "Today", "Yearly", "Yesterday")
DAY_S = 86_400.0


class Counted(list[Usage]):
    """A list that counts what is taken out of it, one by one."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1 if isinstance(index, int) else len(range(*index.indices(len(self))))
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Usage]:
        self.looks += len(self)
        return super().__iter__()


async def send(
    world: World, number: int, *, segments: int = 1, media: bool = False, account: str = ACCOUNT
) -> None:
    name = f"SM{number:032x}"
    body = MessageCreated(
        sid=name,
        sender=OUR_NUMBER,
        recipient=HANDSET,
        text="hi",
        num_segments=segments,
        media_urls=("http://m.example/a.png",) if media else (),
        price_micros=20_000 if media else 7_900 * segments,
    )
    world.copy.put(Kind.MESSAGE, Type.ORIGINAL, account, name, body)
    taken = HandedOver(attempt=1, carrier="c", carrier_message_id="1")
    world.copy.put(Kind.MESSAGE, Type.OUTCOME, account, name, taken)
    world.copy.catch_up()


async def hear(world: World, number: int) -> None:
    name = f"SM{number:032x}"
    body = MessageReceived(
        sid=name, sender=HANDSET, recipient=OUR_NUMBER, text="hi", price_micros=7_900
    )
    world.copy.put(Kind.INBOUND, Type.ORIGINAL, ACCOUNT, name, body)
    world.copy.catch_up()


def today(world: World) -> datetime:
    return datetime.fromtimestamp(world.clock.wall(), UTC)


async def record(world: World, query: str, of: str = "") -> dict[str, Any]:
    answered = await world.get(f"{RECORDS}{of}.json?{query}")
    (found,) = answered.json["usage_records"]
    return dict(found)


async def test_categories_are_counted_and_priced(world: World) -> None:
    await send(world, 1, segments=3)
    await send(world, 2)
    await send(world, 3, media=True)
    await hear(world, 4)

    sms = await record(world, "Category=sms")
    assert (sms["count"], sms["count_unit"]) == ("3", "messages")
    assert (sms["usage"], sms["usage_unit"]) == ("5", "segments")
    assert sms["price"] == pytest.approx(5 * 0.0079)
    assert sms["price_unit"] == "usd"
    assert (await record(world, "Category=sms-outbound"))["count"] == "2"
    assert (await record(world, "Category=sms-inbound-longcode"))["count"] == "1"
    assert (await record(world, "Category=mms-outbound"))["price"] == pytest.approx(0.02)
    assert (await record(world, "Category=totalprice"))["price"] == pytest.approx(0.0595)
    calls = await record(world, "Category=calls")
    assert (calls["count"], calls["price"]) == ("0", 0.0)


async def test_each_list_cuts_time_its_own_way(world: World) -> None:
    await send(world, 1)
    await world.clock.advance(DAY_S)
    await send(world, 2)
    await send(world, 3)
    now, query = today(world), "Category=sms-outbound"

    counts = {each: (await record(world, query, f"/{each}"))["count"] for each in LISTS[4:6]}
    assert counts["Today"] == "2"
    assert (await record(world, query, "/Yesterday"))["count"] == "1"
    assert (await record(world, query, "/AllTime"))["count"] == "3"
    assert (await record(world, query, "/LastMonth"))["count"] == ("1" if now.day == 1 else "0")
    daily = (await world.get(f"{RECORDS}/Daily.json?{query}")).json["usage_records"]
    assert [each["count"] for each in daily] == ["2", "1"]
    assert [each["start_date"] for each in daily] == [
        now.date().isoformat(),
        (now - timedelta(days=1)).date().isoformat(),
    ]
    for of in ("/Monthly", "/Yearly"):
        found = (await world.get(f"{RECORDS}{of}.json?{query}")).json["usage_records"]
        assert sum(int(each["count"]) for each in found) == 3


async def test_dates_narrow_a_list(world: World) -> None:
    await send(world, 1)
    await world.clock.advance(3 * DAY_S)
    await send(world, 2)
    day = today(world).date().isoformat()

    assert (await record(world, f"Category=sms&StartDate={day}"))["count"] == "1"
    only = await record(world, f"Category=sms&StartDate={day}&EndDate={day}")
    assert (only["count"], only["start_date"], only["end_date"]) == ("1", day, day)
    refused = await world.get(f"{RECORDS}.json?StartDate={day}&EndDate=2001-01-01")
    assert (refused.status, refused.code) == (400, 20001)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("StartDate=-1days", "1"),
        ("StartDate=-3days", "2"),
        ("StartDate=-3days&EndDate=-1day", "1"),
        ("EndDate=%2B30days", "2"),
        ("EndDate=+30days", "2"),
        ("StartDate=-99999days", "2"),
    ],
)
async def test_dates_may_be_so_many_days_from_today(world: World, query: str, count: str) -> None:
    await send(world, 1)
    await world.clock.advance(3 * DAY_S)
    await send(world, 2)

    assert (await record(world, f"Category=sms&{query}"))["count"] == count


@pytest.mark.parametrize("date", ["-3", "3days", "-999999999days", "-3weeks"])
async def test_a_date_that_is_none_is_refused(world: World, date: str) -> None:
    answered = await world.get(f"{RECORDS}.json?StartDate={date}")

    assert (answered.status, answered.code) == (400, 20001)


async def test_a_list_goes_on_though_its_last_day_has_changed(world: World) -> None:
    await send(world, 1)
    first = (await world.get(f"{RECORDS}/AllTime.json?PageSize=6")).json
    await world.clock.advance(DAY_S)

    second = (await world.get(first["next_page_uri"])).json

    names = [each["category"] for each in first["usage_records"] + second["usage_records"]]
    assert names == list(CATEGORIES)


def test_of_years_of_days_only_those_of_the_period_are_looked_at() -> None:
    sums = Counted(Usage(day, Category.SMS_OUTBOUND, 1, 1, 1) for day in range(4_000))

    assert [each.day for each in within(sums, 3, 4)] == [3, 4]
    assert within(sums, 4_000, 4_001) == []
    assert sums.looks < 100


async def test_an_end_before_anything_happened_counts_nothing(world: World) -> None:
    await send(world, 1)

    found = await record(world, "Category=sms&EndDate=2001-01-01")

    assert (found["count"], found["end_date"]) == ("0", "2001-01-01")


async def test_a_start_that_has_not_come_yet_counts_nothing(world: World) -> None:
    await send(world, 1)
    day = (today(world) + timedelta(days=2)).date().isoformat()

    found = (await world.get(f"{RECORDS}.json?Category=sms&StartDate={day}")).json

    assert found["usage_records"] == []


async def test_pages_meet_without_a_gap_or_a_repeat(world: World) -> None:
    for number in range(4):
        await send(world, number)
        await world.clock.advance(DAY_S)
    whole = (await world.get(f"{RECORDS}/Daily.json?PageSize=1000")).json["usage_records"]

    seen, uri = [], f"{RECORDS}/Daily.json?PageSize=7"
    while uri is not None:
        page = (await world.get(uri)).json
        seen += page["usage_records"]
        uri = page["next_page_uri"]

    assert seen == whole
    assert len({(each["start_date"], each["category"]) for each in seen}) == len(seen)
    assert len(seen) == 5 * 11


async def test_the_balance_is_what_began_less_what_is_owed(world: World) -> None:
    await send(world, 1, segments=2)

    balance = (await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Balance.json")).json

    assert balance == {"account_sid": ACCOUNT, "balance": "-0.0158", "currency": "USD"}


async def test_a_message_shows_its_price_once_it_has_left(world: World) -> None:
    await send(world, 1, segments=2)

    (shown,) = (await world.get(MESSAGES)).json["messages"]

    assert (shown["price"], shown["price_unit"]) == ("-0.01580", "USD")


async def test_a_category_that_is_no_name_is_refused(world: World) -> None:
    answered = await world.get(f"{RECORDS}.json?Category=No+such")

    assert (answered.status, answered.code) == (400, 20001)


async def test_a_main_account_s_usage_is_that_of_its_subaccounts_too(world: World) -> None:
    await send(world, 1)
    opened = await world.post("/2010-04-01/Accounts.json", {"FriendlyName": "Shop"})
    shop = opened.json["sid"]
    await send(world, 2, account=shop)
    await send(world, 3, account=shop)
    theirs = f"/2010-04-01/Accounts/{shop}"

    async def sent(path: str) -> tuple[str, str]:
        (record,) = (await world.get(f"{path}Category=sms-outbound")).json["usage_records"]
        return record["account_sid"], record["count"]

    assert await sent(f"{RECORDS}.json?") == (ACCOUNT, "3")
    assert await sent(f"{RECORDS}.json?IncludeSubaccounts=true&") == (ACCOUNT, "3")
    assert await sent(f"{RECORDS}.json?IncludeSubaccounts=false&") == (ACCOUNT, "1")
    assert await sent(f"{theirs}/Usage/Records.json?") == (shop, "2")
    balance = (await world.get(f"/2010-04-01/Accounts/{ACCOUNT}/Balance.json")).json["balance"]
    assert balance == "-0.0237"
    assert (await world.get(f"{theirs}/Balance.json")).json["balance"] == "-0.0158"


async def test_another_account_s_usage_is_its_own(world: World) -> None:
    await send(world, 1)
    other = "AC" + "b" * 32

    answered = await world.get(f"/2010-04-01/Accounts/{other}/Usage/Records.json")

    assert answered.status == 401
