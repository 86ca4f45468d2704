"""`trunkline phone`: be one of the simulator's handsets, from the command line."""

import http.client
import json
import mimetypes
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

import typer

DEFAULT_DATA: Final = Path("trunkline-data")
DEFAULT_URL: Final = "http://127.0.0.1:8010"
REQUEST_DEADLINE_S: Final = 5.0
FOLLOW_WAIT_MS: Final = 20_000
PAGE_MAX: Final = 1_000

_Message = dict[str, Any]


def command(
    number: Annotated[str, typer.Argument(help="The handset, such as +15551234567.")],
    to: Annotated[str | None, typer.Option("--to", help="Whom to send to.")] = None,
    send: Annotated[str | None, typer.Option("--send", help="The text to send.")] = None,
    media: Annotated[
        list[str] | None,
        typer.Option("--media", metavar="URL|FILE", help="A picture or the like; may be repeated."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and print what arrives.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    simulator: Annotated[
        str | None,
        typer.Option("--simulator", metavar="URL", help="The simulator; default: that of --data."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The data folder of the host whose simulator is meant."),
    ] = None,
) -> None:
    """Read what a simulated handset received, or send from it.

    `trunkline phone +15551234567` prints its messages; with `--to NUMBER --send TEXT` it sends one.
    """
    _require_sendable(to, send, media or [])
    try:
        handset = _Handset(simulator or _url_of(data), number)
        if to is not None:
            _send(handset, to, send or "", media or [], as_json=as_json)
        if to is None or follow:
            _read(handset, is_following=follow, as_json=as_json)
    except _PhoneError as error:
        typer.echo(f"trunkline phone: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class _PhoneError(Exception):
    """What to tell the person at the terminal."""


class _Handset:
    """The inspection API's view of one handset."""

    def __init__(self, url: str, number: str) -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{url!r} is no http:// address: check --simulator")
        self.simulator: Final = self._url
        self._messages = f"{self._url}/v1/handsets/{quote(number, safe='')}/messages"

    def messages(self, *, after: int, wait_ms: int) -> list[_Message]:
        query = urlencode({"after": after, "limit": PAGE_MAX, "wait_ms": wait_ms})
        bound_s = REQUEST_DEADLINE_S + wait_ms / 1000.0
        found = self._answer(Request(f"{self._messages}?{query}"), bound_s)  # noqa: S310 - http only
        if not isinstance(found, list):
            raise _PhoneError(f"{self._url} did not answer like a simulator: check --simulator")
        return found

    def send(self, to: str, text: str, media: list[str]) -> str:
        urls = [each if _is_web_address(each) else self._upload(Path(each)) for each in media]
        body = json.dumps({"to": to, "body": text, "media_urls": urls}).encode()
        request = Request(self._messages, data=body, method="POST")  # noqa: S310 - http only
        request.add_header("Content-Type", "application/json")
        answer = self._answer(request, REQUEST_DEADLINE_S)
        if not isinstance(answer, dict):
            raise _PhoneError(f"{self._url} did not answer like a simulator: check --simulator")
        return str(answer.get("message_id", ""))

    def _upload(self, file: Path) -> str:
        """The URL at which the simulator gives the file to whoever it is sent to."""
        content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise _PhoneError(f"cannot read {file} ({error.strerror}): check --media") from error
        request = Request(f"{self._url}/v1/media", data=content, method="POST")  # noqa: S310 - http only
        request.add_header("Content-Type", content_type)
        answer = self._answer(request, REQUEST_DEADLINE_S)
        if not isinstance(answer, dict) or "url" not in answer:
            raise _PhoneError(f"{self._url} did not answer like a simulator: check --simulator")
        return str(answer["url"])

    def _answer(self, request: Request, bound_s: float) -> object:
        try:
            with urlopen(request, timeout=bound_s) as response:  # noqa: S310 - http only, see above
                answer: object = json.loads(response.read())
                return answer
        except HTTPError as error:
            raise _PhoneError(_refusal(error, self._url)) from error
        except (URLError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _PhoneError(
                f"no simulator answers at {self._url} ({reason}): start one with "
                "`trunkline up` or `trunkline simulator`, or name it with --simulator URL"
            ) from error
        except ValueError as error:
            raise _PhoneError(
                f"{self._url} did not answer like a simulator: check --simulator"
            ) from error


def _require_sendable(to: str | None, send: str | None, media: list[str]) -> None:
    from trunkline.domain.number import is_e164

    if (send is None and not media) != (to is None):
        raise typer.BadParameter("to send, give --to and --send together")
    if to is not None and not is_e164(to):
        raise typer.BadParameter(f"{to!r} is not a number like +15551234567", param_hint="--to")
    if send == "" and not media:
        raise typer.BadParameter("there is nothing to send: give a text", param_hint="--send")
    for each in media:
        if not _is_web_address(each) and not Path(each).is_file():
            raise typer.BadParameter(
                f"{each!r} is neither an http or https URL nor a file", param_hint="--media"
            )


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _url_of(data: Path | None) -> str:
    """Where the simulator is. A folder that was named must be that of a running host: what another
    one's phones received would be taken for its own."""
    from trunkline.host.layout import holder_of, simulator_url_of

    if data is None:
        return simulator_url_of(DEFAULT_DATA) or DEFAULT_URL
    if holder_of(data) is None:
        raise _PhoneError(
            f"no host runs on {data}: start one with `trunkline up --data {shlex.quote(str(data))}`, "
            "or name a simulator with --simulator URL"
        )
    url = simulator_url_of(data)
    if url is None:
        raise _PhoneError(
            f"the host on {data} does not say where its simulator is: wait until it is ready, "
            "or name the simulator with --simulator URL"
        )
    return url


def _refusal(error: HTTPError, url: str) -> str:
    try:
        told = json.loads(error.read())
    except ValueError:
        told = None
    if isinstance(told, dict) and "error" in told:
        return f"the simulator refused: {told['error']}"
    return f"{url} answered {error.code}: check that --simulator names a simulator"


def _send(handset: _Handset, to: str, text: str, media: list[str], *, as_json: bool) -> None:
    message_id = handset.send(to, text, media)
    typer.echo(json.dumps({"message_id": message_id}) if as_json else f"sent as {message_id}")


def _read(handset: _Handset, *, is_following: bool, as_json: bool) -> None:
    is_empty = True
    for message in _arriving(handset, is_following=is_following):
        is_empty = False
        if as_json:
            typer.echo(json.dumps(message, ensure_ascii=False))
        else:
            _print(message, handset.simulator)
    if is_empty and not as_json:
        typer.echo("nothing received yet")


def _arriving(handset: _Handset, *, is_following: bool) -> Iterator[_Message]:
    """All messages, oldest first, and with `is_following` those to come, until interrupted."""
    last = 0
    page = handset.messages(after=last, wait_ms=0)
    while page or is_following:
        yield from page
        last = page[-1]["n"] if page else last
        page = handset.messages(after=last, wait_ms=FOLLOW_WAIT_MS if is_following else 0)


def _print(message: _Message, simulator: str) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.text import Text

    when = datetime.fromtimestamp(message["at"], UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    line = Text(f"{when}  ", style="dim")
    line.append(str(message["from"]), style="bold")
    if message["possible_duplicate"]:
        line.append("  (may be a repeat)", style="yellow")
    console = Console(highlight=False, soft_wrap=True)
    console.print(line)
    console.print(Text(f"  {message['body']}"))
    # A host that brings the bytes of its media says where they are; what has none of them, its URLs.
    for each in message.get("media", []):
        console.print(Text(f"  {each['content_type']}  {simulator}{each['url']}", style="dim"))
    for url in () if message.get("media") else message["media_urls"]:
        console.print(Text(f"  {url}", style="dim"))
