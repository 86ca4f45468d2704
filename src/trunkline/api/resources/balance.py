"""The Balance resource: what is left of the money that an account began with."""

from typing import Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.freshness import lag_header
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.price import CURRENCY, DAY_S, written


class BalanceJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    account_sid: str
    balance: str
    currency: str = CURRENCY


async def _fetch(request: Request, services: ApiServices) -> Answer:
    """Derived from the same sums as the usage records, so the two never disagree. Nothing is refused
    for want of money: the balance goes below zero."""
    today = int(services.clock.wall() // DAY_S)
    sums = services.replica.usage(request.account.sid, 0, today + 1, with_subaccounts=True)
    # What subaccounts spend is their parent's money: they began with none of their own.
    opening = 0 if request.account.is_subaccount else services.opening_balance
    left = opening - sum(each.micros for each in sums)
    balance = BalanceJson(request.account.sid, written(left, places=2))
    return json_answer(200, balance, lag_header(services.replica))


FETCH: Final = Handler(_fetch)
