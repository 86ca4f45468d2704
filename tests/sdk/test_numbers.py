"""Numbers and applications, as a program with the official SDK finds, owns, changes and releases them."""

import pytest
from tests.sdk.customer import HANDSET, Application, text_from
from tests.system.running import Running
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def test_a_number_is_found_owned_changed_released_and_owned_again(client: Client) -> None:
    offered = client.available_phone_numbers("US").local.list(area_code=415, limit=2)
    number = client.incoming_phone_numbers.create(phone_number=offered[0].phone_number)
    left = client.available_phone_numbers("US").local.list(area_code=415, limit=1)

    changed = client.incoming_phone_numbers(number.sid).update(
        friendly_name="Shop", sms_url="http://127.0.0.1:9/unused", sms_method="GET"
    )
    cleared = client.incoming_phone_numbers(number.sid).update(sms_url="")

    assert left[0].phone_number == offered[1].phone_number
    assert (changed.friendly_name, changed.sms_method) == ("Shop", "GET")
    assert (cleared.friendly_name, cleared.sms_url) == ("Shop", "")
    assert client.incoming_phone_numbers(number.sid).fetch().friendly_name == "Shop"

    assert client.incoming_phone_numbers(number.sid).delete() is True
    with pytest.raises(TwilioRestException) as gone:
        client.incoming_phone_numbers(number.sid).fetch()
    with pytest.raises(TwilioRestException):
        client.messages.create(to=HANDSET, from_=offered[0].phone_number, body="from a ghost")
    again = client.incoming_phone_numbers.create(phone_number=offered[0].phone_number)
    assert (gone.value.status, gone.value.code) == (404, 20404)
    assert again.sid != number.sid


def test_numbers_are_owned_and_listed_by_type(client: Client) -> None:
    mobile = client.available_phone_numbers("GB").mobile.list(limit=1)[0].phone_number
    free = client.available_phone_numbers("US").toll_free.list(contains="888*******", limit=1)
    local = client.available_phone_numbers("CA").local.list(in_region="QC", limit=1)

    client.incoming_phone_numbers.mobile.create(phone_number=mobile)
    client.incoming_phone_numbers.toll_free.create(phone_number=free[0].phone_number)
    client.incoming_phone_numbers.local.create(phone_number=local[0].phone_number)

    assert [each.phone_number for each in client.incoming_phone_numbers.mobile.list()] == [mobile]
    assert [each.phone_number for each in client.incoming_phone_numbers.toll_free.list()] == [
        free[0].phone_number
    ]
    listed = client.incoming_phone_numbers.local.list()
    assert local[0].phone_number in [each.phone_number for each in listed]
    assert mobile not in [each.phone_number for each in listed]
    countries = client.available_phone_numbers.list()
    assert [each.country_code for each in countries] == ["US", "CA", "FR", "GB"]
    assert client.available_phone_numbers("GB").fetch().country == "United Kingdom"


def test_an_application_is_made_found_changed_and_deleted(client: Client) -> None:
    made = client.applications.create(
        friendly_name="desk", sms_url="http://127.0.0.1:9/unused", voice_caller_id_lookup=True
    )

    changed = client.applications(made.sid).update(friendly_name="shop")

    assert (made.friendly_name, made.voice_caller_id_lookup) == ("desk", True)
    assert (changed.friendly_name, changed.sms_url) == ("shop", "http://127.0.0.1:9/unused")
    assert [each.sid for each in client.applications.list(friendly_name="shop")] == [made.sid]
    assert client.applications(made.sid).fetch().friendly_name == "shop"
    assert client.applications(made.sid).delete() is True
    assert client.applications.list(friendly_name="shop") == []
    with pytest.raises(TwilioRestException) as gone:
        client.applications(made.sid).fetch()
    assert gone.value.code == 20404


def test_a_message_to_a_number_goes_to_the_urls_of_its_application(
    host: Running, client: Client, application: Application
) -> None:
    made = client.applications.create(sms_url=f"{application.url}/sms")
    number = client.incoming_phone_numbers.create(
        phone_number="+12025550151",
        sms_url=f"{application.url}/own",
        sms_application_sid=made.sid,
    )
    assert number.sms_application_sid == made.sid

    text_from(host, HANDSET, to=number.phone_number, body="by the application")
    first = application.next()
    client.applications(made.sid).delete()
    text_from(host, HANDSET, to=number.phone_number, body="by the number")
    second = application.next()

    assert [(each["path"], each["Body"], each["signed"]) for each in (first, second)] == [
        ("/sms", "by the application", "True"),
        ("/own", "by the number", "True"),
    ]


def test_an_application_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(TwilioRestException) as refusal:
        client.incoming_phone_numbers.create(
            phone_number="+12025550152", sms_application_sid="AP" + "0" * 32
        )

    assert (refusal.value.status, refusal.value.code) == (400, 21218)
    assert client.incoming_phone_numbers.list(phone_number="+12025550152") == []
