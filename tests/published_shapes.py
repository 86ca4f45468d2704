"""Holds a value against a schema of our own OpenAPI document.

Only the words that `trunkline.api.openapi` writes are known here; any other fails, so that a schema
which says more than is checked is found.
"""

import re
from typing import Any

Json = dict[str, Any]

KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
KNOWN = {
    *("type", "format", "pattern", "enum", "minimum", "maximum", "items", "anyOf", "$ref"),
    *("properties", "required", "additionalProperties"),
}


def resolved(schema: Json, document: Json) -> Json:
    """What a reference stands for, or the schema itself."""
    if "$ref" not in schema:
        return schema
    found: Json = document
    for word in schema["$ref"].removeprefix("#/").split("/"):
        found = found[word]
    return found


def faults(value: object, schema: Json, document: Json, where: str = "answer") -> list[str]:
    """Everything that is wrong with the value; nothing if it is what the schema says."""
    schema = resolved(schema, document)
    assert schema.keys() <= KNOWN, f"{where}: unknown words {schema.keys() - KNOWN}"
    if "anyOf" in schema:
        tried = [faults(value, each, document, where) for each in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if not schema:
        return []
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is_of(value, kind) for kind in kinds):
        return [f"{where} is {value!r:.80}, not {' or '.join(kinds)}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} is {value!r}, not one of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where} is {value!r}, not like {schema['pattern']}")
    if isinstance(value, list):
        for number, each in enumerate(value):
            found += faults(each, schema.get("items", {}), document, f"{where}[{number}]")
    if isinstance(value, dict) and "properties" in schema:
        found += _faults_of_object(value, schema, document, where)
    return found


def _is_of(value: object, kind: str) -> bool:
    is_flag = isinstance(value, bool)
    return isinstance(value, KINDS[kind]) and (not is_flag or kind == "boolean")


def _faults_of_object(value: Json, schema: Json, document: Json, where: str) -> list[str]:
    properties: Json = schema["properties"]
    found = [f"{where} lacks {name}" for name in schema.get("required", ()) if name not in value]
    if schema.get("additionalProperties") is False:
        found += [f"{where} has {name} besides" for name in value if name not in properties]
    for name in value.keys() & properties.keys():
        found += faults(value[name], properties[name], document, f"{where}.{name}")
    return found


def answer_faults(answered: object, status: int, operation: Json, document: Json) -> list[str]:
    """What is wrong with an answer: its status, or its body against the schema of that status."""
    described = operation["responses"].get(str(status))
    if described is None:
        return [f"{operation['operationId']} does not say that it answers {status}"]
    content = resolved(described, document).get("content")
    if content is None:
        return [] if answered is None else [f"{status} has a body: {answered!r:.80}"]
    found = faults(answered, content["application/json"]["schema"], document)
    if status >= 400 and isinstance(answered, dict) and answered.get("status") != status:
        found.append(f"the answer says {answered.get('status')} and is {status}")
    return found


def implemented(document: Json) -> list[tuple[str, str, Json]]:
    """Method, path and description of every operation that is implemented."""
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["x-trunkline-state"] == "implemented"
    ]
