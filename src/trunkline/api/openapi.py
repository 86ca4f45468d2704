"""What this host answers, as an OpenAPI 3.1 document, made from the catalogue and the table of resources.

It holds names, types, formats and enumerations, and no description. An operation that is implemented
has its parameters, its answer and every status it may have; any other has its path and its 501.
"""

import asyncio
import functools
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from trunkline.api.answer import JSON_TYPE, Answer
from trunkline.api.arguments import as_taken
from trunkline.api.catalogue import Catalogue, Operation, Parameter, Property, Type
from trunkline.api.form import FORM_TYPE
from trunkline.api.idempotency import KEY_CHARS_MAX
from trunkline.api.probes import Probe
from trunkline.api.services import ApiServices
from trunkline.domain.errors import FAULTS
from trunkline.version import __version__

DOCUMENT_PATH: Final = "/openapi.json"
STATE: Final = "x-trunkline-state"
IMPLEMENTED: Final = "implemented"
NOT_IMPLEMENTED: Final = "not implemented"

_JSON: Final = JSON_TYPE.decode()
_FORM: Final = FORM_TYPE.decode()
_OF_A_PATH: Final = frozenset({405})
"""A method that no operation has belongs to no operation."""
_OF_A_BODY: Final = frozenset({408, 413, 415, 422})
"""Only a request whose body is read can be refused for it, or for its key."""
_WITHOUT_HANDLER: Final = (401, 404, 501, 503)
"""What an operation answers that nothing is done for: credentials and the path come first."""
_STATUSES: Final = tuple(sorted({fault.http_status for fault in FAULTS.values()} - _OF_A_PATH))
_HEADERS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_PAGING: Final[dict[str, Property]] = {
    "end": Property("integer"),
    "first_page_uri": Property("string"),
    "next_page_uri": Property("string", is_nullable=True),
    "page": Property("integer"),
    "page_size": Property("integer"),
    "previous_page_uri": Property("string", is_nullable=True),
    "start": Property("integer"),
    "uri": Property("string"),
}
_PLAIN: Final = {name: Type(shape=name) for name in ("integer", "string")}

Json = dict[str, Any]


def probe(known: Catalogue, implemented: Collection[str]) -> Probe:
    """Answers the document to anybody. It is made when it is first asked for, and kept."""

    @functools.cache
    def rendered() -> bytes:
        return msgspec.json.encode(document(known, implemented))

    async def answer(services: ApiServices) -> Answer:
        del services
        # Tens of milliseconds the first time: in a thread, so that no create waits behind it.
        return Answer(200, await asyncio.to_thread(rendered))

    return answer


def document(known: Catalogue, implemented: Collection[str]) -> Json:
    """The whole document; `implemented` names operations."""
    paths: dict[str, Json] = {}
    for operation in known.operations:
        described = (
            _implemented(operation, known)
            if operation.name in implemented
            else _not_implemented(operation, known)
        )
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    answered = [
        each.response for each in known.operations if each.name in implemented and each.response
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trunkline", "version": __version__},
        "security": [{"account": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"account": {"type": "http", "scheme": "basic"}},
            "responses": {str(status): _refusal(status) for status in _STATUSES},
            "schemas": {
                "error": _error(),
                **{
                    _component(name): _object(known.types[name].properties, known)
                    for name in _reached(answered, known)
                },
            },
        },
    }


def _implemented(operation: Operation, known: Catalogue) -> Json:
    has_body = operation.method == "POST"
    statuses = [each for each in _STATUSES if has_body or each not in _OF_A_BODY]
    described: Json = {
        "operationId": operation.name,
        STATE: IMPLEMENTED,
        "parameters": [*_parameters(operation, known, ("path", "query"))],
        "responses": {
            str(operation.http_status): _success(operation, known),
            **{str(status): _reference("responses", str(status)) for status in statuses},
        },
    }
    if operation.name.startswith("Create"):
        described["parameters"].append(_key())
    if has_body:
        described["requestBody"] = _form(operation, known)
    return described


def _not_implemented(operation: Operation, known: Catalogue) -> Json:
    return {
        "operationId": operation.name,
        STATE: NOT_IMPLEMENTED,
        "parameters": [*_parameters(operation, known, ("path",))],
        "responses": {
            str(status): _reference("responses", str(status)) for status in _WITHOUT_HANDLER
        },
    }


def _parameters(operation: Operation, known: Catalogue, places: Collection[str]) -> Iterator[Json]:
    for parameter in operation.parameters:
        if parameter.place in places:
            yield {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.is_required,
                "schema": _parameter(parameter, known),
            }


