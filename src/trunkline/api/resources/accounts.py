"""The Account resource: the one that the credentials belong to."""

from typing import Final

import msgspec

from trunkline.api.answer import Answer, json_answer
from trunkline.api.freshness import lag_header
from trunkline.api.moments import rfc_2822
from trunkline.api.request import Handler, Request
from trunkline.api.services import ApiServices
from trunkline.domain.account import Account

_SUBRESOURCES: Final = {
    "addresses": "Addresses",
    "applications": "Applications",
    "authorized_connect_apps": "AuthorizedConnectApps",
    "available_phone_numbers": "AvailablePhoneNumbers",
    "balance": "Balance",
    "calls": "Calls",
    "conferences": "Conferences",
    "connect_apps": "ConnectApps",
    "incoming_phone_numbers": "IncomingPhoneNumbers",
    "keys": "Keys",
    "messages": "Messages",
    "notifications": "Notifications",
    "outgoing_caller_ids": "OutgoingCallerIds",
    "queues": "Queues",
    "recordings": "Recordings",
    "short_codes": "SMS/ShortCodes",
    "signing_keys": "SigningKeys",
    "sip": "SIP",
    "transcriptions": "Transcriptions",
    "usage": "Usage",
}


class AccountJson(msgspec.Struct, frozen=True):
    """Every property of the published schema."""

    sid: str
    owner_account_sid: str
    friendly_name: str
    auth_token: str
    date_created: str
    date_updated: str
    uri: str
    subresource_uris: dict[str, str]
    status: str = "active"
    type: str = "Full"


async def _fetch(request: Request, services: ApiServices) -> Answer:
    return json_answer(200, account_json(request.account), lag_header(services.replica))


def account_json(account: Account) -> AccountJson:
    """The account as the API shows it. It owns itself: there are no subaccounts."""
    place = f"/2010-04-01/Accounts/{account.sid}"
    return AccountJson(
        sid=account.sid,
        owner_account_sid=account.sid,
        friendly_name=account.friendly_name,
        auth_token=account.auth_token,
        date_created=rfc_2822(account.created_at),
        date_updated=rfc_2822(account.updated_at),
        uri=f"{place}.json",
        subresource_uris={name: f"{place}/{word}.json" for name, word in _SUBRESOURCES.items()},
    )


FETCH: Final = Handler(_fetch)
