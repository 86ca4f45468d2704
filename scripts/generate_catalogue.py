"""Generate `api/catalogue.json` from the published OpenAPI document of the API.

Takes names, types, formats, enumerations, SID patterns and paging; never a description. The output
is sorted and has one line for each operation and type, so that a change of the document reads as a
change of lines. With `--check` nothing is written: exit 1 if the file is not what would be written.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from trunkline.api.catalogue import (
    CATALOGUE_PATH,
    Operation,
    Parameter,
    Place,
    Property,
    Shape,
    Type,
)

SOURCE_DEFAULT: Final = (
    Path(__file__).resolve().parents[2] / "shared" / "twilio-oai" / "twilio_api_v2010.json"
)
SID_PATTERN: Final = re.compile(r"\^\(?([A-Z]{2}(?:\|[A-Z]{2})*)\)?\[0-9a-fA-F\]\{32\}\$")
METHODS: Final = ("get", "post", "delete", "put", "patch")
FORM: Final = "application/x-www-form-urlencoded"
PAGE_PROPERTIES: Final = frozenset(
    {
        "end",
        "first_page_uri",
        "next_page_uri",
        "page",
        "page_size",
        "previous_page_uri",
        "start",
        "uri",
    }
)

Json = dict[str, Any]


class Types:
    """Gives each distinct schema of the document a name, and remembers its type."""

    def __init__(self, document: Json) -> None:
        self._schemas: Json = document["components"]["schemas"]
        self.by_name: dict[str, Type] = {}

    def name(self, schema: Json) -> str:
        """The name of `schema`, which is in `by_name` afterwards."""
        if "$ref" in schema:
            name: str = schema["$ref"].rpartition("/")[2]
            if name not in self.by_name:
                self._add(name, self._type(self._schemas[name]))
            return name
        type_ = self._type(schema)
        invented = _invented_name(schema, type_)
        self._add(invented, type_)
        return invented

    def _add(self, name: str, type_: Type) -> None:
        known = self.by_name.setdefault(name, type_)
        if known != type_:
            raise SystemExit(f"two types of the document would both be called {name!r}")

    def _type(self, schema: Json) -> Type:
        shape: Shape = schema.get("type", "any")
        return Type(
            shape=shape,
            format=schema.get("format", ""),
            prefixes=_sid_prefixes(schema),
            words=tuple(schema.get("enum", ())),
            minimum=schema.get("minimum"),
            maximum=schema.get("maximum"),
            items=self.name(schema["items"]) if "items" in schema else "",
            properties={
                name: Property(self.name(inner), _is_nullable(inner))
                for name, inner in sorted(schema.get("properties", {}).items())
            },
        )


def _invented_name(schema: Json, type_: Type) -> str:
    if type_.items:
        return f"[{type_.items}]"
    if type_.prefixes:
        return "sid:" + "|".join(type_.prefixes)
    words: list[str] = [type_.shape]
    if type_.format:
        words.append(type_.format)
    if type_.minimum is not None or type_.maximum is not None:
        edges = (type_.minimum, type_.maximum)
        words.append("..".join("" if edge is None else str(edge) for edge in edges))
    if type_.words and schema.get("format") != "http-method":
        words.append("|".join(type_.words))
    return ":".join(words)


def _sid_prefixes(schema: Json) -> tuple[str, ...]:
    if "pattern" not in schema:
        return ()
    match = SID_PATTERN.fullmatch(schema["pattern"])
    if match is None:
        raise SystemExit(f"a pattern that is not a SID's: {schema['pattern']!r}")
    return tuple(match.group(1).split("|"))


def _is_nullable(schema: Json) -> bool:
    # The documents cannot say "nullable" beside a reference, and every enumeration is one.
    return bool(schema.get("nullable", "$ref" in schema))


def _operations(document: Json, types: Types) -> list[Operation]:
    return sorted(
        (
            _operation(path, method, described[method], types)
            for path, described in document["paths"].items()
            for method in METHODS
            if method in described
        ),
        key=lambda operation: (operation.path, operation.method),
    )


def _operation(path: str, method: str, described: Json, types: Types) -> Operation:
    http_status, answer = _success(described["responses"])
    response, list_key = _response(answer, types)
    parameters = [*_url_parameters(described, types), *_form_parameters(described, types)]
    return Operation(
        name=described["operationId"],
        method=method.upper(),
        path=path,
        http_status=http_status,
        response=response,
        list_key=list_key,
        is_paged=any(parameter.name == "PageSize" for parameter in parameters),
        parameters=tuple(parameters),
    )


def _success(responses: Json) -> tuple[int, Json]:
    # Creates are documented with 201 and, here and there, 200 as well: the narrower one is meant.
    good = [status for status in responses if int(status) < 400]
    status = "201" if "201" in good else min(good)
    content: Json = responses[status].get("content", {})
    schema: Json = content.get("application/json", {}).get("schema", {})
    return int(status), schema


def _response(schema: Json, types: Types) -> tuple[str, str]:
    if not schema:
        return "", ""
    properties: Json = schema.get("properties", {})
    if properties.keys() >= PAGE_PROPERTIES:
        (list_key,) = properties.keys() - PAGE_PROPERTIES
        return types.name(properties[list_key]["items"]), list_key
    return types.name(schema), ""


def _url_parameters(described: Json, types: Types) -> list[Parameter]:
    found = []
    for parameter in described.get("parameters", ()):
        place: Place = parameter["in"]
        found.append(
            Parameter(
                parameter["name"],
                place,
                types.name(parameter["schema"]),
                parameter.get("required", False),
            )
        )
    return found


def _form_parameters(described: Json, types: Types) -> list[Parameter]:
    schema: Json = (
        described.get("requestBody", {}).get("content", {}).get(FORM, {}).get("schema", {})
    )
    required = frozenset(schema.get("required", ()))
    return [
        Parameter(name, "form", types.name(inner), name in required)
        for name, inner in sorted(schema.get("properties", {}).items())
    ]


def generate(source: Path) -> bytes:
    """The content of the catalogue file."""
    document: Json = json.loads(source.read_bytes())
    types = Types(document)
    operations = [msgspec.json.encode(each).decode() for each in _operations(document, types)]
    named = [
        f"{json.dumps(name)}:{msgspec.json.encode(type_).decode()}"
        for name, type_ in sorted(types.by_name.items())
    ]
    lines = ['{"operations":[', ",\n".join(operations), '],"types":{', ",\n".join(named), "}}", ""]
    return "\n".join(lines).encode()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generate the catalogue of the API's operations.")
    parser.add_argument("--source", type=Path, default=SOURCE_DEFAULT)
    parser.add_argument("--output", type=Path, default=CATALOGUE_PATH)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args(arguments)
    content = generate(options.source)
    if not options.check:
        options.output.write_bytes(content)
        print(f"wrote {options.output}: {len(content)} bytes")
        return 0
    if options.output.read_bytes() == content:
        print(f"{options.output} is up to date")
        return 0
    print(f"{options.output} is out of date: run scripts/generate_catalogue.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
