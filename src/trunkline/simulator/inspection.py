"""The inspection API: what handsets received, what hosts handed over, and how the carrier behaves."""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from trunkline.blobs.store import BlobStore
from trunkline.domain.number import is_e164
from trunkline.simulator.behaviour import PERFECT, BadBehaviour, Behaviour, parse_behaviour
from trunkline.simulator.bodies import BadRequest, json_response, read_body, wait_s, whole_number
from trunkline.simulator.entries import Submitted
from trunkline.simulator.exchange import BEHAVIOURS_MAX, Exchange
from trunkline.simulator.media import media_routes, media_url
from trunkline.simulator.page import PAGE

BODY_BYTES_MAX: Final = 64 * 1024
PAGE_MAX: Final = 1_000
"""Entries in one answer."""
TEXT_CHARS_MAX: Final = 1_600
MEDIA_URLS_MAX: Final = 10
ADDRESS_CHARS_MAX: Final = 32
_N_MAX: Final = 2**53


class Sending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a handset is asked to send."""

    to: str
    body: str = ""
    media_urls: tuple[str, ...] = ()


def inspection_routes(exchange: Exchange, media: BlobStore) -> list[Route]:
    async def handsets(request: Request) -> Response:
        limit = whole_number(request.query_params, "limit", PAGE_MAX, PAGE_MAX)
        numbers = exchange.network.handsets.numbers(limit)
        return json_response([{"number": number, "messages": kept} for number, kept in numbers])

    async def messages(request: Request) -> Response:
        found = await exchange.messages(
            _number(request),
            after=whole_number(request.query_params, "after", 0, _N_MAX),
            limit=whole_number(request.query_params, "limit", PAGE_MAX, PAGE_MAX),
            wait_s=wait_s(request.query_params),
        )
        return json_response([_message(message) for message in found])

    async def send(request: Request) -> Response:
        sender = _number(request)
        sending = _sending(await read_body(request, BODY_BYTES_MAX))
        sent = await exchange.send(sender, sending.to, sending.body, sending.media_urls)
        return json_response({"n": sent.n, "at": sent.at, "message_id": sent.message_id}, 201)

    async def submissions(request: Request) -> Response:
        found: Sequence[Submitted] = exchange.network.submissions.after(
            whole_number(request.query_params, "after", 0, _N_MAX),
            whole_number(request.query_params, "limit", PAGE_MAX, PAGE_MAX),
        )
        return json_response([_submission(submission) for submission in found])

    async def counts(_: Request) -> Response:
        return json_response(_counts(exchange))

    async def health(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    return [
        Route("/", page),
        Route("/healthz", health),
        Route("/v1/handsets", handsets),
        Route("/v1/handsets/{number}/messages", messages, methods=["GET"]),
        Route("/v1/handsets/{number}/messages", send, methods=["POST"]),
        Route("/v1/submissions", submissions),
        Route("/v1/counts", counts),
        *media_routes(media),
        *_behaviour_routes(exchange),
    ]


def _behaviour_routes(exchange: Exchange) -> list[Route]:
    async def get_default(_: Request) -> Response:
        return json_response(exchange.network.behaviour)

    async def put_default(request: Request) -> Response:
        behaviour = await _behaviour(request)
        await exchange.behave("", behaviour)
        return json_response(behaviour)

    async def get_one(request: Request) -> Response:
        own = exchange.network.behaviours.get(_number(request))
        return json_response(own if own is not None else exchange.network.behaviour)

    async def put_one(request: Request) -> Response:
        number = _number(request)
        behaviour = await _behaviour(request)
        if not exchange.has_room_for_behaviour(number):
            raise BadRequest(f"{BEHAVIOURS_MAX} numbers have a behaviour: delete some", status=409)
        await exchange.behave(number, behaviour)
        return json_response(behaviour)

    async def delete_one(request: Request) -> Response:
        await exchange.behave(_number(request), None)
        return Response(status_code=204)

    return [
        Route("/v1/behaviour", get_default, methods=["GET"]),
        Route("/v1/behaviour", put_default, methods=["PUT"]),
        Route("/v1/behaviour/{number}", get_one, methods=["GET"]),
        Route("/v1/behaviour/{number}", put_one, methods=["PUT"]),
        Route("/v1/behaviour/{number}", delete_one, methods=["DELETE"]),
    ]


def _number(request: Request) -> str:
    """The handset in the path; `+` may stand as itself or as %2B."""
    number: str = request.path_params["number"]
    if not is_e164(number):
        raise BadRequest(
            "a handset's number is + and 7 to 15 digits, such as +15551234567", field="number"
        )
    return number


def _sending(body: bytes) -> Sending:
    try:
        sending = msgspec.json.decode(body, type=Sending)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(str(error), field="body") from error
    if not 1 <= len(sending.to) <= ADDRESS_CHARS_MAX:
        raise BadRequest(f"to must have 1 to {ADDRESS_CHARS_MAX} characters", field="to")
    if len(sending.body) > TEXT_CHARS_MAX:
        raise BadRequest(f"body must have at most {TEXT_CHARS_MAX} characters", field="body")
    if len(sending.media_urls) > MEDIA_URLS_MAX:
        raise BadRequest(f"at most {MEDIA_URLS_MAX} media_urls", field="media_urls")
    return sending


async def _behaviour(request: Request) -> Behaviour:
    body = await read_body(request, BODY_BYTES_MAX)
    try:
        return parse_behaviour(body)
    except BadBehaviour as error:
        known = ", ".join(PERFECT.__struct_fields__)
        raise BadRequest(f"{error.reason}; the fields are {known}", field=error.field) from error


def _message(message: Submitted) -> dict[str, object]:
    return {
        "n": message.n,
        "at": message.at,
        "message_id": message.message_id,
        "reference": message.reference,
        "from": message.sender,
        "to": message.recipient,
        "body": message.body,
        "media_urls": message.media_urls,
        "media": [
            {"url": media_url(each), "content_type": each.content_type, "sha256": each.sha256}
            for each in message.media
        ],
        "possible_duplicate": message.possible_duplicate,
    }


def _submission(submission: Submitted) -> dict[str, object]:
    return _message(submission) | {"bind": submission.bind, "outcome": submission.outcome}


def _counts(exchange: Exchange) -> dict[str, int]:
    network = exchange.network
    counts = network.counts
    return {
        "submitted": counts.submitted,
        "accepted": counts.accept,
        "refused": counts.refuse,
        "throttled": counts.throttle,
        "silent": counts.silent,
        "lost": counts.lose,
        "delivered": network.handsets.delivered,
        "duplicates_by_body": network.handsets.duplicates_by_body,
        "unflagged_duplicates_by_body": network.handsets.unflagged_duplicates_by_body,
        "items_pending": len(network.offers),
        "items_dropped": network.offers.dropped,
    }
