"""The UsageRecord resource: what an account's messages came to, by category and by time.

Each of the nine lists is the same sums, cut into other periods. A message counts in the period in
which it left or came, in UTC; what has not left, or has failed, counts nowhere.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import dropwhile, islice
from typing import Final
from urllib.parse import urlencode

import msgspec

from trunkline.api.answer import Answer
from trunkline.api.arguments import Arguments
from trunkline.api.errors import invalid
from trunkline.api.freshness import lag_header
from trunkline.api.paging import page_answer, requested_page
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.price import CURRENCY, MICROS, Category, written
from trunkline.replica.queries import Place, Usage

MESSAGES: Final = "messages"
SEGMENTS: Final = "segments"
TOTAL: Final = "totalprice"

_SMS: Final = (Category.SMS_OUTBOUND, Category.SMS_INBOUND)
_MMS: Final = (Category.MMS_OUTBOUND, Category.MMS_INBOUND)
# Every number here is a long code, so each category has a child that is all of it.
CATEGORIES: Final[Mapping[str, tuple[tuple[Category, ...], str]]] = {
    "mms": (_MMS, "Messages with media"),
    "mms-inbound": ((Category.MMS_INBOUND,), "Messages with media received"),
    "mms-inbound-longcode": ((Category.MMS_INBOUND,), "Messages with media received, long codes"),
    "mms-outbound": ((Category.MMS_OUTBOUND,), "Messages with media sent"),
    "mms-outbound-longcode": ((Category.MMS_OUTBOUND,), "Messages with media sent, long codes"),
    "sms": (_SMS, "Texts"),
    "sms-inbound": ((Category.SMS_INBOUND,), "Texts received"),
    "sms-inbound-longcode": ((Category.SMS_INBOUND,), "Texts received, long codes"),
    "sms-outbound": ((Category.SMS_OUTBOUND,), "Texts sent"),
    "sms-outbound-longcode": ((Category.SMS_OUTBOUND,), "Texts sent, long codes"),
    TOTAL: (_SMS + _MMS, "Total price"),
}
"""By their published names: what is summed, and a description. Without a `Category`, all are listed."""

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_EPOCH: Final = date(1970, 1, 1)
_VARIANTS: Final = (
    *("all_time", "daily", "last_month", "monthly", "this_month", "today", "yearly", "yesterday"),
)


class UsageJson(msgspec.Struct, frozen=True):
    """Every property of the published schema; counts are strings and the price is a number, as
    published."""

    account_sid: str
    category: str
    description: str
    start_date: str
    end_date: str
    as_of: str
    count: str
    count_unit: str | None
    usage: str
    usage_unit: str | None
    price: float
    uri: str
    subresource_uris: dict[str, str]
    price_unit: str = CURRENCY.lower()
    api_version: str = "2010-04-01"


@dataclass(frozen=True, slots=True)
class Period:
    """From one day to another, both included."""

    first: date
    last: date


Periods = Callable[[Period], Iterator[Period]]
"""Cuts a span of days into the periods of a list, newest first."""


def _whole(span: Period) -> Iterator[Period]:
    yield span


def _days(span: Period) -> Iterator[Period]:
    day = span.last
    while day >= span.first:
        yield Period(day, day)
        day -= timedelta(days=1)


def _months(span: Period) -> Iterator[Period]:
    last = span.last
    while last >= span.first:
        first = last.replace(day=1)
        yield Period(max(first, span.first), last)
        last = first - timedelta(days=1)


def _years(span: Period) -> Iterator[Period]:
    last = span.last
    while last >= span.first:
        first = last.replace(month=1, day=1)
        yield Period(max(first, span.first), last)
        last = first - timedelta(days=1)


def _today(today: date) -> Period:
    return Period(today, today)


def _yesterday(today: date) -> Period:
    return _today(today - timedelta(days=1))


def _this_month(today: date) -> Period:
    return Period(today.replace(day=1), today)


def _last_month(today: date) -> Period:
    last = today.replace(day=1) - timedelta(days=1)
    return Period(last.replace(day=1), last)


def _ever(today: date) -> Period:
    return Period(_EPOCH, today)


def _handler(periods: Periods, span_of: Callable[[date], Period] = _ever) -> Handler:
    async def run(request: Request, services: ApiServices) -> Answer:
        return _list(request, services, periods, span_of)

    return Handler(run)


def _list(
    request: Request, services: ApiServices, periods: Periods, span_of: Callable[[date], Period]
) -> Answer:
    page, now = requested_page(request.arguments), services.clock.wall()
    today = datetime.fromtimestamp(now, UTC).date()
    asked = _asked(request.arguments, span_of(today), today)
    names = _names(request.arguments)
    if asked is None:
        return page_answer(request, page, [], last=None, headers=lag_header(services.replica))
    sums = services.replica.usage(
        request.account.sid,
        _day(asked.first),
        _day(asked.last),
        with_subaccounts=request.arguments.flag("IncludeSubaccounts") is not False,
    )
    # No days are listed from before there was anything to count.
    began = _EPOCH + timedelta(days=sums[0].day) if sums else asked.last
    span = Period(max(asked.first, min(began, asked.last)), asked.last)
    records = ((period, name) for period in periods(span) for name in names)
    behind = page.behind
    rest = dropwhile(
        lambda each: behind is not None and not _is_behind(each, behind, names), records
    )
    rows = list(islice(rest, page.rows_max))
    shown = rows[: page.size]
    last = None
    if len(rows) > page.size:
        last = Place(float(_day(shown[-1][0].first)), shown[-1][1])
    items: list[object] = [_record(request, sums, each, now) for each in shown]
    return page_answer(request, page, items, last=last, headers=lag_header(services.replica))


def _asked(arguments: Arguments, span: Period, today: date) -> Period | None:
    """What the list is of, narrowed by the dates that were given; None where no day is left."""
    start = _date_in(arguments, "StartDate", today)
    end = _date_in(arguments, "EndDate", today)
    if start is not None and end is not None and start > end:
        raise invalid("EndDate", "it is before the StartDate")
    first = span.first if start is None else max(span.first, start)
    last = span.last if end is None else min(span.last, end)
    return Period(first, last) if first <= last else None


def _date_in(arguments: Arguments, name: str, today: date) -> date | None:
    from_today = arguments.days(name)
    if from_today is not None:
        return today + timedelta(days=from_today.days)
    given = arguments.span(name)
    return None if given is None else datetime.fromtimestamp(given.start, UTC).date()


def _names(arguments: Arguments) -> Sequence[str]:
    name = arguments.text("Category")
    if name is None:
        return tuple(CATEGORIES)
    if _NAME.match(name) is None:
        raise invalid("Category", "it must be the name of a usage category, like sms-outbound")
    return (name,)


def _is_behind(record: tuple[Period, str], place: Place, names: Sequence[str]) -> bool:
    """Whether a record comes behind the last one shown, newest period first. Periods are told by
    their beginning: the end of the newest one moves with the days."""
    day = _day(record[0].first)
    if day != int(place.created_at):
        return day < place.created_at
    return place.sid in names and names.index(record[1]) > names.index(place.sid)


def _record(
    request: Request, sums: Sequence[Usage], record: tuple[Period, str], now: float
) -> UsageJson:
    period, name = record
    counted, description = CATEGORIES.get(name, ((), "Not counted here"))
    first, last = _day(period.first), _day(period.last)
    found = [each for each in within(sums, first, last) if each.category in counted]
    micros = sum(each.micros for each in found)
    is_count = bool(counted) and name != TOTAL
    # Unlike Twilio: the segments have a unit of their own, where it says messages for both.
    count = sum(each.messages for each in found) if is_count else 0
    usage = str(sum(each.segments for each in found)) if is_count else "0"
    root = f"/2010-04-01/Accounts/{request.account.sid}/Usage/Records"
    start, end = period.first.isoformat(), period.last.isoformat()
    query = urlencode({"Category": name, "StartDate": start, "EndDate": end})
    return UsageJson(
        account_sid=request.account.sid,
        category=name,
        description=description,
        start_date=start,
        end_date=end,
        as_of=datetime.fromtimestamp(int(now), UTC).isoformat(),
        count=str(count),
        count_unit=MESSAGES if is_count else None,
        usage=written(micros, places=6) if name == TOTAL else usage,
        usage_unit=CURRENCY.lower() if name == TOTAL else SEGMENTS if is_count else None,
        price=micros / MICROS,
        uri=f"{request.path.removesuffix('.json')}.json?{query}",
        subresource_uris={
            each: f"{root}/{each.title().replace('_', '')}.json?Category={name}"
            for each in _VARIANTS
        },
    )


def within(sums: Sequence[Usage], first: int, last: int) -> Sequence[Usage]:
    """Those of the days from `first` to `last`; `sums` are in order of days. A page asks this for
    each of a thousand records, and an account may have years of days."""
    start = bisect_left(sums, first, key=_day_of)
    return sums[start : bisect_left(sums, last + 1, lo=start, key=_day_of)]


def _day_of(usage: Usage) -> int:
    return usage.day


def _day(day: date) -> int:
    return (day - _EPOCH).days


LIST: Final = _handler(_whole)
ALL_TIME: Final = _handler(_whole)
DAILY: Final = _handler(_days)
MONTHLY: Final = _handler(_months)
YEARLY: Final = _handler(_years)
TODAY: Final = _handler(_whole, _today)
YESTERDAY: Final = _handler(_whole, _yesterday)
THIS_MONTH: Final = _handler(_whole, _this_month)
LAST_MONTH: Final = _handler(_whole, _last_month)
