"""The wire's three addresses. Submissions are the hot path: one write and few objects a post."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trunkline.protocols.simulated import (
    ACKNOWLEDGEMENTS_PATH,
    DELIVERIES_PATH,
    ITEMS_MAX,
    SUBMISSIONS_PATH,
    WIRE_BODY_BYTES_MAX,
    WireError,
    decode_item_ids,
    decode_submissions,
    encode_items,
)
from trunkline.simulator.bodies import (
    BadRequest,
    bind_name,
    json_response,
    read_body,
    wait_s,
    whole_number,
)
from trunkline.simulator.exchange import Exchange

_LINES = [(b"content-type", b"application/x-ndjson")]


def wire_routes(exchange: Exchange) -> list[Route]:
    async def deliveries(request: Request) -> Response:
        items_max = whole_number(request, "max", ITEMS_MAX, ITEMS_MAX)
        bind, wait = bind_name(request), wait_s(request)
        await read_body(request, WIRE_BODY_BYTES_MAX)  # so that what comes next is a hang-up
        items = await exchange.items(bind, items_max, wait, request.is_disconnected)
        return Response(encode_items(items), media_type="application/json")

    async def acknowledgements(request: Request) -> Response:
        body = await read_body(request, WIRE_BODY_BYTES_MAX)
        try:
            item_ids = decode_item_ids(body)
        except WireError as error:
            raise BadRequest(str(error)) from error
        await exchange.acknowledge(item_ids)
        return json_response({})

    return [
        Route(SUBMISSIONS_PATH, Submissions(exchange), methods=["POST"]),
        Route(DELIVERIES_PATH, deliveries, methods=["POST"]),
        Route(ACKNOWLEDGEMENTS_PATH, acknowledgements, methods=["POST"]),
    ]


class Submissions:
    """Takes a post of submissions and streams a line for each as it is decided."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await read_body(request, WIRE_BODY_BYTES_MAX)
        bind = bind_name(request)
        try:
            submissions = decode_submissions(body)
        except WireError as error:
            raise BadRequest(str(error)) from error
        if self._exchange.is_full:
            raise BadRequest("the simulator's disk is behind: nothing was taken", status=503)
        stream = self._exchange.submit(bind, submissions)
        lines, is_more = await stream.read()
        await send({"type": "http.response.start", "status": 200, "headers": _LINES})
        while is_more:
            await send({"type": "http.response.body", "body": lines, "more_body": True})
            lines, is_more = await stream.read()
        await send({"type": "http.response.body", "body": lines, "more_body": False})
