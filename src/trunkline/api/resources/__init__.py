"""Every operation that is implemented, in one table. All others of the catalogue answer 501.

A new resource is a file in this folder, its lines here, a test module and a section of
`docs/reference/api.md`. What all records of the directory answer alike is in `api/records`.
"""

from collections.abc import Mapping
from typing import Final

from trunkline.api.request import Handler
from trunkline.api.resources import (
    accounts,
    applications,
    available_phone_numbers,
    balance,
    incoming_phone_numbers,
    keys,
    media,
    messages,
    usage_records,
)

RESOURCES: Final[Mapping[str, Handler]] = {
    "CreateAccount": accounts.CREATE,
    "ListAccount": accounts.LIST,
    "FetchAccount": accounts.FETCH,
    "UpdateAccount": accounts.UPDATE,
    "CreateNewKey": keys.CREATE,
    "ListKey": keys.LIST,
    "FetchKey": keys.FETCH,
    "UpdateKey": keys.UPDATE,
    "DeleteKey": keys.DELETE,
    "CreateNewSigningKey": keys.CREATE,
    "ListSigningKey": keys.LIST,
    "FetchSigningKey": keys.FETCH,
    "UpdateSigningKey": keys.UPDATE,
    "DeleteSigningKey": keys.DELETE,
    "ListAvailablePhoneNumberCountry": available_phone_numbers.LIST_COUNTRIES,
    "FetchAvailablePhoneNumberCountry": available_phone_numbers.FETCH_COUNTRY,
    "ListAvailablePhoneNumberLocal": available_phone_numbers.LIST_LOCAL,
    "ListAvailablePhoneNumberMobile": available_phone_numbers.LIST_MOBILE,
    "ListAvailablePhoneNumberTollFree": available_phone_numbers.LIST_TOLL_FREE,
    "CreateIncomingPhoneNumber": incoming_phone_numbers.CREATE,
    "ListIncomingPhoneNumber": incoming_phone_numbers.LIST,
    "FetchIncomingPhoneNumber": incoming_phone_numbers.FETCH,
    "UpdateIncomingPhoneNumber": incoming_phone_numbers.UPDATE,
    "DeleteIncomingPhoneNumber": incoming_phone_numbers.DELETE,
    "CreateIncomingPhoneNumberLocal": incoming_phone_numbers.CREATE_LOCAL,
    "CreateIncomingPhoneNumberMobile": incoming_phone_numbers.CREATE_MOBILE,
    "CreateIncomingPhoneNumberTollFree": incoming_phone_numbers.CREATE_TOLL_FREE,
    "ListIncomingPhoneNumberLocal": incoming_phone_numbers.LIST_LOCAL,
    "ListIncomingPhoneNumberMobile": incoming_phone_numbers.LIST_MOBILE,
    "ListIncomingPhoneNumberTollFree": incoming_phone_numbers.LIST_TOLL_FREE,
    "CreateApplication": applications.CREATE,
    "ListApplication": applications.LIST,
    "FetchApplication": applications.FETCH,
    "UpdateApplication": applications.UPDATE,
    "DeleteApplication": applications.DELETE,
    "CreateMessage": messages.CREATE,
    "ListMessage": messages.LIST,
    "FetchMessage": messages.FETCH,
    "UpdateMessage": messages.UPDATE,
    "DeleteMessage": messages.DELETE,
    "ListMedia": media.LIST,
    "FetchMedia": media.FETCH,
    "DeleteMedia": media.DELETE,
    "FetchBalance": balance.FETCH,
    "ListUsageRecord": usage_records.LIST,
    "ListUsageRecordAllTime": usage_records.ALL_TIME,
    "ListUsageRecordDaily": usage_records.DAILY,
    "ListUsageRecordLastMonth": usage_records.LAST_MONTH,
    "ListUsageRecordMonthly": usage_records.MONTHLY,
    "ListUsageRecordThisMonth": usage_records.THIS_MONTH,
    "ListUsageRecordToday": usage_records.TODAY,
    "ListUsageRecordYearly": usage_records.YEARLY,
    "ListUsageRecordYesterday": usage_records.YESTERDAY,
}
