"""MMS both ways, with the official SDK and the application's own web server."""

import json
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from tests.sdk.customer import WebServer, on_handset
from tests.system.running import Running, post_json, wait_until
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

HANDSET = "+12025550133"
PICTURE = b"\x89PNG\r\n\x1a\n" + b"a picture of a cat" * 100
FILES = {
    "/cat.png": ("image/png", PICTURE),
    "/card.vcf": ("text/vcard", b"BEGIN:VCARD\nEND:VCARD\n"),
    "/page": ("text/html", b"<html>"),
    "/huge.gif": ("image/gif", b"x" * (5 * 1024 * 1024 + 1)),
}


class Shelf(WebServer):
    """Gives the customer's media to whoever asks."""

    def give(self, request: BaseHTTPRequestHandler) -> None:
        if request.path == "/moved":
            request.send_response(302)
            request.send_header("Location", "/cat.png")
            request.end_headers()
            return
        kind, content = FILES.get(request.path, ("text/plain", b""))
        request.send_response(200 if request.path in FILES else 404)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.close()


def test_a_handset_receives_the_media_and_the_application_lists_and_deletes_them(
    host: Running, client: Client, shelf: Shelf
) -> None:
    message = client.messages.create(
        to=HANDSET,
        from_=host.facts["phone_number"],
        body="look",
        media_url=[f"{shelf.url}/moved", f"{shelf.url}/card.vcf"],
    )
    assert (message.sid[:2], message.num_media) == ("MM", "2")

    wait_until(lambda: on_handset(host, HANDSET, "look"), "the picture on the handset")
    (arrived,) = on_handset(host, HANDSET, "look")
    shown = [fetched(f"{host.facts['simulator_url']}{each['url']}") for each in arrived["media"]]
    assert shown == [("image/png", PICTURE), FILES["/card.vcf"]]

    wait_until(client.messages(message.sid).media.list, "the media in the list")
    first, second = client.messages(message.sid).media.list()
    assert [first.content_type, second.content_type] == ["image/png", "text/vcard"]
    assert (first.parent_sid, first.account_sid) == (message.sid, message.account_sid)
    again = client.messages(message.sid).media(first.sid).fetch()
    assert again.date_created == first.date_created
    place = f"{host.facts['base_url']}{first.uri.removesuffix('.json')}"
    assert fetched(place) == ("image/png", PICTURE)

    assert client.messages(message.sid).media(first.sid).delete()
    with pytest.raises(TwilioRestException) as refusal:
        client.messages(message.sid).media(first.sid).fetch()
    assert refusal.value.status == 404
    assert [each.sid for each in client.messages(message.sid).media.list()] == [second.sid]
    assert client.messages(message.sid).fetch().num_media == "1"


@pytest.mark.parametrize(
    ("path", "error_code"), [("/page", 12300), ("/huge.gif", 11751), ("/nothing", 11200)]
)
def test_a_message_whose_media_cannot_be_sent_fails_with_the_code_for_it(
    host: Running, client: Client, shelf: Shelf, path: str, error_code: int
) -> None:
    message = client.messages.create(
        to=HANDSET,
        from_=host.facts["phone_number"],
        body=f"never {path}",
        media_url=[f"{shelf.url}/cat.png", f"{shelf.url}{path}"],
        status_callback=f"{shelf.url}/status",
    )

    told = shelf.next()

    assert (told["MessageStatus"], told["ErrorCode"]) == ("failed", str(error_code))
    failed = client.messages(message.sid).fetch()
    assert (failed.status, failed.error_code) == ("failed", error_code)
    assert failed.error_message
    assert on_handset(host, HANDSET, f"never {path}") == []


def test_an_application_is_told_where_the_media_of_an_inbound_message_are(
    host: Running, client: Client, shelf: Shelf
) -> None:
    number = client.incoming_phone_numbers.create(
        phone_number="+12025550134", sms_url=f"{shelf.url}/sms"
    )
    wait_until(
        lambda: number.sid in [each.sid for each in client.incoming_phone_numbers.list()],
        "the number in the list",
    )
    simulator = host.facts["simulator_url"]
    uploaded = upload(f"{simulator}/v1/media", "image/png", PICTURE)
    post_json(
        f"{simulator}/v1/handsets/{HANDSET}/messages",
        {
            "to": number.phone_number,
            "body": "see",
            "media_urls": [uploaded, f"{shelf.url}/gone"],
        },
    )

    told = shelf.next()

    assert (told["Body"], told["NumMedia"]) == ("see", "1")
    assert told["MediaContentType0"] == "image/png"
    assert "MediaUrl1" not in told
    # Any host of a cluster may have asked the application, and names its own address.
    hosts = host.facts.get("hosts", [host.facts])
    assert told["MediaUrl0"].startswith(tuple(each["base_url"] for each in hosts))
    assert fetched(told["MediaUrl0"]) == ("image/png", PICTURE)
    message = client.messages(told["MessageSid"]).fetch()
    assert (message.sid[:2], message.num_media, message.direction) == ("MM", "1", "inbound")
    (media,) = client.messages(message.sid).media.list()
    assert told["MediaUrl0"].endswith(f"/Media/{media.sid}")


def fetched(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return answer.headers["Content-Type"], answer.read()


def upload(url: str, kind: str, content: bytes) -> str:
    request = urllib.request.Request(url, data=content, headers={"Content-Type": kind})  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
        return str(json.load(answer)["url"])