def _key() -> Json:
    schema = {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX}
    return {"name": "Idempotency-Key", "in": "header", "required": False, "schema": schema}


def _form(operation: Operation, known: Catalogue) -> Json:
    fields = [each for each in operation.parameters if each.place == "form"]
    required = [each.name for each in fields if each.is_required]
    schema: Json = {
        "type": "object",
        "properties": {each.name: _parameter(each, known) for each in fields},
    }
    if required:
        schema["required"] = required
    return {"required": bool(required), "content": {_FORM: {"schema": schema}}}


def _parameter(parameter: Parameter, known: Catalogue) -> Json:
    type_ = as_taken(parameter.name, known.types[parameter.type])
    return _plain(type_, known, is_answer=False)


def _success(operation: Operation, known: Catalogue) -> Json:
    described: Json = {"description": "success"}
    if operation.list_key:
        items = {"type": "array", "items": _reference("schemas", _component(operation.response))}
        page = _object(_PAGING, known)
        page["properties"][operation.list_key] = items
        page["required"].append(operation.list_key)
        described["content"] = {_JSON: {"schema": page}}
    elif operation.response:
        schema = _property(Property(operation.response), known)
        described["content"] = {_JSON: {"schema": schema}}
    return described


def _refusal(status: int) -> Json:
    described: Json = {
        "description": "refused",
        "content": {_JSON: {"schema": _reference("schemas", "error")}},
    }
    if status in _HEADERS:
        described["headers"] = {
            name: {"required": True, "schema": {"type": "string"}} for name in _HEADERS[status]
        }
    return described


def _error() -> Json:
    codes = sorted({int(code) for code in FAULTS})
    return {
        "type": "object",
        "required": ["code", "message", "more_info", "status"],
        "additionalProperties": False,
        "properties": {
            "code": {"type": "integer", "enum": codes},
            "message": {"type": "string"},
            "more_info": {"type": "string", "format": "uri"},
            "status": {"type": "integer"},
        },
    }


def _object(properties: dict[str, Property], known: Catalogue) -> Json:
    """An object that has all of `properties` and nothing else."""
    return {
        "type": "object",
        "required": sorted(properties),
        "additionalProperties": False,
        "properties": {name: _property(each, known) for name, each in properties.items()},
    }


def _property(each: Property, known: Catalogue) -> Json:
    type_ = known.types.get(each.type) or _PLAIN[each.type]
    if type_.properties:
        schema = _reference("schemas", _component(each.type))
        return {"anyOf": [schema, {"type": "null"}]} if each.is_nullable else schema
    schema = _plain(type_, known, is_answer=True)
    if each.is_nullable and "type" in schema:
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema:
            schema["enum"].append(None)
    return schema


def _plain(type_: Type, known: Catalogue, *, is_answer: bool) -> Json:
    """A type that is no object of the catalogue."""
    if type_.properties or type_.shape == "any":
        return {}
    schema: Json = {"type": type_.shape}
    if type_.format:
        # An address that nobody has given is an empty text in answers, which is no URI.
        is_empty_allowed = is_answer and type_.format == "uri"
        schema["format"] = "uri-reference" if is_empty_allowed else type_.format
    if type_.prefixes:
        digits = f"(?:{'|'.join(type_.prefixes)})[0-9a-fA-F]{{32}}"
        # Of some resources, one that is not there is answered as an empty text, as Twilio does.
        schema["pattern"] = f"^(?:{digits})?$" if is_answer else f"^{digits}$"
    if type_.words:
        schema["enum"] = list(type_.words)
    if type_.minimum is not None:
        schema["minimum"] = type_.minimum
    if type_.maximum is not None:
        schema["maximum"] = type_.maximum
    if type_.items:
        items = known.types[type_.items]
        is_object = bool(items.properties)
        schema["items"] = (
            _reference("schemas", _component(type_.items))
            if is_object
            else _plain(items, known, is_answer=is_answer)
        )
    return schema


def _reached(names: Collection[str], known: Catalogue) -> list[str]:
    """The objects that answers of these types are made of."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        type_ = known.types.get(name)
        if type_ is None or name in found:
            continue
        if type_.properties:
            found.add(name)
        waiting += [each.type for each in type_.properties.values()]
        waiting += [type_.items] if type_.items else []
    return sorted(found)


def _component(name: str) -> str:
    """The name of a type as a component may be called: the catalogue's `object:...` may not."""
    return name.replace(":", ".")


def _reference(section: str, name: str) -> Json:
    return {"$ref": f"#/components/{section}/{name}"}
