"""Every operation that is implemented, in one table. All others of the catalogue answer 501.

A new resource is a file in this folder, its lines here, a test module and a section of
`docs/reference/api.md`.
"""

from collections.abc import Mapping
from typing import Final

from trunkline.api.request import Handler
from trunkline.api.resources import accounts, incoming_phone_numbers, messages

RESOURCES: Final[Mapping[str, Handler]] = {
    "FetchAccount": accounts.FETCH,
    "CreateIncomingPhoneNumber": incoming_phone_numbers.CREATE,
    "ListIncomingPhoneNumber": incoming_phone_numbers.LIST,
    "FetchIncomingPhoneNumber": incoming_phone_numbers.FETCH,
    "CreateMessage": messages.CREATE,
    "ListMessage": messages.LIST,
    "FetchMessage": messages.FETCH,
    "UpdateMessage": messages.UPDATE,
    "DeleteMessage": messages.DELETE,
}
