"""Media on simulated handsets: what a host brought is shown, and what a phone sends is given out."""

import hashlib
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system import running

from trunkline.domain.media import BYTES_MAX

pytestmark = pytest.mark.system

HANDSET = "+15550002222"
SENDER = "+15550001111"
PICTURE = b"\x89PNG\r\n\x1a\n and so on"
NAME = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[str]:
    with running.simulator(tmp_path / "simulator") as url:
        yield url


def post(url: str, body: bytes, kind: str = "") -> tuple[int, Any]:
    headers = {"Content-Type": kind} if kind else {"Content-Type": "application/octet-stream"}
    asked = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - our own server
            text = answer.read()
            return answer.status, json.loads(text.splitlines()[0])
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.loads(refused.read())


def get(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
        return answer.headers["Content-Type"], answer.read()


def phone(simulator: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "trunkline", "phone", HANDSET, *arguments]
    done = subprocess.run(
        [*command, "--simulator", simulator],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout


def test_a_handset_shows_the_media_that_a_host_brought(simulator: str) -> None:
    assert post(f"{simulator}/v1/media?sha256={NAME}", PICTURE) == (200, {"sha256": NAME})
    submission = {
        "reference": "MM1:1",
        "sender": SENDER,
        "recipient": HANDSET,
        "text": "look",
        "media": [{"sha256": NAME, "content_type": "image/png"}],
    }
    path = "/wire/v1/submissions?bind=a"
    status, answer = post(simulator + path, json.dumps([submission]).encode())
    assert (status, answer["result"]) == (200, "accepted")

    shown = phone(simulator)
    (message,) = running.get_json(f"{simulator}/v1/handsets/{HANDSET}/messages")

    (media,) = message["media"]
    assert (media["content_type"], media["sha256"]) == ("image/png", NAME)
    assert get(simulator + media["url"]) == ("image/png", PICTURE)
    assert f"image/png  {simulator}{media['url']}" in shown


def test_a_phone_sends_a_file(simulator: str, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(PICTURE)

    assert phone(simulator, "--to", SENDER, "--media", str(file)).startswith("sent as ")

    _, (item,) = post_all(f"{simulator}/wire/v1/deliveries?bind=a&max=10&wait_ms=0")
    assert get(item["media_urls"][0]) == ("image/png", PICTURE)


def post_all(url: str) -> tuple[int, list[Any]]:
    asked = urllib.request.Request(url, data=b"")  # noqa: S310 - our own server
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - our own server
        return answer.status, json.loads(answer.read())


def test_what_is_not_what_it_says_is_refused(simulator: str) -> None:
    assert post(f"{simulator}/v1/media?sha256={'0' * 64}", PICTURE)[0] == 400
    assert post(f"{simulator}/v1/media", b"<html>", "text/html")[0] == 415
    assert post(f"{simulator}/v1/media", b"x" * (BYTES_MAX + 1), "image/png")[0] == 413
    with pytest.raises(urllib.error.HTTPError) as refusal:
        get(f"{simulator}/v1/media/{'0' * 64}")
    with refusal.value as refused:
        assert refused.code == 404


def test_a_file_is_never_shown_as_a_page(simulator: str) -> None:
    post(f"{simulator}/v1/media?sha256={NAME}", PICTURE)

    kind, _ = get(f"{simulator}/v1/media/{NAME}?type=text/html")

    assert kind == "application/octet-stream"
