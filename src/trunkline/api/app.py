"""The API as an ASGI application: finds the operation, checks who asks, answers, and counts.

Every refusal and every failure leaves through `_http`, which is why each answer has the same
headers and each error the same shape. No log entry is made from a body or from credentials.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.api import catalogue, openapi
from trunkline.api.access import Access, refuse_inactive
from trunkline.api.admission import API_LIMITS, Admission
from trunkline.api.answer import Answer
from trunkline.api.arguments import PAGE_SIZE, ArgumentReader
from trunkline.api.auth import Authenticator
from trunkline.api.errors import ApiError, not_found, not_implemented
from trunkline.api.form import ClientGone, Fields, fields_of_body, fields_of_query, read_body
from trunkline.api.media_bytes import MediaBytes, Words, words_of
from trunkline.api.metrics import AdmissionMetrics, ApiMetrics
from trunkline.api.paging import PAGE_SIZE_DEFAULT
from trunkline.api.probes import PROBES, Probe
from trunkline.api.remembered import RememberingReplica
from trunkline.api.request import Handler, Request
from trunkline.api.resources import RESOURCES
from trunkline.api.routes import Match, Routes
from trunkline.api.services import ApiServices
from trunkline.domain import sid
from trunkline.domain.errors import Code
from trunkline.kernel import (
    CALLER_STATE,
    DEADLINE_HEADER,
    RETRIED_HEADER,
    WAITING,
    Alarms,
    Deadline,
    Priority,
    Seen,
    ServerLimits,
    deadline_scope,
    retried_above,
)
from trunkline.kernel import Caller as Client

API_DEADLINE_S: Final = 10.0
"""Clients wait 30 s (Node) or for ever (Python); what takes longer than this should be repeated."""

UNKNOWN_OPERATION: Final = "unknown"

_READS: Final[Mapping[str, str]] = {"HEAD": "GET"}
"""HEAD is a GET whose body is not sent (RFC 9110 section 9.3.2)."""


_DEADLINE: Final = DEADLINE_HEADER.lower().encode()
_RETRIED: Final = RETRIED_HEADER.lower().encode()


def create_app(
    services: ApiServices,
    limits: ServerLimits = API_LIMITS,
    *,
    known: catalogue.Catalogue | None = None,
) -> ASGIApp:
    """The API over `services`. Reads the catalogue, which takes a few milliseconds, unless it is
    `known`."""
    return _Api(services, known or catalogue.load(), RESOURCES, limits)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """An operation and, where it is implemented, how it is done."""

    operation: catalogue.Operation
    reader: ArgumentReader
    handler: Handler | None
    priority: Priority


class _Api:
    def __init__(
        self,
        services: ApiServices,
        known: catalogue.Catalogue,
        handlers: Mapping[str, Handler],
        limits: ServerLimits,
    ) -> None:
        replica = RememberingReplica(services.replica, services.clock)
        self._services: Final = replace(services, replica=replica)
        self._media: Final = MediaBytes(self._services)
        self._authenticator: Final = Authenticator(services.known, services.clock)
        self._access: Final = Access(services.known, services.accounts, services.clock)
        self._alarms: Final = Alarms()
        self._open: Final[Mapping[str, Probe]] = {
            **PROBES,
            openapi.DOCUMENT_PATH: openapi.probe(known, handlers.keys()),
        }
        self._metrics = ApiMetrics(services.registry)
        self._admission: Final = Admission(
            limits, clock=services.clock, metrics=AdmissionMetrics(services.registry)
        )
        # Bound once: the lazy proxy that `get_logger` returns assembles a logger on every call.
        self._log = structlog.get_logger("trunkline.api").bind()
        self._routes: Final[Routes[_Endpoint]] = Routes(
            (operation, _endpoint(known, operation, handlers.get(operation.name)))
            for operation in known.operations
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise RuntimeError(f"the server speaks of a {other!r} connection, unknown to us")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = self._services.clock
        started = clock.monotonic()
        request_id = sid.sid_from_entropy(sid.REQUEST, self._services.entropy(16))
        match = self._routes.match(scope["path"])
        name = self._name_at(match, scope)
        try:
            answer = await self._answer(match, scope, receive)
        except ApiError as refusal:
            answer = refusal.answer()
        except ClientGone:
            return
        except Exception as failure:  # noqa: BLE001 - the edge: whatever it was, the client is told
            answer = self._failure(failure, name, request_id)
        duration_s = clock.monotonic() - started
        self._metrics.answered(name, answer.http_status, duration_s)
        self._note(name, answer.http_status, request_id, duration_s)
        await _send(send, scope["method"], answer, request_id, duration_s)

    def _name_at(self, match: Match[_Endpoint] | None, scope: Scope) -> str:
        """What the request counts as: an operation, a probe, or neither."""
        if scope["path"] in self._open:
            return str(scope["path"])
        method: str = scope["method"]
        endpoint = None if match is None else match.by_method.get(_READS.get(method, method))
        return UNKNOWN_OPERATION if endpoint is None else endpoint.operation.name

    async def _answer(
        self, match: Match[_Endpoint] | None, scope: Scope, receive: Receive
    ) -> Answer:
        method: str = scope["method"]
        probe = self._open.get(scope["path"])
        if probe is not None:
            if method in ("GET", "HEAD"):
                return await probe(self._services)
            return _other_method(method, ("GET",))
        if match is None:
            raise not_found(scope["path"])
        wanted = _READS.get(method, method)
        words = words_of(scope["path"]) if wanted == "GET" else None
        if words is not None:
            return await self._media_bytes(words, scope)
        endpoint = match.by_method.get(wanted)
        if endpoint is None:
            return _other_method(method, match.by_method)
        return await self._handle(endpoint, match.words, scope, receive)

    async def _media_bytes(self, words: Words, scope: Scope) -> Answer:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        client = _client_of(scope)
        self._admission.refuse_gone(client, Priority.READ)
        deadline = self._deadline(headers.get(_DEADLINE), client.waited_s)
        payer = None  # and not the account in the path: strangers would use up its share
        if self._services.media_needs_credentials:
            caller = self._authenticator.caller(headers.get(b"authorization"))
            await self._access.account(caller, words, is_own_only=False, deadline=deadline)
            payer = words[0]
        with deadline_scope(deadline):
            return await self._admission.run(
                lambda: self._media.answer(words, scope["path"], deadline=deadline),
                account=payer,
                priority=Priority.READ,
                deadline=deadline,
            )

    async def _handle(
        self, endpoint: _Endpoint, words: tuple[str, ...], scope: Scope, receive: Receive
    ) -> Answer:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        client = _client_of(scope)
        self._admission.refuse_gone(client, endpoint.priority)
        deadline = self._deadline(headers.get(_DEADLINE), client.waited_s)
        caller = self._authenticator.caller(headers.get(b"authorization"))
        handler = endpoint.handler
        account = await self._access.account(
            caller,
            words,
            is_own_only=handler is not None and handler.is_own_only,
            deadline=deadline,
        )
        if handler is None:
            raise not_implemented(f"The operation {endpoint.operation.name}")
        if endpoint.operation.method == "POST" and not handler.is_for_inactive:
            refuse_inactive(account)
        self._admission.refuse_expired(deadline, endpoint.priority)
        fields = await self._fields(endpoint.operation, scope, receive, headers)
        request = Request(
            operation=endpoint.operation,
            account=account,
            caller=caller.account,
            path=scope["path"],
            words=words,
            headers=headers,
            fields=fields,
            arguments=endpoint.reader.read(fields),
            deadline=deadline,
            is_by_key=caller.key is not None,
        )
        with deadline_scope(deadline):
            if _RETRIED in headers:
                with retried_above():
                    return await self._admitted(request, handler, endpoint.priority)
            return await self._admitted(request, handler, endpoint.priority)

    async def _admitted(self, request: Request, handler: Handler, priority: Priority) -> Answer:
        # Whoever asks for a longer page than anybody reads is exporting.
        if request.operation.is_paged and (
            (request.arguments.integer(PAGE_SIZE) or 0) > PAGE_SIZE_DEFAULT
        ):
            priority = Priority.BULK
        return await self._admission.run(
            lambda: handler.run(request, self._services),
            account=request.account.sid,
            priority=priority,
            deadline=request.deadline,
        )

    def _deadline(self, told: bytes | None, waited_s: float) -> Deadline:
        """When the caller stops waiting, by its own word, and at the latest by ours; the request came
        `waited_s` ago."""
        text = None if told is None else told.decode("latin-1")
        clock = self._services.clock
        return Deadline.from_header(text, clock, cap_s=API_DEADLINE_S, waited_s=waited_s)

    async def _fields(
        self,
        operation: catalogue.Operation,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, bytes],
    ) -> Fields:
        if operation.method == "POST":
            body = await read_body(receive, headers, self._alarms)
            return fields_of_body(body, headers, operation.parameters)
        return fields_of_query(scope["query_string"], operation.parameters)

    def _failure(self, failure: Exception, name: str, request_id: str) -> Answer:
        # As text: a logger that renders exceptions itself may print local variables, tokens included.
        stack = "".join(traceback.format_exception(failure))
        self._log.error("api.failed", operation=name, request_id=request_id, stack=stack)
        return ApiError(Code.INTERNAL, request_id=request_id).answer()

    def _note(self, name: str, http_status: int, request_id: str, duration_s: float) -> None:
        # 501 is news to the client and not to us: a program that polls such an operation must not
        # fill the log.
        is_ours = http_status >= 500 and http_status != 501 and name not in PROBES
        (self._log.warning if is_ours else self._log.debug)(
            "api.answered",
            operation=name,
            http_status=http_status,
            request_id=request_id,
            duration_ms=round(duration_s * 1000.0, 3),
        )


def _endpoint(
    known: catalogue.Catalogue, operation: catalogue.Operation, handler: Handler | None
) -> _Endpoint:
    codes = {} if handler is None else handler.codes
    priority = Priority.READ if operation.method == "GET" else Priority.CREATE
    return _Endpoint(operation, ArgumentReader(known, operation, codes), handler, priority)


def _client_of(scope: Scope) -> Seen:
    """What the server knows of who asks; without a word of it, that it has just come and waits."""
    client: Client | None = scope.get("state", {}).get(CALLER_STATE)
    return WAITING if client is None else client.look()


def _other_method(method: str, methods: Iterable[str]) -> Answer:
    """The answer to OPTIONS, and the refusal of any method that is not in `methods`."""
    also = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    names = ", ".join(sorted({*methods, *also}))
    allow = ((b"allow", names.encode()),)
    if method == "OPTIONS":
        return Answer(200, b"", allow)
    raise ApiError(Code.METHOD_NOT_ALLOWED, headers=allow, method=method, allowed=names)


async def _send(
    send: Send, method: str, answer: Answer, request_id: str, duration_s: float
) -> None:
    # RFC 9110 section 8.6: an answer of 204 has no length, and nothing that could have a type.
    content = (
        ()
        if answer.http_status == 204
        else (
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
        )
    )
    headers = [
        *content,
        (b"twilio-request-id", request_id.encode()),
        (b"twilio-request-duration", f"{duration_s:.3f}".encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.http_status, "headers": headers})
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing starts or ends with the application: what it needs lives longer than it does."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
