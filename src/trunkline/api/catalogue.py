"""The catalogue: every operation of the API, as data that a script takes from the published documents.

It holds names, types and shapes only; behaviour is written by hand in `resources`. The file
`catalogue.json` beside this module is generated (`scripts/generate_catalogue.py`): do not edit it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

CATALOGUE_PATH: Final = Path(__file__).with_name("catalogue.json")

Shape = Literal["string", "integer", "number", "boolean", "array", "object", "any"]
Place = Literal["path", "query", "form"]


class Property(msgspec.Struct, frozen=True, array_like=True):
    """One property of an object: the name of its type, and whether it may be null."""

    type: str
    is_nullable: bool = False


class Type(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type, under the name the catalogue gives it. `prefixes` are those of a SID, `words` those of
    an enumeration, `items` names the type of an array's items."""

    shape: Shape
    format: str = ""
    prefixes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    items: str = ""
    properties: dict[str, Property] = {}


class Parameter(msgspec.Struct, frozen=True, array_like=True):
    """One parameter of an operation, and the name of its type."""

    name: str
    place: Place
    type: str
    is_required: bool = False


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One operation. `response` names the type it answers, or that of a list's items, which then
    stand under `list_key`; `http_status` is that of success."""

    name: str
    method: str
    path: str
    http_status: int
    response: str = ""
    list_key: str = ""
    is_paged: bool = False
    parameters: tuple[Parameter, ...] = ()


class Catalogue(msgspec.Struct, frozen=True):
    """All operations, in the order of their paths, and the types they speak of."""

    operations: tuple[Operation, ...]
    types: dict[str, Type]

    def types_of(self, operation: Operation, place: Place) -> Mapping[str, Type]:
        """The operation's parameters in one place, by name."""
        return {
            parameter.name: self.types[parameter.type]
            for parameter in operation.parameters
            if parameter.place == place
        }


def load() -> Catalogue:
    """Read the catalogue that is shipped with the program; a few milliseconds."""
    return msgspec.json.decode(CATALOGUE_PATH.read_bytes(), type=Catalogue)
