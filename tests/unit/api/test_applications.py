"""Making applications, finding them again, changing and deleting them."""

import pytest
from tests.unit.api.api_world import (
    ACCOUNT,
    APPLICATIONS,
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    World,
)

from trunkline.directory.records import Undecidable
from trunkline.domain.events import ApplicationMade

pytestmark = pytest.mark.anyio

NOBODY = f"/2010-04-01/Accounts/{ACCOUNT}/Applications/AP{'9' * 32}.json"


async def test_an_application_is_made_with_all_its_settings(world: World) -> None:
    form = {
        "FriendlyName": "desk",
        "SmsUrl": "http://localhost:5000/sms",
        "SmsMethod": "GET",
        "MessageStatusCallback": "https://app.example/status",
        "VoiceCallerIdLookup": "true",
        "PublicApplicationConnectEnabled": "true",
    }

    made = await world.post(APPLICATIONS, form)

    assert made.status == 201
    application = made.json
    assert application["sid"].startswith("AP")
    assert (application["friendly_name"], application["sms_method"]) == ("desk", "GET")
    assert application["sms_url"] == form["SmsUrl"]
    assert application["message_status_callback"] == form["MessageStatusCallback"]
    assert (application["voice_url"], application["voice_method"]) == (None, "POST")
    assert application["voice_caller_id_lookup"] is True
    assert application["public_application_connect_enabled"] is True
    assert (await world.get(application["uri"])).json == application


async def test_the_version_that_is_spoken_may_be_named_and_no_other(world: World) -> None:
    made = await world.post(APPLICATIONS, {"FriendlyName": "desk", "ApiVersion": "2010-04-01"})
    other = {"FriendlyName": "renamed", "ApiVersion": "2008-08-01"}

    refused = await world.post(made.json["uri"], other)

    assert made.status == 201
    assert (refused.status, refused.code) == (400, 20001)
    assert (await world.get(made.json["uri"])).json["friendly_name"] == "desk"


async def test_nothing_is_required_of_an_application(world: World) -> None:
    assert (await world.post(APPLICATIONS, {})).status == 201


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"SmsUrl": "app.example"}, 21402),
        ({"MessageStatusCallback": "ftp://app.example"}, 21402),
        ({"VoiceMethod": "PUT"}, 20001),
        ({"VoiceCallerIdLookup": "perhaps"}, 20001),
        ({"FriendlyName": "x" * 65}, 20001),
        ({"ApiVersion": "2008-08-01"}, 20001),
    ],
)
async def test_what_is_malformed_is_refused(world: World, form: dict[str, str], code: int) -> None:
    made = await world.post(APPLICATIONS, form)

    assert (made.status, made.code) == (400, code)
    assert world.applications.made == {}


async def test_an_update_changes_what_it_names_and_an_empty_value_takes_it_back(
    world: World,
) -> None:
    form = {
        "FriendlyName": "desk",
        "SmsUrl": "https://app.example/sms",
        "SmsMethod": "GET",
        "VoiceCallerIdLookup": "true",
    }
    uri = (await world.post(APPLICATIONS, form)).json["uri"]

    changed = await world.post(
        uri,
        {"VoiceUrl": "https://app.example/voice", "SmsUrl": "", "VoiceCallerIdLookup": "false"},
    )
    again = await world.post(uri, {"SmsMethod": "", "FriendlyName": ""})

    assert changed.status == 200
    assert changed.json["voice_url"] == "https://app.example/voice"
    assert (changed.json["sms_url"], changed.json["sms_method"]) == (None, "GET")
    assert changed.json["voice_caller_id_lookup"] is False
    assert (again.json["sms_method"], again.json["friendly_name"]) == ("POST", "desk")


async def test_a_deleted_application_is_gone(world: World) -> None:
    uri = (await world.post(APPLICATIONS, {"FriendlyName": "desk"})).json["uri"]

    deleted = await world.call("DELETE", uri)

    assert (deleted.status, deleted.body) == (204, b"")
    assert (await world.get(uri)).status == 404
    assert (await world.post(uri, {"FriendlyName": "shop"})).status == 404
    assert (await world.call("DELETE", uri)).status == 404
    assert (await world.get(APPLICATIONS)).json["applications"] == []


async def test_applications_are_listed_by_name(world: World) -> None:
    for name in ("desk", "shop", "desk"):
        await world.post(APPLICATIONS, {"FriendlyName": name})

    page = (await world.get(f"{APPLICATIONS}?FriendlyName=desk&PageSize=1")).json
    rest = (await world.get(page["next_page_uri"])).json

    assert [each["friendly_name"] for each in page["applications"]] == ["desk"]
    assert [each["friendly_name"] for each in rest["applications"]] == ["desk"]
    assert rest["next_page_uri"] is None
    assert page["applications"] != rest["applications"]


async def test_another_accounts_application_is_not_there(world: World) -> None:
    made = await world.call(
        "POST", APPLICATIONS.replace(ACCOUNT, OTHER_ACCOUNT), user=OTHER_ACCOUNT, token=OTHER_TOKEN
    )
    ours = made.json["uri"].replace(OTHER_ACCOUNT, ACCOUNT)

    assert (await world.get(ours)).status == 404
    assert (await world.post(ours, {"FriendlyName": "mine"})).status == 404
    assert (await world.call("DELETE", ours)).status == 404
    assert len(world.applications.made) == 1


async def test_the_same_key_makes_the_same_application(world: World) -> None:
    headers = {"idempotency-key": "desk"}
    made = (await world.post(APPLICATIONS, {"FriendlyName": "desk"}, headers)).json
    await world.post(made["uri"], {"FriendlyName": "shop"})

    again = await world.post(APPLICATIONS, {"FriendlyName": "desk"}, headers)
    other = await world.post(APPLICATIONS, {"FriendlyName": "other"}, headers)
    await world.call("DELETE", made["uri"])
    spent = await world.post(APPLICATIONS, {"FriendlyName": "desk"}, headers)

    assert (again.status, again.json["sid"]) == (201, made["sid"])
    assert again.json["friendly_name"] == "shop"
    assert (other.status, other.code) == (422, 20422)
    assert (spent.status, spent.code) == (409, 20409)


async def test_one_that_the_copy_does_not_show_yet_is_found_in_the_log(world: World) -> None:
    name = "AP" + "7" * 32
    made = ApplicationMade(sid=name, friendly_name="desk")
    path = APPLICATIONS.replace(".json", f"/{name}.json")
    world.applications.keep(ACCOUNT, made)

    assert (await world.get(path)).status == 200
    world.applications.is_electing = True
    unknown = await world.get(path)
    assert (unknown.status, unknown.code) == (503, 20503)


async def test_a_path_that_is_no_sid_is_404_and_names_no_register(world: World) -> None:
    world.applications.is_electing = True

    for word in ("AP9", "ev.%3E", "PN" + "9" * 32):
        assert (await world.get(APPLICATIONS.replace(".json", f"/{word}.json"))).status == 404


async def test_what_cannot_be_decided_is_503(world: World) -> None:
    world.applications.says = Undecidable("no quorum")

    answers = [
        await world.post(APPLICATIONS, {}),
        await world.post(NOBODY, {"FriendlyName": "x"}),
        await world.call("DELETE", NOBODY),
    ]

    assert [(each.status, each.code) for each in answers] == [(503, 20503)] * 3
